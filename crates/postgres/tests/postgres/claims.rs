//! What the server makes of claims.

use crate::support::{
    HOUR, NOW_MS, POLICY, START, World, claim, claim_for, duplicate_of, first, start,
};
use firstseen_shared::{Begun, Call, DedupStore, ErrorKind, Ttl};

/// Rule 95: leases, ttls and answers are told by the clock of the server, whatever those of its callers show.
#[tokio::test]
async fn a_lease_is_judged_by_the_clock_of_the_server() {
    let world = World::new().await;
    let (here, there) = (world.store().await, world.store().await);
    // Years away from the clock of this machine.
    here.set_clock(Some(NOW_MS * 2)).await.unwrap();
    let token = start(&here, "a").await;
    first(&here, "a").await;
    let begun = there.begin("n", b"a", &START, &POLICY, Call::new()).await.unwrap();
    assert!(matches!(begun, Begun::InProgress(_)), "{begun:?}");
    assert_eq!(claim(&there, "a").await, duplicate_of(NOW_MS * 2));

    here.set_clock(Some(NOW_MS * 2 + 60_000)).await.unwrap();
    assert!(start(&there, "a").await > token, "its lease is over");
    here.set_clock(Some(NOW_MS * 2 + 3_600_000)).await.unwrap();
    first(&there, "a").await;
}

#[tokio::test]
async fn an_ended_claim_counts_as_absent_though_its_row_is_there() {
    let world = World::new().await;
    let store = world.store().await;
    store.set_clock(Some(NOW_MS)).await.unwrap();
    first(&store, "a").await;
    store.set_clock(Some(NOW_MS + 3_599_999)).await.unwrap();
    assert_eq!(claim(&store, "a").await, duplicate_of(NOW_MS));
    store.set_clock(Some(NOW_MS + 3_600_000)).await.unwrap();
    assert_eq!(world.number("SELECT count(*) FROM firstseen.claims").await, 1);
    assert!(!store.contains("n", b"a").await.unwrap());
    assert!(!store.forget("n", b"a").await.unwrap());
    first(&store, "a").await;
    assert_eq!(world.number("SELECT count(*) FROM firstseen.claims").await, 1, "it is replaced");
}

/// A statement has at most ten thousand ids, which a caller does not notice.
#[tokio::test]
async fn a_batch_of_several_statements_is_answered_as_one() {
    let world = World::new().await;
    let store = world.store().await;
    let ids: Vec<String> = (0..12_000).map(|n| format!("id-{}", n % 11_000)).collect();
    let ids: Vec<&[u8]> = ids.iter().map(String::as_bytes).collect();
    let call = Call::new();
    for _ in 0..2 {
        let claims = store.claim_batch("n", &ids, HOUR, call).await.unwrap();
        for (n, claim) in claims.iter().enumerate() {
            assert_eq!(claim.is_first_seen(), n < 11_000, "{n}");
        }
    }
    let stats = store.stats("n").await.unwrap().claims.unwrap();
    assert!((8_000..15_000).contains(&stats), "about 11,000, and not {stats}");
}

/// Whatever plan was made while a table was empty: each id is found by the index when it is full.
#[tokio::test]
async fn a_plan_made_for_an_empty_table_reads_no_more_than_the_ids_when_it_is_full() {
    let world = World::new().await;
    let store = world.store_with(world.options().connections_max(1)).await;
    // Enough for any plan that is kept.
    for n in 0..10 {
        first(&store, &format!("warm-{n}")).await;
    }
    let ids: Vec<String> = (0..10_000).map(|n| format!("id-{n}")).collect();
    let ids: Vec<&[u8]> = ids.iter().map(String::as_bytes).collect();
    for is_first in [true, false] {
        for ids in ids.chunks(2_000) {
            let claims = store.claim_batch("n", ids, HOUR, Call::new()).await.unwrap();
            assert!(claims.iter().all(|claim| claim.is_first_seen() == is_first));
        }
    }
    // The session counts what it reads, and tells it now and then.
    let session = store.pool().get().await.unwrap();
    session.batch_execute("SELECT pg_stat_force_next_flush()").await.unwrap();
    drop(session);
    let read = format!(
        "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint FROM pg_stat_user_tables \
         WHERE schemaname = '{0}' AND relname LIKE 'claims%'",
        world.schema
    );
    let read = world.number(&read).await;
    assert!((10_000..50_000).contains(&read), "{read} rows were read for 20,000 ids");
}

#[tokio::test]
async fn what_is_stored_and_cannot_be_read_is_an_error_and_starts_no_work() {
    let world = World::new().await;
    let store = world.store().await;
    for (id, damage) in [
        ("state", "state = 9"),
        ("cause", "state = 5, cause = 0"),
        ("worker", r"worker = '\xff'"),
        ("history", "past_tokens = '{1}'"),
        ("print", r"fingerprint = '\x01'"),
        ("attempts", "attempts = -1"),
    ] {
        start(&store, id).await;
        world.run(&format!("UPDATE firstseen.records SET {damage} WHERE id = '{id}'")).await;
        let read = store.record("n", id.as_bytes()).await.unwrap_err();
        assert_eq!(read.kind(), ErrorKind::Damaged, "{id}: {read}");
        // Rule 11.
        let begun = store.begin("n", id.as_bytes(), &START, &POLICY, Call::new()).await;
        assert_eq!(begun.unwrap_err().kind(), ErrorKind::Damaged, "{id}");
    }
}

#[tokio::test]
async fn dead_letters_are_read_by_their_index() {
    let world = World::new().await;
    let client = world.client().await;
    let plan = format!(
        "EXPLAIN SELECT id FROM {0}.records WHERE namespace = 1 AND state IN (3, 5) AND id > '' ORDER BY id LIMIT 5",
        world.schema
    );
    client.batch_execute("SET enable_seqscan = off").await.unwrap();
    let rows = client.query(&plan, &[]).await.unwrap();
    let text: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert!(text.iter().any(|line| line.contains("records_dead")), "{text:?}");
}

#[tokio::test]
async fn stats_tell_claims_and_records_of_a_namespace() {
    let world = World::new().await;
    let store = world.store().await;
    store.set_clock(Some(NOW_MS)).await.unwrap();
    for n in 0..5 {
        first(&store, &format!("a{n}")).await;
    }
    assert!(claim_for(&store, "short", Ttl::from_millis(5)).await.is_first_seen());
    let other = store.claim("other", b"a", HOUR, Call::new()).await.unwrap();
    assert!(other.is_first_seen());
    start(&store, "running").await;
    store.set_clock(Some(NOW_MS + 5)).await.unwrap();
    let stats = store.stats("n").await.unwrap();
    assert_eq!((stats.claims, stats.records, stats.dead_letters), (Some(5), Some(1), Some(0)));
    let stats = store.stats("unknown").await.unwrap();
    assert_eq!((stats.claims, stats.records, stats.dead_letters), (Some(0), Some(0), Some(0)));
}
