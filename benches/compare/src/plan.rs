//! What the suite runs: cases, each with a workload and the subjects measured with it.

use crate::workload::{Repeats, Sync, Workload};

/// One workload and the subjects measured against firstseen.
#[derive(Debug, Clone)]
pub struct Case {
    pub name: String,
    pub workload: Workload,
    pub stores: Vec<&'static str>,
    /// Whether to reopen the subjects, after a close and after a kill.
    pub reopens: bool,
}

#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Claims of a run without syncs.
    pub claims: u64,
    /// Maximum claims of the growth runs (a fifth of them duplicates), and the maximum for slow peers.
    pub growth: u64,
    pub growth_slow: u64,
    pub rounds: u32,
}

impl Scale {
    pub const QUICK: Self =
        Self { claims: 1_000_000, growth: 5_000_000, growth_slow: 2_500_000, rounds: 1 };
    pub const FULL: Self =
        Self { claims: 10_000_000, growth: 125_000_000, growth_slow: 12_500_000, rounds: 3 };

    /// What the goals need, at the sizes they are set for.
    pub const GOALS: Self = Self { rounds: 1, ..Self::FULL };

    /// The same plan, scaled to another number of claims.
    pub fn with_claims(self, claims: u64) -> Self {
        let scaled = |n: u64| (n as f64 * claims as f64 / self.claims as f64) as u64;
        Self { claims, growth: scaled(self.growth), growth_slow: scaled(self.growth_slow), ..self }
    }
}

/// Embedded peers in their fastest single-threaded form.
const FASTEST: [&str; 6] = ["sled", "redb-group", "fjall", "lmdb-group", "sqlite-group", "rocksdb"];
/// One transaction per claim, as several threads or a sync per claim need it.
const SHARED: [&str; 8] =
    ["sled", "redb", "fjall", "lmdb", "sqlite", "rocksdb", "redis", "postgres"];
/// Peers measured up to the largest number of ids.
const GROWING: [&str; 3] = ["lmdb-group", "sqlite-group", "rocksdb"];
/// Ttl of claims in the expiring case; the run takes several times as long.
pub const TTL_S: u64 = 1;

/// Claims that a subject makes of a case with `claims`; slow ones make fewer, so that the run ends.
pub fn claims_of(store: &str, workload: &Workload) -> u64 {
    if workload.batch > 1 || workload.sync != Sync::Never {
        return workload.claims;
    }
    let share = match store {
        "redis" | "postgres" | "postgres-group" => 10,
        "redb" | "sqlite-normal" => 4,
        _ => 1,
    };
    workload.claims / share
}

/// One thread, single claims, no sync.
fn base(claims: u64) -> Workload {
    Workload {
        claims,
        repeats: Repeats::Uniform,
        id_bytes: 16,
        duplicates: 20,
        threads: 1,
        sync: Sync::Never,
        batch: 1,
        ttl_s: 0,
        seed: 1,
    }
}

/// How threads claim: a name for cases, and one for people.
pub const WAYS: [(&str, &str); 4] = [
    ("single", "Single claims, no sync"),
    ("batches", "Batches of 1,000, no sync"),
    ("single-disk", "Single claims, each on disk before its answer"),
    ("batches-disk", "Batches of 1,000, each on disk before its answer"),
];

/// Claims by the number of threads, in every way: one case for each way and number.
pub fn by_threads(claims: u64, threads: &[u64]) -> Vec<Case> {
    let mut all = Vec::new();
    for (way, _) in WAYS {
        for &threads in threads {
            let base = Workload { threads, ..base(claims) };
            // One thread waits for each sync, some share one, so those that share get more.
            let synced = (claims * threads.min(8) / 200).max(threads);
            let (workload, more): (_, &[&'static str]) = match way {
                "single" => (base, &["hashset"]),
                "batches" => (Workload { batch: 1_000, ..base }, &["hashset"]),
                "single-disk" => {
                    let workload = Workload { claims: synced, sync: Sync::Each, ..base };
                    (workload, &["sled-fsync", "log-group"])
                }
                _ => {
                    let claims = (claims / 2).max(threads);
                    (Workload { claims, batch: 1_000, sync: Sync::Each, ..base }, &["sled-fsync"])
                }
            };
            all.push(Case {
                name: case_by_threads(way, threads),
                workload,
                stores: [&SHARED, more].concat(),
                reopens: false,
            });
        }
    }
    all
}

pub fn case_by_threads(way: &str, threads: u64) -> String {
    format!("{way}-{threads}")
}

pub fn cases(scale: Scale) -> Vec<Case> {
    let base = base(scale.claims);
    let case = |name: &str, workload, stores: &[&[&'static str]]| Case {
        name: name.to_owned(),
        workload,
        stores: stores.concat(),
        reopens: false,
    };
    let with = |change: &dyn Fn(&mut Workload)| {
        let mut workload = base.clone();
        change(&mut workload);
        workload
    };

    let mut all = vec![Case {
        reopens: true,
        ..case(
            "one",
            base.clone(),
            &[
                &["firstseen", "firstseen-buffered"],
                &FASTEST,
                &["redb", "lmdb", "sqlite", "sqlite-normal", "redis", "postgres"],
                &["postgres-group", "hashset", "hashset-file"],
            ],
        )
    }];
    for (name, repeats) in
        [("zipf", Repeats::Zipf), ("recent", Repeats::Recent), ("old", Repeats::Old)]
    {
        let workload = with(&|w| w.repeats = repeats);
        all.push(case(name, workload, &[&FASTEST, &["hashset-file"]]));
    }
    for id_bytes in [8, 36, 200] {
        let workload = with(&|w| w.id_bytes = id_bytes);
        all.push(case(&format!("id-{id_bytes}"), workload, &[&FASTEST, &["hashset-file"]]));
    }
    for duplicates in [0, 90] {
        let workload = with(&|w| w.duplicates = duplicates);
        all.push(case(&format!("dup-{duplicates}"), workload, &[&FASTEST, &["hashset-file"]]));
    }
    all.push(case("batch", with(&|w| w.batch = 1_000), &[&SHARED, &["hashset-file"]]));
    all.push(case("batch-32", with(&|w| w.batch = 32), &[&["redis"]]));
    all.extend(synced(scale, &with, &case));
    all.extend(growing(scale, &with));
    let ttl = with(&|w| {
        w.claims = scale.claims.saturating_mul(10);
        w.repeats = Repeats::Recent;
        w.ttl_s = TTL_S;
    });
    all.push(case("ttl", ttl, &[&["firstseen"]]));
    all
}

/// The part of a plan that the goals need, with only those peers that may be the fastest.
pub fn for_goals(cases: Vec<Case>) -> Vec<Case> {
    let keep = |case: &Case, store: &str| match case.name.as_str() {
        "one" => FASTEST.contains(&store) || store == "hashset-file",
        "batch-disk" => !matches!(store, "sled" | "sled-fsync" | "redb" | "postgres"),
        "each-disk" | "each-disk-64" => matches!(store, "log" | "log-group" | "rocksdb"),
        "ttl" => true,
        name => name.starts_with("growth-") && store == "firstseen",
    };
    let part = |case: Case| {
        let stores: Vec<_> =
            case.stores.iter().copied().filter(|store| keep(&case, store)).collect();
        // The whole plan reopens peers; here that would take longer than everything else.
        let reopens = case.name.starts_with("growth-");
        (!stores.is_empty()).then_some(Case { stores, reopens, ..case })
    };
    cases.into_iter().filter_map(part).collect()
}

type With<'a> = &'a dyn Fn(&dyn Fn(&mut Workload)) -> Workload;
type MakeCase<'a> = &'a dyn Fn(&str, Workload, &[&[&'static str]]) -> Case;

/// Cases that sync. A sync takes milliseconds, so they make fewer claims.
fn synced(scale: Scale, with: With<'_>, case: MakeCase<'_>) -> Vec<Case> {
    let batches = with(&|w| {
        w.claims = scale.claims / 2;
        w.sync = Sync::Each;
        w.batch = 1_000;
    });
    let thousand = with(&|w| {
        w.claims = scale.claims / 4;
        w.sync = Sync::Thousand;
    });
    let each = |threads: u64, share: u64| {
        with(&|w| {
            w.claims = (scale.claims / share).clamp(threads, 100_000);
            w.sync = Sync::Each;
            w.threads = threads;
        })
    };
    vec![
        case("batch-disk", batches, &[&SHARED, &["sled-fsync", "log"]]),
        case(
            "thousand-disk",
            thousand,
            &[&FASTEST, &["sled-fsync", "postgres-group", "hashset-file", "log"]],
        ),
        case("each-disk", each(1, 500), &[&SHARED, &["sled-fsync", "log"]]),
        case("each-disk-64", each(64, 100), &[&SHARED, &["sled-fsync", "log", "log-group"]]),
    ]
}

/// Cases with more and more ids, reopened at the end of each.
fn growing(scale: Scale, with: With<'_>) -> Vec<Case> {
    let mut all = Vec::new();
    for percent in [1, 2, 5, 10, 20, 50, 100] {
        let claims = scale.growth * percent / 100;
        if claims < scale.growth_slow / 10 {
            continue;
        }
        let mut stores = vec!["firstseen"];
        stores.extend(match claims {
            _ if claims <= scale.growth_slow => FASTEST.to_vec(),
            _ if claims == scale.growth => GROWING.to_vec(),
            _ => Vec::new(),
        });
        let workload = with(&|w| w.claims = claims);
        all.push(Case { name: format!("growth-{claims}"), workload, stores, reopens: true });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers;
    use std::collections::BTreeSet;

    #[test]
    fn the_plan_is_made_of_what_there_is() {
        let scales = [Scale::QUICK, Scale::FULL, Scale::QUICK.with_claims(10_000)];
        let by_threads = [400_000, 64].map(|claims| by_threads(claims, &[1, 2, 64]));
        for cases in scales.map(cases).into_iter().chain(by_threads) {
            let names: BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
            assert_eq!(names.len(), cases.len(), "case names are unique");
            for case in &cases {
                case.workload.check().unwrap();
                for store in &case.stores {
                    let subject = peers::find(store).unwrap();
                    assert!(subject.shared || case.workload.threads == 1, "{store}, {}", case.name);
                    assert!(claims_of(store, &case.workload) > 0);
                }
            }
        }
    }

    #[test]
    fn what_is_measured_by_threads_says_how_threads_share_it() {
        for case in by_threads(400_000, &[1, 8]) {
            for store in case.stores.iter().copied().chain(["firstseen"]) {
                assert!(peers::sharing(store).is_some(), "{store}");
            }
        }
    }

    #[test]
    fn every_goal_has_its_cases() {
        let cases = for_goals(cases(Scale::GOALS));
        let names: BTreeSet<_> = cases.iter().map(|case| case.name.as_str()).collect();
        for name in ["one", "batch-disk", "each-disk", "each-disk-64", "ttl"] {
            assert!(names.contains(name), "{name}");
        }
        let growth = |claims: u64| names.contains(format!("growth-{claims}").as_str());
        assert!(growth(Scale::GOALS.growth) && growth(Scale::GOALS.growth / 2));
        assert!(growth(Scale::GOALS.growth / 10) && growth(Scale::GOALS.growth / 20));
    }

    #[test]
    fn every_subject_is_measured() {
        let cases = cases(Scale::QUICK);
        for subject in peers::SUBJECTS {
            let is_there = cases.iter().any(|case| case.stores.contains(&subject.name));
            assert!(is_there, "{}", subject.name);
        }
    }
}
