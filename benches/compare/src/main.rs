//! Which store to choose: firstseen against stores that could do its job, with the same workloads, in one run on one
//! machine. `scripts/bench.sh compare` builds it, runs it and writes docs/BENCHMARKS.md.

mod dedup;
mod ledger;
mod machine;
mod measure;
mod outcome;
mod paths;
mod peers;
mod plan;
#[path = "../../../crates/cli/src/cmd/bench/processor.rs"]
mod processor;
mod report;
mod results;
mod run;
mod server;
mod store;
mod suite;
mod threads;
mod transactions;
mod workload;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(about, version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One store, one workload: prints one line of JSON.
    Run(run::RunArgs),
    /// Every store with every workload of the plan, each in turn with firstseen. Resumes if interrupted.
    Suite(suite::SuiteArgs),
    /// Writes docs/BENCHMARKS.md and docs/plots from the results of the last suite.
    Report(report::ReportArgs),
    /// Claims by the number of threads, beside every store that several threads can share: writes the section of
    /// docs/BENCHMARKS.md and its plots.
    Threads(threads::ThreadsArgs),
    /// Begin and complete of a ledger, beside the same protocol on other stores: prints a table.
    Ledger(ledger::LedgerArgs),
    /// Claim, state, offset and message in one transaction, beside the same on other stores: prints a table.
    Transactions(transactions::TransactionsArgs),
    /// One process of a run.
    #[command(hide = true)]
    Phase {
        #[arg(value_enum)]
        phase: run::Phase,
        #[command(flatten)]
        args: run::RunArgs,
    },
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Run(args) => {
            println!("{}", serde_json::to_string(&run::run(&args)?)?);
            Ok(())
        }
        Command::Suite(args) => suite::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Threads(args) => threads::run(&args),
        Command::Ledger(args) => ledger::run(&args),
        Command::Transactions(args) => transactions::run(&args),
        Command::Phase { phase, args } => run::phase(&args, phase),
    }
}
