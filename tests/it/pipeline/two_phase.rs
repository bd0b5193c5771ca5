//! Transactions of two phases that crash at every step of each phase.

use super::*;

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
