//! A namespace: the calls of a store, on a separate set of ids.

use crate::engine::{Engine, NsInfo, Settings};
use crate::store::handle::Store;
use crate::sync::Arc;
use crate::time::Ttl;
use std::fmt;

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
#[derive(Clone)]
pub struct Namespace {
    store: Store,
    info: Arc<NsInfo>,
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespace")
            .field("store", &self.store)
            .field("name", &self.info.name)
            .finish()
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
}
