//! Claims while a live window ends and is swept.

use crate::explore::explore;
use crate::scene::{START_MS, Scene, join, start};
use firstseen::{Claim, Ttl};
use std::time::Duration;

const TTL_MS: u64 = 5_000;

#[test]
fn i1_i4_claims_while_the_window_ends_and_is_swept() {
    explore("i1_i4_claims_while_the_window_ends_and_is_swept", || {
        let scene = Scene::new();
        let store = scene.builder().ttl(Ttl::from_millis(TTL_MS)).open().expect("opens");
        assert!(store.claim("a").expect("claims").is_first_seen());
        let claimer = || {
            let store = store.clone();
            start(move || store.claim("a").expect("claims"))
        };
        let claimers = [claimer(), claimer()];
        let time = {
            let clock = scene.clock.clone();
            start(move || {
                clock.advance(Duration::from_millis(TTL_MS - 1));
                clock.advance(Duration::from_millis(1));
                // Past the end of its generation, so that it is swept.
                clock.advance(Duration::from_millis(2_000));
            })
        };
        let keeper = {
            let store = store.clone();
            start(move || {
                store.freeze();
                store.run_background().expect("sweeps");
            })
        };
        let mut heard = join(claimers);
        join([time, keeper]);
        heard.push(store.claim("a").expect("claims"));
        // The expired window, and after it exactly one new one.
        let firsts = heard.iter().filter(|claim| claim.is_first_seen()).count();
        assert_eq!(firsts, 1, "I1: one new window, {heard:?}");
        let begun = store.get("a").expect("reads").expect("was just claimed").first_seen;
        assert!(begun.as_millis() >= START_MS + TTL_MS, "I4: granted before the deadline");
        for claim in heard {
            if let Claim::Duplicate { first_seen } = claim {
                let known = first_seen.as_millis() == START_MS || first_seen == begun;
                assert!(known, "a duplicate of a claim that never was");
            }
        }
    });
}
