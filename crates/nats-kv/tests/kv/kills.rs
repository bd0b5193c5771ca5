//! A server that is killed at random while calls go on. What was answered is kept outside.
//!
//! `FIRSTSEEN_KILLS` sets how often it is killed in each test (six times by default), `FIRSTSEEN_KILLS_SEED` when.

use firstseen_nats_kv::{NatsKvOptions, NatsKvStore};
use firstseen_servers::{Server, nats};
use firstseen_shared::{
    Begun, Call, Claim, DedupStore, Ending, Error, ErrorKind, MoveError, OnLeaseEnd, Policy,
    Record, Start, State, Ttl,
};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const HOUR: Ttl = Ttl::from_millis(3_600_000);
const LATE: Duration = Duration::from_secs(60);
const START: Start<'static> =
    Start { lease: Duration::from_secs(600), worker: "w", fingerprint: None };
const POLICY: Policy =
    Policy { on_lease_end: OnLeaseEnd::Hold, attempts_max: 3, dead_ttl: Ttl::FOREVER };

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33) % limit
    }
}

async fn store(server: &Server) -> NatsKvStore {
    let options = NatsKvOptions::new().answer_max(Duration::from_millis(500));
    let (url, options) = (&nats::url(server), &options);
    answered(|| NatsKvStore::connect(url, options.clone())).await
}

/// Repeats a call until it is answered.
async fn answered<T, Fut: Future<Output = Result<T, Error>>>(call: impl Fn() -> Fut) -> T {
    let end = Instant::now() + LATE;
    loop {
        match call().await {
            Err(error) if error.kind() == ErrorKind::Unavailable && Instant::now() < end => {
                sleep(Duration::from_millis(10)).await;
            }
            answer => return answer.unwrap(),
        }
    }
}

/// Runs four tasks, and kills the server meanwhile. Tasks are told when it is enough.
async fn with_kills<Fut: Future<Output = ()> + Send + 'static>(
    work: impl Fn(NatsKvStore, usize, Arc<AtomicBool>) -> Fut,
) -> (Server, u64) {
    let rounds = number("FIRSTSEEN_KILLS", 6);
    let mut dice = Dice(number("FIRSTSEEN_KILLS_SEED", 1));
    let mut server = nats::start().await;
    let enough = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for task in 0..4 {
        tasks.push(tokio::spawn(work(store(&server).await, task, Arc::clone(&enough))));
    }
    for _ in 0..rounds {
        sleep(Duration::from_millis(100 + dice.below(400))).await;
        server.kill();
        sleep(Duration::from_millis(dice.below(100))).await;
        server.restart().await;
    }
    enough.store(true, Ordering::SeqCst);
    for task in tasks {
        task.await.unwrap();
    }
    server.restart().await;
    (server, rounds)
}

/// Each id is claimed by two tasks, and every seventh is forgotten by the one that was first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_claim_is_lost_or_granted_twice_and_none_comes_back_that_was_forgotten() {
    let firsts: Arc<Mutex<BTreeMap<String, u32>>> = Arc::default();
    let heard = Arc::clone(&firsts);
    let (server, kills) = with_kills(move |store, task, enough| {
        let firsts = Arc::clone(&heard);
        async move {
            for n in 0_u32.. {
                if enough.load(Ordering::SeqCst) {
                    return;
                }
                let id = format!("{}-{n}", task / 2);
                let call = Call::new();
                let claim = answered(|| store.claim("n", id.as_bytes(), HOUR, call)).await;
                if claim.is_first_seen() {
                    *firsts.lock().unwrap().entry(id).or_default() += 1;
                }
                let id = format!("gone-{task}-{n}");
                if n % 7 == 0 {
                    let claim = answered(|| store.claim("n", id.as_bytes(), HOUR, call)).await;
                    assert_eq!(claim, Claim::FirstSeen);
                    answered(|| store.forget("n", id.as_bytes())).await;
                    *firsts.lock().unwrap().entry(id).or_default() += 1;
                }
            }
        }
    })
    .await;
    let store = store(&server).await;
    let firsts = std::mem::take(&mut *firsts.lock().unwrap());
    let twice: Vec<_> = firsts.iter().filter(|(_, count)| **count != 1).collect();
    assert!(twice.is_empty(), "granted twice: {twice:?}");
    let (mut lost, mut back) = (Vec::new(), Vec::new());
    for id in firsts.keys() {
        let claim = answered(|| store.claim("n", id.as_bytes(), HOUR, Call::new())).await;
        if claim.is_first_seen() != id.starts_with("gone") {
            if claim.is_first_seen() { lost.push(id) } else { back.push(id) }
        }
    }
    println!(
        "proof | JetStream, the server is killed (claims) | {kills} | kills | {} ids, {} lost, {} back",
        firsts.len(),
        lost.len(),
        back.len()
    );
    assert!(lost.is_empty() && back.is_empty(), "lost {lost:?}, back {back:?}");
}

/// Each id is begun by two tasks, and completed or buried by the one that was started.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_record_is_started_once_and_its_ending_is_kept() {
    let ended: Arc<Mutex<BTreeMap<String, u32>>> = Arc::default();
    let heard = Arc::clone(&ended);
    let (server, kills) = with_kills(move |store, task, enough| {
        let ended = Arc::clone(&heard);
        async move {
            let mut last = 0;
            for n in 0_u32.. {
                if enough.load(Ordering::SeqCst) {
                    return;
                }
                let id = format!("{}-{n}", task / 2);
                let call = Call::new();
                let begun =
                    answered(|| store.begin("n", id.as_bytes(), &START, &POLICY, call)).await;
                let Begun::Started { token, attempt: 1 } = begun else { continue };
                assert!(token > last, "tokens grow");
                last = token;
                let ending = match n % 5 {
                    0 => Ending::Final { reason: "never" },
                    _ => Ending::Completed { result: id.as_bytes(), is_failure: false, ttl: HOUR },
                };
                answered(|| async {
                    match store.end("n", id.as_bytes(), token, &ending, &POLICY).await {
                        Ok(()) | Err(MoveError::Over(_)) => Ok(()),
                        Err(MoveError::Store(error)) => Err(error),
                        Err(error) => panic!("{id}: {error}"),
                    }
                })
                .await;
                *ended.lock().unwrap().entry(id).or_default() += 1;
            }
        }
    })
    .await;
    let store = store(&server).await;
    let ended = std::mem::take(&mut *ended.lock().unwrap());
    let mut letters = Vec::new();
    for (id, count) in &ended {
        assert_eq!(*count, 1, "{id} was started twice");
        let record: Record =
            answered(|| store.record("n", id.as_bytes())).await.expect("it is kept");
        match &record.state {
            State::Dead { .. } => letters.push(id.as_bytes().to_vec()),
            State::Completed { result, .. } => assert_eq!(result.as_deref(), Some(id.as_bytes())),
            other => panic!("{id}: {other:?}"),
        }
    }
    letters.sort_unstable();
    println!(
        "proof | JetStream, the server is killed (records) | {kills} | kills | {} ids started once, {} dead letters",
        ended.len(),
        letters.len()
    );
    let listed = answered(|| async {
        let options = NatsKvOptions::new().answer_max(LATE);
        let patient = NatsKvStore::connect(&nats::url(&server), options).await?;
        patient.dead_letters("n", None, usize::MAX).await
    });
    assert_eq!(listed.await, letters);
}
