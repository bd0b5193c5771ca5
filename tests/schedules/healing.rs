//! Claims while chunks are lost and healed.

use crate::explore::explore;
use crate::scene::{Scene, assert_one_winner, join, start};
use firstseen::Claim;

#[test]
fn i1_i10_claims_while_chunks_are_lost_and_healed() {
    explore("i1_i10_claims_while_chunks_are_lost_and_healed", || {
        let scene = Scene::new();
        let store = scene.open();
        assert!(store.claim("a").expect("claims").is_first_seen());
        assert!(store.claim("b").expect("claims").is_first_seen());
        store.freeze();
        store.run_background().expect("seals");
        store.close().expect("closes");
        // Opened again, so that no chunk is in memory.
        let store = scene.open();
        let claimer = |ids: [&'static str; 2]| {
            let store = store.clone();
            start(move || {
                let [old, new] = ids.map(|id| store.claim(id).expect("claims"));
                assert!(matches!(old, Claim::Duplicate { .. }), "granted twice");
                new
            })
        };
        let claimers = [claimer(["a", "new"]), claimer(["b", "new"])];
        let thief = {
            let chunks = scene.chunks.clone();
            start(move || chunks.damage(|_| false))
        };
        let sealer = {
            let store = store.clone();
            start(move || {
                store.freeze();
                store.run_background().expect("seals");
            })
        };
        let claims = join(claimers);
        join([thief, sealer]);
        assert_one_winner("new", &claims);
    });
}
