//! Entering the ids of a set ahead of their record, so that copies within the set are found.
//!
//! Nobody sees them in between, because the locks of all their shards are held from the lookup until the record is in the
//! log (I1, I6). A refused append leaves nothing behind (I7).

use crate::engine::write::lock_set::{LockSet, Member};
use crate::error::Result;
use crate::expiry::Version;
use crate::memtable::EntryOffset;
use crate::shard::{Known, Shard};
use crate::time::{Timestamp, Ttl};
use crate::wal::{AppendLevel, Log, Lsn};

/// Placeholder location of a version whose record is not yet written. A copy of its id within the set rests on this;
/// `Decided::append` replaces it by the location of the record.
const PENDING: Lsn = Lsn(u64::MAX);

/// Versions of a set that are entered and not yet in the log.
#[derive(Debug, Default)]
pub(super) struct Pending<'a> {
    entered: Vec<Entered<'a>>,
}

#[derive(Debug)]
struct Entered<'a> {
    member: Member<'a>,
    offset: EntryOffset,
    version: Version,
    /// What it replaces.
    known: Option<Known>,
}

impl<'a> Pending<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.entered.is_empty()
    }

    /// Enters a version ahead of its record. `known` is the result of a lookup just made.
    #[inline]
    pub(super) fn enter(
        &mut self,
        shard: &mut Shard,
        member: Member<'a>,
        version: Version,
        known: Option<Known>,
    ) {
        let offset = shard.enter(member.key, member.hash, version, PENDING, known);
        self.entered.push(Entered { member, offset, version, known });
    }

    /// Appends the versions as one record, and gives each its location. On error none of them exists.
    pub(super) fn append(
        &mut self,
        log: &Log,
        level: AppendLevel,
        now: Timestamp,
        ttl: Ttl,
        locked: &mut LockSet<'_>,
    ) -> Result<Lsn> {
        let versions = self.entered.iter();
        let versions = versions.map(|entered| (entered.member.key, entered.version));
        let mut lsns = Vec::new();
        let lsn = match log.append_claims(level, now, ttl, versions, &mut lsns) {
            Ok(lsn) => lsn,
            Err(e) => {
                self.undo(locked);
                return Err(e);
            }
        };
        for (entered, lsn) in self.entered.drain(..).zip(lsns) {
            let memtable = &mut locked.shard(entered.member.shard).memtable;
            memtable.put_at(entered.offset, entered.version, lsn);
        }
        Ok(lsn)
    }

    /// Takes out what was entered, and puts back what it had replaced in the memtable.
    pub(super) fn undo(&mut self, locked: &mut LockSet<'_>) {
        // Backwards, so that an id which was entered twice gets its first version back.
        for Entered { member, offset, known, .. } in self.entered.drain(..).rev() {
            let memtable = &mut locked.shard(member.shard).memtable;
            match known {
                Some(known) if known.in_memtable => {
                    let lsn = known.lsn.expect("an entry in a memtable has a location");
                    memtable.put_at(offset, known.version, lsn);
                }
                _ => memtable.remove(member.key, member.hash),
            }
        }
    }
}
