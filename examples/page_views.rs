//! Views per page, at the cheap end: `Durability::Buffered`, and a source that cannot be read again. **The counts are never
//! too high, and too low by what was in flight when the process was killed. How much that is, is measured and printed.**
//!
//! What it promises: no view counts twice, however often it is delivered. A kill takes back at most what was acknowledged in
//! the last `flush_interval`, 100 ms, and always the end of it: never something in between.
//!
//! What it does not promise: that every view counts. The position is acknowledged to the source before the counts are
//! anywhere but in memory, as with a broker's automatic commit, and the source does not deliver again what was
//! acknowledged. With `--exact` the source can be read again, and the program goes on where the store's own offset says:
//! that costs nothing, and even at `Buffered` nothing is lost.
//!
//! The log is not mapped here, as on file systems where it cannot be. On ext4, xfs and tmpfs it is, unless a program asks
//! otherwise, and then only a power cut costs views and a kill does not: see `--mapped`.
//!
//! A million views, killed a hundred times. `financial_close` is the other end: compare the prices.
//!
//! ```sh
//! cargo run --release --example page_views -- --generate 1000000 --kills 100
//! ```
//!
//! Remove the folder to start again.

use firstseen::disk::RealDisk;
use firstseen::offsets::Source;
use firstseen::table::Table;
use firstseen::transaction::Transacted;
use firstseen::{Durability, Error, Store};
use outside::{Answer, Outside};
use pipeline::{Args, Input, Price, bytes_in, lines_in, say};
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

#[path = "sample/generate.rs"]
pub(crate) mod generate;
#[path = "sample/outside.rs"]
pub(crate) mod outside;
#[path = "sample/pipeline.rs"]
pub(crate) mod pipeline;

#[derive(Debug, Deserialize)]
struct View {
    id: String,
    page: String,
}

pub(crate) type Counts = BTreeMap<String, u64>;

/// Where to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resume {
    /// Where the source says: behind what was acknowledged to it.
    Acknowledged,
    /// Where the store says: behind what is counted.
    Stored,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Log {
    Mapped,
    Unmapped,
}

fn main() -> Answer {
    let args = Args::parse("page-views", generate::Kind::Views, 1_000, &["--exact", "--mapped"])?;
    let resume = if args.has("--exact") { Resume::Stored } else { Resume::Acknowledged };
    let log = if args.has("--mapped") { Log::Mapped } else { Log::Unmapped };
    args.kill_first()?;
    let (outside, price) = (args.outside(), Price::start());
    let (events, syncs) = run(&outside, &args.input, args.batch, (log, resume))?;
    let bytes = bytes_in(&outside.file("seen.db"))?;
    say(format!("{}, {syncs} syncs", price.text(events, bytes, lines_in(&args.input)?)))?;
    let counts = counts_in(&open(&outside.file("seen.db"), log)?)?;
    let truth = recompute(&args.input)?;
    let (counted, there): (u64, u64) = (counts.values().sum(), truth.values().sum());
    let off = truth.iter().filter(|(page, count)| counts.get(*page) != Some(count)).count();
    let missing = there.saturating_sub(counted);
    let share = 100.0 * missing as f64 / there.max(1) as f64;
    let pages = truth.len();
    say(format!(
        "{counted} of {there} views are counted, {missing} are missing: {share:.3} %; {off} of {pages} pages are off"
    ))
}

/// Reads views until the input ends, so many in a commit. Returns how many it has read, and how often it
/// has synced the disk.
pub(crate) fn run(
    outside: &Outside,
    input: &Path,
    batch: usize,
    (log, resume): (Log, Resume),
) -> Answer<(u64, u64)> {
    let store = open(&outside.file("seen.db"), log)?;
    let (views, pages) = (store.source("views")?, store.table("pages")?);
    outside.step("opened");
    let from = match resume {
        Resume::Acknowledged => acknowledged(outside),
        Resume::Stored => views.position(0)?.map_or(0, |position| position.next),
    };
    let (mut input, mut events) = (Input::open(input, from)?, 0);
    loop {
        let batch: Vec<View> = input.batch(batch)?;
        if batch.is_empty() {
            break;
        }
        outside.step("read, not committed");
        count(&store, &views, &pages, &batch, input.next)?;
        outside.step("committed, not acknowledged");
        fs::write(outside.file("acknowledged.new"), input.next.to_string())?;
        fs::rename(outside.file("acknowledged.new"), outside.file("acknowledged"))?;
        events += batch.len() as u64;
        outside.step("acknowledged");
    }
    let syncs = store.stats().log_syncs;
    store.close()?;
    Ok((events, syncs))
}

pub(crate) fn open(path: &Path, log: Log) -> Answer<Store> {
    let store = Store::builder(path).durability(Durability::Buffered);
    let store = match log {
        Log::Mapped => store,
        Log::Unmapped => store.disk(RealDisk::without_mapping()),
    };
    Ok(store.open()?)
}

/// What the source knows: it delivers nothing before this again.
pub(crate) fn acknowledged(outside: &Outside) -> u64 {
    let text = fs::read_to_string(outside.file("acknowledged"));
    text.ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// One commit, which is in memory when this returns, and in the log some time within `flush_interval`.
///
/// What comes again after a kill may come in other batches, which end before what is counted: the offset stays then.
fn count(store: &Store, views: &Source, pages: &Table<u64>, batch: &[View], next: u64) -> Answer {
    let done = store.transact(|transaction| {
        let mut counts = BTreeMap::<&str, u64>::new();
        for view in batch {
            if transaction.claim_if_new(&view.id)? {
                *counts.entry(&view.page).or_default() += 1;
            }
        }
        for (page, count) in counts {
            let before = transaction.get(pages, page)?.unwrap_or(0);
            transaction.put(pages, page, &(before + count))?;
        }
        if views.position(0)?.is_none_or(|counted| counted.next < next) {
            transaction.advance(views, 0, next);
        }
        Ok::<_, Error>(())
    })?;
    match done {
        Transacted::Committed(()) => Ok(()),
        Transacted::Rejected(why) => Err(format!("another reader of this input: {why:?}").into()),
    }
}

pub(crate) fn counts_in(store: &Store) -> Answer<Counts> {
    let (mut counts, mut failed) = (Counts::new(), None);
    store.table("pages")?.scan(|page, entry| match entry {
        Ok(entry) => {
            counts.insert(String::from_utf8_lossy(page).into_owned(), entry.value);
            ControlFlow::Continue(())
        }
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    })?;
    failed.map_or(Ok(counts), |error| Err(error.into()))
}

/// Counts once more, without a store.
fn recompute(input: &Path) -> Answer<Counts> {
    let (mut input, mut seen, mut counts) = (Input::open(input, 0)?, HashSet::new(), Counts::new());
    loop {
        let views: Vec<View> = input.batch(1_000)?;
        if views.is_empty() {
            return Ok(counts);
        }
        for view in views {
            if seen.insert(view.id) {
                *counts.entry(view.page).or_default() += 1;
            }
        }
    }
}
