//! Runs operations on a store and on the oracle, and compares every result.

#[path = "run/course.rs"]
mod course;
#[path = "run/ends.rs"]
mod ends;
#[path = "run/moves.rs"]
mod moves;
#[path = "run/rows.rs"]
mod rows;

use crate::ops::{FOREVER, Harm, KeyNo, Level, NAMESPACES, Op, Setup, id_bytes, is_row};
use crate::oracle::{Change, End, Fact, Oracle, Seen};
use course::Course;
use firstseen::disk::sim::SimDisk;
use firstseen::{
    BatchReservation, Builder, Claim, ClaimOptions, Durability, ErrorKind, ManualClock,
    MemoryBlocks, Namespace, NamespaceOptions, Reserved, Store, Timestamp, Ttl,
};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// The error describes what is wrong with the store.
pub(crate) type Verdict<T = ()> = Result<T, String>;

/// Path of the store on a simulated disk.
pub(crate) const SIMULATED_DIR: &str = "/a/store.db";

const START_MS: u64 = 1_700_000_000_000;
const YEAR_S: u64 = 365 * 86_400;
/// `JumpBack` puts the wall clock at most this far behind, little enough that the engine waits for it (I5).
const BEHIND_MS_MAX: u64 = 1_800_000;

/// The initial ttl of each namespace, and whether it slides.
const SETTINGS: [(u64, bool); 3] = [(FOREVER, false), (5_000, false), (20_000, true)];

fn ttl_of(ms: u64) -> Ttl {
    if ms == FOREVER { Ttl::FOREVER } else { Ttl::from_millis(ms) }
}

fn durability(level: Level) -> Durability {
    match level {
        Level::Buffered => Durability::Buffered,
        Level::Process => Durability::Process,
        Level::Disk => Durability::Disk,
    }
}

#[derive(Debug)]
pub(crate) enum Place {
    Simulated { disk: SimDisk, blocks: MemoryBlocks, copies: Vec<MemoryBlocks> },
    Real { dir: PathBuf },
}

#[derive(Debug)]
struct Held {
    ns: u8,
    ids: Vec<u8>,
    level: Level,
    ttl: u64,
    holder: u64,
    reservation: BatchReservation,
}

/// A store, its oracle, its clock and its disk.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about what was done")]
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) place: Place,
    pub(crate) setup: Setup,
    pub(crate) clock: ManualClock,
    pub(crate) oracle: Oracle,
    /// Disk errors are expected.
    pub(crate) faults: bool,
    /// A call has failed in a way that only reopening cures.
    pub(crate) stopped: bool,
    store: Option<Store>,
    spaces: Vec<Namespace>,
    slots: [Option<Held>; 3],
    next_holder: u64,
    /// Number of rows written so far; each value names its write.
    writes: u64,
    /// Model of the engine's time.
    course: Course,
    /// Number of clocks so far.
    lives: u64,
    /// The current settings, and those of the builder at the next opening.
    spaces_are: [(u64, bool); 3],
    next_default: (u64, bool),
    /// The store was closed cleanly, so it must remember the settings of its namespaces.
    settings_are_kept: bool,
    /// A repair has started; the store may refuse to open until it has finished.
    repairing: bool,
    /// The last export: key, first seen, deadline.
    exported: Vec<(KeyNo, u64, u64)>,
    /// Blocks were damaged since the last rebuild, so `verify` may report them.
    harmed: bool,
    shards: usize,
}

enum Fault {
    /// The call changed nothing.
    Refused,
    /// The call may have changed something.
    InFlight,
}

impl World {
    pub(crate) fn simulated(setup: Setup) -> Self {
        let disk = if setup.mapping { SimDisk::new() } else { SimDisk::new().without_mapping() };
        let blocks = MemoryBlocks::default();
        Self::new(Place::Simulated { disk, blocks, copies: Vec::new() }, setup)
    }

    pub(crate) fn real(setup: Setup, dir: PathBuf) -> Self {
        Self::new(Place::Real { dir }, setup)
    }

    fn new(place: Place, setup: Setup) -> Self {
        Self {
            place,
            setup,
            clock: ManualClock::at_millis(START_MS),
            oracle: Oracle::default(),
            faults: false,
            stopped: false,
            store: None,
            spaces: Vec::new(),
            slots: [None, None, None],
            next_holder: 0,
            writes: 0,
            course: Course::at(START_MS),
            lives: 0,
            spaces_are: SETTINGS,
            next_default: SETTINGS[0],
            settings_are_kept: false,
            repairing: false,
            exported: Vec::new(),
            harmed: false,
            shards: setup.shards,
        }
    }

    /// The simulated disk; panics on a real one.
    pub(crate) fn disk(&self) -> SimDisk {
        match &self.place {
            Place::Simulated { disk, .. } => disk.clone(),
            Place::Real { .. } => panic!("this world stands on a real disk"),
        }
    }

    /// The world of the next process: same oracle and time, another disk.
    pub(crate) fn after(&self, disk: SimDisk, harm: Harm) -> Self {
        let Place::Simulated { blocks, copies, .. } = &self.place else {
            panic!("this world stands on a real disk")
        };
        let place = Place::Simulated { disk, blocks: blocks.copy(), copies: copies.clone() };
        let mut world = Self::new(place, self.setup);
        world.shards = self.shards;
        world.spaces_are = self.spaces_are;
        world.next_default = self.next_default;
        world.repairing = self.repairing;
        world.lives = self.lives;
        world.writes = self.writes;
        world.exported.clone_from(&self.exported);
        world.start_clock(self.course.time());
        world.oracle = self.oracle.clone();
        // Locators spare reads of the block, so a damaged one may go unnoticed for longer than a life.
        world.harmed = self.harmed && self.setup.has_locators;
        world.harm(harm);
        world
    }

    pub(crate) fn now(&self) -> u64 {
        self.course.time()
    }

    /// Starts a clock that is right and a little past `last`.
    fn start_clock(&mut self, last: u64) {
        // A year past any mark the store has kept, so that the mark does not bound the wall clock.
        self.lives += 1;
        self.clock = ManualClock::at_millis(START_MS);
        self.clock.advance(Duration::from_secs(self.lives * YEAR_S));
        self.clock.jump_to(Timestamp::from_millis(last + 5));
        self.course = Course::at(last + 5);
    }

    /// Closes the store cleanly; the next operation must open it.
    pub(crate) fn close(&mut self) -> Verdict {
        self.slots = [None, None, None];
        self.spaces.clear();
        let Some(store) = self.store.take() else { return Ok(()) };
        if matches!(self.place, Place::Real { .. }) {
            self.harmed = true;
        }
        if let Err(e) = store.close() {
            self.fault(&e, false)?;
            self.stopped = true;
        }
        Ok(())
    }

    /// The builder to open or repair the store with.
    pub(crate) fn builder(&self) -> Builder {
        let setup = self.setup;
        let path = match &self.place {
            Place::Simulated { .. } => PathBuf::from(SIMULATED_DIR),
            Place::Real { dir } => dir.join("store.db"),
        };
        let builder = Store::builder(path)
            .background(false)
            .seed([7; 16])
            .shards(self.shards)
            .segment_bytes(setup.segment_bytes)
            .lanes_always(setup.lanes)
            .memtable_bytes(setup.memtable_bytes)
            .locator_ids_min(if setup.has_locators { 0 } else { u64::MAX })
            .memory_budget(4 << 20)
            .durability(durability(setup.level))
            .ttl(ttl_of(self.next_default.0))
            .sliding(self.next_default.1)
            .wait_max(Duration::from_millis(1))
            .clock(self.clock.clone());
        match &self.place {
            Place::Simulated { disk, blocks, .. } => {
                builder.disk(disk.clone()).block_memory(blocks)
            }
            Place::Real { .. } => builder,
        }
    }

    /// Opens the store and its namespaces.
    pub(crate) fn open(&mut self) -> firstseen::Result<()> {
        if let Place::Simulated { blocks, copies, .. } = &mut self.place {
            copies.push(blocks.copy());
        }
        self.course.reopened();
        let builder = self.builder();
        if self.repairing {
            builder.clone().repair()?;
            self.repairing = false;
        }
        let store = builder.open()?;
        self.spaces_are[0] = self.next_default;
        let mut spaces = vec![store.default_namespace()];
        for ns in 1..NAMESPACES {
            let ((ttl, sliding), name) = (self.spaces_are[usize::from(ns)], moves::name_of(ns));
            let options = NamespaceOptions::new().ttl(ttl_of(ttl)).sliding(sliding);
            spaces.push(if self.settings_are_kept {
                store.namespace(&name)?
            } else {
                store.namespace_with(&name, options)?
            });
        }
        self.spaces = spaces;
        self.store = Some(store);
        self.stopped = false;
        Ok(())
    }

    /// Drops every handle, which runs the store's destructor.
    pub(crate) fn drop_store(&mut self) {
        self.slots = [None, None, None];
        self.spaces.clear();
        self.store = None;
    }

    pub(crate) fn store(&self) -> &Store {
        self.store.as_ref().expect("the store is open")
    }

    fn space(&self, ns: u8) -> &Namespace {
        &self.spaces[usize::from(ns)]
    }

    /// What the store returns for every id touched so far; `None` if the disk fails as planned.
    pub(crate) fn observe(&mut self) -> Verdict<Option<BTreeMap<KeyNo, Seen>>> {
        let keys: Vec<KeyNo> = self.oracle.touched.iter().copied().collect();
        let mut observed = BTreeMap::new();
        for key in keys {
            match self.look(key) {
                Ok(seen) => observed.insert(key, seen),
                Err(e) => {
                    self.fault(&e, false).map_err(|e| format!("get {key:?}: {e}"))?;
                    self.stopped = true;
                    return Ok(None);
                }
            };
        }
        Ok(Some(observed))
    }

    pub(crate) fn look(&mut self, (ns, id): KeyNo) -> firstseen::Result<Seen> {
        if is_row((ns, id)) {
            return self.look_at_row((ns, id));
        }
        let seen = self.space(ns).get(id_bytes(id))?;
        Ok(seen.map(|s| (s.first_seen.as_millis(), s.deadline.as_millis())))
    }

    /// Reopens the store after the process has ended, and compares it with the oracle.
    pub(crate) fn reopen(&mut self, end: End) -> Verdict {
        self.open().map_err(|e| format!("open after {end:?}: {e}"))?;
        self.settle(end)
    }

    /// Compares an open store with the oracle.
    pub(crate) fn settle(&mut self, end: End) -> Verdict {
        let now = self.now();
        match self.observe()? {
            Some(observed) => self.oracle.reopened(end, now, &observed),
            None => Ok(()),
        }
    }

    /// Classifies the error of a call that changes something.
    fn fault(&mut self, error: &firstseen::Error, held: bool) -> Verdict<Fault> {
        match error.kind() {
            ErrorKind::Retry if held => Ok(Fault::Refused),
            ErrorKind::StorageFull if self.faults => Ok(Fault::Refused),
            ErrorKind::Reopen if self.faults => {
                self.stopped = true;
                Ok(Fault::InFlight)
            }
            ErrorKind::Environment if self.faults => Ok(Fault::InFlight),
            _ => Err(format!("an error that nothing calls for: {error}")),
        }
    }

    /// Handles the error of a call that would have made `changes`: enters those that may have been made.
    fn failed(&mut self, error: &firstseen::Error, held: bool, changes: Vec<Change>) -> Verdict {
        let fault = self.fault(error, held)?;
        let keys: Vec<KeyNo> = changes.iter().flatten().map(|(key, _)| *key).collect();
        keys.iter().for_each(|key| {
            self.oracle.touched.insert(*key);
        });
        match fault {
            Fault::Refused => {
                let now = self.now();
                for key in keys {
                    let want = self.oracle.seen(key, now);
                    match self.look(key) {
                        Ok(seen) if seen != want => {
                            return Err(format!("{key:?} was refused, but is {seen:?}: {error}"));
                        }
                        Ok(_) => {}
                        Err(e) => self.fault(&e, false).map(drop)?,
                    }
                }
                Ok(())
            }
            Fault::InFlight => {
                for change in changes {
                    let now = self.now();
                    let landed = |(key, fact): &(KeyNo, Fact)| {
                        let seen = self.look(*key).ok()?;
                        Some(seen == crate::oracle::visible(Some(fact), now))
                    };
                    let landed: Option<Vec<bool>> = change.iter().map(landed).collect();
                    match landed.as_deref() {
                        Some([first, rest @ ..]) if rest.iter().any(|other| other != first) => {
                            return Err(format!("a part of {change:?} landed: {error}"));
                        }
                        // The store has not stopped and the change is not there: it never will be.
                        Some([false, ..]) => {}
                        _ => self.oracle.enter(change),
                    }
                }
                Ok(())
            }
        }
    }

    /// Makes a call, and retries it once after background work has made space.
    fn call<T>(
        &mut self,
        held: bool,
        call: impl Fn(&Self) -> firstseen::Result<T>,
    ) -> firstseen::Result<T> {
        let first = call(self);
        match first {
            Err(e) if e.kind() == ErrorKind::Retry && !held => {
                self.store().run_background()?;
                call(self)
            }
            other => other,
        }
    }

    fn is_held(&self, keys: impl IntoIterator<Item = KeyNo>) -> bool {
        keys.into_iter().any(|key| self.oracle.held.contains_key(&key))
    }

    fn options(ttl: Option<u64>, level: Option<Level>) -> ClaimOptions {
        let mut options = ClaimOptions::new();
        if let Some(ms) = ttl {
            options = options.ttl(ttl_of(ms));
        }
        if let Some(level) = level {
            options = options.durability(durability(level));
        }
        options
    }

    /// The expected results of claiming these ids as one batch, and the changes it makes.
    fn expect(&mut self, ns: u8, ids: &[u8], ttl: Option<u64>) -> (Vec<Claim>, Vec<Change>) {
        let now = self.now();
        let ttl = ttl.unwrap_or(self.spaces_are[usize::from(ns)].0);
        let sliding = self.spaces_are[usize::from(ns)].1;
        let mut at = now;
        let mut new: Vec<u8> = Vec::new();
        for id in ids {
            if self.oracle.seen((ns, *id), now).is_none() && !new.contains(id) {
                new.push(*id);
                at = at.max(self.oracle.fact((ns, *id)).map_or(0, |f| f.first_seen));
            }
        }
        let claim = Fact::claim(at, self.course.latest(), ttl);
        let mut change: Change = new.iter().map(|id| ((ns, *id), claim)).collect();
        let mut answers = Vec::new();
        let mut pending = new.clone();
        let mut slid: Vec<u8> = Vec::new();
        for id in ids {
            if let Some(i) = pending.iter().position(|other| other == id) {
                pending.remove(i);
                answers.push(Claim::FirstSeen);
                continue;
            }
            if new.contains(id) {
                answers.push(Claim::Duplicate { first_seen: Timestamp::from_millis(at) });
                continue;
            }
            let (first_seen, deadline) = self.oracle.seen((ns, *id), now).unwrap_or_default();
            answers.push(Claim::Duplicate { first_seen: Timestamp::from_millis(first_seen) });
            let renewed = Fact { first_seen, ..claim };
            if sliding && renewed.deadline > deadline && !slid.contains(id) {
                slid.push(*id);
                change.push(((ns, *id), renewed));
            }
        }
        (answers, if change.is_empty() { Vec::new() } else { vec![change] })
    }

    fn claim(
        &mut self,
        ns: u8,
        ids: &[u8],
        ttl: Option<u64>,
        level: Option<Level>,
        one: bool,
    ) -> Verdict {
        let held = self.is_held(ids.iter().map(|id| (ns, *id)));
        let (want, changes) = self.expect(ns, ids, ttl);
        let options = Self::options(ttl, level);
        let bytes: Vec<Vec<u8>> = ids.iter().map(|id| id_bytes(*id)).collect();
        let answered = self.call(held, |world| {
            let space = world.space(ns);
            if one {
                space.claim_with(&bytes[0], options).map(|answer| vec![answer])
            } else {
                space.claim_batch_with(&bytes, options)
            }
        });
        let level = level.unwrap_or(self.setup.level);
        match answered {
            Err(e) => self.failed(&e, held, if held { Vec::new() } else { changes }),
            Ok(_) if held => Err("an id that is reserved was answered".to_owned()),
            Ok(got) if got != want => {
                Err(format!("claim of {ids:?} in {ns}: {got:?}, expected {want:?}"))
            }
            Ok(_) => {
                let appended = !changes.is_empty();
                changes.into_iter().for_each(|change| self.oracle.enter(change));
                if appended {
                    self.oracle.acknowledge(level);
                }
                ids.iter().for_each(|id| {
                    self.oracle.touched.insert((ns, *id));
                    self.oracle.acknowledge_key((ns, *id), level);
                });
                Ok(())
            }
        }
    }

    fn reserve(&mut self, ns: u8, ids: &[u8], level: Option<Level>) -> Verdict {
        let Some(slot) = self.slots.iter().position(Option::is_none) else { return Ok(()) };
        let now = self.now();
        let bytes: Vec<Vec<u8>> = ids.iter().map(|id| id_bytes(*id)).collect();
        let options = Self::options(None, level);
        let reserved =
            self.call(false, |world| world.space(ns).reserve_batch_with(&bytes, options));
        let level = level.unwrap_or(self.setup.level);
        let ttl = self.spaces_are[usize::from(ns)].0;
        let reservation = match reserved {
            Ok(reservation) => reservation,
            Err(e) => return self.fault(&e, false).map(drop),
        };
        let holder = self.next_holder;
        self.next_holder += 1;
        let mut mine = Vec::new();
        let mut want = Vec::new();
        for id in ids {
            let key = (ns, *id);
            self.oracle.touched.insert(key);
            want.push(match (self.oracle.held.get(&key), self.oracle.seen(key, now)) {
                (Some(other), _) if *other == holder => Reserved::SameBatch,
                (Some(_), _) => Reserved::InProgress,
                (None, Some((first_seen, _))) => {
                    self.oracle.acknowledge_key(key, level);
                    Reserved::Duplicate { first_seen: Timestamp::from_millis(first_seen) }
                }
                (None, None) => {
                    self.oracle.held.insert(key, holder);
                    mine.push(*id);
                    Reserved::FirstSeen
                }
            });
        }
        if reservation.answers() != want {
            let got = reservation.answers().to_vec();
            return Err(format!("reserve {ids:?} in {ns}: {got:?}, expected {want:?}"));
        }
        self.slots[slot] = Some(Held { ns, ids: mine, level, ttl, holder, reservation });
        Ok(())
    }

    fn confirm(&mut self, slot: u8) -> Verdict {
        let Some(mut held) = self.slots[usize::from(slot)].take() else { return Ok(()) };
        let now = self.now();
        let keys: Vec<KeyNo> = held.ids.iter().map(|id| (held.ns, *id)).collect();
        let at = keys.iter().filter_map(|key| self.oracle.fact(*key)).map(|f| f.first_seen);
        let at = at.max().unwrap_or(0).max(now);
        let fact = Fact::claim(at, self.course.latest(), held.ttl);
        let change: Change = keys.iter().map(|key| (*key, fact)).collect();
        let mut confirmed = held.reservation.confirm();
        if confirmed.as_ref().is_err_and(|e| e.kind() == ErrorKind::Retry) {
            let flushed = self.store().run_background();
            confirmed = flushed.and_then(|()| held.reservation.confirm());
        }
        match confirmed {
            Ok(()) => {
                if !change.is_empty() {
                    self.oracle.enter(change);
                    self.oracle.acknowledge(held.level);
                }
            }
            Err(e) => {
                self.failed(&e, false, if change.is_empty() { vec![] } else { vec![change] })?;
            }
        }
        let holder = held.holder;
        drop(held);
        self.oracle.held.retain(|_, other| *other != holder);
        Ok(())
    }

    fn release(&mut self, slot: u8) {
        if let Some(held) = self.slots[usize::from(slot)].take() {
            self.oracle.held.retain(|_, other| *other != held.holder);
        }
    }

    fn forget(&mut self, key: KeyNo) -> Verdict {
        let now = self.now();
        let held = self.is_held([key]);
        self.oracle.touched.insert(key);
        let want = self.oracle.seen(key, now);
        let forgotten = self.call(held, |world| world.space(key.0).forget(id_bytes(key.1)));
        let grave = want.map(|(first_seen, deadline)| {
            let first_seen = now.max(first_seen);
            vec![(key, Fact { first_seen, deadline, grave: true })]
        });
        match forgotten {
            Err(e) if held => self.failed(&e, true, Vec::new()),
            Err(e) => self.failed(&e, false, grave.into_iter().collect()),
            Ok(_) if held => Err(format!("{key:?} is reserved and was forgotten")),
            Ok(was) if was != want.is_some() => {
                Err(format!("forget {key:?} answers {was}, but it was {want:?}"))
            }
            Ok(_) => {
                if let Some(grave) = grave {
                    self.oracle.enter(grave);
                    self.oracle.acknowledge(self.setup.level);
                }
                Ok(())
            }
        }
    }

    fn get(&mut self, key: KeyNo) -> Verdict {
        let now = self.now();
        self.oracle.touched.insert(key);
        let want = self.oracle.seen(key, now);
        match self.look(key) {
            Ok(seen) if seen == want => {
                // To read a row promises nothing of how durable it is.
                if seen.is_some() && !is_row(key) {
                    self.oracle.acknowledge_key(key, self.setup.level);
                }
                Ok(())
            }
            Ok(seen) => Err(format!("get {key:?} at {now}: {seen:?}, expected {want:?}")),
            Err(e) => self.fault(&e, false).map(drop),
        }
    }

    fn background(&mut self) -> Verdict {
        match self.store().run_background() {
            Ok(()) => Ok(()),
            Err(e) => self.fault(&e, false).map(drop),
        }
    }

    fn export(&mut self) -> Verdict {
        let now = self.now();
        let want = self.oracle.live(now);
        let mut got = BTreeMap::new();
        let exported = self.store().export(|entry| {
            let ns = match entry.namespace {
                "default" => 0,
                other => other.trim_start_matches("ns-").parse().unwrap_or(u8::MAX),
            };
            let seen = (entry.first_seen.as_millis(), entry.deadline.as_millis());
            got.insert((ns, entry.id.to_vec()), seen);
            Ok(())
        });
        if let Err(e) = exported {
            return self.fault(&e, false).map(drop);
        }
        self.exported = want.iter().map(|(key, (from, to))| (*key, *from, *to)).collect();
        let want: BTreeMap<_, _> =
            want.into_iter().map(|((ns, id), seen)| ((ns, id_bytes(id)), seen)).collect();
        if got == want { Ok(()) } else { Err(format!("export: {got:?}, expected {want:?}")) }
    }

    fn verify(&mut self) -> Verdict {
        match self.store().verify() {
            Ok(report) if report.is_sound() || self.harmed => Ok(()),
            Ok(report) => Err(format!("verify: {:?}", report.problems)),
            Err(e) => self.fault(&e, false).map(drop),
        }
    }

    fn close_and_reopen(&mut self, shards: Option<usize>, harm: Harm) -> Verdict {
        self.close()?;
        if self.stopped {
            return Ok(());
        }
        self.shards = shards.unwrap_or(self.shards);
        self.reopen_closed(harm)
    }

    pub(crate) fn step(&mut self, op: &Op) -> Verdict {
        self.make(op)?;
        let wrote_runs = matches!(op, Op::Flush | Op::Background | Op::Churn { .. } | Op::Verify);
        self.recount(wrote_runs || matches!(op, Op::Reopen { .. } | Op::Kill | Op::PowerCut { .. }))
    }

    fn make(&mut self, op: &Op) -> Verdict {
        match op {
            Op::Claim { key, ttl, level } => self.claim(key.0, &[key.1], *ttl, *level, true),
            Op::Batch { ns, ids, ttl, level } => self.claim(*ns, ids, *ttl, *level, false),
            Op::Reserve { ns, ids, level } => self.reserve(*ns, ids, *level),
            Op::Confirm { slot } => self.confirm(*slot),
            Op::Release { slot } => {
                self.release(*slot);
                Ok(())
            }
            Op::Forget { key } => self.forget(*key),
            Op::Get { key } => self.get(*key),
            Op::Sync => match self.store().sync() {
                Ok(()) => {
                    self.oracle.acknowledge(Level::Disk);
                    Ok(())
                }
                Err(e) => self.fault(&e, false).map(drop),
            },
            Op::Background => self.background(),
            Op::Freeze => {
                self.store().freeze();
                Ok(())
            }
            Op::Flush => {
                self.store().freeze();
                self.background()
            }
            Op::Advance { ms } => {
                self.pass(*ms);
                self.clock_is_reported()
            }
            Op::JumpBack { ms } => {
                self.jump_back(*ms);
                Ok(())
            }
            Op::Sway(sway) => self.sway(*sway),
            Op::Import { ns, skew } => self.import(*ns, *skew),
            Op::Carry => self.carry(),
            Op::Settings { ns, ttl, sliding } => self.set(*ns, *ttl, *sliding),
            Op::Repair { lose_manifest } => self.repair(*lose_manifest),
            Op::CloseHeld => self.close_while_held(),
            Op::Reopen { shards, harm } => self.close_and_reopen(*shards, *harm),
            Op::Kill => match self.place {
                Place::Simulated { .. } => self.kill(),
                Place::Real { .. } => self.close_and_reopen(None, Harm::Spared),
            },
            Op::PowerCut { seed, harm } => match self.place {
                Place::Simulated { .. } => self.power_cut(*seed, *harm),
                Place::Real { .. } => self.close_and_reopen(None, *harm),
            },
            Op::Harm(harm) => {
                self.harm(*harm);
                Ok(())
            }
            Op::Verify => self.verify(),
            Op::Export => self.export(),
            Op::Commit { puts, ttl, level } => self.put_rows(puts, *ttl, *level),
            Op::Churn { row, times } => self.churn(*row, *times),
            Op::GetRow { row } => self.get(*row),
            Op::List { family } => self.list_rows(*family),
        }
    }

    /// Checks every id against the oracle, and claims it once more.
    pub(crate) fn finish(&mut self) -> Verdict {
        self.slots = [None, None, None];
        self.oracle.held.clear();
        let keys: Vec<KeyNo> = self.oracle.touched.iter().copied().collect();
        for key in &keys {
            self.get(*key)?;
        }
        self.export()?;
        self.finish_rows()?;
        self.verify()?;
        self.recount(true)?;
        for (ns, id) in keys.into_iter().filter(|key| !is_row(*key)) {
            self.claim(ns, &[id], None, None, true)?;
        }
        Ok(())
    }
}

/// Runs operations on a new world. The error names the operation that failed.
pub(crate) fn run(mut world: World, ops: &[Op]) -> Verdict {
    world.open().map_err(|e| format!("first open: {e}"))?;
    for (number, op) in ops.iter().enumerate() {
        world.step(op).map_err(|what| format!("op {number} {op:?}: {what}"))?;
    }
    world.finish().map_err(|what| format!("at the end: {what}"))
}

/// As [`run`], with a panic turned into an error.
pub(crate) fn run_caught(world: impl FnOnce() -> World, ops: &[Op]) -> Verdict {
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(world(), ops)));
    ran.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("panicked: {}", text.unwrap_or("no message")))
    })
}

/// Drops operations while `fails` still holds: halves first, then ever smaller parts.
pub(crate) fn shrink(ops: &[Op], fails: impl Fn(&[Op]) -> bool) -> Vec<Op> {
    let mut ops = ops.to_vec();
    let mut part = ops.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        let mut smaller = false;
        while at < ops.len() {
            let mut without = ops.clone();
            without.drain(at..(at + part).min(ops.len()));
            if fails(&without) {
                ops = without;
                smaller = true;
            } else {
                at += part;
            }
        }
        if part > 1 {
            part = part.div_ceil(2);
        } else if !smaller {
            return ops;
        }
    }
}
