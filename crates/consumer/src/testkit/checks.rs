//! What every source has to do, tried against its real broker.

use crate::testkit::{Faults, Faulty};
use crate::{Consumer, ConsumerOptions, Counters, Delivery, Error, Failure, Handle, Job};
use crate::{Source, Want};
use firstseen::Store;
use firstseen::ledger::{Backoff, LedgerOptions};
use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// A queue at a real broker, empty at first. Dropped at the end of a check.
pub trait Fixture: Send + Sync + 'static {
    /// The source to be checked.
    type Source: Source;

    /// Connects another consumer to the queue, as a process that has just started does.
    fn source(&self) -> impl Future<Output = Self::Source> + Send;

    /// Publishes a message; returns once the broker has it.
    fn publish(&self, id: &str, key: &str, payload: &str) -> impl Future<Output = ()> + Send;

    /// Returns the payloads of the dead letters.
    fn dead(&self) -> impl Future<Output = Vec<String>> + Send;
}

/// Checks a source. `fixture` makes an empty queue whose broker waits for an answer for a short time: half a second
/// suits most. All of it takes about a minute, and longer on a machine with other work: a check that did not answer in
/// time is begun again.
///
/// # Panics
///
/// The source does not do what a [`Source`] has to; the message says what.
pub async fn check_source<F: Fixture, Fut: Future<Output = F>>(fixture: impl Fn() -> Fut) {
    in_time(&fixture, what_is_acknowledged_does_not_come_again).await;
    in_time(&fixture, what_is_put_off_comes_after_its_delay_and_is_counted).await;
    what_is_not_answered_comes_again_and_is_counted(&fixture().await).await;
    in_time(&fixture, what_is_worked_on_does_not_come_again).await;
    in_time(&fixture, a_dead_letter_is_kept_and_does_not_come_again).await;
    in_time(&fixture, no_more_comes_than_is_wanted).await;
    rule_91_a_poison_message_ends_among_the_dead_letters_and_the_queue_goes_on(&fixture().await)
        .await;
    rule_92_a_lost_acknowledgement_makes_a_duplicate_that_is_acknowledged(&fixture().await).await;
    a_stop_is_graceful_and_nothing_is_lost(&fixture().await).await;
    messages_of_a_key_are_handled_in_order(&fixture().await).await;
    each_effect_is_made_once_under_faults(&fixture().await).await;
}

/// How much longer than it should take anything may take here, on a machine with other work.
const LATE: Duration = Duration::from_secs(60);

/// How often a check is begun that is not in time.
const TRIES: usize = 20;

/// This process, or the broker, did not run for so long that what is checked may come again, though nothing is wrong.
#[derive(Debug)]
struct Late(String);

/// Does a check at a new queue, until it is in time.
async fn in_time<F: Fixture, Fut: Future<Output = F>>(
    fixture: &impl Fn() -> Fut,
    check: impl AsyncFn(&F) -> Result<(), Late>,
) {
    let mut all = Vec::new();
    while all.len() < TRIES {
        match check(&fixture().await).await {
            Ok(()) => return,
            Err(Late(what)) => all.push(what),
        }
    }
    panic!("not once in {TRIES} times, on a machine that may be too slow: {all:?}");
}

/// What is delivered after `began` does not come again before it is answered.
fn is_answered_in_time<S: Source>(source: &S, began: Instant) -> Result<(), Late> {
    let took = began.elapsed();
    if source.patience().is_some_and(|patience| took >= patience) {
        return Err(Late(format!("answered after {took:?}")));
    }
    Ok(())
}

/// Takes deliveries until there are as many, or the time is up. After an error it asks again, as the loop does.
async fn take<S: Source>(source: &S, count: usize, time: Duration) -> Vec<Delivery<S::Token>> {
    let end = Instant::now() + time;
    let (mut taken, mut errors) = (Vec::new(), 0);
    while taken.len() < count && Instant::now() < end {
        let wait = (end - Instant::now()).min(Duration::from_millis(200));
        let want = Want { count: count - taken.len(), bytes: 1 << 20, wait };
        match source.next(want).await {
            Ok(more) => taken.extend(more),
            Err(error) => {
                errors += 1;
                assert!(errors < TRIES, "no deliveries: {error}");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
    taken
}

fn texts<T>(deliveries: &[Delivery<T>]) -> Vec<String> {
    let text = |delivery: &Delivery<T>| String::from_utf8_lossy(&delivery.message.payload).into();
    deliveries.iter().map(text).collect()
}

/// How long until what is not answered must have come again.
fn patience<S: Source>(source: &S) -> Duration {
    source.patience().unwrap_or(Duration::from_secs(1))
}

async fn what_is_acknowledged_does_not_come_again<F: Fixture>(queue: &F) -> Result<(), Late> {
    let source = queue.source().await;
    let began = Instant::now();
    for name in ["a", "b", "c"] {
        queue.publish(name, "k", name).await;
    }
    let taken = take(&source, 3, LATE).await;
    for delivery in &taken {
        source.acknowledge(&delivery.token).await.expect("acknowledges");
    }
    is_answered_in_time(&source, began)?;
    assert_eq!(texts(&taken), ["a", "b", "c"], "deliveries come in the order of the queue");
    for delivery in &taken {
        let id = delivery.message.id.as_deref();
        assert_eq!(id, Some(&delivery.message.payload[..]), "the broker's id is what was given");
        assert!(delivery.message.deliveries.is_none_or(|n| n == 1), "counted as the first");
    }
    let again = take(&source, 1, patience(&source) * 3).await;
    assert_eq!(texts(&again), [""; 0], "what was acknowledged came again");
    source.stop().await.expect("stops");
    let other = queue.source().await;
    let again = take(&other, 1, patience(&other)).await;
    assert_eq!(texts(&again), [""; 0], "what was acknowledged came again to another consumer");
    Ok(())
}

async fn what_is_put_off_comes_after_its_delay_and_is_counted<F: Fixture>(
    queue: &F,
) -> Result<(), Late> {
    let source = queue.source().await;
    queue.publish("a", "k", "a").await;
    let taken = take(&source, 1, LATE).await;
    let delay = patience(&source) * 3;
    let began = Instant::now();
    source.retry_in(&taken[0].token, delay).await.expect("puts off");
    let again = take(&source, 1, delay + LATE).await;
    assert_eq!(texts(&again), ["a"], "it never came again");
    let after = began.elapsed();
    if after < delay * 3 / 4 {
        // A broker that is to be told again and again that it waits was not told in time, or there is no delay.
        return Err(Late(format!("it came after {after:?}, and its delay is {delay:?}")));
    }
    assert!(again[0].message.deliveries.is_none_or(|n| n >= 2), "a redelivery is not counted");
    source.retry_in(&again[0].token, Duration::ZERO).await.expect("gives back");
    let again = take(&source, 1, LATE).await;
    assert_eq!(texts(&again), ["a"], "what was given back without a delay never came again");
    source.acknowledge(&again[0].token).await.expect("acknowledges");
    Ok(())
}

async fn what_is_not_answered_comes_again_and_is_counted<F: Fixture>(queue: &F) {
    let source = queue.source().await;
    queue.publish("a", "k", "a").await;
    let taken = take(&source, 1, LATE).await;
    assert_eq!(texts(&taken), ["a"]);
    // As after a crash: the first is gone, without a word.
    drop((taken, source));
    let other = queue.source().await;
    let again = take(&other, 1, patience(&other) + LATE).await;
    assert_eq!(texts(&again), ["a"], "what was not answered never came again");
    assert!(again[0].message.deliveries.is_none_or(|n| n >= 2), "a redelivery is not counted");
    other.acknowledge(&again[0].token).await.expect("acknowledges");
}

async fn what_is_worked_on_does_not_come_again<F: Fixture>(queue: &F) -> Result<(), Late> {
    let source = queue.source().await;
    let Some(patience) = source.patience() else { return Ok(()) };
    queue.publish("a", "k", "a").await;
    let taken = take(&source, 1, LATE).await;
    for n in 0..9 {
        if !take(&source, 1, patience / 3).await.is_empty() {
            // The broker was not told in time, or telling it is of no use.
            return Err(Late(format!("it came again, although it was told {n} times")));
        }
        source.working(&taken[0].token).await.expect("tells");
    }
    source.acknowledge(&taken[0].token).await.expect("acknowledges");
    Ok(())
}

async fn a_dead_letter_is_kept_and_does_not_come_again<F: Fixture>(queue: &F) -> Result<(), Late> {
    let source = queue.source().await;
    let began = Instant::now();
    queue.publish("a", "k", "a").await;
    let taken = take(&source, 1, LATE).await;
    for _ in 0..2 {
        // The second time as if the answer to the first had been lost. That it fails is no harm.
        let _ = source.dead_letter(&taken[0].message, &taken[0].token, "poison").await;
    }
    is_answered_in_time(&source, began)?;
    assert_eq!(queue.dead().await, ["a"], "it is among the dead letters, once");
    let again = take(&source, 1, patience(&source) * 3).await;
    assert_eq!(texts(&again), [""; 0], "a dead letter came again");
    Ok(())
}

async fn no_more_comes_than_is_wanted<F: Fixture>(queue: &F) -> Result<(), Late> {
    let source = queue.source().await;
    let began = Instant::now();
    for n in 0..5 {
        queue.publish(&format!("{n}"), "k", "x").await;
    }
    let mut seen = 0;
    let end = Instant::now() + LATE;
    while seen < 5 && Instant::now() < end {
        let want = Want { count: 2, bytes: 1 << 20, wait: Duration::from_millis(200) };
        // After an error the loop asks again.
        let Ok(taken) = source.next(want).await else { continue };
        assert!(taken.len() <= 2, "{} deliveries came, and 2 were wanted", taken.len());
        seen += taken.len();
        for delivery in &taken {
            source.acknowledge(&delivery.token).await.expect("acknowledges");
        }
    }
    assert!(seen >= 5, "the rest comes with the next calls");
    is_answered_in_time(&source, began)?;
    assert_eq!(seen, 5, "none comes twice");
    Ok(())
}

/// Effects, outside of store and broker: payloads in the order in which they were handled.
#[derive(Debug, Clone, Default)]
struct Effects(Arc<Mutex<Vec<String>>>);

impl Effects {
    fn add(&self, job: &Job) {
        let text = String::from_utf8_lossy(job.payload()).into_owned();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for text in self.all() {
            *counts.entry(text).or_default() += 1;
        }
        counts
    }

    /// Each of these once, and no other.
    fn assert_once(&self, expected: impl Iterator<Item = String>) {
        assert_eq!(self.counts(), expected.map(|text| (text, 1)).collect());
    }
}

/// A loop that runs over a store of its own.
struct Running {
    task: JoinHandle<Result<Counters, Error>>,
    handle: Handle,
}

impl Running {
    fn start<S, F, Fut>(source: S, dir: &Path, options: ConsumerOptions, work: F) -> Self
    where
        S: Source,
        F: Fn(Job) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let policies = LedgerOptions::new()
            .attempts_max(3)
            .backoff(Backoff::constant(Duration::from_millis(50)));
        let store = Store::open(dir.join("seen.db")).expect("a store");
        let ledger = store.ledger_with("checks", policies).expect("a ledger");
        let options =
            options.busy_delay(Duration::from_millis(100)).poll(Duration::from_millis(100));
        let consumer = Consumer::with_ledger(source, ledger, work).options(options);
        let handle = consumer.handle();
        Self { task: tokio::spawn(consumer.run()), handle }
    }

    /// Waits until the counters say so.
    async fn until(&self, what: &str, is_so: impl Fn(&Counters) -> bool) {
        let end = Instant::now() + LATE;
        while !is_so(&self.handle.counters()) {
            assert!(Instant::now() < end, "{what}: {:?}", self.handle.counters());
            assert!(!self.task.is_finished(), "the loop has ended by itself");
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn stop(self) -> Counters {
        self.handle.stop();
        let counters = self.task.await.expect("no panic").expect("the store is well");
        assert_eq!((counters.in_flight, counters.working, counters.in_flight_bytes), (0, 0, 0));
        counters
    }
}

async fn rule_91_a_poison_message_ends_among_the_dead_letters_and_the_queue_goes_on<F: Fixture>(
    queue: &F,
) {
    let dir = tempfile::tempdir().expect("a folder");
    for n in 0..5 {
        queue.publish(&format!("{n}"), "k", &format!("{n}")).await;
    }
    queue.publish("poison", "k", "poison").await;
    queue.publish("panic", "k", "panic").await;
    for n in 5..10 {
        queue.publish(&format!("{n}"), "k", &format!("{n}")).await;
    }
    let (effects, tries) = (Effects::default(), Effects::default());
    let (made, tried) = (effects.clone(), tries.clone());
    let work = move |job: Job| {
        let (made, tried) = (made.clone(), tried.clone());
        async move {
            tried.add(&job);
            match job.payload() {
                b"poison" => return Err(Failure::retry("it is poison")),
                b"panic" => std::panic::resume_unwind(Box::new("it makes the handler panic")),
                _ => made.add(&job),
            }
            Ok(())
        }
    };
    let running = Running::start(queue.source().await, dir.path(), ConsumerOptions::new(), work);
    running.until("ten are done and two are dead", |now| now.first == 10 && now.dead >= 2).await;
    effects.assert_once((0..10).map(|n| n.to_string()));
    let end = Instant::now() + LATE;
    let is_there = |dead: &[String], text: &str| dead.iter().any(|letter| letter == text);
    // Asked once more, a broker may not have back yet what it has shown. One that comes again late is counted again, too.
    let mut dead = queue.dead().await;
    while !(is_there(&dead, "panic") && is_there(&dead, "poison")) && Instant::now() < end {
        sleep(Duration::from_millis(20)).await;
        dead = queue.dead().await;
    }
    let counts = tries.counts();
    assert_eq!((counts["poison"], counts["panic"]), (3, 3), "each is tried as often as allowed");
    dead.sort();
    assert_eq!(dead, ["panic", "poison"]);
    let counters = running.stop().await;
    assert_eq!(counters.retried, 4, "two retries each");
    assert_empty(queue).await;
}

/// Nothing is left in the queue.
async fn assert_empty<F: Fixture>(queue: &F) {
    assert_eq!(left_in(queue).await, [""; 0], "something was left in the queue");
}

/// Returns the first that is left in the queue.
async fn left_in<F: Fixture>(queue: &F) -> Vec<String> {
    let source = queue.source().await;
    let left = take(&source, 1, patience(&source) * 2).await;
    source.stop().await.expect("stops");
    texts(&left)
}

async fn rule_92_a_lost_acknowledgement_makes_a_duplicate_that_is_acknowledged<F: Fixture>(
    queue: &F,
) {
    let dir = tempfile::tempdir().expect("a folder");
    for n in 0..20 {
        queue.publish(&format!("{n}"), "k", &format!("{n}")).await;
    }
    let effects = Effects::default();
    let made = effects.clone();
    let work = move |job: Job| {
        made.add(&job);
        async { Ok(()) }
    };
    let faults = Faults { lost: 50, ..Faults::default() };
    let source = Faulty::new(queue.source().await, faults, 92);
    let running = Running::start(source, dir.path(), ConsumerOptions::new(), work);
    running
        .until("each is done once, and duplicates come", |now| {
            now.first == 20 && now.duplicates > 0
        })
        .await;
    // Those whose second acknowledgement was lost, too, come a third time.
    sleep(patience(&queue.source().await) * 3).await;
    running.stop().await;
    effects.assert_once((0..20).map(|n| n.to_string()));
    // All that is left is a duplicate, and is acknowledged as soon as it comes.
    let end = Instant::now() + LATE;
    loop {
        let again = |_| async { Err(Failure::last("done again")) };
        let running =
            Running::start(queue.source().await, dir.path(), ConsumerOptions::new(), again);
        sleep(patience(&queue.source().await) * 3).await;
        let counters = running.stop().await;
        assert_eq!((counters.first, counters.dead), (0, 0), "only duplicates were left");
        let left = left_in(queue).await;
        if left.is_empty() {
            break;
        }
        assert!(Instant::now() < end, "duplicates stay in the queue: {left:?}");
    }
}

async fn a_stop_is_graceful_and_nothing_is_lost<F: Fixture>(queue: &F) {
    let dir = tempfile::tempdir().expect("a folder");
    for n in 0..60 {
        queue.publish(&format!("{n}"), "k", &format!("{n}")).await;
    }
    let effects = Effects::default();
    // All but the first few wait for the stop, so that most have not begun when it comes.
    let may_go_on = Arc::new(Semaphore::new(8));
    let work = |made: Effects| {
        let may_go_on = Arc::clone(&may_go_on);
        move |job: Job| {
            let (made, may_go_on) = (made.clone(), Arc::clone(&may_go_on));
            async move {
                may_go_on.acquire().await.expect("is never closed").forget();
                sleep(Duration::from_millis(100)).await;
                made.add(&job);
                Ok(())
            }
        }
    };
    let options = ConsumerOptions::new().workers(8);
    let running =
        Running::start(queue.source().await, dir.path(), options.clone(), work(effects.clone()));
    running
        .until("some are done, some have begun, and all have come", |now| {
            now.first == 8 && now.working > 0 && now.in_flight >= 52
        })
        .await;
    running.handle.stop();
    may_go_on.add_permits(100);
    let counters = running.stop().await;
    let made = effects.all().len() as u64;
    assert_eq!(counters.first, made, "what had begun was finished, and is known");
    assert!(made < 60, "the stop waited for everything");
    assert!(counters.handed_back >= 60 - made, "what had not begun is given back");
    assert_eq!(counters.acks_lost, 0, "all of it is answered");
    let running = Running::start(queue.source().await, dir.path(), options, work(effects.clone()));
    running.until("the rest is done", |now| now.first + made == 60).await;
    running.stop().await;
    effects.assert_once((0..60).map(|n| n.to_string()));
    assert_empty(queue).await;
}

async fn messages_of_a_key_are_handled_in_order<F: Fixture>(queue: &F) {
    let dir = tempfile::tempdir().expect("a folder");
    for n in 0..30 {
        let key = ["a", "b", "c"][n % 3];
        queue.publish(&format!("{n}"), key, &format!("{key}{n:02}")).await;
    }
    let (effects, tries) = (Effects::default(), Effects::default());
    let (made, tried) = (effects.clone(), tries.clone());
    let work = move |job: Job| {
        let (made, tried) = (made.clone(), tried.clone());
        async move {
            let n = job.payload()[2];
            sleep(Duration::from_millis(u64::from(n % 7))).await;
            tried.add(&job);
            // Some fail at first; those of their key wait for them.
            if n.is_multiple_of(4) && job.attempt().is_some_and(|attempt| attempt.number() == 1) {
                return Err(Failure::retry("once more"));
            }
            made.add(&job);
            Ok(())
        }
    };
    let options = ConsumerOptions::new().ordered(true);
    let running = Running::start(queue.source().await, dir.path(), options, work);
    running.until("all are done", |now| now.first == 30).await;
    running.stop().await;
    let all = effects.all();
    for key in ["a", "b", "c"] {
        let of_key: Vec<&String> = all.iter().filter(|text| text.starts_with(key)).collect();
        assert!(of_key.is_sorted() && of_key.len() == 10, "{key} is out of order: {of_key:?}");
    }
    assert!(!all.is_sorted(), "keys wait for each other: {all:?}");
    assert!(tries.all().len() > 30, "none has failed");
    assert_empty(queue).await;
}

async fn each_effect_is_made_once_under_faults<F: Fixture>(queue: &F) {
    let dir = tempfile::tempdir().expect("a folder");
    let count = 200;
    for n in 0..count {
        queue.publish(&format!("{n}"), "k", &format!("{n}")).await;
        // Producers send twice, too.
        if n % 10 == 0 {
            queue.publish(&format!("{n}"), "k", &format!("{n}")).await;
        }
    }
    let effects = Effects::default();
    let (mut done, mut round) = (0, 0);
    let end = Instant::now() + LATE * 5;
    while done < count && Instant::now() < end {
        round += 1;
        let made = effects.clone();
        let work = move |job: Job| {
            let made = made.clone();
            async move {
                let first = job.attempt().is_some_and(|attempt| attempt.number() == 1);
                if first && job.payload().ends_with(b"3") {
                    return Err(Failure::retry("once more"));
                }
                made.add(&job);
                Ok(())
            }
        };
        let source = Faulty::new(queue.source().await, Faults::all(15), round);
        let running = Running::start(source, dir.path(), ConsumerOptions::new(), work);
        sleep(Duration::from_millis(700)).await;
        done += running.stop().await.first;
    }
    effects.assert_once((0..count).map(|n| n.to_string()));
}
