//! Claims a second on loopback, beside the embedded store and the plain commands of the server.
//!
//! ```text
//! cargo bench --package firstseen-valkey --bench claims
//! FIRSTSEEN_BENCH_IDS=200000 cargo bench --package firstseen-valkey --bench claims
//! ```
//!
//! Starts the servers itself. Each line is one run with new ids of 16 bytes, and one with the same ids again.

#![allow(clippy::unwrap_used, reason = "a measurement that meets an error has failed")]
#![allow(clippy::disallowed_macros, reason = "what was measured is printed")]

use firstseen_servers::{Server, redis, valkey};
use firstseen_shared::{Call, Claim, DedupStore, Embedded, Ttl};
use firstseen_valkey::{Durability, ValkeyOptions, ValkeyStore};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const TTL: Ttl = Ttl::from_millis(7 * 24 * 3_600 * 1_000);

/// How claims are made: by so many tasks, each so many at a time.
#[derive(Debug, Clone, Copy)]
struct Way {
    tasks: usize,
    batch: usize,
}

const WAYS: [Way; 7] = [
    Way { tasks: 1, batch: 1 },
    Way { tasks: 16, batch: 1 },
    Way { tasks: 64, batch: 1 },
    Way { tasks: 1, batch: 16 },
    Way { tasks: 1, batch: 100 },
    Way { tasks: 1, batch: 1_000 },
    Way { tasks: 4, batch: 1_000 },
];

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let count = std::env::var("FIRSTSEEN_BENCH_IDS").map_or(50_000, |text| text.parse().unwrap());
    println!("{count} ids of 16 bytes; claims a second: new, and seen before");
    let dir = tempfile::tempdir().unwrap();
    let embedded = Embedded::new(firstseen::Store::open(dir.path().join("seen.db")).unwrap());
    measure_all("embedded, Process", &Arc::new(embedded), count).await;
    for (name, server) in [("Redis", redis::start().await), ("Valkey", valkey::start().await)] {
        let one = store(&server, ValkeyOptions::new()).await;
        measure_all(&format!("{name}, no files"), &one, count).await;
        let each = store(&server, ValkeyOptions::new().ids_per_call(1)).await;
        measure_all(&format!("{name}, no files, a call for each id"), &each, count).await;
        plain(name, &server, count).await;
    }
    let durable = valkey::start_durable().await;
    let one = store(&durable, ValkeyOptions::new()).await;
    measure_all("Valkey, appendfsync always", &one, count / 5).await;
    let disk = ValkeyOptions::new().durability(Durability::Disk { replicas: 0 });
    let one = store(&durable, disk).await;
    measure_all("Valkey, appendfsync always, WAITAOF", &one, count / 5).await;
    let (master, replica) = (valkey::start().await, valkey::start().await);
    follow(&replica, &master).await;
    for connections in [1, 8] {
        let options =
            ValkeyOptions::new().durability(Durability::Replicas(1)).connections(connections);
        let waiting = store(&master, options).await;
        let name = format!("Valkey, WAIT 1, {connections} connections");
        measure_all(&name, &waiting, count / 5).await;
    }
    memory(&valkey::start().await, "Valkey").await;
    memory(&redis::start().await, "Redis").await;
}

async fn store(server: &Server, options: ValkeyOptions) -> Arc<ValkeyStore> {
    Arc::new(ValkeyStore::connect(&redis::url(server), options).await.unwrap())
}

async fn connection(server: &Server) -> ::redis::aio::MultiplexedConnection {
    let client = ::redis::Client::open(redis::url(server)).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

async fn measure_all<S: DedupStore>(name: &str, store: &Arc<S>, count: usize) {
    for way in WAYS {
        // One at a time takes long, and needs fewer to be measured.
        let some = if way.tasks * way.batch == 1 { count / 5 } else { count };
        let namespace = format!("{name} {way:?}");
        let new = measure(store, &namespace, way, some, true).await;
        let seen = measure(store, &namespace, way, some, false).await;
        let Way { tasks, batch } = way;
        println!("{name:<42} {tasks:>3} tasks, {batch:>4} at a time: {new:>9.0} {seen:>9.0}");
    }
}

/// Returns how many claims are made in a second.
async fn measure<S: DedupStore>(
    store: &Arc<S>,
    namespace: &str,
    way: Way,
    count: usize,
    is_new: bool,
) -> f64 {
    let namespace: Arc<str> = namespace.into();
    let each = count / way.tasks;
    let began = Instant::now();
    let tasks: Vec<_> = (0..way.tasks)
        .map(|task| {
            let (store, namespace) = (Arc::clone(store), Arc::clone(&namespace));
            tokio::spawn(async move {
                let ids: Vec<String> = (0..each)
                    .map(|n| format!("{:016x}", (task * each + n) * 2_654_435_761))
                    .collect();
                for some in ids.chunks(way.batch) {
                    let ids: Vec<&[u8]> = some.iter().map(String::as_bytes).collect();
                    let claims = store.claim_batch(&namespace, &ids, TTL, Call::new()).await;
                    let is_right = |claim: &Claim| claim.is_first_seen() == is_new;
                    assert!(claims.unwrap().iter().all(is_right));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    (each * way.tasks) as f64 / began.elapsed().as_secs_f64()
}

/// What the server's own command for this does, without all that a claim here knows.
async fn plain(name: &str, server: &Server, count: usize) {
    for Way { tasks, batch } in WAYS {
        let some = if tasks * batch == 1 { count / 5 } else { count };
        let each = some / tasks;
        let shared = connection(server).await;
        let began = Instant::now();
        let running: Vec<_> = (0..tasks)
            .map(|task| {
                let mut connection = shared.clone();
                tokio::spawn(async move {
                    for from in (0..each).step_by(batch) {
                        let mut pipeline = ::redis::pipe();
                        for n in from..(from + batch).min(each) {
                            pipeline
                                .cmd("SET")
                                .arg(format!("plain:{tasks}:{batch}:{task}:{n:08x}"));
                            pipeline.arg("1").arg("NX").arg("PX").arg(604_800_000);
                        }
                        let _: Vec<Option<String>> =
                            pipeline.query_async(&mut connection).await.unwrap();
                    }
                })
            })
            .collect();
        for task in running {
            task.await.unwrap();
        }
        let rate = (each * tasks) as f64 / began.elapsed().as_secs_f64();
        let name = format!("{name}, no files, plain SET NX PX");
        println!("{name:<42} {tasks:>3} tasks, {batch:>4} at a time: {rate:>9.0}");
    }
}

async fn follow(replica: &Server, master: &Server) {
    let mut connection = connection(replica).await;
    let mut command = ::redis::cmd("REPLICAOF");
    command.arg("127.0.0.1").arg(master.port());
    let _: String = command.query_async(&mut connection).await.unwrap();
    loop {
        let info: String =
            ::redis::cmd("INFO").arg("replication").query_async(&mut connection).await.unwrap();
        if info.contains("master_link_status:up") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Claims whose memory is measured.
const COUNT: u64 = 100_000;

/// What a claim costs in memory.
async fn memory(server: &Server, name: &str) {
    let store = store(server, ValkeyOptions::new()).await;
    let mut connection = connection(server).await;
    let used = async |connection: &mut ::redis::aio::MultiplexedConnection| -> u64 {
        let info: String =
            ::redis::cmd("INFO").arg("memory").query_async(connection).await.unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
        line.unwrap().trim().parse().unwrap()
    };
    let before = used(&mut connection).await;
    let names: Vec<String> = (0..COUNT).map(|n| format!("{n:016x}")).collect();
    for some in names.chunks(10_000) {
        let ids: Vec<&[u8]> = some.iter().map(String::as_bytes).collect();
        let _ = store.claim_batch("orders", &ids, TTL, Call::new()).await.unwrap();
    }
    let after = used(&mut connection).await;
    let each = (after - before) / COUNT;
    println!(
        "{name}: {each} bytes of used_memory for each of {COUNT} claims with a ttl, ids of 16 bytes"
    );
    let keys: Vec<String> = ::redis::cmd("KEYS")
        .arg("fs:{orders:*:c:000000000000000?")
        .query_async(&mut connection)
        .await
        .unwrap();
    let usage: u64 = ::redis::cmd("MEMORY")
        .arg("USAGE")
        .arg(&keys[0])
        .query_async(&mut connection)
        .await
        .unwrap();
    println!("{name}: MEMORY USAGE {} {usage}", keys[0]);
}
