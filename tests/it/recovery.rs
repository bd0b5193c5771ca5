//! Opening after a crash at any moment, and what opening costs.

use crate::support::*;
use firstseen::disk::Disk;
use firstseen::disk::sim::{Fault, SimDisk};
use firstseen::{
    ClaimOptions, Durability, ErrorKind, ManualClock, MemoryBlocks, Store, hours, minutes,
};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// What a caller has been told.
#[derive(Default)]
struct Heard {
    /// Claims that must survive a power cut.
    disk: BTreeSet<u64>,
    /// Claims that must survive a kill.
    process: BTreeSet<u64>,
}

/// A workload that flushes, merges, sweeps, compacts, closes and opens, up to the first error.
fn work(
    disk: &SimDisk,
    clock: &ManualClock,
    blocks: &MemoryBlocks,
    heard: &mut Heard,
) -> firstseen::Result<()> {
    let long = ClaimOptions::new().ttl(hours(9_000)).durability(Durability::Disk);
    let builder = || {
        let builder = sim_with(disk, clock, blocks).segment_bytes(16 << 10);
        builder.memtable_bytes(8 << 10).ttl(minutes(1)).open()
    };
    for part in 0..3u64 {
        let store = builder()?;
        let namespace = store.default_namespace();
        for round in 0..4u64 {
            let base = part * 10_000 + round * 1_000;
            for n in base..base + 60 {
                let _ = store.claim_with(id(n), ClaimOptions::new().ttl(hours(9_000)))?;
                heard.process.insert(n);
            }
            let _ = namespace.claim_batch_with(&ids(base + 100..base + 140), long)?;
            heard.disk.extend(base + 100..base + 140);
            // The sync for the batch covers everything acknowledged before it.
            heard.disk.extend(heard.process.iter());
            let _ = store.claim_batch(&ids(base + 200..base + 400))?;
            clock.advance(Duration::from_secs(100));
            store.run_background()?;
        }
        store.close()?;
    }
    Ok(())
}

fn check(store: &Store, must: &BTreeSet<u64>, what: &str) {
    for n in must {
        assert!(store.contains(id(*n)).expect("reads"), "{what}: id {n} was acknowledged");
    }
    assert_sound(store);
}

#[test]
fn i6_a_crash_at_every_change_of_the_disk_loses_nothing_that_was_promised() {
    let (disk, blocks) = (SimDisk::new(), MemoryBlocks::default());
    disk.set_trace(true);
    work(&disk, &clock(), &blocks, &mut Heard::default()).unwrap();
    let steps = disk.trace();
    let changes = || steps.iter().filter(|step| step.changes).map(|step| step.number);
    assert!(changes().count() > 1000, "{}", changes().count());
    let every = (changes().count() / scaled(150) as usize).max(1);
    // Every change that is not a plain record write, and a sample of all.
    let rare = steps.iter().filter(|s| s.changes && !s.what.starts_with("write /s/log"));
    let points: BTreeSet<u64> = changes().step_by(every).chain(rare.map(|s| s.number)).collect();
    for (i, number) in points.into_iter().enumerate() {
        let (disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
        let fault = if i % 2 == 0 { Fault::Crash } else { Fault::CrashInWrite };
        disk.fail_at(number, fault, true);
        let mut heard = Heard::default();
        work(&disk, &clock, &blocks, &mut heard).unwrap_err();
        for (after, must) in [
            (disk.kill(), &heard.process),
            (disk.lose_unsynced(), &heard.disk),
            (disk.crash(number), &heard.disk),
        ] {
            let what = format!("{fault:?} at operation {number}");
            // Each gets its own copy of the blocks, so none sees what another did to them.
            let left = blocks.copy();
            let store = sim_with(&after, &clock, &left).open();
            let store = store.unwrap_or_else(|e| panic!("{what}: {e}"));
            check(&store, must, &what);
            check(&store, &heard.disk, &what);
            // Everything the crash left behind is freed, and nothing else.
            store.run_background().unwrap();
            let blocks_used = store.verify().unwrap().blocks;
            assert_eq!(left.count() as u64, blocks_used, "{what}: leaked blocks");
            store.close().unwrap();
            check(&sim(&after, &clock).open().unwrap(), &heard.disk, &what);
        }
    }
}

#[test]
fn i7_an_error_at_any_operation_ends_in_an_error_and_a_reopen_mends_it() {
    let (disk, blocks) = (SimDisk::new(), MemoryBlocks::default());
    disk.set_trace(true);
    work(&disk, &clock(), &blocks, &mut Heard::default()).unwrap();
    let steps = disk.trace();
    let rare = steps.iter().filter(|s| !s.what.starts_with("write /s/log"));
    let writes = steps.iter().filter(|s| s.what.starts_with("write /s/log")).step_by(97);
    for (i, step) in rare.chain(writes).enumerate() {
        for mapping in [true, false] {
            let disk = if mapping { SimDisk::new() } else { SimDisk::new().without_mapping() };
            let (clock, blocks) = (clock(), MemoryBlocks::default());
            let kind = [std::io::ErrorKind::Other, std::io::ErrorKind::StorageFull][i % 2];
            disk.fail_at(step.number, Fault::Error(kind), i % 3 == 0);
            let mut heard = Heard::default();
            let worked = work(&disk, &clock, &blocks, &mut heard);
            let what = format!("{kind:?} at operation {} ({})", step.number, step.what);
            if let Err(e) = worked {
                let fine = [ErrorKind::Environment, ErrorKind::StorageFull, ErrorKind::Reopen];
                assert!(fine.contains(&e.kind()), "{what}: {e}");
            }
            disk.clear_faults();
            let store = sim_with(&disk, &clock, &blocks).open();
            check(&store.unwrap_or_else(|e| panic!("{what}: {e}")), &heard.process, &what);
            let after = disk.crash(step.number);
            let store = sim_with(&after, &clock, &blocks).open();
            check(&store.unwrap_or_else(|e| panic!("{what}: {e}")), &heard.disk, &what);
        }
    }
}

/// Even with a mapped log, a long record is a system call and can fail after records that could not.
#[test]
fn i7_i9_a_long_record_that_a_mapped_log_cannot_write_is_refused_whole() {
    let ids: Vec<_> = (10..1010).map(id).collect();
    for fault in [Fault::Error(std::io::ErrorKind::Other), Fault::ShortWrite] {
        for confirms in [false, true] {
            let (disk, clock) = (SimDisk::new(), clock());
            let open = |disk: &SimDisk| sim(disk, &clock).segment_bytes(1 << 20).open().unwrap();
            let store = open(&disk);
            claim_all_first(&store, 0..10);
            let mut held = confirms.then(|| store.reserve_batch(&ids).unwrap());
            disk.fail_at(disk.ops(), fault, false);
            let refused = match &mut held {
                Some(held) => held.confirm().map(drop),
                None => store.claim_batch(&ids).map(drop),
            };
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::Reopen, "{fault:?}");
            assert_eq!(store.claim("new").unwrap_err().kind(), ErrorKind::Reopen);
            drop((held, store));
            let store = open(&disk.kill());
            assert_seen(&store, 0..10, true);
            assert_seen(&store, 10..1010, false);
            assert_eq!(store.stats().cut_bytes > 0, matches!(fault, Fault::ShortWrite));
        }
    }
}

#[test]
fn i7_after_a_failed_sync_nothing_is_answered_until_reopened() {
    for mapping in [true, false] {
        let disk = if mapping { SimDisk::new() } else { SimDisk::new().without_mapping() };
        let clock = clock();
        let store = sim(&disk, &clock).open().unwrap();
        claim_all_first(&store, 0..10);
        let mut held = store.reserve_batch(&["r"]).unwrap();
        disk.fail_at(disk.ops(), Fault::Error(std::io::ErrorKind::Other), true);
        assert!(store.sync().is_err());
        disk.clear_faults();
        let kinds = [
            store.claim(id(0)).unwrap_err().kind(),
            store.claim("new").unwrap_err().kind(),
            store.claim_batch(&["new"]).unwrap_err().kind(),
            store.claim_batch(&[id(0)]).unwrap_err().kind(),
            store.contains(id(0)).unwrap_err().kind(),
            store.forget(id(0)).unwrap_err().kind(),
            store.reserve("new").unwrap_err().kind(),
            held.confirm().unwrap_err().kind(),
            store.namespace("n").unwrap_err().kind(),
            store.sync().unwrap_err().kind(),
            store.verify().unwrap_err().kind(),
            store.export(|_| Ok(())).unwrap_err().kind(),
        ];
        assert_eq!(kinds, [ErrorKind::Reopen; 12]);
        drop(held);
        drop(store);
        let store = sim(&disk, &clock).open().unwrap();
        assert_seen(&store, 0..10, true);
        assert!(!store.contains("new").unwrap());
    }
}

#[test]
fn i11_a_torn_tail_is_cut_at_the_last_whole_record() {
    let (dir, path) = place();
    let open = || small(Store::builder(&path)).open().unwrap();
    let store = open();
    claim_all_first(&store, 0..100);
    store.sync().unwrap();
    claim_all_first(&store, 100..200);
    // The folder as it is now: with space after the last record, and nothing cut.
    let copy = dir.path().join("copy");
    copy_dir(&path, &copy);
    drop(store);
    let segment = files(&copy.join("log")).remove(0);
    let bytes = std::fs::read(&segment).unwrap();
    let end = bytes.iter().rposition(|b| *b != 0).unwrap() + 1;
    for cut in [1, 3, 20, 30, 500] {
        let mut torn = bytes.clone();
        torn[end - cut..].fill(0);
        torn[end - cut] = 0x55;
        std::fs::write(&segment, torn).unwrap();
        let again = dir.path().join(format!("cut-{cut}"));
        copy_dir(&copy, &again);
        let store = small(Store::builder(&again)).open().unwrap();
        assert_seen(&store, 0..100, true);
        let left = (100..200).take_while(|n| store.contains(id(*n)).unwrap()).count() as u64;
        assert!((70..100).contains(&left), "{left} after a cut of {cut}");
        assert_seen(&store, 100 + left..200, false);
        assert!(store.stats().cut_bytes > 0);
        claim_all_first(&store, 100 + left..300);
        store.close().unwrap();
        assert_seen(&small(Store::builder(&again)).open().unwrap(), 0..300, true);
    }
}

#[test]
fn opening_reads_the_unflushed_tail_and_not_the_whole_log() {
    let (_dir, path) = place();
    let open = || small(Store::builder(&path)).segment_bytes(32 << 10).open().unwrap();
    let store = open();
    for n in 0..20_000 {
        let _ = store.claim(id(n)).unwrap();
        if n % 500 == 0 {
            settle(&store);
        }
    }
    store.close().unwrap();
    let store = open();
    let replayed = store.stats().replayed_records;
    assert!(replayed < 8_000, "{replayed} of 20,000 records read at open");
    assert_eq!(store.stats().rebuilds, 0);
    assert_seen(&store, 0..20_000, true);
}

/// A cut must clear everything behind it: if all records have one length, those behind the torn one would line up with
/// whatever is written in its place.
#[test]
fn i11_a_stale_record_behind_a_cut_does_not_join_new_ones() {
    for disk in [SimDisk::new(), SimDisk::new().without_mapping()] {
        let clock = clock();
        let store = sim(&disk, &clock).open().unwrap();
        store.sync().unwrap();
        claim_all_first(&store, 1..6);
        let disk = disk.kill();
        let segment = Path::new("/s/log/0000000001.seg");
        let bytes = disk.read(segment).unwrap();
        let torn = bytes.windows(16).position(|bytes| bytes == id(1)).unwrap();
        disk.open(segment).unwrap().write_all_at(&[!bytes[torn]], torn as u64).unwrap();

        let store = sim(&disk, &clock).open().unwrap();
        assert!(store.stats().cut_bytes > 0);
        assert_seen(&store, 1..6, false);
        claim_all_first(&store, 10..11);
        let store = sim(&disk.kill(), &clock).open().unwrap();
        assert_seen(&store, 10..11, true);
        assert_seen(&store, 1..6, false);
    }
}
