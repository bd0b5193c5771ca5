//! The list of ids that are reserved now, to reveal a stuck worker.

use crate::engine::core::Core;
use crate::id::NsId;
use crate::limits;
use crate::shard::HeldKey;
use std::time::Duration;

/// An id that is reserved and neither confirmed nor released.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Held {
    /// The id; for a long id stored as its hash, the hash.
    pub id: Vec<u8>,
    /// The name of its namespace.
    pub namespace: String,
    /// How long it has been reserved. Steps of the wall clock do not affect it.
    pub age: Duration,
}

/// Returns the ids that have been reserved longest, of one namespace or of all, oldest first. Bounded whatever the
/// number of reservations: each shard is locked once and copies no more ids than are listed.
pub(in crate::engine) fn held(core: &Core, ns: Option<NsId>) -> Vec<Held> {
    if core.check_home().is_err() {
        return Vec::new(); // a forked child holds nothing
    }
    let mut oldest: Vec<HeldKey> = Vec::new();
    for cell in &core.shards {
        let here = cell.shard.lock().reserved.oldest(limits::HELD_LISTED_MAX, ns);
        oldest.extend(here);
        oldest.sort_unstable();
        oldest.truncate(limits::HELD_LISTED_MAX);
    }
    let now = core.settings.clock.elapsed_ms();
    let names = core.namespaces.names();
    let held = |held: HeldKey| Held {
        id: held.id,
        namespace: names.get(&held.ns.listed()).cloned().unwrap_or_default(),
        age: Duration::from_millis(now.saturating_sub(held.since_ms)),
    };
    oldest.into_iter().map(held).collect()
}
