//! What the rules are written with.

use crate::Fixture;
use firstseen_shared::{
    Begun, Call, Claim, DedupStore, Ending, Error, ErrorKind, Fingerprint, MoveError, OnLeaseEnd,
    Policy, Record, Start, State, Ttl,
};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

/// The lease of an attempt, unless a rule says otherwise. Much longer than what a clock may move by itself.
pub(crate) const LEASE: Duration = Duration::from_secs(60);

/// A ttl that a test outlives by advancing the clock.
pub(crate) const TTL: Ttl = Ttl::from_millis(600_000);

/// What holds where a rule does not say otherwise.
pub(crate) const POLICY: Policy =
    Policy { on_lease_end: OnLeaseEnd::Retry, attempts_max: 3, dead_ttl: Ttl::FOREVER };

pub(crate) const HOLD: Policy = Policy { on_lease_end: OnLeaseEnd::Hold, ..POLICY };
pub(crate) const FAIL: Policy = Policy { on_lease_end: OnLeaseEnd::Fail, ..POLICY };

pub(crate) const START: Start<'static> = Start { lease: LEASE, worker: "w", fingerprint: None };

pub(crate) const FAILED: Ending<'static> =
    Ending::Failed { retry_after: Duration::ZERO, reason: "no" };
pub(crate) const FINAL: Ending<'static> = Ending::Final { reason: "never" };
pub(crate) const UNKNOWN: Ending<'static> = Ending::Held { reason: "who knows" };
pub(crate) const DONE: Ending<'static> = completed(b"done");

/// Every kind of ending.
pub(crate) const ENDINGS: [Ending<'static>; 5] = [DONE, FAILED, FINAL, UNKNOWN, Ending::Released];

pub(crate) const fn completed(result: &[u8]) -> Ending<'_> {
    Ending::Completed { result, is_failure: false, ttl: TTL }
}

/// A fixture, a handle of its store, and a namespace that nobody else uses.
pub(crate) struct Bench<'a, F: Fixture> {
    pub(crate) fixture: &'a F,
    pub(crate) store: Arc<F::Store>,
    pub(crate) namespace: String,
}

impl<'a, F: Fixture> Bench<'a, F> {
    pub(crate) async fn new(fixture: &'a F) -> Self {
        let store = Arc::new(fixture.store().await);
        Self { fixture, store, namespace: fresh_name() }
    }

    /// Returns the same namespace as another machine sees it.
    pub(crate) async fn elsewhere(&self) -> Self {
        let store = Arc::new(self.fixture.store().await);
        Self { fixture: self.fixture, store, namespace: self.namespace.clone() }
    }

    /// Returns another namespace of the same handle.
    pub(crate) fn beside(&self, namespace: &str) -> Self {
        let store = Arc::clone(&self.store);
        Self { fixture: self.fixture, store, namespace: namespace.to_owned() }
    }

    pub(crate) async fn pass(&self, time: Duration) {
        self.fixture.advance(time).await;
    }

    /// Lets time pass until just before something ends that lasts for `time` from now.
    pub(crate) async fn pass_almost(&self, time: Duration) {
        let before = Duration::from_millis(1) + self.fixture.slack();
        self.pass(time.checked_sub(before).expect("longer than the slack")).await;
    }

    /// Lets the rest of the time pass.
    pub(crate) async fn pass_rest(&self) {
        self.pass(Duration::from_millis(1) + self.fixture.slack()).await;
    }

    pub(crate) async fn claim(&self, id: impl AsRef<[u8]>) -> Claim {
        self.claim_for(id, TTL).await
    }

    pub(crate) async fn claim_for(&self, id: impl AsRef<[u8]>, ttl: Ttl) -> Claim {
        self.claim_by(id, ttl, Call::new()).await
    }

    pub(crate) async fn claim_by(&self, id: impl AsRef<[u8]>, ttl: Ttl, call: Call) -> Claim {
        self.store.claim(&self.namespace, id.as_ref(), ttl, call).await.expect("claims")
    }

    /// Claims an id, which has to be first seen.
    pub(crate) async fn first(&self, id: impl AsRef<[u8]>) {
        self.first_for(id, TTL).await;
    }

    pub(crate) async fn first_for(&self, id: impl AsRef<[u8]>, ttl: Ttl) {
        assert_eq!(self.claim_for(id, ttl).await, Claim::FirstSeen);
    }

    pub(crate) async fn claim_all(&self, ids: &[&[u8]]) -> Vec<Claim> {
        self.claim_all_by(ids, Call::new()).await
    }

    pub(crate) async fn claim_all_by(&self, ids: &[&[u8]], call: Call) -> Vec<Claim> {
        let claims = self.store.claim_batch(&self.namespace, ids, TTL, call).await.expect("claims");
        assert_eq!(claims.len(), ids.len(), "an answer for each id");
        claims
    }

    pub(crate) async fn has_claim(&self, id: impl AsRef<[u8]>) -> bool {
        self.store.contains(&self.namespace, id.as_ref()).await.expect("looks")
    }

    pub(crate) async fn forget(&self, id: impl AsRef<[u8]>) -> bool {
        self.store.forget(&self.namespace, id.as_ref()).await.expect("forgets")
    }

    pub(crate) async fn begin(&self, id: impl AsRef<[u8]>) -> Begun {
        self.begin_by(id, &START, &POLICY, Call::new()).await
    }

    pub(crate) async fn begin_as(&self, id: impl AsRef<[u8]>, start: &Start<'_>) -> Begun {
        self.begin_by(id, start, &POLICY, Call::new()).await
    }

    pub(crate) async fn begin_under(&self, id: impl AsRef<[u8]>, policy: &Policy) -> Begun {
        self.begin_by(id, &START, policy, Call::new()).await
    }

    pub(crate) async fn begin_by(
        &self,
        id: impl AsRef<[u8]>,
        start: &Start<'_>,
        policy: &Policy,
        call: Call,
    ) -> Begun {
        let begun = self.store.begin(&self.namespace, id.as_ref(), start, policy, call).await;
        begun.expect("begins")
    }

    /// Begins, which has to start an attempt. Returns its token.
    pub(crate) async fn start(&self, id: impl AsRef<[u8]>) -> u64 {
        token_of(&self.begin(id).await)
    }

    pub(crate) async fn renew(&self, id: impl AsRef<[u8]>, token: u64) -> Result<(), MoveError> {
        self.store.renew(&self.namespace, id.as_ref(), token, LEASE).await
    }

    pub(crate) async fn end(
        &self,
        id: impl AsRef<[u8]>,
        token: u64,
        ending: &Ending<'_>,
    ) -> Result<(), MoveError> {
        self.end_under(id, token, ending, &POLICY).await
    }

    pub(crate) async fn end_under(
        &self,
        id: impl AsRef<[u8]>,
        token: u64,
        ending: &Ending<'_>,
        policy: &Policy,
    ) -> Result<(), MoveError> {
        self.store.end(&self.namespace, id.as_ref(), token, ending, policy).await
    }

    /// Ends an attempt, which has to land.
    pub(crate) async fn ends(&self, id: impl AsRef<[u8]>, token: u64, ending: &Ending<'_>) {
        self.end(id, token, ending).await.expect("ends");
    }

    /// Begins and ends an attempt.
    pub(crate) async fn run(&self, id: impl AsRef<[u8]>, ending: &Ending<'_>) -> u64 {
        let id = id.as_ref();
        let token = self.start(id).await;
        self.ends(id, token, ending).await;
        token
    }

    pub(crate) async fn find(&self, id: impl AsRef<[u8]>) -> Option<Record> {
        self.store.record(&self.namespace, id.as_ref()).await.expect("reads")
    }

    /// Returns the record, which has to be there. Read times are left out, so that records can be compared.
    pub(crate) async fn record(&self, id: impl AsRef<[u8]>) -> Record {
        unread(self.find(id).await.expect("there is a record"))
    }

    pub(crate) async fn redrive(&self, id: impl AsRef<[u8]>) -> bool {
        self.store.redrive(&self.namespace, id.as_ref()).await.expect("redrives")
    }

    pub(crate) async fn settle(&self, id: impl AsRef<[u8]>, result: &[u8]) -> bool {
        let settled = self.store.settle(&self.namespace, id.as_ref(), result, TTL).await;
        settled.expect("settles")
    }

    pub(crate) async fn forget_record(&self, id: impl AsRef<[u8]>) -> bool {
        self.store.forget_record(&self.namespace, id.as_ref()).await.expect("forgets")
    }

    pub(crate) async fn dead_letters(&self, after: Option<&[u8]>, limit: usize) -> Vec<Vec<u8>> {
        self.store.dead_letters(&self.namespace, after, limit).await.expect("lists")
    }
}

/// Returns a name that no rule, and no run before, has used.
pub(crate) fn fresh_name() -> String {
    let mut name = "c-".to_owned();
    for byte in Call::new().as_bytes() {
        name.push(char::from(b'a' + byte % 26));
    }
    name
}

/// Returns a record without the time at which it was read.
pub(crate) fn unread(record: Record) -> Record {
    Record { read: record.first_begun, ..record }
}

#[track_caller]
pub(crate) fn token_of(begun: &Begun) -> u64 {
    started(begun).0
}

/// Returns token and number of an attempt, which has to be started.
#[track_caller]
pub(crate) fn started(begun: &Begun) -> (u64, u32) {
    match begun {
        Begun::Started { token, attempt } => {
            assert!(*token > 0, "tokens are not zero");
            (*token, *attempt)
        }
        other => panic!("not started: {other:?}"),
    }
}

/// Returns the record of an answer, which has to be the one that is asked for.
macro_rules! refused_as {
    ($begun:expr, $kind:ident) => {
        match $begun {
            firstseen_shared::Begun::$kind(record) => record,
            other => panic!("not {}: {other:?}", stringify!($kind)),
        }
    };
}
pub(crate) use refused_as;

#[track_caller]
pub(crate) fn assert_invalid<T: Debug>(what: &str, answer: Result<T, Error>) {
    match answer {
        Err(error) => assert_eq!(error.kind(), ErrorKind::Invalid, "{what}: {error}"),
        Ok(answer) => panic!("{what} is not refused: {answer:?}"),
    }
}

#[track_caller]
pub(crate) fn assert_move_invalid(what: &str, answer: Result<(), MoveError>) {
    match answer {
        Err(MoveError::Store(error)) => {
            assert_eq!(error.kind(), ErrorKind::Invalid, "{what}: {error}");
        }
        other => panic!("{what} is not refused: {other:?}"),
    }
}

/// Returns the record that an attempt is told of that is fenced.
#[track_caller]
pub(crate) fn fenced(what: &str, answer: Result<(), MoveError>) -> Option<Record> {
    match answer {
        Err(MoveError::Fenced(record)) => record.map(|record| unread(*record)),
        other => panic!("{what} is not fenced: {other:?}"),
    }
}

/// Returns the record that an attempt is told of that is over.
#[track_caller]
pub(crate) fn over(what: &str, answer: Result<(), MoveError>) -> Record {
    match answer {
        Err(MoveError::Over(record)) => unread(*record),
        other => panic!("{what} does not hear that it is over: {other:?}"),
    }
}

pub(crate) fn print(bytes: &[u8]) -> Fingerprint {
    Fingerprint::of_bytes(bytes)
}

pub(crate) fn is_waiting(record: &Record) -> bool {
    matches!(record.state, State::Waiting { .. })
}

/// Returns how long until a record changes by itself, from what it says itself.
pub(crate) fn until_ms(record: &Record) -> u64 {
    match record.state {
        State::Running { until } | State::Waiting { until } => until.as_millis(),
        _ => panic!("it does not change by itself: {record:?}"),
    }
}
