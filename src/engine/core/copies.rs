//! What a snapshot copies: the log at one moment, and the segments that stay until they are copied.

use crate::engine::catalog::manifest::ManifestBody;
use crate::engine::core::Core;
use crate::error::Result;
use crate::sync::{Mutex, Ordering};
use crate::wal::Cut;
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
    fn may_go(&self, segment: u32) -> bool {
        let mut state = self.0.lock();
        state.hashes.remove(&segment);
        let is_read = state.readers.contains_key(&segment);
        if is_read {
            state.left.insert(segment);
        }
        !is_read
    }

    fn pin(&self, segments: impl Iterator<Item = u32>) {
        let mut state = self.0.lock();
        for segment in segments {
            *state.readers.entry(segment).or_default() += 1;
        }
    }

    /// Ends the reading of a segment; returns whether its file is to go now.
    fn unpin(&self, segment: u32) -> bool {
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

/// The store at one moment of its log (I15). Its segments stay where they are until it is dropped.
#[derive(Debug)]
pub(in crate::engine) struct Moment<'a> {
    core: &'a Core,
    pub(in crate::engine) cut: Cut,
    /// What a crash at this moment would have found, with all of the log on disk.
    pub(in crate::engine) body: ManifestBody,
}

impl Core {
    /// Returns this moment. Compaction takes segments out of the log under the lock of the manifest, so the list is whole,
    /// and those in it are kept from here on.
    pub(in crate::engine) fn cut(&self) -> Result<Moment<'_>> {
        let manifest = self.manifest.lock();
        // Before the log: a name that is registered meanwhile is in its records.
        let namespaces = self.namespaces.metas();
        let cut = self.log.cut()?;
        self.copies.pin(cut.segments().map(|(number, _)| number));
        let mut moment = Moment { core: self, cut, body: manifest.body.clone() };
        drop(manifest);
        let (cut, body) = (&moment.cut, &mut moment.body);
        let first = body.first_segment();
        body.obsolete.clear();
        body.durable = cut.end;
        body.full_segments =
            cut.closed.iter().filter(|meta| meta.number < first).cloned().collect();
        body.next_segment = cut.end.segment() + 1;
        body.namespaces = namespaces;
        body.time = Some(self.time.mark());
        body.sequence = self.sequence.load(Ordering::Acquire);
        Ok(moment)
    }

    /// Removes the file of a segment that is not part of the log any more.
    pub(in crate::engine) fn remove_segment(&self, number: u32) -> Result<()> {
        if self.copies.may_go(number) { self.log.remove_file(number) } else { Ok(()) }
    }
}

impl Drop for Moment<'_> {
    fn drop(&mut self) {
        for (number, _) in self.cut.segments() {
            // What is left of a store that is closed, the next opening removes.
            if self.core.copies.unpin(number) && self.core.health.check().is_ok() {
                self.core.log.remove_file(number).ok();
            }
        }
    }
}
