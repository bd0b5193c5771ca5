//! Background work: one job flushes, one merges, expires and compacts, one serves the log. The stores of a process
//! share the threads (`src/sync/pool.rs`): an idle store has none of its own. Each job ends with its store, runs again
//! after a pause even if nobody signals (I12), and turns a panic into a stopped store (I7).

use crate::blocks::{self, BlockResult};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::limits;
use crate::sync::{Arc, Mutex, Ordering, Signal};
use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Delay before retrying a failed attempt (a full disk, a failing block store).
const RETRY: Duration = Duration::from_millis(500);
const IDLE: Duration = Duration::from_millis(200);

/// A background job.
struct Job {
    /// Name of the thread while it runs this job.
    name: &'static CStr,
    /// Raised when there is work.
    signal: fn(&Engine) -> &Signal,
    /// Delay before it runs again without a signal.
    pause: Duration,
    step: fn(&Engine) -> Result<()>,
}

impl Job {
    /// Runs one step; returns when the next is due, `None` for never again.
    fn step(&self, engine: &Engine) -> Option<Duration> {
        let reopened = engine.reopened.load(Ordering::Acquire);
        match catch_unwind(AssertUnwindSafe(|| (self.step)(engine))) {
            Ok(Ok(())) => Some(self.pause),
            Ok(Err(error)) => {
                engine.note_trouble(&error, reopened);
                Some(RETRY)
            }
            Err(_) => {
                engine.health.stop("a background thread panicked");
                engine.wake_waiters();
                None
            }
        }
    }
}

/// The background work of an open store.
#[derive(Debug)]
pub(crate) struct Threads {
    engine: Arc<Engine>,
    running: Mutex<Vec<Running>>,
}

impl Threads {
    pub(crate) fn start(engine: &Arc<Engine>) -> Result<Self> {
        let threads = Self { engine: Arc::clone(engine), running: Mutex::default() };
        if engine.settings.background
            && let Err(error) = threads.start_all()
        {
            // Stop those that did start: they would keep the store and its lock.
            threads.stop();
            return Err(error);
        }
        Ok(threads)
    }

    fn start_all(&self) -> Result<()> {
        let interval = self.engine.settings.flush_interval;
        let flush: Job = Job {
            name: c"firstseen-flush",
            signal: |e| &e.signals.flush,
            pause: IDLE,
            step: Engine::flush_step,
        };
        let keep: Job = Job {
            name: c"firstseen-keep",
            signal: |e| &e.signals.maintain,
            pause: IDLE,
            step: Engine::maintain_step,
        };
        let log: Job = Job {
            name: c"firstseen-log",
            signal: |e| &e.signals.log,
            pause: interval,
            step: Engine::log_step,
        };
        [flush, keep, log].into_iter().try_for_each(|job| {
            let started = Running::start(job, &self.engine);
            let started =
                started.map_err(|e| Error::io("start a thread for", &self.engine.dir, e))?;
            self.running.lock().push(started);
            Ok(())
        })
    }

    /// Stops all jobs after their current step.
    pub(crate) fn stop(&self) {
        // Hold the lock until all have ended, so that a concurrent close waits for that, too.
        let mut running = self.running.lock();
        running.iter().for_each(Running::ask_to_stop);
        running.drain(..).for_each(Running::stop);
    }
}

#[cfg(not(any(feature = "shuttle", feature = "loom")))]
use pooled::Running;

#[cfg(not(any(feature = "shuttle", feature = "loom")))]
mod pooled {
    use super::{Arc, Engine, Job};
    use crate::sync::JobHandle;
    use std::io;

    /// A job in the pool of the process.
    #[derive(Debug)]
    pub(super) struct Running(JobHandle);

    impl Running {
        pub(super) fn start(job: Job, engine: &Arc<Engine>) -> io::Result<Self> {
            let (signal, inside) = (job.signal, Arc::clone(engine));
            let handle = JobHandle::start(job.name, move || job.step(&inside))?;
            signal(engine).ring_for(handle.clone());
            Ok(Self(handle))
        }

        #[expect(clippy::unused_self, reason = "called as the other is")]
        pub(super) fn ask_to_stop(&self) {}

        pub(super) fn stop(self) {
            self.0.stop();
        }
    }
}

#[cfg(any(feature = "shuttle", feature = "loom"))]
use threaded::Running;

/// Under a schedule explorer, which starts afresh each time, every job has its own thread.
#[cfg(any(feature = "shuttle", feature = "loom"))]
mod threaded {
    use super::{Arc, Engine, Job, Signal};
    use crate::sync::{AtomicBool, Ordering, thread};
    use std::io;

    #[derive(Debug)]
    pub(super) struct Running {
        engine: Arc<Engine>,
        signal: fn(&Engine) -> &Signal,
        stop: Arc<AtomicBool>,
        thread: thread::JoinHandle<()>,
    }

    impl Running {
        pub(super) fn start(job: Job, engine: &Arc<Engine>) -> io::Result<Self> {
            let (signal, job_name) = (job.signal, job.name);
            let stop = Arc::new(AtomicBool::new(false));
            let (inside, is_stopped) = (Arc::clone(engine), Arc::clone(&stop));
            let body = move || {
                while !is_stopped.load(Ordering::Acquire) {
                    let Some(pause) = job.step(&inside) else { return };
                    if !is_stopped.load(Ordering::Acquire) {
                        signal(&inside).wait(pause);
                    }
                }
            };
            let name = job_name.to_string_lossy().into_owned();
            let thread = thread::Builder::new().name(name).spawn(body)?;
            Ok(Self { engine: Arc::clone(engine), signal, stop, thread })
        }

        pub(super) fn ask_to_stop(&self) {
            self.stop.store(true, Ordering::Release);
            (self.signal)(&self.engine).raise();
        }

        pub(super) fn stop(self) {
            self.thread.join().ok();
        }
    }
}

impl Engine {
    fn flush_step(&self) -> Result<()> {
        loop {
            let flushed = self.flush_frozen();
            if self.flush_failure.note(&flushed) {
                // Tell callers waiting for memtable space the cause now, not at their deadline.
                self.wake_waiters();
            }
            if !flushed? {
                return Ok(());
            }
            self.signals.maintain.raise();
        }
    }

    fn maintain_step(&self) -> Result<()> {
        while self.maintain()? {}
        Ok(())
    }

    fn log_step(&self) -> Result<()> {
        self.check_folder()?;
        // First do what `Buffered` promises (I6): on a full disk, preparing a spare fails again and again.
        self.log.flush()?;
        // A store that nobody writes to needs no spare segment: it costs a descriptor and 16 MiB.
        if !self.log.is_written_to() {
            return self.log.sync_full();
        }
        let reopened = self.reopened.load(Ordering::Acquire);
        let spare = self.log.prepare_spare(self.time.now());
        if let Err(error) = spare.and_then(|()| self.log.fill_spare()) {
            self.note_trouble(&error, reopened);
        }
        self.log.sync_full()
    }

    /// Runs one round of maintenance. Returns whether anything was swept, merged or compacted.
    pub(crate) fn maintain(&self) -> Result<bool> {
        if self.health.check().is_err() {
            return Ok(false);
        }
        self.freeze_stale();
        let swept = self.sweep()?;
        let merged = self.merge_one()?;
        let compacted = self.compact()?;
        self.collect_garbage()?;
        self.bury_leftovers()?;
        self.mark_time()?;
        Ok(swept || merged || compacted)
    }

    /// Writes a manifest if the time in the last one is long past (I5). Records tell the time, too, but a store may
    /// only be read, and a clock jump may have been followed meanwhile.
    fn mark_time(&self) -> Result<()> {
        let marked = self.manifest.lock().body.time.map_or(0, |mark| mark.high);
        if self.time.now().as_millis() - marked > limits::TIME_MARK_MS_MAX {
            self.commit(|_| ())?;
        }
        Ok(())
    }

    /// Runs all background work until none is left, for stores without threads.
    pub(crate) fn run_background(&self) -> Result<()> {
        self.log_step()?;
        loop {
            self.flush_step()?;
            // The last maintenance step may have frozen something.
            if !self.maintain()? && !self.flush_frozen()? {
                return Ok(());
            }
        }
    }

    /// Handles failed background work. Nothing is lost, and it will be retried; a block store that failed stays so
    /// until it is reopened, so that is done here. `reopened` was read before the work began.
    fn note_trouble(&self, error: &Error, reopened: u64) {
        if self.health.check().is_err() {
            // Callers waiting for this work wait in vain: wake them.
            return self.wake_waiters();
        }
        tracing::warn!(%error, "background work failed and will be tried again");
        self.counters.background_failures.add(1);
        if blocks::is_block_fault(error) {
            let _healing = self.healing.lock();
            // Another job may have met the same fault. Reopening once more would close the block store under its users.
            if self.reopened.load(Ordering::Acquire) == reopened {
                self.reopen_blocks().ok();
            }
        }
    }

    /// Reopens the block store. The caller holds the `healing` lock.
    pub(super) fn reopen_blocks(&self) -> BlockResult<()> {
        self.blocks.reopen()?;
        self.reopened.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::BlockFault;
    use crate::disk::sim::SimDisk;
    use crate::engine::{Settings, open};
    use std::path::Path;

    /// A second reopen would close the block store under the first job, whose next attempt would then fail, too, and be
    /// reported to callers.
    #[test]
    fn i12_a_fault_that_two_jobs_meet_opens_the_block_store_once() {
        let disk = Arc::new(SimDisk::new());
        let settings = Settings { disk, background: false, ..Settings::default() };
        let engine = open(Path::new("/s"), settings).expect("opens");
        let fault = Error::from(BlockFault::new("planted"));
        let began = engine.reopened.load(Ordering::Acquire);
        engine.note_trouble(&fault, began);
        engine.note_trouble(&fault, began);
        assert_eq!(engine.reopened.load(Ordering::Acquire), began + 1);
        engine.note_trouble(&fault, began + 1);
        assert_eq!(engine.reopened.load(Ordering::Acquire), began + 2, "a later fault");
    }
}
