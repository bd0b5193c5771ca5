//! Events claimed in transactions: the claim, the watermark and all that belongs to the event are one commit.

use crate::event_time::{Place, S, at, claim, minute, ms, opened, watermark};
use crate::support::assert_sound;
use firstseen::disk::sim::Fault;
use firstseen::event_time::{EventClaim, EventTime};
use firstseen::table::Table;
use firstseen::transaction::{CommitOutcome, EndOutcome, RefusedEvent, Rejection, Skipped};
use firstseen::{Durability, ErrorKind, Store};

fn totals(store: &Store) -> Table<u64> {
    store.table("totals").expect("opens")
}

fn total(store: &Store, key: &str) -> Option<u64> {
    totals(store).get(key).expect("reads").map(|entry| entry.value)
}

/// Claims events with a value of a table each.
fn commit(events: &EventTime, ids: &[(&str, u64)], skips: bool) -> CommitOutcome {
    let (store, mut transaction) = (events.store(), events.store().transaction());
    if skips {
        transaction.skip_duplicates();
    }
    for (n, (id, time)) in ids.iter().enumerate() {
        transaction.claim_at(events, id, "a", at(*time));
        transaction.put(&totals(store), format!("{id}/{n}"), time).expect("collects");
    }
    transaction.commit().expect("answers")
}

fn refused(id: &str, answer: EventClaim) -> RefusedEvent {
    RefusedEvent { namespace: "clicks".to_owned(), id: id.into(), answer }
}

fn too_late(watermark: u64, time: u64) -> EventClaim {
    EventClaim::TooLate { watermark: at(watermark), late_by: ms(watermark - time) }
}

#[test]
fn i14_a_transaction_with_an_event_that_is_not_first_seen_changes_nothing() {
    let place = Place::new();
    let store = place.open();
    let events = opened(&store, minute());
    assert!(matches!(commit(&events, &[("x", 100 * S)], false), CommitOutcome::Committed));
    assert_eq!((total(&store, "x/0"), watermark(&events)), (Some(100 * S), 100 * S));

    let again = [("new", 200 * S), ("x", 300 * S), ("old", S)];
    let CommitOutcome::Rejected(why) = commit(&events, &again, false) else { panic!("made") };
    let why = why.into_iter().map(|why| match why {
        Rejection::Event(event) => event,
        other => panic!("{other:?}"),
    });
    let first_event_time = at(100 * S);
    let expected = [
        refused("x", EventClaim::Duplicate { first_event_time }),
        refused("old", too_late(100 * S, S)),
    ];
    assert_eq!(why.collect::<Vec<_>>(), expected);
    for key in ["new/0", "x/1", "old/2"] {
        assert_eq!(total(&store, key), None, "{key}");
    }
    assert_eq!(watermark(&events), 100 * S);
    assert!(claim(&events, "new", 200 * S).is_first_seen());
    assert_sound(&store);
}

#[test]
fn rule_72_a_source_whose_transactions_are_rejected_is_not_idle_and_moves_nothing() {
    let place = Place::new();
    let store = place.open();
    let events = opened(&store, minute().idle_after(ms(30 * S)));
    assert!(claim(&events, "x", 100 * S).is_first_seen());
    events.advance("fast", at(100 * S)).expect("advances");
    // A duplicate beside a new event, which has not been let in.
    let reject = || {
        let outcome = commit(&events, &[("x", 100 * S), ("new", 500 * S)], false);
        assert!(matches!(outcome, CommitOutcome::Rejected(_)), "{outcome:?}");
    };
    place.clock.advance(ms(20 * S));
    reject();
    place.clock.advance(ms(20 * S));
    let sources = || {
        let sources = events.sources().into_iter();
        sources.map(|source| (source.watermark, source.is_idle)).collect::<Vec<_>>()
    };
    assert_eq!(sources()[0], (at(100 * S), false), "it has spoken 20 s ago");
    events.advance("fast", at(300 * S)).expect("advances");
    assert_eq!(watermark(&events), 100 * S, "its events are not too late");
    assert!(claim(&events, "next", 101 * S).is_first_seen());

    place.clock.advance(ms(30 * S));
    assert!(sources()[0].1, "it is idle once it says nothing");
    events.advance("fast", at(400 * S)).expect("advances");
    assert_eq!(watermark(&events), 400 * S);
    // One of which nothing was ever committed has no event time that could hold anything back.
    let mut transaction = store.transaction();
    transaction.claim_at(&events, "next", "unheard", at(101 * S));
    assert!(matches!(transaction.commit().expect("answers"), CommitOutcome::Rejected(_)));
    assert_eq!(sources().len(), 2);
}

#[test]
fn rule_72_what_is_too_late_or_only_prepared_keeps_no_source_from_being_idle() {
    let place = Place::new();
    let store = place.open();
    let events = opened(&store, minute().idle_after(ms(30 * S)));
    assert!(claim(&events, "x", 100 * S).is_first_seen());
    events.advance("fast", at(100 * S)).expect("advances");
    place.clock.advance(ms(40 * S));
    events.advance("fast", at(300 * S)).expect("advances");
    assert!(store.claim("duplicate").expect("claims").is_first_seen());
    for at_watermark in [300 * S, 400 * S, 500 * S] {
        assert_eq!(watermark(&events), at_watermark, "only the fast one counts");
        let too_late = commit(&events, &[("late", 101 * S)], false);
        assert!(matches!(too_late, CommitOutcome::Rejected(_)), "{too_late:?}");
        let mut prepared = store.transaction();
        prepared.claim_at(&events, "new", "a", at(at_watermark));
        prepared.claim("duplicate");
        let prepared = prepared.prepare("x").expect("answers");
        assert!(matches!(prepared, CommitOutcome::Rejected(_)), "{prepared:?}");
        events.advance("fast", at(at_watermark + 100 * S)).expect("advances");
        assert!(events.sources()[0].is_idle);
    }
}

#[test]
fn i14_events_that_are_skipped_count_for_the_watermark_and_leave_nothing_else() {
    let mut place = Place::new();
    let store = place.open();
    let events = opened(&store, minute());
    let _ = claim(&events, "x", 100 * S);
    let batch = [("x", 300 * S), ("new", 200 * S), ("new", 201 * S), ("old", S)];
    let CommitOutcome::CommittedWithout(skipped) = commit(&events, &batch, true) else {
        panic!("not as asked")
    };
    let duplicate = |s: u64| EventClaim::Duplicate { first_event_time: at(s * S) };
    let expected = [
        refused("x", duplicate(100)),
        refused("new", duplicate(200)),
        refused("old", too_late(100 * S, S)),
    ];
    assert_eq!(skipped, expected.map(Skipped::Event));
    drop((events, store));

    place.kill();
    let store = place.open();
    let events = opened(&store, minute());
    let found = ["x/0", "new/1", "new/2", "old/3"].map(|key| total(&store, key));
    assert_eq!(found, [None, Some(200 * S), None, None]);
    assert_eq!(watermark(&events), 300 * S);
    // A minute after the latest event of it, not after the first.
    let _ = events.advance("a", at(359 * S)).expect("moves");
    assert!(claim(&events, "x", 100 * S).is_duplicate());
}

#[test]
fn i1_i14_an_event_and_what_belongs_to_it_are_there_or_neither_after_a_crash_at_any_step() {
    let mut outcomes = [0, 0];
    for at_op in 0.. {
        let mut place = Place::new();
        let store = place.open();
        let events = opened(&store, minute());
        let _ = totals(&store);
        let ops = place.disk.ops();
        place.disk.fail_at(ops + at_op, Fault::Crash, false);
        let mut transaction = store.transaction();
        transaction.durability(Durability::Disk);
        transaction.claim_at(&events, "x", "a", at(100 * S));
        transaction.put(&totals(&store), "x", &1).expect("collects");
        let told = transaction.commit();
        drop(transaction);
        let was_crashed = place.disk.ops() > ops + at_op;
        drop((events, store));

        place.disk = place.disk.crash(at_op);
        let store = place.open();
        let events = opened(&store, minute());
        let moved = watermark(&events) == 100 * S;
        match (claim(&events, "x", 100 * S).is_duplicate(), moved, total(&store, "x")) {
            (true, true, Some(1)) => outcomes[1] += 1,
            (false, false, None) if told.is_err() => outcomes[0] += 1,
            half => panic!("crash at {at_op}: {half:?}, told {told:?}"),
        }
        assert_sound(&store);
        if !was_crashed {
            break;
        }
    }
    assert!(outcomes[0] > 0 && outcomes[1] > 0, "{outcomes:?}");
}

#[test]
fn i14_of_transactions_that_claim_one_event_at_once_one_is_made() {
    const EVENTS: u64 = 100;
    let place = Place::new();
    let store = place.open();
    let events = opened(&store, minute());
    let made = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let (store, events) = (&store, &events);
                scope.spawn(move || {
                    let mut made = 0;
                    for n in 0..EVENTS {
                        let mut transaction = store.transaction();
                        // Each in an order of its own.
                        let id = format!("{}", (n + thread * EVENTS / 4) % EVENTS);
                        transaction.claim_at(events, &id, "a", at(S));
                        let key = format!("{id}/{thread}");
                        transaction.put(&totals(store), key, &thread).expect("collects");
                        made += u64::from(transaction.commit().expect("answers").is_committed());
                    }
                    made
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("ends")).sum::<u64>()
    });
    assert_eq!(made, EVENTS);
    for id in 0..EVENTS {
        let written = (0..4).filter(|thread| total(&store, &format!("{id}/{thread}")).is_some());
        assert_eq!(written.count(), 1, "{id}");
    }
    assert_eq!(events.stats().first_seen, EVENTS);
}

#[test]
fn i14_a_prepared_event_is_in_doubt_and_holds_no_watermark_back() {
    for commits in [true, false] {
        let mut place = Place::new();
        let store = place.open();
        let events = opened(&store, minute());
        let mut transaction = store.transaction();
        transaction.claim_at(&events, "x", "a", at(500 * S));
        transaction.put(&totals(&store), "x", &1).expect("collects");
        assert!(transaction.prepare("transfer").expect("answers").is_committed());
        assert_eq!(
            events.claim_at("x", "a", at(500 * S)).expect_err("in doubt").kind(),
            ErrorKind::Retry
        );
        // The source goes on, and what may never happen has not moved it.
        assert!(claim(&events, "y", 110 * S).is_first_seen());
        assert_eq!((watermark(&events), total(&store, "x")), (110 * S, None));
        assert_eq!(events.stats().first_seen, 1);
        drop((transaction, events, store));

        place.kill();
        let store = place.open();
        let events = opened(&store, minute());
        let ended = if commits {
            store.commit_prepared("transfer")
        } else {
            store.rollback_prepared("transfer")
        };
        assert_eq!(ended.expect("ends"), EndOutcome::Done);
        assert_eq!(claim(&events, "x", 500 * S).is_duplicate(), commits);
        assert_eq!(total(&store, "x"), commits.then_some(1));
    }
}

#[test]
fn messages_of_an_event_have_its_ids_and_not_those_of_a_plain_claim() {
    let place = Place::new();
    let store = place.open();
    let events = opened(&store, minute());
    let outbox = store.outbox("out").expect("opens");
    let clicks = store.namespace("clicks").expect("opens");
    let emit = |is_event: bool| {
        let mut transaction = store.transaction();
        if is_event {
            transaction.claim_at(&events, "x", "a", at(S));
        } else {
            transaction.claim_in(&clicks, "x");
        }
        transaction.emit(&outbox, "said").expect("collects");
        assert!(transaction.commit().expect("answers").is_committed());
        let said = outbox.read(10).expect("reads");
        assert_eq!(said.len(), 1);
        outbox.acknowledge(&said).expect("acknowledges");
        said[0].id
    };
    let first = emit(true);
    assert_ne!(emit(false), first);
    // The same event after its window.
    let _ = events.advance("a", at(1)).expect("moves");
    let scope = store.replay("again").expect("begins");
    let again = scope.event_time("clicks", minute()).expect("opens");
    let mut transaction = store.transaction();
    transaction.claim_at(&again, "x", "a", at(S));
    transaction.emit(&outbox, "said").expect("collects");
    assert!(transaction.commit().expect("answers").is_committed());
    assert_eq!(outbox.read(10).expect("reads")[0].id, first);
}

#[test]
fn an_event_of_another_store_or_without_a_source_is_refused() {
    let (place, other) = (Place::new(), Place::new());
    let (store, other) = (place.open(), other.open());
    for (events, source) in [(opened(&other, minute()), "a"), (opened(&store, minute()), "")] {
        let mut transaction = store.transaction();
        transaction.claim_at(&events, "x", source, at(S));
        assert_eq!(transaction.commit().expect_err("refused").kind(), ErrorKind::FixCall);
    }
}

#[test]
fn handles_of_one_namespace_with_different_options_are_refused_in_one_transaction() {
    let place = Place::new();
    let store = place.open();
    let bold = opened(&store, minute());
    let careful = opened(&store, minute().ahead_max(ms(60 * S)));
    let mut transaction = store.transaction();
    transaction.claim_at(&bold, "x", "a", at(S));
    transaction.claim_at(&careful, "y", "a", at(4_000_000_000_000));
    assert_eq!(transaction.commit().expect_err("refused").kind(), ErrorKind::FixCall);
    let mut transaction = store.transaction();
    transaction.claim_at(&bold, "x", "a", at(S)).claim_at(&bold.clone(), "y", "a", at(S));
    assert!(transaction.commit().expect("answers").is_committed());
}
