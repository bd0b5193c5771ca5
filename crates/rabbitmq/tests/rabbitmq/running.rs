//! A loop that runs.

use crate::queue::LATE;
use firstseen::Store;
use firstseen::ledger::{Backoff, LedgerOptions};
use firstseen_consumer::{
    Consumer, ConsumerOptions, Counters, Error, Failure, Handle, Job, Source,
};
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

pub(crate) struct Running {
    handle: Handle,
    task: JoinHandle<Result<Counters, Error>>,
}

impl Running {
    pub(crate) fn start<S, F, Fut>(source: S, dir: &Path, work: F) -> Self
    where
        S: Source,
        F: Fn(Job) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let backoff = Backoff::constant(Duration::from_millis(50));
        let policies = LedgerOptions::new().attempts_max(3).backoff(backoff);
        let store = Store::open(dir.join("seen.db")).unwrap();
        let ledger = store.ledger_with("rules", policies).unwrap();
        let options = ConsumerOptions::new().busy_delay(Duration::from_millis(100));
        let options = options.poll(Duration::from_millis(100)).lag_every(Duration::from_millis(50));
        let consumer = Consumer::with_ledger(source, ledger, work).options(options);
        Self { handle: consumer.handle(), task: tokio::spawn(consumer.run()) }
    }

    /// Waits until the counters say so.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(&Counters) -> bool) {
        let end = Instant::now() + LATE;
        while !is_so(&self.handle.counters()) {
            assert!(Instant::now() < end, "{what}: {:?}", self.handle.counters());
            assert!(!self.task.is_finished(), "the loop has ended by itself");
            sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn stop(self) -> Counters {
        self.handle.stop();
        self.task.await.unwrap().unwrap()
    }
}
