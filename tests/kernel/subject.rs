//! The store under test, behind one trait: firstseen, or plain sled with one key per id.

use crate::wire::{Answer, Family, Level, Refusal};
use firstseen::{
    Builder, Claim, ClaimOptions, Durability, Error, ErrorKind, Namespace, NamespaceOptions, Store,
    Ttl,
};
use std::path::Path;
use std::time::Duration;

/// The ttl of [`Family::Short`].
pub(crate) const SHORT_MS: u64 = 1_200;

/// The operations that both have.
pub(crate) trait Subject: Send + Sync {
    fn claim(&self, family: Family, ids: &[u64], level: Level) -> Result<Vec<Answer>, Refusal>;
    fn contains(&self, family: Family, id: u64) -> Result<bool, Refusal>;
    /// Promises that everything acknowledged before survives a power cut.
    fn sync(&self) -> Result<(), Refusal>;
    fn close(self: Box<Self>) -> Result<(), Refusal>;
    /// For operations that only firstseen has.
    fn firstseen(&self) -> Option<&Firstseen> {
        None
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Firstseen,
    PlainSled,
}

/// Settings of a store: small sizes make background work frequent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tuning {
    pub(crate) shards: usize,
    pub(crate) segment_bytes: u32,
    pub(crate) memtable_bytes: usize,
    /// Runs of fewer ids have no locator file.
    pub(crate) locator_ids_min: u64,
    pub(crate) level: Level,
}

pub(crate) fn open(kind: Kind, path: &Path, tuning: Tuning) -> Result<Box<dyn Subject>, Refusal> {
    Ok(match kind {
        Kind::Firstseen => Box::new(Firstseen::open(path, tuning)?),
        Kind::PlainSled => Box::new(PlainSled::open(path)?),
    })
}

/// The bytes of an id: of various lengths, and distinct for each family.
pub(crate) fn name(family: Family, id: u64) -> String {
    format!("{}-{id:08}-{}", family.name(), "x".repeat((id % 23) as usize))
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let what = error.to_string();
        match error.kind() {
            ErrorKind::StorageFull => Self::Full,
            ErrorKind::Retry => Self::Retry,
            ErrorKind::Reopen => Self::Stopped(what),
            ErrorKind::Locked => Self::Locked(what),
            ErrorKind::Repair => Self::Damaged(what),
            _ => Self::Other(what),
        }
    }
}

pub(crate) struct Firstseen {
    pub(crate) store: Store,
    short: Namespace,
    beside: Namespace,
}

impl Firstseen {
    pub(crate) fn builder(path: &Path, tuning: Tuning) -> Builder {
        Store::builder(path)
            .shards(tuning.shards)
            .memory_budget(4 << 20)
            .segment_bytes(tuning.segment_bytes)
            .memtable_bytes(tuning.memtable_bytes)
            .locator_ids_min(tuning.locator_ids_min)
            .durability(durability(tuning.level))
            .wait_max(Duration::from_secs(10))
    }

    pub(crate) fn open(path: &Path, tuning: Tuning) -> Result<Self, Refusal> {
        let store = Self::builder(path, tuning).open()?;
        let options = NamespaceOptions::new().ttl(Ttl::from_millis(SHORT_MS));
        let short = store.namespace_with("short", options)?;
        let beside = store.namespace_with("beside", NamespaceOptions::new())?;
        Ok(Self { store, short, beside })
    }

    pub(crate) fn space(&self, family: Family) -> Namespace {
        match family {
            Family::Short => self.short.clone(),
            Family::Beside => self.beside.clone(),
            Family::Ever | Family::Own => self.store.default_namespace(),
        }
    }
}

pub(crate) fn durability(level: Level) -> Durability {
    match level {
        Level::Process => Durability::Process,
        Level::Disk => Durability::Disk,
    }
}

pub(crate) fn options(level: Level) -> ClaimOptions {
    ClaimOptions::new().durability(durability(level))
}

fn answer(claim: Claim) -> Answer {
    match claim {
        Claim::FirstSeen => Answer::First,
        Claim::Duplicate { first_seen } => Answer::Duplicate(first_seen.as_millis()),
    }
}

impl Subject for Firstseen {
    fn claim(&self, family: Family, ids: &[u64], level: Level) -> Result<Vec<Answer>, Refusal> {
        let space = self.space(family);
        let names: Vec<String> = ids.iter().map(|id| name(family, *id)).collect();
        if let [one] = &names[..] {
            return Ok(vec![answer(space.claim_with(one, options(level))?)]);
        }
        let claims = space.claim_batch_with(&names, options(level))?;
        Ok(claims.into_iter().map(answer).collect())
    }

    fn contains(&self, family: Family, id: u64) -> Result<bool, Refusal> {
        Ok(self.space(family).contains(name(family, id))?)
    }

    fn sync(&self) -> Result<(), Refusal> {
        Ok(self.store.sync()?)
    }

    fn close(self: Box<Self>) -> Result<(), Refusal> {
        drop((self.short, self.beside));
        Ok(self.store.close()?)
    }

    fn firstseen(&self) -> Option<&Firstseen> {
        Some(self)
    }
}

/// sled as one would use it for this: one key per id, `flush` for durability.
struct PlainSled(sled::Db);

impl PlainSled {
    fn open(path: &Path) -> Result<Self, Refusal> {
        let opened = sled::Config::new().path(path).cache_capacity(1 << 20).open();
        opened.map(Self).map_err(sled_refusal)
    }
}

/// No sled error tells whether the key was written.
fn sled_refusal(error: sled::Error) -> Refusal {
    Refusal::Stopped(format!("sled: {error}"))
}

impl Subject for PlainSled {
    fn claim(&self, family: Family, ids: &[u64], level: Level) -> Result<Vec<Answer>, Refusal> {
        let one = |id: &u64| -> Result<Answer, Refusal> {
            let swapped =
                self.0.compare_and_swap(name(family, *id), None::<&[u8]>, Some(&[1_u8][..]));
            let swapped = swapped.map_err(sled_refusal)?;
            Ok(if swapped.is_ok() { Answer::First } else { Answer::Duplicate(0) })
        };
        let answers = ids.iter().map(one).collect::<Result<Vec<_>, _>>()?;
        if level == Level::Disk {
            self.sync()?;
        }
        Ok(answers)
    }

    fn contains(&self, family: Family, id: u64) -> Result<bool, Refusal> {
        self.0.contains_key(name(family, id)).map_err(sled_refusal)
    }

    fn sync(&self) -> Result<(), Refusal> {
        self.0.flush().map(drop).map_err(sled_refusal)
    }

    fn close(self: Box<Self>) -> Result<(), Refusal> {
        self.sync()
    }
}
