//! Merging: several sources in hash order become one, and of the records of one id the one that counts
//! is kept. Serves sealing (one source), merging runs, and export.

use crate::chunks::ChunkFault;
use crate::exact::open_set::OpenSet;
use crate::exact::run::RunReader;
use crate::expiry::Version;
use crate::id::{IdHasher, Key, NsId};

/// Entries in hash order, in memory, one part of a source at a time.
#[derive(Debug, Default)]
struct Part {
    bytes: Vec<u8>,
    entries: Vec<PartEntry>,
    next: usize,
}

#[derive(Debug, Clone, Copy)]
struct PartEntry {
    order: u32,
    ns: NsId,
    at: u32,
    len: u16,
    version: Version,
}

impl Part {
    fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
        self.next = 0;
    }

    fn push(&mut self, order: u32, key: Key<'_>, version: Version) {
        let (at, len) = (self.bytes.len() as u32, key.id.len() as u16);
        self.bytes.extend_from_slice(key.id);
        self.entries.push(PartEntry { order, ns: key.ns, at, len, version });
    }

    fn key(&self, entry: &PartEntry) -> Key<'_> {
        let at = entry.at as usize;
        Key { ns: entry.ns, id: &self.bytes[at..at + usize::from(entry.len)] }
    }

    fn sort(&mut self) {
        let mut entries = std::mem::take(&mut self.entries);
        entries.sort_unstable_by(|a, b| (a.order, self.key(a)).cmp(&(b.order, self.key(b))));
        self.entries = entries;
    }

    fn peek(&self) -> Option<(u32, Key<'_>, Version)> {
        self.entries.get(self.next).map(|e| (e.order, self.key(e), e.version))
    }
}

/// One source of entries.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    run: Option<RunReader<'a>>,
    bucket: u32,
    part: Part,
}

impl<'a> Source<'a> {
    pub(crate) fn run(run: RunReader<'a>) -> Self {
        Self { run: Some(run), bucket: 0, part: Part::default() }
    }

    /// The entries of an open set for which `keep` says so.
    pub(crate) fn open_set(
        set: &OpenSet,
        hasher: IdHasher,
        keep: impl Fn(&Version) -> bool,
    ) -> Self {
        let mut part = Part::default();
        for entry in set.iter().filter(|e| keep(&e.version)) {
            part.push(hasher.hash(entry.key).order(), entry.key, entry.version);
        }
        part.sort();
        Self { run: None, bucket: 0, part }
    }

    /// Makes sure that the part holds the next entry, if there is one.
    fn fill(&mut self) -> Result<(), ChunkFault> {
        while self.part.next == self.part.entries.len() {
            let Some(run) = self.run.as_ref().filter(|run| self.bucket < run.buckets()) else {
                return Ok(());
            };
            self.part.clear();
            let part = &mut self.part;
            run.bucket(self.bucket, |hash, key, version| part.push(hash.order(), key, version))?;
            self.bucket += 1;
            // Written in this order; sorted again because a healed chunk need not be.
            self.part.sort();
        }
        Ok(())
    }
}

/// Walks several sources as one.
#[derive(Debug)]
pub(crate) struct MergeCursor<'a> {
    sources: Vec<Source<'a>>,
}

impl<'a> MergeCursor<'a> {
    pub(crate) fn new(sources: Vec<Source<'a>>) -> Self {
        Self { sources }
    }

    /// Hands each id once, in hash order, with the record that counts.
    pub(crate) fn for_each<E: From<ChunkFault>>(
        mut self,
        mut visit: impl FnMut(u32, Key<'_>, Version) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut id = Vec::new();
        loop {
            for source in &mut self.sources {
                source.fill()?;
            }
            let least = self.sources.iter().filter_map(|s| s.part.peek());
            let Some((order, key, version)) = least.min_by_key(|(order, key, _)| (*order, *key))
            else {
                return Ok(());
            };
            let mut counts = version;
            let ns = key.ns;
            id.clear();
            id.extend_from_slice(key.id);
            let key = Key { ns, id: &id };
            for source in &mut self.sources {
                if let Some((o, k, v)) = source.part.peek()
                    && o == order
                    && k == key
                {
                    counts = counts.join(v);
                    source.part.next += 1;
                }
            }
            visit(order, key, counts)?;
        }
    }
}
