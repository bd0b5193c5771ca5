//! Reservations: hold ids while their effects are made.

use crate::engine::{ClaimSpec, Hold, HoldAnswer};
use crate::error::Result;
use crate::store::Namespace;
use crate::time::Timestamp;

/// The answer to [`Store::reserve`](crate::Store::reserve).
#[derive(Debug)]
#[must_use = "a reservation that is dropped is released"]
pub enum Reserve {
    /// The id is new and held by this caller.
    FirstSeen(Reservation),
    /// The id was claimed before and its claim is live.
    Duplicate {
        /// When it was claimed.
        first_seen: Timestamp,
    },
    /// Somebody else holds the id and has neither confirmed nor released it.
    InProgress,
}

/// A held id. [`confirm`](Self::confirm) makes it a claim; dropping it releases it, and so does a crash.
///
/// Make the effect, then confirm. A crash in between means that the event is worked on again when it
/// comes again: at least once, with a second effect only around a crash. Nothing is in the log before
/// `confirm`. While the id is held, [`claim`](crate::Store::claim) of it blocks, and
/// [`reserve`](crate::Store::reserve) says `InProgress`. In async code, read there before you hold it over an `.await`.
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
#[derive(Debug)]
#[must_use = "a reservation that is dropped is released"]
pub struct Reservation {
    batch: BatchReservation,
}

impl Reservation {
    pub(super) fn new(batch: BatchReservation) -> Self {
        Self { batch }
    }

    /// The id that is held, or was until [`confirm`](Self::confirm). For a long id that is stored as its hash: the hash.
    pub fn id(&self) -> &[u8] {
        self.batch.hold.first_id()
    }

    /// Makes the id a claim, as durable as was asked. After an error the id is still held, and the call
    /// may be repeated.
    ///
    /// # Errors
    ///
    /// As [`Store::claim`](crate::Store::claim).
    pub fn confirm(&mut self) -> Result<()> {
        self.batch.confirm()
    }
}

/// The answer for one id of a [`BatchReservation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reserved {
    /// The id is new and held by this reservation.
    FirstSeen,
    /// The id was claimed before and its claim is live.
    Duplicate {
        /// When it was claimed.
        first_seen: Timestamp,
    },
    /// The id stands earlier in this batch and is held for that place.
    SameBatch,
    /// Somebody else holds the id.
    InProgress,
}

/// Many held ids, confirmed together as one record. Works as [`Reservation`].
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
#[derive(Debug)]
#[must_use = "a reservation that is dropped is released"]
pub struct BatchReservation {
    namespace: Namespace,
    hold: Hold,
    is_held: bool,
    answers: Vec<Reserved>,
    spec: ClaimSpec,
}

impl BatchReservation {
    pub(super) fn new(
        namespace: Namespace,
        hold: Hold,
        answers: &[HoldAnswer],
        spec: ClaimSpec,
    ) -> Self {
        let answer = |answer: &HoldAnswer| match *answer {
            HoldAnswer::FirstSeen => Reserved::FirstSeen,
            HoldAnswer::Duplicate { first_seen } => Reserved::Duplicate { first_seen },
            HoldAnswer::SameBatch => Reserved::SameBatch,
            HoldAnswer::InProgress => Reserved::InProgress,
        };
        let answers = answers.iter().map(answer).collect();
        Self { namespace, hold, is_held: true, answers, spec }
    }

    /// One answer for each id, in the order of the call.
    pub fn answers(&self) -> &[Reserved] {
        &self.answers
    }

    /// Makes every id that was [`Reserved::FirstSeen`] a claim: all of them or, after an error, none.
    /// After an error they are still held, and the call may be repeated. A second call does nothing.
    ///
    /// # Errors
    ///
    /// As [`Store::claim`](crate::Store::claim).
    pub fn confirm(&mut self) -> Result<()> {
        if !self.is_held {
            return Ok(());
        }
        self.namespace.engine().confirm(self.namespace.info(), &self.hold, self.spec)?;
        self.is_held = false;
        Ok(())
    }
}

impl Drop for BatchReservation {
    fn drop(&mut self) {
        // In a forked child the ids are held by the parent, and a shard may be locked for ever.
        if self.is_held && self.namespace.engine().check_home().is_ok() {
            self.namespace.engine().release(&self.hold);
        }
    }
}
