//! Reserve, work, confirm, sync, acknowledge: **at least once, with a second effect only around a
//! crash**. This is the pattern for most consumers.
//!
//! What it promises: while the consumer lives, each event is worked on by one worker, and a delivery
//! that arrives meanwhile hears "in progress". Nothing is claimed before `confirm`, so an event whose
//! effect failed, or whose worker died, is worked on again when it comes again: no event is lost.
//!
//! What it does not promise: a crash after an effect and before the claim of it is on disk means that
//! the effect is made again. If the effect lies outside of this process (an e-mail, a call to somebody
//! else's interface), pass the event id along as idempotency key, so that the other side can tell.
//!
//! ```sh
//! cargo run --release --example reserve
//! ```

use firstseen::{ErrorKind, Reserve, Store, days};
use std::collections::VecDeque;
use std::io::Write as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::temp_dir().join("firstseen-example-reserve");
    let store = Store::builder(&path).ttl(days(7)).open()?;
    let mut out = std::io::stdout().lock();

    // Stands for a broker. "pay-2" is delivered twice, and its first attempt will fail.
    let mut queue: VecDeque<&str> = ["pay-1", "pay-2", "pay-1", "pay-2", "pay-3"].into();
    let mut attempts = 0;
    let mut done = Vec::new();

    while let Some(id) = queue.pop_front() {
        let mut held = match store.reserve(id) {
            Ok(Reserve::FirstSeen(held)) => held,
            Ok(Reserve::Duplicate { first_seen }) => {
                writeln!(out, "{id}: done already, at {} ms", first_seen.as_millis())?;
                done.push(id);
                continue;
            }
            // Another worker has it. Leave it to the broker to deliver it again.
            Ok(Reserve::InProgress) => continue,
            // The same call may succeed later: not acknowledged, so it comes again.
            Err(e) if e.kind() == ErrorKind::Retry => continue,
            Err(e) => return Err(e.into()),
        };
        attempts += 1;
        match charge(id, attempts) {
            Ok(()) => {
                held.confirm()?;
                writeln!(out, "{id}: charged")?;
                done.push(id);
            }
            Err(why) => {
                // Dropped without `confirm`: released. The next delivery is worked on again.
                drop(held);
                writeln!(out, "{id}: {why}, will come again")?;
            }
        }
    }

    // One sync for everything that was confirmed, then one acknowledgement.
    store.sync()?;
    acknowledge(&done);
    writeln!(out, "acknowledged {} deliveries", done.len())?;
    writeln!(out, "the store is {}; remove the folder to start again", path.display())?;
    store.close()?;
    Ok(())
}

/// The effect. A real one would hand `id` on as idempotency key.
fn charge(id: &str, attempt: u32) -> Result<(), &'static str> {
    if id == "pay-2" && attempt == 2 { Err("the bank did not answer") } else { Ok(()) }
}

fn acknowledge(_done: &[&str]) {}
