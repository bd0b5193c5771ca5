//! Tests of the binary as a shell runs it: input, output and exit codes.
#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod bad_input;
mod bench;
mod complaints;
mod faults;
mod flags;
mod ids;
mod kill;
mod ledgers;
mod limits;
mod lines;
mod long_lines;
mod operations;
mod pipelines;
mod pipes;
mod questions;
mod read_only;
mod replays;
mod signals;
mod snapshots;
mod streams;
mod text;
mod transfer;
mod waiting;

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// How long a test waits for something that should be immediate.
const SOON: Duration = Duration::from_secs(20);

/// A temporary folder for each test, in which the binary runs.
struct Shell {
    dir: TempDir,
}

/// Result of a run.
#[derive(Debug, PartialEq, Eq)]
struct Ended {
    code: i32,
    out: Vec<u8>,
    err: String,
}

impl Ended {
    fn out(&self) -> &str {
        std::str::from_utf8(&self.out).expect("output is UTF-8")
    }

    /// The JSON object on standard error, which must have nothing else.
    fn summary(&self) -> Value {
        assert_eq!(self.err.lines().count(), 1, "one object, no more: {}", self.err);
        serde_json::from_str(&self.err).expect("standard error is JSON")
    }

    /// Checks the exit code, and that the last line of standard error is a complaint with all of `parts`.
    #[track_caller]
    fn complains(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        let last = self.err.lines().last().unwrap_or_default();
        assert!(last.starts_with("firstseen: "), "{self:?}");
        for part in parts {
            assert!(last.contains(part), "no {part:?} in {self:?}");
        }
    }
}

impl Shell {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).expect("write a file");
        path
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).expect("read a file")
    }

    /// The binary, to be run in this folder.
    fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firstseen"));
        command.current_dir(self.dir.path()).args(args);
        command
    }

    /// Runs the binary to completion.
    fn run<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
        input: impl AsRef<[u8]>,
    ) -> Ended {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("run the binary");
        let mut stdin = child.stdin.take().expect("its standard input");
        let input = input.as_ref().to_owned();
        // A child that stops early closes its end; the test judges that by the exit code.
        let writer = thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().expect("wait for the binary");
        writer.join().expect("the writer of its input");
        Ended {
            code: output.status.code().expect("an exit code, not a signal"),
            out: output.stdout,
            err: String::from_utf8(output.stderr).expect("standard error is UTF-8"),
        }
    }

    /// Runs a command on the store `S`; the words of `line` are separated by blanks.
    fn words(&self, line: &str) -> Ended {
        self.run(line.split(' ').chain(["--store", "S"]), "")
    }

    /// Runs a command on the store `S`, which must succeed, and returns the objects that it prints.
    #[track_caller]
    fn objects(&self, line: &str) -> Vec<Value> {
        let ended = self.words(&format!("{line} --json"));
        assert_eq!(ended.code, 0, "{ended:?}");
        ended.out().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Returns the first object that a command on the store `S` prints.
    #[track_caller]
    fn object(&self, line: &str) -> Value {
        self.objects(line).remove(0)
    }

    /// Runs `dedup` over `input` with the store `S`.
    fn dedup(&self, more: &[&str], input: impl AsRef<[u8]>) -> Ended {
        self.run(["dedup", "--store", "S"].iter().chain(more), input)
    }

    /// Runs `dedup`, checks that it succeeded, and returns its output.
    #[track_caller]
    fn prints(&self, more: &[&str], input: impl AsRef<[u8]>) -> String {
        let ended = self.dedup(more, input);
        assert_eq!(ended.code, 0, "{ended:?}");
        String::from_utf8(ended.out).expect("output is UTF-8")
    }
}

fn pause(duration: Duration) {
    let (_nobody_sends, wait) = mpsc::channel::<()>();
    assert!(wait.recv_timeout(duration).is_err());
}

/// Waits for a child that must exit soon.
#[track_caller]
fn ends(mut child: Child) -> i32 {
    for _ in 0..SOON.as_millis() / 5 {
        if let Some(status) = child.try_wait().expect("look at the child") {
            return status.code().expect("an exit code, not a signal");
        }
        pause(Duration::from_millis(5));
    }
    child.kill().expect("end the child");
    panic!("the child did not end");
}

/// What `awk '!seen[$0]++'` prints, for input that ends with a line feed.
fn awk(input: &[u8]) -> Vec<u8> {
    let mut seen = std::collections::HashSet::new();
    let lines = input.split_inclusive(|byte| *byte == b'\n');
    lines.filter(|line| seen.insert(*line)).flatten().copied().collect()
}

/// Random numbers from a seed (splitmix64), so that failures can be reproduced.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Lines of 32 bytes, a fifth of them repeated.
fn many_lines(count: u64, seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut text = Vec::new();
    for at in 0..count {
        let number = if at > 0 && random.below(5) == 0 { random.below(at) } else { at };
        writeln!(text, "event-{:025}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
            .expect("write to memory");
    }
    text
}

/// Opens a file as `>> FILE` does.
fn append_to(path: &Path) -> File {
    File::options().append(true).create(true).open(path).expect("open a file")
}
