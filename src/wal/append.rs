//! Appending: `append_*` choose a record, `append` encodes it and makes room, `write_record` writes it.

use crate::disk::COPIED_MAX;
use crate::error::{Error, Result};
use crate::expiry::{GenId, Version};
use crate::id::{Key, NsId};
use crate::sync::{Arc, MutexGuard, lock_awake, lock_or_wait};
use crate::time::{Timestamp, Ttl};
use crate::wal::commit::Commit;
use crate::wal::item::NamespaceRecord;
use crate::wal::lanes;
use crate::wal::record::{self, RecordFormat};
use crate::wal::writer::{AppendLevel, Log, LogWriter};
use crate::wal::{ItemAt, Lsn};
use std::cell::Cell;
use std::ops::Range;

/// Maximum bytes that a thread keeps for its records.
const SCRATCH_BYTES_MAX: usize = 64 << 10;

/// Maximum bytes buffered by an unmapped log.
const BUFFER_BYTES_MAX: usize = 64 << 10;

impl Log {
    /// Appends a claim and returns the location after it: on disk once the log is synced up to there. The caller holds the
    /// lock of the shard.
    #[inline]
    pub(crate) fn append_claim(
        &self,
        shard: usize,
        level: AppendLevel,
        at: Timestamp,
        ttl: Ttl,
        key: Key<'_>,
        version: Version,
    ) -> Result<Lsn> {
        // One that must outlive an earlier claim, or was made while the clock is in doubt, does not follow from its ttl alone.
        let plain = version == Version::claim(at, ttl);
        self.append_in_shard(shard, level, version.generation(), |out, format| {
            if !plain || record::claim(out, format, at, ttl, key).is_none() {
                record::versions(out, std::iter::once((key, version)), &mut Vec::new());
            }
        })
    }

    /// Appends a version of one id with full times. The caller holds the lock of the shard.
    pub(crate) fn append_version(
        &self,
        shard: usize,
        level: AppendLevel,
        key: Key<'_>,
        version: Version,
    ) -> Result<Lsn> {
        self.append_in_shard(shard, level, version.generation(), |out, _| {
            record::versions(out, std::iter::once((key, version)), &mut Vec::new());
        })
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
        let longest = longest.unwrap_or_else(|| claim.generation());
        let mut ends = Vec::new();
        let after = self.append(
            level,
            |tail, bytes| tail.count(longest, bytes),
            |out, format| {
                ends.clear();
                ends.reserve(ids.size_hint().0);
                let ids = ids.clone();
                if !plain || record::claims(out, format, at, ttl, ns, ids, &mut ends).is_none() {
                    record::versions(out, versions.clone(), &mut ends);
                }
                record::long_checksum(out)
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
        self.append(
            level,
            |tail, bytes| tail.count(generation, bytes),
            |out, _| {
                record::versions(out, versions.clone(), &mut Vec::new());
                record::long_checksum(out)
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
        let encode = |out: &mut Vec<u8>, _| record::commit(out, commit);
        let after = self.append(
            level,
            |tail, bytes| commit.count(&mut tail.rest.contents.tally, bytes),
            encode,
        )?;
        if !superseded.is_empty() || commit.tombstones() > 0 {
            let mut tail = self.tail.lock();
            tail.note_superseded(superseded);
            if let Some(contents) = tail.contents_of(after.segment()) {
                contents.tombstones += commit.tombstones();
            }
        }
        Ok(after)
    }

    /// Appends a namespace. Such a record always matters, so it counts as one that never ends.
    pub(crate) fn append_namespace(&self, new: &NamespaceRecord<'_>) -> Result<Lsn> {
        self.append(
            AppendLevel::Process,
            |tail, bytes| tail.count(GenId::FOREVER, bytes),
            |out, format| {
                record::namespace(out, format, new);
                None
            },
        )
    }

    /// Encodes a record, makes room for it, and appends it.
    ///
    /// A full disk is found here, before anything is written (I7): either the segment has space for the record, or a
    /// new one is created first. `encode` returns what [`record::long_checksum`] says, and is called again if the segment
    /// turns out to be another one. `count` adds the record's bytes to what the segment holds.
    #[inline]
    fn append(
        &self,
        level: AppendLevel,
        count: impl FnOnce(&mut LogWriter, u64),
        mut encode: impl FnMut(&mut Vec<u8>, RecordFormat) -> Option<u32>,
    ) -> Result<Lsn> {
        with_scratch(|record| {
            let (mut segment, format) = self.active_format.get();
            let mut checksum = encode(record, format);
            let mut tail = lock_awake(&self.tail);
            self.config.health.check()?;
            self.make_room(&mut tail, |tail| {
                let header = &tail.active.header;
                if header.number != segment {
                    // Times are relative to a base, so it may be longer here.
                    segment = header.number;
                    checksum = encode(record, header.format());
                }
                record.len()
            })?;
            let tail = &mut *tail;
            self.close_lanes(tail)?;
            record::seal(record, tail.context(), checksum);
            count(tail, record.len() as u64);
            let written = tail.write_record(record, level);
            written.map_err(|e| self.stop_on(e))?;
            Ok(tail.end())
        })
    }
}

impl Log {
    /// Appends a record of one shard: where threads meet, in a lane.
    #[inline]
    fn append_in_shard(
        &self,
        shard: usize,
        level: AppendLevel,
        generation: GenId,
        mut encode: impl FnMut(&mut Vec<u8>, RecordFormat),
    ) -> Result<Lsn> {
        with_scratch(|record| {
            let (segment, format) = self.active_format.get();
            encode(record, format);
            if self.lanes.are_in_use() {
                let mut lane = lock_awake(self.lanes.choose(shard));
                if lane.has_room(segment, record.len()) {
                    self.config.health.check()?;
                    return lane.write(record, generation).map_err(|e| self.stop_on(e));
                }
            }
            self.append_at_end(shard, level, generation, record, segment, encode)
        })
    }

    /// As `append_in_shard`, for a record encoded for this segment whose lane has no room: under the lock of the tail.
    #[inline]
    fn append_at_end(
        &self,
        shard: usize,
        level: AppendLevel,
        generation: GenId,
        record: &mut Vec<u8>,
        mut segment: u32,
        mut encode: impl FnMut(&mut Vec<u8>, RecordFormat),
    ) -> Result<Lsn> {
        let (mut tail, is_contended) = lock_or_wait(&self.tail);
        self.config.health.check()?;
        let mut in_lane = false;
        self.make_room(&mut tail, |tail| {
            let header = &tail.active.header;
            if header.number != segment {
                segment = header.number;
                encode(record, header.format());
            }
            let can = tail.mapping.is_some() && record.len() <= COPIED_MAX;
            in_lane = can && self.lanes.take(is_contended && level < AppendLevel::Disk);
            if in_lane { lanes::room_for(record.len()) } else { record.len() }
        })?;
        // Only an extent may own the mapping once the tail is let go: whoever closes the log waits for the lane, and then
        // changes the length of the file.
        if let Some(mapping) = tail.mapping.as_ref().filter(|_| in_lane) {
            let mut lane = self.lanes.choose(shard).lock();
            if !lane.has_room(segment, record.len()) {
                let (LogWriter { offset, limit, active, .. }, mapping) =
                    (&*tail, Arc::clone(mapping));
                let end =
                    lane.set_aside(&self.lanes, active, mapping, *offset, *limit, record.len());
                tail.offset = end.map_err(|e| self.stop_on(e))?;
            }
            drop(tail);
            return lane.write(record, generation).map_err(|e| self.stop_on(e));
        }
        self.close_lanes(&mut tail)?;
        record::seal(record, tail.context(), None);
        tail.count(generation, record.len() as u64);
        let written = tail.write_record(record, level);
        written.map_err(|e| self.stop_on(e))?;
        Ok(tail.end())
    }

    /// Makes room for what `needed` says, which is asked again in each new segment.
    #[inline]
    fn make_room(
        &self,
        tail: &mut MutexGuard<'_, LogWriter>,
        mut needed: impl FnMut(&LogWriter) -> usize,
    ) -> Result<()> {
        loop {
            let needed = needed(tail);
            if tail.offset as usize + needed <= tail.limit as usize {
                return Ok(());
            }
            self.roll(tail, needed)?;
        }
    }
}

/// Lends the thread's buffer for one record.
fn with_scratch<R>(write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    thread_local! {
        static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    // Taken and put back: a schedule explorer runs several threads as one. A thread that ends may have lost it already.
    let mut scratch = SCRATCH.try_with(Cell::take).unwrap_or_default();
    let answer = write(&mut scratch);
    if scratch.capacity() <= SCRATCH_BYTES_MAX {
        SCRATCH.try_with(|kept| kept.set(scratch)).ok();
    }
    answer
}

impl LogWriter {
    /// Writes a record: into the mapped segment, or else into a buffer.
    #[inline]
    pub(super) fn write_record(&mut self, record: &[u8], level: AppendLevel) -> Result<()> {
        let at = u64::from(self.offset);
        if let Some(mapping) = &self.mapping {
            let written = if record.len() <= COPIED_MAX {
                mapping.write(record, at)
            } else {
                self.active.file.write_all_at(record, at)
            };
            written.map_err(|e| Error::io("write", &self.active.path, e))?;
            self.offset += record.len() as u32;
        } else {
            self.rest.buffer.extend_from_slice(record);
            self.offset += record.len() as u32;
            if level >= AppendLevel::Process || self.rest.buffer.len() >= BUFFER_BYTES_MAX {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Writes buffered bytes to the file.
    pub(super) fn flush(&mut self) -> Result<()> {
        let rest = &mut *self.rest;
        if !rest.buffer.is_empty() {
            let written = self.active.file.write_all_at(&rest.buffer, u64::from(rest.written));
            written.map_err(|e| Error::io("write", &self.active.path, e))?;
            rest.buffer.clear();
        }
        rest.written = self.offset;
        Ok(())
    }

    /// Returns what was written to the active segment since the last call, for `DiskFile::release_pages`, which takes
    /// time for each page and so is called without the lock.
    pub(super) fn take_resident(&mut self) -> Range<u64> {
        let from = std::mem::replace(&mut self.rest.resident_from, self.offset);
        from.into()..self.offset.into()
    }
}
