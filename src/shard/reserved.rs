//! Ids that somebody works on: reserved, not yet claimed. In memory only; a crash releases them all.

use crate::id::{IdHash, IdHasher, Key, NsId};
use hashbrown::HashTable;

#[derive(Debug, Default)]
pub(crate) struct ReservedSet {
    table: HashTable<Entry>,
}

#[derive(Debug)]
struct Entry {
    ns: NsId,
    id: Box<[u8]>,
    /// Who reserved it.
    holder: u64,
}

impl Entry {
    fn key(&self) -> Key<'_> {
        Key { ns: self.ns, id: &self.id }
    }
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
        self.table.find(hash.table(), |e| e.key() == key).map(|e| e.holder)
    }

    /// Reserves an id that is not reserved.
    pub(crate) fn insert(&mut self, key: Key<'_>, hash: IdHash, holder: u64, hasher: &IdHasher) {
        let entry = Entry { ns: key.ns, id: key.id.into(), holder };
        self.table.insert_unique(hash.table(), entry, |e| hasher.hash(e.key()).table());
    }

    /// Releases an id, if it is held by `holder`.
    pub(crate) fn remove(&mut self, key: Key<'_>, hash: IdHash, holder: u64) {
        let held = |e: &Entry| e.holder == holder && e.key() == key;
        if let Ok(found) = self.table.find_entry(hash.table(), held) {
            found.remove();
        }
    }
}
