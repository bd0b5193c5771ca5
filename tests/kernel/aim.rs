//! Times a kill by what the threads of the other process are doing.

use std::fs;
use std::path::{Path, PathBuf};

pub(crate) const FLUSHER: &str = "firstseen-flush";
pub(crate) const KEEPER: &str = "firstseen-keep";

/// A process under observation, and the folder of its store.
pub(crate) struct Scope {
    tasks: PathBuf,
    dir: PathBuf,
    segments: usize,
    filters: usize,
    /// Log segments were deleted while it was watched.
    pub(crate) segments_went: bool,
    /// Runs were deleted, by a merge or by expiry.
    pub(crate) runs_went: bool,
}

fn count(dir: &Path) -> usize {
    fs::read_dir(dir).map_or(0, Iterator::count)
}

impl Scope {
    pub(crate) fn new(pid: u32, dir: &Path) -> Self {
        let tasks = Path::new("/proc").join(pid.to_string()).join("task");
        let dir = dir.to_owned();
        Self { tasks, dir, segments: 0, filters: 0, segments_went: false, runs_went: false }
    }

    /// Whether the thread of this name is running or in disk wait, not idle.
    pub(crate) fn is_busy(&self, thread: &str) -> bool {
        let tasks = fs::read_dir(&self.tasks).into_iter().flatten().flatten();
        tasks.map(|task| task.path()).any(|task| {
            let named =
                fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == thread);
            named && fs::read_to_string(task.join("stat")).is_ok_and(|stat| is_at_work(&stat))
        })
    }

    /// Checks whether segments or filters have been deleted.
    pub(crate) fn look(&mut self) {
        let (segments, filters) = (count(&self.dir.join("log")), count(&self.dir.join("filters")));
        self.segments_went |= segments < self.segments;
        self.runs_went |= filters < self.filters;
        (self.segments, self.filters) = (segments, filters);
    }
}

/// The state follows the name, which is in parentheses.
fn is_at_work(stat: &str) -> bool {
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    matches!(state, Some('R' | 'D'))
}
