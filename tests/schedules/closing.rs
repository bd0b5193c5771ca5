//! Claims and waits while the store is closed.

use crate::explore::explore;
use crate::scene::{Scene, join, start};
use firstseen::{ErrorKind, Reserve};

/// With the store's own threads, which the close ends.
///
/// The close once notified waiters without the shard's lock. A claim that had seen the store open and was about to wait
/// missed it, waited out its deadline and returned `Retry`.
#[test]
fn i7_i12_claims_and_waits_while_the_store_is_closed() {
    explore("i7_i12_claims_and_waits_while_the_store_is_closed", || {
        let scene = Scene::new();
        let store = scene.builder().background(true).open().expect("opens");
        let Reserve::FirstSeen(held) = store.reserve("held").expect("reserves") else {
            panic!("nothing else holds it");
        };
        let claimer = |id: &'static str| {
            let (scene, store) = (scene.clone(), store.clone());
            start(move || scene.claim(&store, id))
        };
        // The second one waits until the store is closed.
        let claimers = [claimer("a"), claimer("held")];
        let closer = {
            let store = store.clone();
            start(move || store.close().expect("closes"))
        };
        join([closer]);
        let heard = join(claimers);
        for error in heard.iter().filter_map(|answer| answer.as_ref().err()) {
            assert_eq!(error.kind(), ErrorKind::Reopen, "{error}");
        }
        assert!(heard[1].is_err(), "the id was never released");
        drop((held, store));
        scene.assert_safe_after_reopening();
    });
}
