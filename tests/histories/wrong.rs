//! The checker refuses impossible histories, and only those.

use crate::check::check;
use crate::record::{End, Event, FOREVER, History, Level, Live, ROWS, Want, What};

const NOW: u64 = 1_000_000;

/// Consecutive events at one time, and the state after them.
fn in_turn(whats: &[What], after: Live) -> History {
    let event = |(n, what): (usize, &What)| Event {
        id: 0,
        thread: 0,
        what: *what,
        called: n as u64 * 2 + 1,
        answered: n as u64 * 2 + 2,
        clock: (NOW, NOW),
        sure: true,
        level: Level::Process,
    };
    History {
        id: 0,
        before: None,
        events: whats.iter().enumerate().map(event).collect(),
        end: End::Closed,
        after: (after, NOW),
        synced: 0,
    }
}

/// Makes all events concurrent.
fn at_once(mut history: History) -> History {
    for event in &mut history.events {
        (event.called, event.answered) = (1, 99);
    }
    history
}

#[track_caller]
fn accepts(history: &History) {
    check(history).unwrap_or_else(|what| panic!("refused: {what}"));
}

#[track_caller]
fn refuses(history: &History) {
    assert!(check(history).is_err(), "accepted: {history:#?}");
}

const FIRST: What = What::First { ttl: FOREVER };
const DUPLICATE: What = What::Duplicate { first_seen: NOW };
const LIVE: Live = Some((NOW, FOREVER));
const SEEN: What = What::Seen { first_seen: NOW, deadline: FOREVER };

#[test]
fn one_winner() {
    accepts(&in_turn(&[FIRST, DUPLICATE, DUPLICATE, SEEN], LIVE));
    refuses(&in_turn(&[FIRST, DUPLICATE, FIRST], LIVE));
    refuses(&at_once(in_turn(&[FIRST, DUPLICATE, FIRST], LIVE)));
}

#[test]
fn a_duplicate_has_a_first_before_it_or_beside_it() {
    refuses(&in_turn(&[DUPLICATE], LIVE));
    refuses(&in_turn(&[DUPLICATE, FIRST], LIVE));
    accepts(&at_once(in_turn(&[DUPLICATE, FIRST], LIVE)));
    // The time is that of no claim.
    refuses(&in_turn(&[FIRST, What::Duplicate { first_seen: NOW - 1 }], LIVE));
    accepts(&History { before: LIVE, ..in_turn(&[DUPLICATE], LIVE) });
}

#[test]
fn questions_see_what_is_there() {
    accepts(&in_turn(&[What::Unseen, FIRST, SEEN], LIVE));
    refuses(&in_turn(&[FIRST, What::Unseen], LIVE));
    accepts(&at_once(in_turn(&[FIRST, What::Unseen], LIVE)));
    refuses(&in_turn(&[SEEN, FIRST], LIVE));
    refuses(&in_turn(&[FIRST, What::Seen { first_seen: NOW, deadline: NOW + 5 }], LIVE));
}

#[test]
fn forgetting_ends_a_window() {
    accepts(&in_turn(&[FIRST, What::Forgotten, FIRST, DUPLICATE], LIVE));
    refuses(&in_turn(&[FIRST, What::Forgotten, DUPLICATE], None));
    refuses(&in_turn(&[FIRST, What::Forgotten, What::Forgotten], None));
    refuses(&in_turn(&[What::Forgotten], None));
    accepts(&at_once(in_turn(&[FIRST, FIRST, What::Forgotten], LIVE)));
    refuses(&at_once(in_turn(&[FIRST, FIRST, FIRST, What::Forgotten], LIVE)));
}

#[test]
fn a_window_ends_at_its_deadline_and_not_before() {
    let with_clocks = |whats: &[What], clocks: &[(u64, u64)], after: Live| {
        let mut history = in_turn(whats, after);
        for (event, clock) in history.events.iter_mut().zip(clocks) {
            event.clock = *clock;
        }
        history.after.1 = clocks.last().map_or(NOW, |clock| clock.1);
        history
    };
    let short = What::First { ttl: 50 };
    let again = Some((NOW + 50, NOW + 100));
    let at = |ms: u64| (NOW + ms, NOW + ms);
    accepts(&with_clocks(&[short, short], &[at(0), at(50)], again));
    refuses(&with_clocks(&[short, short], &[at(0), at(49)], Some((NOW + 49, NOW + 99))));
    accepts(&with_clocks(&[short, DUPLICATE], &[at(0), at(49)], Some((NOW, NOW + 50))));
    refuses(&with_clocks(&[short, DUPLICATE], &[at(0), at(50)], None));
    accepts(&with_clocks(&[short, What::Unseen], &[at(0), at(50)], None));
    refuses(&with_clocks(&[short, What::Unseen], &[at(0), at(49)], Some((NOW, NOW + 50))));
    // The clock moved during the calls: either result may be right, but not in this order.
    let moving = (NOW, NOW + 60);
    accepts(&with_clocks(&[short, DUPLICATE, What::Unseen], &[at(0), moving, moving], None));
    refuses(&with_clocks(&[short, What::Unseen, DUPLICATE], &[at(0), moving, moving], None));
}

#[test]
fn a_reservation_keeps_others_out() {
    let (held, released) = (What::Held { holder: 1 }, What::Released { holder: 1 });
    let confirmed = What::Confirmed { holder: 1, ttl: FOREVER };
    accepts(&in_turn(&[held, What::InProgress, confirmed, DUPLICATE], LIVE));
    accepts(&in_turn(&[held, released, FIRST], LIVE));
    refuses(&in_turn(&[held, FIRST, confirmed], LIVE));
    refuses(&in_turn(&[held, What::Held { holder: 2 }], None));
    refuses(&in_turn(&[held, released, confirmed], LIVE));
    refuses(&in_turn(&[FIRST, held], LIVE));
    refuses(&in_turn(&[What::InProgress], None));
    refuses(&in_turn(&[confirmed], LIVE));
    refuses(&at_once(in_turn(&[held, confirmed, FIRST], LIVE)));
}

#[test]
fn what_was_acknowledged_survives_at_its_level() {
    let ended = |end, level, after| {
        let mut history = in_turn(&[FIRST], after);
        history.end = end;
        history.events[0].level = level;
        history
    };
    refuses(&ended(End::Closed, Level::Buffered, None));
    refuses(&ended(End::Killed, Level::Process, None));
    accepts(&ended(End::Killed, Level::Buffered, None));
    accepts(&ended(End::PowerCut, Level::Process, None));
    refuses(&ended(End::PowerCut, Level::Disk, None));
    // A later sync makes it durable.
    refuses(&History { synced: 3, ..ended(End::PowerCut, Level::Buffered, None) });
    accepts(&History { synced: 2, ..ended(End::PowerCut, Level::Buffered, None) });
    // A claim that no event made.
    refuses(&in_turn(&[], LIVE));
}

#[test]
fn a_crash_takes_an_end_and_nothing_from_the_middle() {
    let cut = |whats: &[What], levels: &[Level], after| {
        let mut history = in_turn(whats, after);
        history.end = End::PowerCut;
        for (event, level) in history.events.iter_mut().zip(levels) {
            event.level = *level;
        }
        history
    };
    let (low, high) = (Level::Process, Level::Disk);
    accepts(&cut(&[FIRST, What::Forgotten], &[low, low], LIVE));
    refuses(&cut(&[FIRST, What::Forgotten], &[low, high], LIVE));
    // A duplicate acknowledged at `Disk` puts the claim there.
    refuses(&cut(&[FIRST, DUPLICATE], &[low, high], None));
    accepts(&cut(&[FIRST, DUPLICATE], &[low, low], None));
}

#[test]
fn what_is_unknown_happened_or_not() {
    let unknown = |after| {
        let mut history = in_turn(&[FIRST, DUPLICATE], after);
        history.events.truncate(1);
        history.events[0].sure = false;
        history.events[0].answered = u64::MAX;
        history.end = End::Killed;
        history
    };
    accepts(&unknown(LIVE));
    accepts(&unknown(None));
    let mut heard = in_turn(&[FIRST, DUPLICATE], LIVE);
    heard.events[0].sure = false;
    accepts(&heard);
    // But that does not excuse two.
    let mut two = at_once(in_turn(&[FIRST, FIRST, FIRST], LIVE));
    two.events[0].sure = false;
    refuses(&two);
}

#[test]
fn a_row_is_replaced_only_by_who_knows_it() {
    let row = |whats: &[What], after: Live| History { id: ROWS, ..in_turn(whats, after) };
    let put = |write, sequence, expect| What::Put { write, sequence: Some(sequence), expect };
    let (first, second) = (put(1, 5, Want::Absent), put(2, 7, Want::Sequence(5)));
    let read = |write, sequence| What::Row { write, sequence };
    let moved = |expect, found| What::Moved { expect: Want::Sequence(expect), found };
    accepts(&row(&[What::NoRow, first, read(1, 5), second, read(2, 7)], Some((2, 7))));
    refuses(&row(&[first, second, read(1, 5)], Some((2, 7))));
    refuses(&row(&[first, second], Some((1, 5))));
    refuses(&row(&[first, read(1, 6)], Some((1, 5))));
    // Two who expect the same row: one is refused.
    let third = put(3, 8, Want::Sequence(5));
    refuses(&at_once(row(&[first, second, third], Some((3, 8)))));
    accepts(&at_once(row(&[first, second, moved(5, Some(7))], Some((2, 7)))));
    refuses(&row(&[first, moved(5, Some(5))], Some((1, 5))));
    refuses(&row(&[first, moved(4, Some(6))], Some((1, 5))));
    refuses(&at_once(row(&[first, put(2, 6, Want::Absent)], Some((2, 6)))));
    // Sequences only grow.
    refuses(&row(&[first, put(2, 4, Want::Anything)], Some((2, 4))));
    let deleted = What::Deleted { sequence: Some(8), expect: Want::Anything };
    accepts(&row(&[first, deleted, What::NoRow], None));
    refuses(&row(&[deleted], None));
    refuses(&row(&[first, deleted, put(2, 7, Want::Absent)], Some((2, 7))));
    // A write with an unknown outcome has any sequence, but only one.
    let unknown = What::Put { write: 9, sequence: None, expect: Want::Anything };
    accepts(&row(&[unknown, read(9, 4), read(9, 4)], Some((9, 4))));
    refuses(&row(&[unknown, read(9, 4), read(9, 5)], Some((9, 5))));
}
