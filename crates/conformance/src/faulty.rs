//! A store behind a bad line.

use firstseen_shared::{
    Begun, Call, Claim, DedupStore, Ending, Error, ErrorKind, MoveError, Policy, Record, Result,
    Start, Stats, Ttl,
};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What happens to a call on its way; see [`Faulty`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It is made, and its answer is lost.
    Lost,
    /// It is not made.
    Refused,
    /// It is neither made nor answered.
    Hangs,
    /// It is made at once, and answered after this time.
    Slow(Duration),
}

/// A store behind a bad line, for tests of what is built on stores. A handle: clones share their faults.
#[derive(Debug)]
pub struct Faulty<S> {
    store: Arc<S>,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    is_away: Arc<AtomicBool>,
    calls: Arc<AtomicU32>,
}

impl<S> Clone for Faulty<S> {
    fn clone(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            faults: Arc::clone(&self.faults),
            is_away: Arc::clone(&self.is_away),
            calls: Arc::clone(&self.calls),
        }
    }
}

impl<S> Faulty<S> {
    /// Creates a line to this store, as yet without faults.
    pub fn new(store: impl Into<Arc<S>>) -> Self {
        let (faults, is_away, calls) = (Arc::default(), Arc::default(), Arc::default());
        Self { store: store.into(), faults, is_away, calls }
    }

    /// Returns the store at its other end.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Plants faults for the next calls, one for each.
    pub fn plant(&self, faults: &[Fault]) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).extend(faults);
    }

    /// Sets whether all calls are refused, as by a server that is down.
    pub fn set_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::SeqCst);
    }

    /// Returns how many calls were tried.
    pub fn calls(&self) -> u32 {
        self.calls.load(Ordering::SeqCst)
    }

    async fn send<T, E: From<Error>>(
        &self,
        call: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<T, E> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let fault = self.faults.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
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
        }
    }
}

impl<S: DedupStore> DedupStore for Faulty<S> {
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
