//! The checker of workers refuses impossible histories, and only those.

use super::check::{
    ATTEMPTS_MAX, Begun, DELAY, Event, Heard, Is, LEASE, Shown, What, Word, check, check_tokens,
};
use firstseen::ledger::OnLeaseEnd;

const NOW: u64 = 1_000_000;

/// Events one after the other, each at its time after `NOW`.
fn in_turn(whats: &[(u64, What)]) -> Vec<Event> {
    let event = |(n, (ms, what)): (usize, &(u64, What))| Event {
        what: *what,
        row: None,
        called: n as u64 * 2 + 1,
        answered: n as u64 * 2 + 2,
        clock: (NOW + ms, NOW + ms),
    };
    whats.iter().enumerate().map(event).collect()
}

/// Makes all events concurrent, at any of their times.
fn at_once(mut events: Vec<Event>) -> Vec<Event> {
    let clocks = || events.iter().map(|event| event.clock.0);
    let clock = (clocks().min().unwrap_or(NOW), clocks().max().unwrap_or(NOW));
    for event in &mut events {
        (event.called, event.answered, event.clock) = (1, 99, clock);
    }
    events
}

#[track_caller]
fn accepts(events: &[Event]) {
    check(events, OnLeaseEnd::Retry).unwrap_or_else(|what| panic!("refused: {what}"));
}

#[track_caller]
fn refuses(events: &[Event]) {
    assert!(check(events, OnLeaseEnd::Retry).is_err(), "accepted: {events:#?}");
}

/// The record after an attempt has started at this time.
fn running(ms: u64, attempts: u32, token: u64, ended: u32) -> Shown {
    let is = Is::Running { until: NOW + ms + LEASE };
    Shown { is, attempts, token, stages: 0, redrives: 0, ended }
}

fn started(shown: Shown) -> What {
    What::Begin(Begun::Started, shown)
}

fn says(token: u64, word: Word, heard: Heard) -> What {
    What::Say { token, word, heard }
}

/// The record once it was said how its attempt went.
fn over(before: Shown, is: Is) -> Shown {
    Shown { is, token: 0, ended: before.ended + 1, ..before }
}

fn completes(before: Shown, result: u64) -> (What, Shown) {
    let after = Shown { stages: 0, ..over(before, Is::Done { result }) };
    (says(before.token, Word::Complete { result }, Heard::Yes(after)), after)
}

#[test]
fn one_holder_at_a_time() {
    let (first, second) = (running(0, 1, 5, 0), running(LEASE, 2, 7, 1));
    let early = running(LEASE - 1, 2, 7, 1);
    accepts(&in_turn(&[(0, started(first)), (3, What::Begin(Begun::InProgress, first))]));
    accepts(&in_turn(&[(0, started(first)), (LEASE, started(second))]));
    refuses(&in_turn(&[(0, started(first)), (LEASE - 1, started(early))]));
    refuses(&at_once(in_turn(&[(0, started(first)), (0, started(running(0, 2, 7, 1)))])));
    refuses(&in_turn(&[(0, started(first)), (LEASE, What::Begin(Begun::InProgress, first))]));
    // Somebody took over without a word that the lease has ended.
    refuses(&in_turn(&[(0, started(first)), (LEASE, started(running(LEASE, 2, 7, 0)))]));
    // The process of the first is gone.
    let reopened = [(0, started(first)), (1, What::Reopened)];
    accepts(&in_turn(&[&reopened[..], &[(2, started(running(2, 2, 7, 1)))]].concat()));
    refuses(&in_turn(&[&reopened[..], &[(2, What::Begin(Begun::InProgress, first))]].concat()));
}

#[test]
fn tokens_grow() {
    let first = running(0, 1, 7, 0);
    for token in [6, 7] {
        refuses(&in_turn(&[(0, started(first)), (LEASE, started(running(LEASE, 2, token, 1)))]));
    }
    // Also over the removal of the record.
    let dead = over(first, Is::Dead);
    let cancelled = [(0, started(first)), (1, What::Cancel(Some(dead))), (2, What::Purge(true))];
    let again = |token| [&cancelled[..], &[(3, started(running(3, 1, token, 0)))]].concat();
    accepts(&in_turn(&again(8)));
    refuses(&in_turn(&again(7)));
    // And from one id to another.
    let two = |token| in_turn(&[(0, started(first)), (1, started(running(1, 1, token, 0)))]);
    check_tokens(&two(8)).expect("grows");
    check_tokens(&two(6)).expect_err("does not");
    check_tokens(&at_once(two(6))).expect("either may be the first");
}

#[test]
fn nothing_stale_lands() {
    let (first, second) = (running(0, 1, 5, 0), running(LEASE, 2, 7, 1));
    let begun = [(0, started(first)), (LEASE, started(second))];
    let then = |what| in_turn(&[&begun[..], &[(LEASE + 1, what)]].concat());
    let (late, _) = completes(Shown { ended: 1, ..first }, 1);
    refuses(&then(late));
    refuses(&then(says(5, Word::Renew, Heard::Yes(running(LEASE + 1, 2, 5, 1)))));
    let saved = Shown { stages: 1, ..second };
    refuses(&then(says(5, Word::Save { value: 3 }, Heard::Yes(saved))));
    accepts(&then(says(
        7,
        Word::Save { value: 3 },
        Heard::Yes(Shown { stages: 1, ..running(LEASE + 1, 2, 7, 1) }),
    )));
    accepts(&then(says(5, Word::Fail, Heard::Fenced(Some(second)))));
    // The owner is not told that somebody else has the record, and nobody hears of another record than there is.
    refuses(&then(says(7, Word::Fail, Heard::Fenced(Some(second)))));
    refuses(&then(says(5, Word::Fail, Heard::Fenced(Some(first)))));
}

#[test]
fn a_late_completion_lands_until_somebody_has_taken_over() {
    let first = running(0, 1, 5, 0);
    let (late, done) = completes(first, 1);
    accepts(&in_turn(&[
        (0, started(first)),
        (LEASE + 5, late),
        (LEASE + 5, What::Get(Some(done))),
    ]));
    let second = running(LEASE, 2, 7, 1);
    let both = in_turn(&[(0, started(first)), (LEASE, late), (LEASE, started(second))]);
    refuses(&both);
    refuses(&at_once(both));
}

#[test]
fn a_completion_is_what_everybody_hears_from_then_on() {
    let first = running(0, 1, 5, 0);
    let (completed, done) = completes(first, 1);
    let other = Shown { is: Is::Done { result: 2 }, ..done };
    let landed = [(0, started(first)), (1, completed)];
    let then = |what| in_turn(&[&landed[..], &[(99, what)]].concat());
    accepts(&then(What::Begin(Begun::Over, done)));
    refuses(&then(What::Begin(Begun::Over, other)));
    refuses(&then(What::Get(Some(first))));
    refuses(&then(What::Get(None)));
    refuses(&then(started(running(99, 2, 7, 1))));
    refuses(&then(What::Redrive(true)));
    refuses(&then(What::Purge(true)));
    refuses(&then(What::Cancel(Some(over(done, Is::Dead)))));
    refuses(&then(What::Settle { result: 2, shown: Some(over(other, other.is)) }));
    accepts(&then(What::Settle { result: 2, shown: Some(done) }));
    // Two that both say so.
    let (again, _) = completes(first, 2);
    refuses(&at_once(in_turn(&[&landed[..], &[(1, again)]].concat())));
}

#[test]
fn an_ended_lease_is_not_renewed() {
    let first = running(0, 1, 5, 0);
    let renewed = |ms| says(5, Word::Renew, Heard::Yes(running(ms, 1, 5, 0)));
    let ended = says(5, Word::Renew, Heard::LeaseEnded);
    accepts(&in_turn(&[(0, started(first)), (LEASE - 1, renewed(LEASE - 1))]));
    refuses(&in_turn(&[(0, started(first)), (LEASE, renewed(LEASE))]));
    accepts(&in_turn(&[(0, started(first)), (LEASE, ended)]));
    refuses(&in_turn(&[(0, started(first)), (LEASE - 1, ended)]));
    // It is as long as it should be.
    refuses(&in_turn(&[(0, started(first)), (4, renewed(3))]));
    refuses(&in_turn(&[(0, started(first)), (4, renewed(5))]));
}

#[test]
fn failures_are_counted_wait_and_end() {
    let (mut events, mut ended) = (Vec::new(), 0);
    for attempt in 1..=ATTEMPTS_MAX {
        let at = u64::from(attempt) * DELAY;
        let begun = running(at, attempt, u64::from(attempt), ended);
        let is = match attempt {
            ATTEMPTS_MAX => Is::Dead,
            _ => Is::Waiting { until: NOW + at + DELAY },
        };
        let failed = over(begun, is);
        let fails = says(begun.token, Word::Fail, Heard::Yes(failed));
        events.extend([(at, started(begun)), (at, fails)]);
        ended = failed.ended;
        if attempt == 1 {
            let retry = (at + DELAY - 1, What::Begin(Begun::RetryAt, failed));
            accepts(&in_turn(&[&events[..], &[retry]].concat()));
            let early = running(at + DELAY - 1, 2, 2, ended);
            refuses(&in_turn(&[&events[..], &[(at + DELAY - 1, started(early))]].concat()));
            let uncounted = running(at + DELAY, 1, 2, ended);
            refuses(&in_turn(&[&events[..], &[(at + DELAY, started(uncounted))]].concat()));
        }
    }
    accepts(&in_turn(&events));
    // One more than may be.
    let more = running(99, ATTEMPTS_MAX + 1, 99, ended);
    refuses(&in_turn(&[&events[..], &[(99, started(more))]].concat()));
    // Brought back, it is tried as often as a new one.
    let again = |attempts| Shown { redrives: 1, ..running(99, attempts, 99, ended) };
    let redriven = |attempts| [(99, What::Redrive(true)), (99, started(again(attempts)))];
    accepts(&in_turn(&[&events[..], &redriven(1)].concat()));
    refuses(&in_turn(&[&events[..], &redriven(ATTEMPTS_MAX)].concat()));
    refuses(&in_turn(&[&events[..], &[(99, What::Redrive(false))]].concat()));
}

#[test]
fn what_was_handed_back_is_not_charged() {
    let first = running(0, 1, 5, 0);
    let back = |attempts| Shown { attempts, ..over(first, Is::Waiting { until: NOW + 1 }) };
    let released = |attempts| says(5, Word::Release, Heard::Yes(back(attempts)));
    accepts(&in_turn(&[(0, started(first)), (1, released(0)), (1, started(running(1, 1, 7, 1)))]));
    refuses(&in_turn(&[(0, started(first)), (1, released(1))]));
}

#[test]
fn the_policy_for_an_ended_lease_is_followed() {
    let first = running(0, 1, 5, 0);
    let noticed = |is| What::Begin(Begun::Over, Shown { is, ended: 1, ..first });
    let second = started(running(LEASE, 2, 7, 1));
    for (policy, right) in [
        (OnLeaseEnd::Retry, second),
        (OnLeaseEnd::Hold, noticed(Is::Held)),
        (OnLeaseEnd::Fail, noticed(Is::Dead)),
    ] {
        for what in [second, noticed(Is::Held), noticed(Is::Dead)] {
            let checked = check(&in_turn(&[(0, started(first)), (LEASE, what)]), policy);
            assert_eq!(checked.is_ok(), what == right, "{policy:?} {what:?}");
            let early = check(&in_turn(&[(0, started(first)), (LEASE - 1, what)]), policy);
            assert!(early.is_err(), "{policy:?} {what:?}");
        }
    }
}

#[test]
fn a_saved_stage_is_found_as_it_was_saved() {
    let first = running(0, 1, 5, 0);
    let saved = Shown { stages: 1, ..running(1, 1, 5, 0) };
    let save = says(5, Word::Save { value: 3 }, Heard::Yes(saved));
    let replayed = |number, value| What::Replayed { number, value };
    let second = Shown { stages: 1, ..running(1 + LEASE, 2, 7, 1) };
    let begun = [(0, started(first)), (1, save), (1 + LEASE, started(second))];
    let then = |what| in_turn(&[&begun[..], &[(1 + LEASE, what)]].concat());
    accepts(&then(replayed(0, 3)));
    refuses(&then(replayed(0, 4)));
    refuses(&then(replayed(1, 3)));
    // Lost on the way.
    let lost = started(running(1 + LEASE, 2, 7, 1));
    refuses(&in_turn(&[(0, started(first)), (1, save), (1 + LEASE, lost)]));
}

/// The event at this place was made by a transaction that puts this into the row.
fn with_row(mut events: Vec<Event>, at: usize, row: u64) -> Vec<Event> {
    events[at].row = Some(row);
    events
}

#[test]
fn a_row_and_the_record_of_one_commit_appear_together() {
    let first = running(0, 1, 5, 0);
    let row = What::Row;
    let with = |whats: &[(u64, What)], at| with_row(in_turn(whats), at, 7);
    accepts(&with(&[(0, row(None)), (0, started(first)), (0, row(Some(7)))], 1));
    // Before its record, not with it, and of nobody.
    refuses(&with(&[(0, row(Some(7))), (0, What::Get(None)), (0, started(first))], 2));
    refuses(&with(&[(0, started(first)), (0, What::Get(Some(first))), (0, row(None))], 0));
    refuses(&in_turn(&[(0, started(first)), (0, row(Some(7)))]));
    // It stays when the record is removed.
    let forgotten = [(0, started(first)), (1, What::Forget(true)), (1, What::Get(None))];
    accepts(&with(&[&forgotten[..], &[(1, row(Some(7)))]].concat(), 0));
    refuses(&with(&[&forgotten[..], &[(1, row(None))]].concat(), 0));
    refuses(&in_turn(&[(0, started(first)), (1, What::Forget(false))]));
}

#[test]
fn nothing_of_a_refused_transaction_is_seen() {
    let (first, second) = (running(0, 1, 5, 0), running(LEASE, 2, 7, 1));
    let taken = [(0, started(first)), (LEASE, started(second))];
    let late = (LEASE + 1, says(5, Word::Renew, Heard::Fenced(Some(second))));
    let then = |what| [&taken[..], &[late, (LEASE + 1, what)]].concat();
    accepts(&with_row(in_turn(&then(What::Row(None))), 2, 3));
    refuses(&with_row(in_turn(&then(What::Row(Some(3)))), 2, 3));
    // Rejected with what `begin` would have answered.
    let busy = What::Refused(Begun::InProgress, first);
    accepts(&with_row(in_turn(&[(0, started(first)), (1, busy), (1, What::Row(None))]), 1, 3));
    refuses(&with_row(in_turn(&[(0, started(first)), (1, busy), (1, What::Row(Some(3)))]), 1, 3));
    refuses(&in_turn(&[(0, started(first)), (LEASE, busy)]));
    refuses(&in_turn(&[(0, What::Refused(Begun::Started, first))]));
}

#[test]
fn what_a_refused_begin_says_of_a_record_is_not_noted() {
    let first = running(0, 1, 5, 0);
    let held = Shown { is: Is::Held, ended: 1, ..first };
    let refused = What::Refused(Begun::Over, held);
    let after = |shown| {
        let whats = [(0, started(first)), (LEASE, refused), (LEASE, What::Get(Some(shown)))];
        check(&in_turn(&whats), OnLeaseEnd::Hold)
    };
    assert!(after(first).is_ok());
    assert!(after(held).is_err());
}

#[test]
fn a_stage_is_refused_as_saved_only_if_it_is() {
    let first = running(0, 1, 5, 0);
    let saved = Shown { stages: 1, ..running(1, 1, 5, 0) };
    let save = says(5, Word::Save { value: 3 }, Heard::Yes(saved));
    let begun = [(0, started(first)), (1, save)];
    let then = |number| [&begun[..], &[(1, What::StageSaved { number })]].concat();
    accepts(&in_turn(&then(0)));
    refuses(&in_turn(&then(1)));
}
