//! Lookup of one id.

use crate::engine::catalog::namespaces::NsInfo;
use crate::engine::write::durability::RestsOn;
use crate::engine::{Durability, Engine};
use crate::error::Result;
use crate::expiry::Version;
use crate::id::Key;
use crate::time::Timestamp;

/// A live claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SeenVersion {
    pub(crate) first_seen: Timestamp,
    pub(crate) deadline: Timestamp,
}

impl Engine {
    /// Returns the live claim of an id, if there is one. Reads only, so it works on a full disk.
    pub(crate) fn get(
        &self,
        ns: &NsInfo,
        id: &[u8],
        durability: Durability,
    ) -> Result<Option<SeenVersion>> {
        let digest = self.settings.long_ids.digest(id);
        let key = Key::of(ns.id, id, digest.as_ref())?;
        self.health.check()?;
        let Some(known) = self.known(key)? else { return Ok(None) };
        let Version { first_seen, deadline, .. } = known.version;
        if !known.version.is_live(self.time.now()) {
            return Ok(None);
        }
        self.await_durable(durability, known.lsn.map(RestsOn::others))?;
        Ok(Some(SeenVersion { first_seen, deadline }))
    }
}
