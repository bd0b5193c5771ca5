//! Filter files: `filters/<run>.flt`. A filter that cannot be trusted is rebuilt from the blocks of its run (I2).

use crate::blocks::{BlockFault, BlockStore};
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::filter::{self, Filter, FilterBuilder, FilterOwner};
use crate::id::{IdHasher, Seed};
use crate::run::{RunMeta, RunReader};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

pub(in crate::engine) const DIR: &str = "filters";

pub(in crate::engine) fn path(dir: &Path, run: u64) -> PathBuf {
    dir.join(DIR).join(format!("{run:016}.flt"))
}

/// Returns whether a file name is that of a filter: a run number of at least sixteen digits and the extension.
pub(in crate::engine) fn is_ours(name: &Path) -> bool {
    let stem = name.file_stem().unwrap_or_default().to_string_lossy();
    name.extension().is_some_and(|ending| ending == "flt")
        && stem.len() >= 16
        && stem.bytes().all(|b| b.is_ascii_digit())
}

/// Saves a filter. Not synced: whatever a power cut leaves of it fails its checksum and is rebuilt.
pub(in crate::engine) fn save(
    disk: &dyn Disk,
    dir: &Path,
    owner: FilterOwner,
    filter: &Filter,
) -> Result<()> {
    let path = path(dir, owner.run);
    let failed = |doing| {
        let path = path.clone();
        move |e| Error::io(doing, &path, e)
    };
    remove(disk, dir, owner.run)?;
    let file = disk.create_new(&path).map_err(failed("create"))?;
    file.write_all_at(&filter::encode(owner, filter), 0).map_err(failed("write"))
}

pub(in crate::engine) fn remove(disk: &dyn Disk, dir: &Path, run: u64) -> Result<()> {
    let path = path(dir, run);
    match disk.remove(&path) {
        Err(e) if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Err(Error::io("remove", &path, e))
        }
        _ => Ok(()),
    }
}

/// Reads a filter; returns `None` if there is none that can be trusted.
pub(in crate::engine) fn load(disk: &dyn Disk, dir: &Path, owner: FilterOwner) -> Option<Filter> {
    let path = path(dir, owner.run);
    let bytes = disk.read(&path).ok()?;
    filter::decode(&path, owner, &bytes).ok()
}

/// Rebuilds the filter of a run from its blocks.
pub(in crate::engine) fn rebuild(
    blocks: &dyn BlockStore,
    meta: &RunMeta,
    seed: Seed,
    hasher: IdHasher,
) -> std::result::Result<Filter, BlockFault> {
    let mut filter = FilterBuilder::for_ids(meta.ids);
    let reader = RunReader::new(blocks, meta, seed, hasher);
    for bucket in 0..meta.buckets {
        reader.bucket(bucket, |entry| filter.insert(entry.hash))?;
    }
    Ok(filter.finish())
}
