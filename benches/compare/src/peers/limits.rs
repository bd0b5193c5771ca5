//! Upper bounds, which lack something that a store needs: a hash set that persists nothing, a hash set with an
//! append-only file, and a log without lookups.

use crate::store::{Session, Settings, Store};
use crate::workload::Sync;
use anyhow::{Result, bail};
use rustix::fs::{FallocateFlags, fallocate};
use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

pub fn hash_set(settings: &Settings, with_file: bool) -> Result<Box<dyn Store>> {
    Ok(match settings.id_bytes {
        8 => Box::new(Set::<8>::open(settings, with_file)?),
        16 => Box::new(Set::<16>::open(settings, with_file)?),
        36 => Box::new(Set::<36>::open(settings, with_file)?),
        200 => Box::new(Set::<200>::open(settings, with_file)?),
        other => bail!("no hash set for ids of {other} bytes"),
    })
}

struct Inner<const N: usize> {
    ids: HashSet<[u8; N]>,
    file: Option<BufWriter<File>>,
}

struct Set<const N: usize> {
    inner: Mutex<Inner<N>>,
    threads: u64,
    each: bool,
}

impl<const N: usize> Set<N> {
    fn open(settings: &Settings, with_file: bool) -> Result<Self> {
        let mut inner = Inner { ids: HashSet::new(), file: None };
        if with_file {
            // A program that persists its set this way reads the file back.
            let path = settings.dir.join("ids");
            let old = std::fs::read(&path).unwrap_or_default();
            inner.ids.extend(old.chunks_exact(N).filter_map(|id| <[u8; N]>::try_from(id).ok()));
            let file = File::options().create(true).append(true).open(&path)?;
            inner.file = Some(BufWriter::with_capacity(64 << 10, file));
        }
        let each = settings.sync == Sync::Each;
        Ok(Self { inner: Mutex::new(inner), threads: settings.threads, each })
    }

    fn lock(&self) -> MutexGuard<'_, Inner<N>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<const N: usize> Inner<N> {
    fn insert(&mut self, id: &[u8]) -> Result<bool> {
        let first = self.ids.insert(id.try_into()?);
        if first && let Some(file) = &mut self.file {
            file.write_all(id)?;
        }
        Ok(first)
    }

    fn sync(&mut self) -> Result<()> {
        if let Some(file) = &mut self.file {
            file.flush()?;
            file.get_ref().sync_data()?;
        }
        Ok(())
    }
}

impl<const N: usize> Store for Set<N> {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        // A single thread holds the lock throughout, so that locking costs nothing.
        let held = (self.threads == 1).then(|| self.lock());
        Ok(Box::new(SetHandle { set: self, held }))
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.lock().sync()
    }
}

struct SetHandle<'a, const N: usize> {
    set: &'a Set<N>,
    held: Option<MutexGuard<'a, Inner<N>>>,
}

impl<const N: usize> SetHandle<'_, N> {
    fn with<T>(&mut self, work: impl FnOnce(&mut Inner<N>) -> Result<T>) -> Result<T> {
        match &mut self.held {
            Some(inner) => work(inner),
            None => work(&mut self.set.lock()),
        }
    }
}

impl<const N: usize> Session for SetHandle<'_, N> {
    #[inline]
    fn claim(&mut self, id: &[u8]) -> Result<bool> {
        let each = self.set.each;
        self.with(|inner| {
            let first = inner.insert(id)?;
            if each && first {
                inner.sync()?;
            }
            Ok(first)
        })
    }

    fn claim_batch(&mut self, ids: &[&[u8]]) -> Result<u64> {
        let each = self.set.each;
        self.with(|inner| {
            let mut firsts = 0;
            for id in ids {
                firsts += u64::from(inner.insert(id)?);
            }
            if each {
                inner.sync()?;
            }
            Ok(firsts)
        })
    }

    fn sync(&mut self) -> Result<()> {
        self.with(Inner::sync)
    }
}

/// A log of bare ids in a preallocated file, as logs are built to sync fast. It knows no duplicates: every claim is
/// written and "first".
struct Log {
    file: File,
    state: Mutex<LogState>,
    /// Notified when a sync has ended.
    synced: Condvar,
    each: bool,
    shares: bool,
}

struct LogState {
    end: u64,
    reserved: u64,
    synced: u64,
    is_syncing: bool,
}

const RESERVE_BYTES: u64 = 16 << 20;

pub fn log(settings: &Settings, shares: bool) -> Result<Box<dyn Store>> {
    let path = settings.dir.join("log");
    let file = File::options().create(true).truncate(false).read(true).write(true).open(path)?;
    let end = file.metadata()?.len();
    Ok(Box::new(Log {
        file,
        state: Mutex::new(LogState { end, reserved: end, synced: end, is_syncing: false }),
        synced: Condvar::new(),
        each: settings.sync == Sync::Each,
        shares,
    }))
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, bytes: &[u8]) -> Result<()> {
        let mut state = self.lock();
        let from = state.end;
        state.end += bytes.len() as u64;
        while state.end > state.reserved {
            fallocate(&self.file, FallocateFlags::empty(), state.reserved, RESERVE_BYTES)?;
            state.reserved += RESERVE_BYTES;
        }
        self.file.write_all_at(bytes, from)?;
        if self.each { self.settle(state) } else { Ok(()) }
    }

    /// Returns once everything appended so far is on disk. With shared syncs, one caller syncs for all that wait;
    /// otherwise every caller syncs for itself, one after the other.
    fn settle<'a>(&'a self, mut state: MutexGuard<'a, LogState>) -> Result<()> {
        let target = state.end;
        if !self.shares {
            return Ok(self.file.sync_data()?);
        }
        while state.synced < target {
            if state.is_syncing {
                state = self.synced.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.is_syncing = true;
            let covers = state.end;
            drop(state);
            let result = self.file.sync_data();
            state = self.lock();
            state.is_syncing = false;
            self.synced.notify_all();
            result?;
            state.synced = covers;
        }
        Ok(())
    }
}

impl Store for Log {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(self))
    }

    fn close(self: Box<Self>) -> Result<()> {
        let end = self.lock().end;
        self.file.set_len(end)?;
        Ok(self.file.sync_all()?)
    }
}

impl Session for &Log {
    fn claim(&mut self, id: &[u8]) -> Result<bool> {
        self.append(id)?;
        Ok(true)
    }

    fn claim_batch(&mut self, ids: &[&[u8]]) -> Result<u64> {
        self.append(&ids.concat())?;
        Ok(ids.len() as u64)
    }

    fn sync(&mut self) -> Result<()> {
        self.settle(self.lock())
    }
}
