//! What a scope left behind gives its space back.

use super::World;
use crate::support::{assert_seen, assert_sound, claim_all_first, id, ids, settle};
use firstseen::Store;

/// Log, flushed entries and memory for filters.
fn space(store: &Store) -> [u64; 3] {
    let stats = store.stats();
    [stats.log_bytes, stats.ids_flushed, stats.memory_filter_bytes]
}

fn claim_inside(store: &Store, name: &str, numbers: std::ops::Range<u64>) {
    let inside = store.replay(name).expect("begins").default_namespace().expect("opens");
    for ids in ids(numbers).chunks(100) {
        let answers = inside.claim_batch(ids).expect("claims");
        assert!(answers.iter().all(|answer| answer.is_first_seen()));
        settle(store);
    }
}

#[test]
fn the_space_of_a_dropped_scope_comes_back() {
    let world = World::new();
    let store = world.open();
    claim_all_first(&store, 0..2_000);
    store.freeze();
    settle(&store);
    let before = space(&store);
    claim_inside(&store, "s", 0..30_000);
    let ledger = store.replay("s").expect("is open").ledger("work").expect("opens");
    for n in 0..200 {
        let attempt = ledger.begin(id(n)).expect("begins").started().expect("is new");
        attempt.complete(vec![7; 1_000]).expect("completes");
    }
    store.freeze();
    settle(&store);
    let with = space(&store);
    assert!(with[0] > before[0] + 500_000 && with[1] > before[1] + 25_000, "{with:?}");
    store.replay("s").expect("is open").discard().expect("drops");
    settle(&store);
    let after = space(&store);
    // The active segment, and what compaction copied to it, are no more than one.
    assert!(after[0] <= before[0] + (512 << 10), "log: {before:?} {with:?} {after:?}");
    assert!(after[1] <= before[1] + 500, "entries: {before:?} {with:?} {after:?}");
    assert!(after[2] <= before[2] * 2, "filters: {before:?} {with:?} {after:?}");
    assert_seen(&store, 0..2_000, true);
    assert_sound(&store);
    // Nobody looks again, also not after the next opening.
    store.close().expect("closes");
    let store = world.open();
    let before = world.disk.ops();
    settle(&store);
    let idle = world.disk.ops() - before;
    assert!(idle < 50, "{idle} calls of the disk");
    assert_seen(&store, 0..2_000, true);
    assert_sound(&store);
}

#[test]
fn the_space_of_what_a_promotion_replaced_comes_back() {
    let world = World::new();
    let store = world.open();
    for ids in ids(0..30_000).chunks(100) {
        let _ = store.claim_batch(ids).expect("claims");
        settle(&store);
    }
    claim_inside(&store, "s", 1_000..3_000);
    store.freeze();
    settle(&store);
    let with = space(&store);
    assert!(store.replay("s").expect("is open").promote().expect("promotes"));
    settle(&store);
    let after = space(&store);
    assert!(after[0] + (200 << 10) < with[0], "log: {with:?} {after:?}");
    assert!(after[1] < 3_500 && after[2] < with[2] / 4, "{after:?}");
    assert_seen(&store, 0..1_000, false);
    assert_seen(&store, 1_000..3_000, true);
    assert_seen(&store, 3_000..3_100, false);
    assert_sound(&store);
}

/// What is in memory only when the scope is dropped is never flushed.
#[test]
fn what_was_not_flushed_before_a_drop_is_left_out_of_runs() {
    let world = World::new();
    let store = world.open();
    let inside = store.replay("s").expect("begins").default_namespace().expect("opens");
    let _ = inside.claim_batch(&ids(0..500)).expect("claims");
    store.replay("s").expect("is open").discard().expect("drops");
    store.freeze();
    settle(&store);
    // The mark of the scope is a row.
    assert_eq!(store.stats().ids_flushed, 1);
}

/// Other maintenance goes on while the space is taken back, and a second drop in the middle is not forgotten.
#[test]
fn scopes_that_are_dropped_in_turn_all_give_their_space_back() {
    let world = World::new();
    let store = world.open();
    for name in ["a", "b", "c"] {
        claim_inside(&store, name, 0..5_000);
    }
    store.freeze();
    settle(&store);
    for name in ["a", "b", "c"] {
        store.replay(name).expect("is open").discard().expect("drops");
    }
    settle(&store);
    assert!(store.stats().ids_flushed < 100, "{:?}", store.stats());
    assert!(space(&store)[0] < 512 << 10, "{:?}", space(&store));
    assert_sound(&store);
}
