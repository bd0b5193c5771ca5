//! Formats: stores that earlier builds wrote, the refusal of what is older or newer, and the upgrade to the version
//! after this one.

mod golden;
mod refused;
mod upgrade;

use crate::support::{assert_sound, files};
use firstseen::Store;
use golden::STATES;
use std::path::{Path, PathBuf};

/// The segments of a store, in order.
fn segments(path: &Path) -> Vec<PathBuf> {
    files(&path.join("log"))
}

/// The version in a manifest or a segment.
fn version(bytes: &[u8]) -> u16 {
    u16::from_le_bytes([bytes[4], bytes[5]])
}

/// Every file of a folder and what is in it.
fn contents(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    files(path).into_iter().map(|file| (file.clone(), std::fs::read(file).unwrap())).collect()
}

/// Claims new ids until the log has a new segment, and makes a namespace.
fn write_more(store: &Store) {
    for n in 0..3_000 {
        assert!(store.claim(format!("more-{n:030}")).unwrap().is_first_seen(), "more-{n}");
        if n % 200 == 0 {
            store.run_background().unwrap();
        }
    }
    let named = store.namespace("more").unwrap();
    assert!(named.claim("more-0").unwrap().is_first_seen());
    let table = firstseen::testing::Table::of(store, 9);
    table.put(b"more", b"a row").unwrap();
}

/// Checks what [`write_more`] wrote.
fn check_more(store: &Store) {
    for n in 0..3_000 {
        assert!(store.contains(format!("more-{n:030}")).unwrap(), "more-{n}");
    }
    assert!(store.find_namespace("more").unwrap().contains("more-0").unwrap());
    let row = firstseen::testing::Table::of(store, 9).get(b"more").unwrap().unwrap();
    assert_eq!(row.value, b"a row");
    assert_sound(store);
}

#[test]
fn i10_each_golden_folder_answers_is_written_to_and_answers_again() {
    for state in STATES {
        // Also without sled: everything flushed is then built again from the log.
        for has_sled in [true, false] {
            let (_dir, path, answers, clock) = golden::copy(state);
            if !has_sled {
                std::fs::remove_dir_all(path.join("sled")).unwrap();
            }
            let at = format!("{state}, sled: {has_sled}");
            let store = golden::builder(&path, &clock).open().unwrap();
            answers.check(&store, &at);
            answers.check_count(&store, &at);
            assert_sound(&store);
            let stats = store.stats();
            assert_eq!(stats.rebuilds, u64::from(!has_sled), "{at}: {stats}");
            assert_eq!(stats.cut_bytes > 0, state == "killed", "{at}: {stats}");
            write_more(&store);
            answers.check(&store, &at);
            store.close().unwrap();
            let store = golden::builder(&path, &clock).open().unwrap();
            answers.check(&store, &at);
            check_more(&store);
        }
    }
}

#[test]
fn each_golden_folder_answers_read_only_and_stays_as_it_is() {
    for state in STATES {
        let (_dir, path, answers, clock) = golden::copy(state);
        let before = contents(&path);
        let store = golden::builder(&path, &clock).open_read_only().unwrap();
        answers.check_read_only(&store, state);
        let report = store.verify().unwrap();
        assert!(report.is_sound(), "{state}: {report}");
        drop(store);
        assert!(contents(&path) == before, "{state}: nothing is written");
    }
}

/// The folders hold what their names say, or the tests above try less than they seem to.
#[test]
fn the_golden_folders_are_of_the_states_that_their_names_say() {
    let kept = |state: &str, file: &str| golden::folder(state).join(file);
    for state in STATES {
        let manifest = std::fs::read(kept(state, "MANIFEST")).unwrap();
        assert_eq!(version(&manifest), 2, "{state}");
        for segment in segments(&golden::folder(state)) {
            assert_eq!(version(&std::fs::read(&segment).unwrap()), 2, "{}", segment.display());
        }
        for name in ["LOCK", "sled/FIRSTSEEN", "sled/db", "filters"] {
            assert!(kept(state, name).exists(), "{state}: {name}");
        }
    }
    // An open log is as long as it was made; a closed one ends with its last record.
    let lengths = |state: &str| -> Vec<u64> {
        let segments = segments(&golden::folder(state));
        segments.iter().map(|segment| segment.metadata().unwrap().len()).collect()
    };
    assert!(lengths("open").iter().all(|len| *len == 64 << 10), "{:?}", lengths("open"));
    assert!(lengths("closed").iter().any(|len| *len < 64 << 10), "{:?}", lengths("closed"));
    assert!(!kept("compacted", "log/0000000001.seg").exists(), "it was removed");
    assert!(!files(&kept("long-ids", "places")).is_empty());
}
