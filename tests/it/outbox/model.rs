//! Random calls on two topics beside an oracle, with reopening, kills and power cuts.

use super::*;
use crate::support::scaled;
use firstseen::ledger::Backoff;
use firstseen::outbox::{Delivery, OutboxOptions, RelayOptions};
use firstseen::{Durability, MemoryBlocks};
use std::sync::Mutex;
use std::time::Duration;

const PENDING_MAX: usize = 12;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }
}

/// What a topic holds.
#[derive(Debug, Default, Clone)]
struct Expected {
    waiting: Vec<String>,
    dead: Vec<String>,
}

struct World {
    disk: SimDisk,
    blocks: MemoryBlocks,
    clock: ManualClock,
    durability: Durability,
    store: Option<Store>,
    expected: [Expected; 2],
    events: u64,
}

impl World {
    fn topic(&self, n: usize) -> Outbox {
        let store = self.store.as_ref().expect("is open");
        let options = OutboxOptions::new().pending_max(PENDING_MAX);
        store.outbox_with(["t", "u"][n], options).expect("opens")
    }

    fn open(&mut self) {
        let builder = crate::support::sim_with(&self.disk, &self.clock, &self.blocks);
        self.store = Some(builder.durability(self.durability).open().expect("opens"));
    }

    fn emit(&mut self, random: &mut Random) {
        let count = random.next(5) as usize;
        self.events += 1;
        let event = format!("e{}", self.events);
        let topics: Vec<usize> = (0..count).map(|_| random.next(2) as usize).collect();
        let store = self.store.clone().expect("is open");
        let mut transaction = store.transaction();
        transaction.claim(&event);
        let mut after = self.expected.clone();
        for (n, topic) in topics.iter().enumerate() {
            let key = ["", "anna", "bert"][random.next(3) as usize];
            let text = format!("{key}:{event}-{n}");
            transaction.emit_keyed(&self.topic(*topic), key, &text).expect("collects");
            after[*topic].waiting.push(text);
        }
        let is_full = |n: usize| {
            let adds = topics.contains(&n);
            adds && after[n].waiting.len() > PENDING_MAX
        };
        let is_full = is_full(0) || is_full(1);
        let is_prepared = random.next(4) == 0;
        let outcome = if is_prepared { transaction.prepare(&event) } else { transaction.commit() };
        let outcome = outcome.expect("answers");
        assert_eq!(outcome.is_committed(), !is_full, "{outcome:?}");
        if is_full {
            return;
        }
        if !is_prepared || random.next(3) > 0 {
            if is_prepared {
                self.maybe_reopen(random);
                let store = self.store.clone().expect("is open");
                store.commit_prepared(&event).expect("commits");
            }
            self.expected = after;
        } else {
            store.rollback_prepared(&event).expect("rolls back");
        }
    }

    fn acknowledge(&mut self, random: &mut Random) {
        let n = random.next(2) as usize;
        let (topic, expected) = (self.topic(n), &mut self.expected[n]);
        let read = topic.read(1 + random.next(6) as usize).expect("reads");
        assert_eq!(payloads(&read), expected.waiting[..read.len()]);
        if random.next(2) == 0
            && let Some(last) = read.last()
        {
            assert_eq!(topic.acknowledge_through(last.position).expect("acknowledges"), read.len());
            expected.waiting.drain(..read.len());
            return;
        }
        let some: Vec<Message> = read.into_iter().filter(|_| random.next(2) == 0).collect();
        assert_eq!(topic.acknowledge(&some).expect("acknowledges"), some.len());
        assert_eq!(topic.acknowledge(&some).expect("is no error"), 0);
        let gone = payloads(&some);
        expected.waiting.retain(|text| !gone.contains(text));
    }

    /// A relay runs until nothing is left but what it puts off.
    fn relay(&mut self, random: &mut Random) {
        let n = random.next(2) as usize;
        let topic = self.topic(n);
        let options = RelayOptions::new().batch_max(1 + random.next(4) as usize).attempts_max(2);
        let options = options.backoff(Backoff::constant(Duration::from_secs(60)));
        let says = Mutex::new((Random(random.next(u64::MAX)), Vec::new(), Vec::new()));
        let sink = |batch: &[Message]| {
            let (random, gone, dead) = &mut *says.lock().expect("no panic");
            let mut delivery = Delivery::all();
            let mut blocked: Vec<&[u8]> = Vec::new();
            for (n, message) in batch.iter().enumerate() {
                let is_blocked = blocked.contains(&&message.key[..]);
                match random.next(4) {
                    0 => {
                        delivery = delivery.refuse(n, "never");
                        if !is_blocked {
                            dead.push(payload(message));
                        }
                    }
                    1 => {
                        delivery = delivery.retry_in(n, Duration::from_secs(1 << 30), "later");
                        // Never a second time: that is too far away.
                        if !message.key.is_empty() {
                            blocked.push(&message.key);
                        }
                    }
                    _ if !is_blocked => gone.push(payload(message)),
                    _ => {}
                }
            }
            delivery
        };
        topic.relay(options).expect("is made").drain(&sink).expect("works");
        let (_, gone, dead) = says.into_inner().expect("no panic");
        let expected = &mut self.expected[n];
        expected.waiting.retain(|text| !gone.contains(text) && !dead.contains(text));
        expected.dead.extend(dead);
    }

    fn operate(&mut self, random: &mut Random) {
        let n = random.next(2) as usize;
        let letters = self.topic(n).dead_letters();
        let expected = &mut self.expected[n];
        let Some(dead) = letters.list(None, 1).expect("lists").messages.into_iter().next() else {
            assert!(expected.dead.is_empty());
            return;
        };
        let text = payload(&dead.message);
        let before = expected.dead.len();
        expected.dead.retain(|other| *other != text);
        assert_eq!(expected.dead.len() + 1, before);
        if random.next(2) == 0 {
            assert!(letters.redrive(dead.message.id).expect("redrives"));
            expected.waiting.push(text);
        } else {
            assert!(letters.purge(dead.message.id).expect("purges"));
        }
    }

    fn maybe_reopen(&mut self, random: &mut Random) {
        match random.next(4) {
            0 => {
                self.store = None;
                self.disk = match self.durability {
                    Durability::Disk => self.disk.lose_unsynced(),
                    _ => self.disk.kill(),
                };
                self.open();
            }
            1 => {
                self.store.take().expect("is open").close().expect("closes");
                self.open();
            }
            2 => self.store.iter().for_each(|store| {
                store.freeze();
                store.run_background().expect("works");
            }),
            _ => {}
        }
    }

    fn check(&self) {
        for n in 0..2 {
            let (topic, expected) = (self.topic(n), &self.expected[n]);
            assert_eq!(waiting(&topic), expected.waiting);
            assert_eq!(topic.pending().expect("answers").count, expected.waiting.len());
            let page = topic.dead_letters().list(None, usize::MAX).expect("lists");
            let mut found: Vec<String> =
                page.messages.iter().map(|dead| payload(&dead.message)).collect();
            let mut dead = expected.dead.clone();
            found.sort();
            dead.sort();
            assert_eq!(found, dead);
        }
    }
}

#[test]
fn random_calls_on_topics_are_answered_as_an_oracle_says_over_kills_and_power_cuts() {
    for seed in 0..scaled(60) {
        let mut random = Random(seed);
        let durability = if seed % 2 == 0 { Durability::Disk } else { Durability::Process };
        let mut world = World {
            disk: SimDisk::new(),
            blocks: MemoryBlocks::default(),
            clock: clock(),
            durability,
            store: None,
            expected: Default::default(),
            events: 0,
        };
        world.open();
        for _ in 0..60 {
            match random.next(8) {
                0..=3 => world.emit(&mut random),
                4 | 5 => world.acknowledge(&mut random),
                6 => world.relay(&mut random),
                _ => world.operate(&mut random),
            }
            world.maybe_reopen(&mut random);
            world.check();
        }
        assert!(firstseen::testing::validate(world.store.as_ref().expect("is open")).is_empty());
    }
}
