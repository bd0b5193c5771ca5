//! An async consumer: many tasks, and **at least once, with a second effect only around a crash**.
//!
//! Each task reserves, works, confirms, syncs and acknowledges, with the awaitable calls throughout. None of them blocks a
//! thread of the runtime: a reservation may be held across an `.await`, and all tasks that wait for the disk share a sync.
//!
//! The broker and the record of effects are files here, so that the program can be killed at any moment and restarted.
//! Try it: interrupt it, run it again, and look at `effects` in its folder. A test kills it at random.
//!
//! ```sh
//! cargo run --release --example tokio_consumer
//! ```

use firstseen::{ErrorKind, Reserve, Store, days};
use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex as AsyncMutex, mpsc};

/// Concurrent worker tasks.
pub(crate) const WORKERS: usize = 64;
const EVENTS: usize = 5_000;
const WORK: Duration = Duration::from_millis(2);

/// Any error a task may return.
type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let given = std::env::args().nth(1).map(PathBuf::from);
    let folder = given.unwrap_or_else(|| std::env::temp_dir().join("firstseen-example-tokio"));
    let done = run(&folder, EVENTS)?;
    let mut out = io::stdout().lock();
    writeln!(out, "{done} effects in this run; all {EVENTS} events are acknowledged")?;
    writeln!(out, "the files are in {}; remove the folder to start again", folder.display())?;
    Ok(())
}

/// Runs until the broker has nothing left to deliver. Returns the number of effects.
pub(crate) fn run(folder: &Path, events: usize) -> Result<usize, Failure> {
    fs::create_dir_all(folder)?;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_time().build()?.block_on(consume(folder, events))
}

async fn consume(folder: &Path, events: usize) -> Result<usize, Failure> {
    let store = Store::builder(folder.join("seen.db")).ttl(days(7)).open()?;
    let broker = Arc::new(Broker::open(&folder.join("acknowledged"), events)?);
    let (to_workers, deliveries) = mpsc::channel(2 * WORKERS);
    let worker = Arc::new(Worker {
        store,
        broker: Arc::clone(&broker),
        deliveries: AsyncMutex::new(deliveries),
        effects: Mutex::new(append_to(&folder.join("effects"))?),
    });
    let workers: Vec<_> =
        (0..WORKERS).map(|_| tokio::spawn(Arc::clone(&worker).work_on_all())).collect();
    drop(worker);

    // The broker redelivers until everything is acknowledged, some events twice at a time.
    while let Some(open) = broker.not_acknowledged() {
        for (n, id) in open.into_iter().enumerate() {
            let copies = if n % 5 == 0 { 2 } else { 1 };
            for _ in 0..copies {
                // Fails only if every worker has ended; their errors are returned below.
                let _ = to_workers.send(id.clone()).await;
            }
        }
        if workers.iter().any(tokio::task::JoinHandle::is_finished) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(to_workers);

    let mut done = 0;
    for worker in workers {
        done += worker.await??;
    }
    Ok(done)
}

struct Worker {
    store: Store,
    broker: Arc<Broker>,
    deliveries: AsyncMutex<mpsc::Receiver<String>>,
    effects: Mutex<File>,
}

impl Worker {
    async fn work_on_all(self: Arc<Self>) -> Result<usize, Failure> {
        let mut done = 0;
        loop {
            // A separate statement, so that the lock is released before the event is processed.
            let next = self.deliveries.lock().await.recv().await;
            let Some(id) = next else { return Ok(done) };
            done += usize::from(self.work_on(&id).await?);
        }
    }

    /// Returns whether it made the effect.
    async fn work_on(&self, id: &str) -> Result<bool, Failure> {
        let is_new = match self.store.reserve_async(id).await {
            Ok(Reserve::FirstSeen(mut held)) => {
                // If this fails, dropping `held` releases the id, and the event is redelivered.
                self.make_effect(id).await?;
                held.confirm_async().await?;
                true
            }
            // Its effect was made, perhaps a moment ago, so its claim may not be on disk yet: sync before the
            // acknowledgement here too.
            Ok(Reserve::Duplicate { .. }) => false,
            // Another task has it. Not acknowledged, so it is redelivered and then a duplicate.
            Ok(Reserve::InProgress) => return Ok(false),
            Err(e) if e.kind() == ErrorKind::Retry => return Ok(false),
            Err(e) => return Err(e.into()),
        };
        self.store.sync_async().await?;
        self.broker.acknowledge(id)?;
        Ok(is_new)
    }

    /// A real one would pass `id` on as an idempotency key. This one sleeps and writes a line.
    async fn make_effect(&self, id: &str) -> io::Result<()> {
        tokio::time::sleep(WORK).await;
        let line = format!("{id} {}\n", std::process::id());
        // One write per line: a kill can cut off only one that crosses a page of the file.
        self.effects.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes())
    }
}

/// Stands in for a broker that delivers at least once. Its acknowledgements are lines in a file, as a real one keeps
/// them outside this process.
struct Broker {
    events: Vec<String>,
    acknowledged: Mutex<(HashSet<String>, File)>,
}

impl Broker {
    fn open(path: &Path, events: usize) -> io::Result<Self> {
        let file = append_to(path)?;
        let known = fs::read_to_string(path)?.lines().map(str::to_owned).collect();
        let events = (0..events).map(|n| format!("evt-{n:06}")).collect();
        Ok(Self { events, acknowledged: Mutex::new((known, file)) })
    }

    /// `None` once everything is acknowledged.
    fn not_acknowledged(&self) -> Option<Vec<String>> {
        let acknowledged = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        let open = self.events.iter().filter(|id| !acknowledged.0.contains(*id));
        let open: Vec<String> = open.cloned().collect();
        (!open.is_empty()).then_some(open)
    }

    fn acknowledge(&self, id: &str) -> io::Result<()> {
        let mut acknowledged = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        if acknowledged.0.insert(id.to_owned()) {
            acknowledged.1.write_all(format!("{id}\n").as_bytes())?;
        }
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}
