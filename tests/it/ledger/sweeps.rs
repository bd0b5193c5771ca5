//! What is done to many records at once.

use super::*;
use crate::support::settle;
use firstseen::disk::Disk;
use firstseen::ledger::{
    AttemptEnd, DeadCause, DeadFilter, Failure, OnLeaseEnd, PurgeFilter, State,
};
use firstseen::testing::Table;
use firstseen::{Durability, ErrorKind};
use std::ops::ControlFlow;
use std::path::Path;

fn ids(ledger: &Ledger, filter: &DeadFilter) -> Vec<String> {
    let letters = ledger.dead_letters().list(filter).expect("lists").letters;
    letters.iter().map(|letter| text(&letter.record.id)).collect()
}

fn text(id: &[u8]) -> String {
    String::from_utf8_lossy(id).into_owned()
}

fn kill(ledger: &Ledger, id: &str) {
    started(ledger, id).fail(Failure::last("bad")).expect("fails");
}

/// The ids of all records, sorted.
fn all(ledger: &Ledger) -> Vec<String> {
    let mut all = Vec::new();
    let visit = |id: &[u8], record: firstseen::Result<Record>| {
        assert_eq!(record.expect("reads").id, id);
        all.push(text(id));
        ControlFlow::Continue(())
    };
    ledger.list(visit).expect("lists");
    all.sort();
    all
}

#[test]
fn what_is_to_be_held_is_found_after_a_crash_although_nobody_calls_begin() {
    let world = World::new();
    let hold = || options().on_lease_end(OnLeaseEnd::Hold);
    let ledger = world.store.ledger_with("l", hold()).expect("opens");
    for id in ["a", "b"] {
        abandon(started(&ledger, id));
    }
    started(&ledger, "done").complete(b"x").expect("completes");
    started(&ledger, "waits").fail(Failure::retry("once")).expect("fails");
    let store = sim(&world.disk.kill(), &world.clock).open().expect("opens");
    let ledger = store.ledger_with("l", hold()).expect("opens");
    abandon(started(&ledger, "works"));
    assert_eq!(ids(&ledger, &DeadFilter::new().held()), [""; 0], "nobody has decided it yet");
    let untouched = ["done", "waits", "works"].map(|id| record(&ledger, id));
    let swept = ledger.sweep_ended().expect("sweeps");
    assert_eq!((swept.changed, swept.failed.len()), (2, 0));
    assert_eq!(ids(&ledger, &DeadFilter::new().held()), ["a", "b"]);
    let held = record(&ledger, "a");
    assert_eq!((held.attempts, held.history.len()), (1, 1));
    assert_eq!(held.history[0].end, AttemptEnd::ProcessEnded);
    assert_eq!(["done", "waits", "works"].map(|id| record(&ledger, id)), untouched);
    assert_eq!(ledger.sweep_ended().expect("sweeps").changed, 0, "once is enough");
    world.pass(LEASE);
    assert_eq!(ledger.sweep_ended().expect("sweeps").changed, 1, "this lease has ended, too");
    ledger.settle("a", b"receipt", "it had happened").expect("settles");
    assert!(matches!(begin(&ledger, "a"), Begin::Completed(_)));
}

#[test]
fn a_sweep_fails_what_is_to_fail_and_leaves_what_may_be_tried_again() {
    let world = World::new();
    let of = |options| world.store.ledger_with("l", options).expect("opens");
    let retry = of(options());
    abandon(started(&retry, "a"));
    world.pass(LEASE);
    let before = record(&retry, "a");
    assert_eq!(retry.sweep_ended().expect("sweeps").changed, 0);
    assert_eq!(record(&retry, "a"), before, "the next attempt may start");
    let newer = BeginOptions::new().version(7);
    abandon(retry.begin_with("newer", newer).expect("begins").started().expect("starts"));
    started(&retry, "waits").fail(Failure::retry("once")).expect("fails");
    world.pass(LEASE);
    let fail = of(options().on_lease_end(OnLeaseEnd::Fail));
    assert_eq!(fail.sweep_ended().expect("sweeps").changed, 2);
    let of_leases = DeadFilter::new().cause(DeadCause::LeaseEnded);
    assert_eq!(ids(&fail, &of_leases), ["a", "newer"], "whatever its version");
    let once = of(options().attempts_max(1));
    abandon(started(&once, "last"));
    world.pass(LEASE);
    assert_eq!(once.sweep_ended().expect("sweeps").changed, 2);
    let used_up = DeadFilter::new().cause(DeadCause::Attempts);
    assert_eq!(ids(&once, &used_up), ["last", "waits"]);
    assert_eq!(record(&once, "last").attempts, 1, "no attempt was started");
}

#[test]
fn one_record_that_cannot_be_read_stops_no_sweep_of_ended_leases() {
    let world = World::new();
    let hold = options().on_lease_end(OnLeaseEnd::Hold);
    let ledger = world.store.ledger_with("default", hold).expect("opens");
    for n in 0..4 {
        abandon(started(&ledger, &format!("id-{n}")));
    }
    world.pass(LEASE);
    Table::of(&world.store, 1).put(b"id-1", b"nonsense").expect("puts");
    let swept = ledger.sweep_ended().expect("sweeps");
    assert_eq!((swept.changed, swept.failed.len()), (3, 1));
    assert_eq!(swept.failed[0].0, b"id-1");
    assert_eq!(ids(&ledger, &DeadFilter::new().held()), ["id-0", "id-2", "id-3"]);
}

#[test]
fn i11_one_value_that_is_damaged_at_rest_stops_neither_a_list_nor_a_sweep() {
    let world = World::new();
    let ledger = world.ledger();
    for id in ["a", "b", "c"] {
        started(&ledger, id).complete(format!("receipt of {id}")).expect("completes");
    }
    world.store.freeze();
    settle(&world.store);
    let dir = Path::new(crate::support::AT).join("log");
    let name = world.disk.list(&dir).expect("lists").into_iter().next().expect("a segment");
    let path = dir.join(name);
    let bytes = world.disk.read(&path).expect("reads");
    let at = bytes.windows(12).position(|w| w == b"receipt of b").expect("is in the log");
    world.disk.open(&path).expect("opens").write_all_at(b"R", at as u64).expect("writes");
    ledger.get("b").expect_err("is damaged");
    let (mut good, mut bad) = (0, 0);
    let visit = |id: &[u8], record: firstseen::Result<Record>| {
        match record {
            Ok(_) => good += 1,
            Err(error) => {
                assert_eq!((id, error.kind()), (&b"b"[..], ErrorKind::Repair));
                bad += 1;
            }
        }
        ControlFlow::Continue(())
    };
    ledger.list(visit).expect("goes on");
    assert_eq!((good, bad), (2, 1));
    let swept = ledger.purge_all(&PurgeFilter::completed()).expect("sweeps");
    assert_eq!((swept.changed, swept.failed.len()), (2, 1));
}

/// Operators redrive what a sweep has listed already, and it ends again before the sweep comes to it.
#[test]
fn a_sweep_leaves_alone_what_was_redriven_and_died_or_was_held_again_meanwhile() {
    for (purges, holds) in [(false, false), (false, true), (true, false), (true, true)] {
        let world = World::new();
        let on_lease_end = if holds { OnLeaseEnd::Hold } else { OnLeaseEnd::Retry };
        let of = |durability| {
            let options = options().on_lease_end(on_lease_end).durability(durability);
            world.store.ledger_with("l", options).expect("opens")
        };
        let (ledger, other) = (of(Durability::Disk), of(Durability::Process));
        let again = move |ledger: &Ledger, id: &str| {
            let attempt = started(ledger, id);
            if !holds {
                attempt.fail(Failure::last("bad")).expect("fails");
            }
        };
        for id in ["a", "b", "c"] {
            again(&ledger, id);
        }
        let meanwhile = other.clone();
        world.disk.after_next_sync(move || {
            // At the same millisecond, and yet another death.
            assert!(meanwhile.dead_letters().redrive("b").expect("redrives"));
            again(&meanwhile, "b");
            assert!(meanwhile.dead_letters().redrive("c").expect("redrives"));
        });
        let filter = if holds { DeadFilter::new().held() } else { DeadFilter::new() };
        let letters = ledger.dead_letters();
        let swept = if purges { letters.purge_all(&filter) } else { letters.redrive_all(&filter) };
        let swept = swept.expect("sweeps");
        assert_eq!((swept.changed, swept.failed.len()), (1, 0), "purges {purges}, holds {holds}");
        assert_eq!(ids(&ledger, &filter), ["b"]);
        assert_eq!(record(&ledger, "b").redrives, 1);
        assert!(matches!(record(&ledger, "c").state, State::Waiting { .. }));
    }
}

#[test]
fn i11_a_dead_letter_whose_entry_cannot_be_decoded_is_told_and_can_be_redriven() {
    let world = World::new();
    let ledger = world.store.ledger_with("default", options()).expect("opens");
    for n in 0..4 {
        kill(&ledger, &format!("id-{n}"));
        world.pass(Duration::from_secs(1));
    }
    let pointers = Table::of(&world.store, 4);
    for (id, bytes) in [("id-1", &[2, 2, 9][..]), ("id-2", b"")] {
        pointers.put(id.as_bytes(), bytes).expect("puts");
    }
    let letters = ledger.dead_letters();
    let mut unreadable = Vec::new();
    let mut next = Some(DeadFilter::new().limit(1));
    while let Some(filter) = next {
        let page = letters.list(&filter).expect("lists");
        unreadable.extend(page.unreadable);
        next = page.next;
    }
    unreadable.sort_by(|a, b| a.0.cmp(&b.0));
    let told: Vec<_> = unreadable.iter().map(|(id, error)| (text(id), error.kind())).collect();
    let wanted = [("id-1", ErrorKind::FixCall), ("id-2", ErrorKind::Repair)];
    assert_eq!(told, wanted.map(|(id, kind)| (id.to_owned(), kind)), "newer and damaged, once");
    letters.get("id-1").expect_err("is not said to be no dead letter");
    let swept = letters.purge_all(&DeadFilter::new()).expect("sweeps");
    assert_eq!((swept.changed, swept.failed.len()), (2, 2));
    for id in ["id-1", "id-2"] {
        assert!(letters.redrive(id).expect("redrives"), "{id} by itself");
        assert!(matches!(begin(&ledger, id), Begin::Started(_)));
    }
    assert!(letters.list(&DeadFilter::new()).expect("lists").unreadable.is_empty());
}

#[test]
fn completed_records_are_kept_by_time_and_by_number() {
    let world = World::new();
    let ledger = world.ledger();
    for n in 0..6 {
        started(&ledger, &format!("id-{n}")).complete(b"x").expect("completes");
        world.pass(Duration::from_secs(1));
    }
    kill(&ledger, "dead");
    abandon(started(&ledger, "works"));
    let purge = |filter: PurgeFilter| ledger.purge_all(&filter).expect("purges").changed;
    let old = PurgeFilter::completed().older_than(Duration::from_secs(5));
    assert_eq!(purge(old.clone()), 2);
    assert_eq!(all(&ledger), ["dead", "id-2", "id-3", "id-4", "id-5", "works"]);
    assert_eq!(purge(old), 0);
    assert_eq!(purge(PurgeFilter::completed().limit(1)), 1, "the oldest");
    assert_eq!(purge(PurgeFilter::completed().keep_newest(2)), 1);
    assert_eq!(all(&ledger), ["dead", "id-4", "id-5", "works"]);
    assert_eq!(started(&ledger, "id-2").number(), 1, "as if never begun");
    // The word of an operator completes, too, and counts from then.
    world.pass(Duration::from_secs(60));
    ledger.settle("dead", b"done", "by hand").expect("settles");
    assert_eq!(purge(PurgeFilter::completed().older_than(Duration::from_secs(60))), 2);
    assert_eq!(purge(PurgeFilter::completed()), 1);
}

#[test]
fn what_waits_and_is_never_delivered_again_can_be_purged() {
    let world = World::new();
    let of = |options| world.store.ledger_with("l", options).expect("opens");
    let ledger = of(options());
    started(&ledger, "failed")
        .fail(Failure::retry_after("busy", Duration::from_secs(5)))
        .expect("fails");
    abandon(started(&ledger, "gone"));
    kill(&ledger, "dead");
    started(&ledger, "done").complete(b"x").expect("completes");
    world.pass(Duration::from_secs(5));
    abandon(started(&ledger, "works"));
    let waiting = || PurgeFilter::waiting().older_than(Duration::from_secs(5));
    let purge = |filter: PurgeFilter| ledger.purge_all(&filter).expect("purges").changed;
    assert_eq!(purge(waiting()), 0, "since when it may be begun");
    world.pass(Duration::from_secs(5));
    // What is to be held must not be lost.
    let hold = of(options().on_lease_end(OnLeaseEnd::Hold));
    assert_eq!(hold.purge_all(&PurgeFilter::waiting()).expect("purges").changed, 1);
    assert_eq!(all(&ledger), ["dead", "done", "gone", "works"]);
    assert_eq!(purge(waiting()), 0);
    assert_eq!(purge(PurgeFilter::waiting()), 1);
    assert_eq!(all(&ledger), ["dead", "done", "works"]);
    assert!(ledger.dead_letters().redrive("dead").expect("redrives"));
    assert_eq!(purge(PurgeFilter::waiting()), 1, "redriven, and never begun again");
}

#[test]
fn a_record_that_changes_after_it_was_listed_is_not_purged() {
    let world = World::new();
    let of =
        |durability| world.store.ledger_with("l", options().durability(durability)).expect("opens");
    let (ledger, other) = (of(Durability::Disk), of(Durability::Process));
    for id in ["a", "b"] {
        started(&ledger, id).complete(b"old").expect("completes");
        world.pass(Duration::from_secs(1));
    }
    world.disk.after_next_sync(move || {
        other.redrive("b").expect("redrives");
        started(&other, "b").complete(b"new").expect("completes");
    });
    let swept = ledger.purge_all(&PurgeFilter::completed()).expect("purges");
    assert_eq!((swept.changed, swept.failed.len()), (1, 0));
    assert_eq!(record(&ledger, "b").result(), Some(&b"new"[..]));
}
