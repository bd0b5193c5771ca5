//! The messages of the test, and the record of their effects: a file outside of store and server.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

pub(super) fn payload(n: u64) -> String {
    let kind = if is_poison(n) { "poison" } else { "order" };
    format!("{kind} {n}")
}

pub(super) fn is_poison(n: u64) -> bool {
    n % 50 == 7
}

/// The record, open for one process.
#[derive(Debug)]
pub(super) struct Record(File);

impl Record {
    pub(super) fn open(dir: &Path) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(dir.join("effects"));
        Self(file.expect("a file for effects"))
    }

    /// Records that this process has made the effect of a message.
    pub(super) fn add(&self, id: &[u8]) {
        let line = format!("{} {}\n", String::from_utf8_lossy(id), std::process::id());
        // One write, so that a kill leaves only whole lines.
        (&self.0).write_all(line.as_bytes()).expect("an effect is recorded");
    }
}

/// Returns by which processes the effect of each message was made.
pub(super) fn effects_of(dir: &Path) -> BTreeMap<u64, Vec<u32>> {
    let mut effects: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    for line in fs::read_to_string(dir.join("effects")).unwrap_or_default().lines() {
        let (n, pid) = line.split_once(' ').expect("a whole line");
        let (n, pid) = (n.parse().expect("a number"), pid.parse().expect("a process id"));
        effects.entry(n).or_default().push(pid);
    }
    effects
}
