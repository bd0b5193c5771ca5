//! Claims while runs are merged and the old ones removed.

use crate::explore::explore;
use crate::scene::{Scene, assert_one_winner, join, start};
use firstseen::Claim;

#[test]
fn i1_claims_while_runs_are_merged_and_buried() {
    explore("i1_claims_while_runs_are_merged_and_buried", || {
        let scene = Scene::new();
        let store = scene.open();
        for id in ["a", "b", "c"] {
            assert!(store.claim(id).expect("claims").is_first_seen());
            store.freeze();
            store.run_background().expect("flushes");
        }
        assert!(store.claim("d").expect("claims").is_first_seen());
        let claimer = |ids: [&'static str; 3]| {
            let store = store.clone();
            start(move || {
                let [old, older, new] = ids.map(|id| store.claim(id).expect("claims"));
                assert!(matches!(old, Claim::Duplicate { .. }), "{} was granted twice", ids[0]);
                assert!(matches!(older, Claim::Duplicate { .. }), "{} was granted twice", ids[1]);
                new
            })
        };
        let claimers = [claimer(["a", "d", "new"]), claimer(["c", "b", "new"])];
        let merger = {
            let store = store.clone();
            start(move || {
                store.freeze();
                store.run_background().expect("merges");
            })
        };
        assert_one_winner("new", &join(claimers));
        join([merger]);
        assert_eq!(store.stats().merges, 1, "four runs became one");
    });
}
