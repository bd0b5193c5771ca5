//! What a dedup store must do, each call one atomic step.

use crate::error::{MoveError, Result};
use crate::record::Record;
use firstseen::ledger::{Fingerprint, OnLeaseEnd};
use firstseen::{Claim, Clock, SystemClock, Ttl};
use std::future::Future;
use std::time::Duration;

/// A store of claims and of the records of ledgers.
///
/// - **Namespaces** keep ids apart. The claims of a namespace and the records of a ledger of the same name are apart, too.
/// - **Time is the store's**: leases, ttls and delays are counted by its clock, in milliseconds, not by those of its callers. What
///   ends after a time is over at that very millisecond: a claim made at `t` with a ttl of 5 ms is live at `t + 4` and not at
///   `t + 5`; likewise a lease, and the delay of a retry.
/// - **Each call is one atomic step for each id.** Of all who ask about one id at the same time, one hears that it is first.
/// - **An error of kind [`Unavailable`](crate::ErrorKind::Unavailable) says nothing of what the call did.** Repeated with the
///   same [`Call`], it is told what the first try did: a caller whose own claim was stored, and whose answer was
///   lost, hears `FirstSeen`, not that somebody else was faster. A claim remembers the call that made it, and a running
///   record the call that began it, as long as they last and no longer.
/// - **A call that is wrong does nothing**: [`Invalid`](crate::ErrorKind::Invalid) is for an id that is empty or longer than
///   [`id_bytes_max`](Self::id_bytes_max), a namespace whose name is empty or longer than 255 bytes, a ttl of zero, a lease
///   below a millisecond, no attempts at all, a worker's name above 255 bytes, and a result above
///   [`result_bytes_max`](Self::result_bytes_max). One bad id refuses its whole batch. Ids, namespaces and results may have any
///   bytes. Of a ttl, a lease or a delay that is longer than a store can count, it may refuse the call or count as long as it
///   can, but never less than a thousand years.
/// - **Each call ends by itself**, within seconds, with [`Unavailable`](crate::ErrorKind::Unavailable) if there is no answer: who
///   repeats calls gives each try all the time that it has. A future that is dropped may have made its call or not.
/// - **Nothing fails open**: a store that cannot be asked is an error, never a first sight.
///
/// What each implementation guarantees when a server dies is in its own documentation. `firstseen-conformance` has a test for
/// each rule that is written here.
pub trait DedupStore: Send + Sync + 'static {
    /// Claims ids, however many, and returns the answers in their order. Each id is claimed by itself: a batch is no
    /// transaction, and after an error some may be claimed. Of two equal ids in a batch the second is a duplicate, also when
    /// the call is repeated.
    ///
    /// A claim ends when `ttl` has passed since it was made; duplicates do not make it longer. A duplicate is told the store's
    /// time at which the claim was made.
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

    /// Ends the claim of an id, so that the next is first again. Returns whether there was one, not counting one that has
    /// ended.
    fn forget(&self, namespace: &str, id: &[u8]) -> impl Future<Output = Result<bool>> + Send;

    /// Asks for the work of an id, and counts the attempt before it answers.
    ///
    /// In this order:
    ///
    /// 1. A record whose ttl has passed counts as none.
    /// 2. A running record that this very call has begun, and whose lease lasts, is answered as it was the first time.
    /// 3. Two fingerprints, and they differ: [`Mismatch`](Begun::Mismatch), whatever the state, and nothing changes.
    /// 4. A lease that has ended is noted in the history as [`LeaseEnded`](crate::AttemptEnd::LeaseEnded). Then the policy
    ///    decides: `Hold` makes the record held, `Fail` dead of [`LeaseEnded`](crate::DeadCause::LeaseEnded), and that is the
    ///    answer; `Retry` goes on.
    /// 5. Running, completed, held, dead, and waiting for a time that has not come are answered as such, and nothing changes.
    /// 6. As many attempts as the policy allows: dead of [`Attempts`](crate::DeadCause::Attempts).
    /// 7. Otherwise an attempt starts: it is counted, and has a token of at least one that is higher than that of every attempt
    ///    of this id before, also before the record was forgotten, had ended, or was redriven, and before the store was
    ///    started again.
    ///
    /// Records in answers are as the call has left them.
    fn begin(
        &self,
        namespace: &str,
        id: &[u8],
        start: &Start<'_>,
        policy: &Policy,
        call: Call,
    ) -> impl Future<Output = Result<Begun>> + Send;

    /// Has the lease of an attempt end `lease` from now, be that later or sooner than before. Refused with
    /// [`LeaseEnded`](MoveError::LeaseEnded) if it has ended: somebody may be about to take over.
    fn renew(
        &self,
        namespace: &str,
        id: &[u8],
        token: u64,
        lease: Duration,
    ) -> impl Future<Output = Result<(), MoveError>> + Send;

    /// Ends an attempt. It may do so after its lease, as long as nobody has taken over. If a `begin` has found the lease ended
    /// and the record is held or dead because of it, the attempt may still *complete* it, since the effect has happened; any
    /// other ending is [`Fenced`](MoveError::Fenced) then, for an operator has the record. What the attempt says
    /// takes the place of `LeaseEnded` in the history.
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

    /// Lets a dead or held record be begun again, from now and with as many attempts as at first; its history, its fingerprint
    /// and when it was first begun are kept, and it does not end by itself any more. Returns whether there was one.
    fn redrive(&self, namespace: &str, id: &[u8]) -> impl Future<Output = Result<bool>> + Send;

    /// Completes a held record, by the word of an operator who has looked the effect up. Its attempt is fenced. Returns whether
    /// there was one.
    fn settle(
        &self,
        namespace: &str,
        id: &[u8],
        result: &[u8],
        ttl: Ttl,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// Removes a record, whatever its state: an attempt that works on it is fenced. Returns whether there was one.
    fn forget_record(
        &self,
        namespace: &str,
        id: &[u8],
    ) -> impl Future<Output = Result<bool>> + Send;

    /// Returns the ids of dead and held records, in ascending order of their bytes, after the given one; at most `limit`. A
    /// record whose lease has ended is among them once a `begin` has held or buried it; one whose ttl has passed is not.
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
pub struct Call {
    bytes: [u8; 16],
    /// When it was drawn, in milliseconds since the start of this machine: what the call does was not done before that.
    drawn_ms: u64,
}

impl Call {
    /// Draws one.
    #[must_use]
    pub fn new() -> Self {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the system has random bytes");
        Self { bytes, drawn_ms: SystemClock.elapsed_ms() }
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.bytes
    }

    pub(crate) fn drawn_ms(&self) -> u64 {
        self.drawn_ms
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
    /// The fingerprint of the input; the first that an attempt starts with stays. Without one nothing is compared.
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
    /// The id was begun with another input. The result is left out of the record, with its mark of a failure and the reasons in
    /// the history, which may tell of it.
    Mismatch(Record),
}

/// How an attempt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending<'a> {
    /// With a result. The record ends `ttl` from now, whatever its lease was.
    Completed {
        /// What every later `begin` is told.
        result: &'a [u8],
        /// Whether the result is a failure that is replayed like a success.
        is_failure: bool,
        /// How long it is kept.
        ttl: Ttl,
    },
    /// It failed: to be tried again after a delay, or dead of [`Attempts`](crate::DeadCause::Attempts) if it was the last of the
    /// policy.
    Failed {
        /// Not before this has passed.
        retry_after: Duration,
        /// What people are told: its first 1,024 bytes are kept, or a little less, so that no character is cut.
        reason: &'a str,
    },
    /// It failed for good: the record is dead of [`Final`](crate::DeadCause::Final).
    Final {
        /// What people are told.
        reason: &'a str,
    },
    /// Nobody knows whether the effect happened: an operator is to look.
    Held {
        /// What people are told.
        reason: &'a str,
    },
    /// Handed back before the work began: the attempt is not counted, and the next may start at once.
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
