//! The awaitable twins. They block no thread and need no particular runtime;
//! [`Store::claim_async`](crate::Store::claim_async) describes what all such calls have in common.

use crate::error::Result;
use crate::outbox::Full;
use crate::transaction::collect::Transaction;
use crate::transaction::commit::{Goal, are_full};
use crate::transaction::outcome::CommitOutcome;

impl Transaction {
    /// Commits all of it, as a future; see [`commit`](Self::commit). Dropped before it is ready, it has written nothing, or
    /// it was waiting for the disk, and all of it is made. If it has written nothing, attempts whose end or stage is in it are
    /// in doubt, as after an error.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit).
    pub async fn commit_async(&self) -> Result<CommitOutcome> {
        self.run_async(Goal::Commit).await
    }

    /// Prepares it under a name, as a future; see [`prepare`](Self::prepare) and [`commit_async`](Self::commit_async).
    ///
    /// # Errors
    ///
    /// As [`prepare`](Self::prepare).
    pub async fn prepare_async(&self, gid: impl AsRef<[u8]>) -> Result<CommitOutcome> {
        self.run_async(Goal::Prepare(gid.as_ref())).await
    }

    async fn run_async(&self, goal: Goal<'_>) -> Result<CommitOutcome> {
        let (engine, mut room_until, mut full) = (self.store.engine(), None, Vec::new());
        // Also if the future is dropped.
        let unanswered = self.unanswered();
        let (outcome, rests_on) = loop {
            let (outcome, rests_on) =
                engine.in_time(|budget| self.run_only(goal, budget, &mut full)).await?;
            if !is_full(&outcome) || !Full::room(&full, &mut room_until).await? {
                break (outcome, rests_on);
            }
        };
        self.store.durable(self.durability_of(goal), rests_on).await?;
        outcome.answer(unanswered);
        for attempt in outcome.attempts() {
            attempt.keep_begun_async().await;
        }
        Ok(outcome)
    }
}

fn is_full(outcome: &CommitOutcome) -> bool {
    matches!(outcome, CommitOutcome::Rejected(reasons) if are_full(reasons))
}
