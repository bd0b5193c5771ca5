//! Replay scopes on disk: the names of what is inside, and the mark that ends a scope.
//!
//! A scope and each name inside it are namespaces of the registry, under names that no caller can give:
//!
//! ```text
//! \0s \0 number of the scope \0 time in ms \0 name of the scope      the scope itself; its number is that of the namespace
//! \0n \0 number of the scope \0 name                                 a name inside it
//! ```
//!
//! So a scope that is open needs nothing else. How it ended is one row of the family of scopes, whose key is the number
//! of the scope: whether it was promoted or dropped, and of each name the numbers outside and inside.

use crate::codec::{Reader, Undecodable, put_bytes, put_varint, stored};
use crate::error::{Error, Result};
use crate::id::{Family, NsId};
use crate::limits;
use crate::sync::Arc;
use crate::time::Timestamp;
use std::collections::BTreeSet;
use std::path::Path;

/// No name that a caller gives begins with it.
const RESERVED: char = '\0';

/// What a name in the registry stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Registered<'a> {
    /// A namespace of callers.
    Plain,
    Scope {
        created: Timestamp,
        name: &'a str,
    },
    /// A name inside the scope of this number.
    Inside {
        scope: NsId,
        name: &'a str,
    },
    /// Nothing that this release knows.
    Unknown,
}

impl<'a> Registered<'a> {
    pub(in crate::engine) fn of(registered: &'a str) -> Self {
        if !registered.starts_with(RESERVED) {
            return Self::Plain;
        }
        let inside = |rest: &'a str| {
            let (scope, name) = rest.split_once(RESERVED)?;
            Some(Self::Inside { scope: NsId(scope.parse().ok()?), name })
        };
        let scope = |rest: &'a str| {
            let (_, rest) = rest.split_once(RESERVED)?;
            let (created, name) = rest.split_once(RESERVED)?;
            Some(Self::Scope { created: Timestamp::from_millis(created.parse().ok()?), name })
        };
        let parsed = match (registered.strip_prefix("\0n\0"), registered.strip_prefix("\0s\0")) {
            (Some(rest), _) => inside(rest),
            (_, Some(rest)) => scope(rest),
            _ => None,
        };
        parsed.unwrap_or(Self::Unknown)
    }
}

/// Returns the registered name of a scope.
pub(in crate::engine) fn scope_name(number: NsId, created: Timestamp, name: &str) -> String {
    format!("\0s\0{}\0{}\0{name}", number.0, created.as_millis())
}

/// Returns the registered name of a name inside a scope.
pub(in crate::engine) fn inside_name(scope: NsId, name: &str) -> String {
    format!("\0n\0{}\0{name}", scope.0)
}

/// Checks a name that a caller gives.
pub(in crate::engine) fn check_name(what: &str, name: &str) -> Result<()> {
    if name.is_empty() || name.len() > limits::NAMESPACE_BYTES_MAX {
        return Err(Error::invalid(format!(
            "a {what} with a name of {} bytes: a name has 1 to {} bytes",
            name.len(),
            limits::NAMESPACE_BYTES_MAX
        )));
    }
    if name.starts_with(RESERVED) {
        return Err(Error::invalid(format!(
            "the name of a {what} begins with a zero byte: such names are the store's own"
        )));
    }
    Ok(())
}

/// How a scope ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScopeEnd {
    /// What is inside has taken the place of what was outside.
    Promoted,
    /// What is inside is gone.
    Dropped,
}

/// What a scope holds under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) struct ScopeEntry {
    pub(in crate::engine) name: String,
    /// The number outside that a promotion replaces; of a dropped scope, that of nothing.
    pub(in crate::engine) outside: NsId,
    pub(in crate::engine) inside: NsId,
}

/// The end of a scope, as its row has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) struct ScopeMark {
    pub(in crate::engine) end: ScopeEnd,
    /// Orders the ends of all scopes: a promotion may replace what an earlier one has promoted.
    pub(in crate::engine) order: u64,
    pub(in crate::engine) at: Timestamp,
    /// Whether the background has looked for the space of what the end left behind.
    pub(in crate::engine) is_swept: bool,
    pub(in crate::engine) entries: Vec<ScopeEntry>,
}

const VERSION: u8 = 1;
const DROPPED: u8 = 1;
const SWEPT: u8 = 2;

impl ScopeMark {
    /// Returns the numbers that answer to nobody from then on.
    pub(in crate::engine) fn gone(&self) -> impl Iterator<Item = NsId> + '_ {
        self.entries.iter().map(|entry| match self.end {
            ScopeEnd::Promoted => entry.outside,
            ScopeEnd::Dropped => entry.inside,
        })
    }

    pub(in crate::engine) fn encode(&self) -> Vec<u8> {
        let dropped = if self.end == ScopeEnd::Dropped { DROPPED } else { 0 };
        let mut out = vec![VERSION, dropped | if self.is_swept { SWEPT } else { 0 }];
        put_varint(&mut out, self.order);
        put_varint(&mut out, self.at.as_millis());
        for ScopeEntry { name, outside, inside } in &self.entries {
            put_varint(&mut out, u64::from(outside.0));
            put_varint(&mut out, u64::from(inside.0));
            put_bytes(&mut out, name.as_bytes());
        }
        out
    }

    pub(in crate::engine) fn decode(bytes: &[u8]) -> std::result::Result<Self, Undecodable> {
        Self::take(&mut stored(bytes, VERSION)?).ok_or(Undecodable::Damaged)
    }

    fn take(r: &mut Reader<'_>) -> Option<Self> {
        let flags = r.u8().filter(|flags| flags & !(DROPPED | SWEPT) == 0)?;
        let end = if flags & DROPPED != 0 { ScopeEnd::Dropped } else { ScopeEnd::Promoted };
        let (order, at) = (r.varint()?, Timestamp::from_millis(r.varint()?));
        let mut entries = Vec::new();
        while !r.is_empty() {
            let number = |r: &mut Reader<'_>| r.varint_u32().map(NsId).filter(|ns| ns.is_plain());
            let (outside, inside) = (number(r)?, number(r)?);
            let len = usize::try_from(r.varint()?).ok()?;
            let name = String::from_utf8(r.bytes(len)?.to_vec()).ok()?;
            entries.push(ScopeEntry { name, outside, inside });
        }
        Some(Self { end, order, at, is_swept: flags & SWEPT != 0, entries })
    }
}

/// The numbers of namespaces that answer to nobody any more. What is under them is garbage for whoever meets it.
#[derive(Debug, Clone, Default)]
pub(in crate::engine) struct Gone(Arc<BTreeSet<u32>>);

impl Gone {
    pub(in crate::engine) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether what is under the number of a key is garbage.
    #[inline]
    pub(in crate::engine) fn has(&self, ns: NsId) -> bool {
        !self.is_empty() && self.0.contains(&ns.listed().0) && !ns.family().is_of_store()
    }

    pub(in crate::engine) fn with(&self, more: impl Iterator<Item = NsId>) -> Self {
        Self(Arc::new(self.0.iter().copied().chain(more.map(|ns| ns.0)).collect()))
    }
}

/// Reads the row of a mark: the scope that ended, and how.
pub(in crate::engine) fn read_mark(
    dir: &Path,
    id: &[u8],
    value: &[u8],
) -> Result<(NsId, ScopeMark)> {
    let scope = id.try_into().map(|id| NsId(u32::from_be_bytes(id)));
    let decoded = scope.map_err(|_| Undecodable::Damaged);
    decoded.and_then(|scope| Ok((scope, ScopeMark::decode(value)?))).map_err(|why| {
        let what = "the row that says how a replay scope ended cannot be decoded";
        why.error(dir, VERSION, what)
    })
}

/// Returns the key space of marks.
pub(in crate::engine) fn marks() -> NsId {
    NsId(0).rows(Family::SCOPES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark() -> ScopeMark {
        let entry = |name: &str, outside, inside| ScopeEntry {
            name: name.to_owned(),
            outside: NsId(outside),
            inside: NsId(inside),
        };
        ScopeMark {
            end: ScopeEnd::Promoted,
            order: 3,
            at: Timestamp::from_millis(1_700_000_000_000),
            is_swept: true,
            entries: vec![entry("default", 0, 7), entry("a\0b", 1, 8)],
        }
    }

    #[test]
    fn marks_come_back_and_newer_ones_are_told_from_damaged_ones() {
        for end in [ScopeEnd::Promoted, ScopeEnd::Dropped] {
            let mark = ScopeMark { end, ..mark() };
            assert_eq!(ScopeMark::decode(&mark.encode()), Ok(mark));
        }
        let mut bytes = mark().encode();
        for len in [0, 1, 2, bytes.len() - 1] {
            assert_eq!(ScopeMark::decode(&bytes[..len]), Err(Undecodable::Damaged), "{len}");
        }
        bytes[1] |= 4;
        assert_eq!(ScopeMark::decode(&bytes), Err(Undecodable::Damaged), "an unknown flag");
        bytes[0] = VERSION + 1;
        assert_eq!(ScopeMark::decode(&bytes), Err(Undecodable::Newer(VERSION + 1)));
    }

    #[test]
    fn names_inside_are_told_from_those_that_callers_give() {
        let (scope, created) = (NsId(5), Timestamp::from_millis(9));
        let own = scope_name(scope, created, "re\0play");
        assert_eq!(Registered::of(&own), Registered::Scope { created, name: "re\0play" });
        let inside = inside_name(scope, "a\0b");
        assert_eq!(Registered::of(&inside), Registered::Inside { scope, name: "a\0b" });
        assert_eq!(Registered::of("a\0b"), Registered::Plain);
        assert_eq!(Registered::of("\0q\0later"), Registered::Unknown);
        assert!(check_name("namespace", &inside).is_err());
        assert!(check_name("namespace", "a\0b").is_ok());
    }

    #[test]
    fn gone_are_claims_and_rows_of_a_number_but_not_the_rows_of_the_store() {
        let gone = Gone::default().with([NsId(0), NsId(4)].into_iter());
        assert!(gone.has(NsId(0)) && gone.has(NsId(4).rows(Family::LEDGER)) && !gone.has(NsId(3)));
        assert!(!gone.has(marks()), "or a promotion of the default namespace would forget itself");
    }
}
