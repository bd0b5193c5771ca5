//! An object store as the place of snapshots.

use firstseen::snapshot::SnapshotTarget;
use futures_util::TryStreamExt as _;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload};
use std::fmt;
use std::future::Future;
use std::io;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// Snapshots below a prefix of an object store.
///
/// Objects are created with a condition (`If-None-Match: *` in S3), so two writers cannot overwrite each other, and never
/// replaced. **The store must support that condition**: S3 and all that `object_store` calls `PutMode::Create`. Where it is
/// ignored, two copies of a store could each believe that theirs is the newest snapshot.
///
/// Its calls block the calling thread, and may be made from async code by `spawn_blocking`. It has a small runtime of its
/// own. A client with a credential for one prefix needs to read, list, create and, for
/// [`keep_last`](firstseen::snapshot::SnapshotOptions::keep_last), delete there.
pub struct ObjectTarget {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    patience: Duration,
    /// `None` only while it is being dropped.
    runtime: Option<Runtime>,
}

impl fmt::Debug for ObjectTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ObjectTarget");
        shown.field("store", &self.store).field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// How long a call may take, with all repetitions of the client.
const PATIENCE: Duration = Duration::from_secs(120);

impl ObjectTarget {
    /// Returns the place below this prefix, such as `stores/orders`. Nothing is read or written yet.
    ///
    /// # Errors
    ///
    /// If no thread can be started.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: impl AsRef<str>) -> io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("firstseen-objects").enable_all();
        let runtime = Some(builder.build()?);
        Ok(Self { store, prefix: Path::from(prefix.as_ref()), patience: PATIENCE, runtime })
    }

    /// Sets how long one call may take, with all repetitions by the client; two minutes by default. After that it fails
    /// with `TimedOut`.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    fn path(&self, name: &str) -> Path {
        name.split('/').fold(self.prefix.clone(), Path::join)
    }

    /// Runs a call of the client on the runtime, and waits for it. Not `block_on`: that panics inside another runtime.
    fn run<T: Send + 'static>(
        &self,
        call: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> io::Result<object_store::Result<T>> {
        let gone = || io::Error::other("the runtime of the target has ended");
        let patience = self.patience;
        let (sender, receiver) = mpsc::sync_channel(1);
        let task = async move {
            // Nobody listens any more if the caller has panicked.
            sender.send(tokio::time::timeout(patience, call).await).ok();
        };
        self.runtime.as_ref().ok_or_else(gone)?.spawn(task);
        receiver.recv().map_err(|_| gone())?.map_err(|_| {
            let what = format!("the object store has not answered within {patience:?}");
            io::Error::new(io::ErrorKind::TimedOut, what)
        })
    }

    async fn read(store: &dyn ObjectStore, path: &Path) -> object_store::Result<Vec<u8>> {
        Ok(store.get(path).await?.bytes().await?.to_vec())
    }
}

impl Drop for ObjectTarget {
    fn drop(&mut self) {
        // Dropping a runtime waits for its threads, which panics inside another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Keeps what the caller has to tell apart.
fn told(error: object_store::Error) -> io::Error {
    let kind = match &error {
        object_store::Error::PermissionDenied { .. }
        | object_store::Error::Unauthenticated { .. } => io::ErrorKind::PermissionDenied,
        object_store::Error::NotImplemented { .. } => io::ErrorKind::Unsupported,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

impl SnapshotTarget for ObjectTarget {
    fn put_new(&self, name: &str, bytes: &[u8]) -> io::Result<bool> {
        let (store, path) = (Arc::clone(&self.store), self.path(name));
        let own = bytes.to_vec();
        let put = self.run(async move {
            let options = PutOptions::from(PutMode::Create);
            let put = store.put_opts(&path, PutPayload::from(own.clone()), options).await;
            match put {
                Ok(_) => Ok(true),
                // A request that was repeated, because its answer was lost, meets what it has stored itself.
                Err(object_store::Error::AlreadyExists { .. }) => {
                    Ok(Self::read(&*store, &path).await? == own)
                }
                Err(error) => Err(error),
            }
        })?;
        put.map_err(told)
    }

    fn get(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let (store, path) = (Arc::clone(&self.store), self.path(name));
        match self.run(async move { Self::read(&*store, &path).await })? {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(told(error)),
        }
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let (store, path) = (Arc::clone(&self.store), self.path(folder));
        let listed = self.run(async move {
            let objects = store.list(Some(&path)).try_collect::<Vec<_>>().await?;
            let names = objects.iter().filter_map(|object| object.location.filename());
            Ok(names.map(str::to_owned).collect())
        })?;
        listed.map_err(told)
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        let (store, path) = (Arc::clone(&self.store), self.path(name));
        match self.run(async move { store.delete(&path).await })? {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(told(error)),
        }
    }
}
