//! Servers that are away, frozen, full or not the primary: an error of the right kind, in time, and never a first sight.

use crate::support::{
    HOUR, LATE, POLICY, START, World, claim, first_in, first_when_answered, start, until,
};
use firstseen_postgres::deadpool_postgres::Object;
use firstseen_postgres::tokio_postgres::{self, NoTls};
use firstseen_postgres::{PostgresOptions, PostgresStore};
use firstseen_shared::{
    Begin, Call, Claim, DedupStore, ErrorKind, LedgerOptions, Lost, SharedLedger,
};
use std::time::Duration;
use tokio::time::{Instant, timeout};

const SOON: Duration = Duration::from_millis(700);

/// What a bound may be missed by on a machine with other work.
const SLACK: Duration = Duration::from_secs(20);

fn impatient(world: &World) -> PostgresOptions {
    world.options().answer_max(SOON).stall_max(Duration::from_millis(100))
}

async fn kind_of_claim(store: &PostgresStore) -> (ErrorKind, String) {
    let error = store.claim("n", b"a", HOUR, Call::new()).await.unwrap_err();
    (error.kind(), error.to_string())
}

#[tokio::test]
async fn a_server_that_is_killed_is_unavailable_and_back_after_its_restart() {
    let mut world = World::apart(&[]).await;
    let store = world.store_with(impatient(&world)).await;
    first_when_answered(&store, "a").await;
    world.kill().await;
    for _ in 0..3 {
        let (kind, text) = kind_of_claim(&store).await;
        assert_eq!(kind, ErrorKind::Unavailable, "{text}");
    }
    // Rule 9.
    let begun = store.begin("n", b"a", &START, &POLICY, Call::new()).await;
    assert_eq!(begun.unwrap_err().kind(), ErrorKind::Unavailable);
    let opened = PostgresStore::open(&world.url(), impatient(&world)).await;
    assert_eq!(opened.unwrap_err().kind(), ErrorKind::Unavailable);
    world.restart().await;
    let mut again = None;
    until("the store is back", async || {
        again = store.claim("n", b"a", HOUR, Call::new()).await.ok();
        again.is_some()
    })
    .await;
    assert!(again.unwrap().is_duplicate());
}

#[tokio::test]
async fn a_frozen_server_is_unavailable_within_the_bound() {
    let world = World::apart(&[]).await;
    let store = world.store_with(impatient(&world)).await;
    first_when_answered(&store, "a").await;
    world.server.freeze();
    // The first on a connection that is open, the next on a new one.
    for _ in 0..2 {
        let began = Instant::now();
        let (kind, text) = kind_of_claim(&store).await;
        assert_eq!(kind, ErrorKind::Unavailable, "{text}");
        assert!(began.elapsed() < SOON + SLACK, "{:?}", began.elapsed());
    }
    world.server.thaw();
    assert!(claim(&world.store().await, "a").await.is_duplicate());
}

/// Rule 97: the owner of a lease keeps on while the store is away, until the end of the lease that it knows of, and then stops.
#[tokio::test]
async fn an_owner_stops_at_the_end_of_its_lease_when_the_server_is_away() {
    let mut world = World::apart(&[]).await;
    let store = world.store_with(impatient(&world)).await;
    let lease = Duration::from_secs(3);
    let ledger = SharedLedger::new(store, "n", LedgerOptions::new().lease(lease)).unwrap();
    let Begin::Started(attempt) = ledger.begin("a", None).await.unwrap() else { panic!() };
    let began = Instant::now();
    let renewals = attempt.keep_renewed();
    world.kill().await;
    assert_eq!(timeout(LATE, renewals.lost()).await.unwrap(), Lost::LeaseEnded);
    assert!(began.elapsed() > lease / 2 && began.elapsed() < lease * 2 + SLACK);
}

#[tokio::test]
async fn a_pool_without_a_free_connection_is_unavailable_and_says_so() {
    let world = World::new().await;
    let store = world.store_with(impatient(&world).connections_max(1)).await;
    let held = store.pool().get().await.unwrap();
    let (kind, text) = kind_of_claim(&store).await;
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(text.contains("in use"), "{text}");
    drop(held);
    first_when_answered(&store, "a").await;
}

#[tokio::test]
async fn a_server_without_a_free_connection_is_unavailable_and_says_so() {
    let world = World::apart(&["max_connections=6", "superuser_reserved_connections=0"]).await;
    let store = world.store_with(impatient(&world).connections_max(1)).await;
    // The one of the store is closed, and others take them all.
    drop(Object::take(store.pool().get().await.unwrap()));
    let mut taken = Vec::new();
    while let Ok((client, connection)) = tokio_postgres::connect(&world.url(), NoTls).await {
        tokio::spawn(connection);
        taken.push(client);
    }
    let (kind, text) = kind_of_claim(&store).await;
    assert_eq!(kind, ErrorKind::Unavailable, "{text}");
    assert!(text.contains("53300") && text.contains("connections_max"), "{text}");
    drop(taken);
    until("the store is back", async || store.contains("n", b"a").await.is_ok()).await;
}

#[tokio::test]
async fn a_session_that_an_operator_ends_is_unavailable_and_the_next_call_has_another() {
    let world = World::new().await;
    let store = world.store_with(world.options().connections_max(1)).await;
    let mut client = world.client().await;
    let transaction = client.transaction().await.unwrap();
    first_in(&store, &transaction, "a").await;
    let call = Call::new();
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.claim("n", b"a", HOUR, call).await }
    });
    until("the claim waits", async || world.waiting().await == 1).await;
    let end = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE wait_event_type = 'Lock' AND position('\"{}\".' IN query) > 0",
        world.schema
    );
    assert_eq!(world.number(&end).await, 1);
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
    transaction.rollback().await.unwrap();
    assert_eq!(store.claim("n", b"a", HOUR, call).await.unwrap(), Claim::FirstSeen);
}

#[tokio::test]
async fn a_statement_timeout_of_the_server_is_unavailable() {
    let world = World::new().await;
    let url = format!("{}?options=-c%20statement_timeout%3D300", world.url());
    let mut opened = None;
    // Opening the store may take more, too.
    until("the store opens", async || {
        opened = PostgresStore::open(&url, world.options()).await.ok();
        opened.is_some()
    })
    .await;
    let store = opened.unwrap();
    let mut client = world.client().await;
    let transaction = client.transaction().await.unwrap();
    first_in(&store, &transaction, "a").await;
    let (kind, text) = kind_of_claim(&store).await;
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(text.contains("57014"), "{text}");
    transaction.rollback().await.unwrap();
    first_when_answered(&store, "a").await;
}

#[tokio::test]
async fn a_server_that_takes_no_writes_is_unavailable_and_not_asked_again_on_that_connection() {
    let world = World::new().await;
    let url = format!("{}?options=-c%20default_transaction_read_only%3Don", world.url());
    let store = PostgresStore::open(&url, world.options()).await.unwrap();
    let (kind, text) = kind_of_claim(&store).await;
    assert_eq!(kind, ErrorKind::Unavailable);
    assert!(text.contains("25006") && text.contains("primary"), "{text}");
    assert_eq!(store.pool().status().size, 0, "the next call looks for the primary");
    // What only reads is answered.
    assert!(!store.contains("n", b"a").await.unwrap());
}

#[tokio::test]
async fn a_call_that_is_dropped_leaves_its_connection_to_nobody() {
    let world = World::new().await;
    // So long does the server wait for what the dropped call has asked.
    let options = world.options().connections_max(1).answer_max(LATE);
    let store = world.store_with(options).await;
    let mut client = world.client().await;
    let transaction = client.transaction().await.unwrap();
    first_in(&store, &transaction, "a").await;
    {
        let claim = store.claim("n", b"a", HOUR, Call::new());
        let mut claim = std::pin::pin!(claim);
        tokio::select! {
            answer = &mut claim => panic!("{answer:?}"),
            () = until("the claim waits", async || world.waiting().await == 1) => {}
        }
    }
    // On the connection of the dropped call this would wait behind it.
    let looked = timeout(LATE / 2, store.contains("n", b"b")).await;
    assert!(!looked.expect("answers at once").unwrap());
    transaction.rollback().await.unwrap();
}

#[tokio::test]
async fn a_schema_that_is_gone_is_told_as_such() {
    let world = World::new().await;
    let store = world.store().await;
    world.run(&format!("DROP SCHEMA {} CASCADE", world.schema)).await;
    let (kind, text) = kind_of_claim(&store).await;
    assert_eq!(kind, ErrorKind::Schema);
    assert!(text.contains("migrate"), "{text}");
}

#[tokio::test]
async fn what_a_person_has_to_put_right_is_told_as_such() {
    let world = World::new().await;
    for url in [world.url_of("postgres", "nowhere"), world.url_of("nobody", "postgres")] {
        let error = PostgresStore::open(&url, world.options()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Environment, "{url}: {error}");
    }
    let error = PostgresStore::open("no address", world.options()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
}

/// Rule 36, for the database: one record that cannot be read does not disturb the others.
#[tokio::test]
async fn one_record_that_cannot_be_read_disturbs_no_other() {
    let world = World::new().await;
    let store = world.store().await;
    for id in ["bad", "good"] {
        start(&store, id).await;
    }
    world.run("UPDATE firstseen.records SET state = 5, cause = 77 WHERE id = 'bad'").await;
    let dead = store.dead_letters("n", None, 10).await.unwrap();
    assert_eq!(dead, [b"bad"]);
    assert!(store.record("n", b"good").await.unwrap().is_some());
    assert!(store.forget_record("n", b"bad").await.unwrap());
}
