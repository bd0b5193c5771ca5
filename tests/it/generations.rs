//! Generations: expired claims free their space while long-lived ones stay and claims go on.

use crate::support::*;
use firstseen::disk::sim::SimDisk;
use firstseen::{ClaimOptions, ManualClock, MemoryBlocks, Store, days, minutes};
use std::time::Duration;

struct World {
    disk: SimDisk,
    clock: ManualClock,
    blocks: MemoryBlocks,
}

impl World {
    fn new() -> Self {
        Self { disk: SimDisk::new(), clock: clock(), blocks: MemoryBlocks::default() }
    }

    fn open(&self) -> Store {
        let builder = sim_with(&self.disk, &self.clock, &self.blocks);
        builder.segment_bytes(32 << 10).memtable_bytes(32 << 10).open().expect("opens")
    }

    fn secs(&self, secs: u64) {
        self.clock.advance(Duration::from_secs(secs));
    }
}

/// Every tenth claim lives for a year, the others for a minute.
fn mixed(world: &World, store: &Store, numbers: std::ops::Range<u64>) {
    for n in numbers {
        let ttl = if n % 10 == 0 { days(365) } else { minutes(1) };
        let answer = store.claim_with(id(n), ClaimOptions::new().ttl(ttl)).expect("claims");
        assert!(answer.is_first_seen(), "id {n}");
        if n % 200 == 0 {
            world.secs(1);
            settle(store);
        }
    }
}

#[test]
fn long_claims_do_not_pin_the_space_of_short_ones() {
    let world = World::new();
    let store = world.open();
    mixed(&world, &store, 0..10_000);
    let early = store.stats();
    // Ten times as many: what expired must be gone, and the long-lived tenth stays.
    mixed(&world, &store, 10_000..100_000);
    world.secs(120);
    settle(&store);
    let late = store.stats();
    let long = 10_000;
    assert!(late.segments_removed > 20 && late.runs_expired > 20, "{early}\n{late}");
    assert!(late.log_bytes < long * 100 + (200 << 10), "{}", late.log_bytes);
    assert!(late.sled_bytes < long * 50 + (100 << 10), "{}", late.sled_bytes);
    assert!(late.memory_filter_bytes < long * 6, "{}", late.memory_filter_bytes);
    assert!(world.disk.used() < 3 << 20, "{} bytes", world.disk.used());
    let check = |store: &Store| {
        for n in (0..100_000).step_by(5) {
            assert_eq!(store.contains(id(n)).unwrap(), n % 10 == 0, "id {n}");
        }
        assert_sound(store);
    };
    check(&store);
    store.close().unwrap();
    check(&world.open());
    // And rebuilt from the log alone.
    check(&sim(&world.disk, &world.clock).segment_bytes(32 << 10).open().unwrap());
}

#[test]
fn a_store_whose_claims_have_all_ended_is_small_again() {
    let world = World::new();
    let store = world.open();
    for n in 0..50_000 {
        let _ = store.claim_with(id(n), ClaimOptions::new().ttl(minutes(1))).unwrap();
        if n % 500 == 0 {
            settle(&store);
        }
    }
    world.secs(120);
    settle(&store);
    let stats = store.stats();
    assert_eq!((stats.ids_flushed, stats.runs, stats.sled_bytes), (0, 0, 0), "{stats}");
    assert_eq!(stats.ids_unflushed, 0, "{stats}");
    assert!(stats.log_segments <= 6, "{stats}");
    assert_seen(&store, 0..1000, false);
    claim_all_first(&store, 0..1000);
}

#[test]
fn i4_sweeping_late_or_never_changes_no_answer() {
    for sweep in [false, true] {
        let world = World::new();
        let mut store = world.open();
        for life in 0..4u64 {
            for n in 0..1500 {
                let options = ClaimOptions::new().ttl(minutes(1 + n % 3));
                assert!(store.claim_with(id(n), options).unwrap().is_first_seen(), "life {life}");
                if n % 300 == 0 {
                    store.run_background().unwrap();
                }
            }
            world.secs(60);
            for n in 0..1500 {
                assert_eq!(store.contains(id(n)).unwrap(), n % 3 != 0, "life {life}, id {n}");
            }
            world.secs(120);
            if sweep {
                settle(&store);
            }
            assert_seen(&store, 0..1500, false);
            if life == 2 {
                drop(store);
                store = world.open();
            }
        }
    }
}

#[test]
fn forgotten_and_claimed_again_across_flush_merge_compaction_and_reopen() {
    let world = World::new();
    let mut store = world.open();
    let mut fresh = 1_000_000;
    let mut churn = |store: &Store| {
        for _ in 0..6_000 {
            let short = ClaimOptions::new().ttl(minutes(1));
            let _ = store.claim_with(id(fresh), short).expect("claims");
            fresh += 1;
            if fresh % 500 == 0 {
                world.secs(10);
                settle(store);
            }
        }
        world.secs(90);
        settle(store);
    };
    let mut live = vec![false; 300];
    for round in 0..12u64 {
        for n in 0..300u64 {
            let place = &mut live[n as usize];
            match (n + round) % 4 {
                0 => assert_eq!(store.forget(id(n)).unwrap(), std::mem::replace(place, false)),
                1 => assert_eq!(
                    store.claim(id(n)).unwrap().is_first_seen(),
                    !std::mem::replace(place, true)
                ),
                // Forgotten and claimed again within one millisecond.
                2 if *place => {
                    assert!(store.forget(id(n)).unwrap());
                    assert!(store.claim(id(n)).unwrap().is_first_seen());
                }
                _ => {}
            }
        }
        churn(&store);
        for (n, expected) in live.iter().enumerate() {
            assert_eq!(store.contains(id(n as u64)).unwrap(), *expected, "round {round}, id {n}");
        }
        if round % 3 == 2 {
            let stats = store.stats();
            assert!(stats.segments_removed > 0 && stats.ids_rewritten > 0, "{stats}");
            drop(store);
            store = world.open();
            for (n, expected) in live.iter().enumerate() {
                assert_eq!(store.contains(id(n as u64)).unwrap(), *expected, "reopened, id {n}");
            }
        }
    }
    assert_sound(&store);
}

#[test]
fn space_comes_back_on_the_real_disk_while_claims_go_on() {
    let (_dir, path) = place();
    let clock = clock();
    let builder = small(Store::builder(&path)).clock(clock.clone());
    let store = builder.segment_bytes(64 << 10).ttl(minutes(1)).open().unwrap();
    let size = || files(&path).iter().map(|f| f.metadata().map_or(0, |m| m.len())).sum::<u64>();
    let mut most = 0;
    for n in 0..scaled(100_000) {
        let _ = store.claim(id(n)).unwrap();
        if n % 500 == 0 {
            clock.advance(Duration::from_secs(1));
            settle(&store);
            most = most.max(if n < 40_000 { size() } else { 0 });
        }
    }
    let end = size();
    assert!(end < most * 2, "{end} bytes at the end, at most {most} in the first part");
    assert!(store.stats().log_file_bytes < 4 << 20, "{}", store.stats());
}
