//! `--count`: how often each id occurred in this run. All ids and their lines are kept in memory, because the count of
//! the first is known only at the end; until then the ids are held, not claimed.

use std::collections::HashMap;

use firstseen::{BatchReservation, Reserved};

use crate::output::Failure;
use crate::sink::Sink;

#[derive(Debug, Default)]
pub(super) struct Counted {
    /// The index in `lines` of each id.
    places: HashMap<Box<[u8]>, usize>,
    /// How often each id occurred, and its first line, in input order.
    lines: Vec<(u64, Box<[u8]>)>,
    held: Vec<BatchReservation>,
}

impl Counted {
    /// Counts the lines of a batch, each with its id and answer.
    pub(super) fn note<'a>(
        &mut self,
        lines: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        answers: &[Reserved],
    ) {
        for ((id, line), answer) in lines.zip(answers) {
            if *answer == Reserved::FirstSeen {
                self.places.insert(id.into(), self.lines.len());
                self.lines.push((1, line.into()));
            } else if let Some((count, _)) =
                self.places.get(id).and_then(|at| self.lines.get_mut(*at))
            {
                *count += 1;
            }
        }
    }

    /// Keeps the ids of a batch reserved until their lines are printed.
    pub(super) fn hold(&mut self, reservation: Option<BatchReservation>) {
        self.held.extend(reservation);
    }

    /// Prints all lines, each after its count, and then claims the ids.
    pub(super) fn print(self, out: &mut Sink) -> Result<(), Failure> {
        let mut text = Vec::new();
        for (count, line) in &self.lines {
            text.clear();
            text.extend_from_slice(format!("{count:>7} ").as_bytes());
            text.extend_from_slice(line);
            out.put(&text)?;
        }
        out.flush()?;
        for mut reservation in self.held {
            reservation.confirm()?;
        }
        Ok(())
    }
}
