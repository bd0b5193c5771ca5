//! The rules of single calls, where the move is part of a transaction.

use super::*;
use firstseen::ledger::{Failure, State};
use firstseen::transaction::Transaction;
use firstseen::{Clock, Durability, ErrorKind, Timestamp};

fn lease_end(ledger: &Ledger, id: &str) -> Timestamp {
    match record(ledger, id).state {
        State::Running { until } => until,
        other => panic!("{other:?}"),
    }
}

fn commit(store: &Store, plan: impl FnOnce(&mut Transaction)) {
    let mut transaction = store.transaction();
    plan(&mut transaction);
    let outcome = transaction.commit().expect("answers");
    assert!(outcome.is_committed(), "{outcome:?}");
}

/// Renews the lease of an attempt, or extends it by saving a stage.
type Extend = fn(&Store, &Attempt);

const EXTENSIONS: [(&str, Extend); 5] = [
    ("renew", |_, attempt| attempt.renew().expect("renews")),
    ("stage", |_, attempt| _ = attempt.stage("s", || Ok::<_, Failure>(1_u32)).expect("is saved")),
    ("commit of a renewal", |store, attempt| commit(store, |t| _ = t.renew(attempt))),
    ("commit of a stage", |store, attempt| {
        commit(store, |t| _ = t.save_stage(attempt, "s", &1_u32).expect("is short"));
    }),
    ("commit of a cursor", |store, attempt| {
        commit(store, |t| _ = t.save_cursor(attempt, "s", &1_u32).expect("is short"));
    }),
];

#[test]
fn a_lease_that_was_extended_is_made_shorter_by_no_renewal_and_no_stage() {
    for (name, extend) in EXTENSIONS {
        let world = World::new();
        let ledger = world.ledger();
        let attempt = started(&ledger, "a");
        attempt.renew_for(LEASE * 6).expect("extends");
        let end = lease_end(&ledger, "a");
        world.pass(Duration::from_secs(1));
        extend(&world.store, &attempt);
        assert_eq!(lease_end(&ledger, "a"), end, "{name}");
    }
}

/// Whichever time turns out to be right, nobody starts beside work that has just renewed its lease.
#[test]
fn i8_a_lease_that_is_extended_while_a_jump_of_the_clock_is_in_doubt_counts_from_the_later_time() {
    let to_length: [(&str, Extend); 2] = [
        ("renew_for", |_, attempt| attempt.renew_for(LEASE).expect("renews")),
        ("commit of renew_for", |store, attempt| {
            commit(store, |t| _ = t.renew_for(attempt, LEASE).expect("is a lease"));
        }),
    ];
    for (name, extend) in EXTENSIONS.into_iter().chain(to_length) {
        let world = World::new();
        let ledger = world.ledger();
        let attempt = started(&ledger, "a");
        let day = Duration::from_secs(24 * 3_600).as_millis() as u64;
        let later = Timestamp::from_millis(world.clock.wall().as_millis() + day);
        world.clock.jump_to(later);
        extend(&world.store, &attempt);
        let wanted = later.as_millis() + LEASE.as_millis() as u64;
        assert_eq!(lease_end(&ledger, "a").as_millis(), wanted, "{name}");
    }
}

#[test]
fn i8_an_attempt_whose_beginning_takes_longer_than_its_lease_has_a_lease_when_it_is_handed_out() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    for is_async in [false, true] {
        let world = World::new();
        let ledger = world.ledger();
        let clock = world.clock.clone();
        world.disk.after_next_sync(move || clock.advance(LEASE * 2));
        let mut transaction = world.store.transaction();
        transaction.durability(Durability::Disk).begin(&ledger, "a", BeginOptions::new());
        let outcome = if is_async {
            runtime.block_on(transaction.commit_async())
        } else {
            transaction.commit()
        };
        let attempt = outcome.expect("answers").attempt(&ledger, "a").expect("has begun");
        assert!(matches!(begin(&ledger, "a"), Begin::InProgress(_)), "async {is_async}");
        attempt.complete(b"").expect("completes");
    }
}

#[test]
fn i8_a_transaction_begins_what_a_process_that_is_gone_has_begun() {
    let world = World::new();
    abandon(started(&world.ledger(), "a"));
    let disk = world.disk.kill();
    let store = sim(&disk, &world.clock).open().expect("opens after the kill");
    let world = World { disk, clock: world.clock.clone(), store };
    let ledger = world.ledger();
    let mut transaction = world.store.transaction();
    transaction.begin(&ledger, "a", BeginOptions::new());
    let mut outcome = transaction.commit().expect("answers");
    let attempt = outcome.attempt(&ledger, "a").expect("its lease has ended with its process");
    assert_eq!(attempt.number(), 2);
    attempt.complete(b"").expect("completes");
}

#[test]
fn what_begin_refuses_is_refused_in_a_transaction() {
    let world = World::new();
    let ledger = world.ledger();
    let long_id = "i".repeat(firstseen::limits::LEDGER_ID_BYTES_MAX + 1);
    let bytes_max = firstseen::limits::LEDGER_VALUE_BYTES_MAX;
    let name_max = firstseen::limits::LEDGER_NAME_BYTES_MAX;
    for (id, options) in [
        ("a", BeginOptions::new().lease(Duration::ZERO)),
        ("a", BeginOptions::new().worker("w".repeat(name_max + 1))),
        ("a", BeginOptions::new().payload(vec![1; bytes_max + 1])),
        (&long_id, BeginOptions::new()),
    ] {
        let alone = ledger.begin_with(id, options.clone()).expect_err("is refused");
        let mut transaction = world.store.transaction();
        transaction.begin(&ledger, id, options);
        let error = transaction.commit().expect_err("is refused");
        assert_eq!(error.kind(), ErrorKind::FixCall, "{error}");
        assert_eq!(error.to_string(), alone.to_string());
        assert!(ledger.get("a").expect("reads").is_none());
    }
}

/// What ends a record changes all that is kept beside it in one commit.
#[test]
fn no_beginning_keeps_more_beside_a_record_than_one_commit_can_end() {
    let (disk, clock) = (SimDisk::new(), clock());
    let builder = sim(&disk, &clock).segment_bytes(16 << 20).memtable_bytes(64 << 20);
    let store = builder.open().expect("opens");
    let world = World { disk, clock, store };
    let ledger = world.ledger();
    let attempt = started(&ledger, "a");
    attempt.stage("one", || Ok::<_, Failure>(vec![1_u8; 3 << 20])).expect("fits");
    attempt.fail(Failure::retry("no")).expect("fails");
    world.pass(Duration::from_secs(1));
    let large = BeginOptions::new().payload(vec![1; 2 << 20]);
    let error = ledger.begin_with("a", large.clone()).expect_err("is too much with the stage");
    assert_eq!(error.kind(), ErrorKind::FixCall, "{error}");
    let mut transaction = world.store.transaction();
    transaction.begin(&ledger, "a", large);
    let error = transaction.commit().expect_err("is too much with the stage");
    assert_eq!(error.kind(), ErrorKind::FixCall, "{error}");
    started(&ledger, "a").complete(b"").expect("can end");
}
