//! Background work: one job flushes, one merges, expires and compacts, one serves the log. The stores of a process
//! share the threads (`src/sync/pool.rs`): an idle store has none of its own. Each job ends with its store, runs again
//! after a pause even if nobody signals (I12), and turns a panic into a stopped store (I7).

use crate::engine::Engine;
use crate::engine::upkeep::{self, Upkeep};
use crate::error::{Error, Result};
use crate::sync::{Arc, Mutex, Signal};
use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Delay before retrying a failed attempt (a full disk, a failing block store).
const RETRY: Duration = Duration::from_millis(500);
const IDLE: Duration = Duration::from_millis(200);
/// Of the job that syncs for futures: they wake it. Endless under a schedule explorer, so that it finds a lost wake-up.
const LONG_IDLE: Duration =
    Duration::from_secs(if cfg!(any(feature = "shuttle", feature = "loom")) { 3_600 } else { 5 });

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
        let reopened = engine.core.healer.reopened();
        let counters = &engine.core.counters;
        let step = || counters.background_time.of(|| (self.step)(engine));
        match catch_unwind(AssertUnwindSafe(step)) {
            Ok(Ok(())) => Some(self.pause),
            Ok(Err(error)) => {
                upkeep::note_trouble(&engine.core, &error, reopened);
                Some(RETRY)
            }
            Err(_) => {
                engine.core.health.stop("a background thread panicked");
                engine.core.wake_waiters();
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
    /// The job that syncs for futures. Its lock is never held for long: futures take it.
    syncer: Mutex<Syncer>,
}

/// Started by the first future that waits for the disk: most stores have none.
#[derive(Debug, Default)]
enum Syncer {
    #[default]
    NotYet,
    Running(Running),
    Stopped,
}

impl Threads {
    pub(crate) fn start(engine: &Arc<Engine>) -> Result<Self> {
        let threads = Self {
            engine: Arc::clone(engine),
            running: Mutex::default(),
            syncer: Mutex::default(),
        };
        if engine.core.settings.background
            && let Err(error) = threads.start_all()
        {
            // Stop those that did start: they would keep the store and its lock.
            threads.stop();
            return Err(error);
        }
        Ok(threads)
    }

    fn start_all(&self) -> Result<()> {
        let interval = self.engine.core.settings.flush_interval;
        let flush: Job = Job {
            name: c"firstseen-flush",
            signal: |e| &e.core.signals.flush,
            pause: IDLE,
            step: |e| e.upkeep.flush_step(&e.core),
        };
        let keep: Job = Job {
            name: c"firstseen-keep",
            signal: |e| &e.core.signals.maintain,
            pause: IDLE,
            step: |e| {
                e.upkeep.maintain_step(&e.core)?;
                e.note_swept_scopes()
            },
        };
        let log: Job = Job {
            name: c"firstseen-log",
            signal: |e| &e.core.signals.log,
            pause: interval,
            step: |e| e.core.counters.log_time.of(|| e.upkeep.log_step(&e.core)),
        };
        [flush, keep, log].into_iter().try_for_each(|job| {
            let started = Running::start(job, &self.engine);
            let started =
                started.map_err(|e| Error::io("start a thread for", &self.engine.core.dir, e))?;
            self.running.lock().push(started);
            Ok(())
        })
    }

    /// Starts the job that syncs for futures, if it does not run. After [`stop`](Self::stop) closing syncs once more,
    /// and then wakes all who wait.
    pub(crate) fn start_syncer(&self) -> Result<()> {
        let mut syncer = self.syncer.lock();
        if matches!(*syncer, Syncer::NotYet) {
            let job = Job {
                name: c"firstseen-sync",
                signal: |e| &e.core.signals.sync,
                pause: LONG_IDLE,
                step: |e| Upkeep::sync_step(&e.core),
            };
            let started = Running::start(job, &self.engine);
            let started =
                started.map_err(|e| Error::io("start a thread for", &self.engine.core.dir, e))?;
            *syncer = Syncer::Running(started);
        }
        Ok(())
    }

    /// Stops all jobs after their current step.
    pub(crate) fn stop(&self) {
        // Hold the lock until all have ended, so that a concurrent close waits for that, too.
        let mut running = self.running.lock();
        let syncer = std::mem::replace(&mut *self.syncer.lock(), Syncer::Stopped);
        if let Syncer::Running(syncer) = syncer {
            running.push(syncer);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::BlockFault;
    use crate::disk::sim::SimDisk;
    use crate::engine::{Settings, open};
    use crate::sync::instant_in;
    use std::path::Path;

    /// A second reopen would close the block store under the first job, whose next attempt would then fail, too, and be
    /// reported to callers.
    #[test]
    fn i12_a_fault_that_two_jobs_meet_opens_the_block_store_once() {
        let engine = engine();
        let fault = Error::from(BlockFault::new("planted"));
        let reopened = || engine.core.healer.reopened();
        let began = reopened();
        upkeep::note_trouble(&engine.core, &fault, began);
        upkeep::note_trouble(&engine.core, &fault, began);
        assert_eq!(reopened(), began + 1);
        upkeep::note_trouble(&engine.core, &fault, began + 1);
        assert_eq!(reopened(), began + 2, "a later fault");
    }

    fn engine() -> Arc<Engine> {
        let disk = Arc::new(SimDisk::new());
        let settings = Settings { disk, background: false, ..Settings::default() };
        open(Path::new("/s"), settings).expect("opens")
    }

    #[test]
    fn i12_a_writer_waits_for_compaction_until_its_deadline_and_the_next_goes_on() {
        let engine = engine();
        engine.core.reclaim.set(true);
        assert!(engine.core.is_compaction_behind());
        engine.core.wait_for_compaction(instant_in(Duration::from_millis(20)));
        assert!(!engine.core.is_compaction_behind(), "the next writer would wait, too");
    }

    #[test]
    fn i12_a_writer_that_waits_for_compaction_is_woken_when_it_catches_up_and_when_the_store_stops()
    {
        let ways: [fn(&Engine); 2] = [
            |engine| engine.core.reclaim.set(false),
            |engine| {
                engine.core.health.stop("for a test");
                engine.core.wake_waiters();
            },
        ];
        for ends in ways {
            let engine = engine();
            engine.core.reclaim.set(true);
            let waiter = Arc::clone(&engine);
            let waits = std::thread::spawn(move || {
                waiter.core.wait_for_compaction(instant_in(Duration::from_secs(3_600)));
            });
            std::thread::park_timeout(Duration::from_millis(20));
            ends(&engine);
            waits.join().expect("no panic");
        }
    }
}
