//! Regressions: former bugs, with the operations that exposed them where the model test found them.

use crate::ops::{FOREVER, Harm, Level, Op, Setup, Sway};
use crate::run::{World, run};

const SETUP: Setup = Setup {
    level: Level::Process,
    mapping: true,
    shards: 1,
    segment_bytes: 65_536,
    memtable_bytes: 8_000,
    has_locators: true,
    lanes: false,
};

fn check(setup: Setup, ops: &[Op]) {
    run(World::simulated(setup), ops).expect("the store answers as the oracle");
}

fn claim(key: (u8, u8), ttl: Option<u64>) -> Op {
    Op::Claim { key, ttl, level: None }
}

/// Only the parent folder of a new store was synced, not those above.
#[test]
fn a_power_cut_does_not_take_the_folders_above_a_new_store() {
    for seed in 0..50 {
        let cut = Op::PowerCut { seed, harm: Harm::Spared };
        check(SETUP, &[claim((0, 10), None), Op::Sync, cut]);
    }
}

/// The short claim, and with it the tombstone below it, was dropped before the long one.
#[test]
fn a_forgotten_long_claim_does_not_come_back_when_its_short_successor_is_swept() {
    for end in [
        Op::Flush,
        Op::Reopen { shards: None, harm: Harm::Spared },
        Op::Reopen { shards: None, harm: Harm::Dropped },
    ] {
        for flushed in [false, true] {
            let mut ops = vec![claim((1, 18), Some(FOREVER))];
            ops.extend(flushed.then_some(Op::Flush));
            ops.extend([Op::Forget { key: (1, 18) }, claim((1, 18), None)]);
            ops.extend([
                Op::Flush,
                Op::Advance { ms: 3_600_000 },
                Op::Flush,
                end.clone(),
                Op::Flush,
            ]);
            check(SETUP, &ops);
        }
    }
    let batch = Op::Batch { ns: 0, ids: vec![1, 2, 3], ttl: Some(1_000), level: None };
    let ops = [claim((0, 2), None), Op::Flush, Op::Forget { key: (0, 2) }, batch];
    let tail = [Op::Flush, Op::Advance { ms: 60_000 }, Op::Flush, Op::Kill];
    check(SETUP, &[ops, tail].concat());
}

/// Replay flushed the memtable in the middle of a batch, and the end of the batch was lost.
#[test]
fn a_batch_that_fills_the_open_set_while_it_is_replayed_is_flushed_whole() {
    let setup = Setup { memtable_bytes: 600, ..SETUP };
    let batch = |ids| Op::Batch { ns: 0, ids, ttl: None, level: None };
    check(setup, &[batch((0..24).collect()), Op::Kill]);
    let drop = Op::Reopen { shards: Some(2), harm: Harm::Dropped };
    check(setup, &[batch((0..12).collect()), batch((8..24).collect()), drop]);
}

/// An id twice in a batch was extended twice and was twice in the memtable.
#[test]
fn an_id_twice_in_a_sliding_batch_is_extended_once() {
    let batch = |ids, ttl| Op::Batch { ns: 2, ids, ttl: Some(ttl), level: None };
    let forget = Op::Forget { key: (2, 13) };
    check(SETUP, &[batch(vec![13, 5], 1_000), Op::Flush, batch(vec![13, 6, 13], FOREVER), forget]);
}

/// Such a claim was dated in the old time and expired when the new time was believed.
#[test]
fn i4_i5_a_claim_made_while_a_jump_is_in_doubt_lives_its_whole_ttl() {
    let confirm = || [Op::Reserve { ns: 1, ids: vec![7, 8], level: None }, Op::Confirm { slot: 0 }];
    let batch = |ns| Op::Batch { ns, ids: vec![3, 4], ttl: None, level: None };
    let drop = Op::Reopen { shards: None, harm: Harm::Dropped };
    for then in [Op::Freeze, Op::Flush, drop, Op::Repair { lose_manifest: false }] {
        for decided in [Op::Advance { ms: 60_000 }, Op::Sway(Sway::Back)] {
            let mut ops = vec![batch(2), Op::Sway(Sway::Ahead), claim((1, 1), None), batch(1)];
            ops.extend(confirm());
            ops.extend([claim((0, 2), Some(60_000)), batch(2), then.clone(), decided]);
            ops.extend((0..9).map(|id| Op::Get { key: (id % 3, id) }));
            ops.extend([
                Op::Advance { ms: 5_000 },
                Op::Export,
                Op::Advance { ms: 60_000 },
                Op::Flush,
            ]);
            check(SETUP, &ops);
        }
    }
}

/// A block that was healed from the log held a claim that had ended unflushed; its filter rightly does not know it.
#[test]
fn verify_took_what_had_ended_in_a_healed_block_for_a_hole_in_the_filter() {
    let setup = Setup { memtable_bytes: 600, has_locators: false, ..SETUP };
    let reopen = Op::Reopen { shards: None, harm: Harm::Cut(14_618) };
    let sway = Op::Sway(Sway::LittleAhead);
    check(setup, &[claim((2, 14), None), Op::Flush, claim((2, 5), None), sway, reopen, Op::Verify]);
}
