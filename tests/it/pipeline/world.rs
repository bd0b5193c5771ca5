//! Transactions beside an oracle, as dice or the bytes of a fuzzer say: prepared ones, kills, power cuts, flushes and
//! compaction among them.

use super::oracle::{Effects, Oracle, Outcome, WRITES};
use firstseen::disk::sim::SimDisk;
use firstseen::offsets::Source;
use firstseen::outbox::Outbox;
use firstseen::table::RawTable;
use firstseen::transaction::{CommitOutcome, EndOutcome, Rejection, Transaction};
use firstseen::{Durability, ManualClock, MemoryBlocks, Store};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// What decides: a generator, or the bytes of a fuzzer, which are over at some time.
pub(crate) enum Dice {
    Seed(u64),
    #[allow(dead_code, reason = "the fuzz target `transactions` has them")]
    Bytes(std::collections::VecDeque<u8>),
}

impl Dice {
    fn is_over(&self) -> bool {
        matches!(self, Self::Bytes(bytes) if bytes.is_empty())
    }

    fn roll(&mut self, sides: u64) -> u64 {
        match self {
            Self::Seed(seed) => {
                *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (*seed >> 33) % sides
            }
            Self::Bytes(bytes) => u64::from(bytes.pop_front().unwrap_or_default()) % sides,
        }
    }
}

pub(crate) struct World {
    disk: SimDisk,
    clock: ManualClock,
    blocks: MemoryBlocks,
    store: Option<Store>,
    oracle: Oracle,
    dice: Dice,
    calls: u64,
}

impl World {
    pub(crate) fn new(dice: Dice) -> Self {
        let mut world = Self {
            disk: SimDisk::new(),
            clock: ManualClock::at_millis(1_700_000_000_000),
            blocks: MemoryBlocks::default(),
            store: None,
            oracle: Oracle::default(),
            dice,
            calls: 0,
        };
        world.open();
        world
    }

    fn open(&mut self) {
        let builder = Store::builder("/s").disk(self.disk.clone()).clock(self.clock.clone());
        let builder = builder.block_memory(&self.blocks).seed([7; 16]).background(false).shards(2);
        let builder = builder.memory_budget(4 << 20).memtable_bytes(64 << 10);
        let builder = builder.segment_bytes(64 << 10).durability(Durability::Disk);
        self.store = Some(builder.open().expect("opens"));
    }

    pub(crate) fn store(&self) -> &Store {
        self.store.as_ref().expect("is open")
    }

    fn table(&self) -> RawTable {
        self.store().raw_table("state").expect("opens")
    }

    fn source(&self) -> Source {
        self.store().source("input").expect("opens")
    }

    fn topic(&self) -> Outbox {
        self.store().outbox("output").expect("opens")
    }

    /// Fills a transaction, and what the oracle is to know of it.
    fn fill(&mut self) -> (Transaction, Effects) {
        let (table, source, topic) = (self.table(), self.source(), self.topic());
        let mut transaction = self.store().transaction();
        let mut effects = Effects::default();
        for _ in 0..self.dice.roll(3) {
            let id = format!("id-{}", self.dice.roll(12));
            if !effects.claims.contains(&id) {
                transaction.claim(&id);
                effects.claims.push(id);
            }
        }
        for _ in 0..self.dice.roll(4) {
            let key = format!("key-{}", self.dice.roll(8));
            if effects.writes.contains_key(&key) {
                continue;
            }
            // Mostly the version that is there.
            let known = self.oracle.version(&key);
            let expected = match self.dice.roll(8) {
                0 => None,
                1..=4 => Some(known),
                5 => Some(None),
                _ => Some(Some(self.dice.roll(1_000))),
            };
            let version = |expected: Option<u64>| expected.map(firstseen::table::Version::from_u64);
            self.calls += 1;
            let value = vec![self.calls as u8; self.dice.roll(300) as usize];
            let change = self.dice.roll(WRITES);
            match (change, expected) {
                (0, Some(expected)) => transaction.expect(&table, &key, version(expected)),
                (1, Some(Some(found))) => {
                    let found = firstseen::table::Version::from_u64(found);
                    transaction.delete_if(&table, &key, found)
                }
                (0 | 1, _) => transaction.delete(&table, &key),
                (_, Some(expected)) => transaction.put_if(&table, &key, version(expected), &value),
                (_, None) => transaction.put(&table, &key, &value),
            }
            .expect("is encoded");
            let (put, keeps) = match (change, expected) {
                (0, Some(_)) => (None, true),
                (1, Some(Some(_))) | (0 | 1, _) => (None, false),
                _ => (Some(value), false),
            };
            let expected = if change == 1 && expected == Some(None) { None } else { expected };
            effects.writes.insert(key, (put, keeps, expected));
        }
        if self.dice.roll(2) == 0 {
            let (partition, next) = (self.dice.roll(3) as u32, self.dice.roll(40));
            transaction.advance(&source, partition, next);
            effects.offset = Some((partition, next));
        }
        if !effects.claims.is_empty() && self.dice.roll(2) == 0 {
            self.calls += 1;
            let payload = format!("message {}", self.calls);
            transaction.emit(&topic, &payload).expect("there is a claim");
            effects.message = Some(payload);
        }
        (transaction, effects)
    }

    /// Makes so many calls, or fewer if the dice are over, and compares at the end.
    pub(crate) fn run(&mut self, steps: usize) -> Result<(), String> {
        for step in 0..steps {
            if self.dice.is_over() {
                break;
            }
            self.step().map_err(|what| format!("step {step}: {what}"))?;
        }
        self.compare("at the end")
    }

    fn step(&mut self) -> Result<(), String> {
        match self.dice.roll(14) {
            0..=6 => self.transact(),
            7 | 8 => self.prepare(),
            9 => self.end(),
            10 => {
                self.store().freeze();
                self.store().run_background().map_err(|e| e.to_string())
            }
            11 => {
                let copy = self.disk.kill();
                self.crash(copy);
                self.compare("after a kill")
            }
            12 => {
                let copy = self.disk.lose_unsynced();
                self.crash(copy);
                self.compare("after a power cut")
            }
            _ => self.compare("while open"),
        }
    }

    /// Goes on from a copy of the disk.
    fn crash(&mut self, copy: SimDisk) {
        self.store = None;
        self.disk = copy;
        self.open();
    }

    fn transact(&mut self) -> Result<(), String> {
        let (transaction, effects) = self.fill();
        let answer = transaction.commit().map_err(|e| e.to_string())?;
        let expected = self.oracle.commit(&effects);
        Self::check(&answer, &expected, &effects)?;
        if expected == Outcome::Done {
            self.learn(&effects)?;
        }
        Ok(())
    }

    fn prepare(&mut self) -> Result<(), String> {
        let gid = format!("gid-{}", self.dice.roll(4));
        let (transaction, effects) = self.fill();
        let answer = transaction.prepare(&gid).map_err(|e| e.to_string())?;
        let expected = self.oracle.prepare(&gid, &effects);
        Self::check(&answer, &expected, &effects)
    }

    fn end(&mut self) -> Result<(), String> {
        let gid = format!("gid-{}", self.dice.roll(4));
        let commits = self.dice.roll(2) == 0;
        let ended = if commits {
            self.store().commit_prepared(&gid)
        } else {
            self.store().rollback_prepared(&gid)
        };
        let ended = ended.map_err(|e| e.to_string())?;
        let (expected, effects) = self.oracle.end(&gid, commits);
        if ended != expected {
            return Err(format!("{gid}, commits: {commits}: {ended:?}, expected {expected:?}"));
        }
        match (ended, commits) {
            (EndOutcome::Done, true) => self.learn(&effects),
            _ => Ok(()),
        }
    }

    /// Tells the oracle the versions of what was written.
    fn learn(&mut self, effects: &Effects) -> Result<(), String> {
        for (key, (put, ..)) in &effects.writes {
            if put.is_some() {
                let entry = self.table().get(key).map_err(|e| e.to_string())?;
                let entry = entry.ok_or_else(|| format!("{key} was put and is not there"))?;
                self.oracle.learn(key, entry.version.as_u64())?;
            }
        }
        Ok(())
    }

    fn check(answer: &CommitOutcome, expected: &Outcome, effects: &Effects) -> Result<(), String> {
        let mut found = Vec::new();
        let outcome = match answer {
            CommitOutcome::Rejected(reasons) => {
                found.extend(reasons.iter().filter_map(reason));
                found.sort();
                Outcome::Rejected(found)
            }
            _ => Outcome::Done,
        };
        match (&outcome, expected) {
            (Outcome::Done, Outcome::Done) => Ok(()),
            // Reasons that are found only after others have been, or under the locks, may be left out.
            (Outcome::Rejected(told), Outcome::Rejected(all))
                if !told.is_empty() && told.iter().all(|why| all.contains(why)) =>
            {
                Ok(())
            }
            _ => Err(format!("{outcome:?}, expected {expected:?} of {effects:?}")),
        }
    }

    /// Compares all that can be read.
    fn compare(&self, when: &str) -> Result<(), String> {
        let fail = |what: String| Err(format!("{when}: {what}"));
        for n in 0..12 {
            let id = format!("id-{n}");
            let is_claimed = self.store().contains(&id).map_err(|e| e.to_string())?;
            if is_claimed != self.oracle.claims.contains(&id) {
                return fail(format!("{id} is claimed: {is_claimed}"));
            }
        }
        let mut table = BTreeMap::new();
        self.table()
            .scan(|key, entry| {
                let entry = entry.expect("reads");
                let key = String::from_utf8_lossy(key).into_owned();
                table.insert(key, (entry.value, entry.version.as_u64()));
                ControlFlow::Continue(())
            })
            .map_err(|e| e.to_string())?;
        if table != self.oracle.table {
            return fail(format!("table {table:?}, expected {:?}", self.oracle.table));
        }
        let positions = self.source().positions().map_err(|e| e.to_string())?;
        let positions: BTreeMap<u32, u64> =
            positions.into_iter().map(|(partition, position)| (partition, position.next)).collect();
        if positions != self.oracle.offsets {
            return fail(format!("offsets {positions:?}, expected {:?}", self.oracle.offsets));
        }
        let messages = self.topic().read(usize::MAX).map_err(|e| e.to_string())?;
        let messages: Vec<String> = messages
            .iter()
            .map(|message| String::from_utf8_lossy(&message.payload).into_owned())
            .collect();
        if messages != self.oracle.messages {
            return fail(format!("messages {messages:?}, expected {:?}", self.oracle.messages));
        }
        let prepared = self.store().prepared().map_err(|e| e.to_string())?;
        let mut prepared: Vec<String> =
            prepared.iter().map(|p| String::from_utf8_lossy(&p.gid).into_owned()).collect();
        prepared.sort();
        if prepared != self.oracle.in_doubt() {
            return fail(format!("prepared {prepared:?}, expected {:?}", self.oracle.in_doubt()));
        }
        Ok(())
    }
}

/// A reason as the oracle writes it. A message has the id of its claim, and there is nothing more to say about it.
fn reason(why: &Rejection) -> Option<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(match why {
        Rejection::Duplicate(id) => format!("duplicate {}", text(&id.id)),
        Rejection::Moved { key, found, .. } => {
            format!("moved {} {:?}", text(key), found.map(firstseen::table::Version::as_u64))
        }
        Rejection::OffsetBack { partition, .. } => format!("back {partition}"),
        Rejection::InDoubt { id } if id.len() == 16 => return None,
        Rejection::InDoubt { id } => format!("in doubt {}", text(id)),
        Rejection::NameInUse => "name".to_owned(),
        Rejection::DuplicateMessage { .. } => return None,
        other => format!("{other:?}"),
    })
}
