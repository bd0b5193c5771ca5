//! A ledger on any store: its policies, and who may work on an id.

use crate::attempt::Attempt;
use crate::error::{Error, ErrorKind, Result};
use crate::record::{Record, State};
use crate::repeat::{PATIENCE, patiently};
use crate::store::{Begun, Call, DedupStore, Policy, Start, Stats};
use firstseen::Ttl;
use firstseen::ledger::{Backoff, Fingerprint, OnLeaseEnd};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The pauses between two looks at a record that somebody works on: the first, doubled up to the longest.
const LOOK: Duration = Duration::from_millis(20);
const LOOK_MAX: Duration = Duration::from_secs(1);

/// A ledger on a shared store. A handle: cheap to clone, and all clones are the same ledger.
///
/// Calls whose answer is lost are repeated for [`LedgerOptions::patience`], and hear what the first try did.
///
/// ```
/// use firstseen_shared::{Begin, Embedded, LedgerOptions, SharedLedger};
/// # let dir = tempfile::tempdir()?;
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
/// # runtime.block_on(async {
/// let store = Embedded::new(firstseen::Store::open(dir.path().join("seen.db"))?);
/// let ledger = SharedLedger::new(store, "payments", LedgerOptions::new())?;
/// match ledger.begin(b"order-17", None).await? {
///     Begin::Started(attempt) => {
///         let renewals = attempt.keep_renewed();
///         tokio::select! {
///             receipt = async { "receipt 4711" } => attempt.complete(receipt).await?,
///             lost = renewals.lost() => println!("stopped: {lost:?}"),
///         }
///     }
///     Begin::Completed(record) => println!("done before: {:?}", record.result()),
///     refused => println!("not now: {refused:?}"),
/// }
/// # assert!(matches!(ledger.begin(b"order-17", None).await?, Begin::Completed(_)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SharedLedger<S> {
    inner: Arc<Inner<S>>,
}

struct Inner<S> {
    store: Arc<S>,
    namespace: String,
    options: LedgerOptions,
}

/// The policies of a ledger. They are not stored: every program brings its own, and they count from its next call on.
#[derive(Debug, Clone, PartialEq)]
pub struct LedgerOptions {
    lease: Duration,
    on_lease_end: OnLeaseEnd,
    attempts_max: u32,
    backoff: Backoff,
    result_ttl: Ttl,
    dead_ttl: Ttl,
    result_bytes_max: usize,
    worker: String,
    patience: Duration,
}

impl Default for LedgerOptions {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(60),
            on_lease_end: OnLeaseEnd::Retry,
            attempts_max: 5,
            backoff: Backoff::default(),
            result_ttl: Ttl::FOREVER,
            dead_ttl: Ttl::FOREVER,
            result_bytes_max: 1 << 20,
            worker: String::new(),
            patience: PATIENCE,
        }
    }
}

impl LedgerOptions {
    /// Creates options with the defaults: leases of a minute, another attempt after a lease ends, five attempts,
    /// [`Backoff::default`], results and dead letters kept for ever, results of up to 1 MiB, and half a minute of patience.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long an attempt may go without a renewal. At least a millisecond; many seconds where a server is far away.
    #[must_use]
    pub fn lease(self, lease: Duration) -> Self {
        Self { lease, ..self }
    }

    /// Sets what happens when a lease ends.
    #[must_use]
    pub fn on_lease_end(self, on_lease_end: OnLeaseEnd) -> Self {
        Self { on_lease_end, ..self }
    }

    /// Sets after how many attempts a record is dead, counted as they start. At least one.
    #[must_use]
    pub fn attempts_max(self, attempts_max: u32) -> Self {
        Self { attempts_max, ..self }
    }

    /// Sets how long a record waits after a failure.
    #[must_use]
    pub fn backoff(self, backoff: Backoff) -> Self {
        Self { backoff, ..self }
    }

    /// Sets how long results are kept, counted from the completion.
    #[must_use]
    pub fn result_ttl(self, ttl: impl Into<Ttl>) -> Self {
        Self { result_ttl: ttl.into(), ..self }
    }

    /// Sets how long dead letters are kept, counted from their death.
    #[must_use]
    pub fn dead_ttl(self, ttl: impl Into<Ttl>) -> Self {
        Self { dead_ttl: ttl.into(), ..self }
    }

    /// Sets the longest result in bytes. A store may have a lower limit; see [`SharedLedger::result_bytes_max`].
    #[must_use]
    pub fn result_bytes_max(self, result_bytes_max: usize) -> Self {
        Self { result_bytes_max, ..self }
    }

    /// Names the worker, for people who read a record. It decides nothing: tokens do.
    #[must_use]
    pub fn worker(self, worker: impl Into<String>) -> Self {
        Self { worker: worker.into(), ..self }
    }

    /// Sets how long a call is repeated while the store does not answer. `begin` and a renewal give up sooner where the
    /// lease is shorter.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    fn check(&self) -> Result<()> {
        let wrong = if self.attempts_max == 0 {
            "attempts_max of 0 would never start anything; give at least 1"
        } else if self.lease < Duration::from_millis(1) {
            "a lease below 1ms would end at once; is there no time left for the work?"
        } else if [self.result_ttl, self.dead_ttl].contains(&Ttl::from_millis(0)) {
            "a ttl of 0 would forget a record at once; give at least 1ms, or \"forever\""
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Invalid, "the options of a ledger", wrong))
    }
}

/// The answer to [`SharedLedger::begin`]. All except [`Started`](Begin::Started) carry the record.
#[must_use = "without looking at the answer, nobody knows whether to do the work"]
pub enum Begin<S: DedupStore> {
    /// Do the work: nobody else does, while the lease lasts.
    Started(Attempt<S>),
    /// Another attempt works on it. Come back later, or [wait](SharedLedger::wait).
    InProgress(Record),
    /// Done before: here is the result. Do not do it again.
    Completed(Record),
    /// Waiting for a retry; its state says until when.
    RetryAt(Record),
    /// An operator has to find out first whether the effect happened.
    Held(Record),
    /// Given up: a dead letter.
    Dead(Record),
    /// The id was begun with another input. The result is not shown.
    Mismatch(Record),
}

impl<S: DedupStore> Begin<S> {
    /// Returns the existing record; `None` if an attempt was started.
    pub fn record(&self) -> Option<&Record> {
        match self {
            Self::Started(_) => None,
            Self::InProgress(record)
            | Self::Completed(record)
            | Self::RetryAt(record)
            | Self::Held(record)
            | Self::Dead(record)
            | Self::Mismatch(record) => Some(record),
        }
    }

    /// Returns the attempt, if one was started.
    #[must_use = "an attempt that is dropped has failed"]
    pub fn started(self) -> Option<Attempt<S>> {
        match self {
            Self::Started(attempt) => Some(attempt),
            _ => None,
        }
    }
}

impl<S: DedupStore> fmt::Debug for Begin<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Started(attempt) => return f.debug_tuple("Started").field(attempt).finish(),
            Self::InProgress(_) => "InProgress",
            Self::Completed(_) => "Completed",
            Self::RetryAt(_) => "RetryAt",
            Self::Held(_) => "Held",
            Self::Dead(_) => "Dead",
            Self::Mismatch(_) => "Mismatch",
        };
        f.debug_tuple(name).field(&self.record()).finish()
    }
}

impl<S> Clone for SharedLedger<S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<S> fmt::Debug for SharedLedger<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedLedger")
            .field("namespace", &self.inner.namespace)
            .field("options", &self.inner.options)
            .finish_non_exhaustive()
    }
}

impl<S: DedupStore> SharedLedger<S> {
    /// Returns the ledger of this name on a store, or on an [`Arc`] of one. Asks the store nothing.
    ///
    /// # Errors
    ///
    /// [`Invalid`](ErrorKind::Invalid) for a policy that makes no sense, such as no attempts at all.
    pub fn new(
        store: impl Into<Arc<S>>,
        namespace: impl Into<String>,
        options: LedgerOptions,
    ) -> Result<Self> {
        options.check()?;
        let (store, namespace) = (store.into(), namespace.into());
        Ok(Self { inner: Arc::new(Inner { store, namespace, options }) })
    }

    /// Returns the store.
    pub fn store(&self) -> &Arc<S> {
        &self.inner.store
    }

    /// Returns its name.
    pub fn namespace(&self) -> &str {
        &self.inner.namespace
    }

    /// Returns the length of a lease.
    pub fn lease(&self) -> Duration {
        self.inner.options.lease
    }

    /// Returns the longest id in bytes.
    pub fn id_bytes_max(&self) -> usize {
        self.inner.store.id_bytes_max()
    }

    /// Returns the longest result in bytes: that of the options, or of the store if it has a lower limit.
    pub fn result_bytes_max(&self) -> usize {
        self.inner.options.result_bytes_max.min(self.inner.store.result_bytes_max())
    }

    pub(crate) fn policy(&self) -> Policy {
        let LedgerOptions { on_lease_end, attempts_max, dead_ttl, .. } = self.inner.options;
        Policy { on_lease_end, attempts_max, dead_ttl }
    }

    pub(crate) fn backoff(&self) -> Backoff {
        self.inner.options.backoff
    }

    pub(crate) fn result_ttl(&self) -> Ttl {
        self.inner.options.result_ttl
    }

    pub(crate) fn patience(&self) -> Duration {
        self.inner.options.patience
    }

    /// Starts an attempt at an id, if nobody works on it, it is not done, and it may be tried again. Of callers that ask at
    /// the same time, on any machine, one hears [`Begin::Started`]. The attempt is counted before this returns, so a worker
    /// that dies of its message does so only as often as the policy allows.
    ///
    /// Dropped before it is ready, it may have begun an attempt that nobody has: that ends with its lease.
    ///
    /// # Errors
    ///
    /// The work is not to be done. After [`Unavailable`](ErrorKind::Unavailable) an attempt may have started, which ends with
    /// its lease and is counted.
    pub async fn begin(
        &self,
        id: impl AsRef<[u8]>,
        fingerprint: Option<Fingerprint>,
    ) -> Result<Begin<S>> {
        let Inner { store, namespace, options } = &*self.inner;
        let (id, call, policy) = (id.as_ref(), Call::new(), self.policy());
        let start = Start { lease: options.lease, worker: &options.worker, fingerprint };
        // An answer that comes when most of the lease is over is of no use.
        let patience = options.patience.min(options.lease / 3 * 2);
        // The lease counts from the first try at the earliest, whichever of them began the attempt.
        let sent = Instant::now();
        let begun = patiently(patience, |_| store.begin(namespace, id, &start, &policy, call));
        Ok(match begun.await? {
            Begun::Started { token, attempt } => {
                Begin::Started(Attempt::new(self.clone(), id, token, attempt, sent))
            }
            Begun::InProgress(record) => Begin::InProgress(record),
            Begun::Completed(record) => Begin::Completed(record),
            Begun::RetryAt(record) => Begin::RetryAt(record),
            Begun::Held(record) => Begin::Held(record),
            Begun::Dead(record) => Begin::Dead(record),
            Begun::Mismatch(record) => Begin::Mismatch(record),
        })
    }

    /// Returns the record of an id. Starts nothing and writes nothing.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn get(&self, id: impl AsRef<[u8]>) -> Result<Option<Record>> {
        let Inner { store, namespace, options } = &*self.inner;
        let id = id.as_ref();
        patiently(options.patience, |_| store.record(namespace, id)).await
    }

    /// Waits until nobody works on the id: it is completed, failed, handed back, or its lease has ended. Returns the record as it
    /// is then, or as it is after `timeout`, whichever comes first; `None` if there is none. Asks the store again and again,
    /// with pauses that grow from 20 ms to a second.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn wait(&self, id: impl AsRef<[u8]>, timeout: Duration) -> Result<Option<Record>> {
        let id = id.as_ref();
        let deadline = Instant::now().checked_add(timeout);
        let mut pause = LOOK;
        loop {
            let record = self.get(id).await?;
            let left = match &record {
                Some(record @ Record { state: State::Running { .. }, .. }) => record.time_left(),
                _ => Duration::ZERO,
            };
            let time = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let pause_now = pause.min(left).min(time.unwrap_or(Duration::MAX));
            if pause_now.is_zero() {
                return Ok(record);
            }
            sleep(pause_now).await;
            pause = (pause * 2).min(LOOK_MAX);
        }
    }

    /// Lets a dead or held id be tried again, from now and as often as a new one. Returns whether it was dead or held; after a
    /// lost answer the repeated call may find that it was not, because the first try did it.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn redrive(&self, id: impl AsRef<[u8]>) -> Result<bool> {
        let Inner { store, namespace, options } = &*self.inner;
        let id = id.as_ref();
        patiently(options.patience, |_| store.redrive(namespace, id)).await
    }

    /// Says that a held id was done after all, and with what result. Returns whether it was held; see
    /// [`redrive`](Self::redrive) for lost answers.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn settle(&self, id: impl AsRef<[u8]>, result: impl AsRef<[u8]>) -> Result<bool> {
        let Inner { store, namespace, options } = &*self.inner;
        let (id, result) = (id.as_ref(), result.as_ref());
        let settle = |_| store.settle(namespace, id, result, options.result_ttl);
        patiently(options.patience, settle).await
    }

    /// Removes the record of an id, so that it counts as never begun; an attempt that works on it is fenced. Returns whether
    /// there was one; see [`redrive`](Self::redrive) for lost answers.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn forget(&self, id: impl AsRef<[u8]>) -> Result<bool> {
        let Inner { store, namespace, options } = &*self.inner;
        let id = id.as_ref();
        patiently(options.patience, |_| store.forget_record(namespace, id)).await
    }

    /// Returns the ids of dead and held records in ascending order, after the given one; at most `limit`.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn dead_letters(&self, after: Option<&[u8]>, limit: usize) -> Result<Vec<Vec<u8>>> {
        let Inner { store, namespace, options } = &*self.inner;
        patiently(options.patience, |_| store.dead_letters(namespace, after, limit)).await
    }

    /// Returns what the store knows of this namespace.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn stats(&self) -> Result<Stats> {
        let Inner { store, namespace, options } = &*self.inner;
        patiently(options.patience, |_| store.stats(namespace)).await
    }
}
