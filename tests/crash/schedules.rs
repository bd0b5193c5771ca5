//! Crash schedules from seeds.

use crate::ops::Rng;
use crate::schedule::Schedule;
use crate::{env, many};

/// The same schedules as the fuzzer runs, from random bytes.
#[test]
fn schedules_of_several_crashes_lose_nothing_that_was_acknowledged() {
    let name = "schedules_of_several_crashes";
    let (schedules, crashes) = many(name, env("FIRSTSEEN_CRASH_SCHEDULES", 10_000), |seed| {
        let mut rng = Rng(seed);
        let len = 20 + rng.below(280);
        let bytes: Vec<u8> = (0..len).map(|_| rng.next() as u8).collect();
        let schedule = Schedule::new(&bytes);
        schedule.run().map_err(|what| format!("{what}\n{schedule:?}"))?;
        Ok(schedule.crashes.len() as u64)
    });
    println!(
        "proof | crash schedules | {schedules} | schedules | {crashes} crashes; 0 lost, 0 twice"
    );
}
