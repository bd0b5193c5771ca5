//! `examples/order_pipeline.rs`.

use crate::harness::generate::Kind;
use crate::harness::{Left, Program, deliveries, proof};
use firstseen::Store;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;

#[path = "../../examples/order_pipeline.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "its main is for those who run it")]
mod program;

const BATCH: usize = 5;

fn run(folder: &Path, input: &Path, step: u64) -> program::outside::Answer {
    program::run(&program::outside::Outside::new(folder, step), input, BATCH).map(drop)
}

/// The orders of the input: those to be fulfilled, the invalid ones, and the poison.
fn expected(left: &Left) -> [BTreeSet<String>; 3] {
    let mut orders = [(); 3].map(|()| BTreeSet::new());
    for order in left.events() {
        let kind = if order["cents"] == 0 {
            1
        } else if order["user"].as_str().unwrap().starts_with("u-poison") {
            2
        } else {
            0
        };
        orders[kind].insert(order["id"].as_str().unwrap().to_owned());
    }
    orders
}

/// Returns how many notifications came again.
fn check(left: &Left) -> usize {
    let [fulfilled, invalid, poison] = expected(left);
    assert!(!invalid.is_empty() && !poison.is_empty(), "the input has all kinds");
    let [intake, fulfilment] = program::STORES.map(|name| Store::open(left.file(name)).unwrap());
    let sound = |store: &Store| store.verify().unwrap().is_sound();
    assert!(sound(&intake) && sound(&fulfilment));
    let waiting = [intake.outbox("orders"), fulfilment.outbox("notifications")];
    let waiting = waiting.map(|topic| topic.unwrap().read(1).unwrap().len());
    assert_eq!(waiting, [0, 0], "all was relayed, {:?}", left.killed);
    let intake = program::Intake::of(intake).unwrap();
    let fulfilment = program::Fulfilment::of(fulfilment).unwrap();

    let mut written = BTreeSet::new();
    let visit = |id: &[u8], entry: firstseen::Result<_>| {
        entry.unwrap();
        written.insert(String::from_utf8(id.to_vec()).unwrap());
        ControlFlow::Continue(())
    };
    fulfilment.orders.scan(visit).unwrap();
    assert_eq!(written, fulfilled, "{:?}", left.killed);
    let dead = |ledger| program::dead_in(ledger).unwrap().into_iter().collect::<BTreeSet<_>>();
    assert_eq!(dead(&intake.ledger), invalid, "{:?}", left.killed);
    assert_eq!(dead(&fulfilment.ledger), poison, "{:?}", left.killed);
    for id in &poison {
        let record = fulfilment.ledger.get(id).unwrap().unwrap();
        assert_eq!(record.history.len(), program::ATTEMPTS_MAX as usize, "{:?}", left.killed);
    }

    let mut notified = BTreeMap::<String, BTreeSet<String>>::new();
    let mut count = 0;
    for line in std::fs::read_to_string(left.file(program::NOTIFIED)).unwrap().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let [id, order] = [&line["id"], &line["notification"]["order"]];
        let [id, order] = [id, order].map(|value| value.as_str().unwrap().to_owned());
        notified.entry(order).or_default().insert(id);
        count += 1;
    }
    assert!(notified.values().all(|ids| ids.len() == 1), "one id each, {:?}", left.killed);
    assert_eq!(notified.into_keys().collect::<BTreeSet<_>>(), fulfilled, "{:?}", left.killed);
    count - fulfilled.len()
}

#[test]
fn orders_killed_at_any_step_are_fulfilled_once_or_end_in_the_dead_letters() {
    let program = Program {
        test: "order_pipeline::orders_killed_at_any_step_are_fulfilled_once_or_end_in_the_dead_letters",
        kind: Kind::MixedOrders,
        run,
        env: None,
    };
    program.in_child();
    let steps = program.at_every_step(9, |left| {
        let repeated = check(left);
        // The one gap: between notifying and its acknowledgment.
        let is_in_gap = left.killed.as_deref() == Some("notified, not acknowledged");
        assert_eq!(repeated > 0, is_in_gap, "{repeated} came again, {:?}", left.killed);
    });
    for step in
        ["refused", "published", "begun", "failed", "fulfilled", "consumed, not acknowledged"]
    {
        assert!(steps.iter().any(|name| name == step), "{step} is one of {steps:?}");
    }
}

#[test]
fn orders_killed_at_random_are_fulfilled_once_or_end_in_the_dead_letters() {
    let program = Program {
        test: "order_pipeline::orders_killed_at_random_are_fulfilled_once_or_end_in_the_dead_letters",
        kind: Kind::MixedOrders,
        run,
        env: None,
    };
    program.in_child();
    let dir = tempfile::tempdir().unwrap();
    let count = 100 + deliveries(40);
    let (killed, left) = program.killed_at_random(dir.path(), count, |_| {});
    let repeated = check(&left);
    let [fulfilled, invalid, poison] = expected(&left).map(|orders| orders.len());
    let details = format!(
        "{fulfilled} orders fulfilled once, {invalid} invalid and {poison} poison in the dead letters, \
         {repeated} notifications sent again with their ids"
    );
    proof("order_pipeline", killed, &details);
}

#[test]
fn a_line_that_no_store_would_take_is_a_dead_letter_and_ends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let order =
        |id: &str, user: &str| format!(r#"{{"id":"{id}","user":"{user}","cents":1}}"#).into_bytes();
    let lines = [
        order("", "u"),
        order(&"i".repeat(2_000), "u"),
        order("of a long user", &"u".repeat(5_000)),
        b"no order".to_vec(),
        b"{\"id\":\"not utf-8\",\"user\":\"\xff\",\"cents\":1}".to_vec(),
        vec![b'x'; 5 << 20],
        Vec::new(),
        order("good", "u"),
    ];
    let input = dir.path().join("input.ndjson");
    std::fs::write(&input, [lines.join(&b'\n'), b"\n".to_vec()].concat()).unwrap();
    for _ in 0..2 {
        run(dir.path(), &input, u64::MAX).unwrap();
    }
    let [intake, fulfilment] =
        program::STORES.map(|name| Store::open(dir.path().join(name)).unwrap());
    let intake = program::Intake::of(intake).unwrap();
    let fulfilment = program::Fulfilment::of(fulfilment).unwrap();
    assert_eq!(program::dead_in(&intake.ledger).unwrap().len(), lines.len() - 1);
    assert!(fulfilment.orders.get("good").unwrap().is_some());
}
