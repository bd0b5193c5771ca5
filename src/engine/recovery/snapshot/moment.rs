//! The moment that a snapshot shows.

use crate::engine::catalog::manifest::ManifestBody;
use crate::engine::core::Core;
use crate::error::Result;
use crate::sync::Ordering;
use crate::wal::Cut;

/// The store at one moment of its log (I15). Its segments stay where they are until it is dropped.
#[derive(Debug)]
pub(super) struct Moment<'a> {
    core: &'a Core,
    pub(super) cut: Cut,
    /// What a crash at this moment would have found, with all of the log on disk.
    pub(super) body: ManifestBody,
}

impl<'a> Moment<'a> {
    /// Returns this moment. Compaction takes segments out of the log under the lock of the manifest, so the list is whole,
    /// and those in it are kept from here on.
    pub(super) fn of(core: &'a Core) -> Result<Self> {
        let manifest = core.manifest.lock();
        // Before the log: a name that is registered meanwhile is in its records.
        let namespaces = core.namespaces.metas();
        let cut = core.log.cut()?;
        core.copies.pin(cut.segments().map(|(number, _)| number));
        let mut moment = Self { core, cut, body: manifest.body.clone() };
        drop(manifest);
        let (cut, body) = (&moment.cut, &mut moment.body);
        let first = body.first_segment();
        body.obsolete.clear();
        body.durable = cut.end;
        body.full_segments =
            cut.closed.iter().filter(|meta| meta.number < first).cloned().collect();
        body.next_segment = cut.end.segment() + 1;
        body.namespaces = namespaces;
        body.time = Some(core.time.mark());
        body.sequence = core.sequence.load(Ordering::Acquire);
        Ok(moment)
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
