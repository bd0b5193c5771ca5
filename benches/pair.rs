//! Plain claims for a comparison of two revisions; scripts/pair.sh runs it for both in turn.
//!
//! Prints a line per mode: its name, claims per second, and processor time per claim in nanoseconds. Uses only calls
//! that every revision has. `FIRSTSEEN_PAIR_CLAIMS` sets the claims per mode (default 2,000,000).

#![allow(clippy::disallowed_macros, reason = "a benchmark prints")]

use firstseen::Store;
use std::time::Instant;

/// Claims of 16-byte ids; one in five repeats an earlier one.
fn id(thread: u64, number: u64) -> [u8; 16] {
    let number = if number % 5 == 4 { mix(number) % number } else { number };
    let mut id = [0; 16];
    id[..8].copy_from_slice(&mix(number.wrapping_add(1)).to_le_bytes());
    id[8..].copy_from_slice(&mix(!number ^ (thread << 40)).to_le_bytes());
    id
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Processor time of this process in seconds, its ended threads included.
fn processor() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    // After the name in parentheses: user and system time are the 14th and 15th field, in hundredths of a second.
    let (_, fields) = text.rsplit_once(')').expect("a name");
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks.map(|ticks| ticks.parse::<f64>().expect("a number")).sum::<f64>() / 100.0
}

fn claims() -> u64 {
    let wanted = std::env::var("FIRSTSEEN_PAIR_CLAIMS").ok().and_then(|n| n.parse().ok());
    // `cargo test --benches` runs this too: with little.
    let quick = !std::env::args().any(|arg| arg == "--bench");
    wanted.unwrap_or(if quick { 1_000 } else { 2_000_000 })
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn measure(name: &str, threads: u64, batch: u64) {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path().join("s.db")).expect("opens");
    let each = claims() / threads;
    let (began, before) = (Instant::now(), processor());
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let store = &store;
            scope.spawn(move || {
                let mut first = 0;
                for number in (0..each).step_by(batch as usize) {
                    if batch == 1 {
                        first += u64::from(
                            store.claim(id(thread, number)).expect("claims").is_first_seen(),
                        );
                        continue;
                    }
                    let ids: Vec<_> = (number..number + batch).map(|n| id(thread, n)).collect();
                    let answers = store.claim_batch(&ids).expect("claims");
                    first += answers.iter().filter(|answer| answer.is_first_seen()).count() as u64;
                }
                assert!(first > each / 2, "{first} of {each}");
            });
        }
    });
    let took = began.elapsed().as_secs_f64();
    let used = processor() - before;
    let all = (each * threads) as f64;
    println!("{name} {:.0} {:.1}", all / took, used * 1e9 / all);
    store.close().expect("closes");
}

fn main() {
    measure("single", 1, 1);
    measure("batches-of-1000", 1, 1_000);
    measure("2-threads", 2, 1);
    measure("4-threads", 4, 1);
}
