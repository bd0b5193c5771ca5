//! Reservations: hold ids while their effects are performed.

use crate::engine::{ClaimSpec, Hold, NsInfo, Reserved, RestsOn};
use crate::error::Result;
use crate::store::handle::Store;
use crate::sync::Arc;
use crate::time::Timestamp;
use std::fmt;

/// The answer to [`Store::reserve`](crate::Store::reserve).
#[derive(Debug)]
#[must_use = "a reservation that is dropped is released"]
pub enum Reserve {
    /// The id is new and this caller holds it.
    FirstSeen(Reservation),
    /// The id already has a live claim.
    Duplicate {
        /// When that claim was made.
        first_seen: Timestamp,
    },
    /// Another caller holds the id and has neither confirmed nor released it.
    InProgress,
}

/// A held id. [`confirm`](Self::confirm) turns it into a claim; dropping it releases it, and so does a crash.
///
/// Perform the effect, then confirm. After a crash in between, the event is processed again when it is redelivered:
/// at least once, with a second effect only around a crash. Nothing is logged before `confirm`. While the id is held,
/// [`claim`](crate::Store::claim) on it blocks, and [`reserve`](crate::Store::reserve) returns `InProgress`. It may be held
/// across an `.await`: read the notes there.
///
/// ```
/// use firstseen::Reserve;
/// # let dir = tempfile::tempdir()?;
/// # let store = firstseen::Store::open(dir.path().join("seen.db")).expect("opens");
/// if let Reserve::FirstSeen(mut held) = store.reserve(b"evt-1").expect("reserves") {
///     // ... the effect ...
///     held.confirm().expect("claims");
/// }
/// assert!(store.contains(b"evt-1").expect("reads"));
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use = "a reservation that is dropped is released"]
pub struct Reservation {
    batch: BatchReservation,
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation")
            .field("store", &self.batch.store)
            .field("namespace", &self.batch.ns.name)
            .field("hold", &self.batch.hold)
            .finish()
    }
}

impl Reservation {
    pub(super) fn new(batch: BatchReservation) -> Self {
        Self { batch }
    }

    /// Returns the held id, or after [`confirm`](Self::confirm) the id that was held. For a long id stored as its
    /// hash: the hash.
    pub fn id(&self) -> &[u8] {
        self.batch.hold.first_id()
    }

    /// Turns the id into a claim, as durable as requested. After an error the id is still held, and the call may be
    /// repeated.
    ///
    /// # Errors
    ///
    /// As [`Store::claim`](crate::Store::claim).
    pub fn confirm(&mut self) -> Result<()> {
        self.batch.confirm()
    }

    /// Confirms as [`confirm`](Self::confirm) does, without blocking the thread. If the future is dropped before it is
    /// ready, the id is either still held or a claim whose durability is not known; another call, of either form, does
    /// what is left.
    ///
    /// # Errors
    ///
    /// As [`confirm`](Self::confirm).
    pub async fn confirm_async(&mut self) -> Result<()> {
        self.batch.confirm_async().await
    }
}

/// Many held ids, confirmed together as one record. Otherwise like [`Reservation`].
///
/// ```
/// use firstseen::Reserved;
/// # let dir = tempfile::tempdir()?;
/// # let store = firstseen::Store::open(dir.path().join("seen.db")).expect("opens");
/// let mut held = store.reserve_batch(&["a", "b", "a"]).expect("reserves");
/// assert_eq!(held.answers(), [Reserved::FirstSeen, Reserved::FirstSeen, Reserved::SameBatch]);
/// held.confirm().expect("claims");
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use = "a reservation that is dropped is released"]
pub struct BatchReservation {
    store: Store,
    ns: Arc<NsInfo>,
    hold: Hold,
    state: State,
    answers: Vec<Reserved>,
    spec: ClaimSpec,
}

impl fmt::Debug for BatchReservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchReservation")
            .field("store", &self.store)
            .field("namespace", &self.ns.name)
            .field("hold", &self.hold)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// What has become of the held ids.
#[derive(Debug, Clone, Copy)]
enum State {
    Held,
    /// They are claims that rest on this record, which is not known to be as durable as asked.
    Claimed(Option<RestsOn>),
    Durable,
}

impl BatchReservation {
    pub(super) fn new(
        store: Store,
        ns: Arc<NsInfo>,
        hold: Hold,
        answers: Vec<Reserved>,
        spec: ClaimSpec,
    ) -> Self {
        Self { store, ns, hold, state: State::Held, answers, spec }
    }

    /// Returns one answer for each id, in the order of the call.
    pub fn answers(&self) -> &[Reserved] {
        &self.answers
    }

    /// Turns every id answered with [`Reserved::FirstSeen`] into a claim: all of them or, after an error, none. After
    /// an error they are still held, and the call may be repeated. Calling it again after success does nothing.
    ///
    /// # Errors
    ///
    /// As [`Store::claim`](crate::Store::claim).
    pub fn confirm(&mut self) -> Result<()> {
        let engine = self.store.engine();
        if let State::Held = self.state {
            let rests_on = engine.confirm(&self.ns, &self.hold, self.spec)?;
            self.state = State::Claimed(rests_on);
        }
        if let State::Claimed(rests_on) = self.state {
            engine.await_durable(self.spec.durability, rests_on)?;
            self.state = State::Durable;
        }
        Ok(())
    }

    /// Confirms as [`confirm`](Self::confirm) does, without blocking; see
    /// [`Reservation::confirm_async`].
    ///
    /// # Errors
    ///
    /// As [`confirm`](Self::confirm).
    pub async fn confirm_async(&mut self) -> Result<()> {
        let engine = self.store.engine();
        if let State::Held = self.state {
            let (ns, spec) = (&self.ns, self.spec);
            let rests_on = engine.confirm_async(ns, &self.hold, spec).await?;
            self.state = State::Claimed(rests_on);
        }
        if let State::Claimed(rests_on) = self.state {
            self.store.durable(self.spec.durability, rests_on).await?;
            self.state = State::Durable;
        }
        Ok(())
    }
}

impl Drop for BatchReservation {
    fn drop(&mut self) {
        // In a forked child the parent holds the ids, and a shard may be locked forever.
        if matches!(self.state, State::Held) && self.store.engine().check_home().is_ok() {
            self.store.engine().release(&self.hold);
        }
    }
}
