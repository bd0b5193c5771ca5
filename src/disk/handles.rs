//! A bounded number of files open for reading: an embedded library must not use up the file descriptors that its host,
//! or its own writes, need.

use crate::disk::{Disk, DiskFile};
use crate::sync::{Arc, RwLock};
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::LazyLock;

/// Maximum open files: an eighth of the process limit, or of 256, the lowest usual limit, if that cannot be read.
static OPEN_MAX: LazyLock<usize> = LazyLock::new(|| {
    // Miri has no files.
    let limits = if cfg!(miri) { None } else { std::fs::read_to_string("/proc/self/limits").ok() };
    (descriptors_in(&limits.unwrap_or_default()).unwrap_or(256) / 8).clamp(4, 512)
});

/// Maximum numbers of missing files remembered.
const GONE_MAX: usize = 4096;

/// Parses the soft limit on open files from the Linux format.
fn descriptors_in(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(usize::MAX),
        number => number.parse().ok(),
    }
}

/// Files by a number chosen by the caller, never reused for another file.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    files: RwLock<Files>,
}

#[derive(Debug, Default)]
struct Files {
    open: HashMap<u64, Arc<dyn DiskFile>>,
    /// No such file exists, nor ever will again.
    gone: HashSet<u64>,
}

impl Handles {
    /// Fills `buf` from a file, opening it if necessary.
    pub(crate) fn read_exact_at(
        &self,
        disk: &dyn Disk,
        number: u64,
        path: impl FnOnce() -> std::path::PathBuf,
        buf: &mut [u8],
        offset: u64,
    ) -> io::Result<()> {
        let known = {
            let files = self.files.read();
            let known = files.open.get(&number).cloned();
            if known.is_none() && files.gone.contains(&number) {
                return Err(io::ErrorKind::NotFound.into());
            }
            known
        };
        let file = known.map_or_else(|| self.open(disk, number, &path()), Ok)?;
        file.read_exact_at(buf, offset)
    }

    fn open(&self, disk: &dyn Disk, number: u64, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        // Open under the lock: `forget` comes after the removal, so no removed file stays open here.
        let mut files = self.files.write();
        let opened = disk.open(path);
        match &opened {
            Ok(file) => {
                if files.open.len() >= *OPEN_MAX {
                    // Evict any: which one is needed next is unknown.
                    let some = files.open.keys().next().copied();
                    some.map(|number| files.open.remove(&number));
                }
                files.open.insert(number, Arc::clone(file));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                if files.gone.len() >= GONE_MAX {
                    files.gone.clear();
                }
                files.gone.insert(number);
            }
            // Perhaps too many are open; writers need descriptors more than this cache does.
            Err(_) => files.open.clear(),
        }
        opened
    }

    /// Closes a removed file: its space is not freed while it is open.
    pub(crate) fn forget(&self, number: u64) {
        self.files.write().open.remove(&number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::{Fault, SimDisk};
    use std::path::PathBuf;

    fn path(number: u64) -> PathBuf {
        PathBuf::from(format!("/files/{number}"))
    }

    #[test]
    fn the_bound_follows_the_limit_of_the_process() {
        let limits = "Limit     Soft Limit   Hard Limit   Units\nMax processes   10   10   processes\n\
                      Max open files            1024                 524288               files\n";
        assert_eq!(descriptors_in(limits), Some(1024));
        assert_eq!(descriptors_in("Max open files  unlimited unlimited files"), Some(usize::MAX));
        assert_eq!(descriptors_in(""), None);
        assert!((4..=512).contains(&*OPEN_MAX));
    }

    #[test]
    fn files_are_read_and_few_of_them_stay_open() {
        let disk = SimDisk::new();
        disk.create_dir_all(Path::new("/files")).expect("makes a folder");
        let handles = Handles::default();
        let count = *OPEN_MAX as u64 * 2;
        for number in 0..count {
            let file = disk.create_new(&path(number)).expect("creates");
            file.write_all_at(&number.to_le_bytes(), 3).expect("writes");
        }
        for number in (0..count).chain(0..count) {
            let mut bytes = [0; 8];
            let read = handles.read_exact_at(&disk, number, || path(number), &mut bytes, 3);
            read.expect("reads");
            assert_eq!(u64::from_le_bytes(bytes), number);
            assert!(handles.files.read().open.len() <= *OPEN_MAX);
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
        assert!(handles.files.read().open.is_empty());
        assert_eq!(read().map_err(|e| e.kind()), Err(io::ErrorKind::NotFound));
        let before = disk.ops();
        assert_eq!(read().map_err(|e| e.kind()), Err(io::ErrorKind::NotFound), "known by now");
        assert_eq!(disk.ops(), before);
    }

    #[test]
    fn where_no_file_can_be_opened_those_that_are_open_are_given_back() {
        let disk = SimDisk::new();
        disk.create_dir_all(Path::new("/files")).expect("makes a folder");
        let handles = Handles::default();
        let read = |number| handles.read_exact_at(&disk, number, || path(number), &mut [0], 0);
        for number in 0..4 {
            disk.create_new(&path(number)).expect("creates").write_all_at(&[7], 0).expect("writes");
        }
        (0..3).for_each(|number| read(number).expect("reads"));
        disk.fail_at(disk.ops(), Fault::Error(io::ErrorKind::Other), false);
        read(3).expect_err("too many files are open");
        assert!(handles.files.read().open.is_empty());
        (0..4).for_each(|number| read(number).expect("reads again"));
    }
}
