//! Appending: `append_*` choose and bound a record, `append` makes room and encodes it, `write_record` writes it.

use crate::error::{Error, Result};
use crate::expiry::{GenId, Tally, Version};
use crate::id::{Key, NsId};
use crate::time::{Timestamp, Ttl};
use crate::wal::commit::Commit;
use crate::wal::item::NamespaceRecord;
use crate::wal::record::{self, RecordContext};
use crate::wal::writer::{AppendLevel, Log, LogWriter};
use crate::wal::{ItemAt, Lsn};

/// Maximum size of a record without its ids and their per-id fields.
const RECORD_HEAD_MAX: usize = 40;

/// Maximum size of one id's fields in a record of versions, without the id itself.
const VERSION_BYTES_MAX: usize = 32;

/// Maximum bytes buffered by an unmapped log.
const BUFFER_BYTES_MAX: usize = 64 << 10;

/// At most 1/16 of a segment stays in the page table of this process behind the write position. Released in pieces of that
/// size, as each release takes some ten microseconds.
const MAPPED_PART: u32 = 16;

impl Log {
    /// Appends a claim and returns the location after it: on disk once the log is synced up to there.
    #[inline]
    pub(crate) fn append_claim(
        &self,
        level: AppendLevel,
        at: Timestamp,
        ttl: Ttl,
        key: Key<'_>,
        version: Version,
    ) -> Result<Lsn> {
        let room = |_| key.id.len() + RECORD_HEAD_MAX + VERSION_BYTES_MAX;
        // One that must outlive an earlier claim, or was made while the clock is in doubt, does not follow from its ttl alone.
        let plain = version == Version::claim(at, ttl);
        self.append(
            level,
            room,
            |t, n| t.add(version.generation(), n),
            |out, context| {
                if !plain || record::claim(out, context, at, ttl, key).is_none() {
                    record::versions(
                        out,
                        context,
                        std::iter::once((key, version)),
                        &mut Vec::new(),
                    );
                }
            },
        )
    }

    /// Appends a batch of claims of one time as one record, all or none, and pushes the location after each id to
    /// `lsns`.
    ///
    /// The short record form holds ids of one namespace only.
    pub(crate) fn append_claims<'a>(
        &self,
        level: AppendLevel,
        at: Timestamp,
        ttl: Ttl,
        versions: impl Iterator<Item = (Key<'a>, Version)> + Clone,
        lsns: &mut Vec<Lsn>,
    ) -> Result<Lsn> {
        let claim = Version::claim(at, ttl);
        let ns = versions.clone().next().map_or(NsId(0), |(key, _)| key.ns);
        let plain = versions.clone().all(|(key, version)| version == claim && key.ns == ns);
        // A record is dropped as a whole, so all of it counts as its longest-lived id.
        let longest = versions.clone().map(|(_, version)| version.generation());
        let longest = longest.max_by_key(|generation| generation.end());
        let ids = versions.clone().map(|(key, _)| key.id);
        // Full times take more space, and only the target segment tells whether they are needed.
        let room = |base: Timestamp| {
            let each = if plain && at >= base { 2 } else { VERSION_BYTES_MAX };
            RECORD_HEAD_MAX + ids.clone().map(|id| id.len() + each).sum::<usize>()
        };
        let longest = longest.unwrap_or_else(|| claim.generation());
        let mut ends = Vec::new();
        let after = self.append(
            level,
            room,
            |tally, n| tally.add(longest, n),
            |out, context| {
                ends.reserve(ids.size_hint().0);
                let ids = ids.clone();
                if !plain || record::claims(out, context, at, ttl, ns, ids, &mut ends).is_none() {
                    record::versions(out, context, versions.clone(), &mut ends);
                }
            },
        )?;
        // The last id ends with the record.
        let len = ends.last().copied().unwrap_or_default();
        lsns.extend(ends.iter().map(|end| Lsn(after.0 - (len - end) as u64)));
        Ok(after)
    }

    /// Appends versions with full times, all of one generation.
    pub(crate) fn append_versions<'a>(
        &self,
        level: AppendLevel,
        generation: GenId,
        versions: impl Iterator<Item = (Key<'a>, Version)> + Clone,
    ) -> Result<Lsn> {
        let (ids, bytes) =
            versions.clone().fold((0, 0), |(n, bytes), (key, _)| (n + 1, bytes + key.id.len()));
        let room = Self::versions_room(ids, bytes);
        self.append(
            level,
            |_| room,
            |tally, bytes| tally.add(generation, bytes),
            |out, context| {
                record::versions(out, context, versions.clone(), &mut Vec::new());
            },
        )
    }

    /// Appends a commit as one record. `superseded` are the items of the rows that it replaces.
    pub(crate) fn append_commit(
        &self,
        level: AppendLevel,
        commit: &Commit,
        superseded: &[ItemAt],
    ) -> Result<Lsn> {
        let room = commit.bytes().len() + RECORD_HEAD_MAX;
        let encode = |out: &mut Vec<u8>, context| record::commit(out, context, commit);
        let after = self.append(level, |_| room, |tally, n| commit.count(tally, n), encode)?;
        if !superseded.is_empty() || commit.tombstones() > 0 {
            let mut tail = self.tail.lock();
            tail.note_superseded(superseded);
            if let Some(contents) = tail.contents_of(after.segment()) {
                contents.tombstones += commit.tombstones();
            }
        }
        Ok(after)
    }

    /// Returns the maximum size of a record of this many versions.
    pub(crate) fn versions_room(ids: usize, bytes: usize) -> usize {
        RECORD_HEAD_MAX + ids * VERSION_BYTES_MAX + bytes
    }

    /// Appends a namespace. Such a record always matters, so it counts as one that never ends.
    pub(crate) fn append_namespace(&self, new: &NamespaceRecord<'_>) -> Result<Lsn> {
        let room = new.name.len() + RECORD_HEAD_MAX;
        self.append(
            AppendLevel::Process,
            |_| room,
            |tally, bytes| tally.add(GenId::FOREVER, bytes),
            |out, context| {
                record::namespace(out, context, new);
            },
        )
    }

    /// Reserves space, then encodes and appends a record.
    ///
    /// A full disk is found here, before anything is written (I7): either the segment has space for the record, or a
    /// new one is created first. `room` bounds the record's size in a segment with the given base. `count` adds its
    /// bytes to what the segment holds.
    #[inline]
    fn append(
        &self,
        level: AppendLevel,
        room: impl Fn(Timestamp) -> usize,
        count: impl FnOnce(&mut Tally, u64),
        encode: impl FnOnce(&mut Vec<u8>, RecordContext),
    ) -> Result<Lsn> {
        let mut tail = self.tail.lock();
        self.config.health.check()?;
        let mut need = room(tail.active.header.base);
        // Again in the new segment: with a later base the record may need full times.
        while tail.offset as usize + need > tail.limit as usize {
            self.roll(&mut tail, need)?;
            need = room(tail.active.header.base);
        }
        let tail = &mut *tail;
        let context = tail.context();
        encode(&mut tail.scratch, context);
        debug_assert!(tail.scratch.len() <= need, "the estimate of room bounds the record");
        count(&mut tail.contents.tally, tail.scratch.len() as u64);
        let written = tail.write_record(level);
        written.map_err(|e| self.stop_on(e))?;
        Ok(tail.end())
    }
}

impl LogWriter {
    /// Writes the record in `scratch`: into the mapped segment, or else into a buffer.
    #[inline]
    pub(super) fn write_record(&mut self, level: AppendLevel) -> Result<()> {
        let len = self.scratch.len() as u32;
        if self.mapped {
            let written = self.active.file.write_all_at(&self.scratch, u64::from(self.offset));
            written.map_err(|e| Error::io("write", &self.active.path, e))?;
            self.offset += len;
            self.written = self.offset;
            if self.offset - self.mapped_from >= self.limit / MAPPED_PART {
                self.release_pages();
            }
        } else {
            self.buffer.extend_from_slice(&self.scratch);
            self.offset += len;
            if level >= AppendLevel::Process || self.buffer.len() >= BUFFER_BYTES_MAX {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Writes buffered bytes to the file.
    pub(super) fn flush(&mut self) -> Result<()> {
        if !self.buffer.is_empty() {
            let at = u64::from(self.written);
            let written = self.active.file.write_all_at(&self.buffer, at);
            written.map_err(|e| Error::io("write", &self.active.path, e))?;
            self.buffer.clear();
        }
        self.written = self.offset;
        Ok(())
    }

    /// Releases the mapped pages that were written.
    #[cold]
    fn release_pages(&mut self) {
        self.active.file.release_pages(self.mapped_from.into(), self.offset.into());
        self.mapped_from = self.offset;
    }
}
