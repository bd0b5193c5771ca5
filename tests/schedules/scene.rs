//! What the scenarios share: a small store on a simulated disk, and what was heard of it.

use firstseen::disk::sim::SimDisk;
use firstseen::{Builder, Claim, Durability, ManualClock, MemoryBlocks, Store};
use shuttle::thread::{self, JoinHandle};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) const START_MS: u64 = 1_700_000_000_000;

/// Longer than the explorer has patience: such a wait ends when it is woken, or is a deadlock.
pub(crate) const FOR_EVER: Duration = Duration::from_secs(1 << 20);

/// What a store stands on.
#[derive(Debug, Clone)]
pub(crate) struct Scene {
    pub(crate) disk: SimDisk,
    pub(crate) blocks: MemoryBlocks,
    pub(crate) clock: ManualClock,
    /// Ids that were acknowledged. A plain lock, which the explorer does not see: nobody is stopped
    /// between an answer and its entry here.
    acknowledged: Arc<Mutex<Vec<&'static str>>>,
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

    /// Claims an id and notes that it was acknowledged.
    pub(crate) fn claim(&self, store: &Store, id: &'static str) -> firstseen::Result<Claim> {
        let answer = store.claim(id)?;
        self.acknowledged.lock().expect("no panic under this lock").push(id);
        Ok(answer)
    }

    /// The next process, after the power was cut and everything not synced was lost: what was
    /// acknowledged by then must be live in it (I6). The stores must be at `Disk`.
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

    /// The same after the store was closed or its process killed: nothing acknowledged is lost, at
    /// whatever level.
    pub(crate) fn assert_safe_after_reopening(&self) {
        let acknowledged = self.acknowledged.lock().expect("no panic under this lock").clone();
        let store = Self { disk: self.disk.kill(), ..self.clone() }.open();
        for id in acknowledged {
            assert!(store.contains(id).expect("reads"), "{id} was acknowledged and is lost");
        }
    }
}

/// Starts threads, which the explorer lets run when the caller joins them or does anything itself.
pub(crate) fn start<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    thread::spawn(body)
}

pub(crate) fn join<T>(handles: impl IntoIterator<Item = JoinHandle<T>>) -> Vec<T> {
    handles.into_iter().map(|handle| handle.join().expect("no panic")).collect()
}

/// Exactly one of these answers for one id and one live window is the first (I1), and every other names
/// the time of that one.
#[track_caller]
pub(crate) fn assert_one_winner<'a>(id: &str, answers: impl IntoIterator<Item = &'a Claim>) {
    let mut firsts = 0;
    for answer in answers {
        match answer {
            Claim::FirstSeen => firsts += 1,
            Claim::Duplicate { first_seen } => assert_eq!(first_seen.as_millis(), START_MS, "{id}"),
        }
    }
    assert_eq!(firsts, 1, "I1: {id} has so many winners");
}

pub(crate) const DISK: Durability = Durability::Disk;
