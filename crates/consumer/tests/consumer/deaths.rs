//! Messages that kill their process, and those that run beside them.

use crate::support::{LATE, PATIENCE, Running, message, options, start};
use firstseen::Store;
use firstseen::ledger::{Ledger, LedgerOptions, State};
use firstseen_consumer::testkit::MemoryBroker;
use firstseen_consumer::{Failure, Job, Source, Want};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const ATTEMPTS_MAX: u32 = 5;
const DIR: &str = "FIRSTSEEN_DEATHS_DIR";

fn ledger(dir: &Path) -> Ledger {
    let store = Store::open(dir.join("seen.db")).unwrap();
    store.ledger_with("orders", LedgerOptions::new().attempts_max(ATTEMPTS_MAX)).unwrap()
}

/// A broker whose messages were delivered before.
async fn redelivering(ids: impl Iterator<Item = String>) -> MemoryBroker {
    let broker = MemoryBroker::new(PATIENCE);
    ids.for_each(|id| broker.send(message(&id)));
    let source = broker.connect();
    let want = Want { count: usize::MAX, bytes: usize::MAX, wait: Duration::ZERO };
    for delivery in source.next(want).await.unwrap() {
        source.retry_in(&delivery.token, Duration::ZERO).await.unwrap();
    }
    broker
}

fn ids() -> impl Iterator<Item = String> {
    (0..16).map(|n| if n == 7 { "poison".to_owned() } else { n.to_string() })
}

#[test]
fn a_message_that_killed_its_process_took_those_beside_it_along_to_the_dead_letters() {
    let dir = tempfile::tempdir().unwrap();
    let mut deaths = 0;
    loop {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "deaths::the_process_that_dies"]).env(DIR, dir.path());
        child.stdout(Stdio::null()).stderr(Stdio::null());
        if child.status().unwrap().success() {
            break;
        }
        deaths += 1;
        assert!(deaths <= ATTEMPTS_MAX, "it is never given up");
    }
    let ledger = ledger(dir.path());
    for id in ids() {
        let record = ledger.get(&id).unwrap().unwrap();
        if id == "poison" {
            assert!(matches!(record.state, State::Dead { .. }), "{record:?}");
        } else {
            assert!(matches!(record.state, State::Completed { .. }), "{record:?}");
            assert!(record.attempts <= 2, "charged for the deaths of another: {record:?}");
        }
    }
    assert_eq!(deaths, ATTEMPTS_MAX);
}

/// Not a test: the process that the test above starts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_that_dies() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let broker = redelivering(ids()).await;
    let options = options().workers(16);
    let running =
        start(broker.connect(), ledger(Path::new(&dir)), options, |job: Job| async move {
            if job.id() == b"poison" {
                sleep(Duration::from_millis(50)).await;
                std::process::abort();
            }
            sleep(Duration::from_millis(150)).await;
            Ok::<(), Failure>(())
        });
    until_empty(&broker).await;
    running.stop().await;
}

async fn until_empty(broker: &MemoryBroker) {
    let end = Instant::now() + LATE;
    while broker.left() > 0 {
        assert!(Instant::now() < end, "{} messages are left", broker.left());
        sleep(Duration::from_millis(5)).await;
    }
}

/// Counts handlers at the same time, and those that ran beside a suspect.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    running: AtomicU32,
    most: AtomicU32,
    suspects: AtomicU32,
}

impl Beside {
    pub(crate) async fn work(&self, job: &Job) {
        let is_suspect = job.id().starts_with(b"suspect");
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        if is_suspect {
            assert_eq!(running, 1, "it is not alone");
            sleep(Duration::from_millis(50)).await;
            assert_eq!(self.running.load(Ordering::SeqCst), 1, "it did not stay alone");
            self.suspects.fetch_add(1, Ordering::SeqCst);
        } else {
            sleep(Duration::from_millis(10)).await;
        }
        self.running.fetch_sub(1, Ordering::SeqCst);
    }

    /// Has some work done, and checks that the suspects were alone and the others were not.
    pub(crate) async fn check(self: Arc<Self>, broker: &MemoryBroker, running: Running) {
        until_empty(broker).await;
        let counters = running.stop().await;
        let suspects = self.suspects.load(Ordering::SeqCst);
        assert_eq!((suspects, counters.alone), (3, 3), "{counters:?}");
        assert_eq!((counters.first, counters.retried, counters.dead), (43, 0, 0));
        assert!(self.most.load(Ordering::SeqCst) > 1, "all of them were alone");
    }

    /// Returns a broker with three suspects among others.
    pub(crate) async fn broker() -> MemoryBroker {
        let id = |n: u32| if n % 20 == 2 { format!("suspect {n}") } else { n.to_string() };
        redelivering((0..43).map(id)).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_have_killed_its_process_runs_alone_and_others_wait() {
    let dir = tempfile::tempdir().unwrap();
    {
        let ledger = ledger(dir.path());
        for id in ["suspect 2", "suspect 22", "suspect 42"] {
            ledger.begin(id).unwrap().started().unwrap().detach();
        }
        // Others have failed, or were handed back.
        ledger
            .begin("3")
            .unwrap()
            .started()
            .unwrap()
            .fail(Failure::retry_after("", Duration::ZERO))
            .unwrap();
        ledger.begin("4").unwrap().started().unwrap().release().unwrap();
    }
    // From here on, their process has ended. One of them was begun and handed back at a stop since.
    let ledger = ledger(dir.path());
    ledger.begin("suspect 22").unwrap().started().unwrap().release().unwrap();
    let broker = Beside::broker().await;
    let beside = Arc::new(Beside::default());
    let work = Arc::clone(&beside);
    let running = start(broker.connect(), ledger, options().workers(8), move |job: Job| {
        let work = Arc::clone(&work);
        async move {
            work.work(&job).await;
            Ok::<(), Failure>(())
        }
    });
    beside.check(&broker, running).await;
}
