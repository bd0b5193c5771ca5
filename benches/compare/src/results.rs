//! Results, one line of JSON each, stored so that an interrupted suite can resume.

use crate::dedup::Tool;
use crate::machine::Origin;
use crate::outcome::Outcome;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The case name of programs that read lines.
const LINES: &str = "dedup";

/// A run of a subject, and the run of firstseen right before it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pair {
    /// The case of the plan.
    pub case: String,
    pub round: u32,
    /// `None` if the subject is firstseen itself.
    pub ours: Option<Outcome>,
    pub theirs: Outcome,
}

impl Pair {
    /// firstseen's claims per second divided by the subject's.
    pub fn ratio(&self) -> Option<f64> {
        let ours = self.ours.as_ref()?;
        Some(ours.claims.claims_per_s / self.theirs.claims.claims_per_s)
    }
}

/// The same for programs that read lines.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lines {
    pub round: u32,
    pub ours: Tool,
    pub theirs: Tool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    Pair(Box<Pair>),
    Lines(Lines),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Line {
    #[serde(flatten)]
    origin: Origin,
    #[serde(flatten)]
    what: What,
}

/// The results of one commit on one machine; cases it lacks come from earlier commits.
#[derive(Debug)]
pub struct Results {
    path: PathBuf,
    pub origin: Origin,
    pub pairs: Vec<Pair>,
    pub lines: Vec<Lines>,
    /// Cases that come from an earlier commit, and which commit.
    pub earlier: BTreeMap<String, String>,
}

impl Results {
    /// Reads the results of `origin`.
    pub fn read(path: &Path, origin: Origin) -> Result<Self> {
        Ok(Self::of_origin(path, origin, lines(path)?))
    }

    /// Reads the last results whose number of claims `is_wanted` accepts.
    pub fn last(path: &Path, is_wanted: impl Fn(u64) -> bool) -> Result<Option<Self>> {
        let all = lines(path)?;
        let origin = all.iter().rev().map(|line| &line.origin).find(|o| is_wanted(o.scale));
        Ok(origin.cloned().map(|origin| {
            let mut results = Self::of_origin(path, origin, all.clone());
            results.fill_up(all);
            results
        }))
    }

    fn of_origin(path: &Path, origin: Origin, all: Vec<Line>) -> Self {
        let mut results = Self {
            path: path.to_owned(),
            origin,
            pairs: Vec::new(),
            lines: Vec::new(),
            earlier: BTreeMap::new(),
        };
        for line in all {
            if line.origin == results.origin {
                results.keep(line.what);
            }
        }
        results
    }

    /// Takes each missing case from the last commit that has it: not every change needs everything measured again.
    fn fill_up(&mut self, all: Vec<Line>) {
        let own = self.origin.clone();
        let mut known: BTreeSet<String> = self.pairs.iter().map(|pair| pair.case.clone()).collect();
        known.extend((!self.lines.is_empty()).then(|| LINES.to_owned()));
        for line in all.into_iter().rev() {
            let of_us = line.origin.scale == own.scale && line.origin.machine == own.machine;
            if !of_us || line.origin.commit == own.commit {
                continue;
            }
            let case = match &line.what {
                What::Pair(pair) => pair.case.clone(),
                What::Lines(_) => LINES.to_owned(),
            };
            if !known.contains(&case) {
                let commit = self.earlier.entry(case).or_insert_with(|| line.origin.commit.clone());
                if *commit == line.origin.commit {
                    self.keep(line.what);
                }
            }
        }
    }

    fn keep(&mut self, what: What) {
        match what {
            What::Pair(pair) => self.pairs.push(*pair),
            What::Lines(lines) => self.lines.push(lines),
        }
    }

    pub fn add(&mut self, what: What) -> Result<()> {
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut file = std::fs::File::options().create(true).append(true).open(&self.path)?;
        let line = Line { origin: self.origin.clone(), what: what.clone() };
        // On a new line, whatever an interruption left at the end.
        writeln!(file, "\n{}", serde_json::to_string(&line)?)?;
        self.keep(what);
        Ok(())
    }

    pub fn of_case<'a>(&'a self, case: &'a str) -> impl Iterator<Item = &'a Pair> {
        self.pairs.iter().filter(move |pair| pair.case == case)
    }

    pub fn has(&self, case: &str, store: &str, round: u32) -> bool {
        self.of_case(case).any(|pair| pair.theirs.store == store && pair.round == round)
    }

    pub fn has_lines(&self, tool: &str, round: u32) -> bool {
        self.lines.iter().any(|lines| lines.theirs.name == tool && lines.round == round)
    }
}

/// All stored results, except lines cut short by an interruption.
fn lines(path: &Path) -> Result<Vec<Line>> {
    let text = if path.exists() { std::fs::read_to_string(path)? } else { String::new() };
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// The median; of an even number, the lower of the middle two.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied()
}
