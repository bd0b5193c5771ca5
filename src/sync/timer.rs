//! What is done when some time has passed: one background job for each timer, started when it is first needed.

use super::{Arc, Mutex};
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fmt;
use std::io;
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
}

/// Names a task that was added to a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimerKey(Instant, u64);

/// Returns after how long it is to be called again.
type Task = Box<dyn FnMut() -> Option<Duration> + Send>;

#[derive(Default)]
struct Plan {
    due: BTreeMap<TimerKey, Task>,
    next: u64,
    is_closed: bool,
    #[cfg(not(any(feature = "shuttle", feature = "loom")))]
    job: Option<super::JobHandle>,
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan").field("due", &self.due.keys()).finish_non_exhaustive()
    }
}

impl Timer {
    pub(crate) fn new(name: &'static CStr) -> Self {
        Self { name, plan: Arc::default() }
    }

    /// Calls `task` after this long, and again as long as it says when. It must hold what it works on weakly: the timer
    /// ends with its owner.
    pub(crate) fn add(
        &self,
        pause: Duration,
        task: impl FnMut() -> Option<Duration> + Send + 'static,
    ) -> TimerKey {
        if let Err(error) = self.start() {
            // The next call tries again.
            tracing::warn!(%error, "no thread for a timer: what is due is late");
        }
        let mut plan = self.plan.lock();
        let key = plan.add(pause, Box::new(task));
        if plan.due.first_key_value().is_some_and(|(first, _)| *first == key) {
            plan.ring();
        }
        key
    }

    /// Removes a task that has not been called yet. One that repeats itself has another key after each call.
    pub(crate) fn cancel(&self, key: TimerKey) {
        let task = self.plan.lock().due.remove(&key);
        // Not under the lock: it may be the last owner of something.
        drop(task);
    }

    /// Returns the number of tasks that wait.
    #[cfg(feature = "testing")]
    pub(crate) fn waiting(&self) -> usize {
        self.plan.lock().due.len()
    }

    /// Starts the job, for a caller that must know whether there is a thread for it.
    #[cfg(not(any(feature = "shuttle", feature = "loom")))]
    pub(crate) fn start(&self) -> io::Result<()> {
        let mut plan = self.plan.lock();
        if plan.job.is_none() {
            let inside = Arc::clone(&self.plan);
            plan.job = Some(super::JobHandle::start(self.name, move || step(&inside))?);
        }
        Ok(())
    }

    /// Under a schedule explorer no time passes.
    #[cfg(any(feature = "shuttle", feature = "loom"))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "called as the other is")]
    pub(crate) fn start(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Timer {
    /// Does not wait for the job: this may be the job.
    fn drop(&mut self) {
        let tasks = {
            let mut plan = self.plan.lock();
            plan.is_closed = true;
            plan.ring();
            std::mem::take(&mut plan.due)
        };
        drop(tasks);
    }
}

impl Plan {
    fn add(&mut self, pause: Duration, task: Task) -> TimerKey {
        self.next += 1;
        let key = TimerKey(instant_in(pause), self.next);
        self.due.insert(key, task);
        key
    }

    /// Takes what is due, or returns how long nothing is.
    #[cfg_attr(any(feature = "shuttle", feature = "loom"), allow(dead_code))]
    fn take_due(&mut self) -> Result<Task, Duration> {
        let Some(first) = self.due.first_entry() else { return Err(IDLE) };
        let (at, now) = (first.key().0, instant_in(Duration::ZERO));
        if at > now { Err(at - now) } else { Ok(first.remove()) }
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
        let mut task = {
            let mut plan = plan.lock();
            if plan.is_closed {
                return None;
            }
            match plan.take_due() {
                Ok(task) => task,
                Err(pause) => return Some(pause),
            }
        };
        // Not under the lock: it may read and write a store, or wake a future.
        if let Some(pause) = task() {
            plan.lock().add(pause, task);
        }
    }
}

/// Returns the machine's time in so long from now. It decides how long a call waits, never what it returns.
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
    use std::sync::mpsc::channel;

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
        timer.add(Duration::from_secs(3_600), note("late"));
        let cancelled = timer.add(Duration::from_millis(60), note("cancelled"));
        timer.add(Duration::from_millis(80), note("second"));
        timer.add(Duration::from_millis(1), note("first"));
        timer.cancel(cancelled);
        assert_eq!(hears.recv_timeout(PATIENCE), Ok("first"));
        assert_eq!(hears.recv_timeout(PATIENCE), Ok("second"));
        assert_eq!(timer.plan.lock().due.len(), 1);
    }

    #[test]
    fn a_task_that_says_when_is_called_again() {
        let timer = Timer::new(c"timer");
        let (tell, hears) = channel();
        let mut left = 3;
        timer.add(Duration::ZERO, move || {
            tell.send(left).ok();
            left -= 1;
            (left > 0).then_some(Duration::from_millis(1))
        });
        assert_eq!([(); 3].map(|()| hears.recv_timeout(PATIENCE)), [Ok(3), Ok(2), Ok(1)]);
        hears.recv_timeout(PATIENCE).expect_err("it has ended, and dropped what it held");
    }
}
