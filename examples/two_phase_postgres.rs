//! Transfers between a bank with a store of its own and one in Postgres, by `PREPARE TRANSACTION`. **Money is neither lost
//! nor made, whoever is killed when.**
//!
//! What it promises: what `two_phase` does. Postgres adds a difficulty, as any participant elsewhere does: the process is
//! killed, and what it has asked for goes on. So every transaction names the epoch of its coordinator, and the next one
//! fences the earlier ones off before it decides that nothing more is in doubt.
//!
//! What it does not promise: that Postgres is well while the coordinator is away. What is prepared there holds its row locks
//! and keeps vacuum from its work until it is ended: watch `pg_prepared_xacts`. Without `max_prepared_transactions` it
//! cannot be done at all.
//!
//! It needs the program `psql` and a server. Where there is none, it says NOT RUN:
//!
//! ```sh
//! export FIRSTSEEN_POSTGRES="host=127.0.0.1 port=5432 user=postgres dbname=postgres"
//! cargo run --release --example two_phase_postgres -- --generate 1000000 --kills 100
//! ```
//!
//! To start again, remove the folder, and in Postgres `DROP SCHEMA firstseen_bank CASCADE`.

use coordinator::{Coordinator, Participant, StoreBank};
use firstseen::transaction::CommitOutcome;
use outside::{Answer, Outside};
use pipeline::{Args, Input, Price, bytes_in, lines_in, say};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[path = "sample/coordinator.rs"]
pub(crate) mod coordinator;
#[path = "sample/generate.rs"]
pub(crate) mod generate;
#[path = "sample/outside.rs"]
pub(crate) mod outside;
#[path = "sample/pipeline.rs"]
pub(crate) mod pipeline;

/// What every account begins with, in cents. Bank a grants no overdraft, bank b does.
const OPENING: i64 = 1_000_000;

#[derive(Debug, Deserialize)]
struct Transfer {
    id: String,
    from: String,
    to: String,
    cents: i64,
}

fn main() -> Answer {
    let args = Args::parse("two-phase-postgres", generate::Kind::Transfers, 1_000, &[])?;
    let server = std::env::var("FIRSTSEEN_POSTGRES").unwrap_or_default();
    let b = PostgresBank { server, psql: "psql".into() };
    if let Err(why) = b.check() {
        return say(format!("NOT RUN: {why}"));
    }
    args.kill_first()?;
    let (outside, price) = (args.outside(), Price::start());
    let events = run(&outside, &args.input, args.batch, &b)?;
    let bytes = bytes_in(&outside.file("a.db"))? + bytes_in(&outside.file("coordinator.db"))?;
    say(format!("{}, without Postgres'", price.text(events, bytes, lines_in(&args.input)?)))?;
    let books = books(&outside, &b)?;
    let (began, sum) = (books.values().map(|_| OPENING).sum::<i64>(), books.values().sum::<i64>());
    say(format!("{} accounts hold {sum} cents; they began with {began}", books.len()))?;
    if sum == began { Ok(()) } else { Err("money was lost or made".into()) }
}

/// Reads transfers until the input ends, so many in a commit of two phases. Returns how many it has read.
pub(crate) fn run(outside: &Outside, input: &Path, batch: usize, b: &PostgresBank) -> Answer<u64> {
    let (a, b) = (open(outside)?, b);
    b.set_up()?;
    let coordinator = Coordinator::open(outside, [&a, b])?;
    let accounts = a.store.table::<i64>("accounts")?;
    let (mut input, mut events) = (Input::open(input, coordinator.next())?, 0);
    loop {
        let gid = coordinator.gid(input.next);
        let transfers: Vec<Transfer> = input.batch(batch)?;
        if transfers.is_empty() {
            break;
        }
        let mut at_a = a.store.transaction();
        let mut at_b = Changes::default();
        let mut balances = BTreeMap::new();
        for Transfer { id, from, to, cents } in &transfers {
            // Whether it is new, bank a knows for both: a transfer is in the books of both or of neither.
            if !at_a.claim_if_new(id)? {
                continue;
            }
            let (ours, theirs, change) =
                if from.starts_with("a-") { (from, to, -cents) } else { (to, from, *cents) };
            let balance = match balances.get(ours) {
                Some(balance) => *balance,
                None => at_a.get(&accounts, ours)?.unwrap_or(OPENING),
            };
            let change = if balance + change >= 0 { change } else { 0 };
            balances.insert(ours, balance + change);
            at_b.transfers.push(id);
            *at_b.accounts.entry(theirs).or_default() -= change;
        }
        for (account, balance) in balances {
            at_a.put(&accounts, account, &balance)?;
        }
        outside.step("read, not prepared");
        if let CommitOutcome::Rejected(why) = at_a.prepare(&gid)? {
            coordinator.abort(&gid)?;
            return Err(format!("bank a refuses: {why:?}").into());
        }
        outside.step("prepared in a");
        // Without an answer nobody knows whether it is prepared there. Nothing is decided yet, so it is rolled back, by the
        // next start if Postgres is away.
        b.prepare(&gid, &at_b, coordinator.epoch()).inspect_err(|_| {
            coordinator.abort(&gid).ok();
        })?;
        outside.step("prepared in b");
        coordinator.commit(&gid, input.next)?;
        if outside.is_watched() {
            outside.effect(format!("booked {}", input.next))?;
        }
        events += transfers.len() as u64;
    }
    coordinator.close()?;
    drop(accounts);
    a.store.close()?;
    Ok(events)
}

fn open(outside: &Outside) -> Answer<StoreBank> {
    Ok(StoreBank { store: coordinator::open_store(&outside.file("a.db"))?, name: "a" })
}

/// What a batch changes at bank b.
#[derive(Debug, Default)]
pub(crate) struct Changes<'a> {
    transfers: Vec<&'a str>,
    accounts: BTreeMap<&'a str, i64>,
}

/// The bank in Postgres.
pub(crate) struct PostgresBank {
    /// A connection string, as `psql -d` takes it; empty for what its own variables say.
    pub(crate) server: String,
    /// The program `psql`.
    pub(crate) psql: PathBuf,
}

impl PostgresBank {
    /// Runs SQL in a `psql` of its own, up to the first error. Returns what it prints, one row a line.
    pub(crate) fn ask(&self, sql: &str) -> Answer<String> {
        let mut psql = Command::new(&self.psql);
        psql.args(["-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1"]);
        // Errors with their code: the text of one is in the language of the server.
        psql.args(["-v", "VERBOSITY=verbose"]);
        if !self.server.is_empty() {
            psql.args(["-d", &self.server]);
        }
        psql.args(["-f", "-"]).env("PGCONNECT_TIMEOUT", "5");
        psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = psql.spawn().map_err(|why| format!("psql cannot be started: {why}"))?;
        // If it ends early, its status says why.
        let written = child.stdin.take().map_or(Ok(()), |mut pipe| pipe.write_all(sql.as_bytes()));
        let output = child.wait_with_output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned().into());
        }
        written?;
        Ok(String::from_utf8(output.stdout)?)
    }

    fn check(&self) -> Answer {
        match self.ask("SHOW max_prepared_transactions;")?.trim() {
            "0" => Err("max_prepared_transactions is 0: set it, and start the server again".into()),
            _ => Ok(()),
        }
    }

    pub(crate) fn set_up(&self) -> Answer {
        self.ask(
            "SET client_min_messages = warning;
            CREATE SCHEMA IF NOT EXISTS firstseen_bank;
            CREATE TABLE IF NOT EXISTS firstseen_bank.accounts (account text PRIMARY KEY, cents bigint NOT NULL);
            CREATE TABLE IF NOT EXISTS firstseen_bank.transfers (id text PRIMARY KEY);
            CREATE TABLE IF NOT EXISTS firstseen_bank.committed (gid text PRIMARY KEY);
            CREATE TABLE IF NOT EXISTS firstseen_bank.coordinator (one int PRIMARY KEY, epoch bigint NOT NULL, name text);
            INSERT INTO firstseen_bank.coordinator VALUES (1, 0) ON CONFLICT DO NOTHING;",
        )?;
        Ok(())
    }

    pub(crate) fn prepare(&self, gid: &str, changes: &Changes<'_>, epoch: u64) -> Answer {
        let begin = format!(
            "BEGIN;
            -- Fails if another coordinator has taken over, and holds off one that wants to.
            SELECT 1 / (epoch = {epoch})::int FROM firstseen_bank.coordinator WHERE one = 1 FOR SHARE;
            -- All before this one have ended for everybody.
            DELETE FROM firstseen_bank.committed;
            INSERT INTO firstseen_bank.committed VALUES ({});\n",
            quoted(gid)
        );
        let mut changed = String::new();
        if !changes.transfers.is_empty() {
            let ids = changes.transfers.iter().map(|id| format!("({})", quoted(id)));
            let ids: Vec<String> = ids.collect();
            let accounts = changes.accounts.iter();
            let accounts =
                accounts.map(|(account, cents)| format!("({}, {cents})", quoted(account)));
            let accounts: Vec<String> = accounts.collect();
            changed = format!(
                "INSERT INTO firstseen_bank.transfers VALUES {};
                INSERT INTO firstseen_bank.accounts AS old
                    SELECT account, {OPENING} + change FROM (VALUES {}) AS new (account, change)
                    ON CONFLICT (account) DO UPDATE SET cents = old.cents + excluded.cents - {OPENING};\n",
                ids.join(","),
                accounts.join(","),
            );
        }
        let prepare = format!("PREPARE TRANSACTION {};\n", quoted(&name(gid)));
        self.ask(&[begin, changed, prepare].concat())?;
        Ok(())
    }

    /// Returns whether what was prepared under this name is committed: it says so itself.
    fn is_committed(&self, gid: &str) -> Answer<bool> {
        let sql = format!("SELECT 1 FROM firstseen_bank.committed WHERE gid = {};", quoted(gid));
        Ok(!self.ask(&sql)?.trim().is_empty())
    }

    /// Ends what is prepared under this name, unless it has ended. A `psql` of a dead coordinator may be doing the same.
    fn end(&self, how: &str, gid: &str) -> Answer {
        let mut result = Ok(());
        for _ in 0..10 {
            if !self.in_doubt()?.iter().any(|listed| listed == gid) {
                return Ok(());
            }
            match self.ask(&format!("{how} PREPARED {};", quoted(&name(gid)))) {
                Ok(_) => return Ok(()),
                Err(why) => result = Err(why),
            }
        }
        result
    }
}

impl Participant for PostgresBank {
    fn name(&self) -> &'static str {
        "b"
    }

    fn fence(&self, epoch: u64) -> Answer<bool> {
        // Whatever has been begun and not ended holds a share of this row.
        let moved = self.ask(&format!(
            "SET lock_timeout = '200ms';
            UPDATE firstseen_bank.coordinator SET epoch = {epoch} WHERE one = 1 AND epoch <= {epoch} RETURNING 1;"
        ));
        match moved {
            Ok(rows) if rows.trim() == "1" => Ok(true),
            Ok(_) => Err("another coordinator has taken over".into()),
            Err(why) if has_code(&why.to_string(), LOCK_NOT_AVAILABLE) => Ok(false),
            Err(why) => Err(why),
        }
    }

    fn in_doubt(&self) -> Answer<Vec<String>> {
        let listed = self.ask(
            "SELECT gid FROM pg_prepared_xacts WHERE database = current_database() ORDER BY prepared;",
        )?;
        let ours = listed.lines().filter_map(|gid| gid.strip_prefix(PREFIX));
        Ok(ours.map(str::to_owned).collect())
    }

    fn belong_to(&self, coordinator: &str) -> Answer {
        // Changed only where nobody has it yet: what is prepared holds a share of this row.
        let owner = self.ask(&format!(
            "UPDATE firstseen_bank.coordinator SET name = {} WHERE one = 1 AND name IS NULL;
            SELECT name FROM firstseen_bank.coordinator WHERE one = 1;",
            quoted(coordinator)
        ))?;
        if owner.trim() == coordinator {
            return Ok(());
        }
        Err("another coordinator, with a folder of its own, has this bank: use that folder, or another database".into())
    }

    fn commit(&self, gid: &str) -> Answer {
        self.end("COMMIT", gid)?;
        if self.is_committed(gid)? {
            return Ok(());
        }
        Err(format!("{gid} was decided, and somebody else has rolled it back in Postgres").into())
    }

    fn rollback(&self, gid: &str) -> Answer {
        self.end("ROLLBACK", gid)
    }
}

/// The code of a lock that was not to be had in time.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// Whether an error of `psql` has this code: `psql:<stdin>:2: ERROR:  55P03: ...`.
fn has_code(error: &str, code: &str) -> bool {
    error.split(':').any(|part| part.trim() == code)
}

const PREFIX: &str = "firstseen ";

fn name(gid: &str) -> String {
    format!("{PREFIX}{gid}")
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The balances of all accounts that were ever named, of both banks.
pub(crate) fn books(outside: &Outside, b: &PostgresBank) -> Answer<BTreeMap<String, i64>> {
    let (mut books, mut failed) = (BTreeMap::new(), None);
    open(outside)?.store.table::<i64>("accounts")?.scan(|account, entry| match entry {
        Ok(entry) => {
            books.insert(String::from_utf8_lossy(account).into_owned(), entry.value);
            ControlFlow::Continue(())
        }
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    })?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    for line in b.ask("SELECT account, cents FROM firstseen_bank.accounts;")?.lines() {
        let (account, cents) = line.split_once('|').ok_or("account and cents")?;
        books.insert(account.to_owned(), cents.parse()?);
    }
    Ok(books)
}
