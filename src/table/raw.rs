//! Tables of bytes.

use crate::codec::stored;
use crate::engine::{
    Bells, Committed, Durability, Engine, Expect, NsInfo, OwnedRow, Row, RowChange,
};
use crate::error::{Error, Result};
use crate::id::{Family, NsId};
use crate::store::Store;
use crate::sync::Arc;
use crate::table::entry::{Entry, Version, expectation};
use crate::time::Ttl;
use std::fmt;
use std::ops::ControlFlow;

/// First byte of a stored value.
const FORMAT: u8 = 1;

/// A table of bytes; see [`Store::raw_table`]. A handle: cheap to clone, safe to share, and it keeps the store open.
#[derive(Clone)]
pub struct RawTable {
    store: Store,
    info: Arc<NsInfo>,
    ttl: Ttl,
}

impl fmt::Debug for RawTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawTable")
            .field("store", &self.store)
            .field("name", &self.info.name)
            .field("ttl", &self.ttl)
            .finish()
    }
}

impl Store {
    /// Returns the table of this name, with values of bytes.
    ///
    /// Tables of different names know nothing of each other. A table, a namespace and a ledger may share a name.
    ///
    /// # Errors
    ///
    /// As [`Store::namespace`].
    pub fn raw_table(&self, name: &str) -> Result<RawTable> {
        Ok(RawTable::of(self.clone(), self.engine().namespace(name, None)?))
    }
}

impl RawTable {
    /// Returns the table whose rows are in this namespace.
    pub(crate) fn of(store: Store, info: Arc<NsInfo>) -> Self {
        Self { store, info, ttl: Ttl::FOREVER }
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.info.name
    }

    /// Returns the store it belongs to.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns a handle whose puts end after this long; those of a new handle never end. A key that is put again lives
    /// for the ttl of that put.
    #[must_use]
    pub fn with_ttl(&self, ttl: impl Into<Ttl>) -> Self {
        Self { ttl: ttl.into(), ..self.clone() }
    }

    /// Returns the value of a key, if it has a live one. What is returned is as durable as the store's calls are.
    ///
    /// # Errors
    ///
    /// As [`Store::get`], and [`Repair`](crate::ErrorKind::Repair) if the value is damaged.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Entry<Vec<u8>>>> {
        let key = Engine::row_key(Family::TABLES, self.info.id(), key.as_ref())?;
        let row = self.engine().get_row(key, self.durability())?;
        row.map(|row| self.entry(key.id, row)).transpose()
    }

    /// Sets the value of a key. Returns its version.
    ///
    /// # Errors
    ///
    /// As [`Store::claim`], and [`FixCall`](crate::ErrorKind::FixCall) for a key that is empty or longer than 1,024
    /// bytes, or a value above 4 MiB.
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Version> {
        let row = self.row(key.as_ref(), RowChange::Put(value.as_ref().to_vec()))?;
        match self.commit(row)? {
            Committed::Done(sequences) => Ok(version_of(&sequences)),
            Committed::Moved(_) => Err(Error::bug("a put expects nothing")),
        }
    }

    /// Sets the value of a key if it has this version, `None`: if it has no live value. Returns the new version; `None`
    /// if somebody else has changed it, and then nothing was written.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    pub fn put_if(
        &self,
        key: impl AsRef<[u8]>,
        version: Option<Version>,
        value: impl AsRef<[u8]>,
    ) -> Result<Option<Version>> {
        let mut row = self.row(key.as_ref(), RowChange::Put(value.as_ref().to_vec()))?;
        row.expect = expectation(version);
        match self.commit(row)? {
            Committed::Done(sequences) => Ok(Some(version_of(&sequences))),
            Committed::Moved(_) => Ok(None),
        }
    }

    /// Deletes the value of a key. Returns whether there was a live one.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        match self.commit(self.row(key.as_ref(), RowChange::Delete)?)? {
            Committed::Done(sequences) => Ok(sequences.iter().any(Option::is_some)),
            Committed::Moved(_) => Err(Error::bug("a delete expects nothing")),
        }
    }

    /// Deletes the value of a key if it has this version. Returns whether it had.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    pub fn delete_if(&self, key: impl AsRef<[u8]>, version: Version) -> Result<bool> {
        let mut row = self.row(key.as_ref(), RowChange::Delete)?;
        row.expect = Expect::Sequence(version.0);
        Ok(matches!(self.commit(row)?, Committed::Done(_)))
    }

    /// Passes every live key and value to `visit`, in no meaningful order, until that says stop: the table as it was at
    /// one moment, while writes go on. It is as durable as the store's calls are. No lock is held meanwhile, but the log keeps
    /// what is superseded until the scan is over, and what changes before it is reached is noted in memory: do not wait for
    /// others in `visit`. Values whose ttl ends meanwhile may be left out. Reads the keys of all tables.
    ///
    /// A value that is damaged is passed as an error, and the others follow.
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    pub fn scan(
        &self,
        mut visit: impl FnMut(&[u8], Result<Entry<Vec<u8>>>) -> ControlFlow<()>,
    ) -> Result<()> {
        let rows = Engine::row_key(Family::TABLES, self.info.id(), b"-")?.ns;
        self.engine().scan_rows(rows, self.durability(), |key, row| {
            visit(key.id, row.and_then(|row| self.entry(key.id, row)))
        })
    }

    /// Returns the key space of its rows.
    pub(crate) fn rows(&self) -> NsId {
        self.info.id().rows(Family::TABLES)
    }

    /// Returns the row of a write that expects nothing.
    pub(crate) fn row(&self, key: &[u8], change: RowChange<Vec<u8>>) -> Result<OwnedRow> {
        let key = Engine::row_key(Family::TABLES, self.info.id(), key)?;
        let change = match change {
            RowChange::Put(mut value) => {
                value.insert(0, FORMAT);
                RowChange::Put(value)
            }
            other => other,
        };
        let (ns, id, ttl) = (key.ns, key.id.to_vec(), self.ttl);
        Ok(OwnedRow { ns, id, change, ttl, expect: Expect::Anything, is_quiet: false })
    }

    fn entry(&self, key: &[u8], row: Row) -> Result<Entry<Vec<u8>>> {
        let Row { mut value, sequence, deadline } = row;
        if let Err(why) = stored(&value, FORMAT) {
            let (name, key) = (self.name(), key.escape_ascii());
            let what = format!("the value of {key} in table {name}");
            return Err(why.error(self.engine().dir(), FORMAT, what));
        }
        value.remove(0);
        Ok(Entry { value, version: Version(sequence), ends: deadline })
    }

    fn commit(&self, row: OwnedRow) -> Result<Committed> {
        let mut bells = Bells::default();
        self.engine().commit_rows(&[row.as_write()], self.durability(), &mut bells)
    }

    fn engine(&self) -> &Engine {
        self.store.engine()
    }

    fn durability(&self) -> Durability {
        self.engine().settings().durability
    }
}

/// A write of a table as part of a commit.
#[derive(Debug, Clone)]
pub(crate) struct PlannedWrite {
    pub(crate) table: RawTable,
    pub(crate) row: OwnedRow,
}

impl PlannedWrite {
    /// Returns the key space of its row, and the key.
    pub(crate) fn place(&self) -> (NsId, &[u8]) {
        (self.row.ns, &self.row.id)
    }
}

fn version_of(sequences: &[Option<u64>]) -> Version {
    Version(sequences.first().copied().flatten().unwrap_or_default())
}
