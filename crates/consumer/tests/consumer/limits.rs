//! Backpressure, workers, order, and what can be read while a loop runs.

use crate::support::{Effects, LATE, PATIENCE, World, message, options, policies, start};
use firstseen::{Clock, Store, SystemClock, Timestamp};
use firstseen_consumer::testkit::{Faults, Faulty, MemoryBroker, MemorySource, MemoryToken};
use firstseen_consumer::{Delivery, Failure, Job, Message, Source, Want};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::sleep;

/// Work that waits for a permit.
fn gated(gate: &Arc<Semaphore>) -> impl Fn(Job) -> BoxedWork + use<> {
    let gate = Arc::clone(gate);
    move |_| {
        let gate = Arc::clone(&gate);
        Box::pin(async move {
            gate.acquire().await.unwrap().forget();
            Ok(())
        })
    }
}

type BoxedWork = std::pin::Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

#[tokio::test]
async fn no_more_is_taken_than_may_be_in_flight_and_no_more_handlers_run_than_workers() {
    let world = World::new();
    for n in 0..100 {
        world.send(&n.to_string());
    }
    let gate = Arc::new(Semaphore::new(0));
    let options = options().in_flight_max(20).workers(4);
    let running = world.start(options, gated(&gate));
    // The rest waits at the broker.
    running.until(|now| (now.in_flight, now.working, now.lag) == (20, 4, Some(80))).await;
    sleep(Duration::from_millis(200)).await;
    let now = running.handle.counters();
    assert_eq!((now.delivered, now.in_flight, now.working), (20, 20, 4));
    gate.add_permits(100);
    world.until_empty().await;
    let counters = running.until(|now| now.lag == Some(0)).await;
    assert_eq!(counters.first, 100);
    running.stop().await;
}

#[tokio::test]
async fn no_more_bytes_are_taken_than_may_be_in_flight_and_a_large_payload_comes_alone() {
    let world = World::new();
    let payload = |bytes| vec![b'x'; bytes];
    for n in 0..50 {
        world.broker.send(Message::new(format!("{n}"), payload(1_000)));
    }
    world.broker.send(Message::new("large", payload(50_000)));
    let gate = Arc::new(Semaphore::new(0));
    let running = world.start(options().bytes_max(10_000), gated(&gate));
    running.until(|now| now.in_flight_bytes == 10_000).await;
    sleep(Duration::from_millis(150)).await;
    assert_eq!(running.handle.counters().delivered, 10);
    gate.add_permits(50);
    let now = running.until(|now| now.first == 50 && now.in_flight == 1).await;
    assert_eq!(now.in_flight_bytes, 50_000);
    gate.add_permits(1);
    world.until_empty().await;
    running.stop().await;
}

#[tokio::test]
async fn what_has_landed_is_counted_while_the_source_has_nothing_more() {
    let world = World::new();
    world.send("only");
    // Longer than `until` waits.
    let running = world.start(options().poll(LATE * 2), |_| async { Ok::<(), Failure>(()) });
    let now = running.until(|now| now.first == 1 && now.in_flight == 0).await;
    assert_eq!(now.in_flight_bytes, 0);
    running.stop().await;
}

#[tokio::test]
async fn in_order_a_key_that_fails_holds_up_itself_and_no_other() {
    let world = World::new();
    for n in 0..6 {
        world.broker.send(message(&format!("slow{n}")).key("slow"));
        world.broker.send(message(&format!("fast{n}")).key("fast"));
    }
    world.broker.send(message("free"));
    let effects = Effects::default();
    let made = effects.clone();
    let running = world.start(options().ordered(true), move |job: Job| {
        let made = made.clone();
        async move {
            let is_first = job.attempt().unwrap().number() == 1;
            if let Some(n) = job.id().strip_prefix(b"slow").filter(|_| is_first) {
                // The later it came, the sooner it may be tried again.
                let delay = Duration::from_millis(u64::from(b'9' - n[0]) * 20);
                return Err(Failure::retry_after("once more", delay));
            }
            made.add(&job);
            Ok(())
        }
    });
    world.until_empty().await;
    let counters = running.stop_in_order().await;
    assert_eq!((counters.first, counters.retried), (13, 6));
    let all = effects.all();
    let of = |key: &str| all.iter().filter(|id| id.starts_with(key)).cloned().collect::<Vec<_>>();
    assert!(of("slow").is_sorted() && of("fast").is_sorted(), "{all:?}");
    let last_fast = all.iter().rposition(|id| id.starts_with("fast"));
    let last_slow = all.iter().rposition(|id| id.starts_with("slow"));
    assert!(last_fast < last_slow, "one key waits for the other: {all:?}");
}

/// The clock of the system; counts how often it is asked.
#[derive(Debug, Clone, Default)]
struct CountingClock(Arc<AtomicU64>);

impl Clock for CountingClock {
    fn wall(&self) -> Timestamp {
        self.0.fetch_add(1, Ordering::Relaxed);
        SystemClock.wall()
    }

    fn elapsed_ms(&self) -> u64 {
        SystemClock.elapsed_ms()
    }

    fn boot_id(&self) -> u128 {
        SystemClock.boot_id()
    }
}

#[tokio::test]
async fn in_order_what_waits_for_its_retry_or_an_operator_does_not_ask_again_and_again() {
    let dir = tempfile::tempdir().unwrap();
    let clock = CountingClock::default();
    let store = Store::builder(dir.path().join("seen.db")).clock(clock.clone()).open().unwrap();
    let ledger = store.ledger_with("orders", policies()).unwrap();
    let broker = MemoryBroker::new(PATIENCE);
    for id in ["held", "not due"] {
        let attempt = ledger.begin(id).unwrap().started().unwrap();
        let failure = match id {
            "held" => Failure::hold("nobody knows"),
            _ => Failure::retry_after("later", Duration::from_secs(60)),
        };
        attempt.fail(failure).unwrap();
        broker.send(message(id).key(id));
    }
    let options = options().ordered(true).held_delay(Duration::from_secs(60));
    let running = start(broker.connect(), ledger, options, |_| async { Ok(()) });
    running.until(|now| now.delivered == 2).await;
    sleep(Duration::from_millis(100)).await;
    let before = clock.0.load(Ordering::Relaxed);
    sleep(Duration::from_millis(500)).await;
    let asked = clock.0.load(Ordering::Relaxed) - before;
    assert!(asked < 200, "the ledger was asked again and again: {asked} looks at the clock");
    running.stop_in_order().await;
}

#[tokio::test]
async fn in_order_one_held_message_stopped_all_keys_without_a_word() {
    let world = World::new();
    for n in 0..8 {
        world.broker.send(message(&n.to_string()).key("held"));
    }
    world.broker.send(message("other").key("other"));
    let options = options().ordered(true).in_flight_max(8).held_delay(Duration::from_millis(20));
    let running = world.start(options, |job: Job| async move {
        if job.id() == b"0" { Err(Failure::hold("who knows")) } else { Ok(()) }
    });
    let now = running.until(|now| now.stalled == 1 && now.lag == Some(1)).await;
    assert_eq!((now.in_flight, now.first), (8, 0));
    // Once, as long as it lasts.
    sleep(Duration::from_millis(2_500)).await;
    assert_eq!(running.handle.counters().stalled, 1);
    world.ledger().settle("0", b"", "looked up").unwrap().unwrap();
    world.until_empty().await;
    let counters = running.stop_in_order().await;
    assert_eq!((counters.first, counters.waiting, counters.stalled), (8, 0, 1));
}

#[tokio::test]
async fn what_works_slowly_or_waits_for_a_worker_is_not_stalled() {
    let world = World::new();
    for n in 0..12 {
        world.broker.send(message(&n.to_string()).key("k"));
    }
    let gate = Arc::new(Semaphore::new(0));
    let running = world.start(options().ordered(true).in_flight_max(8), gated(&gate));
    running.until(|now| now.in_flight == 8 && now.waiting == 7 && now.lag == Some(4)).await;
    sleep(Duration::from_millis(2_500)).await;
    assert_eq!(running.handle.counters().stalled, 0);
    gate.add_permits(12);
    world.until_empty().await;
    assert_eq!(running.stop_in_order().await.stalled, 0);
}

/// A broker that gives no more than some messages before it has an answer to them; a delay is no answer.
struct Windowed {
    source: MemorySource,
    out: Mutex<BTreeSet<u64>>,
    most: usize,
}

impl Source for Windowed {
    type Token = MemoryToken;
    type Error = Infallible;

    async fn next(&self, want: Want) -> Result<Vec<Delivery<MemoryToken>>, Infallible> {
        if self.out.lock().unwrap().len() >= self.most {
            sleep(want.wait).await;
            return Ok(Vec::new());
        }
        let taken = self.source.next(Want { count: 1, ..want }).await?;
        self.out.lock().unwrap().extend(taken.iter().map(|delivery| delivery.token.number()));
        Ok(taken)
    }

    async fn acknowledge(&self, token: &MemoryToken) -> Result<(), Infallible> {
        self.out.lock().unwrap().remove(&token.number());
        self.source.acknowledge(token).await
    }

    async fn retry_in(&self, token: &MemoryToken, delay: Duration) -> Result<(), Infallible> {
        self.source.retry_in(token, delay).await
    }

    async fn dead_letter(
        &self,
        message: &Message,
        token: &MemoryToken,
        reason: &str,
    ) -> Result<(), Infallible> {
        self.source.dead_letter(message, token, reason).await
    }

    async fn lag(&self) -> Result<Option<u64>, Infallible> {
        self.source.lag().await
    }
}

#[tokio::test]
async fn messages_put_off_that_fill_the_window_of_the_broker_stopped_it_without_a_word() {
    let world = World::new();
    (0..5).for_each(|n| world.send(&n.to_string()));
    let source = Windowed { source: world.broker.connect(), out: Mutex::default(), most: 4 };
    let running = start(source, world.ledger(), options(), |job: Job| async move {
        if job.id() == b"4" {
            return Ok(());
        }
        Err(Failure::retry_after("the bank is down", LATE * 10))
    });
    let now = running.until(|now| now.stalled == 1 && now.lag == Some(1)).await;
    assert_eq!((now.in_flight, now.retried, now.first), (0, 4, 0));
    running.stop().await;
}

#[tokio::test]
async fn in_order_a_dead_letter_lets_those_behind_it_go_on() {
    let world = World::new();
    for id in ["a", "poison", "b"] {
        world.broker.send(message(id).key("k"));
    }
    let effects = Effects::default();
    let made = effects.clone();
    let running = world.start(options().ordered(true), move |job: Job| {
        let made = made.clone();
        async move {
            if job.id() == b"poison" {
                return Err(Failure::last("poison"));
            }
            made.add(&job);
            Ok(())
        }
    });
    world.until_empty().await;
    running.stop().await;
    assert_eq!(effects.all(), ["a", "b"]);
}

#[tokio::test]
async fn in_order_a_stop_begins_nothing_behind_what_is_given_back() {
    let world = World::new();
    for n in 0..10 {
        world.broker.send(message(&n.to_string()).key("k"));
    }
    let effects = Effects::default();
    let made = effects.clone();
    let running = world.start(options().ordered(true), move |job: Job| {
        let made = made.clone();
        async move {
            if job.id() == b"3" {
                return Err(Failure::retry_after("later", Duration::from_secs(5)));
            }
            made.add(&job);
            Ok(())
        }
    });
    running.until(|now| now.first == 3 && now.retried == 1).await;
    let counters = running.stop_in_order().await;
    assert_eq!(effects.all(), ["0", "1", "2"]);
    assert_eq!(counters.handed_back, 7);
    assert_eq!(world.broker.left(), 7);
}

#[tokio::test]
async fn errors_of_the_broker_do_not_end_the_loop() {
    let world = World::new();
    for n in 0..10 {
        world.send(&n.to_string());
    }
    let faults = Faults { broken: 80, ..Faults::default() };
    let source = Faulty::new(world.broker.connect(), faults, 7);
    let running = start(source, world.ledger(), options(), |_| async { Ok(()) });
    world.until_empty().await;
    let counters = running.stop().await;
    assert!(counters.source_errors > 0);
    assert_eq!(counters.first, 10);
}

#[tokio::test]
async fn an_idle_loop_stops_at_once() {
    let world = World::new();
    let running = world.start(options(), |_| async { Ok(()) });
    sleep(Duration::from_millis(100)).await;
    let began = tokio::time::Instant::now();
    running.stop().await;
    assert!(began.elapsed() < Duration::from_secs(5));
    let _: &MemoryBroker = &world.broker;
}
