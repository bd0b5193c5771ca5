//! What each answer of the ledger, and each end of the work, means for a message.

use crate::support::{Effects, LATE, PATIENCE, Running, World, message, options, policies, start};
use firstseen::ledger::{Begin, DeadFilter, OnLeaseEnd, State};
use firstseen_consumer::{Answer, ConsumerOptions, Failure, Ids, Job, Message};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

fn done(effects: &Effects) -> impl Fn(Job) -> std::future::Ready<Result<(), Failure>> + use<> {
    let effects = effects.clone();
    move |job: Job| {
        effects.add(&job);
        std::future::ready(Ok(()))
    }
}

#[tokio::test]
async fn rule_92_a_duplicate_is_acknowledged_without_work_and_not_left_in_the_queue() {
    let world = World::new();
    let effects = Effects::default();
    for _ in 0..3 {
        world.send("a");
    }
    let running = world.start(options(), done(&effects));
    world.until_empty().await;
    let counters = running.stop().await;
    assert_eq!(effects.all(), ["a"]);
    assert_eq!((counters.first, counters.duplicates), (1, 2));
}

#[tokio::test]
async fn the_answer_is_stored_before_the_message_is_acknowledged() {
    let world = World::new();
    world.send("a");
    let running = world.start(options(), |job: Job| async move {
        Ok(format!("receipt for {}", String::from_utf8_lossy(job.id())))
    });
    world.until_empty().await;
    assert_eq!(world.record("a").result(), Some(&b"receipt for a"[..]));
    running.stop().await;
}

#[tokio::test]
async fn rule_91_failures_are_counted_in_the_ledger_and_end_in_dead_letters_of_both() {
    let world = World::new();
    world.send("poison");
    world.send("good");
    let effects = Effects::default();
    let tries = effects.clone();
    let running = world.start(options(), move |job: Job| {
        tries.add(&job);
        async move {
            if job.id() == b"poison" { Err(Failure::retry("no such account")) } else { Ok(()) }
        }
    });
    world.until_empty().await;
    let counters = running.stop().await;
    assert_eq!((counters.first, counters.retried, counters.dead), (1, 2, 1));
    assert_eq!(effects.sorted(), ["good", "poison", "poison", "poison"]);
    let [(letter, reason)] = &world.broker.dead_letters()[..] else { panic!() };
    assert_eq!(letter.id.as_deref(), Some(&b"poison"[..]));
    assert!(reason.contains("no such account") && reason.contains('3'), "{reason}");
    // The ledger has it, too, with the payload: it can be done again from there.
    let ledger = world.ledger();
    let letters = ledger.dead_letters().list(&DeadFilter::new()).unwrap().letters;
    assert_eq!(letters.len(), 1);
    assert_eq!(ledger.payload("poison").unwrap().as_deref(), Some(&b"payload of poison"[..]));
}

#[tokio::test]
async fn a_retry_waits_for_the_backoff_of_the_ledger() {
    let world = World::new();
    world.send("a");
    let (tries, delay) = (Arc::new(AtomicU32::new(0)), Duration::from_millis(400));
    let tried = Arc::clone(&tries);
    let began = tokio::time::Instant::now();
    let running = world.start(options(), move |_| {
        let first = tried.fetch_add(1, Ordering::Relaxed) == 0;
        async move { if first { Err(Failure::retry_after("not yet", delay)) } else { Ok(()) } }
    });
    let counters = running.until(|now| now.first == 1).await;
    assert!(began.elapsed() >= delay);
    assert_eq!((counters.retried, tries.load(Ordering::Relaxed)), (1, 2));
    running.stop().await;
}

#[tokio::test]
async fn what_somebody_else_works_on_is_put_off_and_then_a_duplicate() {
    let world = World::new();
    let Begin::Started(attempt) = world.ledger().begin("a").unwrap() else { panic!() };
    world.send("a");
    let running = world.start(options(), |_| async { Err::<(), _>(Failure::last("done twice")) });
    running.until(|now| now.put_off >= 2).await;
    assert_eq!(running.handle.counters().duplicates, 0);
    attempt.complete(b"by another").unwrap();
    world.until_empty().await;
    let counters = running.stop().await;
    assert_eq!((counters.first, counters.duplicates, counters.dead), (0, 1, 0));
}

#[tokio::test]
async fn what_somebody_else_works_on_is_waited_for_in_order() {
    let world = World::new();
    let Begin::Started(attempt) = world.ledger().begin("a").unwrap() else { panic!() };
    world.broker.send(message("a").key("k"));
    world.broker.send(message("b").key("k"));
    world.broker.send(message("c").key("other"));
    let effects = Effects::default();
    let options = options().ordered(true).busy_delay(Duration::from_millis(30));
    let running = world.start(options, done(&effects));
    running.until(|now| now.first == 1).await;
    sleep(Duration::from_millis(200)).await;
    assert_eq!(effects.all(), ["c"], "b has not waited for a");
    attempt.fail(Failure::retry_after("later", Duration::ZERO)).unwrap();
    world.until_empty().await;
    running.stop().await;
    assert_eq!(effects.all(), ["c", "a", "b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lease_is_renewed_while_the_handler_runs_also_one_that_blocks_its_thread() {
    // On a machine with other work a short lease may end before it can be renewed; then with a longer one.
    for lease in [400, 3_000, 15_000].map(Duration::from_millis) {
        if outlasts_its_lease(lease).await {
            return;
        }
    }
    panic!("no lease is renewed");
}

/// Whether handlers that work for two leases and more keep them.
async fn outlasts_its_lease(lease: Duration) -> bool {
    let world = World::with_patience(lease * 10 + PATIENCE);
    let ledger = world.ledger_with(policies().lease(lease));
    world.send("awaits");
    world.send("blocks");
    #[expect(clippy::disallowed_methods, reason = "a handler that blocks its thread")]
    let work = move |job: Job| async move {
        if job.id() == b"blocks" {
            std::thread::sleep(lease * 2);
        }
        sleep(lease * 2).await;
        Ok(())
    };
    let running = start(world.broker.connect(), ledger.clone(), options(), work);
    running.until(|now| now.working == 2 || now.first > 0).await;
    for _ in 0..8 {
        sleep(lease / 5).await;
        for id in ["awaits", "blocks"] {
            if !matches!(ledger.begin(id).unwrap(), Begin::InProgress(_)) {
                return false;
            }
        }
    }
    running.until(|now| now.first + now.fenced + now.retried >= 2).await;
    let counters = running.stop().await;
    (counters.first, counters.fenced, counters.retried) == (2, 0, 0)
}

#[tokio::test]
async fn what_is_waited_for_longer_than_the_brokers_patience_is_not_delivered_again() {
    let mut all = Vec::new();
    // On a machine with other work the broker may not hear in time that somebody is on it; then with more patience.
    for patience in [1, 4, 15].map(Duration::from_secs) {
        match deliveries_of_four(patience).await {
            4 => return,
            delivered => all.push((patience, delivered)),
        }
    }
    panic!("four messages were delivered more often: {all:?}");
}

/// Returns how often a broker of this patience has delivered four messages.
async fn deliveries_of_four(patience: Duration) -> u64 {
    let world = World::with_patience(patience);
    for n in 0..4 {
        world.send(&n.to_string());
    }
    // One worker: the last waits for longer than the patience before its work begins.
    let running = world.start(options().workers(1), move |_| async move {
        sleep(patience * 3 / 5).await;
        Ok(())
    });
    world.until_empty().await;
    running.stop().await;
    world.broker.delivered()
}

#[tokio::test]
async fn a_result_that_comes_after_a_takeover_is_refused_and_its_message_not_acknowledged_for_it() {
    let world = World::new();
    let ledger = world.ledger();
    world.send("a");
    let gate = Arc::new(Semaphore::new(0));
    let open = Arc::clone(&gate);
    let running = world.start(options(), move |_| {
        let open = Arc::clone(&open);
        async move {
            open.acquire().await.unwrap().forget();
            Ok("of the first")
        }
    });
    running.until(|now| now.working == 1).await;
    // An operator cancels it and lets it be done again; another worker has begun.
    ledger.cancel("a", "stuck").unwrap();
    ledger.redrive("a").unwrap();
    let Begin::Started(attempt) = ledger.begin("a").unwrap() else { panic!() };
    gate.add_permits(1);
    running.until(|now| now.fenced == 1).await;
    assert_eq!(world.broker.left(), 1, "acknowledged for a result that was refused");
    attempt.complete(b"of the second").unwrap();
    world.until_empty().await;
    running.stop().await;
    assert_eq!(world.record("a").result(), Some(&b"of the second"[..]));
}

#[tokio::test]
async fn a_handler_may_complete_its_attempt_in_a_transaction_of_its_own() {
    let world = World::new();
    world.send("a");
    let store = world.store.clone();
    let running = world.start(options(), move |job: Job| {
        let store = store.clone();
        async move {
            let mut transaction = store.transaction();
            transaction.complete(job.attempt().unwrap(), b"in a transaction").claim("notify-a");
            assert!(transaction.commit_async().await?.is_committed());
            Ok("by the loop")
        }
    });
    world.until_empty().await;
    assert_eq!(running.stop().await.first, 1);
    assert_eq!(world.record("a").result(), Some(&b"in a transaction"[..]));
    assert!(world.store.contains("notify-a").unwrap());
}

#[tokio::test]
async fn a_refusal_that_is_the_answer_is_acknowledged_and_not_tried_again() {
    let world = World::new();
    world.send("a");
    world.send("a");
    let running = world
        .start(options(), |_| async { Err::<(), _>(Failure::replayed("no such account", b"404")) });
    world.until_empty().await;
    let counters = running.stop().await;
    assert_eq!((counters.first, counters.duplicates, counters.dead), (1, 1, 0));
    assert_eq!(world.record("a").result(), Some(&b"404"[..]));
}

#[tokio::test]
async fn a_handler_that_panics_or_takes_too_long_has_failed_and_the_queue_goes_on() {
    let world = World::new();
    for id in ["panics", "hangs", "good"] {
        world.send(id);
    }
    let options = options().work_max(Duration::from_millis(150));
    let running = world.start(options, |job: Job| async move {
        match job.id() {
            b"panics" => std::panic::resume_unwind(Box::new("out of cheese")),
            b"hangs" => std::future::pending().await,
            _ => Ok(()),
        }
    });
    world.until_empty().await;
    let counters = running.stop().await;
    assert_eq!((counters.first, counters.dead, counters.retried), (1, 2, 4));
    let reasons: Vec<String> =
        world.broker.dead_letters().into_iter().map(|(_, reason)| reason).collect();
    assert!(reasons.iter().any(|reason| reason.contains("out of cheese")), "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.contains("took longer")), "{reasons:?}");
}

#[tokio::test]
async fn under_hold_an_error_of_unknown_outcome_waits_for_an_operator_and_is_not_acknowledged() {
    let world = World::new();
    let ledger = world.ledger_with(policies().on_lease_end(OnLeaseEnd::Hold));
    world.send("a");
    let work = |_| async { Err::<(), _>(std::io::Error::other("timed out").into()) };
    let running = start(world.broker.connect(), ledger.clone(), options(), work);
    running.until(|now| now.put_off >= 1).await;
    assert_eq!(ledger.get("a").unwrap().unwrap().state, State::Held);
    assert_eq!(world.broker.left(), 1, "acknowledged, although nobody knows whether it is done");
    ledger.settle("a", b"found", "it was done").unwrap();
    world.until_empty().await;
    assert_eq!(running.stop().await.duplicates, 1);
}

#[tokio::test]
async fn an_answer_that_is_too_long_makes_a_dead_letter_and_no_second_effect() {
    let world = World::new();
    let ledger = world.ledger_with(policies().result_bytes_max(4));
    world.send("a");
    world.send("a");
    let effects = Effects::default();
    let made = effects.clone();
    let work = move |job: Job| {
        made.add(&job);
        async { Ok("longer than four") }
    };
    let running = start(world.broker.connect(), ledger, options(), work);
    running.until(|now| now.dead == 2).await;
    world.until_empty().await;
    let counters = running.stop().await;
    assert_eq!((counters.first, counters.dead), (0, 2), "and so is what follows it");
    assert_eq!(effects.all(), ["a"]);
    assert!(world.broker.dead_letters()[0].1.contains("the work was done"));
}

#[tokio::test]
async fn a_message_without_an_id_or_with_one_that_cannot_be_kept_is_a_dead_letter() {
    let world = World::new();
    world.broker.send(Message::without_id("nameless"));
    world.broker.send(Message::new("", "empty"));
    world.broker.send(Message::new(vec![b'x'; 1 << 11], "long"));
    world.send("good");
    let effects = Effects::default();
    let running = world.start(options(), done(&effects));
    world.until_empty().await;
    let counters = running.stop().await;
    assert_eq!((counters.first, counters.dead, counters.without_id), (1, 3, 3));
    assert_eq!(effects.all(), ["good"]);
    let reasons: Vec<String> =
        world.broker.dead_letters().into_iter().map(|(_, reason)| reason).collect();
    assert!(reasons.iter().any(|reason| reason.contains("no id")), "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.contains("2048 bytes")), "{reasons:?}");
}

#[tokio::test]
async fn ids_may_come_from_a_function_of_the_user() {
    let world = World::new();
    // One order, published twice under two ids of the broker.
    for id in ["1", "2"] {
        world.broker.send(Message::new(id, "order-17 of anna"));
    }
    let ids = Ids::of(|message: &Message| {
        message.payload.split(|byte| *byte == b' ').next().map(<[u8]>::to_vec)
    });
    let effects = Effects::default();
    let running = world.start(options().ids(ids), done(&effects));
    world.until_empty().await;
    assert_eq!(running.stop().await.duplicates, 1);
    assert_eq!(effects.all(), ["order-17"]);
}

#[tokio::test]
async fn an_id_function_that_panics_makes_a_dead_letter_and_the_queue_goes_on() {
    let world = World::new();
    for id in ["panics", "good"] {
        world.send(id);
    }
    let ids = Ids::of(|message: &Message| {
        if message.payload == "payload of panics" {
            std::panic::resume_unwind(Box::new("out of cheese"));
        }
        message.id.clone()
    });
    let effects = Effects::default();
    let running = world.start(options().ids(ids), done(&effects));
    world.until_empty().await;
    let counters = running.stop().await;
    assert_eq!((counters.first, counters.dead, counters.without_id), (1, 1, 1));
    assert!(world.broker.dead_letters()[0].1.contains("out of cheese"));
}

#[tokio::test]
async fn another_payload_under_a_known_id_is_a_dead_letter_where_that_is_asked_for() {
    for checks in [false, true] {
        let world = World::new();
        let effects = Effects::default();
        let running = world.start(options().check_payload(checks), done(&effects));
        world.broker.send(Message::new("a", "one"));
        running.until(|now| now.first == 1).await;
        world.broker.send(Message::new("a", "one"));
        world.broker.send(Message::new("a", "two"));
        world.until_empty().await;
        let counters = running.stop().await;
        let expected = if checks { (1, 1) } else { (2, 0) };
        assert_eq!((counters.duplicates, counters.dead), expected);
    }
}

#[tokio::test]
async fn a_stop_waits_for_handlers_and_gives_back_what_has_not_begun() {
    let world = World::new();
    for n in 0..10 {
        world.send(&n.to_string());
    }
    let effects = Effects::default();
    let made = effects.clone();
    let running = world.start(options().workers(2), move |job: Job| {
        let made = made.clone();
        async move {
            sleep(Duration::from_millis(200)).await;
            made.add(&job);
            Ok(())
        }
    });
    running.until(|now| now.working == 2).await;
    let counters = running.stop().await;
    assert_eq!((counters.first, counters.handed_back), (2, 8));
    assert_eq!(effects.all().len(), 2);
    assert_eq!(world.broker.left(), 8);
    for id in (0..10).map(|n| n.to_string()).filter(|id| !effects.all().contains(id)) {
        let record = world.ledger().get(&id).unwrap();
        assert!(record.is_none_or(|record| record.attempts == 0), "{id} was charged an attempt");
    }
}

#[tokio::test]
async fn a_stop_drops_handlers_that_outlast_its_grace_and_counts_the_attempt() {
    let world = World::new();
    world.send("a");
    let options = options().grace(Duration::from_millis(100));
    let running = world.start(options, |_| std::future::pending::<Result<(), Failure>>());
    running.until(|now| now.working == 1).await;
    running.handle.stop();
    let counters = timeout(LATE, running.task).await.expect("it stops").unwrap().unwrap();
    assert_eq!((counters.first, counters.retried), (0, 1));
    assert_eq!(world.broker.left(), 1);
    let record = world.record("a");
    assert!(matches!(record.state, State::Waiting { .. }));
    assert_eq!(record.attempts, 1);
    assert!(record.history[0].reason.contains("stopped"), "{record:?}");
}

#[tokio::test]
async fn the_store_is_free_once_a_loop_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..20 {
        let store = firstseen::Store::open(dir.path().join("seen.db")).expect("is free");
        let broker = firstseen_consumer::testkit::MemoryBroker::new(PATIENCE);
        let ledger = store.ledger("orders").unwrap();
        drop(store);
        broker.send(message("a"));
        let running: Running = start(broker.connect(), ledger, options(), |_| async { Ok(()) });
        running.until(|now| now.first + now.duplicates == 1).await;
        running.stop().await;
    }
}

#[tokio::test]
async fn an_attempt_tells_its_number_and_a_stage_is_not_done_again() {
    let world = World::new();
    world.send("a");
    let charged = Arc::new(AtomicU32::new(0));
    let charges = Arc::clone(&charged);
    let running = world.start(ConsumerOptions::new(), move |job: Job| {
        let charges = Arc::clone(&charges);
        async move {
            let attempt = job.attempt().unwrap();
            let receipt: u32 = attempt
                .stage("charge", || Ok::<_, Failure>(charges.fetch_add(1, Ordering::Relaxed)))?;
            if attempt.number() < 3 {
                return Err(Failure::retry("mail server closed"));
            }
            Ok(Answer::from(format!("receipt {receipt}, attempt {}", attempt.number())))
        }
    });
    world.until_empty().await;
    running.stop().await;
    assert_eq!(charged.load(Ordering::Relaxed), 1);
    assert_eq!(world.record("a").result(), Some(&b"receipt 0, attempt 3"[..]));
}
