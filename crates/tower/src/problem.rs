//! What a client hears from the layer itself: problem details (RFC 9457) with a link to the documentation, as the draft
//! shows them.

use crate::body::Body;
use crate::policy::Policy;
use crate::stored::Unkept;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LANGUAGE, CONTENT_TYPE, LINK, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use std::fmt::Write as _;
use std::time::Duration;

/// Why a request is not answered by its handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    KeyMissing,
    KeyRepeated,
    KeyMalformed,
    KeyTooLong,
    NoPrincipal,
    BodyTooLarge,
    BodyTooSlow,
    BodyBroken,
    /// Another request with the key is at work.
    Running,
    /// The key belongs to another request.
    Mismatch,
    /// The last attempt failed, and the next is not due for this long.
    NotDue(Duration),
    Held,
    Dead,
    /// It was done, and answered with this status.
    AnswerNotKept(StatusCode, Unkept),
    /// The store cannot be asked.
    Unavailable,
    /// The store says something that nobody understands.
    StoreFault,
    /// The handler's work was done, and could not be recorded.
    Unrecorded,
    /// Another attempt has the key.
    TakenOver,
    /// The lease ended while the handler ran.
    LeaseEnded,
    Panicked,
    /// The handler's answer broke off.
    AnswerBroken,
    /// The handler took too long.
    TooLong,
}

/// What is said of a refusal: status, code, title, detail, and whether to come again.
type Said = (StatusCode, &'static str, &'static str, &'static str, Option<Duration>);

impl Refusal {
    #[rustfmt::skip]
    fn said(self, policy: &Policy) -> Said {
        use StatusCode as S;
        let soon = Some(policy.retry_after);
        match self {
            Self::KeyMissing => (S::BAD_REQUEST, "key-missing", "Idempotency-Key is missing",
                "This operation requires a key that is new for each request and the same for each of its retries.", None),
            Self::KeyRepeated => (S::BAD_REQUEST, "key-repeated", "More than one Idempotency-Key",
                "A request has one key, in one header.", None),
            Self::KeyMalformed => (S::BAD_REQUEST, "key-malformed", "Idempotency-Key is malformed",
                "The key must be a Structured Field String that is not empty, such as \
                 \"8e03978e-40d5-43e8-bc93-6894a57f9324\" with its quotes.", None),
            Self::KeyTooLong => (S::BAD_REQUEST, "key-too-long", "Idempotency-Key is too long",
                "The key has more bytes than are accepted here; a UUID is long enough.", None),
            Self::NoPrincipal => (S::FORBIDDEN, "principal-unknown", "The sender is not known",
                "Keys belong to their senders, and this request does not say who sends it.", None),
            Self::BodyTooLarge => (S::PAYLOAD_TOO_LARGE, "request-too-large", "The request is too large",
                "The body has more bytes than are accepted with a key.", None),
            Self::BodyTooSlow => (S::REQUEST_TIMEOUT, "request-too-slow", "The request did not come in time",
                "The body was not received in time. Nothing was done; send the request again.", None),
            Self::BodyBroken => (S::BAD_REQUEST, "request-broken", "The request broke off",
                "The body did not come to its end. Nothing was done; send the request again.", None),
            Self::Running => (S::CONFLICT, "key-in-use", "A request is outstanding for this Idempotency-Key",
                "The first request with this key is still being processed. Send it again later to be \
                 told its answer.", soon),
            Self::Mismatch => (policy.mismatch_status, "key-reused", "Idempotency-Key is already used",
                "This key was used for another request. A key must not be used again for a different \
                 request; take a new one.", None),
            Self::NotDue(left) => (S::SERVICE_UNAVAILABLE, "retry-not-due", "It is too early to try this again",
                "The last attempt has failed. Send the request again with the same key after the time given.", Some(left)),
            Self::Held => (S::CONFLICT, "outcome-unknown", "The outcome of this request is being looked up",
                "Nobody knows whether an earlier attempt was carried out. An operator finds out; send \
                 the request again with the same key, not with a new one.", Some(policy.held_retry_after)),
            Self::Dead => (S::INTERNAL_SERVER_ERROR, "given-up", "This request has failed for good",
                "It was tried as often as is allowed, or was given up by an operator. It is not tried \
                 again with this key.", None),
            Self::AnswerNotKept(_, Unkept::TooLarge) => (S::CONFLICT, "answer-not-kept",
                "The request was done, and its answer was not kept",
                "The request was carried out once and is not carried out again. Its answer was too \
                 large to store; look up what it made.", None),
            Self::AnswerNotKept(_, Unkept::Streamed) => (S::CONFLICT, "answer-not-kept",
                "The request was done, and its answer was not kept",
                "The request was carried out once and is not carried out again. Its answer was a \
                 stream; look up what it made.", None),
            Self::Unavailable => (S::SERVICE_UNAVAILABLE, "store-unavailable", "The key cannot be checked",
                "Nothing was done. Send the request again with the same key.", soon),
            Self::StoreFault => (S::INTERNAL_SERVER_ERROR, "store-fault", "The key cannot be checked",
                "What is stored for this key cannot be used. The request was not carried out.", None),
            Self::Unrecorded => (S::SERVICE_UNAVAILABLE, "not-recorded", "The outcome could not be recorded",
                "The request may have been carried out. Send it again with the same key, not with a new one.", soon),
            Self::TakenOver => (S::CONFLICT, "taken-over", "Another attempt has taken this request over",
                "Send the request again with the same key to be told what came of it.", soon),
            Self::LeaseEnded => (S::SERVICE_UNAVAILABLE, "lease-ended", "The request was stopped",
                "Its right to the key was not renewed in time. Send it again with the same key.", soon),
            Self::Panicked => (S::INTERNAL_SERVER_ERROR, "handler-failed", "The request failed",
                "The request may have been carried out in part. Send it again with the same key.", None),
            Self::AnswerBroken => (S::INTERNAL_SERVER_ERROR, "answer-broken", "The answer broke off",
                "The request may have been carried out. Send it again with the same key.", None),
            Self::TooLong => (S::SERVICE_UNAVAILABLE, "handler-too-long", "The request took too long",
                "It was stopped, and may have been carried out in part. Send it again with the same key.", soon),
        }
    }

    /// Makes the response.
    pub(crate) fn answer<R>(self, policy: &Policy) -> Response<Body<R>> {
        let (status, code, title, detail, retry_after) = self.said(policy);
        let mut text = String::with_capacity(512);
        text.push('{');
        push_member(&mut text, "type", &policy.documentation.url);
        push_member(&mut text, "title", title);
        push_member(&mut text, "detail", detail);
        push_member(&mut text, "code", code);
        if let Self::AnswerNotKept(first, _) = self {
            push_number(&mut text, "first_status", first.as_u16());
        }
        push_number(&mut text, "status", status.as_u16());
        text.push('}');

        let mut response = Response::new(Body::full(Bytes::from(text), None));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static("en"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(LINK, policy.documentation.link.clone());
        if let Some(after) = retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds(after)));
        }
        response
    }
}

/// Whole seconds, rounded up, at least one.
fn seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0)).max(1)
}

fn push_member(text: &mut String, name: &str, value: &str) {
    push_name(text, name);
    text.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            c if c < ' ' => write!(text, "\\u{:04x}", u32::from(c)).expect("a string takes it"),
            c => text.push(c),
        }
    }
    text.push('"');
}

fn push_number(text: &mut String, name: &str, value: u16) {
    push_name(text, name);
    write!(text, "{value}").expect("a string takes it");
}

fn push_name(text: &mut String, name: &str) {
    if text.len() > 1 {
        text.push(',');
    }
    write!(text, "\"{name}\":").expect("a string takes it");
}

#[cfg(test)]
mod tests {
    use super::{Refusal, seconds};
    use crate::policy::Policy;
    use bytes::Bytes;
    use futures_util::FutureExt;
    use http::{Response, StatusCode};
    use http_body_util::{BodyExt, Empty};
    use std::time::Duration;

    fn answer(refusal: Refusal, policy: &Policy) -> (Response<()>, String) {
        let response: Response<crate::Body<Empty<Bytes>>> = refusal.answer(policy);
        let (parts, body) = response.into_parts();
        let body = body.collect().now_or_never().unwrap().unwrap().to_bytes();
        (Response::from_parts(parts, ()), String::from_utf8(body.to_vec()).unwrap())
    }

    #[test]
    fn a_problem_has_the_members_and_headers_that_the_draft_shows() {
        let policy = Policy::draft().documentation("https://developer.example.com/idempotency");
        let (response, body) = answer(Refusal::KeyMissing, &policy.unwrap());
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        let header = |name: &str| response.headers()[name].to_str().unwrap();
        assert_eq!(header("content-type"), "application/problem+json");
        assert_eq!(header("content-language"), "en");
        assert_eq!(
            header("link"),
            "<https://developer.example.com/idempotency>; rel=\"describedby\"; type=\"text/html\""
        );
        assert!(!response.headers().contains_key("retry-after"));
        assert_eq!(
            body,
            "{\"type\":\"https://developer.example.com/idempotency\",\
             \"title\":\"Idempotency-Key is missing\",\
             \"detail\":\"This operation requires a key that is new for each request and the same for \
             each of its retries.\",\"code\":\"key-missing\",\"status\":400}"
        );
    }

    #[test]
    fn what_is_quoted_is_escaped() {
        let policy = Policy::draft().documentation(r#"https://example.com/"a\b""#).unwrap();
        let (_, body) = answer(Refusal::KeyMalformed, &policy);
        assert!(body.starts_with(r#"{"type":"https://example.com/\"a\\b\"","#), "{body}");
        assert!(body.contains(r#"such as \"8e03978e-"#), "{body}");
        assert!(Policy::draft().documentation("https://example.com/\n").is_err());
    }

    #[test]
    fn times_to_come_again_are_whole_seconds_and_never_zero() {
        for (millis, wanted) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (59_500, 60)] {
            assert_eq!(seconds(Duration::from_millis(millis)), wanted);
        }
        assert_eq!(seconds(Duration::MAX), u64::MAX);
        let policy = Policy::draft().held_retry_after(Duration::from_secs(90));
        let (response, _) = answer(Refusal::Held, &policy);
        assert_eq!(response.headers()["retry-after"], "90");
    }
}
