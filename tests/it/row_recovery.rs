//! Rows: what compaction, crashes and lost blocks leave of them.

use crate::rows::{flush, one, sequence, value, write};
use crate::support::{AT, assert_sound, claim_all_first, clock, id, settle, sim, sim_with};
use firstseen::disk::sim::SimDisk;
use firstseen::testing::{Committed, Expect, Table, TableWrite};
use firstseen::{Durability, ErrorKind, MemoryBlocks, seconds};
use std::path::Path;
use std::time::Duration;

/// Overwrites one row until a segment is full of what does not matter any more.
fn overwrite(table: &Table, rounds: u64) {
    for n in 0..rounds {
        table.put(b"hot", &[n as u8; 1_000]).expect("puts");
    }
}

#[test]
fn i1_a_tombstone_that_is_moved_still_hides_what_the_oldest_segment_holds() {
    let (disk, clock) = (SimDisk::new(), clock());
    let open = || sim(&disk, &clock).open().expect("opens");
    let store = open();
    let table = Table::of(&store, 1);
    table.put(b"gone", b"deleted").expect("puts");
    // Most of the oldest segment counts, so it stays as it is.
    for n in 0..230u64 {
        table.put(&id(n), &[1; 1_000]).expect("puts");
    }
    overwrite(&table, 100);
    table.delete(b"gone").expect("deletes");
    for _ in 0..8 {
        overwrite(&table, 200);
        flush(&store);
    }
    assert!(store.stats().segments_removed > 3, "{}", store.stats());
    assert!(firstseen::disk::Disk::read(&disk, &segment(1)).is_ok(), "the oldest one is there");
    assert_eq!(value(&table, b"gone"), None);
    drop(table);
    store.close().expect("closes");
    // Without its blocks, everything is read from the log again.
    let store = open();
    assert_eq!(value(&Table::of(&store, 1), b"gone"), None);
    assert_sound(&store);
}

pub(crate) fn segment(number: u32) -> std::path::PathBuf {
    Path::new(AT).join(format!("log/{number:010}.seg"))
}

/// A run may list what stood in a segment that is gone, after the tombstone has gone as well.
#[test]
fn i1_a_deleted_row_does_not_come_back_when_its_tombstone_is_dropped() {
    let (disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
    let store = sim_with(&disk, &clock, &blocks).open().expect("opens");
    let table = Table::of(&store, 1);
    // The first version has runs of its own, since it ends.
    let first = write(b"gone", Some(b"first"), Expect::Anything);
    one(&table, TableWrite { ttl: seconds(864_000), ..first });
    flush(&store);
    table.put(b"gone", b"second").expect("puts");
    flush(&store);
    table.delete(b"gone").expect("deletes");
    flush(&store);
    for round in 0..12u64 {
        overwrite(&table, 300);
        table.put(&id(round), b"stays").expect("puts");
        flush(&store);
        assert_eq!(value(&table, b"gone"), None, "round {round}");
    }
    assert!(firstseen::disk::Disk::read(&disk, &segment(1)).is_err(), "the oldest one is gone");
    assert_eq!(table.list().expect("lists").len(), 13);
    one(&table, write(b"gone", Some(b"again"), Expect::Absent));
    assert_eq!(value(&table, b"gone"), Some(b"again".to_vec()));
    assert_sound(&store);
}

/// What compaction has moved is read from the log at the next opening, if it was not flushed in between.
#[test]
fn i2_a_row_that_was_moved_is_found_after_a_crash() {
    let (mut disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
    let mut store = sim_with(&disk, &clock, &blocks).open().expect("opens");
    let table = Table::of(&store, 1);
    for n in 0..200u64 {
        table.put(&id(n), &n.to_le_bytes()).expect("puts");
    }
    let mut table = table;
    let mut removed = 0;
    for round in 0..12 {
        for _ in 0..3 {
            overwrite(&table, 100);
            settle(&store);
        }
        removed += store.stats().segments_removed;
        disk = disk.kill();
        drop(table);
        drop(store);
        store = sim_with(&disk, &clock, &blocks).open().expect("opens");
        table = Table::of(&store, 1);
        for n in 0..200u64 {
            let expected = Some(n.to_le_bytes().to_vec());
            assert_eq!(value(&table, &id(n)), expected, "round {round}, row {n}");
        }
    }
    assert!(removed > 5, "{removed} segments were removed");
    assert_sound(&store);
}

#[test]
fn i1_sequences_grow_over_a_crash() {
    let (mut disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
    let mut last = 0;
    for round in 0..4u64 {
        let store = sim_with(&disk, &clock, &blocks).open().expect("opens");
        let table = Table::of(&store, 1);
        for n in 0..10 {
            let written = sequence(&table.put(&id(round * 10 + n), b"v").expect("puts"));
            assert!(written > last, "round {round}: {written} after {last}");
            last = written;
        }
        if round % 2 == 1 {
            flush(&store);
        }
        disk = disk.kill();
    }
}

/// Rows in segments that opening does not read have left their number in the manifest.
#[test]
fn i1_sequences_grow_where_opening_reads_no_row() {
    let (disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
    let store = sim_with(&disk, &clock, &blocks).open().expect("opens");
    let table = Table::of(&store, 1);
    (0..10).for_each(|n| _ = table.put(&id(n), b"v").expect("puts"));
    let last = sequence(&table.put(b"last", b"v").expect("puts"));
    for n in 0..25 {
        claim_all_first(&store, 1_000 * n..1_000 * (n + 1));
        settle(&store);
    }
    flush(&store);
    let store = sim_with(&disk.kill(), &clock, &blocks).open().expect("opens");
    let table = Table::of(&store, 1);
    assert!(sequence(&table.put(b"new", b"v").expect("puts")) > last);
}

#[test]
fn i4_what_a_short_row_or_a_tombstone_has_replaced_does_not_come_back() {
    let (disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
    let store = sim_with(&disk, &clock, &blocks).open().expect("opens");
    let table = Table::of(&store, 1);
    table.put(b"short", b"forever").expect("puts");
    table.put(b"deleted", b"forever").expect("puts");
    flush(&store);
    let write = write(b"short", Some(b"for an hour"), Expect::Anything);
    one(&table, TableWrite { ttl: seconds(3_600), ..write });
    table.delete(b"deleted").expect("deletes");
    flush(&store);
    assert_eq!(value(&table, b"short"), Some(b"for an hour".to_vec()));
    for _ in 0..4 {
        clock.advance(Duration::from_secs(100 * 86_400));
        flush(&store);
        assert_eq!((value(&table, b"short"), value(&table, b"deleted")), (None, None));
        assert_eq!(table.list().expect("lists"), []);
    }
    drop(table);
    store.close().expect("closes");
    blocks.clear();
    let store = sim_with(&disk, &clock, &blocks).open().expect("opens");
    assert_eq!(Table::of(&store, 1).list().expect("lists"), []);
}

#[test]
fn a_list_has_all_of_its_family_wherever_it_is_and_nothing_else() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).open().expect("opens");
    let tables = [1, 2].map(|family| Table::of(&store, family));
    let put = |key: &[u8]| {
        for (n, table) in tables.iter().enumerate() {
            table.put(key, &[n as u8]).expect("puts");
        }
        assert!(store.claim(key).expect("claims").is_first_seen());
    };
    put(b"flushed");
    flush(&store);
    put(b"being flushed");
    store.freeze();
    put(b"in memory");
    for (n, table) in tables.iter().enumerate() {
        let mut listed = table.list().expect("lists");
        listed.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let listed: Vec<_> = listed.into_iter().map(|(key, row)| (key, row.value)).collect();
        let all = [&b"being flushed"[..], b"flushed", b"in memory"];
        assert_eq!(listed, all.map(|key| (key.to_vec(), vec![n as u8])), "family {}", n + 1);
    }
    assert_eq!(store.export(|_| Ok(())).expect("exports"), 3, "claims only");
}

#[test]
fn i7_a_commit_for_which_there_is_no_room_changes_nothing() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).open().expect("opens");
    let table = Table::of(&store, 1);
    disk.set_capacity(Some(disk.used()));
    let large = vec![7; 30_000];
    let both = |n: &[u8; 8]| {
        let all = [
            write(b"number", Some(&n[..]), Expect::Anything),
            write(b"large", Some(&large), Expect::Anything),
        ];
        table.commit(&all, Durability::Process)
    };
    let full = (1..1_000u64)
        .find(|n| match both(&n.to_le_bytes()) {
            Ok(_) => false,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
                true
            }
        })
        .expect("is full at last");
    assert_eq!(value(&table, b"number"), Some((full - 1).to_le_bytes().to_vec()));
    assert_eq!(value(&table, b"large").as_ref(), Some(&large));
    disk.set_capacity(None);
    both(&full.to_le_bytes()).expect("there is room");
    assert_eq!(value(&table, b"number"), Some(full.to_le_bytes().to_vec()));
}

#[test]
fn i10_lost_blocks_of_rows_are_built_again_beside_those_of_claims() {
    let (disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
    let open = || sim_with(&disk, &clock, &blocks).open().expect("opens");
    let store = open();
    let tables = [1, 2].map(|family| Table::of(&store, family));
    claim_all_first(&store, 0..500);
    for n in 0..500u64 {
        for table in &tables {
            table.put(&id(n), b"the value before").expect("puts");
        }
    }
    flush(&store);
    for n in 0..500u64 {
        tables[0].put(&id(n), &n.to_le_bytes()).expect("puts");
        tables[1].delete(&id(n)).expect("deletes");
    }
    flush(&store);
    drop(tables);
    store.close().expect("closes");
    let store = open();
    blocks.damage(|_| false);
    let tables = [1, 2].map(|family| Table::of(&store, family));
    for n in 0..500u64 {
        assert_eq!(value(&tables[0], &id(n)), Some(n.to_le_bytes().to_vec()), "row {n}");
        assert_eq!(value(&tables[1], &id(n)), None, "row {n}");
        assert!(store.contains(id(n)).expect("reads"), "claim {n}");
    }
    assert_eq!(tables[0].list().expect("lists").len(), 500);
    assert_eq!(store.export(|_| Ok(())).expect("exports"), 500);
    let stats = store.stats();
    assert!(stats.blocks_healed > 4 && stats.rebuilds == 0, "{stats}");
    assert_sound(&store);
}

/// Where a value should be, there may be the whole item of another row or of an older write.
#[test]
fn i11_an_item_that_is_not_the_one_looked_for_is_an_error() {
    use firstseen::disk::Disk;
    // Tag, checksum, namespace, sequence, deadline, class, step, and the length of the key.
    const BEFORE_KEY: usize = 1 + 4 + 4 + 1 + 1 + 1 + 1 + 1;
    for (key, other) in [(b"key-one", b"key-two"), (b"key-one", b"key-one")] {
        let (disk, clock) = (SimDisk::new(), clock());
        let store = sim(&disk, &clock).open().expect("opens");
        let table = Table::of(&store, 1);
        table.put(other, b"wrong").expect("puts");
        table.put(key, b"right").expect("puts");
        assert_eq!(value(&table, key), Some(b"right".to_vec()));
        let bytes = disk.read(&segment(1)).expect("reads");
        let item = |value: &[u8]| {
            let end = bytes.windows(5).position(|w| w == value).expect("is in the log") + 5;
            end - 5 - 1 - key.len() - BEFORE_KEY..end
        };
        let file = disk.open(&segment(1)).expect("opens");
        file.write_all_at(&bytes[item(b"wrong")], item(b"right").start as u64).expect("writes");
        let error = table.get(key).expect_err("is another one");
        assert_eq!(error.kind(), ErrorKind::Repair, "{error}");
    }
}

#[test]
fn a_buffered_row_is_read_back_at_once() {
    for disk in [SimDisk::new(), SimDisk::new().without_mapping()] {
        let store = sim(&disk, &clock()).open().expect("opens");
        let table = Table::of(&store, 1);
        for n in 0..100u64 {
            let value = n.to_le_bytes();
            let write = write(b"k", Some(&value), Expect::Anything);
            table.commit(&[write], Durability::Buffered).expect("commits");
            assert_eq!(self::value(&table, b"k"), Some(value.to_vec()));
        }
    }
}

#[test]
fn a_commit_of_many_rows_is_whole_after_a_crash() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).open().expect("opens");
    let table = Table::of(&store, 1);
    let rows: Vec<_> = (0..100u64).map(|n| (id(n), vec![n as u8; n as usize])).collect();
    let writes: Vec<_> =
        rows.iter().map(|(id, value)| write(id, Some(value), Expect::Absent)).collect();
    let check = |table: &Table| {
        for (n, (id, expected)) in rows.iter().enumerate() {
            assert_eq!(value(table, id).as_ref(), Some(expected), "row {n}");
        }
    };
    table.commit(&writes, Durability::Process).expect("commits");
    check(&table);
    let store = sim(&disk.kill(), &clock).open().expect("opens");
    check(&Table::of(&store, 1));
}

/// As with claims: whoever is told of a row at `Disk` is told of one that a power cut does not take.
#[test]
fn i6_who_is_told_of_a_row_waits_for_it_as_asked() {
    for told_by in ["a refused commit", "a read"] {
        let (disk, clock) = (SimDisk::new(), clock());
        let store = sim(&disk, &clock).open().expect("opens");
        let table = Table::of(&store, 1);
        let put = sequence(&table.put(b"k", b"v").expect("puts"));
        if told_by == "a read" {
            let row = table.get_at(b"k", Durability::Disk).expect("reads");
            assert_eq!(row.map(|row| row.sequence), Some(put));
        } else {
            let again = [write(b"k", Some(b"w"), Expect::Absent)];
            let refused = table.commit(&again, Durability::Disk).expect("answers");
            assert_eq!(refused, Committed::Moved(vec![(0, Some(put))]));
        }
        let store = sim(&disk.lose_unsynced(), &clock).open().expect("opens");
        assert_eq!(value(&Table::of(&store, 1), b"k"), Some(b"v".to_vec()), "by {told_by}");
    }
}

#[test]
fn i6_who_is_told_that_a_row_is_gone_waits_for_it_as_asked() {
    for told_by in ["a refused commit", "a second delete", "a read"] {
        let (disk, clock) = (SimDisk::new(), clock());
        let store = sim(&disk, &clock).open().expect("opens");
        let table = Table::of(&store, 1);
        table.put(b"k", b"v").expect("puts");
        store.sync().expect("syncs");
        table.delete(b"k").expect("deletes");
        let at_disk = |expect, value| {
            let writes = [write(b"k", value, expect)];
            table.commit(&writes, Durability::Disk).expect("answers")
        };
        match told_by {
            "a read" => {
                let row = table.get_at(b"k", Durability::Disk).expect("reads");
                assert!(row.is_none());
            }
            "a second delete" => {
                assert_eq!(at_disk(Expect::Anything, None), Committed::Done(vec![None]));
            }
            _ => {
                let refused = at_disk(Expect::Sequence(1), Some(&b"w"[..]));
                assert_eq!(refused, Committed::Moved(vec![(0, None)]));
            }
        }
        let store = sim(&disk.lose_unsynced(), &clock).open().expect("opens");
        assert_eq!(value(&Table::of(&store, 1), b"k"), None, "by {told_by}");
    }
}

/// It is kept as long as what it replaced could come back: until the oldest segment is rewritten, for whatever reason.
#[test]
fn a_row_that_has_ended_is_not_copied_for_ever_though_it_once_had_no_end() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).open().expect("opens");
    let table = Table::of(&store, 1);
    // A segment that stays: those behind it are never the oldest.
    for n in 1_000..1_130u64 {
        table.put(&id(n), &[7; 2_000]).expect("puts");
    }
    for n in 0..600u64 {
        let key = id(n);
        table.put(&key, b"without end").expect("puts");
        let (value, ttl, expect) = (Some(&[7; 2_000][..]), seconds(60), Expect::Anything);
        one(&table, TableWrite { id: &key, value, ttl, expect });
        overwrite(&table, 4);
    }
    clock.advance(Duration::from_secs(61));
    for _ in 0..8 {
        flush(&store);
        overwrite(&table, 500);
    }
    flush(&store);
    // One segment stays, one is active, one may wait, and the hot row takes a kilobyte.
    assert!(store.stats().log_bytes < 4 * (256 << 10), "{}", store.stats());
}
