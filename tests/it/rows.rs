//! Rows: keys with values, in the log, found through the same memtables and runs as claims.

use crate::row_recovery::segment;
use crate::support::{AT, assert_sound, claim_all_first, clock, id, settle, sim, sim_with};
use firstseen::disk::sim::SimDisk;
use firstseen::testing::{Committed, Expect, Mirror, Table, TableWrite};
use firstseen::{Durability, ErrorKind, MemoryBlocks, Store, Ttl, seconds};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

pub(crate) fn write<'a>(id: &'a [u8], value: Option<&'a [u8]>, expect: Expect) -> TableWrite<'a> {
    TableWrite { id, value, ttl: Ttl::FOREVER, expect }
}

pub(crate) fn one(table: &Table, write: TableWrite<'_>) -> Committed {
    table.commit(&[write], Durability::Process).expect("commits")
}

pub(crate) fn value(table: &Table, id: &[u8]) -> Option<Vec<u8>> {
    table.get(id).expect("reads").map(|row| row.value)
}

pub(crate) fn sequence(committed: &Committed) -> u64 {
    match committed {
        Committed::Done(all) => all[0].expect("was written"),
        Committed::Moved(moved) => panic!("refused: {moved:?}"),
    }
}

pub(crate) fn flush(store: &Store) {
    store.freeze();
    settle(store);
}

fn log_bytes(disk: &SimDisk) -> u64 {
    use firstseen::disk::Disk;
    let dir = Path::new(AT).join("log");
    let names = disk.list(&dir).expect("lists");
    names.iter().map(|name| disk.read(&dir.join(name)).expect("reads").len() as u64).sum()
}

#[test]
fn a_row_is_put_read_replaced_and_deleted() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).open().expect("opens");
    let (table, other) = (Table::of(&store, 1), Table::of(&store, 2));
    assert_eq!(value(&table, b"k"), None);
    let first = sequence(&table.put(b"k", b"one").expect("puts"));
    let second = sequence(&table.put(b"k", b"two").expect("puts"));
    assert!(second > first, "sequences grow");
    assert_eq!(value(&table, b"k"), Some(b"two".to_vec()));
    assert_eq!(value(&other, b"k"), None, "another family");
    assert!(store.claim(b"k").expect("claims").is_first_seen(), "a row is no claim");
    assert_eq!(value(&table, b"k"), Some(b"two".to_vec()));
    table.delete(b"k").expect("deletes");
    assert_eq!(value(&table, b"k"), None);
    assert_eq!(table.delete(b"k").expect("deletes"), Committed::Done(vec![None]));
    assert!(store.contains(b"k").expect("reads"), "a claim is no row");
    assert_eq!(store.export(|_| Ok(())).expect("exports"), 1, "rows are not exported as claims");
}

#[test]
fn a_write_that_finds_something_else_than_expected_changes_nothing() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).open().expect("opens");
    let table = Table::of(&store, 1);
    for round in 0..2 {
        let key = [b'a' + round];
        let first = sequence(&one(&table, write(&key, Some(b"1"), Expect::Absent)));
        assert_eq!(
            one(&table, write(&key, Some(b"2"), Expect::Absent)),
            Committed::Moved(vec![(0, Some(first))])
        );
        let second = sequence(&one(&table, write(&key, Some(b"2"), Expect::Sequence(first))));
        let stale = [
            write(b"innocent", Some(b"x"), Expect::Absent),
            write(&key, None, Expect::Sequence(first)),
            write(b"none", Some(b"x"), Expect::Sequence(1)),
        ];
        assert_eq!(
            table.commit(&stale, Durability::Process).expect("answers"),
            Committed::Moved(vec![(1, Some(second)), (2, None)]),
            "every reason at once"
        );
        assert_eq!(value(&table, b"innocent"), None, "all or nothing");
        assert_eq!(value(&table, &key), Some(b"2".to_vec()));
        // The second round finds everything flushed.
        flush(&store);
    }
    let twice = [write(b"d", None, Expect::Anything), write(b"d", Some(b"x"), Expect::Anything)];
    let error = table.commit(&twice, Durability::Process).expect_err("one row twice");
    assert_eq!(error.kind(), ErrorKind::FixCall);
}

/// Does random things to a table and a map, with flushes, merges, reopening and claims in between.
fn course(seed: u64, steps: u64, mut reopen: impl FnMut(Store) -> Store, store: Store) {
    let mut x = seed | 1;
    let mut dice = move |n: u64| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x % n
    };
    let mut store = store;
    let mut expected: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let mut highest = 0;
    let mut claims = 0..0;
    for step in 0..steps {
        let table = Table::of(&store, 3);
        let key = format!("key-{}", dice(40)).into_bytes();
        match dice(12) {
            0..=6 => {
                let value = vec![step as u8; dice(3_000) as usize];
                let written = sequence(&table.put(&key, &value).expect("puts"));
                assert!(written > highest, "step {step}: sequences only grow");
                highest = written;
                expected.insert(key, value);
            }
            7 | 8 => {
                table.delete(&key).expect("deletes");
                expected.remove(&key);
            }
            9 => {
                claims = claims.end..claims.end + 300;
                claim_all_first(&store, claims.clone());
            }
            10 => flush(&store),
            _ => {
                drop(table);
                store = reopen(store);
            }
        }
        let table = Table::of(&store, 3);
        for n in 0..40 {
            let key = format!("key-{n}").into_bytes();
            assert_eq!(value(&table, &key), expected.get(&key).cloned(), "step {step}, key {n}");
        }
    }
    let table = Table::of(&store, 3);
    let listed: BTreeMap<_, _> =
        table.list().expect("lists").into_iter().map(|(key, row)| (key, row.value)).collect();
    assert_eq!(listed, expected);
    assert_sound(&store);
}

#[test]
fn rows_outlive_flushes_merges_and_reopening() {
    for seed in 1..=6 {
        let (disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
        let open = || sim_with(&disk, &clock, &blocks).open().expect("opens");
        let reopen = |store: Store| {
            store.close().expect("closes");
            open()
        };
        course(seed, 300, reopen, open());
    }
}

/// Without its blocks, everything flushed is built again from the log.
#[test]
fn i10_rows_are_found_again_when_the_block_store_is_lost() {
    for seed in 11..=14 {
        let (disk, clock) = (SimDisk::new(), clock());
        let open = || sim(&disk, &clock).open().expect("opens");
        let reopen = |store: Store| {
            store.close().expect("closes");
            open()
        };
        course(seed, 200, reopen, open());
    }
}

/// The index must lead to where a value stands now.
#[test]
fn i2_a_row_is_found_after_compaction_has_moved_its_value() {
    let (disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
    let store = sim_with(&disk, &clock, &blocks).open().expect("opens");
    let table = Table::of(&store, 1);
    for n in 0..200u64 {
        table.put(&id(n), &n.to_le_bytes()).expect("puts");
    }
    // What follows replaces itself, so the segments with the rows above are rewritten for their sake.
    for round in 0..3_000u64 {
        table.put(b"hot", &[round as u8; 1_000]).expect("puts");
        if round % 100 == 0 {
            settle(&store);
        }
    }
    flush(&store);
    assert!(store.stats().segments_removed > 5, "{}", store.stats());
    // A merge finds several locations of one row.
    for _ in 0..4 {
        for n in 200..220 {
            table.put(&id(n), b"more").expect("puts");
        }
        flush(&store);
    }
    let check = |table: &Table| {
        for n in 0..200u64 {
            assert_eq!(value(table, &id(n)), Some(n.to_le_bytes().to_vec()), "row {n}");
        }
        assert_eq!(value(table, b"hot"), Some(vec![(2_999 % 256) as u8; 1_000]));
    };
    check(&table);
    assert_sound(&store);
    drop(table);
    store.close().expect("closes");
    let store = sim_with(&disk, &clock, &blocks).open().expect("opens");
    check(&Table::of(&store, 1));
    assert_sound(&store);
}

/// The tombstone is in a segment that is rewritten, and the row in an older one that is kept.
#[test]
fn i10_a_deleted_row_does_not_come_back_when_its_tombstone_is_compacted() {
    let (disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
    let store = sim_with(&disk, &clock, &blocks).open().expect("opens");
    let table = Table::of(&store, 1);
    for n in 0..300u64 {
        table.put(&id(n), &[7; 1_000]).expect("puts");
    }
    for n in 0..20 {
        table.delete(&id(n)).expect("deletes");
    }
    for round in 0..2_000u64 {
        table.put(b"hot", &[round as u8; 1_000]).expect("puts");
        if round % 100 == 0 {
            flush(&store);
        }
    }
    flush(&store);
    assert!(store.stats().segments_removed > 3, "{}", store.stats());
    let oldest = firstseen::disk::Disk::read(&disk, &Path::new(AT).join("log/0000000001.seg"));
    assert!(oldest.is_ok(), "the segment of the rows is kept");
    drop(table);
    store.close().expect("closes");
    // Built again from the log alone.
    let store = sim(&disk, &clock).open().expect("opens");
    let table = Table::of(&store, 1);
    for n in 0..300u64 {
        assert_eq!(value(&table, &id(n)).is_some(), n >= 20, "row {n}");
    }
    assert_sound(&store);
}

#[test]
fn a_row_that_is_overwritten_for_ever_takes_a_bounded_log() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).open().expect("opens");
    let table = Table::of(&store, 1);
    table.put(b"hot", &[0; 100]).expect("puts");
    settle(&store);
    let before = log_bytes(&disk);
    let mut most = 0;
    for n in 0..40_000u64 {
        table.put(b"hot", &[n as u8; 100]).expect("puts");
        if n % 500 == 0 {
            settle(&store);
            most = most.max(log_bytes(&disk));
        }
    }
    let segment = 256 << 10;
    assert!(most <= before + 3 * segment, "{most} bytes of log, after {before} with one write");
}

/// The background keeps up with the writer only because the writer waits for it.
#[test]
fn writers_of_a_hot_row_are_slowed_down_to_what_compaction_frees() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("s.db");
    let segment: u32 = 256 << 10;
    let store = Store::builder(&path).segment_bytes(segment).open().expect("opens");
    let table = Table::of(&store, 1);
    let log_bytes = || -> u64 {
        let files = std::fs::read_dir(path.join("log")).expect("is there").flatten();
        files.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
    };
    table.put(b"hot", &[0; 100]).expect("puts");
    let before = log_bytes();
    let mut most = 0;
    for n in 0..200_000u64 {
        table.put(b"hot", &[n as u8; 100]).expect("puts");
        if n % 500 == 0 {
            most = most.max(log_bytes());
        }
    }
    // All of it is a hundred segments. On a busy machine a writer may go on after a second.
    let allowed = before + 10 * u64::from(segment);
    assert!(most <= allowed, "{most} bytes of log, {before} with one write");
    assert!(store.stats().waits_for_compaction > 0, "{:?}", store.stats());
    assert_eq!(value(&table, b"hot").map(|v| v[0]), Some((199_999 % 256) as u8));
    store.close().expect("closes");
}

/// The head of a small segment is most of it. Once it counted as what a rewrite frees, and live rows were copied for
/// ever.
#[test]
fn i12_compaction_of_small_segments_in_which_all_is_live_ends() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).segment_bytes(8 << 10).open().expect("opens");
    let table = Table::of(&store, 1);
    for n in 0..40_u64 {
        table.put(&id(n), &[n as u8; 1_000]).expect("puts");
    }
    settle(&store);
    let removed = store.stats().segments_removed;
    settle(&store);
    assert_eq!(store.stats().segments_removed, removed, "live rows are copied again");
    assert_eq!(table.list().expect("lists").len(), 40);
}

/// A queue: rows come and go. Neither they nor their tombstones may stay.
#[test]
fn rows_that_come_and_go_leave_nothing_behind() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).open().expect("opens");
    let table = Table::of(&store, 1);
    let mut most = 0;
    for n in 0..20_000u64 {
        table.put(&id(n), &[n as u8; 200]).expect("puts");
        if n >= 100 {
            table.delete(&id(n - 100)).expect("deletes");
        }
        if n % 500 == 0 {
            settle(&store);
            most = most.max(log_bytes(&disk));
        }
    }
    assert!(most <= 6 * (256 << 10), "{most} bytes of log for a hundred rows");
    flush(&store);
    settle(&store);
    assert_eq!(table.list().expect("lists").len(), 100);
    assert_sound(&store);
}

/// Compaction that is behind removes several segments at once. Of them, only what counts is copied.
#[test]
fn tombstones_in_segments_that_are_removed_together_are_not_copied() {
    let (disk, clock) = (SimDisk::new(), clock());
    // All of it is flushed at once.
    let store = sim(&disk, &clock).memtable_bytes(8 << 20).open().expect("opens");
    let table = Table::of(&store, 1);
    for n in 0..20_000u64 {
        table.put(&id(n), &[n as u8; 200]).expect("puts");
        // Some of them in the next segment.
        if n >= 100 {
            table.delete(&id(n - 100)).expect("deletes");
        }
    }
    let before = log_bytes(&disk);
    flush(&store);
    let stats = store.stats();
    assert!(before > 16 * (256 << 10) && stats.segments_removed > 16, "{before} bytes, {stats}");
    assert!(stats.ids_rewritten <= 100, "a hundred rows are left: {stats}");
    assert_eq!(table.list().expect("lists").len(), 100);
    assert_sound(&store);
}

#[test]
fn i4_a_row_ends_at_its_deadline_and_its_space_comes_back() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).open().expect("opens");
    let table = Table::of(&store, 1);
    let ttl = seconds(3_600);
    for n in 0..1_000u64 {
        let (key, value) = (id(n), vec![7; 1_000]);
        let write = TableWrite { id: &key, value: Some(&value), ttl, expect: Expect::Absent };
        one(&table, write);
    }
    flush(&store);
    let full = log_bytes(&disk);
    clock.advance(Duration::from_millis(3_599_999));
    assert_eq!(value(&table, &id(5)), Some(vec![7; 1_000]));
    clock.advance(Duration::from_millis(1));
    assert_eq!(value(&table, &id(5)), None);
    assert_eq!(table.list().expect("lists"), []);
    let write = TableWrite { id: &id(5), value: Some(b"new"), ttl, expect: Expect::Absent };
    one(&table, write);
    // A quarter of the ttl at most, and the last segment stays.
    clock.advance(Duration::from_secs(900));
    settle(&store);
    settle(&store);
    assert_eq!(value(&table, &id(5)), Some(b"new".to_vec()));
    assert!(log_bytes(&disk) <= full / 2, "{} of {full} bytes are left", log_bytes(&disk));
}

#[test]
fn large_values_come_back_whole_and_larger_ones_are_refused() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).segment_bytes(1 << 20).open().expect("opens");
    let table = Table::of(&store, 1);
    for len in [0, 1, 16 << 10, 1 << 20, 4 << 20] {
        let large: Vec<u8> = (0..len).map(|n: usize| (n % 251) as u8).collect();
        table.put(b"large", &large).expect("puts");
        assert_eq!(value(&table, b"large").map(|v| v == large), Some(true), "{len} bytes");
    }
    flush(&store);
    assert_eq!(value(&table, b"large").map(|v| v.len()), Some(4 << 20));
    let error = table.put(b"large", &vec![0; (4 << 20) + 1]).expect_err("too large");
    assert_eq!(error.kind(), ErrorKind::FixCall, "{error}");
}

/// A value that cannot be read is an error, never an absent row.
#[test]
fn i11_a_damaged_value_is_an_error() {
    use firstseen::disk::Disk;
    let (disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
    let store = sim_with(&disk, &clock, &blocks).open().expect("opens");
    let table = Table::of(&store, 1);
    table.put(b"k", b"the value that is damaged").expect("puts");
    flush(&store);
    let dir = Path::new(AT).join("log");
    let name = disk.list(&dir).expect("lists").into_iter().next().expect("a segment");
    let path = dir.join(name);
    let bytes = disk.read(&path).expect("reads");
    let at = bytes.windows(5).position(|w| w == b"value").expect("is in the log");
    disk.open(&path).expect("opens").write_all_at(b"V", at as u64).expect("writes");
    let error = table.get(b"k").expect_err("is damaged");
    assert_eq!(error.kind(), ErrorKind::Repair, "{error}");
    assert!(table.list().is_err(), "a list does not leave it out");
    table.put(b"k", b"new").expect("puts");
    assert_eq!(value(&table, b"k"), Some(b"new".to_vec()));
}

#[test]
fn repair_keeps_the_rows_that_are_whole_and_their_order() {
    use firstseen::disk::Disk;
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).open().expect("opens");
    let table = Table::of(&store, 1);
    let mut last = 0;
    for n in 0..100u64 {
        table.put(&id(n), b"old").expect("puts");
        last = sequence(&table.put(&id(n), &n.to_le_bytes()).expect("puts"));
    }
    table.delete(&id(0)).expect("deletes");
    table.put(b"damaged", b"the value that is damaged").expect("puts");
    drop(table);
    store.close().expect("closes");
    let dir = Path::new(AT).join("log");
    let name = disk.list(&dir).expect("lists").into_iter().next().expect("a segment");
    let path = dir.join(name);
    let bytes = disk.read(&path).expect("reads");
    let at = bytes.windows(9).position(|w| w == b"the value").expect("is in the log");
    disk.open(&path).expect("opens").write_all_at(b"T", at as u64).expect("writes");
    assert_eq!(sim(&disk, &clock).open().expect_err("is damaged").kind(), ErrorKind::Repair);
    let report = sim(&disk, &clock).repair().expect("repairs");
    assert!(report.saved_records > 0 && !report.lost.is_empty(), "{report}");
    let store = sim(&disk, &clock).open().expect("opens");
    let table = Table::of(&store, 1);
    assert_eq!(value(&table, &id(0)), None);
    for n in 1..100u64 {
        assert_eq!(value(&table, &id(n)), Some(n.to_le_bytes().to_vec()), "row {n}");
    }
    assert_eq!(value(&table, b"damaged"), None, "reported as lost");
    assert!(sequence(&table.put(b"k", b"v").expect("puts")) > last, "sequences only grow");
    assert_sound(&store);
}

/// Healing reads the log, where there may be more than the run had: the filter rightly does not know what had ended
/// before it could be flushed.
#[test]
fn i2_verify_took_what_had_ended_in_a_healed_block_for_a_hole_in_the_filter() {
    let (disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
    let open = || sim_with(&disk, &clock, &blocks).shards(1).open().expect("opens");
    let store = open();
    let table = Table::of(&store, 1);
    let ttl = seconds(5);
    let put = |id: &[u8]| {
        one(&table, TableWrite { id, value: Some(b"v"), ttl, expect: Expect::Absent });
    };
    put(b"flushed");
    flush(&store);
    put(b"not flushed");
    clock.advance(Duration::from_secs(60));
    drop(table);
    store.close().expect("closes");
    blocks.damage(|bytes| {
        bytes.truncate(bytes.len() / 2);
        true
    });
    let store = open();
    assert_eq!(value(&Table::of(&store, 1), b"flushed"), None);
    assert_sound(&store);
}

#[test]
fn i1_repair_does_not_give_the_number_of_a_lost_row_again() {
    use firstseen::disk::Disk;
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).open().expect("opens");
    let table = Table::of(&store, 1);
    table.put(b"kept", b"the row before").expect("puts");
    let lost = sequence(&table.put(b"lost", b"the value that is damaged").expect("puts"));
    // The manifest is that of the first opening.
    let disk = disk.kill();
    let bytes = disk.read(&segment(1)).expect("reads");
    let at = bytes.windows(9).position(|w| w == b"the value").expect("is in the log");
    disk.open(&segment(1)).expect("opens").write_all_at(b"T", at as u64).expect("writes");
    sim(&disk, &clock).repair().expect("repairs");
    let store = sim(&disk, &clock).open().expect("opens");
    let table = Table::of(&store, 1);
    assert_eq!(value(&table, b"kept"), Some(b"the row before".to_vec()));
    assert_eq!(value(&table, b"lost"), None);
    assert!(sequence(&table.put(b"new", b"v").expect("puts")) > lost);
}

/// A write that expects what others change must neither be lost nor made twice. A large value is encoded for so long
/// that another thread writes meanwhile.
#[test]
fn i1_counters_under_contention_lose_no_increment() {
    let (_dir, path) = crate::support::place();
    let store = Store::builder(&path).open().expect("opens");
    let table = Table::of(&store, 1);
    let threads = 4;
    for (key, each, bytes) in [(&b"small"[..], 500u64, 8), (b"large", 30, 512 << 10)] {
        let count = |row: &[u8]| u64::from_le_bytes(*row.first_chunk().expect("eight"));
        std::thread::scope(|scope| {
            for _ in 0..threads {
                let table = table.clone();
                scope.spawn(move || {
                    let mut value = vec![0; bytes];
                    let mut done = 0;
                    while done < each {
                        let row = table.get(key).expect("reads");
                        let expect =
                            row.as_ref().map_or(Expect::Absent, |r| Expect::Sequence(r.sequence));
                        let next = row.map_or(0, |row| count(&row.value)) + 1;
                        value[..8].copy_from_slice(&next.to_le_bytes());
                        let committed = one(&table, write(key, Some(&value), expect));
                        done += u64::from(matches!(committed, Committed::Done(_)));
                    }
                });
            }
        });
        assert_eq!(count(&value(&table, key).expect("is there")), threads * each);
    }
}

/// What a family keeps in memory is rebuilt from its rows, whatever came before.
#[test]
fn i13_what_a_family_keeps_in_memory_is_that_of_its_rows() {
    let (disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
    let mut disk = disk;
    for round in 0..6u64 {
        let store = sim_with(&disk, &clock, &blocks).open().expect("opens");
        let (mirror, table) = (Mirror::attach(&store, 1).expect("attaches"), Table::of(&store, 1));
        let same = |when: &str| {
            let listed: BTreeMap<_, _> = table.list().expect("lists").into_iter().collect();
            assert_eq!(mirror.rows(), listed, "round {round}, {when}");
            listed.len()
        };
        assert_eq!(same("when attached") > 0, round > 0);
        for n in 0..60 {
            table.put(&id(round * 10 + n), &n.to_le_bytes()).expect("puts");
            if n % 3 == 0 {
                table.delete(&id(round * 10 + n / 2)).expect("deletes");
            }
            Table::of(&store, 2).put(&id(n), b"another family").expect("puts");
        }
        same("after commits");
        if round % 2 == 0 {
            flush(&store);
        }
        same("after a flush");
        // Killed: nothing is closed in order.
        disk = disk.kill();
    }
}
