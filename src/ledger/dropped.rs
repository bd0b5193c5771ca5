//! Attempts that are dropped before they said how they went.
//!
//! A task may drop one, so nothing is waited for. Where there is no room to write it down at once, the thread that renews
//! leases does so a little later. That is for nothing but speed: the end of the lease says the same.

use crate::engine::WaitBudget;
use crate::ledger::attempt::Attempt;
use crate::ledger::ending::Ending;
use crate::ledger::error::AttemptError;
use crate::ledger::handle::Ledger;
use crate::ledger::moves::Phase;
use crate::ledger::rows::Found;
use crate::ledger::work::Work;
use crate::sync::Arc;
use std::time::Duration;

/// The pause before the first time that it is tried again; each later one is twice as long, up to the last.
const AGAIN_FIRST: Duration = Duration::from_millis(20);
const AGAIN_LAST: Duration = Duration::from_secs(1);

impl Drop for Attempt {
    fn drop(&mut self) {
        let reason = if std::thread::panicking() {
            "the worker panicked"
        } else {
            "the attempt was dropped before it said how it went"
        };
        note(&self.work, reason, AGAIN_FIRST);
    }
}

/// Notes that an attempt was dropped, now or a little later.
fn note(work: &Work, reason: &'static str, pause: Duration) {
    // Waits for no disk either. After a power cut its process has ended, which counts as much.
    let budget = &mut WaitBudget::of_one_attempt();
    let noted = work.last_word(&Ending::Drop { reason }, budget).and_then(|left| match left {
        None => Ok(()),
        Some(found) => Ok(note_later(work, found, reason, pause)?),
    });
    match noted {
        // Nothing is lost by silence: somebody else has it, or it is held or dead.
        Ok(())
        | Err(AttemptError::Fenced { .. } | AttemptError::Over { .. } | AttemptError::LeaseEnded) =>
            {}
        Err(error) => {
            tracing::warn!(%error, "a dropped attempt was not noted; its lease ends it");
        }
    }
}

/// Has it noted after a pause, unless the store is closed before, or the lease ends.
fn note_later(
    work: &Work,
    found: Found,
    reason: &'static str,
    pause: Duration,
) -> crate::Result<()> {
    let (id, inner) = (work.id().to_vec(), &work.ledger.inner);
    let (store, info, options) =
        (inner.store.downgrade(), Arc::clone(&inner.info), inner.options.clone());
    inner.store.engine().renewals()?.add_uncancelled(pause, move || {
        let ledger = Ledger::of(store.upgrade()?, Arc::clone(&info), options.clone()).ok()?;
        if ledger.now().phase(Some(&found.record)) == Phase::Running {
            let next = AGAIN_LAST.min(pause * 2);
            note(&Work::new(ledger, &id, found.clone()), reason, next);
        }
        None
    });
    Ok(())
}
