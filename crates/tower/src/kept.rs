//! What is kept of a response: whether at all, and which headers.

use http::header::{
    CONNECTION, CONTENT_LENGTH, DATE, PROXY_AUTHENTICATE, SET_COOKIE, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, StatusCode};

/// What becomes of a key when the handler has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fate {
    /// The answer is stored, and every retry is told it.
    Keep,
    /// Nothing is stored, as if the request had not been sent: the next request with the key runs, and it may be
    /// another one, unless an earlier attempt has failed, which may have done something. For answers that say that nothing
    /// was done.
    Release,
    /// The attempt has failed: the next request with the key runs, if it is the same one. After as many attempts as the
    /// ledger allows the key is dead. For answers after which the work is to be done again.
    Retry,
    /// An operator is to find out whether the effect happened; until then the key is refused.
    Hold,
}

impl Fate {
    /// The fates of [`Policy::draft`](crate::Policy::draft).
    ///
    /// | status | fate |
    /// |---|---|
    /// | 401, 408, 409, 423, 425, 429 | `Release`: says that the request was not worked on, and may be sent again |
    /// | other 2xx, 3xx, 4xx | `Keep` |
    /// | 1xx, 5xx | `Retry` |
    pub fn draft(status: StatusCode) -> Self {
        match status.as_u16() {
            401 | 408 | 409 | 423 | 425 | 429 => Self::Release,
            200..=499 => Self::Keep,
            _ => Self::Retry,
        }
    }

    /// The fates of [`Policy::stripe`](crate::Policy::stripe).
    ///
    /// | status | fate |
    /// |---|---|
    /// | 400, 401, 408, 409, 423, 425, 429 | `Release`: refused before the work began, bad parameters among them |
    /// | all others, 500 and the like among them | `Keep` |
    pub fn stripe(status: StatusCode) -> Self {
        match status.as_u16() {
            400 | 401 | 408 | 409 | 423 | 425 | 429 => Self::Release,
            _ => Self::Keep,
        }
    }
}

/// Put by a handler into the extensions of its response: [`Fate::Release`], whatever its status. For a request that was
/// refused before anything was done, such as by the validation of its fields.
///
/// ```
/// use axum::response::{IntoResponse, Response};
/// use axum::{Extension, http::StatusCode};
/// use firstseen_tower::DoNotStore;
///
/// fn bad_amount() -> Response {
///     (StatusCode::BAD_REQUEST, Extension(DoNotStore), "the amount is negative").into_response()
/// }
/// # assert!(bad_amount().extensions().get::<DoNotStore>().is_some());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DoNotStore;

/// Which headers of a response are stored and replayed. Never those of one connection (`Connection` and what it names,
/// `Transfer-Encoding` and the like), nor `Content-Length`, which follows from the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptHeaders {
    is_allow_list: bool,
    names: Vec<HeaderName>,
}

impl KeptHeaders {
    /// Keeps all but these.
    pub fn all_but(names: impl IntoIterator<Item = HeaderName>) -> Self {
        Self { is_allow_list: false, names: names.into_iter().collect() }
    }

    /// Keeps these and no others.
    pub fn only(names: impl IntoIterator<Item = HeaderName>) -> Self {
        Self { is_allow_list: true, names: names.into_iter().collect() }
    }

    /// Returns those that are kept.
    pub(crate) fn of(&self, headers: &HeaderMap) -> HeaderMap {
        let mut kept = HeaderMap::new();
        for (name, value) in headers {
            if self.names.contains(name) == self.is_allow_list && !is_of_connection(name, headers) {
                kept.append(name.clone(), value.clone());
            }
        }
        kept
    }
}

impl Default for KeptHeaders {
    /// All but `Date`, which the server sets anew, and `Set-Cookie`, which belongs to the session of the first request.
    fn default() -> Self {
        Self::all_but([DATE, SET_COOKIE])
    }
}

fn is_of_connection(name: &HeaderName, headers: &HeaderMap) -> bool {
    const NAMES: [HeaderName; 9] = [
        CONNECTION,
        CONTENT_LENGTH,
        HeaderName::from_static("keep-alive"),
        PROXY_AUTHENTICATE,
        HeaderName::from_static("proxy-connection"),
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ];
    let is_named = |value: &http::HeaderValue| {
        let options = value.as_bytes().split(|byte| *byte == b',');
        options
            .into_iter()
            .any(|option| option.trim_ascii().eq_ignore_ascii_case(name.as_str().as_bytes()))
    };
    NAMES.contains(name) || headers.get_all(CONNECTION).iter().any(is_named)
}

#[cfg(test)]
mod tests {
    use super::{Fate, KeptHeaders};
    use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let fields = fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let mut headers = HeaderMap::new();
        fields.for_each(|(name, value)| {
            headers.append(name, value);
        });
        headers
    }

    #[test]
    fn headers_of_one_connection_are_never_kept() {
        let sent = headers(&[
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("trailer", "x-sum"),
            ("upgrade", "h2c"),
            ("content-length", "3"),
            ("x-kept", "1"),
            ("x-kept", "2"),
        ]);
        let wanted = headers(&[("x-kept", "1"), ("x-kept", "2")]);
        assert_eq!(KeptHeaders::default().of(&sent), wanted);
        let all = sent.keys().cloned().collect::<Vec<_>>();
        assert_eq!(KeptHeaders::only(all).of(&sent), wanted);
    }

    #[test]
    fn lists_say_which_others_are_kept() {
        let sent = headers(&[("date", "now"), ("set-cookie", "id=1"), ("location", "/1")]);
        let location = HeaderName::from_static("location");
        let wanted = headers(&[("location", "/1")]);
        assert_eq!(KeptHeaders::default().of(&sent), wanted);
        assert_eq!(KeptHeaders::only([location.clone()]).of(&sent), wanted);
        let wanted = headers(&[("date", "now"), ("set-cookie", "id=1")]);
        assert_eq!(KeptHeaders::all_but([location]).of(&sent), wanted);
    }

    #[test]
    fn rule_79_the_presets_keep_what_their_tables_say() {
        for status in 100..1000 {
            let status = StatusCode::from_u16(status).unwrap();
            let released = [401, 408, 409, 423, 425, 429].contains(&status.as_u16());
            let draft = match status.as_u16() / 100 {
                _ if released => Fate::Release,
                2..=4 => Fate::Keep,
                _ => Fate::Retry,
            };
            assert_eq!(Fate::draft(status), draft, "{status}");
            let is_refused = released || status == StatusCode::BAD_REQUEST;
            let stripe = if is_refused { Fate::Release } else { Fate::Keep };
            assert_eq!(Fate::stripe(status), stripe, "{status}");
        }
    }
}
