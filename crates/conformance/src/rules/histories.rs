//! Random histories: the store answers as the reference does.

use crate::Fixture;
use crate::dice::Dice;
use crate::kit::{Bench, fresh_name, print};
use crate::reference::Reference;
use firstseen_shared::{
    AttemptEnd, Begun, Call, Claim, DedupStore, Ending, MoveError, OnLeaseEnd, Policy, Record, Start,
    State, Timestamp, Ttl,
};
use std::fmt::{Debug, Write as _};
use std::time::Duration;

const MOVES: usize = 300;
const CLAIM_IDS: [&[u8]; 4] = [b"a", b"b", b"\0\xff", b"a\0"];
const RECORD_IDS: [&[u8]; 3] = [b"a", b"b", b"\xff"];
const RESULTS: [&[u8]; 3] = [b"", b"done", b"\0\xff"];
const REASONS: [&str; 3] = ["", "no", "na\u{ef}ve"];
const WORKERS: [&str; 2] = ["one", "two"];

/// A call with all that it needs. Attempts are named by their number, since tokens differ.
#[derive(Debug, Clone)]
enum Move {
    Claim { ids: Vec<&'static [u8]>, ttl: Ttl, call: Call },
    Contains(&'static [u8]),
    Forget(&'static [u8]),
    Begin { id: &'static [u8], start: Start<'static>, policy: Policy, call: Call },
    Renew { id: &'static [u8], attempt: usize, lease: Duration },
    End { id: &'static [u8], attempt: usize, ending: Ending<'static>, policy: Policy },
    Record(&'static [u8]),
    Redrive(&'static [u8]),
    Settle { id: &'static [u8], result: &'static [u8], ttl: Ttl },
    ForgetRecord(&'static [u8]),
    DeadLetters { after: Option<&'static [u8]>, limit: usize },
    CountDead,
}

/// What a call was told: all that two stores have in common, and apart from it the times.
#[derive(Debug, Default)]
struct Told {
    text: String,
    times: Vec<Timestamp>,
}

/// One of the two sides.
struct Side<'a, S> {
    store: &'a S,
    namespace: String,
    /// The tokens of all attempts, in their order.
    tokens: Vec<u64>,
    /// When the history began.
    base: Timestamp,
}

/// As the reference does, by seeds that are told where it does not.
pub async fn random_histories_are_answered_as_the_reference_answers<F: Fixture>(fixture: &F) {
    for seed in 0..u64::from(fixture.histories()) {
        history(fixture, seed).await;
    }
}

async fn history<F: Fixture>(fixture: &F, seed: u64) {
    let here = Bench::new(fixture).await;
    let there = here.elsewhere().await;
    let model = Reference::new();
    let mut dice = Dice::new(seed);
    let mut known = Side::new(&model, fresh_name()).await;
    let mut tested = Side::new(&*here.store, here.namespace.clone()).await;
    let mut history: Vec<Move> = Vec::new();
    for step in 0..MOVES {
        if dice.below(4) == 0 {
            let time = steps(&mut dice, fixture.slack());
            model.clock().advance(time);
            here.pass(time).await;
        }
        let last = history.iter().rev().find(|made| made.has_call());
        let next = match last {
            Some(last) if fixture.remembers_calls() && dice.below(8) == 0 => last.clone(),
            _ => Move::draw(&mut dice, known.tokens.len(), fixture.slack()),
        };
        history.push(next.clone());
        let expected = known.make(&next).await;
        // Another machine each time.
        tested.store = if dice.below(2) == 0 { &*here.store } else { &*there.store };
        let told = tested.make(&next).await;
        let is_as_expected = told.text == expected.text
            && told.times.len() == expected.times.len()
            && told.times.iter().zip(&expected.times).all(|(told, expected)| {
                let told = told.as_millis().wrapping_sub(tested.base.as_millis());
                let expected = expected.as_millis().wrapping_sub(known.base.as_millis());
                told.abs_diff(expected) <= fixture.slack().as_millis() as u64
            });
        if !is_as_expected {
            let from = history.len().saturating_sub(40);
            let mut moves = String::new();
            for (n, made) in history.iter().enumerate().skip(from) {
                let _ = writeln!(moves, "{n}: {made:?}");
            }
            panic!(
                "seed {seed}, step {step}: {next:?}\n  expected {expected:?}\n  since {:?}\n  was told {told:?}\n  since {:?}\n{moves}",
                known.base, tested.base
            );
        }
    }
}

/// Returns how far the clock moves: over edges, and where it moves by itself, never close to one.
fn steps(dice: &mut Dice, slack: Duration) -> Duration {
    unit(slack) * (1 + dice.below(3) as u32)
}

fn unit(slack: Duration) -> Duration {
    if slack.is_zero() { Duration::from_millis(1) } else { Duration::from_secs(100) }
}

/// Returns how long something lasts.
fn lasting(dice: &mut Dice, slack: Duration) -> Duration {
    let units = 1 + dice.below(4) as u32;
    let half = if slack.is_zero() { Duration::ZERO } else { unit(slack) / 2 };
    (unit(slack) * units).saturating_sub(half)
}

impl Move {
    fn has_call(&self) -> bool {
        matches!(self, Self::Claim { .. } | Self::Begin { .. })
    }

    fn draw(dice: &mut Dice, attempts: usize, slack: Duration) -> Self {
        let id = dice.of(&RECORD_IDS);
        // Mostly one of the last, which may still have its record.
        let attempt = attempts.saturating_sub(1 + dice.below(4) as usize);
        match dice.below(24) {
            0..4 => {
                let count = 1 + dice.below(4);
                let ids = (0..count).map(|_| dice.of(&CLAIM_IDS)).collect();
                Self::Claim { ids, ttl: ttl(dice, slack), call: Call::new() }
            }
            4 => Self::Contains(dice.of(&CLAIM_IDS)),
            5 => Self::Forget(dice.of(&CLAIM_IDS)),
            6..12 => {
                let fingerprints = [None, None, Some(print(b"one")), Some(print(b"two"))];
                let fingerprint = dice.of(&fingerprints);
                let (lease, worker) = (lasting(dice, slack), dice.of(&WORKERS));
                let start = Start { lease, worker, fingerprint };
                Self::Begin { id, start, policy: policy(dice, slack), call: Call::new() }
            }
            12 | 13 => Self::Renew { id, attempt, lease: lasting(dice, slack) },
            14..18 => {
                let (ending, policy) = (ending(dice, slack), policy(dice, slack));
                Self::End { id, attempt, ending, policy }
            }
            18 => Self::Record(id),
            19 => Self::Redrive(id),
            20 => Self::Settle { id, result: dice.of(&RESULTS), ttl: ttl(dice, slack) },
            21 if dice.below(2) == 0 => Self::ForgetRecord(id),
            22 => Self::CountDead,
            _ => {
                let after = dice.of(&[None, Some(&b"a"[..]), Some(b"\0")]);
                Self::DeadLetters { after, limit: dice.below(4) as usize }
            }
        }
    }
}

fn ttl(dice: &mut Dice, slack: Duration) -> Ttl {
    if dice.below(4) == 0 { Ttl::FOREVER } else { lasting(dice, slack).into() }
}

fn policy(dice: &mut Dice, slack: Duration) -> Policy {
    let on_lease_end = dice.of(&[OnLeaseEnd::Retry, OnLeaseEnd::Hold, OnLeaseEnd::Fail]);
    Policy { on_lease_end, attempts_max: 1 + dice.below(3) as u32, dead_ttl: ttl(dice, slack) }
}

fn ending(dice: &mut Dice, slack: Duration) -> Ending<'static> {
    let reason = dice.of(&REASONS);
    match dice.below(6) {
        0 | 1 => Ending::Completed {
            result: dice.of(&RESULTS),
            is_failure: dice.below(3) == 0,
            ttl: ttl(dice, slack),
        },
        2 => {
            let is_at_once = dice.below(2) == 0;
            let retry_after = if is_at_once { Duration::ZERO } else { lasting(dice, slack) };
            Ending::Failed { retry_after, reason }
        }
        3 => Ending::Final { reason },
        4 => Ending::Held { reason },
        _ => Ending::Released,
    }
}

impl<'a, S: DedupStore> Side<'a, S> {
    async fn new(store: &'a S, namespace: String) -> Self {
        let mut side = Self { store, namespace, tokens: Vec::new(), base: Timestamp::default() };
        let policy = Policy {
            on_lease_end: OnLeaseEnd::Retry,
            attempts_max: 1,
            dead_ttl: Ttl::FOREVER,
        };
        let start = Start { lease: Duration::from_secs(1), worker: "", fingerprint: None };
        side.make(&Move::Begin { id: b"base", start, policy, call: Call::new() }).await;
        let base = store.record(&side.namespace, b"base").await.expect("reads");
        side.base = base.expect("it has begun").first_begun;
        side
    }

    async fn make(&mut self, next: &Move) -> Told {
        let (store, namespace) = (self.store, self.namespace.clone());
        let namespace = namespace.as_str();
        match next {
            Move::Claim { ids, ttl, call } => {
                let claims = store.claim_batch(namespace, ids, *ttl, *call).await;
                let mut told = Told::default();
                for claim in claims.expect("claims") {
                    let _ = write!(told.text, "{} ", claim.is_first_seen());
                    if let Claim::Duplicate { first_seen } = claim {
                        told.times.push(first_seen);
                    }
                }
                told
            }
            Move::Contains(id) => Told::plain(store.contains(namespace, id).await.expect("looks")),
            Move::Forget(id) => Told::plain(store.forget(namespace, id).await.expect("forgets")),
            Move::Begin { id, start, policy, call } => {
                let begun = store.begin(namespace, id, start, policy, *call).await;
                self.begun(begun.expect("begins"))
            }
            Move::Renew { id, attempt, lease } => {
                let token = self.tokens.get(*attempt).copied().unwrap_or_default();
                self.moved(store.renew(namespace, id, token, *lease).await)
            }
            Move::End { id, attempt, ending, policy } => {
                let token = self.tokens.get(*attempt).copied().unwrap_or_default();
                self.moved(store.end(namespace, id, token, ending, policy).await)
            }
            Move::Record(id) => {
                let record = store.record(namespace, id).await.expect("reads");
                record.map_or_else(|| Told::plain("none"), |record| self.told("record", &record))
            }
            Move::Redrive(id) => Told::plain(store.redrive(namespace, id).await.expect("redrives")),
            Move::Settle { id, result, ttl } => {
                Told::plain(store.settle(namespace, id, result, *ttl).await.expect("settles"))
            }
            Move::ForgetRecord(id) => {
                Told::plain(store.forget_record(namespace, id).await.expect("forgets"))
            }
            Move::DeadLetters { after, limit } => {
                Told::plain(store.dead_letters(namespace, *after, *limit).await.expect("lists"))
            }
            Move::CountDead => {
                Told::plain(store.stats(namespace).await.expect("counts").dead_letters)
            }
        }
    }

    fn begun(&mut self, begun: Begun) -> Told {
        let (what, record) = match begun {
            Begun::Started { token, attempt } => {
                // A call that is repeated is told of an attempt that is known.
                if !self.tokens.contains(&token) {
                    assert!(
                        self.tokens.iter().all(|earlier| *earlier != token),
                        "token {token} twice"
                    );
                    self.tokens.push(token);
                }
                return Told::plain(("started", self.number_of(token), attempt));
            }
            Begun::InProgress(record) => ("in progress", record),
            Begun::Completed(record) => ("completed", record),
            Begun::RetryAt(record) => ("retry at", record),
            Begun::Held(record) => ("held", record),
            Begun::Dead(record) => ("dead", record),
            Begun::Mismatch(record) => ("mismatch", record),
        };
        self.told(what, &record)
    }

    fn moved(&self, moved: Result<(), MoveError>) -> Told {
        match moved {
            Ok(()) => Told::plain("done"),
            Err(MoveError::LeaseEnded) => Told::plain("the lease has ended"),
            Err(MoveError::Fenced(None)) => Told::plain("fenced"),
            Err(MoveError::Fenced(Some(record))) => self.told("fenced", &record),
            Err(MoveError::Over(record)) => self.told("over", &record),
            Err(error) => panic!("the store has failed: {error}"),
        }
    }

    fn number_of(&self, token: u64) -> Option<usize> {
        self.tokens.iter().position(|known| *known == token)
    }

    fn told(&self, what: &str, record: &Record) -> Told {
        let mut times = vec![record.first_begun];
        let state = match &record.state {
            // When it was read is of no use but to tell how much is left.
            State::Running { until } => {
                times.extend([*until, record.read]);
                "running".to_owned()
            }
            State::Waiting { until } => {
                times.extend([*until, record.read]);
                "waiting".to_owned()
            }
            other => format!("{other:?}"),
        };
        let is_held = record.state == State::Held;
        let is_completed = matches!(record.state, State::Completed { .. });
        let last = record.history.len().saturating_sub(1);
        let history = record.history.iter().enumerate().map(|(n, past)| {
            let end = match past.end {
                // Settled by an operator, who does not say what of.
                end if n == last && is_completed && end != AttemptEnd::Completed => None,
                // A store may forget which of the two it was, once it is the past.
                AttemptEnd::Held if !(is_held && n == last) => Some(AttemptEnd::Failed),
                end => Some(end),
            };
            let is_said = end.is_some_and(|end| end != AttemptEnd::LeaseEnded);
            let reason = if is_said { past.reason.as_str() } else { "" };
            (self.number_of(past.token), past.worker.as_str(), end, reason)
        });
        let history: Vec<_> = history.collect();
        let token = (record.token != 0).then(|| self.number_of(record.token));
        let (attempts, worker, print) = (record.attempts, &record.worker, record.fingerprint);
        let shown = (what, state, attempts, token, worker, print, history);
        Told { times, ..Told::plain(shown) }
    }
}

impl Told {
    fn plain(told: impl Debug) -> Self {
        Self { text: format!("{told:?}"), times: Vec::new() }
    }
}
