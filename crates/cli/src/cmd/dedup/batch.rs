//! A batch: lines that have arrived and are decided together.

use firstseen::Reserved;

use crate::args::BadInput;
use crate::input::Input;
use crate::output::Failure;
use crate::sink::Sink;

use super::id::{Bad, Finder, Found};
use super::summary::Tally;

/// Maximum lines in a batch: enough that its fixed costs vanish, few enough that a kill prints little twice.
const LINES_MAX: usize = 8192;

/// Bytes of input after which no line is added to a batch. Its ids are no longer than its lines, so with one more line
/// they stay within the engine's batch limit.
const BYTES_MAX: usize = 1 << 20;

/// What to do with one line.
#[derive(Debug, Clone, Copy)]
enum Part {
    /// Look up the id at these bytes of the input's buffer.
    AskInput { start: u32, bytes: u32 },
    /// Look up the id at these bytes of the arena.
    AskArena { start: u32, bytes: u32 },
    /// Print it without a lookup.
    Pass,
    /// Leave it out.
    Drop,
}

/// One line. The lines of a batch are contiguous, so its end is enough.
#[derive(Debug, Clone, Copy)]
struct Line {
    end: u32,
    part: Part,
}

/// Lines of one input, in order.
#[derive(Debug, Default)]
pub(super) struct Batch {
    start: usize,
    lines: Vec<Line>,
    /// Ids that the input does not contain verbatim.
    arena: Vec<u8>,
    bad: u64,
    skipped: u64,
    first_bad: Option<String>,
    /// Set if the next line is bad and the run is to stop there.
    stop: Option<Failure>,
}

/// How lines are read.
#[derive(Debug)]
pub(super) struct Reading<'p> {
    pub(super) finder: Finder<'p>,
    pub(super) on_bad_input: BadInput,
    pub(super) id_bytes_max: usize,
    pub(super) terminator: u8,
    /// Whether the byte order mark of this input is printed.
    pub(super) keeps_mark: bool,
    /// Whether blank lines are left out.
    pub(super) skips_empty: bool,
}

impl Batch {
    /// Fills the batch with what has arrived, waiting only if that is nothing. Returns whether there is anything to
    /// decide; if not, the input has ended.
    pub(super) fn fill(&mut self, input: &mut Input, how: &Reading<'_>) -> Result<bool, Failure> {
        self.clear();
        loop {
            while self.has_room() {
                let Some(piece) = input.next_piece()? else { break };
                let record = &input.bytes()[piece.text..piece.range.end];
                let line = record.strip_suffix(&[how.terminator]).unwrap_or(record);
                if self.lines.is_empty() {
                    // A mark belongs at the start of the output, not in the middle.
                    self.start = if how.keeps_mark { piece.range.start } else { piece.text };
                }
                if how.skips_empty && line.trim_ascii().is_empty() {
                    self.skipped += 1;
                    self.lines.push(Line { end: piece.range.end as u32, part: Part::Drop });
                    continue;
                }
                let found = if piece.unclosed {
                    Err(Bad::new("a quote is opened and never closed"))
                } else {
                    how.finder.find(line, how.id_bytes_max, &mut self.arena)
                };
                let part = match found {
                    Ok(Found::InLine(range)) => Part::AskInput {
                        start: (piece.text + range.start) as u32,
                        bytes: range.len() as u32,
                    },
                    Ok(Found::InArena(start)) => Part::AskArena {
                        start: start as u32,
                        bytes: (self.arena.len() - start) as u32,
                    },
                    Err(bad) => {
                        self.bad += 1;
                        if self.first_bad.is_none() {
                            self.first_bad =
                                Some(format!("{}:{}: {bad}", input.name(), piece.line));
                        }
                        match how.on_bad_input {
                            BadInput::Pass => Part::Pass,
                            BadInput::Drop => Part::Drop,
                            BadInput::Error => {
                                self.stop = self.first_bad.clone().map(Failure::data);
                                return Ok(true);
                            }
                        }
                    }
                };
                self.lines.push(Line { end: piece.range.end as u32, part });
            }
            if !self.lines.is_empty() {
                return Ok(true);
            }
            if !input.read_more()? {
                return Ok(false);
            }
        }
    }

    fn clear(&mut self) {
        self.start = 0;
        self.lines.clear();
        self.arena.clear();
        self.bad = 0;
        self.skipped = 0;
        self.first_bad = None;
        self.stop = None;
    }

    fn has_room(&self) -> bool {
        let bytes = self.end() - self.start;
        self.lines.len() < LINES_MAX && bytes < BYTES_MAX
    }

    fn end(&self) -> usize {
        self.lines.last().map_or(self.start, |line| line.end as usize)
    }

    /// Returns the ids to look up, in line order.
    pub(super) fn ids<'a>(&'a self, input: &'a [u8]) -> Vec<&'a [u8]> {
        let mut ids = Vec::with_capacity(self.lines.len());
        ids.extend(self.lines.iter().filter_map(|line| match line.part {
            Part::AskInput { start, bytes } => Some(&input[start as usize..][..bytes as usize]),
            Part::AskArena { start, bytes } => {
                Some(&self.arena[start as usize..][..bytes as usize])
            }
            Part::Pass | Part::Drop => None,
        }));
        ids
    }

    /// Returns the lines whose ids are looked up, with their line ends.
    pub(super) fn asked<'a>(&'a self, input: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let mut from = self.start;
        self.lines.iter().filter_map(move |line| {
            let whole = &input[from..line.end as usize];
            from = line.end as usize;
            matches!(line.part, Part::AskInput { .. } | Part::AskArena { .. }).then_some(whole)
        })
    }

    /// Writes each line where its answer sends it, and flushes to the operating system. Adjacent lines with the same
    /// destination are written together.
    pub(super) fn write(
        &self,
        input: &[u8],
        answers: &[Reserved],
        ways: Ways,
        out: &mut Sink,
        mut duplicates: Option<&mut Sink>,
    ) -> Result<Tally, Failure> {
        let mut answers = answers.iter();
        let mut tally = Tally {
            lines: self.lines.len() as u64,
            bytes: (self.end() - self.start) as u64,
            bad: self.bad,
            skipped: self.skipped,
            first_bad: self.first_bad.clone(),
            ..Tally::default()
        };
        let mut write = |from: usize, to: usize, way: Way| match (way, &mut duplicates) {
            (Way::Out, _) => out.put(&input[from..to]),
            (Way::Aside, Some(aside)) => aside.put(&input[from..to]),
            (Way::Aside, None) | (Way::Nowhere, _) => Ok(()),
        };
        let (mut from, mut to, mut way) = (self.start, self.start, Way::Nowhere);
        for line in &self.lines {
            let its_way = match line.part {
                Part::Pass => Way::Out,
                Part::Drop => Way::Nowhere,
                Part::AskInput { .. } | Part::AskArena { .. } => {
                    let seen = matches!(
                        answers.next(),
                        Some(
                            Reserved::Duplicate { .. } | Reserved::SameBatch | Reserved::InProgress // held by --count
                        )
                    );
                    tally.duplicates += u64::from(seen);
                    tally.first_seen += u64::from(!seen);
                    if seen { ways.again } else { ways.first }
                }
            };
            if its_way != way {
                write(from, to, way)?;
                (from, way) = (to, its_way);
            }
            to = line.end as usize;
        }
        write(from, to, way)?;
        out.flush()?;
        if let Some(aside) = duplicates {
            aside.flush()?;
        }
        if self.stop.is_some() {
            tally.lines += 1; // the bad line at which the run stops
        }
        Ok(tally)
    }

    /// Takes the failure that ends the run after this batch, if there is one.
    pub(super) fn take_stop(&mut self) -> Option<Failure> {
        self.stop.take()
    }
}

/// Where lines go whose id is new, and those whose id was seen before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ways {
    pub(super) first: Way,
    pub(super) again: Way,
}

/// Where a line goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Out,
    Aside,
    Nowhere,
}
