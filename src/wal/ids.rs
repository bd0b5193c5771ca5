//! Ids as they stand in the log: whether the bytes before a location are those of an id.
//!
//! Every record that holds an id holds it as it came, so an id can be compared byte for byte where it is stored first
//! (I3), and needs no second copy to be recognised. (The idea is that of Bitcask's hint files, Sheehy and Smith, 2010:
//! keep where a key stands, not the key.)

use crate::disk::{Disk, Handles};
use crate::sync::Arc;
use crate::wal::Lsn;
use crate::wal::segment::Segment;
use std::path::PathBuf;

/// Reads ids where they stand.
#[derive(Debug)]
pub(crate) struct IdsInLog {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segments: Handles,
}

/// Ids up to this length are read without asking for memory.
const SHORT: usize = 64;

impl IdsInLog {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: PathBuf) -> Self {
        Self { disk, dir, segments: Handles::default() }
    }

    /// Whether the bytes before `location` are `id`; `None` if they cannot be read, as when compaction has removed the
    /// segment.
    pub(crate) fn stands_before(&self, location: Lsn, id: &[u8]) -> Option<bool> {
        let mut short = [0; SHORT];
        let mut long = Vec::new();
        let found = match short.get_mut(..id.len()) {
            Some(short) => short,
            None => {
                long.resize(id.len(), 0);
                &mut long[..]
            }
        };
        let number = location.segment();
        let at = u64::from(location.offset()).checked_sub(id.len() as u64)?;
        let path = || Segment::path(&self.dir, number);
        let read = self.segments.read_exact_at(&*self.disk, u64::from(number), path, found, at);
        read.ok()?;
        Some(found == id)
    }

    /// Lets go of a segment whose file was removed.
    pub(crate) fn forget(&self, number: u32) {
        self.segments.forget(u64::from(number));
    }
}
