//! The oracle: what a dedup store must answer, kept in plain maps outside of it.
//!
//! Every change that a call may have made is one entry of a history, in the order of the calls. After a
//! kill the store must be in the state after some prefix of the history that is no shorter than what was
//! acknowledged at `Process`; after a power cut, no shorter than what was acknowledged at `Disk` or before
//! a `sync`. A refused call enters nothing; a call that failed on the way (in flight) enters its change
//! without acknowledging it.

use crate::ops::{FOREVER, KeyNo, Level};
use std::collections::{BTreeMap, BTreeSet};

/// The newest that is known of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fact {
    pub(crate) first_seen: u64,
    pub(crate) deadline: u64,
    /// It was forgotten.
    pub(crate) grave: bool,
}

impl Fact {
    /// A claim made at `at`, whose deadline counts from `latest`: the later of the engine's time and that of a
    /// wall clock that is in doubt (I5).
    pub(crate) fn claim(at: u64, latest: u64, ttl: u64) -> Self {
        let deadline = if ttl == FOREVER { FOREVER } else { latest + ttl };
        Self { first_seen: at, deadline, grave: false }
    }
}

/// What a reader sees of an id: first seen and deadline of a live claim.
pub(crate) type Seen = Option<(u64, u64)>;

pub(crate) fn visible(fact: Option<&Fact>, now: u64) -> Seen {
    fact.filter(|f| !f.grave && now < f.deadline).map(|f| (f.first_seen, f.deadline))
}

/// One record: what it says lands whole or not at all.
pub(crate) type Change = Vec<(KeyNo, Fact)>;

#[derive(Debug, Clone, Default)]
pub(crate) struct Oracle {
    /// The state that nothing can take away any more.
    base: BTreeMap<KeyNo, Fact>,
    history: Vec<Change>,
    /// Acknowledged prefix of the history, by what it survives.
    kill_safe: usize,
    cut_safe: usize,
    /// The state after the whole history.
    now_is: BTreeMap<KeyNo, Fact>,
    /// Ends of the history up to which the last change of a key reaches.
    last: BTreeMap<KeyNo, usize>,
    pub(crate) touched: BTreeSet<KeyNo>,
    /// Ids held by reservations: who holds them.
    pub(crate) held: BTreeMap<KeyNo, u64>,
}

/// What ended the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Closed,
    Kill,
    PowerCut,
}

impl Oracle {
    pub(crate) fn fact(&self, key: KeyNo) -> Option<&Fact> {
        self.now_is.get(&key)
    }

    pub(crate) fn seen(&self, key: KeyNo, now: u64) -> Seen {
        visible(self.fact(key), now)
    }

    /// The latest moment that any fact names.
    pub(crate) fn newest(&self) -> u64 {
        self.now_is.values().map(|fact| fact.first_seen).max().unwrap_or(0)
    }

    /// Everything that is live now.
    pub(crate) fn live(&self, now: u64) -> BTreeMap<KeyNo, (u64, u64)> {
        self.now_is.iter().filter_map(|(k, f)| Some((*k, visible(Some(f), now)?))).collect()
    }

    /// Enters a change that may have been made.
    pub(crate) fn enter(&mut self, change: Change) {
        for (key, fact) in &change {
            self.now_is.insert(*key, *fact);
            self.touched.insert(*key);
            self.last.insert(*key, self.history.len() + 1);
        }
        self.history.push(change);
    }

    fn acknowledge_to(&mut self, end: usize, level: Level) {
        if level >= Level::Process {
            self.kill_safe = self.kill_safe.max(end);
        }
        if level >= Level::Disk {
            self.cut_safe = self.cut_safe.max(end);
        }
    }

    /// The last change was acknowledged at this level.
    pub(crate) fn acknowledge(&mut self, level: Level) {
        self.acknowledge_to(self.history.len(), level);
    }

    /// A duplicate, or a live answer of `get`, was acknowledged at this level (I6).
    pub(crate) fn acknowledge_key(&mut self, key: KeyNo, level: Level) {
        let end = self.last.get(&key).copied().unwrap_or(0);
        self.acknowledge_to(end, level);
    }

    /// The process has ended and the store was opened again; `observed` is what it answers for every key
    /// touched so far. Settles on the state it must be in, or says what is wrong.
    pub(crate) fn reopened(
        &mut self,
        end: End,
        now: u64,
        observed: &BTreeMap<KeyNo, Seen>,
    ) -> Result<(), String> {
        let state = self.check(end, now, observed)?;
        self.now_is.clone_from(&state);
        self.base = state;
        self.history.clear();
        self.last.clear();
        (self.kill_safe, self.cut_safe) = (0, 0);
        self.held.clear();
        Ok(())
    }

    /// The same without settling: answers the state that the store must be in.
    pub(crate) fn check(
        &self,
        end: End,
        now: u64,
        observed: &BTreeMap<KeyNo, Seen>,
    ) -> Result<BTreeMap<KeyNo, Fact>, String> {
        let safe = match end {
            End::Closed => self.history.len(),
            End::Kill => self.kill_safe,
            End::PowerCut => self.cut_safe,
        };
        let mut state = self.base.clone();
        let mut found = None;
        let mut nearest = (usize::MAX, String::new());
        for taken in 0..=self.history.len() {
            if taken > 0 {
                self.history[taken - 1].iter().for_each(|(k, f)| {
                    state.insert(*k, *f);
                });
            }
            if taken < safe {
                continue;
            }
            let wrong: Vec<_> =
                observed.iter().filter(|(k, seen)| visible(state.get(k), now) != **seen).collect();
            if wrong.is_empty() {
                found = Some(state.clone());
            } else if wrong.len() < nearest.0 {
                let (key, seen) = wrong[0];
                let want = state.get(key);
                let what = format!(
                    "after {end:?} at time {now}: id {key:?} is {seen:?}, but after {taken} of {} \
                     changes (acknowledged: {safe}) it is {want:?}; {} ids differ",
                    self.history.len(),
                    wrong.len()
                );
                nearest = (wrong.len(), what);
            }
        }
        found.ok_or(nearest.1)
    }
}
