//! Records: on-disk format and contents.
//!
//! ```text
//! crc      u32     CRC32C of the rest, started from the segment's salt and the record's offset
//! length   varint  of kind and payload; never zero, so zeros mark the end of what was written
//! kind     u8      low four bits: kind; 0x10: a namespace follows; 0x20: a ttl follows
//! payload
//! ```
//!
//! The checksum covers the record's location as well as its bytes, so a stale record of an older file fails it, and so
//! does one shifted by a byte.
//!
//! | kind | payload |
//! |---|---|
//! | 1 claim | `[ns]` `[ttl ms]` age, id to the end |
//! | 2 claims | `[ns]` `[ttl ms]` age, then (length, id) to the end |
//! | 3 versions | (ns, first seen, deadline + 1 or 0 for never, class u8, step, length, id) to the end |
//! | 4 namespace | ns, ttl ms + 1 or 0 for never, flags u8, name to the end |
//! | 5 commit | typed entries to the end, see `commit.rs` |
//! | 6 extent | lane, and number of bytes after the record that are this lane's, see `lanes.rs` |
//! | 14 skip | number of bytes after the record that are not to be read |
//! | 15 end | number of the next segment |
//! | 7 to 13 | reserved |
//!
//! All integers are varints unless noted. `age` is the claim's time minus the segment's base time: two or three bytes
//! instead of six. A claim without ttl never ends.

mod decode;
mod encode;

pub(crate) use decode::{Found, RawRecord, decode, may_begin};
#[cfg(any(test, feature = "fuzzing"))]
pub(super) use encode::put_raw;
#[cfg(test)]
pub(crate) use encode::skip;
pub(crate) use encode::{
    END_BYTES, EXTENT_BYTES_MAX, FILLER_BYTES_MIN, MARK_BYTES, claim, claims, commit, end, extent,
    filler, long_checksum, mark, namespace, seal, versions,
};

use crate::time::Timestamp;
use crate::wal::version;

const CLAIM: u8 = 1;
const CLAIMS: u8 = 2;
const VERSIONS: u8 = 3;
const NAMESPACE: u8 = 4;
pub(super) const COMMIT: u8 = 5;
const EXTENT: u8 = 6;
const SKIP: u8 = 14;
const END: u8 = 15;

const HAS_NS: u8 = 0x10;
const HAS_TTL: u8 = 0x20;
const KIND_MASK: u8 = 0x0f;

const FLAG_SLIDING: u8 = 1;

const CRC_BYTES: usize = 4;

/// What all records of a segment share: a record can be encoded before its location is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordFormat {
    /// The version of the segment: how its records are to be read.
    pub(crate) version: u16,
    /// Base of the times.
    pub(crate) base: Timestamp,
}

/// Location of a record, which enters its checksum, and its format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordContext {
    pub(crate) format: RecordFormat,
    pub(crate) salt: u32,
    pub(crate) offset: u32,
}

impl RecordContext {
    fn crc(self, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(self.crc_start(), bytes)
    }

    /// What the checksum starts from: it stands for the location.
    fn crc_start(self) -> u32 {
        let start = self.salt ^ self.offset.wrapping_mul(0x9e37_79b1);
        // The version that only tests write differs in this, so that a reader which overlooks it finds nothing.
        if self.format.version > version::VERSION { !start } else { start }
    }
}

impl RecordFormat {
    /// The flag of a namespace that slides. The version that only tests write has another one, so that a decoder of
    /// payloads which overlooks the version is found out.
    fn flag_sliding(self) -> u8 {
        if self.version > version::VERSION { FLAG_SLIDING << 1 } else { FLAG_SLIDING }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::put_varint;
    use crate::expiry::Version;
    use crate::id::{Key, NsId};
    use crate::time::Ttl;
    use crate::wal::commit::Commit;
    use crate::wal::item::{Item, NamespaceRecord};

    const FORMAT: RecordFormat =
        RecordFormat { version: version::VERSION, base: Timestamp::from_millis(1_000_000) };
    const CONTEXT: RecordContext = RecordContext { format: FORMAT, salt: 77, offset: 4096 };

    fn items(bytes: &[u8]) -> Vec<(u32, Vec<u8>, Version)> {
        let Found::Record(record) = decode(bytes, CONTEXT) else { panic!("no record") };
        assert_eq!(record.len, bytes.len());
        let mut out = Vec::new();
        let visited = record.items(|item, _| {
            let Item::Version(key, version) = item else { panic!("not a version") };
            out.push((key.ns.0, key.id.to_vec(), version));
            Ok::<(), ()>(())
        });
        assert_eq!(visited, Some(Ok(())));
        out
    }

    /// A segment is read by its own version, whatever this release writes.
    #[test]
    fn the_version_of_a_segment_reaches_the_payload() {
        let slides = |written: RecordContext, read: RecordContext| {
            let (ns, ttl, name) = (NsId(1), Ttl::FOREVER, &b"n"[..]);
            let mut bytes = Vec::new();
            namespace(
                &mut bytes,
                written.format,
                &NamespaceRecord { ns, ttl, sliding: true, name },
            );
            seal(&mut bytes, written, None);
            let Found::Record(record) = decode(&bytes, written) else { panic!("no record") };
            let mut slides = None;
            let visited = record.in_context(read).items(|item, _| {
                let Item::Namespace(found) = item else { panic!("not a namespace") };
                slides = Some(found.sliding);
                Ok::<(), ()>(())
            });
            assert_eq!(visited.is_some(), slides.is_some());
            slides
        };
        let format = RecordFormat { version: version::NEXT, ..FORMAT };
        let next = RecordContext { format, ..CONTEXT };
        assert_eq!((slides(CONTEXT, CONTEXT), slides(next, next)), (Some(true), Some(true)));
        assert_eq!((slides(CONTEXT, next), slides(next, CONTEXT)), (None, None));
    }

    /// Ids are never empty, and blocks cannot hold an empty id.
    #[test]
    fn i11_a_record_with_an_empty_id_is_damage_whatever_its_checksum() {
        let bodies: [&[u8]; 3] =
            [&[CLAIM, 0], &[CLAIMS, 0, 1, b'a', 0], &[VERSIONS, 0, 1, 0, 20, 0, 0]];
        for body in bodies {
            let mut bytes = Vec::new();
            put_raw(&mut bytes, CONTEXT, body);
            let Found::Record(record) = decode(&bytes, CONTEXT) else { panic!("no record") };
            assert_eq!(record.items(|_, _| Ok::<(), ()>(())), None, "{body:?}");
            let mut good = body.to_vec();
            match body[0] {
                CLAIM => good.push(b'x'),
                _ => {
                    *good.last_mut().expect("not empty") = 1;
                    good.push(b'x');
                }
            }
            let mut bytes = Vec::new();
            put_raw(&mut bytes, CONTEXT, &good);
            assert_eq!(items(&bytes).last().map(|item| item.1.clone()), Some(b"x".to_vec()));
        }
    }

    /// The bits above the number of a namespace say whether a key is that of a row.
    #[test]
    fn i11_a_number_that_is_not_of_this_record_is_damage() {
        let rows = NsId(7).rows(crate::id::Family(3));
        let visited = |body: &[u8]| {
            let mut bytes = Vec::new();
            put_raw(&mut bytes, CONTEXT, body);
            let Found::Record(record) = decode(&bytes, CONTEXT) else { panic!("no record") };
            record.items(|_, _| Ok::<(), ()>(()))
        };
        let body = |kind: u8, ns: NsId, rest: &[u8]| {
            let mut body = vec![kind];
            put_varint(&mut body, u64::from(ns.0));
            body.extend_from_slice(rest);
            body
        };
        let commit = |ns, push: fn(&mut Commit, Key<'_>, Version)| {
            let mut commit = Commit::default();
            push(&mut commit, Key { ns, id: b"k" }, Version::claim(FORMAT.base, Ttl::FOREVER));
            [&[COMMIT], commit.bytes()].concat()
        };
        let row: fn(&mut Commit, Key<'_>, Version) = |commit, key, version| {
            commit.push_row(key, version, b"v");
        };
        let highest = NsId(NsId::MAX);
        let hashed_row = NsId(rows.0 | 1 << 31);
        for (good, bad, of) in [
            (highest, rows, &|ns| body(CLAIM | HAS_NS, ns, &[1, b'k']) as Vec<u8>),
            (highest, rows, &|ns| body(CLAIMS | HAS_NS, ns, &[1, 1, b'k'])),
            (highest, rows, &|ns| body(VERSIONS, ns, &[1, 0, 20, 0, 1, b'k'])),
            (highest, rows, &|ns| body(NAMESPACE, ns, &[0, 0, b'n'])),
            (highest, rows, &|ns| commit(ns, Commit::push_version)),
            (rows, highest, &|ns| commit(ns, row)),
            (rows, hashed_row, &|ns| commit(ns, row)),
        ] as [(NsId, NsId, &dyn Fn(NsId) -> Vec<u8>); 7]
        {
            assert_eq!(visited(&of(good)), Some(Ok(())), "{:?}", of(good));
            assert_eq!(visited(&of(bad)), None, "{:?}", of(bad));
        }
    }

    #[test]
    fn a_mark_passes_over_bytes_that_nothing_is_known_of() {
        let mut out = Vec::new();
        skip(&mut out, 100);
        seal(&mut out, CONTEXT, None);
        let mark = out.len();
        assert_eq!(decode(&out, CONTEXT), Found::Damage, "the bytes must be there");
        out.extend((0..100u8).map(|n| n.wrapping_mul(37)));
        let Found::Record(record) = decode(&out, CONTEXT) else { panic!("no record") };
        assert_eq!(record.len, mark + 100);
        let visited = record.items(|_, _| Err(()));
        assert_eq!(visited, Some(Ok(())), "it has no items");
        out[mark] ^= 1;
        assert!(matches!(decode(&out, CONTEXT), Found::Record(_)), "whatever they are");
        out[mark - 1] ^= 1;
        assert_eq!(decode(&out, CONTEXT), Found::Damage, "but how many is checked");
    }

    /// A record is all or nothing, also where its checksum holds and an item makes no sense.
    #[test]
    fn no_item_of_a_record_is_visited_unless_all_make_sense() {
        let mut bad = Commit::default();
        let id = Key { ns: NsId(0), id: b"x" };
        bad.push_version(id, Version::claim(FORMAT.base, Ttl::FOREVER));
        let rows = NsId(1).rows(crate::id::Family(1));
        let row = Version { rank: 1, step: 2, ..Version::claim(FORMAT.base, Ttl::FOREVER) };
        bad.push_row(Key { ns: rows, id: b"k" }, row, b"v");
        let mut out = Vec::new();
        commit(&mut out, &bad);
        seal(&mut out, CONTEXT, None);
        let Found::Record(record) = decode(&out, CONTEXT) else { panic!("no record") };
        let mut visits = 0;
        let visited = record.items(|_, _| {
            visits += 1;
            Ok::<(), ()>(())
        });
        assert_eq!((visited, visits), (None, 0));
    }

    #[test]
    fn a_checksum_joined_from_two_parts_is_that_of_the_whole() {
        for len in [0, 100, 20 << 10] {
            let mut one = Commit::default();
            let key = Key { ns: NsId(0).rows(crate::id::Family(1)), id: b"k" };
            one.push_row(key, Version::claim(FORMAT.base, Ttl::FOREVER), &vec![7; len]);
            let (mut plain, mut joined) = (Vec::new(), Vec::new());
            assert_eq!(commit(&mut plain, &one), None);
            seal(&mut plain, CONTEXT, None);
            one.seal();
            let checksum = commit(&mut joined, &one);
            assert_eq!(checksum.is_some(), len > 16 << 10, "{len}");
            assert_eq!(checksum, long_checksum(&joined), "{len}");
            seal(&mut joined, CONTEXT, checksum);
            assert_eq!(plain, joined, "{len}");
            assert!(matches!(decode(&joined, CONTEXT), Found::Record(_)));
        }
    }

    /// Checks that writer and reader agree on where the ids end.
    fn check_ends(bytes: &[u8], ends: &[usize]) {
        let Found::Record(record) = decode(bytes, CONTEXT) else { panic!("no record") };
        let mut read = Vec::new();
        let visited = record.items(|item, behind| {
            let Item::Version(key, _) = item else { panic!("not a version") };
            read.push(bytes.len() - behind);
            assert!(bytes[..bytes.len() - behind].ends_with(key.id));
            Ok::<(), ()>(())
        });
        assert_eq!((visited, &read[..]), (Some(Ok(())), ends));
    }

    #[test]
    fn claims_round_trip_with_and_without_namespace_and_ttl() {
        let at = Timestamp::from_millis(1_000_300);
        for ns in [0, 1, 70_000] {
            for ttl in [Ttl::FOREVER, Ttl::from_millis(1), Ttl::from_millis(604_800_000)] {
                let mut out = Vec::new();
                let key = Key { ns: NsId(ns), id: b"evt-1" };
                claim(&mut out, FORMAT, at, ttl, key).expect("after the base");
                seal(&mut out, CONTEXT, None);
                let version = Version::claim(at, ttl);
                assert_eq!(items(&out), [(ns, b"evt-1".to_vec(), version)]);

                let ids = [&b"a"[..], b"bb", b"ccc"];
                let mut ends = Vec::new();
                claims(&mut out, FORMAT, at, ttl, NsId(ns), ids.into_iter(), &mut ends)
                    .expect("after the base");
                seal(&mut out, CONTEXT, None);
                let want: Vec<_> = ids.iter().map(|id| (ns, id.to_vec(), version)).collect();
                assert_eq!(items(&out), want);
                check_ends(&out, &ends);
            }
        }
    }

    #[test]
    fn versions_and_tombstones_round_trip() {
        let claimed = Version::claim(Timestamp::from_millis(5), Ttl::from_millis(10));
        let all = [claimed, claimed.tombstone(Timestamp::from_millis(7))];
        let mut out = Vec::new();
        let mut ends = Vec::new();
        let entries = all.iter().map(|v| (Key { ns: NsId(3), id: b"x" }, *v));
        versions(&mut out, entries, &mut ends);
        seal(&mut out, CONTEXT, None);
        let want: Vec<_> = all.iter().map(|v| (3, b"x".to_vec(), *v)).collect();
        assert_eq!(items(&out), want);
        check_ends(&out, &ends);
    }

    #[test]
    fn a_forever_claim_of_16_bytes_takes_24() {
        let mut out = Vec::new();
        let key = Key { ns: NsId(0), id: &[9; 16] };
        let at = Timestamp::from_millis(1_000_300);
        claim(&mut out, FORMAT, at, Ttl::FOREVER, key).expect("after the base");
        assert_eq!(out.len(), 24);
    }

    #[test]
    fn i11_every_flipped_bit_every_cut_and_every_shift_is_noticed() {
        let mut out = Vec::new();
        let key = Key { ns: NsId(0), id: b"evt-123456" };
        claim(&mut out, FORMAT, FORMAT.base, Ttl::FOREVER, key).expect("at the base");
        seal(&mut out, CONTEXT, None);
        for bit in 0..out.len() * 8 {
            let mut bad = out.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bad, CONTEXT), Found::Damage, "bit {bit}");
        }
        for len in 1..out.len() {
            assert_eq!(decode(&out[..len], CONTEXT), Found::Damage);
        }
        assert_eq!(decode(&out, RecordContext { offset: 4097, ..CONTEXT }), Found::Damage);
        assert_eq!(decode(&out, RecordContext { salt: 78, ..CONTEXT }), Found::Damage);
        assert_eq!(decode(&[0; 64], CONTEXT), Found::Nothing);
        assert_eq!(decode(&[], CONTEXT), Found::Nothing);
    }

    #[test]
    fn a_claim_older_than_the_segment_is_refused_not_bent() {
        let mut out = Vec::new();
        let key = Key { ns: NsId(0), id: b"x" };
        let before = Timestamp::from_millis(999_999);
        assert_eq!(claim(&mut out, FORMAT, before, Ttl::FOREVER, key), None);
    }
}
