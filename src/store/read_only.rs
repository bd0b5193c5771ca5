//! A read-only store.

use crate::engine::{ExportEntry, History, Inspector, Seen, StoreSummary, VerifyReport};
use crate::error::Result;
use std::fmt;
use std::io;

/// A store opened read-only, such as one on a read-only mount; see
/// [`Builder::open_read_only`](crate::Builder::open_read_only).
///
/// Writes nothing to its folder and starts no threads. Answers are exact and come from the log, so each call reads as
/// much of it as it needs: [`get`](Self::get), [`export`](Self::export) and [`verify`](Self::verify) read all of it.
pub struct ReadOnly {
    inspector: Inspector,
}

impl fmt::Debug for ReadOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadOnly").field(&self.inspector).finish()
    }
}

impl ReadOnly {
    pub(super) fn new(inspector: Inspector) -> Self {
        Self { inspector }
    }

    /// Returns the live claim of an id in a namespace (`default` is that of the store itself), or `None` if there is
    /// no such claim or no such namespace.
    ///
    /// # Errors
    ///
    /// - [`FixCall`](crate::ErrorKind::FixCall) for an invalid id.
    /// - [`Repair`](crate::ErrorKind::Repair) if the log is damaged.
    /// - [`Environment`](crate::ErrorKind::Environment) if it cannot be read.
    pub fn get(&self, namespace: &str, id: impl AsRef<[u8]>) -> Result<Option<Seen>> {
        self.inspector.get(namespace, id.as_ref())
    }

    /// Passes every live claim of every namespace to `visit` and returns how many there were. Holds all ids in memory
    /// meanwhile.
    ///
    /// # Errors
    ///
    /// An error from `visit` becomes [`Environment`](crate::ErrorKind::Environment), or
    /// [`StorageFull`](crate::ErrorKind::StorageFull) if it means a full disk. Otherwise as [`get`](Self::get).
    pub fn export(&self, visit: impl FnMut(ExportEntry<'_>) -> io::Result<()>) -> Result<u64> {
        self.inspector.export(visit)
    }

    /// Returns what the log still knows of an id in a namespace (`default` is that of the store itself); see
    /// [`Namespace::history`](crate::Namespace::history). Nothing if there is no such namespace. The torn tail that a
    /// killed process may leave is listed as damage. Reads the log twice.
    ///
    /// # Errors
    ///
    /// [`FixCall`](crate::ErrorKind::FixCall) for an invalid id, and [`Environment`](crate::ErrorKind::Environment) if the
    /// log cannot be read at all.
    pub fn history(&self, namespace: &str, id: impl AsRef<[u8]>) -> Result<History> {
        self.inspector.history(namespace, id.as_ref())
    }

    /// Reads the whole log. Damage is not an error: it is listed in the report. Blocks and filters are not checked,
    /// since they can be rebuilt.
    ///
    /// # Errors
    ///
    /// [`Environment`](crate::ErrorKind::Environment) if the log cannot be read.
    pub fn verify(&self) -> Result<VerifyReport> {
        self.inspector.verify()
    }

    /// Returns what the store holds. Skips the flushed part of the log.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn summary(&self) -> Result<StoreSummary> {
        self.inspector.summary()
    }
}
