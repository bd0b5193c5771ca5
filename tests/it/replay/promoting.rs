//! What others may do while a scope is being promoted.

#![allow(clippy::disallowed_methods, reason = "real time passes in these tests")]

use super::*;
use crate::support::AT;
use firstseen::outbox::{AsyncSink, Delivery, Message, Outbox, Relay, RelayOptions, RelayReport};
use firstseen::table::Table;
use firstseen::transaction::{Transacted, Transaction};
use firstseen::{Error, ErrorKind, Result};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

/// Rows that make a promotion long: it looks through all of them.
const ROWS: u64 = 30_000;

/// With the memory and the background work of a real one: it takes all rows at once.
fn builder() -> Builder {
    Store::builder(AT).disk(SimDisk::new())
}

fn store(builder: Builder) -> Store {
    let store = builder.open().expect("opens");
    let many = store.table::<u64>("many").expect("opens");
    for rows in (0..ROWS).collect::<Vec<_>>().chunks(1_000) {
        let mut transaction = store.transaction();
        for row in rows {
            transaction.put(&many, row.to_le_bytes(), row).expect("a value");
        }
        assert!(transaction.commit().expect("commits").is_committed());
    }
    store
}

/// What a thread has seen that transacted during a promotion.
struct Beside {
    /// Transactions that were called, and how often their work ran.
    calls: u64,
    runs: u64,
    refused: Option<Error>,
    /// The last number that was committed.
    last: u64,
}

/// The way to transact: the blocking one, or the future on a runtime of its own.
type Transact =
    fn(&Store, &mut dyn FnMut(&mut Transaction) -> Result<u64>) -> Result<Transacted<u64>>;

const WAYS: [Transact; 2] = [
    |store, work| store.transact(work),
    |store, work| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(store.transact_async(work))
    },
];

fn transact_until(
    way: Transact,
    store: &Store,
    points: &Table<u64>,
    is_over: &AtomicBool,
) -> Beside {
    let mut beside = Beside { calls: 0, runs: 0, refused: None, last: 0 };
    while !is_over.load(Ordering::Acquire) {
        beside.calls += 1;
        let calls = beside.calls;
        let done = way(store, &mut |transaction| {
            beside.runs += 1;
            transaction.put(points, "anna", &calls)?;
            Ok(calls)
        });
        match done {
            Ok(Transacted::Committed(last)) => beside.last = last,
            Ok(Transacted::Rejected(why)) => panic!("it has read nothing: {why:?}"),
            Err(error) => beside.refused = Some(error),
        }
    }
    beside
}

/// Promotes scopes while a thread transacts, until one of its transactions met a promotion.
fn promoted_beside(way: Transact, store: &Store, has_met: impl Fn(&Beside) -> bool) -> Beside {
    let points = store.table::<u64>("points").expect("opens");
    for round in 0..100 {
        let scope = store.replay(&format!("s{round}")).expect("begins");
        scope.table::<u64>("points").expect("opens").put("anna", &0).expect("puts");
        let is_over = AtomicBool::new(false);
        let begun = AtomicU64::new(0);
        let beside = std::thread::scope(|threads| {
            let transacting = threads.spawn(|| {
                begun.store(1, Ordering::Release);
                transact_until(way, store, &points, &is_over)
            });
            while begun.load(Ordering::Acquire) == 0 {
                std::thread::yield_now();
            }
            assert!(scope.promote().expect("promotes"));
            is_over.store(true, Ordering::Release);
            transacting.join().expect("ends")
        });
        if has_met(&beside) {
            return beside;
        }
    }
    panic!("no transaction met a promotion");
}

#[test]
fn transact_during_a_promotion_waits_for_its_end_and_is_made_in_what_was_promoted() {
    for way in WAYS {
        let store = store(builder());
        let met = promoted_beside(way, &store, |beside| {
            assert!(beside.refused.is_none(), "{:?}", beside.refused);
            beside.runs > beside.calls
        });
        assert!(met.runs <= met.calls + 3, "{} runs of {} calls: it waits", met.runs, met.calls);
        let points = store.table::<u64>("points").expect("opens");
        let last = points.get("anna").expect("reads").map(|entry| entry.value);
        assert_eq!(last, Some(met.last), "what was run again is made in what was promoted");
    }
}

/// Nothing waits for ever (I12).
#[test]
fn i12_transact_during_a_promotion_gives_up_after_wait_max() {
    for way in WAYS {
        let store = store(builder().wait_max(Duration::ZERO));
        let met = promoted_beside(way, &store, |beside| beside.refused.is_some());
        let error = met.refused.expect("it was refused");
        assert_eq!(error.kind(), ErrorKind::Retry, "{error}");
        assert!(error.to_string().contains("replay scope"), "{error}");
    }
}

/// Takes all messages, and counts them.
struct Takes<'a>(&'a AtomicU64);

impl Takes<'_> {
    fn take(&self, batch: &[Message]) -> Delivery {
        self.0.fetch_add(batch.len() as u64, Ordering::AcqRel);
        Delivery::all()
    }
}

impl AsyncSink for Takes<'_> {
    async fn deliver(&self, batch: &[Message]) -> Delivery {
        self.take(batch)
    }
}

fn emit(topic: &Outbox, messages: u64) {
    let mut transaction = topic.store().transaction();
    transaction.claim(format!("event of {messages}"));
    for message in 0..messages {
        transaction.emit(topic, message.to_le_bytes()).expect("a message");
    }
    assert!(transaction.commit().expect("commits").is_committed());
    topic.store().forget(format!("event of {messages}")).expect("forgets");
}

/// Promotes scopes with another topic while a relay removes messages one by one.
fn promote_beside_a_relay(run: impl FnOnce(&Relay, &Takes<'_>) -> Result<RelayReport> + Send) {
    let store = store(builder());
    let topic = store.outbox("mails").expect("opens");
    let delivered = AtomicU64::new(0);
    let relay = topic.relay(RelayOptions::new().batch_max(1)).expect("is made");
    std::thread::scope(|threads| {
        let worker = threads.spawn(|| run(&relay, &Takes(&delivered)));
        let delivers_more = |before: u64| {
            let end = Instant::now() + Duration::from_secs(60);
            while delivered.load(Ordering::Acquire) <= before {
                assert!(!worker.is_finished() && Instant::now() < end, "it delivers no more");
                std::thread::yield_now();
            }
        };
        for round in 0..20 {
            let scope = store.replay(&format!("s{round}")).expect("begins");
            scope.outbox("mails").expect("opens");
            let before = delivered.load(Ordering::Acquire);
            emit(&topic, 2_000);
            delivers_more(before);
            assert!(scope.promote().expect("promotes"));
        }
        let before = delivered.load(Ordering::Acquire);
        emit(&topic, 1);
        delivers_more(before);
        relay.stop();
        worker.join().expect("ends").expect("goes on whatever becomes of a topic");
    });
}

#[test]
fn i12_a_relay_that_delivers_while_scopes_are_promoted_goes_on() {
    promote_beside_a_relay(|relay, sink| relay.run(&|batch: &[Message]| sink.take(batch)));
}

#[test]
fn i12_a_relay_that_is_a_future_goes_on_while_scopes_are_promoted() {
    promote_beside_a_relay(|relay, sink| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(relay.run_async(sink))
    });
}

/// Begins another scope when it is woken.
struct Begins(Store);

impl Wake for Begins {
    fn wake(self: Arc<Self>) {
        assert!(self.0.replay("another").is_ok());
    }
}

#[test]
fn i9_who_is_woken_by_a_promotion_may_begin_a_scope() {
    let (tell, hears) = channel();
    std::thread::spawn(move || {
        let store = builder().open().expect("opens");
        let topic = store.outbox("mails").expect("opens");
        let mut waits = pin!(topic.wait_async());
        let waker = Waker::from(Arc::new(Begins(store.clone())));
        assert!(waits.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        let scope = store.replay("one").expect("begins");
        scope.outbox("mails").expect("opens");
        assert!(scope.promote().expect("promotes"));
        tell.send(store.replays().map_or(0, |scopes| scopes.len())).expect("listens");
    });
    let scopes = hears.recv_timeout(Duration::from_secs(60)).expect("it hangs");
    assert_eq!(scopes, 2, "the one that was promoted and that of the waker");
}
