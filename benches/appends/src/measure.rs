//! One run: threads that append, and a walk that finds every record again.

use crate::designs::{Design, Lane};
use crate::record::{Claim, DATA_START, Found, decode};
use crate::segments::{Files, SEGMENT, context};
use crossbeam_utils::CachePadded;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

pub const SHARDS: usize = 64;
/// Words of a shard's table: 512 KiB, so that all of them are in no cache of one core.
const TABLE: usize = 64 << 10;

/// What is done beside the append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing: a lane for each thread.
    Alone,
    /// The lock of one of 64 shards is held.
    Shards,
    /// The same, and a look-up that waits for memory, and an entry.
    Claims,
}

impl Mode {
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "alone" => Some(Self::Alone),
            "shards" => Some(Self::Shards),
            "claims" => Some(Self::Claims),
            _ => None,
        }
    }
}

#[derive(Clone, Copy)]
pub struct Setup {
    pub mode: Mode,
    pub records: u64,
    pub threads: usize,
    pub is_warm: bool,
}

struct Shard {
    lane: Lane,
    table: Box<[u64]>,
}

/// The load of the machine, for the reader of the figures.
pub fn processor_load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// Keeps this thread on one processor: else two short-lived threads may share one.
fn pin(thread: usize) {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut set = rustix::thread::CpuSet::new();
    set.set(thread % processors);
    rustix::thread::sched_setaffinity(None, &set).ok();
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn claim(number: u64) -> Claim {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&mix(number + 1).to_le_bytes());
    id[8..].copy_from_slice(&number.to_le_bytes());
    // Ages of two bytes, as in the seconds after a segment was made.
    Claim { at: 1_700_000_000_000 + 200 + number % 8_000, id }
}

/// Returns millions of records a second.
pub fn measure<D: Design>(files: &Files, setup: Setup) -> f64 {
    let Setup { mode, records, threads, is_warm } = setup;
    let lanes = if mode == Mode::Alone { threads } else { SHARDS };
    let segments = files.map(is_warm).expect("maps");
    let log = D::new(segments, lanes, !is_warm);
    let tables = if mode == Mode::Claims { TABLE } else { 1 };
    let shards: Vec<CachePadded<Mutex<Shard>>> = (0..lanes)
        .map(|number| {
            let table = vec![1; tables].into_boxed_slice();
            CachePadded::new(Mutex::new(Shard { lane: Lane::new(number), table }))
        })
        .collect();
    let each = records / threads as u64;
    let last = AtomicU64::new(0);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (log, shards, last) = (&log, &shards, &last);
            scope.spawn(move || {
                pin(thread);
                let numbers = (0..each).map(|n| n * threads as u64 + thread as u64);
                match mode {
                    Mode::Alone => {
                        let mut own = Lane::new(thread);
                        let ends = numbers.map(|number| log.append(&mut own, &claim(number)));
                        last.fetch_max(ends.last().unwrap_or_default(), Ordering::Relaxed);
                    }
                    Mode::Shards | Mode::Claims => {
                        for number in numbers {
                            let hash = mix(number ^ 0x5851_f42d_4c95_7f2d);
                            let mut shard = shards[hash as usize % SHARDS].lock();
                            let Shard { lane, table } = &mut *shard;
                            let place = (hash >> 8) as usize % table.len();
                            // Waits for memory where the table is large.
                            let known = table[place];
                            assert_ne!(known, 0, "every place holds a location");
                            table[place] = log.append(lane, &claim(number));
                        }
                    }
                }
            });
        }
    });
    let took = began.elapsed().as_secs_f64();
    let settled = log.settled();
    assert!(settled == 0 || settled >= last.into_inner(), "all that was appended is written");
    let (found, sum) = walk(files, &log.starts(), D::EXTENT);
    let all = each * threads as u64;
    assert_eq!(found, all, "every record is in the log once");
    assert_eq!(sum, (0..all).fold(0, |sum, n| sum ^ mix(n)), "and it is the one that was claimed");
    all as f64 / took / 1e6
}

/// Returns how many records the log holds, and the sum of what they are.
fn walk(files: &Files, starts: &[u32], extent: Option<u32>) -> (u64, u64) {
    let (mut found, mut sum) = (0, 0);
    for start in starts {
        let mut number = *start;
        'segments: while (number as usize) < files.len() {
            let (bytes, context) = (files.read(number).expect("reads"), context(number as usize));
            let mut offset = DATA_START;
            loop {
                match decode(&bytes, context, offset) {
                    Found::Claim(id, len) => {
                        found += 1;
                        let number = id.last_chunk().copied().unwrap_or_default();
                        sum ^= mix(u64::from_le_bytes(number));
                        offset += len;
                    }
                    Found::Skip(len) => offset += len,
                    Found::End(next) => {
                        number = next;
                        continue 'segments;
                    }
                    Found::Nothing => match extent {
                        None => break 'segments,
                        Some(extent) => offset = (offset / extent + 1) * extent,
                    },
                    Found::Damage => panic!("damage at {offset} of segment {number}"),
                }
                if offset >= SEGMENT {
                    number += 1;
                    continue 'segments;
                }
            }
        }
    }
    (found, sum)
}
