//! Payments over HTTP, each charged once: copy this file and put your work into `charge`.
//!
//! A client that hears nothing sends its request again, with the same key, and is told the answer of the first. Kill the
//! server while it charges, start it again, and send the request again: it is charged again only if the server died between
//! the charge and the record of it, and `charge` has a key that makes this harmless.
//!
//! ```sh
//! cargo run --release --package firstseen-tower --example payments
//! ```
//!
//! ```sh
//! pay() { curl -i localhost:3000/payments -H 'authorization: Bearer anna' -H 'content-type: application/json' "$@"; }
//! pay -H 'idempotency-key: "8e03978e-40d5"' -d '{"cents":1000}'   # 201, after a second
//! pay -H 'idempotency-key: "8e03978e-40d5"' -d '{"cents":1000}'   # the same, at once, idempotency-replayed: true
//! pay -H 'idempotency-key: "8e03978e-40d5"' -d '{"cents":9900}'   # 422: the key is for another request
//! pay -d '{"cents":1000}'                                         # 400: no key
//! pay -H 'idempotency-key: "0b1a-c2"' -d '{"cents":-1}'           # 400, and nothing is stored: put it right
//! pay -H 'idempotency-key: "0b1a-c2"' -d '{"cents":1}'            # 201
//! pay -H 'idempotency-key: "77-f0"' -d '{"cents":5}' & sleep 0.3; pay -H 'idempotency-key: "77-f0"' -d '{"cents":5}'; wait # 409
//! ```
//!
//! The store is in the folder for temporary files; give another as first argument, and an address as second.
//!
//! A project of its own depends on
//!
//! ```toml
//! firstseen = { path = "firstseen" } # where you have it
//! firstseen-shared = { path = "firstseen/crates/shared" } # where you have it
//! firstseen-tower = { path = "firstseen/crates/tower" } # where you have it
//! tokio = { version = "1", features = ["macros", "rt-multi-thread", "signal", "time"] }
//! axum = { version = "0.8", default-features = false, features = ["http1", "json", "tokio"] }
//! serde_json = "1"
//! ```

#![allow(clippy::disallowed_macros, reason = "a program prints")]

use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use firstseen::Store;
use firstseen_shared::{Embedded, SharedLedger};
use firstseen_tower::{
    DoNotStore, IdempotencyLayer, KeyedAttempt, Policy, Principals, ledger_options,
};
use std::path::PathBuf;
use std::time::Duration;

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| std::env::temp_dir().join("firstseen-example-tower"));
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:3000".to_owned());

    // The ledger: answers are kept for a day. A store that many machines share takes the place of `Embedded` here.
    let store = Embedded::new(Store::open(folder.join("seen.db"))?).leases_end_with_process();
    let ledger = SharedLedger::new(store, "payments", ledger_options())?;

    // Keys belong to who sends them, as the header says that is checked below.
    let layer = IdempotencyLayer::new(ledger, Principals::header(AUTHORIZATION), Policy::draft())?;
    let handle = layer.handle();
    let router = Router::new()
        .route("/payments", post(charge))
        .layer(layer)
        // The last that is added is the first that a request comes to.
        .layer(from_fn(check_who_it_is));

    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!("listening on {}, the store is in {}", listener.local_addr()?, folder.display());
    let stopped = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    axum::serve(listener, router).with_graceful_shutdown(stopped).await?;
    // Charges whose clients have gone are finished, too.
    let left = handle.finished(Duration::from_secs(30)).await;
    println!("{left} were left at work; {:?}", handle.counters());
    Ok(())
}

/// The work for one payment. It runs once for each key, and what it returns is stored before it is sent.
async fn charge(
    Extension(attempt): Extension<KeyedAttempt>,
    Json(payment): Json<serde_json::Value>,
) -> Response {
    let Some(cents) = payment["cents"].as_u64() else {
        // Nothing was done: the client may put it right and use its key again.
        let why = "cents must be a whole number, not below zero\n";
        return (StatusCode::BAD_REQUEST, Extension(DoNotStore), why).into_response();
    };
    // Call the bank here, with `attempt.effect_key()` as its idempotency key. Answer 5xx if it fails: the client may try again.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let receipt = format!("charged {cents} cents, receipt {}\n", &attempt.effect_key()[..8]);
    (StatusCode::CREATED, receipt).into_response()
}

/// Authentication comes before the layer, or anybody could ask for the answers of others. Put yours here.
async fn check_who_it_is(request: Request, next: Next) -> Response {
    match request.headers().get(AUTHORIZATION) {
        Some(token) if token == "Bearer anna" || token == "Bearer bert" => next.run(request).await,
        _ => StatusCode::UNAUTHORIZED.into_response(),
    }
}
