//! Measures ways in which many threads could append claims to one log. See README.md beside it.

mod designs;
#[allow(dead_code, unreachable_pub, clippy::pedantic, reason = "the store's own, as it is")]
#[path = "../../../src/disk/mapped.rs"]
mod mapped;
mod measure;
mod record;
mod segments;

use designs::{Combining, EncodeOutside, Extents, Lanes, OneLock, Reserve, Wait};
use measure::{Mode, Setup, measure, processor_load};
use segments::Files;
use std::collections::BTreeMap;
use std::error::Error;

macro_rules! waits {
    ($($name:ident { $($rule:ident),* })*) => {$(
        struct $name;
        impl Wait for $name {
            $(const $rule: bool = true;)*
        }
    )*};
}

waits! {
    Added {}
    Swapped { SWAPS }
    SwappedLocked { SWAPS, LOCKS }
    InOrder { SWAPS, IN_ORDER }
    InOrderAsleep { SWAPS, IN_ORDER, SLEEPS }
    HandedOn { SWAPS, IN_ORDER, DELEGATES }
    HandedOnLocked { SWAPS, IN_ORDER, DELEGATES, LOCKS }
}

type Run = fn(&Files, Setup) -> f64;

const DESIGNS: [(&str, &str, Run); 13] = [
    ("a", "one lock, as today", measure::<OneLock>),
    ("b", "one lock, encoded outside", measure::<EncodeOutside>),
    ("c1", "reserve and fill, by addition", measure::<Reserve<Added>>),
    ("c2", "reserve and fill, by swap", measure::<Reserve<Swapped>>),
    ("c3", "the same, lane locked", measure::<Reserve<SwappedLocked>>),
    ("c4", "in order, each for itself", measure::<Reserve<InOrder>>),
    ("c5", "in order, each for itself, asleep", measure::<Reserve<InOrderAsleep>>),
    ("c6", "in order, handed on", measure::<Reserve<HandedOn>>),
    ("c7", "the same, lane locked", measure::<Reserve<HandedOnLocked>>),
    ("d", "eight logs", measure::<Lanes>),
    ("e", "extents", measure::<Extents<false>>),
    ("e2", "extents, lane locked", measure::<Extents<true>>),
    ("f", "flat combining", measure::<Combining>),
];

/// Without those that take minutes.
const USUAL: &str = "a,b,c1,c2,c3,c6,c7,d,e,e2,f";

const THREADS: [usize; 4] = [1, 2, 4, 64];

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2])
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let mut next = |default: &str| args.next().unwrap_or_else(|| default.to_owned());
    let mode = Mode::named(&next("alone")).ok_or("the mode is alone, shards or claims")?;
    let rounds: usize = next("5").parse()?;
    let records: u64 = next("4000000").parse()?;
    let is_warm = match next("cold").as_str() {
        "cold" => false,
        "warm" => true,
        _ => return Err("the pages are cold or warm".into()),
    };
    let only = next(USUAL);
    let dir = std::env::current_dir()?.join(format!("target/appends-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    // As many as the log needs, and one that is not full for each of the eight logs.
    let files = Files::make(&dir, (records * 26 / u64::from(segments::LIMIT)) as usize + 17);
    let measured = files.map(|files| {
        let load = processor_load();
        println!("load before: {load}; {mode:?}, {rounds} rounds of {records} records");
        rates(&files, Setup { mode, records, threads: 1, is_warm }, rounds, &only)
    });
    std::fs::remove_dir_all(&dir)?;
    print(&measured?, rounds);
    Ok(())
}

type Rates = BTreeMap<(usize, usize), Vec<f64>>;

fn rates(files: &Files, setup: Setup, rounds: usize, only: &str) -> Rates {
    let mut rates = Rates::new();
    let chosen = |key: &str| only.split(',').any(|one| one == key);
    for round in 0..=rounds {
        for (n, (key, _, run)) in DESIGNS.iter().enumerate().filter(|(_, d)| chosen(d.0)) {
            for threads in THREADS {
                let rate = run(files, Setup { threads, ..setup });
                eprintln!("{round} {key} {threads} {rate:.2}");
                // The first round warms up.
                if round > 0 {
                    rates.entry((n, threads)).or_default().push(rate);
                }
            }
        }
    }
    rates
}

fn print(rates: &Rates, rounds: usize) {
    println!("million records a second, medians; ratios within a round, medians");
    println!("| | design | 1 | 2 | 4 | 64 | 2 : 1 | 4 : 2 | 64 : 2 |");
    println!("|---|---|---:|---:|---:|---:|---:|---:|---:|");
    for (n, (key, name, _)) in DESIGNS.iter().enumerate() {
        if !rates.contains_key(&(n, 1)) {
            continue;
        }
        let of = |threads: usize| &rates[&(n, threads)];
        let ratio = |a: usize, b: usize| {
            let mut all: Vec<f64> = (0..rounds).map(|r| of(a)[r] / of(b)[r]).collect();
            median(&mut all)
        };
        let middle = |threads: usize| median(&mut of(threads).clone());
        let [one, two, four, many] = THREADS.map(middle);
        let [up, on, far] = [ratio(2, 1), ratio(4, 2), ratio(64, 2)];
        println!(
            "| {key} | {name} | {one:.1} | {two:.1} | {four:.1} | {many:.1} | {up:.2} | {on:.2} | {far:.2} |"
        );
    }
}
