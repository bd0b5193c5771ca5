//! The task of a child process.

use crate::dice::Dice;
use crate::subject::{Kind, Tuning};
use crate::wire::Level;
use std::path::{Path, PathBuf};

/// The load of a child, chosen so that one kind of background work is always under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mix {
    /// Ids without ttl, forgotten and claimed again: the store flushes and merges.
    Flush,
    /// Ids that expire soon: generations are swept, segments deleted unread.
    Expiry,
    /// Ids that expire soon and a few that do not: segments are compacted.
    Compaction,
    /// Claims at `Disk` and at `Process`, and syncs.
    Power,
    /// Large batches that fill a disk, and reads.
    Full,
    /// Claims and syncs, which plain sled has too.
    Plain,
    /// Many processes compete for one store; each claims a little and is killed.
    Race,
    /// Claims of all threads at nearly the same ids, in several namespaces, at `Process`: nobody waits for a disk.
    Rush,
    /// The same, with some threads at `Disk`.
    Crowd,
    /// The same again, on segments so small that one fills up many times a second.
    Rolls,
}

const MIXES: [(Mix, &str); 10] = [
    (Mix::Flush, "flush"),
    (Mix::Expiry, "expiry"),
    (Mix::Compaction, "compaction"),
    (Mix::Power, "power"),
    (Mix::Full, "full"),
    (Mix::Plain, "plain"),
    (Mix::Race, "race"),
    (Mix::Rush, "rush"),
    (Mix::Crowd, "crowd"),
    (Mix::Rolls, "rolls"),
];

impl Mix {
    pub(crate) fn tuning(self) -> Tuning {
        let (segment_bytes, memtable_bytes) = match self {
            Self::Flush | Self::Plain => (256 << 10, 32 << 10),
            Self::Expiry => (128 << 10, 128 << 10),
            Self::Compaction => (64 << 10, 32 << 10),
            Self::Power | Self::Race => (128 << 10, 64 << 10),
            // The log runs out of disk space before the memtables do.
            Self::Full => (512 << 10, 512 << 10),
            Self::Rush | Self::Crowd => (1 << 20, 128 << 10),
            Self::Rolls => (16 << 10, 128 << 10),
        };
        let level = if self == Self::Power { Level::Disk } else { Level::Process };
        let is_crowd = matches!(self, Self::Rush | Self::Crowd | Self::Rolls);
        let shards = if is_crowd { 16 } else { 4 };
        Tuning { shards, segment_bytes, memtable_bytes, locator_ids_min: 100, level }
    }

    /// Size of the range from which ids without ttl are drawn.
    pub(crate) fn ids(self) -> u64 {
        match self {
            Self::Race => 40,
            _ => 20_000,
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) dir: PathBuf,
    pub(crate) kind: Kind,
    pub(crate) mix: Mix,
    pub(crate) seed: u64,
    pub(crate) threads: u64,
    /// Start of the range from which ids without ttl are drawn.
    pub(crate) base: u64,
    pub(crate) repair: bool,
    /// The threads write what they ask and hear into memory that outlives the process (`notebook.rs`), not into the pipe.
    pub(crate) notebooks: Option<PathBuf>,
}

const VARIABLE: &str = "FIRSTSEEN_KERNEL_JOB";

impl Job {
    pub(crate) fn new(dir: PathBuf, mix: Mix, seed: u64) -> Self {
        let threads = 1 + Dice::new(seed).below(8);
        Self {
            dir,
            kind: Kind::Firstseen,
            mix,
            seed,
            threads,
            base: 0,
            repair: false,
            notebooks: None,
        }
    }

    /// Whether threads are held up at random instructions: in a crowd mostly, not always, as it costs the others speed.
    pub(crate) fn holds_up(&self) -> bool {
        self.notebooks.is_some() && !self.seed.is_multiple_of(3)
    }

    /// Where a thread notes what it asks and hears, if it has a notebook.
    pub(crate) fn notebook(&self, thread: u64) -> Option<PathBuf> {
        Some(self.notebooks.as_ref()?.join(thread.to_string()))
    }

    /// The job as an environment variable of the child.
    pub(crate) fn variable(&self) -> (&'static str, String) {
        let mix = MIXES.iter().find(|(mix, _)| *mix == self.mix).expect("the table is complete").1;
        let sled = self.kind == Kind::PlainSled;
        let Self { seed, threads, base, repair, .. } = self;
        let notebooks = self.notebooks.as_deref().unwrap_or(Path::new("-")).display();
        let dir = self.dir.display();
        (VARIABLE, format!("{mix} {seed} {threads} {base} {sled} {repair} {notebooks} {dir}"))
    }

    /// `None` unless this process is a child.
    pub(crate) fn of_this_process() -> Option<Self> {
        let text = std::env::var(VARIABLE).ok()?;
        let mut words = text.splitn(8, ' ');
        let mut word = || words.next().expect("a job has eight words");
        let name = word();
        let mix = MIXES.iter().find(|(_, own)| *own == name).expect("a mix that exists").0;
        let number = |text: &str| text.parse::<u64>().expect("a number");
        let (seed, threads, base) = (number(word()), number(word()), number(word()));
        let kind = if word() == "true" { Kind::PlainSled } else { Kind::Firstseen };
        let repair = word() == "true";
        let notebooks = Some(word()).filter(|word| *word != "-").map(PathBuf::from);
        let dir = PathBuf::from(word());
        Some(Self { dir, kind, mix, seed, threads, base, repair, notebooks })
    }
}
