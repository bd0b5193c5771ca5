//! A snapshot is one moment, whatever goes on meanwhile.

use crate::snapshot::{Place, claims_of};
use crate::support::{place, scaled, small};
use firstseen::outbox::Outbox;
use firstseen::snapshot::RestoreOptions;
use firstseen::table::Table;
use firstseen::{Durability, Store};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

const THREADS: u32 = 4;

/// One thread's work: its n-th transaction claims an id, counts in a table, advances an offset and sends a message.
struct Worker {
    store: Store,
    number: u32,
    counts: Table<u64>,
    topic: Outbox,
}

impl Worker {
    fn new(store: &Store, number: u32) -> Self {
        let counts = store.table("counts").expect("opens");
        let topic = store.outbox(&format!("topic-{number}")).expect("opens");
        Self { store: store.clone(), number, counts, topic }
    }

    fn id(&self, n: u64) -> String {
        format!("thread-{}-{n}", self.number)
    }

    fn step(&self, n: u64, durability: Durability) {
        let source = self.store.source("input").expect("opens");
        let mut transaction = self.store.transaction();
        transaction.durability(durability).claim(self.id(n));
        transaction.put(&self.counts, self.number.to_be_bytes(), &(n + 1)).expect("puts");
        // A row that is replaced again and again: compaction has something to do.
        let hot = self.store.raw_table("hot").expect("opens");
        transaction.put(&hot, self.number.to_be_bytes(), &[n as u8; 600]).expect("puts");
        transaction.advance(&source, self.number, n + 1);
        transaction.emit(&self.topic, vec![7; 100]).expect("emits");
        assert!(transaction.commit().expect("answers").is_committed());
    }

    /// How many of its transactions a store holds: all of each, or nothing of it.
    fn held(&self) -> u64 {
        let source = self.store.source("input").expect("opens");
        let next = source.position(self.number).expect("reads").map_or(0, |at| at.next);
        let counted = self.counts.get(self.number.to_be_bytes()).expect("reads");
        assert_eq!(counted.map_or(0, |entry| entry.value), next, "the table of {}", self.number);
        let messages = self.topic.read(usize::MAX).expect("reads").len() as u64;
        assert_eq!(messages, next, "the messages of {}", self.number);
        for n in 0..next + 50 {
            let is_held = self.store.contains(self.id(n)).expect("reads");
            assert_eq!(is_held, n < next, "id {n} of {next} transactions");
        }
        next
    }
}

fn held_by(place: &Place, dir: &Path, number: u64) -> Vec<u64> {
    let path = dir.join(format!("restored-{number}"));
    let options = RestoreOptions::new().number(number);
    Store::restore_with(place, &path, options).expect("restores");
    let store = small(Store::builder(path)).open().expect("opens");
    let report = store.verify().expect("reads everything");
    assert!(report.is_sound(), "{report}");
    (0..THREADS).map(|n| Worker::new(&store, n).held()).collect()
}

/// Threads 0 and 1 take turns, so a moment at which the second is ahead of the first never was.
#[test]
fn i15_a_snapshot_taken_under_load_is_one_moment_and_holds_all_that_was_answered_before() {
    let (dir, path) = place();
    let store = small(Store::builder(path)).background(true).open().expect("opens");
    let (acked, stop) = ([const { AtomicU64::new(0) }; THREADS as usize], AtomicBool::new(false));
    let (to_first, first) = mpsc::channel();
    let (to_second, second) = mpsc::channel();
    to_first.send(()).expect("there is a receiver");
    let snapshots = scaled(8);
    let taken_into = Place::default();
    let mut expected = Vec::new();
    std::thread::scope(|scope| {
        let mut turns = [Some((first, to_second)), Some((second, to_first)), None, None];
        for number in 0..THREADS {
            let (worker, turn) = (Worker::new(&store, number), turns[number as usize].take());
            let (acked, stop) = (&acked[number as usize], &stop);
            let level = [Durability::Process, Durability::Disk][number as usize / 3];
            scope.spawn(move || {
                for n in 0.. {
                    let mine = turn.as_ref().is_none_or(|(mine, _)| mine.recv().is_ok());
                    if !mine || stop.load(Ordering::Acquire) {
                        return;
                    }
                    worker.step(n, level);
                    acked.store(n + 1, Ordering::Release);
                    if turn.as_ref().is_some_and(|(_, other)| other.send(()).is_err()) {
                        return;
                    }
                }
            });
        }
        for _ in 0..snapshots {
            let before: Vec<u64> = acked.iter().map(|n| n.load(Ordering::Acquire)).collect();
            let report = store.snapshot(&taken_into).expect("a snapshot");
            // What was begun after the call is not in it: of each thread one may have been under way.
            let after: Vec<u64> = acked.iter().map(|n| n.load(Ordering::Acquire) + 1).collect();
            expected.push((report.number, before, after));
            while acked[3].load(Ordering::Acquire) < (report.number) * 40 {
                std::thread::yield_now();
            }
        }
        stop.store(true, Ordering::Release);
    });
    assert!(store.stats().segments_removed > 0, "compaction went on: {}", store.stats());
    let whole = claims_of(&store);
    for (number, before, after) in expected {
        let held = held_by(&taken_into, dir.path(), number);
        for thread in 0..THREADS as usize {
            let range = before[thread]..=after[thread];
            assert!(range.contains(&held[thread]), "snapshot {number}: {held:?}, not {range:?}");
        }
        assert!(held[0] >= held[1] && held[0] <= held[1] + 1, "snapshot {number}: {held:?}");
    }
    assert_eq!(claims_of(&store), whole, "and nothing changed in the store");
}
