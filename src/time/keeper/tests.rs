use std::time::Duration;

use super::super::ManualClock;
use super::*;

const SECOND: u64 = 1_000;
const HOUR: u64 = 3_600 * SECOND;
const DAY: u64 = 24 * HOUR;
const START: u64 = 1_700_000_000_000;
const BOUNDS: Bounds = Bounds { jump_ms_max: HOUR, settle_ms: 60 * SECOND };

fn open(clock: &ManualClock, resume: Option<TimeMark>) -> TimeKeeper {
    TimeKeeper::new(Arc::new(clock.clone()), resume, BOUNDS.jump_ms_max, BOUNDS.settle_ms)
}

fn start() -> (ManualClock, TimeKeeper) {
    let clock = ManualClock::at_millis(START);
    let keeper = open(&clock, None);
    (clock, keeper)
}

fn pass(clock: &ManualClock, ms: u64) {
    clock.advance(Duration::from_millis(ms));
}

/// Sets the wall clock; no time passes.
fn forward(clock: &ManualClock, ms: u64) {
    clock.jump_to(Timestamp::from_millis(clock.wall().as_millis() + ms));
}

fn back(clock: &ManualClock, ms: u64) {
    clock.jump_to(Timestamp::from_millis(clock.wall().as_millis() - ms));
}

/// Returns the engine time since START.
fn at(keeper: &TimeKeeper) -> u64 {
    keeper.now().as_millis() - START
}

#[test]
fn each_verdict() {
    let [wall, last, expected, due] = [START; 4];
    let look = Look { wall, elapsed: 100, last, expected, suspect: None, due, refill_ms: 0 };
    let judged = |look: Look| judge(&look, BOUNDS);
    let ahead = Look { wall: START + HOUR + 1, ..look };
    assert_eq!(judged(look), ClockJudgement::Believe);
    assert_eq!(judged(Look { wall: START + HOUR, ..look }), ClockJudgement::Believe);
    let on = Look { expected: START + 1, due: START + 1, ..ahead };
    assert_eq!(judged(on), ClockJudgement::Believe);
    assert_eq!(
        judged(Look { refill_ms: 1, ..on }),
        ClockJudgement::Jumped,
        "nothing is left for a step"
    );
    assert_eq!(
        judged(Look { refill_ms: DAY, ..look }),
        ClockJudgement::Believe,
        "and none was made"
    );
    let half = Look { wall: START + HOUR / 2, refill_ms: DAY / 2, ..look };
    assert_eq!(judged(half), ClockJudgement::Believe);
    assert_eq!(judged(Look { refill_ms: DAY / 2 + 1, ..half }), ClockJudgement::Jumped);
    assert_eq!(judged(Look { wall: START - HOUR, ..look }), ClockJudgement::Believe);
    assert_eq!(judged(Look { wall: START - HOUR - 1, ..look }), ClockJudgement::Coast);
    assert_eq!(judged(ahead), ClockJudgement::Jumped);
    let seen = |wall: u64| Look { wall: START + DAY, suspect: Some((wall, 100)), ..look };
    assert_eq!(judged(seen(START + DAY)), ClockJudgement::Held);
    assert_eq!(judged(Look { elapsed: 60_099, ..seen(START + DAY) }), ClockJudgement::Held);
    assert_eq!(judged(Look { elapsed: 60_100, ..seen(START + DAY) }), ClockJudgement::Settled);
    assert_eq!(judged(Look { elapsed: 60_100, ..seen(START + 3 * DAY) }), ClockJudgement::Jumped);
    assert_eq!(judged(Look { elapsed: 60_100, ..seen(START + 2 * HOUR) }), ClockJudgement::Jumped);
}

#[test]
fn each_verdict_of_an_opening() {
    let mark = TimeMark { high: START, elapsed: 100, boot: 1, suspect: 0, suspect_elapsed: 0 };
    let judged = |mark, wall, elapsed, boot| {
        let (look, judgement) = judge_resume(mark, (wall, elapsed, boot), BOUNDS);
        (look.expected - START, judgement)
    };
    let day_after = (DAY, ClockJudgement::Believe);
    assert_eq!(judged(mark, START + DAY + HOUR, DAY + 100, 1), day_after);
    assert_eq!(judged(mark, START + DAY + HOUR + 1, DAY + 100, 1), (DAY, ClockJudgement::Jumped));
    assert_eq!(judged(mark, START - 2 * HOUR, 100, 1), (0, ClockJudgement::Coast));
    assert_eq!(judged(mark, START + DAY, 0, 2), (0, ClockJudgement::Believe));
    assert_eq!(judged(mark, START + DAY + 1, 0, 2), (0, ClockJudgement::Jumped));
    let seen = TimeMark { suspect: START + 8 * DAY, suspect_elapsed: 50, ..mark };
    assert_eq!(judged(seen, START + 8 * DAY, 200, 1), (100, ClockJudgement::Held));
    assert_eq!(judged(seen, START + 8 * DAY, 60_050, 1), (59_950, ClockJudgement::Settled));
    assert_eq!(judged(seen, START + 8 * DAY, 0, 2), (0, ClockJudgement::Settled));
    assert_eq!(judged(seen, START + 8 * DAY - 1, 0, 2), (0, ClockJudgement::Jumped));
}

#[test]
fn passing_time_is_followed_in_any_steps() {
    let (clock, keeper) = start();
    let mut passed = 0;
    for step in [0, 1, 999, 1_000, 1_001, 65_536, 2 * HOUR, 30 * DAY] {
        pass(&clock, step);
        passed += step;
        assert_eq!(at(&keeper), passed);
    }
    assert_eq!((keeper.jumps(), keeper.held_ms()), (0, 0));
}

#[test]
fn a_small_step_back_makes_time_wait() {
    let (clock, keeper) = start();
    back(&clock, HOUR);
    assert_eq!(at(&keeper), 0);
    pass(&clock, HOUR);
    assert_eq!(at(&keeper), 0);
    pass(&clock, 5);
    assert_eq!(at(&keeper), 5);
}

#[test]
fn a_large_step_back_does_not_stop_time() {
    let (clock, keeper) = start();
    back(&clock, 8 * DAY);
    assert_eq!(at(&keeper), 0);
    pass(&clock, DAY);
    assert_eq!((at(&keeper), keeper.jumps()), (DAY, 0));
    forward(&clock, 8 * DAY);
    assert_eq!(at(&keeper), DAY);
    pass(&clock, 5);
    assert_eq!((at(&keeper), keeper.mode.load(Relaxed)), (DAY + 5, FOLLOWING));
}

#[test]
fn a_jump_is_held_until_it_has_settled() {
    let (clock, keeper) = start();
    pass(&clock, 10);
    forward(&clock, 8 * DAY);
    for second in 0..60 {
        assert_eq!(at(&keeper), 10 + second * SECOND, "time flows while the wall is held");
        assert_eq!((keeper.jumps(), keeper.held_ms()), (1, 8 * DAY));
        pass(&clock, SECOND);
    }
    assert_eq!(at(&keeper), 8 * DAY + 10 + 60 * SECOND);
    assert_eq!((keeper.jumps(), keeper.held_ms(), keeper.mark().suspect), (1, 0, 0));
}

#[test]
fn a_jump_that_is_taken_back_is_forgotten() {
    let (clock, keeper) = start();
    forward(&clock, 8 * DAY);
    assert_eq!(at(&keeper), 0);
    pass(&clock, 50 * SECOND);
    assert_eq!((at(&keeper), keeper.mark().suspect), (50 * SECOND, START + 8 * DAY));
    back(&clock, 8 * DAY);
    pass(&clock, 5 * SECOND);
    assert_eq!((at(&keeper), keeper.held_ms(), keeper.mark().suspect), (55 * SECOND, 0, 0));
    forward(&clock, 8 * DAY);
    assert_eq!(at(&keeper), 55 * SECOND);
    pass(&clock, 50 * SECOND);
    assert_eq!((at(&keeper), keeper.jumps()), (105 * SECOND, 2), "settling starts anew");
}

#[test]
fn a_second_jump_during_a_hold_starts_a_new_settling() {
    let (clock, keeper) = start();
    forward(&clock, 8 * DAY);
    assert_eq!(at(&keeper), 0);
    pass(&clock, 50 * SECOND);
    forward(&clock, 8 * DAY);
    assert_eq!((at(&keeper), keeper.jumps()), (50 * SECOND, 2));
    pass(&clock, 50 * SECOND);
    assert_eq!((at(&keeper), keeper.jumps()), (100 * SECOND, 2));
    pass(&clock, 10 * SECOND);
    assert_eq!(at(&keeper), 16 * DAY + 110 * SECOND);
}

#[test]
fn small_jumps_add_up() {
    let (clock, keeper) = start();
    forward(&clock, HOUR - 60 * SECOND);
    assert_eq!(at(&keeper), HOUR - 60 * SECOND);
    for _ in 0..2 {
        forward(&clock, 30 * 60 * SECOND);
        assert_eq!((at(&keeper), keeper.jumps()), (HOUR - 60 * SECOND, 1), "held like a large one");
    }
    back(&clock, HOUR);
    pass(&clock, DAY);
    assert_eq!(at(&keeper), DAY + HOUR - 60 * SECOND);
    forward(&clock, HOUR);
    assert_eq!((at(&keeper), keeper.jumps()), (DAY + 2 * HOUR - 60 * SECOND, 1), "full again");
}

#[test]
fn steps_below_a_second_add_up() {
    let (clock, keeper) = start();
    for _ in 0..3 * 3_600 {
        forward(&clock, SECOND);
        keeper.now();
    }
    // A minute may slip through between two reviews.
    assert!(at(&keeper) <= HOUR + 66 * SECOND, "{}", at(&keeper));
}

#[test]
fn small_jumps_add_up_over_openings() {
    let (clock, keeper) = start();
    let mut mark = keeper.mark();
    for _ in 0..5 {
        forward(&clock, HOUR - 60 * SECOND);
        let keeper = open(&clock, Some(mark));
        assert_eq!(at(&keeper), HOUR - 60 * SECOND);
        mark = keeper.mark();
    }
    clock.reboot();
    let rebooted = open(&clock, Some(mark));
    assert!(at(&rebooted) >= 5 * (HOUR - 60 * SECOND), "seen before a boot and after it");
    let mark = rebooted.mark();
    forward(&clock, HOUR - 60 * SECOND);
    assert_eq!(at(&open(&clock, Some(mark))) + START, mark.high, "a boot refills nothing");
    pass(&clock, DAY);
    let day_later = open(&clock, Some(mark));
    assert_eq!((at(&day_later), day_later.jumps()), (clock.wall().as_millis() - START, 0));
}

#[test]
fn deadlines_count_from_the_later_time_while_a_jump_is_held() {
    let (clock, keeper) = start();
    let latest = |keeper: &TimeKeeper| keeper.moment().latest.as_millis() - START;
    assert_eq!(latest(&keeper), 0);
    forward(&clock, 8 * DAY);
    for _ in 0..3 {
        let now = at(&keeper);
        assert_eq!((latest(&keeper), now), (8 * DAY + now, now), "first and later looks");
        pass(&clock, SECOND);
    }
    let reopened = open(&clock, Some(keeper.mark()));
    assert_eq!((at(&reopened), latest(&reopened)), (3 * SECOND, 8 * DAY + 3 * SECOND));
    back(&clock, 8 * DAY);
    assert_eq!((at(&keeper), latest(&keeper)), (3 * SECOND, 3 * SECOND));
    back(&clock, 8 * DAY);
    for _ in 0..2 {
        assert_eq!(at(&keeper), latest(&keeper), "a clock that is behind is not waited for");
        pass(&clock, SECOND);
    }
}

#[test]
fn the_wrong_year_corrected_does_not_freeze_time() {
    let (clock, keeper) = start();
    let years = 14 * 365 * DAY;
    forward(&clock, years);
    assert_eq!(at(&keeper), 0);
    pass(&clock, 60 * SECOND);
    assert_eq!(at(&keeper), years + 60 * SECOND, "nobody corrected it: it is followed");
    back(&clock, years);
    pass(&clock, 7 * DAY);
    assert_eq!(at(&keeper), years + 60 * SECOND + 7 * DAY);
    let again = open(&clock, Some(keeper.mark()));
    pass(&clock, DAY);
    assert_eq!(at(&again), years + 60 * SECOND + 8 * DAY);
    clock.reboot();
    let after_boot = open(&clock, Some(again.mark()));
    pass(&clock, DAY);
    assert_eq!(at(&after_boot), years + 60 * SECOND + 9 * DAY);
}

#[test]
fn reopening_in_the_same_boot_knows_how_long_it_was_closed() {
    let (clock, keeper) = start();
    let mark = keeper.mark();
    pass(&clock, 9 * DAY);
    assert_eq!(at(&open(&clock, Some(mark))), 9 * DAY);
    forward(&clock, 8 * DAY);
    let held = open(&clock, Some(mark));
    assert_eq!((at(&held), held.jumps(), held.held_ms()), (9 * DAY, 1, 8 * DAY));
    pass(&clock, 30 * SECOND);
    let still = open(&clock, Some(held.mark()));
    assert_eq!((at(&still), still.jumps()), (9 * DAY + 30 * SECOND, 1));
    pass(&clock, 30 * SECOND);
    let settled = open(&clock, Some(still.mark()));
    assert_eq!(at(&settled), 17 * DAY + 60 * SECOND, "short runs add up to one settling");
}

#[test]
fn after_a_boot_a_day_is_believed_and_more_only_when_seen_twice() {
    let (clock, keeper) = start();
    let mark = keeper.mark();
    clock.reboot();
    forward(&clock, DAY);
    assert_eq!(at(&open(&clock, Some(mark))), DAY);
    forward(&clock, 7 * DAY);
    let held = open(&clock, Some(mark));
    assert_eq!((at(&held), held.held_ms()), (0, 8 * DAY));
    clock.reboot();
    pass(&clock, SECOND);
    let second_sighting = open(&clock, Some(held.mark()));
    assert_eq!((at(&second_sighting), second_sighting.jumps()), (8 * DAY + SECOND, 0));
    back(&clock, 10 * DAY);
    clock.reboot();
    let behind = open(&clock, Some(second_sighting.mark()));
    assert_eq!(at(&behind), 8 * DAY + SECOND, "never below what was written down");
}

#[test]
fn the_end_of_time_is_not_reached() {
    let clock = ManualClock::at_millis(u64::MAX);
    let keeper = open(&clock, None);
    pass(&clock, u64::MAX);
    assert_eq!(keeper.now().as_millis(), ENGINE_MS_MAX);
}

#[test]
fn a_mark_survives_bincode() {
    let mark = TimeMark { boot: u128::MAX - 7, ..start().1.mark() };
    let config = bincode::config::standard();
    let bytes = bincode::serde::encode_to_vec(mark, config).unwrap();
    let (back, _) = bincode::serde::decode_from_slice::<TimeMark, _>(&bytes, config).unwrap();
    assert_eq!(back, mark);
}

#[test]
fn time_is_monotone_over_threads_while_the_clock_is_mishandled() {
    let (clock, keeper) = start();
    let told = AtomicU64::new(0);
    let ask = || {
        let floor = told.load(Relaxed);
        let now = keeper.now().as_millis();
        assert!(now >= floor, "{now} after {floor}");
        told.fetch_max(now, Relaxed);
    };
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    ask();
                }
            });
        }
        for round in 0..5_000 {
            pass(&clock, [1, 700, 5_000, 90_000][round % 4]);
            match round % 14 {
                3 => forward(&clock, 9 * DAY),
                5 => back(&clock, 500),
                9 => back(&clock, 9 * DAY),
                _ => {}
            }
            ask();
        }
    });
    assert!(keeper.jumps() > 0);
}
