//! What all parts of event time share of one namespace.

use crate::engine::{Engine, NsInfo};
use crate::error::Error;
use crate::event_time::options::EventTimeOptions;
use crate::event_time::sources::Sources;
use crate::event_time::value::NotAValue;
use crate::store::Store;
use crate::sync::{Arc, Mutex};
use crate::time::Timestamp;

#[derive(Debug)]
pub(crate) struct Inner {
    pub(super) store: Store,
    pub(super) info: Arc<NsInfo>,
    pub(super) options: EventTimeOptions,
    /// Shared by all handles of the namespace.
    pub(super) sources: Arc<Mutex<Sources>>,
}

impl Inner {
    pub(super) fn engine(&self) -> &Engine {
        self.store.engine()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.engine().moment().now
    }
}

/// Returns the error for a row that cannot be decoded. All of them have version 1 so far.
pub(super) fn unreadable(engine: &Engine, what: &str, why: NotAValue) -> Error {
    match why {
        NotAValue::Newer(found) => {
            Error::FromTheFuture { path: engine.dir().to_owned(), found: found.into(), known: 1 }
        }
        NotAValue::Damaged => {
            Error::corrupt(engine.dir(), 0, format!("the row of {what} in event time is damaged"))
        }
    }
}
