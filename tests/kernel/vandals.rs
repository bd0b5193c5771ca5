//! The sled folder damaged under an open and under a closed store (I10): no result changes.

use crate::dice::Dice;
use crate::harm::{self, Harm};
use crate::report::{HANG, Verdict, env, fail, first_seed, in_time, pause, proof, thousands};
use crate::subject::{self, Firstseen, Kind, Subject, Tuning};
use crate::wire::{Answer, Family, Level, Refusal};
use firstseen::Stats;
use std::path::{Path, PathBuf};

const OPEN: &str = "i10_i12_a_sled_folder_harmed_under_an_open_store_changes_no_answer";
const CLOSED: &str = "i10_i12_a_sled_folder_harmed_under_a_closed_store_changes_no_answer";

const BATCH: u64 = 1_000;

fn tuning() -> Tuning {
    // No locators, so that every duplicate is looked up in the damaged folder.
    let locator_ids_min = u64::MAX;
    Tuning {
        shards: 4,
        segment_bytes: 1 << 20,
        memtable_bytes: 256 << 10,
        locator_ids_min,
        level: Level::Process,
    }
}

/// A store in which exactly the ids below `count` are claimed.
struct Victim {
    dir: PathBuf,
    subject: Option<Box<dyn Subject>>,
    count: u64,
    healed: u64,
    rebuilt: u64,
}

impl Victim {
    fn new(dir: &Path, count: u64) -> Verdict<Self> {
        let dir = dir.to_owned();
        let mut victim = Self { dir, subject: None, count: 0, healed: 0, rebuilt: 0 };
        victim.open()?;
        while victim.count < count {
            victim.claim_new(BATCH)?;
        }
        Ok(victim)
    }

    fn sled(&self) -> PathBuf {
        self.dir.join("store.db/sled")
    }

    fn open(&mut self) -> Verdict {
        let opened = subject::open(Kind::Firstseen, &self.dir.join("store.db"), tuning());
        self.subject = Some(opened.map_err(|e| format!("open: {e}"))?);
        self.rebuilt += self.stats().rebuilds;
        Ok(())
    }

    fn close(&mut self) -> Verdict {
        self.healed += self.stats().blocks_healed;
        let subject = self.subject.take().expect("is open");
        match subject.close() {
            // Nothing is lost: the log is on disk, and the previous manifest stays in place.
            Err(Refusal::Other(what)) if what.contains("block store") => Ok(()),
            other => other.map_err(|e| format!("close: {e}")),
        }
    }

    fn subject(&self) -> &dyn Subject {
        self.subject.as_deref().expect("is open")
    }

    fn firstseen(&self) -> &Firstseen {
        self.subject().firstseen().expect("is what was opened")
    }

    fn stats(&self) -> Stats {
        self.firstseen().store.stats()
    }

    fn claim_new(&mut self, many: u64) -> Verdict {
        let ids: Vec<u64> = (self.count..self.count + many).collect();
        let answers = self.subject().claim(Family::Ever, &ids, Level::Process);
        let answers = answers.map_err(|e| format!("claims: {e}"))?;
        if let Some(at) = answers.iter().position(|answer| *answer != Answer::First) {
            return Err(format!("swallowed: id {} is new, and {:?}", ids[at], answers[at]));
        }
        self.count += many;
        Ok(())
    }

    /// Claims known ids, and looks up known and unknown ones.
    fn ask(&mut self, questions: u64, dice: &mut Dice) -> Verdict {
        for number in 0..questions {
            let id = dice.below(self.count);
            let there = if number % 4 == 0 {
                let answers = self.subject().claim(Family::Ever, &[id], Level::Process);
                answers.map(|answers| answers[0] != Answer::First)
            } else {
                self.subject().contains(Family::Ever, id)
            };
            if !there.map_err(|e| format!("a question about id {id}: {e}"))? {
                return Err(format!("lost: id {id} was claimed"));
            }
            let never = self.count + 1 + dice.below(1 << 30);
            let there = self.subject().contains(Family::Ever, never);
            if there.map_err(|e| format!("a question about id {never}: {e}"))? {
                return Err(format!("swallowed: nobody has claimed id {never}"));
            }
        }
        self.claim_new(20)
    }

    /// Makes the background thread flush everything, in spite of the damage.
    fn flush(&self) -> Verdict {
        for _ in 0..HANG.as_millis() / 5 {
            if self.stats().ids_unflushed == 0 {
                return Ok(());
            }
            // Repeated, as freezing skips a shard that is being flushed.
            self.firstseen().store.freeze();
            pause(5_000);
        }
        Err("hang: flushing does not get over the harm".to_owned())
    }

    /// Blocks not read since may still be damaged, and `verify` may report them; it must not fail.
    fn verify(&self) -> Verdict {
        self.firstseen().store.verify().map(drop).map_err(|e| format!("verify: {e}"))
    }
}

/// Copies the folder, to put it back later.
fn keep_older(victim: &Victim, older: &Path) {
    std::fs::remove_dir_all(older).ok();
    harm::copy(&victim.sled(), older).ok();
}

fn while_open(first: u64, count: u64) -> Verdict {
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let older = dir.path().join("older");
    // More than the caches hold, so that reads go to sled's files.
    let mut victim = Victim::new(dir.path(), 90_000)?;
    victim.flush()?;
    keep_older(&victim, &older);
    let (mut done, mut number) = (0, 0);
    while done < count {
        let seed = first + number;
        number += 1;
        let mut dice = Dice::new(seed);
        let harm = Harm::number(seed);
        let named = |what: String| format!("harm {number}, {harm:?}: {what}");
        // Earlier damage may rule out this one.
        done += u64::from(harm::apply(harm, &victim.sled(), Some(&older), &mut dice).is_ok());
        let work = move || {
            let asked = victim.ask(200, &mut dice).and_then(|()| match number % 5 {
                // Makes sled write into damaged files.
                0 => victim.flush(),
                1 => victim.verify(),
                _ => Ok(()),
            });
            (victim, asked)
        };
        let asked;
        (victim, asked) = in_time("questions to a harmed store", work).map_err(named)?;
        asked.map_err(named)?;
        if number % 25 == 24 {
            keep_older(&victim, &older);
        }
        // Reopens on damaged files, without sled's own caches.
        if number % 10 == 9 {
            let work = move || {
                let opened = victim.close().and_then(|()| victim.open());
                (victim, opened)
            };
            let opened;
            (victim, opened) = in_time("close and open", work).map_err(named)?;
            opened.map_err(named)?;
        }
    }
    victim.healed += victim.stats().blocks_healed;
    let details = format!(
        "deleted, cut, flipped, zeroed, older copy, conf, snapshot; {} blocks healed, {} rebuilds; 0 \
         answers changed, 0 panics, 0 hangs",
        thousands(victim.healed),
        victim.rebuilt
    );
    proof("vandalised sled folder, open", count, "times", &details);
    Ok(())
}

fn while_closed(first: u64, count: u64) -> Verdict {
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let older = dir.path().join("older");
    let mut victim = Victim::new(dir.path(), 10_000)?;
    victim.flush()?;
    victim.close()?;
    keep_older(&victim, &older);
    let (mut done, mut number) = (0, 0);
    while done < count {
        let seed = first + number;
        number += 1;
        let mut dice = Dice::new(seed);
        let harm = Harm::number(seed);
        let named = |what: String| format!("harm {number}, {harm:?}: {what}");
        done += u64::from(harm::apply(harm, &victim.sled(), Some(&older), &mut dice).is_ok());
        let work = move || {
            let asked = victim.open().and_then(|()| {
                victim.ask(400, &mut dice)?;
                if number % 4 == 0 { victim.flush() } else { Ok(()) }
            });
            let asked = asked.and_then(|()| victim.close());
            (victim, asked)
        };
        let asked;
        (victim, asked) = in_time("a harmed store", work).map_err(named)?;
        asked.map_err(named)?;
        if number % 25 == 24 {
            keep_older(&victim, &older);
        }
    }
    // Finally every id, not a sample.
    victim.open()?;
    for id in 0..victim.count {
        if !victim.subject().contains(Family::Ever, id).map_err(|e| format!("id {id}: {e}"))? {
            return Err(format!("lost: id {id} was claimed"));
        }
    }
    let details = format!(
        "deleted, cut at pages, flipped, zeroed, older copy, conf, snapshot, blocks altered; {} blocks healed, {} \
         rebuilds; 0 answers changed, 0 panics, 0 hangs",
        thousands(victim.healed),
        victim.rebuilt
    );
    proof("vandalised sled folder, closed", count, "times", &details);
    Ok(())
}

/// Each of the two tests gets half of `FIRSTSEEN_VANDALISM`.
fn times() -> u64 {
    env("FIRSTSEEN_VANDALISM", 500).div_ceil(2)
}

#[test]
fn i10_i12_a_sled_folder_harmed_under_an_open_store_changes_no_answer() {
    if let Err(what) = while_open(first_seed(), times()) {
        fail(OPEN, &format!("FIRSTSEEN_VANDALISM={}", times() * 2), first_seed(), &what);
    }
}

#[test]
fn i10_i12_a_sled_folder_harmed_under_a_closed_store_changes_no_answer() {
    if let Err(what) = while_closed(first_seed(), times()) {
        fail(CLOSED, &format!("FIRSTSEEN_VANDALISM={}", times() * 2), first_seed(), &what);
    }
}
