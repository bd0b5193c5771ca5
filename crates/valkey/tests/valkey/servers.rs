//! What a server must be, what it is asked, and what it keeps.

use crate::support::{
    DONE, LATE, POLICY, START, TTL, answered, both, claim, kind, number, open, raw, started, store,
};
use firstseen_servers::{Server, Told, redis, valkey};
use firstseen_shared::{
    Begun, Call, Claim, DedupStore, Ending, ErrorKind, Policy, Start, Timestamp, Ttl,
};
use firstseen_valkey::{Clock, Durability, ValkeyOptions, ValkeyStore};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Rule 49: nothing that was seen is first again because memory is short.
#[tokio::test]
async fn rule_49_a_server_that_evicts_is_refused_unless_that_is_accepted() {
    for server in [
        redis::start_with(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]).await,
        valkey::start_with(&["--maxmemory", "100mb", "--maxmemory-policy", "volatile-ttl"]).await,
    ] {
        let error = open(&server, ValkeyOptions::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Environment);
        assert!(error.to_string().contains("noeviction"), "{error}");
        let store = open(&server, ValkeyOptions::new().accept_eviction()).await.unwrap();
        assert_eq!(claim(&store, "a").await, Claim::FirstSeen);
    }
}

/// A setting that is changed later is seen when a connection is made.
#[tokio::test]
async fn a_server_that_begins_to_evict_is_refused_when_it_is_connected_to_again() {
    for server in both().await {
        let store = store(&server).await;
        let _ = claim(&store, "a").await;
        let set = ["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"];
        let _: String = raw(&server, &set).await;
        let _: i64 = raw(&server, &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
        let refused = async {
            loop {
                match store.claim("n", b"a", TTL, Call::new()).await {
                    Err(error) if error.kind() == ErrorKind::Environment => return error,
                    // The end of the connection is not heard yet.
                    _ => sleep(Duration::from_millis(5)).await,
                }
            }
        };
        let error = timeout(LATE, refused).await.unwrap();
        assert!(error.to_string().contains("allkeys-lru"), "{error}");
    }
}

/// Rule 49, where the memory is full.
#[tokio::test]
async fn rule_49_a_server_whose_memory_is_full_refuses_and_forgets_nothing() {
    for server in [
        redis::start_with(&["--maxmemory", "4mb", "--maxmemory-policy", "noeviction"]).await,
        valkey::start_with(&["--maxmemory", "4mb", "--maxmemory-policy", "noeviction"]).await,
    ] {
        let store = store(&server).await;
        let id = |n: usize| format!("{n:0>1000}");
        let mut claimed = 0;
        let error = loop {
            match store.claim("n", id(claimed).as_bytes(), TTL, Call::new()).await {
                Ok(claim) => assert_eq!(claim, Claim::FirstSeen),
                Err(error) => break error,
            }
            claimed += 1;
            assert!(claimed < 10_000, "its memory is never full");
        };
        assert_eq!(error.kind(), ErrorKind::Environment);
        assert!(error.to_string().contains("maxmemory"), "{error}");
        let begun = store.begin("n", b"a", &START, &POLICY, Call::new()).await;
        assert_eq!(kind(begun), ErrorKind::Environment);
        for n in 0..claimed {
            assert!(store.contains("n", id(n).as_bytes()).await.unwrap(), "{n} of {claimed}");
        }
        assert!(!store.contains("n", id(claimed).as_bytes()).await.unwrap());
        assert_eq!(store.stats("n").await.unwrap().claims, Some(claimed as u64));
    }
}

#[tokio::test]
async fn a_replica_is_unavailable_and_a_master_that_becomes_one_grants_nothing() {
    for (master, other) in [
        (redis::start().await, redis::start().await),
        (valkey::start().await, valkey::start().await),
    ] {
        let options = || ValkeyOptions::new().answer_max(Duration::from_millis(500));
        let store = answered(|| open(&other, options())).await;
        let _ = answered(|| store.claim("n", b"a", TTL, Call::new())).await;
        let _: String = raw(&other, &["REPLICAOF", "127.0.0.1", &master.port().to_string()]).await;
        assert_eq!(kind(store.claim("n", b"b", TTL, Call::new()).await), ErrorKind::Unavailable);
        let begun = store.begin("n", b"b", &START, &POLICY, Call::new()).await;
        assert_eq!(kind(begun), ErrorKind::Unavailable);
        assert_eq!(kind(open(&other, options()).await), ErrorKind::Unavailable);
        let _: String = raw(&other, &["REPLICAOF", "NO", "ONE"]).await;
        // Its data are those of the master, which has none.
        let call = Call::new();
        let claimed = answered(|| store.claim("n", b"b", TTL, call)).await;
        assert_eq!(claimed, Claim::FirstSeen);
    }
}

#[tokio::test]
async fn a_durability_that_the_server_does_not_have_is_refused() {
    let disk = || ValkeyOptions::new().durability(Durability::Disk { replicas: 0 });
    // No WAITAOF in 7.0, and no file to wait for.
    for server in [redis::start_durable().await, valkey::start().await] {
        assert_eq!(kind(open(&server, disk()).await), ErrorKind::Environment);
    }
    let server = valkey::start_durable().await;
    let store = open(&server, disk()).await.unwrap();
    assert_eq!(claim(&store, "a").await, Claim::FirstSeen);
    assert!(claim(&store, "a").await.is_duplicate());
}

#[tokio::test]
async fn an_answer_that_too_few_replicas_confirm_is_unavailable_and_right_when_repeated() {
    for (master, replica) in [
        (redis::start().await, redis::start().await),
        (valkey::start().await, valkey::start().await),
    ] {
        let options = ValkeyOptions::new()
            .durability(Durability::Replicas(1))
            .wait_max(Duration::from_millis(100));
        let store = open(&master, options).await.unwrap();
        let call = Call::new();
        let error = store.claim("n", b"a", TTL, call).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("0 of 1 replicas"), "{error}");
        follow(&replica, &master).await;
        let confirmed = answered(|| store.claim("n", b"a", TTL, call)).await;
        assert_eq!(confirmed, Claim::FirstSeen);
        // Also what others have written is confirmed before somebody hears of it.
        let keys: Vec<String> = raw(&replica, &["KEYS", "fs:{n:*}:c:a"]).await;
        assert_eq!(keys.len(), 1);
        let lone = answered(|| store.claim("n", b"a", TTL, Call::new())).await;
        assert!(lone.is_duplicate());
        replica.freeze();
        let answer = store.claim("n", b"a", TTL, Call::new()).await;
        assert_eq!(kind(answer), ErrorKind::Unavailable);
        replica.thaw();
    }
}

/// Makes a server a replica of another, and waits until it has its data.
pub(crate) async fn follow(replica: &Server, master: &Server) {
    follow_port(replica, master.port()).await;
}

pub(crate) async fn follow_port(replica: &Server, port: u16) {
    let _: String = raw(replica, &["REPLICAOF", "127.0.0.1", &port.to_string()]).await;
    let linked = async {
        loop {
            let info: String = raw(replica, &["INFO", "replication"]).await;
            if info.contains("master_link_status:up") {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LATE, linked).await.unwrap();
}

/// Clusters of one server: it refuses a call whose keys are in more than one slot.
pub(crate) async fn clusters() -> [Server; 2] {
    let servers =
        [redis::start_with(&redis::CLUSTER).await, valkey::start_with(&valkey::CLUSTER).await];
    for server in &servers {
        to_cluster(server).await;
    }
    servers
}

/// Gives a server all slots, and waits until it serves them.
pub(crate) async fn to_cluster(server: &Server) {
    let _: String = raw(server, &["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
    let ready = async {
        loop {
            let info: String = raw(server, &["CLUSTER", "INFO"]).await;
            if info.contains("cluster_state:ok") {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LATE, ready).await.unwrap();
}

#[tokio::test]
async fn a_slot_that_a_cluster_does_not_serve_is_unavailable() {
    for server in clusters().await {
        let options = ValkeyOptions::new().answer_max(Duration::from_millis(500));
        let store = answered(|| open(&server, options.clone())).await;
        let _: String = raw(&server, &["CLUSTER", "DELSLOTSRANGE", "0", "16383"]).await;
        assert_eq!(kind(store.claim("n", b"a", TTL, Call::new()).await), ErrorKind::Unavailable);
    }
}

/// Without files a restart loses all: an operator is warned before and told after.
#[tokio::test]
async fn a_server_without_files_grants_claims_again_after_a_kill_and_says_so() {
    for mut server in both().await {
        let told = Told::default();
        let _guard = tracing::subscriber::set_default(told.clone());
        let store = store(&server).await;
        assert!(told.has(tracing::Level::WARN, "no append-only file"));
        assert_eq!(claim(&store, "a").await, Claim::FirstSeen);
        assert!(claim(&store, "a").await.is_duplicate());
        server.restart().await;
        assert_eq!(claim(&store, "a").await, Claim::FirstSeen);
        assert!(told.has(tracing::Level::ERROR, "has lost its data"));
    }
    for server in [redis::start_durable().await, valkey::start_durable().await] {
        let told = Told::default();
        let _guard = tracing::subscriber::set_default(told.clone());
        store(&server).await;
        assert!(!told.has(tracing::Level::WARN, ""));
    }
}

/// What has ended leaves no key behind, and nothing that never ends has an end.
#[tokio::test]
async fn what_has_ended_leaves_the_memory_of_the_server() {
    for server in both().await {
        let store = store(&server).await;
        let short = Ttl::from_millis(40);
        let dead = Policy { attempts_max: 1, dead_ttl: short, ..POLICY };
        for n in 0..20_u8 {
            let _ = store.claim("n", &[n], short, Call::new()).await.unwrap();
            let token = started(&store, &[n]).await;
            let ending = match n % 2 {
                0 => Ending::Completed { result: b"done", is_failure: false, ttl: short },
                _ => Ending::Final { reason: "never" },
            };
            store.end("n", &[n], token, &ending, &dead).await.unwrap();
        }
        let _ = store.claim("n", b"kept", Ttl::FOREVER, Call::new()).await.unwrap();
        let token = started(&store, b"kept").await;
        let kept = Ending::Completed { result: b"", is_failure: false, ttl: Ttl::FOREVER };
        store.end("n", b"kept", token, &kept, &POLICY).await.unwrap();
        let gone = async {
            loop {
                // Asking for the letters removes those that have ended from their list.
                let letters = store.dead_letters("n", None, 99).await.unwrap();
                let keys: Vec<String> = raw(&server, &["KEYS", "fs:{n:?}:[crde]*"]).await;
                let keys: BTreeSet<String> = keys.into_iter().collect();
                if letters.is_empty() && keys.len() == 2 {
                    assert!(keys.iter().all(|key| key.ends_with(":kept")), "{keys:?}");
                    return;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(LATE, gone).await.unwrap();
        let stats = store.stats("n").await.unwrap();
        assert_eq!(stats.dead_letters, Some(0));
        assert_eq!((stats.claims, stats.records), (Some(1), Some(1)));
    }
}

/// Counts are kept while time passes, without a scan, and do not pile up.
#[tokio::test]
async fn claims_are_counted_to_a_thirty_second_of_their_ttl() {
    for server in both().await {
        let clock = Clock::standing();
        let options = ValkeyOptions::new().clock(clock.clone());
        let store = open(&server, options).await.unwrap();
        let hour = Ttl::from_millis(3_600_000);
        for minute in 0..240_u64 {
            let names: Vec<String> = (0..64).map(|n| format!("{minute} {n}")).collect();
            let ids: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
            let _ = store.claim_batch("n", &ids, hour, Call::new()).await.unwrap();
            clock.advance(Duration::from_secs(60));
            let live = 64 * (minute + 1).min(59);
            let counted = store.stats("n").await.unwrap().claims.unwrap();
            assert!((live..=live + 64 * 2).contains(&counted), "{counted} for {live}");
        }
        let metas: Vec<String> = raw(&server, &["KEYS", "fs:{n:*}:m"]).await;
        assert_eq!(metas.len(), 16);
        for meta in metas {
            let fields: usize = raw(&server, &["HLEN", &meta]).await;
            assert!(fields < 70, "{fields} fields, though a claim lives for 64 of them at most");
        }
        clock.advance(Duration::from_secs(3_700));
        assert_eq!(store.stats("n").await.unwrap().claims, Some(0));
    }
}

/// More than one page of one partition.
#[tokio::test]
async fn dead_letters_are_listed_in_order_over_all_partitions_and_pages() {
    for server in both().await {
        let clock = Clock::standing();
        let options = ValkeyOptions::new().clock(clock.clone());
        let store = Arc::new(open(&server, options).await.unwrap());
        let count = number("FIRSTSEEN_VALKEY_LETTERS", 3_000);
        let ids: Vec<Vec<u8>> = (0..count).map(|n| (n * 7_919).to_be_bytes().to_vec()).collect();
        let short = Policy { dead_ttl: Ttl::from_millis(1_000), ..POLICY };
        let tasks: Vec<_> = ids
            .chunks(ids.len() / 16)
            .map(|some| {
                let (store, some) = (Arc::clone(&store), some.to_vec());
                tokio::spawn(async move {
                    for id in some {
                        let token = started(&store, &id).await;
                        // A third of them ends soon.
                        let policy = if id[7] % 3 == 0 { short } else { POLICY };
                        let ending = Ending::Final { reason: "never" };
                        store.end("n", &id, token, &ending, &policy).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let mut wanted = ids.clone();
        wanted.sort_unstable();
        assert_eq!(store.dead_letters("n", None, usize::MAX).await.unwrap(), wanted);
        clock.advance(Duration::from_secs(1));
        wanted.retain(|id| id[7] % 3 != 0);
        assert_eq!(store.stats("n").await.unwrap().dead_letters, Some(wanted.len() as u64));
        let mut listed: Vec<Vec<u8>> = Vec::new();
        loop {
            let after = listed.last().cloned();
            let page = store.dead_letters("n", after.as_deref(), 700).await.unwrap();
            if page.is_empty() {
                break;
            }
            assert!(page.len() == 700 || listed.len() + page.len() == wanted.len());
            listed.extend(page);
        }
        assert_eq!(listed, wanted);
        assert!(store.dead_letters("n", None, 0).await.unwrap().is_empty());
    }
}

/// Rule 28: also when the record, and the last token of its partition, are gone.
#[tokio::test]
async fn rule_28_tokens_grow_though_the_server_has_lost_the_last_one() {
    for server in both().await {
        let store = store(&server).await;
        let mut last = 0;
        for round in 0..4 {
            let token = started(&store, b"a").await;
            assert!(token > last, "{token} after {last}");
            last = token;
            if round % 2 == 0 {
                assert!(store.forget_record("n", b"a").await.unwrap());
            } else {
                let _: String = raw(&server, &["FLUSHALL"]).await;
            }
        }
    }
}

/// The millisecond is the server's; a claim is never shorter than its ttl.
#[tokio::test]
async fn a_claim_ends_at_its_time_by_the_clock_of_the_server() {
    for server in both().await {
        let store = store(&server).await;
        let ttl = Ttl::from_millis(150);
        let _ = store.claim("n", b"a", ttl, Call::new()).await.unwrap();
        let first = |claim| match claim {
            Claim::Duplicate { first_seen } => Some(first_seen),
            Claim::FirstSeen => None,
        };
        let mut last_seen = Timestamp::default();
        let again = async {
            loop {
                let now = time(&server).await;
                match first(store.claim("n", b"a", ttl, Call::new()).await.unwrap()) {
                    Some(first) => last_seen = first,
                    None => return now,
                }
                assert!(now < last_seen.as_millis() + 150);
            }
        };
        let again = timeout(LATE, again).await.unwrap();
        assert!(time(&server).await >= last_seen.as_millis() + 150, "{again}");
    }
}

async fn time(server: &Server) -> u64 {
    let (seconds, micros): (u64, u64) = raw(server, &["TIME"]).await;
    seconds * 1_000 + micros / 1_000
}

/// Names, ids and results of any bytes, and those that look like keys.
#[tokio::test]
async fn names_that_look_like_keys_are_kept_apart() {
    for server in clusters().await {
        let store = store(&server).await;
        let namespaces = ["a", "a}", "{a}", "a:0", "a:0}:c", " ", "\u{1f512}", "\0"];
        let ids: [&[u8]; 6] = [b"x", b"c:x", b"}:c:x", b"{y}", b"\xff\0\r\n", &[0xfe; 1_024]];
        for namespace in namespaces {
            let claims = store.claim_batch(namespace, &ids, TTL, Call::new()).await.unwrap();
            assert!(claims.into_iter().all(Claim::is_first_seen), "{namespace:?}");
            for id in ids {
                let begun = store.begin(namespace, id, &START, &POLICY, Call::new()).await;
                let Begun::Started { token, attempt: 1 } = begun.unwrap() else { panic!() };
                store.end(namespace, id, token, &DONE, &POLICY).await.unwrap();
            }
            let count = Some(ids.len() as u64);
            let stats = store.stats(namespace).await.unwrap();
            assert_eq!((stats.claims, stats.records), (count, count));
        }
        let other = ValkeyOptions::new().prefix("fs2");
        let other: ValkeyStore = open(&server, other).await.unwrap();
        assert_eq!(other.stats("a").await.unwrap().claims, Some(0));
    }
}

#[tokio::test]
async fn a_batch_of_more_than_one_exchange_is_answered_in_order() {
    for server in both().await {
        let store = store(&server).await;
        let names: Vec<String> = (0..20_000).map(|n| format!("{}", n % 17_000)).collect();
        let ids: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
        let claims = store.claim_batch("n", &ids, TTL, Call::new()).await.unwrap();
        for (n, claim) in claims.iter().enumerate() {
            assert_eq!(claim.is_first_seen(), n < 17_000, "{n}");
        }
        assert_eq!(store.stats("n").await.unwrap().claims, Some(17_000));
        assert!(store.claim_batch("n", &[], TTL, Call::new()).await.unwrap().is_empty());
        let bad: [&[u8]; 2] = [b"new", b""];
        assert_eq!(kind(store.claim_batch("n", &bad, TTL, Call::new()).await), ErrorKind::Invalid);
        assert!(!store.contains("n", b"new").await.unwrap());
    }
}

/// A worker's lease is as long as it says, also one of zero milliseconds more than nothing.
#[tokio::test]
async fn calls_that_are_wrong_are_refused_before_anything_is_sent() {
    let server = redis::start().await;
    let store = store(&server).await;
    let long = "w".repeat(256);
    let begin = async |start: Start<'_>, policy: Policy| {
        kind(store.begin("n", b"a", &start, &policy, Call::new()).await)
    };
    let invalid = ErrorKind::Invalid;
    assert_eq!(begin(Start { lease: Duration::ZERO, ..START }, POLICY).await, invalid);
    assert_eq!(begin(Start { worker: &long, ..START }, POLICY).await, invalid);
    assert_eq!(begin(START, Policy { attempts_max: 0, ..POLICY }).await, invalid);
    assert_eq!(begin(START, Policy { dead_ttl: Ttl::from_millis(0), ..POLICY }).await, invalid);
    assert_eq!(kind(store.contains("", b"a").await), invalid);
    assert_eq!(kind(store.contains(&long, b"a").await), invalid);
    assert_eq!(kind(store.contains("n", &[0; 1_025]).await), invalid);
    assert_eq!(kind(store.claim("n", b"a", Ttl::from_millis(0), Call::new()).await), invalid);
    let result = vec![0; store.result_bytes_max() + 1];
    assert_eq!(kind(store.settle("n", b"a", &result, TTL).await), invalid);
    let keys: Vec<String> = raw(&server, &["KEYS", "*"]).await;
    assert_eq!(keys, ["fs:layout"]);
}
