//! Outputs, offsets and the store's state in one transaction over both.

use crate::pipelines::pipeline_options;
use crate::queue::{LATE, Queue, brokers, config, create_topic, payloads, read_all, read_all_as};
use crate::rules::options;
use firstseen::Store;
use firstseen::table::Table;
use firstseen::transaction::Transaction;
use firstseen_kafka::{
    Batch, KafkaTransform, Output, Outputs, PipelineCounters, PipelineError, PipelineHandle,
    TransformStep, WorkError,
};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rustix::process::{Signal, getpid, kill_process};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What the process that dies is told: brokers, topic, group, folder, the step to die after and its number.
const JOB: &str = "FIRSTSEEN_KAFKA_TRANSFORM";

type Ran = Result<PipelineCounters, PipelineError>;

/// An output for each id that is new, and a total of all.
fn invoice(
    total: Table<u64>,
    topic: String,
) -> impl FnMut(&Batch, &mut Transaction, &mut Outputs) -> Result<(), WorkError> {
    move |batch, transaction, outputs| {
        for record in batch {
            let id = record.header("id").ok_or("no id")?;
            if transaction.claim_if_new(id)? {
                let before = transaction.get(&total, "all")?.unwrap_or(0);
                transaction.put(&total, "all", &(before + 1))?;
                outputs.push(Output::new(&topic, &id[..]).key(&id[..]).header("id", &id[..]));
            }
        }
        Ok(())
    }
}

struct Running {
    handle: PipelineHandle,
    thread: JoinHandle<Ran>,
}

impl Running {
    fn start(mut transform: KafkaTransform, store: &Store, queue: &Queue) -> Self {
        let (handle, total) = (transform.handle(), store.table::<u64>("total").unwrap());
        let work = invoice(total, output_topic(&queue.topic));
        Self { handle, thread: std::thread::spawn(move || transform.run(work)) }
    }

    async fn until(&self, what: &str, is_so: impl Fn(PipelineCounters) -> bool) {
        let end = Instant::now() + LATE;
        while !is_so(self.handle.counters()) {
            assert!(Instant::now() < end, "{what}: {:?}", self.handle.counters());
            assert!(!self.thread.is_finished(), "{what}: it has ended by itself");
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn stop(self) -> Ran {
        self.handle.stop();
        self.thread.join().unwrap()
    }

    async fn ends(self) -> Ran {
        let end = Instant::now() + LATE;
        while !self.thread.is_finished() {
            assert!(Instant::now() < end, "it does not end: {:?}", self.handle.counters());
            sleep(Duration::from_millis(5)).await;
        }
        self.thread.join().unwrap()
    }
}

fn output_topic(topic: &str) -> String {
    format!("{topic}-out")
}

fn open(queue: &Queue, store: &Store) -> KafkaTransform {
    // The process after a crash takes the place of the one before it, which could not leave the group.
    let options = pipeline_options().set("group.instance.id", "worker");
    KafkaTransform::open(store, &queue.brokers, &queue.group, [&queue.topic], options).unwrap()
}

async fn create(brokers: &str) -> Queue {
    let queue = Queue::create(brokers, 1, options()).await;
    create_topic(brokers, &output_topic(&queue.topic), 1).await;
    queue
}

/// Writes ids from..to, and some twice.
async fn write(queue: &Queue, from: u64, to: u64) {
    for n in from..to {
        queue.write(None, &n.to_string(), "x").await;
        if n % 5 == 0 {
            queue.write(None, &n.to_string(), "x").await;
        }
    }
}

/// All ids are in the output once, the total is their number, and nothing is in doubt.
async fn assert_once(queue: &Queue, store: &Store, count: u64, case: &str) {
    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    let outputs = read_all(&queue.brokers, &output_topic(&queue.topic)).await;
    for id in payloads(&outputs) {
        *times.entry(id).or_default() += 1;
    }
    let expected: BTreeMap<String, u32> = (0..count).map(|n| (n.to_string(), 1)).collect();
    assert_eq!(times, expected, "{case}");
    let total = store.table::<u64>("total").unwrap().get("all").unwrap();
    assert_eq!(total.map(|entry| entry.value), Some(count), "{case}");
    assert_eq!(store.prepared().unwrap(), [], "{case}");
}

/// Commits an offset in the place of the member that has died.
async fn commit_as_member(queue: &Queue, offset: i64) {
    let (brokers, topic, group) = (queue.brokers.clone(), queue.topic.clone(), queue.group.clone());
    let commit = move || {
        let mut config = config(&brokers);
        config.set("group.id", &group).set("group.instance.id", "worker");
        config.set("session.timeout.ms", "10000").set("heartbeat.interval.ms", "200");
        let client: BaseConsumer = config.create().unwrap();
        client.subscribe(&[&topic]).unwrap();
        let end = Instant::now() + LATE;
        while client.assignment().unwrap().count() == 0 {
            assert!(Instant::now() < end, "nothing is assigned");
            let _ = client.poll(Duration::from_millis(100));
        }
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&topic, 0, Offset::Offset(offset)).unwrap();
        while let Err(error) = client.commit(&list, CommitMode::Sync) {
            assert!(Instant::now() < end, "{error}");
            let _ = client.poll(Duration::from_millis(100));
        }
    };
    tokio::task::spawn_blocking(commit).await.unwrap();
}

/// Waits until the group has committed all of the topic.
async fn until_read(queue: &Queue) {
    let end = Instant::now() + LATE;
    loop {
        let (committed, high) = (queue.committed(0), queue.end(0));
        if let (Ok(Some(committed)), Ok(high)) = (&committed, &high)
            && committed == high
        {
            return;
        }
        assert!(Instant::now() < end, "it was read up to {committed:?} of {high:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outputs_offsets_and_state_are_committed_as_one() {
    let server = brokers().await;
    let queue = create(&server.address()).await;
    write(&queue, 0, 50).await;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("s.db")).unwrap();
    let running = Running::start(open(&queue, &store), &store, &queue);
    running.until("all are read", |now| now.records == 60).await;
    running.stop().unwrap();
    assert_once(&queue, &store, 50, "").await;
    assert_eq!(queue.committed(0).unwrap(), Some(60));
    let source = store.source(&format!("kafka/{}/{}", queue.group, queue.topic)).unwrap();
    assert_eq!(source.position(0).unwrap().map(|position| position.next), Some(60));
    // Another run finds nothing to do.
    write(&queue, 45, 50).await;
    let running = Running::start(open(&queue, &store), &store, &queue);
    running.until("they are read", |now| now.records == 6).await;
    running.stop().unwrap();
    assert_once(&queue, &store, 50, "").await;
}

/// A process that transforms, and is to die.
struct Process(Child);

impl Process {
    fn start(queue: &Queue, dir: &Path, step: &str, number: u32) -> Self {
        let Queue { brokers, topic, group, .. } = queue;
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "transforms::the_process_that_dies", "--nocapture"])
            .env(JOB, format!("{brokers} {topic} {group} {step} {number} {}", dir.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }

    async fn dies(mut self, case: &str) {
        let end = Instant::now() + LATE;
        while self.0.try_wait().unwrap().is_none() {
            assert!(Instant::now() < end, "{case}: it does not die");
            sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Not a test: the process that the tests start. It dies without a word, as by `SIGKILL`.
#[test]
fn the_process_that_dies() {
    let Ok(job) = std::env::var(JOB) else { return };
    let words: Vec<&str> = job.splitn(6, ' ').collect();
    let [brokers, topic, group, step, number, dir] = words[..] else { panic!("{job}") };
    let store = Store::open(Path::new(dir).join("s.db")).unwrap();
    let (left, step) = (AtomicU32::new(number.parse().unwrap()), step.to_owned());
    let after = Arc::new(move |name: &str| {
        if name == step && left.fetch_sub(1, Ordering::Relaxed) == 1 {
            let _ = kill_process(getpid(), Signal::KILL);
        }
    });
    let mut work = invoice(store.table("total").unwrap(), output_topic(topic));
    let opened = loop {
        let options = pipeline_options().set("group.instance.id", "worker");
        match KafkaTransform::open(&store, brokers, group, [topic], options) {
            Ok(opened) => break opened,
            // The server may be away.
            Err(_) => std::thread::park_timeout(Duration::from_millis(50)),
        }
    };
    let in_work = Arc::clone(&after);
    let mut transform = opened.after_step(move |step| {
        after(match step {
            TransformStep::Prepared => "prepared",
            TransformStep::Written => "written",
            TransformStep::OffsetAdded => "offset-added",
            TransformStep::CommittedInKafka => "committed-in-kafka",
            TransformStep::CommittedInStore => "committed-in-store",
            _ => "other",
        });
    });
    transform
        .run(move |batch, transaction, outputs| {
            work(batch, transaction, outputs)?;
            in_work("work");
            Ok(())
        })
        .unwrap();
}

/// Dies after each step of the table, at its first time and at a later one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_after_any_step_neither_loses_nor_doubles_an_output() {
    let server = brokers().await;
    for step in
        ["work", "prepared", "written", "offset-added", "committed-in-kafka", "committed-in-store"]
    {
        let queue = create(&server.address()).await;
        let dir = tempfile::tempdir().unwrap();
        write(&queue, 0, 20).await;
        for number in [1, 2, 3] {
            Process::start(&queue, dir.path(), step, number).dies(step).await;
            let in_doubt = {
                let store = Store::open(dir.path().join("s.db")).unwrap();
                store.prepared().unwrap().len()
            };
            let is_between = ["prepared", "written", "offset-added", "committed-in-kafka"];
            assert_eq!(in_doubt, usize::from(is_between.contains(&step)), "{step} {number}");
            write(&queue, 20 * u64::from(number), 20 * u64::from(number + 1)).await;
        }
        let store = Store::open(dir.path().join("s.db")).unwrap();
        let running = Running::start(open(&queue, &store), &store, &queue);
        until_read(&queue).await;
        running.stop().unwrap();
        assert_once(&queue, &store, 80, step).await;
        let seen =
            read_all_as(&queue.brokers, &output_topic(&queue.topic), "read_uncommitted").await;
        let has_aborted = ["written", "offset-added"].contains(&step);
        assert_eq!(seen.len() > 80, has_aborted, "{step}: {} were written at all", seen.len());
    }
}

/// Rule 67. In the middle of its transaction another writer of the partition appears.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_67_a_zombie_writer_is_fenced_and_its_outputs_are_never_seen() {
    let server = brokers().await;
    for step in [TransformStep::Prepared, TransformStep::Written, TransformStep::OffsetAdded] {
        let queue = create(&server.address()).await;
        write(&queue, 0, 20).await;
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("s.db")).unwrap();
        let name = format!("firstseen/{}/{}/0", queue.group, queue.topic);
        let (brokers, is_first) = (queue.brokers.clone(), AtomicBool::new(true));
        let transform = open(&queue, &store).after_step(move |at| {
            if at == step && is_first.swap(false, Ordering::Relaxed) {
                let mut config = config(&brokers);
                let other: BaseProducer = config.set("transactional.id", &name).create().unwrap();
                other.init_transactions(LATE).unwrap();
            }
        });
        let running = Running::start(transform, &store, &queue);
        running.until("it goes on", |now| now.records == 24 && now.errors > 0).await;
        running.stop().unwrap();
        assert_once(&queue, &store, 20, &format!("{step:?}")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_can_decide_is_left_to_an_operator() {
    let server = brokers().await;
    let queue = create(&server.address()).await;
    write(&queue, 0, 20).await;
    let dir = tempfile::tempdir().unwrap();
    Process::start(&queue, dir.path(), "prepared", 2).dies("prepared").await;
    // Somebody moves the group's offset by hand.
    commit_as_member(&queue, 20).await;
    let store = Store::open(dir.path().join("s.db")).unwrap();
    let error = Running::start(open(&queue, &store), &store, &queue).ends().await.unwrap_err();
    let PipelineError::InDoubt { gid } = error else { panic!("{error}") };
    assert_eq!(store.prepared().unwrap()[0].gid, gid.as_bytes());
    // Nothing of that batch was written: the operator says so, and moves the offset back.
    store.rollback_prepared(&gid).unwrap();
    commit_as_member(&queue, 7).await;
    let running = Running::start(open(&queue, &store), &store, &queue);
    until_read(&queue).await;
    running.stop().unwrap();
    assert_once(&queue, &store, 20, "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_output_that_cannot_be_written_ends_the_run_and_nothing_of_the_batch_is_seen() {
    let server = brokers().await;
    let queue = create(&server.address()).await;
    write(&queue, 0, 3).await;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("s.db")).unwrap();
    let (mut transform, output) = (open(&queue, &store), output_topic(&queue.topic));
    let mut work = invoice(store.table("total").unwrap(), output.clone());
    let ran = tokio::task::spawn_blocking(move || {
        transform.run(|batch, transaction, outputs| {
            work(batch, transaction, outputs)?;
            outputs.push(Output::new(&output, vec![0; 3_000_000]));
            Ok(())
        })
    });
    let error = ran.await.unwrap().unwrap_err();
    assert!(matches!(error, PipelineError::Kafka(_)), "{error}");
    assert_eq!(store.prepared().unwrap(), []);
    assert_eq!(queue.committed(0).unwrap(), None);
    // With outputs that can be written, it goes on.
    let running = Running::start(open(&queue, &store), &store, &queue);
    until_read(&queue).await;
    running.stop().unwrap();
    assert_once(&queue, &store, 3, "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skipping_duplicates_is_refused_since_their_outputs_would_be_written() {
    let server = brokers().await;
    let queue = create(&server.address()).await;
    write(&queue, 0, 1).await;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("s.db")).unwrap();
    let mut transform = open(&queue, &store);
    let ran = tokio::task::spawn_blocking(move || {
        transform.run(|batch, transaction, _| {
            transaction.skip_duplicates();
            for record in batch {
                transaction.claim(record.header("id").ok_or("no id")?);
            }
            Ok(())
        })
    });
    let error = ran.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("claim_if_new"), "{error}");
    assert_eq!(store.prepared().unwrap(), []);
    assert!(store.claim("0").unwrap().is_first_seen(), "nothing was claimed");
}
