//! What a repair reports.

use crate::engine::catalog::manifest::ManifestBody;
use crate::wal::ScanDamage;
use crate::wal::{SalvagedMissing, SegmentMeta};
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;

/// Bytes that a claim of a 16-byte id takes in the log: used if nothing is left to count.
const BYTES_PER_ID: u64 = 24;

/// A stretch of a file that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LostBytes {
    /// The file.
    pub file: PathBuf,
    /// Where the stretch begins.
    pub offset: u64,
    /// How long it is. Zero if a file is missing or ends too early, and how much it held is not known.
    pub bytes: u64,
}

impl LostBytes {
    pub(in crate::engine::recovery) fn of(damage: ScanDamage) -> Self {
        Self { file: damage.path, offset: damage.offset, bytes: damage.bytes }
    }
}

/// A log segment whose file is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MissingSegment {
    /// Its number, as in its file name.
    pub number: u32,
    /// The file.
    pub file: PathBuf,
    /// Bytes of records that it held, if the manifest says.
    pub bytes: Option<u64>,
    /// How many ids that was, estimated from what an id takes on average.
    pub ids_estimate: Option<u64>,
}

impl MissingSegment {
    pub(super) fn all(missing: Vec<SalvagedMissing>, bytes_per_id: u64) -> Vec<Self> {
        let told = |SalvagedMissing { number, path, bytes }| Self {
            number,
            file: path,
            bytes,
            ids_estimate: bytes.map(|bytes| bytes / bytes_per_id),
        };
        missing.into_iter().map(told).collect()
    }
}

/// Returns what an id takes in the log on average, from the records that are left or else from what was flushed
/// according to the manifest.
pub(super) fn bytes_per_id(records: u64, bytes: u64, manifest: Option<&ManifestBody>) -> u64 {
    let flushed = manifest.map_or((0, 0), |body| {
        let ids: u64 = body.runs.iter().map(|run| run.ids).sum();
        (ids, body.full_segments.iter().map(SegmentMeta::bytes).sum())
    });
    let known =
        [(records, bytes), flushed].into_iter().find(|(ids, bytes)| *ids > 0 && bytes > ids);
    known.map_or(BYTES_PER_ID, |(ids, bytes)| bytes / ids)
}

/// What a repair did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RepairReport {
    /// Records of ids that were saved.
    pub saved_records: u64,
    /// Records that only the block store still had. It is read only if the log holds none at all.
    pub rescued_records: u64,
    /// Bytes in which no record could be found. A torn tail counts, though it held nothing acknowledged.
    pub lost_bytes: u64,
    /// Where they are.
    pub lost: Vec<LostBytes>,
    /// Log segments whose files are gone. They are listed in `lost`, too.
    pub missing_segments: Vec<MissingSegment>,
    /// Whether a forgotten id may be a duplicate again: its tombstone may be among what is lost.
    pub forgotten_may_return: bool,
    /// Whether the manifest had to be rebuilt.
    pub manifest_rebuilt: bool,
    /// New names of the namespaces whose names were lost: `recovered-7` is the one with number 7.
    pub renamed_namespaces: Vec<String>,
    /// Where the old log is kept; `None` if nothing was wrong and nothing was changed.
    pub old_log: Option<PathBuf>,
}

impl RepairReport {
    fn write_lost(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unknown = self.lost.iter().any(|lost| lost.bytes == 0);
        let ranges = if self.lost.len() == 1 { "range" } else { "ranges" };
        let count = self.lost.len();
        match (unknown, self.lost_bytes) {
            (true, 0) => writeln!(f, "lost      an unknown number of bytes in {count} {ranges}"),
            (true, bytes) => writeln!(f, "lost      at least {bytes} bytes in {count} {ranges}"),
            (false, bytes) => writeln!(f, "lost      {bytes} bytes in {count} {ranges}"),
        }?;
        for LostBytes { file, offset, bytes } in &self.lost {
            if self.missing_segments.iter().any(|missing| missing.file == *file) {
                continue;
            }
            let file = file.display();
            match (offset, bytes) {
                (0, 0) => writeln!(f, "          {file} is missing or empty"),
                (_, 0) => writeln!(f, "          {file} ends at byte {offset}, too early"),
                _ => writeln!(f, "          {file} at byte {offset}, {bytes} bytes"),
            }?;
        }
        for missing in &self.missing_segments {
            let file = missing.file.display();
            match (missing.bytes, missing.ids_estimate) {
                (Some(bytes), Some(ids)) => {
                    writeln!(f, "          {file} is missing: {bytes} bytes, about {ids} ids")
                }
                _ => writeln!(f, "          {file} is missing; how much it held is not known"),
            }?;
        }
        Ok(())
    }
}

impl fmt::Display for RepairReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(old) = &self.old_log else {
            return write!(f, "nothing to repair: {} records read, all whole", self.saved_records);
        };
        writeln!(f, "saved     {} records", self.saved_records)?;
        if self.rescued_records > 0 {
            writeln!(
                f,
                "rescued   {} records from the sled folder; claims not yet flushed are lost",
                self.rescued_records
            )?;
        }
        self.write_lost(f)?;
        if self.forgotten_may_return {
            writeln!(
                f,
                "forgotten ids may be duplicates again: the record of a `forget` may be lost"
            )?;
        }
        if self.manifest_rebuilt {
            writeln!(f, "manifest  written anew")?;
        }
        for name in &self.renamed_namespaces {
            writeln!(
                f,
                "namespace {name}: the original name is lost; its claims are kept under this name"
            )?;
        }
        write!(f, "old log   kept in {}", old.display())
    }
}
