//! Orders from a Redis or Valkey stream, each charged once: copy this file and put your work into `charge`.
//!
//! Start a server, then this program as often as you like. Interrupt it, kill it, kill the server: an order is charged again
//! only if the process dies between the charge and the record of it, and `charge` has the id to make that harmless.
//!
//! ```sh
//! redis-server --appendonly yes
//! cargo run --release --package firstseen-redis --example orders-redis
//! ```
//!
//! The store is in the folder for temporary files; give another as first argument, and the server's address as second.
//!
//! A project of its own depends on
//!
//! ```toml
//! firstseen = { path = "firstseen" } # where you have it
//! firstseen-consumer = { path = "firstseen/crates/consumer" } # where you have it
//! firstseen-redis = { path = "firstseen/crates/redis" } # where you have it
//! tokio = { version = "1", features = ["macros", "rt-multi-thread", "signal", "time"] }
//! ```

#![allow(clippy::disallowed_macros, reason = "a program prints")]

use firstseen::ledger::LedgerOptions;
use firstseen::{Store, days};
use firstseen_consumer::{Consumer, ConsumerOptions, Failure, Job};
use firstseen_redis::{RedisKeys, RedisOptions, RedisSource, redis};
use std::path::PathBuf;
use std::time::Duration;

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| std::env::temp_dir().join("firstseen-example-redis"));
    let url = arguments.next().unwrap_or_else(|| "redis://localhost:6379".to_owned());
    let client = redis::Client::open(url)?;

    // The producer: each order twice, as one does that did not hear the answer to the first.
    let mut producer = client.get_multiplexed_async_connection().await?;
    for n in 0..100 {
        for _ in 0..2 {
            let mut add = redis::cmd("XADD");
            add.arg("orders").arg("*").arg("id").arg(format!("order-{n}"));
            add.arg("customer").arg(n % 7).arg("payload").arg("10 euros");
            add.exec_async(&mut producer).await?;
        }
    }

    // The ledger: what is done, with its receipt, for a week; five attempts, with growing pauses.
    let store = Store::builder(folder.join("seen.db")).ttl(days(7)).open()?;
    let policies = LedgerOptions::new().attempts_max(5).lease(Duration::from_secs(30));
    let ledger = store.ledger_with("orders", policies)?;

    // The source: a consumer of a group, which is created if it is not there. Its name lets it go on at once after a crash;
    // a second process needs another.
    let options = RedisOptions::new()
        .keys(RedisKeys::Field("customer".to_owned()))
        .dead_letters("orders-dead")
        .consumer("payments-1");
    let source = RedisSource::open(client, "orders", "payments", options).await?;
    let watch = source.watch();

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
        "{} charged, {} duplicates, {} dead, {} trimmed before they were handled",
        counters.first,
        counters.duplicates,
        counters.dead,
        watch.counters().trimmed
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
