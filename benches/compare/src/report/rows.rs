//! What the rounds of one subject in one case come to.

use crate::outcome::Outcome;
use crate::peers::{Kind, SUBJECTS, Subject};
use crate::results::{Pair, Results, median};

/// One subject in one case.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    pub subject: Subject,
    /// The round in the middle, by claims a second.
    pub outcome: &'a Outcome,
    /// The round in which it was opened again, if there was one.
    pub reopened: &'a Outcome,
    /// How many times as many claims a second firstseen made; the median of the rounds.
    pub ratio: Option<f64>,
}

impl Row<'_> {
    pub fn rate(&self) -> f64 {
        self.outcome.claims.claims_per_s
    }
}

fn middle(mut outcomes: Vec<&Outcome>) -> Option<&Outcome> {
    outcomes.sort_by(|a, b| a.claims.claims_per_s.total_cmp(&b.claims.claims_per_s));
    outcomes.get(outcomes.len().saturating_sub(1) / 2).copied()
}

fn row<'a>(subject: Subject, pairs: &[&'a Pair]) -> Option<Row<'a>> {
    let is_ours = subject.name == "firstseen";
    let theirs = || pairs.iter().map(|pair| &pair.theirs).filter(|o| o.store == subject.name);
    let beside = pairs.iter().filter_map(|pair| pair.ours.as_ref()).filter(|_| is_ours);
    let outcome = middle(theirs().chain(beside).collect())?;
    let reopened = theirs().find(|o| o.after_close.is_some()).unwrap_or(outcome);
    let own = pairs.iter().filter(|pair| pair.theirs.store == subject.name);
    let ratio = median(own.filter_map(|pair| pair.ratio()).collect());
    Some(Row { subject, outcome, reopened, ratio })
}

/// All subjects of a case, in the order of the list of subjects.
pub fn rows<'a>(results: &'a Results, case: &str) -> Vec<Row<'a>> {
    let pairs: Vec<_> = results.pairs.iter().filter(|pair| pair.case == case).collect();
    SUBJECTS.iter().filter_map(|subject| row(*subject, &pairs)).collect()
}

pub fn ours<'a>(results: &'a Results, case: &str) -> Option<Row<'a>> {
    rows(results, case).into_iter().find(|row| row.subject.name == "firstseen")
}

/// Every subject in a run of as many ids as the others, to compare sizes: in single claims, or in batches where
/// single claims would take too long.
pub fn sized(results: &Results) -> Vec<Row<'_>> {
    let of = |case| {
        let rows = rows(results, case).into_iter();
        rows.filter(|row| row.outcome.workload.claims == results.origin.scale).collect::<Vec<_>>()
    };
    let mut all = of("one");
    for row in of("batch") {
        if !all.iter().any(|other| other.subject == row.subject) {
            all.push(row);
        }
    }
    all
}

/// The fastest of those that `counts` accepts.
pub fn fastest<'a>(
    results: &'a Results,
    case: &str,
    counts: impl Fn(&Subject) -> bool,
) -> Option<Row<'a>> {
    let rows = rows(results, case).into_iter().filter(|row| counts(&row.subject));
    rows.filter(|row| row.ratio.is_some()).max_by(|a, b| a.rate().total_cmp(&b.rate()))
}

pub fn is_embedded(subject: &Subject) -> bool {
    subject.kind == Kind::Embedded
}

/// Runs with more and more ids: the number of claims and the name of the case, fewest first.
pub fn growth(results: &Results) -> Vec<(u64, String)> {
    let names = results.pairs.iter().map(|pair| pair.case.as_str());
    let mut cases: Vec<_> = names
        .filter_map(|name| Some((name.strip_prefix("growth-")?.parse().ok()?, name.to_owned())))
        .collect();
    cases.sort();
    cases.dedup();
    cases
}
