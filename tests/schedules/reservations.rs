//! Reservations against claims and against each other.

use crate::explore::explore;
use crate::scene::{Scene, assert_one_winner, join, start};
use firstseen::{Claim, ErrorKind, Reserve, Reserved, Store};
use shuttle::rand::{Rng, thread_rng};
use std::time::Duration;

/// Reserves, then confirms or releases as the explorer chooses. Returns the claim it made or found.
fn reserve(store: &Store) -> Option<Claim> {
    match store.reserve("a").expect("reserves") {
        Reserve::FirstSeen(mut held) if thread_rng().r#gen() => {
            held.confirm().expect("confirms");
            Some(Claim::FirstSeen)
        }
        Reserve::Duplicate { first_seen } => Some(Claim::Duplicate { first_seen }),
        Reserve::FirstSeen(_) | Reserve::InProgress => None,
    }
}

#[test]
fn i1_i12_a_claim_waits_for_reservations() {
    explore("i1_i12_a_claim_waits_for_reservations", || {
        let scene = Scene::new();
        let store = scene.open();
        let reserver = || {
            let store = store.clone();
            start(move || reserve(&store))
        };
        let claimer = || {
            let store = store.clone();
            start(move || Some(store.claim("a").expect("claims")))
        };
        let heard = join([reserver(), claimer(), reserver(), claimer()]);
        assert_one_winner("a", heard.iter().flatten());
        assert_eq!(store.stats().ids_reserved, 0);
    });
}

/// Both batches span two shards, with their ids in opposite orders. A claim of one id and a flush come in between.
#[test]
fn i1_i9_batches_are_reserved_and_confirmed() {
    explore("i1_i9_batches_are_reserved_and_confirmed", || {
        let scene = Scene::new();
        let store = scene.builder().shards(2).open().expect("opens");
        let reserver = |ids: [&'static str; 3]| {
            let store = store.clone();
            start(move || {
                let mut held = store.reserve_batch(&ids).expect("reserves");
                let answers = held.answers().to_vec();
                let confirmed = thread_rng().r#gen();
                if confirmed {
                    held.confirm().expect("confirms");
                }
                let heard = ids.into_iter().zip(answers);
                let claim = |(id, answer)| match answer {
                    Reserved::FirstSeen if confirmed => Some((id, Claim::FirstSeen)),
                    Reserved::Duplicate { first_seen } => {
                        Some((id, Claim::Duplicate { first_seen }))
                    }
                    _ => None,
                };
                heard.filter_map(claim).collect::<Vec<_>>()
            })
        };
        let reservers = [reserver(["a", "b", "c"]), reserver(["d", "b", "a"])];
        let claimer = {
            let store = store.clone();
            start(move || vec![("b", store.claim("b").expect("claims"))])
        };
        let flusher = {
            let store = store.clone();
            start(move || {
                store.freeze();
                store.run_background().expect("flushes");
                Vec::new()
            })
        };
        let mut heard = join(reservers).concat();
        heard.extend(join([claimer, flusher]).concat());
        for id in ["a", "b", "c", "d"] {
            heard.push((id, store.claim(id).expect("claims")));
            let of_id = heard.iter().filter(|(other, _)| *other == id).map(|(_, claim)| claim);
            assert_one_winner(id, of_id);
        }
    });
}

/// The id is released only after the others give up, so their waits must end at their deadlines.
#[test]
fn i12_waits_for_a_reservation_that_is_never_given_back() {
    explore("i12_waits_for_a_reservation_that_is_never_given_back", || {
        let scene = Scene::new();
        let store = scene.builder().wait_max(Duration::ZERO).open().expect("opens");
        let Reserve::FirstSeen(mut held) = store.reserve("a").expect("reserves") else {
            panic!("nothing else holds it");
        };
        let waiter = |what: fn(&Store) -> firstseen::Result<()>| {
            let store = store.clone();
            start(move || what(&store).expect_err("the id is held").kind())
        };
        let waiters = [
            waiter(|store| store.claim("a").map(|_| ())),
            waiter(|store| store.claim_batch(&["b", "a"]).map(|_| ())),
            waiter(|store| store.forget("a").map(|_| ())),
        ];
        assert!(join(waiters).into_iter().all(|kind| kind == ErrorKind::Retry));
        held.confirm().expect("confirms");
        assert!(
            store.claim("b").expect("claims").is_first_seen(),
            "a batch that failed left a claim"
        );
    });
}
