//! `--count`: how often each id came in this run. All of them are kept in memory, lines included, because
//! the count of the first is known only at the end; until then they are held and not claimed.

use std::collections::HashMap;

use firstseen::{BatchReservation, Reserved};

use crate::output::Failure;
use crate::sink::Sink;

#[derive(Debug, Default)]
pub(super) struct Counted {
    /// Where the line of an id stands.
    places: HashMap<Box<[u8]>, usize>,
    /// The first line of each id and how often the id came, in the order of the input.
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

    /// Keeps the ids of a batch until their lines are printed.
    pub(super) fn hold(&mut self, reservation: Option<BatchReservation>) {
        self.held.extend(reservation);
    }

    /// Prints all lines behind their counts, and claims the ids after that.
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
