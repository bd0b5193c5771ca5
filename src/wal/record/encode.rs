//! Writes records. Each function fills an empty buffer with all but the checksum, which [`seal`] sets where the record goes.

use crate::codec::{put_varint, varint_len};
use crate::expiry::Version;
use crate::id::{Key, NsId};
use crate::time::{Timestamp, Ttl};
use crate::wal::commit::Commit;
use crate::wal::item::{NamespaceRecord, put_version};
use crate::wal::joined_crc::{LONG, joined};
use crate::wal::record::{
    CLAIM, CLAIMS, COMMIT, CRC_BYTES, END, EXTENT, HAS_NS, HAS_TTL, NAMESPACE, RecordContext,
    RecordFormat, SKIP, VERSIONS,
};

/// Encodes one claim. `None` if it predates the segment's base (its time was read before the segment began): the caller
/// then writes it as a version, which has full times.
#[inline]
pub(crate) fn claim(
    out: &mut Vec<u8>,
    format: RecordFormat,
    at: Timestamp,
    ttl: Ttl,
    key: Key<'_>,
) -> Option<()> {
    let age = at.as_millis().checked_sub(format.base.as_millis())?;
    let kind = CLAIM | flags(key.ns, ttl);
    let head = 1 + head_len(key.ns, ttl, age);
    begin(out, kind, head + key.id.len());
    put_head(out, key.ns, ttl, age);
    out.extend_from_slice(key.id);
    Some(())
}

/// Encodes a batch of claims with one namespace, time and ttl as one record; pushes the end of each id to `ends`.
pub(crate) fn claims<'a>(
    out: &mut Vec<u8>,
    format: RecordFormat,
    at: Timestamp,
    ttl: Ttl,
    ns: NsId,
    ids: impl Iterator<Item = &'a [u8]> + Clone,
    ends: &mut Vec<usize>,
) -> Option<()> {
    let age = at.as_millis().checked_sub(format.base.as_millis())?;
    let kind = CLAIMS | flags(ns, ttl);
    let bytes: usize = ids.clone().map(|id| varint_len(id.len() as u64) + id.len()).sum();
    begin(out, kind, 1 + head_len(ns, ttl, age) + bytes);
    put_head(out, ns, ttl, age);
    for id in ids {
        put_varint(out, id.len() as u64);
        out.extend_from_slice(id);
        ends.push(out.len());
    }
    Some(())
}

/// Encodes versions with full times: extensions, tombstones, imports, and copies by compaction; pushes the end of each
/// id to `ends`.
pub(crate) fn versions<'a>(
    out: &mut Vec<u8>,
    versions: impl Iterator<Item = (Key<'a>, Version)>,
    ends: &mut Vec<usize>,
) {
    let first = ends.len();
    let mut body = Vec::new();
    for (key, version) in versions {
        put_version(&mut body, key.ns, version);
        put_varint(&mut body, key.id.len() as u64);
        body.extend_from_slice(key.id);
        ends.push(body.len());
    }
    begin(out, VERSIONS, 1 + body.len());
    ends[first..].iter_mut().for_each(|end| *end += out.len());
    out.extend_from_slice(&body);
}

/// Encodes a commit. Returns what [`long_checksum`] would, from the payload's own checksum.
pub(crate) fn commit(out: &mut Vec<u8>, commit: &Commit) -> Option<u32> {
    begin(out, COMMIT, 1 + commit.bytes().len());
    let head = crc32c::crc32c(&out[CRC_BYTES..]);
    out.extend_from_slice(commit.bytes());
    commit.checksum().map(|payload| joined(head, payload, commit.bytes().len() as u32))
}

/// Encodes a mark that the `bytes` after it are not to be read, whatever they hold.
pub(crate) fn skip(out: &mut Vec<u8>, bytes: u32) {
    begin(out, SKIP, 1 + varint_len(u64::from(bytes)));
    put_varint(out, u64::from(bytes));
}

/// Encodes a mark without a meaning of its own: whatever stands before it in the log was written before it.
pub(crate) fn mark(out: &mut Vec<u8>) {
    skip(out, 0);
}

/// Size of [`mark`].
pub(crate) const MARK_BYTES: usize = CRC_BYTES + 3;

/// Encodes the head of an extent: the `bytes` after it belong to this lane.
pub(crate) fn extent(out: &mut Vec<u8>, lane: u32, bytes: u32) {
    begin(out, EXTENT, 1 + varint_len(u64::from(lane)) + varint_len(u64::from(bytes)));
    put_varint(out, u64::from(lane));
    put_varint(out, u64::from(bytes));
}

/// Maximum size of [`extent`].
pub(crate) const EXTENT_BYTES_MAX: usize = CRC_BYTES + 2 + 2 * 5;

/// Encodes a mark that takes exactly `bytes` with those that it says to skip, at least [`FILLER_BYTES_MIN`].
pub(crate) fn filler(out: &mut Vec<u8>, bytes: u32) {
    let least = CRC_BYTES + 2;
    // One byte more for a larger number can leave a number that needs one less: then a byte that means nothing follows.
    let skipped = |digits: usize| bytes as usize - least - digits;
    let digits = (1..=5).find(|n| varint_len(skipped(*n) as u64) <= *n).unwrap_or(5);
    let skipped = skipped(digits);
    begin(out, SKIP, 1 + digits);
    put_varint(out, skipped as u64);
    out.resize(least + digits, 0);
}

/// Minimum size of [`filler`].
pub(crate) const FILLER_BYTES_MIN: u32 = CRC_BYTES as u32 + 3;

/// Encodes a namespace.
pub(crate) fn namespace(out: &mut Vec<u8>, format: RecordFormat, record: &NamespaceRecord<'_>) {
    let mut body = Vec::new();
    put_varint(&mut body, u64::from(record.ns.0));
    put_varint(&mut body, record.ttl.as_millis().map_or(0, |ms| ms + 1));
    body.push(if record.sliding { format.flag_sliding() } else { 0 });
    body.extend_from_slice(record.name);
    begin(out, NAMESPACE, 1 + body.len());
    out.extend_from_slice(&body);
}

/// Encodes the end mark of a full segment, which names the next one.
pub(crate) fn end(out: &mut Vec<u8>, next: u32) {
    begin(out, END, 1 + varint_len(u64::from(next)));
    put_varint(out, u64::from(next));
}

/// Maximum size of [`end`]; every segment reserves it.
pub(crate) const END_BYTES: usize = CRC_BYTES + 2 + 5;

fn flags(ns: NsId, ttl: Ttl) -> u8 {
    (if ns.0 == 0 { 0 } else { HAS_NS }) | ttl.as_millis().map_or(0, |_| HAS_TTL)
}

fn head_len(ns: NsId, ttl: Ttl, age: u64) -> usize {
    let ns_len = if ns.0 == 0 { 0 } else { varint_len(u64::from(ns.0)) };
    ns_len + ttl.as_millis().map_or(0, varint_len) + varint_len(age)
}

fn put_head(out: &mut Vec<u8>, ns: NsId, ttl: Ttl, age: u64) {
    if ns.0 != 0 {
        put_varint(out, u64::from(ns.0));
    }
    if let Some(ms) = ttl.as_millis() {
        put_varint(out, ms);
    }
    put_varint(out, age);
}

/// Starts a record in an empty buffer; `len` counts kind and payload.
fn begin(out: &mut Vec<u8>, kind: u8, len: usize) {
    out.clear();
    out.extend_from_slice(&[0; CRC_BYTES]);
    put_varint(out, len as u64);
    out.push(kind);
}

/// Returns the checksum of a long record without its location. The log's lock is held over [`seal`], which then only has to
/// join the two.
pub(crate) fn long_checksum(record: &[u8]) -> Option<u32> {
    (record.len() >= LONG).then(|| crc32c::crc32c(&record[CRC_BYTES..]))
}

/// Sets the checksum of a record, for this location. `checksum`: what [`long_checksum`] returned, if it was asked.
#[inline]
pub(crate) fn seal(record: &mut [u8], context: RecordContext, checksum: Option<u32>) {
    let (crc, rest) = record.split_at_mut(CRC_BYTES);
    let whole = match checksum {
        None => context.crc(rest),
        Some(checksum) => joined(context.crc_start(), checksum, rest.len() as u32),
    };
    crc.copy_from_slice(&whole.to_le_bytes());
}

/// Appends a record with this body, whatever it holds, and a valid checksum.
#[cfg(any(test, feature = "fuzzing"))]
pub(in crate::wal) fn put_raw(out: &mut Vec<u8>, context: RecordContext, body: &[u8]) {
    let mut framed = vec![0; CRC_BYTES];
    put_varint(&mut framed, body.len() as u64);
    framed.extend_from_slice(body);
    seal(&mut framed, context, None);
    out.extend_from_slice(&framed);
}
