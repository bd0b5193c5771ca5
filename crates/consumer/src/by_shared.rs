//! Work that a ledger on a shared store guards: the same as with a ledger of this process, for consumers on many machines.

use crate::claims::{Begun, Claim};
use crate::options::ConsumerOptions;
use crate::outcome::{Error, Outcome, Why};
use bytes::Bytes;
use firstseen::ledger::{Failure, Fingerprint};
use firstseen_shared::{
    Attempt, AttemptEnd, Begin, DedupStore, ErrorKind, Lost, MoveError, Record, Renewals,
    SharedLedger, State,
};
use futures_util::future::BoxFuture;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

/// A ledger on any store, so that a consumer need not name its type.
pub(crate) trait Guarding: Debug + Send + Sync {
    /// Asks whether the work of an id is to be done.
    fn begin<'a>(
        &'a self,
        id: &'a Bytes,
        fingerprint: Option<Fingerprint>,
        options: &'a ConsumerOptions,
    ) -> BoxFuture<'a, Result<Begun, Error>>;

    /// Returns whether the last attempt of an id has ended with its lease, as that of a process that died does.
    fn is_suspect<'a>(&'a self, id: &'a Bytes) -> BoxFuture<'a, bool>;

    /// Waits until nobody works on an id any more, or the delay has passed.
    fn wait<'a>(&'a self, id: &'a Bytes, delay: Duration) -> BoxFuture<'a, ()>;

    fn id_bytes_max(&self) -> usize;
}

/// An attempt on any store.
pub(crate) trait Attempted: Send + Sync {
    fn token(&self) -> u64;

    fn number(&self) -> u32;

    /// Waits until somebody else may have the id.
    fn lost(&self) -> BoxFuture<'_, ()>;

    fn complete<'a>(
        self: Box<Self>,
        answer: &'a [u8],
        options: &'a ConsumerOptions,
    ) -> BoxFuture<'a, Result<Outcome, Error>>
    where
        Self: 'a;

    fn fail<'a>(
        self: Box<Self>,
        failure: Failure,
        options: &'a ConsumerOptions,
    ) -> BoxFuture<'a, Result<Outcome, Error>>
    where
        Self: 'a;

    fn release(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// An attempt whose lease is renewed.
struct Renewed<S: DedupStore> {
    attempt: Attempt<S>,
    renewals: Renewals,
}

pub(crate) fn guarding<S: DedupStore>(ledger: SharedLedger<S>) -> Arc<dyn Guarding> {
    Arc::new(ledger)
}

impl<S: DedupStore> Guarding for SharedLedger<S> {
    fn begin<'a>(
        &'a self,
        id: &'a Bytes,
        fingerprint: Option<Fingerprint>,
        options: &'a ConsumerOptions,
    ) -> BoxFuture<'a, Result<Begun, Error>> {
        Box::pin(async move {
            let later = |delay, why| Ok(Begun::Not(Outcome::Later(delay, why)));
            let begun = match SharedLedger::begin(self, id, fingerprint).await {
                Ok(begun) => begun,
                // The work has not begun, so the broker keeps the message until the store is back.
                Err(error) if error.kind() == ErrorKind::Unavailable => {
                    tracing::warn!(%error, "the shared store does not answer; a message waits");
                    return later(options.busy_delay, Why::Early);
                }
                Err(error) => return Err(error.into()),
            };
            match begun {
                Begin::Started(attempt) => {
                    let renewals = attempt.keep_renewed();
                    Ok(Begun::Ours(Claim::Shared(Box::new(Renewed { attempt, renewals }))))
                }
                Begin::InProgress(_) => later(options.busy_delay, Why::Busy),
                Begin::Mismatch(record) => Ok(Begun::Not(Outcome::Dead(format!(
                    "its id was used with another payload at {}",
                    record.first_begun.as_millis()
                )))),
                Begin::Completed(record)
                | Begin::RetryAt(record)
                | Begin::Held(record)
                | Begin::Dead(record) => Ok(Begun::Not(outcome_of(&record, options, Why::Early))),
            }
        })
    }

    fn is_suspect<'a>(&'a self, id: &'a Bytes) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            // What goes wrong here, `begin` meets, too.
            let Ok(Some(record)) = SharedLedger::get(self, id).await else { return false };
            match record.state {
                State::Running { .. } => record.time_left().is_zero(),
                // Handed back at a stop, it has not shown yet what it does.
                State::Waiting { .. } => {
                    let mut ends = record.history.iter().rev().map(|past| past.end);
                    ends.find(|end| *end != AttemptEnd::Released) == Some(AttemptEnd::LeaseEnded)
                }
                _ => false,
            }
        })
    }

    fn wait<'a>(&'a self, id: &'a Bytes, delay: Duration) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            // What it returns is asked for again by `begin`.
            if SharedLedger::wait(self, id, delay).await.is_err() {
                tokio::time::sleep(delay).await;
            }
        })
    }

    fn id_bytes_max(&self) -> usize {
        SharedLedger::id_bytes_max(self)
    }
}

/// Returns what the record of an id means for its message.
fn outcome_of(record: &Record, options: &ConsumerOptions, why: Why) -> Outcome {
    match &record.state {
        // Also of a failure that is itself the answer: it is never tried again.
        State::Completed { .. } => Outcome::Duplicate,
        State::Dead { cause } => {
            let last = record.history.last().map_or("no reason", |past| past.reason.as_str());
            let attempts = record.attempts;
            Outcome::Dead(format!("given up ({cause:?}) after {attempts} attempts: {last}"))
        }
        State::Waiting { .. } => Outcome::Later(record.time_left(), why),
        State::Held => Outcome::Later(options.held_delay, why),
        State::Running { .. } => Outcome::Later(options.busy_delay, why),
    }
}

/// Returns what this attempt has made of its message.
fn outcome_of_own(record: &Record, options: &ConsumerOptions) -> Outcome {
    match outcome_of(record, options, Why::Failed) {
        // Its answer, or a refusal that is the answer, given now.
        Outcome::Duplicate => Outcome::First,
        other => other,
    }
}

impl<S: DedupStore> Attempted for Renewed<S> {
    fn token(&self) -> u64 {
        self.attempt.token()
    }

    fn number(&self) -> u32 {
        self.attempt.number()
    }

    fn lost(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let lost = self.renewals.lost().await;
            let why = match lost {
                Lost::TakenOver => "somebody else has its id",
                _ => "its lease has ended, and the store could not be asked",
            };
            tracing::warn!(why, "the work of a message was stopped");
        })
    }

    fn complete<'a>(
        self: Box<Self>,
        answer: &'a [u8],
        options: &'a ConsumerOptions,
    ) -> BoxFuture<'a, Result<Outcome, Error>>
    where
        Self: 'a,
    {
        Box::pin(async move {
            let mut is_lost = false;
            loop {
                let error = match self.attempt.complete(answer).await {
                    Ok(()) => return Ok(Outcome::First),
                    Err(error) => error,
                };
                match error {
                    // The effect has happened, and nobody else makes it while the lease lasts.
                    MoveError::Store(error) if error.kind() == ErrorKind::Unavailable => {
                        if is_lost {
                            return Ok(Outcome::Later(options.busy_delay, Why::Fenced));
                        }
                        tracing::warn!(%error, "the shared store did not take what was done");
                        let pause = tokio::time::sleep(options.busy_delay);
                        tokio::select! {
                            _ = self.renewals.lost() => is_lost = true,
                            () = pause => {}
                        }
                    }
                    // Not done again: the effect has happened.
                    MoveError::Store(error) if error.kind() == ErrorKind::Invalid => {
                        let why =
                            format!("the work was done, but its answer is not stored: {error}");
                        return self.end_as_dead(why, options).await;
                    }
                    error => return ended_otherwise(error, options),
                }
            }
        })
    }

    fn fail<'a>(
        self: Box<Self>,
        failure: Failure,
        options: &'a ConsumerOptions,
    ) -> BoxFuture<'a, Result<Outcome, Error>>
    where
        Self: 'a,
    {
        Box::pin(async move {
            let has_answer = failure.result().is_some();
            match self.attempt.fail(failure).await {
                Ok(()) => {
                    let record = self.attempt.ledger().get(self.attempt.id()).await;
                    match record {
                        Ok(Some(record)) => Ok(outcome_of_own(&record, options)),
                        Ok(None) => Ok(Outcome::Later(Duration::ZERO, Why::Failed)),
                        Err(error) if error.kind() == ErrorKind::Unavailable => {
                            Ok(Outcome::Later(options.busy_delay, Why::Failed))
                        }
                        Err(error) => Err(error.into()),
                    }
                }
                // The attempt ends with its lease, and is counted.
                Err(MoveError::Store(error)) if error.kind() == ErrorKind::Unavailable => {
                    Ok(Outcome::Later(options.busy_delay, Why::Failed))
                }
                // An answer that is too long to be stored is not asked for again.
                Err(MoveError::Store(error))
                    if has_answer && error.kind() == ErrorKind::Invalid =>
                {
                    self.end_as_dead(format!("its answer is not stored: {error}"), options).await
                }
                Err(error) => ended_otherwise(error, options),
            }
        })
    }

    fn release(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if let Err(error) = self.attempt.release().await {
                tracing::warn!(%error, "an attempt was not handed back; its lease ends it");
            }
        })
    }
}

impl<S: DedupStore> Renewed<S> {
    async fn end_as_dead(&self, why: String, options: &ConsumerOptions) -> Result<Outcome, Error> {
        match self.attempt.fail(Failure::last(&why)).await {
            Ok(()) => Ok(Outcome::Dead(why)),
            Err(error) => ended_otherwise(error, options),
        }
    }
}

/// Returns what becomes of the message if the attempt could not say how it went.
fn ended_otherwise(error: MoveError, options: &ConsumerOptions) -> Result<Outcome, Error> {
    match error {
        // It was said by a call whose answer was lost, or by the handler.
        MoveError::Over(record) => Ok(outcome_of_own(&record, options)),
        MoveError::Fenced(_) | MoveError::LeaseEnded => {
            Ok(Outcome::Later(options.busy_delay, Why::Fenced))
        }
        MoveError::Store(error) if error.kind() == ErrorKind::Unavailable => {
            Ok(Outcome::Later(options.busy_delay, Why::Failed))
        }
        MoveError::Store(error) => Err(error.into()),
        other => {
            let what = "end an attempt";
            Err(firstseen_shared::Error::new(ErrorKind::Environment, what, other).into())
        }
    }
}
