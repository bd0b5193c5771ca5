//! Chunks in sled: the only file that names it.
//!
//! sled 0.34.7 is used for what it does well (a few hundred thousand values of some kilobytes, read by
//! key) and kept away from what it does badly: no batches and no transactions (one lock for the whole
//! process), no large values (never synced), no trust in its flush (it calls no fsync, so we sync its
//! file ourselves), none in its checks, and no panic of it reaches a caller.

use crate::chunks::{ChunkFault, ChunkId, ChunkResult, ChunkStore, NO_ROOM};
use crate::error::is_full;
use crate::sync::{Arc, RwLock};
use std::fs;
use std::ops::RangeBounds;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

const MARK_KEY: &[u8] = b"mark";
const CACHE_BYTES_MIN: u64 = 1 << 20;

/// How long sled may take for what it is known to hang in after an error (I12).
const PATIENCE: Duration = Duration::from_secs(10);
/// The same after a fault: it has failed already, and somebody waits.
const PATIENCE_AFTER_FAULT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct SledChunks {
    path: PathBuf,
    cache_bytes: u64,
    /// Calls hold it by a count of their own, not by this lock: one that never comes back (sled is known for
    /// that after an error) must not stop the others, nor the reopening (I12).
    db: RwLock<Option<Arc<sled::Db>>>,
}

impl SledChunks {
    /// Opens the folder, or starts an empty one where it cannot be opened.
    pub(crate) fn open(path: &Path, cache_bytes: u64) -> ChunkResult<Self> {
        let cache_bytes = cache_bytes.max(CACHE_BYTES_MIN);
        let chunks = Self { path: path.to_owned(), cache_bytes, db: RwLock::new(None) };
        chunks.reopen()?;
        Ok(chunks)
    }

    fn try_open(&self) -> ChunkResult<sled::Db> {
        let config = sled::Config::new()
            .path(&self.path)
            .cache_capacity(self.cache_bytes)
            .mode(sled::Mode::HighThroughput)
            .flush_every_ms(None);
        let db = guard("open", || config.open())?;
        private(&self.path);
        Ok(db)
    }

    fn with<T>(
        &self,
        doing: &str,
        call: impl FnOnce(&sled::Db) -> sled::Result<T>,
    ) -> ChunkResult<T> {
        let db = self.db.read().clone();
        let db = db.ok_or_else(|| ChunkFault(format!("{doing}: not open")))?;
        let answer = guard(doing, || call(&db));
        // Whoever was the last, after the store was closed meanwhile, is not the one to wait for sled's end.
        if let Some(db) = Arc::into_inner(db) {
            bounded("close", Duration::ZERO, move || {
                drop(db);
                Ok(())
            })
            .ok();
        }
        answer
    }

    fn remove_keys<'a>(&self, keys: impl RangeBounds<&'a [u8]>) -> ChunkResult<()> {
        self.with("remove", |db| {
            for key in db.range(keys).keys() {
                db.remove(key?)?;
            }
            Ok(())
        })
    }

    /// When a last write fails, sled panics in its destructor or never comes back from it; that must not
    /// take the caller along. What is left behind keeps its lock on a file that `reopen` then replaces.
    fn drop_db(&self, patience: Duration) {
        let Some(db) = self.db.write().take() else { return };
        bounded("close", patience, move || {
            // Calls that are under way end soon, or never.
            for _ in 0..patience.as_millis() {
                if Arc::strong_count(&db) == 1 {
                    break;
                }
                std::thread::park_timeout(Duration::from_millis(1));
            }
            drop(db);
            Ok(())
        })
        .ok();
    }

    fn wipe(&self) -> ChunkResult<()> {
        let removed = match fs::remove_dir_all(&self.path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => fs::remove_file(&self.path),
            other => other,
        };
        match removed {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(ChunkFault(format!("remove {}: {e}", self.path.display())))
            }
            _ => Ok(()),
        }
    }
}

/// Runs a call of sled's; a panic in it becomes a fault.
fn guard<T>(doing: &str, call: impl FnOnce() -> sled::Result<T>) -> ChunkResult<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(e))) if is_full(&e) => {
            Err(ChunkFault(format!("{doing}: {NO_ROOM}: {e}")))
        }
        Ok(Err(e)) => Err(ChunkFault(format!("{doing}: {e}"))),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(ChunkFault(format!("{doing}: panicked: {}", text.unwrap_or("no message"))))
        }
    }
}

/// Runs a call of sled's that may never return, on a thread of its own, and waits only so long for it.
fn bounded<T: Send + 'static>(
    doing: &'static str,
    patience: Duration,
    call: impl FnOnce() -> sled::Result<T> + Send + 'static,
) -> ChunkResult<T> {
    let (done, answer) = std::sync::mpsc::sync_channel(1);
    let body = move || {
        done.send(guard(doing, call)).ok();
    };
    let spawned = std::thread::Builder::new().name("firstseen-sled".to_owned()).spawn(body);
    spawned.map_err(|e| ChunkFault(format!("{doing}: no thread: {e}")))?;
    let late = |_| ChunkFault(format!("{doing}: not done in {patience:?}"));
    answer.recv_timeout(patience).map_err(late)?
}

/// The folder is private to its user, as the rest of the store. A failure changes nothing that matters:
/// the folder above is private already.
fn private(path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).ok();
    }
    #[cfg(not(unix))]
    let _ = path;
}

/// Big-endian, so that sled keeps the chunks of a run together.
fn key_of(id: ChunkId) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&id.run.to_be_bytes());
    key[8..].copy_from_slice(&id.bucket.to_be_bytes());
    key
}

impl ChunkStore for SledChunks {
    fn get(&self, id: ChunkId, read: &mut dyn FnMut(&[u8])) -> ChunkResult<bool> {
        let found = self.with("get", |db| db.get(key_of(id)))?;
        found.iter().for_each(|bytes| read(bytes));
        Ok(found.is_some())
    }

    fn put(&self, id: ChunkId, bytes: &[u8]) -> ChunkResult<()> {
        self.with("insert", |db| db.insert(key_of(id), bytes)).map(drop)
    }

    /// On a full disk an insertion of sled's may spin for ever, waiting for room in its buffers.
    fn put_in_time(&self, id: ChunkId, bytes: Vec<u8>) -> ChunkResult<()> {
        let db = self.db.read().clone();
        let db = db.ok_or_else(|| ChunkFault("insert: not open".to_owned()))?;
        bounded("insert", PATIENCE_AFTER_FAULT, move || db.insert(key_of(id), bytes).map(drop))
    }

    fn remove_run(&self, run: u64) -> ChunkResult<()> {
        let first = key_of(ChunkId { run, bucket: 0 });
        let last = key_of(ChunkId { run, bucket: u32::MAX });
        self.remove_keys(&first[..]..=&last[..])
    }

    fn remove_from(&self, run: u64) -> ChunkResult<()> {
        // The mark's key is four letters: greater than any run number that will ever be reached.
        let first = key_of(ChunkId { run, bucket: 0 });
        self.remove_keys(&first[..]..MARK_KEY)
    }

    fn mark(&self) -> ChunkResult<Option<u64>> {
        let found = self.with("get", |db| db.get(MARK_KEY))?;
        Ok(found.and_then(|bytes| Some(u64::from_le_bytes(bytes.as_ref().try_into().ok()?))))
    }

    fn set_mark(&self, mark: u64) -> ChunkResult<()> {
        self.with("insert", |db| db.insert(MARK_KEY, &mark.to_le_bytes())).map(drop)
    }

    fn sync(&self) -> ChunkResult<()> {
        let db = self.db.read().clone();
        let db = db.ok_or_else(|| ChunkFault("flush: not open".to_owned()))?;
        bounded("flush", PATIENCE, move || db.flush().map(drop))?;
        let file = self.path.join("db");
        let synced = fs::File::open(&file).and_then(|file| file.sync_data());
        synced.map_err(|e| ChunkFault(format!("sync {}: {e}", file.display())))
    }

    fn reopen(&self) -> ChunkResult<()> {
        self.drop_db(PATIENCE_AFTER_FAULT);
        let opened = self.try_open().or_else(|fault| {
            // What it holds is expendable, and a folder that it cannot open now it never can (I10).
            tracing::warn!(%fault, "starting sled afresh");
            self.wipe()?;
            self.try_open()
        });
        *self.db.write() = Some(Arc::new(opened?));
        Ok(())
    }

    fn reset(&self) -> ChunkResult<()> {
        self.drop_db(PATIENCE);
        self.wipe()?;
        *self.db.write() = Some(Arc::new(self.try_open()?));
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.with("size", sled::Db::size_on_disk).unwrap_or(0)
    }

    fn close(&self) {
        self.drop_db(PATIENCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, channel, sync_channel};

    const ID: ChunkId = ChunkId { run: 1, bucket: 0 };

    /// Runs it beside this thread, and fails where it does not end.
    fn ends<T: Send + 'static>(what: &str, call: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, answer): (_, Receiver<T>) = channel();
        std::thread::spawn(move || done.send(call()).ok());
        answer.recv_timeout(Duration::from_secs(30)).unwrap_or_else(|_| panic!("{what} hangs"))
    }

    #[test]
    fn i12_a_call_that_hangs_in_sled_stops_neither_others_nor_the_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let chunks = Arc::new(SledChunks::open(&dir.path().join("sled"), 1 << 20).unwrap());
        chunks.put(ID, b"chunk").unwrap();
        let (began, inside) = sync_channel(1);
        let (release, wait) = channel::<()>();
        let hung = Arc::clone(&chunks);
        let hung = std::thread::spawn(move || {
            hung.with("hang", |_| {
                began.send(()).unwrap();
                wait.recv().ok();
                Ok(())
            })
        });
        inside.recv().unwrap();
        let other = Arc::clone(&chunks);
        ends("reopen", move || other.reopen()).unwrap();
        let other = Arc::clone(&chunks);
        ends("put", move || other.put(ID, b"again")).unwrap();
        let other = Arc::clone(&chunks);
        assert!(
            ends("get", move || other.get(ID, &mut |bytes| assert_eq!(bytes, b"again"))).unwrap()
        );
        drop(release);
        hung.join().unwrap().unwrap();
        assert!(chunks.get(ID, &mut |_| ()).unwrap(), "the end of the old one changes nothing");
    }
}
