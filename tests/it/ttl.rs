//! I4: a claim is live while now < deadline, wherever its record is and whenever a sweep runs.

use crate::support::*;
use firstseen::disk::sim::SimDisk;
use firstseen::{
    ClaimOptions, ErrorKind, ManualClock, MemoryBlocks, NamespaceOptions, Store, Timestamp, Ttl,
    days, minutes, seconds,
};
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

    fn builder(&self) -> firstseen::Builder {
        sim_with(&self.disk, &self.clock, &self.blocks)
    }

    fn ms(&self, ms: u64) {
        self.clock.advance(Duration::from_millis(ms));
    }
}

/// Claims enough ids to flush what was claimed before.
fn flush(store: &Store) {
    for n in 500_000..504_000 {
        let _ = store.claim(id(n)).unwrap();
        if n % 500 == 0 {
            settle(store);
        }
    }
    settle(store);
    assert!(store.stats().ids_flushed > 0);
}

#[test]
fn i4_deadlines_are_exact_to_the_millisecond_open_flushed_and_reopened() {
    for flushed in [false, true] {
        for reopened in [false, true] {
            for sweep in [false, true] {
                let world = World::new();
                let mut store = world.builder().ttl(days(30)).open().unwrap();
                // All in one generation, each with its own deadline.
                for n in 0..50 {
                    let options = ClaimOptions::new().ttl(Ttl::from_millis(60_000 + n));
                    assert!(store.claim_with(id(n), options).unwrap().is_first_seen());
                }
                if flushed {
                    flush(&store);
                }
                if reopened {
                    drop(store);
                    store = world.builder().ttl(days(30)).open().unwrap();
                }
                world.ms(59_999);
                for n in 0..50 {
                    assert_seen(&store, n..50, true);
                    world.ms(1);
                    if sweep {
                        settle(&store);
                    }
                    assert_seen(&store, 0..n + 1, false);
                    assert!(store.claim(id(n)).unwrap().is_first_seen());
                    assert_eq!(store.forget(id(n)).ok(), Some(true));
                }
            }
        }
    }
}

#[test]
fn i4_get_tells_first_seen_and_deadline() {
    let world = World::new();
    let store = world.builder().ttl(minutes(1)).open().unwrap();
    let _ = store.claim("a").unwrap();
    let seen = store.get("a").unwrap().unwrap();
    assert_eq!(seen.first_seen, Timestamp::from_millis(NOW));
    assert_eq!(seen.deadline, Timestamp::from_millis(NOW + 60_000));
    flush(&store);
    assert_eq!(store.get("a").unwrap(), Some(seen), "the same from a block");
    world.ms(60_000);
    assert_eq!(store.get("a").unwrap(), None);
}

#[test]
fn i4_with_a_fixed_ttl_a_duplicate_does_not_move_the_end() {
    let world = World::new();
    let store = world.builder().ttl(minutes(1)).open().unwrap();
    let _ = store.claim("a").unwrap();
    world.ms(59_999);
    assert!(store.claim("a").unwrap().is_duplicate());
    assert!(store.claim_batch(&["a"]).unwrap()[0].is_duplicate());
    world.ms(1);
    assert!(store.claim("a").unwrap().is_first_seen());
}

#[test]
fn i4_with_a_sliding_ttl_every_duplicate_moves_the_end() {
    let world = World::new();
    let mut store = world.builder().ttl(minutes(1)).sliding(true).open().unwrap();
    let _ = store.claim("a").unwrap();
    for round in 0..20 {
        world.ms(59_999);
        match round % 3 {
            0 => assert!(store.claim("a").unwrap().is_duplicate(), "round {round}"),
            1 => assert!(store.claim_batch(&["a", "a"]).unwrap()[0].is_duplicate()),
            _ => {
                flush(&store);
                drop(store);
                store = world.builder().ttl(minutes(1)).sliding(true).open().unwrap();
                assert!(store.claim("a").unwrap().is_duplicate(), "round {round}, reopened");
            }
        }
        let seen = store.get("a").unwrap().unwrap();
        assert_eq!(seen.first_seen, Timestamp::from_millis(NOW));
    }
    world.ms(60_000);
    assert!(store.claim("a").unwrap().is_first_seen());
}

#[test]
fn i4_each_claim_and_each_namespace_has_its_own_ttl() {
    let world = World::new();
    let mut store = world.builder().ttl(days(1)).open().unwrap();
    let options = NamespaceOptions::new().ttl(seconds(10));
    let short = store.namespace_with("short", options).unwrap();
    let _ = short.claim("a").unwrap();
    let _ = store.claim("a").unwrap();
    let _ = store.claim_with("b", ClaimOptions::new().ttl(seconds(1))).unwrap();
    let _ = store.claim_with("c", ClaimOptions::new().ttl(Ttl::FOREVER)).unwrap();
    drop(short);
    for _ in 0..2 {
        let short = store.namespace("short").unwrap();
        let state = |store: &Store| {
            let here = ["a", "b", "c"].map(|id| store.contains(id).unwrap());
            (here, short.contains("a").unwrap())
        };
        let _ = short.claim_with("z", ClaimOptions::new().ttl(days(9))).unwrap();
        world.ms(999);
        if store.contains("b").unwrap() {
            assert_eq!(state(&store), ([true, true, true], true));
            world.ms(1);
            assert_eq!(state(&store), ([true, false, true], true));
            world.ms(8999);
            assert_eq!(state(&store), ([true, false, true], true));
            world.ms(1);
        }
        assert_eq!(state(&store), ([true, false, true], false));
        drop(short);
        drop(store);
        store = world.builder().ttl(days(1)).open().unwrap();
    }
    let short = store.namespace("short").unwrap();
    assert!(short.claim("new").unwrap().is_first_seen());
    world.ms(10_000);
    assert!(short.claim("new").unwrap().is_first_seen(), "its ttl survived the reopen");
    world.ms(366 * 24 * 3_600_000);
    assert!(store.contains("c").unwrap(), "never expires");
    assert!(!store.contains("a").unwrap());
}

#[test]
fn a_ttl_of_nothing_or_beyond_all_time_is_refused_everywhere() {
    let world = World::new();
    for bad in [Ttl::from_millis(0), Ttl::from_millis(u64::MAX), Ttl::from_millis((1 << 56) + 1)] {
        let open = world.builder().ttl(bad).open();
        assert_eq!(open.unwrap_err().kind(), ErrorKind::FixCall);
        let store = world.builder().open().unwrap();
        let options = ClaimOptions::new().ttl(bad);
        let namespace = store.default_namespace();
        let kinds = [
            store.claim_with("a", options).unwrap_err().kind(),
            namespace.claim_batch_with(&["a"], options).unwrap_err().kind(),
            namespace.reserve_batch_with(&["a"], options).unwrap_err().kind(),
            store.namespace_with("n", NamespaceOptions::new().ttl(bad)).unwrap_err().kind(),
        ];
        assert_eq!(kinds, [ErrorKind::FixCall; 4]);
        assert!(!store.contains("a").unwrap());
        assert!(store.claim("a").unwrap().is_first_seen(), "nothing was reserved either");
        assert!(store.forget("a").unwrap());
    }
    let store = world.builder().ttl(Ttl::from_millis(1 << 56)).open().unwrap();
    let _ = store.claim("a").unwrap();
    world.ms(1 << 50);
    assert!(store.contains("a").unwrap());
}
