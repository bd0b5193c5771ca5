//! The background threads: one seals, one merges, expires and compacts, one serves the log. Each loop
//! ends with the store, waits with a deadline (I12), and turns a panic into a stopped store (I7).

use crate::chunks;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::limits;
use crate::sync::{Arc, AtomicBool, Mutex, Ordering, Signal, thread};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// How long after a failed attempt (a full disk, a failing chunk store) the next one is made.
const RETRY: Duration = Duration::from_millis(500);
const IDLE: Duration = Duration::from_millis(200);

/// The threads of an open store.
#[derive(Debug)]
pub(crate) struct Threads {
    engine: Arc<Engine>,
    stop: Arc<AtomicBool>,
    handles: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl Threads {
    pub(crate) fn start(engine: &Arc<Engine>) -> Result<Self> {
        let threads =
            Self { engine: Arc::clone(engine), stop: Arc::default(), handles: Mutex::default() };
        if engine.settings.background
            && let Err(error) = threads.spawn_all()
        {
            // Those that did start would keep the store, and its lock.
            threads.stop();
            return Err(error);
        }
        Ok(threads)
    }

    fn spawn_all(&self) -> Result<()> {
        let flush = self.engine.settings.flush_interval;
        self.spawn("firstseen-seal", |e| &e.signals.seal, IDLE, Engine::seal_step)?;
        self.spawn("firstseen-keep", |e| &e.signals.maintain, IDLE, Engine::maintain_step)?;
        self.spawn("firstseen-log", |e| &e.signals.log, flush, Engine::log_step)
    }

    fn spawn(
        &self,
        name: &str,
        signal: fn(&Engine) -> &Signal,
        pause: Duration,
        step: fn(&Engine) -> Result<()>,
    ) -> Result<()> {
        let (engine, stop) = (Arc::clone(&self.engine), Arc::clone(&self.stop));
        let body = move || {
            while !stop.load(Ordering::Acquire) {
                let stepped = catch_unwind(AssertUnwindSafe(|| step(&engine)));
                let pause = match stepped {
                    Ok(Ok(())) => pause,
                    Ok(Err(error)) => {
                        engine.note_trouble(&error);
                        RETRY
                    }
                    Err(_) => {
                        engine.health.stop("a background thread panicked");
                        return engine.wake_waiters();
                    }
                };
                if !stop.load(Ordering::Acquire) {
                    signal(&engine).wait(pause);
                }
            }
        };
        let spawned = thread::Builder::new().name(name.to_owned()).spawn(body);
        let handle = spawned.map_err(|e| Error::io("start a thread for", &self.engine.dir, e))?;
        self.handles.lock().push(handle);
        Ok(())
    }

    /// Ends all threads after their current step.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        let signals = &self.engine.signals;
        [&signals.seal, &signals.maintain, &*signals.log].into_iter().for_each(Signal::raise);
        for handle in self.handles.lock().drain(..) {
            handle.join().ok();
        }
    }
}

impl Engine {
    fn seal_step(&self) -> Result<()> {
        loop {
            let sealed = self.seal_frozen();
            if self.seal_failure.note(&sealed) {
                // Those who wait for room in memory hear why there is none now, not at their deadline.
                self.wake_waiters();
            }
            if !sealed? {
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
        // First what `Buffered` promises (I6): on a full disk there is no spare to be had, again and again.
        self.log.flush()?;
        let spare = self.log.prepare_spare(self.time.now());
        if let Err(error) = spare.and_then(|()| self.log.fill_spare()) {
            self.note_trouble(&error);
        }
        self.log.sync_full()
    }

    /// One round of what keeps a store small. Answers whether something was done.
    pub(crate) fn maintain(&self) -> Result<bool> {
        if self.health.check().is_err() {
            return Ok(false);
        }
        self.freeze_stale();
        let swept = self.sweep()?;
        let merged = self.merge_one()?;
        let compacted = self.compact()?;
        self.bury()?;
        self.bury_leftovers()?;
        self.mark_time()?;
        Ok(swept || merged || compacted)
    }

    /// Writes the time down when the last manifest tells of one that is long past (I5). Records tell it,
    /// too, but a store may only be asked, and a jump of the clock may have been followed meanwhile.
    fn mark_time(&self) -> Result<()> {
        let marked = self.manifest.lock().body.time.map_or(0, |mark| mark.high);
        if self.time.now().as_millis() - marked > limits::TIME_MARK_MS_MAX {
            self.commit(|_| ())?;
        }
        Ok(())
    }

    /// For stores without threads: all that they would do, until nothing is left.
    pub(crate) fn run_background(&self) -> Result<()> {
        self.log_step()?;
        loop {
            self.seal_step()?;
            // Its last step may have frozen something.
            if !self.maintain()? && !self.seal_frozen()? {
                return Ok(());
            }
        }
    }

    /// Background work failed. Nothing is lost by it, and it is tried again; a chunk store that fails
    /// stays so until it is opened again, so that is done here.
    fn note_trouble(&self, error: &Error) {
        if self.health.check().is_err() {
            // Who waits for this work waits in vain.
            return self.wake_waiters();
        }
        tracing::warn!(%error, "background work failed and will be tried again");
        self.counters.background_failures.add(1);
        if chunks::is_chunk_fault(error) {
            let _healing = self.healing.lock();
            self.chunks.reopen().ok();
        }
    }
}
