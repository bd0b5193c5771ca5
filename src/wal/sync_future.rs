//! Waiting for a sync without blocking a thread.
//!
//! Futures enter the location they wait for. One background job syncs up to the highest and wakes all that are covered,
//! so any number of futures share a sync, with each other and with the threads of the group commit.

use crate::error::Result;
use crate::wal::Lsn;
use crate::wal::writer::Log;
use std::future::poll_fn;
use std::task::Poll;

impl Log {
    /// Returns once everything before `lsn` is on disk, as [`sync_for_caller`](Self::sync_for_caller) does. `call` makes
    /// the job run that calls [`sync_for_futures`](Self::sync_for_futures).
    pub(crate) async fn synced(&self, lsn: Lsn, call: impl Fn()) -> Result<()> {
        if self.durable() >= lsn {
            return Ok(());
        }
        let place = self.futures.place(lsn);
        self.commit.arrive();
        poll_fn(|cx| {
            if self.durable() >= lsn {
                return Poll::Ready(Ok(()));
            }
            // Entered before the look: whoever syncs or stops the store afterwards finds the waker. If others are
            // entered, the job is awake and finds this one, too.
            if place.enter(cx.waker()) {
                call();
            }
            if self.durable() >= lsn {
                return Poll::Ready(Ok(()));
            }
            match self.config.health.check() {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            }
        })
        .await
    }

    /// Syncs for the futures that wait, until none does. After an error the store has stopped, and they are woken like
    /// all who wait.
    pub(crate) fn sync_for_futures(&self) -> Result<()> {
        while let Some(lsn) = self.futures.last() {
            self.sync_for_caller(lsn)?;
            self.futures.wake_up_to(self.durable());
        }
        Ok(())
    }

    /// Wakes every future that waits for a sync, to check again: the store was closed or has stopped.
    pub(crate) fn wake_futures(&self) {
        self.futures.wake_all();
    }

    /// Returns how many futures wait for a sync.
    #[cfg(feature = "testing")]
    pub(crate) fn waiting_futures(&self) -> usize {
        self.futures.waiting()
    }
}
