//! Windows over event time: each event counts once, each result is told once for each revision.

use crate::event_time::{Place, S, at, minute, ms, opened};
use crate::support::{assert_sound, settle};
use firstseen::disk::sim::Fault;
use firstseen::event_time::windows::{ClosedWindow, Emit, WindowOptions, Windows};
use firstseen::event_time::{Event, EventClaim, EventTime, OnLate};
use firstseen::{Durability, Error, ErrorKind, Store};
use std::collections::BTreeMap;

type Sums = Windows<u64>;

/// Ten seconds side by side.
fn sums(events: &EventTime, emit: Emit) -> Sums {
    events.windows("sums", WindowOptions::tumbling(ms(10 * S)).emit(emit)).expect("opens")
}

fn add(sums: &Sums, id: &str, time: u64, n: u64) {
    let event = Event { id: id.as_bytes(), source: "a", time: at(time) };
    let _ = sums.fold(event, "key", |sum| *sum += n).expect("folds");
}

/// Start in seconds, revision and aggregate of what is told.
fn told(sums: &Sums) -> Vec<(u64, u32, u64)> {
    let closed = sums.take_closed(100).expect("takes");
    closed.iter().map(short).collect()
}

fn short(closed: &ClosedWindow<u64>) -> (u64, u32, u64) {
    (closed.window.start.as_millis() / S, closed.revision, closed.aggregate)
}

fn acknowledge(sums: &Sums) {
    let closed = sums.take_closed(100).expect("takes");
    sums.acknowledge(&closed).expect("acknowledges");
}

#[test]
fn a_window_is_told_when_it_is_complete_until_it_is_acknowledged_and_its_row_goes() {
    let place = Place::new();
    let store = place.open();
    let events = opened(&store, minute().allowed_lateness(ms(5 * S)).out_of_orderness(ms(S)));
    let sums = sums(&events, Emit::WhenComplete);
    add(&sums, "x", S, 1);
    add(&sums, "x", 2 * S, 1);
    add(&sums, "y", 9 * S, 10);
    add(&sums, "z", 12 * S, 100);
    add(&sums, "late, and allowed", 7 * S, 1_000);
    add(&sums, "clock", 16 * S - 1, 0);
    assert_eq!(told(&sums), [], "a millisecond is missing");
    add(&sums, "clock-2", 16 * S, 0);
    assert_eq!(told(&sums), [(0, 1, 1_011)]);
    assert_eq!(told(&sums), [(0, 1, 1_011)], "nobody has acknowledged it");
    add(&sums, "too late", 9 * S, 7);
    assert_eq!(told(&sums), [(0, 1, 1_011)]);
    acknowledge(&sums);
    assert_eq!((told(&sums), sums.pending()), (vec![], 1), "only the next one is open");
    assert_eq!(sums.ignored(), 0);
}

#[test]
fn rule_69_late_events_correct_what_was_told_or_do_not_as_chosen() {
    for emit in [Emit::AtEnd, Emit::AtEndAndCorrected] {
        let is_corrected = emit == Emit::AtEndAndCorrected;
        let place = Place::new();
        let store = place.open();
        let events = opened(&store, minute().allowed_lateness(ms(5 * S)));
        let sums = sums(&events, emit);
        add(&sums, "x", S, 1);
        add(&sums, "clock", 12 * S, 0);
        add(&sums, "after the end, before it is told", 8 * S, 10);
        assert_eq!(told(&sums), [(0, 1, 11)]);
        add(&sums, "late", 9 * S, 100);
        assert_eq!(told(&sums), [(0, 1, 11)], "what was told stays as it is");
        acknowledge(&sums);
        let corrected = if is_corrected { vec![(0, 2, 111)] } else { vec![] };
        assert_eq!(told(&sums), corrected);
        assert_eq!(sums.ignored(), u64::from(!is_corrected));
        acknowledge(&sums);
        assert_eq!(sums.pending(), 2, "it may still change");
        add(&sums, "clock-2", 15 * S, 0);
        acknowledge(&sums);
        assert_eq!(sums.pending(), 1);
        add(&sums, "too late", 9 * S, 7);
        assert_eq!((told(&sums), sums.pending()), (vec![], 1));
    }
}

#[test]
fn sliding_windows_hold_each_event_as_often_as_they_overlap() {
    let place = Place::new();
    let store = place.open();
    let events = opened(&store, minute());
    let options = WindowOptions::sliding(ms(10 * S), ms(5 * S));
    let sums: Sums = events.windows("sums", options).expect("opens");
    let batch = [(S, 1), (7 * S, 10), (12 * S, 100)].map(|(time, n)| (time, n, time.to_be_bytes()));
    let event = |(time, _, id): &'_ (u64, u64, [u8; 8])| (*time, *id);
    let ids: Vec<_> = batch.iter().map(event).collect();
    let asked: Vec<(Event<'_>, &[u8])> = ids
        .iter()
        .map(|(time, id)| (Event { id, source: "a", time: at(*time) }, &b"key"[..]))
        .collect();
    let answers = sums.fold_batch(&asked, |n, sum| *sum += batch[n].1).expect("folds");
    assert!(answers.iter().all(EventClaim::is_first_seen));
    events.advance("a", at(100 * S)).expect("advances");
    assert_eq!(told(&sums), [(0, 1, 11), (5, 1, 110), (10, 1, 100)]);
    assert_eq!(sums.take_closed(2).expect("takes").len(), 2);
}

#[test]
fn windows_that_cannot_be_are_refused() {
    let place = Place::new();
    let store = place.open();
    let events = opened(&store, minute());
    let refused = |events: &EventTime, options| {
        let error = events.windows::<u64>("sums", options).expect_err("is refused");
        assert_eq!(error.kind(), ErrorKind::FixCall, "{error}");
    };
    let ten = WindowOptions::tumbling(ms(10 * S));
    let sums: Sums = events.windows("sums", ten).expect("opens");
    refused(&events, WindowOptions::tumbling(ms(11 * S)));
    refused(&events, WindowOptions::tumbling(ms(0)));
    let other = store.event_time("other", minute()).expect("opens");
    refused(&other, ten);
    refused(&opened(&store, minute().on_late(OnLate::Claim)), ten);
    let event = Event { id: b"x", source: "a", time: at(S) };
    let error = sums.fold(event, [0; 1_017], |_| ()).expect_err("is refused");
    assert_eq!(error.kind(), ErrorKind::FixCall);
    // What is stored is of another type than what it is read as.
    add(&sums, "y", S, 1 << 60);
    let texts: Windows<String> = events.windows("sums", ten).expect("opens");
    let error = texts.fold(event, "key", |_| ()).expect_err("is refused");
    assert_eq!(error.kind(), ErrorKind::FixCall, "nothing is damaged: {error}");
    assert!(
        events.claim_at("x", "a", at(S)).expect("answers").is_first_seen(),
        "nothing was claimed"
    );
}

/// What a consumer of the results has by now: the aggregate of each window by its last revision.
#[derive(Default)]
struct Sink {
    results: BTreeMap<u64, (u32, u64)>,
}

impl Sink {
    /// Takes results as a system does that knows them by window and revision. Nothing that it has ever changes.
    fn take(&mut self, closed: &[ClosedWindow<u64>], is_after: &str) {
        for (start, revision, sum) in closed.iter().map(short) {
            let known = self.results.entry(start).or_insert((revision, sum));
            assert!(revision >= known.0, "{is_after}: window {start} went back");
            assert!(revision > known.0 || sum == known.1, "{is_after}: {start} changed");
            assert!(revision <= known.0 + 1, "{is_after}: window {start} left one out");
            *known = (revision, sum);
        }
    }
}

/// A source that begins again from its first event after each crash, and late events among them.
fn run(store: &Store, emit: Emit, sink: &mut Sink, name: &str) -> Result<(), Error> {
    let options = minute().allowed_lateness(ms(8 * S)).durability(Durability::Disk);
    let events = store.event_time("clicks", options)?;
    let sums: Sums = events.windows("sums", WindowOptions::tumbling(ms(10 * S)).emit(emit))?;
    for n in 0..14u64 {
        let time = if n % 4 == 3 { n * 4 * S - 7 * S } else { n * 4 * S };
        let (id, time) = (n.to_be_bytes(), at(time));
        let _ = sums.fold(Event { id: &id, source: "a", time }, "", |sum| *sum += 1 << n)?;
        let closed = sums.take_closed(10)?;
        sink.take(&closed, name);
        sums.acknowledge(&closed)?;
        if n % 5 == 4 {
            store.freeze();
            store.run_background()?;
        }
    }
    events.advance("a", at(100 * S))?;
    loop {
        let closed = sums.take_closed(10)?;
        if closed.is_empty() {
            return Ok(());
        }
        sink.take(&closed, name);
        sums.acknowledge(&closed)?;
    }
}

#[test]
fn i14_each_event_counts_once_in_its_window_whatever_step_crashes() {
    for emit in [Emit::WhenComplete, Emit::AtEndAndCorrected] {
        let mut undisturbed = Sink::default();
        run(&Place::new().open(), emit, &mut undisturbed, "undisturbed").expect("runs");
        assert_eq!(undisturbed.results.len(), 6);
        for at_op in 0.. {
            let mut place = Place::new();
            let store = place.open();
            let mut sink = Sink::default();
            let begin = place.disk.ops();
            place.disk.fail_at(begin + at_op, Fault::Crash, false);
            let name = format!("{emit:?}, crash at {at_op}");
            let ran = run(&store, emit, &mut sink, &name);
            let was_crashed = place.disk.is_dead();
            assert!(was_crashed || ran.is_ok(), "{name}: {ran:?}");
            drop(store);
            place.disk = place.disk.crash(at_op);
            let store = place.open();
            run(&store, emit, &mut sink, &name).expect("runs");
            let sum = |sink: &Sink| sink.results.values().map(|(_, sum)| *sum).collect::<Vec<_>>();
            assert_eq!(sum(&sink), sum(&undisturbed), "{name}");
            assert_sound(&store);
            if !was_crashed {
                break;
            }
        }
    }
}

#[test]
fn rows_of_windows_that_are_over_take_no_space() {
    let place = Place::new();
    let store = place.open();
    let events = opened(&store, minute());
    let sums = sums(&events, Emit::WhenComplete);
    let mut most = 0;
    for n in 0..4_000u64 {
        let id = n.to_be_bytes();
        let event = Event { id: &id, source: "a", time: at(n * S) };
        let _ = sums.fold(event, [b'k'; 200], |sum| *sum += 1).expect("folds");
        if n % 50 == 0 {
            acknowledge(&sums);
            settle(&store);
        }
        if n % 500 == 499 {
            store.freeze();
            settle(&store);
            if n == 1_999 {
                most = store.stats().log_segments;
            }
        }
    }
    let stats = store.stats();
    assert!(stats.log_segments <= most + 2, "{most} {stats}");
    assert!(sums.pending() < 10);
    assert_sound(&store);
}
