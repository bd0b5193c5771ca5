//! Answers that are lost or late, scripts that are gone, and servers that are away.

use crate::support::{
    DONE, POLICY, START, TTL, answered, assert_unavailable_within, both, both_durable, claim, kind,
    open, raw, started, store, token_of,
};
use firstseen_servers::{Proxy, Server, redis};
use firstseen_shared::{
    Begun, Call, Claim, Dedup, DedupStore, Ending, ErrorKind, MoveError, Record, State,
};
use firstseen_valkey::{ValkeyOptions, ValkeyStore};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::timeout;

/// A store whose scripts the server has: what is lost is the answer of a call that was made.
async fn through_proxy(server: &Server) -> (Proxy, ValkeyStore) {
    let proxy = Proxy::before(server.address()).await;
    let store =
        ValkeyStore::connect(&format!("redis://{}/", proxy.address()), ValkeyOptions::new())
            .await
            .unwrap();
    let _ = store.claim("warm", b"w", TTL, Call::new()).await.unwrap();
    let begun = store.begin("warm", b"w", &START, &POLICY, Call::new()).await.unwrap();
    store.end("warm", b"w", token_of(&begun), &DONE, &POLICY).await.unwrap();
    (proxy, store)
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_first_seen_when_it_is_repeated() {
    for server in both().await {
        let (proxy, store) = through_proxy(&server).await;
        let call = Call::new();
        proxy.lose(1);
        let ids: [&[u8]; 3] = [b"a", b"b", b"a"];
        assert_eq!(kind(store.claim_batch("n", &ids, TTL, call).await), ErrorKind::Unavailable);
        assert_eq!(proxy.left_to_lose(), 0);
        // It was made all the same.
        assert!(claim(&store, "a").await.is_duplicate());
        let claims = store.claim_batch("n", &ids, TTL, call).await.unwrap();
        assert_eq!(claims[..2], [Claim::FirstSeen; 2]);
        assert!(claims[2].is_duplicate());
        assert_eq!(store.stats("n").await.unwrap().claims, Some(2));
    }
}

#[tokio::test]
async fn a_begin_whose_answer_was_lost_is_the_same_attempt_when_it_is_repeated() {
    for server in both().await {
        let (proxy, store) = through_proxy(&server).await;
        let call = Call::new();
        proxy.lose(1);
        let begun = store.begin("n", b"a", &START, &POLICY, call).await;
        assert_eq!(kind(begun), ErrorKind::Unavailable);
        assert_eq!(proxy.left_to_lose(), 0);
        let other = store.begin("n", b"a", &START, &POLICY, Call::new()).await.unwrap();
        assert!(matches!(other, Begun::InProgress(_)));
        let again = store.begin("n", b"a", &START, &POLICY, call).await.unwrap();
        assert!(matches!(again, Begun::Started { attempt: 1, .. }));
        let once_more = store.begin("n", b"a", &START, &POLICY, call).await.unwrap();
        assert_eq!(again, once_more);
        store.end("n", b"a", token_of(&again), &DONE, &POLICY).await.unwrap();
        // The attempt is over, and so is what its call is told.
        let begun = store.begin("n", b"a", &START, &POLICY, call).await.unwrap();
        assert!(matches!(begun, Begun::Completed(_)));
    }
}

#[tokio::test]
async fn an_end_whose_answer_was_lost_is_over_when_it_is_repeated() {
    for server in both().await {
        let (proxy, store) = through_proxy(&server).await;
        for (n, ending) in [
            DONE,
            Ending::Failed { retry_after: Duration::ZERO, reason: "no" },
            Ending::Final { reason: "never" },
            Ending::Held { reason: "who knows" },
            Ending::Released,
        ]
        .into_iter()
        .enumerate()
        {
            let id = [n as u8];
            let token = started(&store, &id).await;
            proxy.lose(1);
            let ended = store.end("n", &id, token, &ending, &POLICY).await;
            let Err(MoveError::Store(error)) = ended else { panic!("{ended:?}") };
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            assert_eq!(proxy.left_to_lose(), 0);
            let ended = store.end("n", &id, token, &ending, &POLICY).await;
            let Err(MoveError::Over(record)) = ended else { panic!("{ended:?}") };
            assert_eq!((record.token, record.history.len()), (token, 1));
            let now = store.record("n", &id).await.unwrap().unwrap();
            // Read later, and otherwise the same.
            assert_eq!(Record { read: now.read, ..*record }, now);
        }
    }
}

/// One answer of eleven is lost, and with it the connection and all that is under way on it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_lost_answers_each_claim_is_first_seen_once() {
    for server in both().await {
        let (proxy, store) = through_proxy(&server).await;
        proxy.lose_one_of(11);
        let orders = Dedup::new(store.clone(), "orders", TTL).unwrap();
        let firsts: Arc<Mutex<Vec<String>>> = Arc::default();
        let tasks: Vec<_> = (0..4)
            .map(|task| {
                let (orders, firsts) = (orders.clone(), Arc::clone(&firsts));
                tokio::spawn(async move {
                    for n in 0..100 {
                        // Each id is claimed by two tasks.
                        let id = format!("{}-{n}", task / 2);
                        if orders.claim(&id).await.unwrap().is_first_seen() {
                            firsts.lock().unwrap().push(id);
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let mut firsts = std::mem::take(&mut *firsts.lock().unwrap());
        assert_eq!(firsts.len(), 200);
        firsts.sort_unstable();
        firsts.dedup();
        assert_eq!(firsts.len(), 200);
        proxy.lose_one_of(0);
        assert_eq!(store.stats("orders").await.unwrap().claims, Some(200));
    }
}

/// Scripts are kept by the server until it is told otherwise; each call sends its own along then.
#[tokio::test]
async fn scripts_that_the_server_has_forgotten_are_sent_again() {
    for server in both().await {
        let store = store(&server).await;
        for round in 0..2_u64 {
            let id = &[round as u8][..];
            let flush = async || {
                let _: String = raw(&server, &["SCRIPT", "FLUSH"]).await;
            };
            flush().await;
            let many: Vec<String> = (0..100).map(|n| format!("{round}-{n}")).collect();
            let ids: Vec<&[u8]> = many.iter().map(String::as_bytes).collect();
            let claims = store.claim_batch("n", &ids, TTL, Call::new()).await.unwrap();
            assert!(claims.into_iter().all(Claim::is_first_seen));
            flush().await;
            assert!(store.contains("n", ids[0]).await.unwrap());
            flush().await;
            assert!(store.forget("n", ids[0]).await.unwrap());
            flush().await;
            let token = started(&store, id).await;
            flush().await;
            store.renew("n", id, token, START.lease).await.unwrap();
            flush().await;
            store.end("n", id, token, &Ending::Held { reason: "" }, &POLICY).await.unwrap();
            flush().await;
            assert_eq!(store.record("n", id).await.unwrap().unwrap().state, State::Held);
            flush().await;
            assert!(store.redrive("n", id).await.unwrap());
            flush().await;
            assert!(!store.settle("n", id, b"", TTL).await.unwrap());
            flush().await;
            assert_eq!(store.dead_letters("n", None, 9).await.unwrap().len(), 0);
            flush().await;
            assert_eq!(store.stats("n").await.unwrap().claims, Some(99 * (round + 1)));
            flush().await;
            assert!(store.forget_record("n", id).await.unwrap());
        }
    }
}

/// The end of a connection is heard before a call is sent on it, so nobody has to repeat anything.
#[tokio::test]
async fn a_server_that_was_restarted_between_two_calls_is_connected_to_again() {
    for mut server in both_durable().await {
        let store = store(&server).await;
        let call = Call::new();
        assert_eq!(store.claim("n", b"a", TTL, call).await.unwrap(), Claim::FirstSeen);
        let token = started(&store, b"a").await;
        for _ in 0..3 {
            server.restart().await;
            assert!(claim(&store, "a").await.is_duplicate());
            assert_eq!(store.claim("n", b"a", TTL, call).await.unwrap(), Claim::FirstSeen);
            server.restart().await;
            assert!(!store.forget("n", b"unknown").await.unwrap());
            store.renew("n", b"a", token, START.lease).await.unwrap();
        }
        // Rule 28: tokens grow over restarts.
        assert!(store.forget_record("n", b"a").await.unwrap());
        server.restart().await;
        assert!(started(&store, b"a").await > token);
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_unavailable_within_the_bound() {
    for mut server in both_durable().await {
        let bound = Duration::from_millis(700);
        let options = ValkeyOptions::new().answer_max(bound);
        let store = answered(|| open(&server, options.clone())).await;
        let claim = || store.claim("n", b"a", TTL, Call::new());
        let _ = answered(claim).await;
        server.kill();
        for _ in 0..3 {
            assert_unavailable_within(bound, claim).await;
        }
        assert_eq!(
            kind(open(&server, ValkeyOptions::new().answer_max(bound)).await),
            ErrorKind::Unavailable
        );
        server.restart().await;
        assert!(answered(claim).await.is_duplicate());
    }
}

/// Rule 9: a store that does not answer starts no work, and grants nothing.
#[tokio::test]
async fn a_frozen_server_is_unavailable_within_the_bound_and_answers_rightly_after_it() {
    for server in both().await {
        let bound = Duration::from_millis(300);
        let options = ValkeyOptions::new().answer_max(bound);
        let store = answered(|| open(&server, options.clone())).await;
        let claim = |id: &'static [u8], call| store.claim("n", id, TTL, call);
        let old = Call::new();
        let _ = answered(|| claim(b"old", old)).await;
        let call = Call::new();
        let begin = || store.begin("n", b"a", &START, &POLICY, call);
        server.freeze();
        assert_unavailable_within(bound, || claim(b"a", call)).await;
        assert_unavailable_within(bound, begin).await;
        assert_unavailable_within(bound, || store.contains("n", b"old")).await;
        server.thaw();
        // What was sent first is done first, or not at all: both ways the call is first.
        assert_eq!(answered(|| claim(b"a", call)).await, Claim::FirstSeen);
        assert!(answered(|| claim(b"a", Call::new())).await.is_duplicate());
        assert!(answered(|| claim(b"old", Call::new())).await.is_duplicate());
        let begun = answered(begin).await;
        assert!(matches!(begun, Begun::Started { attempt: 1, .. }), "{begun:?}");
    }
}

/// A server that reads its files answers LOADING.
#[tokio::test]
async fn a_server_that_reads_its_files_is_waited_for() {
    let mut server = redis::start_with(&[
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
        "--key-load-delay",
        "2000",
        "--loading-process-events-interval-bytes",
        "1024",
    ])
    .await;
    let store = open(&server, ValkeyOptions::new().answer_max(Duration::from_secs(30))).await;
    let store = store.unwrap();
    let names: Vec<String> = (0..1_000).map(|n| format!("{n}")).collect();
    let ids: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
    let _ = store.claim_batch("n", &ids, TTL, Call::new()).await.unwrap();
    server.kill();
    // The end of the connection is heard.
    let _ = timeout(Duration::from_millis(100), store.contains("n", b"7")).await;
    let claiming = tokio::spawn({
        let store = store.clone();
        async move { claim(&store, "7").await }
    });
    server.restart().await;
    assert!(claiming.await.unwrap().is_duplicate());
}
