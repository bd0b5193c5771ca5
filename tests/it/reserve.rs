//! Reservations: held, confirmed, dropped, lost in a crash.

use crate::support::*;
use firstseen::disk::sim::{Fault, SimDisk};
use firstseen::{ErrorKind, MemoryChunks, Reservation, Reserve, Reserved, Store};
use std::time::Duration;

fn open(disk: &SimDisk) -> Store {
    sim(disk, &clock()).wait_max(Duration::from_millis(100)).open().expect("opens")
}

fn hold(store: &Store, id: &str) -> Reservation {
    match store.reserve(id).expect("reserves") {
        Reserve::FirstSeen(held) => held,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_held_id_is_in_progress_for_others_and_a_claim_of_it_times_out() {
    let store = open(&SimDisk::new());
    let held = hold(&store, "a");
    assert!(matches!(store.reserve("a").unwrap(), Reserve::InProgress));
    let other = store.reserve_batch(&["b", "a", "b"]).unwrap();
    let answers = [Reserved::FirstSeen, Reserved::InProgress, Reserved::SameBatch];
    assert_eq!(other.answers(), answers);
    assert_eq!(store.stats().ids_reserved, 2);
    // I12: each of these waits, and none for ever.
    assert_eq!(store.claim("a").unwrap_err().kind(), ErrorKind::Retry);
    assert_eq!(store.claim_batch(&["c", "a"]).unwrap_err().kind(), ErrorKind::Retry);
    assert_eq!(store.forget("a").unwrap_err().kind(), ErrorKind::Retry);
    assert!(!store.contains("a").unwrap(), "not a claim yet");
    assert!(!store.contains("c").unwrap(), "the batch claimed nothing");
    drop((held, other));
    assert_eq!(store.stats().ids_reserved, 0);
    assert!(store.claim_batch(&["a", "b", "c"]).unwrap().iter().all(|a| a.is_first_seen()));
}

#[test]
fn a_claim_waits_for_the_end_of_a_reservation_and_hears_what_came_of_it() {
    for confirm in [true, false] {
        for batch in [true, false] {
            let disk = SimDisk::new();
            let store = sim(&disk, &clock()).wait_max(Duration::from_secs(20)).open().unwrap();
            let mut held = hold(&store, "a");
            std::thread::scope(|scope| {
                let waiting = scope.spawn(|| {
                    if batch {
                        store.claim_batch(&["x", "a"]).unwrap()[1]
                    } else {
                        store.claim("a").unwrap()
                    }
                });
                std::thread::park_timeout(Duration::from_millis(20));
                assert!(!waiting.is_finished());
                if confirm {
                    held.confirm().unwrap();
                }
                drop(held);
                assert_eq!(waiting.join().unwrap().is_first_seen(), !confirm);
            });
        }
    }
}

#[test]
fn confirm_claims_all_held_ids_and_only_once() {
    let disk = SimDisk::new();
    let store = open(&disk);
    let _ = store.claim("old").unwrap();
    let mut held = store.reserve_batch(&["a", "old", "b", "a"]).unwrap();
    assert!(matches!(held.answers()[1], Reserved::Duplicate { .. }));
    held.confirm().unwrap();
    held.confirm().unwrap();
    let stats = store.stats();
    assert_eq!((stats.first_seen, stats.ids_reserved), (3, 0));
    drop(held);
    assert!(store.claim("a").unwrap().is_duplicate(), "dropping after confirm changes nothing");
    let store = open(&disk.kill());
    assert!(["a", "b", "old"].iter().all(|id| store.contains(id).unwrap()));
}

#[test]
fn nothing_of_a_reservation_survives_a_crash() {
    let disk = SimDisk::new();
    let store = open(&disk);
    let written = store.stats().log_bytes;
    let _held = store.reserve_batch(&ids(0..100)).unwrap();
    assert_eq!(store.stats().log_bytes, written, "nothing is in the log before confirm");
    let store = open(&disk.kill());
    claim_all_first(&store, 0..100);
}

#[test]
fn an_error_of_confirm_keeps_the_ids_held_and_the_call_may_be_repeated() {
    let disk = SimDisk::new();
    let store = sim(&disk, &clock()).segment_bytes(16 << 10).open().unwrap();
    let mut held = store.reserve_batch(&ids(0..200)).unwrap();
    disk.set_capacity(Some(disk.used()));
    let full = (1000..).find_map(|n| store.claim(id(n)).err()).unwrap();
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    assert_eq!(held.confirm().unwrap_err().kind(), ErrorKind::StorageFull);
    assert!(matches!(store.reserve(id(5)).unwrap(), Reserve::InProgress), "still held");
    assert_seen(&store, 0..200, false);
    disk.set_capacity(None);
    held.confirm().unwrap();
    assert_seen(&store, 0..200, true);
}

#[test]
fn a_reservation_keeps_the_store_open_and_close_ends_it() {
    let disk = SimDisk::new();
    let store = open(&disk);
    let mut held = hold(&store, "a");
    drop(store);
    assert_eq!(sim(&disk, &clock()).open().unwrap_err().kind(), ErrorKind::Locked);
    held.confirm().unwrap();
    drop(held);
    let store = open(&disk);
    assert!(store.contains("a").unwrap());
    let mut late = hold(&store, "late");
    store.close().unwrap();
    assert_eq!(late.confirm().unwrap_err().kind(), ErrorKind::Reopen);
    drop(late);
    assert!(open(&disk).claim("late").unwrap().is_first_seen());
}

#[test]
fn a_waiting_claim_hears_of_a_close() {
    let disk = SimDisk::new();
    let store = sim(&disk, &clock()).wait_max(Duration::from_secs(60)).open().unwrap();
    let held = hold(&store, "a");
    let other = store.clone();
    let waiting = std::thread::spawn(move || other.claim("a").unwrap_err().kind());
    std::thread::park_timeout(Duration::from_millis(30));
    store.close().unwrap();
    assert_eq!(waiting.join().unwrap(), ErrorKind::Reopen);
    drop(held);
}

/// Found by reading: a bell that others rang began the wait anew, so a claim that waited for room could wait
/// for ever while reservations of other ids were dropped.
#[test]
#[expect(clippy::disallowed_methods, reason = "how long the call took, for a person's clock")]
fn i12_a_claim_waits_no_longer_than_wait_max_whatever_rings_meanwhile() {
    let disk = SimDisk::new();
    let store = sim(&disk, &clock()).shards(1).wait_max(Duration::from_millis(100)).open().unwrap();
    let held: Vec<Reservation> = (0..200).map(|n| hold(&store, &format!("other-{n}"))).collect();
    // Nobody seals here: in the end there is no room.
    let full = (0..).find_map(|n| store.claim(id(n)).err()).unwrap();
    assert_eq!(full.kind(), ErrorKind::Retry);
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for one in held {
                drop(one);
                std::thread::park_timeout(Duration::from_millis(20));
                if over.load(std::sync::atomic::Ordering::Acquire) {
                    break;
                }
            }
        });
        let began = std::time::Instant::now();
        let answer = store.claim(id(u64::MAX)).map_err(|e| e.kind());
        over.store(true, std::sync::atomic::Ordering::Release);
        assert_eq!(answer, Err(ErrorKind::Retry));
        let waited = began.elapsed();
        assert!(waited < Duration::from_secs(2), "a wait of 100 ms took {waited:?}");
    });
}

/// All within one millisecond: the claim that is confirmed must outlast the tombstone of the one before.
#[test]
fn i2_what_is_confirmed_right_after_it_was_forgotten_is_there_after_a_reopen() {
    let (disk, clock, chunks) = (SimDisk::new(), clock(), MemoryChunks::default());
    let open = || sim_with(&disk, &clock, &chunks).open().unwrap();
    let store = open();
    assert!(store.claim("a").unwrap().is_first_seen());
    assert!(store.forget("a").unwrap());
    let Reserve::FirstSeen(mut held) = store.reserve("a").unwrap() else { panic!("it is new") };
    held.confirm().unwrap();
    assert!(store.contains("a").unwrap());
    drop((held, store));
    assert!(open().contains("a").unwrap());
}

/// A store with 2,000 sealed ids whose chunks are all lost since it was opened.
fn with_lost_chunks(disk: &SimDisk) -> (Store, MemoryChunks) {
    let chunks = MemoryChunks::default();
    let open = || {
        let builder = sim_with(disk, &clock(), &chunks).shards(1);
        builder.wait_max(Duration::from_millis(100)).open().expect("opens")
    };
    let store = open();
    claim_all_first(&store, 0..2_000);
    store.freeze();
    settle(&store);
    store.close().unwrap();
    let store = open();
    chunks.damage(|_| false);
    (store, chunks)
}

/// New ids stand in the batch before one whose chunk has to be healed, and the batch is looked up again after that.
#[test]
fn i1_a_batch_that_is_healed_half_way_answers_as_if_nothing_had_been_damaged() {
    let ids = [id(5_000), id(5_001), id(5)];
    let (store, _chunks) = with_lost_chunks(&SimDisk::new());
    let answers = store.claim_batch(&ids).unwrap();
    let first: Vec<bool> = answers.iter().map(|answer| answer.is_first_seen()).collect();
    assert_eq!(first, [true, true, false]);

    let (store, _chunks) = with_lost_chunks(&SimDisk::new());
    let mut held = store.reserve_batch(&ids).unwrap();
    let answers = held.answers();
    assert_eq!(answers[..2], [Reserved::FirstSeen; 2]);
    assert!(matches!(answers[2], Reserved::Duplicate { .. }), "{answers:?}");
    held.confirm().unwrap();
    assert!(store.contains(id(5_000)).unwrap());
}

#[test]
fn i12_a_reservation_whose_healing_fails_holds_nothing() {
    let disk = SimDisk::new();
    let (store, _chunks) = with_lost_chunks(&disk);
    disk.fail_at(disk.ops(), Fault::Error(std::io::ErrorKind::Other), true);
    let failed = store.reserve_batch(&[id(5_000), id(5)]);
    assert!(failed.is_err(), "{failed:?}");
    drop(failed);
    disk.clear_faults();
    assert_eq!(store.stats().ids_reserved, 0);
}

/// A chunk store that says yes and keeps nothing: what it is asked for is built in memory, and where that has no room
/// the call ends all the same.
#[test]
fn i12_a_chunk_store_that_keeps_nothing_stops_nobody() {
    let (store, chunks) = with_lost_chunks(&SimDisk::new());
    chunks.set_forgetful(true);
    for n in (0..4_000).step_by(97) {
        assert_eq!(store.contains(id(n)).unwrap(), n < 2_000, "id {n}");
    }
    assert!(store.claim(id(7)).unwrap().is_duplicate());
}

/// A claim that waits for an id is woken when the id is given back, long before it would stop waiting.
#[test]
fn i12_whoever_waits_for_an_id_is_woken_when_it_is_released() {
    let disk = SimDisk::new();
    let store = sim(&disk, &clock()).wait_max(Duration::from_secs(600)).open().expect("opens");
    let held = hold(&store, "a");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| store.claim("a").expect("claims").is_first_seen());
        // Give it time to wait; should it come too late for that, nothing is tested, and nothing fails.
        std::thread::park_timeout(Duration::from_millis(50));
        drop(held);
        assert!(waiting.join().expect("does not panic"));
    });
}
