//! Two-phase commit, as a participant: a coordinator prepares a transaction here and elsewhere, and then commits all of
//! them, or rolls all back.
//!
//! What is prepared holds its ids and rows until then: nobody else can claim or write them, whoever tries hears that they
//! are in doubt. The store never ends a prepared transaction itself.

use crate::engine::{
    Bells, ClaimWrite, Durability, Engine, Expect, Intent, OwnedRow, Phase, Prepared,
    PreparedState, RowChange, RowWrite, SetCommitted, WriteSet,
};
use crate::error::{Error, Result};
use crate::id::{Family, NsId};
use crate::limits;
use crate::outbox::Admission;
use crate::store::Store;
use crate::time::{Timestamp, Ttl};
use crate::transaction::collect::Transaction;
use crate::transaction::commit::Goal;
use crate::transaction::outcome::CommitOutcome;
use std::ops::ControlFlow;
use std::time::Duration;

/// A transaction that is prepared, and neither committed nor rolled back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreparedTransaction {
    /// The name that its coordinator gave it.
    pub gid: Vec<u8>,
    /// When it was prepared.
    pub since: Timestamp,
    /// For how long it has been.
    pub age: Duration,
    /// How many ids it will claim.
    pub claims: usize,
    /// How many rows it will write.
    pub rows: usize,
}

/// The answer to [`Store::commit_prepared`] and [`Store::rollback_prepared`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndOutcome {
    /// Done by this call.
    Done,
    /// Done by a call before.
    AlreadyDone,
    /// It has ended the other way; nothing was changed.
    EndedOtherwise,
    /// No transaction of this name is known: it was never prepared, or it ended longer ago than a week.
    Unknown,
}

impl Transaction {
    /// Prepares it under a name that its coordinator chooses, of 1 to 1,024 bytes: everything is checked and held, and
    /// nothing else is written. It is on disk when this returns, whatever the durability of the store or of this
    /// transaction.
    ///
    /// `Committed` means prepared. Attempts that it ends have had their last word; after a rollback their leases decide.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit). All of it must fit into one value: 4 MiB.
    pub fn prepare(&self, gid: impl AsRef<[u8]>) -> Result<CommitOutcome> {
        self.run(Goal::Prepare(gid.as_ref()))
    }
}

impl Store {
    /// Lists the transactions that are prepared, and neither committed nor rolled back, the oldest first: as they were at
    /// one moment, and on disk, so that a coordinator can decide by it.
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    pub fn prepared(&self) -> Result<Vec<PreparedTransaction>> {
        let (engine, mut all) = (self.engine(), Vec::new());
        let (now, ns) = (engine.moment().now, NsId::default().rows(Family::PREPARED));
        let mut read = Ok(());
        engine.scan_rows(ns, Durability::Disk, |key, row| {
            let decoded = row.and_then(|row| Prepared::decode(engine.dir(), key.id, &row.value));
            match decoded {
                Ok(Prepared { state: PreparedState::InDoubt, since, intent }) => {
                    let (gid, claims, rows) =
                        (key.id.to_vec(), intent.claims.len(), intent.rows.len());
                    let age = now.as_millis().saturating_sub(since.as_millis());
                    let age = Duration::from_millis(age);
                    all.push(PreparedTransaction { gid, since, age, claims, rows });
                    ControlFlow::Continue(())
                }
                Ok(_) => ControlFlow::Continue(()),
                Err(error) => {
                    read = Err(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        read?;
        all.sort_by(|a, b| (a.since, &a.gid).cmp(&(b.since, &b.gid)));
        Ok(all)
    }

    /// Returns how far a transaction of two phases has come; `None` if no transaction of this name is known. How it ended
    /// is known for a week.
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    pub fn prepared_state(&self, gid: impl AsRef<[u8]>) -> Result<Option<PreparedState>> {
        Ok(self.read_prepared(gid.as_ref())?.map(|(prepared, _)| prepared.state))
    }

    /// Commits a prepared transaction: all of it, on disk. May be repeated.
    ///
    /// # Errors
    ///
    /// As [`Store::claim`].
    pub fn commit_prepared(&self, gid: impl AsRef<[u8]>) -> Result<EndOutcome> {
        self.end_prepared(gid.as_ref(), PreparedState::Committed)
    }

    /// Rolls a prepared transaction back: nothing of it happens. May be repeated.
    ///
    /// # Errors
    ///
    /// As [`Store::claim`].
    pub fn rollback_prepared(&self, gid: impl AsRef<[u8]>) -> Result<EndOutcome> {
        self.end_prepared(gid.as_ref(), PreparedState::RolledBack)
    }

    fn read_prepared(&self, gid: &[u8]) -> Result<Option<(Prepared, u64)>> {
        let engine = self.engine();
        let key = Engine::row_key(Family::PREPARED, NsId::default(), gid)?;
        let Some(row) = engine.get_row(key, Durability::Disk)? else { return Ok(None) };
        Ok(Some((Prepared::decode(engine.dir(), gid, &row.value)?, row.sequence)))
    }

    fn end_prepared(&self, gid: &[u8], end: PreparedState) -> Result<EndOutcome> {
        loop {
            let Some((Prepared { state, since, intent }, sequence)) = self.read_prepared(gid)?
            else {
                return Ok(EndOutcome::Unknown);
            };
            if state != PreparedState::InDoubt {
                let is_same = state == end;
                return Ok(if is_same {
                    EndOutcome::AlreadyDone
                } else {
                    EndOutcome::EndedOtherwise
                });
            }
            let ended = Prepared { state: end, since, intent: Intent::default() }.encode();
            let row = RowWrite {
                key: Engine::row_key(Family::PREPARED, NsId::default(), gid)?,
                change: RowChange::Put(&ended),
                ttl: Ttl::from_millis(limits::PREPARED_KEPT_MS),
                expect: Expect::Sequence(sequence),
                is_quiet: true,
            };
            if self.write_end(&intent, row, sequence, end)? {
                self.engine().release_prepared(&intent, sequence);
                return Ok(EndOutcome::Done);
            }
        }
    }

    /// Writes the end of a transaction. Returns whether it was this call that ended it.
    fn write_end(
        &self,
        intent: &Intent,
        row: RowWrite<'_>,
        prepared: u64,
        end: PreparedState,
    ) -> Result<bool> {
        let engine = self.engine();
        // Of what is rolled back, nothing is written but that it was.
        let nothing = Intent::default();
        let intent = if end == PreparedState::Committed { intent } else { &nothing };
        let namespaces = engine.namespaces().by_number();
        let claims = intent.claims.iter().map(|claim| {
            let ns = namespaces
                .get(&claim.ns.listed())
                .ok_or_else(|| Error::bug("a prepared claim of a namespace that is not there"))?;
            Ok(ClaimWrite { ns, key: claim.key(), ttl: claim.ttl })
        });
        let claims: Vec<ClaimWrite<'_>> = claims.collect::<Result<_>>()?;
        let rows: Vec<RowWrite<'_>> = intent.rows.iter().map(OwnedRow::as_write).collect();
        let phase = Phase::Finish { row, prepared };
        let set = WriteSet { claims: &claims, rows: &rows, asked: &[], phase };
        let admission = Admission::without_bound(self, &intent.rows)?;
        match engine.commit(set, Durability::Disk, &mut Bells::default())? {
            SetCommitted::Done(_) => {
                admission.made();
                Ok(true)
            }
            // Somebody else has ended it meanwhile: its row comes last.
            SetCommitted::Refused(refusals)
                if refusals.moved.iter().any(|(n, _)| *n == set.rows.len()) =>
            {
                Ok(false)
            }
            _ => Err(Error::bug("what a prepared transaction holds has moved")),
        }
    }
}
