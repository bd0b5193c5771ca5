//! Whatever is wrong with a snapshot is an error, never a smaller store.

use crate::snapshot::{Place, claim_many, new_store, restored};
use crate::support::{AT, assert_seen, claim_all_first, clock, id, place, sim, small};
use firstseen::disk::sim::SimDisk;
use firstseen::snapshot::{RestoreOptions, SnapshotTarget as _, list, verify};
use firstseen::{ErrorKind, Store};
use std::os::unix::fs::FileExt as _;

fn restore(place: &Place) -> Result<Store, firstseen::Error> {
    let disk = SimDisk::new();
    let restored = Store::builder(AT).disk(disk.clone()).restore(place, RestoreOptions::new());
    let opened = sim(&disk, &clock()).create(false).open();
    assert_eq!(restored.is_ok(), opened.is_ok(), "{restored:?}, {opened:?}");
    restored?;
    opened
}

fn small_snapshot() -> Place {
    let (_disk, _clock, store) = new_store();
    let place = Place::default();
    claim_all_first(&store, 0..20);
    store.snapshot(&place).expect("a snapshot");
    restore(&place).expect("restores");
    place
}

#[test]
fn i15_every_flipped_byte_of_a_snapshot_is_an_error() {
    let good = small_snapshot();
    for name in good.names() {
        let len = good.get(&name).expect("reads").expect("is there").len();
        let bad = good.twin();
        for at in 0..len {
            bad.change(&name, |bytes| bytes[at] ^= 1 << (at % 8));
            let error = verify(&bad, 1).expect_err("damaged");
            assert_eq!(error.kind(), ErrorKind::Repair, "byte {at} of {name}: {error}");
            if at % 101 == 0 {
                let error = restore(&bad).expect_err("damaged");
                assert_eq!(error.kind(), ErrorKind::Repair, "byte {at} of {name}: {error}");
            }
            bad.change(&name, |bytes| bytes[at] ^= 1 << (at % 8));
        }
        restore(&bad).expect("as before");
    }
}

#[test]
fn i15_parts_that_are_missing_cut_longer_or_exchanged_are_an_error() {
    let (_disk, clock, store) = new_store();
    let good = Place::default();
    claim_many(&store, 0..20_000);
    store.snapshot(&good).expect("a snapshot");
    let names = good.names();
    assert!(names.len() > 2, "{names:?}");
    for name in &names {
        let is_index = name.starts_with("snapshots/");
        let kind = |bad: &Place| restore(bad).expect_err("damaged").kind();
        let bad = good.twin();
        bad.delete(name).expect("deletes");
        // Without its index there is no snapshot.
        assert_eq!(kind(&bad), if is_index { ErrorKind::FixCall } else { ErrorKind::Repair });
        for len in [0, 1, 100, 5_000] {
            let bad = good.twin();
            bad.change(name, |bytes| bytes.truncate(bytes.len().saturating_sub(1).min(len)));
            assert_eq!(kind(&bad), ErrorKind::Repair, "{name} cut to {len}");
        }
        let bad = good.twin();
        bad.change(name, |bytes| bytes.push(0));
        assert_eq!(kind(&bad), ErrorKind::Repair, "{name} with one byte more");
        for other in names.iter().filter(|other| *other != name) {
            let bad = good.twin();
            let bytes = good.get(other).expect("reads").expect("is there");
            bad.change(name, |own| *own = bytes);
            assert_eq!(kind(&bad), ErrorKind::Repair, "{other} in the place of {name}");
        }
    }
    assert_seen(&restored(&good, &clock), 0..20_000, true);
}

/// Both stores are sound, and their segments have the same numbers.
#[test]
fn i15_a_mix_of_two_stores_is_an_error() {
    let (_disk, clock, store) = new_store();
    let disk = SimDisk::new();
    let other = sim(&disk, &clock).seed([8; 16]).open().expect("opens");
    let (place, others) = (Place::default(), Place::default());
    for (store, place) in [(&store, &place), (&other, &others)] {
        claim_all_first(store, 0..20);
        store.snapshot(place).expect("a snapshot");
    }
    let error = other.snapshot(&place).expect_err("it is not its place");
    assert_eq!(error.kind(), ErrorKind::FixCall, "{error}");
    assert!(error.to_string().contains("another store"), "{error}");
    // An index under a higher number: its own, whose parts are all there, and that of the other.
    let first = "snapshots/00000000000000000001";
    let [own, index] = [&place, &others].map(|of| of.get(first).expect("reads").expect("is there"));
    for index in [&own, &index] {
        place.put_new("snapshots/00000000000000000002", index).expect("puts");
        let error = restore(&place).expect_err("not its number");
        assert_eq!(error.kind(), ErrorKind::Repair, "{error}");
        assert!(error.to_string().contains("the index of snapshot 1"), "{error}");
        place.delete("snapshots/00000000000000000002").expect("deletes");
    }
    place.change(first, |own| *own = index);
    assert_eq!(restore(&place).expect_err("not its parts").kind(), ErrorKind::Repair);
}

#[test]
fn i15_damage_in_the_log_is_not_copied() {
    let (_dir, path) = place();
    let store = small(Store::builder(&path)).open().expect("opens");
    claim_many(&store, 0..20_000);
    store.sync().expect("syncs");
    let copies = Place::default();
    store.snapshot(&copies).expect("a snapshot");
    claim_many(&store, 20_000..40_000);
    let segment = path.join("log/0000000003.seg");
    let file = std::fs::OpenOptions::new().write(true).open(&segment).expect("opens");
    file.write_all_at(&[0xff; 8], 100_000).expect("writes");
    let error = store.snapshot(&copies).expect_err("damaged");
    assert_eq!(error.kind(), ErrorKind::Repair, "{error}");
    assert!(error.to_string().contains("0000000003.seg"), "{error}");
    assert_eq!(list(&copies).expect("lists").len(), 1, "the one before is as it was");
    verify(&copies, 1).expect("whole");
}

/// Somebody has tidied up in the place.
#[test]
fn i15_a_part_that_has_gone_missing_is_sent_again() {
    let (_disk, clock, store) = new_store();
    let place = Place::default();
    claim_many(&store, 0..20_000);
    let first = store.snapshot(&place).expect("a snapshot");
    let part = place.names().remove(0);
    place.delete(&part).expect("deletes");
    assert_eq!(verify(&place, 1).expect_err("a part is missing").kind(), ErrorKind::Repair);
    let second = store.snapshot(&place).expect("a snapshot");
    assert_eq!((second.segments, second.segments_sent), (first.segments, 1));
    assert_seen(&restored(&place, &clock), 0..20_000, true);
}

#[test]
fn an_index_of_a_newer_release_is_refused_by_its_version() {
    let place = small_snapshot();
    place.change("snapshots/00000000000000000001", |bytes| {
        bytes[4] = 9;
        let crc = crc32c(&bytes[..20]);
        bytes[20..24].copy_from_slice(&crc.to_le_bytes());
    });
    let error = restore(&place).expect_err("newer");
    assert_eq!(error.kind(), ErrorKind::FixCall, "{error}");
    assert!(error.to_string().contains("use a newer firstseen"), "{error}");
    assert!(!id(0).is_empty());
}

/// Bit by bit: the tests have no package for it.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}
