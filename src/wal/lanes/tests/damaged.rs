//! Damaged and hostile extents.

use super::*;
use crate::wal::holes;
use crate::wal::segment::{Header, SegmentBytes};

/// Heads of extents with any length and lane, records, skips and rubbish, all with good checksums.
#[test]
fn i11_hostile_extents_neither_panic_nor_loop() {
    let base = NOW;
    let header = Header { version: VERSION, number: 1, base, seed: SEED, boot: [0; 16] };
    for seed in 0..if cfg!(miri) { 20 } else { 20_000_u64 } {
        let mut draws = 0;
        let mut draw = |below: u64| {
            draws += 1;
            mix(seed, draws) % below
        };
        let size = DATA_START as usize + draw(900) as usize;
        let mut bytes = SegmentBytes::from_file(header, vec![0; size]);
        let mut at = DATA_START;
        for _ in 0..draw(25) {
            let mut record = Vec::new();
            let len = match draw(4) {
                0 => draw(40) as u32,
                1 => u32::MAX - draw(6000) as u32,
                2 => draw(8) as u32,
                _ => draw(1000) as u32,
            };
            match draw(7) {
                0 | 1 => record::extent(&mut record, [0, 1, 6, 7, u32::MAX][draw(5) as usize], len),
                2 => record::skip(&mut record, len),
                3 => record::mark(&mut record),
                4 => record::end(&mut record, draw(4) as u32),
                _ => {
                    let key = Key { ns: NsId(0), id: b"abc" };
                    record::versions(
                        &mut record,
                        std::iter::once((key, Version::claim(NOW, Ttl::FOREVER))),
                        &mut Vec::new(),
                    );
                }
            }
            if at as usize + record.len() > size && draw(2) == 0 {
                break;
            }
            bytes.put(at, &mut record);
            at += record.len() as u32 + if draw(5) == 0 { draw(20) as u32 } else { 0 };
        }
        let mut head = vec![0; DATA_START as usize];
        head[1024..1536].fill_with(|| draw(256) as u8);
        let durable = match draw(4) {
            0 => Lsn::new(1, DATA_START + draw(900) as u32),
            1 => Lsn::new(2, 0),
            _ => Lsn(0),
        };
        let copy = bytes.part(DATA_START, bytes.end()).to_vec();
        let again = || {
            let mut file = vec![0; DATA_START as usize];
            file.extend_from_slice(&copy);
            SegmentBytes::from_file(header, file)
        };
        let mut other = again();
        holes::close(&mut bytes, &head, durable);
        holes::close(&mut bytes, &head, durable);
        holes::close_all(&mut other, durable);
    }
}

/// A sector in the middle of an extent went bad, behind the last location that is known to have been on disk.
#[test]
fn i11_repair_dropped_whole_records_behind_damage_within_an_extent_and_said_nothing() {
    let (log, disk) = empty();
    let mut ends = Vec::new();
    for n in 0..12 {
        ends.push(claim(&log, 0, n).expect("fits"));
    }
    let killed = disk.kill();
    drop(log);
    let path = Segment::path(Path::new("/log"), 1);
    let file = killed.open(&path).expect("opens");
    file.write_all_at(&[0x55; 4], u64::from(ends[4].offset() - 4)).expect("writes");
    drop(file);
    let mut saved = Vec::new();
    let salvaged = salvage(&config(&killed, UseLanes::OfShards), None, |_, item| {
        if let Item::Version(key, _) = item {
            saved.push(u64::from_le_bytes(key.id[..8].try_into().expect("eight bytes")));
        }
        Ok(())
    });
    let damages = salvaged.expect("reads").damages;
    saved.sort_unstable();
    assert_eq!(saved, [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]);
    assert_eq!(damages.len(), 1, "{damages:?}");
}

/// Three bytes hurt at most the records and fillers beside them.
#[test]
fn i11_repair_finds_every_whole_record_whatever_one_sector_of_extents_holds() {
    let (log, disk) = empty();
    let answered = 90;
    for n in 0..answered {
        claim(&log, mix(5, n) as usize % SHARDS, n).expect("fits");
        if n % 40 == 39 {
            log.end();
        }
    }
    let killed = disk.kill();
    let path = Segment::path(Path::new("/log"), 1);
    let len = killed.read(&path).expect("reads").len() as u32;
    drop(log);
    let count = |disk: &SimDisk| {
        let mut saved = Vec::new();
        let salvaged =
            salvage(&config(disk, UseLanes::OfShards), None, |at: crate::wal::At, item| {
                if let Item::Version(key, _) = item {
                    let number = u64::from_le_bytes(key.id[..8].try_into().expect("eight bytes"));
                    saved.push((number, at.record));
                }
                Ok(())
            });
        (saved, salvaged.expect("reads").damages)
    };
    let (all, none) = count(&killed);
    assert_eq!((all.len() as u64, none.len()), (answered, 0));
    for gone in (DATA_START..len - 40).step_by(if cfg!(miri) { 997 } else { 13 }) {
        let after = killed.kill();
        let file = after.open(&path).expect("opens");
        file.write_all_at(&[0x55; 3], gone.into()).expect("writes");
        drop(file);
        let (saved, damages) = count(&after);
        let lost = all.len() - saved.len();
        assert!(lost <= 2, "{gone}: {lost} lost, {damages:?}");
        assert!(lost == 0 || !damages.is_empty(), "{gone}: {lost} lost and nothing said");
    }
}
