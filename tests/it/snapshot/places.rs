//! A folder as the place of snapshots.

use crate::support::{assert_seen, claim_all_first, place, small};
use firstseen::disk::Disk as _;
use firstseen::disk::sim::SimDisk;
use firstseen::snapshot::{FolderTarget, SnapshotTarget as _, list};
use firstseen::{ErrorKind, Store};
use std::path::Path;

#[test]
fn a_folder_holds_snapshots_of_a_store_on_a_real_disk() {
    let (dir, path) = place();
    let store = small(Store::builder(&path)).background(true).open().expect("opens");
    let target = FolderTarget::new(dir.path().join("copies/of/seen"));
    for n in 0..3 {
        claim_all_first(&store, n * 10_000..(n + 1) * 10_000);
        store.snapshot(&target).expect("a snapshot");
    }
    assert_eq!(list(&target).expect("lists").len(), 3);
    for number in 1..=3 {
        let path = dir.path().join(format!("restored-{number}"));
        let options = firstseen::snapshot::RestoreOptions::new().number(number);
        Store::restore_with(&target, &path, options).expect("restores");
        let copy = small(Store::builder(&path)).open().expect("opens");
        assert_seen(&copy, 0..number * 10_000, true);
        assert_seen(&copy, number * 10_000..30_000, false);
    }
}

#[test]
fn an_object_is_stored_once_and_never_changed() {
    let target = FolderTarget::on(SimDisk::new(), "/copies");
    assert!(target.put_new("folder/a", b"first").expect("puts"));
    assert!(!target.put_new("folder/a", b"second").expect("answers"));
    assert_eq!(target.get("folder/a").expect("reads").as_deref(), Some(&b"first"[..]));
    assert_eq!(target.get("folder/b").expect("reads"), None);
    assert_eq!(target.list("folder").expect("lists"), ["a"]);
    assert!(target.list("nowhere").expect("lists").is_empty());
    target.delete("folder/a").expect("deletes");
    target.delete("folder/a").expect("is gone already");
    assert_eq!(target.get("folder/a").expect("reads"), None);
    for name in ["", "a", "/a", "a/", "../a", "a/../b", "a/b/c", "a/incoming", "a/b.c"] {
        assert!(target.put_new(name, b"").is_err(), "{name}");
        assert!(target.get(name).is_err(), "{name}");
    }
}

#[test]
fn writers_of_one_folder_exclude_each_other() {
    let disk = SimDisk::new();
    let target = FolderTarget::on(disk.clone(), "/copies");
    assert!(target.put_new("folder/a", b"").expect("puts"));
    let held = disk.lock(Path::new("/copies/LOCK")).expect("locks");
    let error = target.put_new("folder/b", b"").expect_err("somebody writes there");
    assert!(error.to_string().contains("another process"), "{error}");
    assert!(target.delete("folder/a").is_err());
    assert!(target.get("folder/a").expect("readers need no lock").is_some());
    drop(held);
    assert!(target.put_new("folder/b", b"").expect("puts"));
}

/// Nothing is made up, and nothing is left behind.
#[test]
fn a_place_without_snapshots_is_an_error() {
    let (dir, path) = place();
    let target = FolderTarget::new(dir.path().join("copies"));
    let error = Store::restore(&target, &path).expect_err("nothing is there");
    assert_eq!(error.kind(), ErrorKind::FixCall);
    assert!(error.to_string().contains("no snapshot"), "{error}");
    assert!(!path.exists());
    assert!(list(&target).expect("lists").is_empty());
}
