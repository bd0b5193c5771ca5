//! Moves of ledgers as part of a transaction.

use crate::engine::{Durability, Engine, OwnedRow};
use crate::error::{Error, Result};
use crate::ledger::attempt::{Attempt, Inside, Work};
use crate::ledger::changes::{self, Change, Now, Outcome};
use crate::ledger::ending::Ending;
use crate::ledger::error::{AttemptError, Failure};
use crate::ledger::handle::Ledger;
use crate::ledger::moves::Move;
use crate::ledger::quiet::QuietGuard;
use crate::ledger::record::Record;
use crate::ledger::rows::{Found, check_id};
use crate::sync::Arc;
use crate::time::Ttl;
use std::collections::BTreeMap;

/// A move of a ledger that is to be committed with others.
#[derive(Debug)]
pub(crate) struct JoinedMove(Kind);

#[derive(Debug)]
enum Kind {
    /// An attempt ends.
    End { work: Arc<Work>, ending: Ending },
    /// An operator changes a record.
    Operate { ledger: Ledger, id: Vec<u8>, operation: Operation },
}

/// What an operator does to a record.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Settle { bytes: Vec<u8>, is_encoded: bool, ttl: Ttl, reason: String },
    Redrive { fresh: bool },
    Cancel { reason: String },
    Purge,
}

/// Why a move was not made.
#[derive(Debug)]
pub(crate) enum MoveRefused {
    Attempt(AttemptError),
    /// The record, as it is, does not allow it; `None` if there is none.
    Record(Option<Box<Record>>),
}

impl Attempt {
    pub(crate) fn complete_joined(&self, bytes: Vec<u8>, is_encoded: bool) -> JoinedMove {
        let ttl = self.work.ledger.result_ttl();
        let ending = Ending::Complete { bytes, is_encoded, ttl, failure: None };
        JoinedMove(Kind::End { work: Arc::clone(&self.work), ending })
    }

    /// # Errors
    ///
    /// As [`fail`](Self::fail), if the failure is one of the attempt itself.
    pub(crate) fn fail_joined(
        &self,
        failure: Failure,
    ) -> std::result::Result<JoinedMove, AttemptError> {
        let ending =
            self.work.ending_of(failure).inspect_err(|_| self.work.inside.lock().doubt())?;
        Ok(JoinedMove(Kind::End { work: Arc::clone(&self.work), ending }))
    }

    pub(crate) fn release_joined(&self) -> JoinedMove {
        JoinedMove(Kind::End { work: Arc::clone(&self.work), ending: Ending::Release })
    }
}

impl Ledger {
    pub(crate) fn operate_joined(&self, id: &[u8], operation: Operation) -> JoinedMove {
        JoinedMove(Kind::Operate { ledger: self.clone(), id: id.to_vec(), operation })
    }

    pub(crate) fn settle_joined(
        &self,
        id: &[u8],
        bytes: Vec<u8>,
        is_encoded: bool,
        reason: &str,
    ) -> JoinedMove {
        let (ttl, reason) = (self.result_ttl(), reason.to_owned());
        self.operate_joined(id, Operation::Settle { bytes, is_encoded, ttl, reason })
    }
}

impl JoinedMove {
    /// Returns the id of its record.
    pub(crate) fn id(&self) -> &[u8] {
        match &self.0 {
            Kind::End { work, .. } => work.id(),
            Kind::Operate { id, .. } => id,
        }
    }

    /// Checks what does not depend on the record. After an error nobody knows whether the effect of an attempt has
    /// happened, so dropping the attempt writes nothing.
    pub(crate) fn check(&self) -> std::result::Result<(), AttemptError> {
        let Kind::End { work, ending } = &self.0 else { return Ok(()) };
        let checked = ending.check(&work.ledger.inner.options);
        checked.inspect_err(|_| work.inside.lock().doubt())
    }

    /// Returns the name of its ledger.
    pub(crate) fn ledger_name(&self) -> &str {
        self.ledger().name()
    }

    fn ledger(&self) -> &Ledger {
        match &self.0 {
            Kind::End { work, .. } => &work.ledger,
            Kind::Operate { ledger, .. } => ledger,
        }
    }
}

impl Operation {
    fn step(&self) -> Move {
        match self {
            Self::Settle { .. } => Move::Settle,
            Self::Redrive { .. } => Move::Redrive,
            Self::Cancel { .. } => Move::Cancel,
            Self::Purge => Move::Purge,
        }
    }

    fn change(&self, record: Record, now: Now, ledger: &Ledger) -> Change {
        match self {
            Self::Settle { bytes, is_encoded, ttl, reason } => {
                let outcome = Outcome { bytes, is_encoded: *is_encoded, ttl: *ttl };
                changes::settle(record, now, outcome, reason)
            }
            Self::Redrive { fresh } => changes::redrive(record, now, *fresh),
            Self::Cancel { reason } => changes::cancel(record, now, &ledger.inner.options, reason),
            Self::Purge => changes::purge(),
        }
    }
}

/// A move with the lock of its attempt, if it is of one: nobody renews the lease meanwhile.
enum Party<'a> {
    End { work: &'a Work, ending: &'a Ending, inside: QuietGuard<'a, Inside> },
    Operate { ledger: &'a Ledger, id: &'a [u8], operation: &'a Operation },
}

/// A move as it is to be made, and the rows of it.
struct Prepared {
    change: Change,
    now: Now,
    rows: Vec<OwnedRow>,
}

/// The moves of one commit, with the locks of their attempts: nobody renews a lease meanwhile.
pub(crate) struct LockedMoves<'a> {
    /// In order of their tokens, each with its index among the moves.
    parties: Vec<(usize, Party<'a>)>,
    prepared: Vec<Prepared>,
}

impl<'a> LockedMoves<'a> {
    /// Locks all attempts, in order of their tokens, so that two commits cannot deadlock.
    pub(crate) fn lock(engine: &Engine, moves: &[&'a JoinedMove]) -> Result<Self> {
        if !moves.iter().all(|joined| std::ptr::eq(joined.ledger().inner.store.engine(), engine)) {
            return Err(Error::invalid("a transaction with a ledger of another store"));
        }
        let mut records: Vec<_> =
            moves.iter().map(|joined| (joined.ledger().inner.info.id(), joined.id())).collect();
        records.sort_unstable();
        if records.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Error::invalid("a transaction changes the same record of a ledger twice"));
        }
        let token = |n: &usize| match &moves[*n].0 {
            Kind::End { work, .. } => work.token(),
            Kind::Operate { .. } => 0,
        };
        let mut order: Vec<usize> = (0..moves.len()).collect();
        order.sort_by_key(token);
        let parties = order.into_iter().map(|n| Ok((n, moves[n].party()?)));
        Ok(Self { parties: parties.collect::<Result<_>>()?, prepared: Vec::new() })
    }

    /// Decides what to write. Returns the moves that cannot be made: all of them, and why.
    pub(crate) fn decide(&mut self) -> Result<Vec<(usize, MoveRefused)>> {
        self.prepared.clear();
        let mut refused = BTreeMap::new();
        for (n, party) in &mut self.parties {
            match party.prepare()? {
                Ok(ready) => self.prepared.push(ready),
                Err(why) => _ = refused.insert(*n, why),
            }
        }
        if !refused.is_empty() {
            // All reasons at once: what was not looked at just now is.
            for (n, party) in &mut self.parties {
                if !refused.contains_key(n) {
                    refused.extend(party.refresh()?.map(|why| (*n, why)));
                }
            }
        }
        Ok(refused.into_iter().collect())
    }

    /// Returns the rows of what was decided.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &OwnedRow> {
        self.prepared.iter().flat_map(|ready| &ready.rows)
    }

    /// Notes that the rows were written, with these sequences.
    pub(crate) fn made(&mut self, sequences: &[Option<u64>]) {
        let mut at = 0;
        for ((_, party), ready) in self.parties.iter_mut().zip(&self.prepared) {
            party.made(ready, sequences.get(at).copied().flatten().unwrap_or_default());
            at += ready.rows.len();
        }
    }

    /// Notes that nobody knows whether the rows were written.
    pub(crate) fn doubt(&mut self) {
        self.parties.iter_mut().for_each(|(_, party)| party.doubt());
    }

    /// Reads the records of attempts again. Returns those that cannot end as they were to, and why.
    pub(crate) fn refresh(&mut self) -> Result<Vec<(usize, MoveRefused)>> {
        let mut refused = Vec::new();
        for (n, party) in &mut self.parties {
            refused.extend(party.refresh()?.map(|why| (*n, why)));
        }
        refused.sort_by_key(|(n, _)| *n);
        Ok(refused)
    }
}

impl JoinedMove {
    /// Returns the durability that its ledger asks for.
    pub(crate) fn durability(&self) -> Durability {
        self.ledger().rows().durability
    }

    fn party(&self) -> Result<Party<'_>> {
        Ok(match &self.0 {
            Kind::End { work, ending } => {
                ending.check(&work.ledger.inner.options).map_err(into_error)?;
                Party::End { work, ending, inside: work.inside.lock() }
            }
            Kind::Operate { ledger, id, operation } => {
                check_id(id)?;
                if let Operation::Settle { bytes, .. } = operation {
                    ledger.check_result(bytes)?;
                }
                Party::Operate { ledger, id, operation }
            }
        })
    }
}

fn into_error(error: AttemptError) -> Error {
    match error {
        AttemptError::Store(error) => error,
        other => Error::invalid(other.to_string()),
    }
}

impl Party<'_> {
    /// Decides what to write, or why nothing can be.
    fn prepare(&mut self) -> Result<std::result::Result<Prepared, MoveRefused>> {
        match self {
            Self::End { work, ending, inside } => {
                let (rows, now) = (work.ledger.rows(), work.ledger.now());
                let policies = &work.ledger.inner.options;
                let step = |record: &Record| ending.step(record, policies);
                let decided = work
                    .decide(inside, now, step, |record, now| ending.change(record, now, policies));
                let change = match decided {
                    Ok(change) => change,
                    Err(AttemptError::Store(error)) => return Err(error),
                    Err(error) => return Ok(Err(MoveRefused::Attempt(error))),
                };
                let rows =
                    rows.rows_of(work.id(), Some(&inside.found), &change, None, now.at.now)?;
                Ok(Ok(Prepared { change, now, rows }))
            }
            Self::Operate { ledger, id, operation } => {
                let (rows, now, step) = (ledger.rows(), ledger.now(), operation.step());
                let Some(found) = rows.read(id)? else { return Ok(Err(MoveRefused::Record(None))) };
                let change = |record| Some(operation.change(record, now, ledger));
                let Some(change) = found.moved(step, now, change) else {
                    return Ok(Err(MoveRefused::Record(Some(found.record.into()))));
                };
                let rows = rows.rows_of(id, Some(&found), &change, None, now.at.now)?;
                Ok(Ok(Prepared { change, now, rows }))
            }
        }
    }

    fn made(&mut self, ready: &Prepared, sequence: u64) {
        if let Self::End { work, inside, .. } = self {
            inside.found = Found::after(work.id(), &ready.change, ready.now.at.now, sequence);
            inside.finish();
        }
    }

    /// Notes that nobody knows whether the commit was made.
    fn doubt(&mut self) {
        if let Self::End { inside, .. } = self {
            inside.doubt();
        }
    }

    /// Reads the record of an attempt again. Returns why it cannot end it any more.
    fn refresh(&mut self) -> Result<Option<MoveRefused>> {
        let Self::End { work, inside, .. } = self else { return Ok(None) };
        match work.refresh(inside) {
            Ok(()) => Ok(None),
            Err(AttemptError::Store(error)) => Err(error),
            Err(error) => Ok(Some(MoveRefused::Attempt(error))),
        }
    }
}
