//! Lookup of one id.

use crate::engine::catalog::namespaces::NsInfo;
use crate::engine::core::{Core, Durability, Seen};
use crate::engine::write::decide::known;
use crate::engine::write::durability::{RestsOn, await_durable};
use crate::error::Result;
use crate::id::Key;

/// Returns the live claim of an id, if there is one. Reads only, so it works on a full disk.
pub(in crate::engine) fn get(
    core: &Core,
    ns: &NsInfo,
    id: &[u8],
    durability: Durability,
) -> Result<Option<Seen>> {
    let digest = core.settings.long_ids.digest(id);
    let key = Key::of(ns.id, id, digest.as_ref())?;
    core.health.check()?;
    let Some(known) = known(core, key)? else { return Ok(None) };
    let (first_seen, deadline) = (known.version.first_seen(), known.version.deadline);
    if !known.version.is_live(core.time.now()) {
        return Ok(None);
    }
    await_durable(core, durability, known.lsn.map(RestsOn::others))?;
    Ok(Some(Seen { first_seen, deadline }))
}
