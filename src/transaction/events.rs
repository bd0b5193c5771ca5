//! Claims by event time in a transaction.

use crate::engine::{OwnedRow, RestsOn};
use crate::error::{Error, Result};
use crate::event_time::{Event, EventPlan, EventTime};
use crate::time::Timestamp;
use crate::transaction::outcome::RefusedEvent;
use std::collections::BTreeMap;

#[derive(Debug)]
pub(super) struct PlannedEvent {
    pub(super) event_time: EventTime,
    pub(super) id: Vec<u8>,
    pub(super) source: String,
    pub(super) time: Timestamp,
}

/// The answers to the events of a transaction, and what makes them true.
#[derive(Debug, Default)]
pub(super) struct Answers {
    plans: Vec<(EventTime, EventPlan)>,
    /// Events that are not first seen, by number.
    pub(super) refused: BTreeMap<usize, RefusedEvent>,
}

impl Answers {
    /// Answers events as they would be now, namespace by namespace.
    pub(super) fn to(events: &[PlannedEvent]) -> Result<Self> {
        let mut answers = Self::default();
        let mut by_namespace = BTreeMap::<_, Vec<usize>>::new();
        for (n, event) in events.iter().enumerate() {
            by_namespace.entry(event.event_time.ns()).or_default().push(n);
        }
        for (ns, numbers) in by_namespace {
            let event_time = &events[numbers[0]].event_time;
            let mut options = numbers.iter().map(|n| events[*n].event_time.options());
            if options.any(|options| options != event_time.options()) {
                return Err(Error::invalid(format!(
                    "events of the namespace {:?} by handles with different options in one transaction",
                    event_time.name()
                )));
            }
            let named = numbers.iter().map(|n| {
                let PlannedEvent { id, source, time, .. } = &events[*n];
                Event { id, source, time: *time }
            });
            let plan = event_time.plan_in(ns, &named.collect::<Vec<_>>())?;
            for (n, answer) in numbers.into_iter().zip(plan.answers()) {
                if !answer.is_first_seen() {
                    let (namespace, id) = (event_time.name().to_owned(), events[n].id.clone());
                    answers.refused.insert(n, RefusedEvent { namespace, id, answer });
                }
            }
            answers.plans.push((event_time.clone(), plan));
        }
        Ok(answers)
    }

    /// Returns the rows to write with the commit.
    pub(super) fn rows(&self, with_marks: bool) -> Vec<OwnedRow> {
        let plans = || self.plans.iter().map(|(_, plan)| plan);
        let marks = plans().filter(|_| with_marks).flat_map(EventPlan::marks);
        plans().flat_map(EventPlan::claims).chain(marks).cloned().collect()
    }

    /// Returns what the answers depend on that need no row. The last plan has read the log last.
    pub(super) fn rests_on(&self) -> Option<RestsOn> {
        self.plans.iter().filter_map(|(_, plan)| plan.rests_on()).next_back()
    }

    /// Counts what was answered if it has been committed: what is prepared may never happen. Returns which events were not first seen.
    pub(super) fn made(self, counts: bool) -> impl Iterator<Item = RefusedEvent> {
        for (event_time, plan) in self.plans {
            if counts {
                plan.note(&event_time.inner);
            }
        }
        self.refused.into_values()
    }

    /// Notes that the sources of its events are not idle: a rejected transaction proves that, and nothing else.
    pub(super) fn rejected(&self) {
        self.plans.iter().for_each(|(event_time, plan)| plan.note_alive(&event_time.inner));
    }
}
