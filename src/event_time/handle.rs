//! The handle of a namespace with event time.

use crate::engine::{Bells, Committed, Durability, Engine, NsInfo, OwnedRow, RowWrite};
use crate::error::{Error, Result};
use crate::event_time::answer::{Event, EventClaim, EventStats, SourceState};
use crate::event_time::inner::{Binding, Inner, unreadable};
use crate::event_time::options::EventTimeOptions;
use crate::event_time::plan::{
    EventPlan, check, check_ahead, lasting, plan, plan_heard, row_of_mark, watermark,
};
use crate::event_time::sources::{AllSources, Sources};
use crate::event_time::value::source_id;
use crate::id::{Family, NsId};
use crate::limits;
use crate::store::Store;
use crate::sync::{Arc, Mutex};
use crate::time::Timestamp;
use std::fmt;

/// A namespace whose ids are remembered by the time of their events. A handle: cheap to clone, safe to share, and it keeps
/// the store open.
///
/// It follows the promotion of a [replay scope](crate::replay::ReplayScope) that used its name, with sources, watermark and
/// statistics of the promoted world. A world with another allowed lateness is not joined: every call is refused with
/// [`FixCall`](crate::ErrorKind::FixCall) until the namespace is opened anew with that one.
#[derive(Clone)]
pub struct EventTime {
    pub(crate) inner: Arc<Inner>,
    pub(super) durability: Durability,
}

impl fmt::Debug for EventTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventTime")
            .field("store", &self.inner.store)
            .field("name", &self.inner.info.name)
            .field("options", &self.inner.options)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Returns the namespace of this name, with its ids remembered by event time. See [`event_time`](crate::event_time).
    ///
    /// Everybody who uses it at the same time should bring the same options; only the allowed lateness is stored. Another
    /// window counts for the events that come after it: an id that has ended by a shorter one is not remembered by a longer
    /// one. Plain claims in the namespace of this name are other ids.
    ///
    /// # Errors
    ///
    /// - [`FixCall`](crate::ErrorKind::FixCall) for a name or options out of bounds, for an allowed lateness above the
    ///   stored one, or other than that of another handle, or if a newer release wrote its rows.
    /// - [`Repair`](crate::ErrorKind::Repair) if its stored watermark is damaged.
    /// - As [`Store::claim`].
    pub fn event_time(&self, name: &str, options: EventTimeOptions) -> Result<EventTime> {
        EventTime::of(self, None, options, || self.engine().namespace(name, None))
    }
}

impl EventTime {
    /// Returns the handle of the namespace that `open` returns, which is inside `scope` if there is one.
    pub(crate) fn of(
        store: &Store,
        scope: Option<NsId>,
        options: EventTimeOptions,
        open: impl FnOnce() -> Result<Arc<NsInfo>>,
    ) -> Result<Self> {
        options.check()?;
        let info = open()?;
        if options.is_unbounded() {
            tracing::warn!(
                namespace = info.name,
                "ids are remembered for ever: this namespace only grows, whatever its watermark says"
            );
        }
        let engine = store.engine();
        let all_sources = engine.attach_once(AllSources::default)?;
        let durability = options.durability.unwrap_or(engine.settings().durability);
        let (store, joined) = (store.clone(), Mutex::default());
        let inner = Arc::new(Inner { store, info, options, scope, all_sources, joined });
        let event_time = Self { inner, durability };
        event_time.place()?;
        Ok(event_time)
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.inner.info.name
    }

    /// Returns the store it belongs to.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Returns its policies.
    pub fn options(&self) -> &EventTimeOptions {
        &self.inner.options
    }

    /// Returns a handle of the same namespace whose answers guarantee this.
    #[must_use]
    pub fn with_durability(&self, durability: Durability) -> Self {
        Self { inner: Arc::clone(&self.inner), durability }
    }

    pub(crate) fn durability(&self) -> Durability {
        self.durability
    }

    pub(crate) fn ns(&self) -> NsId {
        self.inner.info.id()
    }

    /// Claims an id by the time of its event (I14): of two events of one id that are less than the window apart, at most
    /// one is ever [`FirstSeen`](EventClaim::FirstSeen), unless late events are claimed all the same
    /// ([`OnLate::Claim`](crate::event_time::OnLate::Claim)).
    ///
    /// | the id | the event | answer |
    /// |---|---|---|
    /// | is remembered | any | [`Duplicate`](EventClaim::Duplicate); the id is remembered longer if the event is the latest of it |
    /// | is not remembered | not later than allowed | [`FirstSeen`](EventClaim::FirstSeen) |
    /// | is not remembered | later | as the policy says: [`TooLate`](EventClaim::TooLate) |
    ///
    /// The event counts for the watermark of its source, whatever is answered. Claim and watermark are one record. When the
    /// call returns, the answer and what it depends on are as durable as the options say: no watermark by which something
    /// was too late is ever taken back.
    ///
    /// # Errors
    ///
    /// - [`FixCall`](crate::ErrorKind::FixCall) for an empty id, one over 1,024 bytes (also with
    ///   [`hash_long_ids`](crate::Builder::hash_long_ids)), an empty source or one over 255 bytes, an event time beyond the
    ///   year 4199 or further ahead than [`ahead_max`](EventTimeOptions::ahead_max), or an event that is too late if that is
    ///   to be an error.
    /// - [`Repair`](crate::ErrorKind::Repair) if what is stored of the id is damaged.
    /// - As [`Store::claim`].
    pub fn claim_at(
        &self,
        id: impl AsRef<[u8]>,
        source: &str,
        event_time: Timestamp,
    ) -> Result<EventClaim> {
        let event = Event { id: id.as_ref(), source, time: event_time };
        let answers = self.claim_batch_at(&[event])?;
        answers.into_iter().next().ok_or_else(|| Error::bug("an event without an answer"))
    }

    /// Claims many ids as if they came one after the other, as one record: one answer for each, in order. After an error
    /// none of them was claimed. The watermark by which they are judged is the one before the batch.
    ///
    /// # Errors
    ///
    /// As [`claim_at`](Self::claim_at), and [`FixCall`](crate::ErrorKind::FixCall) for more than about 65,000 ids.
    pub fn claim_batch_at(&self, events: &[Event<'_>]) -> Result<Vec<EventClaim>> {
        let planned = self.commit_with(|| self.plan(events), &mut |_| Ok(Vec::new()))?;
        let answers = planned.answers();
        planned.note(&self.inner);
        Ok(answers)
    }

    /// Returns the answers to events and the rows that make them true, for a commit of the caller. It is planned anew if that
    /// finds one of them moved, and [noted](EventPlan::note) once it is made.
    pub(crate) fn plan(&self, events: &[Event<'_>]) -> Result<EventPlan> {
        plan(&self.inner, self.place()?, events)
    }

    /// As [`plan`](Self::plan), if the name leads to this namespace still.
    pub(crate) fn plan_in(&self, ns: NsId, events: &[Event<'_>]) -> Result<EventPlan> {
        let place = self.place()?;
        if place.ns != ns {
            // A replay scope was promoted in between.
            return Err(Error::Replaced);
        }
        plan(&self.inner, place, events)
    }

    /// Notes that a source has reached an event time, without an event: a punctuation, or the heartbeat of a source that
    /// has nothing to say. The watermark is written if it moves at all. Returns the watermark.
    ///
    /// # Errors
    ///
    /// As [`claim_at`](Self::claim_at).
    pub fn advance(&self, source: &str, event_time: Timestamp) -> Result<Option<Timestamp>> {
        check(source, event_time)?;
        check_ahead(&self.inner, source, event_time)?;
        let planned = || Ok(plan_heard(&self.inner, self.place()?, source, event_time));
        let planned = self.commit_with(planned, &mut |_| Ok(Vec::new()))?;
        planned.note(&self.inner);
        Ok(self.watermark())
    }

    /// Removes a source that will say nothing more, so that it does not hold the watermark back. Returns whether it was
    /// known. If it speaks again, it counts again.
    ///
    /// # Errors
    ///
    /// As [`claim_at`](Self::claim_at).
    pub fn retire(&self, source: &str) -> Result<bool> {
        check(source, Timestamp::from_millis(0))?;
        for _ in 0..limits::RACES_MAX {
            let place = self.place()?;
            let Some(sequence) = place.known.lock().row_of(source) else {
                return Ok(false);
            };
            let ns = place.ns.rows(Family::WATERMARKS);
            let row = lasting(ns, source_id(source), None, Some(sequence));
            if self.commit(&[row.as_write()])? {
                return Ok(true);
            }
        }
        Err(Error::Timeout { what: "a source that others move again and again" })
    }

    /// Returns the watermark: no event is expected from before it. `None` until the first source has been heard. It never
    /// goes back, also over restarts and crashes, as far as answers have depended on it.
    ///
    /// It is the least of the watermarks of all active sources, as far as that has been written: see
    /// [`watermark_step`](EventTimeOptions::watermark_step).
    pub fn watermark(&self) -> Option<Timestamp> {
        watermark(&self.inner.sources().lock())
    }

    /// Returns all sources, by name: how far each is, whether it is idle, and which hold the watermark back.
    pub fn sources(&self) -> Vec<SourceState> {
        let now = self.inner.now();
        self.inner.sources().lock().list(&self.inner.options, now)
    }

    /// Returns what was answered since the store was opened, and how late events were.
    pub fn stats(&self) -> EventStats {
        self.inner.sources().lock().stats.clone()
    }

    /// Plans and commits until nothing has moved in between. `more` adds rows to the same commit.
    pub(super) fn commit_with(
        &self,
        planned: impl Fn() -> Result<EventPlan>,
        more: &mut dyn FnMut(&EventPlan) -> Result<Vec<OwnedRow>>,
    ) -> Result<EventPlan> {
        for _ in 0..limits::RACES_MAX {
            let planned = planned()?;
            let added = more(&planned)?;
            let rows = planned.claims().iter().chain(planned.marks()).chain(&added);
            let rows: Vec<RowWrite<'_>> = rows.map(OwnedRow::as_write).collect();
            if rows.is_empty() {
                self.inner.engine().await_durable(self.durability, planned.rests_on())?;
                return Ok(planned);
            }
            if self.commit(&rows)? {
                return Ok(planned);
            }
        }
        Err(Error::Timeout { what: "ids or watermarks that others move again and again" })
    }

    /// Writes rows. Returns whether none had moved.
    pub(super) fn commit(&self, rows: &[RowWrite<'_>]) -> Result<bool> {
        let bells = &mut Bells::default();
        let committed = self.inner.engine().commit_rows(rows, self.durability, bells)?;
        Ok(matches!(committed, Committed::Done(_)))
    }

    /// Returns where the name leads now. If that has changed, it is joined first.
    pub(super) fn place(&self) -> Result<Binding<Sources>> {
        let ns = self.inner.info.id();
        let joined = self.inner.joined.lock().clone();
        let is_opening = joined.is_none();
        if let Some(joined) = joined.filter(|joined| joined.ns == ns) {
            return Ok(joined);
        }
        // A scope that was dropped leads nowhere.
        Engine::row_key(Family::WATERMARKS, ns, b"-")?;
        let place = Binding { ns, known: self.inner.all_sources.of(ns) };
        self.store_lateness(&place, is_opening)?;
        *self.inner.joined.lock() = Some(place.clone());
        Ok(place)
    }

    /// Stores the allowed lateness, which may only become less, and only by an opening: by a shorter one, ids have ended.
    fn store_lateness(&self, place: &Binding<Sources>, is_opening: bool) -> Result<()> {
        let now = self.inner.now();
        let lateness_ms = self.inner.options.lateness_ms();
        for _ in 0..limits::RACES_MAX {
            let mark = {
                let mut sources = place.known.lock();
                if let Some(why) = sources.unreadable() {
                    return Err(unreadable(self.inner.engine(), "a watermark", why));
                }
                sources.begin(now);
                match sources.lateness_ms() {
                    Some(stored) if stored == lateness_ms => return Ok(()),
                    Some(stored) if !is_opening => {
                        return Err(Error::invalid(format!(
                            "a replay was promoted to the event-time namespace {:?}, with {stored} ms of allowed \
                             lateness: this handle has {lateness_ms} ms; open it anew",
                            self.name()
                        )));
                    }
                    // All handles that are in use judge by one lateness. Two are this call and the store's own.
                    Some(stored) if Arc::strong_count(&place.known) > 2 => {
                        return Err(Error::invalid(format!(
                            "the event-time namespace {:?} is in use with {stored} ms of allowed lateness: drop \
                             those handles before you open it with {lateness_ms} ms",
                            self.name()
                        )));
                    }
                    Some(stored) if stored < lateness_ms => {
                        return Err(Error::invalid(format!(
                            "the event-time namespace {:?} allows {stored} ms of lateness and cannot allow \
                             {lateness_ms} ms: ids have ended by the shorter one; use another namespace",
                            self.name()
                        )));
                    }
                    _ => sources.mark_of_lateness(lateness_ms),
                }
            };
            let row = row_of_mark(place.ns, mark);
            if self.commit(&[row.as_write()])? {
                return Ok(());
            }
        }
        Err(Error::Timeout { what: "a watermark that others move again and again" })
    }
}
