//! What a consumer commits for an event, beside the same on stores that teams build it on by hand: its id is claimed, a
//! value of state is read and replaced, the offset is advanced and a message goes into an outbox. All of it or nothing.
//!
//! A batch is one transaction over many events. A fifth of the events are duplicates, of which only the offset counts.

mod firstseen;
mod redb;
mod sqlite;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use std::path::Path;
use std::time::Instant;

/// Users whose points are the state.
const USERS: u64 = 10_000;

#[derive(Debug, Args)]
pub struct TransactionsArgs {
    /// Events for each run
    #[arg(long, default_value_t = 200_000)]
    events: u64,
    /// Events in one transaction
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Whether each transaction is on disk when it returns
    #[arg(long)]
    disk: bool,
    /// Rounds, each with all subjects in turn
    #[arg(long, default_value_t = 3)]
    rounds: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    Firstseen,
    Sqlite,
    Redb,
}

/// An event as it comes from a broker.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    pub id: [u8; 16],
    pub user: u64,
    pub offset: u64,
}

/// A store with the protocol on it.
pub trait Pipeline {
    /// Applies events in one transaction.
    fn apply(&mut self, events: &[Event]) -> Result<()>;

    /// Returns the sum of all points, the next offset and how many messages wait.
    fn totals(&mut self) -> Result<(u64, u64, u64)>;
}

fn open(subject: Subject, dir: &Path, disk: bool) -> Result<Box<dyn Pipeline>> {
    match subject {
        Subject::Firstseen => firstseen::open(dir, disk),
        Subject::Sqlite => sqlite::open(dir, disk),
        Subject::Redb => redb::open(dir, disk),
    }
}

/// Returns event `n`. Every fifth repeats one that came a little before it.
fn event(n: u64) -> Event {
    let source = if n % 5 == 4 { n - 3 } else { n };
    let mut id = [0; 16];
    id[..8].copy_from_slice(&source.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    id[8..].copy_from_slice(&source.to_le_bytes());
    Event { id, user: source.wrapping_mul(0x2545_f491_4f6c_dd1d) % USERS, offset: n }
}

/// Returns events per second.
fn measure(pipeline: &mut dyn Pipeline, args: &TransactionsArgs) -> Result<f64> {
    let events: Vec<Event> = (0..args.events).map(event).collect();
    let began = Instant::now();
    for batch in events.chunks(args.batch) {
        pipeline.apply(batch)?;
    }
    let seconds = began.elapsed().as_secs_f64();
    let new = args.events - args.events / 5;
    let (points, next, messages) = pipeline.totals()?;
    ensure!((points, next, messages) == (new, args.events, new), "each event counts once");
    Ok(args.events as f64 / seconds)
}

/// Measures all subjects in turn, and prints the median of each and how often firstseen is as fast.
pub fn run(args: &TransactionsArgs) -> Result<()> {
    let subjects = Subject::value_variants();
    let mut rates: Vec<Vec<f64>> = vec![Vec::new(); subjects.len()];
    for _ in 0..args.rounds {
        for (subject, rates) in subjects.iter().zip(&mut rates) {
            let dir = crate::paths::target().join(format!("events-{subject:?}").to_lowercase());
            std::fs::remove_dir_all(&dir).ok();
            std::fs::create_dir_all(&dir)?;
            let mut pipeline = open(*subject, &dir, args.disk)?;
            rates.push(measure(&mut *pipeline, args)?);
            drop(pipeline);
            std::fs::remove_dir_all(&dir)?;
        }
    }
    let level = if args.disk { "each on disk" } else { "which survive the process" };
    println!("{} events in transactions of {}, {level}", args.events, args.batch);
    let medians: Vec<f64> = rates.iter_mut().map(|rates| median(rates)).collect();
    for ((subject, median), rates) in subjects.iter().zip(&medians).zip(&rates) {
        println!(
            "{:<10} {:>10.0} events/s  firstseen is {:>6.1} times that  ({:.0} to {:.0})",
            format!("{subject:?}").to_lowercase(),
            median,
            medians[0] / median,
            rates[0],
            rates[rates.len() - 1]
        );
    }
    Ok(())
}

/// Sorts the rates and returns the one in the middle.
fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
