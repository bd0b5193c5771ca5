//! What is done when some time has passed: one background job for each timer, started when it is first needed.

use super::{Arc, Mutex};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// A pause when nothing is due. Whoever adds something that is due earlier rings.
#[cfg_attr(any(feature = "shuttle", feature = "loom"), allow(dead_code))]
const IDLE: Duration = Duration::from_secs(3_600);

/// Calls tasks when they are due. All of them share one thread, so none may take long.
#[derive(Debug)]
pub(crate) struct Timer {
    /// Name of the thread while it runs a task.
    #[cfg_attr(any(feature = "shuttle", feature = "loom"), allow(dead_code))]
    name: &'static CStr,
    plan: Arc<Mutex<Plan>>,
    #[cfg(feature = "testing")]
    has_no_thread: std::sync::atomic::AtomicBool,
}

/// A timer that has a thread.
#[derive(Debug)]
pub(crate) struct Started<'a>(&'a Timer);

/// A task of a timer. Dropping this cancels it; a call that has begun goes on.
#[derive(Debug)]
#[must_use = "the task is cancelled when this is dropped"]
pub(crate) struct Scheduled {
    plan: Arc<Mutex<Plan>>,
    number: u64,
}

/// Returns the pause before the next call; `None` if there is none.
type Task = Box<dyn FnMut() -> Option<Duration> + Send>;

#[derive(Default)]
struct Plan {
    due: BTreeSet<(Instant, u64)>,
    /// `None` while it is called.
    tasks: BTreeMap<u64, Option<(Instant, Task)>>,
    next: u64,
    is_closed: bool,
    #[cfg(not(any(feature = "shuttle", feature = "loom")))]
    job: Option<super::JobHandle>,
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan").field("due", &self.due).finish_non_exhaustive()
    }
}

impl Timer {
    pub(crate) fn new(name: &'static CStr) -> Self {
        Self {
            name,
            plan: Arc::default(),
            #[cfg(feature = "testing")]
            has_no_thread: false.into(),
        }
    }

    /// Returns the number of tasks that wait.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn waiting(&self) -> usize {
        self.plan.lock().due.len()
    }

    /// Makes [`start`](Self::start) fail from now on.
    #[cfg(feature = "testing")]
    pub(crate) fn deny_thread(&self) {
        self.has_no_thread.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    /// Starts the job, unless it runs.
    pub(crate) fn start(&self) -> io::Result<Started<'_>> {
        #[cfg(feature = "testing")]
        if self.has_no_thread.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "planted: no thread"));
        }
        self.start_job()?;
        Ok(Started(self))
    }

    #[cfg(not(any(feature = "shuttle", feature = "loom")))]
    fn start_job(&self) -> io::Result<()> {
        if self.plan.lock().job.is_some() {
            return Ok(());
        }
        // Not under the lock: if no thread can be had, this waits for a step that another worker has begun.
        let inside = Arc::clone(&self.plan);
        let job = super::JobHandle::start(self.name, move || step(&inside))?;
        let mut plan = self.plan.lock();
        if plan.job.is_none() {
            plan.job = Some(job);
        } else {
            drop(plan);
            job.stop();
        }
        Ok(())
    }

    /// Under a schedule explorer no time passes.
    #[cfg(any(feature = "shuttle", feature = "loom"))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "called as the other is")]
    fn start_job(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Started<'_> {
    /// Calls `task` after this long, and again as long as it says when. It must hold what it works on weakly: the timer
    /// ends with its owner.
    pub(crate) fn add(
        &self,
        pause: Duration,
        task: impl FnMut() -> Option<Duration> + Send + 'static,
    ) -> Scheduled {
        let number = self.enter(pause, Box::new(task));
        Scheduled { plan: Arc::clone(&self.0.plan), number }
    }

    /// Calls `task` as [`add`](Self::add) does; nobody cancels it but the end of the timer.
    pub(crate) fn add_uncancelled(
        &self,
        pause: Duration,
        task: impl FnMut() -> Option<Duration> + Send + 'static,
    ) {
        self.enter(pause, Box::new(task));
    }

    fn enter(&self, pause: Duration, task: Task) -> u64 {
        let mut plan = self.0.plan.lock();
        plan.next += 1;
        let number = plan.next;
        plan.tasks.insert(number, None);
        // Only a closed plan gives it back, and this one has its owner.
        let refused = plan.put(number, pause, task);
        if plan.due.first().is_some_and(|(_, first)| *first == number) {
            plan.ring();
        }
        drop(plan);
        drop(refused);
        number
    }
}

impl Drop for Scheduled {
    fn drop(&mut self) {
        let task = self.plan.lock().take(self.number);
        // Not under the lock: it may be the last owner of something.
        drop(task);
    }
}

impl Drop for Timer {
    /// Does not wait for the job: this may be the job.
    fn drop(&mut self) {
        let tasks = {
            let mut plan = self.plan.lock();
            plan.is_closed = true;
            plan.ring();
            plan.due.clear();
            std::mem::take(&mut plan.tasks)
        };
        drop(tasks);
    }
}

impl Plan {
    /// Enters a task to be called after this long. Returns it if it was cancelled while it was called.
    fn put(&mut self, number: u64, pause: Duration, task: Task) -> Option<Task> {
        let Some(entry) = self.tasks.get_mut(&number) else { return Some(task) };
        let at = instant_in(pause);
        *entry = Some((at, task));
        self.due.insert((at, number));
        None
    }

    /// Removes a task. `None` if it is being called, or over.
    fn take(&mut self, number: u64) -> Option<Task> {
        let (at, task) = self.tasks.remove(&number)??;
        self.due.remove(&(at, number));
        Some(task)
    }

    /// Takes what is due, or returns how long nothing is.
    #[cfg_attr(any(feature = "shuttle", feature = "loom"), allow(dead_code))]
    fn take_due(&mut self) -> Result<(u64, Task), Duration> {
        loop {
            let Some((at, number)) = self.due.first().copied() else { return Err(IDLE) };
            let now = instant_in(Duration::ZERO);
            if at > now {
                return Err(at - now);
            }
            self.due.pop_first();
            if let Some((_, task)) = self.tasks.get_mut(&number).and_then(Option::take) {
                return Ok((number, task));
            }
        }
    }

    #[cfg(not(any(feature = "shuttle", feature = "loom")))]
    fn ring(&self) {
        self.job.iter().for_each(super::JobHandle::ring);
    }

    #[cfg(any(feature = "shuttle", feature = "loom"))]
    #[expect(clippy::unused_self, reason = "called as the other is")]
    fn ring(&self) {}
}

/// Does what is due; returns when the next is, `None` once the owner is gone.
#[cfg_attr(any(feature = "shuttle", feature = "loom"), allow(dead_code))]
fn step(plan: &Mutex<Plan>) -> Option<Duration> {
    loop {
        let (number, task) = {
            let mut plan = plan.lock();
            if plan.is_closed {
                return None;
            }
            match plan.take_due() {
                Ok(due) => due,
                Err(pause) => return Some(pause),
            }
        };
        // A waker of a foreign executor may panic. The others of this timer must be called all the same.
        if catch_unwind(AssertUnwindSafe(|| call(plan, number, task))).is_err() {
            plan.lock().take(number);
            tracing::error!("a task of a timer panicked, and is not called again");
        }
    }
}

/// Calls a task and enters it again if it says so. Not under the lock: it may read and write a store, or wake a future,
/// and so may dropping it.
#[cfg_attr(any(feature = "shuttle", feature = "loom"), allow(dead_code))]
fn call(plan: &Mutex<Plan>, number: u64, mut task: Task) {
    let over = match task() {
        Some(pause) => plan.lock().put(number, pause, task),
        None => {
            plan.lock().take(number);
            Some(task)
        }
    };
    drop(over);
}

/// Returns the machine's instant `wait` from now. It decides how long a call waits, never what it returns.
#[expect(clippy::disallowed_methods, reason = "the length of a wait, not engine time")]
pub(crate) fn instant_in(wait: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(1 << 30);
    let now = Instant::now();
    // A wait too long for the machine's clock to represent is as good as endless.
    now.checked_add(wait).unwrap_or_else(|| now + FAR)
}

#[cfg(all(test, not(any(feature = "shuttle", feature = "loom"))))]
mod tests {
    use super::*;
    use std::sync::mpsc::{RecvTimeoutError, channel};

    const PATIENCE: Duration = Duration::from_secs(if cfg!(miri) { 300 } else { 20 });

    #[test]
    fn tasks_are_called_when_they_are_due_and_not_once_they_are_cancelled() {
        let timer = Timer::new(c"timer");
        let (tell, hears) = channel();
        let note = |what: &'static str| {
            let tell = tell.clone();
            move || {
                tell.send(what).ok();
                None
            }
        };
        let started = timer.start().expect("starts");
        // Nothing is called before all is added and cancelled, however long that takes.
        let ((begun, has_begun), (open, opened)) = (channel(), channel::<()>());
        let _gate = started.add(Duration::ZERO, move || {
            begun.send(()).ok();
            opened.recv().ok();
            None
        });
        has_begun.recv_timeout(PATIENCE).expect("is called");
        let _late = started.add(Duration::from_secs(3_600), note("late"));
        let cancelled = started.add(Duration::from_millis(60), note("cancelled"));
        let _second = started.add(Duration::from_millis(80), note("second"));
        let _first = started.add(Duration::from_millis(1), note("first"));
        drop(cancelled);
        open.send(()).expect("is waited for");
        assert_eq!(hears.recv_timeout(PATIENCE), Ok("first"));
        assert_eq!(hears.recv_timeout(PATIENCE), Ok("second"));
        let plan = timer.plan.lock();
        assert_eq!((plan.due.len(), plan.tasks.values().flatten().count()), (1, 1));
    }

    #[test]
    fn a_task_that_says_when_is_called_again() {
        let timer = Timer::new(c"timer");
        let (tell, hears) = channel();
        let mut left = 3;
        let _task = timer.start().expect("starts").add(Duration::ZERO, move || {
            tell.send(left).ok();
            left -= 1;
            (left > 0).then_some(Duration::from_millis(1))
        });
        assert_eq!([(); 3].map(|()| hears.recv_timeout(PATIENCE)), [Ok(3), Ok(2), Ok(1)]);
        hears.recv_timeout(PATIENCE).expect_err("it has ended, and dropped what it held");
    }

    #[test]
    fn a_task_that_repeats_itself_is_cancelled_before_and_during_a_call() {
        let timer = Timer::new(c"timer");
        let (tell, hears) = channel();
        let (leave, left) = channel::<()>();
        let task = timer.start().expect("starts").add(Duration::ZERO, move || {
            tell.send(()).ok();
            left.recv().ok();
            Some(Duration::ZERO)
        });
        // Its place among what is due has changed since it was added.
        for _ in 0..3 {
            hears.recv_timeout(PATIENCE).expect("is called");
            leave.send(()).expect("listens");
        }
        hears.recv_timeout(PATIENCE).expect("is called");
        drop(task);
        leave.send(()).expect("listens");
        let gone = hears.recv_timeout(PATIENCE).expect_err("it is not called again");
        assert_eq!(gone, RecvTimeoutError::Disconnected, "what it held is dropped");
        let plan = timer.plan.lock();
        assert_eq!((plan.due.len(), plan.tasks.len()), (0, 0));
    }

    #[test]
    fn a_task_that_panics_takes_no_other_along() {
        let timer = Timer::new(c"timer");
        let (tell, hears) = channel();
        let started = timer.start().expect("starts");
        let _panics =
            started.add(Duration::ZERO, || std::panic::resume_unwind(Box::new("planted")));
        let _other = started.add(Duration::from_millis(20), move || {
            tell.send(()).ok();
            None
        });
        hears.recv_timeout(PATIENCE).expect("is called");
        assert_eq!(timer.plan.lock().due.len(), 0, "the one that panicked is gone");
    }

    /// The worker that has begun the step waits for the plan, and the caller for the end of the step.
    #[test]
    fn i12_a_timer_that_gets_no_thread_says_so_although_another_worker_has_begun_its_step() {
        let (tell, hears) = channel();
        std::thread::spawn(move || {
            let timer = Timer::new(c"timer");
            // If other tests run beside this one, it may get a thread.
            crate::sync::pool::start_without_a_thread(|| drop(timer.start()));
            tell.send(()).ok();
        });
        hears.recv_timeout(PATIENCE).expect("start returns");
    }
}
