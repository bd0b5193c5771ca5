//! The last failure of background work, so that callers waiting for it get the cause instead of silence (I12).

use crate::error::{Error, ErrorKind, Result};
use crate::sync::Mutex;

/// The last failure of work that is retried until it succeeds.
#[derive(Debug, Default)]
pub(in crate::engine) struct LastFailure {
    /// The error, and how many attempts have failed in a row.
    last: Mutex<Option<(Error, u32)>>,
}

impl LastFailure {
    /// Records the outcome of an attempt. Returns whether waiters should check again.
    pub(in crate::engine) fn note<T>(&self, attempt: &Result<T>) -> bool {
        let mut last = self.last.lock();
        match attempt {
            Ok(_) => *last = None,
            // It came at a moment when nothing could be done, such as while the block store was being opened again: that is
            // no cause, and must not hide the one before it.
            Err(error) if error.kind() == ErrorKind::Retry => {}
            Err(error) => {
                let before = last.as_ref().map_or(0, |(_, failed)| *failed);
                *last = Some((error.twin(), before.saturating_add(1)));
            }
        }
        last.is_some()
    }

    /// Returns the error if waiting for the next attempt is pointless. A full disk needs somebody to free space. Any
    /// other failure may be gone at the next attempt, such as that of a block store reopened after a fault: so one
    /// failure is not reported before the deadline, but two in a row are.
    pub(in crate::engine) fn lasting(&self) -> Option<Error> {
        self.told(|error, failed| failed > 1 || error.kind() == ErrorKind::StorageFull)
    }

    /// Returns the error, for a caller that has waited long enough.
    pub(in crate::engine) fn any(&self) -> Option<Error> {
        self.told(|_, _| true)
    }

    fn told(&self, is_told: impl Fn(&Error, u32) -> bool) -> Option<Error> {
        let last = self.last.lock();
        last.as_ref().filter(|(error, failed)| is_told(error, *failed)).map(|(e, _)| e.twin())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_at_a_bad_moment_is_no_cause_and_hides_none() {
        let failure = LastFailure::default();
        let blocks = |is_full| Error::Blocks { what: "insert".to_owned(), is_full };
        let reopening = || Err::<(), _>(Error::Timeout { what: "the sled folder" });
        assert!(!failure.note(&reopening()));
        assert!(failure.any().is_none());
        failure.note(&Err::<(), _>(blocks(false)));
        failure.note(&reopening());
        assert!(failure.lasting().is_none(), "one failure may be gone at the next attempt");
        failure.note(&Err::<(), _>(blocks(true)));
        failure.note(&reopening());
        let told = failure.lasting().expect("a full disk stays full");
        assert_eq!(told.kind(), ErrorKind::StorageFull);
    }
}
