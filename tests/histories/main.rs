//! Histories: threads on a store record every result with the interval in which its call took effect, and a checker
//! looks for an order that explains them all (`check.rs`; for workers at a ledger, `workers/check.rs`;
//! for transactions, `transactions.rs`).
//!
//! `FIRSTSEEN_HISTORIES` sets how many, `FIRSTSEEN_CROWDED_HISTORIES` how many of sixteen threads at the same ids,
//! `FIRSTSEEN_CRASH_SEED` the first seed. A seed decides what the threads do, not their timing, so it may take many runs to
//! reproduce a failure.

#![allow(clippy::disallowed_macros, reason = "a table line of what was tried is printed")]

mod check;
mod drive;
mod life;
mod record;
mod transactions;
mod workers;
mod wrong;

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
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

thread_local! {
    /// What the history of this thread is at.
    static DOING: RefCell<Arc<Mutex<String>>> = RefCell::default();
}

/// Notes what a history is at, so that one that hangs can say where: in calls of the store, or in the checker.
fn doing(what: impl FnOnce() -> String) {
    DOING.with_borrow(|doing| *doing.lock().expect("no panic here") = what());
}

/// Runs one history on a thread that can be abandoned.
fn watched<T: Send + 'static>(seed: u64, live: fn(u64) -> Result<T, String>) -> Result<T, String> {
    let (done, answer) = mpsc::channel();
    let at: Arc<Mutex<String>> = Arc::default();
    let noted = at.clone();
    std::thread::spawn(move || {
        DOING.set(noted);
        let lived = std::panic::catch_unwind(|| live(seed));
        done.send(lived.unwrap_or_else(|_| Err("panicked (see above)".to_owned()))).ok();
    });
    answer.recv_timeout(HANGS_AFTER).unwrap_or_else(|_| {
        Err(format!(
            "hangs, not done in {HANGS_AFTER:?}; at last: {}",
            at.lock().expect("no panic here")
        ))
    })
}

/// Runs this many histories, and sums up what happened in them.
fn run_all<T: Default + Send + 'static>(
    first: u64,
    many: u64,
    test: &str,
    live: fn(u64) -> Result<T, String>,
    add: fn(&mut T, &T),
) -> T {
    let next = AtomicU64::new(first);
    let total: Mutex<(T, Option<String>)> = Mutex::default();
    let body = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + many || total.lock().expect("no panic here").1.is_some() {
                return;
            }
            let lived = watched(seed, live);
            let mut total = total.lock().expect("no panic here");
            match lived {
                Ok(tally) => add(&mut total.0, &tally),
                Err(what) => {
                    total.1 = Some(format!(
                        "seed {seed}: {what}\nreplay: FIRSTSEEN_CRASH_SEED={seed} FIRSTSEEN_HISTORIES=1 \
                         FIRSTSEEN_CROWDED_HISTORIES=1 cargo test --no-default-features --test histories {test}"
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
    tally
}

fn size() -> (u64, u64) {
    (env("FIRSTSEEN_CRASH_SEED", 1), env("FIRSTSEEN_HISTORIES", 2_000))
}

#[test]
fn i1_i4_i6_i12_every_history_has_an_order_that_explains_it() {
    let (first, many) = size();
    let tally = run_all(first, many, "an_order_that", life::live, life::Tally::add);
    let life::Tally { events, unknown, kills, power_cuts, .. } = tally;
    println!(
        "proof | histories | {many} | histories | 2 to 16 threads, {events} events of which {unknown} with \
         unknown outcome, {kills} kills, {power_cuts} power cuts; meanwhile {} runs flushed, {} merges, {} \
         heals, {} runs expired, {} segments removed; from seed {first}",
        tally.flushes, tally.merges, tally.heals, tally.sweeps, tally.compactions
    );
}

#[test]
fn i1_i4_i6_i12_an_order_explains_what_sixteen_threads_at_the_same_ids_hear() {
    let (first, many) = (env("FIRSTSEEN_CRASH_SEED", 1), env("FIRSTSEEN_CROWDED_HISTORIES", 100));
    let tally = run_all(first, many, "sixteen_threads", life::live_crowded, life::Tally::add);
    let life::Tally { events, unknown, beside, kills, power_cuts, .. } = tally;
    // A replay of one that ended early has too few to say so.
    assert!(
        many < 20 || beside >= events / 4,
        "only {beside} of {events} events were beside another of the same id"
    );
    println!(
        "proof | histories of a crowd | {many} | histories | {} threads that claim and forget the same few ids, one by \
         one and in batches: {events} events, {beside} of them beside another of the same id, {unknown} with unknown \
         outcome, {kills} kills, {power_cuts} power cuts; from seed {first}",
        life::CROWD
    );
}

#[test]
fn i8_i12_workers_hear_what_a_ledger_would_say_whose_calls_come_one_after_the_other() {
    let (first, many) = size();
    let tally = run_all(first, many, "workers_hear", workers::live, workers::Tally::add);
    let workers::Tally { events, started, refused, over, beside, joined } = tally;
    println!(
        "proof | histories of workers | {many} | histories | 2 to 8 threads at the same ids of a ledger, {events} \
         events, {beside} of them beside another of the same id, {joined} moves in transactions with a row: {started} attempts started, {refused} calls refused because somebody had taken over or the lease \
         had ended, {over} told that it was over; from seed {first}"
    );
}

#[test]
fn i1_i8_transactions_and_scans_are_as_if_they_came_one_after_the_other() {
    let (first, many) = size();
    let tally =
        run_all(first, many, "as_if_they_came", transactions::live, transactions::Tally::add);
    let transactions::Tally { committed, rejected, scans } = tally;
    println!(
        "proof | histories of transactions | {many} | histories | 2 to 6 threads that read and write the same six \
         values: {committed} commits, {rejected} rejected because somebody was faster, {scans} scans; each in an \
         order of all, also in that of time; from seed {first}"
    );
}
