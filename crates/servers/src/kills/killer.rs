//! The test itself: publishes, kills, and compares what was published with the record of effects.

use super::consumer::{Task, name_of};
use super::record::{effects_of, is_poison, payload};
use super::{Broker, OnLeaseEnd};
use crate::Server;
use firstseen_consumer::testkit::Dice;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long anything may take on a machine with other work.
const LATE: Duration = Duration::from_secs(180);

/// Kills the server of a broker and the processes that consume from it, at random, while messages are published; waits until
/// the queue is empty and checks the effects.
///
/// With [`OnLeaseEnd::Hold`], what a kill has left in doubt is looked up outside, as an operator does, and each effect must have
/// been made once. With [`OnLeaseEnd::Retry`] nothing is looked up, and an effect may have been made again only by a process after
/// one that was killed. `child` is the name of the test that calls
/// [`consume_until_killed`](super::consume_until_killed).
///
/// # Panics
///
/// An effect is missing or was made too often, dead letters are not those of the poisoned messages, or the queue is never
/// empty.
pub async fn kill_both_ends<B: Broker>(policy: OnLeaseEnd, child: &'static str) {
    let kills = number("FIRSTSEEN_KILLS", 6);
    let mut dice = Dice::new(number("FIRSTSEEN_KILLS_SEED", 1));
    let mut server = B::start().await;
    let dir = tempfile::tempdir().expect("a folder");
    let address = server.address();
    let queue = Arc::new(B::open(&address).await);
    let mut consumers = Consumers {
        child,
        policy,
        address,
        dir: dir.path(),
        running: None,
        killed: BTreeSet::new(),
    };
    consumers.start(dice.any());

    let began = Instant::now();
    let published = Arc::new(AtomicU64::new(0));
    let publisher = tokio::spawn(publish_on(Arc::clone(&queue), Arc::clone(&published)));
    let mut server_kills = 0;
    while server_kills + (consumers.killed.len() as u64) < kills {
        server_kills += u64::from(kill_one(&mut server, &mut consumers, &mut dice).await);
        assert!(!publisher.is_finished(), "the publisher has ended by itself");
    }
    publisher.abort();
    let _ = publisher.await;
    // Whether the last one has reached the server is not known: once more, as a producer does.
    let count = published.load(Ordering::Relaxed);
    publish(&*queue, count).await;
    until_empty(&*queue).await;
    consumers.stop().await;

    let again = check_effects(&effects_of(dir.path()), count, policy, &consumers.killed);
    let dead = check_dead_letters(&*queue, count).await;
    let consumer_kills = consumers.killed.len() as u64;
    print(format!(
        "proof | {}, both ends killed ({}) | {} | kills | {count} messages, {server_kills} kills of the server, \
         {consumer_kills} of the consumer, {again} effects again, {dead} dead letters, {:.1} s",
        B::NAME,
        name_of(policy),
        server_kills + consumer_kills,
        began.elapsed().as_secs_f64()
    ));
}

#[allow(clippy::disallowed_macros, reason = "a line of what was tried is printed")]
fn print(line: String) {
    println!("{line}");
}

fn number(variable: &str, otherwise: u64) -> u64 {
    let text = std::env::var(variable);
    text.map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}")))
}

/// Kills the server, the consumer or both, and starts them again. Returns whether the server was killed.
async fn kill_one(server: &mut Server, consumers: &mut Consumers<'_>, dice: &mut Dice) -> bool {
    sleep(Duration::from_millis(dice.below(900))).await;
    let victim = dice.below(3);
    let (kills_server, kills_consumer) = (victim != 0, victim != 1);
    if kills_server {
        server.kill();
    }
    if kills_consumer {
        consumers.kill();
        consumers.start(dice.any());
    }
    if kills_server {
        sleep(Duration::from_millis(dice.below(300))).await;
        server.restart().await;
    }
    kills_server
}

/// The consumer process, and what has become of those before it.
#[derive(Debug)]
struct Consumers<'a> {
    child: &'static str,
    policy: OnLeaseEnd,
    address: String,
    dir: &'a Path,
    running: Option<Child>,
    killed: BTreeSet<u32>,
}

impl Consumers<'_> {
    fn start(&mut self, seed: u64) {
        let task = Task { policy: self.policy, address: &self.address, seed, dir: self.dir };
        let (name, text) = task.variable();
        let child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", self.child, "--nocapture"])
            .env(name, text)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn();
        self.running = Some(child.expect("this program starts"));
    }

    fn kill(&mut self) {
        let mut child = self.running.take().expect("one runs");
        let ended = child.try_wait().expect("a child can be waited for");
        assert!(ended.is_none(), "a consumer has ended by itself: is there a test {}?", self.child);
        self.killed.insert(child.id());
        child.kill().expect("a child can be killed");
        child.wait().expect("a child can be waited for");
    }

    /// Closes its input, by which it stops in good order.
    async fn stop(&mut self) {
        let mut child = self.running.take().expect("one runs");
        drop(child.stdin.take());
        let end = Instant::now() + LATE;
        let ended = loop {
            if let Some(ended) = child.try_wait().expect("a child can be waited for") {
                break ended;
            }
            if Instant::now() > end {
                self.running = Some(child);
                panic!("the consumer does not stop");
            }
            sleep(Duration::from_millis(20)).await;
        };
        assert!(ended.success(), "the consumer has failed");
    }
}

impl Drop for Consumers<'_> {
    fn drop(&mut self) {
        if let Some(child) = &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Publishes one after the other.
async fn publish_on<B: Broker>(queue: Arc<B>, published: Arc<AtomicU64>) {
    for n in 1.. {
        published.store(n, Ordering::Relaxed);
        publish(&*queue, n).await;
        sleep(Duration::from_millis(3)).await;
    }
}

async fn publish<B: Broker>(queue: &B, n: u64) {
    queue.publish(&n.to_string(), &(n % 7).to_string(), &payload(n)).await;
}

/// Waits until the server has nothing to deliver and waits for no acknowledgement: rule 92.
async fn until_empty<B: Broker>(queue: &B) {
    let end = Instant::now() + LATE * 2;
    loop {
        let left = queue.left().await;
        if left == Some(0) {
            return;
        }
        assert!(Instant::now() < end, "messages are left in the queue: {left:?}");
        sleep(Duration::from_millis(100)).await;
    }
}

/// Returns how many effects were made again.
fn check_effects(
    effects: &BTreeMap<u64, Vec<u32>>,
    count: u64,
    policy: OnLeaseEnd,
    killed: &BTreeSet<u32>,
) -> usize {
    let wanted: BTreeSet<u64> = (1..=count).filter(|n| !is_poison(*n)).collect();
    let made: BTreeSet<u64> = effects.keys().copied().collect();
    let lost: Vec<&u64> = wanted.difference(&made).collect();
    assert!(lost.is_empty(), "lost {lost:?} of {count}");
    let from_nowhere: Vec<&u64> = made.difference(&wanted).collect();
    assert!(from_nowhere.is_empty(), "effects of what was not published: {from_nowhere:?}");
    let mut again = 0;
    for (n, pids) in effects {
        again += pids.len() - 1;
        if policy == OnLeaseEnd::Hold {
            assert_eq!(pids.len(), 1, "the effect of {n} was made more than once: {pids:?}");
        }
        // Only a process that was killed can have left an effect without its record, and it made it once.
        for pid in &pids[..pids.len() - 1] {
            assert!(killed.contains(pid), "the effect of {n} was made again: {pids:?}");
        }
        let distinct: BTreeSet<&u32> = pids.iter().collect();
        assert_eq!(distinct.len(), pids.len(), "a process made the effect of {n} twice: {pids:?}");
    }
    again
}

/// Returns how many there are.
async fn check_dead_letters<B: Broker>(queue: &B, count: u64) -> usize {
    let poison: BTreeSet<String> = (1..=count).filter(|n| is_poison(*n)).map(payload).collect();
    let dead = queue.dead().await;
    assert_eq!(dead.iter().cloned().collect::<BTreeSet<_>>(), poison, "dead letters");
    if B::DEAD_ONCE {
        assert_eq!(dead.len(), poison.len(), "each dead letter is kept once");
    }
    dead.len()
}
