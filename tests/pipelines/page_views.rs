//! `examples/page_views.rs`.

use crate::harness::generate::Kind;
use crate::harness::{Left, Program, deliveries, proof};
use std::collections::HashSet;
use std::path::Path;

#[path = "../../examples/page_views.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "its main is for those who run it")]
mod program;

use program::{Counts, Log, Resume};

const BATCH: usize = 5;

fn run_with(folder: &Path, input: &Path, step: u64, resume: Resume) -> program::outside::Answer {
    let outside = program::outside::Outside::new(folder, step);
    program::run(&outside, input, BATCH, (Log::Unmapped, resume)).map(drop)
}

/// In smaller batches once it was killed.
fn run_smaller(folder: &Path, input: &Path, step: u64) -> program::outside::Answer {
    let outside = program::outside::Outside::new(folder, step);
    let batch = if outside.file("killed").exists() { 2 } else { BATCH };
    // What the kill leaves is in the log, so that what comes again is known.
    program::run(&outside, input, batch, (Log::Mapped, Resume::Acknowledged)).map(drop)
}

fn run(folder: &Path, input: &Path, step: u64) -> program::outside::Answer {
    run_with(folder, input, step, Resume::Acknowledged)
}

fn run_exact(folder: &Path, input: &Path, step: u64) -> program::outside::Answer {
    run_with(folder, input, step, Resume::Stored)
}

/// Counts the input, but for the bytes that were acknowledged and lost.
fn expected(left: &Left, lost: &[(u64, u64)]) -> Counts {
    let (mut seen, mut counts, mut at) = (HashSet::new(), Counts::new(), 0);
    for line in std::fs::read_to_string(&left.input).unwrap().lines() {
        let view: serde_json::Value = serde_json::from_str(line).unwrap();
        let is_lost = lost.iter().any(|(from, to)| (*from..*to).contains(&at));
        if !is_lost && seen.insert(view["id"].as_str().unwrap().to_owned()) {
            *counts.entry(view["page"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        at += line.len() as u64 + 1;
    }
    counts
}

fn counts(left: &Left) -> Counts {
    program::counts_in(&program::open(&left.file("seen.db"), Log::Unmapped).unwrap()).unwrap()
}

/// What was acknowledged, and is not counted.
fn lost(left: &Left) -> (u64, u64) {
    let store = program::open(&left.file("seen.db"), Log::Unmapped).unwrap();
    let stored = store.source("views").unwrap().position(0).unwrap();
    let outside = program::outside::Outside::new(&left.folder, 0);
    (stored.map_or(0, |position| position.next), program::acknowledged(&outside))
}

#[test]
fn views_killed_at_any_step_count_once_where_the_store_says_where_to_go_on() {
    let program = Program {
        test: "page_views::views_killed_at_any_step_count_once_where_the_store_says_where_to_go_on",
        kind: Kind::Views,
        run: run_exact,
        env: None,
    };
    program.in_child();
    let steps = program.at_every_step(14, |left| {
        assert_eq!(counts(left), expected(left, &[]), "{:?}", left.killed);
    });
    for step in ["read, not committed", "committed, not acknowledged", "acknowledged"] {
        assert!(steps.iter().any(|name| name == step), "{step} is one of {steps:?}");
    }
}

#[test]
fn views_killed_at_any_step_are_never_counted_twice_where_the_source_says_where_to_go_on() {
    let program = Program {
        test: "page_views::views_killed_at_any_step_are_never_counted_twice_where_the_source_says_where_to_go_on",
        kind: Kind::Views,
        run,
        env: None,
    };
    program.in_child();
    let mut are_missing = false;
    program.at_every_step(14, |left| {
        let (counts, truth) = (counts(left), expected(left, &[]));
        assert!(counts.iter().all(|(page, count)| count <= &truth[page]), "{:?}", left.killed);
        are_missing |= counts != truth;
    });
    assert!(are_missing, "a kill behind an acknowledgment costs views: that is the price");
}

/// What was committed and not acknowledged comes again. A smaller batch of it ends before the offset of the store, which must
/// not go back.
#[test]
fn views_killed_at_any_step_are_all_counted_by_a_start_with_smaller_batches() {
    let program = Program {
        test: "page_views::views_killed_at_any_step_are_all_counted_by_a_start_with_smaller_batches",
        kind: Kind::Views,
        run: run_smaller,
        env: None,
    };
    program.in_child();
    program.at_every_step(14, |left| {
        assert_eq!(counts(left), expected(left, &[]), "{:?}", left.killed);
    });
}

#[test]
fn views_killed_at_random_miss_exactly_the_end_of_what_was_acknowledged() {
    let program = Program {
        test: "page_views::views_killed_at_random_miss_exactly_the_end_of_what_was_acknowledged",
        kind: Kind::Views,
        run,
        env: None,
    };
    program.in_child();
    let dir = tempfile::tempdir().unwrap();
    let (count, mut gaps) = (deliveries(300), Vec::new());
    let (killed, left) = program.killed_at_random(dir.path(), count, |left| {
        let (stored, acknowledged) = lost(left);
        // What was committed and not acknowledged comes again, and is a duplicate.
        gaps.extend((stored < acknowledged).then_some((stored, acknowledged)));
    });
    let (counts, truth) = (counts(&left), expected(&left, &[]));
    assert_eq!(counts, expected(&left, &gaps), "what is lost is what the kills have cut off");
    let [counted, there] = [&counts, &truth].map(|counts| counts.values().sum::<u64>());
    let missing = there - counted;
    let share = 100.0 * missing as f64 / there as f64;
    let details = format!("{there} views, {missing} missing ({share:.1} %), 0 counted twice");
    proof("page_views", killed, &details);
}
