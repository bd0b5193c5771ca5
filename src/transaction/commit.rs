//! The commit of a transaction: decide what each part writes, and write all of it as one record.
//!
//! Ledgers, offsets and messages decide their rows from what is stored, without a lock on it. The engine commits them only
//! if that has not moved; otherwise all is decided anew.

use crate::engine::{
    Bells, ClaimWrite, Durability, Engine, Expect, Intent, OwnedRow, Phase, Prepared,
    PreparedState, Refusals, RestsOn, RowChange, RowWrite, SetCommitted, WaitBudget, WriteSet,
};
use crate::error::{Error, Result};
use crate::id::{Digest, Family, Key, NsId};
use crate::ledger::{Attempt, JoinedMove, LockedMoves, MoveRefused, Unanswered};
use crate::limits;
use crate::offsets::{OffsetRefused, PlannedOffset};
use crate::outbox::{Admission, Full};
use crate::table::Version;
use crate::time::{Timestamp, Ttl};
use crate::transaction::collect::{ClaimRef, Effect, PlannedClaim, Transaction};
use crate::transaction::events::Answers;
use crate::transaction::outcome::{CommitOutcome, DuplicateId, Rejection, Skipped};
use std::collections::{BTreeMap, HashMap};

/// What is to become of a transaction.
#[derive(Debug, Clone, Copy)]
pub(super) enum Goal<'a> {
    Commit,
    /// Prepare it under this name.
    Prepare(&'a [u8]),
}

impl Transaction {
    /// Commits all of it as one record, or changes nothing and says why: all reasons at once. Blocks the thread, and
    /// waits for a reservation of an id by somebody else, as [`Store::claim`](crate::Store::claim) does.
    ///
    /// An attempt must be kept until then: dropped before, it has failed, and the transaction is rejected.
    ///
    /// # Errors
    ///
    /// As [`Store::claim`](crate::Store::claim), and [`FixCall`](crate::ErrorKind::FixCall) for one id, record or attempt
    /// named twice, for a handle of another store, or for more than a commit holds (65,536 claims and rows, 6 MiB). After
    /// [`Reopen`](crate::ErrorKind::Reopen) nobody knows whether the transaction was made; after any other error it was
    /// not. Attempts whose end or stage is in it are in doubt after any error, as after one of
    /// [`Attempt::complete`](crate::ledger::Attempt::complete): dropping them writes nothing.
    pub fn commit(&self) -> Result<CommitOutcome> {
        self.run(Goal::Commit)
    }

    pub(super) fn run(&self, goal: Goal<'_>) -> Result<CommitOutcome> {
        let unanswered = self.unanswered();
        let engine = self.store.engine();
        let (outcome, rests_on) =
            engine.in_attempts(None, |budget| self.run_only(goal, budget, &mut Vec::new()))?;
        self.store.engine().await_durable(self.durability_of(goal), rests_on)?;
        outcome.answer(unanswered);
        outcome.attempts().iter().for_each(Attempt::keep_begun);
        Ok(outcome)
    }

    /// Returns the attempts that say in it how their work went.
    pub(super) fn unanswered(&self) -> Vec<Unanswered<'_>> {
        self.moves.iter().filter_map(|joined| joined.what.unanswered()).collect()
    }

    /// Commits all of it, and returns without waiting for it what its durability rests on. `full` gets the topics that have
    /// no room.
    pub(super) fn run_only(
        &self,
        goal: Goal<'_>,
        wait_budget: &mut WaitBudget,
        full: &mut Vec<Full>,
    ) -> Result<(CommitOutcome, Option<RestsOn>)> {
        let engine = self.store.engine();
        self.check_handles()?;
        if matches!(goal, Goal::Prepare(_)) {
            self.check_preparable()?;
        }
        let long_ids = engine.settings().long_ids;
        let digests: Vec<Option<Digest>> =
            self.claims.iter().map(|claim| long_ids.digest(&claim.id)).collect();
        let claims = self.claim_writes(&digests)?;
        let mut duplicates = BTreeMap::new();
        // What the answers depend on that were given without a record of this transaction.
        let mut told = if self.was_told { Some(engine.sync_point()?) } else { None };
        let mut room_until = None;
        for _ in 0..limits::RACES_MAX {
            // Before they answer: then none of the answers is from before a promotion that this has missed.
            let events = self.events.iter().map(|event| event.event_time.ns());
            let asked: Vec<NsId> = self.asked.iter().copied().chain(events).collect();
            let answers = Answers::to(&self.events)?;
            let skipped = self.skipped(&claims, &answers, &duplicates);
            let round = Round::of(self, (&claims, &answers), &skipped, asked, goal);
            let (admission, without_room) = match round.admit() {
                Ok(admission) => (Some(admission), Vec::new()),
                Err(full) => (None, full),
            };
            *full = without_room;
            let mut moves = LockedMoves::lock(engine, &round.moves())?;
            let mut bells = Bells::default();
            let tried = round.attempt(&mut moves, &mut bells, wait_budget, full);
            // Who waits is woken once everything is unlocked (I9).
            drop(moves);
            drop(bells);
            let tried = tried?;
            if let (Tried::Committed(..), Some(admission)) = (&tried, admission) {
                round.keep(admission);
            }
            match tried {
                Tried::Committed(rests_on, attempts) => {
                    // A record stands behind all that was read.
                    let rests_on = rests_on.or(told);
                    let skipped = skipped.into_values().map(Skipped::Duplicate);
                    let skipped: Vec<_> = skipped
                        .chain(answers.made(matches!(goal, Goal::Commit)).map(Skipped::Event))
                        .collect();
                    return Ok((CommitOutcome::of(attempts, skipped), rests_on));
                }
                Tried::Rejected(reasons, rests_on) => {
                    // Only now: duplicates that are skipped need no room. Not under any lock, and a future waits where it is
                    // polled.
                    if !full.is_empty()
                        && are_full(&reasons)
                        && !wait_budget.is_future()
                        && Full::wait_for_room(full, &mut room_until)?
                    {
                        continue;
                    }
                    if matches!(goal, Goal::Commit) {
                        answers.rejected();
                    }
                    return Ok((CommitOutcome::Rejected(reasons), rests_on));
                }
                Tried::Moved => {}
                Tried::Skip(found) => {
                    duplicates.extend(found);
                    told = Some(engine.sync_point()?);
                }
                // Not under the locks of attempts: their leases have to be renewed meanwhile.
                Tried::Reserved(n) => engine.await_release(claims[n].key, wait_budget)?,
            }
        }
        Err(Error::Timeout { what: "records that others change again and again" })
    }

    fn claim_writes<'a>(&'a self, digests: &'a [Option<Digest>]) -> Result<Vec<ClaimWrite<'a>>> {
        let claims = self.claims.iter().zip(digests).map(|(claim, digest)| {
            let PlannedClaim { namespace, id, ttl, .. } = claim;
            let key = Key::of(namespace.info().id(), id, digest.as_ref())?;
            Ok(ClaimWrite { ns: namespace.info(), key, ttl: *ttl })
        });
        claims.collect()
    }

    /// Returns the claims that are skipped as duplicates: those that were found, and those of an id that this transaction
    /// claims before. What is left out with its claim is neither, and claims nothing.
    fn skipped(
        &self,
        claims: &[ClaimWrite<'_>],
        answers: &Answers,
        found: &BTreeMap<usize, DuplicateId>,
    ) -> BTreeMap<usize, DuplicateId> {
        let mut skipped = found.clone();
        if !self.skips_duplicates {
            return skipped;
        }
        let now = self.store.engine().moment().now;
        let mut firsts = HashMap::new();
        for (n, claim) in claims.iter().enumerate() {
            let PlannedClaim { namespace, id, belongs_to, .. } = &self.claims[n];
            let is_left_out = match belongs_to {
                Some(ClaimRef::Claim(owner)) => skipped.contains_key(owner),
                Some(ClaimRef::Event(owner)) => answers.refused.contains_key(owner),
                None => false,
            };
            if is_left_out {
                continue;
            }
            let first = *firsts.entry(claim.key).or_insert(n);
            if first != n && !skipped.contains_key(&n) {
                let first_seen = skipped.get(&first).map_or(now, |first| first.first_seen);
                let (namespace, id) = (namespace.name().to_owned(), id.clone());
                skipped.insert(n, DuplicateId { namespace, id, first_seen });
            }
        }
        skipped
    }

    /// As safe as the strictest ledger asks. What is prepared must be there when it is to be committed.
    pub(super) fn durability_of(&self, goal: Goal<'_>) -> Durability {
        let asked = match goal {
            Goal::Commit => self.durability.unwrap_or(self.store.engine().settings().durability),
            Goal::Prepare(_) => Durability::Disk,
        };
        let events = self.events.iter().map(|event| event.event_time.durability());
        let moves = self.moves.iter().map(|joined| joined.what.durability());
        events.chain(moves).fold(asked, Durability::max)
    }

    /// What waits for a coordinator cannot begin or go on: the work would, and its lease would end meanwhile.
    fn check_preparable(&self) -> Result<()> {
        match self.moves.iter().find(|joined| !joined.what.can_be_prepared()) {
            None => Ok(()),
            Some(joined) => Err(Error::invalid(format!(
                "a prepared transaction that begins, renews or saves a stage of the id {} of a ledger: commit that by itself",
                joined.what.id().escape_ascii()
            ))),
        }
    }

    /// Returns whether it begins attempts.
    pub(super) fn begins(&self) -> bool {
        self.moves.iter().any(|joined| joined.what.is_begin())
    }

    fn check_handles(&self) -> Result<()> {
        let engine = self.store.engine();
        let is_ours = |other: &crate::Store| std::ptr::eq(other.engine(), engine);
        let what = if !self.claims.iter().all(|claim| is_ours(claim.namespace.store())) {
            "namespace"
        } else if !self.events.iter().all(|event| is_ours(event.event_time.store())) {
            "namespace with event time"
        } else if !self.writes.iter().all(|write| is_ours(write.what.table.store())) {
            "table"
        } else if !self.offsets.iter().all(|offset| is_ours(offset.source.store())) {
            "source"
        } else if !self.topics.iter().all(|topic| is_ours(topic.store())) {
            "topic"
        } else {
            return Ok(());
        };
        Err(Error::invalid(format!("a transaction with a {what} of another store")))
    }
}

/// What came of one attempt to commit.
enum Tried {
    Committed(Option<RestsOn>, Vec<Attempt>),
    Rejected(Vec<Rejection>, Option<RestsOn>),
    /// Something that a decision rests on has moved: all is to be decided anew.
    Moved,
    /// These claims are duplicates: it is decided anew without them.
    Skip(Vec<(usize, DuplicateId)>),
    /// Another caller holds the id of this claim.
    Reserved(usize),
}

/// One attempt to commit: what takes part in it, by its numbers in the transaction.
struct Round<'a> {
    transaction: &'a Transaction,
    goal: Goal<'a>,
    answers: &'a Answers,
    claims: Vec<usize>,
    claim_writes: Vec<ClaimWrite<'a>>,
    /// The namespaces that have told of a duplicate, as they were then: it may be none in what has replaced them.
    asked: Vec<NsId>,
    moves: Vec<usize>,
    writes: Vec<usize>,
    messages: Vec<usize>,
}

/// The rows of a commit, in order: those of moves, writes of tables, offsets, messages, acknowledged messages, events.
#[derive(Default)]
struct Rows {
    moves: Vec<OwnedRow>,
    offsets: Vec<OwnedRow>,
    events: Vec<OwnedRow>,
}

/// What a row of a commit is.
enum Part {
    /// Of a ledger: the row of this number.
    Move(usize),
    /// The write of this number.
    Write(usize),
    /// The row of this number.
    Offset(usize),
    /// The message of this number.
    Message(usize),
    /// The acknowledgement of this number.
    Acknowledged(usize),
    /// Of an event or a watermark: the row of this number.
    Event(usize),
    /// The row of the phase.
    Phase,
}

impl<'a> Round<'a> {
    fn of(
        transaction: &'a Transaction,
        (claims, answers): (&[ClaimWrite<'a>], &'a Answers),
        skipped: &BTreeMap<usize, DuplicateId>,
        mut asked: Vec<NsId>,
        goal: Goal<'a>,
    ) -> Self {
        let is_in = |claim: Option<ClaimRef>| match claim {
            None => true,
            Some(ClaimRef::Claim(n)) => !skipped.contains_key(&n),
            // Nothing is written while one of them is not to be skipped.
            Some(ClaimRef::Event(n)) => !answers.refused.contains_key(&n),
        };
        // The id of a message belongs to the claim before it.
        let is_in = |claim: Option<ClaimRef>| match claim {
            Some(ClaimRef::Claim(n)) => is_in(claim) && is_in(transaction.claims[n].belongs_to),
            _ => is_in(claim),
        };
        let kept = (0..claims.len()).filter(|n| is_in(Some(ClaimRef::Claim(*n))));
        let kept: Vec<usize> = kept.collect();
        asked.extend(skipped.keys().map(|n| claims[*n].key.ns.listed()));
        // Events and duplicates of one namespace come in a row.
        asked.dedup();
        Self {
            transaction,
            goal,
            answers,
            claim_writes: kept.iter().map(|n| claims[*n]).collect(),
            claims: kept,
            asked,
            moves: numbers(&transaction.moves, is_in),
            writes: numbers(&transaction.writes, is_in),
            messages: numbers(&transaction.messages, is_in),
        }
    }

    /// Admits its messages to their topics, or returns those that are full.
    fn admit(&self) -> std::result::Result<Admission, Vec<Full>> {
        let messages = self.messages.iter().map(|n| &self.transaction.messages[*n].what);
        Admission::of(&self.transaction.store, &self.transaction.topics, messages)
    }

    /// Keeps what was admitted once it waits. What is only prepared does not.
    fn keep(&self, admission: Admission) {
        if matches!(self.goal, Goal::Commit) {
            admission.made();
        }
    }

    fn moves(&self) -> Vec<&'a JoinedMove> {
        self.moves.iter().map(|n| &self.transaction.moves[*n].what).collect()
    }

    fn engine(&self) -> &'a Engine {
        self.transaction.store.engine()
    }

    /// Tries to commit.
    fn attempt(
        &self,
        moves: &mut LockedMoves<'_>,
        bells: &mut Bells,
        wait_budget: &mut WaitBudget,
        full: &[Full],
    ) -> Result<Tried> {
        let mut rejected = self.move_rejections(moves.decide()?);
        rejected.extend(full.iter().map(|Full { outbox, pending, .. }| Rejection::OutboxFull {
            topic: outbox.name().to_owned(),
            pending: *pending,
        }));
        if !self.transaction.skips_duplicates {
            rejected.extend(self.answers.refused.values().cloned().map(Rejection::Event));
        }
        let mut rows = Rows {
            moves: moves.rows().cloned().collect(),
            // What is held for long must not hold a watermark back.
            events: self.answers.rows(matches!(self.goal, Goal::Commit)),
            ..Rows::default()
        };
        for offset in &self.transaction.offsets {
            match offset.decide()? {
                Ok(row) => rows.offsets.push(row),
                Err(why) => rejected.push(offset_rejection(offset, why)),
            }
        }
        if !rejected.is_empty() {
            // All reasons at once.
            let rows = Rows { events: rows.events, ..Rows::default() };
            let writes: Vec<RowWrite<'_>> = self.rows(&rows).map(OwnedRow::as_write).collect();
            let set = WriteSet::of(&self.claim_writes, &writes);
            let (refusals, _) = self.engine().refusals(set, wait_budget)?;
            if self.transaction.skips_duplicates && !refusals.duplicates.is_empty() {
                // It may be what is skipped that speaks against it.
                return Ok(Tried::Skip(self.duplicates(&refusals.duplicates)));
            }
            let mut all = self.rejections(&rows, &refusals);
            all.append(&mut rejected);
            // Also what ledgers and offsets have read.
            return Ok(Tried::Rejected(all, Some(self.engine().sync_point()?)));
        }
        let (committed, rests_on) = self.write(&rows, bells, wait_budget)?;
        match committed {
            SetCommitted::Done(sequences) => {
                let attempts = match self.goal {
                    Goal::Commit => moves.made(&sequences[..rows.moves.len()]),
                    Goal::Prepare(_) => {
                        moves.prepared();
                        Vec::new()
                    }
                };
                Ok(Tried::Committed(rests_on.or(self.answers.rests_on()), attempts))
            }
            SetCommitted::Reserved(n) => Ok(Tried::Reserved(self.claims[n])),
            SetCommitted::Refused(refusals) => {
                if self.transaction.skips_duplicates && !refusals.duplicates.is_empty() {
                    // What else speaks against it may be skipped with them.
                    return Ok(Tried::Skip(self.duplicates(&refusals.duplicates)));
                }
                let mut rejected = self.rejections(&rows, &refusals);
                rejected.extend(self.move_rejections(moves.refresh()?));
                // Only rows have moved that are decided from what is stored: it is decided anew.
                if rejected.is_empty() {
                    return Ok(Tried::Moved);
                }
                Ok(Tried::Rejected(rejected, Some(self.engine().sync_point()?)))
            }
        }
    }

    fn write(
        &self,
        rows: &Rows,
        bells: &mut Bells,
        wait_budget: &mut WaitBudget,
    ) -> Result<(SetCommitted, Option<RestsOn>)> {
        let durability = self.transaction.durability_of(self.goal);
        let all: Vec<RowWrite<'_>> = self.rows(rows).map(OwnedRow::as_write).collect();
        let set = WriteSet { asked: &self.asked, ..WriteSet::of(&self.claim_writes, &all) };
        let Goal::Prepare(gid) = self.goal else {
            return self.engine().commit_only(set, durability, bells, wait_budget);
        };
        let (state, since) = (PreparedState::InDoubt, self.engine().moment().now);
        let value = Prepared { state, since, intent: Intent::of(&set) }.encode();
        let row = RowWrite {
            key: Engine::row_key(Family::PREPARED, NsId::default(), gid)?,
            change: RowChange::Put(&value),
            ttl: Ttl::FOREVER,
            expect: Expect::Absent,
            is_quiet: true,
        };
        let set = WriteSet { phase: Phase::Prepare(row), ..set };
        self.engine().commit_only(set, durability, bells, wait_budget)
    }

    /// Returns all rows of a commit with these, in order.
    fn rows<'r>(&'r self, rows: &'r Rows) -> impl Iterator<Item = &'r OwnedRow> {
        let writes = self.writes.iter().map(|n| &self.transaction.writes[*n].what.row);
        let messages = self.messages.iter().map(|n| &self.transaction.messages[*n].what.row);
        let acknowledged = self.transaction.acknowledged.iter().map(|message| &message.row);
        let all = rows.moves.iter().chain(writes).chain(&rows.offsets);
        all.chain(messages).chain(acknowledged).chain(&rows.events)
    }

    /// Returns what row `n` of a commit with these rows is.
    fn part(&self, rows: &Rows, n: usize) -> Part {
        let ends = [
            rows.moves.len(),
            self.writes.len(),
            rows.offsets.len(),
            self.messages.len(),
            self.transaction.acknowledged.len(),
            rows.events.len(),
        ];
        let mut at = n;
        for (kind, len) in ends.into_iter().enumerate() {
            if at < len {
                return match kind {
                    0 => Part::Move(at),
                    1 => Part::Write(self.writes[at]),
                    2 => Part::Offset(at),
                    3 => Part::Message(self.messages[at]),
                    4 => Part::Acknowledged(at),
                    _ => Part::Event(at),
                };
            }
            at -= len;
        }
        Part::Phase
    }

    /// Returns the reasons that are final in what speaks against a commit with these rows.
    fn rejections(&self, rows: &Rows, refusals: &Refusals) -> Vec<Rejection> {
        let Refusals { duplicates, moved, in_doubt } = refusals;
        let duplicates = self.duplicates(duplicates).into_iter();
        let mut rejected: Vec<_> = duplicates.map(|(_, id)| Rejection::Duplicate(id)).collect();
        for (n, found) in moved {
            match self.part(rows, *n) {
                Part::Write(n) => {
                    let (write, found) = (&self.transaction.writes[n].what, found.map(Version));
                    let (table, key) = (write.table.name().to_owned(), write.row.id.clone());
                    rejected.push(Rejection::Moved { table, key, found });
                }
                Part::Message(n) => {
                    let message = &self.transaction.messages[n].what;
                    let (topic, id) = (self.topic_name(message.topic), message.id);
                    rejected.push(Rejection::DuplicateMessage { topic, id });
                }
                Part::Acknowledged(n) => {
                    let message = &self.transaction.acknowledged[n];
                    let (topic, id) = (self.topic_name(message.topic), message.id);
                    rejected.push(Rejection::Acknowledged { topic, id });
                }
                Part::Phase => rejected.push(Rejection::NameInUse),
                Part::Move(_) | Part::Offset(_) | Part::Event(_) => {}
            }
        }
        rejected.extend(in_doubt.iter().map(|n| Rejection::InDoubt { id: self.id_of(rows, *n) }));
        rejected
    }

    fn topic_name(&self, number: usize) -> String {
        self.transaction.topics[number].name().to_owned()
    }

    /// Returns the id or key of a member of a commit with these rows.
    fn id_of(&self, rows: &Rows, n: usize) -> Vec<u8> {
        let Some(n) = n.checked_sub(self.claims.len()) else {
            return self.transaction.claims[self.claims[n]].id.clone();
        };
        match self.part(rows, n) {
            Part::Move(n) => rows.moves[n].id.clone(),
            Part::Write(n) => self.transaction.writes[n].what.row.id.clone(),
            Part::Offset(n) => rows.offsets[n].id.clone(),
            Part::Message(n) => self.transaction.messages[n].what.id.0.to_vec(),
            Part::Acknowledged(n) => self.transaction.acknowledged[n].id.0.to_vec(),
            Part::Event(n) => rows.events[n].id.clone(),
            Part::Phase => Vec::new(),
        }
    }

    fn duplicates(&self, duplicates: &[(usize, Timestamp)]) -> Vec<(usize, DuplicateId)> {
        let duplicate = |(n, first_seen): &(usize, Timestamp)| {
            let n = self.claims[*n];
            let PlannedClaim { namespace, id, .. } = &self.transaction.claims[n];
            let (namespace, id) = (namespace.name().to_owned(), id.clone());
            (n, DuplicateId { namespace, id, first_seen: *first_seen })
        };
        duplicates.iter().map(duplicate).collect()
    }

    fn move_rejections(&self, refused: Vec<(usize, MoveRefused)>) -> Vec<Rejection> {
        let rejection = |(n, why): (usize, MoveRefused)| {
            let id = self.transaction.moves[self.moves[n]].what.id().to_vec();
            match why {
                MoveRefused::Attempt(error) => Rejection::Attempt { id, error },
                MoveRefused::Record(record) => Rejection::Record { id, record },
                MoveRefused::Begin(answer) => Rejection::Begin { id, answer },
            }
        };
        refused.into_iter().map(rejection).collect()
    }
}

/// Returns whether a commit is only rejected because topics are full.
pub(super) fn are_full(reasons: &[Rejection]) -> bool {
    reasons.iter().all(|why| matches!(why, Rejection::OutboxFull { .. }))
}

fn numbers<T>(effects: &[Effect<T>], is_in: impl Fn(Option<ClaimRef>) -> bool) -> Vec<usize> {
    (0..effects.len()).filter(|n| is_in(effects[*n].claim)).collect()
}

fn offset_rejection(offset: &PlannedOffset, why: OffsetRefused) -> Rejection {
    let (source, partition) = (offset.source.name().to_owned(), offset.partition);
    match why {
        OffsetRefused::Back(stored) => Rejection::OffsetBack { source, partition, stored },
        OffsetRefused::Fenced(stored) => Rejection::Fenced { source, partition, stored },
    }
}
