//! Measures what the layer costs: requests a second on loopback, without it and with it, by clients that keep their connections.
//!
//! ```sh
//! cargo run --release --package firstseen-tower --example throughput
//! ```
//!
//! Client, server and store share the machine and one process. Arguments: how many requests each time (20,000), how many
//! clients (16), how often each is measured (5). Prints the median, and the lowest and highest.

#![allow(clippy::disallowed_macros, reason = "a program prints")]
#![allow(clippy::disallowed_methods, reason = "a program that measures needs the clock")]

use axum::Router;
use axum::http::{Request, StatusCode};
use axum::routing::post;
use bytes::Bytes;
use firstseen::{Durability, Store};
use firstseen_shared::{Embedded, SharedLedger};
use firstseen_tower::{IdempotencyLayer, Policy, Principals, ledger_options};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// What a client sends.
#[derive(Clone, Copy)]
enum Keys {
    New,
    /// One of a hundred that were done before.
    Old,
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |otherwise: u64| arguments.next().map_or(Ok(otherwise), |text| text.parse());
    let (requests, clients, times) = (number(20_000)?, number(16)?, number(5)?);
    println!("{requests} requests, {clients} clients, median of {times} (lowest, highest):");

    let bare = serve(router()).await?;
    let mut sites = vec![("without the layer".to_owned(), bare, Keys::New)];
    let mut folders = Vec::new();
    for (name, durability) in [("process", Durability::Process), ("disk", Durability::Disk)] {
        let folder = tempfile::tempdir()?;
        let store = Store::builder(folder.path().join("seen.db")).durability(durability).open()?;
        folders.push(folder);
        let store = Embedded::new(store).leases_end_with_process();
        let ledger = SharedLedger::new(store, "payments", ledger_options())?;
        let layer = IdempotencyLayer::new(ledger, Principals::everyone(), Policy::draft())?;
        let site = serve(router().layer(layer)).await?;
        sites.push((format!("new keys, {name}"), site.clone(), Keys::New));
        sites.push((format!("replays, {name}"), site, Keys::Old));
    }
    let serial = Arc::new(AtomicU64::new(0));
    let mut rates = vec![Vec::new(); sites.len()];
    // In turn, so that what changes on the machine meets all of them.
    for round in 0..=times {
        for ((_, site, keys), rates) in sites.iter().zip(&mut rates) {
            let rate = measure(site, *keys, requests, clients, &serial).await?;
            // The first round warms up.
            if round > 0 {
                rates.push(rate);
            }
        }
    }
    for ((name, ..), mut rates) in sites.iter().zip(rates) {
        rates.sort_by(f64::total_cmp);
        let (low, high) = (rates[0], rates[rates.len() - 1]);
        println!("{name:20} {:8.0} requests/s ({low:.0}, {high:.0})", rates[rates.len() / 2]);
    }
    Ok(())
}

fn router() -> Router {
    Router::new().route("/pay", post(|_: Bytes| async { (StatusCode::CREATED, "receipt 4711") }))
}

async fn serve(router: Router) -> Result<String, Error> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(format!("http://{address}/pay"))
}

/// Returns how many requests a second all clients make together.
async fn measure(
    site: &str,
    keys: Keys,
    requests: u64,
    clients: u64,
    serial: &Arc<AtomicU64>,
) -> Result<f64, Error> {
    let began = Instant::now();
    let all: Vec<_> = (0..clients)
        .map(|_| tokio::spawn(send(site.to_owned(), keys, requests / clients, Arc::clone(serial))))
        .collect();
    for client in all {
        client.await??;
    }
    Ok((requests / clients * clients) as f64 / began.elapsed().as_secs_f64())
}

async fn send(site: String, keys: Keys, count: u64, serial: Arc<AtomicU64>) -> Result<(), Error> {
    // A client of its own has a connection of its own.
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    for n in 0..count {
        let key = match keys {
            Keys::New => format!("\"new-{}\"", serial.fetch_add(1, Ordering::Relaxed)),
            Keys::Old => format!("\"old-{}\"", n % 100),
        };
        let request = Request::post(&site).header("idempotency-key", key);
        let response = client.request(request.body(Full::from("{\"cents\":1000}"))?).await?;
        let status = response.status();
        response.into_body().collect().await?;
        // Two clients may be the first with an old key.
        if status != StatusCode::CREATED && status != StatusCode::CONFLICT {
            return Err(format!("answered {status}").into());
        }
    }
    Ok(())
}
