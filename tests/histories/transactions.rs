//! Histories of transactions: threads read some values and write others in one commit, and scan all of them, while their
//! calls overlap. Every committed transaction and every scan must fit into one order in which they came one after the
//! other, also in the order of time (strict serialisability).

use crate::drive::Rng;
use crate::workers::YieldingClock;
use firstseen::disk::sim::SimDisk;
use firstseen::table::RawTable;
use firstseen::{ManualClock, Store};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};

/// A write, by the number of the call that made it. Values are these numbers.
type WriteId = u64;

/// One committed transaction, or one scan.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) number: WriteId,
    pub(crate) called: u64,
    pub(crate) answered: u64,
    /// Of each key that was read, the write that was seen; `None`: there was no value.
    pub(crate) reads: BTreeMap<u64, Option<WriteId>>,
    /// Keys that were written, all of which were read.
    pub(crate) writes: Vec<u64>,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) committed: u64,
    pub(crate) rejected: u64,
    pub(crate) scans: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.committed += other.committed;
        self.rejected += other.rejected;
        self.scans += other.scans;
    }
}

const KEYS: u64 = 6;
const CALLS: u64 = 12;

struct World<'a> {
    store: &'a Store,
    table: RawTable,
    ticks: &'a AtomicU64,
    numbers: &'a AtomicU64,
}

fn key(n: u64) -> String {
    format!("key-{n}")
}

fn write_of(value: &[u8]) -> WriteId {
    WriteId::from_le_bytes(value.try_into().expect("eight bytes"))
}

impl World<'_> {
    fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::SeqCst)
    }

    /// Reads some keys, and writes some of these. `None` if somebody was faster.
    fn transact(&self, rng: &mut Rng) -> Option<Call> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let called = self.tick();
        let mut transaction = self.store.transaction();
        let (mut reads, mut writes) = (BTreeMap::new(), Vec::new());
        for _ in 0..2 + rng.below(2) {
            let n = rng.below(KEYS);
            if reads.contains_key(&n) {
                continue;
            }
            let value = transaction.get(&self.table, key(n)).expect("reads");
            reads.insert(n, value.as_deref().map(write_of));
        }
        for n in reads.keys().copied() {
            if rng.below(2) == 0 {
                transaction.put(&self.table, key(n), &number.to_le_bytes()).expect("is encoded");
                writes.push(n);
            }
        }
        let outcome = transaction.commit().expect("answers");
        let answered = self.tick();
        outcome.is_committed().then_some(Call { number, called, answered, reads, writes })
    }

    fn scan(&self) -> Call {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let called = self.tick();
        let mut reads: BTreeMap<u64, Option<WriteId>> = (0..KEYS).map(|n| (n, None)).collect();
        let visit = |found: &[u8], entry: firstseen::Result<firstseen::table::Entry<Vec<u8>>>| {
            let n = (0..KEYS).find(|n| key(*n).as_bytes() == found).expect("a key of the test");
            reads.insert(n, Some(write_of(&entry.expect("reads").value)));
            ControlFlow::Continue(())
        };
        self.table.scan(visit).expect("scans");
        Call { number, called, answered: self.tick(), reads, writes: Vec::new() }
    }
}

/// Lives one history and checks it.
pub(crate) fn live(seed: u64) -> Result<Tally, String> {
    let mut rng = Rng(seed);
    let (disk, clock) = (SimDisk::new(), YieldingClock(ManualClock::at_millis(1_700_000_000_000)));
    let builder = Store::builder("/s").disk(disk).clock(clock).seed([7; 16]).shards(4);
    let builder = builder.background(false).segment_bytes(64 << 10).memory_budget(4 << 20);
    let store = builder.open().map_err(|e| e.to_string())?;
    let (ticks, numbers) = (AtomicU64::new(0), AtomicU64::new(1));
    let calls: Mutex<Vec<Call>> = Mutex::default();
    let tally: Mutex<Tally> = Mutex::default();
    let threads = 2 + rng.below(5);
    let start = Barrier::new(threads as usize);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let mut rng = Rng(seed.wrapping_mul(31).wrapping_add(thread));
            let (store, ticks, numbers) = (&store, &ticks, &numbers);
            let (calls, tally, start) = (&calls, &tally, &start);
            scope.spawn(move || {
                let table = store.raw_table("registers").expect("opens");
                let world = World { store, table, ticks, numbers };
                let (mut own, mut counts) = (Vec::new(), Tally::default());
                start.wait();
                for _ in 0..CALLS {
                    if rng.below(5) == 0 {
                        counts.scans += 1;
                        own.push(world.scan());
                    } else if let Some(call) = world.transact(&mut rng) {
                        counts.committed += 1;
                        own.push(call);
                    } else {
                        counts.rejected += 1;
                    }
                    // Background work is that of one thread.
                    if thread == 0 && rng.below(4) == 0 {
                        store.freeze();
                        store.run_background().expect("works");
                    }
                }
                calls.lock().expect("no panic here").extend(own);
                tally.lock().expect("no panic here").add(&counts);
            });
        }
    });
    check(&calls.into_inner().expect("no panic here"))?;
    Ok(tally.into_inner().expect("no panic here"))
}

/// Returns an error unless the calls can have come one after the other, in the order of time.
pub(crate) fn check(calls: &[Call]) -> Result<(), String> {
    let by_number: BTreeMap<WriteId, usize> =
        calls.iter().enumerate().map(|(n, call)| (call.number, n)).collect();
    // Who replaced what: whoever writes a key has read what it replaces.
    let mut replaced_by = BTreeMap::new();
    for (n, call) in calls.iter().enumerate() {
        for key in &call.writes {
            let before = call.reads[key];
            if let Some(other) = replaced_by.insert((*key, before), n) {
                return Err(format!(
                    "a lost update of key {key}: {:?} and {call:?} have both replaced {before:?}",
                    calls[other]
                ));
            }
        }
    }
    let mut after = vec![Vec::new(); calls.len()];
    for (n, call) in calls.iter().enumerate() {
        for (key, seen) in &call.reads {
            if let Some(write) = seen {
                let writer = by_number.get(write);
                let writer =
                    *writer.ok_or_else(|| format!("{call:?} has read what nobody wrote"))?;
                if !calls[writer].writes.contains(key) {
                    return Err(format!("{call:?} has read of {key} what was not written there"));
                }
                after[writer].push(n);
            }
            if let Some(next) = replaced_by.get(&(*key, *seen)).filter(|next| **next != n) {
                after[n].push(*next);
            }
        }
        let later = calls.iter().enumerate().filter(|(_, other)| call.answered < other.called);
        after[n].extend(later.map(|(later, _)| later));
    }
    match circle(&after) {
        None => Ok(()),
        Some(n) => Err(format!("no order explains {:?} beside {calls:#?}", calls[n])),
    }
}

/// Returns a call from which a way leads back to itself, if there is one.
fn circle(after: &[Vec<usize>]) -> Option<usize> {
    let mut before = vec![0usize; after.len()];
    after.iter().flatten().for_each(|n| before[*n] += 1);
    let mut free: Vec<usize> = (0..after.len()).filter(|n| before[*n] == 0).collect();
    let mut left = after.len();
    while let Some(n) = free.pop() {
        left -= 1;
        for next in &after[n] {
            before[*next] -= 1;
            if before[*next] == 0 {
                free.push(*next);
            }
        }
    }
    if left == 0 { None } else { before.iter().position(|count| *count > 0) }
}

/// Histories that the check must reject.
mod wrong {
    use super::{Call, check};

    fn call(
        number: u64,
        (called, answered): (u64, u64),
        reads: &[(u64, Option<u64>)],
        writes: &[u64],
    ) -> Call {
        let reads = reads.iter().copied().collect();
        Call { number, called, answered, reads, writes: writes.to_vec() }
    }

    #[test]
    fn a_lost_update_is_found() {
        let calls = [call(1, (0, 9), &[(0, None)], &[0]), call(2, (1, 8), &[(0, None)], &[0])];
        assert!(check(&calls).expect_err("is wrong").contains("lost update"));
    }

    #[test]
    fn write_skew_is_found() {
        let calls = [
            call(1, (0, 9), &[(0, None), (1, None)], &[0]),
            call(2, (1, 8), &[(0, None), (1, None)], &[1]),
        ];
        check(&calls).expect_err("each has read what the other replaced");
        let in_order = [
            call(1, (0, 9), &[(0, None), (1, None)], &[0]),
            call(2, (1, 8), &[(0, Some(1)), (1, None)], &[1]),
        ];
        assert_eq!(check(&in_order), Ok(()));
    }

    #[test]
    fn a_scan_that_sees_half_of_a_transaction_is_found() {
        let both = call(1, (0, 9), &[(0, None), (1, None)], &[0, 1]);
        let half = call(2, (1, 8), &[(0, Some(1)), (1, None)], &[]);
        check(&[both.clone(), half]).expect_err("it has seen half");
        assert_eq!(check(&[both, call(2, (1, 8), &[(0, None), (1, None)], &[])]), Ok(()));
    }

    #[test]
    fn a_read_of_what_was_replaced_before_it_began_is_found() {
        let calls = [call(1, (0, 1), &[(0, None)], &[0]), call(2, (2, 3), &[(0, None)], &[])];
        check(&calls).expect_err("it was answered before");
    }
}
