//! Transactions of two phases that crash at every step of each phase.

use super::*;
use crate::support::NOW;
use firstseen::{ClaimOptions, minutes};
use std::sync::Mutex;
use std::sync::mpsc::channel;

/// What is seen of a transaction: whether its id, its row, its offset and its message are there.
fn seen(store: &Store) -> [bool; 4] {
    let points: Table<u64> = store.table("points").expect("opens");
    let orders = store.source("orders").expect("opens");
    let awarded = store.outbox("awarded").expect("opens");
    [
        store.contains("order-1").expect("reads"),
        points.get("anna").expect("reads").is_some_and(|entry| entry.value == 2),
        orders.position(0).expect("reads").is_some_and(|position| position.next == 7),
        awarded.read(10).expect("reads").len() == 1,
    ]
}

fn prepare(store: &Store) -> Result<CommitOutcome, Error> {
    let points: Table<u64> = store.table("points")?;
    let (orders, awarded) = (store.source("orders")?, store.outbox("awarded")?);
    let mut transaction = store.transaction();
    transaction.claim("order-1").put(&points, "anna", &2)?.advance(&orders, 0, 7);
    transaction.emit(&awarded, "anna has 2")?;
    transaction.prepare("t1")
}

/// BEHAVIOURS 64.
#[test]
fn i1_a_preparation_is_there_as_a_whole_or_not_at_all_after_a_crash_at_any_step() {
    let mut outcomes = [0, 0];
    for at in 0.. {
        let (disk, clock) = (SimDisk::new(), clock());
        let store = open(&disk, &clock);
        store.table::<u64>("points").expect("opens").put("anna", &1).expect("puts");
        store.sync().expect("syncs");
        let ops = disk.ops();
        disk.fail_at(ops + at, Fault::Crash, false);
        let told = prepare(&store);
        let was_crashed = disk.ops() > ops + at;
        let store = open(&disk.crash(at), &clock);
        let prepared = store.prepared().expect("lists");
        assert!(prepared.len() <= 1, "crash at {at}");
        if told.is_ok_and(|outcome| outcome.is_committed()) {
            assert_eq!(prepared.len(), 1, "crash at {at}: it was said to be on disk");
        }
        outcomes[prepared.len()] += 1;
        if prepared.is_empty() {
            assert_eq!(seen(&store), [false; 4], "crash at {at}");
            assert!(prepare(&store).expect("nothing is held").is_committed(), "crash at {at}");
        }
        // It can still end either way.
        let claimed = store.claim("order-1").expect_err("is held");
        assert!(matches!(claimed, Error::InDoubt), "crash at {at}: {claimed}");
        let is_committed = at % 2 == 0;
        let ended =
            if is_committed { store.commit_prepared("t1") } else { store.rollback_prepared("t1") };
        assert_eq!(ended.expect("ends"), EndOutcome::Done, "crash at {at}");
        assert_eq!(seen(&store), [is_committed; 4], "crash at {at}");
        assert_sound(&store);
        if !was_crashed {
            break;
        }
    }
    assert!(outcomes[0] > 0 && outcomes[1] > 0, "{outcomes:?}");
}

/// BEHAVIOURS 64.
#[test]
fn i1_the_end_of_a_preparation_is_there_as_a_whole_or_not_at_all_after_a_crash_at_any_step() {
    for is_committed in [true, false] {
        let mut outcomes = [0, 0];
        for at in 0.. {
            let (disk, clock) = (SimDisk::new(), clock());
            let store = open(&disk, &clock);
            assert!(prepare(&store).expect("prepares").is_committed());
            store.sync().expect("syncs");
            let end = |store: &Store| {
                if is_committed {
                    store.commit_prepared("t1")
                } else {
                    store.rollback_prepared("t1")
                }
            };
            let ops = disk.ops();
            disk.fail_at(ops + at, Fault::Crash, false);
            let told = end(&store);
            let was_crashed = disk.ops() > ops + at;
            let store = open(&disk.crash(at), &clock);
            let has_ended = store.prepared().expect("lists").is_empty();
            if told.is_ok() {
                assert!(has_ended, "crash at {at}: it was said to be on disk");
            }
            outcomes[usize::from(has_ended)] += 1;
            assert_eq!(seen(&store), [is_committed && has_ended; 4], "crash at {at}");
            let again = end(&store).expect("may be repeated");
            assert_eq!(again == EndOutcome::AlreadyDone, has_ended, "crash at {at}: {again:?}");
            assert_eq!(seen(&store), [is_committed; 4], "crash at {at}");
            let claimed = store.claim("order-1").expect("is held by nobody");
            assert_eq!(claimed == Claim::FirstSeen, !is_committed, "crash at {at}");
            assert_sound(&store);
            if !was_crashed {
                break;
            }
        }
        assert!(outcomes[0] > 0 && outcomes[1] > 0, "{outcomes:?}");
    }
}

/// A coordinator decides by what is listed.
#[test]
fn i6_a_prepared_transaction_is_listed_once_it_is_on_disk() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = open(&disk, &clock);
    let (store, disk) = (&store, &disk);
    std::thread::scope(|scope| {
        let (leave, left) = channel::<()>();
        let left = Mutex::new(left);
        disk.after_next_sync(move || _ = left.lock().expect("no panic").recv());
        assert!(store.claim("before").expect("claims").is_first_seen());
        // The power cut may come before they have returned.
        scope.spawn(|| _ = store.sync());
        scope.spawn(|| _ = prepare(store));
        // It is in the log, and not on disk: the sync under way does not cover it.
        while !matches!(store.forget("order-1"), Err(Error::InDoubt)) {
            std::thread::yield_now();
        }
        let (hear, heard) = channel();
        let listed = scope.spawn(move || {
            let listed = store.prepared().expect("lists");
            let after = disk.lose_unsynced();
            let _ = hear.send(());
            (listed, after)
        });
        // As long as it takes who does not wait for the disk.
        let _ = heard.recv_timeout(Duration::from_millis(100));
        drop(leave);
        let (listed, after) = listed.join().expect("no panic");
        assert_eq!(open(&after, &clock).prepared().expect("lists"), listed);
        assert_eq!(listed.len(), 1);
    });
}

/// The claim before had ended when the transaction was prepared, and looks live again.
#[test]
fn i5_what_was_prepared_is_committed_though_the_clock_came_back_earlier_after_a_kill() {
    let ways = [0, 60].into_iter().flat_map(|back_at| [1, 10].map(|ttl| (back_at, ttl)));
    for (back_at, ttl) in ways {
        let (disk, clock) = (SimDisk::new(), clock());
        let store = open(&disk, &clock);
        let orders = store.default_namespace();
        let before = ClaimOptions::new().ttl(minutes(4));
        assert!(orders.claim_with("order-1", before).expect("claims").is_first_seen());
        clock.advance(Duration::from_secs(300));
        let mut transaction = store.transaction();
        transaction.claim_for(&orders, "order-1", minutes(ttl));
        assert!(transaction.prepare("t1").expect("prepares").is_committed());
        let disk = disk.kill();
        clock.reboot();
        clock.jump_to(Timestamp::from_millis(NOW + back_at * 1_000));
        let store = open(&disk, &clock);
        let told = format!("the clock shows {back_at} s, the ttl is {ttl} min");
        assert_eq!(store.commit_prepared("t1").expect("ends"), EndOutcome::Done, "{told}");
        assert!(store.prepared().expect("lists").is_empty(), "{told}");
        let seen = store.get("order-1").expect("reads").expect("is claimed");
        assert_eq!(seen.first_seen, Timestamp::from_millis(NOW + back_at * 1_000), "{told}");
        // It counts, and not the one before: also for who reads the log again.
        clock.advance(Duration::from_secs(ttl * 60 - 1));
        assert!(store.contains("order-1").expect("reads"), "{told}");
        let store = open(&disk.kill(), &clock);
        assert!(store.contains("order-1").expect("reads"), "{told}");
        clock.advance(Duration::from_secs(2));
        assert!(!store.contains("order-1").expect("reads"), "{told}");
        assert_sound(&store);
    }
}

#[test]
fn i4_a_prepared_claim_lives_for_its_own_ttl_and_not_for_that_of_its_namespace() {
    for ttl in [1, 10] {
        let (disk, clock) = (SimDisk::new(), clock());
        let store = sim(&disk, &clock).ttl(minutes(4)).open().expect("opens");
        let mut transaction = store.transaction();
        transaction.claim_for(&store.default_namespace(), "order-1", minutes(ttl));
        assert!(transaction.prepare("t1").expect("prepares").is_committed());
        assert_eq!(store.commit_prepared("t1").expect("ends"), EndOutcome::Done);
        clock.advance(Duration::from_secs(ttl * 60 - 1));
        assert!(store.contains("order-1").expect("reads"), "{ttl} min");
        clock.advance(Duration::from_secs(2));
        assert!(!store.contains("order-1").expect("reads"), "{ttl} min");
    }
}
