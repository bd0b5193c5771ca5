//! Disk errors at every call, one-off and permanent (I7).

use crate::ops::{Harm, Op, Setup};
use crate::oracle::End;
use crate::run::{Verdict, World};
use crate::{env, many, run_until, workload};
use firstseen::disk::sim::Fault;
use std::io::ErrorKind;

const FAULTS: [Fault; 3] =
    [Fault::Error(ErrorKind::Other), Fault::Error(ErrorKind::StorageFull), Fault::ShortWrite];

/// Operations of a seed, followed by calls that a random list may lack, so that errors strike in them too.
fn everything(seed: u64) -> (Setup, Vec<Op>) {
    let (setup, mut ops) = workload(seed);
    let held = Op::Reserve { ns: 1, ids: vec![3, 4], level: None };
    let reopen = Op::Reopen { shards: None, harm: Harm::Dropped };
    ops.extend([
        Op::Export,
        Op::Import { ns: 0, skew: 2 },
        Op::Settings { ns: 1, ttl: 20_000, sliding: true },
    ]);
    ops.extend([held, Op::CloseHeld, Op::Freeze, Op::Background, Op::Verify, reopen]);
    ops.extend([true, false].map(|lose_manifest| Op::Repair { lose_manifest }));
    ops.extend([Op::Sync, Op::Reopen { shards: Some(2), harm: Harm::Spared }]);
    (setup, ops)
}

fn calls(seed: u64) -> Verdict<u64> {
    let (setup, ops) = everything(seed);
    let mut world = World::simulated(setup);
    world.open().map_err(|e| format!("first open: {e}"))?;
    run_until(&mut world, &ops)?;
    let calls = world.disk().ops();
    world.drop_store();
    Ok(calls)
}

fn fault_at(seed: u64, number: u64, fault: Fault, sticky: bool) -> Verdict {
    let (setup, ops) = everything(seed);
    let mut world = World::simulated(setup);
    let disk = world.disk();
    disk.fail_at(number, fault, sticky);
    world.faults = true;
    let mut at = 0;
    if world.open().is_ok() {
        at = run_until(&mut world, &ops)?;
    } else {
        world.stopped = true;
    }
    disk.clear_faults();
    world.faults = false;
    if world.stopped {
        world.drop_store();
        // In half of the cases the power fails as well: it may take what the failed sync was for.
        let (next, end) = if number.is_multiple_of(2) {
            (disk.kill(), End::Kill)
        } else {
            (disk.crash(number), End::PowerCut)
        };
        let mut next = world.after(next, Harm::Spared);
        next.reopen(end).map_err(|what| format!("after reopening: {what}"))?;
        world = next;
    }
    let rest: Vec<Op> = ops[at..].to_vec();
    run_until(&mut world, &rest).map_err(|what| format!("after the fault: {what}"))?;
    world.step(&Op::Flush)?;
    world.finish().map_err(|what| format!("at the end: {what}"))
}

#[test]
fn i7_an_error_at_every_call_is_heard_and_loses_nothing_that_was_acknowledged() {
    let name = "i7_an_error_at_every_call";
    let (seeds, runs) = many(name, env("FIRSTSEEN_FAULT_RUNS", 20_000), |seed| {
        let mut runs = 0;
        for number in 0..calls(seed)? {
            for fault in FAULTS {
                for sticky in [false, true] {
                    let ran = fault_at(seed, number, fault, sticky);
                    ran.map_err(|e| format!("{fault:?} at {number}, sticky {sticky}: {e}"))?;
                    runs += 1;
                }
            }
        }
        Ok(runs)
    });
    println!(
        "proof | disk errors | {runs} | runs | an error at one call or from it on, {seeds} workloads; 0 lost, 0 twice"
    );
}
