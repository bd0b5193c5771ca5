//! Removing old snapshots, and what only they need.
//!
//! Another snapshot may be under way meanwhile. What it sends is under its own number, which is higher than that of every
//! stored one, and otherwise it refers to parts of the snapshot that was the newest when it began. If that is still the
//! newest, it is kept here; if not, the other will find itself overtaken. So no part that may be referred to is removed.

use crate::error::{Error, Result};
use crate::snapshot::{
    Index, Part, SnapshotTarget, index_name, numbers, part_names, read_index, sent_in,
};
use std::collections::BTreeSet;
use std::path::Path;

/// Keeps `keep` snapshots; returns how many were removed. `newest` has just been stored.
pub(super) fn prune(target: &dyn SnapshotTarget, newest: &Index, keep: u64) -> Result<u64> {
    let numbers = numbers(target)?;
    if numbers.last() != Some(&newest.head.number) {
        // Whoever has stored a later one removes what is too old.
        return Ok(0);
    }
    let keep = usize::try_from(keep).unwrap_or(usize::MAX);
    let (old, kept) = numbers.split_at(numbers.len().saturating_sub(keep));
    // Indexes first: one without its parts would be a damaged snapshot.
    old.iter().try_for_each(|number| delete(target, &index_name(*number)))?;
    let mut needed: BTreeSet<String> = newest.parts.iter().map(Part::name).collect();
    for number in kept.iter().filter(|number| **number != newest.head.number) {
        let (_, index) = read_index(target, *number)?;
        needed.extend(index.parts.iter().map(Part::name));
    }
    let is_of_older = |name: &String| sent_in(name).is_some_and(|sent| sent <= newest.head.number);
    for name in part_names(target)?.into_iter().filter(is_of_older) {
        if !needed.contains(&name) {
            delete(target, &name)?;
        }
    }
    Ok(old.len() as u64)
}

fn delete(target: &dyn SnapshotTarget, name: &str) -> Result<()> {
    target.delete(name).map_err(|e| Error::io("remove", Path::new(name), e))
}
