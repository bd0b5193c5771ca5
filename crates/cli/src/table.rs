//! A list on standard output: an aligned table for people, or one JSON object a line for programs.

use std::fmt::Write as _;

use serde::Serialize;

use crate::output::{self, Failure};
use crate::sink::Sink;

/// Rows that are kept to see how wide their columns are.
const ROWS_KEPT: usize = 1_000;

/// Maximum width of a column, in characters: a longer cell stands out, and does not push all others apart.
const WIDTH_MAX: usize = 40;

/// Rows with columns of the same width. The last column is as wide as it needs.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    widths: Vec<usize>,
}

impl Table {
    /// Creates a table with these column titles.
    pub(crate) fn new(titles: &[&str]) -> Self {
        let titles = titles.iter().map(|title| (*title).to_owned()).collect();
        Self { rows: vec![titles], widths: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn add(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    /// Returns the lines of the rows added since the last call. Columns never become narrower.
    pub(crate) fn take_lines(&mut self) -> String {
        let rows = std::mem::take(&mut self.rows);
        for row in &rows {
            self.widths.resize(row.len().max(self.widths.len()), 0);
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count().min(WIDTH_MAX));
            }
        }
        let mut lines = String::new();
        for row in rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&self.widths) {
                let _ = write!(line, "{cell:width$}  "); // writing to a string cannot fail
            }
            lines.push_str(line.trim_end());
            lines.push('\n');
        }
        lines
    }
}

/// The list.
#[derive(Debug)]
pub(crate) struct Listing {
    out: Sink,
    /// `None`: JSON.
    table: Option<Table>,
}

impl Listing {
    /// Starts a list with these column titles, or as JSON.
    pub(crate) fn new(titles: &[&str], as_json: bool) -> Result<Self, Failure> {
        let table = (!as_json).then(|| Table::new(titles));
        Ok(Self { out: Sink::stdout(b'\n')?, table })
    }

    /// Adds an item: `row` is what people see of it, `object` what programs do.
    pub(crate) fn add<T: Serialize>(
        &mut self,
        row: impl FnOnce() -> Vec<String>,
        object: impl FnOnce() -> T,
    ) -> Result<(), Failure> {
        let Some(table) = &mut self.table else {
            let mut line = output::json(&object())?;
            line.push('\n');
            return self.out.put(line.as_bytes());
        };
        table.add(row());
        if table.rows.len() >= ROWS_KEPT {
            self.out.put(table.take_lines().as_bytes())?;
        }
        Ok(())
    }

    /// Ends the list.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        if let Some(table) = &mut self.table {
            self.out.put(table.take_lines().as_bytes())?;
        }
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|cell| (*cell).to_owned()).collect()
    }

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["A", "LONG", "C"]);
        table.add(row(&["one", "é", "last"]));
        table.add(row(&["2", "", ""]));
        assert_eq!(table.take_lines(), "A    LONG  C\none  é     last\n2\n");
        table.add(row(&["x", "y", "z"]));
        assert_eq!(table.take_lines(), "x    y     z\n", "as wide as before");
    }

    #[test]
    fn a_long_cell_moves_only_its_own_row() {
        let mut table = Table::new(&["ID", "B"]);
        let long = "x".repeat(100);
        table.add(row(&[&long, "b"]));
        let lines = table.take_lines();
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!(lines, [format!("ID{}B", " ".repeat(40)), format!("{long}  b")]);
    }
}
