//! Batches: same results as one by one, limits, all or nothing.

use crate::support::*;
use firstseen::disk::sim::SimDisk;
use firstseen::limits::{BATCH_BYTES_MAX, BATCH_IDS_MAX};
use firstseen::{ClaimOptions, ErrorKind, MemoryBlocks, Reserve, days, hours};
use std::collections::HashSet;
use std::time::Duration;

#[test]
fn i1_batches_answer_as_a_set_does_with_copies_inside_and_across() {
    let (disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
    let mut store = sim_with(&disk, &clock, &blocks).open().unwrap();
    let mut seen = HashSet::new();
    let mut x = 1u64;
    for round in 0..600 {
        let mut next = || {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (x >> 33) % 20_000
        };
        let batch: Vec<_> = (0..next() % 90).map(|_| id(next())).collect();
        let answers = store.claim_batch(&batch).unwrap();
        for (id, answer) in batch.iter().zip(&answers) {
            assert_eq!(answer.is_first_seen(), seen.insert(*id), "round {round}");
        }
        settle(&store);
        if round % 100 == 99 {
            drop(store);
            store = sim_with(&disk, &clock, &blocks).open().unwrap();
        }
    }
    assert!(store.stats().ids_flushed > 0);
    assert_sound(&store);
}

#[test]
fn a_batch_over_a_limit_is_refused_and_claims_nothing() {
    let (_dir, path) = place();
    let store = firstseen::Store::open(&path).unwrap();
    let many = ids(0..BATCH_IDS_MAX as u64 + 1);
    assert_eq!(store.claim_batch(&many).unwrap_err().kind(), ErrorKind::FixCall);
    assert_eq!(store.reserve_batch(&many).unwrap_err().kind(), ErrorKind::FixCall);
    let large: Vec<_> = (0..4097u32).map(|n| [n.to_le_bytes(); 256].concat()).collect();
    assert!(large.iter().map(Vec::len).sum::<usize>() > BATCH_BYTES_MAX);
    assert_eq!(store.claim_batch(&large).unwrap_err().kind(), ErrorKind::FixCall);
    assert_eq!(store.stats().ids_unflushed + store.stats().ids_reserved, 0);
    let first = |batch: &[_]| {
        let answers = store.claim_batch(batch).unwrap();
        answers.iter().filter(|a| a.is_first_seen()).count()
    };
    assert_eq!(first(&many[..BATCH_IDS_MAX]), BATCH_IDS_MAX, "exactly at the limit");
    assert_eq!(store.claim_batch(&large[..4096]).unwrap().len(), 4096);
    drop(store);
    let store = firstseen::Store::open(&path).unwrap();
    assert!(store.claim_batch(&many[..BATCH_IDS_MAX]).unwrap().iter().all(|a| a.is_duplicate()));
}

#[test]
fn an_empty_batch_is_answered_with_nothing() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).open().unwrap();
    assert_eq!(store.claim_batch::<&str>(&[]).unwrap(), []);
    let mut held = store.reserve_batch::<&str>(&[]).unwrap();
    assert!(held.answers().is_empty());
    held.confirm().unwrap();
}

#[test]
fn a_batch_larger_than_the_memory_of_a_store_is_claimed_whole() {
    let (disk, clock) = (SimDisk::new(), clock());
    let builder = || sim(&disk, &clock).segment_bytes(1 << 20);
    let store = builder().open().unwrap();
    for batch in 0..3 {
        let answers = store.claim_batch(&ids(batch * 8000..(batch + 1) * 8000)).unwrap();
        assert!(answers.iter().all(|a| a.is_first_seen()));
        settle(&store);
    }
    let options = ClaimOptions::new().ttl(days(1));
    let again = store.default_namespace().claim_batch_with(&ids(0..24_000), options).unwrap();
    assert!(again.iter().all(|a| a.is_duplicate()));
    drop(store);
    assert_seen(&builder().open().unwrap(), 0..24_000, true);
}

/// A refused batch must put back what its provisional entries replaced, tombstones included.
#[test]
fn i7_a_batch_that_is_refused_leaves_what_was_forgotten_forgotten() {
    let (disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
    let builder = sim_with(&disk, &clock, &blocks).wait_max(Duration::from_millis(50));
    let store = builder.open().unwrap();
    assert!(store.claim("a").unwrap().is_first_seen());
    store.freeze();
    settle(&store);
    assert!(store.forget("a").unwrap());
    let Reserve::FirstSeen(held) = store.reserve("b").unwrap() else { panic!("not new") };
    assert_eq!(store.claim_batch(&["a", "b"]).unwrap_err().kind(), ErrorKind::Retry);
    drop(held);
    assert!(!store.contains("a").unwrap());
}

/// Extensions are entered ahead of their record too, over claims in a run and in the memtable.
#[test]
fn i7_a_sliding_batch_that_is_refused_leaves_the_ends_as_they_were() {
    let (disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
    let builder = sim_with(&disk, &clock, &blocks).ttl(hours(1)).sliding(true);
    let store = builder.wait_max(Duration::from_millis(50)).open().unwrap();
    assert!(store.claim("a").unwrap().is_first_seen());
    store.freeze();
    settle(&store);
    assert!(store.claim("b").unwrap().is_first_seen());
    let ends = || ["a", "b"].map(|id| store.get(id).unwrap().unwrap().deadline);
    let before = ends();
    clock.advance(Duration::from_secs(60));
    let Reserve::FirstSeen(held) = store.reserve("c").unwrap() else { panic!("not new") };
    let refused = store.claim_batch(&["a", "b", "a", "c"]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Retry);
    assert_eq!(ends(), before);
    drop(held);
    let answers = store.claim_batch(&["a", "b", "a"]).unwrap();
    assert!(answers.iter().all(|answer| answer.is_duplicate()));
    assert!(ends().into_iter().zip(before).all(|(end, before)| end > before));
}

/// Segments are small on a small disk, so a batch may be larger than one.
#[test]
fn a_batch_that_is_larger_than_a_segment_gets_one_that_is_large_enough() {
    let disk = SimDisk::new();
    let builder = || sim(&disk, &clock()).segment_bytes(32 << 10).memtable_bytes(4 << 20);
    let open = || builder().open().unwrap();
    let store = open();
    for round in 0..3 {
        let first = round * 10_000;
        claim_all_first(&store, first..first + 10);
        let answers = store.claim_batch(&ids(first + 10..first + 6_000)).unwrap();
        assert!(answers.iter().all(|answer| answer.is_first_seen()));
        settle(&store);
    }
    assert_sound(&store);
    drop(store);
    let store = open();
    for round in 0..3 {
        assert_seen(&store, round * 10_000..round * 10_000 + 6_000, true);
    }
    claim_all_first(&store, 100_000..105_000);
    assert_sound(&store);
}
