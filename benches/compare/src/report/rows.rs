//! Combines the rounds of each subject in each case.

use crate::outcome::Outcome;
use crate::peers::{Kind, SUBJECTS, Subject};
use crate::results::{Pair, Results, median};

/// One subject in one case.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    pub subject: Subject,
    /// The median round by claims per second.
    pub outcome: &'a Outcome,
    /// The round that reopened it, if there was one.
    pub reopened: &'a Outcome,
    /// firstseen's claims per second divided by the subject's; the median of the rounds.
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

/// All subjects of a case, in the order of [`SUBJECTS`].
pub fn rows<'a>(results: &'a Results, case: &str) -> Vec<Row<'a>> {
    let pairs: Vec<_> = results.pairs.iter().filter(|pair| pair.case == case).collect();
    SUBJECTS.iter().filter_map(|subject| row(*subject, &pairs)).collect()
}

pub fn ours<'a>(results: &'a Results, case: &str) -> Option<Row<'a>> {
    rows(results, case).into_iter().find(|row| row.subject.name == "firstseen")
}

/// Every subject in a run with the same number of ids, to compare sizes: single claims, or batches where single claims
/// would take too long.
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

/// The fastest subject that `counts` accepts.
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

/// The growth cases: number of claims and name, fewest claims first.
pub fn growth(results: &Results) -> Vec<(u64, String)> {
    let names = results.pairs.iter().map(|pair| pair.case.as_str());
    let mut cases: Vec<_> = names
        .filter_map(|name| Some((name.strip_prefix("growth-")?.parse().ok()?, name.to_owned())))
        .collect();
    cases.sort();
    cases.dedup();
    cases
}
