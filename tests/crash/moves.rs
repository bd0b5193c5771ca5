//! A crash at every disk operation of transactions that begin, renew, save, end and forget records of a ledger, each with
//! a claim, a row and a message: afterwards there is all of a commit or nothing, and nothing of a later one without it.

use crate::ops::Rng;
use crate::run::Verdict;
use crate::{env, many};
use firstseen::disk::sim::{Fault, SimDisk};
use firstseen::ledger::{Attempt, AttemptError, BeginOptions, Failure, Ledger, LedgerOptions};
use firstseen::outbox::Outbox;
use firstseen::table::RawTable;
use firstseen::testing::{Table, validate};
use firstseen::transaction::{CommitOutcome, Transaction};
use firstseen::{Durability, ManualClock, MemoryBlocks, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const START_MS: u64 = 1_700_000_000_000;
const LEASE: Duration = Duration::from_secs(10);
const IDS: u64 = 4;
/// Few, so that rows are overwritten.
const ROWS: u64 = 2;
const COMMITS: u64 = 9;
/// Disk states after each crash.
const CUTS: u64 = 2;
/// The family of saved stages.
const STAGES: u8 = 2;

/// An attempt that goes on, and how many stages it has done.
struct Working {
    attempt: Attempt,
    stages: u32,
}

/// An opening of the store.
struct Life {
    working: BTreeMap<u64, Working>,
    completed: BTreeSet<u64>,
    ledger: Ledger,
    table: RawTable,
    topic: Outbox,
    store: Store,
    disk: SimDisk,
    clock: ManualClock,
}

/// What a workload has come to when the disk died, or at its end.
#[derive(Debug, Clone, Copy, Default)]
struct Heard {
    /// How many commits were tried.
    tried: usize,
    /// How many of them, from the first, were acknowledged, and how many so that they survive a power cut.
    done: usize,
    on_disk: usize,
    /// The highest token that was handed out.
    token: u64,
}

fn fails(what: impl std::fmt::Display) -> String {
    what.to_string()
}

impl Life {
    fn open(disk: &SimDisk, clock: &ManualClock) -> firstseen::Result<Self> {
        let store = Store::builder("/s")
            .disk(disk.clone())
            .block_memory(&MemoryBlocks::default())
            .clock(clock.clone())
            .background(false)
            .seed([7; 16])
            .shards(2)
            .segment_bytes(16 << 10)
            .memtable_bytes(64 << 10)
            .memory_budget(4 << 20)
            .durability(Durability::Process)
            .open()?;
        let ledger = store.ledger_with("jobs", LedgerOptions::new().lease(LEASE))?;
        let (table, topic) = (store.raw_table("state")?, store.outbox("sent")?);
        let (working, completed) = (BTreeMap::new(), BTreeSet::new());
        Ok(Self {
            working,
            completed,
            ledger,
            table,
            topic,
            store,
            disk: disk.clone(),
            clock: clock.clone(),
        })
    }

    /// Commits what a seed says, until the disk dies. `seen` is called after each commit.
    fn work(&mut self, seed: u64, mut seen: impl FnMut(&Self) -> Verdict) -> Verdict<Heard> {
        let (mut rng, mut heard) = (Rng(seed), Heard::default());
        while heard.tried < COMMITS as usize {
            let done = self.step(&mut rng, &mut heard).and_then(|()| seen(self));
            match done {
                Err(_) if self.disk.is_dead() => break,
                Err(what) => return Err(format!("commit {}: {what}", heard.tried)),
                Ok(()) => {}
            }
        }
        Ok(heard)
    }

    fn step(&mut self, rng: &mut Rng, heard: &mut Heard) -> Verdict {
        let is_on_disk = rng.below(3) == 0;
        let planned = self.plan(heard.tried as u64, is_on_disk, rng);
        let (transaction, moved) = planned.map_err(fails)?;
        heard.tried += 1;
        let outcome = transaction.commit().map_err(fails)?;
        heard.done += 1;
        if is_on_disk {
            heard.on_disk = heard.done;
        }
        self.moved(moved, outcome, heard)?;
        self.clock.advance(Duration::from_millis(1 + rng.below(3_000)));
        if rng.below(3) == 0 {
            self.store.freeze();
        }
        self.store.run_background().map_err(fails)
    }

    /// Collects moves of some ids, all of them legal. Returns the ids, each with what becomes of its attempt.
    fn plan(
        &self,
        number: u64,
        is_on_disk: bool,
        rng: &mut Rng,
    ) -> Result<(Transaction, Vec<(u64, Then)>), AttemptError> {
        let mut transaction = self.store.transaction();
        if is_on_disk {
            transaction.durability(Durability::Disk);
        }
        transaction.claim(format!("claim-{number}"));
        let first = rng.below(IDS);
        let mut moved = Vec::new();
        for id in (0..=rng.below(3)).map(|n| (first + n) % IDS) {
            if self.completed.contains(&id) {
                match rng.below(2) {
                    0 => transaction.redrive(&self.ledger, name(id)),
                    _ => transaction.purge(&self.ledger, name(id)),
                };
                moved.push((id, Then::CanBegin));
                continue;
            }
            let Some(working) = self.working.get(&id) else {
                let options = BeginOptions::new().payload(format!("payload {number}"));
                transaction.begin(&self.ledger, name(id), options);
                moved.push((id, Then::Begins));
                continue;
            };
            let attempt = &working.attempt;
            let then = match rng.below(12) {
                0 | 1 => {
                    transaction.renew_for(attempt, LEASE * (1 + rng.below(4) as u32))?;
                    Then::GoesOn
                }
                2 => {
                    transaction.save_cursor(attempt, &stage(working.stages), &number)?;
                    Then::GoesOn
                }
                3..8 => {
                    transaction.save_stage(attempt, &stage(working.stages), &number)?;
                    Then::Saves
                }
                8 => {
                    transaction.fail(attempt, Failure::retry_after("no", Duration::ZERO))?;
                    Then::CanBegin
                }
                9 => {
                    transaction.release(attempt);
                    Then::CanBegin
                }
                10 => {
                    transaction.forget(&self.ledger, name(id));
                    Then::CanBegin
                }
                _ => {
                    transaction.complete(attempt, number.to_le_bytes());
                    Then::Completes
                }
            };
            moved.push((id, then));
        }
        let value = number.to_le_bytes();
        transaction.put(&self.table, row(number), &value)?;
        transaction.emit_as(&self.topic, value, b"", value)?;
        Ok((transaction, moved))
    }

    /// Notes what a commit has made of the attempts.
    fn moved(
        &mut self,
        moved: Vec<(u64, Then)>,
        mut outcome: CommitOutcome,
        heard: &mut Heard,
    ) -> Verdict {
        if let CommitOutcome::Rejected(reasons) = &outcome {
            return Err(format!("commit {} is rejected: {reasons:?}", heard.done));
        }
        for (id, then) in moved {
            match then {
                Then::Begins => {
                    let attempt = outcome.attempt(&self.ledger, name(id)).ok_or("none began")?;
                    heard.token = heard.token.max(attempt.token());
                    let mut stages = 0;
                    // An earlier attempt may have saved some.
                    while attempt.saved_stage::<u64>(&stage(stages)).map_err(fails)?.is_some() {
                        stages += 1;
                    }
                    self.working.insert(id, Working { attempt, stages });
                }
                Then::GoesOn => {}
                Then::Saves => {
                    self.working.entry(id).and_modify(|working| working.stages += 1);
                }
                Then::CanBegin => {
                    self.completed.remove(&id);
                    // What was forgotten says nothing more.
                    _ = self.working.remove(&id).map(|working| working.attempt.detach());
                }
                Then::Completes => {
                    self.completed.insert(id);
                    self.working.remove(&id);
                }
            }
        }
        Ok(())
    }

    /// All that commits have left.
    fn view(&self) -> Verdict<Vec<String>> {
        self.try_view().map_err(fails)
    }

    fn try_view(&self) -> firstseen::Result<Vec<String>> {
        let mut view = Vec::new();
        for id in 0..IDS {
            let (record, payload) = (self.ledger.get(name(id))?, self.ledger.payload(name(id))?);
            view.push(format!("{}: {record:?} {payload:?}", name(id)));
        }
        for (id, row) in Table::of(&self.store, STAGES).list()? {
            view.push(format!("stage {id:?}: {:?}", row.value));
        }
        for number in 0..COMMITS {
            view.push(format!("claim: {}", self.store.contains(format!("claim-{number}"))?));
        }
        for number in 0..ROWS {
            let found = self.table.get(row(number))?.map(|entry| entry.value);
            view.push(format!("row: {found:?}"));
        }
        let messages = self.topic.read(usize::MAX)?;
        view.extend(messages.iter().map(|message| format!("message: {:?}", message.payload)));
        Ok(view)
    }

    /// The process is dead: nothing that it says may have an effect.
    fn abandon(self) {
        self.working.into_values().for_each(|working| _ = working.attempt.detach());
    }
}

/// What becomes of an attempt.
#[derive(Debug, Clone, Copy)]
enum Then {
    Begins,
    GoesOn,
    Saves,
    /// There is none, and may be one again.
    CanBegin,
    Completes,
}

fn name(id: u64) -> String {
    format!("job-{id}")
}

fn row(number: u64) -> String {
    format!("row-{}", number % ROWS)
}

fn stage(number: u32) -> String {
    format!("stage-{number}")
}

/// What a workload leaves after each of its commits, the first entry before all of them.
fn views(seed: u64) -> Verdict<Vec<Vec<String>>> {
    let mut life = Life::open(&SimDisk::new(), &clock()).map_err(fails)?;
    let mut views = vec![life.view()?];
    let see = |life: &Life| {
        views.push(life.view()?);
        Ok(())
    };
    life.work(seed, see)?;
    life.abandon();
    Ok(views)
}

/// Numbers of the disk operations that can affect what a crash leaves behind.
fn steps(seed: u64) -> Verdict<Vec<u64>> {
    let disk = SimDisk::new();
    disk.set_trace(true);
    let mut life = Life::open(&disk, &clock()).map_err(fails)?;
    life.work(seed, |_| Ok(()))?;
    life.abandon();
    Ok(disk.trace().iter().filter(|step| step.changes).map(|step| step.number).collect())
}

fn clock() -> ManualClock {
    ManualClock::at_millis(START_MS)
}

/// Opens a store after a crash: it has the first commits, at least `least` and at most those that were tried, each with
/// all of it or not at all. Then every id that may begins, under a new token.
fn check(
    disk: &SimDisk,
    clock: &ManualClock,
    (least, heard): (usize, Heard),
    views: &[Vec<String>],
) -> Verdict {
    let life = Life::open(disk, clock).map_err(|error| format!("opens: {error}"))?;
    let view = life.view()?;
    if !views[least..=heard.tried].contains(&view) {
        let place = views.iter().position(|other| *other == view);
        return Err(format!(
            "{heard:?}: there has to be what {least} to {} commits leave, and there is what {place:?} do: {view:#?}",
            heard.tried
        ));
    }
    // Its process is gone: what ran can begin, and so in one commit.
    let mut transaction = life.store.transaction();
    let mut begun = Vec::new();
    for id in 0..IDS {
        let record = life.ledger.get(name(id)).map_err(fails)?;
        if record.is_none_or(|record| record.result().is_none()) {
            transaction.begin(&life.ledger, name(id), BeginOptions::new());
            begun.push(id);
        }
    }
    let mut outcome = transaction.commit().map_err(fails)?;
    for id in begun {
        let Some(attempt) = outcome.attempt(&life.ledger, name(id)) else {
            return Err(format!("{} does not begin: {outcome:?}", name(id)));
        };
        if attempt.token() <= heard.token {
            return Err(format!("token {} was given after {}", attempt.token(), heard.token));
        }
        attempt.detach();
    }
    match validate(&life.store) {
        faults if faults.is_empty() => Ok(()),
        faults => Err(format!("{faults:?}")),
    }
}

fn crash_at_every_step(seed: u64) -> Verdict<u64> {
    let views = views(seed)?;
    let mut states = 0;
    for number in steps(seed)? {
        let fault = if number.is_multiple_of(3) { Fault::CrashInWrite } else { Fault::Crash };
        let (disk, clock) = (SimDisk::new(), clock());
        disk.fail_at(number, fault, false);
        let mut heard = Heard::default();
        if let Ok(mut life) = Life::open(&disk, &clock) {
            let worked = life.work(seed, |_| Ok(()));
            heard = worked.map_err(|what| format!("{fault:?} at {number}: {what}"))?;
            life.abandon();
        }
        let named = |cut: &str, what| format!("{fault:?} at {number}, {cut}: {what}");
        check(&disk.kill(), &clock, (heard.done, heard), &views)
            .map_err(|what| named("kill", what))?;
        for n in 0..CUTS {
            let cut = seed.wrapping_mul(1_000_003) ^ (number * CUTS + n);
            let named = |what| named(&format!("cut {cut}"), what);
            check(&disk.crash(cut), &clock, (heard.on_disk, heard), &views).map_err(named)?;
            // A second crash, at an operation of the recovery.
            let again = disk.crash(cut);
            again.fail_at(cut % 31, Fault::Crash, false);
            if let Ok(life) = Life::open(&again, &clock) {
                life.abandon();
            }
            let twice = again.crash(cut ^ 1);
            check(&twice, &clock, (heard.on_disk, heard), &views).map_err(named)?;
        }
        states += 1 + 2 * CUTS;
    }
    Ok(states)
}

#[test]
fn i1_i6_i8_after_a_crash_at_any_step_moves_are_there_with_all_of_their_transaction_or_not() {
    // Each looks at every record, row and message.
    let enough = env("FIRSTSEEN_CRASH_STATES", 20_000) / 4;
    let (seeds, states) = many("i1_i6_i8_after_a_crash", enough, crash_at_every_step);
    println!(
        "proof | simulated crash of ledger moves | {states} | states | {seeds} workloads of {COMMITS} transactions; \
         0 lost, 0 in part"
    );
}
