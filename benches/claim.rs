//! The first question of any user: how many claims per second, and what does an id cost?
//!
//! `cargo bench --bench claim` makes ten million claims of random 16-byte ids, 20 % of them seen before, on one thread
//! at `Process`, with default settings. It does the same with one sled key per id (its cache as large as our memory
//! budget) and, as an upper bound, with a `HashSet` and an append-only file. Each store runs in its own process, so
//! that its memory is measured alone, and each run checks the number of first-seen results. `FIRSTSEEN_BENCH_IDS`
//! changes the number of claims.

use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// Claims of 16-byte ids; one in five, at random, repeats an earlier id.
struct Workload {
    state: u64,
    new: u64,
}

impl Workload {
    fn new() -> Self {
        Self { state: 0x9e37_79b9_7f4a_7c15, new: 0 }
    }

    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    fn next_id(&mut self) -> [u8; 16] {
        let random = self.random();
        if self.new > 0 && random.is_multiple_of(5) {
            let old = self.random() % self.new;
            return id(old);
        }
        self.new += 1;
        id(self.new - 1)
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn id(number: u64) -> [u8; 16] {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&mix(number.wrapping_add(1)).to_le_bytes());
    id[8..].copy_from_slice(&mix(!number).to_le_bytes());
    id
}

/// Results of one run.
struct Measured {
    claims_per_s: f64,
    memory_per_id: f64,
    disk_per_id: f64,
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn now() -> Instant {
    Instant::now()
}

fn run(
    claims: u64,
    dir: &Path,
    mut claim: impl FnMut(&[u8]) -> bool,
    finish: impl FnOnce(),
) -> Measured {
    let mut workload = Workload::new();
    let before = memory();
    let start = now();
    let mut first_seen = 0u64;
    for _ in 0..claims {
        first_seen += u64::from(claim(&workload.next_id()));
    }
    let seconds = start.elapsed().as_secs_f64();
    let held = memory().saturating_sub(before);
    finish();
    assert_eq!(first_seen, workload.new, "number of first-seen results");
    Measured {
        claims_per_s: claims as f64 / seconds,
        memory_per_id: held as f64 / workload.new as f64,
        disk_per_id: disk(dir) as f64 / workload.new as f64,
    }
}

fn firstseen(claims: u64, dir: &Path) -> Measured {
    let store = firstseen::Store::open(dir).expect("opens");
    let handle = store.clone();
    let claim = |id: &[u8]| handle.claim(id).expect("claims").is_first_seen();
    run(claims, dir, claim, || store.close().expect("closes"))
}

/// The upper bound: no expiry, no recovery, everything in memory, and a file that is never read.
fn limit(claims: u64, dir: &Path) -> Measured {
    use std::io::Write;
    std::fs::create_dir_all(dir).expect("a folder");
    let file = std::fs::File::create_new(dir.join("ids")).expect("a file");
    let mut file = std::io::BufWriter::with_capacity(64 << 10, file);
    let mut seen = std::collections::HashSet::<[u8; 16]>::new();
    let claim = |id: &[u8]| {
        let first = seen.insert(id.try_into().expect("16 bytes"));
        if first {
            file.write_all(id).expect("writes");
        }
        first
    };
    run(claims, dir, claim, || {})
}

fn sled(claims: u64, dir: &Path) -> Measured {
    let db = sled::Config::new()
        .path(dir)
        .mode(sled::Mode::HighThroughput)
        .flush_every_ms(None)
        .cache_capacity(256 << 20)
        .open()
        .expect("opens");
    let claim = |id: &[u8]| {
        let swapped = db.compare_and_swap(id, None as Option<&[u8]>, Some(&[0u8; 8]));
        swapped.expect("sled claims").is_ok()
    };
    run(claims, dir, claim, || {
        db.flush().expect("flushes");
    })
}

/// Resident memory of this process in bytes.
fn memory() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|n| n.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

/// Bytes that a folder occupies on disk.
fn disk(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => disk(&entry.path()),
            Ok(meta) => meta.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

/// Runs one store in its own process.
fn child(store: &str, claims: u64, dir: &Path) -> Measured {
    let me = std::env::current_exe().expect("has a path");
    let output = Command::new(me)
        .args(["--store", store, &claims.to_string()])
        .arg(dir)
        .output()
        .expect("starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut numbers = text.split_whitespace().map(|n| n.parse().expect("a number"));
    let mut next = || numbers.next().expect("three numbers");
    Measured { claims_per_s: next(), memory_per_id: next(), disk_per_id: next() }
}

#[expect(clippy::disallowed_macros, reason = "a benchmark prints")]
fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let Some(at) = args.iter().position(|arg| arg == "--store") {
        let claims = args[at + 2].parse().expect("a number");
        let dir = PathBuf::from(&args[at + 3]);
        let m = match args[at + 1].as_str() {
            "firstseen" => firstseen(claims, &dir),
            "HashSet" => limit(claims, &dir),
            _ => sled(claims, &dir),
        };
        println!("{} {} {}", m.claims_per_s, m.memory_per_id, m.disk_per_id);
        return;
    }
    if !args.iter().any(|arg| arg == "--bench") {
        return; // `cargo test --all-targets` only has to build it
    }
    let claims = std::env::var("FIRSTSEEN_BENCH_IDS").ok().and_then(|n| n.parse().ok());
    let claims: u64 = claims.unwrap_or(10_000_000);
    println!("{claims} claims, 16-byte ids, 20 % seen before, one thread, no sync per claim\n");
    println!("{:<12}{:>14}{:>18}{:>16}", "store", "claims/s", "memory B/id", "disk B/id");
    let base =
        std::env::temp_dir().join(format!("firstseen-bench-{:x}", RandomState::new().hash_one(0)));
    std::fs::create_dir_all(&base).expect("a temporary folder");
    let [ours, limit, theirs] = ["firstseen", "HashSet", "sled"].map(|store| {
        let m = child(store, claims, &base.join(store));
        let (speed, memory, disk) = (m.claims_per_s, m.memory_per_id, m.disk_per_id);
        println!("{store:<12}{speed:>14.0}{memory:>18.1}{disk:>16.1}");
        m
    });
    std::fs::remove_dir_all(&base).ok();
    println!(
        "\nfirstseen / sled: {:.1} times the claims a second",
        ours.claims_per_s / theirs.claims_per_s
    );
    let ratio = ours.claims_per_s / limit.claims_per_s;
    println!("firstseen / std HashSet and an append-only file: {ratio:.2}");
}
