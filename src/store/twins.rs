//! The awaitable twins of the calls that may wait. They block no thread and need no particular runtime.
//!
//! Each has the answers, errors and deadline of the call whose name it carries. [`Store::claim_async`] describes what
//! they have in common.

use crate::engine::{Claim, Durability, RestsOn, Threads};
use crate::error::Result;
use crate::store::calls::{reserve_answer, spec};
use crate::store::{BatchReservation, ClaimOptions, Namespace, Reserve, Store};
use crate::sync::Arc;

impl Store {
    /// Claims an id as [`claim`](Self::claim) does, as a future: where that blocks its thread, this waits without one.
    /// Any runtime will do, and any executor of one's own.
    ///
    /// It waits for the end of another caller's reservation, for memory and, at
    /// [`Durability::Disk`](crate::Durability::Disk), for the disk; all futures that wait for the disk share syncs. Its
    /// wait for the first two ends after [`wait_max`](crate::Builder::wait_max), without a timer of the runtime.
    ///
    /// # Dropping it
    ///
    /// A future that is dropped before it is ready leaves nothing behind that waits. If it waited for a reservation or
    /// for memory, nothing was claimed. **If it waited for the disk, the id is claimed**, and the next claim of it is a
    /// duplicate, as after any timeout. Reserve the id instead where you must know whether an effect was made.
    ///
    /// # What still takes its thread
    ///
    /// An attempt itself runs on the thread that polls: some microseconds, and a short read of the disk where the id
    /// is in a block that is not in memory. Two rare things may take milliseconds: a damaged block is healed from the
    /// log, and where the next segment of the log was not ready in time, it is made.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = firstseen::Store::open(dir.path().join("seen.db"))?;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # runtime.block_on(async {
    /// if store.claim_async("evt-1").await?.is_first_seen() {
    ///     // ... the effect ...
    /// }
    /// # Ok::<(), firstseen::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`claim`](Self::claim).
    pub async fn claim_async(&self, id: impl AsRef<[u8]>) -> Result<Claim> {
        self.claim_with_async(id, ClaimOptions::new()).await
    }

    /// Claims an id with settings for this call; see [`claim_with`](Self::claim_with) and
    /// [`claim_async`](Self::claim_async).
    ///
    /// # Errors
    ///
    /// As [`claim_with`](Self::claim_with).
    pub async fn claim_with_async(
        &self,
        id: impl AsRef<[u8]>,
        options: ClaimOptions,
    ) -> Result<Claim> {
        self.default_namespace().claim_with_async(id, options).await
    }

    /// Claims many ids at once; see [`claim_batch`](Self::claim_batch) and [`claim_async`](Self::claim_async).
    ///
    /// # Errors
    ///
    /// As [`claim_batch`](Self::claim_batch).
    pub async fn claim_batch_async<I: AsRef<[u8]>>(&self, ids: &[I]) -> Result<Vec<Claim>> {
        self.claim_batch_with_async(ids, ClaimOptions::new()).await
    }

    /// Claims many ids at once, with settings for this call; see [`claim_batch_with`](Self::claim_batch_with) and
    /// [`claim_async`](Self::claim_async).
    ///
    /// # Errors
    ///
    /// As [`claim_batch_with`](Self::claim_batch_with).
    pub async fn claim_batch_with_async<I: AsRef<[u8]>>(
        &self,
        ids: &[I],
        options: ClaimOptions,
    ) -> Result<Vec<Claim>> {
        self.default_namespace().claim_batch_with_async(ids, options).await
    }

    /// Reserves an id; see [`reserve`](Self::reserve) and [`claim_async`](Self::claim_async). If another caller holds
    /// the id, the answer is [`InProgress`](Reserve::InProgress) at once. Dropping the future before it is ready
    /// releases the id.
    ///
    /// A reservation may be held across an `.await`, whatever the other tasks do, as long as they use the awaitable
    /// calls. [`Reservation::confirm_async`](crate::Reservation::confirm_async) confirms it.
    ///
    /// # Errors
    ///
    /// As [`reserve`](Self::reserve).
    pub async fn reserve_async(&self, id: impl AsRef<[u8]>) -> Result<Reserve> {
        self.reserve_with_async(id, ClaimOptions::new()).await
    }

    /// Reserves an id with settings for this call and for the claim that `confirm` makes; see
    /// [`reserve_with`](Self::reserve_with) and [`reserve_async`](Self::reserve_async).
    ///
    /// # Errors
    ///
    /// As [`reserve_with`](Self::reserve_with).
    pub async fn reserve_with_async(
        &self,
        id: impl AsRef<[u8]>,
        options: ClaimOptions,
    ) -> Result<Reserve> {
        self.default_namespace().reserve_with_async(id, options).await
    }

    /// Reserves many ids at once; see [`reserve_batch`](Self::reserve_batch) and
    /// [`reserve_async`](Self::reserve_async).
    ///
    /// # Errors
    ///
    /// As [`reserve_batch`](Self::reserve_batch).
    pub async fn reserve_batch_async<I: AsRef<[u8]>>(&self, ids: &[I]) -> Result<BatchReservation> {
        self.reserve_batch_with_async(ids, ClaimOptions::new()).await
    }

    /// Reserves many ids at once, with settings for this call and for the claims that `confirm` makes; see
    /// [`reserve_batch_with`](Self::reserve_batch_with) and [`reserve_async`](Self::reserve_async).
    ///
    /// # Errors
    ///
    /// As [`reserve_batch_with`](Self::reserve_batch_with).
    pub async fn reserve_batch_with_async<I: AsRef<[u8]>>(
        &self,
        ids: &[I],
        options: ClaimOptions,
    ) -> Result<BatchReservation> {
        self.default_namespace().reserve_batch_with_async(ids, options).await
    }

    /// Ends the live claim of an id; see [`forget`](Self::forget) and [`claim_async`](Self::claim_async).
    ///
    /// # Errors
    ///
    /// As [`forget`](Self::forget).
    pub async fn forget_async(&self, id: impl AsRef<[u8]>) -> Result<bool> {
        self.forget_with_async(id, ClaimOptions::new()).await
    }

    /// Ends the live claim of an id with settings for this call; see [`forget_with`](Self::forget_with) and
    /// [`claim_async`](Self::claim_async).
    ///
    /// # Errors
    ///
    /// As [`forget_with`](Self::forget_with).
    pub async fn forget_with_async(
        &self,
        id: impl AsRef<[u8]>,
        options: ClaimOptions,
    ) -> Result<bool> {
        self.default_namespace().forget_with_async(id, options).await
    }

    /// Makes everything answered before the first poll of this future survive a power cut; see [`sync`](Self::sync).
    /// Tasks that call it at the same time share a sync.
    ///
    /// # Errors
    ///
    /// As [`sync`](Self::sync).
    pub async fn sync_async(&self) -> Result<()> {
        let end = self.engine().sync_point()?;
        self.durable(Durability::Disk, Some(end)).await
    }

    /// Waits until the record that an answer depends on is as durable as asked.
    pub(crate) async fn durable(&self, level: Durability, rests_on: Option<RestsOn>) -> Result<()> {
        let Some(lsn) = self.engine().unsynced(level, rests_on)? else { return Ok(()) };
        self.owner.threads.iter().try_for_each(Threads::start_syncer)?;
        self.engine().synced(lsn).await
    }
}

impl Namespace {
    /// Claims an id; see [`Store::claim_async`].
    ///
    /// # Errors
    ///
    /// As [`Store::claim`].
    pub async fn claim_async(&self, id: impl AsRef<[u8]>) -> Result<Claim> {
        self.claim_with_async(id, ClaimOptions::new()).await
    }

    /// Claims an id with settings for this call; see [`Store::claim_with_async`].
    ///
    /// # Errors
    ///
    /// As [`Store::claim_with`].
    pub async fn claim_with_async(
        &self,
        id: impl AsRef<[u8]>,
        options: ClaimOptions,
    ) -> Result<Claim> {
        let spec = spec(self.engine(), self.info(), options)?;
        let claimed = self.engine().claim_async(self.info(), id.as_ref(), spec).await;
        let (answer, rests_on) = claimed?;
        self.store().durable(spec.durability, rests_on).await?;
        Ok(answer)
    }

    /// Claims many ids at once; see [`Store::claim_batch_async`].
    ///
    /// # Errors
    ///
    /// As [`Store::claim_batch`].
    pub async fn claim_batch_async<I: AsRef<[u8]>>(&self, ids: &[I]) -> Result<Vec<Claim>> {
        self.claim_batch_with_async(ids, ClaimOptions::new()).await
    }

    /// Claims many ids at once, with settings for this call; see [`Store::claim_batch_with_async`].
    ///
    /// # Errors
    ///
    /// As [`Store::claim_batch_with`].
    pub async fn claim_batch_with_async<I: AsRef<[u8]>>(
        &self,
        ids: &[I],
        options: ClaimOptions,
    ) -> Result<Vec<Claim>> {
        let spec = spec(self.engine(), self.info(), options)?;
        let (answers, rests_on) = self.engine().claim_batch_async(self.info(), ids, spec).await?;
        self.store().durable(spec.durability, rests_on).await?;
        Ok(answers)
    }

    /// Reserves an id; see [`Store::reserve_async`].
    ///
    /// # Errors
    ///
    /// As [`Store::reserve`].
    pub async fn reserve_async(&self, id: impl AsRef<[u8]>) -> Result<Reserve> {
        self.reserve_with_async(id, ClaimOptions::new()).await
    }

    /// Reserves an id with settings for this call; see [`Store::reserve_with_async`].
    ///
    /// # Errors
    ///
    /// As [`Store::reserve_with`].
    pub async fn reserve_with_async(
        &self,
        id: impl AsRef<[u8]>,
        options: ClaimOptions,
    ) -> Result<Reserve> {
        Ok(reserve_answer(self.reserve_batch_with_async(&[id.as_ref()], options).await?))
    }

    /// Reserves many ids at once; see [`Store::reserve_batch_async`].
    ///
    /// # Errors
    ///
    /// As [`Store::reserve_batch`].
    pub async fn reserve_batch_async<I: AsRef<[u8]>>(&self, ids: &[I]) -> Result<BatchReservation> {
        self.reserve_batch_with_async(ids, ClaimOptions::new()).await
    }

    /// Reserves many ids at once, with settings for this call; see [`Store::reserve_batch_with_async`].
    ///
    /// # Errors
    ///
    /// As [`Store::reserve_batch_with`].
    pub async fn reserve_batch_with_async<I: AsRef<[u8]>>(
        &self,
        ids: &[I],
        options: ClaimOptions,
    ) -> Result<BatchReservation> {
        let spec = spec(self.engine(), self.info(), options)?;
        let reserved = self.engine().reserve_async(self.info(), ids, spec.wait).await;
        let (hold, answers, rests_on) = reserved?;
        // Create this before waiting: if the wait fails or the future is dropped, dropping it releases the ids.
        let reservation = BatchReservation::new(
            self.store().clone(),
            Arc::clone(self.info()),
            hold,
            answers,
            spec,
        );
        self.store().durable(spec.durability, rests_on).await?;
        Ok(reservation)
    }

    /// Ends the live claim of an id; see [`Store::forget_async`].
    ///
    /// # Errors
    ///
    /// As [`Store::forget`].
    pub async fn forget_async(&self, id: impl AsRef<[u8]>) -> Result<bool> {
        self.forget_with_async(id, ClaimOptions::new()).await
    }

    /// Ends the live claim of an id with settings for this call; see [`Store::forget_with_async`].
    ///
    /// # Errors
    ///
    /// As [`Store::forget_with`].
    pub async fn forget_with_async(
        &self,
        id: impl AsRef<[u8]>,
        options: ClaimOptions,
    ) -> Result<bool> {
        let spec = spec(self.engine(), self.info(), options)?;
        let forgotten = self.engine().forget_async(self.info(), id.as_ref(), spec).await;
        let (was_live, rests_on) = forgotten?;
        self.store().durable(spec.durability, rests_on).await?;
        Ok(was_live)
    }
}
