//! Transactions: claims and moves of ledgers in one commit, all or nothing.
//!
//! What was read, what was decided and what was claimed agree after a crash at any moment, because one record of the log
//! holds all of it.
//!
//! ```
//! use firstseen::Store;
//! use firstseen::ledger::Begin;
//! use firstseen::transaction::CommitOutcome;
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("seen.db");
//! let store = Store::open(&path)?;
//! let ledger = store.ledger("payments")?;
//! let Begin::Started(attempt) = ledger.begin("order-17")? else { return Ok(()) };
//! // The payment is done and its notification counts as sent, or neither.
//! let mut transaction = store.transaction();
//! transaction.complete(&attempt, b"receipt 4711");
//! transaction.claim("notify-order-17");
//! match transaction.commit()? {
//!     CommitOutcome::Committed => println!("done"),
//!     CommitOutcome::Rejected(reasons) => println!("nothing was changed: {reasons:?}"),
//! }
//! assert!(store.contains("notify-order-17")?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::engine::{ClaimWrite, Durability};
use crate::error::{Error, Result};
use crate::id::{Digest, Key};
use crate::ledger::{
    Attempt, AttemptError, Failure, JoinedCommitted, JoinedMove, Ledger, MoveRefused, Operation,
    Record, commit_joined, encode,
};
use crate::store::{Namespace, Store};
use crate::time::{Timestamp, Ttl};
use serde::Serialize;

/// Claims and moves of ledgers that are committed together; see [`Store::transaction`].
#[derive(Debug)]
#[must_use = "nothing is written until it is committed"]
pub struct Transaction {
    store: Store,
    durability: Option<Durability>,
    claims: Vec<PlannedClaim>,
    moves: Vec<JoinedMove>,
}

#[derive(Debug)]
struct PlannedClaim {
    namespace: Namespace,
    id: Vec<u8>,
    ttl: Ttl,
}

/// The answer to [`Transaction::commit`].
#[derive(Debug)]
#[must_use = "a rejected transaction has changed nothing"]
pub enum CommitOutcome {
    /// All of it was done.
    Committed,
    /// Nothing was done, for all of these reasons.
    Rejected(Vec<Rejection>),
}

/// Why a transaction was rejected.
#[derive(Debug)]
#[non_exhaustive]
pub enum Rejection {
    /// An id has a live claim already.
    Duplicate {
        /// The namespace of the id.
        namespace: String,
        /// The id.
        id: Vec<u8>,
        /// When that claim was made.
        first_seen: Timestamp,
    },
    /// An attempt cannot end as it was to.
    Attempt {
        /// Its id.
        id: Vec<u8>,
        /// Why, as [`Attempt::complete`] would have said.
        error: AttemptError,
    },
    /// A record does not allow what an operator asked for.
    Record {
        /// Its id.
        id: Vec<u8>,
        /// The record as it is; `None` if there is none.
        record: Option<Box<Record>>,
    },
}

impl CommitOutcome {
    /// Returns whether all of it was done.
    pub fn is_committed(&self) -> bool {
        matches!(self, Self::Committed)
    }
}

impl Store {
    /// Begins a transaction. It collects what is to be done; nothing is read, locked or written until
    /// [`Transaction::commit`].
    pub fn transaction(&self) -> Transaction {
        let (claims, moves) = (Vec::new(), Vec::new());
        Transaction { store: self.clone(), durability: None, claims, moves }
    }
}

impl Transaction {
    /// Sets the durability of this transaction; the default is that of the store. It is never less than a ledger asks
    /// whose records are in it.
    pub fn durability(&mut self, durability: Durability) -> &mut Self {
        self.durability = Some(durability);
        self
    }

    /// Claims an id of the default namespace, for its ttl. If the id has a live claim, the transaction is rejected.
    pub fn claim(&mut self, id: impl AsRef<[u8]>) -> &mut Self {
        let namespace = self.store.default_namespace();
        self.claim_in(&namespace, id)
    }

    /// Claims an id of a namespace, for its ttl; see [`claim`](Self::claim).
    pub fn claim_in(&mut self, namespace: &Namespace, id: impl AsRef<[u8]>) -> &mut Self {
        let ttl = namespace.info().ttl();
        self.claim_for(namespace, id, ttl)
    }

    /// Claims an id of a namespace for a ttl of its own; see [`claim`](Self::claim).
    pub fn claim_for(
        &mut self,
        namespace: &Namespace,
        id: impl AsRef<[u8]>,
        ttl: impl Into<Ttl>,
    ) -> &mut Self {
        let (namespace, id) = (namespace.clone(), id.as_ref().to_vec());
        self.claims.push(PlannedClaim { namespace, id, ttl: ttl.into() });
        self
    }

    /// Completes an attempt; see [`Attempt::complete`].
    pub fn complete(&mut self, attempt: &Attempt, result: impl AsRef<[u8]>) -> &mut Self {
        self.moves.push(attempt.complete_joined(result.as_ref().to_vec(), false));
        self
    }

    /// Completes an attempt with a result of any serde type, as [`Ledger::run`] stores it; see
    /// [`Attempt::complete_value`].
    ///
    /// # Errors
    ///
    /// [`Value`](AttemptError::Value) if it cannot be encoded.
    pub fn complete_value<T: Serialize>(
        &mut self,
        attempt: &Attempt,
        result: &T,
    ) -> std::result::Result<&mut Self, AttemptError> {
        self.moves.push(attempt.complete_joined(encode("the result", result)?, true));
        Ok(self)
    }

    /// Says that an attempt failed; see [`Attempt::fail`].
    ///
    /// # Errors
    ///
    /// The failure, if it is one of the attempt itself.
    pub fn fail(
        &mut self,
        attempt: &Attempt,
        failure: Failure,
    ) -> std::result::Result<&mut Self, AttemptError> {
        self.moves.push(attempt.fail_joined(failure)?);
        Ok(self)
    }

    /// Hands an attempt back; see [`Attempt::release`].
    pub fn release(&mut self, attempt: &Attempt) -> &mut Self {
        self.moves.push(attempt.release_joined());
        self
    }

    /// Says that an id of a ledger was done after all; see [`Ledger::settle`].
    pub fn settle(
        &mut self,
        ledger: &Ledger,
        id: impl AsRef<[u8]>,
        result: impl AsRef<[u8]>,
        reason: &str,
    ) -> &mut Self {
        self.moves.push(ledger.settle_joined(id.as_ref(), result.as_ref().to_vec(), false, reason));
        self
    }

    /// Says that an id of a ledger was done after all, with a result of any serde type; see
    /// [`Ledger::settle_value`].
    ///
    /// # Errors
    ///
    /// [`Value`](AttemptError::Value) if it cannot be encoded.
    pub fn settle_value<T: Serialize>(
        &mut self,
        ledger: &Ledger,
        id: impl AsRef<[u8]>,
        result: &T,
        reason: &str,
    ) -> std::result::Result<&mut Self, AttemptError> {
        let bytes = encode("the result", result)?;
        self.moves.push(ledger.settle_joined(id.as_ref(), bytes, true, reason));
        Ok(self)
    }

    /// Lets an id of a ledger be tried again, and keeps its saved stages; see [`Ledger::redrive`].
    pub fn redrive(&mut self, ledger: &Ledger, id: impl AsRef<[u8]>) -> &mut Self {
        self.operate(ledger, id.as_ref(), Operation::Redrive { fresh: false })
    }

    /// Lets an id of a ledger be tried again with all stages done afresh.
    pub fn redrive_fresh(&mut self, ledger: &Ledger, id: impl AsRef<[u8]>) -> &mut Self {
        self.operate(ledger, id.as_ref(), Operation::Redrive { fresh: true })
    }

    /// Ends an id of a ledger without a result; see [`Ledger::cancel`].
    pub fn cancel(&mut self, ledger: &Ledger, id: impl AsRef<[u8]>, reason: &str) -> &mut Self {
        self.operate(ledger, id.as_ref(), Operation::Cancel { reason: reason.to_owned() })
    }

    /// Removes the record of an id of a ledger; see [`Ledger::purge`].
    pub fn purge(&mut self, ledger: &Ledger, id: impl AsRef<[u8]>) -> &mut Self {
        self.operate(ledger, id.as_ref(), Operation::Purge)
    }

    fn operate(&mut self, ledger: &Ledger, id: &[u8], operation: Operation) -> &mut Self {
        self.moves.push(ledger.operate_joined(id, operation));
        self
    }

    /// Commits all of it as one record, or changes nothing and says why: all reasons at once. Blocks the thread, and
    /// waits for a reservation of an id by somebody else, as [`Store::claim`] does.
    ///
    /// An attempt must be kept until then: dropped before, it has failed, and the transaction is rejected.
    ///
    /// # Errors
    ///
    /// As [`Store::claim`], and [`FixCall`](crate::ErrorKind::FixCall) for one id, record or attempt named twice, for an
    /// attempt or namespace of another store, or for more than a commit holds (65,536 claims and rows, 6 MiB). After
    /// [`Reopen`](crate::ErrorKind::Reopen) nobody knows whether the transaction was made; after any other error it was
    /// not.
    pub fn commit(&self) -> Result<CommitOutcome> {
        let engine = self.store.engine();
        let digests: Vec<Option<Digest>> =
            self.claims.iter().map(|claim| engine.settings().long_ids.digest(&claim.id)).collect();
        let mut claims = Vec::with_capacity(self.claims.len());
        for (PlannedClaim { namespace, id, ttl }, digest) in self.claims.iter().zip(&digests) {
            if !std::ptr::eq(namespace.store().engine(), engine) {
                return Err(Error::invalid("a transaction with a namespace of another store"));
            }
            let key = Key::of(namespace.info().id, id, digest.as_ref())?;
            claims.push(ClaimWrite { ns: namespace.info(), key, ttl: *ttl });
        }
        let durability = self.durability.unwrap_or(engine.settings().durability);
        Ok(match commit_joined(engine, &claims, &self.moves, durability)? {
            JoinedCommitted::Done => CommitOutcome::Committed,
            JoinedCommitted::Refused { duplicates, moves } => {
                CommitOutcome::Rejected(self.rejections(duplicates, moves))
            }
        })
    }

    fn rejections(
        &self,
        duplicates: Vec<(usize, Timestamp)>,
        moves: Vec<(usize, MoveRefused)>,
    ) -> Vec<Rejection> {
        let duplicates = duplicates.into_iter().map(|(n, first_seen)| Rejection::Duplicate {
            namespace: self.claims[n].namespace.name().to_owned(),
            id: self.claims[n].id.clone(),
            first_seen,
        });
        let moves = moves.into_iter().map(|(n, why)| {
            let id = self.moves[n].id().to_vec();
            match why {
                MoveRefused::Attempt(error) => Rejection::Attempt { id, error },
                MoveRefused::Record(record) => Rejection::Record { id, record },
            }
        });
        duplicates.chain(moves).collect()
    }
}
