//! Blocks in sled: the only file that names it.
//!
//! sled 0.34.7 is used for what it does well (a few hundred thousand values of some kilobytes, read by key) and kept
//! away from what it does badly: no batches or transactions (one lock for the whole process), no large values (never
//! synced), no trust in its flush (it calls no fsync, so we sync its file ourselves) or in its checks, and none of its
//! panics reaches a caller.

use crate::blocks::folder::{FILE, SledFolder};
use crate::blocks::{BlockFault, BlockId, BlockResult, BlockStore, Cause, guard, headroom};
use crate::disk::Disk;
use crate::sync::{Arc, AtomicBool, Mutex, Ordering, RwLock};
use std::fmt;
use std::fs::{self, File};
use std::ops::RangeBounds;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

const MARK_KEY: &[u8] = b"mark";
/// Keys listed at a time for removal.
const SOME: usize = 256;
const CACHE_BYTES_MIN: u64 = 1 << 20;

/// Time limit for calls in which sled is known to hang after an error (I12).
const PATIENCE: Duration = Duration::from_secs(10);
/// Time limit for opening, plus a second for each [`OPENED_A_SECOND`] bytes of its file: it reads all of it after a
/// kill.
const PATIENCE_TO_OPEN: Duration = Duration::from_secs(30);
const OPENED_A_SECOND: u64 = 16 << 20;
/// Time limit for sled after a fault: it has failed already, and a caller waits.
const PATIENCE_AFTER_FAULT: Duration = Duration::from_secs(1);
/// sled's error text when its file is locked: it has no kind of its own for that.
const IS_LOCKED: &str = "could not acquire lock";
const LOCK_PAUSE: Duration = Duration::from_millis(20);

pub(crate) struct SledBlocks {
    folder: SledFolder,
    cache_bytes: u64,
    /// Calls hold a reference count instead of this lock: one that never returns (sled is known for that after an
    /// error) must not block the others or a reopen (I12).
    open: RwLock<Result<Arc<Open>, Shut>>,
}

impl fmt::Debug for SledBlocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // sled shows all that it has.
        f.debug_struct("SledBlocks").finish_non_exhaustive()
    }
}

/// Why sled is not open.
type Shut = BlockFault;

#[derive(Debug)]
struct Open {
    db: sled::Db,
    /// sled's data file, for reserving space in it.
    file: File,
    /// The path by which sled finds its folder.
    path: PathBuf,
    /// The path may lead through a descriptor, which must not come to refer to another folder while any part of sled
    /// runs.
    held: Arc<dyn Disk>,
    /// After one of its own errors sled may make the next caller spin or wait forever, and after a late result a call
    /// is still inside: no one else may enter (I12).
    is_broken: AtomicBool,
    #[cfg(test)]
    at_end: tests::AtEnd,
}

impl SledBlocks {
    #[cfg(test)]
    fn open(path: &std::path::Path, cache_bytes: u64) -> BlockResult<Self> {
        let disk: Arc<dyn Disk> = Arc::new(crate::disk::RealDisk::default());
        Self::open_in(SledFolder::new(&disk, path.to_owned(), 0, true), cache_bytes)
    }

    /// Opens the folder, or starts an empty one if it cannot be opened.
    pub(crate) fn open_in(folder: SledFolder, cache_bytes: u64) -> BlockResult<Self> {
        let cache_bytes = cache_bytes.max(CACHE_BYTES_MIN);
        let open = RwLock::new(Err(BlockFault::new("not opened yet")));
        let blocks = Self { folder, cache_bytes, open };
        blocks.reopen()?;
        Ok(blocks)
    }

    fn try_open(&self) -> BlockResult<Open> {
        let (path, file) = call_sled("open", || {
            let path = self.folder.prepare()?;
            let file = private_file().open(path.join(FILE))?;
            headroom::reserve(&file, headroom::FOR_BLOCKS)?;
            Ok((path, file))
        })?;
        let config = sled::Config::new()
            .path(&path)
            .cache_capacity(self.cache_bytes)
            .mode(sled::Mode::HighThroughput)
            .flush_every_ms(None);
        can_start_threads()?;
        let len = file.metadata().map_or(0, |meta| meta.len());
        let patience = PATIENCE_TO_OPEN + Duration::from_secs(len / OPENED_A_SECOND);
        let db = bounded("open", patience, move || config.open())?;
        THREADS_STARTED.get_or_init(|| ());
        make_private(&path);
        Ok(Open {
            db,
            file,
            path,
            held: self.folder.disk(),
            is_broken: AtomicBool::new(false),
            #[cfg(test)]
            at_end: tests::AtEnd::default(),
        })
    }

    /// Opens sled, waiting for its lock.
    ///
    /// sled may hold the lock for a moment after closing, in a thread that still writes. Starting afresh for that would
    /// mean rebuilding everything.
    fn try_open_unlocked(&self) -> BlockResult<Open> {
        let waits = PATIENCE_AFTER_FAULT.as_millis() / LOCK_PAUSE.as_millis();
        for _ in 0..waits {
            match self.try_open() {
                Err(fault) if fault.cause == Cause::Locked => {
                    std::thread::park_timeout(LOCK_PAUSE);
                }
                other => return other,
            }
        }
        self.try_open()
    }

    /// Installs what was opened, or records why nothing was.
    fn keep(&self, opened: BlockResult<Open>) -> BlockResult<()> {
        let (open, answer) = match opened {
            Ok(open) => (Ok(Arc::new(open)), Ok(())),
            Err(fault) => (Err(fault.clone()), Err(fault)),
        };
        *self.open.write() = open;
        answer
    }

    fn get_open(&self, doing: &str) -> BlockResult<Arc<Open>> {
        let open = self.open.read().clone();
        match open {
            Ok(open) if open.is_broken.load(Ordering::Relaxed) => {
                Err(BlockFault::new(format!("{doing}: failed before")))
            }
            Ok(open) => Ok(open),
            Err(why) => Err(BlockFault { what: format!("{doing}: not open: {}", why.what), ..why }),
        }
    }

    fn with<T>(
        &self,
        doing: &str,
        call: impl FnOnce(&sled::Db) -> sled::Result<T>,
    ) -> BlockResult<T> {
        let open = self.get_open(doing)?;
        let mut is_bad_page = false;
        let note = |e: &sled::Error| is_bad_page = matches!(e, sled::Error::Corruption { .. });
        let answer = call_sled(doing, || call(&open.db).inspect_err(note));
        if answer.is_err() && !is_bad_page {
            open.is_broken.store(true, Ordering::Relaxed);
        }
        release(open);
        answer
    }

    /// As `with`, for writes: reserves space first.
    fn write<T>(
        &self,
        doing: &str,
        room: u64,
        call: impl FnOnce(&sled::Db) -> sled::Result<T>,
    ) -> BlockResult<T> {
        self.make_room(doing, room)?;
        self.with(doing, call)
    }

    /// Reserves space for sled to write. If there is none, sled is neither called nor harmed.
    fn make_room(&self, doing: &str, room: u64) -> BlockResult<()> {
        let open = self.get_open(doing)?;
        let answer = call_sled(doing, || Ok(headroom::reserve(&open.file, room)?));
        release(open);
        answer
    }

    /// Runs a call that may never return on its own thread, waiting at most `patience`.
    fn in_time<T: Send + 'static>(
        &self,
        doing: &'static str,
        patience: Duration,
        call: impl FnOnce(&sled::Db) -> sled::Result<T> + Send + 'static,
    ) -> BlockResult<T> {
        let open = self.get_open(doing)?;
        let inside = Arc::clone(&open);
        let answer = bounded(doing, patience, move || call(&inside.db));
        if answer.is_err() {
            open.is_broken.store(true, Ordering::Relaxed);
        }
        release(open);
        answer
    }

    fn remove_keys<'a>(&self, keys: impl RangeBounds<&'a [u8]>) -> BlockResult<()> {
        // A run may be as large as the store: one space check is not enough for all of it.
        loop {
            let keys = (keys.start_bound(), keys.end_bound());
            let some: Vec<_> = self.with("list", |db| {
                db.range::<&[u8], _>((keys.0.cloned(), keys.1.cloned())).keys().take(SOME).collect()
            })?;
            if some.is_empty() {
                return Ok(());
            }
            for key in some {
                self.write("remove", headroom::FOR_REMOVING, |db| db.remove(key))?;
            }
        }
    }

    /// Closes sled, waiting at most about `patience`.
    ///
    /// If a last write fails, sled panics in its destructor or never returns from it; the caller must not suffer.
    /// Whatever remains keeps its lock on a file that `reopen` then replaces.
    fn drop_open(&self, patience: Duration, why: BlockFault) {
        let shut = std::mem::replace(&mut *self.open.write(), Err(why));
        let Ok(open) = shut else { return };
        close(open, patience, patience);
    }

    fn wipe(&self) -> BlockResult<()> {
        let path = self.folder.path().display();
        self.folder.wipe().map_err(|e| BlockFault::io(&format!("empty {path}"), &e))
    }
}

/// Ends sled. Its threads may run on for a moment and use its path, which must not lead elsewhere until then.
fn end_sled(open: Open) {
    let Open {
        db,
        file,
        held,
        #[cfg(test)]
        at_end,
        ..
    } = open;
    // Never released if sled keeps its file.
    let held = std::mem::ManuallyDrop::new(held);
    end(db);
    #[cfg(test)]
    end(at_end);
    let waits = PATIENCE_AFTER_FAULT.as_millis() / LOCK_PAUSE.as_millis();
    for _ in 0..waits {
        // sled's lock is on its file, which each of its threads keeps open.
        if file.try_lock().is_ok() {
            drop(std::mem::ManuallyDrop::into_inner(held));
            return;
        }
        std::thread::park_timeout(LOCK_PAUSE);
    }
}

/// Releases a call's reference. If it is the last, because the store was closed meanwhile, it must not wait for sled.
fn release(open: Arc<Open>) {
    if let Some(open) = Arc::into_inner(open) {
        close(Arc::new(open), Duration::ZERO, Duration::ZERO);
    }
}

/// Closes sled on its own thread: running calls get `grace` to end, and the caller waits up to `patience`.
fn close(open: Arc<Open>, grace: Duration, patience: Duration) {
    let slot = Arc::new(Mutex::new(Some(open)));
    let taken = Arc::clone(&slot);
    let closed = bounded("close", patience, move || {
        let Some(open) = taken.lock().take() else { return Ok(()) };
        // They end soon or never.
        for _ in 0..grace.as_millis() {
            if Arc::strong_count(&open) == 1 {
                break;
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        if let Some(open) = Arc::into_inner(open) {
            end_sled(open);
        }
        Ok(())
    });
    // No thread could be started, so it is still here: close it on this thread, unless it may hang.
    if closed.is_err_and(|fault| fault.cause == Cause::Environment)
        && let Some(open) = slot.lock().take()
    {
        if open.is_broken.load(Ordering::Relaxed) {
            std::mem::forget(open);
        } else if let Some(open) = Arc::into_inner(open) {
            end_sled(open);
        }
    }
}

/// Runs a sled call, turning its errors and panics into faults.
fn call_sled<T>(doing: &str, call: impl FnOnce() -> sled::Result<T>) -> BlockResult<T> {
    guard(doing, || {
        call().map_err(|error| match error {
            sled::Error::Io(e) => of_io(doing, &e),
            other => BlockFault::new(format!("{doing}: {other}")),
        })
    })
}

fn of_io(doing: &str, error: &std::io::Error) -> BlockFault {
    let fault = BlockFault::io(doing, error);
    let is_locked = error.to_string().starts_with(IS_LOCKED);
    BlockFault { cause: if is_locked { Cause::Locked } else { fault.cause }, ..fault }
}

/// Drops a sled object, containing a panic of its destructor.
fn end<T>(it: T) {
    let ended = guard("close", || {
        drop(it);
        Ok(())
    });
    if let Err(fault) = ended {
        tracing::warn!(%fault, "sled did not close in order");
    }
}

/// Runs a sled call that may never return on its own thread, waiting at most `patience`.
fn bounded<T: Send + 'static>(
    doing: &'static str,
    patience: Duration,
    call: impl FnOnce() -> sled::Result<T> + Send + 'static,
) -> BlockResult<T> {
    let (done, answer) = std::sync::mpsc::sync_channel(1);
    let body = move || {
        if let Err(late) = done.send(call_sled(doing, call)) {
            // No one waits any more. A late result may be a whole sled, with a destructor.
            end(late);
        }
    };
    // Without a thread, the call and all it holds are dropped here.
    guard(doing, || {
        let spawned = std::thread::Builder::new().name("firstseen-sled".to_owned()).spawn(body);
        spawned.map(drop).map_err(|e| BlockFault::no_thread(doing, &e))
    })?;
    let late = |_| BlockFault::new(format!("{doing}: not done in {patience:?}"));
    answer.recv_timeout(patience).map_err(late)?
}

/// Set once sled has the threads of its pool, which it keeps for the life of the process.
static THREADS_STARTED: OnceLock<()> = OnceLock::new();

/// Checks whether sled will get the threads it needs.
///
/// It starts them when first opened, reports no failure, and would wait forever for their work.
fn can_start_threads() -> BlockResult<()> {
    /// At least one for sled, and those of the store.
    const NEEDED: usize = 4;
    if THREADS_STARTED.get().is_some() {
        return Ok(());
    }
    let (mut bells, mut started) = (Vec::new(), Vec::new());
    let all_started = (0..NEEDED).try_for_each(|_| {
        let (bell, rings) = std::sync::mpsc::channel::<()>();
        let body = move || {
            rings.recv().ok();
        };
        let thread = std::thread::Builder::new().name("firstseen-probe".to_owned()).spawn(body);
        bells.push(bell);
        started.push(thread.map_err(|e| BlockFault::no_thread("open", &e))?);
        Ok(())
    });
    drop(bells);
    started.into_iter().for_each(|thread| drop(thread.join()));
    all_started
}

fn private_file() -> fs::OpenOptions {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Restricts the modes that the umask left on files sled created. Failure does not matter: no one else gets through the
/// parent folder.
fn make_private(path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let set = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).ok();
        };
        set(path, 0o700);
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => set(&entry.path(), 0o700),
                Ok(kind) if kind.is_file() => set(&entry.path(), 0o600),
                _ => {}
            }
        }
    }
    #[cfg(not(unix))]
    let _ = path;
}

/// Returns the key, big-endian so that sled keeps the blocks of a run together.
fn key_of(id: BlockId) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&id.run.to_be_bytes());
    key[8..].copy_from_slice(&id.bucket.to_be_bytes());
    key
}

impl Drop for SledBlocks {
    /// Closes sled within a time limit.
    ///
    /// A failed open drops this on a caller's thread, which must neither wait forever for sled to end nor see its
    /// panics (I12).
    fn drop(&mut self) {
        self.drop_open(PATIENCE, BlockFault::new("closed"));
    }
}

impl BlockStore for SledBlocks {
    fn get(&self, id: BlockId, read: &mut dyn FnMut(&[u8])) -> BlockResult<bool> {
        let found = self.with("get", |db| db.get(key_of(id)))?;
        found.iter().for_each(|bytes| read(bytes));
        Ok(found.is_some())
    }

    fn put(&self, id: BlockId, bytes: &[u8]) -> BlockResult<()> {
        self.write("insert", headroom::FOR_BLOCKS, |db| db.insert(key_of(id), bytes)).map(drop)
    }

    fn put_in_time(&self, id: BlockId, bytes: Vec<u8>) -> BlockResult<()> {
        self.make_room("insert", headroom::FOR_BLOCKS)?;
        self.in_time("insert", PATIENCE_AFTER_FAULT, move |db| {
            db.insert(key_of(id), bytes).map(drop)
        })
    }

    fn remove_run(&self, run: u64) -> BlockResult<()> {
        let first = key_of(BlockId { run, bucket: 0 });
        let last = key_of(BlockId { run, bucket: u32::MAX });
        self.remove_keys(&first[..]..=&last[..])
    }

    fn remove_from(&self, run: u64) -> BlockResult<()> {
        // The mark's key is four letters, greater than any run number ever reached.
        let first = key_of(BlockId { run, bucket: 0 });
        self.remove_keys(&first[..]..MARK_KEY)
    }

    fn mark(&self) -> BlockResult<Option<u64>> {
        let found = self.with("get", |db| db.get(MARK_KEY))?;
        Ok(found.and_then(|bytes| Some(u64::from_le_bytes(bytes.as_ref().try_into().ok()?))))
    }

    fn set_mark(&self, mark: u64) -> BlockResult<()> {
        let room = headroom::FOR_REMOVING;
        self.write("insert", room, |db| db.insert(MARK_KEY, &mark.to_le_bytes())).map(drop)
    }

    fn sync(&self) -> BlockResult<()> {
        self.make_room("flush", headroom::FOR_REMOVING)?;
        self.in_time("flush", PATIENCE, |db| db.flush().map(drop))?;
        // By name: the next open would not find a file that was removed.
        let open = self.get_open("flush")?;
        let file = open.path.join(FILE);
        release(open);
        let synced = File::open(&file).and_then(|file| file.sync_data());
        synced.map_err(|e| BlockFault::io(&format!("sync {}", file.display()), &e))
    }

    fn reopen(&self) -> BlockResult<()> {
        // A full disk is not sled's fault: an open sled stays open.
        if let Ok(open) = self.get_open("reopen") {
            release(open);
            let room = self.make_room("reopen", headroom::FOR_BLOCKS);
            if room.as_ref().is_err_and(BlockFault::spares_contents) {
                return room;
            }
        }
        self.drop_open(PATIENCE_AFTER_FAULT, BlockFault::reopening());
        let opened = self.try_open_unlocked().or_else(|fault| {
            if fault.spares_contents() {
                return Err(fault);
            }
            // Its contents are expendable, and a folder that it cannot open now it never can (I10).
            tracing::warn!(%fault, "starting sled afresh");
            self.wipe()?;
            self.try_open()
        });
        self.keep(opened)
    }

    fn reset(&self) -> BlockResult<()> {
        self.drop_open(PATIENCE, BlockFault::reopening());
        self.keep(self.wipe().and_then(|()| self.try_open()))
    }

    fn bytes(&self) -> u64 {
        self.with("size", sled::Db::size_on_disk).unwrap_or(0)
    }

    fn close(&self) {
        self.drop_open(PATIENCE, BlockFault::new("closed"));
    }
}

#[cfg(test)]
mod tests;
