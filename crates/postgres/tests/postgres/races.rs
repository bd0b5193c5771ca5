//! Many who ask at once, and those who are in each other's way.

use crate::support::{HOUR, NOW_MS, POLICY, START, World, claim, first, first_in, start, until};
use firstseen_postgres::PostgresStore;
use firstseen_shared::{Begun, Call, Claim, DedupStore, Ending, MoveError, Policy};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_claim_the_same_ids_at_once_one_is_first() {
    let world = World::new().await;
    let stores = [world.store().await, world.store().await];
    let firsts = Arc::new(Mutex::new(BTreeMap::new()));
    let tasks: Vec<_> = (0..16_usize)
        .map(|n| {
            let (store, firsts) = (stores[n % 2].clone(), Arc::clone(&firsts));
            tokio::spawn(async move {
                for id in 0..40_u32 {
                    let claim =
                        store.claim("n", &id.to_be_bytes(), HOUR, Call::new()).await.unwrap();
                    if claim.is_first_seen() {
                        *firsts.lock().unwrap().entry(id).or_insert(0) += 1;
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let firsts = firsts.lock().unwrap();
    assert!(firsts.len() == 40 && firsts.values().all(|count| *count == 1), "{firsts:?}");
}

/// An id that has ended is taken over by one, though the row of the ended claim is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_find_an_ended_claim_one_is_first() {
    let world = World::new().await;
    let store = world.store().await;
    let mut now_ms = NOW_MS;
    for _ in 0..10 {
        store.set_clock(Some(now_ms)).await.unwrap();
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move { claim(&store, "a").await.is_first_seen() })
            })
            .collect();
        let mut firsts = 0;
        for task in tasks {
            firsts += u32::from(task.await.unwrap());
        }
        assert_eq!(firsts, 1);
        now_ms += 3_600_000;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_with_the_same_ids_in_other_orders_neither_deadlock_nor_share_a_first() {
    let world = World::apart(&["deadlock_timeout=100ms"]).await;
    let store = world.store().await;
    let firsts = Arc::new(Mutex::new(BTreeMap::new()));
    let tasks: Vec<_> = (0..12_u32)
        .map(|n| {
            let (store, firsts) = (store.clone(), Arc::clone(&firsts));
            tokio::spawn(async move {
                for round in 0..10_u32 {
                    let mut ids: Vec<[u8; 8]> = (0..200_u32)
                        .map(|id| (u64::from(round) << 32 | u64::from(id)).to_be_bytes())
                        .collect();
                    // Forwards, backwards, and from somewhere in the middle.
                    ids.rotate_left((n * 17 % 200) as usize);
                    if n % 2 == 0 {
                        ids.reverse();
                    }
                    let asked: Vec<&[u8]> = ids.iter().map(|id| &id[..]).collect();
                    let claims = store.claim_batch("n", &asked, HOUR, Call::new()).await.unwrap();
                    let mut firsts = firsts.lock().unwrap();
                    for (id, claim) in ids.iter().zip(claims) {
                        *firsts.entry(*id).or_insert(0) += u32::from(claim.is_first_seen());
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let firsts = firsts.lock().unwrap().clone();
    assert!(firsts.len() == 2_000 && firsts.values().all(|count| *count == 1));
    assert_no_deadlock(&world, store).await;
}

/// There was none at the server of this world. Ends the store.
async fn assert_no_deadlock(world: &World, store: PostgresStore) {
    // A session may keep what it has counted until it ends.
    drop(store);
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'firstseen'";
    until("all sessions end", async || world.number(sessions).await == 0).await;
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'";
    assert_eq!(world.number(deadlocks).await, 0);
}

/// Both are on their way when the id in their middle becomes free.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_batches_in_opposite_orders_wait_for_each_other_in_one_order() {
    let world = World::apart(&["deadlock_timeout=100ms"]).await;
    let store = world.store().await;
    first(&store, "known").await;
    let mut client = world.client().await;
    let transaction = client.transaction().await.unwrap();
    first_in(&store, &transaction, "m").await;
    let batches = [[&b"a"[..], b"m", b"z"], [b"z", b"m", b"a"]].map(|ids| {
        let store = store.clone();
        tokio::spawn(async move { store.claim_batch("n", &ids, HOUR, Call::new()).await.unwrap() })
    });
    until("both wait", async || world.waiting().await == 2).await;
    transaction.rollback().await.unwrap();
    let mut firsts = 0;
    for batch in batches {
        firsts += batch.await.unwrap().iter().filter(|claim| claim.is_first_seen()).count();
    }
    assert_eq!(firsts, 3);
    assert_no_deadlock(&world, store).await;
}

/// A transaction that claims in another order, by two calls, waits for the batch that waits for it. The server undoes the batch of
/// the store, by its bound for locks or as a deadlock, and the store repeats it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_waits_in_a_circle_is_undone_and_repeated() {
    let world = World::apart(&["deadlock_timeout=2s"]).await;
    let store = world.store().await;
    let mut client = world.client().await;
    // The other one never looks for deadlocks, so the store's statement is the one that is undone.
    client.batch_execute("SET deadlock_timeout = '10min'").await.unwrap();
    // Or the batch would wait for the name of its namespace, before it holds an id.
    first(&store, "known").await;
    let transaction = client.transaction().await.unwrap();
    first_in(&store, &transaction, "b").await;
    let batch = tokio::spawn({
        let store = store.clone();
        async move { store.claim_batch("n", &[b"a", b"b"], HOUR, Call::new()).await.unwrap() }
    });
    until("the batch waits", async || world.waiting().await == 1).await;
    let crossed = store.claim_in(&transaction, "n", b"a", HOUR).await.unwrap();
    assert_eq!(crossed, Claim::FirstSeen, "the batch has let go of it");
    transaction.commit().await.unwrap();
    let claims = batch.await.unwrap();
    assert!(claims.iter().all(|claim| claim.is_duplicate()), "{claims:?}");
}

/// Ids that are forgotten while they are claimed: each claim is first after a forgetting, and never otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_beside_forgetting_are_first_as_often_as_there_was_none() {
    let world = World::new().await;
    let store = world.store().await;
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let (mut firsts, mut forgotten) = (0_u32, 0_u32);
                for _ in 0..50 {
                    firsts += u32::from(claim(&store, "a").await.is_first_seen());
                    forgotten += u32::from(store.forget("n", b"a").await.unwrap());
                }
                (firsts, forgotten)
            })
        })
        .collect();
    let (mut firsts, mut forgotten) = (0, 0);
    for task in tasks {
        let (first, forgot) = task.await.unwrap();
        (firsts, forgotten) = (firsts + first, forgotten + forgot);
    }
    let left = u32::from(store.contains("n", b"a").await.unwrap());
    assert_eq!(firsts, forgotten + left);
}

/// Rules 4, 28, 32 and 35: one begins, one ends, one takes over, and each token is higher than those before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_at_a_record_one_begins_one_ends_and_tokens_grow() {
    let world = World::new().await;
    let store = world.store().await;
    let mut now_ms = NOW_MS;
    let mut last = 0;
    for round in 0..8 {
        store.set_clock(Some(now_ms)).await.unwrap();
        let begins: Vec<_> = (0..8)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move {
                    let policy = Policy { attempts_max: 100, ..POLICY };
                    store.begin("n", b"a", &START, &policy, Call::new()).await.unwrap()
                })
            })
            .collect();
        let mut tokens = Vec::new();
        for begin in begins {
            match begin.await.unwrap() {
                Begun::Started { token, .. } => tokens.push(token),
                Begun::InProgress(record) => assert!(record.token > last),
                other => panic!("{other:?}"),
            }
        }
        let [token] = tokens[..] else { panic!("{tokens:?} in round {round}") };
        assert!(token > last);
        last = token;
        if round % 2 == 0 {
            // The lease ends, and the next round takes over.
            now_ms += 60_000;
            continue;
        }
        let ends: Vec<_> = (0..6)
            .map(|_| {
                let store = store.clone();
                let ending = Ending::Failed { retry_after: Duration::ZERO, reason: "no" };
                let policy = Policy { attempts_max: 100, ..POLICY };
                tokio::spawn(async move { store.end("n", b"a", token, &ending, &policy).await })
            })
            .collect();
        let mut landed = 0;
        for end in ends {
            match end.await.unwrap() {
                Ok(()) => landed += 1,
                Err(MoveError::Over(record)) => assert_eq!(record.token, token),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(landed, 1);
    }
}

/// Rule 28: a sequence goes on although what it was asked for is undone or removed.
#[tokio::test]
async fn tokens_grow_whatever_is_removed_and_also_where_the_sequence_was_not_copied() {
    let world = World::new().await;
    let store = world.store().await;
    let first = start(&store, "a").await;
    store.forget_record("n", b"a").await.unwrap();
    let second = start(&store, "a").await;
    assert!(second > first);
    // As after a failover by logical replication, which copies rows and no sequences.
    world.run("ALTER SEQUENCE firstseen.tokens RESTART").await;
    let ending = Ending::Failed { retry_after: Duration::ZERO, reason: "" };
    store.end("n", b"a", second, &ending, &POLICY).await.unwrap();
    assert!(start(&store, "a").await > second);
}
