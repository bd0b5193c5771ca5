//! Event time and windows inside replay scopes, and what a promotion means for those who hold handles.

use crate::event_time::{Place, S, at, claim, minute, ms, opened, watermark};
use crate::support::assert_sound;
use firstseen::event_time::windows::{WindowOptions, Windows};
use firstseen::event_time::{Event, EventClaim, EventTime};
use firstseen::{ErrorKind, Store};

fn ten() -> WindowOptions {
    WindowOptions::tumbling(ms(10 * S))
}

fn sums(events: &EventTime) -> Windows<u64> {
    events.windows("sums", ten()).expect("opens")
}

fn add(sums: &Windows<u64>, id: &str, time: u64, n: u64) -> EventClaim {
    let event = Event { id: id.as_bytes(), source: "a", time: at(time) };
    sums.fold(event, "key", |sum| *sum += n).expect("folds")
}

/// Start in seconds and aggregate of what is told, which is acknowledged.
fn taken(sums: &Windows<u64>) -> Vec<(u64, u64)> {
    let closed = sums.take_closed(100).expect("takes");
    sums.acknowledge(&closed).expect("acknowledges");
    closed.iter().map(|closed| (closed.window.start.as_millis() / S, closed.aggregate)).collect()
}

/// A scope in which `clicks` is an event-time namespace with an event at 5 s, or something else.
fn promote(store: &Store, is_event_time: bool) {
    let scope = store.replay("again").expect("begins");
    if is_event_time {
        let inside = scope.event_time("clicks", minute()).expect("opens");
        assert!(claim(&inside, "in", 5 * S).is_first_seen());
    } else {
        let inside = scope.namespace("clicks").expect("opens");
        assert!(inside.claim("in").expect("claims").is_first_seen());
    }
    assert!(scope.promote().expect("promotes"));
}

#[test]
fn i14_handles_of_event_time_and_windows_follow_a_promotion() {
    let mut place = Place::new();
    let store = place.open();
    let events = opened(&store, minute());
    let outside = sums(&events);
    assert!(add(&outside, "x", 100 * S, 1).is_first_seen());
    let scope = store.replay("again").expect("begins");
    let events_inside = scope.event_time("clicks", minute()).expect("opens");
    let inside = sums(&events_inside);
    assert_eq!(scope.names(), ["clicks", "sums"], "windows are inside, too");
    assert!(add(&inside, "x", 3 * S, 10).is_first_seen());
    assert!(add(&inside, "y", 8 * S, 20).is_first_seen());
    assert_eq!((watermark(&events), watermark(&events_inside)), (100 * S, 8 * S));
    assert!(scope.promote().expect("promotes"));

    for (events, sums) in [(&events, &outside), (&events_inside, &inside)] {
        assert_eq!((watermark(events), sums.pending()), (8 * S, 1));
        assert!(claim(events, "x", 3 * S).is_duplicate());
    }
    assert!(add(&outside, "x", 3 * S, 5).is_duplicate());
    assert!(add(&outside, "z", 9 * S, 40).is_first_seen());
    assert!(add(&inside, "clock", 10 * S, 100).is_first_seen());
    assert_eq!(taken(&outside), [(0, 70)]);
    assert_eq!((taken(&inside), outside.pending()), (vec![], 1));
    assert_eq!(events.advance("a", at(20 * S)).expect("advances"), Some(at(20 * S)));
    assert!(claim(&events, "late", 19 * S).is_too_late());
    assert!(events.retire("a").expect("retires"));
    assert_eq!(taken(&sums(&events)), [(10, 100)], "they can be opened again");
    assert_eq!(events_inside.windows::<u64>("more", ten()).expect("opens").pending(), 0);
    assert!(store.stats().namespaces.iter().any(|ns| ns.name == "more"), "outside by now");
    assert_sound(&store);
    drop((events, events_inside, outside, inside, scope, store));

    place.kill();
    let store = place.open();
    let events = opened(&store, minute());
    assert_eq!(watermark(&events), 20 * S);
    assert!(add(&sums(&events), "later", 31 * S, 7).is_first_seen());
}

#[test]
fn windows_stay_when_the_namespace_of_their_events_is_promoted_alone() {
    for is_event_time in [false, true] {
        let mut place = Place::new();
        let store = place.open();
        let events = opened(&store, minute());
        let before = sums(&events);
        assert!(add(&before, "x", 3 * S, 1).is_first_seen());
        promote(&store, is_event_time);
        assert_eq!(watermark(&events), if is_event_time { 5 * S } else { 0 });
        assert_eq!(claim(&events, "in", 5 * S).is_duplicate(), is_event_time);
        assert!(add(&before, "y", 6 * S, 10).is_first_seen());
        assert!(add(&sums(&events), "z", 7 * S, 100).is_first_seen());
        drop((events, before, store));
        place.kill();
        let store = place.open();
        let events = opened(&store, minute());
        let sums = sums(&events);
        assert!(add(&sums, "clock", 10 * S, 0).is_first_seen());
        assert_eq!(taken(&sums), [(0, 111)]);
    }
}

#[test]
fn i14_a_promoted_namespace_with_another_lateness_or_other_windows_is_not_joined() {
    let place = Place::new();
    let store = place.open();
    let lax = opened(&store, minute().allowed_lateness(ms(5 * S)));
    promote(&store, true);
    for _ in 0..2 {
        let error = lax.claim_at("x", "a", at(S)).expect_err("is refused");
        assert_eq!(error.kind(), ErrorKind::FixCall);
        assert!(error.to_string().contains("a replay was promoted"), "{error}");
    }
    drop(lax);
    let events = opened(&store, minute());
    let sums = sums(&events);
    let scope = store.replay("other windows").expect("begins");
    let inside = scope.event_time("clicks", minute()).expect("opens");
    let _: Windows<u64> =
        inside.windows("sums", WindowOptions::tumbling(ms(7 * S))).expect("opens");
    assert!(scope.promote().expect("promotes"));
    let error = sums.take_closed(1).expect_err("is refused");
    assert_eq!(error.kind(), ErrorKind::FixCall);
    let text = error.to_string();
    assert!(text.contains("7000 ms every 7000 ms over the events of \"clicks\""), "{text}");
    assert!(claim(&events, "x", S).is_first_seen());
}

#[test]
fn event_time_of_a_dropped_scope_is_refused() {
    let place = Place::new();
    let store = place.open();
    let scope = store.replay("again").expect("begins");
    let events = scope.event_time("clicks", minute()).expect("opens");
    let sums = sums(&events);
    assert!(add(&sums, "x", S, 1).is_first_seen());
    assert!(scope.discard().expect("drops"));
    let refused = [
        events.claim_at("x", "a", at(S)).map(drop),
        events.advance("a", at(S)).map(drop),
        events.retire("a").map(drop),
        events.windows::<u64>("others", ten()).map(drop),
        sums.take_closed(1).map(drop),
        scope.event_time("others", minute()).map(drop),
    ];
    for (n, refused) in refused.into_iter().enumerate() {
        assert_eq!(refused.map_err(|error| error.kind()), Err(ErrorKind::FixCall), "{n}");
    }
    assert_eq!((watermark(&events), sums.pending()), (0, 0));
    assert_eq!(watermark(&opened(&store, minute())), 0, "nothing came outside");
}
