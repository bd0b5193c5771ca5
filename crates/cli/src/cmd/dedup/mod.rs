//! `firstseen dedup`: prints each line the first time it is seen.
//!
//! **A line is never swallowed.** Each batch goes through four steps, and their order is the guarantee: reserve its
//! ids, write the new lines, flush them to the operating system, confirm. A process that dies before the last step has
//! claimed nothing of the batch, and the next run prints it (again).

mod batch;
mod counted;
mod csv;
mod id;
mod json;
mod live;
mod plan;
mod progress;
mod stop;
mod summary;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::args::DedupArgs;
use crate::input::Input;
use crate::output::{Exit, Failure};

use batch::{Batch, Reading};
use id::Finder;
use live::Live;
use plan::{IdRule, Plan};
use stop::Shared;
use summary::{Stopwatch, Tally, Voice};

/// How often a batch tries ids that somebody else has reserved, and the pause between tries.
const RESERVE_TRIES: u32 = 3_000;
const RESERVE_PAUSE: Duration = Duration::from_millis(10);

pub(super) fn run(args: DedupArgs) -> Result<Exit, Failure> {
    let watch = Stopwatch::start();
    let voice = Voice::of(&args);
    let opened = Plan::new(args).and_then(|plan| Ok((Live::open(&plan, watch)?, plan)));
    let (live, plan) = match opened {
        Ok(opened) => opened,
        Err(failure) => return summary::finish(&Tally::default(), watch, voice, Err(failure)),
    };
    let shared = Arc::new(Mutex::new(Some(live)));
    let run = Run { plan: &plan, live: &shared, header: None };
    let result = stop::watch(&shared).and_then(|()| run.read_all());
    stop::take(&shared).end(result)
}

/// Reads the inputs of a run.
struct Run<'p> {
    plan: &'p Plan,
    live: &'p Shared,
    /// The header line of the first CSV file, without its line end.
    header: Option<Vec<u8>>,
}

impl Run<'_> {
    fn read_all(mut self) -> Result<(), Failure> {
        for (number, source) in self.plan.sources.iter().enumerate() {
            self.read(Input::open(source, self.plan.ending())?, number == 0)?;
        }
        Ok(())
    }

    /// Processes all lines of one input; only the first input has its byte order mark printed.
    fn read(&mut self, mut input: Input, is_first: bool) -> Result<(), Failure> {
        let plan = self.plan;
        let finder = match &plan.id {
            IdRule::Line => Finder::Line { trims: plan.trim },
            IdRule::Json(pointers) => Finder::Json(pointers),
            IdRule::Field { columns, split } => Finder::Field { columns, split: *split },
            IdRule::Csv { indices: Some(indices), delimiter, .. } => {
                Finder::Csv { columns: indices.clone(), delimiter: *delimiter }
            }
            IdRule::Csv { columns, delimiter, .. } => {
                match self.header(&mut input, columns, *delimiter)? {
                    Some(columns) => Finder::Csv { columns, delimiter: *delimiter },
                    None => return Ok(()),
                }
            }
        };
        let how = Reading {
            finder,
            on_bad_input: plan.on_bad_input,
            id_bytes_max: plan.id_bytes_max,
            terminator: plan.terminator,
            keeps_mark: is_first,
            skips_empty: plan.skip_empty,
        };
        let mut batch = Batch::default();
        while batch.fill(&mut input, &how)? {
            stop::with(self.live, |live| live.answer(&batch, input.bytes()))?;
            if let Some(failure) = batch.take_stop() {
                return Err(failure);
            }
        }
        Ok(())
    }

    /// Reads the header line of a CSV input, prints it if it is the first, and returns the columns that hold the id;
    /// `None` if the input is empty.
    fn header(
        &mut self,
        input: &mut Input,
        columns: &[String],
        delimiter: u8,
    ) -> Result<Option<Vec<usize>>, Failure> {
        let piece = loop {
            if let Some(piece) = input.next_piece()? {
                break piece;
            }
            if !input.read_more()? {
                return Ok(None);
            }
        };
        let record = &input.bytes()[piece.range.clone()];
        let header = &input.bytes()[piece.text..piece.range.end];
        let bare = header.strip_suffix(b"\n").unwrap_or(header);
        let bare = bare.strip_suffix(b"\r").unwrap_or(bare);
        if piece.unclosed {
            let name = input.name();
            return Err(Failure::data(format!("{name}:1: a quote is opened and never closed")));
        }
        if let Some(why) = csv::lone_return(bare, delimiter) {
            return Err(Failure::data(format!("{}:1: {why}", input.name())));
        }
        let index = |column: &String| csv::column_index(column, bare, delimiter, input.name());
        let indices = columns.iter().map(index).collect::<Result<_, _>>()?;
        match &self.header {
            Some(first) if first == bare => {}
            Some(_) => {
                let name = input.name();
                return Err(Failure::data(format!(
                    "{name}:1: the header line differs from that of the first file"
                )));
            }
            None => {
                self.header = Some(bare.to_vec());
                // A run that appends to the output of an earlier one finds the header there.
                stop::with(self.live, |live| {
                    for out in std::iter::once(&mut live.out).chain(&mut live.duplicates) {
                        if !out.resumed() {
                            out.put(record)?;
                            out.flush()?;
                        }
                    }
                    Ok::<(), Failure>(())
                })?;
            }
        }
        stop::with(self.live, |live| live.tally.bytes += piece.range.len() as u64);
        Ok(Some(indices))
    }
}
