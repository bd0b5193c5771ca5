//! What rows cost: space under overwriting, space after a ttl, reads of a cold row, listing a family, messages of an
//! outbox, and completed records of a ledger.
//!
//! `cargo bench --features testing --bench rows` prints one line per question and checks each goal. `FIRSTSEEN_BENCH_ROWS`
//! changes the number of rows and writes (default 10,000,000); `FIRSTSEEN_BENCH_PART` runs one part: `rows`, `messages` or
//! `records`. A row is written alone, at `Process`, unless the line says otherwise.

#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    reason = "a benchmark prints, waits and measures time"
)]

use firstseen::ledger::Begin;
use firstseen::testing::{Committed, Expect, Table, TableWrite};
use firstseen::{Durability, ManualClock, Store, Timestamp, Ttl};
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

const SEGMENT: u64 = 16 << 20;
const NOW: u64 = 1_700_000_000_000;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn key(number: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&mix(number.wrapping_add(1)).to_le_bytes());
    key[8..].copy_from_slice(&mix(!number).to_le_bytes());
    key
}

fn bytes_in(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => bytes_in(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

/// Returns how many read calls this process has made.
fn reads() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("syscr: "));
    line.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Returns how much memory this process holds.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .map_or(0, |pages: u64| pages * 4_096)
}

/// How often files are read for one of many keys that is not in memory, and how long it takes.
struct Cold {
    p50: u64,
    p99: u64,
    most: u64,
    typical: Duration,
}

impl Cold {
    fn of(keys: u64, get: impl Fn(&[u8])) -> Self {
        // Reading the counter is a read itself.
        let cost = {
            let first = reads();
            reads() - first
        };
        let (mut counts, mut times) = (Vec::new(), Vec::new());
        for n in 0..2_000 {
            let key = key(mix(n) % keys);
            let (before, began) = (reads(), Instant::now());
            get(&key);
            times.push(began.elapsed());
            counts.push((reads() - before).saturating_sub(cost));
        }
        counts.sort_unstable();
        times.sort_unstable();
        let at = |percent: usize| counts[(counts.len() - 1) * percent / 100];
        Self { p50: at(50), p99: at(99), most: at(100), typical: times[times.len() / 2] }
    }
}

impl fmt::Display for Cold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50, p99, most, typical } = self;
        write!(f, "{p50} reads (p50), {p99} (p99), {most} (most); {typical:?} (p50)")
    }
}

fn say(question: &str, answer: &str, holds: bool) {
    println!("{question:<46} {answer}{}", if holds { "" } else { "  GOAL MISSED" });
}

fn one_write(dir: &Path) -> u64 {
    let store = Store::open(dir.join("one.db")).expect("opens");
    Table::of(&store, 1).put(b"hot", &[1; 100]).expect("puts");
    std::thread::sleep(Duration::from_secs(1));
    let bytes = bytes_in(&dir.join("one.db"));
    store.close().expect("closes");
    bytes
}

fn hot_row(dir: &Path, writes: u64) {
    let before = one_write(dir);
    let path = dir.join("hot.db");
    let store = Store::open(&path).expect("opens");
    let table = Table::of(&store, 1);
    let began = Instant::now();
    let mut most = 0;
    for n in 0..writes {
        table.put(b"hot", &[n as u8; 100]).expect("puts");
        if n % 100_000 == 0 {
            most = most.max(bytes_in(&path));
        }
    }
    let took = began.elapsed();
    most = most.max(bytes_in(&path));
    std::thread::sleep(Duration::from_secs(2));
    let after = bytes_in(&path);
    let rate = writes as f64 / took.as_secs_f64() / 1e3;
    let segments = |bytes: u64| bytes.saturating_sub(before) as f64 / SEGMENT as f64;
    let answer = format!(
        "{writes} writes, {rate:.0} k/s; disk above one write: {:.1} segments at most, {:.1} at rest",
        segments(most),
        segments(after)
    );
    say("one row of 100 bytes, overwritten", &answer, segments(after) <= 3.0);
    store.close().expect("closes");
}

fn rows_with_ttl(dir: &Path, rows: u64) {
    let path = dir.join("ttl.db");
    let clock = ManualClock::new(Timestamp::from_millis(NOW));
    let open = Store::builder(&path).clock(clock.clone()).background(false);
    let store = open.open().expect("opens");
    let table = Table::of(&store, 1);
    let (hour, value) = (3_600_000u64, [7; 1_000]);
    for n in 0..rows {
        let (id, ttl, expect) = (key(n), Ttl::from_millis(hour), Expect::Anything);
        let write = TableWrite { id: &id, value: Some(&value), ttl, expect };
        table.commit(&[write], Durability::Process).expect("commits");
        if n % 50_000 == 0 {
            store.run_background().expect("works");
        }
    }
    store.freeze();
    store.run_background().expect("works");
    let full = bytes_in(&path.join("log"));
    // One generation is an eighth to a quarter of the ttl.
    clock.advance(Duration::from_millis(hour + hour / 4));
    store.run_background().expect("works");
    store.run_background().expect("works");
    let left = bytes_in(&path.join("log"));
    let answer = format!(
        "log {} MB full, {} MB a generation after the ttl ({} segments)",
        full >> 20,
        left >> 20,
        left / SEGMENT
    );
    say(&format!("{rows} rows of 1 KB with a ttl"), &answer, left <= 3 * SEGMENT);
    store.close().expect("closes");
}

fn many_rows(dir: &Path, rows: u64) {
    let path = dir.join("many.db");
    let store = Store::open(&path).expect("opens");
    let (table, small) = (Table::of(&store, 1), Table::of(&store, 2));
    for n in 0..1_000 {
        small.put(&key(n), b"small").expect("puts");
    }
    let began = Instant::now();
    for first in (0..rows).step_by(1_000) {
        let keys: Vec<[u8; 16]> = (first..rows.min(first + 1_000)).map(key).collect();
        let write = |key| TableWrite {
            id: key,
            value: Some(&[9; 100]),
            ttl: Ttl::FOREVER,
            expect: Expect::Anything,
        };
        let writes: Vec<_> = keys.iter().map(|key| write(&key[..])).collect();
        let done = table.commit(&writes, Durability::Process).expect("commits");
        assert!(matches!(done, Committed::Done(_)));
    }
    let rate = rows as f64 / began.elapsed().as_secs_f64() / 1e3;
    drop((table, small));
    store.close().expect("closes");
    let store = Store::builder(&path).background(false).open().expect("opens");
    store.freeze();
    store.run_background().expect("works");
    let (table, small) = (Table::of(&store, 1), Table::of(&store, 2));
    let cold = Cold::of(rows, |key| {
        let row = table.get(key).expect("reads");
        assert_eq!(row.map(|row| row.value.len()), Some(100));
    });
    let answer = format!("{rate:.0} k/s written in batches of 1,000; a cold get: {cold}");
    say(&format!("{rows} rows of 100 bytes"), &answer, cold.p99 <= 2);
    let began = Instant::now();
    let listed = small.list().expect("lists").len();
    let took = began.elapsed();
    let answer = format!("{listed} rows in {took:?}, beside {rows} of another family");
    say("listing a small family", &answer, listed == 1_000);
    let stats = store.stats();
    let per_row = stats.memory_filter_bytes as f64 / rows as f64;
    say("memory of a flushed row", &format!("{per_row:.2} bytes"), per_row <= 4.0);
    store.close().expect("closes");
}

/// Returns how long this thread has been on a processor.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// Emits, reads and acknowledges messages of 100 bytes, a thousand at a time, with one thread.
fn messages(dir: &Path, messages: u64) {
    const BATCH: u64 = 1_000;
    let store = Store::open(dir.join("outbox.db")).expect("opens");
    let topic = store.outbox("topic").expect("opens");
    let mut took = [Duration::ZERO; 3];
    let lap = |took: &mut Duration, began: &mut Instant| {
        *took += began.elapsed();
        *began = Instant::now();
    };
    let mut began = Instant::now();
    let (all, busy) = (Instant::now(), processor_time());
    for first in (0..messages).step_by(BATCH as usize) {
        let mut transaction = store.transaction();
        transaction.claim(key(first));
        for n in 0..BATCH {
            transaction.emit(&topic, [n as u8; 100]).expect("collects");
        }
        assert!(transaction.commit().expect("commits").is_committed());
        lap(&mut took[0], &mut began);
        let batch = topic.read(BATCH as usize).expect("reads");
        assert_eq!(batch.len() as u64, BATCH);
        lap(&mut took[1], &mut began);
        assert_eq!(topic.acknowledge(&batch).expect("acknowledges") as u64, BATCH);
        lap(&mut took[2], &mut began);
    }
    let rate = messages as f64 / all.elapsed().as_secs_f64() / 1e3;
    let busy = processor_time().saturating_sub(busy).as_nanos() as f64 / messages as f64;
    let [emit, read, acknowledge] = took.map(|took| took.as_nanos() as f64 / messages as f64);
    let answer = format!(
        "{rate:.0} k/s in batches of 1,000; a message: emit {emit:.0} ns, read {read:.0} ns, acknowledge {acknowledge:.0} ns, processor {busy:.0} ns"
    );
    say(&format!("{messages} messages of 100 bytes"), &answer, rate >= 500.0);
    store.close().expect("closes");
}

/// Begins and completes records with results of 100 bytes, and replays some of them after a reopening.
fn records(dir: &Path, records: u64) {
    let path = dir.join("ledger.db");
    let store = Store::open(&path).expect("opens");
    let ledger = store.ledger("payments").expect("opens");
    let began = Instant::now();
    for n in 0..records {
        let begun = ledger.begin(key(n)).expect("begins");
        begun.started().expect("is new").complete([9; 100]).expect("completes");
    }
    let rate = records as f64 / began.elapsed().as_secs_f64() / 1e3;
    let bytes = bytes_in(&path) as f64 / records as f64;
    drop(ledger);
    store.close().expect("closes");
    let before = resident();
    let store = Store::builder(&path).background(false).open().expect("opens");
    store.freeze();
    store.run_background().expect("works");
    let ledger = store.ledger("payments").expect("opens");
    let cold = Cold::of(records, |id| match ledger.begin(id).expect("answers") {
        Begin::Completed(record) => assert_eq!(record.result().map(<[u8]>::len), Some(100)),
        other => panic!("{other:?}"),
    });
    let answer = format!(
        "{rate:.0} k/s begun and completed, {bytes:.0} bytes on disk; a replay after a reopening: {cold}"
    );
    say(&format!("{records} completed records"), &answer, cold.p99 <= 2);
    let filters = store.stats().memory_filter_bytes as f64 / records as f64;
    let grown = resident().saturating_sub(before) >> 20;
    let answer = format!(
        "{filters:.2} bytes; all memory has grown by {grown} MB since before the reopening"
    );
    say("memory of a completed record", &answer, filters <= 4.0);
    store.close().expect("closes");
}

fn main() {
    // `cargo test --benches` runs this too: with little.
    let quick = !std::env::args().any(|arg| arg == "--bench");
    let wanted = std::env::var("FIRSTSEEN_BENCH_ROWS").ok().and_then(|n| n.parse().ok());
    let rows = wanted.unwrap_or(if quick { 10_000 } else { 10_000_000 });
    let dir = tempfile::tempdir().expect("a folder");
    let part = std::env::var("FIRSTSEEN_BENCH_PART").unwrap_or_default();
    let runs = |name| part.is_empty() || part == name;
    if runs("rows") {
        hot_row(dir.path(), rows);
        rows_with_ttl(dir.path(), rows / 10);
        many_rows(dir.path(), rows);
    }
    if runs("messages") {
        messages(dir.path(), rows / 5);
    }
    if runs("records") {
        records(dir.path(), rows);
    }
}
