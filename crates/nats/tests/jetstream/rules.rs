//! Rules 85 and 86 of brokers, and what is this adapter's own.

use crate::queue::{LATE, Queue, connect, payloads, publish, take};
use firstseen::Store;
use firstseen::ledger::{Backoff, LedgerOptions};
use firstseen_consumer::testkit::{Faults, Faulty, Fixture};
use firstseen_consumer::{Consumer, ConsumerOptions, Counters, Failure, Handle, Job, Source};
use firstseen_nats::{NatsError, NatsIds, NatsOptions, NatsSource};
use firstseen_servers::nats;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

pub(crate) type Ran = Result<Counters, firstseen_consumer::Error>;

pub(crate) fn start<S, F, Fut>(source: S, dir: &Path, work: F) -> (Handle, JoinHandle<Ran>)
where
    S: Source,
    F: Fn(Job) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let policies =
        LedgerOptions::new().attempts_max(3).backoff(Backoff::constant(Duration::from_millis(50)));
    let store = Store::open(dir.join("seen.db")).unwrap();
    let ledger = store.ledger_with("rules", policies).unwrap();
    let options = ConsumerOptions::new().busy_delay(Duration::from_millis(100));
    let options = options.poll(Duration::from_millis(100)).lag_every(Duration::from_millis(50));
    let consumer = Consumer::with_ledger(source, ledger, work).options(options);
    (consumer.handle(), tokio::spawn(consumer.run()))
}

pub(crate) async fn until(handle: &Handle, what: &str, is_so: impl Fn(&Counters) -> bool) {
    let end = Instant::now() + LATE;
    while !is_so(&handle.counters()) {
        assert!(Instant::now() < end, "{what}: {:?}", handle.counters());
        sleep(Duration::from_millis(5)).await;
    }
}

/// Rule 85. The acknowledgement of the first is lost on its way, and the server delivers again after its wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_85_after_ack_wait_it_is_delivered_twice_and_done_once() {
    let server = nats::start().await;
    let ack_wait = Duration::from_millis(600);
    let queue = Queue::create(&server.address(), NatsOptions::new().ack_wait(ack_wait)).await;
    queue.publish("order-17", "k", "order-17").await;

    // Delivered, and never answered: the process dies.
    let dead = queue.source().await;
    // The server begins to wait once it has delivered.
    let began = Instant::now();
    let taken = take(&dead).await;
    // On a machine with other work it may have come to this one again.
    let before = taken.message.deliveries.unwrap();
    drop((taken, dead));

    let dir = tempfile::tempdir().unwrap();
    let counted = Arc::new(AtomicU32::new(0));
    let (effects, deliveries) = (Arc::clone(&counted), Arc::new(AtomicU32::new(0)));
    let seen = Arc::clone(&deliveries);
    // Its first acknowledgement is lost, too, without a word.
    let faults = Faults { lost: 100, ..Faults::default() };
    let source = Faulty::new(queue.source().await, faults, 0);
    let (handle, task) = start(source, dir.path(), move |job: Job| {
        effects.fetch_add(1, Ordering::Relaxed);
        seen.store(job.message().deliveries.unwrap(), Ordering::Relaxed);
        async { Ok(()) }
    });
    until(&handle, "it is done, and comes again", |now| now.first == 1 && now.duplicates > 0).await;
    assert!(began.elapsed() >= ack_wait, "the server has not waited");
    assert!(deliveries.load(Ordering::Relaxed) > before, "the server counts deliveries");
    handle.stop();
    task.await.unwrap().unwrap();

    // Without the fault the duplicate is acknowledged: the server has confirmed it when the call returns.
    let source = queue.source().await;
    let taken = take(&source).await;
    assert!(taken.message.deliveries >= Some(3));
    source.acknowledge(&taken.token).await.unwrap();
    assert_eq!(pending(&queue).await, (0, 0), "the double ack returned before the server knew");
    assert_eq!(counted.load(Ordering::Relaxed), 1);
}

/// Rule 85.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_85_an_acknowledgement_does_not_return_before_the_server_has_answered() {
    let server = nats::start().await;
    let queue = Queue::create(&server.address(), NatsOptions::new()).await;
    queue.publish("order-17", "k", "order-17").await;
    let source = queue.source().await;
    let taken = take(&source).await;
    assert_eq!(taken.message.deliveries, Some(1));
    server.freeze();
    let acknowledged = source.acknowledge(&taken.token);
    tokio::pin!(acknowledged);
    let early = timeout(Duration::from_secs(1), &mut acknowledged).await;
    server.thaw();
    assert!(early.is_err(), "nobody has answered, yet it says {early:?}");
    acknowledged.await.unwrap();
    assert_eq!(pending(&queue).await, (0, 0));
}

/// Returns how many messages are not delivered, and how many are delivered and not acknowledged.
pub(crate) async fn pending(queue: &Queue) -> (u64, usize) {
    use async_nats::jetstream::consumer::PullConsumer;
    let stream = queue.context.get_stream(&queue.name).await.unwrap();
    let consumer: PullConsumer = stream.get_consumer("worker").await.unwrap();
    let info = consumer.cached_info();
    (info.num_pending, info.num_ack_pending)
}

/// Rule 86. The server's window is a tenth of a second here; ours is the ttl of the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_86_a_message_id_outside_the_servers_window_is_new_to_the_server_and_a_duplicate_here()
{
    let server = nats::start().await;
    let queue = Queue::create(&server.address(), NatsOptions::new()).await;
    let subject = format!("{}.k", queue.name);
    // The producer sends it once more, inside the window and outside: then, to the server it is another message. On a
    // machine with other work it may be outside several times.
    let (mut stored, mut known) = (0, 0);
    let end = Instant::now() + LATE;
    while stored < 2 || known == 0 {
        if publish(&queue.context, &subject, "order-17", "order-17").await {
            known += 1;
        } else {
            stored += 1;
        }
        assert!(Instant::now() < end, "{stored} were stored, and {known} known");
        if known > 0 {
            sleep(Duration::from_millis(300)).await;
        }
    }
    assert_eq!(payloads(&queue.context, &queue.name).await.len(), stored, "the server has both");
    let dir = tempfile::tempdir().unwrap();
    let counted = Arc::new(AtomicU32::new(0));
    let effects = Arc::clone(&counted);
    let (handle, task) = start(queue.source().await, dir.path(), move |_| {
        effects.fetch_add(1, Ordering::Relaxed);
        async { Ok(()) }
    });
    let duplicates = stored as u64 - 1;
    let are_answered = |now: &Counters| (now.first, now.duplicates) == (1, duplicates);
    until(&handle, "all are answered", are_answered).await;
    handle.stop();
    task.await.unwrap().unwrap();
    assert_eq!(counted.load(Ordering::Relaxed), 1, "only we catch it");
    assert_eq!(pending(&queue).await, (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_without_an_id_is_a_dead_letter_and_with_ids_by_sequence_it_is_done() {
    let server = nats::start().await;
    let queue = Queue::create(&server.address(), NatsOptions::new()).await;
    let context = &queue.context;
    let send = async |text: &'static str| {
        let sent = context.publish(format!("{}.k", queue.name), text.into()).await.unwrap();
        sent.await.unwrap();
    };
    send("nameless").await;
    let dir = tempfile::tempdir().unwrap();
    let (handle, task) = start(queue.source().await, dir.path(), |_| async { Ok(()) });
    until(&handle, "it is dead", |now| now.dead == 1).await;
    handle.stop();
    let counters = task.await.unwrap().unwrap();
    assert_eq!((counters.without_id, counters.first), (1, 0));
    assert_eq!(queue.dead().await, ["nameless"]);

    send("numbered").await;
    let options = queue.options.clone().ids(NatsIds::Sequence);
    let source =
        NatsSource::open(connect(&server.address(), LATE).await, &queue.name, "worker", options)
            .await
            .unwrap();
    let (handle, task) = start(source, dir.path(), |_| async { Ok(()) });
    until(&handle, "it is done", |now| now.first == 1).await;
    handle.stop();
    task.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_says_where_it_comes_from_and_why() {
    let server = nats::start().await;
    let queue = Queue::create(&server.address(), NatsOptions::new()).await;
    queue.publish("order-17", "k", "poison").await;
    let dir = tempfile::tempdir().unwrap();
    let refuse = |_| async { Err(Failure::last("no such\naccount")) };
    let (handle, task) = start(queue.source().await, dir.path(), refuse);
    until(&handle, "it is dead", |now| now.dead == 1).await;
    handle.stop();
    task.await.unwrap().unwrap();
    let stream = queue.context.get_stream(format!("{}-dead", queue.name)).await.unwrap();
    let letter = stream.get_raw_message(1).await.unwrap();
    let header = |name: &str| letter.headers.get(name).map(|value| value.as_str().to_owned());
    assert_eq!(header("Firstseen-Message-Id").as_deref(), Some("order-17"));
    assert_eq!(header("Firstseen-Subject"), Some(format!("{}.k", queue.name)));
    let reason = header("Firstseen-Reason").unwrap();
    assert!(reason.contains("no such account"), "{reason}");
    assert_eq!(header("Firstseen-Consumer").as_deref(), Some("worker"));
    let id = header("Nats-Msg-Id").unwrap();
    assert!(id.starts_with(&format!("dead.worker.{}.1.", queue.name)), "{id}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_would_lose_messages_is_refused() {
    use async_nats::jetstream::consumer::{AckPolicy, pull::Config};
    let server = nats::start().await;
    let queue = Queue::create(&server.address(), NatsOptions::new()).await;
    let stream = queue.context.get_stream(&queue.name).await.unwrap();
    let limited = Config {
        durable_name: Some("limited".to_owned()),
        ack_policy: AckPolicy::Explicit,
        max_deliver: 5,
        ..Config::default()
    };
    let silent = Config {
        durable_name: Some("silent".to_owned()),
        ack_policy: AckPolicy::None,
        ..Config::default()
    };
    for (config, word) in [(limited, "max_deliver"), (silent, "ack policy")] {
        let name = config.durable_name.clone().unwrap();
        stream.create_consumer(config).await.unwrap();
        let context = queue.context.clone();
        let opened = NatsSource::open(context, &queue.name, &name, NatsOptions::new()).await;
        let error = opened.unwrap_err();
        assert!(matches!(error, NatsError::Unsuitable { .. }), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
    let nowhere = NatsOptions::new().dead_letters("nowhere");
    let opened = NatsSource::open(queue.context.clone(), &queue.name, "worker", nowhere).await;
    let error = opened.unwrap_err();
    assert!(error.to_string().contains("no stream for dead letters"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lag_is_told_and_a_deleted_consumer_is_made_anew() {
    let server = nats::start().await;
    let options = NatsOptions::new().prefetch(1).heartbeat(Duration::from_millis(500));
    let queue = Queue::create(&server.address(), options).await;
    for n in 0..50 {
        queue.publish(&n.to_string(), "k", "x").await;
    }
    let dir = tempfile::tempdir().unwrap();
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let open = Arc::clone(&gate);
    let source = queue.source().await;
    assert_eq!(source.lag().await.unwrap(), Some(50));
    let (handle, task) = start(source, dir.path(), move |_| {
        let open = Arc::clone(&open);
        async move {
            open.acquire().await.unwrap().forget();
            Ok(())
        }
    });
    gate.add_permits(50);
    until(&handle, "all are done", |now| now.first == 50 && now.lag == Some(0)).await;
    let stream = queue.context.get_stream(&queue.name).await.unwrap();
    stream.delete_consumer("worker").await.unwrap();
    gate.add_permits(1);
    queue.publish("50", "k", "x").await;
    // The consumer that is made anew delivers all of the stream: duplicates, and what has come meanwhile.
    until(&handle, "it goes on", |now| now.first == 51 && now.duplicates >= 50).await;
    handle.stop();
    assert!(task.await.unwrap().unwrap().source_errors >= 1);
}
