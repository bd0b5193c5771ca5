//! Of the rows of a segment, those that may count: of several versions of a row, the last.
//!
//! What is replaced or removed soon after it was written, as messages and counters are, is known to be superseded without
//! being looked up.

use crate::expiry::Version;
use crate::id::{IdHash, Key};
use crate::wal::ItemAt;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// Most rows held at once. With more in a segment, an early version may be looked up in vain.
const HELD_MAX: usize = 64 << 10;

/// A row as it was found in a segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct FoundRow<'a> {
    pub(super) key: Key<'a>,
    pub(super) hash: IdHash,
    pub(super) version: Version,
    pub(super) value: &'a [u8],
    pub(super) at: ItemAt,
}

/// The last version found of each row.
#[derive(Debug, Default)]
pub(super) struct LatestRows<'a> {
    rows: Vec<FoundRow<'a>>,
    numbers: HashTable<usize>,
}

impl<'a> LatestRows<'a> {
    /// Adds a row that was found behind all that were added.
    pub(super) fn add(&mut self, row: FoundRow<'a>) {
        let Self { rows, numbers } = self;
        let is_it = |n: &usize| rows[*n].hash == row.hash && rows[*n].key == row.key;
        match numbers.entry(row.hash.table(), is_it, |n| rows[*n].hash.table()) {
            Entry::Occupied(found) => {
                let before = &mut rows[*found.get()];
                // A copy of an early version may be behind a later one. Of two copies of one version the last is read.
                if before.version.rank <= row.version.rank {
                    *before = row;
                }
            }
            Entry::Vacant(place) => {
                place.insert(rows.len());
                rows.push(row);
            }
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.rows.len() >= HELD_MAX
    }

    /// Returns what was found, in order of the rows' first versions.
    pub(super) fn take(&mut self) -> Vec<FoundRow<'a>> {
        self.numbers.clear();
        std::mem::take(&mut self.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expiry::{Class, Kind};
    use crate::id::{Family, NsId};
    use crate::time::Timestamp;
    use crate::wal::Lsn;

    fn row(id: &[u8], sequence: u64, end: u64) -> FoundRow<'_> {
        let version = Version::row(sequence, Kind::Value, Timestamp::NEVER, Class::FOREVER);
        let key = Key { ns: NsId(1).rows(Family::TABLES), id };
        let at = ItemAt { end: Lsn(end), len: 1 };
        FoundRow { key, hash: IdHash::from_parts(7, 7), version, value: b"", at }
    }

    #[test]
    fn i11_of_a_row_the_last_version_is_kept_and_no_other_row_for_it_also_when_every_hash_is_equal()
    {
        let mut latest = LatestRows::default();
        for found in [
            row(b"a", 5, 10),
            row(b"b", 6, 20),
            row(b"a", 8, 30),
            row(b"a", 7, 40),
            row(b"b", 6, 50),
        ] {
            latest.add(found);
        }
        let kept = |latest: &mut LatestRows<'static>| -> Vec<_> {
            latest.take().iter().map(|row| (row.key.id, row.at.end)).collect()
        };
        assert_eq!(kept(&mut latest), [(&b"a"[..], Lsn(30)), (b"b", Lsn(50))]);
        latest.add(row(b"a", 1, 60));
        assert_eq!(kept(&mut latest), [(&b"a"[..], Lsn(60))], "what was taken is gone");
    }
}
