//! What background work failed with last, for those who wait for it (I12): the cause, and no silence.

use crate::error::{Error, Result};
use crate::sync::Mutex;

/// The last failure of work that is tried again until it succeeds.
#[derive(Debug, Default)]
pub(super) struct LastFailure {
    /// With the number of attempts that have failed in a row.
    last: Mutex<Option<(Error, u32)>>,
}

impl LastFailure {
    /// Takes note of how an attempt has ended. Answers whether those who wait should look again.
    pub(super) fn note<T>(&self, attempt: &Result<T>) -> bool {
        let mut last = self.last.lock();
        match attempt {
            Ok(_) => *last = None,
            Err(error) => {
                let before = last.as_ref().map_or(0, |(_, failed)| *failed);
                *last = Some((error.twin(), before.saturating_add(1)));
            }
        }
        last.is_some()
    }

    /// The error, if waiting for the next attempt is of no use. A full disk needs somebody who makes room. Of anything
    /// else the next attempt may be free, as of a block store that is opened again after its fault: so one failure is
    /// not told before the deadline, and two in a row are.
    pub(super) fn lasting(&self) -> Option<Error> {
        self.told(|error, failed| failed > 1 || matches!(error, Error::StorageFull { .. }))
    }

    /// The error, for somebody who has waited long enough.
    pub(super) fn any(&self) -> Option<Error> {
        self.told(|_, _| true)
    }

    fn told(&self, is_told: impl Fn(&Error, u32) -> bool) -> Option<Error> {
        let last = self.last.lock();
        last.as_ref().filter(|(error, failed)| is_told(error, *failed)).map(|(e, _)| e.twin())
    }
}
