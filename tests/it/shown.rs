//! What `{:?}` shows of handles and answers: what they are, and nothing of what is stored.

use crate::support::{place, settle};
use firstseen::event_time::EventTimeOptions;
use firstseen::event_time::windows::WindowOptions;
use firstseen::ledger::{
    Backoff, Begin, BeginOptions, Cursor, DeadFilter, Failure, LedgerOptions, PurgeFilter,
};
use firstseen::outbox::RelayOptions;
use firstseen::snapshot::FolderTarget;
use firstseen::{Builder, Reserve, Store};
use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

/// More than any of them needs, and much less than one block of a store.
const BYTES_MAX: usize = 1_024;

/// What is stored, and must not be shown.
const SECRET: &str = "4111-1111";

#[derive(Default)]
struct Shown(Vec<(&'static str, String)>);

impl Shown {
    fn add(&mut self, what: &'static str, value: &impl Debug) {
        self.0.push((what, format!("{value:?}")));
        self.0.push((what, format!("{value:#?}")));
    }

    fn check(&self) {
        let as_bytes = format!("{:?}", SECRET.as_bytes());
        let as_bytes = as_bytes.trim_matches(['[', ']']);
        for (what, text) in &self.0 {
            let start: String = text.chars().take(200).collect();
            assert!(text.len() <= BYTES_MAX, "{what} has {} bytes: {start}", text.len());
            assert!(!text.contains(SECRET) && !text.contains(as_bytes), "{what} shows: {text}");
            let flat = text.replace(['\n', ' '], "");
            let as_bytes = as_bytes.replace(' ', "");
            assert!(!flat.contains(&as_bytes), "{what} shows: {text}");
        }
    }

    fn of(&self, what: &str) -> &str {
        let found = self.0.iter().find(|(name, _)| *name == what);
        found.map(|(_, text)| text.as_str()).expect("was added")
    }
}

fn builder(path: &Path) -> Builder {
    Store::builder(path).memory_budget(16 << 20)
}

/// A store of which much is in the block store, and much in memory.
fn filled(path: &Path) -> Store {
    let store = builder(path).open().expect("opens");
    for n in 0..6_000 {
        assert!(store.claim(format!("{SECRET}-{n}")).expect("claims").is_first_seen());
    }
    settle(&store);
    store
}

fn add_plain(shown: &mut Shown, store: &Store) {
    shown.add("Store", store);
    shown.add("Namespace", &store.namespace("orders").expect("opens"));
    let reserved = store.reserve("order-1").expect("reserves");
    shown.add("Reserve", &reserved);
    if let Reserve::FirstSeen(reservation) = reserved {
        shown.add("Reservation", &reservation);
    }
    let ids: Vec<String> = (0..2_000).map(|n| format!("order-{n}")).collect();
    shown.add("BatchReservation", &store.reserve_batch(&ids).expect("reserves"));
    let table = store.table::<String>("cards").expect("opens");
    table.put("anna", &SECRET.to_owned()).expect("puts");
    shown.add("Table", &table);
    shown.add("RawTable", &store.raw_table("cards").expect("opens"));
    let source = store.source("kafka").expect("opens");
    shown.add("Source", &source);
    shown.add("Owner", &source.own(0).expect("owns"));
    let topic = store.outbox("mails").expect("opens");
    let mut transaction = store.transaction();
    for n in 0..2_000 {
        transaction.claim(format!("mail-{n}")).emit(&topic, SECRET).expect("is short");
        transaction.put(&table, format!("card-{n}"), &SECRET.to_owned()).expect("is short");
    }
    shown.add("Transaction", &transaction);
    assert!(transaction.commit().expect("answers").is_committed());
    shown.add("Message", &topic.read(1).expect("reads").pop());
    shown.add("Outbox", &topic);
    shown.add("WaitForMessage", &topic.wait_async());
    shown.add("DeadMessages", &topic.dead_letters());
    shown.add("Relay", &topic.relay(RelayOptions::new()).expect("opens"));
    let events = EventTimeOptions::new(Duration::from_secs(60));
    let events = store.event_time("clicks", events).expect("opens");
    for n in 0..2_000 {
        let at = firstseen::Timestamp::from_millis(1_000 + n);
        let _ = events.claim_at(format!("{SECRET}-{n}"), &format!("s{}", n % 50), at);
    }
    shown.add("EventTime", &events);
    let windows = WindowOptions::tumbling(Duration::from_secs(1));
    shown.add("Windows", &events.windows::<u64>("sums", windows).expect("opens"));
    shown.add("ReplayScope", &store.replay("again").expect("opens"));
}

fn add_ledger(shown: &mut Shown, store: &Store) {
    let options = LedgerOptions::new().backoff(Backoff::constant(Duration::ZERO)).attempts_max(40);
    let ledger = store.ledger_with("payments", options).expect("opens");
    shown.add("Ledger", &ledger);
    shown.add("DeadLetters", &ledger.dead_letters());
    shown.add("DeadFilter", &DeadFilter::new());
    shown.add("PurgeFilter", &PurgeFilter::completed());
    let options = || BeginOptions::new().payload(SECRET.repeat(1_000)).worker("w");
    shown.add("BeginOptions", &options());
    let long = [b'z'; 1_020];
    for _ in 0..33 {
        let attempt = ledger.begin_with(long, options()).expect("begins").started();
        attempt.expect("waits").fail(Failure::retry("no".repeat(400))).expect("fails");
    }
    let begun = ledger.begin_with(long, options()).expect("begins");
    shown.add("Begin::Started", &begun);
    let attempt = begun.started().expect("waits");
    shown.add("Attempt", &attempt);
    shown.add("Begin::InProgress", &ledger.begin(long).expect("answers"));
    shown.add("Wait", &ledger.wait_async(long).expect("waits"));
    shown.add("Renewals", &attempt.keep_renewed().expect("has a thread"));
    let ran = attempt.stage_with_cursor("pages", |cursor: &mut Cursor<'_, String>| {
        cursor.advance(SECRET.to_owned())?;
        shown.add("Cursor", &*cursor);
        Ok::<_, Failure>(1)
    });
    assert_eq!(ran.expect("runs"), 1);
    attempt.complete(SECRET.repeat(1_000)).expect("completes");
    shown.add("AttemptError::Over", &attempt.complete("other"));
    let begun = ledger.begin(long).expect("answers");
    assert!(matches!(&begun, Begin::Completed(_)), "{begun:?}");
    shown.add("Begin::Completed", &begun);
    shown.add("Failure", &Failure::replayed("no", SECRET));
    let mut transaction = store.transaction();
    transaction.begin(&ledger, "b", options());
    shown.add("Transaction that begins", &transaction);
    shown.add("CommittedWith", &transaction.commit().expect("answers"));
    let done = ledger.begin("done").expect("begins").started().expect("is new");
    done.complete(SECRET).expect("completes");
    let mut transaction = store.transaction();
    transaction.begin(&ledger, "done", options());
    shown.add("Rejected", &transaction.commit().expect("answers"));
}

#[test]
fn what_is_shown_of_a_handle_or_an_answer_is_short_and_holds_nothing_that_is_stored() {
    let (_folder, path) = place();
    let mut shown = Shown::default();
    let store = filled(&path);
    add_plain(&mut shown, &store);
    add_ledger(&mut shown, &store);
    let target = FolderTarget::new(path.with_extension("copies"));
    store.snapshot(&target).expect("copies");
    shown.add("FolderTarget", &target);
    shown.add("Builder", &builder(&path));
    drop(store);
    shown.add("ReadOnly", &Store::builder(&path).open_read_only().expect("opens"));
    shown.check();
    let dir = format!("{path:?}");
    for what in ["Store", "Ledger", "Attempt", "Table", "Source", "ReadOnly"] {
        assert!(shown.of(what).contains(&dir), "{what}: {}", shown.of(what));
    }
    assert!(shown.of("Attempt").contains("\"payments\""), "{}", shown.of("Attempt"));
    assert!(shown.of("Attempt").contains("token: "), "{}", shown.of("Attempt"));
}
