//! Claims and records a second on loopback, with a server of its own.
//!
//! ```sh
//! FIRSTSEEN_BENCH_CLAIMS=50000 cargo bench --package firstseen-nats-kv --bench claims
//! ```

#![allow(clippy::disallowed_macros, reason = "a program prints")]
#![allow(clippy::unwrap_used, reason = "a measurement that fails ends")]

use firstseen_nats_kv::{NatsKvOptions, NatsKvStore};
use firstseen_servers::nats;
use firstseen_shared::{Begun, Call, DedupStore, Ending, OnLeaseEnd, Policy, Start, Ttl};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

const WEEK: Ttl = Ttl::from_millis(7 * 24 * 3_600_000);

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(measure());
}

async fn measure() {
    let count: usize =
        std::env::var("FIRSTSEEN_BENCH_CLAIMS").map_or(20_000, |text| text.parse().unwrap());
    let server = nats::start().await;
    let options = NatsKvOptions::new().answer_max(Duration::from_secs(60));
    let store = NatsKvStore::connect(&nats::url(&server), options).await.unwrap();
    for (line, (tasks, batch, what)) in
        [(1, 1, "claim"), (64, 1, "claim"), (1, 1_000, "claim"), (1, 1, "work"), (64, 1, "work")]
            .into_iter()
            .enumerate()
    {
        let ids = if batch == 1 && tasks == 1 { count / 10 } else { count };
        for round in ["new", "again"] {
            let before = store.asked();
            let began = Instant::now();
            run(&store, line, ids, tasks, batch, what).await;
            let took = began.elapsed();
            let after = store.asked();
            let asked = [0, 1, 2].map(|n| (after[n] - before[n]) as f64 / ids as f64);
            println!(
                "{what} tasks {tasks} batch {batch} {round}: {:.0}/s, each {:.2} stored, {:.2} read, of these {:.3} for the clock",
                ids as f64 / took.as_secs_f64(),
                asked[0],
                asked[1],
                asked[2]
            );
        }
    }
    let pid = server.pid();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let memory = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    println!("the server, with {} claims and records: {memory}", count * 3 + count / 10 * 2);
}

async fn run(
    store: &NatsKvStore,
    line: usize,
    count: usize,
    tasks: usize,
    batch: usize,
    what: &'static str,
) {
    let next = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..tasks)
        .map(|_| {
            let (store, next) = (store.clone(), Arc::clone(&next));
            tokio::spawn(async move {
                loop {
                    let from = next.fetch_add(batch, Ordering::Relaxed);
                    if from >= count {
                        return;
                    }
                    let ids: Vec<String> = (from..count.min(from + batch))
                        .map(|n| format!("{line}-{n:014}"))
                        .collect();
                    let ids: Vec<&[u8]> = ids.iter().map(String::as_bytes).collect();
                    if what == "claim" {
                        let claims = store.claim_batch("bench", &ids, WEEK, Call::new()).await;
                        assert_eq!(claims.unwrap().len(), ids.len());
                    } else {
                        work(&store, ids[0]).await;
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

async fn work(store: &NatsKvStore, id: &[u8]) {
    let start = Start { lease: Duration::from_secs(30), worker: "w", fingerprint: None };
    let policy =
        Policy { on_lease_end: OnLeaseEnd::Retry, attempts_max: 3, dead_ttl: Ttl::FOREVER };
    let begun = store.begin("bench", id, &start, &policy, Call::new()).await.unwrap();
    if let Begun::Started { token, .. } = begun {
        let ending = Ending::Completed { result: b"done", is_failure: false, ttl: WEEK };
        store.end("bench", id, token, &ending, &policy).await.unwrap();
    }
}
