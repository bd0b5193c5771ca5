//! A POST handler with an idempotency key: **the same key is the same request, and has one answer**.
//!
//! What it promises: a client that repeats a request with its key hears the same bytes, marked as a replay. The same key
//! with another body is refused (422), and so is a repetition while the first is at work (409). If the server dies
//! before it has stored an answer, the client's retry is worked on.
//!
//! What it does not promise: that the charge is made once if the server dies between the charge and the stored answer. So
//! the key goes on to the bank, which has idempotency keys of its own.
//!
//! Keys belong to one customer and one operation: put both into the name of the ledger or in front of the key, or one
//! customer can read the answers of another. Here there is one of each.
//!
//! Kills itself at every step, and shows what the bank and the clients have seen:
//!
//! ```sh
//! cargo run --release --example idempotency_key
//! ```

use firstseen::ledger::{Begin, BeginOptions, Fingerprint, Ledger, LedgerOptions};
use firstseen::{Store, days};
use outside::{Answer, Outside};

#[path = "sample/outside.rs"]
pub(crate) mod outside;

fn main() -> Answer {
    outside::killed_at_every_step("idempotency-key", run)
}

pub(crate) const FIVE: &str = r#"{"cents":500}"#;
pub(crate) const SIX: &str = r#"{"cents":600}"#;

pub(crate) fn run(outside: &Outside) -> Answer {
    run_on(outside, ["key-1", "key-2"].map(str::to_owned))
}

/// A server, and the clients that call it, each with a key of its own.
pub(crate) fn run_on(outside: &Outside, keys: impl IntoIterator<Item = String>) -> Answer {
    let store = Store::open(outside.file("seen.db"))?;
    // Answers are replayed for a week; after that the key counts as new.
    let ledger = store.ledger_with("charges", LedgerOptions::new().result_ttl(days(7)))?;
    let server = Server { ledger, outside };
    for key in keys {
        // This client is impatient: it repeats the request while the first is at work.
        server.client(&key, FIVE, &|| server.client(&key, FIVE, &|| Ok(())))?;
        // It repeats it once more, and then has a bug: another body under the same key.
        server.client(&key, FIVE, &|| Ok(()))?;
        server.client(&key, SIX, &|| Ok(()))?;
    }
    Ok(())
}

struct Response {
    status: u16,
    /// Sent as a header, such as `Idempotency-Replayed: true`.
    is_replay: bool,
    body: String,
}

impl Response {
    fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status, is_replay: false, body: body.into() }
    }
}

struct Server<'a> {
    ledger: Ledger,
    outside: &'a Outside,
}

impl Server<'_> {
    /// `POST /charges`. `meanwhile` is what happens elsewhere while it works.
    fn post(&self, key: &str, body: &str, meanwhile: &dyn Fn() -> Answer) -> Answer<Response> {
        self.outside.step(&format!("{key}: before begin"));
        // Of the bytes as they came. `Fingerprint::of_value` would not mind the order of keys in the JSON.
        let options = BeginOptions::new().fingerprint(Fingerprint::of_bytes(body));
        Ok(match self.ledger.begin_with(key, options)? {
            Begin::Started(attempt) => {
                self.outside.step(&format!("{key}: begun"));
                meanwhile()?;
                // The key goes along: the bank charges once for it, however often it is asked.
                self.outside.effect(format!("bank: charge for {key} {body}"))?;
                self.outside.step(&format!("{key}: charged, not completed"));
                // The number would be another one if this were done twice: replays show that it is not.
                let answer = format!(r#"{{"receipt":{}}}"#, attempt.token());
                // First stored, then sent.
                attempt.complete(&answer)?;
                self.outside.step(&format!("{key}: completed, not answered"));
                Response::new(201, answer)
            }
            Begin::Completed(record) => {
                let stored = record.result().unwrap_or_default();
                let body = String::from_utf8(stored.to_vec())?;
                Response { is_replay: true, ..Response::new(201, body) }
            }
            // Says nothing of the stored answer: who sends another body need not be the one who sent the first.
            Begin::Mismatch(_) => Response::new(422, "this key belongs to another request"),
            Begin::InProgress(_) => Response::new(409, "the first request is at work"),
            // With `Retry-After`, from the time in the record's state.
            Begin::RetryAt(_) => Response::new(503, "it failed; try again later"),
            _ => Response::new(500, "it failed for good; ask us"),
        })
    }

    /// A client that sends a request and notes what it hears.
    fn client(&self, key: &str, body: &str, meanwhile: &dyn Fn() -> Answer) -> Answer {
        let Response { status, is_replay, body } = self.post(key, body, meanwhile)?;
        let replay = if is_replay { " (replay)" } else { "" };
        self.outside.effect(format!("client: {key} {status}{replay} {body}"))?;
        self.outside.step(&format!("{key}: answered"));
        Ok(())
    }
}
