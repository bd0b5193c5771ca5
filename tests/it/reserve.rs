//! Reservations: held, confirmed, dropped, lost in a crash.

use crate::support::*;
use firstseen::disk::sim::{Fault, SimDisk};
use firstseen::{
    ClaimOptions, Durability, ErrorKind, MemoryBlocks, Reservation, Reserve, Reserved, Store,
    limits, seconds,
};
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
    // I12: each call waits, none forever.
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

/// Found by review: every wake-up restarted the wait, so a claim that waited for space could wait forever while
/// reservations of other ids were dropped.
#[test]
#[expect(clippy::disallowed_methods, reason = "how long the call took, for a person's clock")]
fn i12_a_claim_waits_no_longer_than_wait_max_whatever_rings_meanwhile() {
    let disk = SimDisk::new();
    let store = sim(&disk, &clock()).shards(1).wait_max(Duration::from_millis(100)).open().unwrap();
    let held: Vec<Reservation> = (0..200).map(|n| hold(&store, &format!("other-{n}"))).collect();
    // Nothing flushes here, so the memtables fill up.
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

/// All within one millisecond: the confirmed claim must outlast the tombstone before it.
#[test]
fn i2_what_is_confirmed_right_after_it_was_forgotten_is_there_after_a_reopen() {
    let (disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
    let open = || sim_with(&disk, &clock, &blocks).open().unwrap();
    let store = open();
    assert!(store.claim("a").unwrap().is_first_seen());
    assert!(store.forget("a").unwrap());
    let Reserve::FirstSeen(mut held) = store.reserve("a").unwrap() else { panic!("not new") };
    held.confirm().unwrap();
    assert!(store.contains("a").unwrap());
    drop((held, store));
    assert!(open().contains("a").unwrap());
}

/// A store with 2,000 flushed ids that lost all its blocks after it was opened.
fn with_lost_blocks(disk: &SimDisk) -> (Store, MemoryBlocks) {
    let blocks = MemoryBlocks::default();
    let open = || {
        let builder = sim_with(disk, &clock(), &blocks).shards(1);
        builder.wait_max(Duration::from_millis(100)).open().expect("opens")
    };
    let store = open();
    claim_all_first(&store, 0..2_000);
    store.freeze();
    settle(&store);
    store.close().unwrap();
    let store = open();
    blocks.damage(|_| false);
    (store, blocks)
}

/// New ids precede one whose block has to be healed, and healing makes the batch look everything up again.
#[test]
fn i1_a_batch_that_is_healed_half_way_answers_as_if_nothing_had_been_damaged() {
    let ids = [id(5_000), id(5_001), id(5)];
    let (store, _blocks) = with_lost_blocks(&SimDisk::new());
    let answers = store.claim_batch(&ids).unwrap();
    let first: Vec<bool> = answers.iter().map(|answer| answer.is_first_seen()).collect();
    assert_eq!(first, [true, true, false]);

    let (store, _blocks) = with_lost_blocks(&SimDisk::new());
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
    let (store, _blocks) = with_lost_blocks(&disk);
    disk.fail_at(disk.ops(), Fault::Error(std::io::ErrorKind::Other), true);
    let failed = store.reserve_batch(&[id(5_000), id(5)]);
    assert!(failed.is_err(), "{failed:?}");
    drop(failed);
    disk.clear_faults();
    assert_eq!(store.stats().ids_reserved, 0);
}

/// A block store that accepts every block and keeps none: blocks are rebuilt in memory, and the call ends even if they
/// do not fit there.
#[test]
fn i12_a_block_store_that_keeps_nothing_stops_nobody() {
    let (store, blocks) = with_lost_blocks(&SimDisk::new());
    blocks.set_forgetful(true);
    for n in (0..4_000).step_by(97) {
        assert_eq!(store.contains(id(n)).unwrap(), n < 2_000, "id {n}");
    }
    assert!(store.claim(id(7)).unwrap().is_duplicate());
}

/// Releasing the id wakes a waiting claim long before its deadline.
#[test]
fn i12_whoever_waits_for_an_id_is_woken_when_it_is_released() {
    let disk = SimDisk::new();
    let store = sim(&disk, &clock()).wait_max(Duration::from_secs(600)).open().expect("opens");
    let held = hold(&store, "a");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| store.claim("a").expect("claims").is_first_seen());
        // Let it start to wait. If it starts too late, nothing is tested and nothing fails.
        std::thread::park_timeout(Duration::from_millis(50));
        drop(held);
        assert!(waiting.join().expect("does not panic"));
    });
}

fn waiting(wait: Duration) -> ClaimOptions {
    ClaimOptions::new().wait(wait)
}

/// `wait_max` is ten minutes: a call that ignores its own wait hangs here.
#[test]
#[expect(clippy::disallowed_methods, reason = "how long the calls took, for a person's clock")]
fn i12_each_call_waits_for_a_reservation_no_longer_than_it_says() {
    let disk = SimDisk::new();
    let store = sim(&disk, &clock()).wait_max(Duration::from_secs(600)).open().unwrap();
    let named = store.namespace("named").unwrap();
    let _held = (hold(&store, "a"), named.reserve("a").unwrap());
    for (wait, least) in [(Duration::ZERO, 0), (Duration::from_millis(30), 30)] {
        let options = waiting(wait);
        let calls: [&dyn Fn() -> Option<ErrorKind>; 6] = [
            &|| store.claim_with("a", options).err().map(|e| e.kind()),
            &|| store.claim_batch_with(&["b", "a"], options).err().map(|e| e.kind()),
            &|| store.forget_with("a", options).err().map(|e| e.kind()),
            &|| named.claim_with("a", options).err().map(|e| e.kind()),
            &|| named.claim_batch_with(&["b", "a"], options).err().map(|e| e.kind()),
            &|| named.forget_with("a", options).err().map(|e| e.kind()),
        ];
        for (n, call) in calls.iter().enumerate() {
            let began = std::time::Instant::now();
            assert_eq!(call(), Some(ErrorKind::Retry), "call {n} with a wait of {wait:?}");
            let took = began.elapsed();
            assert!(took >= Duration::from_millis(least), "call {n} waited only {took:?}");
            assert!(took < Duration::from_secs(60), "call {n} waited {took:?}");
        }
    }
    // A call that may not wait succeeds if there is nothing to wait for.
    let now = waiting(Duration::ZERO);
    assert!(store.claim_with("b", now).unwrap().is_first_seen(), "the batch claimed nothing");
    assert!(store.claim_with("b", now).unwrap().is_duplicate());
    assert!(store.forget_with("b", now).unwrap());
}

/// The other direction: a call may wait longer than `wait_max`.
#[test]
fn a_call_that_may_wait_longer_than_the_store_hears_what_came_of_the_reservation() {
    let disk = SimDisk::new();
    let store = sim(&disk, &clock()).wait_max(Duration::ZERO).open().unwrap();
    let mut held = hold(&store, "a");
    assert_eq!(store.claim("a").unwrap_err().kind(), ErrorKind::Retry);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| store.claim_with("a", waiting(Duration::from_secs(600))));
        std::thread::park_timeout(Duration::from_millis(20));
        held.confirm().unwrap();
        assert!(waits.join().unwrap().unwrap().is_duplicate());
    });
}

/// Nothing flushes here, so the memtables fill up: a call that may not wait fails at once.
#[test]
fn i12_no_call_waits_for_room_longer_than_it_says() {
    let disk = SimDisk::new();
    let store = sim(&disk, &clock()).shards(1).wait_max(Duration::from_secs(600)).open().unwrap();
    let now = waiting(Duration::ZERO);
    let Reserve::FirstSeen(mut held) = store.reserve_with(id(u64::MAX), now).unwrap() else {
        panic!("not new")
    };
    let full = (0..).find_map(|n| store.claim_with(id(n), now).err()).unwrap();
    assert_eq!(full.kind(), ErrorKind::Retry);
    let new = id(1 << 40);
    assert_eq!(store.reserve_with(new, now).map_err(|e| e.kind()).err(), Some(ErrorKind::Retry));
    let batch = store.reserve_batch_with(&[new], now).map_err(|e| e.kind());
    assert_eq!(batch.err(), Some(ErrorKind::Retry));
    assert_eq!(held.confirm().unwrap_err().kind(), ErrorKind::Retry);
    settle(&store);
    held.confirm().unwrap();
}

#[test]
fn what_a_reservation_was_made_with_holds_for_its_claim() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).open().unwrap();
    let options = ClaimOptions::new().ttl(seconds(5)).durability(Durability::Disk);
    let Reserve::FirstSeen(mut held) = store.reserve_with("a", options).unwrap() else {
        panic!("not new")
    };
    assert_eq!(held.id(), b"a");
    held.confirm().unwrap();
    assert_eq!(held.id(), b"a", "also after confirming");
    assert_eq!(store.get("a").unwrap().unwrap().deadline.as_millis(), NOW + 5_000);
    let after_power_cut = sim(&disk.lose_unsynced(), &clock).open().unwrap();
    assert!(after_power_cut.contains("a").unwrap());
}

#[test]
fn held_ids_are_listed_with_their_age_the_oldest_first() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).open().unwrap();
    let named = store.namespace("named").unwrap();
    let listed = |held: Vec<firstseen::Held>| -> Vec<(Vec<u8>, String, u64)> {
        held.into_iter().map(|h| (h.id, h.namespace, h.age.as_secs())).collect()
    };
    let line = |id: &str, ns: &str, age| (id.as_bytes().to_vec(), ns.to_owned(), age);
    assert!(store.held().is_empty());
    let mut first = hold(&store, "first");
    clock.advance(Duration::from_secs(60));
    let second = named.reserve("second").unwrap();
    clock.advance(Duration::from_secs(5));
    // A jump of the wall clock does not age a reservation.
    clock.jump_to(firstseen::Timestamp::from_millis(NOW + 7 * 86_400_000));
    let third = hold(&store, "third");
    let both = [line("first", "default", 65), line("third", "default", 0)];
    assert_eq!(listed(store.default_namespace().held()), both);
    assert_eq!(listed(named.held()), [line("second", "named", 5)]);
    let all = [line("first", "default", 65), line("second", "named", 5), both[1].clone()];
    assert_eq!(listed(store.held()), all);
    first.confirm().unwrap();
    drop((second, third));
    assert!(store.held().is_empty(), "confirmed and dropped ids are not held");
    assert!(named.held().is_empty());
    // The list is bounded and keeps the oldest.
    let old = hold(&store, "old");
    clock.advance(Duration::from_secs(1));
    let many = store.reserve_batch(&ids(0..5_000)).unwrap();
    let held = store.held();
    assert_eq!(held.len(), limits::HELD_LISTED_MAX);
    assert_eq!((held[0].id.as_slice(), held[0].age.as_secs()), (&b"old"[..], 1));
    assert_eq!(store.stats().ids_reserved, 5_001);
    drop((old, many));
}
