//! Moves of ledgers as part of a transaction.

use crate::codec::{put_bytes, put_varint};
use crate::engine::{Durability, Engine, OwnedRow};
use crate::error::{Error, Result};
use crate::ledger::attempt::Attempt;
use crate::ledger::begin::{Begin, Decided};
use crate::ledger::changes::{self, Change, Now, Outcome};
use crate::ledger::ending::Ending;
use crate::ledger::error::{AttemptError, Failure};
use crate::ledger::handle::Ledger;
use crate::ledger::moves::{Move, Phase};
use crate::ledger::options::{BeginOptions, check_lease};
use crate::ledger::quiet::QuietGuard;
use crate::ledger::record::Record;
use crate::ledger::rows::{Found, StageWrite, check_id};
use crate::ledger::stage::ToSave;
use crate::ledger::work::{Inside, Unanswered, Work};
use crate::sync::Arc;
use crate::time::Ttl;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::time::Duration;

/// A move of a ledger that is to be committed with others.
#[derive(Debug)]
pub(crate) struct JoinedMove(Kind);

#[derive(Debug)]
enum Kind {
    Attempt {
        work: Arc<Work>,
        step: Step,
    },
    /// An operator changes a record.
    Operate {
        ledger: Ledger,
        id: Vec<u8>,
        operation: Operation,
        /// How often the record was redriven when the ids of messages were drawn from it. It is refused if that has changed:
        /// they would be those of other messages.
        redrives: Option<u32>,
    },
    /// An attempt starts.
    Begin {
        ledger: Ledger,
        id: Vec<u8>,
        options: Box<BeginOptions>,
    },
}

/// What an attempt does.
#[derive(Debug)]
enum Step {
    End(Ending),
    /// It renews its lease, to its length or to another in milliseconds.
    Renew(Option<u64>),
    Save(ToSave),
}

/// What an operator does to a record.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Settle {
        bytes: Vec<u8>,
        is_encoded: bool,
        ttl: Ttl,
        reason: String,
    },
    Redrive {
        fresh: bool,
    },
    Cancel {
        reason: String,
    },
    Purge,
    /// Also while an attempt works on it.
    Forget,
}

/// Why a move was not made.
#[derive(Debug)]
pub(crate) enum MoveRefused {
    Attempt(AttemptError),
    /// The record, as it is, does not allow it; `None` if there is none.
    Record(Option<Box<Record>>),
    /// No attempt starts; this is the answer of a call of [`Ledger::begin`].
    Begin(Begin),
}

impl Attempt {
    pub(crate) fn complete_joined(&self, bytes: Vec<u8>) -> JoinedMove {
        self.joined(Step::End(self.work.completion(bytes, false)))
    }

    /// # Errors
    ///
    /// As [`complete_value`](Self::complete_value), for a result that cannot be encoded.
    pub(crate) fn complete_value_joined<T: Serialize>(
        &self,
        result: &T,
    ) -> std::result::Result<JoinedMove, AttemptError> {
        Ok(self.joined(Step::End(self.ending_with(result)?)))
    }

    /// # Errors
    ///
    /// As [`fail`](Self::fail), if the failure is one of the attempt itself.
    pub(crate) fn fail_joined(
        &self,
        failure: Failure,
    ) -> std::result::Result<JoinedMove, AttemptError> {
        Ok(self.joined(Step::End(self.ending_of(failure)?)))
    }

    pub(crate) fn release_joined(&self) -> JoinedMove {
        self.joined(Step::End(Ending::Release))
    }

    pub(crate) fn renew_joined(&self) -> JoinedMove {
        self.joined(Step::Renew(None))
    }

    /// # Errors
    ///
    /// As [`renew_for`](Self::renew_for), for a lease of nothing.
    pub(crate) fn renew_for_joined(
        &self,
        lease: Duration,
    ) -> std::result::Result<JoinedMove, AttemptError> {
        Ok(self.joined(Step::Renew(Some(check_lease(lease)?))))
    }

    /// # Errors
    ///
    /// As [`stage`](Self::stage), for a name or a result that cannot be stored.
    pub(crate) fn stage_joined<T: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        result: &T,
    ) -> std::result::Result<JoinedMove, AttemptError> {
        Ok(self.joined(Step::Save(ToSave::result(self.id(), name, result)?)))
    }

    /// # Errors
    ///
    /// As [`stage`](Self::stage), for a name or a position that cannot be stored.
    pub(crate) fn cursor_joined<P: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        position: &P,
    ) -> std::result::Result<JoinedMove, AttemptError> {
        Ok(self.joined(Step::Save(ToSave::position(self.id(), name, position)?)))
    }

    fn joined(&self, step: Step) -> JoinedMove {
        JoinedMove(Kind::Attempt { work: Arc::clone(&self.work), step })
    }
}

impl Ledger {
    pub(crate) fn begin_joined(&self, id: &[u8], options: BeginOptions) -> JoinedMove {
        let options = Box::new(options);
        JoinedMove(Kind::Begin { ledger: self.clone(), id: id.to_vec(), options })
    }

    pub(crate) fn operate_joined(&self, id: &[u8], operation: Operation) -> JoinedMove {
        let (ledger, id, redrives) = (self.clone(), id.to_vec(), None);
        JoinedMove(Kind::Operate { ledger, id, operation, redrives })
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
            Kind::Attempt { work, .. } => work.id(),
            Kind::Operate { id, .. } | Kind::Begin { id, .. } => id,
        }
    }

    /// Returns whether the ids of messages that are emitted with it follow from it, and not from what was collected before
    /// it.
    pub(crate) fn is_event(&self) -> bool {
        // The messages of these belong to what has caused them.
        !matches!(&self.0, Kind::Attempt { step: Step::Renew(_), .. } | Kind::Begin { .. })
    }

    /// Returns what the ids of messages follow from that are emitted with it: what it makes of the record, and what tells
    /// that from the same at another time. No clock and no token: whoever processes the same again, here or elsewhere, emits
    /// messages of the same ids.
    ///
    /// # Errors
    ///
    /// As [`Ledger::get`], for what an operator does.
    pub(crate) fn event(&mut self) -> Result<(&'static str, Vec<u8>)> {
        let (kind, mut event, number) = match &mut self.0 {
            // As much as tells it from the other stages of the id.
            Kind::Attempt { work, step: Step::Save(stage) } => {
                ("stage", stage.event.clone(), work.inside.lock().found.record.redrives)
            }
            Kind::Attempt { work, step } => {
                let record = &work.inside.lock().found.record;
                let (kind, number) = match step {
                    Step::End(ending) => ending.event(record, work.token()),
                    Step::Renew(_) | Step::Save(_) => ("renewed", 0),
                };
                (kind, event_of(work.id()), number)
            }
            Kind::Begin { id, .. } => ("begun", event_of(id), 0),
            Kind::Operate { ledger, id, operation, redrives } => {
                let number = match *redrives {
                    Some(number) => number,
                    None => {
                        check_id(id)?;
                        let (found, _) = ledger.rows().look(id)?;
                        *redrives.insert(found.map_or(0, |found| found.record.redrives))
                    }
                };
                (operation.event(), event_of(id), number)
            }
        };
        put_varint(&mut event, number.into());
        Ok((kind, event))
    }

    /// Returns whether it may be prepared, and made at a time that somebody else chooses.
    pub(crate) fn can_be_prepared(&self) -> bool {
        matches!(&self.0, Kind::Operate { .. } | Kind::Attempt { step: Step::End(_), .. })
    }

    pub(crate) fn is_begin(&self) -> bool {
        matches!(&self.0, Kind::Begin { .. })
    }

    /// Checks what does not depend on the record. After an error its attempt is in doubt.
    pub(crate) fn check(&self) -> std::result::Result<(), AttemptError> {
        let Kind::Attempt { work, step: Step::End(ending) } = &self.0 else { return Ok(()) };
        let unanswered = Unanswered::of(work);
        ending.check(&work.ledger.inner.options)?;
        unanswered.answered();
        Ok(())
    }

    /// Returns the attempt that says with it how its work went, until the commit has an answer. A renewal says nothing.
    pub(crate) fn unanswered(&self) -> Option<Unanswered<'_>> {
        match &self.0 {
            Kind::Attempt { work, step: Step::End(_) | Step::Save(_) } => {
                Some(Unanswered::of(work))
            }
            _ => None,
        }
    }

    /// Returns the name of its ledger.
    pub(crate) fn ledger_name(&self) -> &str {
        self.ledger().name()
    }

    fn ledger(&self) -> &Ledger {
        match &self.0 {
            Kind::Attempt { work, .. } => &work.ledger,
            Kind::Operate { ledger, .. } | Kind::Begin { ledger, .. } => ledger,
        }
    }
}

/// The start of what tells an event of this id from others.
fn event_of(id: &[u8]) -> Vec<u8> {
    let mut event = Vec::with_capacity(id.len() + 8);
    put_bytes(&mut event, id);
    event
}

impl Operation {
    /// Returns what it makes of a record, which happens once between two redrives.
    fn event(&self) -> &'static str {
        match self {
            // As the attempt itself may say it: one of them is made.
            Self::Settle { .. } => "completed",
            Self::Redrive { .. } => "redriven",
            Self::Cancel { .. } => "cancelled",
            Self::Purge | Self::Forget => "removed",
        }
    }

    /// Returns the move for a record in this phase.
    fn step(&self, phase: Phase) -> Move {
        match self {
            Self::Settle { .. } => Move::Settle,
            Self::Redrive { .. } => Move::Redrive,
            Self::Cancel { .. } => Move::Cancel,
            Self::Forget if phase == Phase::Running => Move::Forget,
            Self::Purge | Self::Forget => Move::Purge,
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
            Self::Purge | Self::Forget => changes::purge(),
        }
    }
}

impl Step {
    /// Returns what it makes of the record, and the number of the stage that it saves.
    fn decide(
        &self,
        work: &Work,
        inside: &mut Inside,
        now: Now,
    ) -> std::result::Result<(Change, Option<u32>), AttemptError> {
        let policies = &work.ledger.inner.options;
        match self {
            Self::End(ending) => {
                let step = |record: &Record| ending.step(record, policies);
                let change = |record, now| ending.change(record, now, policies);
                Ok((work.decide(inside, now, step, change)?, None))
            }
            Self::Renew(lease_ms) => Ok((work.decide_renewal(inside, now, *lease_ms)?, None)),
            Self::Save(stage) => {
                let (change, number) = stage.decide(work, inside, now)?;
                Ok((change, Some(number)))
            }
        }
    }

    /// Returns the stage that it saves under this number.
    fn stage(&self, number: Option<u32>) -> Option<StageWrite<'_>> {
        match (self, number) {
            (Self::Save(stage), Some(number)) => Some(StageWrite { number, value: &stage.value }),
            _ => None,
        }
    }
}

/// A move with the lock of its attempt, if it is of one: nobody renews the lease meanwhile.
enum Party<'a> {
    Attempt { work: &'a Work, step: &'a Step, inside: QuietGuard<'a, Inside> },
    Operate { ledger: &'a Ledger, id: &'a [u8], operation: &'a Operation, redrives: Option<u32> },
    Begin { ledger: &'a Ledger, id: &'a [u8], options: &'a BeginOptions },
}

/// A move as it is to be made, and the rows of it.
struct Prepared {
    change: Change,
    now: Now,
    /// The number of the stage that it saves, if it saves one.
    stage: Option<u32>,
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
            Kind::Attempt { work, .. } => work.token(),
            Kind::Operate { .. } | Kind::Begin { .. } => 0,
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

    /// Notes that the rows were written, with these sequences. Returns the attempts that have started, in the order of
    /// their moves.
    pub(crate) fn made(&mut self, sequences: &[Option<u64>]) -> Vec<Attempt> {
        let (mut at, mut started) = (0, BTreeMap::new());
        for ((n, party), ready) in self.parties.iter_mut().zip(&self.prepared) {
            let sequence = sequences.get(at).copied().flatten().unwrap_or_default();
            started.extend(party.made(ready, sequence).map(|attempt| (*n, attempt)));
            at += ready.rows.len();
        }
        started.into_values().collect()
    }

    /// Notes that they are prepared: their attempts have had their last word, and their records are as they were.
    pub(crate) fn prepared(&mut self) {
        for (_, party) in &mut self.parties {
            if let Party::Attempt { inside, .. } = party {
                inside.finish();
            }
        }
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
            Kind::Attempt { work, step } => {
                if let Step::End(ending) = step {
                    ending.check(&work.ledger.inner.options).map_err(into_error)?;
                }
                Party::Attempt { work, step, inside: work.inside.lock() }
            }
            Kind::Begin { ledger, id, options } => {
                check_id(id)?;
                options.check()?;
                Party::Begin { ledger, id, options }
            }
            Kind::Operate { ledger, id, operation, redrives } => {
                check_id(id)?;
                if let Operation::Settle { bytes, .. } = operation {
                    ledger.check_result(bytes)?;
                }
                Party::Operate { ledger, id, operation, redrives: *redrives }
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
            Self::Attempt { work, step, inside } => {
                let (rows, now) = (work.ledger.rows(), work.ledger.now());
                let (change, number) = match step.decide(work, inside, now) {
                    Ok(decided) => decided,
                    Err(AttemptError::Store(error)) => return Err(error),
                    Err(error) => return Ok(Err(MoveRefused::Attempt(error))),
                };
                let stage = step.stage(number);
                let found = Some(&inside.found);
                let rows = rows.rows_of(work.id(), found, &change, stage, now.at.now)?;
                Ok(Ok(Prepared { change, now, stage: number, rows }))
            }
            Self::Begin { ledger, id, options } => {
                let (rows, now, stage) = (ledger.rows(), ledger.now(), None);
                let (found, _) = rows.look(id)?;
                let change = match ledger.decide_begin(id, found.as_ref(), now, options)? {
                    Decided::Make(Move::Begin, change) => *change,
                    // Alone, it would note why no attempt starts. What is rejected writes nothing.
                    Decided::Make(_, change) => {
                        let after = Found::after(id, &change, now.at.now, 0);
                        return Ok(Err(MoveRefused::Begin(Begin::after(now, after.record))));
                    }
                    Decided::Refuse(begin) => return Ok(Err(MoveRefused::Begin(begin))),
                };
                let rows = rows.rows_of(id, found.as_ref(), &change, None, now.at.now)?;
                Ok(Ok(Prepared { change, now, stage, rows }))
            }
            Self::Operate { ledger, id, operation, redrives } => {
                let (rows, now) = (ledger.rows(), ledger.now());
                // The commit, or the rejection, is waited for after this was read.
                let (found, _) = rows.look(id)?;
                let Some(found) = found else { return Ok(Err(MoveRefused::Record(None))) };
                if redrives.is_some_and(|redrives| redrives != found.record.redrives) {
                    return Ok(Err(MoveRefused::Record(Some(found.record.into()))));
                }
                let step = operation.step(now.phase(Some(&found.record)));
                let change = |record| Some(operation.change(record, now, ledger));
                let Some(change) = found.moved(step, now, change) else {
                    return Ok(Err(MoveRefused::Record(Some(found.record.into()))));
                };
                let rows = rows.rows_of(id, Some(&found), &change, None, now.at.now)?;
                Ok(Ok(Prepared { change, now, stage: None, rows }))
            }
        }
    }

    /// Notes that it was made. Returns the attempt that has started, if it was to start one.
    fn made(&mut self, ready: &Prepared, sequence: u64) -> Option<Attempt> {
        let after = |id: &[u8]| Found::after(id, &ready.change, ready.now.at.now, sequence);
        match self {
            Self::Attempt { work, step, inside } => {
                inside.found = after(work.id());
                match step {
                    Step::End(_) => inside.finish(),
                    Step::Renew(lease_ms) => inside.renewed(lease_ms.is_some()),
                    Step::Save(stage) => stage.made(inside, ready.stage.unwrap_or_default()),
                }
                None
            }
            Self::Begin { ledger, id, .. } => Some(Attempt::new(ledger.clone(), id, after(id))),
            Self::Operate { .. } => None,
        }
    }

    /// Reads the record of an attempt again. Returns why its move cannot be made any more: somebody has taken over, or has
    /// noted the end of its lease.
    fn refresh(&mut self) -> Result<Option<MoveRefused>> {
        let Self::Attempt { work, step, inside } = self else { return Ok(None) };
        let refreshed = work.refresh(inside);
        match refreshed.and_then(|()| step.decide(work, inside, work.ledger.now())) {
            Ok(_) => Ok(None),
            Err(AttemptError::Store(error)) => Err(error),
            Err(error) => Ok(Some(MoveRefused::Attempt(error))),
        }
    }
}
