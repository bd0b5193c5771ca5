//! The messages of the test, and the record of their effects: a file outside of store and server.

use crate::OutsideRecord;
use std::collections::BTreeMap;
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
pub(super) struct Record(OutsideRecord);

impl Record {
    pub(super) fn open(dir: &Path) -> Self {
        Self(OutsideRecord::open(&dir.join("effects")))
    }

    /// Records that this process has made the effect of a message.
    pub(super) fn add(&self, id: &[u8]) {
        self.0.add(format_args!("{} {}", String::from_utf8_lossy(id), std::process::id()));
    }
}

/// Returns by which processes the effect of each message was made.
pub(super) fn effects_of(dir: &Path) -> BTreeMap<u64, Vec<u32>> {
    let mut effects: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    for line in OutsideRecord::lines(&dir.join("effects")) {
        let (n, pid) = line.split_once(' ').expect("a number and a process id");
        let (n, pid) = (n.parse().expect("a number"), pid.parse().expect("a process id"));
        effects.entry(n).or_default().push(pid);
    }
    effects
}
