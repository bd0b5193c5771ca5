//! Lookup of one id.

use crate::engine::catalog::namespaces::NsInfo;
use crate::engine::core::{Core, Durability, Seen};
use crate::engine::write::decide::known;
use crate::engine::write::durability::{RestsOn, await_durable};
use crate::error::Result;

/// Returns the live claim of an id, if there is one. Reads only, so it works on a full disk.
pub(in crate::engine) fn get(
    core: &Core,
    ns: &NsInfo,
    id: &[u8],
    durability: Durability,
) -> Result<Option<Seen>> {
    let mut digest = None;
    let key = core.key(ns.id(), id, &mut digest)?;
    let Some(known) = known(core, key)? else { return Ok(None) };
    let (first_seen, deadline) = (known.version.first_seen(), known.version.deadline);
    if !known.version.is_live(core.time.now()) {
        return Ok(None);
    }
    await_durable(core, durability, known.lsn.map(RestsOn::others))?;
    Ok(Some(Seen { first_seen, deadline }))
}
