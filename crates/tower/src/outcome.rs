//! What is made of a handler's answer: what the ledger is told, and what the client hears once it knows.

use crate::body::{self, Body, Read};
use crate::kept::{DoNotStore, Fate};
use crate::policy::{Policy, UnkeptAnswer};
use crate::problem::Refusal;
use crate::stored::{self, Unkept};
use bytes::Bytes;
use firstseen_shared::{Attempt, DedupStore, Failure, MoveError, Ttl};
use http::header::{CONTENT_TYPE, HeaderMap};
use http::{Response, StatusCode};
use std::any::Any;
use std::error::Error as StdError;
use std::time::Duration;

/// What the client hears: a response, or the error of the inner service.
pub(crate) type Answer<R, E> = Result<Response<Body<R>>, E>;

/// What has come of the work.
pub(crate) struct Outcome<R, E> {
    pub(crate) verdict: Verdict,
    pub(crate) answer: Answer<R, E>,
}

/// What the ledger is told.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Done: these bytes say how. `is_whole` unless they only say that the answer was not kept.
    Keep { result: Vec<u8>, is_whole: bool },
    /// Nothing is to be stored. `is_by_fate` unless it is because the answer could not be kept.
    Release { status: StatusCode, is_by_fate: bool },
    /// It failed.
    Failed(Cut),
    /// An operator is to look.
    Held(StatusCode),
}

/// Why work has failed. None of them says whether its effect happened.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Cut {
    #[error("answered {0}")]
    Status(StatusCode),
    #[error("the service failed")]
    Service,
    #[error("the handler panicked: {0}")]
    Panicked(String),
    #[error("the answer broke off: {0}")]
    Broken(String),
    #[error("not done after {0:?}")]
    TooLong(Duration),
}

/// How long the mark of a released key lasts: as short as a store can count.
const RELEASED_TTL: Ttl = Ttl::from_millis(1);

impl Verdict {
    /// Tells the ledger.
    pub(crate) async fn tell<S: DedupStore>(&self, attempt: &Attempt<S>) -> Result<(), MoveError> {
        match self {
            Self::Keep { result, .. } => attempt.complete(result).await,
            Self::Release { status, .. } => release(attempt, *status).await,
            Self::Failed(cut) => attempt.fail(Failure::from(cut.clone())).await,
            Self::Held(status) => attempt.fail(Failure::hold(Cut::Status(*status))).await,
        }
    }
}

/// Ends an attempt that has done nothing, as if its request had not been sent.
pub(crate) async fn release<S: DedupStore>(
    attempt: &Attempt<S>,
    status: StatusCode,
) -> Result<(), MoveError> {
    if attempt.number() == 1 {
        // A record that ends at once, and its fingerprint with it: the next request may be another one, and waits until
        // then. Removing it would not do, since that also takes it from an attempt that has begun meanwhile.
        return attempt.complete_for(stored::encode_released(status), RELEASED_TTL).await;
    }
    // An earlier attempt may have done something: its fingerprint and its count stay.
    attempt.release().await
}

impl<R, E> Outcome<R, E> {
    /// The work failed without an answer of its own.
    pub(crate) fn failed(cut: Cut, refusal: Refusal, policy: &Policy) -> Self {
        Self { verdict: Verdict::Failed(cut), answer: Ok(refusal.answer(policy)) }
    }

    pub(crate) fn panicked(panic: &(dyn Any + Send), policy: &Policy) -> Self {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let cut = Cut::Panicked(text.unwrap_or("no text").to_owned());
        Self::failed(cut, Refusal::Panicked, policy)
    }
}

/// Takes what the service has returned, and reads the body of an answer that is to be kept. `result_bytes_max` is what the
/// ledger can store.
pub(crate) async fn outcome<R, E>(
    returned: Result<Response<R>, E>,
    policy: &Policy,
    result_bytes_max: usize,
) -> Outcome<R, E>
where
    R: http_body::Body<Data = Bytes>,
    R::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let mut response = match returned {
        Ok(response) => response,
        Err(error) => {
            return Outcome { verdict: Verdict::Failed(Cut::Service), answer: Err(error) };
        }
    };
    response.headers_mut().remove(&policy.replay_header);
    let status = response.status();
    let is_refused = response.extensions().get::<DoNotStore>().is_some();
    let fate = if is_refused { Fate::Release } else { (policy.fates.0)(status) };
    let verdict = match fate {
        Fate::Keep => return keep(response, policy, result_bytes_max).await,
        Fate::Release => Verdict::Release { status, is_by_fate: true },
        Fate::Retry => Verdict::Failed(Cut::Status(status)),
        Fate::Hold => Verdict::Held(status),
    };
    Outcome { verdict, answer: Ok(response.map(Body::passed)) }
}

async fn keep<R, E>(
    response: Response<R>,
    policy: &Policy,
    result_bytes_max: usize,
) -> Outcome<R, E>
where
    R: http_body::Body<Data = Bytes>,
    R::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    if is_stream(&response) {
        return unkept(response.map(Body::passed), Unkept::Streamed, policy);
    }
    let (parts, body) = response.into_parts();
    let headers = policy.kept_headers.of(&parts.headers);
    let for_headers = stored::length(&headers, 0);
    let Some(for_body) = result_bytes_max.checked_sub(for_headers) else {
        let response = Response::from_parts(parts, Body::passed(body));
        return unkept(response, Unkept::TooLarge, policy);
    };
    match body::read(body, for_body.min(policy.response_bytes_max)).await {
        Read::Whole(bytes, None) => {
            let result = stored::encode(parts.status, &headers, &bytes);
            let answer = Ok(Response::from_parts(parts, Body::full(bytes, None)));
            Outcome { verdict: Verdict::Keep { result, is_whole: true }, answer }
        }
        Read::Whole(bytes, trailers) => {
            let response = Response::from_parts(parts, Body::full(bytes, trailers));
            unkept(response, Unkept::Streamed, policy)
        }
        Read::Longer(body) => unkept(Response::from_parts(parts, body), Unkept::TooLarge, policy),
        Read::Failed(error) => {
            let cut = Cut::Broken(error.into().to_string());
            Outcome::failed(cut, Refusal::AnswerBroken, policy)
        }
    }
}

/// The client is sent what cannot be kept, and the ledger is told so much.
fn unkept<R, E>(response: Response<Body<R>>, why: Unkept, policy: &Policy) -> Outcome<R, E> {
    let status = response.status();
    let verdict = match policy.unkept {
        UnkeptAnswer::Record => {
            Verdict::Keep { result: stored::encode_unkept(status, why), is_whole: false }
        }
        UnkeptAnswer::Release => Verdict::Release { status, is_by_fate: false },
    };
    Outcome { verdict, answer: Ok(response) }
}

/// Returns whether an answer has no end that is known, or hands the connection over.
fn is_stream<R: http_body::Body>(response: &Response<R>) -> bool {
    response.status() == StatusCode::SWITCHING_PROTOCOLS
        || response.body().size_hint().upper().is_none()
        || is_event_stream(response.headers())
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    const NAME: &[u8] = b"text/event-stream";
    let Some(value) = headers.get(CONTENT_TYPE) else { return false };
    value.as_bytes().get(..NAME.len()).is_some_and(|start| start.eq_ignore_ascii_case(NAME))
}
