//! What the consumer loop costs: events a second on each broker, beside the same loop without dedup.
//!
//! Each run begins with a queue of its own that is full, and ends when the last message is acknowledged. The loops differ in
//! the store alone: same source, same number of handlers and of messages in flight, same handler, acknowledgements awaited
//! in both. The runs of the loops take turns, so that a machine that slows down slows all of them.
//!
//! ```sh
//! scripts/price.sh                       # all brokers
//! scripts/price.sh --brokers nats,redis --messages 20000 --rounds 5
//! ```

#![allow(clippy::disallowed_macros, reason = "a program prints")]

mod arguments;
mod brokers;
mod measure;
mod plain;
mod table;

use arguments::Arguments;
use brokers::{Broker, Kafka, Nats, Rabbit, Redis, Valkey};
use measure::measure;
use std::error::Error;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let arguments = Arguments::read(std::env::args().skip(1))?;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.enable_all().build()?.block_on(async {
        table::head(&arguments);
        for name in &arguments.brokers {
            match name.as_str() {
                Nats::KEY => of::<Nats>(&arguments).await,
                Redis::KEY => of::<Redis>(&arguments).await,
                Valkey::KEY => of::<Valkey>(&arguments).await,
                Rabbit::KEY => of::<Rabbit>(&arguments).await,
                Kafka::KEY => of::<Kafka>(&arguments).await,
                other => unreachable!("{other} was checked"),
            }?;
        }
        Ok(())
    })
}

/// Measures one broker and prints its line.
async fn of<B: Broker>(arguments: &Arguments) -> Result<()> {
    let measured = measure::<B>(arguments).await?;
    table::line(B::NAME, &measured);
    Ok(())
}
