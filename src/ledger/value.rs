//! Values of any serde type as bytes.

use crate::codec::{decode_value, encode_value};
use crate::ledger::error::AttemptError;
use crate::ledger::record::Record;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(super) fn check_size(
    what: &'static str,
    bytes: usize,
    bytes_max: usize,
) -> Result<(), AttemptError> {
    if bytes <= bytes_max {
        return Ok(());
    }
    Err(AttemptError::TooLarge { what, bytes, bytes_max })
}

pub(crate) fn encode<T: Serialize>(what: &'static str, value: &T) -> Result<Vec<u8>, AttemptError> {
    encode_value(value).map_err(|why| AttemptError::Value { what, why })
}

pub(super) fn decode<T: DeserializeOwned>(
    what: &'static str,
    bytes: &[u8],
) -> Result<T, AttemptError> {
    decode_value(bytes).map_err(|why| AttemptError::Value { what, why })
}

impl Record {
    /// Returns a result stored with [`Attempt::complete_value`](crate::ledger::Attempt::complete_value),
    /// [`Ledger::settle_value`](crate::ledger::Ledger::settle_value) or by [`Ledger::run`](crate::ledger::Ledger::run).
    ///
    /// # Errors
    ///
    /// [`Value`](AttemptError::Value) if there is no result, it was stored as bytes, or it is of another type.
    pub fn value<T: DeserializeOwned>(&self) -> Result<T, AttemptError> {
        let bad = |why: &str| AttemptError::Value { what: "the result", why: why.to_owned() };
        let bytes = self.result().ok_or_else(|| bad("there is none"))?;
        if !self.is_encoded {
            return Err(bad("it was stored as bytes, not as a value"));
        }
        decode("the result", bytes)
    }
}
