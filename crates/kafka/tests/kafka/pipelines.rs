//! Offsets in the store's own commit.

use crate::queue::{LATE, Queue, brokers, config};
use crate::rules::options;
use firstseen::Store;
use firstseen::table::{Entry, Table};
use firstseen::transaction::Transaction;
use firstseen_consumer::testkit::Dice;
use firstseen_kafka::{
    Batch, KafkaPipeline, KafkaStart, PipelineCounters, PipelineError, PipelineHandle,
    PipelineOptions, WorkError,
};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::time::{Instant, sleep};

pub(crate) fn pipeline_options() -> PipelineOptions {
    PipelineOptions::new()
        .batch_max(7)
        .display_every(Duration::from_millis(100))
        .set("session.timeout.ms", "10000")
        .set("heartbeat.interval.ms", "200")
        .set("reconnect.backoff.max.ms", "300")
        .set("fetch.wait.max.ms", "100")
}

type Ran = Result<PipelineCounters, PipelineError>;

/// A pipeline that runs on a thread of its own.
struct Running {
    handle: PipelineHandle,
    thread: JoinHandle<Ran>,
}

impl Running {
    fn start(
        mut pipeline: KafkaPipeline,
        work: impl FnMut(&Batch, &mut Transaction) -> Result<(), WorkError> + Send + 'static,
    ) -> Self {
        let handle = pipeline.handle();
        Self { handle, thread: std::thread::spawn(move || pipeline.run(work)) }
    }

    async fn until(&self, what: &str, is_so: impl Fn(PipelineCounters) -> bool) {
        let end = Instant::now() + LATE;
        while !is_so(self.handle.counters()) {
            assert!(Instant::now() < end, "{what}: {:?}", self.handle.counters());
            assert!(!self.thread.is_finished(), "{what}: the pipeline has ended by itself");
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn stop(self) -> Ran {
        self.handle.stop();
        self.thread.join().unwrap()
    }

    /// Waits until it ends by itself.
    async fn ends(self) -> Ran {
        let end = Instant::now() + LATE;
        while !self.thread.is_finished() {
            assert!(Instant::now() < end, "it does not end: {:?}", self.handle.counters());
            sleep(Duration::from_millis(5)).await;
        }
        self.thread.join().unwrap()
    }
}

fn open(queue: &Queue, store: &Store, options: PipelineOptions) -> KafkaPipeline {
    KafkaPipeline::open(store, &queue.brokers, &queue.group, [&queue.topic], options).unwrap()
}

/// Counts each place, without a claim and without a ledger: only the offset keeps it from being counted twice.
fn count_places(
    counts: Table<u64>,
) -> impl FnMut(&Batch, &mut Transaction) -> Result<(), WorkError> {
    move |batch, transaction| {
        for record in batch {
            let place = format!("{}/{}", record.place.partition, record.place.offset);
            let before = transaction.get(&counts, &place)?.unwrap_or(0);
            transaction.put(&counts, &place, &(before + 1))?;
        }
        Ok(())
    }
}

/// Returns how often each place was counted.
fn counted(counts: &Table<u64>) -> BTreeMap<String, u64> {
    let mut counted = BTreeMap::new();
    let add = |key: &[u8], entry: firstseen::Result<Entry<u64>>| {
        counted.insert(String::from_utf8(key.to_vec()).unwrap(), entry.unwrap().value);
        ControlFlow::Continue(())
    };
    counts.scan(add).unwrap();
    counted
}

fn once_each(ends: &[i64]) -> BTreeMap<String, u64> {
    let mut expected = BTreeMap::new();
    for (partition, end) in ends.iter().enumerate() {
        expected.extend((0..*end).map(|offset| (format!("{partition}/{offset}"), 1)));
    }
    expected
}

/// Commits an offset for the group, as another program does.
async fn commit_by_hand(queue: &Queue, offset: i64) {
    let client: BaseConsumer =
        config(&queue.brokers).set("group.id", &queue.group).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&queue.topic, 0, Offset::Offset(offset)).unwrap();
    // The group takes it once it has no member any more.
    let end = Instant::now() + LATE;
    while let Err(error) = client.commit(&list, CommitMode::Sync) {
        assert!(Instant::now() < end, "{error}");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_says_where_to_read_on_and_the_group_only_shows_it() {
    let server = brokers().await;
    let queue = Queue::create(&server.address(), 1, options()).await;
    for n in 0..20 {
        queue.write(None, &n.to_string(), "x").await;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("s.db")).unwrap();
    let counts = store.table::<u64>("counts").unwrap();
    let pipeline = open(&queue, &store, pipeline_options());
    let running = Running::start(pipeline, count_places(counts.clone()));
    running.until("all are counted", |now| now.records == 20).await;
    running.stop().unwrap();
    let source = store.source(&format!("kafka/{}/{}", queue.group, queue.topic)).unwrap();
    assert_eq!(source.position(0).unwrap().map(|position| position.next), Some(20));
    assert_eq!(queue.committed(0).unwrap(), Some(20), "the group shows it");

    // Whatever the group says: nothing is read again, and nothing left out.
    commit_by_hand(&queue, 3).await;
    queue.write(None, "20", "x").await;
    let pipeline = open(&queue, &store, pipeline_options());
    let running = Running::start(pipeline, count_places(counts.clone()));
    running.until("the new one is counted", |now| now.records >= 1).await;
    assert_eq!(running.stop().unwrap().records, 1);
    assert_eq!(counted(&counts), once_each(&[21]));
    assert_eq!(queue.committed(0).unwrap(), Some(21));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_store_has_read_is_not_read_again_without_its_state() {
    let server = brokers().await;
    let queue = Queue::create(&server.address(), 1, options()).await;
    for n in 0..10 {
        queue.write(None, &n.to_string(), "x").await;
    }
    let dir = tempfile::tempdir().unwrap();
    let first = Store::open(dir.path().join("first.db")).unwrap();
    let counts = first.table::<u64>("counts").unwrap();
    let running = Running::start(open(&queue, &first, pipeline_options()), count_places(counts));
    running.until("all are counted", |now| now.records == 10).await;
    running.stop().unwrap();

    let second = Store::open(dir.path().join("second.db")).unwrap();
    let counts = second.table::<u64>("counts").unwrap();
    let pipeline = open(&queue, &second, pipeline_options());
    let error = Running::start(pipeline, count_places(counts.clone())).ends().await.unwrap_err();
    let is_it = matches!(error, PipelineError::Elsewhere { stored: None, committed: 10, .. });
    assert!(is_it, "{error}");
    assert_eq!(counted(&counts), BTreeMap::new());

    queue.write(None, "10", "x").await;
    let pipeline = open(&queue, &second, pipeline_options().adopt(true));
    let running = Running::start(pipeline, count_places(counts.clone()));
    running.until("it goes on", |now| now.records == 1).await;
    running.stop().unwrap();
    assert_eq!(counted(&counts), BTreeMap::from([("0/10".to_owned(), 1)]));

    // The first comes back with its old state.
    let counts = first.table::<u64>("counts").unwrap();
    let pipeline = open(&queue, &first, pipeline_options());
    let error = Running::start(pipeline, count_places(counts)).ends().await.unwrap_err();
    let is_it = matches!(error, PipelineError::Elsewhere { stored: Some(10), committed: 11, .. });
    assert!(is_it, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_that_begins_at_the_end_leaves_nothing_out_after_a_restart() {
    let server = brokers().await;
    let queue = Queue::create(&server.address(), 1, options()).await;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("s.db")).unwrap();
    let counts = store.table::<u64>("counts").unwrap();
    let latest = pipeline_options().start(KafkaStart::Latest);
    let source = store.source(&format!("kafka/{}/{}", queue.group, queue.topic)).unwrap();
    let running =
        Running::start(open(&queue, &store, latest.clone()), count_places(counts.clone()));
    let end = Instant::now() + LATE;
    // Also at offset zero.
    while source.position(0).unwrap().is_none_or(|position| position.epoch == 0) {
        assert!(Instant::now() < end, "the partition is never taken over");
        sleep(Duration::from_millis(5)).await;
    }
    running.stop().unwrap();
    queue.write(None, "0", "x").await;
    let running = Running::start(open(&queue, &store, latest), count_places(counts.clone()));
    running.until("what came meanwhile is counted", |now| now.records == 1).await;
    running.stop().unwrap();

    let other = Queue::create(&server.address(), 1, options()).await;
    let fail = pipeline_options().start(KafkaStart::Fail);
    let running = Running::start(open(&other, &store, fail), count_places(counts));
    let error = running.ends().await.unwrap_err();
    assert!(matches!(error, PipelineError::Nowhere { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_fails_ends_the_run_and_its_batch_comes_again() {
    let server = brokers().await;
    let queue = Queue::create(&server.address(), 1, options()).await;
    for n in 0..10 {
        queue.write(None, &n.to_string(), "x").await;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("s.db")).unwrap();
    let counts = store.table::<u64>("counts").unwrap();
    let mut pipeline = open(&queue, &store, pipeline_options());
    let mut count = count_places(counts.clone());
    let ran = std::thread::spawn(move || {
        let error = pipeline.run(|batch, transaction| {
            count(batch, transaction)?;
            if batch.records()[0].place.offset > 0 { Err("no more".into()) } else { Ok(()) }
        });
        (pipeline, error.unwrap_err())
    });
    let (mut pipeline, error) = tokio::task::spawn_blocking(|| ran.join().unwrap()).await.unwrap();
    let is_it = matches!(error, PipelineError::Work { offset: 7, .. });
    assert!(is_it && error.to_string().contains("no more"), "{error}");
    assert_eq!(counted(&counts), once_each(&[7]), "only the first batch");
    // The same pipeline goes on.
    let handle = pipeline.handle();
    let mut count = count_places(counts.clone());
    let ran = std::thread::spawn(move || {
        pipeline.run(|batch, transaction| {
            count(batch, transaction)?;
            handle.stop();
            Ok(())
        })
    });
    tokio::task::spawn_blocking(|| ran.join().unwrap()).await.unwrap().unwrap();
    assert_eq!(counted(&counts), once_each(&[10]));
}

/// Rule 67.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_67_an_owner_that_was_replaced_commits_nothing() {
    let server = brokers().await;
    let queue = Queue::create(&server.address(), 1, options()).await;
    for n in 0..7 {
        queue.write(None, &n.to_string(), "x").await;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("s.db")).unwrap();
    let counts = store.table::<u64>("counts").unwrap();
    let source = store.source(&format!("kafka/{}/{}", queue.group, queue.topic)).unwrap();
    let (tell, told) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel::<()>();
    let mut count = count_places(counts.clone());
    let mut is_first = true;
    let running =
        Running::start(open(&queue, &store, pipeline_options()), move |batch, transaction| {
            count(batch, transaction)?;
            if std::mem::take(&mut is_first) {
                tell.send(()).unwrap();
                goes_on.recv_timeout(LATE).unwrap();
            }
            Ok(())
        });
    told.recv_timeout(LATE).unwrap();
    // Another owner takes the partition over while the first is in the middle of its work, and commits.
    let owner = source.own(0).unwrap();
    let mut transaction = store.transaction();
    transaction.put(&counts, "0/0", &1).unwrap();
    transaction.advance_as(&owner, 1);
    assert!(transaction.commit().unwrap().is_committed());
    go_on.send(()).unwrap();
    running
        .until("it was fenced, and took over again", |now| now.fenced == 1 && now.records == 6)
        .await;
    running.stop().unwrap();
    assert_eq!(counted(&counts), once_each(&[7]));
}

/// Members of one store come and go; the places are counted without claims.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_record_is_counted_once_while_partitions_move_between_pipelines() {
    let server = brokers().await;
    let queue = Queue::create(&server.address(), 4, options()).await;
    let count = 600;
    for n in 0..count {
        let partition = i32::try_from(n % 4).unwrap();
        queue.write(Some(partition), &n.to_string(), "x").await;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("s.db")).unwrap();
    let counts = store.table::<u64>("counts").unwrap();
    let (mut dice, mut members) = (Dice::new(5), Vec::new());
    while counted(&counts).len() < count {
        let (mut count_them, wait) = (count_places(counts.clone()), dice.below(60));
        let pipeline = open(&queue, &store, pipeline_options());
        members.push(Running::start(pipeline, move |batch, transaction| {
            count_them(batch, transaction)?;
            std::thread::park_timeout(Duration::from_millis(wait));
            Ok(())
        }));
        sleep(Duration::from_millis(500 + dice.below(2_000))).await;
        if members.len() > 2 || dice.percent(30) {
            members.remove(dice.below(members.len() as u64) as usize).stop().unwrap();
        }
        // On a busy machine members that come faster than the group can agree would keep all of them from working.
        if !members.is_empty() {
            let goal = count.min(counted(&counts).len() + 10);
            let end = Instant::now() + LATE;
            while counted(&counts).len() < goal {
                assert!(Instant::now() < end, "{} of {count} are counted", counted(&counts).len());
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
    for member in members {
        member.stop().unwrap();
    }
    assert_eq!(counted(&counts), once_each(&[150; 4]));
}
