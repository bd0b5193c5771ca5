//! In-memory blocks, for stores on a simulated disk.
//!
//! A store creates its own, gone with the process, unless a test passes one that outlives it, to be kept, partly lost,
//! or restored to an earlier state.

use crate::blocks::{BlockFault, BlockId, BlockResult, BlockStore};
use crate::sync::{Arc, Mutex};
use std::collections::BTreeMap;
use std::fmt;

/// For tests: stands in for the sled folder of a simulated store. Clones are the same folder.
#[derive(Clone, Default)]
pub struct MemoryBlocks {
    inner: Arc<Mutex<Inner>>,
}

impl fmt::Debug for MemoryBlocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBlocks").finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Default)]
struct Inner {
    blocks: BTreeMap<BlockId, Vec<u8>>,
    mark: Option<u64>,
    is_full: bool,
    is_forgetful: bool,
    panics_in: Option<&'static str>,
}

/// The folder, opened by a store. Dropping it is an event of its own, as with sled.
#[derive(Debug)]
pub(crate) struct OpenedMemory(MemoryBlocks);

impl Drop for OpenedMemory {
    fn drop(&mut self) {
        drop(self.0.enter("drop"));
    }
}

impl MemoryBlocks {
    pub(crate) fn opened(&self) -> OpenedMemory {
        OpenedMemory(self.clone())
    }

    fn enter(&self, method: &str) -> crate::sync::MutexGuard<'_, Inner> {
        let inner = self.inner.lock();
        if inner.panics_in.is_some_and(|named| named == method || named == "*") {
            drop(inner);
            panic!("planted: the block store panics in {method}");
        }
        inner
    }

    /// Removes everything.
    pub fn clear(&self) {
        *self.inner.lock() = Inner::default();
    }
}

/// What a test does to the folder.
#[cfg(feature = "testing")]
impl MemoryBlocks {
    /// Returns an independent copy, to be [put back](Self::put_back) later.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self { inner: Arc::new(Mutex::new(self.inner.lock().clone())) }
    }

    /// Replaces the contents with those of a copy.
    pub fn put_back(&self, copy: &Self) {
        let copied = copy.inner.lock().clone();
        *self.inner.lock() = copied;
    }

    /// Returns the number of blocks.
    pub fn count(&self) -> usize {
        self.inner.lock().blocks.len()
    }

    /// Refuses new blocks from now on, like sled on a full disk, or accepts them again.
    pub fn set_full(&self, is_full: bool) {
        self.inner.lock().is_full = is_full;
    }

    /// Reports success for later writes without keeping them, or keeps them again.
    pub fn set_forgetful(&self, is_forgetful: bool) {
        self.inner.lock().is_forgetful = is_forgetful;
    }

    /// Panics in the named block store method from now on, or no longer.
    ///
    /// `drop` counts as a method and `*` means all of them. sled panics like this on errors it does not expect.
    pub fn set_panics_in(&self, method: Option<&'static str>) {
        self.inner.lock().panics_in = method;
    }

    /// Calls `change` for every block, which may damage it; a block is lost if it returns `false`.
    pub fn damage(&self, mut change: impl FnMut(&mut Vec<u8>) -> bool) {
        self.inner.lock().blocks.retain(|_, bytes| change(bytes));
    }
}

impl BlockStore for MemoryBlocks {
    fn get(&self, id: BlockId, read: &mut dyn FnMut(&[u8])) -> BlockResult<bool> {
        let inner = self.enter("get");
        let found = inner.blocks.get(&id);
        found.into_iter().for_each(|bytes| read(bytes));
        Ok(found.is_some())
    }

    fn put(&self, id: BlockId, bytes: &[u8]) -> BlockResult<()> {
        let mut inner = self.enter("put");
        if inner.is_full {
            return Err(BlockFault::no_room());
        }
        if !inner.is_forgetful {
            inner.blocks.insert(id, bytes.to_vec());
        }
        Ok(())
    }

    fn remove_run(&self, run: u64) -> BlockResult<()> {
        self.enter("remove_run").blocks.retain(|id, _| id.run != run);
        Ok(())
    }

    fn remove_from(&self, run: u64) -> BlockResult<()> {
        self.enter("remove_from").blocks.retain(|id, _| id.run < run);
        Ok(())
    }

    fn mark(&self) -> BlockResult<Option<u64>> {
        Ok(self.enter("mark").mark)
    }

    fn set_mark(&self, mark: u64) -> BlockResult<()> {
        self.enter("set_mark").mark = Some(mark);
        Ok(())
    }

    fn sync(&self) -> BlockResult<()> {
        drop(self.enter("sync"));
        Ok(())
    }

    fn reopen(&self) -> BlockResult<()> {
        drop(self.enter("reopen"));
        Ok(())
    }

    fn reset(&self) -> BlockResult<()> {
        drop(self.enter("reset"));
        self.clear();
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.enter("bytes").blocks.values().map(|bytes| bytes.len() as u64).sum()
    }

    fn close(&self) {
        drop(self.enter("close"));
    }
}

impl BlockStore for OpenedMemory {
    fn get(&self, id: BlockId, read: &mut dyn FnMut(&[u8])) -> BlockResult<bool> {
        self.0.get(id, read)
    }

    fn put(&self, id: BlockId, bytes: &[u8]) -> BlockResult<()> {
        self.0.put(id, bytes)
    }

    fn remove_run(&self, run: u64) -> BlockResult<()> {
        self.0.remove_run(run)
    }

    fn remove_from(&self, run: u64) -> BlockResult<()> {
        self.0.remove_from(run)
    }

    fn mark(&self) -> BlockResult<Option<u64>> {
        self.0.mark()
    }

    fn set_mark(&self, mark: u64) -> BlockResult<()> {
        self.0.set_mark(mark)
    }

    fn sync(&self) -> BlockResult<()> {
        self.0.sync()
    }

    fn reopen(&self) -> BlockResult<()> {
        self.0.reopen()
    }

    fn reset(&self) -> BlockResult<()> {
        self.0.reset()
    }

    fn bytes(&self) -> u64 {
        self.0.bytes()
    }

    fn close(&self) {
        self.0.close();
    }
}
