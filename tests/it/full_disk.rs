//! I7: a full disk is noticed before a claim returns. Lookups go on, and claims work again once there is space.

use crate::support::*;
use firstseen::disk::sim::SimDisk;
use firstseen::{ErrorKind, Store};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

#[test]
fn i7_a_full_disk_refuses_claims_and_answers_the_rest() {
    // Space for one more segment, or for part of one, which must not be started.
    for (mapping, room) in [(true, 20_000), (true, 10_000), (false, 20_000), (false, 10_000)] {
        let disk = if mapping { SimDisk::new() } else { SimDisk::new().without_mapping() };
        let clock = clock();
        let open = || sim(&disk, &clock).segment_bytes(16 << 10).memtable_bytes(1 << 20).open();
        let store = open().unwrap();
        claim_all_first(&store, 0..100);
        disk.set_capacity(Some(disk.used() + room));
        let full = (100..10_000_000).find(|n| match store.claim(id(*n)) {
            Ok(answer) => {
                assert!(answer.is_first_seen());
                false
            }
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::StorageFull, "{e}");
                true
            }
        });
        let full = full.unwrap();
        for _ in 0..3 {
            assert_eq!(store.claim(id(full)).unwrap_err().kind(), ErrorKind::StorageFull);
            let batch = store.claim_batch(&ids(full..full + 200));
            assert_eq!(batch.unwrap_err().kind(), ErrorKind::StorageFull);
            assert!(store.claim(id(5)).unwrap().is_duplicate(), "duplicates need no space");
            assert_seen(&store, 0..full, true);
            assert_seen(&store, full..full + 200, false);
            store.sync().unwrap();
        }
        disk.set_capacity(None);
        claim_all_first(&store, full..full + 3000);
        drop(store);
        assert_seen(&open().unwrap(), 0..full + 3000, true);
    }
}

#[test]
fn i7_a_kill_on_a_full_disk_loses_nothing() {
    let (disk, clock) = (SimDisk::new(), clock());
    let open = |disk: &SimDisk| sim(disk, &clock).segment_bytes(16 << 10).open();
    let store = open(&disk).unwrap();
    disk.set_capacity(Some(disk.used() + 40_000));
    let full = (0..10_000_000).find(|n| store.claim(id(*n)).is_err()).unwrap();
    let after = disk.kill();
    after.set_capacity(None);
    let store = open(&after).unwrap();
    assert_seen(&store, 0..full, true);
    claim_all_first(&store, full..full + 10);
}

/// A small tmpfs, unmounted on drop.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(at: &Path, megabytes: u32) -> Option<Self> {
        std::fs::create_dir(at).ok()?;
        let size = format!("size={megabytes}m");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "firstseen-test"]).arg(at);
        mount.output().ok()?.status.success().then(|| Self(at.to_owned()))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).output().ok();
    }
}

/// Fills a small disk with claims, frees space and goes on. Returns the error on the full disk and how many lookups
/// failed on it.
#[expect(clippy::disallowed_macros, reason = "a test that cannot run says so")]
fn fill_a_real_disk() -> Option<(ErrorKind, usize)> {
    let (dir, _) = place();
    let Some(disk) = Tmpfs::mount(&dir.path().join("small"), 48) else {
        eprintln!("NOT RUN: a tmpfs cannot be mounted here (needs root)");
        return None;
    };
    let ballast = disk.0.join("ballast");
    std::fs::write(&ballast, vec![1; 32 << 20]).expect("fits");
    let path = disk.0.join("seen.db");
    let builder = || {
        let builder = Store::builder(&path).memory_budget(4 << 20).segment_bytes(1 << 20);
        builder.wait_max(Duration::from_millis(1500))
    };
    let store = builder().open().expect("opens");
    let mut claimed = 0;
    let error = loop {
        match store.claim(id(claimed)) {
            Ok(answer) => assert!(answer.is_first_seen()),
            Err(e) => break e,
        }
        claimed += 1;
    };
    let mut unanswered = 0;
    for n in [claimed].into_iter().chain((0..claimed).step_by(claimed as usize / 5)) {
        match store.contains(id(n)) {
            Ok(seen) => assert_eq!(seen, n < claimed, "id {n} of {claimed}"),
            Err(_) => unanswered += 1,
        }
    }
    std::fs::remove_file(&ballast).expect("was there");
    // The store retries twice a second; sled may take its time to close.
    let tries = (0..300).find(|_| {
        std::thread::park_timeout(Duration::from_millis(100));
        store.claim(id(claimed)).is_ok()
    });
    assert!(tries.is_some(), "claims work again");
    claim_all_first(&store, claimed + 1..claimed + 1000);
    drop(store);
    let store = builder().open().expect("opens again");
    assert_seen(&store, 0..claimed + 1000, true);
    Some((error.kind(), unanswered))
}

#[test]
fn i7_i12_a_real_full_disk_gives_no_wrong_answer_and_nothing_hangs() {
    if let Some((kind, unanswered)) = fill_a_real_disk() {
        assert_eq!((kind, unanswered), (ErrorKind::StorageFull, 0));
    }
}
