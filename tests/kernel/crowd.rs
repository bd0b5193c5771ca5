//! `kill -9` while many threads claim at once: nearly the same ids, in several namespaces, at `Process` and at `Disk`,
//! one by one and in batches, and on segments so small that one fills up many times a second.
//!
//! What a failure says: the id, the threads and the times of its answers, and where its bytes stand in the log and in the
//! copies of it that were made after the last two kills. The folder stays.

use crate::child::{Heard, Running};
use crate::dice::Dice;
use crate::harm;
use crate::job::{Job, Mix};
use crate::kill::{Place, check};
use crate::notebook;
use crate::oracle::{End, Key};
use crate::report::{Verdict, env, fail, first_seed, now_us, pause, proof, thousands};
use crate::subject::name;
use crate::worker::UNDER_WAY;
use std::path::Path;

const TEST: &str = "i1_i6_a_process_killed_while_many_threads_claim_loses_nothing";

const MIXES: [Mix; 3] = [Mix::Rush, Mix::Rolls, Mix::Crowd];

/// Every kill adds to what has to be looked up after it.
const KILLS_PER_STORE: u64 = 5;

#[derive(Default)]
struct Totals {
    acknowledged: u64,
    in_flight: u64,
    cut_off: u64,
    ends_in_many: u64,
    while_opening: u64,
    /// Of stores with small segments: lives, their time, and segments filled in it.
    small: u64,
    small_us: u64,
    rolls: u64,
}

/// The number of the newest segment.
fn newest_segment(log: &Path) -> u64 {
    let names = harm::files(log).into_iter();
    names.filter_map(|path| path.file_stem()?.to_str()?.parse().ok()).max().unwrap_or(0)
}

fn kill_once(place: &mut Place, threads: u64, seed: u64, totals: &mut Totals) -> Verdict {
    let mut dice = Dice::new(seed);
    let mut job = Job::new(place.store(), place.mix, seed);
    let notebooks = notebook::folder();
    (job.threads, job.notebooks) = (threads, Some(notebooks.path().to_owned()));
    job.base = place.oracle.greatest + 1;
    let log = place.store().join("log");
    let before = newest_segment(&log);
    let mut child = Running::start(&job);
    child.until_note(&mut place.oracle, "opening")?;
    let began_us = now_us();
    // What the last kill has left must also bear a kill while it is read.
    if dice.one_in(8) {
        pause(dice.below(place.open_us + 2_000));
        totals.while_opening += 1;
        return child.kill(&mut place.oracle, End::Kill).map(drop);
    }
    child.until_note(&mut place.oracle, "open")?;
    let open_us = now_us();
    place.open_us = open_us - began_us;
    child.until_note(&mut place.oracle, UNDER_WAY)?;
    let heard = child.listen(&mut place.oracle, dice.below(100_000), |_, _| false)?;
    if heard == Heard::End {
        return Err(format!("the child ended by itself, after {:?}", child.note));
    }
    let lived_us = now_us() - open_us;
    child.kill(&mut place.oracle, End::Kill)?;
    if place.mix == Mix::Rolls {
        totals.small += 1;
        totals.small_us += lived_us;
        totals.rolls += newest_segment(&log) - before;
    }
    Ok(())
}

/// Keeps the log as this kill has left it, and as the last one did.
fn keep_log(place: &Place) -> Verdict {
    let (kept, earlier) = (place.dir.path().join("killed"), place.dir.path().join("killed-before"));
    std::fs::remove_dir_all(&earlier).ok();
    std::fs::rename(&kept, &earlier).ok();
    let log = place.store().join("log");
    if log.is_dir() {
        harm::copy(&log, &kept).map_err(|e| format!("a copy of the log: {e}"))?;
    }
    Ok(())
}

/// Where the bytes of an id stand in a log.
fn locate(log: &Path, (family, id): Key) -> String {
    let bytes = name(family, id).into_bytes();
    let mut found = Vec::new();
    let mut used = String::new();
    for path in harm::files(log) {
        let Ok(text) = std::fs::read(&path) else { continue };
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let at = text.windows(bytes.len()).enumerate().filter(|(_, window)| **window == bytes);
        found.extend(at.map(|(at, _)| format!("{file} at {at}")));
        let end = text.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        used = format!("{file} is the newest, used up to {end} of {}", text.len());
    }
    let found = if found.is_empty() { "nowhere".to_owned() } else { found.join(", ") };
    format!("{found}; {used}")
}

/// Adds to a failure what is left to look at.
fn with_evidence(mut place: Place, what: String) -> String {
    let dir = place.dir.path();
    let logs = [("the log", place.store().join("log")), ("its last copy", dir.join("killed"))];
    let logs = logs.into_iter().chain([("the copy before", dir.join("killed-before"))]);
    let places: Vec<String> = (place.oracle.wrong.iter())
        .flat_map(|key| {
            logs.clone().map(|(which, log)| format!("\n  in {which}: {}", locate(&log, *key)))
        })
        .collect();
    place.dir.disable_cleanup(true);
    format!("{what}{}\n  kept: {}", places.concat(), place.dir.path().display())
}

fn one_store(mix: Mix, threads: u64, first: u64, kills: u64, totals: &mut Totals) -> Verdict {
    let mut place = Place::new(mix);
    for seed in first..first + kills {
        let is_last = seed + 1 == first + kills;
        let done = kill_once(&mut place, threads, seed, totals).and_then(|()| {
            keep_log(&place)?;
            // Otherwise the next child opens what the kill left.
            if is_last || seed.is_multiple_of(2) { check(&mut place, seed) } else { Ok(()) }
        });
        if let Err(what) = done {
            return Err(with_evidence(place, format!("kill of seed {seed}, {mix:?}: {what}")));
        }
    }
    let counts = place.oracle.counts;
    totals.acknowledged += counts.granted + counts.duplicates;
    totals.in_flight += counts.in_flight;
    totals.cut_off += counts.cut_off;
    totals.ends_in_many += counts.ends_in_many;
    Ok(())
}

/// Says if the kills did not come where they were meant to. None of it depends on how busy the machine is.
fn too_tame(totals: &Totals, kills: u64, threads: u64) -> Verdict {
    let Totals { acknowledged, ends_in_many, rolls, small, .. } = totals;
    let in_claims = kills - totals.while_opening;
    if *acknowledged < in_claims * threads * 50 {
        return Err(format!("{acknowledged} claims acknowledged: too few to lose"));
    }
    if threads >= 8 && *ends_in_many < in_claims / 3 {
        return Err(format!(
            "only {ends_in_many} of {in_claims} kills found two threads in a claim"
        ));
    }
    if rolls < small {
        return Err(format!("{rolls} segments filled up in {small} lives: too few"));
    }
    Ok(())
}

#[test]
fn i1_i6_a_process_killed_while_many_threads_claim_loses_nothing() {
    let (first, kills) = (first_seed(), env("FIRSTSEEN_CROWD_KILLS", 20));
    let threads = env("FIRSTSEEN_CROWD_THREADS", 8);
    let again =
        |kills: u64| format!("FIRSTSEEN_CROWD_THREADS={threads} FIRSTSEEN_CROWD_KILLS={kills}");
    let mut totals = Totals::default();
    let mut done = 0;
    while done < kills {
        let some = KILLS_PER_STORE.min(kills - done);
        let mix = MIXES[((first + done) / KILLS_PER_STORE % 3) as usize];
        if let Err(what) = one_store(mix, threads, first + done, some, &mut totals) {
            fail(TEST, &again(some), first + done, &what);
        }
        done += some;
    }
    if let Err(what) = too_tame(&totals, kills, threads) {
        fail(TEST, &again(kills), first, &what);
    }
    let Totals { cut_off, ends_in_many, while_opening, .. } = totals;
    let details = format!(
        "{threads} threads; {while_opening} while opening; {ends_in_many} found two threads or more inside of a claim at \
         Process, {cut_off} such claims cut off in all; {} segments filled a second where they are small; {} \
         acknowledged, {} in flight; 0 lost, 0 twice",
        (totals.rolls * 1_000_000).checked_div(totals.small_us).unwrap_or(0),
        thousands(totals.acknowledged),
        thousands(totals.in_flight)
    );
    proof("kill -9 among many threads", kills, "kills", &details);
}
