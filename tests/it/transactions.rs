//! Transactions: claims and moves of ledgers in one commit.

use crate::support::{AT, assert_sound, clock, id, settle, sim, sim_with};
use firstseen::disk::sim::{Fault, SimDisk};
use firstseen::ledger::Ran;
use firstseen::ledger::{
    Attempt, AttemptError, Begin, DeadFilter, Failure, Ledger, LedgerOptions, State,
};
use firstseen::transaction::{CommitOutcome, DuplicateId, Rejection, Transaction};
use firstseen::{Durability, ErrorKind, ManualClock, MemoryBlocks, Reserve, Store, minutes};
use std::sync::Barrier;
use std::time::Duration;

fn open(disk: &SimDisk, clock: &ManualClock) -> Store {
    sim(disk, clock).open().expect("opens")
}

fn ledger(store: &Store) -> Ledger {
    let options = LedgerOptions::new().lease(Duration::from_secs(10));
    store.ledger_with("payments", options).expect("opens")
}

fn started(ledger: &Ledger, id: &str) -> Attempt {
    ledger.begin(id).expect("begins").started().expect("is started")
}

fn rejections(transaction: &Transaction) -> Vec<Rejection> {
    match transaction.commit().expect("answers") {
        CommitOutcome::Rejected(reasons) => reasons,
        committed => panic!("{committed:?}"),
    }
}

fn is_completed(ledger: &Ledger, id: &str) -> bool {
    let record = ledger.get(id).expect("reads").expect("there is a record");
    matches!(record.state, State::Completed { .. })
}

#[test]
fn i1_all_of_a_transaction_is_there_or_nothing_after_a_crash_at_any_step() {
    let mut outcomes = [0, 0];
    for at in 0.. {
        let (disk, clock) = (SimDisk::new(), clock());
        let store = open(&disk, &clock);
        let ledger_of = ledger(&store);
        let other = store.namespace("other").expect("opens");
        let attempt = started(&ledger_of, "a");
        ledger_of
            .begin("b")
            .expect("begins")
            .started()
            .expect("starts")
            .fail(Failure::last("no"))
            .expect("fails");
        store.sync().expect("syncs");
        let ops = disk.ops();
        disk.fail_at(ops + at, Fault::Crash, false);
        let mut transaction = store.transaction();
        transaction.durability(Durability::Disk).complete(&attempt, b"done");
        transaction.claim("one").claim_in(&other, "two").redrive(&ledger_of, "b");
        let told = transaction.commit();
        let was_crashed = disk.ops() > ops + at;
        std::mem::forget(attempt);
        let store = open(&disk.crash(at), &clock);
        let (ledger_of, other) = (ledger(&store), store.namespace("other").expect("opens"));
        let redriven = ledger_of.get("b").expect("reads").expect("is there").redrives == 1;
        let seen = [
            is_completed(&ledger_of, "a"),
            store.contains("one").expect("reads"),
            other.contains("two").expect("reads"),
            redriven,
        ];
        assert!(seen == [true; 4] || seen == [false; 4], "crash at {at}: {seen:?}");
        if told.is_ok_and(|outcome| outcome.is_committed()) {
            assert_eq!(seen, [true; 4], "crash at {at}: it was said to be on disk");
        }
        outcomes[usize::from(seen[0])] += 1;
        assert_sound(&store);
        if !was_crashed {
            break;
        }
    }
    assert!(outcomes[0] > 0 && outcomes[1] > 0, "{outcomes:?}");
}

/// The caller hears all that speaks against it at once, and nothing has changed.
#[test]
fn i1_a_rejected_transaction_leaves_nothing_and_gives_all_reasons() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = open(&disk, &clock);
    let ledger = ledger(&store);
    let other = store.namespace("other").expect("opens");
    let first = other.claim("taken").expect("claims");
    assert!(first.is_first_seen());
    let (fenced, running) = (started(&ledger, "fenced"), started(&ledger, "running"));
    ledger.cancel("fenced", "not wanted").expect("cancels");
    let mut transaction = store.transaction();
    transaction.claim("free").claim_in(&other, "taken");
    transaction.complete(&running, b"").complete(&fenced, b"").redrive(&ledger, "unknown");
    let reasons = rejections(&transaction);
    assert!(
        matches!(&reasons[..], [
            Rejection::Duplicate(DuplicateId { namespace, id, .. }),
            Rejection::Attempt { id: attempt, error: AttemptError::Fenced { .. } },
            Rejection::Record { id: unknown, record: None },
        ] if namespace == "other" && id == b"taken" && attempt == b"fenced" && unknown == b"unknown"),
        "{reasons:?}"
    );
    assert!(!store.contains("free").expect("reads"));
    assert!(matches!(ledger.begin("running"), Ok(Begin::InProgress(_))));
    // Without what spoke against it, it is made, and only once.
    let mut transaction = store.transaction();
    transaction.claim("free").complete(&running, b"done");
    assert!(transaction.commit().expect("answers").is_committed());
    let again = rejections(&transaction);
    assert!(
        matches!(
            &again[..],
            [Rejection::Duplicate(_), Rejection::Attempt { error: AttemptError::Over { .. }, .. },]
        ),
        "{again:?}"
    );
}

#[test]
fn i1_of_transactions_that_claim_one_id_at_once_one_is_made_and_the_others_leave_nothing() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = open(&disk, &clock);
    let ledger = ledger(&store);
    for round in 0..1_000_u64 {
        if round % 100 == 99 {
            store.run_background().expect("flushes");
        }
        let start = Barrier::new(4);
        let made: Vec<usize> = std::thread::scope(|scope| {
            let attempt_of = |n: usize| format!("{round}-{n}");
            let threads: Vec<_> = (0..4)
                .map(|n| {
                    let (store, ledger, start) = (&store, &ledger, &start);
                    scope.spawn(move || {
                        let attempt = started(ledger, &attempt_of(n));
                        let mut transaction = store.transaction();
                        // Each in another order: they must not wait for each other.
                        let mut ids = [id(round), id(1_000_000 + round)];
                        if n % 2 == 0 {
                            ids.reverse();
                        }
                        transaction.complete(&attempt, b"").claim(ids[0]).claim(ids[1]);
                        start.wait();
                        let is_made = transaction.commit().expect("answers").is_committed();
                        assert_eq!(is_completed(ledger, &attempt_of(n)), is_made);
                        is_made.then_some(n)
                    })
                })
                .collect();
            threads.into_iter().filter_map(|thread| thread.join().expect("no panic")).collect()
        });
        assert_eq!(made.len(), 1, "round {round}: {made:?}");
    }
    assert_sound(&store);
}

#[test]
fn i8_moves_of_a_transaction_are_those_of_the_calls_that_stand_alone() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = open(&disk, &clock);
    let ledger = ledger(&store);
    let state = |id: &str| ledger.get(id).expect("reads").map(|record| record.state);
    let attempts = ["fails", "returns", "dies"].map(|id| started(&ledger, id));
    let mut transaction = store.transaction();
    transaction.fail(&attempts[0], Failure::retry("no")).expect("is a failure");
    transaction.release(&attempts[1]);
    transaction.fail(&attempts[2], Failure::last("no")).expect("is a failure");
    assert!(transaction.commit().expect("answers").is_committed());
    assert!(matches!(state("fails"), Some(State::Waiting { .. })));
    assert_eq!(ledger.get("returns").expect("reads").expect("is there").attempts, 0);
    assert!(matches!(state("dies"), Some(State::Dead { .. })));
    // Their attempts are over: dropping them changes nothing.
    drop(attempts);
    assert_eq!(ledger.get("fails").expect("reads").expect("is there").history.len(), 1);
    let mut transaction = store.transaction();
    transaction.settle(&ledger, "dies", b"paid", "somebody looked").purge(&ledger, "fails");
    transaction.cancel(&ledger, "returns", "not wanted");
    assert!(transaction.commit().expect("answers").is_committed());
    assert!(matches!(state("dies"), Some(State::Completed { .. })));
    assert_eq!(state("fails"), None);
    assert!(matches!(state("returns"), Some(State::Dead { .. })));
    assert_eq!(ledger.dead_letters().list(&DeadFilter::new()).expect("lists").letters.len(), 1);
}

#[test]
fn a_transaction_waits_for_a_reservation_of_its_ids() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = sim(&disk, &clock).wait_max(Duration::from_millis(50)).open().expect("opens");
    let Reserve::FirstSeen(reservation) = store.reserve("a").expect("reserves") else { panic!() };
    let mut transaction = store.transaction();
    transaction.claim("a").claim("b");
    assert_eq!(transaction.commit().expect_err("is held").kind(), ErrorKind::Retry);
    assert!(!store.contains("b").expect("reads"));
    drop(reservation);
    assert!(transaction.commit().expect("answers").is_committed());
}

#[test]
fn claims_of_a_transaction_end_and_are_found_after_flush_compaction_and_reopening() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = open(&disk, &clock);
    let namespace = store.default_namespace();
    let long_id = vec![7; 100];
    for n in 0..2_000_u64 {
        let mut transaction = store.transaction();
        transaction.claim_for(&namespace, id(n), minutes(n % 2 + 1)).claim(id(10_000 + n));
        if n == 0 {
            transaction.claim(&long_id);
        }
        assert!(transaction.commit().expect("answers").is_committed());
    }
    store.freeze();
    store.run_background().expect("works");
    clock.advance(Duration::from_secs(60));
    store.run_background().expect("works");
    drop((namespace, store));
    let store = open(&disk, &clock);
    for n in 0..2_000_u64 {
        assert_eq!(store.contains(id(n)).expect("reads"), n % 2 == 1, "id {n}");
        assert!(store.claim(id(10_000 + n)).expect("claims").is_duplicate(), "id {n}");
    }
    assert!(store.contains(&long_id).expect("reads"));
    assert_sound(&store);
}

#[test]
fn what_makes_no_sense_in_a_transaction_is_refused() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = open(&disk, &clock);
    let elsewhere = sim(&SimDisk::new(), &clock).open().expect("opens");
    let (here, there) = (ledger(&store), ledger(&elsewhere));
    let (own, foreign) = (started(&here, "a"), started(&there, "a"));
    let bad = |plan: &dyn Fn(&mut Transaction)| {
        let mut transaction = store.transaction();
        plan(&mut transaction);
        let error = transaction.commit().expect_err("is refused");
        assert_eq!(error.kind(), ErrorKind::FixCall, "{error}");
    };
    bad(&|t| _ = t.claim("a").claim("a"));
    bad(&|t| _ = t.claim(""));
    bad(&|t| _ = t.complete(&own, b"").release(&own));
    bad(&|t| _ = t.complete(&foreign, b""));
    bad(&|t| _ = t.claim_in(&elsewhere.default_namespace(), "a"));
    bad(&|t| _ = t.complete(&own, vec![0; 2 << 20]));
    bad(&|t| _ = t.purge(&here, "a").cancel(&here, "a", "twice"));
    bad(&|t| _ = t.settle(&here, "a", vec![0; 2 << 20], "too large"));
    assert!(matches!(here.begin("a"), Ok(Begin::InProgress(_))), "{AT}");
    assert!(store.transaction().commit().expect("nothing is done").is_committed());
}

/// While a transaction waits for an id, leases are renewed: its own, and those of all other work of the store.
#[test]
#[allow(clippy::disallowed_methods, reason = "real time passes")]
fn i8_a_transaction_that_waits_keeps_no_lease_from_being_renewed() {
    let (_dir, path) = crate::support::place();
    let wait = Duration::from_secs(4);
    let store = Store::builder(&path).wait_max(wait).open().expect("opens");
    let lease = Duration::from_secs(1);
    let ledger = store.ledger_with("l", LedgerOptions::new().lease(lease)).expect("opens");
    let Reserve::FirstSeen(held) = store.reserve("x").expect("reserves") else { panic!() };
    let is_running = |id: &str| {
        let record = ledger.get(id).expect("reads").expect("is there");
        ledger.is_in_progress(&record)
    };
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| {
            ledger.run("waits", |attempt| {
                let mut transaction = store.transaction();
                transaction.complete(attempt, b"").claim("x");
                let error = transaction.commit().expect_err("somebody holds the id");
                assert_eq!(error.kind(), ErrorKind::Retry);
                Ok(1_u32)
            })
        });
        let works = ledger.run("works", |_| {
            // Longer than two leases, shorter than the wait.
            std::thread::sleep(lease * 3);
            assert!(is_running("works"), "its lease was not renewed");
            assert!(is_running("waits"), "nor that of the one who waits");
            Ok(2_u32)
        });
        assert!(matches!(works, Ok(Ran::First(2))), "{works:?}");
        assert!(matches!(waits.join().expect("no panic"), Ok(Ran::First(1))));
    });
    drop(held);
}

#[test]
fn i6_a_transaction_is_as_safe_as_the_strictest_of_its_ledgers_asks() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = open(&disk, &clock);
    let strict = LedgerOptions::new().durability(Durability::Disk);
    let ledger = store.ledger_with("strict", strict.clone()).expect("opens");
    let attempt = started(&ledger, "a");
    let mut transaction = store.transaction();
    transaction.durability(Durability::Buffered).complete(&attempt, b"done").claim("one");
    assert!(transaction.commit().expect("answers").is_committed());
    let store = open(&disk.lose_unsynced(), &clock);
    let ledger = store.ledger_with("strict", strict).expect("opens");
    assert!(is_completed(&ledger, "a"));
    assert!(store.contains("one").expect("reads"));
}

#[test]
fn a_value_of_a_transaction_is_replayed_by_run() {
    let (disk, clock) = (SimDisk::new(), clock());
    let store = open(&disk, &clock);
    let ledger = ledger(&store);
    let attempt = started(&ledger, "a");
    started(&ledger, "b").fail(Failure::last("no")).expect("fails");
    let mut transaction = store.transaction();
    transaction.complete_value(&attempt, &7_u64).expect("encodes");
    transaction.settle_value(&ledger, "b", &8_u64, "somebody looked").expect("encodes");
    assert!(transaction.commit().expect("answers").is_committed());
    for (id, wanted) in [("a", 7_u64), ("b", 8)] {
        let ran = ledger.run(id, |_| -> Result<u64, Failure> { panic!("is done") });
        assert!(matches!(ran, Ok(Ran::Replayed(value)) if value == wanted), "{ran:?}");
    }
}

/// Enough claims and rows that they are looked up in groups.
#[test]
fn i10_a_large_transaction_on_damaged_blocks_heals_them_and_misses_nothing() {
    let (disk, clock, blocks) = (SimDisk::new(), clock(), MemoryBlocks::default());
    let open = || sim_with(&disk, &clock, &blocks).open().expect("opens");
    let store = open();
    let table = store.raw_table("state").expect("opens");
    let versions: Vec<_> = (0..2_000)
        .map(|n| {
            assert!(store.claim(id(n)).expect("claims").is_first_seen());
            table.put(id(n), b"before").expect("puts")
        })
        .collect();
    drop(table);
    store.freeze();
    settle(&store);
    store.close().expect("closes");
    let store = open();
    blocks.damage(|_| false);
    let table = store.raw_table("state").expect("opens");
    let mut transaction = store.transaction();
    transaction.skip_duplicates();
    for n in (0..40).map(|n| n * 90) {
        // Puts belong to no claim, or they would be skipped with it.
        let version = versions.get(n as usize).copied();
        transaction.put_if(&table, id(n), version, b"after").expect("collects");
    }
    for n in (0..40).map(|n| n * 90) {
        transaction.claim(id(n));
    }
    let CommitOutcome::CommittedWithout(duplicates) = transaction.commit().expect("commits") else {
        panic!("ids below 2,000 have live claims");
    };
    assert_eq!(duplicates.len(), 2_000_usize.div_ceil(90));
    for n in (0..40).map(|n| n * 90) {
        let value = table.get(id(n)).expect("reads").expect("is there").value;
        assert_eq!(value, b"after");
        assert!(store.contains(id(n)).expect("reads"));
    }
    assert!(store.stats().blocks_healed > 0);
    assert_sound(&store);
}
