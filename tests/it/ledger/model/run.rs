//! Runs calls on a store and on the oracle, and compares every answer and every record.

#[path = "joined.rs"]
mod joined;

use super::calls::{Call, Given, Key, LEDGERS, Order, Policies, Setup, Word, id_bytes, keys, ttl};
use super::oracle::{Effects, Heard, How, Is, Known, Oracle, Reached, Saved, Told, Tried};
use firstseen::disk::sim::SimDisk;
use firstseen::ledger::{
    Attempt, AttemptError, Begin, BeginOptions, DeadFilter, Failure, Fingerprint, Ledger,
    PastAttempt, Record, State,
};
use firstseen::outbox::Outbox;
use firstseen::table::RawTable;
use firstseen::testing::{Table, validate};
use firstseen::{Durability, ManualClock, MemoryBlocks, Store, Timestamp};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

/// The error describes what is wrong.
pub(crate) type Verdict<T = ()> = Result<T, String>;

const START_MS: u64 = 1_700_000_000_000;

/// So many attempts are kept to speak again; the oldest is dropped first.
const ATTEMPTS_MAX: usize = 12;

/// Families of rows.
const STAGES: u8 = 2;
const PAYLOADS: u8 = 3;

const BACKGROUND_EVERY: usize = 4;

fn same<T: PartialEq + Debug>(what: impl Debug, told: &T, wanted: &T) -> Verdict {
    if told == wanted {
        return Ok(());
    }
    Err(format!("{what:?}:\n  is     {told:?}\n  wanted {wanted:?}"))
}

fn fine<T>(what: impl Debug, answer: firstseen::Result<T>) -> Verdict<T> {
    answer.map_err(|error| format!("{what:?}: an error that nothing calls for: {error}"))
}

/// All records, and what stands beside them.
type Past = (BTreeMap<Key, Known>, Effects);

/// A store with two ledgers, and its oracle.
#[derive(Debug)]
pub(crate) struct World {
    setup: Setup,
    disk: SimDisk,
    blocks: MemoryBlocks,
    clock: ManualClock,
    open: Open,
    policies: [Policies; 2],
    oracle: Oracle,
    /// What there was after each call, from the last time on at which all of it was on disk.
    past: Vec<Past>,
    /// Numbers results and stages, so that none is like another.
    next_value: u32,
}

/// What ends with the process.
#[derive(Debug)]
struct Open {
    /// First, so that they are dropped while the store is open.
    attempts: Vec<(Tried, Attempt)>,
    ledgers: Vec<Ledger>,
    table: RawTable,
    topic: Outbox,
    store: Store,
}

impl World {
    pub(crate) fn new(setup: Setup, policies: [Policies; 2]) -> Verdict<Self> {
        let (disk, blocks) = (SimDisk::new(), MemoryBlocks::default());
        let clock = ManualClock::at_millis(START_MS);
        let open = open(setup, &policies, &disk, &blocks, &clock)?;
        let (oracle, past) = (Oracle::new(START_MS), vec![Past::default()]);
        Ok(Self { setup, disk, blocks, clock, open, policies, oracle, past, next_value: 0 })
    }

    pub(crate) fn run(mut self, calls: &[Call]) -> Verdict {
        for (number, call) in calls.iter().enumerate() {
            if number.is_multiple_of(BACKGROUND_EVERY) {
                // Or a frozen memtable would be in the way once the next one is full.
                fine("background", self.open.store.run_background())?;
            }
            let step = self.step(call).and_then(|()| self.check());
            step.map_err(|what| format!("call {number} {call:?}: {what}"))?;
        }
        Ok(())
    }

    fn step(&mut self, call: &Call) -> Verdict {
        if self.open.attempts.len() > ATTEMPTS_MAX {
            self.speak(0, Word::Drop)?;
            self.note();
        }
        match *call {
            Call::Commit(ref joined) => self.commit(joined)?,
            Call::Begin { key, given } => self.begin(key, &given)?,
            Call::Speak { attempt, word } => self.speak(attempt, word)?,
            Call::Operate { key, order } => self.operate(key, order)?,
            Call::RedriveAll { ledger, older_than } => self.sweep(ledger, older_than, true)?,
            Call::PurgeAll { ledger, older_than } => self.sweep(ledger, older_than, false)?,
            Call::Policies { ledger, policies } => {
                self.policies[usize::from(ledger)] = policies;
                let opened = open_ledger(&self.open.store, ledger, &policies)?;
                self.open.ledgers[usize::from(ledger)] = opened;
            }
            Call::Pass { ms } => {
                self.clock.advance(Duration::from_millis(ms));
                self.oracle.pass(ms);
            }
            Call::Background => fine("background", self.open.store.run_background())?,
            Call::Freeze => self.open.store.freeze(),
            Call::Sync => {
                fine("sync", self.open.store.sync())?;
                self.is_on_disk();
            }
            Call::Reopen => {
                fine("close", self.open.store.clone().close())?;
                self.is_on_disk();
                self.reopen(self.disk.kill())?;
            }
            Call::Kill => self.reopen(self.disk.kill())?,
            Call::PowerCut { seed } => {
                self.reopen(self.disk.crash(seed))?;
                self.find_past()?;
            }
        }
        self.note();
        Ok(())
    }

    fn ledger(&self, key: Key) -> &Ledger {
        &self.open.ledgers[usize::from(key.0)]
    }

    fn policies(&self, key: Key) -> Policies {
        self.policies[usize::from(key.0)]
    }

    fn value(&mut self) -> u32 {
        self.next_value += 1;
        self.next_value
    }

    /// A result that is no other's, of about this length.
    fn result(&mut self, bytes: u16) -> Vec<u8> {
        let mut result = self.value().to_le_bytes().repeat(usize::from(bytes) / 4);
        result.truncate(usize::from(bytes));
        result
    }

    fn note(&mut self) {
        let Oracle { records, effects, .. } = &self.oracle;
        let is_same = |(last, beside): &Past| last == records && beside == effects;
        if !self.past.last().is_some_and(is_same) {
            self.past.push((records.clone(), effects.clone()));
        }
        if self.setup.durability == Durability::Disk {
            self.is_on_disk();
        }
    }

    fn is_on_disk(&mut self) {
        self.past = vec![(self.oracle.records.clone(), self.oracle.effects.clone())];
    }

    fn begin(&mut self, key: Key, given: &Given) -> Verdict {
        let policies = self.policies(key);
        let wanted = self.oracle.begin(key, given, &policies);
        let begun = self.ledger(key).begin_with(id_bytes(key), begin_options(given));
        let begun = fine("begin", begun)?;
        let (told, record) = match begun {
            Begin::Started(attempt) => {
                same("begin", &Told::Started, &wanted)?;
                let tried = self.oracle.started(key, attempt.token(), &policies)?;
                let record = attempt.record();
                self.open.attempts.push((tried, attempt));
                return self.compare(key, Some(&record));
            }
            other => told(other)?,
        };
        same("begin", &told, &wanted)?;
        if told != Told::Mismatch {
            return self.compare(key, Some(&record));
        }
        same("a mismatch shows no result", &record.result(), &None)
    }

    fn speak(&mut self, number: u8, word: Word) -> Verdict {
        let count = self.open.attempts.len();
        if count == 0 {
            return Ok(());
        }
        let (mut tried, attempt) = self.open.attempts.remove(usize::from(number) % count);
        let spoken = match word {
            Word::Drop => {
                self.oracle.end(&mut tried, How::Dropped);
                drop(attempt);
                return Ok(());
            }
            Word::Stage { renamed, fails } => self.stage(&mut tried, &attempt, renamed, fails),
            Word::Cursor { steps, fails } => self.cursor(&mut tried, &attempt, steps, fails),
            word => self.say(&mut tried, &attempt, word),
        };
        self.open.attempts.push((tried, attempt));
        spoken
    }

    fn say(&mut self, tried: &mut Tried, attempt: &Attempt, word: Word) -> Verdict {
        let result_ttl = tried.policies.result_ttl;
        let mut end = |how| self.oracle.end(tried, how);
        let (wanted, told) = match word {
            Word::Complete { bytes } => {
                let result = self.result(bytes);
                let how = How::Completed(result.clone(), result_ttl);
                (self.oracle.end(tried, how), attempt.complete(result))
            }
            Word::CompleteFor { ttl: ms } => {
                let result = self.result(8);
                let how = How::Completed(result.clone(), ms);
                (self.oracle.end(tried, how), attempt.complete_for(result, ttl(ms)))
            }
            Word::Fail => (end(How::Failed(None)), attempt.fail(Failure::retry("no"))),
            Word::FailAfter { ms } => {
                let failure = Failure::retry_after("later", Duration::from_millis(ms));
                (end(How::Failed(Some(ms))), attempt.fail(failure))
            }
            Word::FailForGood => (end(How::ForGood), attempt.fail(Failure::last("never"))),
            Word::FailWithResult => {
                let result = self.result(8);
                let failure = Failure::replayed("refused", result.clone());
                (self.oracle.end(tried, How::WithResult(result)), attempt.fail(failure))
            }
            Word::Release => (end(How::Released), attempt.release()),
            Word::Renew => (self.oracle.renew(tried, None), attempt.renew()),
            Word::RenewFor { ms } => {
                let told = attempt.renew_for(Duration::from_millis(ms));
                (self.oracle.renew(tried, Some(ms)), told)
            }
            _ => (self.oracle.check(tried), attempt.check()),
        };
        let (heard, record) = heard(told)?;
        same("the attempt hears", &heard, &wanted)?;
        let is_there = self.oracle.records.contains_key(&tried.key);
        match record {
            // The attempt keeps the last record that it saw.
            Some(record) if heard == Heard::Fenced || is_there => {
                self.compare(tried.key, record.as_ref())
            }
            _ => Ok(()),
        }
    }

    fn stage(
        &mut self,
        tried: &mut Tried,
        attempt: &Attempt,
        renamed: bool,
        fails: bool,
    ) -> Verdict {
        let name = stage_name(tried, renamed);
        let value = self.value();
        let wanted = match self.oracle.reach(tried, &name) {
            Reached::Refused(heard) => Err(heard),
            Reached::Done(saved) => Ok(Some(saved)),
            Reached::Open(_) if fails => Ok(None),
            Reached::Open(_) => {
                let saved = Saved { name: name.clone(), is_done: true, value };
                heard_as(self.oracle.save(tried, saved), Some(value))
            }
        };
        let mut has_run = false;
        let told = attempt.stage(&name, || {
            has_run = true;
            if fails { Err(Failure::retry("it fails")) } else { Ok(value.to_le_bytes()) }
        });
        tried.reached += usize::from(matches!(wanted, Ok(Some(_))));
        if matches!(wanted, Ok(Some(saved)) if saved != value) {
            same("a saved stage is done again", &has_run, &false)?;
        }
        compare_stage(told, wanted)
    }

    fn cursor(&mut self, tried: &mut Tried, attempt: &Attempt, steps: u8, fails: bool) -> Verdict {
        let name = stage_name(tried, false);
        let positions: Vec<u32> = (0..steps).map(|_| self.value()).collect();
        let value = self.value();
        let reached = self.oracle.reach(tried, &name);
        let (mut advanced, mut wanted_advanced) = (Vec::new(), Vec::new());
        let mut found = None;
        let told = attempt.stage_with_cursor(&name, |cursor| {
            found = cursor.position().copied().map(u32::from_le_bytes);
            for position in &positions {
                advanced.push(cursor.advance(position.to_le_bytes()));
            }
            if fails { Err(Failure::retry("it fails")) } else { Ok(value.to_le_bytes()) }
        });
        let wanted = match reached {
            Reached::Refused(heard) => Err(heard),
            Reached::Done(saved) => Ok(Some(saved)),
            Reached::Open(position) => {
                same("the position of a cursor", &found, &position)?;
                let saved = |is_done, value| Saved { name: name.clone(), is_done, value };
                for position in positions {
                    wanted_advanced.push(self.oracle.save(tried, saved(false, position)));
                    self.note();
                }
                if fails {
                    Ok(None)
                } else {
                    heard_as(self.oracle.save(tried, saved(true, value)), Some(value))
                }
            }
        };
        tried.reached += usize::from(matches!(wanted, Ok(Some(_))));
        let advanced: Vec<Heard> = advanced
            .into_iter()
            .map(|told| heard(told).map(|(heard, _)| heard))
            .collect::<Verdict<_>>()?;
        same("the steps of a cursor", &advanced, &wanted_advanced)?;
        compare_stage(told, wanted)
    }

    fn operate(&mut self, key: Key, order: Order) -> Verdict {
        let result = self.result(8);
        let policies = self.policies(key);
        let was_there = self.oracle.records.contains_key(&key);
        let wanted = self.oracle.operate(key, order, &result, &policies);
        let (ledger, id) = (self.ledger(key), id_bytes(key));
        let letters = ledger.dead_letters();
        let record = match order {
            Order::Cancel => fine("cancel", ledger.cancel(id, "by hand"))?,
            Order::Settle => fine("settle", ledger.settle(id, result, "by hand"))?,
            Order::Redrive => fine("redrive", ledger.redrive(id))?,
            Order::Purge => return same("purged", &fine("purge", ledger.purge(id))?, &wanted),
            Order::Forget => {
                return same("forgotten", &fine("forget", ledger.forget(id))?, &wanted);
            }
            Order::PurgeLetter => {
                return same("purged", &fine("purge", letters.purge(id))?, &wanted);
            }
            Order::RedriveFresh => return Err("is a move of transactions".to_owned()),
            Order::RedriveLetter { fresh } => {
                let told = if fresh { letters.redrive_fresh(id) } else { letters.redrive(id) };
                return same("redriven", &fine("redrive", told)?, &wanted);
            }
        };
        same("there is a record", &record.is_some(), &was_there)?;
        record.map_or(Ok(()), |record| self.compare(key, Some(&record)))
    }

    /// Redrives or purges all dead letters of this age.
    fn sweep(&mut self, ledger: u8, older_than: u64, redrives: bool) -> Verdict {
        let order =
            if redrives { Order::RedriveLetter { fresh: false } } else { Order::PurgeLetter };
        let mut wanted = 0;
        for (since, key) in self.oracle.letters(ledger, false) {
            if self.oracle.now - since >= older_than {
                let policies = self.policies(key);
                wanted += u64::from(self.oracle.operate(key, order, &[], &policies));
                // Each is a commit of its own.
                self.note();
            }
        }
        let filter = DeadFilter::new().older_than(Duration::from_millis(older_than));
        let letters = self.open.ledgers[usize::from(ledger)].dead_letters();
        let swept =
            if redrives { letters.redrive_all(&filter) } else { letters.purge_all(&filter) };
        let swept = fine("sweep", swept)?;
        same("swept", &(swept.changed, swept.failed.len()), &(wanted, 0))
    }

    /// Ends the process, and opens the store on this disk.
    fn reopen(&mut self, disk: SimDisk) -> Verdict {
        let blocks = self.blocks.copy();
        let next = open(self.setup, &self.policies, &disk, &blocks, &self.clock)?;
        // What the old process still says reaches nobody.
        drop(std::mem::replace(&mut self.open, next));
        (self.disk, self.blocks) = (disk, blocks);
        self.oracle.life += 1;
        Ok(())
    }

    /// After a power cut: the records are as they were at some point since all of it was on disk.
    fn find_past(&mut self) -> Verdict {
        let mut last = Err("there is no past".to_owned());
        while let Some(past) = self.past.pop() {
            (self.oracle.records, self.oracle.effects) = past;
            self.oracle.expire();
            last = self.check();
            if last.is_ok() {
                // A later power cut cannot take what has been read: the store has opened on it.
                self.is_on_disk();
                return Ok(());
            }
        }
        last.map_err(|what| {
            format!("no moment before the power cut explains it; the first: {what}")
        })
    }

    fn compare(&self, key: Key, record: Option<&Record>) -> Verdict {
        compare(&self.oracle, key, record)
    }

    /// Every record is what the oracle says, and so is what stands beside it.
    fn check(&self) -> Verdict {
        for key in keys() {
            let (ledger, id) = (self.ledger(key), id_bytes(key));
            let record = fine("get", ledger.get(&id))?;
            self.compare(key, record.as_ref())?;
            let known = self.oracle.records.get(&key);
            let payload = fine("payload", ledger.payload(&id))?;
            let wanted = known.and_then(|known| known.payload).map(payload_bytes);
            same((key, "payload"), &payload, &wanted)?;
            let is_running = record.is_some_and(|record| ledger.is_in_progress(&record));
            let wanted = known.is_some_and(|known| self.oracle.is_running(known));
            same((key, "is in progress"), &is_running, &wanted)?;
        }
        for ledger in 0..LEDGERS {
            self.check_letters(ledger)?;
        }
        self.check_effects()?;
        same("stages", &rows(&self.open.store, STAGES)?, &self.oracle_rows(stage_rows))?;
        same("payloads", &rows(&self.open.store, PAYLOADS)?, &self.oracle_rows(payload_rows))?;
        same("the store is sound", &validate(&self.open.store), &Vec::new())
    }

    /// The rows that stand beside the records of both ledgers.
    fn oracle_rows(&self, beside: Beside) -> Vec<Row> {
        let all = self.oracle.records.iter();
        let mut rows: Vec<Row> = all
            .flat_map(|(key, known)| {
                let rows = beside(&id_bytes(*key), known).into_iter();
                rows.map(|(id, value)| (id, value, known.ends))
            })
            .collect();
        rows.sort();
        rows
    }

    fn check_letters(&self, ledger: u8) -> Verdict {
        let letters = self.open.ledgers[usize::from(ledger)].dead_letters();
        for (filter, held) in [(DeadFilter::new(), false), (DeadFilter::new().held(), true)] {
            let page = fine("letters", letters.list(&filter))?;
            let listed: Vec<_> = page
                .letters
                .into_iter()
                .map(|letter| (letter.since.as_millis(), letter.record.id))
                .collect();
            let wanted = self.oracle.letters(ledger, held);
            let wanted = wanted.into_iter().map(|(since, key)| (since, id_bytes(key))).collect();
            same((ledger, "letters", held), &listed, &wanted)?;
        }
        Ok(())
    }
}

fn compare(oracle: &Oracle, key: Key, record: Option<&Record>) -> Verdict {
    let wanted = oracle.records.get(&key).map(wanted_view);
    same(key, &record.map(told_view), &wanted)
}

fn begin_options(given: &Given) -> BeginOptions {
    let mut options =
        BeginOptions::new().worker(format!("w{}", given.worker)).version(given.version);
    if let Some(input) = given.fingerprint {
        options = options.fingerprint(fingerprint(input));
    }
    if let Some(payload) = given.payload {
        options = options.payload(payload_bytes(payload));
    }
    if let Some(lease) = given.lease {
        options = options.lease(Duration::from_millis(lease));
    }
    options
}

/// Returns the answer of `begin` if no attempt has started.
fn told(begin: Begin) -> Verdict<(Told, Box<Record>)> {
    Ok(match begin {
        Begin::InProgress(record) => (Told::InProgress, record),
        Begin::Completed(record) => (Told::Completed, record),
        Begin::RetryAt(record) => (Told::RetryAt, record),
        Begin::Held(record) => (Told::Held, record),
        Begin::Dead(record) => (Told::Dead, record),
        Begin::Mismatch(record) => (Told::Mismatch, record),
        Begin::Outdated(record) => (Told::Outdated, record),
        other => return Err(format!("{other:?}")),
    })
}

fn open(
    setup: Setup,
    policies: &[Policies; 2],
    disk: &SimDisk,
    blocks: &MemoryBlocks,
    clock: &ManualClock,
) -> Verdict<Open> {
    let opened = Store::builder("/s")
        .disk(disk.clone())
        .block_memory(blocks)
        .clock(clock.clone())
        .background(false)
        .seed([7; 16])
        .shards(setup.shards)
        .segment_bytes(setup.segment_bytes)
        .memtable_bytes(setup.memtable_bytes)
        .memory_budget(4 << 20)
        .durability(setup.durability)
        // Nobody else is there to make room.
        .wait_max(Duration::from_millis(1))
        .open();
    let store = fine("open", opened)?;
    let ledgers =
        (0..).zip(policies).map(|(ledger, policies)| open_ledger(&store, ledger, policies));
    let ledgers = ledgers.collect::<Verdict<_>>()?;
    let table = fine("table", store.raw_table("state"))?;
    let topic = fine("topic", store.outbox("sent"))?;
    Ok(Open { attempts: Vec::new(), ledgers, table, topic, store })
}

fn open_ledger(store: &Store, ledger: u8, policies: &Policies) -> Verdict<Ledger> {
    fine("ledger", store.ledger_with(&format!("l{ledger}"), policies.options()))
}

/// The key, the value and the end of a row.
type Row = (Vec<u8>, Vec<u8>, u64);

fn rows(store: &Store, family: u8) -> Verdict<Vec<Row>> {
    let listed = fine("list", Table::of(store, family).list())?;
    let mut rows: Vec<Row> =
        listed.into_iter().map(|(id, row)| (id, row.value, row.deadline.as_millis())).collect();
    rows.sort();
    Ok(rows)
}

/// The stages of a record, as docs/FORMATS.md, section 11, describes their rows.
fn stage_rows(id: &[u8], known: &Known) -> Vec<(Vec<u8>, Vec<u8>)> {
    let rows = (0_u32..).zip(&known.stages).map(|(number, saved)| {
        let head = [1, u8::from(saved.is_done), saved.name.len() as u8];
        let value = [&head, saved.name.as_bytes(), &saved.value.to_le_bytes()].concat();
        ([id, &number.to_be_bytes()].concat(), value)
    });
    rows.collect()
}

fn payload_rows(id: &[u8], known: &Known) -> Vec<(Vec<u8>, Vec<u8>)> {
    known.payload.map(|payload| (id.to_vec(), payload_bytes(payload))).into_iter().collect()
}

fn fingerprint(input: u8) -> Fingerprint {
    Fingerprint::of_bytes([input])
}

fn payload_bytes(payload: u8) -> Vec<u8> {
    vec![payload; usize::from(payload) * 8]
}

fn stage_name(tried: &Tried, renamed: bool) -> String {
    format!("{}{}", if renamed { "renamed-" } else { "stage-" }, tried.reached)
}

fn heard_as<T>(heard: Heard, value: T) -> Result<T, Heard> {
    if heard == Heard::Yes { Ok(value) } else { Err(heard) }
}

/// Returns the rows beside a record, as key and value.
type Beside = fn(&[u8], &Known) -> Vec<(Vec<u8>, Vec<u8>)>;

/// What an attempt was told, with the record that came along: `Some(None)` if that is gone.
#[allow(clippy::option_option, reason = "a record that was told, and that there is none")]
fn heard(told: Result<(), AttemptError>) -> Verdict<(Heard, Option<Option<Record>>)> {
    Ok(match told {
        Ok(()) => (Heard::Yes, None),
        Err(AttemptError::Fenced { record }) => (Heard::Fenced, Some(record.map(|record| *record))),
        Err(AttemptError::Over { record }) => (Heard::Over, Some(Some(*record))),
        Err(AttemptError::LeaseEnded) => (Heard::LeaseEnded, None),
        Err(AttemptError::StageOrder { .. }) => (Heard::StageOrder, None),
        Err(AttemptError::StageSaved { .. }) => (Heard::StageSaved, None),
        Err(other) => return Err(format!("an error that nothing calls for: {other}")),
    })
}

/// Compares the result of a stage: its value, `None` if its work failed, or what the attempt hears.
fn compare_stage(told: Result<[u8; 4], Failure>, wanted: Result<Option<u32>, Heard>) -> Verdict {
    let told = match told {
        Ok(value) => Ok(Some(u32::from_le_bytes(value))),
        Err(failure) => match failure.reason() {
            "it fails" => Ok(None),
            other => Err(other.to_owned()),
        },
    };
    match (told, wanted) {
        (Ok(told), Ok(wanted)) => same("a stage", &told, &wanted),
        // A failure shows nothing of an error but its text.
        (Err(told), Err(wanted)) => {
            let text = match wanted {
                Heard::Fenced => "taken the record over",
                Heard::Over => "the attempt is over",
                Heard::LeaseEnded => "the lease has ended",
                Heard::StageOrder => "the list of stages has changed",
                Heard::Yes | Heard::StageSaved => "",
            };
            same(("a stage hears", &told), &told.contains(text), &true)
        }
        (told, wanted) => Err(format!("a stage:\n  is     {told:?}\n  wanted {wanted:?}")),
    }
}

/// What a record shows, but for the texts of failures.
#[derive(Debug, PartialEq, Eq)]
struct View {
    state: State,
    counts: [u64; 6],
    times: [u64; 3],
    outlives_process: bool,
    worker: String,
    fingerprint: Option<Fingerprint>,
    has_payload: bool,
    history: Vec<String>,
}

fn told_view(record: &Record) -> View {
    let past = |past: &PastAttempt| {
        let (started, ended) = (past.started.as_millis(), past.ended.as_millis());
        format!("{} {} {started} {ended} {:?}", past.token, past.worker, past.end)
    };
    View {
        state: record.state.clone(),
        counts: [
            record.token,
            record.attempts.into(),
            record.version.into(),
            record.stages.into(),
            record.redrives.into(),
            record.history_dropped.into(),
        ],
        times: [record.first_begun, record.started, record.ends].map(Timestamp::as_millis),
        outlives_process: record.outlives_process,
        worker: record.worker.clone(),
        fingerprint: record.fingerprint,
        has_payload: record.has_payload,
        history: record.history.iter().map(past).collect(),
    }
}

fn wanted_view(known: &Known) -> View {
    let at = Timestamp::from_millis;
    let state = match &known.is {
        Is::Running { until } => State::Running { until: at(*until) },
        Is::Waiting { until } => State::Waiting { until: at(*until) },
        Is::Held => State::Held,
        Is::Done { result, is_failure } => {
            State::Completed { result: Some(result.clone()), is_failure: *is_failure }
        }
        Is::Dead(cause) => State::Dead { cause: *cause },
    };
    let history = known.history.iter();
    View {
        state,
        counts: [
            known.token,
            known.attempts.into(),
            known.version.into(),
            known.stages.len() as u64,
            known.redrives.into(),
            known.history_dropped.into(),
        ],
        times: [known.first_begun, known.started, known.ends],
        outlives_process: known.outlives_process,
        worker: known.worker.clone(),
        fingerprint: known.fingerprint.map(fingerprint),
        has_payload: known.payload.is_some(),
        history: history
            .map(|p| format!("{} {} {} {} {:?}", p.token, p.worker, p.started, p.ended, p.end))
            .collect(),
    }
}
