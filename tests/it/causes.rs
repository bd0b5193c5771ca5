//! Failed background work: a caller that waits for it gets the cause, and does not wait if waiting is pointless.

use crate::support::*;
use firstseen::disk::sim::{Fault, SimDisk};
use firstseen::{Error, ErrorKind, MemoryBlocks, Store};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

/// Longer than reporting a cause takes, shorter than a wait to its deadline.
const SOON: Duration = Duration::from_secs(15);

/// Claims new ids until one is refused. Panics if that takes as long as a wait to its deadline.
fn claim_until_refused(store: &Store, first: u64) -> (u64, Error) {
    let (told, hears) = channel();
    let other = store.clone();
    let claims = thread::spawn(move || {
        let refused = (first..).find_map(|n| match other.claim(id(n)) {
            Ok(answer) => {
                assert!(answer.is_first_seen(), "id {n}");
                told.send(None).ok();
                None
            }
            Err(error) => Some((n, error)),
        });
        told.send(refused).ok();
    });
    let refused = loop {
        if let Some(refused) = hears.recv_timeout(SOON).expect("no cause reported in time") {
            break refused;
        }
    };
    claims.join().expect("no panic");
    refused
}

fn claims_again(store: &Store, n: u64) -> bool {
    (0..100).any(|_| {
        thread::park_timeout(Duration::from_millis(100));
        store.claim(id(n)).is_ok()
    })
}

#[test]
fn i12_a_claim_that_waits_for_a_flush_hears_what_the_flush_fails_with() {
    for failing in ["put", "set_mark", "sync"] {
        let (disk, blocks) = (SimDisk::new(), MemoryBlocks::default());
        let builder = sim_with(&disk, &clock(), &blocks).background(true).memtable_bytes(16 << 10);
        let store = builder.open().unwrap();
        blocks.set_panics_in(Some(failing));
        let (refused, error) = claim_until_refused(&store, 0);
        assert_eq!(error.kind(), ErrorKind::Environment, "{error}");
        assert!(error.to_string().contains("planted"), "{error}");
        assert!(store.claim(id(0)).unwrap().is_duplicate(), "a duplicate needs no memtable space");
        blocks.set_panics_in(None);
        assert!(claims_again(&store, refused), "claims work again after the fault");
        drop(store);
        assert_seen(&sim_with(&disk, &clock(), &blocks).open().unwrap(), 0..refused + 1, true);
    }
}

#[test]
fn i12_a_claim_that_waits_for_a_flush_hears_which_file_cannot_be_written() {
    let (_dir, path) = place();
    let builder = || Store::builder(&path).memory_budget(4 << 20).memtable_bytes(64 << 10);
    let store = builder().open().unwrap();
    let in_the_way = path.join("MANIFEST.new");
    std::fs::create_dir_all(in_the_way.join("full")).unwrap();
    let (refused, error) = claim_until_refused(&store, 0);
    assert_eq!(error.kind(), ErrorKind::Environment, "{error}");
    assert!(error.to_string().contains("MANIFEST.new"), "{error}");
    std::fs::remove_dir_all(&in_the_way).unwrap();
    assert!(claims_again(&store, refused), "claims work again without the obstacle");
    drop(store);
    assert_seen(&builder().open().unwrap(), 0..refused + 1, true);
}

/// A claim that can wait does not see a fault that the next flush attempt gets past.
#[test]
fn i12_one_failed_flush_is_waited_over_and_told_at_the_deadline() {
    for wait_max in [Duration::from_secs(30), Duration::ZERO] {
        let (disk, blocks) = (SimDisk::new(), MemoryBlocks::default());
        let builder = sim_with(&disk, &clock(), &blocks).shards(1).memtable_bytes(16 << 10);
        let store = builder.wait_max(wait_max).open().unwrap();
        claim_all_first(&store, 0..10);
        store.freeze();
        blocks.set_panics_in(Some("put"));
        store.run_background().unwrap_err();
        if wait_max.is_zero() {
            let error = (10..).find_map(|n| store.claim(id(n)).err()).unwrap();
            assert!(error.to_string().contains("planted"), "{error}");
            continue;
        }
        thread::scope(|scope| {
            let claims = scope.spawn(|| {
                let waits_before = store.stats().waits_for_flush;
                for n in 10.. {
                    assert!(store.claim(id(n)).unwrap().is_first_seen());
                    if store.stats().waits_for_flush > waits_before {
                        return;
                    }
                }
            });
            while store.stats().waits_for_flush == 0 && !claims.is_finished() {
                thread::park_timeout(Duration::from_millis(1));
            }
            blocks.set_panics_in(None);
            store.run_background().unwrap();
            claims.join().unwrap();
        });
    }
}

const METHODS: [&str; 12] = [
    "*",
    "get",
    "put",
    "remove_run",
    "remove_from",
    "mark",
    "set_mark",
    "sync",
    "reopen",
    "reset",
    "close",
    "drop",
];

/// Runs calls whose results do not matter; no panic may come out of them.
#[track_caller]
fn without_a_panic(panics_in: &str, doing: &str, calls: impl FnOnce()) {
    let caught = catch_unwind(AssertUnwindSafe(calls));
    assert!(caught.is_ok(), "a panic of the block store in {panics_in} came out of {doing}");
}

#[test]
fn i10_a_panic_of_the_block_store_reaches_no_caller() {
    for panics_in in METHODS {
        let (disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
        let open = || sim_with(&disk, &clock, &blocks).wait_max(Duration::from_millis(50)).open();
        let store = open().unwrap();
        claim_all_first(&store, 0..2000);
        store.freeze();
        settle(&store);
        drop(store);
        let store = open().unwrap();
        blocks.set_panics_in(Some(panics_in));
        without_a_panic(panics_in, "claims and lookups", || {
            for n in 0..50 {
                if let Ok(answer) = store.claim(id(n * 37)) {
                    assert!(answer.is_duplicate());
                }
                if let Ok(seen) = store.contains(id(n * 31)) {
                    assert!(seen);
                }
            }
            let refused = (2000..8000).filter(|n| store.claim(id(*n)).is_err());
            refused.take(3).for_each(drop);
            store.verify().ok();
            store.sync().ok();
            store.stats();
        });
        without_a_panic(panics_in, "background work", || {
            store.freeze();
            store.run_background().ok();
            store.run_background().ok();
        });
        without_a_panic(panics_in, "close", || drop(store.close()));
        without_a_panic(panics_in, "open", || drop(open()));
        let repair = || drop(sim_with(&disk, &clock, &blocks).repair());
        without_a_panic(panics_in, "repair", repair);
        blocks.set_panics_in(None);
        assert_seen(&open().unwrap(), 0..2000, true);
    }
}

/// A failed open drops the block store on the caller's thread.
#[test]
fn i10_a_block_store_that_panics_while_opening_fails_reaches_no_caller() {
    for panics_in in ["drop", "*"] {
        let (disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
        let open = |disk: &SimDisk| sim_with(disk, &clock, &blocks).open();
        let store = open(&disk).unwrap();
        claim_all_first(&store, 0..3000);
        store.freeze();
        settle(&store);
        drop(store);
        let before = disk.ops();
        drop(open(&disk).unwrap());
        let ops = disk.ops() - before;
        let mut failed = 0;
        for at in 0..ops {
            blocks.set_panics_in(Some(panics_in));
            disk.fail_at(disk.ops() + at, Fault::Error(std::io::ErrorKind::Other), true);
            without_a_panic(panics_in, "an opening that fails", || {
                failed += u64::from(open(&disk).is_err());
            });
            disk.clear_faults();
            blocks.set_panics_in(None);
        }
        assert!(failed > 5, "{failed} of {ops}");
        assert_seen(&open(&disk).unwrap(), 0..3000, true);
    }
}
