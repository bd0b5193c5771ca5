//! A replay scope: the handle, and what can be said of one.

use crate::engine::{Engine, NsInfo, Scope, ScopeEnd};
use crate::error::Result;
use crate::event_time::{EventTime, EventTimeOptions};
use crate::id::NsId;
use crate::ledger::{Ledger, LedgerOptions};
use crate::offsets::Source;
use crate::outbox::{Outbox, OutboxOptions};
use crate::replay::count::{ScopeCount, count};
use crate::store::{Namespace, NamespaceOptions, Store};
use crate::sync::Arc;
use crate::table::{RawTable, Table};
use crate::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What has become of a replay scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReplayState {
    /// It takes events.
    Open,
    /// What was inside is outside now.
    Promoted,
    /// What was inside is gone.
    Dropped,
}

impl ReplayState {
    fn of(end: Option<ScopeEnd>) -> Self {
        match end {
            None => Self::Open,
            Some(ScopeEnd::Promoted) => Self::Promoted,
            Some(ScopeEnd::Dropped) => Self::Dropped,
        }
    }
}

/// A scope as [`Store::replays`] lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplaySummary {
    /// Its name.
    pub name: String,
    /// What has become of it.
    pub state: ReplayState,
    /// When it began.
    pub created: Timestamp,
    /// When it was promoted or dropped.
    pub ended: Option<Timestamp>,
    /// The names that were used inside, in alphabetical order.
    pub names: Vec<String>,
}

/// Names under a name: inside events are first again, outside nothing changes; see [`Store::replay`]. A handle: cheap to
/// clone, safe to share, and it keeps the store open.
///
/// # After a promotion
///
/// Every name that was used inside has taken the place of the one outside, with all that is under it: claims, the records
/// of its ledger, whatever else is kept there. What stood there is gone, as if it had been dropped. A name that was not
/// used inside stays as it is, and so do the settings (ttl, sliding) of a name that exists outside. Handles follow, those
/// of the default namespace included, and handles of names inside lead to the same as those outside.
///
/// - **A call under way** counts as made before the promotion if it looked before the handles changed: it is answered by
///   what is replaced, and goes with it. No call is answered by half of each: a transaction over several namespaces that
///   looked at some before and at some after is refused with [`Retry`](crate::ErrorKind::Retry), also if it was only told
///   of duplicates before.
/// - **An attempt of a ledger** that began before is told that its record is gone or somebody else's. It changes nothing
///   in the new world, and its work counts only if the replay has done it.
/// - **An owner of a partition** from before is fenced, also one of the same epoch; one that took it over inside goes on.
///   **A consumer without an owner** must read its positions anew: it may stand ahead of what the replay has read, and
///   what it commits would pass over the rest. A transaction that it began before is refused.
/// - **A position of a topic** from before says nothing of what was promoted: [`Outbox::read_after`] begins at the beginning,
///   and [`Outbox::acknowledge_through`] removes nothing.
/// - **A result of windows** from before acknowledges none of what was promoted.
/// - **A reservation** from before cannot be confirmed: [`FixCall`](crate::ErrorKind::FixCall). Reserve again.
/// - **Other scopes** stay as they are. What is outside for them is the promoted world from now on, for
///   [`count`](Self::count) and for a promotion of their own, which replaces it.
///
/// # Space
///
/// What is replaced or dropped answers to nobody at once. Its space comes back in the background, which reads log and
/// index once for that. Numbers of namespaces are not used again, so each name inside a scope costs about a hundred bytes
/// for ever.
#[derive(Debug, Clone)]
pub struct ReplayScope {
    store: Store,
    number: NsId,
    name: Arc<str>,
    created: Timestamp,
}

impl Store {
    /// Returns the replay scope of this name, and begins it if there is none.
    ///
    /// Several scopes may be open at once; they know nothing of each other. A scope that was promoted keeps its name, so
    /// that a promotion that was interrupted can be asked for again; one that was dropped gives its name back.
    ///
    /// # Errors
    ///
    /// As [`Store::namespace`].
    pub fn replay(&self, name: &str) -> Result<ReplayScope> {
        let scope = self.engine().open_scope(name)?;
        Ok(ReplayScope::of(self, &scope))
    }

    /// Returns the replay scope of this name, if there is one that was not dropped.
    pub fn find_replay(&self, name: &str) -> Option<ReplayScope> {
        self.engine().check_home().ok()?;
        let scope = self.engine().namespaces().find_scope(name)?;
        Some(ReplayScope::of(self, &scope))
    }

    /// Lists all replay scopes that there were, in the order of their beginning.
    ///
    /// # Errors
    ///
    /// [`FixCall`](crate::ErrorKind::FixCall) in a forked child.
    pub fn replays(&self) -> Result<Vec<ReplaySummary>> {
        self.engine().check_home()?;
        Ok(self.engine().namespaces().scopes().iter().map(summary).collect())
    }
}

fn summary(scope: &Scope) -> ReplaySummary {
    ReplaySummary {
        name: scope.name.clone(),
        state: ReplayState::of(scope.end()),
        created: scope.created,
        ended: scope.ended(),
        names: scope.names().map(|info| info.name.clone()).collect(),
    }
}

impl ReplayScope {
    fn of(store: &Store, scope: &Scope) -> Self {
        let (number, name, created) = (scope.number, scope.name.as_str().into(), scope.created);
        Self { store: store.clone(), number, name, created }
    }

    fn engine(&self) -> &Engine {
        self.store.engine()
    }

    fn scope(&self) -> Option<Scope> {
        self.engine().namespaces().scope(self.number)
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the store it belongs to.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns when it began.
    pub fn created(&self) -> Timestamp {
        self.created
    }

    /// Returns what has become of it.
    pub fn state(&self) -> ReplayState {
        ReplayState::of(self.scope().and_then(|scope| scope.end()))
    }

    /// Returns the names used inside, in alphabetical order.
    pub fn names(&self) -> Vec<String> {
        self.scope().map_or(Vec::new(), |scope| summary(&scope).names)
    }

    /// Returns what is under this name inside: whatever is kept in a namespace offers a scoped twin with it.
    pub(crate) fn info(&self, name: &str) -> Result<Arc<NsInfo>> {
        self.engine().scope_namespace(self.number, name, None)
    }

    /// Returns the namespace of this name inside. A new one has the settings of the one outside; `default` is the
    /// namespace of calls on the store itself.
    ///
    /// Whatever is kept in a namespace is inside the scope if it is opened in this one.
    ///
    /// # Errors
    ///
    /// As [`Store::namespace`], and [`FixCall`](crate::ErrorKind::FixCall) once the scope has ended.
    pub fn namespace(&self, name: &str) -> Result<Namespace> {
        Ok(Namespace::new(self.store.clone(), self.info(name)?))
    }

    /// Returns the namespace inside that stands for the store's own.
    ///
    /// # Errors
    ///
    /// As [`namespace`](Self::namespace).
    pub fn default_namespace(&self) -> Result<Namespace> {
        self.namespace(self.store.default_namespace().name())
    }

    /// Returns the namespace of this name inside and gives it these settings. They are those outside after a promotion if
    /// there is no such name outside.
    ///
    /// # Errors
    ///
    /// As [`namespace`](Self::namespace) and [`Store::namespace_with`].
    pub fn namespace_with(&self, name: &str, options: NamespaceOptions) -> Result<Namespace> {
        let settings = options.resolved(self.engine());
        let info = self.engine().scope_namespace(self.number, name, Some(settings))?;
        Ok(Namespace::new(self.store.clone(), info))
    }

    /// Returns the ledger of this name inside, with the default policies.
    ///
    /// # Errors
    ///
    /// As [`namespace`](Self::namespace).
    pub fn ledger(&self, name: &str) -> Result<Ledger> {
        self.ledger_with(name, LedgerOptions::new())
    }

    /// Returns the ledger of this name inside, with these policies.
    ///
    /// # Errors
    ///
    /// As [`namespace`](Self::namespace) and [`Store::ledger_with`].
    pub fn ledger_with(&self, name: &str, options: LedgerOptions) -> Result<Ledger> {
        Ledger::of(self.store.clone(), self.info(name)?, options)
    }

    /// Returns the table of this name inside, with values of this type; see [`Store::table`].
    ///
    /// # Errors
    ///
    /// As [`namespace`](Self::namespace).
    pub fn table<V: Serialize + DeserializeOwned>(&self, name: &str) -> Result<Table<V>> {
        Ok(Table::of(self.raw_table(name)?))
    }

    /// Returns the table of this name inside, with values of bytes; see [`Store::raw_table`].
    ///
    /// # Errors
    ///
    /// As [`namespace`](Self::namespace).
    pub fn raw_table(&self, name: &str) -> Result<RawTable> {
        Ok(RawTable::of(self.store.clone(), self.info(name)?))
    }

    /// Returns the source of this name inside: how far the replay has read; see [`Store::source`].
    ///
    /// # Errors
    ///
    /// As [`namespace`](Self::namespace).
    pub fn source(&self, name: &str) -> Result<Source> {
        Ok(Source::of(self.store.clone(), self.info(name)?))
    }

    /// Returns the topic of this name inside. Nobody who reads the one outside sees its messages before a promotion; see
    /// [`Store::outbox`].
    ///
    /// # Errors
    ///
    /// As [`namespace`](Self::namespace).
    pub fn outbox(&self, topic: &str) -> Result<Outbox> {
        self.outbox_with(topic, OutboxOptions::default())
    }

    /// Returns the topic of this name inside; see [`Store::outbox_with`].
    ///
    /// # Errors
    ///
    /// As [`namespace`](Self::namespace) and [`Store::outbox_with`].
    pub fn outbox_with(&self, topic: &str, options: OutboxOptions) -> Result<Outbox> {
        Outbox::of(self.store.clone(), self.info(topic)?, options)
    }

    /// Returns the event-time namespace of this name inside, with a watermark of its own that begins with the first event.
    /// Its [windows](EventTime::windows) are inside, too: open those that the replay is to fill again. Others stay as they
    /// are when the scope is promoted, and go on with what they hold. See [`Store::event_time`].
    ///
    /// # Errors
    ///
    /// As [`namespace`](Self::namespace) and [`Store::event_time`].
    pub fn event_time(&self, name: &str, options: EventTimeOptions) -> Result<EventTime> {
        EventTime::of(&self.store, Some(self.number), options, || self.info(name))
    }

    /// Counts the ids inside, and how many of them would have been duplicates outside, name by name.
    ///
    /// Exact: reads the whole index, and looks up outside whatever is inside. Events that come meanwhile may or may not be
    /// counted. A scope that has ended holds nothing: what was promoted is outside.
    ///
    /// # Errors
    ///
    /// As [`Store::export`].
    pub fn count(&self) -> Result<ScopeCount> {
        let scope = self.scope().filter(|scope| scope.end().is_none());
        let Some(scope) = scope else { return Ok(ScopeCount { namespaces: Vec::new() }) };
        let namespaces = count(self.engine(), &scope)?;
        Ok(ScopeCount { namespaces })
    }

    /// Puts every name used inside in the place of the one outside, in one step: after a crash at any moment it was done,
    /// or not. It is on disk when this returns, whatever the durability of the store. Returns whether this call has done
    /// it; `false` if it was done before.
    ///
    /// # Errors
    ///
    /// As [`Store::claim`], and
    ///
    /// - [`FixCall`](crate::ErrorKind::FixCall) if the scope was dropped, or used some ten thousand names, which are too
    ///   many for one record;
    /// - [`Retry`](crate::ErrorKind::Retry) while a prepared transaction holds something that would be replaced: it must
    ///   be able to end as it was promised. Commit it or roll it back first.
    pub fn promote(&self) -> Result<bool> {
        self.engine().end_scope(self.number, ScopeEnd::Promoted)
    }

    /// Throws away what is inside, in one step: after a crash at any moment it was done, or not. It is on disk when this
    /// returns. Handles of names inside are refused from then on. Returns whether this call has done it; `false` if it was
    /// done before.
    ///
    /// # Errors
    ///
    /// As [`promote`](Self::promote): [`FixCall`](crate::ErrorKind::FixCall) if the scope was promoted,
    /// [`Retry`](crate::ErrorKind::Retry) while a prepared transaction holds something inside.
    pub fn discard(&self) -> Result<bool> {
        self.engine().end_scope(self.number, ScopeEnd::Dropped)
    }
}
