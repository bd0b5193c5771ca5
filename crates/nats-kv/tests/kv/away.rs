//! Servers that do not answer.

use firstseen_nats_kv::{NatsKvOptions, NatsKvStore};
use firstseen_servers::{Server, nats};
use firstseen_shared::{Call, Claim, DedupStore, Error, ErrorKind, Ttl};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const TTL: Ttl = Ttl::from_millis(600_000);
const BOUND: Duration = Duration::from_millis(300);
const LATE: Duration = Duration::from_secs(60);

async fn store(server: &Server) -> NatsKvStore {
    let options = NatsKvOptions::new().answer_max(BOUND);
    NatsKvStore::connect(&nats::url(server), options).await.unwrap()
}

fn assert_unavailable<T: std::fmt::Debug>(answer: Result<T, Error>) {
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Unavailable);
}

async fn repeated(store: &NatsKvStore, call: Call) -> Claim {
    let end = Instant::now() + LATE;
    loop {
        match store.claim("n", b"a", TTL, call).await {
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
    assert_eq!(store.claim("n", b"old", TTL, Call::new()).await.unwrap(), Claim::FirstSeen);
    let call = Call::new();
    server.freeze();
    let began = Instant::now();
    assert_unavailable(store.claim("n", b"a", TTL, call).await);
    assert_unavailable(store.contains("n", b"old").await);
    assert_unavailable(store.dead_letters("n", None, 9).await);
    assert!(began.elapsed() < BOUND * 3 + Duration::from_secs(1), "{:?}", began.elapsed());
    server.thaw();
    assert_eq!(repeated(&store, call).await, Claim::FirstSeen);
    assert!(store.claim("n", b"a", TTL, Call::new()).await.unwrap().is_duplicate());
    assert!(store.claim("n", b"old", TTL, Call::new()).await.unwrap().is_duplicate());
}

/// The store goes on by itself when the server is back.
#[tokio::test]
async fn a_server_that_is_away_is_unavailable_within_the_bound_and_used_again_after_it() {
    let mut server = nats::start().await;
    let store = store(&server).await;
    server.kill();
    let call = Call::new();
    for _ in 0..3 {
        let began = Instant::now();
        assert_unavailable(store.claim("n", b"a", TTL, call).await);
        assert!(began.elapsed() < BOUND + Duration::from_secs(1), "{:?}", began.elapsed());
    }
    server.restart().await;
    assert_eq!(repeated(&store, call).await, Claim::FirstSeen);
    assert!(repeated(&store, Call::new()).await.is_duplicate());
}
