//! Import: claims from elsewhere, one by one, with their times.

use crate::engine::catalog::namespaces::NsInfo;
use crate::engine::core::{Core, Durability};
use crate::engine::write::backpressure::WaitBudget;
use crate::engine::write::decide::{Decision, decide};
use crate::engine::write::durability::{RestsOn, await_durable};
use crate::error::{Error, Result};
use crate::expiry::{Class, Version};
use crate::id::Key;
use crate::shard::Known;
use crate::time::Timestamp;
use crate::wal::Lsn;

/// A claim to import.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportEntry {
    /// The id, byte for byte.
    pub id: Vec<u8>,
    /// Whether `id` is the BLAKE3 hash of an id above the limit, as in an export.
    pub is_hash: bool,
    /// When it was claimed. A time in the future counts as now.
    pub first_seen: Timestamp,
    /// When the claim ends; [`Timestamp::NEVER`] if it does not.
    pub deadline: Timestamp,
}

impl ImportEntry {
    /// Creates a claim of an id as it is; `deadline` is [`Timestamp::NEVER`] if it does not end.
    #[must_use]
    pub fn new(id: impl Into<Vec<u8>>, first_seen: Timestamp, deadline: Timestamp) -> Self {
        Self { id: id.into(), is_hash: false, first_seen, deadline }
    }

    /// Marks `id` as the 32-byte BLAKE3 hash of an id above the limit, the id itself being unknown.
    #[must_use]
    pub fn hashed(self) -> Self {
        Self { is_hash: true, ..self }
    }
}

/// Imports the claims of ids that are not live here; returns how many. Claims that have ended are left out.
pub(in crate::engine) fn import(
    core: &Core,
    ns: &NsInfo,
    entries: &[ImportEntry],
    durability: Durability,
) -> Result<u64> {
    core.health.check()?;
    let (mut added, mut last) = (0, None);
    for entry in entries {
        let mut digest = None;
        let key = if entry.is_hash {
            Key::of_digest(ns.id(), &entry.id)?
        } else {
            core.key(ns.id(), &entry.id, &mut digest)?
        };
        if entry.deadline <= entry.first_seen {
            return Err(Error::invalid("an imported claim ends before it begins"));
        }
        let (new, lsn) = import_one(core, key, entry, durability)?;
        added += u64::from(new);
        last = last.max(lsn);
    }
    // What was live here already counts as imported, so it must be as safe as the rest (I6).
    await_durable(core, durability, last.map(RestsOn::others))?;
    Ok(added)
}

/// Imports one claim. Returns whether it is new here, and the location of its record unless that is on disk.
fn import_one(
    core: &Core,
    key: Key<'_>,
    entry: &ImportEntry,
    durability: Durability,
) -> Result<(bool, Option<Lsn>)> {
    let hash = core.hash(key);
    let (is_new, rests_on, _) = decide(
        core,
        key,
        hash,
        durability.append_level(),
        &mut WaitBudget::default(),
        |known, at| decide_import(known, at.now, entry),
    )?;
    Ok((is_new, rests_on.map(|rests_on| rests_on.lsn)))
}

/// Decides an import: what is live here stays, and what has ended is left out.
fn decide_import(known: Option<&Known>, now: Timestamp, entry: &ImportEntry) -> Decision<bool> {
    if let Some(known) = known
        && known.version.is_live(now)
    {
        return Decision::Answer(false, known.lsn);
    }
    if entry.deadline <= now {
        return Decision::Answer(false, None);
    }
    // Not before an earlier, ended claim or a tombstone: the import would rank below it.
    let first_seen = entry.first_seen.min(now);
    let first_seen = known.map_or(first_seen, |k| first_seen.max(k.version.first_seen()));
    let version = Version {
        rank: first_seen.as_millis(),
        deadline: entry.deadline,
        class: class_of(first_seen, entry.deadline),
        step: 0,
    };
    let version = version.after(known.map(|known| &known.version));
    Decision::Append(true, version, None)
}

fn class_of(first_seen: Timestamp, deadline: Timestamp) -> Class {
    if deadline == Timestamp::NEVER {
        return Class::FOREVER;
    }
    Class::of_ttl(deadline.as_millis().saturating_sub(first_seen.as_millis()))
}
