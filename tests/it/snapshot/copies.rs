//! Two copies of one store: fencing tokens, leases, and who may go on in a place.

use crate::snapshot::{Place, new_store, restored, restored_on};
use crate::support::{AT, claim_all_first, id, sim};
use firstseen::disk::sim::SimDisk;
use firstseen::ledger::{Attempt, Begin, Ledger, LedgerOptions, State};
use firstseen::limits::EPOCH_MAX;
use firstseen::snapshot::{RestoreOptions, SnapshotTarget as _, list};
use firstseen::{ErrorKind, ManualClock, Store, seconds};
use std::time::Duration;

/// Tokens of an epoch begin at a multiple of this.
const OF_AN_EPOCH: u64 = 1 << 42;

fn ledger(store: &Store) -> Ledger {
    let options = LedgerOptions::new().lease(Duration::from_secs(60));
    store.ledger_with("payments", options).expect("opens")
}

fn started(ledger: &Ledger, id: &str) -> Attempt {
    ledger.begin(id).expect("begins").started().expect("is started")
}

fn with_epoch(place: &Place, clock: &ManualClock, epoch: u64) -> Store {
    let disk = SimDisk::new();
    let options = RestoreOptions::new().epoch(epoch);
    let report = Store::builder(AT).disk(disk.clone()).restore(place, options).expect("restores");
    assert_eq!(report.epoch, epoch);
    sim(&disk, clock).open().expect("opens")
}

/// Whatever the original goes on to do.
#[test]
fn i8_i15_tokens_of_a_restored_store_are_above_all_that_the_original_gives() {
    let (disk, clock, store) = new_store();
    let place = Place::default();
    let before = started(&ledger(&store), "before").token();
    store.snapshot(&place).expect("a snapshot");
    let mut originals = vec![before];
    let mut store = store;
    for n in 0..20 {
        originals.push(started(&ledger(&store), &format!("original-{n}")).token());
        store.close().expect("closes");
        store = sim(&disk, &clock).open().expect("opens");
    }
    assert!(originals.iter().all(|token| *token < OF_AN_EPOCH), "{originals:?}");
    let copy = restored(&place, &clock);
    assert_eq!((store.epoch(), copy.epoch()), (0, 1));
    let first = started(&ledger(&copy), "copy").token();
    assert!((OF_AN_EPOCH..2 * OF_AN_EPOCH).contains(&first), "{first}");
    // A copy of the copy, after it, and one with an epoch from elsewhere.
    let copies = Place::default();
    copy.snapshot(&copies).expect("a snapshot");
    let last = started(&ledger(&copy), "copy-2").token();
    let second = restored(&copies, &clock);
    let after = started(&ledger(&second), "second").token();
    assert!(after > last && (2 * OF_AN_EPOCH..3 * OF_AN_EPOCH).contains(&after), "{after}");
    let seventh = started(&ledger(&with_epoch(&copies, &clock, 7)), "seventh").token();
    assert_eq!(seventh / OF_AN_EPOCH, 7);
    // Positions of the outbox are such numbers, too.
    let topic = second.outbox("out").expect("opens");
    let mut transaction = second.transaction();
    transaction.claim("event").emit(&topic, "message").expect("emits");
    assert!(transaction.commit().expect("answers").is_committed());
    assert!(topic.read(1).expect("reads")[0].position > after);
}

#[test]
fn the_epoch_outlives_a_reopening_a_flush_and_a_repair() {
    let (_disk, clock, store) = new_store();
    let place = Place::default();
    claim_all_first(&store, 0..100);
    store.snapshot(&place).expect("a snapshot");
    let disk = SimDisk::new();
    let copy = restored_on(&disk, &place, &clock);
    copy.freeze();
    copy.run_background().expect("flushes");
    copy.close().expect("closes");
    let copy = sim(&disk, &clock).open().expect("opens");
    assert_eq!(copy.epoch(), 1);
    copy.snapshot(&place).expect("its own place");
    drop(copy);
    let segment = std::path::Path::new(AT).join("log/0000000001.seg");
    let file = firstseen::disk::Disk::open(&disk, &segment).expect("opens");
    file.write_all_at(&[0xff; 4], 4_100).expect("writes");
    let report = sim(&disk, &clock).repair().expect("repairs");
    assert!(report.lost_bytes > 0);
    let copy = sim(&disk, &clock).open().expect("opens");
    assert_eq!(copy.epoch(), 1);
    copy.snapshot(&place).expect("still its own place");
}

#[test]
fn an_epoch_that_is_not_above_that_of_the_snapshot_is_refused() {
    let (_disk, clock, store) = new_store();
    let place = Place::default();
    store.snapshot(&place).expect("a snapshot");
    let copy = with_epoch(&place, &clock, 5);
    copy.snapshot(&place).expect("a snapshot");
    for epoch in [0, 1, 5, EPOCH_MAX + 1, u64::MAX] {
        let disk = SimDisk::new();
        let options = RestoreOptions::new().epoch(epoch);
        let error = Store::builder(AT).disk(disk.clone()).restore(&place, options);
        let error = error.expect_err("too small, or too large");
        assert_eq!(error.kind(), ErrorKind::FixCall, "{epoch}: {error}");
        assert!(error.to_string().contains("from 6 to"), "{error}");
        assert!(!sim(&disk, &clock).open().expect("opens").contains("x").expect("reads"));
    }
    assert_eq!(with_epoch(&place, &clock, EPOCH_MAX).epoch(), EPOCH_MAX);
}

/// The attempt is in another process, perhaps on another machine. In the copy nobody works on it.
#[test]
fn i8_i15_an_attempt_that_was_running_has_ended_in_the_restored_store() {
    let (_disk, clock, store) = new_store();
    let place = Place::default();
    let attempt = started(&ledger(&store), "payment");
    store.snapshot(&place).expect("a snapshot");
    let copy = restored(&place, &clock);
    let taken_over = started(&ledger(&copy), "payment");
    assert!(taken_over.token() > attempt.token());
    taken_over.complete(b"by the copy").expect("completes");
    // The original knows nothing of it: what both do outside is fenced there, by token or epoch.
    attempt.complete(b"by the original").expect("completes");
    let record = ledger(&copy).get("payment").expect("reads").expect("is there");
    assert!(matches!(record.state, State::Completed { .. }));
}

#[test]
fn i15_a_lease_that_outlives_its_process_goes_on_to_its_time_in_the_restored_store() {
    let (_disk, clock, store) = new_store();
    let place = Place::default();
    let options =
        || LedgerOptions::new().lease(Duration::from_secs(60)).lease_outlives_process(true);
    let of = |store: &Store| store.ledger_with("payments", options()).expect("opens");
    let attempt = started(&of(&store), "payment");
    store.snapshot(&place).expect("a snapshot");
    clock.advance(Duration::from_secs(59));
    let copy = restored(&place, &clock);
    assert!(matches!(of(&copy).begin("payment").expect("begins"), Begin::InProgress(_)));
    clock.advance(Duration::from_secs(1));
    assert!(started(&of(&copy), "payment").token() > attempt.token());
}

#[test]
fn i4_i15_claims_of_a_restored_store_end_at_their_deadlines() {
    let (_disk, clock, store) = new_store();
    let place = Place::default();
    let short = firstseen::ClaimOptions::new().ttl(seconds(100));
    assert!(store.claim_with("short", short).expect("claims").is_first_seen());
    assert!(store.claim("long").expect("claims").is_first_seen());
    clock.advance(Duration::from_secs(40));
    store.snapshot(&place).expect("a snapshot");
    clock.advance(Duration::from_millis(59_999));
    let copy = restored(&place, &clock);
    assert!(copy.contains("short").expect("reads") && copy.contains("long").expect("reads"));
    clock.advance(Duration::from_millis(1));
    assert!(!copy.contains("short").expect("reads") && copy.contains("long").expect("reads"));
    let late = restored(&place, &clock);
    assert!(late.claim("short").expect("claims").is_first_seen());
    assert!(late.claim("long").expect("claims").is_duplicate());
}

#[test]
fn i15_in_its_place_the_copy_with_the_greatest_epoch_goes_on() {
    let (_disk, clock, store) = new_store();
    let place = Place::default();
    claim_all_first(&store, 0..10);
    store.snapshot(&place).expect("a snapshot");
    let (second, third) = (with_epoch(&place, &clock, 2), with_epoch(&place, &clock, 3));
    let also_third = with_epoch(&place, &clock, 3);
    // Nobody has taken over yet.
    claim_all_first(&store, 10..20);
    assert_eq!(store.snapshot(&place).expect("a snapshot").number, 2);
    claim_all_first(&third, 10..15);
    let report = third.snapshot(&place).expect("a snapshot");
    assert_eq!((report.number, report.epoch), (3, 3));
    let stored = place.names();
    for (copy, why) in [(&store, "epoch 3"), (&second, "epoch 3"), (&also_third, "same epoch")] {
        let error = copy.snapshot(&place).expect_err("it is not the one that goes on");
        assert_eq!(error.kind(), ErrorKind::FixCall, "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
    assert_eq!(place.names(), stored, "and nothing was stored");
    third.snapshot(&place).expect("it goes on");
    let newest = restored(&place, &clock);
    assert!(newest.contains(id(14)).expect("reads") && !newest.contains(id(15)).expect("reads"));
    let epochs: Vec<u64> = list(&place).expect("lists").iter().map(|info| info.epoch).collect();
    assert_eq!(epochs, [0, 0, 3, 3]);
    assert!(place.get("snapshots/00000000000000000009").expect("reads").is_none());
}

/// Both copies fill the segment with the same number up to the same byte.
#[test]
fn i15_a_part_of_another_copy_does_not_pass_for_ones_own() {
    let (_disk, clock, store) = new_store();
    let place = Place::default();
    claim_all_first(&store, 0..10);
    store.snapshot(&place).expect("a snapshot");
    let copy = restored(&place, &clock);
    claim_all_first(&store, 10..20);
    let originals = store.snapshot(&place).expect("a snapshot");
    claim_all_first(&copy, 20..30);
    let copies = copy.snapshot(&place).expect("a snapshot");
    assert_eq!((originals.bytes, copies.segments_sent), (copies.bytes, 1), "equally long");
    let newest = restored(&place, &clock);
    crate::support::assert_seen(&newest, 10..20, false);
    crate::support::assert_seen(&newest, 20..30, true);
}
