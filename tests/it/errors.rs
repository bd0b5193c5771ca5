//! Every kind of error and its cause: what the caller is told, and that nothing else happened.

use crate::support::*;
use firstseen::disk::Disk;
use firstseen::disk::sim::{Fault, SimDisk};
use firstseen::{
    ClaimOptions, Error, ErrorKind, ImportEntry, NamespaceOptions, Store, Timestamp, Ttl, limits,
};
use std::path::Path;
use std::time::Duration;

fn store() -> (SimDisk, Store) {
    let disk = SimDisk::new();
    let builder = sim(&disk, &clock()).wait_max(Duration::from_millis(1));
    let store = builder.memtable_bytes(1 << 20).open().expect("opens");
    (disk, store)
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: firstseen::Result<T>, kind: ErrorKind, says: &str) {
    let error = answer.expect_err("must be refused");
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(says), "{error}");
}

#[test]
fn calls_that_cannot_succeed_say_what_is_allowed() {
    let (_disk, store) = store();
    let fix = ErrorKind::FixCall;
    let long = vec![b'x'; limits::ID_BYTES_MAX + 1];
    for id in [&b""[..], &long] {
        refused(store.claim(id), fix, "1 to 1,024 bytes");
        refused(store.get(id), fix, "1 to 1,024 bytes");
        refused(store.forget(id), fix, "1 to 1,024 bytes");
        refused(store.reserve(id), fix, "1 to 1,024 bytes");
        refused(store.claim_batch(&[b"good", id]), fix, "1 to 1,024 bytes");
        refused(store.reserve_batch(&[b"good", id]), fix, "1 to 1,024 bytes");
    }
    let many = vec![b"x"; limits::BATCH_IDS_MAX + 1];
    refused(store.claim_batch(&many), fix, "65");
    let heavy = vec![vec![b'x'; limits::ID_BYTES_MAX]; limits::BATCH_BYTES_MAX / 1024 + 1];
    refused(store.reserve_batch(&heavy), fix, "batch");
    for ttl in [Ttl::from_millis(0), Ttl::from_millis(u64::MAX / 2)] {
        refused(store.claim_with("a", ClaimOptions::new().ttl(ttl)), fix, "ttl");
        refused(store.namespace_with("n", NamespaceOptions::new().ttl(ttl)), fix, "ttl");
        refused(Store::builder("/x").ttl(ttl).disk(SimDisk::new()).open(), fix, "ttl");
    }
    let at = |ms| Timestamp::from_millis(NOW + ms);
    let backwards = ImportEntry::new(b"a", at(2), at(2));
    refused(store.import("default", &[backwards]), fix, "ends before it begins");
    let nameless = ImportEntry::new(Vec::new(), at(0), at(2));
    refused(store.import("default", &[nameless]), fix, "1 to 1,024 bytes");
    refused(store.import("", &[]), fix, "name");
    assert!(!store.contains("a").unwrap() && !store.contains("good").unwrap());
    assert!(store.find_namespace("n").is_none());
}

#[test]
fn a_wait_that_ends_and_a_disk_that_is_full_can_be_tried_again() {
    let (disk, store) = store();
    let held = store.reserve("held").unwrap();
    refused(store.claim("held"), ErrorKind::Retry, "timed out");
    refused(store.forget("held"), ErrorKind::Retry, "timed out");
    let at = Timestamp::from_millis(NOW);
    let entry = ImportEntry::new(b"held", at, Timestamp::NEVER);
    refused(store.import("default", &[entry]), ErrorKind::Retry, "timed out");
    drop(held);
    assert!(store.claim("held").unwrap().is_first_seen());

    disk.set_capacity(Some(disk.used()));
    let full = (0..).find_map(|n| store.claim(id(n)).err().map(|e| (n, e))).expect("it fills");
    assert_eq!(full.1.kind(), ErrorKind::StorageFull, "{}", full.1);
    assert!(!store.contains(id(full.0)).unwrap());
    disk.set_capacity(None);
    assert!(store.claim(id(full.0)).unwrap().is_first_seen());
}

/// A flush hit a full disk once. When there is space again, claims must wait for flushes as before.
#[test]
fn i7_i12_a_full_disk_is_forgotten_when_there_is_room_again() {
    let disk = SimDisk::new();
    let builder = sim(&disk, &clock()).shards(1).segment_bytes(4 << 20).memtable_bytes(16 << 10);
    let store = builder.wait_max(Duration::ZERO).open().unwrap();
    let mut next = 0;
    // Claims until one would have to wait for a flush. As it may not wait, it fails at once.
    let claim_until_full = |next: &mut u64| loop {
        match store.claim(id(*next)) {
            Ok(answer) => assert!(answer.is_first_seen(), "id {next}"),
            Err(error) => break error,
        }
        *next += 1;
    };
    store.run_background().unwrap();
    disk.set_capacity(Some(disk.used()));
    assert_eq!(claim_until_full(&mut next).kind(), ErrorKind::Retry);
    refused(store.run_background(), ErrorKind::StorageFull, "");
    assert_eq!(claim_until_full(&mut next).kind(), ErrorKind::StorageFull);
    disk.set_capacity(None);
    for round in 0..3 {
        store.run_background().unwrap();
        let before = next;
        let error = claim_until_full(&mut next);
        assert_eq!(error.kind(), ErrorKind::Retry, "round {round}: {error}");
        assert!(next > before + 100, "round {round}: the memtable had space");
    }
    assert_seen(&store, 0..next, true);
}

#[test]
fn a_store_that_has_stopped_and_one_that_is_closed_want_to_be_opened_again() {
    let (disk, store) = store();
    let _ = store.claim("before").unwrap();
    disk.fail_at(disk.ops(), Fault::Error(std::io::ErrorKind::Other), false);
    refused(store.sync(), ErrorKind::Reopen, "stopped");
    every_call_wants_a_reopen(&store);
    let (_disk, store) = self::store();
    let other = store.clone();
    store.close().unwrap();
    every_call_wants_a_reopen(&other);
}

fn every_call_wants_a_reopen(store: &Store) {
    let reopen = ErrorKind::Reopen;
    refused(store.claim("a"), reopen, "");
    refused(store.claim_batch(&["a"]), reopen, "");
    refused(store.reserve("a"), reopen, "");
    refused(store.reserve_batch(&["a"]), reopen, "");
    refused(store.get("a"), reopen, "");
    refused(store.forget("a"), reopen, "");
    refused(store.sync(), reopen, "");
    refused(store.verify(), reopen, "");
    refused(store.namespace("n"), reopen, "");
    refused(store.export(|_| Ok(())), reopen, "");
    refused(store.import("default", &[]), reopen, "");
}

#[test]
fn what_an_export_cannot_be_written_to_is_the_callers_environment() {
    let (_disk, store) = store();
    let _ = store.claim("a").unwrap();
    let answer = store.export(|_| Err(std::io::ErrorKind::BrokenPipe.into()));
    refused(answer, ErrorKind::Environment, "export");
    let full = store.export(|_| Err(std::io::ErrorKind::StorageFull.into()));
    refused(full, ErrorKind::StorageFull, "no space");
}

/// Wraps a body into a manifest file with the right magic, version, length and checksums.
fn manifest(body: &[u8]) -> Vec<u8> {
    let mut bytes = b"FSMF\x02\0\0\0".to_vec();
    bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(body).to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

#[test]
fn i11_what_passes_its_checksum_and_makes_no_sense_is_damage_too() {
    let (disk, store) = store();
    store.close().unwrap();
    let path = Path::new("/s/MANIFEST");
    let good = disk.read(path).unwrap();
    assert_eq!(manifest(&good[24..]), good, "the test builds the current format");
    let mut odd = good[24..].to_vec();
    // The number of shards, after the head of the first section and the seed.
    odd[10 + 16] = 3;
    let longer = [&good[24..], b"x"].concat();
    for (body, says) in [(&b""[..], "decode"), (&odd, "contradicts"), (&longer, "not whole")] {
        let disk = disk.kill();
        disk.remove(path).unwrap();
        disk.create_new(path).unwrap().write_all_at(&manifest(body), 0).unwrap();
        match sim(&disk, &clock()).open() {
            Err(Error::Corrupt { path: file, offset: 24, what }) => {
                assert!(file == path && what.contains(says), "{what}");
            }
            other => panic!("{other:?}"),
        }
        assert!(sim(&disk, &clock()).repair().unwrap().manifest_rebuilt);
    }
    let disk = disk.kill();
    // An intact segment under another segment's name.
    let segment = Path::new("/s/log/0000000001.seg");
    let mut bytes = disk.read(segment).unwrap();
    bytes[8] = 9;
    let crc = crc32c::crc32c(&bytes[..56]);
    bytes[56..60].copy_from_slice(&crc.to_le_bytes());
    disk.open(segment).unwrap().write_all_at(&bytes, 0).unwrap();
    match sim(&disk, &clock()).open() {
        Err(Error::Corrupt { path: file, offset: 8, .. }) => assert_eq!(file, segment),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_error_of_the_disk_while_opening_or_repairing_names_what_was_done_to_what() {
    let (disk, store) = store();
    let _ = store.claim("a").unwrap();
    store.close().unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for repair in [false, true] {
        for call in 0.. {
            let disk = disk.kill();
            if repair {
                disk.remove(Path::new("/s/MANIFEST")).unwrap();
            }
            disk.fail_at(disk.ops() + call, Fault::Error(std::io::ErrorKind::Other), true);
            let builder = sim(&disk, &clock());
            let answer = if repair { builder.repair().map(drop) } else { builder.open().map(drop) };
            let ended = disk.ops() <= call;
            match answer {
                Ok(()) => {}
                Err(Error::Io { doing, path, .. }) => {
                    assert!(path.starts_with("/"), "{doing} {}", path.display());
                    seen.insert(doing);
                }
                Err(e) => assert_eq!(e.kind(), ErrorKind::Reopen, "call {call}: {e}"),
            }
            if ended {
                break;
            }
        }
    }
    for doing in ["lock", "read", "list", "sync", "create", "write", "rename", "move away"] {
        assert!(seen.contains(doing), "{doing} is not in {seen:?}");
    }
}
