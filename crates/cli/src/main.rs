//! The `firstseen` command: the engine for people who work in a shell.
//!
//! Data goes to standard output, messages to standard error, and the exit code has a meaning ([`output::Exit`]). The
//! binary uses only the public interface of the crate.

mod args;
mod cmd;
mod input;
mod output;
mod sink;
mod streams;
mod table;
mod utc;

use std::process::ExitCode;

use clap::Parser as _;

use args::Args;

fn main() -> ExitCode {
    // A wrong call ends inside `parse`: clap reports it and exits with 2, as documented.
    output::ended(cmd::run(Args::parse().command)).into()
}
