//! Rules 95 to 98 and 11, where the suite of all stores cannot look.

use crate::support::{
    DONE, LATE, POLICY, START, TTL, answered, ask, both, claim, kind, open, raw, started, store,
    token_of,
};
use firstseen_servers::{Proxy, Server, redis};
use firstseen_shared::{
    Begin, Begun, Call, Claim, DedupStore, ErrorKind, LedgerOptions, MoveError, SharedLedger, Start,
};
use firstseen_valkey::{ValkeyOptions, ValkeyStore};
use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Rule 95: a lease is judged by the store's clock. What is sent is the same at any time of the client's, so its clock cannot
/// change anything.
#[tokio::test]
async fn rule_95_nothing_that_is_sent_depends_on_the_clock_of_the_client() {
    for server in both().await {
        let proxy = Proxy::before(server.address()).await;
        let store =
            ValkeyStore::connect(&format!("redis://{}/", proxy.address()), ValkeyOptions::new())
                .await
                .unwrap();
        let call = Call::new();
        let token = token_of(&store.begin("n", b"a", &START, &POLICY, call).await.unwrap());
        let mut sent = Vec::new();
        for _ in 0..3 {
            // The clock of this process moves on.
            sleep(Duration::from_millis(30)).await;
            proxy.take_sent();
            let _ = store.claim("n", b"a", TTL, call).await;
            let _ = store.begin("n", b"a", &START, &POLICY, call).await;
            let _ = store.renew("n", b"a", token, START.lease).await;
            let _ = store.end("n", b"b", token, &DONE, &POLICY).await;
            sent.push(proxy.take_sent().escape_ascii().to_string());
        }
        // The first time the sources of the scripts are sent along.
        assert!(sent[1].contains("EVALSHA") && sent[1].contains(&token.to_string()));
        assert_eq!(sent[1], sent[2]);
    }
}

/// Rule 95: times in answers are the server's.
#[tokio::test]
async fn rule_95_times_in_answers_are_those_of_the_server() {
    for server in both().await {
        let store = store(&server).await;
        let before = time(&server).await;
        let _ = claim(&store, "a").await;
        started(&store, b"a").await;
        let after = time(&server).await;
        let Claim::Duplicate { first_seen } = claim(&store, "a").await else { panic!() };
        assert!((before..=after).contains(&first_seen.as_millis()));
        let record = store.record("n", b"a").await.unwrap().unwrap();
        assert!((before..=after).contains(&record.first_begun.as_millis()));
        assert!((after..=time(&server).await).contains(&record.read.as_millis()));
    }
}

async fn time(server: &Server) -> u64 {
    let (seconds, micros): (u64, u64) = raw(server, &["TIME"]).await;
    seconds * 1_000 + micros / 1_000
}

const RACERS: usize = 2;
const RACED: usize = 300;

/// Rule 96: a record whose lease ended is taken over in one step. Two processes, each with several tasks, ask for the same
/// records at once: one of all starts each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_96_of_two_processes_that_take_over_at_once_one_starts_each_record() {
    for server in both().await {
        let store = store(&server).await;
        let short = Start { lease: Duration::from_millis(1), ..START };
        for n in 0..RACED {
            let id = format!("{n}");
            let begun = store.begin("n", id.as_bytes(), &short, &POLICY, Call::new()).await;
            assert!(matches!(begun.unwrap(), Begun::Started { attempt: 1, .. }));
        }
        let children: Vec<_> = (0..RACERS)
            .map(|_| {
                std::process::Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "rules::the_process_that_takes_over", "--nocapture"])
                    .env("FIRSTSEEN_VALKEY_RACER", redis::url(&server))
                    .stdout(Stdio::piped())
                    .spawn()
                    .unwrap()
            })
            .collect();
        // They wait for each other at the server.
        let mut starts: BTreeMap<String, usize> = BTreeMap::new();
        for child in children {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success());
            let text = String::from_utf8(output.stdout).unwrap();
            for id in text.lines().filter_map(|line| line.strip_prefix("started ")) {
                *starts.entry(id.to_owned()).or_default() += 1;
            }
        }
        assert_eq!(starts.len(), RACED);
        assert!(starts.values().all(|&count| count == 1), "{starts:?}");
    }
}

/// Not a test: one of the two processes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_that_takes_over() {
    let Ok(url) = std::env::var("FIRSTSEEN_VALKEY_RACER") else { return };
    let options = ValkeyOptions::new().answer_max(LATE);
    let store = ValkeyStore::connect(&url, options).await.unwrap();
    let mut ready: usize = ask(&url, &["INCR", "racers"]).await;
    while ready < RACERS {
        ready = ask(&url, &["GET", "racers"]).await;
    }
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0..RACED {
                    let id = format!("{n}");
                    let begun = store.begin("n", id.as_bytes(), &START, &POLICY, Call::new()).await;
                    match begun.unwrap() {
                        Begun::Started { attempt: 2, .. } => println!("started {id}"),
                        Begun::InProgress(_) => {}
                        other => panic!("{other:?}"),
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

/// Rule 97: while the store is away, the owner keeps on until the end of its lease, counted from when it sent the last renewal
/// that was accepted; then it stops.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_97_while_the_server_is_frozen_the_owner_keeps_on_until_its_lease_ends() {
    for server in both().await {
        let mut all = Vec::new();
        // On a machine with other work a short lease may end before it is renewed, and that may be noticed late.
        for lease in [2, 8, 30].map(Duration::from_secs) {
            let kept = kept_on_for(&server, lease).await;
            let in_time = lease / 4..=lease + lease.min(Duration::from_secs(6));
            if kept.is_some_and(|kept| in_time.contains(&kept)) {
                all.clear();
                break;
            }
            all.push((lease, kept));
        }
        assert!(all.is_empty(), "kept on for another time than the lease: {all:?}");
    }
}

/// Returns how long an owner keeps on when the server is frozen; `None` if its lease ended before it was renewed once.
async fn kept_on_for(server: &Server, lease: Duration) -> Option<Duration> {
    let options = ValkeyOptions::new().answer_max(Duration::from_millis(200));
    let store = answered(|| open(server, options.clone())).await;
    let policies = LedgerOptions::new().lease(lease);
    let ledger = SharedLedger::new(store, "n", policies).unwrap();
    let id = format!("kept for {lease:?}");
    let Begin::Started(attempt) = ledger.begin(&id, None).await.unwrap() else { panic!() };
    let renewals = attempt.keep_renewed();
    // At least one renewal was accepted.
    let first = ledger.get(&id).await.unwrap().unwrap();
    let renewed = async {
        while ledger.get(&id).await.unwrap().unwrap().state == first.state {
            sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        renewed = timeout(LATE, renewed) => renewed.unwrap(),
        _ = renewals.lost() => return None,
    }
    server.freeze();
    let frozen = Instant::now();
    timeout(LATE, renewals.lost()).await.unwrap();
    let kept = frozen.elapsed();
    server.thaw();
    Some(kept)
}

/// Rule 98: another layout is refused and named, when a store is opened and by every call.
#[tokio::test]
async fn rule_98_another_layout_is_refused_and_never_guessed() {
    for server in both().await {
        let store = store(&server).await;
        let _ = claim(&store, "a").await;
        let token = started(&store, b"a").await;
        let metas: Vec<String> = raw(&server, &["KEYS", "fs:{n:*}:m"]).await;
        assert!(!metas.is_empty());
        for meta in metas {
            let _: i64 = raw(&server, &["HSET", &meta, "v", "2"]).await;
        }
        let schema = ErrorKind::Schema;
        let error = store.claim("n", b"a", TTL, Call::new()).await.unwrap_err();
        assert!(error.to_string().contains("version 2"), "{error}");
        assert_eq!(error.kind(), schema);
        assert_eq!(kind(store.contains("n", b"a").await), schema);
        assert_eq!(kind(store.forget("n", b"a").await), schema);
        assert_eq!(kind(store.record("n", b"a").await), schema);
        assert_eq!(kind(store.begin("n", b"a", &START, &POLICY, Call::new()).await), schema);
        assert_eq!(kind(store.redrive("n", b"a").await), schema);
        assert_eq!(kind(store.settle("n", b"a", b"", TTL).await), schema);
        assert_eq!(kind(store.forget_record("n", b"a").await), schema);
        assert_eq!(kind(store.dead_letters("n", None, 9).await), schema);
        assert_eq!(kind(store.stats("n").await), schema);
        for refused in [
            store.renew("n", b"a", token, START.lease).await,
            store.end("n", b"a", token, &DONE, &POLICY).await,
        ] {
            let Err(MoveError::Store(error)) = refused else { panic!("{refused:?}") };
            assert_eq!(error.kind(), schema);
        }
        let _: String = raw(&server, &["SET", "fs:layout", "2"]).await;
        assert_eq!(kind(open(&server, ValkeyOptions::new()).await), schema);
        assert!(open(&server, ValkeyOptions::new().prefix("other")).await.is_ok());
    }
}

/// Rule 11: what cannot be read is an error, and never "completed" or "absent"; forgetting it is the way out.
#[tokio::test]
async fn rule_11_what_cannot_be_read_is_damaged_until_it_is_forgotten() {
    for server in both().await {
        let store = store(&server).await;
        let record = key_of(&server, &store, b"a", "r").await;
        let breaks: [&[&str]; 9] = [
            &["HSET", &record, "s", "z"],
            &["HDEL", &record, "s"],
            &["HDEL", &record, "w"],
            &["HSET", &record, "u", "soon"],
            &["HSET", &record, "n", "-1"],
            &["HSET", &record, "k", "9007199254740992"],
            &["HSET", &record, "h", "what is this"],
            &["SET", &record, "text"],
            &[
                "EVAL",
                "redis.call('DEL', KEYS[1]) return redis.call('LPUSH', KEYS[1], 'x')",
                "1",
                &record,
            ],
        ];
        for words in breaks {
            let lease = Duration::from_millis(1);
            let start = Start { lease, ..START };
            let begun = store.begin("n", b"a", &start, &POLICY, Call::new()).await.unwrap();
            let token = token_of(&begun);
            let _: ::redis::Value = raw(&server, words).await;
            let begun = store.begin("n", b"a", &START, &POLICY, Call::new()).await;
            assert_eq!(kind(begun), ErrorKind::Damaged, "{words:?}");
            assert_eq!(kind(store.record("n", b"a").await), ErrorKind::Damaged, "{words:?}");
            let ended = store.end("n", b"a", token, &DONE, &POLICY).await;
            let Err(MoveError::Store(error)) = ended else { panic!("{words:?}: {ended:?}") };
            assert_eq!(error.kind(), ErrorKind::Damaged);
            assert!(store.forget_record("n", b"a").await.unwrap(), "{words:?}");
            assert!(!store.forget_record("n", b"a").await.unwrap(), "{words:?}");
        }
        // A completed record without its result.
        let token = started(&store, b"a").await;
        store.end("n", b"a", token, &DONE, &POLICY).await.unwrap();
        let _: i64 = raw(&server, &["HDEL", &record, "r"]).await;
        let begun = store.begin("n", b"a", &START, &POLICY, Call::new()).await;
        assert_eq!(kind(begun), ErrorKind::Damaged);
    }
}

#[tokio::test]
async fn rule_11_a_claim_that_cannot_be_read_is_damaged_and_leaves_the_batch_as_it_is() {
    for server in both().await {
        let store = store(&server).await;
        let key = key_of(&server, &store, b"a", "c").await;
        let breaks: [&[&str]; 3] = [
            &["SET", &key, "short"],
            &["SET", &key, "twenty-nine bytes are too many"],
            &[
                "EVAL",
                "redis.call('DEL', KEYS[1]) return redis.call('LPUSH', KEYS[1], 'x')",
                "1",
                &key,
            ],
        ];
        for words in breaks {
            let _ = claim(&store, "a").await;
            let _: ::redis::Value = raw(&server, words).await;
            assert_eq!(kind(store.claim("n", b"a", TTL, Call::new()).await), ErrorKind::Damaged);
            assert_eq!(kind(store.contains("n", b"a").await), ErrorKind::Damaged);
            assert!(store.forget("n", b"a").await.unwrap());
            assert!(!store.forget("n", b"a").await.unwrap());
            assert_eq!(claim(&store, "a").await, Claim::FirstSeen);
        }
    }
}

/// Returns the key of a claim or a record of an id.
async fn key_of(server: &Server, store: &ValkeyStore, id: &[u8], what: &str) -> String {
    let _ = claim(store, id).await;
    started(store, id).await;
    let id_text = std::str::from_utf8(id).unwrap();
    let keys: Vec<String> = raw(server, &["KEYS", &format!("fs:{{n:?}}:{what}:{id_text}")]).await;
    assert!(store.forget("n", id).await.unwrap() && store.forget_record("n", id).await.unwrap());
    keys.into_iter().next().unwrap()
}
