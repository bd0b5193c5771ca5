//! `firstseen bench --threads`: claims by the number of threads that make them, each run on a store of its own.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use firstseen::Durability;
use serde::Serialize;

use crate::args::BenchArgs;
use crate::output::{self, Exit, Failure, counted, grouped};

use super::ids::Ids;
use super::report::{Row, time};
use super::rounds::{interleaved, median, times};
use super::{Done, claim_all, now, on_threads, open, processor, sum};

/// How it is claimed.
struct Mode {
    what: &'static str,
    is_batch: bool,
    durability: Durability,
    /// Of `--claims` this part.
    part: u64,
}

const MODES: [Mode; 4] = [
    Mode { what: "claim", is_batch: false, durability: Durability::Process, part: 1 },
    Mode { what: "claim_batch of 1,000", is_batch: true, durability: Durability::Process, part: 1 },
    Mode { what: "claim, on disk", is_batch: false, durability: Durability::Disk, part: 50 },
    Mode {
        what: "claim_batch of 1,000, on disk",
        is_batch: true,
        durability: Durability::Disk,
        part: 1,
    },
];

/// Shorter runs would measure how threads start.
const RUN_MIN: Duration = Duration::from_millis(50);
/// No run takes longer, if its end is a number of claims.
const RUN_MAX: Duration = Duration::from_secs(24 * 3600);

/// When a run ends.
#[derive(Debug, Clone, Copy)]
enum End {
    After(Duration),
    Claims(u64),
}

/// What one run did.
struct Run {
    done: Done,
    claims_per_second: f64,
    processor_ns: f64,
}

/// A line of the table: one number of threads in one mode.
#[derive(Debug, Serialize)]
struct Line {
    threads: u64,
    /// Sums over the rounds, but for the rate, which is the median of their rates.
    #[serde(flatten)]
    row: Row,
    duplicates: u64,
    /// How many times the rate with the first number of threads: the median of the ratios within the rounds.
    times_first: f64,
    /// Of all threads of the process for each claim, user and system; the median of the rounds.
    processor_ns: f64,
}

#[derive(Debug, Serialize)]
struct Report {
    ids: String,
    cores: usize,
    rounds: u32,
    rows: Vec<Line>,
}

pub(super) fn run(
    args: &BenchArgs,
    threads: &[u64],
    ids: &Ids,
    place: &Path,
) -> Result<Exit, Failure> {
    let end = end(args, threads)?;
    let mut rows = Vec::new();
    for mode in &MODES {
        output::say(&format!(
            "firstseen: {} ({}) ...",
            mode.what,
            counted(args.rounds.into(), "round")
        ));
        let runs = interleaved(args.rounds as usize, threads, |threads| {
            measure(args, ids, mode, *threads, end, &place.join("store"))
        })?;
        let lines =
            threads.iter().zip(&runs).map(|(threads, own)| line(mode, *threads, own, &runs[0]));
        rows.extend(lines);
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let report = Report { ids: ids.describe(), cores, rounds: args.rounds, rows };
    output::report(&report, args.json)?;
    Ok(Exit::Done)
}

/// Returns when each run ends, or why so little is no measurement.
fn end(args: &BenchArgs, threads: &[u64]) -> Result<End, Failure> {
    let most = threads.iter().copied().max().unwrap_or(1);
    if let Some(claims) = args.claims {
        if claims < most {
            let few = format!("--claims {claims} is not one for each of {most} threads");
            return Err(Failure::call(few));
        }
        return Ok(End::Claims(claims));
    }
    let runs = MODES.len() as u64 * threads.len() as u64 * u64::from(args.rounds);
    let all = Duration::from_secs(args.seconds.into());
    let each = all.div_f64(runs as f64);
    if each < RUN_MIN {
        let enough = RUN_MIN.mul_f64(runs as f64).as_secs_f64().ceil();
        return Err(Failure::call(format!(
            "--seconds {} is too short for {runs} runs ({} ways to claim, {} of threads, {}): {enough} at least",
            args.seconds,
            MODES.len(),
            counted(threads.len() as u64, "number"),
            counted(args.rounds.into(), "round"),
        )));
    }
    Ok(End::After(each))
}

fn measure(
    args: &BenchArgs,
    ids: &Ids,
    mode: &Mode,
    threads: u64,
    end: End,
    path: &Path,
) -> Result<Run, Failure> {
    let store = open(args, path)?;
    let namespace = store.namespace(mode.what)?;
    let (most, claims_each) = match end {
        End::After(most) => (most, u64::MAX),
        End::Claims(claims) => (RUN_MAX, (claims / mode.part / threads).max(1)),
    };
    let (began, before) = (now(), processor::time());
    let until = began + most;
    let all = on_threads(threads, |thread| {
        let draw = ids.draw(thread, threads).at_most(claims_each);
        claim_all(&namespace, draw, mode.is_batch, mode.durability, until)
    })?;
    let took = began.elapsed();
    let used = processor::time().saturating_sub(before);
    drop(namespace);
    store.close()?;
    std::fs::remove_dir_all(path)
        .map_err(|error| Failure::of_system(&format!("remove {}", path.display()), &error))?;
    let done = sum(&all);
    let different = ids.different(&all.iter().map(|done| done.claims).collect::<Vec<_>>());
    if done.first_seen != different {
        return Err(Failure::data(format!(
            "{} from {threads} threads answered first-seen {} times for {different} different ids",
            mode.what, done.first_seen
        )));
    }
    let claims_per_second = done.claims_per_second(took);
    let processor_ns = used.as_nanos() as f64 / done.claims.max(1) as f64;
    Ok(Run { done, claims_per_second, processor_ns })
}

fn line(mode: &Mode, threads: u64, runs: &[Run], first: &[Run]) -> Line {
    let all = sum(runs.iter().map(|run| &run.done));
    let rate = median(runs.iter().map(|run| run.claims_per_second).collect());
    Line {
        threads,
        row: Row::new(mode.what, &all, rate),
        duplicates: all.claims - all.first_seen,
        times_first: times(runs, first, |run| run.claims_per_second),
        processor_ns: median(runs.iter().map(|run| run.processor_ns).collect()),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}; {}, {}, each with all numbers of threads in turn\n",
            self.ids,
            counted(self.cores as u64, "core"),
            counted(self.rounds.into(), "round"),
        )?;
        let first = self.rows.first().map_or(1, |line| line.threads);
        write!(f, "{:<30}{:>8}{:>13}", "", "threads", "claims/s")?;
        write!(f, "{:>12}{:>11}", format!("× {}", counted(first, "thread")), "processor")?;
        write!(f, "{:>11}{:>11}{:>11}", "half in", "99 % in", "worst")?;
        for Line { threads, row, times_first, processor_ns, .. } in &self.rows {
            let rate = grouped(row.claims_per_second);
            let times = [row.p50_ns, row.p99_ns, row.worst_ns].map(|ns| time(ns as f64));
            let [half, most, worst] = &times;
            let processor = time(*processor_ns);
            write!(f, "\n{:<30}{threads:>8}{rate:>13}{times_first:>12.2}", row.what)?;
            write!(f, "{processor:>11}{half:>11}{most:>11}{worst:>11}")?;
        }
        Ok(())
    }
}
