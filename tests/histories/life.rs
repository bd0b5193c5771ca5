//! One history: a store is opened, used by many threads while it flushes, merges, sweeps and compacts in the
//! background, ends in some way and is opened again, three times.

use crate::check::check;
use crate::doing;
use crate::drive::{Rng, Stage, Worker, durability, id_bytes, write_of};
use crate::record::{End, Event, FOREVER, History, Id, Level, Live, ROWS};
use crate::workers::YieldingClock;
use firstseen::disk::sim::SimDisk;
use firstseen::testing::Table;
use firstseen::{Builder, Clock, ManualClock, MemoryBlocks, Store};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};
use std::time::Duration;

const START_MS: u64 = 1_700_000_000_000;
const OPENINGS: usize = 3;

/// Counts of what happened, to show that the histories reach it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) events: u64,
    pub(crate) unknown: u64,
    pub(crate) kills: u64,
    pub(crate) power_cuts: u64,
    pub(crate) flushes: u64,
    pub(crate) merges: u64,
    pub(crate) heals: u64,
    pub(crate) sweeps: u64,
    pub(crate) compactions: u64,
    /// Events during which another of the same id was under way.
    pub(crate) beside: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.unknown += other.unknown;
        self.kills += other.kills;
        self.power_cuts += other.power_cuts;
        self.flushes += other.flushes;
        self.merges += other.merges;
        self.heals += other.heals;
        self.sweeps += other.sweeps;
        self.compactions += other.compactions;
        self.beside += other.beside;
    }
}

enum Place {
    Simulated { disk: SimDisk, blocks: MemoryBlocks },
    Real(PathBuf),
}

/// The random parameters of one history.
struct Setup {
    threads: u64,
    /// Calls of each thread between two openings.
    calls: u64,
    shards: usize,
    segment_bytes: u32,
    memtable_bytes: usize,
    /// Runs of fewer ids have no locator file.
    locator_ids_min: u64,
    level: Level,
    ttls: Vec<u64>,
    ids: Vec<Id>,
    /// Few, so that many write the same one; enough for the bound on events of one id.
    rows: Vec<Id>,
    /// Single claims go into lanes of the log, whether threads meet there or not.
    lanes: bool,
    is_crowd: bool,
}

/// The threads of a crowd.
pub(crate) const CROWD: u64 = 16;

impl Setup {
    fn new(rng: &mut Rng) -> Self {
        let threads = rng.pick(&[2, 2, 3, 4, 4, 6, 8, 16]);
        let calls = 20 + rng.below(500) / threads;
        // A call is one event or several; the checker takes a limited number per id.
        let ids = (4 + rng.below(20)).max(threads * calls / 25);
        let ttls: [&[u64]; 4] = [&[FOREVER], &[1_500], &[FOREVER, 2_000], &[1_200, 5_000]];
        Self {
            threads,
            calls,
            shards: rng.pick(&[1, 2, 4]),
            segment_bytes: rng.pick(&[8 << 10, 16 << 10, 64 << 10]),
            memtable_bytes: rng.pick(&[1, 300, 1_000, 4_000]),
            locator_ids_min: rng.pick(&[0, 10, u64::MAX]),
            level: rng.pick(&[Level::Buffered, Level::Process, Level::Process, Level::Disk]),
            ttls: rng.pick(&ttls).to_vec(),
            ids: (0..ids as Id).collect(),
            rows: (ROWS..ROWS + 2 + (threads * calls / 250) as Id).collect(),
            lanes: rng.pick(&[false, true]),
            is_crowd: false,
        }
    }

    /// Many threads that make few calls about few ids, so that most calls are under way beside others of the same id.
    fn crowd(rng: &mut Rng) -> Self {
        let calls = 8 + rng.below(12);
        Self {
            threads: CROWD,
            calls,
            // A call is one event to six; the checker takes a limited number for each id.
            ids: (0..(CROWD * calls / 22) as Id).collect(),
            rows: Vec::new(),
            is_crowd: true,
            ..Self::new(rng)
        }
    }

    fn builder(&self, place: &Place, clock: &ManualClock) -> Builder {
        let path = match place {
            Place::Simulated { .. } => PathBuf::from("/s"),
            Place::Real(path) => path.clone(),
        };
        let builder = Store::builder(path)
            .shards(self.shards)
            .segment_bytes(self.segment_bytes)
            .lanes_always(self.lanes)
            .memtable_bytes(self.memtable_bytes)
            .locator_ids_min(self.locator_ids_min)
            .memory_budget(4 << 20)
            .durability(durability(self.level))
            .flush_interval(Duration::from_millis(2))
            .wait_max(Duration::from_millis(3))
            .clock(clock.clone());
        let builder =
            if self.is_crowd { builder.clock(YieldingClock(clock.clone())) } else { builder };
        match place {
            Place::Simulated { disk, blocks } => builder.disk(disk.clone()).block_memory(blocks),
            Place::Real(_) => builder,
        }
    }
}

/// Runs the history of a seed and checks it.
pub(crate) fn live(seed: u64) -> Result<Tally, String> {
    let mut rng = Rng(seed);
    let setup = Setup::new(&mut rng);
    live_as(seed, &setup, rng)
}

/// The same with [`CROWD`] threads at few ids.
pub(crate) fn live_crowded(seed: u64) -> Result<Tally, String> {
    let mut rng = Rng(seed ^ 0x63_726f_7764);
    let setup = Setup::crowd(&mut rng);
    live_as(seed, &setup, rng)
}

fn live_as(seed: u64, setup: &Setup, mut rng: Rng) -> Result<Tally, String> {
    let clock = ManualClock::at_millis(START_MS);
    let folder = (seed.is_multiple_of(25)).then(|| tempfile::tempdir().expect("a folder"));
    let mut place = match &folder {
        Some(folder) => Place::Real(folder.path().join("s")),
        None => {
            let disk = SimDisk::new();
            let disk = if rng.below(4) == 0 { disk.without_mapping() } else { disk };
            Place::Simulated { disk, blocks: MemoryBlocks::default() }
        }
    };
    let mut tally = Tally::default();
    let mut before: BTreeMap<Id, Live> = BTreeMap::new();
    let mut store = setup.builder(&place, &clock).open().map_err(|e| format!("open: {e}"))?;
    for opening in 0..OPENINGS {
        let end = match (&place, rng.below(4)) {
            (Place::Simulated { .. }, 0) => End::Killed,
            (Place::Simulated { .. }, 1 | 2) => End::PowerCut,
            _ => End::Closed,
        };
        doing(|| format!("calls of opening {opening}, which end {end:?}"));
        let (heard, synced) = perform(store, setup, &mut place, &clock, end, &mut rng, &mut tally);
        doing(|| format!("opening after {opening}, {end:?}"));
        let opened = setup.builder(&place, &clock).open();
        store = opened.map_err(|e| format!("opening {opening} after {end:?}: {e}"))?;
        let at = clock.wall().as_millis();
        for id in setup.ids.iter().chain(&setup.rows) {
            let after = look(&store, *id).map_err(|e| format!("get after {end:?}: {e}"))?;
            let events: Vec<Event> = heard.iter().filter(|e| e.id == *id).copied().collect();
            doing(|| format!("check of opening {opening}, id {id}, {} events", events.len()));
            tally.beside += count_beside(&events);
            let before = before.insert(*id, after).flatten();
            let history = History { id: *id, before, events, end, after: (after, at), synced };
            check(&history).map_err(|what| format!("opening {opening}, id {id}: {what}"))?;
        }
    }
    doing(|| "close".to_owned());
    store.close().map_err(|e| format!("close: {e}"))?;
    Ok(tally)
}

/// Counts the events of an id during which another of them was under way.
fn count_beside(events: &[Event]) -> u64 {
    let overlap = |one: &Event, other: &Event| {
        one != other && one.called < other.answered && other.called < one.answered
    };
    let is_beside = |one: &&Event| events.iter().any(|other| overlap(one, other));
    events.iter().filter(is_beside).count() as u64
}

/// What a store that was just opened has under an id, or in a row.
fn look(store: &Store, id: Id) -> firstseen::Result<Live> {
    if id >= ROWS {
        let row = Table::of(store, 1).get(&id_bytes(id))?;
        return Ok(row.map(|row| (write_of(&row), row.sequence)));
    }
    let seen = store.get(id_bytes(id))?;
    Ok(seen.map(|s| (s.first_seen.as_millis(), s.deadline.as_millis())))
}

/// Runs the threads until they are done or the store is taken from them. Returns their events and the stamp of the last
/// acknowledged sync; `place` becomes the one to open next.
fn perform(
    store: Store,
    setup: &Setup,
    place: &mut Place,
    clock: &ManualClock,
    end: End,
    rng: &mut Rng,
    tally: &mut Tally,
) -> (Vec<Event>, u64) {
    let calls = setup.calls;
    let all = setup.threads * calls * 2;
    // Half of the closes come only after all threads are done.
    let in_the_middle = end != End::Closed || rng.below(2) == 0;
    let stop_at = if in_the_middle { rng.below(all) } else { u64::MAX };
    let stage = Stage {
        store,
        clock: clock.clone(),
        stamps: AtomicU64::new(1),
        holders: AtomicU32::new(1),
        synced: AtomicU64::new(0),
        level: setup.level,
        ttls: setup.ttls.clone(),
        ids: setup.ids.clone(),
        rows: setup.rows.clone(),
        writes: AtomicU64::new(rng.next() >> 32 << 16),
        may_stop: in_the_middle,
        crowd: setup.is_crowd.then(|| Barrier::new(setup.threads as usize)),
    };
    let over = AtomicBool::new(false);
    let heard: Mutex<Vec<Event>> = Mutex::new(Vec::new());
    let mut seed = || Rng(rng.next());
    let seeds: Vec<Rng> = (0..setup.threads).map(|_| seed()).collect();
    let (mut of_time, mut of_harm, mut of_end) = (seed(), seed(), seed());
    let next = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..)
            .zip(seeds)
            .map(|(thread, rng)| {
                let worker = Worker::new(&stage, thread, rng);
                scope.spawn(|| {
                    let events = worker.work(calls);
                    heard.lock().expect("no panic under this lock").extend(events);
                })
            })
            .collect();
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                clock.advance(Duration::from_millis(of_time.below(60)));
                std::thread::park_timeout(Duration::from_micros(of_time.below(400)));
            }
        });
        if let Place::Simulated { blocks, .. } = &*place
            && of_harm.below(3) == 0
        {
            let (blocks, over) = (blocks.clone(), &over);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    blocks.damage(|_| of_harm.below(3) > 0);
                    std::thread::park_timeout(Duration::from_micros(of_harm.below(2_000)));
                }
            });
        }
        let finished = || workers.iter().all(std::thread::ScopedJoinHandle::is_finished);
        while stage.stamps.load(Ordering::SeqCst) < stop_at && !finished() {
            std::thread::park_timeout(Duration::from_micros(100));
        }
        let next = stop(&stage, place, end, &mut of_end);
        let panicked = workers.into_iter().filter_map(|worker| worker.join().err()).count();
        over.store(true, Ordering::Relaxed);
        assert_eq!(panicked, 0, "a thread has panicked (see above)");
        next
    });
    let heard = heard.into_inner().expect("no panic under this lock");
    let stats = stage.store.stats();
    tally.add(&Tally {
        events: heard.len() as u64,
        unknown: heard.iter().filter(|event| !event.sure).count() as u64,
        kills: u64::from(end == End::Killed),
        power_cuts: u64::from(end == End::PowerCut),
        flushes: stats.runs_flushed,
        merges: stats.merges,
        heals: stats.heals,
        sweeps: stats.runs_expired,
        compactions: stats.segments_removed,
        beside: 0,
    });
    let synced = stage.synced.load(Ordering::SeqCst);
    // Release the files before the next store opens them.
    drop(stage);
    if let Some(next) = next {
        *place = next;
    }
    (heard, synced)
}

/// Kills the process, cuts the power or closes the store, while the threads are still calling. Returns the place of the
/// next store, if that is another one.
fn stop(stage: &Stage, place: &Place, end: End, rng: &mut Rng) -> Option<Place> {
    let Place::Simulated { disk, blocks } = place else {
        close(stage);
        return None;
    };
    // Blocks from just before or just after the crash: either may disagree with the manifest.
    let earlier = blocks.copy();
    let disk = match end {
        End::Closed => {
            close(stage);
            return None;
        }
        End::Killed => disk.kill(),
        End::PowerCut => disk.crash(rng.next()),
    };
    let blocks = match rng.below(4) {
        0 => MemoryBlocks::default(),
        1 => earlier,
        _ => blocks.copy(),
    };
    Some(Place::Simulated { disk, blocks })
}

fn close(stage: &Stage) {
    if stage.may_stop {
        stage.store.clone().close().expect("closes");
    }
}
