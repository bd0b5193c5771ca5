//! Contains the panics of a block store: a panicking call just fails, and a panic while the store is dropped goes no
//! further, whatever the thread and whoever drops it last.

use crate::blocks::{BlockId, BlockResult, BlockStore, guard};
use std::fmt;

pub(crate) struct Guarded {
    /// `None` only during drop.
    inner: Option<Box<dyn BlockStore>>,
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded").finish_non_exhaustive()
    }
}

impl Guarded {
    pub(crate) fn new(inner: impl BlockStore + 'static) -> Self {
        Self { inner: Some(Box::new(inner)) }
    }

    fn run<T>(
        &self,
        doing: &str,
        call: impl FnOnce(&(dyn BlockStore + 'static)) -> BlockResult<T>,
    ) -> BlockResult<T> {
        let gone = || crate::blocks::BlockFault::new(format!("{doing}: the block store is closed"));
        guard(doing, || call(&**self.inner.as_ref().ok_or_else(gone)?))
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let inner = self.inner.take();
        let dropped = guard("drop", || {
            drop(inner);
            Ok(())
        });
        if let Err(fault) = dropped {
            tracing::warn!(%fault, "the block store did not end in order");
        }
    }
}

impl BlockStore for Guarded {
    fn get(&self, id: BlockId, read: &mut dyn FnMut(&[u8])) -> BlockResult<bool> {
        self.run("get", |blocks| blocks.get(id, read))
    }

    fn put(&self, id: BlockId, bytes: &[u8]) -> BlockResult<()> {
        self.run("put", |blocks| blocks.put(id, bytes))
    }

    fn put_in_time(&self, id: BlockId, bytes: Vec<u8>) -> BlockResult<()> {
        self.run("put", |blocks| blocks.put_in_time(id, bytes))
    }

    fn remove_run(&self, run: u64) -> BlockResult<()> {
        self.run("remove", |blocks| blocks.remove_run(run))
    }

    fn remove_from(&self, run: u64) -> BlockResult<()> {
        self.run("remove", |blocks| blocks.remove_from(run))
    }

    fn mark(&self) -> BlockResult<Option<u64>> {
        self.run("read the mark", BlockStore::mark)
    }

    fn set_mark(&self, mark: u64) -> BlockResult<()> {
        self.run("set the mark", |blocks| blocks.set_mark(mark))
    }

    fn sync(&self) -> BlockResult<()> {
        self.run("sync", BlockStore::sync)
    }

    fn reopen(&self) -> BlockResult<()> {
        self.run("reopen", BlockStore::reopen)
    }

    fn reset(&self) -> BlockResult<()> {
        self.run("reset", BlockStore::reset)
    }

    fn bytes(&self) -> u64 {
        self.run("size", |blocks| Ok(blocks.bytes())).unwrap_or(0)
    }

    fn close(&self) {
        let closed = self.run("close", |blocks| {
            blocks.close();
            Ok(())
        });
        if let Err(fault) = closed {
            tracing::warn!(%fault, "the block store did not close in order");
        }
    }
}
