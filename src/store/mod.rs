//! The public API: handles that are cheap to clone and safe to share.

mod builder;
mod claim;
mod handle;
mod namespace;
mod read_only;
mod reservation;
mod snapshot;
mod twins;

pub use builder::Builder;
pub use claim::ClaimOptions;
pub use handle::Store;
pub use namespace::{Namespace, NamespaceOptions};
pub use read_only::ReadOnly;
pub use reservation::{BatchReservation, Reservation, Reserve};

use crate::engine::{
    Claim, Durability, ExportEntry, Held, History, ImportEntry, RepairReport, Seen, Stats,
    VerifyReport,
};
use crate::error::Result;
use std::io;
use std::path::Path;

impl Store {
    /// Opens the store in a folder, creating it if it is missing, with default settings: claims never end,
    /// [`Durability::Process`](crate::Durability::Process), 256 MiB of memory.
    ///
    /// # Errors
    ///
    /// - [`Locked`](crate::ErrorKind::Locked) if another process has it open.
    /// - [`FixCall`](crate::ErrorKind::FixCall) if the folder is not a store, a newer release wrote it, or in a
    ///   forked child.
    /// - [`StorageFull`](crate::ErrorKind::StorageFull) if the disk has no space for what opening writes.
    /// - [`Repair`](crate::ErrorKind::Repair) if its log or manifest is damaged.
    /// - [`Environment`](crate::ErrorKind::Environment) if the folder cannot be read or written, or the process may
    ///   not open more files or start more threads; the message says which.
    ///
    /// # Panic = "abort"
    ///
    /// Damage in the expendable `sled/` folder can make sled panic. The store catches that and rebuilds what was
    /// damaged. In a program with `panic = "abort"` it cannot, and such damage may end the process, here or in a
    /// later call. Deleting `sled/` while the store is closed loses nothing.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder(path).open()
    }

    /// Returns a builder for opening a store with other settings.
    ///
    /// ```
    /// use firstseen::{Durability, Store, days};
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("seen.db");
    /// let store = Store::builder(&path).ttl(days(7)).durability(Durability::Disk).open().expect("opens");
    /// # drop(store);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn builder(path: impl AsRef<Path>) -> Builder {
        Builder::new(path.as_ref())
    }

    /// Returns the namespace used by calls on the store itself.
    pub fn default_namespace(&self) -> Namespace {
        Namespace::new(self.clone(), self.engine().namespaces().default_namespace())
    }

    /// Returns the namespace of this name with its own settings; a new one gets the store's.
    ///
    /// Equal ids in different namespaces are unrelated. Namespaces share files, memory and commits: ten thousand of
    /// them cost no more than their names.
    ///
    /// # Errors
    ///
    /// [`FixCall`](crate::ErrorKind::FixCall) if the name is empty or longer than 255 bytes.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = firstseen::Store::open(dir.path().join("seen.db")).expect("opens");
    /// let payments = store.namespace("payments").expect("a good name");
    /// assert!(payments.claim(b"42").expect("claims").is_first_seen());
    /// assert!(store.claim(b"42").expect("claims").is_first_seen(), "another namespace, another id");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn namespace(&self, name: &str) -> Result<Namespace> {
        let info = self.engine().namespace(name, None)?;
        Ok(Namespace::new(self.clone(), info))
    }

    /// Returns the namespace of this name if it was ever used. Unlike [`namespace`](Self::namespace) it never creates
    /// one, so a query with a misspelt name leaves no trace.
    pub fn find_namespace(&self, name: &str) -> Option<Namespace> {
        self.engine().check_home().ok()?;
        let info = self.engine().namespaces().find(name)?;
        Some(Namespace::new(self.clone(), info))
    }

    /// Returns the namespace of this name and gives it these settings from now on. They are stored. Existing claims
    /// keep their end.
    ///
    /// # Errors
    ///
    /// [`FixCall`](crate::ErrorKind::FixCall) if the name or the ttl is out of bounds, or for the default namespace,
    /// whose settings are the builder's.
    pub fn namespace_with(&self, name: &str, options: NamespaceOptions) -> Result<Namespace> {
        let info = self.engine().namespace(name, Some(options.resolved(self.engine())))?;
        Ok(Namespace::new(self.clone(), info))
    }

    /// Claims an id: returns [`FirstSeen`](Claim::FirstSeen) to exactly one caller during the life of the claim, and
    /// [`Duplicate`](Claim::Duplicate) to all others, whatever the number of threads (I1).
    ///
    /// When the call returns, the claim is as durable as the store's setting says. For a duplicate, so is the claim
    /// that made it one (I6).
    ///
    /// # Blocking
    ///
    /// **While another caller has the id reserved, the call blocks its thread** until the reservation is confirmed or
    /// dropped, or until [`wait_max`](Builder::wait_max) (30 s) ends it with [`Retry`](crate::ErrorKind::Retry). It
    /// also blocks while memory is full.
    ///
    /// In an async task this blocks a thread of the runtime, and a task that holds the id across an `.await` may need
    /// that thread to go on. Async callers use [`claim_async`](Self::claim_async), which waits without one.
    ///
    /// # Errors
    ///
    /// - [`FixCall`](crate::ErrorKind::FixCall) for an empty id, one over 1,024 bytes (unless
    ///   [`Builder::hash_long_ids`]), or in a forked child.
    /// - [`StorageFull`](crate::ErrorKind::StorageFull) if the disk is full (nothing was claimed).
    /// - [`Environment`](crate::ErrorKind::Environment) if memory is full and flushing cannot write (nothing was
    ///   claimed).
    /// - [`Retry`](crate::ErrorKind::Retry) if a wait timed out.
    /// - [`Reopen`](crate::ErrorKind::Reopen) after a failed write or sync: whether this call left a claim is known
    ///   only after reopening.
    pub fn claim(&self, id: impl AsRef<[u8]>) -> Result<Claim> {
        let ns = self.engine().namespaces().default_info();
        namespace::claim(self.engine(), ns, id.as_ref(), ClaimOptions::new())
    }

    /// Claims an id with settings for this call. Blocks as [`claim`](Self::claim) does while the id is reserved, for
    /// [`ClaimOptions::wait`] if that is set.
    ///
    /// ```
    /// use firstseen::{ClaimOptions, Durability, hours};
    /// # let dir = tempfile::tempdir()?;
    /// # let store = firstseen::Store::open(dir.path().join("seen.db")).expect("opens");
    /// let options = ClaimOptions::new().ttl(hours(1)).durability(Durability::Disk);
    /// assert!(store.claim_with(b"evt-1", options).expect("claims").is_first_seen());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`claim`](Self::claim), and [`FixCall`](crate::ErrorKind::FixCall) for a ttl of zero or beyond two million
    /// years.
    pub fn claim_with(&self, id: impl AsRef<[u8]>, options: ClaimOptions) -> Result<Claim> {
        let ns = self.engine().namespaces().default_info();
        namespace::claim(self.engine(), ns, id.as_ref(), options)
    }

    /// Claims many ids at once: returns one answer for each, in order. Faster than one by one, with a single wait for
    /// durability. A repeated id is a duplicate of its first occurrence in the batch. The batch is one record: after
    /// an error none of it was claimed. Blocks as [`claim`](Self::claim) does while any of the ids is reserved.
    ///
    /// # Errors
    ///
    /// As [`claim`](Self::claim), and [`FixCall`](crate::ErrorKind::FixCall) for more than 65,536 ids or 4 MiB.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = firstseen::Store::open(dir.path().join("seen.db")).expect("opens");
    /// let answers = store.claim_batch(&["a", "b", "a"]).expect("claims");
    /// assert_eq!(answers.iter().filter(|a| a.is_first_seen()).count(), 2);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn claim_batch<I: AsRef<[u8]>>(&self, ids: &[I]) -> Result<Vec<Claim>> {
        self.default_namespace().claim_batch(ids)
    }

    /// Claims many ids at once, with settings for this call.
    ///
    /// # Errors
    ///
    /// As [`claim_batch`](Self::claim_batch) and [`claim_with`](Self::claim_with).
    pub fn claim_batch_with<I: AsRef<[u8]>>(
        &self,
        ids: &[I],
        options: ClaimOptions,
    ) -> Result<Vec<Claim>> {
        self.default_namespace().claim_batch_with(ids, options)
    }

    /// Reserves an id: perform the effect, then confirm the claim. See [`Reservation`].
    ///
    /// # In async code
    ///
    /// If another caller holds the id, this returns [`InProgress`](Reserve::InProgress) at once. It waits only for
    /// memory and, for a duplicate at [`Durability::Disk`](crate::Durability::Disk), for the disk;
    /// [`reserve_async`](Self::reserve_async) does so without blocking the thread.
    ///
    /// A reservation may be held across an `.await` as long as no task of the runtime blocks its thread on the id: use
    /// [`claim_async`](Self::claim_async) and [`forget_async`](Self::forget_async) there. `examples/tokio_consumer.rs`
    /// shows it.
    ///
    /// # Errors
    ///
    /// As [`claim`](Self::claim).
    pub fn reserve(&self, id: impl AsRef<[u8]>) -> Result<Reserve> {
        self.default_namespace().reserve(id)
    }

    /// Reserves an id with settings for this call and for the claim that `confirm` makes.
    ///
    /// ```
    /// use firstseen::{ClaimOptions, Reserve, hours};
    /// use std::time::Duration;
    /// # let dir = tempfile::tempdir()?;
    /// # let store = firstseen::Store::open(dir.path().join("seen.db"))?;
    /// let options = ClaimOptions::new().ttl(hours(1)).wait(Duration::ZERO);
    /// let Reserve::FirstSeen(mut held) = store.reserve_with("evt-1", options)? else { panic!("it is new") };
    /// assert_eq!(held.id(), b"evt-1");
    /// held.confirm()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`claim_with`](Self::claim_with).
    pub fn reserve_with(&self, id: impl AsRef<[u8]>, options: ClaimOptions) -> Result<Reserve> {
        self.default_namespace().reserve_with(id, options)
    }

    /// Reserves many ids at once. See [`BatchReservation`].
    ///
    /// # Errors
    ///
    /// As [`claim_batch`](Self::claim_batch).
    pub fn reserve_batch<I: AsRef<[u8]>>(&self, ids: &[I]) -> Result<BatchReservation> {
        self.default_namespace().reserve_batch(ids)
    }

    /// Reserves many ids at once, with settings for this call and for the claims that `confirm` makes.
    ///
    /// # Errors
    ///
    /// As [`claim_batch`](Self::claim_batch) and [`claim_with`](Self::claim_with).
    pub fn reserve_batch_with<I: AsRef<[u8]>>(
        &self,
        ids: &[I],
        options: ClaimOptions,
    ) -> Result<BatchReservation> {
        self.default_namespace().reserve_batch_with(ids, options)
    }

    /// Lists the reserved ids with their age, the oldest first, [`HELD_LISTED_MAX`] at most; [`Stats::ids_reserved`]
    /// counts them all. A reservation does not expire, so an old one means that a worker hangs or has forgotten it.
    ///
    /// [`HELD_LISTED_MAX`]: crate::limits::HELD_LISTED_MAX
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = firstseen::Store::open(dir.path().join("seen.db"))?;
    /// let held = store.reserve("evt-1")?;
    /// let oldest = &store.held()[0];
    /// assert_eq!((oldest.id.as_slice(), oldest.namespace.as_str()), (&b"evt-1"[..], "default"));
    /// assert!(oldest.age.as_secs() < 60);
    /// # drop(held);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn held(&self) -> Vec<Held> {
        self.engine().held(None)
    }

    /// Returns whether the id has a live claim. Claims nothing and writes nothing.
    ///
    /// # Errors
    ///
    /// - [`FixCall`](crate::ErrorKind::FixCall) for an invalid id.
    /// - [`Reopen`](crate::ErrorKind::Reopen) after a failed write or sync.
    pub fn contains(&self, id: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.get(id)?.is_some())
    }

    /// Returns the live claim of an id, if there is one: when it was made and when it ends. A claim that is returned
    /// is as durable as the store's setting says.
    ///
    /// # Errors
    ///
    /// As [`contains`](Self::contains).
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = firstseen::Store::open(dir.path().join("seen.db")).expect("opens");
    /// store.claim(b"evt-1").expect("claims");
    /// let seen = store.get(b"evt-1").expect("reads").expect("was claimed");
    /// assert_eq!(seen.deadline, firstseen::Timestamp::NEVER);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn get(&self, id: impl AsRef<[u8]>) -> Result<Option<Seen>> {
        self.default_namespace().get(id)
    }

    /// Ends the live claim of an id, so that its next claim is first seen. Returns whether there was one. As durable
    /// as a claim. Blocks as [`claim`](Self::claim) does while the id is reserved.
    ///
    /// # Errors
    ///
    /// As [`claim`](Self::claim).
    pub fn forget(&self, id: impl AsRef<[u8]>) -> Result<bool> {
        self.default_namespace().forget(id)
    }

    /// Ends the live claim of an id with settings for this call: durability and wait. A ttl has no effect.
    ///
    /// # Errors
    ///
    /// As [`claim_with`](Self::claim_with).
    pub fn forget_with(&self, id: impl AsRef<[u8]>, options: ClaimOptions) -> Result<bool> {
        self.default_namespace().forget_with(id, options)
    }

    /// Returns what the log still knows of an id of the default namespace; see [`Namespace::history`].
    ///
    /// # Errors
    ///
    /// As [`Namespace::history`].
    pub fn history(&self, id: impl AsRef<[u8]>) -> Result<History> {
        self.default_namespace().history(id)
    }

    /// Makes everything answered before this call survive a power cut. A consumer claims many ids, does the work,
    /// calls `sync` once, then acknowledges to the broker.
    ///
    /// # Errors
    ///
    /// [`Reopen`](crate::ErrorKind::Reopen) if the sync fails: the store stops (I7).
    pub fn sync(&self) -> Result<()> {
        self.engine().sync()
    }

    /// Returns what an answer guarantees where a call does not say otherwise; see [`Builder::durability`].
    pub fn durability(&self) -> Durability {
        self.engine().settings().durability
    }

    /// Returns sizes and counters. All are zero in a forked child, which does not own the store.
    pub fn stats(&self) -> Stats {
        if self.engine().check_home().is_ok() { self.engine().stats() } else { Stats::default() }
    }

    /// Reads everything once and checks log, blocks and filters against each other. Claims continue meanwhile. Damage
    /// is not an error: it is listed in the report.
    ///
    /// # Errors
    ///
    /// [`Environment`](crate::ErrorKind::Environment) if a file cannot be read at all.
    pub fn verify(&self) -> Result<VerifyReport> {
        self.engine().verify()
    }

    /// Passes every live claim of every namespace to `visit` and returns how many there were. Claims made meanwhile
    /// may or may not be included.
    ///
    /// # Errors
    ///
    /// An error from `visit` becomes [`Environment`](crate::ErrorKind::Environment), or
    /// [`StorageFull`](crate::ErrorKind::StorageFull) if it means a full disk. Otherwise as [`verify`](Self::verify).
    pub fn export(&self, visit: impl FnMut(ExportEntry<'_>) -> io::Result<()>) -> Result<u64> {
        self.engine().export(visit)
    }

    /// Imports claims made elsewhere and returns how many were new here. An id with a live claim here keeps it, and
    /// claims that have ended are skipped.
    ///
    /// # Errors
    ///
    /// As [`claim`](Self::claim), and [`FixCall`](crate::ErrorKind::FixCall) for a claim that ends before it begins;
    /// the entries before it have then been imported.
    pub fn import(&self, namespace: &str, entries: &[ImportEntry]) -> Result<u64> {
        let info = self.engine().namespace(namespace, None)?;
        self.engine().import(&info, entries, self.engine().settings().durability)
    }

    /// Closes the store: writes everything to disk, closes its files and releases its lock. Other handles get
    /// [`Reopen`](crate::ErrorKind::Reopen) from then on. Dropping the last handle does the same but cannot report an
    /// error.
    ///
    /// # Errors
    ///
    /// [`Environment`](crate::ErrorKind::Environment) or [`StorageFull`](crate::ErrorKind::StorageFull) if the last
    /// write fails. Nothing acknowledged is lost: opening replays the log.
    pub fn close(self) -> Result<()> {
        self.owner.close()
    }

    /// Repairs a store that does not open because it is damaged: saves every record that is still intact and reports
    /// what could not be saved. The damaged log is kept next to the new one.
    ///
    /// # Errors
    ///
    /// - [`Locked`](crate::ErrorKind::Locked) while it is open.
    /// - [`FixCall`](crate::ErrorKind::FixCall) if it is not a store or nothing in it can be read.
    pub fn repair(path: impl AsRef<Path>) -> Result<RepairReport> {
        Self::builder(path).repair()
    }
}

/// For tests of this crate.
#[cfg(feature = "testing")]
#[doc(hidden)]
impl Store {
    /// Does all pending background work of a store without background threads.
    ///
    /// # Errors
    ///
    /// Errors that the background threads would have retried later.
    pub fn run_background(&self) -> Result<()> {
        self.engine().check_home()?;
        self.engine().run_background()
    }

    /// Freezes every memtable, so that the next [`run_background`](Self::run_background) flushes it.
    pub fn freeze(&self) {
        if self.engine().check_home().is_ok() {
            self.engine().freeze_all();
        }
    }
}
