//! A broker, a store and a loop.

use firstseen::Store;
use firstseen::ledger::{Backoff, Ledger, LedgerOptions, Record};
use firstseen_consumer::testkit::MemoryBroker;
use firstseen_consumer::{
    Consumer, ConsumerOptions, Counters, Error, Failure, Handle, Job, Message, Source,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// How long anything may take on a machine with other work.
pub(crate) const LATE: Duration = Duration::from_secs(60);

/// How long the broker waits for an answer: so long that a busy machine makes no delivery come again.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) broker: MemoryBroker,
    pub(crate) store: Store,
    /// After the store, which is in it.
    _dir: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with_patience(PATIENCE)
    }

    pub(crate) fn with_patience(patience: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("seen.db")).unwrap();
        Self { broker: MemoryBroker::new(patience), store, _dir: dir }
    }

    pub(crate) fn send(&self, id: &str) {
        self.broker.send(message(id));
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.ledger_with(policies())
    }

    pub(crate) fn ledger_with(&self, policies: LedgerOptions) -> Ledger {
        self.store.ledger_with("orders", policies).unwrap()
    }

    pub(crate) fn record(&self, id: &str) -> Record {
        self.ledger().get(id).unwrap().expect("there is a record")
    }

    /// Starts a loop over the ledger of this world.
    pub(crate) fn start<F, Fut, T>(&self, options: ConsumerOptions, work: F) -> Running
    where
        F: Fn(Job) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, Failure>> + Send + 'static,
        T: Into<firstseen_consumer::Answer> + 'static,
    {
        start(self.broker.connect(), self.ledger(), options, work)
    }

    /// Waits until the broker has nothing left.
    pub(crate) async fn until_empty(&self) {
        let end = Instant::now() + LATE;
        while self.broker.left() > 0 {
            assert!(Instant::now() < end, "{} messages are left", self.broker.left());
            sleep(Duration::from_millis(5)).await;
        }
    }
}

pub(crate) fn message(id: &str) -> Message {
    Message::new(id.to_owned(), format!("payload of {id}"))
}

pub(crate) fn policies() -> LedgerOptions {
    LedgerOptions::new().attempts_max(3).backoff(Backoff::constant(Duration::from_millis(30)))
}

/// Options for a test that does not wait long.
pub(crate) fn options() -> ConsumerOptions {
    ConsumerOptions::new()
        .poll(Duration::from_millis(50))
        .busy_delay(Duration::from_millis(50))
        .held_delay(Duration::from_millis(100))
        .lag_every(Duration::from_millis(20))
}

pub(crate) fn start<S, F, Fut, T>(
    source: S,
    ledger: Ledger,
    options: ConsumerOptions,
    work: F,
) -> Running
where
    S: Source,
    F: Fn(Job) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, Failure>> + Send + 'static,
    T: Into<firstseen_consumer::Answer> + 'static,
{
    let consumer = Consumer::with_ledger(source, ledger, work).options(options);
    let handle = consumer.handle();
    Running::of(handle, consumer.run())
}

pub(crate) struct Running {
    pub(crate) handle: Handle,
    pub(crate) task: JoinHandle<Result<Counters, Error>>,
    ended: Arc<Mutex<Option<String>>>,
}

impl Running {
    pub(crate) fn of(
        handle: Handle,
        run: impl Future<Output = Result<Counters, Error>> + Send + 'static,
    ) -> Self {
        let ended = Arc::new(Mutex::new(None));
        let told = Arc::clone(&ended);
        let task = tokio::spawn(async move {
            let result = run.await;
            *told.lock().unwrap() = Some(format!("{result:?}"));
            result
        });
        Self { handle, task, ended }
    }

    pub(crate) async fn until(&self, is_so: impl Fn(&Counters) -> bool) -> Counters {
        let end = Instant::now() + LATE;
        loop {
            let now = self.handle.counters();
            if is_so(&now) {
                return now;
            }
            assert!(Instant::now() < end, "it never comes to that: {now:?}");
            let ended = self.ended.lock().unwrap().clone();
            assert!(ended.is_none(), "the loop has ended by itself: {ended:?}");
            assert!(!self.task.is_finished(), "the loop has panicked");
            sleep(Duration::from_millis(2)).await;
        }
    }

    pub(crate) async fn stop(self) -> Counters {
        let now = self.stop_in_order().await;
        let ends = now.first + now.duplicates + now.put_off + now.dead + now.handed_back;
        assert_eq!(
            now.delivered,
            ends + now.retried,
            "all that came has come to something: {now:?}"
        );
        now
    }

    /// In order, a delivery may be tried several times, so the counters do not add up.
    pub(crate) async fn stop_in_order(self) -> Counters {
        self.handle.stop();
        let now = self.task.await.expect("no panic").expect("the store is well");
        assert_eq!((now.in_flight, now.in_flight_bytes, now.working), (0, 0, 0));
        now
    }
}

/// What was done, outside of store and broker.
#[derive(Debug, Clone, Default)]
pub(crate) struct Effects(Arc<Mutex<Vec<String>>>);

impl Effects {
    pub(crate) fn add(&self, job: &Job) {
        self.0.lock().unwrap().push(String::from_utf8_lossy(job.id()).into_owned());
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn sorted(&self) -> Vec<String> {
        let mut all = self.all();
        all.sort();
        all
    }
}
