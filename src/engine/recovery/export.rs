//! Export: live claims, one by one, with their times.

use crate::blocks::BlockFault;
use crate::engine::core::Core;
use crate::error::{Error, Result};
use crate::expiry::Version;
use crate::id::{Family, Key, NsId};
use crate::memtable::Memtable;
use crate::run::{MergeCursor, Merged, Source};
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// A live claim as exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportEntry<'a> {
    /// Name of the namespace.
    pub namespace: &'a str,
    /// The id, byte for byte.
    pub id: &'a [u8],
    /// Whether the id exceeded the length limit, so that `id` is its BLAKE3 hash.
    pub is_hash: bool,
    /// When it was claimed.
    pub first_seen: Timestamp,
    /// When the claim ends; [`Timestamp::NEVER`] if it does not.
    pub deadline: Timestamp,
}

/// Why an export ended before the last claim.
enum Ended<B> {
    ByVisitor(B),
    Failed(Error),
}

impl<B> From<BlockFault> for Ended<B> {
    fn from(fault: BlockFault) -> Self {
        Self::Failed(fault.into())
    }
}

/// Passes every live claim to `visit`, in no meaningful order, and returns how many, or with what `visit` ended it. What
/// is in replay scopes is left out. No lock is held while `visit` runs (I9); claims made meanwhile may or may not be seen.
pub(in crate::engine) fn export<B>(
    core: &Core,
    mut visit: impl FnMut(ExportEntry<'_>) -> ControlFlow<B>,
) -> Result<ControlFlow<B, u64>> {
    let mut exported = 0;
    let listed = core.namespaces.listed();
    let names: BTreeMap<NsId, &str> =
        listed.iter().map(|info| (info.id(), info.name.as_str())).collect();
    let visited = visit_claims(core, |key, version| {
        let Some(namespace) = names.get(&key.ns.listed()) else {
            return ControlFlow::Continue(());
        };
        exported += 1;
        let (first_seen, deadline) = (version.first_seen(), version.deadline);
        let (id, is_hash) = (key.id, key.ns.is_hashed());
        visit(ExportEntry { namespace, id, is_hash, first_seen, deadline })
    })?;
    Ok(match visited {
        ControlFlow::Continue(()) => ControlFlow::Continue(exported),
        ControlFlow::Break(with) => ControlFlow::Break(with),
    })
}

/// Passes every live claim to `visit`, as [`export`] does, those in replay scopes included and those under numbers that are
/// gone.
pub(in crate::engine) fn visit_claims<B>(
    core: &Core,
    mut visit: impl FnMut(Key<'_>, Version) -> ControlFlow<B>,
) -> Result<ControlFlow<B>> {
    core.health.check()?;
    let claims = |set: &Memtable| Source::memtable(set, core.hasher, Family::CLAIMS);
    for cell in &core.shards {
        let (runs, mut sources) = {
            let shard = cell.shard.lock();
            let mut sources = vec![claims(&shard.memtable)];
            if let Some(frozen) = &shard.frozen {
                sources.push(claims(&frozen.set));
            }
            (shard.runs.clone(), sources)
        };
        for run in &runs {
            core.heal(&run.meta, "export reads everything", None)?;
        }
        sources.extend(runs.iter().map(|run| core.source(run)));
        let now = core.time.now();
        let visited = MergeCursor::new(sources).for_each(|Merged { key, version, .. }| {
            if !version.is_live(now) {
                return Ok(());
            }
            match visit(key, version) {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(with) => Err(Ended::ByVisitor(with)),
            }
        });
        match visited {
            Ok(()) => {}
            Err(Ended::ByVisitor(with)) => return Ok(ControlFlow::Break(with)),
            Err(Ended::Failed(error)) => return Err(error),
        }
    }
    Ok(ControlFlow::Continue(()))
}
