//! Claim first, then work: **at most once**.
//!
//! What this pattern promises: an event whose id was claimed is never processed again while the claim is live, however
//! often the broker redelivers it and the consumer restarts.
//!
//! What it does not promise: if the consumer dies between the claim and the effect, the redelivered event is a
//! duplicate and its effect never happens. Use it where losing an event is better than repeating it (a notification, a
//! sample, a metric). Where it is not, see `reserve.rs`.
//!
//! Run it twice: the second run finds everything claimed.
//!
//! ```sh
//! cargo run --release --example claim
//! ```

use firstseen::{Claim, Store, days};
use std::io::Write as _;

const DELIVERIES: &str = include_str!("sample/events.ndjson");

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::temp_dir().join("firstseen-example-claim");
    let store = Store::builder(&path).ttl(days(7)).open()?;
    let mut out = std::io::stdout().lock();
    let (mut worked, mut skipped) = (0, 0);

    for batch in deliveries().chunks(100) {
        let ids: Vec<&str> = batch.iter().map(|event| event.id.as_str()).collect();
        // One log record for the whole batch, one result for each id.
        for (event, answer) in batch.iter().zip(store.claim_batch(&ids)?) {
            match answer {
                Claim::FirstSeen => {
                    worked += 1;
                    if worked <= 3 {
                        writeln!(out, "{} {}", event.id, event.kind)?; // the effect
                    }
                }
                Claim::Duplicate { .. } => skipped += 1,
            }
        }
        // Sync before acknowledging: the broker never redelivers acknowledged events, so if a power cut took their
        // claims, a repeat from elsewhere would be processed.
        store.sync()?;
        acknowledge(batch);
    }

    writeln!(out, "... worked on {worked} events, skipped {skipped} repeated deliveries")?;
    writeln!(out, "the store is {}; remove the folder to start again", path.display())?;
    store.close()?;
    Ok(())
}

/// An event, delivered at least once.
struct Event {
    id: String,
    kind: String,
}

/// Stands in for a broker: the sample that ships with the repository.
fn deliveries() -> Vec<Event> {
    let event = |line: &str| -> Option<Event> {
        let json: serde_json::Value = serde_json::from_str(line).ok()?;
        let text = |name: &str| json[name].as_str().map(str::to_owned);
        Some(Event { id: text("id")?, kind: text("type")? })
    };
    DELIVERIES.lines().filter_map(event).collect()
}

fn acknowledge(_batch: &[Event]) {}
