//! Drives a store with a workload and measures times.
//!
//! Generating an id is part of a claim's time, for every store alike. Reading the clock costs some 25 ns, a tenth of a
//! fast claim, so only every 16th fast claim is timed alone. Those in between are timed together, so that a pause among
//! them still shows in the worst time.

use crate::machine::Threads;
use crate::store::{GROUP_CLAIMS, Session, Store};
use crate::workload::{Sync, Workload};
use anyhow::{Context, Result, anyhow};
use hdrhistogram::Histogram;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// Where claims are fast, one in this many is timed alone.
const SAMPLE: u64 = 16;

/// Totals over the threads of a run.
#[derive(Debug)]
pub struct Measured {
    pub first_seen: u64,
    pub seconds: f64,
    /// Per call: for a batch, of the whole batch.
    pub calls: Histogram<u64>,
    pub worst_ns: u64,
    pub sampled_every: u64,
    pub processor_s: f64,
    /// Threads of the subject itself, after the last claim.
    pub own_threads: u64,
}

/// Threads of this process and of the subject's servers.
fn threads(store: &dyn Store) -> Threads {
    store.processes().into_iter().map(Threads::of_tree).fold(Threads::own(), Threads::plus)
}

struct Done {
    first_seen: u64,
    calls: Histogram<u64>,
    worst: Duration,
    /// When this thread started and finished.
    span: (Instant, Instant),
}

/// From 1 ns to 100 s, with three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 100_000_000_000, 3).expect("valid bounds")
}

impl Done {
    fn new() -> Self {
        let now = Instant::now();
        Self { first_seen: 0, calls: histogram(), worst: Duration::ZERO, span: (now, now) }
    }

    fn record(&mut self, call: Duration) {
        self.calls.saturating_record(call.as_nanos() as u64);
        self.worst = self.worst.max(call);
    }
}

pub fn run(store: &dyn Store, workload: &Workload) -> Result<Measured> {
    let is_fast = store.processes().is_empty() && workload.sync != Sync::Each;
    let sampled_every = if is_fast && workload.batch == 1 { SAMPLE } else { 1 };
    // All sessions are open before the clock starts. Twice for each: when they are, and when processor time has been read.
    let ready = Barrier::new(workload.threads as usize + 1);
    let (before, done) = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workload.threads)
            .map(|thread| {
                let ready = &ready;
                scope.spawn(move || {
                    let session = store.session();
                    ready.wait();
                    ready.wait();
                    let mut session = session?;
                    let mut done = if workload.batch == 1 {
                        one_by_one(session.as_mut(), workload, thread, sampled_every)?
                    } else {
                        in_batches(session.as_mut(), workload, thread)?
                    };
                    if workload.sync == Sync::Thousand {
                        session.sync()?;
                    } else {
                        session.finish()?;
                    }
                    done.span.1 = Instant::now();
                    Ok(done)
                })
            })
            .collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<Done>>| {
            thread.join().unwrap_or_else(|_| Err(anyhow!("a thread of the run panicked")))
        };
        ready.wait();
        let before = self::threads(store).processor_s;
        ready.wait();
        let done: Vec<Result<Done>> = threads.into_iter().map(join).collect();
        (before, done)
    });
    let after = threads(store);
    let mut done = done.into_iter();
    let mut sum = done.next().context("there is a thread")??;
    for done in done {
        let done = done?;
        sum.first_seen += done.first_seen;
        sum.calls.add(&done.calls)?;
        sum.worst = sum.worst.max(done.worst);
        sum.span = (sum.span.0.min(done.span.0), sum.span.1.max(done.span.1));
    }
    let seconds = (sum.span.1 - sum.span.0).as_secs_f64();
    let worst_ns = sum.worst.as_nanos() as u64;
    Ok(Measured {
        first_seen: sum.first_seen,
        seconds,
        calls: sum.calls,
        worst_ns,
        sampled_every,
        processor_s: after.processor_s - before,
        // All but the one that is here.
        own_threads: after.count - 1,
    })
}

fn one_by_one(
    session: &mut dyn Session,
    workload: &Workload,
    thread: u64,
    sampled_every: u64,
) -> Result<Done> {
    let mut done = Done::new();
    let mut draw = workload.draw(thread);
    let mut id = vec![0; workload.id_bytes];
    let syncs = workload.sync == Sync::Thousand;
    // The end of the last timed claim, or of the last sync.
    let mut since = Instant::now();
    for n in 1..=workload.claims_each() {
        draw.next(&mut id);
        if n.is_multiple_of(sampled_every) {
            let before = Instant::now();
            done.worst = done.worst.max(before - since);
            done.first_seen += u64::from(session.claim(&id)?);
            since = Instant::now();
            done.record(since - before);
        } else {
            done.first_seen += u64::from(session.claim(&id)?);
        }
        if syncs && n.is_multiple_of(GROUP_CLAIMS) {
            session.sync()?;
            since = Instant::now();
        }
    }
    Ok(done)
}

fn in_batches(session: &mut dyn Session, workload: &Workload, thread: u64) -> Result<Done> {
    let mut done = Done::new();
    let mut draw = workload.draw(thread);
    let mut left = workload.claims_each();
    let mut buffer = vec![0; workload.id_bytes * workload.batch as usize];
    while left > 0 {
        let count = left.min(workload.batch);
        left -= count;
        let ids = &mut buffer[..workload.id_bytes * count as usize];
        ids.chunks_mut(workload.id_bytes).for_each(|id| draw.next(id));
        let ids: Vec<&[u8]> = ids.chunks(workload.id_bytes).collect();
        let before = Instant::now();
        done.first_seen += session.claim_batch(&ids)?;
        done.record(before.elapsed());
    }
    Ok(done)
}
