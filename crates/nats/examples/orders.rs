//! Orders from NATS JetStream, each charged once: copy this file and put your work into `charge`.
//!
//! Start a server, then this program as often as you like. Interrupt it, kill it, kill the server: an order is charged again only
//! if the process dies between the charge and the record of it, and `charge` has the id to make that harmless.
//!
//! ```sh
//! nats-server -js
//! cargo run --release --package firstseen-nats --example orders-nats
//! ```
//!
//! The store is in the folder for temporary files; give another as first argument, and the server's address as second.
//!
//! A project of its own depends on
//!
//! ```toml
//! firstseen = { path = "firstseen" } # where you have it
//! firstseen-consumer = { path = "firstseen/crates/consumer" } # where you have it
//! firstseen-nats = { path = "firstseen/crates/nats" } # where you have it
//! tokio = { version = "1", features = ["macros", "rt-multi-thread", "signal", "time"] }
//! ```

#![allow(clippy::disallowed_macros, reason = "a program prints")]

use firstseen::ledger::LedgerOptions;
use firstseen::{Store, days};
use firstseen_consumer::{Consumer, ConsumerOptions, Failure, Job};
use firstseen_nats::async_nats::{
    self,
    jetstream::{self, message::PublishMessage, stream},
};
use firstseen_nats::{NatsOptions, NatsSource};
use std::path::PathBuf;
use std::time::Duration;

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| std::env::temp_dir().join("firstseen-example-nats"));
    let url = arguments.next().unwrap_or_else(|| "localhost:4222".to_owned());

    // The stream, and one for dead letters. In production somebody else has made them.
    let context = jetstream::new(async_nats::connect(&url).await?);
    for (name, subject) in [("ORDERS", "orders.>"), ("ORDERS_DEAD", "orders-dead")] {
        let subjects = vec![subject.to_owned()];
        // The server drops what it knows of a message for that long; what comes later is left to the ledger.
        let duplicate_window = Duration::from_millis(100);
        let name = name.to_owned();
        let config = stream::Config { name, subjects, duplicate_window, ..Default::default() };
        context.get_or_create_stream(config).await?;
    }
    // The producer: all orders twice, as one does that was started again and does not know how far it was.
    for _ in 0..2 {
        for n in 0..100 {
            let subject = format!("orders.customer-{}", n % 7);
            let order = PublishMessage::build().message_id(format!("order-{n}"));
            context.send_publish(subject, order.payload("10 euros".into())).await?.await?;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    // The ledger: what is done, with its receipt, for a week; five attempts, with growing pauses.
    let store = Store::builder(folder.join("seen.db")).ttl(days(7)).open()?;
    let policies = LedgerOptions::new().attempts_max(5).lease(Duration::from_secs(30));
    let ledger = store.ledger_with("orders", policies)?;

    // The source: a durable consumer, which is created if it is not there.
    let options = NatsOptions::new().dead_letters("orders-dead");
    let source = NatsSource::open(context, "ORDERS", "payments", options).await?;

    // The loop. `ordered`: the orders of one customer one after the other.
    let consumer = Consumer::with_ledger(source, ledger, charge)
        .options(ConsumerOptions::new().workers(16).ordered(true));

    // Ctrl-C, or a quiet second, stops it in good order.
    let handle = consumer.handle();
    tokio::spawn(async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            () = quiet(&handle) => {}
        }
        handle.stop();
    });
    let counters = consumer.run().await?;
    println!(
        "{} charged, {} duplicates, {} dead",
        counters.first, counters.duplicates, counters.dead
    );
    println!("the store is in {}; run it again: nothing is charged twice", folder.display());
    Ok(())
}

/// The work for one order. What it returns is stored, and says what the ledger knows of the order from then on.
async fn charge(job: Job) -> Result<String, Failure> {
    if job.payload().is_empty() {
        // Trying again would not help: a dead letter at once.
        return Err(Failure::last("an order without an amount"));
    }
    // Call the bank here, with `job.id()` as its idempotency key. `?` on its error means: again, later.
    tokio::time::sleep(Duration::from_millis(5)).await;
    Ok(format!("receipt for {}", String::from_utf8_lossy(job.id())))
}

/// Waits until nothing has come for a second.
async fn quiet(handle: &firstseen_consumer::Handle) {
    let mut before = u64::MAX;
    loop {
        let now = handle.counters();
        if now.delivered == before && now.in_flight == 0 {
            return;
        }
        before = now.delivered;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
