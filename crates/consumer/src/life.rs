//! The whole life of a delivery, from the broker and back to it. Read [`Life::live`] from top to bottom.
//!
//! What must hold at each step, whoever is killed after it:
//!
//! | step | after a kill here the broker delivers again, and |
//! |---|---|
//! | 1 id | nothing has happened |
//! | 2 turn | nothing has happened |
//! | 3 begin | the ledger has counted an attempt, whose lease ended with the process; a shared one's ends at its time |
//! | 4 work | the effect may have happened: it is made again, or held for an operator, as the ledger's policy says |
//! | 5 complete | it is a duplicate |
//! | 6 sync | it is a duplicate, also after a power cut |
//! | 7 acknowledge | nothing: the broker has forgotten it |

use crate::claims::{Begun, Claim, Guard};
use crate::counters::{Gauge, Live, count};
use crate::handler::{Handler, Job};
use crate::options::ConsumerOptions;
use crate::outcome::{Cut, Error, Outcome, Why, said};
use crate::phase::{Phase, Phases};
use crate::source::{Delivery, Source};
use crate::turns::Turn;
use bytes::Bytes;
use firstseen::ledger::Failure;
use futures_util::FutureExt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;
use tokio::sync::Semaphore;

/// What all deliveries of a loop share.
pub(crate) struct Life<S, H> {
    pub(crate) source: S,
    pub(crate) guard: Guard,
    pub(crate) handler: H,
    pub(crate) options: ConsumerOptions,
    pub(crate) workers: Semaphore,
    pub(crate) counters: std::sync::Arc<Live>,
    pub(crate) phases: Phases,
}

impl<S: Source, H: Handler> Life<S, H> {
    /// Leads a delivery from the broker to its acknowledgement. An error is one after which no delivery can go on; this one
    /// is not acknowledged then, and comes again.
    pub(crate) async fn live(
        &self,
        delivery: Delivery<S::Token>,
        mut turn: Turn,
    ) -> Result<(), Error> {
        // 1. Its id. Without one there is nothing to know it by at its next delivery.
        let outcome = match self.id_of(&delivery) {
            Err(reason) => Outcome::Dead(reason),
            // 2 to 5. The broker is told meanwhile that somebody is on it.
            Ok(id) => self.while_telling(&delivery, self.decide(&id, &delivery, &mut turn)).await?,
        };
        // In order: those after it may begin, since what they follow is in the ledger. If this one comes again, they do.
        if !matches!(outcome, Outcome::Later(..)) {
            turn.pass_on();
        }
        self.tally(&outcome);
        // 6. On disk, with all that were done meanwhile. A duplicate, too: what it is a duplicate of may be a moment old.
        if self.options.syncs && !matches!(outcome, Outcome::Later(..)) {
            self.guard.sync().await?;
        }
        // 7. The broker forgets it, or brings it again. If it does not hear this, it brings a duplicate.
        match outcome {
            Outcome::First | Outcome::Duplicate => {
                self.tell(self.source.acknowledge(&delivery.token)).await;
            }
            Outcome::Dead(reason) => {
                tracing::warn!(%reason, "a message is a dead letter");
                let Delivery { message, token } = &delivery;
                if !self.tell(self.source.dead_letter(message, token, &reason)).await {
                    tracing::warn!(
                        "the broker has not taken a dead letter, so that it comes again"
                    );
                }
            }
            Outcome::Later(delay, _) => {
                self.tell(self.source.retry_in(&delivery.token, delay)).await;
            }
        }
        Ok(())
    }

    /// Steps 2 to 5, until it is done, dead, or to be delivered again.
    async fn decide(
        &self,
        id: &Bytes,
        delivery: &Delivery<S::Token>,
        turn: &mut Turn,
    ) -> Result<Outcome, Error> {
        // 2. Its turn: after those of its key, where that was asked for...
        let comes = async {
            let _waiting = Gauge::one(&self.counters.waiting);
            turn.comes().await
        };
        if !self.unless_stopping(comes).await.unwrap_or(false) {
            return Ok(Outcome::Later(Duration::ZERO, Why::Stopping));
        }
        loop {
            // ...and when a worker is free. What may have killed its process has all workers for itself: if it does so
            // again, nobody else is charged. They are given in the order in which they were asked for, so it does come to that.
            let is_alone = self.guard.is_suspect(id, &delivery.message).await;
            let workers = if is_alone { self.options.workers } else { 1 };
            let worker = self.workers.acquire_many(workers);
            let Some(Ok(worker)) = self.unless_stopping(worker).await else {
                return Ok(Outcome::Later(Duration::ZERO, Why::Stopping));
            };
            // 3. Is there work to do?
            let outcome = match self.guard.begin(id, &delivery.message, &self.options).await? {
                Begun::Not(outcome) => outcome,
                // 4 and 5.
                Begun::Ours(claim) => {
                    if is_alone {
                        count(&self.counters.alone);
                    }
                    self.work(id, delivery, claim).await?
                }
            };
            drop(worker);
            match outcome {
                // In order, it waits where it is: those after it wait for it.
                Outcome::Later(delay, why) if self.options.is_ordered && why != Why::Stopping => {
                    if why == Why::Failed {
                        count(&self.counters.retried);
                    }
                    let again = async {
                        let _waiting = Gauge::one(&self.counters.waiting);
                        match why {
                            Why::Busy => self.guard.wait(id, delay).await,
                            _ => tokio::time::sleep(delay).await,
                        }
                    };
                    if self.unless_stopping(again).await.is_none() {
                        return Ok(Outcome::Later(delay, Why::Stopping));
                    }
                }
                outcome => return Ok(outcome),
            }
        }
    }

    /// Steps 4 and 5: the work, and what the ledger is told of it.
    async fn work(
        &self,
        id: &Bytes,
        delivery: &Delivery<S::Token>,
        claim: Claim,
    ) -> Result<Outcome, Error> {
        if self.phases.is(Phase::Finish) {
            claim.release().await;
            return Ok(Outcome::Later(Duration::ZERO, Why::Stopping));
        }
        // 4. The work. Its lease is renewed until the claim says how it went.
        let job = Job {
            id: id.clone(),
            message: delivery.message.clone(),
            attempt: claim.attempt(),
            token_and_number: claim.token_and_number(),
        };
        let done = {
            let _working = Gauge::one(&self.counters.working);
            let work = AssertUnwindSafe(async { self.handler.handle(job).await }).catch_unwind();
            tokio::select! {
                biased;
                done = work => done.unwrap_or_else(|panic| {
                    Err(Failure::from(Cut::Panicked(said(&*panic))))
                }),
                () = tokio::time::sleep(self.options.work_max) => {
                    Err(Failure::from(Cut::TooLong(self.options.work_max)))
                }
                () = self.phases.reached(Phase::Abandon) => Err(Failure::from(Cut::Stopped)),
                // It has nothing to say any more.
                () = claim.lost() => {
                    return Ok(Outcome::Later(self.options.busy_delay, Why::Fenced));
                }
            }
        };
        // 5. What came of it is in the ledger before anybody hears of it.
        match done {
            Ok(answer) => claim.complete(&answer.0, &self.options).await,
            Err(failure) => claim.fail(failure, &self.options).await,
        }
    }

    fn id_of(&self, delivery: &Delivery<S::Token>) -> Result<Bytes, String> {
        // A message that makes the function of the user panic must not stop the queue.
        let read = AssertUnwindSafe(|| self.options.ids.get(&delivery.message));
        let id = match std::panic::catch_unwind(read) {
            Ok(Some(id)) => Ok(id),
            Ok(None) => {
                Err("it has no id: have its producer give it one, or choose where ids come from"
                    .to_owned())
            }
            Err(panic) => Err(format!("the id function panicked: {}", said(&*panic))),
        };
        let id = id.and_then(|id| self.guard.refuses(&id).map_or(Ok(id), Err));
        id.inspect_err(|_| count(&self.counters.without_id))
    }

    /// Counts what has become of a delivery.
    fn tally(&self, outcome: &Outcome) {
        let counters = &self.counters;
        match outcome {
            Outcome::First => count(&counters.first),
            Outcome::Duplicate => count(&counters.duplicates),
            Outcome::Dead(_) => count(&counters.dead),
            Outcome::Later(_, Why::Failed) => count(&counters.retried),
            Outcome::Later(_, Why::Busy | Why::Early) => count(&counters.put_off),
            Outcome::Later(_, Why::Fenced) => {
                count(&counters.put_off);
                count(&counters.fenced);
            }
            Outcome::Later(_, Why::Stopping) => count(&counters.handed_back),
        }
    }

    /// Tells the broker what has become of a delivery. Returns whether it has confirmed that; if not, it delivers again.
    async fn tell(&self, answer: impl Future<Output = Result<(), S::Error>>) -> bool {
        let heard = tokio::time::timeout(self.options.answer_max, answer).await;
        let why = match heard {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {:?}", self.options.answer_max),
        };
        count(&self.counters.acks_lost);
        tracing::debug!(%why, "the broker has not confirmed an answer");
        false
    }

    /// Tells the broker again and again that a delivery is worked on, as long as that takes.
    async fn while_telling<T>(
        &self,
        delivery: &Delivery<S::Token>,
        work: impl Future<Output = T>,
    ) -> T {
        let Some(patience) = self.source.patience() else { return work.await };
        let telling = async {
            loop {
                tokio::time::sleep(patience / 3).await;
                let told = self.source.working(&delivery.token);
                if let Ok(Err(error)) = tokio::time::timeout(self.options.answer_max, told).await {
                    tracing::debug!(%error, "the broker was not told that work goes on");
                }
            }
        };
        tokio::select! {
            biased;
            done = work => done,
            never = telling => never,
        }
    }

    /// Waits for something, unless the loop stops first.
    async fn unless_stopping<T>(&self, wait: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.phases.reached(Phase::Finish) => None,
            done = wait => Some(done),
        }
    }
}
