//! Futures: no wake-up is lost, whatever comes between an attempt and the place that its waker takes.

use crate::explore::explore;
use crate::scene::{DISK, Scene, assert_one_winner, join, start};
use firstseen::{Claim, ErrorKind, Reserve, Store};
use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};

/// Reserves, then confirms or releases as the explorer chooses. Returns the claim it made or found.
fn reserve(store: &Store) -> Option<Claim> {
    match block_on(store.reserve_async("a")).expect("reserves") {
        Reserve::FirstSeen(mut held) if thread_rng().r#gen() => {
            block_on(held.confirm_async()).expect("confirms");
            Some(Claim::FirstSeen)
        }
        Reserve::Duplicate { first_seen } => Some(Claim::Duplicate { first_seen }),
        Reserve::FirstSeen(_) | Reserve::InProgress => None,
    }
}

#[test]
fn i1_i12_futures_wait_for_reservations() {
    explore("i1_i12_futures_wait_for_reservations", || {
        let scene = Scene::new();
        let store = scene.open();
        let reserver = || {
            let store = store.clone();
            start(move || reserve(&store))
        };
        let claimer = || {
            let store = store.clone();
            start(move || Some(block_on(store.claim_async("a")).expect("claims")))
        };
        let heard = join([reserver(), claimer(), reserver(), claimer()]);
        assert_one_winner("a", heard.iter().flatten());
        assert_eq!(store.stats().ids_reserved, 0);
        assert_eq!(firstseen::testing::waiting_futures(&store), [0; 3]);
    });
}

/// Of futures, of the job that syncs for them, and of a thread that syncs for itself.
#[test]
fn i6_i12_futures_wait_for_the_disk() {
    explore("i6_i12_futures_wait_for_the_disk", || {
        let scene = Scene::new();
        let store = scene.builder().durability(DISK).open().expect("opens");
        let future = |id: &'static str| {
            let (scene, store) = (scene.clone(), store.clone());
            start(move || {
                let answer = block_on(store.claim_async(id)).expect("claims");
                scene.acknowledged.lock().expect("no panic under this lock").push(id);
                answer
            })
        };
        let thread = {
            let (scene, store) = (scene.clone(), store.clone());
            start(move || scene.claim(&store, "c").expect("claims"))
        };
        let heard = join([future("a"), future("b"), thread]);
        assert!(heard.iter().all(|answer| answer.is_first_seen()));
        // Before the close, which would sync what was not.
        scene.assert_safe_after_a_power_cut();
        drop(store.close());
    });
}

#[test]
fn i7_i12_futures_while_the_store_is_closed() {
    explore("i7_i12_futures_while_the_store_is_closed", || {
        let scene = Scene::new();
        let store = scene.builder().durability(DISK).open().expect("opens");
        let Reserve::FirstSeen(held) = store.reserve("held").expect("reserves") else {
            panic!("nothing else holds it");
        };
        let claimer = |id: &'static str| {
            let (scene, store) = (scene.clone(), store.clone());
            start(move || {
                let answer = block_on(store.claim_async(id))?;
                scene.acknowledged.lock().expect("no panic under this lock").push(id);
                Ok::<_, firstseen::Error>(answer)
            })
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
