//! The same harness on plain sled 0.34.7 with one key per id. A harness that has never failed proves nothing: here it
//! must report losses, and none for firstseen under the same treatment.

use crate::dice::Dice;
use crate::harm::{self, Harm};
use crate::job::{Job, Mix};
use crate::mount::{Ext4, is_possible};
use crate::oracle::Oracle;
use crate::power::{cut_once, open_after, store_on};
use crate::report::{Verdict, env, first_seed, in_time, not_run, now_us, proof, thousands};
use crate::subject::{self, Kind};
use crate::wire::{Family, Level};
use std::path::Path;

/// The losses of stores that were all treated alike.
#[derive(Debug, Default, Clone, Copy)]
struct Outcome {
    /// Ids acknowledged as safe.
    ids: u64,
    lost: u64,
    /// Stores that lost ids without an error.
    silent: u64,
    /// Stores that did not open, panicked or hung.
    down: u64,
}

impl Outcome {
    /// Adds a store of `ids` ids: how many it lost, or `None` if it could not be read.
    fn add(&mut self, lost: Option<u64>, ids: u64) {
        self.ids += ids;
        self.lost += lost.unwrap_or(ids);
        self.down += u64::from(lost.is_none());
        self.silent += u64::from(lost.is_some_and(|lost| lost > 0));
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { ids, lost, silent, down } = self;
        let (ids, lost) = (thousands(*ids), thousands(*lost));
        write!(f, "{lost} of {ids} lost, {silent} stores lost silently, {down} did not open")
    }
}

fn cut(kind: Kind, seed: u64, outcome: &mut Outcome) -> Verdict {
    let disk = Ext4::new("plain", 64)?;
    let mut oracle = Oracle::default();
    let mut job = Job::new(store_on(&disk), Mix::Plain, seed);
    (job.kind, job.threads) = (kind, 2);
    cut_once(&disk, &mut oracle, &job, false)?;
    let safe = oracle.safe();
    let store = store_on(&disk);
    let asked = open_after(kind, &store, Mix::Plain).and_then(|subject| {
        in_time("questions after a power cut", move || {
            let lost = oracle.ask(|family, id| subject.contains(family, id), now_us);
            subject.close().ok();
            lost
        })?
    });
    outcome.add(asked.ok().map(|lost| lost.len() as u64), safe);
    Ok(())
}

#[test]
fn the_harness_sees_what_plain_sled_loses_when_the_power_goes() {
    let row = "plain sled, power cut";
    if !is_possible() {
        return not_run(row);
    }
    let cuts = env("FIRSTSEEN_SLED_CUTS", 5);
    let (mut sled, mut ours) = (Outcome::default(), Outcome::default());
    for seed in first_seed()..first_seed() + cuts {
        cut(Kind::PlainSled, seed, &mut sled).unwrap_or_else(|e| panic!("seed {seed}, sled: {e}"));
        cut(Kind::Firstseen, seed, &mut ours).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    }
    proof(
        row,
        cuts,
        "cuts",
        &format!("after an acknowledged sync; sled: {sled}; firstseen: {ours}"),
    );
    assert!(sled.lost > 0, "sled has learnt to sync, or this harness cannot fail");
    assert_eq!((ours.lost, ours.down), (0, 0), "firstseen (FIRSTSEEN_CRASH_SEED={})", first_seed());
}

const IDS: u64 = 5_000;

/// A store of `IDS` ids: closed, damaged, opened and read.
fn vandalised(kind: Kind, dir: &Path, harm: Harm, seed: u64, outcome: &mut Outcome) -> Verdict {
    let store = dir.join("store");
    let tuning = Mix::Plain.tuning();
    let made = subject::open(kind, &store, tuning).map_err(|e| e.to_string())?;
    for from in (0..IDS).step_by(100) {
        let ids: Vec<u64> = (from..from + 100).collect();
        made.claim(Family::Ever, &ids, Level::Process).map_err(|e| e.to_string())?;
    }
    if let Some(firstseen) = made.firstseen() {
        firstseen.store.freeze();
        firstseen.store.run_background().map_err(|e| e.to_string())?;
    }
    made.close().map_err(|e| e.to_string())?;
    let sled = if kind == Kind::PlainSled { store.clone() } else { store.join("sled") };
    harm::apply(harm, &sled, None, &mut Dice::new(seed)).map_err(|e| format!("harm: {e}"))?;
    // A hang or panic of sled is an outcome, not a failure of the test.
    let asked = in_time("a harmed store", move || {
        let subject = subject::open(kind, &store, tuning).ok()?;
        let there = |id: &u64| subject.contains(Family::Ever, *id);
        let found = (0..IDS).map(|id| there(&id)).collect::<Result<Vec<bool>, _>>().ok()?;
        Some(found.into_iter().filter(|found| !found).count() as u64)
    });
    outcome.add(asked.ok().flatten(), IDS);
    Ok(())
}

#[test]
fn the_harness_sees_what_plain_sled_loses_when_it_is_harmed() {
    let times = 4 * env("FIRSTSEEN_SLED_CUTS", 5);
    let (mut sled, mut ours) = (Outcome::default(), Outcome::default());
    for seed in first_seed()..first_seed() + times {
        let harm = if seed % 2 == 0 { Harm::Flipped } else { Harm::CutAtPage(seed * 7) };
        for (kind, outcome) in [(Kind::PlainSled, &mut sled), (Kind::Firstseen, &mut ours)] {
            let dir = tempfile::tempdir().expect("a folder");
            vandalised(kind, dir.path(), harm, seed, outcome)
                .unwrap_or_else(|what| panic!("seed {seed}, {kind:?}, {harm:?}: {what}"));
        }
    }
    let details = format!("bits flipped, cut at a page; sled: {sled}; firstseen: {ours}");
    proof("plain sled, vandalised", times, "times", &details);
    assert!(sled.silent > 0, "sled has learnt to check, or this harness cannot fail");
    assert_eq!((ours.lost, ours.down), (0, 0), "firstseen (FIRSTSEEN_CRASH_SEED={})", first_seed());
}
