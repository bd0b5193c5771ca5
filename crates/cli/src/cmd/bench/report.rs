//! What the trials measured, as a table for people or JSON for programs.

use std::fmt;

use serde::Serialize;

use crate::output::grouped;

use super::Done;

/// One line of the table.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) what: String,
    pub(super) claims: u64,
    pub(super) first_seen: u64,
    pub(super) claims_per_second: u64,
    /// Latency of one call (for a batch, of the whole batch), in nanoseconds.
    pub(super) p50_ns: u64,
    pub(super) p99_ns: u64,
    pub(super) p999_ns: u64,
    pub(super) worst_ns: u64,
}

impl Row {
    #[expect(clippy::cast_sign_loss, reason = "a rate is not negative")]
    pub(super) fn new(what: &str, done: &Done, claims_per_second: f64) -> Self {
        let at = |quantile| done.calls.value_at_quantile(quantile);
        Self {
            what: what.to_owned(),
            claims: done.claims,
            first_seen: done.first_seen,
            claims_per_second: claims_per_second as u64,
            p50_ns: at(0.5),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            worst_ns: done.calls.max(),
        }
    }
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) ids: String,
    pub(super) rows: Vec<Row>,
    pub(super) limit: Row,
    pub(super) ids_kept: u64,
    pub(super) log_bytes: u64,
    pub(super) sled_bytes: u64,
    pub(super) memory_bytes: u64,
    pub(super) close_seconds: f64,
    pub(super) open_seconds: f64,
}

/// Formats a duration as briefly as is readable.
pub(super) fn time(ns: f64) -> String {
    match ns {
        ..1e3 => format!("{ns:.0} ns"),
        ..1e6 => format!("{:.1} µs", ns / 1e3),
        ..1e9 => format!("{:.1} ms", ns / 1e6),
        _ => format!("{:.1} s", ns / 1e9),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.ids)?;
        let [half, most, nearly, worst] = ["half in", "99 % in", "99.9 % in", "worst"];
        writeln!(f, "{:<34}{:>12}{half:>11}{most:>11}{nearly:>11}{worst:>11}", "", "claims/s")?;
        for row in self.rows.iter().chain([&self.limit]) {
            let times =
                [row.p50_ns, row.p99_ns, row.p999_ns, row.worst_ns].map(|ns| time(ns as f64));
            let [p50, p99, p999, worst] = &times;
            let rate = grouped(row.claims_per_second);
            writeln!(f, "{:<34}{rate:>12}{p50:>11}{p99:>11}{p999:>11}{worst:>11}", row.what)?;
        }
        let each = |bytes: u64| bytes as f64 / self.ids_kept.max(1) as f64;
        writeln!(f, "\n{} ids kept, each", grouped(self.ids_kept))?;
        writeln!(
            f,
            "  on disk    {:.0} bytes: log {:.0}, sled {:.0}",
            each(self.log_bytes + self.sled_bytes),
            each(self.log_bytes),
            each(self.sled_bytes)
        )?;
        writeln!(f, "  in memory  {:.1} bytes, the budget included", each(self.memory_bytes))?;
        write!(f, "closed in {:.2} s, opened in {:.2} s", self.close_seconds, self.open_seconds)
    }
}
