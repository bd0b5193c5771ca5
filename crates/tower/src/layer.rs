//! The layer and its service: everything before there is a key, and the way to the task that leads a request with one.

use crate::attempt::KeyedAttempt;
use crate::body::{self, Body, Read};
use crate::counters::{Counters, Live, count};
use crate::in_flight::InFlight;
use crate::key::{self, NoKey};
use crate::keyed::Keyed;
use crate::policy::{LargeRequest, Policy};
use crate::problem::Refusal;
use crate::reply::Reply;
use crate::scope::{Principals, id_bytes_max, record_id};
use crate::state::State;
use bytes::Bytes;
use firstseen_shared::{DedupStore, SharedLedger};
use http::{Request, Response};
use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tower_layer::Layer;
use tower_service::Service;
use tracing::Instrument;

/// The layer: wraps services so that a request with an `Idempotency-Key` is done once. Cheap to clone; all clones, and all
/// services that they wrap, share one ledger, one policy and one set of counters.
pub struct IdempotencyLayer<S> {
    state: Arc<State<S>>,
}

/// A service behind an [`IdempotencyLayer`].
pub struct Idempotency<I, S> {
    inner: I,
    state: Arc<State<S>>,
}

/// Looks at a layer while it works, and waits for its end.
pub struct Handle<S> {
    state: Arc<State<S>>,
}

/// Why a layer cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// The store cannot hold the ids of the longest keys.
    #[error(
        "the ids of the longest keys have {needed} bytes, and the store takes {most}; \
         allow shorter keys with Policy::key_bytes_max"
    )]
    IdsTooLong {
        /// What the policy needs.
        needed: usize,
        /// What the store takes.
        most: usize,
    },
}

impl<S: DedupStore> IdempotencyLayer<S> {
    /// Creates a layer that keeps its records in a ledger. [`ledger_options`](crate::ledger_options) are options that
    /// suit it. Services that share a ledger share its keys.
    ///
    /// # Errors
    ///
    /// If the store takes no ids as long as the policy's keys make them.
    pub fn new(
        ledger: SharedLedger<S>,
        principals: Principals,
        policy: Policy,
    ) -> Result<Self, LayerError> {
        let (needed, most) = (id_bytes_max(policy.key_bytes_max), ledger.id_bytes_max());
        if needed > most {
            return Err(LayerError::IdsTooLong { needed, most });
        }
        let (counters, in_flight) = (Live::default(), InFlight::new());
        let state = State { ledger, principals, policy, counters, in_flight };
        Ok(Self { state: Arc::new(state) })
    }

    /// Returns a handle to read its counters and to wait for its requests.
    pub fn handle(&self) -> Handle<S> {
        Handle { state: Arc::clone(&self.state) }
    }
}

impl<S: DedupStore> Handle<S> {
    /// Returns what the layer has done so far.
    pub fn counters(&self) -> Counters {
        self.state.counters.read(self.state.in_flight.count())
    }

    /// Waits until no request is in flight any more, `grace` at most, and returns how many are then. For the end of a
    /// program: after the server takes no more connections, and before its runtime ends. Handlers of clients that have
    /// gone are among them.
    ///
    /// What outlasts the grace ends with the runtime. Its key runs again, or is held, as the ledger's policy for the end
    /// of a lease says.
    pub async fn finished(&self, grace: Duration) -> u64 {
        self.state.in_flight.ended(grace).await
    }
}

impl<I, S: DedupStore> Layer<I> for IdempotencyLayer<S> {
    type Service = Idempotency<I, S>;

    fn layer(&self, inner: I) -> Self::Service {
        Idempotency { inner, state: Arc::clone(&self.state) }
    }
}

/// The future of a response.
type Answering<R, E> = Pin<Box<dyn Future<Output = Result<Response<Body<R>>, E>> + Send>>;

impl<I, S, B, R> Service<Request<B>> for Idempotency<I, S>
where
    I: Service<Request<Body<B>>, Response = Response<R>> + Clone + Send + 'static,
    I::Future: Send + 'static,
    I::Error: Send + 'static,
    S: DedupStore,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>> + Send,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    type Response = Response<Body<R>>;
    type Error = I::Error;
    type Future = Answering<R, I::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), I::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that is ready goes along; its twin stays and is asked again.
        let twin = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, twin);
        if self.state.policy.methods.contains(request.method()) {
            Box::pin(answer(inner, Arc::clone(&self.state), request))
        } else {
            Box::pin(pass(inner, request.map(Body::passed)))
        }
    }
}

/// Has the service answer, without a record.
async fn pass<I, B, R>(
    mut inner: I,
    request: Request<Body<B>>,
) -> Result<Response<Body<R>>, I::Error>
where
    I: Service<Request<Body<B>>, Response = Response<R>>,
{
    let response = inner.call(request).await?;
    Ok(response.map(Body::passed))
}

/// Reads key, principal and body, and has a task answer the request. Dropped before that, nothing has happened.
async fn answer<I, S, B, R>(
    mut inner: I,
    state: Arc<State<S>>,
    request: Request<B>,
) -> Result<Response<Body<R>>, I::Error>
where
    I: Service<Request<Body<B>>, Response = Response<R>> + Send + 'static,
    I::Future: Send + 'static,
    I::Error: Send + 'static,
    S: DedupStore,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>> + Send,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let (keyed, mut request) = match keyed(&state, request).await {
        Front::Keyed(keyed, request) => (keyed, request),
        Front::Unprotected(request) => {
            count(&state.counters.unprotected);
            return pass(inner, request).await;
        }
        Front::Refused(refusal) => {
            count(&state.counters.invalid);
            return Ok(refusal.answer(&state.policy));
        }
    };
    let (reply, answered) = Reply::new(Arc::clone(&state));
    let in_flight = state.in_flight.one_more();
    let work = move |attempt: KeyedAttempt| async move {
        request.extensions_mut().insert(attempt);
        inner.call(request).await
    };
    let life = async move {
        keyed.live(work, reply).await;
        drop(in_flight);
    };
    tokio::spawn(life.in_current_span());
    answered.await.unwrap_or_else(|_| {
        // Its runtime ends, or the layer has a fault. Whether the work was done is not known.
        Ok(Refusal::Unrecorded.answer(&state.policy))
    })
}

/// What a request of a covered method is.
enum Front<S, B> {
    Keyed(Keyed<S>, Request<Body<B>>),
    Unprotected(Request<Body<B>>),
    Refused(Refusal),
}

async fn keyed<S, B>(state: &Arc<State<S>>, request: Request<B>) -> Front<S, B>
where
    S: DedupStore,
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let policy = &state.policy;
    let (parts, body) = request.into_parts();
    let Policy { key_header, key_syntax, key_bytes_max, .. } = policy;
    let key = match key::read(&parts.headers, key_header, *key_syntax, *key_bytes_max) {
        Ok(key) => key,
        Err(NoKey::Missing) if !policy.is_key_required => {
            return Front::Unprotected(Request::from_parts(parts, Body::passed(body)));
        }
        Err(NoKey::Missing) => return Front::Refused(Refusal::KeyMissing),
        Err(NoKey::Repeated) => return Front::Refused(Refusal::KeyRepeated),
        Err(NoKey::Malformed) => return Front::Refused(Refusal::KeyMalformed),
        Err(NoKey::TooLong) => return Front::Refused(Refusal::KeyTooLong),
    };
    let Some(principal) = (state.principals.0)(&parts) else {
        return Front::Refused(Refusal::NoPrincipal);
    };
    let read = tokio::time::timeout(policy.receive_max, body::read(body, policy.request_bytes_max));
    let (bytes, trailers) = match read.await {
        Ok(Read::Whole(bytes, trailers)) => (bytes, trailers),
        Ok(Read::Longer(body)) if policy.large_request == LargeRequest::PassUnprotected => {
            return Front::Unprotected(Request::from_parts(parts, body));
        }
        Ok(Read::Longer(_)) => return Front::Refused(Refusal::BodyTooLarge),
        Ok(Read::Failed(error)) => {
            let error = error.into();
            tracing::debug!(%error, "the body of a request broke off");
            return Front::Refused(Refusal::BodyBroken);
        }
        Err(_) => return Front::Refused(Refusal::BodyTooSlow),
    };
    let keyed = Keyed {
        id: record_id(&principal, &policy.key_space.read(&parts), &key),
        fingerprint: policy.print.of(&parts, &bytes),
        state: Arc::clone(state),
    };
    Front::Keyed(keyed, Request::from_parts(parts, Body::full(bytes, trailers)))
}

impl<S> Clone for IdempotencyLayer<S> {
    fn clone(&self) -> Self {
        Self { state: Arc::clone(&self.state) }
    }
}

impl<I: Clone, S> Clone for Idempotency<I, S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), state: Arc::clone(&self.state) }
    }
}

impl<S> Clone for Handle<S> {
    fn clone(&self) -> Self {
        Self { state: Arc::clone(&self.state) }
    }
}

impl<S: DedupStore> fmt::Debug for IdempotencyLayer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state.show("IdempotencyLayer", f)
    }
}

impl<I, S: DedupStore> fmt::Debug for Idempotency<I, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state.show("Idempotency", f)
    }
}

impl<S: DedupStore> fmt::Debug for Handle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state.show("Handle", f)
    }
}
