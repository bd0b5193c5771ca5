//! Segments made ahead: allocated, filled with zeros, mapped.

use crate::mapped::Mapping;
use crate::record::{Context, DATA_START, END_BYTES};
use parking_lot::RwLock;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

pub const SEGMENT: u32 = 16 << 20;
/// As `MAPPED_PART` of the log: pages behind the position are released in pieces of a sixteenth.
pub const RELEASE: u32 = SEGMENT / 16;
pub const LIMIT: u32 = SEGMENT - END_BYTES;

/// Files that are used again by each run.
pub struct Files {
    files: Vec<File>,
}

impl Files {
    pub fn make(dir: &Path, count: usize) -> io::Result<Self> {
        let zeros = vec![0; 16 << 10];
        let files = (0..count).map(|number| {
            let path = dir.join(format!("{number:010}.seg"));
            let open = File::options().read(true).write(true).create_new(true).open(path)?;
            for at in (0..u64::from(SEGMENT)).step_by(zeros.len()) {
                open.write_all_at(&zeros, at)?;
            }
            open.sync_all()?;
            Ok(open)
        });
        Ok(Self { files: files.collect::<io::Result<_>>()? })
    }

    /// Maps all of them, empty. `is_warm`: with every page in the page table, so that no append faults.
    pub fn map(&self, is_warm: bool) -> io::Result<Vec<Segment>> {
        let zeros = vec![0; 64 << 10];
        let segments = self.files.iter().enumerate().map(|(number, file)| {
            let mut first = [0; 64];
            file.read_exact_at(&mut first, DATA_START.into())?;
            if first != [0; 64] {
                for at in (0..u64::from(SEGMENT)).step_by(zeros.len()) {
                    file.write_all_at(&zeros, at)?;
                }
            }
            let mapping = Mapping::of(file, u64::from(SEGMENT))?;
            let mapping = mapping.ok_or_else(|| io::Error::other("cannot be mapped here"))?;
            if is_warm {
                for at in (0..u64::from(SEGMENT)).step_by(4096) {
                    mapping.write(&[0], at);
                }
            }
            let mapping = Arc::new(mapping);
            let guarded = RwLock::new(Some(Arc::clone(&mapping)));
            Ok(Segment { number: number as u32, context: context(number), mapping, guarded })
        });
        segments.collect()
    }

    pub fn read(&self, number: u32) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; SEGMENT as usize];
        self.files[number as usize].read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    pub fn len(&self) -> usize {
        self.files.len()
    }
}

pub fn context(number: usize) -> Context {
    let salt = (number as u32).wrapping_mul(0x85eb_ca6b) ^ 0x5bd1_e995;
    Context { salt, base: 1_700_000_000_000 }
}

pub struct Segment {
    pub number: u32,
    pub context: Context,
    /// For those who know that it stays mapped while they write.
    mapping: Arc<Mapping>,
    /// As `RealFile` of the store has it: a copy holds the read side.
    guarded: RwLock<Option<Arc<Mapping>>>,
}

impl Segment {
    /// Copies under the lock of the mapping, as the store does today.
    #[inline]
    pub fn write_guarded(&self, bytes: &[u8], offset: u32) {
        let guarded = self.guarded.read();
        let fits = guarded.as_ref().is_some_and(|mapping| mapping.write(bytes, offset.into()));
        assert!(fits, "inside the segment");
    }

    #[inline]
    pub fn write(&self, bytes: &[u8], offset: u32) {
        assert!(self.mapping.write(bytes, offset.into()), "inside the segment");
    }

    /// Lets go of written pages, as `release_pages` of the log does.
    #[cold]
    pub fn release(&self, from: u32, to: u32) {
        self.mapping.release_pages(from.max(DATA_START).into(), to.into());
    }
}
