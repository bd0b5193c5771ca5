//! The task of a child process.

use crate::dice::Dice;
use crate::subject::{Kind, Tuning};
use crate::wire::Level;
use std::path::PathBuf;

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
}

const MIXES: [(Mix, &str); 7] = [
    (Mix::Flush, "flush"),
    (Mix::Expiry, "expiry"),
    (Mix::Compaction, "compaction"),
    (Mix::Power, "power"),
    (Mix::Full, "full"),
    (Mix::Plain, "plain"),
    (Mix::Race, "race"),
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
        };
        let level = if self == Self::Power { Level::Disk } else { Level::Process };
        Tuning { segment_bytes, memtable_bytes, locator_ids_min: 100, level }
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
}

const VARIABLE: &str = "FIRSTSEEN_KERNEL_JOB";

impl Job {
    pub(crate) fn new(dir: PathBuf, mix: Mix, seed: u64) -> Self {
        let threads = 1 + Dice::new(seed).below(8);
        Self { dir, kind: Kind::Firstseen, mix, seed, threads, base: 0, repair: false }
    }

    /// The job as an environment variable of the child.
    pub(crate) fn variable(&self) -> (&'static str, String) {
        let mix = MIXES.iter().find(|(mix, _)| *mix == self.mix).expect("the table is complete").1;
        let (sled, repair) = (self.kind == Kind::PlainSled, self.repair);
        let Self { seed, threads, base, .. } = self;
        let dir = self.dir.display();
        (VARIABLE, format!("{mix} {seed} {threads} {base} {sled} {repair} {dir}"))
    }

    /// `None` unless this process is a child.
    pub(crate) fn of_this_process() -> Option<Self> {
        let text = std::env::var(VARIABLE).ok()?;
        let mut words = text.splitn(7, ' ');
        let mut word = || words.next().expect("a job has seven words");
        let name = word();
        let mix = MIXES.iter().find(|(_, own)| *own == name).expect("a mix that exists").0;
        let number = |text: &str| text.parse::<u64>().expect("a number");
        let (seed, threads, base) = (number(word()), number(word()), number(word()));
        let kind = if word() == "true" { Kind::PlainSled } else { Kind::Firstseen };
        let repair = word() == "true";
        Some(Self { dir: PathBuf::from(word()), kind, mix, seed, threads, base, repair })
    }
}
