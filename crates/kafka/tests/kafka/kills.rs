//! Both ends killed at random. Effects are recorded outside of store and server.

use crate::queue::Queue;
use firstseen_kafka::{KafkaIds, KafkaOptions};
use firstseen_servers::Server;
use firstseen_servers::kills::{Broker, OnLeaseEnd, consume_until_killed, kill_both_ends};
use std::time::Duration;

const CHILD: &str = "kills::the_process_that_is_killed";

impl Broker for Queue {
    const NAME: &'static str = "Kafka";
    /// A letter whose delivery report is lost is written again.
    const DEAD_ONCE: bool = false;

    async fn start() -> Server {
        firstseen_servers::kafka::start().await
    }

    async fn open(address: &str) -> Self {
        let options = KafkaOptions::new(KafkaIds::header("id"))
            .answer_wait(Duration::from_secs(2))
            // The process after a kill takes the place of the one before it, which could not leave the group.
            .set("group.instance.id", "worker")
            .set("message.timeout.ms", "1000")
            .set("socket.timeout.ms", "1000");
        Self::named(address, "orders", 3, options).await
    }

    async fn left(&self) -> Option<u64> {
        let mut left = 0;
        for partition in 0..3 {
            let (committed, end) = (self.committed(partition).ok()?, self.end(partition).ok()?);
            left += u64::try_from(end - committed.unwrap_or(0)).ok()?;
        }
        Some(left)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effects_are_made_once_and_none_is_lost_though_consumers_and_servers_are_killed() {
    kill_both_ends::<Queue>(OnLeaseEnd::Hold, CHILD).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_effect_is_made_again_only_around_a_kill() {
    kill_both_ends::<Queue>(OnLeaseEnd::Retry, CHILD).await;
}

/// Not a test: the process that the tests above start and kill.
#[test]
fn the_process_that_is_killed() {
    consume_until_killed::<Queue>();
}
