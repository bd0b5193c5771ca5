//! The relay as a future, for any runtime.

use crate::engine::{Durability, Watch};
use crate::error::{Error, Result};
use crate::outbox::batch::{Batch, Work};
use crate::outbox::relay::{Inner, Relay, RelayReport};
use crate::outbox::sink::{AsyncSink, Delivery};
use crate::time::Timestamp;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

impl Relay {
    /// Delivers until [`stop`](Self::stop) is called, as a future for any runtime: one worker, whatever the options say.
    /// For several workers poll several of these futures.
    ///
    /// It waits for messages, for pauses and for the disk without blocking its thread; reading and acknowledging take some
    /// microseconds a message. Dropped while a batch is delivered, none of that batch counts as delivered, and it comes
    /// again.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub async fn run_async(&self, sink: &impl AsyncSink) -> Result<RelayReport> {
        let worked = self.work_async(sink).await;
        if worked.is_err() {
            self.stop();
        }
        worked.map(|()| self.report())
    }

    async fn work_async(&self, sink: &impl AsyncSink) -> Result<()> {
        let mut watch = self.watch();
        loop {
            let heard = watch.bell().rings();
            if self.is_stopped() {
                return Ok(());
            }
            if self.follow(&mut watch) {
                continue;
            }
            match self.next()? {
                Work::Deliver(batch) => self.deliver_async(batch, sink).await?,
                Work::Idle(until) => {
                    if let Some(until) = until {
                        self.set_alarm(&watch, until)?;
                    }
                    poll_fn(|cx| watch.poll(heard, cx)).await;
                }
            }
        }
    }

    async fn deliver_async(&self, mut batch: Batch, sink: &impl AsyncSink) -> Result<()> {
        let Inner { outbox, policies, .. } = &*self.inner;
        // Nobody is told of what a power cut may take back.
        outbox.store.durable(outbox.durability(), batch.rests_on).await?;
        let delivery = caught(sink.deliver(&batch.messages)).await.unwrap_or_else(|| {
            tracing::error!(topic = outbox.name(), "the sink of a relay panicked");
            Delivery::panicked()
        });
        let at_once = policies.durability.min(Durability::Process);
        let mut settled = batch.settle(&delivery, policies, at_once);
        if matches!(settled, Err(Error::Replaced)) {
            // The batch is kept meanwhile, so that nobody delivers it again.
            if !outbox.engine().scope_end(&mut None).await? {
                return Err(Error::Replaced);
            }
            settled = batch.settle(&delivery, policies, at_once);
        }
        self.note_settled(settled)?;
        let rests_on = outbox.engine().sync_point()?;
        outbox.store.durable(policies.durability, Some(rests_on)).await
    }

    /// Has the bell of a watch rung at this time.
    fn set_alarm(&self, watch: &Watch, until: Timestamp) -> Result<()> {
        let started = self.inner.outbox.engine().alarms()?;
        let pause = self.left(until);
        watch.bell().arm(until.as_millis(), |alarm| {
            // Dropping it rings.
            let mut alarm = Some(alarm);
            started.add(pause, move || {
                drop(alarm.take());
                None
            })
        });
        Ok(())
    }
}

/// Runs a future of the user. Returns `None` if it panics.
async fn caught<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(value)) => Poll::Ready(Some(value)),
        Err(_) => Poll::Ready(None),
    })
    .await
}
