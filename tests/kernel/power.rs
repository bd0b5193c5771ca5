//! A store on its own ext4 file system, whose power is cut while a child claims, or opens what an earlier cut left.

use crate::child::Running;
use crate::dice::Dice;
use crate::harm;
use crate::job::{Job, Mix};
use crate::mount::{Ext4, is_possible};
use crate::oracle::{End, Oracle};
use crate::report::{
    Verdict, env, fail, first_seed, in_time, not_run, now_us, pause, proof, thousands,
};
use crate::subject::{self, Kind, Subject};
use firstseen::disk::{Disk, RealDisk};
use std::io;
use std::path::{Path, PathBuf};

const TEST: &str = "i1_i6_i10_a_power_cut_on_a_real_file_system_loses_nothing_that_was_synced";
const ROW: &str = "power cut on ext4";
const MEGABYTES: u64 = 128;

const CUTS_PER_STORE: u64 = 5;

/// Path of the store on its file system.
pub(crate) fn store_on(disk: &Ext4) -> std::path::PathBuf {
    disk.path().join("store.db")
}

/// Runs a child on the store and cuts the power. Returns the last state of the child.
pub(crate) fn cut_once(
    disk: &Ext4,
    oracle: &mut Oracle,
    job: &Job,
    in_memtableing: bool,
) -> Verdict<String> {
    let mut dice = Dice::new(job.seed);
    let mut child = Running::start(job);
    child.until_note(oracle, "opening")?;
    if in_memtableing {
        pause(dice.below(12_000));
    } else {
        child.until_note(oracle, "open")?;
        child.listen(oracle, 50_000 + dice.below(500_000), |_, _| false)?;
    }
    oracle.power_goes(now_us());
    disk.cut()?;
    // What the store acknowledges after the disk is gone must not be a promise either.
    child.listen(oracle, 20_000, |_, _| false)?;
    let note = child.kill(oracle, End::PowerCut)?;
    disk.power_on()?;
    Ok(note)
}

/// Opens the store after a cut.
pub(crate) fn open_after(kind: Kind, path: &Path, mix: Mix) -> Verdict<Box<dyn Subject>> {
    let path = path.to_owned();
    let opened = in_time("open after a power cut", move || {
        subject::open(kind, &path, mix.tuning()).map_err(|e| e.to_string())
    });
    opened?.map_err(|e| format!("open after a power cut: {e}"))
}

fn check(disk: &Ext4, oracle: &Oracle, number: u64) -> Verdict {
    let subject = open_after(Kind::Firstseen, &store_on(disk), Mix::Power)?;
    let lost = oracle.ask(|family, id| subject.contains(family, id), now_us)?;
    if !lost.is_empty() {
        return Err(format!("{} lost, among them {:?}", lost.len(), lost[0]));
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

#[derive(Default)]
struct Totals {
    opening: u64,
    harmed: u64,
    acknowledged: u64,
    unsure: u64,
}

fn one_store(first: u64, cuts: u64, totals: &mut Totals) -> Verdict {
    let disk = Ext4::new("power", MEGABYTES)?;
    let mut oracle = Oracle::default();
    for number in 0..cuts {
        let seed = first + number;
        let named = |what: String| format!("cut of seed {seed}: {what}");
        let mut job = Job::new(store_on(&disk), Mix::Power, seed);
        job.base = number * 3_000;
        let note = cut_once(&disk, &mut oracle, &job, number % 5 == 2).map_err(named)?;
        totals.opening += u64::from(note != "open");
        if seed.is_multiple_of(4) {
            let sled = store_on(&disk).join("sled");
            let harmed = harm::vandalise(&sled, None, &mut Dice::new(seed));
            totals.harmed += u64::from(harmed.is_ok());
        }
        // Otherwise a child opens it next, and may be cut while it does.
        if number % 2 == 0 || number + 1 == cuts {
            check(&disk, &oracle, number).map_err(named)?;
        }
    }
    totals.acknowledged += oracle.counts.granted + oracle.counts.duplicates;
    totals.unsure += oracle.counts.in_flight;
    Ok(())
}

#[test]
fn i1_i6_i10_a_power_cut_on_a_real_file_system_loses_nothing_that_was_synced() {
    if !is_possible() {
        return not_run(ROW);
    }
    let (first, cuts) = (first_seed(), env("FIRSTSEEN_POWER_CUTS", 20));
    let mut totals = Totals::default();
    let mut done = 0;
    while done < cuts {
        let some = CUTS_PER_STORE.min(cuts - done);
        if let Err(what) = one_store(first + done, some, &mut totals) {
            fail(TEST, &format!("FIRSTSEEN_POWER_CUTS={some}"), first + done, &what);
        }
        done += some;
    }
    let Totals { opening, harmed, acknowledged, unsure } = totals;
    let details = format!(
        "ext4 on a loop device, FS_IOC_SHUTDOWN; {opening} while opening, {harmed} with sled's folder \
         harmed too; {} acknowledged, {} in flight; 0 lost, 0 twice",
        thousands(acknowledged),
        thousands(unsure)
    );
    proof(ROW, cuts, "cuts", &details);
}

/// The names in a folder after a rename, a sync of the folder if `synced`, and a power cut.
fn names_after_a_cut(synced: bool) -> Verdict<Vec<PathBuf>> {
    let disk = Ext4::new("names", 16)?;
    let (folder, real) = (disk.path().join("folder"), RealDisk::default());
    let rename = || -> io::Result<()> {
        real.create_dir_all(&folder)?;
        real.create_new(&folder.join("old"))?.sync_data()?;
        real.sync_dir(&disk.path())?;
        real.sync_dir(&folder)?;
        real.rename(&folder.join("old"), &folder.join("new"))?;
        if synced { real.sync_dir(&folder) } else { Ok(()) }
    };
    rename().map_err(|e| format!("rename: {e}"))?;
    disk.cut()?;
    disk.power_on()?;
    real.list(&folder).map_err(|e| format!("list: {e}"))
}

/// The store syncs files soon after it renames, and ext4 then writes the names too, so no other test would notice a
/// missing sync of the folder. Here nothing else is synced.
#[test]
fn i6_a_power_cut_on_a_real_file_system_leaves_the_names_of_a_synced_folder() {
    if !is_possible() {
        return not_run(ROW);
    }
    let after = |synced| names_after_a_cut(synced).unwrap_or_else(|what| panic!("{what}"));
    assert_eq!(after(true), [Path::new("new")]);
    assert_eq!(after(false), [Path::new("old")], "or the sync would have shown nothing");
}
