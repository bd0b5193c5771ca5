//! The embedded store behind the trait of the shared ones.

use crate::convert::{error_of, record_of, refused};
use crate::error::{Error, ErrorKind, MoveError, Result};
use crate::record::Record;
use crate::store::{Begun, Call, DedupStore, Ending, Policy, Start, Stats};
use firstseen::ledger::{
    Attempt, Begin, BeginOptions, DeadFilter, Failure, Ledger, LedgerOptions, State,
};
use firstseen::{Claim, ClaimOptions, Durability, Namespace, Store, Ttl, limits};
use std::collections::BTreeSet;
use std::time::Duration;

/// The longest id: a ledger has four bytes less for it than claims have.
const ID_BYTES_MAX: usize = limits::LEDGER_ID_BYTES_MAX;

/// A store of this process, as a [`DedupStore`]: to begin with, for tests, and where one machine is enough.
///
/// It keeps the rules of the trait, with these differences in what it knows and costs:
///
/// - **It remembers no [`Call`]**: no answer is lost between a program and a store in its memory. A future that is dropped while
///   it waits for the disk has made its claim; an attempt that it began is handed back.
/// - **Leases outlive the process**, as those of a server do. If the workers are in this process, have them end with it:
///   [`leases_end_with_process`](Self::leases_end_with_process).
/// - In the history of a record, `Held` reads as `Failed` once the record is redriven, and what an operator has settled as `Held`.
/// - [`dead_letters`](DedupStore::dead_letters) and [`stats`](DedupStore::stats) read where all dead letters of the store are.
///   Claims and records are not counted.
/// - [`Unavailable`](ErrorKind::Unavailable) means that the store is busy, and that nothing was done.
///
/// **Durability** is that of the store, or what [`durability`](Self::durability) says: at [`Durability::Process`] nothing is lost
/// when the process is killed, at [`Durability::Disk`] nothing when the power goes.
///
/// Where the store has no future for a call, that runs on a thread of tokio for blocking work: these calls need its runtime.
#[derive(Debug, Clone)]
pub struct Embedded {
    store: Store,
    durability: Durability,
    outlives_process: bool,
}

impl Embedded {
    /// Returns this store as a [`DedupStore`].
    pub fn new(store: Store) -> Self {
        let durability = store.durability();
        Self { store, durability, outlives_process: true }
    }

    /// Sets what an answer guarantees.
    #[must_use]
    pub fn durability(self, durability: Durability) -> Self {
        Self { durability, ..self }
    }

    /// Has leases end when the process does, so that its records can be begun at once when the store is opened again.
    #[must_use]
    pub fn leases_end_with_process(self) -> Self {
        Self { outlives_process: false, ..self }
    }

    /// Returns the store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    fn options(&self) -> LedgerOptions {
        LedgerOptions::new()
            .result_bytes_max(limits::LEDGER_VALUE_BYTES_MAX)
            .lease_outlives_process(self.outlives_process)
            // The disk is awaited after it, without a thread.
            .durability(self.durability.min(Durability::Process))
    }

    fn ledger(&self, namespace: &str, options: LedgerOptions) -> Result<Ledger> {
        check_namespace(namespace)?;
        self.store.ledger_with(namespace, options).map_err(error_of("open the ledger"))
    }

    /// Returns the ledger of this name, unless nothing can be in it.
    fn known_ledger(&self, namespace: &str) -> Result<Option<Ledger>> {
        check_namespace(namespace)?;
        let known = self.store.find_namespace(namespace);
        known.map(|_| self.ledger(namespace, self.options())).transpose()
    }

    fn namespace(&self, name: &str) -> Result<Namespace> {
        check_namespace(name)?;
        self.store.namespace(name).map_err(error_of("open the namespace"))
    }

    /// Waits until what was answered is as durable as asked.
    async fn settled(&self) -> Result<()> {
        match self.durability {
            Durability::Disk => self.store.sync_async().await.map_err(error_of("sync")),
            _ => Ok(()),
        }
    }
}

impl DedupStore for Embedded {
    async fn claim_batch(
        &self,
        namespace: &str,
        ids: &[&[u8]],
        ttl: Ttl,
        _: Call,
    ) -> Result<Vec<Claim>> {
        ids.iter().try_for_each(|id| check_id(id))?;
        let namespace = self.namespace(namespace)?;
        let options = ClaimOptions::new().ttl(ttl).durability(self.durability);
        let mut answers = Vec::with_capacity(ids.len());
        for batch in batches(ids) {
            let claimed = namespace.claim_batch_with_async(batch, options).await;
            answers.extend(claimed.map_err(error_of("claim"))?);
        }
        Ok(answers)
    }

    async fn contains(&self, namespace: &str, id: &[u8]) -> Result<bool> {
        check_namespace(namespace)?;
        check_id(id)?;
        let Some(namespace) = self.store.find_namespace(namespace) else { return Ok(false) };
        let id = id.to_vec();
        let what = "look up a claim";
        let found = blocking(what, move || namespace.contains(id).map_err(error_of(what))).await?;
        self.settled().await?;
        Ok(found)
    }

    async fn forget(&self, namespace: &str, id: &[u8]) -> Result<bool> {
        check_namespace(namespace)?;
        check_id(id)?;
        let Some(namespace) = self.store.find_namespace(namespace) else { return Ok(false) };
        let options = ClaimOptions::new().durability(self.durability);
        namespace.forget_with_async(id, options).await.map_err(error_of("forget"))
    }

    async fn begin(
        &self,
        namespace: &str,
        id: &[u8],
        start: &Start<'_>,
        policy: &Policy,
        _: Call,
    ) -> Result<Begun> {
        check_id(id)?;
        let ledger = self.ledger(namespace, with_policy(self.options(), policy))?;
        let mut options = BeginOptions::new().worker(start.worker).lease(start.lease);
        if let Some(fingerprint) = start.fingerprint {
            options = options.fingerprint(fingerprint);
        }
        let begun = ledger.begin_async(id, options).await.map_err(error_of("begin"))?;
        let shown = |record: Box<_>| record_of(&ledger, *record);
        let begun = match begun {
            Begin::Started(attempt) => {
                // Until the caller hears of it, nobody can work on it.
                let mut unheard = Unheard(Some(attempt));
                self.settled().await?;
                return unheard.heard();
            }
            Begin::InProgress(record) | Begin::Outdated(record) => Begun::InProgress(shown(record)),
            Begin::Completed(record) => Begun::Completed(shown(record)),
            Begin::RetryAt(record) => Begun::RetryAt(shown(record)),
            Begin::Held(record) => Begun::Held(shown(record)),
            Begin::Dead(record) => Begun::Dead(shown(record)),
            Begin::Mismatch(record) => Begun::Mismatch(shown(record)),
            _ => return Err(unknown("begin")),
        };
        self.settled().await?;
        Ok(begun)
    }

    async fn renew(
        &self,
        namespace: &str,
        id: &[u8],
        token: u64,
        lease: Duration,
    ) -> Result<(), MoveError> {
        check_id(id)?;
        check_namespace(namespace)?;
        let what = "renew";
        let Some(ledger) = self.known_ledger(namespace)? else {
            return Err(MoveError::Fenced(None));
        };
        let id = id.to_vec();
        blocking_move(what, move || {
            let refused = |error| refused(what, &ledger, token, error);
            let attempt = Resumed::new(ledger.resume(&id, token).map_err(refused)?);
            let record = attempt.get().record();
            if matches!(record.state, State::Held | State::Dead { .. }) {
                let record = record_of(&ledger, record);
                return Err(if record.is_ended_by(token) {
                    MoveError::Over(record.into())
                } else {
                    MoveError::LeaseEnded
                });
            }
            attempt.get().renew_for(lease).map_err(refused)
        })
        .await?;
        Ok(self.settled().await?)
    }

    async fn end(
        &self,
        namespace: &str,
        id: &[u8],
        token: u64,
        ending: &Ending<'_>,
        policy: &Policy,
    ) -> Result<(), MoveError> {
        check_id(id)?;
        let mut options = with_policy(self.options(), policy);
        if let Ending::Completed { ttl, .. } = ending {
            options = options.result_ttl(*ttl);
        }
        let ledger = self.ledger(namespace, options)?;
        let refused = |error| refused("end an attempt", &ledger, token, error);
        let attempt = Resumed::new(ledger.resume(id, token).map_err(refused)?);
        let record = attempt.get().record();
        if matches!(record.state, State::Held | State::Dead { .. }) {
            let record = record_of(&ledger, record);
            if record.is_ended_by(token) {
                return Err(MoveError::Over(record.into()));
            }
            if !matches!(ending, Ending::Completed { .. }) {
                return Err(MoveError::Fenced(Some(record.into())));
            }
        }
        let attempt = attempt.get();
        let ended = match *ending {
            Ending::Completed { result, is_failure: false, .. } => {
                attempt.complete_async(result).await
            }
            Ending::Completed { result, .. } => {
                attempt.fail_async(Failure::replayed("", result)).await
            }
            Ending::Failed { retry_after, reason } => {
                attempt.fail_async(Failure::retry_after(reason, retry_after)).await
            }
            Ending::Final { reason } => attempt.fail_async(Failure::last(reason)).await,
            Ending::Held { reason } => attempt.fail_async(Failure::hold(reason)).await,
            Ending::Released => attempt.release_async().await,
        };
        ended.map_err(refused)?;
        Ok(self.settled().await?)
    }

    async fn record(&self, namespace: &str, id: &[u8]) -> Result<Option<Record>> {
        check_id(id)?;
        let Some(ledger) = self.known_ledger(namespace)? else { return Ok(None) };
        let id = id.to_vec();
        let what = "read a record";
        let record = blocking(what, move || {
            let record = ledger.get(id).map_err(error_of(what))?;
            Ok(record.map(|record| record_of(&ledger, record)))
        });
        let record = record.await?;
        self.settled().await?;
        Ok(record)
    }

    async fn redrive(&self, namespace: &str, id: &[u8]) -> Result<bool> {
        check_id(id)?;
        let Some(ledger) = self.known_ledger(namespace)? else { return Ok(false) };
        let id = id.to_vec();
        let what = "redrive";
        let redrive = move || ledger.dead_letters().redrive(id).map_err(error_of(what));
        let was_there = blocking(what, redrive).await?;
        self.settled().await?;
        Ok(was_there)
    }

    async fn settle(&self, namespace: &str, id: &[u8], result: &[u8], ttl: Ttl) -> Result<bool> {
        check_id(id)?;
        let ledger = self.ledger(namespace, self.options().result_ttl(ttl))?;
        let (id, result) = (id.to_vec(), result.to_vec());
        let what = "settle";
        let was_held = blocking(what, move || {
            let letters = ledger.dead_letters();
            // It takes the place of what the attempt said, so it says the same.
            let letter = letters.get(&id).map_err(error_of(what))?;
            let last = letter.and_then(|letter| letter.record.history.last().cloned());
            let reason = last.map_or_else(String::new, |past| past.reason);
            letters.settle(id, result, &reason).map_err(error_of(what))
        });
        let was_held = was_held.await?;
        self.settled().await?;
        Ok(was_held)
    }

    async fn forget_record(&self, namespace: &str, id: &[u8]) -> Result<bool> {
        check_id(id)?;
        let Some(ledger) = self.known_ledger(namespace)? else { return Ok(false) };
        let id = id.to_vec();
        let what = "forget a record";
        let was_there = blocking(what, move || ledger.forget(id).map_err(error_of(what))).await?;
        self.settled().await?;
        Ok(was_there)
    }

    async fn dead_letters(
        &self,
        namespace: &str,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>> {
        let Some(ledger) = self.known_ledger(namespace)? else { return Ok(Vec::new()) };
        let letters = blocking(DEAD_LETTERS, move || dead_letters(&ledger)).await?;
        self.settled().await?;
        let letters = letters.into_iter().filter(|id| after.is_none_or(|after| &id[..] > after));
        Ok(letters.take(limit).collect())
    }

    async fn stats(&self, namespace: &str) -> Result<Stats> {
        let mut stats = Stats { dead_letters: Some(0), ..Stats::default() };
        if let Some(ledger) = self.known_ledger(namespace)? {
            let letters = blocking(DEAD_LETTERS, move || dead_letters(&ledger)).await?;
            stats.dead_letters = Some(letters.len() as u64);
        }
        Ok(stats)
    }

    fn id_bytes_max(&self) -> usize {
        ID_BYTES_MAX
    }

    fn result_bytes_max(&self) -> usize {
        limits::LEDGER_VALUE_BYTES_MAX
    }
}

/// An attempt that was begun, and of which the caller has not heard. Dropped, it is handed back.
struct Unheard(Option<Attempt>);

impl Unheard {
    fn heard(&mut self) -> Result<Begun> {
        let Some(attempt) = self.0.take() else { return Err(unknown("begin")) };
        let number = attempt.number();
        Ok(Begun::Started { token: attempt.detach(), attempt: number })
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        let Some(attempt) = self.0.take() else { return };
        if let Err(error) = attempt.release() {
            tracing::warn!(%error, "an attempt that nobody heard of was not handed back");
        }
        attempt.detach();
    }
}

/// An attempt for one call. Dropped, it goes on.
struct Resumed(Option<Attempt>);

impl Resumed {
    fn new(attempt: Attempt) -> Self {
        Self(Some(attempt))
    }

    fn get(&self) -> &Attempt {
        self.0.as_ref().expect("it is taken when it is dropped, and not before")
    }
}

impl Drop for Resumed {
    fn drop(&mut self) {
        if let Some(attempt) = self.0.take() {
            attempt.detach();
        }
    }
}

fn with_policy(options: LedgerOptions, policy: &Policy) -> LedgerOptions {
    let Policy { on_lease_end, attempts_max, dead_ttl } = *policy;
    options.on_lease_end(on_lease_end).attempts_max(attempts_max).dead_ttl(dead_ttl)
}

const DEAD_LETTERS: &str = "list the dead letters";

/// Returns the ids of dead and held records, in order. Those that cannot be read are among them: a person is to look.
fn dead_letters(ledger: &Ledger) -> Result<BTreeSet<Vec<u8>>> {
    let mut ids = BTreeSet::new();
    for filter in [DeadFilter::new(), DeadFilter::new().held()] {
        let page = ledger.dead_letters().list(&filter).map_err(error_of(DEAD_LETTERS))?;
        ids.extend(page.letters.into_iter().map(|letter| letter.record.id));
        ids.extend(page.unreadable.into_iter().map(|(id, _)| id));
    }
    Ok(ids)
}

fn check_namespace(name: &str) -> Result<()> {
    check_length("the name of a namespace", name.len(), limits::NAMESPACE_BYTES_MAX)
}

fn check_id(id: &[u8]) -> Result<()> {
    check_length("an id", id.len(), ID_BYTES_MAX)
}

fn check_length(what: &'static str, bytes: usize, bytes_max: usize) -> Result<()> {
    if (1..=bytes_max).contains(&bytes) {
        return Ok(());
    }
    let why = format!("it has {bytes} bytes; give it 1 to {bytes_max}");
    Err(Error::new(ErrorKind::Invalid, what, why))
}

/// Splits ids into batches that the store takes.
fn batches<'a, 'b>(mut ids: &'a [&'b [u8]]) -> impl Iterator<Item = &'a [&'b [u8]]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |id: &&&[u8]| {
            bytes += id.len();
            bytes <= limits::BATCH_BYTES_MAX
        };
        let count = ids.iter().take(limits::BATCH_IDS_MAX).take_while(fits).count();
        let (batch, rest) = ids.split_at(count);
        ids = rest;
        (!batch.is_empty()).then_some(batch)
    })
}

/// Runs what may wait on a thread for that.
async fn blocking<T: Send + 'static>(
    what: &'static str,
    call: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(call).await {
        Ok(done) => done,
        Err(error) => Err(Error::new(ErrorKind::Environment, what, error)),
    }
}

/// Runs a move of an attempt on a thread that may wait.
async fn blocking_move(
    what: &'static str,
    call: impl FnOnce() -> Result<(), MoveError> + Send + 'static,
) -> Result<(), MoveError> {
    match tokio::task::spawn_blocking(call).await {
        Ok(done) => done,
        Err(error) => Err(Error::new(ErrorKind::Environment, what, error).into()),
    }
}

fn unknown(what: &'static str) -> Error {
    Error::new(ErrorKind::Environment, what, "the embedded store gave an answer of a later release")
}
