//! Reserved ids: held by a caller but not yet claimed. In memory only; a crash releases them all. So does whatever a
//! prepared transaction holds, and opening holds it again.
//!
//! Entries are stored back to back in one buffer, indexed by a table of offsets: reservations come and go by the
//! thousand, and one allocation for each would cost more than everything else.
//!
//! ```text
//! holder u64 | since u64 | namespace u32 | id length u16 | id
//! ```

use crate::id::{IdHash, IdHasher, Key, NsId};
use hashbrown::HashTable;
use std::collections::BinaryHeap;

const HEAD: usize = 22;

/// Bytes of released entries tolerated before the buffer is rewritten.
const GARBAGE_BYTES: usize = 64 << 10;

/// Holders from here on are prepared transactions, not reservations.
const PREPARED: u64 = 1 << 63;

/// Returns the holder of what a prepared transaction holds, by the sequence of its row.
pub(crate) fn prepared_holder(sequence: u64) -> u64 {
    PREPARED | sequence
}

pub(crate) fn is_prepared(holder: u64) -> bool {
    holder & PREPARED != 0
}

/// A listed reservation. Ordered by age, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HeldKey {
    /// When it was reserved, in milliseconds of the clock's elapsed time.
    pub(crate) since_ms: u64,
    pub(crate) ns: NsId,
    pub(crate) id: Vec<u8>,
}

#[derive(Debug, Default)]
pub(crate) struct ReservedSet {
    table: HashTable<u32>,
    bytes: Vec<u8>,
    garbage: usize,
    /// How many entries are of prepared transactions.
    prepared: usize,
}

fn holder_in(bytes: &[u8], at: u32) -> u64 {
    let at = at as usize;
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn since_in(bytes: &[u8], at: u32) -> u64 {
    let at = at as usize + 8;
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn key_in(bytes: &[u8], at: u32) -> Key<'_> {
    let entry = &bytes[at as usize..];
    let ns = u32::from_le_bytes(entry[16..20].try_into().expect("four bytes"));
    let len = u16::from_le_bytes(entry[20..22].try_into().expect("two bytes"));
    Key { ns: NsId(ns), id: &entry[HEAD..HEAD + usize::from(len)] }
}

impl ReservedSet {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Returns how many ids are reserved; what is prepared does not count.
    pub(crate) fn len(&self) -> usize {
        self.table.len() - self.prepared
    }

    /// Returns the holder of the id, if any.
    #[inline]
    pub(crate) fn holder(&self, key: Key<'_>, hash: IdHash) -> Option<u64> {
        if self.table.is_empty() {
            return None;
        }
        let at = self.table.find(hash.table(), |at| key_in(&self.bytes, *at) == key)?;
        Some(holder_in(&self.bytes, *at))
    }

    /// Reserves an id that is not reserved.
    pub(crate) fn insert(
        &mut self,
        key: Key<'_>,
        hash: IdHash,
        holder: u64,
        since_ms: u64,
        hasher: &IdHasher,
    ) {
        if self.garbage > GARBAGE_BYTES && self.garbage > self.bytes.len() / 2 {
            self.write_anew();
        }
        self.prepared += usize::from(is_prepared(holder));
        let at = self.bytes.len() as u32;
        self.bytes.extend_from_slice(&holder.to_le_bytes());
        self.bytes.extend_from_slice(&since_ms.to_le_bytes());
        self.bytes.extend_from_slice(&key.ns.0.to_le_bytes());
        self.bytes.extend_from_slice(&(key.id.len() as u16).to_le_bytes());
        self.bytes.extend_from_slice(key.id);
        let bytes = &self.bytes;
        self.table.insert_unique(hash.table(), at, |at| hasher.hash(key_in(bytes, *at)).table());
    }

    /// Releases an id, if it is held by `holder`.
    pub(crate) fn remove(&mut self, key: Key<'_>, hash: IdHash, holder: u64) {
        let bytes = &self.bytes;
        let held = |at: &u32| key_in(bytes, *at) == key && holder_in(bytes, *at) == holder;
        if let Ok(found) = self.table.find_entry(hash.table(), held) {
            found.remove();
            self.prepared -= usize::from(is_prepared(holder));
            self.garbage += HEAD + key.id.len();
        }
        if self.table.is_empty() {
            self.bytes.clear();
            self.garbage = 0;
        }
    }

    /// Returns up to `count` of the oldest reservations, in no order, of one namespace or of all. The shard is locked
    /// meanwhile, so only these are copied; the others are merely inspected.
    pub(crate) fn oldest(&self, count: usize, ns: Option<NsId>) -> Vec<HeldKey> {
        let mut oldest = BinaryHeap::new();
        for at in &self.table {
            let since = since_in(&self.bytes, *at);
            if is_prepared(holder_in(&self.bytes, *at)) {
                continue;
            }
            if ns.is_some_and(|ns| key_in(&self.bytes, *at).ns.listed() != ns) {
                continue;
            }
            // The heap's top is the youngest of those kept.
            if oldest.len() == count {
                if oldest.peek().is_none_or(|(youngest, _)| since >= *youngest) {
                    continue;
                }
                oldest.pop();
            }
            oldest.push((since, *at));
        }
        let held = |(since_ms, at): (u64, u32)| {
            let key = key_in(&self.bytes, at);
            HeldKey { since_ms, ns: key.ns, id: key.id.to_vec() }
        };
        oldest.into_iter().map(held).collect()
    }

    fn write_anew(&mut self) {
        let mut bytes = Vec::with_capacity(self.bytes.len() - self.garbage);
        for at in &mut self.table {
            let len = HEAD + key_in(&self.bytes, *at).id.len();
            let from = *at as usize;
            *at = bytes.len() as u32;
            bytes.extend_from_slice(&self.bytes[from..from + len]);
        }
        self.bytes = bytes;
        self.garbage = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Seed;
    use std::collections::HashMap;

    #[test]
    fn it_holds_what_a_map_holds() {
        let hasher = IdHasher::new(Seed([2; 16]));
        let mut set = ReservedSet::default();
        let mut model: HashMap<u64, u64> = HashMap::new();
        let mut since: HashMap<u64, u64> = HashMap::new();
        let mut x = 7u64;
        let steps = if cfg!(miri) { 500 } else { 60_000 };
        for step in 0..steps {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (number, holder) = ((x >> 33) % 500, (x >> 60) % 3);
            let id = format!("a-rather-long-event-id-{number}");
            let key = Key { ns: NsId(0), id: id.as_bytes() };
            let hash = hasher.hash(key);
            assert_eq!(set.holder(key, hash), model.get(&number).copied(), "step {step}");
            match model.get(&number).copied() {
                Some(held_by) => {
                    set.remove(key, hash, holder);
                    if held_by == holder {
                        model.remove(&number);
                    }
                }
                None => {
                    set.insert(key, hash, holder, step, &hasher);
                    model.insert(number, holder);
                    since.insert(number, step);
                }
            }
            assert_eq!(set.len(), model.len());
            if step % 997 == 0 {
                let mut expected: Vec<u64> = model.keys().map(|number| since[number]).collect();
                expected.sort_unstable();
                expected.truncate(7);
                let mut oldest: Vec<u64> =
                    set.oldest(7, None).iter().map(|held| held.since_ms).collect();
                oldest.sort_unstable();
                assert_eq!(oldest, expected, "step {step}");
            }
        }
        assert!(set.bytes.len() < 4 * GARBAGE_BYTES, "released entries do not pile up");
    }
}
