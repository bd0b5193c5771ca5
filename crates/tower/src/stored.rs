//! What is stored of a response, as bytes. They are in stores for as long as results are kept, and programs of another
//! version read them: a change of the layout takes another version number.
//!
//! ```text
//! u8                  version: 1
//! u8                  kind: 0 a response; 1 too large to keep; 2 a stream; 3 nothing is kept
//! u16                 status
//! of a response:
//!   u32               number of headers
//!   u32, u32, ...     of each the length of its name and that of its value, then both
//!   ...               the body, to the end
//! ```
//!
//! Numbers have their highest byte first.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

const VERSION: u8 = 1;
const RESPONSE: u8 = 0;
const TOO_LARGE: u8 = 1;
const STREAMED: u8 = 2;
const RELEASED: u8 = 3;

/// What a record says of the answer.
#[derive(Debug)]
pub(crate) enum Stored {
    /// Here it is.
    Response(Response<Bytes>),
    /// The request was done, and its answer was not kept.
    Unkept(StatusCode, Unkept),
    /// Nothing is stored: the record is about to end, and the request can be sent again.
    Released,
}

/// Why an answer was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unkept {
    TooLarge,
    Streamed,
}

/// Why stored bytes are no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("it has version {0}, and this program reads version {VERSION}")]
    Version(u8),
    #[error("it is not what this layer has stored")]
    Damaged,
}

/// Returns the bytes by which a response is stored, for an operator who settles a held record with an answer: the next
/// request with its key is told this.
///
/// ```
/// let response = http::Response::builder().status(201).body("receipt 4711")?;
/// let result = firstseen_tower::stored_response(&response);
/// # assert!(result.ends_with(b"receipt 4711"));
/// # Ok::<(), http::Error>(())
/// ```
pub fn stored_response(response: &Response<impl AsRef<[u8]>>) -> Vec<u8> {
    encode(response.status(), response.headers(), response.body().as_ref())
}

pub(crate) fn encode(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length(headers, body.len()));
    begin(&mut bytes, RESPONSE, status);
    bytes.extend_from_slice(&(headers.len() as u32).to_be_bytes());
    for (name, value) in headers {
        bytes.extend_from_slice(&(name.as_str().len() as u32).to_be_bytes());
        bytes.extend_from_slice(&(value.len() as u32).to_be_bytes());
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(value.as_bytes());
    }
    bytes.extend_from_slice(body);
    bytes
}

/// How many bytes [`encode`] makes.
pub(crate) fn length(headers: &HeaderMap, body: usize) -> usize {
    let of_headers: usize =
        headers.iter().map(|(name, value)| 8 + name.as_str().len() + value.len()).sum();
    8 + of_headers + body
}

pub(crate) fn encode_unkept(status: StatusCode, why: Unkept) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4);
    let kind = match why {
        Unkept::TooLarge => TOO_LARGE,
        Unkept::Streamed => STREAMED,
    };
    begin(&mut bytes, kind, status);
    bytes
}

pub(crate) fn encode_released(status: StatusCode) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4);
    begin(&mut bytes, RELEASED, status);
    bytes
}

fn begin(bytes: &mut Vec<u8>, kind: u8, status: StatusCode) {
    bytes.extend_from_slice(&[VERSION, kind]);
    bytes.extend_from_slice(&status.as_u16().to_be_bytes());
}

pub(crate) fn decode(stored: &[u8]) -> Result<Stored, Unreadable> {
    match stored.first() {
        Some(&VERSION) => {}
        Some(&other) => return Err(Unreadable::Version(other)),
        None => return Err(Unreadable::Damaged),
    }
    read(stored).ok_or(Unreadable::Damaged)
}

fn read(stored: &[u8]) -> Option<Stored> {
    let (&[_, kind, high, low], rest) = stored.split_first_chunk()?;
    let status = StatusCode::from_u16(u16::from_be_bytes([high, low])).ok()?;
    match kind {
        RESPONSE => Some(Stored::Response(read_response(status, rest)?)),
        TOO_LARGE if rest.is_empty() => Some(Stored::Unkept(status, Unkept::TooLarge)),
        STREAMED if rest.is_empty() => Some(Stored::Unkept(status, Unkept::Streamed)),
        RELEASED if rest.is_empty() => Some(Stored::Released),
        _ => None,
    }
}

fn read_response(status: StatusCode, mut rest: &[u8]) -> Option<Response<Bytes>> {
    let mut headers = HeaderMap::new();
    for _ in 0..number(&mut rest)? {
        let (name_length, value_length) = (number(&mut rest)?, number(&mut rest)?);
        let name = HeaderName::from_bytes(take(&mut rest, name_length)?).ok()?;
        let value = HeaderValue::from_bytes(take(&mut rest, value_length)?).ok()?;
        headers.try_append(name, value).ok()?;
    }
    let mut response = Response::new(Bytes::copy_from_slice(rest));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Some(response)
}

fn number(rest: &mut &[u8]) -> Option<usize> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    usize::try_from(u32::from_be_bytes(*bytes)).ok()
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::{CONTENT_TYPE, LINK};

    fn sample() -> Response<Vec<u8>> {
        Response::builder()
            .status(201)
            .header(CONTENT_TYPE, "text/plain")
            .header(LINK, "</a>")
            .header(LINK, HeaderValue::from_bytes(b"</\xff>").unwrap())
            .body(vec![0, 255, b'\n'])
            .unwrap()
    }

    #[test]
    fn rule_74_what_is_stored_is_read_byte_for_byte() {
        let response = sample();
        let stored = stored_response(&response);
        assert_eq!(stored.len(), length(response.headers(), response.body().len()));
        let Ok(Stored::Response(read)) = decode(&stored) else { panic!() };
        assert_eq!((read.status(), read.headers()), (response.status(), response.headers()));
        assert_eq!(read.body(), response.body());
        let links: Vec<&[u8]> =
            read.headers().get_all(LINK).iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(links, [&b"</a>"[..], b"</\xff>"]);
    }

    #[test]
    fn the_layout_is_that_of_version_1() {
        let response =
            Response::builder().status(404).header("x-a", "b").body("gone").expect("a response");
        let golden = b"\x01\x00\x01\x94\x00\x00\x00\x01\x00\x00\x00\x03\x00\x00\x00\x01x-abgone";
        assert_eq!(stored_response(&response), golden);
        assert_eq!(encode_unkept(StatusCode::OK, Unkept::TooLarge), b"\x01\x01\x00\xc8");
        assert_eq!(encode_unkept(StatusCode::OK, Unkept::Streamed), b"\x01\x02\x00\xc8");
        assert_eq!(encode_released(StatusCode::OK), b"\x01\x03\x00\xc8");
    }

    #[test]
    fn marks_are_read_as_what_they_are() {
        for why in [Unkept::TooLarge, Unkept::Streamed] {
            let stored = encode_unkept(StatusCode::CREATED, why);
            let Ok(Stored::Unkept(status, read)) = decode(&stored) else { panic!() };
            assert_eq!((status, read), (StatusCode::CREATED, why));
        }
        let stored = encode_released(StatusCode::CONFLICT);
        assert!(matches!(decode(&stored), Ok(Stored::Released)));
    }

    #[test]
    fn rule_11_what_cannot_be_read_is_an_error() {
        let stored = stored_response(&sample());
        let body = sample().into_body().len();
        for end in 0..stored.len() - body {
            assert!(decode(&stored[..end]).is_err(), "{end} bytes of {}", stored.len());
        }
        assert_eq!(decode(b"receipt 4711").unwrap_err(), Unreadable::Version(b'r'));
        let mut newer = stored.clone();
        newer[0] = 2;
        assert_eq!(decode(&newer).unwrap_err(), Unreadable::Version(2));
        for damaged in [
            &b"\x01\x04\x00\xc8"[..],
            b"\x01\x01\x00\xc8more",
            b"\x01\x00\x00\x01\x00\x00\x00\x00",
            b"\x01\x00\x00\xc8\xff\xff\xff\xff",
            b"\x01\x00\x00\xc8\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00 ",
        ] {
            assert_eq!(decode(damaged).unwrap_err(), Unreadable::Damaged, "{damaged:?}");
        }
    }
}
