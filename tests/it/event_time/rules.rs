//! The rules of event time, by their numbers in the list that they were gathered in.

use crate::event_time::{Place, S, at, claim, minute, ms, opened, watermark};
use crate::told::Told;
use firstseen::event_time::{Event, EventClaim, EventTimeOptions, OnLate};
use firstseen::testing::{Committed, Expect, Table, TableWrite};
use firstseen::{Durability, ErrorKind, ReadOnly, Store, Ttl};
use std::time::Duration;

#[test]
fn i14_rule_68_a_duplicate_within_the_window_is_one_after_the_watermark_moved_and_behind_it_is_too_late()
 {
    let place = Place::new();
    let store = place.open();
    let events = opened(&store, minute().allowed_lateness(ms(5 * S)));
    assert_eq!(claim(&events, "x", 100 * S), EventClaim::FirstSeen);
    assert!(claim(&events, "clock", 160 * S).is_first_seen());
    let duplicate = EventClaim::Duplicate { first_event_time: at(100 * S) };
    assert_eq!(watermark(&events), 160 * S);
    assert_eq!(claim(&events, "x", 100 * S), duplicate, "late, and remembered");
    assert!(claim(&events, "clock-2", 165 * S - 1).is_first_seen());
    assert_eq!(claim(&events, "x", 100 * S), duplicate, "the last millisecond of it");
    assert!(claim(&events, "clock-3", 165 * S).is_first_seen());
    let late_by = Duration::from_secs(65);
    let too_late = EventClaim::TooLate { watermark: at(165 * S), late_by };
    assert_eq!(claim(&events, "x", 100 * S), too_late, "its state is gone");
    // As long after the first one as the window is: another event.
    assert_eq!(claim(&events, "x", 160 * S), EventClaim::FirstSeen);
    let duplicate = EventClaim::Duplicate { first_event_time: at(160 * S) };
    assert_eq!(claim(&events, "x", 101 * S), duplicate);
}

#[test]
fn rule_69_an_event_that_is_too_late_is_answered_as_the_policy_says() {
    let place = Place::new();
    let store = place.open();
    let options = minute().allowed_lateness(ms(5 * S));
    let events = opened(&store, options.clone());
    assert!(claim(&events, "clock", 1_000 * S).is_first_seen());
    assert!(claim(&events, "as late as allowed", 995 * S).is_first_seen());
    let late_by = ms(5 * S + 1);
    let too_late = EventClaim::TooLate { watermark: at(1_000 * S), late_by };
    assert_eq!(claim(&events, "x", 995 * S - 1), too_late, "drop");
    assert_eq!(claim(&events, "x", 995 * S - 1), too_late, "nothing was claimed");

    let failing = opened(&store, options.clone().on_late(OnLate::Fail));
    let error = failing.claim_at("x", "a", at(995 * S - 1)).expect_err("is too late");
    assert_eq!(error.kind(), ErrorKind::FixCall);
    assert!(error.to_string().contains("too late"), "{error}");

    let claiming = opened(&store, options.on_late(OnLate::Claim));
    assert_eq!(claim(&claiming, "x", 3 * S), EventClaim::FirstSeen);
    let duplicate = EventClaim::Duplicate { first_event_time: at(3 * S) };
    assert_eq!(claim(&claiming, "x", 3 * S), duplicate);
    assert!(claim(&claiming, "clock", 1_065 * S - 1).is_duplicate());
    assert_eq!(claim(&claiming, "x", 3 * S), duplicate, "a window after the watermark it met");
    assert!(claim(&claiming, "clock", 1_065 * S).is_duplicate());
    assert_eq!(claim(&claiming, "x", 3 * S), EventClaim::FirstSeen, "and no longer");

    let stats = claiming.stats();
    assert_eq!((stats.first_seen, stats.duplicates, stats.too_late), (4, 4, 4));
    assert_eq!(stats.max_lateness, ms(1_062 * S));
    assert_eq!(stats.lateness.iter().sum::<u64>(), stats.late);
    assert_eq!(
        stats.lateness[12], 3,
        "about five seconds: one that was claimed, and two that were not"
    );
}

#[test]
fn rule_70_an_id_ends_by_the_greatest_event_time_seen_for_it_and_not_the_first() {
    let place = Place::new();
    let store = place.open();
    let disorder = minute().out_of_orderness(ms(50 * S));
    let events = opened(&store, disorder);
    for time in [100 * S, 140 * S, 90 * S] {
        assert_eq!(claim(&events, "x", time).is_first_seen(), time == 100 * S);
    }
    assert!(claim(&events, "clock", 250 * S - 1).is_first_seen());
    assert_eq!(watermark(&events), 200 * S - 1);
    let duplicate = EventClaim::Duplicate { first_event_time: at(100 * S) };
    assert_eq!(claim(&events, "x", 100 * S), duplicate, "140 s and a minute");
    assert!(claim(&events, "clock", 250 * S).is_duplicate());
    assert!(claim(&events, "x", 199 * S).is_too_late());
    assert!(claim(&events, "x", 200 * S).is_first_seen());
}

#[test]
fn rule_71_without_a_bound_a_warning_says_that_the_namespace_only_grows() {
    let place = Place::new();
    let store = place.open();
    let warned = |ttl: Ttl| {
        let told = Told::default();
        tracing::subscriber::with_default(told.clone(), || {
            let name = format!("{ttl:?}");
            store.event_time(&name, EventTimeOptions::new(ttl)).expect("opens");
        });
        told.has(tracing::Level::WARN, "only grows")
    };
    assert!(warned(Ttl::FOREVER));
    assert!(!warned(Ttl::from_millis(60 * S)));
}

#[test]
fn rule_71_without_a_bound_ids_are_remembered_for_ever_and_too_late_is_still_told() {
    let place = Place::new();
    let store = place.open();
    let forever = EventTimeOptions::new(Ttl::FOREVER).watermark_step(ms(1));
    let events = opened(&store, forever);
    assert!(claim(&events, "x", 1).is_first_seen());
    assert!(claim(&events, "clock", 1 << 46).is_first_seen());
    assert!(claim(&events, "x", 1).is_duplicate());
    assert!(claim(&events, "y", 1).is_too_late());
}

#[test]
fn rule_72_an_idle_source_does_not_hold_the_watermark_back() {
    let place = Place::new();
    let store = place.open();
    let events = opened(&store, minute().idle_after(ms(30 * S)));
    assert!(claim(&events, "x", 100 * S).is_first_seen());
    events.advance("b", at(10 * S)).expect("advances");
    let held_back = |events: &firstseen::event_time::EventTime| {
        let sources = events.sources().into_iter();
        sources.map(|s| (s.name, s.is_idle, s.holds_back)).collect::<Vec<_>>()
    };
    let name = |name: &str| name.to_owned();
    assert_eq!(watermark(&events), 100 * S, "b has come later, and nothing goes back");
    assert!(claim(&events, "y", 200 * S).is_first_seen());
    assert_eq!(watermark(&events), 100 * S);
    assert_eq!(held_back(&events), [(name("a"), false, false), (name("b"), false, true)]);
    place.clock.advance(ms(30 * S));
    assert_eq!(held_back(&events), [(name("a"), true, false), (name("b"), true, false)]);
    assert_eq!(watermark(&events), 100 * S, "all are idle: it stays");
    assert!(claim(&events, "z", 150 * S).is_first_seen());
    assert_eq!(watermark(&events), 200 * S, "the greatest of a counts");
    assert_eq!(held_back(&events), [(name("a"), false, true), (name("b"), true, false)]);
    assert!(events.claim_at("late", "b", at(199 * S)).expect("answers").is_too_late());
    assert_eq!(held_back(&events), [(name("a"), false, false), (name("b"), false, true)]);
    assert!(claim(&events, "w", 300 * S).is_first_seen());
    assert_eq!(watermark(&events), 200 * S, "b counts again");
    assert!(events.retire("b").expect("retires"));
    assert!(!events.retire("b").expect("retires"));
    assert_eq!(events.advance("a", at(300 * S)).expect("advances"), Some(at(300 * S)));
}

#[test]
fn a_source_counts_after_an_opening_until_it_is_idle() {
    let mut place = Place::new();
    let store = place.open();
    let options = minute().idle_after(ms(30 * S));
    let events = opened(&store, options.clone());
    events.advance("slow", at(10 * S)).expect("advances");
    events.advance("fast", at(10 * S)).expect("advances");
    drop((events, store));
    place.kill();
    place.clock.advance(ms(3_600 * S));
    let store = place.open();
    let events = opened(&store, options);
    assert_eq!(events.advance("fast", at(50 * S)).expect("advances"), Some(at(10 * S)));
    place.clock.advance(ms(30 * S));
    assert_eq!(events.advance("fast", at(50 * S)).expect("advances"), Some(at(50 * S)));
}

#[test]
fn a_batch_is_answered_as_if_its_events_came_one_after_the_other() {
    let place = Place::new();
    let store = place.open();
    let events = opened(&store, minute());
    let event =
        |id: &'static str, source, time| Event { id: id.as_bytes(), source, time: at(time) };
    let batch = [
        event("x", "a", 100 * S),
        event("x", "b", 130 * S),
        event("y", "a", 1),
        event("x", "a", 90 * S),
    ];
    let answers = events.claim_batch_at(&batch).expect("answers");
    let duplicate = EventClaim::Duplicate { first_event_time: at(100 * S) };
    assert_eq!(answers, [EventClaim::FirstSeen, duplicate, EventClaim::FirstSeen, duplicate]);
    assert_eq!(watermark(&events), 100 * S, "after the batch, and of the slower source");
    let again = events.claim_batch_at(&batch).expect("answers");
    assert!(again[0].is_duplicate() && again[2].is_too_late());
    assert_eq!(events.claim_batch_at(&[]).expect("answers"), []);
    // The greatest of the batch counts: 130 s and a minute.
    events.advance("a", at(190 * S - 1)).expect("advances");
    assert_eq!(events.advance("b", at(190 * S - 1)).expect("advances"), Some(at(190 * S - 1)));
    assert!(claim(&events, "x", 100 * S).is_duplicate());
}

#[test]
fn a_namespace_far_in_the_past_or_the_future_does_not_disturb_the_others() {
    let place = Place::new();
    let store = place.open();
    let open = |name: &str| store.event_time(name, minute()).expect("opens");
    let (past, future, events) = (open("past"), open("future"), open("clicks"));
    assert!(claim(&events, "x", 100 * S).is_first_seen());
    assert!(claim(&past, "x", 0).is_first_seen());
    assert!(claim(&future, "x", 1 << 46).is_first_seen());
    assert!(store.claim("x").expect("claims").is_first_seen());
    let plain = store.namespace("clicks").expect("opens");
    assert!(plain.claim("x").expect("claims").is_first_seen(), "plain claims are other ids");
    for _ in 0..3 {
        store.freeze();
        crate::support::settle(&store);
        assert!(claim(&events, "x", 100 * S).is_duplicate());
        assert!(claim(&past, "x", 0).is_duplicate());
        assert!(claim(&future, "x", 1 << 46).is_duplicate());
        assert!(plain.contains("x").expect("reads"));
        place.clock.advance(ms(10_000_000 * S));
    }
    assert_eq!([&past, &events, &future].map(watermark), [0, 100 * S, 1 << 46]);
}

#[test]
fn an_event_from_the_far_future_is_refused_or_can_be_undone_while_another_source_holds_back() {
    const YEAR_3000: u64 = 32_503_680_000 * S;
    let place = Place::new();
    let store = place.open();
    let now = crate::support::NOW;
    let refused = |answer: firstseen::Result<EventClaim>| {
        let error = answer.expect_err("is refused");
        assert_eq!(error.kind(), ErrorKind::FixCall);
        error.to_string()
    };
    let events = opened(&store, minute().ahead_max(ms(5 * S)));
    assert!(claim(&events, "x", now).is_first_seen());
    for time in [now + 5 * S + 1, YEAR_3000, u64::MAX] {
        let _ = refused(events.claim_at("y", "a", at(time)));
        assert_eq!(
            events.advance("a", at(time)).expect_err("is refused").kind(),
            ErrorKind::FixCall
        );
        let [good, bad] = [now, time].map(at).map(|time| Event { id: b"z", source: "a", time });
        assert!(events.claim_batch_at(&[good, bad]).is_err());
    }
    assert!(refused(events.claim_at("y", "wrong", at(YEAR_3000))).contains("\"wrong\""));
    assert_eq!((watermark(&events), events.sources().len()), (now, 1), "it was not heard");
    assert!(claim(&events, "y", now + 5 * S).is_first_seen());
    place.clock.advance(ms(S));
    assert!(claim(&events, "z", now + 6 * S).is_first_seen(), "the limit goes with the time");

    let trusting = store.event_time("trusting", minute()).expect("opens");
    let _ = refused(trusting.claim_at("x", "a", at(u64::MAX)));
    trusting.advance("slow", at(now)).expect("advances");
    assert!(claim(&trusting, "x", YEAR_3000).is_first_seen());
    assert_eq!(watermark(&trusting), now, "the other source holds it back");
    assert!(trusting.retire("a").expect("retires"));
    trusting.advance("slow", at(now + 1)).expect("advances");
    assert!(claim(&trusting, "y", now + 1).is_first_seen());
    assert_eq!(watermark(&trusting), now + 1);
    // With nobody behind it there is no way back.
    assert!(trusting.retire("slow").expect("retires"));
    assert!(claim(&trusting, "z", YEAR_3000).is_first_seen());
    assert!(claim(&trusting, "w", now + 2).is_too_late());
}

#[test]
fn the_allowed_lateness_can_be_lowered_and_not_raised() {
    let place = Place::new();
    let store = place.open();
    let of = |lateness| store.event_time("clicks", minute().allowed_lateness(ms(lateness)));
    let refused = |lateness| {
        let error = of(lateness).expect_err("is refused");
        assert_eq!(error.kind(), ErrorKind::FixCall);
        error.to_string()
    };
    let events = of(5_000).expect("opens");
    assert!(refused(4_000).contains("is in use with 5000 ms"));
    drop(events);
    drop(of(4_000).expect("opens"));
    assert!(refused(5_000).contains("cannot allow 5000 ms"));
    assert!(of(4_000).is_ok());
}

#[test]
fn calls_that_make_no_sense_are_refused() {
    let place = Place::new();
    let store = place.open();
    let events = opened(&store, minute());
    let kind = |id: &[u8], source: &str, time| {
        events.claim_at(id, source, at(time)).map_err(|error| error.kind())
    };
    for refused in [
        kind(b"", "a", 1),
        kind(&[1; 1_025], "a", 1),
        kind(b"x", "", 1),
        kind(b"x", &"s".repeat(256), 1),
        kind(b"x", "a", (1 << 46) + 1),
    ] {
        assert_eq!(refused, Err(ErrorKind::FixCall));
    }
    assert!(kind(&[1; 1_024], &"s".repeat(255), 1 << 46).is_ok());
    let zero = store.event_time("other", EventTimeOptions::new(Duration::ZERO));
    assert_eq!(zero.expect_err("is refused").kind(), ErrorKind::FixCall);
}

#[test]
fn a_store_with_event_time_is_read_and_exported_like_any_other() {
    let place = Place::new();
    let store = place.open();
    let events = opened(&store, minute());
    assert!(claim(&events, "x", 100 * S).is_first_seen());
    assert!(store.claim("plain").expect("claims").is_first_seen());
    let count = |store: &Store| store.export(|_| Ok(())).expect("exports");
    assert_eq!(count(&store), 1, "ids by event time are no plain claims");
    store.close().expect("closes");
    drop(events);
    let read: ReadOnly = Store::builder(crate::support::AT)
        .disk(place.disk.clone())
        .clock(place.clock.clone())
        .open_read_only()
        .expect("opens");
    assert!(read.verify().expect("reads").is_sound());
    assert!(read.get("default", "plain").expect("reads").is_some());
    assert!(read.get("clicks", "x").expect("reads").is_none());
}

/// What a claim was decided by may have moved when it is committed.
#[test]
fn i14_a_commit_is_refused_if_the_watermark_has_made_it_late() {
    let place = Place::new();
    let store = place.open();
    let events = store.event_time("default", minute()).expect("opens");
    events.advance("a", at(100 * S)).expect("advances");
    let table = Table::of(&store, 9);
    let commit = |watermark_max| {
        let expect = Expect::Ahead { sequence: None, watermark_max: at(watermark_max) };
        let write = TableWrite { id: b"x", value: Some(b"v"), ttl: Ttl::FOREVER, expect };
        table.commit(&[write], Durability::Process).expect("answers")
    };
    assert_eq!(commit(100 * S - 1), Committed::Moved(vec![(0, None)]));
    assert!(matches!(commit(100 * S), Committed::Done(_)));
}

/// The engine knows a watermark that is in a run and in no part of the log that opening reads.
#[test]
fn i14_opening_reads_the_watermarks_in_runs() {
    let mut place = Place::new();
    let store = place.open();
    let events = store.event_time("default", minute()).expect("opens");
    events.advance("a", at(100 * S)).expect("advances");
    for n in 0..30 {
        let ids = crate::support::ids(n * 1_000..(n + 1) * 1_000);
        let answers = store.claim_batch(&ids).expect("claims");
        assert!(answers.into_iter().all(firstseen::Claim::is_first_seen));
        store.run_background().expect("background work");
    }
    store.freeze();
    crate::support::settle(&store);
    drop((events, store));
    place.kill();
    let store = place.open();
    assert!(store.stats().replayed_records < 30_000, "{}", store.stats());
    let expect = Expect::Ahead { sequence: None, watermark_max: at(100 * S - 1) };
    let write = TableWrite { id: b"x", value: Some(b"v"), ttl: Ttl::FOREVER, expect };
    let committed = Table::of(&store, 9).commit(&[write], Durability::Process).expect("answers");
    assert_eq!(committed, Committed::Moved(vec![(0, None)]));
}

/// An event of a source commits, and the source is retired before that call has noted what it heard.
#[test]
fn rule_72_a_source_that_is_retired_while_its_event_commits_stays_retired() {
    for is_new in [true, false] {
        for speaks_again in [false, true] {
            let place = Place::new();
            let store = place.open();
            // The second event of a source writes no row of it.
            let options = minute().watermark_step(ms(10 * S));
            let quick = opened(&store, options.clone()).with_durability(Durability::Buffered);
            let slow = quick.with_durability(Durability::Disk);
            if !is_new {
                assert!(claim(&quick, "first", 3 * S).is_first_seen());
            }
            let meanwhile = quick.clone();
            place.disk.after_next_sync(move || {
                assert!(meanwhile.retire("a").expect("retires"), "it has a row");
                if speaks_again {
                    let _ = claim(&meanwhile, "again", S);
                }
            });
            assert!(claim(&slow, "x", 5 * S).is_first_seen());
            let known: Vec<u64> =
                quick.sources().iter().map(|source| source.watermark.as_millis()).collect();
            let told = format!("new {is_new}, speaks again {speaks_again}");
            assert_eq!(known, if speaks_again { vec![S] } else { vec![] }, "{told}");
            assert_eq!(quick.retire("a").expect("answers"), speaks_again, "{told}");
            assert_eq!(quick.sources(), [], "{told}");
            let _ = quick.claim_at("later", "b", at(90 * S)).expect("answers");
            assert_eq!(watermark(&quick), 90 * S, "{told}: nobody holds it back");
        }
    }
}
