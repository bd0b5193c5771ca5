//! What tables of bytes and of values have in common.

use crate::error::Result;
use crate::table::raw::RawTable;
use crate::table::typed::Table;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What a transaction writes to: a [`Table`] or a [`RawTable`].
pub trait Values: sealed::Sealed {
    /// What is put.
    type Value: ?Sized;
    /// What is read.
    type Owned;

    #[doc(hidden)]
    fn raw(&self) -> &RawTable;

    #[doc(hidden)]
    fn encode(&self, value: &Self::Value) -> Result<Vec<u8>>;

    #[doc(hidden)]
    fn decode(&self, key: &[u8], bytes: Vec<u8>) -> Result<Self::Owned>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for crate::table::raw::RawTable {}
    impl<V> Sealed for crate::table::typed::Table<V> {}
}

impl Values for RawTable {
    type Value = [u8];
    type Owned = Vec<u8>;

    fn raw(&self) -> &RawTable {
        self
    }

    fn encode(&self, value: &[u8]) -> Result<Vec<u8>> {
        Ok(value.to_vec())
    }

    fn decode(&self, _: &[u8], bytes: Vec<u8>) -> Result<Vec<u8>> {
        Ok(bytes)
    }
}

impl<V: Serialize + DeserializeOwned> Values for Table<V> {
    type Value = V;
    type Owned = V;

    fn raw(&self) -> &RawTable {
        self.raw()
    }

    fn encode(&self, value: &V) -> Result<Vec<u8>> {
        self.encode(value)
    }

    fn decode(&self, key: &[u8], bytes: Vec<u8>) -> Result<V> {
        self.decode(key, &bytes)
    }
}
