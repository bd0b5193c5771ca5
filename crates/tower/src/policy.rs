//! The settings of the layer.

use crate::body::Body;
use crate::fingerprint::Print;
use crate::kept::{Fate, KeptHeaders};
use crate::key::KeySyntax;
use crate::scope::KeySpace;
use bytes::Bytes;
use http::header::InvalidHeaderValue;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What clients are promised, and what is refused. How long answers are kept, how long a handler may go without a sign
/// of life, and how many attempts a key has are settings of the ledger.
///
/// Starts from [`draft`](Self::draft) or [`stripe`](Self::stripe):
///
/// ```
/// use firstseen_tower::{Fate, Policy, WhileRunning};
/// use std::time::Duration;
///
/// let policy = Policy::draft()
///     .documentation("https://api.example.com/idempotency")?
///     .while_running(WhileRunning::Wait(Duration::from_secs(5)))
///     .fates(|status| match status.as_u16() {
///         402 => Fate::Release, // a declined card may be tried again under the same key
///         _ => Fate::draft(status),
///     });
/// # Ok::<(), http::header::InvalidHeaderValue>(())
/// ```
#[derive(Debug, Clone)]
pub struct Policy {
    pub(crate) methods: Vec<Method>,
    pub(crate) key_header: HeaderName,
    pub(crate) key_syntax: KeySyntax,
    pub(crate) key_bytes_max: usize,
    pub(crate) is_key_required: bool,
    pub(crate) key_space: KeySpace,
    pub(crate) print: Print,
    pub(crate) request_bytes_max: usize,
    pub(crate) large_request: LargeRequest,
    pub(crate) receive_max: Duration,
    pub(crate) response_bytes_max: usize,
    pub(crate) unkept: UnkeptAnswer,
    pub(crate) fates: Fates,
    pub(crate) kept_headers: KeptHeaders,
    pub(crate) while_running: WhileRunning,
    pub(crate) mismatch_status: StatusCode,
    pub(crate) replay_header: HeaderName,
    pub(crate) documentation: Documentation,
    pub(crate) retry_after: Duration,
    pub(crate) held_retry_after: Duration,
    pub(crate) work_max: Duration,
    pub(crate) begin_max: Duration,
    pub(crate) record_max: Duration,
    pub(crate) unrecorded: Unrecorded,
}

/// The fate of each status.
#[derive(Clone)]
pub(crate) struct Fates(pub(crate) Arc<dyn Fn(StatusCode) -> Fate + Send + Sync>);

impl fmt::Debug for Fates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fates(..)")
    }
}

/// Where clients read how keys are used here.
#[derive(Debug, Clone)]
pub(crate) struct Documentation {
    pub(crate) url: String,
    pub(crate) link: HeaderValue,
}

impl Documentation {
    fn at(url: &str) -> Result<Self, InvalidHeaderValue> {
        let link = format!("<{url}>; rel=\"describedby\"; type=\"text/html\"");
        Ok(Self { url: url.to_owned(), link: HeaderValue::try_from(link)? })
    }
}

/// What a request hears whose key is at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum WhileRunning {
    /// 409 at once, with `Retry-After`. What the draft asks for.
    #[default]
    Refuse,
    /// It waits until the first is done and is told the same; after this time, 409. If the first fails, it runs itself.
    Wait(Duration),
}

/// What becomes of a request whose body is too large to be read first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum LargeRequest {
    /// 413; the handler does not run.
    #[default]
    Refuse,
    /// The handler runs, and nothing is recorded: **a retry runs again**.
    PassUnprotected,
}

/// What becomes of a key whose answer cannot be stored: larger than the limit, a stream, or with trailers. The client
/// is sent the answer in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum UnkeptAnswer {
    /// It is recorded that the request was done. A retry does not run: it hears 409 with the code `answer-not-kept`,
    /// and the status that the first was answered with.
    #[default]
    Record,
    /// Nothing is recorded: **a retry runs again**. For answers that change nothing.
    Release,
}

/// What the client hears if its request was done and the store cannot be told so, within
/// [`record_max`](Policy::record_max). The layer goes on trying to record it as long as the lease lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Unrecorded {
    /// 503: nobody hears of a success that is not recorded. A retry is told the answer if the store has taken it
    /// meanwhile; if not, the lease ends, and the ledger's policy says what follows.
    #[default]
    Refuse,
    /// The handler's answer. **Sent once more after the lease, the request may run again.**
    Pass,
}

impl Policy {
    /// What the IETF draft asks for (draft-ietf-httpapi-idempotency-key-header, revision 07, which expired in April
    /// 2026 and is not an RFC): a quoted key is required; 400 without one, 409 while the first is at work, 422 for
    /// another request under its key. Answers of 2xx, 3xx and 4xx are kept, and 5xx are not: [`Fate::draft`]. The draft
    /// leaves the rest to the server; the other defaults stand at each setting.
    #[must_use]
    pub fn draft() -> Self {
        Self {
            methods: vec![Method::POST, Method::PATCH],
            key_header: HeaderName::from_static("idempotency-key"),
            key_syntax: KeySyntax::Quoted,
            key_bytes_max: 255,
            is_key_required: true,
            key_space: KeySpace::Principal,
            print: Print::default(),
            request_bytes_max: 1 << 20,
            large_request: LargeRequest::Refuse,
            receive_max: Duration::from_secs(30),
            response_bytes_max: 256 << 10,
            unkept: UnkeptAnswer::Record,
            fates: Fates(Arc::new(Fate::draft)),
            kept_headers: KeptHeaders::default(),
            while_running: WhileRunning::Refuse,
            mismatch_status: StatusCode::UNPROCESSABLE_ENTITY,
            replay_header: HeaderName::from_static("idempotency-replayed"),
            documentation: Documentation::at(DRAFT).expect("it is a plain URL"),
            retry_after: Duration::from_secs(1),
            held_retry_after: Duration::from_secs(60),
            work_max: Duration::from_secs(15 * 60),
            begin_max: Duration::from_secs(5),
            record_max: Duration::from_secs(10),
            unrecorded: Unrecorded::Refuse,
        }
    }

    /// The habits of version 1 of Stripe's API: keys are optional and bare, POST only; 400 for another request under a
    /// key; all answers are kept, 500 among them, except those that refuse a request before its work began
    /// ([`Fate::stripe`]); replays are marked `Idempotent-Replayed: true`. Stripe keeps answers for at least 24 hours:
    /// that is the ttl of the ledger.
    #[must_use]
    pub fn stripe() -> Self {
        Self {
            methods: vec![Method::POST],
            key_syntax: KeySyntax::QuotedOrBare,
            is_key_required: false,
            fates: Fates(Arc::new(Fate::stripe)),
            mismatch_status: StatusCode::BAD_REQUEST,
            replay_header: HeaderName::from_static("idempotent-replayed"),
            ..Self::draft()
        }
    }

    /// Sets the methods that the layer covers: POST and PATCH. All others pass, with or without a key, and without a look
    /// at the store.
    #[must_use]
    pub fn methods(self, methods: impl IntoIterator<Item = Method>) -> Self {
        Self { methods: methods.into_iter().collect(), ..self }
    }

    /// Sets the header that has the key: `Idempotency-Key`.
    #[must_use]
    pub fn key_header(self, key_header: HeaderName) -> Self {
        Self { key_header, ..self }
    }

    /// Sets how keys may be written: [`KeySyntax::Quoted`]. A key that is not written so is refused with 400.
    #[must_use]
    pub fn key_syntax(self, key_syntax: KeySyntax) -> Self {
        Self { key_syntax, ..self }
    }

    /// Sets how long a key may be, in bytes without its quotes: 255. A longer one is refused with 400.
    #[must_use]
    pub fn key_bytes_max(self, key_bytes_max: usize) -> Self {
        Self { key_bytes_max, ..self }
    }

    /// Sets whether a request without a key is refused with 400: yes. Otherwise it passes, and a retry of it runs again.
    #[must_use]
    pub fn key_required(self, is_key_required: bool) -> Self {
        Self { is_key_required, ..self }
    }

    /// Sets what a key of a principal belongs to: [`KeySpace::Principal`].
    #[must_use]
    pub fn key_space(self, key_space: KeySpace) -> Self {
        Self { key_space, ..self }
    }

    /// Sets the headers that a retry must have as the first request had them: none. Method, path and query always count.
    #[must_use]
    pub fn fingerprint_headers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.print.headers = names.into_iter().collect();
        self
    }

    /// Sets what of a body must be as in the first request: all of its bytes. For clients that write the same JSON in
    /// another order or with a new time stamp each time.
    #[must_use]
    pub fn fingerprint_body(
        mut self,
        read: impl Fn(&Parts, &[u8]) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        self.print.body = Some(Arc::new(read));
        self
    }

    /// Sets how large the body of a request may be, in bytes: 1 MiB. It is in memory while the handler runs.
    #[must_use]
    pub fn request_bytes_max(self, request_bytes_max: usize) -> Self {
        Self { request_bytes_max, ..self }
    }

    /// Sets what becomes of a request whose body is larger: [`LargeRequest::Refuse`].
    #[must_use]
    pub fn large_request(self, large_request: LargeRequest) -> Self {
        Self { large_request, ..self }
    }

    /// Sets how long the body of a request may take to come: 30 seconds; then 408.
    #[must_use]
    pub fn receive_max(self, receive_max: Duration) -> Self {
        Self { receive_max, ..self }
    }

    /// Sets how large the body of a response may be to be kept, in bytes: 256 KiB. The limits of ledger and store count as
    /// well, for body and headers together.
    #[must_use]
    pub fn response_bytes_max(self, response_bytes_max: usize) -> Self {
        Self { response_bytes_max, ..self }
    }

    /// Sets what becomes of a key whose answer cannot be stored: [`UnkeptAnswer::Record`].
    #[must_use]
    pub fn unkept(self, unkept: UnkeptAnswer) -> Self {
        Self { unkept, ..self }
    }

    /// Sets what becomes of a key, by the status of the answer: [`Fate::draft`] or [`Fate::stripe`].
    #[must_use]
    pub fn fates(self, fates: impl Fn(StatusCode) -> Fate + Send + Sync + 'static) -> Self {
        Self { fates: Fates(Arc::new(fates)), ..self }
    }

    /// Sets which headers of an answer are stored and replayed: all but `Date` and `Set-Cookie`.
    #[must_use]
    pub fn kept_headers(self, kept_headers: KeptHeaders) -> Self {
        Self { kept_headers, ..self }
    }

    /// Sets what a request hears whose key is at work: [`WhileRunning::Refuse`].
    #[must_use]
    pub fn while_running(self, while_running: WhileRunning) -> Self {
        Self { while_running, ..self }
    }

    /// Sets the status of another request under a used key: 422.
    #[must_use]
    pub fn mismatch_status(self, mismatch_status: StatusCode) -> Self {
        Self { mismatch_status, ..self }
    }

    /// Sets the header that marks a replay, with the value `true`: `Idempotency-Replayed`. A handler's own header of this
    /// name is removed from what it answers.
    #[must_use]
    pub fn replay_header(self, replay_header: HeaderName) -> Self {
        Self { replay_header, ..self }
    }

    /// Sets the page that tells clients how keys are used here. It is the `type` of each problem and its `Link`. The
    /// default is the draft.
    ///
    /// # Errors
    ///
    /// If it cannot stand in a header.
    pub fn documentation(self, url: &str) -> Result<Self, InvalidHeaderValue> {
        Ok(Self { documentation: Documentation::at(url)?, ..self })
    }

    /// Sets what `Retry-After` says of a key at work, and of a store that does not answer: one second. Whole seconds are
    /// sent, at least one.
    #[must_use]
    pub fn retry_after(self, retry_after: Duration) -> Self {
        Self { retry_after, ..self }
    }

    /// Sets what `Retry-After` says of a key that waits for an operator: a minute.
    #[must_use]
    pub fn held_retry_after(self, held_retry_after: Duration) -> Self {
        Self { held_retry_after, ..self }
    }

    /// Sets how long a handler may run, until all of its answer is there: 15 minutes. Then it is dropped, the attempt
    /// has failed (or is held, if the ledger says `OnLeaseEnd::Hold`), and the client hears 503.
    #[must_use]
    pub fn work_max(self, work_max: Duration) -> Self {
        Self { work_max, ..self }
    }

    /// Sets how long the store may take to begin: 5 seconds; then 503, and the handler does not run.
    #[must_use]
    pub fn begin_max(self, begin_max: Duration) -> Self {
        Self { begin_max, ..self }
    }

    /// Sets how long a client waits for its answer to be recorded: 10 seconds.
    #[must_use]
    pub fn record_max(self, record_max: Duration) -> Self {
        Self { record_max, ..self }
    }

    /// Sets what it hears then: [`Unrecorded::Refuse`].
    #[must_use]
    pub fn unrecorded(self, unrecorded: Unrecorded) -> Self {
        Self { unrecorded, ..self }
    }

    /// Makes a response of a stored one.
    pub(crate) fn replay<R>(&self, stored: Response<Bytes>) -> Response<Body<R>> {
        let mut response = stored.map(|bytes| Body::full(bytes, None));
        response.headers_mut().insert(self.replay_header.clone(), HeaderValue::from_static("true"));
        response
    }
}

const DRAFT: &str =
    "https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-idempotency-key-header-07";
