//! Against a real server that speaks the protocol of S3.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

use firstseen::snapshot::{RestoreOptions, SnapshotOptions, SnapshotTarget, list, verify};
use firstseen::{ErrorKind, Store};
use firstseen_servers::{Server, s3};
use firstseen_snapshot::ObjectTarget;
use object_store::aws::AmazonS3Builder;
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const BUCKET: &str = "copies";

fn target(server: &Server, patience: Duration) -> ObjectTarget {
    let retry = RetryConfig {
        backoff: BackoffConfig { init_backoff: Duration::from_millis(20), ..Default::default() },
        max_retries: 3,
        retry_timeout: Duration::from_secs(2),
    };
    let client = ClientOptions::new().with_allow_http(true).with_timeout(Duration::from_secs(5));
    let store = AmazonS3Builder::new()
        .with_endpoint(s3::url(server))
        .with_bucket_name(BUCKET)
        .with_region("us-east-1")
        .with_access_key_id(s3::ACCESS_KEY)
        .with_secret_access_key(s3::SECRET_KEY)
        .with_retry(retry)
        .with_client_options(client)
        .build()
        .unwrap();
    ObjectTarget::new(Arc::new(store), "stores/seen").unwrap().patience(patience)
}

fn started() -> (tokio::runtime::Runtime, Server) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(s3::start());
    s3::create_bucket(&server, BUCKET);
    (runtime, server)
}

const PATIENT: Duration = Duration::from_secs(30);

/// Opens a store with small segments.
fn open(path: impl AsRef<Path>) -> Store {
    Store::builder(path).segment_bytes(64 << 10).open().unwrap()
}

fn claim(store: &Store, numbers: std::ops::Range<u64>) {
    for n in numbers {
        assert!(store.claim(n.to_be_bytes()).unwrap().is_first_seen(), "{n}");
    }
}

/// How many ids from zero on a snapshot holds, and no others.
fn held(target: &dyn SnapshotTarget, dir: &Path, number: u64, below: u64) -> u64 {
    let path = dir.join(format!("restored-{number}"));
    std::fs::remove_dir_all(&path).ok();
    Store::restore_with(target, &path, RestoreOptions::new().number(number)).unwrap();
    let store = open(path);
    let held = (0..below).take_while(|n| store.contains(n.to_be_bytes()).unwrap()).count() as u64;
    assert!((held..below).all(|n| !store.contains(n.to_be_bytes()).unwrap()), "gaps behind {held}");
    held
}

#[test]
fn i15_snapshots_in_s3_are_incremental_and_come_back() {
    let (_runtime, server) = started();
    let dir = tempfile::tempdir().unwrap();
    let target = target(&server, PATIENT);
    let store = open(dir.path().join("seen.db"));
    claim(&store, 0..1_000);
    let first = store.snapshot(&target).unwrap();
    claim(&store, 1_000..20_000);
    let second = store.snapshot(&target).unwrap();
    assert!(second.segments > 1, "{second}");
    claim(&store, 20_000..20_010);
    let third = store.snapshot_with(&target, SnapshotOptions::new().keep_last(2)).unwrap();
    assert_eq!((first.number, second.number, third.number, third.removed), (1, 2, 3, 1));
    assert_eq!((third.segments, third.segments_sent), (second.segments, 1), "{third}");
    let numbers: Vec<u64> = list(&target).unwrap().iter().map(|info| info.number).collect();
    assert_eq!(numbers, [2, 3]);
    for (number, ids) in [(2, 20_000), (3, 20_010)] {
        verify(&target, number).unwrap();
        assert_eq!(held(&target, dir.path(), number, 20_020), ids);
    }
    assert_eq!(target.list("segments").unwrap().len() as u64, second.segments + 1);
}

#[test]
fn an_object_in_s3_is_created_once_and_never_replaced() {
    let (_runtime, server) = started();
    let (one, other) = (target(&server, PATIENT), target(&server, PATIENT));
    assert_eq!(one.get("folder/a").unwrap(), None);
    assert!(one.list("folder").unwrap().is_empty());
    assert!(one.put_new("folder/a", b"one").unwrap());
    assert!(!other.put_new("folder/a", b"other").unwrap());
    // A request whose answer was lost is repeated.
    assert!(one.put_new("folder/a", b"one").unwrap());
    assert_eq!(other.get("folder/a").unwrap().as_deref(), Some(&b"one"[..]));
    assert_eq!(other.list("folder").unwrap(), ["a"]);
    for _ in 0..2 {
        other.delete("folder/a").unwrap();
    }
    assert_eq!(one.get("folder/a").unwrap(), None);
    let winners: usize = std::thread::scope(|scope| {
        let race = |n: u8| {
            let own = target(&server, PATIENT);
            scope.spawn(move || usize::from(own.put_new("folder/race", &[n; 100]).unwrap()))
        };
        let threads: Vec<_> = (0..8).map(race).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(winners, 1);
}

/// Two copies of one store, and one place.
#[test]
fn i15_a_copy_that_was_replaced_stores_nothing_in_s3() {
    let (_runtime, server) = started();
    let dir = tempfile::tempdir().unwrap();
    let target = target(&server, PATIENT);
    let store = open(dir.path().join("seen.db"));
    claim(&store, 0..100);
    store.snapshot(&target).unwrap();
    let path = dir.path().join("copy.db");
    Store::restore(&target, &path).unwrap();
    let copy = open(path);
    copy.snapshot(&target).unwrap();
    claim(&store, 100..200);
    let before = target.list("segments").unwrap().len();
    assert_eq!(store.snapshot(&target).unwrap_err().kind(), ErrorKind::FixCall);
    assert_eq!(target.list("segments").unwrap().len(), before);
    assert_eq!(held(&target, dir.path(), 2, 200), 100);
}

#[test]
fn i12_a_server_that_does_not_answer_is_waited_for_so_long_and_no_longer() {
    let (_runtime, server) = started();
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path().join("seen.db"));
    claim(&store, 0..100);
    let patient = target(&server, PATIENT);
    store.snapshot(&patient).unwrap();
    server.freeze();
    claim(&store, 100..200);
    let error = store.snapshot(&target(&server, Duration::from_millis(300))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Environment, "{error}");
    assert!(error.to_string().contains("has not answered within 300ms"), "{error}");
    server.thaw();
    assert_eq!(store.snapshot(&patient).unwrap().number, 2);
    assert_eq!(held(&patient, dir.path(), 2, 200), 200);
}

fn kills() -> u64 {
    std::env::var("FIRSTSEEN_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(6)
}

/// Claims go on in another thread.
#[test]
fn i15_a_server_killed_in_the_middle_leaves_whole_snapshots_and_the_next_ones_work() {
    let (runtime, mut server) = started();
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path().join("seen.db"));
    let (claimed, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let place = target(&server, PATIENT);
    let (mut outcomes, mut newest) = ([0, 0], 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0.. {
                claim(&store, n..n + 1);
                claimed.store(n + 1, Ordering::Release);
                // All of them are looked up in each snapshot.
                std::thread::park_timeout(Duration::from_micros(200));
                if stop.load(Ordering::Acquire) {
                    return;
                }
            }
        });
        let (mut pause, mut rounds) = (Duration::ZERO, 0);
        while outcomes[0] < kills() || outcomes[1] < 2 {
            // Ever later in the course of a snapshot, until that is over before the kill.
            pause += Duration::from_millis(3);
            rounds += 1;
            assert!(rounds < 50 + kills() * 50, "{outcomes:?}");
            if outcomes[1] > 2 {
                (pause, outcomes[1]) = (Duration::ZERO, 2);
            }
            let before = claimed.load(Ordering::Acquire);
            let taken = std::thread::scope(|scope| {
                let taken = scope.spawn(|| store.snapshot(&place));
                std::thread::park_timeout(pause);
                server.kill();
                taken.join().unwrap()
            });
            runtime.block_on(server.restart());
            let infos = list(&place).unwrap();
            for info in &infos {
                verify(&place, info.number).unwrap();
            }
            let found = infos.last().map_or(0, |info| info.number);
            match taken {
                Ok(report) => {
                    assert_eq!(report.number, found, "it was said to be there");
                    outcomes[1] += 1;
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Environment, "{error}");
                    assert!(found == newest || found == newest + 1);
                    outcomes[0] += 1;
                }
            }
            if found > newest {
                newest = found;
                let claimed = claimed.load(Ordering::Acquire) + 1;
                let held = held(&place, dir.path(), newest, claimed + 10);
                assert!((before..=claimed).contains(&held), "{held}, not {before} to {claimed}");
            }
        }
        stop.store(true, Ordering::Release);
    });
    store.snapshot_with(&place, SnapshotOptions::new().keep_last(1)).unwrap();
    let all = claimed.load(Ordering::Acquire);
    let last = list(&place).unwrap().pop().unwrap();
    assert_eq!(held(&place, dir.path(), last.number, all + 10), all);
    assert_eq!(place.list("segments").unwrap().len() as u64, last.segments, "no leftovers");
}
