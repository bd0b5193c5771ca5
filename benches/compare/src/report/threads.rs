//! The section "Claims by threads" and its plots.

use super::rows::rows;
use super::text::{count, figure, grouped, table, text_table, time};
use super::{losses, plots, sections};
use crate::outcome::Outcome;
use crate::peers::{self, SUBJECTS, Subject};
use crate::plan::{WAYS, case_by_threads};
use crate::results::{Results, median};
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

pub const TITLE: &str = "Claims by threads";
/// The section that follows it.
const NEXT: &str = "Batches, no sync";

/// Writes the section into `BENCHMARKS.md` in this folder, and the plots beside it.
pub fn write(results: &Results, docs: &Path) -> Result<()> {
    let path = docs.join("BENCHMARKS.md");
    let body = section(results, &docs.join("plots"))?;
    std::fs::write(
        &path,
        sections::replaced(&std::fs::read_to_string(&path)?, TITLE, &body, NEXT),
    )?;
    eprintln!("wrote section \"{TITLE}\" of {}", path.display());
    Ok(())
}

/// The numbers of threads that were measured, the least first.
fn threads(results: &Results) -> Vec<u64> {
    let all: BTreeSet<u64> =
        results.pairs.iter().map(|pair| pair.theirs.workload.threads).collect();
    all.into_iter().collect()
}

fn rounds(results: &Results) -> u32 {
    results.pairs.iter().map(|pair| pair.round + 1).max().unwrap_or(0)
}

/// Runs of a subject in a case, each with its round and the peer that it was measured with: firstseen runs before each.
fn runs<'a>(
    results: &'a Results,
    case: &'a str,
    store: &'a str,
) -> impl Iterator<Item = ((u32, &'a str), &'a Outcome)> {
    let both = results.of_case(case).flat_map(|pair| {
        let at = (pair.round, pair.theirs.store.as_str());
        pair.ours.iter().chain([&pair.theirs]).map(move |outcome| (at, outcome))
    });
    both.filter(move |(_, outcome)| outcome.store == store)
}

/// How many times the rate in one case that in another is: the median over runs that were made close to each other.
fn times(results: &Results, [those, one]: [&str; 2], store: &str) -> Option<f64> {
    let base: BTreeMap<_, _> = runs(results, one, store).collect();
    let ratios = runs(results, those, store).filter_map(|(at, outcome)| {
        Some(outcome.claims.claims_per_s / base.get(&at)?.claims.claims_per_s)
    });
    median(ratios.collect())
}

fn processor(results: &Results, case: &str, store: &str) -> Option<f64> {
    median(runs(results, case, store).map(|run| run.1.processor_ns()).collect())
}

fn section(results: &Results, plots: &Path) -> Result<String> {
    let mut text = String::new();
    let threads = threads(results);
    let list: Vec<String> = threads.iter().map(u64::to_string).collect();
    writeln!(
        text,
        "`scripts/bench.sh threads --threads {} --claims {} --rounds {}` measures this and writes this section and its plots. \
         Commit {}. Machine: {}.\n",
        list.join(","),
        results.origin.scale,
        rounds(results),
        results.origin.commit,
        results.origin.machine,
    )?;
    text.push_str(METHOD);
    write!(text, "\n### firstseen\n\n{}", ours(results, &threads))?;
    for (way, title) in WAYS {
        let lines = rates(results, way, &threads);
        if lines.is_empty() {
            continue;
        }
        write!(text, "\n### {title}\n\n{}", beside(results, way, &threads))?;
        let name = format!("threads-{way}.svg");
        std::fs::create_dir_all(plots)?;
        plots::by_threads(&plots.join(&name), title, lines)?;
        write!(text, "\n![{title}, by threads](plots/{name})\n")?;
    }
    write!(text, "\n### Where others are ahead\n\n")?;
    let ahead = [losses::to_peers(results), losses::to_limits(results)].concat();
    if ahead.is_empty() {
        writeln!(text, "Nowhere in this run.")?;
    }
    for loss in ahead {
        writeln!(text, "- {loss}")?;
    }
    write!(text, "\n### What each was given\n\n{}", given(results, &threads, &list.join(", ")))?;
    Ok(text)
}

const METHOD: &str = "\
Ids have 16 bytes, a fifth of the claims repeats an id of any thread, so threads race for ids, and a run fails unless the \
number of first-seen answers is exactly right. Each run is a process of its own on a new folder. Rounds are interleaved: one has \
every way to claim in turn, in it every store, and of a store every number of threads, each right after a run of firstseen \
with as many. A ratio to another store is of two such runs, one to another number of threads of two runs beside the same store in the \
same round, so all are of runs within seconds; what is shown is the median. `Process` is firstseen's level without a \
sync, `Disk` the one with it. Processor time is user and system time of all threads of the process for each claim, of the \
store's own in the background and of a server with its processes, too, from the first claim to the last answer, with the making of \
the ids. The system places the threads: none is bound to a processor.\n";

/// firstseen alone: every way and number of threads.
fn ours(results: &Results, threads: &[u64]) -> String {
    const NAME: &str = "firstseen";
    let Some(least) = threads.first() else { return String::new() };
    let to_least = format!("to {least} thread{}", if *least == 1 { "" } else { "s" });
    let heads = [
        "claims",
        "threads",
        "claims of a run",
        "claims/s",
        &to_least,
        "processor time of a claim",
        "p50",
        "p99",
    ];
    let mut lines = Vec::new();
    for (way, title) in WAYS {
        let first = case_by_threads(way, *least);
        for number in threads {
            let case = case_by_threads(way, *number);
            let Some(row) = super::rows::ours(results, &case) else { continue };
            let claims = &row.outcome.claims;
            lines.push(vec![
                title.to_owned(),
                number.to_string(),
                count(row.outcome.workload.claims as f64),
                grouped(row.rate()),
                times(results, [&case, &first], NAME).map_or(String::new(), |n| format!("{n:.2}")),
                time(processor(results, &case, NAME).unwrap_or(0.0)),
                time(claims.p50_ns as f64),
                time(claims.p99_ns as f64),
            ]);
        }
    }
    table(&heads, &lines)
}

/// Claims a second of each subject by the number of threads.
fn rates(results: &Results, way: &str, threads: &[u64]) -> Vec<(Subject, Vec<(u64, f64)>)> {
    let all = SUBJECTS.iter().map(|subject| {
        let rate = |number: &u64| {
            let rows = rows(results, &case_by_threads(way, *number));
            let row = rows.iter().find(|row| row.subject == *subject)?;
            Some((*number, row.rate()))
        };
        (*subject, threads.iter().filter_map(rate).collect::<Vec<_>>())
    });
    all.filter(|(_, rates)| !rates.is_empty()).collect()
}

/// Every subject: claims a second and processor time, each by the number of threads.
fn beside(results: &Results, way: &str, threads: &[u64]) -> String {
    let mut heads = vec!["claims/s (firstseen is … times as fast)".to_owned()];
    let plural = |n: &u64| format!("{n} thread{}", if *n == 1 { "" } else { "s" });
    heads.extend(threads.iter().map(plural));
    heads.extend(threads.iter().map(|n| format!("processor time of a claim, {}", plural(n))));
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let cases: Vec<String> = threads.iter().map(|n| case_by_threads(way, *n)).collect();
    let lines = rates(results, way, threads).into_iter().map(|(subject, _)| {
        let mut line = vec![subject.title.to_owned()];
        line.extend(cases.iter().map(|case| {
            let rows = rows(results, case);
            let row = rows.iter().find(|row| row.subject == subject);
            row.map_or("–".to_owned(), |row| {
                let rate = grouped(row.rate());
                row.ratio.map_or(rate.clone(), |ratio| format!("{rate} ({})", figure(ratio)))
            })
        }));
        let costs = cases.iter().map(|case| processor(results, case, subject.name));
        line.extend(costs.map(|cost| cost.map_or("–".to_owned(), time)));
        line
    });
    table(&heads, &lines.collect::<Vec<_>>())
}

/// Threads of each subject, and what makes its claims atomic.
fn given(results: &Results, threads: &[u64], list: &str) -> String {
    let heads = [
        "store",
        "claiming threads",
        "each has",
        "threads of its own",
        "is a claim atomic?",
        "is a batch?",
    ];
    let first = threads.first().copied().unwrap_or(1);
    let lines = SUBJECTS.iter().filter_map(|subject| {
        let sharing = peers::sharing(subject.name)?;
        let cases = WAYS.map(|(way, _)| case_by_threads(way, first));
        let own = cases.iter().flat_map(|case| runs(results, case, subject.name));
        let own = own.map(|run| run.1.claims.own_threads).max()?;
        Some(vec![
            subject.title.to_owned(),
            list.to_owned(),
            sharing.access.to_owned(),
            own.to_string(),
            sharing.claim.to_owned(),
            sharing.batch.to_owned(),
        ])
    });
    text_table(&heads, &lines.collect::<Vec<_>>())
}
