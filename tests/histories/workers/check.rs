//! The checker of workers: is there an order of all events of an id in which each answer is that of a ledger whose calls
//! are made one after the other? The search is that of `check.rs`.
//!
//! Each event happened at some time between the clock before its call and the clock after it, and no later than any
//! event that was called after its answer. Most answers show until when, and so when.

use firstseen::ledger::OnLeaseEnd;
use std::collections::HashSet;

/// Maximum of events per id.
pub(crate) const EVENTS_MAX: usize = 128;

/// Policies of the ledger, the same in all histories. In milliseconds.
pub(crate) const LEASE: u64 = 10;
pub(crate) const DELAY: u64 = 3;
pub(crate) const ATTEMPTS_MAX: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Is {
    Running {
        until: u64,
    },
    Waiting {
        until: u64,
    },
    Held,
    /// Done, with the result of this number.
    Done {
        result: u64,
    },
    Dead,
}

/// What a record shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Shown {
    pub(crate) is: Is,
    pub(crate) attempts: u32,
    /// The attempt that may still say how it went; zero if there is none.
    pub(crate) token: u64,
    pub(crate) stages: u32,
    pub(crate) redrives: u32,
    /// How many entries its history has.
    pub(crate) ended: u32,
}

/// What an attempt says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    Complete {
        result: u64,
    },
    Fail,
    Release,
    Renew,
    /// Saves its next stage, with the value of this number.
    Save {
        value: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It was so, and this is the record now.
    Yes(Shown),
    /// Somebody else has the record, which is this.
    Fenced(Option<Shown>),
    LeaseEnded,
}

/// An answer of `begin`, as far as the record does not say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begun {
    Started,
    InProgress,
    RetryAt,
    /// Completed, held or dead.
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Begin(Begun, Shown),
    Say {
        token: u64,
        word: Word,
        heard: Heard,
    },
    /// An attempt found a stage saved, by its number.
    Replayed {
        number: u32,
        value: u64,
    },
    Get(Option<Shown>),
    /// The record after it was to be cancelled.
    Cancel(Option<Shown>),
    Settle {
        result: u64,
        shown: Option<Shown>,
    },
    /// Whether there was a dead or held one.
    Redrive(bool),
    Purge(bool),
    /// Whether there was a record.
    Forget(bool),
    /// A transaction that was to begin was rejected with this answer, and has noted nothing.
    Refused(Begun, Shown),
    /// A transaction that was to save a stage was rejected because it is saved.
    StageSaved {
        number: u32,
    },
    /// The row of the id was read.
    Row(Option<u64>),
    /// The process has ended, and the store was opened again.
    Reopened,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Event {
    pub(crate) what: What,
    /// What its transaction puts into the row of the id.
    pub(crate) row: Option<u64>,
    /// Values of a shared counter, read before the call and after its return.
    pub(crate) called: u64,
    pub(crate) answered: u64,
    /// The clock before the call and after its return.
    pub(crate) clock: (u64, u64),
}

/// The state of the id at one point of the order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct State {
    shown: Option<Shown>,
    /// The values of the saved stages.
    values: Vec<u64>,
    /// The highest token so far.
    token_max: u64,
    /// Its process is gone.
    is_orphan: bool,
    /// The row of the id, which only transactions write that change the record.
    row: Option<u64>,
    /// It waits until a time between these, which no answer has shown yet.
    between: Option<(u64, u64)>,
}

/// An event and its policy.
struct Case<'a> {
    event: &'a Event,
    policy: OnLeaseEnd,
}

impl Case<'_> {
    /// Whether it may have happened then.
    fn may_be_at(&self, time: u64) -> bool {
        (self.event.clock.0..=self.event.clock.1).contains(&time)
    }

    /// Whether it may have happened before this time, and whether not before it.
    fn may_precede(&self, time: u64) -> bool {
        self.event.clock.0 < time
    }

    fn may_follow(&self, time: u64) -> bool {
        time <= self.event.clock.1
    }

    /// The state after the event, or `None` if it cannot come next.
    fn after(&self, mut state: State) -> Option<State> {
        match self.event.what {
            What::Begin(begun, shown) => self.begun(&mut state, begun, shown)?,
            What::Say { token, word, heard: Heard::Yes(shown) } => {
                let before = state.shown.filter(|before| before.token == token)?;
                let after = self.said(&mut state, before, word, shown)?;
                state.becomes(after);
                state.shows(shown)?;
            }
            What::Say { token, heard: Heard::Fenced(shown), .. } => {
                state.is(shown)?;
                if shown.is_some_and(|shown| shown.token == token) {
                    return None;
                }
            }
            What::Say { token, word, heard: Heard::LeaseEnded } => {
                let now = state.shown.filter(|now| now.token == token)?;
                let is_refused = match (word, now.is) {
                    (Word::Renew, Is::Running { until }) => self.may_follow(until),
                    (Word::Renew | Word::Save { .. }, Is::Held) => true,
                    (Word::Complete { .. }, _) => false,
                    (_, is) => is == Is::Dead,
                };
                is_refused.then_some(())?;
            }
            What::Replayed { number, value } => {
                (state.values.get(number as usize) == Some(&value)).then_some(())?;
            }
            What::Get(shown) => state.is(shown)?,
            What::Cancel(shown) => {
                if let Some(now) = state.shown
                    && !matches!(now.is, Is::Done { .. } | Is::Dead)
                {
                    state.becomes(Shown { is: Is::Dead, token: 0, ..now.with_one_more_end() });
                }
                state.is(shown)?;
            }
            What::Settle { result, shown } => self.settled(&mut state, result, shown)?,
            What::Redrive(changed) => {
                let waits = state.waits_for_operator();
                (waits == changed).then_some(())?;
                if let Some(now) = state.shown.filter(|_| changed) {
                    let is = Is::Waiting { until: 0 };
                    let redrives = now.redrives + 1;
                    state.becomes(Shown { is, attempts: 0, token: 0, redrives, ..now });
                    state.between = Some(self.event.clock);
                }
            }
            What::Purge(changed) => {
                (state.waits_for_operator() == changed).then_some(())?;
                if changed {
                    state.is_removed();
                }
            }
            What::Forget(changed) => {
                (state.shown.is_some() == changed).then_some(())?;
                state.is_removed();
            }
            What::Refused(begun, shown) => {
                (begun != Begun::Started).then_some(())?;
                self.begun(&mut state.clone(), begun, shown)?;
            }
            What::StageSaved { number } => {
                ((number as usize) < state.values.len()).then_some(())?;
            }
            What::Row(row) => (state.row == row).then_some(())?,
            What::Reopened => state.is_orphan = true,
        }
        if self.has_landed() {
            state.row = self.event.row.or(state.row);
        }
        Some(state)
    }

    /// Whether it has changed the record, with all that its transaction has written beside it.
    fn has_landed(&self) -> bool {
        matches!(
            self.event.what,
            What::Begin(Begun::Started, _)
                | What::Say { heard: Heard::Yes(_), .. }
                | What::Forget(true)
        )
    }

    fn begun(&self, state: &mut State, begun: Begun, shown: Shown) -> Option<()> {
        let is_lease_over = match state.shown.map(|now| now.is) {
            Some(Is::Running { until }) => Some(state.is_orphan || self.may_follow(until)),
            _ => None,
        };
        match begun {
            Begun::InProgress => {
                state.shows(shown)?;
                let Is::Running { until } = shown.is else { return None };
                (!state.is_orphan && self.may_precede(until)).then_some(())
            }
            Begun::RetryAt => {
                state.shows(shown)?;
                let Is::Waiting { until } = shown.is else { return None };
                self.may_precede(until).then_some(())
            }
            Begun::Over => {
                let now = state.shown?;
                if let Some(is_over) = is_lease_over {
                    is_over.then_some(())?;
                    let is = match self.policy {
                        OnLeaseEnd::Hold => Is::Held,
                        OnLeaseEnd::Fail => Is::Dead,
                        _ if now.attempts >= ATTEMPTS_MAX => Is::Dead,
                        _ => return None,
                    };
                    // The attempt may still say that it was done.
                    state.becomes(Shown { is, ..now.with_one_more_end() });
                }
                matches!(shown.is, Is::Held | Is::Dead | Is::Done { .. }).then_some(())?;
                state.shows(shown)
            }
            Begun::Started => self.started(state, is_lease_over, shown),
        }
    }

    fn started(&self, state: &mut State, is_lease_over: Option<bool>, shown: Shown) -> Option<()> {
        let Is::Running { until } = shown.is else { return None };
        let at = until.checked_sub(LEASE).filter(|at| self.may_be_at(*at))?;
        let none = Shown { is: shown.is, attempts: 0, token: 0, stages: 0, redrives: 0, ended: 0 };
        let mut now = state.shown.unwrap_or(none);
        match state.shown.map(|now| now.is) {
            None => {}
            Some(Is::Waiting { until }) => {
                let until = state.between.map_or(until, |(from, _)| from);
                (until <= at).then_some(())?;
            }
            Some(Is::Running { until }) => {
                is_lease_over?;
                (state.is_orphan || until <= at).then_some(())?;
                (!matches!(self.policy, OnLeaseEnd::Hold | OnLeaseEnd::Fail)).then_some(())?;
                now = now.with_one_more_end();
            }
            Some(_) => return None,
        }
        (now.attempts < ATTEMPTS_MAX && shown.token > state.token_max).then_some(())?;
        state.token_max = shown.token;
        let attempts = now.attempts + 1;
        state.becomes(Shown { is: shown.is, attempts, token: shown.token, ..now });
        state.is_orphan = false;
        state.shows(shown)
    }

    /// The record after its attempt has said something that landed; times are those that the answer shows.
    fn said(&self, state: &mut State, now: Shown, word: Word, shown: Shown) -> Option<Shown> {
        let ended = Shown { token: 0, ..now.with_one_more_end() };
        let is_open = matches!(now.is, Is::Running { .. } | Is::Held);
        match word {
            Word::Complete { result } => {
                (is_open || now.is == Is::Dead).then_some(())?;
                state.values.clear();
                Some(Shown { is: Is::Done { result }, stages: 0, ..ended })
            }
            Word::Fail if is_open && now.attempts >= ATTEMPTS_MAX => {
                Some(Shown { is: Is::Dead, ..ended })
            }
            Word::Fail if is_open => {
                let Is::Waiting { until } = shown.is else { return None };
                self.may_be_at(until.checked_sub(DELAY)?).then_some(())?;
                Some(Shown { is: shown.is, ..ended })
            }
            Word::Release if is_open => {
                let Is::Waiting { until } = shown.is else { return None };
                self.may_be_at(until).then_some(())?;
                Some(Shown { is: shown.is, attempts: now.attempts.checked_sub(1)?, ..ended })
            }
            Word::Renew | Word::Save { .. } => {
                let (Is::Running { until: before }, Is::Running { until }) = (now.is, shown.is)
                else {
                    return None;
                };
                // A lease that went on for longer than its length stays as it is.
                let earliest = self.event.clock.0;
                let at = if until == before { earliest } else { until.checked_sub(LEASE)? };
                let is_right = self.may_be_at(at)
                    && if until == before { at + LEASE <= until } else { until > before };
                let is_legal = word != Word::Renew || at < before;
                (is_right && is_legal).then_some(())?;
                let Word::Save { value } = word else { return Some(Shown { is: shown.is, ..now }) };
                state.values.push(value);
                Some(Shown { is: shown.is, stages: now.stages + 1, ..now })
            }
            Word::Fail | Word::Release => None,
        }
    }

    fn settled(&self, state: &mut State, result: u64, shown: Option<Shown>) -> Option<()> {
        let Some(now) = state.shown else { return state.is(shown) };
        let done =
            Shown { is: Is::Done { result }, token: 0, stages: 0, ..now.with_one_more_end() };
        let is_refused = match now.is {
            Is::Done { .. } => true,
            // The answer says whether the lease had ended.
            Is::Running { until } => {
                let is_over = shown == Some(done);
                if is_over {
                    state.is_orphan || self.may_follow(until)
                } else {
                    self.may_precede(until)
                }
                .then_some(!is_over)?
            }
            _ => false,
        };
        if !is_refused {
            state.becomes(done);
            state.values.clear();
        }
        state.is(shown)
    }
}

impl Shown {
    /// Its attempt has ended. If others had noted that already, this takes the place of it.
    fn with_one_more_end(self) -> Self {
        let is_noted = self.token != 0 && matches!(self.is, Is::Held | Is::Dead);
        Self { ended: self.ended + u32::from(!is_noted), ..self }
    }
}

impl State {
    fn becomes(&mut self, shown: Shown) {
        self.shown = Some(shown);
        self.between = None;
    }

    fn is_removed(&mut self) {
        *self = Self { token_max: self.token_max, row: self.row, ..Self::default() };
    }

    fn waits_for_operator(&self) -> bool {
        self.shown.is_some_and(|now| matches!(now.is, Is::Held | Is::Dead))
    }

    /// The record is this one.
    fn shows(&mut self, shown: Shown) -> Option<()> {
        self.is(Some(shown))
    }

    fn is(&mut self, shown: Option<Shown>) -> Option<()> {
        if let (Some((from, to)), Some(Shown { is: Is::Waiting { until }, .. })) =
            (self.between, shown)
            && let Some(now) = self.shown.filter(|_| (from..=to).contains(&until))
        {
            self.becomes(Shown { is: Is::Waiting { until }, ..now });
        }
        (self.shown == shown).then_some(())
    }
}

struct Search<'a> {
    events: &'a [Event],
    policy: OnLeaseEnd,
    /// Visited: events done, and the state.
    been: HashSet<(u128, State)>,
    /// The longest order found, for the error message.
    furthest: u128,
}

impl Search<'_> {
    fn goes_on(&mut self, done: u128, state: &State) -> bool {
        if done.count_ones() as usize == self.events.len() {
            return true;
        }
        if !self.been.insert((done, state.clone())) {
            return false;
        }
        if done.count_ones() > self.furthest.count_ones() {
            self.furthest = done;
        }
        let open = |n: &usize| done & (1 << n) == 0;
        let answers = (0..self.events.len()).filter(open).map(|n| self.events[n].answered);
        let first_answer = answers.min().unwrap_or(u64::MAX);
        for n in (0..self.events.len()).filter(open) {
            let event = &self.events[n];
            if event.called > first_answer {
                continue;
            }
            let case = Case { event, policy: self.policy };
            if let Some(next) = case.after(state.clone())
                && self.goes_on(done | (1 << n), &next)
            {
                return true;
            }
        }
        false
    }
}

/// Checks the events of one id.
pub(crate) fn check(events: &[Event], policy: OnLeaseEnd) -> Result<(), String> {
    assert!(events.len() <= EVENTS_MAX, "{} events of one id", events.len());
    let mut search = Search { events, policy, been: HashSet::new(), furthest: 0 };
    if search.goes_on(0, &State::default()) {
        return Ok(());
    }
    let mut sorted: Vec<_> = events.iter().enumerate().collect();
    sorted.sort_by_key(|(_, event)| event.called);
    let list = sorted.iter().map(|(n, event)| {
        let mark = if search.furthest & (1 << n) == 0 { "not " } else { "    " };
        format!("    {mark}{event:?}")
    });
    Err(format!(
        "no order explains what workers heard ({} of {} events at most), {policy:?}\n{}",
        search.furthest.count_ones(),
        events.len(),
        list.collect::<Vec<_>>().join("\n")
    ))
}

/// Checks that of two attempts, whatever their ids, the one that was begun after the other had its answer has the
/// higher token.
pub(crate) fn check_tokens(events: &[Event]) -> Result<(), String> {
    let mut started: Vec<(u64, u64, u64)> = events
        .iter()
        .filter_map(|event| match event.what {
            What::Begin(Begun::Started, shown) => Some((event.answered, event.called, shown.token)),
            _ => None,
        })
        .collect();
    started.sort_unstable();
    for (n, (_, called, token)) in started.iter().enumerate() {
        let before = started[..n].iter().filter(|(answered, ..)| answered < called);
        if let Some((.., other)) = before.max_by_key(|(.., token)| *token)
            && other >= token
        {
            return Err(format!("token {token} was given after {other}"));
        }
    }
    Ok(())
}
