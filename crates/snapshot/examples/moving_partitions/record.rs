//! The outside record: where the effects are. It stands for a database or a broker, and does the two things that it must
//! do: it refuses the effects of an epoch that is not the newest of its partition, and it takes each message once.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::PathBuf;

#[derive(Debug, Clone)]
pub(crate) struct Record {
    dir: PathBuf,
}

/// What is written of a partition.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// The newest epoch that has begun.
    pub(crate) epoch: u64,
    /// Id of the message and text, in the order in which they were taken.
    pub(crate) effects: Vec<(String, String)>,
    /// Messages that came again, after a kill.
    pub(crate) again: u64,
    /// Calls of an owner that was replaced.
    pub(crate) fenced: u64,
}

impl Record {
    pub(crate) fn new(dir: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        Ok(Self { dir })
    }

    pub(crate) fn written(&self, partition: u32) -> io::Result<Written> {
        self.with(partition, |_, written| Ok(written))
    }

    /// Begins an epoch: from here on nothing of a lower one is taken. Returns whether this is the newest.
    pub(crate) fn begin(&self, partition: u32, epoch: u64) -> io::Result<bool> {
        self.with(partition, |file, written| {
            if epoch >= written.epoch {
                file.write_all(format!("epoch {epoch}\n").as_bytes())?;
            }
            Ok(epoch >= written.epoch)
        })
    }

    /// Takes those of some messages, id and text, that are new. Returns whether the epoch is still the newest; if it is not,
    /// nothing is taken.
    pub(crate) fn take(
        &self,
        partition: u32,
        epoch: u64,
        messages: &[(String, String)],
    ) -> io::Result<bool> {
        self.with(partition, |file, written| {
            if epoch != written.epoch {
                file.write_all(b"fenced\n")?;
                return Ok(false);
            }
            let known: BTreeSet<&String> = written.effects.iter().map(|(id, _)| id).collect();
            let line = |(id, text): &(String, String)| {
                if known.contains(id) { "again\n".to_owned() } else { format!("{id} {text}\n") }
            };
            file.write_all(messages.iter().map(line).collect::<String>().as_bytes())?;
            Ok(true)
        })
    }

    /// Reads what is there, and calls with the file at its end, as nobody else does at the same time.
    fn with<T>(
        &self,
        partition: u32,
        call: impl FnOnce(&mut File, Written) -> io::Result<T>,
    ) -> io::Result<T> {
        let path = self.dir.join(partition.to_string());
        let mut options = OpenOptions::new();
        let mut file = options.create(true).truncate(false).read(true).write(true).open(path)?;
        file.lock()?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        // The last line of a writer that was killed.
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        file.set_len(whole as u64)?;
        file.seek(io::SeekFrom::Start(whole as u64))?;
        let mut written = Written::default();
        for line in text[..whole].lines() {
            match line.split_once(' ') {
                Some(("epoch", epoch)) => {
                    written.epoch = epoch.parse().map_err(io::Error::other)?;
                }
                Some((id, text)) => written.effects.push((id.to_owned(), text.to_owned())),
                None if line == "again" => written.again += 1,
                None => written.fenced += 1,
            }
        }
        call(&mut file, written)
    }
}
