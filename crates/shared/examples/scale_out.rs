//! A hundred consumers, simulated: what partitions, a shared store and both cost, and what a lost machine leaves.
//!
//! ```text
//! cargo run --release --package firstseen-shared --example scale_out -- [name=value ...]
//! cargo run --release --package firstseen-shared --example scale_out -- consumers=20 rate=5000
//! ```
//!
//! A discrete-event simulation with a fixed seed; nothing is measured here. What a claim costs comes from the measurements that
//! docs/SCALE_OUT.md names, and can be set. All layouts see the same events.
//!
//! The model: events arrive at random (Poisson) in partitions, some busier than others (Zipf). A partition belongs to one
//! consumer, which handles as many events at once as it has workers. An event is asked for, handled, its record written, and
//! acknowledged. A duplicate ends with the first step. In the middle of the run a consumer and its disk are lost.

#![allow(clippy::disallowed_macros, reason = "an example prints")]
#![allow(clippy::cast_sign_loss, reason = "settings are not negative")]
#![allow(clippy::struct_excessive_bools, reason = "what has happened to an event")]

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt::Write as _;

/// Microseconds since the begin.
type Time = u64;

const SECOND: Time = 1_000_000;

/// Where the claims are.
#[derive(Clone, Copy, PartialEq)]
enum Layout {
    /// Each partition has an embedded store, at its consumer; a snapshot of it is taken at times.
    Partitioned,
    /// All ask one store over the network.
    Shared,
    /// As before, with a tier in memory in front that knows most duplicates.
    SharedWithNear,
}

/// The settings, by name. Durations in microseconds unless they say otherwise.
#[derive(Clone)]
struct Settings(Vec<(&'static str, f64)>);

impl Settings {
    fn new() -> Self {
        Self(vec![
            ("consumers", 100.0),
            ("partitions", 400.0),
            ("workers", 8.0),
            // Events a second, of all partitions.
            ("rate", 20_000.0),
            ("seconds", 60.0),
            // Of a hundred events, those that were delivered before.
            ("duplicates", 5.0),
            // Exponent of Zipf's law over the partitions; zero: all alike.
            ("skew", 0.3),
            ("handler_us", 5_000.0),
            // Embedded: begin and complete in memory and in the log, and a sync that all who wait share.
            ("embedded_us", 10.0),
            ("sync_us", 2_000.0),
            // Shared: the network there and back, and the time the server is busy with one call.
            ("network_us", 500.0),
            ("server_us", 20.0),
            // Of a hundred duplicates, those that the tier in memory knows.
            ("near_hits", 80.0),
            // A lost machine: until the broker gives its partitions away, to restore a snapshot, and between snapshots.
            ("notice_s", 10.0),
            ("restore_s", 2.0),
            ("snapshot_s", 10.0),
            // Shared: until a lease of a lost machine ends.
            ("lease_s", 30.0),
        ])
    }

    fn get(&self, name: &str) -> f64 {
        self.0.iter().find(|(known, _)| *known == name).expect("a setting that exists").1
    }

    fn time(&self, name: &str) -> Time {
        let unit = if name.ends_with("_s") { SECOND as f64 } else { 1.0 };
        (self.get(name) * unit) as Time
    }

    fn count(&self, name: &str) -> usize {
        self.get(name) as usize
    }

    fn set(&mut self, argument: &str) -> Result<(), String> {
        let usage = || {
            let known: Vec<String> =
                self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{argument:?} is not one of {}", known.join(" "))
        };
        let (name, value) = argument.split_once('=').ok_or_else(usage)?;
        let value: f64 = value.parse().ok().filter(|value| *value >= 0.0).ok_or_else(usage)?;
        if !self.0.iter().any(|(known, _)| *known == name) {
            return Err(usage());
        }
        self.0.iter_mut().filter(|(known, _)| *known == name).for_each(|(_, old)| *old = value);
        if self.count("consumers") < 2 || self.count("partitions") < 1 || self.count("workers") < 1
        {
            return Err("at least two consumers, a partition and a worker".to_owned());
        }
        Ok(())
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Dice(u64);

impl Dice {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// An exponential time with this mean.
    fn exponential(&mut self, mean: f64) -> Time {
        (-(1.0 - self.unit()).ln() * mean) as Time
    }
}

#[derive(Clone, Copy)]
struct Event {
    arrived: Time,
    partition: usize,
    is_duplicate: bool,
    near_knows: bool,
    work: Time,
    /// Its effect was made.
    is_handled: bool,
    /// Its first try was lost with its consumer: the lease has to end.
    is_again: bool,
}

/// What happens next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Arrives(usize),
    /// The answer to the first question is there.
    Asked(usize),
    Handled(usize),
    Recorded(usize),
    /// The consumer and its disk are gone.
    Lost,
    /// Its partitions belong to others.
    Moved,
    /// A partition can go on.
    Restored(usize),
}

#[derive(Default)]
struct Consumer {
    is_lost: bool,
    busy: usize,
    waiting: VecDeque<usize>,
    working: Vec<usize>,
    /// When the sync that is under way ends.
    sync_ends: Time,
}

/// What a run has shown.
struct Shown {
    waits: Vec<Time>,
    again: usize,
    left: usize,
    server_busy: Time,
}

struct Simulation<'a> {
    settings: &'a Settings,
    layout: Layout,
    events: Vec<Event>,
    agenda: BinaryHeap<Reverse<(Time, Step)>>,
    consumers: Vec<Consumer>,
    owner: Vec<usize>,
    /// Partitions that wait for their owner, and the events in them.
    held: Vec<Option<Vec<usize>>>,
    server_free: Time,
    /// Events done at the consumer that will be lost: their partition and when.
    done_there: Vec<(usize, Time)>,
    shown: Shown,
}

/// The consumer that is lost.
const VICTIM: usize = 0;

impl<'a> Simulation<'a> {
    fn new(settings: &'a Settings, layout: Layout) -> Self {
        let partitions = settings.count("partitions");
        let consumers = settings.count("consumers");
        let events = arrivals(settings);
        // On average a loss comes in the middle between two snapshots.
        let half = settings.time("seconds") * SECOND / 2;
        let snapshot = settings.time("snapshot_s").max(1);
        let lost = half - half % snapshot + snapshot / 2;
        let mut agenda: BinaryHeap<_> = events
            .iter()
            .enumerate()
            .map(|(number, event)| Reverse((event.arrived, Step::Arrives(number))))
            .collect();
        agenda.push(Reverse((lost, Step::Lost)));
        agenda.push(Reverse((lost + settings.time("notice_s"), Step::Moved)));
        Self {
            settings,
            layout,
            agenda,
            consumers: (0..consumers).map(|_| Consumer::default()).collect(),
            owner: (0..partitions).map(|partition| partition % consumers).collect(),
            held: vec![None; partitions],
            server_free: 0,
            done_there: Vec::new(),
            shown: Shown {
                waits: Vec::with_capacity(events.len()),
                again: 0,
                left: 0,
                server_busy: 0,
            },
            events,
        }
    }

    fn run(mut self) -> Shown {
        let end = self.settings.time("seconds") * SECOND * 3;
        while let Some(Reverse((now, step))) = self.agenda.pop() {
            if now > end {
                break;
            }
            self.step(now, step);
        }
        self.shown.left = self.events.len() - self.shown.waits.len();
        self.shown
    }

    fn step(&mut self, now: Time, step: Step) {
        match step {
            Step::Arrives(number) => self.arrives(now, number),
            Step::Asked(number) => {
                if !self.is_at_work(number) {
                } else if self.events[number].is_duplicate {
                    self.done(now, number);
                } else {
                    let work = self.events[number].work;
                    self.agenda.push(Reverse((now + work, Step::Handled(number))));
                }
            }
            Step::Handled(number) if self.is_at_work(number) => {
                self.events[number].is_handled = true;
                let recorded = self.recorded(now, number);
                self.agenda.push(Reverse((recorded, Step::Recorded(number))));
            }
            Step::Recorded(number) if self.is_at_work(number) => self.done(now, number),
            Step::Handled(_) | Step::Recorded(_) => {}
            Step::Lost => self.lose(now),
            Step::Moved => self.give_away(now),
            Step::Restored(partition) => {
                for number in self.held[partition].take().into_iter().flatten() {
                    self.arrives(now, number);
                }
            }
        }
    }

    /// Returns whether the consumer that has begun the event still lives.
    fn is_at_work(&self, number: usize) -> bool {
        let owner = self.owner[self.events[number].partition];
        self.consumers[owner].working.contains(&number)
    }

    fn arrives(&mut self, now: Time, number: usize) {
        let partition = self.events[number].partition;
        if let Some(held) = &mut self.held[partition] {
            held.push(number);
            return;
        }
        let owner = self.owner[partition];
        self.consumers[owner].waiting.push_back(number);
        self.begin_next(now, owner);
    }

    fn begin_next(&mut self, now: Time, owner: usize) {
        let workers = self.settings.count("workers");
        let consumer = &mut self.consumers[owner];
        while !consumer.is_lost && consumer.busy < workers {
            let Some(number) = consumer.waiting.pop_front() else { return };
            consumer.busy += 1;
            consumer.working.push(number);
            let event = self.events[number];
            let is_near =
                self.layout == Layout::SharedWithNear && event.is_duplicate && event.near_knows;
            let asked = match self.layout {
                Layout::Partitioned => now + self.settings.time("embedded_us"),
                _ if is_near => now + 1,
                _ => ask_server(
                    self.settings,
                    &mut self.server_free,
                    &mut self.shown.server_busy,
                    now,
                ),
            };
            self.agenda.push(Reverse((asked, Step::Asked(number))));
        }
    }

    /// Returns when the record of an event that was handled is on disk.
    fn recorded(&mut self, now: Time, number: usize) -> Time {
        if self.layout != Layout::Partitioned {
            return ask_server(
                self.settings,
                &mut self.server_free,
                &mut self.shown.server_busy,
                now,
            );
        }
        let owner = self.owner[self.events[number].partition];
        let sync = self.settings.time("sync_us");
        let ends = &mut self.consumers[owner].sync_ends;
        if *ends <= now {
            // Nobody syncs.
            *ends = now + sync;
        } else if *ends - now <= sync {
            // A sync is under way that began before this record: the next one.
            *ends += sync;
        }
        *ends
    }

    fn done(&mut self, now: Time, number: usize) {
        let event = self.events[number];
        let owner = self.owner[event.partition];
        self.shown.waits.push(now - event.arrived);
        if owner == VICTIM && !event.is_duplicate {
            self.done_there.push((event.partition, now));
        }
        let consumer = &mut self.consumers[owner];
        consumer.busy -= 1;
        consumer.working.retain(|other| *other != number);
        self.begin_next(now, owner);
    }

    /// What it worked on and what waits comes again once the partitions have moved.
    fn lose(&mut self, now: Time) {
        let consumer = &mut self.consumers[VICTIM];
        consumer.is_lost = true;
        let working = std::mem::take(&mut consumer.working);
        let waiting = std::mem::take(&mut consumer.waiting);
        for partition in (0..self.owner.len()).filter(|partition| self.owner[*partition] == VICTIM)
        {
            self.held[partition] = Some(Vec::new());
        }
        for number in working.into_iter().chain(waiting) {
            let event = &mut self.events[number];
            event.is_again = true;
            // The effect was made, and its record is nowhere.
            self.shown.again += usize::from(event.is_handled);
            self.held[event.partition].as_mut().expect("it was its own").push(number);
        }
        if self.layout == Layout::Partitioned {
            // What was done since the last snapshot is in no store any more, and its input comes again.
            let snapshot = now - now % self.settings.time("snapshot_s").max(1);
            self.shown.again +=
                self.done_there.iter().filter(|(_, done)| *done >= snapshot).count();
        }
    }

    fn give_away(&mut self, now: Time) {
        let others = self.consumers.len() - 1;
        let lost = now - self.settings.time("notice_s");
        let ready = match self.layout {
            Layout::Partitioned => now + self.settings.time("restore_s"),
            _ => now,
        };
        for partition in 0..self.owner.len() {
            if self.owner[partition] != VICTIM {
                continue;
            }
            self.owner[partition] = VICTIM + 1 + partition % others;
            self.agenda.push(Reverse((ready, Step::Restored(partition))));
            if self.layout != Layout::Partitioned {
                // Those whose lease has not ended are put off.
                let lease_ends = (lost + self.settings.time("lease_s")).max(now);
                let held = self.held[partition].take().unwrap_or_default();
                let (again, rest) =
                    held.into_iter().partition(|number| self.events[*number].is_again);
                self.held[partition] = Some(rest);
                let later = |number| Reverse((lease_ends, Step::Arrives(number)));
                let again: Vec<usize> = again;
                self.agenda.extend(again.into_iter().map(later));
            }
        }
    }
}

/// Returns when the answer of the server is there: it serves one call after the other.
fn ask_server(settings: &Settings, free: &mut Time, busy: &mut Time, now: Time) -> Time {
    let (there, call) = (settings.time("network_us") / 2, settings.time("server_us"));
    let begins = (now + there).max(*free);
    *free = begins + call;
    *busy += call;
    begins + call + there
}

/// Draws the events, the same for all layouts.
fn arrivals(settings: &Settings) -> Vec<Event> {
    let mut dice = Dice(1);
    let skew = settings.get("skew");
    let weights: Vec<f64> =
        (1..=settings.count("partitions")).map(|rank| (rank as f64).powf(-skew)).collect();
    let mut sums = Vec::with_capacity(weights.len());
    let mut sum = 0.0;
    for weight in &weights {
        sum += weight;
        sums.push(sum);
    }
    let pause = SECOND as f64 / settings.get("rate").max(1.0);
    let mut events = Vec::new();
    let mut at = 0;
    while at < settings.time("seconds") * SECOND {
        at += dice.exponential(pause);
        let draw = dice.unit() * sum;
        // Ranks are spread over the consumers, as a hash does.
        let rank = sums.partition_point(|sum| *sum <= draw).min(sums.len() - 1);
        events.push(Event {
            arrived: at,
            partition: rank,
            is_duplicate: dice.unit() * 100.0 < settings.get("duplicates"),
            near_knows: dice.unit() * 100.0 < settings.get("near_hits"),
            work: dice.exponential(settings.get("handler_us")),
            is_handled: false,
            is_again: false,
        });
    }
    events
}

fn main() -> Result<(), String> {
    let mut settings = Settings::new();
    for argument in std::env::args().skip(1) {
        settings.set(&argument)?;
    }
    let mut said = String::new();
    for (name, value) in &settings.0 {
        let _ = write!(said, "{name}={value} ");
    }
    println!("{}\n", said.trim_end());
    println!(
        "| layout | half within | 99 of 100 within | longest | made again after the loss | not done | server busy |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (name, layout) in [
        ("partitions, an embedded store each", Layout::Partitioned),
        ("a shared store", Layout::Shared),
        ("a shared store, duplicates from memory", Layout::SharedWithNear),
    ] {
        let mut shown = Simulation::new(&settings, layout).run();
        shown.waits.sort_unstable();
        let at = |part: f64| {
            let place = (shown.waits.len() as f64 * part) as usize;
            shown.waits.get(place.min(shown.waits.len().saturating_sub(1))).copied().unwrap_or(0)
        };
        let ms = |time: Time| time as f64 / 1_000.0;
        let busy = 100.0 * shown.server_busy as f64 / (settings.time("seconds") * SECOND) as f64;
        println!(
            "| {name} | {:.1} ms | {:.1} ms | {:.0} ms | {} | {} | {busy:.0} % |",
            ms(at(0.5)),
            ms(at(0.99)),
            ms(at(1.0)),
            shown.again,
            shown.left,
        );
    }
    Ok(())
}
