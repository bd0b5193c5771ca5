//! Tables of figures.

use super::rows::{Row, growth, ours, rows};
use super::text::{count, figure, grouped, seconds, table, time};
use crate::outcome::Outcome;
use crate::peers::SUBJECTS;
use crate::results::Results;

/// A missing value.
const NONE: &str = "–";

fn or_none(text: Option<String>) -> String {
    text.unwrap_or_else(|| NONE.to_owned())
}

fn ratio(row: &Row<'_>) -> String {
    or_none(row.ratio.map(figure))
}

/// Everything about one case, one line per subject.
pub fn case(results: &Results, name: &str) -> String {
    let heads = [
        "store",
        "claims",
        "claims/s",
        "firstseen is … times as fast",
        "p50",
        "p99",
        "p99.9",
        "worst",
        "memory, bytes an id",
        "disk, bytes an id",
    ];
    let rows = rows(results, name);
    let lines = rows.iter().map(|row| {
        let c = &row.outcome.claims;
        let mut line = vec![
            row.subject.title.to_owned(),
            count(row.outcome.workload.claims as f64),
            grouped(row.rate()),
            ratio(row),
        ];
        line.extend([c.p50_ns, c.p99_ns, c.p999_ns, c.worst_ns].map(|ns| time(ns as f64)));
        line.push(figure(row.outcome.memory_per_id()));
        line.push(figure(row.outcome.disk_per_id()));
        line
    });
    table(&heads, &lines.collect::<Vec<_>>())
}

/// The cost of reopening, and what a kill lost.
pub fn reopening(results: &Results, name: &str) -> String {
    let heads = [
        "store",
        "close",
        "open after a close",
        "open after a kill",
        "lost by the kill, of the claims answered",
        "by its documentation a kill may lose",
    ];
    let lines = rows(results, name).into_iter().filter_map(|row| {
        let (closed, killed) = (row.reopened.after_close?, row.reopened.after_kill?);
        Some(vec![
            row.subject.title.to_owned(),
            seconds(row.reopened.claims.close_s),
            seconds(closed.seconds),
            seconds(killed.seconds),
            format!("{} of {}", grouped(killed.lost as f64), grouped(killed.claims as f64)),
            row.subject.promise.to_owned(),
        ])
    });
    table(&heads, &lines.collect::<Vec<_>>())
}

/// Several cases side by side: claims per second, with firstseen's ratio in parentheses.
pub fn side_by_side(results: &Results, cases: &[(&str, &str)]) -> String {
    let columns: Vec<_> = cases.iter().map(|(name, _)| rows(results, name)).collect();
    let mut heads = vec!["claims/s (firstseen is … times as fast)"];
    heads.extend(cases.iter().map(|(_, head)| *head));
    let mut lines = Vec::new();
    for subject in SUBJECTS {
        let cells = columns.iter().map(|rows| {
            let row = rows.iter().find(|row| row.subject == subject)?;
            let rate = grouped(row.rate());
            Some(row.ratio.map_or(rate.clone(), |ratio| format!("{rate} ({})", figure(ratio))))
        });
        let cells: Vec<Option<String>> = cells.collect();
        // Subjects that were measured only in the case "one" are in its own table.
        let elsewhere =
            cells.iter().zip(cases).any(|(cell, case)| cell.is_some() && case.0 != "one");
        if elsewhere {
            let mut line = vec![subject.title.to_owned()];
            line.extend(cells.into_iter().map(or_none));
            lines.push(line);
        }
    }
    table(&heads, &lines)
}

/// firstseen with growing numbers of ids.
pub fn growing(results: &Results) -> String {
    let heads = [
        "claims",
        "ids",
        "claims/s",
        "p99.9",
        "worst",
        "memory, bytes an id",
        "disk, bytes an id",
        "open after a close",
        "open after a kill",
    ];
    let lines = growth(results).into_iter().filter_map(|(claims, name)| {
        let row = ours(results, &name)?;
        let outcome: &Outcome = row.reopened;
        let c = &outcome.claims;
        Some(vec![
            count(claims as f64),
            count(c.first_seen as f64),
            grouped(c.claims_per_s),
            time(c.p999_ns as f64),
            time(c.worst_ns as f64),
            figure(outcome.memory_per_id()),
            figure(outcome.disk_per_id()),
            or_none(outcome.after_close.map(|opened| seconds(opened.seconds))),
            or_none(outcome.after_kill.map(|opened| seconds(opened.seconds))),
        ])
    });
    table(&heads, &lines.collect::<Vec<_>>())
}

/// Programs that read lines.
pub fn lines(results: &Results) -> String {
    let heads = ["program", "seconds", "firstseen, right before", "peak memory, MB", "lines"];
    let lines = results.lines.iter().map(|lines| {
        let (ours, theirs) = (&lines.ours, &lines.theirs);
        vec![
            format!("`{}`", theirs.name),
            figure(theirs.seconds),
            figure(ours.seconds),
            format!(
                "{} (firstseen {})",
                figure(theirs.peak_bytes as f64 / 1e6),
                figure(ours.peak_bytes as f64 / 1e6)
            ),
            count(theirs.lines as f64),
        ]
    });
    table(&heads, &lines.collect::<Vec<_>>())
}
