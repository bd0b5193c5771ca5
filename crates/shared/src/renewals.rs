//! How long an attempt has its record: leases that are renewed, and lost.

use crate::attempt::Work;
use crate::error::MoveError;
use crate::repeat::Lost as _;
use crate::store::DedupStore;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// A lease is renewed after this part of its length.
const RENEWALS: u32 = 3;

/// A renewal that was not answered is tried again after this part of the lease.
const AGAIN: u32 = 12;

/// Until when an attempt has its record, as far as this process knows.
#[derive(Debug)]
pub(crate) struct Hold(watch::Sender<State>);

#[derive(Debug, Clone, Copy)]
struct State {
    /// When the last accepted renewal was sent.
    sent: Instant,
    /// The end of the lease, counted from then: the store's clock cannot have started it earlier.
    ends: Instant,
    /// Nobody knows whether the work was done, or whether the store knows it.
    in_doubt: bool,
    /// The attempt has said how it went, or is fenced, or gone.
    is_over: bool,
    lost: Option<Lost>,
}

/// Why the work of an attempt must stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Lost {
    /// The store says that another attempt has the record, or an operator, or that it is gone.
    TakenOver,
    /// The lease has ended: the store says so, or could not be asked in time.
    LeaseEnded,
}

impl Hold {
    pub(crate) fn new(sent: Instant, lease: Duration) -> Self {
        let ends = end_of(sent, lease);
        let (in_doubt, is_over, lost) = (false, false, None);
        Self(watch::Sender::new(State { sent, ends, in_doubt, is_over, lost }))
    }

    pub(crate) fn renewed(&self, sent: Instant, lease: Duration) {
        self.0.send_modify(|state| {
            // Answers may come in another order than they were asked for.
            if sent > state.sent {
                (state.sent, state.ends) = (sent, end_of(sent, lease));
            }
        });
    }

    pub(crate) fn left(&self) -> Duration {
        self.0.borrow().ends.saturating_duration_since(Instant::now())
    }

    /// Returns whether dropping the attempt means that it failed.
    pub(crate) fn is_open(&self) -> bool {
        let state = self.0.borrow();
        !state.in_doubt && !state.is_over && state.lost.is_none() && Instant::now() < state.ends
    }

    /// Notes that nobody knows whether the work was done. Returns whether that was so before.
    pub(crate) fn doubt(&self) -> bool {
        let mut before = false;
        self.0.send_modify(|state| before = std::mem::replace(&mut state.in_doubt, true));
        before
    }

    pub(crate) fn finish(&self) {
        self.0.send_modify(|state| (state.is_over, state.in_doubt) = (true, false));
    }

    fn lose(&self, lost: Lost) {
        self.0.send_modify(|state| state.lost = Some(lost));
    }
}

fn end_of(sent: Instant, lease: Duration) -> Instant {
    // A lease of centuries is one of a year that is renewed.
    sent + lease.min(Duration::from_secs(365 * 24 * 3_600))
}

/// Renews the lease of an attempt until this is dropped or the attempt is over; see
/// [`Attempt::keep_renewed`](crate::Attempt::keep_renewed).
#[derive(Debug)]
#[must_use = "the lease is renewed as long as this is kept"]
pub struct Renewals {
    state: watch::Receiver<State>,
    task: JoinHandle<()>,
}

impl Renewals {
    pub(crate) fn start<S: DedupStore>(work: Arc<Work<S>>) -> Self {
        let state = work.hold.0.subscribe();
        Self { task: tokio::spawn(keep(work, state.clone())), state }
    }

    /// Waits until the attempt has lost its record. The work must stop then: somebody else may be about to do it.
    ///
    /// While the store is away, the owner keeps on until the end of its lease, counted from when it sent the last renewal that
    /// was accepted, by a clock of this machine that never steps. Where that clock stands still, because the machine sleeps, the
    /// end is seen late: tokens tell late effects apart.
    ///
    /// Never ready once the attempt has said how it went: nothing can be lost then. So race it against the work.
    pub async fn lost(&self) -> Lost {
        let mut state = self.state.clone();
        loop {
            let State { ends, is_over, lost, .. } = *state.borrow_and_update();
            if is_over {
                return std::future::pending().await;
            }
            if let Some(lost) = lost {
                return lost;
            }
            tokio::select! {
                changed = state.changed() => if changed.is_err() {
                    // The attempt is gone, and nobody can renew it any more.
                    sleep_until(ends).await;
                    return Lost::LeaseEnded;
                },
                () = sleep_until(ends) => if state.borrow().ends <= Instant::now() {
                    return Lost::LeaseEnded;
                },
            }
        }
    }
}

impl Drop for Renewals {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Renews a lease as long as its attempt has the record.
async fn keep<S: DedupStore>(work: Arc<Work<S>>, state: watch::Receiver<State>) {
    let lease = work.ledger.lease();
    let again = (lease / AGAIN).max(Duration::from_millis(1));
    loop {
        let State { sent, .. } = *state.borrow();
        sleep_until(sent + (end_of(sent, lease) - sent) / RENEWALS).await;
        loop {
            let State { ends, is_over, sent: last, .. } = *state.borrow();
            if is_over {
                return;
            }
            if last > sent {
                break; // Somebody else has renewed it.
            }
            let left = ends.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return work.hold.lose(Lost::LeaseEnded);
            }
            // A call that hangs must not take the time of the next.
            let within = left.min(lease / RENEWALS);
            let renewed = timeout(within, work.renew_once()).await;
            match renewed.unwrap_or_else(|_| Err(MoveError::unanswered(within))) {
                Ok(()) => break,
                Err(MoveError::Store(error)) => {
                    tracing::warn!(%error, "a lease was not renewed; once more in {again:?}");
                    sleep(again).await;
                }
                Err(MoveError::LeaseEnded) => return work.hold.lose(Lost::LeaseEnded),
                // What the attempt has said itself ends it; see above.
                Err(MoveError::Over(_)) => return,
                Err(_) => return work.hold.lose(Lost::TakenOver),
            }
        }
    }
}
