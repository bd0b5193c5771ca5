//! Runs a scenario under many schedules.

use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;

/// Number of scenarios that share the schedules.
const SCENARIOS: u64 = 34;

fn env(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}

fn config(failures: PathBuf) -> Config {
    let mut config = Config::new();
    // Half of what a real thread has, and enough for code that was not optimised.
    config.stack_size = 1 << 20;
    config.max_steps = MaxSteps::FailAfter(200_000);
    config.failure_persistence = FailurePersistence::File(Some(failures));
    config.silence_warnings = true;
    config
}

/// Runs a scenario under its share of the schedules: half of them random, half from the PCT scheduler, which finds bugs
/// that need few but exact context switches. (Burckhardt et al., 2010.)
pub(crate) fn explore(name: &str, scenario: fn()) {
    let failures = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("schedules").join(name);
    std::fs::create_dir_all(&failures).expect("a folder for schedules that fail");
    if let Some(file) = std::env::var_os("FIRSTSEEN_SCHEDULE") {
        let replay = ReplayScheduler::new_from_file(PathBuf::from(file)).expect("a schedule");
        Runner::new(replay, config(failures)).run(scenario);
        return;
    }
    let all = env("FIRSTSEEN_SCHEDULES", 100_000);
    let seed = env("FIRSTSEEN_SCHEDULE_SEED", 1);
    let each = all.div_ceil(SCENARIOS);
    let evenly = each.div_ceil(2) as usize;
    let by_depth = (each as usize - evenly).div_ceil(3);
    run(name, RandomScheduler::new_from_seed(seed, evenly), &failures, scenario);
    for depth in 2..5 {
        run(name, PctScheduler::new_from_seed(seed, depth, by_depth), &failures, scenario);
    }
    let done = evenly + 3 * by_depth;
    println!(
        "proof | schedules (shuttle) | {done} | schedules | {name}, random and PCT, seed {seed}"
    );
}

/// Runs what depends on no schedule, because it starts no threads.
pub(crate) fn once(work: impl Fn() + Send + Sync + 'static) {
    let mut config = config(PathBuf::new());
    config.failure_persistence = FailurePersistence::None;
    Runner::new(RandomScheduler::new_from_seed(1, 1), config).run(work);
}

fn run(name: &str, scheduler: impl Scheduler + 'static, failures: &PathBuf, scenario: fn()) {
    let runner = Runner::new(scheduler, config(failures.clone()));
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| runner.run(scenario))) {
        let newest = std::fs::read_dir(failures).into_iter().flatten().flatten();
        let newest = newest.max_by_key(|entry| entry.metadata().and_then(|m| m.modified()).ok());
        let file = newest.map(|entry| entry.path()).unwrap_or_default();
        eprintln!(
            "replay: FIRSTSEEN_SCHEDULE={} cargo test --no-default-features --features shuttle \
             --test schedules -- {name}",
            file.display()
        );
        resume_unwind(panic);
    }
}
