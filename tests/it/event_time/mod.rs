//! Event time: what is answered, what survives, and what space comes back.

mod crashes;
mod model;
mod rules;
mod scopes;
mod space;
mod transactions;
mod windows;

use crate::support::{clock, sim_with};
use firstseen::disk::sim::SimDisk;
use firstseen::event_time::{EventClaim, EventTime, EventTimeOptions};
use firstseen::{ManualClock, MemoryBlocks, Store, Timestamp};
use std::time::Duration;

/// A second of event time.
const S: u64 = 1_000;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Ids are remembered for a minute of event time, and the watermark is written with each millisecond.
fn minute() -> EventTimeOptions {
    EventTimeOptions::new(ms(60 * S)).watermark_step(ms(1))
}

/// A store on a simulated disk that can be opened again.
struct Place {
    disk: SimDisk,
    clock: ManualClock,
    blocks: MemoryBlocks,
}

impl Place {
    fn new() -> Self {
        Self { disk: SimDisk::new(), clock: clock(), blocks: MemoryBlocks::default() }
    }

    fn open(&self) -> Store {
        sim_with(&self.disk, &self.clock, &self.blocks).open().expect("opens")
    }

    /// The process is killed.
    fn kill(&mut self) {
        self.disk = self.disk.kill();
    }
}

fn opened(store: &Store, options: EventTimeOptions) -> EventTime {
    store.event_time("clicks", options).expect("opens")
}

fn claim(events: &EventTime, id: &str, time: u64) -> EventClaim {
    events.claim_at(id, "a", at(time)).expect("answers")
}

fn watermark(events: &EventTime) -> u64 {
    events.watermark().map_or(0, Timestamp::as_millis)
}
