//! What a dedup store must do, each call one atomic step.

use crate::error::{MoveError, Result};
use crate::record::Record;
use firstseen::ledger::{Fingerprint, OnLeaseEnd};
use firstseen::{Claim, Ttl};
use std::future::Future;
use std::time::Duration;

/// A store of claims and of the records of ledgers.
///
/// - **Namespaces** keep ids apart. The claims of a namespace and the records of a ledger of the same name are apart, too.
/// - **Time is the store's**: leases, ttls and delays are counted by its clock, not by those of its callers.
/// - **Each call is one atomic step for each id.** Of all who ask about one id at the same time, one hears that it is first.
/// - **An error of kind [`Unavailable`](crate::ErrorKind::Unavailable) says nothing of what the call did.** Repeated with the
///   same [`Call`], it is told what the first try did: a caller whose own claim was stored, and whose answer was
///   lost, hears `FirstSeen`, not that somebody else was faster.
/// - **Nothing fails open**: a store that cannot be asked is an error, never a first sight.
///
/// What each implementation guarantees when a server dies is in its own documentation. `firstseen-conformance` has a test for
/// each rule that is written here.
pub trait DedupStore: Send + Sync + 'static {
    /// Claims ids, and returns the answers in their order. Each id is claimed by itself: a batch is no transaction, and
    /// after an error some may be claimed. Of two equal ids in a batch the second is a duplicate.
    ///
    /// A claim ends when `ttl` has passed since it was made; duplicates do not make it longer.
    fn claim_batch(
        &self,
        namespace: &str,
        ids: &[&[u8]],
        ttl: Ttl,
        call: Call,
    ) -> impl Future<Output = Result<Vec<Claim>>> + Send;

    /// Claims one id; see [`claim_batch`](Self::claim_batch).
    fn claim(
        &self,
        namespace: &str,
        id: &[u8],
        ttl: Ttl,
        call: Call,
    ) -> impl Future<Output = Result<Claim>> + Send {
        async move {
            let claims = self.claim_batch(namespace, &[id], ttl, call).await?;
            Ok(claims[0])
        }
    }

    /// Returns whether an id has a claim, without making one.
    fn contains(&self, namespace: &str, id: &[u8]) -> impl Future<Output = Result<bool>> + Send;

    /// Ends the claim of an id, so that the next is first again. Returns whether there was one.
    fn forget(&self, namespace: &str, id: &[u8]) -> impl Future<Output = Result<bool>> + Send;

    /// Asks for the work of an id, and counts the attempt before it answers.
    ///
    /// In this order: another fingerprint than that of the record is a [`Mismatch`](Begun::Mismatch), whatever its state; a
    /// lease that has ended, ends the attempt as the policy says; then the state decides. An ended record (its ttl has passed)
    /// counts as none.
    fn begin(
        &self,
        namespace: &str,
        id: &[u8],
        start: &Start<'_>,
        policy: &Policy,
        call: Call,
    ) -> impl Future<Output = Result<Begun>> + Send;

    /// Has the lease of an attempt end `lease` from now. Refused if it has ended: somebody may be about to take over.
    fn renew(
        &self,
        namespace: &str,
        id: &[u8],
        token: u64,
        lease: Duration,
    ) -> impl Future<Output = Result<(), MoveError>> + Send;

    /// Ends an attempt. It may do so after its lease, as long as nobody has taken over.
    ///
    /// Repeated after a lost answer it hears [`Over`](MoveError::Over), with the record as the first try left it.
    fn end(
        &self,
        namespace: &str,
        id: &[u8],
        token: u64,
        ending: &Ending<'_>,
        policy: &Policy,
    ) -> impl Future<Output = Result<(), MoveError>> + Send;

    /// Returns the record of an id; `None` if there is none, or it has ended. A lease that has ended is shown as it is stored,
    /// [`Running`](crate::State::Running) in the past: only the next `begin` decides what becomes of it.
    fn record(
        &self,
        namespace: &str,
        id: &[u8],
    ) -> impl Future<Output = Result<Option<Record>>> + Send;

    /// Lets a dead or held record be begun again, with as many attempts as at first; its history is kept. Returns whether
    /// there was one.
    fn redrive(&self, namespace: &str, id: &[u8]) -> impl Future<Output = Result<bool>> + Send;

    /// Completes a held record, by the word of an operator who has looked the effect up. Returns whether there was one.
    fn settle(
        &self,
        namespace: &str,
        id: &[u8],
        result: &[u8],
        ttl: Ttl,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// Removes a record, whatever its state: an attempt that works on it is fenced. Returns whether there was one.
    fn forget_record(&self, namespace: &str, id: &[u8])
    -> impl Future<Output = Result<bool>> + Send;

    /// Returns the ids of dead and held records, in ascending order, after the given one; at most `limit`.
    fn dead_letters(
        &self,
        namespace: &str,
        after: Option<&[u8]>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Vec<u8>>>> + Send;

    /// Returns what the store knows of a namespace without looking at each id.
    fn stats(&self, namespace: &str) -> impl Future<Output = Result<Stats>> + Send;

    /// Returns the longest id of a claim or a record, in bytes. Ids have at least one byte.
    fn id_bytes_max(&self) -> usize;

    /// Returns the longest result, in bytes.
    fn result_bytes_max(&self) -> usize;
}

/// What tells a call from all others, so that it can be repeated: 16 random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Call([u8; 16]);

impl Call {
    /// Draws one.
    #[must_use]
    pub fn new() -> Self {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the system has random bytes");
        Self(bytes)
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl Default for Call {
    fn default() -> Self {
        Self::new()
    }
}

/// What an attempt says of itself as it begins.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// How long it may go without a renewal, at least a millisecond.
    pub lease: Duration,
    /// Who works, for people who look.
    pub worker: &'a str,
    /// The fingerprint of the input; the first that is given stays. Without one nothing is compared.
    pub fingerprint: Option<Fingerprint>,
}

/// What is to become of records, the same for all calls of a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// What happens when a lease ends.
    pub on_lease_end: OnLeaseEnd,
    /// After how many attempts a record is dead; at least one.
    pub attempts_max: u32,
    /// How long dead records are kept.
    pub dead_ttl: Ttl,
}

/// The answer to [`DedupStore::begin`]. All but the first carry the record.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "without looking at the answer, nobody knows whether to do the work"]
pub enum Begun {
    /// Do the work: nobody else does, while the lease lasts.
    Started {
        /// The fencing token: higher than that of every earlier attempt of this id.
        token: u64,
        /// The number of the attempt, from one.
        attempt: u32,
    },
    /// Another attempt works on it.
    InProgress(Record),
    /// Done before: here is the result.
    Completed(Record),
    /// Waiting for a retry; its state says until when.
    RetryAt(Record),
    /// An operator has to find out first whether the effect happened.
    Held(Record),
    /// Given up.
    Dead(Record),
    /// The id was begun with another input. The result is left out of the record.
    Mismatch(Record),
}

/// How an attempt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending<'a> {
    /// With a result, which is kept for `ttl` from now.
    Completed {
        /// What every later `begin` is told.
        result: &'a [u8],
        /// Whether the result is a failure that is replayed like a success.
        is_failure: bool,
        /// How long it is kept.
        ttl: Ttl,
    },
    /// It failed: to be tried again after a delay, or dead if it was the last attempt of the policy.
    Failed {
        /// Not before this has passed.
        retry_after: Duration,
        /// What people are told.
        reason: &'a str,
    },
    /// It failed for good: the record is dead.
    Final {
        /// What people are told.
        reason: &'a str,
    },
    /// Nobody knows whether the effect happened: an operator is to look.
    Held {
        /// What people are told.
        reason: &'a str,
    },
    /// Handed back before the work began: the attempt is not counted.
    Released,
}

/// What a store knows of a namespace. `None`: not without looking at each id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Ids with a claim, about.
    pub claims: Option<u64>,
    /// Records of a ledger, about.
    pub records: Option<u64>,
    /// Dead and held records, exactly.
    pub dead_letters: Option<u64>,
}
