//! `firstseen bench`: claims per second and the cost of an id, on this disk and with these ids.
//!
//! Every trial uses its own namespace in one store, so the same ids are new to each while the store grows underneath.
//! Trials by the number of threads have a store each. Stores are removed at the end.

mod ids;
mod processor;
mod report;
mod rounds;
mod threads;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use firstseen::limits::ID_BYTES_MAX;
use firstseen::{Builder, Durability, Namespace, Store};
use hdrhistogram::Histogram;

use crate::args::BenchArgs;
use crate::output::{self, Exit, Failure};

use ids::Ids;
use report::{Report, Row};

/// Ids in a batch, as a consumer would take them from a broker.
const BATCH_IDS: usize = 1_000;
/// Share of the time spent on measuring the limit.
const LIMIT_PART: f64 = 0.07;
/// Callers that share a sync.
const SYNCERS: u64 = 64;

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn now() -> Instant {
    Instant::now()
}

/// One trial: how it claims, and its share of the time.
struct Trial {
    what: String,
    part: f64,
    threads: u64,
    durability: Durability,
    is_batch: bool,
}

/// What one thread of a trial did.
struct Done {
    claims: u64,
    first_seen: u64,
    calls: Histogram<u64>,
}

impl Done {
    fn claims_per_second(&self, took: Duration) -> f64 {
        self.claims as f64 / took.as_secs_f64().max(1e-9)
    }
}

fn trials() -> Vec<Trial> {
    let cores = std::thread::available_parallelism().map_or(2, |n| n.get() as u64);
    let trial = |what: &str, part, threads, durability, is_batch| Trial {
        what: what.to_owned(),
        part,
        threads,
        durability,
        is_batch,
    };
    let (process, disk) = (Durability::Process, Durability::Disk);
    vec![
        trial("claim, 1 thread", 0.4, 1, process, false),
        trial(&format!("claim, {cores} threads"), 0.15, cores, process, false),
        trial("claim_batch of 1,000", 0.1, 1, process, true),
        trial("claim_batch of 1,000, on disk", 0.1, 1, disk, true),
        trial("claim on disk, 1 thread", 0.08, 1, disk, false),
        trial(&format!("claim on disk, {SYNCERS} threads"), 0.1, SYNCERS, disk, false),
    ]
}

/// A folder for the trials, removed when they end, however they end.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0)
            && self.0.exists()
        {
            output::complain(&format!("cannot remove {}: {error}", self.0.display()));
        }
    }
}

pub(super) fn run(args: &BenchArgs) -> Result<Exit, Failure> {
    let ids = match &args.ids {
        Some(path) => Ids::of_file(path)?,
        None => Ids::Random { bytes: args.id_bytes, duplicates_percent: args.duplicates },
    };
    let place = Place(args.dir.join(format!("firstseen-bench-{}", std::process::id())));
    if place.0.exists() {
        return Err(Failure::call(format!("{} is in the way", place.0.display())));
    }
    match &args.threads {
        Some(list) => threads::run(args, &list.0, &ids, &place.0),
        None => by_kind(args, &ids, &place.0),
    }
}

fn open(args: &BenchArgs, path: &Path) -> firstseen::Result<Store> {
    args.memory.into_iter().fold(Store::builder(path), Builder::memory_budget).open()
}

/// Measures each kind of call, on one growing store.
fn by_kind(args: &BenchArgs, ids: &Ids, place: &Path) -> Result<Exit, Failure> {
    let path = place.join("store");
    let store = open(args, &path)?;
    let mut rows = Vec::new();
    for trial in trials() {
        let time = Duration::from_secs_f64(f64::from(args.seconds) * trial.part);
        output::say(&format!("firstseen: {} ({:.0} s) ...", trial.what, time.as_secs_f64()));
        rows.push(measure(&store, ids, &trial, time)?);
    }
    let time = Duration::from_secs_f64(f64::from(args.seconds) * LIMIT_PART);
    output::say("firstseen: the limit ...");
    let limit = limit(ids, &place.join("limit"), time)?;
    let stats = store.stats();
    let memory_bytes =
        stats.memory_unflushed_bytes + stats.memory_block_bytes + stats.memory_filter_bytes;
    let began = now();
    store.close()?;
    let close_seconds = began.elapsed().as_secs_f64();
    let began = now();
    let store = open(args, &path)?;
    let open_seconds = began.elapsed().as_secs_f64();
    let after = store.stats();
    store.close()?;
    let report = Report {
        ids: ids.describe(),
        ids_kept: rows.iter().map(|row| row.first_seen).sum(),
        rows,
        limit,
        log_bytes: after.log_bytes,
        sled_bytes: after.sled_bytes,
        memory_bytes,
        close_seconds,
        open_seconds,
    };
    output::report(&report, args.json)?;
    Ok(Exit::Done)
}

fn measure(store: &Store, ids: &Ids, trial: &Trial, time: Duration) -> Result<Row, Failure> {
    let namespace = store.namespace(&trial.what)?;
    let began = now();
    let until = began + time;
    let done = on_threads(trial.threads, |thread| {
        let draw = ids.draw(thread, trial.threads);
        claim_all(&namespace, draw, trial.is_batch, trial.durability, until)
    })?;
    let took = began.elapsed();
    let sum = sum(&done);
    Ok(Row::new(&trial.what, &sum, sum.claims_per_second(took)))
}

/// Does the work with each number below `threads`, on a thread of its own.
fn on_threads(
    threads: u64,
    work: impl Fn(u64) -> firstseen::Result<Done> + Sync,
) -> firstseen::Result<Vec<Done>> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> =
            (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| match thread.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        // Of all, also after one has failed: a scope panics if a thread that it joins has.
        threads.into_iter().map(join).collect::<Vec<_>>().into_iter().collect()
    })
}

/// Adds up what several threads, or several runs, have done.
fn sum<'a>(all: impl IntoIterator<Item = &'a Done>) -> Done {
    let mut sum = Done { claims: 0, first_seen: 0, calls: histogram() };
    for done in all {
        sum.claims += done.claims;
        sum.first_seen += done.first_seen;
        // Both have the same bounds, so this cannot fail.
        let _ = sum.calls.add(&done.calls);
    }
    sum
}

/// Claims what is drawn, until its end or until a moment.
fn claim_all(
    namespace: &Namespace,
    draw: ids::Draw<'_>,
    is_batch: bool,
    durability: Durability,
    until: Instant,
) -> firstseen::Result<Done> {
    if is_batch {
        in_batches(namespace, draw, durability, until)
    } else {
        one_by_one(namespace, draw, durability, until)
    }
}

/// Creates a histogram from one nanosecond to 100 seconds, with three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 100_000_000_000, 3).expect("these bounds are right")
}

fn one_by_one(
    namespace: &Namespace,
    mut draw: ids::Draw<'_>,
    durability: Durability,
    until: Instant,
) -> firstseen::Result<Done> {
    let mut done = Done { claims: 0, first_seen: 0, calls: histogram() };
    let mut buf = [0; ID_BYTES_MAX];
    let options = firstseen::ClaimOptions::new().durability(durability);
    // The end of one call is the start of the next: reading the clock costs a fraction of a claim.
    let mut before = now();
    while before < until {
        let Some(id) = draw.next(&mut buf) else { break };
        let answer = namespace.claim_with(id, options)?;
        done.first_seen += u64::from(answer.is_first_seen());
        done.claims += 1;
        let after = now();
        done.calls.saturating_record((after - before).as_nanos() as u64);
        before = after;
    }
    Ok(done)
}

fn in_batches(
    namespace: &Namespace,
    mut draw: ids::Draw<'_>,
    durability: Durability,
    until: Instant,
) -> firstseen::Result<Done> {
    let mut done = Done { claims: 0, first_seen: 0, calls: histogram() };
    let mut buf = [0; ID_BYTES_MAX];
    let options = firstseen::ClaimOptions::new().durability(durability);
    loop {
        let mut batch: Vec<Vec<u8>> = Vec::with_capacity(BATCH_IDS);
        while batch.len() < BATCH_IDS
            && let Some(id) = draw.next(&mut buf)
        {
            batch.push(id.to_vec());
        }
        let before = now();
        if batch.is_empty() || before >= until {
            return Ok(done);
        }
        let answers = namespace.claim_batch_with(&batch, options)?;
        done.calls.saturating_record(before.elapsed().as_nanos() as u64);
        done.claims += answers.len() as u64;
        done.first_seen += answers.iter().filter(|answer| answer.is_first_seen()).count() as u64;
    }
}

/// Measures the limit of what any store could do: just a hash set, and a file that is only appended to.
fn limit(ids: &Ids, path: &Path, time: Duration) -> Result<Row, Failure> {
    use std::io::Write as _;
    let fault = |e: std::io::Error| Failure::data(format!("cannot write {}: {e}", path.display()));
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).map_err(fault)?);
    let mut seen = std::collections::HashSet::<Box<[u8]>>::new();
    let mut done = Done { claims: 0, first_seen: 0, calls: histogram() };
    let (mut draw, mut buf) = (ids.draw(0, 1), [0; ID_BYTES_MAX]);
    let began = now();
    let mut before = began;
    while before - began < time {
        let Some(id) = draw.next(&mut buf) else { break };
        if !seen.contains(id) {
            seen.insert(id.into());
            file.write_all(id).map_err(fault)?;
            done.first_seen += 1;
        }
        done.claims += 1;
        let after = now();
        done.calls.saturating_record((after - before).as_nanos() as u64);
        before = after;
    }
    let rate = done.claims_per_second(began.elapsed());
    std::fs::remove_file(path).map_err(fault)?;
    Ok(Row::new("limit: a hash set and a file", &done, rate))
}

#[cfg(test)]
mod tests {
    use super::rounds::{interleaved, median, times};

    #[test]
    fn every_round_has_all_settings_in_turn_and_every_other_one_goes_backwards() {
        let mut order = Vec::new();
        let seen = interleaved(3, &['a', 'b'], |setting| {
            order.push(*setting);
            Ok::<_, ()>(format!("{setting}{}", order.len()))
        });
        assert_eq!(order, ['a', 'b', 'b', 'a', 'a', 'b']);
        assert_eq!(seen.unwrap(), [["a1", "a4", "a5"], ["b2", "b3", "b6"]]);
        let failed =
            interleaved(2, &[1, 2], |setting| if *setting == 2 { Err("no") } else { Ok(()) });
        assert_eq!(failed, Err("no"));
    }

    #[test]
    fn a_ratio_is_of_runs_of_the_same_round() {
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a}, not {b}");
        // Ratios of 2, 3 and 1; that of the medians would be 4 to 4.
        close(times(&[2.0, 30.0, 4.0], &[1.0, 10.0, 4.0], |rate| *rate), 2.0);
        close(median(vec![9.0, 1.0, 3.0]), 3.0);
        close(median(vec![4.0, 1.0, 3.0, 2.0]), 2.5);
    }
}
