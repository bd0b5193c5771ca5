//! The entries of a memtable in hash order, for flushing. They stay where they are: only their hashes and offsets are
//! sorted, and each entry is read when its turn comes.

use crate::blocks::BlockFault;
use crate::expiry::GenId;
use crate::id::{Family, IdHash, IdHasher};
use crate::memtable::{EntryOffset, Memtable, MemtableEntry};
use crate::run::entry::{Merged, MergedEntries};
use crate::run::meta::RunSize;

/// What goes into one run.
pub(crate) type Group = (Family, GenId);

/// The part of a memtable that goes into one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupOfEntries {
    pub(crate) group: Group,
    pub(crate) size: RunSize,
    /// The first segment with one of their records.
    pub(crate) from_segment: u32,
    number: u32,
}

/// Hash and offset of an entry, and the number of its group.
#[derive(Debug, Clone, Copy)]
struct Place {
    hash: IdHash,
    at: EntryOffset,
    group: u32,
}

/// Entries of one part of hash order, on average: so few that sorting them is a few comparisons each.
const TOGETHER: usize = 4;

/// Entries prefetched together. In hash order they are scattered in memory.
const AHEAD: usize = 32;

/// The entries of one memtable in hash order. Reused across flushes: fresh pages would cost a page fault each.
#[derive(Debug, Default)]
pub(crate) struct InHashOrder {
    found: Vec<Place>,
    sorted: Vec<Place>,
    /// Where each part of hash order ends.
    ends: Vec<u32>,
    groups: Vec<GroupOfEntries>,
}

impl InHashOrder {
    /// Lists the entries that `matters` accepts; returns their groups in ascending order.
    pub(crate) fn list(
        &mut self,
        set: &Memtable,
        hasher: IdHasher,
        matters: impl Fn(&MemtableEntry<'_>) -> bool,
    ) -> Vec<GroupOfEntries> {
        self.found.clear();
        self.groups.clear();
        self.found.reserve_exact(set.len());
        let mut number = 0;
        for (at, entry) in set.iter_places().filter(|(_, entry)| matters(entry)) {
            let group = (entry.key.ns.family(), entry.version.generation());
            // Neighbours mostly share one.
            if self.groups.get(number).is_none_or(|known| known.group != group) {
                number = self.number_of(group);
            }
            let known = &mut self.groups[number];
            known.size.add(entry.key);
            known.from_segment = known.from_segment.min(entry.lsn.segment());
            self.found.push(Place { hash: hasher.hash(entry.key), at, group: number as u32 });
        }
        self.sort(set);
        let mut groups = self.groups.clone();
        groups.sort_unstable_by_key(|known| known.group);
        groups
    }

    fn number_of(&mut self, group: Group) -> usize {
        self.groups.iter().position(|known| known.group == group).unwrap_or_else(|| {
            let number = self.groups.len();
            self.groups.push(GroupOfEntries {
                group,
                size: RunSize::default(),
                from_segment: u32::MAX,
                number: number as u32,
            });
            number
        })
    }

    /// Sorts by hash order: distributes into parts, which hashes fill evenly, and sorts each. Entries at one position, which
    /// are rare, are sorted by key.
    fn sort(&mut self, set: &Memtable) {
        let parts = (self.found.len() / TOGETHER).max(1);
        let part_of =
            |place: &Place| ((u64::from(place.hash.order()) * parts as u64) >> 32) as usize;
        self.ends.clear();
        self.ends.resize(parts, 0);
        self.found.iter().for_each(|place| self.ends[part_of(place)] += 1);
        let mut sum = 0;
        for end in &mut self.ends {
            // For now where it begins.
            (*end, sum) = (sum, sum + *end);
        }
        // All of it is written below.
        let nowhere = Place { hash: IdHash::default(), at: EntryOffset::default(), group: 0 };
        self.sorted.resize(self.found.len(), nowhere);
        for place in &self.found {
            let end = &mut self.ends[part_of(place)];
            self.sorted[*end as usize] = *place;
            *end += 1;
        }
        let mut begin = 0;
        for end in &self.ends {
            let part = &mut self.sorted[begin..*end as usize];
            begin = *end as usize;
            part.sort_unstable_by(|a, b| {
                let by_key = || set.entry_at(a.at).key.cmp(&set.entry_at(b.at).key);
                a.hash.order().cmp(&b.hash.order()).then_with(by_key)
            });
        }
    }

    /// Returns the entries of one group, in hash order. `set` is the memtable that was listed.
    pub(crate) fn of<'a>(
        &'a self,
        group: &GroupOfEntries,
        set: &'a Memtable,
    ) -> EntriesOfGroup<'a> {
        EntriesOfGroup { places: &self.sorted, group: group.number, set }
    }
}

/// The entries of one group of a memtable.
#[derive(Debug)]
pub(crate) struct EntriesOfGroup<'a> {
    places: &'a [Place],
    group: u32,
    set: &'a Memtable,
}

impl MergedEntries for EntriesOfGroup<'_> {
    fn for_each<E: From<BlockFault>>(
        self,
        mut visit: impl FnMut(Merged<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        for together in self.places.chunks(AHEAD) {
            // All lines are asked for before the first is waited for. Use the values, or the compiler drops the loads.
            let lines = together.iter().fold(0, |sum, place| sum ^ self.set.prefetch_at(place.at));
            std::hint::black_box(lines);
            for place in together.iter().filter(|place| place.group == self.group) {
                let MemtableEntry { key, version, lsn, len } = self.set.entry_at(place.at);
                visit(Merged {
                    hash: place.hash,
                    key,
                    version,
                    location: Some(lsn),
                    item_len: len,
                })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expiry::Version;
    use crate::id::{Key, NsId, Seed};
    use crate::time::{Timestamp, Ttl};
    use crate::wal::{ItemAt, Lsn};

    fn version(n: u64) -> Version {
        let ttl = if n.is_multiple_of(3) { Ttl::FOREVER } else { Ttl::from_millis(60_000) };
        Version::claim(Timestamp::from_millis(1_000_000 + n), ttl)
    }

    /// Claims of two generations, rows among them and some that do not matter, of several lengths.
    fn filled(hasher: IdHasher, count: u64) -> Memtable {
        let mut set = Memtable::new(hasher, 1 << 20);
        for n in 0..count {
            let id = n.to_le_bytes().repeat(1 + (n % 4) as usize);
            let (version, lsn) = (version(n), Lsn::new(1 + n as u32 / 100, 5_000 + n as u32));
            if n % 5 == 0 {
                let key = Key { ns: NsId(1).rows(Family::TABLES), id: &id };
                let at = ItemAt { end: lsn, len: 100 + n as u32 };
                set.put_row(key, hasher.hash(key), version, at);
            } else {
                let key = Key { ns: NsId(n as u32 % 2), id: &id };
                set.put(key, hasher.hash(key), version, lsn);
            }
        }
        set
    }

    fn owned(entry: &Merged<'_>) -> (u32, NsId, Vec<u8>, Version, Option<Lsn>, u32) {
        let Merged { hash, key, version, location, item_len } = *entry;
        (hash.order(), key.ns, key.id.to_vec(), version, location, item_len)
    }

    #[test]
    fn each_group_has_its_entries_in_hash_order_with_all_that_is_known_of_them() {
        let hasher = IdHasher::new(Seed([3; 16]));
        let mut order = InHashOrder::default();
        // Larger, smaller, and empty: nothing of an earlier memtable stays.
        for count in [2_000, 50, 1, 0] {
            let count = if cfg!(miri) { count.min(200) } else { count };
            let set = filled(hasher, count);
            let matters = |entry: &MemtableEntry<'_>| entry.key.id[0] % 7 != 2;
            let groups = order.list(&set, hasher, matters);
            assert!(groups.is_sorted_by_key(|known| known.group));
            let mut listed = 0;
            for known in &groups {
                let mut expected: Vec<_> = (set.iter().filter(matters))
                    .filter(|e| (e.key.ns.family(), e.version.generation()) == known.group)
                    .map(|MemtableEntry { key, version, lsn, len }| {
                        let (hash, location) = (hasher.hash(key), Some(lsn));
                        owned(&Merged { hash, key, version, location, item_len: len })
                    })
                    .collect();
                let size = expected.iter().fold(RunSize::default(), |mut size, entry| {
                    size.add(Key { ns: entry.1, id: &entry.2 });
                    size
                });
                let from = expected.iter().filter_map(|entry| entry.4).map(Lsn::segment).min();
                assert_eq!((known.size, Some(known.from_segment)), (size, from));
                expected.sort_by(|a, b| (a.0, a.1, &a.2).cmp(&(b.0, b.1, &b.2)));
                let mut seen = Vec::new();
                let visited = order.of(known, &set).for_each(|entry| {
                    seen.push(owned(&entry));
                    Ok::<_, BlockFault>(())
                });
                visited.expect("nothing fails");
                assert_eq!(seen, expected);
                listed += seen.len();
            }
            assert_eq!(listed, set.iter().filter(matters).count());
        }
    }

    #[test]
    fn entries_at_one_position_in_hash_order_are_sorted_by_key() {
        let hasher = IdHasher::new(Seed([3; 16]));
        let mut set = Memtable::new(hasher, 1 << 20);
        let mut ids: Vec<[u8; 4]> = (0..40_u32).rev().map(u32::to_be_bytes).collect();
        for id in &ids {
            let key = Key { ns: NsId(0), id };
            set.put(key, hasher.hash(key), version(0), Lsn::new(1, 5_000));
        }
        let mut order = InHashOrder::default();
        let groups = order.list(&set, hasher, |_| true);
        // As if all hashes were the same.
        order.found.iter_mut().for_each(|place| place.hash = IdHash::from_parts(1, 1 << 31));
        order.sort(&set);
        let mut seen = Vec::new();
        let visited = order.of(&groups[0], &set).for_each(|entry| {
            seen.push(entry.key.id.to_vec());
            Ok::<_, BlockFault>(())
        });
        visited.expect("nothing fails");
        ids.sort_unstable();
        assert_eq!(seen, ids);
    }
}
