//! `examples/claim.rs`.

use crate::harness::generate::Kind;
use crate::harness::outside::Outside;
use crate::harness::{Answer, Program, deliveries, proof};
use crate::queue::{Queue, id};
use firstseen::Store;
use std::collections::HashSet;
use std::path::Path;

#[path = "../../examples/claim.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "its main is for those who run it")]
mod program;

fn run(folder: &Path, input: &Path, step: u64) -> Answer {
    let outside = Outside::new(folder, step);
    let mut queue = Queue::open(folder, input)?;
    let event = |id| program::Event { id, kind: "order".into() };
    let deliveries: Vec<_> = queue.ids().into_iter().map(event).collect();
    let effect = |event: &program::Event| {
        outside.effect(&event.id)?;
        outside.step("worked on");
        Ok(())
    };
    let acknowledge = |batch: &[program::Event]| queue.acknowledge(batch.len());
    program::run(&folder.join("seen.db"), &deliveries, effect, acknowledge).map(drop)
}

#[test]
fn events_claimed_first_and_killed_at_random_are_worked_on_at_most_once() {
    let program = Program {
        test: "claim::events_claimed_first_and_killed_at_random_are_worked_on_at_most_once",
        kind: Kind::Orders,
        run,
        env: None,
    };
    program.in_child();
    let dir = tempfile::tempdir().unwrap();
    let count = deliveries(400);
    let (killed, left) = program.killed_at_random(dir.path(), count, |_| {});
    let (effects, events) = (left.effects(), left.events());
    let once: HashSet<&String> = effects.iter().collect();
    assert_eq!(once.len(), effects.len(), "an event was worked on twice");
    let store = Store::open(left.file("seen.db")).unwrap();
    let lost = events.iter().filter(|event| !once.contains(&id(event))).count();
    let most = killed as usize * program::BATCH;
    assert!(lost < most.max(1), "{lost} of {} are lost by {killed} kills", events.len());
    assert!(events.iter().all(|event| store.contains(id(event)).unwrap()), "all are claimed");
    assert!(store.verify().unwrap().is_sound());
    let details =
        format!("{count} deliveries, none worked on twice, {lost} claimed and not worked on");
    proof("claim", killed, &details);
}
