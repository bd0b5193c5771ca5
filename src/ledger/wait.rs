//! Waiting until nobody works on an id any more. No polling: a change of the record wakes all who wait for it, once.

use crate::engine::{RestsOn, Watch};
use crate::error::Result;
use crate::id::{Family, ShortId};
use crate::ledger::handle::Ledger;
use crate::ledger::moves::Phase;
use crate::ledger::record::{Record, State};
use crate::ledger::rows::check_id;
use crate::sync::{Arc, instant_in};
use crate::time::Timestamp;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// A wait for an id, as a future; see [`Ledger::wait_async`]. Dropping it leaves nothing behind.
#[must_use = "a future does nothing unless it is polled"]
pub struct Wait {
    ledger: Ledger,
    id: Vec<u8>,
    watch: Watch,
    /// The wait is over, but the record is not as durable as the ledger asks.
    over: Option<(Syncing, Option<Record>)>,
}

type Syncing = Pin<Box<dyn Future<Output = Result<()>> + Send + Sync>>;

/// What a look at a record says, as it is in memory: looking waits for no disk.
struct Look {
    record: Option<Record>,
    /// Somebody works on it, until this time at the latest.
    until: Option<Timestamp>,
    rests_on: Option<RestsOn>,
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
            let look = wait.ledger.look(&wait.id)?;
            let is_over = look.until.is_none_or(|until| {
                let end = instant_in(wait.ledger.left(until)).min(deadline);
                let has_rung = wait.watch.bell().wait_until(heard, end);
                !has_rung && instant_in(Duration::ZERO) >= deadline
            });
            if is_over {
                let durability = wait.ledger.rows().durability;
                self.inner.store.engine().await_durable(durability, look.rests_on)?;
                return Ok(look.record);
            }
        }
    }

    /// Waits as [`wait`](Self::wait) does, as a future for any runtime, and without a deadline of its own: use that of
    /// the runtime.
    ///
    /// A poll reads the record, which takes some microseconds and, where its value is not in memory, a short read of the
    /// disk. It waits for no sync: at [`Durability::Disk`](crate::Durability::Disk) the future is pending until the
    /// record that it returns is on disk. Healing a damaged block may take milliseconds, as in
    /// [`Store::claim_async`](crate::Store::claim_async).
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn wait_async(&self, id: impl AsRef<[u8]>) -> Result<Wait> {
        let id = id.as_ref();
        check_id(id)?;
        let watch = self.inner.store.engine().watch(self.rows().key(Family::LEDGER, id)?);
        Ok(Wait { ledger: self.clone(), id: id.to_vec(), watch, over: None })
    }

    fn look(&self, id: &[u8]) -> Result<Look> {
        let (found, rests_on) = self.rows().look(id)?;
        let record = found.map(|found| found.record);
        let until = match &record {
            Some(record @ Record { state: State::Running { until }, .. })
                if self.now().phase(Some(record)) == Phase::Running =>
            {
                Some(*until)
            }
            _ => None,
        };
        Ok(Look { record, until, rests_on })
    }

    /// Returns how long it is until a time that a record names, by the store's clock; zero if that has passed. For who
    /// comes back when a retry is due or a lease ends.
    pub fn time_until(&self, then: Timestamp) -> Duration {
        Duration::from_millis(then.as_millis().saturating_sub(self.now().at.now.as_millis()))
    }

    /// Returns how long it is until then, as far as the engine's clock says now.
    fn left(&self, until: Timestamp) -> Duration {
        let left = until.as_millis().saturating_sub(self.now().at.now.as_millis());
        Duration::from_millis(left.max(1))
    }
}

impl Wait {
    /// Has the bell rung when nobody works on the id any more because its lease has ended. One alarm serves all who wait
    /// for it.
    fn set_alarm(&self, until: Timestamp) -> Result<()> {
        let started = self.ledger.inner.store.engine().alarms()?;
        let pause = self.ledger.left(until);
        self.watch.bell().arm(until.as_millis(), |alarm| {
            let (ledger, id) = (Arc::downgrade(&self.ledger.inner), self.id.clone());
            started.add(pause, move || {
                let ledger = Ledger { inner: ledger.upgrade()? };
                let look = || Some(ledger.look(&id).ok()?.until?.as_millis());
                let until = alarm.look_again(look)?;
                Some(ledger.left(Timestamp::from_millis(until)))
            })
        });
        Ok(())
    }

    /// Returns the record, once it is as durable as the ledger asks.
    fn finish(&mut self, look: Look, cx: &mut Context<'_>) -> Poll<Result<Option<Record>>> {
        let Look { record, rests_on, .. } = look;
        let store = self.ledger.inner.store.clone();
        let durability = self.ledger.rows().durability;
        if store.engine().unsynced(durability, rests_on)?.is_none() {
            return Poll::Ready(Ok(record));
        }
        let syncing = Box::pin(async move { store.durable(durability, rests_on).await });
        self.over = Some((syncing, record));
        self.poll_over(cx)
    }

    /// Polls what [`finish`](Self::finish) waits for.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Record>>> {
        let Some((syncing, _)) = &mut self.over else { return Poll::Pending };
        let synced = ready!(syncing.as_mut().poll(cx));
        let record = self.over.take().and_then(|(_, record)| record);
        Poll::Ready(synced.map(|()| record))
    }
}

impl Future for Wait {
    type Output = Result<Option<Record>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.over.is_some() {
            return self.poll_over(cx);
        }
        loop {
            let heard = self.watch.bell().rings();
            let look = self.ledger.look(&self.id)?;
            let Some(until) = look.until else { return self.finish(look, cx) };
            if self.watch.poll(heard, cx).is_pending() {
                self.set_alarm(until)?;
                return Poll::Pending;
            }
        }
    }
}

impl fmt::Debug for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait")
            .field("ledger", &self.ledger)
            .field("id", &ShortId(&self.id))
            .finish_non_exhaustive()
    }
}
