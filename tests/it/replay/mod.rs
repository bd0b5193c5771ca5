//! Replay: scopes, the history of an id, and sources that keep their events.

mod ends;
mod history;
mod promoting;
mod scopes;
mod sources;
mod space;
mod worlds;

use crate::support::{clock, sim};
use firstseen::disk::sim::SimDisk;
use firstseen::{Builder, ManualClock, MemoryBlocks, Store};

/// A store on a simulated disk, whose blocks outlive it.
struct World {
    disk: SimDisk,
    clock: ManualClock,
    blocks: MemoryBlocks,
}

impl World {
    fn new() -> Self {
        Self { disk: SimDisk::new(), clock: clock(), blocks: MemoryBlocks::default() }
    }

    fn builder(&self) -> Builder {
        sim(&self.disk, &self.clock).block_memory(&self.blocks)
    }

    fn open(&self) -> Store {
        self.builder().open().expect("opens")
    }

    /// The same after a crash or a copy of the disk.
    fn on(&self, disk: SimDisk) -> Self {
        let (clock, blocks) = (self.clock.clone(), self.blocks.clone());
        Self { disk, clock, blocks }
    }
}

/// The names of all namespaces that the store lists.
fn listed(store: &Store) -> Vec<String> {
    store.stats().namespaces.into_iter().map(|ns| ns.name).collect()
}

/// How many claims an export holds, and under how many names.
fn exported(store: &Store) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let export = store.export(|entry| {
        all.push((entry.namespace.to_owned(), entry.id.to_vec()));
        Ok(())
    });
    assert_eq!(export.expect("exports"), all.len() as u64);
    all.sort();
    all
}
