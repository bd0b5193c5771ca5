//! Crash schedules decoded from bytes: operations, crashes with the disk state and block damage they leave, and crashes
//! during recovery. Used with seeds (schedules.rs) and by the fuzzer (fuzz/fuzz_targets/crash_schedule.rs).

use crate::ops::{Bytes, Harm, Op, Setup};
use crate::oracle::End;
use crate::run::{Verdict, World};
use firstseen::disk::sim::Fault;

/// How one life of the store ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Crash {
    /// The crash comes after this many disk operations of this life.
    pub(crate) after: u64,
    pub(crate) in_write: bool,
    /// Seed of what a power cut keeps, or `None` if only the process is killed.
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
    /// Decodes a schedule; every byte string is valid. The crashes come first, then the operations.
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
        // The crashes take the place of the operations that replace the disk.
        ops.retain(|op| !matches!(op, Op::Kill | Op::PowerCut { .. }));
        Self { setup, crashes, ops }
    }

    pub(crate) fn run(&self) -> Verdict {
        let mut world = World::simulated(self.setup);
        let mut at = 0;
        // How the lives ended since the oracle last settled.
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
            // The process is dead: a close by the destructor must have no effect.
            world.drop_store();
            let (next, end) = match crash.cut {
                Some(seed) => (disk.crash(seed), End::PowerCut),
                None => (killed, End::Kill),
            };
            // A power cut loses more than a kill, in whichever order they came.
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

/// Runs operations until the disk dies or the store stops; returns how many. Only a broken promise is an error.
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
