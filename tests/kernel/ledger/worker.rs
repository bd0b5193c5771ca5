//! The child: 64 threads begin the same ids, do their stages, fail, panic, hand back, and sleep past their leases, until
//! they are killed.

use super::oracle::{ATTEMPTS_MAX, GUARDED};
use super::record::{Book, Line, What, Who};
use crate::dice::Dice;
use crate::job::Mix;
use crate::report::{now_us, pause};
use crate::subject::Firstseen;
use firstseen::Store;
use firstseen::ledger::{
    Attempt, AttemptError, Backoff, Begin, BeginOptions, Failure, Ledger, LedgerOptions, State,
};
use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// The test that is the body of a child.
pub(crate) const CHILD: &str = "ledger::worker::the_child_works_until_it_is_killed";

pub(crate) const THREADS: u64 = 64;

const LEASE_MS: u64 = 40;
const STAGES: [&str; 2] = ["note", "charge"];
const VARIABLE: &str = "FIRSTSEEN_KERNEL_LEDGER_JOB";

#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) folder: PathBuf,
    /// Children are numbered from one.
    pub(crate) child: u64,
    pub(crate) seed: u64,
    /// Of all ids, those that this child works on.
    pub(crate) first: u64,
    pub(crate) end: u64,
    /// Works until every id has ended.
    pub(crate) is_last: bool,
}

impl Job {
    /// The job as an environment variable of the child.
    pub(crate) fn variable(&self) -> (&'static str, String) {
        let Self { child, seed, first, end, is_last, .. } = self;
        let folder = self.folder.display();
        (VARIABLE, format!("{child} {seed} {first} {end} {} {folder}", u64::from(*is_last)))
    }

    fn of_this_process() -> Option<Self> {
        let text = std::env::var(VARIABLE).ok()?;
        let mut words = text.splitn(6, ' ');
        let mut word = || words.next().expect("a job has six words");
        let [child, seed, first, end, is_last] =
            std::array::from_fn(|_| word().parse().expect("a number"));
        let folder = PathBuf::from(word());
        Some(Self { folder, child, seed, first, end, is_last: is_last == 1 })
    }
}

pub(crate) fn store_in(folder: &Path) -> Store {
    let opened = Firstseen::builder(&folder.join("seen.db"), Mix::Compaction.tuning()).open();
    opened.unwrap_or_else(|e| panic!("the store does not open: {e}"))
}

pub(crate) fn ledger_in(store: &Store) -> Ledger {
    let options = LedgerOptions::new()
        .lease(Duration::from_millis(LEASE_MS))
        .backoff(Backoff::constant(Duration::from_millis(3)))
        .attempts_max(ATTEMPTS_MAX as u32);
    store.ledger_with("work", options).expect("the ledger opens")
}

pub(crate) fn name(id: u64) -> String {
    format!("id-{id:06}")
}

pub(crate) fn result_of(bytes: &[u8]) -> Option<[u64; 2]> {
    let (one, two) = (bytes.get(..8)?, bytes.get(8..)?);
    Some([u64::from_le_bytes(one.try_into().ok()?), u64::from_le_bytes(two.try_into().ok()?)])
}

/// Not a test by itself: the body of the child process.
#[test]
fn the_child_works_until_it_is_killed() {
    let Some(job) = Job::of_this_process() else { return };
    let broken = job.folder.join("broken");
    // A panic of one thread must not go unnoticed while the others work on. Panics of sled are contained by the store,
    // and those that are injected below do not come by here.
    std::panic::set_hook(Box::new(move |panic| {
        let of_sled = |at: &std::panic::Location<'_>| at.file().contains("/sled-0.34");
        if !panic.location().is_some_and(of_sled) {
            std::fs::write(&broken, panic.to_string()).ok();
            std::process::abort();
        }
    }));
    let store = store_in(&job.folder);
    let shared = Shared {
        ledger: ledger_in(&store),
        book: Book::open(&job.folder.join("record")),
        resource: Resource::open(&job),
        ended: (0..job.end).map(|_| AtomicBool::new(false)).collect(),
        results: (0..job.end).map(|_| OnceLock::new()).collect(),
        left: AtomicU64::new(job.end - job.first),
    };
    shared.book.write(Line::Open(job.child));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let dice = Dice::new(job.seed * 1_000 + thread);
            let mut worker = Worker { job: &job, shared: &shared, dice };
            scope.spawn(move || {
                while let Some(id) = worker.choose() {
                    worker.begin(id);
                }
            });
        }
    });
    let Shared { ledger, book, .. } = shared;
    drop(ledger);
    store.close().expect("closes");
    book.write(Line::AllEnded(job.child));
}

/// Something outside that compares tokens: it takes no effect of an attempt with a lower one than it has seen.
struct Resource {
    file: File,
    highest: Vec<Mutex<u64>>,
}

impl Resource {
    fn open(job: &Job) -> Self {
        let path = job.folder.join("resource");
        let file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path);
        let file = file.expect("the resource opens");
        let highest = (0..job.end).map(|id| {
            let mut bytes = [0; 8];
            // A short file: the others are zero.
            file.read_at(&mut bytes, id * 8).expect("the resource is read");
            Mutex::new(u64::from_le_bytes(bytes))
        });
        Self { highest: highest.collect(), file }
    }

    fn take(&self, who: Who, book: &Book) -> Result<(), Failure> {
        let highest = &self.highest[who.id as usize];
        let mut highest = highest.lock().unwrap_or_else(PoisonError::into_inner);
        if who.token < *highest {
            book.write(Line::By(who, What::Stale));
            return Err(Failure::retry("the resource knows a higher token"));
        }
        *highest = who.token;
        self.file.write_all_at(&who.token.to_le_bytes(), who.id * 8).expect("is written");
        book.write(Line::By(who, What::Effect { stage: GUARDED }));
        Ok(())
    }
}

struct Shared {
    ledger: Ledger,
    book: Book,
    resource: Resource,
    ended: Vec<AtomicBool>,
    /// What was replayed for each id: the same each time.
    results: Vec<OnceLock<[u64; 2]>>,
    left: AtomicU64,
}

struct Worker<'a> {
    job: &'a Job,
    shared: &'a Shared,
    dice: Dice,
}

/// What goes wrong with an attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Nothing,
    Retry,
    Final,
    Drop,
    Panic,
    Release,
    /// Sleeps past the end of the lease, and goes on.
    Sleep,
    /// Renews the lease, and sleeps for most of it.
    Renew,
}

impl Worker<'_> {
    /// `None` once every id has ended.
    fn choose(&mut self) -> Option<u64> {
        let Job { first, end, is_last, .. } = *self.job;
        let id = first + self.dice.below(end - first);
        if !is_last {
            return Some(id);
        }
        let is_open = |id: &u64| !self.shared.ended[*id as usize].load(Ordering::Relaxed);
        let any = (id..end).chain(first..id).find(is_open);
        any.filter(|_| self.shared.left.load(Ordering::Relaxed) > 0)
    }

    fn begin(&mut self, id: u64) {
        let asked_us = now_us();
        let options = BeginOptions::new().payload(name(id));
        match self.shared.ledger.begin_with(name(id), options).expect("begins") {
            Begin::Started(attempt) => {
                let who = Who { child: self.job.child, id, token: attempt.token() };
                let started =
                    What::Started { asked_us, at_us: now_us(), until_ms: until(&attempt) };
                self.shared.book.write(Line::By(who, started));
                self.attempt(attempt, who);
            }
            Begin::Completed(record) => {
                let result = record.result().and_then(result_of).expect("a result is shown");
                let first = self.shared.results[id as usize].get_or_init(|| result);
                assert_eq!(*first, result, "the result of {id} has changed");
                self.has_ended(id);
            }
            Begin::Dead(_) if !self.job.is_last && self.dice.one_in(500) => {
                self.shared.book.write(Line::Redrive(id));
                self.shared.ledger.dead_letters().redrive(name(id)).expect("redrives");
            }
            Begin::Dead(_) => self.has_ended(id),
            Begin::InProgress(_) | Begin::RetryAt(_) => pause(200 + self.dice.below(2_000)),
            other => panic!("{id} is {other:?}"),
        }
    }

    fn has_ended(&self, id: u64) {
        if !self.shared.ended[id as usize].swap(true, Ordering::Relaxed) {
            self.shared.left.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn fate(&mut self) -> Fate {
        match self.dice.below(100) {
            0..16 => Fate::Retry,
            16..20 => Fate::Final,
            20..26 => Fate::Drop,
            26..32 => Fate::Panic,
            32..38 => Fate::Release,
            38..52 => Fate::Sleep,
            52..58 => Fate::Renew,
            _ => Fate::Nothing,
        }
    }

    /// Does an attempt; its fate comes before one of its two stages, or after them.
    fn attempt(&mut self, attempt: Attempt, who: Who) {
        let (fate, when) = (self.fate(), self.dice.below(3));
        if self.dice.one_in(4) {
            // Once it is taken over and completed, the payload is gone.
            let payload = attempt.payload().expect("reads");
            let is_right = payload == Some(name(who.id).into_bytes());
            assert!(is_right || attempt.check().is_err(), "{who:?} has the payload {payload:?}");
        }
        let mut by = Vec::with_capacity(STAGES.len());
        for at in 0..=STAGES.len() {
            if at as u64 == when {
                match fate {
                    Fate::Nothing => {}
                    Fate::Sleep => pause(LEASE_MS * 1_500),
                    Fate::Renew => self.renew(&attempt, who),
                    last => return self.end(attempt, who, last),
                }
            }
            if at < STAGES.len() {
                match self.stage(&attempt, who, at) {
                    Ok(token) => by.push(token),
                    Err(failure) => {
                        self.ending(who);
                        return self.hear(who, attempt.fail(failure));
                    }
                }
            }
        }
        let by = <[u64; 2]>::try_from(by).expect("there are two stages");
        self.ending(who);
        self.write(who, What::Completing { by });
        let (result, asked_us) = (by.map(u64::to_le_bytes).concat(), now_us());
        match attempt.complete(result) {
            Ok(()) => self.write(who, What::Completed { asked_us, by }),
            refused => self.hear(who, refused),
        }
    }

    fn stage(&self, attempt: &Attempt, who: Who, stage: usize) -> Result<u64, Failure> {
        let number = stage as u64;
        let done_us = Cell::new(None);
        let by = attempt.stage(STAGES[stage], || {
            if number == GUARDED {
                self.shared.resource.take(who, &self.shared.book)?;
            } else {
                self.write(who, What::Effect { stage: number });
            }
            done_us.set(Some(now_us()));
            Ok::<u64, Failure>(who.token)
        })?;
        if let Some(asked_us) = done_us.get() {
            let until_ms = until(attempt);
            self.write(who, What::Saved { stage: number, asked_us, until_ms });
        }
        Ok(by)
    }

    fn renew(&mut self, attempt: &Attempt, who: Who) {
        let asked_us = now_us();
        match attempt.renew() {
            Ok(()) => self.write(who, What::Renewed { asked_us, until_ms: until(attempt) }),
            Err(AttemptError::LeaseEnded | AttemptError::Fenced { .. }) => {}
            Err(error) => panic!("{who:?} was not renewed: {error}"),
        }
        pause(LEASE_MS * 700);
    }

    fn end(&self, attempt: Attempt, who: Who, fate: Fate) {
        self.ending(who);
        match fate {
            Fate::Retry => self.hear(who, attempt.fail(Failure::retry("try again"))),
            Fate::Final => self.hear(who, attempt.fail(Failure::last("never again"))),
            Fate::Release => {
                self.write(who, What::Released);
                self.hear(who, attempt.release());
            }
            Fate::Panic => {
                let panics = AssertUnwindSafe(|| {
                    let _dropped = attempt;
                    resume_unwind(Box::new("injected"));
                });
                catch_unwind(panics).expect_err("it panics");
            }
            _ => drop(attempt),
        }
    }

    /// The answer to a fenced write. A lease that has ended is the answer where the record is dead by now.
    fn hear(&self, who: Who, answer: Result<(), AttemptError>) {
        match answer {
            Ok(()) => {}
            Err(AttemptError::Fenced { .. } | AttemptError::LeaseEnded) => {
                self.write(who, What::Fenced);
            }
            Err(error) => panic!("{who:?} could not say how it went: {error}"),
        }
    }

    fn ending(&self, who: Who) {
        self.write(who, What::Ending { at_us: now_us() });
    }

    fn write(&self, who: Who, what: What) {
        self.shared.book.write(Line::By(who, what));
    }
}

/// Returns when the lease ends, as the attempt knows it.
fn until(attempt: &Attempt) -> u64 {
    match attempt.record().state {
        State::Running { until } => until.as_millis(),
        other => panic!("an attempt that is {other}"),
    }
}
