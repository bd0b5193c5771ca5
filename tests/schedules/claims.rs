//! Concurrent claims, single and in batches.

use crate::explore::explore;
use crate::scene::{Scene, assert_one_winner, join, start};
use firstseen::Claim;

#[test]
fn i1_three_threads_claim_one_id() {
    explore("i1_three_threads_claim_one_id", || {
        let scene = Scene::new();
        let store = scene.open();
        let claims = (0..3).map(|_| {
            let store = store.clone();
            start(move || store.claim("a").expect("claims"))
        });
        assert_one_winner("a", &join(claims.collect::<Vec<_>>()));
        assert!(store.contains("a").expect("reads"));
    });
}

/// Two shards, so that batches take two locks, with their ids in opposite orders.
#[test]
fn i1_i9_claims_and_batches_that_overlap() {
    explore("i1_i9_claims_and_batches_that_overlap", || {
        let scene = Scene::new();
        let store = scene.builder().shards(2).open().expect("opens");
        let batch = |ids: &'static [&'static str]| {
            let store = store.clone();
            start(move || -> Vec<(&'static str, Claim)> {
                ids.iter().copied().zip(store.claim_batch(ids).expect("claims")).collect()
            })
        };
        let forward = batch(&["a", "b", "c", "d"]);
        let backward = batch(&["d", "c", "b", "a", "d"]);
        let single = {
            let store = store.clone();
            start(move || ["b", "d"].map(|id| (id, store.claim(id).expect("claims"))).to_vec())
        };
        let heard: Vec<(&str, Claim)> =
            join([forward, backward, single]).into_iter().flatten().collect();
        for id in ["a", "b", "c", "d"] {
            let of_id = heard.iter().filter(|(other, _)| *other == id).map(|(_, claim)| claim);
            assert_one_winner(id, of_id);
        }
    });
}
