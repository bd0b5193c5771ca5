//! A request with a key, and what its record is known by.

use crate::policy::Policy;
use crate::state::State;
use firstseen_shared::Fingerprint;
use std::sync::Arc;

pub(crate) struct Keyed<S> {
    pub(crate) state: Arc<State<S>>,
    pub(crate) id: Vec<u8>,
    pub(crate) fingerprint: Fingerprint,
}

impl<S> Keyed<S> {
    pub(crate) fn policy(&self) -> &Policy {
        &self.state.policy
    }

    /// For the log.
    pub(crate) fn name(&self) -> impl std::fmt::Display {
        self.id.escape_ascii()
    }
}
