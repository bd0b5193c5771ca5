//! `firstseen table`: the values of state tables.

use std::ops::ControlFlow;

use firstseen::Timestamp;
use firstseen::table::Entry;
use serde::Serialize;

use super::bytes::{Digits, shown, text_or_hex, value_or_hex};
use super::names::{self, Kind};
use crate::args::table::{TableCommand, TableGetArgs, TableScanArgs};
use crate::output::{self, Exit, Failure};
use crate::table::{Listing, Table};
use crate::utc;

pub(super) fn run(command: TableCommand) -> Result<Exit, Failure> {
    match command {
        TableCommand::Get(args) => get(args),
        TableCommand::Scan(args) => scan(&args),
    }
}

/// The JSON output for a value. The fields are documented in `--help`.
#[derive(Debug, Serialize)]
struct Object<'a> {
    table: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_hex: Option<String>,
    version: u64,
    ends: Option<u64>,
    ends_utc: Option<String>,
}

/// A value of a table.
struct Found<'a> {
    table: &'a str,
    key: &'a [u8],
    entry: &'a Entry<Vec<u8>>,
    digits: Digits,
}

impl<'a> Found<'a> {
    fn object(&self) -> Object<'a> {
        let Entry { value, version, ends } = self.entry;
        let ends = Some(*ends).filter(|ends| *ends != Timestamp::NEVER);
        let (key, key_hex) = text_or_hex(self.key);
        let (value, value_hex) = value_or_hex(value, self.digits);
        Object {
            table: self.table,
            key,
            key_hex,
            value,
            value_hex,
            version: version.as_u64(),
            ends: ends.map(Timestamp::as_millis),
            ends_utc: ends.map(utc::text),
        }
    }

    fn key(&self) -> String {
        shown(self.key, Digits::WhereNeeded).into_owned()
    }

    fn ends(&self) -> String {
        match self.entry.ends {
            Timestamp::NEVER => "never".to_owned(),
            ends => utc::text(ends),
        }
    }

    /// Returns its row in `table scan`.
    fn row(&self) -> Vec<String> {
        let value = cut(&self.entry.value, self.digits);
        vec![self.entry.version.to_string(), self.ends(), self.key(), value]
    }

    /// Returns everything, for people; without the line end.
    fn lines(&self) -> String {
        let mut table = Table::default();
        let mut line = |name: &str, value: String| table.add(vec![name.to_owned(), value]);
        line("key", self.key());
        line("value", shown(&self.entry.value, self.digits).into_owned());
        line("version", self.entry.version.to_string());
        line("ends", self.ends());
        table.take_lines().trim_end().to_owned()
    }
}

/// Maximum number of characters of a value in a list for people, as its help says.
const SHOWN_MAX: usize = 100;

/// Returns a value for a list for people.
fn cut(value: &[u8], digits: Digits) -> String {
    let mut text = shown(value, digits).into_owned();
    if let Some((at, _)) = text.char_indices().nth(SHOWN_MAX) {
        text.truncate(at);
        text.push_str("...");
    }
    text
}

fn get(args: TableGetArgs) -> Result<Exit, Failure> {
    let key = super::key_bytes(args.key, args.hex, "the key")?;
    let store = super::open_existing(&args.store)?;
    names::check(&store, &args.table, Kind::Table)?;
    let entry = store.raw_table(&args.table)?.get(&key)?;
    store.close()?;
    let Some(entry) = entry else {
        if !args.store.json {
            output::print("no value")?;
        }
        return Ok(Exit::NotSeen);
    };
    let digits = digits(args.hex_values);
    let found = Found { table: &args.table, key: &key, entry: &entry, digits };
    if args.store.json {
        output::print_json(&found.object())
    } else {
        output::print(found.lines())
    }?;
    Ok(Exit::Done)
}

fn scan(args: &TableScanArgs) -> Result<Exit, Failure> {
    let store = super::open_existing(&args.store)?;
    names::check(&store, &args.table, Kind::Table)?;
    let table = store.raw_table(&args.table)?;
    let mut listing = Listing::new(&["VERSION", "ENDS", "KEY", "VALUE"], args.store.json)?;
    let (mut left, digits) = (args.limit.unwrap_or(usize::MAX), digits(args.hex_values));
    let (mut exit, mut added) = (Exit::Done, Ok(()));
    if left > 0 {
        table.scan(|key, entry| {
            let entry = match entry {
                Ok(entry) => entry,
                // One that cannot be read keeps nobody from the others.
                Err(error) => {
                    let what = shown(key, Digits::WhereNeeded);
                    output::ended(Err(Failure::from(error).about(&what)));
                    exit = Exit::Data;
                    return ControlFlow::Continue(());
                }
            };
            let found = Found { table: &args.table, key, entry: &entry, digits };
            added = listing.add(|| found.row(), || found.object());
            left -= 1;
            if added.is_ok() && left > 0 {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
    }
    added?;
    drop(table);
    store.close()?;
    listing.finish()?;
    Ok(exit)
}

fn digits(always: bool) -> Digits {
    if always { Digits::Always } else { Digits::WhereNeeded }
}
