//! What a process knows to be done, in bounded memory. Times are milliseconds of a clock that the caller reads.

use crate::record::Record;
use crate::store::Call;
use firstseen::Timestamp;
use std::collections::HashMap;

/// What an entry costs besides its key and its result: about.
const ENTRY_BYTES: usize = 200;

/// What is known of an id.
#[derive(Debug, Clone)]
pub(crate) enum Known {
    /// It is claimed. Whoever repeats the call that claimed it has to ask the store.
    Claimed { first_seen: Timestamp, by: Option<Call> },
    /// This attempt has completed it. The record is known once the store has shown it.
    Completed { token: u64, record: Option<Box<Record>> },
}

#[derive(Debug, Clone)]
struct Entry {
    known: Known,
    /// When it is not so any more.
    ends_ms: u64,
    /// Until when the store need not be asked.
    asked_ms: u64,
}

/// Whether an id is one of a claim or of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    Claims = 0,
    Records = 1,
}

/// Entries in two halves. The younger becomes the older when it is full, and what was older then is forgotten.
#[derive(Debug)]
pub(crate) struct KnownIds {
    young: HashMap<Vec<u8>, Entry>,
    old: HashMap<Vec<u8>, Entry>,
    young_bytes: usize,
    bytes_max: usize,
}

/// Returns the key of an id. The length of the namespace keeps two of them apart whose names run into their ids.
pub(crate) fn key(family: Family, namespace: &str, id: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(9 + namespace.len() + id.len());
    key.push(family as u8);
    key.extend_from_slice(&(namespace.len() as u64).to_le_bytes());
    key.extend_from_slice(namespace.as_bytes());
    key.extend_from_slice(id);
    key
}

impl KnownIds {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), young_bytes: 0, bytes_max }
    }

    /// Returns what is known of an id and need not be asked.
    pub(crate) fn get(&self, key: &[u8], now_ms: u64) -> Option<&Known> {
        let entry = self.entry(key)?;
        (now_ms < entry.ends_ms && now_ms < entry.asked_ms).then_some(&entry.known)
    }

    /// Returns the token of the attempt that has completed an id, and until when that holds.
    pub(crate) fn completed_by(&self, key: &[u8]) -> Option<(u64, u64)> {
        match self.entry(key)? {
            Entry { known: Known::Completed { token, .. }, ends_ms, .. } => {
                Some((*token, *ends_ms))
            }
            _ => None,
        }
    }

    fn entry(&self, key: &[u8]) -> Option<&Entry> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    pub(crate) fn insert(&mut self, key: Vec<u8>, known: Known, ends_ms: u64, asked_ms: u64) {
        self.remove(&key);
        let bytes = bytes_of(&key, &known);
        if bytes > self.bytes_max / 8 {
            return;
        }
        if self.young_bytes + bytes > self.bytes_max / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += bytes;
        self.young.insert(key, Entry { known, ends_ms, asked_ms });
    }

    pub(crate) fn remove(&mut self, key: &[u8]) {
        if let Some(entry) = self.young.remove(key) {
            self.young_bytes -= bytes_of(key, &entry.known);
        }
        self.old.remove(key);
    }

    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

fn bytes_of(key: &[u8], known: &Known) -> usize {
    let record = match known {
        Known::Completed { record: Some(record), .. } => {
            let history = record.history.iter().map(|past| past.reason.len() + past.worker.len());
            record.result().map_or(0, <[u8]>::len) + history.sum::<usize>() + ENTRY_BYTES
        }
        _ => 0,
    };
    key.len() + record + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimed() -> Known {
        Known::Claimed { first_seen: Timestamp::from_millis(7), by: None }
    }

    #[test]
    fn what_has_ended_or_must_be_asked_again_is_not_known() {
        let mut ids = KnownIds::new(1 << 20);
        let key = key(Family::Claims, "n", b"a");
        ids.insert(key.clone(), claimed(), 10, 20);
        assert!(ids.get(&key, 9).is_some() && ids.get(&key, 10).is_none());
        ids.insert(key.clone(), claimed(), 20, 10);
        assert!(ids.get(&key, 9).is_some() && ids.get(&key, 10).is_none());
        ids.remove(&key);
        assert!(ids.get(&key, 0).is_none());
    }

    #[test]
    fn memory_is_bounded_and_the_youngest_stay() {
        let mut ids = KnownIds::new(100 * (ENTRY_BYTES + 14));
        let key = |n: u32| key(Family::Claims, "n", &n.to_be_bytes());
        for n in 0..10_000 {
            ids.insert(key(n), claimed(), u64::MAX, u64::MAX);
            assert!(ids.len() <= 100, "{}", ids.len());
        }
        assert!(
            ids.len() >= 50 && ids.get(&key(9_999), 0).is_some() && ids.get(&key(0), 0).is_none()
        );
        let bytes: usize = ids.young.iter().map(|(key, entry)| bytes_of(key, &entry.known)).sum();
        assert_eq!(bytes, ids.young_bytes);
    }

    #[test]
    fn namespaces_families_and_ids_do_not_run_together() {
        let keys = [
            key(Family::Claims, "a", b"bc"),
            key(Family::Claims, "ab", b"c"),
            key(Family::Records, "a", b"bc"),
            key(Family::Claims, "", b"abc"),
        ];
        for (n, one) in keys.iter().enumerate() {
            assert!(keys[n + 1..].iter().all(|other| other != one));
        }
    }
}
