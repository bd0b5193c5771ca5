//! Group commit: callers at `Disk` share syncs, syncs fail, and power is cut.

use crate::explore::explore;
use crate::scene::{DISK, Scene, join, start};
use firstseen::disk::sim::Fault;
use firstseen::{Claim, ErrorKind};
use shuttle::rand::{Rng, thread_rng};
use std::io;

#[test]
fn i6_callers_share_a_sync_and_the_power_goes() {
    explore("i6_callers_share_a_sync_and_the_power_goes", || {
        let scene = Scene::new();
        let store = scene.builder().durability(DISK).open().expect("opens");
        let claimer = |id: &'static str| {
            let (scene, store) = (scene.clone(), store.clone());
            start(move || scene.claim(&store, id).is_ok())
        };
        // Two claim one id: the duplicate, too, must be on disk before it returns.
        let claimers = [claimer("a"), claimer("a"), claimer("b")];
        let cut = {
            let scene = scene.clone();
            start(move || scene.assert_safe_after_a_power_cut())
        };
        join(claimers);
        join([cut]);
    });
}

#[test]
fn i7_a_sync_fails_and_everybody_hears() {
    explore("i7_a_sync_fails_and_everybody_hears", || {
        let scene = Scene::new();
        let store = scene.builder().durability(DISK).open().expect("opens");
        // Only syncs can fail: nothing can refuse a write to a mapping.
        let at = scene.disk.ops() + thread_rng().gen_range(0..8);
        scene.disk.fail_at(at, Fault::Error(io::ErrorKind::Other), false);
        let claimer = |id: &'static str| {
            let (scene, store) = (scene.clone(), store.clone());
            start(move || scene.claim(&store, id))
        };
        let claimers = [claimer("a"), claimer("a"), claimer("b"), claimer("c")];
        let heard = join(claimers);
        scene.disk.clear_faults();
        let failed = heard.iter().filter(|answer| answer.is_err()).count();
        for error in heard.iter().filter_map(|answer| answer.as_ref().err()) {
            assert_eq!(error.kind(), ErrorKind::Reopen, "{error}");
        }
        let after = store.claim("d");
        assert_eq!(failed > 0, after.is_err(), "I7: a failed sync is final and reported");
        let of_a = heard[..2].iter().filter(|answer| matches!(answer, Ok(Claim::FirstSeen)));
        assert!(of_a.count() <= 1, "I1");
        scene.assert_safe_after_a_power_cut();
    });
}
