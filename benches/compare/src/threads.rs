//! Claims by the number of threads, of firstseen and of every peer that threads can share. All of it is measured in one run,
//! in rounds: each round has all ways to claim, in those all peers, and for a peer all numbers of threads, each right after
//! firstseen. So the numbers of threads of one store are measured within seconds.

use crate::machine::{self, Origin};
use crate::plan::Case;
use crate::results::Results;
use crate::suite::Suite;
use crate::{paths, plan, report};
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct ThreadsArgs {
    /// Numbers of claiming threads.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8,64")]
    threads: Vec<u64>,
    /// Claims of a run without syncs; slow peers and runs that sync make fewer.
    #[arg(long, default_value_t = 400_000)]
    claims: u64,
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Where to create the stores, on the disk to be measured. By default in benches/compare/target.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Measure nothing: write the section and the plots from the last run.
    #[arg(long)]
    report: bool,
}

pub fn run(args: &ThreadsArgs) -> Result<()> {
    let path = paths::results_by_threads();
    let suite = if args.report { None } else { Some(measure(args, &path)?) };
    // Written even if a run failed; it is missing there.
    let results = Results::last(&path, |_| true)?.context("there are no results yet")?;
    report::threads::write(&results, &paths::docs())?;
    suite.map_or(Ok(()), Suite::end)
}

fn measure(args: &ThreadsArgs, path: &std::path::Path) -> Result<Suite> {
    ensure!(args.rounds > 0 && !args.threads.is_empty(), "at least one round and one thread");
    ensure!(
        args.threads.is_sorted_by(|a, b| a < b),
        "numbers of threads, the least first, each once"
    );
    let cases = plan::by_threads(args.claims, &args.threads);
    cases.iter().try_for_each(|case| case.workload.check())?;
    let dir = args.dir.clone().unwrap_or_else(|| paths::target().join("data"));
    std::fs::create_dir_all(&dir)?;
    // One run: nothing is taken from an earlier one.
    if path.exists() {
        std::fs::remove_file(path)?;
    }
    let machine =
        format!("{}; load average {} before it began", machine::describe(&dir), machine::load());
    let commit = machine::commit(&paths::repository());
    let origin = Origin { commit, machine, scale: args.claims };
    eprintln!("{}, commit {}", origin.machine, origin.commit);
    let mut suite = Suite::new(Results::read(path, origin)?, dir, false);
    for round in 0..args.rounds {
        for way in cases.chunks(args.threads.len()) {
            for store in &way[0].stores {
                for case in way {
                    suite.case(&Case { stores: vec![store], ..case.clone() }, round);
                }
            }
        }
    }
    Ok(suite)
}
