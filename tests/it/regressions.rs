//! One test for each bug found in the engine, named after it.

use crate::support::*;
use firstseen::disk::Disk;
use firstseen::disk::sim::{Fault, SimDisk};
use firstseen::{
    ClaimOptions, ErrorKind, ImportEntry, MemoryBlocks, NamespaceOptions, Store, Timestamp, hours,
    minutes, seconds,
};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A crash between the first segment and the manifest left a folder that would not open.
#[test]
fn crash_while_a_store_is_created_left_a_folder_that_did_not_open() {
    for op in 0.. {
        let (disk, clock) = (SimDisk::new(), clock());
        disk.fail_at(op, Fault::Crash, true);
        let done = sim(&disk, &clock).open().is_ok();
        for disk in [disk.kill(), disk.lose_unsynced(), disk.crash(op)] {
            let store = sim(&disk, &clock).open();
            let store = store.unwrap_or_else(|e| panic!("crash at operation {op}: {e}"));
            assert!(store.claim("a").unwrap().is_first_seen());
        }
        if done {
            assert!(op > 5, "the loop covered all of creation");
            return;
        }
    }
}

/// Replay flushed a full memtable in the middle of a batch record and took the rest of the record as flushed.
#[test]
fn i1_replay_that_flushes_in_the_middle_of_a_batch_lost_the_rest_of_the_batch() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).segment_bytes(1 << 20).open().unwrap();
    for batch in 0..8 {
        store.claim_batch(&ids(batch * 3000..(batch + 1) * 3000)).unwrap();
        settle(&store);
    }
    drop(store);
    // The blocks were only in memory, so everything is rebuilt.
    let store = sim(&disk, &clock).segment_bytes(1 << 20).open().unwrap();
    assert_eq!(store.stats().rebuilds, 1);
    assert_seen(&store, 0..24_000, true);
}

/// The same without a rebuild: an unflushed tail larger than the memtable it is replayed into.
#[test]
fn i1_replay_of_a_tail_that_does_not_fit_lost_a_part_of_a_batch() {
    let (disk, clock) = (SimDisk::new(), clock());
    let builder = || sim(&disk, &clock).segment_bytes(1 << 20);
    let store = builder().memtable_bytes(4 << 20).open().unwrap();
    store.claim_batch(&ids(0..10_000)).unwrap();
    drop(store);
    let store = builder().open().unwrap();
    assert_seen(&store, 0..10_000, true);
}

/// A rebuild forgot that compaction had removed segments, and the next open missed them.
#[test]
fn i10_a_store_rebuilt_after_compaction_did_not_open_a_second_time() {
    let (disk, clock) = (SimDisk::new(), clock());
    let builder = || sim(&disk, &clock).segment_bytes(32 << 10);
    let store = builder().open().unwrap();
    for n in 0..20_000 {
        let ttl = if n % 10 == 0 { hours(9_000) } else { minutes(1) };
        let _ = store.claim_with(id(n), ClaimOptions::new().ttl(ttl)).unwrap();
        if n % 1000 == 0 {
            settle(&store);
        }
    }
    clock.advance(Duration::from_secs(600));
    settle(&store);
    assert!(store.stats().segments_removed > 0, "{}", store.stats());
    drop(store);
    for round in 0..4 {
        let store = builder().open().unwrap_or_else(|e| panic!("open {round}: {e}"));
        for n in 0..20_000 {
            assert_eq!(store.contains(id(n)).unwrap(), n % 10 == 0, "open {round}, id {n}");
        }
        store.close().unwrap();
    }
}

/// A shorter claim replaced the tombstone of a long one; when it expired, the long claim was back.
#[test]
fn i4_a_forgotten_long_claim_came_back_when_its_shorter_successor_ended() {
    for flushed_before in [false, true] {
        for batch in [false, true] {
            let (disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
            let builder = || sim_with(&disk, &clock, &blocks);
            let store = builder().ttl(hours(1000)).open().unwrap();
            fill(&store, 0..4000);
            if flushed_before {
                fill(&store, 1_000_000..1_004_000);
            }
            for n in 0..100 {
                assert!(store.forget(id(n)).unwrap());
            }
            let short = ClaimOptions::new().ttl(minutes(1));
            let namespace = store.default_namespace();
            if batch {
                let answers = namespace.claim_batch_with(&ids(0..100), short).unwrap();
                assert!(answers.iter().all(|a| a.is_first_seen()));
            } else {
                for n in 0..100 {
                    assert!(namespace.claim_with(id(n), short).unwrap().is_first_seen());
                }
            }
            assert_seen(&store, 0..100, true);
            clock.advance(Duration::from_secs(3600));
            assert_seen(&store, 0..100, false);
            fill(&store, 2_000_000..2_004_000);
            assert_seen(&store, 0..100, false);
            assert_sound(&store);
            store.close().unwrap();
            let store = builder().ttl(hours(1000)).open().unwrap();
            assert_seen(&store, 0..100, false);
            assert_seen(&store, 100..4000, true);
            claim_all_first(&store, 0..100);
        }
    }
}

/// The same with a shorter claim that is imported.
#[test]
fn i4_a_forgotten_long_claim_came_back_after_a_shorter_import() {
    let (disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
    let store = sim_with(&disk, &clock, &blocks).open().unwrap();
    fill(&store, 0..4000);
    fill(&store, 1_000_000..1_004_000);
    assert!(store.forget(id(1)).unwrap());
    let (first_seen, deadline) =
        (Timestamp::from_millis(NOW), Timestamp::from_millis(NOW + 60_000));
    let entry = ImportEntry::new(id(1).to_vec(), first_seen, deadline);
    assert_eq!(store.import("default", &[entry]).unwrap(), 1);
    clock.advance(Duration::from_secs(3600));
    fill(&store, 2_000_000..2_004_000);
    assert_seen(&store, 1..2, false);
}

/// Claims enough to flush every shard's memtable.
fn fill(store: &firstseen::Store, numbers: std::ops::Range<u64>) {
    let flushed = store.stats().runs_flushed;
    for n in numbers {
        let _ = store.claim(id(n)).unwrap();
        if n % 500 == 0 {
            settle(store);
        }
    }
    settle(store);
    assert!(
        store.stats().runs_flushed >= flushed + 2,
        "every shard was flushed: {}",
        store.stats()
    );
}

/// A sliding batch with the same flushed id twice put it into the memtable twice.
#[test]
fn i3_a_sliding_batch_with_a_flushed_id_twice_entered_it_twice() {
    let (disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
    let store = sim_with(&disk, &clock, &blocks).ttl(hours(1)).sliding(true).open().unwrap();
    fill(&store, 0..4000);
    fill(&store, 1_000_000..1_004_000);
    clock.advance(Duration::from_secs(60));
    let before = store.stats().ids_unflushed;
    let _ = store.claim_batch(&[id(1), id(1), id(1)]).unwrap();
    assert_eq!(store.stats().ids_unflushed, before + 1);
}

/// A sliding batch claimed its new ids, then failed to extend the others and returned an error.
#[test]
fn i7_a_sliding_batch_that_failed_on_a_full_disk_left_its_new_ids_claimed() {
    let (disk, clock) = (SimDisk::new(), clock());
    let builder = || sim(&disk, &clock).segment_bytes(32 << 10).ttl(hours(1)).sliding(true);
    let store = builder().memtable_bytes(1 << 20).open().unwrap();
    claim_all_first(&store, 0..100);
    disk.set_capacity(Some(disk.used()));
    let mut next = 1000;
    loop {
        clock.advance(Duration::from_millis(10));
        let batch: Vec<_> = ids(next..next + 5).into_iter().chain(ids(0..20)).collect();
        match store.claim_batch(&batch) {
            Ok(_) => next += 5,
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::StorageFull, "{e}");
                break;
            }
        }
    }
    assert_seen(&store, next..next + 5, false);
    disk.set_capacity(None);
    claim_all_first(&store, next..next + 5);
}

/// Every id of a batch was also counted as never expiring, so a memtable of expired claims was not freed.
#[test]
fn i4_memory_of_ended_claims_made_in_batches_did_not_come_back() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).ttl(minutes(1)).open().unwrap();
    let _ = store.claim_batch(&ids(0..500)).unwrap();
    assert_eq!(store.stats().ids_unflushed, 500);
    clock.advance(Duration::from_secs(600));
    settle(&store);
    assert_eq!(store.stats().ids_unflushed, 0);
}

/// Claims acknowledged while another handle closed the store were lost.
#[test]
fn buffered_claims_answered_during_close_were_lost() {
    for _ in 0..100 {
        let disk = SimDisk::new().without_mapping();
        let open = || {
            firstseen::Store::builder(AT)
                .disk(disk.clone())
                .durability(firstseen::Durability::Buffered)
                .flush_interval(Duration::from_secs(100))
                .segment_bytes(1 << 20)
                .open()
                .unwrap()
        };
        let store = open();
        let (begun, wait) = std::sync::mpsc::channel();
        let worker = {
            let store = store.clone();
            std::thread::spawn(move || {
                let mut n = 0;
                while store.claim(id(n)).is_ok() {
                    n += 1;
                    if n == 50 {
                        begun.send(()).unwrap();
                    }
                }
                n
            })
        };
        wait.recv().unwrap();
        store.close().unwrap();
        let answered = worker.join().unwrap();
        let store = open();
        assert_seen(&store, 0..answered, true);
    }
}

/// Tests here manipulate files on the simulated disk, so they must be where the tests expect them.
#[test]
fn the_simulated_disk_holds_the_files_of_a_store() {
    let (disk, clock) = (SimDisk::new(), clock());
    sim(&disk, &clock).open().unwrap().close().unwrap();
    assert!(disk.read(Path::new("/s/MANIFEST")).is_ok());
}

/// After a crash, the time since the manifest counted twice if the clock had gone far back.
#[test]
fn i5_time_before_a_crash_counted_twice_and_claims_ended_early() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).ttl(hours(1)).open().unwrap();
    clock.advance(Duration::from_secs(3_000));
    let _ = store.claim("a").unwrap();
    let disk = disk.kill();
    clock.jump_to(Timestamp::from_millis(NOW - 30 * 24 * 3_600_000));
    let store = sim(&disk, &clock).ttl(hours(1)).open().unwrap();
    clock.advance(Duration::from_secs(3_599));
    assert!(store.contains("a").unwrap());
    clock.advance(Duration::from_secs(1));
    assert!(!store.contains("a").unwrap());
}

/// A killed process had created files whose names were not synced; the next open relied on them.
#[test]
fn i6_names_left_by_a_kill_were_never_synced_and_a_power_cut_took_the_segment() {
    for op in 0.. {
        let (disk, clock) = (SimDisk::new(), clock());
        disk.fail_at(op, Fault::Crash, true);
        let done = sim(&disk, &clock).open().is_ok();
        let disk = disk.kill();
        let builder = || sim(&disk, &clock).durability(firstseen::Durability::Disk);
        let store = builder().open().unwrap();
        claim_all_first(&store, 0..10);
        let after = disk.lose_unsynced();
        let store = sim(&after, &clock).open().unwrap_or_else(|e| panic!("operation {op}: {e}"));
        assert_seen(&store, 0..10, true);
        if done {
            return;
        }
    }
}

/// A sync failed, the kernel dropped the pages, and after a reopen a second sync falsely succeeded.
#[test]
fn i6_claims_whose_sync_failed_were_taken_for_synced_after_a_reopen() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).open().unwrap();
    claim_all_first(&store, 0..10);
    disk.fail_at(disk.ops(), Fault::Error(std::io::ErrorKind::Other), false);
    assert!(store.sync().is_err());
    drop(store);
    let store = sim(&disk, &clock).durability(firstseen::Durability::Disk).open().unwrap();
    for n in 0..10 {
        assert!(store.claim(id(n)).unwrap().is_duplicate());
    }
    assert_seen(&sim(&disk.lose_unsynced(), &clock).open().unwrap(), 0..10, true);
}

/// Each forget within the millisecond of its claim moved the id's time on by one. Replay took that for time passed, and
/// other live claims expired.
#[test]
fn i1_i5_claim_and_forget_in_one_millisecond_invented_time() {
    let disk = SimDisk::new();
    let clock = clock();
    let open = |disk: &SimDisk| sim(disk, &clock).ttl(firstseen::seconds(5)).open().expect("opens");
    let store = open(&disk);
    assert!(store.claim(b"victim").unwrap().is_first_seen());
    for _ in 0..6000 {
        assert!(store.claim(b"x").unwrap().is_first_seen());
        assert!(store.forget(b"x").unwrap());
    }
    assert!(store.claim(b"x").unwrap().is_first_seen());
    let batch = store.claim_batch(&["q", "x"]).unwrap();
    assert!(batch[0].is_first_seen() && batch[1].is_duplicate());
    for id in ["x", "q"] {
        assert_eq!(store.get(id).unwrap().unwrap().first_seen.as_millis(), NOW, "{id}");
    }
    store.close().unwrap();
    for disk in [disk.kill(), disk.kill()] {
        let store = open(&disk);
        assert!(store.claim(b"victim").unwrap().is_duplicate(), "no time has passed");
        assert!(store.claim(b"x").unwrap().is_duplicate());
    }
}

/// Once the filter folder was removed from a live store, every flush failed.
#[test]
fn i10_a_removed_filter_folder_stopped_flushing() {
    let (_dir, path) = place();
    let builder = || small(Store::builder(&path));
    let store = builder().open().unwrap();
    std::fs::remove_dir_all(path.join("filters")).unwrap();
    for n in 0..20_000 {
        assert!(store.claim(id(n)).unwrap().is_first_seen());
        if n % 500 == 0 {
            store.run_background().unwrap();
        }
    }
    assert!(store.stats().runs > 0);
    drop(store);
    let store = builder().open().unwrap();
    assert!((0..20_000).all(|n| store.contains(id(n)).unwrap()));
}

/// A background thread that hit a failed sync did not wake the callers waiting for its work: they learned only at their
/// deadlines that the store had stopped.
#[test]
fn i7_i12_claims_that_waited_for_room_did_not_hear_that_the_store_had_stopped() {
    let (disk, clock) = (SimDisk::new(), clock());
    let builder = sim(&disk, &clock).shards(1).memtable_bytes(1).background(true);
    let store = builder.wait_max(Duration::from_secs(60)).open().unwrap();
    disk.fail_at(disk.ops(), Fault::Error(std::io::ErrorKind::Other), true);
    let (done, heard) = std::sync::mpsc::channel();
    let claims = std::thread::spawn(move || {
        // The second freezes a memtable that cannot be flushed, the third waits for space.
        let error = (0..3).find_map(|n| store.claim(id(n)).err());
        done.send(error.map(|e| e.kind())).unwrap();
    });
    let heard = heard.recv_timeout(Duration::from_secs(20));
    assert_eq!(heard, Ok(Some(ErrorKind::Reopen)));
    claims.join().unwrap();
}

/// A wait too long for any clock to express ended at once.
#[test]
fn i12_the_longest_wait_ended_at_once() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).wait_max(Duration::MAX).open().unwrap();
    let held = store.reserve("a").unwrap();
    std::thread::scope(|scope| {
        let claim = scope.spawn(|| store.claim("a"));
        std::thread::park_timeout(Duration::from_millis(30));
        drop(held);
        assert!(claim.join().unwrap().unwrap().is_first_seen());
    });
}

/// A segment cut within its first 4 KiB lost its watermark along with its records and was taken for one that was never
/// written to.
#[test]
fn i11_a_segment_cut_below_its_watermark_lost_synced_claims_without_a_word() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).open().unwrap();
    claim_all_first(&store, 0..10);
    store.sync().unwrap();
    let disk = disk.kill();
    let path = Path::new("/s/log/0000000001.seg");
    let bytes = disk.read(path).unwrap();
    for len in [0, 1, 59, 60, 511, 520, 524, 4095] {
        let disk = disk.kill();
        disk.remove(path).unwrap();
        disk.create_new(path).unwrap().write_all_at(&bytes[..len], 0).unwrap();
        let error = sim(&disk, &clock).open().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Repair, "cut to {len}: {error}");
        let report = sim(&disk, &clock).repair().unwrap();
        assert!(report.lost.iter().any(|lost| lost.file == path), "cut to {len}: {report}");
        assert_seen(&sim(&disk, &clock).open().unwrap(), 0..10, false);
    }
}

/// With a flipped bit in a segment's header, repair dated its claims from the time of the previous segment, or from
/// 1970: those with a ttl had expired.
#[test]
fn i11_repair_moved_the_claims_of_a_segment_with_a_damaged_header_in_time() {
    let (disk, clock) = (SimDisk::new(), clock());
    let open = |disk: &SimDisk| sim(disk, &clock).ttl(hours(1)).open();
    let store = open(&disk).unwrap();
    clock.advance(Duration::from_secs(60));
    claim_all_first(&store, 0..10);
    store.close().unwrap();
    let path = Path::new("/s/log/0000000001.seg");
    let bytes = disk.read(path).unwrap();
    for bit in 0..60 * 8 {
        let disk = disk.kill();
        let flipped = bytes[bit / 8] ^ (1 << (bit % 8));
        disk.open(path).unwrap().write_all_at(&[flipped], bit as u64 / 8).unwrap();
        assert_eq!(open(&disk).unwrap_err().kind(), ErrorKind::Repair);
        sim(&disk, &clock).repair().unwrap();
        let seen = open(&disk).unwrap().get(id(1)).unwrap();
        let first_seen = seen.map(|seen| seen.first_seen.as_millis());
        assert_eq!(first_seen, Some(NOW + 60_000), "bit {bit}");
    }
}

/// Healing put unsynced records into a block that outlived them. If the filter was lost too, and rebuilt from that
/// block, the id was a duplicate by the block alone, until that was lost.
#[test]
fn i6_i10_a_healed_block_held_what_was_not_on_disk() {
    for mapping in [true, false] {
        let disk = if mapping { SimDisk::new() } else { SimDisk::new().without_mapping() };
        let (clock, blocks) = (clock(), MemoryBlocks::default());
        let open = |disk: &SimDisk| sim_with(disk, &clock, &blocks).open().unwrap();
        let store = open(&disk);
        claim_all_first(&store, 0..10);
        store.freeze();
        settle(&store);
        store.close().unwrap();
        // Reopen, or the block would be cached and need no healing.
        let store = open(&disk);
        claim_all_first(&store, 10..200);
        blocks.damage(|_| false);
        assert_seen(&store, 0..10, true);
        assert!(store.stats().blocks_healed > 0);
        let disk = disk.lose_unsynced();
        for filter in disk.list(Path::new("/s/filters")).unwrap() {
            disk.remove(&Path::new("/s/filters").join(filter)).unwrap();
        }
        let store = open(&disk);
        let options = ClaimOptions::new().durability(firstseen::Durability::Disk);
        for n in 0..200 {
            // First seen or duplicate, but at Disk.
            let _ = store.claim_with(id(n), options).unwrap();
        }
        blocks.clear();
        assert_seen(&open(&disk.lose_unsynced()), 0..200, true);
    }
}

/// A repair without a manifest forgot the time, and a clock behind the newest claim was believed: expired claims were
/// live again.
#[test]
fn i5_after_a_repair_without_a_manifest_time_began_before_the_newest_claim() {
    let (disk, clock) = (SimDisk::new(), clock());
    let open = || sim(&disk, &clock).ttl(minutes(1)).open().unwrap();
    let store = open();
    claim_all_first(&store, 0..10);
    clock.advance(Duration::from_secs(3 * 3_600));
    claim_all_first(&store, 10..20);
    store.close().unwrap();
    disk.remove(Path::new("/s/MANIFEST")).unwrap();
    clock.jump_to(Timestamp::from_millis(NOW));
    assert!(sim(&disk, &clock).repair().unwrap().manifest_rebuilt);
    let store = open();
    assert_seen(&store, 0..10, false);
    assert_seen(&store, 10..20, true);
}

/// Repair took a disk error for a missing folder, manifest or log. In a store that had been repaired before, it then
/// salvaged the log set aside by that repair and removed the current one.
#[test]
fn i11_repair_took_an_error_of_the_disk_for_a_missing_log() {
    let (disk, clock) = (SimDisk::new(), clock());
    let builder = |disk: &SimDisk| sim(disk, &clock);
    let store = builder(&disk).open().unwrap();
    claim_all_first(&store, 0..10);
    store.close().unwrap();
    disk.remove(Path::new("/s/MANIFEST")).unwrap();
    assert!(builder(&disk).repair().unwrap().old_log.is_some());
    let store = builder(&disk).open().unwrap();
    claim_all_first(&store, 10..20);
    store.close().unwrap();
    for call in 0.. {
        let disk = disk.kill();
        disk.fail_at(disk.ops() + call, Fault::Error(std::io::ErrorKind::Other), false);
        let repaired = builder(&disk).repair();
        let ended = disk.ops() <= call;
        disk.clear_faults();
        match repaired {
            Err(e) => assert_eq!(e.kind(), ErrorKind::Environment, "call {call}: {e}"),
            Ok(report) => assert_eq!((report.lost, report.old_log), (vec![], None), "call {call}"),
        }
        assert_seen(&builder(&disk).open().unwrap(), 0..20, true);
        if ended {
            assert!(call > 3, "repair makes some calls");
            return;
        }
    }
}

/// An entry that an import skipped as already claimed may have been only in a buffer, whatever the level.
#[test]
fn i6_an_import_of_what_was_in_a_buffer_was_lost_by_a_kill() {
    let (disk, clock) = (SimDisk::new().without_mapping(), clock());
    let store = sim(&disk, &clock).open().unwrap();
    let options = ClaimOptions::new().durability(firstseen::Durability::Buffered);
    assert!(store.claim_with("a", options).unwrap().is_first_seen());
    let (first_seen, deadline) = (Timestamp::from_millis(NOW), Timestamp::NEVER);
    let entry = ImportEntry::new(b"a", first_seen, deadline);
    assert_eq!(store.import("default", &[entry]).unwrap(), 0);
    assert!(sim(&disk.kill(), &clock).open().unwrap().contains("a").unwrap());
}

/// Found by attack: with the manifest and every segment gone, the folder was taken for a store under creation, and
/// every id was silently new again.
#[test]
fn i11_a_store_whose_manifest_and_log_were_gone_opened_as_a_new_one() {
    let (disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
    let store = sim_with(&disk, &clock, &blocks).open().unwrap();
    let _ = store.claim("a").unwrap();
    store.close().unwrap();
    disk.remove(&Path::new(AT).join("MANIFEST")).unwrap();
    let log = Path::new(AT).join("log");
    disk.list(&log).unwrap().iter().for_each(|name| disk.remove(&log.join(name)).unwrap());
    let opened = sim_with(&disk, &clock, &blocks).open();
    assert_eq!(opened.map(drop).map_err(|e| e.kind()), Err(ErrorKind::Repair));
}

/// Found by the model: a manifest listed a namespace whose record was not synced. A power cut took the record, the
/// namespace lived on in the manifest, and when that was lost too, repair found its ids without a name.
#[test]
fn i11_a_namespace_that_only_the_manifest_knew_was_lost_with_it() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).open().unwrap();
    store.namespace("orders").unwrap();
    store.namespace("payments").unwrap();
    clock.advance(Duration::from_secs(3_600));
    store.run_background().unwrap(); // persists the time
    let cut = disk.lose_unsynced();
    drop(store);
    let store = sim(&cut, &clock).open().unwrap();
    let _ = store.namespace("orders").unwrap().claim("a").unwrap();
    // Writes a record, which shows that its number is taken.
    let sliding = NamespaceOptions::new().ttl(hours(1)).sliding(true);
    store.namespace_with("payments", sliding).unwrap();
    store.close().unwrap();
    cut.remove(&Path::new(AT).join("MANIFEST")).unwrap();
    sim(&cut, &clock).repair().unwrap();
    let store = sim(&cut, &clock).open().unwrap();
    assert!(store.namespace("orders").unwrap().contains("a").unwrap());
}

/// Found by attack: a repair did not record how far its log was synced. Damage before the next manifest then looked
/// like a log that was never written, and every id was silently new again.
#[test]
fn i11_damage_after_a_repair_was_taken_for_a_log_that_was_never_written() {
    let segment = Path::new(AT).join("log/0000000001.seg");
    let flip = |disk: &SimDisk, at: u64| {
        let file = disk.open(&segment).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
        file.sync_data().unwrap();
    };
    let harms: [&dyn Fn(&SimDisk); 2] =
        [&|disk| flip(disk, 17), &|disk| disk.remove(&segment).unwrap()];
    for (harm, used_since) in [(0, false), (0, true), (1, false), (1, true)] {
        for count in [200, 20_000] {
            let (disk, clock) = (SimDisk::new(), clock());
            let builder =
                |disk: &SimDisk| sim(disk, &clock).segment_bytes(64 << 10).memtable_bytes(4 << 20);
            let open = |disk: &SimDisk| builder(disk).open();
            let store = open(&disk).unwrap();
            for first in (0..count).step_by(200) {
                store.claim_batch(&ids(first..first + 200)).unwrap();
            }
            store.sync().unwrap();
            let mut disk = disk.kill();
            flip(&disk, 4096 + 100);
            builder(&disk).repair().unwrap();
            if used_since {
                let store = open(&disk).unwrap();
                let _ = store.claim("since").unwrap();
                disk = disk.kill();
            }
            harms[harm](&disk);
            let opened = open(&disk).map(drop).map_err(|e| e.kind());
            assert_eq!(opened, Err(ErrorKind::Repair), "{harm} {used_since} {count}");
        }
    }
}

/// Found by attack: with a full block store, each block was rebuilt from the log for one lookup and evicted from a
/// small cache by the next, so a batch that needed more blocks than fit never ended.
#[test]
fn i12_a_batch_went_round_for_ever_when_its_blocks_could_not_be_kept() {
    let (disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
    let builder = sim_with(&disk, &clock, &blocks).shards(64).memtable_bytes(4 << 20);
    // With locators, the blocks would not be needed.
    let builder = builder.locator_ids_min(u64::MAX);
    let store = builder.wait_max(Duration::from_millis(200)).open().unwrap();
    for first in (0..200_000).step_by(10_000) {
        store.claim_batch(&ids(first..first + 10_000)).unwrap();
    }
    store.freeze();
    settle(&store);
    blocks.damage(|_| false);
    blocks.set_full(true);
    let (done, answer) = std::sync::mpsc::channel();
    let asked = store.clone();
    std::thread::spawn(move || {
        let batch = asked.claim_batch(&ids(0..20_000)).map(drop).map_err(|e| e.kind());
        let mut held = asked.reserve_batch(&ids(200_000..200_010)).unwrap();
        done.send((batch, held.confirm().is_ok())).ok();
    });
    let answered = answer.recv_timeout(Duration::from_secs(60)).expect("the batch ends");
    assert_eq!(answered, (Err(ErrorKind::StorageFull), true), "the cause, not a timeout");
    blocks.set_full(false);
    clock.advance(Duration::from_secs(2)); // a failed block store is not retried at once
    let answers = store.claim_batch(&ids(0..20_000)).unwrap();
    assert!(answers.iter().all(|answer| answer.is_duplicate()));
}

/// Found by attack: the thread that flushes the log's buffer gave up before that whenever it could not create a spare
/// segment, so on a full disk buffered claims stayed in the process.
#[test]
fn i6_what_was_buffered_stayed_in_the_process_while_the_disk_was_full() {
    let disk = SimDisk::new().without_mapping();
    let open = |disk: &SimDisk| {
        Store::builder(AT).disk(disk.clone()).seed([3; 16]).segment_bytes(64 << 10).open().unwrap()
    };
    let store = open(&disk);
    let wait = |what: &str, until: &dyn Fn() -> bool| {
        let waited = (0..10_000).find(|_| {
            std::thread::park_timeout(Duration::from_millis(1));
            until()
        });
        assert!(waited.is_some(), "{what}");
    };
    // The first segment and its spare, which is created with the first claim, and no space for more.
    claim_all_first(&store, 20_000..20_001);
    wait("a spare is created", &|| disk.list(&Path::new(AT).join("log")).unwrap().len() == 2);
    disk.set_capacity(Some(disk.used()));
    claim_all_first(&store, 0..2700); // into the spare
    let failures = store.stats().background_failures;
    wait("no further spare can be created", &|| store.stats().background_failures > failures + 1);
    let options = ClaimOptions::new().durability(firstseen::Durability::Buffered);
    for n in 10_000..10_100 {
        assert!(store.claim_with(id(n), options).unwrap().is_first_seen());
    }
    let failures = store.stats().background_failures;
    wait("the thread runs again", &|| store.stats().background_failures > failures + 3);
    let after = disk.kill();
    after.set_capacity(None);
    assert_seen(&open(&after), 10_000..10_100, true);
}

/// The ids of a refused batch were removed from the table only. On a full disk each retry took more memory, and past
/// 4 GB offsets wrapped around: ids that were never granted were duplicates.
#[test]
fn i1_i7_refused_batches_left_their_bytes_in_memory() {
    let open = |disk: &SimDisk| {
        let builder =
            sim(disk, &clock()).memtable_bytes(4 << 20).wait_max(Duration::from_millis(1));
        builder.open().unwrap()
    };
    let disk = SimDisk::new();
    let store = open(&disk);
    disk.set_capacity(Some(disk.used() + 1_000));
    let mut claimed = 0;
    while store.claim_batch(&ids(claimed..claimed + 5_000)).is_ok() {
        claimed += 5_000;
    }
    let taken = store.stats().memory_unflushed_bytes;
    for _ in 0..40 {
        let refused = store.claim_batch(&ids(claimed..claimed + 5_000)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::StorageFull);
    }
    assert_eq!(store.stats().memory_unflushed_bytes, taken);

    let store = open(&SimDisk::new());
    let held = store.reserve(id(5_000)).unwrap();
    for _ in 0..40 {
        let refused = store.claim_batch(&ids(1..5_001)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Retry);
    }
    assert_eq!(store.stats().memory_unflushed_bytes, 0);
    drop(held);
    assert!(store.claim_batch(&ids(1..5_001)).unwrap().iter().all(|answer| answer.is_first_seen()));
}

/// Found by attack: an imported claim is as old as the import says. An expired and swept claim of the same id was still
/// in the log, younger, and replaced it in a rebuild.
#[test]
fn i1_i10_an_imported_claim_was_lost_when_everything_was_built_again() {
    for (shards, lose_sled, repair) in [(4, false, false), (2, true, false), (2, false, true)] {
        let (disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
        let builder = |shards| sim_with(&disk, &clock, &blocks).shards(shards);
        let store = builder(2).open().unwrap();
        let ended = store.claim_with("a", ClaimOptions::new().ttl(seconds(1))).unwrap();
        assert!(ended.is_first_seen());
        let flush = |store: &Store| {
            store.freeze();
            settle(store);
        };
        flush(&store);
        clock.advance(Duration::from_secs(5));
        flush(&store);
        let long_ago = Timestamp::from_millis(NOW - 50_000);
        let entry = ImportEntry::new(b"a", long_ago, Timestamp::NEVER);
        assert_eq!(store.import("default", &[entry]).unwrap(), 1);
        flush(&store);
        store.close().unwrap();
        if lose_sled {
            blocks.clear();
        }
        if repair {
            builder(2).repair().unwrap();
        }
        let store = builder(shards).open().unwrap();
        let seen = store.get("a").unwrap().expect("is live");
        assert_eq!(seen.first_seen, long_ago);
        assert!(store.claim("a").unwrap().is_duplicate());
    }
}

/// Found by attack: a locator file that could not be removed kept its run's filter and all later clean-up waiting.
#[test]
fn a_locator_file_that_cannot_be_removed_kept_upkeep_from_going_on() {
    let (_dir, path) = place();
    let clock = clock();
    let builder = || small(Store::builder(&path)).clock(clock.clone()).ttl(seconds(10));
    let store = builder().locator_ids_min(0).open().unwrap();
    for from in [0, 100] {
        claim_all_first(&store, from..from + 100);
        store.freeze();
        settle(&store);
    }
    for file in files(&path.join("places")) {
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
    }
    clock.advance(Duration::from_secs(60));
    settle(&store);
    assert_eq!(store.stats().runs, 0);
    assert_eq!(files(&path.join("filters")), [] as [PathBuf; 0]);
}

/// Found by attack: a repair left a file in place of the filter folder, and the store would not open again.
#[test]
fn a_file_in_the_way_of_filters_or_locators_kept_a_store_from_opening() {
    for folder in ["filters", "places"] {
        let (_dir, path) = place();
        let builder = || small(Store::builder(&path)).locator_ids_min(0);
        let store = builder().open().unwrap();
        claim_all_first(&store, 0..1_000);
        store.freeze();
        settle(&store);
        store.close().unwrap();
        std::fs::remove_dir_all(path.join(folder)).unwrap();
        std::fs::write(path.join(folder), "in the way").unwrap();
        let store = builder().open().unwrap();
        assert_seen(&store, 0..1_000, true);
        claim_all_first(&store, 1_000..2_000);
        store.freeze();
        settle(&store);
        assert_sound(&store);
        store.close().unwrap();
    }
}
