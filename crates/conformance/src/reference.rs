//! A store in memory that keeps every rule in the simplest way: one lock, one map, one clock.

use crate::fixture::Fixture;
use firstseen::{Clock, ManualClock};
use firstseen_shared::{
    AttemptEnd, Begun, Call, Claim, DeadCause, DedupStore, Ending, Error, ErrorKind, MoveError,
    OnLeaseEnd, PastAttempt, Policy, Record, Result, Start, State, Stats, Timestamp, Ttl,
};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const ID_BYTES_MAX: usize = 1_024;
const NAME_BYTES_MAX: usize = 255;
const REASON_BYTES_MAX: usize = 1_024;
const RESULT_BYTES_MAX: usize = 4 << 20;

/// The time that never comes.
const NEVER_MS: u64 = u64::MAX;

/// A store in memory, with a clock that tests set. A handle: clones see the same data. Nothing outlives the last of them.
///
/// It is the model that other stores are compared with, so it is written to be read: each call takes the lock, decides by
/// the rules of [`DedupStore`] in their order, and lets go.
#[derive(Debug, Clone)]
pub struct Reference {
    pub(crate) world: Arc<Mutex<World>>,
    clock: ManualClock,
}

/// All that is stored. Ids belong to a namespace.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) claims: BTreeMap<Name, Claimed>,
    pub(crate) records: BTreeMap<Name, Row>,
    pub(crate) last_token: u64,
}

pub(crate) type Name = (String, Vec<u8>);

#[derive(Debug, Clone)]
pub(crate) struct Claimed {
    pub(crate) made_ms: u64,
    pub(crate) ends_ms: u64,
    pub(crate) by: Call,
}

#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) record: Record,
    pub(crate) ends_ms: u64,
    /// The call that began the attempt which works on it.
    pub(crate) by: Option<Call>,
}

impl Default for Reference {
    fn default() -> Self {
        Self::new()
    }
}

impl Reference {
    /// Creates an empty store, whose clock shows some time in 2026.
    pub fn new() -> Self {
        Self::with_clock(ManualClock::at_millis(1_780_000_000_000))
    }

    /// Creates an empty store with this clock.
    pub fn with_clock(clock: ManualClock) -> Self {
        Self { world: Arc::default(), clock }
    }

    /// Returns a fixture of an empty store, for [`conformance!`](crate::conformance).
    pub fn fixture() -> impl Fixture<Store = Self> {
        Self::new()
    }

    /// Returns its clock.
    pub fn clock(&self) -> &ManualClock {
        &self.clock
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.wall().as_millis()
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fixture for Reference {
    type Store = Self;

    async fn store(&self) -> Self {
        self.clone()
    }

    async fn advance(&self, time: Duration) {
        self.clock.advance(time);
    }
}

impl World {
    /// Returns the row of a record that has not ended.
    pub(crate) fn live(&mut self, name: &Name, now_ms: u64) -> Option<&mut Row> {
        if self.records.get(name).is_some_and(|row| row.ends_ms <= now_ms) {
            self.records.remove(name);
        }
        self.records.get_mut(name)
    }

    fn claim(&mut self, name: Name, now_ms: u64, ttl: Ttl, call: Call) -> Claim {
        match self.claims.get(&name).filter(|claim| claim.ends_ms > now_ms) {
            Some(claim) if claim.by == call => Claim::FirstSeen,
            Some(claim) => Claim::Duplicate { first_seen: Timestamp::from_millis(claim.made_ms) },
            None => {
                let ends_ms = end_of(now_ms, ttl);
                self.claims.insert(name, Claimed { made_ms: now_ms, ends_ms, by: call });
                Claim::FirstSeen
            }
        }
    }

    fn begin(
        &mut self,
        name: Name,
        now_ms: u64,
        start: &Start<'_>,
        policy: &Policy,
        call: Call,
    ) -> Begun {
        let Some(row) = self.live(&name, now_ms) else {
            return self.start(name, now_ms, start, call);
        };
        row.record.read = Timestamp::from_millis(now_ms);
        let is_over = row.is_lease_over(now_ms);
        if row.by == Some(call) && matches!(row.record.state, State::Running { .. }) && !is_over {
            return Begun::Started { token: row.record.token, attempt: row.record.attempts };
        }
        if let (Some(stored), Some(given)) = (row.record.fingerprint, start.fingerprint)
            && stored != given
        {
            return Begun::Mismatch(row.record.clone().without_result());
        }
        if is_over {
            row.note(AttemptEnd::LeaseEnded, "");
            match policy.on_lease_end {
                OnLeaseEnd::Hold => row.record.state = State::Held,
                OnLeaseEnd::Fail => row.bury(DeadCause::LeaseEnded, now_ms, policy),
                _ => row.record.state = State::Waiting { until: Timestamp::from_millis(now_ms) },
            }
        }
        match &row.record.state {
            State::Running { .. } => return Begun::InProgress(row.record.clone()),
            State::Completed { .. } => return Begun::Completed(row.record.clone()),
            State::Held => return Begun::Held(row.record.clone()),
            State::Dead { .. } => return Begun::Dead(row.record.clone()),
            State::Waiting { until } if until.as_millis() > now_ms => {
                return Begun::RetryAt(row.record.clone());
            }
            State::Waiting { .. } => {}
        }
        if row.record.attempts >= policy.attempts_max {
            row.bury(DeadCause::Attempts, now_ms, policy);
            return Begun::Dead(row.record.clone());
        }
        self.start(name, now_ms, start, call)
    }

    fn start(&mut self, name: Name, now_ms: u64, start: &Start<'_>, call: Call) -> Begun {
        self.last_token += 1;
        let now = Timestamp::from_millis(now_ms);
        let row = self.records.entry(name).or_insert_with(|| {
            let record = Record {
                state: State::Waiting { until: now },
                attempts: 0,
                token: 0,
                worker: String::new(),
                fingerprint: None,
                first_begun: now,
                history: Vec::new(),
                read: now,
            };
            Row { record, ends_ms: NEVER_MS, by: None }
        });
        row.by = Some(call);
        let record = &mut row.record;
        record.state = State::Running { until: after(now_ms, start.lease) };
        record.attempts += 1;
        record.token = self.last_token;
        start.worker.clone_into(&mut record.worker);
        record.fingerprint = record.fingerprint.or(start.fingerprint);
        Begun::Started { token: record.token, attempt: record.attempts }
    }

    fn end(
        &mut self,
        name: &Name,
        now_ms: u64,
        token: u64,
        ending: &Ending<'_>,
        policy: &Policy,
    ) -> Result<(), MoveError> {
        let row = self.owned(name, now_ms, token)?;
        let may_end = matches!(row.record.state, State::Running { .. })
            || matches!(ending, Ending::Completed { .. });
        if !may_end {
            return Err(MoveError::Fenced(Some(row.record.clone().into())));
        }
        row.end(now_ms, ending, policy);
        Ok(())
    }

    /// Returns the row of an attempt that has not said how it went: it runs, or a `begin` has found its lease ended.
    fn owned(&mut self, name: &Name, now_ms: u64, token: u64) -> Result<&mut Row, MoveError> {
        let Some(row) = self.live(name, now_ms) else { return Err(MoveError::Fenced(None)) };
        row.record.read = Timestamp::from_millis(now_ms);
        if row.record.is_ended_by(token) {
            return Err(MoveError::Over(row.record.clone().into()));
        }
        let is_found_ended = matches!(row.record.state, State::Held | State::Dead { .. });
        let is_running = matches!(row.record.state, State::Running { .. });
        if token == 0 || row.record.token != token || !(is_running || is_found_ended) {
            return Err(MoveError::Fenced(Some(row.record.clone().into())));
        }
        Ok(row)
    }
}

impl Row {
    pub(crate) fn is_lease_over(&self, now_ms: u64) -> bool {
        matches!(self.record.state, State::Running { until } if until.as_millis() <= now_ms)
    }

    /// Notes how the attempt ended. What it says itself takes the place of what was found.
    pub(crate) fn note(&mut self, end: AttemptEnd, reason: &str) {
        let record = &mut self.record;
        record.history.pop_if(|past| past.token == record.token);
        let len =
            (0..=REASON_BYTES_MAX.min(reason.len())).rev().find(|at| reason.is_char_boundary(*at));
        let reason = reason[..len.unwrap_or(0)].to_owned();
        let past = PastAttempt { token: record.token, worker: record.worker.clone(), end, reason };
        record.history.push(past);
        if record.history.len() > Record::HISTORY_MAX {
            record.history.remove(0);
        }
        self.by = None;
    }

    fn bury(&mut self, cause: DeadCause, now_ms: u64, policy: &Policy) {
        self.record.state = State::Dead { cause };
        self.ends_ms = end_of(now_ms, policy.dead_ttl);
    }

    pub(crate) fn end(&mut self, now_ms: u64, ending: &Ending<'_>, policy: &Policy) {
        self.ends_ms = NEVER_MS;
        match *ending {
            Ending::Completed { result, is_failure, ttl } => {
                self.note(AttemptEnd::Completed, "");
                let result = Some(result.to_vec());
                self.record.state = State::Completed { result, is_failure };
                self.ends_ms = end_of(now_ms, ttl);
            }
            Ending::Failed { reason, .. } if self.record.attempts >= policy.attempts_max => {
                self.note(AttemptEnd::Failed, reason);
                self.bury(DeadCause::Attempts, now_ms, policy);
            }
            Ending::Failed { retry_after, reason } => {
                self.note(AttemptEnd::Failed, reason);
                self.record.state = State::Waiting { until: after(now_ms, retry_after) };
            }
            Ending::Final { reason } => {
                self.note(AttemptEnd::Final, reason);
                self.bury(DeadCause::Final, now_ms, policy);
            }
            Ending::Held { reason } => {
                self.note(AttemptEnd::Held, reason);
                self.record.state = State::Held;
            }
            Ending::Released => {
                self.note(AttemptEnd::Released, "");
                self.record.attempts = self.record.attempts.saturating_sub(1);
                self.record.state = State::Waiting { until: Timestamp::from_millis(now_ms) };
            }
        }
    }

    fn is_dead_letter(&self) -> bool {
        matches!(self.record.state, State::Held | State::Dead { .. })
    }
}

impl DedupStore for Reference {
    async fn claim_batch(
        &self,
        namespace: &str,
        ids: &[&[u8]],
        ttl: Ttl,
        call: Call,
    ) -> Result<Vec<Claim>> {
        check_ttl(ttl)?;
        let names = ids.iter().map(|id| name(namespace, id)).collect::<Result<Vec<_>>>()?;
        check_bytes("the name of a namespace", namespace.len(), 1, NAME_BYTES_MAX)?;
        let (mut world, now_ms) = (self.world(), self.now_ms());
        let mut claims: Vec<Claim> = Vec::with_capacity(names.len());
        for (n, name) in names.iter().enumerate() {
            // Of two equal ids only the first is this call's own.
            let call = if names[..n].contains(name) { Call::new() } else { call };
            claims.push(world.claim(name.clone(), now_ms, ttl, call));
        }
        Ok(claims)
    }

    async fn contains(&self, namespace: &str, id: &[u8]) -> Result<bool> {
        let name = name(namespace, id)?;
        let now_ms = self.now_ms();
        Ok(self.world().claims.get(&name).is_some_and(|claim| claim.ends_ms > now_ms))
    }

    async fn forget(&self, namespace: &str, id: &[u8]) -> Result<bool> {
        let name = name(namespace, id)?;
        let now_ms = self.now_ms();
        Ok(self.world().claims.remove(&name).is_some_and(|claim| claim.ends_ms > now_ms))
    }

    async fn begin(
        &self,
        namespace: &str,
        id: &[u8],
        start: &Start<'_>,
        policy: &Policy,
        call: Call,
    ) -> Result<Begun> {
        let name = name(namespace, id)?;
        check_lease(start.lease)?;
        check_bytes("the name of a worker", start.worker.len(), 0, NAME_BYTES_MAX)?;
        check_policy(policy)?;
        Ok(self.world().begin(name, self.now_ms(), start, policy, call))
    }

    async fn renew(
        &self,
        namespace: &str,
        id: &[u8],
        token: u64,
        lease: Duration,
    ) -> Result<(), MoveError> {
        let name = name(namespace, id)?;
        check_lease(lease)?;
        let (mut world, now_ms) = (self.world(), self.now_ms());
        let row = world.owned(&name, now_ms, token)?;
        let is_running = matches!(row.record.state, State::Running { .. });
        if !is_running || row.is_lease_over(now_ms) {
            return Err(MoveError::LeaseEnded);
        }
        row.record.state = State::Running { until: after(now_ms, lease) };
        Ok(())
    }

    async fn end(
        &self,
        namespace: &str,
        id: &[u8],
        token: u64,
        ending: &Ending<'_>,
        policy: &Policy,
    ) -> Result<(), MoveError> {
        let name = name(namespace, id)?;
        check_policy(policy)?;
        if let Ending::Completed { result, ttl, .. } = ending {
            check_ttl(*ttl)?;
            check_bytes("a result", result.len(), 0, RESULT_BYTES_MAX)?;
        }
        self.world().end(&name, self.now_ms(), token, ending, policy)
    }

    async fn record(&self, namespace: &str, id: &[u8]) -> Result<Option<Record>> {
        let name = name(namespace, id)?;
        let now_ms = self.now_ms();
        let read = Timestamp::from_millis(now_ms);
        let record = self.world().live(&name, now_ms).map(|row| row.record.clone());
        Ok(record.map(|record| Record { read, ..record }))
    }

    async fn redrive(&self, namespace: &str, id: &[u8]) -> Result<bool> {
        let name = name(namespace, id)?;
        let (mut world, now_ms) = (self.world(), self.now_ms());
        let Some(row) = world.live(&name, now_ms).filter(|row| row.is_dead_letter()) else {
            return Ok(false);
        };
        row.record.state = State::Waiting { until: Timestamp::from_millis(now_ms) };
        (row.record.attempts, row.record.token, row.ends_ms) = (0, 0, NEVER_MS);
        Ok(true)
    }

    async fn settle(&self, namespace: &str, id: &[u8], result: &[u8], ttl: Ttl) -> Result<bool> {
        let name = name(namespace, id)?;
        check_ttl(ttl)?;
        check_bytes("a result", result.len(), 0, RESULT_BYTES_MAX)?;
        let (mut world, now_ms) = (self.world(), self.now_ms());
        let Some(row) = world.live(&name, now_ms).filter(|row| row.record.state == State::Held)
        else {
            return Ok(false);
        };
        let result = Some(result.to_vec());
        row.record.state = State::Completed { result, is_failure: false };
        row.ends_ms = end_of(now_ms, ttl);
        Ok(true)
    }

    async fn forget_record(&self, namespace: &str, id: &[u8]) -> Result<bool> {
        let name = name(namespace, id)?;
        let (mut world, now_ms) = (self.world(), self.now_ms());
        let was_there = world.live(&name, now_ms).is_some();
        world.records.remove(&name);
        Ok(was_there)
    }

    async fn dead_letters(
        &self,
        namespace: &str,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>> {
        check_bytes("the name of a namespace", namespace.len(), 1, NAME_BYTES_MAX)?;
        let (world, now_ms) = (self.world(), self.now_ms());
        // Ids are not empty, so this is before the first.
        let after = (namespace.to_owned(), after.unwrap_or_default().to_vec());
        let rows = world.records.range((Bound::Excluded(after), Bound::Unbounded));
        let letters = rows
            .take_while(|((of, _), _)| of == namespace)
            .filter(|(_, row)| row.ends_ms > now_ms && row.is_dead_letter());
        Ok(letters.map(|((_, id), _)| id.clone()).take(limit).collect())
    }

    async fn stats(&self, namespace: &str) -> Result<Stats> {
        let letters = self.dead_letters(namespace, None, usize::MAX).await?;
        let (world, now_ms) = (self.world(), self.now_ms());
        let claims = world
            .claims
            .iter()
            .filter(|((of, _), claim)| of == namespace && claim.ends_ms > now_ms);
        let records =
            world.records.iter().filter(|((of, _), row)| of == namespace && row.ends_ms > now_ms);
        let mut stats = Stats::default();
        stats.claims = Some(claims.count() as u64);
        stats.records = Some(records.count() as u64);
        stats.dead_letters = Some(letters.len() as u64);
        Ok(stats)
    }

    fn id_bytes_max(&self) -> usize {
        ID_BYTES_MAX
    }

    fn result_bytes_max(&self) -> usize {
        RESULT_BYTES_MAX
    }
}

/// Returns when something ends that lasts for a ttl from now.
fn end_of(now_ms: u64, ttl: Ttl) -> u64 {
    // Far away is not never.
    ttl.as_millis().map_or(NEVER_MS, |ms| now_ms.saturating_add(ms).min(NEVER_MS - 1))
}

fn after(now_ms: u64, time: Duration) -> Timestamp {
    let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Timestamp::from_millis(now_ms.saturating_add(ms))
}

fn name(namespace: &str, id: &[u8]) -> Result<Name> {
    check_bytes("the name of a namespace", namespace.len(), 1, NAME_BYTES_MAX)?;
    check_bytes("an id", id.len(), 1, ID_BYTES_MAX)?;
    Ok((namespace.to_owned(), id.to_vec()))
}

fn check_policy(policy: &Policy) -> Result<()> {
    check_ttl(policy.dead_ttl)?;
    match policy.attempts_max {
        0 => Err(invalid("a policy", "no attempts would never start anything; allow one")),
        _ => Ok(()),
    }
}

fn check_ttl(ttl: Ttl) -> Result<()> {
    match ttl.as_millis() {
        Some(0) => Err(invalid("a ttl", "it would end at once; give it a millisecond")),
        _ => Ok(()),
    }
}

fn check_lease(lease: Duration) -> Result<()> {
    match lease.as_millis() {
        0 => Err(invalid("a lease", "it would end at once; give it a millisecond")),
        _ => Ok(()),
    }
}

fn check_bytes(what: &'static str, bytes: usize, least: usize, most: usize) -> Result<()> {
    if (least..=most).contains(&bytes) {
        return Ok(());
    }
    Err(invalid(what, format!("it has {bytes} bytes; give it {least} to {most}")))
}

fn invalid(what: &'static str, why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, what, why.into())
}
