//! `examples/financial_close.rs`.

use crate::harness::generate::Kind;
use crate::harness::{Left, Program, deliveries, proof};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

#[path = "../../examples/financial_close.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "its main is for those who run it")]
mod program;

const BATCH: usize = 5;

fn run(folder: &Path, input: &Path, step: u64) -> program::outside::Answer {
    let outside = program::outside::Outside::new(folder, step);
    program::run(&outside, input, BATCH)?;
    let replayed = program::replay(&outside, input, BATCH)?;
    Ok(std::fs::write(folder.join(REPLAYED), replayed)?)
}

const REPLAYED: &str = "replayed.tsv";

/// The report that the input asks for, done by other means.
fn expected(left: &Left) -> String {
    let mut days = BTreeMap::<String, (u64, u64)>::new();
    for order in left.events() {
        for day in [&order["at"].as_str().unwrap()[..10], "total"] {
            let day = days.entry(day.to_owned()).or_default();
            *day = (day.0 + 1, day.1 + order["cents"].as_u64().unwrap());
        }
    }
    let mut text = "day\torders\trevenue\n".to_owned();
    for (day, (orders, cents)) in days {
        writeln!(text, "{day}\t{orders}\t{}.{:02}", cents / 100, cents % 100).unwrap();
    }
    text
}

fn check(left: &Left) {
    for name in [program::REPORT, REPLAYED] {
        let report = std::fs::read_to_string(left.file(name)).unwrap();
        assert_eq!(report, expected(left), "{name}, {:?}", left.killed);
    }
}

#[test]
fn the_report_of_a_close_killed_at_any_step_is_that_of_an_undisturbed_run() {
    let program = Program {
        test: "close::the_report_of_a_close_killed_at_any_step_is_that_of_an_undisturbed_run",
        kind: Kind::Orders,
        run,
        env: None,
    };
    program.in_child();
    let steps = program.at_every_step(14, check);
    for step in ["read, not committed", "committed", "the report has not its name", "replayed"] {
        assert!(steps.iter().any(|name| name == step), "{step} is one of {steps:?}");
    }
}

#[test]
fn the_report_of_a_close_killed_at_random_is_byte_for_byte_that_of_an_undisturbed_run() {
    let program = Program {
        test: "close::the_report_of_a_close_killed_at_random_is_byte_for_byte_that_of_an_undisturbed_run",
        kind: Kind::Orders,
        run,
        env: None,
    };
    program.in_child();
    let dir = tempfile::tempdir().unwrap();
    let count = deliveries(150);
    let (killed, left) = program.killed_at_random(dir.path(), count, |_| {});
    check(&left);
    let calm = dir.path().join("calm/run").join(program::REPORT);
    let (calm, report) =
        (std::fs::read(calm).unwrap(), std::fs::read(left.file(program::REPORT)).unwrap());
    assert_eq!(calm, report);
    proof(
        "financial_close",
        killed,
        &format!("{count} deliveries, the same report to the byte, and from a replay"),
    );
}
