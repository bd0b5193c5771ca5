//! A simulated disk for tests: it loses, tears and reorders unsynced writes, fails the n-th call and fills up, all from
//! a seed.
//!
//! A testing tool behind the feature `testing`, with which users can crash their own programs, too; the engine does not
//! use it.
//!
//! - A write is visible at once and durable after `sync_data` of its file. A name is durable after `sync_dir` of its
//!   folder, and a folder is itself a name in its parent.
//! - [`SimDisk::kill`] ends the process and keeps everything written. [`SimDisk::crash`] cuts the power: of each file's
//!   unsynced writes it keeps none, all, a prefix, any subset, a prefix with a torn end, or lets every 512-byte sector
//!   stop at its own moment. Names keep their order within a folder, as in journals ([`SimDisk::without_name_order`]
//!   has none), but folders do not wait for one another.
//! - A failed `sync_data` has dropped its writes: a later successful one does not bring them back (as on Linux). They
//!   stay visible until the power is cut.
//! - A write inside a mapping is an unsynced write that cannot be refused, unless it is too long to be copied
//!   ([`COPIED_MAX`](super::COPIED_MAX)). A copy into a range that was released is an error.
//!
//! Relative and absolute paths start at the same root. `rename` works within a folder only: a move between folders is
//! not atomic on every disk, and the engine does not use one.
//!
//! ```
//! use firstseen::disk::{Disk, sim::SimDisk};
//! use std::path::Path;
//!
//! let disk = SimDisk::new();
//! let file = disk.create_new(Path::new("a"))?;
//! file.write_all_at(b"kept", 0)?;
//! file.sync_data()?;
//! disk.sync_dir(Path::new("/"))?;
//! file.write_all_at(b"lost", 0)?;
//! assert_eq!(disk.lose_unsynced().read(Path::new("a"))?, b"kept");
//! # Ok::<(), std::io::Error>(())
//! ```

mod file;
mod inode;
mod loss;
mod pages;
mod rng;
mod state;
#[cfg(test)]
mod tests;
mod tree;

pub use self::state::{Fault, SimDisk, Step};

use self::file::{SimFile, SimLock};
use self::state::State;
use self::tree::Way;
use super::{BootId, Disk, DiskFile, LockGuard};
use crate::sync::{Arc, Mutex};
use std::io;
use std::path::{Path, PathBuf};

impl SimDisk {
    fn handle(&self, state: &mut State, node: u64, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        state.tree.file_mut(node)?.open += 1;
        let (disk, path) = (self.clone(), path.to_owned());
        Ok(Arc::new(SimFile { disk, node, path, mapping: Mutex::default() }))
    }
}

impl Disk for SimDisk {
    fn boot_id(&self) -> BootId {
        u128::from(self.state.lock().boots + 1).to_le_bytes()
    }

    fn hold(&self, path: &Path) -> io::Result<Arc<dyn Disk>> {
        let mut state = self.state.lock();
        state.check(false, || format!("hold folder {}", path.display()))?;
        let way = self.way(path)?;
        if !state.tree.is_folder(way)? {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let held = Some((state.tree.find(way)?, path.to_owned()));
        Ok(Arc::new(Self { state: Arc::clone(&self.state), held }))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock();
        state.check(true, || format!("create {}", path.display()))?;
        let node = state.tree.create_file(self.way(path)?)?;
        self.handle(&mut state, node, path)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock();
        state.check(false, || format!("open {}", path.display()))?;
        let node = state.tree.find(self.way(path)?)?;
        self.handle(&mut state, node, path)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut state = self.state.lock();
        state.check(false, || format!("read {}", path.display()))?;
        let contents = &state.tree.file(state.tree.find(self.way(path)?)?)?.cache;
        let mut bytes = vec![0; contents.len() as usize];
        contents.read(&mut bytes, 0);
        Ok(bytes)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.check(true, || format!("rename {} to {}", from.display(), to.display()))?;
        state.tree.rename(self.way(from)?, self.way(to)?)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.check(true, || format!("remove {}", path.display()))?;
        state.tree.remove_file(self.way(path)?)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let mut state = self.state.lock();
        state.check(false, || format!("list {}", dir.display()))?;
        Ok(state.tree.list(self.way(dir)?)?.into_iter().map(PathBuf::from).collect())
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let Way { from, path } = self.way(dir)?;
        let mut above: Vec<&Path> = path.ancestors().collect();
        above.reverse();
        let mut made = false;
        for folder in above {
            let way = Way { from, path: folder };
            match state.tree.is_folder(way) {
                Ok(true) => {}
                Ok(false) => return Err(io::ErrorKind::AlreadyExists.into()),
                Err(_) => {
                    state.check(true, || format!("create folder {}", folder.display()))?;
                    state.tree.create_folder(way)?;
                    made = true;
                }
            }
        }
        if made { Ok(()) } else { state.check(false, || format!("find {}", dir.display())) }
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let way = self.way(dir)?;
        match state.tree.is_folder(way) {
            Ok(true) => state.remove_all(way),
            Ok(false) => Err(io::ErrorKind::NotADirectory.into()),
            Err(_) => state.check(false, || format!("find {}", dir.display())),
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.check(true, || format!("sync folder {}", dir.display()))?;
        state.tree.sync_folder(self.way(dir)?)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn LockGuard>> {
        let mut state = self.state.lock();
        state.check(true, || format!("lock {}", path.display()))?;
        let node = match state.tree.find(self.way(path)?) {
            Ok(node) => state.tree.file(node).map(|_| node)?,
            Err(_) => state.tree.create_file(self.way(path)?)?,
        };
        if !state.locked.insert(node) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimLock { disk: self.clone(), path: path.to_owned(), node }))
    }

    fn real_path(&self, _path: &Path) -> io::Result<Option<PathBuf>> {
        Ok(None)
    }
}
