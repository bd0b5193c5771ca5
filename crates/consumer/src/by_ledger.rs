//! Work that a ledger guards: what each of its answers means for the message.

use crate::claims::{AGAIN_MS, Begun, Claim, may_pass, pause_or};
use crate::options::ConsumerOptions;
use crate::outcome::{Error, Outcome, Why};
use crate::source::Message;
use bytes::Bytes;
use firstseen::ledger::{
    Attempt, AttemptEnd, AttemptError, Begin, BeginOptions, Failure, Fingerprint, Ledger, Record,
    Renewals, State,
};
use firstseen::limits;
use futures_util::FutureExt;
use std::sync::Arc;
use std::time::Duration;

/// An attempt whose lease is renewed.
pub(crate) struct ByLedger {
    ledger: Ledger,
    attempt: Arc<Attempt>,
    _renewals: Renewals,
}

/// Asks the ledger. It counts the attempt before it answers, so a message that kills its process ends, too.
pub(crate) async fn begin(
    ledger: &Ledger,
    id: &Bytes,
    message: &Message,
    options: &ConsumerOptions,
) -> firstseen::Result<Begun> {
    let mut begin = BeginOptions::new().worker(options.worker.as_str());
    if options.keeps_payload && message.payload.len() <= limits::LEDGER_VALUE_BYTES_MAX {
        begin = begin.payload(&message.payload[..]);
    }
    if options.checks_payload {
        begin = begin.fingerprint(Fingerprint::of_bytes(&message.payload));
    }
    let later = |delay, why| Ok(Begun::Not(Outcome::Later(delay, why)));
    match ledger.begin_async(id, begin).await? {
        Begin::Started(attempt) => {
            // Fails before the work begins, never in the middle of it.
            let renewals = attempt.keep_renewed()?;
            let attempt = Arc::new(attempt);
            Ok(Begun::Ours(Claim::Attempt(ByLedger {
                ledger: ledger.clone(),
                attempt,
                _renewals: renewals,
            })))
        }
        Begin::InProgress(_) => later(options.busy_delay, Why::Busy),
        Begin::Mismatch(record) => Ok(Begun::Not(Outcome::Dead(format!(
            "its id was used with another payload at {}",
            record.first_begun.as_millis()
        )))),
        // A newer version of the program is to take it.
        Begin::Outdated(_) => later(options.held_delay, Why::Early),
        // These, and what a later version may add, are told by the state.
        begun => Ok(Begun::Not(outcome_of(ledger, begun.record(), options, Why::Early))),
    }
}

/// Returns whether the last attempt of an id has ended with its process.
pub(crate) fn is_suspect(ledger: &Ledger, id: &Bytes) -> bool {
    // Over at once unless somebody works on it. What goes wrong here, `begin` meets, too.
    let idle = ledger.wait_async(id).ok().and_then(FutureExt::now_or_never);
    let Some(Ok(Some(record))) = idle else { return false };
    match record.state {
        State::Running { .. } => true,
        // Handed back at a stop, it has not shown yet what it does.
        State::Waiting { .. } => {
            let mut ends = record.history.iter().rev().map(|past| past.end);
            ends.find(|end| *end != AttemptEnd::Released) == Some(AttemptEnd::ProcessEnded)
        }
        _ => false,
    }
}

/// Returns what the record of an id means for its message.
fn outcome_of(
    ledger: &Ledger,
    record: Option<&Record>,
    options: &ConsumerOptions,
    why: Why,
) -> Outcome {
    let Some(record) = record else { return Outcome::Later(Duration::ZERO, why) };
    match &record.state {
        // Also of a failure that is itself the answer: it is never tried again.
        State::Completed { .. } => Outcome::Duplicate,
        State::Dead { .. } => {
            let last = record.history.last().map_or("no reason", |past| past.reason.as_str());
            Outcome::Dead(format!("{} after {} attempts: {last}", record.state, record.attempts))
        }
        State::Waiting { until } => Outcome::Later(ledger.time_until(*until), why),
        State::Held => Outcome::Later(options.held_delay, why),
        _ => Outcome::Later(options.busy_delay, why),
    }
}

impl ByLedger {
    pub(crate) fn attempt(&self) -> Arc<Attempt> {
        Arc::clone(&self.attempt)
    }

    pub(crate) async fn complete(
        self,
        answer: &[u8],
        options: &ConsumerOptions,
    ) -> Result<Outcome, Error> {
        let mut pauses = AGAIN_MS.into_iter();
        loop {
            let error = match self.attempt.complete_async(answer).await {
                Ok(()) => return Ok(Outcome::First),
                Err(error) => error,
            };
            match error {
                // The effect has happened, so this must be kept, and not given up at the first error.
                AttemptError::Store(error) if may_pass(&error) => {
                    pause_or(&mut pauses, error).await?;
                }
                // Not done again: the effect has happened.
                AttemptError::TooLarge { bytes, bytes_max, .. } => {
                    let why = format!(
                        "the work was done, but its answer has {bytes} bytes; at most {bytes_max} are stored"
                    );
                    return self.fail(Failure::last(why), options).await;
                }
                error => return self.ended_otherwise(error, options),
            }
        }
    }

    pub(crate) async fn fail(
        self,
        failure: Failure,
        options: &ConsumerOptions,
    ) -> Result<Outcome, Error> {
        match self.attempt.fail_async(failure).await {
            Ok(()) => {
                let record = self.ledger.get(self.attempt.id())?;
                let outcome = outcome_of(&self.ledger, record.as_ref(), options, Why::Failed);
                Ok(match outcome {
                    // A refusal that is the answer, given now.
                    Outcome::Duplicate => Outcome::First,
                    other => other,
                })
            }
            // An answer that is too long to be stored is not asked for again.
            Err(AttemptError::TooLarge { bytes, bytes_max, .. }) => {
                let why = format!("its answer has {bytes} bytes; at most {bytes_max} are stored");
                self.attempt.fail_async(Failure::last(&why)).await.map_err(Error::Attempt)?;
                Ok(Outcome::Dead(why))
            }
            // The attempt ends with its lease, and is counted.
            Err(AttemptError::Store(error)) if may_pass(&error) => {
                Ok(Outcome::Later(options.busy_delay, Why::Failed))
            }
            Err(error) => self.ended_otherwise(error, options),
        }
    }

    /// Returns what becomes of the message if the attempt could not say how it went.
    fn ended_otherwise(
        &self,
        error: AttemptError,
        options: &ConsumerOptions,
    ) -> Result<Outcome, Error> {
        match error {
            // The handler has said it itself, as in a transaction of the store.
            AttemptError::Over { record } => {
                Ok(match outcome_of(&self.ledger, Some(&record), options, Why::Failed) {
                    Outcome::Duplicate => Outcome::First,
                    other => other,
                })
            }
            AttemptError::Fenced { .. } | AttemptError::LeaseEnded => {
                Ok(Outcome::Later(options.busy_delay, Why::Fenced))
            }
            AttemptError::Store(error) => Err(error.into()),
            other => Err(Error::Attempt(other)),
        }
    }

    pub(crate) async fn release(self) {
        if let Err(error) = self.attempt.release_async().await {
            tracing::warn!(%error, "an attempt was not handed back; its lease ends it");
        }
    }
}
