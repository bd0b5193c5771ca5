//! What the log still knows of an id.

use super::World;
use crate::support::{AT, ids, settle};
use firstseen::disk::Disk;
use firstseen::ledger::{BeginOptions, Failure};
use firstseen::{
    ClaimOptions, History, HistoryKind, ImportEntry, NamespaceOptions, RowKind, Store, Timestamp,
    minutes,
};
use std::path::Path;
use std::time::Duration;

fn kinds(history: &History) -> Vec<HistoryKind> {
    history.events.iter().map(|event| event.what).collect()
}

/// Reads it from the store and from a reader, which must agree.
fn both(world: &World, store: Store, namespace: &str, id: &str) -> (Store, History) {
    let ns = store.find_namespace(namespace).expect("is there");
    let told = ns.history(id).expect("reads");
    drop(ns);
    store.close().expect("closes");
    let reader = world.builder().open_read_only().expect("opens");
    assert_eq!(reader.history(namespace, id).expect("reads"), told);
    drop(reader);
    (world.open(), told)
}

#[test]
fn a_history_tells_claims_extensions_and_forgetting_in_their_order() {
    let world = World::new();
    let store = world.open();
    let options = NamespaceOptions::new().ttl(minutes(10)).sliding(true);
    let ns = store.namespace_with("n", options).expect("opens");
    let mut times = Vec::new();
    let mut now = || {
        world.clock.advance(Duration::from_secs(60));
        let now = firstseen::Clock::wall(&world.clock);
        times.push(now);
    };
    now();
    assert!(ns.claim_batch(&["a", "b", "c"]).expect("claims")[0].is_first_seen());
    now();
    assert!(ns.claim("a").expect("claims").is_duplicate());
    now();
    assert!(ns.forget("a").expect("forgets"));
    now();
    assert!(ns.claim("a").expect("claims").is_first_seen());
    drop(ns);
    assert_eq!(store.history("a").expect("reads").events, [], "of another namespace");
    let (store, history) = both(&world, store, "n", "a");
    assert_eq!(
        kinds(&history),
        [HistoryKind::Claimed, HistoryKind::Extended, HistoryKind::Forgotten, HistoryKind::Claimed]
    );
    let told: Vec<_> = history.events.iter().map(|e| (e.time, e.deadline)).collect();
    let end = |n: usize| Some(Timestamp::from_millis(times[n].as_millis() + 600_000));
    assert_eq!(
        told,
        [
            (Some(times[0]), end(0)),
            (None, end(1)),
            (Some(times[2]), None),
            (Some(times[3]), end(3))
        ]
    );
    let sizes: Vec<_> = history.events.iter().map(|e| (e.commit.claims, e.commit.rows)).collect();
    assert_eq!(sizes, [(3, 0), (1, 0), (1, 0), (1, 0)]);
    assert!(history.events.iter().all(|e| e.commit.namespaces == ["n"] && e.copies == 0));
    assert!(history.events.is_sorted_by_key(|e| e.position));
    assert_eq!(history.damage, []);
    drop(store);
}

#[test]
fn a_history_tells_what_a_ledger_wrote_and_what_was_committed_with_it() {
    let world = World::new();
    let store = world.open();
    let ledger = store.ledger("n").expect("opens");
    let attempt = ledger
        .begin_with("a", BeginOptions::new().payload(b"what to do"))
        .expect("begins")
        .started()
        .expect("is new");
    let mut transaction = store.transaction();
    transaction.fail(&attempt, Failure::last("no")).expect("a failure");
    transaction.claim("beside").claim_in(&store.namespace("other").expect("opens"), "a");
    assert!(transaction.commit().expect("commits").is_committed());
    drop((transaction, attempt, ledger));
    let (store, history) = both(&world, store, "n", "a");
    let puts: Vec<_> = (history.events.iter())
        .map(|event| match event.what {
            HistoryKind::RowPut { row, .. } => (row, event.commit.clone()),
            other => panic!("{other:?}"),
        })
        .collect();
    let rows: Vec<_> = puts.iter().map(|(row, _)| *row).collect();
    assert_eq!(rows[..2], [RowKind::Record, RowKind::Payload]);
    assert!(rows[2..].contains(&RowKind::Record) && rows[2..].contains(&RowKind::DeadLetter));
    let (_, last) = puts.last().expect("there are some");
    assert_eq!(
        (last.claims, &last.namespaces[..]),
        (2, &["default", "n", "other"].map(String::from)[..])
    );
    assert!(last.rows >= 2);
    // The id is claimed elsewhere, and that is told there.
    assert_eq!(
        kinds(&store.find_namespace("other").expect("is there").history("a").expect("reads")),
        [HistoryKind::Claimed]
    );
}

#[test]
fn copies_that_compaction_made_are_told_once() {
    let world = World::new();
    let store = world.open();
    assert!(store.claim("kept").expect("claims").is_first_seen());
    let attempt = store.ledger("l").expect("opens").begin("kept").expect("begins");
    attempt.started().expect("is new").complete(b"done").expect("completes");
    let before = store.history("kept").expect("reads").events[0].clone();
    let rows = |store: &Store| {
        kinds(&store.find_namespace("l").expect("is there").history("kept").expect("reads"))
    };
    let last = *rows(&store).last().expect("there are some");
    // Short claims around it: the segment is rewritten when they have ended.
    let mut is_copied = false;
    for round in 0..40u64 {
        for ids in ids(round * 1_000..(round + 1) * 1_000).chunks(100) {
            for id in ids {
                let _ = store.claim_with(id, ClaimOptions::new().ttl(minutes(1))).expect("claims");
            }
        }
        store.freeze();
        store.run_background().expect("background work");
        world.clock.advance(Duration::from_secs(300));
        let history = store.history("kept").expect("reads");
        assert_eq!(kinds(&history), [HistoryKind::Claimed], "round {round}");
        is_copied |= history.events[0].copies > 0 || history.events[0].position != before.position;
        assert_eq!(history.events[0].time, before.time);
        assert_eq!(rows(&store).last(), Some(&last), "round {round}");
    }
    assert!(is_copied, "compaction has moved it");
}

#[test]
fn i11_a_history_tells_what_is_damaged_and_the_rest_all_the_same() {
    let world = World::new();
    let store = world.open();
    for id in ["one", "two"] {
        assert!(store.claim(id).expect("claims").is_first_seen());
        assert!(store.forget(id).expect("forgets"));
    }
    assert!(store.claim("one").expect("claims").is_first_seen());
    let path = Path::new(AT).join("log/0000000001.seg");
    let file = world.disk.open(&path).expect("opens");
    let bytes = world.disk.read(&path).expect("reads");
    // The record that forgets the first one.
    let at = bytes.windows(3).enumerate().filter(|(_, w)| w == b"one").nth(1).expect("is there").0;
    store.sync().expect("syncs");
    file.write_all_at(&[bytes[at] ^ 1], at as u64).expect("writes");
    let history = store.history("one").expect("reads");
    assert_eq!(kinds(&history), [HistoryKind::Claimed; 2]);
    let [damage] = &history.damage[..] else { panic!("{:?}", history.damage) };
    let stretch = damage.offset..damage.offset + damage.bytes;
    assert!(
        damage.file.ends_with("0000000001.seg") && stretch.contains(&(at as u64)),
        "{damage:?}"
    );
    let other = store.history("two").expect("reads");
    assert_eq!(kinds(&other), [HistoryKind::Claimed, HistoryKind::Forgotten]);
    assert_eq!(other.damage, history.damage);
    // A reader tells the same, where nothing may be written.
    let copy = world.on(world.disk.kill());
    let reader = copy.builder().open_read_only().expect("opens");
    let read = reader.history("default", "one").expect("reads");
    assert_eq!(read.events, history.events);
    assert!(read.damage.contains(damage), "{:?}", read.damage);
}

#[test]
fn a_history_inside_a_scope_is_that_of_the_scope_and_goes_with_a_promotion() {
    let world = World::new();
    let store = world.open();
    assert!(store.claim("a").expect("claims").is_first_seen());
    assert!(store.forget("a").expect("forgets"));
    let scope = store.replay("s").expect("begins");
    let inside = scope.default_namespace().expect("opens");
    let _ = inside.claim_batch(&["a", "b"]).expect("claims");
    let told = inside.history("a").expect("reads");
    assert_eq!(kinds(&told), [HistoryKind::Claimed]);
    assert_eq!(told.events[0].commit.namespaces, ["s/default"]);
    scope.promote().expect("promotes");
    let promoted = store.history("a").expect("reads");
    assert_eq!(kinds(&promoted), [HistoryKind::Claimed]);
    assert_eq!(promoted.events[0].commit.namespaces, ["default"]);
    drop((inside, scope));
    let (_, promoted) = both(&world, store, "default", "a");
    assert_eq!(kinds(&promoted), [HistoryKind::Claimed]);
}

#[test]
fn an_import_looks_like_a_claim_and_a_long_id_has_a_history_too() {
    let world = World::new();
    let store = world.builder().hash_long_ids(true).open().expect("opens");
    let seen = Timestamp::from_millis(5);
    let entry = ImportEntry::new("a", seen, Timestamp::NEVER);
    assert_eq!(store.import("default", &[entry]).expect("imports"), 1);
    let history = store.history("a").expect("reads");
    assert_eq!((kinds(&history), history.events[0].time), (vec![HistoryKind::Claimed], Some(seen)));
    let long = "l".repeat(5_000);
    assert!(store.claim(&long).expect("claims").is_first_seen());
    assert_eq!(kinds(&store.history(&long).expect("reads")), [HistoryKind::Claimed]);
    settle(&store);
    assert_eq!(store.history("never").expect("reads").events, []);
    assert!(store.history("").is_err());
}
