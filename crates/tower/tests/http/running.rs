//! Rule 76: the same request while the first is at work.

use crate::call::{Call, Heard};
use crate::site::{Gate, Setup, Site, until};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use firstseen_tower::{Policy, WhileRunning};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Waits long enough for everything.
const WAIT: WhileRunning = WhileRunning::Wait(crate::site::LATE);

/// A handler that waits at the gate, and then answers with its number, and with this status the first time.
async fn gated(policy: Policy, first: StatusCode) -> (Site, Gate) {
    let gate = Gate::new();
    let site = Site::start(Setup::new(policy), {
        let gate = gate.clone();
        move |_| {
            let gate = gate.clone();
            async move {
                gate.pass().await;
                let count = gate.came.count();
                let status = if count == 1 { first } else { StatusCode::OK };
                (status, format!("run {count}")).into_response()
            }
        }
    })
    .await;
    (site, gate)
}

fn send(site: &Site, call: &Call) -> JoinHandle<Heard> {
    let (call, client, address) = (call.clone(), site.client.clone(), site.address.clone());
    tokio::spawn(async move { call.send(&client, &address).await.unwrap() })
}

#[tokio::test]
async fn rule_76_while_the_first_is_at_work_others_are_refused_with_409() {
    let policy = Policy::draft().retry_after(Duration::from_millis(1_500));
    let (site, gate) = gated(policy, StatusCode::OK).await;
    let call = Call::post("/pay").key("k");
    let first = send(&site, &call);
    until("the handler runs", || gate.came.count() == 1).await;
    for _ in 0..3 {
        site.send(&call).await.assert_refused(409, "key-in-use", Some("2"));
    }
    // Other keys are not held up.
    gate.open(2);
    site.send(&Call::post("/pay").key("l")).await.assert_first(200, "run 2");
    first.await.unwrap();
    assert!(site.send(&call).await.is_replay());
    let counters = site.counters();
    assert_eq!((counters.conflicts, counters.first, counters.replayed), (3, 2, 1));
}

#[tokio::test]
async fn rule_76_where_the_policy_says_so_others_wait_and_are_told_the_same() {
    let (site, gate) = gated(Policy::draft().while_running(WAIT), StatusCode::OK).await;
    let call = Call::post("/pay").key("k");
    let all: Vec<_> = (0..20).map(|_| send(&site, &call)).collect();
    until("all are asked for", || site.counters().in_flight == 20).await;
    gate.open(1);
    let mut replays = 0;
    for heard in all {
        let heard = heard.await.unwrap();
        assert_eq!((heard.status(), heard.text()), (200, "run 1"));
        replays += u64::from(heard.is_replay());
    }
    assert_eq!((replays, gate.came.count()), (19, 1));
}

#[tokio::test]
async fn rule_76_a_wait_has_an_end() {
    let wait = WhileRunning::Wait(Duration::from_millis(50));
    let (site, gate) = gated(Policy::draft().while_running(wait), StatusCode::OK).await;
    let call = Call::post("/pay").key("k");
    let first = send(&site, &call);
    until("the handler runs", || gate.came.count() == 1).await;
    site.send(&call).await.assert_refused(409, "key-in-use", Some("1"));
    gate.open(1);
    first.await.unwrap().assert_first(200, "run 1");
}

#[tokio::test]
async fn rule_76_who_waits_runs_itself_when_the_first_has_failed() {
    let (site, gate) =
        gated(Policy::draft().while_running(WAIT), StatusCode::INTERNAL_SERVER_ERROR).await;
    let call = Call::post("/pay").key("k");
    let first = send(&site, &call);
    until("the handler runs", || gate.came.count() == 1).await;
    let second = send(&site, &call);
    until("the second waits", || site.counters().in_flight == 2).await;
    gate.open(2);
    first.await.unwrap().assert_first(500, "run 1");
    second.await.unwrap().assert_first(200, "run 2");
    let counters = site.counters();
    assert_eq!((counters.failed, counters.first), (1, 1));
}

#[tokio::test]
async fn rule_84_who_goes_away_while_it_waits_does_not_run() {
    let (site, gate) =
        gated(Policy::draft().while_running(WAIT), StatusCode::INTERNAL_SERVER_ERROR).await;
    let call = Call::post("/pay").key("k");
    let first = send(&site, &call);
    until("the handler runs", || gate.came.count() == 1).await;
    let second = send(&site, &call);
    until("the second waits", || site.counters().in_flight == 2).await;
    second.abort();
    until("the second has gone", || site.counters().gone == 1).await;
    gate.open(2);
    first.await.unwrap().assert_first(500, "run 1");
    until("nothing is in flight", || site.counters().in_flight == 0).await;
    assert_eq!(gate.came.count(), 1);
}

#[tokio::test]
async fn rule_4_of_many_that_come_at_once_one_runs() {
    let (site, gate) = gated(Policy::draft(), StatusCode::OK).await;
    gate.open(1_000);
    for key in 0..10 {
        let call = Call::post("/pay").key(&format!("key {key}"));
        let all: Vec<_> = (0..20).map(|_| send(&site, &call)).collect();
        let mut firsts = 0;
        for heard in all {
            let heard = heard.await.unwrap();
            match heard.status() {
                409 => heard.assert_refused(409, "key-in-use", Some("1")),
                200 => firsts += u64::from(!heard.is_replay()),
                other => panic!("{other}"),
            }
        }
        assert_eq!((firsts, gate.came.count()), (1, key + 1));
    }
}
