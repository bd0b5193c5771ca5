//! Reserve, work, confirm, sync, acknowledge: **at least once, with a second effect only around a crash**. The pattern
//! for most consumers.
//!
//! What it promises: while the consumer lives, each event is processed by one worker, and a delivery that arrives
//! meanwhile gets `InProgress`. Nothing is claimed before `confirm`, so an event whose effect failed, or whose worker
//! died, is processed again when it is redelivered: no event is lost.
//!
//! What it does not promise: a crash between an effect and its claim being on disk repeats the effect. If the effect is
//! outside this process (an e-mail, a call to another system), pass the event id along as an idempotency key, so that
//! the other side can tell.
//!
//! ```sh
//! cargo run --release --example reserve
//! ```

use firstseen::{ErrorKind, Reserve, Store, days};
use std::io::Write;

pub(crate) type Answer<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Answer {
    let path = std::env::temp_dir().join("firstseen-example-reserve");
    let store = Store::builder(&path).ttl(days(7)).open()?;
    let mut out = std::io::stdout().lock();
    let mut attempts = 0;
    // The effect. A real one would pass `id` on as an idempotency key.
    let charge = |id: &str| {
        attempts += 1;
        if id == "pay-2" && attempts == 2 { Err("the bank did not answer".into()) } else { Ok(()) }
    };

    // Stands in for a broker. "pay-2" is delivered twice, and its first attempt will fail.
    let queue = ["pay-1", "pay-2", "pay-1", "pay-2", "pay-3"];
    let done = consume(&store, &queue, charge, &mut out)?;
    acknowledge(&done);
    writeln!(out, "acknowledged {} deliveries", done.len())?;
    writeln!(out, "the store is {}; remove the folder to start again", path.display())?;
    store.close()?;
    Ok(())
}

/// Works on deliveries. Returns those to acknowledge; the broker delivers the others again.
pub(crate) fn consume<'a>(
    store: &Store,
    queue: &[&'a str],
    mut charge: impl FnMut(&str) -> Answer,
    out: &mut impl Write,
) -> Answer<Vec<&'a str>> {
    let mut done = Vec::new();
    for &id in queue {
        let mut held = match store.reserve(id) {
            Ok(Reserve::FirstSeen(held)) => held,
            Ok(Reserve::Duplicate { first_seen }) => {
                writeln!(out, "{id}: done already, at {} ms", first_seen.as_millis())?;
                done.push(id);
                continue;
            }
            // Another worker has it; the broker will redeliver it.
            Ok(Reserve::InProgress) => continue,
            // May succeed later: not acknowledged, so it is redelivered.
            Err(e) if e.kind() == ErrorKind::Retry => continue,
            Err(e) => return Err(e.into()),
        };
        match charge(id) {
            Ok(()) => {
                held.confirm()?;
                writeln!(out, "{id}: charged")?;
                done.push(id);
            }
            Err(why) => {
                // Dropping without `confirm` releases the id: the next delivery is processed again.
                drop(held);
                writeln!(out, "{id}: {why}, will come again")?;
            }
        }
    }
    // One sync for everything confirmed, then the caller acknowledges all of it at once.
    store.sync()?;
    Ok(done)
}

fn acknowledge(_done: &[&str]) {}
