//! A store is a folder, not a path: it goes on when its folder is moved, stops when it is gone, and never touches what
//! is not its own.

use crate::support::*;
use firstseen::disk::Disk;
use firstseen::disk::sim::SimDisk;
use firstseen::{Builder, ErrorKind, ManualClock, Store};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const N: u64 = 4_000;

fn builder(path: &Path, clock: &ManualClock) -> Builder {
    small(Store::builder(path))
        .seed(seed_of(path))
        .segment_bytes(64 << 10)
        .memtable_bytes(16 << 10)
        .clock(clock.clone())
}

/// Stores at different paths get different seeds.
fn seed_of(path: &Path) -> [u8; 16] {
    let mut seed = [1; 16];
    path.to_string_lossy().bytes().enumerate().for_each(|(n, byte)| seed[n % 16] ^= byte);
    seed
}

fn claim_some(store: &Store, numbers: std::ops::Range<u64>) {
    for n in numbers.clone() {
        assert!(store.claim(id(n)).expect("claims").is_first_seen(), "id {n} was new");
        if n % 500 == 0 {
            settle(store);
        }
    }
    settle(store);
}

/// Lets background work check the folder.
fn look(store: &Store, clock: &ManualClock) -> Result<(), firstseen::Error> {
    clock.advance(Duration::from_secs(2));
    store.run_background()
}

fn is_stopped(store: &Store) -> bool {
    matches!(store.claim(b"one more"), Err(e) if e.kind() == ErrorKind::Reopen)
}

/// Names and contents of all files.
fn picture(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    files(dir).into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Rotation by `mv`: the first store wrote manifest, filters and segments into the second, or removed them there.
#[test]
fn i11_a_store_is_a_folder_not_a_name_when_it_is_moved_and_another_takes_its_name() {
    let (dir, path) = place();
    let clock = clock();
    let first = builder(&path, &clock).open().unwrap();
    claim_some(&first, 0..N);
    let moved = dir.path().join("moved.db");
    fs::rename(&path, &moved).unwrap();
    let second = builder(&path, &clock).seed([9; 16]).open().unwrap();
    claim_some(&second, N..2 * N);
    second.sync().unwrap();
    claim_some(&first, 2 * N..3 * N);
    look(&first, &clock).unwrap();
    first.sync().unwrap();
    let before = picture(&path);
    first.close().unwrap();
    assert!(before == picture(&path), "closing the first store touched the second");
    second.close().unwrap();
    for (path, own) in [(&moved, [0..N, 2 * N..3 * N]), (&path, [N..2 * N, 0..0])] {
        let store = builder(path, &clock).open().unwrap();
        own.clone().into_iter().for_each(|numbers| assert_seen(&store, numbers, true));
        assert_sound(&store);
        assert_eq!(store.stats().rebuilds, 0, "sled's folder moved along");
    }
}

#[test]
fn i7_a_store_whose_folder_was_removed_stops_and_says_so() {
    type Call = fn(Store, &ManualClock) -> Result<(), firstseen::Error>;
    let calls: [(&str, Call); 4] = [
        ("sync", |store, _| store.sync()),
        ("close", |store, _| store.close()),
        ("the background", |store, clock| {
            look(&store, clock).expect_err("it is gone");
            store.claim(id(N)).map(drop)
        }),
        ("a claim on disk", |store, _| {
            let options = firstseen::ClaimOptions::new().durability(firstseen::Durability::Disk);
            store.claim_with(id(N), options).map(drop)
        }),
    ];
    for (what, call) in calls {
        let (_dir, path) = place();
        let clock = clock();
        let store = builder(&path, &clock).open().unwrap();
        claim_some(&store, 0..N);
        let _ = store.claim(id(N + 1)).unwrap();
        fs::remove_dir_all(&path).unwrap();
        let error = call(store, &clock).expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Reopen, "{what}: {error}");
        assert!(!path.exists(), "{what}: the removed folder is back");
    }
}

/// A lock file was deleted as stale: two processes then granted the same ids.
#[test]
fn i1_a_second_store_is_refused_although_the_lock_file_was_deleted_and_the_first_stops() {
    let (_dir, path) = place();
    let clock = clock();
    let first = builder(&path, &clock).open().unwrap();
    claim_some(&first, 0..100);
    for replaced in [false, true] {
        fs::remove_file(path.join("LOCK")).ok();
        if replaced {
            fs::write(path.join("LOCK"), "").unwrap();
        }
        let second = builder(&path, &clock).open().expect_err("the folder is locked, too");
        assert_eq!(second.kind(), ErrorKind::Locked, "{second}");
        let repair = builder(&path, &clock).repair().expect_err("it is in use");
        assert_eq!(repair.kind(), ErrorKind::Locked, "{repair}");
    }
    look(&first, &clock).expect_err("its lock file was replaced");
    assert!(is_stopped(&first));
    drop(first);
    let store = builder(&path, &clock).open().unwrap();
    assert_seen(&store, 0..100, true);
}

fn with_sled_of_an_application(path: &Path) {
    // The names by which sled finds its files.
    for name in ["sled/db", "sled/conf", "sled/snap.0000000000000001"] {
        write(&path.join(name));
    }
}

#[test]
fn i11_what_is_not_our_own_is_never_removed_by_making_a_store() {
    type Put = fn(&Path);
    let harmless: [(&str, Put); 6] = [
        ("sled of an application", with_sled_of_an_application),
        ("a file in sled", |path| write(&path.join("sled/precious.txt"))),
        ("a file in filters", |path| write(&path.join("filters/precious.txt"))),
        ("a file in places", |path| write(&path.join("places/1.plc"))),
        ("a file in log", |path| write(&path.join("log/app.log"))),
        ("a file named sled", |path| write(&path.join("sled"))),
    ];
    for (what, put) in harmless {
        let (_dir, path) = place();
        put(&path);
        let before = picture(&path);
        let error = Store::open(&path).expect_err(what);
        assert_eq!(error.kind(), ErrorKind::FixCall, "{what}: {error}");
        assert!(error.to_string().contains("is not a firstseen store"), "{what}: {error}");
        Store::repair(&path).expect_err(what);
        assert!(before == picture(&path), "{what}: it was touched");
    }
}

fn write(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "precious").unwrap();
}

/// Nor inside a store: by a rebuild, by the removal of strays, or by a repair.
#[test]
fn i11_what_is_not_our_own_is_never_removed_from_a_store() {
    let (_dir, path) = place();
    let clock = clock();
    let store = builder(&path, &clock).open().unwrap();
    claim_some(&store, 0..N);
    store.close().unwrap();
    let precious = ["sled/precious.txt", "filters/1.flt", "places/notes", "log/app.log"];
    let there = |what: &str| {
        for name in precious {
            assert!(path.join(name).exists(), "{what}: {name} is gone");
        }
    };
    precious.iter().for_each(|name| write(&path.join(name)));
    // A different shard count rebuilds everything.
    builder(&path, &clock).shards(4).open().unwrap().close().unwrap();
    there("rebuilding");
    fs::remove_file(path.join("MANIFEST")).unwrap();
    builder(&path, &clock).repair().unwrap();
    assert!(path.join("log.damaged-001/app.log").exists(), "kept with the damaged log");
    fs::rename(path.join("log.damaged-001/app.log"), path.join("log/app.log")).unwrap();
    there("repair");
    let store = builder(&path, &clock).open().unwrap();
    assert_seen(&store, 0..N, true);
    there("opening");
}

#[test]
fn i11_a_sled_folder_without_our_mark_is_set_aside_and_not_emptied() {
    let (_dir, path) = place();
    let clock = clock();
    let store = builder(&path, &clock).open().unwrap();
    claim_some(&store, 0..N);
    store.close().unwrap();
    fs::remove_dir_all(path.join("sled")).unwrap();
    with_sled_of_an_application(&path);
    let store = builder(&path, &clock).open().unwrap();
    assert_seen(&store, 0..N, true);
    store.close().unwrap();
    assert_eq!(fs::read(path.join("sled.unknown-001/db")).unwrap(), b"precious");
}

/// A symbolic link leads out of the folder, and opening a pipe blocks until its other end is opened.
#[test]
fn i12_neither_links_nor_pipes_are_followed_in_the_place_of_our_files() {
    type Put = fn(&Path, &Path);
    let put: [(&str, Put); 2] = [
        ("link", |path, other| std::os::unix::fs::symlink(other, path).unwrap()),
        ("pipe", |path, _| {
            let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
            assert!(made.success());
        }),
    ];
    for (what, put) in put {
        for name in ["MANIFEST", "LOCK", "log/0000000001.seg"] {
            let (dir, path) = place();
            let clock = clock();
            let store = builder(&path, &clock).open().unwrap();
            let _ = store.claim(id(1)).unwrap();
            store.close().unwrap();
            let other = dir.path().join("other");
            fs::rename(path.join(name), &other).unwrap();
            put(&path.join(name), &other);
            let before = fs::read(&other).unwrap();
            builder(&path, &clock).open().expect_err(what);
            let read =
                builder(&path, &clock).open_read_only().and_then(|s| s.get("default", id(1)));
            read.expect_err(what);
            assert!(fs::read(&other).unwrap() == before, "{what} in the place of {name}");
        }
    }
}

#[test]
fn a_store_may_be_a_link_to_a_folder_and_one_that_leads_nowhere_is_named() {
    let (dir, path) = place();
    let clock = clock();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let error = builder(&link, &clock).open().expect_err("it leads nowhere");
    assert!(error.to_string().contains("leads nowhere"), "{error}");
    fs::create_dir(&path).unwrap();
    let _ = builder(&link, &clock).open().unwrap().claim(id(1)).unwrap();
    assert_seen(&builder(&path, &clock).open().unwrap(), 1..2, true);
}

/// Read-only access reports it too, whatever is read.
#[test]
fn i11_a_manifest_of_another_store_is_noticed_by_readers() {
    let (dir, a) = place();
    let clock = clock();
    let b = dir.path().join("other.db");
    for path in [&a, &b] {
        let store = builder(path, &clock).open().unwrap();
        claim_some(&store, 0..N);
        store.close().unwrap();
    }
    fs::copy(b.join("MANIFEST"), a.join("MANIFEST")).unwrap();
    let store = builder(&a, &clock).open_read_only().unwrap();
    let kinds = [
        store.get("default", id(1)).err().map(|e| e.kind()),
        store.export(|_| Ok(())).err().map(|e| e.kind()),
    ];
    assert_eq!(kinds, [Some(ErrorKind::Repair); 2]);
    assert!(!store.verify().unwrap().is_sound());
}

/// A restore that mixed up two stores granted most ids again and passed for sound.
#[test]
fn i11_parts_of_another_store_are_noticed_and_repair_goes_by_the_log() {
    let (dir, a) = place();
    let clock = clock();
    let b = dir.path().join("other.db");
    for (path, count) in [(&a, N), (&b, N / 2)] {
        let store = builder(path, &clock).open().unwrap();
        claim_some(&store, 0..count);
        store.close().unwrap();
    }
    assert!(seed(&a) != seed(&b), "two stores");
    for part in ["sled", "filters", "places"] {
        fs::remove_dir_all(a.join(part)).unwrap();
        copy_dir(&b.join(part), &a.join(part));
    }
    builder(&a, &clock).open().expect("expendable files may be any store's").close().unwrap();
    for part in ["sled", "filters", "places"] {
        fs::remove_dir_all(a.join(part)).unwrap();
        copy_dir(&b.join(part), &a.join(part));
    }
    fs::copy(b.join("MANIFEST"), a.join("MANIFEST")).unwrap();
    let error = builder(&a, &clock).open().expect_err("a manifest of another store");
    assert_eq!(error.kind(), ErrorKind::Repair, "{error}");
    for name in [".seg", "MANIFEST"] {
        assert!(error.to_string().contains(name), "{error}");
    }
    let report = builder(&a, &clock).repair().unwrap();
    assert!(report.manifest_rebuilt, "{report}");
    let store = builder(&a, &clock).open().unwrap();
    assert_seen(&store, 0..N, true);
    assert_sound(&store);
}

/// The seed in the header of the oldest segment.
fn seed(store: &Path) -> Vec<u8> {
    fs::read(&files(&store.join("log"))[0]).unwrap()[24..40].to_vec()
}

#[test]
fn i11_a_segment_of_another_store_is_noticed_by_opening_and_by_verify() {
    let (dir, a) = place();
    let clock = clock();
    let b = dir.path().join("other.db");
    let store = builder(&b, &clock).seed([9; 16]).open().unwrap();
    claim_some(&store, 0..N);
    store.close().unwrap();
    let store = builder(&a, &clock).open().unwrap();
    claim_some(&store, 0..N);
    let oldest = |path: &Path| files(&path.join("log"))[0].clone();
    fs::remove_file(oldest(&a)).unwrap();
    fs::copy(oldest(&b), a.join("log").join(oldest(&b).file_name().unwrap())).unwrap();
    let report = store.verify().unwrap();
    assert!(report.problems.iter().any(|what| what.contains("different store seeds")), "{report}");
    drop(store);
    let error = builder(&a, &clock).open().expect_err("a segment of another store");
    assert!(error.to_string().contains("different store seeds"), "{error}");
    let report = builder(&a, &clock).repair().unwrap();
    assert!(report.lost_bytes > 0, "{report}");
}

#[test]
fn i7_a_mapped_log_on_a_disk_that_became_read_only_stops_within_a_second() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).open().unwrap();
    claim_all_first(&store, 0..10);
    settle(&store);
    disk.make_read_only();
    look(&store, &clock).expect("an idle store has nothing to write");
    claim_all_first(&store, 10..20);
    let error = look(&store, &clock).expect_err("the disk is read-only");
    assert_eq!(error.kind(), ErrorKind::Reopen, "{error}");
    assert!(is_stopped(&store));
}

/// The same on the simulated disk, where any step can be made to fail.
#[test]
fn i11_a_store_on_a_simulated_disk_goes_on_in_its_folder() {
    let (disk, clock) = (SimDisk::new(), clock());
    let first = sim(&disk, &clock).open().unwrap();
    claim_some(&first, 0..N);
    disk.rename(Path::new(AT), Path::new("/moved")).unwrap();
    let second = sim(&disk, &clock).seed([9; 16]).open().unwrap();
    claim_some(&second, 0..N);
    claim_some(&first, N..2 * N);
    first.close().unwrap();
    second.close().unwrap();
    let moved = small(Store::builder("/moved")).disk(disk.clone()).clock(clock.clone());
    assert_seen(&moved.open().unwrap(), 0..2 * N, true);
    assert_seen(&sim(&disk, &clock).open().unwrap(), 0..N, true);
}

#[test]
fn i11_repair_of_a_store_without_its_log_says_what_is_lost() {
    let (_dir, path) = place();
    let clock = clock();
    let store = builder(&path, &clock).open().unwrap();
    claim_some(&store, 0..100);
    store.close().unwrap();
    fs::remove_dir_all(path.join("log")).unwrap();
    let error = builder(&path, &clock).open().expect_err("the log is gone");
    assert_eq!(error.kind(), ErrorKind::Repair, "{error}");
    let report = builder(&path, &clock).repair().unwrap();
    assert!(report.saved_records == 0 && !report.lost.is_empty(), "{report}");
    assert_seen(&builder(&path, &clock).open().unwrap(), 0..100, false);
}
