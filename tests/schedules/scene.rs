//! Shared by the scenarios: a small store on a simulated disk, and what it acknowledged.

use firstseen::disk::sim::SimDisk;
use firstseen::{Builder, Claim, Durability, ManualClock, MemoryBlocks, Store};
use shuttle::thread::{self, JoinHandle};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) const START_MS: u64 = 1_700_000_000_000;

/// Longer than the explorer waits: such a wait ends by a wake-up or is a deadlock.
pub(crate) const FOR_EVER: Duration = Duration::from_secs(1 << 20);

/// What a store runs on.
#[derive(Debug, Clone)]
pub(crate) struct Scene {
    pub(crate) disk: SimDisk,
    pub(crate) blocks: MemoryBlocks,
    pub(crate) clock: ManualClock,
    /// Acknowledged ids. The explorer does not see this plain lock, so no thread is stopped between a result and its
    /// entry here.
    pub(crate) acknowledged: Arc<Mutex<Vec<&'static str>>>,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self {
            disk: SimDisk::new(),
            blocks: MemoryBlocks::default(),
            clock: ManualClock::at_millis(START_MS),
            acknowledged: Arc::default(),
        }
    }

    pub(crate) fn builder(&self) -> Builder {
        Store::builder("/s")
            .background(false)
            .seed([7; 16])
            .shards(1)
            .segment_bytes(64 << 10)
            .memory_budget(4 << 20)
            .wait_max(FOR_EVER)
            .clock(self.clock.clone())
            .disk(self.disk.clone())
            .block_memory(&self.blocks)
    }

    pub(crate) fn open(&self) -> Store {
        self.builder().open().expect("opens")
    }

    /// Claims an id and records that it was acknowledged.
    pub(crate) fn claim(&self, store: &Store, id: &'static str) -> firstseen::Result<Claim> {
        let answer = store.claim(id)?;
        self.acknowledged.lock().expect("no panic under this lock").push(id);
        Ok(answer)
    }

    /// Opens after a power cut that lost everything unsynced: what was acknowledged before must be live (I6). The
    /// stores must be at `Disk`.
    pub(crate) fn assert_safe_after_a_power_cut(&self) {
        let next = Self {
            disk: self.disk.lose_unsynced(),
            blocks: MemoryBlocks::default(),
            ..self.clone()
        };
        let acknowledged = self.acknowledged.lock().expect("no panic under this lock").clone();
        let store = next.open();
        for id in acknowledged {
            assert!(store.contains(id).expect("reads"), "I6: {id} was acknowledged and is lost");
        }
    }

    /// The same after a close or a kill: nothing acknowledged is lost, at any level.
    pub(crate) fn assert_safe_after_reopening(&self) {
        let acknowledged = self.acknowledged.lock().expect("no panic under this lock").clone();
        let store = Self { disk: self.disk.kill(), ..self.clone() }.open();
        for id in acknowledged {
            assert!(store.contains(id).expect("reads"), "{id} was acknowledged and is lost");
        }
    }
}

/// Starts a thread, which the explorer runs when the caller joins it or does anything itself.
pub(crate) fn start<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    thread::spawn(body)
}

pub(crate) fn join<T>(handles: impl IntoIterator<Item = JoinHandle<T>>) -> Vec<T> {
    handles.into_iter().map(|handle| handle.join().expect("no panic")).collect()
}

/// Exactly one of these results for one id and one live window is first seen (I1), and every duplicate has its time.
#[track_caller]
pub(crate) fn assert_one_winner<'a>(id: &str, answers: impl IntoIterator<Item = &'a Claim>) {
    let mut firsts = 0;
    for answer in answers {
        match answer {
            Claim::FirstSeen => firsts += 1,
            Claim::Duplicate { first_seen } => assert_eq!(first_seen.as_millis(), START_MS, "{id}"),
        }
    }
    assert_eq!(firsts, 1, "I1: number of winners of {id}");
}

pub(crate) const DISK: Durability = Durability::Disk;
