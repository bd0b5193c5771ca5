//! A namespace: the calls of a store, on a separate set of ids.

use crate::engine::{Claim, ClaimSpec, Engine, Held, History, NsInfo, Reserved, Seen, Settings};
use crate::error::Result;
use crate::store::claim::ClaimOptions;
use crate::store::handle::Store;
use crate::store::reservation::{BatchReservation, Reservation, Reserve};
use crate::sync::Arc;
use crate::time::Ttl;

/// Settings of a namespace; unset ones come from the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NamespaceOptions {
    pub(super) ttl: Option<Ttl>,
    pub(super) sliding: Option<bool>,
}

impl NamespaceOptions {
    /// Creates options with nothing set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns ttl and sliding, with those of the store where nothing is set.
    pub(crate) fn resolved(self, engine: &Engine) -> (Ttl, bool) {
        let Settings { ttl, sliding, .. } = *engine.settings();
        (self.ttl.unwrap_or(ttl), self.sliding.unwrap_or(sliding))
    }

    /// Sets how long claims live.
    #[must_use]
    pub fn ttl(self, ttl: impl Into<Ttl>) -> Self {
        Self { ttl: Some(ttl.into()), ..self }
    }

    /// Sets whether a duplicate moves the end of its claim.
    #[must_use]
    pub fn sliding(self, sliding: bool) -> Self {
        Self { sliding: Some(sliding), ..self }
    }
}

/// A namespace of a store. A handle like [`Store`]: cheap to clone, safe to share, and it keeps the store open.
#[derive(Debug, Clone)]
pub struct Namespace {
    store: Store,
    info: Arc<NsInfo>,
}

pub(super) fn spec(engine: &Engine, ns: &NsInfo, options: ClaimOptions) -> Result<ClaimSpec> {
    if let Some(ttl) = options.ttl {
        ttl.check()?;
    }
    Ok(ClaimSpec {
        ttl: options.ttl.unwrap_or_else(|| ns.ttl()),
        sliding: options.sliding.unwrap_or_else(|| ns.sliding()),
        durability: options.durability.unwrap_or(engine.settings().durability),
        wait: options.wait,
    })
}

#[inline]
pub(super) fn claim(
    engine: &Engine,
    ns: &NsInfo,
    id: &[u8],
    options: ClaimOptions,
) -> Result<Claim> {
    engine.claim(ns, id, spec(engine, ns, options)?)
}

/// Returns the answer for the only id of a reservation.
pub(super) fn reserve_answer(batch: BatchReservation) -> Reserve {
    match batch.answers().first() {
        Some(Reserved::Duplicate { first_seen }) => Reserve::Duplicate { first_seen: *first_seen },
        Some(Reserved::InProgress) => Reserve::InProgress,
        _ => Reserve::FirstSeen(Reservation::new(batch)),
    }
}

impl Namespace {
    pub(crate) fn new(store: Store, info: Arc<NsInfo>) -> Self {
        Self { store, info }
    }

    pub(super) fn engine(&self) -> &Engine {
        self.store.engine()
    }

    pub(crate) fn info(&self) -> &Arc<NsInfo> {
        &self.info
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.info.name
    }

    /// Returns the store it belongs to.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Claims an id; see [`Store::claim`].
    ///
    /// # Errors
    ///
    /// As [`Store::claim`].
    pub fn claim(&self, id: impl AsRef<[u8]>) -> Result<Claim> {
        claim(self.engine(), &self.info, id.as_ref(), ClaimOptions::new())
    }

    /// Claims an id with settings for this call; see [`Store::claim_with`].
    ///
    /// # Errors
    ///
    /// As [`Store::claim_with`].
    pub fn claim_with(&self, id: impl AsRef<[u8]>, options: ClaimOptions) -> Result<Claim> {
        claim(self.engine(), &self.info, id.as_ref(), options)
    }

    /// Claims many ids at once; see [`Store::claim_batch`].
    ///
    /// # Errors
    ///
    /// As [`Store::claim_batch`].
    pub fn claim_batch<I: AsRef<[u8]>>(&self, ids: &[I]) -> Result<Vec<Claim>> {
        self.claim_batch_with(ids, ClaimOptions::new())
    }

    /// Claims many ids at once, with settings for this call; see [`Store::claim_batch_with`].
    ///
    /// # Errors
    ///
    /// As [`Store::claim_batch_with`].
    pub fn claim_batch_with<I: AsRef<[u8]>>(
        &self,
        ids: &[I],
        options: ClaimOptions,
    ) -> Result<Vec<Claim>> {
        let spec = spec(self.engine(), &self.info, options)?;
        self.engine().claim_batch(&self.info, ids, spec)
    }

    /// Reserves an id; see [`Store::reserve`].
    ///
    /// # Errors
    ///
    /// As [`Store::reserve`].
    pub fn reserve(&self, id: impl AsRef<[u8]>) -> Result<Reserve> {
        self.reserve_with(id, ClaimOptions::new())
    }

    /// Reserves an id with settings for this call; see [`Store::reserve_with`].
    ///
    /// # Errors
    ///
    /// As [`Store::reserve_with`].
    pub fn reserve_with(&self, id: impl AsRef<[u8]>, options: ClaimOptions) -> Result<Reserve> {
        self.reserve_batch_with(&[id], options).map(reserve_answer)
    }

    /// Reserves many ids at once; see [`Store::reserve_batch`].
    ///
    /// # Errors
    ///
    /// As [`Store::reserve_batch`].
    pub fn reserve_batch<I: AsRef<[u8]>>(&self, ids: &[I]) -> Result<BatchReservation> {
        self.reserve_batch_with(ids, ClaimOptions::new())
    }

    /// Reserves many ids at once, with settings for this call; see [`Store::reserve_batch_with`].
    ///
    /// # Errors
    ///
    /// As [`Store::reserve_batch_with`].
    pub fn reserve_batch_with<I: AsRef<[u8]>>(
        &self,
        ids: &[I],
        options: ClaimOptions,
    ) -> Result<BatchReservation> {
        let spec = spec(self.engine(), &self.info, options)?;
        let (hold, answers, rests_on) = self.engine().reserve(&self.info, ids, spec.wait)?;
        // Create this before waiting: if the wait fails, dropping it releases the ids.
        let reservation = BatchReservation::new(
            self.store().clone(),
            Arc::clone(self.info()),
            hold,
            answers,
            spec,
        );
        self.engine().await_durable(spec.durability, rests_on)?;
        Ok(reservation)
    }

    /// Returns whether the id has a live claim; see [`Store::contains`].
    ///
    /// # Errors
    ///
    /// As [`Store::contains`].
    pub fn contains(&self, id: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.get(id)?.is_some())
    }

    /// Returns the live claim of an id, if there is one; see [`Store::get`].
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    pub fn get(&self, id: impl AsRef<[u8]>) -> Result<Option<Seen>> {
        let engine = self.engine();
        engine.get(&self.info, id.as_ref(), engine.settings().durability)
    }

    /// Forgets every id of this namespace that has a live claim, one by one, and returns how many. Not atomic: after
    /// an error or a crash some are forgotten, and calling again does the rest. Claims made meanwhile may remain.
    /// Reads the whole store.
    ///
    /// # Errors
    ///
    /// As [`Store::forget`] and [`Store::export`].
    pub fn forget_all(&self) -> Result<u64> {
        let spec = spec(self.engine(), &self.info, ClaimOptions::new())?;
        self.engine().forget_all(&self.info, spec)
    }

    /// Ends the live claim of an id; see [`Store::forget`].
    ///
    /// # Errors
    ///
    /// As [`Store::forget`].
    pub fn forget(&self, id: impl AsRef<[u8]>) -> Result<bool> {
        self.forget_with(id, ClaimOptions::new())
    }

    /// Ends the live claim of an id with settings for this call; see [`Store::forget_with`].
    ///
    /// # Errors
    ///
    /// As [`Store::forget_with`].
    pub fn forget_with(&self, id: impl AsRef<[u8]>, options: ClaimOptions) -> Result<bool> {
        let spec = spec(self.engine(), &self.info, options)?;
        self.engine().forget(&self.info, id.as_ref(), spec)
    }

    /// Returns what the log still knows of an id: when it was claimed, extended and forgotten, what a ledger of this name
    /// has written about it, and what was written in one step with each.
    ///
    /// **Reads the whole log**, segment by segment, while claims go on; removing segments waits for it. What has ended, or
    /// was replaced, is in there until compaction drops it, so the answer is what is left and not all that happened.
    /// Damaged stretches are listed, and the rest is told all the same (I11). What a promoted replay scope has replaced is
    /// not told.
    ///
    /// ```
    /// use firstseen::HistoryKind;
    /// # let dir = tempfile::tempdir()?;
    /// # let store = firstseen::Store::open(dir.path().join("seen.db"))?;
    /// let payments = store.namespace("payments")?;
    /// payments.claim_batch(&["order-1", "order-2"])?;
    /// payments.forget("order-1")?;
    /// let history = payments.history("order-1")?;
    /// let what: Vec<_> = history.events.iter().map(|event| event.what).collect();
    /// assert_eq!(what, [HistoryKind::Claimed, HistoryKind::Forgotten]);
    /// assert_eq!(history.events[0].commit.claims, 2, "claimed in one step with another");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// - [`FixCall`](crate::ErrorKind::FixCall) for an invalid id.
    /// - [`Environment`](crate::ErrorKind::Environment) if the log cannot be read at all.
    pub fn history(&self, id: impl AsRef<[u8]>) -> Result<History> {
        self.engine().history(&self.info, id.as_ref())
    }

    /// Lists the reserved ids of this namespace; see [`Store::held`].
    pub fn held(&self) -> Vec<Held> {
        self.engine().held(Some(self.info.id()))
    }
}
