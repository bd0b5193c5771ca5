//! Tables of values of a serde type.

use crate::codec::{decode_value, encode_value};
use crate::error::{Error, Result};
use crate::store::Store;
use crate::table::entry::{Entry, Version};
use crate::table::raw::RawTable;
use crate::time::Ttl;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::marker::PhantomData;
use std::ops::ControlFlow;

/// A table of values of one serde type, encoded with bincode; see [`Store::table`]. A handle: cheap to clone, safe to
/// share, and it keeps the store open.
///
/// bincode stores no field names: a type whose fields change needs a table of another name, or an enum of its versions.
pub struct Table<V> {
    raw: RawTable,
    values: PhantomData<fn(V) -> V>,
}

impl<V> fmt::Debug for Table<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("raw", &self.raw).finish()
    }
}

impl<V> Clone for Table<V> {
    fn clone(&self) -> Self {
        Self { raw: self.raw.clone(), values: PhantomData }
    }
}

impl Store {
    /// Returns the table of this name, with values of this type.
    ///
    /// # Errors
    ///
    /// As [`Store::raw_table`].
    pub fn table<V: Serialize + DeserializeOwned>(&self, name: &str) -> Result<Table<V>> {
        Ok(Table::of(self.raw_table(name)?))
    }
}

impl<V: Serialize + DeserializeOwned> Table<V> {
    /// Returns the table with values of this type in place of bytes.
    pub(crate) fn of(raw: RawTable) -> Self {
        Self { raw, values: PhantomData }
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        self.raw.name()
    }

    /// Returns a handle whose puts end after this long; see [`RawTable::with_ttl`].
    #[must_use]
    pub fn with_ttl(&self, ttl: impl Into<Ttl>) -> Self {
        Self { raw: self.raw.with_ttl(ttl), values: PhantomData }
    }

    /// Returns the value of a key, if it has a live one; see [`RawTable::get`].
    ///
    /// # Errors
    ///
    /// As [`RawTable::get`], and [`FixCall`](crate::ErrorKind::FixCall) if the value is of another type.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Entry<V>>> {
        let key = key.as_ref();
        self.raw.get(key)?.map(|entry| self.entry(key, entry)).transpose()
    }

    /// Sets the value of a key; see [`RawTable::put`].
    ///
    /// # Errors
    ///
    /// As [`RawTable::put`], and [`FixCall`](crate::ErrorKind::FixCall) if the value cannot be encoded.
    pub fn put(&self, key: impl AsRef<[u8]>, value: &V) -> Result<Version> {
        self.raw.put(key, self.encode(value)?)
    }

    /// Sets the value of a key if it has this version; see [`RawTable::put_if`].
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    pub fn put_if(
        &self,
        key: impl AsRef<[u8]>,
        version: Option<Version>,
        value: &V,
    ) -> Result<Option<Version>> {
        self.raw.put_if(key, version, self.encode(value)?)
    }

    /// Deletes the value of a key; see [`RawTable::delete`].
    ///
    /// # Errors
    ///
    /// As [`RawTable::put`].
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.raw.delete(key)
    }

    /// Deletes the value of a key if it has this version; see [`RawTable::delete_if`].
    ///
    /// # Errors
    ///
    /// As [`RawTable::put`].
    pub fn delete_if(&self, key: impl AsRef<[u8]>, version: Version) -> Result<bool> {
        self.raw.delete_if(key, version)
    }

    /// Passes every live key and value to `visit`, until that says stop; see [`RawTable::scan`].
    ///
    /// # Errors
    ///
    /// As [`RawTable::scan`].
    pub fn scan(
        &self,
        mut visit: impl FnMut(&[u8], Result<Entry<V>>) -> ControlFlow<()>,
    ) -> Result<()> {
        self.raw.scan(|key, entry| visit(key, entry.and_then(|entry| self.entry(key, entry))))
    }

    fn entry(&self, key: &[u8], entry: Entry<Vec<u8>>) -> Result<Entry<V>> {
        let Entry { value, version, ends } = entry;
        Ok(Entry { value: self.decode(key, &value)?, version, ends })
    }

    pub(super) fn raw(&self) -> &RawTable {
        &self.raw
    }

    pub(super) fn encode(&self, value: &V) -> Result<Vec<u8>> {
        encode_value(value).map_err(|why| {
            Error::invalid(format!("a value of table {} cannot be encoded: {why}", self.name()))
        })
    }

    pub(super) fn decode(&self, key: &[u8], bytes: &[u8]) -> Result<V> {
        decode_value(bytes).map_err(|why| {
            let (name, key) = (self.name(), key.escape_ascii());
            Error::invalid(format!(
                "the value of {key} in table {name} is not of the type that is asked for: {why}"
            ))
        })
    }
}
