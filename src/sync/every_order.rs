//! The wake-up of a background thread under every interleaving. Every wait here must be woken, or loom reports a
//! deadlock.

use super::{Arc, AtomicBool, AtomicU64, Ordering, Signal, thread};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(3600);

/// Two threads submit work and ring; the third does what it finds. No work is left undone.
#[test]
fn loom_i12_work_that_was_rung_for_is_done() {
    let orders = explored(None, || {
        let (bell, work) = (Arc::new(Signal::default()), Arc::new(AtomicU64::new(0)));
        let ringers: Vec<_> = (0..2)
            .map(|_| {
                let (bell, work) = (Arc::clone(&bell), Arc::clone(&work));
                thread::spawn(move || {
                    work.fetch_add(1, Ordering::Relaxed);
                    bell.raise();
                })
            })
            .collect();
        let mut done = 0;
        loop {
            done += work.swap(0, Ordering::Relaxed);
            if done == 2 {
                break;
            }
            bell.wait(LONG);
        }
        ringers.into_iter().for_each(|ringer| ringer.join().expect("no panic"));
    });
    report(orders, "work that was rung for is done");
}

/// The loop of a background thread (src/engine/threads.rs) ends when told to, whatever it is doing.
#[test]
fn loom_i12_a_thread_that_is_told_to_stop_stops() {
    let orders = explored(None, || {
        let (bell, stop) = (Arc::new(Signal::default()), Arc::new(AtomicBool::new(false)));
        let worker = {
            let (bell, stop) = (Arc::clone(&bell), Arc::clone(&stop));
            thread::spawn(move || {
                while !stop.load(Ordering::Acquire) {
                    if !stop.load(Ordering::Acquire) {
                        bell.wait(LONG);
                    }
                }
            })
        };
        let other = {
            let bell = Arc::clone(&bell);
            thread::spawn(move || bell.raise())
        };
        stop.store(true, Ordering::Release);
        bell.raise();
        worker.join().expect("no panic");
        other.join().expect("no panic");
    });
    report(orders, "a thread that is told to stop stops");
}

/// Runs a model under every interleaving and returns their number; `stops` limits the preemptions in each.
pub(crate) fn explored(stops: Option<usize>, model: impl Fn() + Sync + Send + 'static) -> u64 {
    let orders = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = std::sync::Arc::clone(&orders);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = stops;
    builder.check(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        model();
    });
    orders.load(std::sync::atomic::Ordering::Relaxed)
}

#[expect(clippy::disallowed_macros, reason = "a table line of what was tried is printed")]
pub(crate) fn report(orders: u64, what: &str) {
    println!(
        "proof | schedules (loom) | {orders} | orders | every order of small models of the real code, among them: {what}"
    );
}
