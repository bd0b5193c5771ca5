//! State, offsets and messages in one commit with claims.

mod locks;
mod model;
mod oracle;
mod skipping;
mod tables;
mod two_phase;
mod world;

use crate::support::{assert_sound, clock, sim};
use firstseen::disk::sim::{Fault, SimDisk};
use firstseen::event_time::EventTimeOptions;
use firstseen::table::Table;
use firstseen::transaction::{
    CommitOutcome, EndOutcome, Rejection, Skipped, Transacted, Transaction,
};
use firstseen::{
    Claim, Durability, Error, ErrorKind, ManualClock, PreparedState, Store, Timestamp,
};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

fn open(disk: &SimDisk, clock: &ManualClock) -> Store {
    sim(disk, clock).open().expect("opens")
}

fn rejections(transaction: &Transaction) -> Vec<Rejection> {
    match transaction.commit().expect("answers") {
        CommitOutcome::Rejected(reasons) => reasons,
        committed => panic!("{committed:?}"),
    }
}

/// The store at the end of one run of the loyalty program, which may have crashed.
struct Loyalty {
    store: Store,
    points: Table<u64>,
}

impl Loyalty {
    fn of(store: Store) -> Self {
        Self { points: store.table("points").expect("opens"), store }
    }

    /// Awards ten points for an order that was read at an offset.
    fn order(&self, order: &str, user: &str, offset: u64) -> Result<CommitOutcome, Error> {
        let (orders, awarded) = (self.store.source("orders")?, self.store.outbox("awarded")?);
        let mut transaction = self.store.transaction();
        transaction.durability(Durability::Disk).claim(order);
        let before = transaction.get(&self.points, user)?.unwrap_or(0);
        transaction.put(&self.points, user, &(before + 10))?;
        transaction.emit(&awarded, format!("{user} has {}", before + 10))?;
        transaction.advance(&orders, 0, offset + 1);
        transaction.commit()
    }

    /// Returns whether the order is claimed, the points, the offset, and how many messages there are.
    fn seen(&self) -> (bool, Option<u64>, Option<u64>, usize) {
        let points = self.points.get("anna").expect("reads").map(|entry| entry.value);
        let orders = self.store.source("orders").expect("opens");
        let next = orders.position(0).expect("reads").map(|position| position.next);
        let awarded = self.store.outbox("awarded").expect("opens").read(10).expect("reads");
        (self.store.contains("order-1").expect("reads"), points, next, awarded.len())
    }
}

#[test]
fn i1_claim_state_offset_and_message_are_all_there_or_nothing_after_a_crash_at_any_step() {
    let mut outcomes = [0, 0];
    for at in 0.. {
        let (disk, clock) = (SimDisk::new(), clock());
        let loyalty = Loyalty::of(open(&disk, &clock));
        let ops = disk.ops();
        disk.fail_at(ops + at, Fault::Crash, false);
        let told = loyalty.order("order-1", "anna", 4);
        let was_crashed = disk.ops() > ops + at;
        let loyalty = Loyalty::of(open(&disk.crash(at), &clock));
        match loyalty.seen() {
            (true, Some(10), Some(5), 1) => outcomes[1] += 1,
            (false, None, None, 0) if told.is_err() => outcomes[0] += 1,
            half => panic!("crash at {at}: {half:?}, told {told:?}"),
        }
        assert_sound(&loyalty.store);
        if !was_crashed {
            break;
        }
    }
    assert!(outcomes[0] > 0 && outcomes[1] > 0, "{outcomes:?}");
}

/// BEHAVIOURS 56.
#[test]
fn a_dropped_transaction_has_done_nothing() {
    let (disk, clock) = (SimDisk::new(), clock());
    let loyalty = Loyalty::of(open(&disk, &clock));
    let orders = loyalty.store.source("orders").expect("opens");
    let awarded = loyalty.store.outbox("awarded").expect("opens");
    let mut transaction = loyalty.store.transaction();
    transaction.claim("order-1").advance(&orders, 0, 5);
    transaction.put(&loyalty.points, "anna", &10).expect("encodes");
    transaction.emit(&awarded, "anna has 10").expect("collects");
    drop(transaction);
    assert_eq!(loyalty.seen(), (false, None, None, 0));
}

/// BEHAVIOURS 57.
#[test]
fn of_two_transactions_with_one_id_the_second_leaves_nothing() {
    let (disk, clock) = (SimDisk::new(), clock());
    let loyalty = Loyalty::of(open(&disk, &clock));
    assert!(loyalty.order("order-1", "anna", 4).expect("answers").is_committed());
    let CommitOutcome::Rejected(reasons) = loyalty.order("order-1", "anna", 9).expect("answers")
    else {
        panic!("was committed twice");
    };
    assert!(
        matches!(&reasons[..], [Rejection::Duplicate(id), Rejection::DuplicateMessage { .. }] if id.id == b"order-1"),
        "{reasons:?}"
    );
    assert_eq!(loyalty.seen(), (true, Some(10), Some(5), 1));
    assert_eq!(loyalty.store.stats().duplicates, 1, "it counts as a duplicate");
}

#[test]
fn a_commit_whose_read_value_was_changed_is_rejected_and_says_what_is_there() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = open(&disk, &clock);
    let points: Table<u64> = store.table("points").expect("opens");
    for is_written in [true, false] {
        let mut transaction = store.transaction();
        let before = transaction.get(&points, "anna").expect("reads");
        if is_written {
            transaction.put(&points, "anna", &(before.unwrap_or(0) + 1)).expect("encodes");
        }
        transaction.put(&points, "other", &1).expect("encodes");
        let version = points.put("anna", &100).expect("puts");
        let reasons = rejections(&transaction);
        assert!(
            matches!(&reasons[..], [Rejection::Moved { table, key, found }]
                if table == "points" && key == b"anna" && *found == Some(version)),
            "{reasons:?}"
        );
        assert_eq!(points.get("other").expect("reads"), None);
    }
}

#[test]
fn an_offset_never_moves_back() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = open(&disk, &clock);
    let orders = store.source("orders").expect("opens");
    for (next, is_taken) in [(5, true), (5, true), (4, false), (9, true)] {
        let mut transaction = store.transaction();
        transaction.advance(&orders, 3, next);
        match transaction.commit().expect("answers") {
            CommitOutcome::Committed => assert!(is_taken, "{next}"),
            CommitOutcome::Rejected(reasons) => {
                let is_back = |stored| stored == 5 && !is_taken;
                assert!(
                    matches!(&reasons[..], [Rejection::OffsetBack { partition: 3, stored, .. }]
                        if is_back(stored.next)),
                    "{reasons:?}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
    let positions = orders.positions().expect("reads");
    assert_eq!(positions.keys().copied().collect::<Vec<_>>(), [3]);
    assert_eq!(positions[&3].next, 9);
}

/// BEHAVIOURS 67.
#[test]
fn i8_a_zombie_owner_of_a_partition_is_fenced() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = open(&disk, &clock);
    let orders = store.source("orders").expect("opens");
    let first = orders.own(0).expect("takes over");
    let mut transaction = store.transaction();
    transaction.advance_as(&first, 10);
    assert!(transaction.commit().expect("answers").is_committed());
    let second = orders.own(0).expect("takes over");
    assert_eq!((second.next(), second.epoch()), (10, first.epoch() + 1));
    for owner in [Some(&first), None] {
        let mut transaction = store.transaction();
        match owner {
            Some(owner) => transaction.claim("late").advance_as(owner, 20),
            None => transaction.claim("late").advance(&orders, 0, 20),
        };
        let reasons = rejections(&transaction);
        assert!(
            matches!(&reasons[..], [Rejection::Fenced { partition: 0, stored, .. }]
                if stored.epoch == second.epoch()),
            "{reasons:?}"
        );
    }
    assert!(!store.contains("late").expect("reads"), "nothing of it is there");
    assert_eq!(orders.own_as(0, 1).expect("answers").map(|owner| owner.epoch()), None);
    let again = orders.own_as(0, second.epoch()).expect("answers").expect("the same epoch");
    assert_eq!(again.next(), 10);
}

#[test]
fn duplicates_are_skipped_with_what_belongs_to_them_if_so_asked() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = open(&disk, &clock);
    let (names, orders) =
        (store.raw_table("names").expect("opens"), store.source("orders").expect("opens"));
    assert!(store.claim("b").expect("claims").is_first_seen());
    let mut transaction = store.transaction();
    transaction.skip_duplicates();
    for id in ["a", "b", "c"] {
        transaction.claim(id).put(&names, id, id.as_bytes()).expect("puts");
    }
    transaction.claim("a").put(&names, "again", b"").expect("puts");
    transaction.advance(&orders, 0, 3);
    match transaction.commit().expect("answers") {
        CommitOutcome::CommittedWithout(skipped) => {
            let skipped: Vec<_> = skipped.iter().map(Skipped::id).collect();
            assert_eq!(skipped, [b"b", b"a"]);
        }
        other => panic!("{other:?}"),
    }
    let is_there = |id| names.get(id).expect("reads").is_some();
    assert_eq!(["a", "b", "c", "again"].map(is_there), [true, false, true, false]);
    assert_eq!(orders.position(0).expect("reads").map(|position| position.next), Some(3));
}

#[test]
fn i8_many_threads_that_add_to_one_value_lose_nothing() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = open(&disk, &clock);
    let sum: Table<u64> = store.table("sum").expect("opens");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (store, sum) = (&store, &sum);
            scope.spawn(move || {
                for n in 0..50 {
                    // Each event comes to two threads.
                    let event = format!("{}-{n}", thread / 2);
                    let done = store.transact(|transaction| {
                        if transaction.claim_if_new(&event)? {
                            let before = transaction.get(sum, "all")?.unwrap_or(0);
                            transaction.put(sum, "all", &(before + 1))?;
                        }
                        Ok::<_, Error>(())
                    });
                    assert!(matches!(done, Ok(Transacted::Committed(()))), "{done:?}");
                }
            });
        }
    });
    assert_eq!(sum.get("all").expect("reads").map(|entry| entry.value), Some(100));
}

/// BEHAVIOURS 65.
#[test]
fn a_prepared_transaction_that_nobody_ends_is_listed_with_its_age_and_never_ended_by_the_store() {
    let (mut disk, clock) = (SimDisk::new(), clock());
    let mut store = open(&disk, &clock);
    let mut transaction = store.transaction();
    transaction.claim("order-1");
    assert!(transaction.prepare("t1").expect("prepares").is_committed());
    let day = Duration::from_secs(24 * 3_600);
    for days in 0..40 {
        let listed = store.prepared().expect("lists");
        assert_eq!((listed.len(), listed[0].age), (1, day * days));
        assert!(matches!(store.claim("order-1"), Err(Error::InDoubt)), "after {days} days");
        clock.advance(day);
        store.run_background().expect("works");
        if days % 10 == 9 {
            drop(store);
            disk = disk.kill();
            store = open(&disk, &clock);
        }
    }
    assert_eq!(store.commit_prepared("t1").expect("answers"), EndOutcome::Done);
}

/// BEHAVIOURS 64.
#[test]
fn a_prepared_transaction_holds_what_it_will_write_over_a_crash_until_it_is_ended_once() {
    for is_committed in [true, false] {
        let (disk, clock) = (SimDisk::new(), clock());
        let store = open(&disk, &clock);
        let points: Table<u64> = store.table("points").expect("opens");
        points.put("anna", &1).expect("puts");
        let mut transaction = store.transaction();
        transaction.claim("order-1").put(&points, "anna", &2).expect("puts");
        assert!(transaction.prepare("t1").expect("prepares").is_committed());

        let disk = disk.lose_unsynced();
        let store = open(&disk, &clock);
        let points: Table<u64> = store.table("points").expect("opens");
        let listed = store.prepared().expect("lists");
        assert_eq!((listed.len(), &listed[0].gid[..], listed[0].claims), (1, &b"t1"[..], 1));
        let kinds = [
            store.claim("order-1").map(drop),
            store.forget("order-1").map(drop),
            store.claim_batch(&["x", "order-1"]).map(drop),
            points.put("anna", &9).map(drop),
        ];
        for answer in kinds {
            let error = answer.expect_err("is in doubt");
            assert!(matches!(error, Error::InDoubt), "{error}");
            assert_eq!(error.kind(), ErrorKind::Retry);
        }
        let mut other = store.transaction();
        other.claim("order-1").put(&points, "anna", &9).expect("puts");
        let reasons = rejections(&other);
        assert!(
            matches!(&reasons[..], [Rejection::InDoubt { id }, Rejection::InDoubt { id: key }]
                if id == b"order-1" && key == b"anna"),
            "{reasons:?}"
        );
        let mut again = store.transaction();
        again.claim("another");
        assert!(matches!(
            again.prepare("t1").expect("answers"),
            CommitOutcome::Rejected(reasons) if matches!(reasons[..], [Rejection::NameInUse])
        ));
        assert_eq!(points.get("anna").expect("reads").map(|entry| entry.value), Some(1));

        let end = |store: &Store, commits: bool| {
            let end =
                if commits { store.commit_prepared("t1") } else { store.rollback_prepared("t1") };
            end.expect("answers")
        };
        assert_eq!(end(&store, is_committed), EndOutcome::Done);
        let disk = disk.lose_unsynced();
        let store = open(&disk, &clock);
        assert_eq!(end(&store, is_committed), EndOutcome::AlreadyDone);
        assert_eq!(end(&store, !is_committed), EndOutcome::EndedOtherwise);
        let ended = if is_committed { PreparedState::Committed } else { PreparedState::RolledBack };
        assert_eq!(store.prepared_state("t1").expect("reads"), Some(ended));
        assert!(store.prepared().expect("lists").is_empty());
        assert_eq!(store.commit_prepared("unknown").expect("answers"), EndOutcome::Unknown);
        let points: Table<u64> = store.table("points").expect("opens");
        let expected = if is_committed { Some(2) } else { Some(1) };
        assert_eq!(points.get("anna").expect("reads").map(|entry| entry.value), expected);
        let claimed = store.claim("order-1").expect("claims");
        assert_eq!(claimed == Claim::FirstSeen, !is_committed);
        points.put("anna", &9).expect("is free again");
        assert_sound(&store);
    }
}

/// BEHAVIOURS 64.
#[test]
fn what_a_prepared_transaction_held_is_free_once_it_has_ended() {
    for is_committed in [true, false] {
        let (disk, clock) = (SimDisk::new(), clock());
        let store = open(&disk, &clock);
        let points: Table<u64> = store.table("points").expect("opens");
        let mut transaction = store.transaction();
        transaction.claim("order-1").put(&points, "anna", &2).expect("puts");
        assert!(transaction.prepare("t1").expect("prepares").is_committed());
        let ended =
            if is_committed { store.commit_prepared("t1") } else { store.rollback_prepared("t1") };
        assert_eq!(ended.expect("answers"), EndOutcome::Done);
        let claimed = store.claim("order-1").expect("is held by nobody");
        assert_eq!(claimed == Claim::FirstSeen, !is_committed);
        let before = points.get("anna").expect("reads").map(|entry| entry.value);
        assert_eq!(before, is_committed.then_some(2));
        let mut next = store.transaction();
        next.claim("order-2").put(&points, "anna", &9).expect("puts");
        assert!(next.commit().expect("answers").is_committed());
    }
}

/// One of two keys has a value at any moment. Between them in the list are many others: whoever looks at them one after
/// the other sees both without one before long.
#[test]
fn i13_values_that_are_only_checked_are_checked_at_one_moment() {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).memory_budget(64 << 20).memtable_bytes(4 << 20);
    let store = store.open().expect("opens");
    let tokens: Table<u64> = store.table("tokens").expect("opens");
    tokens.put("first", &0).expect("puts");
    let mut neither = store.transaction();
    neither.expect(&tokens, "first", None).expect("collects");
    for n in 0..2_000 {
        neither.expect(&tokens, format!("other-{n}"), None).expect("collects");
    }
    neither.expect(&tokens, "last", None).expect("collects");
    let (moves, has_looked) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut places = ["first", "last"];
            while !has_looked.load(Relaxed) {
                let mut transaction = store.transaction();
                transaction.delete(&tokens, places[0]).expect("collects");
                transaction.put(&tokens, places[1], &0).expect("collects");
                assert!(transaction.commit().expect("answers").is_committed());
                places.reverse();
                moves.fetch_add(1, Relaxed);
            }
        });
        let mut looks = 0;
        let other = loop {
            looks += 1;
            match neither.commit() {
                Ok(CommitOutcome::Rejected(_)) if looks < 800 || moves.load(Relaxed) < 5_000 => {}
                Ok(CommitOutcome::Rejected(_)) => break None,
                other => break Some(other),
            }
        };
        // First: the other thread must end.
        has_looked.store(true, Relaxed);
        assert!(other.is_none(), "look {looks}: neither had a value: {other:?}");
    });
}

#[test]
fn a_scan_tells_every_row_as_it_was_when_the_scan_began_whatever_happens_to_it_meanwhile() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = open(&disk, &clock);
    let table: Table<u64> = store.table("table").expect("opens");
    let key = |n: u64| format!("key-{n}").into_bytes();
    for n in 0..100 {
        if n == 50 {
            store.freeze();
            store.run_background().expect("works");
        }
        table.put(key(n), &n).expect("puts");
    }
    // Each is put or deleted more than once, and rows that were not there are put and deleted, too.
    let change_all = || {
        for round in 1..6 {
            for n in 0..200 {
                match (n + round) % 3 {
                    0 => _ = table.delete(key(n)).expect("deletes"),
                    _ => _ = table.put(key(n), &(1_000 * round + n)).expect("puts"),
                }
            }
            store.freeze();
            store.run_background().expect("works");
        }
    };
    let mut told = BTreeMap::new();
    table
        .scan(|key, entry| {
            if told.is_empty() {
                change_all();
            }
            told.insert(key.to_vec(), entry.expect("reads").value);
            ControlFlow::Continue(())
        })
        .expect("scans");
    assert_eq!(told, (0..100).map(|n| (key(n), n)).collect());
}

/// Two accounts of which money is moved back and forth: whoever scans sees all of it, in every scan.
#[test]
fn a_scan_sees_every_transaction_wholly_or_not_at_all_while_writes_flushes_and_compaction_go_on() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).segment_bytes(64 << 10).open().expect("opens");
    let accounts: Table<i64> = store.table("accounts").expect("opens");
    for n in 0..40 {
        accounts.put(format!("account-{n}"), &100).expect("puts");
    }
    let running = std::sync::atomic::AtomicUsize::new(3);
    std::thread::scope(|scope| {
        for thread in 0..3i64 {
            let (store, accounts, running) = (&store, &accounts, &running);
            scope.spawn(move || {
                let mut x = thread + 1;
                for _ in 0..1_000 {
                    x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let (from, to) = ((x >> 33).rem_euclid(40), (x >> 45).rem_euclid(40));
                    let moved = move_money(store, accounts, from, to).expect("moves");
                    assert!(moved.committed().is_some());
                }
                running.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
            });
        }
        let mut scans = 0;
        while scans < 10 || running.load(std::sync::atomic::Ordering::Relaxed) > 0 {
            store.freeze();
            store.run_background().expect("works");
            let (mut sum, mut count) = (0, 0);
            accounts
                .scan(|_, entry| {
                    sum += entry.expect("reads").value;
                    count += 1;
                    // Flushes and compaction go on under a scan.
                    if count % 16 == 0 {
                        store.freeze();
                        store.run_background().expect("works");
                    }
                    ControlFlow::Continue(())
                })
                .expect("scans");
            assert_eq!(sum, 100 * 40, "scan {scans} of {count} accounts");
            scans += 1;
        }
    });
    assert_sound(&store);
}

/// Moves ten, or closes an account that is empty: then there is no row of it.
fn move_money(
    store: &Store,
    accounts: &Table<i64>,
    from: i64,
    to: i64,
) -> Result<Transacted<()>, Error> {
    store.transact(|transaction| {
        let (from, to) = (format!("account-{from}"), format!("account-{to}"));
        let rest = transaction.get(accounts, &from)?.unwrap_or(0) - 10;
        if rest >= 0 && from != to {
            let sum = transaction.get(accounts, &to)?.unwrap_or(0) + 10;
            transaction.put(accounts, &to, &sum)?;
            match rest {
                0 => transaction.delete(accounts, &from)?,
                rest => transaction.put(accounts, &from, &rest)?,
            };
        }
        Ok(())
    })
}

#[test]
fn space_that_a_scan_has_kept_comes_back_after_it() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).segment_bytes(64 << 10).open().expect("opens");
    let table = store.raw_table("hot").expect("opens");
    let value = [7; 1_000];
    table.put("hot", value).expect("puts");
    let overwrite = || {
        for _ in 0..600 {
            table.put("hot", value).expect("puts");
        }
        store.freeze();
        store.run_background().expect("works");
        store.stats().log_segments
    };
    let usual = overwrite();
    let mut kept = 0;
    table
        .scan(|_, entry| {
            assert_eq!(entry.expect("reads").value, value);
            kept = overwrite();
            ControlFlow::Continue(())
        })
        .expect("scans");
    assert!(kept > usual + 3, "{usual} segments, {kept} under a scan");
    assert!(overwrite() <= usual + 1);
}

#[test]
fn what_follows_a_message_with_an_id_of_its_own_belongs_to_the_event_before_it() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = open(&disk, &clock);
    let points: Table<u64> = store.table("points").expect("opens");
    let mails = store.outbox("mails").expect("opens");
    for order in ["order-1", "order-2"] {
        let mut transaction = store.transaction();
        transaction.skip_duplicates().claim(order);
        transaction.emit_as(&mails, "digest", b"", b"text").expect("is collected");
        transaction.put(&points, order, &10).expect("encodes");
        transaction.emit(&mails, order).expect("there is a claim");
        let outcome = transaction.commit().expect("answers");
        let is_first = order == "order-1";
        match outcome {
            CommitOutcome::Committed => assert!(is_first),
            CommitOutcome::CommittedWithout(skipped) => {
                assert!(!is_first && skipped.len() == 1 && skipped[0].id() == b"digest");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(points.get(order).expect("reads").map(|entry| entry.value), Some(10));
    }
    let payloads: Vec<_> =
        mails.read(9).expect("reads").into_iter().map(|message| message.payload).collect();
    assert_eq!(payloads, [&b"text"[..], b"order-1", b"order-2"]);
}

#[test]
fn messages_of_a_claim_and_of_an_attempt_that_share_name_and_id_have_different_ids() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = open(&disk, &clock);
    let (orders, ledger) =
        (store.namespace("orders").expect("opens"), store.ledger("orders").expect("opens"));
    let topic = store.outbox("news").expect("opens");
    let attempt = ledger.begin("o-1").expect("begins").started().expect("starts");
    let mut transaction = store.transaction();
    transaction.claim_in(&orders, "o-1").emit(&topic, "accepted").expect("is collected");
    transaction.complete(&attempt, b"done").emit(&topic, "done").expect("is collected");
    assert!(transaction.commit().expect("answers").is_committed());
    assert_eq!(topic.read(9).expect("reads").len(), 2);
}

#[test]
fn i8_the_highest_epoch_of_a_partition_is_not_followed_by_the_first() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = open(&disk, &clock);
    let orders = store.source("orders").expect("opens");
    let owner = orders.own_as(0, u64::MAX).expect("answers").expect("is the first");
    assert_eq!(orders.own(0).expect_err("is used up").kind(), ErrorKind::FixCall);
    let mut transaction = store.transaction();
    transaction.advance_as(&owner, 5);
    assert!(transaction.commit().expect("answers").is_committed());
}

#[test]
fn of_threads_that_end_one_prepared_transaction_at_once_one_has_done_it_and_the_others_hear_so() {
    for round in 0..20 {
        let (disk, clock) = (SimDisk::new(), clock());
        let store = sim(&disk, &clock).durability(Durability::Disk).open().expect("opens");
        let mut transaction = store.transaction();
        transaction.claim("a");
        assert!(transaction.prepare("t").expect("prepares").is_committed());
        let start = std::sync::Barrier::new(4);
        let ended: Vec<EndOutcome> = std::thread::scope(|scope| {
            let end = || {
                start.wait();
                store.commit_prepared("t").expect("answers")
            };
            let all: Vec<_> = (0..4).map(|_| scope.spawn(end)).collect();
            all.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let done = ended.iter().filter(|ended| **ended == EndOutcome::Done).count();
        assert_eq!(done, 1, "round {round}: {ended:?}");
        assert!(ended.iter().all(|e| matches!(e, EndOutcome::Done | EndOutcome::AlreadyDone)));
    }
}

#[test]
fn i6_what_a_scan_at_disk_tells_survives_a_power_cut() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).durability(Durability::Disk).open().expect("opens");
    let table = store.raw_table("state").expect("opens");
    let mut transaction = store.transaction();
    transaction.durability(Durability::Buffered).put(&table, "key", b"value").expect("puts");
    assert!(transaction.commit().expect("answers").is_committed());
    let mut told = 0;
    let count = |_: &[u8], entry: firstseen::Result<_>| {
        told += usize::from(entry.is_ok());
        ControlFlow::Break(())
    };
    table.scan(count).expect("scans");
    assert_eq!(told, 1);
    let store = open(&disk.lose_unsynced(), &clock);
    let table = store.raw_table("state").expect("opens");
    assert!(table.get("key").expect("reads").is_some(), "it was told");
}

#[test]
fn i12_a_commit_that_only_checks_asks_for_no_room_in_memory() {
    let (disk, clock) = (SimDisk::new(), clock());
    // Nothing is flushed, and a wait for room ends at once.
    let store = sim(&disk, &clock).wait_max(std::time::Duration::from_millis(1)).open();
    let store = store.expect("opens");
    let table = store.raw_table("state").expect("opens");
    let mut checks = store.transaction();
    for n in 0..5_000 {
        checks.expect(&table, format!("absent-{n}"), None).expect("is collected");
    }
    for round in 0..3 {
        for n in 0..8 {
            table.put(format!("{round}-{n}"), b"value").expect("puts");
        }
        assert!(checks.commit().expect("needs no room").is_committed());
    }
}

#[test]
fn i6_a_transaction_that_only_tells_of_duplicates_is_as_safe_as_asked() {
    for told_by in ["skipping", "claim_if_new", "an event"] {
        let (disk, clock) = (SimDisk::new(), clock());
        let store = open(&disk, &clock);
        let table = store.raw_table("state").expect("opens");
        let options = EventTimeOptions::new(Duration::from_secs(60));
        let events = store.event_time("events", options).expect("opens");
        let at = Timestamp::from_millis(1_000);
        // At `Process`: a power cut may take it, as long as nobody was told of it at `Disk`.
        let mut first = store.transaction();
        first.claim("a").claim_at(&events, "e", "s", at).put(&table, "k", b"v").expect("puts");
        assert!(first.commit().expect("answers").is_committed());

        let mut second = store.transaction();
        second.durability(Durability::Disk);
        match told_by {
            "skipping" => drop(second.skip_duplicates().claim("a")),
            "an event" => drop(second.skip_duplicates().claim_at(&events, "e", "s", at)),
            _ => assert!(!second.claim_if_new("a").expect("reads")),
        }
        assert!(second.commit().expect("answers").is_committed());
        let store = open(&disk.lose_unsynced(), &clock);
        assert!(store.contains("a").expect("reads"), "{told_by}");
        let table = store.raw_table("state").expect("opens");
        assert!(table.get("k").expect("reads").is_some(), "{told_by}");
    }
}

#[test]
fn a_message_of_a_given_id_is_skipped_with_the_claim_before_it() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = open(&disk, &clock);
    let mails = store.outbox("mails").expect("opens");
    assert!(store.claim("b").expect("claims").is_first_seen());
    let mut transaction = store.transaction();
    transaction.skip_duplicates();
    for id in ["a", "b"] {
        transaction.claim(id).emit_as(&mails, format!("mail-{id}"), "", id).expect("collects");
    }
    let outcome = transaction.commit().expect("answers");
    let CommitOutcome::CommittedWithout(skipped) = outcome else { panic!("{outcome:?}") };
    assert_eq!(skipped.iter().map(Skipped::id).collect::<Vec<_>>(), [b"b"]);
    let sent = mails.read(10).expect("reads");
    assert_eq!(sent.iter().map(|mail| &mail.payload[..]).collect::<Vec<_>>(), [b"a"]);
    // Its id was not claimed either.
    let mut later = store.transaction();
    later.emit_as(&mails, "mail-b", "", "later").expect("collects");
    assert!(later.commit().expect("answers").is_committed());
}

#[test]
fn a_rejection_gives_all_reasons_also_beside_those_that_are_known_before() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = open(&disk, &clock);
    let (source, topic) =
        (store.source("orders").expect("opens"), store.outbox("t").expect("opens"));
    let mut first = store.transaction();
    first.claim("a").emit_as(&topic, "m", "", "said").expect("collects");
    first.advance(&source, 0, 10);
    assert!(first.commit().expect("answers").is_committed());
    let said = topic.read(1).expect("reads");
    assert_eq!(topic.acknowledge(&said).expect("acknowledges"), 1);
    let mut second = store.transaction();
    second.claim("a").acknowledge(&topic, &said[0]).expect("collects").advance(&source, 0, 5);
    let reasons = rejections(&second);
    let has = |is: fn(&Rejection) -> bool| reasons.iter().any(is);
    assert!(has(|why| matches!(why, Rejection::Duplicate(_))), "{reasons:?}");
    assert!(has(|why| matches!(why, Rejection::OffsetBack { .. })), "{reasons:?}");
    assert!(has(|why| matches!(why, Rejection::Acknowledged { .. })), "{reasons:?}");
}
