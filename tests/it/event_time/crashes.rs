//! Crashes at every step, kills and power cuts: no answer is taken back.

use crate::event_time::{Place, S, at, claim, minute, ms, opened, watermark};
use crate::support::{AT, assert_sound, settle};
use firstseen::disk::sim::Fault;
use firstseen::event_time::{EventClaim, EventTime};
use firstseen::{Durability, Error, Store, Timestamp};

/// What was answered before the crash.
#[derive(Default)]
struct Told {
    first_seen: Vec<(String, u64)>,
    too_late: Vec<(String, u64)>,
    watermark: u64,
}

/// Claims, moves the watermark beyond a window, and lets upkeep drop what has ended.
fn work(store: &Store, events: &EventTime, told: &mut Told) -> Result<(), Error> {
    for round in 0..4u64 {
        for n in 0..3u64 {
            let (id, time) = (format!("{round}-{n}"), (round * 50 + n) * S);
            if events.claim_at(&id, "a", at(time))?.is_first_seen() {
                told.first_seen.push((id, time));
            }
            let source = events.advance("b", at(time))?;
            told.watermark = told.watermark.max(source.map_or(0, Timestamp::as_millis));
        }
        if round > 1 {
            let answer = events.claim_at("late", "a", at(1))?;
            assert!(answer.is_too_late(), "{answer:?}");
            told.too_late.push(("late".to_owned(), 1));
        }
        store.freeze();
        store.run_background()?;
        store.run_background()?;
    }
    Ok(())
}

fn assert_kept(events: &EventTime, told: &Told, at_op: u64) {
    let now = watermark(events);
    assert!(now >= told.watermark, "crash at {at_op}: {now} is before {}", told.watermark);
    for (id, time) in &told.first_seen {
        let answer = claim(events, id, *time);
        assert!(!answer.is_first_seen(), "crash at {at_op}: {id} is first seen again");
        // What has not ended must be remembered.
        let lives = time + 60 * S > now;
        assert!(!lives || answer.is_duplicate(), "crash at {at_op}: {id} is {answer:?}");
    }
    for (id, time) in &told.too_late {
        assert!(claim(events, id, *time).is_too_late(), "crash at {at_op}: {id}");
    }
}

#[test]
fn i14_no_answer_is_taken_back_by_a_crash_at_any_step() {
    for at_op in 0.. {
        let mut place = Place::new();
        let store = place.open();
        let events = opened(&store, minute()).with_durability(Durability::Disk);
        let begin = place.disk.ops();
        place.disk.fail_at(begin + at_op, Fault::Crash, false);
        let mut told = Told::default();
        let worked = work(&store, &events, &mut told);
        let was_crashed = place.disk.is_dead();
        assert!(was_crashed || worked.is_ok(), "{worked:?}");
        drop((events, store));
        place.disk = place.disk.crash(at_op);
        let store = place.open();
        let events = opened(&store, minute());
        assert_kept(&events, &told, at_op);
        assert_sound(&store);
        if !was_crashed {
            assert_eq!(told.first_seen.len(), 12);
            break;
        }
    }
}

#[test]
fn i14_no_answer_is_taken_back_by_a_kill_or_a_power_cut_after_it() {
    for is_power_cut in [false, true] {
        let mut place = Place::new();
        let level = if is_power_cut { Durability::Disk } else { Durability::Process };
        let mut told = Told::default();
        for round in 0..6u64 {
            let store = place.open();
            let events = opened(&store, minute()).with_durability(level);
            assert_kept(&events, &told, round);
            for n in 0..5u64 {
                let (id, time) = (format!("{round}-{n}"), (round * 40 + n) * S);
                assert!(claim(&events, &id, time).is_first_seen());
                told.first_seen.push((id, time));
                told.watermark = watermark(&events);
            }
            if round % 2 == 1 {
                store.freeze();
                settle(&store);
            }
            let disk = if is_power_cut { place.disk.lose_unsynced() } else { place.disk.kill() };
            drop((events, store));
            place.disk = disk;
        }
    }
}

/// Somebody who waits for the disk is told `TooLate` by a watermark that nobody has waited for.
#[test]
fn i6_i14_too_late_is_as_safe_as_asked() {
    let mut place = Place::new();
    let store = place.open();
    let events = opened(&store, minute());
    store.sync().expect("syncs");
    assert!(claim(&events, "clock", 1_000 * S).is_first_seen());
    let safe = events.with_durability(Durability::Disk);
    assert!(claim(&safe, "x", 1).is_too_late());
    let disk = place.disk.lose_unsynced();
    drop((events, safe, store));
    place.disk = disk;
    let store = place.open();
    let events = opened(&store, minute());
    assert!(claim(&events, "x", 1).is_too_late());
}

#[test]
fn i14_a_watermark_survives_a_repair_and_a_rebuild() {
    let mut place = Place::new();
    let store = place.open();
    let events = opened(&store, minute());
    for n in 0..40u64 {
        assert!(claim(&events, &format!("{n}"), n * 10 * S).is_first_seen());
    }
    store.freeze();
    settle(&store);
    let before = watermark(&events);
    drop(events);
    store.close().expect("closes");
    let repair = Store::builder(AT).disk(place.disk.clone()).clock(place.clock.clone()).repair();
    assert!(repair.is_ok(), "{repair:?}");
    place.blocks = firstseen::MemoryBlocks::default();
    let store = place.open();
    let events = opened(&store, minute());
    assert_eq!(watermark(&events), before);
    assert!(claim(&events, "0", 0).is_too_late());
    assert!(claim(&events, "39", 390 * S).is_duplicate());
    assert_sound(&store);
}

/// Many threads, sources that overtake each other, upkeep at work: within a window an id is first seen once.
#[test]
fn i14_of_threads_that_claim_one_id_within_its_window_one_hears_first_seen() {
    let place = Place::new();
    let store = place.open();
    let events = opened(&store, minute().out_of_orderness(ms(5 * S)));
    let first_seen = std::sync::Mutex::new(std::collections::BTreeMap::<u64, Vec<u64>>::new());
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (events, first_seen) = (&events, &first_seen);
            scope.spawn(move || {
                let source = format!("{thread}");
                for step in 0..400u64 {
                    let (id, time) = (step % 7, step * 2 * S + thread * S);
                    let answer = events.claim_at(format!("{id}"), &source, at(time));
                    if answer.expect("answers") == EventClaim::FirstSeen {
                        first_seen.lock().expect("no panic").entry(id).or_default().push(time);
                    }
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..40 {
                store.freeze();
                store.run_background().expect("background work");
            }
        });
    });
    for (id, mut times) in first_seen.into_inner().expect("no panic") {
        times.sort_unstable();
        assert!(!times.is_empty());
        let apart = times.windows(2).map(|pair| pair[1] - pair[0]).min();
        assert!(apart.is_none_or(|apart| apart >= 60 * S), "id {id} at {times:?}");
    }
    assert_sound(&store);
}
