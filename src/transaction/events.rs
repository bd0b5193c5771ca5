//! Claims by event time in a transaction.

use crate::engine::{OwnedRow, RestsOn};
use crate::error::Result;
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
        for numbers in by_namespace.into_values() {
            let event_time = &events[numbers[0]].event_time;
            let named = numbers.iter().map(|n| {
                let PlannedEvent { id, source, time, .. } = &events[*n];
                Event { id, source, time: *time }
            });
            let plan = event_time.plan(&named.collect::<Vec<_>>())?;
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

    /// Counts what was answered, once it has been committed. Returns which events were not first seen.
    pub(super) fn note(self) -> impl Iterator<Item = RefusedEvent> {
        for (event_time, plan) in self.plans {
            plan.note(&event_time.inner);
        }
        self.refused.into_values()
    }
}
