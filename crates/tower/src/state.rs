//! What all requests of a layer share.

use crate::counters::Live;
use crate::in_flight::InFlight;
use crate::policy::Policy;
use crate::scope::Principals;
use firstseen_shared::{DedupStore, SharedLedger};
use std::fmt;

pub(crate) struct State<S> {
    pub(crate) ledger: SharedLedger<S>,
    pub(crate) principals: Principals,
    pub(crate) policy: Policy,
    pub(crate) counters: Live,
    pub(crate) in_flight: InFlight,
}

impl<S: DedupStore> State<S> {
    pub(crate) fn show(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("ledger", &self.ledger)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
