//! Namespaces: part of the key, not stores of their own. Ten thousand of them are cheap: a name, settings and counters
//! each.

use crate::engine::catalog::ending::Ending;
use crate::engine::catalog::scopes::{
    Gone, Registered, ScopeEnd, ScopeEntry, ScopeMark, check_name, inside_name, scope_name,
};
use crate::error::{Error, Result};
use crate::id::{Key, NsId};
use crate::sync::{Arc, AtomicBool, AtomicU64, CachePadded, Mutex, Ordering, RwLock};
use crate::time::{Timestamp, Ttl};
use crate::wal::{Log, NamespaceRecord};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Name of the namespace used by calls on the store itself.
pub(crate) const DEFAULT_NAME: &str = "default";

/// Claims of one namespace in one shard. Written under the shard's lock, read by anyone.
#[derive(Debug, Default)]
struct NsCounts {
    first_seen: AtomicU64,
    duplicates: AtomicU64,
}

/// A namespace of an open store.
pub(crate) struct NsInfo {
    /// What its claims and rows are under. The promotion of a replay scope changes it.
    number: AtomicU64,
    /// The number that the log and the manifest know the name by, which never changes.
    registered: NsId,
    /// As callers know it. Inside a scope it is the same name as outside.
    pub(crate) name: String,
    /// In milliseconds; zero means forever.
    ttl_ms: AtomicU64,
    sliding: AtomicBool,
    counts: Box<[CachePadded<NsCounts>]>,
}

impl fmt::Debug for NsInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NsInfo").field(&self.name).finish()
    }
}

impl NsInfo {
    fn new(id: NsId, name: String, ttl: Ttl, sliding: bool, shards: usize) -> Self {
        let counts = (0..shards).map(|_| CachePadded::default()).collect();
        let ttl_ms = AtomicU64::new(ttl.as_millis().unwrap_or(0));
        let (number, sliding) = (AtomicU64::new(id.0.into()), AtomicBool::new(sliding));
        Self { number, registered: id, name, ttl_ms, sliding, counts }
    }

    /// Returns the number of what it holds. A call reads it once and keeps to it: a promotion that comes after that is
    /// later than the call.
    #[inline]
    pub(crate) fn id(&self) -> NsId {
        // With `replace` this orders what a promotion did before: whoever sees a number that it gave sees that the others
        // are gone.
        NsId(self.number.load(Ordering::Acquire) as u32)
    }

    /// Returns the number that its name was registered with, which no promotion changes.
    pub(crate) fn registered(&self) -> NsId {
        self.registered
    }

    fn replace(&self, id: NsId) {
        self.number.store(id.0.into(), Ordering::Release);
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

impl NsMeta {
    pub(crate) fn ttl(&self) -> Ttl {
        if self.ttl_ms == 0 { Ttl::FOREVER } else { Ttl::from_millis(self.ttl_ms) }
    }
}

/// All namespaces.
#[derive(Debug)]
pub(crate) struct Registry {
    default: Arc<NsInfo>,
    named: RwLock<Named>,
    /// What ended scopes have left behind.
    gone: RwLock<Gone>,
    /// Commits on these numbers are refused: what is gone, and what is about to be.
    refused: RwLock<Gone>,
    /// Held by whoever begins or ends a scope, or opens a name in one, also while that is written. Comes before the locks
    /// of shards.
    scope_change: Mutex<()>,
    /// The end of a scope, while commits are refused for it.
    pub(in crate::engine) ending: Ending,
    shards: usize,
}

#[derive(Debug, Default)]
struct Named {
    /// By the names that the log knows, those of scopes included.
    by_name: BTreeMap<String, Arc<NsInfo>>,
    /// The highest number ever assigned; searching for it would take longer with each new one.
    highest: u32,
    scopes: BTreeMap<u32, Scope>,
}

/// A replay scope.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    pub(crate) number: NsId,
    pub(crate) name: String,
    pub(crate) created: Timestamp,
    mark: Option<ScopeMark>,
    /// The names used inside.
    inside: BTreeMap<String, Arc<NsInfo>>,
}

impl Scope {
    /// Returns how it ended; `None` while it is open.
    pub(crate) fn end(&self) -> Option<ScopeEnd> {
        self.mark.as_ref().map(|mark| mark.end)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &Arc<NsInfo>> {
        self.inside.values()
    }

    /// Returns when it ended.
    pub(crate) fn ended(&self) -> Option<Timestamp> {
        self.mark.as_ref().map(|mark| mark.at)
    }

    pub(in crate::engine) fn mark(&self) -> Option<&ScopeMark> {
        self.mark.as_ref()
    }
}

impl Named {
    fn insert(&mut self, registered: &str, info: NsInfo) -> Arc<NsInfo> {
        let number = info.registered;
        self.highest = self.highest.max(number.0);
        let info = Arc::new(info);
        self.by_name.insert(registered.to_owned(), Arc::clone(&info));
        match Registered::of(registered) {
            Registered::Plain | Registered::Unknown => {}
            Registered::Scope { created, name } => {
                let scope = self.scope(number);
                scope.created = created;
                name.clone_into(&mut scope.name);
            }
            Registered::Inside { scope, name } => {
                self.scope(scope).inside.insert(name.to_owned(), Arc::clone(&info));
            }
        }
        info
    }

    /// Returns the scope of this number. Its names may be read before it is.
    fn scope(&mut self, number: NsId) -> &mut Scope {
        self.scopes.entry(number.0).or_insert_with(|| Scope {
            number,
            name: format!("recovered-{}", number.0),
            created: Timestamp::default(),
            mark: None,
            inside: BTreeMap::new(),
        })
    }

    fn next_number(&self) -> Result<NsId> {
        // The last number is that of nothing.
        if self.highest + 1 >= NsId::GONE.0 {
            let what = format!("the limit of {} namespaces is reached", NsId::GONE.0 - 1);
            return Err(Error::invalid(what));
        }
        Ok(NsId(self.highest + 1))
    }
}

/// Returns the name that callers know a namespace by.
fn shown(registered: &str) -> &str {
    match Registered::of(registered) {
        Registered::Inside { name, .. } | Registered::Scope { name, .. } => name,
        Registered::Plain | Registered::Unknown => registered,
    }
}

impl Registry {
    pub(in crate::engine) fn new(shards: usize, ttl: Ttl, sliding: bool) -> Self {
        let name = DEFAULT_NAME.to_owned();
        let default = Arc::new(NsInfo::new(NsId(0), name, ttl, sliding, shards));
        let (named, scope_change) = (RwLock::default(), Mutex::default());
        let (gone, refused) = (RwLock::default(), RwLock::default());
        Self { default, named, gone, refused, scope_change, ending: Ending::default(), shards }
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
                let info = NsInfo::new(id, shown(name).to_owned(), ttl, sliding, self.shards);
                named.insert(name, info);
            }
        }
    }

    /// Registers a namespace as the manifest has it.
    pub(in crate::engine) fn restore_meta(&self, meta: &NsMeta) {
        self.restore(meta.id, &meta.name, meta.ttl(), meta.sliding);
    }

    pub(in crate::engine) fn metas(&self) -> Vec<NsMeta> {
        let named = self.named.read();
        let meta = |(name, info): (&String, &Arc<NsInfo>)| NsMeta {
            id: info.registered,
            name: name.clone(),
            ttl_ms: info.ttl().as_millis().unwrap_or(0),
            sliding: info.sliding(),
        };
        named.by_name.iter().map(meta).collect()
    }

    /// Returns the namespace of this name, if there is one.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<NsInfo>> {
        if name == DEFAULT_NAME {
            return Some(self.default_namespace());
        }
        if Registered::of(name) != Registered::Plain {
            return None;
        }
        self.named.read().by_name.get(name).cloned()
    }

    /// Returns the namespace of this name. A new one is written to the log before it is used, and so are changed
    /// settings.
    pub(crate) fn open(
        &self,
        log: &Log,
        name: &str,
        settings: Option<(Ttl, bool)>,
    ) -> Result<Arc<NsInfo>> {
        check_name("namespace", name)?;
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
        self.open_registered(log, name, settings)
    }

    fn open_registered(
        &self,
        log: &Log,
        name: &str,
        settings: Option<(Ttl, bool)>,
    ) -> Result<Arc<NsInfo>> {
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
            Some(info) => info.registered,
            None => named.next_number()?,
        };
        log.append_namespace(&NamespaceRecord { ns: id, ttl, sliding, name: name.as_bytes() })?;
        if let Some(info) = known {
            info.set(ttl, sliding);
            return Ok(info);
        }
        let info = NsInfo::new(id, shown(name).to_owned(), ttl, sliding, self.shards);
        Ok(named.insert(name, info))
    }

    /// Returns all namespaces by their current number, those inside of scopes included.
    pub(crate) fn by_number(&self) -> BTreeMap<NsId, Arc<NsInfo>> {
        let named = self.named.read();
        let all = named.by_name.values().chain([&self.default]);
        all.map(|info| (info.id(), Arc::clone(info))).collect()
    }

    /// Returns the default namespace first, then the others by name. What is inside a scope is not listed.
    pub(crate) fn listed(&self) -> Vec<Arc<NsInfo>> {
        let named = self.named.read();
        let plain = named
            .by_name
            .iter()
            .filter(|(name, _)| matches!(Registered::of(name), Registered::Plain));
        std::iter::once(&self.default).chain(plain.map(|(_, info)| info)).cloned().collect()
    }

    /// Returns the name of what was registered with this number, as callers know it.
    pub(crate) fn registered_name(&self, registered: NsId) -> Option<String> {
        let named = self.named.read();
        let mut all = named.by_name.values().chain([&self.default]);
        all.find(|info| info.registered == registered).map(|info| info.name.clone())
    }

    /// Returns what the log has to say of the namespace with this number, if it is a known one.
    pub(in crate::engine) fn registration(&self, id: NsId) -> Option<NsMeta> {
        self.metas().into_iter().find(|meta| meta.id == id)
    }

    /// Returns the name of what is under each number, as callers know it: `scope/name` inside a scope that is open.
    pub(crate) fn names(&self) -> BTreeMap<NsId, String> {
        let named = self.named.read();
        let mut names: BTreeMap<NsId, String> = BTreeMap::new();
        for scope in named.scopes.values().filter(|scope| scope.mark.is_none()) {
            let inside = scope.inside.values();
            names.extend(inside.map(|info| (info.id(), format!("{}/{}", scope.name, info.name))));
        }
        drop(named);
        names.extend(self.listed().iter().map(|info| (info.id(), info.name.clone())));
        names
    }
}

/// Replay scopes.
impl Registry {
    /// Returns the numbers that answer to nobody.
    pub(in crate::engine) fn gone(&self) -> Gone {
        self.gone.read().clone()
    }

    /// Returns an error if a promotion has replaced one of the namespaces of these keys. Who reads the numbers of several
    /// may have read some before the promotion and some after it.
    pub(in crate::engine) fn check_not_gone<'k>(
        &self,
        mut keys: impl Iterator<Item = Key<'k>>,
    ) -> Result<()> {
        let refused = self.refused.read();
        if !refused.is_empty() && keys.any(|key| refused.has(key.ns)) {
            return Err(Error::Replaced);
        }
        Ok(())
    }

    /// Refuses commits on these numbers from now on. The caller holds [`lock_scopes`](Self::lock_scopes).
    pub(in crate::engine) fn refuse(&self, numbers: impl Iterator<Item = NsId>) {
        let refused = self.gone().with(numbers);
        *self.refused.write() = refused;
    }

    /// Refuses commits on what is gone, and no others.
    pub(in crate::engine) fn refuse_gone_only(&self) {
        let gone = self.gone();
        *self.refused.write() = gone;
    }

    /// Keeps scopes and the names in them as they are while this is held.
    pub(in crate::engine) fn lock_scopes(&self) -> crate::sync::MutexGuard<'_, ()> {
        self.scope_change.lock()
    }

    /// Returns all scopes in the order of their beginning.
    pub(crate) fn scopes(&self) -> Vec<Scope> {
        self.named.read().scopes.values().cloned().collect()
    }

    pub(crate) fn scope(&self, number: NsId) -> Option<Scope> {
        self.named.read().scopes.get(&number.0).cloned()
    }

    /// Returns the scope of this name. A dropped one has none any more.
    pub(crate) fn find_scope(&self, name: &str) -> Option<Scope> {
        let named = self.named.read();
        let mut scopes = named.scopes.values().rev();
        scopes.find(|s| s.name == name && s.end() != Some(ScopeEnd::Dropped)).cloned()
    }

    /// Begins a scope. The caller holds [`lock_scopes`](Self::lock_scopes).
    pub(in crate::engine) fn begin_scope(
        &self,
        log: &Log,
        name: &str,
        created: Timestamp,
    ) -> Result<Scope> {
        let mut named = self.named.write();
        let ns = named.next_number()?;
        let registered = scope_name(ns, created, name);
        let (ttl, sliding) = (Ttl::FOREVER, false);
        log.append_namespace(&NamespaceRecord { ns, ttl, sliding, name: registered.as_bytes() })?;
        let info = NsInfo::new(ns, name.to_owned(), ttl, sliding, self.shards);
        named.insert(&registered, info);
        Ok(named.scope(ns).clone())
    }

    /// Returns the namespace of this name inside a scope; a new one gets the settings of the one outside. The caller
    /// holds [`lock_scopes`](Self::lock_scopes).
    pub(in crate::engine) fn open_inside(
        &self,
        log: &Log,
        scope: NsId,
        name: &str,
        settings: Option<(Ttl, bool)>,
    ) -> Result<Arc<NsInfo>> {
        let registered = inside_name(scope, name);
        let known = self.named.read().by_name.contains_key(&registered);
        let outside = self.find(name).unwrap_or_else(|| self.default_namespace());
        let like_outside = Some((outside.ttl(), outside.sliding()));
        let settings = settings.or(like_outside.filter(|_| !known));
        self.open_registered(log, &registered, settings)
    }

    /// Returns what the end of a scope would have to say now. Names that exist only inside are made outside, where nothing
    /// is under them yet. The caller holds [`lock_scopes`](Self::lock_scopes).
    pub(in crate::engine) fn mark_for(
        &self,
        log: &Log,
        scope: &Scope,
        end: ScopeEnd,
        at: Timestamp,
    ) -> Result<ScopeMark> {
        let mut entries = Vec::with_capacity(scope.inside.len());
        for (name, info) in &scope.inside {
            let outside = match (end, self.find(name)) {
                (ScopeEnd::Dropped, _) => NsId::GONE,
                (ScopeEnd::Promoted, Some(outside)) => outside.id(),
                (ScopeEnd::Promoted, None) => {
                    self.open(log, name, Some((info.ttl(), info.sliding())))?.id()
                }
            };
            entries.push(ScopeEntry { name: name.clone(), outside, inside: info.id() });
        }
        let scopes = self.scopes();
        let order = scopes.iter().filter_map(|s| s.mark.as_ref()).map(|m| m.order).max();
        let order = order.map_or(1, |order| order.saturating_add(1));
        Ok(ScopeMark { end, order, at, is_swept: entries.is_empty(), entries })
    }

    /// Ends a scope as its mark says: handles lead to what takes the place of theirs, or to nothing.
    pub(in crate::engine) fn apply_mark(&self, scope: NsId, mark: ScopeMark) {
        let mut named = self.named.write();
        // First, so that who meets a number of the new world knows that the old ones are gone.
        let gone = self.gone().with(mark.gone());
        *self.refused.write() = gone.clone();
        *self.gone.write() = gone;
        for entry in &mark.entries {
            let (from, to) = match mark.end {
                ScopeEnd::Promoted => (entry.outside, entry.inside),
                ScopeEnd::Dropped => (entry.inside, NsId::GONE),
            };
            let infos = named.by_name.values().chain([&self.default]);
            infos.filter(|info| info.id() == from).for_each(|info| info.replace(to));
            if mark.end == ScopeEnd::Promoted {
                // By name as well: the mark of an earlier promotion may be lost in damage.
                match entry.name.as_str() {
                    DEFAULT_NAME => self.default.replace(to),
                    name => named.by_name.get(name).iter().for_each(|info| info.replace(to)),
                }
            }
        }
        named.scope(scope).mark = Some(mark);
    }

    /// Returns the scopes whose space has not been looked for, and the numbers that they have left behind.
    pub(in crate::engine) fn unswept(&self) -> Option<(Vec<NsId>, Gone)> {
        if self.gone.read().is_empty() {
            return None;
        }
        let named = self.named.read();
        let mut scopes = Vec::new();
        let mut gone = Gone::default();
        for scope in named.scopes.values() {
            if let Some(mark) = scope.mark.as_ref().filter(|mark| !mark.is_swept) {
                scopes.push(scope.number);
                gone = gone.with(mark.gone());
            }
        }
        (!scopes.is_empty()).then_some((scopes, gone))
    }

    /// Notes that the space of what a scope left behind has been looked for.
    pub(in crate::engine) fn note_swept(&self, scope: NsId) {
        if let Some(mark) = &mut self.named.write().scope(scope).mark {
            mark.is_swept = true;
        }
    }
}
