//! The public API: handles that are cheap to clone and safe to share.

mod builder;
mod calls;
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

use crate::engine::{Durability, ExportEntry, ImportEntry, RepairReport, Stats, VerifyReport};
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
