//! What is the embedded store's own.

use firstseen::disk::sim::SimDisk;
use firstseen::{Durability, Store};
use firstseen_shared::{
    Begun, Call, DedupStore, Embedded, Ending, OnLeaseEnd, Policy, Start, State, Ttl,
};
use std::time::Duration;

const POLICY: Policy =
    Policy { on_lease_end: OnLeaseEnd::Retry, attempts_max: 3, dead_ttl: Ttl::FOREVER };
const START: Start<'static> =
    Start { lease: Duration::from_secs(60), worker: "w", fingerprint: None };

fn open(disk: &SimDisk) -> Store {
    Store::builder("/store").disk(disk.clone()).memory_budget(4 << 20).open().expect("opens")
}

async fn begin(store: &Embedded, id: &str) -> Begun {
    let begun = store.begin("orders", id.as_bytes(), &START, &POLICY, Call::new()).await;
    begun.expect("begins")
}

#[tokio::test]
async fn leases_end_with_the_process_where_that_is_asked_for() {
    for ends_with_process in [false, true] {
        let disk = SimDisk::new();
        let made = |store| {
            let made = Embedded::new(store);
            if ends_with_process { made.leases_end_with_process() } else { made }
        };
        let before = made(open(&disk));
        assert!(matches!(begin(&before, "a").await, Begun::Started { .. }));
        let after = made(open(&disk.kill()));
        let begun = begin(&after, "a").await;
        if ends_with_process {
            assert!(matches!(begun, Begun::Started { attempt: 2, .. }), "{begun:?}");
        } else {
            assert!(matches!(begun, Begun::InProgress(_)), "{begun:?}");
        }
    }
}

/// Nobody heard of it, so nobody can work on it.
#[tokio::test]
async fn an_attempt_whose_begin_was_dropped_is_handed_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).expect("opens");
    let store = Embedded::new(store).durability(Durability::Disk);
    for n in 0..20 {
        let id = format!("id-{n}");
        // Polled once: it has begun, and waits for the disk.
        let dropped = tokio::time::timeout(Duration::ZERO, begin(&store, &id)).await;
        let record = store.record("orders", id.as_bytes()).await.expect("reads");
        let record = record.expect("it had begun");
        if let Ok(begun) = dropped {
            assert!(matches!(begun, Begun::Started { .. }), "{begun:?}");
            continue;
        }
        assert!(matches!(record.state, State::Waiting { .. }), "{record:?}");
        assert_eq!(record.attempts, 0, "it is not charged");
        let begun = begin(&store, &id).await;
        assert!(matches!(begun, Begun::Started { attempt: 1, .. }), "{begun:?}");
        return;
    }
    panic!("the disk was faster than a poll, twenty times");
}

#[tokio::test]
async fn what_is_answered_at_disk_outlasts_a_power_cut() {
    let disk = SimDisk::new();
    let store = Embedded::new(open(&disk)).durability(Durability::Disk);
    let claim = store.claim("orders", b"a", Ttl::FOREVER, Call::new()).await;
    assert!(claim.expect("claims").is_first_seen());
    let Begun::Started { token, .. } = begin(&store, "a").await else { panic!("unknown") };
    let ending = Ending::Completed { result: b"kept", is_failure: false, ttl: Ttl::FOREVER };
    store.end("orders", b"a", token, &ending, &POLICY).await.expect("completes");
    let store = Embedded::new(open(&disk.lose_unsynced()));
    let claim = store.claim("orders", b"a", Ttl::FOREVER, Call::new()).await;
    assert!(claim.expect("claims").is_duplicate());
    let begun = begin(&store, "a").await;
    assert!(matches!(&begun, Begun::Completed(record) if record.result() == Some(b"kept")));
}

/// A move of an attempt is a call of its own: between two of them the attempt goes on.
#[tokio::test]
async fn an_attempt_goes_on_between_its_calls() {
    let store = Embedded::new(open(&SimDisk::new()));
    let Begun::Started { token, .. } = begin(&store, "a").await else { panic!("unknown") };
    for _ in 0..3 {
        store.renew("orders", b"a", token, Duration::from_secs(60)).await.expect("renews");
        assert!(matches!(begin(&store, "a").await, Begun::InProgress(_)));
    }
    let ending = Ending::Completed { result: b"", is_failure: false, ttl: Ttl::from_millis(0) };
    store.end("orders", b"a", token, &ending, &POLICY).await.expect_err("a ttl of nothing");
    assert!(matches!(begin(&store, "a").await, Begun::InProgress(_)), "refused, and not failed");
}

#[tokio::test]
async fn batches_of_any_size_are_claimed() {
    let store = Embedded::new(open(&SimDisk::new()));
    let ids: Vec<[u8; 4]> = (0..70_000_u32).map(u32::to_be_bytes).collect();
    let ids: Vec<&[u8]> = ids.iter().map(|id| &id[..]).collect();
    for is_first in [true, false] {
        let claims = store.claim_batch("orders", &ids, Ttl::FOREVER, Call::new()).await;
        let claims = claims.expect("claims");
        assert_eq!(claims.len(), ids.len());
        assert!(claims.iter().all(|claim| claim.is_first_seen() == is_first));
    }
    let long = vec![7; 1_000];
    let long: Vec<Vec<u8>> =
        (0..5_000_u32).map(|n| [&n.to_be_bytes()[..], &long].concat()).collect();
    let long: Vec<&[u8]> = long.iter().map(Vec::as_slice).collect();
    let claims = store.claim_batch("orders", &long, Ttl::FOREVER, Call::new()).await;
    assert!(claims.expect("claims").iter().all(|claim| claim.is_first_seen()));
}
