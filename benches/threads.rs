//! Claims by the number of threads: single and in batches, with sealing beside and without, duplicates, and at `Disk`; and
//! with the feature `testing` appending alone, without work in the background.
//!
//! `cargo bench --bench threads`; one mode in three rounds: `cargo bench --bench threads -- memtable 3`. Rounds are
//! interleaved, and ratios are medians of those within a round, so what else the machine does weighs on all threads
//! alike. On any disk: `firstseen bench --threads`; beside other stores: `scripts/bench.sh threads`. `FIRSTSEEN_THREADS_CLAIMS`
//! sets the claims of a run (default 2,000,000), `FIRSTSEEN_THREADS` the numbers of threads (default 1,2,4,64), `FIRSTSEEN_SHARDS` those of the store. With
//! `FIRSTSEEN_BOUND` each thread keeps to one processor.

#![allow(clippy::disallowed_macros, reason = "a benchmark prints")]

#[path = "../crates/cli/src/cmd/bench/processor.rs"]
mod processor;
#[path = "../crates/cli/src/cmd/bench/rounds.rs"]
mod rounds;

use firstseen::{Builder, ClaimOptions, Durability, Store};
use rounds::{interleaved, median, times};
use std::convert::Infallible;
use std::time::Instant;

/// Ids that the mode of duplicates draws from: few enough to stay in the caches.
const KNOWN: u64 = 100_000;

/// Name, ids to a call, durability, share of the claims, and what it is for.
struct Mode {
    name: &'static str,
    batch: u64,
    durability: Durability,
    /// Of the claims of a run this part.
    part: u64,
    /// All stays in the memtable, so nothing is sealed beside.
    unsealed: bool,
    duplicates: bool,
    /// Appends to the log and does nothing else.
    log_only: bool,
}

const PLAIN: Mode = Mode {
    name: "sealing",
    batch: 1,
    durability: Durability::Process,
    part: 1,
    unsealed: false,
    duplicates: false,
    log_only: false,
};

const MODES: [Mode; 7] = [
    Mode { name: "append", log_only: true, unsealed: true, ..PLAIN },
    PLAIN,
    Mode { name: "memtable", unsealed: true, ..PLAIN },
    Mode { name: "batches", batch: 1_000, ..PLAIN },
    Mode { name: "batches-memtable", batch: 1_000, unsealed: true, ..PLAIN },
    Mode { name: "duplicates", unsealed: true, duplicates: true, ..PLAIN },
    Mode { name: "disk", durability: Durability::Disk, part: 50, ..PLAIN },
];

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// An id of 16 bytes that does not look sequential.
fn id(thread: u64, number: u64) -> [u8; 16] {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&mix(number.wrapping_add(1)).to_le_bytes());
    id[8..].copy_from_slice(&mix(!number ^ (thread << 40)).to_le_bytes());
    id
}

/// The ids of a thread: one in five repeats an earlier one of that thread.
fn mixed(thread: u64, number: u64) -> [u8; 16] {
    let number = if number % 5 == 4 { mix(number) % number } else { number };
    id(thread, number)
}

/// Appends as claims of one shard, so that threads meet in the log only.
#[cfg(feature = "testing")]
fn append_all(store: &Store, thread: u64, each: u64) {
    for number in 0..each {
        firstseen::testing::append_alone(store, thread as usize, &id(thread, number))
            .expect("appends");
    }
}

#[cfg(not(feature = "testing"))]
fn append_all(_store: &Store, _thread: u64, _each: u64) {
    unreachable!("the mode is left out");
}

fn claim_all(store: &Store, mode: &Mode, thread: u64, each: u64) {
    if mode.log_only {
        return append_all(store, thread, each);
    }
    let options = || ClaimOptions::new().durability(mode.durability);
    for number in (0..each).step_by(mode.batch as usize) {
        if mode.duplicates {
            let known = id(0, mix(number ^ (thread << 50)) % KNOWN);
            assert!(store.claim(known).expect("claims").is_duplicate());
        } else if mode.batch == 1 {
            std::hint::black_box(store.claim_with(mixed(thread, number), options()))
                .map(|_| ())
                .expect("claims");
        } else {
            let end = each.min(number + mode.batch);
            let ids: Vec<_> = (number..end).map(|n| mixed(thread, n)).collect();
            store.claim_batch(&ids).map(|_| ()).expect("claims");
        }
    }
}

/// Binds this thread to a processor, in turn: the scheduler may put two that wake each other on one.
fn bind(thread: u64) {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut set = rustix::thread::CpuSet::new();
    set.set(thread as usize % processors);
    rustix::thread::sched_setaffinity(None, &set).ok();
}

/// Returns claims a second in millions, and processor time for each in nanoseconds.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn measure(mode: &Mode, threads: u64, claims: u64) -> (f64, f64) {
    let dir = tempfile::tempdir().expect("a folder");
    let mut builder: Builder = Store::builder(dir.path().join("s.db"));
    if let Some(shards) = std::env::var("FIRSTSEEN_SHARDS").ok().and_then(|n| n.parse().ok()) {
        builder = builder.shards(shards);
    }
    if mode.unsealed {
        builder = builder.memory_budget(6 << 30);
    }
    #[cfg(feature = "testing")]
    if mode.log_only {
        builder = builder.background(false).segment_bytes(1 << 30);
    }
    let store = builder.open().expect("opens");
    if mode.duplicates {
        let known: Vec<_> = (0..KNOWN).map(|n| id(0, n)).collect();
        for part in known.chunks(1_000) {
            store.claim_batch(part).map(|_| ()).expect("claims");
        }
    }
    let is_bound = std::env::var_os("FIRSTSEEN_BOUND").is_some();
    let each = claims / mode.part / threads;
    let (began, before) = (Instant::now(), processor::time());
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let store = &store;
            scope.spawn(move || {
                if is_bound {
                    bind(thread);
                }
                claim_all(store, mode, thread, each);
            });
        }
    });
    let took = began.elapsed().as_secs_f64();
    let used = processor::time().saturating_sub(before).as_secs_f64();
    let all = (each * threads) as f64;
    store.close().expect("closes");
    (all / took / 1e6, used * 1e9 / all)
}

fn main() {
    let is_bench = std::env::args().any(|arg| arg == "--bench");
    let words: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let can = |mode: &Mode| cfg!(feature = "testing") || !mode.log_only;
    let named = |mode: &&Mode| {
        can(mode) && (words.is_empty() || words.iter().any(|word| word == mode.name))
    };
    let rounds = words.iter().find_map(|word| word.parse().ok()).unwrap_or(5_usize);
    // `cargo test --benches` runs this too: with little.
    let rounds = if is_bench { rounds } else { 1 };
    let set = |name| std::env::var(name).ok();
    let wanted = set("FIRSTSEEN_THREADS_CLAIMS").and_then(|n| n.parse().ok());
    let claims: u64 = wanted.unwrap_or(if is_bench { 2_000_000 } else { 64_000 });
    let threads = set("FIRSTSEEN_THREADS").unwrap_or_else(|| "1,2,4,64".to_owned());
    let threads: Vec<u64> = threads.split(',').map(|n| n.parse().expect("a number")).collect();
    for mode in MODES.iter().filter(named) {
        let measured = interleaved(rounds, &threads, |threads| {
            Ok::<_, Infallible>(measure(mode, *threads, claims))
        });
        let seen = measured.unwrap_or_else(|never| match never {});
        print!("{:<17}", mode.name);
        for (threads, runs) in threads.iter().zip(&seen) {
            let rate = median(runs.iter().map(|both| both.0).collect());
            let cost = median(runs.iter().map(|both| both.1).collect());
            print!(" {threads}: {rate:.3} M/s {cost:.0} ns;");
        }
        for (threads, runs) in threads.windows(2).zip(seen.windows(2)) {
            let ratio = times(&runs[1], &runs[0], |both| both.0);
            print!(" {}:{} {ratio:.2}", threads[1], threads[0]);
        }
        println!();
    }
}
