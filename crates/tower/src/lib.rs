//! The `Idempotency-Key` header for `tower` services, such as those of axum: a request that comes again is answered,
//! not done again.
//!
//! A client that hears nothing cannot know whether its payment was made. It sends the request again with the same key;
//! this layer finds the key in a `firstseen` ledger, embedded or shared by many machines, and replays the answer of the
//! first, byte for byte.
//!
//! ```
//! use axum::http::{Request, StatusCode, header::AUTHORIZATION};
//! use axum::{Router, body::Body, routing::post};
//! use firstseen_shared::{Embedded, SharedLedger};
//! use firstseen_tower::{IdempotencyLayer, Policy, Principals, ledger_options};
//! # use tower::ServiceExt;
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("seen.db");
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
//! # runtime.block_on(async {
//! let store = Embedded::new(firstseen::Store::open(path)?).leases_end_with_process();
//! let ledger = SharedLedger::new(store, "payments", ledger_options())?;
//! let layer = IdempotencyLayer::new(ledger, Principals::header(AUTHORIZATION), Policy::draft())?;
//! let router = Router::new()
//!     .route("/payments", post(|| async { (StatusCode::CREATED, "receipt 4711") }))
//!     .layer(layer.clone());
//!
//! for replays in 0..2 {
//!     let request = Request::post("/payments")
//!         .header("authorization", "Bearer anna") // checked by a layer outside of this one
//!         .header("idempotency-key", "\"8e03978e-40d5-43e8-bc93-6894a57f9324\"")
//!         .body(Body::from("10 euros"))?;
//!     let response = router.clone().oneshot(request).await?;
//!     assert_eq!(response.status(), StatusCode::CREATED);
//!     assert_eq!(response.headers().contains_key("idempotency-replayed"), replays == 1);
//! }
//! assert_eq!(layer.handle().counters().first, 1); // the handler ran once
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `examples/payments.rs` is a whole server to copy, with the `curl` lines to try it.
//!
//! # What a client hears
//!
//! Refusals are problem details (RFC 9457) with a `code`, and a link to [your documentation](Policy::documentation).
//!
//! | the request | is answered | `code` |
//! |---|---|---|
//! | has a new key | by the handler, once its answer is recorded | |
//! | was done before | with the stored status, headers and body, and `Idempotency-Replayed: true` | |
//! | has a key that is at work | 409 with `Retry-After`, or it waits ([`WhileRunning`]) | `key-in-use` |
//! | has a key of another request | 422 ([configurable](Policy::mismatch_status)); nothing of the first is told | `key-reused` |
//! | has no key, two, or a bad one | 400 | `key-missing`, `-repeated`, `-malformed`, `-too-long` |
//! | does not say who sends it | 403 | `principal-unknown` |
//! | has a body that is too large, too slow, or breaks off | 413, 408, 400 | `request-too-large`, `-too-slow`, `-broken` |
//! | was done, and its answer could not be kept | 409, with the first status as `first_status` | `answer-not-kept` |
//! | is in doubt, and an operator looks | 409 with `Retry-After` | `outcome-unknown` |
//! | failed, and the ledger's backoff lasts | 503 with `Retry-After` | `retry-not-due` |
//! | has failed as often as the ledger allows | 500 | `given-up` |
//! | comes while the store is away | 503 with `Retry-After`; **the handler does not run** | `store-unavailable` |
//! | has a record that cannot be read | 500; the handler does not run | `store-fault` |
//! | makes the handler panic or run too long | 500, 503 | `handler-failed`, `-too-long` |
//! | has an answer that breaks off | 500 | `answer-broken` |
//! | was done while the lease was lost to another attempt | the other's answer, or 409 with `Retry-After` | `taken-over` |
//! | is still at work when its lease ends, because the store is away | 503; the handler is stopped | `lease-ended` |
//! | was done, and the store cannot be told | 503 ([`Unrecorded`]) | `not-recorded` |
//!
//! # What is promised
//!
//! - **One at a time.** Of all requests with one key, one is at work, as long as its lease lasts. It is renewed while
//!   the handler runs; a handler that has lost it is stopped.
//! - **First recorded, then told.** A success is in the store, as durable as that is set to be, before anybody hears of
//!   it. From then on every request with the key is told the same, until the `result_ttl` of the ledger ends.
//! - **Nothing fails open.** What cannot be checked does not run, and what cannot be read is an error.
//! - **A client that goes away changes nothing.** From the question to the store to the record of the answer, a request
//!   is led by a task of its own: its handler runs to its end and is recorded. [`Handle::finished`] waits for such
//!   tasks.
//! - **Keys of two principals never meet** ([`Principals`]), and a key has one request: method, path, query and body, and
//!   [what else](Policy::fingerprint_headers) you say.
//! - **Nothing is read or waited for without a bound**: [`Policy::request_bytes_max`], [`Policy::response_bytes_max`],
//!   [`Policy::receive_max`], [`Policy::begin_max`], [`Policy::work_max`], [`Policy::record_max`].
//!
//! And what is not: **an effect and its record are two things.** If the process is killed between them, the effect has
//! happened and nobody knows. With `OnLeaseEnd::Retry` the next request does it again; with `OnLeaseEnd::Hold` it hears
//! 409 `outcome-unknown` until an operator has looked: [`record_id`] names the record, and `SharedLedger::settle` takes
//! [`stored_response`] if the effect was found, `redrive` lets it run if not. An effect that takes a key itself,
//! [`KeyedAttempt::effect_key`], closes the gap.
//!
//! | killed | after that, a request with the same key |
//! |---|---|
//! | before the handler runs | runs |
//! | while it runs, or before its answer is recorded | runs again (`Retry`) or is held (`Hold`): it may have happened |
//! | after its answer is recorded, heard or not | is told the answer |
//!
//! With the embedded store and [`leases_end_with_process`](firstseen_shared::Embedded::leases_end_with_process) that is
//! so as soon as it is open again; with a shared store, once the lease has ended.
//!
//! # What becomes of a key
//!
//! [`Fate`] says it for each status: kept, released as if nothing had been sent, to be tried again, or held. A handler
//! that refuses a request before it has done anything puts [`DoNotStore`] into its response. Panics and errors of the
//! service have failed, and what has failed may be tried again; under `OnLeaseEnd::Hold` it is held.
//!
//! Answers without a known length (streams, `text/event-stream`, upgrades, trailers) and answers above the limit are
//! passed to the client as they come, and not stored; [`UnkeptAnswer`] says what a retry hears. An answer that is kept
//! is read to its end first, so it is sent a little later than without the layer.
//!
//! # Where to put it
//!
//! - **Authentication outside of it**, so that nobody is told an answer of somebody else, and so that the principal is
//!   known.
//! - **Compression outside of it**: a compressed answer is a stream, and what is stored would be of one client's encoding.
//! - **Time limits outside of it** only answer the client; the handler goes on. [`Policy::work_max`] stops it.
//! - **Inside a nested router** it sees the path without the prefix. Give each its own ledger, or put the layer outside.
//! - Tasks do not inherit task-local values. The current span of `tracing` goes along.
//!
//! # The draft, and Stripe
//!
//! [`Policy::draft`] does what draft-ietf-httpapi-idempotency-key-header, revision 07, asks of a server. That draft
//! expired in April 2026 and is not an RFC; no other is in force. [`Policy::stripe`] has the habits of version 1 of
//! Stripe's API. Both are starting points: each setting can be changed.
//!
//! # Beside axum-idempotent
//!
//! Both with their defaults and the key in the header; each line is tried by `crates/tower/compare`.
//!
//! | tried | firstseen-tower | axum-idempotent 0.6.0 |
//! |---|---|---|
//! | two equal requests at once | one runs, the other hears 409 or waits | both run |
//! | the same key with another body | 422 | is told the first one's answer |
//! | the store is away | 503, does not run | runs, unprotected |
//! | the client goes away while it runs | goes on, recorded, replayed | is broken off; a retry runs again |
//! | sent twice without a session cookie | replayed | both run: it needs a session that exists |
//! | one key of two callers | two keys | two keys |
//! | answered 500, sent again | runs again | runs again |
//! | an answer of 2 MiB, sent again | 409: done, not kept (256 KiB are) | runs again (1 MiB are kept) |
//! | a stream, sent again | 409: done, not kept | runs again |
//! | a request of 2 MiB | 413 (1 MiB are read) | passes: bodies do not count and are not read |
//! | no key | 400, or passes unprotected | in its hashing mode, the same bytes are the same request |
//!
//! Its documentation says that it is best effort. It is the better choice where clients send no keys, where a session
//! is there anyway, and where a second run does no harm.

mod attempt;
mod begin;
mod body;
mod counters;
mod fingerprint;
mod in_flight;
mod kept;
mod key;
mod keyed;
mod layer;
mod life;
mod options;
mod outcome;
mod policy;
mod problem;
mod reply;
mod scope;
mod state;
mod stored;
mod structured;

pub use attempt::KeyedAttempt;
pub use body::Body;
pub use counters::Counters;
pub use kept::{DoNotStore, Fate, KeptHeaders};
pub use key::KeySyntax;
pub use layer::{Handle, Idempotency, IdempotencyLayer, LayerError};
pub use options::ledger_options;
pub use policy::{LargeRequest, Policy, UnkeptAnswer, Unrecorded, WhileRunning};
pub use scope::{KeySpace, Principals, ReadParts, record_id};
pub use stored::stored_response;
