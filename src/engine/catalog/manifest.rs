//! The manifest: what is flushed, up to where, in which runs. One small file, replaced as a whole: write a new one,
//! sync it, rename it over the old one, sync the folder.
//!
//! It is never ahead of the data: before it is written, the log is synced up to every location it names, and the runs
//! it lists are in the block store (as far as that can be trusted).
//!
//! Inside the envelope FSMF: tagged sections (`codec/sections.rs`), each a few serialised fields:
//!
//! | tag | section |
//! |---|---|
//! | 1 | seed, shards, edition |
//! | 2 | runs: next number, flushed location of each shard, runs, obsolete runs |
//! | 3 | log: durable location, full segments, next segment number |
//! | 4 | namespaces |
//! | 5 | time |
//! | 6 | rows: the first sequence that is not reserved |
//! | 0x8007 | of a restored store only: what tells it from other copies, its epoch |
//!
//! A manifest of an older version is read and written again by the opening that finds it, in one step like every
//! manifest: a crash leaves the old or the new one.

use crate::codec::envelope;
use crate::codec::sections::{self, Sections};
use crate::disk::Disk;
use crate::engine::catalog::namespaces::NsMeta;
use crate::error::{Error, Result};
use crate::id::{Family, Seed};
use crate::limits;
use crate::run::RunMeta;
use crate::sync::Arc;
use crate::time::TimeMark;
use crate::wal::{Lsn, ReplayPlan, SegmentMeta};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub(crate) const MAGIC: [u8; 4] = *b"FSMF";
/// The version that this release writes.
pub(crate) const VERSION: u16 = 2;
/// The oldest version that it reads.
const OLDEST: u16 = 2;
/// The version after that, which exists in tests only: they upgrade stores to it.
#[cfg(any(test, feature = "testing"))]
pub(crate) const NEXT: u16 = VERSION + 1;
pub(in crate::engine) const FILE: &str = "MANIFEST";
pub(in crate::engine) const FILE_NEW: &str = "MANIFEST.new";

/// Decoding limit, far above any real manifest: a run takes about thirty bytes.
const MANIFEST_BYTES_MAX: usize = 1 << 28;

/// What tells a restored store from other copies of the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::engine) struct Origin {
    /// Drawn anew by each restore.
    pub(in crate::engine) copy: [u8; 16],
    /// Greater than that of the copies before it.
    pub(in crate::engine) epoch: u64,
}

/// The body of the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ManifestBody {
    pub(crate) seed: Seed,
    pub(crate) shards: u16,
    /// Incremented by every write of the manifest; the block store carries a copy (I10).
    pub(crate) edition: u64,
    /// Run numbers from here on were never used.
    pub(crate) next_run: u64,
    /// Per shard: every record up to this location is in a run.
    pub(crate) flushed: Vec<Lsn>,
    pub(crate) runs: Vec<RunMeta>,
    /// Obsolete runs whose blocks may still exist: number and buckets.
    pub(crate) obsolete: Vec<(u64, u32)>,
    pub(crate) durable: Lsn,
    /// Segments before the first unflushed record.
    pub(crate) full_segments: Vec<SegmentMeta>,
    pub(crate) next_segment: u32,
    pub(crate) namespaces: Vec<NsMeta>,
    pub(crate) time: Option<TimeMark>,
    /// Sequences of rows below this one are given or reserved.
    pub(crate) sequence: u64,
    /// `None` if the store was not restored from a snapshot.
    pub(in crate::engine) origin: Option<Origin>,
}

impl ManifestBody {
    pub(in crate::engine) fn new(seed: Seed, shards: usize) -> Self {
        Self {
            seed,
            shards: shards as u16,
            edition: 0,
            next_run: 1,
            flushed: vec![Lsn::new(1, 0); shards],
            runs: Vec::new(),
            obsolete: Vec::new(),
            durable: Lsn(0),
            full_segments: Vec::new(),
            next_segment: 1,
            namespaces: Vec::new(),
            time: None,
            sequence: 1,
            origin: None,
        }
    }

    /// Returns the segment that holds the first unflushed record.
    pub(in crate::engine) fn first_segment(&self) -> u32 {
        self.flushed.iter().map(|lsn| lsn.segment()).min().unwrap_or(1)
    }

    pub(in crate::engine) fn plan(&self) -> ReplayPlan {
        ReplayPlan {
            first: self.first_segment(),
            known: self.full_segments.clone(),
            durable: self.durable,
            rescan: false,
            next_number: self.next_segment,
        }
    }

    /// Decodes a manifest of this version or an older one; returns its version, too.
    pub(crate) fn decode(path: &Path, newest: u16, bytes: &[u8]) -> Result<(u16, Self)> {
        let (version, body) = envelope::open(path, MAGIC, OLDEST..=newest, bytes)?;
        let at = envelope::HEAD_BYTES as u64;
        // The checksum passed, so a body that does not decode was written by something else. Report it all the same.
        let corrupt = |what: &str| Error::corrupt(path, at, what);
        let sections =
            Sections::split(body).ok_or_else(|| corrupt("its sections are not whole"))?;
        let known = [tag::STORE, tag::RUNS, tag::LOG, tag::NAMESPACES, tag::TIME, tag::ROWS];
        let next = (version > VERSION).then_some(tag::NEXT);
        if let Some(tag) = sections.unknown(&known).filter(|tag| Some(*tag) != next) {
            let what = format!("section {tag}");
            return Err(Error::NewerContent { path: path.to_owned(), offset: at, what });
        }
        if next.is_some_and(|tag| sections.get(tag) != Some(NEXT_SECTION)) {
            return Err(corrupt("the section of its version is missing"));
        }
        let failed = |tag| corrupt(&format!("its section {tag} does not decode"));
        macro_rules! section {
            ($tag:expr) => {
                sections.get($tag).and_then(decode_section).ok_or_else(|| failed($tag))?
            };
        }
        let (seed, shards, edition) = section!(tag::STORE);
        let (next_run, flushed, runs, obsolete) = section!(tag::RUNS);
        let (durable, full_segments, next_segment) = section!(tag::LOG);
        let (namespaces, time, sequence) =
            (section!(tag::NAMESPACES), section!(tag::TIME), section!(tag::ROWS));
        let origin = match sections.get(tag::ORIGIN) {
            Some(bytes) => Some(decode_section(bytes).ok_or_else(|| failed(tag::ORIGIN))?),
            None => None,
        };
        let body = Self {
            seed,
            shards,
            edition,
            next_run,
            flushed,
            runs,
            obsolete,
            durable,
            full_segments,
            next_segment,
            namespaces,
            time,
            sequence,
            origin,
        };
        match body.check() {
            Ok(()) => Ok((version, body)),
            Err(what) => Err(corrupt(&format!("the manifest contradicts itself: {what}"))),
        }
    }

    /// Checks what must hold of every manifest, at each reading and before each writing.
    pub(crate) fn check(&self) -> std::result::Result<(), &'static str> {
        let shards = usize::from(self.shards);
        let first = self.first_segment();
        let can_be = |run: &RunMeta| {
            (1..=limits::RUN_BLOCKS_MAX).contains(&run.buckets)
                && usize::from(run.shard) < shards
                && run.family.0 <= Family::MAX
                && run.id < self.next_run
        };
        let listed: BTreeSet<u64> = self.runs.iter().map(|run| run.id).collect();
        let rules = [
            (shards.is_power_of_two() && shards <= limits::SHARDS_MAX, "the number of shards"),
            (self.flushed.len() == shards, "one flushed location for each shard"),
            (self.runs.iter().all(can_be), "a run that cannot be"),
            (listed.len() == self.runs.len(), "a run is listed twice"),
            (self.obsolete.iter().all(|(id, _)| !listed.contains(id)), "a run in use is obsolete"),
            (
                self.full_segments.is_sorted_by(|a, b| a.number < b.number),
                "the segments are not in order",
            ),
            (
                self.full_segments.iter().all(|meta| meta.number < first),
                "a segment is read at opening and known already",
            ),
            (self.next_segment >= first, "the next segment comes before the first"),
            (
                self.namespaces.iter().all(|ns| ns.id.is_plain() && ns.id.0 > 0),
                "a namespace number",
            ),
            (
                self.namespaces.iter().map(|ns| ns.id).collect::<BTreeSet<_>>().len()
                    == self.namespaces.len(),
                "two namespaces have one number",
            ),
            (
                self.namespaces.iter().map(|ns| &ns.name).collect::<BTreeSet<_>>().len()
                    == self.namespaces.len(),
                "two namespaces have one name",
            ),
            ((1..=limits::SEQUENCE_END).contains(&self.sequence), "the sequence of rows"),
        ];
        rules.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, what)| Err(what))
    }

    /// Encodes without checking.
    pub(crate) fn encode(&self, version: u16) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        let mut put = |tag, bytes: Result<Vec<u8>>| -> Result<()> {
            sections::put(&mut body, tag, &bytes?);
            Ok(())
        };
        put(tag::STORE, encode_section(&(self.seed, self.shards, self.edition)))?;
        let runs = (self.next_run, &self.flushed, &self.runs, &self.obsolete);
        put(tag::RUNS, encode_section(&runs))?;
        let log = (self.durable, &self.full_segments, self.next_segment);
        put(tag::LOG, encode_section(&log))?;
        put(tag::NAMESPACES, encode_section(&self.namespaces))?;
        put(tag::TIME, encode_section(&self.time))?;
        put(tag::ROWS, encode_section(&self.sequence))?;
        if let Some(origin) = &self.origin {
            put(tag::ORIGIN, encode_section(origin))?;
        }
        if version > VERSION {
            put(tag::NEXT, Ok(NEXT_SECTION.to_vec()))?;
        }
        Ok(envelope::frame(MAGIC, version, &body))
    }
}

/// What sections are.
mod tag {
    pub(super) const STORE: u16 = 1;
    pub(super) const RUNS: u16 = 2;
    pub(super) const LOG: u16 = 3;
    pub(super) const NAMESPACES: u16 = 4;
    pub(super) const TIME: u16 = 5;
    pub(super) const ROWS: u16 = 6;
    /// A release that leaves it out takes the store for one that was never restored: snapshots of it are refused where
    /// those of its copies are.
    pub(super) const ORIGIN: u16 = 0x8007;
    /// Of the version that only tests write.
    pub(super) const NEXT: u16 = 0x7fff;
}

const NEXT_SECTION: &[u8] = b"next";

fn encode_section(section: &impl Serialize) -> Result<Vec<u8>> {
    bincode::serde::encode_to_vec(section, bincode::config::standard())
        .map_err(|e| Error::bug(format!("the manifest does not encode: {e}")))
}

fn decode_section<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    // Without a limit, a string that claims to be endless panics instead of returning an error.
    let config = bincode::config::standard().with_limit::<MANIFEST_BYTES_MAX>();
    let (section, read) = bincode::serde::decode_from_slice(bytes, config).ok()?;
    (read == bytes.len()).then_some(section)
}

/// The manifest of an open store.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(in crate::engine) body: ManifestBody,
    /// Runs being written: number and buckets. The file lists them as obsolete, so that a crash leaves nothing behind.
    pub(in crate::engine) in_flight: Vec<(u64, u32)>,
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    version: u16,
}

impl Manifest {
    /// `version` is the one to write.
    pub(in crate::engine) fn new(
        disk: Arc<dyn Disk>,
        dir: &Path,
        version: u16,
        body: ManifestBody,
    ) -> Self {
        Self { body, in_flight: Vec::new(), dir: dir.to_owned(), disk, version }
    }

    /// Writes the body with the next edition.
    pub(in crate::engine) fn write(&mut self) -> Result<()> {
        self.body.edition += 1;
        let mut body = self.body.clone();
        body.obsolete.extend(&self.in_flight);
        // A manifest that contradicts itself could not be read again.
        body.check().map_err(|what| Error::bug(format!("a manifest was not written: {what}")))?;
        let bytes = body.encode(self.version)?;
        let (path, new) = (self.dir.join(FILE), self.dir.join(FILE_NEW));
        let io = |doing, path: &Path| {
            let path = path.to_owned();
            move |e| Error::io(doing, &path, e)
        };
        match self.disk.remove(&new) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &new, e));
            }
            _ => {}
        }
        let file = self.disk.create_new(&new).map_err(io("create", &new))?;
        file.write_all_at(&bytes, 0).map_err(io("write", &new))?;
        file.sync_data().map_err(io("sync", &new))?;
        self.disk.rename(&new, &path).map_err(io("rename", &new))?;
        self.disk.sync_dir(&self.dir).map_err(io("sync", &self.dir))
    }
}

/// Fuzzer entry point: what decodes must also encode.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_decode(bytes: &[u8]) {
    if let Ok((version, body)) = ManifestBody::decode(Path::new(FILE), NEXT, bytes) {
        body.encode(version).expect("what was decoded encodes");
        body.plan();
    }
}

/// Fuzzer entry point: frames sections, each given with its length in one byte before it, in the order of their tags.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_frame(data: &[u8], seed: Seed) -> Vec<u8> {
    let (mut rest, mut body) = (data, Vec::new());
    for tag in tag::STORE..=tag::ROWS {
        let (len, tail) = rest.split_first().unwrap_or((&0, &[]));
        let (section, tail) = tail.split_at(usize::from(*len).min(tail.len()));
        let mut section = section.to_vec();
        if tag == tag::STORE {
            let end = section.len().min(seed.0.len());
            section[..end].copy_from_slice(&seed.0[..end]);
        }
        sections::put(&mut body, tag, &section);
        rest = tail;
    }
    envelope::frame(MAGIC, VERSION, &body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expiry::GenId;

    fn body() -> ManifestBody {
        let mut body = ManifestBody::new(Seed([1; 16]), 4);
        body.next_run = 9;
        body.obsolete.push((3, 4));
        body.runs.push(RunMeta {
            id: 5,
            shard: 1,
            family: Family(2),
            generation: GenId::FOREVER,
            buckets: 1,
            ids: 1,
            bytes: 20,
            from_segment: 1,
        });
        body
    }

    #[test]
    fn i11_a_manifest_comes_back_whole_or_says_where_it_is_damaged() {
        let body = body();
        let good = body.encode(VERSION).expect("encodes");
        let path = Path::new("MANIFEST");
        assert_eq!(ManifestBody::decode(path, VERSION, &good).ok(), Some((VERSION, body)));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let decoded = ManifestBody::decode(path, VERSION, &bad);
            assert!(matches!(decoded, Err(Error::Corrupt { .. })));
        }
        for len in 0..good.len() {
            assert!(ManifestBody::decode(path, VERSION, &good[..len]).is_err());
        }
    }

    #[test]
    fn a_manifest_of_another_version_is_read_or_refused_by_its_version() {
        let path = Path::new("MANIFEST");
        let read = |newest, written| {
            let bytes = body().encode(written).expect("encodes");
            ManifestBody::decode(path, newest, &bytes).map(|(version, _)| version)
        };
        assert_eq!(read(NEXT, VERSION).ok(), Some(VERSION));
        assert_eq!(read(NEXT, NEXT).ok(), Some(NEXT));
        assert!(matches!(read(VERSION, NEXT), Err(Error::FromTheFuture { found: NEXT, .. })));
        assert!(matches!(read(NEXT, 1), Err(Error::FromThePast { found: 1, oldest: OLDEST, .. })));
    }

    /// Each rule, broken alone.
    #[test]
    fn a_manifest_that_contradicts_itself_is_neither_read_nor_written() {
        let breaks: [fn(&mut ManifestBody); 13] = [
            |b| b.shards = 3,
            |b| _ = b.flushed.pop(),
            |b| b.runs[0].buckets = 0,
            |b| b.runs[0].buckets = u32::MAX,
            |b| b.runs[0].shard = 4,
            |b| b.runs[0].id = 9,
            |b| b.runs[0].family = Family(32),
            |b| b.runs.push(b.runs[0].clone()),
            |b| b.obsolete.push((5, 1)),
            |b| b.full_segments.push(segment(1)),
            |b| b.next_segment = 0,
            |b| b.namespaces.extend([namespace(1, "a"), namespace(1, "b")]),
            |b| b.namespaces.extend([namespace(1, "a"), namespace(2, "a")]),
        ];
        for (n, change) in breaks.iter().enumerate() {
            let mut bad = body();
            change(&mut bad);
            assert!(bad.check().is_err(), "rule {n}");
            let bytes = bad.encode(VERSION).expect("encodes");
            let read = ManifestBody::decode(Path::new("MANIFEST"), VERSION, &bytes);
            assert!(matches!(read, Err(Error::Corrupt { .. })), "rule {n}");
            let disk = crate::disk::sim::SimDisk::new();
            let mut manifest = Manifest::new(Arc::new(disk.clone()), Path::new("/"), VERSION, bad);
            assert!(matches!(manifest.write(), Err(Error::Bug { .. })), "rule {n}");
            assert!(disk.list(Path::new("/")).expect("lists").is_empty());
        }
    }

    fn segment(number: u32) -> SegmentMeta {
        SegmentMeta { number, end: 5_000, contents: crate::wal::Contents::default() }
    }

    fn namespace(id: u32, name: &str) -> NsMeta {
        NsMeta { id: crate::id::NsId(id), name: name.to_owned(), ttl_ms: 0, sliding: false }
    }
}
