//! `kill -9`, at random moments and aimed: at opening, flush, merge, expiry, compaction and repair. The store goes on
//! after every kill.

use crate::aim::{FLUSHER, KEEPER, Scope};
use crate::child::{Heard, Running};
use crate::dice::Dice;
use crate::job::{Job, Mix};
use crate::oracle::{End, Oracle};
use crate::report::{Verdict, env, fail, first_seed, in_time, now_us, pause, proof, thousands};
use crate::subject::{self, Kind};
use firstseen::ErrorKind;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const TEST: &str = "i1_i6_a_killed_process_loses_nothing_and_grants_nothing_twice";

/// What a kill is aimed at, or hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Aim {
    Open,
    Flush,
    Merge,
    Expiry,
    Compaction,
    Repair,
    Other,
}

const AIMS: [Aim; 8] = [
    Aim::Flush,
    Aim::Compaction,
    Aim::Open,
    Aim::Expiry,
    Aim::Merge,
    Aim::Repair,
    Aim::Open,
    Aim::Other,
];

const KILLS_PER_STORE: u64 = 8;

/// A store with its oracle. Each mix has its own store, so that it is known what its background threads do.
pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) mix: Mix,
    pub(crate) oracle: Oracle,
    pub(crate) kills: u64,
    pub(crate) open_us: u64,
}

impl Place {
    pub(crate) fn new(mix: Mix) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        Self { dir, mix, oracle: Oracle::default(), kills: 0, open_us: 30_000 }
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.dir.path().join("store.db")
    }
}

/// Waits for the moment and kills. Returns what the kill hit.
fn kill_once(place: &mut Place, aim: Aim, seed: u64) -> Verdict<Aim> {
    let mut dice = Dice::new(seed);
    let store = place.store();
    if aim == Aim::Open && dice.one_in(3) {
        // Makes opening slow: every run is rebuilt.
        std::fs::remove_dir_all(store.join("sled")).ok();
    }
    let mut job = Job::new(store.clone(), place.mix, seed);
    job.base = place.kills * 1_500;
    job.repair = aim == Aim::Repair && break_manifest(&store, &mut dice);
    let mut child = Running::start(&job);
    let mut scope = Scope::new(child.pid(), &store);
    if job.repair {
        child.until_note(&mut place.oracle, "repairing")?;
        pause(dice.below(30_000));
        if child.note == "repairing" {
            return finish(place, child, &scope, &job);
        }
    }
    child.until_note(&mut place.oracle, "opening")?;
    let began_us = now_us();
    if aim == Aim::Open {
        pause(dice.below(place.open_us + 2_000));
        return finish(place, child, &scope, &job);
    }
    child.until_note(&mut place.oracle, "open")?;
    place.open_us = now_us() - began_us;
    let end_us = now_us() + 2_500_000;
    let lives_us = now_us() + 20_000 + dice.below(400_000);
    loop {
        let heard = child.listen(&mut place.oracle, 1_000, |_, _| false)?;
        if heard == Heard::End {
            return Err(format!("the child ended by itself, after {:?}", child.note));
        }
        scope.look();
        let now = now_us();
        let thread = if aim == Aim::Flush { FLUSHER } else { KEEPER };
        let hit = match aim {
            Aim::Flush => scope.is_busy(thread),
            Aim::Merge | Aim::Expiry => scope.runs_went && scope.is_busy(thread),
            Aim::Compaction => scope.segments_went && scope.is_busy(thread),
            _ => true,
        };
        if now > end_us || (now > lives_us && hit) {
            return finish(place, child, &scope, &job);
        }
    }
}

fn finish(place: &mut Place, child: Running, scope: &Scope, job: &Job) -> Verdict<Aim> {
    let (flushes, keeps) = (scope.is_busy(FLUSHER), scope.is_busy(KEEPER));
    let note = child.kill(&mut place.oracle, End::Kill)?;
    place.kills += 1;
    // The child's last state: a kill between "opening" and "open" hit the opening.
    Ok(match (note.as_str(), place.mix) {
        ("repairing", _) => Aim::Repair,
        ("opening" | "repaired" | "starting", _) => Aim::Open,
        ("open", _) if flushes && !keeps => Aim::Flush,
        ("open", Mix::Flush) if keeps => Aim::Merge,
        ("open", Mix::Expiry) if keeps => Aim::Expiry,
        ("open", Mix::Compaction) if keeps && scope.segments_went => Aim::Compaction,
        ("open", _) => Aim::Other,
        (other, _) => return Err(format!("the child {other:?} of {job:?}")),
    })
}

/// Loses or damages the manifest. The repair this requires loses nothing, as all of it is in the log.
fn break_manifest(store: &Path, dice: &mut Dice) -> bool {
    let manifest = store.join("MANIFEST");
    let Ok(mut bytes) = std::fs::read(&manifest) else { return store.join("log").is_dir() };
    if dice.one_in(2) {
        return std::fs::remove_file(&manifest).is_ok();
    }
    let at = dice.below(bytes.len() as u64) as usize;
    bytes[at] ^= 1 << dice.below(8);
    std::fs::write(&manifest, bytes).is_ok()
}

/// Opens the store, repairing it if a killed repair left that to do, and checks every id.
pub(crate) fn check(place: &mut Place, number: u64) -> Verdict {
    let (store, tuning) = (place.store(), place.mix.tuning());
    let path = store.clone();
    let opened = in_time("open after a kill", move || {
        match subject::Firstseen::builder(&path, tuning).open() {
            Err(e) if e.kind() == ErrorKind::Repair => {
                subject::Firstseen::builder(&path, tuning).repair().map_err(|e| e.to_string())?;
                subject::open(Kind::Firstseen, &path, tuning).map_err(|e| e.to_string())
            }
            Err(e) => Err(e.to_string()),
            Ok(store) => {
                drop(store);
                subject::open(Kind::Firstseen, &path, tuning).map_err(|e| e.to_string())
            }
        }
    });
    let subject = opened?.map_err(|e| format!("open after a kill: {e}"))?;
    let lost = place.oracle.ask(|family, id| subject.contains(family, id), now_us)?;
    if let Some(one) = lost.first() {
        place.oracle.wrong = Some(*one);
        return Err(format!("{} lost, among them {}", lost.len(), place.oracle.tell(*one)));
    }
    if number.is_multiple_of(3)
        && let Some(firstseen) = subject.firstseen()
    {
        let report = firstseen.store.verify().map_err(|e| format!("verify: {e}"))?;
        if !report.is_sound() {
            return Err(format!("verify: {report}"));
        }
    }
    in_time("close", move || subject.close())?.map_err(|e| format!("close: {e}"))
}

fn many_kills(first: u64, kills: u64) -> Verdict {
    let mut places = [Mix::Flush, Mix::Expiry, Mix::Compaction].map(Place::new);
    let mut fell: BTreeMap<Aim, u64> = BTreeMap::new();
    let (mut acknowledged, mut in_flight) = (0, 0);
    for number in 0..kills {
        let seed = first + number;
        let aim = AIMS[(number % AIMS.len() as u64) as usize];
        let place = &mut places[match aim {
            Aim::Flush | Aim::Merge => 0,
            Aim::Expiry => 1,
            Aim::Compaction => 2,
            Aim::Open | Aim::Repair | Aim::Other => (seed % 3) as usize,
        }];
        let named = |what: String| format!("kill {number}, aimed at {aim:?}: {what}");
        let hit = kill_once(place, aim, seed).map_err(named)?;
        *fell.entry(hit).or_default() += 1;
        // Otherwise the next child opens what the kill left.
        if hit == Aim::Repair || !number.is_multiple_of(3) {
            check(place, number).map_err(named)?;
        }
        if place.kills >= KILLS_PER_STORE || number + 1 == kills {
            check(place, 0).map_err(named)?;
            acknowledged += place.oracle.counts.granted + place.oracle.counts.duplicates;
            in_flight += place.oracle.counts.in_flight;
            *place = Place::new(place.mix);
        }
    }
    for place in &mut places {
        check(place, 0)?;
        acknowledged += place.oracle.counts.granted + place.oracle.counts.duplicates;
        in_flight += place.oracle.counts.in_flight;
    }
    if acknowledged < kills * 1_000 {
        return Err(format!(
            "{acknowledged} claims acknowledged by {kills} children: too few to lose"
        ));
    }
    let names = [
        (Aim::Open, "open"),
        (Aim::Flush, "flush"),
        (Aim::Merge, "merge"),
        (Aim::Expiry, "expiry"),
        (Aim::Compaction, "compaction"),
        (Aim::Repair, "repair"),
        (Aim::Other, "other"),
    ];
    // Which thread is busy is up to chance; the state that the child reports is not.
    let exact = [Aim::Open, Aim::Repair].iter().all(|aim| fell.contains_key(aim));
    let others = fell.values().sum::<u64>() - fell.get(&Aim::Other).unwrap_or(&0);
    if kills >= 3 * AIMS.len() as u64 && !(exact && others >= kills / 2) {
        return Err(format!("the kills fell into {fell:?}: too few where they were aimed at"));
    }
    let fell = names.map(|(aim, name)| format!("{name} {}", fell.get(&aim).unwrap_or(&0)));
    let (answers, unanswered) = (thousands(acknowledged), thousands(in_flight));
    let details = format!(
        "1-8 threads; {}; {answers} acknowledged, {unanswered} in flight; 0 lost, 0 twice",
        fell.join(", ")
    );
    proof("kill -9", kills, "kills", &details);
    Ok(())
}

#[test]
fn i1_i6_a_killed_process_loses_nothing_and_grants_nothing_twice() {
    let (first, kills) = (first_seed(), env("FIRSTSEEN_KILLS", 50));
    if let Err(what) = many_kills(first, kills) {
        fail(TEST, &format!("FIRSTSEEN_KILLS={kills}"), first, &what);
    }
}
