//! Segments as a snapshot keeps them: header and records, without the space behind them and without the watermark.
//!
//! So the image of a full segment is the same whenever it is made, and that of the last one depends on its end only.

use crate::error::{Error, Result};
use crate::id::Seed;
use crate::wal::Lsn;
use crate::wal::recover::{Stop, walk};
use crate::wal::retention::{Contents, SegmentMeta};
use crate::wal::segment::{DATA_START, Header, Segment, SegmentBytes};
use crate::wal::writer::Log;
use std::path::Path;

/// The log at one moment.
#[derive(Debug)]
pub(crate) struct Cut {
    /// The full segments, oldest first.
    pub(crate) closed: Vec<SegmentMeta>,
    /// The end of the last record. Its segment comes after the full ones.
    pub(crate) end: Lsn,
}

impl Cut {
    /// Returns number and end of each segment, oldest first.
    pub(crate) fn segments(&self) -> impl Iterator<Item = (u32, u32)> {
        let closed = self.closed.iter().map(|meta| (meta.number, meta.end));
        closed.chain([(self.end.segment(), self.end.offset())])
    }
}

impl Log {
    /// Returns what the log is now. All of it has left this process.
    pub(crate) fn cut(&self) -> Result<Cut> {
        self.config.health.check()?;
        let mut tail = self.tail.lock();
        self.settle(&mut tail)?;
        Ok(Cut { closed: tail.closed().to_vec(), end: tail.end() })
    }

    /// Returns the image of a segment up to `end`, of which every record was checked. `is_full`: it ends there.
    pub(crate) fn image(&self, number: u32, end: u32, is_full: bool) -> Result<Vec<u8>> {
        let path = Segment::path(&self.config.dir, number);
        let segment = Segment::open_own(&*self.config.disk, &path, self.config.seed)?;
        let records = segment.read(DATA_START, Some(end))?;
        check_records(&path, &records, end, is_full)?;
        let mut image = segment.header.encode();
        image.resize(DATA_START as usize, 0);
        image.extend_from_slice(records.part(DATA_START, end));
        Ok(image)
    }
}

/// Checks an image: that of this segment of the store with this seed. `path` is for messages.
pub(crate) fn check_image(
    path: &Path,
    image: Vec<u8>,
    number: u32,
    seed: Seed,
    is_full: bool,
) -> Result<()> {
    let header = Header::decode(path, &image)?;
    if header.number != number {
        return Err(Segment::misnamed(path, header.number));
    }
    if header.seed != seed {
        return Err(Segment::foreign(path));
    }
    let end = image.len() as u32;
    check_records(path, &SegmentBytes::from_file(header, image), end, is_full)
}

fn check_records(path: &Path, records: &SegmentBytes, end: u32, is_full: bool) -> Result<()> {
    let (at, stop) = walk(path, records, &mut Contents::default(), &mut |_, _| Ok(()))?;
    let is_whole = at == end && matches!(stop, Stop::Continued(_)) == is_full;
    if is_whole && records.end() == end {
        Ok(())
    } else {
        Err(Error::corrupt(path, u64::from(at), "a record does not match its checksum"))
    }
}
