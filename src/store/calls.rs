//! The calls about ids. Those of a store act on its default namespace.
//!
//! Their awaitable twins are in `twins.rs`.

use crate::engine::{Claim, ClaimSpec, Engine, Held, History, NsInfo, Reserved, Seen};
use crate::error::Result;
use crate::store::claim::ClaimOptions;
use crate::store::handle::Store;
use crate::store::namespace::Namespace;
use crate::store::reservation::{BatchReservation, Reservation, Reserve};
use crate::sync::Arc;

impl Store {
    /// Claims an id: returns [`FirstSeen`](Claim::FirstSeen) to exactly one caller during the life of the claim, and
    /// [`Duplicate`](Claim::Duplicate) to all others, whatever the number of threads (I1).
    ///
    /// When the call returns, the claim is as durable as the store's setting says. For a duplicate, so is the claim
    /// that made it one (I6).
    ///
    /// # Blocking
    ///
    /// **While another caller has the id reserved, the call blocks its thread** until the reservation is confirmed or
    /// dropped, or until [`wait_max`](crate::Builder::wait_max) (30 s) ends it with [`Retry`](crate::ErrorKind::Retry). It
    /// also blocks while memory is full.
    ///
    /// In an async task this blocks a thread of the runtime, and a task that holds the id across an `.await` may need
    /// that thread to go on. Async callers use [`claim_async`](Self::claim_async), which waits without one.
    ///
    /// # Errors
    ///
    /// - [`FixCall`](crate::ErrorKind::FixCall) for an empty id, one over 1,024 bytes (unless
    ///   [`Builder::hash_long_ids`](crate::Builder::hash_long_ids)), or in a forked child.
    /// - [`StorageFull`](crate::ErrorKind::StorageFull) if the disk is full (nothing was claimed).
    /// - [`Environment`](crate::ErrorKind::Environment) if memory is full and flushing cannot write (nothing was
    ///   claimed).
    /// - [`Retry`](crate::ErrorKind::Retry) if a wait timed out.
    /// - [`Reopen`](crate::ErrorKind::Reopen) after a failed write or sync: whether this call left a claim is known
    ///   only after reopening.
    pub fn claim(&self, id: impl AsRef<[u8]>) -> Result<Claim> {
        let ns = self.engine().namespaces().default_info();
        claim_in(self.engine(), ns, id.as_ref(), ClaimOptions::new())
    }

    /// Claims an id with settings for this call. Blocks as [`claim`](Self::claim) does while the id is reserved, for
    /// [`ClaimOptions::wait`] if that is set.
    ///
    /// ```
    /// use firstseen::{ClaimOptions, Durability, hours};
    /// # let dir = tempfile::tempdir()?;
    /// # let store = firstseen::Store::open(dir.path().join("seen.db")).expect("opens");
    /// let options = ClaimOptions::new().ttl(hours(1)).durability(Durability::Disk);
    /// assert!(store.claim_with(b"evt-1", options).expect("claims").is_first_seen());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`claim`](Self::claim), and [`FixCall`](crate::ErrorKind::FixCall) for a ttl of zero or beyond two million
    /// years.
    pub fn claim_with(&self, id: impl AsRef<[u8]>, options: ClaimOptions) -> Result<Claim> {
        let ns = self.engine().namespaces().default_info();
        claim_in(self.engine(), ns, id.as_ref(), options)
    }

    /// Claims many ids at once: returns one answer for each, in order. Faster than one by one, with a single wait for
    /// durability. A repeated id is a duplicate of its first occurrence in the batch. The batch is one record: after
    /// an error none of it was claimed. Blocks as [`claim`](Self::claim) does while any of the ids is reserved.
    ///
    /// # Errors
    ///
    /// As [`claim`](Self::claim), and [`FixCall`](crate::ErrorKind::FixCall) for more than 65,536 ids or 4 MiB.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = firstseen::Store::open(dir.path().join("seen.db")).expect("opens");
    /// let answers = store.claim_batch(&["a", "b", "a"]).expect("claims");
    /// assert_eq!(answers.iter().filter(|a| a.is_first_seen()).count(), 2);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn claim_batch<I: AsRef<[u8]>>(&self, ids: &[I]) -> Result<Vec<Claim>> {
        self.default_namespace().claim_batch(ids)
    }

    /// Claims many ids at once, with settings for this call.
    ///
    /// # Errors
    ///
    /// As [`claim_batch`](Self::claim_batch) and [`claim_with`](Self::claim_with).
    pub fn claim_batch_with<I: AsRef<[u8]>>(
        &self,
        ids: &[I],
        options: ClaimOptions,
    ) -> Result<Vec<Claim>> {
        self.default_namespace().claim_batch_with(ids, options)
    }

    /// Reserves an id: perform the effect, then confirm the claim. See [`Reservation`].
    ///
    /// # In async code
    ///
    /// If another caller holds the id, this returns [`InProgress`](Reserve::InProgress) at once. It waits only for
    /// memory and, for a duplicate at [`Durability::Disk`](crate::Durability::Disk), for the disk;
    /// [`reserve_async`](Self::reserve_async) does so without blocking the thread.
    ///
    /// A reservation may be held across an `.await` as long as no task of the runtime blocks its thread on the id: use
    /// [`claim_async`](Self::claim_async) and [`forget_async`](Self::forget_async) there. `examples/tokio_consumer.rs`
    /// shows it.
    ///
    /// # Errors
    ///
    /// As [`claim`](Self::claim).
    pub fn reserve(&self, id: impl AsRef<[u8]>) -> Result<Reserve> {
        self.default_namespace().reserve(id)
    }

    /// Reserves an id with settings for this call and for the claim that `confirm` makes.
    ///
    /// ```
    /// use firstseen::{ClaimOptions, Reserve, hours};
    /// use std::time::Duration;
    /// # let dir = tempfile::tempdir()?;
    /// # let store = firstseen::Store::open(dir.path().join("seen.db"))?;
    /// let options = ClaimOptions::new().ttl(hours(1)).wait(Duration::ZERO);
    /// let Reserve::FirstSeen(mut held) = store.reserve_with("evt-1", options)? else { panic!("it is new") };
    /// assert_eq!(held.id(), b"evt-1");
    /// held.confirm()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`claim_with`](Self::claim_with).
    pub fn reserve_with(&self, id: impl AsRef<[u8]>, options: ClaimOptions) -> Result<Reserve> {
        self.default_namespace().reserve_with(id, options)
    }

    /// Reserves many ids at once. See [`BatchReservation`].
    ///
    /// # Errors
    ///
    /// As [`claim_batch`](Self::claim_batch).
    pub fn reserve_batch<I: AsRef<[u8]>>(&self, ids: &[I]) -> Result<BatchReservation> {
        self.default_namespace().reserve_batch(ids)
    }

    /// Reserves many ids at once, with settings for this call and for the claims that `confirm` makes.
    ///
    /// # Errors
    ///
    /// As [`claim_batch`](Self::claim_batch) and [`claim_with`](Self::claim_with).
    pub fn reserve_batch_with<I: AsRef<[u8]>>(
        &self,
        ids: &[I],
        options: ClaimOptions,
    ) -> Result<BatchReservation> {
        self.default_namespace().reserve_batch_with(ids, options)
    }

    /// Lists the reserved ids with their age, the oldest first, [`HELD_LISTED_MAX`] at most; [`Stats::ids_reserved`](crate::Stats::ids_reserved)
    /// counts them all. A reservation does not expire, so an old one means that a worker hangs or has forgotten it.
    ///
    /// [`HELD_LISTED_MAX`]: crate::limits::HELD_LISTED_MAX
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = firstseen::Store::open(dir.path().join("seen.db"))?;
    /// let held = store.reserve("evt-1")?;
    /// let oldest = &store.held()[0];
    /// assert_eq!((oldest.id.as_slice(), oldest.namespace.as_str()), (&b"evt-1"[..], "default"));
    /// assert!(oldest.age.as_secs() < 60);
    /// # drop(held);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn held(&self) -> Vec<Held> {
        self.engine().held(None)
    }

    /// Returns whether the id has a live claim. Claims nothing and writes nothing.
    ///
    /// # Errors
    ///
    /// - [`FixCall`](crate::ErrorKind::FixCall) for an invalid id.
    /// - [`Reopen`](crate::ErrorKind::Reopen) after a failed write or sync.
    pub fn contains(&self, id: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.get(id)?.is_some())
    }

    /// Returns the live claim of an id, if there is one: when it was made and when it ends. A claim that is returned
    /// is as durable as the store's setting says.
    ///
    /// # Errors
    ///
    /// As [`contains`](Self::contains).
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = firstseen::Store::open(dir.path().join("seen.db")).expect("opens");
    /// store.claim(b"evt-1").expect("claims");
    /// let seen = store.get(b"evt-1").expect("reads").expect("was claimed");
    /// assert_eq!(seen.deadline, firstseen::Timestamp::NEVER);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn get(&self, id: impl AsRef<[u8]>) -> Result<Option<Seen>> {
        self.default_namespace().get(id)
    }

    /// Ends the live claim of an id, so that its next claim is first seen. Returns whether there was one. As durable
    /// as a claim. Blocks as [`claim`](Self::claim) does while the id is reserved.
    ///
    /// # Errors
    ///
    /// As [`claim`](Self::claim).
    pub fn forget(&self, id: impl AsRef<[u8]>) -> Result<bool> {
        self.default_namespace().forget(id)
    }

    /// Ends the live claim of an id with settings for this call: durability and wait. A ttl has no effect.
    ///
    /// # Errors
    ///
    /// As [`claim_with`](Self::claim_with).
    pub fn forget_with(&self, id: impl AsRef<[u8]>, options: ClaimOptions) -> Result<bool> {
        self.default_namespace().forget_with(id, options)
    }

    /// Returns what the log still knows of an id of the default namespace; see [`Namespace::history`].
    ///
    /// # Errors
    ///
    /// As [`Namespace::history`].
    pub fn history(&self, id: impl AsRef<[u8]>) -> Result<History> {
        self.default_namespace().history(id)
    }
}

impl Namespace {
    /// Claims an id; see [`Store::claim`].
    ///
    /// # Errors
    ///
    /// As [`Store::claim`].
    pub fn claim(&self, id: impl AsRef<[u8]>) -> Result<Claim> {
        claim_in(self.engine(), self.info(), id.as_ref(), ClaimOptions::new())
    }

    /// Claims an id with settings for this call; see [`Store::claim_with`].
    ///
    /// # Errors
    ///
    /// As [`Store::claim_with`].
    pub fn claim_with(&self, id: impl AsRef<[u8]>, options: ClaimOptions) -> Result<Claim> {
        claim_in(self.engine(), self.info(), id.as_ref(), options)
    }

    /// Claims many ids at once; see [`Store::claim_batch`].
    ///
    /// # Errors
    ///
    /// As [`Store::claim_batch`].
    pub fn claim_batch<I: AsRef<[u8]>>(&self, ids: &[I]) -> Result<Vec<Claim>> {
        self.claim_batch_with(ids, ClaimOptions::new())
    }

    /// Claims many ids at once, with settings for this call; see [`Store::claim_batch_with`].
    ///
    /// # Errors
    ///
    /// As [`Store::claim_batch_with`].
    pub fn claim_batch_with<I: AsRef<[u8]>>(
        &self,
        ids: &[I],
        options: ClaimOptions,
    ) -> Result<Vec<Claim>> {
        let spec = spec(self.engine(), self.info(), options)?;
        self.engine().claim_batch(self.info(), ids, spec)
    }

    /// Reserves an id; see [`Store::reserve`].
    ///
    /// # Errors
    ///
    /// As [`Store::reserve`].
    pub fn reserve(&self, id: impl AsRef<[u8]>) -> Result<Reserve> {
        self.reserve_with(id, ClaimOptions::new())
    }

    /// Reserves an id with settings for this call; see [`Store::reserve_with`].
    ///
    /// # Errors
    ///
    /// As [`Store::reserve_with`].
    pub fn reserve_with(&self, id: impl AsRef<[u8]>, options: ClaimOptions) -> Result<Reserve> {
        self.reserve_batch_with(&[id], options).map(reserve_answer)
    }

    /// Reserves many ids at once; see [`Store::reserve_batch`].
    ///
    /// # Errors
    ///
    /// As [`Store::reserve_batch`].
    pub fn reserve_batch<I: AsRef<[u8]>>(&self, ids: &[I]) -> Result<BatchReservation> {
        self.reserve_batch_with(ids, ClaimOptions::new())
    }

    /// Reserves many ids at once, with settings for this call; see [`Store::reserve_batch_with`].
    ///
    /// # Errors
    ///
    /// As [`Store::reserve_batch_with`].
    pub fn reserve_batch_with<I: AsRef<[u8]>>(
        &self,
        ids: &[I],
        options: ClaimOptions,
    ) -> Result<BatchReservation> {
        let spec = spec(self.engine(), self.info(), options)?;
        let (hold, answers, rests_on) = self.engine().reserve(self.info(), ids, spec.wait)?;
        // Create this before waiting: if the wait fails, dropping it releases the ids.
        let reservation = BatchReservation::new(
            self.store().clone(),
            Arc::clone(self.info()),
            hold,
            answers,
            spec,
        );
        self.engine().await_durable(spec.durability, rests_on)?;
        Ok(reservation)
    }

    /// Returns whether the id has a live claim; see [`Store::contains`].
    ///
    /// # Errors
    ///
    /// As [`Store::contains`].
    pub fn contains(&self, id: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.get(id)?.is_some())
    }

    /// Returns the live claim of an id, if there is one; see [`Store::get`].
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    pub fn get(&self, id: impl AsRef<[u8]>) -> Result<Option<Seen>> {
        let engine = self.engine();
        engine.get(self.info(), id.as_ref(), engine.settings().durability)
    }

    /// Forgets every id of this namespace that has a live claim, one by one, and returns how many. Not atomic: after
    /// an error or a crash some are forgotten, and calling again does the rest. Claims made meanwhile may remain.
    /// Reads the whole store.
    ///
    /// # Errors
    ///
    /// As [`Store::forget`] and [`Store::export`].
    pub fn forget_all(&self) -> Result<u64> {
        let spec = spec(self.engine(), self.info(), ClaimOptions::new())?;
        self.engine().forget_all(self.info(), spec)
    }

    /// Ends the live claim of an id; see [`Store::forget`].
    ///
    /// # Errors
    ///
    /// As [`Store::forget`].
    pub fn forget(&self, id: impl AsRef<[u8]>) -> Result<bool> {
        self.forget_with(id, ClaimOptions::new())
    }

    /// Ends the live claim of an id with settings for this call; see [`Store::forget_with`].
    ///
    /// # Errors
    ///
    /// As [`Store::forget_with`].
    pub fn forget_with(&self, id: impl AsRef<[u8]>, options: ClaimOptions) -> Result<bool> {
        let spec = spec(self.engine(), self.info(), options)?;
        self.engine().forget(self.info(), id.as_ref(), spec)
    }

    /// Returns what the log still knows of an id: when it was claimed, extended and forgotten, what a ledger of this name
    /// has written about it, and what was written in one step with each.
    ///
    /// **Reads the whole log**, segment by segment, while claims go on; removing segments waits for it. What has ended, or
    /// was replaced, is in there until compaction drops it, so the answer is what is left and not all that happened.
    /// Damaged stretches are listed, and the rest is told all the same (I11). What a promoted replay scope has replaced is
    /// not told.
    ///
    /// ```
    /// use firstseen::HistoryKind;
    /// # let dir = tempfile::tempdir()?;
    /// # let store = firstseen::Store::open(dir.path().join("seen.db"))?;
    /// let payments = store.namespace("payments")?;
    /// payments.claim_batch(&["order-1", "order-2"])?;
    /// payments.forget("order-1")?;
    /// let history = payments.history("order-1")?;
    /// let what: Vec<_> = history.events.iter().map(|event| event.what).collect();
    /// assert_eq!(what, [HistoryKind::Claimed, HistoryKind::Forgotten]);
    /// assert_eq!(history.events[0].commit.claims, 2, "claimed in one step with another");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// - [`FixCall`](crate::ErrorKind::FixCall) for an invalid id.
    /// - [`Environment`](crate::ErrorKind::Environment) if the log cannot be read at all.
    pub fn history(&self, id: impl AsRef<[u8]>) -> Result<History> {
        self.engine().history(self.info(), id.as_ref())
    }

    /// Lists the reserved ids of this namespace; see [`Store::held`].
    pub fn held(&self) -> Vec<Held> {
        self.engine().held(Some(self.info().id()))
    }
}

#[inline]
fn claim_in(engine: &Engine, ns: &NsInfo, id: &[u8], options: ClaimOptions) -> Result<Claim> {
    engine.claim(ns, id, spec(engine, ns, options)?)
}

/// Applies the options of a call to the settings of its namespace and store.
pub(super) fn spec(engine: &Engine, ns: &NsInfo, options: ClaimOptions) -> Result<ClaimSpec> {
    if let Some(ttl) = options.ttl {
        ttl.check()?;
    }
    Ok(ClaimSpec {
        ttl: options.ttl.unwrap_or_else(|| ns.ttl()),
        sliding: options.sliding.unwrap_or_else(|| ns.sliding()),
        durability: options.durability.unwrap_or(engine.settings().durability),
        wait: options.wait,
    })
}

/// Returns the answer for the only id of a reservation.
pub(super) fn reserve_answer(batch: BatchReservation) -> Reserve {
    match batch.answers().first() {
        Some(Reserved::Duplicate { first_seen }) => Reserve::Duplicate { first_seen: *first_seen },
        Some(Reserved::InProgress) => Reserve::InProgress,
        _ => Reserve::FirstSeen(Reservation::new(batch)),
    }
}
