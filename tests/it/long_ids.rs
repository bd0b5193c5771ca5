//! Ids above the limit: refused, or stored as their hash if the store is opened that way.

use crate::support::{clock, place, sim, sim_with};
use firstseen::disk::sim::SimDisk;
use firstseen::limits::ID_BYTES_MAX;
use firstseen::{
    Builder, Claim, ErrorKind, ImportEntry, MemoryBlocks, Reserve, Reserved, Store, Timestamp,
};

/// A long id; any two differ only in the last byte.
fn long(last: u8) -> Vec<u8> {
    let mut id = vec![b'x'; ID_BYTES_MAX + 100];
    id.push(last);
    id
}

fn hashing(builder: Builder) -> Store {
    builder.hash_long_ids(true).open().unwrap()
}

/// The hash under which the store's only long id is exported.
fn exported_hash(store: &Store) -> Vec<u8> {
    let mut hashes = Vec::new();
    store
        .export(|entry| {
            if entry.is_hash {
                hashes.push(entry.id.to_vec());
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(hashes.len(), 1);
    hashes.remove(0)
}

#[test]
fn a_long_id_is_refused_unless_it_was_asked_for() {
    let store = sim(&SimDisk::new(), &clock()).open().unwrap();
    let refused = |kind: Option<ErrorKind>| assert_eq!(kind, Some(ErrorKind::FixCall));
    refused(store.claim(long(0)).err().map(|e| e.kind()));
    refused(store.claim_batch(&[long(0)]).err().map(|e| e.kind()));
    refused(store.reserve(long(0)).err().map(|e| e.kind()));
    refused(store.get(long(0)).err().map(|e| e.kind()));
    refused(store.forget(long(0)).err().map(|e| e.kind()));
    let (first_seen, deadline) = (Timestamp::from_millis(1), Timestamp::NEVER);
    let entry = ImportEntry::new(long(0), first_seen, deadline);
    refused(store.import("default", &[entry]).err().map(|e| e.kind()));
}

#[test]
fn i1_long_ids_that_differ_in_the_last_byte_are_two() {
    let store = hashing(sim(&SimDisk::new(), &clock()));
    assert_eq!(store.claim(long(1)).unwrap(), Claim::FirstSeen);
    assert_eq!(store.claim(long(2)).unwrap(), Claim::FirstSeen);
    assert!(store.claim(long(1)).unwrap().is_duplicate());
    assert!(store.contains(long(2)).unwrap());
    assert!(!store.contains(long(3)).unwrap());
    let ns = store.namespace("other").unwrap();
    assert_eq!(ns.claim(long(1)).unwrap(), Claim::FirstSeen);
    assert!(store.forget(long(1)).unwrap());
    assert_eq!(store.claim(long(1)).unwrap(), Claim::FirstSeen);
    assert!(ns.contains(long(1)).unwrap());
}

#[test]
fn i3_a_short_id_that_is_the_hash_of_a_long_one_is_another_id() {
    let store = hashing(sim(&SimDisk::new(), &clock()));
    assert_eq!(store.claim(long(0)).unwrap(), Claim::FirstSeen);
    let hash = exported_hash(&store);
    assert!(!store.contains(&hash).unwrap());
    // Also within one batch, where both are in one record.
    let answers = store.claim_batch(&[hash.clone(), long(0), long(1), hash.clone()]).unwrap();
    let first: Vec<bool> = answers.into_iter().map(Claim::is_first_seen).collect();
    assert_eq!(first, [true, false, true, false]);
    assert!(store.forget(&hash).unwrap());
    assert!(store.contains(long(0)).unwrap());
}

/// Both kinds of ids come back from the log, from runs, and from a rebuild.
#[test]
fn i1_i10_long_ids_survive_flush_close_kill_and_rebuild() {
    let (disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
    let expect = |store: &Store, what: &str| {
        for n in 0..50 {
            assert!(store.contains(long(n)).unwrap(), "{what}: long id {n}");
            assert!(store.contains([n; 32]).unwrap(), "{what}: short id {n}");
        }
        assert!(!store.contains(long(50)).unwrap(), "{what}");
    };
    let store = hashing(sim_with(&disk, &clock, &blocks));
    for n in 0..50u8 {
        let answers = store.claim_batch(&[long(n), vec![n; 32]]).unwrap();
        assert!(answers.iter().all(|answer| answer.is_first_seen()));
        if n == 25 {
            store.freeze();
            store.run_background().unwrap();
        }
    }
    expect(&store, "open");
    drop(store);
    let store = hashing(sim_with(&disk, &clock, &blocks));
    expect(&store, "closed");
    store.freeze();
    store.run_background().unwrap();
    expect(&store, "flushed");
    drop(store);
    let store = hashing(sim_with(&disk, &clock, &MemoryBlocks::default()));
    expect(&store, "rebuilt");
    assert!(store.verify().unwrap().is_sound());
}

#[test]
fn a_reservation_of_a_long_id_is_confirmed_and_released() {
    let store = hashing(sim(&SimDisk::new(), &clock()));
    let mut held = store.reserve_batch(&[long(1), b"short".to_vec(), long(1)]).unwrap();
    assert_eq!(held.answers(), [Reserved::FirstSeen, Reserved::FirstSeen, Reserved::SameBatch]);
    assert!(matches!(store.reserve(long(1)).unwrap(), Reserve::InProgress));
    assert_eq!(store.held().len(), 2);
    assert_eq!(store.default_namespace().held().len(), 2);
    held.confirm().unwrap();
    assert!(store.contains(long(1)).unwrap() && store.contains("short").unwrap());
    let Reserve::FirstSeen(held) = store.reserve(long(2)).unwrap() else { panic!("not new") };
    drop(held);
    assert!(matches!(store.reserve(long(2)).unwrap(), Reserve::FirstSeen(_)));
}

#[test]
fn a_long_id_is_exported_as_its_hash_and_imported_from_it() {
    let (one, two) = (SimDisk::new(), SimDisk::new());
    let from = hashing(sim(&one, &clock()));
    assert_eq!(from.namespace("n").unwrap().claim(long(7)).unwrap(), Claim::FirstSeen);
    let id = exported_hash(&from);
    let (first_seen, deadline) = (Timestamp::from_millis(5), Timestamp::NEVER);
    let entry = ImportEntry::new(id, first_seen, deadline).hashed();
    // A store that does not hash long ids can import those of one that does.
    let to = sim(&two, &clock()).open().unwrap();
    assert_eq!(to.import("n", std::slice::from_ref(&entry)).unwrap(), 1);
    drop(to);
    let to = hashing(sim(&two, &clock()));
    assert!(to.namespace("n").unwrap().claim(long(7)).unwrap().is_duplicate());
    let mut cut = entry;
    cut.id.remove(0);
    assert_eq!(to.import("n", &[cut]).unwrap_err().kind(), ErrorKind::FixCall);
}

/// Long ids stay in the namespace that claimed them, even if the manifest is lost.
#[test]
fn a_repair_keeps_the_namespace_of_long_ids() {
    let (_dir, path) = place();
    let store = hashing(Store::builder(&path));
    assert_eq!(store.namespace("n").unwrap().claim(long(7)).unwrap(), Claim::FirstSeen);
    store.close().unwrap();
    std::fs::remove_file(path.join("MANIFEST")).unwrap();
    let report = Store::builder(&path).repair().unwrap();
    assert_eq!(report.renamed_namespaces, Vec::<String>::new());
    let store = hashing(Store::builder(&path));
    assert!(store.find_namespace("n").unwrap().contains(long(7)).unwrap());
}

#[test]
fn a_forgotten_namespace_forgets_its_long_ids_too() {
    let store = hashing(sim(&SimDisk::new(), &clock()));
    let ns = store.namespace("n").unwrap();
    assert_eq!(ns.claim(long(1)).unwrap(), Claim::FirstSeen);
    assert_eq!(ns.claim("short").unwrap(), Claim::FirstSeen);
    assert_eq!(store.claim(long(1)).unwrap(), Claim::FirstSeen);
    assert_eq!(ns.forget_all().unwrap(), 2);
    assert!(!ns.contains(long(1)).unwrap() && !ns.contains("short").unwrap());
    assert!(store.contains(long(1)).unwrap(), "in another namespace");
    assert_eq!(ns.claim(long(1)).unwrap(), Claim::FirstSeen);
    assert_eq!(ns.forget_all().unwrap(), 1);
}
