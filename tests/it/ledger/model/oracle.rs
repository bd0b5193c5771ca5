//! The rules of a ledger as a plain state machine. It knows the promises of docs/LEDGER.md, and nothing of rows.

use super::calls::{Given, Key, Order, Policies};
use firstseen::Timestamp;
use firstseen::ledger::{AttemptEnd, DeadCause, OnLeaseEnd};
use firstseen::limits::LEDGER_HISTORY_MAX;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) const NEVER: u64 = Timestamp::NEVER.as_millis();

fn after(now: u64, ttl: Option<u64>) -> u64 {
    ttl.map_or(NEVER, |ttl| now + ttl)
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Is {
    Running { until: u64 },
    Waiting { until: u64 },
    Held,
    Done { result: Vec<u8>, is_failure: bool },
    Dead(DeadCause),
}

/// An attempt that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Past {
    pub(crate) token: u64,
    pub(crate) worker: String,
    pub(crate) started: u64,
    pub(crate) ended: u64,
    pub(crate) end: AttemptEnd,
}

/// What is saved of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Saved {
    pub(crate) name: String,
    pub(crate) is_done: bool,
    pub(crate) value: u32,
}

/// The record of an id, with what stands beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) is: Is,
    pub(crate) attempts: u32,
    /// The attempt that may still say how it went; zero if there is none.
    pub(crate) token: u64,
    /// The process that began it.
    life: u32,
    lease: u64,
    pub(crate) outlives_process: bool,
    pub(crate) worker: String,
    pub(crate) started: u64,
    pub(crate) first_begun: u64,
    pub(crate) fingerprint: Option<u8>,
    pub(crate) version: u32,
    pub(crate) payload: Option<u8>,
    pub(crate) stages: Vec<Saved>,
    pub(crate) redrives: u32,
    pub(crate) history: Vec<Past>,
    pub(crate) history_dropped: u32,
    pub(crate) ends: u64,
    /// Since when it waits for an operator.
    pub(crate) since: u64,
}

impl Known {
    fn new(now: u64) -> Self {
        Self {
            is: Is::Waiting { until: now },
            attempts: 0,
            token: 0,
            life: 0,
            lease: 0,
            outlives_process: false,
            worker: String::new(),
            started: now,
            first_begun: now,
            fingerprint: None,
            version: 0,
            payload: None,
            stages: Vec::new(),
            redrives: 0,
            history: Vec::new(),
            history_dropped: 0,
            ends: NEVER,
            since: 0,
        }
    }

    fn note(&mut self, end: AttemptEnd, now: u64) {
        let (token, worker, started) = (self.token, self.worker.clone(), self.started);
        // What an attempt says itself replaces what others had noted of it.
        self.history.pop_if(|past| token != 0 && past.token == token);
        self.history.push(Past { token, worker, started, ended: now, end });
        if self.history.len() > LEDGER_HISTORY_MAX {
            self.history.remove(0);
            self.history_dropped += 1;
        }
    }

    fn die(&mut self, cause: DeadCause, now: u64, policies: &Policies) {
        self.is = Is::Dead(cause);
        self.since = now;
        self.ends = after(now, policies.dead_ttl);
    }

    fn hold(&mut self, now: u64) {
        self.is = Is::Held;
        self.since = now;
    }

    fn done(&mut self, result: Vec<u8>, is_failure: bool, ends: u64) {
        self.is = Is::Done { result, is_failure };
        self.ends = ends;
        self.token = 0;
        self.stages.clear();
        self.payload = None;
    }

    fn wait(&mut self, until: u64) {
        self.is = Is::Waiting { until };
        self.token = 0;
        self.ends = NEVER;
    }

    fn retry(&mut self, end: AttemptEnd, after: Option<u64>, now: u64, policies: &Policies) {
        self.note(end, now);
        self.token = 0;
        if self.attempts >= policies.attempts_max {
            return self.die(DeadCause::Attempts, now, policies);
        }
        let grown = policies.delay << (self.attempts - 1).min(20);
        self.wait(now + after.unwrap_or(grown.min(policies.delay_max)));
    }

    fn redrive(&mut self, fresh: bool) {
        self.attempts = 0;
        self.redrives += 1;
        if fresh {
            self.stages.clear();
        }
    }

    pub(crate) fn waits_for_operator(&self) -> bool {
        matches!(self.is, Is::Dead(_) | Is::Held)
    }
}

/// An attempt, as the oracle knows it.
#[derive(Debug, Clone)]
pub(crate) struct Tried {
    pub(crate) key: Key,
    pub(crate) token: u64,
    pub(crate) policies: Policies,
    /// It said how it went, or heard that it may not.
    is_over: bool,
    /// How many stages it has done.
    pub(crate) reached: usize,
    /// How many it may find saved.
    saved: usize,
}

/// What `begin` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    Started,
    InProgress,
    Completed,
    RetryAt,
    Held,
    Dead,
    Mismatch,
    Outdated,
}

/// What an attempt hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    Yes,
    Fenced,
    Over,
    LeaseEnded,
    StageOrder,
    StageSaved,
}

/// How an attempt says it went.
#[derive(Debug, Clone)]
pub(crate) enum How {
    Completed(Vec<u8>, Option<u64>),
    Failed(Option<u64>),
    ForGood,
    WithResult(Vec<u8>),
    Dropped,
    Released,
}

/// What an attempt finds when it comes to its next stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reached {
    /// It is done, with this result.
    Done(u32),
    /// It is to be done, from this position.
    Open(Option<u32>),
    Refused(Heard),
}

/// What transactions write beside the records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    pub(crate) claims: BTreeSet<u8>,
    pub(crate) rows: BTreeMap<u8, u32>,
    /// In the order of their commits.
    pub(crate) messages: Vec<u32>,
}

#[derive(Debug, Clone)]
pub(crate) struct Oracle {
    pub(crate) now: u64,
    /// Counts the openings of the store.
    pub(crate) life: u32,
    pub(crate) token_max: u64,
    pub(crate) records: BTreeMap<Key, Known>,
    pub(crate) effects: Effects,
}

impl Oracle {
    pub(crate) fn new(now: u64) -> Self {
        Self { now, life: 1, token_max: 0, records: BTreeMap::new(), effects: Effects::default() }
    }

    pub(crate) fn pass(&mut self, ms: u64) {
        self.now += ms;
        self.expire();
    }

    /// Forgets what has come to the end of its ttl.
    pub(crate) fn expire(&mut self) {
        let now = self.now;
        self.records.retain(|_, known| known.ends > now);
    }

    /// Returns whether an attempt works on it: its lease has not ended, and its process is not gone.
    pub(crate) fn is_running(&self, known: &Known) -> bool {
        let has_process = known.outlives_process || known.life == self.life;
        matches!(known.is, Is::Running { until } if until > self.now && has_process)
    }

    /// If the answer is that an attempt has started, `started` has to follow.
    pub(crate) fn begin(&mut self, key: Key, given: &Given, policies: &Policies) -> Told {
        let (now, life) = (self.now, self.life);
        let known = self.records.get(&key).cloned();
        let is_running = known.as_ref().is_some_and(|known| self.is_running(known));
        let mut known = known.unwrap_or_else(|| Known::new(now));
        if known.fingerprint.is_some()
            && given.fingerprint.is_some_and(|other| known.fingerprint != Some(other))
        {
            return Told::Mismatch;
        }
        let is_lease_over = matches!(known.is, Is::Running { .. });
        match known.is {
            Is::Running { .. } if is_running => return Told::InProgress,
            Is::Waiting { until } if until > now => return Told::RetryAt,
            Is::Running { .. } | Is::Waiting { .. } => {}
            Is::Held => return Told::Held,
            Is::Done { .. } => return Told::Completed,
            Is::Dead(_) => return Told::Dead,
        }
        if given.version < known.version {
            return Told::Outdated;
        }
        let told = if is_lease_over { lease_over(&mut known, now, life, policies) } else { None };
        let told = told.unwrap_or_else(|| {
            if known.attempts >= policies.attempts_max {
                known.die(DeadCause::Attempts, now, policies);
                return Told::Dead;
            }
            let lease = given.lease.unwrap_or(policies.lease);
            known.is = Is::Running { until: now + lease };
            known.attempts += 1;
            known.life = life;
            known.lease = lease;
            known.outlives_process = policies.outlives_process;
            known.worker = format!("w{}", given.worker);
            known.started = now;
            known.fingerprint = known.fingerprint.or(given.fingerprint);
            known.payload = known.payload.or(given.payload);
            known.version = given.version;
            Told::Started
        });
        self.records.insert(key, known);
        told
    }

    /// Notes the token of an attempt that has started: above every one before.
    pub(crate) fn started(
        &mut self,
        key: Key,
        token: u64,
        policies: &Policies,
    ) -> Result<Tried, String> {
        if token <= self.token_max {
            return Err(format!("token {token} is not above {}", self.token_max));
        }
        self.token_max = token;
        let known = self.records.get_mut(&key).ok_or("no record has started")?;
        known.token = token;
        let saved = known.stages.len();
        Ok(Tried { key, token, policies: *policies, is_over: false, reached: 0, saved })
    }

    /// What an attempt hears that reads its record again.
    pub(crate) fn look(&self, tried: &Tried) -> Heard {
        let Some(known) = self.records.get(&tried.key) else { return Heard::Fenced };
        if known.token == tried.token {
            return Heard::Yes;
        }
        match known.history.last() {
            Some(past) if past.token == tried.token && is_told(past.end) => Heard::Over,
            _ => Heard::Fenced,
        }
    }

    /// Returns the record of an attempt that may still say how it went.
    fn owned(&mut self, tried: &Tried) -> Result<&mut Known, Heard> {
        if tried.is_over {
            return Err(Heard::Over);
        }
        let known = self.records.get_mut(&tried.key);
        known.filter(|known| known.token == tried.token).ok_or(Heard::Fenced)
    }

    pub(crate) fn check(&self, tried: &Tried) -> Heard {
        match self.look(tried) {
            Heard::Yes if self.records.get(&tried.key).is_some_and(|k| self.is_running(k)) => {
                Heard::Yes
            }
            Heard::Yes => Heard::LeaseEnded,
            other => other,
        }
    }

    pub(crate) fn renew(&mut self, tried: &Tried, lease: Option<u64>) -> Heard {
        let now = self.now;
        let known = match self.owned(tried) {
            Ok(known) => known,
            Err(heard) => return heard,
        };
        match known.is {
            Is::Running { until } if until > now => {
                let until = lease.map_or(until.max(now + known.lease), |lease| now + lease);
                known.is = Is::Running { until };
                Heard::Yes
            }
            _ => Heard::LeaseEnded,
        }
    }

    pub(crate) fn end(&mut self, tried: &mut Tried, how: How) -> Heard {
        let heard = match self.owned(tried) {
            Ok(_) => self.end_owned(tried, how),
            Err(heard) => heard,
        };
        tried.is_over |= heard != Heard::LeaseEnded;
        heard
    }

    fn end_owned(&mut self, tried: &Tried, how: How) -> Heard {
        let (now, policies) = (self.now, &tried.policies);
        let Some(known) = self.records.get_mut(&tried.key) else { return Heard::Fenced };
        let completes = matches!(how, How::Completed(..) | How::WithResult(_));
        let holds = matches!(how, How::Dropped) && policies.on_lease_end == OnLeaseEnd::Hold;
        let is_legal = match known.is {
            Is::Running { .. } => true,
            // Silence changes nothing of that.
            Is::Held => !matches!(how, How::Dropped),
            // Dead because its lease ended: the effect may have happened all the same.
            Is::Dead(_) => completes,
            Is::Waiting { .. } | Is::Done { .. } => false,
        };
        if !is_legal {
            return Heard::LeaseEnded;
        }
        match how {
            How::Completed(result, ttl) => {
                known.note(AttemptEnd::Completed, now);
                known.done(result, false, after(now, ttl));
            }
            How::WithResult(result) => {
                known.note(AttemptEnd::Final, now);
                known.done(result, true, after(now, policies.result_ttl));
            }
            How::Failed(delay) => known.retry(AttemptEnd::Failed, delay, now, policies),
            How::Dropped if holds => {
                known.note(AttemptEnd::Dropped, now);
                known.hold(now);
            }
            How::Dropped => known.retry(AttemptEnd::Dropped, None, now, policies),
            How::ForGood => {
                known.note(AttemptEnd::Final, now);
                known.token = 0;
                known.die(DeadCause::Final, now, policies);
            }
            How::Released => {
                known.note(AttemptEnd::Released, now);
                known.attempts -= 1;
                known.wait(now);
            }
        }
        Heard::Yes
    }

    /// The attempt comes to its next stage.
    pub(crate) fn reach(&self, tried: &Tried, name: &str) -> Reached {
        let heard = if tried.is_over { Heard::Over } else { self.look(tried) };
        if heard != Heard::Yes {
            return Reached::Refused(heard);
        }
        let is_running = |known: &Known| matches!(known.is, Is::Running { .. });
        if !self.records.get(&tried.key).is_some_and(is_running) {
            return Reached::Refused(Heard::LeaseEnded);
        }
        if tried.reached >= tried.saved {
            return Reached::Open(None);
        }
        let known = self.records.get(&tried.key);
        let saved = known.and_then(|known| known.stages.get(tried.reached));
        match saved.filter(|saved| saved.name == name) {
            Some(saved) if saved.is_done => Reached::Done(saved.value),
            Some(saved) => Reached::Open(Some(saved.value)),
            None => match self.look(tried) {
                Heard::Yes => Reached::Refused(Heard::StageOrder),
                heard => Reached::Refused(heard),
            },
        }
    }

    /// The attempt saves the stage that it has come to, or a position in it.
    pub(crate) fn save(&mut self, tried: &mut Tried, saved: Saved) -> Heard {
        let now = self.now;
        let known = match self.owned(tried) {
            Ok(known) => known,
            Err(heard) => return heard,
        };
        let Is::Running { until } = known.is else { return Heard::LeaseEnded };
        known.is = Is::Running { until: until.max(now + known.lease) };
        match known.stages.get_mut(tried.reached) {
            Some(stage) => *stage = saved,
            None => known.stages.push(saved),
        }
        tried.saved = tried.saved.max(tried.reached + 1);
        Heard::Yes
    }

    /// A transaction of the attempt saves that: as `save`, but never a stage that is saved already.
    pub(crate) fn save_joined(&mut self, tried: &mut Tried, saved: Saved) -> Heard {
        match self.reach(tried, &saved.name) {
            Reached::Refused(heard) => heard,
            Reached::Done(_) => Heard::StageSaved,
            Reached::Open(_) => {
                let is_done = saved.is_done;
                let heard = self.save(tried, saved);
                tried.reached += usize::from(is_done && heard == Heard::Yes);
                heard
            }
        }
    }

    /// Returns whether the record was changed.
    pub(crate) fn operate(
        &mut self,
        key: Key,
        order: Order,
        result: &[u8],
        policies: &Policies,
    ) -> bool {
        let now = self.now;
        let is_running = self.records.get(&key).is_some_and(|known| self.is_running(known));
        let Some(known) = self.records.get_mut(&key) else { return false };
        let is_over = matches!(known.is, Is::Done { .. } | Is::Dead(_));
        match order {
            Order::Cancel if !is_over => {
                known.note(AttemptEnd::Cancelled, now);
                known.token = 0;
                known.die(DeadCause::Cancelled, now, policies);
            }
            Order::Settle if !is_running && !matches!(known.is, Is::Done { .. }) => {
                known.note(AttemptEnd::Settled, now);
                known.done(result.to_vec(), false, after(now, policies.result_ttl));
            }
            Order::Redrive | Order::RedriveFresh if !is_running => {
                if matches!(known.is, Is::Running { .. }) {
                    known.note(AttemptEnd::Cancelled, now);
                }
                known.redrive(order == Order::RedriveFresh);
                known.wait(now);
            }
            Order::RedriveLetter { fresh } if known.waits_for_operator() => {
                known.redrive(fresh);
                known.wait(now);
            }
            Order::Purge if !is_running => drop(self.records.remove(&key)),
            Order::Forget => drop(self.records.remove(&key)),
            Order::PurgeLetter if known.waits_for_operator() => drop(self.records.remove(&key)),
            _ => return false,
        }
        true
    }

    /// Returns the dead or held ids of a ledger, those that have been so for longest first.
    pub(crate) fn letters(&self, ledger: u8, held: bool) -> Vec<(u64, Key)> {
        let ours = self.records.iter().filter(|(key, _)| key.0 == ledger);
        let mut letters: Vec<(u64, Key)> = ours
            .filter(|(_, known)| known.waits_for_operator() && (known.is == Is::Held) == held)
            .map(|(key, known)| (known.since, *key))
            .collect();
        letters.sort_by_key(|(since, key)| (*since, super::calls::id_bytes(*key)));
        letters
    }
}

/// A lease has ended and nobody said how it went. Returns what is told then, unless another attempt may start.
fn lease_over(known: &mut Known, now: u64, life: u32, policies: &Policies) -> Option<Told> {
    let is_orphan = !known.outlives_process && known.life != life;
    let end = if is_orphan { AttemptEnd::ProcessEnded } else { AttemptEnd::LeaseEnded };
    known.note(end, now);
    match policies.on_lease_end {
        OnLeaseEnd::Hold => {
            known.hold(now);
            Some(Told::Held)
        }
        OnLeaseEnd::Fail => {
            known.die(DeadCause::LeaseEnded, now, policies);
            Some(Told::Dead)
        }
        _ => None,
    }
}

/// Returns whether the attempt itself said so.
fn is_told(end: AttemptEnd) -> bool {
    use AttemptEnd::{Cancelled, LeaseEnded, ProcessEnded, Settled};
    !matches!(end, LeaseEnded | ProcessEnded | Cancelled | Settled)
}
