//! The runs.

use crate::Result;
use crate::arguments::Arguments;
use crate::brokers::Broker;
use crate::plain::Plain;
use firstseen::Store;
use firstseen_consumer::{Consumer, ConsumerOptions, Failure, Handle, Job, Retries, Source};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// No run takes longer.
const RUN_MAX: Duration = Duration::from_secs(300);

/// Which loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loop {
    Plain,
    Ledger,
    Reservations,
}

pub(crate) const LOOPS: [Loop; 3] = [Loop::Plain, Loop::Ledger, Loop::Reservations];

/// Events a second of each run, for each loop of [`LOOPS`].
pub(crate) type Measured = [Vec<f64>; LOOPS.len()];

pub(crate) async fn measure<B: Broker>(arguments: &Arguments) -> Result<Measured> {
    let broker = B::start().await;
    let mut measured = Measured::default();
    // One that does not count, for caches and the server's files.
    for round in 0..=arguments.rounds {
        for (n, which) in LOOPS.into_iter().enumerate() {
            let queue = format!("price-{round}-{n}");
            broker.fill(&queue, arguments).await?;
            let source = broker.source(&queue).await?;
            let took = run(source, which, arguments).await?;
            broker.empty(&queue).await?;
            if round > 0 {
                measured[n].push(arguments.messages as f64 / took.as_secs_f64());
            }
        }
    }
    Ok(measured)
}

/// Returns how long it took from the start of the loop to the last acknowledgement.
async fn run<S: Source>(source: S, which: Loop, arguments: &Arguments) -> Result<Duration> {
    let count = arguments.messages;
    let dir = tempfile::tempdir_in(&arguments.dir)?;
    let work = arguments.work;
    let options =
        ConsumerOptions::new().workers(arguments.workers).in_flight_max(arguments.in_flight);
    let handler = move |_: Job| async move {
        pretend(work).await;
        Ok::<(), Failure>(())
    };
    match which {
        Loop::Plain => {
            let handler = move |_| pretend(work);
            let plain = Plain::new(source, handler, arguments.workers, arguments.in_flight);
            let began = Instant::now();
            let task = tokio::spawn(Arc::clone(&plain).run());
            let took = until(began, &task, || plain.acknowledged() >= count).await?;
            plain.stop();
            task.await??;
            let handled = plain.acknowledged();
            (handled == count).then_some(took).ok_or_else(|| wrong(count, handled))
        }
        Loop::Ledger => {
            let ledger = Store::open(dir.path().join("seen.db"))?.ledger("price")?;
            let consumer = Consumer::with_ledger(source, ledger, handler).options(options);
            let handle = consumer.handle();
            finish(count, &handle, Instant::now(), tokio::spawn(consumer.run())).await
        }
        Loop::Reservations => {
            let seen = Store::open(dir.path().join("seen.db"))?.namespace("price")?;
            let retries = Retries::new();
            let consumer = Consumer::with_reservations(source, seen, retries, handler);
            let consumer = consumer.options(options);
            let handle = consumer.handle();
            finish(count, &handle, Instant::now(), tokio::spawn(consumer.run())).await
        }
    }
}

async fn pretend(work: Duration) {
    if !work.is_zero() {
        sleep(work).await;
    }
}

type Ran = std::result::Result<firstseen_consumer::Counters, firstseen_consumer::Error>;

async fn finish(
    count: u64,
    handle: &Handle,
    began: Instant,
    task: JoinHandle<Ran>,
) -> Result<Duration> {
    let is_done = || {
        let now = handle.counters();
        now.first >= count && now.in_flight == 0
    };
    let took = until(began, &task, is_done).await?;
    handle.stop();
    let counters = task.await??;
    (counters.first == count).then_some(took).ok_or_else(|| wrong(count, counters.first))
}

fn wrong(count: u64, handled: u64) -> Box<dyn std::error::Error + Send + Sync> {
    format!("{handled} of {count} messages were handled: the figure would mean nothing").into()
}

async fn until<T>(
    began: Instant,
    task: &JoinHandle<T>,
    is_done: impl Fn() -> bool,
) -> Result<Duration> {
    while !is_done() {
        if task.is_finished() {
            return Err("the loop has ended by itself".into());
        }
        if began.elapsed() > RUN_MAX {
            return Err(format!("not done in {RUN_MAX:?}").into());
        }
        sleep(Duration::from_millis(1)).await;
    }
    Ok(began.elapsed())
}
