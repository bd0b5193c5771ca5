//! Rule 84: the client goes away while the handler runs; and the end of a program.

use crate::call::Call;
use crate::site::{Gate, LATE, Setup, Site, until};
use axum::response::IntoResponse;
use firstseen_tower::Policy;
use std::time::Duration;

async fn gated(policy: Policy) -> (Site, Gate) {
    let gate = Gate::new();
    let site = Site::start(Setup::new(policy), {
        let gate = gate.clone();
        move |_| {
            let gate = gate.clone();
            async move {
                gate.pass().await;
                format!("run {}", gate.came.count()).into_response()
            }
        }
    });
    (site.await, gate)
}

/// Sends a request and goes away once its handler runs.
async fn send_and_go(site: &Site, gate: &Gate, call: &Call) {
    let before = gate.came.count();
    // A client of its own: aborting the request closes its connection.
    let (call, address) = (call.clone(), site.address.clone());
    let sent = tokio::spawn(async move {
        let _ = call.send(&crate::call::client(), &address).await;
    });
    until("the handler runs", || gate.came.count() > before).await;
    sent.abort();
    assert!(sent.await.unwrap_err().is_cancelled());
}

#[tokio::test]
async fn rule_84_a_handler_whose_client_has_gone_goes_on_and_is_recorded() {
    let (site, gate) = gated(Policy::draft()).await;
    let call = Call::post("/pay").key("k");
    send_and_go(&site, &gate, &call).await;
    site.send(&call).await.assert_refused(409, "key-in-use", Some("1"));
    gate.open(1);
    until("it is recorded", || site.counters().first == 1).await;
    site.send(&call).await.assert_replayed(200, "run 1");
    let counters = site.counters();
    assert_eq!((gate.came.count(), counters.first, counters.unheard), (1, 1, 1));
}

#[tokio::test]
async fn rule_84_an_orderly_end_waits_for_handlers_whose_clients_have_gone() {
    let (site, gate) = gated(Policy::draft()).await;
    send_and_go(&site, &gate, &Call::post("/pay").key("k")).await;
    let handle = site.handle.clone();
    assert_eq!(handle.finished(Duration::from_millis(20)).await, 1, "it is still at work");
    let finished = tokio::spawn(async move { handle.finished(LATE).await });
    gate.open(1);
    assert_eq!(finished.await.unwrap(), 0);
    assert_eq!(site.counters().first, 1);
    assert_eq!(site.handle.finished(Duration::ZERO).await, 0);
}

#[tokio::test]
async fn a_handler_that_takes_too_long_is_stopped_and_a_retry_runs() {
    let (site, gate) = gated(Policy::draft().work_max(Duration::from_millis(50))).await;
    let call = Call::post("/pay").key("k");
    site.send(&call).await.assert_refused(503, "handler-too-long", Some("1"));
    // Dropped: nobody waits at the gate any more.
    let mut heard;
    loop {
        gate.open(1);
        heard = site.send(&call).await;
        // On a machine with other work it may take too long once more, although the gate is open.
        if heard.code() != "handler-too-long" {
            break;
        }
    }
    let runs = gate.came.count();
    heard.assert_first(200, &format!("run {runs}"));
    assert!(runs > 1);
    assert_eq!(site.counters().failed, runs - 1);
}
