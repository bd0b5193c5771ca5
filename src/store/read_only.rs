//! A store that is only read.

use crate::engine::{ExportEntry, Inspector, StoreSummary, VerifyReport};
use crate::error::Result;
use crate::store::Seen;
use std::io;

/// A store that is only read, such as one on a read-only mount; see
/// [`Builder::open_read_only`](crate::Builder::open_read_only).
///
/// Nothing is written to its folder, and no thread is started. Answers are exact and come from the log, so each
/// reads as much of it as it needs: [`get`](Self::get), [`export`](Self::export) and
/// [`verify`](Self::verify) all of it.
#[derive(Debug)]
pub struct ReadOnly {
    inspector: Inspector,
}

impl ReadOnly {
    pub(super) fn new(inspector: Inspector) -> Self {
        Self { inspector }
    }

    /// The live claim of an id in a namespace (`default` is that of the store itself); `None` also if there is no
    /// such namespace.
    ///
    /// # Errors
    ///
    /// [`FixCall`](crate::ErrorKind::FixCall) for an id that cannot be one,
    /// [`Repair`](crate::ErrorKind::Repair) if the log is damaged,
    /// [`Environment`](crate::ErrorKind::Environment) if it cannot be read.
    pub fn get(&self, namespace: &str, id: impl AsRef<[u8]>) -> Result<Option<Seen>> {
        Ok(self.inspector.get(namespace, id.as_ref())?.map(Seen::from))
    }

    /// Hands every live claim of every namespace to `visit`; answers how many. All ids are in memory meanwhile.
    ///
    /// # Errors
    ///
    /// What `visit` answers, or as [`get`](Self::get).
    pub fn export(&self, visit: impl FnMut(ExportEntry<'_>) -> io::Result<()>) -> Result<u64> {
        self.inspector.export(visit)
    }

    /// Reads the whole log. Damage is not an error: it stands in the report. Blocks and filters, which can be built
    /// again, are not looked at.
    ///
    /// # Errors
    ///
    /// [`Environment`](crate::ErrorKind::Environment) if the log cannot be read.
    pub fn verify(&self) -> Result<VerifyReport> {
        self.inspector.verify()
    }

    /// What the store holds. Of the log, what is flushed is not read.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn summary(&self) -> Result<StoreSummary> {
        self.inspector.summary()
    }
}
