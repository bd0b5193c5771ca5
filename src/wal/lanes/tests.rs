//! Lanes on a simulated disk: every claim goes into one, as threads that meet do it.

mod damaged;
mod tight;

use crate::disk::Disk;
use crate::disk::sim::{Fault, SimDisk};
use crate::error::{Error, Result};
use crate::expiry::Version;
use crate::id::{Key, NsId, Seed};
use crate::sync::Arc;
use crate::time::{Timestamp, Ttl};
use crate::wal::item::Item;
use crate::wal::lanes::UseLanes;
use crate::wal::read_only::read_only;
use crate::wal::recover::ReplayPlan;
use crate::wal::salvage::salvage;
use crate::wal::segment::{DATA_START, Segment};
use crate::wal::version::VERSION;
use crate::wal::writer::{AppendLevel, Log, LogConfig};
use crate::wal::{Lsn, record, slots};
use std::path::{Path, PathBuf};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const SEED: Seed = Seed([7; 16]);
const SHARDS: usize = 4;

fn config(disk: &SimDisk, when: UseLanes) -> LogConfig {
    LogConfig {
        disk: Arc::new(disk.clone()),
        dir: PathBuf::from("/log"),
        seed: SEED,
        health: Arc::default(),
        work: Arc::default(),
        segment_bytes: 8 << 10,
        segment_version: VERSION,
        lanes: when,
    }
}

/// Opens the log and returns it with the numbers that it holds, in their order in it.
pub(super) fn opened(disk: &SimDisk) -> Result<(Log, Vec<u64>)> {
    opened_as(config(disk, UseLanes::OfShards))
}

fn opened_as(config: LogConfig) -> Result<(Log, Vec<u64>)> {
    let plan = ReplayPlan { first: 1, ..ReplayPlan::default() };
    let mut numbers = Vec::new();
    let visit = |_, item: Item<'_>| {
        if let Item::Version(key, _) = item {
            numbers.push(u64::from_le_bytes(key.id[..8].try_into().expect("eight bytes")));
        }
        Ok(())
    };
    let log = Log::recover(config, plan, NOW, visit)?.log;
    Ok((log, numbers))
}

pub(super) fn empty() -> (Log, SimDisk) {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new("/log")).expect("makes a folder");
    disk.sync_dir(Path::new("/")).expect("syncs");
    (opened(&disk).expect("opens").0, disk)
}

/// Appends a number as a claim of a shard. Ids are of several lengths, so that they end anywhere.
pub(super) fn claim(log: &Log, shard: usize, number: u64) -> Result<Lsn> {
    let (ttl, mut id) = (Ttl::FOREVER, vec![0x11; 8 + number as usize * 7 % 30]);
    id[..8].copy_from_slice(&number.to_le_bytes());
    let (level, key) = (AppendLevel::Process, Key { ns: NsId(0), id: &id });
    log.append_claim(shard, level, NOW, ttl, key, Version::claim(NOW, ttl))
}

/// Appends numbers as a batch.
pub(super) fn batch(log: &Log, numbers: std::ops::Range<u64>) -> Result<Lsn> {
    let ids: Vec<[u8; 8]> = numbers.map(u64::to_le_bytes).collect();
    let (ns, ttl) = (NsId(0), Ttl::FOREVER);
    let versions = ids.iter().map(|id| (Key { ns, id }, Version::claim(NOW, ttl)));
    log.append_claims(AppendLevel::Process, NOW, ttl, versions, &mut Vec::new())
}

fn mix(seed: u64, n: u64) -> u64 {
    let z = (seed << 32 ^ n).wrapping_add(1).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ z >> 29
}

/// Appends `count` numbers from `next` on, one after the other in all lanes, with batches, syncs and the work of the
/// background between them. Returns how many were answered, and how many of them were on disk when that was answered.
fn run(log: &Log, seed: u64, mut next: u64, count: u64) -> (u64, u64) {
    let (mut synced, end, mut last) = (next, next + count, Lsn(0));
    while next < end {
        let drawn = mix(seed, next);
        let done = match drawn % 16 {
            // As a claim at `Disk` does, for its own record.
            0 if drawn.is_multiple_of(5) => log.sync_to(last).map(|()| synced = next),
            1 if drawn.is_multiple_of(3) => {
                batch(log, next..(next + 3).min(end)).map(|_| next = (next + 3).min(end))
            }
            2 if drawn.is_multiple_of(7) => {
                log.prepare_spare(NOW).and_then(|()| log.release_written())
            }
            _ => claim(log, (drawn >> 8) as usize % SHARDS, next)
                .map(|lsn| (last, next) = (lsn, next + 1)),
        };
        if done.is_err() {
            break;
        }
        // So that a number that cannot be appended is not tried for ever.
        if matches!(drawn % 16, 0..=2) {
            match claim(log, 0, next) {
                Ok(lsn) => (last, next) = (lsn, next + 1),
                Err(_) => break,
            }
        }
    }
    (next, synced)
}

/// Shuts the machine down in order: what a killed process had written reaches the disk.
fn shut_down(killed: &SimDisk) -> SimDisk {
    for name in killed.list(Path::new("/log")).expect("lists") {
        let file = killed.open(&Path::new("/log").join(name)).expect("opens");
        file.sync_data().expect("syncs");
    }
    killed.sync_dir(Path::new("/log")).expect("syncs");
    killed.lose_unsynced()
}

pub(super) fn sorted(mut numbers: Vec<u64>) -> Vec<u64> {
    numbers.sort_unstable();
    numbers
}

/// Returns what a log would hold that is only read.
fn read(disk: &SimDisk) -> Vec<u64> {
    let (plan, mut numbers) = (ReplayPlan { first: 1, ..ReplayPlan::default() }, Vec::new());
    let visit = |_, item: Item<'_>| {
        if let Item::Version(key, _) = item {
            numbers.push(u64::from_le_bytes(key.id[..8].try_into().expect("eight bytes")));
        }
        Ok(())
    };
    read_only(disk, Path::new("/log"), SEED, &plan, visit).expect("reads");
    numbers
}

#[test]
fn i6_after_a_kill_every_lane_has_all_that_it_answered_also_if_the_machine_is_then_shut_down() {
    let (_, trial) = empty();
    let first = trial.ops();
    let step = if cfg!(miri) { 300 } else { 1 };
    for (op, in_write) in (0..900).step_by(step).flat_map(|op| [(op, false), (op, true)]) {
        let (log, disk) = empty();
        let fault = if in_write { Fault::CrashInWrite } else { Fault::Crash };
        disk.fail_at(first + op, fault, false);
        let (answered, _) = run(&log, op, 0, 150);
        let killed = [disk.kill(), shut_down(&disk.kill())];
        drop(log);
        for after in killed {
            let seen = sorted(read(&after));
            let (log, kept) = opened(&after).expect("opens");
            let kept = sorted(kept);
            assert_eq!(seen, kept, "operation {op}: what only reads sees the same");
            assert!(kept.len() as u64 >= answered, "operation {op}: {answered}, but {kept:?}");
            assert!(kept.iter().copied().eq(0..kept.len() as u64), "operation {op}: {kept:?}");
            // And it goes on.
            let next = kept.len() as u64;
            let (end, _) = run(&log, op, next, 20);
            assert!(end >= next + 20);
            log.close().expect("closes");
            let again = opened(&after).expect("opens").1;
            assert!(sorted(again).into_iter().eq(0..end));
        }
    }
}

/// Each number was appended after the one before it was answered.
#[test]
fn i1_after_a_power_cut_the_log_is_that_of_one_moment_and_has_what_was_synced() {
    let (_, trial) = empty();
    let first = trial.ops();
    let (mut cut, mut beyond) = (0, 0);
    for seed in 0..if cfg!(miri) { 2 } else { 3_000_u64 } {
        let (mut log, mut disk) = empty();
        let (mut next, mut synced) = (0, 0);
        for life in 0..4 {
            let from = if life == 0 { first } else { disk.ops() };
            disk.fail_at(from + mix(seed, life) % 300, Fault::Crash, false);
            let (answered, on_disk) = run(&log, seed + life, next, 60);
            synced = on_disk.max(synced);
            let after = disk.crash(mix(seed, life + 10));
            drop(log);
            let (reopened, kept) =
                opened(&after).unwrap_or_else(|e| panic!("seed {seed}, life {life}: {e}"));
            let kept = sorted(kept);
            assert!(
                kept.iter().copied().eq(0..kept.len() as u64),
                "seed {seed}, life {life}: {kept:?}"
            );
            let len = kept.len() as u64;
            assert!(len >= synced, "seed {seed}, life {life}: {len} of {synced} synced");
            cut += u64::from(len < answered);
            beyond += u64::from(len > synced);
            // What was kept is on disk.
            (log, disk, next, synced) = (reopened, after, len, len);
        }
    }
    assert!(
        cfg!(miri) || (cut > 1_000 && beyond > 1_000),
        "{cut} cut, {beyond} with more than was synced"
    );
}

/// What lanes noted before a power cut is on disk, and what they wrote is not. In the next life they begin in the same places,
/// and write the same and more.
#[test]
fn i1_notes_of_an_earlier_life_do_not_stand_for_extents_that_begin_where_its_did() {
    let words = usize::try_from(slots::BEGIN).expect("small")..DATA_START as usize;
    let path = Segment::path(Path::new("/log"), 1);
    let (log, first) = empty();
    claim(&log, 0, 0).expect("fits");
    claim(&log, 1, 2).expect("fits");
    drop(log);
    let first = first.kill();
    let file = first.open(&path).expect("opens");
    let len = file.len().expect("has a length") as usize - DATA_START as usize;
    file.write_all_at(&vec![0; len], DATA_START.into()).expect("writes");
    drop(file);
    let second = shut_down(&first);
    let (log, kept) = opened(&second).expect("opens");
    assert_eq!(kept, [0_u64; 0]);
    claim(&log, 0, 0).expect("fits");
    let lost = claim(&log, 0, 1).expect("fits");
    claim(&log, 1, 2).expect("fits");
    drop(log);
    // Now the power is cut: of this life's notes nothing is on disk, of its records all but one.
    let noted = second.lose_unsynced().read(&path).expect("reads");
    let third = second.kill();
    let file = third.open(&path).expect("opens");
    file.write_all_at(&noted[words], slots::BEGIN).expect("writes");
    file.write_all_at(&[0; 8], u64::from(lost.offset()) - 8).expect("writes");
    drop(file);
    let kept = sorted(opened(&shut_down(&third)).expect("opens").1);
    assert!(kept.iter().copied().eq(0..kept.len() as u64), "{kept:?}");
}

/// A power cut took the only record of a lane, the filler and the mark behind it, and kept the batch behind those; and the
/// lane's notes are of the moment before its record was written. Opening puts a mark in the same place.
#[test]
fn i1_records_behind_a_mark_that_was_lost_followed_the_one_that_opening_put_there() {
    let path = Segment::path(Path::new("/log"), 1);
    let (log, disk) = empty();
    claim(&log, 0, 0).expect("fits");
    let end = log.end().offset();
    batch(&log, 1..4).expect("fits");
    drop(log);
    let killed = disk.kill();
    let mut head = Vec::new();
    record::extent(&mut head, 0, 512);
    let begin = DATA_START + head.len() as u32;
    let file = killed.open(&path).expect("opens");
    let gone = vec![0; (end - begin) as usize];
    file.write_all_at(&gone, begin.into()).expect("writes");
    let written = u64::from(DATA_START) << 32 | u64::from(begin);
    file.write_all_at(&written.to_le_bytes(), slots::BEGIN + 64 + 8).expect("writes");
    drop(file);
    let (log, kept) = opened(&shut_down(&killed)).expect("opens");
    assert_eq!((kept, log.end().offset()), (vec![], end));
}

#[test]
fn i11_a_hole_in_what_was_on_disk_is_damage_and_not_the_end_of_an_extent() {
    let (log, disk) = empty();
    let ends: Vec<Lsn> = (0..40).map(|n| claim(&log, n as usize % 2, n).expect("fits")).collect();
    log.sync_to(log.end()).expect("syncs");
    let killed = disk.kill();
    for gone in ends.windows(3).map(|ends| ends[2]) {
        let after = killed.kill();
        let path = Segment::path(Path::new("/log"), gone.segment());
        let file = after.open(&path).expect("opens");
        file.write_all_at(&[0x55; 4], u64::from(gone.offset() - 4)).expect("writes");
        let error = opened(&after).expect_err("it was on disk");
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    }
}

#[test]
fn i1_what_is_appended_beside_lanes_is_behind_what_they_have_and_before_what_they_get() {
    let (log, _disk) = empty();
    let mut last = Lsn(0);
    for n in 0..600 {
        // The others take extents between those of this one.
        claim(&log, 1 + n as usize % 3, 1_000 + n).expect("fits");
        let here = match n % 11 {
            5 => batch(&log, n..n + 1),
            _ => claim(&log, 0, n),
        };
        let here = here.expect("fits");
        assert!(here > last, "{here:?} after {last:?}");
        last = here;
    }
    assert!(log.active() > 2, "it went on in other segments");
}

/// A memtable is flushed up to there, and replay begins behind it.
#[test]
fn i10_what_is_appended_after_the_end_was_asked_is_behind_it() {
    let (log, _disk) = empty();
    for n in 0..300 {
        let before: Vec<Lsn> =
            (0..SHARDS).map(|shard| claim(&log, shard, n).expect("fits")).collect();
        let end = log.end();
        let after: Vec<Lsn> =
            (0..SHARDS).map(|shard| claim(&log, shard, n).expect("fits")).collect();
        assert!(before.iter().all(|lsn| *lsn <= end), "{before:?}, {end:?}");
        assert!(after.iter().all(|lsn| *lsn > end), "{after:?}, {end:?}");
        log.release_written().expect("releases");
    }
}

#[test]
fn i4_what_lanes_wrote_to_a_full_segment_is_counted_to_the_last_byte() {
    let (log, disk) = empty();
    run(&log, 1, 0, 2_000);
    assert!(log.closed().len() > 5);
    #[cfg(feature = "testing")]
    assert_eq!(log.recount().expect("reads"), [""; 0]);
    let full = log.closed();
    drop(log);
    let (again, _) = opened(&disk.kill()).expect("opens");
    let is_same = |old: &crate::wal::SegmentMeta| {
        let new = again.closed().into_iter().find(|new| new.number == old.number);
        new.is_some_and(|new| {
            new.end == old.end && new.contents.tally.live(NOW) == old.contents.tally.live(NOW)
        })
    };
    assert!(full.iter().all(is_same), "{full:?}");
}

#[test]
fn i11_repair_of_a_log_that_was_killed_finds_no_damage_in_its_lanes() {
    let (log, disk) = empty();
    let (answered, _) = run(&log, 3, 0, 333);
    let (mut saved, config) = (0, config(&disk.kill(), UseLanes::OfShards));
    let salvaged = salvage(&config, None, |_, item| {
        saved += u64::from(matches!(item, Item::Version(..)));
        Ok(())
    });
    assert_eq!((salvaged.expect("reads").damages, saved), (Vec::new(), answered));
}

#[test]
fn i7_a_log_that_has_stopped_or_is_closed_answers_no_lane() {
    let (log, _disk) = empty();
    (0..8).for_each(|n| {
        claim(&log, n as usize % SHARDS, n).expect("fits");
    });
    log.config.health.stop("a test");
    let refused = claim(&log, 0, 8).expect_err("has stopped");
    assert!(matches!(refused, Error::Stopped { .. }), "{refused}");
    let (log, disk) = empty();
    (0..8).for_each(|n| {
        claim(&log, n as usize % SHARDS, n).expect("fits");
    });
    log.close().expect("closes, though lanes had extents");
    claim(&log, 0, 8).expect_err("is closed");
    let (_, kept) = opened(&disk.lose_unsynced()).expect("opens");
    assert!(sorted(kept).into_iter().eq(0..8));
}

#[test]
fn i6_what_a_lane_answered_after_the_sync_of_a_close_is_in_the_closed_log() {
    let (log, disk) = empty();
    let log = Arc::new(log);
    claim(&log, 0, 0).expect("fits");
    let other = Arc::clone(&log);
    disk.after_next_sync(move || {
        claim(&other, 1, 1).expect("is not closed yet");
    });
    log.close().expect("closes");
    let (_, kept) = opened(&disk.lose_unsynced()).expect("opens");
    assert_eq!(sorted(kept), [0, 1]);
}

/// A scan and a copy of an open log close the lanes, and read what they hold.
#[test]
fn i15_a_log_is_read_while_lanes_have_extents() {
    let (log, _disk) = empty();
    (0..10).for_each(|n| {
        claim(&log, n as usize % SHARDS, n).expect("fits");
    });
    let mut seen = 0;
    log.scan(1, |_, _| {
        seen += 1;
        Ok(())
    })
    .expect("reads");
    assert_eq!(seen, 10);
    (10..20).for_each(|n| {
        claim(&log, n as usize % SHARDS, n).expect("fits");
    });
    let cut = log.cut().expect("cuts");
    (20..30).for_each(|n| {
        claim(&log, n as usize % SHARDS, n).expect("fits");
    });
    let image = log.image(1, cut.end.offset(), false).expect("is whole");
    assert_eq!(image.len(), cut.end.offset() as usize);
}

#[test]
fn a_log_whose_threads_do_not_meet_uses_no_lanes() {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new("/log")).expect("makes a folder");
    let plan = ReplayPlan { first: 1, ..ReplayPlan::default() };
    let log = Log::recover(config(&disk, UseLanes::WhereThreadsMeet), plan, NOW, |_, _| Ok(()))
        .expect("opens")
        .log;
    let mut last = Lsn::new(1, DATA_START);
    for n in 0..50 {
        let here = claim(&log, n as usize % SHARDS, n).expect("fits");
        assert!(here.0 - last.0 < 70, "one behind the other");
        last = here;
    }
}

#[test]
fn a_thread_that_has_to_wait_for_the_log_begins_to_use_lanes() {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new("/log")).expect("makes a folder");
    let plan = ReplayPlan { first: 1, ..ReplayPlan::default() };
    let config = config(&disk, UseLanes::WhereThreadsMeet);
    let log = Log::recover(config, plan, NOW, |_, _| Ok(())).expect("opens").log;
    let log = &log;
    // The other thread may come too late to meet this one.
    let met = (0..200).any(|n| {
        let held = log.tail.lock();
        std::thread::scope(|scope| {
            let claims = scope.spawn(move || claim(log, 0, n).expect("fits"));
            std::thread::park_timeout(std::time::Duration::from_millis(5));
            drop(held);
            claims.join().expect("no panic");
        });
        log.lanes.are_in_use()
    });
    assert!(met);
}

/// Batches between single claims close the lanes before anything of worth is in them.
#[test]
fn lanes_that_waste_more_than_they_hold_are_tried_less_and_less_often() {
    let mut worth = super::Worth::default();
    let mut tried = 0;
    for _ in 0..10_000 {
        if worth.is_due() {
            tried += 1;
            worth.note(false);
        }
    }
    assert!((30..100).contains(&tried), "{tried}");
    while !worth.is_due() {}
    worth.note(true);
    assert!(worth.is_due() && worth.is_due(), "it was worth it");
}

#[test]
fn a_filler_takes_exactly_what_is_left() {
    let (log, disk) = empty();
    drop(log);
    let segment = Segment::open(&disk, &Segment::path(Path::new("/log"), 1)).expect("opens");
    let context = segment.context(DATA_START);
    for bytes in (record::FILLER_BYTES_MIN..400).chain(16_000..17_000).chain([130, 131, 132]) {
        let mut filler = Vec::new();
        record::filler(&mut filler, bytes);
        assert!(filler.len() <= bytes as usize);
        record::seal(&mut filler, context, None);
        filler.resize(bytes as usize, 0x55);
        let record::Found::Record(found) = record::decode(&filler, context) else {
            panic!("{bytes}: no record")
        };
        assert_eq!(found.len, bytes as usize);
        assert_eq!(found.items(|_, _| Err(())), Some(Ok(())), "it has no items");
    }
}

#[test]
fn i1_threads_that_meet_append_each_of_their_records_once() {
    let (log, disk) = empty();
    let (log, each) = (Arc::new(log), if cfg!(miri) { 20 } else { 400 });
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let log = &log;
            scope.spawn(move || {
                let mut last = Lsn(0);
                for n in 0..each {
                    let number = thread * 1_000 + n;
                    let here = match n % 50 {
                        49 => batch(log, number..number + 1),
                        _ => claim(log, thread as usize, number),
                    };
                    let here = here.expect("fits");
                    assert!(here > last);
                    last = here;
                }
            });
        }
        scope.spawn(|| (0..20).for_each(|_| log.sync_to(log.end()).expect("syncs")));
    });
    let wanted: Vec<u64> = (0..4).flat_map(|t| (0..each).map(move |n| t * 1_000 + n)).collect();
    assert_eq!(sorted(opened(&disk.kill()).expect("opens").1), wanted);
}
