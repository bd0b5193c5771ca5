//! What a record must know of the active segment to be encoded.

use crate::sync::{AtomicU64, Ordering};
use crate::time::Timestamp;
use crate::wal::record::RecordFormat;
use crate::wal::segment::Header;

/// Number and format of the active segment, for who encodes a record before the lock of the tail. By then it may be another
/// one: the number tells.
#[derive(Debug)]
pub(super) struct ActiveFormat {
    /// The number, and in the low 16 bits the version.
    segment: AtomicU64,
    base: AtomicU64,
}

impl ActiveFormat {
    pub(super) fn of(header: &Header) -> Self {
        let new = Self { segment: AtomicU64::new(0), base: AtomicU64::new(0) };
        new.set(header);
        new
    }

    /// Under the lock of the tail, with its active segment.
    pub(super) fn set(&self, header: &Header) {
        self.base.store(header.base.as_millis(), Ordering::Relaxed);
        let segment = u64::from(header.number) << 16 | u64::from(header.version);
        self.segment.store(segment, Ordering::Release);
    }

    /// Returns a number, and the format of the segment with that number, unless that is not the active one any more.
    #[inline]
    pub(super) fn get(&self) -> (u32, RecordFormat) {
        let segment = self.segment.load(Ordering::Acquire);
        // A later base than that of the number is seen only once the lock of the tail gives the later number, and no lane has
        // an extent in the earlier segment.
        let base = Timestamp::from_millis(self.base.load(Ordering::Relaxed));
        ((segment >> 16) as u32, RecordFormat { version: segment as u16, base })
    }
}
