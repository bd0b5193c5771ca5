//! (c) Reserve and fill: one word holds segment and offset. A writer adds the size of its record to it and then copies
//! outside of any lock.

use super::{Design, Lane, Tally, generation, lsn};
use crate::record::{self, Claim, DATA_START};
use crate::segments::{LIMIT, RELEASE, Segment};
use crossbeam_utils::{Backoff, CachePadded};
use parking_lot::{Condvar, Mutex};
use std::sync::atomic::{AtomicU64, Ordering};

/// When an append returns.
pub trait Wait: Sync + 'static {
    /// Whether it waits until everything before its record is written.
    const IN_ORDER: bool = false;
    /// Whether the position moves by compare and swap, so that it never passes the limit.
    const SWAPS: bool = false;
    /// Whether a writer holds a lock of its lane meanwhile, under which its tally is, too. Otherwise a counter says that it
    /// writes.
    const LOCKS: bool = false;
    /// Whether one who is done before its turn says so, for whoever writes before it to go on over its record. Otherwise
    /// each moves `complete` over its own.
    const DELEGATES: bool = false;
    /// Whether one who waits for long sleeps until it is woken. Otherwise it gives the processor away again and again.
    const SLEEPS: bool = false;
}

/// Records begin at most this far behind the first that is not written. None is smaller than eight bytes.
const WINDOW: u64 = 128 << 10;

pub struct Reserve<W> {
    word: CachePadded<AtomicU64>,
    /// Number of the segment that takes records; read far more often than written.
    active: CachePadded<AtomicU64>,
    /// All before this location is written.
    complete: CachePadded<AtomicU64>,
    /// Odd while the lane is between reserving and the end of its copy.
    busy: Box<[CachePadded<AtomicU64>]>,
    /// By the offset of a record, the location after it once it is written.
    done: Box<[AtomicU64]>,
    /// Taken by whoever appends for the lane, and by whoever waits for that to end.
    locks: Box<[CachePadded<Mutex<Tally>>]>,
    rolling: Mutex<()>,
    /// How many sleep until `complete` moves.
    sleepers: CachePadded<AtomicU64>,
    moved: (Mutex<()>, Condvar),
    segments: Vec<Segment>,
    releases: bool,
    wait: std::marker::PhantomData<W>,
}

impl<W: Wait> Design for Reserve<W> {
    fn new(segments: Vec<Segment>, lanes: usize, releases: bool) -> Self {
        Self {
            word: CachePadded::new(AtomicU64::new(lsn(0, DATA_START))),
            active: CachePadded::new(AtomicU64::new(0)),
            complete: CachePadded::new(AtomicU64::new(lsn(0, DATA_START))),
            busy: (0..lanes).map(|_| CachePadded::new(AtomicU64::new(0))).collect(),
            done: (0..WINDOW / 8).map(|_| AtomicU64::new(0)).collect(),
            locks: (0..lanes).map(|_| CachePadded::default()).collect(),
            rolling: Mutex::new(()),
            sleepers: CachePadded::default(),
            moved: (Mutex::new(()), Condvar::new()),
            segments,
            releases,
            wait: std::marker::PhantomData,
        }
    }

    #[inline]
    fn append(&self, lane: &mut Lane, claim: &Claim) -> u64 {
        let busy = &self.busy[lane.number];
        let count = busy.load(Ordering::Relaxed);
        loop {
            let segment = &self.segments[self.active.load(Ordering::Acquire) as usize];
            // Before the reservation, so that others wait for as little as can be.
            record::encode(&mut lane.scratch, segment.context, claim);
            let len = lane.scratch.len() as u32;
            let mut locked = W::LOCKS.then(|| self.locks[lane.number].lock());
            if !W::IN_ORDER && !W::LOCKS {
                busy.store(count + 1, Ordering::Relaxed);
            }
            let Some(start) = self.reserve(segment.number, len) else {
                busy.store(count, Ordering::Release);
                drop(locked);
                self.roll(segment.number);
                continue;
            };
            record::finish(&mut lane.scratch, segment.context, start);
            segment.write(&lane.scratch, start);
            let tally = locked.as_deref_mut().unwrap_or(&mut lane.tally);
            tally.add(generation(claim), u64::from(len));
            let end = lsn(segment.number, start + len);
            if W::IN_ORDER {
                self.follow(lsn(segment.number, start), end);
            } else if !W::LOCKS {
                busy.store(count + 2, Ordering::Release);
            }
            drop(locked);
            if self.releases && (start + len) / RELEASE > start / RELEASE {
                segment.release((start + len).saturating_sub(2 * RELEASE), start);
            }
            return end;
        }
    }

    fn settled(&self) -> u64 {
        let end = self.word.load(Ordering::Acquire);
        for lock in &self.locks {
            drop(lock.lock());
        }
        for busy in &self.busy {
            let seen = busy.load(Ordering::Acquire);
            let backoff = Backoff::new();
            // Until this append is over; a later one reserves behind `end`.
            while seen % 2 == 1 && busy.load(Ordering::Acquire) == seen {
                backoff.snooze();
            }
        }
        if W::IN_ORDER { self.complete.load(Ordering::Acquire) } else { end }
    }
}

impl<W: Wait> Reserve<W> {
    /// Reserves bytes in this segment. `None`: it is full, or not the one that takes records any more.
    #[inline]
    fn reserve(&self, number: u32, len: u32) -> Option<u32> {
        if W::SWAPS {
            let mut at = self.word.load(Ordering::Relaxed);
            loop {
                // A sealed segment has the highest offset there is.
                if (at >> 32) as u32 != number || (at as u32).saturating_add(len) > LIMIT {
                    return None;
                }
                let new = at + u64::from(len);
                match self.word.compare_exchange_weak(at, new, Ordering::AcqRel, Ordering::Relaxed)
                {
                    Ok(_) => return Some(at as u32),
                    Err(now) => at = now,
                }
            }
        }
        let at = self.word.fetch_add(u64::from(len), Ordering::AcqRel);
        let (segment, start) = ((at >> 32) as u32, at as u32);
        if segment == number && start + len <= LIMIT {
            return Some(start);
        }
        if segment != number {
            // Another has rolled in between. What was reserved there holds nothing, and says so.
            let mut mark = Vec::new();
            record::encode_skip(&mut mark, len);
            let reserved = &self.segments[segment as usize];
            record::finish(&mut mark, reserved.context, start);
            if start + len <= LIMIT {
                reserved.write(&mark, start);
                if W::IN_ORDER {
                    self.follow(at, at + u64::from(len));
                }
                return None;
            }
        }
        if start <= LIMIT {
            // The first that does not fit: from here to the limit the segment is this thread's.
            self.finish(segment, start);
        }
        None
    }

    /// Ends a segment and begins the next. Called by one thread for each segment.
    #[cold]
    fn finish(&self, number: u32, offset: u32) {
        let (full, next) = (&self.segments[number as usize], number + 1);
        let mut mark = Vec::new();
        record::encode_end(&mut mark, next);
        record::finish(&mut mark, full.context, offset);
        full.write(&mark, offset);
        if W::IN_ORDER {
            self.follow(lsn(number, offset), lsn(next, DATA_START));
        }
        self.word.store(lsn(next, DATA_START), Ordering::Release);
        self.active.store(next.into(), Ordering::Release);
    }

    /// Returns once another segment than this one takes records.
    #[cold]
    fn roll(&self, number: u32) {
        if W::SWAPS {
            let _rolling = self.rolling.lock();
            if self.active.load(Ordering::Acquire) == u64::from(number) {
                // Nobody reserves behind the limit, and from here on nobody before it.
                let sealed = self.word.fetch_or(0xffff_ffff, Ordering::AcqRel);
                self.finish(number, sealed as u32);
            }
            return;
        }
        let backoff = Backoff::new();
        while self.active.load(Ordering::Acquire) == u64::from(number) {
            backoff.snooze();
        }
    }

    /// Waits until all before `start` is written, and says that all before `end` is.
    #[inline]
    fn follow(&self, start: u64, end: u64) {
        if W::DELEGATES {
            return self.hand_on(start, end);
        }
        if self.complete.load(Ordering::Acquire) != start {
            self.wait_for(start);
        }
        if !W::SLEEPS {
            self.complete.store(end, Ordering::Release);
            return;
        }
        // One order with `sleepers`: either this sees the sleeper, or the sleeper sees this.
        self.complete.store(end, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            drop(self.moved.0.lock());
            self.moved.1.notify_all();
        }
    }

    #[cold]
    fn wait_for(&self, start: u64) {
        let backoff = Backoff::new();
        while self.complete.load(Ordering::Acquire) != start {
            if W::SLEEPS && backoff.is_completed() {
                self.sleepers.fetch_add(1, Ordering::SeqCst);
                let mut asleep = self.moved.0.lock();
                while self.complete.load(Ordering::SeqCst) != start {
                    self.moved.1.wait(&mut asleep);
                }
                self.sleepers.fetch_sub(1, Ordering::SeqCst);
                return;
            }
            backoff.snooze();
        }
    }

    /// Says that a record is written, and moves `complete` over all that are. Returns once it is behind this one.
    #[inline]
    fn hand_on(&self, start: u64, end: u64) {
        let place = |at: u64| &self.done[(at % WINDOW / 8) as usize];
        let backoff = Backoff::new();
        // Segments begin at multiples of the window, so the difference of two in different segments is large.
        while start.wrapping_sub(self.complete.load(Ordering::Acquire)) >= WINDOW {
            backoff.snooze();
        }
        place(start).store(end, Ordering::Release);
        let backoff = Backoff::new();
        loop {
            let at = self.complete.load(Ordering::Acquire);
            if at >= end {
                return;
            }
            let next = place(at).load(Ordering::Acquire);
            if next > at {
                // Fails if another has gone on; then there is more to see.
                self.complete.compare_exchange(at, next, Ordering::AcqRel, Ordering::Relaxed).ok();
            } else {
                backoff.snooze();
            }
        }
    }
}
