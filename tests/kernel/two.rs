//! Several processes at one store: one has it open, the others get a clear error.

use crate::child::Running;
use crate::dice::Dice;
use crate::job::{Job, Mix};
use crate::oracle::{End, Oracle};
use crate::report::{HANG, Verdict, env, fail, first_seed, in_time, now_us, pause, proof};
use crate::subject::{self, Firstseen, Kind, Subject};
use crate::wire::{Event, Refusal};
use std::path::Path;

const TEST: &str = "i1_i12_one_process_has_a_store_and_the_others_hear_so";

/// Children that compete for one store.
const RACERS: u64 = 5;

fn open(store: &Path) -> Verdict<Result<Box<dyn Subject>, Refusal>> {
    let path = store.to_owned();
    in_time("open beside another process", move || {
        subject::open(Kind::Firstseen, &path, Mix::Race.tuning())
    })
}

fn expect_locked(store: &Path) -> Verdict {
    match open(store)? {
        Err(Refusal::Locked(what)) if what.contains("open in another process") => Ok(()),
        Err(other) => Err(format!("the second open does not say what is wrong: {other}")),
        Ok(_) => Err("two processes have the store open".to_owned()),
    }
}

fn all_there(store: &Path, oracle: &Oracle) -> Verdict {
    let subject = open(store)?.map_err(|e| format!("open after the other has gone: {e}"))?;
    let lost = oracle.ask(|family, id| subject.contains(family, id), now_us)?;
    let closed = in_time("close", move || subject.close())?;
    closed.map_err(|e| format!("close: {e}"))?;
    if lost.is_empty() { Ok(()) } else { Err(format!("{} lost", lost.len())) }
}

/// A child has the store open and a second open is refused; the child is killed and the next open succeeds.
fn second_after_a_kill(store: &Path, oracle: &mut Oracle, seed: u64) -> Verdict {
    let mut child = Running::start(&Job::new(store.to_owned(), Mix::Flush, seed));
    child.until_note(oracle, "open")?;
    expect_locked(store)?;
    match Firstseen::builder(store, Mix::Flush.tuning()).repair().map_err(Refusal::from) {
        Err(Refusal::Locked(_)) => {}
        other => return Err(format!("repair beside an open store: {other:?}")),
    }
    child.listen(oracle, 50_000, |_, _| false)?;
    expect_locked(store)?;
    child.kill(oracle, End::Kill)?;
    all_there(store, oracle)
}

/// While a child repairs, an open is refused as locked or in need of repair. Returns the number of refusals.
fn open_during_a_repair(store: &Path, oracle: &mut Oracle, seed: u64) -> Verdict<u64> {
    std::fs::remove_file(store.join("MANIFEST")).map_err(|e| format!("the manifest: {e}"))?;
    let mut job = Job::new(store.to_owned(), Mix::Flush, seed);
    job.repair = true;
    let mut child = Running::start(&job);
    let mut refused = 0;
    // Whether an open of ours may have held the lock when the child went on to open the repaired store.
    let mut in_the_way = false;
    while !matches!(child.note.as_str(), "repaired" | "opening" | "open") {
        child.listen(oracle, 500, |child, _| child.note == "repairing")?;
        // Wait until the repair has the lock; an earlier open would keep it out.
        if child.note == "repairing" && store.join("log.repaired").exists() {
            match open(store)? {
                Err(Refusal::Locked(_)) => refused += 1,
                Err(Refusal::Damaged(_)) => {
                    refused += 1;
                    in_the_way = true;
                }
                Err(other) => return Err(format!("open during a repair: {other}")),
                // The repair may have ended in between, before its process opened the store.
                Ok(subject) => {
                    drop(subject);
                    in_the_way = true;
                }
            }
        }
        if child.note.starts_with("refused") {
            break;
        }
    }
    let note = child.kill_unless_refused(oracle)?;
    if note.starts_with("refused") && !(in_the_way && note.contains("locked")) {
        return Err(format!("repair: {note}"));
    }
    all_there(store, oracle)?;
    Ok(refused)
}

struct Race {
    openings: u64,
    refusals: u64,
}

/// Many children open the same store again and again; each that gets it is killed soon after.
fn race(store: &Path, seed: u64) -> Verdict<Race> {
    let lanes: Vec<_> = (0..RACERS)
        .map(|lane| {
            let store = store.to_owned();
            std::thread::spawn(move || one_lane(&store, lane, seed))
        })
        .collect();
    let mut events: Vec<(u64, Event)> = Vec::new();
    let mut holds: Vec<(u64, u64)> = Vec::new();
    let mut race = Race { openings: 0, refusals: 0 };
    for lane in lanes {
        let lane = lane.join().map_err(|_| "a lane panicked (see above)")??;
        events.extend(lane.events);
        holds.extend(lane.holds);
        race.refusals += lane.refusals;
    }
    race.openings = holds.len() as u64;
    holds.sort_unstable();
    if let Some(pair) = holds.windows(2).find(|pair| pair[1].0 < pair[0].1) {
        return Err(format!("two processes had the store open at once: {pair:?}"));
    }
    // The lanes share a clock, so their events can be merged by time.
    events.sort_by_key(|(at_us, _)| *at_us);
    let mut oracle = Oracle::default();
    events.iter().try_for_each(|(_, event)| oracle.hear(event))?;
    oracle.ended(End::Kill, now_us());
    all_there(store, &oracle)?;
    Ok(race)
}

struct Lane {
    events: Vec<(u64, Event)>,
    /// From the first event to the last one: the store was open for at least that long.
    holds: Vec<(u64, u64)>,
    refusals: u64,
}

fn one_lane(store: &Path, lane: u64, seed: u64) -> Verdict<Lane> {
    let mut dice = Dice::new(seed * 100 + lane);
    let mut heard = Lane { events: Vec::new(), holds: Vec::new(), refusals: 0 };
    for turn in 0..4 {
        let mut job = Job::new(store.to_owned(), Mix::Race, seed * 1_000 + lane * 10 + turn);
        job.threads = 1;
        let give_up_us = now_us() + HANG.as_micros() as u64;
        loop {
            let child = Running::start(&job);
            let mut dates = Vec::new();
            let life_us = dice.below(20_000);
            let note = child.live(life_us, |mut event| {
                if let Some((thread, at_us)) = dated(&mut event) {
                    *thread = lane * 10 + turn;
                    dates.push(at_us);
                    heard.events.push((at_us, event));
                }
            })?;
            match note.as_str() {
                note if note.starts_with("refused locked") => heard.refusals += 1,
                note if note.starts_with("refused") => return Err(format!("opening: {note}")),
                _ => {
                    heard.holds.extend(dates.first().copied().zip(dates.last().copied()));
                    break;
                }
            }
            if now_us() > give_up_us {
                return Err("hang: a child never got its turn".to_owned());
            }
            pause(dice.below(10_000));
        }
    }
    Ok(heard)
}

fn dated(event: &mut Event) -> Option<(&mut u64, u64)> {
    match event {
        Event::Asked { thread, at_us, .. } | Event::Answered { thread, at_us, .. } => {
            Some((thread, *at_us))
        }
        Event::Note(_) => None,
    }
}

fn all(seed: u64, rounds: u64) -> Verdict {
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let (mut openings, mut refusals, mut repairs) = (0, 0, 0);
    for round in 0..rounds {
        let named = |what: String| format!("round {round}: {what}");
        let store = dir.path().join(format!("store-{round}.db"));
        let mut oracle = Oracle::default();
        second_after_a_kill(&store, &mut oracle, seed + round).map_err(named)?;
        repairs += open_during_a_repair(&store, &mut oracle, seed + round).map_err(named)?;
        openings += 3;
        refusals += 3;
        let raced = race(&dir.path().join(format!("race-{round}.db")), seed + round);
        let raced = raced.map_err(named)?;
        openings += raced.openings;
        refusals += raced.refusals;
    }
    let details = format!(
        "{rounds} rounds of a kill, a repair and a race of {RACERS}; {refusals} second opens refused with \
         a clear error, {repairs} of them during a repair; never two at once; 0 lost, 0 twice"
    );
    proof("two processes", openings, "openings", &details);
    Ok(())
}

#[test]
fn i1_i12_one_process_has_a_store_and_the_others_hear_so() {
    let (seed, rounds) = (first_seed(), env("FIRSTSEEN_RACES", 3));
    if let Err(what) = all(seed, rounds) {
        fail(TEST, &format!("FIRSTSEEN_RACES={rounds}"), seed, &what);
    }
}
