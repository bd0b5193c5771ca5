//! The model of a store, with faults between it and its caller.

use firstseen_conformance::{Faulty, Reference};
use firstseen_shared::{
    Attempt, Backoff, Begin, DedupStore, ErrorKind, LedgerOptions, MoveError, Record, SharedLedger,
};
use std::time::Duration;

pub(crate) use firstseen_conformance::Fault;

/// The model, behind a line that loses answers.
pub(crate) type Line = Faulty<Reference>;

pub(crate) fn line() -> Line {
    Faulty::new(Reference::new())
}

/// Lets time pass on the store's clock.
pub(crate) fn advance(line: &Line, time: Duration) {
    line.store().clock().advance(time);
}

/// Has the store's clock follow that of the runtime, as long as the runtime lives.
pub(crate) fn tick(line: &Line) {
    let clock = line.store().clock().clone();
    tokio::spawn(async move {
        let tick = Duration::from_millis(10);
        loop {
            tokio::time::sleep(tick).await;
            clock.advance(tick);
        }
    });
}

pub(crate) const LEASE: Duration = Duration::from_secs(60);

pub(crate) fn options() -> LedgerOptions {
    let backoff = Backoff::constant(Duration::from_secs(1));
    LedgerOptions::new().lease(LEASE).attempts_max(3).backoff(backoff).worker("w")
}

pub(crate) fn ledger_with(line: &Line, options: LedgerOptions) -> SharedLedger<Line> {
    SharedLedger::new(line.clone(), "orders", options).expect("good options")
}

pub(crate) fn ledger(line: &Line) -> SharedLedger<Line> {
    ledger_with(line, options())
}

pub(crate) async fn started(ledger: &SharedLedger<Line>, id: &str) -> Attempt<Line> {
    match ledger.begin(id, None).await.expect("begins") {
        Begin::Started(attempt) => attempt,
        other => panic!("{id} is not started: {other:?}"),
    }
}

/// Returns the record of an id, without the line between.
pub(crate) async fn record(line: &Line, id: &str) -> Record {
    let record = line.store().record("orders", id.as_bytes()).await.expect("reads");
    record.expect("there is a record")
}

/// Waits until a record is as it should be. The runtime's clock may stand still: then this takes no time.
pub(crate) async fn until(line: &Line, id: &str, is_so: impl Fn(&Record) -> bool) -> Record {
    for _ in 0..10_000 {
        let record = record(line, id).await;
        if is_so(&record) {
            return record;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it does not become so: {:?}", record(line, id).await);
}

pub(crate) fn is_unavailable(error: &MoveError) -> bool {
    matches!(error, MoveError::Store(error) if error.kind() == ErrorKind::Unavailable)
}
