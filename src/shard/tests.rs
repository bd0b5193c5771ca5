//! Tests the shard against a plain map, single-threaded.

use super::*;
use crate::blocks::MemoryBlocks;
use crate::expiry::{Class, GenId, Kind};
use crate::filter::FilterBuilder;
use crate::id::{NsId, Seed};
use crate::run::{MergeCursor, RunSize, RunWriter, Source};
use crate::time::Timestamp;
use crate::time::Ttl;
use crate::wal::ItemAt;
use std::collections::HashMap;

const SEED: Seed = Seed([6; 16]);

fn flush(shard: &mut Shard, blocks: &MemoryBlocks, run: u64) {
    flush_family(shard, blocks, run, Family::CLAIMS);
}

fn flush_family(shard: &mut Shard, blocks: &MemoryBlocks, run: u64, family: Family) {
    shard.freeze(Lsn(1));
    let set = shard.frozen.as_ref().map(|s| Arc::clone(&s.set)).expect("just frozen");
    let mut size = RunSize::default();
    set.iter().for_each(|e| size.add(e.key));
    let mut writer = RunWriter::new(blocks, SEED, run, 0, (family, GenId::FOREVER), size, 1, 0);
    let mut filter = FilterBuilder::for_ids(size.ids);
    let hasher = IdHasher::new(SEED);
    let source = Source::memtable(&set, hasher, family);
    let merged = MergeCursor::new(vec![source]).for_each(|entry| {
        filter.insert(entry.hash);
        writer.push(entry)
    });
    merged.expect("memory does not fail");
    let meta = writer.finish().expect("memory does not fail").meta;
    let run = RunHandle { meta: Arc::new(meta), filter: filter.finish(), locators: None };
    shard.flushed(vec![run]);
}

#[test]
fn i1_i2_i3_an_id_is_found_wherever_it_is_and_only_once() {
    let hasher = IdHasher::new(SEED);
    let blocks = MemoryBlocks::default();
    let access = RunAccess { store: &blocks, seed: SEED, in_log: None };
    let mut shard = Shard::new(hasher, 1 << 20, 1 << 16);
    let mut model: HashMap<u64, u64> = HashMap::new();
    let mut x = 1u64;
    // Each step takes a thousand times as long under Miri.
    let (steps, ids) = if cfg!(miri) { (400, 120) } else { (20_000, 6_000) };
    for step in 0..steps {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let number = (x >> 33) % ids;
        let id = number.to_le_bytes();
        let key = Key { ns: NsId(0), id: &id };
        let hash = hasher.hash(key);
        match (shard.lookup(key, hash, access), model.get(&number)) {
            (Lookup::Unknown, None) => {
                let version = Version::claim(Timestamp::from_millis(step), Ttl::FOREVER);
                shard.enter(key, hash, version, Lsn(step), None);
                model.insert(number, step);
            }
            (Lookup::Known(known), Some(seen)) => {
                assert_eq!(known.version.rank, *seen);
            }
            (answer, expected) => panic!("step {step}: {answer:?}, expected {expected:?}"),
        }
        if step % (ids / 4) == ids / 4 - 1 {
            flush(&mut shard, &blocks, step);
        }
    }
    assert!(shard.runs.len() > 10 && shard.counts.block_reads > 0);
}

/// What `confirm` relies on: anything put since the id was reserved is found, wherever it has moved.
#[test]
fn i1_what_came_since_an_id_was_reserved_is_found() {
    let hasher = IdHasher::new(SEED);
    let blocks = MemoryBlocks::default();
    let access = RunAccess { store: &blocks, seed: SEED, in_log: None };
    let key = Key { ns: NsId(0), id: b"x" };
    let hash = hasher.hash(key);
    let version = Version::claim(Timestamp::from_millis(7), Ttl::FOREVER);
    for moves in 0..3 {
        let mut shard = Shard::new(hasher, 1 << 20, 1 << 16);
        let freezes = shard.freezes();
        assert!(matches!(shard.lookup_again(key, hash, freezes, access), Lookup::Unknown));
        shard.enter(key, hash, version, Lsn(1), None);
        match moves {
            0 => {}
            1 => shard.freeze(Lsn(2)),
            _ => flush(&mut shard, &blocks, 3),
        }
        match shard.lookup_again(key, hash, freezes, access) {
            Lookup::Known(known) => {
                assert_eq!((known.version, known.in_memtable), (version, moves == 0));
            }
            other => panic!("{other:?} after {moves} moves"),
        }
    }
}

#[test]
fn records_applied_in_any_order_give_the_same_answer() {
    let hasher = IdHasher::new(SEED);
    let at = Timestamp::from_millis;
    let key = Key { ns: NsId(0), id: b"x" };
    let long = Version::claim(at(5), Ttl::from_millis(1000));
    let grave = long.tombstone(at(6));
    let short = Version::claim(at(8), Ttl::from_millis(10));
    let records = [long, grave, short];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        for flush_after in 0..3 {
            let blocks = MemoryBlocks::default();
            let access = RunAccess { store: &blocks, seed: SEED, in_log: None };
            let mut shard = Shard::new(hasher, 1 << 20, 1 << 16);
            for (n, i) in order.into_iter().enumerate() {
                shard.apply(key, hasher.hash(key), records[i], Lsn(1), access).expect("no damage");
                if n == flush_after {
                    flush(&mut shard, &blocks, n as u64);
                }
            }
            let Lookup::Known(known) = shard.lookup(key, hasher.hash(key), access) else {
                panic!("lost")
            };
            assert_eq!(known.version.rank, short.rank);
            assert_eq!(known.version.deadline, short.deadline);
        }
    }
}

/// Healing may put into a run what was not flushed yet. Opening replays it: were it not entered, the next flush would go
/// past its record, and only the healed block would have it.
#[test]
fn i13_a_row_that_a_healed_block_holds_already_is_entered_when_it_is_replayed() {
    let hasher = IdHasher::new(SEED);
    let blocks = MemoryBlocks::default();
    let access = RunAccess { store: &blocks, seed: SEED, in_log: None };
    let mut shard = Shard::new(hasher, 1 << 20, 1 << 16);
    let key = Key { ns: NsId(0).rows(Family(1)), id: b"k" };
    let hash = hasher.hash(key);
    let version = Version::row(7, Kind::Value, Timestamp::NEVER, Class::FOREVER);
    let at = ItemAt { end: Lsn::new(1, 5_000), len: 100 };
    shard.memtable.put_row(key, hash, version, at);
    flush_family(&mut shard, &blocks, 1, Family(1));
    for _ in 0..2 {
        let superseded = shard.apply_row(key, hash, version, at, access);
        assert_eq!(superseded, Ok(None), "the same item is not in its own way");
        assert_eq!(shard.memtable.len(), 1);
    }
    let earlier = ItemAt { end: Lsn::new(1, 4_500), len: 90 };
    assert_eq!(shard.apply_row(key, hash, version, earlier, access), Ok(Some(earlier)));
    let RowLookup::Known(known) = shard.lookup_row(key, hash, access) else { panic!("is there") };
    assert_eq!((known.at, known.is_flushed), (at, false));
}
