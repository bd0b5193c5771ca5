//! The brokers, each with a real server on loopback that keeps its messages in files, as its own defaults are.

mod kafka;
mod nats;
mod rabbitmq;
mod redis;

use crate::Result;
use crate::arguments::Arguments;
use firstseen_consumer::Source;

pub(crate) use kafka::Kafka;
pub(crate) use nats::Nats;
pub(crate) use rabbitmq::Rabbit;
pub(crate) use redis::{Redis, Valkey};

/// What they are called on the command line.
pub(crate) const KEYS: [&str; 5] = [Nats::KEY, Redis::KEY, Valkey::KEY, Rabbit::KEY, Kafka::KEY];

/// No more messages than this wait for the server's confirmation while a queue is filled.
const UNCONFIRMED_MAX: usize = 500;

/// A server that queues are made at.
pub(crate) trait Broker: Sized {
    /// What it is called on the command line.
    const KEY: &'static str;
    /// What the table calls it.
    const NAME: &'static str;

    type Source: Source;

    /// Starts the server.
    ///
    /// # Panics
    ///
    /// It is not installed.
    async fn start() -> Self;

    /// Makes a queue with as many messages as are asked for, each with an id of its own.
    async fn fill(&self, queue: &str, arguments: &Arguments) -> Result<()>;

    /// Connects a consumer that has had none of them.
    async fn source(&self, queue: &str) -> Result<Self::Source>;

    /// Removes the queue, so that the next does not lie beside it.
    async fn empty(&self, queue: &str) -> Result<()>;
}

fn id(n: u64) -> String {
    format!("order-{n}")
}

fn payload(arguments: &Arguments) -> String {
    "x".repeat(arguments.payload)
}
