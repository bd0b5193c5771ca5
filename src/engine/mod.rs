//! The engine: the only way to the data. It owns the core and what upkeep keeps, and passes each call to its room.
//!
//! - `write` turns a decision into one record.
//! - `upkeep` saves space in the background.
//! - `recovery` turns a folder into a store.
//! - `core` has what they share: locks, handles, and what one room leaves for another.
//! - `catalog` knows what is on disk.
//!
//! Imports point down this list, and the first three do not import each other.

mod catalog;
mod core;
mod recovery;
mod threads;
mod upkeep;
mod write;

pub use self::core::{Durability, NamespaceStats, Seen, Stats};
pub use recovery::{
    CommitShape, ExportEntry, History, HistoryEvent, HistoryKind, LogPosition, LostBytes,
    MissingSegment, NamespaceSummary, RepairReport, RowKind, StoreSummary, VerifyReport,
};
pub use write::{Claim, Held, ImportEntry, PreparedState, Reserved};
#[allow(unreachable_pub, reason = "public with the feature `testing`")]
pub use write::{Committed, Expect};

#[cfg(feature = "testing")]
pub(crate) use self::core::Format;
pub(crate) use self::core::{
    Bell, Bells, Replay, RowChanged, RowState, Settings, TopicEvent, Watch, watermark_key,
};
pub(crate) use crate::id::LongIds;
#[cfg(feature = "testing")]
pub(crate) use crate::wal::UseLanes;
#[cfg(feature = "fuzzing")]
pub(crate) use catalog::manifest::{fuzz_decode as decode_manifest, fuzz_frame as frame_manifest};
pub(crate) use catalog::namespaces::{NsInfo, Scope};
pub(crate) use catalog::scopes::ScopeEnd;
pub(crate) use recovery::{Inspector, repair, restore};
pub(crate) use threads::Threads;
#[cfg(feature = "fuzzing")]
pub(crate) use write::fuzz_prepared;
pub(crate) use write::{
    ClaimSpec, ClaimWrite, Hold, Intent, OwnedRow, Phase, Prepared, Refusals, RestsOn, Row,
    RowChange, RowWrite, SetCommitted, WaitBudget, WriteSet,
};

use self::core::Core;
use crate::error::{Error, Result};
use crate::id::{Family, Key, NsId};
use crate::snapshot::{SnapshotOptions, SnapshotReport, SnapshotTarget};
#[cfg(feature = "testing")]
use crate::sync::Timer;
use crate::sync::{Arc, Started, instant_in};
use crate::time::{Moment, Ttl};
use crate::wal::Lsn;
use catalog::namespaces::Registry;
use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};
use upkeep::Upkeep;

/// An open store.
pub(crate) struct Engine {
    core: Core,
    upkeep: Upkeep,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("dir", &self.core.dir).finish_non_exhaustive()
    }
}

/// Opens a store, or creates a new one.
pub(crate) fn open(dir: &Path, settings: Settings) -> Result<Arc<Engine>> {
    let core = recovery::open(dir, settings)?;
    // Before there is a handle: it leads to what a promotion has put there.
    write::load_scopes(&core, core.counters.rebuilds.get() > 0)?;
    write::hold_prepared(&core)?;
    if let Err(error) = write::note_flushed_watermarks(&core) {
        tracing::warn!(%error, "watermarks of event time were not read: no space of theirs is freed yet");
    }
    Ok(Arc::new(Engine { core, upkeep: Upkeep::default() }))
}

impl Engine {
    pub(crate) fn settings(&self) -> &Settings {
        &self.core.settings
    }

    pub(crate) fn namespaces(&self) -> &Registry {
        &self.core.namespaces
    }

    /// Returns an error in a forked child, which must not touch anything of the store.
    pub(crate) fn check_home(&self) -> Result<()> {
        self.core.check_home()
    }

    /// Closes the store in order. The background threads have stopped.
    pub(crate) fn close(&self) -> Result<()> {
        self.core.close()
    }

    /// Takes a snapshot. Each shard's lock is held briefly.
    pub(crate) fn stats(&self) -> Stats {
        self.core.stats()
    }

    /// Returns the namespace of this name. A new one is written to the log before it is used, and so are changed
    /// settings.
    pub(crate) fn namespace(
        &self,
        name: &str,
        settings: Option<(Ttl, bool)>,
    ) -> Result<Arc<NsInfo>> {
        self.core.health.check()?;
        self.core.namespaces.open(&self.core.log, name, settings)
    }
}

/// Calls that write, or that look up what was written.
impl Engine {
    /// Claims one id.
    #[inline]
    pub(crate) fn claim(&self, ns: &NsInfo, id: &[u8], spec: ClaimSpec) -> Result<Claim> {
        write::claim(&self.core, ns, id, spec)
    }

    /// Claims all ids as one record, or none.
    pub(crate) fn claim_batch<I: AsRef<[u8]>>(
        &self,
        ns: &NsInfo,
        ids: &[I],
        spec: ClaimSpec,
    ) -> Result<Vec<Claim>> {
        write::claim_batch(&self.core, ns, ids, spec)
    }

    /// Reserves the ids of the batch that are neither claimed nor held.
    pub(crate) fn reserve<I: AsRef<[u8]>>(
        &self,
        ns: &NsInfo,
        ids: &[I],
        wait: Option<Duration>,
    ) -> Result<(Hold, Vec<Reserved>, Option<RestsOn>)> {
        write::reserve(&self.core, ns, ids, &mut WaitBudget::of(wait))
    }

    /// Turns all held ids into claims, as one record. The caller waits for durability.
    pub(crate) fn confirm(
        &self,
        ns: &NsInfo,
        hold: &Hold,
        spec: ClaimSpec,
    ) -> Result<Option<RestsOn>> {
        write::confirm(&self.core, ns, hold, spec, &mut WaitBudget::of(spec.wait))
    }

    /// Releases the ids without a claim. Harmless after `confirm`.
    pub(crate) fn release(&self, hold: &Hold) {
        write::release(&self.core, hold);
    }

    /// Returns the ids that have been reserved longest, of one namespace or of all.
    pub(crate) fn held(&self, ns: Option<NsId>) -> Vec<Held> {
        write::held(&self.core, ns)
    }

    /// Returns the live claim of an id, if there is one.
    pub(crate) fn get(
        &self,
        ns: &NsInfo,
        id: &[u8],
        durability: Durability,
    ) -> Result<Option<Seen>> {
        write::get(&self.core, ns, id, durability)
    }

    /// Ends the live claim of an id; returns whether there was one.
    pub(crate) fn forget(&self, ns: &NsInfo, id: &[u8], spec: ClaimSpec) -> Result<bool> {
        write::forget(&self.core, ns, id, spec)
    }

    /// Imports the claims of ids that are not live here; returns how many.
    pub(crate) fn import(
        &self,
        ns: &NsInfo,
        entries: &[ImportEntry],
        durability: Durability,
    ) -> Result<u64> {
        write::import(&self.core, ns, entries, durability)
    }

    /// Waits until the record that an answer depends on is as durable as asked.
    pub(crate) fn await_durable(&self, level: Durability, rests_on: Option<RestsOn>) -> Result<()> {
        write::await_durable(&self.core, level, rests_on)
    }

    /// Raises everything before this call to [`Durability::Disk`].
    pub(crate) fn sync(&self) -> Result<()> {
        write::sync(&self.core)
    }
}

/// The same as futures. Each returns what its answer depends on; the caller waits for that.
impl Engine {
    pub(crate) async fn claim_async(
        &self,
        ns: &NsInfo,
        id: &[u8],
        spec: ClaimSpec,
    ) -> Result<(Claim, Option<RestsOn>)> {
        write::claim_async(&self.core, ns, id, spec).await
    }

    pub(crate) async fn claim_batch_async<I: AsRef<[u8]>>(
        &self,
        ns: &NsInfo,
        ids: &[I],
        spec: ClaimSpec,
    ) -> Result<(Vec<Claim>, Option<RestsOn>)> {
        write::claim_batch_async(&self.core, ns, ids, spec).await
    }

    pub(crate) async fn reserve_async<I: AsRef<[u8]>>(
        &self,
        ns: &NsInfo,
        ids: &[I],
        wait: Option<Duration>,
    ) -> Result<(Hold, Vec<Reserved>, Option<RestsOn>)> {
        write::reserve_async(&self.core, ns, ids, wait).await
    }

    pub(crate) async fn confirm_async(
        &self,
        ns: &NsInfo,
        hold: &Hold,
        spec: ClaimSpec,
    ) -> Result<Option<RestsOn>> {
        write::confirm_async(&self.core, ns, hold, spec).await
    }

    pub(crate) async fn forget_async(
        &self,
        ns: &NsInfo,
        id: &[u8],
        spec: ClaimSpec,
    ) -> Result<(bool, Option<RestsOn>)> {
        write::forget_async(&self.core, ns, id, spec).await
    }

    /// Returns the end of what is before this call.
    pub(crate) fn sync_point(&self) -> Result<RestsOn> {
        write::sync_point(&self.core)
    }

    /// Returns what must be synced before the record that an answer depends on is as durable as asked.
    pub(crate) fn unsynced(
        &self,
        level: Durability,
        rests_on: Option<RestsOn>,
    ) -> Result<Option<Lsn>> {
        write::unsynced(&self.core, level, rests_on)
    }

    /// Returns once everything before `lsn` is on disk. [`Threads::start_syncer`] must have been called.
    pub(crate) async fn synced(&self, lsn: Lsn) -> Result<()> {
        write::synced(&self.core, lsn).await
    }
}

/// Rows: keys with values, below everything that keeps more than claims.
impl Engine {
    /// Returns the key of a row.
    pub(crate) fn row_key(family: Family, ns: NsId, id: &[u8]) -> Result<Key<'_>> {
        write::row_key(family, ns, id)
    }

    /// Returns a live row.
    pub(crate) fn get_row(&self, key: Key<'_>, durability: Durability) -> Result<Option<Row>> {
        write::get_row(&self.core, key, durability)
    }

    /// Returns a live row, and without waiting for it what its durability rests on.
    pub(crate) fn get_row_only(&self, key: Key<'_>) -> Result<(Option<Row>, Option<RestsOn>)> {
        write::get_row_only(&self.core, key)
    }

    /// Writes rows as one record: all of them, or none. The caller has those who wait for them woken, by dropping
    /// `bells`.
    pub(crate) fn commit_rows(
        &self,
        writes: &[RowWrite<'_>],
        durability: Durability,
        bells: &mut Bells,
    ) -> Result<Committed> {
        write::commit_rows(&self.core, writes, durability, bells)
    }

    /// Writes claims and rows as one record: all of them, or none. Does not wait for reservations, nor for what their
    /// durability rests on.
    pub(crate) fn commit_only(
        &self,
        set: WriteSet<'_>,
        durability: Durability,
        bells: &mut Bells,
        wait_budget: &mut WaitBudget,
    ) -> Result<(SetCommitted, Option<RestsOn>)> {
        write::commit_only(&self.core, set, durability, bells, wait_budget)
    }

    /// Attempts a call until it need not wait, without blocking the thread. An attempt that gives up has changed nothing.
    pub(crate) async fn in_time<T>(
        &self,
        attempt: impl FnMut(&mut WaitBudget) -> Result<T>,
    ) -> Result<T> {
        write::in_time(&self.core, None, attempt).await
    }

    /// Attempts a call as [`in_time`](Self::in_time) does, and blocks the thread between the attempts: whatever an attempt
    /// locks is free while the call waits (I9). `wait` is how long it may; `None` uses the store's `wait_max`.
    pub(crate) fn in_attempts<T>(
        &self,
        wait: Option<Duration>,
        attempt: impl FnMut(&mut WaitBudget) -> Result<T>,
    ) -> Result<T> {
        write::in_attempts(&self.core, wait, attempt)
    }

    /// Writes claims and rows as one record: all of them, or none. Does not wait for reservations.
    pub(crate) fn commit(
        &self,
        set: WriteSet<'_>,
        durability: Durability,
        bells: &mut Bells,
    ) -> Result<SetCommitted> {
        write::commit(&self.core, set, durability, bells)
    }

    /// Waits until the current holder gives up an id.
    pub(crate) fn await_release(&self, key: Key<'_>, wait_budget: &mut WaitBudget) -> Result<()> {
        write::await_release(&self.core, key, wait_budget)
    }

    /// Waits until no replay scope is about to end, for `wait_max` at most over all waits of a call (I12). Returns whether
    /// none is.
    pub(crate) fn await_scope_end(&self, until: &mut Option<Instant>) -> bool {
        let until = *until.get_or_insert_with(|| instant_in(self.core.settings.wait_max));
        self.core.namespaces.ending.wait(until)
    }

    /// Waits until no replay scope is about to end, as [`await_scope_end`](Self::await_scope_end) does, as a future.
    pub(crate) async fn scope_end(&self, until: &mut Option<Instant>) -> Result<bool> {
        let until = *until.get_or_insert_with(|| instant_in(self.core.settings.wait_max));
        write::scope_end(&self.core, until).await
    }

    /// Returns what speaks against a commit now, and without waiting for it what the durability of that rests on.
    pub(crate) fn refusals(
        &self,
        set: WriteSet<'_>,
        wait_budget: &mut WaitBudget,
    ) -> Result<(Refusals, Option<RestsOn>)> {
        write::refusals_only(&self.core, set, wait_budget)
    }

    /// Lets go of what a prepared transaction holds, once its end is stored. `sequence` is that of its row.
    pub(crate) fn release_prepared(&self, intent: &Intent, sequence: u64) {
        write::release_prepared(&self.core, intent, sequence);
    }

    /// Returns the sequence below which no message is on its way to a topic any more: each is entered, or never will be.
    pub(crate) fn stable_end(&self, topic: NsId) -> Result<u64> {
        self.core.health.check()?;
        Ok(self.core.in_flight.stable_end(topic, &self.core.sequence))
    }

    /// Watches a topic: its bell rings after each such event, until the result is dropped.
    pub(crate) fn watch_topic(&self, topic: NsId, event: TopicEvent) -> Watch {
        self.core.watches.watch(event.key(topic))
    }

    /// Has those woken who wait for this event of a topic, once `bells` is dropped.
    pub(crate) fn tell_topic(&self, topic: NsId, event: TopicEvent, bells: &mut Bells) {
        self.core.watches.add_bells(std::iter::once(event.key(topic)), bells);
    }

    /// Watches a row: its bell rings after each change, until the result is dropped.
    pub(crate) fn watch(&self, key: Key<'_>) -> Watch {
        self.core.watches.watch(key)
    }

    /// Returns the timer that wakes those who wait for a time, with its thread.
    pub(crate) fn alarms(&self) -> Result<Started<'_>> {
        self.core.start(&self.core.alarms)
    }

    /// Returns the timer that renews leases, with its thread.
    pub(crate) fn renewals(&self) -> Result<Started<'_>> {
        self.core.start(&self.core.renewals)
    }

    /// Returns the first sequence of rows that this opening gives. Rows below it were written by processes that are
    /// gone.
    pub(crate) fn first_sequence(&self) -> u64 {
        self.core.first_sequence
    }

    /// Returns a number that tells this store from others, also after a reopening.
    pub(crate) fn tag(&self) -> u64 {
        self.core.hasher.tag()
    }

    /// Returns the folder of the store.
    pub(crate) fn dir(&self) -> &Path {
        &self.core.dir
    }

    /// Returns the engine's time.
    pub(crate) fn moment(&self) -> Moment {
        self.core.time.moment()
    }

    /// Attaches what a family keeps in memory, and tells it every live row.
    pub(crate) fn attach(&self, family: Arc<dyn Replay>) -> Result<()> {
        write::attach(&self.core, family)
    }

    /// Passes every row under this number, that of a family in a namespace, that is live now to `visit`, as all of them are at this moment, until
    /// that says stop. One whose value is damaged is passed as an error.
    pub(crate) fn scan_rows(
        &self,
        of: NsId,
        durability: Durability,
        visit: impl FnMut(Key<'_>, Result<Row>) -> ControlFlow<()>,
    ) -> Result<()> {
        write::scan_rows(&self.core, of, durability, visit)
    }

    /// Returns what is attached of this type. If nothing is, attaches what `new` returns. Who writes rows of the family
    /// calls this first.
    pub(crate) fn attach_once<T: Replay>(&self, new: impl FnOnce() -> T) -> Result<Arc<T>> {
        write::attach_once(&self.core, new)
    }

    /// Passes every live row of a family to `visit`, in no meaningful order. One whose value is damaged is passed as an
    /// error.
    pub(crate) fn list_rows(
        &self,
        family: Family,
        visit: impl FnMut(Key<'_>, Result<Row>) -> Result<()>,
    ) -> Result<()> {
        write::list_rows(&self.core, family, visit)
    }
}

/// Replay scopes.
impl Engine {
    /// Returns the scope of this name, which begins unless there is one that was not dropped.
    pub(crate) fn open_scope(&self, name: &str) -> Result<Scope> {
        write::open_scope(&self.core, name)
    }

    /// Returns the namespace of this name inside a scope.
    pub(crate) fn scope_namespace(
        &self,
        scope: NsId,
        name: &str,
        settings: Option<(Ttl, bool)>,
    ) -> Result<Arc<NsInfo>> {
        write::scope_namespace(&self.core, scope, name, settings)
    }

    /// Ends a scope with one row; returns whether this call has ended it.
    pub(crate) fn end_scope(&self, scope: NsId, end: ScopeEnd) -> Result<bool> {
        write::end_scope(&self.core, scope, end)
    }

    /// Writes which scopes the background is done with.
    fn note_swept_scopes(&self) -> Result<()> {
        let swept = self.upkeep.take_swept_scopes();
        swept.into_iter().try_for_each(|scope| write::mark_swept(&self.core, scope))
    }
}

/// Calls that read the whole store.
impl Engine {
    /// Passes the key of every live claim to `visit`, in no meaningful order.
    pub(crate) fn visit_claims(&self, mut visit: impl FnMut(Key<'_>) -> Result<()>) -> Result<()> {
        let visited = recovery::visit_claims(&self.core, |key, _| match visit(key) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        })?;
        match visited {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(error),
        }
    }

    /// Returns whether there is a live claim or row of this key.
    pub(crate) fn is_live(&self, key: Key<'_>) -> Result<bool> {
        write::is_live(&self.core, key)
    }

    /// Passes every live claim to `visit`, in no meaningful order.
    pub(crate) fn export(
        &self,
        mut visit: impl FnMut(ExportEntry<'_>) -> io::Result<()>,
    ) -> Result<u64> {
        let visited = recovery::export(&self.core, |entry| match visit(entry) {
            Ok(()) => ControlFlow::Continue(()),
            Err(e) => ControlFlow::Break(e),
        })?;
        match visited {
            ControlFlow::Continue(exported) => Ok(exported),
            ControlFlow::Break(e) => Err(Error::io("write the export of", &self.core.dir, e)),
        }
    }

    /// Reads the whole log for what it knows of an id.
    pub(crate) fn history(&self, ns: &NsInfo, id: &[u8]) -> Result<History> {
        recovery::history(&self.core, ns.id(), id)
    }

    /// Takes a snapshot while claims go on.
    pub(crate) fn snapshot(
        &self,
        target: &dyn SnapshotTarget,
        options: SnapshotOptions,
    ) -> Result<SnapshotReport> {
        recovery::snapshot(&self.core, target, options)
    }

    /// Returns the epoch of a restored store; 0 for one that was never restored.
    pub(crate) fn epoch(&self) -> u64 {
        self.core.manifest.lock().body.origin.map_or(0, |origin| origin.epoch)
    }

    /// Reads the whole store while claims go on. Changes nothing and heals nothing.
    pub(crate) fn verify(&self) -> Result<VerifyReport> {
        recovery::verify(&self.core)
    }

    /// Forgets every id of a namespace, one by one; returns how many had a live claim.
    pub(crate) fn forget_all(&self, ns: &NsInfo, spec: ClaimSpec) -> Result<u64> {
        // One sync for all of them is enough.
        let durability = match spec.durability {
            Durability::Disk => Durability::Process,
            other => other,
        };
        let one = ClaimSpec { durability, ..spec };
        let mut forgotten = 0;
        let number = ns.id();
        if number == NsId::GONE {
            // As every call on it says.
            Key::of(number, b"-", None)?;
        }
        let visited = recovery::visit_claims(&self.core, |key, _| {
            if key.ns.listed() != number {
                return ControlFlow::Continue(());
            }
            match write::forget_key(&self.core, key, one) {
                Ok(was_live) => {
                    forgotten += u64::from(was_live);
                    ControlFlow::Continue(())
                }
                Err(error) => ControlFlow::Break(error),
            }
        })?;
        if let ControlFlow::Break(error) = visited {
            return Err(error);
        }
        if spec.durability == Durability::Disk {
            self.sync()?;
        }
        Ok(forgotten)
    }
}

/// What tests see of the inside.
#[cfg(feature = "testing")]
impl Engine {
    /// Returns what contradicts itself, of a store that nobody uses meanwhile. Reads no file.
    pub(crate) fn validate(&self) -> Vec<String> {
        recovery::validate(&self.core)
    }

    /// Returns how many futures wait for something to change in a shard, for a sync, and for their deadline.
    pub(crate) fn waiting_futures(&self) -> [usize; 3] {
        let core = &self.core;
        let shards = core.shards.iter().map(|cell| cell.futures.waiting()).sum();
        [shards, core.log.waiting_futures(), core.alarms.waiting()]
    }

    /// Returns how many leases wait to be renewed.
    pub(crate) fn waiting_renewals(&self) -> usize {
        self.core.renewals.waiting()
    }

    /// No thread can be had for a timer from now on.
    pub(crate) fn deny_timers(&self) {
        [&self.core.alarms, &self.core.renewals].into_iter().for_each(Timer::deny_thread);
    }

    /// Returns how many ids and rows of each shard are not flushed.
    pub(crate) fn unflushed(&self) -> Vec<usize> {
        self.core.shards.iter().map(|cell| cell.shard.lock().unflushed().0).collect()
    }

    /// Returns the numbers of the shards that somebody has locked.
    pub(crate) fn locked_shards(&self) -> Vec<usize> {
        let all = self.core.shards.iter();
        all.filter(|cell| cell.shard.try_lock().is_none()).map(|cell| cell.number).collect()
    }

    /// Locks shards until the result is dropped.
    pub(crate) fn lock_shards<'a>(&'a self, numbers: &[usize]) -> impl fmt::Debug + use<'a> {
        let shards = &self.core.shards;
        numbers.iter().map(|number| shards[*number].shard.lock()).collect::<Vec<_>>()
    }

    /// Appends a claim to the log, and does nothing else.
    pub(crate) fn append_alone(&self, shard: usize, id: &[u8]) -> Result<()> {
        use crate::{expiry::Version, time::Ttl, wal::AppendLevel};
        let (core, ttl, key) = (&self.core, Ttl::FOREVER, Key { ns: NsId(0), id });
        let now = core.time.now();
        let level = AppendLevel::Process;
        core.log.append_claim(shard, level, now, ttl, key, Version::claim(now, ttl)).map(drop)
    }

    /// Reads small runs and the full segments of the log, and returns what holds something else than is believed.
    pub(crate) fn recount_files(&self) -> Result<Vec<String>> {
        recovery::recount_files(&self.core)
    }

    /// Runs all background work of a store without threads, until none is left.
    pub(crate) fn run_background(&self) -> Result<()> {
        self.upkeep.run_background(&self.core)?;
        self.note_swept_scopes()
    }

    /// Freezes every shard that is not being flushed.
    pub(crate) fn freeze_all(&self) {
        upkeep::freeze_all(&self.core);
    }
}
