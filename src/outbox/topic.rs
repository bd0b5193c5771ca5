//! The handle of a topic.

use crate::engine::NsInfo;
use crate::error::Result;
use crate::store::{Namespace, Store};
use crate::sync::Arc;

/// A topic of the outbox; see [`Store::outbox`]. A handle: cheap to clone, safe to share, and it keeps the store open.
#[derive(Debug, Clone)]
pub struct Outbox {
    pub(super) store: Store,
    pub(super) info: Arc<NsInfo>,
}

impl Store {
    /// Returns the topic of this name.
    ///
    /// # Errors
    ///
    /// As [`Store::namespace`].
    pub fn outbox(&self, topic: &str) -> Result<Outbox> {
        let info = self.engine().namespace(topic, None)?;
        Ok(Outbox { store: self.clone(), info })
    }
}

impl Outbox {
    /// Returns the name of the topic.
    pub fn name(&self) -> &str {
        &self.info.name
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Returns the namespace in which given ids of messages are claimed.
    pub(crate) fn namespace(&self) -> Namespace {
        Namespace::of(&self.store, &self.info)
    }
}
