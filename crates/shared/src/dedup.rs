//! Claims on any store.

use crate::error::{Error, ErrorKind, Result};
use crate::repeat::{PATIENCE, patiently};
use crate::store::{Call, DedupStore, Stats};
use firstseen::{Claim, Ttl};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The claims of a namespace. A handle: cheap to clone.
///
/// Calls whose answer is lost are repeated for [`patience`](Self::patience), and hear what the first try did: a caller whose
/// own claim was stored hears `FirstSeen`, not that somebody else was faster.
///
/// ```
/// use firstseen::days;
/// use firstseen_shared::{Claim, Dedup, Embedded};
/// # let dir = tempfile::tempdir()?;
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
/// # runtime.block_on(async {
/// let store = Embedded::new(firstseen::Store::open(dir.path().join("seen.db"))?);
/// let orders = Dedup::new(store, "orders", days(7))?;
/// assert_eq!(orders.claim("order-17").await?, Claim::FirstSeen);
/// assert!(orders.claim("order-17").await?.is_duplicate());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Dedup<S> {
    store: Arc<S>,
    namespace: Arc<str>,
    ttl: Ttl,
    patience: Duration,
}

impl<S> Clone for Dedup<S> {
    fn clone(&self) -> Self {
        let (store, namespace) = (Arc::clone(&self.store), Arc::clone(&self.namespace));
        Self { store, namespace, ttl: self.ttl, patience: self.patience }
    }
}

impl<S> fmt::Debug for Dedup<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dedup")
            .field("namespace", &self.namespace)
            .field("ttl", &self.ttl)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

impl<S: DedupStore> Dedup<S> {
    /// Returns the claims of a namespace on a store, or on an [`Arc`] of one. New claims live for `ttl`. Asks the store nothing.
    ///
    /// # Errors
    ///
    /// [`Invalid`](ErrorKind::Invalid) for a ttl of zero.
    pub fn new(
        store: impl Into<Arc<S>>,
        namespace: impl Into<Arc<str>>,
        ttl: impl Into<Ttl>,
    ) -> Result<Self> {
        let ttl = ttl.into();
        if ttl == Ttl::from_millis(0) {
            let why = "a ttl of 0 would forget a claim at once; give at least 1ms, or \"forever\"";
            return Err(Error::new(ErrorKind::Invalid, "claims", why));
        }
        Ok(Self { store: store.into(), namespace: namespace.into(), ttl, patience: PATIENCE })
    }

    /// Sets how long a call is repeated while the store does not answer; half a minute by default.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Returns the store.
    pub fn store(&self) -> &Arc<S> {
        &self.store
    }

    /// Claims an id. Of all who ask at the same time, on any machine, one hears [`Claim::FirstSeen`].
    ///
    /// # Errors
    ///
    /// Those of the store. After [`Unavailable`](ErrorKind::Unavailable) nobody knows whether the id was claimed: a message that
    /// is acknowledged now may be lost, and one that is claimed once more later may be a duplicate of this call.
    pub async fn claim(&self, id: impl AsRef<[u8]>) -> Result<Claim> {
        let (id, call) = (id.as_ref(), Call::new());
        let claim = |_| self.store.claim(&self.namespace, id, self.ttl, call);
        patiently(self.patience, claim).await
    }

    /// Claims many ids, and returns the answers in their order. Each is claimed by itself: after an error some may be claimed.
    /// Of two equal ids the second is a duplicate.
    ///
    /// # Errors
    ///
    /// As [`claim`](Self::claim).
    pub async fn claim_batch<I: AsRef<[u8]> + Sync>(&self, ids: &[I]) -> Result<Vec<Claim>> {
        let call = Call::new();
        let ids: Vec<&[u8]> = ids.iter().map(AsRef::as_ref).collect();
        let claim = |_| self.store.claim_batch(&self.namespace, &ids, self.ttl, call);
        patiently(self.patience, claim).await
    }

    /// Returns whether an id has a claim, without making one.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn contains(&self, id: impl AsRef<[u8]>) -> Result<bool> {
        let id = id.as_ref();
        patiently(self.patience, |_| self.store.contains(&self.namespace, id)).await
    }

    /// Ends the claim of an id, so that the next is first again. Returns whether there was one; after a lost answer the
    /// repeated call may find none, because the first try has ended it.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn forget(&self, id: impl AsRef<[u8]>) -> Result<bool> {
        let id = id.as_ref();
        patiently(self.patience, |_| self.store.forget(&self.namespace, id)).await
    }

    /// Returns what the store knows of this namespace.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn stats(&self) -> Result<Stats> {
        patiently(self.patience, |_| self.store.stats(&self.namespace)).await
    }
}
