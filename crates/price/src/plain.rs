//! The loop without dedup: what the consumer's loop is, without a store.
//!
//! A task for each delivery, no more in flight and no more handlers than there, the broker told that work goes on, and each
//! acknowledgement awaited. What it does not know is whether a message was handled before.

use firstseen_consumer::{Message, Source, Want};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// As the defaults of `ConsumerOptions`.
const POLL: Duration = Duration::from_millis(500);
const ANSWER_MAX: Duration = Duration::from_secs(10);
const BYTES_MAX: usize = 64 << 20;

pub(crate) struct Plain<S, H> {
    source: S,
    handler: H,
    workers: Semaphore,
    in_flight_max: usize,
    acknowledged: AtomicU64,
    stop: Notify,
}

impl<S, H, Fut> Plain<S, H>
where
    S: Source,
    H: Fn(Message) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send,
{
    pub(crate) fn new(source: S, handler: H, workers: usize, in_flight_max: usize) -> Arc<Self> {
        Arc::new(Self {
            source,
            handler,
            workers: Semaphore::new(workers),
            in_flight_max,
            acknowledged: AtomicU64::new(0),
            stop: Notify::new(),
        })
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Relaxed)
    }

    pub(crate) fn stop(&self) {
        self.stop.notify_one();
    }

    pub(crate) async fn run(self: Arc<Self>) -> Result<(), S::Error> {
        let mut tasks = JoinSet::new();
        loop {
            while tasks.try_join_next().is_some() {}
            let count = self.in_flight_max.saturating_sub(tasks.len());
            // In batches, as there.
            if count < self.in_flight_max.div_ceil(4) {
                tasks.join_next().await;
                continue;
            }
            let want = Want { count, bytes: BYTES_MAX, wait: POLL };
            let taken = tokio::select! {
                biased;
                taken = self.source.next(want) => taken?,
                () = self.stop.notified() => break,
            };
            for delivery in taken {
                let this = Arc::clone(&self);
                tasks.spawn(async move { this.live(delivery.message, delivery.token).await });
            }
        }
        self.source.stop().await?;
        while tasks.join_next().await.is_some() {}
        Ok(())
    }

    async fn live(&self, message: Message, token: S::Token) {
        let work = async {
            let _worker = self.workers.acquire().await;
            (self.handler)(message).await;
        };
        self.while_telling(&token, work).await;
        let told = timeout(ANSWER_MAX, self.source.acknowledge(&token)).await;
        // Otherwise it comes again.
        if matches!(told, Ok(Ok(()))) {
            self.acknowledged.fetch_add(1, Relaxed);
        }
    }

    async fn while_telling(&self, token: &S::Token, work: impl Future<Output = ()>) {
        let Some(patience) = self.source.patience() else { return work.await };
        let telling = async {
            loop {
                sleep(patience / 3).await;
                let _ = timeout(ANSWER_MAX, self.source.working(token)).await;
            }
        };
        tokio::select! {
            biased;
            () = work => {}
            () = telling => {}
        }
    }
}
