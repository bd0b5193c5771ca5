//! `examples/loyalty.rs`.

use crate::harness::generate::Kind;
use crate::harness::{Left, Program, deliveries, proof};
use firstseen::Store;
use std::collections::BTreeMap;
use std::path::Path;

#[path = "../../examples/loyalty.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "its main is for those who run it")]
mod program;

const BATCH: usize = 5;

fn run(folder: &Path, input: &Path, step: u64) -> program::outside::Answer {
    program::run(&program::outside::Outside::new(folder, step), input, BATCH).map(drop)
}

/// The outside record is the input: each order in it counts once.
fn check(left: &Left) -> u64 {
    let mut expected = BTreeMap::<String, u64>::new();
    for order in left.events() {
        let user = order["user"].as_str().unwrap().to_owned();
        *expected.entry(user).or_default() += order["cents"].as_u64().unwrap() / 100;
    }
    let store = Store::open(left.file("seen.db")).unwrap();
    assert_eq!(program::points_in(&store).unwrap(), expected, "{:?}", left.killed);
    let next = store.source("orders").unwrap().position(0).unwrap().map(|position| position.next);
    assert_eq!(next, Some(std::fs::metadata(&left.input).unwrap().len()), "all was read");
    assert!(store.verify().unwrap().is_sound());
    let outside = program::outside::Outside::new(&left.folder, 0);
    let (messages, awards) = program::published(&outside).unwrap();
    assert_eq!(awards, expected, "each award has arrived, {:?}", left.killed);
    let waiting = store.outbox("points-awarded").unwrap().read(1).unwrap();
    assert!(waiting.is_empty(), "{:?}", left.killed);
    let repeated = messages - left.events().len() as u64;
    // The one gap: between publishing and its acknowledgment.
    let is_in_gap = left.killed.as_deref() == Some("published, not acknowledged");
    if left.is_aimed {
        assert_eq!(repeated > 0, is_in_gap, "{repeated} messages came again, {:?}", left.killed);
    }
    repeated
}

#[test]
fn orders_of_loyalty_killed_at_any_step_count_once_and_award_once() {
    let program = Program {
        test: "loyalty::orders_of_loyalty_killed_at_any_step_count_once_and_award_once",
        kind: Kind::Orders,
        run,
        env: None,
    };
    program.in_child();
    let steps = program.at_every_step(14, |left| {
        check(left);
    });
    for step in
        ["opened", "read, not committed", "committed, not published", "published, not acknowledged"]
    {
        assert!(steps.iter().any(|name| name == step), "{step} is one of {steps:?}");
    }
}

#[test]
fn orders_of_loyalty_killed_at_random_count_once_and_award_once() {
    let program = Program {
        test: "loyalty::orders_of_loyalty_killed_at_random_count_once_and_award_once",
        kind: Kind::Orders,
        run,
        env: None,
    };
    program.in_child();
    let dir = tempfile::tempdir().unwrap();
    let count = deliveries(150);
    let (killed, left) = program.killed_at_random(dir.path(), count, |_| {});
    let repeated = check(&left);
    let details = format!(
        "{count} deliveries, each order counted and awarded once, {repeated} messages sent again with their ids"
    );
    proof("loyalty", killed, &details);
}

/// Else its sums would be of both, as if something had been lost.
#[test]
fn a_folder_that_was_filled_from_another_input_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let is_taken = |input| program::pipeline::keep_to_one_input(dir.path(), Path::new(input));
    is_taken("a.ndjson").unwrap();
    is_taken("a.ndjson").unwrap();
    let why = is_taken("b.ndjson").unwrap_err().to_string();
    assert!(why.contains("was filled from a.ndjson"), "{why}");
}
