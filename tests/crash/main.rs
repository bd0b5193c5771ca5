//! Crashes and disk errors at every operation of a simulated disk. Operations and oracle are those of the model test;
//! real processes and file systems are tested in tests/kernel.
//!
//! `FIRSTSEEN_CRASH_STATES`, `FIRSTSEEN_CRASH_SCHEDULES`, `FIRSTSEEN_FAULT_RUNS` and `FIRSTSEEN_DAMAGES` set how much
//! is tried, `FIRSTSEEN_CRASH_SEED` the first seed. Every failure prints the command that replays it.

#![allow(clippy::disallowed_macros, reason = "a table line of what was tried is printed")]
#![allow(dead_code, reason = "model, crash and fuzzer each use a part of what they share")]

mod damage;
mod faults;
mod moves;
#[path = "../model/ops.rs"]
mod ops;
#[path = "../model/oracle.rs"]
mod oracle;
mod power;
#[path = "../model/run.rs"]
mod run;
mod schedule;
mod schedules;

use ops::{Op, Setup, generate};
use run::Verdict;
pub(crate) use schedule::run_until;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) fn env(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}

const OPS_MAX: usize = 40;

/// The operations of a seed, without those that replace the disk: the tests do that themselves.
pub(crate) fn workload(seed: u64) -> (Setup, Vec<Op>) {
    let (setup, mut ops) = generate(seed, OPS_MAX);
    ops.retain(|op| !matches!(op, Op::Kill | Op::PowerCut { .. }));
    (setup, ops)
}

/// Works through seeds on two threads until `enough` is counted. Returns the number of seeds and the count.
pub(crate) fn many(
    name: &str,
    enough: u64,
    work: impl Fn(u64) -> Verdict<u64> + Sync,
) -> (u64, u64) {
    let first = env("FIRSTSEEN_CRASH_SEED", 1);
    let (next, counted) = (AtomicU64::new(first), AtomicU64::new(0));
    let failure: Mutex<Option<String>> = Mutex::new(None);
    let body = || {
        while counted.load(Ordering::Relaxed) < enough {
            if failure.lock().expect("nobody panics under this lock").is_some() {
                return;
            }
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(seed)));
            match caught.unwrap_or_else(|_| Err("panicked (see above)".to_owned())) {
                Ok(n) => {
                    counted.fetch_add(n, Ordering::Relaxed);
                }
                Err(what) => {
                    let what = format!(
                        "seed {seed}: {what}\nreplay: FIRSTSEEN_CRASH_SEED={seed} cargo test \
                         --no-default-features --test crash -- {name}\n{:?}",
                        workload(seed)
                    );
                    *failure.lock().expect("nobody panics under this lock") = Some(what);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(body);
        body();
    });
    if let Some(what) = failure.into_inner().expect("nobody panics under this lock") {
        panic!("{what}");
    }
    (next.into_inner() - first, counted.into_inner())
}
