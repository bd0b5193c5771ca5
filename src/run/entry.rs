//! An entry of a run or a memtable, as it is read in hash order.

use crate::blocks::BlockFault;
use crate::expiry::Version;
use crate::id::{IdHash, Key};
use crate::wal::{ItemAt, Lsn};

/// Entries that a run can be made of: each id once, in hash order, with the record that counts.
pub(crate) trait MergedEntries {
    /// Visits each entry.
    fn for_each<E: From<BlockFault>>(
        self,
        visit: impl FnMut(Merged<'_>) -> Result<(), E>,
    ) -> Result<(), E>;
}

/// An entry as passed to the visitor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Merged<'a> {
    pub(crate) hash: IdHash,
    pub(crate) key: Key<'a>,
    pub(crate) version: Version,
    /// The location just past the id, or past the item of a row, in the log, if known.
    pub(crate) location: Option<Lsn>,
    /// Size of a row's item in the log; zero for a claim.
    pub(crate) item_len: u32,
}

impl Merged<'_> {
    /// Returns where the item of a row is; `None` for a claim.
    pub(crate) fn item(&self) -> Option<ItemAt> {
        let at = |end| ItemAt { end, len: self.item_len };
        self.location.filter(|_| self.key.ns.is_row()).map(at)
    }

    /// Returns which of two versions of one key counts. Of two copies of a row the later one stays longest in the log.
    pub(super) fn join(self, other: Merged<'_>) -> Self {
        let version = self.version.join(other.version);
        if self.key.ns.is_row() {
            let (own, others) = (self.version == version, other.version == version);
            let is_other = others && (!own || other.location > self.location);
            let (location, item_len) = if is_other {
                (other.location, other.item_len)
            } else {
                (self.location, self.item_len)
            };
            return Self { version, location, item_len, ..self };
        }
        // Any of them is a location of this id; the last one stays longest.
        Self { version, location: self.location.max(other.location), ..self }
    }
}
