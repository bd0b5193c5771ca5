//! A child process with all of its descendants.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// What was killed may write for a moment.
const WATCH: &str =
    r#"read -r _; kill -s KILL -- "-$0"; rm -rf -- "$1" || { sleep 1; rm -rf -- "$1"; }"#;

/// A child process that does not outlive this one, however that ends.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// A shell that waits for the end of a pipe whose other end is only here, and then kills the group of the child and removes
    /// its folder. The kernel's signal at the death of a parent would do it too early: when the thread ends that has started the
    /// child.
    watchdog: Child,
}

impl Process {
    /// Starts the command in a group of its own, without input. `dir` is its folder.
    pub(crate) fn start(command: &mut Command, dir: &Path) -> io::Result<Self> {
        let mut child = command.stdin(Stdio::null()).process_group(0).spawn()?;
        let watchdog = Command::new("sh")
            .args(["-c", WATCH, &child.id().to_string()])
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        match watchdog {
            Ok(watchdog) => Ok(Self { child, watchdog }),
            Err(error) => {
                child.kill()?;
                child.wait()?;
                Err(error)
            }
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Stops it and its descendants by `SIGKILL`, and returns once all are gone.
    pub(crate) fn kill(&mut self) {
        // Its id may be another's once it was waited for.
        if !self.has_ended() {
            // First, so that it has no more children than those that are found.
            self.signal_it(Signal::STOP);
            let below: Vec<OwnedFd> =
                descendants(self.pid()).into_iter().filter_map(open).collect();
            self.signal_it(Signal::KILL);
            for process in &below {
                // It may be gone already.
                let _ = pidfd_send_signal(process, Signal::KILL);
            }
            // Before the child's id can be another's.
            self.stop_watchdog();
            self.child.wait().expect("a child can be waited for");
            below.iter().for_each(wait_until_gone);
        }
        self.stop_watchdog();
    }

    fn stop_watchdog(&mut self) {
        self.watchdog.kill().expect("a child can be killed, also twice");
        self.watchdog.wait().expect("a child can be waited for, also twice");
    }

    /// Stops it and its descendants for a while.
    pub(crate) fn freeze(&self) {
        self.signal_it(Signal::STOP);
        // A second time, for those that were born before the first signal arrived.
        for _ in 0..2 {
            self.signal_those_below(Signal::STOP);
        }
    }

    pub(crate) fn thaw(&self) {
        self.signal_those_below(Signal::CONT);
        self.signal_it(Signal::CONT);
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn signal_it(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("a child that was not waited for has its id");
    }

    fn signal_those_below(&self, signal: Signal) {
        for process in descendants(self.pid()) {
            let _ = kill_process(process, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns the children of a process, their children, and so on.
fn descendants(of: Pid) -> Vec<Pid> {
    let all = parents();
    let mut found = vec![of];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(all.iter().filter(|(_, above)| *above == parent).map(|(id, _)| *id));
        next += 1;
    }
    found.split_off(1)
}

/// Returns each process of the machine, and its parent.
fn parents() -> Vec<(Pid, Pid)> {
    let entries = fs::read_dir("/proc").expect("/proc is there").flatten();
    let of = |entry: fs::DirEntry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        // It may have ended since.
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name before may hold anything.
        let (_, rest) = stat.rsplit_once(')')?;
        let parent = rest.split_whitespace().nth(1)?.parse().ok()?;
        Some((Pid::from_raw(id)?, Pid::from_raw(parent)?))
    };
    entries.filter_map(of).collect()
}

fn open(process: Pid) -> Option<OwnedFd> {
    pidfd_open(process, PidfdFlags::empty()).ok()
}

fn wait_until_gone(process: &OwnedFd) {
    let limit = Timespec { tv_sec: 10, tv_nsec: 0 };
    let ended = poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&limit));
    assert_eq!(ended, Ok(1), "a process that was killed is not gone after ten seconds");
}
