//! The operations of the model test, the crash simulation and the fuzzer. Lists are decoded from bytes, so that seeds
//! and fuzzer inputs share one format; every byte string is a valid list.

/// The durability of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Buffered,
    Process,
    Disk,
}

/// A key: number of the namespace (0 is the default one) and of the id.
pub(crate) type KeyNo = (u8, u8);

/// Families of rows are numbered as if they were namespaces, from here on.
pub(crate) const ROWS: u8 = 16;
const FAMILIES: u8 = 2;
/// Few, so that they are often overwritten.
pub(crate) const IDS_OF_ROWS: u8 = 6;

pub(crate) fn is_row(key: KeyNo) -> bool {
    key.0 > ROWS
}

/// What a write of a row expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    Anything,
    /// No row.
    Absent,
    /// The row that is there, if any.
    Current,
    /// An older row than the one that is there.
    Stale,
}

/// One write of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowPut {
    pub(crate) row: KeyNo,
    pub(crate) want: Want,
    pub(crate) delete: bool,
}

/// What happens to the block store, at a restart or under an open store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Harm {
    Spared,
    /// Every block is lost.
    Dropped,
    /// The blocks are those of an earlier opening.
    Stale(u64),
    Missing(u64),
    Flipped(u64),
    /// Some blocks are truncated.
    Cut(u64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Op {
    Claim {
        key: KeyNo,
        ttl: Option<u64>,
        level: Option<Level>,
    },
    Batch {
        ns: u8,
        ids: Vec<u8>,
        ttl: Option<u64>,
        level: Option<Level>,
    },
    Reserve {
        ns: u8,
        ids: Vec<u8>,
        level: Option<Level>,
    },
    Confirm {
        slot: u8,
    },
    Release {
        slot: u8,
    },
    Forget {
        key: KeyNo,
    },
    Get {
        key: KeyNo,
    },
    Sync,
    /// One round of background work.
    Background,
    /// Freezes the memtables without flushing them.
    Freeze,
    /// Freezes and flushes the memtables.
    Flush,
    Advance {
        ms: u64,
    },
    JumpBack {
        ms: u64,
    },
    Reopen {
        shards: Option<usize>,
        harm: Harm,
    },
    Kill,
    PowerCut {
        seed: u64,
        harm: Harm,
    },
    /// Damages the block store under the open store.
    Harm(Harm),
    Verify,
    Export,
    /// Sets the wall clock far off, or right again.
    Sway(Sway),
    /// Imports the last export again; `skew` says how its times are changed.
    Import {
        ns: u8,
        skew: u8,
    },
    /// Imports the last export into another store.
    Carry,
    Settings {
        ns: u8,
        ttl: u64,
        sliding: bool,
    },
    /// Closes, repairs and reopens the store.
    Repair {
        lose_manifest: bool,
    },
    /// Closes the store while reservations are held, then reopens it.
    CloseHeld,
    /// Writes rows of one family, all or none.
    Commit {
        puts: Vec<RowPut>,
        ttl: Option<u64>,
        level: Option<Level>,
    },
    /// Puts one row many times.
    Churn {
        row: KeyNo,
        times: u8,
    },
    GetRow {
        row: KeyNo,
    },
    List {
        family: u8,
    },
}

/// A jump of the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sway {
    /// Too far to be believed at once.
    Ahead,
    LittleAhead,
    /// Too far to wait for.
    Back,
}

/// The configuration of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Setup {
    pub(crate) level: Level,
    pub(crate) mapping: bool,
    pub(crate) shards: usize,
    pub(crate) segment_bytes: u32,
    pub(crate) memtable_bytes: usize,
    /// All runs have locator files, or none does.
    pub(crate) has_locators: bool,
    /// Single claims go into lanes of the log, as those of threads that meet do.
    pub(crate) lanes: bool,
}

/// The ttl and deadline of a claim that never expires.
pub(crate) const FOREVER: u64 = u64::MAX;

pub(crate) const NAMESPACES: u8 = 3;
pub(crate) const IDS: u8 = 24;

/// The bytes of an id: up to 49 of them, some ids prefixes of others, some not UTF-8.
pub(crate) fn id_bytes(no: u8) -> Vec<u8> {
    match no % 6 {
        0 => vec![no],
        1 => vec![no; 16],
        2 => format!("evt-{no}").into_bytes(),
        3 => format!("evt-{no}-{}", "x".repeat(usize::from(no) * 2)).into_bytes(),
        4 => vec![0, no],
        _ => vec![0xff, 0, no, 0xfe],
    }
}

/// The first byte of an operation on rows.
const ROWS_FROM: u8 = 3 * 76;

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

    pub(crate) fn below(&mut self, n: u8) -> u8 {
        self.next() % n
    }

    fn level(&mut self) -> Option<Level> {
        match self.below(8) {
            0 | 1 => Some(Level::Buffered),
            2 => Some(Level::Process),
            3 => Some(Level::Disk),
            _ => None,
        }
    }

    fn ttl(&mut self) -> Option<u64> {
        match self.below(16) {
            0 => Some(1),
            1 => Some(1_000),
            2 => Some(1_500),
            3 => Some(60_000),
            4 => Some(86_400_000),
            5 => Some(FOREVER),
            _ => None,
        }
    }

    fn key(&mut self) -> KeyNo {
        (self.below(NAMESPACES), self.below(IDS))
    }

    fn ids(&mut self, max: u8) -> Vec<u8> {
        let n = self.below(max);
        (0..n).map(|_| self.below(IDS)).collect()
    }

    pub(crate) fn seed(&mut self) -> u64 {
        u64::from(self.next()) << 8 | u64::from(self.next())
    }

    pub(crate) fn harm(&mut self) -> Harm {
        match self.below(12) {
            0 => Harm::Dropped,
            1 => Harm::Stale(self.seed()),
            2 => Harm::Missing(self.seed()),
            3 => Harm::Flipped(self.seed()),
            4 => Harm::Cut(self.seed()),
            _ => Harm::Spared,
        }
    }

    fn row(&mut self) -> KeyNo {
        (ROWS + 1 + self.below(FAMILIES), self.below(IDS_OF_ROWS))
    }

    fn put(&mut self, row: KeyNo) -> RowPut {
        let byte = self.next();
        let want = match byte % 8 {
            0 => Want::Absent,
            1 | 2 => Want::Current,
            3 => Want::Stale,
            _ => Want::Anything,
        };
        RowPut { row, want, delete: (byte / 8).is_multiple_of(4) }
    }

    fn op_of_rows(&mut self, byte: u8) -> Op {
        match byte {
            0..=9 => {
                let row = self.row();
                Op::Commit { puts: vec![self.put(row)], ttl: self.ttl(), level: self.level() }
            }
            10..=17 => {
                let (family, first) = self.row();
                let rows = 2 + self.below(3);
                // Several rows that all expect what is there, or else most commits would be refused.
                let want = [Want::Anything, Want::Current][usize::from(self.below(2))];
                let puts = (0..rows).map(|n| {
                    let row = (family, (first + n) % IDS_OF_ROWS);
                    let put = self.put(row);
                    RowPut { want: if put.want == Want::Stale { put.want } else { want }, ..put }
                });
                Op::Commit { puts: puts.collect(), ttl: self.ttl(), level: self.level() }
            }
            18..=23 => Op::Churn { row: self.row(), times: 4 + self.below(24) },
            24 | 25 => Op::GetRow { row: self.row() },
            _ => Op::List { family: self.row().0 },
        }
    }

    fn op(&mut self) -> Op {
        // Rows came later. They have the bytes that began a fourth round of what follows, so that stored corpora keep
        // their meaning.
        let byte = self.next();
        if byte >= ROWS_FROM {
            return self.op_of_rows(byte - ROWS_FROM);
        }
        match byte % 76 {
            0..=15 => Op::Claim { key: self.key(), ttl: self.ttl(), level: self.level() },
            16..=22 => Op::Batch {
                ns: self.below(NAMESPACES),
                ids: self.ids(9),
                ttl: self.ttl(),
                level: self.level(),
            },
            23..=25 => {
                Op::Reserve { ns: self.below(NAMESPACES), ids: self.ids(6), level: self.level() }
            }
            26..=27 => Op::Confirm { slot: self.below(3) },
            28 => Op::Release { slot: self.below(3) },
            29..=33 => Op::Forget { key: self.key() },
            34..=36 => Op::Get { key: self.key() },
            37 => Op::Sync,
            38..=39 => Op::Background,
            40 => Op::Freeze,
            41..=45 => Op::Flush,
            46..=51 => {
                let ms = [0, 1, 2, 10, 999, 1_000, 1_500, 5_000, 20_000, 60_000, 3_600_000];
                let ms = ms.into_iter().chain([86_400_000]);
                Op::Advance { ms: ms.clone().nth(usize::from(self.below(12))).unwrap_or(0) }
            }
            52 => Op::JumpBack { ms: [1, 500, 5_000, 600_000][usize::from(self.below(4))] },
            53..=55 => Op::Reopen {
                shards: match self.below(10) {
                    0 => Some(1),
                    1 => Some(4),
                    2 => Some(8),
                    _ => None,
                },
                harm: self.harm(),
            },
            56..=57 => Op::Kill,
            58..=60 => Op::PowerCut { seed: self.seed(), harm: self.harm() },
            61 => Op::Harm(self.harm()),
            62 => Op::Verify,
            63..=64 => Op::Export,
            65..=67 => {
                let sways = [Sway::Ahead, Sway::Ahead, Sway::LittleAhead, Sway::Back];
                Op::Sway(sways[usize::from(self.below(4))])
            }
            68..=70 => Op::Import { ns: self.below(NAMESPACES), skew: self.below(4) },
            71 => Op::Carry,
            72..=73 => Op::Settings {
                ns: self.below(NAMESPACES),
                ttl: [FOREVER, 5_000, 20_000, 1_000][usize::from(self.below(4))],
                sliding: self.below(2) == 0,
            },
            74 => Op::Repair { lose_manifest: self.below(2) == 0 },
            _ => Op::CloseHeld,
        }
    }

    /// Decodes a list: the setup, then operations until the bytes end, at most `max`.
    pub(crate) fn list(mut self, max: usize) -> (Setup, Vec<Op>) {
        let level = match self.below(4) {
            0 => Level::Buffered,
            3 => Level::Disk,
            _ => Level::Process,
        };
        // One byte for both, so that stored corpora and seeds keep their meaning.
        let both = self.below(4);
        let (shards, segment) = (usize::from(self.below(4)), usize::from(self.below(4)));
        let memtable = usize::from(self.below(8));
        let setup = Setup {
            level,
            mapping: both.is_multiple_of(2),
            has_locators: both / 2 == 0,
            shards: [1, 1, 2, 8][shards],
            segment_bytes: [6_000, 6_500, 8_192, 65_536][segment],
            memtable_bytes: [600, 1_500, 8_000, 8_000][memtable % 4],
            lanes: memtable >= 4,
        };
        let mut ops = Vec::new();
        while ops.len() < max && !self.rest.is_empty() {
            ops.push(self.op());
        }
        (setup, ops)
    }
}

/// Random numbers from a seed (splitmix64).
#[derive(Debug, Clone)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// The operations of a seed.
pub(crate) fn generate(seed: u64, ops_max: usize) -> (Setup, Vec<Op>) {
    let mut rng = Rng(seed);
    let len = 16 + rng.below(ops_max as u64 * 5) as usize;
    let bytes: Vec<u8> = (0..len).map(|_| rng.next() as u8).collect();
    Bytes::new(&bytes).list(ops_max)
}
