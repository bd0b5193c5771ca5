//! The loop of a pipeline: joins the group, takes batches, tries again what may pass, and stops.

use crate::error::KafkaError;
use crate::group::{Alarm, Client, Member};
use crate::pipeline_error::PipelineError;
use crate::reader::{Admission, Limits, Reader, Taken};
use crate::settings::{KafkaStart, Settings};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// After an error: the first pause, doubled each time, and the longest.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// After a partition was taken over by somebody else.
const FENCED_PAUSE: Duration = Duration::from_secs(1);

/// How long a call of a client waits for an answer.
pub(crate) const CALL_MAX: Duration = Duration::from_secs(30);

/// The settings of a pipeline: [`KafkaPipeline`](crate::KafkaPipeline) and [`KafkaTransform`](crate::KafkaTransform).
#[derive(Debug, Clone)]
pub struct PipelineOptions {
    pub(crate) start: KafkaStart,
    pub(crate) adopts: bool,
    pub(crate) limits: Limits,
    pub(crate) settings: Settings,
}

impl Default for PipelineOptions {
    fn default() -> Self {
        Self {
            start: KafkaStart::Earliest,
            adopts: false,
            limits: Limits { records: 500, bytes: 1 << 20, display_every: Duration::from_secs(1) },
            settings: Settings::default(),
        }
    }
}

impl PipelineOptions {
    /// Creates options with the defaults, which stand at each setting.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets where reading begins in a partition that neither the store nor the group knows: [`KafkaStart::Earliest`].
    #[must_use]
    pub fn start(self, start: KafkaStart) -> Self {
        Self { start, ..self }
    }

    /// Sets whether to go on where somebody else of the group has stopped, if that is further than the store knows: no,
    /// that is [`PipelineError::Elsewhere`]. For a group that another program has read for until now.
    #[must_use]
    pub fn adopt(self, adopts: bool) -> Self {
        Self { adopts, ..self }
    }

    /// Sets how many records are handled in one transaction: 500 at most. Larger batches cost less for each record. A commit
    /// of the store holds 65,536 claims and rows.
    #[must_use]
    pub fn batch_max(mut self, records: usize) -> Self {
        self.limits.records = records.max(1);
        self
    }

    /// Sets how many bytes of records are handled in one transaction: 1 MiB at most. One record that is larger comes alone.
    #[must_use]
    pub fn batch_bytes_max(mut self, bytes: usize) -> Self {
        self.limits.bytes = bytes.max(1);
        self
    }

    /// Sets how often the offsets of the store are committed to the brokers, too, where they are shown as the lag of the
    /// group and decide nothing: each second. A [`KafkaTransform`](crate::KafkaTransform) commits them in its transactions.
    #[must_use]
    pub fn display_every(mut self, every: Duration) -> Self {
        self.limits.display_every = every;
        self
    }

    /// Sets a setting of librdkafka by its name; see [`KafkaOptions::set`](crate::KafkaOptions::set).
    #[must_use]
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.set(name.into(), value.into());
        self
    }
}

/// What a pipeline has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PipelineCounters {
    /// Batches that were committed.
    pub batches: u64,
    /// Their records.
    pub records: u64,
    /// Batches that were dropped since their partition had another owner.
    pub fenced: u64,
    /// Errors after which it has tried again.
    pub errors: u64,
}

/// Stops a pipeline, and reads its counters. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct PipelineHandle(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    is_stopped: AtomicBool,
    alarm: Arc<Alarm>,
    batches: AtomicU64,
    records: AtomicU64,
    fenced: AtomicU64,
    errors: AtomicU64,
}

impl PipelineHandle {
    /// Stops the pipeline after the batch that it is working on. Its `run` returns then.
    pub fn stop(&self) {
        self.0.is_stopped.store(true, Ordering::Release);
        self.0.alarm.ring();
    }

    /// Returns what was done so far.
    pub fn counters(&self) -> PipelineCounters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PipelineCounters {
            batches: read(&self.0.batches),
            records: read(&self.0.records),
            fenced: read(&self.0.fenced),
            errors: read(&self.0.errors),
        }
    }

    fn is_stopped(&self) -> bool {
        self.0.is_stopped.load(Ordering::Acquire)
    }
}

/// What has become of a batch.
pub(crate) enum Settled {
    /// It is committed.
    Committed,
    /// Its partition has another owner.
    Fenced,
    /// Nobody here knows. Taking the partition over anew tells.
    InDoubt(PipelineError),
}

/// What a step has done.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Committed,
    Fenced,
    Idle,
}

/// The loop of a pipeline.
pub(crate) struct Driver<A: Admission> {
    admission: Arc<A>,
    config: ClientConfig,
    topics: Vec<String>,
    limits: Limits,
    joined: Option<Joined<A>>,
    /// A batch that was not committed.
    pending: Option<Taken<A>>,
    pub(crate) handle: PipelineHandle,
}

struct Joined<A: Admission> {
    reader: Arc<Reader<A>>,
    member: Member<Reader<A>>,
}

impl<A: Admission> Driver<A> {
    /// Checks that the topics are there.
    pub(crate) fn open(
        admission: A,
        brokers: &str,
        group: &str,
        topics: Vec<String>,
        options: &PipelineOptions,
    ) -> Result<Self, PipelineError> {
        options.settings.check()?;
        // The store says where to begin. Where that is gone, an error says so.
        let config = options.settings.consumer(brokers, group, KafkaStart::Fail);
        let client: BaseConsumer =
            config.create().map_err(KafkaError::client("creating the consumer"))?;
        for topic in &topics {
            let metadata = client.fetch_metadata(Some(topic), CALL_MAX);
            let metadata = metadata.map_err(KafkaError::client("asking for a topic"))?;
            let found = metadata.topics().iter().find(|found| found.name() == topic);
            if found.is_none_or(|found| found.error().is_some() || found.partitions().is_empty()) {
                return Err(KafkaError::NoTopic(topic.clone()).into());
            }
        }
        Ok(Self {
            admission: Arc::new(admission),
            config,
            topics,
            limits: options.limits,
            joined: None,
            pending: None,
            handle: PipelineHandle::default(),
        })
    }

    /// Runs until it is stopped. Errors that may pass do not end it: it tries again, with growing pauses.
    pub(crate) fn run(
        &mut self,
        mut settle: impl FnMut(&A, &Client<Reader<A>>, &Taken<A>) -> Result<Settled, PipelineError>,
    ) -> Result<(), PipelineError> {
        let mut pause = PAUSE;
        while !self.handle.is_stopped() {
            match self.step(PAUSE_MAX, &mut settle) {
                Ok(Step::Committed | Step::Idle) => pause = PAUSE,
                // Until the group has told both who owns the partition.
                Ok(Step::Fenced) => self.wait(FENCED_PAUSE),
                Err(error) if error.may_pass() => {
                    self.handle.0.errors.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(%error, "a pipeline tries again in {pause:?}");
                    self.wait(pause);
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                Err(error) => return Err(error),
            }
        }
        // What was committed last is displayed, and the partitions are given to others.
        self.joined = None;
        Ok(())
    }

    /// Handles the next batch, if one comes within this time.
    fn step(
        &mut self,
        wait: Duration,
        mut settle: impl FnMut(&A, &Client<Reader<A>>, &Taken<A>) -> Result<Settled, PipelineError>,
    ) -> Result<Step, PipelineError> {
        let Some(taken) = self.take(wait)? else { return Ok(Step::Idle) };
        let client = self.joined.as_ref().and_then(|joined| joined.member.client());
        let Some(client) = client else {
            self.give_up();
            return Err(KafkaError::Ended("it is built anew".to_owned()).into());
        };
        let settled = match settle(&self.admission, &client, &taken) {
            Ok(settled) => settled,
            Err(error) => {
                // It is tried again, unless its partition goes.
                self.pending = Some(taken);
                return Err(error);
            }
        };
        match settled {
            Settled::Committed => {
                let shared = &self.handle.0;
                shared.batches.fetch_add(1, Ordering::Relaxed);
                shared.records.fetch_add(taken.batch.records.len() as u64, Ordering::Relaxed);
                if let Some(joined) = &self.joined {
                    joined.reader.done(&taken.seat, taken.batch.next_offset());
                }
                Ok(Step::Committed)
            }
            Settled::Fenced => {
                self.handle.0.fenced.fetch_add(1, Ordering::Relaxed);
                let (topic, partition) = &taken.seat.partition;
                tracing::warn!(%topic, partition, "somebody else has taken a partition over");
                self.give_up();
                Ok(Step::Fenced)
            }
            Settled::InDoubt(error) => {
                self.give_up();
                Err(error)
            }
        }
    }

    /// Leaves the group, to join it anew with the next batch.
    fn give_up(&self) {
        if let Some(joined) = &self.joined {
            joined.reader.give_up();
        }
    }

    /// Takes the next batch, if one comes within this time.
    fn take(&mut self, wait: Duration) -> Result<Option<Taken<A>>, PipelineError> {
        let end = Instant::now() + wait;
        if let Some(pending) = self.pending.take().filter(|pending| !pending.seat.is_revoked()) {
            return Ok(Some(pending));
        }
        loop {
            if let Some(taken) = self.reader()?.take()? {
                return Ok(Some(taken));
            }
            if self.handle.is_stopped() || Instant::now() >= end {
                return Ok(None);
            }
            self.handle.0.alarm.wait();
        }
    }

    /// Returns the partitions that are assigned; joins the group if that is not done, or was given up.
    fn reader(&mut self) -> Result<Arc<Reader<A>>, PipelineError> {
        if let Some(joined) = &self.joined {
            if !joined.reader.is_over() {
                return Ok(Arc::clone(&joined.reader));
            }
            let why = joined.reader.take().map(drop);
            // Leaves the group first.
            self.joined = None;
            why?;
        }
        let bell = Arc::clone(&self.handle.0.alarm);
        let reader = Arc::new(Reader::new(Arc::clone(&self.admission), self.limits, bell));
        let (assignment, alarm) = (Arc::clone(&reader), Arc::default());
        let member = Member::join(&self.config, &self.topics, assignment, alarm)?;
        self.joined = Some(Joined { reader: Arc::clone(&reader), member });
        Ok(reader)
    }

    /// Waits, unless it is stopped.
    fn wait(&self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end && !self.handle.is_stopped() {
            self.handle.0.alarm.wait();
        }
    }
}
