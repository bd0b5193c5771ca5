//! A power cut at every operation of the simulated disk, and again during recovery.

use crate::ops::Harm;
use crate::oracle::End;
use crate::run::{Verdict, World};
use crate::{env, many, run_until, workload};
use firstseen::disk::sim::Fault;
use std::sync::atomic::{AtomicU64, Ordering};

/// Disk states tried after each crash.
const CUTS: u64 = 4;

fn harm(n: u64) -> Harm {
    match n % 7 {
        0 => Harm::Dropped,
        1 => Harm::Stale(n),
        2 => Harm::Missing(n),
        3 => Harm::Flipped(n),
        _ => Harm::Spared,
    }
}

/// Numbers of the disk operations that can affect what a crash leaves behind.
fn steps(seed: u64) -> Verdict<Vec<u64>> {
    let (setup, ops) = workload(seed);
    let mut world = World::simulated(setup);
    world.disk().set_trace(true);
    world.open().map_err(|e| format!("first open: {e}"))?;
    run_until(&mut world, &ops)?;
    let trace = world.disk().trace();
    world.finish()?;
    world.drop_store();
    Ok(trace.iter().filter(|step| step.changes).map(|step| step.number).collect())
}

fn crash_at_every_step(seed: u64, twice: &AtomicU64) -> Verdict<u64> {
    let (setup, ops) = workload(seed);
    let mut states = 0;
    for number in steps(seed)? {
        let fault = if number.is_multiple_of(3) { Fault::CrashInWrite } else { Fault::Crash };
        let mut world = World::simulated(setup);
        world.faults = true;
        let disk = world.disk();
        disk.fail_at(number, fault, false);
        if world.open().is_ok() {
            run_until(&mut world, &ops).map_err(|what| format!("{fault:?} at {number}: {what}"))?;
        }
        // The process is dead: a close by the destructor must have no effect.
        world.drop_store();
        let mut killed = world.after(disk.kill(), Harm::Spared);
        let named = |cut: &str, what| format!("{fault:?} at {number}, {cut}: {what}");
        killed.reopen(End::Kill).map_err(|what| named("kill", what))?;
        killed.finish().map_err(|what| named("kill, at the end", what))?;
        states += 1;
        for n in 0..CUTS {
            let cut = seed.wrapping_mul(1_000_003) ^ (number * CUTS + n);
            let mut next = world.after(disk.crash(cut), harm(cut));
            next.reopen(End::PowerCut).map_err(|what| named(&format!("cut {cut}"), what))?;
            states += 1;
            if n == 0 {
                // What a reopened store has returned is on disk.
                let lost = next.disk().lose_unsynced();
                let mut again = next.after(lost, Harm::Spared);
                let what = again.reopen(End::Closed);
                what.map_err(|what| named(&format!("cut {cut}, then all unsynced lost"), what))?;
                again.finish().map_err(|what| named(&format!("cut {cut}, at the end"), what))?;
                states += 1;
            }
            if n == 1 && number.is_multiple_of(25) {
                let more = crash_again(&world, &disk, cut);
                let more = more.map_err(|what| named(&format!("cut {cut}, then"), what))?;
                twice.fetch_add(more, Ordering::Relaxed);
                states += more;
            }
        }
    }
    Ok(states)
}

/// A second crash, at every disk operation of the recovery from the first.
fn crash_again(world: &World, disk: &firstseen::disk::sim::SimDisk, cut: u64) -> Verdict<u64> {
    let mut states = 0;
    let mut number = 0;
    loop {
        let first = disk.crash(cut);
        first.fail_at(number, Fault::Crash, false);
        let mut opening = world.after(first.clone(), harm(cut));
        let opened = opening.open();
        opening.drop_store();
        if !first.is_dead() {
            return opened.map(|()| states).map_err(|e| format!("open: {e}"));
        }
        for seed in 0..2 {
            let mut next = opening.after(first.crash(cut ^ seed), harm(cut + seed));
            let what = next.reopen(End::PowerCut);
            what.map_err(|what| format!("crash at {number} of recovery, cut {seed}: {what}"))?;
            states += 1;
        }
        number += 1;
    }
}

#[test]
fn i6_i9_i11_a_power_cut_at_every_operation_loses_nothing_that_was_acknowledged() {
    let twice = AtomicU64::new(0);
    let (seeds, states) =
        many("i6_i9_i11_a_power_cut", env("FIRSTSEEN_CRASH_STATES", 20_000), |seed| {
            crash_at_every_step(seed, &twice)
        });
    let twice = twice.into_inner();
    println!(
        "proof | simulated crash | {states} | states | {seeds} workloads, {twice} states after a second crash; \
         0 lost, 0 twice"
    );
}
