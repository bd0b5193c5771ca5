//! The loop over a ledger on a shared store.

use crate::deaths::Beside;
use crate::support::{Effects, LATE, Running, World, message, options};
use firstseen::ledger::OnLeaseEnd;
use firstseen_conformance::{Fault, Faulty, Reference};
use firstseen_consumer::{Consumer, ConsumerOptions, Error, Failure, Job};
use firstseen_shared::{
    Backoff, Begin, DedupStore, Embedded, ErrorKind, LedgerOptions, Record, SharedLedger, State,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

type Line = Faulty<Reference>;

/// The model of a store, whose clock follows that of this machine.
fn line() -> Line {
    let store = Reference::new();
    let clock = store.clock().clone();
    tokio::spawn(async move {
        let mut last = Instant::now();
        loop {
            sleep(Duration::from_millis(2)).await;
            let passed = last.elapsed().as_millis() as u64;
            clock.advance(Duration::from_millis(passed));
            last += Duration::from_millis(passed);
        }
    });
    Faulty::new(store)
}

fn policies() -> LedgerOptions {
    LedgerOptions::new()
        .attempts_max(3)
        .backoff(Backoff::constant(Duration::from_millis(30)))
        .patience(Duration::from_millis(200))
}

fn ledger_with<S: DedupStore>(store: S, policies: LedgerOptions) -> SharedLedger<S> {
    SharedLedger::new(store, "orders", policies).unwrap()
}

fn start<S, F, Fut, T>(
    world: &World,
    ledger: SharedLedger<S>,
    options: ConsumerOptions,
    work: F,
) -> Running
where
    S: DedupStore,
    F: Fn(Job) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, Failure>> + Send + 'static,
    T: Into<firstseen_consumer::Answer> + 'static,
{
    let consumer = Consumer::with_shared(world.broker.connect(), ledger, work).options(options);
    let handle = consumer.handle();
    Running::of(handle, consumer.run())
}

async fn record<S: DedupStore>(ledger: &SharedLedger<S>, id: &str) -> Record {
    ledger.get(id).await.unwrap().expect("there is a record")
}

#[tokio::test]
async fn rule_92_two_consumers_of_one_queue_do_each_message_once_and_acknowledge_duplicates() {
    let world = World::new();
    for _ in 0..2 {
        (0..50).for_each(|n| world.send(&n.to_string()));
    }
    let (effects, line) = (Effects::default(), line());
    let consumers = [(), ()].map(|()| {
        let made = effects.clone();
        start(&world, ledger_with(line.clone(), policies()), options(), move |job: Job| {
            made.add(&job);
            async move { Ok(format!("receipt for {}", String::from_utf8_lossy(job.id()))) }
        })
    });
    world.until_empty().await;
    let mut done = (0, 0);
    for running in consumers {
        let counters = running.stop().await;
        done = (done.0 + counters.first, done.1 + counters.duplicates);
    }
    assert_eq!(done, (50, 50));
    assert_eq!(effects.all().len(), 50);
    let record = record(&ledger_with(line, policies()), "7").await;
    assert_eq!(record.result(), Some(&b"receipt for 7"[..]));
}

#[tokio::test]
async fn a_consumer_over_the_embedded_store_as_a_shared_one_does_the_same() {
    let world = World::new();
    (0..40).for_each(|n| world.send(&(n % 20).to_string()));
    let effects = Effects::default();
    let made = effects.clone();
    let ledger = ledger_with(Embedded::new(world.store.clone()), policies());
    let running = start(&world, ledger.clone(), options(), move |job: Job| {
        assert!(job.attempt().is_none() && job.number() == Some(1) && job.token() > Some(0));
        made.add(&job);
        async { Ok(()) }
    });
    world.until_empty().await;
    let counters = running.stop().await;
    assert_eq!((counters.first, counters.duplicates), (20, 20));
    assert_eq!(effects.all().len(), 20);
    assert!(matches!(record(&ledger, "7").await.state, State::Completed { .. }));
}

#[tokio::test]
async fn rule_91_failures_are_counted_at_the_store_and_end_in_dead_letters_of_both() {
    let world = World::new();
    for id in ["poison", "panics", "last", "held", "refused", "good"] {
        world.send(id);
    }
    let (effects, ledger) = (Effects::default(), ledger_with(line(), policies()));
    let tries = effects.clone();
    let running = start(&world, ledger.clone(), options(), move |job: Job| {
        tries.add(&job);
        async move {
            match job.id() {
                b"poison" => Err(Failure::retry("no such account")),
                b"panics" => std::panic::resume_unwind(Box::new("out of cheese")),
                b"last" => Err(Failure::last("never")),
                b"held" => Err(Failure::hold("who knows")),
                b"refused" => Err(Failure::replayed("no", "404")),
                _ => Ok(()),
            }
        }
    });
    running.until(|now| now.dead == 3 && now.first == 2 && now.put_off >= 1).await;
    assert_eq!(
        ledger.dead_letters(None, 9).await.unwrap(),
        [&b"held"[..], b"last", b"panics", b"poison"]
    );
    assert!(ledger.settle("held", "looked up").await.unwrap());
    world.until_empty().await;
    let counters = running.stop().await;
    assert_eq!((counters.first, counters.dead), (2, 3));
    let tried = effects.sorted();
    assert_eq!(tried.iter().filter(|id| *id == "poison").count(), 3);
    assert_eq!(tried.iter().filter(|id| *id == "panics").count(), 3);
    let letters = world.broker.dead_letters();
    assert!(letters.iter().any(|(_, reason)| reason.contains("no such account")), "{letters:?}");
    assert!(letters.iter().any(|(_, reason)| reason.contains("out of cheese")), "{letters:?}");
}

/// Rule 97: the loop does not end, and nothing is acknowledged that the store has not kept.
#[tokio::test]
async fn a_store_that_is_away_ends_no_loop_and_loses_no_message() {
    let world = World::new();
    let (effects, line) = (Effects::default(), line());
    line.set_away(true);
    (0..20).for_each(|n| world.send(&n.to_string()));
    let made = effects.clone();
    let running = start(&world, ledger_with(line.clone(), policies()), options(), move |job| {
        made.add(&job);
        async { Ok(()) }
    });
    running.until(|now| now.put_off >= 20).await;
    assert!(effects.all().is_empty() && world.broker.left() == 20, "nothing has begun");
    line.set_away(false);
    world.until_empty().await;
    let counters = running.stop().await;
    assert_eq!((counters.first, effects.all().len()), (20, 20));
}

#[tokio::test]
async fn answers_that_are_lost_make_no_second_effect() {
    let world = World::new();
    let (effects, line) = (Effects::default(), line());
    let made = effects.clone();
    let policies = policies().patience(LATE);
    let running = start(&world, ledger_with(line.clone(), policies), options(), move |job| {
        made.add(&job);
        async { Ok(()) }
    });
    for n in 0..30 {
        line.plant(&[Fault::Lost, Fault::Refused, Fault::Lost]);
        world.send(&n.to_string());
        sleep(Duration::from_millis(5)).await;
    }
    world.until_empty().await;
    let counters = running.stop().await;
    assert_eq!((counters.first, counters.duplicates), (30, 0));
    let mut all = effects.sorted();
    all.dedup();
    assert_eq!((all.len(), effects.all().len()), (30, 30));
}

#[tokio::test]
async fn a_completion_that_the_store_does_not_take_is_said_again_while_the_lease_lasts() {
    let world = World::new();
    let (tries, line) = (Arc::new(AtomicU32::new(0)), line());
    world.send("a");
    let (tried, away) = (Arc::clone(&tries), line.clone());
    let running = start(&world, ledger_with(line.clone(), policies()), options(), move |_| {
        tried.fetch_add(1, Ordering::SeqCst);
        away.set_away(true);
        async { Ok("done") }
    });
    running.until(|now| now.working == 0 && tries.load(Ordering::SeqCst) == 1).await;
    // Much longer than one call is repeated.
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.broker.left(), 1, "it is not acknowledged");
    line.set_away(false);
    world.until_empty().await;
    assert_eq!(running.stop().await.first, 1);
    assert_eq!(tries.load(Ordering::SeqCst), 1);
}

/// Rule 97.
#[tokio::test]
async fn work_whose_lease_is_lost_is_stopped_and_its_message_comes_again() {
    let world = World::new();
    let (tries, line) = (Arc::new(AtomicU32::new(0)), line());
    world.send("a");
    let policies = policies().lease(Duration::from_millis(500)).on_lease_end(OnLeaseEnd::Hold);
    let ledger = ledger_with(line.clone(), policies);
    let (tried, away) = (Arc::clone(&tries), line.clone());
    let running = start(&world, ledger.clone(), options(), move |_| {
        tried.fetch_add(1, Ordering::SeqCst);
        away.set_away(true);
        async {
            sleep(LATE * 10).await;
            Ok(())
        }
    });
    running.until(|now| now.fenced == 1).await;
    line.set_away(false);
    let held = async {
        while !matches!(ledger.begin("a", None).await.unwrap(), Begin::Held(_)) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LATE, held).await.expect("nobody knows whether its effect happened");
    assert!(ledger.settle("a", "looked up").await.unwrap());
    world.until_empty().await;
    let counters = running.stop().await;
    assert_eq!((counters.first, counters.duplicates), (0, 1));
    assert_eq!(tries.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_have_killed_its_process_on_another_machine_runs_alone() {
    let mut world = World::new();
    world.broker = Beside::broker().await;
    let ledger = ledger_with(line(), policies().attempts_max(9).lease(Duration::from_secs(1)));
    for id in ["suspect 2", "suspect 22", "suspect 42"] {
        let Begin::Started(attempt) = ledger.begin(id, None).await.unwrap() else { panic!() };
        // Without a runtime it cannot say that it was dropped.
        std::thread::spawn(move || drop(attempt)).join().unwrap();
        ledger.wait(id, LATE).await.unwrap();
    }
    // One of them was begun and handed back at a stop.
    let Begin::Started(attempt) = ledger.begin("suspect 22", None).await.unwrap() else { panic!() };
    attempt.release().await.unwrap();
    let beside = Arc::new(Beside::default());
    let work = Arc::clone(&beside);
    let running = start(&world, ledger, options().workers(8), move |job: Job| {
        let work = Arc::clone(&work);
        async move {
            work.work(&job).await;
            Ok(())
        }
    });
    beside.check(&world.broker, running).await;
}

#[tokio::test]
async fn another_payload_under_an_id_and_an_id_too_long_are_dead_letters() {
    let world = World::new();
    let ledger = ledger_with(line(), policies());
    world.send("a");
    let options = options().check_payload(true);
    let running = start(&world, ledger, options, |_| async { Ok(()) });
    world.until_empty().await;
    world.broker.send(firstseen_consumer::Message::new("a", "another payload"));
    world.send(&"x".repeat(1_025));
    world.until_empty().await;
    let counters = running.stop().await;
    assert_eq!((counters.first, counters.dead), (1, 2));
    let letters = world.broker.dead_letters();
    assert!(letters.iter().any(|(_, reason)| reason.contains("another payload")), "{letters:?}");
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_a_dead_letter_and_not_asked_for_again() {
    let world = World::new();
    let ledger = ledger_with(line(), policies().result_bytes_max(4));
    world.send("done");
    world.send("refused");
    let running = start(&world, ledger, options(), |job: Job| async move {
        match job.id() {
            b"done" => Ok("too long"),
            _ => Err(Failure::replayed("no", "too long")),
        }
    });
    world.until_empty().await;
    let counters = running.stop().await;
    assert_eq!((counters.first, counters.dead, counters.retried), (0, 2, 0));
}

#[tokio::test]
async fn in_order_a_message_waits_for_another_consumer_that_has_its_id() {
    let world = World::new();
    let (effects, ledger) = (Effects::default(), ledger_with(line(), policies()));
    let Begin::Started(other) = ledger.begin("first", None).await.unwrap() else { panic!() };
    for id in ["first", "second"] {
        world.broker.send(message(id).key("k"));
    }
    let made = effects.clone();
    let options = options().ordered(true);
    let running = start(&world, ledger, options, move |job| {
        made.add(&job);
        async { Ok(()) }
    });
    running.until(|now| now.delivered == 2).await;
    sleep(Duration::from_millis(200)).await;
    assert!(effects.all().is_empty(), "the second waits for the first");
    other.complete("elsewhere").await.unwrap();
    world.until_empty().await;
    let counters = running.stop_in_order().await;
    assert_eq!((counters.first, counters.duplicates), (1, 1));
    assert_eq!(effects.all(), ["second"]);
}

#[tokio::test]
async fn a_stop_hands_back_what_has_not_begun_without_a_charge() {
    let world = World::new();
    let ledger = ledger_with(line(), policies());
    (0..20).for_each(|n| world.send(&n.to_string()));
    let options = options().workers(1);
    let running = start(&world, ledger.clone(), options, |_| async {
        sleep(Duration::from_millis(50)).await;
        Ok(())
    });
    running.until(|now| now.first >= 1).await;
    let counters = running.stop().await;
    assert!(counters.first < 20 && counters.handed_back > 0, "{counters:?}");
    for n in 0..20 {
        if let Some(record) = ledger.get(n.to_string()).await.unwrap() {
            assert!(matches!(record.state, State::Completed { .. }) || record.attempts == 0);
        }
    }
}

#[tokio::test]
async fn a_store_that_cannot_go_on_ends_the_loop_with_its_error() {
    let world = World::new();
    world.send("a");
    // No store has such a name.
    let ledger = SharedLedger::new(line(), "n".repeat(300), policies()).unwrap();
    let running = start(&world, ledger, options(), |_| async { Ok(()) });
    let ended = timeout(LATE, running.task).await.expect("it ends").expect("no panic");
    assert!(matches!(&ended, Err(Error::Shared(error)) if error.kind() == ErrorKind::Invalid));
    assert_eq!(world.broker.left(), 1, "nothing was acknowledged");
}
