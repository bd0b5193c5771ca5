//! How answers of the server are read. An answer of another shape is an error, never an empty one.

use crate::entry::{EntryId, RedisEntry};
use crate::error::RedisError;
use bytes::Bytes;
use redis::Value;
use std::sync::Arc;

/// An answer, and what was asked.
pub(crate) struct Reply {
    pub(crate) what: &'static str,
    pub(crate) value: Value,
}

impl Reply {
    fn error(&self, expected: &str) -> RedisError {
        let shape = match &self.value {
            Value::Nil => "nothing",
            Value::Int(_) => "a number",
            Value::BulkString(_) | Value::SimpleString(_) | Value::Okay => "a text",
            Value::Array(_) | Value::Set(_) => "a list",
            Value::Map(_) => "a map",
            _ => "something else",
        };
        RedisError::unreadable(self.what, format!("expected {expected}, got {shape}"))
    }

    /// `None` for nil.
    pub(crate) fn some(self) -> Option<Self> {
        (self.value != Value::Nil).then_some(self)
    }

    /// Returns the parts of a list; names and values of a map one after the other.
    pub(crate) fn list(self) -> Result<Vec<Self>, RedisError> {
        let parts = match self.value {
            Value::Array(parts) | Value::Set(parts) => parts,
            Value::Map(pairs) => pairs.into_iter().flat_map(|(key, value)| [key, value]).collect(),
            value => return Err(Self { what: self.what, value }.error("a list")),
        };
        Ok(parts.into_iter().map(|value| Self { what: self.what, value }).collect())
    }

    /// Returns the parts of a list of so many.
    pub(crate) fn parts<const N: usize>(self) -> Result<[Self; N], RedisError> {
        let what = self.what;
        let parts = self.list()?;
        let got = parts.len();
        parts.try_into().map_err(|_| {
            RedisError::unreadable(what, format!("expected a list of {N}, got one of {got}"))
        })
    }

    pub(crate) fn bytes(self) -> Result<Bytes, RedisError> {
        match self.value {
            Value::BulkString(bytes) => Ok(bytes.into()),
            Value::SimpleString(text) => Ok(text.into()),
            value => Err(Self { what: self.what, value }.error("a text")),
        }
    }

    pub(crate) fn text(self) -> Result<String, RedisError> {
        let what = self.what;
        String::from_utf8(self.bytes()?.into())
            .map_err(|_| RedisError::unreadable(what, "expected UTF-8"))
    }

    pub(crate) fn number(&self) -> Result<u64, RedisError> {
        match self.value {
            Value::Int(number) => u64::try_from(number).map_err(|_| self.error("a count")),
            _ => Err(self.error("a number")),
        }
    }

    pub(crate) fn entry_id(self) -> Result<EntryId, RedisError> {
        let what = self.what;
        let text = self.text()?;
        text.parse().map_err(|error| RedisError::unreadable(what, format!("{error}")))
    }

    pub(crate) fn entry_ids(self) -> Result<Vec<EntryId>, RedisError> {
        self.list()?.into_iter().map(Self::entry_id).collect()
    }

    /// Reads `[id, [field, value, ...]]`. `None` in the place of an entry that is deleted.
    pub(crate) fn entry(
        self,
        stream: &Arc<str>,
    ) -> Result<(EntryId, Option<RedisEntry>), RedisError> {
        let what = self.what;
        let [id, fields] = self.parts()?;
        let id = id.entry_id()?;
        let Some(fields) = fields.some() else { return Ok((id, None)) };
        let mut parts = fields.list()?.into_iter();
        let mut fields = Vec::with_capacity(parts.len() / 2);
        while let Some(name) = parts.next() {
            let odd = || RedisError::unreadable(what, format!("a field of {id} has no value"));
            let value = parts.next().ok_or_else(odd)?;
            fields.push((name.bytes()?, value.bytes()?));
        }
        Ok((id, Some(RedisEntry { stream: Arc::clone(stream), id, fields })))
    }

    /// Reads the answer of XREADGROUP for one stream; nil: nothing has come.
    pub(crate) fn entries(self, stream: &Arc<str>) -> Result<Vec<RedisEntry>, RedisError> {
        let what = self.what;
        let Some(reply) = self.some() else { return Ok(Vec::new()) };
        // In RESP2 a list of one pair, in RESP3 a map.
        let mut parts = reply.list()?;
        if parts.len() == 1 {
            parts = parts.remove(0).list()?;
        }
        let [_, entries]: [Self; 2] = parts
            .try_into()
            .map_err(|_| RedisError::unreadable(what, "expected the entries of one stream"))?;
        let entries = entries.list()?.into_iter().map(|entry| entry.entry(stream));
        // What is delivered for the first time is there.
        entries.filter_map(|entry| entry.map(|(_, entry)| entry).transpose()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(value: Value) -> Reply {
        Reply { what: "testing", value }
    }

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn entries_are_read_in_both_protocols() {
        let stream: Arc<str> = "s".into();
        let entry =
            || Value::Array(vec![text("7-0"), Value::Array(vec![text("id"), text("order-17")])]);
        let resp2 = Value::Array(vec![Value::Array(vec![text("s"), Value::Array(vec![entry()])])]);
        let resp3 = Value::Map(vec![(text("s"), Value::Array(vec![entry()]))]);
        for value in [resp2, resp3] {
            let entries = reply(value).entries(&stream).unwrap();
            assert_eq!(entries.len(), 1);
            assert_eq!(entries[0].get("id").unwrap(), "order-17");
        }
        assert_eq!(reply(Value::Nil).entries(&stream).unwrap(), []);
    }

    #[test]
    fn an_answer_of_another_shape_is_an_error_and_not_empty() {
        let stream: Arc<str> = "s".into();
        let odd = Value::Array(vec![text("7-0"), Value::Array(vec![text("id")])]);
        for value in [
            Value::Int(7),
            text("OK"),
            Value::Array(Vec::new()),
            Value::Array(vec![Value::Array(vec![text("s"), Value::Array(vec![odd])])]),
        ] {
            let error = reply(value.clone()).entries(&stream).unwrap_err();
            assert!(matches!(error, RedisError::Unreadable { .. }), "{value:?}: {error}");
        }
        assert!(reply(Value::Int(-1)).number().is_err());
        assert!(reply(text("7")).entry_id().is_err());
    }
}
