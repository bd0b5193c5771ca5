//! Tagged sections: a body that a later release can add to.
//!
//! ```text
//! tag     u16   what the section is; with the highest bit set, one that a reader may leave out
//! length  u64
//! bytes
//! ```
//!
//! A release reads the sections that it knows, in any order. One that it does not know is left out if its tag says so,
//! and refused otherwise: what it says may change what the others mean.

use crate::codec::Reader;
use std::collections::BTreeMap;

/// Set in the tags of sections that may be left out.
const OPTIONAL: u16 = 1 << 15;

/// Appends a section.
pub(crate) fn put(out: &mut Vec<u8>, tag: u16, bytes: &[u8]) {
    out.extend_from_slice(&tag.to_le_bytes());
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// The sections of a body, by tag.
#[derive(Debug)]
pub(crate) struct Sections<'a>(BTreeMap<u16, &'a [u8]>);

impl<'a> Sections<'a> {
    /// Splits a body; `None` if it ends inside a section or has one twice.
    pub(crate) fn split(body: &'a [u8]) -> Option<Self> {
        let mut r = Reader::new(body);
        let mut sections = BTreeMap::new();
        while !r.is_empty() {
            let tag = r.u16()?;
            let len = usize::try_from(r.u64()?).ok()?;
            if sections.insert(tag, r.bytes(len)?).is_some() {
                return None;
            }
        }
        Some(Self(sections))
    }

    pub(crate) fn get(&self, tag: u16) -> Option<&'a [u8]> {
        self.0.get(&tag).copied()
    }

    /// Returns the tag of a section that is not among these and may not be left out.
    pub(crate) fn unknown(&self, known: &[u16]) -> Option<u16> {
        self.0.keys().copied().find(|tag| tag & OPTIONAL == 0 && !known.contains(tag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_come_back_and_only_optional_ones_may_be_unknown() {
        let mut body = Vec::new();
        put(&mut body, 7, b"seven");
        put(&mut body, OPTIONAL | 1, b"");
        let sections = Sections::split(&body).expect("whole");
        assert_eq!((sections.get(7), sections.get(8)), (Some(&b"seven"[..]), None));
        assert_eq!((sections.unknown(&[7]), sections.unknown(&[8])), (None, Some(7)));
        for len in 1..body.len() {
            let cut = Sections::split(&body[..len]);
            assert!(cut.is_none_or(|cut| cut.0.len() == 1), "{len}");
        }
        let twice = [&body[..], &body[..]].concat();
        assert!(Sections::split(&twice).is_none());
    }
}
