//! Both ends killed at random. Effects are recorded outside of store and server.

use crate::queue::{Queue, Written, payloads, read_partition, write};
use firstseen_consumer::testkit::Fixture;
use firstseen_kafka::{KafkaIds, KafkaOptions, KafkaSource};
use firstseen_servers::Server;
use firstseen_servers::kills::{Broker, OnLeaseEnd, consume_until_killed, kill_both_ends};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::Mutex;

const CHILD: &str = "kills::the_process_that_is_killed";
const PARTITIONS: i32 = 3;

/// A topic whose producer writes again what the server has lost. It puts what it has on disk once a second, records,
/// offsets and all at one moment; a kill takes it back to that moment.
struct Orders {
    queue: Queue,
    producer: Mutex<Producer>,
}

/// What a producer keeps until it is on disk.
#[derive(Default)]
struct Producer {
    /// What was written to each partition, by offset.
    written: BTreeMap<i32, BTreeMap<i64, [String; 3]>>,
    /// All that was written, by payload.
    all: BTreeMap<String, [String; 3]>,
    /// What is to be written, or to be written again. It is here until it is written: the test may drop a call in the middle.
    left: Vec<[String; 3]>,
}

impl Producer {
    /// Writes what is left. Of a partition that was taken back, the place of the next record shows what was lost.
    async fn write(&mut self, queue: &Queue) {
        while let Some(record) = self.left.last() {
            let [id, key, payload] = record;
            let new = Written { partition: None, id, key, payload };
            let (partition, offset) = write(&queue.producer, &queue.topic, &new).await;
            let record = self.left.pop().unwrap();
            let of_partition = self.written.entry(partition).or_default();
            self.left.extend(of_partition.split_off(&offset).into_values());
            self.all.insert(record[2].clone(), record.clone());
            of_partition.insert(offset, record);
        }
    }

    /// Reads the topic and writes again what is not in it: the place of a lost record may have been taken by the second copy
    /// of a write whose answer was lost. Returns how many were missing.
    async fn write_missing(&mut self, queue: &Queue) -> u64 {
        let mut there = BTreeSet::new();
        for partition in 0..PARTITIONS {
            let records =
                read_partition(&queue.brokers, &queue.topic, partition, "read_committed").await;
            there.extend(payloads(&records));
        }
        let missing: Vec<[String; 3]> = self
            .all
            .iter()
            .filter(|(payload, _)| !there.contains(*payload))
            .map(|(_, record)| record.clone())
            .collect();
        let count = missing.len() as u64;
        self.left.extend(missing);
        self.write(queue).await;
        count
    }

    /// Writes again what was lost at the end of a partition. Returns whether nothing was; `None` if nobody can say now.
    async fn is_whole(&mut self, queue: &Queue) -> Option<bool> {
        for (partition, of_partition) in &mut self.written {
            let end = queue.end(*partition).ok()?;
            self.left.extend(of_partition.split_off(&end).into_values());
        }
        let is_whole = self.left.is_empty();
        self.write(queue).await;
        Some(is_whole)
    }
}

impl Fixture for Orders {
    type Source = KafkaSource;

    async fn source(&self) -> KafkaSource {
        self.queue.source().await
    }

    async fn publish(&self, id: &str, key: &str, payload: &str) {
        let mut producer = self.producer.lock().await;
        producer.left.push([id, key, payload].map(str::to_owned));
        producer.write(&self.queue).await;
    }

    async fn dead(&self) -> Vec<String> {
        self.queue.dead().await
    }
}

impl Broker for Orders {
    const NAME: &'static str = "Kafka";
    /// A letter whose delivery report is lost is written again.
    const DEAD_ONCE: bool = false;

    async fn start() -> Server {
        let server = firstseen_servers::kafka::start().await;
        // It has the topics on disk before anything is killed.
        drop(<Self as Broker>::open(&server.address()).await);
        tokio::time::sleep(Duration::from_secs(3)).await;
        server
    }

    async fn open(address: &str) -> Self {
        let options = KafkaOptions::new(KafkaIds::header("id"))
            .answer_wait(Duration::from_secs(2))
            // The process after a kill takes the place of the one before it, which could not leave the group.
            .set("group.instance.id", "worker")
            .set("message.timeout.ms", "1000")
            .set("socket.timeout.ms", "1000");
        let queue = Queue::named(address, "orders", PARTITIONS, options).await;
        Self { queue, producer: Mutex::default() }
    }

    async fn left(&self) -> Option<u64> {
        if !self.producer.lock().await.is_whole(&self.queue).await? {
            return None;
        }
        let mut left = 0;
        for partition in 0..PARTITIONS {
            let (committed, end) =
                (self.queue.committed(partition).ok()?, self.queue.end(partition).ok()?);
            left += u64::try_from(end - committed.unwrap_or(0)).ok()?;
        }
        if left == 0 {
            left = self.producer.lock().await.write_missing(&self.queue).await;
        }
        Some(left)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effects_are_made_once_and_none_is_lost_though_consumers_and_servers_are_killed() {
    kill_both_ends::<Orders>(OnLeaseEnd::Hold, CHILD).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_effect_is_made_again_only_around_a_kill() {
    kill_both_ends::<Orders>(OnLeaseEnd::Retry, CHILD).await;
}

/// Not a test: the process that the tests above start and kill.
#[test]
fn the_process_that_is_killed() {
    consume_until_killed::<Orders>();
}
