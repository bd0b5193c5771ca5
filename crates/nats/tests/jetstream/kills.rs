//! Both ends killed at random, by SIGKILL: a process with the loop and its store, and the server with its files. Effects are
//! lines of a file that the test owns; neither store nor server knows it.

use crate::server::{LATE, Server, create_streams, payloads, publish};
use async_nats::jetstream::consumer::PullConsumer;
use firstseen::Store;
use firstseen::ledger::{Backoff, DeadFilter, Failure, Ledger, LedgerOptions, OnLeaseEnd};
use firstseen_consumer::testkit::{Dice, Faults, Faulty};
use firstseen_consumer::{Consumer, ConsumerOptions, Job};
use firstseen_nats::{NatsOptions, NatsSource};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What the child is told: the policy, the url, the folder and a seed.
const JOB: &str = "FIRSTSEEN_NATS_CHILD";
const STREAM: &str = "orders";
const ACK_WAIT: Duration = Duration::from_secs(1);

/// Each id has one effect, whatever is killed: what a kill has left in doubt is looked up outside, as an operator does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effects_are_made_once_and_none_is_lost_though_consumers_and_servers_are_killed() {
    kill(OnLeaseEnd::Hold).await;
}

/// Without looking anything up: an effect is made again only if a kill came between it and the record of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_effect_is_made_again_only_around_a_kill() {
    kill(OnLeaseEnd::Retry).await;
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

/// The consumer process, and what has become of those before it.
struct Consumers {
    job: String,
    running: Option<Child>,
    killed: BTreeSet<u32>,
}

impl Consumers {
    fn start(&mut self, seed: u64) {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kills::the_process_that_is_killed", "--nocapture"])
            .env(JOB, format!("{} {seed}", self.job))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn();
        self.running = Some(child.unwrap());
    }

    fn kill(&mut self) {
        let mut child = self.running.take().unwrap();
        assert!(child.try_wait().unwrap().is_none(), "a consumer has ended by itself");
        self.killed.insert(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Closes its input, by which it stops in good order.
    async fn stop(&mut self) {
        let mut child = self.running.take().unwrap();
        drop(child.stdin.take());
        let end = Instant::now() + LATE;
        while child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < end, "the consumer does not stop");
            sleep(Duration::from_millis(20)).await;
        }
        assert!(child.wait().unwrap().success(), "the consumer has failed");
    }
}

impl Drop for Consumers {
    fn drop(&mut self) {
        if let Some(child) = &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

async fn kill(policy: OnLeaseEnd) {
    let rounds = number("FIRSTSEEN_NATS_KILLS", 6);
    let mut dice = Dice::new(number("FIRSTSEEN_NATS_SEED", 1));
    let mut server = Server::start().await;
    let dir = tempfile::tempdir().unwrap();
    create_streams(&server.connect().await, STREAM, Duration::from_secs(120)).await;
    let policy_name = if policy == OnLeaseEnd::Hold { "hold" } else { "retry" };
    let job = format!("{policy_name} {} {}", server.url(), dir.path().display());
    let mut consumers = Consumers { job, running: None, killed: BTreeSet::new() };
    consumers.start(dice.any());

    let published = Arc::new(Mutex::new(0_u64));
    let publisher = tokio::spawn(publish_on(server.connect().await, Arc::clone(&published)));
    let (mut server_kills, began) = (0, Instant::now());
    for round in 0..rounds {
        sleep(Duration::from_millis(dice.below(900))).await;
        let victim = dice.below(3);
        if victim != 0 {
            server.kill();
            server_kills += 1;
        }
        if victim != 1 {
            consumers.kill();
            consumers.start(dice.any());
        }
        if victim != 0 {
            sleep(Duration::from_millis(dice.below(300))).await;
            server.restart().await;
        }
        assert!(!publisher.is_finished(), "the publisher has ended in round {round}");
    }
    let count = *published.lock().unwrap();
    publisher.abort();
    let _ = publisher.await;
    // Whether the last one has reached the server is not known: once more, as a producer does.
    publish(&server.connect().await, "orders.x", &count.to_string(), &payload(count)).await;
    until_empty(&server).await;
    consumers.stop().await;

    let wanted: BTreeSet<u64> = (1..=count).filter(|n| !is_poison(*n)).collect();
    let effects = effects_of(dir.path());
    let made: BTreeSet<u64> = effects.keys().copied().collect();
    let lost: Vec<&u64> = wanted.difference(&made).collect();
    let from_nowhere: Vec<&u64> = made.difference(&wanted).collect();
    assert!(
        lost.is_empty() && from_nowhere.is_empty(),
        "lost {lost:?}, from nowhere {from_nowhere:?} of {count}"
    );
    let mut again = 0;
    for (n, pids) in &effects {
        again += pids.len() - 1;
        if policy == OnLeaseEnd::Hold {
            assert_eq!(pids.len(), 1, "the effect of {n} was made more than once: {pids:?}");
        }
        // Only a process that was killed can have left an effect without its record, and it made it once.
        for pid in &pids[..pids.len() - 1] {
            assert!(consumers.killed.contains(pid), "the effect of {n} was made again: {pids:?}");
        }
        let distinct: BTreeSet<&u32> = pids.iter().collect();
        assert_eq!(
            distinct.len(),
            pids.len(),
            "one process made the effect of {n} twice: {pids:?}"
        );
    }
    let poison: BTreeSet<String> = (1..=count).filter(|n| is_poison(*n)).map(payload).collect();
    let dead = payloads(&server.connect().await, &format!("{STREAM}-dead")).await;
    assert_eq!(dead.iter().cloned().collect::<BTreeSet<_>>(), poison, "dead letters");
    assert_eq!(dead.len(), poison.len(), "each dead letter is kept once");
    println!(
        "proof | JetStream, both ends killed ({policy_name}) | {} | kills | {count} messages, {server_kills} kills of the server, {} of the consumer, {again} effects again, {} dead letters, {:?}",
        server_kills + consumers.killed.len(),
        consumers.killed.len(),
        dead.len(),
        began.elapsed()
    );
}

fn payload(n: u64) -> String {
    let kind = if is_poison(n) { "poison" } else { "order" };
    format!("{kind} {n}")
}

fn is_poison(n: u64) -> bool {
    n % 50 == 7
}

/// Publishes one after the other, each until the server has it, and some twice.
async fn publish_on(context: async_nats::jetstream::Context, published: Arc<Mutex<u64>>) {
    for n in 1.. {
        *published.lock().unwrap() = n;
        let subject = format!("orders.{}", n % 7);
        publish(&context, &subject, &n.to_string(), &payload(n)).await;
        sleep(Duration::from_millis(3)).await;
    }
}

/// Waits until the server has nothing to deliver and waits for no acknowledgement: rule 92.
async fn until_empty(server: &Server) {
    let end = Instant::now() + LATE * 2;
    let context = server.connect().await;
    loop {
        let consumer = context.get_consumer_from_stream("worker", STREAM).await;
        let left = consumer.map(|consumer: PullConsumer| {
            let info = consumer.cached_info();
            (info.num_pending, info.num_ack_pending)
        });
        if matches!(left, Ok((0, 0))) {
            return;
        }
        assert!(Instant::now() < end, "something is left in the queue: {left:?}");
        sleep(Duration::from_millis(100)).await;
    }
}

fn effects_of(dir: &Path) -> BTreeMap<u64, Vec<u32>> {
    let mut effects: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    for line in fs::read_to_string(dir.join("effects")).unwrap_or_default().lines() {
        let (n, pid) = line.split_once(' ').expect("a whole line");
        effects.entry(n.parse().unwrap()).or_default().push(pid.parse().unwrap());
    }
    effects
}

/// Not a test: the process that the tests above start and kill.
#[test]
fn the_process_that_is_killed() {
    let Ok(job) = std::env::var(JOB) else { return };
    let words: Vec<&str> = job.split(' ').collect();
    let [policy, url, dir, seed] = words[..] else { panic!("{job}") };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build().unwrap().block_on(consume(
        policy == "hold",
        url,
        dir.into(),
        seed.parse().unwrap(),
    ));
}

async fn consume(holds: bool, url: &str, dir: PathBuf, seed: u64) {
    let store = Store::open(dir.join("seen.db")).unwrap();
    let on_lease_end = if holds { OnLeaseEnd::Hold } else { OnLeaseEnd::Retry };
    let policies = LedgerOptions::new()
        .on_lease_end(on_lease_end)
        .attempts_max(8)
        .backoff(Backoff::constant(Duration::from_millis(30)));
    let ledger = store.ledger_with("orders", policies).unwrap();
    drop(store);
    look_up_what_is_in_doubt(&ledger, &dir);

    let options = NatsOptions::new()
        .ack_wait(ACK_WAIT)
        .heartbeat(Duration::from_millis(500))
        .dead_letters(format!("dead-{STREAM}"));
    let source = loop {
        // The server may be away.
        match NatsSource::connect(url, STREAM, "worker", options.clone()).await {
            Ok(source) => break source,
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    };
    let source = Faulty::new(source, Faults { lost: 10, unheard: 5, ..Faults::default() }, seed);
    let effects = OpenOptions::new().create(true).append(true).open(dir.join("effects")).unwrap();
    let shared = Arc::new((effects, Mutex::new(Dice::new(seed))));
    let options = ConsumerOptions::new()
        .workers(16)
        .in_flight_max(64)
        .busy_delay(Duration::from_millis(50))
        .held_delay(Duration::from_millis(50))
        .answer_max(Duration::from_secs(1))
        .poll(Duration::from_millis(100));
    let consumer = Consumer::with_ledger(source, ledger, move |job| work(Arc::clone(&shared), job))
        .options(options);
    let handle = consumer.handle();
    std::thread::spawn(move || {
        let mut end = Vec::new();
        let _ = std::io::stdin().read_to_end(&mut end);
        handle.stop();
    });
    consumer.run().await.unwrap();
}

async fn work(shared: Arc<(File, Mutex<Dice>)>, job: Job) -> Result<(), Failure> {
    let (before, after, fails) = {
        let mut dice = shared.1.lock().unwrap();
        (dice.below(15), dice.below(5), dice.percent(5))
    };
    sleep(Duration::from_millis(before)).await;
    if job.payload().starts_with(b"poison") {
        return Err(Failure::retry("poison"));
    }
    if fails {
        return Err(Failure::retry("not yet"));
    }
    // One write, so that a kill leaves only whole lines.
    let line = format!("{} {}\n", String::from_utf8_lossy(job.id()), std::process::id());
    (&shared.0).write_all(line.as_bytes()).unwrap();
    sleep(Duration::from_millis(after)).await;
    Ok(())
}

/// What an operator does after a crash, where effects must not be made twice: looks whether they were made.
fn look_up_what_is_in_doubt(ledger: &Ledger, dir: &Path) {
    let swept = ledger.sweep_ended().unwrap();
    assert!(swept.failed.is_empty(), "{swept:?}");
    let made = effects_of(dir);
    for letter in ledger.dead_letters().list(&DeadFilter::new().held()).unwrap().letters {
        let id = letter.record.id;
        let n: u64 = std::str::from_utf8(&id).unwrap().parse().unwrap();
        if made.contains_key(&n) {
            ledger.settle(&id, b"", "its effect was found").unwrap();
        } else {
            ledger.redrive(&id).unwrap();
        }
    }
}
