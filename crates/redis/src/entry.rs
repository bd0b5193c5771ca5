//! An entry of a stream.

use bytes::Bytes;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The id of an entry: milliseconds and a sequence number, as `1767225600000-0`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// Milliseconds since 1970 by the server's clock, unless the producer has chosen the id.
    pub ms: u64,
    /// Which of those of one millisecond.
    pub seq: u64,
}

impl EntryId {
    /// Before every entry.
    pub(crate) const ZERO: Self = Self { ms: 0, seq: 0 };
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// The text is not the id of an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the id of an entry, such as 1767225600000-0")]
pub struct NoEntryId(String);

impl FromStr for EntryId {
    type Err = NoEntryId;

    fn from_str(text: &str) -> Result<Self, NoEntryId> {
        let read = || {
            let (ms, seq) = text.split_once('-')?;
            Some(Self { ms: ms.parse().ok()?, seq: seq.parse().ok()? })
        };
        read().ok_or_else(|| NoEntryId(text.to_owned()))
    }
}

/// An entry of a stream, as functions for ids, keys and payloads see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisEntry {
    pub(crate) stream: Arc<str>,
    pub(crate) id: EntryId,
    pub(crate) fields: Vec<(Bytes, Bytes)>,
}

impl RedisEntry {
    /// Returns the key of its stream.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// Returns its id in the stream.
    pub fn id(&self) -> EntryId {
        self.id
    }

    /// Returns the value of a field; of the first, if there are several of that name.
    pub fn get(&self, field: impl AsRef<[u8]>) -> Option<&Bytes> {
        let field = field.as_ref();
        self.fields.iter().find(|(name, _)| name == field).map(|(_, value)| value)
    }

    /// Returns all fields with their values, in their order.
    pub fn fields(&self) -> &[(Bytes, Bytes)] {
        &self.fields
    }

    /// Returns all fields and values as one payload: an array of RESP, the protocol of Redis. [`read_fields`] reads it.
    pub fn to_payload(&self) -> Bytes {
        let mut payload = format!("*{}\r\n", self.fields.len() * 2).into_bytes();
        for part in self.fields.iter().flat_map(|(name, value)| [name, value]) {
            payload.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
            payload.extend_from_slice(part);
            payload.extend_from_slice(b"\r\n");
        }
        payload.into()
    }
}

/// Returns the fields and values of a payload that holds a whole entry ([`RedisPayload::Entry`]); `None` if it does not.
///
/// [`RedisPayload::Entry`]: crate::RedisPayload::Entry
pub fn read_fields(payload: &[u8]) -> Option<Vec<(Bytes, Bytes)>> {
    let mut rest = payload;
    let parts = read_length(&mut rest, b'*')?;
    let mut fields = Vec::new();
    for _ in 0..parts / 2 {
        fields.push((read_part(&mut rest)?, read_part(&mut rest)?));
    }
    (parts % 2 == 0 && rest.is_empty()).then_some(fields)
}

fn read_part(rest: &mut &[u8]) -> Option<Bytes> {
    let length = read_length(rest, b'$')?;
    let (part, after) = rest.split_at_checked(length)?;
    *rest = after.strip_prefix(b"\r\n")?;
    Some(Bytes::copy_from_slice(part))
}

/// Reads `mark`, a number and the end of the line.
fn read_length(rest: &mut &[u8], mark: u8) -> Option<usize> {
    let line = rest.strip_prefix(&[mark])?;
    let end = line.windows(2).position(|two| two == b"\r\n")?;
    let digits = &line[..end];
    *rest = &line[end + 2..];
    // A sign would be read, too.
    let is_number = digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| std::str::from_utf8(digits).ok()?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(fields: &[(&'static [u8], &'static [u8])]) -> RedisEntry {
        let fields = fields
            .iter()
            .map(|(name, value)| (Bytes::from_static(name), Bytes::from_static(value)));
        RedisEntry { stream: "s".into(), id: EntryId::ZERO, fields: fields.collect() }
    }

    #[test]
    fn ids_are_ordered_by_their_numbers_and_not_by_their_text() {
        let id = |text: &str| text.parse::<EntryId>().unwrap();
        assert!(id("9-0") < id("10-0") && id("10-2") < id("10-10"));
        assert_eq!(id("18446744073709551615-7").to_string(), "18446744073709551615-7");
        for text in ["", "7", "-", "7-", "-7", "a-0", "0-1-2", "18446744073709551616-0"] {
            assert!(text.parse::<EntryId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_whole_entry_is_read_back_from_its_payload_byte_for_byte() {
        let fields: &[(&'static [u8], &'static [u8])] =
            &[(b"id", b"order-17"), (b"", b"\r\n$3\r\n*"), (b"\xff", b""), (b"id", b"again")];
        let payload = entry(fields).to_payload();
        assert_eq!(read_fields(&payload).unwrap(), entry(fields).fields);
        assert_eq!(entry(fields).get("id").unwrap(), "order-17");
        assert_eq!(entry(fields).get("none"), None);
    }

    #[test]
    fn what_is_not_a_whole_entry_is_not_read_as_one() {
        let payload = entry(&[(b"id", b"order-17")]).to_payload();
        assert!(read_fields(&payload).is_some());
        for length in 0..payload.len() {
            assert_eq!(read_fields(&payload[..length]), None, "cut at {length}");
        }
        for other in [
            &b"10 euros"[..],
            b"*1\r\n$1\r\na\r\n",
            b"*-2\r\n",
            b"*+0\r\n",
            b"*2\r\n$+1\r\na\r\n$1\r\nb\r\n",
            b"*0\r\n ",
        ] {
            assert_eq!(read_fields(other), None, "{other:?}");
        }
        assert_eq!(read_fields(b"*0\r\n"), Some(Vec::new()));
    }
}
