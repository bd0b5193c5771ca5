//! Background threads, shared by all stores of a process.
//!
//! A job is a step that is run repeatedly: when its pause is over, or as soon as it is rung. One worker keeps the time;
//! before running a step itself it wakes another to take over. So a step that is slow, or hangs in a bad disk, delays
//! no other job, and there are never more workers than jobs. Workers that have been idle for a while exit.

use parking_lot::{Condvar, Mutex};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an idle worker stays.
const LINGER: Duration = Duration::from_secs(2);

/// Maximum idle helpers: the number of jobs of one store, minus the worker that keeps the time.
const HELPERS_MAX: usize = 2;

thread_local! {
    /// Whether this thread runs a step.
    static IN_STEP: Cell<bool> = const { Cell::new(false) };
}

/// Returns whether this thread runs a step. Waiting for a job to end could then deadlock, because the job may be this one.
pub(crate) fn in_step() -> bool {
    IN_STEP.get()
}

/// Returns the pause before the next run; `None` ends the job. Must not panic.
type Step = dyn Fn() -> Option<Duration> + Send + Sync;

/// The pool of this process.
static POOL: Pool = Pool::new();

#[derive(Debug)]
struct Pool {
    state: Mutex<State>,
    /// Wakes the worker that keeps the time.
    keeper: Condvar,
    /// Wakes idle helpers.
    helpers: Condvar,
    /// Wakes callers that wait for a job to end.
    ended: Condvar,
}

#[derive(Debug)]
struct State {
    jobs: BTreeMap<u64, Job>,
    /// Jobs not running, by due time.
    due: BTreeSet<(Instant, u64)>,
    next_id: u64,
    workers: usize,
    helpers_waiting: usize,
    keeper_waits: bool,
}

struct Job {
    name: &'static CStr,
    step: Arc<Step>,
    /// `None` while it runs.
    due: Option<Instant>,
    /// It was rung while running.
    is_rung: bool,
    is_over: bool,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A job that runs until it is stopped.
#[derive(Debug, Clone)]
pub(crate) struct JobHandle {
    pool: &'static Pool,
    id: u64,
}

impl JobHandle {
    /// Starts a job in this process's pool. `name` is the thread's name while it runs a step.
    pub(crate) fn start(
        name: &'static CStr,
        step: impl Fn() -> Option<Duration> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        POOL.start(name, Arc::new(step))
    }

    /// Makes the next step run now, or right after the current one.
    pub(crate) fn ring(&self) {
        self.pool.ring(self.id);
    }

    /// Ends the job; returns once none of its steps runs.
    pub(crate) fn stop(&self) {
        self.pool.stop(self.id);
    }
}

#[expect(clippy::disallowed_methods, reason = "when a step is run, never what an answer is")]
fn now() -> Instant {
    Instant::now()
}

impl Pool {
    const fn new() -> Self {
        let state = State {
            jobs: BTreeMap::new(),
            due: BTreeSet::new(),
            next_id: 0,
            workers: 0,
            helpers_waiting: 0,
            keeper_waits: false,
        };
        let (keeper, helpers, ended) = (Condvar::new(), Condvar::new(), Condvar::new());
        Self { state: Mutex::new(state), keeper, helpers, ended }
    }

    fn start(&'static self, name: &'static CStr, step: Arc<Step>) -> io::Result<JobHandle> {
        let mut state = self.state.lock();
        let (id, at) = (state.next_id, now());
        state.next_id += 1;
        let job = Job { name, step, due: Some(at), is_rung: false, is_over: false };
        state.jobs.insert(id, job);
        state.due.insert((at, id));
        let is_needed = self.call_somebody(&mut state);
        drop(state);
        let handle = JobHandle { pool: self, id };
        if is_needed && let Err(error) = self.spawn() {
            // Other workers may run it, but it is unknown when.
            handle.stop();
            return Err(error);
        }
        Ok(handle)
    }

    /// Ensures that a worker checks what is due. Returns whether that takes a new worker, which is already counted.
    fn call_somebody(&self, state: &mut State) -> bool {
        if state.keeper_waits {
            self.keeper.notify_one();
        } else if state.helpers_waiting > 0 {
            self.helpers.notify_one();
        } else if state.workers < state.jobs.len() {
            state.workers += 1;
            return true;
        }
        false
    }

    fn spawn(&'static self) -> io::Result<()> {
        #[cfg(test)]
        if let Some(fail) = INSTEAD_OF_A_THREAD.take() {
            self.state.lock().workers -= 1;
            return Err(fail());
        }
        let body = move || self.work();
        let spawned = std::thread::Builder::new().name("firstseen".to_owned()).spawn(body);
        if spawned.is_err() {
            self.state.lock().workers -= 1;
        }
        spawned.map(drop)
    }

    fn work(&'static self) {
        let mut state = self.state.lock();
        while !state.jobs.is_empty() {
            let first = state.due.first().copied();
            match first {
                Some((at, id)) if at <= now() => {
                    state.due.pop_first();
                    let Some(job) = state.jobs.get_mut(&id) else { continue };
                    (job.due, job.is_rung) = (None, false);
                    let (name, step) = (job.name, Arc::clone(&job.step));
                    let is_needed = state.jobs.len() > 1 && self.call_somebody(&mut state);
                    drop(state);
                    if is_needed {
                        // If this fails, the other jobs wait for this step to end.
                        self.spawn().ok();
                    }
                    call_thread(name);
                    IN_STEP.set(true);
                    let pause = step();
                    drop(step);
                    IN_STEP.set(false);
                    call_thread(c"firstseen");
                    state = self.state.lock();
                    if let Some(job) = self.end_step(&mut state, id, pause) {
                        // It may hold the last reference to a store: do not drop it under the lock.
                        drop(state);
                        drop(job);
                        state = self.state.lock();
                    }
                }
                // Helpers are woken in turn, so none would ever be idle long enough to exit.
                _ if state.keeper_waits && state.helpers_waiting >= HELPERS_MAX => break,
                _ if state.keeper_waits => {
                    state.helpers_waiting += 1;
                    let waited = self.helpers.wait_for(&mut state, LINGER);
                    state.helpers_waiting -= 1;
                    if waited.timed_out() && state.keeper_waits {
                        break;
                    }
                }
                _ => {
                    let until = first.map_or_else(|| now() + LINGER, |(at, _)| at);
                    state.keeper_waits = true;
                    self.keeper.wait_until(&mut state, until);
                    state.keeper_waits = false;
                }
            }
        }
        state.workers -= 1;
    }

    /// Returns the job if that was its last step.
    fn end_step(&self, state: &mut State, id: u64, pause: Option<Duration>) -> Option<Job> {
        let job = state.jobs.get_mut(&id)?;
        match pause {
            Some(pause) if !job.is_over => {
                let at = if job.is_rung { now() } else { now() + pause };
                job.due = Some(at);
                if state.due.first().is_none_or(|(first, _)| at < *first) {
                    // The worker that keeps the time is waiting for a later one.
                    self.keeper.notify_one();
                }
                state.due.insert((at, id));
                None
            }
            _ => self.remove(state, id),
        }
    }

    fn remove(&self, state: &mut State, id: u64) -> Option<Job> {
        let job = state.jobs.remove(&id);
        self.ended.notify_all();
        if state.jobs.is_empty() {
            self.keeper.notify_all();
            self.helpers.notify_all();
        }
        job
    }

    fn ring(&self, id: u64) {
        let state = &mut *self.state.lock();
        let Some(job) = state.jobs.get_mut(&id) else { return };
        let Some(before) = job.due else {
            job.is_rung = true;
            return;
        };
        let at = now().min(before);
        job.due = Some(at);
        state.due.remove(&(before, id));
        state.due.insert((at, id));
        // If neither waits, a worker was woken and has not looked yet.
        if state.keeper_waits {
            self.keeper.notify_one();
        } else {
            self.helpers.notify_one();
        }
    }

    fn stop(&self, id: u64) {
        let mut state = self.state.lock();
        let Some(job) = state.jobs.get_mut(&id) else { return };
        job.is_over = true;
        if let Some(at) = job.due.take() {
            state.due.remove(&(at, id));
            let job = self.remove(&mut state, id);
            drop(state);
            drop(job);
            return;
        }
        while state.jobs.contains_key(&id) {
            self.ended.wait(&mut state);
        }
    }
}

/// Names the thread after its work, for `top -H` and profilers.
#[cfg(all(target_os = "linux", not(miri)))]
fn call_thread(name: &CStr) {
    rustix::thread::set_name(name).ok();
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn call_thread(_name: &CStr) {}

#[cfg(test)]
type Instead = Box<dyn FnOnce() -> io::Error>;

#[cfg(test)]
thread_local! {
    /// Called once in the place of starting a thread, which fails with what it returns.
    static INSTEAD_OF_A_THREAD: Cell<Option<Instead>> = const { Cell::new(None) };
}

/// Calls `start`, which starts a job. If the pool needs a thread for it, it gets none, but a worker that is busy until
/// then has taken the job when it hears so.
#[cfg(test)]
pub(super) fn start_without_a_thread<T>(start: impl FnOnce() -> T) -> T {
    use std::sync::mpsc::channel;
    let ((enter, entered), (leave, left)) = (channel(), channel::<()>());
    let left = Mutex::new(left);
    let busy = move || {
        enter.send(()).ok();
        left.lock().recv().ok();
        Some(Duration::from_secs(3600))
    };
    let busy = JobHandle::start(c"busy", busy).expect("starts");
    entered.recv().expect("is run at once");
    INSTEAD_OF_A_THREAD.set(Some(Box::new(move || {
        drop(leave);
        let is_due = || POOL.state.lock().due.first().is_some_and(|(at, _)| *at <= now());
        while is_due() {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        io::Error::from(io::ErrorKind::WouldBlock)
    })));
    let started = start();
    drop(INSTEAD_OF_A_THREAD.take());
    busy.stop();
    started
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::sync::mpsc::{Receiver, channel};

    const SOON: Duration = Duration::from_millis(1);
    const NEVER: Duration = Duration::from_secs(3600);
    const PATIENCE: Duration = Duration::from_secs(if cfg!(miri) { 300 } else { 20 });

    /// Pools live forever. Kept where Miri finds them, or they would count as leaks.
    static POOLS: Mutex<Vec<&'static Pool>> = Mutex::new(Vec::new());

    fn pool() -> &'static Pool {
        let pool = Box::leak(Box::new(Pool::new()));
        POOLS.lock().push(pool);
        pool
    }

    fn told(pool: &'static Pool, pause: Duration) -> (JobHandle, Receiver<()>) {
        let (tell, hears) = channel();
        let tell = Mutex::new(tell);
        let step = move || {
            tell.lock().send(()).ok();
            Some(pause)
        };
        (pool.start(c"told", Arc::new(step)).expect("starts"), hears)
    }

    fn until(what: &str, is_so: impl Fn() -> bool) {
        let end = now() + PATIENCE;
        while !is_so() {
            assert!(now() < end, "{what}");
            std::thread::park_timeout(SOON);
        }
    }

    #[test]
    fn a_step_is_run_at_once_again_after_its_pause_and_when_somebody_rings() {
        let pool = pool();
        let (often, hears) = told(pool, SOON);
        (0..5).for_each(|_| hears.recv_timeout(PATIENCE).expect("is run again"));
        let (seldom, hears) = told(pool, NEVER);
        hears.recv_timeout(PATIENCE).expect("is run at once");
        for _ in 0..if cfg!(miri) { 10 } else { 200 } {
            seldom.ring();
            hears.recv_timeout(PATIENCE).expect("is run when somebody rings");
        }
        [often, seldom].iter().for_each(JobHandle::stop);
    }

    /// If a ring during a step were lost, its work would wait until the pause is over.
    #[test]
    fn a_ring_during_a_step_is_heard_after_it() {
        let pool = pool();
        let (enter, entered) = channel();
        let (leave, left) = channel();
        let (enter, left) = (Mutex::new(enter), Mutex::new(left));
        let step = move || {
            enter.lock().send(()).ok();
            left.lock().recv().ok();
            Some(NEVER)
        };
        let job = pool.start(c"job", Arc::new(step)).expect("starts");
        entered.recv_timeout(PATIENCE).expect("is run at once");
        job.ring();
        leave.send(()).expect("listens");
        entered.recv_timeout(PATIENCE).expect("is run again");
        drop(leave);
        job.stop();
    }

    #[test]
    fn a_step_that_hangs_holds_up_no_other_job_and_is_waited_for_when_it_is_stopped() {
        let pool = pool();
        let (enter, entered) = channel();
        // More than the idle workers: each hangs on its second run.
        let hanging = 2 * (HELPERS_MAX + 1);
        let (leave, hung): (Vec<_>, Vec<JobHandle>) = (0..hanging)
            .map(|_| {
                let (leave, left) = channel::<()>();
                let (left, enter) = (Mutex::new(left), Mutex::new(enter.clone()));
                let is_first = AtomicBool::new(true);
                let hang = move || {
                    if !is_first.swap(false, Ordering::SeqCst) {
                        enter.lock().send(()).ok();
                        left.lock().recv().ok();
                    }
                    Some(NEVER)
                };
                (leave, pool.start(c"hangs", Arc::new(hang)).expect("starts"))
            })
            .unzip();
        let (other, hears) = told(pool, SOON);
        until("those without work end", || pool.state.lock().workers <= HELPERS_MAX + 1);
        for job in &hung {
            job.ring();
            entered.recv_timeout(PATIENCE).expect("finds a worker");
        }
        hears.try_iter().for_each(drop);
        (0..20).for_each(|_| hears.recv_timeout(PATIENCE).expect("goes on"));
        other.stop();
        let is_stopped = Arc::new(AtomicBool::new(false));
        let stopping = std::thread::spawn({
            let is_stopped = Arc::clone(&is_stopped);
            move || {
                hung.iter().for_each(JobHandle::stop);
                is_stopped.store(true, Ordering::SeqCst);
            }
        });
        std::thread::park_timeout(Duration::from_millis(30));
        assert!(!is_stopped.load(Ordering::SeqCst), "its step still runs");
        drop(leave);
        stopping.join().expect("ends");
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri is so slow that these jobs are never idle")]
    fn many_idle_jobs_share_few_workers_and_none_stays_without_jobs() {
        let pool = pool();
        let ran = Arc::new(AtomicU64::new(0));
        let step = |ran: Arc<AtomicU64>| {
            move || {
                ran.fetch_add(1, Ordering::Relaxed);
                Some(Duration::from_millis(50))
            }
        };
        let jobs: Vec<JobHandle> = (0..300)
            .map(|_| pool.start(c"idle", Arc::new(step(Arc::clone(&ran)))).expect("starts"))
            .collect();
        until("all are run", || ran.load(Ordering::Relaxed) > 3_000);
        until("those without work end", || pool.state.lock().workers <= 4);
        jobs.iter().for_each(JobHandle::stop);
        assert!(pool.state.lock().jobs.is_empty() && pool.state.lock().due.is_empty());
        until("the last has ended", || pool.state.lock().workers == 0);
        // It starts again.
        let (job, hears) = told(pool, NEVER);
        hears.recv_timeout(PATIENCE).expect("is run");
        job.stop();
    }

    #[test]
    fn a_job_that_ends_by_itself_is_gone() {
        let pool = pool();
        let job = pool.start(c"once", Arc::new(|| None)).expect("starts");
        until("it is gone", || pool.state.lock().jobs.is_empty());
        job.ring();
        job.stop();
    }
}
