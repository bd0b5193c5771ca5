//! Nothing is acknowledged before what it rests on is on disk.

use crate::support::{LATE, PATIENCE, message, options, policies, start};
use firstseen::disk::sim::{Fault, SimDisk};
use firstseen::ledger::{Ledger, State};
use firstseen::{ErrorKind, Store};
use firstseen_consumer::testkit::{MemoryBroker, MemorySource, MemoryToken};
use firstseen_consumer::{Delivery, Error, Failure, Message, Source, Want};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

fn open(disk: &SimDisk) -> (Store, Ledger) {
    let builder = Store::builder("/seen.db").disk(disk.clone()).shards(2);
    let store = builder.memory_budget(4 << 20).segment_bytes(4 << 20).open().unwrap();
    let ledger = store.ledger_with("orders", policies()).unwrap();
    (store, ledger)
}

/// Cuts the power at an acknowledgement or dead letter, and lists what was said to the broker until then.
struct Cutting {
    source: MemorySource,
    disk: SimDisk,
    at: usize,
    told: Arc<Mutex<Told>>,
}

#[derive(Default)]
struct Told {
    ids: BTreeMap<u64, String>,
    done: Vec<String>,
    dead: Vec<String>,
    /// The disk after the cut.
    after: Option<SimDisk>,
}

impl Cutting {
    fn tell(&self, token: MemoryToken, is_dead: bool) {
        let mut told = self.told.lock().unwrap();
        if told.after.is_some() {
            return;
        }
        let id = told.ids[&token.number()].clone();
        if is_dead {
            told.dead.push(id);
        } else {
            told.done.push(id);
        }
        if told.done.len() + told.dead.len() == self.at {
            told.after = Some(self.disk.lose_unsynced());
        }
    }
}

impl Source for Cutting {
    type Token = MemoryToken;
    type Error = Infallible;

    async fn next(&self, want: Want) -> Result<Vec<Delivery<MemoryToken>>, Infallible> {
        let taken = self.source.next(want).await?;
        let id = |message: &Message| String::from_utf8_lossy(message.id.as_ref().unwrap()).into();
        let ids = taken.iter().map(|delivery| (delivery.token.number(), id(&delivery.message)));
        self.told.lock().unwrap().ids.extend(ids);
        Ok(taken)
    }

    async fn acknowledge(&self, token: &MemoryToken) -> Result<(), Infallible> {
        self.tell(*token, false);
        self.source.acknowledge(token).await
    }

    async fn retry_in(&self, token: &MemoryToken, delay: Duration) -> Result<(), Infallible> {
        self.source.retry_in(token, delay).await
    }

    async fn dead_letter(
        &self,
        message: &Message,
        token: &MemoryToken,
        reason: &str,
    ) -> Result<(), Infallible> {
        self.tell(*token, true);
        self.source.dead_letter(message, token, reason).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i6_what_is_acknowledged_or_dead_is_so_after_a_power_cut_too() {
    for at in [1, 2, 3, 5, 8, 13, 21, 34, 55, 60] {
        let disk = SimDisk::new();
        let (store, ledger) = open(&disk);
        let broker = MemoryBroker::new(Duration::from_secs(60));
        for n in 0..30 {
            broker.send(message(&n.to_string()));
            // The second of two may be acknowledged as a duplicate while the first is not on disk.
            broker.send(message(&n.to_string()));
        }
        let told = Arc::new(Mutex::new(Told::default()));
        let source = Cutting { source: broker.connect(), disk, at, told: Arc::clone(&told) };
        let running = start(source, ledger, options(), |job| async move {
            if job.id().ends_with(b"7") { Err(Failure::last("poison")) } else { Ok(()) }
        });
        let end = Instant::now() + LATE;
        while told.lock().unwrap().after.is_none() {
            assert!(Instant::now() < end, "{:?}", running.handle.counters());
            sleep(Duration::from_millis(1)).await;
        }
        // It ends in one way or the other, on a disk without power.
        running.handle.stop();
        let _ = timeout(LATE, running.task).await.expect("it ends");
        drop(store);
        let told = told.lock().unwrap();
        let (_store, ledger) = open(told.after.as_ref().unwrap());
        let state = |id: &String| ledger.get(id).unwrap().map(|record| record.state);
        for id in &told.done {
            let state = state(id);
            assert!(matches!(state, Some(State::Completed { .. })), "cut at {at}: {id} {state:?}");
        }
        for id in &told.dead {
            let state = state(id);
            assert!(matches!(state, Some(State::Dead { .. })), "cut at {at}: {id} {state:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_sync_serves_many_messages() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("seen.db")).unwrap();
    let ledger = store.ledger_with("orders", policies()).unwrap();
    let broker = MemoryBroker::new(Duration::from_secs(10));
    for n in 0..2_000 {
        broker.send(message(&n.to_string()));
    }
    let before = store.stats().log_syncs;
    let running = start(broker.connect(), ledger, options(), |_| async { Ok(()) });
    running.until(|now| now.first == 2_000).await;
    running.stop().await;
    let syncs = store.stats().log_syncs - before;
    assert!((1..=500).contains(&syncs), "{syncs} syncs for 2,000 messages");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_a_store_that_cannot_sync_ends_the_loop_and_nothing_is_acknowledged() {
    let disk = SimDisk::new();
    let (store, ledger) = open(&disk);
    let broker = MemoryBroker::new(PATIENCE);
    broker.send(message("a"));
    let failing = disk.clone();
    let running = start(broker.connect(), ledger, options(), move |_| {
        // From here on, the disk does nothing any more.
        failing.fail_at(failing.ops(), Fault::Error(io::ErrorKind::Other), true);
        async { Ok(()) }
    });
    let ended = timeout(LATE, running.task).await.expect("it ends by itself").unwrap();
    let Err(Error::Store(error)) = ended else { panic!("{ended:?}") };
    assert!(matches!(error.kind(), ErrorKind::Reopen | ErrorKind::Environment), "{error}");
    assert_eq!(broker.left(), 1, "it was acknowledged");
    drop(store);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_wait_at_the_broker_while_the_disk_is_full() {
    let disk = SimDisk::new();
    let (_store, ledger) = open(&disk);
    let broker = MemoryBroker::new(PATIENCE);
    disk.set_capacity(Some(disk.used()));
    for n in 0..12 {
        broker.send(Message::new(n.to_string(), vec![b'x'; 1 << 20]));
    }
    let running = start(broker.connect(), ledger, options(), |_| async { Ok(()) });
    running.until(|now| now.put_off >= 1).await;
    disk.set_capacity(None);
    running.until(|now| now.first == 12).await;
    running.stop().await;
}
