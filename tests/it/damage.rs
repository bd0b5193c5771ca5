//! I11: damage is reported with file and offset and never skipped; repair saves the rest and says so.

use crate::support::*;
use firstseen::{Error, ErrorKind, RepairReport, Store};
use std::fs;
use std::path::{Path, PathBuf};

fn builder(path: &Path) -> firstseen::Builder {
    small(Store::builder(path)).segment_bytes(32 << 10).memtable_bytes(1 << 20)
}

fn repair(path: &Path) -> RepairReport {
    builder(path).repair().expect("repairs")
}

/// A closed store with a few segments, nothing flushed.
fn store_of(n: u64) -> (tempfile::TempDir, PathBuf) {
    let (dir, path) = place();
    let store = builder(&path).open().expect("opens");
    claim_all_first(&store, 0..n);
    store.namespace("named").expect("a name").claim("a").map(drop).expect("claims");
    store.close().expect("closes");
    (dir, path)
}

fn segments(path: &Path) -> Vec<PathBuf> {
    files(&path.join("log"))
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).expect("reads");
    bytes[at] ^= 0x40;
    fs::write(file, bytes).expect("writes");
}

fn corrupt_at(path: &Path) -> (PathBuf, u64) {
    match builder(path).open() {
        Err(Error::Corrupt { path, offset, .. }) => (path, offset),
        other => panic!("{other:?}"),
    }
}

fn missing(store: &Store, n: u64) -> usize {
    (0..n).filter(|n| !store.contains(id(*n)).expect("reads")).count()
}

#[test]
fn i11_a_flipped_bit_before_the_tail_names_file_and_offset_and_repair_saves_the_rest() {
    for segment in 0..3 {
        for at in [4096, 4100, 5000, 9000, 20_000] {
            let (_dir, path) = store_of(4000);
            let damaged = segments(&path)[segment].clone();
            flip(&damaged, at);
            let (file, offset) = corrupt_at(&path);
            assert_eq!(file, damaged);
            assert!(offset <= at as u64 && at as u64 - offset < 40, "{offset} for a bit at {at}");
            let again = corrupt_at(&path);
            assert_eq!(again, (file, offset), "a failed open changes nothing");

            let report = repair(&path);
            assert!(report.saved_records >= 3999, "{report}");
            assert!((1..60).contains(&report.lost_bytes), "{report}");
            assert_eq!((report.lost.len(), &report.lost[0].file), (1, &damaged));
            assert!(report.lost[0].offset <= at as u64, "{report}");
            assert!(
                report.old_log.as_ref().is_some_and(|old| old.exists()),
                "the damaged log is kept"
            );
            let store = builder(&path).open().unwrap();
            assert_eq!(missing(&store, 4000), 1);
            assert!(store.namespace("named").unwrap().contains("a").unwrap());
            assert_sound(&store);
            drop(store);
            let report = repair(&path);
            assert_eq!((report.lost_bytes, report.old_log), (0, None), "nothing left to repair");
        }
    }
}

#[test]
fn i11_a_damaged_header_of_a_segment_is_reported_and_its_records_are_saved() {
    for at in [0, 4, 8, 16, 30, 43] {
        let (_dir, path) = store_of(3000);
        let damaged = segments(&path)[1].clone();
        flip(&damaged, at);
        assert_eq!(corrupt_at(&path).0, damaged);
        let report = repair(&path);
        assert_eq!(report.lost[0].file, damaged);
        let store = builder(&path).open().unwrap();
        assert_eq!(missing(&store, 3000), 0, "{report}");
    }
}

#[test]
fn i11_a_missing_segment_is_reported_and_repair_saves_the_others() {
    let (_dir, path) = store_of(5000);
    let all = segments(&path);
    assert!(all.len() >= 4);
    for gone in 0..all.len() {
        let (_dir, path) = store_of(5000);
        let file = segments(&path)[gone].clone();
        fs::remove_file(&file).unwrap();
        assert_eq!(corrupt_at(&path), (file.clone(), 0));
        let report = repair(&path);
        assert!(report.lost.iter().any(|lost| lost.file == file), "{report}");
        let store = builder(&path).open().unwrap();
        let lost = missing(&store, 5000);
        assert!((1..2000).contains(&lost), "{lost} of segment {gone}");
        assert_sound(&store);
    }
}

#[test]
fn i11_a_log_cut_short_of_what_was_on_disk_is_damage_and_not_a_torn_tail() {
    let (_dir, path) = store_of(2000);
    let last = segments(&path).pop().unwrap();
    let len = fs::metadata(&last).unwrap().len();
    let cut = |len| fs::OpenOptions::new().write(true).open(&last).unwrap().set_len(len).unwrap();
    cut(len - 10);
    assert_eq!(corrupt_at(&path).0, last);
    let report = repair(&path);
    assert!(!report.lost.is_empty(), "{report}");
    let store = builder(&path).open().unwrap();
    assert_eq!(missing(&store, 2000), 0, "only the namespace's record was cut");
    assert!(!store.namespace("named").unwrap().contains("a").unwrap());
}

#[test]
fn i11_a_damaged_manifest_is_reported_at_every_byte_and_repaired() {
    let (dir, path) = store_of(1000);
    let manifest = path.join("MANIFEST");
    let len = fs::read(&manifest).unwrap().len();
    for at in (0..len).step_by(7).chain([len - 1]) {
        flip(&manifest, at);
        assert_eq!(corrupt_at(&path).0, manifest, "byte {at}");
        flip(&manifest, at);
    }
    let bytes = fs::read(&manifest).unwrap();
    for len in [0, 1, 23, 24, len - 1] {
        fs::write(&manifest, &bytes[..len]).unwrap();
        assert_eq!(corrupt_at(&path).0, manifest, "{len} bytes long");
    }
    let copy = dir.path().join("copy");
    copy_dir(&path, &copy);
    for (path, remove) in [(&path, false), (&copy, true)] {
        if remove {
            fs::remove_file(path.join("MANIFEST")).unwrap();
            assert_eq!(corrupt_at(path), (path.join("MANIFEST"), 0));
        }
        let report = repair(path);
        assert!(report.manifest_rebuilt && report.lost.is_empty(), "{report}");
        let store = builder(path).open().unwrap();
        assert_eq!(missing(&store, 1000), 0);
        assert!(store.namespace("named").unwrap().contains("a").unwrap());
        assert_sound(&store);
    }
}

#[test]
fn a_format_from_the_future_says_so_and_is_left_alone() {
    let (_dir, path) = store_of(1000);
    for (file, crc_at, header) in
        [(path.join("MANIFEST"), 20, 20), (segments(&path)[0].clone(), 56, 56)]
    {
        let good = fs::read(&file).unwrap();
        let mut newer = good.clone();
        newer[4..6].copy_from_slice(&9u16.to_le_bytes());
        let crc = crc32c::crc32c(&newer[..header]);
        newer[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
        fs::write(&file, &newer).unwrap();
        let error = builder(&path).open().unwrap_err();
        let named = matches!(&error, Error::FromTheFuture { path, found: 9, .. } if *path == file);
        assert!(named, "{error}");
        assert_eq!(error.kind(), ErrorKind::FixCall);
        assert_eq!(builder(&path).repair().unwrap_err().kind(), ErrorKind::FixCall);
        assert_eq!(fs::read(&file).unwrap(), newer, "untouched");
        fs::write(&file, &good).unwrap();
    }
    assert_eq!(missing(&builder(&path).open().unwrap(), 1000), 0);
}

#[test]
fn i11_verify_finds_damage_in_what_opening_does_not_read() {
    let (_dir, path) = place();
    let flushing = || small(Store::builder(&path)).segment_bytes(32 << 10);
    let store = flushing().open().unwrap();
    for n in 0..20_000 {
        let _ = store.claim(id(n)).unwrap();
        if n % 500 == 0 {
            settle(&store);
        }
    }
    store.close().unwrap();
    let first = segments(&path)[0].clone();
    flip(&first, 10_000);
    let store = flushing().open().expect("open does not read flushed records");
    let report = store.verify().unwrap();
    assert!(!report.is_sound());
    assert!(report.problems[0].contains("0000000001.seg"), "{report}");
    assert_seen(&store, 0..20_000, true);
    store.close().unwrap();
    let report = flushing().repair().unwrap();
    assert_eq!(report.lost.len(), 1, "{report}");
    assert_eq!(missing(&flushing().open().unwrap(), 20_000), 1);
}

/// Opening does not read flushed segments, but checks that they are there in full: healing needs them.
#[test]
fn i11_a_missing_segment_whose_ids_are_flushed_is_reported_at_opening() {
    for remove in [true, false] {
        let (_dir, path) = place();
        let store = small(Store::builder(&path)).segment_bytes(32 << 10).open().unwrap();
        for n in 0..20_000 {
            let _ = store.claim(id(n)).unwrap();
            if n % 500 == 0 {
                settle(&store);
            }
        }
        store.close().unwrap();
        let first = segments(&path)[0].clone();
        if remove {
            fs::remove_file(&first).unwrap();
        } else {
            fs::OpenOptions::new().write(true).open(&first).unwrap().set_len(10_000).unwrap();
        }
        assert_eq!(corrupt_at(&path), (first, if remove { 0 } else { 10_000 }));
    }
}

#[test]
fn i11_repair_of_a_sound_store_changes_nothing() {
    let (_dir, path) = store_of(1000);
    let before: Vec<_> = files(&path).iter().map(|file| fs::read(file).unwrap()).collect();
    let report = repair(&path);
    assert_eq!((report.lost_bytes, report.manifest_rebuilt, report.old_log), (0, false, None));
    let after: Vec<_> = files(&path).iter().map(|file| fs::read(file).unwrap()).collect();
    assert!(before == after);
}
