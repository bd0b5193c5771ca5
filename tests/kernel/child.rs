//! The parent's side of a child process: passes what it reports to the oracle. No wait is unbounded.

use crate::job::Job;
use crate::notebook;
use crate::oracle::{End, Oracle};
use crate::report::{HANG, Verdict, now_us};
use crate::wire::Event;
use crate::worker::{CHILD, PANICKED};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

/// Buffered lines before the child blocks.
const LINES_MAX: usize = 64;

pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    heard_us: u64,
    notebooks: Vec<PathBuf>,
    /// The last state that the child reported.
    pub(crate) note: String,
}

/// Why [`Running::listen`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    Enough,
    TimeIsUp,
    /// The child has exited.
    End,
}

impl Running {
    pub(crate) fn start(job: &Job) -> Self {
        let notebooks: Vec<PathBuf> = (0..job.threads).filter_map(|n| job.notebook(n)).collect();
        let (variable, value) = job.variable();
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", CHILD, "--nocapture", "--test-threads=1"])
            .env(variable, value)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the child starts");
        let mut pipe = BufReader::new(child.stdout.take().expect("a pipe"));
        let (send, lines) = sync_channel(LINES_MAX);
        std::thread::spawn(move || {
            let mut line = String::new();
            // A line without a line feed was cut off by the kill.
            while pipe.read_line(&mut line).is_ok_and(|n| n > 0) && line.ends_with('\n') {
                line.pop();
                if send.send(std::mem::take(&mut line)).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, heard_us: now_us(), notebooks, note: "starting".to_owned() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the next event, unless none arrives within `micros`.
    fn next(&mut self, micros: u64) -> Verdict<Option<Result<Event, Heard>>> {
        let line = match self.lines.recv_timeout(Duration::from_micros(micros)) {
            Ok(line) => line,
            Err(RecvTimeoutError::Disconnected) => return Ok(Some(Err(Heard::End))),
            Err(RecvTimeoutError::Timeout) => {
                if now_us() - self.heard_us > HANG.as_micros() as u64 {
                    let what = format!("hang: after {:?} nothing for {HANG:?}", self.note);
                    return Err(what);
                }
                return Ok(Some(Err(Heard::TimeIsUp)));
            }
        };
        self.heard_us = now_us();
        let Some(event) = Event::parse(&line)? else { return Ok(None) };
        if let Event::Note(note) = &event {
            if note.starts_with(PANICKED) {
                return Err(format!("the child {note}"));
            }
            self.note.clone_from(note);
        }
        Ok(Some(Ok(event)))
    }

    /// Passes events to the oracle until `enough` returns true, the child exits, or the time is up.
    pub(crate) fn listen(
        &mut self,
        oracle: &mut Oracle,
        micros: u64,
        mut enough: impl FnMut(&Self, &Event) -> bool,
    ) -> Verdict<Heard> {
        let end = now_us() + micros;
        loop {
            let left = end.saturating_sub(now_us());
            match self.next(left)? {
                Some(Ok(event)) => {
                    oracle.hear(&event)?;
                    if enough(self, &event) {
                        return Ok(Heard::Enough);
                    }
                }
                Some(Err(heard)) => return Ok(heard),
                None => {}
            }
            if left == 0 {
                return Ok(Heard::TimeIsUp);
            }
        }
    }

    /// Listens until the child reports this state. Has no time limit while lines keep coming.
    pub(crate) fn until_note(&mut self, oracle: &mut Oracle, note: &str) -> Verdict {
        loop {
            if self.note == note {
                return Ok(());
            }
            let is_it = |child: &Self, _: &Event| child.note == note;
            if self.listen(oracle, 1_000_000, is_it)? == Heard::End {
                return Err(format!("the child ended before it was {note}: {}", self.note));
            }
        }
    }

    /// Kills the child and reads the rest of its output. Fails if it had exited by itself.
    pub(crate) fn kill(self, oracle: &mut Oracle, end: End) -> Verdict<String> {
        self.stop(oracle, end, |_| false)
    }

    /// Like `kill`, for a child that may be refused the store at the same moment and then exits by itself.
    pub(crate) fn kill_unless_refused(self, oracle: &mut Oracle) -> Verdict<String> {
        self.stop(oracle, End::Kill, |note| note.starts_with("refused"))
    }

    fn stop(
        mut self,
        oracle: &mut Oracle,
        end: End,
        may_end_itself: impl Fn(&str) -> bool,
    ) -> Verdict<String> {
        self.child.kill().map_err(|e| format!("SIGKILL: {e}"))?;
        while self.listen(oracle, 1_000_000, |_, _| false)? != Heard::End {}
        let status = self.child.wait().map_err(|e| format!("wait: {e}"))?;
        self.hear_notebooks(oracle)?;
        oracle.ended(end, now_us());
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        // After a power cut the child may die first, of a mapped page that can no longer be read.
        if signal == Some(9) || end == End::PowerCut || may_end_itself(&self.note) {
            return Ok(std::mem::take(&mut self.note));
        }
        Err(format!("the child ended by itself: {status}, after {:?}", self.note))
    }

    fn hear_notebooks(&self, oracle: &mut Oracle) -> Verdict {
        notebook::read_all(&self.notebooks)?.iter().try_for_each(|event| oracle.hear(event))
    }

    /// Tells the child to close its store and exit.
    pub(crate) fn close(mut self, oracle: &mut Oracle) -> Verdict<String> {
        let word = self.child.stdin.take().map(|mut pipe| pipe.write_all(b"close\n"));
        word.expect("said once").map_err(|e| format!("the child does not listen: {e}"))?;
        while self.listen(oracle, 1_000_000, |_, _| false)? != Heard::End {}
        let status = self.child.wait().map_err(|e| format!("wait: {e}"))?;
        self.hear_notebooks(oracle)?;
        oracle.ended(End::Kill, now_us());
        let note = std::mem::take(&mut self.note);
        if status.success() { Ok(note) } else { Err(format!("closing: {status}, after {note:?}")) }
    }

    /// Reads until the child exits; kills it `micros` after it has opened the store. Returns its last state.
    pub(crate) fn live(mut self, micros: u64, mut hear: impl FnMut(Event)) -> Verdict<String> {
        let mut end_us = u64::MAX;
        loop {
            match self.next(1_000)? {
                Some(Ok(event)) => hear(event),
                Some(Err(Heard::End)) => return Ok(std::mem::take(&mut self.note)),
                _ => {}
            }
            if end_us == u64::MAX && self.note == "open" {
                end_us = now_us() + micros;
            }
            if now_us() > end_us {
                end_us = u64::MAX - 1;
                self.child.kill().map_err(|e| format!("SIGKILL: {e}"))?;
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // No test may leave a process behind.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
