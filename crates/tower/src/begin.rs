//! The first step of a request with a key: is there work to do? If not, the client is answered here.

use crate::counters::count;
use crate::keyed::Keyed;
use crate::outcome::release;
use crate::policy::WhileRunning;
use crate::problem::Refusal;
use crate::reply::Reply;
use crate::state::State;
use crate::stored::{self, Stored};
use firstseen_shared::{Attempt, Begin, DedupStore, Error, ErrorKind, Record};
use http::StatusCode;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// After what time a key is asked for again that was just released.
const RELEASED: Duration = Duration::from_millis(2);
/// The longest wait.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Why an attempt cannot start yet.
#[derive(Clone, Copy)]
enum NotYet {
    Running,
    NotDue(Duration),
    /// The record is about to end.
    Released,
}

impl<S: DedupStore> Keyed<S> {
    /// Starts an attempt. `None` if there is nothing to do, or not now: the client has its answer then.
    pub(crate) async fn begin<R, E>(
        &self,
        mut reply: Reply<S, R, E>,
    ) -> Option<(Attempt<S>, Reply<S, R, E>)> {
        let counters = &self.state.counters;
        let asked = Instant::now();
        loop {
            let (begun, still) = self.ask(reply).await?;
            reply = still;
            let not_yet = match begun {
                Begin::Started(attempt) => return Some((attempt, reply)),
                Begin::InProgress(_) => NotYet::Running,
                Begin::RetryAt(record) => NotYet::NotDue(record.time_left()),
                Begin::Completed(record) => match self.read(&record) {
                    Some(Stored::Released) => NotYet::Released,
                    Some(Stored::Response(response)) => {
                        count(&counters.replayed);
                        reply.send(Ok(self.policy().replay(response)));
                        return None;
                    }
                    Some(Stored::Unkept(status, why)) => {
                        let refusal = Refusal::AnswerNotKept(status, why);
                        return refuse(reply, &counters.refused, refusal);
                    }
                    None => return refuse(reply, &counters.unavailable, Refusal::StoreFault),
                },
                Begin::Held(_) => return refuse(reply, &counters.refused, Refusal::Held),
                Begin::Dead(_) => return refuse(reply, &counters.refused, Refusal::Dead),
                Begin::Mismatch(record) => match self.is_passing(&record).await {
                    Ok(true) => NotYet::Released,
                    Ok(false) => return refuse(reply, &counters.mismatches, Refusal::Mismatch),
                    Err(refusal) => return refuse(reply, &counters.unavailable, refusal),
                },
            };
            reply = self.wait(not_yet, asked, reply).await?;
        }
    }

    /// Asks the store. `None` if it could not be asked in time: the client has its answer then.
    async fn ask<R, E>(&self, reply: Reply<S, R, E>) -> Option<(Begin<S>, Reply<S, R, E>)> {
        let State { ledger, counters, .. } = &*self.state;
        let mut begin = std::pin::pin!(ledger.begin(&self.id, Some(self.fingerprint)));
        match timeout(self.policy().begin_max, &mut begin).await {
            Ok(Ok(begun)) => Some((begun, reply)),
            Ok(Err(error)) => {
                tracing::warn!(id = %self.name(), %error, "a key could not be checked");
                refuse(reply, &counters.unavailable, refusal_of(&error))
            }
            Err(_) => {
                tracing::warn!(id = %self.name(), "a key was not checked in time");
                let refused = refuse(reply, &counters.unavailable, Refusal::Unavailable);
                // What begins after all, begins for nobody.
                if let Ok(Begin::Started(attempt)) = begin.await
                    && let Err(error) = release(&attempt, StatusCode::SERVICE_UNAVAILABLE).await
                {
                    tracing::warn!(id = %self.name(), %error, "a key stays in use until its lease ends");
                }
                refused
            }
        }
    }

    /// Returns whether the record of another request is about to end, or has ended since. Its handler has said then that
    /// nothing is to be kept, so that it is no reason to refuse this one. A record that does not match is shown without the
    /// result by which this can be seen, and is read for it.
    async fn is_passing(&self, seen: &Record) -> Result<bool, Refusal> {
        if !matches!(seen.state, firstseen_shared::State::Completed { .. }) {
            return Ok(false);
        }
        let read = timeout(self.policy().begin_max, self.state.ledger.get(&self.id)).await;
        let Ok(read) = read else {
            tracing::warn!(id = %self.name(), "a key was not checked in time");
            return Err(Refusal::Unavailable);
        };
        let now = read.map_err(|error| {
            tracing::warn!(id = %self.name(), %error, "a key could not be checked");
            refusal_of(&error)
        })?;
        let Some(now) = now.filter(|now| now.token == seen.token) else { return Ok(true) };
        Ok(matches!(now.result().map(stored::decode), Some(Ok(Stored::Released))))
    }

    /// Waits until it may be asked again. `None` if that takes too long, or the client has gone.
    async fn wait<R, E>(
        &self,
        not_yet: NotYet,
        asked: Instant,
        mut reply: Reply<S, R, E>,
    ) -> Option<Reply<S, R, E>> {
        let State { ledger, policy, counters, .. } = &*self.state;
        let patience = match (not_yet, policy.while_running) {
            (NotYet::Released, _) => policy.begin_max,
            (_, WhileRunning::Wait(most)) => most.min(WAIT_MAX),
            (_, WhileRunning::Refuse) => Duration::ZERO,
        };
        let left = patience.saturating_sub(asked.elapsed());
        let waited = async {
            match not_yet {
                _ if left.is_zero() => Err(None),
                NotYet::NotDue(due) if due > left => Err(None),
                NotYet::NotDue(due) => {
                    sleep(due).await;
                    Ok(())
                }
                NotYet::Released => {
                    sleep(RELEASED).await;
                    Ok(())
                }
                NotYet::Running => match timeout(left, ledger.wait(&self.id, left)).await {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(error)) => Err(Some(error)),
                    Err(_) => Err(None),
                },
            }
        };
        let waited = tokio::select! {
            biased;
            waited = waited => waited,
            () = reply.gone() => {
                // Nobody has begun anything for it.
                count(&counters.gone);
                return None;
            }
        };
        match (waited, not_yet) {
            (Ok(()), _) => Some(reply),
            (Err(Some(error)), _) => {
                tracing::warn!(id = %self.name(), %error, "a key could not be waited for");
                refuse(reply, &counters.unavailable, refusal_of(&error))
            }
            (Err(None), NotYet::NotDue(due)) => {
                refuse(reply, &counters.refused, Refusal::NotDue(due))
            }
            (Err(None), NotYet::Running | NotYet::Released) => {
                refuse(reply, &counters.conflicts, Refusal::Running)
            }
        }
    }

    /// Reads what a completed record says of the answer. `None` if it cannot be read: that is never an unknown key.
    fn read(&self, record: &Record) -> Option<Stored> {
        let read = stored::decode(record.result().unwrap_or_default());
        read.inspect_err(|error| {
            tracing::error!(id = %self.name(), %error, "the stored answer of a key cannot be read");
        })
        .ok()
    }
}

fn refuse<S: DedupStore, R, E, T>(
    reply: Reply<S, R, E>,
    counter: &AtomicU64,
    refusal: Refusal,
) -> Option<T> {
    count(counter);
    reply.refuse(refusal);
    None
}

/// What a client hears of a store that cannot be asked: to come again, where that may help.
fn refusal_of(error: &Error) -> Refusal {
    match error.kind() {
        ErrorKind::Unavailable | ErrorKind::Environment => Refusal::Unavailable,
        _ => Refusal::StoreFault,
    }
}
