//! Claims and ends of attempts in a transaction of the caller: effect and claim are one commit.

use crate::support::{
    HOUR, World, claim, first, first_in, first_when_answered, start, until, url_through,
};
use firstseen_postgres::PostgresStore;
use firstseen_postgres::tokio_postgres::{IsolationLevel, Row};
use firstseen_servers::Proxy;
use firstseen_shared::{Call, Claim, DedupStore, ErrorKind, MoveError, State, Ttl};
use std::collections::BTreeSet;
use std::time::Duration;

async fn with_effects() -> (World, PostgresStore) {
    let world = World::new().await;
    world.run("CREATE TABLE firstseen.effects (id bytea)").await;
    let store = world.store().await;
    (world, store)
}

fn effect_sql(world: &World) -> String {
    format!("INSERT INTO {}.effects VALUES ($1)", world.schema)
}

const EFFECTS: &str = "SELECT count(*) FROM firstseen.effects";

#[tokio::test]
async fn a_claim_and_its_effect_are_committed_together_or_not_at_all() {
    let (world, store) = with_effects().await;
    let sql = effect_sql(&world);
    let mut client = world.client().await;

    let transaction = client.transaction().await.unwrap();
    let first = store.claim_in(&transaction, "n", b"a", HOUR).await.unwrap();
    assert_eq!(first, Claim::FirstSeen);
    transaction.execute(&sql, &[&&b"a"[..]]).await.unwrap();
    transaction.rollback().await.unwrap();
    assert!(!store.contains("n", b"a").await.unwrap());
    assert_eq!(world.number(EFFECTS).await, 0);

    let transaction = client.transaction().await.unwrap();
    let first = store.claim_in(&transaction, "n", b"a", HOUR).await.unwrap();
    assert_eq!(first, Claim::FirstSeen);
    let again = store.claim_in(&transaction, "n", b"a", HOUR).await.unwrap();
    assert!(again.is_duplicate(), "also within the transaction");
    transaction.execute(&sql, &[&&b"a"[..]]).await.unwrap();
    transaction.commit().await.unwrap();
    assert!(claim(&store, "a").await.is_duplicate());
    assert_eq!(world.number(EFFECTS).await, 1);
}

#[tokio::test]
async fn a_batch_is_claimed_in_a_transaction_with_its_answers_in_order() {
    let (world, store) = with_effects().await;
    first(&store, "b").await;
    let mut client = world.client().await;
    let transaction = client.transaction().await.unwrap();
    let ids = [&b"c"[..], b"b", b"c", b"a"];
    let claims = store.claim_batch_in(&transaction, "n", &ids, Ttl::FOREVER).await.unwrap();
    let firsts: Vec<bool> = claims.iter().map(|claim| claim.is_first_seen()).collect();
    assert_eq!(firsts, [true, false, false, true]);
}

/// Who dies between claim and commit leaves neither: the server ends the transaction of a session that is gone.
#[tokio::test]
async fn a_session_that_is_killed_between_claim_and_commit_leaves_neither_claim_nor_effect() {
    let (world, store) = with_effects().await;
    let sql = effect_sql(&world);
    let mut client = world.client().await;
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let transaction = client.transaction().await.unwrap();
    first_in(&store, &transaction, "a").await;
    transaction.execute(&sql, &[&&b"a"[..]]).await.unwrap();
    world.run(&format!("SELECT pg_terminate_backend({pid})")).await;
    assert!(transaction.commit().await.is_err());
    assert_eq!(world.number(EFFECTS).await, 0);
    first(&store, "a").await;
}

#[tokio::test]
async fn others_wait_for_the_transaction_and_hear_how_it_ended() {
    let (world, store) = with_effects().await;
    for (commits, id) in [(true, "a"), (false, "b")] {
        let mut client = world.client().await;
        let transaction = client.transaction().await.unwrap();
        first_in(&store, &transaction, id).await;
        let other = tokio::spawn({
            let store = store.clone();
            async move { claim(&store, id).await }
        });
        until("the other waits", async || world.waiting().await > 0).await;
        if commits {
            transaction.commit().await.unwrap();
        } else {
            transaction.rollback().await.unwrap();
        }
        assert_eq!(other.await.unwrap().is_first_seen(), !commits);
    }
}

/// The first claims of a namespace change its row, so that claims of other ids waited for the transaction, too.
#[tokio::test]
async fn other_ids_of_a_registered_namespace_do_not_wait_for_the_transaction() {
    let (world, store) = with_effects().await;
    store.register("registered", Ttl::FOREVER).await.unwrap();
    store.register("registered", Ttl::FOREVER).await.unwrap();
    for (namespace, waits) in [("registered", false), ("new", true)] {
        let mut client = world.client().await;
        let transaction = client.transaction().await.unwrap();
        let ttl = Ttl::FOREVER;
        assert!(store.claim_in(&transaction, namespace, b"a", ttl).await.unwrap().is_first_seen());
        let other = tokio::spawn({
            let store = store.clone();
            async move { store.claim(namespace, b"b", ttl, Call::new()).await }
        });
        if waits {
            until("the other waits", async || world.waiting().await > 0).await;
            transaction.rollback().await.unwrap();
            assert!(other.await.unwrap().unwrap().is_first_seen());
        } else {
            assert!(other.await.unwrap().unwrap().is_first_seen(), "while the transaction is open");
            transaction.rollback().await.unwrap();
        }
    }
}

/// A claim of one transaction that waits, and whose holder does not end: bounded, and nothing is claimed.
#[tokio::test]
async fn a_transaction_that_stays_open_makes_others_unavailable_in_time() {
    let (world, _) = with_effects().await;
    let store = world.store_with(
        world.options().answer_max(Duration::from_secs(3)).stall_max(Duration::from_millis(100)),
    );
    let store = store.await;
    let mut client = world.client().await;
    let transaction = client.transaction().await.unwrap();
    first_in(&store, &transaction, "a").await;
    let other = store.claim("n", b"a", HOUR, Call::new()).await;
    assert_eq!(other.unwrap_err().kind(), ErrorKind::Unavailable);
    // The server has stopped waiting, too.
    until("nobody waits", async || world.waiting().await == 0).await;
    transaction.rollback().await.unwrap();
    first_when_answered(&store, "a").await;
}

#[tokio::test]
async fn only_read_committed_transactions_may_claim() {
    let (world, store) = with_effects().await;
    let mut client = world.client().await;
    for level in [IsolationLevel::RepeatableRead, IsolationLevel::Serializable] {
        let transaction = client.build_transaction().isolation_level(level).start().await.unwrap();
        let refused = store.claim_in(&transaction, "n", b"a", HOUR).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
        assert!(refused.to_string().contains("READ COMMITTED"), "{refused}");
    }
}

#[tokio::test]
async fn the_settings_of_the_callers_transaction_are_left_alone() {
    let (world, store) = with_effects().await;
    let mut client = world.client().await;
    let transaction = client.transaction().await.unwrap();
    transaction.batch_execute("SET LOCAL synchronous_commit = off").await.unwrap();
    // Those of plpgsql are known from its first use on.
    let settings = async || {
        let sql = "SELECT name, setting FROM pg_settings WHERE name NOT LIKE 'plpgsql.%'";
        let rows = transaction.query(sql, &[]).await.unwrap();
        let pair = |row: &Row| (row.get::<_, String>(0), row.get::<_, String>(1));
        rows.iter().map(pair).collect::<BTreeSet<_>>()
    };
    let before = settings().await;
    first_in(&store, &transaction, "a").await;
    let fenced = store.complete_in(&transaction, "n", b"a", 1, b"", HOUR).await;
    assert!(matches!(fenced, Err(MoveError::Fenced(None))), "{fenced:?}");
    let after = settings().await;
    let changed: Vec<_> = after.difference(&before).collect();
    assert!(changed.is_empty(), "{changed:?}");
}

/// The answer to the commit is lost, and the transaction is made again: its claim says that the effect is there.
#[tokio::test]
async fn after_a_lost_commit_the_claim_says_whether_the_effect_was_made() {
    let (world, direct) = with_effects().await;
    let (sql, proxy) = (effect_sql(&world), Proxy::before(world.server.address()).await);
    let store = PostgresStore::open(&url_through(&proxy), world.options().connections_max(1))
        .await
        .unwrap();
    for attempt in 1..=2 {
        let mut object = store.pool().get().await.unwrap();
        let transaction = object.transaction().await.unwrap();
        let first = store.claim_in(&transaction, "n", b"a", HOUR).await.unwrap();
        assert_eq!(first.is_first_seen(), attempt == 1);
        if first.is_first_seen() {
            transaction.execute(&sql, &[&&b"a"[..]]).await.unwrap();
        }
        if attempt == 1 {
            proxy.lose(1);
            assert!(transaction.commit().await.is_err());
        } else {
            transaction.commit().await.unwrap();
        }
    }
    assert_eq!(world.number(EFFECTS).await, 1);
    assert!(claim(&direct, "a").await.is_duplicate());
}

#[tokio::test]
async fn an_attempt_is_completed_with_its_effect_or_goes_on() {
    let (world, store) = with_effects().await;
    let sql = effect_sql(&world);
    // So that the token before it is one that was given.
    start(&store, "another").await;
    let token = start(&store, "a").await;
    let mut client = world.client().await;
    for commits in [false, true] {
        let transaction = client.transaction().await.unwrap();
        transaction.execute(&sql, &[&&b"a"[..]]).await.unwrap();
        store.complete_in(&transaction, "n", b"a", token, b"done", HOUR).await.unwrap();
        if commits {
            transaction.commit().await.unwrap();
        } else {
            transaction.rollback().await.unwrap();
            let record = store.record("n", b"a").await.unwrap().unwrap();
            assert!(matches!(record.state, State::Running { .. }));
        }
    }
    assert_eq!(world.number(EFFECTS).await, 1);
    let record = store.record("n", b"a").await.unwrap().unwrap();
    assert_eq!(record.result(), Some(&b"done"[..]));

    // Rule 25: who was taken over hears so in time to roll back.
    let transaction = client.transaction().await.unwrap();
    let fenced = store.complete_in(&transaction, "n", b"a", token - 1, b"late", HOUR).await;
    assert!(matches!(fenced, Err(MoveError::Fenced(Some(_)))), "{fenced:?}");
}
