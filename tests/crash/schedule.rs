//! A schedule of crashes out of bytes: what is done, when the process dies or the power goes, what the disk
//! keeps, what becomes of the blocks, and all of it again while the store recovers.
//! For seeds (schedules.rs) and for the fuzzer (fuzz/fuzz_targets/crash_schedule.rs).

use crate::ops::{Bytes, Harm, Op, Setup};
use crate::oracle::End;
use crate::run::{Verdict, World};
use firstseen::disk::sim::Fault;

/// How one life of the store ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Crash {
    /// Calls of the disk until then, counted from the opening of this life.
    pub(crate) after: u64,
    pub(crate) in_write: bool,
    /// What a power cut keeps, or `None` if only the process dies.
    pub(crate) cut: Option<u64>,
    pub(crate) harm: Harm,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schedule {
    pub(crate) setup: Setup,
    pub(crate) crashes: Vec<Crash>,
    pub(crate) ops: Vec<Op>,
}

impl Schedule {
    /// Every byte string is one: first the crashes, then the list of operations.
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let mut bytes = Bytes::new(bytes);
        let crash = |bytes: &mut Bytes<'_>| Crash {
            after: bytes.seed() % 400,
            in_write: bytes.below(3) == 0,
            cut: (bytes.below(4) > 0).then(|| bytes.seed()),
            harm: bytes.harm(),
        };
        let crashes = (0..=bytes.below(3)).map(|_| crash(&mut bytes)).collect();
        let (setup, mut ops) = bytes.list(60);
        // Those that put another disk in the place of this one are what the crashes do.
        ops.retain(|op| !matches!(op, Op::Kill | Op::PowerCut { .. }));
        Self { setup, crashes, ops }
    }

    pub(crate) fn run(&self) -> Verdict {
        let mut world = World::simulated(self.setup);
        let mut at = 0;
        // How the lives ended whose losses the oracle has not seen yet.
        let mut unseen = None;
        for (life, crash) in self.crashes.iter().enumerate() {
            let named = |what| format!("life {life}, before {crash:?}: {what}");
            let fault = if crash.in_write { Fault::CrashInWrite } else { Fault::Crash };
            let disk = world.disk();
            disk.fail_at(disk.ops() + crash.after, fault, false);
            world.faults = true;
            match world.open() {
                Ok(()) => {
                    if let Some(end) = unseen {
                        world.settle(end).map_err(named)?;
                    }
                    if !world.stopped {
                        unseen = None;
                    }
                    at += run_until(&mut world, &self.ops[at..]).map_err(named)?;
                }
                Err(_) if disk.is_dead() => {}
                Err(e) => return Err(named(format!("open: {e}"))),
            }
            let killed = disk.kill();
            // What a destructor does must not matter: the process is dead.
            world.drop_store();
            let (next, end) = match crash.cut {
                Some(seed) => (disk.crash(seed), End::PowerCut),
                None => (killed, End::Kill),
            };
            // A power cut takes more than a death, whichever of the two came first.
            unseen = if unseen == Some(End::PowerCut) { unseen } else { Some(end) };
            world = world.after(next, crash.harm);
        }
        world.reopen(unseen.unwrap_or(End::Closed))?;
        let rest = run_until(&mut world, &self.ops[at..]);
        rest.map_err(|what| format!("after the last crash: {what}"))?;
        world.step(&Op::Flush)?;
        world.finish().map_err(|what| format!("at the end: {what}"))
    }
}

/// Runs a list until it ends, the disk dies or the store stops. Only a broken promise is an error.
pub(crate) fn run_until(world: &mut World, ops: &[Op]) -> Verdict<usize> {
    let disk = world.disk();
    for (number, op) in ops.iter().enumerate() {
        if disk.is_dead() || world.stopped {
            return Ok(number);
        }
        world.step(op).map_err(|what| format!("op {number} {op:?}: {what}"))?;
    }
    Ok(ops.len())
}
