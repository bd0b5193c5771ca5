//! Random calls against an oracle that knows the rules and nothing of rows, with kills, background work and time.

use super::*;
use crate::support::{NOW, scaled, settle};
use firstseen::ledger::{AttemptError, DeadFilter, Failure, OnLeaseEnd, State};
use firstseen::testing::validate;
use std::collections::BTreeMap;

const IDS: [&str; 3] = ["a", "b", "c"];
const ATTEMPTS_MAX: u32 = 3;
const LEASE_MS: u64 = 10_000;
const DELAY_MS: u64 = 1_000;

/// SplitMix64, so that a seed is a sequence of calls.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Is {
    Running { until: u64 },
    Waiting { until: u64 },
    Held,
    Done(Vec<u8>),
    Dead,
}

/// What the oracle knows of an id.
#[derive(Debug, Clone)]
struct Known {
    is: Is,
    attempts: u32,
    /// The attempt that may still say how it went.
    owner: Option<u64>,
    stages: Vec<u32>,
    redrives: u32,
}

struct Oracle {
    now: u64,
    on_lease_end: OnLeaseEnd,
    ids: BTreeMap<&'static str, Known>,
    /// Attempts of this process; those of others are gone.
    tokens: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Told {
    Started(u32),
    InProgress,
    Completed(Vec<u8>),
    RetryAt(u64),
    Held,
    Dead,
}

impl Oracle {
    fn begin(&mut self, id: &'static str, token: u64) -> Told {
        let now = self.now;
        let new = || Known {
            is: Is::Waiting { until: now },
            attempts: 0,
            owner: None,
            stages: Vec::new(),
            redrives: 0,
        };
        let policy = self.on_lease_end;
        let known = self.ids.entry(id).or_insert_with(new);
        match &known.is {
            Is::Running { until } if *until > now => return Told::InProgress,
            Is::Running { .. } => match policy {
                OnLeaseEnd::Hold => known.is = Is::Held,
                OnLeaseEnd::Fail => known.is = Is::Dead,
                _ if known.attempts >= ATTEMPTS_MAX => known.is = Is::Dead,
                _ => {}
            },
            Is::Waiting { until } if *until > now => return Told::RetryAt(*until),
            _ => {}
        }
        match &known.is {
            Is::Held => Told::Held,
            Is::Dead => Told::Dead,
            Is::Done(result) => Told::Completed(result.clone()),
            Is::Running { .. } | Is::Waiting { .. } => {
                known.attempts += 1;
                known.is = Is::Running { until: now + LEASE_MS };
                known.owner = Some(token);
                Told::Started(known.attempts)
            }
        }
    }

    /// What nobody has come back to, and may not be tried again, is held or dead.
    fn sweep(&mut self) -> u64 {
        let now = self.now;
        let mut changed = 0;
        for known in self.ids.values_mut() {
            let is_used_up = known.attempts >= ATTEMPTS_MAX;
            let is = match (&known.is, self.on_lease_end) {
                (Is::Running { until }, _) if *until > now => continue,
                (Is::Running { .. }, OnLeaseEnd::Hold) => Is::Held,
                (Is::Running { .. }, OnLeaseEnd::Fail) => Is::Dead,
                (Is::Running { .. }, _) if is_used_up => Is::Dead,
                _ => continue,
            };
            known.is = is;
            changed += 1;
        }
        changed
    }

    /// The record that an attempt may still speak of.
    fn owned(&mut self, id: &'static str, token: u64) -> Option<&mut Known> {
        self.ids.get_mut(id).filter(|known| known.owner == Some(token))
    }

    fn fail(&mut self, id: &'static str, token: u64) -> bool {
        let until = self.now + DELAY_MS;
        let Some(known) = self.owned(id, token) else { return false };
        // What is dead because its lease ended may be completed late, and nothing else.
        if known.is == Is::Dead {
            return false;
        }
        known.owner = None;
        known.is = if known.attempts >= ATTEMPTS_MAX { Is::Dead } else { Is::Waiting { until } };
        true
    }
}

struct Run {
    world: World,
    ledger: Ledger,
    oracle: Oracle,
    held: Vec<(&'static str, u64, Attempt)>,
    log: Vec<String>,
}

impl Run {
    fn new(on_lease_end: OnLeaseEnd) -> Self {
        let world = World::new();
        let ledger = Self::open(&world.store, on_lease_end);
        let oracle = Oracle { now: NOW, on_lease_end, ids: BTreeMap::new(), tokens: 0 };
        Self { world, ledger, oracle, held: Vec::new(), log: Vec::new() }
    }

    fn open(store: &Store, on_lease_end: OnLeaseEnd) -> Ledger {
        store.ledger_with("l", options().on_lease_end(on_lease_end)).expect("opens")
    }

    fn begin(&mut self, id: &'static str) {
        self.oracle.tokens += 1;
        let token = self.oracle.tokens;
        let wanted = self.oracle.begin(id, token);
        let told = match begin(&self.ledger, id) {
            Begin::Started(attempt) => {
                let number = attempt.number();
                self.held.push((id, token, attempt));
                Told::Started(number)
            }
            Begin::InProgress(_) => Told::InProgress,
            Begin::Completed(record) => Told::Completed(record.result().expect("one").to_vec()),
            Begin::RetryAt(record) => match record.state {
                State::Waiting { until } => Told::RetryAt(until.as_millis()),
                other => panic!("{other}"),
            },
            Begin::Held(_) => Told::Held,
            Begin::Dead(_) => Told::Dead,
            other => panic!("{other:?}"),
        };
        assert_eq!(told, wanted, "{id}: {:#?}", self.log);
    }

    /// Takes one of the attempts that are held.
    fn attempt(&mut self, chance: &mut Chance) -> Option<(&'static str, u64, Attempt)> {
        let n = self.held.len() as u64;
        (n > 0).then(|| self.held.swap_remove(chance.below(n) as usize))
    }

    fn speak(&mut self, what: u64, (id, token, attempt): (&'static str, u64, Attempt)) {
        let now = self.oracle.now;
        let (told, wanted, is_over) = match what {
            0 => {
                let result = token.to_le_bytes();
                let known = self.oracle.owned(id, token);
                let wanted = known.is_some();
                if let Some(known) = known {
                    known.is = Is::Done(result.to_vec());
                    known.owner = None;
                    known.stages.clear();
                }
                (attempt.complete(result), wanted, true)
            }
            1 => (attempt.fail(Failure::retry("no")), self.oracle.fail(id, token), true),
            2 => {
                let known = self.oracle.owned(id, token).filter(|known| known.is != Is::Dead);
                let wanted = known.is_some();
                if let Some(known) = known {
                    known.is = Is::Waiting { until: now };
                    known.attempts -= 1;
                    known.owner = None;
                }
                (attempt.release(), wanted, true)
            }
            3 => {
                let known = self.oracle.owned(id, token);
                let known =
                    known.filter(|known| matches!(known.is, Is::Running { until } if until > now));
                let wanted = known.is_some();
                if let Some(known) = known {
                    known.is = Is::Running { until: now + LEASE_MS };
                }
                (attempt.renew(), wanted, false)
            }
            _ => {
                let value = token as u32;
                let stages = attempt.record().stages;
                let known = self.oracle.owned(id, token);
                let known = known.filter(|known| matches!(known.is, Is::Running { .. }));
                let wanted = known.is_some();
                if let Some(known) = known {
                    known.is = Is::Running { until: now + LEASE_MS };
                    known.stages.push(value);
                }
                // Those that are saved are reached first, and come back.
                let saved: Result<Vec<u32>, Failure> = (0..stages)
                    .map(|n| attempt.stage(&format!("s{n}"), || Err(Failure::last("is saved"))))
                    .collect();
                let saved = saved
                    .and_then(|_| attempt.stage(&format!("s{stages}"), || Ok::<_, Failure>(value)));
                let told = match saved {
                    Ok(_) => Ok(()),
                    Err(failure) => Err(AttemptError::Value {
                        what: "a stage",
                        why: failure.reason().to_owned(),
                    }),
                };
                // An attempt reaches a stage once, so it is not asked again.
                self.held.retain(|(_, other, _)| *other != token);
                assert_eq!(told.is_ok(), wanted, "{id} stage: {told:?} {:#?}", self.log);
                std::mem::forget(attempt);
                return;
            }
        };
        assert_eq!(told.is_ok(), wanted, "{id} call {what}: {told:?} {:#?}", self.log);
        if is_over {
            std::mem::forget(attempt);
        } else {
            self.held.push((id, token, attempt));
        }
    }

    fn operate(&mut self, what: u64, id: &'static str) {
        let now = self.oracle.now;
        let letters = self.ledger.dead_letters();
        let waits = |known: &&mut Known| matches!(known.is, Is::Dead | Is::Held);
        match what {
            0 | 1 => {
                let known = self.oracle.ids.get_mut(id).filter(waits);
                let wanted = known.is_some();
                if let Some(known) = known {
                    known.is = Is::Waiting { until: now };
                    known.attempts = 0;
                    known.owner = None;
                    known.redrives += 1;
                    if what == 1 {
                        known.stages.clear();
                    }
                }
                let told = if what == 0 { letters.redrive(id) } else { letters.redrive_fresh(id) };
                assert_eq!(told.expect("redrives"), wanted, "{:#?}", self.log);
            }
            2 => {
                let wanted = self.oracle.ids.get_mut(id).as_ref().is_some_and(waits);
                if wanted {
                    self.oracle.ids.remove(id);
                }
                assert_eq!(letters.purge(id).expect("purges"), wanted, "{:#?}", self.log);
            }
            3 => {
                let wanted = self.oracle.sweep();
                let swept = self.ledger.sweep_ended().expect("sweeps");
                let told = (swept.changed, swept.failed.len());
                assert_eq!(told, (wanted, 0), "{:#?}", self.log);
            }
            _ => {
                if let Some(known) = self.oracle.ids.get_mut(id)
                    && !matches!(known.is, Is::Done(_) | Is::Dead)
                {
                    known.is = Is::Dead;
                    known.owner = None;
                }
                self.ledger.cancel(id, "by hand").expect("cancels");
            }
        }
    }

    fn kill(&mut self, on_lease_end: OnLeaseEnd) {
        self.held.drain(..).for_each(|(_, _, attempt)| std::mem::forget(attempt));
        let disk = self.world.disk.kill();
        let store = sim(&disk, &self.world.clock).open().expect("opens");
        self.ledger = Self::open(&store, on_lease_end);
        self.world = World { disk, clock: self.world.clock.clone(), store };
        for known in self.oracle.ids.values_mut() {
            known.owner = None;
            if let Is::Running { until } = &mut known.is {
                *until = 0;
            }
        }
    }

    /// Every record is what the oracle says, and so are the dead letters.
    fn check(&self) {
        for id in IDS {
            let found = self.ledger.get(id).expect("reads");
            let Some(known) = self.oracle.ids.get(id) else {
                assert!(found.is_none(), "{id}: {found:?} {:#?}", self.log);
                continue;
            };
            let record = found.unwrap_or_else(|| panic!("{id} is gone: {:#?}", self.log));
            let is = match &record.state {
                State::Running { until } => match known.is {
                    Is::Running { until: 0 } => Is::Running { until: 0 },
                    _ => Is::Running { until: until.as_millis() },
                },
                State::Waiting { until } => Is::Waiting { until: until.as_millis() },
                State::Held => Is::Held,
                State::Completed { result, .. } => Is::Done(result.clone().unwrap_or_default()),
                State::Dead { .. } => Is::Dead,
                other => panic!("{other}"),
            };
            assert_eq!(is, known.is, "{id}: {:#?}", self.log);
            let counts = (record.attempts, record.stages as usize, record.redrives);
            let wanted = (known.attempts, known.stages.len(), known.redrives);
            assert_eq!(counts, wanted, "{id}: {:#?}", self.log);
        }
        let letters = self.ledger.dead_letters();
        for (filter, is) in [(DeadFilter::new(), Is::Dead), (DeadFilter::new().held(), Is::Held)] {
            let listed = letters.list(&filter).expect("lists").letters;
            let mut listed: Vec<Vec<u8>> = listed.into_iter().map(|l| l.record.id).collect();
            listed.sort();
            let wanted: Vec<Vec<u8>> = self
                .oracle
                .ids
                .iter()
                .filter(|(_, known)| known.is == is)
                .map(|(id, _)| id.as_bytes().to_vec())
                .collect();
            assert_eq!(listed, wanted, "{:#?}", self.log);
        }
        let wrong = validate(&self.world.store);
        assert!(wrong.is_empty(), "{wrong:?} {:#?}", self.log);
    }

    fn step(&mut self, chance: &mut Chance) {
        let id = IDS[chance.below(3) as usize];
        let what = chance.below(100);
        self.log.push(format!("{what} {id}"));
        match what {
            0..35 => self.begin(id),
            35..75 => {
                if let Some(attempt) = self.attempt(chance) {
                    let call = chance.below(5);
                    self.log.push(format!("  call {call} of {}", attempt.0));
                    self.speak(call, attempt);
                }
            }
            75..85 => {
                let what = chance.below(5);
                self.log.push(format!("  operator {what}"));
                self.operate(what, id);
            }
            85..95 => {
                let ms = [1, DELAY_MS, LEASE_MS / 2, LEASE_MS][chance.below(4) as usize];
                self.oracle.now += ms;
                self.world.pass(Duration::from_millis(ms));
            }
            95..97 => {
                self.world.store.freeze();
                settle(&self.world.store);
            }
            _ => self.kill(self.oracle.on_lease_end),
        }
        self.check();
    }
}

#[test]
fn i8_random_calls_are_answered_as_an_oracle_says() {
    let seed = std::env::var("FIRSTSEEN_LEDGER_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = seed.map_or(0..scaled(300), |seed| seed..seed + 1);
    for seed in seeds {
        let mut chance = Chance(seed);
        let policies = [OnLeaseEnd::Retry, OnLeaseEnd::Hold, OnLeaseEnd::Fail];
        let mut run = Run::new(policies[chance.below(3) as usize]);
        run.log.push(format!("FIRSTSEEN_LEDGER_SEED={seed}"));
        for _ in 0..60 {
            run.step(&mut chance);
        }
        run.held.drain(..).for_each(|(_, _, attempt)| std::mem::forget(attempt));
    }
}
