//! What comes of a transaction.

use crate::event_time::EventClaim;
use crate::ledger::{Attempt, AttemptError, Begin, Ledger, Record, Unanswered};
use crate::offsets::Position;
use crate::outbox::MessageId;
use crate::table::Version;
use crate::time::Timestamp;

/// The answer to [`Transaction::commit`](crate::transaction::Transaction::commit).
#[derive(Debug)]
#[must_use = "a rejected transaction has changed nothing"]
pub enum CommitOutcome {
    /// All of it was done.
    Committed,
    /// All of it was done, but for these claims and what belonged to them:
    /// [`skip_duplicates`](crate::transaction::Transaction::skip_duplicates) asked for that.
    CommittedWithout(Vec<Skipped>),
    /// All of it was done, and it has [begun](crate::transaction::Transaction::begin) these attempts. Take them with
    /// [`attempt`](Self::attempt) or from here: one that is dropped has failed.
    CommittedWith {
        /// The attempts, in the order in which they were collected.
        attempts: Vec<Attempt>,
        /// The claims that were skipped, as in [`CommittedWithout`](Self::CommittedWithout).
        skipped: Vec<Skipped>,
    },
    /// Nothing was done, for all of these reasons.
    Rejected(Vec<Rejection>),
}

impl CommitOutcome {
    /// Returns that all was done but for what was skipped, and that these attempts have started.
    pub(super) fn of(attempts: Vec<Attempt>, skipped: Vec<Skipped>) -> Self {
        match (attempts.is_empty(), skipped.is_empty()) {
            (true, true) => Self::Committed,
            (true, false) => Self::CommittedWithout(skipped),
            _ => Self::CommittedWith { attempts, skipped },
        }
    }

    /// Returns whether all of it was done, but for what was to be skipped.
    pub fn is_committed(&self) -> bool {
        !matches!(self, Self::Rejected(_))
    }

    /// Takes the attempt at an id that the transaction has begun; `None` if it has begun none, or that was taken.
    #[must_use = "an attempt that is dropped has failed"]
    pub fn attempt(&mut self, ledger: &Ledger, id: impl AsRef<[u8]>) -> Option<Attempt> {
        let Self::CommittedWith { attempts, .. } = self else { return None };
        let id = id.as_ref();
        let is_it =
            |attempt: &Attempt| attempt.id() == id && attempt.ledger().name() == ledger.name();
        attempts.iter().position(is_it).map(|n| attempts.remove(n))
    }

    /// Answers attempts that have said in the transaction how their work went. That a row is held by a prepared
    /// transaction is no answer: alone, their calls fail with that.
    pub(super) fn answer(&self, unanswered: Vec<Unanswered<'_>>) {
        let is_open = |why: &Rejection| matches!(why, Rejection::InDoubt { .. });
        if !matches!(self, Self::Rejected(reasons) if reasons.iter().any(is_open)) {
            unanswered.into_iter().for_each(Unanswered::answered);
        }
    }

    /// Returns the attempts that have started.
    pub(super) fn attempts(&self) -> &[Attempt] {
        match self {
            Self::CommittedWith { attempts, .. } => attempts,
            _ => &[],
        }
    }
}

/// A claim that was skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Skipped {
    /// The id has a live claim already, or comes twice in the transaction.
    Duplicate(DuplicateId),
    /// The id of an event is remembered, or the event is too late.
    Event(RefusedEvent),
}

impl Skipped {
    /// Returns the id that was not claimed.
    pub fn id(&self) -> &[u8] {
        match self {
            Self::Duplicate(DuplicateId { id, .. }) | Self::Event(RefusedEvent { id, .. }) => id,
        }
    }
}

/// An event that is not first seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedEvent {
    /// The namespace of the event.
    pub namespace: String,
    /// Its id.
    pub id: Vec<u8>,
    /// What [`EventTime::claim_at`](crate::event_time::EventTime::claim_at) would have answered.
    pub answer: EventClaim,
}

/// An id that has a live claim already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DuplicateId {
    /// The namespace of the id.
    pub namespace: String,
    /// The id.
    pub id: Vec<u8>,
    /// When that claim was made.
    pub first_seen: Timestamp,
}

/// Why a transaction was rejected.
#[derive(Debug)]
#[non_exhaustive]
pub enum Rejection {
    /// An id has a live claim already.
    Duplicate(DuplicateId),
    /// The id of an event is remembered, or the event is too late.
    Event(RefusedEvent),
    /// A value of a table has not the version that was expected or read.
    Moved {
        /// The table.
        table: String,
        /// The key.
        key: Vec<u8>,
        /// The version that it has; `None` if it has no live value.
        found: Option<Version>,
    },
    /// An offset would move back.
    OffsetBack {
        /// The source.
        source: String,
        /// The partition.
        partition: u32,
        /// What is stored.
        stored: Position,
    },
    /// Somebody else owns the partition, it has an owner and the commit names none, or the owner is from before the
    /// promotion of a replay scope that used the source.
    Fenced {
        /// The source.
        source: String,
        /// The partition.
        partition: u32,
        /// What is stored, with the epoch of the owner.
        stored: Position,
    },
    /// A message of this id waits already.
    DuplicateMessage {
        /// The topic.
        topic: String,
        /// The id of the message.
        id: MessageId,
    },
    /// A message that was to be acknowledged waits no more: somebody else has dealt with it.
    Acknowledged {
        /// The topic.
        topic: String,
        /// The id of the message.
        id: MessageId,
    },
    /// More messages would wait in a topic than may; see [`OutboxOptions`](crate::outbox::OutboxOptions).
    OutboxFull {
        /// The topic.
        topic: String,
        /// How many wait, those of commits on their way included.
        pending: usize,
    },
    /// An attempt cannot end, be renewed or save a stage as it was to.
    Attempt {
        /// Its id.
        id: Vec<u8>,
        /// Why, as the call that stands alone, such as [`Attempt::complete`](crate::ledger::Attempt::complete), would have
        /// said.
        error: AttemptError,
    },
    /// No attempt at an id may start.
    Begin {
        /// The id.
        id: Vec<u8>,
        /// What [`Ledger::begin`](crate::ledger::Ledger::begin) would have answered, with the record; never
        /// [`Started`](Begin::Started). Where `begin` would have noted in the record that it is held or dead, that was not
        /// written.
        answer: Begin,
    },
    /// A record does not allow what an operator asked for.
    Record {
        /// Its id.
        id: Vec<u8>,
        /// The record as it is; `None` if there is none.
        record: Option<Box<Record>>,
    },
    /// A prepared transaction holds this id, or the row of this key: somebody has to commit it or roll it back first.
    InDoubt {
        /// The id or key.
        id: Vec<u8>,
    },
    /// A transaction of this name is prepared, or was ended not long ago.
    NameInUse,
}
