//! What a commit is made of: ids to claim and rows to write.

use crate::engine::catalog::namespaces::NsInfo;
use crate::id::{Key, NsId};
use crate::shard::prepared_holder;
use crate::time::{Timestamp, Ttl};

/// What a write expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(unreachable_pub, reason = "public with the feature `testing`")]
pub enum Expect {
    /// Whatever is there.
    Anything,
    /// No live row.
    Absent,
    /// The row that this write has set.
    Sequence(u64),
    /// The row that this write has set, or no live row; and a watermark of the row's namespace that is not beyond
    /// `watermark_max`.
    Ahead {
        /// The write that has set the row.
        sequence: Option<u64>,
        /// The latest watermark by which the write is not late.
        watermark_max: Timestamp,
    },
}

/// What becomes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowChange<B> {
    /// It gets this value.
    Put(B),
    /// It gets this value, and ends when the watermark of its namespace has reached this, not by the engine's time. The ttl
    /// is how long that is.
    PutUntil(B, Timestamp),
    Delete,
    /// It stays as it is: the commit only depends on it.
    Keep,
}

impl<B: AsRef<[u8]>> RowChange<B> {
    /// Puts this value, or deletes where there is none.
    pub(crate) fn of(value: Option<B>) -> Self {
        value.map_or(Self::Delete, Self::Put)
    }

    pub(crate) fn as_ref(&self) -> RowChange<&[u8]> {
        match self {
            Self::Put(value) => RowChange::Put(value.as_ref()),
            Self::PutUntil(value, end) => RowChange::PutUntil(value.as_ref(), *end),
            Self::Delete => RowChange::Delete,
            Self::Keep => RowChange::Keep,
        }
    }
}

impl<'a> RowChange<&'a [u8]> {
    pub(super) fn value(self) -> Option<&'a [u8]> {
        match self {
            Self::Put(value) | Self::PutUntil(value, _) => Some(value),
            Self::Delete | Self::Keep => None,
        }
    }

    /// Returns the watermark that ends a row that is put.
    pub(super) fn event_end(self) -> Option<Timestamp> {
        match self {
            Self::PutUntil(_, end) => Some(end),
            Self::Put(_) | Self::Delete | Self::Keep => None,
        }
    }
}

/// One row to write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowWrite<'a> {
    pub(crate) key: Key<'a>,
    pub(crate) change: RowChange<&'a [u8]>,
    /// Of a row that is put.
    pub(crate) ttl: Ttl,
    pub(crate) expect: Expect,
    /// Those who wait for the row are not woken.
    pub(crate) is_quiet: bool,
}

/// A row to write that owns what it is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnedRow {
    /// With the family of the row.
    pub(crate) ns: NsId,
    pub(crate) id: Vec<u8>,
    pub(crate) change: RowChange<Vec<u8>>,
    pub(crate) ttl: Ttl,
    pub(crate) expect: Expect,
    pub(crate) is_quiet: bool,
}

impl OwnedRow {
    pub(crate) fn key(&self) -> Key<'_> {
        Key { ns: self.ns, id: &self.id }
    }

    pub(crate) fn as_write(&self) -> RowWrite<'_> {
        let Self { ttl, expect, is_quiet, .. } = *self;
        RowWrite { key: self.key(), change: self.change.as_ref(), ttl, expect, is_quiet }
    }
}

/// One id to claim with a commit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClaimWrite<'a> {
    pub(crate) ns: &'a NsInfo,
    pub(crate) key: Key<'a>,
    pub(crate) ttl: Ttl,
}

/// What a commit is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WriteSet<'a> {
    pub(crate) claims: &'a [ClaimWrite<'a>],
    pub(crate) rows: &'a [RowWrite<'a>],
    /// Namespaces that it was decided by: if a promotion has replaced one of them since, it is not made.
    pub(crate) asked: &'a [NsId],
    pub(crate) phase: Phase<'a>,
}

/// Whether a set is committed at once or in two phases.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Phase<'a> {
    /// At once.
    Only,
    /// The first of two: everything is checked and held, and only this row is written. Its sequence is the name of the
    /// holder.
    Prepare(RowWrite<'a>),
    /// The second of two: everything is written, this row included. What is held in the name of `prepared` is in
    /// nobody's way.
    Finish { row: RowWrite<'a>, prepared: u64 },
}

impl<'a> Phase<'a> {
    pub(super) fn row(&self) -> Option<&RowWrite<'a>> {
        match self {
            Self::Only => None,
            Self::Prepare(row) | Self::Finish { row, .. } => Some(row),
        }
    }

    pub(super) fn is_prepare(&self) -> bool {
        matches!(self, Self::Prepare(_))
    }

    /// Returns the holder whose holds are in nobody's way.
    pub(super) fn passes(&self) -> Option<u64> {
        match self {
            Self::Finish { prepared, .. } => Some(prepared_holder(*prepared)),
            _ => None,
        }
    }
}

impl Expect {
    /// What no row can meet: two expectations of one row that contradict each other.
    pub(crate) const CONTRADICTION: Self = Self::Sequence(u64::MAX);
}

impl<'a> WriteSet<'a> {
    /// Returns claims and rows that are written at once.
    pub(crate) fn of(claims: &'a [ClaimWrite<'a>], rows: &'a [RowWrite<'a>]) -> Self {
        Self { claims, rows, asked: &[], phase: Phase::Only }
    }

    /// Returns all rows, that of the phase last.
    pub(super) fn all_rows(&self) -> impl Iterator<Item = &RowWrite<'a>> {
        self.rows.iter().chain(self.phase.row())
    }
}
