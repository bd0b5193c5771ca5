//! Rule 77, and which requests need a key.

use crate::call::Call;
use crate::faulty::Fault;
use crate::site::Site;
use axum::http::{HeaderName, Method};
use axum::routing::any;
use axum::{Extension, Router};
use firstseen_shared::{Embedded, ErrorKind, SharedLedger};
use firstseen_tower::{
    IdempotencyLayer, KeyedAttempt, LargeRequest, Policy, Principals, ledger_options,
};
use http_body_util::BodyExt;
use tower::ServiceExt;

#[tokio::test]
async fn rule_77_a_key_that_is_missing_or_malformed_is_refused_with_400() {
    let (site, runs) = Site::counting(Policy::draft()).await;
    let long = "k".repeat(256);
    let cases = [
        (Call::post("/pay"), "key-missing"),
        (Call::post("/pay").header("idempotency-key", "8e03978e"), "key-malformed"),
        (Call::post("/pay").header("idempotency-key", ""), "key-malformed"),
        (Call::post("/pay").header("idempotency-key", "\"\""), "key-malformed"),
        (Call::post("/pay").header("idempotency-key", "\"open"), "key-malformed"),
        (Call::post("/pay").header("idempotency-key", "\"\u{e9}\""), "key-malformed"),
        (Call::post("/pay").key("a, b").key("a"), "key-repeated"),
        (Call::post("/pay").key("a").key("a"), "key-repeated"),
        (Call::post("/pay").key(&long), "key-too-long"),
    ];
    for (call, code) in &cases {
        site.send(call).await.assert_refused(400, code, None);
    }
    assert_eq!(runs.count(), 0);
    assert_eq!(site.counters().invalid, cases.len() as u64);
    assert_eq!(*site.store().begins.lock().unwrap(), 0, "the store was asked");

    site.send(&Call::post("/pay").key(&long[1..])).await.assert_first(201, "run 1, 0 bytes");
}

#[tokio::test]
async fn a_problem_is_what_the_draft_shows() {
    let policy = Policy::draft().documentation("https://api.example.com/idempotency").unwrap();
    let (site, _) = Site::counting(policy).await;
    let heard = site.send(&Call::post("/pay")).await;
    assert_eq!(heard.header("content-language"), Some("en"));
    assert_eq!(
        heard.header("link"),
        Some("<https://api.example.com/idempotency>; rel=\"describedby\"; type=\"text/html\"")
    );
    let start = "{\"type\":\"https://api.example.com/idempotency\",\"title\":\"Idempotency-Key is missing\",";
    assert!(heard.text().starts_with(start), "{}", heard.text());
    assert!(heard.text().ends_with(",\"status\":400}"), "{}", heard.text());
}

#[tokio::test]
async fn without_a_key_a_request_passes_where_none_is_required_and_runs_again() {
    let (site, runs) = Site::counting(Policy::draft().key_required(false)).await;
    for number in 1..=2 {
        let heard = site.send(&Call::post("/pay").body("abc")).await;
        heard.assert_first(201, &format!("run {number}, 3 bytes"));
    }
    // A bad key is not a missing one.
    let malformed = Call::post("/pay").header("idempotency-key", "a b");
    site.send(&malformed).await.assert_refused(400, "key-malformed", None);
    assert_eq!((runs.count(), site.counters().unprotected), (2, 2));
}

/// What a handler sees of its key, or that it has none.
async fn seen(attempt: Option<Extension<KeyedAttempt>>) -> String {
    attempt.map_or("none".to_owned(), |Extension(attempt)| format!("attempt {}", attempt.number()))
}

/// A handler that asks for it outright.
async fn required(Extension(attempt): Extension<KeyedAttempt>) -> String {
    format!("attempt {}", attempt.number())
}

#[tokio::test]
async fn a_handler_is_told_of_its_key_and_one_that_is_passed_unprotected_has_none() {
    let policy = Policy::stripe()
        .methods([Method::POST])
        .request_bytes_max(3)
        .large_request(LargeRequest::PassUnprotected);
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::new(firstseen::Store::open(dir.path().join("seen.db")).unwrap());
    let ledger = SharedLedger::new(store, "http", ledger_options()).unwrap();
    let layer = IdempotencyLayer::new(ledger, Principals::everyone(), policy).unwrap();
    let router =
        Router::new().route("/seen", any(seen)).route("/required", any(required)).layer(layer);
    let keyed = |method, path: &str| Call::new(method, path).key("k");
    for (call, heard) in [
        (keyed(Method::POST, "/seen"), "attempt 1"),
        (Call::post("/seen"), "none"),
        (keyed(Method::PUT, "/seen"), "none"),
        (keyed(Method::POST, "/seen").body("long"), "none"),
        (Call::post("/required").key("another"), "attempt 1"),
    ] {
        let response = router.clone().oneshot(call.request(&call.path)).await.unwrap();
        assert_eq!(response.status(), 200, "{} {:?}", call.path, call.headers);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, heard, "{} {:?}", call.path, call.headers);
    }
    let without = Call::post("/required");
    let response = router.oneshot(without.request(&without.path)).await.unwrap();
    assert_eq!(response.status(), 500, "axum has no such extension for it");
}

#[tokio::test]
async fn a_bare_key_is_the_same_as_in_quotes_where_stripes_habits_hold() {
    let (site, runs) = Site::counting(Policy::stripe()).await;
    let bare = Call::post("/pay").header("idempotency-key", "KG5LxwFBepaKHyUD");
    site.send(&bare).await.assert_first(201, "run 1, 0 bytes");
    for call in [bare, Call::post("/pay").key("KG5LxwFBepaKHyUD")] {
        let heard = site.send(&call).await;
        assert_eq!(heard.text(), "run 1, 0 bytes");
        assert_eq!(heard.header("idempotent-replayed"), Some("true"));
    }
    assert_eq!(runs.count(), 1);
}

#[tokio::test]
async fn methods_that_are_not_covered_pass_without_a_look_at_the_store() {
    let (site, runs) = Site::counting(Policy::draft()).await;
    site.store().set_begin(Fault::Fails(ErrorKind::Unavailable));
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::OPTIONS] {
        for call in [Call::new(method.clone(), "/a"), Call::new(method, "/a").key("k")] {
            assert_eq!(site.send(&call).await.status(), 201);
        }
    }
    assert_eq!((runs.count(), *site.store().begins.lock().unwrap()), (8, 0));
    site.send(&Call::new(Method::PATCH, "/a")).await.assert_refused(400, "key-missing", None);
}

#[tokio::test]
async fn methods_and_header_are_those_of_the_policy() {
    let policy = Policy::draft()
        .methods([Method::PUT])
        .key_header(HeaderName::from_static("x-request-key"))
        .key_bytes_max(3);
    let (site, runs) = Site::counting(policy).await;
    let put = Call::new(Method::PUT, "/a").header("x-request-key", "\"abc\"");
    site.send(&put).await.assert_first(201, "run 1, 0 bytes");
    site.send(&put).await.assert_replayed(201, "run 1, 0 bytes");
    let long = Call::new(Method::PUT, "/a").header("x-request-key", "\"abcd\"");
    site.send(&long).await.assert_refused(400, "key-too-long", None);
    site.send(&Call::post("/a")).await.assert_first(201, "run 2, 0 bytes");
    assert_eq!(runs.count(), 2);
}
