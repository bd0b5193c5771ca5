//! Crashes at every step.

use super::*;
use crate::support::assert_sound;
use firstseen::Durability;
use firstseen::disk::sim::Fault;
use firstseen::ledger::Backoff;
use firstseen::outbox::{Delivery, MessageId, RelayOptions};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

fn open_safe(disk: &SimDisk, clock: &ManualClock) -> Store {
    sim(disk, clock).durability(Durability::Disk).open().expect("opens")
}

/// What waits, what is dead, and whether the id is claimed.
type Seen = (Vec<String>, Vec<String>, bool);

fn seen(store: &Store) -> Seen {
    let topic = store.outbox("t").expect("opens");
    let dead = topic.dead_letters().list(None, usize::MAX).expect("lists").messages;
    let mut dead: Vec<String> = dead.iter().map(|dead| payload(&dead.message)).collect();
    dead.sort();
    (waiting(&topic), dead, store.contains("x").expect("reads"))
}

fn given(waiting: &[&str], dead: &[&str], is_claimed: bool) -> Seen {
    let of = |all: &[&str]| all.iter().map(|&text| text.to_owned()).collect();
    (of(waiting), of(dead), is_claimed)
}

/// Crashes a call at each of its steps. After it all of it was done, or nothing; if the call was told so, all.
fn crash_everywhere(call: impl Fn(&Store) -> firstseen::Result<()>, before: &Seen, after: &Seen) {
    let mut outcomes = [0, 0];
    for at in 0.. {
        let (disk, clock) = (SimDisk::new(), clock());
        let store = open_safe(&disk, &clock);
        let topic = store.outbox("t").expect("opens");
        emit_each(&topic, &["dies"]);
        let refuses = |_: &[Message]| Delivery::all().refuse(0, "never");
        topic.relay(RelayOptions::new()).expect("is made").drain(&refuses).expect("works");
        emit_each(&topic, &["a", "b", "c"]);
        assert_eq!(&seen(&store), before);
        let ops = disk.ops();
        let fault = if at % 2 == 0 { Fault::Crash } else { Fault::CrashInWrite };
        disk.fail_at(ops + at / 2, fault, false);
        let told = call(&store);
        let was_crashed = disk.ops() > ops + at / 2;
        let store = open_safe(&disk.crash(at), &clock);
        let found = seen(&store);
        assert!(
            found == *after || (found == *before && told.is_err()),
            "crash at {at}: {found:?}, told {told:?}"
        );
        outcomes[usize::from(found == *after)] += 1;
        assert_sound(&store);
        if !was_crashed {
            break;
        }
    }
    assert!(outcomes[0] > 0 && outcomes[1] > 0, "{outcomes:?}");
}

#[test]
fn i1_emitted_messages_are_all_there_or_none_after_a_crash_at_any_step() {
    let call = |store: &Store| {
        let topic = store.outbox("t")?;
        try_emit(&topic, "x", &["d", "e", "f"]).map(|outcome| assert!(outcome.is_committed()))
    };
    let before = given(&["a", "b", "c"], &["dies"], false);
    crash_everywhere(call, &before, &given(&["a", "b", "c", "d", "e", "f"], &["dies"], true));
}

#[test]
fn i1_acknowledged_messages_are_all_gone_or_none_after_a_crash_at_any_step() {
    let call = |store: &Store| {
        let topic = store.outbox("t")?;
        topic.acknowledge(&topic.read(2)?).map(|removed| assert_eq!(removed, 2))
    };
    let before = given(&["a", "b", "c"], &["dies"], false);
    crash_everywhere(call, &before, &given(&["c"], &["dies"], false));
}

/// BEHAVIOURS 60: a dead letter is never in both places, and never in none.
#[test]
fn i1_a_message_is_dead_or_waits_after_a_crash_at_any_step_of_its_death_and_of_its_return() {
    let dies = |store: &Store| {
        let relay = store.outbox("t")?.relay(RelayOptions::new())?;
        relay.drain(&|_: &[Message]| Delivery::all().refuse(1, "never")).map(|_| ())
    };
    let before = given(&["a", "b", "c"], &["dies"], false);
    crash_everywhere(dies, &before, &given(&[], &["b", "dies"], false));
    let returns = |store: &Store| {
        let letters = store.outbox("t")?.dead_letters();
        letters.redrive_all().map(|redriven| assert_eq!(redriven, 1))
    };
    crash_everywhere(returns, &before, &given(&["a", "b", "c", "dies"], &[], false));
}

/// What a receiver has got: every id with its payload, in the order of first deliveries.
#[derive(Debug, Default)]
struct Received {
    payloads: BTreeMap<MessageId, String>,
    first: Vec<String>,
}

impl Received {
    fn take(&mut self, batch: &[Message]) {
        for message in batch {
            let text = payload(message);
            match self.payloads.insert(message.id, text.clone()) {
                None => self.first.push(text),
                Some(before) => assert_eq!(before, text, "one id, one message"),
            }
        }
    }

    /// Checks that messages of a key came in order.
    fn check(&self, sent: &[&str]) {
        for key in ["anna", "bert"] {
            let of_key = |all: Vec<&str>| -> Vec<String> {
                all.into_iter().filter(|text| text.starts_with(key)).map(str::to_owned).collect()
            };
            let first = of_key(self.first.iter().map(String::as_str).collect());
            let sent = of_key(sent.to_vec());
            assert_eq!(first[..], sent[..first.len()], "in the order of commits");
        }
    }
}

/// BEHAVIOURS 58, 60, 63: a relay is killed at every step, again and again until it gets through.
#[test]
fn a_relay_that_is_killed_at_any_step_delivers_each_message_under_one_id_and_in_order_per_key() {
    const SENT: [&str; 7] = ["anna:1", "bert:1", "1", "anna:2", "dies", "bert:2", "anna:3"];
    let options = RelayOptions::new().batch_max(3).attempts_max(2);
    let options = options.backoff(Backoff::constant(Duration::ZERO));
    let mut crashes = 0;
    for at in 0.. {
        let (mut disk, clock) = (SimDisk::new(), clock());
        let mut store = open_safe(&disk, &clock);
        emit_each(&store.outbox("t").expect("opens"), &SENT);
        let (received, tries) = (Mutex::new(Received::default()), Mutex::new(0_u32));
        let sink = |batch: &[Message]| {
            received.lock().expect("no panic").take(batch);
            *tries.lock().expect("no panic") += 1;
            let mut delivery = Delivery::all();
            for (n, message) in batch.iter().enumerate() {
                delivery = match &payload(message)[..] {
                    "dies" => delivery.retry(n, "no"),
                    "bert:1" if *tries.lock().expect("no panic") % 2 == 1 => {
                        delivery.retry(n, "no")
                    }
                    _ => delivery,
                };
            }
            delivery
        };
        let mut was_crashed = false;
        // The second run is killed at the same step.
        for run in 0..3 {
            if run < 2 {
                disk.fail_at(disk.ops() + at, Fault::Crash, false);
            }
            let topic = store.outbox("t").expect("opens");
            let drained = topic.relay(options.clone()).expect("is made").drain(&sink);
            let is_dead = disk.is_dead();
            assert!(is_dead || drained.is_ok(), "{drained:?}");
            was_crashed |= is_dead;
            drop((topic, store));
            disk.clear_faults();
            disk = disk.crash(at + run);
            store = open_safe(&disk, &clock);
            let (waiting, dead, _) = seen(&store);
            let received = received.lock().expect("no panic");
            received.check(&SENT);
            // Nothing was acknowledged that was not delivered.
            let known: BTreeSet<&String> =
                received.first.iter().chain(&waiting).chain(&dead).collect();
            assert_eq!(known.len(), SENT.len(), "crash at {at}, run {run}");
            crashes += u32::from(is_dead);
        }
        let (waiting, dead, _) = seen(&store);
        assert_eq!((waiting.len(), dead), (0, vec!["dies".to_owned()]));
        assert_eq!(received.into_inner().expect("no panic").first.len(), SENT.len());
        assert_sound(&store);
        if !was_crashed {
            break;
        }
    }
    assert!(crashes > 10, "{crashes}");
}
