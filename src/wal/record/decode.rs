//! Reads records. Never panics, whatever the bytes.

use crate::codec::Reader;
use crate::error::Error;
use crate::expiry::Version;
use crate::id::{Key, NsId};
use crate::limits;
use crate::time::{Timestamp, Ttl};
use crate::wal::commit::{is_entry, take_entry, take_entry_again};
use crate::wal::item::{Item, NamespaceRecord, take_id, take_version};
use crate::wal::record::{
    CLAIM, CLAIMS, COMMIT, CRC_BYTES, END, EXTENT, HAS_NS, HAS_TTL, KIND_MASK, NAMESPACE,
    RecordContext, SKIP, VERSIONS,
};
use std::convert::Infallible;
use std::path::Path;

/// What [`decode`] found at a location.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// A whole record with its payload.
    Record(RawRecord<'a>),
    /// Zeros: nothing was written here.
    Nothing,
    /// Bytes that are not a record.
    Damage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawRecord<'a> {
    kind: u8,
    payload: &'a [u8],
    /// Bytes on disk, with those that it says to skip.
    pub(crate) len: usize,
    /// Where it was found: the version says how to read the payload.
    context: RecordContext,
}

/// Decodes the record at the start of `bytes`. Never panics, whatever the bytes.
pub(crate) fn decode(bytes: &[u8], context: RecordContext) -> Found<'_> {
    match try_decode(bytes, context) {
        Some(record) => Found::Record(record),
        // Zeros up to the longest possible frame: no record looks like this.
        None if bytes.iter().take(CRC_BYTES + 10).all(|b| *b == 0) => Found::Nothing,
        None => Found::Damage,
    }
}

/// Returns whether a record of a known kind may begin here.
///
/// A cheap test before a checksum over the length claimed here. Only for the search past damage.
pub(crate) fn may_begin(bytes: &[u8]) -> bool {
    let mut r = Reader::new(bytes.get(CRC_BYTES..).unwrap_or(&[]));
    let len = r.varint();
    let kind = r.u8();
    len.is_some_and(|len| len > 0 && len <= limits::RECORD_BYTES_MAX as u64)
        && kind.is_some_and(is_known)
}

/// Returns whether this release knows the kind, with the flags that it has.
fn is_known(kind: u8) -> bool {
    match kind & KIND_MASK {
        CLAIM | CLAIMS => kind & !(KIND_MASK | HAS_NS | HAS_TTL) == 0,
        VERSIONS | NAMESPACE | COMMIT | EXTENT | SKIP | END => kind & !KIND_MASK == 0,
        _ => false,
    }
}

fn try_decode(bytes: &[u8], context: RecordContext) -> Option<RawRecord<'_>> {
    let mut r = Reader::new(bytes);
    let crc = r.u32()?;
    let len = usize::try_from(r.varint()?).ok()?;
    if len == 0 || len > limits::RECORD_BYTES_MAX {
        return None;
    }
    let body = r.bytes(len)?;
    let total = bytes.len() - r.rest().len();
    if context.crc(&bytes[CRC_BYTES..total]) != crc {
        return None;
    }
    let record = RawRecord { kind: body[0], payload: &body[1..], len: total, context };
    // Nothing is known of the bytes that it says to skip, so no checksum covers them.
    let skipped = if record.kind == SKIP { record.skipped()? } else { 0 };
    (skipped <= bytes.len() - total).then_some(RawRecord { len: total + skipped, ..record })
}

impl<'a> RawRecord<'a> {
    /// Returns the record as one found elsewhere.
    #[cfg(test)]
    pub(super) fn in_context(self, context: RecordContext) -> Self {
        Self { context, ..self }
    }

    /// Returns the number of the next segment if this is an end mark.
    pub(crate) fn end_mark(&self) -> Option<u32> {
        (self.kind == END).then(|| Reader::new(self.payload).varint_u32()).flatten()
    }

    /// Returns the lane and the bytes after the record that are its own, if this is the head of an extent.
    pub(crate) fn extent(&self) -> Option<(u32, u32)> {
        let mut r = Reader::new(self.payload);
        let is_extent = self.kind == EXTENT;
        let (lane, bytes) =
            is_extent.then(|| Some((r.varint_u32()?, r.varint_u32()?))).flatten()?;
        r.is_empty().then_some((lane, bytes))
    }

    /// Returns whether it only says that bytes are not to be read.
    pub(crate) fn is_skip(&self) -> bool {
        self.kind == SKIP
    }

    fn skipped(&self) -> Option<usize> {
        usize::try_from(Reader::new(self.payload).varint()?).ok()
    }

    /// Returns whether its items are typed entries.
    pub(crate) fn is_commit(&self) -> bool {
        self.kind & KIND_MASK == COMMIT
    }

    /// Calls `visit` for each item with the bytes remaining after it, once all of them were found to make sense: a
    /// commit is all or nothing, also for repair.
    ///
    /// `None`: the checksum is valid but the payload is not one that this release writes. [`unreadable`] tells why.
    ///
    /// [`unreadable`]: Self::unreadable
    pub(crate) fn items<E>(
        &self,
        visit: impl FnMut(Item<'a>, usize) -> std::result::Result<(), E>,
    ) -> Option<std::result::Result<(), E>> {
        // A single claim is checked before it is visited.
        if self.kind & KIND_MASK == CLAIM {
            return self.parse(take_entry, visit);
        }
        let Ok(()) = self.parse(take_entry, |_, _| Ok::<(), Infallible>(()))?;
        self.parse(take_entry_again, visit)
    }

    fn parse<E>(
        &self,
        take_entry: impl Fn(&mut Reader<'a>, u16) -> Option<Item<'a>>,
        mut visit: impl FnMut(Item<'a>, usize) -> std::result::Result<(), E>,
    ) -> Option<std::result::Result<(), E>> {
        let mut r = Reader::new(self.payload);
        match self.kind & KIND_MASK {
            _ if !is_known(self.kind) => None,
            CLAIM => {
                let (ns, version) = self.head(&mut r)?;
                let id = Some(r.rest()).filter(|id| !id.is_empty())?;
                Some(visit(Item::Version(Key { ns, id }, version), 0))
            }
            COMMIT => {
                while !r.is_empty() {
                    let item = take_entry(&mut r, self.context.format.version)?;
                    if let Err(e) = visit(item, r.rest().len()) {
                        return Some(Err(e));
                    }
                }
                Some(Ok(()))
            }
            CLAIMS => {
                let (ns, version) = self.head(&mut r)?;
                while !r.is_empty() {
                    let id = take_id(&mut r)?;
                    let behind = r.rest().len();
                    if let Err(e) = visit(Item::Version(Key { ns, id }, version), behind) {
                        return Some(Err(e));
                    }
                }
                Some(Ok(()))
            }
            VERSIONS => {
                while !r.is_empty() {
                    let (ns, version) = take_version(&mut r)?;
                    let id = take_id(&mut r)?;
                    if ns.is_row() {
                        return None;
                    }
                    let behind = r.rest().len();
                    if let Err(e) = visit(Item::Version(Key { ns, id }, version), behind) {
                        return Some(Err(e));
                    }
                }
                Some(Ok(()))
            }
            NAMESPACE => {
                let ns = NsId(r.varint_u32()?);
                let ttl = r.varint()?.checked_sub(1).map_or(Ttl::FOREVER, Ttl::from_millis);
                let (flags, known) = (r.u8()?, self.context.format.flag_sliding());
                let sliding = flags & known != 0;
                let name = r.rest();
                if !ns.is_plain() || flags & !known != 0 {
                    return None;
                }
                Some(visit(Item::Namespace(NamespaceRecord { ns, ttl, sliding, name }), 0))
            }
            EXTENT => self.extent().map(|_| Ok(())),
            SKIP | END => Some(Ok(())),
            _ => None,
        }
    }

    /// Returns the error for a record whose items cannot be read although its checksum is valid: it was never torn, so
    /// it is neither cut nor passed over.
    pub(crate) fn unreadable(&self, path: &Path, offset: u32) -> Error {
        let offset = u64::from(offset);
        match self.unknown() {
            Some(what) => Error::NewerContent { path: path.to_owned(), offset, what },
            None => Error::corrupt(path, offset, "a record without sense under a valid checksum"),
        }
    }

    /// Returns what in the record only a newer release can have written.
    fn unknown(&self) -> Option<String> {
        let mut r = Reader::new(self.payload);
        match self.kind & KIND_MASK {
            _ if !is_known(self.kind) => Some(format!("a record of kind {:#04x}", self.kind)),
            NAMESPACE => {
                let (_ns, _ttl, flags) = (r.varint_u32()?, r.varint()?, r.u8()?);
                let is_newer = flags & !self.context.format.flag_sliding() != 0;
                is_newer.then(|| format!("a namespace with flags {flags:#04x}"))
            }
            COMMIT => loop {
                let tag = *r.rest().first()?;
                if !is_entry(tag, self.context.format.version) {
                    return Some(format!("a commit with an entry of kind {tag}"));
                }
                take_entry(&mut r, self.context.format.version)?;
            },
            _ => None,
        }
    }

    fn head(&self, r: &mut Reader<'a>) -> Option<(NsId, Version)> {
        let ns = if self.kind & HAS_NS == 0 { NsId(0) } else { NsId(r.varint_u32()?) };
        let ttl =
            if self.kind & HAS_TTL == 0 { Ttl::FOREVER } else { Ttl::from_millis(r.varint()?) };
        let first_seen = Timestamp::from_millis(
            self.context.format.base.as_millis().saturating_add(r.varint()?),
        );
        (!ns.is_row()).then(|| (ns, Version::claim(first_seen, ttl)))
    }
}
