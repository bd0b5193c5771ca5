//! The manifest: what is flushed, up to where, in which runs. One small file, replaced as a whole: write a new one,
//! sync it, rename it over the old one, sync the folder.
//!
//! It is never ahead of the data: before it is written, the log is synced up to every location it names, and the runs
//! it lists are in the block store (as far as that can be trusted).

use crate::codec::envelope;
use crate::disk::Disk;
use crate::engine::catalog::namespaces::NsMeta;
use crate::error::{Error, Result};
use crate::id::Seed;
use crate::limits;
use crate::run::RunMeta;
use crate::sync::Arc;
use crate::time::TimeMark;
use crate::wal::{Lsn, ReplayPlan, SegmentMeta};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

pub(crate) const MAGIC: [u8; 4] = *b"FSMF";
pub(crate) const VERSION: u16 = 1;
pub(in crate::engine) const FILE: &str = "MANIFEST";
const FILE_NEW: &str = "MANIFEST.new";

/// Decoding limit, far above any real manifest: a run takes about thirty bytes.
const MANIFEST_BYTES_MAX: usize = 1 << 28;

/// The body of the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ManifestBody {
    pub(crate) seed: Seed,
    pub(crate) shards: u16,
    /// Incremented by every write of the manifest; the block store carries a copy (I10).
    pub(crate) epoch: u64,
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
}

impl ManifestBody {
    pub(in crate::engine) fn new(seed: Seed, shards: usize) -> Self {
        Self {
            seed,
            shards: shards as u16,
            epoch: 0,
            next_run: 1,
            flushed: vec![Lsn::new(1, 0); shards],
            runs: Vec::new(),
            obsolete: Vec::new(),
            durable: Lsn(0),
            full_segments: Vec::new(),
            next_segment: 1,
            namespaces: Vec::new(),
            time: None,
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

    pub(crate) fn decode(path: &Path, bytes: &[u8]) -> Result<Self> {
        let body = envelope::open(path, MAGIC, VERSION, bytes)?;
        // Without a limit, a string that claims to be endless panics instead of returning an error.
        let config = bincode::config::standard().with_limit::<MANIFEST_BYTES_MAX>();
        let at = envelope::HEAD_BYTES as u64;
        // The checksum passed, so a body that does not decode was written by something else. Report it all the same.
        let (body, read): (Self, usize) = bincode::serde::decode_from_slice(body, config)
            .map_err(|e| Error::corrupt(path, at, format!("the manifest does not decode: {e}")))?;
        let shards = usize::from(body.shards);
        let sound = shards.is_power_of_two() && shards <= limits::SHARDS_MAX;
        let whole = read + envelope::HEAD_BYTES == bytes.len();
        let can_be = |run: &RunMeta| (1..=limits::RUN_BLOCKS_MAX).contains(&run.buckets);
        if !sound
            || !whole
            || body.flushed.len() != shards
            || !body.runs.iter().all(can_be)
            || body.namespaces.iter().any(|ns| ns.id.is_hashed())
        {
            return Err(Error::corrupt(path, at, "the manifest contradicts itself"));
        }
        Ok(body)
    }

    fn encode(&self) -> Result<Vec<u8>> {
        let body = bincode::serde::encode_to_vec(self, bincode::config::standard())
            .map_err(|e| Error::bug(format!("the manifest does not encode: {e}")))?;
        Ok(envelope::frame(MAGIC, VERSION, &body))
    }
}

/// The manifest of an open store.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(in crate::engine) body: ManifestBody,
    /// Runs being written: number and buckets. The file lists them as obsolete, so that a crash leaves nothing behind.
    pub(in crate::engine) in_flight: Vec<(u64, u32)>,
    dir: PathBuf,
    disk: Arc<dyn Disk>,
}

impl Manifest {
    pub(in crate::engine) fn new(disk: Arc<dyn Disk>, dir: &Path, body: ManifestBody) -> Self {
        Self { body, in_flight: Vec::new(), dir: dir.to_owned(), disk }
    }

    /// Writes the body with the next epoch.
    pub(in crate::engine) fn write(&mut self) -> Result<()> {
        self.body.epoch += 1;
        let mut body = self.body.clone();
        body.obsolete.extend(&self.in_flight);
        let bytes = body.encode()?;
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
    if let Ok(body) = ManifestBody::decode(Path::new(FILE), bytes) {
        body.encode().expect("what was decoded encodes");
        body.plan();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i11_a_manifest_comes_back_whole_or_says_where_it_is_damaged() {
        let mut body = ManifestBody::new(Seed([1; 16]), 4);
        body.obsolete.push((3, 4));
        let good = body.encode().expect("encodes");
        let path = Path::new("MANIFEST");
        assert_eq!(ManifestBody::decode(path, &good).ok(), Some(body));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(ManifestBody::decode(path, &bad), Err(Error::Corrupt { .. })));
        }
        for len in 0..good.len() {
            assert!(ManifestBody::decode(path, &good[..len]).is_err());
        }
    }
}
