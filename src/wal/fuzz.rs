//! Fuzzer entry points: arbitrary bytes under valid checksums, so that fuzzing gets past them.

use crate::codec::Reader;
use crate::expiry::{Class, Kind, Version};
use crate::id::{Family, Key, NsId, Seed};
use crate::time::{Timestamp, Ttl};
use crate::wal::Lsn;
use crate::wal::commit::{Commit, decode_row, fix_checksums, take_entry};
use crate::wal::holes;
use crate::wal::item::Item;
use crate::wal::record::{COMMIT, Found};
use crate::wal::segment::{DATA_START, Header, SegmentBytes};
use crate::wal::version::VERSION;

pub(crate) const SEED: Seed = Seed([7; 16]);

/// The kind, in what a fuzzer frames, of a commit whose rows keep the checksums that they have.
const COMMIT_AS_IT_IS: u8 = 0x80 | COMMIT;

fn header() -> Header {
    let base = Timestamp::from_millis(1_700_000_000_000);
    Header { version: VERSION, number: 1, base, seed: SEED, boot: [0; 16] }
}

/// Returns a segment file with `data` after its header.
///
/// Each record that `data` frames (length, then kind and payload) gets the checksum valid at its offset, and each row
/// of a commit its own, unless the record's kind says otherwise: commits of kind 0x85 are kept as they are, as kind 5.
pub(crate) fn segment(data: &[u8]) -> Vec<u8> {
    let mut file = header().encode();
    file.resize(DATA_START as usize, 0);
    let salted = SegmentBytes::from_file(header(), Vec::new());
    let mut rest = data;
    while let Some((len, tail)) = rest.split_first() {
        let (body, tail) = tail.split_at(usize::from(*len).min(tail.len()));
        let mut body = body.to_vec();
        match body.split_first_mut() {
            Some((&mut COMMIT, payload)) => fix_checksums(payload),
            Some((kind, _)) if *kind == COMMIT_AS_IT_IS => *kind = COMMIT,
            _ => {}
        }
        salted.put_record(&mut file, &body);
        rest = tail;
    }
    file
}

/// Reads a segment both ways: in order, then by searching past damage. Before, closes the extents in copies of it.
pub(crate) fn read(file: Vec<u8>) {
    let head = file.get(..DATA_START as usize).unwrap_or_default();
    holes::close(&mut SegmentBytes::from_file(header(), file.clone()), head, Lsn(0));
    holes::close_all(&mut SegmentBytes::from_file(header(), file.clone()), Lsn(0));
    let bytes = SegmentBytes::from_file(header(), file);
    let mut offset = DATA_START;
    while let Found::Record(record) = bytes.at(offset) {
        let after = offset + record.len as u32;
        record.items(|item, behind| {
            let _ = (item.generation().end(), Lsn::new(1, after));
            if let Item::Row { key, version, value, len } = item {
                // Its value is read from its place alone, later.
                let end = after - behind as u32;
                let alone = decode_row(bytes.part(end - len, end), VERSION);
                assert_eq!(alone, Some((key, version, value)), "a row is found where it is");
            }
            Ok::<(), ()>(())
        });
        offset = after;
    }
    while let Some((at, record)) = bytes.next_record(offset) {
        offset = at + record.len as u32;
    }
    bytes.written_after(offset.min(bytes.end()));
}

/// Puts together a commit of the claims and rows that the bytes say, and reads it back: in order, and each row alone.
pub(crate) fn commit(data: &[u8]) {
    let (mut commit, mut pushed) = (Commit::default(), Vec::new());
    let mut r = Reader::new(data);
    while let Some((kind, number, id, value)) = next_entry(&mut r) {
        let deadline = Timestamp::from_millis(number >> 8);
        if kind % 2 == 0 {
            let key = Key { ns: NsId(u32::from(kind)), id };
            let version = Version::claim(deadline, Ttl::from_millis(1 + number % 1_000));
            commit.push_version(key, version);
            pushed.push((key, version, None));
        } else {
            let key = Key { ns: NsId(7).rows(Family(1 + kind % Family::MAX)), id };
            let kind = if value.is_empty() { Kind::Tombstone } else { Kind::Value };
            let version = Version::row(number, kind, deadline, Class::of_ttl(number));
            commit.push_row(key, version, value);
            pushed.push((key, version, Some(value)));
        }
    }
    let bytes = commit.bytes();
    let mut entries = Reader::new(bytes);
    let end = bytes.len() as u32;
    for (place, (key, version, value)) in commit.places(Lsn::new(1, end)).zip(pushed) {
        let item = take_entry(&mut entries, VERSION).expect("it was just written");
        match value {
            None => assert_eq!(item, Item::Version(key, version)),
            Some(value) => {
                assert_eq!(item, Item::Row { key, version, value, len: place.len });
                let to = place.end.offset() as usize;
                let alone = decode_row(&bytes[to - place.len as usize..to], VERSION);
                assert_eq!(alone, Some((key, version, value)), "a row is found where it is");
            }
        }
    }
    assert!(entries.is_empty(), "nothing else was written");
}

/// Takes what an entry is made of: its kind, a number, its id and its value.
fn next_entry<'a>(r: &mut Reader<'a>) -> Option<(u8, u64, &'a [u8], &'a [u8])> {
    let kind = r.u8()?;
    let number = r.u64()? >> 2;
    let (id_len, value_len) = (1 + usize::from(r.u8()?) % 40, usize::from(r.u8()?));
    Some((kind, number, r.bytes(id_len)?, r.bytes(value_len)?))
}
