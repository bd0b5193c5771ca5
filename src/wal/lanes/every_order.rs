//! Lanes under every interleaving, with at most two preemptions: the log itself on a simulated disk, whose lock is one more place
//! where threads may be stopped.

use super::tests::{batch, claim, empty, opened, sorted};
use crate::disk::sim::SimDisk;
use crate::sync::every_order::{explored, report};
use crate::sync::{Arc, AtomicBool, AtomicU64, Ordering, thread};
use crate::wal::Lsn;
use crate::wal::writer::Log;

const STOPS: Option<usize> = Some(2);

fn shared() -> (Arc<Log>, SimDisk) {
    let (log, disk) = empty();
    (Arc::new(log), disk)
}

/// Two lanes are filled while a third thread asks for the end, as one that flushes, syncs or copies does.
#[test]
fn loom_i10_what_was_answered_before_the_end_was_asked_is_before_it_and_what_comes_later_behind() {
    let orders = explored(STOPS, || {
        let (log, disk) = shared();
        let (answered, asked) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let writers: Vec<_> = (0..2)
            .map(|n| {
                let log = Arc::clone(&log);
                let (answered, asked) = (Arc::clone(&answered), Arc::clone(&asked));
                thread::spawn(move || {
                    let was_asked = asked.load(Ordering::Acquire);
                    let lsn = claim(&log, n, n as u64).expect("fits");
                    answered.fetch_max(lsn.0, Ordering::AcqRel);
                    (was_asked, lsn)
                })
            })
            .collect();
        let before = Lsn(answered.load(Ordering::Acquire));
        let end = log.end();
        asked.store(true, Ordering::Release);
        assert!(before <= end, "{before:?}, and the end at {end:?}");
        for writer in writers {
            let (was_asked, lsn) = writer.join().expect("no panic");
            assert!(!was_asked || lsn > end, "{lsn:?} after the end at {end:?}");
        }
        drop(log);
        assert_eq!(sorted(opened(&disk.kill()).expect("opens").1), [0, 1]);
    });
    report(orders, "two lanes of the log and who asks for its end (two stops at most)");
}

/// A sync covers what was answered before it, in whichever lane.
#[test]
fn loom_i6_a_sync_has_all_that_lanes_had_answered() {
    let orders = explored(STOPS, || {
        let (log, disk) = shared();
        let answered = Arc::new(AtomicU64::new(0));
        let writers: Vec<_> = (0..2)
            .map(|n| {
                let (log, answered) = (Arc::clone(&log), Arc::clone(&answered));
                thread::spawn(move || {
                    if claim(&log, n, n as u64).is_ok() {
                        answered.fetch_or(1 << n, Ordering::AcqRel);
                    }
                })
            })
            .collect();
        let before = answered.load(Ordering::Acquire);
        let end = log.end();
        log.sync_to(end).expect("syncs");
        let kept = opened(&disk.lose_unsynced()).expect("opens").1;
        let has = |n: &u64| kept.contains(n);
        assert!((0..2).filter(|n| before & 1 << n != 0).all(|n| has(&n)), "{before}, {kept:?}");
        writers.into_iter().for_each(|writer| drop(writer.join()));
    });
    report(orders, "two lanes of the log and a sync (two stops at most)");
}

/// Both find the segment full: it is left once, and a batch beside lanes closes them.
#[test]
fn loom_i1_a_full_segment_is_left_once_and_no_record_is_lost_or_twice() {
    let orders = explored(STOPS, || {
        let (log, disk) = shared();
        let next = 458;
        let end = batch(&log, 10..next).expect("fits").offset();
        assert!((30..50).contains(&(8 * 1024 - 11 - end)), "room for a record, and for no extent");
        let writers: Vec<_> = (0..2)
            .map(|n| {
                let log = Arc::clone(&log);
                thread::spawn(move || match n {
                    0 => claim(&log, 0, 0).expect("fits"),
                    _ => batch(&log, 1..2).expect("fits"),
                })
            })
            .collect();
        claim(&log, 1, 2).expect("fits");
        for writer in writers {
            writer.join().expect("no panic");
        }
        assert_eq!(log.rolls(), 1);
        drop(log);
        let kept = sorted(opened(&disk.kill()).expect("opens").1);
        assert!(kept.into_iter().eq((0..3).chain(10..next)));
    });
    report(orders, "two lanes of the log and a batch at the end of a segment (two stops at most)");
}

/// What was answered is there after an orderly close; what came too late was refused.
#[test]
fn loom_i6_a_lane_is_in_the_closed_log_or_is_refused() {
    let orders = explored(STOPS, || {
        let (log, disk) = shared();
        let writers: Vec<_> = (0..2)
            .map(|n| {
                let log = Arc::clone(&log);
                thread::spawn(move || claim(&log, n, n as u64).is_ok())
            })
            .collect();
        log.close().expect("closes");
        let answered: Vec<bool> =
            writers.into_iter().map(|writer| writer.join().expect("no panic")).collect();
        let kept = opened(&disk.lose_unsynced()).expect("opens").1;
        for (n, answered) in answered.into_iter().enumerate() {
            assert_eq!(kept.contains(&(n as u64)), answered, "{n}: {kept:?}");
        }
    });
    report(orders, "two lanes of the log and a close (two stops at most)");
}
