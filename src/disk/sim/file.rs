//! Handles of the simulated disk: open files and the lock.

use super::pages::{PAGE, pieces};
use super::state::{Fault, SimDisk, State, dead};
use crate::disk::{COPIED_MAX, DiskFile, LockGuard, Mapped};
use crate::sync::{Arc, Mutex};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub(super) struct SimFile {
    pub(super) disk: SimDisk,
    pub(super) node: u64,
    pub(super) path: PathBuf,
    pub(super) mapping: Mutex<Option<Arc<SimMapping>>>,
}

/// How bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By a system call.
    Called,
    /// By a copy into the mapping, which cannot be refused.
    Copied,
    /// By one store into the mapping.
    Stored,
}

/// A mapping of a file. It ends with its last owner.
#[derive(Debug)]
pub(super) struct SimMapping {
    disk: SimDisk,
    node: u64,
    path: PathBuf,
    len: u64,
    /// Ranges that it may have released.
    released: Mutex<Vec<Range<u64>>>,
}

impl SimMapping {
    fn has(&self, bytes: &[u8], offset: u64) -> bool {
        let end = offset.checked_add(bytes.len() as u64);
        bytes.len() <= COPIED_MAX && end.is_some_and(|end| end <= self.len)
    }
}

impl Mapped for SimMapping {
    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if !self.has(bytes, offset) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let end = offset + bytes.len() as u64;
        let is_again = |gone: &Range<u64>| offset < gone.end && gone.start < end;
        if self.released.lock().iter().any(is_again) {
            return Err(io::Error::other("written again where nothing more was to be written"));
        }
        self.disk.put(self.node, &self.path, bytes, offset, Way::Copied)
    }

    fn store(&self, word: u64, offset: u64) -> io::Result<()> {
        let bytes = word.to_le_bytes();
        if !offset.is_multiple_of(8) || !self.has(&bytes, offset) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.disk.put(self.node, &self.path, &bytes, offset, Way::Stored)
    }
}

impl Drop for SimMapping {
    fn drop(&mut self) {
        if let Ok(file) = self.disk.state.lock().tree.file_mut(self.node) {
            file.mapped -= 1;
        }
    }
}

impl DiskFile for SimFile {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        state.check(false, || format!("read {} +{offset} {}", self.path.display(), buf.len()))?;
        if state.tree.file(self.node)?.cache.read(buf, offset) {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mapping = self.mapping.lock().clone();
        match mapping.filter(|mapping| mapping.has(buf, offset)) {
            Some(mapping) => mapping.write(buf, offset),
            None => self.disk.put(self.node, &self.path, buf, offset, Way::Called),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        match state.begin(true, || format!("sync {}", self.path.display()))? {
            None => {
                let file = state.tree.file_mut(self.node)?;
                file.sync();
                if file.links == 0 {
                    return Err(io::ErrorKind::NotFound.into());
                }
                let call = state.after_sync.take();
                drop(state);
                if let Some(call) = call {
                    (call.0)();
                }
                Ok(())
            }
            Some(Fault::Crash | Fault::CrashInWrite) => Err(dead()),
            Some(fault) => {
                state.tree.file_mut(self.node)?.fail_sync();
                let call = state.after_failed_sync.take();
                drop(state);
                if let Some(call) = call {
                    (call.0)();
                }
                Err(fault.into())
            }
        }
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.disk.state.lock();
        state.check(false, || format!("len {}", self.path.display()))?;
        state.tree.file(self.node).map(|file| file.cache.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        state.check(true, || format!("set_len {} {len}", self.path.display()))?;
        let file = state.tree.file_mut(self.node)?;
        // Stricter than a real disk, where another handle could do it and kill the process.
        if file.mapped > 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the length of a mapped file must not change",
            ));
        }
        file.set_len(len);
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        state.check(true, || format!("allocate {} {len}", self.path.display()))?;
        let file = state.tree.file(self.node)?;
        if state.capacity.is_some() {
            let missing = (0..len.div_ceil(PAGE)).filter(|page| !file.cache.has_room(*page));
            if missing.count() as u64 * PAGE > state.free() {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        state.tree.file_mut(self.node)?.allocate(len);
        Ok(())
    }

    fn map(&self, len: u64) -> io::Result<bool> {
        let mut state = self.disk.state.lock();
        state.check(false, || format!("map {} {len}", self.path.display()))?;
        let allowed = state.mapping;
        let file = state.tree.file_mut(self.node)?;
        if !allowed || len == 0 || !file.is_allocated(len) {
            return Ok(false);
        }
        file.mapped += 1;
        drop(state);
        let (disk, path) = (self.disk.clone(), self.path.clone());
        let mapping = SimMapping { disk, node: self.node, path, len, released: Mutex::default() };
        let former = self.mapping.lock().replace(Arc::new(mapping));
        drop(former);
        Ok(true)
    }

    fn mapped(&self) -> Option<Arc<dyn Mapped>> {
        let mapping = self.mapping.lock().clone();
        mapping.map(|mapping| mapping as Arc<dyn Mapped>)
    }

    fn release_pages(&self, from: u64, to: u64) {
        if let Some(mapping) = &*self.mapping.lock() {
            let mut released = mapping.released.lock();
            match released.last_mut() {
                Some(last) if last.end == from => last.end = to,
                _ => released.push(from..to),
            }
        }
    }

    /// Zeros over zeros change nothing, whatever becomes of them; but the call may fail, and the power may go.
    fn fill_ahead(&self, from: u64, to: u64) -> io::Result<bool> {
        let call = self.disk.state.lock().before_fill.take();
        if let Some(call) = call {
            (call.0)();
        }
        let mut state = self.disk.state.lock();
        state.check(true, || format!("fill {} {from}..{to}", self.path.display()))?;
        if !state.tree.file(self.node)?.cache.is_zero(from, to) {
            return Err(io::Error::other("filled where something was written, or behind the end"));
        }
        drop(state);
        Ok(self.mapping.lock().is_some())
    }

    fn unmap(&self) {
        // It locks the disk when it ends.
        let mapping = self.mapping.lock().take();
        drop(mapping);
    }
}

impl SimDisk {
    /// Writes to a file.
    fn put(&self, node: u64, path: &Path, buf: &[u8], offset: u64, way: Way) -> io::Result<()> {
        offset.checked_add(buf.len() as u64).ok_or(io::ErrorKind::InvalidInput)?;
        let mut state = self.state.lock();
        let fault =
            state.begin(true, || format!("write {} +{offset} {}", path.display(), buf.len()))?;
        let (mut kept, mut answer) = match fault {
            Some(Fault::Error(kind)) if way == Way::Called => (0, Err(kind.into())),
            Some(Fault::ShortWrite) if way == Way::Called => {
                (buf.len() / 2, Err(io::Error::new(io::ErrorKind::WriteZero, "a short write")))
            }
            Some(Fault::Crash) => (0, Err(dead())),
            // A word is stored by one instruction.
            Some(Fault::CrashInWrite) if way == Way::Stored => (0, Err(dead())),
            Some(Fault::CrashInWrite) => (buf.len() / 2, Err(dead())),
            _ => (buf.len(), Ok(())),
        };
        // Never fails within a mapping, which is fully allocated.
        let fitting = state.fitting(node, offset, kept)?;
        if fitting < kept {
            (kept, answer) = (fitting, Err(io::ErrorKind::StorageFull.into()));
        }
        let file = state.tree.file_mut(node)?;
        match way {
            _ if kept == 0 => {}
            Way::Stored => file.store(buf, offset),
            Way::Called | Way::Copied => file.write(&buf[..kept], offset),
        }
        answer
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.unmap();
        let mut state = self.disk.state.lock();
        if let Ok(file) = state.tree.file_mut(self.node) {
            file.open -= 1;
        }
    }
}

impl State {
    /// Returns the free bytes below the capacity.
    pub(super) fn free(&self) -> u64 {
        self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.tree.space()))
    }

    /// Returns how many of `len` bytes at `offset` fit, counted from the first.
    fn fitting(&self, node: u64, offset: u64, len: usize) -> io::Result<usize> {
        if self.capacity.is_none() {
            return Ok(len);
        }
        let file = self.tree.file(node)?;
        let mut free = self.free();
        for piece in pieces(offset, len, PAGE) {
            if !file.cache.has_room(piece.block) {
                if free < PAGE {
                    return Ok(piece.start);
                }
                free -= PAGE;
            }
        }
        Ok(len)
    }
}

/// The one-process lock of a simulated disk.
#[derive(Debug)]
pub(super) struct SimLock {
    pub(super) disk: SimDisk,
    pub(super) path: PathBuf,
    pub(super) node: u64,
}

/// Not counted as operations: tests, not faults, change what these check.
impl LockGuard for SimLock {
    fn check(&self) -> io::Result<()> {
        let there = self.disk.state.lock().tree.find(self.disk.way(&self.path)?)?;
        if there == self.node { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn touch(&self) -> io::Result<()> {
        if self.disk.state.lock().read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        Ok(())
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.state.lock().locked.remove(&self.node);
    }
}
