//! A store that fails when it is told to.

use firstseen_shared::{
    Begun, Call, Claim, DedupStore, Embedded, Ending, Error, ErrorKind, MoveError, Policy, Record,
    Result, Start, Stats, Ttl,
};
use std::sync::Mutex;
use std::time::Duration;

/// What a call does instead of its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Fails with an error of this kind, and does nothing.
    Fails(ErrorKind),
    /// Does its work, and answers after this.
    Late(Duration),
    /// Does its work, and answers when it is told another fault.
    Waits,
    /// Says that the lease has ended.
    LeaseEnded,
    /// Keeps a result for as long, whatever it was told: a server whose clock stands still for a while.
    Kept(Duration),
}

/// The embedded store, with faults.
pub(crate) struct Faulty {
    store: Embedded,
    pub(crate) begin: Mutex<Fault>,
    pub(crate) renew: Mutex<Fault>,
    pub(crate) end: Mutex<Fault>,
    /// Reading a record.
    pub(crate) read: Mutex<Fault>,
    /// How often `begin` was called.
    pub(crate) begins: Mutex<u64>,
}

impl Faulty {
    pub(crate) fn new(store: Embedded) -> Self {
        let [begin, renew, end, read] = [Fault::None; 4].map(Mutex::new);
        Self { store, begin, renew, end, read, begins: Mutex::new(0) }
    }

    pub(crate) fn set_begin(&self, fault: Fault) {
        *self.begin.lock().unwrap() = fault;
    }

    pub(crate) fn set_renew(&self, fault: Fault) {
        *self.renew.lock().unwrap() = fault;
    }

    pub(crate) fn set_read(&self, fault: Fault) {
        *self.read.lock().unwrap() = fault;
    }

    pub(crate) fn set_end(&self, fault: Fault) {
        *self.end.lock().unwrap() = fault;
    }
}

/// Fails, or says how late the answer comes.
fn meet(fault: &Mutex<Fault>) -> Result<Duration, MoveError> {
    match *fault.lock().unwrap() {
        Fault::None | Fault::Kept(_) | Fault::Waits => Ok(Duration::ZERO),
        Fault::Late(time) => Ok(time),
        Fault::Fails(kind) => Err(Error::new(kind, "the store", "a planted fault").into()),
        Fault::LeaseEnded => Err(MoveError::LeaseEnded),
    }
}

impl DedupStore for Faulty {
    async fn begin(
        &self,
        namespace: &str,
        id: &[u8],
        start: &Start<'_>,
        policy: &Policy,
        call: Call,
    ) -> Result<Begun> {
        *self.begins.lock().unwrap() += 1;
        match meet(&self.begin) {
            Ok(late) => {
                let begun = self.store.begin(namespace, id, start, policy, call).await;
                tokio::time::sleep(late).await;
                while *self.begin.lock().unwrap() == Fault::Waits {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                begun
            }
            Err(MoveError::Store(error)) => Err(error),
            Err(_) => unreachable!("no such fault of begin"),
        }
    }

    async fn renew(
        &self,
        namespace: &str,
        id: &[u8],
        token: u64,
        lease: Duration,
    ) -> Result<(), MoveError> {
        meet(&self.renew)?;
        self.store.renew(namespace, id, token, lease).await
    }

    async fn end(
        &self,
        namespace: &str,
        id: &[u8],
        token: u64,
        ending: &Ending<'_>,
        policy: &Policy,
    ) -> Result<(), MoveError> {
        let late = meet(&self.end)?;
        let kept = *self.end.lock().unwrap();
        let ending = match (kept, *ending) {
            (Fault::Kept(time), Ending::Completed { result, is_failure, .. }) => {
                Ending::Completed { result, is_failure, ttl: Ttl::from(time) }
            }
            (_, ending) => ending,
        };
        let ended = self.store.end(namespace, id, token, &ending, policy).await;
        tokio::time::sleep(late).await;
        ended
    }

    async fn claim_batch(&self, _: &str, _: &[&[u8]], _: Ttl, _: Call) -> Result<Vec<Claim>> {
        unreachable!("the layer makes no claims")
    }

    async fn contains(&self, _: &str, _: &[u8]) -> Result<bool> {
        unreachable!("the layer makes no claims")
    }

    async fn forget(&self, _: &str, _: &[u8]) -> Result<bool> {
        unreachable!("the layer makes no claims")
    }

    async fn record(&self, namespace: &str, id: &[u8]) -> Result<Option<Record>> {
        match meet(&self.read) {
            Err(MoveError::Store(error)) => Err(error),
            _ => self.store.record(namespace, id).await,
        }
    }

    async fn redrive(&self, namespace: &str, id: &[u8]) -> Result<bool> {
        self.store.redrive(namespace, id).await
    }

    async fn settle(&self, namespace: &str, id: &[u8], result: &[u8], ttl: Ttl) -> Result<bool> {
        self.store.settle(namespace, id, result, ttl).await
    }

    async fn forget_record(&self, namespace: &str, id: &[u8]) -> Result<bool> {
        self.store.forget_record(namespace, id).await
    }

    async fn dead_letters(
        &self,
        namespace: &str,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>> {
        self.store.dead_letters(namespace, after, limit).await
    }

    async fn stats(&self, namespace: &str) -> Result<Stats> {
        self.store.stats(namespace).await
    }

    fn id_bytes_max(&self) -> usize {
        self.store.id_bytes_max()
    }

    fn result_bytes_max(&self) -> usize {
        self.store.result_bytes_max()
    }
}
