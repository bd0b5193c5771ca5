//! Event time: claims while the watermark moves and upkeep drops what has ended.

use crate::explore::explore;
use crate::scene::{Scene, join, start};
use firstseen::event_time::{EventTime, EventTimeOptions};
use firstseen::{Store, Timestamp, seconds};
use std::time::Duration;

const MINUTE: u64 = 60_000;

/// A claim that moves the watermark by less than a second writes its id and nothing else, so nothing else that has moved
/// makes it look again.
fn events(store: &Store) -> EventTime {
    let options = EventTimeOptions::new(seconds(60)).watermark_step(Duration::from_secs(1));
    store.event_time("clicks", options).expect("opens")
}

fn claim(events: &EventTime, id: &str, source: &str, ms: u64) -> bool {
    let answer = events.claim_at(id, source, Timestamp::from_millis(ms)).expect("answers");
    answer.is_first_seen()
}

/// Between the look and the commit of one claim, another claims the id, the watermark ends it, and its row is dropped: the
/// id is as unknown as it was, and yet it is not first seen.
#[test]
fn i14_an_id_that_comes_and_ends_during_a_claim_is_first_seen_once() {
    explore("i14_an_id_that_comes_and_ends_during_a_claim_is_first_seen_once", || {
        let scene = Scene::new();
        let store = scene.open();
        let known = events(&store);
        assert!(claim(&known, "before", "a", 1), "the source and a watermark are known");
        let slow = {
            let events = known.clone();
            start(move || claim(&events, "x", "a", 2))
        };
        let fast = {
            let (events, store) = (known.clone(), store.clone());
            start(move || {
                let is_first = claim(&events, "x", "a", 2);
                events.advance("a", Timestamp::from_millis(3 * MINUTE)).expect("advances");
                store.freeze();
                store.run_background().expect("drops what has ended");
                is_first
            })
        };
        let first = join([slow, fast]).into_iter().filter(|is_first| *is_first).count();
        assert_eq!(first, 1);
        drop((known, store));
        let reopened = Scene { disk: scene.disk.kill(), ..scene }.open();
        assert!(!claim(&events(&reopened), "x", "a", 2));
    });
}

/// Two sources move one watermark: it never goes back, and is theirs in the end.
#[test]
fn i14_two_sources_move_the_watermark_and_lose_no_step() {
    explore("i14_two_sources_move_the_watermark_and_lose_no_step", || {
        let scene = Scene::new();
        let store = scene.open();
        let known = events(&store);
        let source = |name: &'static str, at: [u64; 2]| {
            let events = known.clone();
            start(move || {
                let moved = at
                    .map(|ms| events.advance(name, Timestamp::from_millis(ms)).expect("advances"));
                assert!(moved[0] <= moved[1], "{moved:?}");
            })
        };
        join([source("a", [10, 50]), source("b", [20, 40])]);
        known.advance("a", Timestamp::from_millis(50)).expect("advances");
        let watermark = known.watermark().map(Timestamp::as_millis);
        assert!((Some(40)..=Some(50)).contains(&watermark), "{watermark:?}");
        drop((known, store));
        let reopened = Scene { disk: scene.disk.kill(), ..scene }.open();
        assert_eq!(events(&reopened).watermark().map(Timestamp::as_millis), watermark);
    });
}
