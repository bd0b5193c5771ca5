//! The checker: is there an order of all events of an id that explains every result?
//!
//! It searches for a linearization (Wing & Gong, 1993, with the memoization of Lowe, 2017): no event precedes one that
//! returned before it was called, time does not run backwards, and every event is what a map with one live claim per id
//! would return. An event of unknown outcome may be left out. The state after reopening must be that at some point of
//! the order with nothing durable after it: a crash may lose a suffix, never something from the middle.

use crate::record::{End, Event, FOREVER, History, Level, Live, ROWS, Want, What};
use std::collections::HashSet;

/// Maximum of events per id between two openings.
pub(crate) const EVENTS_MAX: usize = 128;

/// A claim: bounds on its first-seen time, and its ttl.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Claimed {
    earliest: u64,
    latest: u64,
    ttl: u64,
}

impl Claimed {
    fn end(first_seen: u64, ttl: u64) -> u64 {
        if ttl == FOREVER { FOREVER } else { first_seen + ttl }
    }

    /// Fixes the first-seen time; `None` if it is out of bounds.
    fn known(self, first_seen: u64) -> Option<Self> {
        let possible = (self.earliest..=self.latest).contains(&first_seen);
        possible.then_some(Self { earliest: first_seen, latest: first_seen, ..self })
    }

    fn earliest_end(self) -> u64 {
        Self::end(self.earliest, self.ttl)
    }

    fn latest_end(self) -> u64 {
        Self::end(self.latest, self.ttl)
    }
}

/// A row: a register that is compared by its sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Row {
    write: u64,
    /// Unknown after a call that failed, until somebody reads it.
    sequence: Option<u64>,
}

/// The state of the id at one point of the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct State {
    claimed: Option<Claimed>,
    holder: Option<u32>,
    row: Option<Row>,
    /// The highest sequence so far: they only grow.
    sequence: u64,
    /// Lower bound on the time.
    now: u64,
}

impl State {
    /// The state after an event, or `None` if it cannot come next.
    fn after(mut self, event: &Event) -> Option<Self> {
        let (from, to) = event.clock;
        self.now = self.now.max(from);
        match event.what {
            What::First { ttl } => {
                self.free()?.nothing_lives()?;
                self.claim(ttl, to);
            }
            What::Confirmed { holder, ttl } => {
                self.nothing_lives()?;
                self.holder.take_if(|other| *other == holder)?;
                self.claim(ttl, to);
            }
            What::Duplicate { first_seen } => {
                let claimed = self.free()?.claimed?.known(first_seen)?;
                self.claimed = Some(claimed);
                self.something_lives(claimed)?;
            }
            What::Seen { first_seen, deadline } => {
                let claimed = self.claimed?.known(first_seen)?;
                self.claimed = Some(claimed);
                self.something_lives(claimed)?;
                if claimed.earliest_end() != deadline {
                    return None;
                }
            }
            What::Unseen => {
                self.nothing_lives()?;
            }
            What::Forgotten => {
                let claimed = self.free()?.claimed?;
                self.something_lives(claimed)?;
                self.claimed = None;
            }
            What::Held { holder } => {
                self.free()?.nothing_lives()?;
                self.holder = Some(holder);
            }
            What::InProgress => {
                self.holder?;
            }
            What::Released { holder } => {
                self.holder.take_if(|other| *other == holder)?;
            }
            What::Put { write, sequence, expect } => {
                self.is_as(expect)?;
                self.grow(sequence)?;
                self.row = Some(Row { write, sequence });
            }
            What::Deleted { sequence, expect } => {
                self.is_as(expect)?;
                self.row?;
                self.grow(sequence)?;
                self.row = None;
            }
            What::Moved { expect, found } => {
                self.has(found)?;
                if self.is_as(expect).is_some() {
                    return None;
                }
            }
            What::Row { write, sequence } => {
                self.has(Some(sequence))?;
                self.row.filter(|row| row.write == write)?;
            }
            What::NoRow => self.has(None)?,
        }
        (self.now <= to).then_some(self)
    }

    /// The row has this sequence, or there is none.
    fn has(&mut self, sequence: Option<u64>) -> Option<()> {
        match (&mut self.row, sequence) {
            (None, None) => Some(()),
            (Some(row), Some(sequence)) if row.sequence.is_none_or(|known| known == sequence) => {
                row.sequence = Some(sequence);
                self.sequence = self.sequence.max(sequence);
                Some(())
            }
            _ => None,
        }
    }

    fn is_as(&mut self, expect: Want) -> Option<()> {
        match expect {
            Want::Anything => Some(()),
            Want::Absent => self.has(None),
            Want::Sequence(sequence) => self.has(Some(sequence)),
        }
    }

    /// A write is given a sequence above all before it.
    fn grow(&mut self, sequence: Option<u64>) -> Option<()> {
        let Some(sequence) = sequence else { return Some(()) };
        (sequence > self.sequence).then(|| self.sequence = sequence)
    }

    fn free(&mut self) -> Option<&mut Self> {
        self.holder.is_none().then_some(self)
    }

    /// A claim made between now and `to`.
    fn claim(&mut self, ttl: u64, to: u64) {
        self.claimed = Some(Claimed { earliest: self.now, latest: to.max(self.now), ttl });
    }

    /// There is no claim, or it has expired, which bounds the time from below.
    fn nothing_lives(&mut self) -> Option<()> {
        if let Some(claimed) = self.claimed {
            let end = claimed.earliest_end();
            if end == FOREVER {
                return None;
            }
            self.now = self.now.max(end);
        }
        Some(())
    }

    fn something_lives(&mut self, claimed: Claimed) -> Option<()> {
        self.now = self.now.max(claimed.earliest);
        (self.now < claimed.latest_end()).then_some(())
    }

    /// Whether a store opened at `at` may return this.
    fn shows(mut self, live: Live, at: u64) -> bool {
        if let Some(row) = self.row {
            return live.is_some_and(|(write, sequence)| {
                row.write == write && self.has(Some(sequence)).is_some()
            });
        }
        match (live, self.claimed) {
            (None, None) => true,
            (None, Some(claimed)) => claimed.earliest_end() <= at,
            (Some(_), None) => false,
            (Some((first_seen, deadline)), Some(claimed)) => {
                let known = claimed.known(first_seen);
                known.is_some_and(|claimed| claimed.earliest_end() == deadline)
            }
        }
    }
}

/// Whether an event must survive the end of the history.
fn is_durable(event: &Event, end: End, synced: u64) -> bool {
    // A negative result is no promise: the tombstone behind it may be lost like any other change.
    let promised = matches!(
        event.what,
        What::First { .. }
            | What::Duplicate { .. }
            | What::Seen { .. }
            | What::Forgotten
            | What::Confirmed { .. }
            | What::Put { .. }
            | What::Deleted { .. }
    );
    let level = match end {
        End::Closed => Level::Buffered,
        End::Killed => Level::Process,
        End::PowerCut => Level::Disk,
    };
    event.sure && promised && (event.level >= level || event.answered < synced)
}

struct Search<'a> {
    history: &'a History,
    sure: u128,
    durable: u128,
    /// Visited states: events done, state, and whether the surviving prefix was chosen.
    been: HashSet<(u128, State, bool)>,
    /// The longest order found, for the error message.
    furthest: u128,
}

impl Search<'_> {
    fn goes_on(&mut self, done: u128, state: State, survived: bool) -> bool {
        if self.sure & !done == 0 && survived {
            return true;
        }
        if !self.been.insert((done, state, survived)) {
            return false;
        }
        if done.count_ones() > self.furthest.count_ones() {
            self.furthest = done;
        }
        let (live, at) = self.history.after;
        let may_be_the_end = !survived && self.durable & !done == 0;
        if may_be_the_end && state.shows(live, at) && self.goes_on(done, state, true) {
            return true;
        }
        let open = |n: &usize| done & (1 << n) == 0;
        let events = &self.history.events;
        let first_answer = (0..events.len()).filter(open).filter(|n| events[*n].sure);
        let first_answer = first_answer.map(|n| events[n].answered).min().unwrap_or(u64::MAX);
        for n in (0..events.len()).filter(open) {
            let lost_but_durable = survived && self.durable & (1 << n) != 0;
            if events[n].called > first_answer || lost_but_durable {
                continue;
            }
            if let Some(next) = state.after(&events[n])
                && self.goes_on(done | (1 << n), next, survived)
            {
                return true;
            }
        }
        false
    }
}

fn bits(events: &[Event], which: impl Fn(&Event) -> bool) -> u128 {
    let set = events.iter().enumerate().filter(|(_, event)| which(event));
    set.fold(0, |bits, (n, _)| bits | (1 << n))
}

/// Checks the history of one id.
pub(crate) fn check(history: &History) -> Result<(), String> {
    let events = &history.events;
    assert!(events.len() <= EVENTS_MAX, "{} events of one id", events.len());
    let is_row = history.id >= ROWS;
    let row = history.before.filter(|_| is_row);
    let row = row.map(|(write, sequence)| Row { write, sequence: Some(sequence) });
    let claimed = history.before.filter(|_| !is_row).map(|(first_seen, deadline)| {
        let ttl = if deadline == FOREVER { FOREVER } else { deadline - first_seen };
        Claimed { earliest: first_seen, latest: first_seen, ttl }
    });
    let sequence = row.and_then(|row| row.sequence).unwrap_or(0);
    let start = State { claimed, row, sequence, ..State::default() };
    let mut search = Search {
        history,
        sure: bits(events, |event| event.sure),
        durable: bits(events, |event| is_durable(event, history.end, history.synced)),
        been: HashSet::new(),
        furthest: 0,
    };
    if search.goes_on(0, start, false) {
        return Ok(());
    }
    let mut sorted = events.clone();
    sorted.sort_by_key(|event| event.called);
    let list: Vec<String> = sorted.iter().map(|event| format!("    {event:?}")).collect();
    Err(format!(
        "no order explains what was heard ({} of {} events at most); before: {:?}, after {:?}: {:?}, last sync \
         {}\n{}",
        search.furthest.count_ones(),
        events.len(),
        history.before,
        history.end,
        history.after,
        history.synced,
        list.join("\n")
    ))
}
