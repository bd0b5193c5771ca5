//! `examples/tokio_consumer.rs`.

use crate::harness::generate::Kind;
use crate::harness::{Answer, Program, deliveries, proof};
use firstseen::Store;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::symlink;
use std::path::Path;

#[path = "../../examples/tokio_consumer.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "its main is for those who run it")]
mod program;

fn run(folder: &Path, input: &Path, _step: u64) -> Answer {
    // Its steps are the bytes of its effects.
    let steps = folder.join("steps");
    if !steps.is_symlink() {
        symlink("effects", steps)?;
    }
    let events = std::fs::read_to_string(input)?.lines().count();
    program::run(folder, events).map(drop).map_err(|why| why.to_string().into())
}

#[test]
fn an_async_consumer_killed_at_random_loses_nothing_and_repeats_only_what_it_was_working_on() {
    let program = Program {
        test: "tokio_consumer::an_async_consumer_killed_at_random_loses_nothing_and_repeats_only_what_it_was_working_on",
        kind: Kind::Orders,
        run,
        env: None,
    };
    program.in_child();
    let dir = tempfile::tempdir().unwrap();
    let events = deliveries(500);
    let (killed, left) = program.killed_at_random(dir.path(), events, |_| {});
    // For each event, the runs that made its effect.
    let effects = left.effects();
    let mut runs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in &effects {
        let (id, run) = line.split_once(' ').unwrap();
        runs.entry(id).or_default().push(run);
    }
    let store = Store::open(left.file("seen.db")).unwrap();
    let acknowledged = std::fs::read_to_string(left.file("acknowledged")).unwrap();
    let acknowledged: BTreeSet<&str> = acknowledged.lines().collect();
    assert_eq!(acknowledged.len() as u64, events, "all are acknowledged");
    let mut repeated: BTreeMap<&str, usize> = BTreeMap::new();
    for id in acknowledged {
        let runs = runs.get(id).unwrap_or_else(|| panic!("{id} is lost"));
        let distinct: BTreeSet<_> = runs.iter().collect();
        assert_eq!(distinct.len(), runs.len(), "{id}: two effects in one run: {runs:?}");
        // Every run but the last was killed while it worked on this event.
        for run in &runs[..runs.len() - 1] {
            *repeated.entry(run).or_default() += 1;
        }
        assert!(store.contains(id).unwrap(), "{id} is acknowledged but not claimed");
    }
    let is_few = repeated.values().all(|times| *times <= program::WORKERS);
    assert!(is_few, "a kill repeats at most what was in progress: {repeated:?}");
    assert!(store.verify().unwrap().is_sound());
    let repeated: usize = repeated.values().sum();
    let details =
        format!("{events} events, none lost, {repeated} effects made again around a kill");
    proof("tokio_consumer", killed, &details);
}
