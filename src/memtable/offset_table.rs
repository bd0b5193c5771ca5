//! A hash table of 32-bit offsets in which an unsuccessful lookup and the insert that follows touch one cache line.
//!
//! A line holds twelve offsets together with one hash byte for each (F14: Bronson and Shi, "Open-sourcing F14",
//! 2019). Tables that keep these bytes apart from the entries, such as hashbrown's, take a second cache miss on
//! insert, and the unlock that follows waits for it. Measurements are in docs/notes/speed.md.

/// Offsets per line.
const SLOTS: usize = 12;

/// Average load of a line, in eighths of its slots, at which the table grows.
const LOAD_MAX: usize = 7;

/// Average number of used slots per line when the table holds its planned number of entries.
const LOAD_PLANNED: usize = 9;

/// Bytes of table per entry at the planned number of entries.
pub(super) const BYTES_PER_ENTRY: usize = size_of::<Line>().div_ceil(LOAD_PLANNED);

#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line {
    /// One hash byte per entry; zero marks a free slot.
    tags: [u8; SLOTS],
    /// Entries that found this line full and went on to the next.
    passed: u32,
    offsets: [u32; SLOTS],
}

const EMPTY: Line = Line { tags: [0; SLOTS], passed: 0, offsets: [0; SLOTS] };
const _: () = assert!(size_of::<Line>() == 64, "one cache line");

/// Offsets indexed by hash. The table does not know what is stored at an offset: callers compare.
#[derive(Debug)]
pub(super) struct OffsetTable {
    lines: Vec<Line>,
    len: usize,
    /// Number of lines it was sized for.
    planned: usize,
}

/// Initial number of lines. When those fill up, grow to the planned size at once: reinserting a few hundred offsets
/// takes microseconds.
const LINES_FIRST: usize = 64;

/// The position of an offset in the table.
#[derive(Debug, Clone, Copy)]
struct Spot {
    line: usize,
    slot: usize,
}

impl OffsetTable {
    /// Creates a table sized for `entries`, which takes little memory while it holds few.
    pub(super) fn with_capacity(entries: usize) -> Self {
        let planned = entries / LOAD_PLANNED + 1;
        Self { lines: vec![EMPTY; planned.min(LINES_FIRST)], len: 0, planned }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Touches the line where a lookup starts. The value is meaningless.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) -> u64 {
        u64::from(self.lines[self.home(hash)].passed)
    }

    /// Returns the offset that a lookup would compare first, if any.
    #[inline]
    pub(super) fn first(&self, hash: u64) -> Option<u32> {
        let Line { tags, offsets, .. } = &self.lines[self.home(hash)];
        let equal = slots_with(tags, tag_of(hash));
        (equal != 0).then(|| offsets[first_slot(equal)])
    }

    /// Returns the offset with this hash that `is_it` accepts.
    #[inline]
    pub(super) fn find(&self, hash: u64, is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let Spot { line, slot } = self.spot(hash, is_it)?;
        Some(self.lines[line].offsets[slot])
    }

    /// Adds an offset. `hash_at` returns the hash for an offset; growing needs it.
    #[inline]
    pub(super) fn insert(&mut self, hash: u64, offset: u32, hash_at: impl Fn(u32) -> u64) {
        if self.len >= self.lines.len() * SLOTS * LOAD_MAX / 8 {
            self.grow(hash_at);
        }
        self.insert_at(hash, offset);
    }

    /// Removes the offset with this hash that `is_it` accepts.
    pub(super) fn remove(&mut self, hash: u64, is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let spot = self.spot(hash, is_it)?;
        let mut line = self.home(hash);
        while line != spot.line {
            self.lines[line].passed -= 1;
            line = self.next(line);
        }
        self.lines[line].tags[spot.slot] = 0;
        self.len -= 1;
        Some(self.lines[line].offsets[spot.slot])
    }

    /// Removes all offsets but keeps the allocation.
    pub(super) fn clear(&mut self) {
        self.lines.fill(EMPTY);
        self.len = 0;
    }

    #[inline]
    fn spot(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<Spot> {
        let (mut line, tag) = (self.home(hash), tag_of(hash));
        for _ in 0..self.lines.len() {
            let Line { tags, passed, offsets } = &self.lines[line];
            let mut equal = slots_with(tags, tag);
            while equal != 0 {
                let slot = first_slot(equal);
                // Only the first mark is exact, so compare the tag as well.
                if tags[slot] == tag && is_it(offsets[slot]) {
                    return Some(Spot { line, slot });
                }
                equal &= equal - 1;
            }
            if *passed == 0 {
                return None;
            }
            line = self.next(line);
        }
        None
    }

    #[inline]
    fn insert_at(&mut self, hash: u64, offset: u32) {
        let mut at = self.home(hash);
        loop {
            let line = &mut self.lines[at];
            let free = slots_with(&line.tags, 0);
            if free != 0 {
                let slot = first_slot(free);
                line.tags[slot] = tag_of(hash);
                line.offsets[slot] = offset;
                self.len += 1;
                return;
            }
            line.passed += 1;
            at = self.next(at);
        }
    }

    #[cold]
    fn grow(&mut self, hash_at: impl Fn(u32) -> u64) {
        let planned = self.planned;
        let lines = if self.lines.len() < planned { planned } else { self.lines.len() * 2 };
        let larger = Self { lines: vec![EMPTY; lines], len: 0, planned };
        let old = std::mem::replace(self, larger);
        for line in &old.lines {
            for (tag, offset) in line.tags.iter().zip(line.offsets) {
                if *tag != 0 {
                    self.insert_at(hash_at(offset), offset);
                }
            }
        }
    }

    /// Multiplies instead of dividing (Lemire, 2019), so the size need not be a power of two.
    #[inline]
    fn home(&self, hash: u64) -> usize {
        ((u64::from(hash as u32) * self.lines.len() as u64) >> 32) as usize
    }

    #[inline]
    fn next(&self, line: usize) -> usize {
        if line + 1 == self.lines.len() { 0 } else { line + 1 }
    }
}

/// Returns the hash byte stored in the line; never zero.
#[inline]
fn tag_of(hash: u64) -> u8 {
    ((hash >> 56) as u8).max(1)
}

/// Marks the slots with this tag in the top bit of each byte. The first mark is exact, later ones may be false.
/// (Finding a zero byte in a word: Mycroft, 1987.)
#[inline]
fn slots_with(tags: &[u8; SLOTS], tag: u8) -> u128 {
    const ONES: u128 = 0x0101_0101_0101_0101_0101_0101;
    let mut wide = [0; 16];
    wide[..SLOTS].copy_from_slice(tags);
    let differ = u128::from_le_bytes(wide) ^ (ONES * u128::from(tag));
    differ.wrapping_sub(ONES) & !differ & (ONES << 7)
}

#[inline]
fn first_slot(marks: u128) -> usize {
    marks.trailing_zeros() as usize / 8
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Few distinct hashes, so that lines overflow, with removals and growth.
    #[test]
    fn it_answers_as_a_map_does() {
        let rounds = if cfg!(miri) { 400 } else { 40_000 };
        for spread in [1u64, 7, 1000] {
            let hash_at = |offset: u32| {
                (u64::from(offset) % spread).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32)
            };
            let mut table = OffsetTable::with_capacity(10);
            let mut model = BTreeMap::new();
            let mut random = 1u64;
            for _ in 0..rounds {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(spread);
                let offset = (random >> 33) as u32 % 500;
                let hash = hash_at(offset);
                let found = table.find(hash, |at| at == offset);
                assert_eq!(found, model.get(&offset).copied());
                if found.is_none() {
                    table.insert(hash, offset, hash_at);
                    model.insert(offset, offset);
                } else if random & 1 == 0 {
                    assert_eq!(table.remove(hash, |at| at == offset), model.remove(&offset));
                }
                assert_eq!(table.len(), model.len());
            }
            for offset in 0..500 {
                let found = table.find(hash_at(offset), |at| at == offset);
                assert_eq!(found, model.get(&offset).copied());
            }
            table.clear();
            assert_eq!(table.len(), 0);
            assert_eq!(table.find(hash_at(1), |_| true), None);
            assert!(table.lines.iter().all(|line| line.passed == 0));
        }
    }

    #[test]
    fn the_first_mark_is_right_and_none_is_missing() {
        for tags in [[0; SLOTS], [1; SLOTS], [0, 1, 2, 255, 128, 127, 0, 1, 0, 3, 254, 0]] {
            for tag in [0, 1, 2, 3, 127, 128, 254, 255] {
                let marks = slots_with(&tags, tag);
                let first = tags.iter().position(|t| *t == tag);
                assert_eq!((marks != 0).then(|| first_slot(marks)), first);
                for (slot, is_equal) in tags.iter().map(|t| *t == tag).enumerate() {
                    assert!(!is_equal || marks >> (slot * 8 + 7) & 1 == 1, "{tags:?} {tag}");
                }
            }
        }
    }
}
