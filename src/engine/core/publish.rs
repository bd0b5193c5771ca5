//! Publishing a manifest: the one way in which what is flushed, merged, expired or removed becomes true.

use crate::engine::catalog::manifest::ManifestBody;
use crate::engine::catalog::namespaces::NsMeta;
use crate::engine::core::Core;
use crate::error::{Error, Result};
use crate::limits;
use crate::sync::Ordering;

impl Core {
    /// Writes a new manifest. Syncs the log first: what is flushed, copied or named is on disk before a manifest builds
    /// on it (I6). Syncs the block store too, which carries the edition of that manifest, so that an older copy of it is
    /// recognised (I10).
    pub(in crate::engine) fn publish_manifest(
        &self,
        edit: impl FnOnce(&mut ManifestBody),
    ) -> Result<()> {
        self.counters.publish_time.of(|| self.write_manifest(edit))
    }

    fn write_manifest(&self, edit: impl FnOnce(&mut ManifestBody)) -> Result<()> {
        let mut manifest = self.manifest.lock();
        // Their records are synced below, too: a repair without this manifest finds them only in the log.
        let namespaces = self.namespaces.metas();
        self.log.sync_to(self.log.end())?;
        self.blocks.set_mark(manifest.body.edition + 1)?;
        self.blocks.sync()?;
        let before = manifest.body.clone();
        edit(&mut manifest.body);
        // A run listed by the edit is no longer in flight.
        let listed: Vec<u64> = manifest.body.runs.iter().map(|run| run.id).collect();
        let in_flight = manifest.in_flight.clone();
        manifest.in_flight.retain(|(id, _)| !listed.contains(id));
        self.fill_in(&mut manifest.body, namespaces);
        let written = manifest.write();
        if written.is_ok() {
            self.counters.manifests_written.add(1);
            self.sequences_reserved.store(manifest.body.sequence, Ordering::Release);
        } else {
            let edition = manifest.body.edition;
            manifest.body = ManifestBody { edition, ..before };
            manifest.in_flight = in_flight;
        }
        written
    }

    /// Fills in what the manifest says of log, namespaces and time.
    fn fill_in(&self, body: &mut ManifestBody, namespaces: Vec<NsMeta>) {
        let first = body.first_segment();
        body.durable = self.log.durable();
        body.full_segments = self.log.closed();
        body.full_segments.retain(|meta| meta.number < first);
        body.next_segment = self.log.active() + 1;
        body.namespaces = namespaces;
        body.time = Some(self.time.mark());
        let ahead = self.sequence.load(Ordering::Acquire).saturating_add(limits::SEQUENCES_AHEAD);
        body.sequence = ahead.min(limits::SEQUENCE_END);
    }

    /// Returns the first of `count` sequences for rows. None of them is given again, not even if the rows are lost.
    pub(in crate::engine) fn take_sequences(&self, count: usize) -> Result<u64> {
        let count = count as u64;
        loop {
            let first = self.sequence.load(Ordering::Acquire);
            if first + count > limits::SEQUENCE_END {
                return Err(Error::bug("the sequences of rows are used up"));
            }
            if first + count > self.sequences_reserved.load(Ordering::Acquire) {
                self.publish_manifest(|_| ())?;
                continue;
            }
            let (taken, order) = (first + count, Ordering::AcqRel);
            if self.sequence.compare_exchange(first, taken, order, Ordering::Acquire).is_ok() {
                return Ok(first);
            }
        }
    }
}
