//! `firstseen import`: claims from lines printed by `export`, or from a plain list of ids.

use std::collections::BTreeMap;

use firstseen::{ImportEntry, Store};
use serde::Serialize;

use crate::args::ImportArgs;
use crate::input::{Ending, Input, Source};
use crate::output::{self, Exit, Failure, counted, grouped};
use crate::streams;

use super::{list, record};

/// Claims added at once.
const BATCH_CLAIMS: usize = 4096;

/// The summary.
#[derive(Debug, Default, Serialize)]
struct Tally {
    lines: u64,
    added: u64,
    /// Already there, or ended.
    skipped: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Tally {
    fn add(&mut self, lines: u64, added: u64) {
        self.lines += lines;
        self.added += added;
        self.skipped += lines - added;
    }
}

pub(super) fn run(args: ImportArgs) -> Result<Exit, Failure> {
    let as_json = args.store.json;
    let mut tally = Tally::default();
    let result = import(args, &mut tally);
    if as_json {
        let exit = match result {
            Ok(()) => Exit::Done,
            Err(Failure::Closed) => Exit::Closed,
            Err(Failure::Stopped(exit)) => exit,
            Err(Failure::Told { exit, message }) => {
                tally.error = Some(message);
                exit
            }
        };
        output::say(&output::json(&tally)?);
        return Ok(exit);
    }
    if result.is_ok() || tally.lines > 0 {
        let lines = counted(tally.lines, "line");
        let [added, skipped] = [tally.added, tally.skipped].map(grouped);
        output::say(&format!(
            "firstseen: {lines}, {added} added, {skipped} already there or ended"
        ));
    }
    result.map(|()| Exit::Done)
}

fn import(args: ImportArgs, tally: &mut Tally) -> Result<(), Failure> {
    let sources = Source::all(args.files);
    for source in &sources {
        source.check()?;
    }
    streams::check_stdin(&sources)?;
    let store = super::waiting(args.store.wait, || super::builder(&args.store.dir).open())?;
    let unnamed = store.default_namespace();
    let of_line = Naming { forced: args.namespace.as_deref(), unnamed: unnamed.name() };
    for source in &sources {
        let mut input = Input::open(source, Ending::Byte(b'\n'))?;
        if args.lines {
            let namespace = super::namespace(&store, args.namespace.as_deref())?;
            let options = super::claim_options(args.ttl);
            list::claim_all(&namespace, options, &mut input, args.skip_empty, |lines, added| {
                tally.add(lines, added);
            })?;
            continue;
        }
        while let Some(batch) = Batch::read(&mut input, &of_line, args.skip_empty)? {
            batch.import(&store, tally)?;
        }
    }
    Ok(store.close()?)
}

/// Which namespace a line belongs to.
struct Naming<'a> {
    /// The namespace on the command line; it takes precedence over that of the line.
    forced: Option<&'a str>,
    /// The namespace of a line that names none.
    unnamed: &'a str,
}

impl<'a> Naming<'a> {
    fn name<'l>(&self, named: Option<&'l str>) -> &'l str
    where
        'a: 'l,
    {
        self.forced.or(named).unwrap_or(self.unnamed)
    }
}

/// Some lines, by namespace: an export need not be sorted by it.
#[derive(Debug, Default)]
struct Batch {
    lines: usize,
    claims: BTreeMap<String, Vec<ImportEntry>>,
    /// What is wrong with the line after these.
    bad: Option<Failure>,
}

impl Batch {
    /// Reads what has arrived, but never too much; returns `None` at the end of the input.
    fn read(
        input: &mut Input,
        of_line: &Naming<'_>,
        skips_empty: bool,
    ) -> Result<Option<Self>, Failure> {
        let mut batch = Self::default();
        loop {
            while batch.lines < BATCH_CLAIMS {
                let Some(piece) = input.next_piece()? else { break };
                let line = input.bytes()[piece.text..piece.range.end].trim_ascii_end();
                if line.is_empty() && skips_empty {
                    continue;
                }
                match record::read(line) {
                    Ok((named, claim)) => batch.add(of_line.name(named.as_deref()), claim),
                    Err(why) => {
                        let (name, at) = (input.name(), piece.line);
                        batch.bad = Some(Failure::data(format!("{name}:{at}: {why}")));
                        return Ok(Some(batch));
                    }
                }
            }
            if batch.lines > 0 {
                return Ok(Some(batch));
            }
            if !input.read_more()? {
                return Ok(None);
            }
        }
    }

    fn add(&mut self, namespace: &str, claim: ImportEntry) {
        self.lines += 1;
        if let Some(claims) = self.claims.get_mut(namespace) {
            claims.push(claim);
        } else {
            self.claims.insert(namespace.to_owned(), vec![claim]);
        }
    }

    /// Imports the claims. The lines before a bad one count.
    fn import(self, store: &Store, tally: &mut Tally) -> Result<(), Failure> {
        for (namespace, claims) in &self.claims {
            let lines = claims.len() as u64;
            let added = store.import(namespace, claims)?;
            tally.add(lines, added);
        }
        self.bad.map_or(Ok(()), Err)
    }
}
