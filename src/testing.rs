//! Doors for the tests of this repository, behind the feature `testing`. Not an API: anything here may change.

pub use crate::engine::{Committed, Expect};

use crate::engine::{Bells, Durability, Engine, Replay, Row, RowChange, RowState, RowWrite};
use crate::error::Result;
use crate::id::{Family, Key, NsId};
use crate::store::Store;
use crate::sync::{Arc, Mutex};
use crate::time::{Timestamp, Ttl};
use std::collections::BTreeMap;
#[cfg(feature = "testing")]
use std::fmt::Debug;

/// A table of rows, the mechanism below everything that keeps values: what a test sees of it.
#[derive(Debug, Clone)]
pub struct Table {
    store: Store,
    family: Family,
}

/// A live row of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRow {
    /// What was put.
    pub value: Vec<u8>,
    /// The number of the write that put it.
    pub sequence: u64,
    /// When it ends.
    pub deadline: Timestamp,
}

/// One write of a commit.
#[derive(Debug, Clone, Copy)]
pub struct TableWrite<'a> {
    /// The key.
    pub id: &'a [u8],
    /// The value; `None` deletes.
    pub value: Option<&'a [u8]>,
    /// How long the row lives.
    pub ttl: Ttl,
    /// What must be there.
    pub expect: Expect,
}

/// Returns what contradicts itself in a store that nobody uses meanwhile: whatever it keeps twice must agree. Reads no
/// file.
#[cfg(feature = "testing")]
pub fn validate(store: &Store) -> Vec<String> {
    store.engine().validate()
}

/// Returns how many futures wait for something to change in a shard, for a sync, and for their deadline.
#[cfg(feature = "testing")]
pub fn waiting_futures(store: &Store) -> [usize; 3] {
    store.engine().waiting_futures()
}

/// Returns how many ids and rows of each shard are not flushed.
#[cfg(feature = "testing")]
pub fn unflushed(store: &Store) -> Vec<usize> {
    store.engine().unflushed()
}

/// Returns the numbers of the shards that somebody has locked, the caller included.
#[cfg(feature = "testing")]
pub fn locked_shards(store: &Store) -> Vec<usize> {
    store.engine().locked_shards()
}

/// Locks shards until the result is dropped. Give their numbers in ascending order, as whoever locks several does.
#[cfg(feature = "testing")]
#[must_use = "they are locked until this is dropped"]
pub fn lock_shards<'a>(store: &'a Store, numbers: &[usize]) -> impl Debug + use<'a> {
    store.engine().lock_shards(numbers)
}

/// Appends a claim of this id to the log, as one of this shard, and does nothing else: for measuring the log alone.
#[cfg(feature = "testing")]
pub fn append_alone(store: &Store, shard: usize, id: &[u8]) -> Result<()> {
    store.engine().append_alone(shard, id)
}

/// Returns how many leases wait to be renewed.
#[cfg(feature = "testing")]
pub fn waiting_renewals(store: &Store) -> usize {
    store.engine().waiting_renewals()
}

/// No thread can be had for what the store does at a later time, from now on.
#[cfg(feature = "testing")]
pub fn deny_timers(store: &Store) {
    store.engine().deny_timers();
}

/// Reads small runs and the full segments of the log, and returns what holds something else than is believed.
#[cfg(feature = "testing")]
pub fn recount_files(store: &Store) -> Result<Vec<String>> {
    store.engine().recount_files()
}

impl Table {
    /// Returns the table of one family of rows, 1 to 31.
    pub fn of(store: &Store, family: u8) -> Self {
        assert!((1..=Family::MAX).contains(&family), "a family of rows");
        Self { store: store.clone(), family: Family(family) }
    }

    fn engine(&self) -> &Engine {
        self.store.engine()
    }

    /// Returns the live row of a key.
    pub fn get(&self, id: &[u8]) -> Result<Option<TableRow>> {
        self.get_at(id, Durability::Process)
    }

    /// Returns the live row of a key, as safe as asked.
    pub fn get_at(&self, id: &[u8], durability: Durability) -> Result<Option<TableRow>> {
        let key = Engine::row_key(self.family, NsId(0), id)?;
        let row = self.engine().get_row(key, durability)?;
        Ok(row.map(|row| TableRow {
            value: row.value,
            sequence: row.sequence,
            deadline: row.deadline,
        }))
    }

    /// Makes all writes, or none.
    pub fn commit(&self, writes: &[TableWrite<'_>], durability: Durability) -> Result<Committed> {
        let mut rows = Vec::with_capacity(writes.len());
        for TableWrite { id, value, ttl, expect } in writes.iter().copied() {
            let key = Engine::row_key(self.family, NsId(0), id)?;
            let change = RowChange::of(value);
            rows.push(RowWrite { key, change, ttl, expect, is_quiet: false });
        }
        self.engine().commit_rows(&rows, durability, &mut Bells::default())
    }

    /// Puts one row that never ends, whatever was there.
    pub fn put(&self, id: &[u8], value: &[u8]) -> Result<Committed> {
        let (ttl, expect) = (Ttl::FOREVER, Expect::Anything);
        let write = TableWrite { id, value: Some(value), ttl, expect };
        self.commit(&[write], Durability::Process)
    }

    /// Puts one row where there is none.
    pub fn put_new(&self, id: &[u8], value: &[u8]) -> Result<Committed> {
        let (ttl, expect) = (Ttl::FOREVER, Expect::Absent);
        let write = TableWrite { id, value: Some(value), ttl, expect };
        self.commit(&[write], Durability::Process)
    }

    /// Replaces the row that this write has put.
    pub fn replace(&self, id: &[u8], sequence: u64, value: &[u8]) -> Result<Committed> {
        let (ttl, expect) = (Ttl::FOREVER, Expect::Sequence(sequence));
        let write = TableWrite { id, value: Some(value), ttl, expect };
        self.commit(&[write], Durability::Process)
    }

    /// Deletes one row, whatever was there.
    pub fn delete(&self, id: &[u8]) -> Result<Committed> {
        let (ttl, expect) = (Ttl::FOREVER, Expect::Anything);
        self.commit(&[TableWrite { id, value: None, ttl, expect }], Durability::Process)
    }

    /// Lists all live rows of the family, in no meaningful order.
    pub fn list(&self) -> Result<Vec<(Vec<u8>, TableRow)>> {
        let mut rows = Vec::new();
        self.engine().list_rows(self.family, |key, row| {
            let Row { value, sequence, deadline } = row?;
            rows.push((key.id.to_vec(), TableRow { value, sequence, deadline }));
            Ok(())
        })?;
        Ok(rows)
    }
}

/// A copy of a family in memory, kept as every family keeps what it needs: told all rows when it is attached, and every
/// commit after that.
#[derive(Debug)]
pub struct Mirror {
    family: Family,
    rows: Mutex<BTreeMap<Vec<u8>, TableRow>>,
}

impl Mirror {
    /// Attaches a mirror to a family.
    pub fn attach(store: &Store, family: u8) -> Result<Arc<Self>> {
        let mirror = Arc::new(Self { family: Family(family), rows: Mutex::default() });
        store.engine().attach(Arc::clone(&mirror) as Arc<dyn Replay>)?;
        Ok(mirror)
    }

    /// Returns the rows that it knows, ended ones too.
    pub fn rows(&self) -> BTreeMap<Vec<u8>, TableRow> {
        self.rows.lock().clone()
    }
}

impl Replay for Mirror {
    fn family(&self) -> Family {
        self.family
    }

    fn apply(&self, key: Key<'_>, row: Option<RowState<'_>>, _: Option<u64>) {
        let mut rows = self.rows.lock();
        match row {
            Some(RowState { value, sequence, deadline }) => {
                let value = value.to_vec();
                rows.insert(key.id.to_vec(), TableRow { value, sequence, deadline });
            }
            None => _ = rows.remove(key.id),
        }
    }
}
