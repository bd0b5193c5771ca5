//! Lanes: several threads append claims at once, each into extents of its own.
//!
//! One lock and one position of the log are handed from processor to processor with every record, and two threads then append
//! hardly more than one. So where threads meet at that lock, a single claim goes into the *extent* of its thread's lane: a
//! part of the active segment that was set aside under the lock of the tail, once for some hundred records, and is filled
//! under the lock of the lane, which few other threads take. (Partitioned logs: Wang and Johnson, "Scalable Logging
//! through Emerging Non-Volatile Memory", 2014. Designs that were measured against each other: docs/rfcs/0012-many-cores.md.)
//!
//! **Order.** Everything else is appended under the lock of the tail, as without lanes, and first closes all of them: a
//! filler takes what is left of their extents. So do whoever asks where the log ends, syncs it, copies it or reads it. What is
//! before such a place in the log was appended before it, and what is behind it, after it. A *mark* ends such a stretch where
//! no other record does. Between two such places extents are in the order in which they were set aside, and nobody relies
//! on the order of records in different ones: not even of one id, whose records give one answer in any order
//! (docs/DESIGN.md, section 4).
//!
//! **After a crash** an extent may have a gap at its end; `holes.rs` says what becomes of it.

#[cfg(all(test, feature = "loom"))]
mod every_order;
#[cfg(test)]
mod tests;

use crate::disk::Mapped;
use crate::error::{Error, Result};
use crate::expiry::{GenId, Tally};
use crate::sync::{Arc, AtomicBool, AtomicU64, CachePadded, Mutex, Ordering, thread_number};
use crate::wal::Lsn;
use crate::wal::record::{self, EXTENT_BYTES_MAX, FILLER_BYTES_MIN, MARK_BYTES};
use crate::wal::segment::Segment;
use crate::wal::slots::{self, LANES_MAX};
use std::ops::RangeInclusive;

/// Bytes of an extent: least, and where a lane is seldom closed. What is left of it when the lane is closed is wasted.
const EXTENT_BYTES: RangeInclusive<u32> = 512..=16 << 10;

/// How often threads may meet, at most, before lanes are tried again.
const PASSED_MAX: u32 = 255;

/// When single claims go into lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum UseLanes {
    /// Where threads meet at the log; each in its own lane.
    #[default]
    WhereThreadsMeet,
    /// For tests: always; one after the other in all lanes.
    #[cfg_attr(not(any(test, feature = "testing")), allow(dead_code))]
    InTurn,
    /// For tests: always; each in that of its shard.
    #[cfg_attr(not(test), allow(dead_code))]
    OfShards,
}

/// The lanes of a log.
#[derive(Debug)]
pub(super) struct Lanes {
    all: Box<[CachePadded<Mutex<Lane>>]>,
    /// Whether any may have an extent. Read before its lock: claims of one thread take none.
    in_use: AtomicBool,
    when: UseLanes,
    /// Changed under the lock of the tail.
    worth: Mutex<Worth>,
    /// For tests: the next lane.
    turn: AtomicU64,
}

/// Whether lanes are worth their space. Where all of them are closed again and again, as by batches between single claims,
/// more is wasted than written, and they are tried less and less often.
#[derive(Debug, Default)]
struct Worth {
    /// Meetings of threads to pass over before lanes are used, and how many it will be after the next time in vain.
    to_pass: u32,
    next: u32,
}

/// Who fills extents.
#[derive(Debug)]
pub(super) struct Lane {
    number: u32,
    extent: Option<Extent>,
    /// Bytes of the next extent, and at most.
    bytes: u32,
    bytes_max: u32,
    /// Written and set aside since it was closed last.
    used: u32,
    set_aside: u32,
    /// The generation appended last, and its bytes that `tally` does not have yet.
    recent: (GenId, u64),
    /// What the lane has written to the active segment since it was closed last.
    tally: Tally,
}

/// A part of the active segment that one lane fills.
#[derive(Debug)]
struct Extent {
    segment: Arc<Segment>,
    mapping: Arc<dyn Mapped>,
    /// Offset of its head.
    head: u32,
    /// Offset of the next record.
    at: u32,
    end: u32,
}

impl Lanes {
    pub(super) fn new(when: UseLanes, segment_bytes: u32) -> Self {
        let bytes_max = (segment_bytes >> 8).clamp(*EXTENT_BYTES.start(), *EXTENT_BYTES.end());
        let lane = |number| Lane {
            number,
            extent: None,
            bytes: *EXTENT_BYTES.start(),
            bytes_max,
            used: 0,
            set_aside: 0,
            recent: (GenId::FOREVER, 0),
            tally: Tally::default(),
        };
        let numbers = 0..LANES_MAX as u32;
        let all = numbers.map(|number| CachePadded::new(Mutex::new(lane(number)))).collect();
        let (in_use, worth) = (AtomicBool::new(false), Mutex::default());
        Self { all, in_use, when, worth, turn: AtomicU64::new(0) }
    }

    /// Returns the lane for a claim of this shard: that of the calling thread, whose lines are in its core's caches already.
    /// Threads that share one only wait for each other.
    #[inline]
    pub(super) fn choose(&self, shard: usize) -> &Mutex<Lane> {
        let number = match self.when {
            UseLanes::WhereThreadsMeet => thread_number(),
            UseLanes::InTurn => self.turn.fetch_add(1, Ordering::Relaxed) as usize,
            UseLanes::OfShards => shard,
        };
        &self.all[number % LANES_MAX]
    }

    /// Returns whether a lane may have an extent. Not if it says no under the lock of the tail.
    #[inline]
    pub(super) fn are_in_use(&self) -> bool {
        self.in_use.load(Ordering::Relaxed)
    }

    /// Returns whether a single record goes into an extent. `is_contended`: its thread had to wait for the lock of the tail, and
    /// will not wait for a sync, which closes the lanes. Once one lane is in use all are: a record beside them would close
    /// them.
    pub(super) fn take(&self, is_contended: bool) -> bool {
        self.are_in_use()
            || self.when != UseLanes::WhereThreadsMeet
            || (is_contended && self.worth.lock().is_due())
    }

    /// Closes all lanes: what they have appended is now before the end of the log, and what they will append behind it. Returns
    /// what they have written since they were closed last. Called under the lock of the tail.
    ///
    /// One after the other. Who finds his lane closed has to wait for the lock of the tail, so nothing that was appended
    /// after it can be in a lane that is closed later.
    pub(super) fn close(&self) -> Result<Tally> {
        let (mut used, mut set_aside, mut written) = (0_u64, 0_u64, Tally::default());
        for lane in &self.all {
            let mut lane = lane.lock();
            lane.fill_up()?;
            lane.settle();
            written.add_all(&std::mem::take(&mut lane.tally));
            lane.bytes = lane.used.next_power_of_two().clamp(*EXTENT_BYTES.start(), lane.bytes_max);
            used += u64::from(std::mem::take(&mut lane.used));
            set_aside += u64::from(std::mem::take(&mut lane.set_aside));
        }
        self.worth.lock().note(used * 2 >= set_aside);
        self.in_use.store(false, Ordering::Relaxed);
        Ok(written)
    }
}

impl Worth {
    fn is_due(&mut self) -> bool {
        let is_due = self.to_pass == 0;
        self.to_pass = self.to_pass.saturating_sub(1);
        is_due
    }

    fn note(&mut self, is_worth_it: bool) {
        self.next = if is_worth_it { 0 } else { (self.next * 2 + 1).min(PASSED_MAX) };
        self.to_pass = self.next;
    }
}

/// Returns the space that a record of this size needs in an extent of its own, with a mark behind it.
pub(super) fn room_for(len: usize) -> usize {
    EXTENT_BYTES_MAX + len + MARK_BYTES
}

impl Lane {
    /// Returns whether a record of this size, encoded for this segment, fits into the extent.
    #[inline]
    pub(super) fn has_room(&self, segment: u32, len: usize) -> bool {
        self.extent.as_ref().is_some_and(|extent| {
            let left = extent.end - extent.at;
            extent.segment.header.number == segment
                && (len == left as usize || len + FILLER_BYTES_MIN as usize <= left as usize)
        })
    }

    /// Sets aside an extent at the end of the log, `at`, for a record of this size and more, for which there is room before
    /// `limit`: [`room_for`]. Returns the new end of the log, whose lock the caller holds.
    ///
    /// The words of the lane name it before its head is written: an extent that is in the log and that they do not name has
    /// lost something.
    pub(super) fn set_aside(
        &mut self,
        lanes: &Lanes,
        segment: &Arc<Segment>,
        mapping: Arc<dyn Mapped>,
        at: u32,
        limit: u32,
        len: usize,
    ) -> Result<u32> {
        self.fill_up()?;
        let room = limit - at - (EXTENT_BYTES_MAX + MARK_BYTES) as u32;
        let len = len as u32;
        let bytes = match self.bytes.min(room) {
            bytes if bytes >= len + FILLER_BYTES_MIN => bytes,
            _ => len,
        };
        self.bytes = (self.bytes * 2).min(self.bytes_max);
        let mut head = Vec::with_capacity(EXTENT_BYTES_MAX);
        record::extent(&mut head, self.number, bytes);
        record::seal(&mut head, segment.context(at), None);
        let begin = at + head.len() as u32;
        let segment = Arc::clone(segment);
        let extent = Extent { segment, mapping, head: at, at: begin, end: begin + bytes };
        let mapping = &*extent.mapping;
        let noted = slots::note_written(mapping, self.number, at, begin)
            .and_then(|()| slots::note_begun(mapping, self.number, at, begin))
            .and_then(|()| slots::note_chain(mapping, extent.end, at))
            .and_then(|()| mapping.write(&head, u64::from(at)))
            .and_then(|()| slots::note_chain(mapping, extent.end, extent.end));
        noted.map_err(|e| Error::io("write", &extent.segment.path, e))?;
        self.set_aside = self.set_aside.saturating_add(bytes);
        lanes.in_use.store(true, Ordering::Relaxed);
        let end = extent.end;
        self.extent = Some(extent);
        Ok(end)
    }

    /// Writes a record, for which there is room, and returns the location after it.
    #[inline]
    pub(super) fn write(&mut self, record: &mut [u8], generation: GenId) -> Result<Lsn> {
        let Some(extent) = &mut self.extent else {
            return Err(Error::bug("a lane without an extent"));
        };
        let (mapping, after) = (&*extent.mapping, extent.at + record.len() as u32);
        record::seal(record, extent.segment.context(extent.at), None);
        let written = slots::note_begun(mapping, self.number, extent.head, after)
            .and_then(|()| mapping.write(record, u64::from(extent.at)))
            .and_then(|()| slots::note_written(mapping, self.number, extent.head, after));
        written.map_err(|e| Error::io("write", &extent.segment.path, e))?;
        extent.at = after;
        let lsn = Lsn::new(extent.segment.header.number, after);
        if self.recent.0 != generation {
            self.settle();
            self.recent.0 = generation;
        }
        self.recent.1 += record.len() as u64;
        self.used = self.used.saturating_add(record.len() as u32);
        Ok(lsn)
    }

    /// Adds what is recent to the tally.
    #[cold]
    fn settle(&mut self) {
        let (generation, bytes) = self.recent;
        if bytes > 0 {
            self.tally.add(generation, bytes);
            self.recent.1 = 0;
        }
    }

    /// Gives up the extent; a filler takes what is left of it.
    fn fill_up(&mut self) -> Result<()> {
        let Some(extent) = self.extent.take() else { return Ok(()) };
        if extent.at < extent.end {
            let mut filler = Vec::new();
            record::filler(&mut filler, extent.end - extent.at);
            record::seal(&mut filler, extent.segment.context(extent.at), None);
            let written = extent.mapping.write(&filler, u64::from(extent.at));
            written.map_err(|e| Error::io("write", &extent.segment.path, e))?;
        }
        Ok(())
    }
}
