//! Export and import: every live claim, with its times, and nothing else.

use crate::support::*;
use firstseen::disk::sim::SimDisk;
use firstseen::{
    ClaimOptions, ErrorKind, ImportEntry, MemoryBlocks, Reserve, Store, Timestamp, hours, minutes,
};
use std::collections::BTreeMap;
use std::time::Duration;

type All = BTreeMap<(String, Vec<u8>), (u64, u64)>;

fn export(store: &Store) -> All {
    let mut all = All::new();
    let count = store.export(|entry| {
        let key = (entry.namespace.to_owned(), entry.id.to_vec());
        let old = all.insert(key, (entry.first_seen.as_millis(), entry.deadline.as_millis()));
        assert_eq!(old, None, "each claim once");
        Ok(())
    });
    assert_eq!(count.expect("exports"), all.len() as u64);
    all
}

fn import(store: &Store, all: &All) -> u64 {
    let entry = |(key, (first_seen, deadline)): (&(String, Vec<u8>), &(u64, u64))| {
        let (first_seen, deadline) =
            (Timestamp::from_millis(*first_seen), Timestamp::from_millis(*deadline));
        let entry = ImportEntry::new(key.1.clone(), first_seen, deadline);
        store.import(&key.0, &[entry]).expect("imports")
    };
    all.iter().map(entry).sum()
}

#[test]
fn what_is_exported_and_imported_is_the_same_flushed_or_not() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).open().unwrap();
    let named = store.namespace("named").unwrap();
    for n in 0..6000 {
        let namespace = if n % 3 == 0 { named.clone() } else { store.default_namespace() };
        let options = ClaimOptions::new().ttl(hours(1 + n % 50));
        let _ = match n % 5 {
            0 => namespace.claim(id(n)).unwrap(),
            _ => namespace.claim_with(id(n), options).unwrap(),
        };
        if n % 7 == 0 {
            assert!(namespace.forget(id(n)).unwrap());
        }
        if n % 500 == 0 {
            clock.advance(Duration::from_secs(60));
            settle(&store);
        }
    }
    let _ = store.claim([0xff, 0, 0xfe]).unwrap();
    clock.advance(Duration::from_secs(3600 * 20));
    let all = export(&store);
    let live = (0..6000).filter(|n| {
        let namespace = if n % 3 == 0 { named.clone() } else { store.default_namespace() };
        namespace.contains(id(*n)).unwrap()
    });
    assert_eq!(all.len(), live.count() + 1);

    let other = SimDisk::new();
    let copy = sim(&other, &clock).memtable_bytes(8 << 20).open().unwrap();
    assert_eq!(import(&copy, &all), all.len() as u64);
    assert_eq!(export(&copy), all);
    assert_eq!(import(&copy, &all), 0, "live claims stay as they are");
    drop(copy);
    let copy = sim(&other, &clock).open().unwrap();
    assert_eq!(export(&copy), all, "after a reopen");
    assert_sound(&copy);
}

#[test]
fn an_import_respects_what_is_there_and_what_has_ended() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).ttl(minutes(10)).open().unwrap();
    let _ = store.claim("live").unwrap();
    let _ = store.claim("gone").unwrap();
    assert!(store.forget("gone").unwrap());
    let entry = |id: &str, first_seen: u64, deadline: u64| {
        ImportEntry::new(id, Timestamp::from_millis(first_seen), Timestamp::from_millis(deadline))
    };
    let never = u64::MAX;
    let entries = [
        entry("live", NOW - 5, never),
        entry("gone", NOW - 5, NOW + 50),
        entry("ended", NOW - 50, NOW),
        entry("old", NOW - 50, NOW + 1),
        entry("ever", 0, never),
        entry("future", NOW + 1_000_000, NOW + 2_000_000),
    ];
    assert_eq!(store.import("default", &entries).unwrap(), 4);
    let deadline = |id: &str| store.get(id).unwrap().map(|seen| seen.deadline.as_millis());
    assert_eq!(deadline("live"), Some(NOW + 600_000));
    assert_eq!(deadline("gone"), Some(NOW + 50));
    assert_eq!(deadline("ended"), None);
    assert_eq!(deadline("old"), Some(NOW + 1));
    assert_eq!(deadline("ever"), Some(never));
    assert_eq!(store.get("future").unwrap().unwrap().first_seen.as_millis(), NOW);
    clock.advance(Duration::from_millis(1));
    assert!(store.claim("old").unwrap().is_first_seen());
    let wrong = [entry("ok", NOW, never), entry("bad", NOW + 9, NOW + 9)];
    assert_eq!(store.import("default", &wrong).unwrap_err().kind(), ErrorKind::FixCall);
    assert!(store.contains("ok").unwrap() && !store.contains("bad").unwrap());
}

#[test]
fn an_export_that_cannot_be_written_says_so() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).open().unwrap();
    claim_all_first(&store, 0..10);
    let error = store.export(|_| Err(std::io::ErrorKind::BrokenPipe.into())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Environment);
    assert!(store.claim(id(11)).unwrap().is_first_seen(), "the store still works");
}

#[test]
fn i1_an_import_waits_for_a_reservation() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).wait_max(Duration::from_millis(20)).open().unwrap();
    let Reserve::FirstSeen(mut held) = store.reserve("a").unwrap() else { panic!("not new") };
    let (first_seen, deadline) = (Timestamp::from_millis(NOW), Timestamp::NEVER);
    let entries = [ImportEntry::new(b"a", first_seen, deadline)];
    assert_eq!(store.import("default", &entries).unwrap_err().kind(), ErrorKind::Retry);
    assert!(!store.contains("a").unwrap(), "held, not claimed");
    held.confirm().unwrap();
    assert_eq!(store.import("default", &entries).unwrap(), 0, "claimed by its holder");
}

/// Only a few ids of this length fit into a block, and some blocks are empty.
#[test]
fn i11_an_export_goes_on_behind_an_empty_block() {
    let (disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
    let store = sim_with(&disk, &clock, &blocks).memtable_bytes(1 << 20).open().unwrap();
    let long = |n: u64| [&id(n)[..], &[b'x'; 984]].concat();
    for first in (0..240).step_by(60) {
        for n in first..first + 60 {
            assert!(store.claim(long(n)).unwrap().is_first_seen());
        }
        store.freeze();
        settle(&store);
    }
    assert_eq!(export(&store).len(), 240);
}
