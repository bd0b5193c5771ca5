//! The loop with reservations in the place of a ledger.

use crate::support::{Effects, Running, World, options};
use firstseen::Reserve;
use firstseen_consumer::{Consumer, Failure, Job, Retries, Source, Want};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn retries() -> Retries {
    Retries::new().attempts_max(3).pauses(Duration::from_millis(20), Duration::from_millis(50))
}

fn start<F, Fut>(world: &World, work: F) -> Running
where
    F: Fn(Job) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Failure>> + Send + 'static,
{
    start_with(world, retries(), work)
}

fn start_with<F, Fut>(world: &World, retries: Retries, work: F) -> Running
where
    F: Fn(Job) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let namespace = world.store.namespace("orders").unwrap();
    let consumer = Consumer::with_reservations(world.broker.connect(), namespace, retries, work);
    let consumer = consumer.options(options().workers(8));
    let handle = consumer.handle();
    Running::of(handle, consumer.run())
}

#[tokio::test]
async fn a_reserved_id_is_confirmed_before_the_acknowledgement_and_then_a_duplicate() {
    let world = World::new();
    for n in 0..20 {
        world.send(&n.to_string());
        world.send(&n.to_string());
    }
    let effects = Effects::default();
    let made = effects.clone();
    let running = start(&world, move |job| {
        assert!(job.attempt().is_none());
        made.add(&job);
        async { Ok(()) }
    });
    world.until_empty().await;
    let counters = running.stop().await;
    assert_eq!((counters.first, counters.duplicates), (20, 20));
    assert_eq!(effects.all().len(), 20);
    let namespace = world.store.namespace("orders").unwrap();
    assert!(namespace.contains("7").unwrap());
}

#[tokio::test]
async fn failures_of_reserved_work_are_counted_and_end_in_dead_letters() {
    let world = World::new();
    world.send("poison");
    world.send("panics");
    world.send("good");
    let effects = Effects::default();
    let tries = effects.clone();
    let running = start(&world, move |job| {
        tries.add(&job);
        async move {
            match job.id() {
                b"poison" => Err(Failure::retry("no such account")),
                b"panics" => std::panic::resume_unwind(Box::new("out of cheese")),
                _ => Ok(()),
            }
        }
    });
    world.until_empty().await;
    let counters = running.stop().await;
    assert_eq!((counters.first, counters.retried, counters.dead), (1, 4, 2));
    assert_eq!(effects.all().len(), 7);
    // Its answer was lost: it comes again, and is not tried again.
    world.send("poison");
    let namespace = world.store.namespace("orders").unwrap();
    assert!(!namespace.contains("poison").unwrap());
}

#[tokio::test]
async fn a_message_that_the_broker_has_delivered_too_often_is_not_tried_again_after_a_restart() {
    let world = World::with_patience(Duration::from_millis(200));
    world.send("kills its process");
    let die = async |times| {
        for _ in 0..times {
            let want = Want { count: 1, bytes: 1, wait: Duration::from_secs(5) };
            assert_eq!(world.broker.connect().next(want).await.unwrap().len(), 1);
        }
    };
    // Four processes take it and die: more than it may fail, and as often as the limit for this says.
    die(4).await;
    let running = start_with(&world, retries().deliveries_max(4), |_| async { Ok(()) });
    world.until_empty().await;
    let counters = running.stop().await;
    assert_eq!((counters.first, counters.dead), (0, 1));
    assert!(world.broker.dead_letters()[0].1.contains("4 deliveries of which nothing was heard"));
    // Once less.
    world.send("lives in bad times");
    die(3).await;
    let running = start_with(&world, retries().deliveries_max(4), |_| async { Ok(()) });
    world.until_empty().await;
    let counters = running.stop().await;
    assert_eq!((counters.first, counters.dead), (1, 0));
}

#[tokio::test]
async fn messages_taken_ahead_were_given_up_after_a_few_orderly_restarts() {
    let world = World::new();
    for n in 0..40 {
        world.send(&n.to_string());
    }
    let effects = Effects::default();
    let mut done = 0;
    let mut restarts = 0;
    while world.broker.left() > 0 {
        let (made, is_stopped) = (effects.clone(), Arc::new(AtomicBool::new(false)));
        let may_end = Arc::clone(&is_stopped);
        let running = start(&world, move |job: Job| {
            let (made, may_end) = (made.clone(), Arc::clone(&may_end));
            async move {
                while !may_end.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                made.add(&job);
                Ok(())
            }
        });
        // All are taken, the workers have some of them, and the rest is given back.
        running.until(|now| now.delivered + done >= 40).await;
        running.handle.stop();
        // The loop, on this thread, hears of it first: else it would begin more in the place of those that end.
        tokio::time::sleep(Duration::from_millis(50)).await;
        is_stopped.store(true, Ordering::Relaxed);
        let counters = running.stop().await;
        assert_eq!((counters.dead, counters.retried), (0, 0));
        done += counters.first;
        restarts += 1;
    }
    assert!(restarts > 4, "{restarts} restarts are no more than the attempts that there are");
    assert_eq!(effects.all().len(), 40);
}

#[tokio::test]
async fn a_failure_is_counted_beside_the_deliveries_before_it_and_not_with_them() {
    let world = World::with_patience(Duration::from_millis(200));
    world.send("fails");
    for _ in 0..2 {
        let want = Want { count: 1, bytes: 1, wait: Duration::from_secs(5) };
        assert_eq!(world.broker.connect().next(want).await.unwrap().len(), 1);
    }
    let effects = Effects::default();
    let tries = effects.clone();
    let running = start(&world, move |job| {
        tries.add(&job);
        async { Err(Failure::retry("no such account")) }
    });
    world.until_empty().await;
    let counters = running.stop().await;
    assert_eq!((counters.retried, counters.dead), (2, 1));
    assert_eq!(effects.all().len(), 3);
}

#[tokio::test]
async fn what_is_reserved_by_somebody_else_is_put_off() {
    let world = World::new();
    let namespace = world.store.namespace("orders").unwrap();
    let Reserve::FirstSeen(mut held) = namespace.reserve("a").unwrap() else { panic!() };
    world.send("a");
    let running = start(&world, |_| async { Err(Failure::last("done twice")) });
    running.until(|now| now.put_off >= 2).await;
    held.confirm().unwrap();
    world.until_empty().await;
    let counters = running.stop().await;
    assert_eq!((counters.duplicates, counters.dead), (1, 0));
}

#[tokio::test]
async fn what_is_never_to_be_tried_again_is_a_dead_letter_at_once_and_a_delay_is_kept() {
    let world = World::new();
    let began = tokio::time::Instant::now();
    world.send("last");
    world.send("later");
    let effects = Effects::default();
    let tries = effects.clone();
    let running = start(&world, move |job| {
        tries.add(&job);
        let is_first = tries.all().iter().filter(|id| *id == "later").count() == 1;
        async move {
            match job.id() {
                b"last" => Err(Failure::last("no such account")),
                _ if is_first => Err(Failure::retry_after("later", Duration::from_millis(400))),
                _ => Ok(()),
            }
        }
    });
    world.until_empty().await;
    let counters = running.stop().await;
    assert_eq!((counters.first, counters.dead, counters.retried), (1, 1, 1));
    assert_eq!(effects.sorted(), ["last", "later", "later"]);
    assert!(began.elapsed() >= Duration::from_millis(400));
    assert!(world.broker.dead_letters()[0].1.contains("no such account"));
}
