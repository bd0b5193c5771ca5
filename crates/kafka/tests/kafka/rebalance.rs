//! Partitions that go to another member while they are worked on.

use crate::queue::{LATE, Queue, brokers};
use crate::rules::{options, take, texts, within};
use firstseen::Store;
use firstseen_consumer::testkit::{Dice, Fixture};
use firstseen_consumer::{Consumer, ConsumerOptions, Failure, Handle, Job, Source};
use firstseen_kafka::{KafkaError, KafkaSource, KafkaToken};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// A cluster of librdkafka's own, with a topic of each of these names: groups and commits only, and both as they should be.
fn mock(partitions: i32) -> MockCluster<'static, DefaultProducerContext> {
    let mock = MockCluster::new(1).unwrap();
    for topic in ["range", "cooperative-sticky"] {
        mock.create_topic(topic, partitions, 1).unwrap();
    }
    mock
}

type Delivery = firstseen_consumer::Delivery<KafkaToken>;

/// Waits until a source has as many partitions.
async fn until_assigned(source: &KafkaSource, count: usize, case: &str) {
    let end = Instant::now() + LATE;
    while source.assignment().len() != count {
        assert!(Instant::now() < end, "{case}: it has {:?}", source.assignment());
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_old_owner_commits_nothing_over_the_new_one() {
    let server = brokers().await;
    let mock = mock(2);
    for (brokers, strategy) in [
        (server.address(), "range"),
        (mock.bootstrap_servers(), "range"),
        (mock.bootstrap_servers(), "cooperative-sticky"),
    ] {
        let options =
            options().revoke_wait(Duration::ZERO).set("partition.assignment.strategy", strategy);
        let queue = if brokers == server.address() {
            Queue::create(&brokers, 2, options).await
        } else {
            Queue::at(&brokers, strategy, options)
        };
        for n in 0..10 {
            queue.write(Some(n % 2), &n.to_string(), &n.to_string()).await;
        }
        let old = queue.source().await;
        let in_flight = take(&old, 10).await;
        let new = queue.source().await;
        until_assigned(&new, 1, strategy).await;
        let (_, moved) = new.assignment().remove(0);
        let again = take(&new, 5).await;
        assert_eq!(texts(&within(&new, Duration::from_millis(300)).await), [""; 0], "{strategy}");
        for delivery in &again {
            new.acknowledge(&delivery.token).await.unwrap();
        }
        assert_eq!(queue.committed(moved).unwrap(), Some(5));
        // The work of the old owner ends late, and not all of it.
        let of_moved = |delivery: &&Delivery| {
            again.iter().any(|other| other.message.payload == delivery.message.payload)
        };
        for delivery in in_flight.iter().filter(of_moved).take(2) {
            let error = old.acknowledge(&delivery.token).await.unwrap_err();
            assert!(matches!(error, KafkaError::Revoked(_)), "{error}");
            old.working(&delivery.token).await.unwrap_err();
            old.retry_in(&delivery.token, Duration::ZERO).await.unwrap();
            let Delivery { message, token } = delivery;
            old.dead_letter(message, token, "poison").await.unwrap_err();
        }
        assert_eq!(queue.committed(moved).unwrap(), Some(5), "{strategy}: it went back");
        if brokers == server.address() {
            assert_eq!(queue.dead().await, [""; 0], "its letters are the new owner's to write");
        }
        drop(old);
        assert_eq!(queue.committed(moved).unwrap(), Some(5), "{strategy}: it went back at the end");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_stays_while_it_is_worked_on_and_goes_when_nobody_does() {
    // The real server hands partitions on without waiting for their owner.
    let mock = mock(1);
    let queue = Queue::at(&mock.bootstrap_servers(), "range", options().revoke_wait(LATE));
    for n in 0..4 {
        queue.write(None, &n.to_string(), &n.to_string()).await;
    }
    let old = queue.source().await;
    let in_flight = take(&old, 4).await;
    old.retry_in(&in_flight[3].token, LATE).await.unwrap();
    let mut new = [queue.source().await, queue.source().await];
    sleep(Duration::from_millis(1_500)).await;
    assert_eq!(old.assignment().len(), 1, "it was handed on in the middle of the work");
    for source in &mut new {
        assert_eq!(texts(&within(source, Duration::from_millis(100)).await), [""; 0]);
    }
    // What waits for a retry is nobody's work.
    for delivery in &in_flight[..3] {
        old.retry_in(&delivery.token, LATE).await.unwrap();
    }
    let end = Instant::now() + LATE / 2;
    while old.assignment().len() == 1 {
        assert!(Instant::now() < end, "it is not handed on, though nobody works on it");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_fails_is_no_acknowledgement() {
    let mock = mock(1);
    let queue = Queue::at(&mock.bootstrap_servers(), "range", options());
    queue.write(None, "0", "0").await;
    let source = queue.source().await;
    let taken = take(&source, 1).await;
    let refused = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED; 1_000];
    mock.request_errors(RDKafkaApiKey::OffsetCommit, &refused);
    let error = source.acknowledge(&taken[0].token).await.unwrap_err();
    assert!(error.to_string().contains("committing"), "{error}");
    assert_eq!(queue.committed(0).unwrap(), None);
    mock.clear_request_errors(RDKafkaApiKey::OffsetCommit);
    source.acknowledge(&taken[0].token).await.unwrap();
    assert_eq!(queue.committed(0).unwrap(), Some(1));
}

/// As after a lost answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_committed_is_acknowledged_again_though_its_partition_has_gone() {
    let mock = mock(2);
    let queue = Queue::at(&mock.bootstrap_servers(), "range", options());
    for n in 0..2 {
        queue.write(Some(n), &n.to_string(), &n.to_string()).await;
    }
    let old = queue.source().await;
    let taken = take(&old, 2).await;
    for delivery in &taken {
        old.acknowledge(&delivery.token).await.unwrap();
    }
    let new = queue.source().await;
    until_assigned(&new, 1, "range").await;
    until_assigned(&old, 1, "range").await;
    for delivery in &taken {
        old.acknowledge(&delivery.token).await.unwrap();
    }
}

/// Members come and go while work is in flight; all of them have one store. Each effect is made once, though many records are
/// delivered to two of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_effect_is_made_once_while_members_come_and_go() {
    let server = brokers().await;
    let options = options().revoke_wait(Duration::ZERO);
    let queue = Queue::create(&server.address(), 4, options).await;
    let count = 600;
    for n in 0..count {
        queue.write(Some(n % 4), &n.to_string(), &n.to_string()).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let ledger = Store::open(dir.path().join("seen.db")).unwrap().ledger("orders").unwrap();
    let effects: Arc<Mutex<BTreeMap<String, u32>>> = Arc::default();
    let mut members = Vec::new();
    let (mut first, mut duplicates) = (0, 0);
    let mut dice = Dice::new(7);
    let end = Instant::now() + LATE * 2;
    while first < u64::from(count as u32) {
        assert!(Instant::now() < end, "{first} of {count} are done");
        let (made, wait) = (Arc::clone(&effects), Duration::from_millis(dice.below(30)));
        let work = move |job: Job| {
            let made = Arc::clone(&made);
            async move {
                sleep(wait).await;
                let id = String::from_utf8_lossy(job.id()).into_owned();
                *made.lock().unwrap().entry(id).or_default() += 1;
                Ok::<(), Failure>(())
            }
        };
        let options = ConsumerOptions::new().workers(4).in_flight_max(40);
        let options = options.busy_delay(Duration::from_millis(50));
        let source = queue.source().await;
        let consumer = Consumer::with_ledger(source, ledger.clone(), work).options(options);
        members.push((consumer.handle(), tokio::spawn(consumer.run())));
        sleep(Duration::from_millis(dice.below(1_500))).await;
        if members.len() > 2 || dice.percent(30) {
            let (handle, task): (Handle, _) =
                members.remove(dice.below(members.len() as u64) as usize);
            handle.stop();
            let counters = task.await.unwrap().unwrap();
            (first, duplicates) = (first + counters.first, duplicates + counters.duplicates);
        }
        let running: u64 = members.iter().map(|(handle, _)| handle.counters().first).sum();
        if first + running == u64::from(count as u32) {
            break;
        }
    }
    for (handle, task) in members {
        handle.stop();
        let counters = task.await.unwrap().unwrap();
        (first, duplicates) = (first + counters.first, duplicates + counters.duplicates);
    }
    let effects = effects.lock().unwrap();
    assert!(effects.values().all(|times| *times == 1), "{effects:?}");
    assert_eq!((effects.len(), first), (count as usize, count as u64));
    assert!(duplicates > 0, "no rebalance came while something was in flight");
}
