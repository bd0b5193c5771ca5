//! The process that is killed: a loop with its store.

use super::Broker;
use super::record::{Record, effects_of};
use firstseen::Store;
use firstseen::ledger::{Backoff, DeadFilter, Failure, Ledger, LedgerOptions, OnLeaseEnd};
use firstseen_consumer::testkit::{Dice, Faults, Faulty};
use firstseen_consumer::{Consumer, ConsumerOptions, Job};
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::sleep;

/// What the process is told: policy, address, seed and folder.
const JOB: &str = "FIRSTSEEN_KILLS_JOB";

/// What a process has to do.
#[derive(Debug)]
pub(super) struct Task<'a> {
    pub(super) policy: OnLeaseEnd,
    pub(super) address: &'a str,
    pub(super) seed: u64,
    pub(super) dir: &'a Path,
}

impl<'a> Task<'a> {
    /// The variable of the environment that tells a process so, and its text.
    pub(super) fn variable(&self) -> (&'static str, String) {
        let Self { policy, address, seed, dir } = self;
        (JOB, format!("{} {address} {seed} {}", name_of(*policy), dir.display()))
    }

    fn read(text: &'a str) -> Option<Self> {
        let mut words = text.splitn(4, ' ');
        let policy = match words.next()? {
            "hold" => OnLeaseEnd::Hold,
            "retry" => OnLeaseEnd::Retry,
            _ => return None,
        };
        let (address, seed) = (words.next()?, words.next()?.parse().ok()?);
        Some(Self { policy, address, seed, dir: Path::new(words.next()?) })
    }
}

pub(super) fn name_of(policy: OnLeaseEnd) -> &'static str {
    if policy == OnLeaseEnd::Hold { "hold" } else { "retry" }
}

/// Consumes until it is killed or its input ends, in a process that [`kill_both_ends`](super::kill_both_ends) has started;
/// does nothing in any other.
///
/// # Panics
///
/// The store or the loop has failed.
pub fn consume_until_killed<B: Broker>() {
    let Ok(job) = std::env::var(JOB) else { return };
    let task = Task::read(&job).unwrap_or_else(|| panic!("{JOB}={job}"));
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(consume::<B>(task));
}

async fn consume<B: Broker>(task: Task<'_>) {
    let Task { policy, address, seed, dir } = task;
    let store = Store::open(dir.join("seen.db")).expect("the store opens after a kill");
    let policies = LedgerOptions::new()
        .on_lease_end(policy)
        .attempts_max(8)
        .backoff(Backoff::constant(Duration::from_millis(30)));
    let ledger = store.ledger_with("orders", policies).expect("a ledger");
    drop(store);
    look_up_what_is_in_doubt(&ledger, dir);

    let queue = B::open(address).await;
    let faults = Faults { lost: 10, unheard: 5, ..Faults::default() };
    let source = Faulty::new(queue.source().await, faults, seed);
    let shared = Arc::new((Record::open(dir), Mutex::new(Dice::new(seed))));
    let options = ConsumerOptions::new()
        .workers(16)
        .in_flight_max(64)
        .busy_delay(Duration::from_millis(50))
        .held_delay(Duration::from_millis(50))
        .answer_max(Duration::from_secs(1))
        .poll(Duration::from_millis(100));
    let consumer = Consumer::with_ledger(source, ledger, move |job| work(Arc::clone(&shared), job))
        .options(options);
    let handle = consumer.handle();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        handle.stop();
    });
    consumer.run().await.expect("the store is well");
}

async fn work(shared: Arc<(Record, Mutex<Dice>)>, job: Job) -> Result<(), Failure> {
    let (before, after, fails) = {
        let mut dice = shared.1.lock().expect("nobody has panicked");
        (dice.below(15), dice.below(5), dice.percent(5))
    };
    sleep(Duration::from_millis(before)).await;
    if job.payload().starts_with(b"poison") {
        return Err(Failure::retry("poison"));
    }
    if fails {
        return Err(Failure::retry("not yet"));
    }
    shared.0.add(job.id());
    sleep(Duration::from_millis(after)).await;
    Ok(())
}

/// What an operator does after a crash, where effects must not be made twice: looks whether they were made.
fn look_up_what_is_in_doubt(ledger: &Ledger, dir: &Path) {
    let swept = ledger.sweep_ended().expect("a sweep");
    assert!(swept.failed.is_empty(), "{swept:?}");
    let made = effects_of(dir);
    let held = ledger.dead_letters().list(&DeadFilter::new().held()).expect("a list");
    for letter in held.letters {
        let id = letter.record.id;
        let n = std::str::from_utf8(&id).ok().and_then(|n| n.parse().ok()).expect("a number");
        if made.contains_key::<u64>(&n) {
            ledger.settle(&id, b"", "its effect was found").expect("it is held");
        } else {
            ledger.redrive(&id).expect("it is held");
        }
    }
}
