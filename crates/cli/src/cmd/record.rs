//! One claim as one line of NDJSON: what `export` writes and `import` reads.

use std::borrow::Cow;
use std::fmt::Write as _;

use firstseen::limits::DIGEST_BYTES;
use firstseen::{ExportEntry, ImportEntry, Timestamp};
use serde::{Deserialize, Serialize};

/// The line. Unknown fields are rejected: a misspelt deadline would otherwise mean forever.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    /// The namespace; the default one if missing.
    #[serde(borrow, default)]
    namespace: Option<Cow<'a, str>>,
    /// The id, if it is UTF-8.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    id: Option<Cow<'a, str>>,
    /// The id in hexadecimal digits, if it is not UTF-8.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    id_hex: Option<Cow<'a, str>>,
    /// The BLAKE3 hash of an id above the limit, in hexadecimal digits.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    id_blake3: Option<Cow<'a, str>>,
    /// Milliseconds since the epoch.
    first_seen: u64,
    /// Milliseconds since the epoch; null or missing means never.
    #[serde(default)]
    deadline: Option<u64>,
}

/// Writes a claim as a line, with its line end, replacing what `line` held.
pub(super) fn write(entry: &ExportEntry<'_>, line: &mut Vec<u8>) -> serde_json::Result<()> {
    let text = std::str::from_utf8(entry.id).ok().filter(|_| !entry.is_hash);
    let digits = || Some(Cow::Owned(to_hex(entry.id)));
    let record = Line {
        namespace: Some(Cow::Borrowed(entry.namespace)),
        id: text.map(Cow::Borrowed),
        id_hex: if text.is_none() && !entry.is_hash { digits() } else { None },
        id_blake3: if entry.is_hash { digits() } else { None },
        first_seen: entry.first_seen.as_millis(),
        deadline: (entry.deadline != Timestamp::NEVER).then(|| entry.deadline.as_millis()),
    };
    line.clear();
    serde_json::to_writer(&mut *line, &record)?;
    line.push(b'\n');
    Ok(())
}

/// A claim read from a line, and its namespace if the line names one.
pub(super) type Read<'a> = (Option<Cow<'a, str>>, ImportEntry);

/// Reads a line; returns what is wrong with it if it holds no claim.
pub(super) fn read(line: &[u8]) -> Result<Read<'_>, String> {
    if line.is_empty() {
        return Err(super::EMPTY_LINE.to_owned());
    }
    let record: Line<'_> =
        serde_json::from_slice(line).map_err(|error| super::json_fault(&error))?;
    let bytes = |name, digits: Cow<'_, str>| {
        from_hex(digits.as_bytes())
            .ok_or_else(|| format!("{name} is not hexadecimal: two digits for each byte"))
    };
    let is_hash = record.id_blake3.is_some();
    let id = match (record.id, record.id_hex, record.id_blake3) {
        (Some(text), None, None) => text.into_owned().into_bytes(),
        (None, Some(digits), None) => bytes("id_hex", digits)?,
        (None, None, Some(digits)) => bytes("id_blake3", digits)?,
        _ => return Err("a line has one of id, id_hex and id_blake3".to_owned()),
    };
    super::check_id(&id, usize::MAX)?;
    if is_hash && id.len() != DIGEST_BYTES {
        return Err(format!("id_blake3 has {} bytes, not {DIGEST_BYTES}", id.len()));
    }
    let first_seen = Timestamp::from_millis(record.first_seen);
    let deadline = record.deadline.map_or(Timestamp::NEVER, Timestamp::from_millis);
    let entry = ImportEntry::new(id, first_seen, deadline);
    let entry = if is_hash { entry.hashed() } else { entry };
    if entry.deadline <= entry.first_seen {
        return Err("the deadline comes before the claim was made".to_owned());
    }
    Ok((record.namespace, entry))
}

/// Encodes bytes as hexadecimal digits.
pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}"); // writing to a string cannot fail
        digits
    })
}

/// Decodes hexadecimal digits of either case.
pub(super) fn from_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let value = |digit: u8| char::from(digit).to_digit(16);
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| u8::try_from(value(*high)? << 4 | value(*low)?).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::{from_hex, read, to_hex, write};
    use firstseen::{ExportEntry, Timestamp};

    #[test]
    fn hex_goes_both_ways() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(from_hex(to_hex(&all).as_bytes()), Some(all));
        assert_eq!(from_hex(b"0A"), Some(vec![10]));
        for bad in ["0", "0g", "+1", "0x"] {
            assert_eq!(from_hex(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn every_kind_of_id_survives() {
        let mut line = Vec::new();
        for id in [&b"evt-1"[..], b"\"\\\n\0", "\u{1F980}".as_bytes(), b"\xff\x00\xc3", b"0"] {
            for (first_seen, deadline) in [(0, u64::MAX), (1, 2), (u64::MAX - 2, u64::MAX - 1)] {
                let first_seen = Timestamp::from_millis(first_seen);
                let deadline = Timestamp::from_millis(deadline);
                let namespace = "n\"\u{7f}";
                let entry = ExportEntry { namespace, id, is_hash: false, first_seen, deadline };
                write(&entry, &mut line).unwrap();
                let (namespace, entry) = read(line.trim_ascii_end()).unwrap();
                assert_eq!(namespace.as_deref(), Some("n\"\u{7f}"));
                assert_eq!(entry.id, id);
                assert_eq!((entry.first_seen, entry.deadline), (first_seen, deadline));
            }
        }
    }

    #[test]
    fn a_wrong_line_is_refused() {
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"id":"a"}"#,
            r#"{"id":"a","id_hex":"61","first_seen":1}"#,
            r#"{"id":"a","id_blake3":"61","first_seen":1}"#,
            r#"{"id_blake3":"61","first_seen":1}"#,
            r#"{"id":"","first_seen":1}"#,
            r#"{"id_hex":"6","first_seen":1}"#,
            r#"{"id":"a","first_seen":1,"dead_line":5}"#,
            r#"{"id":"a","first_seen":-1}"#,
            r#"{"id":"a","first_seen":2,"deadline":2}"#,
            r#"{"id":"a","first_seen":1} x"#,
        ] {
            assert!(read(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
