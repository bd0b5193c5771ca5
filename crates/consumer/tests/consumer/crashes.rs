//! A loop that is dropped at random moments, over a broker with every fault, by a seed.

use crate::support::{Running, message, options, start};
use firstseen::Store;
use firstseen::ledger::{Backoff, DeadFilter, Failure, Ledger, LedgerOptions, OnLeaseEnd};
use firstseen_consumer::Job;
use firstseen_consumer::testkit::{Dice, Faults, Faulty, MemoryBroker};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::sleep;

/// Opens the store as soon as the tasks of the dropped loop are gone.
async fn open(dir: &Path, policy: OnLeaseEnd) -> Ledger {
    for _ in 0..2_000 {
        match Store::open(dir.join("seen.db")) {
            Ok(store) => {
                let policies = LedgerOptions::new()
                    .on_lease_end(policy)
                    .attempts_max(20)
                    .backoff(Backoff::constant(Duration::from_millis(10)));
                return store.ledger_with("orders", policies).unwrap();
            }
            Err(_) => sleep(Duration::from_millis(2)).await,
        }
    }
    panic!("a task of a dropped loop keeps the store open");
}

/// How often each id had its effect, outside of store and broker.
type Made = Arc<Mutex<BTreeMap<String, u32>>>;

fn run(broker: &MemoryBroker, ledger: Ledger, made: &Made, seed: u64) -> Running {
    let source = Faulty::new(broker.connect(), Faults::all(10), seed);
    let (made, dice) = (Arc::clone(made), Arc::new(Mutex::new(Dice::new(seed))));
    start(source, ledger, options().workers(8), move |job: Job| {
        let (made, dice) = (Arc::clone(&made), Arc::clone(&dice));
        async move {
            let (before, after, fails) = {
                let mut dice = dice.lock().unwrap();
                (dice.below(4), dice.below(4), dice.percent(20))
            };
            sleep(Duration::from_millis(before)).await;
            if fails {
                return Err(Failure::retry("not yet"));
            }
            let id = String::from_utf8_lossy(job.id()).into_owned();
            *made.lock().unwrap().entry(id).or_default() += 1;
            sleep(Duration::from_millis(after)).await;
            Ok(())
        }
    })
}

async fn crash(policy: OnLeaseEnd, seed: u64) {
    let (dir, broker) =
        (tempfile::tempdir().unwrap(), MemoryBroker::new(Duration::from_millis(300)));
    let made = Made::default();
    let mut dice = Dice::new(seed);
    for n in 0..300 {
        broker.send(message(&n.to_string()));
        if n % 7 == 0 {
            broker.send(message(&n.to_string()));
        }
    }
    let mut crashes = 0;
    while broker.left() > 0 {
        assert!(crashes < 1_000, "it never ends: {} are left", broker.left());
        let ledger = open(dir.path(), policy).await;
        if policy == OnLeaseEnd::Hold {
            look_up(&ledger, &made.lock().unwrap());
        }
        let running = run(&broker, ledger, &made, dice.any());
        sleep(Duration::from_millis(30 + dice.below(150))).await;
        running.task.abort();
        // Whether it ended by itself is asked by the assertions below.
        let _ = running.task.await;
        crashes += 1;
    }
    let made = made.lock().unwrap();
    assert_eq!(made.len(), 300, "lost, seed {seed}");
    let again: u32 = made.values().map(|count| count - 1).sum();
    match policy {
        OnLeaseEnd::Hold => assert_eq!(again, 0, "made again, seed {seed}: {made:?}"),
        _ => assert!(again <= crashes * 8, "made again without a crash, seed {seed}: {again}"),
    }
    assert!(broker.dead_letters().is_empty(), "{:?}", broker.dead_letters());
}

/// What an operator does after a crash: looks whether an effect in doubt was made.
fn look_up(ledger: &Ledger, made: &BTreeMap<String, u32>) {
    assert!(ledger.sweep_ended().unwrap().failed.is_empty());
    for letter in ledger.dead_letters().list(&DeadFilter::new().held()).unwrap().letters {
        let id = letter.record.id;
        if made.contains_key(std::str::from_utf8(&id).unwrap()) {
            ledger.settle(&id, b"", "its effect was found").unwrap();
        } else {
            ledger.redrive(&id).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_crashes_and_faults_no_effect_is_lost_and_few_are_made_again() {
    for seed in 1..=3 {
        crash(OnLeaseEnd::Retry, seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_crashes_and_faults_each_effect_is_made_once_where_what_is_in_doubt_is_looked_up() {
    for seed in 11..=13 {
        crash(OnLeaseEnd::Hold, seed).await;
    }
}
