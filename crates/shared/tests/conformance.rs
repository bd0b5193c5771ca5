//! The embedded store keeps the rules of all dedup stores, and so does a local tier in front of one.

use firstseen::disk::sim::SimDisk;
use firstseen::{Clock, ManualClock, Store, SystemClock, Timestamp};
use firstseen_conformance::{Fixture, Reference};
use firstseen_shared::{Embedded, Near};
use std::sync::Mutex;
use std::time::Duration;

fn clock() -> ManualClock {
    ManualClock::at_millis(1_780_000_000_000)
}

/// A store on a simulated disk: its process can be killed.
struct Simulated {
    clock: ManualClock,
    opened: Mutex<(SimDisk, Store)>,
}

impl Simulated {
    fn new() -> Self {
        let (disk, clock) = (SimDisk::new(), clock());
        let store = Self::open(&disk, &clock);
        Self { clock, opened: Mutex::new((disk, store)) }
    }

    fn open(disk: &SimDisk, clock: &ManualClock) -> Store {
        let builder = Store::builder("/store").disk(disk.clone()).clock(clock.clone());
        builder.memory_budget(4 << 20).open().expect("opens")
    }
}

impl Fixture for Simulated {
    type Store = Embedded;

    async fn store(&self) -> Embedded {
        Embedded::new(self.opened.lock().expect("no panic").1.clone())
    }

    async fn advance(&self, time: Duration) {
        self.clock.advance(time);
    }

    fn remembers_calls(&self) -> bool {
        false
    }

    async fn restart(&self) -> bool {
        let mut opened = self.opened.lock().expect("no panic");
        let disk = opened.0.kill();
        let store = Self::open(&disk, &self.clock);
        *opened = (disk, store);
        true
    }
}

/// A store in a folder, at the durability that waits for the disk.
struct OnDisk {
    clock: ManualClock,
    store: Store,
    _folder: tempfile::TempDir,
}

impl OnDisk {
    fn new() -> Self {
        let (folder, clock) = (tempfile::tempdir().expect("a folder"), clock());
        let store = Store::builder(folder.path()).clock(clock.clone()).memory_budget(4 << 20);
        Self { clock, store: store.open().expect("opens"), _folder: folder }
    }
}

impl Fixture for OnDisk {
    type Store = Embedded;

    async fn store(&self) -> Embedded {
        Embedded::new(self.store.clone()).durability(firstseen::Durability::Disk)
    }

    async fn advance(&self, time: Duration) {
        self.clock.advance(time);
    }

    fn remembers_calls(&self) -> bool {
        false
    }

    fn histories(&self) -> u32 {
        2
    }
}

/// A local tier in front of the model. Its handles share their memory: what another process forgets is seen later.
struct Tiered {
    model: Reference,
    near: Near<Reference>,
    repeats_calls: bool,
}

/// The clock of this machine, and what a test has added to it.
#[derive(Debug)]
struct Shifted(ManualClock);

impl Clock for Shifted {
    fn wall(&self) -> Timestamp {
        self.0.wall()
    }

    fn elapsed_ms(&self) -> u64 {
        SystemClock.elapsed_ms().saturating_add(self.0.elapsed_ms())
    }

    fn boot_id(&self) -> u128 {
        SystemClock.boot_id()
    }
}

impl Tiered {
    fn new(repeats_calls: bool) -> Self {
        let model = Reference::new();
        let clock = Shifted(model.clock().clone());
        let near = Near::with_clock(model.clone(), 1 << 20, clock);
        Self { model, near: near.stale_max(Duration::from_secs(1 << 40)), repeats_calls }
    }
}

impl Fixture for Tiered {
    type Store = Near<Reference>;

    async fn store(&self) -> Near<Reference> {
        self.near.clone()
    }

    async fn advance(&self, time: Duration) {
        self.model.clock().advance(time);
    }

    fn remembers_calls(&self) -> bool {
        self.repeats_calls
    }

    /// Of a claim that was repeated it tells the time of the last try, so it is tried without.
    fn histories(&self) -> u32 {
        if self.repeats_calls { 0 } else { 8 }
    }
}

mod simulated {
    firstseen_conformance::conformance!(super::Simulated::new());
}

mod on_disk {
    firstseen_conformance::conformance!(super::OnDisk::new());
}

mod near {
    firstseen_conformance::conformance!(super::Tiered::new(true));

    #[tokio::test]
    async fn random_histories_without_repeated_calls() {
        let rule =
            firstseen_conformance::rules::random_histories_are_answered_as_the_reference_answers;
        rule(&super::Tiered::new(false)).await;
    }
}
