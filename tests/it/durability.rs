//! I6: an acknowledgement means what its level says, for duplicates too. On a simulated disk, with and without mapping.

use crate::support::*;
use firstseen::disk::sim::SimDisk;
use firstseen::{
    Builder, Claim, ClaimOptions, Durability, ImportEntry, Reserve, Reserved, Store, Timestamp,
    minutes,
};
use std::time::Duration;

fn disks() -> [SimDisk; 2] {
    [SimDisk::new(), SimDisk::new().without_mapping()]
}

fn open(disk: &SimDisk) -> Store {
    builder(disk).open().expect("opens")
}

fn builder(disk: &SimDisk) -> Builder {
    sim(disk, &clock())
}

fn at(level: Durability) -> ClaimOptions {
    ClaimOptions::new().durability(level)
}

/// What the next open may find after a power cut.
fn power_cuts(disk: &SimDisk) -> impl Iterator<Item = SimDisk> {
    std::iter::once(disk.lose_unsynced()).chain((0..scaled(40)).map(|seed| disk.crash(seed)))
}

#[test]
fn i6_claims_at_disk_survive_every_power_cut() {
    for disk in disks() {
        let store = builder(&disk).durability(Durability::Disk).open().unwrap();
        claim_all_first(&store, 0..50);
        let _ = store.claim_batch(&ids(50..100)).unwrap();
        let mut held = store.reserve_batch(&ids(100..150)).unwrap();
        held.confirm().unwrap();
        assert!(store.forget(id(0)).unwrap());
        for n in 1000..1050 {
            let _ = store.claim_with(id(n), at(Durability::Process)).unwrap();
        }
        for after in power_cuts(&disk) {
            let store = open(&after);
            assert_seen(&store, 0..1, false);
            assert_seen(&store, 1..150, true);
            assert_sound(&store);
        }
    }
}

#[test]
fn i6_what_came_while_a_sync_was_under_way_is_not_covered_by_it() {
    for disk in disks() {
        let store = open(&disk);
        let other = store.clone();
        disk.after_next_sync(move || {
            let answer = other.claim_with(id(1), at(Durability::Process)).unwrap();
            assert!(answer.is_first_seen());
        });
        let _ = store.claim_with(id(0), at(Durability::Disk)).unwrap();
        assert!(store.contains(id(1)).unwrap(), "claimed during the sync");
        store.sync().unwrap();
        for after in power_cuts(&disk).take(10) {
            assert_seen(&open(&after), 0..2, true);
        }
    }
}

/// Claims enough to fill several small segments.
fn fill_segments(store: &Store) {
    for n in 0..3_000 {
        assert!(store.claim_with(id(n), at(Durability::Process)).unwrap().is_first_seen());
    }
}

#[test]
fn i6_a_segment_that_fills_while_a_sync_is_under_way_is_on_disk_after_the_next() {
    for disk in disks() {
        let store = builder(&disk).segment_bytes(32 << 10).memtable_bytes(4 << 20).open().unwrap();
        let _ = store.claim_with(id(10_000), at(Durability::Process)).unwrap();
        let other = store.clone();
        disk.after_next_sync(move || fill_segments(&other));
        store.sync().unwrap();
        assert!(store.stats().log_segments >= 3, "{}", store.stats());
        store.sync().unwrap();
        for after in power_cuts(&disk).take(10) {
            let store = open(&after);
            assert_seen(&store, 0..3_000, true);
            assert_sound(&store);
        }
    }
}

/// Closing syncs first and refuses claims afterwards; claims in between must be on disk as well.
#[test]
fn i6_what_was_claimed_while_a_store_was_closed_survives_a_power_cut() {
    for disk in disks() {
        let store = builder(&disk).segment_bytes(32 << 10).memtable_bytes(4 << 20).open().unwrap();
        let _ = store.claim_with(id(10_000), at(Durability::Process)).unwrap();
        let other = store.clone();
        disk.after_next_sync(move || fill_segments(&other));
        store.close().unwrap();
        for after in power_cuts(&disk).take(10) {
            let store = open(&after);
            assert_seen(&store, 0..3_000, true);
            assert_sound(&store);
        }
    }
}

#[test]
fn i6_a_duplicate_at_disk_is_as_durable_as_asked() {
    for disk in disks() {
        let store = open(&disk);
        let firsts = |numbers: std::ops::Range<u64>| {
            for n in numbers {
                let answer = store.claim_with(id(n), at(Durability::Buffered)).unwrap();
                assert!(answer.is_first_seen());
            }
        };
        firsts(0..10);
        assert!(store.claim_with(id(3), at(Durability::Disk)).unwrap().is_duplicate());
        for after in power_cuts(&disk).take(10) {
            assert_seen(&open(&after), 3..4, true);
        }
    }
    for disk in disks() {
        let store = open(&disk);
        let _ = store.claim_with(id(0), at(Durability::Process)).unwrap();
        let namespace = store.default_namespace();
        let batch = namespace.claim_batch_with(&[id(0)], at(Durability::Disk)).unwrap();
        assert!(batch[0].is_duplicate());
        for after in power_cuts(&disk).take(10) {
            assert_seen(&open(&after), 0..1, true);
        }
    }
    for disk in disks() {
        let store = builder(&disk).durability(Durability::Disk).open().unwrap();
        let _ = store.claim_with(id(0), at(Durability::Process)).unwrap();
        let _ = store.claim_with(id(1), at(Durability::Process)).unwrap();
        let held = store.reserve_batch(&[id(0)]).unwrap();
        assert!(matches!(held.answers()[0], Reserved::Duplicate { .. }));
        assert!(matches!(store.reserve(id(0)).unwrap(), Reserve::Duplicate { .. }));
        assert!(store.get(id(0)).unwrap().is_some());
        for after in power_cuts(&disk).take(10) {
            assert_seen(&open(&after), 0..1, true);
        }
    }
}

/// Each call on its own store: the sync of one would hide that another does not wait.
#[test]
fn i6_every_call_that_changes_something_waits_for_its_own_record() {
    type Call = fn(&Store);
    let calls: [(&str, Call, bool); 7] = [
        ("claim", |store| assert!(store.claim("b").unwrap().is_first_seen()), true),
        ("batch", |store| assert_eq!(store.claim_batch(&["b"]).unwrap(), [Claim::FirstSeen]), true),
        ("confirm", |store| store.reserve_batch(&["b"]).unwrap().confirm().unwrap(), true),
        ("forget", |store| assert!(store.forget("a").unwrap()), false),
        ("import", |store| assert_eq!(store.import("default", &[imported("b")]).unwrap(), 1), true),
        ("extension", |store| assert!(store.claim("a").unwrap().is_duplicate()), true),
        (
            "extending batch",
            |store| assert!(store.claim_batch(&["a"]).unwrap()[0].is_duplicate()),
            true,
        ),
    ];
    for disk in disks() {
        for (name, call, seen) in calls {
            let (disk, clock) = (disk.kill(), clock());
            let builder = || sim(&disk, &clock).durability(Durability::Disk).ttl(minutes(1));
            let store = builder().sliding(true).open().unwrap();
            let _ = store.claim("a").unwrap();
            clock.advance(Duration::from_secs(30));
            call(&store);
            let after = disk.lose_unsynced();
            drop(store);
            let store = sim(&after, &clock).open().unwrap();
            clock.advance(Duration::from_secs(if name.starts_with("exten") { 59 } else { 0 }));
            let id =
                if ["claim", "batch", "confirm", "import"].contains(&name) { "b" } else { "a" };
            assert_eq!(store.contains(id).unwrap(), seen, "{name}");
        }
    }
}

/// Each call on its own store again: a caller that learns of a claim at `Disk` may rely on it.
#[test]
fn i6_every_answer_that_tells_of_a_claim_waits_for_it() {
    type Call = fn(&Store) -> bool;
    let calls: [(&str, Call); 5] = [
        ("claim", |store| store.claim("a").unwrap().is_duplicate()),
        ("batch", |store| store.claim_batch(&["a"]).unwrap()[0].is_duplicate()),
        ("reserve", |store| matches!(store.reserve("a").unwrap(), Reserve::Duplicate { .. })),
        ("get", |store| store.get("a").unwrap().is_some()),
        ("contains", |store| store.contains("a").unwrap()),
    ];
    for disk in disks() {
        for (name, call) in calls {
            let disk = disk.kill();
            let store = builder(&disk).durability(Durability::Disk).open().unwrap();
            let _ = store.claim_with("a", at(Durability::Buffered)).unwrap();
            assert!(call(&store), "{name}");
            assert!(open(&disk.lose_unsynced()).contains("a").unwrap(), "{name}");
        }
    }
}

fn imported(id: &str) -> ImportEntry {
    let (first_seen, deadline) = (Timestamp::from_millis(NOW), Timestamp::NEVER);
    ImportEntry::new(id, first_seen, deadline)
}

/// A frozen memtable is still only in memory and in the log.
#[test]
fn i6_a_duplicate_at_disk_of_a_frozen_claim_is_as_durable_as_asked() {
    for disk in disks() {
        let store = open(&disk);
        claim_all_first(&store, 0..10);
        store.freeze();
        assert!(store.claim_with(id(3), at(Durability::Disk)).unwrap().is_duplicate());
        for after in power_cuts(&disk).take(10) {
            assert_seen(&open(&after), 3..4, true);
        }
    }
}

/// A duplicate of a flushed claim does not wait, so a flush must sync the log first: blocks alone promise nothing, and
/// every open here finds them gone (I10).
#[test]
fn i6_i10_what_is_flushed_is_on_disk_in_the_log_too() {
    for disk in disks() {
        let store = open(&disk);
        claim_all_first(&store, 0..10);
        store.freeze();
        settle(&store);
        assert_eq!(store.stats().ids_unflushed, 0);
        assert!(store.claim_with(id(3), at(Durability::Disk)).unwrap().is_duplicate());
        for after in power_cuts(&disk).take(10) {
            assert_seen(&open(&after), 3..4, true);
        }
    }
}

#[test]
fn i6_a_reader_at_disk_hears_only_of_what_is_on_disk() {
    for disk in disks() {
        let store = builder(&disk).durability(Durability::Disk).open().unwrap();
        let _ = store.claim_with(id(0), at(Durability::Process)).unwrap();
        assert!(store.contains(id(0)).unwrap());
        for after in power_cuts(&disk).take(10) {
            assert_seen(&open(&after), 0..1, true);
        }
    }
}

#[test]
fn i6_claims_at_process_survive_a_kill_and_duplicates_of_buffered_ones_too() {
    for disk in disks() {
        let store = open(&disk);
        for n in 0..100 {
            let _ = store.claim_with(id(n), at(Durability::Buffered)).unwrap();
        }
        assert!(store.claim_with(id(50), at(Durability::Process)).unwrap().is_duplicate());
        assert_seen(&open(&disk.kill()), 0..51, true);
    }
    for disk in disks() {
        let store = open(&disk);
        claim_all_first(&store, 0..50);
        let _ = store.claim_batch(&ids(50..100)).unwrap();
        let store = open(&disk.kill());
        assert_seen(&store, 0..100, true);
        assert_eq!(store.stats().cut_bytes, 0);
    }
}

#[test]
fn i6_buffered_claims_reach_the_system_within_the_flush_interval() {
    let disk = SimDisk::new().without_mapping();
    let store = Store::builder(AT)
        .disk(disk.clone())
        .durability(Durability::Buffered)
        .flush_interval(Duration::from_millis(20))
        .segment_bytes(256 << 10)
        .open()
        .unwrap();
    // Milliseconds slept until each claim is written; a busy machine only makes them fewer.
    let mut waits: Vec<u32> = (0..9)
        .map(|n| {
            let _ = store.claim(id(n)).unwrap();
            let before = disk.ops();
            let waited = (0..5_000).find(|_| {
                std::thread::park_timeout(Duration::from_millis(1));
                disk.ops() > before
            });
            waited.expect("nothing was written in five seconds")
        })
        .collect();
    waits.sort_unstable();
    assert!(waits[4] < 200, "the flush interval is 20 ms: {waits:?}");
    std::thread::park_timeout(Duration::from_millis(50));
    assert_seen(&open(&disk.kill()), 0..9, true);
}

#[test]
fn i6_sync_lifts_everything_before_it_to_disk() {
    for disk in disks() {
        let builder = builder(&disk).memtable_bytes(4 << 20);
        let store = builder.durability(Durability::Buffered).open().unwrap();
        for batch in 0..40 {
            // Enough to span several segments.
            let _ = store.claim_batch(&ids(batch * 500..(batch + 1) * 500)).unwrap();
        }
        store.sync().unwrap();
        let _ = store.claim(id(90_000)).unwrap();
        for after in power_cuts(&disk).take(8) {
            let store = open(&after);
            assert_seen(&store, 0..20_000, true);
        }
    }
}

#[test]
fn i6_claims_that_were_not_synced_are_lost_whole_or_not_at_all() {
    let mut lost = 0;
    for disk in disks() {
        let store = open(&disk);
        store.sync().unwrap();
        for batch in 0..20 {
            let _ = store.claim_batch(&ids(batch * 100..(batch + 1) * 100)).unwrap();
        }
        for after in power_cuts(&disk) {
            let store = open(&after);
            let mut gone = false;
            for batch in 0..20u64 {
                let numbers = batch * 100..(batch + 1) * 100;
                let seen = numbers.filter(|n| store.contains(id(*n)).unwrap()).count();
                assert!(seen == 0 || seen == 100, "a batch is one record: {seen} of 100");
                assert!(!(gone && seen > 0), "the log loses a tail, never a gap");
                gone = seen == 0;
            }
            lost += u64::from(gone);
        }
    }
    assert!(lost > 10, "the simulated disk lost something");
}

#[test]
fn one_sync_serves_many_threads() {
    let disk = SimDisk::new();
    let store = builder(&disk).durability(Durability::Disk).open().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let store = &store;
            scope.spawn(move || claim_all_first(store, thread * 200..(thread + 1) * 200));
        }
    });
    assert!(store.stats().log_syncs <= 1600, "at most one sync per claim");
    assert_seen(&open(&disk.lose_unsynced()), 0..1600, true);
}
