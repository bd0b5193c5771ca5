//! The calls of the ledger's model test and of its fuzzer. Lists are decoded from bytes, so that seeds and fuzzer inputs
//! share one format; every byte string is a valid list.

use firstseen::ledger::{Backoff, LedgerOptions, OnLeaseEnd};
use firstseen::{Durability, Ttl};
use std::time::Duration;

/// A ledger and an id, by their numbers.
pub(crate) type Key = (u8, u8);

pub(crate) const LEDGERS: u8 = 2;
pub(crate) const IDS: u8 = 3;

pub(crate) fn keys() -> impl Iterator<Item = Key> {
    (0..LEDGERS).flat_map(|ledger| (0..IDS).map(move |id| (ledger, id)))
}

/// The bytes of an id. The second is the first as it stands in the key of its first stage, the third as long as may be.
pub(crate) fn id_bytes((_, id): Key) -> Vec<u8> {
    match id {
        0 => b"a".to_vec(),
        1 => b"a\0\0\0\0".to_vec(),
        _ => vec![0xff; firstseen::limits::LEDGER_ID_BYTES_MAX],
    }
}

/// How the store is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Setup {
    pub(crate) durability: Durability,
    pub(crate) shards: usize,
    pub(crate) segment_bytes: u32,
    pub(crate) memtable_bytes: usize,
}

/// What a program says of a ledger. Times are in milliseconds; no ttl means forever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Policies {
    pub(crate) lease: u64,
    pub(crate) outlives_process: bool,
    pub(crate) on_lease_end: OnLeaseEnd,
    pub(crate) attempts_max: u32,
    /// After the first failure; doubled after each.
    pub(crate) delay: u64,
    pub(crate) delay_max: u64,
    pub(crate) result_ttl: Option<u64>,
    pub(crate) dead_ttl: Option<u64>,
}

pub(crate) fn ttl(ms: Option<u64>) -> Ttl {
    ms.map_or(Ttl::FOREVER, Ttl::from_millis)
}

impl Policies {
    pub(crate) fn options(&self) -> LedgerOptions {
        let (delay, delay_max) =
            (Duration::from_millis(self.delay), Duration::from_millis(self.delay_max));
        LedgerOptions::new()
            .lease(Duration::from_millis(self.lease))
            .lease_outlives_process(self.outlives_process)
            .on_lease_end(self.on_lease_end)
            .attempts_max(self.attempts_max)
            .backoff(Backoff::exponential(delay, 2.0, delay_max).without_jitter())
            .result_ttl(ttl(self.result_ttl))
            .dead_ttl(ttl(self.dead_ttl))
    }
}

/// What one `begin` gives along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) fingerprint: Option<u8>,
    pub(crate) payload: Option<u8>,
    pub(crate) worker: u8,
    pub(crate) lease: Option<u64>,
    pub(crate) version: u32,
}

/// What an attempt says or does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    Complete {
        bytes: u16,
    },
    CompleteFor {
        ttl: Option<u64>,
    },
    Fail,
    FailAfter {
        ms: u64,
    },
    FailForGood,
    FailWithResult,
    /// Says nothing, and is dropped.
    Drop,
    Renew,
    RenewFor {
        ms: u64,
    },
    Release,
    Check,
    /// Does the next stage, under the name that it has in all programs or under another one.
    Stage {
        renamed: bool,
        fails: bool,
    },
    /// Does the next stage in so many steps.
    Cursor {
        steps: u8,
        fails: bool,
    },
}

/// What an operator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Cancel,
    Settle,
    Redrive,
    /// Only in transactions: alone, `RedriveLetter` does it.
    RedriveFresh,
    Purge,
    Forget,
    RedriveLetter {
        fresh: bool,
    },
    PurgeLetter,
}

/// A move of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Begin {
        key: Key,
        given: Given,
    },
    /// Of one of the attempts that this process has begun, over or not.
    Speak {
        attempt: u8,
        word: Word,
    },
    Operate {
        key: Key,
        order: Order,
    },
}

/// A transaction. All of it belongs to its claim, if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) claim: Option<u8>,
    pub(crate) skips_duplicates: bool,
    /// Of one record each: more are left out.
    pub(crate) parts: Vec<Part>,
    /// The row that it puts.
    pub(crate) row: u8,
    pub(crate) emits: bool,
    /// Drops the attempts that have begun with the outcome.
    pub(crate) drops: bool,
}

pub(crate) const CLAIMS: u8 = 8;
pub(crate) const ROWS: u8 = 3;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    Begin {
        key: Key,
        given: Given,
    },
    /// One of the attempts that this process has begun, over or not.
    Speak {
        attempt: u8,
        word: Word,
    },
    Operate {
        key: Key,
        order: Order,
    },
    Commit(Joined),
    /// All dead letters that have been dead so long.
    RedriveAll {
        ledger: u8,
        older_than: u64,
    },
    PurgeAll {
        ledger: u8,
        older_than: u64,
    },
    /// The program brings other policies from now on. Attempts go on with those they were begun with.
    Policies {
        ledger: u8,
        policies: Policies,
    },
    Pass {
        ms: u64,
    },
    Background,
    Freeze,
    Sync,
    Reopen,
    Kill,
    PowerCut {
        seed: u64,
    },
}

/// Reads bytes one at a time; zeros after the end.
#[derive(Debug)]
pub(crate) struct Bytes<'a> {
    rest: &'a [u8],
}

impl<'a> Bytes<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *first
    }

    fn below(&mut self, n: u8) -> u8 {
        self.next() % n
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.next()) % from.len()]
    }

    fn key(&mut self) -> Key {
        let byte = self.next();
        (byte / IDS % LEDGERS, byte % IDS)
    }

    fn policies(&mut self) -> Policies {
        let policies = [OnLeaseEnd::Retry, OnLeaseEnd::Hold, OnLeaseEnd::Fail];
        Policies {
            lease: self.pick(&[10_000, 10_000, 1, 1_000]),
            outlives_process: self.below(3) == 0,
            on_lease_end: self.pick(&policies),
            attempts_max: self.pick(&[3, 3, 1, 2, 40]),
            delay: self.pick(&[1_000, 0, 1, 5_000]),
            delay_max: self.pick(&[1_000, 8_000]),
            result_ttl: self.pick(&[None, None, Some(1), Some(20_000)]),
            dead_ttl: self.pick(&[None, None, Some(1), Some(20_000)]),
        }
    }

    fn given(&mut self) -> Given {
        // Mostly nothing, or most calls would be a mismatch.
        let (bits, more) = (self.next(), self.next());
        Given {
            fingerprint: (bits % 4 == 0).then_some(bits >> 2 & 1),
            payload: ((bits >> 3) % 4 == 0).then_some(more >> 4),
            worker: bits >> 5 & 3,
            lease: [None, None, None, Some(1), Some(500), Some(30_000), None, None]
                [usize::from(more & 7)],
            version: u32::from(bits == 0x7f) + u32::from(more & 8 != 0 && bits & 0x40 != 0),
        }
    }

    fn word(&mut self) -> Word {
        match self.below(32) {
            0..=4 => Word::Complete { bytes: self.pick(&[0, 8, 8, 8, 300, 1_500]) },
            5 => Word::CompleteFor { ttl: self.pick(&[None, Some(1), Some(5_000)]) },
            6..=8 => Word::Fail,
            9 => Word::FailAfter { ms: self.pick(&[0, 1, 3_000, 60_000]) },
            10 => Word::FailForGood,
            11 => Word::FailWithResult,
            12 | 13 => Word::Drop,
            14..=16 => Word::Renew,
            17 | 18 => Word::RenewFor { ms: self.pick(&[1, 500, 10_000, 60_000]) },
            19 | 20 => Word::Release,
            21 => Word::Check,
            22..=27 => {
                let byte = self.next();
                Word::Stage { renamed: byte.is_multiple_of(16), fails: byte % 5 == 1 }
            }
            _ => {
                let byte = self.next();
                Word::Cursor { steps: byte % 4, fails: byte & 4 == 0 }
            }
        }
    }

    fn order(&mut self) -> Order {
        match self.below(16) {
            0..=2 => Order::Cancel,
            3 | 4 => Order::Settle,
            5 | 6 => Order::Redrive,
            7 | 8 => Order::Purge,
            9..=11 => Order::RedriveLetter { fresh: false },
            12 | 13 => Order::RedriveLetter { fresh: true },
            14 => Order::PurgeLetter,
            _ => Order::Forget,
        }
    }

    fn part(&mut self) -> Part {
        match self.below(16) {
            0..=5 => Part::Begin { key: self.key(), given: self.given() },
            6..=13 => {
                let attempt = self.next();
                let word = match self.word() {
                    Word::CompleteFor { .. } => Word::Complete { bytes: 8 },
                    // Nothing of a transaction.
                    Word::Drop => Word::Fail,
                    Word::Check => Word::Renew,
                    word => word,
                };
                Part::Speak { attempt, word }
            }
            _ => {
                use Order::{Cancel, Forget, Purge, Redrive, RedriveFresh, Settle};
                let orders = [Cancel, Settle, Redrive, RedriveFresh, Purge, Forget];
                Part::Operate { key: self.key(), order: self.pick(&orders) }
            }
        }
    }

    fn joined(&mut self) -> Joined {
        let (bits, claim) = (self.next(), self.next());
        let parts = 1 + self.below(3);
        Joined {
            claim: (bits & 1 == 0).then_some(claim % CLAIMS),
            skips_duplicates: bits & 6 == 0,
            parts: (0..parts).map(|_| self.part()).collect(),
            row: (bits >> 3) % ROWS,
            emits: bits & 0x40 == 0,
            drops: bits >= 0xf0,
        }
    }

    fn call(&mut self) -> Call {
        match self.next() {
            0..=69 => Call::Begin { key: self.key(), given: self.given() },
            70..=79 | 160..=179 => Call::Commit(self.joined()),
            80..=159 => Call::Speak { attempt: self.next(), word: self.word() },
            180..=199 => Call::Operate { key: self.key(), order: self.order() },
            200 | 201 => Call::RedriveAll {
                ledger: self.below(LEDGERS),
                older_than: self.pick(&[0, 1_000, 10_000]),
            },
            202 | 203 => Call::PurgeAll {
                ledger: self.below(LEDGERS),
                older_than: self.pick(&[0, 1_000, 10_000]),
            },
            204..=208 => Call::Policies { ledger: self.below(LEDGERS), policies: self.policies() },
            209..=233 => {
                Call::Pass { ms: self.pick(&[1, 1, 499, 999, 1_000, 5_000, 10_000, 20_000]) }
            }
            234..=238 => Call::Background,
            239..=243 => Call::Freeze,
            244 => Call::Sync,
            245 | 246 => Call::Reopen,
            247..=250 => Call::Kill,
            _ => Call::PowerCut { seed: u64::from(self.next()) << 8 | u64::from(self.next()) },
        }
    }

    /// Decodes a list: the setup, the policies of each ledger, then calls until the bytes end, at most `max`.
    pub(crate) fn list(mut self, max: usize) -> (Setup, [Policies; 2], Vec<Call>) {
        let setup = Setup {
            durability: self.pick(&[Durability::Process, Durability::Disk]),
            shards: self.pick(&[1, 2, 8]),
            // Not below: beside long ids, the head of a smaller segment makes compaction copy the same rows for ever.
            segment_bytes: self.pick(&[16 << 10, 64 << 10]),
            memtable_bytes: self.pick(&[32_768, 65_536]),
        };
        let policies = [self.policies(), self.policies()];
        let mut calls = Vec::new();
        while calls.len() < max && !self.rest.is_empty() {
            calls.push(self.call());
        }
        (setup, policies, calls)
    }
}
