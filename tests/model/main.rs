//! The model test: runs random operations on a simulated disk and compares every result with an oracle.
//!
//! `FIRSTSEEN_MODEL_CASES` sets the number of cases, `FIRSTSEEN_MODEL_SEED` the first seed. A failure prints its seed,
//! the command that replays it and the shortest list of operations that still fails.

#![allow(clippy::disallowed_macros, reason = "a table line of what was tried is printed")]
#![allow(dead_code, reason = "model, crash and fuzzer each use a part of what they share")]

mod ops;
mod oracle;
mod regressions;
mod run;
mod vandalism;

use ops::{Op, Setup, generate};
use run::{World, run_caught, shrink};

pub(crate) fn env(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}

const OPS_MAX: usize = 60;

/// The failure message: seed, replay command and the shrunk list of operations.
fn report(seed: u64, setup: Setup, ops: &[Op], what: &str) -> String {
    let short = shrink(ops, |ops| run_caught(|| World::simulated(setup), ops).is_err());
    let still = run_caught(|| World::simulated(setup), &short).err().unwrap_or_default();
    let list: Vec<String> = short.iter().map(|op| format!("    {op:?},")).collect();
    format!(
        "seed {seed}: {what}\nreplay: FIRSTSEEN_MODEL_SEED={seed} FIRSTSEEN_MODEL_CASES=1 cargo test \
         --no-default-features --test model -- the_store_answers_as_the_oracle\n{setup:?}\n{}\n{still}",
        list.join("\n")
    )
}

#[test]
fn the_store_answers_as_the_oracle() {
    let (first, cases) = (env("FIRSTSEEN_MODEL_SEED", 1), env("FIRSTSEEN_MODEL_CASES", 5_000));
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let failures = std::sync::Mutex::new(None);
    let next = std::sync::atomic::AtomicU64::new(first);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if seed >= first + cases || failures.lock().is_ok_and(|f| f.is_some()) {
                        return;
                    }
                    let (setup, ops) = generate(seed, OPS_MAX);
                    if let Err(what) = run_caught(|| World::simulated(setup), &ops) {
                        failures.lock().expect("no panic under this lock").replace((seed, what));
                    }
                }
            });
        }
    });
    let failed = failures.into_inner().expect("no panic under this lock");
    let reported = failed.map(|(seed, what)| {
        let (setup, ops) = generate(seed, OPS_MAX);
        report(seed, setup, &ops, &what)
    });
    std::panic::set_hook(hook);
    if let Some(report) = reported {
        panic!("{report}");
    }
    println!("proof | model | {cases} | sequences | from seed {first}; 0 differences");
}
