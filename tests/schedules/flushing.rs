//! Claims while memtables are frozen and flushed, and while the log rolls over to a new segment.

use crate::explore::explore;
use crate::scene::{Scene, assert_one_winner, join, start};
use firstseen::disk::sim::Fault;
use firstseen::{Claim, ErrorKind};
use shuttle::rand::{Rng, thread_rng};
use std::io;
use std::sync::LazyLock;

#[test]
fn i1_i2_claims_while_a_set_is_frozen_and_flushed() {
    explore("i1_i2_claims_while_a_set_is_frozen_and_flushed", || {
        let scene = Scene::new();
        let store = scene.open();
        assert!(store.claim("old").expect("claims").is_first_seen());
        let claimer = || {
            let store = store.clone();
            start(move || {
                let old = store.claim("old").expect("claims");
                assert!(matches!(old, Claim::Duplicate { .. }), "old was granted twice");
                store.claim("new").expect("claims")
            })
        };
        let claimers = [claimer(), claimer()];
        let flusher = {
            let store = store.clone();
            start(move || {
                store.freeze();
                store.run_background().expect("flushes");
            })
        };
        let claims = join(claimers);
        join([flusher]);
        store.freeze();
        store.run_background().expect("flushes");
        let again = store.claim("new").expect("claims");
        assert_one_winner("new", claims.iter().chain([&again]));
    });
}

/// With the store's own threads. Each id fills the memtable, so that claims wait for the flusher.
#[test]
fn i1_i12_claims_wait_for_room_and_are_woken() {
    explore("i1_i12_claims_wait_for_room_and_are_woken", || {
        let scene = Scene::new();
        let builder = scene.builder().background(true).memtable_bytes(1);
        let store = builder.open().expect("opens");
        let claimer = |ids: [&'static str; 3]| {
            let store = store.clone();
            start(move || ids.map(|id| (id, store.claim(id).expect("claims"))).to_vec())
        };
        let heard = join([claimer(["a", "b", "c"]), claimer(["c", "b", "d"])]).concat();
        for id in ["a", "b", "c", "d"] {
            let of_id = heard.iter().filter(|(other, _)| *other == id).map(|(_, claim)| claim);
            assert_one_winner(id, of_id);
        }
        store.close().expect("closes");
    });
}

/// Five ids of a thousand bytes, which together do not fit into the first segment below, and a short one.
fn long_ids() -> &'static [&'static str] {
    static IDS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
        let long = ["a", "b", "c", "d", "e"].map(|letter| &*letter.repeat(1_000).leak());
        long.into_iter().chain(["short"]).collect()
    });
    &IDS
}

/// Either a claim or background work creates the next segment, whichever comes first.
#[test]
fn i1_claims_while_the_log_goes_on_in_a_new_segment() {
    explore("i1_claims_while_the_log_goes_on_in_a_new_segment", || {
        let scene = Scene::new();
        // A header of 4 KiB and 4 KiB of records.
        let store = scene.builder().segment_bytes(8 << 10).open().expect("opens");
        let claimer = |order: [usize; 6]| {
            let (scene, store) = (scene.clone(), store.clone());
            start(move || {
                let ids = order.map(|n| long_ids()[n]);
                ids.map(|id| (id, scene.claim(&store, id).expect("claims"))).to_vec()
            })
        };
        let orders = [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [1, 3, 5, 0, 2, 4]];
        let claimers = orders.map(claimer);
        let keeper = {
            let store = store.clone();
            start(move || store.run_background().expect("works"))
        };
        let heard = join(claimers).concat();
        join([keeper]);
        for id in long_ids() {
            let of_id = heard.iter().filter(|(other, _)| other == id).map(|(_, claim)| claim);
            assert_one_winner(id, of_id);
        }
        assert!(store.stats().log_segments > 1, "the log did not roll over");
        drop(store);
        scene.assert_safe_after_reopening();
    });
}

/// One disk call fails. If it was a sync of the log, no space will come and waiting claims must be told; otherwise the
/// flusher retries.
#[test]
fn i7_i12_claims_wait_for_room_that_will_not_come() {
    explore("i7_i12_claims_wait_for_room_that_will_not_come", || {
        let scene = Scene::new();
        let builder = scene.builder().background(true).memtable_bytes(1);
        let store = builder.open().expect("opens");
        let at = scene.disk.ops() + thread_rng().gen_range(0..20);
        scene.disk.fail_at(at, Fault::Error(io::ErrorKind::Other), false);
        let claimer = |ids: [&'static str; 3]| {
            let (scene, store) = (scene.clone(), store.clone());
            start(move || ids.map(|id| scene.claim(&store, id).map(|claim| (id, claim))))
        };
        let heard = join([claimer(["a", "b", "c"]), claimer(["c", "b", "d"])]);
        let heard: Vec<_> = heard.into_iter().flatten().collect();
        for id in ["a", "b", "c", "d"] {
            let of_id = heard.iter().flatten().filter(|(other, _)| *other == id);
            assert!(of_id.filter(|(_, claim)| claim.is_first_seen()).count() <= 1, "I1: {id}");
        }
        for error in heard.iter().filter_map(|answer| answer.as_ref().err()) {
            assert_eq!(error.kind(), ErrorKind::Reopen, "{error}");
        }
        drop(store);
        scene.assert_safe_after_reopening();
    });
}
