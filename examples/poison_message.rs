//! A message that kills its worker, in a queue with good ones: **it is put aside, and the queue goes on**.
//!
//! What it promises: an attempt is counted before its work starts, so a message whose worker dies each time, out of
//! memory or by a bug in a C library, is a dead letter after `attempts_max` starts. The others are done. Its payload is
//! kept, and after a fix an operator lets it be tried again.
//!
//! What it does not promise: that a good message is never a dead letter. One that is at work whenever somebody kills the
//! process looks the same. That is why dead letters are listed and redriven, and not thrown away.
//!
//! Besides the poison, it kills itself at every step, and shows what was handled:
//!
//! ```sh
//! cargo run --release --example poison_message
//! ```

use firstseen::ledger::{Begin, BeginOptions, DeadFilter, Ledger, LedgerOptions};
use firstseen::{Result, Store};
use outside::{Answer, Outside};
use std::ops::ControlFlow;
use std::process::abort;

#[path = "sample/outside.rs"]
pub(crate) mod outside;

/// Ids and bodies, in the order in which they are delivered.
pub(crate) const QUEUE: [(&str, &str); 3] =
    [("m-1", "resize cat.png"), ("m-2", "resize bomb.png"), ("m-3", "resize dog.png")];

pub(crate) const ATTEMPTS_MAX: u32 = 3;

fn main() -> Answer {
    outside::killed_at_every_step("poison-message", run)
}

/// A start of the worker: what a supervisor does each time the process is gone.
pub(crate) fn run(outside: &Outside) -> Answer {
    run_on(outside, QUEUE.map(|(id, body)| (id.to_owned(), body.to_owned())))
}

pub(crate) fn run_on(
    outside: &Outside,
    queue: impl IntoIterator<Item = (String, String)>,
) -> Answer {
    let store = Store::open(outside.file("seen.db"))?;
    let ledger = open(&store)?;
    for (id, body) in queue {
        let options = BeginOptions::new().payload(body).worker("resizer");
        handle(&ledger, &id, options, outside)?;
    }
    repair(&ledger, outside)?;
    // What was redriven comes from the ledger: the queue has long forgotten it.
    let mut open = Vec::new();
    ledger.list(|_, record| {
        open.extend(record.ok().filter(|record| record.has_payload).map(|record| record.id));
        ControlFlow::Continue(())
    })?;
    for id in open {
        handle(&ledger, &String::from_utf8(id)?, BeginOptions::new(), outside)?;
    }
    store.close()?;
    Ok(())
}

pub(crate) fn open(store: &Store) -> Result<Ledger> {
    store.ledger_with("images", LedgerOptions::new().attempts_max(ATTEMPTS_MAX))
}

fn handle(ledger: &Ledger, id: &str, options: BeginOptions, outside: &Outside) -> Answer {
    outside.step(&format!("before {id} is begun"));
    match ledger.begin_with(id, options)? {
        Begin::Started(attempt) => {
            outside.step(&format!("{id} is begun"));
            let body = String::from_utf8(attempt.payload()?.unwrap_or_default())?;
            resize(&body, outside)?;
            outside.effect(format!("handled {id}"))?;
            outside.step(&format!("{id} is handled, not completed"));
            attempt.complete(b"")?;
            outside.step(&format!("{id} is completed"));
        }
        // Done before, or put aside. Either way the queue may forget it: the ledger does not.
        Begin::Completed(_) | Begin::Dead(_) => {}
        // Another worker has it, or it is not its time: not acknowledged, so the queue delivers it again.
        later => outside.effect(format!("{id} has to wait: {later:?}"))?,
    }
    Ok(())
}

/// The work. Its bug ends the process, and no `catch_unwind` helps.
fn resize(body: &str, outside: &Outside) -> Answer {
    if body.contains("bomb") && !is_fixed(outside) {
        outside.effect(format!("a worker dies of {body:?}"))?;
        abort();
    }
    Ok(())
}

fn is_fixed(outside: &Outside) -> bool {
    outside.file("fixed").exists()
}

/// An operator looks at the dead letters, fixes the bug, and lets them be tried again.
fn repair(ledger: &Ledger, outside: &Outside) -> Answer {
    let letters = ledger.dead_letters();
    for letter in letters.list(&DeadFilter::new())?.letters {
        let record = letter.record;
        let ends: Vec<_> = record.history.iter().map(|past| past.end.to_string()).collect();
        let id = String::from_utf8(record.id)?;
        outside.step(&format!("{id} is listed"));
        outside.effect(format!("{id} is {} ({})", record.state, ends.join(", ")))?;
        std::fs::write(outside.file("fixed"), "")?;
        outside.step(&format!("{id} is fixed, not redriven"));
        // Its attempts count from zero again; its history stays.
        letters.redrive(&id)?;
        outside.step(&format!("{id} is redriven"));
    }
    Ok(())
}
