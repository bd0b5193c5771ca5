//! I10: whatever happens to the folders `sled`, `filters` and `places`, no result changes.

use crate::support::*;
use firstseen::disk::Disk;
use firstseen::disk::sim::{Fault, SimDisk};
use firstseen::{ClaimOptions, MemoryBlocks, Store, hours, minutes};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const N: u64 = 6_000;

fn builder(path: &Path) -> firstseen::Builder {
    small(Store::builder(path)).segment_bytes(64 << 10).memtable_bytes(16 << 10)
}

fn open(path: &Path) -> Store {
    builder(path).open().expect("opens")
}

/// Claims the even ids of a range and forgets every tenth of those. Some are flushed, some are not.
fn fill(store: &Store, from: u64, to: u64) {
    for n in (from..to).step_by(2) {
        let _ = store.claim(id(n)).expect("claims");
        if n % 20 == 0 {
            assert!(store.forget(id(n)).expect("forgets"));
        }
        if n % 500 == 0 {
            settle(store);
        }
    }
}

fn seen(n: u64) -> bool {
    n.is_multiple_of(2) && !n.is_multiple_of(20)
}

fn check(path: &Path, what: &str) {
    let store = open(path);
    for n in 0..N {
        assert_eq!(store.contains(id(n)).expect("reads"), seen(n), "{what}: id {n}");
    }
    // Damage heals at the read that hits it or in later background work.
    for n in N..N + 4000 {
        assert!(store.claim(id(n)).expect("claims").is_first_seen(), "{what}: id {n}");
        if n % 500 == 0 {
            settle(&store);
        }
    }
    settle(&store);
    store.close().unwrap_or_else(|e| panic!("{what}: {e}"));
    let store = open(path);
    for n in 0..N + 4000 {
        let expected = if n < N { seen(n) } else { true };
        assert_eq!(store.contains(id(n)).expect("reads"), expected, "{what}, again: id {n}");
    }
}

/// A closed store, and an older copy of its sled folder.
fn model() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let (dir, path) = place();
    let store = open(&path);
    fill(&store, 0, N / 2);
    store.close().expect("closes");
    let old = dir.path().join("old");
    copy_dir(&path.join("sled"), &old);
    let store = open(&path);
    fill(&store, N / 2, N);
    assert!(store.stats().runs >= 2, "{}", store.stats());
    store.close().expect("closes");
    (dir, path, old)
}

fn vandalise(what: &str, harm: impl Fn(&Path)) {
    let (_dir, path, _) = model();
    harm(&path);
    check(&path, what);
}

#[test]
fn i10_sled_folder_deleted_between_two_runs_changes_no_answer() {
    vandalise("deleted", |path| fs::remove_dir_all(path.join("sled")).unwrap());
    vandalise("empty", |path| {
        fs::remove_dir_all(path.join("sled")).unwrap();
        fs::create_dir(path.join("sled")).unwrap();
    });
    vandalise("a file", |path| {
        fs::remove_dir_all(path.join("sled")).unwrap();
        fs::write(path.join("sled"), "in the way").unwrap();
    });
}

#[test]
fn i10_an_older_copy_of_the_sled_folder_changes_no_answer() {
    let (_dir, path, old) = model();
    fs::remove_dir_all(path.join("sled")).unwrap();
    copy_dir(&old, &path.join("sled"));
    check(&path, "an older copy");
}

#[test]
fn i10_the_sled_folder_of_another_store_changes_no_answer() {
    let (_dir, path, _) = model();
    let (_other_dir, other) = place();
    // Same seed, shard count and run numbers but other ids: only the mark tells the stores apart.
    let store = open(&other);
    for n in 1_000_000..1_020_000 {
        let _ = store.claim(id(n)).unwrap();
        if n % 200 == 0 {
            settle(&store);
        }
    }
    store.close().unwrap();
    fs::remove_dir_all(path.join("sled")).unwrap();
    copy_dir(&other.join("sled"), &path.join("sled"));
    let store = small(Store::builder(&path)).open().unwrap();
    let wrong = (0..N).filter(|n| store.contains(id(*n)).unwrap() != seen(*n)).count();
    assert_eq!(wrong, 0);
}

#[test]
fn i10_a_truncated_sled_file_changes_no_answer() {
    let (dir, path, _) = model();
    let db = path.join("sled/db");
    let len = fs::metadata(&db).unwrap().len();
    for part in 0..6 {
        let copy = dir.path().join(format!("cut-{part}"));
        copy_dir(&path, &copy);
        let file = fs::OpenOptions::new().write(true).open(copy.join("sled/db")).unwrap();
        file.set_len(len * part / 6 + part * 7).unwrap();
        check(&copy, &format!("truncated to {part}/6"));
    }
}

#[test]
fn i10_flipped_bits_in_the_sled_folder_change_no_answer() {
    let (dir, path, _) = model();
    for file in files(&path.join("sled")) {
        let name = file.strip_prefix(&path).unwrap().to_owned();
        let len = fs::metadata(&file).unwrap().len();
        for part in 0..4 {
            let copy = dir.path().join("flipped");
            copy_dir(&path, &copy);
            let mut bytes = fs::read(copy.join(&name)).unwrap();
            // One bit at the start of each quarter; in the last, a whole stretch.
            let at = (len * part / 4) as usize;
            let width = if part == 3 { 2000 } else { 1 };
            bytes.iter_mut().skip(at).take(width).for_each(|b| *b ^= 0x10);
            fs::write(copy.join(&name), bytes).unwrap();
            check(&copy, &format!("{} flipped at {at}", name.display()));
            fs::remove_dir_all(&copy).unwrap();
        }
    }
}

#[test]
fn i10_single_files_missing_from_the_sled_folder_change_no_answer() {
    let (dir, path, _) = model();
    for file in files(&path.join("sled")) {
        let name = file.strip_prefix(&path).unwrap().to_owned();
        let copy = dir.path().join("missing");
        copy_dir(&path, &copy);
        fs::remove_file(copy.join(&name)).unwrap();
        check(&copy, &format!("{} missing", name.display()));
        fs::remove_dir_all(&copy).unwrap();
    }
    let snapshot = path.join("sled/snap.00000000DEADBEEF.generating");
    fs::write(snapshot, "half a snapshot").unwrap();
    check(&path, "a snapshot that was never finished");
}

#[test]
fn i10_sled_folder_deleted_or_overwritten_while_open_changes_no_answer() {
    for overwrite in [false, true] {
        let (_dir, path) = place();
        let builder = || builder(&path).background(true).wait_max(Duration::from_secs(20));
        let store = builder().open().unwrap();
        let round = |from: u64| {
            for n in from..from + 10_000 {
                assert!(store.claim(id(n)).unwrap().is_first_seen(), "id {n}");
            }
            for n in 0..from + 10_000 {
                assert!(store.claim(id(n)).unwrap().is_duplicate(), "id {n}");
            }
        };
        round(0);
        if overwrite {
            let db = path.join("sled/db");
            let len = fs::metadata(&db).unwrap().len();
            fs::write(&db, vec![0xa5; len as usize]).unwrap();
        } else {
            fs::remove_dir_all(path.join("sled")).unwrap();
        }
        round(10_000);
        // This last write may fail; nothing may be lost by it.
        store.close().ok();
        let store = builder().open().unwrap();
        assert_seen(&store, 0..20_000, true);
        assert_sound(&store);
    }
}

#[test]
fn i2_damaged_missing_and_foreign_filters_change_no_answer() {
    vandalise("no filters", |path| fs::remove_dir_all(path.join("filters")).unwrap());
    vandalise("flipped filters", |path| {
        for file in files(&path.join("filters")) {
            let mut bytes = fs::read(&file).unwrap();
            let at = bytes.len() / 2;
            bytes[at] ^= 1;
            fs::write(&file, bytes).unwrap();
        }
    });
    vandalise("empty filters", |path| {
        files(&path.join("filters")).iter().for_each(|file| fs::write(file, "").unwrap());
    });
    vandalise("filters of other runs", |path| {
        let all = files(&path.join("filters"));
        let bytes = fs::read(&all[0]).unwrap();
        all[1..].iter().for_each(|file| fs::write(file, &bytes).unwrap());
    });
    vandalise("no filters and no sled", |path| {
        fs::remove_dir_all(path.join("filters")).unwrap();
        fs::remove_dir_all(path.join("sled")).unwrap();
    });
}

/// Opens a store that writes a locator file for every run.
fn with_locators(path: &Path) -> Store {
    builder(path).locator_ids_min(0).open().expect("opens")
}

fn check_with_locators(path: &Path, what: &str) {
    let store = with_locators(path);
    for n in 0..N {
        assert_eq!(store.contains(id(n)).expect("reads"), seen(n), "{what}: id {n}");
    }
    for n in (1..N).step_by(2) {
        assert!(store.claim(id(n)).expect("claims").is_first_seen(), "{what}: id {n}");
        if n % 500 == 1 {
            settle(&store);
        }
    }
    store.freeze();
    settle(&store);
    for n in 0..N {
        let expected = seen(n) || n % 2 == 1;
        assert_eq!(store.contains(id(n)).expect("reads"), expected, "{what}, later: id {n}");
    }
    assert_sound(&store);
}

#[test]
fn i10_damaged_missing_and_foreign_locator_files_change_no_answer() {
    type Harm<'a> = (&'a str, &'a dyn Fn(&Path));
    let flip = |path: &Path, step: usize| {
        for file in files(path) {
            let mut bytes = fs::read(&file).unwrap();
            bytes.iter_mut().step_by(step).for_each(|byte| *byte ^= 0x40);
            fs::write(&file, bytes).unwrap();
        }
    };
    let harms: [Harm<'_>; 9] = [
        ("whole", &|_| ()),
        ("gone", &|path| fs::remove_dir_all(path.join("places")).unwrap()),
        ("a file in the way", &|path| {
            fs::remove_dir_all(path.join("places")).unwrap();
            fs::write(path.join("places"), "in the way").unwrap();
        }),
        ("a flipped bit in each kilobyte", &|path| flip(&path.join("places"), 1024)),
        ("flipped behind the head", &|path| {
            for file in files(&path.join("places")) {
                let mut bytes = fs::read(&file).unwrap();
                // The head's length is stored in it.
                let head = 24 + u64::from_le_bytes(bytes[8..16].try_into().unwrap()) as usize;
                bytes.iter_mut().skip(head).step_by(40).for_each(|byte| *byte ^= 0x40);
                fs::write(&file, bytes).unwrap();
            }
        }),
        ("cut", &|path| {
            for file in files(&path.join("places")) {
                let bytes = fs::read(&file).unwrap();
                fs::write(&file, &bytes[..bytes.len() * 2 / 3]).unwrap();
            }
        }),
        ("each in the place of the next", &|path| {
            let all = files(&path.join("places"));
            let bytes: Vec<_> = all.iter().map(|file| fs::read(file).unwrap()).collect();
            for (file, bytes) in all.iter().zip(bytes.iter().cycle().skip(1)) {
                fs::write(file, bytes).unwrap();
            }
        }),
        ("gone, and sled with them", &|path| {
            fs::remove_dir_all(path.join("places")).unwrap();
            fs::remove_dir_all(path.join("sled")).unwrap();
        }),
        ("whole, and sled flipped", &|path| flip(&path.join("sled"), 4096)),
    ];
    for (what, harm) in harms {
        let (_dir, path) = place();
        let store = with_locators(&path);
        fill(&store, 0, N);
        store.freeze();
        settle(&store);
        store.close().unwrap();
        assert!(files(&path.join("places")).len() >= 2);
        harm(&path);
        check_with_locators(&path, what);
    }
}

/// Locators find duplicates in the log, so damaged blocks do not have to heal.
#[test]
fn i3_i10_where_locations_are_known_a_duplicate_needs_no_block() {
    let (disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
    let builder = || sim_with(&disk, &clock, &blocks).segment_bytes(64 << 10).locator_ids_min(0);
    let store = builder().open().unwrap();
    claim_all_first(&store, 0..1_000);
    // Ids of a batch are not at the end of their record.
    assert!(store.claim_batch(&ids(1_000..2_000)).unwrap().iter().all(|c| c.is_first_seen()));
    store.freeze();
    settle(&store);
    claim_all_first(&store, 2_000..3_000);
    let held = store.reserve_batch(&ids(3_000..3_100)).unwrap();
    drop(held);
    let mut held = store.reserve_batch(&ids(3_000..3_100)).unwrap();
    held.confirm().unwrap();
    // These are replayed from the log.
    drop((held, store));
    let store = builder().open().unwrap();
    store.freeze();
    settle(&store);
    // Enough small runs to be merged.
    for from in (4_000..4_800).step_by(100) {
        claim_all_first(&store, from..from + 100);
        store.freeze();
        settle(&store);
    }
    assert!(store.stats().merges > 0, "{}", store.stats());
    store.close().unwrap();
    blocks.damage(|_| false);
    let store = builder().open().unwrap();
    let numbers = || (0..3_100).chain(4_000..4_800);
    for n in numbers() {
        assert!(store.claim(id(n)).unwrap().is_duplicate(), "id {n}");
    }
    let stats = store.stats();
    assert_eq!((stats.log_reads, stats.block_reads, stats.heals), (3_900, 0, 0), "{stats}");
    // The locator rejects a filter's false positives without a block.
    for n in 10_000..60_000 {
        assert!(!store.contains(id(n)).unwrap(), "id {n}");
    }
    let stats = store.stats();
    assert!(stats.filter_false_positives > 3, "{stats}");
    assert_eq!((stats.block_reads, stats.heals), (0, 0), "{stats}");
    // A damaged id in the log is left to its block, which heals from the log or reports the damage.
    drop(store);
    let segments = disk.list(Path::new("/s/log")).unwrap();
    let first = disk.open(&Path::new("/s/log").join(&segments[0])).unwrap();
    first.write_all_at(&[0xff; 64], 4096 + 200).unwrap();
    let store = builder().open().unwrap();
    let mut told = 0;
    for n in numbers() {
        match store.claim(id(n)) {
            Ok(claim) => assert!(claim.is_duplicate(), "id {n}"),
            Err(e) => {
                assert_eq!(e.kind(), firstseen::ErrorKind::Repair, "{e}");
                told += 1;
            }
        }
    }
    assert!((1..10).contains(&told), "{told}");
}

/// Compaction removes segments that locators point into.
#[test]
fn i10_where_the_log_was_compacted_the_blocks_answer() {
    let (disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
    let builder = || sim_with(&disk, &clock, &blocks).segment_bytes(32 << 10).locator_ids_min(0);
    let store = builder().open().unwrap();
    for n in 0..4_000 {
        let ttl = if n % 10 == 0 { hours(9_000) } else { minutes(1) };
        let _ = store.claim_with(id(n), ClaimOptions::new().ttl(ttl)).unwrap();
        if n % 500 == 0 {
            settle(&store);
        }
    }
    let read = |store: &Store| {
        for n in (0..4_000).step_by(10) {
            assert!(store.contains(id(n)).unwrap(), "id {n}");
        }
    };
    store.freeze();
    settle(&store);
    // Reopen: freshly flushed blocks are still cached.
    store.close().unwrap();
    let store = builder().open().unwrap();
    read(&store);
    let before = store.stats();
    assert_eq!((before.log_reads, before.block_reads), (400, 0), "{before}");
    clock.advance(Duration::from_secs(600));
    for _ in 0..20 {
        settle(&store);
    }
    assert!(store.stats().segments_removed > 2, "{}", store.stats());
    read(&store);
    store.close().unwrap();
    let store = builder().open().unwrap();
    read(&store);
    let stats = store.stats();
    assert!(stats.block_reads > 0 && stats.heals == 0, "{stats}");
}

/// What sled's own checks miss: whole values that are wrong or missing.
#[test]
fn i10_altered_swapped_and_missing_blocks_are_noticed_and_healed() {
    type Harm = fn(&sled::Db, &[sled::IVec]);
    let harms: [(&str, Harm); 4] = [
        ("a bit flipped in each block", |db, keys| {
            for (i, key) in keys.iter().enumerate() {
                let mut bytes = db.get(key).unwrap().unwrap().to_vec();
                let at = i * 131 % bytes.len();
                bytes[at] ^= 4;
                db.insert(key, bytes).unwrap();
            }
        }),
        ("each block in the place of the next", |db, keys| {
            let values: Vec<_> = keys.iter().map(|key| db.get(key).unwrap().unwrap()).collect();
            for (key, value) in keys.iter().zip(values.iter().cycle().skip(1)) {
                db.insert(key, value).unwrap();
            }
        }),
        ("every third block missing", |db, keys| {
            keys.iter().step_by(3).for_each(|key| drop(db.remove(key).unwrap()));
        }),
        ("every block cut", |db, keys| {
            for key in keys {
                let bytes = db.get(key).unwrap().unwrap();
                db.insert(key, &bytes[..bytes.len() - 1]).unwrap();
            }
        }),
    ];
    for (what, harm) in harms {
        vandalise(what, |path| {
            let db = sled::open(path.join("sled")).unwrap();
            // Block keys are twelve bytes long; the mark's key is not.
            let keys: Vec<_> = db.iter().keys().map(|key| key.unwrap()).collect();
            let keys: Vec<_> = keys.into_iter().filter(|key| key.len() == 12).collect();
            assert!(keys.len() > 4);
            harm(&db, &keys);
            db.flush().unwrap();
        });
    }
}

/// Compaction rewrites claims behind the tombstones that cancel them, and tombstones behind those. So the last record
/// of an id need not be the one that counts, and healing and rebuilding need both.
#[test]
fn i10_what_is_healed_or_rebuilt_after_compaction_is_what_counts() {
    for scattered in [false, true] {
        let (disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
        let open = || sim_with(&disk, &clock, &blocks).segment_bytes(32 << 10).open().unwrap();
        let store = open();
        // Every tenth claim lives long, so that little of each segment stays live.
        let claim = |numbers: std::ops::Range<u64>| {
            for n in numbers {
                let ttl = if n % 10 == 0 { hours(9_000) } else { minutes(1) };
                let _ = store.claim_with(id(n), ClaimOptions::new().ttl(ttl)).unwrap();
                if n % 500 == 0 {
                    settle(&store);
                }
            }
        };
        claim(0..10_000);
        for n in (0..10_000).step_by(20) {
            assert!(store.forget(id(n)).unwrap());
            // Tombstones scattered among short claims are rewritten too; tombstones in one stretch stay.
            if scattered {
                claim(10_000 + n..10_020 + n);
            }
        }
        clock.advance(Duration::from_secs(600));
        claim(20_000..22_000);
        store.freeze();
        settle(&store);
        assert!(store.stats().ids_rewritten > 500, "{}", store.stats());
        // Flush what compaction wrote: replaying it would read the blocks damaged below.
        store.freeze();
        settle(&store);
        store.close().unwrap();
        let check = |store: &Store, how: &str| {
            for n in (0..10_000).step_by(10) {
                let seen = store.contains(id(n)).unwrap();
                assert_eq!(seen, n % 20 != 0, "{how}, scattered: {scattered}, id {n}");
            }
        };
        let store = open();
        blocks.damage(|_| false);
        check(&store, "healed");
        assert!(store.stats().blocks_healed > 0, "{}", store.stats());
        store.close().unwrap();
        blocks.clear();
        let store = open();
        check(&store, "rebuilt");
        assert_eq!(store.stats().rebuilds, 1);
    }
}

/// Found by a lookup, not by opening, which would rebuild everything.
#[test]
fn i10_a_damaged_block_heals_at_the_read_that_needs_it() {
    let (disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
    let open = || sim_with(&disk, &clock, &blocks).open().unwrap();
    let store = open();
    claim_all_first(&store, 0..2_000);
    store.freeze();
    settle(&store);
    store.close().unwrap();
    let store = open();
    let mut number = 0;
    blocks.damage(|block| {
        number += 131;
        // Behind the head: a damaged head would not even match its key.
        let at = 32 + number % (block.len() - 32);
        block[at] ^= 4;
        true
    });
    assert_seen(&store, 0..2_000, true);
    assert_seen(&store, 2_000..4_000, false);
    let stats = store.stats();
    assert!(stats.blocks_healed > 4 && stats.rebuilds == 0, "{stats}");
}

/// After a power cut, blocks and filters of a run that crashed before any manifest listed it may come back, intact and
/// with a valid checksum. A later run with the same number must not take them for its own.
#[test]
fn i2_i10_a_run_left_by_a_crash_does_not_pass_for_a_later_one() {
    // Run and bucket, as stored in a block.
    let name = |block: &[u8]| block[8..20].to_vec();
    let mut crashes = 0;
    for call in 0.. {
        let (disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
        let store = sim_with(&disk, &clock, &blocks).open().unwrap();
        claim_all_first(&store, 0..200);
        store.freeze();
        disk.fail_at(disk.ops() + call, Fault::Crash, true);
        if store.run_background().is_ok() {
            break;
        }
        let mut left = Vec::new();
        blocks.copy().damage(|block| {
            left.push(block.clone());
            true
        });
        crashes += usize::from(!left.is_empty());
        let disk = disk.kill();
        let open = || sim_with(&disk, &clock, &blocks).open().unwrap();
        let store = open();
        claim_all_first(&store, 200..400);
        store.freeze();
        settle(&store);
        assert_eq!(store.stats().ids_unflushed, 0);
        store.close().unwrap();
        blocks.damage(|block| {
            if let Some(old) = left.iter().find(|old| name(old) == name(block)) {
                block.clone_from(old);
            }
            true
        });
        assert_seen(&open(), 0..400, true);
    }
    assert!(crashes > 2, "{crashes} crashes left blocks behind");
}

#[test]
fn locator_files_go_with_their_runs_and_strays_at_the_next_opening() {
    let (disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
    let builder = || sim_with(&disk, &clock, &blocks).ttl(minutes(1)).locator_ids_min(10);
    let there = || disk.list(Path::new("/s/places")).unwrap().len() as u64;
    let store = builder().open().unwrap();
    for from in (0..1_000).step_by(100) {
        claim_all_first(&store, from..from + 100);
        store.freeze();
        settle(&store);
        assert_eq!(there(), store.stats().runs, "locators of merged runs are removed");
    }
    claim_all_first(&store, 1_000..1_005);
    store.freeze();
    settle(&store);
    assert_eq!(there() + 2, store.stats().runs, "small runs have none");
    clock.advance(Duration::from_secs(120));
    settle(&store);
    assert_eq!((there(), store.stats().runs), (0, 0));
    store.close().unwrap();
    disk.create_new(Path::new("/s/places/0000000000000007.plc")).unwrap();
    let store = builder().open().unwrap();
    assert_eq!(there(), 0);
    drop(store);
}

/// Each disk call for a locator file fails once, as on a full disk: the run is flushed without one, no part is left.
#[test]
fn i7_i10_where_a_locator_file_cannot_be_written_its_run_does_without() {
    let flushed = |fault_at: Option<u64>| {
        let (disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
        let builder = sim_with(&disk, &clock, &blocks).locator_ids_min(0).shards(1);
        let store = builder.open().unwrap();
        claim_all_first(&store, 0..1_000);
        store.freeze();
        let before = disk.ops();
        if let Some(number) = fault_at {
            disk.fail_at(number, Fault::Error(std::io::ErrorKind::StorageFull), false);
        }
        disk.set_trace(true);
        store.run_background().unwrap();
        let steps = disk.trace();
        assert_seen(&store, 0..1_000, true);
        assert_seen(&store, 1_000..1_100, false);
        assert_sound(&store);
        assert_eq!(store.stats().runs, 1);
        let left = disk.list(Path::new("/s/places")).unwrap().len();
        let of_places = steps.into_iter().filter(|step| step.what.contains(".plc"));
        let numbers: Vec<u64> = of_places.map(|step| step.number).filter(|n| *n > before).collect();
        (numbers, left)
    };
    let (numbers, left) = flushed(None);
    assert_eq!(left, 1);
    assert!(numbers.len() >= 3, "removed, created, written: {numbers:?}");
    for number in numbers {
        assert_eq!(flushed(Some(number)).1, 0, "call {number}");
    }
}
