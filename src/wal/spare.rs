//! The next segment, created and zero-filled ahead of need so that no claim waits for it.
//!
//! First writes to allocated but unwritten blocks cost a page fault and, at sync, an unwritten-extent conversion.
//! Filling the spare with zeros in the background pays for both here, at the price of as many zero bytes as the log
//! will write. PostgreSQL does the same (`wal_init_zero`). For the gain see docs/notes/speed.md.

use crate::error::{Error, Result};
use crate::sync::{Arc, Ordering};
use crate::time::Timestamp;
use crate::wal::segment::Segment;
use crate::wal::spare_segment::Spare;
use crate::wal::writer::{Log, create};

/// The spare is filled once 1/8 of the active segment has been written. Filling takes some ten milliseconds; the need
/// for it is checked every flush interval.
const FILL_PART: u32 = 8;

impl Log {
    /// Returns whether this process has appended to the log or rolled over to another segment.
    pub(crate) fn is_written_to(&self) -> bool {
        let tail = self.tail.lock();
        tail.offset > tail.rest.began || tail.rest.spare.is_some()
    }

    /// Creates the next segment ahead of need, so that no claim waits for it. Called in the background.
    pub(crate) fn prepare_spare(&self, now: Timestamp) -> Result<()> {
        let number = {
            let mut tail = self.tail.lock();
            if tail.rest.spare.is_some() {
                return Ok(());
            }
            tail.rest.next_number += 1;
            tail.rest.next_number - 1
        };
        // Without the lock: creating a file takes milliseconds.
        let segment = Arc::new(create(&self.config, number, now, self.config.segment_bytes)?);
        self.keep_spare(Spare { segment, is_filled: false }).map(drop)
    }

    /// Fills the spare with zeros if it will soon be needed; a store opened only to be queried skips this. Called in
    /// the background.
    pub(crate) fn fill_spare(&self) -> Result<()> {
        let spare = {
            let mut tail = self.tail.lock();
            let is_soon = tail.offset - tail.rest.began > tail.limit / FILL_PART;
            match tail.rest.spare.take_if(|spare| is_soon && !spare.is_filled) {
                // Unreachable while being filled: a claim that cannot wait creates its own.
                Some(spare) => spare.segment,
                None => return Ok(()),
            }
        };
        let filled = spare.fill_ahead(self.config.segment_bytes);
        // Usable wherever filling stopped: the rest is allocated and reads as zeros.
        let kept = self.keep_spare(Spare { segment: Arc::clone(&spare), is_filled: true })?;
        let is_asked = self.commit.take_asked();
        if filled? && kept && is_asked { self.sync_spare(&spare) } else { Ok(()) }
    }

    /// Syncs the spare's zeros; otherwise the first sync of its records would have to. It may become active meanwhile.
    fn sync_spare(&self, spare: &Segment) -> Result<()> {
        let _under_way = self.spare_sync.under_way.lock();
        let number = spare.header.number;
        self.spare_sync.number.store(number.into(), Ordering::Release);
        let synced = spare.file.sync_data();
        let answer = synced.map_err(|error| {
            let error = Error::io("sync", &spare.path, error);
            let is_it = |unused: &mut Spare| unused.segment.header.number == number;
            let unused = self.tail.lock().rest.spare.take_if(is_it);
            match unused {
                Some(unused) => {
                    self.discard(&unused.segment).ok();
                    error
                }
                // The kernel reports the error once; the next sync may succeed regardless (I7).
                None => self.stop_on(error),
            }
        });
        self.spare_sync.number.store(0, Ordering::Release);
        answer
    }

    /// Installs the spare; returns whether it can be used.
    fn keep_spare(&self, spare: Spare) -> Result<bool> {
        let mut tail = self.tail.lock();
        if spare.segment.header.number > tail.active.header.number {
            tail.rest.spare = Some(spare);
            return Ok(true);
        }
        // A claim that could not wait has created a later segment; locations must not go backwards.
        drop(tail);
        self.discard(&spare.segment)?;
        Ok(false)
    }

    /// Removes a segment that was never written to.
    pub(super) fn discard(&self, segment: &Segment) -> Result<()> {
        segment.file.unmap();
        let removed = self.config.disk.remove(&segment.path);
        removed.map_err(|e| Error::io("remove", &segment.path, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Disk;
    use crate::disk::sim::{Fault, SimDisk};
    use crate::wal::writer::tests::{NOW, append, ids_in, log_on_disk, recovered};
    use std::path::{Path, PathBuf};

    /// Returns the file operations since `set_trace`, as the first word of each.
    fn done(disk: &SimDisk) -> Vec<String> {
        let steps = disk.trace().into_iter();
        steps.map(|step| step.what.split(' ').next().unwrap_or_default().to_owned()).collect()
    }

    fn segments(disk: &SimDisk) -> Vec<PathBuf> {
        disk.list(Path::new("/log")).expect("lists")
    }

    fn named(numbers: &[u32]) -> Vec<PathBuf> {
        numbers.iter().map(|number| PathBuf::from(format!("{number:010}.seg"))).collect()
    }

    /// Returns a log whose first segment is a quarter full.
    fn log_in_use() -> (Log, SimDisk) {
        let (log, disk) = log_on_disk();
        append(&log, 400).expect("there is room");
        disk.set_trace(true);
        (log, disk)
    }

    #[test]
    fn a_spare_is_filled_once_when_it_will_soon_be_needed_and_synced_where_syncs_are_waited_for() {
        let (log, disk) = log_on_disk();
        disk.set_trace(true);
        log.fill_spare().expect("there is nothing to do");
        assert_eq!(done(&disk), [""; 0], "a log that is hardly used does without");
        for is_asked in [false, true] {
            let (log, disk) = log_in_use();
            log.sync_to(log.end()).expect("work in the background asks for nothing");
            if is_asked {
                log.sync_for_caller(log.end()).expect("syncs");
            }
            disk.set_trace(true);
            log.fill_spare().expect("fills");
            let expected = if is_asked { &["fill", "sync"][..] } else { &["fill"] };
            assert_eq!(done(&disk), expected);
            log.fill_spare().expect("is filled");
            assert_eq!(done(&disk), expected, "once");
            while log.active() == 1 {
                append(&log, 100).expect("goes on in the spare");
            }
            assert_eq!((log.active(), ids_in(&log, 2)), (2, 100));
        }
    }

    /// A store that is opened, queried and closed writes no megabytes of zeros, wherever its log ends.
    #[test]
    fn a_spare_of_a_log_that_is_only_read_is_not_filled() {
        let (log, disk) = log_in_use();
        log.close().expect("closes");
        let log = recovered(&disk);
        log.prepare_spare(NOW).expect("there is room");
        disk.set_trace(true);
        log.fill_spare().expect("there is nothing to do");
        assert_eq!(done(&disk), [""; 0]);
        append(&log, 400).expect("there is room");
        log.fill_spare().expect("fills");
        assert!(done(&disk).contains(&"fill".to_owned()));
    }

    /// A spare still reachable while being filled would lose the records appended meanwhile.
    #[test]
    fn i1_a_spare_that_is_being_filled_is_out_of_reach_and_goes_when_it_comes_too_late() {
        let (log, disk) = log_in_use();
        let log = Arc::new(log);
        let other = Arc::clone(&log);
        disk.before_next_fill(move || {
            while other.active() == 1 {
                append(&other, 100).expect("makes a segment for itself");
            }
        });
        log.fill_spare().expect("fills");
        assert_eq!((log.active(), ids_in(&log, 3)), (3, 100), "not the spare, which was number 2");
        assert_eq!(segments(&disk), named(&[1, 3]), "the spare is gone");
    }

    /// The sync takes longer than the fill, and claims do not wait for it.
    #[test]
    fn a_spare_is_in_reach_while_its_zeros_are_synced() {
        let (log, disk) = log_in_use();
        let log = Arc::new(log);
        log.sync_for_caller(log.end()).expect("syncs");
        let other = Arc::clone(&log);
        disk.after_next_sync(move || {
            while other.active() == 1 {
                append(&other, 100).expect("goes on in the spare");
            }
        });
        log.fill_spare().expect("fills");
        assert_eq!((log.active(), ids_in(&log, 2)), (2, 100));
    }

    #[test]
    fn a_spare_that_cannot_be_filled_serves_as_it_is_and_is_not_tried_again() {
        let (log, disk) = log_in_use();
        disk.fail_at(disk.ops(), Fault::Error(std::io::ErrorKind::Other), false);
        log.fill_spare().expect_err("the disk says no");
        disk.set_trace(true);
        log.fill_spare().expect("there is nothing to do");
        assert_eq!(done(&disk), [""; 0]);
        while log.active() == 1 {
            append(&log, 100).expect("goes on");
        }
        assert_eq!((log.active(), ids_in(&log, 2)), (2, 100));
    }

    #[test]
    fn i7_a_spare_whose_zeros_cannot_be_synced_goes_and_one_in_use_stops_the_log() {
        let (log, disk) = log_in_use();
        log.sync_for_caller(log.end()).expect("syncs");
        disk.fail_at(disk.ops() + 1, Fault::Error(std::io::ErrorKind::Other), false);
        log.fill_spare().expect_err("the disk says no");
        assert_eq!(segments(&disk), named(&[1]));
        log.prepare_spare(Timestamp::from_millis(NOW.as_millis() + 2_000)).expect("there is room");
        append(&log, 5).expect("the log goes on");

        let (log, disk) = log_in_use();
        let spare = log.tail.lock().rest.spare.as_ref().map(|spare| Arc::clone(&spare.segment));
        let spare = spare.expect("was made");
        while log.active() == 1 {
            append(&log, 100).expect("goes on in the spare");
        }
        disk.fail_at(disk.ops(), Fault::Error(std::io::ErrorKind::Other), false);
        log.sync_spare(&spare).expect_err("the disk says no");
        let refused = append(&log, 5).expect_err("what is on disk is unknown");
        assert!(matches!(refused, Error::Stopped { .. }), "{refused}");
    }

    /// Linux reports a writeback error to only one of two concurrent syncs of a file. When the background sync got it,
    /// a caller whose record was lost was told that it was on disk.
    #[test]
    fn i6_i7_no_caller_is_answered_before_the_sync_of_the_spare_that_holds_its_record() {
        let (log, disk) = log_in_use();
        let log = Arc::new(log);
        log.sync_for_caller(log.end()).expect("syncs");
        let other = Arc::clone(&log);
        let (told, hears) = std::sync::mpsc::channel();
        disk.after_next_failed_sync(move || {
            let (done, is_done) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                while other.active() == 1 {
                    append(&other, 100).expect("goes on in the spare");
                }
                told.send(other.sync_for_caller(other.end())).expect("is heard");
                done.send(()).expect("is waited for");
            });
            // Long enough for a premature result to arrive.
            is_done.recv_timeout(std::time::Duration::from_millis(200)).ok();
        });
        disk.fail_at(disk.ops() + 1, Fault::Error(std::io::ErrorKind::Other), false);
        log.fill_spare().expect_err("the disk says no");
        let answer = hears.recv().expect("is told").expect_err("the record may be lost");
        assert!(matches!(answer, Error::Stopped { .. }), "{answer}");
    }
}
