//! The simulated disk itself: its files, what is planned for it, and what a crash leaves.

use super::loss::Loss;
use super::tree::{ROOT, Tree, Way};
use crate::sync::{Arc, Mutex};
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// An in-memory disk that behaves as badly as a disk may. Clones are the same disk.
#[derive(Clone, Default)]
pub struct SimDisk {
    pub(super) state: Arc<Mutex<State>>,
    /// The folder that paths lead into, and the path naming it; the root if `None`.
    pub(super) held: Option<(u64, PathBuf)>,
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").finish_non_exhaustive()
    }
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
pub(super) struct State {
    pub(super) tree: Tree,
    pub(super) dead: bool,
    /// How often the power was cut before.
    pub(super) boots: u64,
    pub(super) ops: u64,
    pub(super) faults: Vec<Planned>,
    pub(super) capacity: Option<u64>,
    pub(super) mapping: bool,
    pub(super) name_order: bool,
    pub(super) read_only: bool,
    pub(super) trace: Option<Vec<Step>>,
    pub(super) locked: BTreeSet<u64>,
    pub(super) after_sync: Option<Call>,
    pub(super) after_failed_sync: Option<Call>,
    pub(super) before_fill: Option<Call>,
}

/// The callback of [`SimDisk::after_next_sync`] and the like.
pub(super) struct Call(pub(super) Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Call")
    }
}

#[derive(Debug)]
pub(super) struct Planned {
    at: u64,
    fault: Fault,
    sticky: bool,
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
    pub(super) fn way<'a>(&self, path: &'a Path) -> io::Result<Way<'a>> {
        let Some((from, held)) = &self.held else { return Ok(Way { from: ROOT, path }) };
        match path.strip_prefix(held) {
            Ok(path) => Ok(Way { from: *from, path }),
            Err(_) => Err(io::ErrorKind::InvalidInput.into()),
        }
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
    pub(super) fn begin(
        &mut self,
        changes: bool,
        what: impl FnOnce() -> String,
    ) -> io::Result<Option<Fault>> {
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
    pub(super) fn check(&mut self, changes: bool, what: impl FnOnce() -> String) -> io::Result<()> {
        self.begin(changes, what)?.map_or(Ok(()), |fault| Err(fault.into()))
    }

    pub(super) fn remove_all(&mut self, way: Way<'_>) -> io::Result<()> {
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

pub(super) fn dead() -> io::Error {
    io::Error::other("the process on this simulated disk is dead")
}
