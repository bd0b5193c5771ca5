//! Bytes of a program, as people and programs see them.

use std::borrow::Cow;

use super::entry::shown_id;
use super::record::to_hex;

/// Which bytes are shown in hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Digits {
    /// Those that are no text.
    WhereNeeded,
    /// All.
    Always,
}

/// Returns bytes for people: as text if all of it can be printed, or as hexadecimal digits.
pub(super) fn shown(bytes: &[u8], digits: Digits) -> Cow<'_, str> {
    match digits {
        Digits::WhereNeeded => shown_id(bytes),
        Digits::Always => Cow::Owned(format!("0x{}", to_hex(bytes))),
    }
}

/// Returns bytes for the two fields of a JSON object: as text, or in hexadecimal digits if they are not UTF-8.
pub(super) fn text_or_hex(bytes: &[u8]) -> (Option<&str>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text), None),
        Err(_) => (None, Some(to_hex(bytes))),
    }
}

/// Returns a value for the two fields of a JSON object: as text if all of it can be printed, or in hexadecimal digits.
pub(super) fn value_or_hex(bytes: &[u8], digits: Digits) -> (Option<&str>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) if digits == Digits::WhereNeeded && !text.chars().any(char::is_control) => {
            (Some(text), None)
        }
        _ => (None, Some(to_hex(bytes))),
    }
}
