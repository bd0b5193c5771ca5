//! Claims while blocks are lost and healed.

use crate::explore::explore;
use crate::scene::{Scene, assert_one_winner, join, start};
use firstseen::{Claim, ClaimOptions, minutes};
use std::time::Duration;

#[test]
fn i1_i10_claims_while_blocks_are_lost_and_healed() {
    explore("i1_i10_claims_while_blocks_are_lost_and_healed", || {
        let scene = Scene::new();
        let store = scene.open();
        assert!(store.claim("a").expect("claims").is_first_seen());
        assert!(store.claim("b").expect("claims").is_first_seen());
        store.freeze();
        store.run_background().expect("flushes");
        store.close().expect("closes");
        // Reopen, so that no block is cached.
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
            let blocks = scene.blocks.clone();
            start(move || blocks.damage(|_| false))
        };
        let flusher = {
            let store = store.clone();
            start(move || {
                store.freeze();
                store.run_background().expect("flushes");
            })
        };
        let claims = join(claimers);
        join([thief, flusher]);
        assert_one_winner("new", &claims);
    });
}

/// Healing reads the log up to a location, and compaction moves records it needs from before that location behind it.
#[test]
fn i1_i10_a_block_is_healed_while_the_log_is_compacted() {
    explore("i1_i10_a_block_is_healed_while_the_log_is_compacted", || {
        let scene = Scene::new();
        let open = || scene.builder().segment_bytes(16 << 10).open().expect("opens");
        let store = open();
        assert!(store.claim("a").expect("claims").is_first_seen());
        // The rest of the first segment, and part of the next, is claims that expire soon.
        let short = ClaimOptions::new().ttl(minutes(1));
        for batch in 0..2 {
            let ids: Vec<Vec<u8>> = (0..10).map(|n| vec![10 * batch + n; 1000]).collect();
            let _ = store.default_namespace().claim_batch_with(&ids, short).expect("claims");
        }
        store.freeze();
        store.run_background().expect("flushes");
        store.close().expect("closes");
        scene.clock.advance(Duration::from_secs(24 * 3600));
        // Reopen with no block cached, then lose those in the block store.
        let store = open();
        scene.blocks.damage(|_| false);
        let claimer = {
            let store = store.clone();
            start(move || store.claim("a").expect("claims"))
        };
        let compactor = {
            let store = store.clone();
            start(move || store.run_background().expect("compacts"))
        };
        assert!(matches!(join([claimer])[..], [Claim::Duplicate { .. }]), "granted twice");
        join([compactor]);
        assert_eq!(store.stats().segments_removed, 1, "the segment it healed from is gone");
        assert!(store.contains("a").expect("reads"));
    });
}

/// Found by histories: healing missed a segment that filled up while it listed the segments, and the healed block
/// lacked that segment's records for good.
#[test]
fn i1_i10_a_block_is_healed_while_the_log_goes_on_in_a_new_segment() {
    explore("i1_i10_a_block_is_healed_while_the_log_goes_on_in_a_new_segment", || {
        let scene = Scene::new();
        let open = || scene.builder().segment_bytes(16 << 10).open().expect("opens");
        let batch =
            |from: u8| -> Vec<Vec<u8>> { (from..from + 10).map(|n| vec![n; 1000]).collect() };
        let store = open();
        assert!(store.claim("a").expect("claims").is_first_seen());
        let _ = store.claim_batch(&batch(0)).expect("claims");
        store.freeze();
        store.run_background().expect("flushes");
        store.close().expect("closes");
        // Reopen with no block cached, then lose those in the block store.
        let store = open();
        scene.blocks.damage(|_| false);
        let claimer = {
            let store = store.clone();
            start(move || store.claim("a").expect("claims"))
        };
        let other = {
            let store = store.clone();
            start(move || store.claim_batch(&batch(10)).expect("claims"))
        };
        assert!(matches!(join([claimer])[..], [Claim::Duplicate { .. }]), "granted twice");
        join([other]);
        assert_eq!(store.stats().log_segments, 2, "the second batch needs another segment");
        assert!(store.contains("a").expect("reads"));
    });
}
