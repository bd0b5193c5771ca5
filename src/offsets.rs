//! Offsets: how far each partition of a source has been read.
//!
//! What is stored is the next offset to read. It never moves back, and it is written by a
//! [transaction](crate::transaction), with the effects of what was read.
//!
//! ```
//! use firstseen::Store;
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("seen.db");
//! let store = Store::open(&path)?;
//! let orders = store.source("orders")?;
//! // Where to go on: one call for all partitions.
//! assert!(orders.positions()?.is_empty());
//! let mut transaction = store.transaction();
//! transaction.claim("order-17").advance(&orders, 0, 18);
//! assert!(transaction.commit()?.is_committed());
//! assert_eq!(orders.position(0)?.map(|position| position.next), Some(18));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::codec::{Reader, Undecodable, put_varint, stored};
use crate::engine::{Bells, Committed, Durability, Engine, Expect, NsInfo, OwnedRow, RowChange};
use crate::error::{Error, Result};
use crate::id::{Family, Key, NsId};
use crate::limits;
use crate::store::Store;
use crate::sync::Arc;
use crate::time::Ttl;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;

/// A source whose offsets a store keeps; see [`Store::source`]. A handle: cheap to clone, safe to share, and it keeps the
/// store open.
#[derive(Clone)]
pub struct Source {
    store: Store,
    info: Arc<NsInfo>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("store", &self.store).field("name", &self.info.name).finish()
    }
}

/// Where to go on in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// The next offset to read.
    pub next: u64,
    /// The epoch of its owner; zero if it never had one.
    pub epoch: u64,
}

/// The ownership of a partition: commits of earlier owners are refused from now on.
///
/// Nothing is locked: whoever owns the partition next makes this ownership void, as when a group of consumers is
/// rebalanced. So does the promotion of a [replay scope](crate::replay::ReplayScope) that used the source: whoever owned the
/// partition outside is fenced, and whoever owned it inside goes on.
#[derive(Debug, Clone)]
pub struct Owner {
    source: Source,
    partition: u32,
    epoch: u64,
    next: u64,
    /// What the source was when it was taken over. What a promotion puts in its place has epochs of its own.
    ns: NsId,
}

impl Store {
    /// Returns the source of this name.
    ///
    /// # Errors
    ///
    /// As [`Store::namespace`].
    pub fn source(&self, name: &str) -> Result<Source> {
        Ok(Source::of(self.clone(), self.engine().namespace(name, None)?))
    }
}

impl Source {
    /// Returns the source whose offsets are in this namespace.
    pub(crate) fn of(store: Store, info: Arc<NsInfo>) -> Self {
        Self { store, info }
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.info.name
    }

    /// Returns where to go on in a partition; `None` if nothing of it was committed and nobody owned it.
    ///
    /// # Errors
    ///
    /// As [`Store::get`], and [`Repair`](crate::ErrorKind::Repair) if the stored offset is damaged.
    pub fn position(&self, partition: u32) -> Result<Option<Position>> {
        let read = self.read((self.ns(), partition), self.durability())?;
        Ok(read.map(|(position, _)| position))
    }

    /// Returns where to go on in every partition, as all of them were at one moment: of a transaction that advances
    /// several, all are there, or none. Reads the offsets of all sources of the store.
    ///
    /// # Errors
    ///
    /// As [`position`](Self::position).
    pub fn positions(&self) -> Result<BTreeMap<u32, Position>> {
        let (engine, mut positions) = (self.engine(), BTreeMap::new());
        let ns = Engine::row_key(Family::OFFSETS, self.info.id(), b"-")?.ns;
        let mut read = Ok(());
        engine.scan_rows(ns, self.durability(), |key, row| {
            match row.and_then(|row| decode(engine, key, &row.value)) {
                Ok((partition, position)) => {
                    positions.insert(partition, position);
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    read = Err(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        read.map(|()| positions)
    }

    /// Takes over a partition: the epoch grows by one, and commits of earlier owners are refused (I8). Returns where to go
    /// on.
    ///
    /// # Errors
    ///
    /// As [`Store::claim`].
    pub fn own(&self, partition: u32) -> Result<Owner> {
        let owned = self.take_over(partition, |stored| stored.checked_add(1))?;
        owned.ok_or_else(|| {
            Error::invalid(
                "the epochs of this partition are used up: `own_as` took the highest one",
            )
        })
    }

    /// Takes over a partition in the name of an epoch that somebody else gives, such as the generation of a consumer group.
    /// Returns `None` if a later one owns it already. The same epoch may come again, as after a restart.
    ///
    /// # Errors
    ///
    /// As [`Store::claim`], and [`FixCall`](crate::ErrorKind::FixCall) for epoch zero.
    pub fn own_as(&self, partition: u32, epoch: u64) -> Result<Option<Owner>> {
        if epoch == 0 {
            return Err(Error::invalid("an owner with epoch zero: epochs begin with one"));
        }
        self.take_over(partition, |stored| (stored <= epoch).then_some(epoch))
    }

    fn take_over(
        &self,
        partition: u32,
        epoch: impl Fn(u64) -> Option<u64>,
    ) -> Result<Option<Owner>> {
        for _ in 0..limits::RACES_MAX {
            let place = (self.ns(), partition);
            let before = self.read(place, self.durability())?;
            let position = before.map(|(position, _)| position).unwrap_or_default();
            let Some(epoch) = epoch(position.epoch) else { return Ok(None) };
            let Position { next, .. } = position;
            let row = row(place, Position { next, epoch }, expectation(before))?;
            let mut bells = Bells::default();
            let row = [row.as_write()];
            match self.engine().commit_rows(&row, self.durability(), &mut bells)? {
                Committed::Done(_) => {
                    let (source, (ns, _)) = (self.clone(), place);
                    return Ok(Some(Owner { source, partition, epoch, next, ns }));
                }
                Committed::Moved(_) => {}
            }
        }
        Err(Error::Timeout { what: "an offset that others change again and again" })
    }

    /// Reads a position, and the sequence of its row. A commit that rests on it makes it as safe as itself.
    fn read(
        &self,
        (ns, partition): (NsId, u32),
        durability: Durability,
    ) -> Result<Option<(Position, u64)>> {
        let id = partition.to_be_bytes();
        let key = Engine::row_key(Family::OFFSETS, ns, &id)?;
        let Some(row) = self.engine().get_row(key, durability)? else { return Ok(None) };
        let (_, position) = decode(self.engine(), key, &row.value)?;
        Ok(Some((position, row.sequence)))
    }

    pub(crate) fn ns(&self) -> NsId {
        self.info.id()
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    fn engine(&self) -> &Engine {
        self.store.engine()
    }

    fn durability(&self) -> Durability {
        self.engine().settings().durability
    }
}

impl Owner {
    /// Returns the partition.
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// Returns the source.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Returns the epoch, which is higher than that of every owner before, and counts inside a replay scope on its own.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(crate) fn ns(&self) -> NsId {
        self.ns
    }

    /// Returns the next offset to read, as it was when the partition was taken over.
    pub fn next(&self) -> u64 {
        self.next
    }
}

fn expectation(before: Option<(Position, u64)>) -> Expect {
    before.map_or(Expect::Absent, |(_, sequence)| Expect::Sequence(sequence))
}

fn row((ns, partition): (NsId, u32), position: Position, expect: Expect) -> Result<OwnedRow> {
    let id = partition.to_be_bytes();
    let Key { ns, id } = Engine::row_key(Family::OFFSETS, ns, &id)?;
    let (id, change) = (id.to_vec(), RowChange::Put(encode(position)));
    Ok(OwnedRow { ns, id, change, ttl: Ttl::FOREVER, expect, is_quiet: false })
}

/// An offset that is to be committed with others.
#[derive(Debug, Clone)]
pub(crate) struct PlannedOffset {
    pub(crate) source: Source,
    pub(crate) partition: u32,
    pub(crate) next: u64,
    /// The epoch in whose name it is committed; zero for none.
    pub(crate) epoch: u64,
    /// What the source was when this was planned. If a promotion replaces it before the commit, that is refused.
    pub(crate) ns: NsId,
    /// What the source was when its owner took it over; `None` if it has none.
    pub(crate) owned_in: Option<NsId>,
}

/// Why an offset cannot be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OffsetRefused {
    /// It would move back.
    Back(Position),
    /// Another owner has the partition.
    Fenced(Position),
}

impl PlannedOffset {
    /// Decides what to write: the row expects what the decision rests on. What is stored may not be as safe yet as the
    /// commit will be.
    pub(crate) fn decide(&self) -> Result<std::result::Result<OwnedRow, OffsetRefused>> {
        let place = (self.ns, self.partition);
        let before = self.source.read(place, Durability::Buffered)?;
        let stored = before.map(|(position, _)| position).unwrap_or_default();
        let is_of_another_world = self.owned_in.is_some_and(|ns| ns != place.0);
        if is_of_another_world || stored.epoch != self.epoch {
            return Ok(Err(OffsetRefused::Fenced(stored)));
        }
        if self.next < stored.next {
            return Ok(Err(OffsetRefused::Back(stored)));
        }
        let position = Position { next: self.next, epoch: self.epoch };
        row(place, position, expectation(before)).map(Ok)
    }
}

const FORMAT: u8 = 1;

fn encode(Position { next, epoch }: Position) -> Vec<u8> {
    let mut out = vec![FORMAT];
    put_varint(&mut out, next);
    put_varint(&mut out, epoch);
    out
}

fn decode(engine: &Engine, key: Key<'_>, bytes: &[u8]) -> Result<(u32, Position)> {
    let taken =
        stored(bytes, FORMAT).and_then(|mut r| take(key.id, &mut r).ok_or(Undecodable::Damaged));
    taken.map_err(|why| why.error(engine.dir(), FORMAT, "a stored offset cannot be decoded"))
}

fn take(id: &[u8], r: &mut Reader<'_>) -> Option<(u32, Position)> {
    let partition = u32::from_be_bytes(id.try_into().ok()?);
    let position = Position { next: r.varint()?, epoch: r.varint()? };
    r.is_empty().then_some((partition, position))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_comes_back_and_half_of_it_is_an_error() {
        let position = Position { next: 1 << 40, epoch: 300 };
        let (id, bytes) = (7u32.to_be_bytes(), encode(position));
        let take = |id: &[u8], bytes: &[u8]| {
            stored(bytes, FORMAT).ok().and_then(|mut r| super::take(id, &mut r))
        };
        assert_eq!(take(&id, &bytes), Some((7, position)));
        for len in 0..bytes.len() {
            assert_eq!(take(&id, &bytes[..len]), None);
        }
        assert_eq!(take(&id[1..], &bytes), None);
    }
}
