//! What the log still knows of an id.

use crate::engine::core::Core;
use crate::engine::recovery::repair::LostBytes;
use crate::error::Result;
use crate::expiry::Version;
use crate::id::{Family, Key, NsId};
use crate::time::Timestamp;
use crate::wal::{At, Item, Lsn};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What the log still knows of an id; see [`Store::history`](crate::Store::history).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct History {
    /// What happened to the claim of the id, in the order in which it did; then to the rows that a ledger keeps for it, in
    /// that order.
    pub events: Vec<HistoryEvent>,
    /// Stretches of the log that could not be read. Whatever happened there is missing above.
    pub damage: Vec<LostBytes>,
}

/// Something that happened to an id.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HistoryEvent {
    /// What happened.
    pub what: HistoryKind,
    /// When; `None` where the log does not say: it has no time for an extended end, nor for a row.
    pub time: Option<Timestamp>,
    /// The end of the claim or row from then on; [`Timestamp::NEVER`] if it has none, `None` if there is nothing any more.
    pub deadline: Option<Timestamp>,
    /// Where it stands in the log.
    pub position: LogPosition,
    /// How many copies of it follow in the log. Compaction makes them, and removes what it has copied later.
    pub copies: u64,
    /// What was written in one step with it. If only a copy is left, this tells what was copied with it.
    pub commit: CommitShape,
}

/// What happened to an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub enum HistoryKind {
    /// It was claimed, or its claim was imported: the log does not tell these apart.
    Claimed,
    /// A duplicate moved the end of the claim.
    Extended,
    /// It was forgotten.
    Forgotten,
    /// Something was written about it.
    RowPut {
        /// What.
        row: RowKind,
        /// The number of the write. Numbers only grow.
        sequence: u64,
        /// Size of the value.
        bytes: u64,
    },
    /// What was written about it was deleted.
    RowDeleted {
        /// What.
        row: RowKind,
        /// The number of the write.
        sequence: u64,
    },
}

/// What is kept about an id besides its claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[non_exhaustive]
pub enum RowKind {
    /// Its record in a ledger.
    Record,
    /// A saved stage, by its number.
    Stage(u32),
    /// What was given to be done.
    Payload,
    /// The note that it waits for an operator.
    DeadLetter,
    /// The value of a state table under the id as its key.
    State,
}

/// A position in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[non_exhaustive]
pub struct LogPosition {
    /// The number of the segment.
    pub segment: u32,
    /// The byte in it after the last one of the entry.
    pub offset: u32,
}

/// What a record of the log holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CommitShape {
    /// Claims, those forgotten or extended included.
    pub claims: u64,
    /// Rows, deleted ones included.
    pub rows: u64,
    /// The names of the namespaces that they are in, in alphabetical order; `scope/name` inside a replay scope, and a number
    /// where there is no name any more.
    pub namespaces: Vec<String>,
}

/// Collects what is said of one id, while the log is read in its order.
pub(super) struct Collector<'a> {
    claim: Key<'a>,
    names: &'a BTreeMap<NsId, String>,
    record: Shape,
    found: Vec<Found>,
    /// Of which `found` the record that is being read is part: those from here on.
    open: usize,
}

#[derive(Default)]
struct Shape {
    end: Option<Lsn>,
    claims: u64,
    rows: u64,
    namespaces: BTreeSet<NsId>,
}

struct Found {
    /// `None`: it is about the claim.
    row: Option<(RowKind, u64)>,
    version: Version,
    at: Lsn,
    copies: u64,
    commit: CommitShape,
}

impl<'a> Collector<'a> {
    /// `claim` is the key of the id.
    pub(super) fn new(claim: Key<'a>, names: &'a BTreeMap<NsId, String>) -> Self {
        Self { claim, names, record: Shape::default(), found: Vec::new(), open: 0 }
    }

    pub(super) fn visit(&mut self, at: At, item: &Item<'_>) {
        if self.record.end != Some(at.record) {
            self.end_record();
            self.record.end = Some(at.record);
        }
        let (key, version, row) = match item {
            Item::Namespace(_) => return,
            Item::Version(key, version) => {
                self.record.claims += 1;
                (key, version, None)
            }
            Item::Row { key, version, value, .. } => {
                self.record.rows += 1;
                (key, version, Some(value.len() as u64))
            }
        };
        self.record.namespaces.insert(key.ns.listed());
        let row = match row {
            None if *key == self.claim => None,
            Some(bytes) if !self.claim.ns.is_hashed() && key.ns.listed() == self.claim.ns => {
                let Some(kind) = kind_of(key, self.claim.id) else { return };
                Some((kind, bytes))
            }
            _ => return,
        };
        let commit = CommitShape::default();
        self.found.push(Found { row, version: *version, at: at.item, copies: 0, commit });
    }

    fn end_record(&mut self) {
        let shape = std::mem::take(&mut self.record);
        if self.open < self.found.len() {
            let name = |ns: &NsId| match self.names.get(ns) {
                Some(name) => name.clone(),
                None => ns.0.to_string(),
            };
            let mut namespaces: Vec<String> = shape.namespaces.iter().map(name).collect();
            namespaces.sort_unstable();
            let commit = CommitShape { claims: shape.claims, rows: shape.rows, namespaces };
            self.found[self.open..].iter_mut().for_each(|found| found.commit = commit.clone());
            self.open = self.found.len();
        }
    }

    pub(super) fn finish(mut self, damage: Vec<LostBytes>) -> History {
        self.end_record();
        // In the order of their versions, and of two copies the earlier one first.
        self.found.sort_by_key(|found| {
            let Version { rank, step, deadline, .. } = found.version;
            let kind = found.row.map(|(kind, _)| kind);
            (kind.is_some(), rank, kind, step, deadline, found.at)
        });
        self.found.dedup_by(|copy, first| {
            let is_copy = match (copy.row, first.row) {
                (None, None) => copy.version == first.version,
                // No two writes have one number. One that has ended is copied without its value.
                (Some((copy_kind, _)), Some((kind, _))) => {
                    copy_kind == kind && copy.version.rank == first.version.rank
                }
                _ => false,
            };
            first.copies += u64::from(is_copy);
            is_copy
        });
        let mut before: Option<Version> = None;
        let event = |found: Found| {
            let version = found.version;
            let what = match found.row {
                Some((row, _)) if version.is_tombstone() => {
                    HistoryKind::RowDeleted { row, sequence: version.rank }
                }
                Some((row, bytes)) => HistoryKind::RowPut { row, sequence: version.rank, bytes },
                None if version.is_tombstone() => HistoryKind::Forgotten,
                None if before
                    .is_some_and(|b| (b.rank, b.step) == (version.rank, version.step)) =>
                {
                    HistoryKind::Extended
                }
                None => HistoryKind::Claimed,
            };
            before = Some(version);
            let has_time = matches!(what, HistoryKind::Claimed | HistoryKind::Forgotten);
            HistoryEvent {
                what,
                time: has_time.then(|| version.first_seen()),
                deadline: (!version.is_tombstone()).then_some(version.deadline),
                position: LogPosition { segment: found.at.segment(), offset: found.at.offset() },
                copies: found.copies,
                commit: found.commit,
            }
        };
        History { events: self.found.into_iter().map(event).collect(), damage }
    }
}

/// Returns what a row says about an id; `None` if it is about another one.
fn kind_of(key: &Key<'_>, id: &[u8]) -> Option<RowKind> {
    let family = key.ns.family();
    if family == Family::STAGES {
        let number = key.id.strip_prefix(id)?;
        return Some(RowKind::Stage(u32::from_be_bytes(number.try_into().ok()?)));
    }
    let kind = match family {
        Family::LEDGER => RowKind::Record,
        Family::PAYLOADS => RowKind::Payload,
        Family::DEAD => RowKind::DeadLetter,
        Family::TABLES => RowKind::State,
        // Their keys are no ids.
        _ => return None,
    };
    (key.id == id).then_some(kind)
}

/// Reads the whole log for what it knows of an id, while claims go on.
pub(in crate::engine) fn history(core: &Core, ns: NsId, id: &[u8]) -> Result<History> {
    let mut digest = None;
    let key = core.key(ns, id, &mut digest)?;
    let names = core.namespaces.names();
    let mut collector = Collector::new(key, &names);
    let mut damage = Vec::new();
    let _nothing_is_removed = core.segment_gc_lock.read();
    for number in core.log.segments() {
        let damaged = core.log.salvage(number, |at, item| {
            collector.visit(at, &item);
            Ok(())
        })?;
        damage.extend(damaged.into_iter().map(LostBytes::of));
    }
    Ok(collector.finish(damage))
}
