//! Both ends killed at random, and effects counted outside.

use crate::queue::{GROUP, Kind, Queue};
use firstseen_consumer::testkit::Fixture;
use firstseen_redis::{RedisOptions, RedisSource};
use firstseen_servers::Server;
use firstseen_servers::kills::{Broker, OnLeaseEnd, consume_until_killed, kill_both_ends};
use std::collections::HashMap;
use std::time::Duration;

/// A stream at Redis, or at Valkey.
struct Killed<const VALKEY: bool>(Queue);

impl<const VALKEY: bool> Killed<VALKEY> {
    const KIND: Kind = if VALKEY { Kind::Valkey } else { Kind::Redis };
}

impl<const VALKEY: bool> Fixture for Killed<VALKEY> {
    type Source = RedisSource;

    async fn source(&self) -> RedisSource {
        self.0.source().await
    }

    async fn publish(&self, id: &str, key: &str, payload: &str) {
        self.0.publish(id, key, payload).await;
    }

    async fn dead(&self) -> Vec<String> {
        self.0.dead().await
    }
}

impl<const VALKEY: bool> Broker for Killed<VALKEY> {
    const NAME: &'static str = if VALKEY { "Valkey streams" } else { "Redis streams" };
    /// A message whose write was not answered is written again: two entries, with a letter each.
    const DEAD_ONCE: bool = false;

    async fn start() -> Server {
        Self::KIND.start_durable().await
    }

    async fn open(address: &str) -> Self {
        let options = RedisOptions::new()
            .min_idle(Duration::from_secs(1))
            .expire_consumers(Duration::from_secs(2))
            .answer_max(Duration::from_secs(2))
            .create_stream(true);
        let queue = Queue::at(format!("redis://{address}/"), "orders".to_owned(), options);
        // Creates stream and group.
        drop(queue.source().await);
        Self(queue)
    }

    async fn left(&self) -> Option<u64> {
        let words = ["XINFO", "GROUPS", &self.0.name];
        let groups: Vec<HashMap<String, redis::Value>> = self.0.try_ask(&words).await.ok()?;
        let text = redis::Value::BulkString(GROUP.into());
        let group = groups.iter().find(|group| group["name"] == text)?;
        match (&group["pending"], &group["lag"]) {
            (redis::Value::Int(pending), redis::Value::Int(lag)) => {
                Some((pending + lag).cast_unsigned())
            }
            _ => None,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effects_are_made_once_and_none_is_lost_though_consumers_and_servers_are_killed() {
    kill_both_ends::<Killed<false>>(OnLeaseEnd::Hold, REDIS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_effect_is_made_again_only_around_a_kill() {
    kill_both_ends::<Killed<false>>(OnLeaseEnd::Retry, REDIS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effects_are_made_once_and_none_is_lost_though_consumers_and_valkey_servers_are_killed() {
    kill_both_ends::<Killed<true>>(OnLeaseEnd::Hold, VALKEY).await;
}

/// Not a test: the process that the tests above start and kill.
#[test]
fn the_process_that_is_killed() {
    consume_until_killed::<Killed<false>>();
}

/// Not a test: the process that the tests above start and kill.
#[test]
fn the_process_that_is_killed_with_valkey() {
    consume_until_killed::<Killed<true>>();
}

const REDIS: &str = "kills::the_process_that_is_killed";
const VALKEY: &str = "kills::the_process_that_is_killed_with_valkey";
