//! Interrupted repairs, and what must not pass for an empty store (I11).

use crate::support::*;
use firstseen::disk::Disk;
use firstseen::disk::sim::{Fault, SimDisk};
use firstseen::{
    Builder, ErrorKind, ManualClock, MemoryBlocks, NamespaceOptions, Store, days, hours,
};
use std::path::Path;
use std::time::Duration;

const DIR: &str = "/s";

fn builder(disk: &SimDisk) -> Builder {
    Store::builder(DIR).disk(disk.clone()).background(false).seed([3; 16]).segment_bytes(1 << 16)
}

/// A killed store with 200 synced claims, and damage in the middle of them.
fn damaged() -> SimDisk {
    let disk = SimDisk::new();
    let store = builder(&disk).open().unwrap();
    for n in 0..200 {
        let _ = store.claim(id(n)).unwrap();
    }
    store.sync().unwrap();
    let disk = disk.kill();
    let segment = disk.open(Path::new("/s/log/0000000001.seg")).unwrap();
    segment.write_all_at(&[0xff; 40], 4096 + 1000).unwrap();
    segment.sync_data().unwrap();
    disk
}

#[test]
fn i11_a_missing_first_segment_is_no_empty_store() {
    let disk = SimDisk::new();
    let store = builder(&disk).open().unwrap();
    let _ = store.claim(b"a").unwrap();
    store.sync().unwrap();
    let disk = disk.kill();
    disk.remove(Path::new("/s/log/0000000001.seg")).unwrap();
    assert_eq!(builder(&disk).open().unwrap_err().kind(), ErrorKind::Repair);
    // A report of zero bytes would read as if nothing had been lost.
    let said = builder(&disk).repair().unwrap().to_string();
    assert!(said.contains("lost      an unknown number of bytes in 1 range\n"), "{said}");
    assert!(said.contains("0000000001.seg is missing; how much it held is not known"), "{said}");
}

#[test]
fn i11_repair_stopped_at_any_call_is_noticed_and_done_again() {
    let disk = damaged();
    assert_eq!(builder(&disk).open().unwrap_err().kind(), ErrorKind::Repair);
    let saved = {
        let disk = disk.kill();
        builder(&disk).repair().unwrap();
        let store = builder(&disk).open().unwrap();
        (0..200).filter(|n| store.contains(id(*n)).unwrap()).count()
    };
    assert!((150..200).contains(&saved), "{saved} of 200 claims saved");

    let mut stopped = 0;
    for call in 0.. {
        // A fresh copy each time: `kill` keeps everything written.
        let disk = damaged();
        disk.fail_at(disk.ops() + call, Fault::Crash, true);
        let ended = builder(&disk).repair().is_ok();
        for seed in 0..4 {
            let disk = disk.crash(seed);
            match builder(&disk).open() {
                Ok(store) => {
                    let found = (0..200).filter(|n| store.contains(id(*n)).unwrap()).count();
                    assert_eq!(found, saved, "call {call}, seed {seed}: opened with other claims");
                }
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::Repair, "call {call}, seed {seed}: {e}");
                    builder(&disk).repair().unwrap_or_else(|e| panic!("call {call}, {seed}: {e}"));
                    let store = builder(&disk).open().unwrap();
                    let found = (0..200).filter(|n| store.contains(id(*n)).unwrap()).count();
                    assert_eq!(found, saved, "call {call}, seed {seed}: repaired to other claims");
                }
            }
        }
        if ended {
            break;
        }
        stopped += 1;
    }
    assert!(stopped > 20, "repair makes more calls than {stopped}");
}

/// The manifest describes the old log: what it counts as flushed is something else in the new one. So it must be gone
/// for good before the new log moves in, even if names reach the disk in any order.
#[test]
fn i11_the_old_manifest_never_lies_over_the_repaired_log() {
    const N: u64 = 800;
    let clock = clock();
    let builder = |disk: &SimDisk, blocks: &MemoryBlocks| sim_with(disk, &clock, blocks);
    let damaged = || {
        let (disk, blocks) = (SimDisk::new().without_name_order(), MemoryBlocks::default());
        let store = builder(&disk, &blocks).open().unwrap();
        claim_all_first(&store, 0..N / 2);
        store.freeze();
        settle(&store);
        claim_all_first(&store, N / 2..N);
        store.sync().unwrap();
        let disk = disk.kill();
        let segment = disk.open(Path::new("/s/log/0000000001.seg")).unwrap();
        segment.write_all_at(&[0xff; 4_000], 4096).unwrap();
        segment.sync_data().unwrap();
        (disk, blocks)
    };
    let open = |disk: &SimDisk, blocks: &MemoryBlocks| builder(disk, blocks).open();
    let seen = |store: &Store| -> Vec<u64> {
        (0..N).filter(|n| store.contains(id(*n)).unwrap()).collect()
    };
    let (disk, blocks) = damaged();
    assert_eq!(open(&disk.kill(), &blocks).unwrap_err().kind(), ErrorKind::Repair);
    let (disk, blocks) = damaged();
    let start = disk.ops();
    disk.set_trace(true);
    builder(&disk, &blocks).repair().unwrap();
    let steps = disk.trace();
    let moved = steps.iter().find(|step| step.what.starts_with("rename /s/MANIFEST to "));
    let saved = seen(&open(&disk, &blocks).unwrap());
    assert!(saved.len() as u64 > N / 2 && saved.len() as u64 <= N - 100, "{} saved", saved.len());

    for call in moved.expect("repair moves the manifest away").number - start.. {
        let (disk, blocks) = damaged();
        disk.fail_at(disk.ops() + call, Fault::Crash, true);
        let ended = builder(&disk, &blocks).repair().is_ok();
        for seed in 0..scaled(100) {
            let (disk, blocks) = (disk.crash(seed), blocks.copy());
            if let Err(e) = open(&disk, &blocks) {
                assert_eq!(e.kind(), ErrorKind::Repair, "call {call}, seed {seed}: {e}");
                builder(&disk, &blocks).repair().unwrap();
            }
            let found = seen(&open(&disk, &blocks).unwrap());
            assert!(found == saved, "call {call}, seed {seed}: {} claims", found.len());
        }
        if ended {
            break;
        }
    }
}

#[test]
fn i11_repair_searches_behind_long_damage_in_seconds() {
    let disk = SimDisk::new();
    let store = builder(&disk).open().unwrap();
    for n in 0..120_000 {
        let _ = store.claim(id(n)).unwrap();
    }
    store.sync().unwrap();
    let disk = disk.kill();
    let mut noise = vec![0; 1 << 20];
    let mut x = 1u64;
    for byte in &mut noise {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *byte = (x >> 56) as u8;
    }
    let segment = disk.open(Path::new("/s/log/0000000001.seg")).unwrap();
    segment.write_all_at(&noise, 4096 + 1000).unwrap();
    segment.sync_data().unwrap();
    let report = builder(&disk).repair().unwrap();
    assert!(report.lost_bytes >= 1 << 20 && report.saved_records > 10_000, "{report}");
}

/// Their numbers are stored with the ids, their names and settings in records of their own.
#[test]
fn i11_repair_without_a_manifest_keeps_namespaces_apart() {
    let disk = SimDisk::new();
    let store = builder(&disk).open().unwrap();
    for name in ["second", "first"] {
        let options = NamespaceOptions::new().ttl(hours(7));
        assert!(store.namespace_with(name, options).unwrap().claim(name).unwrap().is_first_seen());
    }
    store.close().unwrap();
    disk.remove(Path::new("/s/MANIFEST")).unwrap();
    assert!(builder(&disk).repair().unwrap().manifest_rebuilt);
    let store = builder(&disk).open().unwrap();
    for (name, other) in [("first", "second"), ("second", "first")] {
        let namespace = store.namespace(name).unwrap();
        assert!(namespace.contains(name).unwrap() && !namespace.contains(other).unwrap(), "{name}");
        assert!(namespace.claim("new").unwrap().is_first_seen());
        let seen = namespace.get("new").unwrap().unwrap();
        assert_eq!(seen.deadline.as_millis() - seen.first_seen.as_millis(), 7 * 3_600_000);
    }
}

#[test]
fn i11_repair_says_so_when_nothing_tells_whose_store_it_is() {
    let disk = damaged();
    disk.remove(Path::new("/s/MANIFEST")).unwrap();
    for name in disk.list(Path::new("/s/log")).unwrap() {
        let segment = disk.open(&Path::new("/s/log").join(name)).unwrap();
        segment.write_all_at(&[0; 4096], 0).unwrap();
        segment.sync_data().unwrap();
    }
    let error = builder(&disk).repair().unwrap_err();
    assert!(error.to_string().contains("neither its manifest nor any segment"), "{error}");
    assert_eq!(builder(&disk).open().unwrap_err().kind(), ErrorKind::Repair);
}

/// Claims of two namespaces, one of them named in a damaged record; those of the store's own namespace have expired.
fn damaged_with_names(clock: &ManualClock) -> SimDisk {
    let disk = SimDisk::new();
    let store = builder(&disk).clock(clock.clone()).ttl(hours(1)).shards(2).open().unwrap();
    let payments = store.namespace_with("payments", NamespaceOptions::new().ttl(days(7))).unwrap();
    for n in 0..100 {
        assert!(payments.claim(id(n)).unwrap().is_first_seen());
        assert!(store.claim(id(n)).unwrap().is_first_seen());
    }
    // In steps: a single jump would not be believed.
    for _ in 0..6 {
        clock.advance(Duration::from_secs(3_000));
        let _ = store.contains(id(0)).unwrap();
    }
    store.close().unwrap();
    let segment = disk.open(Path::new("/s/log/0000000001.seg")).unwrap();
    segment.write_all_at(&[0xff; 8], 4096 + 4).unwrap();
    segment.sync_data().unwrap();
    disk
}

/// A repair set the manifest aside, and the next one did not look there: what only the manifest knew was lost. The next
/// new namespace then got the number of one whose name was lost, and its claims with it.
#[test]
fn i1_i5_i11_a_repair_that_was_cut_off_forgot_names_and_time() {
    let mut stopped = 0;
    for call in 0.. {
        let clock = clock();
        let disk = damaged_with_names(&clock);
        let builder = |disk: &SimDisk, clock: &ManualClock| {
            builder(disk).clock(clock.clone()).ttl(hours(1)).shards(2)
        };
        assert_eq!(builder(&disk, &clock).open().unwrap_err().kind(), ErrorKind::Repair);
        disk.fail_at(disk.ops() + call, Fault::Crash, true);
        let ended = builder(&disk, &clock).repair().is_ok();
        for seed in 0..3 {
            let disk = disk.crash(seed);
            let store = builder(&disk, &clock).open().or_else(|_| {
                builder(&disk, &clock).repair().unwrap_or_else(|e| panic!("call {call}: {e}"));
                // The clock was set back meanwhile: what expired stays expired.
                builder(&disk, &self::clock()).open()
            });
            let store = store.unwrap_or_else(|e| panic!("call {call}, seed {seed}: {e}"));
            let other = store.namespace("other").unwrap();
            let payments = store.namespace("payments").unwrap();
            for n in 0..100 {
                assert!(
                    payments.contains(id(n)).unwrap(),
                    "call {call}, seed {seed}, id {n}: forgotten"
                );
                assert!(
                    !other.contains(id(n)).unwrap(),
                    "call {call}, seed {seed}, id {n}: never seen"
                );
                assert!(!store.contains(id(n)).unwrap(), "call {call}, seed {seed}, id {n}: ended");
            }
        }
        if ended {
            break;
        }
        stopped += 1;
    }
    assert!(stopped > 20, "repair makes more calls than {stopped}");
}

/// The name is lost for good; its number must still not go to the next new namespace.
#[test]
fn i1_i11_claims_of_a_namespace_whose_name_is_lost_are_nobody_elses() {
    let clock = clock();
    let disk = damaged_with_names(&clock);
    disk.remove(Path::new("/s/MANIFEST")).unwrap();
    disk.sync_dir(Path::new(DIR)).unwrap();
    let builder = || builder(&disk).clock(clock.clone());
    let report = builder().repair().unwrap();
    assert_eq!(report.renamed_namespaces, ["recovered-1"]);
    assert!(
        report.to_string().contains("namespace recovered-1: the original name is lost"),
        "{report}"
    );
    let store = builder().open().unwrap();
    let (other, recovered) =
        (store.namespace("other").unwrap(), store.find_namespace("recovered-1").unwrap());
    for n in 0..100 {
        assert!(recovered.contains(id(n)).unwrap() && !other.contains(id(n)).unwrap(), "id {n}");
    }
}

/// An unreadable manifest must not replace a readable one that was set aside.
#[test]
fn i11_a_readable_manifest_that_is_aside_stays_there() {
    let clock = clock();
    let disk = damaged_with_names(&clock);
    let at = |name: &str| Path::new(DIR).join(name);
    disk.rename(&at("MANIFEST"), &at("MANIFEST.damaged")).unwrap();
    let file = disk.create_new(&at("MANIFEST")).unwrap();
    file.write_all_at(b"nothing that anybody has written", 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new(DIR)).unwrap();
    let good = disk.read(&at("MANIFEST.damaged")).unwrap();
    builder(&disk).clock(clock.clone()).repair().unwrap();
    assert_eq!(disk.read(&at("MANIFEST.damaged")).unwrap(), good);
    assert!(disk.read(&at("MANIFEST.unreadable")).is_ok());
    let store = builder(&disk).clock(clock).open().unwrap();
    assert!(store.find_namespace("payments").unwrap().contains(id(7)).unwrap());
}

/// Repair reported "lost at least 0 bytes in 1 place" when a whole segment was gone.
#[test]
fn i11_repair_says_what_is_known_of_missing_segments() {
    const N: u64 = 6_000;
    for gone in [vec![1], vec![3], vec![1, 2, 4]] {
        let (disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
        let builder = || sim_with(&disk, &clock, &blocks).segment_bytes(32 << 10);
        let store = builder().open().unwrap();
        for from in (0..N).step_by(500) {
            claim_all_first(&store, from..from + 500);
            store.freeze();
            settle(&store);
        }
        store.close().unwrap();
        for number in &gone {
            disk.remove(Path::new(&format!("/s/log/{number:010}.seg"))).unwrap();
        }
        let report = builder().repair().unwrap();
        let missing: Vec<u32> = report.missing_segments.iter().map(|m| m.number).collect();
        assert_eq!(missing, gone);
        let told: u64 = report.missing_segments.iter().filter_map(|m| m.ids_estimate).sum();
        let lost = N - report.saved_records;
        assert!(lost > 1_000 * gone.len() as u64 && told.abs_diff(lost) < lost / 20, "{report}");
        let held: u64 = report.missing_segments.iter().filter_map(|m| m.bytes).sum();
        assert!(held > lost * 16 && report.lost_bytes == held, "{report}");
        let said = report.to_string();
        assert!(
            said.contains(&format!("lost      {held} bytes in {} range", gone.len())),
            "{said}"
        );
        let store = builder().open().unwrap();
        let here = (0..N).filter(|n| store.contains(id(*n)).unwrap()).count() as u64;
        assert_eq!(here, report.saved_records);
    }
}

/// The error recommended a repair, which then failed. Flushed claims are rescued from the blocks.
#[test]
fn i11_a_store_without_its_log_folder_is_repaired() {
    for flushed in [0, 500] {
        let (disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
        let builder =
            |disk: &SimDisk, clock: &ManualClock| sim_with(disk, clock, &blocks).ttl(hours(1));
        let store = builder(&disk, &clock).open().unwrap();
        let weekly = NamespaceOptions::new().ttl(days(7));
        let payments = store.namespace_with("payments", weekly).unwrap();
        for n in 0..flushed {
            assert!(payments.claim(id(n)).unwrap().is_first_seen());
        }
        store.freeze();
        settle(&store);
        claim_all_first(&store, 0..50);
        store.sync().unwrap();
        let disk = disk.kill();
        // A log set aside by an earlier repair is not this store's log.
        let old = Path::new("/s/log.damaged-001");
        disk.create_dir_all(old).unwrap();
        for name in disk.list(Path::new("/s/log")).unwrap() {
            let bytes = disk.read(&Path::new("/s/log").join(&name)).unwrap();
            let file = disk.create_new(&old.join(&name)).unwrap();
            file.write_all_at(&bytes, 0).unwrap();
        }
        disk.remove_dir_all(Path::new("/s/log")).unwrap();
        let error = builder(&disk, &clock).open().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Repair, "{error}");
        // Opening may have recreated the folder.
        disk.remove_dir_all(Path::new("/s/log")).unwrap();
        let report = builder(&disk, &clock).repair().unwrap();
        assert_eq!((report.saved_records, report.rescued_records), (0, flushed), "{report}");
        assert!(!report.missing_segments.is_empty(), "{report}");
        assert!(report.to_string().contains("0000000001.seg is missing"), "{report}");
        assert_eq!(report.to_string().contains("rescued   500 records"), flushed > 0, "{report}");
        assert!(report.old_log.is_some(), "a sign that something was wrong");

        // Time does not run backwards, and namespaces keep their settings.
        clock.jump_to(firstseen::Timestamp::from_millis(NOW - 60_000));
        let store = builder(&disk, &clock).open().unwrap();
        // Its name is in the manifest once anything was flushed; until then it was only in the lost log.
        let payments = match flushed {
            0 => store.namespace("payments").unwrap(),
            _ => store.find_namespace("payments").unwrap(),
        };
        for n in 0..500 {
            assert_eq!(payments.contains(id(n)).unwrap(), n < flushed, "id {n}");
        }
        assert_seen(&store, 0..50, false);
        claim_all_first(&store, 0..50);
        let seen = store.get(id(0)).unwrap().unwrap();
        assert!(seen.first_seen.as_millis() >= NOW, "the manifest knows the time");
        assert_sound(&store);
    }
}

/// A forgotten id was granted once, so nothing is granted twice by this; but a caller of `forget` does not expect it.
#[test]
fn i1_i11_a_forgotten_id_whose_tombstone_is_lost_is_a_duplicate_again_and_repair_says_so() {
    let disk = SimDisk::new();
    let store = builder(&disk).open().unwrap();
    for n in 0..100 {
        let _ = store.claim(id(n)).unwrap();
    }
    for n in 0..100 {
        assert!(store.forget(id(n)).unwrap());
    }
    store.close().unwrap();
    let segment = disk.open(Path::new("/s/log/0000000001.seg")).unwrap();
    // Behind the claims, among the tombstones.
    let claims = 4096 + 100 * 24;
    segment.write_all_at(&[0xff; 200], claims + 600).unwrap();
    let report = builder(&disk).repair().unwrap();
    assert!(report.forgotten_may_return, "{report}");
    assert!(report.to_string().contains("forgotten ids may be duplicates again"), "{report}");
    let store = builder(&disk).open().unwrap();
    let back = (0..100).filter(|n| store.contains(id(*n)).unwrap()).count();
    assert!((1..50).contains(&back), "{back} are duplicates again");
    for n in 0..100 {
        store.forget(id(n)).unwrap();
    }
    claim_all_first(&store, 0..100);
    drop(store);
    let report = builder(&disk).repair().unwrap();
    assert!(!report.forgotten_may_return, "nothing was wrong: {report}");
}

/// Restoring a backup, as GUARANTEES says: the store goes back to the moment of the copy.
#[test]
fn i2_i5_an_older_copy_that_is_put_back_is_the_store_of_that_moment() {
    let (_keep, path) = place();
    let backup = path.with_extension("backup");
    let clock = clock();
    let open = || Store::builder(&path).ttl(days(7)).clock(clock.clone()).background(false).open();
    let flush = |store: &Store| {
        store.freeze();
        settle(store);
    };
    let runs = || -> std::collections::BTreeSet<_> {
        let names = std::fs::read_dir(path.join("filters")).unwrap();
        names.map(|entry| entry.unwrap().file_name()).collect()
    };
    let store = open().unwrap();
    claim_all_first(&store, 0..3_000);
    assert!(store.forget(id(0)).unwrap());
    flush(&store);
    store.close().unwrap();
    copy_dir(&path, &backup);
    let in_copy = runs();

    clock.advance(Duration::from_secs(3_600));
    let store = open().unwrap();
    claim_all_first(&store, 3_000..6_000);
    assert!(store.forget(id(1)).unwrap());
    flush(&store);
    store.close().unwrap();
    let since: std::collections::BTreeSet<_> = runs().difference(&in_copy).cloned().collect();
    assert!(!since.is_empty());
    std::fs::remove_dir_all(&path).unwrap();
    copy_dir(&backup, &path);

    let store = open().unwrap();
    assert_seen(&store, 1..3_000, true);
    assert!(!store.contains(id(0)).unwrap(), "forgotten before the copy was made");
    assert_seen(&store, 3_000..6_000, false);
    claim_all_first(&store, 4_000..7_000);
    let seen = store.get(id(4_000)).unwrap().unwrap();
    assert_eq!(seen.first_seen.as_millis(), NOW + 3_600_000, "the wall clock is right");
    flush(&store);
    assert!(runs().is_disjoint(&since), "run numbers are never reused, whatever was restored");
    assert_sound(&store);
    store.close().unwrap();
    let store = open().unwrap();
    assert_seen(&store, 1..3_000, true);
    assert_seen(&store, 4_000..7_000, true);
}
