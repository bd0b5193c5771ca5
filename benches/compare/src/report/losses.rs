//! Where firstseen loses.

use super::rows::{Row, ours, rows, sized};
use super::text::{figure, grouped};
use crate::peers::Kind;
use crate::results::Results;
use std::collections::BTreeSet;

/// Every figure in which a peer is ahead.
pub fn to_peers(results: &Results) -> Vec<String> {
    let is_peer = |row: &Row<'_>| matches!(row.subject.kind, Kind::Embedded | Kind::Server);
    let mut all = slower(results, is_peer);
    all.extend(larger(results));
    all
}

/// The same for the limits, which nobody can use as a store.
pub fn to_limits(results: &Results) -> Vec<String> {
    slower(results, |row| row.subject.kind == Kind::Limit)
}

fn slower(results: &Results, counts: impl Fn(&Row<'_>) -> bool) -> Vec<String> {
    let cases: BTreeSet<_> = results.pairs.iter().map(|pair| pair.case.as_str()).collect();
    let mut all = Vec::new();
    for case in cases {
        let rows = rows(results, case);
        for row in rows.iter().filter(|row| counts(row)) {
            if let Some(ratio) = row.ratio.filter(|ratio| *ratio < 1.0) {
                let (title, times, rate) =
                    (row.subject.title, figure(1.0 / ratio), grouped(row.rate()));
                all.push(format!(
                    "`{case}`: {title} makes {times} times our claims a second ({rate})."
                ));
            }
        }
    }
    all
}

/// Peers that need less than firstseen for the same ids.
fn larger(results: &Results) -> Vec<String> {
    let Some(own) = ours(results, "one") else { return Vec::new() };
    let mut all = Vec::new();
    for row in sized(results) {
        let title = row.subject.title;
        let mut less = |what: &str, theirs: f64, ours: f64, unit: &str| {
            // A few percent are noise.
            if theirs < ours * 0.95 {
                let (theirs, ours) = (figure(theirs), figure(ours));
                all.push(format!("{title} needs less {what}: {theirs} {unit} against our {ours}."));
            }
        };
        if row.subject.kind == Kind::Limit || row.subject.kind == Kind::Ours {
            continue;
        }
        less("memory", row.outcome.memory_per_id(), own.outcome.memory_per_id(), "bytes an id");
        less("disk", row.outcome.disk_per_id(), own.outcome.disk_per_id(), "bytes an id");
        let opened = |row: &Row<'_>| [row.reopened.after_close, row.reopened.after_kill];
        let names = ["time to open after a close", "time to open after a kill"];
        for (name, (theirs, ours)) in names.iter().zip(opened(&row).into_iter().zip(opened(&own))) {
            if let (Some(theirs), Some(ours)) = (theirs, ours) {
                less(name, theirs.seconds * 1e3, ours.seconds * 1e3, "ms");
            }
        }
    }
    all
}
