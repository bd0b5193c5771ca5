//! `examples/poison_message.rs`.

use crate::harness::generate::Kind;
use crate::harness::{Answer, Program, deliveries, proof};
use crate::queue::{Queue, id};
use firstseen::Store;
use firstseen::ledger::DeadFilter;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

#[path = "../../examples/poison_message.rs"]
#[allow(dead_code, clippy::duplicate_mod, reason = "its main is for those who run it")]
mod program;

const POISON: &str = "u-poison-";

fn is_poison(event: &Value) -> bool {
    event["user"].as_str().unwrap().starts_with(POISON)
}

fn run(folder: &Path, input: &Path, step: u64) -> Answer {
    let queue = Queue::open(folder, input)?.map(|event| {
        let what = if is_poison(&event) { "bomb" } else { "cat" };
        (id(&event), format!("resize {what} of {}", id(&event)))
    });
    program::run_on(&program::outside::Outside::new(folder, step), queue)
}

#[test]
fn messages_killed_at_random_are_handled_and_poison_is_put_aside_first() {
    let program = Program {
        test: "poison_message::messages_killed_at_random_are_handled_and_poison_is_put_aside_first",
        kind: Kind::MixedOrders,
        run,
        env: None,
    };
    program.in_child();
    let dir = tempfile::tempdir().unwrap();
    let count = deliveries(40);
    let (killed, left) = program.killed_at_random_and_dying(dir.path(), count, count, |_| {});
    let effects = left.effects();
    let mut handled: BTreeMap<String, u64> = BTreeMap::new();
    for id in effects.iter().filter_map(|line| line.strip_prefix("handled ")) {
        *handled.entry(id.to_owned()).or_default() += 1;
    }
    let store = Store::open(left.file("seen.db")).unwrap();
    let ledger = program::open(&store).unwrap();
    assert!(ledger.dead_letters().list(&DeadFilter::new()).unwrap().letters.is_empty());
    let (events, mut poison, mut repeated) = (left.events(), 0, 0);
    for event in &events {
        let id = id(event);
        let times = handled.get(&id).unwrap_or_else(|| panic!("{id} is lost"));
        repeated += times - 1;
        let record = ledger.get(&id).unwrap().unwrap();
        assert!(record.result().is_some(), "{id} is done in the end");
        if !is_poison(event) {
            continue;
        }
        poison += 1;
        let death = format!("a worker dies of {:?}", format!("resize bomb of {id}"));
        let deaths = effects.iter().filter(|line| **line == death).count() as u64;
        let most = u64::from(program::ATTEMPTS_MAX);
        // A kill before the work counts as a start, too.
        assert!(deaths <= most && deaths + killed >= most, "{id} has killed {deaths} workers");
        let is_dead = |line: &String| line.starts_with(&format!("{id} is dead"));
        let [dead, done] = [effects.iter().position(is_dead), {
            effects.iter().position(|line| *line == format!("handled {id}"))
        }];
        assert!(dead.is_some() && dead < done, "{id} is put aside, and handled after the fix");
        assert!(record.redrives >= 1, "{id}");
    }
    assert!(poison > 0, "there is poison among them");
    assert!(repeated <= killed, "{repeated} messages handled again by {killed} kills");
    assert!(store.verify().unwrap().is_sound());
    let details = format!(
        "{count} deliveries, {poison} poison messages put aside, {repeated} handled again around a kill"
    );
    proof("poison_message", killed, &details);
}
