//! The index of a snapshot: what it consists of. It is written last, and a snapshot without it does not exist.
//!
//! Envelope FSSN, version 1. The body is a sequence of sections (`codec/sections.rs`) of bincode:
//!
//! | tag | section |
//! |---|---|
//! | 1 | number, id of the snapshot before it, seed, copy, epoch, time (ms), end of the log in it |
//! | 2 | the manifest of the restored store, but for its origin and sequence: a whole file |
//! | 3 | parts, in order: number of the segment, bytes, BLAKE3 hash, number of the snapshot that sent it |
//!
//! An index is stored under its number, a part under the number of the snapshot that sent it, that of its segment and its
//! hash. So what is under a name never changes, and a part of another store or of a segment that was written anew cannot
//! pass for this one.

use crate::codec::envelope;
use crate::codec::sections::{self, Sections};
use crate::error::{Error, Result};
use crate::snapshot::target::SnapshotTarget;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const MAGIC: [u8; 4] = *b"FSSN";
const VERSION: u16 = 1;

/// Folder of the indexes.
const SNAPSHOTS: &str = "snapshots";
/// Folder of the parts.
const OBJECTS: &str = "segments";

/// Decoding limit, far above any real index: a part takes about fifty bytes.
const BYTES_MAX: usize = 1 << 28;

/// What a snapshot is known by: the hash of its index.
pub(crate) type Id = [u8; 32];

/// What a snapshot consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) head: Head,
    pub(crate) manifest: Vec<u8>,
    pub(crate) parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// Grows by one with each snapshot in a place.
    pub(crate) number: u64,
    /// The snapshot before it in this place; zeros for the first.
    pub(crate) parent: Id,
    pub(crate) seed: [u8; 16],
    /// Tells copies of one store apart; zeros for one that was never restored.
    pub(crate) copy: [u8; 16],
    pub(crate) epoch: u64,
    pub(crate) taken_ms: u64,
    /// End of the log in this snapshot: segment and offset.
    pub(crate) end: (u32, u32),
}

/// A segment of the log, as an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) segment: u32,
    pub(crate) bytes: u32,
    pub(crate) hash: [u8; 32],
    /// The snapshot that sent it.
    pub(crate) sent: u64,
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").expect("a string takes what is written");
        out
    })
}

/// Returns what an index is stored under.
pub(crate) fn index_name(number: u64) -> String {
    format!("{SNAPSHOTS}/{number:020}")
}

impl Part {
    /// Returns what it is stored under.
    pub(crate) fn name(&self) -> String {
        format!("{OBJECTS}/{:020}-{:010}-{}", self.sent, self.segment, hex(&self.hash))
    }

    /// Reads it; the result is what was sent, byte for byte.
    pub(crate) fn fetch(&self, target: &dyn SnapshotTarget) -> Result<Vec<u8>> {
        let name = self.name();
        let Some(bytes) = get(target, &name)? else { return Err(damaged(&name, "it is missing")) };
        if bytes.len() as u64 != u64::from(self.bytes) {
            let what = format!("it should have {} bytes and has {}", self.bytes, bytes.len());
            return Err(damaged(&name, &what));
        }
        if *blake3::hash(&bytes).as_bytes() != self.hash {
            return Err(damaged(&name, "it does not match its hash"));
        }
        Ok(bytes)
    }
}

/// Returns which snapshot sent the object of this name; `None` if it is not a part.
pub(crate) fn sent_in(name: &str) -> Option<u64> {
    let (sent, rest) = name.strip_prefix(OBJECTS)?.strip_prefix('/')?.split_once('-')?;
    let is_ours = sent.len() == 20 && rest.len() == 10 + 1 + 64;
    is_ours.then(|| sent.parse().ok()).flatten()
}

pub(crate) fn damaged(name: &str, what: &str) -> Error {
    Error::SnapshotDamaged { path: PathBuf::from(name), what: what.to_owned() }
}

fn get(target: &dyn SnapshotTarget, name: &str) -> Result<Option<Vec<u8>>> {
    target.get(name).map_err(|e| Error::io("read", Path::new(name), e))
}

/// Returns the numbers of the snapshots in a place, in order.
pub(crate) fn numbers(target: &dyn SnapshotTarget) -> Result<Vec<u64>> {
    let names = target.list(SNAPSHOTS).map_err(|e| Error::io("list", Path::new(SNAPSHOTS), e))?;
    let number = |name: &String| (name.len() == 20).then(|| name.parse().ok()).flatten();
    let mut numbers: Vec<u64> = names.iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Returns the names of the parts in a place.
pub(crate) fn part_names(target: &dyn SnapshotTarget) -> Result<BTreeSet<String>> {
    let names = target.list(OBJECTS).map_err(|e| Error::io("list", Path::new(OBJECTS), e))?;
    Ok(names.into_iter().map(|name| format!("{OBJECTS}/{name}")).collect())
}

/// Reads an index; returns what it is known by, too.
pub(crate) fn read_index(target: &dyn SnapshotTarget, number: u64) -> Result<(Id, Index)> {
    let name = index_name(number);
    let Some(bytes) = get(target, &name)? else {
        return Err(Error::invalid(format!("there is no snapshot {number} in this place")));
    };
    let index = Index::decode(&name, &bytes)?;
    if index.head.number != number {
        let what = format!("it is the index of snapshot {}", index.head.number);
        return Err(damaged(&name, &what));
    }
    Ok((*blake3::hash(&bytes).as_bytes(), index))
}

impl Index {
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        sections::put(&mut body, tag::HEAD, &encode_section(&self.head)?);
        sections::put(&mut body, tag::MANIFEST, &self.manifest);
        sections::put(&mut body, tag::PARTS, &encode_section(&self.parts)?);
        Ok(envelope::frame(MAGIC, VERSION, &body))
    }

    pub(crate) fn decode(name: &str, bytes: &[u8]) -> Result<Self> {
        let path = Path::new(name);
        let (_, body) = envelope::open(path, MAGIC, 1..=VERSION, bytes).map_err(|e| match e {
            Error::Corrupt { what, .. } => damaged(name, &what),
            other => other,
        })?;
        let wrong = |what: &str| damaged(name, what);
        let sections = Sections::split(body).ok_or_else(|| wrong("its sections are not whole"))?;
        if let Some(tag) = sections.unknown(&[tag::HEAD, tag::MANIFEST, tag::PARTS]) {
            let (path, offset) = (path.to_owned(), envelope::HEAD_BYTES as u64);
            return Err(Error::NewerContent { path, offset, what: format!("section {tag}") });
        }
        let index = (|| {
            let head = decode_section(sections.get(tag::HEAD)?)?;
            let manifest = sections.get(tag::MANIFEST)?.to_vec();
            let parts = decode_section(sections.get(tag::PARTS)?)?;
            Some(Self { head, manifest, parts })
        })();
        let index = index.ok_or_else(|| wrong("a section does not decode"))?;
        index.check().map_err(|what| wrong(&format!("it contradicts itself: {what}")))?;
        Ok(index)
    }

    /// Checks what must hold of every index.
    fn check(&self) -> std::result::Result<(), &'static str> {
        let Head { number, end, .. } = self.head;
        let last = self.parts.last().ok_or("it has no parts")?;
        let rules = [
            (self.parts.is_sorted_by(|a, b| a.segment < b.segment), "the order of its parts"),
            ((last.segment, last.bytes) == end, "the end of the log"),
            (number > 0 && self.parts.iter().all(|part| part.sent <= number), "its number"),
        ];
        rules.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, what)| Err(what))
    }

    /// Returns the part of this segment.
    pub(crate) fn part(&self, segment: u32) -> Option<&Part> {
        let at = self.parts.binary_search_by_key(&segment, |part| part.segment).ok()?;
        Some(&self.parts[at])
    }
}

mod tag {
    pub(super) const HEAD: u16 = 1;
    pub(super) const MANIFEST: u16 = 2;
    pub(super) const PARTS: u16 = 3;
}

fn encode_section(section: &impl Serialize) -> Result<Vec<u8>> {
    bincode::serde::encode_to_vec(section, bincode::config::standard())
        .map_err(|e| Error::bug(format!("the index of a snapshot does not encode: {e}")))
}

fn decode_section<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let config = bincode::config::standard().with_limit::<BYTES_MAX>();
    let (section, read) = bincode::serde::decode_from_slice(bytes, config).ok()?;
    (read == bytes.len()).then_some(section)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        let part = |segment| Part { segment, bytes: 5_000, hash: [3; 32], sent: 2 };
        let head = Head {
            number: 2,
            parent: [1; 32],
            seed: [7; 16],
            copy: [0; 16],
            epoch: 0,
            taken_ms: 1_700_000_000_000,
            end: (5, 5_000),
        };
        Index { head, manifest: b"a manifest".to_vec(), parts: vec![part(3), part(5)] }
    }

    #[test]
    fn i15_every_flipped_bit_and_every_truncation_of_an_index_is_noticed() {
        let good = index().encode().expect("encodes");
        assert_eq!(Index::decode("i", &good).ok(), Some(index()));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let decoded = Index::decode("i", &bad);
            assert!(matches!(decoded, Err(Error::SnapshotDamaged { .. })), "bit {bit}");
        }
        for len in 0..good.len() {
            assert!(Index::decode("i", &good[..len]).is_err());
        }
    }

    #[test]
    fn an_index_that_contradicts_itself_is_not_read() {
        let breaks: [fn(&mut Index); 4] = [
            |i| i.parts.clear(),
            |i| i.parts.reverse(),
            |i| i.head.end.1 += 1,
            |i| i.parts[0].sent = 3,
        ];
        for (n, change) in breaks.iter().enumerate() {
            let mut bad = index();
            change(&mut bad);
            let bytes = bad.encode().expect("encodes");
            let decoded = Index::decode("i", &bytes);
            assert!(matches!(decoded, Err(Error::SnapshotDamaged { .. })), "rule {n}");
        }
    }

    #[test]
    fn a_name_of_a_part_says_which_snapshot_sent_it() {
        let part = index().parts.remove(0);
        let name = part.name();
        assert_eq!(sent_in(&name), Some(2));
        for other in ["", "segments/incoming", "segments/x-y", &name[1..], &name[..40]] {
            assert_eq!(sent_in(other), None, "{other}");
        }
    }
}
