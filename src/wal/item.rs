//! Items: what records are made of.

use crate::codec::{Reader, put_varint};
use crate::expiry::{Class, GenId, Version};
use crate::id::{Key, NsId};
use crate::time::{Timestamp, Ttl};

/// A namespace as the log knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamespaceRecord<'a> {
    pub(crate) ns: NsId,
    pub(crate) ttl: Ttl,
    pub(crate) sliding: bool,
    pub(crate) name: &'a [u8],
}

/// One item of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    /// An id has this version.
    Version(Key<'a>, Version),
    /// A row has this version, and a value unless that is a tombstone.
    Row {
        key: Key<'a>,
        version: Version,
        value: &'a [u8],
        /// Size of the item in the log.
        len: u32,
    },
    /// A namespace exists, or its settings changed.
    Namespace(NamespaceRecord<'a>),
}

impl Item<'_> {
    /// Returns how long the item can matter.
    pub(crate) fn generation(&self) -> GenId {
        match self {
            Self::Version(_, version) | Self::Row { version, .. } => version.generation(),
            Self::Namespace(_) => GenId::FOREVER,
        }
    }
}

/// Appends namespace and version of an entry with full times.
pub(super) fn put_version(out: &mut Vec<u8>, ns: NsId, version: Version) {
    put_varint(out, u64::from(ns.0));
    put_varint(out, version.rank);
    // Plus one, so that "never" (the greatest number) takes one byte instead of ten.
    put_varint(out, version.deadline.as_millis().wrapping_add(1));
    out.push(version.class.0);
    put_varint(out, u64::from(version.step));
}

/// Takes what [`put_version`] appended.
pub(super) fn take_version(r: &mut Reader<'_>) -> Option<(NsId, Version)> {
    let ns = NsId(r.varint_u32()?);
    let rank = r.varint()?;
    let deadline = Timestamp::from_millis(r.varint()?.wrapping_sub(1));
    let class = Class(r.u8()?);
    let step = r.varint()?.try_into().ok()?;
    Some((ns, Version { rank, deadline, class, step }))
}

pub(super) fn take_id<'a>(r: &mut Reader<'a>) -> Option<&'a [u8]> {
    let len = usize::try_from(r.varint()?).ok().filter(|len| *len > 0)?;
    r.bytes(len)
}
