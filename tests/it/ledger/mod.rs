//! The ledger: effects once. docs/LEDGER.md names the test of each behaviour.

mod awaiting;
mod begin;
mod dead;
mod doubt;
mod examples;
mod fencing;
mod full_memory;
mod joined;
mod locks;
mod messages;
mod model;
mod recovery;
mod retry;
mod run;
mod stages;
mod sweeps;
mod transactions;
mod waiting;

use crate::support::{clock, sim};
use firstseen::disk::sim::SimDisk;
use firstseen::ledger::{Attempt, Backoff, Begin, BeginOptions, Ledger, LedgerOptions, Record};
use firstseen::{ManualClock, Store};
use std::time::Duration;

/// A store on a simulated disk, with a clock that the test sets.
struct World {
    disk: SimDisk,
    clock: ManualClock,
    store: Store,
}

const LEASE: Duration = Duration::from_secs(10);

fn options() -> LedgerOptions {
    let backoff = Backoff::constant(Duration::from_secs(1));
    LedgerOptions::new().lease(LEASE).backoff(backoff).attempts_max(3)
}

impl World {
    fn new() -> Self {
        let (disk, clock) = (SimDisk::new(), clock());
        let store = sim(&disk, &clock).open().expect("opens");
        Self { disk, clock, store }
    }

    fn ledger(&self) -> Ledger {
        self.store.ledger_with("payments", options()).expect("opens")
    }

    fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }

    /// Ends the process and opens the store again.
    fn reopen(self) -> Self {
        let Self { disk, clock, store } = self;
        drop(store);
        let store = sim(&disk, &clock).open().expect("opens again");
        Self { disk, clock, store }
    }
}

fn begin(ledger: &Ledger, id: &str) -> Begin {
    ledger.begin(id).expect("begins")
}

fn started(ledger: &Ledger, id: &str) -> Attempt {
    match begin(ledger, id) {
        Begin::Started(attempt) => attempt,
        other => panic!("{id} is not started: {other:?}"),
    }
}

fn record(ledger: &Ledger, id: &str) -> Record {
    ledger.get(id).expect("reads").expect("there is a record")
}

/// An attempt whose worker is gone without a word: it is neither dropped nor ended.
fn abandon(attempt: Attempt) {
    std::mem::forget(attempt);
}
