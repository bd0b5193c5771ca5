//! The relay: reads a topic, hands its messages to a sink, and removes what was delivered.

use crate::engine::{Bell, Durability, Watch};
use crate::error::{Error, Result};
use crate::ledger::Backoff;
use crate::limits;
use crate::outbox::batch::{self, Batch, Counts, Policies, Work};
use crate::outbox::schedule::Want;
use crate::outbox::sink::{Delivery, Sink};
use crate::outbox::topic::Outbox;
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering, instant_in};
use crate::time::Timestamp;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Weak;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A relay of a topic; see [`Outbox::relay`]. A handle: clones share its workers' orders to stop and its counts.
#[derive(Clone)]
pub struct Relay {
    pub(super) inner: Arc<Inner>,
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("outbox", &self.inner.outbox)
            .field("workers", &self.inner.workers)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) outbox: Outbox,
    pub(super) policies: Policies,
    workers: usize,
    is_stopped: AtomicBool,
    /// Those for which its workers wait.
    bells: Mutex<Vec<Weak<Bell>>>,
    delivered: AtomicU64,
    retried: AtomicU64,
    dead: AtomicU64,
}

/// The policies of a relay.
#[derive(Debug, Clone, PartialEq)]
pub struct RelayOptions {
    batch_max: usize,
    batch_bytes_max: usize,
    workers: usize,
    attempts_max: u32,
    backoff: Backoff,
    durability: Option<Durability>,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self {
            batch_max: 256,
            batch_bytes_max: limits::RELAY_BATCH_BYTES_MAX,
            workers: 1,
            attempts_max: 5,
            backoff: Backoff::default(),
            durability: None,
        }
    }
}

impl RelayOptions {
    /// Creates options with the defaults: one worker, batches of at most 256 messages and 1 MiB, five attempts,
    /// [`Backoff::default`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the most messages of a batch: 1 to 4,096.
    #[must_use]
    pub fn batch_max(self, batch_max: usize) -> Self {
        Self { batch_max, ..self }
    }

    /// Sets the most bytes of a batch: 1 to 1 MiB. A longer message is a batch of its own.
    #[must_use]
    pub fn batch_bytes_max(self, batch_bytes_max: usize) -> Self {
        Self { batch_bytes_max, ..self }
    }

    /// Sets how many threads [`run`](Relay::run) and [`spawn`](Relay::spawn) use: 1 to 1,024.
    #[must_use]
    pub fn workers(self, workers: usize) -> Self {
        Self { workers, ..self }
    }

    /// Sets how often a message is tried before it is a dead letter. At least once. Attempts are counted in memory: after
    /// a restart they begin anew.
    #[must_use]
    pub fn attempts_max(self, attempts_max: u32) -> Self {
        Self { attempts_max, ..self }
    }

    /// Sets how long a message waits after it has failed, and the relay while there is nobody to deliver to.
    #[must_use]
    pub fn backoff(self, backoff: Backoff) -> Self {
        Self { backoff, ..self }
    }

    /// Sets the durability of what the relay writes: that messages were delivered or are dead. The default is that of the
    /// store. With less than [`Disk`](Durability::Disk) a power cut may let some come again.
    #[must_use]
    pub fn durability(self, durability: Durability) -> Self {
        Self { durability: Some(durability), ..self }
    }

    fn check(&self) -> Result<()> {
        let within = |what: &str, value: usize, most: usize| match value {
            1.. if value <= most => Ok(()),
            _ => Err(Error::invalid(format!("{what} of {value}; give 1 to {most}"))),
        };
        within("batch_max", self.batch_max, limits::RELAY_BATCH_MAX)?;
        within("batch_bytes_max", self.batch_bytes_max, limits::RELAY_BATCH_BYTES_MAX)?;
        within("workers", self.workers, limits::RELAY_WORKERS_MAX)?;
        within("attempts_max", self.attempts_max as usize, u32::MAX as usize)
    }
}

/// What a relay has done since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RelayReport {
    /// Messages that were delivered and are removed.
    pub delivered: u64,
    /// How often a message failed and was put off.
    pub retried: u64,
    /// Messages that have become dead letters.
    pub dead: u64,
    /// When something that was put off is tried again, as far as the worker that reports this knows.
    pub next_at: Option<Timestamp>,
}

impl Outbox {
    /// Returns a relay of this topic. It does nothing until it is run.
    ///
    /// All relays of a topic in this process share what they know, so several deliver nothing twice at once, and a relay
    /// goes on where one before it was stopped: with the same counts of attempts and the same pauses.
    ///
    /// # Errors
    ///
    /// [`FixCall`](crate::ErrorKind::FixCall) for options out of bounds.
    pub fn relay(&self, options: RelayOptions) -> Result<Relay> {
        options.check()?;
        let want = Want { count: options.batch_max, bytes: options.batch_bytes_max };
        let (attempts_max, backoff) = (options.attempts_max, options.backoff);
        let durability = options.durability.unwrap_or_else(|| self.durability());
        let inner = Inner {
            outbox: self.clone(),
            policies: Policies { want, attempts_max, backoff, durability },
            workers: options.workers,
            is_stopped: AtomicBool::new(false),
            bells: Mutex::default(),
            delivered: AtomicU64::new(0),
            retried: AtomicU64::new(0),
            dead: AtomicU64::new(0),
        };
        Ok(Relay { inner: Arc::new(inner) })
    }
}

impl Relay {
    /// Delivers until [`stop`](Self::stop) is called, with the threads that the options say; this one is the first of them.
    /// Blocks.
    ///
    /// # Errors
    ///
    /// As [`Outbox::read`] and [`Outbox::acknowledge`]. Then all workers have stopped. What had been delivered and not been
    /// acknowledged is delivered again by the next relay, with the same ids. A message that is damaged is no such error: it
    /// is put off, and so are those of its key. Nor is a replay scope that is being promoted: it waits until that is over,
    /// for [`wait_max`](crate::Builder::wait_max) at most, and goes on with the topic that has the name then.
    pub fn run(&self, sink: &impl Sink) -> Result<RelayReport> {
        thread::scope(|scope| {
            let mut others = Vec::new();
            for _ in 1..self.inner.workers {
                let spawned = thread::Builder::new()
                    .name("firstseen-relay".into())
                    .spawn_scoped(scope, || self.work(sink));
                match spawned {
                    Ok(worker) => others.push(worker),
                    Err(e) => {
                        self.stop();
                        return Err(self.no_thread(e));
                    }
                }
            }
            let own = self.work(sink);
            let joined = others.into_iter().map(join).fold(Ok(()), Result::and);
            own.and(joined).map(|()| self.report())
        })
    }

    /// Delivers in the background until the result is stopped or dropped.
    ///
    /// # Errors
    ///
    /// [`Environment`](crate::ErrorKind::Environment) if no thread can be had.
    pub fn spawn(&self, sink: impl Sink + 'static) -> Result<RelayHandle> {
        let sink = Arc::new(sink);
        let handle = RelayHandle { relay: self.clone(), workers: Mutex::default() };
        for _ in 0..self.inner.workers {
            let (relay, sink) = (self.clone(), Arc::clone(&sink));
            let worker = thread::Builder::new()
                .name("firstseen-relay".into())
                .spawn(move || relay.work(&*sink))
                .map_err(|e| self.no_thread(e))?;
            handle.workers.lock().push(worker);
        }
        Ok(handle)
    }

    /// Delivers what can be delivered now, with this thread alone, and returns when nothing is left but what is put off or
    /// being delivered by others: for jobs that run from time to time.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn drain(&self, sink: &impl Sink) -> Result<RelayReport> {
        while !self.is_stopped() {
            match self.next()? {
                Work::Deliver(batch) => self.deliver(batch, sink)?,
                Work::Idle(next_at) => return Ok(RelayReport { next_at, ..self.report() }),
            }
        }
        Ok(self.report())
    }

    /// Has all workers of this relay return once they have delivered and acknowledged what they have begun, or at once if
    /// they wait. Does not wait for them. It cannot be run again: make another one.
    pub fn stop(&self) {
        self.inner.is_stopped.store(true, Ordering::Release);
        // A worker looks after it has asked for the rings of its bell. Not under the lock: bells wake user code (I9).
        let bells = self.inner.bells.lock().clone();
        bells.iter().filter_map(Weak::upgrade).for_each(|bell| bell.ring());
    }

    /// Watches the topic for a worker, which [`stop`](Self::stop) wakes, too.
    pub(super) fn watch(&self) -> Watch {
        let watch = self.inner.outbox.watch();
        self.note_bell(&watch);
        watch
    }

    /// Follows the topic as [`Outbox::follow`] does.
    pub(super) fn follow(&self, watch: &mut Watch) -> bool {
        let is_other = self.inner.outbox.follow(watch);
        if is_other {
            self.note_bell(watch);
        }
        is_other
    }

    fn note_bell(&self, watch: &Watch) {
        let mut bells = self.inner.bells.lock();
        bells.retain(|bell| bell.strong_count() > 0);
        bells.push(Arc::downgrade(watch.bell()));
    }

    /// Returns what this relay has done.
    pub fn report(&self) -> RelayReport {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Inner { delivered, retried, dead, .. } = &*self.inner;
        RelayReport {
            delivered: of(delivered),
            retried: of(retried),
            dead: of(dead),
            next_at: None,
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.inner.is_stopped.load(Ordering::Acquire)
    }

    pub(super) fn next(&self) -> Result<Work> {
        batch::take(&self.inner.outbox, &self.inner.policies)
    }

    fn note(&self, counts: Counts) {
        let Inner { delivered, retried, dead, .. } = &*self.inner;
        delivered.fetch_add(counts.delivered, Ordering::Relaxed);
        retried.fetch_add(counts.retried, Ordering::Relaxed);
        dead.fetch_add(counts.dead, Ordering::Relaxed);
    }

    /// Returns how long it is until then, as far as the engine's clock says now.
    pub(super) fn left(&self, until: Timestamp) -> Duration {
        let now = self.inner.outbox.engine().moment().now;
        Duration::from_millis(until.as_millis().saturating_sub(now.as_millis()).max(1))
    }

    fn deliver(&self, mut batch: Batch, sink: &(impl Sink + ?Sized)) -> Result<()> {
        let Inner { outbox, policies, .. } = &*self.inner;
        // Nobody is told of what a power cut may take back.
        outbox.engine().await_durable(outbox.durability(), batch.rests_on)?;
        let delivered = catch_unwind(AssertUnwindSafe(|| sink.deliver(&batch.messages)));
        let delivery = delivered.unwrap_or_else(|_| {
            tracing::error!(topic = outbox.name(), "the sink of a relay panicked");
            Delivery::panicked()
        });
        let mut settled = batch.settle(&delivery, policies, policies.durability);
        if matches!(settled, Err(Error::Replaced)) {
            // The batch is kept meanwhile, so that nobody delivers it again.
            if !outbox.engine().await_scope_end(&mut None) {
                return Err(Error::Replaced);
            }
            settled = batch.settle(&delivery, policies, policies.durability);
        }
        self.note_settled(settled)
    }

    /// Notes what was settled once no replay scope is about to end. If the topic is another one now, what was delivered
    /// belongs to what is left behind.
    pub(super) fn note_settled(&self, settled: Result<Counts>) -> Result<()> {
        match settled {
            Ok(counts) => self.note(counts),
            Err(Error::Replaced) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Delivers until the relay is stopped. An error stops all its workers.
    fn work(&self, sink: &impl Sink) -> Result<()> {
        let worked = self.work_until_stopped(&mut self.watch(), sink);
        if worked.is_err() {
            self.stop();
        }
        worked
    }

    fn work_until_stopped(&self, watch: &mut Watch, sink: &impl Sink) -> Result<()> {
        loop {
            let heard = watch.bell().rings();
            if self.is_stopped() {
                return Ok(());
            }
            if self.follow(watch) {
                continue;
            }
            match self.next()? {
                Work::Deliver(batch) => self.deliver(batch, sink)?,
                Work::Idle(until) => {
                    let pause = until.map_or(Duration::MAX, |until| self.left(until));
                    watch.bell().wait_until(heard, instant_in(pause));
                }
            }
        }
    }

    fn no_thread(&self, error: std::io::Error) -> Error {
        Error::io("start a thread for", self.inner.outbox.engine().dir(), error)
    }
}

/// A relay that works in the background. Dropping it stops it, as [`stop`](Self::stop) does.
#[must_use = "the relay is stopped when this is dropped"]
pub struct RelayHandle {
    relay: Relay,
    workers: Mutex<Vec<JoinHandle<Result<()>>>>,
}

impl fmt::Debug for RelayHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayHandle").field("relay", &self.relay).finish_non_exhaustive()
    }
}

impl RelayHandle {
    /// Returns the relay.
    pub fn relay(&self) -> &Relay {
        &self.relay
    }

    /// Stops the relay: waits until what its workers deliver is delivered and acknowledged, or their sinks have said that
    /// it is not. A relay that is made later goes on from there. Returns what it has done.
    ///
    /// # Errors
    ///
    /// What has ended it before, if that was an error; see [`Relay::run`].
    pub fn stop(self) -> Result<RelayReport> {
        self.join()?;
        Ok(self.relay.report())
    }

    fn join(&self) -> Result<()> {
        self.relay.stop();
        let workers = std::mem::take(&mut *self.workers.lock());
        let own = thread::current().id();
        // The sink itself may be what drops it.
        let others = workers.into_iter().filter(|worker| worker.thread().id() != own);
        others.map(|worker| join_result(worker.join())).fold(Ok(()), Result::and)
    }
}

impl Drop for RelayHandle {
    fn drop(&mut self) {
        if let Err(error) = self.join() {
            tracing::warn!(%error, "a relay that is dropped had ended with an error");
        }
    }
}

fn join(worker: thread::ScopedJoinHandle<'_, Result<()>>) -> Result<()> {
    join_result(worker.join())
}

fn join_result(joined: thread::Result<Result<()>>) -> Result<()> {
    joined.unwrap_or_else(|_| Err(Error::bug("a worker of a relay panicked")))
}
