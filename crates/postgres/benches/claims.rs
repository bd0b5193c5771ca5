//! Claims a second on loopback, with a server of its own: one at a time from several tasks, and in batches.
//!
//! ```sh
//! cargo bench --package firstseen-postgres --bench claims
//! FIRSTSEEN_BENCH_CLAIMS=200000 cargo bench --package firstseen-postgres --bench claims
//! ```
//!
//! The number is that of ids for each line; 20,000 by default. Each line first claims ids that are new, and then the same again. With
//! `FIRSTSEEN_BENCH_URL` it uses that server, in a schema `firstseen_bench` that it drops.

#![allow(clippy::disallowed_macros, reason = "a program prints")]
#![allow(clippy::unwrap_used, reason = "a measurement that fails ends")]

use firstseen_postgres::{PostgresOptions, PostgresStore};
use firstseen_servers::postgres;
use firstseen_shared::{Call, DedupStore, Ttl};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

const DAY: Ttl = Ttl::from_millis(24 * 3_600_000);
const SCHEMA: &str = "firstseen_bench";

/// One line of the table.
struct Line {
    tasks: usize,
    batch: usize,
    waits_for_disk: bool,
}

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(measure());
}

async fn measure() {
    let count =
        std::env::var("FIRSTSEEN_BENCH_CLAIMS").map_or(20_000, |text| text.parse().unwrap());
    let (server, url) = match std::env::var("FIRSTSEEN_BENCH_URL") {
        Ok(url) => (None, url),
        Err(_) => {
            let server = postgres::start_with(&["max_connections=100"]).await;
            let url = postgres::url(&server);
            (Some(server), url)
        }
    };
    println!("| tasks | ids in a call | commit | new ids/s | again/s |");
    println!("|---|---|---|---|---|");
    for (n, line) in [
        (1, 1, true),
        (16, 1, true),
        (64, 1, true),
        (1, 100, true),
        (1, 1_000, true),
        (4, 1_000, true),
        (1, 1, false),
        (64, 1, false),
        (4, 1_000, false),
    ]
    .into_iter()
    .map(|(tasks, batch, waits_for_disk)| Line { tasks, batch, waits_for_disk })
    .enumerate()
    {
        let store = fresh(&url, &line).await;
        // Calls of one id, one after the other, take long enough with fewer.
        let ids = if line.batch == 1 && line.tasks == 1 { count / 4 } else { count };
        let new = claim_all(&store, n, ids, &line).await;
        let again = claim_all(&store, n, ids, &line).await;
        println!(
            "| {} | {} | {} | {:.0} | {:.0} |",
            line.tasks,
            line.batch,
            if line.waits_for_disk { "on disk" } else { "does not wait" },
            ids as f64 / new.as_secs_f64(),
            ids as f64 / again.as_secs_f64()
        );
        drop_schema(&store).await;
    }
    drop(server);
}

async fn fresh(url: &str, line: &Line) -> PostgresStore {
    let options = PostgresOptions::new()
        .schema(SCHEMA)
        .connections_max(line.tasks.min(32))
        .answer_max(Duration::from_secs(60))
        .synchronous_commit(line.waits_for_disk);
    PostgresStore::migrate(url, &options).await.unwrap();
    let store = PostgresStore::open(url, options).await.unwrap();
    // As after some time: a partition that is current, and one before it.
    assert!(store.claim("bench", b"first", DAY, Call::new()).await.unwrap().is_first_seen());
    store.maintain().await.unwrap();
    store
}

async fn claim_all(
    store: &PostgresStore,
    line_number: usize,
    count: usize,
    line: &Line,
) -> Duration {
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let tasks: Vec<_> = (0..line.tasks)
        .map(|_| {
            let (store, next, batch) = (store.clone(), Arc::clone(&next), line.batch);
            tokio::spawn(async move {
                loop {
                    let from = next.fetch_add(batch, Ordering::Relaxed);
                    if from >= count {
                        return;
                    }
                    let ids: Vec<[u8; 16]> = (from..count.min(from + batch))
                        .map(|n| id(line_number as u64, n as u64))
                        .collect();
                    let ids: Vec<&[u8]> = ids.iter().map(|id| &id[..]).collect();
                    let claims = store.claim_batch("bench", &ids, DAY, Call::new()).await;
                    assert_eq!(claims.unwrap().len(), ids.len());
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    began.elapsed()
}

/// An id in no order, as those of real events are (SplitMix64).
fn id(line: u64, n: u64) -> [u8; 16] {
    let mix = |n: u64| {
        let z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let mut id = [0; 16];
    id[..8].copy_from_slice(&mix(n + 1).to_be_bytes());
    id[8..].copy_from_slice(&mix((line << 32) + n + 7).to_be_bytes());
    id
}

async fn drop_schema(store: &PostgresStore) {
    let client = store.pool().get().await.unwrap();
    client.batch_execute(&format!("DROP SCHEMA {SCHEMA} CASCADE")).await.unwrap();
}
