//! Both ends killed at random.

use crate::queue::Queue;
use async_nats::jetstream::consumer::PullConsumer;
use firstseen_nats::NatsOptions;
use firstseen_servers::kills::{Broker, OnLeaseEnd, consume_until_killed, kill_both_ends};
use firstseen_servers::{Server, nats};
use std::time::Duration;

const CHILD: &str = "kills::the_process_that_is_killed";

/// Each id has one effect, whatever is killed: what a kill has left in doubt is looked up outside, as an operator does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effects_are_made_once_and_none_is_lost_though_consumers_and_servers_are_killed() {
    kill_both_ends::<Queue>(OnLeaseEnd::Hold, CHILD).await;
}

/// Without looking anything up: an effect is made again only if a kill came between it and the record of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_effect_is_made_again_only_around_a_kill() {
    kill_both_ends::<Queue>(OnLeaseEnd::Retry, CHILD).await;
}

/// Not a test: the process that the tests above start and kill.
#[test]
fn the_process_that_is_killed() {
    consume_until_killed::<Queue>();
}

impl Broker for Queue {
    const NAME: &'static str = "JetStream";
    const DEAD_ONCE: bool = true;

    async fn start() -> Server {
        nats::start().await
    }

    async fn open(address: &str) -> Self {
        let options = NatsOptions::new().ack_wait(Duration::from_secs(1));
        let options = options.heartbeat(Duration::from_millis(500));
        let window = Duration::from_secs(120);
        // So that what a killed server has not answered is soon sent again.
        Queue::open(address, "orders", window, Duration::from_secs(1), options).await
    }

    async fn left(&self) -> Option<u64> {
        let consumer = self.context.get_consumer_from_stream("worker", &self.name).await;
        let consumer: PullConsumer = consumer.ok()?;
        let info = consumer.cached_info();
        Some(info.num_pending + info.num_ack_pending as u64)
    }
}
