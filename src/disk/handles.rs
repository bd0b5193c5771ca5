//! Files that are open for reading, a bounded number of them: an embedded library must not take all the file
//! descriptors that its host may have.

use crate::disk::{Disk, DiskFile};
use crate::sync::{Arc, RwLock};
use std::collections::HashMap;
use std::io;
use std::path::Path;

/// Open files, at most.
const OPEN_MAX: usize = 256;

/// Files by a number that the caller gives them, and that never stands for another file.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    /// `None`: there is no such file, and there never will be again.
    open: RwLock<HashMap<u64, Option<Arc<dyn DiskFile>>>>,
}

impl Handles {
    /// Fills `buf` from a file, which is opened if it is not open yet.
    pub(crate) fn read_exact_at(
        &self,
        disk: &dyn Disk,
        number: u64,
        path: impl FnOnce() -> std::path::PathBuf,
        buf: &mut [u8],
        offset: u64,
    ) -> io::Result<()> {
        let known = self.open.read().get(&number).cloned();
        let file = match known {
            Some(file) => file,
            None => self.open(disk, number, &path())?,
        };
        let file = file.ok_or(io::ErrorKind::NotFound)?;
        file.read_exact_at(buf, offset)
    }

    fn open(
        &self,
        disk: &dyn Disk,
        number: u64,
        path: &Path,
    ) -> io::Result<Option<Arc<dyn DiskFile>>> {
        // Opened under the lock: `forget` comes after the file is gone, so none that is gone stays open here.
        let mut open = self.open.write();
        let file = match disk.open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            other => Some(other?),
        };
        if open.len() >= OPEN_MAX {
            // Any of them: which one is asked for next nobody knows.
            let some = open.keys().next().copied();
            some.map(|number| open.remove(&number));
        }
        open.insert(number, file.clone());
        Ok(file)
    }

    /// Lets go of a file that was removed: as long as it is open, its room is not free.
    pub(crate) fn forget(&self, number: u64) {
        self.open.write().remove(&number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;
    use std::path::PathBuf;

    fn path(number: u64) -> PathBuf {
        PathBuf::from(format!("/files/{number}"))
    }

    #[test]
    fn files_are_read_and_few_of_them_stay_open() {
        let disk = SimDisk::new();
        disk.create_dir_all(Path::new("/files")).expect("makes a folder");
        let handles = Handles::default();
        let count = OPEN_MAX as u64 * 2;
        for number in 0..count {
            let file = disk.create_new(&path(number)).expect("creates");
            file.write_all_at(&number.to_le_bytes(), 3).expect("writes");
        }
        for number in (0..count).chain(0..count) {
            let mut bytes = [0; 8];
            let read = handles.read_exact_at(&disk, number, || path(number), &mut bytes, 3);
            read.expect("reads");
            assert_eq!(u64::from_le_bytes(bytes), number);
            assert!(handles.open.read().len() <= OPEN_MAX);
        }
    }

    #[test]
    fn a_file_that_is_gone_is_not_held_open() {
        let disk = SimDisk::new();
        disk.create_dir_all(Path::new("/files")).expect("makes a folder");
        disk.create_new(&path(1)).expect("creates").write_all_at(&[7], 0).expect("writes");
        let handles = Handles::default();
        let read = || handles.read_exact_at(&disk, 1, || path(1), &mut [0], 0);
        read().expect("reads");
        disk.remove(&path(1)).expect("removes");
        handles.forget(1);
        assert!(handles.open.read().is_empty());
        assert_eq!(read().map_err(|e| e.kind()), Err(io::ErrorKind::NotFound));
        assert_eq!(read().map_err(|e| e.kind()), Err(io::ErrorKind::NotFound), "known by now");
    }
}
