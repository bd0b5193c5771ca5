//! Shared helpers: ids, stores on simulated and real disks, a scale.

use firstseen::disk::sim::SimDisk;
use firstseen::{Builder, ManualClock, MemoryBlocks, Store};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;
use std::time::{Duration, Instant};

/// Start of the manual clock.
pub(crate) const NOW: u64 = 1_700_000_000_000;

/// Path of the store on a simulated disk.
pub(crate) const AT: &str = "/s";

/// A unique 16-byte id for each number that does not look sequential.
pub(crate) fn id(n: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    bytes[8..].copy_from_slice(&n.to_le_bytes());
    bytes
}

pub(crate) fn ids(numbers: std::ops::Range<u64>) -> Vec<[u8; 16]> {
    numbers.map(id).collect()
}

/// `n` times FIRSTSEEN_TEST_SCALE, for long runs.
pub(crate) fn scaled(n: u64) -> u64 {
    let scale = std::env::var("FIRSTSEEN_TEST_SCALE").ok().and_then(|s| s.parse().ok());
    n * scale.unwrap_or(1)
}

/// A store on a simulated disk without threads: small segments, small memtables, two shards.
pub(crate) fn sim(disk: &SimDisk, clock: &ManualClock) -> Builder {
    small(Store::builder(AT)).disk(disk.clone()).clock(clock.clone())
}

/// The same with a block store that outlives the store, as the sled folder does.
pub(crate) fn sim_with(disk: &SimDisk, clock: &ManualClock, blocks: &MemoryBlocks) -> Builder {
    sim(disk, clock).block_memory(blocks)
}

pub(crate) fn small(builder: Builder) -> Builder {
    builder
        .seed([7; 16])
        .background(false)
        .shards(2)
        .memory_budget(4 << 20)
        .segment_bytes(256 << 10)
        .memtable_bytes(64 << 10)
}

pub(crate) fn clock() -> ManualClock {
    ManualClock::at_millis(NOW)
}

/// A temporary folder on the real disk, and the path of a store in it.
pub(crate) fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("seen.db");
    (dir, path)
}

/// Does the background work. Twice, because the end of one round may start another.
pub(crate) fn settle(store: &Store) {
    store.run_background().expect("background work");
    store.run_background().expect("background work");
}

/// Claims ids one by one and checks that each is first seen.
pub(crate) fn claim_all_first(store: &Store, numbers: std::ops::Range<u64>) {
    for n in numbers {
        assert!(store.claim(id(n)).expect("claims").is_first_seen(), "id {n} was new");
    }
}

/// Checks which ids are present without claiming any.
pub(crate) fn assert_seen(store: &Store, numbers: std::ops::Range<u64>, seen: bool) {
    for n in numbers {
        assert_eq!(store.contains(id(n)).expect("reads"), seen, "id {n}");
    }
}

pub(crate) fn assert_sound(store: &Store) {
    let report = store.verify().expect("reads everything");
    assert!(report.is_sound(), "{report}");
}

/// Copies a folder recursively.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("creates a folder");
    for entry in std::fs::read_dir(from).expect("lists") {
        let entry = entry.expect("lists");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("has a type").is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copies");
        }
    }
}

/// Files below a folder, sorted.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("lists") {
        let path = entry.expect("lists").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Set in a process that runs a single test, to the test's folder.
const ALONE: &str = "FIRSTSEEN_TEST_ALONE_IN";

/// Runs a test in its own process, without the threads, locks and memory of other tests.
pub(crate) fn alone(test: &str, dir: &Path) {
    let mut command = std::process::Command::new(std::env::current_exe().expect("this binary"));
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(ALONE, dir);
    let out = command.output().expect("runs");
    let (said, complained) =
        (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success() && said.contains("1 passed"), "{said} {complained}");
}

/// The test's folder, in a process started by [`alone`].
pub(crate) fn is_alone() -> Option<PathBuf> {
    std::env::var_os(ALONE).map(PathBuf::from)
}

/// Counts wake-ups, for futures polled by hand.
#[derive(Default)]
pub(crate) struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Woken {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    #[allow(clippy::disallowed_methods, reason = "the patience of a test")]
    pub(crate) fn until(&self, count: usize) {
        let began = Instant::now();
        while self.count() < count {
            // Less than the leases that would wake it by their end.
            assert!(began.elapsed() < Duration::from_secs(30), "it is not woken");
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
}
