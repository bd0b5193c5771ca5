//! A local tier: what this process knows to be done is answered from memory.

use crate::error::{MoveError, Result};
use crate::known::{Family, Known, KnownIds, key};
use crate::record::Record;
use crate::store::{Begun, Call, DedupStore, Ending, Policy, Start, Stats};
use firstseen::{Claim, Clock, SystemClock, Timestamp, Ttl};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A store with a bounded memory of its own in front. It answers `Duplicate` and `Completed` from memory where this
/// process knows it, and **never** `FirstSeen` or `Started`: those are the store's to say. A handle: clones share the memory.
///
/// What it knows:
///
/// - **An id that was claimed through it**, until the claim ends: `ttl` after the call was made, by a clock of this machine that
///   never steps and goes on while the machine sleeps, less a thousandth for clocks that differ. The store made the claim
///   later, so memory forgets it first. `first_seen` is then this machine's wall clock
///   when the call was sent.
/// - **A record that was completed through it**, once the store has shown it to a `begin`, for the ttl of the completion. The
///   fingerprint is compared, and another input is a mismatch. A record in progress is never known.
/// - **Nothing that others claimed or completed**: the answer does not say how long it lasts, and to be told "duplicate" after a
///   claim has ended would lose a message. If all who use the namespace give it one ttl that is much longer,
///   [`others_for`](Self::others_for) has such answers remembered for a time.
///
/// What others change, by [`forget`](DedupStore::forget) or [`forget_record`](DedupStore::forget_record) on another machine, is
/// seen here after [`stale_max`](Self::stale_max) at the latest, a minute by default: until then this process may answer
/// "duplicate" although the id was forgotten. What is forgotten through this handle or a clone of it is forgotten at once.
///
/// Errors, durability and what happens when a server dies are those of the store. If a server loses claims, this process still
/// knows them until `stale_max`.
pub struct Near<S> {
    inner: Arc<Inner<S>>,
    stale_max: Duration,
    others_for: Duration,
}

struct Inner<S> {
    store: Arc<S>,
    clock: Arc<dyn Clock>,
    known: Mutex<KnownIds>,
    /// Grows when something is about to be forgotten, and when it was: what was asked before is not remembered after it.
    forgets: AtomicU64,
    hits: AtomicU64,
    asked: AtomicU64,
}

/// How often [`Near`] knew the answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NearCounters {
    /// Ids that were answered from memory.
    pub hits: u64,
    /// Ids of claims and `begin`s that the store was asked about.
    pub asked: u64,
    /// Ids that are known now.
    pub entries: u64,
}

/// A moment before a call: what it finds may be remembered if nothing was forgotten since.
#[derive(Clone, Copy)]
struct Before {
    forgets: u64,
    wall: Timestamp,
}

struct Forgetting<'a, S> {
    near: &'a Near<S>,
    key: &'a [u8],
}

impl<S> Forgetting<'_, S> {
    fn forget(&self) {
        let mut ids = self.near.known();
        self.near.inner.forgets.fetch_add(1, Ordering::SeqCst);
        ids.remove(self.key);
    }
}

impl<S> Drop for Forgetting<'_, S> {
    fn drop(&mut self) {
        self.forget();
    }
}

impl<S> Clone for Near<S> {
    fn clone(&self) -> Self {
        let inner = Arc::clone(&self.inner);
        Self { inner, stale_max: self.stale_max, others_for: self.others_for }
    }
}

impl<S> fmt::Debug for Near<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Near")
            .field("counters", &self.counters())
            .field("stale_max", &self.stale_max)
            .field("others_for", &self.others_for)
            .finish_non_exhaustive()
    }
}

impl<S> Near<S> {
    /// Returns a store with a memory of about `bytes_max` bytes in front. An id takes some 200 bytes and its own length; a result
    /// adds its length.
    pub fn new(store: impl Into<Arc<S>>, bytes_max: usize) -> Self {
        Self::with_clock(store, bytes_max, SystemClock)
    }

    /// Returns the same with a clock of which only the elapsed time and the time of day are read, for tests. Its elapsed time
    /// must never be behind that of [`SystemClock`], by which calls are stamped.
    pub fn with_clock(
        store: impl Into<Arc<S>>,
        bytes_max: usize,
        clock: impl Clock + 'static,
    ) -> Self {
        let (store, clock) = (store.into(), Arc::new(clock));
        let known = Mutex::new(KnownIds::new(bytes_max));
        let (forgets, hits, asked) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        let inner = Arc::new(Inner { store, clock, known, forgets, hits, asked });
        Self { inner, stale_max: Duration::from_secs(60), others_for: Duration::ZERO }
    }

    /// Sets after how long the store is asked again at the latest, also about what is known.
    #[must_use]
    pub fn stale_max(self, stale_max: Duration) -> Self {
        Self { stale_max, ..self }
    }

    /// Sets for how long it is remembered that others have claimed or completed an id; not at all by default. Such an answer may
    /// outlast what it tells of by this time: choose it much shorter than the ttl.
    #[must_use]
    pub fn others_for(self, others_for: Duration) -> Self {
        Self { others_for, ..self }
    }

    /// Returns the store behind it.
    pub fn store(&self) -> &Arc<S> {
        &self.inner.store
    }

    /// Returns how often it knew the answer.
    pub fn counters(&self) -> NearCounters {
        NearCounters {
            hits: self.inner.hits.load(Ordering::Relaxed),
            asked: self.inner.asked.load(Ordering::Relaxed),
            entries: self.known().len() as u64,
        }
    }

    fn known(&self) -> MutexGuard<'_, KnownIds> {
        // What a panic left is still true: an entry is put in or not.
        self.inner.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        self.inner.clock.elapsed_ms()
    }

    fn before(&self) -> Before {
        let forgets = self.inner.forgets.load(Ordering::SeqCst);
        Before { forgets, wall: self.inner.clock.wall() }
    }

    /// Remembers something, unless it may have been forgotten meanwhile.
    fn remember(&self, key: Vec<u8>, known: Known, ends_ms: u64, before: Before) {
        let asked_ms = self.now_ms().saturating_add(millis(self.stale_max));
        let mut ids = self.known();
        if self.inner.forgets.load(Ordering::SeqCst) == before.forgets {
            ids.insert(key, known, ends_ms, asked_ms);
        }
    }

    /// Forgets what is known of an id, now and when the returned value is dropped: once the store has forgotten it, or nobody
    /// waits for that any more.
    fn forgetting<'a>(&'a self, key: &'a [u8]) -> Forgetting<'a, S> {
        let forgetting = Forgetting { near: self, key };
        forgetting.forget();
        forgetting
    }

    /// Returns until when something lasts that others have made.
    fn others_end_ms(&self) -> Option<u64> {
        let for_ms = millis(self.others_for);
        (for_ms > 0).then(|| self.now_ms().saturating_add(for_ms))
    }

    fn count(&self, hits: usize, asked: usize) {
        self.inner.hits.fetch_add(hits as u64, Ordering::Relaxed);
        self.inner.asked.fetch_add(asked as u64, Ordering::Relaxed);
    }

    /// Returns the answer to a `begin` that needs no store.
    fn completed(&self, key: &[u8], start: &Start<'_>, policy: &Policy) -> Option<Begun> {
        // Calls that are wrong are refused, whatever is known.
        let is_wrong = start.lease < Duration::from_millis(1)
            || start.worker.len() > 255
            || policy.attempts_max == 0
            || policy.dead_ttl == Ttl::from_millis(0);
        if is_wrong {
            return None;
        }
        let now_ms = self.now_ms();
        let record = match self.known().get(key, now_ms)? {
            Known::Completed { record, .. } => Record::clone(record.as_ref()?),
            Known::Claimed { .. } => return None,
        };
        let is_other = record.fingerprint.zip(start.fingerprint).is_some_and(|(a, b)| a != b);
        Some(if is_other {
            Begun::Mismatch(record.without_result())
        } else {
            Begun::Completed(record)
        })
    }

    /// Remembers a record that the store has shown as completed, if it is known how long that lasts.
    fn remember_completed(&self, key: Vec<u8>, record: &Record, before: Before) {
        let ours = self.known().completed_by(&key).filter(|(token, _)| *token == record.token);
        let ends_ms = match ours {
            Some((_, ends_ms)) => Some(ends_ms),
            None => self.others_end_ms(),
        };
        match ends_ms {
            Some(ends_ms) => {
                let record = Some(Box::new(record.clone()));
                let known = Known::Completed { token: record_token(record.as_deref()), record };
                self.remember(key, known, ends_ms, before);
            }
            None => self.known().remove(&key),
        }
    }
}

fn record_token(record: Option<&Record>) -> u64 {
    record.map_or(0, |record| record.token)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Returns the latest time at which what this call has made surely lasts.
fn ends_ms(made_ms: u64, ttl: Ttl) -> u64 {
    match ttl.as_millis() {
        None => u64::MAX,
        // Clocks differ in their speed, and where a millisecond begins.
        Some(ttl_ms) => made_ms.saturating_add(ttl_ms - ttl_ms / 1_000).saturating_sub(2),
    }
}

impl<S: DedupStore> DedupStore for Near<S> {
    async fn claim_batch(
        &self,
        namespace: &str,
        ids: &[&[u8]],
        ttl: Ttl,
        call: Call,
    ) -> Result<Vec<Claim>> {
        let before = self.before();
        let keys: Vec<Vec<u8>> = ids.iter().map(|id| key(Family::Claims, namespace, id)).collect();
        let mut answers: Vec<Option<Claim>> = Vec::with_capacity(ids.len());
        {
            let (known, now_ms) = (self.known(), self.now_ms());
            answers.extend(keys.iter().map(|key| match known.get(key, now_ms)? {
                // What this call has claimed itself is for the store to say.
                Known::Claimed { by, .. } if *by == Some(call) => None,
                Known::Claimed { first_seen, .. } if ttl != Ttl::from_millis(0) => {
                    Some(Claim::Duplicate { first_seen: *first_seen })
                }
                _ => None,
            }));
        }
        let unknown: Vec<usize> = (0..ids.len()).filter(|n| answers[*n].is_none()).collect();
        self.count(ids.len() - unknown.len(), unknown.len());
        let asked: Vec<&[u8]> = unknown.iter().map(|n| ids[*n]).collect();
        if !asked.is_empty() || ids.is_empty() {
            let told = self.inner.store.claim_batch(namespace, &asked, ttl, call).await?;
            let others_end_ms = self.others_end_ms();
            // The last first, so that the first of equal ids is remembered, whose claim it is.
            for (n, claim) in unknown.into_iter().zip(told).rev() {
                answers[n] = Some(claim);
                let (known, ends_ms) = match (claim, others_end_ms) {
                    (Claim::FirstSeen, _) => {
                        let known = Known::Claimed { first_seen: before.wall, by: Some(call) };
                        (known, ends_ms(call.drawn_ms(), ttl))
                    }
                    (Claim::Duplicate { first_seen }, Some(ends_ms)) => {
                        (Known::Claimed { first_seen, by: None }, ends_ms)
                    }
                    (Claim::Duplicate { .. }, None) => continue,
                };
                self.remember(keys[n].clone(), known, ends_ms, before);
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    async fn contains(&self, namespace: &str, id: &[u8]) -> Result<bool> {
        let key = key(Family::Claims, namespace, id);
        let now_ms = self.now_ms();
        if self.known().get(&key, now_ms).is_some() {
            return Ok(true);
        }
        self.inner.store.contains(namespace, id).await
    }

    async fn forget(&self, namespace: &str, id: &[u8]) -> Result<bool> {
        let key = key(Family::Claims, namespace, id);
        let _forgetting = self.forgetting(&key);
        self.inner.store.forget(namespace, id).await
    }

    async fn begin(
        &self,
        namespace: &str,
        id: &[u8],
        start: &Start<'_>,
        policy: &Policy,
        call: Call,
    ) -> Result<Begun> {
        let before = self.before();
        let key = key(Family::Records, namespace, id);
        if let Some(known) = self.completed(&key, start, policy) {
            self.count(1, 0);
            return Ok(known);
        }
        self.count(0, 1);
        let begun = self.inner.store.begin(namespace, id, start, policy, call).await?;
        match &begun {
            Begun::Completed(record) => self.remember_completed(key, record, before),
            // It hides the result, and says nothing of how long it lasts.
            Begun::Mismatch(_) => {}
            _ => self.known().remove(&key),
        }
        Ok(begun)
    }

    async fn renew(
        &self,
        namespace: &str,
        id: &[u8],
        token: u64,
        lease: Duration,
    ) -> Result<(), MoveError> {
        self.inner.store.renew(namespace, id, token, lease).await
    }

    async fn end(
        &self,
        namespace: &str,
        id: &[u8],
        token: u64,
        ending: &Ending<'_>,
        policy: &Policy,
    ) -> Result<(), MoveError> {
        let (before, sent_ms) = (self.before(), self.now_ms());
        self.inner.store.end(namespace, id, token, ending, policy).await?;
        // A call that is told `Over` was made by an earlier try: nobody knows when.
        if let Ending::Completed { ttl, .. } = ending {
            let known = Known::Completed { token, record: None };
            let key = key(Family::Records, namespace, id);
            self.remember(key, known, ends_ms(sent_ms, *ttl), before);
        }
        Ok(())
    }

    async fn record(&self, namespace: &str, id: &[u8]) -> Result<Option<Record>> {
        self.inner.store.record(namespace, id).await
    }

    async fn redrive(&self, namespace: &str, id: &[u8]) -> Result<bool> {
        self.inner.store.redrive(namespace, id).await
    }

    async fn settle(&self, namespace: &str, id: &[u8], result: &[u8], ttl: Ttl) -> Result<bool> {
        self.inner.store.settle(namespace, id, result, ttl).await
    }

    async fn forget_record(&self, namespace: &str, id: &[u8]) -> Result<bool> {
        let key = key(Family::Records, namespace, id);
        let _forgetting = self.forgetting(&key);
        self.inner.store.forget_record(namespace, id).await
    }

    async fn dead_letters(
        &self,
        namespace: &str,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>> {
        self.inner.store.dead_letters(namespace, after, limit).await
    }

    async fn stats(&self, namespace: &str) -> Result<Stats> {
        self.inner.store.stats(namespace).await
    }

    fn id_bytes_max(&self) -> usize {
        self.inner.store.id_bytes_max()
    }

    fn result_bytes_max(&self) -> usize {
        self.inner.store.result_bytes_max()
    }
}
