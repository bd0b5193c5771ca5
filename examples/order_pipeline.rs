//! Orders through two services: validate, publish, consume, write, notify. **A poison order ends in the dead letters, and the
//! rest goes on.**
//!
//! The intake validates an order and publishes it, the offset with it, in one commit. A relay hands it to the fulfilment,
//! which has a store of its own: its ledger counts an attempt before the work begins, writes the order, the result and the
//! notification in one commit, and answers what comes again with what is stored. Another relay notifies.
//!
//! What it promises: after a kill at any moment, each valid order is fulfilled once, however often it was delivered or
//! relayed. An order that is not valid, or fails three times, or kills its worker three times, is a dead letter with its
//! reason and its input, once. No order waits for another one's failure, but those of the same user, which stay in order.
//!
//! What it does not promise: that a power cut takes nothing. Its stores are at `Process`, and one may lose what the other has
//! acknowledged; open both at `Disk` where that matters. Nor that a notification arrives once. It leaves at least once, with an id that is the same each
//! time. A mail server has no use for ids: see `email_once` for the choice that is left.
//!
//! A million orders, two in a hundred of them invalid and as many poison, killed a hundred times:
//!
//! ```sh
//! cargo run --release --example order_pipeline -- --generate 1000000 --kills 100
//! ```
//!
//! Remove the folder to start again.

use firstseen::ledger::{Backoff, Begin, BeginOptions, DeadFilter, Failure, Ledger, LedgerOptions};
use firstseen::offsets::Source;
use firstseen::outbox::{Delivery, Message, Outbox, RelayOptions};
use firstseen::table::Table;
use firstseen::transaction::{CommitOutcome, Transacted};
use firstseen::{Store, limits};
use outside::{Answer, Outside};
use pipeline::{Args, Input, Price, bytes_in, lines_in, say};
use serde::Deserialize;
use serde_json::json;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

#[path = "sample/generate.rs"]
pub(crate) mod generate;
#[path = "sample/outside.rs"]
pub(crate) mod outside;
#[path = "sample/pipeline.rs"]
pub(crate) mod pipeline;

/// The stores of the two services.
pub(crate) const STORES: [&str; 2] = ["intake.db", "fulfilment.db"];

/// What has gone out to users.
pub(crate) const NOTIFIED: &str = "notified.ndjson";

pub(crate) const ATTEMPTS_MAX: u32 = 3;

/// No order is longer, so a batch of them fits into one commit.
const LINE_BYTES_MAX: usize = 4 << 10;

const PAUSE: Duration = Duration::from_millis(5);

#[derive(Debug, Deserialize)]
struct Order {
    id: String,
    user: String,
    cents: u64,
}

impl Order {
    /// What is wrong with it for good, whoever looks at it. Whatever a store would refuse is: otherwise one line would end
    /// the program each time it is read.
    fn parse(line: &[u8]) -> Result<Self, String> {
        if line.len() > LINE_BYTES_MAX {
            return Err(format!("a line of {} bytes", line.len()));
        }
        let order: Self = serde_json::from_slice(line).map_err(|why| why.to_string())?;
        match order {
            Self { cents: 0, .. } => Err("an order of nothing".to_owned()),
            Self { id, .. } if !is_id(&id) => Err(format!("an id of {} bytes", id.len())),
            order => Ok(order),
        }
    }
}

fn is_id(id: &str) -> bool {
    (1..=limits::LEDGER_ID_BYTES_MAX).contains(&id.len())
}

fn main() -> Answer {
    let args = Args::parse("order-pipeline", generate::Kind::MixedOrders, 1_000, &[])?;
    args.kill_first()?;
    let (outside, price) = (args.outside(), Price::start());
    let events = run(&outside, &args.input, args.batch)?;
    let bytes = STORES.iter().map(|store| bytes_in(&outside.file(store)));
    let bytes = bytes.sum::<std::io::Result<u64>>()?;
    say(price.text(events, bytes, lines_in(&args.input)?))?;
    let [intake, fulfilment] = STORES.map(|store| Store::open(outside.file(store)));
    let (intake, fulfilment) = (Intake::of(intake?)?, Fulfilment::of(fulfilment?)?);
    let mut fulfilled = 0_u64;
    fulfilment.orders.scan(|_, entry| {
        fulfilled += u64::from(entry.is_ok());
        std::ops::ControlFlow::Continue(())
    })?;
    let [invalid, poison] =
        [&intake.ledger, &fulfilment.ledger].map(|ledger| dead_in(ledger).map(|ids| ids.len()));
    say(format!("{fulfilled} orders are fulfilled; dead: {} invalid, {} poison", invalid?, poison?))
}

/// The ids of the dead letters of a ledger.
pub(crate) fn dead_in(ledger: &Ledger) -> Answer<Vec<String>> {
    let letters = ledger.dead_letters().list(&DeadFilter::new().limit(usize::MAX))?.letters;
    let id = |id: &[u8]| String::from_utf8_lossy(id).into_owned();
    Ok(letters.iter().map(|letter| id(&letter.record.id)).collect())
}

/// Reads orders until the input ends, and until all are fulfilled or dead. Returns how many it has read.
pub(crate) fn run(outside: &Outside, input: &Path, batch: usize) -> Answer<u64> {
    let intake = Intake::of(Store::open(outside.file(STORES[0]))?)?;
    let fulfilment = Fulfilment::of(Store::open(outside.file(STORES[1]))?)?;
    let services =
        Services { outside, intake, fulfilment, notified: outside.lines(NOTIFIED)?.into() };
    outside.step("opened");
    let mut input = Input::open(input, services.intake.next()?)?;
    let mut events = 0;
    loop {
        let lines = read(&mut input, batch)?;
        if lines.is_empty() {
            break;
        }
        outside.step("read, not published");
        services.intake.take(&lines, input.next, outside)?;
        outside.step("published");
        services.relay()?;
        events += lines.len() as u64;
    }
    // What has failed waits for its next attempt.
    while services.relay()? > 0 {
        std::thread::park_timeout(PAUSE);
    }
    let Services { intake, fulfilment, .. } = services;
    intake.close()?;
    fulfilment.close()?;
    Ok(events)
}

/// Reads lines with their offsets. Whether they are orders is for `take` to say.
fn read(input: &mut Input, most: usize) -> Answer<Vec<(u64, Vec<u8>)>> {
    let mut lines = Vec::with_capacity(most);
    while lines.len() < most {
        let at = input.next;
        let Some(line) = input.line()? else { break };
        lines.push((at, line.to_owned()));
    }
    Ok(lines)
}

/// The service that takes orders in.
pub(crate) struct Intake {
    store: Store,
    source: Source,
    published: Outbox,
    /// Of what is not valid.
    pub(crate) ledger: Ledger,
}

impl Intake {
    pub(crate) fn of(store: Store) -> Answer<Self> {
        Ok(Self {
            source: store.source("orders")?,
            published: store.outbox("orders")?,
            ledger: store.ledger("intake")?,
            store,
        })
    }

    fn next(&self) -> Answer<u64> {
        Ok(self.source.position(0)?.map_or(0, |position| position.next))
    }

    /// Validates and publishes: one commit for all that are valid, with the offset behind all of them.
    fn take(&self, lines: &[(u64, Vec<u8>)], next: u64, outside: &Outside) -> Answer {
        let mut valid = Vec::new();
        for (at, line) in lines {
            match Order::parse(line) {
                Ok(order) => valid.push((order, line)),
                // Before the offset is: read again after a kill, it is the same dead letter.
                Err(why) => {
                    self.refuse(*at, line, why)?;
                    outside.step("refused");
                }
            }
        }
        let done = self.store.transact(|transaction| {
            for (order, line) in &valid {
                if transaction.claim_if_new(&order.id)? {
                    transaction.emit_keyed(&self.published, &order.user, line)?;
                }
            }
            transaction.advance(&self.source, 0, next);
            Ok::<_, firstseen::Error>(())
        })?;
        match done {
            Transacted::Committed(()) => Ok(()),
            Transacted::Rejected(why) => Err(format!("it is not published: {why:?}").into()),
        }
    }

    fn refuse(&self, at: u64, line: &[u8], why: String) -> Answer {
        let line = &line[..line.len().min(LINE_BYTES_MAX)];
        // If it has no id, it is known by where it stands.
        let id = serde_json::from_slice::<serde_json::Value>(line).ok();
        let id = id.as_ref().and_then(|order| order["id"].as_str()).filter(|id| is_id(id));
        let id = id.map_or_else(|| format!("the line at byte {at}"), str::to_owned);
        loop {
            match self.ledger.begin_with(&id, BeginOptions::new().payload(line))? {
                Begin::Started(attempt) => return Ok(attempt.fail(Failure::last(why))?),
                // Delivered again.
                Begin::Dead(_) => return Ok(()),
                // An attempt before this one ended without a word.
                Begin::RetryAt(_) => std::thread::park_timeout(PAUSE),
                // The offset stays before it.
                other => return Err(format!("{id} is not refused: {other:?}").into()),
            }
        }
    }

    fn close(self) -> Answer {
        let Self { store, source, published, ledger } = self;
        drop((source, published, ledger));
        Ok(store.close()?)
    }
}

/// The service that fulfils orders.
pub(crate) struct Fulfilment {
    store: Store,
    pub(crate) orders: Table<u64>,
    notifications: Outbox,
    pub(crate) ledger: Ledger,
}

/// What became of an order.
enum Handled {
    /// It is fulfilled or dead, now or before.
    Ended,
    TryAgain(String),
}

impl Fulfilment {
    pub(crate) fn of(store: Store) -> Answer<Self> {
        let options =
            LedgerOptions::new().attempts_max(ATTEMPTS_MAX).backoff(Backoff::constant(PAUSE));
        Ok(Self {
            orders: store.table("orders")?,
            notifications: store.outbox("notifications")?,
            ledger: store.ledger_with("fulfilment", options)?,
            store,
        })
    }

    fn handle(&self, message: &Message, outside: &Outside) -> Answer<Handled> {
        let order: Order = serde_json::from_slice(&message.payload)?;
        // The attempt is counted here: an order that kills its worker each time ends, too.
        let options = BeginOptions::new().payload(message.payload.clone());
        let attempt = match self.ledger.begin_with(&order.id, options)? {
            Begin::Started(attempt) => attempt,
            Begin::Completed(_) | Begin::Dead(_) => return Ok(Handled::Ended),
            other => {
                let state = other.record().map(|record| record.state.to_string());
                return Ok(Handled::TryAgain(state.unwrap_or_default()));
            }
        };
        outside.step("begun");
        if let Err(why) = work(&order) {
            attempt.fail(Failure::retry(&*why))?;
            outside.step("failed");
            return Ok(Handled::TryAgain(why));
        }
        let mut transaction = self.store.transaction();
        transaction.put(&self.orders, &order.id, &order.cents)?.complete(&attempt, b"fulfilled");
        let text = json!({"order": order.id, "user": order.user}).to_string();
        transaction.emit_keyed(&self.notifications, &order.user, text)?;
        if let CommitOutcome::Rejected(why) = transaction.commit()? {
            return Err(format!("{} is not fulfilled: {why:?}", order.id).into());
        }
        outside.step("fulfilled");
        Ok(Handled::Ended)
    }

    fn close(self) -> Answer {
        let Self { store, orders, notifications, ledger } = self;
        drop((orders, notifications, ledger));
        Ok(store.close()?)
    }
}

/// The work itself, which has no effect but what it returns.
fn work(order: &Order) -> Result<(), String> {
    if order.user.starts_with("u-poison") {
        return Err("nobody knows how to deliver this".to_owned());
    }
    Ok(())
}

struct Services<'a> {
    outside: &'a Outside,
    intake: Intake,
    fulfilment: Fulfilment,
    notified: Mutex<File>,
}

impl Services<'_> {
    /// Relays what can be relayed now, from service to service and out. Returns how many messages are left.
    fn relay(&self) -> Answer<usize> {
        // How often is for the ledger to say, which still knows after a restart.
        let options =
            || RelayOptions::new().attempts_max(u32::MAX).backoff(Backoff::constant(PAUSE));
        let Self { intake, fulfilment, .. } = self;
        let failed = Mutex::new(None);
        let orders = intake.published.relay(options())?;
        orders.drain(&|batch: &[Message]| self.consume(batch, &failed))?;
        if let Some(why) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(why.into());
        }
        fulfilment
            .notifications
            .relay(options())?
            .drain(&|batch: &[Message]| self.notify(batch))?;
        let [orders, notifications] = [&intake.published, &fulfilment.notifications]
            .map(|topic| topic.pending().map(|pending| pending.count));
        Ok(orders? + notifications?)
    }

    /// The sink of the orders.
    fn consume(&self, batch: &[Message], failed: &Mutex<Option<String>>) -> Delivery {
        let (mut delivery, mut waiting) = (Delivery::all(), HashSet::new());
        for (n, message) in batch.iter().enumerate() {
            if waiting.contains(&message.key) {
                // Orders of a user stay in order.
                continue;
            }
            match self.fulfilment.handle(message, self.outside) {
                Ok(Handled::Ended) => {}
                Ok(Handled::TryAgain(why)) => {
                    delivery = delivery.retry(n, why);
                    waiting.insert(&message.key);
                }
                // The store itself has failed: for nobody there is anything to be had here.
                Err(why) => {
                    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    *failed = Some(why.to_string());
                    return Delivery::unavailable(n, why.to_string());
                }
            }
        }
        self.outside.step("consumed, not acknowledged");
        delivery
    }

    /// The sink of the notifications.
    fn notify(&self, batch: &[Message]) -> Delivery {
        let mut lines = String::new();
        for Message { id, payload, .. } in batch {
            // Writing to a string does not fail.
            let _ = writeln!(
                lines,
                r#"{{"id":"{id}","notification":{}}}"#,
                String::from_utf8_lossy(payload)
            );
        }
        let mut file = self.notified.lock().unwrap_or_else(PoisonError::into_inner);
        match file.write_all(lines.as_bytes()) {
            Ok(()) => {
                self.outside.step("notified, not acknowledged");
                Delivery::all()
            }
            Err(why) => Delivery::unavailable(0, why.to_string()),
        }
    }
}
