//! What a ledger does when time has passed. One background job for each ledger, started when it is first needed.

use crate::sync::{Arc, Mutex};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fmt;
use std::time::{Duration, Instant};

/// A pause when nothing is due. Whoever adds something rings.
const IDLE: Duration = Duration::from_secs(3_600);

/// The timer of a ledger.
#[derive(Debug, Default)]
pub(super) struct Timer {
    plan: Arc<Mutex<Plan>>,
}

/// Returns after how long it is to be called again.
type Task = Box<dyn FnMut() -> Option<Duration> + Send>;

#[derive(Default)]
struct Plan {
    due: BinaryHeap<Reverse<(Instant, u64)>>,
    tasks: HashMap<u64, Task>,
    next: u64,
    is_closed: bool,
    #[cfg(not(any(feature = "shuttle", feature = "loom")))]
    job: Option<crate::sync::JobHandle>,
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan").field("due", &self.due).finish_non_exhaustive()
    }
}

impl Timer {
    /// Calls `task` after this long, and again as long as it says when. It must hold what it works on weakly: the timer
    /// ends with its ledger.
    pub(super) fn add(
        &self,
        pause: Duration,
        task: impl FnMut() -> Option<Duration> + Send + 'static,
    ) {
        let mut plan = self.plan.lock();
        plan.add(pause, Box::new(task));
        plan.start(&self.plan);
    }
}

impl Drop for Timer {
    /// Does not wait for the job: this may be the job.
    fn drop(&mut self) {
        let tasks = {
            let mut plan = self.plan.lock();
            plan.is_closed = true;
            plan.ring();
            std::mem::take(&mut plan.tasks)
        };
        drop(tasks);
    }
}

impl Plan {
    fn add(&mut self, pause: Duration, task: Task) {
        self.next += 1;
        self.tasks.insert(self.next, task);
        self.due.push(Reverse((instant_in(pause), self.next)));
    }

    /// Takes what is due, or returns how long nothing is.
    fn take_due(&mut self) -> Result<Task, Duration> {
        let now = instant_in(Duration::ZERO);
        while let Some(Reverse((at, number))) = self.due.peek().copied() {
            if at > now {
                return Err(at - now);
            }
            self.due.pop();
            if let Some(task) = self.tasks.remove(&number) {
                return Ok(task);
            }
        }
        Err(IDLE)
    }

    #[cfg(not(any(feature = "shuttle", feature = "loom")))]
    fn start(&mut self, plan: &Arc<Mutex<Self>>) {
        if self.job.is_none() {
            let inside = Arc::clone(plan);
            match crate::sync::JobHandle::start(c"firstseen-lease", move || step(&inside)) {
                Ok(job) => self.job = Some(job),
                // Leases end unless their owners renew them; the next call tries again.
                Err(error) => tracing::warn!(%error, "no thread to renew leases"),
            }
        }
        self.ring();
    }

    #[cfg(not(any(feature = "shuttle", feature = "loom")))]
    fn ring(&self) {
        self.job.iter().for_each(crate::sync::JobHandle::ring);
    }

    /// Under a schedule explorer no time passes.
    #[cfg(any(feature = "shuttle", feature = "loom"))]
    fn start(&mut self, _: &Arc<Mutex<Self>>) {}

    #[cfg(any(feature = "shuttle", feature = "loom"))]
    fn ring(&self) {}
}

/// Does what is due; returns when the next is, `None` once the ledger is gone.
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
        // Not under the lock: it reads and writes the store.
        if let Some(pause) = task() {
            plan.lock().add(pause, task);
        }
    }
}

/// Returns the machine's time in so long from now. It decides how long a thread sleeps, never an answer.
#[expect(clippy::disallowed_methods, reason = "the length of a wait, not engine time")]
pub(super) fn instant_in(wait: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(1 << 30);
    let now = Instant::now();
    now.checked_add(wait).unwrap_or_else(|| now + FAR)
}
