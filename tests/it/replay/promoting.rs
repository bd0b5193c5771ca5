//! What others may do while a scope is being promoted.

use super::*;
use crate::support::AT;
use firstseen::table::Table;
use firstseen::transaction::Transacted;
use firstseen::{Error, ErrorKind, Result};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

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

fn transact_until(store: &Store, points: &Table<u64>, is_over: &AtomicBool) -> Beside {
    let mut beside = Beside { calls: 0, runs: 0, refused: None, last: 0 };
    while !is_over.load(Ordering::Acquire) {
        beside.calls += 1;
        let calls = beside.calls;
        let done = store.transact(|transaction| -> Result<u64> {
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
fn promoted_beside(store: &Store, has_met: impl Fn(&Beside) -> bool) -> Beside {
    let points = store.table::<u64>("points").expect("opens");
    for round in 0..100 {
        let scope = store.replay(&format!("s{round}")).expect("begins");
        scope.table::<u64>("points").expect("opens").put("anna", &0).expect("puts");
        let is_over = AtomicBool::new(false);
        let begun = AtomicU64::new(0);
        let beside = std::thread::scope(|threads| {
            let transacting = threads.spawn(|| {
                begun.store(1, Ordering::Release);
                transact_until(store, &points, &is_over)
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
    let store = store(builder());
    let met = promoted_beside(&store, |beside| {
        assert!(beside.refused.is_none(), "{:?}", beside.refused);
        beside.runs > beside.calls
    });
    assert!(met.runs <= met.calls + 3, "{} runs of {} calls: it waits", met.runs, met.calls);
    let points = store.table::<u64>("points").expect("opens");
    let last = points.get("anna").expect("reads").map(|entry| entry.value);
    assert!(last == Some(met.last) || last == Some(0), "{last:?} is of one world");
}

/// Nothing waits for ever (I12).
#[test]
fn i12_transact_during_a_promotion_gives_up_after_wait_max() {
    let store = store(builder().wait_max(Duration::ZERO));
    let met = promoted_beside(&store, |beside| beside.refused.is_some());
    let error = met.refused.expect("it was refused");
    assert_eq!(error.kind(), ErrorKind::Retry, "{error}");
    assert!(error.to_string().contains("replay scope"), "{error}");
}
