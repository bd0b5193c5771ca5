//! What each pattern of docs/PIPELINES.md and docs/LEDGER.md costs an event, beside a claim alone.
//!
//! `cargo bench --bench patterns` prints a table: events a second, processor time and bytes in the folder of the store for
//! each event, one thread, one event a call, once at `Process` and once at `Disk`. Processor time counts all threads of the
//! process; the folder is measured after closing, and has about 17 MB of segments and files of a store that holds nothing,
//! which are taken off. `FIRSTSEEN_PATTERN_EVENTS` sets the events at `Process` (default 200,000); `Disk` gets a fortieth; with
//! `FIRSTSEEN_PATTERN` only the patterns with this in their name run.

#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    reason = "a benchmark prints and measures time"
)]

#[path = "../crates/cli/src/cmd/bench/processor.rs"]
mod processor;

use firstseen::event_time::windows::WindowOptions;
use firstseen::event_time::{Event, EventTimeOptions};
use firstseen::ledger::Failure;
use firstseen::{Durability, Reserve, Store, Timestamp};
use std::path::Path;
use std::time::{Duration, Instant};

/// What is done for event `n`, whose id is this.
type Work<'a> = Box<dyn FnMut(u64, &[u8]) + 'a>;

/// A pattern: its name, and what makes its work ready on a store.
type Pattern = (&'static str, for<'a> fn(&'a Store) -> Work<'a>);

const PATTERNS: [Pattern; 10] = [
    ("a claim", |store| {
        Box::new(move |_, id| assert!(store.claim(id).expect("claims").is_first_seen()))
    }),
    ("reserve, then confirm", |store| {
        Box::new(move |_, id| {
            let reserved = store.reserve(id).expect("reserves");
            let Reserve::FirstSeen(mut reservation) = reserved else { panic!("is new") };
            reservation.confirm().expect("confirms");
        })
    }),
    ("a claim by event time", |store| {
        let options = EventTimeOptions::new(Duration::from_secs(3_600));
        let events = store.event_time("events", options).expect("opens");
        Box::new(move |n, id| {
            let answer = events.claim_at(id, "source", Timestamp::from_millis(n)).expect("answers");
            assert!(answer.is_first_seen());
        })
    }),
    ("the same, folded into a window", |store| {
        let options = EventTimeOptions::new(Duration::from_secs(3_600));
        let events = store.event_time("windows", options).expect("opens");
        let minutes = WindowOptions::tumbling(Duration::from_secs(60));
        let sums = events.windows::<u64>("sums", minutes).expect("opens");
        Box::new(move |n, id| {
            let event = Event { id, source: "source", time: Timestamp::from_millis(n) };
            let key = [(n % 100) as u8];
            assert!(sums.fold(event, key, |sum| *sum += 1).expect("folds").is_first_seen());
        })
    }),
    ("claim, value and offset, one commit", |store| {
        let table = store.table::<u64>("sums").expect("opens");
        let source = store.source("orders").expect("opens");
        Box::new(move |n, id| {
            let mut transaction = store.transaction();
            transaction.claim(id);
            let key = (n % 10_000).to_le_bytes();
            let sum = transaction.get(&table, key).expect("reads").unwrap_or(0);
            transaction.put(&table, key, &(sum + 1)).expect("collects");
            transaction.advance(&source, 0, n + 1);
            assert!(transaction.commit().expect("answers").is_committed());
        })
    }),
    ("claim and message, sent and acknowledged", |store| {
        let topic = store.outbox("mails").expect("opens");
        Box::new(move |n, id| {
            let mut transaction = store.transaction();
            transaction.claim(id);
            transaction.emit(&topic, [7; 100]).expect("collects");
            assert!(transaction.commit().expect("answers").is_committed());
            if n % 100 == 99 {
                let batch = topic.read(100).expect("reads");
                assert_eq!(topic.acknowledge(&batch).expect("acknowledges"), 100);
            }
        })
    }),
    ("an attempt with its result", |store| {
        let ledger = store.ledger("work").expect("opens");
        Box::new(move |_, id| {
            let ran = ledger.run(id, |_| Ok::<u64, Failure>(7)).expect("runs");
            assert_eq!(ran.value(), Some(7));
        })
    }),
    ("the same with three stages", |store| {
        let ledger = store.ledger("stages").expect("opens");
        Box::new(move |_, id| {
            let ran = ledger.run(id, |attempt| {
                let mut sum = 0;
                for stage in ["validate", "charge", "ship"] {
                    sum += attempt.stage(stage, || Ok::<u64, Failure>(7))?;
                }
                Ok(sum)
            });
            assert_eq!(ran.expect("runs").value(), Some(21));
        })
    }),
    ("claim and value, prepared and committed", |store| {
        let table = store.table::<u64>("transfers").expect("opens");
        Box::new(move |n, id| {
            let mut transaction = store.transaction();
            transaction.claim(id);
            transaction.put(&table, id, &n).expect("collects");
            assert!(transaction.prepare(id).expect("answers").is_committed());
            let _ = store.commit_prepared(id).expect("commits");
        })
    }),
    ("a claim in a replay scope", |store| {
        let scope = store.replay("again").expect("begins");
        let inside = scope.namespace("default").expect("opens");
        Box::new(move |_, id| assert!(inside.claim(id).expect("claims").is_first_seen()))
    }),
];

fn bytes_in(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes_in(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(size).sum()
}

fn events() -> u64 {
    let wanted = std::env::var("FIRSTSEEN_PATTERN_EVENTS").ok().and_then(|n| n.parse().ok());
    // `cargo test --benches` runs this too: with little.
    let quick = !std::env::args().any(|arg| arg == "--bench");
    wanted.unwrap_or(if quick { 400 } else { 200_000 })
}

struct Cost {
    seconds: f64,
    processor: f64,
    bytes: u64,
}

/// Runs the work of a pattern for so many events on a new store.
fn cost((_, pattern): Pattern, durability: Durability, events: u64) -> Cost {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("s.db");
    let store = Store::builder(&path).durability(durability).open().expect("opens");
    let mut work = pattern(&store);
    let (began, before) = (Instant::now(), processor::time());
    for n in 0..events {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        id[8..].copy_from_slice(&n.to_le_bytes());
        work(n, &id);
    }
    let seconds = began.elapsed().as_secs_f64();
    let processor = processor::time().saturating_sub(before).as_secs_f64();
    drop(work);
    store.close().expect("closes");
    Cost { seconds, processor, bytes: bytes_in(&path) }
}

fn main() {
    let all = events();
    let nothing: Pattern = ("", |_| Box::new(|_, _| {}));
    let empty = cost(nothing, Durability::Process, 0).bytes;
    println!(
        "| for each event | events/s at `Process` | µs of processor | bytes | events/s at `Disk` |"
    );
    println!("|---|---|---|---|---|");
    let only = std::env::var("FIRSTSEEN_PATTERN").unwrap_or_default();
    for pattern in PATTERNS.into_iter().filter(|(name, _)| name.contains(&only)) {
        let Cost { seconds, processor, bytes } = cost(pattern, Durability::Process, all);
        let few = (all / 40).max(100);
        let at_disk = few as f64 / cost(pattern, Durability::Disk, few).seconds;
        let each = all as f64;
        println!(
            "| {} | {:.0} | {:.2} | {} | {at_disk:.0} |",
            pattern.0,
            each / seconds,
            processor * 1e6 / each,
            bytes.saturating_sub(empty) / all,
        );
    }
}
