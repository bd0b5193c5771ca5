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
mod pages;
mod rng;
#[cfg(test)]
mod tests;
mod tree;

use self::file::{SimFile, SimLock};
use self::tree::{ROOT, Tree, Way};
use super::{BootId, Disk, DiskFile, LockGuard};
use crate::sync::{Arc, AtomicU64, Mutex};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// An in-memory disk that behaves as badly as a disk may. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    /// The folder that paths lead into, and the path naming it; the root if `None`.
    held: Option<(u64, PathBuf)>,
}

/// What goes wrong at an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The operation does nothing and fails with this kind. A failed `sync_data` loses its writes.
    Error(io::ErrorKind),
    /// Half of the bytes are written before the error. Operations that write none just fail.
    ShortWrite,
    /// The process dies before the operation: it and all later ones fail, on any handle.
    Crash,
    /// The process dies in the middle of a write, with half of the bytes written. Otherwise as `Crash`.
    CrashInWrite,
}

/// One operation, as listed by [`SimDisk::trace`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its number, as [`SimDisk::fail_at`] takes it.
    pub number: u64,
    /// Whether it can change what a crash leaves behind. A crash at an operation that cannot is like one at the next
    /// that can.
    pub changes: bool,
    /// Human-readable description.
    pub what: String,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a test, each apart from the others")]
struct State {
    tree: Tree,
    dead: bool,
    /// How often the power was cut before.
    boots: u64,
    ops: u64,
    faults: Vec<Planned>,
    capacity: Option<u64>,
    mapping: bool,
    name_order: bool,
    read_only: bool,
    trace: Option<Vec<Step>>,
    locked: BTreeSet<u64>,
    after_sync: Option<Call>,
    after_failed_sync: Option<Call>,
    before_fill: Option<Call>,
}

/// The callback of [`SimDisk::after_next_sync`] and the like.
struct Call(Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Call")
    }
}

#[derive(Debug)]
struct Planned {
    at: u64,
    fault: Fault,
    sticky: bool,
}

/// What a power cut does to unsynced changes.
#[derive(Clone, Copy, Debug)]
enum Loss {
    All,
    Seeded(u64),
    /// As `Seeded`, with names in any order, too.
    OutOfOrder(u64),
}

impl SimDisk {
    /// Creates an empty disk: unlimited, with mappings, without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes every later `map` return `false`, as on a file system without safe mappings.
    #[must_use]
    pub fn without_mapping(self) -> Self {
        self.state.lock().mapping = false;
        self
    }

    /// Lets power cuts keep any of a folder's unsynced name changes instead of a prefix.
    ///
    /// A rename may then be on disk while an earlier one of another name is not.
    #[must_use]
    pub fn without_name_order(self) -> Self {
        self.state.lock().name_order = false;
        self
    }

    /// Counts the operations so far. The first is number 0, so this is the number of the next one.
    pub fn ops(&self) -> u64 {
        self.state.lock().ops
    }

    /// Plans a fault for operation `number`; if `sticky`, for all after it, too.
    ///
    /// Every call of `Disk` and `DiskFile` is one operation, except `unmap` and `real_path`, which cannot fail, and
    /// `create_dir_all` and `remove_dir_all`, which are one for each name they touch. Only the two crashes can hit a
    /// write inside a mapping. The fault planned first wins.
    pub fn fail_at(&self, number: u64, fault: Fault, sticky: bool) {
        self.state.lock().faults.push(Planned { at: number, fault, sticky });
    }

    /// Clears all planned faults. Their effects remain.
    pub fn clear_faults(&self) {
        self.state.lock().faults.clear();
    }

    /// Runs `call` once, after the next sync of a file has taken effect and before it returns.
    ///
    /// What `call` writes arrived while that sync was running and is not covered by it.
    pub fn after_next_sync(&self, call: impl FnOnce() + Send + 'static) {
        self.state.lock().after_sync = Some(Call(Box::new(call)));
    }

    /// Runs `call` once, after the next sync of a file has failed and before it returns.
    pub fn after_next_failed_sync(&self, call: impl FnOnce() + Send + 'static) {
        self.state.lock().after_failed_sync = Some(Call(Box::new(call)));
    }

    /// Runs `call` once, before the next [`fill_ahead`](super::DiskFile::fill_ahead) of a file does anything.
    pub fn before_next_fill(&self, call: impl FnOnce() + Send + 'static) {
        self.state.lock().before_fill = Some(Call(Box::new(call)));
    }

    /// Limits the disk: what needs more bytes, in pages of 4 KiB, fails with `StorageFull`.
    ///
    /// Allocated space counts as used and can always be written. A write that fits in part is done in part.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity = bytes;
    }

    /// Makes every later change fail with `ReadOnlyFilesystem`, except writes inside mappings.
    ///
    /// Those stay in memory, as on a file system that the kernel made read-only after an error.
    pub fn make_read_only(&self) {
        self.state.lock().read_only = true;
    }

    /// Counts the bytes that files take, in pages of 4 KiB, including allocated space.
    pub fn used(&self) -> u64 {
        self.state.lock().tree.space()
    }

    /// Starts a new trace, or ends tracing.
    pub fn set_trace(&self, on: bool) {
        self.state.lock().trace = on.then(Vec::new);
    }

    /// Returns the operations since tracing began.
    pub fn trace(&self) -> Vec<Step> {
        self.state.lock().trace.clone().unwrap_or_default()
    }

    /// Returns whether the process has died, by a fault, [`Self::kill`] or [`Self::crash`].
    pub fn is_dead(&self) -> bool {
        self.state.lock().dead
    }

    /// Cuts the power and returns the disk as the next start finds it.
    ///
    /// That is one of the states that the unsynced operations allow, chosen by the seed. This instance and its handles
    /// are dead from now on but may be crashed again: each call returns another independent disk, without faults or
    /// trace, with the same capacity and mapping.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        let ordered = self.state.lock().name_order;
        let loss = if ordered { Loss::Seeded(seed) } else { Loss::OutOfOrder(seed) };
        self.successor(|tree| tree.crash(loss), 1)
    }

    /// Cuts the power like [`Self::crash`], losing everything unsynced.
    #[must_use]
    pub fn lose_unsynced(&self) -> Self {
        self.successor(|tree| tree.crash(Loss::All), 1)
    }

    /// Ends the process like [`Self::crash`], but keeps the power.
    ///
    /// Everything written is there, and what was not synced is still not durable.
    #[must_use]
    pub fn kill(&self) -> Self {
        self.successor(Tree::kill, 0)
    }

    fn successor(&self, next: impl FnOnce(&Tree) -> Tree, boots: u64) -> Self {
        let mut state = self.state.lock();
        state.dead = true;
        let tree = next(&state.tree);
        let (capacity, mapping, name_order) = (state.capacity, state.mapping, state.name_order);
        let boots = state.boots + boots;
        let next = State { tree, boots, capacity, mapping, name_order, ..State::default() };
        Self { state: Arc::new(Mutex::new(next)), held: None }
    }

    /// Resolves where a path starts and leads.
    fn way<'a>(&self, path: &'a Path) -> io::Result<Way<'a>> {
        let Some((from, held)) = &self.held else { return Ok(Way { from: ROOT, path }) };
        match path.strip_prefix(held) {
            Ok(path) => Ok(Way { from: *from, path }),
            Err(_) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn handle(&self, state: &mut State, node: u64, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        state.tree.file_mut(node)?.open += 1;
        let (disk, path) = (self.clone(), path.to_owned());
        Ok(Arc::new(SimFile {
            disk,
            node,
            path,
            mapped: AtomicU64::new(0),
            released: Mutex::default(),
        }))
    }
}

impl Default for State {
    fn default() -> Self {
        Self {
            tree: Tree::default(),
            dead: false,
            boots: 0,
            ops: 0,
            faults: Vec::new(),
            capacity: None,
            mapping: true,
            name_order: true,
            read_only: false,
            trace: None,
            locked: BTreeSet::new(),
            after_sync: None,
            after_failed_sync: None,
            before_fill: None,
        }
    }
}

impl State {
    /// Counts an operation and returns the fault that hits it.
    fn begin(&mut self, changes: bool, what: impl FnOnce() -> String) -> io::Result<Option<Fault>> {
        if self.dead {
            return Err(dead());
        }
        let number = self.ops;
        self.ops += 1;
        if let Some(trace) = &mut self.trace {
            trace.push(Step { number, changes, what: what() });
        }
        let strikes = |plan: &&Planned| plan.at == number || (plan.sticky && plan.at < number);
        let fault = self.faults.iter().find(strikes).map(|plan| plan.fault);
        self.dead = matches!(fault, Some(Fault::Crash | Fault::CrashInWrite));
        if self.read_only && changes && fault.is_none() {
            return Ok(Some(Fault::Error(io::ErrorKind::ReadOnlyFilesystem)));
        }
        Ok(fault)
    }

    /// Counts an operation that happens whole or, hit by any fault, not at all.
    fn check(&mut self, changes: bool, what: impl FnOnce() -> String) -> io::Result<()> {
        self.begin(changes, what)?.map_or(Ok(()), |fault| Err(fault.into()))
    }

    fn remove_all(&mut self, way: Way<'_>) -> io::Result<()> {
        let Way { from, path } = way;
        if self.tree.is_folder(way)? {
            for name in self.tree.list(way)? {
                self.remove_all(Way { from, path: &path.join(name) })?;
            }
            self.check(true, || format!("remove folder {}", path.display()))?;
            self.tree.remove_folder(way)
        } else {
            self.check(true, || format!("remove {}", path.display()))?;
            self.tree.remove_file(way)
        }
    }
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Error(kind) => kind.into(),
            Fault::ShortWrite => io::Error::other("a planned fault"),
            Fault::Crash | Fault::CrashInWrite => dead(),
        }
    }
}

fn dead() -> io::Error {
    io::Error::other("the process on this simulated disk is dead")
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
