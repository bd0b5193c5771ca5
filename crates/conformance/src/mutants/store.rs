//! The reference with one fault.

use super::fault::Fault::{self, *};
use crate::fixture::Fixture;
use crate::reference::{Claimed, Name, Reference, Row, World};
use firstseen_shared::{
    AttemptEnd, Begun, Call, Claim, DedupStore, Ending, ErrorKind, MoveError, OnLeaseEnd, Policy,
    Record, Result, Start, State, Stats, Timestamp, Ttl,
};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// Beyond this a careless sum overflows.
const FAR_MS: u64 = 1 << 52;

/// A store that keeps all rules but one, if it has a fault. A handle, and the fixture that makes them.
#[derive(Debug, Clone)]
pub(super) struct Mutant {
    inner: Reference,
    fault: Option<Fault>,
    handle: u64,
    aside: Arc<Mutex<Aside>>,
    handles: Arc<AtomicU64>,
}

/// What some faults remember.
#[derive(Debug, Default)]
struct Aside {
    ttl: Option<Ttl>,
    policy: Option<Policy>,
    claimed: HashSet<(Call, Name)>,
    callers: HashSet<Call>,
    begun: HashMap<Call, (u64, u32)>,
    looks: u64,
}

impl Mutant {
    pub(super) fn new(fault: Option<Fault>) -> Self {
        let (aside, handles) = (Arc::default(), Arc::new(AtomicU64::new(1)));
        Self { inner: Reference::new(), fault, handle: 0, aside, handles }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn aside(&self) -> MutexGuard<'_, Aside> {
        self.aside.lock().expect("no panic with the lock")
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.inner.now_ms())
    }

    /// Returns where a row is kept.
    fn name(&self, namespace: &str, id: &[u8]) -> Name {
        let (mut namespace, mut id) = (namespace.to_owned(), id.to_vec());
        match self.fault {
            Some(NamesRunTogether) if !namespace.is_empty() && !id.is_empty() => {
                id = [namespace.as_bytes(), b":", &id].concat();
                namespace = "all".to_owned();
            }
            Some(IdsEndAtZero) if id.len() > 1 => {
                let end = id.iter().skip(1).position(|byte| *byte == 0).map_or(id.len(), |n| n + 1);
                id.truncate(end);
            }
            Some(IdsAreText) if id.len() <= 1_024 => {
                id = String::from_utf8_lossy(&id).into_owned().into_bytes();
                id.truncate(1_024);
            }
            Some(IdsInOneCase) => id.make_ascii_lowercase(),
            Some(EmptyIdsTaken) if id.is_empty() => id.push(b'-'),
            Some(LongIdsCut) => id.truncate(1_024),
            Some(LongNamesCut) if namespace.is_empty() => namespace.push('-'),
            Some(LongNamesCut) => namespace.truncate(255),
            _ => {}
        }
        (namespace, id)
    }

    /// Returns where a record is kept.
    fn record_name(&self, namespace: &str, id: &[u8]) -> Name {
        let (mut namespace, id) = self.name(namespace, id);
        if self.has(LedgersRunTogether) && !namespace.is_empty() && namespace.len() < 256 {
            "one".clone_into(&mut namespace);
        }
        (namespace, id)
    }

    fn ttl(&self, ttl: Ttl) -> Ttl {
        match (self.fault, ttl.as_millis()) {
            (Some(ZeroTtlIsForever), Some(0)) => Ttl::FOREVER,
            (Some(ForeverIsFortyYears), None) => Ttl::from_millis(40 * 365 * 86_400_000),
            (Some(TtlWraps), Some(ms)) if ms > FAR_MS => Ttl::from_millis(1),
            (Some(TtlOfTheFirstCall), _) => *self.aside().ttl.get_or_insert(ttl),
            _ => ttl,
        }
    }

    fn lease(&self, lease: Duration) -> Duration {
        match self.fault {
            Some(ZeroLeaseTaken) if lease < Duration::from_millis(1) => Duration::from_secs(60),
            Some(LeaseWraps) if lease > Duration::from_millis(FAR_MS) => Duration::from_millis(1),
            _ => lease,
        }
    }

    fn policy(&self, policy: &Policy) -> Policy {
        let mut policy = match self.fault {
            Some(PolicyOfTheFirstCall) => *self.aside().policy.get_or_insert(*policy),
            _ => *policy,
        };
        match (self.fault, policy.on_lease_end) {
            (Some(HoldRetries), OnLeaseEnd::Hold) => policy.on_lease_end = OnLeaseEnd::Retry,
            (Some(FailIsHold), OnLeaseEnd::Fail) => policy.on_lease_end = OnLeaseEnd::Hold,
            (Some(NoAttemptsTaken), _) => policy.attempts_max = policy.attempts_max.max(1),
            (Some(OneAttemptMore), _) => policy.attempts_max += 1,
            (Some(DeadForEver), _) => policy.dead_ttl = Ttl::FOREVER,
            (Some(ZeroTtlIsForever | TtlWraps), _) => policy.dead_ttl = self.ttl(policy.dead_ttl),
            _ => {}
        }
        policy
    }

    /// Changes a record, if there is one.
    fn edit<T: Default>(&self, name: &Name, edit: impl FnOnce(&mut Row) -> T) -> T {
        self.inner.world().records.get_mut(name).map(edit).unwrap_or_default()
    }

    fn is_lease_over(&self, name: &Name) -> bool {
        let now_ms = self.inner.now_ms();
        self.edit(name, |row| row.is_lease_over(now_ms))
    }

    /// Claims one id after the other.
    async fn claim_each(
        &self,
        name: &str,
        ids: &[&[u8]],
        ttl: Ttl,
        call: Call,
    ) -> Result<Vec<Claim>> {
        let mut claims = Vec::new();
        for id in ids {
            claims.extend(self.inner.claim_batch(name, &[*id], ttl, call).await?);
        }
        Ok(claims)
    }

    async fn claim_names(
        &self,
        name: &str,
        ids: &[&[u8]],
        ttl: Ttl,
        call: Call,
    ) -> Result<Vec<Claim>> {
        match self.fault {
            Some(EqualIdsAllFirst | BatchClaimedUpToBadId) => {
                let call = if self.has(EqualIdsAllFirst) { call } else { Call::new() };
                self.claim_each(name, ids, ttl, call).await
            }
            Some(RepeatedBatchOneByOne) => {
                let is_repeated = !self.aside().callers.insert(call);
                if is_repeated {
                    self.claim_each(name, ids, ttl, call).await
                } else {
                    self.inner.claim_batch(name, ids, ttl, call).await
                }
            }
            Some(LargeBatchCut) => {
                self.inner.claim_batch(name, &ids[..ids.len().min(1_000)], ttl, call).await
            }
            Some(BatchAnswersSorted) => {
                let mut ids = ids.to_vec();
                ids.sort_unstable();
                self.inner.claim_batch(name, &ids, ttl, call).await
            }
            Some(ClaimInTwoSteps) => {
                let mut claims = Vec::new();
                for id in ids {
                    let is_claimed = self.inner.contains(name, id).await?;
                    tokio::task::yield_now().await;
                    if !is_claimed {
                        self.inner.forget(name, id).await?;
                    }
                    claims.extend(self.inner.claim_batch(name, &[*id], ttl, call).await?);
                }
                Ok(claims)
            }
            Some(CallsOfClaimsForgotten) => {
                self.inner.claim_batch(name, ids, ttl, Call::new()).await
            }
            _ => self.inner.claim_batch(name, ids, ttl, call).await,
        }
    }

    /// Spoils the answer to one id.
    fn spoil_claim(&self, name: Name, claim: Claim, ttl: Ttl, call: Call) -> Claim {
        let now_ms = self.inner.now_ms();
        let edit = |edit: fn(&mut Claimed, u64, Ttl)| {
            if let Some(claimed) = self.inner.world().claims.get_mut(&name) {
                edit(claimed, now_ms, ttl);
            }
        };
        match (self.fault, claim) {
            (Some(FirstSeenIsNow), Claim::Duplicate { .. }) => {
                return Claim::Duplicate { first_seen: self.now() };
            }
            (Some(ClaimsEndLate), Claim::FirstSeen) => {
                edit(|claimed, _, _| claimed.ends_ms = claimed.ends_ms.saturating_add(1));
            }
            (Some(ClaimsEndEarly), Claim::FirstSeen) => {
                edit(|claimed, _, _| claimed.ends_ms -= 2);
            }
            (Some(SlidingClaims), Claim::Duplicate { .. }) => edit(|claimed, now_ms, ttl| {
                let ends_ms = ttl.as_millis().map_or(u64::MAX, |ms| now_ms.saturating_add(ms));
                claimed.ends_ms = claimed.ends_ms.max(ends_ms);
            }),
            (Some(CallsOfClaimsWithoutId), _) if !self.aside().callers.insert(call) => {
                return Claim::FirstSeen;
            }
            (Some(CallsOfClaimsForEver), _) => {
                let mut aside = self.aside();
                if aside.claimed.contains(&(call, name.clone())) {
                    return Claim::FirstSeen;
                }
                if claim.is_first_seen() {
                    aside.claimed.insert((call, name));
                }
            }
            _ => {}
        }
        claim
    }

    /// Spoils a record before it is begun. Returns an answer that needs no store.
    fn spoil_before_begin(&self, name: &Name, start: &Start<'_>, call: Call) -> Option<Begun> {
        let (now, is_over) = (self.now(), self.is_lease_over(name));
        match self.fault? {
            MismatchTakesOver if is_over => self.edit(name, |row| {
                row.note(AttemptEnd::LeaseEnded, "");
                row.record.state = State::Waiting { until: now };
            }),
            CrashesNotCounted if is_over => self.edit(name, |row| row.record.attempts -= 1),
            LeaseByCallersClock if is_over => {
                let record = self.edit(name, |row| Some(row.record.clone()))?;
                return Some(Begun::InProgress(Record { read: now, ..record }));
            }
            CompletedStartsAgain => {
                let mut world = self.inner.world();
                let is_completed = |row: &Row| matches!(row.record.state, State::Completed { .. });
                if world.records.get(name).is_some_and(is_completed) {
                    world.records.remove(name);
                }
            }
            FingerprintOfTheRefused => {
                self.edit(name, |row| {
                    row.record.fingerprint = row.record.fingerprint.or(start.fingerprint);
                });
            }
            CallsOfBeginForEver => {
                let (token, attempt) = *self.aside().begun.get(&call)?;
                return Some(Begun::Started { token, attempt });
            }
            RepeatedBeginRenews => self.edit(name, |row| {
                if row.by == Some(call) && !is_over {
                    let until = now.as_millis() + start.lease.as_millis() as u64;
                    row.record.state = State::Running { until: Timestamp::from_millis(until) };
                }
            }),
            _ => {}
        }
        None
    }

    /// Spoils the answer to a begin.
    fn spoil_begun(&self, name: &Name, start: &Start<'_>, call: Call, begun: Begun) -> Begun {
        match (self.fault, begun) {
            (Some(TokenPerWorker), Begun::Started { attempt, .. }) => {
                let token = 1 + start.worker.len() as u64;
                self.edit(name, |row| row.record.token = token);
                Begun::Started { token, attempt }
            }
            (Some(TokensPerRecord), Begun::Started { attempt, .. }) => {
                let token = u64::from(attempt);
                self.edit(name, |row| row.record.token = token);
                Begun::Started { token, attempt }
            }
            (Some(CallsOfBeginForEver), Begun::Started { token, attempt }) => {
                self.aside().begun.insert(call, (token, attempt));
                Begun::Started { token, attempt }
            }
            (Some(LeasesEndLate), begun @ Begun::Started { .. }) => {
                self.edit(name, |row| {
                    if let State::Running { until } = &mut row.record.state {
                        *until = Timestamp::from_millis(until.as_millis().saturating_add(1));
                    }
                });
                begun
            }
            (Some(FingerprintOfTheLastAttempt), begun @ Begun::Started { .. }) => {
                self.edit(name, |row| row.record.fingerprint = start.fingerprint);
                begun
            }
            (Some(JoinedAttempts), Begun::InProgress(record)) => {
                Begun::Started { token: record.token, attempt: record.attempts }
            }
            (Some(CompletedCounted), begun @ Begun::Completed(_)) => {
                self.edit(name, |row| row.record.attempts += 1);
                begun
            }
            (Some(MismatchShowsResult), Begun::Mismatch(record)) => {
                let shown = self.edit(name, |row| Some(row.record.clone()));
                Begun::Mismatch(shown.unwrap_or(record))
            }
            (Some(ReadAtFirst), Begun::InProgress(record)) => {
                Begun::InProgress(Record { read: record.first_begun, ..record })
            }
            (Some(RefusedBeginsNoted), begun) => {
                if !matches!(begun, Begun::Started { .. } | Begun::InProgress(_)) {
                    self.edit(name, |row| "refused".clone_into(&mut row.record.worker));
                }
                begun
            }
            (_, begun) => begun,
        }
    }

    /// Ends an attempt where it must not be ended.
    #[expect(clippy::unnecessary_wraps, reason = "takes the place of a call that may fail")]
    fn force_end(
        &self,
        name: &Name,
        ending: &Ending<'_>,
        policy: &Policy,
    ) -> Result<(), MoveError> {
        let now_ms = self.inner.now_ms();
        self.edit(name, |row| row.end(now_ms, ending, policy));
        Ok(())
    }

    /// Returns what the attempt is said to have ended like.
    #[expect(clippy::match_same_arms, reason = "an arm for each fault")]
    fn spoil_ending<'e>(&self, ending: Ending<'e>) -> Ending<'e> {
        match (self.fault, ending) {
            (Some(FailureMarkLost), Ending::Completed { result, ttl, .. }) => {
                Ending::Completed { result, is_failure: false, ttl }
            }
            (Some(LongResultsCut), Ending::Completed { result, is_failure, ttl }) => {
                let result = &result[..result.len().min(4 << 20)];
                Ending::Completed { result, is_failure, ttl }
            }
            (Some(ZeroTtlIsForever | TtlWraps), Ending::Completed { result, is_failure, ttl }) => {
                Ending::Completed { result, is_failure, ttl: self.ttl(ttl) }
            }
            (Some(ResultsForEver), Ending::Completed { result, is_failure, .. }) => {
                Ending::Completed { result, is_failure, ttl: Ttl::FOREVER }
            }
            (Some(DelayIgnored), Ending::Failed { reason, .. }) => {
                Ending::Failed { retry_after: Duration::ZERO, reason }
            }
            (Some(DelayWraps), Ending::Failed { retry_after, reason })
                if retry_after > Duration::from_millis(FAR_MS) =>
            {
                Ending::Failed { retry_after: Duration::ZERO, reason }
            }
            (Some(FinalIsRetried), Ending::Final { reason })
            | (Some(HeldEndingIsFailed), Ending::Held { reason }) => {
                Ending::Failed { retry_after: Duration::ZERO, reason }
            }
            (_, ending) => ending,
        }
    }

    /// Spoils a record that was ended.
    fn spoil_ended(
        &self,
        name: &Name,
        ending: &Ending<'_>,
        before: &[firstseen_shared::PastAttempt],
    ) {
        let now_ms = self.inner.now_ms();
        self.edit(name, |row| match (self.fault, ending) {
            (Some(ResultTtlFromBegin), Ending::Completed { ttl, .. }) => {
                if let Some(ms) = ttl.as_millis() {
                    row.ends_ms = row.record.first_begun.as_millis().saturating_add(ms);
                }
            }
            (Some(EmptyResultIsNone), Ending::Completed { result: b"", is_failure, .. }) => {
                row.record.state = State::Completed { result: None, is_failure: *is_failure };
            }
            (Some(ResultsAreText), Ending::Completed { result, is_failure, .. }) => {
                let result = Some(String::from_utf8_lossy(result).into_owned().into_bytes());
                row.record.state = State::Completed { result, is_failure: *is_failure };
            }
            (Some(CompletionClearsHistory), Ending::Completed { .. }) => {
                row.record.history.drain(..row.record.history.len() - 1);
            }
            (Some(ReasonsKeptWhole), Ending::Final { reason }) => {
                if let Some(past) = row.record.history.last_mut() {
                    (*reason).clone_into(&mut past.reason);
                }
            }
            (Some(ReasonsDropped), _) => {
                row.record.history.iter_mut().for_each(|past| past.reason.clear());
            }
            (Some(ReleaseCharged), Ending::Released) => row.record.attempts += 1,
            (Some(HeldEnds), Ending::Held { .. }) => row.ends_ms = now_ms + 600_000,
            (Some(HistoryKeepsTheFirst), _) if before.len() == Record::HISTORY_MAX => {
                row.record.history = before.to_vec();
            }
            _ => {}
        });
    }

    /// Returns whether an operator has changed the record of an attempt that had not said how it went.
    fn was_operated(&self, name: &Name, token: u64) -> bool {
        self.edit(name, |row| {
            let is_last = row
                .record
                .history
                .last()
                .is_some_and(|past| past.token == token && past.end == AttemptEnd::LeaseEnded);
            is_last && matches!(row.record.state, State::Waiting { .. } | State::Completed { .. })
        })
    }
}

impl Fixture for Mutant {
    type Store = Self;

    async fn store(&self) -> Self {
        let handle = self.handles.fetch_add(1, Ordering::Relaxed);
        Self { handle, ..self.clone() }
    }

    async fn advance(&self, time: Duration) {
        self.inner.clock().advance(time);
    }

    async fn restart(&self) -> bool {
        let mut world = self.inner.world();
        match self.fault {
            Some(LostAtRestart) => *world = World::default(),
            Some(TokensAnewAtRestart) => world.last_token = 0,
            _ => {}
        }
        true
    }
}

impl DedupStore for Mutant {
    async fn claim_batch(
        &self,
        namespace: &str,
        ids: &[&[u8]],
        ttl: Ttl,
        call: Call,
    ) -> Result<Vec<Claim>> {
        let ttl = self.ttl(ttl);
        let names: Vec<Name> = ids.iter().map(|id| self.name(namespace, id)).collect();
        let mut name = names.first().map_or(namespace, |(namespace, _)| namespace).to_owned();
        if self.has(ClaimsPerHandle) {
            name = format!("{name}#{}", self.handle);
        }
        let ids: Vec<&[u8]> = names.iter().map(|(_, id)| id.as_slice()).collect();
        let claims = self.claim_names(&name, &ids, ttl, call).await?;
        let names = names.iter().map(|(_, id)| (name.clone(), id.clone()));
        let claims = names.zip(claims);
        Ok(claims.map(|(name, claim)| self.spoil_claim(name, claim, ttl, call)).collect())
    }

    async fn contains(&self, namespace: &str, id: &[u8]) -> Result<bool> {
        let (namespace, id) = self.name(namespace, id);
        if self.has(ContainsClaims) {
            let call = Call::new();
            let claim = self.inner.claim(&namespace, &id, Ttl::FOREVER, call).await?;
            return Ok(claim.is_duplicate());
        }
        let found = self.inner.contains(&namespace, &id).await?;
        let mut aside = self.aside();
        aside.looks += 1;
        Ok(found ^ (self.has(RareLie) && aside.looks.is_multiple_of(20)))
    }

    async fn forget(&self, namespace: &str, id: &[u8]) -> Result<bool> {
        let (namespace, id) = self.name(namespace, id);
        match self.fault {
            Some(ForgetKeepsClaim) => return self.inner.contains(&namespace, &id).await,
            Some(ForgetCountsEnded) => {
                self.inner.forget(&namespace, &id).await?;
                return Ok(true);
            }
            Some(ForgetRemovesRecord) => {
                self.inner.forget_record(&namespace, &id).await?;
            }
            Some(ForgetInTwoSteps) => {
                let was_there = self.inner.contains(&namespace, &id).await?;
                tokio::task::yield_now().await;
                self.inner.forget(&namespace, &id).await?;
                return Ok(was_there);
            }
            _ => {}
        }
        self.inner.forget(&namespace, &id).await
    }

    async fn begin(
        &self,
        namespace: &str,
        id: &[u8],
        start: &Start<'_>,
        policy: &Policy,
        call: Call,
    ) -> Result<Begun> {
        let name = self.record_name(namespace, id);
        let (policy, mut start) = (self.policy(policy), *start);
        start.lease = self.lease(start.lease);
        match self.fault {
            Some(WorkersNotKept) => start.worker = "",
            Some(LongWorkersCut) => start.worker = &start.worker[..start.worker.len().min(255)],
            Some(MismatchOnlyOfWhatIsDone) => {
                let is_done = |row: &mut Row| matches!(row.record.state, State::Completed { .. });
                if !self.edit(&name, is_done) {
                    start.fingerprint = None;
                }
            }
            _ => {}
        }
        if let Some(begun) = self.spoil_before_begin(&name, &start, call) {
            return Ok(begun);
        }
        let ended = {
            let world = self.inner.world();
            world.records.get(&name).filter(|row| row.ends_ms <= self.inner.now_ms()).cloned()
        };
        if self.has(BeginInTwoSteps) {
            let seen = self.inner.record(&name.0, &name.1).await?;
            let may_start = !matches!(seen, Some(Record { state: State::Running { .. }, .. }))
                || self.is_lease_over(&name);
            // Long enough for others to come between, also on a machine with nothing else to do.
            tokio::time::sleep(Duration::from_millis(1)).await;
            if may_start {
                let until = self.now();
                self.edit(&name, |row| row.record.state = State::Waiting { until });
            }
        }
        let asked = if self.has(CallsOfBeginForgotten) { Call::new() } else { call };
        let begun = self.inner.begin(&name.0, &name.1, &start, &policy, asked).await?;
        if let Some(ended) = ended.filter(|_| self.has(EndedRecordsLeaveTraces)) {
            self.edit(&name, |row| row.record.history = ended.record.history);
        }
        Ok(self.spoil_begun(&name, &start, call, begun))
    }

    async fn renew(
        &self,
        namespace: &str,
        id: &[u8],
        token: u64,
        lease: Duration,
    ) -> Result<(), MoveError> {
        let name = self.record_name(namespace, id);
        let (lease, before) = (self.lease(lease), self.edit(&name, |row| Some(row.record.clone())));
        let current = before.as_ref().map_or(token, |record| record.token);
        let token = if self.has(AnyTokenRenews) { current } else { token };
        if self.has(EndedLeaseRenewed) && token == current && self.is_lease_over(&name) {
            let until = Timestamp::from_millis(self.inner.now_ms() + 60_000);
            self.edit(&name, |row| row.record.state = State::Running { until });
        }
        self.inner.renew(&name.0, &name.1, token, lease).await?;
        if let (Some(RenewNeverShortens), Some(State::Running { until })) =
            (self.fault, before.map(|record| record.state))
        {
            self.edit(&name, |row| {
                if let State::Running { until: renewed } = &mut row.record.state {
                    *renewed = until.max(*renewed);
                }
            });
        }
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
        let name = self.record_name(namespace, id);
        let (ending, policy) = (self.spoil_ending(*ending), self.policy(policy));
        let before = self.edit(&name, |row| Some(row.record.clone()));
        let (is_over, state) = (self.is_lease_over(&name), before.as_ref().map(|r| &r.state));
        let is_buried = matches!(state, Some(State::Held | State::Dead { .. }));
        let is_running = matches!(state, Some(State::Running { .. }));
        match self.fault {
            Some(LateEndRefused) if is_over => return Err(MoveError::LeaseEnded),
            Some(EndInTwoSteps) => tokio::task::yield_now().await,
            Some(OperatorFencesNobody) if self.was_operated(&name, token) => {
                return self.force_end(&name, &ending, &policy);
            }
            _ => {}
        }
        let ended = self.inner.end(&name.0, &name.1, token, &ending, &policy).await;
        match (self.fault, ended) {
            (Some(CompletedAfterTakeover), Err(MoveError::Fenced(Some(record))))
                if matches!(record.state, State::Running { .. })
                    && record.history.iter().any(|past| past.token == token) =>
            {
                self.force_end(&name, &ending, &policy)
            }
            (Some(SecondEndIsFenced), Err(MoveError::Over(record))) => {
                Err(MoveError::Fenced(Some(record)))
            }
            (Some(SecondEndIsDone), Err(MoveError::Over(_))) => Ok(()),
            (Some(OverMayEndAgain), Err(MoveError::Over(_))) => {
                self.force_end(&name, &ending, &policy)
            }
            (Some(EndInTwoSteps), Err(MoveError::Over(_))) if is_running => {
                self.force_end(&name, &ending, &policy)
            }
            (Some(HeldTakesEveryEnding), Err(MoveError::Fenced(Some(record))))
                if is_buried && record.token == token =>
            {
                self.force_end(&name, &ending, &policy)
            }
            (Some(HeldRefusesCompletion), Ok(())) if is_buried => {
                if let Some(before) = before {
                    self.edit(&name, |row| row.record = before.clone());
                    return Err(MoveError::Fenced(Some(before.into())));
                }
                Ok(())
            }
            (Some(LongResultEndsAttempt), Err(MoveError::Store(error))) => {
                let failed = Ending::Failed { retry_after: Duration::ZERO, reason: "too long" };
                if error.kind() == ErrorKind::Invalid && is_running {
                    self.force_end(&name, &failed, &policy)?;
                }
                Err(error.into())
            }
            (_, Ok(())) => {
                let history = before.map(|record| record.history).unwrap_or_default();
                self.spoil_ended(&name, &ending, &history);
                Ok(())
            }
            (_, Err(error)) => Err(error),
        }
    }

    async fn record(&self, namespace: &str, id: &[u8]) -> Result<Option<Record>> {
        let name = self.record_name(namespace, id);
        if self.has(ReadingEndsLease) && self.is_lease_over(&name) {
            let until = self.now();
            self.edit(&name, |row| {
                row.note(AttemptEnd::LeaseEnded, "");
                row.record.state = State::Waiting { until };
            });
        }
        self.inner.record(&name.0, &name.1).await
    }

    async fn redrive(&self, namespace: &str, id: &[u8]) -> Result<bool> {
        let name = self.record_name(namespace, id);
        if self.has(RedriveTakesAll) {
            self.edit(&name, |row| row.record.state = State::Held);
        }
        let before = self.inner.world().records.get(&name).cloned();
        let was_there = self.inner.redrive(&name.0, &name.1).await?;
        if let Some(before) = before.filter(|_| was_there) {
            self.edit(&name, |row| match self.fault {
                Some(RedriveKeepsCount) => row.record.attempts = before.record.attempts,
                Some(RedriveClearsHistory) => row.record.history.clear(),
                Some(RedriveKeepsTtl) => row.ends_ms = before.ends_ms,
                _ => {}
            });
        }
        Ok(was_there)
    }

    async fn settle(&self, namespace: &str, id: &[u8], result: &[u8], ttl: Ttl) -> Result<bool> {
        let name = self.record_name(namespace, id);
        if self.has(SettleTakesAll) {
            self.edit(&name, |row| row.record.state = State::Held);
        }
        let was_held = self.inner.settle(&name.0, &name.1, result, self.ttl(ttl)).await?;
        if self.has(SettledAsFailure) && was_held {
            let result = Some(result.to_vec());
            let state = State::Completed { result, is_failure: true };
            self.edit(&name, |row| row.record.state = state);
        }
        Ok(was_held)
    }

    async fn forget_record(&self, namespace: &str, id: &[u8]) -> Result<bool> {
        let name = self.record_name(namespace, id);
        let running = |row: &mut Row| matches!(row.record.state, State::Running { .. });
        if self.has(RunningIsNotForgotten) && self.edit(&name, running) {
            return Ok(false);
        }
        let before = self.inner.world().records.get(&name).cloned();
        let was_there = self.inner.forget_record(&name.0, &name.1).await?;
        if let Some(mut row) = before.filter(|_| self.has(ForgottenRecordsLeaveTraces)) {
            row.record.state = State::Waiting { until: self.now() };
            (row.record.token, row.record.attempts) = (0, 0);
            self.inner.world().records.insert(name, row);
        }
        Ok(was_there)
    }

    async fn dead_letters(
        &self,
        namespace: &str,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>> {
        let (name, _) = self.record_name(namespace, b"-");
        let mut letters = self.inner.dead_letters(&name, after, limit).await?;
        match self.fault {
            Some(DeadLettersBackwards) => letters.reverse(),
            Some(DeadLettersWithoutHeld) => letters.retain(|id| {
                let name = (name.clone(), id.clone());
                !self.edit(&name, |row| row.record.state == State::Held)
            }),
            _ => {}
        }
        Ok(letters)
    }

    async fn stats(&self, namespace: &str) -> Result<Stats> {
        let (name, _) = self.record_name(namespace, b"-");
        let mut stats = self.inner.stats(&name).await?;
        if self.has(StatsCountAll) {
            stats.dead_letters = stats.records;
        }
        Ok(stats)
    }

    fn id_bytes_max(&self) -> usize {
        self.inner.id_bytes_max()
    }

    fn result_bytes_max(&self) -> usize {
        self.inner.result_bytes_max()
    }
}
