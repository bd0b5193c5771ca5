//! Ids in the log: whether the bytes before a location are those of an id.
//!
//! Every record stores its ids verbatim, so an id can be compared byte for byte where it was first stored (I3), without
//! a second copy. (As in Bitcask, Sheehy and Smith, 2010: keep where a key is stored, not the key.)

use crate::disk::{Disk, Handles};
use crate::sync::{Arc, RwLock};
use crate::wal::segment::{Header, Segment};
use crate::wal::version::VERSION;
use crate::wal::{ItemAt, Lsn};
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;

/// Reads ids in place.
#[derive(Debug)]
pub(crate) struct IdsInLog {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segments: Handles,
    /// The versions of segments: of those that were there at opening, and of those that rows were read from since.
    versions: RwLock<HashMap<u32, u16>>,
}

/// Ids up to this length are read without allocating.
const SHORT: usize = 64;

impl IdsInLog {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: PathBuf) -> Self {
        Self { disk, dir, segments: Handles::default(), versions: RwLock::default() }
    }

    /// Notes the versions of segments, so that no header is read for a row.
    pub(crate) fn know(&self, versions: HashMap<u32, u16>) {
        self.versions.write().extend(versions);
    }

    /// Returns whether the bytes before `location` are `id`; `None` if they cannot be read, as when compaction has
    /// removed the segment.
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

    /// Reads the item of a row, and the version of the segment that holds it. The caller decodes it, which shows whether
    /// it is whole and which row it is.
    pub(crate) fn read_item(&self, at: ItemAt) -> io::Result<(u16, Vec<u8>)> {
        let begin = u64::from(at.end.offset()).checked_sub(u64::from(at.len));
        let begin = begin.ok_or(io::ErrorKind::InvalidData)?;
        let mut item = vec![0; at.len as usize];
        let number = at.end.segment();
        let path = || Segment::path(&self.dir, number);
        self.segments.read_exact_at(&*self.disk, u64::from(number), path, &mut item, begin)?;
        Ok((self.version(number)?, item))
    }

    /// Returns the version of a segment. Its header is read once.
    fn version(&self, number: u32) -> io::Result<u16> {
        if let Some(version) = self.versions.read().get(&number) {
            return Ok(*version);
        }
        let path = Segment::path(&self.dir, number);
        let mut head = [0; Header::BYTES];
        let named = || path.clone();
        self.segments.read_exact_at(&*self.disk, u64::from(number), named, &mut head, 0)?;
        // With a damaged header, the checksum of the item decides alone.
        let Ok(header) = Header::decode(&path, &head) else { return Ok(VERSION) };
        self.versions.write().insert(number, header.version);
        Ok(header.version)
    }

    /// Closes a segment whose file was removed.
    pub(crate) fn forget(&self, number: u32) {
        self.segments.forget(u64::from(number));
        self.versions.write().remove(&number);
    }
}
