//! `examples/reserve.rs`.

use crate::harness::generate::{Kind, mix};
use crate::harness::outside::Outside;
use crate::harness::{Answer, Program, deliveries, proof};
use crate::queue::{Queue, id};
use firstseen::Store;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

#[path = "../../examples/reserve.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "its main is for those who run it")]
mod program;

const BATCH: usize = 10;

fn run(folder: &Path, input: &Path, step: u64) -> Answer {
    let outside = Outside::new(folder, step);
    let mut queue = Queue::open(folder, input)?;
    let store = Store::open(outside.file("seen.db"))?;
    let mut calls = u64::from(std::process::id());
    let mut charge = |id: &str| {
        calls += 1;
        if mix(calls).is_multiple_of(10) {
            return Err("the bank did not answer".into());
        }
        outside.effect(id)?;
        outside.step("charged, not confirmed");
        Ok(())
    };
    let ids = queue.ids();
    for batch in ids.chunks(BATCH) {
        let mut open: Vec<&str> = batch.iter().map(String::as_str).collect();
        while !open.is_empty() {
            let done = program::consume(&store, &open, &mut charge, &mut io::sink())?;
            outside.step("done, not acknowledged");
            open.retain(|id| !done.contains(id));
        }
        queue.acknowledge(batch.len())?;
    }
    Ok(store.close()?)
}

#[test]
fn events_reserved_and_killed_at_random_are_charged_and_a_kill_repeats_one_at_most() {
    let program = Program {
        test: "reserve::events_reserved_and_killed_at_random_are_charged_and_a_kill_repeats_one_at_most",
        kind: Kind::Orders,
        run,
        env: None,
    };
    program.in_child();
    let dir = tempfile::tempdir().unwrap();
    let count = deliveries(200);
    let (killed, left) = program.killed_at_random(dir.path(), count, |_| {});
    let mut charges: BTreeMap<String, u64> = BTreeMap::new();
    for id in left.effects() {
        *charges.entry(id).or_default() += 1;
    }
    let store = Store::open(left.file("seen.db")).unwrap();
    for event in left.events() {
        let id = id(&event);
        assert!(charges.contains_key(&id), "{id} is acknowledged and was never charged");
        assert!(store.contains(&id).unwrap(), "{id} is acknowledged and not claimed");
    }
    let repeated: u64 = charges.values().map(|times| times - 1).sum();
    assert!(repeated <= killed, "{repeated} repeated by {killed} kills");
    assert!(store.verify().unwrap().is_sound());
    let details = format!("{count} deliveries, none lost, {repeated} charged again around a kill");
    proof("reserve", killed, &details);
}
