//! A namespace: the calls of a store, for ids of their own.

use crate::engine::{ClaimSpec, Engine, Held, NsInfo};
use crate::error::Result;
use crate::store::{
    BatchReservation, Claim, ClaimOptions, Reservation, Reserve, Reserved, Seen, Store,
};
use crate::sync::Arc;
use crate::time::Ttl;

/// Settings of a namespace; what is not set is as in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NamespaceOptions {
    pub(super) ttl: Option<Ttl>,
    pub(super) sliding: Option<bool>,
}

impl NamespaceOptions {
    /// Nothing set.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long claims live.
    #[must_use]
    pub fn ttl(self, ttl: impl Into<Ttl>) -> Self {
        Self { ttl: Some(ttl.into()), ..self }
    }

    /// Whether a duplicate moves the end of the claim.
    #[must_use]
    pub fn sliding(self, sliding: bool) -> Self {
        Self { sliding: Some(sliding), ..self }
    }
}

/// A namespace of a store. A handle like [`Store`]: cheap to clone, safe to share, and it keeps the
/// store open.
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
        durability: options.durability.unwrap_or(engine.settings.durability),
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
    engine.claim(ns, id, spec(engine, ns, options)?).map(Claim::from)
}

impl Namespace {
    pub(super) fn new(store: Store, info: Arc<NsInfo>) -> Self {
        Self { store, info }
    }

    pub(super) fn engine(&self) -> &Engine {
        self.store.engine()
    }

    pub(super) fn info(&self) -> &NsInfo {
        &self.info
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.info.name
    }

    /// The store it belongs to.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// As [`Store::claim`].
    ///
    /// # Errors
    ///
    /// As [`Store::claim`].
    pub fn claim(&self, id: impl AsRef<[u8]>) -> Result<Claim> {
        claim(self.engine(), &self.info, id.as_ref(), ClaimOptions::new())
    }

    /// As [`Store::claim_with`].
    ///
    /// # Errors
    ///
    /// As [`Store::claim_with`].
    pub fn claim_with(&self, id: impl AsRef<[u8]>, options: ClaimOptions) -> Result<Claim> {
        claim(self.engine(), &self.info, id.as_ref(), options)
    }

    /// As [`Store::claim_batch`].
    ///
    /// # Errors
    ///
    /// As [`Store::claim_batch`].
    pub fn claim_batch<I: AsRef<[u8]>>(&self, ids: &[I]) -> Result<Vec<Claim>> {
        self.claim_batch_with(ids, ClaimOptions::new())
    }

    /// As [`Store::claim_batch_with`].
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
        let answers = self.engine().claim_batch(&self.info, ids, spec)?;
        Ok(answers.into_iter().map(Claim::from).collect())
    }

    /// As [`Store::reserve`].
    ///
    /// # Errors
    ///
    /// As [`Store::reserve`].
    pub fn reserve(&self, id: impl AsRef<[u8]>) -> Result<Reserve> {
        self.reserve_with(id, ClaimOptions::new())
    }

    /// As [`Store::reserve_with`].
    ///
    /// # Errors
    ///
    /// As [`Store::reserve_with`].
    pub fn reserve_with(&self, id: impl AsRef<[u8]>, options: ClaimOptions) -> Result<Reserve> {
        let batch = self.reserve_batch_with(&[id], options)?;
        Ok(match batch.answers().first() {
            Some(Reserved::Duplicate { first_seen }) => {
                Reserve::Duplicate { first_seen: *first_seen }
            }
            Some(Reserved::InProgress) => Reserve::InProgress,
            _ => Reserve::FirstSeen(Reservation::new(batch)),
        })
    }

    /// As [`Store::reserve_batch`].
    ///
    /// # Errors
    ///
    /// As [`Store::reserve_batch`].
    pub fn reserve_batch<I: AsRef<[u8]>>(&self, ids: &[I]) -> Result<BatchReservation> {
        self.reserve_batch_with(ids, ClaimOptions::new())
    }

    /// As [`Store::reserve_batch_with`].
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
        // Made before the wait: if that fails, dropping it releases the ids.
        let reservation = BatchReservation::new(self.clone(), hold, &answers, spec);
        self.engine().await_durable(spec.durability, rests_on)?;
        Ok(reservation)
    }

    /// As [`Store::contains`].
    ///
    /// # Errors
    ///
    /// As [`Store::contains`].
    pub fn contains(&self, id: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.get(id)?.is_some())
    }

    /// As [`Store::get`].
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    pub fn get(&self, id: impl AsRef<[u8]>) -> Result<Option<Seen>> {
        let engine = self.engine();
        let seen = engine.get(&self.info, id.as_ref(), engine.settings.durability)?;
        Ok(seen.map(Seen::from))
    }

    /// Forgets every id of this namespace that has a live claim, one after the other; answers how many. Not one
    /// step: after an error or a crash some are forgotten, and calling again does the rest. Claims that are made
    /// meanwhile may stay. The whole store is read for it.
    ///
    /// # Errors
    ///
    /// As [`Store::forget`] and [`Store::export`].
    pub fn forget_all(&self) -> Result<u64> {
        let spec = spec(self.engine(), &self.info, ClaimOptions::new())?;
        self.engine().forget_all(&self.info, spec)
    }

    /// As [`Store::forget`].
    ///
    /// # Errors
    ///
    /// As [`Store::forget`].
    pub fn forget(&self, id: impl AsRef<[u8]>) -> Result<bool> {
        self.forget_with(id, ClaimOptions::new())
    }

    /// As [`Store::forget_with`].
    ///
    /// # Errors
    ///
    /// As [`Store::forget_with`].
    pub fn forget_with(&self, id: impl AsRef<[u8]>, options: ClaimOptions) -> Result<bool> {
        let spec = spec(self.engine(), &self.info, options)?;
        self.engine().forget(&self.info, id.as_ref(), spec)
    }

    /// As [`Store::held`], for the ids of this namespace.
    pub fn held(&self) -> Vec<Held> {
        self.engine().held(Some(self.info.id))
    }
}
