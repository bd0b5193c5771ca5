//! Orders from Kafka, each charged once: copy this file and put your work into `charge`.
//!
//! Start a broker, then this program as often as you like. Interrupt it, kill it, kill the broker: an order is charged again only
//! if the process dies between the charge and the record of it, and `charge` has the id to make that harmless.
//!
//! ```sh
//! # any broker that speaks Kafka's protocol; a small one for trying things out:
//! pip install noida-db && noida-db start --only kafka --kafka-port 9092
//! cargo run --release --package firstseen-kafka --example orders-kafka
//! ```
//!
//! The store is in the folder for temporary files; give another as first argument, and the brokers' addresses as second.
//!
//! A project of its own depends on
//!
//! ```toml
//! firstseen = { path = "firstseen" } # where you have it
//! firstseen-consumer = { path = "firstseen/crates/consumer" } # where you have it
//! firstseen-kafka = { path = "firstseen/crates/kafka" } # where you have it
//! tokio = { version = "1", features = ["macros", "rt-multi-thread", "signal", "time"] }
//! ```

#![allow(clippy::disallowed_macros, reason = "a program prints")]

use firstseen::ledger::LedgerOptions;
use firstseen::{Store, days};
use firstseen_consumer::{Consumer, ConsumerOptions, Failure, Job};
use firstseen_kafka::rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use firstseen_kafka::rdkafka::client::DefaultClientContext;
use firstseen_kafka::rdkafka::config::ClientConfig;
use firstseen_kafka::rdkafka::message::{Header, OwnedHeaders};
use firstseen_kafka::rdkafka::producer::{FutureProducer, FutureRecord};
use firstseen_kafka::{KafkaIds, KafkaOptions, KafkaSource};
use std::path::PathBuf;
use std::time::Duration;

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| std::env::temp_dir().join("firstseen-example-kafka"));
    let brokers = arguments.next().unwrap_or_else(|| "localhost:9092".to_owned());

    write_orders(&brokers).await?;

    // The ledger: what is done, with its receipt, for a week; five attempts, with growing pauses.
    let store = Store::builder(folder.join("seen.db")).ttl(days(7)).open()?;
    let policies = LedgerOptions::new().attempts_max(5).lease(Duration::from_secs(30));
    let ledger = store.ledger_with("orders", policies)?;

    // The source: a member of the group `payments`. The producer sets the id of an order as a header.
    // With a name of its own the member is the same after a kill: nobody waits until the broker takes the last one for dead.
    let options = KafkaOptions::new(KafkaIds::header("order"))
        .dead_letters("orders-dead")
        .set("group.instance.id", "payments-1");
    let source = KafkaSource::open(&brokers, "payments", ["orders"], options).await?;

    // The loop. `ordered`: the orders of one customer one after the other.
    let consumer = Consumer::with_ledger(source, ledger, charge)
        .options(ConsumerOptions::new().workers(16).ordered(true));

    // Ctrl-C, or five quiet seconds, stop it in good order.
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

/// The topics, and the producer: each order twice, as one writes that did not hear the answer to the first.
async fn write_orders(brokers: &str) -> Result<(), Error> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("enable.idempotence", "true");
    // In production somebody else has made them. Topics that are there stay as they are.
    let admin: AdminClient<DefaultClientContext> = config.create()?;
    let topics = [("orders", 3), ("orders-dead", 1)]
        .map(|(name, partitions)| NewTopic::new(name, partitions, TopicReplication::Fixed(1)));
    admin.create_topics(&topics, &AdminOptions::new()).await?;
    let producer: FutureProducer = config.create()?;
    for n in 0..100 {
        let (id, customer) = (format!("order-{n}"), format!("customer-{}", n % 7));
        for _ in 0..2 {
            let headers = OwnedHeaders::new().insert(Header { key: "order", value: Some(&id) });
            let record = FutureRecord::to("orders").key(&customer).payload("10 euros");
            let sent = producer.send(record.headers(headers), Duration::from_secs(5)).await;
            sent.map_err(|(error, _)| error)?;
        }
    }
    Ok(())
}

/// Waits until nothing has come for five seconds, which begin once something has: a group takes a while to form, up to the
/// session timeout of a member that was killed. At most a minute without anything.
async fn quiet(handle: &firstseen_consumer::Handle) {
    let (mut before, mut empty) = (0, 0);
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let now = handle.counters();
        empty += u32::from(now.delivered == 0);
        if now.in_flight == 0 && (now.delivered == before && now.delivered > 0 || empty >= 12) {
            return;
        }
        before = now.delivered;
    }
}
