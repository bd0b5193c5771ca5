//! Rules 82 and 83: large bodies, and bodies without an end.

use crate::call::{Call, Heard};
use crate::site::{LATE, Runs, Setup, Site, until};
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use firstseen_tower::{LargeRequest, Policy, UnkeptAnswer};
use futures_util::{StreamExt, stream};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use std::convert::Infallible;
use std::future::{Future, ready};
use std::io::Error;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A server whose handler is given the number of its call.
async fn numbered<H, F>(setup: Setup, handler: H) -> (Site, Runs)
where
    H: Fn(u64) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    let runs = Runs::default();
    let site = Site::start(setup, {
        let runs = runs.clone();
        move |_: Request| handler(runs.one_more())
    });
    (site.await, runs)
}

/// Sends bytes as they are, and returns the connection.
async fn raw(site: &Site, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(&site.address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

/// Reads until the text has come, and returns all that came.
async fn heard(stream: &mut TcpStream, wanted: &str) -> String {
    let mut all = Vec::new();
    let read = async {
        while !String::from_utf8_lossy(&all).contains(wanted) {
            if stream.read_buf(&mut all).await.unwrap_or(0) == 0 {
                break;
            }
        }
    };
    tokio::time::timeout(LATE, read).await.expect("an answer in time");
    let all = String::from_utf8_lossy(&all).into_owned();
    assert!(all.contains(wanted), "{all}");
    all
}

#[tokio::test]
async fn rule_82_a_request_over_the_limit_is_refused_with_413() {
    let (site, runs) = Site::counting(Policy::draft().request_bytes_max(10)).await;
    let call = Call::post("/pay").key("k");
    let refused = site.send(&call.clone().body("01234567890")).await;
    refused.assert_refused(413, "request-too-large", None);
    assert_eq!((runs.count(), site.counters().invalid), (0, 1));
    // Nothing has begun: the key may be used.
    site.send(&call.body("0123456789")).await.assert_first(201, "run 1, 10 bytes");
}

#[tokio::test]
async fn rule_82_a_request_without_an_end_is_not_read_beyond_the_limit() {
    let (site, runs) = Site::counting(Policy::draft().request_bytes_max(10)).await;
    let head = "POST /pay HTTP/1.1\r\nhost: x\r\nidempotency-key: \"k\"\r\ntransfer-encoding: chunked\r\n\r\n";
    // The body never ends, and the answer comes all the same.
    let mut stream = raw(&site, &format!("{head}8\r\n01234567\r\n8\r\n89012345\r\n")).await;
    heard(&mut stream, "413 Payload Too Large").await;
    assert_eq!(runs.count(), 0);
}

#[tokio::test]
async fn rule_82_where_the_policy_says_so_a_large_request_passes_whole_and_unprotected() {
    let policy = Policy::draft().request_bytes_max(10).large_request(LargeRequest::PassUnprotected);
    let (site, _) = Site::counting(policy).await;
    let call = Call::post("/pay").key("k").body(vec![b'x'; 300_000]);
    for n in 1..=2 {
        site.send(&call).await.assert_first(201, &format!("run {n}, 300000 bytes"));
    }
    // Of unknown length, too.
    let head = "POST /pay HTTP/1.1\r\nhost: x\r\nidempotency-key: \"k\"\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunks = "6\r\n012345\r\n6\r\n678901\r\n3\r\n234\r\n0\r\n\r\n";
    let mut stream = raw(&site, &format!("{head}{chunks}")).await;
    heard(&mut stream, "run 3, 15 bytes").await;
    assert_eq!(site.counters().unprotected, 3);
}

#[tokio::test]
async fn rule_84_a_request_that_stops_coming_begins_nothing() {
    let policy = Policy::draft().receive_max(Duration::from_millis(100));
    let (site, runs) = Site::counting(policy).await;
    let head =
        "POST /pay HTTP/1.1\r\nhost: x\r\nidempotency-key: \"k\"\r\ncontent-length: 9\r\n\r\n";
    let mut stream = raw(&site, &format!("{head}01234")).await;
    let answer = heard(&mut stream, "request-too-slow").await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");

    // One whose client goes away breaks off.
    drop(raw(&site, &format!("{head}01234")).await);
    assert_eq!((runs.count(), *site.store().begins.lock().unwrap()), (0, 0));
    let whole = Call::post("/pay").key("k").body("012345678");
    site.send(&whole).await.assert_first(201, "run 1, 9 bytes");
}

fn of_length(length: usize) -> Response {
    let mut response = Response::new(Body::from(vec![b'x'; length]));
    response.headers_mut().insert("x-kept", HeaderValue::from_static("1"));
    response
}

/// The first is answered in full; then it is known to be done.
#[track_caller]
fn assert_done_but_not_kept(again: &Heard) {
    again.assert_refused(409, "answer-not-kept", None);
    assert!(again.text().contains("\"first_status\":200,"), "{}", again.text());
}

#[tokio::test]
async fn rule_82_an_answer_over_the_limit_passes_whole_and_a_retry_hears_that_it_was_done() {
    let policy = Policy::draft().response_bytes_max(1_000);
    let (site, runs) =
        numbered(Setup::new(policy), |number| ready(of_length(999 + number as usize))).await;
    for (key, length) in [("a", 1_000), ("b", 1_001)] {
        let first = site.send(&Call::post("/pay").key(key)).await;
        assert_eq!((first.status(), first.body.len(), first.is_whole), (200, length, true));
        let again = site.send(&Call::post("/pay").key(key)).await;
        if length > 1_000 {
            assert_done_but_not_kept(&again);
        } else {
            assert_eq!((again.is_replay(), &again.body), (true, &first.body));
        }
    }
    let counters = site.counters();
    assert_eq!((runs.count(), counters.first, counters.unkept), (2, 2, 1));
}

#[tokio::test]
async fn rule_82_headers_count_against_the_limit_of_the_ledger() {
    let setup = || Setup::new(Policy::draft()).options(|options| options.result_bytes_max(1_000));
    let call = Call::post("/pay").key("k");
    let (site, _) = numbered(setup(), |_| ready(of_length(990))).await;
    assert_eq!(site.send(&call).await.body.len(), 990);
    assert_done_but_not_kept(&site.send(&call).await);

    let (site, _) =
        numbered(setup(), |_| async { ([("x-long", "x".repeat(1_000))], "short").into_response() })
            .await;
    assert_eq!(site.send(&call).await.text(), "short");
    assert_done_but_not_kept(&site.send(&call).await);
}

#[tokio::test]
async fn rule_82_where_the_policy_says_so_an_answer_that_is_not_kept_is_made_again() {
    let policy = Policy::draft().response_bytes_max(10).unkept(UnkeptAnswer::Release);
    let (site, runs) = numbered(Setup::new(policy), |_| ready(of_length(11))).await;
    for _ in 0..2 {
        let heard = site.send(&Call::post("/pay").key("k")).await;
        assert_eq!((heard.status(), heard.body.len(), heard.is_replay()), (200, 11, false));
    }
    let counters = site.counters();
    assert_eq!((runs.count(), counters.released, counters.unkept), (2, 2, 2));
}

/// Comes now, and never ends.
fn endless(text: &'static str) -> Body {
    let first = stream::iter([Ok::<_, Infallible>(Bytes::from_static(text.as_bytes()))]);
    Body::from_stream(first.chain(stream::pending()))
}

#[tokio::test]
async fn rule_83_a_stream_passes_as_it_comes_and_a_retry_hears_that_it_was_done() {
    let (site, runs) =
        numbered(Setup::new(Policy::draft()), |_| async { Response::new(endless("tick\n")) }).await;
    let head =
        "POST /watch HTTP/1.1\r\nhost: x\r\nidempotency-key: \"k\"\r\ncontent-length: 0\r\n\r\n";
    let mut stream = raw(&site, head).await;
    heard(&mut stream, "tick\n").await;
    // While it goes on, it is done as far as its key is concerned.
    assert_done_but_not_kept(&site.send(&Call::post("/watch").key("k")).await);
    assert_eq!((runs.count(), site.counters().unkept), (1, 1));
    until("nothing is in flight", || site.counters().in_flight == 0).await;
}

#[tokio::test]
async fn rule_83_events_and_trailers_pass_and_are_not_kept() {
    let (site, _) = numbered(Setup::new(Policy::draft()), |_| async {
        // Its length is known, and yet it is one.
        let mut response = Response::new(Body::from("data: 1\n\n"));
        let kind = HeaderValue::from_static("Text/Event-Stream; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    })
    .await;
    let call = Call::post("/watch").key("k");
    assert_eq!(site.send(&call).await.text(), "data: 1\n\n");
    assert_done_but_not_kept(&site.send(&call).await);

    let (site, _) =
        numbered(Setup::new(Policy::draft()), |_| async { Response::new(with_trailers()) }).await;
    assert_eq!(site.send(&call).await.text(), "abc");
    assert_done_but_not_kept(&site.send(&call).await);
}

/// Says how long it is, and has trailers.
fn with_trailers() -> Body {
    struct Sized<B>(B);
    impl<B: http_body::Body + Unpin> http_body::Body for Sized<B> {
        type Data = B::Data;
        type Error = B::Error;
        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<B::Data>, B::Error>>> {
            std::pin::Pin::new(&mut self.0).poll_frame(cx)
        }
        fn size_hint(&self) -> http_body::SizeHint {
            http_body::SizeHint::with_exact(3)
        }
    }
    let mut trailers = axum::http::HeaderMap::new();
    trailers.insert(HeaderName::from_static("x-sum"), HeaderValue::from_static("17"));
    let frames = [Frame::data(Bytes::from_static(b"abc")), Frame::trailers(trailers)];
    Body::new(Sized(StreamBody::new(stream::iter(frames.map(Ok::<_, Error>)))))
}

#[tokio::test]
async fn an_answer_that_breaks_off_has_failed_and_a_retry_runs() {
    let (site, _) = numbered(Setup::new(Policy::draft()), |number| async move {
        if number > 1 {
            return "whole".into_response();
        }
        let frames = [Ok(Frame::data(Bytes::from_static(b"ha"))), Err(Error::other("no disk"))];
        // Its length is known, so that it is waited for.
        Response::new(Body::new(http_body_util::Limited::new(Known(frames.into()), 4)))
    })
    .await;
    let call = Call::post("/pay").key("k");
    site.send(&call).await.assert_refused(500, "answer-broken", None);
    site.send(&call).await.assert_first(200, "whole");
    site.send(&call).await.assert_replayed(200, "whole");
    assert_eq!(site.counters().failed, 1);
}

/// Frames that say that they are four bytes.
struct Known(std::collections::VecDeque<Result<Frame<Bytes>, Error>>);

impl http_body::Body for Known {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Error>>> {
        std::task::Poll::Ready(self.0.pop_front())
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(4)
    }
}

#[tokio::test]
async fn the_handler_reads_the_body_and_extensions_of_the_request() {
    let site = Site::start(Setup::new(Policy::draft()), |request: Request| async move {
        let (parts, body) = request.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        format!("{} {} {}", parts.method, parts.uri, String::from_utf8_lossy(&bytes))
            .into_response()
    })
    .await;
    let call = Call::post("/pay?a=1").key("k").body("10 euros");
    site.send(&call).await.assert_first(200, "POST /pay?a=1 10 euros");
}

#[tokio::test]
async fn the_handler_reads_the_trailers_of_the_request() {
    let site = Site::start(Setup::new(Policy::draft()), |request: Request| async move {
        let body = request.into_body().collect().await.unwrap();
        let sum = body.trailers().and_then(|trailers| trailers.get("x-sum").cloned());
        format!("the sum is {sum:?}").into_response()
    })
    .await;
    let head = "POST /pay HTTP/1.1\r\nhost: x\r\nidempotency-key: \"k\"\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut stream = raw(&site, &format!("{head}3\r\nabc\r\n0\r\nx-sum: 17\r\n\r\n")).await;
    heard(&mut stream, "the sum is Some(\"17\")").await;
}
