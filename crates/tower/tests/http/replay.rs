//! Rules 74 and 75: the same request is told the same answer, another one is refused.

use crate::call::Call;
use crate::site::{Gate, Runs, Setup, Site, until};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::{HeaderName, HeaderValue, LOCATION};
use axum::response::{IntoResponse, Response};
use firstseen_tower::{KeptHeaders, Policy, stored_response};
use std::time::Duration;

const RAW: &[u8] = b"\x00\xff\r\n\"{}\x80";

/// An answer with all that can be lost of one.
async fn full_answer(_: Request) -> Response {
    let mut response = (StatusCode::ACCEPTED, RAW).into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        ("location", &b"/payments/17"[..]),
        ("x-many", b"one"),
        ("x-many", b"two"),
        ("x-raw", b"\xe9\xff"),
        ("set-cookie", b"session=1"),
        ("idempotency-replayed", b"certainly"),
    ] {
        let value = HeaderValue::from_bytes(value).unwrap();
        headers.append(HeaderName::from_static(name), value);
    }
    response
}

#[tokio::test]
async fn rule_74_status_headers_and_body_are_replayed_and_marked() {
    let site = Site::start(Setup::new(Policy::draft()), full_answer).await;
    let call = Call::post("/pay?x=1").key("k").body("10 euros");
    let first = site.send(&call).await;
    assert_eq!((first.status(), &first.body[..]), (202, RAW));
    assert_eq!(first.header("set-cookie"), Some("session=1"));
    assert!(!first.headers.contains_key("idempotency-replayed"), "the handler cannot say so");

    for _ in 0..2 {
        let again = site.send(&call).await;
        assert!(again.is_replay());
        assert_eq!((again.status, &again.body), (first.status, &first.body));
        let mut wanted = first.headers.clone();
        wanted.remove("set-cookie");
        wanted.remove("date");
        let mut headers = again.headers.clone();
        headers.remove("idempotency-replayed");
        assert!(headers.remove("date").is_some(), "the server dates what it sends");
        assert_eq!(headers, wanted);
    }
    let counters = site.counters();
    assert_eq!((counters.first, counters.replayed), (1, 2));
}

#[tokio::test]
async fn rule_74_the_policy_says_which_headers_are_replayed_and_how_a_replay_is_marked() {
    let policy = Policy::draft()
        .kept_headers(KeptHeaders::only([LOCATION, HeaderName::from_static("set-cookie")]))
        .replay_header(HeaderName::from_static("x-again"));
    let site = Site::start(Setup::new(policy), full_answer).await;
    let call = Call::post("/pay").key("k");
    assert_eq!(site.send(&call).await.header("x-again"), None);
    let again = site.send(&call).await;
    assert_eq!(again.header("x-again"), Some("true"));
    assert_eq!(again.header("location"), Some("/payments/17"));
    assert_eq!(again.header("set-cookie"), Some("session=1"));
    for dropped in ["x-many", "x-raw", "content-type", "idempotency-replayed"] {
        assert!(!again.headers.contains_key(dropped), "{dropped}");
    }
}

#[tokio::test]
async fn rule_75_another_request_under_a_used_key_is_refused_and_told_nothing() {
    let (site, runs) = Site::counting(Policy::draft()).await;
    let call = Call::post("/pay?a=1").key("k").body("10 euros");
    site.send(&call).await.assert_first(201, "run 1, 8 bytes");
    for other in [
        call.clone().body("11 euros"),
        call.clone().body(""),
        Call { path: "/pay?a=2".to_owned(), ..call.clone() },
        Call { path: "/pay".to_owned(), ..call.clone() },
        Call { path: "/refund?a=1".to_owned(), ..call.clone() },
        Call { method: axum::http::Method::PATCH, ..call.clone() },
    ] {
        let heard = site.send(&other).await;
        heard.assert_refused(422, "key-reused", None);
        assert!(!heard.text().contains("run 1"), "{}", heard.text());
    }
    // Headers do not count, unless the policy names them.
    site.send(&call.header("x-trace", "2")).await.assert_replayed(201, "run 1, 8 bytes");
    assert_eq!((runs.count(), site.counters().mismatches), (1, 6));
}

#[tokio::test]
async fn rule_75_the_policy_says_what_counts_and_which_status_is_answered() {
    let policy = Policy::draft()
        .mismatch_status(StatusCode::CONFLICT)
        .fingerprint_headers([HeaderName::from_static("x-account")])
        .fingerprint_body(|_, body| body.to_ascii_lowercase());
    let (site, _) = Site::counting(policy).await;
    let call = Call::post("/pay").key("k").header("x-account", "1").body("EUR 10");
    site.send(&call).await.assert_first(201, "run 1, 6 bytes");
    site.send(&call.clone().body("eur 10")).await.assert_replayed(201, "run 1, 6 bytes");
    site.send(&call.clone().body("eur 11")).await.assert_refused(409, "key-reused", None);
    let other = Call::post("/pay").key("k").header("x-account", "2").body("EUR 10");
    site.send(&other).await.assert_refused(409, "key-reused", None);
}

#[tokio::test]
async fn rule_21_another_request_while_the_first_is_at_work_is_a_mismatch() {
    let gate = Gate::new();
    let site = Site::start(Setup::new(Policy::draft()), {
        let gate = gate.clone();
        move |_| {
            let gate = gate.clone();
            async move {
                gate.pass().await;
                "done".into_response()
            }
        }
    })
    .await;
    let call = Call::post("/pay").key("k").body("one");
    let first = tokio::spawn({
        let (call, client, address) = (call.clone(), site.client.clone(), site.address.clone());
        async move { call.send(&client, &address).await.unwrap() }
    });
    until("the handler runs", || gate.came.count() == 1).await;
    site.send(&call.body("two")).await.assert_refused(422, "key-reused", None);
    gate.open(1);
    first.await.unwrap().assert_first(200, "done");
}

#[tokio::test]
async fn a_key_counts_as_new_when_its_time_is_over() {
    let runs = Runs::default();
    let ttl = Duration::from_millis(50);
    let setup = Setup::new(Policy::draft()).options(|options| options.result_ttl(ttl));
    let site = Site::start(setup, {
        let runs = runs.clone();
        move |request| {
            let runs = runs.clone();
            async move { runs.answer(request).await }
        }
    })
    .await;
    let call = Call::post("/pay").key("k");
    site.send(&call).await.assert_first(201, "run 1, 0 bytes");
    tokio::time::sleep(ttl).await;
    // Another payload, too.
    site.send(&call.body("abc")).await.assert_first(201, "run 2, 3 bytes");
}

#[tokio::test]
async fn rule_11_a_stored_answer_that_cannot_be_read_is_an_error_and_the_handler_does_not_run() {
    let (site, runs) = Site::counting(Policy::draft()).await;
    let call = Call::post("/pay").key("k");
    let attempt = site.ledger.begin(Site::id("k"), None).await.unwrap().started().unwrap();
    attempt.complete("receipt 4711").await.unwrap();
    site.send(&call).await.assert_refused(500, "store-fault", None);
    assert_eq!(runs.count(), 0);

    // What an operator stores in the layer's own form is replayed.
    let attempt = site.ledger.begin(Site::id("l"), None).await.unwrap().started().unwrap();
    let response = axum::http::Response::builder().status(201).body("receipt 4711").unwrap();
    attempt.complete(stored_response(&response)).await.unwrap();
    site.send(&Call::post("/pay").key("l")).await.assert_replayed(201, "receipt 4711");
    assert_eq!(runs.count(), 0);
}
