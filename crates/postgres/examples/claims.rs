//! Payments, each made once, by claims in Postgres: copy this file and put your work into `pay`.
//!
//! Have a server, and a database in which this role may create a schema. Then start this program as often as you like, also several
//! at once; kill it, kill the server. A payment is booked in the transaction of its claim, so it is there once, whatever happens.
//!
//! ```sh
//! cargo run --release --package firstseen-postgres --example claims-postgres -- postgres://postgres@localhost/postgres
//! ```
//!
//! A project of its own depends on
//!
//! ```toml
//! firstseen-postgres = { path = "firstseen/crates/postgres" } # where you have it
//! firstseen-shared = { path = "firstseen/crates/shared" } # where you have it
//! tokio = { version = "1", features = ["macros", "rt-multi-thread"] }
//! ```

#![allow(clippy::disallowed_macros, reason = "a program prints")]

use firstseen_postgres::{PostgresOptions, PostgresStore};
use firstseen_shared::{Begin, Dedup, LedgerOptions, SharedLedger, Ttl};
use std::time::Duration;

type Error = Box<dyn std::error::Error + Send + Sync>;

const WEEK: Ttl = Ttl::from_millis(7 * 24 * 3_600_000);

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "postgres://postgres@localhost/postgres".to_owned());

    // The tables: by this program, or by your own tool from the SQL files in `migrations`.
    let options = PostgresOptions::new().schema("firstseen_example");
    PostgresStore::migrate(&url, &options).await?;
    let store = PostgresStore::open(&url, options).await?;
    let create = "CREATE TABLE IF NOT EXISTS firstseen_example.payments (id text, cents bigint)";
    store.pool().get().await?.batch_execute(create).await?;

    // Once a minute is enough; here, once. Any number of processes may do it.
    println!("{:?}", store.maintain().await?);

    // Once for each namespace, so that no transaction with a claim keeps others waiting that claim other ids.
    store.register("payments", Ttl::FOREVER).await?;

    // 1. The effect is in this database: claim and effect in one transaction. Each payment arrives twice.
    let (mut booked, mut duplicates) = (0, 0);
    for n in 0..100 {
        for _ in 0..2 {
            if pay(&store, &format!("payment-{n}"), 1_000).await? {
                booked += 1;
            } else {
                duplicates += 1;
            }
        }
    }
    println!("{booked} booked, {duplicates} duplicates");

    // 2. The effect is elsewhere, and may be lost or made twice around a crash: a claim is enough.
    let seen = Dedup::new(store.clone(), "page-views", WEEK)?;
    let views = ["a", "b", "a"];
    for (view, claim) in views.iter().zip(seen.claim_batch(&views).await?) {
        println!("view {view}: {claim:?}");
    }

    // 3. The effect is elsewhere, and its result is needed again: a ledger, with a lease while the work goes on.
    let policies = LedgerOptions::new().lease(Duration::from_secs(30)).result_ttl(WEEK);
    let ledger = SharedLedger::new(store, "charges", policies)?;
    match ledger.begin("order-17", None).await? {
        Begin::Started(attempt) => {
            // Call the bank here, with `attempt.token()` or the id as its idempotency key.
            attempt.complete("receipt 4711").await?;
            println!("charged");
        }
        Begin::Completed(record) => {
            let receipt = record.result().map(String::from_utf8_lossy);
            println!("charged before: {receipt:?}");
        }
        refused => println!("not now: {refused:?}"),
    }
    Ok(())
}

/// Books a payment, once. After an error, also if the answer to the commit was lost, call it again.
async fn pay(store: &PostgresStore, id: &str, cents: i64) -> Result<bool, Error> {
    let mut client = store.pool().get().await?;
    let transaction = client.transaction().await?;
    let claim = store.claim_in(&transaction, "payments", id.as_bytes(), Ttl::FOREVER).await?;
    if claim.is_first_seen() {
        let sql = "INSERT INTO firstseen_example.payments (id, cents) VALUES ($1, $2)";
        transaction.execute(sql, &[&id, &cents]).await?;
    }
    transaction.commit().await?;
    Ok(claim.is_first_seen())
}
