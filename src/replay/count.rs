//! What a scope holds under each of its names, beside what is outside.

use crate::engine::{Engine, Scope};
use crate::error::Result;
use crate::id::{Family, Key, NsId};
use std::collections::HashMap;

/// What a scope holds under one name: live claims and records of a ledger, and how many of them are live outside, too.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NamespaceCount {
    /// The name.
    pub namespace: String,
    /// Ids with a live claim inside.
    pub claims: u64,
    /// Those of them that have a live claim under the same name outside.
    pub claims_outside: u64,
    /// Ids with a record in the ledger inside.
    pub records: u64,
    /// Those of them that have a record in the ledger of the same name outside.
    pub records_outside: u64,
}

/// What a scope holds, name by name; see [`ReplayScope::count`](crate::replay::ReplayScope::count).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScopeCount {
    /// The names, in alphabetical order.
    pub namespaces: Vec<NamespaceCount>,
}

impl NamespaceCount {
    fn of(namespace: String) -> Self {
        Self { namespace, claims: 0, claims_outside: 0, records: 0, records_outside: 0 }
    }
}

impl ScopeCount {
    fn sum(&self, of: impl Fn(&NamespaceCount) -> u64) -> u64 {
        self.namespaces.iter().map(of).sum()
    }

    /// Returns how many ids there are inside, claims and records of ledgers.
    pub fn ids(&self) -> u64 {
        self.sum(|count| count.claims + count.records)
    }

    /// Returns how many of them would have been duplicates outside.
    pub fn duplicates(&self) -> u64 {
        self.sum(|count| count.claims_outside + count.records_outside)
    }

    /// Returns how many of them are new outside.
    pub fn new_ids(&self) -> u64 {
        self.ids() - self.duplicates()
    }
}

/// Counts what an open scope holds under each name.
pub(super) fn count(engine: &Engine, scope: &Scope) -> Result<Vec<NamespaceCount>> {
    let mut counts: HashMap<NsId, (NamespaceCount, Option<NsId>)> = HashMap::new();
    for info in scope.names() {
        let outside = engine.namespaces().find(&info.name).map(|outside| outside.id());
        counts.insert(info.id(), (NamespaceCount::of(info.name.clone()), outside));
    }
    let mut count = |key: Key<'_>| -> Result<()> {
        let Some((counted, outside)) = counts.get_mut(&key.ns.listed()) else { return Ok(()) };
        let outside = outside.map(|outside| Key { ns: key.ns.moved_to(outside), ..key });
        let is_known = match outside {
            Some(outside) => engine.is_live(outside)?,
            None => false,
        };
        let (all, known) = if key.ns.is_row() {
            (&mut counted.records, &mut counted.records_outside)
        } else {
            (&mut counted.claims, &mut counted.claims_outside)
        };
        *all += 1;
        *known += u64::from(is_known);
        Ok(())
    };
    engine.visit_claims(&mut count)?;
    engine.list_rows(Family::LEDGER, |key, row| row.and_then(|_| count(key)))?;
    let mut counts: Vec<NamespaceCount> = counts.into_values().map(|(count, _)| count).collect();
    counts.sort_unstable_by(|a, b| a.namespace.cmp(&b.namespace));
    Ok(counts)
}
