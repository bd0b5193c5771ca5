//! Namespaces: part of the key, not stores of their own. Ten thousand of them are cheap: a name, settings and counters
//! each.

use crate::error::{Error, Result};
use crate::id::NsId;
use crate::limits;
use crate::sync::{Arc, AtomicBool, AtomicU64, CachePadded, Ordering, RwLock};
use crate::time::Ttl;
use crate::wal::{Log, NamespaceRecord};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Name of the namespace used by calls on the store itself.
pub(crate) const DEFAULT_NAME: &str = "default";

/// Claims of one namespace in one shard. Written under the shard's lock, read by anyone.
#[derive(Debug, Default)]
struct NsCounts {
    first_seen: AtomicU64,
    duplicates: AtomicU64,
}

/// A namespace of an open store.
#[derive(Debug)]
pub(crate) struct NsInfo {
    pub(crate) id: NsId,
    pub(crate) name: String,
    /// In milliseconds; zero means forever.
    ttl_ms: AtomicU64,
    sliding: AtomicBool,
    counts: Box<[CachePadded<NsCounts>]>,
}

impl NsInfo {
    fn new(id: NsId, name: String, ttl: Ttl, sliding: bool, shards: usize) -> Self {
        let counts = (0..shards).map(|_| CachePadded::default()).collect();
        let ttl_ms = AtomicU64::new(ttl.as_millis().unwrap_or(0));
        Self { id, name, ttl_ms, sliding: AtomicBool::new(sliding), counts }
    }

    #[inline]
    pub(crate) fn ttl(&self) -> Ttl {
        match self.ttl_ms.load(Ordering::Relaxed) {
            0 => Ttl::FOREVER,
            ms => Ttl::from_millis(ms),
        }
    }

    #[inline]
    pub(crate) fn sliding(&self) -> bool {
        self.sliding.load(Ordering::Relaxed)
    }

    fn set(&self, ttl: Ttl, sliding: bool) {
        self.ttl_ms.store(ttl.as_millis().unwrap_or(0), Ordering::Relaxed);
        self.sliding.store(sliding, Ordering::Relaxed);
    }

    /// Counts answers. The caller holds the shard's lock, so load and store need not be one atomic step.
    #[inline]
    pub(crate) fn count(&self, shard: usize, first_seen: bool, n: u64) {
        let counts = &self.counts[shard];
        let counter = if first_seen { &counts.first_seen } else { &counts.duplicates };
        counter.store(counter.load(Ordering::Relaxed) + n, Ordering::Relaxed);
    }

    /// Returns the first-seen and duplicate counts since the store was opened.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let sum = |pick: fn(&NsCounts) -> &AtomicU64| {
            self.counts.iter().map(|c| pick(c).load(Ordering::Relaxed)).sum()
        };
        (sum(|c| &c.first_seen), sum(|c| &c.duplicates))
    }
}

/// What the manifest records of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NsMeta {
    pub(crate) id: NsId,
    pub(crate) name: String,
    pub(crate) ttl_ms: u64,
    pub(crate) sliding: bool,
}

/// All namespaces.
#[derive(Debug)]
pub(crate) struct Registry {
    default: Arc<NsInfo>,
    named: RwLock<Named>,
    shards: usize,
}

#[derive(Debug, Default)]
struct Named {
    by_name: BTreeMap<String, Arc<NsInfo>>,
    /// The highest number ever assigned; searching for it would take longer with each new one.
    highest: u32,
}

impl Named {
    fn insert(&mut self, info: NsInfo) -> Arc<NsInfo> {
        self.highest = self.highest.max(info.id.0);
        let info = Arc::new(info);
        self.by_name.insert(info.name.clone(), Arc::clone(&info));
        info
    }
}

impl Registry {
    pub(in crate::engine) fn new(shards: usize, ttl: Ttl, sliding: bool) -> Self {
        let name = DEFAULT_NAME.to_owned();
        let default = Arc::new(NsInfo::new(NsId(0), name, ttl, sliding, shards));
        Self { default, named: RwLock::default(), shards }
    }

    pub(crate) fn default_namespace(&self) -> Arc<NsInfo> {
        Arc::clone(&self.default)
    }

    #[inline]
    pub(crate) fn default_info(&self) -> &NsInfo {
        &self.default
    }

    /// Registers a namespace found in the manifest or the log; settings found later replace earlier ones.
    pub(in crate::engine) fn restore(&self, id: NsId, name: &str, ttl: Ttl, sliding: bool) {
        let mut named = self.named.write();
        match named.by_name.get(name) {
            Some(info) => info.set(ttl, sliding),
            None => {
                named.insert(NsInfo::new(id, name.to_owned(), ttl, sliding, self.shards));
            }
        }
    }

    pub(in crate::engine) fn metas(&self) -> Vec<NsMeta> {
        let named = self.named.read();
        let meta = |info: &Arc<NsInfo>| NsMeta {
            id: info.id,
            name: info.name.clone(),
            ttl_ms: info.ttl().as_millis().unwrap_or(0),
            sliding: info.sliding(),
        };
        named.by_name.values().map(meta).collect()
    }

    /// Returns the namespace of this name, if there is one.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<NsInfo>> {
        if name == DEFAULT_NAME {
            return Some(self.default_namespace());
        }
        self.named.read().by_name.get(name).cloned()
    }

    /// Returns the namespace of this number, if there is one.
    pub(crate) fn find_number(&self, id: NsId) -> Option<Arc<NsInfo>> {
        self.all().into_iter().find(|info| info.id == id)
    }

    /// Returns the namespace of this name. A new one is written to the log before it is used, and so are changed
    /// settings.
    pub(crate) fn open(
        &self,
        log: &Log,
        name: &str,
        settings: Option<(Ttl, bool)>,
    ) -> Result<Arc<NsInfo>> {
        if name.is_empty() || name.len() > limits::NAMESPACE_BYTES_MAX {
            return Err(Error::invalid(format!(
                "a namespace with a name of {} bytes: a name has 1 to {} bytes",
                name.len(),
                limits::NAMESPACE_BYTES_MAX
            )));
        }
        if let Some((ttl, _)) = settings {
            ttl.check()?;
        }
        if name == DEFAULT_NAME {
            if settings.is_some() {
                return Err(Error::invalid(
                    "the settings of the default namespace are those of the store: set them in the builder",
                ));
            }
            return Ok(self.default_namespace());
        }
        if let Some(info) = self.named.read().by_name.get(name)
            && settings.is_none_or(|wanted| wanted == (info.ttl(), info.sliding()))
        {
            return Ok(Arc::clone(info));
        }
        let mut named = self.named.write();
        let known = named.by_name.get(name).cloned();
        let (ttl, sliding) = settings
            .or(known.as_ref().map(|info| (info.ttl(), info.sliding())))
            .unwrap_or((self.default.ttl(), self.default.sliding()));
        let id = match &known {
            Some(info) => info.id,
            None if named.highest >= NsId::MAX => {
                let what = format!("the limit of {} namespaces is reached", NsId::MAX);
                return Err(Error::invalid(what));
            }
            None => NsId(named.highest + 1),
        };
        log.append_namespace(&NamespaceRecord { ns: id, ttl, sliding, name: name.as_bytes() })?;
        if let Some(info) = known {
            info.set(ttl, sliding);
            return Ok(info);
        }
        Ok(named.insert(NsInfo::new(id, name.to_owned(), ttl, sliding, self.shards)))
    }

    /// Returns the default namespace first, then the others by name.
    pub(crate) fn all(&self) -> Vec<Arc<NsInfo>> {
        let named = self.named.read();
        std::iter::once(&self.default).chain(named.by_name.values()).cloned().collect()
    }
}
