//! Servers that are killed while claims go on, and replicas that take their place. What was answered is kept outside.
//!
//! `FIRSTSEEN_KILLS` sets how often a server is killed in each test (six times by default), `FIRSTSEEN_KILLS_SEED` when.

use crate::servers::follow_port;
use crate::support::{LATE, TTL, answered, claim, number, open, raw, store};
use firstseen_consumer::testkit::Dice;
use firstseen_servers::{Proxy, Server, redis, valkey};
use firstseen_shared::{
    Begin, Call, Claim, Dedup, DedupStore, ErrorKind, LedgerOptions, SharedLedger, State,
};
use firstseen_valkey::{Durability, ValkeyOptions, ValkeyStore};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

fn kills() -> u64 {
    number("FIRSTSEEN_KILLS", 6)
}

fn dice() -> Dice {
    Dice::new(number("FIRSTSEEN_KILLS_SEED", 1))
}

/// What was answered, by id.
#[derive(Default)]
struct Outside {
    /// How often it was first seen.
    firsts: Mutex<BTreeMap<String, u32>>,
    /// The results that are known to be stored.
    results: Mutex<BTreeMap<String, String>>,
    next: AtomicU64,
    is_over: AtomicBool,
}

/// Each id is claimed by two of these, who each have connections of their own; every fourth is also worked on.
async fn work(store: ValkeyStore, outside: Arc<Outside>) {
    let claims = Dedup::new(store.clone(), "orders", TTL).unwrap().patience(LATE);
    let options = LedgerOptions::new().patience(LATE).attempts_max(1_000);
    let ledger = SharedLedger::new(store, "orders", options).unwrap();
    while !outside.is_over.load(Ordering::Relaxed) {
        let number = outside.next.fetch_add(1, Ordering::Relaxed) / 2;
        let id = format!("order-{number}");
        if claims.claim(&id).await.unwrap().is_first_seen() {
            *outside.firsts.lock().unwrap().entry(id.clone()).or_default() += 1;
        }
        if number.is_multiple_of(4)
            && let Begin::Started(attempt) = ledger.begin(&id, None).await.unwrap()
        {
            let result = format!("result of {}", attempt.token());
            attempt.complete(&result).await.unwrap();
            let before = outside.results.lock().unwrap().insert(id.clone(), result);
            assert_eq!(before, None, "{id} was worked on twice");
        }
    }
}

/// Nothing that was answered is lost when the server syncs its append-only file before each answer.
async fn kill_a_durable_server(mut server: Server, name: &str) {
    let outside = Arc::new(Outside::default());
    let mut tasks = Vec::new();
    let options = || ValkeyOptions::new().answer_max(Duration::from_secs(2));
    for _ in 0..2 {
        let store = answered(|| open(&server, options())).await;
        for _ in 0..4 {
            tasks.push(tokio::spawn(work(store.clone(), Arc::clone(&outside))));
        }
    }
    let mut dice = dice();
    for _ in 0..kills() {
        sleep(Duration::from_millis(50 + dice.below(400))).await;
        server.kill();
        sleep(Duration::from_millis(dice.below(200))).await;
        server.restart().await;
    }
    let before = outside.next.load(Ordering::Relaxed);
    // It goes on after the last kill.
    let goes_on = async {
        while outside.next.load(Ordering::Relaxed) < before + 50 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LATE, goes_on).await.unwrap();
    outside.is_over.store(true, Ordering::Relaxed);
    for task in tasks {
        timeout(LATE, task).await.unwrap().unwrap();
    }

    let store = store(&server).await;
    let firsts = std::mem::take(&mut *outside.firsts.lock().unwrap());
    let twice: Vec<_> = firsts.iter().filter(|(_, count)| **count != 1).collect();
    assert!(twice.is_empty(), "first seen more than once: {twice:?}");
    for number in 0..outside.next.load(Ordering::Relaxed) / 2 {
        let id = format!("order-{number}");
        assert!(firsts.contains_key(&id), "{id} was never first seen");
        let again = store.claim("orders", id.as_bytes(), TTL, Call::new()).await.unwrap();
        assert!(again.is_duplicate(), "{id} was forgotten");
    }
    let results = std::mem::take(&mut *outside.results.lock().unwrap());
    for (id, result) in &results {
        let record = store.record("orders", id.as_bytes()).await.unwrap().unwrap();
        let State::Completed { result: Some(stored), .. } = record.state else {
            panic!("{id}: {:?}", record.state)
        };
        assert_eq!(&stored, result.as_bytes(), "{id}");
    }
    println!(
        "proof | {name}, appendfsync always, the server killed | {} | kills | {} claims and {} results kept, none granted twice",
        kills(),
        firsts.len(),
        results.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_with_appendfsync_always_loses_and_grants_twice_nothing_when_it_is_killed() {
    kill_a_durable_server(redis::start_durable().await, "Redis").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn valkey_with_appendfsync_always_loses_and_grants_twice_nothing_when_it_is_killed() {
    kill_a_durable_server(valkey::start_durable().await, "Valkey").await;
}

/// With `everysec` a killed process loses what was not written while a sync was slow: the last two seconds at most.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_appendfsync_everysec_a_kill_loses_the_last_two_seconds_at_most() {
    let everysec = ["--appendonly", "yes", "--appendfsync", "everysec"];
    let mut server = valkey::start_with(&everysec).await;
    let store = store(&server).await;
    let (mut dice, mut lost, mut all) = (dice(), 0, 0);
    // Each takes longer than what may be lost.
    let rounds = kills().div_ceil(2);
    for round in 0..rounds {
        let (mut claimed, mut last_sent) = (Vec::new(), Instant::now());
        let end = Instant::now() + Duration::from_millis(2_200 + dice.below(1_500));
        while Instant::now() < end {
            let id = format!("{round}-{}", claimed.len());
            last_sent = Instant::now();
            assert_eq!(claim(&store, &id).await, Claim::FirstSeen);
            claimed.push((id, Instant::now()));
        }
        server.restart().await;
        for (id, at) in &claimed {
            if claim(&store, id).await == Claim::FirstSeen {
                lost += 1;
                // How long the server has gone on for certain: on a machine with other work it may stand still before the
                // kill.
                let age = last_sent.saturating_duration_since(*at);
                assert!(age < Duration::from_secs(2), "{id} was lost after {age:?}");
            }
        }
        all += claimed.len();
    }
    println!(
        "proof | Valkey, appendfsync everysec, the server killed | {rounds} | kills | {lost} of {all} claims granted again, all of the last two seconds"
    );
}

/// What a failover does to claims that were answered.
struct Failover {
    /// First seen once more at the replica.
    again: usize,
    /// Of those that were answered while the replica heard nothing.
    unheard: usize,
    answered: usize,
}

/// Claims at a master whose replica stops hearing of it, and then takes its place.
async fn fail_over(master: Server, replica: Server, durability: Durability) -> Failover {
    let (mut master, way) = {
        let way = Proxy::before(master.address()).await;
        (master, way)
    };
    follow_port(&replica, way.port()).await;
    let options = ValkeyOptions::new().durability(durability).wait_max(Duration::from_millis(100));
    let store = open(&master, options).await.unwrap();
    let answered: Arc<Mutex<Vec<(String, bool)>>> = Arc::default();
    let is_unheard = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (0..4)
        .map(|task| {
            let (store, answered) = (store.clone(), Arc::clone(&answered));
            let is_unheard = Arc::clone(&is_unheard);
            tokio::spawn(async move {
                for n in 0.. {
                    let id = format!("{task}-{n}");
                    match store.claim("n", id.as_bytes(), TTL, Call::new()).await {
                        Ok(claim) => {
                            assert_eq!(claim, Claim::FirstSeen);
                            let unheard = is_unheard.load(Ordering::SeqCst);
                            answered.lock().unwrap().push((id, unheard));
                        }
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable),
                    }
                }
            })
        })
        .collect();
    let reaches = async |count: usize| {
        while answered.lock().unwrap().len() < count {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(LATE, reaches(200)).await.unwrap();
    way.stand_still(true);
    is_unheard.store(true, Ordering::SeqCst);
    let heard = answered.lock().unwrap().len();
    if durability == Durability::Server {
        timeout(LATE, reaches(heard + 100)).await.unwrap();
    } else {
        // Nothing is answered while nobody confirms.
        sleep(Duration::from_millis(500)).await;
    }
    master.kill();
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    drop(way);
    let _: String = raw(&replica, &["REPLICAOF", "NO", "ONE"]).await;
    let store = open(&replica, ValkeyOptions::new().answer_max(LATE)).await.unwrap();
    let answered = std::mem::take(&mut *answered.lock().unwrap());
    let (mut again, mut unheard) = (0, 0);
    for (id, was_unheard) in &answered {
        if claim(&store, id).await == Claim::FirstSeen {
            again += 1;
            unheard += usize::from(*was_unheard);
        }
    }
    Failover { again, unheard, answered: answered.len() }
}

async fn pairs() -> [(&'static str, Server, Server); 2] {
    [
        ("Redis", redis::start().await, redis::start().await),
        ("Valkey", valkey::start().await, valkey::start().await),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_grants_again_what_the_replica_had_not_heard_of() {
    for (name, master, replica) in pairs().await {
        let failover = fail_over(master, replica, Durability::Server).await;
        let Failover { again, unheard, answered } = failover;
        assert!(unheard > 0, "the replica has heard of all");
        println!(
            "proof | {name}, a replica takes over, no WAIT | 1 | kill | {again} of {answered} claims granted again, {unheard} of them from when the replica heard nothing"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_grants_nothing_again_that_a_replica_has_confirmed() {
    for (name, master, replica) in pairs().await {
        let failover = fail_over(master, replica, Durability::Replicas(1)).await;
        assert_eq!(failover.again, 0, "of {} claims", failover.answered);
        println!(
            "proof | {name}, a replica takes over, WAIT 1 | 1 | kill | 0 of {} claims granted again",
            failover.answered
        );
    }
}
