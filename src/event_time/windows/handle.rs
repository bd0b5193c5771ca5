//! The handle of a set of windows.

use crate::codec::Undecodable;
use crate::codec::{decode_value, encode_value};
use crate::engine::{Durability, Engine, Expect, NsInfo, OwnedRow, RowChange, RowWrite, ScopeEnd};
use crate::error::{Error, Result};
use crate::event_time::answer::{Event, EventClaim};
use crate::event_time::handle::EventTime;
use crate::event_time::inner::{Binding, Inner, unreadable};
use crate::event_time::options::OnLate;
use crate::event_time::plan::lasting;
use crate::event_time::windows::index::{AllIndexes, Index};
use crate::event_time::windows::options::{Emit, Window, WindowOptions};
use crate::event_time::windows::row::{Aggregate, SETTINGS, START_BYTES, Settings, Status, id_of};
use crate::id::{Family, NsId};
use crate::limits;
use crate::sync::{Arc, Mutex};
use crate::time::Ttl;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

/// Windows over the events of a namespace, each with an aggregate per key. A handle: cheap to clone, safe to share.
///
/// It follows the promotion of a [replay scope](crate::replay::ReplayScope) that used its name, or that of its events, as
/// [`EventTime`] does. If windows of another size or distance, or over other events, come under its name, its calls are
/// refused with [`FixCall`](crate::ErrorKind::FixCall).
pub struct Windows<A> {
    events: EventTime,
    info: Arc<NsInfo>,
    options: WindowOptions,
    indexes: Arc<AllIndexes>,
    /// What the handle has joined; `None` while it is being made.
    joined: Arc<Mutex<Option<Binding<Index>>>>,
    aggregate: PhantomData<fn() -> A>,
}

impl<A> fmt::Debug for Windows<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Windows")
            .field("events", &self.events)
            .field("name", &self.info.name)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl<A> Clone for Windows<A> {
    fn clone(&self) -> Self {
        let Self { events, info, options, indexes, joined, aggregate } = self;
        let (events, options, aggregate) = (events.clone(), *options, *aggregate);
        let (info, indexes, joined) = (Arc::clone(info), Arc::clone(indexes), Arc::clone(joined));
        Self { events, info, options, indexes, joined, aggregate }
    }
}

/// The result of a window for one key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClosedWindow<A> {
    /// The window.
    pub window: Window,
    /// The key.
    pub key: Vec<u8>,
    /// One for the first result, and one more for each correction. Window, key and revision name this result: it comes
    /// again, with the same aggregate, until it is acknowledged.
    pub revision: u32,
    /// What its events have been folded into.
    pub aggregate: A,
    /// Where it was read: a promoted scope may have a result of the same name.
    ns: NsId,
}

impl<A> ClosedWindow<A> {
    /// Returns whether it replaces a result that was told before.
    pub fn is_correction(&self) -> bool {
        self.revision > 1
    }
}

/// A row as it was read, and what becomes of it.
#[derive(Debug, Default)]
struct Entry {
    row: Aggregate,
    sequence: Option<u64>,
    is_touched: bool,
}

impl EventTime {
    /// Returns the windows of this name over the events of this namespace. Their rows are in a namespace of that name,
    /// inside the same replay scope if the events are in one.
    ///
    /// # Errors
    ///
    /// - [`FixCall`](crate::ErrorKind::FixCall) for a name or options out of bounds, for windows that were opened with
    ///   another size, distance or namespace before, or if late events are claimed all the same
    ///   ([`OnLate::Claim`](crate::event_time::OnLate::Claim)): they would change windows that are complete.
    /// - As [`Store::event_time`](crate::Store::event_time).
    pub fn windows<A>(&self, name: &str, options: WindowOptions) -> Result<Windows<A>>
    where
        A: Default + Serialize + DeserializeOwned,
    {
        options.check()?;
        if self.inner.options.on_late == OnLate::Claim {
            return Err(Error::invalid(
                "windows over events that are claimed however late they are would never be complete",
            ));
        }
        let info = beside(&self.inner, name)?;
        let indexes = self.inner.engine().attach_once(AllIndexes::default)?;
        let (events, joined) = (self.clone(), Arc::new(Mutex::default()));
        let windows = Windows { events, info, options, indexes, joined, aggregate: PhantomData };
        windows.place()?;
        Ok(windows)
    }
}

/// Returns the namespace of this name in the same world as that of the events.
fn beside(events: &Inner, name: &str) -> Result<Arc<NsInfo>> {
    let engine = events.engine();
    let is_open = |scope: &NsId| {
        let scope = engine.namespaces().scope(*scope);
        scope.and_then(|scope| scope.end()) != Some(ScopeEnd::Promoted)
    };
    match events.scope.filter(is_open) {
        Some(scope) => engine.scope_namespace(scope, name, None),
        None => engine.namespace(name, None),
    }
}

impl<A> Windows<A>
where
    A: Default + Serialize + DeserializeOwned,
{
    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.info.name
    }

    /// Claims an event and, if it is first seen, folds it into the aggregate of its key in each window that it is in: one
    /// record holds all of it. A duplicate, or an event that is too late, changes nothing.
    ///
    /// `fold` gets the aggregate of one window; a new one is the default. It runs without a lock, once for each window, and
    /// again if others change the same windows at the same time: what it does besides counts for nothing.
    ///
    /// # Errors
    ///
    /// - [`FixCall`](crate::ErrorKind::FixCall) for a key over 1,016 bytes, an aggregate that cannot be encoded, or a
    ///   stored one that is of another type.
    /// - [`Repair`](crate::ErrorKind::Repair) if the row of a stored aggregate is damaged.
    /// - As [`EventTime::claim_at`].
    pub fn fold(
        &self,
        event: Event<'_>,
        key: impl AsRef<[u8]>,
        fold: impl Fn(&mut A),
    ) -> Result<EventClaim> {
        let answers = self.fold_batch(&[(event, key.as_ref())], |_, aggregate| fold(aggregate))?;
        answers.into_iter().next().ok_or_else(|| Error::bug("an event without an answer"))
    }

    /// Does the same with many events, each with its key, as one record. `fold` gets the index of the event, too.
    ///
    /// # Errors
    ///
    /// As [`fold`](Self::fold), and [`FixCall`](crate::ErrorKind::FixCall) if it would write more than 65,536 rows.
    pub fn fold_batch(
        &self,
        events: &[(Event<'_>, &[u8])],
        fold: impl Fn(usize, &mut A),
    ) -> Result<Vec<EventClaim>> {
        let key_bytes_max = limits::ID_BYTES_MAX - START_BYTES;
        if let Some((_, key)) = events.iter().find(|(_, key)| key.len() > key_bytes_max) {
            return Err(Error::invalid(format!(
                "a key of {} bytes; in a window it has at most {key_bytes_max}",
                key.len()
            )));
        }
        let claims: Vec<Event<'_>> = events.iter().map(|(event, _)| *event).collect();
        let mut ignored = 0;
        let mut place = self.place()?;
        let planned = self.events.commit_with(|| self.events.plan(&claims), &mut |planned| {
            let mut entries = BTreeMap::new();
            ignored = 0;
            place = self.place()?;
            for (n, answer) in planned.answers().iter().enumerate() {
                if answer.is_first_seen() {
                    let (event, key) = &events[n];
                    let fold = |aggregate: &mut A| fold(n, aggregate);
                    ignored += self.fold_one(place.ns, &mut entries, event, key, fold)?;
                }
            }
            Ok(rows(place.ns, entries))
        })?;
        place.known.lock().ignored += ignored;
        let answers = planned.answers();
        planned.note(&self.events.inner);
        Ok(answers)
    }

    /// Folds an event into its windows. Returns how many of them it comes too late for.
    fn fold_one(
        &self,
        ns: NsId,
        entries: &mut BTreeMap<Vec<u8>, Entry>,
        event: &Event<'_>,
        key: &[u8],
        fold: impl Fn(&mut A),
    ) -> Result<u64> {
        let mut ignored = 0;
        for window in self.options.windows_of(event.time) {
            let id = id_of(window.start.as_millis(), key);
            if !entries.contains_key(&id) {
                let entry = self.read(ns, &id)?.unwrap_or_default();
                entries.insert(id.clone(), entry);
            }
            let entry = entries.get_mut(&id).ok_or_else(|| Error::bug("a window is not there"))?;
            if self.options.emit == Emit::AtEnd && entry.row.revision > 0 {
                ignored += 1;
                continue;
            }
            let is_new = entry.sequence.is_none() && !entry.is_touched;
            let mut aggregate =
                if is_new { A::default() } else { self.decode(&entry.row.current)? };
            fold(&mut aggregate);
            let encoded = encode_value(&aggregate);
            entry.row.current = encoded
                .map_err(|why| Error::invalid(format!("an aggregate cannot be encoded: {why}")))?;
            (entry.row.is_changed, entry.is_touched) = (true, true);
        }
        Ok(ignored)
    }

    /// Returns results of windows whose time has come and that are not acknowledged, the earliest windows first, at most
    /// `limit`. Each was marked as told, with its revision, in a commit before it is returned: after a crash, or in the next
    /// call, the same results come again until they are [acknowledged](Self::acknowledge).
    ///
    /// The watermark that counts is the one that is written: see
    /// [`watermark_step`](crate::event_time::EventTimeOptions::watermark_step).
    ///
    /// # Errors
    ///
    /// As [`fold`](Self::fold).
    pub fn take_closed(&self, limit: usize) -> Result<Vec<ClosedWindow<A>>> {
        let limit = limit.min(limits::BATCH_IDS_MAX);
        for _ in 0..limits::RACES_MAX {
            let mut entries = BTreeMap::new();
            let mut closed = Vec::new();
            let mut is_current = true;
            let place = self.place()?;
            for (start, key) in self.due(&place, limit)? {
                let id = id_of(start, &key);
                // Removed since it was listed.
                let Some(mut entry) = self.read_at(place.ns, &id, self.events.durability)? else {
                    is_current = false;
                    break;
                };
                if entry.row.told.is_none() && entry.row.is_changed {
                    entry.row.told = Some(entry.row.current.clone());
                    entry.row.is_changed = false;
                    entry.row.revision += 1;
                    entry.is_touched = true;
                }
                if let Some(told) = &entry.row.told {
                    closed.push(ClosedWindow {
                        window: self.options.window(start),
                        key,
                        revision: entry.row.revision,
                        aggregate: self.decode(told)?,
                        ns: place.ns,
                    });
                }
                entries.insert(id, entry);
            }
            if is_current && self.write(rows(place.ns, entries))? {
                self.remove_complete(limit)?;
                return Ok(closed);
            }
        }
        Err(moved_again_and_again())
    }

    /// Notes that results have been dealt with: they do not come again. One that has been acknowledged, or replaced by a
    /// later revision, is left as it is, so this may be repeated.
    ///
    /// So is a result of other windows, as from before the promotion of a [replay scope](crate::replay::ReplayScope) that
    /// used these: it acknowledges nothing of what was promoted, which has its own result of the same window and key.
    ///
    /// # Errors
    ///
    /// As [`fold`](Self::fold).
    pub fn acknowledge(&self, results: &[ClosedWindow<A>]) -> Result<()> {
        for part in results.chunks(limits::BATCH_IDS_MAX) {
            self.acknowledge_part(part)?;
        }
        self.remove_complete(results.len())
    }

    fn acknowledge_part(&self, results: &[ClosedWindow<A>]) -> Result<()> {
        for _ in 0..limits::RACES_MAX {
            let mut entries = BTreeMap::new();
            let ns = self.place()?.ns;
            for result in results.iter().filter(|result| result.ns == ns) {
                let id = id_of(result.window.start.as_millis(), &result.key);
                let Some(mut entry) = self.read(ns, &id)? else { continue };
                if entry.row.told.is_some() && entry.row.revision == result.revision {
                    entry.row.told = None;
                    entry.is_touched = true;
                    entries.insert(id, entry);
                }
            }
            if self.write(rows(ns, entries))? {
                return Ok(());
            }
        }
        Err(moved_again_and_again())
    }

    /// Returns how many events came after the result of one of their windows was told for good, since the store was opened:
    /// with [`Emit::AtEnd`] only. An event counts once for each such window.
    pub fn ignored(&self) -> u64 {
        self.index().lock().ignored
    }

    /// Returns how many results, by window and key, are not told or not acknowledged, or may still be corrected.
    pub fn pending(&self) -> usize {
        self.index().lock().rows.len()
    }

    /// Returns what is to be told, the earliest windows first.
    fn due(&self, place: &Binding<Index>, limit: usize) -> Result<Vec<(u64, Vec<u8>)>> {
        let watermark = self.watermark()?;
        let lateness = match self.options.emit {
            Emit::WhenComplete => self.events.inner.options.lateness_ms(),
            Emit::AtEnd | Emit::AtEndAndCorrected => 0,
        };
        let is_due = |status: &Option<Status>| {
            status.is_none_or(|status| status.is_told || status.is_changed)
        };
        Ok(self.passed(place, watermark, lateness, limit, is_due))
    }

    /// Removes rows that have been acknowledged and that no event can change any more.
    fn remove_complete(&self, limit: usize) -> Result<()> {
        let lateness = self.events.inner.options.lateness_ms();
        let is_done = |status: &Option<Status>| {
            status.is_some_and(|status| !status.is_told && !status.is_changed)
        };
        let mut rows = Vec::new();
        let place = self.place()?;
        let watermark = self.watermark()?;
        for (start, key) in self.passed(&place, watermark, lateness, limit, is_done) {
            let id = id_of(start, &key);
            let Some(Entry { row, sequence, .. }) = self.read(place.ns, &id)? else { continue };
            if row.told.is_none() && !row.is_changed {
                rows.push(lasting(place.ns.rows(Family::AGGREGATES), id, None, sequence));
            }
        }
        // If somebody has moved one, the next call removes them.
        self.write(rows).map(drop)
    }

    /// Returns rows of windows whose end and `lateness_ms` the watermark has passed.
    fn passed(
        &self,
        place: &Binding<Index>,
        watermark: u64,
        lateness_ms: u64,
        limit: usize,
        is_it: impl Fn(&Option<Status>) -> bool,
    ) -> Vec<(u64, Vec<u8>)> {
        let end = |start: u64| start.saturating_add(self.options.size_ms + lateness_ms);
        let index = place.known.lock();
        let passed = index.rows.iter().take_while(|((start, _), _)| end(*start) <= watermark);
        passed.filter(|(_, status)| is_it(status)).map(|(at, _)| at.clone()).take(limit).collect()
    }

    fn watermark(&self) -> Result<u64> {
        Ok(self.events.place()?.known.lock().watermark())
    }

    /// Returns the index of what the name leads to, joined or not.
    fn index(&self) -> Arc<Mutex<Index>> {
        self.indexes.of(self.info.id())
    }

    /// Returns where the name leads now. If that has changed, it is joined first.
    fn place(&self) -> Result<Binding<Index>> {
        let ns = self.info.id();
        let joined = self.joined.lock().clone();
        if let Some(joined) = joined.filter(|joined| joined.ns == ns) {
            return Ok(joined);
        }
        self.store_settings(ns)?;
        let place = Binding { ns, known: self.indexes.of(ns) };
        *self.joined.lock() = Some(place.clone());
        Ok(place)
    }

    fn read(&self, ns: NsId, id: &[u8]) -> Result<Option<Entry>> {
        self.read_at(ns, id, Durability::Buffered)
    }

    fn read_at(&self, ns: NsId, id: &[u8], durability: Durability) -> Result<Option<Entry>> {
        let engine = self.events.inner.engine();
        let key = Engine::row_key(Family::AGGREGATES, ns, id)?;
        let Some(row) = engine.get_row(key, durability)? else { return Ok(None) };
        let decoded = Aggregate::decode(&row.value).map_err(|why| self.unreadable(why))?;
        Ok(Some(Entry { row: decoded, sequence: Some(row.sequence), is_touched: false }))
    }

    fn decode(&self, bytes: &[u8]) -> Result<A> {
        decode_value(bytes).map_err(|why| {
            Error::invalid(format!(
                "an aggregate of the windows {:?} is not of the type that is asked for: {why}",
                self.info.name
            ))
        })
    }

    fn unreadable(&self, why: Undecodable) -> Error {
        unreadable(self.events.inner.engine(), "a window", why)
    }

    /// Writes rows. Returns whether none had moved.
    fn write(&self, rows: Vec<OwnedRow>) -> Result<bool> {
        let writes: Vec<RowWrite<'_>> = rows.iter().map(OwnedRow::as_write).collect();
        if writes.is_empty() { Ok(true) } else { self.events.commit(&writes) }
    }

    /// Stores which windows these are, or checks that they are those that are stored.
    fn store_settings(&self, ns: NsId) -> Result<()> {
        let WindowOptions { size_ms, every_ms, .. } = self.options;
        let events = self.events.inner.info.registered().0;
        let wanted = Settings { size_ms, every_ms, events };
        let engine = self.events.inner.engine();
        let key = Engine::row_key(Family::AGGREGATES, ns, SETTINGS)?;
        for _ in 0..limits::RACES_MAX {
            if let Some(row) = engine.get_row(key, self.events.durability)? {
                let stored = Settings::decode(&row.value).map_err(|why| self.unreadable(why))?;
                // By name: of what was promoted, the number is the one that the name has inside the scope.
                let over = engine.namespaces().registered_name(NsId(stored.events));
                let are_same_events = over.as_deref() == Some(self.events.name());
                if are_same_events && (stored.size_ms, stored.every_ms) == (size_ms, every_ms) {
                    return Ok(());
                }
                return Err(Error::invalid(format!(
                    "the windows {:?} are of {} ms every {} ms over the events of {:?}: open them so, or others \
                     under another name",
                    self.info.name,
                    stored.size_ms,
                    stored.every_ms,
                    over.as_deref().unwrap_or("a namespace that is not known")
                )));
            }
            let row = OwnedRow {
                ns: key.ns,
                id: SETTINGS.to_vec(),
                change: RowChange::Put(wanted.encode()),
                ttl: Ttl::FOREVER,
                expect: Expect::Absent,
                is_quiet: false,
            };
            if self.events.commit(&[row.as_write()])? {
                return Ok(());
            }
        }
        Err(moved_again_and_again())
    }
}

/// Returns the rows of what was touched.
fn rows(ns: NsId, entries: BTreeMap<Vec<u8>, Entry>) -> Vec<OwnedRow> {
    let touched = entries.into_iter().filter(|(_, entry)| entry.is_touched);
    let row = |(id, Entry { row, sequence, .. }): (Vec<u8>, Entry)| {
        lasting(ns.rows(Family::AGGREGATES), id, Some(row.encode()), sequence)
    };
    touched.map(row).collect()
}

fn moved_again_and_again() -> Error {
    Error::Timeout { what: "windows that others change again and again" }
}
