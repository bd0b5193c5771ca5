//! Dead letters of a topic.

use super::*;
use crate::support::NOW;
use firstseen::ledger::Backoff;
use firstseen::outbox::{DeadMessageCause, Delivery, RelayOptions};
use std::time::Duration;

/// Makes dead letters of what is given, one after the other, a second apart.
fn kill(topic: &Outbox, clock: &ManualClock, messages: &[&str]) {
    let relay = topic.relay(RelayOptions::new()).expect("is made");
    for message in messages {
        emit_each(topic, &[message]);
        clock.advance(Duration::from_secs(1));
        relay.drain(&|_: &[Message]| Delivery::all().refuse(0, "never")).expect("works");
    }
}

fn dead(topic: &Outbox) -> Vec<String> {
    let page = topic.dead_letters().list(None, usize::MAX).expect("lists");
    assert!(page.next.is_none() && page.unreadable.is_empty());
    page.messages.iter().map(|dead| payload(&dead.message)).collect()
}

#[test]
fn a_message_that_is_refused_or_used_up_is_a_dead_letter_and_what_is_behind_it_goes_on() {
    let (disk, clock, store) = store();
    let topic = store.outbox("t").expect("opens");
    let options = RelayOptions::new().attempts_max(3).backoff(Backoff::constant(Duration::ZERO));
    emit_each(&topic, &["anna:1", "anna:2", "anna:3", "bert:1"]);
    let before = topic.read(10).expect("reads");
    let sink = |batch: &[Message]| {
        let mut delivery = Delivery::all();
        for (n, message) in batch.iter().enumerate() {
            delivery = match &payload(message)[..] {
                "anna:1" => delivery.refuse(n, "no such user"),
                "bert:1" => delivery.retry(n, "no answer"),
                _ => delivery,
            };
        }
        delivery
    };
    let report = topic.relay(options).expect("is made").drain(&sink).expect("works");
    assert_eq!((report.delivered, report.retried, report.dead), (2, 2, 2));
    assert_eq!(waiting(&topic), [""; 0]);
    drop((topic, store));
    let topic = open(&disk.kill(), &clock).outbox("t").expect("opens");
    let letters = topic.dead_letters();
    let page = letters.list(None, 10).expect("lists");
    let [anna, bert] = &page.messages[..] else { panic!("{page:?}") };
    assert_eq!((&anna.message, &bert.message), (&before[0], &before[3]));
    assert_eq!(
        (anna.cause, &anna.reason[..], anna.attempts),
        (DeadMessageCause::Refused, "no such user", 1)
    );
    assert_eq!(
        (bert.cause, &bert.reason[..], bert.attempts),
        (DeadMessageCause::Exhausted, "no answer", 3)
    );
    assert_eq!(anna.since.as_millis(), NOW);
    assert_eq!(letters.get(anna.message.id).expect("reads").as_ref(), Some(anna));
    assert_eq!(letters.get(before[1].id).expect("reads"), None);
}

#[test]
fn dead_letters_are_listed_in_pages_redriven_to_the_end_of_the_topic_and_purged() {
    let (_, clock, store) = store();
    let (topic, other) = (store.outbox("t").expect("opens"), store.outbox("u").expect("opens"));
    kill(&topic, &clock, &["a", "b", "c", "d", "e"]);
    kill(&other, &clock, &["x"]);
    let letters = topic.dead_letters();
    let first = letters.list(None, 2).expect("lists");
    let second = letters.list(first.next, 2).expect("lists");
    let third = letters.list(second.next, 2).expect("lists");
    let of = |page: &firstseen::outbox::DeadMessagePage| {
        page.messages.iter().map(|dead| payload(&dead.message)).collect::<Vec<_>>()
    };
    assert_eq!([of(&first), of(&second), of(&third)], [vec!["a", "b"], vec!["c", "d"], vec!["e"]]);
    assert!(first.next.is_some() && third.next.is_none());
    emit_each(&topic, &["f"]);
    let (b, c) = (&first.messages[1].message, &second.messages[0].message);
    assert!(letters.redrive(b.id).expect("redrives"));
    assert!(!letters.redrive(b.id).expect("is not dead"));
    let read = topic.read(10).expect("reads");
    assert_eq!(payloads(&read), ["f", "b"]);
    assert_eq!((read[1].id, &read[1].emitted), (b.id, &b.emitted));
    assert!(read[1].position > read[0].position);
    assert!(letters.purge(c.id).expect("purges"));
    assert!(!letters.purge(c.id).expect("is gone"));
    assert_eq!(dead(&topic), ["a", "d", "e"]);
    assert_eq!(letters.redrive_all().expect("redrives"), 3);
    assert_eq!(
        (dead(&topic), waiting(&topic)),
        (vec![], ["f", "b", "a", "d", "e"].map(str::to_owned).to_vec())
    );
    // It is tried as often as a new one, and dies again with a new time.
    kill(&topic, &clock, &[]);
    let relay = topic.relay(RelayOptions::new()).expect("is made");
    let refuses =
        |batch: &[Message]| (0..batch.len()).fold(Delivery::all(), |all, n| all.refuse(n, "never"));
    relay.drain(&refuses).expect("works");
    assert_eq!(dead(&topic).len(), 5);
    assert_eq!(letters.purge_all().expect("purges"), 5);
    assert_eq!((dead(&topic), dead(&other)), (vec![], vec!["x".to_owned()]));
}

/// The same event is processed again after its claim has ended, while its first message is dead.
#[test]
fn a_dead_letter_is_not_redriven_while_a_message_of_its_id_waits() {
    let (_, clock, store) = store();
    let topic = store.outbox("t").expect("opens");
    kill(&topic, &clock, &["a"]);
    assert!(store.forget("a").expect("forgets"));
    emit_each(&topic, &["a"]);
    let id = topic.read(1).expect("reads")[0].id;
    assert!(!topic.dead_letters().redrive(id).expect("answers"));
    assert_eq!((waiting(&topic), dead(&topic)), (vec!["a".to_owned()], vec!["a".to_owned()]));
    assert_eq!(topic.pending().expect("answers").count, 1);
}
