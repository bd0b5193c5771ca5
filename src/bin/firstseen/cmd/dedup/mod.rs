//! `firstseen dedup`: prints each line the first time it is seen.
//!
//! **A line is never swallowed.** Each batch goes through four steps, and the order is the promise: reserve
//! its ids, write the lines that are new, hand them to the operating system, confirm. A process that dies
//! before the last step has claimed nothing of the batch, and the next run prints it (again).

mod batch;
mod csv;
mod id;
mod json;
mod plan;
mod progress;
mod summary;

use std::thread;
use std::time::Duration;

use firstseen::{BatchReservation, ClaimOptions, Namespace, Reserved, Store};

use crate::args::DedupArgs;
use crate::input::{BYTE_ORDER_MARK, Input};
use crate::output::{Exit, Failure};
use crate::sink::Sink;
use crate::streams;

use batch::{Batch, Reading};
use id::Finder;
use plan::{IdRule, Plan};
use progress::Progress;
use summary::{Stopwatch, Tally};

/// How often, and for how long in between, a batch waits for ids that somebody else has reserved.
const RESERVE_TRIES: u32 = 3_000;
const RESERVE_PAUSE: Duration = Duration::from_millis(10);

pub(super) fn run(args: DedupArgs) -> Result<Exit, Failure> {
    let watch = Stopwatch::start();
    let as_json = args.json;
    let mut tally = Tally::default();
    let result = Plan::new(args).and_then(|plan| dedup(&plan, as_json, watch, &mut tally));
    summary::finish(&tally, watch, as_json, result)
}

fn dedup(plan: &Plan, as_json: bool, watch: Stopwatch, tally: &mut Tally) -> Result<(), Failure> {
    let mut total_bytes = Some(0);
    for source in &plan.sources {
        let bytes = source.check()?;
        total_bytes = total_bytes.zip(bytes).map(|(sum, bytes)| sum + bytes);
    }
    streams::check_stdin(&plan.sources)?;
    streams::check_apart(&plan.sources, plan.duplicates_to.as_deref())?;
    let mut builder = Store::builder(&plan.store).durability(plan.durability);
    if let Some(bytes) = plan.memory {
        builder = builder.memory_budget(bytes);
    }
    let store = crate::cmd::waiting(plan.wait, || builder.clone().open())?;
    let progress = Progress::new(total_bytes, as_json, watch);
    let result = Run::new(plan, &store, progress, tally).and_then(Run::read_all);
    // What was claimed before a failure is claimed, and lands on disk like everything else.
    let closed = store.close();
    result?;
    Ok(closed?)
}

/// A run under way.
struct Run<'p> {
    plan: &'p Plan,
    namespace: Namespace,
    options: ClaimOptions,
    out: Sink,
    duplicates: Option<Sink>,
    /// The header line of the first CSV file, without its line end.
    header: Option<Vec<u8>>,
    progress: Progress,
    tally: &'p mut Tally,
}

impl<'p> Run<'p> {
    fn new(
        plan: &'p Plan,
        store: &Store,
        progress: Progress,
        tally: &'p mut Tally,
    ) -> Result<Self, Failure> {
        let options = match plan.ttl {
            Some(ttl) => ClaimOptions::new().ttl(ttl),
            None => ClaimOptions::new(),
        };
        let aside = plan.duplicates_to.as_deref();
        Ok(Self {
            plan,
            namespace: super::namespace(store, plan.namespace.as_deref())?,
            options,
            out: Sink::stdout(plan.terminator)?,
            duplicates: aside.map(|path| Sink::append(path, plan.terminator)).transpose()?,
            header: None,
            progress,
            tally,
        })
    }

    fn read_all(mut self) -> Result<(), Failure> {
        for source in &self.plan.sources {
            self.read(Input::open(source, self.plan.ending())?)?;
        }
        Ok(())
    }

    /// Answers all lines of one input.
    fn read(&mut self, mut input: Input) -> Result<(), Failure> {
        let plan = self.plan;
        let finder = match &plan.id {
            IdRule::Line => Finder::Line,
            IdRule::Json(pointer) => Finder::Json(pointer),
            IdRule::Field { index, delimiter } => {
                Finder::Field { index: *index, delimiter: *delimiter }
            }
            IdRule::Csv { column, delimiter } => {
                match self.header(&mut input, column, *delimiter)? {
                    Some(index) => Finder::Csv { index, delimiter: *delimiter },
                    None => return Ok(()),
                }
            }
        };
        let how = Reading { finder, on_bad_input: plan.on_bad_input, terminator: plan.terminator };
        let mut batch = Batch::default();
        while batch.fill(&mut input, &how)? {
            self.answer(&batch, input.bytes())?;
            self.progress.show(self.tally);
            if let Some(failure) = batch.take_stop() {
                return Err(failure);
            }
        }
        Ok(())
    }

    /// Writes the lines of a batch that are new, and claims them after that.
    fn answer(&mut self, batch: &Batch, input: &[u8]) -> Result<(), Failure> {
        let ids = batch.ids(input);
        let reservation = if ids.is_empty() { None } else { Some(self.reserve(&ids)?) };
        let answers = reservation.as_ref().map_or(&[][..], BatchReservation::answers);
        let done = batch.write(input, answers, &mut self.out, self.duplicates.as_mut())?;
        if let Some(mut reservation) = reservation {
            reservation.confirm()?;
        }
        self.tally.add(done);
        Ok(())
    }

    /// Reserves ids. A process has its store for itself and this one reserves batch after batch, so
    /// nobody else can hold one of them; if that changes, this waits until they are let go, and not
    /// forever (I12).
    fn reserve(&self, ids: &[&[u8]]) -> Result<BatchReservation, Failure> {
        for _ in 0..RESERVE_TRIES {
            let reservation = self.namespace.reserve_batch_with(ids, self.options)?;
            if !reservation.answers().contains(&Reserved::InProgress) {
                return Ok(reservation);
            }
            drop(reservation);
            thread::park_timeout(RESERVE_PAUSE);
        }
        Err(Failure::data("timed out waiting for ids that are reserved elsewhere"))
    }

    /// Reads the header line of a CSV input, prints it if it is the first, and says which column holds
    /// the id. Nothing if the input is empty.
    fn header(
        &mut self,
        input: &mut Input,
        column: &str,
        delimiter: u8,
    ) -> Result<Option<usize>, Failure> {
        let piece = loop {
            if let Some(piece) = input.next_piece() {
                break piece;
            }
            if !input.read_more()? {
                return Ok(None);
            }
        };
        let record = &input.bytes()[piece.range.clone()];
        let header = record.strip_suffix(b"\n").unwrap_or(record);
        let bare = header.strip_prefix(BYTE_ORDER_MARK).unwrap_or(header);
        let bare = bare.strip_suffix(b"\r").unwrap_or(bare);
        if piece.unclosed {
            let name = input.name();
            return Err(Failure::data(format!("{name}:1: a quote is opened and never closed")));
        }
        let index = csv::column_index(column, header, delimiter, input.name())?;
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
                // A run that adds to the output of an earlier one finds the header there.
                if !self.out.resumed() {
                    self.out.put(record)?;
                    self.out.flush()?;
                }
            }
        }
        self.tally.bytes += piece.range.len() as u64;
        Ok(Some(index))
    }
}
