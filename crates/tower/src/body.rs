//! Bodies: reading one up to a limit, and the body that goes on from there.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The body of a request behind the layer, and of a response in front of it: bytes that the layer has read or made, or a
/// body that it passes through.
pub struct Body<B> {
    /// What comes first.
    ready: VecDeque<Bytes>,
    /// What comes then.
    rest: Rest<B>,
}

enum Rest<B> {
    Nothing,
    Trailers(HeaderMap),
    Body(Pin<Box<B>>),
}

impl<B> Body<B> {
    /// These bytes, and then perhaps trailers.
    pub(crate) fn full(bytes: Bytes, trailers: Option<HeaderMap>) -> Self {
        let ready = if bytes.is_empty() { VecDeque::new() } else { VecDeque::from([bytes]) };
        Self { ready, rest: trailers.map_or(Rest::Nothing, Rest::Trailers) }
    }

    pub(crate) fn passed(body: B) -> Self {
        Self { ready: VecDeque::new(), rest: Rest::Body(Box::pin(body)) }
    }
}

impl<B> http_body::Body for Body<B>
where
    B: http_body::Body<Data = Bytes>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if let Some(bytes) = self.ready.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        match std::mem::replace(&mut self.rest, Rest::Nothing) {
            Rest::Nothing => Poll::Ready(None),
            Rest::Trailers(trailers) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Rest::Body(mut body) => {
                let frame = body.as_mut().poll_frame(cx);
                self.rest = Rest::Body(body);
                frame
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ready.is_empty()
            && match &self.rest {
                Rest::Nothing => true,
                Rest::Trailers(_) => false,
                Rest::Body(body) => body.is_end_stream(),
            }
    }

    fn size_hint(&self) -> SizeHint {
        let ready: u64 = self.ready.iter().map(|bytes| bytes.len() as u64).sum();
        let Rest::Body(rest) = &self.rest else { return SizeHint::with_exact(ready) };
        let of_rest = rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(of_rest.lower().saturating_add(ready));
        if let Some(upper) = of_rest.upper().and_then(|upper| upper.checked_add(ready)) {
            hint.set_upper(upper);
        }
        hint
    }
}

impl<B> fmt::Debug for Body<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ready: usize = self.ready.iter().map(Bytes::len).sum();
        f.debug_struct("Body").field("ready", &ready).finish_non_exhaustive()
    }
}

/// A body, as far as it was read.
pub(crate) enum Read<B: http_body::Body> {
    /// All of it, with the trailers that it had.
    Whole(Bytes, Option<HeaderMap>),
    /// More than the limit: what was read is in front again.
    Longer(Body<B>),
    /// It broke off.
    Failed(B::Error),
}

/// Reads a body of at most `bytes_max` bytes. Holds at most twice that and one frame in memory.
pub(crate) async fn read<B>(body: B, bytes_max: usize) -> Read<B>
where
    B: http_body::Body<Data = Bytes>,
{
    let mut body = Box::pin(body);
    if body.size_hint().lower() > bytes_max as u64 {
        return Read::Longer(Body { ready: VecDeque::new(), rest: Rest::Body(body) });
    }
    let mut so_far = SoFar::default();
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => return Read::Failed(error),
        };
        match frame.into_data() {
            Ok(bytes) if bytes.len() > bytes_max - so_far.len() => {
                let ready = VecDeque::from([so_far.into_bytes(), bytes]);
                return Read::Longer(Body { ready, rest: Rest::Body(body) });
            }
            Ok(bytes) => so_far.push(bytes),
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    return Read::Whole(so_far.into_bytes(), Some(trailers));
                }
            }
        }
    }
    Read::Whole(so_far.into_bytes(), None)
}

/// The bytes read so far. Not copied if they are one frame, as most are; otherwise copied, since a frame of one byte may
/// keep a whole buffer alive.
#[derive(Default)]
struct SoFar {
    first: Bytes,
    all: BytesMut,
}

impl SoFar {
    fn len(&self) -> usize {
        self.first.len() + self.all.len()
    }

    fn push(&mut self, bytes: Bytes) {
        if self.len() == 0 {
            self.first = bytes;
            return;
        }
        self.all.extend_from_slice(&std::mem::take(&mut self.first));
        self.all.extend_from_slice(&bytes);
    }

    fn into_bytes(self) -> Bytes {
        if self.all.is_empty() { self.first } else { self.all.freeze() }
    }
}

#[cfg(test)]
mod tests {
    use super::{Body, Read, read};
    use bytes::Bytes;
    use futures_util::{FutureExt, stream};
    use http_body::{Body as _, Frame};
    use http_body_util::{BodyExt, Full, StreamBody};
    use std::convert::Infallible;

    fn data(text: &'static str) -> Frame<Bytes> {
        Frame::data(Bytes::from_static(text.as_bytes()))
    }

    /// These frames, and then an error if there is one.
    fn streamed(
        frames: Vec<Frame<Bytes>>,
        error: Option<&'static str>,
    ) -> impl http_body::Body<Data = Bytes, Error = &'static str> {
        StreamBody::new(stream::iter(frames.into_iter().map(Ok).chain(error.map(Err))))
    }

    fn read_now<B: http_body::Body<Data = Bytes>>(body: B, bytes_max: usize) -> Read<B> {
        read(body, bytes_max).now_or_never().expect("it is all there")
    }

    fn text_of<B>(body: B) -> String
    where
        B: http_body::Body<Data = Bytes, Error: std::fmt::Debug>,
    {
        let bytes = body.collect().now_or_never().unwrap().unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn rule_82_a_body_is_read_up_to_its_limit_and_not_beyond() {
        for (frames, limit) in [
            (vec![data("abc"), data("def")], 6),
            (vec![data("abcdef")], 6),
            (vec![data(""), data("abc"), data(""), data("def"), data("")], 6),
        ] {
            let Read::Whole(bytes, None) = read_now(streamed(frames, None), limit) else {
                panic!()
            };
            assert_eq!(bytes, "abcdef");
        }
        // The frame after the limit is an error that nobody comes to see.
        let frames = streamed(vec![data("abc"), data("def")], Some("read too far"));
        assert!(matches!(read_now(frames, 5), Read::Longer(_)));
        assert!(matches!(read_now(Full::new(Bytes::from("abcdef")), 5), Read::Longer(_)));
    }

    #[test]
    fn rule_82_a_body_over_its_limit_goes_on_with_all_of_its_bytes() {
        let frames = vec![data("abc"), data("def"), data("ghi")];
        let Read::Longer(body) = read_now(streamed(frames, None), 5) else { panic!() };
        assert_eq!((body.size_hint().lower(), body.size_hint().upper()), (6, None));
        assert_eq!(text_of(body), "abcdefghi");

        let Read::Longer(body) = read_now(Full::new(Bytes::from("abcdef")), 5) else { panic!() };
        assert_eq!(body.size_hint().exact(), Some(6));
        assert_eq!(text_of(body), "abcdef");
    }

    #[test]
    fn a_body_that_breaks_off_is_an_error() {
        let read = read_now(streamed(vec![data("abc")], Some("gone")), 6);
        assert!(matches!(read, Read::Failed("gone")));
    }

    #[test]
    fn trailers_are_kept() {
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-sum", "17".parse().unwrap());
        let frames = vec![data("abc"), Frame::trailers(trailers.clone())];
        let Read::Whole(bytes, read) = read_now(streamed(frames, None), 6) else { panic!() };
        assert_eq!(read.as_ref(), Some(&trailers));

        let body: Body<Full<Bytes>> = Body::full(bytes, read);
        assert!(!body.is_end_stream());
        let all: Result<_, Infallible> = body.collect().now_or_never().unwrap();
        let all = all.unwrap();
        assert_eq!(all.trailers(), Some(&trailers));
        assert_eq!(all.to_bytes(), "abc");
    }

    #[test]
    fn a_full_body_says_how_long_it_is() {
        let body: Body<Full<Bytes>> = Body::full(Bytes::from("abc"), None);
        assert_eq!(body.size_hint().exact(), Some(3));
        assert!(!body.is_end_stream());
        let empty: Body<Full<Bytes>> = Body::full(Bytes::new(), None);
        assert!(empty.is_end_stream());
    }
}
