//! Transfers between two banks, each with a store of its own. **Money is neither lost nor made, whoever is killed when.**
//!
//! What it promises: a transfer is in the books of both banks or of neither, once, however often it was delivered. A kill
//! or a power cut leaves at most one batch in doubt. The next start ends it: it is committed in both if that was decided,
//! and otherwise rolled back in both. The decision is one row in the coordinator's own store.
//!
//! What it does not promise: that anything goes on while the coordinator is away. Accounts that are in doubt can be read
//! and not written until it is back, and the store never ends them by itself: `store.prepared()` lists them, with their
//! age, for an operator. Whoever reads both banks at the same time may see one of them before and one after a commit.
//!
//! A million transfers, killed a hundred times, and compared with what the input says:
//!
//! ```sh
//! cargo run --release --example two_phase -- --generate 1000000 --kills 100 --check
//! ```
//!
//! Remove the folder to start again.

use coordinator::{Coordinator, StoreBank};
use firstseen::table::Table;
use firstseen::transaction::{CommitOutcome, Transaction};
use outside::{Answer, Outside};
use pipeline::{Args, Input, Price, bytes_in, lines_in, say};
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::path::Path;

#[path = "sample/coordinator.rs"]
pub(crate) mod coordinator;
#[path = "sample/generate.rs"]
pub(crate) mod generate;
#[path = "sample/outside.rs"]
pub(crate) mod outside;
#[path = "sample/pipeline.rs"]
pub(crate) mod pipeline;

/// The stores of the banks and of the coordinator.
pub(crate) const STORES: [&str; 3] = ["a.db", "b.db", "coordinator.db"];

/// What every account begins with, in cents.
const OPENING: u64 = 1_000_000;

#[derive(Debug, Deserialize)]
struct Transfer {
    id: String,
    from: String,
    to: String,
    cents: u64,
}

fn main() -> Answer {
    let args = Args::parse("two-phase", generate::Kind::Transfers, 1_000, &["--check"])?;
    args.kill_first()?;
    let (outside, price) = (args.outside(), Price::start());
    let events = run(&outside, &args.input, args.batch)?;
    let bytes = STORES.iter().map(|store| bytes_in(&outside.file(store)));
    let bytes = bytes.sum::<std::io::Result<u64>>()?;
    say(price.text(events, bytes, lines_in(&args.input)?))?;
    let books = books(&outside)?;
    let (accounts, sum) = (books.len() as u64, books.values().sum::<u64>());
    say(format!("{accounts} accounts hold {sum} cents; they began with {}", accounts * OPENING))?;
    if sum != accounts * OPENING {
        return Err("money was lost or made".into());
    }
    if args.has("--check") {
        if books != recompute(&args.input)? {
            return Err("the books are not those that the input says".into());
        }
        say("the books are those that the input says")?;
    }
    Ok(())
}

/// Reads transfers until the input ends, so many in a commit of two phases. Returns how many it has read.
pub(crate) fn run(outside: &Outside, input: &Path, batch: usize) -> Answer<u64> {
    let (a, b) = (open(outside, "a")?, open(outside, "b")?);
    let coordinator = Coordinator::open(outside, [&a, &b])?;
    let (mut input, mut events) = (Input::open(input, coordinator.next())?, 0);
    loop {
        let gid = coordinator.gid(input.next);
        let transfers: Vec<Transfer> = input.batch(batch)?;
        if transfers.is_empty() {
            break;
        }
        let mut banks = [Bank::of(&a)?, Bank::of(&b)?];
        for transfer in &transfers {
            book(&mut banks, transfer)?;
        }
        outside.step("read, not prepared");
        for bank in banks {
            let name = bank.name;
            if let CommitOutcome::Rejected(why) = bank.into_transaction()?.prepare(&gid)? {
                coordinator.abort(&gid)?;
                return Err(format!("bank {name} refuses: {why:?}").into());
            }
            outside.step(&format!("prepared in {name}"));
        }
        coordinator.commit(&gid, input.next)?;
        // What a customer is told now must be true for ever.
        if outside.is_watched() {
            outside.effect(format!("booked {}", input.next))?;
        }
        events += transfers.len() as u64;
    }
    coordinator.close()?;
    a.store.close()?;
    b.store.close()?;
    Ok(events)
}

fn open(outside: &Outside, name: &'static str) -> Answer<StoreBank> {
    let path = outside.file(&format!("{name}.db"));
    Ok(StoreBank { store: coordinator::open_store(&path)?, name })
}

/// What a batch changes at one bank.
struct Bank {
    name: &'static str,
    transaction: Transaction,
    accounts: Table<u64>,
    balances: BTreeMap<String, u64>,
}

impl Bank {
    fn of(bank: &StoreBank) -> Answer<Self> {
        Ok(Self {
            name: bank.name,
            transaction: bank.store.transaction(),
            accounts: bank.store.table("accounts")?,
            balances: BTreeMap::new(),
        })
    }

    fn balance(&mut self, account: &str) -> Answer<u64> {
        if let Some(cents) = self.balances.get(account) {
            return Ok(*cents);
        }
        let cents = self.transaction.get(&self.accounts, account)?.unwrap_or(OPENING);
        self.balances.insert(account.to_owned(), cents);
        Ok(cents)
    }

    fn into_transaction(mut self) -> Answer<Transaction> {
        for (account, cents) in self.balances {
            self.transaction.put(&self.accounts, account, &cents)?;
        }
        Ok(self.transaction)
    }
}

/// Moves the money, if the transfer is new and the account has it. Each bank remembers the transfer itself.
fn book(banks: &mut [Bank; 2], transfer: &Transfer) -> Answer {
    let mut is_new = true;
    for bank in banks.iter_mut() {
        is_new &= bank.transaction.claim_if_new(&transfer.id)?;
    }
    let [a, b] = banks;
    let (from, to) = if transfer.from.starts_with("a-") { (a, b) } else { (b, a) };
    let (rich, poor) = (from.balance(&transfer.from)?, to.balance(&transfer.to)?);
    if is_new && rich >= transfer.cents {
        from.balances.insert(transfer.from.clone(), rich - transfer.cents);
        to.balances.insert(transfer.to.clone(), poor + transfer.cents);
    }
    Ok(())
}

/// The balances of all accounts that were ever named, of both banks.
pub(crate) fn books(outside: &Outside) -> Answer<BTreeMap<String, u64>> {
    let (mut books, mut failed) = (BTreeMap::new(), None);
    for name in ["a", "b"] {
        open(outside, name)?.store.table::<u64>("accounts")?.scan(
            |account, entry| match entry {
                Ok(entry) => {
                    books.insert(String::from_utf8_lossy(account).into_owned(), entry.value);
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            },
        )?;
    }
    failed.map_or(Ok(books), |error| Err(error.into()))
}

/// Does the books once more, without a store.
pub(crate) fn recompute(input: &Path) -> Answer<BTreeMap<String, u64>> {
    let (mut input, mut seen) = (Input::open(input, 0)?, HashSet::new());
    let mut books = BTreeMap::<String, u64>::new();
    loop {
        let transfers: Vec<Transfer> = input.batch(1_000)?;
        if transfers.is_empty() {
            return Ok(books);
        }
        for Transfer { id, from, to, cents } in transfers {
            let (rich, poor) = (
                *books.entry(from.clone()).or_insert(OPENING),
                *books.entry(to.clone()).or_insert(OPENING),
            );
            if seen.insert(id) && rich >= cents {
                books.insert(from, rich - cents);
                books.insert(to, poor + cents);
            }
        }
    }
}
