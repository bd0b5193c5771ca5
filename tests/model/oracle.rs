//! The oracle: a model of the store in plain maps.
//!
//! The history holds every change that may have been made, in call order. After a kill, the store must match some
//! prefix of it that includes all that was acknowledged at `Process`; after a power cut, all that was acknowledged at
//! `Disk` or before a `sync`. A refused call adds nothing. A call that failed in flight adds its change without
//! acknowledging it.

use crate::ops::{FOREVER, KeyNo, Level, is_row};
use std::collections::{BTreeMap, BTreeSet};

/// The latest version of an id, or of a row: there the number of the write that put it stands for `first_seen`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fact {
    pub(crate) first_seen: u64,
    pub(crate) deadline: u64,
    /// It is a tombstone.
    pub(crate) grave: bool,
}

impl Fact {
    /// A claim made at `at`. Its deadline counts from `latest`, the later of the engine's time and a wall clock in
    /// doubt (I5).
    pub(crate) fn claim(at: u64, latest: u64, ttl: u64) -> Self {
        let deadline = if ttl == FOREVER { FOREVER } else { latest + ttl };
        Self { first_seen: at, deadline, grave: false }
    }
}

/// What a reader sees of a live claim: first seen and deadline.
pub(crate) type Seen = Option<(u64, u64)>;

pub(crate) fn visible(fact: Option<&Fact>, now: u64) -> Seen {
    fact.filter(|f| !f.grave && now < f.deadline).map(|f| (f.first_seen, f.deadline))
}

/// One record: applied whole or not at all.
pub(crate) type Change = Vec<(KeyNo, Fact)>;

#[derive(Debug, Clone, Default)]
pub(crate) struct Oracle {
    /// The state that can no longer be lost.
    base: BTreeMap<KeyNo, Fact>,
    history: Vec<Change>,
    /// Lengths of the prefixes of the history that survive a kill and a power cut.
    kill_safe: usize,
    cut_safe: usize,
    /// The state after the whole history.
    now_is: BTreeMap<KeyNo, Fact>,
    /// For each key, the length of the history up to and including its last change.
    last: BTreeMap<KeyNo, usize>,
    pub(crate) touched: BTreeSet<KeyNo>,
    /// The sequence of each write of a row, as far as it is known.
    sequences: BTreeMap<u64, u64>,
    /// The highest sequence given.
    highest: u64,
    /// The highest one given before the last opening that was not lost.
    lasted: u64,
    /// Reserved ids and their holders.
    pub(crate) held: BTreeMap<KeyNo, u64>,
}

/// How the process ended.
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

    /// The latest first-seen time.
    pub(crate) fn newest(&self) -> u64 {
        let claims = self.now_is.iter().filter(|(key, _)| !is_row(**key));
        claims.map(|(_, fact)| fact.first_seen).max().unwrap_or(0)
    }

    /// All live claims.
    pub(crate) fn live(&self, now: u64) -> BTreeMap<KeyNo, (u64, u64)> {
        self.live_where(now, |key| !is_row(key))
    }

    /// All live rows of a family.
    pub(crate) fn live_rows(&self, family: u8, now: u64) -> BTreeMap<KeyNo, (u64, u64)> {
        self.live_where(now, |key| key.0 == family)
    }

    fn live_where(&self, now: u64, is_it: impl Fn(KeyNo) -> bool) -> BTreeMap<KeyNo, (u64, u64)> {
        let facts = self.now_is.iter().filter(|(key, _)| is_it(**key));
        facts.filter_map(|(k, f)| Some((*k, visible(Some(f), now)?))).collect()
    }

    /// The sequence of a write of a row, if it was heard.
    pub(crate) fn sequence(&self, write: u64) -> Option<u64> {
        self.sequences.get(&write).copied()
    }

    /// A row was found that a write with an unknown outcome has put.
    pub(crate) fn learn(&mut self, write: u64, sequence: u64) {
        self.sequences.entry(write).or_insert(sequence);
    }

    /// A write was given this sequence: above all that were given before.
    pub(crate) fn given(&mut self, write: u64, sequence: u64) -> Result<(), String> {
        if sequence <= self.highest {
            return Err(format!("sequence {sequence}, after {} was given", self.highest));
        }
        self.highest = sequence;
        self.sequences.insert(write, sequence);
        Ok(())
    }

    /// The highest sequence that a restart may not give again: of what was safe and of what is seen. That of a lost
    /// write may be given to another.
    fn lasting(&self, safe: usize, observed: &BTreeMap<KeyNo, Seen>) -> u64 {
        let rows = self.history[..safe].iter().flatten().filter(|(key, _)| is_row(*key));
        let seen = observed.iter().filter(|(key, _)| is_row(**key));
        let writes = rows.map(|(_, fact)| fact.first_seen);
        let writes = writes.chain(seen.filter_map(|(_, seen)| Some((*seen)?.0)));
        writes.filter_map(|write| self.sequence(write)).max().unwrap_or(0)
    }

    /// The manifest is lost: only rows that are left tell which sequences were given, and those of the highest may have ended.
    pub(crate) fn forget_sequences(&mut self) {
        (self.highest, self.lasted) = (0, 0);
    }

    /// Adds a change that may have been made.
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

    /// The whole history is acknowledged at this level.
    pub(crate) fn acknowledge(&mut self, level: Level) {
        self.acknowledge_to(self.history.len(), level);
    }

    /// The last change of a key is acknowledged at this level, by a duplicate or by a `get` that found it (I6).
    pub(crate) fn acknowledge_key(&mut self, key: KeyNo, level: Level) {
        let end = self.last.get(&key).copied().unwrap_or(0);
        self.acknowledge_to(end, level);
    }

    /// Checks a reopened store: `observed` is what it returns for every key touched so far. Adopts the state it must be
    /// in, or says what is wrong.
    pub(crate) fn reopened(
        &mut self,
        end: End,
        now: u64,
        observed: &BTreeMap<KeyNo, Seen>,
    ) -> Result<(), String> {
        let state = self.check(end, now, observed)?;
        let kept = self.lasting(self.safe(end), observed);
        self.highest = if end == End::Closed { self.highest } else { kept.max(self.lasted) };
        self.lasted = self.highest;
        self.now_is.clone_from(&state);
        self.base = state;
        self.history.clear();
        self.last.clear();
        (self.kill_safe, self.cut_safe) = (0, 0);
        self.held.clear();
        Ok(())
    }

    /// The length of the prefix of the history that survives.
    fn safe(&self, end: End) -> usize {
        match end {
            End::Closed => self.history.len(),
            End::Kill => self.kill_safe,
            End::PowerCut => self.cut_safe,
        }
    }

    /// As [`reopened`](Self::reopened), but only returns the state that the store must be in.
    pub(crate) fn check(
        &self,
        end: End,
        now: u64,
        observed: &BTreeMap<KeyNo, Seen>,
    ) -> Result<BTreeMap<KeyNo, Fact>, String> {
        let safe = self.safe(end);
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
