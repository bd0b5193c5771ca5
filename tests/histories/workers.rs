//! Histories of workers: threads on one store begin the same ids, save stages, finish or fail, let leases end, speak too
//! late, and bring dead ones back, while their calls overlap. Attempts change hands, as between threads of a pool.

pub(crate) mod check;
mod joined;
mod wrong;

use crate::drive::Rng;
use check::{
    ATTEMPTS_MAX, Begun, DELAY, Event, Heard, Is, LEASE, Shown, What, Word, check, check_tokens,
};
use firstseen::disk::sim::SimDisk;
use firstseen::ledger::{
    Attempt, AttemptError, Backoff, Begin, Failure, Ledger, LedgerOptions, OnLeaseEnd, Record,
    State,
};
use firstseen::table::RawTable;
use firstseen::{Clock, ManualClock, MemoryBlocks, Store, Timestamp};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Barrier, Mutex, RwLock};
use std::time::Duration;

const START_MS: u64 = 1_700_000_000_000;
const OPENINGS: usize = 2;

/// More than the policies of a ledger let it take.
const TRIES_MAX: usize = 50;

/// Counts of what happened, to show that the histories reach it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) events: u64,
    pub(crate) started: u64,
    /// Calls of attempts that were refused.
    pub(crate) refused: u64,
    pub(crate) over: u64,
    /// Calls during which another one of the same id was made.
    pub(crate) beside: u64,
    /// Changes of a record that were committed together with a row.
    pub(crate) joined: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.started += other.started;
        self.refused += other.refused;
        self.over += other.over;
        self.beside += other.beside;
        self.joined += other.joined;
    }

    fn note(&mut self, events: &[Event]) {
        let count = |is: fn(&What) -> bool| events.iter().filter(|e| is(&e.what)).count() as u64;
        self.events += events.len() as u64;
        self.started += count(|what| matches!(what, What::Begin(Begun::Started, _)));
        self.refused += count(|what| {
            matches!(
                what,
                What::Say { heard: Heard::Fenced(_) | Heard::LeaseEnded, .. }
                    | What::Refused(..)
                    | What::StageSaved { .. }
            )
        });
        self.over += count(|what| matches!(what, What::Begin(Begun::Over, _)));
        let is_beside = |event: &&Event| {
            let others = events.iter().filter(|other| other.called != event.called);
            others.into_iter().any(|o| o.called < event.answered && event.called < o.answered)
        };
        self.beside += events.iter().filter(is_beside).count() as u64;
        self.joined += events.iter().filter(|event| event.row.is_some()).count() as u64;
    }
}

/// An attempt that nobody speaks for at the moment.
struct Idle {
    id: usize,
    attempt: Attempt,
    /// How many stages it has come to.
    reached: u32,
}

/// Lets other threads go on whenever it is read, which a call does between what it reads and what it writes.
#[derive(Debug)]
pub(crate) struct YieldingClock(pub(crate) ManualClock);

impl Clock for YieldingClock {
    fn wall(&self) -> Timestamp {
        std::thread::yield_now();
        self.0.wall()
    }

    fn elapsed_ms(&self) -> u64 {
        self.0.elapsed_ms()
    }

    fn boot_id(&self) -> u128 {
        self.0.boot_id()
    }
}

/// Shared by all threads of one opening.
struct Shared {
    ledger: Ledger,
    /// One row for each id.
    table: RawTable,
    clock: ManualClock,
    stamps: AtomicU64,
    /// Numbers results and stages.
    values: AtomicU64,
    ids: usize,
    idle: Mutex<Vec<Idle>>,
    /// Held while an attempt begins, and taken to let time pass: `begin` renews a lease that has ended before it returns,
    /// which would be two events.
    time: RwLock<()>,
    /// So that no thread is done before the last one begins.
    ready: Barrier,
}

struct Worker<'a> {
    shared: &'a Shared,
    rng: Rng,
    events: Vec<(usize, Event)>,
}

struct Span {
    called: u64,
    answered: u64,
    clock: (u64, u64),
}

impl Worker<'_> {
    fn call<T>(&self, call: impl FnOnce(&Ledger) -> T) -> (Span, T) {
        let clock = || self.shared.clock.wall().as_millis();
        let stamp = || self.shared.stamps.fetch_add(1, Ordering::SeqCst);
        let (from, called) = (clock(), stamp());
        let answer = call(&self.shared.ledger);
        let answered = stamp();
        (Span { called, answered, clock: (from, clock()) }, answer)
    }

    fn note(&mut self, id: usize, span: Span, what: What) {
        self.note_with(id, &span, what, None);
    }

    fn note_with(&mut self, id: usize, span: &Span, what: What, row: Option<u64>) {
        let Span { called, answered, clock } = *span;
        self.events.push((id, Event { what, row, called, answered, clock }));
    }

    fn value(&self) -> u64 {
        self.shared.values.fetch_add(1, Ordering::Relaxed)
    }

    fn work(mut self, calls: u64) -> Vec<(usize, Event)> {
        self.shared.ready.wait();
        for _ in 0..calls {
            let id = self.rng.below(self.shared.ids as u64) as usize;
            match self.rng.below(40) {
                0..8 => self.begin(id),
                8..21 => self.speak(),
                32..38 => self.transact(id),
                38 | 39 => self.read_row(id),
                21..25 => {
                    let ms = self.rng.pick(&[1, 1, 2, DELAY, LEASE / 2, LEASE]);
                    self.shared.pass(ms);
                }
                25 | 26 => self.get(id),
                27 | 28 => self.redrive(id),
                29 => self.cancel(id),
                30 => self.settle(id),
                _ if self.rng.below(2) == 0 => self.purge(id),
                _ => self.shared.ledger.store().freeze(),
            }
        }
        self.events
    }

    fn begin(&mut self, id: usize) {
        let (span, begun) = {
            let _no_time_passes = self.shared.time.read().expect("no panic under this lock");
            self.call(|ledger| ledger.begin(name(id)))
        };
        match begun.expect("begins") {
            Begin::Started(attempt) => self.started(id, &span, attempt, None),
            other => {
                let (begun, shown) = refused(&other);
                self.note(id, span, What::Begin(begun, shown));
            }
        }
    }

    fn started(&mut self, id: usize, span: &Span, attempt: Attempt, row: Option<u64>) {
        let what = What::Begin(Begun::Started, shown(&attempt.record()));
        self.shared.idle().push(Idle { id, attempt, reached: 0 });
        self.note_with(id, span, what, row);
    }

    /// Takes an attempt that is idle, whoever has begun it.
    fn take_idle(&mut self) -> Option<Idle> {
        let mut idle = self.shared.idle();
        let count = idle.len() as u64;
        (count > 0).then(|| idle.swap_remove(self.rng.below(count) as usize))
    }

    fn speak(&mut self) {
        let Some(idle) = self.take_idle() else { return };
        let word = self.word();
        self.say(idle, word);
    }

    fn word(&mut self) -> Word {
        let value = self.value();
        match self.rng.below(16) {
            0 | 1 => Word::Complete { result: value },
            2..6 => Word::Fail,
            6 => Word::Release,
            7..11 => Word::Renew,
            _ => Word::Save { value },
        }
    }

    fn say(&mut self, mut idle: Idle, word: Word) {
        if let Word::Save { value } = word {
            return self.stage(idle, value);
        }
        let Idle { id, attempt, .. } = &mut idle;
        let (id, token) = (*id, attempt.token());
        let (span, told) = self.call(|_| match word {
            Word::Complete { result } => attempt.complete(result.to_le_bytes()),
            Word::Fail => attempt.fail(Failure::retry("no")),
            Word::Release => attempt.release(),
            Word::Renew | Word::Save { .. } => attempt.renew(),
        });
        let heard = match told {
            Ok(()) => Heard::Yes(shown(&attempt.record())),
            Err(AttemptError::Fenced { record }) => Heard::Fenced(record.as_deref().map(shown)),
            Err(AttemptError::LeaseEnded) => Heard::LeaseEnded,
            Err(other) => panic!("{word:?}: {other}"),
        };
        self.note(id, span, What::Say { token, word, heard });
        // What an attempt that is over hears is not what the record says.
        if word == Word::Renew || heard == Heard::LeaseEnded {
            self.shared.idle().push(idle);
        }
    }

    /// Does the next stage: it is either found saved or saved now.
    fn stage(&mut self, mut idle: Idle, value: u64) {
        let (id, token, number) = (idle.id, idle.attempt.token(), idle.reached);
        let (span, told) =
            self.call(|_| idle.attempt.stage(&format!("s{number}"), || Ok::<_, Failure>(value)));
        let told = match told {
            Ok(told) => told,
            Err(failure) => {
                // A failure does not say what the attempt heard. Ask it, in a call of its own.
                let (span, told) = self.call(|_| idle.attempt.check());
                match told {
                    Err(AttemptError::Fenced { record }) => {
                        let heard = Heard::Fenced(record.as_deref().map(shown));
                        self.note(id, span, What::Say { token, word: Word::Renew, heard });
                    }
                    Err(AttemptError::LeaseEnded) => {}
                    other => panic!("{} ({other:?})", failure.reason()),
                }
                return self.shared.idle().push(idle);
            }
        };
        idle.reached += 1;
        let what = if told == value {
            let heard = Heard::Yes(shown(&idle.attempt.record()));
            What::Say { token, word: Word::Save { value }, heard }
        } else {
            What::Replayed { number, value: told }
        };
        self.note(id, span, what);
        self.shared.idle().push(idle);
    }

    fn get(&mut self, id: usize) {
        let (span, record) = self.call(|ledger| ledger.get(name(id)));
        self.note(id, span, What::Get(record.expect("reads").as_ref().map(shown)));
    }

    fn cancel(&mut self, id: usize) {
        let (span, record) = self.call(|ledger| ledger.cancel(name(id), "by hand"));
        self.note(id, span, What::Cancel(record.expect("cancels").as_ref().map(shown)));
    }

    fn settle(&mut self, id: usize) {
        let result = self.value();
        let (span, record) =
            self.call(|ledger| ledger.settle(name(id), result.to_le_bytes(), "by hand"));
        let shown = record.expect("settles").as_ref().map(shown);
        self.note(id, span, What::Settle { result, shown });
    }

    fn redrive(&mut self, id: usize) {
        let (span, changed) = self.call(|ledger| ledger.dead_letters().redrive(name(id)));
        self.note(id, span, What::Redrive(changed.expect("redrives")));
    }

    fn purge(&mut self, id: usize) {
        let (span, changed) = self.call(|ledger| ledger.dead_letters().purge(name(id)));
        self.note(id, span, What::Purge(changed.expect("purges")));
    }

    /// Lets every attempt speak that has not, and brings every id to its end: each has one.
    fn finish(mut self) -> Result<Vec<(usize, Event)>, String> {
        let left = std::mem::take(&mut *self.shared.idle());
        for idle in left {
            let result = self.value();
            self.say(idle, Word::Complete { result });
        }
        for id in 0..self.shared.ids {
            for tries in 0.. {
                self.begin(id);
                self.shared.pass(LEASE);
                let is = self.events.last().map(|(_, event)| event.what);
                if let Some(What::Begin(Begun::Over, shown)) = is {
                    if shown.is != Is::Held {
                        break;
                    }
                    self.settle(id);
                }
                if tries > TRIES_MAX {
                    return Err(format!("id {id} does not end"));
                }
            }
            self.get(id);
            self.read_row(id);
        }
        Ok(self.events)
    }
}

impl Shared {
    fn pass(&self, ms: u64) {
        let _nobody_begins = self.time.write().expect("no panic under this lock");
        self.clock.advance(Duration::from_millis(ms));
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().expect("no panic under this lock")
    }
}

fn name(id: usize) -> String {
    format!("job-{id}")
}

/// Returns the answer of `begin` if no attempt has started.
fn refused(begin: &Begin) -> (Begun, Shown) {
    let (begun, record) = match begin {
        Begin::InProgress(record) => (Begun::InProgress, record),
        Begin::RetryAt(record) => (Begun::RetryAt, record),
        Begin::Completed(record) | Begin::Held(record) | Begin::Dead(record) => {
            (Begun::Over, record)
        }
        other => panic!("{other:?}"),
    };
    (begun, shown(record))
}

fn shown(record: &Record) -> Shown {
    let is = match &record.state {
        State::Running { until } => Is::Running { until: until.as_millis() },
        State::Waiting { until } => Is::Waiting { until: until.as_millis() },
        State::Held => Is::Held,
        State::Completed { result, .. } => {
            let bytes = result.as_deref().and_then(|result| result.try_into().ok());
            Is::Done { result: bytes.map_or(u64::MAX, u64::from_le_bytes) }
        }
        State::Dead { .. } => Is::Dead,
        other => panic!("{other}"),
    };
    Shown {
        is,
        attempts: record.attempts,
        token: record.token,
        stages: record.stages,
        redrives: record.redrives,
        ended: record.history.len() as u32 + record.history_dropped,
    }
}

fn open(disk: &SimDisk, blocks: &MemoryBlocks, clock: &ManualClock) -> Store {
    let builder = Store::builder("/s")
        .disk(disk.clone())
        .block_memory(blocks)
        .clock(YieldingClock(clock.clone()))
        .shards(2)
        .segment_bytes(16 << 10)
        .memtable_bytes(4_000)
        .memory_budget(4 << 20)
        .flush_interval(Duration::from_millis(2));
    builder.open().expect("opens")
}

/// Runs the history of a seed and checks it.
pub(crate) fn live(seed: u64) -> Result<Tally, String> {
    let mut rng = Rng(seed ^ 0x6c65_6467_6572);
    let policy =
        rng.pick(&[OnLeaseEnd::Retry, OnLeaseEnd::Retry, OnLeaseEnd::Hold, OnLeaseEnd::Fail]);
    let threads = rng.pick(&[2, 2, 3, 4, 6, 8]);
    let ids = 2 + rng.below(4) as usize;
    // The checker takes a limited number of events of each id.
    let calls = (10 + rng.below(20)) * ids as u64 / threads;
    let backoff = Backoff::constant(Duration::from_millis(DELAY));
    let options = LedgerOptions::new()
        .lease(Duration::from_millis(LEASE))
        .on_lease_end(policy)
        .attempts_max(ATTEMPTS_MAX)
        .backoff(backoff);
    let (mut disk, mut blocks) = (SimDisk::new(), MemoryBlocks::default());
    let clock = ManualClock::at_millis(START_MS);
    let mut events: Vec<Vec<Event>> = vec![Vec::new(); ids];
    let (mut stamps, mut values) = (1, 1);
    for opening in 0..OPENINGS {
        let store = open(&disk, &blocks, &clock);
        let ledger = store.ledger_with("jobs", options.clone()).expect("opens");
        let shared = Shared {
            ledger,
            table: store.raw_table("state").expect("opens"),
            clock: clock.clone(),
            stamps: AtomicU64::new(stamps),
            values: AtomicU64::new(values),
            ids,
            idle: Mutex::default(),
            time: RwLock::new(()),
            ready: Barrier::new(threads as usize),
        };
        let mut seeds: Vec<u64> = (0..threads).map(|_| rng.next()).collect();
        let worker = |seed| Worker { shared: &shared, rng: Rng(seed), events: Vec::new() };
        let mut heard: Vec<(usize, Event)> = std::thread::scope(|scope| {
            let spawn = |seed| scope.spawn(move || worker(seed).work(calls));
            let workers: Vec<_> = seeds.drain(..).map(spawn).collect();
            let heard = workers.into_iter().map(|worker| worker.join().expect("no panic"));
            heard.flatten().collect()
        });
        if opening + 1 == OPENINGS {
            heard.extend(worker(rng.next()).finish()?);
        } else {
            // What the old process still says reaches nobody.
            (disk, blocks) = (disk.kill(), blocks.copy());
            heard.extend((0..ids).map(|id| {
                let (span, ()) = worker(0).call(|_| ());
                let Span { called, answered, clock } = span;
                (id, Event { what: What::Reopened, row: None, called, answered, clock })
            }));
        }
        heard.into_iter().for_each(|(id, event)| events[id].push(event));
        stamps = shared.stamps.load(Ordering::SeqCst);
        values = shared.values.load(Ordering::SeqCst);
    }
    let mut tally = Tally::default();
    for (id, events) in events.iter().enumerate() {
        tally.note(events);
        check(events, policy).map_err(|what| format!("id {id}: {what}"))?;
    }
    check_tokens(&events.concat())?;
    Ok(tally)
}
