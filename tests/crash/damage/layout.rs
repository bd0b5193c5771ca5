//! An independent reader of the log format of docs/FORMATS.md, sections 2 and 3: which bytes of a segment hold which
//! record and ids. Reusing the engine's reader would hide its bugs.

use crate::ops::{IDS, KeyNo, ROWS, id_bytes};
use std::path::{Path, PathBuf};

/// Offset of the first record of a segment.
pub(super) const DATA_START: usize = 4096;
pub(super) const SEGMENT_HEAD: usize = 60;
/// The durable mark.
pub(super) const WATERMARK: std::ops::Range<usize> = 512..524;
/// Length of the envelope of manifest, filter and locator files.
pub(super) const ENVELOPE_HEAD: usize = 24;

/// An intact record and its location.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) file: PathBuf,
    pub(super) at: usize,
    /// Offset of kind and payload, after checksum and length.
    pub(super) body: usize,
    pub(super) end: usize,
    pub(super) keys: Vec<KeyNo>,
    /// Its times are relative to the base in the segment's header.
    pub(super) needs_base: bool,
}

fn varint(bytes: &[u8], at: &mut usize) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = bytes[*at];
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

/// The bits of a namespace's number above it are the family, zero for claims.
const FAMILY_AT: u32 = 26;

fn key(ns: u64, id: &[u8]) -> KeyNo {
    let no = (0..IDS).find(|no| id_bytes(*no) == id);
    let family = (ns >> FAMILY_AT) as u8;
    let space = if family == 0 { ns as u8 } else { ROWS + family };
    (space, no.expect("an id of the model"))
}

/// The ids of a record, and whether its times need the base.
fn keys(kind: u8, payload: &[u8]) -> (Vec<KeyNo>, bool) {
    let mut at = 0;
    let mut keys = Vec::new();
    let with_length = |at: &mut usize, ns: u64| {
        let len = varint(payload, at) as usize;
        *at += len;
        key(ns, &payload[*at - len..*at])
    };
    match kind & 0x0f {
        1 | 2 => {
            let ns = if kind & 0x10 == 0 { 0 } else { varint(payload, &mut at) };
            if kind & 0x20 != 0 {
                varint(payload, &mut at);
            }
            varint(payload, &mut at);
            if kind & 0x0f == 1 {
                return (vec![key(ns, &payload[at..])], true);
            }
            while at < payload.len() {
                keys.push(with_length(&mut at, ns));
            }
            (keys, true)
        }
        3 => {
            while at < payload.len() {
                let ns = varint(payload, &mut at);
                varint(payload, &mut at);
                varint(payload, &mut at);
                at += 1;
                varint(payload, &mut at);
                keys.push(with_length(&mut at, ns));
            }
            (keys, false)
        }
        5 => {
            while at < payload.len() {
                let tag = payload[at];
                assert!(tag == 1 || tag == 2, "an entry of a commit");
                // A row has a checksum of its own.
                at += if tag == 2 { 5 } else { 1 };
                let ns = varint(payload, &mut at);
                varint(payload, &mut at);
                varint(payload, &mut at);
                at += 1;
                varint(payload, &mut at);
                keys.push(with_length(&mut at, ns));
                if tag == 2 {
                    let len = varint(payload, &mut at) as usize;
                    at += len;
                }
            }
            (keys, false)
        }
        _ => (keys, false),
    }
}

/// How many bytes behind the record are not to be read, according to a mark of kind 14.
fn skipped(kind: u8, payload: &[u8]) -> usize {
    if kind == 14 { varint(payload, &mut 0) as usize } else { 0 }
}

/// The records of an undamaged segment; zeros end it.
pub(super) fn records(file: &Path, bytes: &[u8]) -> Vec<Record> {
    let mut found = Vec::new();
    let mut at = DATA_START;
    while bytes.len() > at + 5 && bytes[at + 4] != 0 {
        let mut body = at + 4;
        let len = varint(bytes, &mut body) as usize;
        let end = body + len;
        let (kind, payload) = (bytes[body], &bytes[body + 1..end]);
        let (keys, needs_base) = keys(kind, payload);
        let end = end + skipped(kind, payload);
        found.push(Record { file: file.to_owned(), at, body, end, keys, needs_base });
        at = end;
    }
    found
}

/// The durable mark of a segment: segment number and offset up to which the log is on disk.
pub(super) fn watermark(bytes: &[u8]) -> (u32, u32) {
    let mark = bytes.get(WATERMARK).unwrap_or(&[0; 12]);
    let lsn = u64::from_le_bytes(mark[..8].try_into().expect("eight bytes"));
    ((lsn >> 32) as u32, lsn as u32)
}

#[test]
fn commits_and_skipped_bytes_are_read_as_documented() {
    let record = |kind: u8, payload: &[u8]| {
        let len = payload.len() as u8 + 1;
        [&[9, 9, 9, 9, len, kind][..], payload].concat()
    };
    let ns = [0x80, 0x80, 0x80, 0x20];
    let row = |id: u8, value: &[u8]| {
        let head = [&[2, 7, 7, 7, 7][..], &ns, &[5, 0, 255, 0, 1, id, value.len() as u8]];
        [&head.concat()[..], value].concat()
    };
    let version = [1, 2, 5, 0, 255, 0, 1, 6];
    let commit = record(5, &[&row(0, b"value")[..], &version, &row(12, b"")].concat());
    let skip = [&record(14, &[3])[..], &[1, 2, 3]].concat();
    let file =
        [&vec![0; DATA_START][..], &commit, &skip, &record(5, &row(6, b"x")), &[0; 9]].concat();
    let found = records(Path::new("f"), &file);
    let keys: Vec<_> = found.iter().map(|record| record.keys.clone()).collect();
    let family = ROWS + 1;
    assert_eq!(keys, [vec![(family, 0), (2, 6), (family, 12)], vec![], vec![(family, 6)]]);
    assert!(found.iter().all(|record| !record.needs_base));
    assert_eq!(found[1].end - found[1].at, skip.len());
    assert_eq!(found[2].at, found[1].end);
}
