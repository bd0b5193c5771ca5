//! The handle of a topic.

use crate::engine::{Durability, Engine, NsInfo};
use crate::error::{Error, Result};
use crate::id::{Family, NsId};
use crate::limits;
use crate::outbox::backlog::{Backlog, Backlogs};
use crate::store::{Namespace, Store};
use crate::sync::{Arc, AtomicU64, Ordering};
use std::fmt;
use std::time::Duration;

/// A topic of the outbox; see [`Store::outbox`]. A handle: cheap to clone, safe to share, and it keeps the store open.
#[derive(Clone)]
pub struct Outbox {
    pub(super) store: Store,
    pub(super) info: Arc<NsInfo>,
    backlogs: Arc<Backlogs>,
    pub(super) options: OutboxOptions,
    /// The key space of the messages that were read last, or that stood there when the handle was opened. Positions of
    /// others come from the same sequence, and say nothing here.
    read_in: Arc<AtomicU64>,
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox")
            .field("store", &self.store)
            .field("name", &self.info.name)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// What stands under the name of a topic at one moment. A promoted replay scope may put something else there at any time, so
/// who needs more than one of these asks for all of them at once.
#[derive(Debug, Clone)]
pub(super) struct View {
    /// The key space of its messages.
    pub(super) ns: NsId,
    /// The position below which every message is there.
    pub(super) stable_end: u64,
    pub(super) backlog: Arc<Backlog>,
}

/// What becomes of a commit with messages for which a topic has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum OnFull {
    /// It is rejected, with [`OutboxFull`](crate::transaction::Rejection::OutboxFull).
    #[default]
    Refuse,
    /// It waits for room at most so long, then it is rejected.
    Wait(Duration),
}

/// The policies of a topic. They are not stored: each handle has its own, which count for what is emitted by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxOptions {
    pub(super) pending_max: usize,
    pub(super) on_full: OnFull,
}

impl Default for OutboxOptions {
    fn default() -> Self {
        Self { pending_max: limits::OUTBOX_PENDING_MAX_DEFAULT, on_full: OnFull::default() }
    }
}

impl OutboxOptions {
    /// Creates options with the defaults: at most 1,000,000 messages wait, and a commit that would exceed that is
    /// rejected.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many messages may wait. A message that waits takes about 200 bytes of memory.
    ///
    /// Exact, whatever the number of threads that emit. Two kinds are not refused for it: messages of a prepared
    /// transaction when that is committed, because that is past refusing, and dead letters that are redriven.
    #[must_use]
    pub fn pending_max(self, pending_max: usize) -> Self {
        Self { pending_max, ..self }
    }

    /// Sets what becomes of a commit for which there is no room.
    #[must_use]
    pub fn on_full(self, on_full: OnFull) -> Self {
        Self { on_full, ..self }
    }
}

impl Store {
    /// Returns the topic of this name, with the default options.
    ///
    /// The first call after opening reads all messages that wait, of all topics.
    ///
    /// # Errors
    ///
    /// As [`Store::namespace`], and [`Repair`](crate::ErrorKind::Repair) if a message that waits is damaged.
    pub fn outbox(&self, topic: &str) -> Result<Outbox> {
        self.outbox_with(topic, OutboxOptions::default())
    }

    /// Returns the topic of this name.
    ///
    /// # Errors
    ///
    /// As [`outbox`](Self::outbox), and [`FixCall`](crate::ErrorKind::FixCall) if nothing may wait.
    pub fn outbox_with(&self, topic: &str, options: OutboxOptions) -> Result<Outbox> {
        let info = self.engine().namespace(topic, None)?;
        Outbox::of(self.clone(), info, options)
    }
}

/// Returns what waits in all topics of a store. Who writes messages calls this first.
pub(super) fn backlogs(store: &Store) -> Result<Arc<Backlogs>> {
    let backlogs = store.engine().attach_once(Backlogs::default)?;
    backlogs.keep_copies();
    Ok(backlogs)
}

impl Outbox {
    /// Returns the topic whose messages are in this namespace.
    pub(crate) fn of(store: Store, info: Arc<NsInfo>, options: OutboxOptions) -> Result<Self> {
        if options.pending_max == 0 {
            return Err(Error::invalid("a topic in which no message may wait; allow at least one"));
        }
        let backlogs = backlogs(&store)?;
        let read_in = Arc::new(AtomicU64::new(info.id().rows(Family::OUTBOX).0.into()));
        Ok(Self { store, info, backlogs, options, read_in })
    }

    /// Returns what waits in the topic, and its key space. A promoted replay scope may have put another in its place.
    pub(super) fn backlog(&self) -> (NsId, Arc<Backlog>) {
        let ns = self.ns();
        (ns, self.backlogs.of(ns))
    }

    /// Returns the name of the topic.
    pub fn name(&self) -> &str {
        &self.info.name
    }

    /// Returns the store it belongs to.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns the namespace in which given ids of messages are claimed.
    pub(crate) fn namespace(&self) -> Namespace {
        Namespace::new(self.store.clone(), Arc::clone(&self.info))
    }

    /// Returns whether both mean the same topic of the same store.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.backlogs, &other.backlogs) && self.ns() == other.ns()
    }

    pub(super) fn engine(&self) -> &Engine {
        self.store.engine()
    }

    /// Returns the key space of its messages.
    pub(super) fn ns(&self) -> NsId {
        self.info.id().rows(Family::OUTBOX)
    }

    /// Returns whether a position that the caller has is one of these messages, and not from before a promotion.
    pub(super) fn has_read_in(&self, ns: NsId) -> bool {
        self.read_in.load(Ordering::Acquire) == u64::from(ns.0)
    }

    /// Notes in which key space messages were read. Who has read none there has no position of it yet.
    pub(super) fn note_read_in(&self, ns: NsId) {
        self.read_in.store(ns.0.into(), Ordering::Release);
    }

    pub(super) fn durability(&self) -> Durability {
        self.engine().settings().durability
    }

    /// Returns what stands under its name now. What is below the stable end is in the backlog by then. An error if the replay
    /// scope of the topic was dropped.
    pub(super) fn view(&self) -> Result<View> {
        let ns = self.ns();
        Engine::row_key(Family::OUTBOX, ns.listed(), b"-")?;
        let stable_end = self.engine().stable_end(ns)?;
        Ok(View { ns, stable_end, backlog: self.backlogs.of(ns) })
    }
}
