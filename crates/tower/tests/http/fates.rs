//! Rules 78 and 79: what becomes of a key, by what the handler answers.

use crate::call::{Call, Heard};
use crate::faulty::Fault;
use crate::site::{LATE, Runs, Setup, Site};
use axum::Extension;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use firstseen_shared::{Backoff, OnLeaseEnd};
use firstseen_tower::{DoNotStore, Fate, Policy, WhileRunning, ledger_options, stored_response};
use std::time::Duration;

/// Answers with the status that the request names in `x-answer`, and with the number of the call.
async fn obedient(setup: Setup) -> (Site, Runs) {
    let runs = Runs::default();
    let site = Site::start(setup, {
        let runs = runs.clone();
        move |request: Request| {
            let number = runs.one_more();
            async move { obey(&request, number) }
        }
    });
    (site.await, runs)
}

fn obey(request: &Request, number: u64) -> Response {
    let wanted = request.headers()["x-answer"].to_str().unwrap();
    let text = format!("run {number}");
    match wanted {
        "panic" => panic!("asked to"),
        "invalid" => (StatusCode::BAD_REQUEST, Extension(DoNotStore), text).into_response(),
        status => (status.parse::<StatusCode>().unwrap(), text).into_response(),
    }
}

fn answer(key: &str, wanted: &str) -> Call {
    Call::post("/pay").key(key).header("x-answer", wanted)
}

#[tokio::test]
async fn rule_79_answers_that_are_kept_are_replayed_and_the_others_run_again() {
    let (site, runs) = obedient(Setup::new(Policy::draft())).await;
    let mut number = 0;
    for status in ["200", "201", "204", "302", "400", "402", "403", "404", "410", "422"] {
        number += 1;
        let first = site.send(&answer(status, status)).await;
        // What the handler would answer by now does not count.
        let again = site.send(&answer(status, "500")).await;
        assert!(!first.is_replay() && again.is_replay(), "{status}");
        assert_eq!((again.status(), &again.body), (first.status(), &first.body), "{status}");
        assert_eq!(runs.count(), number, "{status}");
    }
    for status in ["401", "408", "409", "423", "425", "429", "500", "502", "503", "504"] {
        for wanted in [status, "200"] {
            number += 1;
            let heard = site.send(&answer(status, wanted)).await;
            heard.assert_first(wanted.parse().unwrap(), &format!("run {number}"));
        }
        assert!(site.send(&answer(status, "500")).await.is_replay(), "{status}");
    }
    let counters = site.counters();
    assert_eq!((counters.first, counters.released, counters.failed), (20, 6, 4));
}

#[tokio::test]
async fn rule_79_with_stripes_habits_a_500_is_kept_and_a_400_is_not() {
    let (site, runs) = obedient(Setup::new(Policy::stripe())).await;
    let is_replay = |heard: &Heard| heard.header("idempotent-replayed") == Some("true");
    for status in ["200", "402", "404", "500", "503"] {
        let first = site.send(&answer(status, status)).await;
        let again = site.send(&answer(status, "200")).await;
        assert!(!is_replay(&first) && is_replay(&again), "{status}");
        assert_eq!((again.status(), &again.body), (first.status(), &first.body), "{status}");
    }
    assert_eq!(runs.count(), 5);
    for status in ["400", "401", "409", "429"] {
        for wanted in [status, "200"] {
            assert!(!is_replay(&site.send(&answer(status, wanted)).await), "{status}");
        }
    }
    let mismatch = site.send(&answer("200", "200").body("other")).await;
    mismatch.assert_refused(400, "key-reused", None);
}

#[tokio::test]
async fn rule_79_the_policy_chooses_the_fate_of_each_status() {
    let policy = Policy::draft().fates(|status| match status.as_u16() {
        402 => Fate::Release,
        404 => Fate::Retry,
        410 => Fate::Hold,
        503 => Fate::Keep,
        _ => Fate::draft(status),
    });
    let (site, _) = obedient(Setup::new(policy)).await;
    for (status, second) in [("402", "run 2"), ("404", "run 4")] {
        site.send(&answer(status, status)).await;
        site.send(&answer(status, "200")).await.assert_first(200, second);
    }
    site.send(&answer("503", "503")).await.assert_first(503, "run 5");
    site.send(&answer("503", "200")).await.assert_replayed(503, "run 5");
    site.send(&answer("410", "410")).await.assert_first(410, "run 6");
    site.send(&answer("410", "200")).await.assert_refused(409, "outcome-unknown", Some("60"));
}

#[tokio::test]
async fn rule_78_after_a_failed_validation_or_a_conflict_nothing_is_stored() {
    let (site, runs) = obedient(Setup::new(Policy::draft())).await;
    for (n, wanted) in ["invalid", "409"].into_iter().enumerate() {
        let number = n as u64 * 2;
        site.send(&answer(wanted, wanted).body("typo")).await;
        // Not even which request it was: it may be put right.
        let corrected = site.send(&answer(wanted, "200").body("corrected")).await;
        corrected.assert_first(200, &format!("run {}", number + 2));
        let replayed = site.send(&answer(wanted, "200").body("corrected")).await;
        replayed.assert_replayed(200, &format!("run {}", number + 2));
    }
    assert_eq!((runs.count(), site.counters().released), (4, 2));
}

#[tokio::test]
async fn a_corrected_request_was_told_now_and_then_that_its_key_belongs_to_the_released_one() {
    let (site, _) = obedient(Setup::new(Policy::draft())).await;
    for n in 0..400 {
        let key = format!("k{n}");
        site.send(&answer(&key, "invalid").body("typo")).await;
        let corrected = site.send(&answer(&key, "200").body("corrected")).await;
        assert_eq!(corrected.status(), 200, "round {n}: {corrected:?}");
    }
    assert_eq!((site.counters().released, site.counters().mismatches), (400, 0));
}

#[tokio::test]
async fn a_released_key_whose_record_the_store_ends_late_is_waited_for() {
    let (site, _) = obedient(Setup::new(Policy::draft())).await;
    site.store().set_end(Fault::Kept(Duration::from_millis(100)));
    site.send(&answer("k", "invalid").body("typo")).await;
    site.store().set_end(Fault::None);
    site.send(&answer("k", "200").body("corrected")).await.assert_first(200, "run 2");

    // Not for ever.
    let policy = Policy::draft().begin_max(Duration::from_millis(50));
    let (site, runs) = obedient(Setup::new(policy)).await;
    site.store().set_end(Fault::Kept(LATE * 10));
    site.send_until_begun(&answer("k", "invalid").body("typo")).await;
    let corrected = answer("k", "200").body("corrected");
    site.send_until_begun(&corrected).await.assert_refused(409, "key-in-use", Some("1"));
    assert_eq!(runs.count(), 1);
}

#[tokio::test]
async fn rule_78_a_release_after_a_failure_keeps_which_request_it_was() {
    let (site, _) = obedient(Setup::new(Policy::draft())).await;
    // Whether this one did something is not known.
    site.send(&answer("k", "500").body("one")).await.assert_first(500, "run 1");
    site.send(&answer("k", "429").body("one")).await.assert_first(429, "run 2");
    site.send(&answer("k", "200").body("two")).await.assert_refused(422, "key-reused", None);
    site.send(&answer("k", "200").body("one")).await.assert_first(200, "run 3");
}

#[tokio::test]
async fn a_handler_that_panics_has_failed_and_a_retry_runs() {
    let (site, _) = obedient(Setup::new(Policy::draft())).await;
    site.send(&answer("k", "panic")).await.assert_refused(500, "handler-failed", None);
    let record = site.ledger.get(Site::id("k")).await.unwrap().unwrap();
    assert_eq!(record.history[0].reason, "the handler panicked: asked to");
    site.send(&answer("k", "200")).await.assert_first(200, "run 2");
    assert_eq!(site.counters().failed, 1);
}

#[tokio::test]
async fn where_the_ledger_holds_a_failure_waits_for_an_operator() {
    let hold = |policy| Setup::new(policy).options(|o| o.on_lease_end(OnLeaseEnd::Hold));
    let (site, runs) = obedient(hold(Policy::draft())).await;
    for (key, wanted) in [("found", "500"), ("not found", "panic")] {
        site.send(&answer(key, wanted)).await;
        site.send(&answer(key, "200")).await.assert_refused(409, "outcome-unknown", Some("60"));
    }
    assert_eq!(runs.count(), 2);
    // The operator has found one effect, and not the other.
    let response = axum::http::Response::builder().status(201).body("receipt 4711").unwrap();
    assert!(site.ledger.settle(Site::id("found"), stored_response(&response)).await.unwrap());
    assert!(site.ledger.redrive(Site::id("not found")).await.unwrap());
    site.send(&answer("found", "200")).await.assert_replayed(201, "receipt 4711");
    site.send(&answer("not found", "200")).await.assert_first(200, "run 3");
    assert_eq!(site.counters().refused, 2);
}

#[tokio::test]
async fn a_key_that_fails_too_often_is_dead() {
    let setup = Setup::new(Policy::draft()).options(|options| options.attempts_max(3));
    let (site, runs) = obedient(setup).await;
    for n in 1..=3 {
        site.send(&answer("k", "500")).await.assert_first(500, &format!("run {n}"));
    }
    site.send(&answer("k", "200")).await.assert_refused(500, "given-up", None);
    assert_eq!(runs.count(), 3);
}

#[tokio::test]
async fn a_retry_that_comes_too_early_for_the_ledger_is_told_when_to_come() {
    let backoff = Backoff::constant(Duration::from_secs(40));
    let setup = Setup::new(Policy::draft()).options(|options| options.backoff(backoff));
    let (site, runs) = obedient(setup).await;
    site.send(&answer("k", "500")).await.assert_first(500, "run 1");
    let heard = site.send(&answer("k", "200")).await;
    let left: u64 = heard.header("retry-after").unwrap().parse().unwrap();
    heard.assert_refused(503, "retry-not-due", Some(&left.to_string()));
    assert!((10..=40).contains(&left), "{left}");
    assert_eq!(runs.count(), 1);

    // Where others wait, this is waited for, too, if there is time.
    let policy = Policy::draft().while_running(WhileRunning::Wait(LATE));
    let backoff = Backoff::constant(Duration::from_millis(100));
    let setup = Setup::new(policy).options(|options| options.backoff(backoff));
    let (site, _) = obedient(setup).await;
    site.send(&answer("k", "500")).await.assert_first(500, "run 1");
    site.send(&answer("k", "200")).await.assert_first(200, "run 2");
}

#[tokio::test]
async fn an_error_of_the_service_is_passed_on_and_the_key_may_be_tried_again() {
    use firstseen_shared::{Embedded, SharedLedger};
    use firstseen_tower::{IdempotencyLayer, Principals};
    use tower::{Layer, ServiceExt};

    let dir = tempfile::tempdir().unwrap();
    let store = firstseen::Store::open(dir.path().join("seen.db")).unwrap();
    let ledger = SharedLedger::new(Embedded::new(store), "http", ledger_options()).unwrap();
    let layer = IdempotencyLayer::new(ledger, Principals::everyone(), Policy::draft()).unwrap();
    let runs = Runs::default();
    let service = layer.layer(tower::service_fn({
        let runs = runs.clone();
        move |_: axum::http::Request<firstseen_tower::Body<axum::body::Body>>| {
            let answer = match runs.one_more() {
                1 => Err("the service is full"),
                _ => Ok(axum::http::Response::new(axum::body::Body::from("done"))),
            };
            std::future::ready(answer)
        }
    }));
    let request = || {
        let request = axum::http::Request::post("/pay").header("idempotency-key", "\"k\"");
        request.body(axum::body::Body::empty()).unwrap()
    };
    let error = service.clone().oneshot(request()).await.unwrap_err();
    assert_eq!(error, "the service is full");
    let response = service.clone().oneshot(request()).await.unwrap();
    assert!(!response.headers().contains_key("idempotency-replayed"));
    let response = service.oneshot(request()).await.unwrap();
    assert!(response.headers().contains_key("idempotency-replayed"));
    let counters = layer.handle().counters();
    assert_eq!((counters.failed, counters.first, counters.replayed), (1, 1, 1));
}
