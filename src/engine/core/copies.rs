//! The segments that snapshots copy: each stays until it was copied.

use crate::sync::Mutex;
use std::collections::{BTreeMap, BTreeSet};

/// The segments that snapshots read, and what is known of those that were read.
#[derive(Debug, Default)]
pub(in crate::engine) struct Copies(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// How many snapshots still read a segment.
    readers: BTreeMap<u32, usize>,
    /// Segments that are not part of the log any more, whose files stay for a reader.
    left: BTreeSet<u32>,
    /// Hashes of the images of full segments: a segment that was sent is not read again.
    hashes: BTreeMap<u32, [u8; 32]>,
}

impl Copies {
    pub(in crate::engine) fn hash(&self, segment: u32) -> Option<[u8; 32]> {
        self.0.lock().hashes.get(&segment).copied()
    }

    pub(in crate::engine) fn note_hash(&self, segment: u32, hash: [u8; 32]) {
        self.0.lock().hashes.insert(segment, hash);
    }

    /// Returns whether the file of a segment may go now. Otherwise it goes with its last reader.
    pub(in crate::engine) fn may_go(&self, segment: u32) -> bool {
        let mut state = self.0.lock();
        state.hashes.remove(&segment);
        let is_read = state.readers.contains_key(&segment);
        if is_read {
            state.left.insert(segment);
        }
        !is_read
    }

    /// Keeps segments. The lock of the manifest is held: none of them leaves the log meanwhile.
    pub(in crate::engine) fn pin(&self, segments: impl Iterator<Item = u32>) {
        let mut state = self.0.lock();
        for segment in segments {
            *state.readers.entry(segment).or_default() += 1;
        }
    }

    /// Ends the reading of a segment; returns whether its file is to go now.
    pub(in crate::engine) fn unpin(&self, segment: u32) -> bool {
        let mut state = self.0.lock();
        match state.readers.get_mut(&segment) {
            Some(readers) if *readers > 1 => {
                *readers -= 1;
                false
            }
            _ => {
                state.readers.remove(&segment);
                state.left.remove(&segment)
            }
        }
    }
}
