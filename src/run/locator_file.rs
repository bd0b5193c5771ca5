//! Locator files: `places/<run>.plc`, the locators of a run, back to back.
//!
//! An optimization, as filters are (I2): if the file is missing or not trusted, the run is read from the block store.
//! The file is never synced; the head and each locator have their own checksum.
//!
//! ```text
//! envelope FSPL, version 1: tag of the store u64, run u64, start of each locator u32 each, end of the last u32
//! locators (`locator.rs`)
//! ```

use crate::blocks::BlockId;
use crate::codec::envelope::{self, HEAD_BYTES};
use crate::disk::{Disk, DiskFile, Handles};
use crate::error::{Error, Result};
use crate::sync::Arc;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const MAGIC: [u8; 4] = *b"FSPL";
const VERSION: u16 = 1;
/// Write buffer size in bytes.
const WRITE_BYTES: usize = 256 << 10;
/// Largest accepted locator in bytes, far more than any block needs. Reject a head that claims more rather than
/// allocate for it.
const LOCATOR_BYTES_MAX: u32 = 16 << 20;

/// The directory of locator files.
#[derive(Debug)]
pub(crate) struct LocatorFiles {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// Identifies the store, so that another store's files are rejected
    /// ([`IdHasher::tag`](crate::id::IdHasher::tag)).
    store: u64,
    files: Handles,
}

impl LocatorFiles {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: PathBuf, store: u64) -> Self {
        Self { disk, dir, store, files: Handles::default() }
    }

    pub(crate) fn path(&self, run: u64) -> PathBuf {
        self.dir.join(format!("{run:016}.plc"))
    }

    /// Creates the locator file of a run with `buckets` blocks.
    pub(crate) fn create(&self, run: u64, buckets: u32) -> Result<LocatorFileWriter> {
        self.remove(run)?;
        let path = self.path(run);
        let file = self.disk.create_new(&path).map_err(|e| Error::io("create", &path, e))?;
        let head = HEAD_BYTES + 16 + 4 * (buckets as usize + 1);
        let starts = Vec::with_capacity(buckets as usize + 1);
        let buffer = Vec::with_capacity(WRITE_BYTES);
        let (store, written) = (self.store, head as u64);
        Ok(LocatorFileWriter { file, path, store, run, starts, buffer, written, failed: None })
    }

    /// Opens the locator file of a run; returns `None` if it is missing or not trusted.
    pub(crate) fn open(&self, run: u64, buckets: u32) -> Option<LocatorFile> {
        let path = self.path(run);
        let mut head = vec![0; HEAD_BYTES + 16 + 4 * (buckets as usize + 1)];
        self.disk.open(&path).and_then(|file| file.read_exact_at(&mut head, 0)).ok()?;
        let body = envelope::open(&path, MAGIC, VERSION..=VERSION, &head).ok()?.1;
        let (owner, starts) = body.split_first_chunk::<16>()?;
        let starts = starts.chunks_exact(4).map(|start| {
            let start: [u8; 4] = start.try_into().unwrap_or_default();
            u32::from_le_bytes(start)
        });
        let starts: Box<[u32]> = starts.collect();
        let is_ours = *owner == owner_bytes(self.store, run) && starts.is_sorted();
        is_ours.then_some(LocatorFile { run, starts })
    }

    /// Reads the locator of a block into `locator`; returns `false` if it cannot.
    pub(crate) fn read(&self, file: &LocatorFile, bucket: u32, locator: &mut Vec<u8>) -> bool {
        let at = bucket as usize;
        let (Some(start), Some(end)) = (file.starts.get(at), file.starts.get(at + 1)) else {
            return false;
        };
        let bytes = end.checked_sub(*start).filter(|bytes| *bytes <= LOCATOR_BYTES_MAX);
        let Some(bytes) = bytes else { return false };
        locator.resize(bytes as usize, 0);
        let path = || self.path(file.run);
        let (disk, start) = (&*self.disk, u64::from(*start));
        self.files.read_exact_at(disk, file.run, path, locator, start).is_ok()
    }

    /// Removes the file of a run, if there is one.
    pub(crate) fn remove(&self, run: u64) -> Result<()> {
        let path = self.path(run);
        let removed = self.disk.remove(&path);
        self.files.forget(run);
        match removed {
            Err(e) if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                Err(Error::io("remove", &path, e))
            }
            _ => Ok(()),
        }
    }

    /// Returns whether this is the name of a locator file: a run number of sixteen digits or more, and the extension.
    pub(crate) fn is_ours(name: &Path) -> bool {
        let stem = name.file_stem().unwrap_or_default().to_string_lossy();
        name.extension().is_some_and(|ending| ending == "plc")
            && stem.len() >= 16
            && stem.bytes().all(|b| b.is_ascii_digit())
    }

    /// Removes all locator files except those for which `keep` returns true.
    pub(crate) fn retain(&self, keep: impl Fn(&Path) -> bool) {
        for name in self.disk.list(&self.dir).unwrap_or_default() {
            let path = self.dir.join(&name);
            if Self::is_ours(&name) && !keep(&path) {
                self.disk.remove(&path).ok();
            }
        }
    }
}

fn owner_bytes(store: u64, run: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&store.to_le_bytes());
    bytes[8..].copy_from_slice(&run.to_le_bytes());
    bytes
}

/// The offsets of a run's locators within its file.
#[derive(Debug)]
pub(crate) struct LocatorFile {
    run: u64,
    starts: Box<[u32]>,
}

impl LocatorFile {
    /// Returns the memory used, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.starts)
    }
}

/// Writes the locator file of a run. An error is reported only at the end: the run is complete without this file.
#[derive(Debug)]
pub(crate) struct LocatorFileWriter {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    store: u64,
    run: u64,
    starts: Vec<u32>,
    buffer: Vec<u8>,
    written: u64,
    failed: Option<Error>,
}

impl LocatorFileWriter {
    /// Appends the locator of the next block.
    pub(super) fn put(&mut self, id: BlockId, locator: &[u8]) {
        debug_assert_eq!((id.run, id.bucket as usize), (self.run, self.starts.len()), "in order");
        self.note_start();
        self.buffer.extend_from_slice(locator);
        if self.buffer.len() >= WRITE_BYTES {
            self.write();
        }
    }

    /// Returns how many bytes of locators there are so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    fn note_start(&mut self) {
        match u32::try_from(self.written + self.buffer.len() as u64) {
            Ok(start) => self.starts.push(start),
            Err(_) => self.failed = Some(Error::bug("a locator file would exceed 4 GiB")),
        }
    }

    fn write(&mut self) {
        if self.failed.is_none() {
            let written = self.file.write_all_at(&self.buffer, self.written);
            self.failed = written.map_err(|e| Error::io("write", &self.path, e)).err();
        }
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
    }

    /// Writes the rest, then the head: a file without a valid head is not trusted.
    pub(crate) fn finish(mut self) -> Result<LocatorFile> {
        self.note_start();
        self.write();
        if let Some(error) = self.failed {
            return Err(error);
        }
        let mut body = owner_bytes(self.store, self.run).to_vec();
        self.starts.iter().for_each(|start| body.extend_from_slice(&start.to_le_bytes()));
        let head = envelope::frame(MAGIC, VERSION, &body);
        self.file.write_all_at(&head, 0).map_err(|e| Error::io("write", &self.path, e))?;
        Ok(LocatorFile { run: self.run, starts: self.starts.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;

    fn files(disk: &SimDisk, store: u64) -> LocatorFiles {
        LocatorFiles::new(Arc::new(disk.clone()), PathBuf::from("/places"), store)
    }

    fn written(files: &LocatorFiles, run: u64, locators: &[Vec<u8>]) -> LocatorFile {
        let mut writer = files.create(run, locators.len() as u32).expect("creates");
        for (bucket, locator) in (0..).zip(locators) {
            writer.put(BlockId { run, bucket }, locator);
        }
        writer.finish().expect("writes")
    }

    fn locators_of(files: &LocatorFiles, file: &LocatorFile) -> Vec<Vec<u8>> {
        let mut locator = Vec::new();
        let mut all = Vec::new();
        while files.read(file, all.len() as u32, &mut locator) {
            all.push(locator.clone());
        }
        all
    }

    #[test]
    fn locators_come_back_from_a_file_that_is_whole_and_ours() {
        let disk = SimDisk::new();
        disk.create_dir_all(Path::new("/places")).expect("makes a folder");
        // More than one write buffer, with one empty locator among them.
        let locators: Vec<Vec<u8>> = (0..40u8).map(|n| vec![n; usize::from(n) * 400]).collect();
        let ours = files(&disk, 7);
        let file = written(&ours, 3, &locators);
        assert_eq!(locators_of(&ours, &file), locators);
        let opened = files(&disk, 7).open(3, 40).expect("is whole");
        assert_eq!(locators_of(&files(&disk, 7), &opened), locators);
        assert!(files(&disk, 8).open(3, 40).is_none(), "another store's");
        assert!(ours.open(3, 39).is_none() && ours.open(3, 41).is_none(), "another run's");
        disk.rename(&ours.path(3), &ours.path(4)).expect("renames");
        assert!(ours.open(4, 40).is_none(), "another run's");
        assert!(ours.open(3, 40).is_none(), "there is none");
    }

    #[test]
    fn a_head_that_is_damaged_or_not_written_makes_no_file() {
        let disk = SimDisk::new();
        disk.create_dir_all(Path::new("/places")).expect("makes a folder");
        let files = files(&disk, 7);
        let mut unfinished = files.create(1, 1).expect("creates");
        unfinished.put(BlockId { run: 1, bucket: 0 }, &vec![5; 1 << 20]);
        drop(unfinished);
        assert!(files.open(1, 1).is_none());

        written(&files, 2, &[vec![5; 100], vec![6; 100]]);
        let head = HEAD_BYTES + 16 + 12;
        let file = disk.open(&files.path(2)).expect("is there");
        for at in 0..head as u64 {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).expect("reads");
            file.write_all_at(&[byte[0] ^ 8], at).expect("writes");
            assert!(files.open(2, 2).is_none(), "byte {at}");
            file.write_all_at(&byte, at).expect("writes");
        }
        assert!(files.open(2, 2).is_some());
        file.set_len(head as u64 + 150).expect("cuts");
        let cut = files.open(2, 2).expect("the head is whole");
        assert_eq!(locators_of(&files, &cut), [vec![5; 100]]);
    }

    #[test]
    fn i12_a_locator_of_gigabytes_is_not_made_room_for() {
        let disk = SimDisk::new();
        disk.create_dir_all(Path::new("/places")).expect("makes a folder");
        let files = files(&disk, 7);
        let mut body = owner_bytes(7, 1).to_vec();
        let starts = [56, 64, 64 + LOCATOR_BYTES_MAX + 1, u32::MAX];
        starts.iter().for_each(|start: &u32| body.extend_from_slice(&start.to_le_bytes()));
        let head = envelope::frame(MAGIC, VERSION, &body);
        let file = disk.create_new(&files.path(1)).expect("creates");
        file.write_all_at(&[head, vec![7; 100]].concat(), 0).expect("writes");
        let forged = files.open(1, 3).expect("its checksum is good");
        let mut locator = Vec::new();
        assert!(files.read(&forged, 0, &mut locator));
        assert!(!files.read(&forged, 1, &mut locator) && !files.read(&forged, 2, &mut locator));
        assert!(locator.capacity() < 1 << 20, "{}", locator.capacity());
    }

    #[test]
    fn files_go_with_their_runs() {
        let disk = SimDisk::new();
        disk.create_dir_all(Path::new("/places")).expect("makes a folder");
        let files = files(&disk, 7);
        (1..6).for_each(|run| _ = written(&files, run, &[vec![1]]));
        files.remove(2).expect("removes");
        files.remove(2).expect("there is none, and that is fine");
        files.retain(|path| path == files.path(4));
        let left: Vec<u64> = (0..9).filter(|run| files.open(*run, 1).is_some()).collect();
        assert_eq!(left, [4]);
        assert_eq!(disk.list(Path::new("/places")).expect("lists").len(), 1);
    }
}
