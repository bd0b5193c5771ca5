//! The protocol of a ledger, beside the same protocol on stores that teams build it on by hand: `begin` (nobody else may
//! work on the id; a lease and a token) and `complete` (with a result of 100 bytes; refused if the token is not the last).
//!
//! Each `begin` and each `complete` is a transaction of its own, as the work lies between them.

mod firstseen;
mod redb;
mod redis;
mod sqlite;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// What a completion stores.
const RESULT: [u8; 100] = [7; 100];
/// How long a lease is.
const LEASE_MS: u64 = 60_000;

#[derive(Debug, Args)]
pub struct LedgerArgs {
    /// Records for each run
    #[arg(long, default_value_t = 200_000)]
    records: u64,
    /// Threads, each with records of its own
    #[arg(long, default_value_t = 1)]
    threads: u64,
    /// Whether each call is on disk when it returns
    #[arg(long)]
    disk: bool,
    /// Rounds, each with all subjects in turn
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Only this one
    #[arg(long)]
    only: Option<Subject>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    Firstseen,
    Sqlite,
    Redb,
    Redis,
}

/// A store with the protocol on it. Threads share it.
pub trait Ledger: Sync {
    fn session(&self) -> Result<Box<dyn Session + '_>>;
}

/// One thread's access.
pub trait Session {
    /// Starts an attempt and returns its token, or `None` if the id is not to be worked on.
    fn begin(&mut self, id: &[u8]) -> Result<Option<u64>>;

    /// Stores a result; returns whether the token is still the last.
    fn complete(&mut self, id: &[u8], token: u64, result: &[u8]) -> Result<bool>;
}

/// How a subject is opened.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    pub dir: &'a Path,
    pub disk: bool,
    pub threads: u64,
}

fn open(subject: Subject, setting: Setting<'_>) -> Result<Box<dyn Ledger>> {
    match subject {
        Subject::Firstseen => firstseen::open(setting),
        Subject::Sqlite => sqlite::open(setting),
        Subject::Redb => redb::open(setting),
        Subject::Redis => redis::open(setting),
    }
}

fn id(n: u64) -> [u8; 16] {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    id[8..].copy_from_slice(&n.to_le_bytes());
    id
}

/// Begins and completes all records; returns records per second.
fn measure(ledger: &dyn Ledger, records: u64, threads: u64) -> Result<f64> {
    let next = AtomicU64::new(0);
    let work = || -> Result<()> {
        let mut session = ledger.session()?;
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= records {
                return Ok(());
            }
            let token = session.begin(&id(n))?;
            ensure!(token.is_some(), "record {n} is new");
            ensure!(session.complete(&id(n), token.unwrap_or(0), &RESULT)?, "nobody took over");
        }
    };
    let began = Instant::now();
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        all.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })?;
    let seconds = began.elapsed().as_secs_f64();
    let mut session = ledger.session()?;
    for n in (0..records).step_by((records / 100).max(1) as usize) {
        ensure!(session.begin(&id(n))?.is_none(), "record {n} is completed");
        ensure!(!session.complete(&id(n), u64::MAX >> 2, &RESULT)?, "a wrong token is refused");
    }
    Ok(records as f64 / seconds)
}

/// Measures all subjects in turn, and prints the median of each and how often firstseen is as fast.
pub fn run(args: &LedgerArgs) -> Result<()> {
    let subjects: Vec<Subject> = match args.only {
        Some(one) => vec![one],
        None => Subject::value_variants()
            .iter()
            .copied()
            .filter(|subject| *subject != Subject::Redis || redis::is_here())
            .collect(),
    };
    let mut rates: Vec<Vec<f64>> = vec![Vec::new(); subjects.len()];
    for _ in 0..args.rounds {
        for (subject, rates) in subjects.iter().zip(&mut rates) {
            let dir = crate::paths::target().join(format!("ledger-{subject:?}").to_lowercase());
            std::fs::remove_dir_all(&dir).ok();
            std::fs::create_dir_all(&dir)?;
            let setting = Setting { dir: &dir, disk: args.disk, threads: args.threads };
            let ledger = open(*subject, setting)?;
            rates.push(measure(&*ledger, args.records, args.threads)?);
            drop(ledger);
            std::fs::remove_dir_all(&dir)?;
        }
    }
    let level = if args.disk { "on disk at each call" } else { "survives the process" };
    println!("begin and complete, {} threads, {level}, {} records", args.threads, args.records);
    let medians: Vec<f64> = rates
        .iter_mut()
        .map(|rates| {
            rates.sort_by(f64::total_cmp);
            rates[rates.len() / 2]
        })
        .collect();
    for ((subject, median), rates) in subjects.iter().zip(&medians).zip(&rates) {
        println!(
            "{:<10} {:>10.0} records/s  firstseen is {:>6.1} times that  ({:.0} to {:.0})",
            format!("{subject:?}").to_lowercase(),
            median,
            medians[0] / median,
            rates[0],
            rates[rates.len() - 1]
        );
    }
    Ok(())
}
