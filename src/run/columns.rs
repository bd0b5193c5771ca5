//! What blocks and locators share: a head, and columns with everything about an entry except its id.
//!
//! ```text
//! crc      u32   CRC32C of the rest, started from the store's salt
//! version  u8
//! flags    u8    1: all ids have one length; 2: a namespace column; 4: a step column; 8: the ids are in the log;
//!                16: rows, with locations of their items
//! widths   u8    bytes per entry of rank (low four bits) and of deadline (high four)
//! width    u8    bytes per location; zero in a block of claims
//! run      u64
//! bucket   u32
//! count    u32
//! base     u64   subtracted from ranks and deadlines
//! columns: id lengths (u16 each, or one), namespaces (u32 each), ranks, deadlines, steps (u16 each)
//! of rows: least location (u64), locations minus that, sizes of items (u32 each)
//! ```
//!
//! Columns have fixed widths, so reading an entry takes one value from each. A deadline is stored plus one; zero
//! means "never". Entries are in hash order.
//!
//! The checksum starts from the store's seed and covers run, bucket and count, so a block that is missing, stale,
//! damaged, misplaced or from another store is detected by the read that needs it (I10).

use crate::blocks::BlockId;
use crate::codec::Reader;
use crate::expiry::{Class, Version};
use crate::id::{Key, NsId, Seed};
use crate::time::Timestamp;
use crate::wal::{ItemAt, Lsn};

const VERSION: u8 = 2;
const ONE_LENGTH: u8 = 1;
const HAS_NS: u8 = 2;
const HAS_STEPS: u8 = 4;
/// The ids are not stored here: they are in the log.
const IN_LOG: u8 = 8;
const ROWS: u8 = 16;
pub(super) const HEAD: usize = 32;
const FLAGS_AT: usize = 5;
const WIDTH_AT: usize = 7;
const COUNT_AT: usize = 20;

/// Why a block cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockDamage(pub(crate) &'static str);

pub(super) fn crc(seed: Seed, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&seed.0), bytes)
}

/// Fills in the checksum.
pub(super) fn put_checksum(seed: Seed, out: &mut [u8]) {
    let crc = crc(seed, &out[4..]);
    out[..4].copy_from_slice(&crc.to_le_bytes());
}

/// Collects everything about the entries except their ids.
#[derive(Debug, Default)]
pub(super) struct Entries {
    lens: Vec<u16>,
    ns: Vec<u32>,
    versions: Vec<Version>,
    /// Where the items of rows are in the log; empty for claims.
    items: Vec<ItemAt>,
}

impl Entries {
    pub(super) fn push(&mut self, key: Key<'_>, version: Version) {
        self.lens.push(key.id.len() as u16);
        self.ns.push(key.ns.0);
        self.versions.push(version);
    }

    pub(super) fn push_row(&mut self, key: Key<'_>, version: Version, at: ItemAt) {
        self.push(key, version);
        self.items.push(at);
    }

    pub(super) fn len(&self) -> usize {
        self.lens.len()
    }

    pub(super) fn clear(&mut self) {
        self.lens.clear();
        self.ns.clear();
        self.versions.clear();
        self.items.clear();
    }

    /// Encodes head and columns of a block, leaving the checksum zero. `more` is the number of bytes that will follow.
    pub(super) fn encode(&self, id: BlockId, more: usize) -> Vec<u8> {
        let one_length = self.lens.windows(2).all(|w| w[0] == w[1]) && !self.lens.is_empty();
        let has_ns = self.ns.iter().any(|ns| *ns != 0);
        let has_steps = self.versions.iter().any(|v| v.step != 0);
        let ranks = self.versions.iter().map(|v| v.rank);
        let base = ranks.clone().min().unwrap_or(0);
        let base =
            self.deadlines().filter(|d| *d != 0).map(|d| d - 1).min().map_or(base, |d| d.min(base));
        let deadline = |d: u64| if d == 0 { 0 } else { d - base };
        let rank_width = width(ranks.clone().max().map_or(0, |rank| rank - base));
        let deadline_width = width(self.deadlines().map(deadline).max().unwrap_or(0));

        debug_assert!(
            self.items.is_empty() || self.items.len() == self.lens.len(),
            "rows or claims"
        );
        let least = self.items.iter().map(|at| at.end.0).min();
        let location = |at: &ItemAt| at.end.0 - least.unwrap_or(0);
        let item_width = width(self.items.iter().map(location).max().unwrap_or(0)) as u8;

        let lens = if one_length { &self.lens[..1] } else { &self.lens[..] };
        let of_each = rank_width
            + deadline_width
            + if has_ns { size_of::<u32>() } else { 0 }
            + if has_steps { size_of::<u16>() } else { 0 };
        let of_items = self.items.len() * (usize::from(item_width) + size_of::<u32>());
        let columns = size_of_val(lens) + self.lens.len() * of_each + of_items;
        // Exactly: most blocks are kept, and what is too much would be given back.
        let mut out = Vec::with_capacity(HEAD + columns + size_of::<u64>() * 2 + more);
        out.extend_from_slice(&[0; 4]);
        out.push(VERSION);
        out.push(
            (if one_length { ONE_LENGTH } else { 0 })
                | (if has_ns { HAS_NS } else { 0 })
                | (if has_steps { HAS_STEPS } else { 0 })
                | least.map_or(0, |_| ROWS),
        );
        out.push(rank_width as u8 | (deadline_width as u8) << 4);
        out.push(item_width);
        out.extend_from_slice(&id.run.to_le_bytes());
        out.extend_from_slice(&id.bucket.to_le_bytes());
        out.extend_from_slice(&(self.lens.len() as u32).to_le_bytes());
        out.extend_from_slice(&base.to_le_bytes());
        lens.iter().for_each(|len| out.extend_from_slice(&len.to_le_bytes()));
        if has_ns {
            self.ns.iter().for_each(|ns| out.extend_from_slice(&ns.to_le_bytes()));
        }
        put_column(&mut out, rank_width, ranks.map(|rank| rank - base));
        put_column(&mut out, deadline_width, self.deadlines().map(deadline));
        if has_steps {
            self.versions.iter().for_each(|v| out.extend_from_slice(&v.step.to_le_bytes()));
        }
        if let Some(least) = least {
            out.extend_from_slice(&least.to_le_bytes());
            put_column(&mut out, usize::from(item_width), self.items.iter().map(location));
            self.items.iter().for_each(|at| out.extend_from_slice(&at.len.to_le_bytes()));
        }
        out
    }

    /// Returns head and columns of the locator that goes with this block of claims, leaving the checksum zero: they are those
    /// of the block. `more` is the number of bytes that will follow.
    pub(super) fn of_locator(&self, block: &[u8], location_width: u8, more: usize) -> Vec<u8> {
        let ids: usize = self.lens.iter().map(|len| usize::from(*len)).sum();
        let columns = &block[..block.len() - ids];
        let mut out = Vec::with_capacity(columns.len() + more);
        out.extend_from_slice(columns);
        out[..4].fill(0);
        out[FLAGS_AT] |= IN_LOG;
        out[WIDTH_AT] = location_width;
        out
    }

    /// Returns the deadlines as stored: plus one, zero for "never".
    fn deadlines(&self) -> impl ExactSizeIterator<Item = u64> + '_ {
        self.versions
            .iter()
            .map(|v| if v.deadline == Timestamp::NEVER { 0 } else { v.deadline.as_millis() + 1 })
    }
}

/// Returns how many bytes a number takes.
pub(super) fn width(max: u64) -> usize {
    (64 - max.leading_zeros() as usize).div_ceil(8)
}

/// Appends numbers of this width. All are written with eight bytes, of which the next one covers those above the width: a
/// copy of a length known only here is a call for each.
pub(super) fn put_column(
    out: &mut Vec<u8>,
    width: usize,
    numbers: impl ExactSizeIterator<Item = u64>,
) {
    let (begin, bytes) = (out.len(), numbers.len() * width);
    out.resize(begin + bytes + 8, 0);
    for (n, number) in numbers.enumerate() {
        let at = begin + n * width;
        out[at..at + 8].copy_from_slice(&number.to_le_bytes());
    }
    out.truncate(begin + bytes);
}

/// Validated columns; what follows them is not validated.
#[derive(Debug, Clone)]
pub(super) struct Columns<'a> {
    pub(super) count: usize,
    base: u64,
    class: Class,
    rank_width: usize,
    deadline_width: usize,
    lens: &'a [u8],
    /// Whether all ids have one length.
    has_one_length: bool,
    ns: &'a [u8],
    ranks: &'a [u8],
    deadlines: &'a [u8],
    steps: &'a [u8],
    /// The items of rows; `None` for claims.
    items: Option<Items<'a>>,
    /// Bytes of a location; zero in a block of claims.
    pub(super) location_width: usize,
    /// What follows the columns.
    pub(super) rest: &'a [u8],
}

/// Where the items of rows are.
#[derive(Debug, Clone, Copy)]
struct Items<'a> {
    least: u64,
    locations: &'a [u8],
    sizes: &'a [u8],
}

/// Reads the entry count from an unvalidated head.
#[inline]
pub(super) fn count_of(bytes: &[u8]) -> usize {
    bytes.get(COUNT_AT..COUNT_AT + 4).map_or(0, |count| uint(count) as usize)
}

/// What the caller expects to decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Block,
    Locator,
}

impl<'a> Columns<'a> {
    /// Validates the bytes stored under `id`. `class` is that of the run's generation.
    pub(super) fn open(
        bytes: &'a [u8],
        kind: Kind,
        id: BlockId,
        class: Class,
        seed: Seed,
    ) -> Result<Self, BlockDamage> {
        let (sum, rest) = bytes.split_first_chunk::<4>().ok_or(BlockDamage("it is too short"))?;
        if u32::from_le_bytes(*sum) != crc(seed, rest) {
            return Err(BlockDamage("it does not match its checksum"));
        }
        Self::parse(rest, kind, id, class)
    }

    /// Parses what follows the checksum.
    pub(super) fn parse(
        bytes: &'a [u8],
        kind: Kind,
        id: BlockId,
        class: Class,
    ) -> Result<Self, BlockDamage> {
        Self::try_parse(bytes, kind, id, class)
            .unwrap_or(Err(BlockDamage("its columns do not fit its length")))
    }

    fn try_parse(
        bytes: &'a [u8],
        kind: Kind,
        id: BlockId,
        class: Class,
    ) -> Option<Result<Self, BlockDamage>> {
        let mut r = Reader::new(bytes);
        if r.u8()? != VERSION {
            return Some(Err(BlockDamage("it has another version")));
        }
        let flags = r.u8()?;
        let widths = r.u8()?;
        let location_width = usize::from(r.u8()?);
        if (flags & IN_LOG != 0) != (kind == Kind::Locator) {
            return Some(Err(BlockDamage("it is of another kind")));
        }
        if (BlockId { run: r.u64()?, bucket: r.u32()? }) != id {
            return Some(Err(BlockDamage("it belongs elsewhere")));
        }
        let count = r.u32()? as usize;
        let base = r.u64()?;
        let (rank_width, deadline_width) = (usize::from(widths & 15), usize::from(widths >> 4));
        let has_one_length = flags & ONE_LENGTH != 0;
        let lens = r.bytes(if has_one_length { 2 } else { count.checked_mul(2)? })?;
        let ns = r.bytes(if flags & HAS_NS == 0 { 0 } else { count.checked_mul(4)? })?;
        let ranks = r.bytes(count.checked_mul(rank_width)?)?;
        let deadlines = r.bytes(count.checked_mul(deadline_width)?)?;
        let steps = r.bytes(if flags & HAS_STEPS == 0 { 0 } else { count.checked_mul(2)? })?;
        if rank_width > 8 || deadline_width > 8 || location_width > 8 {
            return None;
        }
        let items = if flags & ROWS == 0 {
            None
        } else {
            let least = r.u64()?;
            let locations = r.bytes(count.checked_mul(location_width)?)?;
            Some(Items { least, locations, sizes: r.bytes(count.checked_mul(4)?)? })
        };
        let rest = r.rest();
        Some(Ok(Self {
            count,
            base,
            class,
            rank_width,
            deadline_width,
            lens,
            has_one_length,
            ns,
            ranks,
            deadlines,
            steps,
            items,
            location_width,
            rest,
        }))
    }

    /// Returns the length of the ids if they all have the same one.
    pub(super) fn one_length(&self) -> Option<usize> {
        self.has_one_length.then(|| uint(self.lens) as usize)
    }

    #[inline]
    pub(super) fn len_at(&self, i: usize) -> usize {
        let at = if self.has_one_length { 0 } else { 2 * i };
        usize::from(u16::from_le_bytes([self.lens[at], self.lens[at + 1]]))
    }

    /// Returns the total size of the ids in bytes, or `None` on overflow.
    pub(super) fn id_bytes(&self) -> Option<usize> {
        match self.one_length() {
            Some(len) => len.checked_mul(self.count),
            None => Some((0..self.count).map(|i| self.len_at(i)).sum()),
        }
    }

    #[inline]
    pub(super) fn ns_at(&self, i: usize) -> NsId {
        if self.ns.is_empty() { NsId(0) } else { NsId(uint(&self.ns[4 * i..4 * i + 4]) as u32) }
    }

    /// Returns where the item of a row is; `None` for a claim.
    pub(super) fn item_at(&self, i: usize) -> Option<ItemAt> {
        let Items { least, locations, sizes } = self.items?;
        let width = self.location_width;
        let end = least.saturating_add(uint(&locations[i * width..(i + 1) * width]));
        Some(ItemAt { end: Lsn(end), len: uint(&sizes[4 * i..4 * i + 4]) as u32 })
    }

    pub(super) fn version_at(&self, i: usize) -> Version {
        let (r, d) = (self.rank_width, self.deadline_width);
        let rank = uint(&self.ranks[i * r..(i + 1) * r]);
        let deadline = match uint(&self.deadlines[i * d..(i + 1) * d]) {
            0 => Timestamp::NEVER,
            d => Timestamp::from_millis(self.base.saturating_add(d - 1)),
        };
        Version {
            rank: self.base.saturating_add(rank),
            deadline,
            class: self.class,
            step: self.steps.get(2 * i..2 * i + 2).map_or(0, |step| uint(step) as u16),
        }
    }
}

/// Iterates over all numbers below `count`, those nearest to `at` first. Entries are in hash order and hashes are
/// uniform, so an entry lies near the position its hash predicts: start there and search outward. (Interpolation
/// search: Peterson, 1957.)
#[inline]
pub(super) fn outward(at: usize, count: usize) -> impl Iterator<Item = usize> {
    let (mut up, mut down) = (at, at);
    let mut upward = false;
    std::iter::from_fn(move || {
        upward = up < count && (!upward || down == 0);
        if upward {
            up += 1;
            return Some(up - 1);
        }
        down = down.checked_sub(1)?;
        Some(down)
    })
}

/// Returns the expected index among `count` entries for a hash `position` in units of 1/2^32.
#[inline]
pub(super) fn expected(position: u32, count: usize) -> usize {
    ((u64::from(position) * count as u64) >> 32) as usize
}

pub(super) fn uint(bytes: &[u8]) -> u64 {
    let mut wide = [0; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(wide)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_outward_goes_everywhere_and_to_the_nearest_first() {
        assert_eq!(outward(2, 6).collect::<Vec<_>>(), [2, 1, 3, 0, 4, 5]);
        for count in 0..20 {
            for at in 0..=count {
                let mut seen: Vec<_> = outward(at, count).collect();
                assert!(seen.is_sorted_by_key(|i| i.abs_diff(at)), "{at} of {count}");
                seen.sort_unstable();
                assert!(seen.into_iter().eq(0..count), "{at} of {count}");
            }
        }
    }
}
