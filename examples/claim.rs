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
use std::path::Path;

const DELIVERIES: &str = include_str!("sample/events.ndjson");
pub(crate) const BATCH: usize = 100;

pub(crate) type Answer<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Answer {
    let path = std::env::temp_dir().join("firstseen-example-claim");
    let mut out = std::io::stdout().lock();
    let mut shown = 0;
    let effect = |event: &Event| {
        shown += 1;
        if shown <= 3 {
            writeln!(out, "{} {}", event.id, event.kind)?;
        }
        Ok(())
    };
    let (worked, skipped) = run(&path, &deliveries(), effect, |_batch| Ok(()))?;
    writeln!(out, "... worked on {worked} events, skipped {skipped} repeated deliveries")?;
    writeln!(out, "the store is {}; remove the folder to start again", path.display())?;
    Ok(())
}

/// Returns how many events it has worked on, and how many deliveries it has skipped.
pub(crate) fn run(
    path: &Path,
    deliveries: &[Event],
    mut effect: impl FnMut(&Event) -> Answer,
    mut acknowledge: impl FnMut(&[Event]) -> Answer,
) -> Answer<(usize, usize)> {
    let store = Store::builder(path).ttl(days(7)).open()?;
    let (mut worked, mut skipped) = (0, 0);
    for batch in deliveries.chunks(BATCH) {
        let ids: Vec<&str> = batch.iter().map(|event| event.id.as_str()).collect();
        // One log record for the whole batch, one result for each id.
        for (event, answer) in batch.iter().zip(store.claim_batch(&ids)?) {
            match answer {
                Claim::FirstSeen => {
                    worked += 1;
                    effect(event)?;
                }
                Claim::Duplicate { .. } => skipped += 1,
            }
        }
        // Sync before acknowledging: the broker never redelivers acknowledged events, so if a power cut took their
        // claims, a repeat from elsewhere would be processed.
        store.sync()?;
        acknowledge(batch)?;
    }
    store.close()?;
    Ok((worked, skipped))
}

/// An event, delivered at least once.
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) kind: String,
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
