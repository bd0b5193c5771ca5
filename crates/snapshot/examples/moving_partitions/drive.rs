//! Three workers under load: partitions are asked to move, and owners are killed or stopped for a while.

use crate::coordinator::{Assignment, Coordinator};
use crate::record::Record;
use crate::worker::{IDS, event, place};
use firstseen::Store;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

const PARTITIONS: u32 = 6;
const WORKERS: usize = 3;

/// What the outside record shows at the end.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) effects: u64,
    /// Messages that came again, and were not taken.
    pub(crate) again: u64,
    /// Calls of owners that were replaced.
    pub(crate) fenced: u64,
    pub(crate) moves: u64,
    pub(crate) kills: u64,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { effects, again, fenced, moves, kills } = self;
        writeln!(f, "{effects} effects, each once, after {moves} moves and {kills} kills")?;
        write!(f, "{again} messages came again and were not taken; {fenced} calls were fenced")
    }
}

type Failure = Box<dyn Error>;

/// The workers, each with its process. A new process has a new name.
struct Workers<'a> {
    start: &'a dyn Fn(&str) -> Command,
    running: BTreeMap<String, Child>,
    started: usize,
}

impl Drop for Workers<'_> {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

impl Workers<'_> {
    fn add(&mut self) -> Result<String, Failure> {
        let name = format!("worker-{}", self.started);
        self.started += 1;
        self.running.insert(name.clone(), (self.start)(&name).spawn()?);
        Ok(name)
    }

    fn name(&self, dice: &mut u64) -> String {
        let at = roll(dice, self.running.len() as u64) as usize;
        self.running.keys().nth(at).cloned().unwrap_or_default()
    }

    fn kill(&mut self, name: &str) -> Result<(), Failure> {
        if let Some(mut child) = self.running.remove(name) {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Stops a process for a while, or has it go on.
    fn signal(&self, name: &str, signal: &str) -> Result<(), Failure> {
        let id = self.running.get(name).map(Child::id).unwrap_or_default();
        Command::new("kill").args(["-s", signal, &id.to_string()]).status()?;
        Ok(())
    }
}

fn roll(dice: &mut u64, sides: u64) -> u64 {
    *dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    (*dice >> 33) % sides
}

/// An empty store for each partition, as the snapshot that its first owner restores.
fn prepare(dir: &Path, first: &[String], coordinator: &Coordinator) -> Result<(), Failure> {
    for partition in 0..PARTITIONS {
        let path: PathBuf = dir.join(format!("empty-{partition}"));
        let store = Store::open(&path)?;
        store.snapshot(&place(dir, partition))?;
        store.close()?;
        std::fs::remove_dir_all(path)?;
    }
    coordinator.change(|table| {
        for partition in 0..PARTITIONS {
            let owner = first[partition as usize % first.len()].clone();
            let to = Assignment { wanted: owner.clone(), owner, epoch: 1, is_done: false };
            table.insert(partition, to);
        }
    })?;
    Ok(())
}

/// Runs all of it, with this many kills; returns what the record shows, or what is wrong with it.
pub(crate) fn run(
    dir: &Path,
    kills: u64,
    start: &dyn Fn(&str) -> Command,
) -> Result<Told, Failure> {
    let coordinator = Coordinator::new(dir.join("assignments"))?;
    let names: Vec<String> = (0..WORKERS).map(|n| format!("worker-{n}")).collect();
    prepare(dir, &names, &coordinator)?;
    let mut workers = Workers { start, running: BTreeMap::new(), started: 0 };
    for _ in 0..WORKERS {
        workers.add()?;
    }
    let (mut told, mut dice, mut waits) = (Told::default(), 1, 0);
    while !coordinator.table()?.values().all(|to| to.is_done) {
        waits += 1;
        if waits > 3_000 {
            return Err(format!("it does not end: {:?}", coordinator.table()?).into());
        }
        std::thread::park_timeout(Duration::from_millis(100));
        let partition = roll(&mut dice, PARTITIONS.into()) as u32;
        match waits % 4 {
            0 if told.kills < kills => {
                let dead = workers.name(&mut dice);
                workers.kill(&dead)?;
                workers.add()?;
                told.moves += replace(&coordinator, &dead, &workers, &mut dice)?;
                told.kills += 1;
            }
            // It does not answer for so long that it is replaced, and then it goes on.
            2 if told.kills < kills => {
                let frozen = workers.name(&mut dice);
                workers.signal(&frozen, "STOP")?;
                told.moves += replace(&coordinator, &frozen, &workers, &mut dice)?;
                std::thread::park_timeout(Duration::from_millis(100));
                workers.signal(&frozen, "CONT")?;
            }
            _ => {
                coordinator.ask(partition, &workers.name(&mut dice))?;
                told.moves += 1;
            }
        }
    }
    for child in workers.running.values_mut() {
        let ended = child.wait()?;
        if !ended.success() {
            return Err(format!("a worker has ended with {ended}").into());
        }
    }
    workers.running.clear();
    check(&Record::new(dir.join("record"))?, told)
}

/// Gives the partitions of a worker to the others. Returns how many.
fn replace(
    coordinator: &Coordinator,
    gone: &str,
    workers: &Workers<'_>,
    dice: &mut u64,
) -> Result<u64, Failure> {
    let others: Vec<&String> = workers.running.keys().filter(|name| *name != gone).collect();
    let mut moves = 0;
    for (partition, to) in coordinator.table()? {
        let next = others[roll(dice, others.len() as u64) as usize];
        if to.owner == gone {
            coordinator.seize(partition, next)?;
            moves += 1;
        } else if to.wanted == gone {
            coordinator.ask(partition, next)?;
        }
    }
    Ok(moves)
}

/// Reads the outside record: the effect of each id, once.
fn check(record: &Record, mut told: Told) -> Result<Told, Failure> {
    for partition in 0..PARTITIONS {
        let written = record.written(partition)?;
        let texts: BTreeSet<&String> = written.effects.iter().map(|(_, text)| text).collect();
        let wanted: BTreeSet<String> = (0..IDS).map(|offset| event(partition, offset)).collect();
        if texts.len() != written.effects.len() {
            return Err(format!("an effect of partition {partition} is there twice").into());
        }
        if let Some(missing) = wanted.iter().find(|id| !texts.contains(id)) {
            return Err(format!("the effect of {missing} is missing").into());
        }
        if texts.len() != wanted.len() {
            return Err(format!("partition {partition} has effects of no event").into());
        }
        told.effects += written.effects.len() as u64;
        told.again += written.again;
        told.fenced += written.fenced;
    }
    Ok(told)
}
