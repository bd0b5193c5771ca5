//! The model of a store, with faults between it and its caller.

use firstseen_conformance::Reference;
use firstseen_shared::{
    Attempt, Backoff, Begin, Begun, Call, Claim, DedupStore, Ending, Error, ErrorKind, LedgerOptions,
    MoveError, Policy, Record, Result, SharedLedger, Start, Stats, Ttl,
};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is made, and its answer is lost.
    Lost,
    /// It is not made.
    Refused,
    /// It is never made, and never answered.
    Hangs,
    /// It is made at once, and answered after this time.
    Slow(Duration),
    /// It is made after this time.
    Late(Duration),
}

/// A store behind a bad line.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) store: Reference,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    is_away: Arc<AtomicBool>,
    calls: Arc<AtomicU32>,
}

impl Line {
    pub(crate) fn new() -> Self {
        let (faults, is_away, calls) = (Arc::default(), Arc::default(), Arc::default());
        Self { store: Reference::new(), faults, is_away, calls }
    }

    /// Plants faults for the next calls, one for each.
    pub(crate) fn plant(&self, faults: &[Fault]) {
        self.faults.lock().expect("no panic").extend(faults);
    }

    pub(crate) fn set_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::SeqCst);
    }

    /// Returns how many calls were tried.
    pub(crate) fn calls(&self) -> u32 {
        self.calls.load(Ordering::SeqCst)
    }

    pub(crate) fn advance(&self, time: Duration) {
        self.store.clock().advance(time);
    }

    /// Has the store's clock follow that of the runtime, as long as the runtime lives.
    pub(crate) fn tick(&self) {
        let clock = self.store.clock().clone();
        tokio::spawn(async move {
            let tick = Duration::from_millis(10);
            loop {
                tokio::time::sleep(tick).await;
                clock.advance(tick);
            }
        });
    }

    async fn send<T, E: From<Error>>(
        &self,
        call: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<T, E> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let fault = self.faults.lock().expect("no panic").pop_front();
        let away = || E::from(Error::new(ErrorKind::Unavailable, "the line", "nobody is there"));
        if self.is_away.load(Ordering::SeqCst) {
            return Err(away());
        }
        match fault {
            None => call.await,
            Some(Fault::Refused) => Err(away()),
            Some(Fault::Lost) => {
                let _ = call.await;
                Err(away())
            }
            Some(Fault::Hangs) => std::future::pending().await,
            Some(Fault::Slow(time)) => {
                let answer = call.await;
                tokio::time::sleep(time).await;
                answer
            }
            Some(Fault::Late(time)) => {
                tokio::time::sleep(time).await;
                call.await
            }
        }
    }
}

impl DedupStore for Line {
    async fn claim_batch(
        &self,
        namespace: &str,
        ids: &[&[u8]],
        ttl: Ttl,
        call: Call,
    ) -> Result<Vec<Claim>> {
        self.send(self.store.claim_batch(namespace, ids, ttl, call)).await
    }

    async fn contains(&self, namespace: &str, id: &[u8]) -> Result<bool> {
        self.send(self.store.contains(namespace, id)).await
    }

    async fn forget(&self, namespace: &str, id: &[u8]) -> Result<bool> {
        self.send(self.store.forget(namespace, id)).await
    }

    async fn begin(
        &self,
        namespace: &str,
        id: &[u8],
        start: &Start<'_>,
        policy: &Policy,
        call: Call,
    ) -> Result<Begun> {
        self.send(self.store.begin(namespace, id, start, policy, call)).await
    }

    async fn renew(
        &self,
        namespace: &str,
        id: &[u8],
        token: u64,
        lease: Duration,
    ) -> Result<(), MoveError> {
        self.send(self.store.renew(namespace, id, token, lease)).await
    }

    async fn end(
        &self,
        namespace: &str,
        id: &[u8],
        token: u64,
        ending: &Ending<'_>,
        policy: &Policy,
    ) -> Result<(), MoveError> {
        self.send(self.store.end(namespace, id, token, ending, policy)).await
    }

    async fn record(&self, namespace: &str, id: &[u8]) -> Result<Option<Record>> {
        self.send(self.store.record(namespace, id)).await
    }

    async fn redrive(&self, namespace: &str, id: &[u8]) -> Result<bool> {
        self.send(self.store.redrive(namespace, id)).await
    }

    async fn settle(&self, namespace: &str, id: &[u8], result: &[u8], ttl: Ttl) -> Result<bool> {
        self.send(self.store.settle(namespace, id, result, ttl)).await
    }

    async fn forget_record(&self, namespace: &str, id: &[u8]) -> Result<bool> {
        self.send(self.store.forget_record(namespace, id)).await
    }

    async fn dead_letters(
        &self,
        namespace: &str,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>> {
        self.send(self.store.dead_letters(namespace, after, limit)).await
    }

    async fn stats(&self, namespace: &str) -> Result<Stats> {
        self.send(self.store.stats(namespace)).await
    }

    fn id_bytes_max(&self) -> usize {
        self.store.id_bytes_max()
    }

    fn result_bytes_max(&self) -> usize {
        self.store.result_bytes_max()
    }
}

pub(crate) const LEASE: Duration = Duration::from_secs(60);

pub(crate) fn options() -> LedgerOptions {
    let backoff = Backoff::constant(Duration::from_secs(1));
    LedgerOptions::new().lease(LEASE).attempts_max(3).backoff(backoff).worker("w")
}

pub(crate) fn ledger_with(line: &Line, options: LedgerOptions) -> SharedLedger<Line> {
    SharedLedger::new(line.clone(), "orders", options).expect("good options")
}

pub(crate) fn ledger(line: &Line) -> SharedLedger<Line> {
    ledger_with(line, options())
}

pub(crate) async fn started(ledger: &SharedLedger<Line>, id: &str) -> Attempt<Line> {
    match ledger.begin(id, None).await.expect("begins") {
        Begin::Started(attempt) => attempt,
        other => panic!("{id} is not started: {other:?}"),
    }
}

/// Returns the record of an id, without the line between.
pub(crate) async fn record(line: &Line, id: &str) -> Record {
    let record = line.store.record("orders", id.as_bytes()).await.expect("reads");
    record.expect("there is a record")
}

/// Waits until a record is as it should be. The runtime's clock may stand still: then this takes no time.
pub(crate) async fn until(line: &Line, id: &str, is_so: impl Fn(&Record) -> bool) -> Record {
    for _ in 0..10_000 {
        let record = record(line, id).await;
        if is_so(&record) {
            return record;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it does not become so: {:?}", record(line, id).await);
}

pub(crate) fn is_unavailable(error: &MoveError) -> bool {
    matches!(error, MoveError::Store(error) if error.kind() == ErrorKind::Unavailable)
}
