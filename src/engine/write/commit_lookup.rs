//! Looking up all ids and rows of a commit.
//!
//! Shard by shard, a group under one lock: what the lookups of a group read is prefetched together, so that they wait for
//! memory once. No two groups are looked up at one moment, so a commit looks again under the locks of all its shards.

use crate::engine::core::{Core, GROUP};
use crate::engine::write::backpressure::WaitBudget;
use crate::engine::write::decide::known;
use crate::engine::write::lock_set::Member;
use crate::engine::write::rows::known_row;
use crate::error::Result;
use crate::id::IdHash;
use crate::shard::{Known, KnownRow, Lookup, RowLookup, Shard};

/// Returns what is known of ids, live or not.
pub(super) fn known_ids(core: &Core, members: &[Member<'_>]) -> Result<Vec<Option<Known>>> {
    let look = |shard: &mut Shard, Member { key, hash, .. }: &Member<'_>| match shard
        .lookup_prefetched(*key, *hash, core.run_access(), 0)
    {
        Lookup::Unknown => Some(None),
        Lookup::Known(known) => Some(Some(known)),
        Lookup::Damaged(..) => None,
    };
    let prefetch = |shard: &Shard, member: &Member<'_>| shard.prefetch(member.hash);
    look_up(core, members, prefetch, look, |member| known(core, member.key))
}

/// Returns what is known of rows, live or not.
pub(super) fn known_rows(
    core: &Core,
    members: &[Member<'_>],
    wait_budget: &mut WaitBudget,
) -> Result<Vec<Option<KnownRow>>> {
    let look = |shard: &mut Shard, Member { key, hash, .. }: &Member<'_>| match core
        .look_row(shard, *key, *hash)
    {
        RowLookup::Unknown => Some(None),
        RowLookup::Known(known) => Some(Some(known)),
        RowLookup::Damaged(..) => None,
    };
    let prefetch = |shard: &Shard, member: &Member<'_>| shard.prefetch_row(member.key, member.hash);
    let alone = |member: &Member<'_>| known_row(core, member.key, member.hash, wait_budget);
    look_up(core, members, prefetch, look, alone)
}

/// Looks members up with `look`, under the locks of their shards. Those for which that returns `None` need something healed
/// first, and are looked up `alone`, without a lock.
fn look_up<T>(
    core: &Core,
    members: &[Member<'_>],
    prefetch: impl Fn(&Shard, &Member<'_>),
    look: impl Fn(&mut Shard, &Member<'_>) -> Option<Option<T>>,
    mut alone: impl FnMut(&Member<'_>) -> Result<Option<T>>,
) -> Result<Vec<Option<T>>> {
    // A few are not worth ordering.
    if members.len() < GROUP {
        return members.iter().map(alone).collect();
    }
    let hashes: Vec<IdHash> = members.iter().map(|member| member.hash).collect();
    let mut found: Vec<Option<T>> = Vec::new();
    found.resize_with(members.len(), || None);
    let mut left: Vec<usize> = Vec::new();
    core.in_groups(&hashes, |shard, group| {
        group.iter().for_each(|n| prefetch(shard, &members[*n]));
        group.iter().for_each(|n| shard.prefetch_entry(hashes[*n]));
        for n in group {
            match look(shard, &members[*n]) {
                Some(known) => found[*n] = known,
                None => left.push(*n),
            }
        }
    });
    for n in left {
        found[n] = alone(&members[n])?;
    }
    Ok(found)
}
