//! What all parts of event time share of one namespace.

use crate::codec::Undecodable;
use crate::engine::{Engine, NsInfo};
use crate::error::Error;
use crate::event_time::options::EventTimeOptions;
use crate::event_time::sources::{AllSources, Sources};
use crate::id::NsId;
use crate::store::Store;
use crate::sync::{Arc, Mutex};
use crate::time::Timestamp;

#[derive(Debug)]
pub(crate) struct Inner {
    pub(super) store: Store,
    pub(super) info: Arc<NsInfo>,
    pub(super) options: EventTimeOptions,
    /// The replay scope in which it was opened. Its windows are in the same one.
    pub(super) scope: Option<NsId>,
    pub(super) all_sources: Arc<AllSources>,
    /// What the handle has joined; `None` while it is being made.
    pub(super) joined: Mutex<Option<Binding<Sources>>>,
}

/// Where a name leads at this moment, and what is known of it, shared by all handles that lead there. The promotion of a
/// replay scope changes it, so a call takes one and keeps to it.
#[derive(Debug)]
pub(super) struct Binding<T> {
    pub(super) ns: NsId,
    pub(super) known: Arc<Mutex<T>>,
}

impl<T> Clone for Binding<T> {
    fn clone(&self) -> Self {
        Self { ns: self.ns, known: Arc::clone(&self.known) }
    }
}

impl Inner {
    pub(super) fn engine(&self) -> &Engine {
        self.store.engine()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.engine().moment().now
    }

    /// Returns the sources that the name leads to, joined or not.
    pub(super) fn sources(&self) -> Arc<Mutex<Sources>> {
        self.all_sources.of(self.info.id())
    }
}

/// Returns the error for a row that cannot be decoded. All of them have version 1 so far.
pub(super) fn unreadable(engine: &Engine, what: &str, why: Undecodable) -> Error {
    why.error(engine.dir(), 1, format!("the row of {what} in event time is damaged"))
}
