//! A payment in three stages, validate, fraud and settle: **a stage that is saved is never done again**.
//!
//! What it promises: after a crash, the next attempt goes on with the first stage that is not saved, and hears the saved
//! results of the others. The payment is completed once, and everybody who asks again hears the same receipt.
//!
//! What it does not promise: a crash between a stage's effect and its save repeats that stage. No store can close that
//! gap, as the effect is elsewhere. So each call to another system carries a key that is the same each time, the id with
//! the name of the stage, and the other side does it once.
//!
//! Kills itself at every step, and shows the calls that the other systems have seen:
//!
//! ```sh
//! cargo run --release --example payment_stages
//! ```

use firstseen::Store;
use firstseen::ledger::{Failure, Ledger, Ran};
use outside::{Answer, Outside};

#[path = "sample/outside.rs"]
pub(crate) mod outside;

pub(crate) const PAYMENTS: [&str; 2] = ["pay-1", "pay-2"];
pub(crate) const STAGES: [&str; 3] = ["validate", "fraud", "settle"];

fn main() -> Answer {
    outside::killed_at_every_step("payment-stages", run)
}

pub(crate) fn run(outside: &Outside) -> Answer {
    run_on(outside, PAYMENTS.map(str::to_owned))
}

pub(crate) fn run_on(outside: &Outside, payments: impl IntoIterator<Item = String>) -> Answer {
    let store = Store::open(outside.file("seen.db"))?;
    let ledger = store.ledger("payments")?;
    for payment in payments {
        let first = pay(&ledger, &payment, outside)?;
        assert!(matches!(first, Ran::First(_) | Ran::Replayed(_)), "{first:?}");
        // Delivered a second time, as every queue does one day: no stage runs, and the receipt is the stored one.
        let again = pay(&ledger, &payment, outside)?;
        assert!(matches!(again, Ran::Replayed(_)), "the payment is done");
    }
    store.close()?;
    Ok(())
}

fn pay(ledger: &Ledger, payment: &str, outside: &Outside) -> Answer<Ran<String>> {
    let call = Call { payment, outside };
    outside.step("before begin");
    // A process that was killed holds nothing back: its lease ended with it, and this begins the next attempt at once.
    let ran = ledger.run(payment, |attempt| {
        outside.step("begun");
        let [validate, fraud, settle] = STAGES;
        let cents: u64 = attempt.stage(validate, || call.make(validate, 12_000))?;
        outside.step("validate is saved");
        // If this is saved, it is not asked a second time: it costs money, and could answer differently.
        let score: u32 = attempt.stage(fraud, || call.make(fraud, 17))?;
        outside.step("fraud is saved");
        if score > 90 {
            // Trying again is pointless: a dead letter at once.
            return Err(Failure::last("looks like fraud"));
        }
        let receipt: String =
            attempt.stage(settle, || call.make(settle, format!("{payment}: {cents} cents")))?;
        outside.step("settle is saved");
        Ok(receipt)
    })?;
    outside.step("completed");
    Ok(ran)
}

/// A call to another system.
struct Call<'a> {
    payment: &'a str,
    outside: &'a Outside,
}

impl Call<'_> {
    fn make<T>(&self, stage: &str, answer: T) -> Result<T, Failure> {
        // The same for every attempt, never the token or the number of the attempt.
        let key = format!("{}/{stage}", self.payment);
        self.outside.step(&format!("before {key}"));
        self.outside.effect(&key)?;
        // Killed here, the effect has happened and the ledger does not know it: the one gap.
        self.outside.step(&format!("{key} is made, not saved"));
        Ok(answer)
    }
}
