//! I1 and I3: one winner, ids byte for byte, and the limits of an id.

use crate::support::*;
use firstseen::limits::ID_BYTES_MAX;
use firstseen::{Claim, ErrorKind, Reserve, Reserved, Store};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const THREADS: u64 = 8;

/// Every thread claims every id, in its own order and with its own mix of calls. Returns how many were first.
fn stampede(store: &Store, n: u64) -> u64 {
    let first = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let first = &first;
            scope.spawn(move || first.fetch_add(run(store, thread, n), Ordering::Relaxed));
        }
    });
    first.into_inner()
}

fn run(store: &Store, thread: u64, n: u64) -> u64 {
    const STEP: u64 = 100;
    let mut first = 0;
    for block in 0..n / STEP {
        // Pairs of threads start at the same place, so that they collide.
        let at = (block + thread / 2 * (n / STEP / 4)) % (n / STEP) * STEP;
        let batch = ids(at..at + STEP);
        match (block + thread) % 3 {
            0 => first += batch.iter().filter(|id| claims(store, **id)).count() as u64,
            1 => {
                let answers = store.claim_batch(&batch).expect("claims");
                first += answers.iter().filter(|a| a.is_first_seen()).count() as u64;
            }
            _ => {
                let mut held = store.reserve_batch(&batch).expect("reserves");
                let count = held.answers().iter().filter(|a| **a == Reserved::FirstSeen).count();
                // Half of the reservations are abandoned.
                if block % 2 == 0 {
                    held.confirm().expect("confirms");
                    first += count as u64;
                }
                drop(held);
                first += batch.iter().filter(|id| claims(store, **id)).count() as u64;
            }
        }
    }
    first
}

fn claims(store: &Store, id: [u8; 16]) -> bool {
    store.claim(id).expect("claims").is_first_seen()
}

fn open(path: &Path) -> Store {
    Store::builder(path).memory_budget(4 << 20).open().expect("opens")
}

#[test]
fn i1_eight_threads_find_each_id_new_once_across_flush_and_reopen() {
    let n = scaled(100_000);
    let (_dir, path) = place();
    let store = open(&path);
    assert_eq!(stampede(&store, n), n);
    let stats = store.stats();
    assert!(stats.runs_flushed > 8, "a small budget forces flushes: {stats}");
    assert_eq!(stats.first_seen, n);
    assert_eq!(stampede(&store, n), 0, "again, flushed ids included");
    assert_sound(&store);
    store.close().unwrap();
    let store = open(&path);
    assert_eq!(stampede(&store, n), 0, "after a reopen");
}

#[test]
fn i1_eight_threads_find_each_id_new_once_per_life() {
    let n = scaled(20_000);
    let (_dir, path) = place();
    let clock = clock();
    let builder = || Store::builder(&path).memory_budget(4 << 20).clock(clock.clone());
    let mut store = builder().ttl(Duration::from_secs(60)).open().unwrap();
    for life in 0..3 {
        assert_eq!(stampede(&store, n), n, "life {life}");
        clock.advance(Duration::from_millis(59_999));
        assert_eq!(stampede(&store, n), 0, "life {life}, its last millisecond");
        clock.advance(Duration::from_millis(1));
        if life == 1 {
            store.close().unwrap();
            store = builder().ttl(Duration::from_secs(60)).open().unwrap();
        }
    }
}

#[test]
fn i1_one_id_from_eight_threads_has_one_winner_every_time() {
    let (_dir, path) = place();
    let store = open(&path);
    for round in 0..scaled(500) {
        let winners: usize = std::thread::scope(|scope| {
            let claim = || usize::from(store.claim(id(round)).expect("claims").is_first_seen());
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(claim)).collect();
            threads.into_iter().map(|t| t.join().expect("no panic")).sum()
        });
        assert_eq!(winners, 1, "round {round}");
    }
}

#[test]
fn i3_ids_of_every_length_and_shape_are_told_apart() {
    let (disk, clock) = (firstseen::disk::sim::SimDisk::new(), clock());
    let store = sim(&disk, &clock).open().unwrap();
    let mut all: Vec<Vec<u8>> = (1..=ID_BYTES_MAX).map(|len| vec![0; len]).collect();
    all.extend((0..=255u8).map(|b| vec![b; 1]).skip(1));
    all.extend([b"a\0".to_vec(), b"\0a".to_vec(), vec![0xff; ID_BYTES_MAX]]);
    for id in &all {
        assert!(store.claim(id).unwrap().is_first_seen(), "{} bytes", id.len());
        settle(&store);
    }
    drop(store);
    for _ in 0..2 {
        let store = sim(&disk, &clock).open().unwrap();
        assert!(all.iter().all(|id| store.claim(id).unwrap().is_duplicate()));
        assert_sound(&store);
        assert!(!store.contains(vec![1; ID_BYTES_MAX]).unwrap());
    }
}

#[test]
fn an_id_without_bytes_or_with_too_many_is_refused_by_every_call() {
    let (disk, clock) = (firstseen::disk::sim::SimDisk::new(), clock());
    let store = sim(&disk, &clock).open().unwrap();
    for bad in [vec![], vec![7; ID_BYTES_MAX + 1]] {
        let kinds = [
            store.claim(&bad).unwrap_err().kind(),
            store.contains(&bad).unwrap_err().kind(),
            store.get(&bad).unwrap_err().kind(),
            store.forget(&bad).unwrap_err().kind(),
            store.reserve(&bad).unwrap_err().kind(),
            store.claim_batch(&[b"good".to_vec(), bad.clone()]).unwrap_err().kind(),
            store.reserve_batch(&[b"good".to_vec(), bad.clone()]).unwrap_err().kind(),
        ];
        assert_eq!(kinds, [ErrorKind::FixCall; 7]);
    }
    assert!(!store.contains("good").unwrap(), "a refused batch claims nothing");
    assert!(matches!(store.reserve("good").unwrap(), Reserve::FirstSeen(_)), "and holds nothing");
}

#[test]
fn a_duplicate_knows_when_the_first_was_seen() {
    let (disk, clock) = (firstseen::disk::sim::SimDisk::new(), clock());
    let store = sim(&disk, &clock).open().unwrap();
    assert_eq!(store.claim("a").unwrap(), Claim::FirstSeen);
    clock.advance(Duration::from_secs(5));
    let first_seen = firstseen::Timestamp::from_millis(NOW);
    assert_eq!(store.claim("a").unwrap(), Claim::Duplicate { first_seen });
    let answers = store.claim_batch(&["a", "b", "b"]).unwrap();
    let later = firstseen::Timestamp::from_millis(NOW + 5000);
    let duplicate = |first_seen| Claim::Duplicate { first_seen };
    assert_eq!(answers, [duplicate(first_seen), Claim::FirstSeen, duplicate(later)]);
}

#[test]
fn i12_claims_over_the_bound_on_memory_wait_and_then_say_so() {
    let (disk, clock) = (firstseen::disk::sim::SimDisk::new(), clock());
    // Nothing flushes, so both shards fill their active and frozen memtables.
    let store = sim(&disk, &clock).wait_max(Duration::from_millis(20)).open().unwrap();
    let refused = (0..20_000).find_map(|n| Some((n, store.claim(id(n)).err()?)));
    let (claimed, error) = refused.expect("memory is bounded");
    assert_eq!(error.kind(), ErrorKind::Retry, "{error}");
    assert!(store.stats().memory_unflushed_bytes <= 4 * (64 << 10), "{}", store.stats());
    let batch = store.claim_batch(&ids(30_000..30_500)).unwrap_err();
    assert_eq!(batch.kind(), ErrorKind::Retry, "{batch}");
    assert_seen(&store, 0..claimed, true);
    assert_seen(&store, 30_000..30_500, false);
    settle(&store);
    claim_all_first(&store, claimed..claimed + 100);
}
