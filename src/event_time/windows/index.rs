//! Which rows there are, in the order of their windows: what is to be told is found without reading what is not. Rebuilt
//! from the rows, and told of every commit.

use crate::engine::{Replay, RowState};
use crate::event_time::windows::row::{SETTINGS, Status, parts_of};
use crate::id::{Family, Key, NsId};
use crate::sync::{Arc, Mutex};
use std::collections::BTreeMap;

/// The rows of one set of windows: start of the window and key.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// `None` is a row that cannot be decoded: whoever reads it is told why.
    pub(super) rows: BTreeMap<(u64, Vec<u8>), Option<Status>>,
    /// Events that came after the result of their window was told for good, since the store was opened.
    pub(super) ignored: u64,
}

/// The rows of all sets of windows of a store.
#[derive(Debug, Default)]
pub(super) struct AllIndexes {
    by_namespace: Mutex<BTreeMap<NsId, Arc<Mutex<Index>>>>,
}

impl AllIndexes {
    /// Returns the rows of one set of windows.
    pub(super) fn of(&self, ns: NsId) -> Arc<Mutex<Index>> {
        Arc::clone(self.by_namespace.lock().entry(ns.listed()).or_default())
    }
}

impl Replay for AllIndexes {
    fn family(&self) -> Family {
        Family::AGGREGATES
    }

    fn apply(&self, key: Key<'_>, row: Option<RowState<'_>>, _replaced: Option<u64>) {
        if key.id == SETTINGS {
            return;
        }
        let Some((start, name)) = parts_of(key.id) else { return };
        let index = self.of(key.ns);
        let mut index = index.lock();
        match row {
            Some(row) => {
                index.rows.insert((start, name.to_vec()), Status::decode(row.value).ok());
            }
            None => _ = index.rows.remove(&(start, name.to_vec())),
        }
    }
}
