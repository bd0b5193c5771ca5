//! Writes docs/BENCHMARKS.md and its plots from the results.

mod goals;
mod losses;
mod plots;
mod rows;
mod sections;
mod tables;
mod text;
pub mod threads;

use crate::paths;
use crate::plan::Scale;
use crate::results::Results;
use anyhow::{Context, Result};
use clap::Args;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Where to write `BENCHMARKS.md` and the folder `plots`; by default in docs.
    #[arg(long)]
    pub out: Option<PathBuf>,
}

const PLOTS: [(&str, &str); 6] = [
    ("claims", "Claims a second by number of ids"),
    ("latency", "Time of a claim, also while flushing and expiring"),
    ("memory", "Memory, bytes an id"),
    ("disk", "Disk, bytes an id"),
    ("open-closed", "Opening after a clean close"),
    ("open-killed", "Opening after a kill"),
];

pub fn run(args: &ReportArgs) -> Result<()> {
    let large = |scale| scale >= Scale::FULL.claims;
    let last = |wanted: &dyn Fn(u64) -> bool| Results::last(&paths::results(), wanted);
    let (goals, quick) = (last(&large)?, last(&|scale| !large(scale))?);
    // A full-size plan has everything; one for the goals leaves the tables to a quick one.
    let is_whole = goals.as_ref().is_some_and(|goals| goals.of_case("zipf").next().is_some());
    let tables = if is_whole { goals.as_ref() } else { quick.as_ref() };
    let tables = tables.or(goals.as_ref()).context("there are no results yet")?;
    let out = args.out.clone().unwrap_or_else(paths::docs);
    plots::all(tables, &out.join("plots"))?;
    let goals = goals.as_ref().unwrap_or(tables);
    let before = std::fs::read_to_string(paths::docs().join("BENCHMARKS.md"))?;
    std::fs::write(out.join("BENCHMARKS.md"), document(goals, tables, &out, &before)?)?;
    eprintln!("wrote {}", out.join("BENCHMARKS.md").display());
    Ok(())
}

/// The option of `scripts/bench.sh compare` that produces such results.
fn plan_of(results: &Results) -> &'static str {
    match results.origin.scale >= Scale::FULL.claims {
        true if results.of_case("zipf").next().is_some() => "--full",
        true => "--goals",
        false => "--quick",
    }
}

/// Sections that other commands measure, each of which it names: they stay as they are.
const MEASURED_APART: [&str; 5] = [
    "Rows",
    "Ledger",
    "Plain claims against the commit before each part",
    "Work for each new id",
    "Transactions",
];

/// `before` is the document as it is now.
fn document(
    goals: &Results,
    results: &Results,
    out: &std::path::Path,
    before: &str,
) -> Result<String> {
    let mut text = String::new();
    let apart = |title: &str| sections::whole(before, title).unwrap_or_default();
    let of = |results: &Results| {
        format!(
            "`scripts/bench.sh compare {}`, commit {}, {} claims a run unless it syncs or a table says otherwise",
            plan_of(results),
            results.origin.commit,
            text::count(results.origin.scale as f64),
        )
    };
    writeln!(text, "# Benchmarks\n\nWritten by {}; do not edit.", of(results))?;
    if goals.origin != results.origin {
        writeln!(text, "The goals: {}.", of(goals))?;
    }
    for results in [goals, results] {
        let mut by_commit: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (case, commit) in &results.earlier {
            by_commit.entry(commit).or_default().push(format!("`{case}`"));
        }
        for (commit, cases) in by_commit {
            let plan = plan_of(results);
            writeln!(text, "Of {plan} last measured at commit {commit}: {}.", cases.join(", "))?;
        }
    }
    writeln!(text, "Machine: {}.\n", results.origin.machine)?;
    text.push_str(METHOD);
    write_goals(&mut text, goals)?;
    write_losses(&mut text, results)?;
    let plot = |name: &str| -> String {
        let there = out.join("plots").join(format!("{name}.svg")).exists();
        let title = PLOTS.iter().find(|plot| plot.0 == name).map_or("", |plot| plot.1);
        if there { format!("![{title}](plots/{name}.svg)\n\n") } else { String::new() }
    };
    let section =
        |text: &mut String, title: &str, body: String| write!(text, "\n## {title}\n\n{body}");
    let side = |cases: &[(&str, &str)]| tables::side_by_side(results, cases);

    section(&mut text, "One thread, no sync", tables::case(results, "one"))?;
    write!(text, "\n{}{}{}", plot("latency"), plot("memory"), plot("disk"))?;
    section(&mut text, "Opened again, closed or killed", tables::reopening(results, "one"))?;
    let synced = [
        ("batch-disk", "batches of 1,000, each on disk"),
        ("thousand-disk", "single claims, a sync every 1,000"),
        ("each-disk", "single claims, each on disk"),
        ("each-disk-64", "the same, 64 threads"),
    ];
    section(&mut text, "On disk before the answer", side(&synced))?;
    let shapes = [
        ("one", "any"),
        ("zipf", "Zipf"),
        ("recent", "of the last 1,000"),
        ("old", "of the oldest tenth"),
    ];
    section(&mut text, "Which ids are repeated", side(&shapes))?;
    let ids =
        [("id-8", "8 bytes"), ("one", "16 bytes"), ("id-36", "36 bytes"), ("id-200", "200 bytes")];
    section(&mut text, "Length of the ids", side(&ids))?;
    let duplicates = [("dup-0", "none"), ("one", "20 %"), ("dup-90", "90 %")];
    section(&mut text, "How many are duplicates", side(&duplicates))?;
    text.push_str(&apart(threads::TITLE));
    let batches = [("one", "single"), ("batch-32", "batches of 32"), ("batch", "batches of 1,000")];
    section(&mut text, "Batches, no sync", side(&batches))?;
    let growing = if goals.origin == results.origin {
        String::new()
    } else {
        format!(
            "{}\nThe same with other stores beside it, at smaller sizes:\n\n",
            tables::growing(goals)
        )
    };
    section(&mut text, "More and more ids", growing + &tables::growing(results))?;
    write!(text, "\n{}{}{}", plot("claims"), plot("open-closed"), plot("open-killed"))?;
    section(&mut text, "With a ttl, while flushing and expiring", tables::case(goals, "ttl"))?;
    section(&mut text, "Lines of a file", tables::lines(results))?;
    for title in MEASURED_APART {
        text.push_str(&apart(title));
    }
    section(&mut text, "How each store was set up", include_str!("setup.md").to_owned())?;
    Ok(text)
}

const METHOD: &str = "\
Each run is a process of its own on a new folder, makes the same ids from the same seed in the same order, and fails \
unless the number of first-seen answers is exactly right. Every subject runs right after firstseen, and a ratio is of such \
a pair; with several rounds it is the median. The time of a claim includes the making of its id. Where claims are fast, \
every 16th is timed by itself for the percentiles; the worst is of all claims. Memory is what is resident at the end, over \
the empty process, mapped files included; of the servers, that of the server. Disk is blocks after the close. Opening is \
until an old id is recognised. A kill is SIGKILL, of the server too, after claims that were answered one by one; what it \
has lost are those that are first-seen once more.\n\n";

fn write_goals(text: &mut String, results: &Results) -> Result<()> {
    let plan = plan_of(results);
    writeln!(
        text,
        "## Goals\n\nThey are set for ten million claims, some for a hundred million ids. What was tried for those that are \
         not met, and what bounds them, is in [notes/speed.md](notes/speed.md).\n"
    )?;
    let is_full = results.origin.scale >= Scale::FULL.claims;
    let at = if is_full { "" } else { ", at this smaller size" };
    let rows: Vec<_> = goals::goals(results)
        .into_iter()
        .map(|goal| {
            let met = match goal.met {
                Some(true) => format!("yes{at}"),
                Some(false) => format!("**no**{at}"),
                None => "see left".to_owned(),
            };
            let command =
                format!("`scripts/bench.sh compare {plan} --again --only {}`", goal.cases);
            vec![goal.what.to_owned(), goal.goal.to_owned(), goal.measured, met, command]
        })
        .collect();
    text.push_str(&text::text_table(&["what", "goal", "measured", "met", "again with"], &rows));
    Ok(())
}

fn write_losses(text: &mut String, results: &Results) -> Result<()> {
    writeln!(text, "\n## Where others are ahead\n\nThe names in front are those of the cases.\n")?;
    let losses = losses::to_peers(results);
    if losses.is_empty() {
        writeln!(text, "Of the stores that keep what they answer, nowhere in this run.")?;
    }
    for loss in losses {
        writeln!(text, "- {loss}")?;
    }
    let limits = losses::to_limits(results);
    if !limits.is_empty() {
        writeln!(text, "\nThe limits, which lack something that a store needs:\n")?;
    }
    for loss in limits {
        writeln!(text, "- {loss}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Origin;

    #[test]
    fn writing_the_document_again_keeps_what_other_commands_measured() {
        let before = std::fs::read_to_string(paths::docs().join("BENCHMARKS.md")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let origin = Origin { commit: "c".into(), machine: "m".into(), scale: 1 };
        let none = Results::read(&dir.path().join("none"), origin).unwrap();
        let after = document(&none, &none, dir.path(), &before).unwrap();
        let titles = |text: &str| {
            let heads = text.lines().filter_map(|line| line.strip_prefix("## ").map(str::to_owned));
            heads.collect::<Vec<_>>()
        };
        assert_eq!(titles(&after), titles(&before));
        for title in MEASURED_APART.into_iter().chain([threads::TITLE]) {
            assert_eq!(sections::whole(&after, title), sections::whole(&before, title));
        }
        assert!(MEASURED_APART.iter().all(|title| sections::whole(&before, title).is_some()));
    }
}
