//! `examples/two_phase.rs`.

use crate::harness::generate::Kind;
use crate::harness::{Left, Program, deliveries, proof};
use firstseen::Store;
use std::collections::BTreeMap;
use std::path::Path;

#[path = "../../examples/two_phase.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "its main is for those who run it")]
mod program;

const BATCH: usize = 5;
const OPENING: u64 = 1_000_000;

fn run(folder: &Path, input: &Path, step: u64) -> program::outside::Answer {
    program::run(&program::outside::Outside::new(folder, step), input, BATCH).map(drop)
}

/// The books that the input asks for, done by other means.
fn expected(left: &Left) -> BTreeMap<String, u64> {
    let mut books = BTreeMap::<String, u64>::new();
    for transfer in left.events() {
        let [from, to] = ["from", "to"].map(|end| transfer[end].as_str().unwrap().to_owned());
        let cents = transfer["cents"].as_u64().unwrap();
        let rich = books.entry(from).or_insert(OPENING);
        let moved = if *rich >= cents { cents } else { 0 };
        *rich -= moved;
        *books.entry(to).or_insert(OPENING) += moved;
    }
    books
}

fn check(left: &Left) {
    let books = program::books(&program::outside::Outside::new(&left.folder, 0)).unwrap();
    let sum: u64 = books.values().sum();
    assert_eq!(sum, OPENING * books.len() as u64, "money was lost or made, {:?}", left.killed);
    assert_eq!(books, expected(left), "{:?}", left.killed);
    for name in program::STORES {
        let store = Store::open(left.file(name)).unwrap();
        assert!(store.prepared().unwrap().is_empty(), "{name}: {:?}", left.killed);
        assert!(store.verify().unwrap().is_sound());
    }
}

/// What was told to be booked is decided, also right after a kill, before anybody has recovered anything.
fn check_killed(left: &Left) {
    let booked = left
        .effects()
        .iter()
        .filter_map(|line| line.strip_prefix("booked "))
        .map(|next| next.parse::<u64>().unwrap())
        .max()
        .unwrap_or(0);
    let [a, b, coordinator] = program::STORES.map(|name| Store::open(left.file(name)).unwrap());
    let next =
        coordinator.source("transfers").unwrap().position(0).unwrap().map_or(0, |at| at.next);
    assert!(next >= booked, "booked up to {booked}, and decided up to {next}");
    let in_doubt = |store: &Store| store.prepared().unwrap().into_iter().map(|one| one.gid);
    let mut gids: Vec<_> = in_doubt(&a).chain(in_doubt(&b)).collect();
    gids.dedup();
    assert!(gids.len() <= 1, "one batch at a time");
}

#[test]
fn money_of_two_banks_killed_at_any_step_is_neither_lost_nor_made() {
    let program = Program {
        test: "two_phase::money_of_two_banks_killed_at_any_step_is_neither_lost_nor_made",
        kind: Kind::Transfers,
        run,
        env: None,
    };
    program.in_child();
    let steps = program.at_every_step(9, check);
    for step in [
        "prepared in a",
        "prepared in b",
        "decided",
        "committed in a",
        "committed in b",
        "finished",
    ] {
        assert!(steps.iter().any(|name| name == step), "{step} is one of {steps:?}");
    }
}

#[test]
fn money_of_two_banks_killed_at_random_is_neither_lost_nor_made() {
    let program = Program {
        test: "two_phase::money_of_two_banks_killed_at_random_is_neither_lost_nor_made",
        kind: Kind::Transfers,
        run,
        env: None,
    };
    program.in_child();
    let dir = tempfile::tempdir().unwrap();
    let count = deliveries(50);
    let (killed, left) = program.killed_at_random(dir.path(), count, check_killed);
    check(&left);
    proof("two_phase", killed, &format!("{count} transfers, 0 cents lost or made"));
}

#[test]
fn a_store_that_a_killed_run_holds_for_a_moment_longer_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let held = Store::open(&path).unwrap();
    let holder = std::thread::spawn(move || {
        std::thread::park_timeout(std::time::Duration::from_millis(300));
        drop(held);
    });
    program::coordinator::open_store(&path).unwrap();
    holder.join().unwrap();
}
