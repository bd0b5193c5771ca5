//! Waiting until nobody works on an id any more. No polling: a change of the record wakes all who wait for it, once.

use crate::engine::{Bell, Watch};
use crate::error::Result;
use crate::id::Family;
use crate::ledger::handle::Ledger;
use crate::ledger::moves::Phase;
use crate::ledger::record::{Record, State};
use crate::ledger::rows::check_id;
use crate::sync::{Arc, instant_in};
use crate::time::Timestamp;
use std::future::Future;
use std::pin::Pin;
use std::sync::Weak;
use std::task::{Context, Poll};
use std::time::Duration;

/// A wait for an id, as a future; see [`Ledger::wait_async`]. Dropping it leaves nothing behind.
#[derive(Debug)]
#[must_use = "a future does nothing unless it is polled"]
pub struct Wait {
    ledger: Ledger,
    id: Vec<u8>,
    watch: Watch,
}

/// What a look at a record says.
enum Look {
    Over(Option<Record>),
    /// Somebody works on it, until this time at the latest.
    Running(Box<Record>, Timestamp),
}

impl Ledger {
    /// Waits until nobody works on the id: it is completed, failed, handed back, or its lease has ended. Returns the
    /// record as it is then, or as it is after `timeout`, whichever comes first; `None` if there is none. Blocks the
    /// thread.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn wait(&self, id: impl AsRef<[u8]>, timeout: Duration) -> Result<Option<Record>> {
        let wait = self.wait_async(id)?;
        let deadline = instant_in(timeout);
        loop {
            let heard = wait.watch.bell().rings();
            match wait.ledger.look(&wait.id)? {
                Look::Over(record) => return Ok(record),
                Look::Running(record, until) => {
                    let end = instant_in(wait.ledger.left(until)).min(deadline);
                    if !wait.watch.bell().wait_until(heard, end)
                        && instant_in(Duration::ZERO) >= deadline
                    {
                        return Ok(Some(*record));
                    }
                }
            }
        }
    }

    /// Waits as [`wait`](Self::wait) does, as a future for any runtime, and without a deadline of its own: use that of
    /// the runtime.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn wait_async(&self, id: impl AsRef<[u8]>) -> Result<Wait> {
        let id = id.as_ref();
        check_id(id)?;
        let watch = self.inner.store.engine().watch(self.rows().key(Family::LEDGER, id)?);
        Ok(Wait { ledger: self.clone(), id: id.to_vec(), watch })
    }

    fn look(&self, id: &[u8]) -> Result<Look> {
        let record = self.get(id)?;
        let now = self.now();
        match record {
            Some(record) if now.phase(Some(&record)) == Phase::Running => {
                let State::Running { until } = record.state else {
                    return Ok(Look::Over(Some(record)));
                };
                Ok(Look::Running(record.into(), until))
            }
            other => Ok(Look::Over(other)),
        }
    }

    /// Returns how long it is until then, as far as the engine's clock says now.
    fn left(&self, until: Timestamp) -> Duration {
        let left = until.as_millis().saturating_sub(self.now().at.now.as_millis());
        Duration::from_millis(left.max(1))
    }
}

/// Rings when it is dropped: its time has come, or the ledger that had set it is gone and another has to.
struct Alarm(Weak<Bell>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(bell) = self.0.upgrade() {
            bell.disarm();
        }
    }
}

impl Wait {
    /// Has the bell rung when nobody works on the id any more because its lease has ended. One alarm serves all who wait
    /// for it.
    fn set_alarm(&self, until: Timestamp) {
        let bell = self.watch.bell();
        if !bell.arm(until.as_millis()) {
            return;
        }
        let (ledger, id) = (Arc::downgrade(&self.ledger.inner), self.id.clone());
        let alarm = Alarm(Arc::downgrade(bell));
        self.ledger.inner.timer.add(self.ledger.left(until), move || {
            alarm.0.upgrade()?;
            let ledger = Ledger { inner: ledger.upgrade()? };
            match ledger.look(&id) {
                Ok(Look::Running(_, until)) => Some(ledger.left(until)),
                _ => None,
            }
        });
    }
}

impl Future for Wait {
    type Output = Result<Option<Record>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let heard = self.watch.bell().rings();
            let until = match self.ledger.look(&self.id) {
                Err(error) => return Poll::Ready(Err(error)),
                Ok(Look::Over(record)) => return Poll::Ready(Ok(record)),
                Ok(Look::Running(_, until)) => until,
            };
            if self.watch.poll(heard, cx).is_pending() {
                self.set_alarm(until);
                return Poll::Pending;
            }
        }
    }
}
