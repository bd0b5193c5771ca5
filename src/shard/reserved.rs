//! Ids that somebody works on: reserved, not yet claimed. In memory only; a crash releases them all.
//!
//! Entries stand one behind the other in one block of bytes, found by a table of offsets: reservations
//! come and go by the thousand, and an allocation for each would cost more than the rest.
//!
//! ```text
//! holder u64 | namespace u32 | id length u16 | id
//! ```

use crate::id::{IdHash, IdHasher, Key, NsId};
use hashbrown::HashTable;

const HEAD: usize = 14;

/// Bytes of released entries that are left in place before the block is written anew.
const GARBAGE_BYTES: usize = 64 << 10;

#[derive(Debug, Default)]
pub(crate) struct ReservedSet {
    table: HashTable<u32>,
    bytes: Vec<u8>,
    garbage: usize,
}

fn holder_in(bytes: &[u8], at: u32) -> u64 {
    let at = at as usize;
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn key_in(bytes: &[u8], at: u32) -> Key<'_> {
    let entry = &bytes[at as usize..];
    let ns = u32::from_le_bytes(entry[8..12].try_into().expect("four bytes"));
    let len = u16::from_le_bytes(entry[12..14].try_into().expect("two bytes"));
    Key { ns: NsId(ns), id: &entry[HEAD..HEAD + usize::from(len)] }
}

impl ReservedSet {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Who holds the id.
    #[inline]
    pub(crate) fn holder(&self, key: Key<'_>, hash: IdHash) -> Option<u64> {
        if self.table.is_empty() {
            return None;
        }
        let at = self.table.find(hash.table(), |at| key_in(&self.bytes, *at) == key)?;
        Some(holder_in(&self.bytes, *at))
    }

    /// Reserves an id that is not reserved.
    pub(crate) fn insert(&mut self, key: Key<'_>, hash: IdHash, holder: u64, hasher: &IdHasher) {
        if self.garbage > GARBAGE_BYTES && self.garbage > self.bytes.len() / 2 {
            self.write_anew();
        }
        let at = self.bytes.len() as u32;
        self.bytes.extend_from_slice(&holder.to_le_bytes());
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
            self.garbage += HEAD + key.id.len();
        }
        if self.table.is_empty() {
            self.bytes.clear();
            self.garbage = 0;
        }
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
                    set.insert(key, hash, holder, &hasher);
                    model.insert(number, holder);
                }
            }
            assert_eq!(set.len(), model.len());
        }
        assert!(set.bytes.len() < 4 * GARBAGE_BYTES, "released entries do not pile up");
    }
}
