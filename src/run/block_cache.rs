//! Blocks cached in memory: read once, validated once.
//!
//! sled packs sixteen of our values into one page and reads the whole page to return one, so a read that misses
//! sled's cache costs microseconds. Blocks are immutable, so a validated copy stays good as long as its run exists.
//! Eviction is CLOCK (Corbato, 1968): the hand sweeps the slots and spares those used since its last pass.

use crate::blocks::BlockId;
use crate::run::block::likely_at;
use hashbrown::HashTable;

/// A bounded block cache. One per shard, under the shard's lock.
#[derive(Debug)]
pub(crate) struct BlockCache {
    table: HashTable<u32>,
    slots: Vec<Slot>,
    hand: usize,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Slot {
    id: BlockId,
    bytes: Box<[u8]>,
    used: bool,
}

/// Memory overhead of a slot, block excluded.
const SLOT_BYTES: usize = size_of::<Slot>() + 8;

/// The prefetch steps from a slot to an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Slot,
    Head,
    Id,
}

impl Step {
    pub(crate) const ALL: [Self; 3] = [Self::Slot, Self::Head, Self::Id];
}

fn hash(id: BlockId) -> u64 {
    let mixed = (id.run ^ u64::from(id.bucket) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 29
}

impl BlockCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { table: HashTable::new(), slots: Vec::new(), hand: 0, bytes: 0, bytes_max }
    }

    /// Returns the memory used, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the block if it is cached. It was validated before it was inserted.
    #[inline]
    pub(crate) fn get(&mut self, id: BlockId) -> Option<&[u8]> {
        let at = *self.table.find(hash(id), |at| self.slots[*at as usize].id == id)?;
        let slot = &mut self.slots[at as usize];
        slot.used = true;
        Some(&slot.bytes)
    }

    /// Returns the slot that probably holds the block, as a hint for [`prefetch`](Self::prefetch).
    #[inline]
    pub(crate) fn spot(&self, id: BlockId) -> Option<u32> {
        self.table.find(hash(id), |_| true).copied()
    }

    /// Touches a byte that a lookup in the block at `spot` will read. Each step goes one level deeper and needs what
    /// the previous one loaded. `position` is that of the id in the block, in units of 1/2^32 of its length.
    #[inline]
    pub(crate) fn prefetch(&self, step: Step, spot: u32, position: u32, id_bytes: usize) -> u64 {
        let bytes = &self.slots[spot as usize].bytes;
        let byte = |at: usize| bytes.get(at).map_or(0, |byte| u64::from(*byte));
        match step {
            Step::Slot => bytes.len() as u64,
            Step::Head => byte(0),
            Step::Id => byte(likely_at(bytes, position, id_bytes)),
        }
    }

    /// Caches a validated block, evicting others as needed.
    pub(crate) fn insert(&mut self, id: BlockId, bytes: impl Into<Box<[u8]>> + AsRef<[u8]>) {
        let need = bytes.as_ref().len() + SLOT_BYTES;
        if need > self.bytes_max || self.get(id).is_some() {
            return;
        }
        while self.bytes + need > self.bytes_max && !self.slots.is_empty() {
            self.hand %= self.slots.len();
            let slot = &mut self.slots[self.hand];
            if std::mem::take(&mut slot.used) {
                self.hand += 1;
            } else {
                self.remove(self.hand);
            }
        }
        let at = self.slots.len() as u32;
        self.slots.push(Slot { id, bytes: bytes.into(), used: false });
        self.bytes += need;
        let slots = &self.slots;
        self.table.insert_unique(hash(id), at, |at| hash(slots[*at as usize].id));
    }

    /// Drops the blocks of obsolete runs.
    pub(crate) fn retain_runs(&mut self, keep: impl Fn(u64) -> bool) {
        let mut at = 0;
        while at < self.slots.len() {
            if keep(self.slots[at].id.run) {
                at += 1;
            } else {
                self.remove(at);
            }
        }
    }

    /// Removes a slot; the last one takes its place.
    fn remove(&mut self, at: usize) {
        let last = self.slots.len() - 1;
        let last_id = self.slots[last].id;
        if let Ok(entry) = self.table.find_entry(hash(self.slots[at].id), |i| *i as usize == at) {
            entry.remove();
        }
        if let Some(moved) = self.table.find_mut(hash(last_id), |i| *i as usize == last) {
            *moved = at as u32;
        }
        let gone = self.slots.swap_remove(at);
        self.bytes -= gone.bytes.len() + SLOT_BYTES;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(run: u64, bucket: u32) -> BlockId {
        BlockId { run, bucket }
    }

    #[test]
    fn it_keeps_to_its_bound_and_spares_what_is_used() {
        let mut cache = BlockCache::new(100 * (50 + SLOT_BYTES));
        for bucket in 0..1000 {
            cache.insert(id(1, bucket), &[bucket as u8; 50][..]);
            assert!(cache.bytes() <= 100 * (50 + SLOT_BYTES));
            if bucket > 0 {
                assert_eq!(cache.get(id(1, 0)), Some(&[0; 50][..]), "used all the time");
            }
        }
        let kept: Vec<u32> = (0..1000).filter(|b| cache.get(id(1, *b)).is_some()).collect();
        assert_eq!(kept.len(), 100);
        for bucket in kept {
            assert_eq!(cache.get(id(1, bucket)), Some(&[bucket as u8; 50][..]));
        }
        cache.insert(id(2, 0), vec![0; 1 << 20]);
        assert_eq!(cache.get(id(2, 0)), None, "larger than everything");
    }

    #[test]
    fn blocks_go_with_their_run() {
        let mut cache = BlockCache::new(1 << 20);
        for bucket in 0..100 {
            cache.insert(id(u64::from(bucket) % 3, bucket), &[1; 10][..]);
        }
        cache.retain_runs(|run| run == 2);
        for bucket in 0..100 {
            let run = u64::from(bucket) % 3;
            assert_eq!(cache.get(id(run, bucket)).is_some(), run == 2);
        }
    }
}
