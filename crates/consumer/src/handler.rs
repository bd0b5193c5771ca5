//! What the user brings: the work for one message.

use crate::source::Message;
use firstseen::ledger::{Attempt, Failure};
use std::future::Future;
use std::sync::Arc;

/// The work for a message. Any `Fn(Job) -> impl Future<Output = Result<T, Failure>>` is one, where `T` is `()`, bytes, or a
/// text.
///
/// - `Ok`: done; the answer is stored, and the message is acknowledged once that is on disk.
/// - `Err`: the [`Failure`] says what follows: again after a delay, a dead letter, held for an operator, or an answer that
///   is final. Any standard error becomes one by `?`.
/// - A panic is a failure.
///
/// A crash between the effect and the record of it makes the effect once more at the next delivery. Where that must not
/// be, hand the id on as idempotency key ([`Job::id`]), compare the token of the attempt, use its stages, or make the
/// effect part of the store's transaction (`transaction.complete(attempt, ..)`, which the loop understands).
pub trait Handler: Send + Sync + 'static {
    /// Does the work.
    fn handle(&self, job: Job) -> impl Future<Output = Result<Answer, Failure>> + Send;
}

impl<F, Fut, T> Handler for F
where
    F: Fn(Job) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, Failure>> + Send,
    T: Into<Answer>,
{
    async fn handle(&self, job: Job) -> Result<Answer, Failure> {
        self(job).await.map(Into::into)
    }
}

/// A message to be handled.
#[derive(Debug, Clone)]
pub struct Job {
    pub(crate) id: bytes::Bytes,
    pub(crate) message: Message,
    pub(crate) attempt: Option<Arc<Attempt>>,
    pub(crate) token_and_number: Option<(u64, u32)>,
}

impl Job {
    /// Returns the id under which the ledger knows it: the same at every delivery.
    pub fn id(&self) -> &[u8] {
        &self.id
    }

    /// Returns the payload.
    pub fn payload(&self) -> &[u8] {
        &self.message.payload
    }

    /// Returns the message as it was delivered.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Returns the fencing token of the attempt, higher than that of every attempt of this id before: a resource that
    /// remembers the highest can refuse an older attempt. `None` with reservations.
    pub fn token(&self) -> Option<u64> {
        self.token_and_number.map(|(token, _)| token)
    }

    /// Returns which attempt this is, from one. `None` with reservations.
    pub fn number(&self) -> Option<u32> {
        self.token_and_number.map(|(_, number)| number)
    }

    /// Returns the attempt of the ledger, with its stages. `None` with reservations, and with a ledger on a shared store.
    pub fn attempt(&self) -> Option<&Attempt> {
        self.attempt.as_deref()
    }
}

/// What the work has answered, as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer(pub(crate) Vec<u8>);

impl From<()> for Answer {
    fn from((): ()) -> Self {
        Self::default()
    }
}

impl From<Vec<u8>> for Answer {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<String> for Answer {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl From<&str> for Answer {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}
