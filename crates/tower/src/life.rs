//! The life of a request that has a key. It is led in a task of its own, from the question whether there is work to the
//! record of what came of it: a client that goes away changes nothing. Read [`Keyed::live`] from top to bottom.
//!
//! What must hold at each step, whoever is killed after it:
//!
//! | step | after a kill here, a request with the same key |
//! |---|---|
//! | 1 begin | runs again, or finds the key held, as the ledger's policy for the end of a lease says |
//! | 2 work | the same, and the effect may have happened |
//! | 3 record | is told the answer |
//! | 4 answer | is told the answer |

use crate::attempt::KeyedAttempt;
use crate::body::Body;
use crate::counters::count;
use crate::keyed::Keyed;
use crate::outcome::{Answer, Cut, Outcome, Verdict, outcome};
use crate::policy::Unrecorded;
use crate::problem::Refusal;
use crate::reply::Reply;
use crate::stored::{self, Stored};
use bytes::Bytes;
use firstseen_shared::{Attempt, DedupStore, Lost, MoveError, Record, Renewals};
use futures_util::FutureExt;
use http::Response;
use std::error::Error as StdError;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// The pauses between two tries to record an outcome: the first, doubled up to the longest.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What has become of telling the ledger.
enum Told {
    Yes,
    /// Somebody else has the record, which may be known.
    TakenOver(Option<Box<Record>>),
    No(MoveError),
}

impl<S: DedupStore> Keyed<S> {
    /// Leads a request from the store and back to it.
    pub(crate) async fn live<R, E, W>(
        self,
        work: impl FnOnce(KeyedAttempt) -> W,
        reply: Reply<S, R, E>,
    ) where
        W: Future<Output = Result<Response<R>, E>>,
        R: http_body::Body<Data = Bytes>,
        R::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        // 1. Is there work? Counted in the store before the handler runs.
        let Some((attempt, reply)) = self.begin(reply).await else { return };
        // 2. The work, as long as nobody else can have the key.
        let renewals = attempt.keep_renewed();
        let known = KeyedAttempt::new(self.id.clone(), attempt.number(), attempt.token());
        let done = tokio::select! {
            biased;
            done = self.work(async { work(known).await }) => Ok(done),
            lost = renewals.lost() => Err(lost),
        };
        match done {
            // 3 and 4. First recorded, then told.
            Ok(outcome) => self.record(&attempt, &renewals, outcome, reply).await,
            Err(lost) => {
                tracing::warn!(id = %self.name(), ?lost, "a handler was stopped: its lease is lost");
                let refusal = match lost {
                    Lost::TakenOver => Refusal::TakenOver,
                    _ => Refusal::LeaseEnded,
                };
                count(&self.state.counters.lost);
                reply.refuse(refusal);
            }
        }
    }

    /// Step 2: runs the handler until all of an answer that is to be kept is there.
    async fn work<R, E>(&self, work: impl Future<Output = Result<Response<R>, E>>) -> Outcome<R, E>
    where
        R: http_body::Body<Data = Bytes>,
        R::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let policy = self.policy();
        let all = async {
            let returned = work.await;
            outcome(returned, policy, self.state.ledger.result_bytes_max()).await
        };
        match timeout(policy.work_max, AssertUnwindSafe(all).catch_unwind()).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panic)) => Outcome::panicked(&*panic, policy),
            Err(_) => Outcome::failed(Cut::TooLong(policy.work_max), Refusal::TooLong, policy),
        }
    }

    /// Steps 3 and 4: tells the ledger, and then the client. If the first takes too long the client is told so, and the
    /// ledger is told all the same.
    async fn record<R, E>(
        &self,
        attempt: &Attempt<S>,
        renewals: &Renewals,
        outcome: Outcome<R, E>,
        reply: Reply<S, R, E>,
    ) {
        let Outcome { verdict, answer } = outcome;
        let mut telling = std::pin::pin!(self.tell(attempt, renewals, &verdict));
        let told = timeout(self.policy().record_max, &mut telling).await;
        match told {
            Ok(told) => {
                let answer = self.answer_once_told(&verdict, told, answer);
                reply.send(answer);
            }
            Err(_) => {
                let answer = self.answer_unrecorded(&verdict, answer);
                reply.send(answer);
                if let Told::No(error) = telling.await {
                    tracing::error!(id = %self.name(), ?verdict, %error, "an outcome was not recorded");
                }
            }
        }
    }

    /// Tells the ledger until it has heard, or the lease is lost and it could not be told once more.
    async fn tell(&self, attempt: &Attempt<S>, renewals: &Renewals, verdict: &Verdict) -> Told {
        let mut pause = PAUSE;
        let mut is_lost = false;
        loop {
            match verdict.tell(attempt).await {
                Ok(()) => return Told::Yes,
                Err(MoveError::Fenced(record)) => return Told::TakenOver(record),
                Err(MoveError::Over(record)) => return Told::TakenOver(Some(record)),
                Err(error) if is_lost => return Told::No(error),
                Err(error) => {
                    tracing::warn!(%error, "an outcome was not recorded; once more in {pause:?}");
                }
            }
            tokio::select! {
                _ = renewals.lost() => is_lost = true,
                () = sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
            }
        }
    }

    fn answer_once_told<R, E>(
        &self,
        verdict: &Verdict,
        told: Told,
        answer: Answer<R, E>,
    ) -> Answer<R, E> {
        let counters = &self.state.counters;
        match (verdict, told) {
            (_, Told::No(error)) => {
                tracing::error!(id = %self.name(), ?verdict, %error, "an outcome was not recorded");
                self.answer_unrecorded(verdict, answer)
            }
            (Verdict::Keep { .. }, Told::TakenOver(record)) => {
                tracing::warn!(id = %self.name(), "a key was taken over before its answer was recorded");
                count(&counters.lost);
                Ok(self.answer_of_other(record))
            }
            // Nothing of success was said: there is nothing to take back.
            (_, Told::TakenOver(_)) => {
                count(&counters.lost);
                answer
            }
            (Verdict::Keep { is_whole, .. }, Told::Yes) => {
                count(&counters.first);
                if !is_whole {
                    count(&counters.unkept);
                }
                answer
            }
            (Verdict::Release { is_by_fate, .. }, Told::Yes) => {
                count(&counters.released);
                if !is_by_fate {
                    count(&counters.unkept);
                }
                answer
            }
            (Verdict::Failed(cut), Told::Yes) => {
                tracing::warn!(id = %self.name(), %cut, "a request has failed");
                count(&counters.failed);
                answer
            }
            (Verdict::Held(status), Told::Yes) => {
                tracing::warn!(id = %self.name(), %status, "a request is held for an operator");
                count(&counters.failed);
                answer
            }
        }
    }

    /// What the client hears if the ledger could not be told. Only a success has to be recorded before it is heard.
    fn answer_unrecorded<R, E>(&self, verdict: &Verdict, answer: Answer<R, E>) -> Answer<R, E> {
        count(&self.state.counters.unrecorded);
        let policy = self.policy();
        match verdict {
            Verdict::Keep { .. } if policy.unrecorded == Unrecorded::Refuse => {
                Ok(Refusal::Unrecorded.answer(policy))
            }
            _ => answer,
        }
    }

    /// What the client hears if somebody else has the key: what came of that, if it is known and of the same request.
    fn answer_of_other<R>(&self, record: Option<Box<Record>>) -> Response<Body<R>> {
        let same = record.filter(|record| record.fingerprint == Some(self.fingerprint));
        let stored = same.as_deref().and_then(Record::result).map(stored::decode);
        match stored {
            Some(Ok(Stored::Response(response))) => self.policy().replay(response),
            _ => Refusal::TakenOver.answer(self.policy()),
        }
    }
}
