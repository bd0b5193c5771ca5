//! Rules 90 and 92, and what is this adapter's own: whose an entry is, and what it is known by.

use crate::queue::{
    GROUP, Kind, LATE, Queue, Running, give_to_a_call_that_is_given_up, take, texts, want,
};
use firstseen_consumer::testkit::{Faults, Faulty, Fixture};
use firstseen_consumer::{Failure, Job, Source};
use firstseen_redis::{RedisError, RedisIds, RedisOptions, RedisPayload, RedisSource, read_fields};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::time::Instant;

on_both!(
    rule_90_a_dead_consumers_entries_are_claimed_by_another_and_the_claim_decides,
    rule_92_a_duplicate_is_acknowledged_and_confirmed,
    what_a_named_consumer_had_comes_at_once_when_it_starts_again,
    what_is_worked_on_stays_and_no_delivery_is_counted,
    what_another_has_claimed_is_not_taken_back_by_a_late_word,
    a_call_that_is_given_up_loses_nothing,
    a_stop_gives_back_what_a_given_up_call_had_taken,
    what_lay_here_for_long_and_was_claimed_by_another_is_not_handed_out,
    an_entry_without_an_id_or_payload_is_a_dead_letter,
    ids_by_entry_are_the_same_at_every_delivery_and_in_every_group,
    a_stream_that_is_made_anew_has_other_ids_by_entry,
    a_whole_entry_can_be_the_payload,
    large_entries_come_few_at_a_time,
);

/// The first process has made one of two effects and its record, and dies before it acknowledges either.
async fn rule_90_a_dead_consumers_entries_are_claimed_by_another_and_the_claim_decides(kind: Kind) {
    in_time(async |min_idle| rule_90(kind, min_idle).await).await;
}

async fn rule_90(kind: Kind, min_idle: Duration) -> Result<(), &'static str> {
    let queue = Queue::alone(kind, RedisOptions::new().min_idle(min_idle)).await;
    let done = queue.add("done").await;
    let dir = tempfile::tempdir().unwrap();
    let effects = Arc::new(AtomicU32::new(0));
    let work = |effects: Arc<AtomicU32>| {
        move |_: Job| {
            effects.fetch_add(1, Ordering::Relaxed);
            async { Ok(()) }
        }
    };
    let no_answer = Faults { lost: 100, ..Faults::default() };
    let running = Running::start(
        Faulty::new(queue.source().await, no_answer, 0),
        dir.path(),
        work(Arc::clone(&effects)),
    );
    running.until("it is done", |now| now.first == 1).await;
    running.stop().await;
    let dead = queue.source().await;
    let begun = queue.add("begun").await;
    let began = Instant::now();
    let taken = take(&dead, 1, LATE).await;
    if texts(&taken) == ["done"] {
        return Err("the first entry was idle for long enough to be claimed");
    }
    assert_eq!(texts(&taken), ["begun"]);
    drop((taken, dead));
    let owner =
        async |id: &str| queue.pending_of(id).await.map(|(consumer, _, count)| (consumer, count));
    assert_ne!(owner(&done).await, owner(&begun).await, "each process is another consumer");

    let source = queue.source().await;
    let watch = source.watch();
    let running = Running::start(source, dir.path(), work(Arc::clone(&effects)));
    running
        .until("both are answered", |now| {
            now.first == 1 && now.duplicates > 0 && now.in_flight == 0
        })
        .await;
    assert!(began.elapsed() >= min_idle, "it was claimed from one that may be alive");
    running.stop().await;
    assert_eq!(effects.load(Ordering::Relaxed), 2, "each effect is made once");
    assert_eq!(queue.pending().await, 0);
    assert!(watch.counters().claimed >= 2);
    Ok(())
}

/// Does a test with a min-idle time, and with a longer one where it says that it was not in time: on a machine with other
/// work an entry may be idle for long though somebody is on it.
async fn in_time(test: impl AsyncFn(Duration) -> Result<(), &'static str>) {
    let mut all = Vec::new();
    for min_idle in [600, 3_000, 15_000].map(Duration::from_millis) {
        match test(min_idle).await {
            Ok(()) => return,
            Err(why) => all.push(why),
        }
    }
    panic!("{all:?}");
}

async fn rule_92_a_duplicate_is_acknowledged_and_confirmed(kind: Kind) {
    let queue = Queue::alone(kind, RedisOptions::new()).await;
    let id = queue.add("order-17").await;
    let source = queue.source().await;
    let taken = take(&source, 1, LATE).await;
    assert_eq!(queue.pending().await, 1);
    source.acknowledge(&taken[0].token).await.unwrap();
    assert_eq!(queue.pending_of(&id).await, None, "it returned before the server knew");
    // Its answer may have been lost.
    source.acknowledge(&taken[0].token).await.unwrap();
}

async fn what_a_named_consumer_had_comes_at_once_when_it_starts_again(kind: Kind) {
    // So long that nothing comes by time.
    let options = RedisOptions::new().min_idle(LATE * 10);
    let queue = Queue::alone(kind, options.clone()).await;
    for n in 0..300 {
        queue.add(&format!("{n:03}")).await;
    }
    let named = options.clone().consumer("worker-1");
    let dead = queue.open(named.clone()).await;
    let taken = take(&dead, 299, LATE).await;
    assert_eq!(taken.len(), 299);
    drop((taken, dead));
    let other = queue.source().await;
    let taken = take(&other, 1, LATE).await;
    assert_eq!(texts(&taken), ["299"], "another name has only what is new");
    queue.add("300").await;
    let again = queue.open(named).await;
    let taken = take(&again, 300, LATE).await;
    let mut expected: Vec<String> = (0..299).map(|n| format!("{n:03}")).collect();
    expected.push("300".to_owned());
    assert_eq!(
        texts(&taken),
        expected,
        "first what was pending, in its order, and then what is new"
    );
    let counts: Vec<_> = taken.iter().map(|delivery| delivery.message.deliveries).collect();
    assert_eq!((counts[0], counts[299]), (Some(2), Some(1)));
    for delivery in &taken {
        again.acknowledge(&delivery.token).await.unwrap();
    }
    assert_eq!(queue.pending().await, 1, "that of the other");
}

async fn what_is_worked_on_stays_and_no_delivery_is_counted(kind: Kind) {
    in_time(async |min_idle| worked_on(kind, min_idle).await).await;
}

async fn worked_on(kind: Kind, min_idle: Duration) -> Result<(), &'static str> {
    let queue = Queue::alone(kind, RedisOptions::new().min_idle(min_idle)).await;
    let id = queue.add("order-17").await;
    let (source, other) = (queue.source().await, queue.source().await);
    let taken = take(&source, 1, LATE).await;
    for _ in 0..9 {
        if !take(&other, 1, min_idle / 3).await.is_empty() {
            return Err("it was claimed, although somebody was on it");
        }
        source.working(&taken[0].token).await.unwrap();
    }
    let (consumer, idle, count) = queue.pending_of(&id).await.unwrap();
    assert_eq!(consumer, source.consumer());
    assert_eq!(count, 1, "a word is no delivery");
    if idle >= min_idle {
        return Err("it was idle for too long, although somebody was on it");
    }
    Ok(())
}

async fn what_another_has_claimed_is_not_taken_back_by_a_late_word(kind: Kind) {
    let min_idle = Duration::from_millis(300);
    let queue = Queue::alone(kind, RedisOptions::new().min_idle(min_idle)).await;
    let id = queue.add("order-17").await;
    let late = queue.source().await;
    let of_late = take(&late, 1, LATE).await;
    let other = queue.source().await;
    let of_other = take(&other, 1, LATE).await;
    assert_eq!(of_other[0].message.deliveries, Some(2));
    let refused = late.working(&of_late[0].token).await.unwrap_err();
    assert!(matches!(refused, RedisError::Taken { .. }), "{refused}");
    let refused = late.retry_in(&of_late[0].token, Duration::ZERO).await.unwrap_err();
    assert!(matches!(refused, RedisError::Taken { .. }), "{refused}");
    assert_eq!(queue.pending_of(&id).await.unwrap().0, other.consumer());
    // But what is done is done, whoever has it.
    late.acknowledge(&of_late[0].token).await.unwrap();
    assert_eq!(queue.pending().await, 0);
    other.working(&of_other[0].token).await.unwrap();
    other.acknowledge(&of_other[0].token).await.unwrap();
}

async fn a_call_that_is_given_up_loses_nothing(kind: Kind) {
    for _ in 0..10 {
        let queue = Queue::alone(kind, RedisOptions::new().min_idle(LATE * 10)).await;
        let source = queue.source().await;
        if give_to_a_call_that_is_given_up(&source, &queue).await.is_some() {
            assert_eq!(texts(&take(&source, 1, LATE).await), ["order-17"]);
            return;
        }
    }
    panic!("{HAD_ENDED}");
}

const HAD_ENDED: &str = "the call had ended before there was an entry, each time";

async fn a_stop_gives_back_what_a_given_up_call_had_taken(kind: Kind) {
    for _ in 0..10 {
        let queue = Queue::alone(kind, RedisOptions::new().min_idle(LATE * 10)).await;
        let source = queue.source().await;
        if give_to_a_call_that_is_given_up(&source, &queue).await.is_none() {
            continue;
        }
        source.stop().await.unwrap();
        let taken = source.next(want(1, Duration::from_millis(100))).await.unwrap();
        assert_eq!(texts(&taken), [""; 0], "something came after the stop");
        let other = queue.source().await;
        // By time it would not come before.
        assert_eq!(texts(&take(&other, 1, LATE).await), ["order-17"]);
        return;
    }
    panic!("{HAD_ENDED}");
}

async fn what_lay_here_for_long_and_was_claimed_by_another_is_not_handed_out(kind: Kind) {
    in_time(async |min_idle| claimed_by_another(kind, min_idle).await).await;
}

async fn claimed_by_another(kind: Kind, min_idle: Duration) -> Result<(), &'static str> {
    let queue = Queue::alone(kind, RedisOptions::new().min_idle(min_idle)).await;
    let slow = queue.source().await;
    if give_to_a_call_that_is_given_up(&slow, &queue).await.is_none() {
        return Err(HAD_ENDED);
    }
    // The slow one has it, and asks for nothing.
    let other = queue.source().await;
    let taken = take(&other, 1, LATE).await;
    assert_eq!(texts(&taken), ["order-17"]);
    for _ in 0..5 {
        if !slow.next(want(1, min_idle / 4)).await.unwrap().is_empty() {
            return Err("two have it");
        }
        other.working(&taken[0].token).await.unwrap();
    }
    Ok(())
}

async fn an_entry_without_an_id_or_payload_is_a_dead_letter(kind: Kind) {
    let queue = Queue::alone(kind, RedisOptions::new()).await;
    queue.ask::<String>(&["XADD", &queue.name, "*", "payload", "nameless"]).await;
    queue.ask::<String>(&["XADD", &queue.name, "*", "id", "order-17", "other", "x"]).await;
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(queue.source().await, dir.path(), |_| async { Ok(()) });
    running.until("both are dead", |now| now.dead == 2).await;
    let counters = running.stop().await;
    assert_eq!((counters.without_id, counters.first), (2, 0));
    assert_eq!(queue.dead().await, ["nameless"]);
    assert_eq!(queue.dead_fields("other").await, ["x"], "all of it is kept");
    assert_eq!(queue.pending().await, 0);
}

async fn ids_by_entry_are_the_same_at_every_delivery_and_in_every_group(kind: Kind) {
    let options = RedisOptions::new().ids(RedisIds::Entry);
    let queue = Queue::alone(kind, options.clone()).await;
    let place = queue.add("order-17").await;
    let source = queue.source().await;
    let taken = take(&source, 1, LATE).await;
    let id = taken[0].message.id.clone().unwrap();
    assert!(id.starts_with(queue.name.as_bytes()) && id.ends_with(place.as_bytes()), "{id:?}");
    source.retry_in(&taken[0].token, Duration::ZERO).await.unwrap();
    let again = take(&source, 1, LATE).await;
    assert_eq!(again[0].message.id.as_ref(), Some(&id));
    let other = RedisSource::connect(queue.url(), &queue.name, "mail", options).await.unwrap();
    let taken = take(&other, 1, LATE).await;
    assert_eq!(taken[0].message.id.as_ref(), Some(&id));
    // The group that marks the stream lags behind nothing.
    let groups: Vec<redis::Value> = queue.ask(&["XINFO", "GROUPS", &queue.name]).await;
    assert!(format!("{groups:?}").contains("firstseen-stream-"));
    queue.ask::<u32>(&["XGROUP", "DESTROY", &queue.name, GROUP]).await;
    let taken = take(&source, 1, LATE).await;
    assert_eq!(taken[0].message.id.as_ref(), Some(&id), "the stream is the same");
}

async fn a_stream_that_is_made_anew_has_other_ids_by_entry(kind: Kind) {
    let queue = Queue::alone(kind, RedisOptions::new().ids(RedisIds::Entry)).await;
    let add = ["XADD", &queue.name, "7-1", "payload", "x"];
    queue.ask::<String>(&add).await;
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(queue.source().await, dir.path(), |_| async { Ok(()) });
    running.until("it is done", |now| now.first == 1 && now.in_flight == 0).await;
    // In one step, so that the loop sees neither stream without the other; and with its group.
    let anew = r"redis.call('DEL', KEYS[1])
        redis.call('XADD', KEYS[1], '7-1', 'payload', 'y')
        redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0')
        return 1";
    queue.ask::<u32>(&["EVAL", anew, "1", &queue.name, GROUP]).await;
    running.until("the other is done, too", |now| now.first == 2).await;
    let counters = running.stop().await;
    assert_eq!(counters.duplicates, 0, "7-1 of the second stream was taken for that of the first");
}

async fn a_whole_entry_can_be_the_payload(kind: Kind) {
    let options = RedisOptions::new().payload(RedisPayload::Entry);
    let queue = Queue::alone(kind, options).await;
    queue.ask::<String>(&["XADD", &queue.name, "*", "id", "order-17", "euros", "10"]).await;
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(queue.source().await, dir.path(), |job: Job| async move {
        let fields = read_fields(job.payload()).ok_or_else(|| Failure::last("no entry"))?;
        let euros = fields.iter().find(|(name, _)| name == "euros");
        assert_eq!(euros.unwrap().1, "10");
        Ok(())
    });
    running.until("it is done", |now| now.first == 1).await;
    running.stop().await;
}

async fn large_entries_come_few_at_a_time(kind: Kind) {
    let queue = Queue::alone(kind, RedisOptions::new()).await;
    let large = "x".repeat(100_000);
    for n in 0..20 {
        let words = ["XADD", &queue.name, "*", "id", &n.to_string(), "payload", &large];
        queue.ask::<String>(&words).await;
    }
    let source = queue.source().await;
    let mut want = want(20, LATE);
    want.bytes = 250_000;
    let mut seen = 0;
    while seen < 20 {
        let taken = source.next(want).await.unwrap();
        assert!((1..=3).contains(&taken.len()), "{} came at once", taken.len());
        seen += taken.len();
    }
    assert_eq!(queue.pending().await, 20);
}
