//! What is written beside a committed offset: which store has read so far, and in which transaction.
//!
//! A store knows from it whether it is behind because it has lost its last moments, which it does again, or because another
//! store has read on, of which it knows nothing.

use firstseen::Store;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// Where a store keeps its name.
const TABLE: &str = "kafka/store";
const KEY: &[u8] = b"name";

/// What stands beside a committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The name of the store.
    pub(crate) store: String,
    /// The name of the prepared transaction that the offset was committed with.
    pub(crate) gid: Option<String>,
}

impl Mark {
    /// Returns the mark as metadata of an offset.
    pub(crate) fn encode(&self) -> String {
        let Self { store, gid } = self;
        gid.as_ref()
            .map_or_else(|| format!("firstseen {store}"), |gid| format!("firstseen {store} {gid}"))
    }

    /// Reads a mark. `None`: somebody else has committed the offset.
    pub(crate) fn decode(metadata: &str) -> Option<Self> {
        // A name of a transaction may have spaces: names of groups may.
        let mut words = metadata.splitn(3, ' ');
        let store = (words.next() == Some("firstseen")).then(|| words.next()).flatten()?;
        Some(Self { store: store.to_owned(), gid: words.next().map(str::to_owned) })
    }
}

/// Returns the name of a store, which it keeps for good. It is made up at first.
pub(crate) fn name_of(store: &Store) -> firstseen::Result<String> {
    let table = store.raw_table(TABLE)?;
    loop {
        if let Some(entry) = table.get(KEY)? {
            return Ok(String::from_utf8_lossy(&entry.value).into_owned());
        }
        // Keys of hashers are random.
        let random = || RandomState::new().build_hasher().finish();
        let name = format!("{:016x}{:016x}", random(), random());
        let mut transaction = store.transaction();
        transaction.put_if(&table, KEY, None, name.as_bytes())?;
        transaction.durability(firstseen::Durability::Disk);
        // If another call was faster, its name counts.
        let _ = transaction.commit()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_comes_back_and_other_metadata_is_none() {
        for gid in [None, Some("the orders#0#7".to_owned())] {
            let mark = Mark { store: "00ff".to_owned(), gid };
            assert_eq!(Mark::decode(&mark.encode()), Some(mark));
        }
        for other in ["", "firstseen", "by hand", "firstseen2 00ff"] {
            assert_eq!(Mark::decode(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_store_keeps_its_name_and_no_two_have_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let name = |path: &str| name_of(&Store::open(dir.path().join(path)).unwrap()).unwrap();
        assert_eq!(name("a.db"), name("a.db"));
        assert_ne!(name("a.db"), name("b.db"));
    }
}
