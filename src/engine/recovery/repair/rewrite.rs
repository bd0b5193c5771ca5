//! Writing a new log from what is left of the old one.

use crate::engine::catalog::namespaces::NsMeta;
use crate::engine::core::Settings;
use crate::engine::recovery::repair::rescue::Rescue;
use crate::error::Result;
use crate::id::NsId;
use crate::wal::{
    self, Item, Log, LogConfig, Lsn, NamespaceRecord, RecordRewriter, ReplayPlan, Salvaged,
};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// What a repair wrote.
pub(super) struct Rewritten {
    pub(super) namespaces: Vec<NsMeta>,
    /// Names given to namespaces whose own are lost.
    pub(super) renamed: Vec<String>,
    /// Records that only the block store still had.
    pub(super) rescued: u64,
    /// The new log is on disk up to here.
    pub(super) durable: Lsn,
    /// Above that of every row that was read.
    pub(super) sequence: u64,
}

/// Writes a new log from what is left of the old one and of the manifest. Every namespace number with claims keeps a
/// name; otherwise the next new namespace would get that number, and the claims with it.
pub(super) fn rewrite(
    old: &LogConfig,
    new: LogConfig,
    settings: &Settings,
    listed: &[NsMeta],
    rescue: Option<&Rescue<'_>>,
) -> Result<Rewritten> {
    let now = settings.clock.wall();
    let recovered =
        Log::recover(new, ReplayPlan { first: 1, ..ReplayPlan::default() }, now, |_, _| Ok(()))?;
    let mut rewriter = RecordRewriter::new(&recovered.log);
    let mut namespaces: BTreeMap<u32, NsMeta> = BTreeMap::new();
    let mut used = BTreeSet::new();
    let mut sequence = 1;
    let _: Salvaged = wal::salvage(old, None, |_, item| match item {
        Item::Version(key, version) => {
            used.insert(key.ns.listed().0);
            rewriter.push(key, version)
        }
        Item::Row { key, version, value, .. } => {
            used.insert(key.ns.listed().0);
            sequence = sequence.max(version.rank.saturating_add(1));
            rewriter.push_row(key, version, value)
        }
        Item::Namespace(record) => {
            let meta = NsMeta {
                id: record.ns,
                name: String::from_utf8_lossy(record.name).into_owned(),
                ttl_ms: record.ttl.as_millis().unwrap_or(0),
                sliding: record.sliding,
            };
            namespaces.insert(meta.id.0, meta);
            Ok(())
        }
    })?;
    let mut rescued = 0;
    if let Some(rescue) = rescue {
        rescue.for_each(|key, version| {
            used.insert(key.ns.listed().0);
            rescued += 1;
            rewriter.push(key, version)
        })?;
    }
    rewriter.finish()?;
    let mut names: HashSet<String> = namespaces.values().map(|meta| meta.name.clone()).collect();
    for meta in listed {
        // Two of one name would merge, so keep what the log says: it is newer.
        if !names.contains(&meta.name) && !namespaces.contains_key(&meta.id.0) {
            names.insert(meta.name.clone());
            namespaces.insert(meta.id.0, meta.clone());
        }
    }
    let mut renamed = Vec::new();
    used.remove(&0);
    for number in
        used.into_iter().filter(|number| !namespaces.contains_key(number)).collect::<Vec<_>>()
    {
        let mut name = format!("recovered-{number}");
        while !names.insert(name.clone()) {
            name.push('x');
        }
        renamed.push(name.clone());
        namespaces.insert(number, NsMeta { id: NsId(number), name, ttl_ms: 0, sliding: false });
    }
    for meta in namespaces.values() {
        let (ns, ttl, name) = (meta.id, meta.ttl(), meta.name.as_bytes());
        let record = NamespaceRecord { ns, ttl, sliding: meta.sliding, name };
        recovered.log.append_namespace(&record)?;
    }
    recovered.log.close()?;
    let namespaces = namespaces.into_values().collect();
    let durable = recovered.log.durable();
    Ok(Rewritten { namespaces, renamed, rescued, durable, sequence })
}
