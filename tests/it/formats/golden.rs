//! Golden folders: stores as a release wrote them, each beside a file with the answers that it must give.
//!
//! The answers come from what was written and when, and never from the store. Times are those of a clock moved by hand.

use crate::support::{NOW, assert_sound, copy_dir, settle, small};
use firstseen::ledger::{BeginOptions, Failure};
use firstseen::testing::{Expect, Table, TableWrite};
use firstseen::{
    Builder, ClaimOptions, Durability, ManualClock, NamespaceOptions, ReadOnly, Store, Timestamp,
    Ttl, seconds,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The states in which stores were kept.
pub(super) const STATES: [&str; 9] =
    ["open", "closed", "killed", "namespaces", "ttl", "compacted", "rows", "long-ids", "ledger"];

/// The folder of the newest format's golden folders.
pub(super) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format-2")
}

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

/// What a store must answer.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answers {
    /// What the clock shows from then on, in milliseconds.
    clock: u64,
    namespaces: Vec<Named>,
    claims: Vec<Claims>,
    absent: Vec<Ids>,
    rows: Vec<Rows>,
    absent_rows: Vec<Ids>,
    /// Records of the ledger "payments".
    #[serde(default)]
    records: Vec<Kept>,
}

/// What a ledger must know of an id.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    id: String,
    state: String,
    attempts: u32,
    stages: u32,
    result: Option<String>,
    payload: Option<String>,
    reasons: Vec<String>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Named {
    name: String,
    ttl_ms: Option<u64>,
    sliding: bool,
}

/// Ids that differ in a number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Ids {
    /// The namespace; of rows, the number of their family.
    of: String,
    prefix: String,
    from: u64,
    to: u64,
    /// Their length, if they are filled up.
    length: usize,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Claims {
    ids: Ids,
    first_seen: u64,
    deadline: Option<u64>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Rows {
    ids: Ids,
    /// The text with which each value begins; the key follows, and both again up to the length.
    value: String,
    length: usize,
    deadline: Option<u64>,
}

impl Ids {
    fn of(of: &str, prefix: &str, numbers: std::ops::Range<u64>) -> Self {
        let (from, to) = (numbers.start, numbers.end);
        Self { of: of.to_owned(), prefix: prefix.to_owned(), from, to, length: 0 }
    }

    fn all(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        (self.from..self.to).map(|n| {
            let mut id = format!("{}{n:05}", self.prefix).into_bytes();
            id.resize(id.len().max(self.length), b'.');
            id
        })
    }

    fn family(&self) -> u8 {
        self.of.parse().expect("the number of a family")
    }
}

fn value_of(start: &str, key: &[u8], length: usize) -> Vec<u8> {
    start.bytes().chain(key.iter().copied()).cycle().take(length).collect()
}

fn time(deadline: Option<u64>) -> Timestamp {
    deadline.map_or(Timestamp::NEVER, Timestamp::from_millis)
}

impl Answers {
    pub(super) fn read(state: &str) -> Self {
        let text = std::fs::read_to_string(Self::path(state)).expect("has a file with answers");
        serde_json::from_str(&text).expect("is JSON")
    }

    fn path(state: &str) -> PathBuf {
        fixtures().join(format!("{state}.json"))
    }

    /// The clock of a later start of the machine.
    pub(super) fn clock(&self) -> ManualClock {
        let clock = ManualClock::at_millis(self.clock);
        clock.reboot();
        clock
    }

    /// How many claims are alive.
    fn count(&self) -> u64 {
        self.claims.iter().map(|group| group.ids.to - group.ids.from).sum()
    }

    /// Checks every answer.
    pub(super) fn check(&self, store: &Store, at: &str) {
        for Named { name, ttl_ms, sliding } in &self.namespaces {
            let same = NamespaceOptions::new().sliding(*sliding);
            let same = ttl_ms.map_or(same, |ms| same.ttl(Duration::from_millis(ms)));
            let named = store.namespace_with(name, same);
            assert!(named.is_ok(), "{at}: namespace {name}: {named:?}");
        }
        let namespace = |name: &str| match name {
            "default" => store.default_namespace(),
            name => store.find_namespace(name).unwrap_or_else(|| panic!("{at}: no {name}")),
        };
        for Claims { ids, first_seen, deadline } in &self.claims {
            let namespace = namespace(&ids.of);
            for id in ids.all() {
                let found = namespace.get(&id).expect("reads");
                let found = found.map(|seen| (seen.first_seen.as_millis(), seen.deadline));
                let wanted = Some((*first_seen, time(*deadline)));
                assert_eq!(found, wanted, "{at}: {}", String::from_utf8_lossy(&id));
            }
        }
        for ids in &self.absent {
            let namespace = namespace(&ids.of);
            for id in ids.all() {
                let found = namespace.get(&id).expect("reads");
                assert_eq!(found, None, "{at}: {}", String::from_utf8_lossy(&id));
            }
        }
        self.check_rows(store, at);
        self.check_records(store, at);
    }

    fn check_records(&self, store: &Store, at: &str) {
        if self.records.is_empty() {
            return;
        }
        let ledger = store.ledger("payments").expect("is there");
        for wanted in &self.records {
            let record = ledger.get(&wanted.id).expect("reads").expect("is there");
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let found = Kept {
                id: text(&record.id),
                state: record.state.to_string(),
                attempts: record.attempts,
                stages: record.stages,
                result: record.result().map(text),
                payload: ledger.payload(&wanted.id).expect("reads").as_deref().map(text),
                reasons: record.history.iter().map(|past| past.reason.clone()).collect(),
            };
            assert_eq!(&found, wanted, "{at}");
        }
    }

    fn check_rows(&self, store: &Store, at: &str) {
        let mut wanted: BTreeMap<u8, usize> = BTreeMap::new();
        for Rows { ids, value, length, deadline } in &self.rows {
            let table = Table::of(store, ids.family());
            for key in ids.all() {
                let row = table.get(&key).expect("reads").expect("is there");
                assert!(row.value == value_of(value, &key, *length), "{at}: the value of {key:?}");
                assert_eq!(row.deadline, time(*deadline), "{at}: the end of {key:?}");
                *wanted.entry(ids.family()).or_default() += 1;
            }
        }
        for ids in &self.absent_rows {
            let table = Table::of(store, ids.family());
            for key in ids.all() {
                assert_eq!(table.get(&key).expect("reads"), None, "{at}: {key:?}");
            }
        }
        for (family, count) in wanted {
            let listed = Table::of(store, family).list().expect("lists");
            assert_eq!(listed.len(), count, "{at}: rows of family {family}");
        }
    }

    /// Checks that the store holds these claims and no others.
    pub(super) fn check_count(&self, store: &Store, at: &str) {
        assert_eq!(store.export(|_| Ok(())).expect("exports"), self.count(), "{at}: claims");
    }

    /// Checks every claim, without write access. Rows cannot be read that way yet.
    pub(super) fn check_read_only(&self, store: &ReadOnly, at: &str) {
        let mut found = BTreeMap::new();
        let count = store.export(|entry| {
            let key = (entry.namespace.to_owned(), entry.id.to_vec());
            found.insert(key, (entry.first_seen.as_millis(), entry.deadline));
            Ok(())
        });
        assert_eq!(count.expect("exports"), self.count(), "{at}: claims");
        for Claims { ids, first_seen, deadline } in &self.claims {
            for id in ids.all().filter(|id| id.len() <= firstseen::limits::ID_BYTES_MAX) {
                let answer = found.get(&(ids.of.clone(), id)).copied();
                assert_eq!(answer, Some((*first_seen, time(*deadline))), "{at}: {ids:?}");
            }
            // A single look-up reads the whole log, so one of each kind has to do.
            let id = ids.all().next().expect("some ids");
            let seen = store.get(&ids.of, id).expect("reads").expect("is there");
            assert_eq!(seen.first_seen.as_millis(), *first_seen, "{at}: {ids:?}");
        }
        for ids in self.absent.iter().filter(|ids| ids.from < ids.to) {
            let id = ids.all().next().expect("some ids");
            assert_eq!(store.get(&ids.of, id).expect("reads"), None, "{at}: {ids:?}");
        }
        let names: Vec<String> =
            store.summary().expect("reads").namespaces.into_iter().map(|ns| ns.name).collect();
        let missing = self.namespaces.iter().find(|named| !names.contains(&named.name));
        assert_eq!(missing, None, "{at}: {names:?}");
    }
}

/// How golden folders are written and opened: without threads, with small segments.
pub(super) fn builder(path: &Path, clock: &ManualClock) -> Builder {
    small(Store::builder(path))
        .segment_bytes(64 << 10)
        .memtable_bytes(32 << 10)
        .locator_ids_min(32)
        .hash_long_ids(true)
        .clock(clock.clone())
}

/// A store being written, and what it will have to answer.
struct Writer {
    path: PathBuf,
    clock: ManualClock,
    store: Store,
    answers: Answers,
}

impl Writer {
    fn new(path: &Path) -> Self {
        let clock = ManualClock::at_millis(NOW);
        let store = builder(path, &clock).open().expect("opens");
        let answers = Answers { clock: NOW, ..Answers::default() };
        Self { path: path.to_owned(), clock, store, answers }
    }

    fn flush(&self) {
        self.store.freeze();
        settle(&self.store);
    }

    fn pass(&mut self, ms: u64) {
        self.clock.advance(Duration::from_millis(ms));
        self.answers.clock += ms;
    }

    /// Claims ids that stay alive.
    fn claim(&mut self, ids: Ids, ttl_ms: Option<u64>) {
        let first_seen = self.answers.clock;
        self.claim_ended(&ids, ttl_ms);
        let deadline = ttl_ms.map(|ms| first_seen + ms);
        self.answers.claims.push(Claims { ids, first_seen, deadline });
    }

    /// Claims ids that will not be there at the end.
    fn claim_ended(&self, ids: &Ids, ttl_ms: Option<u64>) {
        let namespace = match ids.of.as_str() {
            "default" => self.store.default_namespace(),
            name => self.store.namespace(name).expect("is there"),
        };
        let ttl = ttl_ms.map_or(Ttl::FOREVER, |ms| Duration::from_millis(ms).into());
        for id in ids.all() {
            let claim = namespace.claim_with(id, ClaimOptions::new().ttl(ttl)).expect("claims");
            assert!(claim.is_first_seen());
        }
    }

    fn name(&mut self, name: &str, ttl_ms: Option<u64>, sliding: bool) {
        let options = NamespaceOptions::new().sliding(sliding);
        let options = ttl_ms.map_or(options, |ms| options.ttl(Duration::from_millis(ms)));
        let _ = self.store.namespace_with(name, options).expect("is new");
        self.answers.namespaces.push(Named { name: name.to_owned(), ttl_ms, sliding });
    }

    fn put(&self, ids: &Ids, value: &str, length: usize, ttl: Ttl) {
        let table = Table::of(&self.store, ids.family());
        for key in ids.all() {
            let value = value_of(value, &key, length);
            let (value, expect) = (Some(&value[..]), Expect::Anything);
            let write = TableWrite { id: &key, value, ttl, expect };
            table.commit(&[write], Durability::Process).expect("commits");
        }
    }

    /// Puts rows that stay.
    fn rows(&mut self, ids: Ids, value: &str, length: usize, ttl_ms: Option<u64>) {
        let ttl = ttl_ms.map_or(Ttl::FOREVER, |ms| Duration::from_millis(ms).into());
        self.put(&ids, value, length, ttl);
        let (value, deadline) = (value.to_owned(), ttl_ms.map(|ms| self.answers.clock + ms));
        self.answers.rows.push(Rows { ids, value, length, deadline });
    }

    fn close(self) -> Answers {
        self.store.close().expect("closes");
        self.answers
    }

    /// Leaves the folder as a kill at this moment does.
    fn kill(self) -> Answers {
        let Self { path, store, answers, .. } = self;
        let copy = path.with_extension("copy");
        copy_dir(&path, &copy);
        drop(store);
        std::fs::remove_dir_all(&path).expect("removes");
        std::fs::rename(&copy, &path).expect("renames");
        answers
    }
}

/// Writes a store in this state to a new folder. Returns what it has to answer.
pub(super) fn write(state: &str, path: &Path) -> Answers {
    let mut writer = Writer::new(path);
    match state {
        "open" | "closed" | "killed" => write_plain(&mut writer),
        "namespaces" => write_namespaces(&mut writer),
        "ttl" => write_ttls(&mut writer),
        "compacted" => write_compacted(&mut writer),
        "rows" => write_rows(&mut writer),
        "long-ids" => write_long_ids(&mut writer),
        "ledger" => write_ledger(&mut writer),
        other => panic!("no state {other}"),
    }
    match state {
        "open" => writer.kill(),
        "killed" => {
            let torn = Ids::of("default", "torn-", 0..1);
            writer.claim_ended(&torn, None);
            writer.answers.absent.push(torn);
            let answers = writer.kill();
            tear(path);
            answers
        }
        _ => writer.close(),
    }
}

/// Zeros over the end of the last record.
fn tear(path: &Path) {
    let torn = super::segments(path).into_iter().rev().find_map(|segment| {
        let mut bytes = std::fs::read(&segment).expect("reads");
        let end = bytes.iter().rposition(|b| *b != 0).filter(|end| *end > 4096)?;
        bytes[end - 4..=end].fill(0);
        std::fs::write(&segment, bytes).ok()
    });
    assert!(torn.is_some(), "there is a record");
}

fn write_plain(writer: &mut Writer) {
    writer.claim(Ids::of("default", "order-", 0..600), None);
    writer.flush();
    writer.pass(5_000);
    let batch = Ids::of("default", "batch-", 0..50);
    let claims = writer.store.claim_batch(&batch.all().collect::<Vec<_>>()).expect("claims");
    assert!(claims.iter().all(|claim| claim.is_first_seen()));
    let first_seen = writer.answers.clock;
    writer.answers.claims.push(Claims { ids: batch, first_seen, deadline: None });
    writer.claim(Ids::of("default", "late-", 0..40), None);
    writer.answers.absent.push(Ids::of("default", "order-", 600..620));
}

fn write_namespaces(writer: &mut Writer) {
    writer.name("webhooks", Some(HOUR), false);
    writer.name("sessions", Some(HOUR), true);
    writer.claim(Ids::of("default", "one-", 0..100), None);
    writer.claim(Ids::of("webhooks", "one-", 50..150), Some(HOUR));
    let moved = Ids::of("sessions", "one-", 0..60);
    writer.claim_ended(&moved, Some(HOUR));
    writer.flush();
    let first_seen = writer.answers.clock;
    writer.pass(HOUR / 2);
    writer.name("forever", None, false);
    writer.claim(Ids::of("forever", "one-", 0..20), None);
    let sessions = writer.store.namespace("sessions").expect("is there");
    for id in moved.all() {
        let claim = sessions.claim(id).expect("claims");
        assert!(!claim.is_first_seen(), "a duplicate moves the end");
    }
    let deadline = Some(writer.answers.clock + HOUR);
    writer.answers.claims.push(Claims { ids: moved, first_seen, deadline });
    let gone = Ids::of("forever", "gone-", 0..10);
    writer.claim_ended(&gone, None);
    let forever = writer.store.namespace("forever").expect("is there");
    gone.all().for_each(|id| assert!(forever.forget(id).expect("forgets")));
    for namespace in ["webhooks", "sessions", "forever"] {
        writer.answers.absent.push(Ids::of(namespace, "one-", 150..160));
    }
    writer.answers.absent.extend([gone, Ids::of("webhooks", "one-", 0..50)]);
}

fn write_ttls(writer: &mut Writer) {
    let (swept, renewed) = (Ids::of("default", "hour-", 0..200), Ids::of("default", "new-", 0..30));
    writer.claim_ended(&swept, Some(HOUR));
    writer.claim_ended(&renewed, Some(HOUR));
    writer.claim(Ids::of("default", "day-", 0..200), Some(DAY));
    writer.claim(Ids::of("default", "ever-", 0..50), None);
    writer.flush();
    writer.pass(HOUR / 2);
    writer.claim(Ids::of("default", "day-", 200..300), Some(DAY));
    writer.flush();
    // Ends the hour, and the generation with it.
    writer.pass(2 * HOUR);
    settle(&writer.store);
    writer.claim(renewed, Some(DAY));
    writer.claim(Ids::of("default", "hour-", 200..260), Some(HOUR));
    let short = Ids::of("default", "short-", 0..40);
    writer.claim_ended(&short, Some(10_000));
    writer.flush();
    writer.claim(Ids::of("default", "tail-", 0..10), Some(HOUR));
    // The claims have ended, and nothing has swept them.
    writer.pass(10_000);
    writer.answers.absent.extend([swept, short]);
}

fn write_compacted(writer: &mut Writer) {
    for round in 0..40 {
        writer.claim(Ids::of("default", "kept-", round * 3..round * 3 + 3), None);
        let gone = Ids::of("default", "gone-", round * 250..(round + 1) * 250);
        writer.claim_ended(&gone, Some(HOUR));
        settle(&writer.store);
    }
    writer.flush();
    writer.pass(4 * HOUR);
    for _ in 0..8 {
        settle(&writer.store);
    }
    assert!(writer.store.stats().segments_removed > 2, "{}", writer.store.stats());
    writer.claim(Ids::of("default", "late-", 0..10), None);
    writer.answers.absent.push(Ids::of("default", "gone-", 0..10_000));
}

fn write_rows(writer: &mut Writer) {
    let (gone, dead) = (Ids::of("1", "gone-", 0..20), Ids::of("2", "dead-", 0..20));
    writer.put(&Ids::of("1", "user-", 0..60), "old", 90, Ttl::FOREVER);
    writer.put(&gone, "gone", 50, Ttl::FOREVER);
    writer.put(&dead, "dead", 50, seconds(60));
    writer.claim(Ids::of("default", "user-", 0..20), None);
    writer.rows(Ids::of("1", "user-", 60..70), "first", 120, None);
    writer.flush();
    writer.rows(Ids::of("1", "user-", 0..30), "second", 100, None);
    writer.rows(Ids::of("2", "user-", 0..10), "other", 40, Some(DAY));
    writer.rows(Ids::of("31", "empty-", 0..3), "", 0, None);
    writer.rows(Ids::of("31", "large-", 0..1), "large", 150_000, None);
    let table = Table::of(&writer.store, 1);
    gone.all().for_each(|key| _ = table.delete(&key).expect("deletes"));
    writer.flush();
    writer.pass(60_000);
    // The tail, unflushed: one commit with rows and an overwritten row among it.
    writer.rows(Ids::of("1", "user-", 30..60), "third", 110, None);
    writer.rows(Ids::of("2", "late-", 0..5), "late", 30, Some(HOUR));
    writer.answers.absent.push(Ids::of("default", "user-", 20..60));
    writer.answers.absent_rows.extend([gone, dead, Ids::of("2", "user-", 10..60)]);
}

fn write_long_ids(writer: &mut Writer) {
    let long = |numbers| Ids { length: 1_500, ..Ids::of("default", "long-", numbers) };
    writer.claim(long(0..100), None);
    writer.claim(Ids::of("default", "long-", 0..50), None);
    writer.flush();
    writer.pass(1_000);
    writer.claim(long(100..120), Some(DAY));
    // Ids of the size of a hash are no hashes.
    writer.claim(Ids { length: 32, ..Ids::of("default", "hash-", 0..20) }, None);
    writer.answers.absent.extend([long(120..130), Ids::of("default", "long-", 50..60)]);
}

/// One record of each state; those of one half are flushed.
fn write_ledger(writer: &mut Writer) {
    let ledger = writer.store.ledger("payments").expect("opens");
    for half in ["old", "new"] {
        let begin = |what: &str| {
            let id = format!("{what}-{half}");
            let options = BeginOptions::new().payload(format!("pay {id}")).worker("w");
            let begun = ledger.begin_with(&id, options).expect("begins");
            (id, begun.started().expect("starts"))
        };
        let mut keep = |id: String, state: &str, stages, result: Option<&str>, reason: &str| {
            let payload = result.is_none().then(|| format!("pay {id}"));
            let reasons = if state == "in progress" { vec![] } else { vec![reason.to_owned()] };
            let (state, result) = (state.to_owned(), result.map(str::to_owned));
            let kept = Kept { id, state, attempts: 1, stages, result, payload, reasons };
            writer.answers.records.push(kept);
        };
        let (id, attempt) = begin("done");
        attempt.complete("receipt 4711").expect("completes");
        keep(id, "completed", 0, Some("receipt 4711"), "");
        let (id, attempt) = begin("waits");
        attempt.stage("fraud", || Ok::<_, Failure>(17_u32)).expect("saves");
        attempt.fail(Failure::retry("bank closed")).expect("fails");
        keep(id, "waiting for its next attempt", 1, None, "bank closed");
        let (id, attempt) = begin("held");
        attempt.fail(Failure::hold("timed out")).expect("fails");
        keep(id, "held for an operator", 0, None, "timed out");
        let (id, attempt) = begin("dead");
        attempt.fail(Failure::last("no such account")).expect("fails");
        keep(id, "dead: failed for good", 0, None, "no such account");
        if half == "old" {
            writer.store.freeze();
            settle(&writer.store);
        }
    }
}

/// Where the golden folder of a state is.
pub(super) fn folder(state: &str) -> PathBuf {
    fixtures().join(state)
}

/// A copy of a golden folder, its answers, and a clock.
pub(super) fn copy(state: &str) -> (tempfile::TempDir, PathBuf, Answers, ManualClock) {
    let (dir, path) = crate::support::place();
    copy_dir(&folder(state), &path);
    let answers = Answers::read(state);
    let clock = answers.clock();
    (dir, path, answers, clock)
}

/// `FIRSTSEEN_WRITE_FIXTURES=STATE` writes the golden folder of one state anew. Otherwise, what would be written is
/// checked against the answers that are kept.
#[test]
fn what_would_be_written_as_a_golden_folder_answers_like_it() {
    let kept = std::env::var_os("FIRSTSEEN_WRITE_FIXTURES");
    for state in STATES {
        let (_dir, path) = crate::support::place();
        let answers = write(state, &path);
        if kept.as_ref().is_some_and(|kept| kept == state) {
            let _ = std::fs::remove_dir_all(folder(state));
            copy_dir(&path, &folder(state));
            let text = serde_json::to_string_pretty(&answers).expect("is JSON");
            std::fs::write(Answers::path(state), text + "\n").expect("writes");
        }
        assert_eq!(answers, Answers::read(state), "{state}");
        let store = builder(&path, &answers.clock()).open().expect("opens");
        answers.check(&store, state);
        answers.check_count(&store, state);
        assert_sound(&store);
    }
}
