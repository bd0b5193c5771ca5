//! Answers that are lost although the server has done what it was asked.

use crate::support::{HOUR, POLICY, START, World, claim, start, url_through};
use firstseen_postgres::PostgresStore;
use firstseen_servers::Proxy;
use firstseen_shared::{
    Begin, Begun, Call, Claim, Dedup, DedupStore, Ending, ErrorKind, LedgerOptions, MoveError,
    SharedLedger, State,
};

/// A store behind a proxy, with a connection that is open, so that the next answer is that of the next call.
async fn behind_proxy(world: &World) -> (Proxy, PostgresStore) {
    let proxy = Proxy::before(world.server.address()).await;
    let store = PostgresStore::open(&url_through(&proxy), world.options().connections_max(1)).await;
    let store = store.unwrap();
    assert!(!store.contains("n", b"nothing").await.unwrap());
    (proxy, store)
}

fn assert_unavailable<T: std::fmt::Debug>(answer: Result<T, firstseen_shared::Error>) {
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_claim_whose_answer_is_lost_is_still_the_callers_own() {
    let world = World::new().await;
    let (proxy, store) = behind_proxy(&world).await;
    let call = Call::new();
    proxy.lose(1);
    assert_unavailable(store.claim("n", b"a", HOUR, call).await);
    assert_eq!(proxy.left_to_lose(), 0);
    // It was made: another caller hears so.
    assert!(claim(&world.store().await, "a").await.is_duplicate());
    assert_eq!(store.claim("n", b"a", HOUR, call).await.unwrap(), Claim::FirstSeen);
    assert!(claim(&store, "a").await.is_duplicate());
}

#[tokio::test]
async fn a_batch_whose_answer_is_lost_is_answered_as_it_was() {
    let world = World::new().await;
    let (proxy, store) = behind_proxy(&world).await;
    let before = claim(&store, "b").await;
    assert_eq!(before, Claim::FirstSeen);
    let (call, ids) = (Call::new(), [&b"a"[..], b"b", b"a", b"c"]);
    proxy.lose(1);
    assert_unavailable(store.claim_batch("n", &ids, HOUR, call).await);
    let claims = store.claim_batch("n", &ids, HOUR, call).await.unwrap();
    let firsts: Vec<bool> = claims.iter().map(|claim| claim.is_first_seen()).collect();
    assert_eq!(firsts, [true, false, false, true]);
}

#[tokio::test]
async fn an_attempt_whose_beginning_is_not_heard_is_the_same_when_it_is_repeated() {
    let world = World::new().await;
    let (proxy, store) = behind_proxy(&world).await;
    let call = Call::new();
    proxy.lose(1);
    assert_unavailable(store.begin("n", b"a", &START, &POLICY, call).await);
    let record = store.record("n", b"a").await.unwrap().unwrap();
    let begun = store.begin("n", b"a", &START, &POLICY, call).await.unwrap();
    assert_eq!(begun, Begun::Started { token: record.token, attempt: 1 });
    let other = store.begin("n", b"a", &START, &POLICY, Call::new()).await.unwrap();
    assert!(matches!(other, Begun::InProgress(_)), "{other:?}");
}

#[tokio::test]
async fn an_end_whose_answer_is_lost_is_over_with_its_record() {
    let world = World::new().await;
    let (proxy, store) = behind_proxy(&world).await;
    let token = start(&store, "a").await;
    let ending = Ending::Completed { result: b"done", is_failure: false, ttl: HOUR };
    proxy.lose(1);
    let lost = store.end("n", b"a", token, &ending, &POLICY).await;
    assert!(matches!(lost, Err(MoveError::Store(error)) if error.kind() == ErrorKind::Unavailable));
    match store.end("n", b"a", token, &ending, &POLICY).await {
        Err(MoveError::Over(record)) => assert_eq!(record.result(), Some(&b"done"[..])),
        other => panic!("{other:?}"),
    }
}

/// Rule 92, for the store: whoever repeats calls does not notice.
#[tokio::test]
async fn who_repeats_calls_hears_what_the_lost_answer_said() {
    let world = World::new().await;
    let (proxy, store) = behind_proxy(&world).await;
    let claims = Dedup::new(store.clone(), "n", HOUR).unwrap();
    proxy.lose(1);
    assert_eq!(claims.claim("a").await.unwrap(), Claim::FirstSeen);
    assert_eq!(proxy.left_to_lose(), 0);

    let ledger = SharedLedger::new(store.clone(), "n", LedgerOptions::new()).unwrap();
    assert!(!store.contains("n", b"nothing").await.unwrap());
    proxy.lose(1);
    let Begin::Started(attempt) = ledger.begin("a", None).await.unwrap() else { panic!() };
    assert_eq!(attempt.number(), 1);
    proxy.lose(1);
    attempt.complete(b"done").await.unwrap();
    assert_eq!(proxy.left_to_lose(), 0);
    let record = ledger.get("a").await.unwrap().unwrap();
    assert!(matches!(record.state, State::Completed { .. }) && record.history.len() == 1);
}
