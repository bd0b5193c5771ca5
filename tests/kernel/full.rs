//! A small disk that fills up: claims are refused, reads still work, and claims resume once there is space, without
//! reopening, after a kill, and after a close.

use crate::child::{Heard, Running};
use crate::dice::Dice;
use crate::job::{Job, Mix};
use crate::mount::{Tmpfs, is_possible};
use crate::oracle::{End, Oracle};
use crate::report::{Verdict, env, fail, first_seed, in_time, not_run, now_us, proof, thousands};
use crate::subject::{self, Kind};
use crate::wire::{Answer, Event, Refusal};
use std::fs::File;
use std::io::Write;
use std::path::Path;

const TEST: &str = "i7_i12_a_full_disk_refuses_claims_and_loses_none";
const ROW: &str = "full disk";
const MEGABYTES: u64 = 40;

const CYCLES_PER_STORE: u64 = 4;

/// What happens while the disk is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum While {
    /// Other files are removed and added again.
    Others,
    Killed,
    Closed,
    /// Killed, and opened while the disk is still full.
    Opened,
}

/// Fills the disk until `leave` bytes are free.
fn fill(disk: &Tmpfs, ballast: &mut File, leave: u64) {
    let zeros = vec![0; 256 << 10];
    loop {
        let over = disk.free().saturating_sub(leave).min(zeros.len() as u64) as usize;
        // Less than a page takes no space.
        if over < 4096 || ballast.write_all(&zeros[..over]).is_err() {
            return;
        }
    }
}

fn give_back(ballast: &Path) {
    std::fs::remove_file(ballast).ok();
}

fn is_refused(_: &Running, event: &Event) -> bool {
    // A claim that was waiting for a flush when the disk filled up times out instead.
    matches!(event, Event::Answered { answers: Err(Refusal::Full | Refusal::Retry), .. })
}

fn is_granted(_: &Running, event: &Event) -> bool {
    matches!(event, Event::Answered { answers: Ok(list), .. } if list.contains(&Answer::First))
}

fn expect(heard: Heard, what: &str) -> Verdict {
    if heard == Heard::Enough { Ok(()) } else { Err(format!("{what}: {heard:?}")) }
}

/// Callers retry, and so does the store, twice a second; but sled may be slow. Less than [`HANG`](crate::report::HANG).
const PATIENCE_US: u64 = 28_000_000;

struct Cycle<'a> {
    disk: &'a Tmpfs,
    oracle: &'a mut Oracle,
    seed: u64,
    base: u64,
    /// How often claims went on slowly instead of being refused.
    trickles: u64,
}

impl Cycle<'_> {
    fn run(&mut self, what: While) -> Verdict {
        let mut dice = Dice::new(self.seed);
        let store = self.disk.path().join("store.db");
        let ballast = self.disk.path().join("ballast");
        let mut job = Job::new(store.clone(), Mix::Full, self.seed);
        job.base = self.base;
        let mut child = Running::start(&job);
        child.until_note(self.oracle, "open")?;
        child.listen(self.oracle, PATIENCE_US, is_granted)?;
        self.fill_up(&mut child, &ballast, dice.below(2 << 20))?;
        // Stays full for a while; the oracle checks that reads succeed.
        let reads = self.oracle.counts.read_while_full;
        let asked_us = 150_000 + dice.below(300_000);
        child.listen(self.oracle, asked_us, |_, _| false)?;
        // The reading threads also claim, and a claim may block.
        let mut asked = 0;
        while self.trickles == 0 && self.oracle.counts.read_while_full == reads {
            child.listen(self.oracle, 100_000, |_, _| false)?;
            asked += 1;
            if asked > PATIENCE_US / 100_000 {
                return Err("no question was answered while the disk was full".to_owned());
            }
        }
        match what {
            While::Others => {
                for _ in 0..2 {
                    give_back(&ballast);
                    self.oracle.has_room();
                    let heard = child.listen(self.oracle, PATIENCE_US, is_granted)?;
                    expect(heard, "there is room again, and claims do not go on")?;
                    self.fill_up(&mut child, &ballast, dice.below(1 << 20))?;
                }
                give_back(&ballast);
                self.oracle.has_room();
                let heard = child.listen(self.oracle, PATIENCE_US, is_granted)?;
                expect(heard, "there is room again, and claims do not go on")?;
                child.kill(self.oracle, End::Kill)?;
            }
            While::Killed => drop(child.kill(self.oracle, End::Kill)?),
            While::Closed => drop(child.close(self.oracle)?),
            While::Opened => {
                child.kill(self.oracle, End::Kill)?;
                open_while_full(&store)?;
            }
        }
        give_back(&ballast);
        self.check(&store)
    }

    /// Fills the disk, including space that the store frees, until a claim is refused.
    fn fill_up(&mut self, child: &mut Running, ballast: &Path, mut leave: u64) -> Verdict {
        let mut file = File::create(ballast).map_err(|e| format!("ballast: {e}"))?;
        let granted = self.oracle.counts.granted;
        for _ in 0..150 {
            fill(self.disk, &mut file, leave);
            leave /= 2;
            match child.listen(self.oracle, 100_000, is_refused)? {
                Heard::Enough => return Ok(()),
                Heard::TimeIsUp => {}
                Heard::End => return Err(format!("the child ended, after {:?}", child.note)),
            }
        }
        // The active segment has space left, and claims trickle in as fast as flushing frees memory on a disk where
        // sled can hardly write: slow but correct.
        if self.oracle.counts.granted > granted {
            self.trickles += 1;
            return Ok(());
        }
        Err(format!(
            "the disk is full, and claims are neither granted nor refused: the oldest question waits \
             for {} ms, {} bytes are free",
            self.oracle.waits_ms(now_us()),
            self.disk.free()
        ))
    }

    fn check(&self, store: &Path) -> Verdict {
        let path = store.to_owned();
        let opened = in_time("open with room", move || {
            subject::open(Kind::Firstseen, &path, Mix::Full.tuning())
        })?;
        let subject = opened.map_err(|e| format!("open with room: {e}"))?;
        let lost = self.oracle.ask(|family, id| subject.contains(family, id), now_us)?;
        if !lost.is_empty() {
            return Err(format!("{} lost, among them {:?}", lost.len(), lost[0]));
        }
        in_time("close", move || subject.close())?.map_err(|e| format!("close: {e}"))
    }
}

/// The store may open or not, but must give the reason and do no harm.
fn open_while_full(store: &Path) -> Verdict {
    let path = store.to_owned();
    let opened = in_time("open while full", move || {
        subject::open(Kind::Firstseen, &path, Mix::Full.tuning()).map(drop)
    })?;
    match opened {
        Ok(()) | Err(Refusal::Full) => Ok(()),
        Err(Refusal::Other(what)) if what.contains("no room") => Ok(()),
        Err(other) => Err(format!("open while full: {other}")),
    }
}

fn one_store(first: u64, cycles: u64, totals: &mut (u64, u64, u64)) -> Verdict {
    let disk = Tmpfs::new("full", MEGABYTES)?;
    let mut oracle = Oracle::default();
    for number in 0..cycles {
        let seed = first + number;
        let what = match seed % 4 {
            0 => While::Others,
            1 => While::Killed,
            2 => While::Closed,
            _ => While::Opened,
        };
        let mut cycle = Cycle {
            disk: &disk,
            oracle: &mut oracle,
            seed,
            base: number * 10_000_000,
            trickles: 0,
        };
        let run = cycle.run(what);
        totals.2 += cycle.trickles;
        run.map_err(|e| format!("cycle of seed {seed}, {what:?}: {e}"))?;
    }
    totals.0 += oracle.counts.granted + oracle.counts.duplicates;
    totals.1 += oracle.counts.read_while_full;
    Ok(())
}

#[test]
fn i7_i12_a_full_disk_refuses_claims_and_loses_none() {
    if !is_possible() {
        return not_run(ROW);
    }
    let (first, cycles) = (first_seed(), env("FIRSTSEEN_FULL_DISKS", 16));
    let (mut totals, mut done) = ((0, 0, 0), 0);
    while done < cycles {
        let some = CYCLES_PER_STORE.min(cycles - done);
        if let Err(what) = one_store(first + done, some, &mut totals) {
            fail(TEST, &format!("FIRSTSEEN_FULL_DISKS={some}"), first + done, &what);
        }
        done += some;
    }
    let details = format!(
        "tmpfs; claims go on without reopening, after a kill, after a close; opened while full; {} \
         acknowledged, {} questions answered while full; {} times claims trickled on; 0 lost, 0 twice",
        thousands(totals.0),
        thousands(totals.1),
        totals.2
    );
    proof(ROW, cycles, "cycles", &details);
}
