//! Who owns which partition, and by which epoch. A file that is changed under a lock, in the place of a consumer group or a
//! coordination service: all that is needed of it is one change at a time, and an epoch that grows with each new owner.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

/// What is decided about a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) owner: String,
    pub(crate) epoch: u64,
    /// Who is to own it next; the owner itself if nobody else.
    pub(crate) wanted: String,
    pub(crate) is_done: bool,
}

pub(crate) type Table = BTreeMap<u32, Assignment>;

#[derive(Debug, Clone)]
pub(crate) struct Coordinator {
    dir: PathBuf,
}

impl Coordinator {
    pub(crate) fn new(dir: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        Ok(Self { dir })
    }

    pub(crate) fn table(&self) -> io::Result<Table> {
        let text = match fs::read_to_string(self.dir.join("table")) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Table::new()),
            Err(e) => return Err(e),
        };
        text.lines()
            .map(|line| parse(line).ok_or_else(|| io::Error::other(line.to_owned())))
            .collect()
    }

    /// Changes the table, as nobody else does at the same time.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Table) -> T) -> io::Result<T> {
        let lock = File::create(self.dir.join("lock"))?;
        lock.lock()?;
        let mut table = self.table()?;
        let told = change(&mut table);
        let lines = table.iter().map(|(partition, to)| {
            let Assignment { owner, epoch, wanted, is_done } = to;
            format!("{partition} {owner} {epoch} {wanted} {is_done}\n")
        });
        fs::write(self.dir.join("new"), lines.collect::<String>())?;
        fs::rename(self.dir.join("new"), self.dir.join("table"))?;
        Ok(told)
    }

    /// Asks the owner to hand a partition over.
    pub(crate) fn ask(&self, partition: u32, next: &str) -> io::Result<()> {
        self.change(|table| {
            if let Some(to) = table.get_mut(&partition) {
                next.clone_into(&mut to.wanted);
            }
        })
    }

    /// Gives a partition to somebody else whether or not its owner agrees: it is dead, or does not answer.
    pub(crate) fn seize(&self, partition: u32, next: &str) -> io::Result<()> {
        self.change(|table| {
            if let Some(to) = table.get_mut(&partition) {
                (to.owner, to.wanted) = (next.to_owned(), next.to_owned());
                to.epoch += 1;
            }
        })
    }

    /// Hands a partition over to whoever is wanted. Does nothing if this is not the owner any more.
    pub(crate) fn hand_over(&self, partition: u32, epoch: u64) -> io::Result<()> {
        self.change(|table| {
            if let Some(to) = table.get_mut(&partition).filter(|to| to.epoch == epoch) {
                to.owner.clone_from(&to.wanted);
                to.epoch += 1;
            }
        })
    }

    /// Says that all of a partition is processed.
    pub(crate) fn finish(&self, partition: u32, epoch: u64) -> io::Result<()> {
        self.change(|table| {
            if let Some(to) = table.get_mut(&partition).filter(|to| to.epoch == epoch) {
                to.is_done = true;
            }
        })
    }
}

fn parse(line: &str) -> Option<(u32, Assignment)> {
    let fields: Vec<&str> = line.split(' ').collect();
    let [partition, owner, epoch, wanted, is_done] = fields[..] else { return None };
    let assignment = Assignment {
        owner: owner.to_owned(),
        epoch: epoch.parse().ok()?,
        wanted: wanted.to_owned(),
        is_done: is_done.parse().ok()?,
    };
    Some((partition.parse().ok()?, assignment))
}
