//! The store is away, slow, or has given the key to somebody else. Nothing fails open.

use crate::call::{Call, Heard};
use crate::faulty::Fault;
use crate::site::{Gate, Runs, Setup, Site, until};
use axum::response::IntoResponse;
use firstseen_shared::ErrorKind;
use firstseen_tower::{Policy, Unrecorded, stored_response};
use std::time::Duration;
use tokio::task::JoinHandle;

const AWAY: Fault = Fault::Fails(ErrorKind::Unavailable);

fn send(site: &Site, call: &Call) -> JoinHandle<Heard> {
    let (call, client, address) = (call.clone(), site.client.clone(), site.address.clone());
    tokio::spawn(async move { call.send(&client, &address).await.unwrap() })
}

async fn gated(setup: Setup) -> (Site, Gate) {
    let gate = Gate::new();
    let site = Site::start(setup, {
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

#[tokio::test]
async fn rule_9_while_the_store_is_away_no_handler_runs() {
    let (site, runs) = Site::counting_with(Setup::impatient(Policy::draft())).await;
    let call = Call::post("/pay").key("k");
    for (kind, status, code, after) in [
        (ErrorKind::Unavailable, 503, "store-unavailable", Some("1")),
        (ErrorKind::Environment, 503, "store-unavailable", Some("1")),
        (ErrorKind::Damaged, 500, "store-fault", None),
        (ErrorKind::Schema, 500, "store-fault", None),
        (ErrorKind::Invalid, 500, "store-fault", None),
    ] {
        site.store().set_begin(Fault::Fails(kind));
        site.send(&call).await.assert_refused(status, code, after);
    }
    assert_eq!((runs.count(), site.counters().unavailable), (0, 5));
    site.store().set_begin(Fault::None);
    site.send(&call).await.assert_first(201, "run 1, 0 bytes");
}

#[tokio::test]
async fn a_store_that_is_slow_to_begin_begins_for_nobody() {
    let setup = Setup::new(Policy::draft().begin_max(Duration::from_millis(50)));
    let runs = Runs::default();
    let site = Site::start(setup, {
        let runs = runs.clone();
        move |request| {
            let runs = runs.clone();
            async move { runs.answer(request).await }
        }
    })
    .await;
    site.store().set_begin(Fault::Waits);
    let call = Call::post("/pay").key("k");
    site.send(&call).await.assert_refused(503, "store-unavailable", Some("1"));
    site.store().set_begin(Fault::None);
    // What has begun after all is handed back, and not kept until its lease ends.
    until("it is handed back", || site.counters().in_flight == 0).await;
    assert_eq!(runs.count(), 0);
    // Not even which request it was.
    let another = call.clone().body("another");
    site.send_until_begun(&another).await.assert_first(201, "run 1, 7 bytes");
}

#[tokio::test]
async fn whether_a_key_belongs_to_another_request_is_not_said_while_the_store_is_away() {
    let (site, runs) = Site::counting(Policy::draft()).await;
    let call = Call::post("/pay").key("k");
    site.send(&call).await.assert_first(201, "run 1, 0 bytes");
    let another = call.body("another");
    // It has answered that the key has another request, and not whether that was released.
    site.store().set_read(AWAY);
    site.send(&another).await.assert_refused(503, "store-unavailable", Some("1"));
    site.store().set_read(Fault::None);
    site.send(&another).await.assert_refused(422, "key-reused", None);
    assert_eq!(runs.count(), 1);
}

#[tokio::test]
async fn an_answer_waits_until_the_store_has_it() {
    let (site, gate) = gated(Setup::impatient(Policy::draft())).await;
    let call = Call::post("/pay").key("k");
    site.store().set_end(AWAY);
    let first = send(&site, &call);
    until("the handler runs", || gate.came.count() == 1).await;
    gate.open(1);
    // Longer than the ledger's own patience.
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(!first.is_finished(), "it was answered before it was recorded");
    site.store().set_end(Fault::None);
    first.await.unwrap().assert_first(200, "run 1");
    site.send(&call).await.assert_replayed(200, "run 1");
}

#[tokio::test]
async fn a_success_that_cannot_be_recorded_in_time_is_not_told_and_recorded_later() {
    let setup = || Setup::impatient(Policy::draft().record_max(Duration::from_millis(50)));
    let call = Call::post("/pay").key("k");
    let (site, gate) = gated(setup()).await;
    site.store().set_end(AWAY);
    gate.open(1);
    site.send(&call).await.assert_refused(503, "not-recorded", Some("1"));
    // Nobody else can have it meanwhile.
    site.send(&call).await.assert_refused(409, "key-in-use", Some("1"));
    site.store().set_end(Fault::None);
    until("it is recorded", || site.counters().in_flight == 0).await;
    site.send(&call).await.assert_replayed(200, "run 1");
    let counters = site.counters();
    assert_eq!((gate.came.count(), counters.unrecorded, counters.first), (1, 1, 0));

    // By policy it is told.
    let passing = Setup::impatient(setup().policy.unrecorded(Unrecorded::Pass));
    let (site, gate) = gated(passing).await;
    site.store().set_end(AWAY);
    gate.open(1);
    site.send(&call).await.assert_first(200, "run 1");
    site.store().set_end(Fault::None);
    until("it is recorded", || site.counters().in_flight == 0).await;
    site.send(&call).await.assert_replayed(200, "run 1");
}

#[tokio::test]
async fn a_lost_answer_of_the_store_to_the_record_is_asked_for_again() {
    let (site, gate) = gated(Setup::impatient(Policy::draft())).await;
    let call = Call::post("/pay").key("k");
    // The store does it, and its answer does not come within the patience of one try.
    site.store().set_end(Fault::Late(Duration::from_secs(3_600)));
    let first = send(&site, &call);
    gate.open(1);
    let is_done = || async {
        let record = site.ledger.get(Site::id("k")).await.unwrap();
        record.is_some_and(|record| record.result().is_some())
    };
    while !is_done().await {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    site.store().set_end(Fault::None);
    first.await.unwrap().assert_first(200, "run 1");
    assert_eq!(site.counters().first, 1);
}

#[tokio::test]
async fn rule_25_an_answer_whose_key_was_taken_over_is_not_told() {
    let (site, gate) = gated(Setup::new(Policy::draft())).await;
    let call = Call::post("/pay").key("k").body("10 euros");
    // An operator forgets the key while the handler runs; the next request has it then.
    let first = send(&site, &call);
    until("the handler runs", || gate.came.count() == 1).await;
    assert!(site.ledger.forget(Site::id("k")).await.unwrap());
    let second = send(&site, &call);
    until("the second runs, too", || gate.came.count() == 2).await;
    gate.open(1);
    first.await.unwrap().assert_refused(409, "taken-over", Some("1"));
    gate.open(1);
    second.await.unwrap().assert_first(200, "run 2");
    site.send(&call).await.assert_replayed(200, "run 2");
    assert_eq!(site.counters().lost, 1);
}

#[tokio::test]
async fn rule_25_where_the_other_is_done_its_answer_is_told() {
    let (site, gate) = gated(Setup::new(Policy::draft())).await;
    let call = |key: &str| Call::post("/pay").key(key).body("10 euros");
    let other = axum::http::Response::builder().status(201).body("the other's").unwrap();
    for (key, is_same) in [("same", true), ("another", false)] {
        let first = send(&site, &call(key));
        until("the handler runs", || site.counters().in_flight == 1).await;
        let id = Site::id(key);
        let record = loop {
            // It may not have begun yet.
            match site.ledger.get(&id).await.unwrap() {
                Some(record) => break record,
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        };
        site.ledger.forget(&id).await.unwrap();
        let fingerprint = record.fingerprint.filter(|_| is_same);
        let attempt = site.ledger.begin(&id, fingerprint).await.unwrap().started().unwrap();
        attempt.complete(stored_response(&other)).await.unwrap();
        gate.open(1);
        let heard = first.await.unwrap();
        if is_same {
            heard.assert_replayed(201, "the other's");
        } else {
            heard.assert_refused(409, "taken-over", Some("1"));
        }
    }
}

#[tokio::test]
async fn rule_29_the_lease_is_renewed_while_a_handler_runs() {
    // On a machine with other work a short lease may end before it can be renewed; then with a longer one.
    for lease in [300, 1_000, 4_000, 15_000].map(Duration::from_millis) {
        if outlasts_its_lease(lease).await {
            return;
        }
    }
    panic!("no lease is renewed");
}

/// Whether a key stays in use for several leases; if so, its answer is told.
async fn outlasts_its_lease(lease: Duration) -> bool {
    let setup = Setup::new(Policy::draft()).options(|options| options.lease(lease));
    let (site, gate) = gated(setup).await;
    let call = Call::post("/pay").key("k");
    let first = send(&site, &call);
    until("it was begun", || gate.came.count() == 1 || first.is_finished()).await;
    let end = tokio::time::Instant::now() + lease * 4;
    while tokio::time::Instant::now() < end {
        if first.is_finished() || site.counters().lost > 0 {
            return false;
        }
        // Whoever comes when the lease has ended waits at the gate.
        let other = send(&site, &call);
        until("it is answered, or waits", || other.is_finished() || gate.came.count() > 1).await;
        if gate.came.count() > 1 {
            return false;
        }
        other.await.unwrap().assert_refused(409, "key-in-use", Some("1"));
        tokio::time::sleep(lease / 10).await;
    }
    gate.open(1);
    let heard = first.await.unwrap();
    let was_in_time = heard.status() == 200;
    if was_in_time {
        heard.assert_first(200, "run 1");
    }
    was_in_time
}

#[tokio::test]
async fn rule_97_a_handler_whose_lease_is_lost_is_stopped_and_its_answer_not_stored() {
    for fault in [Fault::LeaseEnded, AWAY] {
        let lease = Duration::from_millis(300);
        let setup = Setup::impatient(Policy::draft()).options(|options| options.lease(lease));
        let (site, gate) = gated(setup).await;
        let call = Call::post("/pay").key("k");
        site.store().set_renew(fault);
        let first = send(&site, &call);
        // It waits at the gate, and nobody opens.
        first.await.unwrap().assert_refused(503, "lease-ended", Some("1"));
        assert_eq!(site.counters().lost, 1, "{fault:?}");
        site.store().set_renew(Fault::None);
        let mut heard;
        loop {
            gate.open(1);
            heard = site.send(&call).await;
            // Its lease lasts a little longer for the store than for its owner; and on a machine with other work the next
            // one's may end, too.
            if heard.status() != 409 && heard.code() != "lease-ended" {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        heard.assert_first(200, &format!("run {}", gate.came.count()));
    }
}
