//! Histories: threads on a store record every result with the interval in which its call took effect, and a checker
//! looks for an order that explains them all (`check.rs`).
//!
//! `FIRSTSEEN_HISTORIES` sets how many, `FIRSTSEEN_CRASH_SEED` the first seed. A seed decides what the threads do, not
//! their timing, so it may take many runs to reproduce a failure.

#![allow(clippy::disallowed_macros, reason = "a table line of what was tried is printed")]

mod check;
mod drive;
mod life;
mod record;
mod wrong;

use life::{Tally, live};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

/// A history takes a fraction of a second. One that takes this long hangs (I12).
const HANGS_AFTER: Duration = Duration::from_secs(120);

const AT_ONCE: usize = 4;

fn env(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}

/// Runs one history on a thread that can be abandoned.
fn watched(seed: u64) -> Result<Tally, String> {
    let (done, answer) = mpsc::channel();
    std::thread::spawn(move || {
        let lived = std::panic::catch_unwind(|| live(seed));
        done.send(lived.unwrap_or_else(|_| Err("panicked (see above)".to_owned()))).ok();
    });
    answer.recv_timeout(HANGS_AFTER).unwrap_or_else(|_| Err("hangs".to_owned()))
}

#[test]
fn i1_i4_i6_i12_every_history_has_an_order_that_explains_it() {
    let (first, many) = (env("FIRSTSEEN_CRASH_SEED", 1), env("FIRSTSEEN_HISTORIES", 2_000));
    let next = AtomicU64::new(first);
    let total: Mutex<(Tally, Option<String>)> = Mutex::default();
    let body = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + many || total.lock().expect("no panic here").1.is_some() {
                return;
            }
            let lived = watched(seed);
            let mut total = total.lock().expect("no panic here");
            match lived {
                Ok(tally) => total.0.add(&tally),
                Err(what) => {
                    total.1 = Some(format!(
                        "seed {seed}: {what}\nreplay: FIRSTSEEN_CRASH_SEED={seed} FIRSTSEEN_HISTORIES=1 \
                         cargo test --no-default-features --test histories"
                    ));
                }
            }
        }
    };
    // More than there are cores: the threads of a history often wait for each other.
    std::thread::scope(|scope| (0..AT_ONCE).for_each(|_| drop(scope.spawn(body))));
    let (tally, failure) = total.into_inner().expect("no panic here");
    if let Some(what) = failure {
        panic!("{what}");
    }
    let Tally { events, unknown, kills, power_cuts, .. } = tally;
    println!(
        "proof | histories | {many} | histories | 2 to 16 threads, {events} events of which {unknown} with \
         unknown outcome, {kills} kills, {power_cuts} power cuts; meanwhile {} runs flushed, {} merges, {} \
         heals, {} runs expired, {} segments removed; from seed {first}",
        tally.flushes, tally.merges, tally.heals, tally.sweeps, tally.compactions
    );
}
