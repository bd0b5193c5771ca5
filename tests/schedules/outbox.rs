//! The outbox: readers that wait, while commits end in another order than they began.

use crate::explore::explore;
use crate::scene::{FOR_EVER, Scene, join, start};
use firstseen::outbox::{OnFull, Outbox, OutboxOptions};

fn emit(topic: &Outbox, event: &str) {
    let mut transaction = topic.store().transaction();
    transaction.claim(event).emit(topic, event).expect("collects");
    assert!(transaction.commit().expect("answers").is_committed());
}

/// A message may become readable because the commit of another ends. Then, too, who waits hears of it. Positions grow, so
/// none is passed over.
#[test]
fn i12_a_reader_that_waits_hears_of_every_message_and_passes_over_none() {
    explore("i12_a_reader_that_waits_hears_of_every_message_and_passes_over_none", || {
        let scene = Scene::new();
        let store = scene.builder().shards(2).open().expect("opens");
        let topic = store.outbox("t").expect("opens");
        let emitters = [["a", "b"], ["c", "d"]].map(|events| {
            let topic = topic.clone();
            start(move || events.iter().for_each(|event| emit(&topic, event)))
        });
        let reader = start(move || {
            let (mut last, mut seen) = (None, 0);
            while seen < 4 {
                let is_there = match last {
                    None => topic.wait(FOR_EVER),
                    Some(last) => topic.wait_after(last, FOR_EVER),
                };
                assert!(is_there.expect("waits"));
                let batch = match last {
                    None => topic.read(10),
                    Some(last) => topic.read_after(last, 10),
                };
                let batch = batch.expect("reads");
                assert!(!batch.is_empty());
                seen += batch.len();
                last = batch.last().map(|message| message.position);
            }
            let all = last.map(|last| topic.acknowledge_through(last).expect("acknowledges"));
            assert_eq!(all, Some(4));
        });
        join(emitters);
        join([reader]);
    });
}

/// Room is made by an acknowledgement, and by a commit that was admitted and not made.
#[test]
fn i12_a_commit_that_waits_for_room_hears_of_it() {
    explore("i12_a_commit_that_waits_for_room_hears_of_it", || {
        let scene = Scene::new();
        let store = scene.open();
        let options = OutboxOptions::new().pending_max(1).on_full(OnFull::Wait(FOR_EVER));
        let topic = store.outbox_with("t", options).expect("opens");
        let emitters = ["a", "b"].map(|event| {
            let topic = topic.clone();
            start(move || emit(&topic, event))
        });
        let refused = {
            let topic = topic.clone();
            start(move || {
                let mut transaction = topic.store().transaction();
                transaction.claim("x").claim("x").emit(&topic, "x").expect("collects");
                transaction.commit().expect_err("an id is named twice");
            })
        };
        let reader = start(move || {
            for _ in 0..2 {
                assert!(topic.wait(FOR_EVER).expect("waits"));
                assert_eq!(
                    topic.acknowledge(&topic.read(10).expect("reads")).expect("acknowledges"),
                    1
                );
            }
        });
        join(emitters);
        join([refused, reader]);
    });
}
