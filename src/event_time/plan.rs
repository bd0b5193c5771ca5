//! Turning events into answers and the rows to write (I14). Nothing is written here, so that the rows can be part of any
//! commit.
//!
//! An id is looked up before the watermark is read. If its row has ended and is gone, the watermark that ended it is seen.
//! The commit checks the same again: no row has moved, and no watermark has made a first-seen event late.

use crate::engine::{Engine, Expect, OwnedRow, RestsOn, RowChange, watermark_key};
use crate::error::{Error, Result};
use crate::event_time::answer::{Event, EventClaim};
use crate::event_time::inner::{Binding, Inner, unreadable};
use crate::event_time::options::OnLate;
use crate::event_time::sources::{Mark, Sources, Step};
use crate::event_time::value::{Remembered, source_id};
use crate::id::{Family, NsId};
use crate::limits;
use crate::time::{Timestamp, Ttl};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A row that never ends by itself, in place of the one with this sequence. `None` deletes it.
pub(super) fn lasting(
    ns: NsId,
    id: Vec<u8>,
    value: Option<Vec<u8>>,
    replaces: Option<u64>,
) -> OwnedRow {
    let expect = replaces.map_or(Expect::Absent, Expect::Sequence);
    let (change, ttl) = (RowChange::of(value), Ttl::FOREVER);
    OwnedRow { ns, id, change, ttl, expect, is_quiet: false }
}

pub(super) fn row_of_mark(ns: NsId, mark: Mark) -> OwnedRow {
    let ns = ns.rows(Family::WATERMARKS);
    let id = match &mark.source {
        Some(name) => source_id(name),
        None => watermark_key(ns).id.to_vec(),
    };
    lasting(ns, id, Some(mark.value), mark.replaces)
}

/// One answer, with what the statistics count of it.
#[derive(Debug, Clone, Copy)]
struct Answered {
    answer: EventClaim,
    is_too_late: bool,
    behind_ms: u64,
}

/// What a source has said.
#[derive(Debug, Clone, Copy)]
struct Heard {
    greatest: u64,
    /// Which of the sources that had this name it was, if it was known.
    began: Option<u64>,
    /// Some of it was not too late.
    is_in_time: bool,
}

/// Answers to events, and what must be written for them to be true.
#[derive(Debug)]
pub(crate) struct EventPlan {
    answered: Vec<Answered>,
    claims: Vec<OwnedRow>,
    marks: Vec<OwnedRow>,
    heard: BTreeMap<String, Heard>,
    rests_on: Option<RestsOn>,
    /// Where all of it counts.
    place: Binding<Sources>,
}

impl EventPlan {
    /// Returns the answers, in the order of the events. They are true once the rows have been committed.
    pub(crate) fn answers(&self) -> Vec<EventClaim> {
        self.answered.iter().map(|answered| answered.answer).collect()
    }

    /// Returns the rows of the ids. They, and the marks, are to be committed as one record.
    pub(crate) fn claims(&self) -> &[OwnedRow] {
        &self.claims
    }

    /// Returns the rows of the watermark and of sources. Whoever would hold them for long can leave them out: the next event
    /// writes them.
    pub(crate) fn marks(&self) -> &[OwnedRow] {
        &self.marks
    }

    /// Returns what answers depend on that need no row.
    pub(crate) fn rests_on(&self) -> Option<RestsOn> {
        self.rests_on
    }

    /// Notes that the sources of the events are not idle, where nothing of what they say counts. Not of one all of whose
    /// events are too late: they stay so, and it would hold the watermark back for nothing.
    pub(crate) fn note_alive(&self, inner: &Inner) {
        let now = inner.now();
        let in_time = self.heard.iter().filter(|(_, heard)| heard.is_in_time);
        self.place.known.lock().note_alive(in_time.map(|(name, _)| name.as_str()), now);
    }

    /// Notes what was heard and answered, once the rows have been committed.
    pub(crate) fn note(self, inner: &Inner) {
        let now = inner.now();
        let mut sources = self.place.known.lock();
        for Answered { answer, is_too_late, behind_ms } in &self.answered {
            sources.stats.count(answer, *is_too_late, *behind_ms);
        }
        for (name, Heard { greatest, began, .. }) in &self.heard {
            sources.hear(name, *greatest, *began, now);
        }
    }
}

/// What is known of an id while a batch is planned.
struct Entry {
    remembered: Option<Remembered>,
    /// The sequence of its row, ended or not.
    sequence: Option<u64>,
    /// `None`: as it was read.
    changed: Option<Change>,
}

/// What a change of an id depends on.
#[derive(Clone, Copy)]
struct Change {
    /// The latest watermark by which it is not late.
    watermark_max: Timestamp,
}

/// Checks a name of a source and an event time.
pub(super) fn check(source: &str, time: Timestamp) -> Result<()> {
    if source.is_empty() || source.len() > limits::SOURCE_BYTES_MAX {
        return Err(Error::invalid(format!(
            "a source with a name of {} bytes: a name has 1 to {} bytes",
            source.len(),
            limits::SOURCE_BYTES_MAX
        )));
    }
    if time.as_millis() > limits::EVENT_TIME_MS_MAX {
        return Err(Error::invalid(format!(
            "an event time of {} ms since 1970; the latest is {} ms: is it in another unit?",
            time.as_millis(),
            limits::EVENT_TIME_MS_MAX
        )));
    }
    Ok(())
}

/// Checks that an event time is not further ahead of the engine's time than the policies allow.
pub(super) fn check_ahead(inner: &Inner, source: &str, time: Timestamp) -> Result<()> {
    let Some(ahead_max) = inner.options.ahead_max_ms() else { return Ok(()) };
    let now = inner.now().as_millis();
    if time.as_millis() > now.saturating_add(ahead_max) {
        return Err(Error::invalid(format!(
            "an event of {} ms from the source {source:?} is ahead of {now} ms, the time of this machine, by more than \
             {ahead_max} ms: leave it out, or check the clock of its source",
            time.as_millis()
        )));
    }
    Ok(())
}

/// Answers events as if they came one after the other, and returns what must be written.
pub(super) fn plan(
    inner: &Inner,
    place: Binding<Sources>,
    events: &[Event<'_>],
) -> Result<EventPlan> {
    let mut entries: BTreeMap<&[u8], Entry> = BTreeMap::new();
    let mut heard: BTreeMap<&str, u64> = BTreeMap::new();
    let mut rests_on = None;
    for event in events {
        check(event.source, event.time)?;
        check_ahead(inner, event.source, event.time)?;
        let greatest = heard.entry(event.source).or_default();
        *greatest = (*greatest).max(event.time.as_millis());
        if !entries.contains_key(event.id) {
            let (entry, row_rests_on) = look(inner, place.ns, event.id)?;
            rests_on = rests_on.or(row_rests_on);
            entries.insert(event.id, entry);
        }
    }
    // After the rows: whatever ended one of them and took it away has moved the watermark before.
    let now = inner.now();
    let (watermark, marks, began) = {
        let sources = place.known.lock();
        let marks = sources.marks(&heard, &inner.options, Step::Whole, now);
        let began: Vec<_> = heard.keys().map(|name| sources.began(name)).collect();
        (sources.watermark(), marks, began)
    };
    let mut answered = Vec::with_capacity(events.len());
    for event in events {
        let entry = entries.get_mut(event.id).ok_or_else(|| Error::bug("an id is not there"))?;
        answered.push(decide(inner, event, entry, watermark)?);
    }
    if answered.iter().any(|answered| answered.is_too_late) {
        rests_on = rests_on.or(inner.engine().get_row_only(watermark_key(place.ns))?.1);
    }
    // What was read last may stand after what was read first: all of it is in the log by now (I6).
    let rests_on = rests_on.map(|_| inner.engine().sync_point()).transpose()?;
    let claims = entries.into_iter().filter_map(|(id, entry)| entry.write(inner, place.ns, id));
    let claims = claims.collect();
    let marks = marks.into_iter().map(|mark| row_of_mark(place.ns, mark)).collect();
    let in_time = events.iter().zip(&answered).filter(|(_, answered)| !answered.is_too_late);
    let in_time: BTreeSet<&str> = in_time.map(|(event, _)| event.source).collect();
    let heard = heard.into_iter().zip(began).map(|((name, greatest), began)| {
        (name.to_owned(), Heard { greatest, began, is_in_time: in_time.contains(name) })
    });
    let heard = heard.collect();
    Ok(EventPlan { answered, claims, marks, heard, rests_on, place })
}

/// Returns the rows for what was heard from a source without an event.
pub(super) fn plan_heard(
    inner: &Inner,
    place: Binding<Sources>,
    source: &str,
    time: Timestamp,
) -> EventPlan {
    let heard = BTreeMap::from([(source, time.as_millis())]);
    let now = inner.now();
    let (marks, began) = {
        let sources = place.known.lock();
        (sources.marks(&heard, &inner.options, Step::Any, now), sources.began(source))
    };
    let marks = marks.into_iter().map(|mark| row_of_mark(place.ns, mark)).collect();
    let heard = Heard { greatest: time.as_millis(), began, is_in_time: true };
    let heard = BTreeMap::from([(source.to_owned(), heard)]);
    let (answered, claims) = (Vec::new(), Vec::new());
    EventPlan { answered, claims, marks, heard, rests_on: None, place }
}

/// Looks an id up.
fn look(inner: &Inner, ns: NsId, id: &[u8]) -> Result<(Entry, Option<RestsOn>)> {
    let key = Engine::row_key(Family::EVENTS, ns, id)?;
    let (row, rests_on) = inner.engine().get_row_only(key)?;
    let sequence = row.as_ref().map(|row| row.sequence);
    let decode = |bytes: &[u8]| {
        Remembered::decode(bytes).map_err(|why| unreadable(inner.engine(), "an id", why))
    };
    let remembered = row.map(|row| decode(&row.value)).transpose()?;
    Ok((Entry { remembered, sequence, changed: None }, rests_on))
}

/// Answers one event. An id that is remembered is a duplicate, however late the event; an event that is too late is never
/// first seen by accident.
fn decide(inner: &Inner, event: &Event<'_>, entry: &mut Entry, watermark: u64) -> Result<Answered> {
    let options = &inner.options;
    let time = event.time.as_millis();
    let behind_ms = watermark.saturating_sub(time);
    let latest = Timestamp::from_millis(time.saturating_add(options.lateness_ms()));
    let is_late = latest.as_millis() < watermark;
    let live = entry.remembered.filter(|known| known.end.as_millis() > watermark);
    if let Some(known) = live {
        if event.time > known.greatest {
            let end = options.end_of(event.time).max(known.end);
            entry.remembered = Some(Remembered { greatest: event.time, end, ..known });
            let watermark_max = Timestamp::NEVER;
            entry.changed.get_or_insert(Change { watermark_max });
        }
        let answer = EventClaim::Duplicate { first_event_time: known.first };
        return Ok(Answered { answer, is_too_late: false, behind_ms });
    }
    if is_late && options.on_late != OnLate::Claim {
        if options.on_late == OnLate::Fail {
            return Err(Error::invalid(format!(
                "an event of {time} ms is too late: the watermark is {watermark} ms, {} ms of lateness are allowed",
                options.lateness_ms()
            )));
        }
        let late_by = Duration::from_millis(behind_ms);
        let watermark = Timestamp::from_millis(watermark);
        let answer = EventClaim::TooLate { watermark, late_by };
        return Ok(Answered { answer, is_too_late: true, behind_ms });
    }
    let counts_from = if is_late { Timestamp::from_millis(watermark) } else { event.time };
    let end = options.end_of(counts_from);
    entry.remembered = Some(Remembered { first: event.time, greatest: event.time, end });
    let watermark_max = if is_late { Timestamp::NEVER } else { latest };
    entry.changed = Some(Change { watermark_max });
    Ok(Answered { answer: EventClaim::FirstSeen, is_too_late: is_late, behind_ms })
}

impl Entry {
    /// Returns the row to write, if something has changed.
    fn write(self, inner: &Inner, ns: NsId, id: &[u8]) -> Option<OwnedRow> {
        let (Change { watermark_max }, remembered) = self.changed.zip(self.remembered)?;
        Some(OwnedRow {
            ns: ns.rows(Family::EVENTS),
            id: id.to_vec(),
            change: RowChange::PutUntil(remembered.encode(), remembered.end),
            ttl: inner.options.lives(),
            expect: Expect::Ahead { sequence: self.sequence, watermark_max },
            is_quiet: false,
        })
    }
}

/// Reads the watermark that a namespace has now, for those that decide by it.
pub(super) fn watermark(sources: &Sources) -> Option<Timestamp> {
    Some(sources.watermark()).filter(|ms| *ms > 0).map(Timestamp::from_millis)
}
