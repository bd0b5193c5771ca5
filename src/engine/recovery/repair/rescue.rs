//! What the block store still holds of a log that is gone. The block store is expendable and no answer needs it, but if
//! nothing else is left, its contents are true: each block is checked and belongs to a run that the manifest names.

use crate::blocks::{BlockStore, Guarded, SledBlocks, SledFolder};
use crate::engine::catalog::layout::SLED_DIR;
use crate::engine::catalog::manifest::ManifestBody;
use crate::engine::core::Settings;
use crate::error::Result;
use crate::expiry::Version;
use crate::id::{IdHasher, Key};
use crate::run::RunReader;
use std::path::Path;

/// The runs of a store whose log is gone.
#[derive(Debug)]
pub(super) struct Rescue<'a> {
    blocks: Box<dyn BlockStore>,
    body: &'a ManifestBody,
}

impl<'a> Rescue<'a> {
    /// Opens the block store; returns `None` if there is nothing to rescue from.
    pub(super) fn open(dir: &Path, settings: &Settings, body: &'a ManifestBody) -> Option<Self> {
        if body.runs.is_empty() {
            return None;
        }
        let sled = dir.join(SLED_DIR);
        let blocks: Box<dyn BlockStore> = match settings.disk.real_path(&sled).ok()? {
            Some(_) => {
                settings.disk.list(&sled).ok()?;
                let tag = IdHasher::new(body.seed).tag();
                let folder = SledFolder::new(&settings.disk, sled, tag, false);
                let opened = SledBlocks::open_in(folder, settings.sled_cache_bytes());
                let failed = |error| tracing::warn!(%error, "nothing can be rescued from sled");
                Box::new(Guarded::new(opened.map_err(failed).ok()?))
            }
            None => Box::new(settings.block_memory.clone()?),
        };
        Some(Self { blocks, body })
    }

    /// Passes every record in an intact block to `visit`.
    pub(super) fn for_each(
        &self,
        mut visit: impl FnMut(Key<'_>, Version) -> Result<()>,
    ) -> Result<()> {
        let (seed, hasher) = (self.body.seed, IdHasher::new(self.body.seed));
        for run in &self.body.runs {
            let reader = RunReader::new(&*self.blocks, run, seed, hasher);
            for bucket in 0..run.buckets {
                let mut visited = Ok(());
                let read = reader.bucket(bucket, |entry| {
                    // The value of a row was in the log.
                    if visited.is_ok() && !entry.key.ns.is_row() {
                        visited = visit(entry.key, entry.version);
                    }
                });
                if let Err(error) = read {
                    tracing::warn!(%error, run = run.id, bucket, "a block is lost");
                }
                visited?;
            }
        }
        Ok(())
    }
}
