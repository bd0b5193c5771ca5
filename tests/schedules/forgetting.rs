//! Claims against `forget`.

use crate::explore::explore;
use crate::scene::{Scene, join, start};

#[test]
fn i1_claims_while_the_id_is_forgotten() {
    explore("i1_claims_while_the_id_is_forgotten", || {
        let scene = Scene::new();
        let store = scene.open();
        let claimer = || {
            let store = store.clone();
            start(move || store.claim("a").expect("claims").is_first_seen())
        };
        let forgetter = || {
            let store = store.clone();
            start(move || store.forget("a").expect("forgets"))
        };
        let (claims, forgets) = ([claimer(), claimer()], [forgetter(), forgetter()]);
        let flusher = {
            let store = store.clone();
            start(move || {
                store.freeze();
                store.run_background().expect("flushes");
            })
        };
        let firsts = join(claims).into_iter().filter(|first| *first).count();
        let forgotten = join(forgets).into_iter().filter(|forgotten| *forgotten).count();
        join([flusher]);
        // Claims and forgets that took effect alternate, starting with a claim.
        let live = usize::from(store.contains("a").expect("reads"));
        assert_eq!(firsts, forgotten + live, "I1: each window has one winner");
        assert!(firsts >= 1);
    });
}
