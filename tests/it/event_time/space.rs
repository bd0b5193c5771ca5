//! Space comes back when the watermark has moved, and only then.

use crate::event_time::{Place, S, at, claim, minute, ms, opened, watermark};
use crate::support::{assert_sound, settle};
use firstseen::event_time::{Event, EventClaim, EventTime};
use firstseen::{Durability, Store};

/// Claims ids of 200 bytes, ten milliseconds of event time apart, and returns when the last one happened.
fn fill(events: &EventTime, from: u64, count: u64) -> u64 {
    let padding = [b'.'; 190];
    let ids: Vec<Vec<u8>> =
        (0..count).map(|n| [&(from + n).to_be_bytes()[..], &padding].concat()).collect();
    for (part, ids) in ids.chunks(100).enumerate() {
        let event = |(n, id): (usize, &'_ Vec<u8>)| {
            let time = at((from + (part * 100 + n) as u64) * 10);
            (id.clone(), time)
        };
        let batch: Vec<_> = ids.iter().enumerate().map(event).collect();
        let batch: Vec<Event<'_>> =
            batch.iter().map(|(id, time)| Event { id, source: "a", time: *time }).collect();
        let answers = events.claim_batch_at(&batch).expect("answers");
        assert!(answers.iter().all(EventClaim::is_first_seen));
        events.store().run_background().expect("background work");
    }
    (from + count - 1) * 10
}

fn flush(store: &Store) {
    store.freeze();
    settle(store);
    settle(store);
}

#[test]
fn runs_and_segments_go_when_the_watermark_has_passed_them_and_not_when_time_passes() {
    let place = Place::new();
    let store = place.open();
    let events = opened(&store, minute());
    let other = store.event_time("still", minute()).expect("opens");
    assert!(other.claim_at("stays", "s", at(7)).expect("answers").is_first_seen());
    let last = fill(&events, 0, 6_000);
    flush(&store);
    let before = store.stats();
    assert!(before.ids_flushed >= 6_000, "{before}");
    place.clock.advance(ms(1 << 40));
    flush(&store);
    let waited = store.stats();
    assert_eq!(waited.ids_flushed, before.ids_flushed, "the engine's time ends none of them");
    assert_eq!(waited.runs_expired, 0);

    events.advance("a", at(last + 76 * S)).expect("advances");
    for _ in 0..4 {
        flush(&store);
    }
    let after = store.stats();
    assert!(after.ids_flushed < 20, "{after}");
    assert!(after.segments_removed >= before.log_segments - 2, "{before} {after}");
    assert!(after.runs_expired > 0);
    assert!(other.claim_at("stays", "s", at(7)).expect("answers").is_duplicate());
    assert_sound(&store);
}

#[test]
fn a_stream_that_goes_on_for_ever_takes_the_space_of_its_window() {
    let place = Place::new();
    let store = place.open();
    let events = opened(&store, minute());
    let mut most = 0;
    for round in 0..12 {
        let last = fill(&events, round * 6_000, 6_000);
        flush(&store);
        assert_eq!(watermark(&events), last);
        if round == 5 {
            most = store.stats().log_segments;
        }
    }
    let stats = store.stats();
    assert!(stats.log_segments <= most + 2 && stats.ids_flushed < 4 * 6_000, "{most} {stats}");
    assert_sound(&store);
}

/// What upkeep drops by a watermark, it drops after that watermark is on disk.
#[test]
fn i14_a_power_cut_does_not_take_back_a_watermark_by_which_ids_were_dropped() {
    let mut place = Place::new();
    let store = place.open();
    let events = opened(&store, minute()).with_durability(Durability::Process);
    let last = fill(&events, 0, 3_000);
    flush(&store);
    store.sync().expect("syncs");
    // This watermark is in the log and nobody has synced it.
    events.advance("a", at(last + 76 * S)).expect("advances");
    settle(&store);
    assert!(store.stats().runs_expired > 0, "{}", store.stats());
    let disk = place.disk.lose_unsynced();
    drop((events, store));
    place.disk = disk;
    let store = place.open();
    let events = opened(&store, minute());
    let id = [&9u64.to_be_bytes()[..], &[b'.'; 190]].concat();
    let answer = events.claim_at(&id, "a", at(90)).expect("answers");
    assert!(answer.is_too_late(), "{answer:?}: it was first seen before");
    assert_eq!(watermark(&events), last + 76 * S);
}

#[test]
fn upkeep_knows_watermarks_before_the_namespace_is_opened() {
    [false, true].into_iter().for_each(upkeep_knows_watermarks);
}

fn upkeep_knows_watermarks(is_flushed: bool) {
    let mut place = Place::new();
    let store = place.open();
    let events = opened(&store, minute());
    let last = fill(&events, 0, 3_000);
    flush(&store);
    events.advance("a", at(last + 76 * S)).expect("advances");
    assert!(claim(&events, "fresh", last + 100 * S).is_first_seen());
    drop(events);
    if is_flushed {
        store.freeze();
        store.run_background().expect("flushes");
    }
    drop(store);
    place.kill();
    let store = place.open();
    settle(&store);
    settle(&store);
    assert!(store.stats().ids_flushed < 20, "{}", store.stats());
    assert_sound(&store);
}
