//! The outbox: topics, acknowledging, bounds, the relay. The rules are those of BEHAVIOURS, section 6.

mod bounds;
mod crashes;
mod dead;
mod held;
mod model;
mod reading;
mod relay;
mod replaced;
mod threads;
mod waiting;

use crate::support::{clock, sim};
use firstseen::disk::sim::SimDisk;
use firstseen::outbox::{Message, Outbox};
use firstseen::transaction::{CommitOutcome, Rejection};
use firstseen::{ManualClock, Store};

fn open(disk: &SimDisk, clock: &ManualClock) -> Store {
    sim(disk, clock).open().expect("opens")
}

/// A new store on a simulated disk.
fn store() -> (SimDisk, ManualClock, Store) {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = open(&disk, &clock);
    (disk, clock, store)
}

/// Emits messages of one event, each with its key: what is before the colon, if there is one.
fn try_emit(topic: &Outbox, event: &str, messages: &[&str]) -> firstseen::Result<CommitOutcome> {
    let mut transaction = store_of(topic).transaction();
    transaction.claim(event);
    for message in messages {
        let key = message.split_once(':').map_or("", |(key, _)| key);
        transaction.emit_keyed(topic, key, message)?;
    }
    transaction.commit()
}

fn emit(topic: &Outbox, event: &str, messages: &[&str]) {
    let outcome = try_emit(topic, event, messages).expect("answers");
    assert!(matches!(outcome, CommitOutcome::Committed), "{outcome:?}");
}

/// Emits one message whose event has its name.
fn emit_each(topic: &Outbox, messages: &[&str]) {
    messages.iter().for_each(|message| emit(topic, message, &[message]));
}

fn store_of(topic: &Outbox) -> Store {
    topic.store().clone()
}

fn payload(message: &Message) -> String {
    String::from_utf8(message.payload.clone()).expect("text")
}

fn payloads(messages: &[Message]) -> Vec<String> {
    messages.iter().map(payload).collect()
}

/// Returns what waits.
fn waiting(topic: &Outbox) -> Vec<String> {
    payloads(&topic.read(usize::MAX).expect("reads"))
}

fn rejections(outcome: CommitOutcome) -> Vec<Rejection> {
    match outcome {
        CommitOutcome::Rejected(reasons) => reasons,
        committed => panic!("{committed:?}"),
    }
}
