//! Partitions that are opened, dropped and never missed.

use crate::support::{
    HOUR, NOW_MS, POLICY, World, claim, claim_for, duplicate_of, first, first_in, start,
};
use firstseen_postgres::PostgresStore;
use firstseen_shared::{Call, Claim, DedupStore, Ending, Ttl};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const MINUTE_MS: i64 = 60_000;

/// A world whose clock stands still, and its store.
async fn at(now_ms: i64) -> (World, PostgresStore) {
    let world = World::new().await;
    let store = world.store().await;
    store.set_clock(Some(now_ms)).await.unwrap();
    (world, store)
}

/// Returns how many partitions there are besides the first.
async fn partitions(world: &World) -> i64 {
    let sql = "SELECT count(*) - 1 FROM pg_inherits WHERE inhparent = 'firstseen.claims'::regclass";
    world.number(sql).await
}

async fn rows(world: &World) -> i64 {
    world.number("SELECT count(*) FROM firstseen.claims").await
}

#[tokio::test]
async fn without_maintenance_claims_are_made_and_end() {
    let (world, store) = at(NOW_MS).await;
    for n in 0..3 {
        store.set_clock(Some(NOW_MS + n * 60 * MINUTE_MS)).await.unwrap();
        first(&store, "a").await;
        assert!(claim(&store, "a").await.is_duplicate());
    }
    assert_eq!((partitions(&world).await, rows(&world).await), (0, 1));
}

/// The bulk of what has ended goes with its partition: no row of it is deleted.
#[tokio::test]
async fn ended_claims_are_dropped_with_their_partition_and_none_is_deleted() {
    let (world, store) = at(NOW_MS).await;
    first(&store, "first").await;
    assert_eq!(store.maintain().await.unwrap().opened, 1);
    let mut dropped = 0;
    // Six hours of claims that last an hour, with a maintenance each ten minutes.
    for minute in (0..360).step_by(10) {
        let now_ms = NOW_MS + minute * MINUTE_MS;
        store.set_clock(Some(now_ms)).await.unwrap();
        for n in 0..20 {
            first(&store, &format!("{minute}-{n}")).await;
        }
        let done = store.maintain().await.unwrap();
        assert!(!done.is_blocked && !done.is_elsewhere, "{done:?}");
        // What was claimed before the first partition was there is deleted.
        assert!(done.claims_deleted <= 1, "{done:?}");
        dropped += done.dropped;
        // Each claim is exact to the end, wherever it is.
        for age in [0, 30, 50] {
            if age <= minute {
                let seen = claim(&store, &format!("{}-7", minute - age)).await;
                assert_eq!(seen, duplicate_of(now_ms - age * MINUTE_MS), "{age} at {minute}");
            }
        }
        assert!(partitions(&world).await <= 4);
        assert!(rows(&world).await <= 20 * 10, "claims of 100 minutes at most are kept");
    }
    assert!(dropped >= 8, "{dropped}");
    store.set_clock(Some(NOW_MS + 1_000 * MINUTE_MS)).await.unwrap();
    store.maintain().await.unwrap();
    store.set_clock(Some(NOW_MS + 2_000 * MINUTE_MS)).await.unwrap();
    store.maintain().await.unwrap();
    assert_eq!(rows(&world).await, 0);
    let deleted = format!(
        "SELECT coalesce(sum(n_tup_del), 0)::bigint FROM pg_stat_user_tables \
         WHERE schemaname = '{}' AND relname LIKE 'claims%'",
        world.schema
    );
    assert!(world.number(&deleted).await <= 1);
}

#[tokio::test]
async fn an_id_is_unique_over_all_partitions_whatever_the_ttl() {
    let (_world, store) = at(NOW_MS).await;
    let day = Ttl::from_millis(24 * 3_600_000);
    assert_eq!(claim_for(&store, "a", day).await, Claim::FirstSeen);
    for step in 1..=5 {
        store.maintain().await.unwrap();
        store.set_clock(Some(NOW_MS + step * 4 * 60 * MINUTE_MS)).await.unwrap();
        assert_eq!(claim_for(&store, "a", HOUR).await, duplicate_of(NOW_MS), "{step}");
        first(&store, &format!("other-{step}")).await;
    }
    assert!(store.forget("n", b"a").await.unwrap(), "in whatever partition it is");
    assert_eq!(claim_for(&store, "a", HOUR).await, Claim::FirstSeen);
}

#[tokio::test]
async fn a_namespace_whose_ttls_grow_moves_on_and_loses_nothing() {
    let (world, store) = at(NOW_MS).await;
    let ttls = [HOUR, Ttl::from_millis(100 * 3_600_000), Ttl::FOREVER];
    for (n, ttl) in ttls.into_iter().enumerate() {
        assert_eq!(claim_for(&store, &format!("before-{n}"), ttl).await, Claim::FirstSeen);
        store.maintain().await.unwrap();
        assert_eq!(claim_for(&store, &format!("after-{n}"), ttl).await, Claim::FirstSeen);
        for m in 0..=n {
            assert!(claim(&store, &format!("before-{m}")).await.is_duplicate(), "{m} of {n}");
            assert!(claim(&store, &format!("after-{m}")).await.is_duplicate(), "{m} of {n}");
        }
    }
    // Those for ever keep their partition, and what has ended beside them is deleted there.
    let mut now_ms = NOW_MS;
    for _ in 0..20 {
        now_ms += 50 * 60 * MINUTE_MS;
        store.set_clock(Some(now_ms)).await.unwrap();
        first(&store, "tick").await;
        store.maintain().await.unwrap();
    }
    for (n, ttl) in ttls.into_iter().enumerate() {
        let is_kept = ttl == Ttl::FOREVER;
        for id in [format!("before-{n}"), format!("after-{n}")] {
            assert_eq!(store.contains("n", id.as_bytes()).await.unwrap(), is_kept, "{id}");
        }
    }
    let ended = "SELECT count(*) FROM firstseen.claims WHERE ends <= firstseen.clock()";
    assert_eq!(world.number(ended).await, 0);
}

#[tokio::test]
async fn ended_records_are_deleted_and_no_others() {
    let (world, store) = at(NOW_MS).await;
    let later = Ttl::from_millis(2 * 3_600_000);
    for (id, ttl) in [("short", HOUR), ("later", later), ("long", Ttl::FOREVER)] {
        let token = start(&store, id).await;
        let ending = Ending::Completed { result: b"done", is_failure: false, ttl };
        store.end("n", id.as_bytes(), token, &ending, &POLICY).await.unwrap();
    }
    start(&store, "running").await;
    store.set_clock(Some(NOW_MS + 60 * MINUTE_MS)).await.unwrap();
    assert_eq!(store.maintain().await.unwrap().records_deleted, 1);
    assert_eq!(world.number("SELECT count(*) FROM firstseen.records").await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_may_maintain_at_once_and_each_partition_is_opened_once() {
    let (world, store) = at(NOW_MS).await;
    first(&store, "a").await;
    let all: Vec<_> = (0..6)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.maintain().await.unwrap() })
        })
        .collect();
    let mut opened = 0;
    for one in all {
        let done = one.await.unwrap();
        assert!(!done.is_blocked, "{done:?}");
        opened += done.opened;
    }
    assert_eq!((opened, partitions(&world).await), (1, 1));
}

/// An open transaction with a claim is in the way: the maintenance gives up in time, claims go on, and it is made up for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_maintenance_that_is_blocked_gives_up_and_claims_go_on() {
    let (world, store) = at(NOW_MS).await;
    first(&store, "a").await;
    let mut client = world.client().await;
    let transaction = client.transaction().await.unwrap();
    first_in(&store, &transaction, "b").await;
    let done = store.maintain().await.unwrap();
    assert!(done.is_blocked && done.opened == 0, "{done:?}");
    first(&store, "c").await;
    transaction.commit().await.unwrap();
    let done = store.maintain().await.unwrap();
    assert!(!done.is_blocked && done.opened == 1, "{done:?}");
    assert!(claim(&store, "b").await.is_duplicate());
}

/// The moment at which the current partition changes: of two who claim an id around it, one is first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_id_is_first_twice_while_partitions_change() {
    let world = World::new().await;
    let store = world.store().await;
    first(&store, "warm").await;
    let is_over = Arc::new(AtomicBool::new(false));
    let firsts = Arc::new(Mutex::new(BTreeMap::new()));
    let claimers: Vec<_> = (0..8_u32)
        .map(|_| {
            let (store, is_over, firsts) =
                (store.clone(), Arc::clone(&is_over), Arc::clone(&firsts));
            tokio::spawn(async move {
                // All in the same order, so that they meet.
                for n in 0_u32.. {
                    if is_over.load(Ordering::SeqCst) {
                        return;
                    }
                    let ids = [n.to_be_bytes(), (n + 1).to_be_bytes()];
                    let ids: Vec<&[u8]> = ids.iter().map(|id| &id[..]).collect();
                    let claims = store.claim_batch("n", &ids, HOUR, Call::new()).await.unwrap();
                    let mut firsts = firsts.lock().unwrap();
                    for (id, claim) in ids.iter().zip(claims) {
                        *firsts.entry(id.to_vec()).or_insert(0) += u32::from(claim.is_first_seen());
                    }
                }
            })
        })
        .collect();
    let mut changes = 0;
    let end = tokio::time::Instant::now() + Duration::from_secs(30);
    while changes < 12 && tokio::time::Instant::now() < end {
        world.run("UPDATE firstseen.generations SET opened = 0 WHERE sealed IS NULL").await;
        changes += store.maintain().await.unwrap().opened;
    }
    is_over.store(true, Ordering::SeqCst);
    for claimer in claimers {
        claimer.await.unwrap();
    }
    let firsts = firsts.lock().unwrap();
    let twice: Vec<_> = firsts.iter().filter(|(_, count)| **count != 1).collect();
    assert!(twice.is_empty(), "{twice:?} of {} ids", firsts.len());
    assert!(changes >= 3, "{changes} changes among claims");
}
