//! The design goals, each with what was measured and the command to measure it again.

use super::rows::{Row, fastest, growth, is_embedded, ours};
use super::text::{count, figure, grouped, seconds, time};
use crate::peers::{Kind, Subject};
use crate::results::{Results, median};

#[derive(Debug)]
pub struct Goal {
    pub what: &'static str,
    pub goal: &'static str,
    pub measured: String,
    /// `None` if a figure alone cannot tell.
    pub met: Option<bool>,
    /// The cases that show it.
    pub cases: &'static str,
}

/// All goals that have measurements.
pub fn goals(results: &Results) -> Vec<Goal> {
    let mut goals: Vec<Goal> = [
        single(results),
        beside_hash_set(results),
        batch(results),
        batch_beside_log(results),
        shared_syncs(results),
        flat(results),
        memory(results),
        disk(results),
        open(results, "open after a clean close", "1 s with 100 M ids", 1.0, |row| {
            row.reopened.after_close.map(|opened| opened.seconds)
        }),
        open(results, "open after a kill", "3 s with 100 M ids", 3.0, |row| {
            row.reopened.after_kill.map(|opened| opened.seconds)
        }),
        pause(results),
        space(results),
    ]
    .into_iter()
    .flatten()
    .collect();
    goals.extend(lines(results));
    goals
}

fn against(row: &Row<'_>, ratio: f64, rate: f64) -> String {
    let theirs = grouped(row.rate());
    format!(
        "{} times {} ({} against {theirs} claims/s)",
        figure(ratio),
        row.subject.title,
        grouped(rate)
    )
}

/// The median ratio of the pairs, and a text with the figures it compares.
fn beside(row: &Row<'_>) -> Option<(f64, String)> {
    let ratio = row.ratio?;
    Some((ratio, against(row, ratio, ratio * row.rate())))
}

fn single(results: &Results) -> Option<Goal> {
    let (ratio, mut measured) = beside(&fastest(results, "one", is_embedded)?)?;
    let safe = |subject: &Subject| is_embedded(subject) && subject.promise == "nothing";
    if let Some((_, text)) = fastest(results, "one", safe).and_then(|row| beside(&row)) {
        measured = format!("{measured}; of those that lose nothing by a kill: {text}");
    }
    Some(Goal {
        what: "single thread, `Process`, 16-byte ids, 20 % duplicates",
        goal: "10 × the fastest embedded peer",
        measured,
        met: Some(ratio >= 10.0),
        cases: "one",
    })
}

fn beside_hash_set(results: &Results) -> Option<Goal> {
    let (ratio, measured) = beside(&fastest(results, "one", |s| s.name == "hashset-file")?)?;
    Some(Goal {
        what: "the same, beside the limit",
        goal: "no slower than `std` HashSet and a file",
        measured,
        met: Some(ratio >= 1.0),
        cases: "one",
    })
}

fn batch(results: &Results) -> Option<Goal> {
    // sled's own flush is no sync.
    let syncs = |s: &Subject| matches!(s.kind, Kind::Embedded | Kind::Server) && s.name != "sled";
    let (ratio, measured) = beside(&fastest(results, "batch-disk", syncs)?)?;
    Some(Goal {
        what: "`claim_batch` of 1,000 at `Disk`",
        goal: "5 × the fastest peer that syncs as often",
        measured,
        met: Some(ratio >= 5.0),
        cases: "batch-disk",
    })
}

fn batch_beside_log(results: &Results) -> Option<Goal> {
    let (ratio, measured) = beside(&fastest(results, "batch-disk", |s| s.name == "log")?)?;
    Some(Goal {
        what: "the same, beside the limit",
        goal: "60 % of a bare log",
        measured,
        met: Some(ratio >= 0.6),
        cases: "batch-disk",
    })
}

fn shared_syncs(results: &Results) -> Option<Goal> {
    let [one, many] = ["each-disk", "each-disk-64"].map(|case| ours(results, case));
    let (one, many) = (one?.rate(), many?.rate());
    Some(Goal {
        what: "one claim at `Disk` from 64 threads",
        goal: "20 × one thread",
        measured: format!(
            "{} times ({} against {} claims/s)",
            figure(many / one),
            grouped(many),
            grouped(one)
        ),
        met: Some(many / one >= 20.0),
        cases: "each-disk",
    })
}

/// The cost of another claim between half of `claims` and all of them, in nanoseconds.
fn marginal_ns(results: &Results, claims: u64) -> Option<f64> {
    let at = |claims: u64| ours(results, &format!("growth-{claims}"));
    let (half, whole) = (at(claims / 2)?, at(claims)?);
    let s = whole.outcome.claims.seconds - half.outcome.claims.seconds;
    // On a busy machine, the longer run may have taken less time.
    Some(s * 1e9 / (claims - claims / 2) as f64).filter(|ns| *ns > 0.0)
}

/// The number of ids after this many claims, as text.
fn ids(results: &Results, claims: u64) -> String {
    let row = ours(results, &format!("growth-{claims}"));
    count(row.map_or(0.0, |row| row.outcome.claims.first_seen as f64))
}

fn flat(results: &Results) -> Option<Goal> {
    let most = growth(results).last()?.0;
    let (small, large) = (marginal_ns(results, most / 10)?, marginal_ns(results, most)?);
    Some(Goal {
        what: "cost of another claim with 100 M ids",
        goal: "at most 1.5 × that with 10 M",
        measured: format!(
            "{} times with {} ids ({} against {} with {})",
            figure(large / small),
            ids(results, most),
            time(large),
            time(small),
            ids(results, most / 10)
        ),
        met: Some(large / small <= 1.5),
        cases: "growth",
    })
}

fn memory(results: &Results) -> Option<Goal> {
    let most = growth(results).last()?.0;
    let at = |claims: u64| ours(results, &format!("growth-{claims}")).map(|row| row.outcome);
    let (half, whole) = (at(most / 2)?, at(most)?);
    let held = |o: &crate::outcome::Outcome| {
        o.claims.memory_bytes as f64 - o.claims.memory_file_bytes as f64
    };
    let more = (whole.claims.first_seen - half.claims.first_seen) as f64;
    let slope = (held(whole) - held(half)) / more;
    let own = |name: &str| whole.claims.details[name].as_f64();
    // The index of a locator file is counted with the filters.
    let own = own("memory_filter_bytes")? / own("ids_flushed")?.max(1.0);
    Some(Goal {
        what: "memory per flushed id",
        goal: "3 bytes, filters and indexes together",
        measured: format!(
            "{} bytes of filters and of where locators begin, with {} ids; with sled and the allocator the process grew by {} bytes for \
             each id from {} ids on",
            figure(own),
            ids(results, most),
            figure(slope),
            ids(results, most / 2),
        ),
        met: Some(own <= 3.0),
        cases: "growth",
    })
}

fn disk(results: &Results) -> Option<Goal> {
    let (most, case) = growth(results).pop()?;
    let bytes = ours(results, &case)?.reopened.disk_per_id();
    Some(Goal {
        what: "disk per id (16-byte ids)",
        goal: "45 bytes",
        measured: format!("{} bytes with {} ids", figure(bytes), ids(results, most)),
        met: Some(bytes <= 45.0),
        cases: "growth",
    })
}

fn open(
    results: &Results,
    what: &'static str,
    goal: &'static str,
    most_s: f64,
    took: impl Fn(&Row<'_>) -> Option<f64>,
) -> Option<Goal> {
    let (most, case) = growth(results).pop()?;
    let s = took(&ours(results, &case)?)?;
    let measured = format!("{} with {} ids", seconds(s), ids(results, most));
    Some(Goal { what, goal, measured, met: Some(s <= most_s), cases: "growth" })
}

fn pause(results: &Results) -> Option<Goal> {
    let claims = &ours(results, "ttl")?.outcome.claims;
    Some(Goal {
        what: "pause of a claim while flushing, expiring and compacting",
        goal: "p99.9 of 1 ms",
        measured: format!(
            "p99.9 {}, worst {}",
            time(claims.p999_ns as f64),
            time(claims.worst_ns as f64)
        ),
        met: Some(claims.p999_ns <= 1_000_000),
        cases: "ttl",
    })
}

fn space(results: &Results) -> Option<Goal> {
    let claims = &ours(results, "ttl")?.outcome.claims;
    let own = |name: &str| claims.details[name].as_f64().unwrap_or_default();
    Some(Goal {
        what: "expired space comes back",
        goal: "within one generation, without reading the ids",
        measured: format!(
            "of {} ids {} had expired and gone with {} runs and {} log segments; {} bytes on disk for \
             each id that was ever claimed",
            count(claims.first_seen as f64),
            count(own("ids_expired")),
            own("runs_expired"),
            own("segments_removed"),
            figure(claims.disk_bytes as f64 / claims.first_seen as f64)
        ),
        met: None,
        cases: "ttl",
    })
}

fn lines(results: &Results) -> Vec<Goal> {
    let of = |name: &str| -> Option<(f64, f64, f64)> {
        let lines = || results.lines.iter().filter(|lines| lines.theirs.name == name);
        let theirs = median(lines().map(|l| l.theirs.seconds).collect())?;
        let ours = median(lines().map(|l| l.ours.seconds).collect())?;
        Some((ours, theirs, median(lines().map(|l| l.theirs.seconds / l.ours.seconds).collect())?))
    };
    let goals = ["huniq", "runiq"].into_iter().zip(["as fast as `huniq`", "as fast as `runiq`"]);
    let mut all: Vec<Goal> = goals
        .filter_map(|(name, goal)| {
            let (ours, theirs, ratio) = of(name)?;
            Some(Goal {
                what: "`firstseen dedup`, lines of 32 bytes, 20 % duplicates",
                goal,
                measured: format!(
                    "{} times ({} against {})",
                    figure(ratio),
                    seconds(ours),
                    seconds(theirs)
                ),
                met: Some(ratio >= 1.0),
                cases: "dedup",
            })
        })
        .collect();
    if let Some(peak) = results.lines.iter().map(|lines| lines.ours.peak_bytes).max() {
        all.push(Goal {
            what: "memory of that run",
            goal: "128 MB",
            measured: format!("{} MB", figure(peak as f64 / 1e6)),
            met: Some(peak < 128_000_000),
            cases: "dedup",
        });
    }
    all
}
