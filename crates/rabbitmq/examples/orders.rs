//! Orders from RabbitMQ, each charged once: copy this file and put your work into `charge`.
//!
//! Start a server, then this program as often as you like. Interrupt it, kill it, kill the server: an order is charged again only
//! if the process dies between the charge and the record of it, and `charge` has the id to make that harmless.
//!
//! ```sh
//! rabbitmq-server
//! cargo run --release --package firstseen-rabbitmq --example orders-rabbitmq
//! ```
//!
//! The store is in the folder for temporary files; give another as first argument, and the server's address as second.
//!
//! A project of its own depends on
//!
//! ```toml
//! firstseen = { path = "firstseen" } # where you have it
//! firstseen-consumer = { path = "firstseen/crates/consumer" } # where you have it
//! firstseen-rabbitmq = { path = "firstseen/crates/rabbitmq" } # where you have it
//! tokio = { version = "1", features = ["macros", "rt-multi-thread", "signal", "time"] }
//! ```

#![allow(clippy::disallowed_macros, reason = "a program prints")]

use firstseen::ledger::LedgerOptions;
use firstseen::{Store, days};
use firstseen_consumer::{Consumer, ConsumerOptions, Failure, Job};
use firstseen_rabbitmq::lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use firstseen_rabbitmq::lapin::types::{AMQPValue, FieldTable};
use firstseen_rabbitmq::lapin::{BasicProperties, Connection, ConnectionProperties};
use firstseen_rabbitmq::{RabbitKeys, RabbitOptions, RabbitSource};
use std::path::PathBuf;
use std::time::Duration;

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| std::env::temp_dir().join("firstseen-example-rabbitmq"));
    let url = arguments.next();
    let url = url.unwrap_or_else(|| "amqp://guest:guest@localhost:5672/%2f".to_owned());

    // The source: a quorum queue, and `orders.dead` for dead letters, which are created if they are not there. Orders of a
    // customer are those with the same header.
    let options = RabbitOptions::new().keys(RabbitKeys::Header("customer".to_owned()));
    let source = RabbitSource::open(&url, "orders", options).await?;

    publish(&url).await?;

    // The ledger: what is done, with its receipt, for a week; five attempts, with growing pauses.
    let store = Store::builder(folder.join("seen.db")).ttl(days(7)).open()?;
    let policies = LedgerOptions::new().attempts_max(5).lease(Duration::from_secs(30));
    let ledger = store.ledger_with("orders", policies)?;

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

/// The producer: each order twice, as one does that did not hear the answer to the first. In production it is another program.
async fn publish(url: &str) -> Result<(), Error> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    for n in 0..100 {
        let mut headers = FieldTable::default();
        headers.insert("customer".into(), AMQPValue::LongInt(n % 7));
        let order = BasicProperties::default()
            .with_message_id(format!("order-{n}").into())
            .with_headers(headers)
            .with_delivery_mode(2);
        for _ in 0..2 {
            let options = BasicPublishOptions { mandatory: true, ..Default::default() };
            let sent = channel.basic_publish(
                "".into(),
                "orders".into(),
                options,
                b"10 euros",
                order.clone(),
            );
            let confirmed = sent.await?.await?;
            if !confirmed.is_ack() {
                return Err(format!("the server has not taken order {n}").into());
            }
        }
    }
    connection.close(200, "done".into()).await?;
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
