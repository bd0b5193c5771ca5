//! Rule 88 of brokers, and what is this adapter's own.

use crate::queue::{LATE, Queue, brokers, header, payloads, read_all};
use firstseen_consumer::testkit::Fixture;
use firstseen_consumer::{Delivery, Source, Want};
use firstseen_kafka::{KafkaError, KafkaIds, KafkaOptions, KafkaSource, KafkaStart, KafkaToken};
use std::time::Duration;
use tokio::time::{Instant, sleep};

type Taken = Vec<Delivery<KafkaToken>>;

pub(crate) fn options() -> KafkaOptions {
    KafkaOptions::new(KafkaIds::header("id"))
}

fn want(count: usize, wait: Duration) -> Want {
    Want { count, bytes: 1 << 20, wait }
}

/// Takes as many deliveries.
pub(crate) async fn take(source: &KafkaSource, count: usize) -> Taken {
    let end = Instant::now() + LATE;
    let mut taken = Vec::new();
    while taken.len() < count {
        assert!(Instant::now() < end, "{} of {count} came", taken.len());
        let wait = Duration::from_millis(200);
        taken.extend(source.next(want(count - taken.len(), wait)).await.unwrap());
    }
    taken
}

/// Returns what comes within this time.
pub(crate) async fn within(source: &KafkaSource, time: Duration) -> Taken {
    let end = Instant::now() + time;
    let mut taken = Vec::new();
    while Instant::now() < end {
        let left = end - Instant::now();
        taken.extend(source.next(want(100, left)).await.unwrap());
    }
    taken
}

pub(crate) fn texts(taken: &Taken) -> Vec<String> {
    let text = |delivery: &Delivery<_>| String::from_utf8_lossy(&delivery.message.payload).into();
    taken.iter().map(text).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_88_the_commit_is_behind_the_last_record_before_which_all_are_done() {
    let server = brokers().await;
    let queue = Queue::create(&server.address(), 2, options()).await;
    for n in 0..6 {
        assert_eq!(queue.write(Some(0), &format!("a{n}"), &format!("a{n}")).await, n);
    }
    queue.write(Some(1), "b0", "b0").await;
    let source = queue.source().await;
    let mut taken = take(&source, 7).await;
    taken.sort_by_key(|delivery| delivery.message.id.clone());
    for n in [1, 2, 4] {
        source.acknowledge(&taken[n].token).await.unwrap();
    }
    assert_eq!(queue.committed(0).unwrap(), None, "what is behind an open record was committed");
    source.acknowledge(&taken[6].token).await.unwrap();
    assert_eq!(queue.committed(1).unwrap(), Some(1), "a partition waits for another");
    source.acknowledge(&taken[0].token).await.unwrap();
    assert_eq!(queue.committed(0).unwrap(), Some(3), "1 and 2 are done, too; 3 is open");
    source.acknowledge(&taken[3].token).await.unwrap();
    assert_eq!(queue.committed(0).unwrap(), Some(5));
    // A second time, as after a lost answer.
    source.acknowledge(&taken[3].token).await.unwrap();
    drop(source);
    let other = queue.source().await;
    assert_eq!(texts(&take(&other, 1).await), ["a5"], "only what is not done comes again");
    assert_eq!(texts(&within(&other, Duration::from_millis(500)).await), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_put_off_holds_up_its_partition_at_the_bound_until_it_is_done() {
    let server = brokers().await;
    let queue = Queue::create(&server.address(), 2, options().open_max(4)).await;
    for n in 0..8 {
        queue.write(Some(0), &format!("a{n}"), &format!("a{n}")).await;
    }
    let source = queue.source().await;
    let first = take(&source, 1).await;
    let (delay, began) = (Duration::from_secs(3), Instant::now());
    source.retry_in(&first[0].token, delay).await.unwrap();
    let next = take(&source, 3).await;
    for delivery in &next {
        source.acknowledge(&delivery.token).await.unwrap();
    }
    assert_eq!(texts(&next), ["a1", "a2", "a3"], "others of its partition go on");
    let mut again = within(&source, Duration::from_secs(1)).await;
    // On a machine with other work the delay may be over by then.
    let is_early = began.elapsed() < delay;
    assert!(again.is_empty() || (!is_early && texts(&again) == ["a0"]), "over the bound");
    // Another partition goes on.
    queue.write(Some(1), "b0", "b0").await;
    again.extend(take(&source, 2 - again.len()).await);
    assert!(began.elapsed() >= delay, "it came before its delay had passed");
    let is_first = texts(&again) == ["b0", "a0"];
    assert!(is_first || (!is_early && texts(&again) == ["a0", "b0"]), "{:?}", texts(&again));
    assert_eq!(queue.committed(0).unwrap(), None);
    let a0 = again.iter().find(|delivery| delivery.message.payload == "a0").unwrap();
    source.acknowledge(&a0.token).await.unwrap();
    assert_eq!(queue.committed(0).unwrap(), Some(4));
    assert_eq!(texts(&take(&source, 4).await), ["a4", "a5", "a6", "a7"], "it is read on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_says_where_it_comes_from_and_why_and_comes_before_the_commit() {
    let server = brokers().await;
    let queue = Queue::create(&server.address(), 1, options()).await;
    queue.write(None, "order-16", "fine").await;
    queue.write(None, "order-17", "poison").await;
    let source = queue.source().await;
    let taken = take(&source, 2).await;
    let Delivery { message, token } = &taken[1];
    source.dead_letter(message, token, "no such\naccount").await.unwrap();
    // The first is open, so nothing was committed; the letter is there all the same, once.
    source.dead_letter(message, token, "no such\naccount").await.unwrap();
    assert_eq!(queue.committed(0).unwrap(), None);
    let letters = read_all(&queue.brokers, &queue.dead_topic()).await;
    assert_eq!(payloads(&letters), ["poison"]);
    let header = |name| header(&letters[0], name);
    assert_eq!(header("firstseen-reason").as_deref(), Some("no such\naccount"));
    assert_eq!(header("firstseen-group"), Some(queue.group.clone()));
    assert_eq!(header("firstseen-topic"), Some(queue.topic.clone()));
    assert_eq!(header("firstseen-partition").as_deref(), Some("0"));
    assert_eq!(header("firstseen-offset").as_deref(), Some("1"));
    assert_eq!(header("firstseen-message-id").as_deref(), Some("order-17"));
    assert_eq!(header("id").as_deref(), Some("order-17"), "headers of the record are kept");
    source.acknowledge(&taken[0].token).await.unwrap();
    assert_eq!(queue.committed(0).unwrap(), Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_that_cannot_be_written_is_not_acknowledged() {
    let server = firstseen_servers::kafka::start().await;
    let options = options().set("message.timeout.ms", "1000");
    let queue = Queue::create(&server.address(), 1, options).await;
    queue.write(None, "order-17", "poison").await;
    let source = queue.source().await;
    let taken = take(&source, 1).await;
    let Delivery { message, token } = &taken[0];
    server.freeze();
    let refused = source.dead_letter(message, token, "poison").await;
    server.thaw();
    let error = refused.unwrap_err();
    assert!(error.to_string().contains("writing a dead letter"), "{error}");
    assert_eq!(queue.committed(0).unwrap(), None);
    // The loop tells it again when the record has come again. Whether the first letter has arrived, nobody knows.
    let end = Instant::now() + LATE;
    while let Err(error) = source.dead_letter(message, token, "poison").await {
        assert!(Instant::now() < end, "{error}");
    }
    assert_eq!(queue.committed(0).unwrap(), Some(1));
    assert!(queue.dead().await.contains(&"poison".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_lose_messages_is_refused_where_the_source_is_opened() {
    let server = brokers().await;
    let mut queue = Queue::create(&server.address(), 1, options()).await;
    let good = queue.options.clone();
    queue.options = good.clone().set("enable.auto.commit", "true");
    let error = queue.open().await.unwrap_err();
    assert!(matches!(&error, KafkaError::Setting { name, .. } if name == "enable.auto.commit"));
    assert!(error.to_string().contains("leave it out"), "{error}");
    queue.options = good.clone().set("no.such.setting", "1");
    let error = queue.open().await.unwrap_err();
    assert!(error.to_string().contains("no.such.setting"), "{error}");
    queue.options = good.clone().dead_letters("nowhere");
    let error = queue.open().await.unwrap_err();
    assert!(matches!(&error, KafkaError::NoTopic(topic) if topic == "nowhere"), "{error}");
    queue.options = good;
    queue.topic = "nothing".to_owned();
    let error = queue.open().await.unwrap_err();
    assert!(matches!(&error, KafkaError::NoTopic(topic) if topic == "nothing"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_come_from_where_the_options_say_and_a_function_that_panics_gives_none() {
    let server = brokers().await;
    let mut queue = Queue::create(&server.address(), 1, options()).await;
    queue.publish("order-17", "anna", "10 euros").await;
    let (topic, group) = (queue.topic.clone(), queue.group.clone());
    let of_payload = KafkaIds::of(|record| Some(record.payload().to_vec()));
    let panics = KafkaIds::of(|_| -> Option<Vec<u8>> { std::panic::resume_unwind(Box::new("no")) });
    for (n, (ids, expected)) in [
        (KafkaIds::header("id"), Some("order-17")),
        (KafkaIds::header("no-such"), None),
        (KafkaIds::Key, Some("anna")),
        (of_payload, Some("10 euros")),
        (panics, None),
    ]
    .into_iter()
    .enumerate()
    {
        queue.group = format!("{group}-{n}");
        let options = KafkaOptions::new(ids);
        let opened = KafkaSource::open(&queue.brokers, &queue.group, [&topic], options).await;
        let taken = take(&opened.unwrap(), 1).await;
        let message = &taken[0].message;
        assert_eq!(message.id.as_deref(), expected.map(str::as_bytes), "number {n}");
        assert_eq!(message.key.as_deref(), Some(&b"anna"[..]));
        assert_eq!(message.deliveries, None, "Kafka does not count");
    }
    let options = KafkaOptions::new(KafkaIds::Place);
    let mut ids = Vec::new();
    for _ in 0..2 {
        let opened = KafkaSource::open(&queue.brokers, "places", [&topic], options.clone()).await;
        ids.push(take(&opened.unwrap(), 1).await[0].message.id.clone().unwrap());
    }
    assert_eq!(ids[0], ids[1], "the same at each delivery");
    assert!(ids[0].starts_with(format!("{topic}/0/0/1").as_bytes()), "{:?}", ids[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lag_counts_what_is_behind_the_last_delivery() {
    let server = brokers().await;
    let queue = Queue::create(&server.address(), 2, options()).await;
    for n in 0..5 {
        queue.write(Some(n % 2), &n.to_string(), "x").await;
    }
    let source = queue.source().await;
    let taken = take(&source, 1).await;
    assert_eq!(source.lag().await.unwrap(), Some(4));
    source.retry_in(&taken[0].token, Duration::from_secs(60)).await.unwrap();
    take(&source, 4).await;
    assert_eq!(source.lag().await.unwrap(), Some(0), "what waits for a retry was delivered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_from_the_end_leaves_nothing_out_after_a_crash() {
    let server = brokers().await;
    let queue = Queue::create(&server.address(), 1, options().start(KafkaStart::Latest)).await;
    queue.write(None, "before", "before").await;
    let source = queue.source().await;
    let end = Instant::now() + LATE;
    while source.assignment().is_empty() {
        assert!(Instant::now() < end, "it is assigned nothing");
        sleep(Duration::from_millis(5)).await;
    }
    // Gone before anything has come, and so before any acknowledgement.
    drop(source);
    queue.write(None, "after", "after").await;
    let source = queue.source().await;
    assert_eq!(texts(&take(&source, 1).await), ["after"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_committed_offset_a_source_may_be_told_to_fail() {
    let server = brokers().await;
    let queue = Queue::create(&server.address(), 1, options().start(KafkaStart::Fail)).await;
    queue.write(None, "before", "before").await;
    let source = queue.source().await;
    let end = Instant::now() + LATE;
    let error = loop {
        match source.next(want(1, Duration::from_millis(200))).await {
            Ok(taken) => assert_eq!(texts(&taken), [""; 0]),
            Err(error) => break error,
        }
        assert!(Instant::now() < end, "it does not fail");
    };
    assert!(error.to_string().contains("reading a partition"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_time_between_commits_acknowledgements_do_not_wait_and_all_is_committed_soon() {
    let server = brokers().await;
    let options = options().commit_every(Duration::from_secs(1));
    let queue = Queue::create(&server.address(), 1, options).await;
    for n in 0..100 {
        queue.write(None, &n.to_string(), "x").await;
    }
    let source = queue.source().await;
    for delivery in take(&source, 100).await {
        source.acknowledge(&delivery.token).await.unwrap();
    }
    let end = Instant::now() + LATE;
    while queue.committed(0).unwrap() != Some(100) {
        assert!(Instant::now() < end, "it is never committed");
        sleep(Duration::from_millis(20)).await;
    }
    // At the end of a source at once.
    queue.write(None, "100", "x").await;
    let taken = take(&source, 1).await;
    source.acknowledge(&taken[0].token).await.unwrap();
    drop(source);
    assert_eq!(queue.committed(0).unwrap(), Some(101));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_has_ended_is_built_anew() {
    let server = brokers().await;
    let options = options().set("group.instance.id", "one");
    let queue = Queue::create(&server.address(), 1, options).await;
    let first = queue.source().await;
    queue.write(None, "0", "0").await;
    let before = take(&first, 1).await;
    // Another of the same name takes its place: the client of the first ends for good.
    let second = queue.source().await;
    let end = Instant::now() + LATE;
    let error = loop {
        match first.next(want(1, Duration::from_millis(200))).await {
            Ok(taken) => assert_eq!(texts(&taken), [""; 0]),
            Err(error) => break error,
        }
        assert!(Instant::now() < end, "nobody says that it has ended");
    };
    assert!(matches!(error, KafkaError::Ended(_)), "{error}");
    drop(second);
    assert_eq!(texts(&take(&first, 1).await), ["0"], "it is delivered again");
    let late = first.acknowledge(&before[0].token).await.unwrap_err();
    assert!(matches!(late, KafkaError::Revoked(_)), "of an assignment that has ended: {late}");
}
