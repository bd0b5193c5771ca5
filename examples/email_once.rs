//! An e-mail: an effect that cannot be fenced, has no idempotency key and cannot be looked up. **At most once, with
//! `OnLeaseEnd::Hold`, and an operator for the rest.**
//!
//! What it promises with `Hold`: a mail is sent at most once without a human's word. If the process dies after `begin`
//! and before `complete`, nobody knows whether the mail has left; the record is held, is listed, and waits until
//! somebody has asked the recipient. Nothing is lost without a word either.
//!
//! What it does not promise: exactly once. Nothing can, between a mail server and a crash.
//!
//! With `Retry`, the default, the mail is sent at least once: nobody has to be asked, and a crash in the same window
//! sends it a second time. Right for a reminder, wrong for "your card was charged".
//!
//! Kills itself at every step, and shows the mailbox:
//!
//! ```sh
//! cargo run --release --example email_once
//! ```

use firstseen::Store;
use firstseen::ledger::{Begin, DeadFilter, Failure, Ledger, LedgerOptions, OnLeaseEnd};
use outside::{Answer, Outside};
use std::io::ErrorKind;
use std::time::Duration;

#[path = "sample/outside.rs"]
pub(crate) mod outside;

/// The names of the ledgers, with what follows when a process dies between `begin` and `complete`.
pub(crate) const LEDGERS: [(&str, OnLeaseEnd); 2] =
    [("invoice", OnLeaseEnd::Hold), ("reminder", OnLeaseEnd::Retry)];

pub(crate) const TO: &str = "ann@example.org";

/// While this file is there, nobody answers where the mail server should be.
pub(crate) const AWAY: &str = "the mail server is away";

/// Between two looks at a mail that waits for its next attempt.
const PAUSE: Duration = Duration::from_millis(100);

fn main() -> Answer {
    outside::killed_at_every_step("email-once", run)
}

pub(crate) fn run(outside: &Outside) -> Answer {
    run_on(outside, [TO.to_owned()])
}

pub(crate) fn run_on(outside: &Outside, recipients: impl IntoIterator<Item = String>) -> Answer {
    let store = Store::open(outside.file("seen.db"))?;
    let open = |(what, policy)| store.ledger_with(what, LedgerOptions::new().on_lease_end(policy));
    let [invoices, reminders] = LEDGERS.map(open);
    let ledgers = [invoices?, reminders?];
    for to in recipients {
        for ledger in &ledgers {
            send_once(ledger, &to, outside)?;
            decide(ledger, outside)?;
        }
    }
    store.close()?;
    Ok(())
}

/// Returns once it is sent, or cannot be sent by a program alone.
fn send_once(ledger: &Ledger, to: &str, outside: &Outside) -> Answer {
    let what = ledger.name();
    outside.step(&format!("{what}: before begin"));
    loop {
        match ledger.begin(to)? {
            Begin::Started(attempt) => {
                outside.step(&format!("{what}: begun, not sent"));
                if let Err(error) = send(what, to, outside) {
                    // If nobody has answered, it was not sent: that is known, and may be tried again. Of other errors
                    // nobody knows.
                    attempt.fail(match error.kind() {
                        ErrorKind::ConnectionRefused => Failure::retry(error),
                        // It may have been sent before the connection broke.
                        _ => Failure::hold(error),
                    })?;
                    continue;
                }
                outside.step(&format!("{what}: sent, not completed"));
                attempt.complete(b"")?;
                outside.step(&format!("{what}: completed"));
                return Ok(());
            }
            // Nobody else comes back to it. With more to send than one mail, go on with the others meanwhile.
            Begin::RetryAt(_) => std::thread::park_timeout(PAUSE),
            // Never send it here. It stays like this over any number of restarts, until somebody decides: whether it has
            // arrived, or what is wrong with a mail server that has not answered at any attempt.
            Begin::Held(record) | Begin::Dead(record) => {
                return Ok(outside.effect(format!("{what}: {}", record.state))?);
            }
            // Sent, or in progress elsewhere, or settled by the operator.
            _ => return Ok(()),
        }
    }
}

fn send(what: &str, to: &str, outside: &Outside) -> std::io::Result<()> {
    if outside.file(AWAY).exists() {
        outside.effect(format!("nobody takes the {what}"))?;
        return Err(ErrorKind::ConnectionRefused.into());
    }
    outside.effect(format!("mail: {what} to {to}"))
}

/// An operator goes through what is held. Whether a mail has arrived, only a human can find out.
fn decide(ledger: &Ledger, outside: &Outside) -> Answer {
    let what = ledger.name();
    for letter in ledger.dead_letters().list(&DeadFilter::new().held())?.letters {
        let to = String::from_utf8(letter.record.id)?;
        if has_arrived(what, &to, outside) {
            // Done after all: it is never sent again.
            ledger.settle(&to, b"", "it had arrived; the recipient was asked")?;
        } else {
            ledger.dead_letters().redrive(&to)?;
            send_once(ledger, &to, outside)?;
        }
    }
    Ok(())
}

/// Somebody calls the recipient.
fn has_arrived(what: &str, to: &str, outside: &Outside) -> bool {
    outside.effects().contains(&format!("mail: {what} to {to}"))
}
