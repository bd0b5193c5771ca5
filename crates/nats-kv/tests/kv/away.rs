//! Servers that do not answer.

use firstseen_nats_kv::{NatsKvOptions, NatsKvStore};
use firstseen_servers::{Server, nats};
use firstseen_shared::{Call, Claim, DedupStore, Error, ErrorKind, Ttl};
use std::fmt::Debug;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const TTL: Ttl = Ttl::from_millis(600_000);
const BOUND: Duration = Duration::from_millis(300);
const LATE: Duration = Duration::from_secs(60);

async fn store(server: &Server) -> NatsKvStore {
    let options = NatsKvOptions::new().answer_max(BOUND);
    let (url, options) = (&nats::url(server), &options);
    answered(|| NatsKvStore::connect(url, options.clone())).await
}

/// The call ends soon. On a machine with other work it does not each time.
async fn assert_unavailable_soon<T: Debug, Fut: Future<Output = Result<T, Error>>>(
    call: impl Fn() -> Fut,
) {
    let mut all = Vec::new();
    while all.len() < 10 {
        let began = Instant::now();
        assert_eq!(call().await.unwrap_err().kind(), ErrorKind::Unavailable);
        let took = began.elapsed();
        if took < BOUND + Duration::from_secs(1) {
            return;
        }
        all.push(took);
    }
    panic!("not within the bound: {all:?}");
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

/// Rule 9: a store that does not answer grants nothing. What was sent is done later or not at all: both ways the call is first.
#[tokio::test]
async fn a_frozen_server_is_unavailable_within_the_bound_and_the_call_is_still_first_after_it() {
    let server = nats::start().await;
    let store = store(&server).await;
    let claim = |id: &'static [u8], call| store.claim("n", id, TTL, call);
    let old = Call::new();
    assert_eq!(answered(|| claim(b"old", old)).await, Claim::FirstSeen);
    let call = Call::new();
    server.freeze();
    assert_unavailable_soon(|| claim(b"a", call)).await;
    assert_unavailable_soon(|| store.contains("n", b"old")).await;
    assert_unavailable_soon(|| store.dead_letters("n", None, 9)).await;
    server.thaw();
    assert_eq!(answered(|| claim(b"a", call)).await, Claim::FirstSeen);
    assert!(answered(|| claim(b"a", Call::new())).await.is_duplicate());
    assert!(answered(|| claim(b"old", Call::new())).await.is_duplicate());
}

/// The store goes on by itself when the server is back.
#[tokio::test]
async fn a_server_that_is_away_is_unavailable_within_the_bound_and_used_again_after_it() {
    let mut server = nats::start().await;
    let store = store(&server).await;
    let claim = |call| store.claim("n", b"a", TTL, call);
    server.kill();
    let call = Call::new();
    for _ in 0..3 {
        assert_unavailable_soon(|| claim(call)).await;
    }
    server.restart().await;
    assert_eq!(answered(|| claim(call)).await, Claim::FirstSeen);
    assert!(answered(|| claim(Call::new())).await.is_duplicate());
}
