//! The end of the log, where records are appended.
//!
//! One lock, held for a memory copy of some thirty bytes (where threads meet at it, single claims take another way:
//! `lanes.rs`): the active segment is preallocated and mapped, so at [`AppendLevel::Process`] a record of a few ids needs no
//! system call. Where a mapping is not safe, bytes go through a buffer: written before `append` returns at `Process`, or within the flush interval at `Buffered`.

use crate::disk::{Disk, Mapped};
use crate::error::{Error, Result};
use crate::expiry::{GenId, Horizon};
use crate::health::Health;
use crate::id::Seed;
use crate::limits;
use crate::sync::{
    Arc, AtomicBool, AtomicU64, CachePadded, Mutex, MutexGuard, Ordering, Signal, Wakers,
};
use crate::time::Timestamp;
use crate::wal::active_format::ActiveFormat;
use crate::wal::group_commit::GroupCommit;
use crate::wal::lanes::{Lanes, UseLanes};
use crate::wal::record::{self, END_BYTES, MARK_BYTES, RecordContext};
use crate::wal::retention::{Contents, SegmentMeta};
use crate::wal::segment::{DATA_START, Header, Segment};
use crate::wal::spare_segment::{Spare, SpareSync};
use crate::wal::{ItemAt, Lsn};
use std::path::PathBuf;

/// When a record must have left this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum AppendLevel {
    /// At the next flush.
    Buffered,
    /// Before `append` returns, so that it survives a process crash.
    Process,
    /// As `Process`, for a caller that then waits for a sync.
    Disk,
}

/// Configuration of a log.
#[derive(Debug, Clone)]
pub(crate) struct LogConfig {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) seed: Seed,
    pub(crate) health: Arc<Health>,
    /// Raised when there is background work: a spare segment to create, a full one to sync.
    pub(crate) work: Arc<Signal>,
    pub(crate) segment_bytes: u32,
    /// The version of new segments.
    pub(crate) segment_version: u16,
    pub(crate) lanes: UseLanes,
}

impl LogConfig {
    /// Returns the header of a new segment.
    pub(super) fn header(&self, number: u32, base: Timestamp) -> Header {
        let (version, boot) = (self.segment_version, self.disk.boot_id());
        Header { version, number, base, seed: self.seed, boot }
    }
}

/// The log of an open store.
#[derive(Debug)]
pub(crate) struct Log {
    pub(super) config: LogConfig,
    pub(super) tail: CachePadded<Mutex<LogWriter>>,
    pub(super) lanes: Lanes,
    pub(super) commit: GroupCommit,
    pub(super) spare_sync: SpareSync,
    /// The futures that wait for the log to be on disk up to a location.
    pub(super) futures: Wakers<Lsn>,
    pub(super) active_format: ActiveFormat,
    /// Whether appends reach the operating system at once. Mirrors the tail, for readers without its lock.
    is_mapped: AtomicBool,
    /// How many segments have been filled. For readers without the lock of the tail.
    rolls: AtomicU64,
}

/// What every append needs, which fills one cache line with the lock before it: threads that append in turn hand over that
/// line and those that they write to. All else is behind `rest`.
#[derive(Debug)]
#[repr(C)]
pub(super) struct LogWriter {
    pub(super) offset: u32,
    pub(super) limit: u32,
    /// The generation appended last, and its bytes that `contents` does not have yet.
    recent: (GenId, u64),
    pub(super) active: Arc<Segment>,
    /// The mapping of the active segment.
    pub(super) mapping: Option<Arc<dyn Mapped>>,
    pub(super) rest: Box<LogRest>,
}

const _: () = assert!(std::mem::size_of::<LogWriter>() == 64);

#[derive(Debug)]
pub(super) struct LogRest {
    /// Offset at which this process began to write to the segment.
    pub(super) began: u32,
    /// What the active segment holds, without what is recent.
    pub(super) contents: Contents,
    /// Bytes before this offset have been written to the file; not kept up to date if the segment is mapped.
    pub(super) written: u32,
    /// Bytes from `written` to `offset`; stays empty if the segment is mapped.
    pub(super) buffer: Vec<u8>,
    /// Written bytes from this offset on are still in the page table of this process.
    pub(super) resident_from: u32,
    pub(super) spare: Option<Spare>,
    pub(super) next_number: u32,
    /// Full segments with records not known to be on disk.
    pub(super) unsynced: Vec<Arc<Segment>>,
    closed: Vec<SegmentMeta>,
}

/// A segment created for one large record is a multiple of this.
const LARGER_BY: usize = 64 << 10;

impl LogWriter {
    pub(super) fn end(&self) -> Lsn {
        Lsn::new(self.active.header.number, self.offset)
    }

    pub(super) fn closed(&self) -> &[SegmentMeta] {
        &self.rest.closed
    }

    /// Adds bytes to what the active segment holds.
    #[inline]
    pub(super) fn count(&mut self, generation: GenId, bytes: u64) {
        if self.recent.0 != generation {
            self.settle();
            self.recent.0 = generation;
        }
        self.recent.1 += bytes;
    }

    /// Adds what is recent to `contents`.
    #[cold]
    fn settle(&mut self) {
        let (generation, bytes) = self.recent;
        if bytes > 0 {
            self.rest.contents.tally.add(generation, bytes);
            self.recent.1 = 0;
        }
    }

    pub(super) fn contents_of(&mut self, number: u32) -> Option<&mut Contents> {
        if number == self.active.header.number {
            return Some(&mut self.rest.contents);
        }
        let closed = &mut self.rest.closed;
        let i = closed.binary_search_by_key(&number, |meta| meta.number).ok()?;
        Some(&mut closed[i].contents)
    }

    pub(super) fn note_superseded(&mut self, items: &[ItemAt]) {
        for item in items {
            if let Some(contents) = self.contents_of(item.end.segment()) {
                contents.superseded += u64::from(item.len);
            }
        }
    }

    pub(super) fn context(&self) -> RecordContext {
        self.active.context(self.offset)
    }
}

impl Log {
    /// Starts a log at `offset` of `active`, or in a new first segment.
    pub(super) fn start(
        config: LogConfig,
        at: Option<(Segment, u32, Contents)>,
        closed: Vec<SegmentMeta>,
        next_number: u32,
        now: Timestamp,
    ) -> Result<Self> {
        let (active, offset, contents, next_number) = match at {
            Some((segment, offset, contents)) => (segment, offset, contents, next_number),
            None => {
                let segment = create(&config, next_number, now, config.segment_bytes)?;
                (segment, DATA_START, Contents::default(), next_number + 1)
            }
        };
        // An oversized segment also needs space for its end mark.
        let segment_bytes = config.segment_bytes.max(offset + END_BYTES as u32);
        let bytes = u64::from(segment_bytes);
        active.file.allocate(bytes).map_err(|e| Error::io("allocate", &active.path, e))?;
        active.file.map(bytes).map_err(|e| Error::io("map", &active.path, e))?;
        let rest = LogRest {
            began: offset,
            contents,
            written: offset,
            buffer: Vec::new(),
            resident_from: offset,
            spare: None,
            next_number,
            unsynced: Vec::new(),
            closed,
        };
        let mapping = active.file.mapped();
        let is_mapped = AtomicBool::new(mapping.is_some());
        let tail = LogWriter {
            offset,
            limit: segment_bytes - END_BYTES as u32,
            recent: (GenId::FOREVER, 0),
            active: Arc::new(active),
            mapping,
            rest: Box::new(rest),
        };
        let (commit, spare_sync) = (GroupCommit::new(Lsn(0)), SpareSync::default());
        let (futures, rolls) = (Wakers::default(), AtomicU64::new(0));
        let active_format = ActiveFormat::of(&tail.active.header);
        let tail = CachePadded::new(Mutex::new(tail));
        let lanes = Lanes::new(config.lanes, config.segment_bytes);
        Ok(Self {
            config,
            tail,
            lanes,
            commit,
            spare_sync,
            futures,
            active_format,
            is_mapped,
            rolls,
        })
    }

    /// Sets the version of segments made from now on. Only once the manifest has the version that goes with it:
    /// otherwise a crash could leave a manifest that an older release reads beside a segment that it does not.
    pub(crate) fn set_segment_version(&mut self, version: u16) {
        self.config.segment_version = version;
    }

    /// Notes that these items do not matter any more.
    pub(crate) fn note_superseded(&self, items: &[ItemAt]) {
        self.tail.lock().note_superseded(items);
    }

    /// Returns whether a segment is part of the log. One that is not was removed because nothing in it mattered.
    pub(crate) fn has_segment(&self, number: u32) -> bool {
        let tail = self.tail.lock();
        number == tail.active.header.number
            || tail.rest.closed.binary_search_by_key(&number, |meta| meta.number).is_ok()
    }

    /// Returns the number of the oldest segment.
    pub(crate) fn oldest(&self) -> u32 {
        let tail = self.tail.lock();
        tail.rest.closed.first().map_or(tail.active.header.number, |meta| meta.number)
    }

    /// Returns how many segments have been filled since the log was opened.
    #[inline]
    pub(crate) fn rolls(&self) -> u64 {
        self.rolls.load(Ordering::Acquire)
    }

    /// Returns the bytes that compaction would free of the full segments from `first` on.
    pub(crate) fn reclaimable_since(&self, first: u32, now: Horizon<'_>) -> u64 {
        let tail = self.tail.lock();
        let oldest = tail.rest.closed.first().map(|meta| meta.number);
        let closed = tail.rest.closed.iter().filter(|meta| meta.number >= first);
        closed.map(|meta| meta.reclaimable(now, Some(meta.number) == oldest)).sum()
    }

    /// Returns the size of a usual segment.
    pub(crate) fn segment_bytes(&self) -> u64 {
        self.config.segment_bytes.into()
    }

    /// Returns the space for records in an empty segment.
    pub(crate) fn record_room(&self) -> usize {
        self.config.segment_bytes as usize - DATA_START as usize - END_BYTES
    }

    /// Rolls over to a new segment. Fails without side effects if there is no space for one.
    #[cold]
    pub(super) fn roll(&self, tail: &mut MutexGuard<'_, LogWriter>, room: usize) -> Result<()> {
        let bytes = self.bytes_for(room)?;
        let is_larger = bytes > self.config.segment_bytes;
        let next = match tail.rest.spare.take_if(|_| !is_larger) {
            Some(spare) => spare.segment,
            None => self.create_next(tail, bytes)?,
        };
        if let Some(passed) = tail.rest.spare.take() {
            // Its number is now lower than the next segment's; locations must not go backwards.
            self.discard(&passed.segment).ok();
        }
        let tail = &mut **tail;
        self.close_lanes(tail)?;
        let context = tail.active.context(tail.offset);
        let mut mark = Vec::with_capacity(END_BYTES);
        record::end(&mut mark, next.header.number);
        record::seal(&mut mark, context, None);
        let ended = tail.write_record(&mark, AppendLevel::Process);
        ended.map_err(|e| self.stop_on(e))?;
        tail.settle();
        tail.mapping = next.file.mapped();
        let full = std::mem::replace(&mut tail.active, next);
        let end = std::mem::replace(&mut tail.offset, DATA_START);
        tail.limit = bytes - END_BYTES as u32;
        let rest = &mut *tail.rest;
        let contents = std::mem::take(&mut rest.contents);
        rest.closed.push(SegmentMeta { number: full.header.number, end, contents });
        rest.unsynced.push(full);
        rest.began = DATA_START;
        rest.written = DATA_START;
        rest.resident_from = DATA_START;
        // Under the lock, so whoever sees a record of the new segment sees this.
        self.is_mapped.store(tail.mapping.is_some(), Ordering::Release);
        self.active_format.set(&tail.active.header);
        self.rolls.fetch_add(1, Ordering::Release);
        self.config.work.raise();
        Ok(())
    }

    /// Returns the size of a segment that fits a record of this size: with small segments, a large batch may need a
    /// larger one.
    fn bytes_for(&self, room: usize) -> Result<u32> {
        let least = DATA_START as usize + room + END_BYTES;
        let usual = self.config.segment_bytes;
        let bytes = if least <= usual as usize {
            usual as usize
        } else {
            least.next_multiple_of(LARGER_BY)
        };
        match u32::try_from(bytes) {
            Ok(bytes) if bytes <= limits::SEGMENT_BYTES.max(usual) => Ok(bytes),
            _ => Err(Error::bug("a record is larger than a segment")),
        }
    }

    fn create_next(&self, tail: &mut LogWriter, bytes: u32) -> Result<Arc<Segment>> {
        // Every attempt uses up a number: leftovers of a failed one must not block the next, and gaps do not matter
        // because the end mark names the successor.
        let number = tail.rest.next_number;
        tail.rest.next_number += 1;
        // Reuse the previous segment's base time: an earlier base only makes ages longer, while a later one would turn
        // claims whose time was just read into long records.
        create(&self.config, number, tail.active.header.base, bytes).map(Arc::new)
    }

    /// Stops the store after a failed write or sync (I7), since what reached the file is unknown.
    ///
    /// The error says that and not what the operating system said: "the disk is full" would promise that nothing was
    /// claimed.
    pub(super) fn stop_on(&self, error: Error) -> Error {
        let why = error.to_string();
        self.config.health.stop(why.clone());
        Error::Stopped { why }
    }

    /// Returns the end of the log: what was appended is before it, and what will be appended behind it.
    pub(crate) fn end(&self) -> Lsn {
        let mut tail = self.tail.lock();
        // If that fails, nothing will be appended.
        self.settle(&mut tail).ok();
        tail.end()
    }

    /// Closes the lanes, before a record is written beside them.
    pub(super) fn close_lanes(&self, tail: &mut LogWriter) -> Result<()> {
        if self.lanes.are_in_use() {
            let written = self.lanes.close().map_err(|e| self.stop_on(e))?;
            tail.rest.contents.tally.add_all(&written);
        }
        Ok(())
    }

    /// Makes all that was appended stand before the end of the log, and leave this process.
    pub(super) fn settle(&self, tail: &mut LogWriter) -> Result<()> {
        if self.lanes.are_in_use() {
            // Whoever only asks for the end writes here, and the mapping of a forked child is that of the parent.
            if !self.config.health.is_home() {
                return Err(Error::Forked);
            }
            self.close_lanes(tail)?;
            let mut mark = Vec::with_capacity(MARK_BYTES);
            record::mark(&mut mark);
            record::seal(&mut mark, tail.context(), None);
            let marked = tail.write_record(&mark, AppendLevel::Process);
            marked.map_err(|e| self.stop_on(e))?;
        }
        let flushed = tail.flush();
        flushed.map_err(|e| self.stop_on(e))
    }

    /// Writes buffered bytes to the operating system, after which everything appended survives a process crash.
    pub(crate) fn flush(&self) -> Result<()> {
        self.config.health.check()?;
        let mut tail = self.tail.lock();
        tail.flush().map_err(|e| self.stop_on(e))
    }

    /// Returns whether appended bytes leave this process with their append.
    ///
    /// Checked for every unflushed duplicate, so without the append lock.
    #[inline]
    pub(crate) fn is_mapped(&self) -> bool {
        self.is_mapped.load(Ordering::Acquire)
    }

    /// Returns the segments that take no more records, oldest first.
    pub(crate) fn closed(&self) -> Vec<SegmentMeta> {
        self.tail.lock().rest.closed.clone()
    }

    /// Returns the numbers of all segments at one moment, oldest first; the last one is active.
    ///
    /// Querying the full segments and then the active one could miss a segment that fills in between.
    pub(crate) fn segments(&self) -> Vec<u32> {
        let tail = self.tail.lock();
        let closed = tail.rest.closed.iter().map(|meta| meta.number);
        closed.chain([tail.active.header.number]).collect()
    }

    /// Returns the number of the active segment.
    pub(crate) fn active(&self) -> u32 {
        self.tail.lock().active.header.number
    }

    /// Drops segments from `closed`, before the manifest is written without them.
    pub(crate) fn forget(&self, gone: &[u32]) {
        self.tail.lock().rest.closed.retain(|meta| !gone.contains(&meta.number));
    }

    /// Undoes `forget` when the manifest could not be written.
    pub(crate) fn remember(&self, closed: &[SegmentMeta]) {
        let mut tail = self.tail.lock();
        for meta in closed {
            // Compare by number: the superseded count may have changed.
            if tail.rest.closed.iter().all(|known| known.number != meta.number) {
                tail.rest.closed.push(meta.clone());
            }
        }
        tail.rest.closed.sort_by_key(|meta| meta.number);
    }

    /// Returns the path of a segment, for messages.
    pub(crate) fn segment_path(&self, number: u32) -> PathBuf {
        Segment::path(&self.config.dir, number)
    }

    /// Removes the file of a forgotten segment. The caller ensures that nothing in it matters.
    pub(crate) fn remove_file(&self, number: u32) -> Result<()> {
        let path = Segment::path(&self.config.dir, number);
        match self.config.disk.remove(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("remove", &path, e))
            }
            _ => Ok(()),
        }
    }

    /// Closes the log cleanly: everything synced, unused space released.
    pub(crate) fn close(&self) -> Result<()> {
        self.sync_to(self.end())?;
        // Not beside a leader: Linux reports a writeback error to only one of two callers that fsync a file.
        self.commit.alone(|| self.close_alone())
    }

    fn close_alone(&self) -> Result<()> {
        let mut tail = self.tail.lock();
        // Under the append lock, so no records are added from here on. Those added since the sync are synced with the
        // rest.
        self.config.health.close();
        self.settle(&mut tail)?;
        for full in std::mem::take(&mut tail.rest.unsynced) {
            full.file.unmap();
            full.file.sync_data().map_err(|e| Error::io("sync", &full.path, e))?;
        }
        tail.mapping = None;
        tail.active.file.unmap();
        self.is_mapped.store(false, Ordering::Release);
        let len = u64::from(tail.offset);
        let path = tail.active.path.clone();
        tail.active.file.set_len(len).map_err(|e| Error::io("truncate", &path, e))?;
        if let Some(spare) = tail.rest.spare.take() {
            self.discard(&spare.segment)?;
        }
        tail.active.file.sync_data().map_err(|e| Error::io("sync", &path, e))?;
        // After the sync, or it could be untrue.
        tail.active.note_durable(tail.end());
        self.set_durable(tail.end());
        Ok(())
    }

    /// Returns the bytes of all segments on disk, and how many of them were written.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let tail = self.tail.lock();
        let closed: u64 = tail.rest.closed.iter().map(SegmentMeta::bytes).sum();
        let active = u64::from(tail.limit) + END_BYTES as u64;
        let spare = tail.rest.spare.as_ref().map_or(0, |_| u64::from(self.config.segment_bytes));
        (closed + active + spare, closed + u64::from(tail.offset))
    }
}

pub(super) fn create(
    config: &LogConfig,
    number: u32,
    base: Timestamp,
    bytes: u32,
) -> Result<Segment> {
    let header = config.header(number, base);
    Segment::create(&*config.disk, &config.dir, header, bytes)
}

const _: () = assert!(limits::RECORD_BYTES_MAX < limits::SEGMENT_BYTES as usize - 8192);

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;
    use crate::expiry::Version;
    use crate::id::{Key, NsId};
    use crate::time::Ttl;
    use crate::wal::item::Item;
    use crate::wal::recover::ReplayPlan;
    use crate::wal::version::{NEXT, VERSION};

    pub(in crate::wal) const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    /// Returns an empty log with a spare whose base is later.
    fn log() -> Log {
        log_on_disk().0
    }

    pub(in crate::wal) fn log_on_disk() -> (Log, SimDisk) {
        let disk = SimDisk::new();
        disk.create_dir_all(&PathBuf::from("/log")).expect("makes a folder");
        let log = recovered(&disk);
        log.prepare_spare(Timestamp::from_millis(NOW.as_millis() + 1_000)).expect("there is room");
        (log, disk)
    }

    pub(in crate::wal) fn recovered(disk: &SimDisk) -> Log {
        recovered_as(disk, VERSION)
    }

    fn recovered_as(disk: &SimDisk, segment_version: u16) -> Log {
        let config = LogConfig {
            disk: Arc::new(disk.clone()),
            dir: PathBuf::from("/log"),
            seed: Seed([7; 16]),
            health: Arc::default(),
            work: Arc::default(),
            segment_bytes: 32 << 10,
            segment_version,
            lanes: UseLanes::default(),
        };
        let plan = ReplayPlan { first: 1, ..ReplayPlan::default() };
        Log::recover(config, plan, NOW, |_, _| Ok(())).expect("a whole log").log
    }

    pub(in crate::wal) fn append(log: &Log, count: u64) -> Result<Lsn> {
        let (ns, ttl) = (NsId(1), Ttl::from_millis(60_000));
        let ids: Vec<[u8; 16]> = (0..count).map(|n| u128::from(n).to_le_bytes()).collect();
        let versions = ids.iter().map(|id| (Key { ns, id }, Version::claim(NOW, ttl)));
        log.append_claims(AppendLevel::Process, NOW, ttl, versions, &mut Vec::new())
    }

    pub(in crate::wal) fn ids_in(log: &Log, segment: u32) -> usize {
        let mut ids = 0;
        let count = |_, item: Item<'_>| {
            if let Item::Version(_, version) = item {
                assert_eq!(version.first_seen(), NOW, "of the time at which it was claimed");
                ids += 1;
            }
            Ok(())
        };
        log.scan(segment, count).expect("reads");
        ids
    }

    /// A caller reads the time, and before it appends its batch a segment with a later base is created. There the
    /// record needs full times, and more space than in the previous segment.
    #[test]
    fn i9_a_batch_that_is_older_than_the_segment_it_goes_to_has_room_there() {
        let small = log();
        while small.active() == 1 {
            append(&small, 500).expect("fits with full times, too");
        }
        assert_eq!(ids_in(&small, 2), 500);

        let large = log();
        append(&large, 1000).expect("fits without full times");
        append(&large, 1000).expect("gets a segment that is larger than usual");
        append(&large, 1).expect("the log goes on");
        let second = large.active();
        assert_eq!((ids_in(&large, 1), ids_in(&large, second)), (1000, 1001));
    }

    /// A log is not written again at an upgrade: old and new segments are read beside each other.
    #[test]
    fn each_segment_is_read_as_its_own_version_says() {
        let (first, disk) = log_on_disk();
        append(&first, 10).expect("fits");
        drop(first);
        let second = recovered_as(&disk, NEXT);
        while second.segments().len() < 3 {
            append(&second, 500).expect("fits");
        }
        let third = recovered_as(&disk, NEXT);
        assert_eq!(third.segments(), second.segments());
        let ids: Vec<usize> = third.segments().iter().map(|n| ids_in(&third, *n)).collect();
        assert!(ids[0] % 500 == 10 && ids[1] >= 500, "{ids:?}");
        let version = |number: u32| {
            let path = Segment::path(&PathBuf::from("/log"), number);
            Segment::open(&disk, &path).expect("is there").context(DATA_START).format.version
        };
        let versions: Vec<u16> = third.segments().into_iter().map(version).collect();
        assert_eq!(versions, [VERSION, NEXT, NEXT]);
    }

    #[test]
    fn a_segment_says_in_which_boot_it_was_made() {
        let boot_of = |disk: &SimDisk, number| {
            let path = Segment::path(&PathBuf::from("/log"), number);
            Segment::open(disk, &path).expect("is there").header.boot
        };
        let (_log, disk) = log_on_disk();
        disk.sync_dir(&PathBuf::from("/")).expect("syncs");
        let after = disk.crash(1);
        let log = recovered(&after);
        while log.active() == 1 {
            append(&log, 500).expect("fits");
        }
        assert_eq!(boot_of(&after, 1), disk.boot_id());
        assert_eq!(boot_of(&after, log.active()), after.boot_id());
        assert_ne!(disk.boot_id(), after.boot_id());
    }

    /// What is superseded in a segment changes while a manifest is being written; when that failed, the segment was put
    /// back beside itself, and no manifest could be written any more.
    #[test]
    fn a_segment_that_was_counted_on_meanwhile_is_remembered_once() {
        let log = log();
        while log.active() == 1 {
            append(&log, 500).expect("fits");
        }
        let before = log.closed();
        log.note_superseded(&[ItemAt { end: Lsn::new(1, 5_000), len: 100 }]);
        log.remember(&before);
        assert_eq!(log.closed().len(), before.len());
        log.forget(&[1]);
        log.remember(&before);
        assert_eq!(log.closed(), before);
    }

    /// Address space or map entries may run out.
    #[test]
    fn i6_a_log_goes_on_where_its_next_segment_cannot_be_mapped_and_says_so() {
        let (log, disk) = log_on_disk();
        assert!(log.is_mapped());
        let disk = disk.without_mapping();
        while log.active() < 3 {
            append(&log, 500).expect("fits");
        }
        assert!(!log.is_mapped(), "a duplicate must wait until its claim has left the process");
        let (key, ttl) = (Key { ns: NsId(1), id: b"late" }, Ttl::from_millis(60_000));
        let version = Version::claim(NOW, ttl);
        let at = log.append_claim(0, AppendLevel::Buffered, NOW, ttl, key, version).expect("fits");
        let written = |log: &Log| log.tail.lock().rest.written;
        assert!(written(&log) < at.offset(), "it is in the buffer");
        log.flush().expect("writes");
        assert_eq!(written(&log), at.offset());
        let active = log.active();
        let ids = ids_in(&log, active);
        assert_eq!(ids_in(&recovered(&disk.kill()), active), ids);
    }

    /// What was appended last is counted apart until the generation changes or the segment is full.
    #[test]
    fn i4_what_a_full_segment_holds_is_counted_to_its_last_record() {
        let log = log();
        let (key, mut n) = (Key { ns: NsId(1), id: &[7; 16] }, 0);
        while log.active() == 1 {
            let ttl = [Ttl::from_millis(60_000), Ttl::FOREVER][n / 3 % 2];
            let version = Version::claim(NOW, ttl);
            log.append_claim(0, AppendLevel::Process, NOW, ttl, key, version).expect("fits");
            n += 1;
        }
        let full = &log.closed()[0];
        let counted = full.contents.tally.live(NOW);
        let mark = u64::from(full.end - DATA_START) - counted;
        assert!((1..=END_BYTES as u64).contains(&mark), "{mark} bytes for the end mark");
    }

    /// Checked for every unflushed duplicate while others append.
    #[test]
    fn whether_the_log_is_mapped_is_asked_without_its_lock() {
        let log = Arc::new(log());
        let held = log.tail.lock();
        let (answers, answer) = std::sync::mpsc::channel();
        let asked = Arc::clone(&log);
        let asks = std::thread::spawn(move || answers.send(asked.is_mapped()));
        let heard = answer.recv_timeout(std::time::Duration::from_secs(20));
        drop(held);
        asks.join().expect("no panic").expect("is heard");
        assert_eq!(heard, Ok(true), "it waited for the lock");
        log.close().expect("closes");
        assert!(!log.is_mapped());
    }
}
