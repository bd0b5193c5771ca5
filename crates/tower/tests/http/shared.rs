//! Stores that many machines share, at real servers.

use crate::call::Call;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use firstseen_nats_kv::{NatsKvOptions, NatsKvStore};
use firstseen_servers::{nats, valkey};
use firstseen_shared::{DedupStore, SharedLedger};
use firstseen_tower::{DoNotStore, IdempotencyLayer, Policy, Principals, ledger_options};
use firstseen_valkey::{ValkeyOptions, ValkeyStore};
use tower::ServiceExt;

async fn check(request: Request) -> Response {
    let is_typo = request.headers().contains_key("x-typo");
    let refused = (StatusCode::BAD_REQUEST, Extension(DoNotStore));
    if is_typo { refused.into_response() } else { StatusCode::CREATED.into_response() }
}

/// Sends what is refused, and what is put right as soon as that is heard, under a new key each time.
async fn puts_right<S: DedupStore>(store: S) {
    let ledger = SharedLedger::new(store, "http", ledger_options()).unwrap();
    let layer = IdempotencyLayer::new(ledger, Principals::everyone(), Policy::draft()).unwrap();
    let handle = layer.handle();
    let router = Router::new().fallback(check).layer(layer);
    for n in 0..400 {
        let call = Call::post("/pay").key(&format!("k{n}"));
        let (typo, right) = (call.clone().header("x-typo", "1").body("typo"), call.body("right"));
        for (call, status) in [(typo, 400), (right, 201)] {
            let mut response;
            loop {
                response = router.clone().oneshot(call.request(&call.path)).await.unwrap();
                // The server may not have run for a while.
                if response.status() != StatusCode::SERVICE_UNAVAILABLE {
                    break;
                }
            }
            assert_eq!(response.status(), status, "round {n}: {:?}", handle.counters());
        }
    }
}

#[tokio::test]
async fn a_corrected_request_was_told_that_its_key_belongs_to_the_released_one_with_valkey() {
    let server = valkey::start().await;
    let options = ValkeyOptions::new();
    puts_right(ValkeyStore::connect(&valkey::url(&server), options).await.unwrap()).await;
}

#[tokio::test]
async fn a_corrected_request_was_told_that_its_key_belongs_to_the_released_one_with_nats() {
    let server = nats::start().await;
    let options = NatsKvOptions::new();
    puts_right(NatsKvStore::connect(&nats::url(&server), options).await.unwrap()).await;
}
