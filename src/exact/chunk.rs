//! A chunk: the ids of one bucket of one run, a few kilobytes, kept as one value of the chunk store.
//!
//! ```text
//! crc      u32   CRC32C of the rest, started from the store's salt
//! version  u8
//! flags    u8    1: ids have one length; 2: a namespace column; 4: a step column
//! widths   u8    bytes per entry of first seen (low four bits) and of deadline (high four)
//! zero     u8
//! run      u64
//! bucket   u32
//! count    u32
//! base     u64   subtracted from the times
//! columns: id lengths (u16 each, or one), namespaces (u32 each), first seen, deadlines, steps
//!          (u16 each), ids one behind the other
//! ```
//!
//! Columns have fixed widths, so finding an id compares ids and then reads one place of each column. A
//! deadline is stored plus one, and zero stands for "never". Ids stand in hash order.
//!
//! Run, bucket and count are in the chunk and under its checksum, and the checksum starts from the
//! store's seed: a chunk that is missing, stale, damaged, misplaced or another store's is noticed at
//! the read that needs it (I10).

use crate::chunks::ChunkId;
use crate::codec::Reader;
use crate::expiry::{Class, Version};
use crate::id::{Key, NsId, Seed};
use crate::time::Timestamp;

const VERSION: u8 = 1;
const ONE_LENGTH: u8 = 1;
const HAS_NS: u8 = 2;
const HAS_STEPS: u8 = 4;
const HEAD: usize = 32;

/// Why a chunk cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunkDamage(pub(crate) &'static str);

fn crc(seed: Seed, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&seed.0), bytes)
}

/// Collects the entries of one chunk.
#[derive(Debug, Default)]
pub(crate) struct ChunkWriter {
    ids: Vec<u8>,
    lens: Vec<u16>,
    ns: Vec<u32>,
    versions: Vec<Version>,
}

impl ChunkWriter {
    pub(crate) fn push(&mut self, key: Key<'_>, version: Version) {
        self.ids.extend_from_slice(key.id);
        self.lens.push(key.id.len() as u16);
        self.ns.push(key.ns.0);
        self.versions.push(version);
    }

    /// Writes the chunk and starts the next.
    pub(crate) fn finish(&mut self, id: ChunkId, seed: Seed) -> Vec<u8> {
        let one_length = self.lens.windows(2).all(|w| w[0] == w[1]) && !self.lens.is_empty();
        let has_ns = self.ns.iter().any(|ns| *ns != 0);
        let has_steps = self.versions.iter().any(|v| v.step != 0);
        let first_seen = self.versions.iter().map(|v| v.first_seen.as_millis());
        let base = first_seen.clone().min().unwrap_or(0);
        let base =
            self.deadlines().filter(|d| *d != 0).map(|d| d - 1).min().map_or(base, |d| d.min(base));
        let deadline = |d: u64| if d == 0 { 0 } else { d - base };
        let seen_width = width(first_seen.clone().max().map_or(0, |t| t - base));
        let deadline_width = width(self.deadlines().map(deadline).max().unwrap_or(0));

        let mut out = Vec::with_capacity(HEAD + self.ids.len() + self.lens.len() * 16);
        out.extend_from_slice(&[0; 4]);
        out.push(VERSION);
        out.push(
            (if one_length { ONE_LENGTH } else { 0 })
                | (if has_ns { HAS_NS } else { 0 })
                | (if has_steps { HAS_STEPS } else { 0 }),
        );
        out.push(seen_width as u8 | (deadline_width as u8) << 4);
        out.push(0);
        out.extend_from_slice(&id.run.to_le_bytes());
        out.extend_from_slice(&id.bucket.to_le_bytes());
        out.extend_from_slice(&(self.lens.len() as u32).to_le_bytes());
        out.extend_from_slice(&base.to_le_bytes());
        let lens = if one_length { &self.lens[..1] } else { &self.lens[..] };
        lens.iter().for_each(|len| out.extend_from_slice(&len.to_le_bytes()));
        if has_ns {
            self.ns.iter().for_each(|ns| out.extend_from_slice(&ns.to_le_bytes()));
        }
        for t in first_seen {
            out.extend_from_slice(&(t - base).to_le_bytes()[..seen_width]);
        }
        for d in self.deadlines() {
            out.extend_from_slice(&deadline(d).to_le_bytes()[..deadline_width]);
        }
        if has_steps {
            self.versions.iter().for_each(|v| out.extend_from_slice(&v.step.to_le_bytes()));
        }
        out.extend_from_slice(&self.ids);
        let crc = crc(seed, &out[4..]);
        out[..4].copy_from_slice(&crc.to_le_bytes());
        self.ids.clear();
        self.lens.clear();
        self.ns.clear();
        self.versions.clear();
        out
    }

    /// Deadlines as they are stored: plus one, zero for "never".
    fn deadlines(&self) -> impl Iterator<Item = u64> + '_ {
        self.versions
            .iter()
            .map(|v| if v.deadline == Timestamp::NEVER { 0 } else { v.deadline.as_millis() + 1 })
    }
}

fn width(max: u64) -> usize {
    (64 - max.leading_zeros() as usize).div_ceil(8)
}

/// A chunk that has passed every check.
#[derive(Debug, Clone)]
pub(crate) struct ChunkReader<'a> {
    count: usize,
    base: u64,
    class: Class,
    seen_width: usize,
    deadline_width: usize,
    one_length: Option<usize>,
    lens: &'a [u8],
    ns: &'a [u8],
    seen: &'a [u8],
    deadlines: &'a [u8],
    steps: &'a [u8],
    ids: &'a [u8],
}

impl<'a> ChunkReader<'a> {
    /// Checks the bytes found under `id`. `class` is that of the run's generation.
    pub(crate) fn open(
        bytes: &'a [u8],
        id: ChunkId,
        class: Class,
        seed: Seed,
    ) -> Result<Self, ChunkDamage> {
        let (sum, rest) = bytes.split_first_chunk::<4>().ok_or(ChunkDamage("it is too short"))?;
        if u32::from_le_bytes(*sum) != crc(seed, rest) {
            return Err(ChunkDamage("it does not match its checksum"));
        }
        Self::parse_or_damage(rest, id, class)
    }

    /// Reads bytes that [`open`](Self::open) has accepted before.
    #[inline]
    pub(crate) fn open_checked(
        bytes: &'a [u8],
        id: ChunkId,
        class: Class,
    ) -> Result<Self, ChunkDamage> {
        Self::parse_or_damage(bytes.get(4..).unwrap_or_default(), id, class)
    }

    fn parse_or_damage(bytes: &'a [u8], id: ChunkId, class: Class) -> Result<Self, ChunkDamage> {
        Self::parse(bytes, id, class)
            .unwrap_or(Err(ChunkDamage("its columns do not fit its length")))
    }

    fn parse(bytes: &'a [u8], id: ChunkId, class: Class) -> Option<Result<Self, ChunkDamage>> {
        let mut r = Reader::new(bytes);
        if r.u8()? != VERSION {
            return Some(Err(ChunkDamage("it has another version")));
        }
        let flags = r.u8()?;
        let widths = r.u8()?;
        r.u8()?;
        if (ChunkId { run: r.u64()?, bucket: r.u32()? }) != id {
            return Some(Err(ChunkDamage("it belongs elsewhere")));
        }
        let count = r.u32()? as usize;
        let base = r.u64()?;
        let (seen_width, deadline_width) = (usize::from(widths & 15), usize::from(widths >> 4));
        let one_length = flags & ONE_LENGTH != 0;
        let lens = r.bytes(if one_length { 2 } else { count.checked_mul(2)? })?;
        let ns = r.bytes(if flags & HAS_NS == 0 { 0 } else { count.checked_mul(4)? })?;
        let seen = r.bytes(count.checked_mul(seen_width)?)?;
        let deadlines = r.bytes(count.checked_mul(deadline_width)?)?;
        let steps = r.bytes(if flags & HAS_STEPS == 0 { 0 } else { count.checked_mul(2)? })?;
        let ids = r.rest();
        let id_bytes: usize = match lens {
            [a, b] if one_length => usize::from(u16::from_le_bytes([*a, *b])).checked_mul(count)?,
            _ => lens.chunks_exact(2).map(|l| usize::from(u16::from_le_bytes([l[0], l[1]]))).sum(),
        };
        // No id is empty, and without this a count of billions would stand on no bytes at all.
        if one_length && id_bytes == 0 && count > 0 {
            return None;
        }
        if id_bytes != ids.len() || seen_width > 8 || deadline_width > 8 {
            return None;
        }
        let one_length = one_length.then(|| id_bytes / count.max(1));
        Some(Ok(Self {
            count,
            base,
            class,
            seen_width,
            deadline_width,
            one_length,
            lens,
            ns,
            seen,
            deadlines,
            steps,
            ids,
        }))
    }

    /// Compares byte for byte (I3). Ids stand in hash order and hashes are spread evenly, so an id stands near
    /// the `place` that its hash gives it in the chunk, in 1/2^32 of its length: the search begins there and goes
    /// outward. (Interpolation search: Peterson, 1957.)
    pub(crate) fn find(&self, key: Key<'_>, place: u32) -> Option<Version> {
        let i = match self.one_length {
            Some(len) if len != key.id.len() => return None,
            Some(len) => {
                // The last bytes as one number: a comparison of registers instead of a call for each of
                // two hundred ids. The last and not the first, because prefixes are often shared.
                let tail = tail(key.id);
                let at = ((u64::from(place) * self.count as u64) >> 32) as usize;
                outward(at, self.count).find(|i| {
                    let id = &self.ids[i * len..(i + 1) * len];
                    self::tail(id) == tail && id == key.id && self.ns_at(*i) == key.ns
                })?
            }
            None => {
                let mut at = 0;
                (0..self.count).find(|i| {
                    let id = &self.ids[at..at + self.len_at(*i)];
                    at += id.len();
                    id == key.id && self.ns_at(*i) == key.ns
                })?
            }
        };
        Some(self.version_at(i))
    }

    /// All entries, in hash order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key<'a>, Version)> + '_ {
        let mut at = 0;
        (0..self.count).map(move |i| {
            let id = &self.ids[at..at + self.len_at(i)];
            at += id.len();
            (Key { ns: self.ns_at(i), id }, self.version_at(i))
        })
    }

    fn len_at(&self, i: usize) -> usize {
        self.one_length.unwrap_or_else(|| {
            usize::from(u16::from_le_bytes([self.lens[2 * i], self.lens[2 * i + 1]]))
        })
    }

    fn ns_at(&self, i: usize) -> NsId {
        if self.ns.is_empty() { NsId(0) } else { NsId(uint(&self.ns[4 * i..4 * i + 4]) as u32) }
    }

    fn version_at(&self, i: usize) -> Version {
        let (s, d) = (self.seen_width, self.deadline_width);
        let seen = uint(&self.seen[i * s..(i + 1) * s]);
        let deadline = match uint(&self.deadlines[i * d..(i + 1) * d]) {
            0 => Timestamp::NEVER,
            d => Timestamp::from_millis(self.base.saturating_add(d - 1)),
        };
        Version {
            first_seen: Timestamp::from_millis(self.base.saturating_add(seen)),
            deadline,
            class: self.class,
            step: self.steps.get(2 * i..2 * i + 2).map_or(0, |step| uint(step) as u16),
        }
    }
}

/// The last eight bytes of an id as a number; zero for shorter ids.
#[inline]
fn tail(id: &[u8]) -> u64 {
    id.last_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// All numbers below `count`, those nearest to `at` first.
#[inline]
fn outward(at: usize, count: usize) -> impl Iterator<Item = usize> {
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

fn uint(bytes: &[u8]) -> u64 {
    let mut wide = [0; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(wide)
}

/// A door for the fuzzer: reads bytes as a chunk, once as they are and once with a good checksum.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_chunk(data: &[u8]) {
    let (id, seed) = (ChunkId { run: 0, bucket: 0 }, Seed([7; 16]));
    let mut good = data.to_vec();
    if good.len() >= 4 {
        let sum = crc(seed, &good[4..]);
        good[..4].copy_from_slice(&sum.to_le_bytes());
    }
    for bytes in [data, &good] {
        if let Ok(reader) = ChunkReader::open(bytes, id, Class(20), seed) {
            for (key, version) in reader.iter() {
                // No id is empty; a lookup need not find one.
                for place in [0, u32::MAX / 3, u32::MAX] {
                    let found = key.id.is_empty() || reader.find(key, place).is_some();
                    assert!(found, "what is listed is found");
                }
                let _ = version.generation().end();
            }
            reader.find(Key { ns: NsId(1), id: b"absent" }, 7);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Ttl;

    const ID: ChunkId = ChunkId { run: 5, bucket: 6 };
    const SEED: Seed = Seed([4; 16]);

    fn chunk(entries: &[(u32, &[u8], Version)]) -> Vec<u8> {
        let mut writer = ChunkWriter::default();
        for (ns, id, version) in entries {
            writer.push(Key { ns: NsId(*ns), id }, *version);
        }
        writer.finish(ID, SEED)
    }

    fn check(entries: &[(u32, &[u8], Version)]) -> usize {
        let bytes = chunk(entries);
        let class = entries.first().map_or(Class::FOREVER, |e| e.2.class);
        let reader = ChunkReader::open(&bytes, ID, class, SEED).expect("just written");
        let back: Vec<_> = reader.iter().map(|(k, v)| (k.ns.0, k.id, v)).collect();
        assert_eq!(back, entries);
        for (ns, id, version) in entries {
            // The place says where to begin, and never what is found.
            for place in [0, 1 << 31, u32::MAX] {
                assert_eq!(reader.find(Key { ns: NsId(*ns), id }, place), Some(*version));
                assert_eq!(reader.find(Key { ns: NsId(ns + 1), id }, place), None);
            }
        }
        assert_eq!(reader.find(Key { ns: NsId(0), id: b"absent" }, 1 << 31), None);
        bytes.len()
    }

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

    #[test]
    fn chunks_round_trip_in_every_shape() {
        let at = Timestamp::from_millis;
        let forever = Version::claim(at(1_700_000_000_000), Ttl::FOREVER);
        let day = Version::claim(at(1_700_000_000_000), Ttl::from_millis(86_400_000));
        let later = Version::claim(at(1_700_000_000_999), Ttl::from_millis(86_400_000));
        check(&[]);
        check(&[(0, b"a", forever)]);
        check(&[(0, b"aa", day), (0, b"bb", later), (0, b"cc", day)]);
        check(&[(0, b"a", day), (7, b"a", later), (0, b"", day.tombstone(at(1_700_000_000_001)))]);
        let count = if cfg!(miri) { 20 } else { 180 };
        let ids: Vec<[u8; 16]> = (0..count).map(|i| [i; 16]).collect();
        let many: Vec<_> = ids.iter().map(|id| (0, &id[..], forever)).collect();
        let bytes = check(&many);
        assert!(cfg!(miri) || bytes < 180 * 17, "little more than the ids themselves");
    }

    #[test]
    fn i10_damaged_misplaced_and_foreign_chunks_are_noticed() {
        let version = Version::claim(Timestamp::from_millis(5), Ttl::from_millis(9));
        let good = chunk(&[(0, b"id-1", version), (3, b"id-22", version)]);
        let open =
            |bytes: &[u8], id, seed| ChunkReader::open(bytes, id, version.class, seed).is_ok();
        assert!(open(&good, ID, SEED));
        assert!(!open(&good, ChunkId { run: 4, ..ID }, SEED));
        assert!(!open(&good, ChunkId { bucket: 7, ..ID }, SEED));
        assert!(!open(&good, ID, Seed([9; 16])));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!open(&bad, ID, SEED), "bit {bit}");
        }
        for len in 0..good.len() {
            assert!(!open(&good[..len], ID, SEED));
        }
    }

    /// Whatever the bytes behind a good checksum: an answer or a refusal, never a panic.
    #[test]
    fn i10_hostile_columns_do_not_panic() {
        let version = Version::claim(Timestamp::from_millis(5), Ttl::from_millis(9));
        let good = chunk(&[(0, b"id-1", version), (3, b"id-22", version)]);
        for at in 4..good.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                let sum = crc(SEED, &bad[4..]);
                bad[..4].copy_from_slice(&sum.to_le_bytes());
                if let Ok(reader) = ChunkReader::open(&bad, ID, version.class, SEED) {
                    reader.find(Key { ns: NsId(0), id: b"id-1" }, 0);
                    reader.iter().for_each(drop);
                }
            }
        }
    }
}
