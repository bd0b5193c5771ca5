//! The handle of an open store, and what ends with the last one.

use crate::engine::{self, Engine, Settings, Threads};
use crate::error::{Error, Result};
use crate::sync::{Arc, GiveBack, Mutex, in_step, keep_large_blocks_apart, may_open, thread};
use std::fmt;
use std::path::Path;
use std::sync::Weak;

/// A dedup store: decides atomically and durably whether an event id is seen for the first time.
///
/// A handle is cheap to clone and can be used from any number of threads. Calls on the store itself work in its
/// default namespace; see [`Store::namespace`] for others.
///
/// A store belongs to the process that opened it. In a forked child every call fails with
/// [`FixCall`](crate::ErrorKind::FixCall), dropping does nothing, and no other store can be opened: fork first, then
/// open. A child that runs another program (`exec`) is not affected.
///
/// ```
/// use firstseen::{Claim, Store};
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("seen.db");
/// let store = Store::open(&path)?;
/// assert_eq!(store.claim(b"evt-1")?, Claim::FirstSeen);
/// assert!(matches!(store.claim(b"evt-1")?, Claim::Duplicate { .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Store {
    pub(super) owner: Arc<Owner>,
}

/// A handle that does not keep the store open.
#[derive(Debug, Clone)]
pub(crate) struct WeakStore(Weak<Owner>);

impl WeakStore {
    /// Returns a handle that does; `None` if the last one was dropped.
    pub(crate) fn upgrade(&self) -> Option<Store> {
        self.0.upgrade().map(|owner| Store { owner })
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("dir", &self.engine().dir()).finish()
    }
}

/// Stops the threads and the engine when the last handle is dropped.
#[derive(Debug)]
pub(super) struct Owner {
    engine: Arc<Engine>,
    /// `None` only while it is being dropped.
    pub(super) threads: Option<Threads>,
    /// Dropped last. `None` on a simulated disk, where tests open stores by the thousand.
    memory: Option<GiveBack>,
}

impl Owner {
    pub(super) fn close(&self) -> Result<()> {
        self.engine.check_home()?;
        self.threads.iter().for_each(Threads::stop);
        self.engine.close()
    }
}

impl Owner {
    /// Closes on another thread. A future was the last to hold the store, and the job that woke it runs here: closing
    /// waits for the jobs to end.
    fn close_elsewhere(&mut self) {
        let (engine, threads) = (Arc::clone(&self.engine), self.threads.take());
        let owner = Self { engine, threads, memory: self.memory.take() };
        let kept = Arc::new(Mutex::new(Some(owner)));
        let inside = Arc::clone(&kept);
        let close = move || drop(inside.lock().take());
        if let Err(error) = thread::Builder::new().name("firstseen-close".into()).spawn(close) {
            tracing::warn!(%error, "no thread to close the store: it stays open");
            std::mem::forget(kept.lock().take());
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if self.engine.check_home().is_err() {
            // A forked child: files, lock and threads are the parent's, and sled's destructor would wait for threads
            // that do not exist here. Touch nothing; its memory is freed when the process exits.
            std::mem::forget((Arc::clone(&self.engine), self.threads.take()));
            return;
        }
        if in_step() && self.threads.is_some() {
            return self.close_elsewhere();
        }
        if let Err(error) = self.close() {
            tracing::warn!(%error, "the store did not close in order; opening it replays the log");
        }
    }
}

/// Returns whether the store is on a real disk, and so uses a real sled.
fn is_real(path: &Path, settings: &Settings) -> bool {
    settings.disk.real_path(path).is_ok_and(|path| path.is_some())
}

/// Checks that this process may open a store, and prepares it for sled. Simulated stores need neither.
pub(super) fn check_process(path: &Path, settings: &Settings) -> Result<()> {
    if !is_real(path, settings) {
        return Ok(());
    }
    keep_large_blocks_apart();
    if may_open() { Ok(()) } else { Err(Error::Forked) }
}

impl Store {
    pub(super) fn start(path: &Path, settings: Settings) -> Result<Self> {
        check_process(path, &settings)?;
        let memory = is_real(path, &settings).then_some(GiveBack);
        let engine = engine::open(path, settings)?;
        let threads = Some(Threads::start(&engine)?);
        Ok(Self { owner: Arc::new(Owner { engine, threads, memory }) })
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.owner.engine
    }

    pub(crate) fn downgrade(&self) -> WeakStore {
        WeakStore(Arc::downgrade(&self.owner))
    }
}
