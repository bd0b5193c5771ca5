//! I10: whatever happens to the folders `sled` and `filters`, no answer changes.

use crate::support::*;
use firstseen::Store;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const N: u64 = 6_000;

fn builder(path: &Path) -> firstseen::Builder {
    small(Store::builder(path)).segment_bytes(64 << 10).open_set_bytes(16 << 10)
}

fn open(path: &Path) -> Store {
    builder(path).open().expect("opens")
}

/// Claims the even ids below `to` and forgets every tenth of them; some are sealed and some are not.
fn fill(store: &Store, from: u64, to: u64) {
    for n in (from..to).step_by(2) {
        let _ = store.claim(id(n)).expect("claims");
        if n % 20 == 0 {
            assert!(store.forget(id(n)).expect("forgets"));
        }
        if n % 500 == 0 {
            settle(store);
        }
    }
}

fn seen(n: u64) -> bool {
    n.is_multiple_of(2) && !n.is_multiple_of(20)
}

fn check(path: &Path, what: &str) {
    let store = open(path);
    for n in 0..N {
        assert_eq!(store.contains(id(n)).expect("reads"), seen(n), "{what}: id {n}");
    }
    // What is wrong heals at the read that needs it or at the next work in the background.
    for n in N..N + 4000 {
        assert!(store.claim(id(n)).expect("claims").is_first_seen(), "{what}: id {n}");
        if n % 500 == 0 {
            settle(&store);
        }
    }
    settle(&store);
    store.close().unwrap_or_else(|e| panic!("{what}: {e}"));
    let store = open(path);
    for n in 0..N + 4000 {
        let expected = if n < N { seen(n) } else { true };
        assert_eq!(store.contains(id(n)).expect("reads"), expected, "{what}, again: id {n}");
    }
}

/// A closed store, and an older copy of its sled folder.
fn model() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let (dir, path) = place();
    let store = open(&path);
    fill(&store, 0, N / 2);
    store.close().expect("closes");
    let old = dir.path().join("old");
    copy_dir(&path.join("sled"), &old);
    let store = open(&path);
    fill(&store, N / 2, N);
    assert!(store.stats().runs >= 2, "{}", store.stats());
    store.close().expect("closes");
    (dir, path, old)
}

fn vandalise(what: &str, harm: impl Fn(&Path)) {
    let (_dir, path, _) = model();
    harm(&path);
    check(&path, what);
}

#[test]
fn i10_sled_folder_deleted_between_two_runs_changes_no_answer() {
    vandalise("deleted", |path| fs::remove_dir_all(path.join("sled")).unwrap());
    vandalise("empty", |path| {
        fs::remove_dir_all(path.join("sled")).unwrap();
        fs::create_dir(path.join("sled")).unwrap();
    });
    vandalise("a file", |path| {
        fs::remove_dir_all(path.join("sled")).unwrap();
        fs::write(path.join("sled"), "in the way").unwrap();
    });
}

#[test]
fn i10_an_older_copy_of_the_sled_folder_changes_no_answer() {
    let (_dir, path, old) = model();
    fs::remove_dir_all(path.join("sled")).unwrap();
    copy_dir(&old, &path.join("sled"));
    check(&path, "an older copy");
}

#[test]
fn i10_the_sled_folder_of_another_store_changes_no_answer() {
    let (_dir, path, _) = model();
    let (_other_dir, other) = place();
    // The same seed, shards, and numbers of runs, but other ids: only the mark can tell.
    let store = open(&other);
    for n in 1_000_000..1_020_000 {
        let _ = store.claim(id(n)).unwrap();
        if n % 200 == 0 {
            settle(&store);
        }
    }
    store.close().unwrap();
    fs::remove_dir_all(path.join("sled")).unwrap();
    copy_dir(&other.join("sled"), &path.join("sled"));
    let store = small(Store::builder(&path)).open().unwrap();
    let wrong = (0..N).filter(|n| store.contains(id(*n)).unwrap() != seen(*n)).count();
    assert_eq!(wrong, 0);
}

#[test]
fn i10_a_truncated_sled_file_changes_no_answer() {
    let (dir, path, _) = model();
    let db = path.join("sled/db");
    let len = fs::metadata(&db).unwrap().len();
    for part in 0..6 {
        let copy = dir.path().join(format!("cut-{part}"));
        copy_dir(&path, &copy);
        let file = fs::OpenOptions::new().write(true).open(copy.join("sled/db")).unwrap();
        file.set_len(len * part / 6 + part * 7).unwrap();
        check(&copy, &format!("truncated to {part}/6"));
    }
}

#[test]
fn i10_flipped_bits_in_the_sled_folder_change_no_answer() {
    let (dir, path, _) = model();
    for file in files(&path.join("sled")) {
        let name = file.strip_prefix(&path).unwrap().to_owned();
        let len = fs::metadata(&file).unwrap().len();
        for part in 0..4 {
            let copy = dir.path().join("flipped");
            copy_dir(&path, &copy);
            let mut bytes = fs::read(copy.join(&name)).unwrap();
            // One in each quarter, and the first of the file; a whole stretch in the last round.
            let at = (len * part / 4) as usize;
            let width = if part == 3 { 2000 } else { 1 };
            bytes.iter_mut().skip(at).take(width).for_each(|b| *b ^= 0x10);
            fs::write(copy.join(&name), bytes).unwrap();
            check(&copy, &format!("{} flipped at {at}", name.display()));
            fs::remove_dir_all(&copy).unwrap();
        }
    }
}

#[test]
fn i10_single_files_missing_from_the_sled_folder_change_no_answer() {
    let (dir, path, _) = model();
    for file in files(&path.join("sled")) {
        let name = file.strip_prefix(&path).unwrap().to_owned();
        let copy = dir.path().join("missing");
        copy_dir(&path, &copy);
        fs::remove_file(copy.join(&name)).unwrap();
        check(&copy, &format!("{} missing", name.display()));
        fs::remove_dir_all(&copy).unwrap();
    }
    let snapshot = path.join("sled/snap.00000000DEADBEEF.generating");
    fs::write(snapshot, "half a snapshot").unwrap();
    check(&path, "a snapshot that was never finished");
}

#[test]
fn i10_sled_folder_deleted_or_overwritten_while_open_changes_no_answer() {
    for overwrite in [false, true] {
        let (_dir, path) = place();
        let builder = || builder(&path).background(true).wait_max(Duration::from_secs(20));
        let store = builder().open().unwrap();
        let round = |from: u64| {
            for n in from..from + 10_000 {
                assert!(store.claim(id(n)).unwrap().is_first_seen(), "id {n}");
            }
            for n in 0..from + 10_000 {
                assert!(store.claim(id(n)).unwrap().is_duplicate(), "id {n}");
            }
        };
        round(0);
        if overwrite {
            let db = path.join("sled/db");
            let len = fs::metadata(&db).unwrap().len();
            fs::write(&db, vec![0xa5; len as usize]).unwrap();
        } else {
            fs::remove_dir_all(path.join("sled")).unwrap();
        }
        round(10_000);
        // Whether this last write succeeds is another matter; nothing is lost by it.
        store.close().ok();
        let store = builder().open().unwrap();
        assert_seen(&store, 0..20_000, true);
        assert_sound(&store);
    }
}

#[test]
fn i2_damaged_missing_and_foreign_filters_change_no_answer() {
    vandalise("no filters", |path| fs::remove_dir_all(path.join("filters")).unwrap());
    vandalise("flipped filters", |path| {
        for file in files(&path.join("filters")) {
            let mut bytes = fs::read(&file).unwrap();
            let at = bytes.len() / 2;
            bytes[at] ^= 1;
            fs::write(&file, bytes).unwrap();
        }
    });
    vandalise("empty filters", |path| {
        files(&path.join("filters")).iter().for_each(|file| fs::write(file, "").unwrap());
    });
    vandalise("filters of other runs", |path| {
        let all = files(&path.join("filters"));
        let bytes = fs::read(&all[0]).unwrap();
        all[1..].iter().for_each(|file| fs::write(file, &bytes).unwrap());
    });
    vandalise("no filters and no sled", |path| {
        fs::remove_dir_all(path.join("filters")).unwrap();
        fs::remove_dir_all(path.join("sled")).unwrap();
    });
}

/// What sled's own checks let through: whole values that are not what was written, or not there.
#[test]
fn i10_altered_swapped_and_missing_chunks_are_noticed_and_healed() {
    type Harm = fn(&sled::Db, &[sled::IVec]);
    let harms: [(&str, Harm); 4] = [
        ("a bit flipped in each chunk", |db, keys| {
            for (i, key) in keys.iter().enumerate() {
                let mut bytes = db.get(key).unwrap().unwrap().to_vec();
                let at = i * 131 % bytes.len();
                bytes[at] ^= 4;
                db.insert(key, bytes).unwrap();
            }
        }),
        ("each chunk in the place of the next", |db, keys| {
            let values: Vec<_> = keys.iter().map(|key| db.get(key).unwrap().unwrap()).collect();
            for (key, value) in keys.iter().zip(values.iter().cycle().skip(1)) {
                db.insert(key, value).unwrap();
            }
        }),
        ("every third chunk missing", |db, keys| {
            keys.iter().step_by(3).for_each(|key| drop(db.remove(key).unwrap()));
        }),
        ("every chunk cut", |db, keys| {
            for key in keys {
                let bytes = db.get(key).unwrap().unwrap();
                db.insert(key, &bytes[..bytes.len() - 1]).unwrap();
            }
        }),
    ];
    for (what, harm) in harms {
        vandalise(what, |path| {
            let db = sled::open(path.join("sled")).unwrap();
            // Chunks have keys of twelve bytes; the mark has not.
            let keys: Vec<_> = db.iter().keys().map(|key| key.unwrap()).collect();
            let keys: Vec<_> = keys.into_iter().filter(|key| key.len() == 12).collect();
            assert!(keys.len() > 4);
            harm(&db, &keys);
            db.flush().unwrap();
        });
    }
}
