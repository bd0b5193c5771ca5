//! The close of the books: revenue of each day to the cent. **After any number of kills and power cuts, the report is byte
//! for byte the one of an undisturbed run.**
//!
//! What it promises: each order counts once, on the day on which it was placed, however often and however late it was
//! delivered. Claims, sums and the offset are one commit, at `Durability::Disk`: a power cut takes back nothing that was
//! committed, and nothing half. Sums are integers of cents. Nothing in the report follows from the run that wrote it.
//!
//! What it does not promise: that a day is complete. That is a question to the input, which may bring a late order after
//! the report was written; then the next report has it.
//!
//! `--replay` then reads the whole input once more inside a replay scope, where every order is new again, and compares. The
//! books outside stay as they are meanwhile, and the scope is dropped in the end. With another program inside, one would
//! `promote` it instead.
//!
//! A million orders, killed a hundred times. `page_views` does the same with the cheap guarantee: compare the prices.
//!
//! ```sh
//! cargo run --release --example financial_close -- --generate 1000000 --kills 100 --replay
//! ```
//!
//! Remove the folder to start again.

use firstseen::offsets::Source;
use firstseen::table::Table;
use firstseen::transaction::Transacted;
use firstseen::{Durability, Error, Namespace, Store};
use outside::{Answer, Outside};
use pipeline::{Args, Input, Price, bytes_in, lines_in, say};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::Path;

#[path = "sample/generate.rs"]
pub(crate) mod generate;
#[path = "sample/outside.rs"]
pub(crate) mod outside;
#[path = "sample/pipeline.rs"]
pub(crate) mod pipeline;

#[derive(Debug, Deserialize)]
struct Order {
    id: String,
    at: String,
    cents: u64,
}

impl Order {
    /// `2026-03-01`, the day on which it was placed, whenever it came.
    fn day(&self) -> Answer<&str> {
        self.at.get(..10).ok_or_else(|| format!("{} has no date: {}", self.id, self.at).into())
    }
}

/// What a day has brought in.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Day {
    orders: u64,
    cents: u64,
}

impl Day {
    fn add(&mut self, other: Self) {
        self.orders += other.orders;
        self.cents += other.cents;
    }
}

fn main() -> Answer {
    let args = Args::parse("financial-close", generate::Kind::Orders, 1_000, &["--replay"])?;
    args.kill_first()?;
    let (outside, price) = (args.outside(), Price::start());
    let (events, syncs) = run(&outside, &args.input, args.batch)?;
    let bytes = bytes_in(&outside.file("seen.db"))?;
    say(format!("{}, {syncs} syncs", price.text(events, bytes, lines_in(&args.input)?)))?;
    say(format!("the report is {}", outside.file(REPORT).display()))?;
    if args.has("--replay") {
        let replayed = replay(&outside, &args.input, args.batch)?;
        if replayed != fs::read_to_string(outside.file(REPORT))? {
            return Err("the replay has another result".into());
        }
        say("a replay of the whole input has the same result")?;
    }
    Ok(())
}

pub(crate) const REPORT: &str = "report.tsv";

/// Reads orders until the input ends, so many in a commit, and writes the report. Returns how many it has read,
/// and how often it has synced the disk.
pub(crate) fn run(outside: &Outside, input: &Path, batch: usize) -> Answer<(u64, u64)> {
    let store = open(outside)?;
    let books = Books {
        claims: store.namespace("orders")?,
        orders: store.source("orders")?,
        days: store.table("days")?,
        store,
    };
    outside.step("opened");
    let events = books.read(input, batch, outside)?;
    let report = report(&books.days()?);
    // Whole or not at all, whenever it is killed or loses power.
    let new = outside.file("report.new");
    let mut file = File::create(&new)?;
    outside.step("the report is not written");
    file.write_all(report.as_bytes())?;
    file.sync_all()?;
    outside.step("the report has not its name");
    fs::rename(new, outside.file(REPORT))?;
    // Its name, too, is on disk only once its folder is.
    File::open(outside.file("."))?.sync_all()?;
    outside.step("the report is there");
    let syncs = books.store.stats().log_syncs;
    books.store.close()?;
    Ok((events, syncs))
}

/// Reads the whole input once more, in a world of its own. Returns the report of that. Killed and started again, it goes on
/// where the offset inside says.
pub(crate) fn replay(outside: &Outside, input: &Path, batch: usize) -> Answer<String> {
    let store = open(outside)?;
    let scope = store.replay("close, once more")?;
    let books = Books {
        claims: scope.namespace("orders")?,
        orders: scope.source("orders")?,
        days: scope.table("days")?,
        store,
    };
    books.read(input, batch, outside)?;
    let count = scope.count()?;
    if count.new_ids() > 0 {
        return Err(format!("{} orders are in no book outside", count.new_ids()).into());
    }
    let report = report(&books.days()?);
    outside.step("replayed");
    scope.discard()?;
    outside.step("the replay is dropped");
    books.store.close()?;
    Ok(report)
}

fn open(outside: &Outside) -> Answer<Store> {
    Ok(Store::builder(outside.file("seen.db")).durability(Durability::Disk).open()?)
}

/// The books of a store, or those inside a replay scope of it: the same code.
struct Books {
    store: Store,
    claims: Namespace,
    orders: Source,
    days: Table<Day>,
}

impl Books {
    /// Enters orders until the input ends, so many in a commit. Returns how many it has read.
    fn read(&self, input: &Path, batch: usize, outside: &Outside) -> Answer<u64> {
        let from = self.orders.position(0)?.map_or(0, |position| position.next);
        let (mut input, mut events) = (Input::open(input, from)?, 0);
        loop {
            let orders: Vec<Order> = input.batch(batch)?;
            if orders.is_empty() {
                return Ok(events);
            }
            outside.step("read, not committed");
            self.enter(&orders, input.next)?;
            events += orders.len() as u64;
            outside.step("committed");
        }
    }

    /// One commit, and one sync of the disk: claims, sums and the offset behind them.
    fn enter(&self, orders: &[Order], next: u64) -> Answer {
        let days = orders.iter().map(Order::day).collect::<Answer<Vec<_>>>()?;
        let done = self.store.transact(|transaction| {
            let mut sums = BTreeMap::<&str, Day>::new();
            for (order, day) in orders.iter().zip(&days) {
                if transaction.claim_if_new_in(&self.claims, &order.id)? {
                    sums.entry(day).or_default().add(Day { orders: 1, cents: order.cents });
                }
            }
            for (day, sum) in sums {
                let mut whole = transaction.get(&self.days, day)?.unwrap_or_default();
                whole.add(sum);
                transaction.put(&self.days, day, &whole)?;
            }
            transaction.advance(&self.orders, 0, next);
            Ok::<_, Error>(())
        })?;
        match done {
            Transacted::Committed(()) => Ok(()),
            Transacted::Rejected(why) => {
                Err(format!("another reader of this input: {why:?}").into())
            }
        }
    }

    fn days(&self) -> Answer<BTreeMap<String, Day>> {
        let (mut days, mut failed) = (BTreeMap::new(), None);
        self.days.scan(|day, entry| match entry {
            Ok(entry) => {
                days.insert(String::from_utf8_lossy(day).into_owned(), entry.value);
                ControlFlow::Continue(())
            }
            // A day that cannot be read is no day without revenue.
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        })?;
        failed.map_or(Ok(days), |error| Err(error.into()))
    }
}

fn report(days: &BTreeMap<String, Day>) -> String {
    let mut text = "day\torders\trevenue\n".to_owned();
    let mut total = Day::default();
    let mut line = |name: &str, Day { orders, cents }: Day| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name}\t{orders}\t{}.{:02}", cents / 100, cents % 100);
    };
    for (name, day) in days {
        line(name, *day);
        total.add(*day);
    }
    line("total", total);
    text
}
