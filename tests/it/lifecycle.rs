//! Opening, closing, locking, and folders that are no store.

use crate::support::*;
use firstseen::disk::sim::SimDisk;
use firstseen::{Builder, ErrorKind, Namespace, NamespaceOptions, Reservation, Store};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[test]
fn handles_may_be_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Store>();
    shared::<Namespace>();
    shared::<Reservation>();
    shared::<Builder>();
    shared::<firstseen::Error>();
}

#[test]
fn after_close_every_other_handle_hears_so() {
    let (_dir, path) = place();
    let store = Store::open(&path).unwrap();
    let (other, namespace) = (store.clone(), store.namespace("n").unwrap());
    let _ = store.claim("a").unwrap();
    store.close().unwrap();
    let kinds = [
        other.claim("a").unwrap_err().kind(),
        other.claim_batch(&["b"]).unwrap_err().kind(),
        other.contains("a").unwrap_err().kind(),
        other.forget("a").unwrap_err().kind(),
        other.reserve("b").unwrap_err().kind(),
        other.sync().unwrap_err().kind(),
        other.verify().unwrap_err().kind(),
        other.namespace("m").unwrap_err().kind(),
        other.import("n", &[]).unwrap_err().kind(),
        namespace.claim("a").unwrap_err().kind(),
        namespace.get("a").unwrap_err().kind(),
    ];
    assert_eq!(kinds, [ErrorKind::Reopen; 11]);
    let store = Store::open(&path).expect("closing releases the lock despite other handles");
    assert!(store.contains("a").unwrap());
    drop((other, namespace));
    assert!(store.claim("a").unwrap().is_duplicate(), "the old handles do no harm");
}

#[test]
fn a_second_open_is_refused_while_the_first_lives() {
    let (_dir, path) = place();
    let store = Store::open(&path).unwrap();
    let error = Store::open(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(error.to_string().contains("seen.db"), "{error}");
    assert_eq!(Store::repair(&path).unwrap_err().kind(), ErrorKind::Locked);
    assert!(store.claim("a").unwrap().is_first_seen(), "the first one still works");
    drop(store);
    assert!(Store::open(&path).unwrap().contains("a").unwrap());
}

/// Until the last byte is on disk: anyone opening earlier would cut off what the first store still writes.
#[test]
fn i1_a_store_that_is_being_closed_is_still_locked() {
    fn look_at_every_sync(disk: &SimDisk, looks: &Arc<AtomicU64>) {
        let (again, looks) = (disk.clone(), Arc::clone(looks));
        disk.after_next_sync(move || {
            let second = sim(&again, &clock()).open();
            assert_eq!(second.unwrap_err().kind(), ErrorKind::Locked);
            looks.fetch_add(1, Ordering::Relaxed);
            look_at_every_sync(&again, &looks);
        });
    }
    let (disk, looks) = (SimDisk::new(), Arc::new(AtomicU64::new(0)));
    let store = sim(&disk, &clock()).open().unwrap();
    claim_all_first(&store, 0..10);
    look_at_every_sync(&disk, &looks);
    store.close().unwrap();
    disk.after_next_sync(|| ());
    assert!(looks.load(Ordering::Relaxed) >= 3, "the log, its end, and the manifest");
    assert_seen(&sim(&disk, &clock()).open().unwrap(), 0..10, true);
}

#[test]
fn dropping_the_last_handle_closes_in_order() {
    let (_dir, path) = place();
    for n in 0..3 {
        let store = Store::open(&path).unwrap();
        let copy = store.clone();
        drop(store);
        assert!(copy.claim(id(n)).unwrap().is_first_seen());
        assert_eq!(Store::open(&path).unwrap_err().kind(), ErrorKind::Locked);
    }
    let store = Store::open(&path).unwrap();
    assert_eq!(store.stats().cut_bytes, 0);
    assert_seen(&store, 0..3, true);
    store.close().unwrap();
    let log: u64 = files(&path.join("log")).iter().map(|f| f.metadata().unwrap().len()).sum();
    assert!(log < 64 << 10, "closing frees the log's unused space: {log} bytes");
}

#[test]
fn what_is_no_store_is_not_touched() {
    let (dir, path) = place();
    std::fs::write(&path, "a file").unwrap();
    assert_eq!(Store::open(&path).unwrap_err().kind(), ErrorKind::FixCall);
    assert_eq!(std::fs::read(&path).unwrap(), b"a file");
    let folder = dir.path().join("photos");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("cat.jpg"), "meow").unwrap();
    for open in [Store::open(&folder), Store::builder(&folder).create(false).open()] {
        let error = open.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FixCall);
        assert!(error.to_string().contains("cat.jpg"), "{error}");
    }
    assert_eq!(Store::repair(&folder).unwrap_err().kind(), ErrorKind::FixCall);
    assert_eq!(files(&folder), [folder.join("cat.jpg")], "nothing was added");
    let nowhere = dir.path().join("nowhere");
    let error = Store::builder(&nowhere).create(false).open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FixCall);
    assert_eq!(Store::repair(&nowhere).unwrap_err().kind(), ErrorKind::FixCall);
    assert!(!nowhere.exists());
    let below = path.join("below-a-file");
    assert!(Store::open(below).is_err());
}

#[test]
fn an_empty_folder_and_missing_parents_become_a_store() {
    let (dir, _) = place();
    assert!(Store::open(dir.path()).unwrap().claim("a").unwrap().is_first_seen());
    let deep = dir.path().parent().unwrap().join("no").join("such");
    let (other, _) = place();
    let deep_inside = other.path().join("x/y/z");
    assert!(Store::open(&deep_inside).unwrap().claim("a").unwrap().is_first_seen());
    assert!(!deep.exists());
    #[cfg(unix)]
    for path in files(&deep_inside).iter().filter(|p| !p.starts_with(deep_inside.join("sled"))) {
        use std::os::unix::fs::PermissionsExt;
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} is private", path.display());
    }
}

#[test]
fn settings_out_of_bounds_are_refused_and_leave_nothing() {
    let (_dir, path) = place();
    let builder = || Store::builder(&path);
    let wrong = [
        builder().shards(3),
        builder().shards(0),
        builder().shards(512),
        builder().memory_budget((4 << 20) - 1),
        builder().flush_interval(std::time::Duration::ZERO),
    ];
    for builder in wrong {
        assert_eq!(builder.open().unwrap_err().kind(), ErrorKind::FixCall);
    }
    assert!(!path.exists());
    let store = builder().open().unwrap();
    for name in [String::new(), "n".repeat(256)] {
        assert_eq!(store.namespace(&name).unwrap_err().kind(), ErrorKind::FixCall);
    }
    let options = NamespaceOptions::new().sliding(true);
    assert_eq!(store.namespace_with("default", options).unwrap_err().kind(), ErrorKind::FixCall);
}

#[test]
fn another_number_of_shards_changes_no_answer() {
    let (_dir, path) = place();
    for (round, shards) in [8, 2, 64, 1, 16].into_iter().enumerate() {
        let store = Store::builder(&path).shards(shards).memory_budget(4 << 20).open().unwrap();
        assert_eq!(store.stats().shards, shards as u64);
        let round = round as u64;
        assert_seen(&store, 0..round * 5000, true);
        claim_all_first(&store, round * 5000..(round + 1) * 5000);
        assert_sound(&store);
        store.close().unwrap();
    }
    assert_eq!(Store::open(&path).unwrap().stats().shards, 16);
}

/// Found by attack: it turned the working directory into a store.
#[test]
fn an_empty_path_is_refused() {
    assert_eq!(Store::open("").unwrap_err().kind(), ErrorKind::FixCall);
}
