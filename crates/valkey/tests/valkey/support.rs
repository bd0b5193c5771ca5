//! Servers and stores for the tests.

use ::redis::AsyncConnectionConfig;
use firstseen_servers::{Server, redis, valkey};
use firstseen_shared::{
    Begun, Call, Claim, DedupStore, Ending, Error, ErrorKind, OnLeaseEnd, Policy, Start, Ttl,
};
use firstseen_valkey::{ValkeyOptions, ValkeyStore};
use std::fmt::Debug;
use std::time::Duration;
use tokio::time::{Instant, sleep};

pub(crate) const TTL: Ttl = Ttl::from_millis(600_000);
pub(crate) const POLICY: Policy =
    Policy { on_lease_end: OnLeaseEnd::Retry, attempts_max: 3, dead_ttl: Ttl::FOREVER };
pub(crate) const START: Start<'static> =
    Start { lease: Duration::from_secs(60), worker: "w", fingerprint: None };
pub(crate) const DONE: Ending<'static> =
    Ending::Completed { result: b"done", is_failure: false, ttl: TTL };

/// How long a test waits for what must come.
pub(crate) const LATE: Duration = Duration::from_secs(60);

/// Both servers, each started.
pub(crate) async fn both() -> [Server; 2] {
    [redis::start().await, valkey::start().await]
}

/// Both servers, set up to lose nothing that they have answered.
pub(crate) async fn both_durable() -> [Server; 2] {
    [redis::start_durable().await, valkey::start_durable().await]
}

/// A store that waits as long as anything may take here.
pub(crate) async fn store(server: &Server) -> ValkeyStore {
    open(server, ValkeyOptions::new().answer_max(LATE)).await.unwrap()
}

/// Repeats a call until it is answered, where the store has little time for that: on a machine with other work it may not
/// be enough.
pub(crate) async fn answered<T, Fut: Future<Output = Result<T, Error>>>(
    call: impl Fn() -> Fut,
) -> T {
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

/// The call is unavailable, and says so within a second after the bound. On a machine with other work it does not each
/// time.
pub(crate) async fn assert_unavailable_within<T: Debug, Fut: Future<Output = Result<T, Error>>>(
    bound: Duration,
    call: impl Fn() -> Fut,
) {
    let mut all = Vec::new();
    while all.len() < 10 {
        let began = Instant::now();
        assert_eq!(kind(call().await), ErrorKind::Unavailable);
        let took = began.elapsed();
        if took < bound + Duration::from_secs(1) {
            return;
        }
        all.push(took);
    }
    panic!("not within {bound:?}: {all:?}");
}

pub(crate) async fn open(server: &Server, options: ValkeyOptions) -> Result<ValkeyStore, Error> {
    ValkeyStore::connect(&redis::url(server), options).await
}

/// Asks a server as any other client does.
pub(crate) async fn raw<T: ::redis::FromRedisValue>(server: &Server, words: &[&str]) -> T {
    ask(&redis::url(server), words).await
}

pub(crate) async fn ask<T: ::redis::FromRedisValue>(url: &str, words: &[&str]) -> T {
    let client = ::redis::Client::open(url).unwrap();
    // Without limits of time, as it does not ask again.
    let config =
        AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    let connection = client.get_multiplexed_async_connection_with_config(&config).await;
    let mut connection = connection.unwrap();
    let mut command = ::redis::Cmd::new();
    command.arg(words);
    command.query_async(&mut connection).await.unwrap()
}

/// A new call claims an id.
pub(crate) async fn claim(store: &ValkeyStore, id: impl AsRef<[u8]>) -> Claim {
    store.claim("n", id.as_ref(), TTL, Call::new()).await.unwrap()
}

/// Begins an attempt, which starts, and returns its token.
pub(crate) async fn started(store: &ValkeyStore, id: &[u8]) -> u64 {
    token_of(&store.begin("n", id, &START, &POLICY, Call::new()).await.unwrap())
}

pub(crate) fn token_of(begun: &Begun) -> u64 {
    match begun {
        Begun::Started { token, .. } => *token,
        other => panic!("not started: {other:?}"),
    }
}

pub(crate) fn kind<T: Debug>(answer: Result<T, Error>) -> ErrorKind {
    answer.unwrap_err().kind()
}

pub(crate) fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}
