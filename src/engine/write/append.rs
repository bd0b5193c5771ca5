//! Appending claims: their record goes to the log, and their versions into the memtables.
//!
//! The invariant (I1, I6, I7): a record is in the log before anybody can find its claims or gets an answer that depends
//! on them, and a refused append leaves nothing behind. The locks of the shards are held from the lookup until both are
//! done.
//!
//! One id is entered after its record. The ids of a set are entered ahead of it, so that copies within the set are found.
//! Nobody sees them in between, because the locks of all their shards are held.

use crate::engine::write::lock_set::{LockSet, Member};
use crate::error::Result;
use crate::expiry::Version;
use crate::id::{IdHash, Key};
use crate::memtable::EntryOffset;
use crate::shard::{Known, Shard};
use crate::time::{Timestamp, Ttl};
use crate::wal::{AppendLevel, Log, Lsn};

/// Placeholder location of a version whose record is not yet written.
const PENDING: Lsn = Lsn(u64::MAX);

/// How a call appends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Append<'a> {
    pub(super) log: &'a Log,
    pub(super) level: AppendLevel,
    pub(super) now: Timestamp,
}

impl Append<'_> {
    /// Appends a version and enters it. With a ttl it is a claim, written in short form if possible. `known` is the
    /// result of a lookup just made.
    #[inline]
    pub(super) fn one(
        self,
        shard: &mut Shard,
        key: Key<'_>,
        hash: IdHash,
        version: Version,
        ttl: Option<Ttl>,
        known: Option<Known>,
    ) -> Result<Lsn> {
        let lsn = match ttl {
            Some(ttl) => self.log.append_claim(self.level, self.now, ttl, key, version)?,
            None => {
                let one = std::iter::once((key, version));
                self.log.append_versions(self.level, version.generation(), one)?
            }
        };
        shard.put(key, hash, version, lsn, known);
        Ok(lsn)
    }

    /// Appends the versions of a set as one record, and gives each its location. On error none of them exists.
    pub(super) fn all(
        self,
        pending: &mut Pending<'_>,
        locked: &mut LockSet<'_>,
        ttl: Ttl,
    ) -> Result<Lsn> {
        let versions = pending.entered.iter();
        let versions = versions.map(|entered| (entered.member.key, entered.version));
        let mut lsns = Vec::new();
        let lsn = match self.log.append_claims(self.level, self.now, ttl, versions, &mut lsns) {
            Ok(lsn) => lsn,
            Err(e) => {
                pending.undo(locked);
                return Err(e);
            }
        };
        for (entered, lsn) in pending.entered.drain(..).zip(lsns) {
            let memtable = &mut locked.shard(entered.member.shard).memtable;
            memtable.put_at(entered.offset, entered.version, lsn);
        }
        Ok(lsn)
    }
}

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
        let offset = shard.put(member.key, member.hash, version, PENDING, known);
        self.entered.push(Entered { member, offset, version, known });
    }

    /// Takes out what was entered, and puts back what it had replaced in the memtable.
    pub(super) fn undo(&mut self, locked: &mut LockSet<'_>) {
        for Entered { member, offset, known, .. } in self.entered.drain(..).rev() {
            let memtable = &mut locked.shard(member.shard).memtable;
            match known {
                Some(known) if known.in_memtable => {
                    memtable.put_at(offset, known.version, known.lsn.unwrap_or_default());
                }
                _ => memtable.remove(member.key, member.hash),
            }
        }
    }
}
