//! Recounts what the log knows of itself, for tests.

use crate::error::Result;
use crate::wal::retention::{Contents, SegmentMeta};
use crate::wal::segment::{DATA_START, Segment};
use crate::wal::writer::Log;

impl Log {
    /// Returns what contradicts itself in memory. Reads no file.
    pub(crate) fn validate(&self) -> Vec<String> {
        let tail = self.tail.lock();
        let (active, closed) = (tail.active.header.number, tail.closed());
        let mut complaints = Vec::new();
        let numbers = closed.iter().map(|meta| meta.number).chain([active]);
        if !numbers.clone().is_sorted_by(|a, b| a < b) {
            complaints.push(format!("the segments do not rise: {:?}", numbers.collect::<Vec<_>>()));
        }
        let spare = tail.rest.spare.as_ref().map(|spare| spare.segment.header.number);
        if tail.rest.next_number <= spare.unwrap_or(active) || spare.is_some_and(|n| n <= active) {
            let next = tail.rest.next_number;
            complaints.push(format!("active {active}, spare {spare:?}, but next {next}"));
        }
        if tail.offset < DATA_START {
            complaints.push(format!("the log ends at {} of segment {active}", tail.offset));
        }
        complaints.extend(closed.iter().filter_map(|meta| {
            let Contents { tally, tombstones, .. } = &meta.contents;
            let all: u64 = tally.sums().iter().map(|(_, bytes)| bytes).sum();
            // Records fill the segment but for its header and its end mark. What is superseded is an estimate: opening
            // may count again what the manifest has counted already.
            let fits = meta.end >= DATA_START
                && all <= u64::from(meta.end - DATA_START)
                && *tombstones <= all;
            (!fits).then(|| format!("a segment holds more than fits: {meta:?}"))
        }));
        complaints
    }

    /// Reads every full segment and returns those that hold something else than the log believes. They are whole on
    /// disk, so this writes nothing; reading the active one could write what is buffered.
    pub(crate) fn recount(&self) -> Result<Vec<String>> {
        let mut complaints = Vec::new();
        for meta in self.closed() {
            let found = self.recount_segment(&meta)?;
            // Each appended record was counted as it was written, and one that was replayed as it was read. So both
            // sums are exact, whatever was restarted, cut or compacted since; only `superseded` is not.
            let sums = |contents: &Contents| (contents.tally.sums(), contents.tombstones);
            if found.end != meta.end || sums(&found.contents) != sums(&meta.contents) {
                complaints.push(format!("the log believes in {meta:?}, and there is {found:?}"));
            }
        }
        Ok(complaints)
    }

    fn recount_segment(&self, meta: &SegmentMeta) -> Result<SegmentMeta> {
        let path = self.segment_path(meta.number);
        let segment = Segment::open_own(&*self.config.disk, &path, self.config.seed)?;
        let mut contents = Contents::default();
        let bytes = segment.read(DATA_START, None)?;
        let (end, _) = super::recover::walk(&path, &bytes, &mut contents, &mut |_, _| Ok(()))?;
        Ok(SegmentMeta { number: meta.number, end, contents })
    }
}
