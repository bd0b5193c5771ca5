//! `examples/payment_stages.rs`.

use crate::harness::generate::Kind;
use crate::harness::{Answer, Program, deliveries, proof};
use crate::queue::{Queue, id};
use firstseen::Store;
use std::collections::BTreeMap;
use std::path::Path;

#[path = "../../examples/payment_stages.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "its main is for those who run it")]
mod program;

fn run(folder: &Path, input: &Path, step: u64) -> Answer {
    let payments = Queue::open(folder, input)?.map(|event| id(&event));
    program::run_on(&program::outside::Outside::new(folder, step), payments)
}

#[test]
fn payments_killed_at_random_are_completed_and_a_saved_stage_is_never_made_again() {
    let program = Program {
        test: "payment_stages::payments_killed_at_random_are_completed_and_a_saved_stage_is_never_made_again",
        kind: Kind::Orders,
        run,
        env: None,
    };
    program.in_child();
    let dir = tempfile::tempdir().unwrap();
    let count = deliveries(60);
    let (killed, left) = program.killed_at_random(dir.path(), count, |_| {});
    let (mut calls, mut made) = (BTreeMap::<String, Vec<String>>::new(), 0);
    for effect in left.effects() {
        let (payment, stage) = effect.split_once('/').unwrap();
        calls.entry(payment.to_owned()).or_default().push(stage.to_owned());
        made += 1;
    }
    let store = Store::open(left.file("seen.db")).unwrap();
    let ledger = store.ledger("payments").unwrap();
    let payments = left.events();
    for payment in &payments {
        let payment = id(payment);
        let stages = calls.get_mut(&payment).unwrap_or_else(|| panic!("{payment} is lost"));
        // A stage is repeated only before it is saved, so before the next one begins.
        stages.dedup();
        assert_eq!(*stages, program::STAGES, "{payment}");
        let record = ledger.get(&payment).unwrap().unwrap();
        assert_eq!(record.value::<String>().unwrap(), format!("{payment}: 12000 cents"));
    }
    let repeated = made - (payments.len() * program::STAGES.len()) as u64;
    assert!(repeated <= killed, "{repeated} calls repeated by {killed} kills");
    assert!(store.verify().unwrap().is_sound());
    let details = format!(
        "{count} deliveries, each payment completed, {repeated} calls repeated, none of a saved stage"
    );
    proof("payment_stages", killed, &details);
}
