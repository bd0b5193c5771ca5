//! Runs the whole plan. Every subject is measured right after firstseen, so that a ratio is of two runs under the same
//! conditions.

use crate::dedup::{self, Programs};
use crate::machine::{self, Origin};
use crate::outcome::Outcome;
use crate::plan::{self, Case, Scale};
use crate::results::{Lines, Pair, Results, What};
use crate::run::{self, RunArgs};
use crate::workload::Workload;
use crate::{paths, peers};
use anyhow::{Result, bail};
use clap::Args;
use std::path::PathBuf;
use std::time::Instant;

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct SuiteArgs {
    /// A million claims per run, about a quarter of an hour. The default.
    #[arg(long)]
    pub quick: bool,
    /// Ten million claims per run, three rounds, up to a hundred million ids: half a day.
    #[arg(long, conflicts_with = "quick")]
    pub full: bool,
    /// Only what the design goals need, one round at the sizes they are set for: half an hour.
    #[arg(long, conflicts_with_all = ["quick", "full"])]
    pub goals: bool,
    /// Claims per run; everything else scales in proportion.
    #[arg(long)]
    pub claims: Option<u64>,
    /// Only cases whose name contains this.
    #[arg(long)]
    pub only: Option<String>,
    /// Run again what already has a result. The report then takes the medians.
    #[arg(long)]
    pub again: bool,
    /// Where to create the stores, on the disk to be measured. By default in benches/compare/target.
    #[arg(long)]
    pub dir: Option<PathBuf>,
}

/// Measures cases and keeps the results.
pub struct Suite {
    results: Results,
    dir: PathBuf,
    again: bool,
    began: Instant,
    failed: u32,
}

/// Lines per claim of a run for the programs that read lines, and their maximum, for which the goal is set.
const LINES_SHARE: u64 = 5;
const LINES_MAX: u64 = 5_000_000;

pub fn run(args: &SuiteArgs) -> Result<()> {
    let scale = match (args.full, args.goals) {
        (true, _) => Scale::FULL,
        (_, true) => Scale::GOALS,
        _ => Scale::QUICK,
    };
    let scale = args.claims.map_or(scale, |claims| scale.with_claims(claims));
    let dir = args.dir.clone().unwrap_or_else(|| paths::target().join("data"));
    std::fs::create_dir_all(&dir)?;
    let origin = Origin {
        commit: machine::commit(&paths::repository()),
        machine: machine::describe(&dir),
        scale: scale.claims,
    };
    eprintln!("{}, commit {}", origin.machine, origin.commit);
    let results = Results::read(&paths::results(), origin)?;
    let mut suite = Suite::new(results, dir, args.again);
    let is_wanted = |name: &str| args.only.as_ref().is_none_or(|part| name.contains(part));
    for round in 0..scale.rounds {
        let cases = plan::cases(scale);
        for case in if args.goals { plan::for_goals(cases) } else { cases } {
            // Growth runs are long and have many points: one round is enough.
            if is_wanted(&case.name) && !(round > 0 && case.name.starts_with("growth")) {
                suite.case(&case, round);
            }
        }
        if is_wanted("dedup") {
            let claims = (scale.claims * LINES_SHARE).min(LINES_MAX);
            if let Err(error) = suite.lines(claims, round) {
                suite.complain("dedup", &error);
            }
        }
    }
    suite.end()
}

impl Suite {
    pub fn new(results: Results, dir: PathBuf, again: bool) -> Self {
        Self { results, dir, again, began: Instant::now(), failed: 0 }
    }

    pub fn end(self) -> Result<()> {
        match self.failed {
            0 => Ok(()),
            failed => bail!("{failed} runs failed; the same command tries them again"),
        }
    }

    fn complain(&mut self, what: &str, error: &anyhow::Error) {
        self.failed += 1;
        eprintln!("FAILED {what}: {error:#}");
    }

    /// Measures every subject of a case that is here, each right after firstseen.
    pub fn case(&mut self, case: &Case, round: u32) {
        for store in &case.stores {
            if !self.again && self.results.has(&case.name, store, round) {
                continue;
            }
            if !peers::is_here(store) {
                eprintln!("left out: {store} is not on this machine or in this build");
                continue;
            }
            if let Err(error) = self.pair(case, store, round) {
                self.complain(&format!("{} {store}", case.name), &error);
            }
        }
    }

    fn pair(&mut self, case: &Case, store: &str, round: u32) -> Result<()> {
        let ours = match store {
            "firstseen" => None,
            _ => Some(self.one("firstseen", &case.workload, true)?),
        };
        let claims = plan::claims_of(store, &case.workload);
        let workload = Workload { claims, ..case.workload.clone() };
        // Reopening varies too little between rounds to be worth the time.
        let theirs = self.one(store, &workload, !case.reopens || round > 0)?;
        let pair = Pair { case: case.name.clone(), round, ours, theirs };
        let minutes = self.began.elapsed().as_secs() / 60;
        let ratio = pair.ratio().map_or(String::new(), |r| format!(", firstseen {r:.1} times"));
        let rate = pair.theirs.claims.claims_per_s;
        eprintln!("{minutes:>4} min  {:<16} {store:<20} {rate:>12.0} claims/s{ratio}", case.name);
        self.results.add(What::Pair(Box::new(pair)))
    }

    fn one(&self, store: &str, workload: &Workload, only_claims: bool) -> Result<Outcome> {
        let dir = self.dir.join(format!("{store}-{}", std::process::id()));
        run::run(&RunArgs { store: store.to_owned(), workload: workload.clone(), dir, only_claims })
    }

    fn lines(&mut self, claims: u64, round: u32) -> Result<()> {
        let programs = Programs { firstseen: paths::binary(), bin: paths::target().join("bin") };
        let tools: Vec<_> = dedup::TOOLS
            .into_iter()
            .filter(|tool| self.again || !self.results.has_lines(tool, round))
            .filter(|tool| programs.has(tool) && programs.has("firstseen"))
            .collect();
        if tools.is_empty() {
            return Ok(());
        }
        let mut workload = plan::cases(Scale::QUICK)[0].workload.clone();
        workload.claims = claims;
        let folder = run::Place(self.dir.join(format!("lines-{}", std::process::id())));
        std::fs::create_dir_all(&folder.0)?;
        let file = folder.0.join("lines");
        dedup::write_lines(&file, &workload)?;
        for tool in tools {
            let ours = dedup::run(&programs, "firstseen", &file, &workload)?;
            let theirs = dedup::run(&programs, tool, &file, &workload)?;
            eprintln!("dedup: firstseen {:.2} s, {tool} {:.2} s", ours.seconds, theirs.seconds);
            self.results.add(What::Lines(Lines { round, ours, theirs }))?;
        }
        Ok(())
    }
}
