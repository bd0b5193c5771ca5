//! What is known of the sources and the watermark of each namespace: rebuilt from their rows when event time is first used
//! after an opening, and told of every commit after that.
//!
//! The watermark is what has been written, and nothing else: an answer that depends on it depends on a record of the log.

use crate::codec::Undecodable;
use crate::engine::{Replay, RowState, watermark_key};
use crate::event_time::answer::{EventStats, SourceState};
use crate::event_time::options::EventTimeOptions;
use crate::event_time::value::{self, StoredWatermark};
use crate::id::{Family, Key, NsId};
use crate::sync::{Arc, Mutex};
use crate::time::Timestamp;
use std::collections::BTreeMap;

/// A source of events.
#[derive(Debug, Clone, Default)]
struct Source {
    /// The greatest event time seen from it, in milliseconds.
    greatest: u64,
    /// What its row says, and the sequence of that row.
    written: Option<(u64, u64)>,
    /// The sequence of its first row since it was last retired: a source that speaks again begins anew.
    began: u64,
    /// When it was last heard from, by the engine's time; `None`: before the store was opened.
    heard: Option<Timestamp>,
}

impl Source {
    fn note_heard(&mut self, now: Timestamp) {
        self.heard = Some(self.heard.map_or(now, |before| before.max(now)));
    }
}

/// One namespace with event time.
#[derive(Debug, Default)]
pub(super) struct Sources {
    watermark: Option<(StoredWatermark, u64)>,
    by_name: BTreeMap<String, Source>,
    /// When the namespace was first used after the opening.
    since: Option<Timestamp>,
    unreadable: Option<Undecodable>,
    pub(super) stats: EventStats,
}

/// A row to write, with the sequence of the row that it replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    /// The key; `None` is that of the watermark.
    pub(super) source: Option<String>,
    pub(super) value: Vec<u8>,
    pub(super) replaces: Option<u64>,
}

/// When the watermark is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// When it has moved by a step.
    Whole,
    /// When it has moved at all.
    Any,
}

impl Sources {
    /// Returns the watermark in milliseconds; zero if there is none.
    pub(super) fn watermark(&self) -> u64 {
        self.watermark.map_or(0, |(stored, _)| stored.watermark)
    }

    /// Returns the allowed lateness by which ids have been ended so far, if the namespace has been used.
    pub(super) fn lateness_ms(&self) -> Option<u64> {
        self.watermark.map(|(stored, _)| stored.lateness_ms)
    }

    pub(super) fn unreadable(&self) -> Option<Undecodable> {
        self.unreadable
    }

    /// Notes that it is in use: from now on, silent sources become idle.
    pub(super) fn begin(&mut self, now: Timestamp) {
        self.since.get_or_insert(now);
    }

    fn is_idle(&self, source: &Source, options: &EventTimeOptions, now: Timestamp) -> bool {
        let heard = source.heard.or(self.since).unwrap_or(now);
        let silent_ms = now.as_millis().saturating_sub(heard.as_millis());
        options.idle_after_ms().is_some_and(|after| silent_ms >= after)
    }

    /// Returns the watermark that the sources allow, with what is just being heard from some of them; `None` if all are
    /// idle.
    fn allowed(
        &self,
        heard: &BTreeMap<&str, u64>,
        options: &EventTimeOptions,
        now: Timestamp,
    ) -> Option<u64> {
        let known = self.by_name.iter();
        let known = known.filter_map(|(name, source)| match heard.get(name.as_str()) {
            Some(greatest) => Some(source.greatest.max(*greatest)),
            None => (!self.is_idle(source, options, now)).then_some(source.greatest),
        });
        let new = heard.iter().filter(|(name, _)| !self.by_name.contains_key(**name));
        let least = known.chain(new.map(|(_, greatest)| *greatest)).min();
        least.map(|least| least.saturating_sub(options.out_of_orderness_ms()))
    }

    /// Returns the rows to write when this is heard from some sources: the least of it that keeps the watermark and, over
    /// a restart, the order of the sources.
    pub(super) fn marks(
        &self,
        heard: &BTreeMap<&str, u64>,
        options: &EventTimeOptions,
        step: Step,
        now: Timestamp,
    ) -> Vec<Mark> {
        let step_ms = if step == Step::Any { 1 } else { options.step_ms() };
        let mut marks = Vec::new();
        let before = self.watermark();
        let allowed = self.allowed(heard, options, now).unwrap_or(0);
        let has_moved = allowed >= before.saturating_add(if before == 0 { 1 } else { step_ms });
        if has_moved {
            let stored = StoredWatermark { watermark: allowed, lateness_ms: options.lateness_ms() };
            let replaces = self.watermark.map(|(_, sequence)| sequence);
            marks.push(Mark { source: None, value: stored.encode(), replaces });
        }
        for (name, greatest) in heard {
            let written = self.by_name.get(*name).and_then(|source| source.written);
            let is_due = match written {
                None => true,
                Some((known, _)) => *greatest >= known.saturating_add(step_ms),
            };
            if is_due {
                marks.push(Mark {
                    source: Some((*name).to_owned()),
                    value: value::encode_source(*greatest),
                    replaces: written.map(|(_, sequence)| sequence),
                });
            }
        }
        marks
    }

    /// Returns the row that stores this lateness with the watermark as it is.
    pub(super) fn mark_of_lateness(&self, lateness_ms: u64) -> Mark {
        let stored = StoredWatermark { watermark: self.watermark(), lateness_ms };
        let replaces = self.watermark.map(|(_, sequence)| sequence);
        Mark { source: None, value: stored.encode(), replaces }
    }

    /// Returns what tells a source from one of its name that was retired before; `None` if there is none.
    pub(super) fn began(&self, name: &str) -> Option<u64> {
        Some(self.by_name.get(name)?.began)
    }

    /// Notes what was heard from a source that [began](Self::began) so, once that was committed. If it was not there, its
    /// row says what was heard. A source that was retired meanwhile stays so, and one that has spoken again since is not
    /// where it was before.
    pub(super) fn hear(&mut self, name: &str, greatest: u64, began: Option<u64>, now: Timestamp) {
        if let Some(source) = self.by_name.get_mut(name) {
            if began == Some(source.began) {
                source.greatest = source.greatest.max(greatest);
            }
            source.note_heard(now);
        }
    }

    /// Notes that sources speak, though nothing of what they say counts.
    pub(super) fn note_alive<'a>(&mut self, names: impl Iterator<Item = &'a str>, now: Timestamp) {
        for name in names {
            // Of one that has said nothing that counts there is no event time to hold the watermark back with.
            if let Some(source) = self.by_name.get_mut(name) {
                source.note_heard(now);
            }
        }
    }

    /// Returns the sequence of the row of a source, if it has one.
    pub(super) fn row_of(&self, name: &str) -> Option<u64> {
        Some(self.by_name.get(name)?.written?.1)
    }

    /// Returns all sources, by name.
    pub(super) fn list(&self, options: &EventTimeOptions, now: Timestamp) -> Vec<SourceState> {
        let active = |source: &&Source| !self.is_idle(source, options, now);
        let least = self.by_name.values().filter(active).map(|source| source.greatest).min();
        let state = |(name, source): (&String, &Source)| {
            let is_idle = self.is_idle(source, options, now);
            let watermark = source.greatest.saturating_sub(options.out_of_orderness_ms());
            SourceState {
                name: name.clone(),
                watermark: Timestamp::from_millis(watermark),
                is_idle,
                holds_back: !is_idle && Some(source.greatest) == least,
            }
        };
        self.by_name.iter().map(state).collect()
    }

    fn apply_watermark(&mut self, row: Option<RowState<'_>>) {
        let Some(row) = row else { return };
        match StoredWatermark::decode(row.value) {
            Ok(stored) if self.watermark.is_none_or(|(_, known)| known < row.sequence) => {
                self.watermark = Some((stored, row.sequence));
            }
            Ok(_) => {}
            Err(why) => self.unreadable = Some(why),
        }
    }

    fn apply_source(&mut self, name: &str, row: Option<RowState<'_>>) {
        let Some(row) = row else {
            self.by_name.remove(name);
            return;
        };
        match value::decode_source(row.value) {
            Ok(greatest) => {
                let new = || Source { began: row.sequence, ..Source::default() };
                let source = self.by_name.entry(name.to_owned()).or_insert_with(new);
                source.greatest = source.greatest.max(greatest);
                if source.written.is_none_or(|(_, known)| known < row.sequence) {
                    source.written = Some((greatest, row.sequence));
                }
            }
            Err(why) => self.unreadable = Some(why),
        }
    }
}

/// The sources of all namespaces of a store.
#[derive(Debug, Default)]
pub(super) struct AllSources {
    by_namespace: Mutex<BTreeMap<NsId, Arc<Mutex<Sources>>>>,
}

impl AllSources {
    /// Returns those of a namespace.
    pub(super) fn of(&self, ns: NsId) -> Arc<Mutex<Sources>> {
        Arc::clone(self.by_namespace.lock().entry(ns.listed()).or_default())
    }
}

impl Replay for AllSources {
    fn family(&self) -> Family {
        Family::WATERMARKS
    }

    fn apply(&self, key: Key<'_>, row: Option<RowState<'_>>, _replaced: Option<u64>) {
        let sources = self.of(key.ns);
        let mut sources = sources.lock();
        if key.id == watermark_key(key.ns).id {
            sources.apply_watermark(row);
        } else if let Some(name) = value::source_of(key.id) {
            sources.apply_source(name, row);
        } else {
            sources.unreadable = Some(Undecodable::Damaged);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::seconds;
    use std::time::Duration;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn heard<'a>(all: &[(&'a str, u64)]) -> BTreeMap<&'a str, u64> {
        all.iter().copied().collect()
    }

    fn options() -> EventTimeOptions {
        EventTimeOptions::new(seconds(64)).idle_after(Duration::from_secs(10))
    }

    #[test]
    fn rule_72_the_least_of_the_active_sources_counts() {
        let mut sources = Sources::default();
        let (value, deadline) = (value::encode_source(0), Timestamp::NEVER);
        for (name, sequence) in [("a", 1), ("b", 2)] {
            sources.apply_source(name, Some(RowState { value: &value, sequence, deadline }));
        }
        sources.hear("a", 100, Some(1), at(0));
        sources.hear("b", 50, Some(2), at(0));
        let allowed = |sources: &Sources, now| sources.allowed(&heard(&[]), &options(), at(now));
        assert_eq!(allowed(&sources, 9_999), Some(50));
        sources.hear("a", 200, Some(1), at(5_000));
        assert_eq!(allowed(&sources, 9_999), Some(50));
        assert_eq!(allowed(&sources, 10_000), Some(200), "b says nothing");
        assert_eq!(allowed(&sources, 15_000), None, "nobody says anything");
        let speaks = sources.allowed(&heard(&[("b", 60)]), &options(), at(20_000));
        assert_eq!(speaks, Some(60));
        let disorder = options().out_of_orderness(Duration::from_millis(30));
        assert_eq!(sources.allowed(&heard(&[("c", 25)]), &disorder, at(0)), Some(0));
    }

    #[test]
    fn the_watermark_is_written_in_steps() {
        let mut sources = Sources::default();
        let marks = |sources: &Sources, ms, step| {
            let marks = sources.marks(&heard(&[("a", ms)]), &options(), step, at(0));
            marks.into_iter().map(|mark| mark.source).collect::<Vec<_>>()
        };
        let both = || vec![None, Some("a".to_owned())];
        assert_eq!(marks(&sources, 5_000, Step::Whole), both(), "the first is written at once");
        let stored = StoredWatermark { watermark: 5_000, lateness_ms: 0 };
        let (value, deadline) = (stored.encode(), Timestamp::NEVER);
        sources.apply_watermark(Some(RowState { value: &value, sequence: 1, deadline }));
        let value = value::encode_source(5_000);
        sources.apply_source("a", Some(RowState { value: &value, sequence: 2, deadline }));
        assert_eq!(marks(&sources, 5_999, Step::Whole), []);
        assert_eq!(marks(&sources, 6_000, Step::Whole), both());
        assert_eq!(marks(&sources, 5_001, Step::Any), both());
        assert_eq!(marks(&sources, 5_000, Step::Any), []);
        assert_eq!(marks(&sources, 4_000, Step::Any), [], "it never goes back");
    }
}
