//! Questions about one id.

use crate::engine::backpressure::WaitBudget;
use crate::engine::namespaces::NsInfo;
use crate::engine::{Durability, Engine};
use crate::error::Result;
use crate::expiry::Version;
use crate::id::Key;
use crate::shard::Lookup;
use crate::sync::MutexGuard;
use crate::time::Timestamp;

/// A live claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SeenVersion {
    pub(crate) first_seen: Timestamp,
    pub(crate) deadline: Timestamp,
}

impl Engine {
    /// The live claim of an id, if there is one. Reads only, so it goes on when the disk is full.
    pub(crate) fn get(
        &self,
        ns: &NsInfo,
        id: &[u8],
        durability: Durability,
    ) -> Result<Option<SeenVersion>> {
        let digest = self.settings.long_ids.digest(id);
        let key = Key::of(ns.id, id, digest.as_ref())?;
        self.health.check()?;
        let hash = self.hash(key);
        let mut wait_budget = WaitBudget::default();
        let mut shard = self.cell(hash).shard.lock();
        loop {
            match shard.lookup(key, hash, self.run_access()) {
                Lookup::Unknown => return Ok(None),
                Lookup::Damaged(run, fault) => {
                    MutexGuard::unlocked(&mut shard, || {
                        self.heal_in_time(&run, &fault, hash, &mut wait_budget)
                    })?;
                }
                Lookup::Known(known) => {
                    drop(shard);
                    let Version { first_seen, deadline, .. } = known.version;
                    if !known.version.is_live(self.time.now()) {
                        return Ok(None);
                    }
                    if let Some(lsn) = known.lsn {
                        self.await_durable(durability, lsn, false)?;
                    }
                    return Ok(Some(SeenVersion { first_seen, deadline }));
                }
            }
        }
    }
}
