//! What is sent, and what stays until it was.

use crate::snapshot::{Place, claim_many, claims_of, new_store, restored, segments};
use crate::support::{assert_seen, assert_sound, claim_all_first, clock, id, settle, sim};
use firstseen::disk::sim::SimDisk;
use firstseen::snapshot::{SnapshotOptions, list, verify};
use firstseen::{Durability, ErrorKind, Store};
use std::sync::Arc;

/// Claims until the log has this many segments more.
fn fill(store: &Store, from: &mut u64, segments: u64) {
    let goal = store.stats().log_segments + segments;
    while store.stats().log_segments < goal {
        claim_many(store, *from..*from + 100);
        *from += 100;
    }
}

#[test]
fn i15_only_segments_that_are_not_there_yet_are_sent() {
    let (disk, clock, store) = new_store();
    let (place, mut n) = (Place::default(), 0);
    fill(&store, &mut n, 3);
    let first = store.snapshot(&place).expect("a snapshot");
    assert_eq!((first.number, first.segments, first.segments_sent), (1, 4, 4));
    assert_eq!(place.take_stored().len(), 5, "the segments, and the index last");
    let idle = store.snapshot(&place).expect("a snapshot");
    assert_eq!((idle.number, idle.segments_sent, idle.bytes_sent), (2, 0, 0));
    claim_all_first(&store, n..n + 1);
    let one = store.snapshot(&place).expect("a snapshot");
    assert_eq!((one.segments, one.segments_sent), (4, 1), "the one that is being filled");
    assert!(one.bytes_sent < one.bytes / 3);
    n += 1;
    fill(&store, &mut n, 2);
    let two = store.snapshot(&place).expect("a snapshot");
    assert_eq!((two.segments, two.segments_sent), (6, 3), "that one again, now full, and two");
    // Another process does not know what was sent. It reads everything, and sends nothing again.
    store.close().expect("closes");
    let store = sim(&disk, &clock).open().expect("opens");
    assert_eq!(store.snapshot(&place).expect("a snapshot").segments_sent, 0);
    for number in 1..=5 {
        verify(&place, number).expect("whole");
    }
    let copy = restored(&place, &clock);
    assert_seen(&copy, 0..n, true);
    assert_sound(&copy);
    assert_eq!(claims_of(&copy), claims_of(&store));
}

/// A later sync notes in the last segment how far it came.
#[test]
fn i15_what_a_sync_notes_after_the_moment_of_a_snapshot_is_not_in_it() {
    let (_disk, clock, store) = new_store();
    let (store, mut n) = (Arc::new(store), 0);
    // A full segment is sent before the last one is read.
    fill(&store, &mut n, 1);
    let place = Arc::new(Place::default());
    let (during, from, mut is_first) = (Arc::clone(&store), n, true);
    place.before_put(move |_| {
        if std::mem::take(&mut is_first) {
            claim_all_first(&during, from..from + 10);
            during.sync().expect("syncs");
        }
        Ok(())
    });
    store.snapshot(&*place).expect("a snapshot");
    place.without_hook();
    let copy = restored(&*place, &clock);
    assert_seen(&copy, 0..n, true);
    assert_seen(&copy, n..n + 10, false);
    assert_sound(&copy);
}

#[test]
fn i15_what_compaction_frees_meanwhile_stays_until_it_was_copied() {
    let (disk, clock, store) = new_store();
    let store = Arc::new(store);
    let table = store.raw_table("hot").expect("opens");
    claim_all_first(&store, 0..500);
    let put = |table: &firstseen::table::RawTable, n: u8| {
        for round in 0..600_u32 {
            table.put(b"hot", [n; 1_000]).expect("puts");
            assert!(round < 600);
        }
    };
    put(&table, 1);
    let place = Arc::new(Place::default());
    let (during, in_hook, on) = (Arc::clone(&store), Arc::clone(&store), disk.clone());
    let mut calls = 0;
    place.before_put(move |_| {
        calls += 1;
        if calls > 1 {
            return Ok(());
        }
        // Everything that is being copied becomes worthless.
        let table = during.raw_table("hot").expect("opens");
        let before = segments(&on).len();
        for _ in 0..4 {
            put(&table, 2);
            in_hook.freeze();
            settle(&in_hook);
        }
        let removed = in_hook.stats().segments_removed;
        assert!(removed > 2, "compaction went on: {removed}");
        assert!(segments(&on).len() >= before, "and no file went");
        Ok(())
    });
    store.snapshot(&*place).expect("a snapshot");
    place.without_hook();
    let left = segments(&disk).len() as u64;
    let listed = store.stats().log_segments;
    // One is prepared ahead.
    assert!(left <= listed + 1, "what was kept is gone: {left} files, {listed} segments");
    let copy = restored(&*place, &clock);
    assert_seen(&copy, 0..500, true);
    let value = copy.raw_table("hot").expect("opens").get(b"hot").expect("reads");
    assert_eq!(value.expect("is there").value, [1; 1_000], "as it was when the call began");
}

#[test]
fn what_is_still_in_a_buffer_of_the_process_is_in_the_snapshot() {
    let (disk, clock) = (SimDisk::new().without_mapping(), clock());
    let store = sim(&disk, &clock).durability(Durability::Buffered).open().expect("opens");
    let place = Place::default();
    claim_all_first(&store, 0..10);
    store.snapshot(&place).expect("a snapshot");
    assert_seen(&restored(&place, &clock), 0..10, true);
}

#[test]
fn i15_keep_last_removes_older_snapshots_and_only_what_they_alone_need() {
    let (_disk, clock, store) = new_store();
    let (place, mut n) = (Place::default(), 0);
    for round in 1..=6 {
        fill(&store, &mut n, 1);
        let report = store.snapshot_with(&place, SnapshotOptions::new().keep_last(2));
        assert_eq!(report.expect("a snapshot").removed, u64::from(round > 2));
    }
    let kept: Vec<u64> = list(&place).expect("lists").iter().map(|info| info.number).collect();
    assert_eq!(kept, [5, 6]);
    for number in kept {
        verify(&place, number).expect("whole");
    }
    // Seven segments, and the one that was being filled at the fifth.
    assert_eq!(place.names().len(), 2 + 7 + 1);
    assert_seen(&restored(&place, &clock), 0..n, true);
}

/// The other one takes a snapshot, and removes old ones, while this one is under way.
#[test]
fn i15_of_two_snapshots_at_once_one_counts_and_the_other_hears_so() {
    let (_disk, clock, store) = new_store();
    let (store, place, mut n) = (Arc::new(store), Arc::new(Place::default()), 0);
    fill(&store, &mut n, 1);
    store.snapshot(&*place).expect("a snapshot");
    for keep in [None, Some(1)] {
        fill(&store, &mut n, 1);
        let (other, inside, mut calls) = (Arc::clone(&store), Arc::clone(&place), 0);
        place.before_put(move |name| {
            calls += 1;
            // Before the index, when all else is there.
            if name.starts_with("snapshots/") && calls < 100 {
                calls = 100;
                for round in 0..3 {
                    let options = SnapshotOptions::new();
                    let options = keep.map_or(options, |keep| options.keep_last(keep));
                    let id = format!("{keep:?}-{round}");
                    assert!(other.claim(id).expect("claims").is_first_seen());
                    other.snapshot_with(&*inside, options).expect("the other one");
                }
            }
            Ok(())
        });
        let error = store.snapshot(&*place).expect_err("the other one was faster");
        assert_eq!(error.kind(), ErrorKind::Retry, "{error}");
        place.without_hook();
        let newest = list(&*place).expect("lists").pop().expect("is there").number;
        verify(&*place, newest).expect("whole");
        let copy = restored(&*place, &clock);
        assert_seen(&copy, 0..n, true);
        assert!(copy.contains(format!("{keep:?}-2")).expect("reads"));
        store.snapshot_with(&*place, SnapshotOptions::new().keep_last(1)).expect("again");
        assert_eq!(list(&*place).expect("lists").len(), 1, "and nothing is left of the other");
    }
    assert!(!store.contains(id(n)).expect("reads"));
}
