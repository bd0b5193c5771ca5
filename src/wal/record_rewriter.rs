//! Rewriting records, many ids to a record: for log compaction and for repair.

use crate::error::Result;
use crate::expiry::{GenId, Version};
use crate::id::{Key, NsId};
use crate::limits::ID_BYTES_MAX;
use crate::wal::commit::Commit;
use crate::wal::writer::{AppendLevel, Log};
use std::collections::BTreeMap;

/// Bytes of ids and their metadata written as one record: enough to make its frame cheap, and little next to the
/// smallest segment.
const RECORD_BYTES: usize = 4 << 10;

/// Maximum size of a record of versions without its ids and their fields.
const HEAD_MAX: usize = 40;

/// Maximum size of one id's fields, without the id itself.
const FIELDS_MAX: usize = 32;

/// Collects copies by generation, because a record belongs to one.
#[derive(Debug)]
pub(crate) struct RecordRewriter<'a> {
    log: &'a Log,
    groups: BTreeMap<GenId, Group>,
    /// Rows keep their order, whatever their generations: older versions of a row stay before its tombstone.
    rows: Commit,
    copied: u64,
}

#[derive(Debug, Default)]
struct Group {
    bytes: Vec<u8>,
    entries: Vec<(NsId, usize, Version)>,
}

impl Group {
    fn iter(&self) -> impl Iterator<Item = (Key<'_>, Version)> + Clone {
        let starts = std::iter::once(0).chain(self.entries.iter().map(|(_, end, _)| *end));
        let entries = self.entries.iter().zip(starts);
        entries.map(|((ns, end, version), start)| {
            (Key { ns: *ns, id: &self.bytes[start..*end] }, *version)
        })
    }
}

impl<'a> RecordRewriter<'a> {
    pub(crate) fn new(log: &'a Log) -> Self {
        Self { log, groups: BTreeMap::new(), rows: Commit::default(), copied: 0 }
    }

    pub(crate) fn push(&mut self, key: Key<'_>, version: Version) -> Result<()> {
        let generation = version.generation();
        let group = self.groups.entry(generation).or_default();
        group.bytes.extend_from_slice(key.id);
        group.entries.push((key.ns, group.bytes.len(), version));
        self.copied += 1;
        // The segments of tests are small: one more id must fit, however long.
        let ids = group.bytes.len() + ID_BYTES_MAX;
        let room = HEAD_MAX + (group.entries.len() + 1) * FIELDS_MAX + ids;
        if room <= self.log.record_room().min(RECORD_BYTES) {
            return Ok(());
        }
        let full = std::mem::take(group);
        self.log.append_versions(AppendLevel::Process, generation, full.iter()).map(drop)
    }

    pub(crate) fn push_row(&mut self, key: Key<'_>, version: Version, value: &[u8]) -> Result<()> {
        self.rows.push_row(key, version, value);
        self.copied += 1;
        if self.rows.bytes().len() < RECORD_BYTES { Ok(()) } else { self.write_rows() }
    }

    fn write_rows(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        if rows.is_empty() {
            return Ok(());
        }
        self.log.append_commit(AppendLevel::Process, &rows, &[]).map(drop)
    }

    /// Writes what is left; returns how many were copied in total.
    pub(crate) fn finish(mut self) -> Result<u64> {
        self.write_rows()?;
        for (generation, rest) in self.groups.iter().filter(|(_, rest)| !rest.entries.is_empty()) {
            self.log.append_versions(AppendLevel::Process, *generation, rest.iter())?;
        }
        Ok(self.copied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expiry::{Class, Kind};
    use crate::id::Family;
    use crate::time::Timestamp;
    use crate::wal::item::Item;
    use crate::wal::writer::tests::log_on_disk;

    /// A tombstone in the oldest segment is dropped, since nothing older can be behind it.
    #[test]
    fn rows_are_written_in_the_order_in_which_they_come() {
        let (log, _disk) = log_on_disk();
        let mut rewriter = RecordRewriter::new(&log);
        let mut pushed = Vec::new();
        for sequence in 1..400u64 {
            let ended = sequence % 3 == 0;
            let (deadline, class) = match sequence % 2 {
                0 => (Timestamp::NEVER, Class::FOREVER),
                _ => (Timestamp::from_millis(1 << 41), Class::of_ttl(1 << 20)),
            };
            let kind = if ended { Kind::Tombstone } else { Kind::Value };
            let version = Version::row(sequence, kind, deadline, class);
            let key = Key { ns: NsId(0).rows(Family(1)), id: &sequence.to_le_bytes() };
            let value = if ended { &[][..] } else { &[7; 100] };
            rewriter.push_row(key, version, value).expect("fits");
            pushed.push(version);
        }
        rewriter.finish().expect("fits");
        let mut written = Vec::new();
        for number in log.segments() {
            log.scan(number, |_, item| {
                let Item::Row { version, .. } = item else { panic!("not a row") };
                written.push(version);
                Ok(())
            })
            .expect("reads");
        }
        assert_eq!(written, pushed);
    }
}
