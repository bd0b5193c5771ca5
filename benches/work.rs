//! The work for each new id: processor time by part, and what is written how often.
//!
//! `cargo bench --bench work`, or with others than the defaults:
//! `cargo bench --bench work -- ids=4000000 threads=1 batch=1 memory=256 rounds=3` (`memory` in MiB). Claims new ids of 16 bytes
//! at `Process` and waits until nothing is left to be flushed or merged. Times are processor time, so waiting for the disk
//! does not count. Those of the background and all counts are for each id that was flushed: some stay in the memtables.
//! Prints the round whose total is the median.

#![allow(clippy::disallowed_macros, reason = "a benchmark prints")]

#[path = "../crates/cli/src/cmd/bench/processor.rs"]
mod processor;

use firstseen::{Stats, Store};
use std::path::Path;
use std::time::Duration;

/// What is measured.
#[derive(Debug, Clone, Copy)]
struct Case {
    ids: u64,
    threads: u64,
    batch: u64,
    memory: usize,
    rounds: usize,
}

/// What one round found.
struct Round {
    stats: Stats,
    /// Processor time of the process, of its claiming threads, and of them and all jobs of the store, in nanoseconds.
    all: f64,
    claiming: f64,
    /// Bytes written by system calls.
    written: f64,
    probes: f64,
}

impl Round {
    /// Returns the times of the parts for each id, in nanoseconds. Their sum is that of an id from claim to rest.
    fn parts(&self, case: Case) -> Vec<(&'static str, f64)> {
        let stats = &self.stats;
        let flushed = stats.entries_flushed as f64;
        let background = stats.background_processor_ns as f64;
        let parts = [
            stats.flush_processor_ns,
            stats.merge_processor_ns,
            stats.publish_processor_ns,
            stats.log_processor_ns,
        ]
        .map(|ns| ns as f64);
        let [flush, merge, publish, log] = parts;
        let rest = background - parts.iter().sum::<f64>();
        vec![
            ("claiming threads", self.claiming / case.ids as f64),
            ("making runs from memtables", flush / flushed),
            ("making runs from runs", merge / flushed),
            ("publishing: syncs, manifest", publish / flushed),
            ("the log: segments, zeros, syncs", log / case.ids as f64),
            ("other work in the background", rest / flushed),
            ("sled's threads", (self.all - self.claiming - background) / flushed),
        ]
    }

    fn total(&self, case: Case) -> f64 {
        self.parts(case).iter().map(|(_, ns)| ns).sum()
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A new id for each number.
fn id(number: u64) -> [u8; 16] {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&mix(number.wrapping_add(1)).to_le_bytes());
    id[8..].copy_from_slice(&mix(!number).to_le_bytes());
    id
}

/// Processor time of this thread in nanoseconds.
fn of_this_thread() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default().as_nanos() as f64
}

/// Bytes that this process has written by system calls; zero where the system does not say.
fn written() -> f64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let bytes = io.lines().find_map(|line| line.strip_prefix("wchar: ")?.parse().ok());
    bytes.unwrap_or(0.0)
}

/// Claims the ids of one thread and returns its processor time.
fn claim_all(store: &Store, case: Case, ids: std::ops::Range<u64>) -> f64 {
    let before = of_this_thread();
    for first in ids.clone().step_by(case.batch as usize) {
        if case.batch == 1 {
            assert!(store.claim(id(first)).expect("claims").is_first_seen());
            continue;
        }
        let batch: Vec<_> = (first..ids.end.min(first + case.batch)).map(id).collect();
        let answers = store.claim_batch(&batch).expect("claims");
        assert!(answers.iter().all(|answer| answer.is_first_seen()));
    }
    of_this_thread() - before
}

/// Waits until the background has flushed and merged what it will: until the process does next to nothing for a second.
fn wait_for_rest() {
    let pause = Duration::from_millis(100);
    let (mut before, mut idle) = (processor::time(), 0);
    while idle < 10 {
        std::thread::park_timeout(pause);
        let now = processor::time();
        idle = if now.saturating_sub(before) < pause / 20 { idle + 1 } else { 0 };
        before = now;
    }
}

fn measure(case: Case, path: &Path) -> Round {
    let builder = Store::builder(path).memory_budget(case.memory << 20);
    let store = builder.open().expect("opens");
    let (time, bytes) = (processor::time(), written());
    let each = case.ids / case.threads;
    let claiming = std::thread::scope(|scope| {
        let claim = |thread| {
            let store = &store;
            scope.spawn(move || claim_all(store, case, thread * each..(thread + 1) * each))
        };
        let threads: Vec<_> = (0..case.threads).map(claim).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum::<f64>()
    });
    wait_for_rest();
    let all = processor::time().saturating_sub(time).as_nanos() as f64;
    let (stats, written) = (store.stats(), written() - bytes);
    let probes = stats.filter_probes as f64;
    store.close().expect("closes");
    Round { stats, all, claiming, written, probes }
}

fn print(case: Case, round: &Round) {
    let stats = &round.stats;
    let flushed = stats.entries_flushed as f64;
    let each = |n: u64| n as f64 / flushed;
    println!(
        "{} new ids of 16 bytes, {} to a call, {} to claim, {} MiB; {} flushed",
        case.ids, case.batch, case.threads, case.memory, stats.entries_flushed
    );
    println!("\nprocessor time, ns an id");
    for (part, ns) in round.parts(case) {
        println!("  {part:<34}{ns:>8.1}");
    }
    println!("  {:<34}{:>8.1}", "all", round.total(case));
    let background = round.total(case) - round.claiming / case.ids as f64;
    println!("  {:<34}{background:>8.1}", "of it beside the claims");
    println!("\nwrites");
    let (blocks, bytes) = (stats.blocks_written, stats.block_bytes_written);
    let written = stats.bytes_flushed + stats.bytes_merged;
    let lines = [
        ("bytes flushed, an id", each(stats.bytes_flushed)),
        ("bytes merged, an id", each(stats.bytes_merged)),
        ("entries merged, an id", each(stats.entries_merged)),
        ("bytes of runs to those flushed", written as f64 / stats.bytes_flushed as f64),
        ("bytes given to sled, an id", each(bytes)),
        ("bytes written by system calls, an id", round.written / flushed),
        ("blocks put into sled, for 1,000 ids", each(blocks) * 1e3),
        ("blocks removed, for 1,000 ids", each(stats.blocks_removed) * 1e3),
        ("ids of a flushed run", each(1).recip() / stats.runs_flushed as f64),
        ("runs of a merge", stats.runs_merged as f64 / stats.merges.max(1) as f64),
        ("filters asked by a claim", round.probes / case.ids as f64),
    ];
    for (what, n) in lines {
        println!("  {what:<38}{n:>12.2}");
    }
    let counts = [
        ("runs flushed", stats.runs_flushed),
        ("merges", stats.merges),
        ("runs left", stats.runs),
        ("manifests, each with a sync of sled", stats.manifests_written),
        ("syncs of the log", stats.log_syncs),
        ("waits for a flush", stats.waits_for_flush),
    ];
    for (what, n) in counts {
        println!("  {what:<38}{n:>12}");
    }
}

fn main() {
    let is_bench = std::env::args().any(|arg| arg == "--bench");
    let set = |name: &str, default: u64| {
        let value = std::env::args().find_map(|arg| {
            arg.strip_prefix(name)?.strip_prefix('=').map(|value| value.parse().expect("a number"))
        });
        value.unwrap_or(default)
    };
    // `cargo test --benches` runs this too: with little.
    let case = Case {
        ids: set("ids", if is_bench { 4_000_000 } else { 100_000 }),
        threads: set("threads", 1).max(1),
        batch: set("batch", 1).max(1),
        memory: set("memory", if is_bench { 256 } else { 4 }) as usize,
        rounds: set("rounds", if is_bench { 3 } else { 1 }).max(1) as usize,
    };
    // All stay until the end: in a folder from which much was just removed, ext4 takes long to make a file.
    let dir = tempfile::tempdir().expect("a folder");
    let mut rounds: Vec<Round> =
        (0..case.rounds).map(|n| measure(case, &dir.path().join(n.to_string()))).collect();
    rounds.sort_by(|a, b| a.total(case).total_cmp(&b.total(case)));
    print(case, &rounds[case.rounds / 2]);
}
