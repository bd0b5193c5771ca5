//! Errors, grouped by what the caller should do about them.

use std::io;
use std::path::{Path, PathBuf};

/// The result of every fallible call of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What the caller should do about an [`Error`].
///
/// There are few kinds on purpose: programs branch on the kind, people read the message. Messages and sources are not
/// part of the stable interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A wait timed out, or what the call is about was replaced meanwhile. Data and call are fine; the same call may
    /// succeed later.
    Retry,
    /// The disk is full. Nothing was claimed; the same call succeeds once there is space.
    StorageFull,
    /// The store stopped acknowledging after a failed write or sync (I7), or was closed. Open it again.
    Reopen,
    /// The call or its arguments are wrong; repeating it unchanged cannot succeed.
    FixCall,
    /// Another process, or another handle in this one, has the store open.
    Locked,
    /// Bytes on disk are damaged (I11). `firstseen repair` saves what it can and reports what it saved.
    Repair,
    /// The operating system refused something the store needs (permission, a missing folder, an I/O error).
    Environment,
    /// A bug in this crate: it broke one of its own guarantees. Please report it.
    Bug,
}

/// A fault. Expected outcomes (duplicate, in progress) are answers, never errors.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A wait reached its deadline (I12); see [`ErrorKind::Retry`].
    #[error("timed out waiting for {what}")]
    Timeout {
        /// What the call waited for.
        what: &'static str,
    },
    /// A prepared transaction holds the id or row until somebody commits it or rolls it back; see
    /// [`ErrorKind::Retry`].
    #[error(
        "a prepared transaction holds this id or row: commit it or roll it back (`Store::prepared` lists them), then call again"
    )]
    InDoubt,
    /// A replay scope was promoted or dropped after the call, the transaction that it commits, or whoever read the position
    /// that it gives, had looked at one of its namespaces; see [`ErrorKind::Retry`]. Nothing was written. A transaction has to be put together again.
    #[error(
        "a replay scope was promoted or dropped meanwhile; nothing was written: begin again with what this is part of"
    )]
    Replaced,
    /// The disk is full; see [`ErrorKind::StorageFull`].
    #[error("no space left on the disk that holds {}: make room and call again (a claim that is refused leaves nothing behind)", path.display())]
    StorageFull {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// The store has stopped (I7); see [`ErrorKind::Reopen`].
    #[error("the store has stopped and acknowledges nothing until it is reopened: {why}")]
    Stopped {
        /// The failure that stopped it.
        why: String,
    },
    /// The store was closed through another handle; see [`ErrorKind::Reopen`].
    #[error("the store is closed")]
    Closed,
    /// This process was forked after this or another store was opened; see [`ErrorKind::FixCall`].
    #[error(
        "this process was forked after a store was opened; the store belongs to the parent. Fork before opening, or send the ids to the parent"
    )]
    Forked,
    /// The arguments are wrong; see [`ErrorKind::FixCall`].
    #[error("{what}")]
    Invalid {
        /// What is wrong and what is allowed.
        what: String,
    },
    /// Another process, or another handle in this one, holds the store; see [`ErrorKind::Locked`].
    #[error("the store {} is open in another process (or opened twice in this one); one process at a time may open it", path.display())]
    Locked {
        /// The folder of the store.
        path: PathBuf,
    },
    /// The folder is not a store; see [`ErrorKind::FixCall`].
    #[error("{} is not a firstseen store: {why}", path.display())]
    NotAStore {
        /// The folder.
        path: PathBuf,
        /// What is missing or unexpected.
        why: String,
    },
    /// A newer release wrote the file; see [`ErrorKind::FixCall`].
    #[error("{} has format version {found}; this release reads versions up to {known}: use a newer firstseen", path.display())]
    FromTheFuture {
        /// The file.
        path: PathBuf,
        /// The version of the file.
        found: u16,
        /// The newest version that this release reads.
        known: u16,
    },
    /// A newer release wrote part of the file; see [`ErrorKind::FixCall`].
    #[error("{} has {what} at byte {offset}, which this release does not know: use a newer firstseen", path.display())]
    NewerContent {
        /// The file.
        path: PathBuf,
        /// The byte offset in the file.
        offset: u64,
        /// What is unknown.
        what: String,
    },
    /// A build from before the first release wrote the file; see [`ErrorKind::FixCall`].
    #[error("{} has format version {found}, from before the first release; this release reads versions from {oldest} on: export the store with the build that wrote it, and import that into a new one", path.display())]
    FromThePast {
        /// The file.
        path: PathBuf,
        /// The version of the file.
        found: u16,
        /// The oldest version that this release reads.
        oldest: u16,
    },
    /// Damage before the tail of the log, or in the manifest (I11); see [`ErrorKind::Repair`].
    #[error("{} is damaged at byte {offset}: {what}; `firstseen repair` saves what can be saved", path.display())]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// The byte offset in the file.
        offset: u64,
        /// What was expected and what was found.
        what: String,
    },
    /// A part of a snapshot is damaged or missing (I15); see [`ErrorKind::Repair`]. Nothing repairs it: restore another
    /// snapshot.
    #[error("{} of a snapshot is damaged: {what}; restore another snapshot", path.display())]
    SnapshotDamaged {
        /// The object, by its name in its place.
        path: PathBuf,
        /// What was expected and what was found.
        what: String,
    },
    /// Somebody else has stored a snapshot in the same place meanwhile (I15); see [`ErrorKind::Retry`]. Theirs is the
    /// newest, and this one does not count.
    #[error(
        "somebody else has stored a snapshot in the same place meanwhile: this one does not count; take it again"
    )]
    SnapshotOvertaken,
    /// The block store failed where it cannot be healed; [`ErrorKind::StorageFull`] if it lacks space, otherwise
    /// [`ErrorKind::Environment`].
    #[error("cannot use the sled folder of the store: {what}")]
    Blocks {
        /// What failed.
        what: String,
        /// Whether the disk is full.
        is_full: bool,
    },
    /// The operating system refused an operation; see [`ErrorKind::Environment`].
    #[error("cannot {doing} {}: {source}{}", path.display(), advice(source.raw_os_error()))]
    Io {
        /// The operation, as a verb ("open", "sync").
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// A broken guarantee of this crate; see [`ErrorKind::Bug`].
    #[error("internal error, please report it: {what}")]
    Bug {
        /// What did not hold.
        what: String,
    },
}

impl Error {
    /// Returns what the caller should do about this error.
    ///
    /// ```
    /// use firstseen::ErrorKind;
    /// # let dir = tempfile::tempdir()?;
    /// let store = firstseen::Store::open(dir.path().join("seen.db"))?;
    /// assert_eq!(store.claim(b"").unwrap_err().kind(), ErrorKind::FixCall);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Timeout { .. } | Self::InDoubt | Self::Replaced | Self::SnapshotOvertaken => {
                ErrorKind::Retry
            }
            Self::StorageFull { .. } | Self::Blocks { is_full: true, .. } => ErrorKind::StorageFull,
            Self::Stopped { .. } | Self::Closed => ErrorKind::Reopen,
            Self::Forked
            | Self::Invalid { .. }
            | Self::NotAStore { .. }
            | Self::FromTheFuture { .. }
            | Self::NewerContent { .. }
            | Self::FromThePast { .. } => ErrorKind::FixCall,
            Self::Locked { .. } => ErrorKind::Locked,
            Self::Corrupt { .. } | Self::SnapshotDamaged { .. } => ErrorKind::Repair,
            Self::Io { .. } | Self::Blocks { .. } => ErrorKind::Environment,
            Self::Bug { .. } => ErrorKind::Bug,
        }
    }

    /// Returns whether another release wrote the file. Such a file is not damaged, so nothing repairs it.
    pub(crate) fn is_of_another_release(&self) -> bool {
        matches!(
            self,
            Self::FromTheFuture { .. } | Self::NewerContent { .. } | Self::FromThePast { .. }
        )
    }

    /// Wraps an operating-system error; a full disk gets its own kind, because the caller can fix it.
    pub(crate) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        if is_full(&source) {
            Self::StorageFull { path: path.to_owned() }
        } else {
            Self::Io { doing, path: path.to_owned(), source }
        }
    }

    /// Copies the error for one more caller: an operating-system error cannot be cloned.
    pub(crate) fn twin(&self) -> Self {
        match self {
            Self::Timeout { what } => Self::Timeout { what },
            Self::InDoubt => Self::InDoubt,
            Self::Replaced => Self::Replaced,
            Self::StorageFull { path } => Self::StorageFull { path: path.clone() },
            Self::Stopped { why } => Self::Stopped { why: why.clone() },
            Self::Closed => Self::Closed,
            Self::Forked => Self::Forked,
            Self::Invalid { what } => Self::Invalid { what: what.clone() },
            Self::Locked { path } => Self::Locked { path: path.clone() },
            Self::NotAStore { path, why } => {
                Self::NotAStore { path: path.clone(), why: why.clone() }
            }
            Self::FromTheFuture { path, found, known } => {
                Self::FromTheFuture { path: path.clone(), found: *found, known: *known }
            }
            Self::NewerContent { path, offset, what } => {
                Self::NewerContent { path: path.clone(), offset: *offset, what: what.clone() }
            }
            Self::FromThePast { path, found, oldest } => {
                Self::FromThePast { path: path.clone(), found: *found, oldest: *oldest }
            }
            Self::Corrupt { path, offset, what } => {
                Self::Corrupt { path: path.clone(), offset: *offset, what: what.clone() }
            }
            Self::SnapshotDamaged { path, what } => {
                Self::SnapshotDamaged { path: path.clone(), what: what.clone() }
            }
            Self::SnapshotOvertaken => Self::SnapshotOvertaken,
            Self::Blocks { what, is_full } => {
                Self::Blocks { what: what.clone(), is_full: *is_full }
            }
            Self::Io { doing, path, source } => {
                let source = match source.raw_os_error() {
                    Some(code) => io::Error::from_raw_os_error(code),
                    None => io::Error::new(source.kind(), source.to_string()),
                };
                Self::Io { doing, path: path.clone(), source }
            }
            Self::Bug { what } => Self::Bug { what: what.clone() },
        }
    }

    pub(crate) fn corrupt(path: &Path, offset: u64, what: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_owned(), offset, what: what.into() }
    }

    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Self::Invalid { what: what.into() }
    }

    pub(crate) fn bug(what: impl Into<String>) -> Self {
        Self::Bug { what: what.into() }
    }
}

// Error numbers of Linux, macOS and the BSDs.
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const EFBIG: i32 = 27;

/// Returns whether an operating-system error means "no space": a full disk or an exhausted quota.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Returns whether the process or the machine lacks a resource unrelated to the file itself: descriptors, memory,
/// threads, or the permitted file size.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    let is_limit = cfg!(unix) && matches!(error.raw_os_error(), Some(ENFILE | EMFILE | EFBIG));
    is_limit || matches!(error.kind(), io::ErrorKind::OutOfMemory | io::ErrorKind::WouldBlock)
}

/// Repeats a call interrupted by a signal, but not forever: some file systems return `EINTR` as long as a signal is
/// pending.
#[cfg(target_os = "linux")]
pub(crate) fn retry_interrupted<T>(
    mut call: impl FnMut() -> rustix::io::Result<T>,
) -> rustix::io::Result<T> {
    const INTERRUPTIONS_MAX: usize = 100;
    let interrupted = rustix::io::Errno::INTR;
    let mut calls = (0..INTERRUPTIONS_MAX).map(|_| call());
    calls.find(|answer| answer.as_ref().err() != Some(&interrupted)).unwrap_or(Err(interrupted))
}

/// Returns what to do about an operating-system error whose own text does not say it.
pub(crate) fn advice(code: Option<i32>) -> &'static str {
    match code {
        Some(EMFILE) if cfg!(unix) => {
            ": raise the limit on open files of this process (`ulimit -n`, `LimitNOFILE=`)"
        }
        Some(ENFILE) if cfg!(unix) => {
            ": raise the limit on open files of the system (`fs.file-max`)"
        }
        Some(EFBIG) if cfg!(unix) => ": raise the limit on the size of a file (`ulimit -f`)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_twin_says_the_same_and_wants_the_same() {
        let (path, text) = (PathBuf::from("/a/file"), || "why".to_owned());
        let errors = [
            Error::Timeout { what: "room" },
            Error::InDoubt,
            Error::Replaced,
            Error::StorageFull { path: path.clone() },
            Error::Stopped { why: text() },
            Error::Closed,
            Error::Invalid { what: text() },
            Error::Locked { path: path.clone() },
            Error::NotAStore { path: path.clone(), why: text() },
            Error::FromTheFuture { path: path.clone(), found: 2, known: 1 },
            Error::NewerContent { path: path.clone(), offset: 3, what: text() },
            Error::FromThePast { path: path.clone(), found: 1, oldest: 2 },
            Error::Corrupt { path: path.clone(), offset: 3, what: text() },
            Error::SnapshotDamaged { path: path.clone(), what: text() },
            Error::SnapshotOvertaken,
            Error::Blocks { what: text(), is_full: true },
            Error::Blocks { what: text(), is_full: false },
            Error::io("open", &path, io::Error::from_raw_os_error(24)),
            Error::io("open", &path, io::Error::new(io::ErrorKind::PermissionDenied, "no")),
            Error::Bug { what: text() },
        ];
        for error in errors {
            let twin = error.twin();
            assert_eq!((twin.kind(), twin.to_string()), (error.kind(), error.to_string()));
        }
    }

    #[cfg(unix)]
    #[test]
    fn an_error_for_want_of_descriptors_says_which_limit_to_raise() {
        let error = |code| Error::io("open", Path::new("f"), io::Error::from_raw_os_error(code));
        assert!(error(24).to_string().contains("ulimit -n"), "{}", error(24));
        assert!(error(23).to_string().contains("fs.file-max"), "{}", error(23));
        assert!(error(5).to_string().ends_with("(os error 5)"), "{}", error(5));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn i12_a_call_that_is_interrupted_again_and_again_ends() {
        use rustix::io::Errno;
        let mut calls = 0;
        let endless = retry_interrupted::<()>(|| {
            calls += 1;
            assert!(calls < 10_000, "it spins");
            Err(Errno::INTR)
        });
        assert_eq!(endless, Err(Errno::INTR));
        let mut answers = [Ok(3), Err(Errno::INTR), Err(Errno::INTR)].into_iter().rev();
        assert_eq!(retry_interrupted(|| answers.next().expect("asked once more")), Ok(3));
        assert_eq!(retry_interrupted::<()>(|| Err(Errno::IO)), Err(Errno::IO));
    }
}
