//! Two processes that share the claims of a server: each order is worked on once, whoever sees it first.
//!
//! ```text
//! valkey-server --appendonly yes --appendfsync always       # or redis-server
//! cargo run --package firstseen-valkey --example claims-valkey     # [redis://localhost:6379/]
//! ```
//!
//! What it promises: of the two processes one works on each order. Run again, it works on none, for a week. If a process is
//! killed between its claim and its work, that order is not worked on: where that must not be, use a ledger (`SharedLedger`).
//! What a server keeps when it dies depends on how it is set up: see the table on the front page of the crate.
//!
//! A project of its own depends on
//!
//! ```toml
//! firstseen-shared = { path = "firstseen/crates/shared" } # where you have it
//! firstseen-valkey = { path = "firstseen/crates/valkey" } # where you have it
//! tokio = { version = "1", features = ["macros", "rt"] }
//! ```

#![allow(clippy::disallowed_macros, reason = "a program prints what it has done")]

use firstseen_shared::{Claim, Dedup, Ttl};
use firstseen_valkey::{ValkeyOptions, ValkeyStore};
use std::error::Error;
use std::process::{Command, Stdio};
use std::time::Duration;

const ORDERS: u32 = 1_000;
const WEEK: Duration = Duration::from_secs(7 * 24 * 3_600);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "redis://localhost:6379/".to_owned());
    match arguments.next() {
        Some(name) => consume(&url, &name).await,
        None => start_two(&url),
    }
}

/// One of the two: goes through all orders, and works on those that it sees first.
async fn consume(url: &str, name: &str) -> Result<(), Box<dyn Error>> {
    let store = ValkeyStore::connect(url, ValkeyOptions::new().prefix("example")).await?;
    let orders = Dedup::new(store, "orders", Ttl::from(WEEK))?;
    let (mut first, mut seen) = (0, 0);
    for number in 0..ORDERS {
        match orders.claim(format!("order-{number}")).await? {
            Claim::FirstSeen => first += 1, // the work
            Claim::Duplicate { .. } => seen += 1,
        }
    }
    println!("{name}: worked on {first} orders, and left {seen} to others");
    Ok(())
}

fn start_two(url: &str) -> Result<(), Box<dyn Error>> {
    let start = |name: &str| {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([url, name]).stdin(Stdio::null()).spawn()
    };
    let processes = [start("east")?, start("west")?];
    for mut process in processes {
        if !process.wait()?.success() {
            return Err("a process has failed; see above".into());
        }
    }
    Ok(())
}
