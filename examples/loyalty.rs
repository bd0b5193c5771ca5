//! Loyalty points: orders in, points per user in a table, `PointsAwarded` out. **What was read, what was counted and what
//! goes out are one commit.**
//!
//! What it promises: after a kill at any moment, each order has been counted once, however often it was delivered, and the
//! message about it is there. Started again, the program goes on where the stored offset says.
//!
//! What it does not promise: that `PointsAwarded` arrives once. It leaves the outbox at least once, in order, with an id that
//! is the same each time, and the receiver drops what it has by that id. At `Process`, the default, a power cut may take the last
//! commits back, with their offset: they are made again from the input, which must still have them.
//!
//! A million orders, killed a hundred times, and compared with what the input says:
//!
//! ```sh
//! cargo run --release --example loyalty -- --generate 1000000 --kills 100 --check
//! ```
//!
//! `INPUT` is a file of NDJSON or `-`, `--batch 1` commits each order alone. Remove the folder to start again.

use firstseen::offsets::Source;
use firstseen::outbox::{Message, Outbox};
use firstseen::table::Table;
use firstseen::transaction::Transacted;
use firstseen::{Error, Store};
use outside::{Answer, Outside};
use pipeline::{Args, Input, Price, bytes_in, lines_in, say};
use serde::Deserialize;
use serde_json::json;
use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::fs::File;
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
    user: String,
    cents: u64,
}

impl Order {
    fn points(&self) -> u64 {
        self.cents / 100
    }
}

fn main() -> Answer {
    let args = Args::parse("loyalty", generate::Kind::Orders, 1_000, &["--check"])?;
    args.kill_first()?;
    let (outside, price) = (args.outside(), Price::start());
    let read = run(&outside, &args.input, args.batch)?;
    let bytes = bytes_in(&outside.file("seen.db"))?;
    say(price.text(read.deliveries, bytes, lines_in(&args.input)?))?;
    let points = points_in(&Store::open(outside.file("seen.db"))?)?;
    let total: u64 = points.values().sum();
    say(format!("{} orders were new; {} users have {total} points", read.new, points.len()))?;
    if args.has("--check") {
        let expected = recompute(&args.input)?;
        if points != expected {
            return Err("the points are not those that the input says".into());
        }
        say("the points are those that the input says")?;
        let (messages, awards) = published(&outside)?;
        if awards != expected {
            return Err("what was published is not what the input says".into());
        }
        say(format!("what was published is, too: in {messages} messages, repetitions included"))?;
    }
    Ok(())
}

/// What a run has read.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) deliveries: u64,
    pub(crate) new: u64,
}

/// Reads orders until the input ends, so many in a commit.
pub(crate) fn run(outside: &Outside, input: &Path, batch: usize) -> Answer<Read> {
    let program = Loyalty::open(&outside.file("seen.db"))?;
    let mut broker = outside.lines(BROKER)?;
    outside.step("opened");
    // What an earlier run has committed and not published.
    program.publish(&mut broker, outside)?;
    let from = program.orders.position(0)?.map_or(0, |position| position.next);
    let (mut input, mut read) = (Input::open(input, from)?, Read::default());
    loop {
        let orders: Vec<Order> = input.batch(batch)?;
        if orders.is_empty() {
            break;
        }
        outside.step("read, not committed");
        read.new += program.award(&orders, input.next)?;
        read.deliveries += orders.len() as u64;
        outside.step("committed, not published");
        program.publish(&mut broker, outside)?;
    }
    program.store.close()?;
    Ok(read)
}

/// The broker's log of `PointsAwarded`.
pub(crate) const BROKER: &str = "points-awarded.ndjson";

struct Loyalty {
    store: Store,
    orders: Source,
    points: Table<u64>,
    awarded: Outbox,
}

impl Loyalty {
    fn open(path: &Path) -> Answer<Self> {
        let store = Store::open(path)?;
        Ok(Self {
            orders: store.source("orders")?,
            points: store.table("points")?,
            awarded: store.outbox("points-awarded")?,
            store,
        })
    }

    /// One commit: claims, points, messages and the offset behind them. Returns how many orders were new.
    fn award(&self, orders: &[Order], next: u64) -> Answer<u64> {
        let done = self.store.transact(|transaction| {
            let (mut earned, mut new) = (BTreeMap::<&str, u64>::new(), 0);
            for order in orders {
                if transaction.claim_if_new(&order.id)? {
                    *earned.entry(&order.user).or_default() += order.points();
                    let award = json!({"user": order.user, "points": order.points()});
                    // Its id follows from the order's: the same, if this is run again.
                    transaction.emit_keyed(&self.awarded, &order.user, award.to_string())?;
                    new += 1;
                }
            }
            for (user, earned) in earned {
                let before = transaction.get(&self.points, user)?.unwrap_or(0);
                transaction.put(&self.points, user, &(before + earned))?;
            }
            transaction.advance(&self.orders, 0, next);
            Ok::<_, Error>(new)
        })?;
        match done {
            Transacted::Committed(new) => Ok(new),
            Transacted::Rejected(why) => {
                Err(format!("another reader of this input: {why:?}").into())
            }
        }
    }
}

impl Loyalty {
    /// Publishes what waits in the outbox, in order. `order_pipeline` has a relay do that.
    fn publish(&self, broker: &mut File, outside: &Outside) -> Answer {
        loop {
            let messages = self.awarded.read(1_000)?;
            if messages.is_empty() {
                return Ok(());
            }
            let mut lines = String::new();
            for Message { id, payload, .. } in &messages {
                let award = String::from_utf8_lossy(payload);
                // Writing to a string does not fail.
                let _ = writeln!(lines, r#"{{"id":"{id}","award":{award}}}"#);
            }
            broker.write_all(lines.as_bytes())?;
            outside.step("published, not acknowledged");
            self.awarded.acknowledge(&messages)?;
            outside.step("acknowledged");
        }
    }
}

pub(crate) fn points_in(store: &Store) -> Answer<BTreeMap<String, u64>> {
    let (mut all, mut failed) = (BTreeMap::new(), None);
    store.table("points")?.scan(|user, entry| match entry {
        Ok(entry) => {
            all.insert(String::from_utf8_lossy(user).into_owned(), entry.value);
            ControlFlow::Continue(())
        }
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    })?;
    failed.map_or(Ok(all), |error| Err(error.into()))
}

/// What a receiver makes of the broker's log: how many messages there are, and the points in those that differ by id.
pub(crate) fn published(outside: &Outside) -> Answer<(u64, BTreeMap<String, u64>)> {
    #[derive(Deserialize)]
    struct Published {
        id: String,
        award: Award,
    }
    #[derive(Deserialize)]
    struct Award {
        user: String,
        points: u64,
    }
    let (mut input, mut seen, mut points) =
        (Input::open(&outside.file(BROKER), 0)?, HashSet::new(), BTreeMap::new());
    let mut count = 0;
    loop {
        let messages: Vec<Published> = input.batch(1_000)?;
        if messages.is_empty() {
            return Ok((count, points));
        }
        for Published { id, award } in messages {
            count += 1;
            if seen.insert(id) {
                *points.entry(award.user).or_default() += award.points;
            }
        }
    }
}

/// Counts the points once more, without a store.
pub(crate) fn recompute(input: &Path) -> Answer<BTreeMap<String, u64>> {
    let (mut input, mut seen, mut points) =
        (Input::open(input, 0)?, HashSet::new(), BTreeMap::new());
    loop {
        let orders: Vec<Order> = input.batch(1_000)?;
        if orders.is_empty() {
            return Ok(points);
        }
        for order in orders {
            let earned = order.points();
            if seen.insert(order.id) {
                *points.entry(order.user).or_default() += earned;
            }
        }
    }
}
