//! What is inside a scope and what is outside, and what promoting and dropping mean for those who hold handles.

use super::{World, exported, listed};
use crate::support::{assert_sound, settle};
use firstseen::ledger::{AttemptError, Begin, State};
use firstseen::replay::ReplayState;
use firstseen::transaction::{CommitOutcome, Rejection};
use firstseen::{ErrorKind, NamespaceOptions, Reserve, Reserved, Ttl, hours};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn inside_a_scope_every_event_is_first_again_and_outside_nothing_changes() {
    let world = World::new();
    let store = world.open();
    let outside = store.namespace("payments").expect("opens");
    assert!(outside.claim("a").expect("claims").is_first_seen());
    assert!(store.claim("a").expect("claims").is_first_seen());
    let before = (listed(&store), exported(&store));
    let scope = store.replay("again").expect("begins");
    let (inside, default) =
        (scope.namespace("payments").expect("opens"), scope.default_namespace().expect("opens"));
    assert_eq!((inside.name(), default.name()), ("payments", "default"));
    for id in ["a", "b"] {
        assert!(inside.claim(id).expect("claims").is_first_seen());
        assert!(inside.claim(id).expect("claims").is_duplicate());
        assert!(default.claim(id).expect("claims").is_first_seen());
    }
    assert!(!outside.contains("b").expect("reads") && !store.contains("b").expect("reads"));
    assert!(outside.forget("a").expect("forgets") && inside.contains("a").expect("reads"));
    assert!(outside.claim("a").expect("claims").is_first_seen());
    assert_eq!((listed(&store), exported(&store)), before, "a scope is not listed");
    // Whatever happens in between.
    settle(&store);
    store.close().expect("closes");
    let store = world.open();
    let scope = store.find_replay("again").expect("is still there");
    let inside = scope.namespace("payments").expect("opens");
    assert!(inside.contains("b").expect("reads"));
    assert!(!store.contains("b").expect("reads"));
    assert_eq!(exported(&store), before.1);
    assert_sound(&store);
}

#[test]
fn scopes_know_nothing_of_each_other_and_are_listed_in_their_order() {
    let world = World::new();
    let store = world.open();
    let scopes = ["one", "two"].map(|name| store.replay(name).expect("begins"));
    world.clock.advance(std::time::Duration::from_secs(3_600));
    for scope in &scopes {
        let inside = scope.namespace("n").expect("opens");
        assert!(inside.claim("a").expect("claims").is_first_seen());
    }
    let only = scopes[1].namespace("only").expect("opens");
    assert!(only.claim("b").expect("claims").is_first_seen());
    assert!(scopes[0].discard().expect("drops"));
    assert_eq!(store.replay("two").expect("is there").names(), ["n", "only"]);
    for _ in 0..2 {
        let all = store.replays().expect("lists");
        let told: Vec<_> = all.iter().map(|s| (s.name.as_str(), s.state, s.names.len())).collect();
        assert_eq!(told, [("one", ReplayState::Dropped, 1), ("two", ReplayState::Open, 2)]);
        assert!(all[0].ended > Some(all[0].created) && all[1].ended.is_none());
    }
    drop((scopes, only));
    let before = store.replays().expect("lists");
    store.close().expect("closes");
    let store = world.open();
    assert_eq!(store.replays().expect("lists"), before);
    // The name of a dropped scope may be used again, for another scope.
    assert_eq!(store.find_replay("one").map(|scope| scope.created()), None);
    let again = store.replay("one").expect("begins");
    assert_eq!((again.state(), again.names().len()), (ReplayState::Open, 0));
    assert!(again.namespace("n").expect("opens").claim("a").expect("claims").is_first_seen());
}

#[test]
fn names_of_scopes_cannot_be_opened_from_outside_and_bad_ones_are_refused() {
    let world = World::new();
    let store = world.open();
    for name in ["", "\0n\x001\0n", "\0", &"n".repeat(256)] {
        for refused in [
            store.namespace(name).map(drop),
            store.replay(name).map(drop),
            store.replay("scope").expect("begins").namespace(name).map(drop),
        ] {
            assert_eq!(refused.expect_err("no such name").kind(), ErrorKind::FixCall, "{name:?}");
        }
        assert!(store.find_namespace(name).is_none());
    }
    let inside = store.replay("scope").expect("begins").namespace("n").expect("opens");
    assert!(inside.claim("a").expect("claims").is_first_seen());
    assert!(store.find_namespace("n").is_none(), "it is inside only");
}

#[test]
fn a_count_says_what_is_inside_what_was_known_outside_and_what_is_new() {
    let world = World::new();
    let store = world.open();
    let scope = store.replay("s").expect("begins");
    let (outside, inside) =
        (store.namespace("n").expect("opens"), scope.namespace("n").expect("opens"));
    let fresh = scope.namespace("fresh").expect("opens");
    for n in 0..300u32 {
        if n % 3 == 0 {
            let _ = outside.claim(n.to_le_bytes()).expect("claims");
        }
        let _ = inside.claim(n.to_le_bytes()).expect("claims");
        if n % 50 == 0 {
            // In memory, in runs, and in both.
            settle(&store);
            store.freeze();
        }
    }
    let _ = fresh.claim("x").expect("claims");
    // What was forgotten is no duplicate, on either side.
    assert!(outside.forget(0u32.to_le_bytes()).expect("forgets"));
    assert!(inside.forget(1u32.to_le_bytes()).expect("forgets"));
    let ledgers = (store.ledger("n").expect("opens"), scope.ledger("n").expect("opens"));
    for id in ["both", "new"] {
        let Begin::Started(attempt) = ledgers.1.begin(id).expect("begins") else { panic!("new") };
        attempt.complete(b"").expect("completes");
    }
    let Begin::Started(attempt) = ledgers.0.begin("both").expect("begins") else { panic!("new") };
    attempt.complete(b"").expect("completes");
    let count = scope.count().expect("counts");
    let told: Vec<_> = (count.namespaces.iter())
        .map(|c| (c.namespace.as_str(), c.claims, c.claims_outside, c.records, c.records_outside))
        .collect();
    assert_eq!(told, [("fresh", 1, 0, 0, 0), ("n", 299, 99, 2, 1)]);
    assert_eq!((count.ids(), count.duplicates(), count.new_ids()), (302, 100, 202));
    scope.promote().expect("promotes");
    assert_eq!(scope.count().expect("counts").ids(), 0, "it holds nothing any more");
}

#[test]
fn a_promotion_puts_each_name_in_its_place_and_handles_follow() {
    let world = World::new();
    let store = world.open();
    let other = store.namespace("other").expect("opens");
    let outside = store.namespace_with("n", NamespaceOptions::new().ttl(hours(2))).expect("opens");
    for ns in [&other, &outside, &store.default_namespace()] {
        assert!(ns.claim("old").expect("claims").is_first_seen());
    }
    let scope = store.replay("s").expect("begins");
    let only = NamespaceOptions::new().ttl(hours(3)).sliding(true);
    let inside = [
        scope.namespace("n").expect("opens"),
        scope.default_namespace().expect("opens"),
        scope.namespace_with("only inside", only).expect("opens"),
    ];
    for ns in &inside {
        assert!(ns.claim("new").expect("claims").is_first_seen());
    }
    let end = |ns: &firstseen::Namespace| ns.get("new").expect("reads").expect("is there").deadline;
    assert_ne!(end(&inside[0]), firstseen::Timestamp::NEVER, "as outside");
    assert!(scope.promote().expect("promotes"));
    assert!(!scope.promote().expect("has promoted"), "once is enough");
    assert_eq!(scope.discard().expect_err("too late").kind(), ErrorKind::FixCall);
    assert_eq!(scope.namespace("n").expect_err("too late").kind(), ErrorKind::FixCall);
    let check = |store: &firstseen::Store| {
        for ns in [store.default_namespace(), store.namespace("n").expect("opens")] {
            assert!(ns.contains("new").expect("reads") && !ns.contains("old").expect("reads"));
        }
        let only = store.find_namespace("only inside").expect("is outside, too");
        assert!(only.contains("new").expect("reads"));
        assert!(store.namespace("other").expect("opens").contains("old").expect("reads"));
        assert_eq!(exported(store).len(), 4);
        assert_eq!(listed(store), ["default", "n", "only inside", "other"]);
        assert_eq!(store.replay("s").expect("is known").state(), ReplayState::Promoted);
    };
    check(&store);
    // Both sides are one now.
    assert!(store.contains("new").expect("reads") && !store.contains("old").expect("reads"));
    assert!(outside.claim("later").expect("claims").is_first_seen());
    assert!(inside[0].claim("later").expect("claims").is_duplicate());
    assert!(outside.forget("later").expect("forgets"));
    settle(&store);
    check(&store);
    drop((inside, outside, other, scope));
    store.close().expect("closes");
    let store = world.open();
    check(&store);
    let only = store.namespace("only inside").expect("opens");
    assert!(only.claim("ends").expect("claims").is_first_seen());
    let seen = only.get("ends").expect("reads").expect("is there");
    let lives = seen.deadline.as_millis() - seen.first_seen.as_millis();
    assert_eq!(Ttl::from_millis(lives), hours(3), "the settings came along");
    assert_sound(&store);
}

#[test]
fn of_scopes_that_are_promoted_in_turn_the_last_one_counts_also_after_reopening() {
    let world = World::new();
    let store = world.open();
    assert!(store.claim("outside").expect("claims").is_first_seen());
    let scopes = ["a", "b", "c"].map(|name| store.replay(name).expect("begins"));
    let inside = scopes.each_ref().map(|scope| scope.default_namespace().expect("opens"));
    for (scope, inside) in scopes.iter().zip(&inside) {
        assert!(inside.claim(scope.name()).expect("claims").is_first_seen());
    }
    // Not in the order of their beginning.
    assert!(scopes[1].promote().expect("promotes"));
    assert_eq!(scopes[0].count().expect("counts").duplicates(), 0);
    assert!(store.claim("a").expect("claims").is_first_seen());
    assert_eq!(scopes[0].count().expect("counts").duplicates(), 1, "outside is what was promoted");
    assert!(scopes[0].promote().expect("promotes"));
    assert!(inside[1].contains("a").expect("reads"), "an old handle follows, too");
    assert!(scopes[2].discard().expect("drops"));
    assert_eq!(inside[2].claim("x").expect_err("is gone").kind(), ErrorKind::FixCall);
    let seen = |store: &firstseen::Store| {
        ["outside", "a", "b", "c"].map(|id| store.contains(id).expect("reads"))
    };
    assert_eq!(seen(&store), [false, true, false, false]);
    drop((scopes, inside));
    settle(&store);
    store.close().expect("closes");
    let store = world.open();
    assert_eq!(seen(&store), [false, true, false, false]);
}

#[test]
fn calls_on_names_of_a_dropped_scope_are_refused() {
    let world = World::new();
    let store = world.open();
    let scope = store.replay("s").expect("begins");
    let (ns, ledger) = (scope.namespace("n").expect("opens"), scope.ledger("n").expect("opens"));
    let Begin::Started(attempt) = ledger.begin("id").expect("begins") else { panic!("is new") };
    let Reserve::FirstSeen(mut held) = ns.reserve("held").expect("reserves") else {
        panic!("is new")
    };
    assert!(scope.discard().expect("drops"));
    assert!(!scope.discard().expect("was dropped"));
    assert_eq!(scope.promote().expect_err("too late").kind(), ErrorKind::FixCall);
    let refused = [
        ns.claim("a").map(drop),
        ns.claim_batch(&["a"]).map(drop),
        ns.contains("a").map(drop),
        ns.forget("a").map(drop),
        ns.forget_all().map(drop),
        ns.reserve("a").map(drop),
        held.confirm(),
        ledger.get("id").map(drop),
        ledger.begin("b").map(drop),
        ledger.list(|_, _| std::ops::ControlFlow::Continue(())),
    ];
    for (n, refused) in refused.into_iter().enumerate() {
        assert_eq!(refused.expect_err("it is gone").kind(), ErrorKind::FixCall, "{n}");
    }
    assert!(attempt.complete(b"").is_err());
    assert!(exported(&store).is_empty());
}

#[test]
fn i8_an_attempt_from_before_a_promotion_changes_nothing_in_the_promoted_world() {
    let world = World::new();
    let store = world.open();
    let (outside, scope) = (store.ledger("n").expect("opens"), store.replay("s").expect("begins"));
    let inside = scope.ledger("n").expect("opens");
    let start = |ledger: &firstseen::ledger::Ledger, id: &str| {
        ledger.begin(id).expect("begins").started().expect("is new")
    };
    let old = ["done inside", "running inside", "unknown inside", "in a transaction"]
        .map(|id| start(&outside, id));
    start(&inside, "done inside").complete(b"inside").expect("completes");
    start(&inside, "in a transaction").complete(b"inside").expect("completes");
    let running = start(&inside, "running inside");
    scope.promote().expect("promotes");
    let [done, taken, unknown, joined] = old;
    assert!(matches!(taken.renew(), Err(AttemptError::Fenced { .. })));
    for attempt in [done, taken, unknown] {
        let error = attempt.complete(b"outside").expect_err("its world is gone");
        assert!(matches!(error, AttemptError::Fenced { .. }), "{error:?}");
    }
    let mut transaction = store.transaction();
    transaction.claim("beside").complete(&joined, b"outside");
    let CommitOutcome::Rejected(reasons) = transaction.commit().expect("answers") else {
        panic!("it was committed")
    };
    assert!(matches!(&reasons[..], [Rejection::Attempt { .. }]), "{reasons:?}");
    assert!(!store.contains("beside").expect("reads"));
    // The one that began inside goes on outside.
    running.complete(b"inside").expect("completes");
    let state = |id| outside.get(id).expect("reads").map(|record| record.state);
    for id in ["done inside", "running inside", "in a transaction"] {
        assert!(
            matches!(state(id), Some(State::Completed { result, .. }) if result.as_deref() == Some(b"inside")),
            "{id}"
        );
    }
    assert_eq!(state("unknown inside"), None);
}

#[test]
fn a_reservation_from_before_a_promotion_cannot_be_confirmed_after_it() {
    let world = World::new();
    let store = world.open();
    let scope = store.replay("s").expect("begins");
    let inside = scope.default_namespace().expect("opens");
    let mut outside_held = store.reserve_batch(&["a", "b"]).expect("reserves");
    let Reserve::FirstSeen(mut inside_held) = inside.reserve("c").expect("reserves") else {
        panic!("is new")
    };
    assert_eq!(outside_held.answers(), [Reserved::FirstSeen; 2]);
    scope.promote().expect("promotes");
    assert_eq!(outside_held.confirm().expect_err("replaced").kind(), ErrorKind::FixCall);
    assert!(!store.contains("a").expect("reads"));
    inside_held.confirm().expect("its world is the one that counts");
    assert!(store.contains("c").expect("reads"));
    drop(outside_held);
    assert!(store.claim("a").expect("claims").is_first_seen(), "it holds nothing here");
}

#[test]
fn threads_that_claim_while_a_scope_is_promoted_end_up_in_the_promoted_world() {
    let world = World::new();
    let store = world.builder().background(true).open().expect("opens");
    for round in 0..20u32 {
        let scope = store.replay(&format!("s{round}")).expect("begins");
        let inside = scope.default_namespace().expect("opens");
        for n in 0..200u32 {
            assert!(inside.claim(n.to_le_bytes()).expect("claims").is_first_seen());
        }
        let (started, is_promoted) = (Barrier::new(3), AtomicBool::new(false));
        std::thread::scope(|threads| {
            for thread in 0..2u32 {
                let (store, started, is_promoted) = (&store, &started, &is_promoted);
                threads.spawn(move || {
                    started.wait();
                    for n in 0u32.. {
                        let was_promoted = is_promoted.load(Ordering::SeqCst);
                        let id = u64::from(4 * round + 1 + thread) << 32 | u64::from(n);
                        assert!(store.claim(id.to_le_bytes()).expect("claims").is_first_seen());
                        let known = store.claim((n % 200).to_le_bytes()).expect("claims");
                        if was_promoted {
                            assert!(known.is_duplicate(), "{n}: inside it was seen");
                            assert!(store.contains(id.to_le_bytes()).expect("reads"));
                            break;
                        }
                        assert!(n < 1_000_000, "it is never promoted");
                    }
                });
            }
            started.wait();
            assert!(scope.promote().expect("promotes"));
            is_promoted.store(true, Ordering::SeqCst);
        });
    }
    store.close().expect("closes");
    assert_sound(&world.open());
}

/// It looked at one namespace before the promotion and at the other one after it: either would be half an answer.
#[test]
fn a_transaction_of_two_namespaces_is_made_before_a_promotion_or_after_it() {
    let world = World::new();
    let store = world.open();
    let names = ["a", "b"].map(|name| store.namespace(name).expect("opens"));
    let mut refused = 0;
    for round in 0..200u32 {
        let scope = store.replay(&format!("s{round}")).expect("begins");
        for ns in &names {
            scope.namespace(ns.name()).expect("opens");
        }
        let started = Barrier::new(2);
        let id = round.to_le_bytes();
        let outcome = std::thread::scope(|threads| {
            let committing = threads.spawn(|| {
                let mut transaction = store.transaction();
                transaction.claim_in(&names[0], id).claim_in(&names[1], id);
                started.wait();
                transaction.commit()
            });
            started.wait();
            scope.promote().expect("promotes");
            committing.join().expect("ends")
        });
        let seen = names.each_ref().map(|ns| ns.contains(id).expect("reads"));
        assert_eq!(seen[0], seen[1], "round {round}: {outcome:?}");
        if let Err(error) = outcome {
            assert_eq!((error.kind(), seen[0]), (ErrorKind::Retry, false), "{error}");
            refused += 1;
        }
    }
    assert!(refused < 200, "most are made");
}

#[test]
fn state_and_offsets_are_inside_a_scope_and_come_along() {
    let world = World::new();
    let store = world.open();
    let (points, orders) =
        (store.table::<u64>("points").expect("opens"), store.source("orders").expect("opens"));
    let scope = store.replay("s").expect("begins");
    let (again, read) =
        (scope.table::<u64>("points").expect("opens"), scope.source("orders").expect("opens"));
    let awarded = scope.outbox("awarded").expect("opens");
    let old = points.put("anna", &1).expect("puts");
    for (points, orders, value) in [(&points, &orders, 2), (&again, &read, 20)] {
        let mut transaction = store.transaction();
        transaction.put(points, "anna", &value).expect("a value");
        transaction.advance(orders, 0, value);
        assert!(transaction.commit().expect("commits").is_committed());
    }
    let mut transaction = store.transaction();
    transaction.claim_in(&scope.namespace("n").expect("opens"), "a");
    transaction.emit(&awarded, "twenty").expect("a message");
    assert!(transaction.commit().expect("commits").is_committed());
    let state = || {
        let value = points.get("anna").expect("reads").map(|entry| entry.value);
        let next = orders.position(0).expect("reads").map(|position| position.next);
        let mut scanned = 0;
        let count = |_: &[u8], _: firstseen::Result<_>| {
            scanned += 1;
            std::ops::ControlFlow::Continue(())
        };
        points.scan(count).expect("scans");
        assert_eq!(orders.positions().expect("reads").len(), 1);
        (value, next, scanned)
    };
    assert_eq!(state(), (Some(2), Some(2), 1));
    // A write that looked at the old world does not land in the new one.
    let mut stale = store.transaction();
    stale.put_if(&points, "anna", Some(old), &3).expect("a value");
    scope.promote().expect("promotes");
    assert_eq!(state(), (Some(20), Some(20), 1));
    assert_eq!(stale.commit().expect_err("it is replaced").kind(), ErrorKind::Retry);
    assert_eq!(points.put_if("anna", Some(old), &3).expect("answers"), None);
    assert_eq!(state(), (Some(20), Some(20), 1));
    let other = store.replay("other").expect("begins");
    let (table, source) =
        (other.raw_table("points").expect("opens"), other.source("orders").expect("opens"));
    other.discard().expect("drops");
    for refused in [
        table.get("a").map(drop),
        table.put("a", "").map(drop),
        table.scan(|_, _| std::ops::ControlFlow::Continue(())),
        source.position(0).map(drop),
        source.positions().map(drop),
    ] {
        assert_eq!(refused.expect_err("it is gone").kind(), ErrorKind::FixCall);
    }
}

/// It must be able to end as it was promised.
#[test]
fn what_a_prepared_transaction_holds_is_neither_replaced_nor_dropped() {
    for inside in [false, true] {
        for commit in [true, false] {
            let world = World::new();
            let store = world.open();
            let scope = store.replay("s").expect("begins");
            let (held, other) =
                (scope.namespace("n").expect("opens"), store.namespace("n").expect("opens"));
            let ns = if inside { &held } else { &other };
            let mut transaction = store.transaction();
            transaction.claim_in(ns, "a");
            assert!(transaction.prepare("gid").expect("prepares").is_committed());
            drop((transaction, held, other, scope));
            store.close().expect("closes");
            let store = world.open();
            let scope = store.replay("s").expect("is open");
            // Whatever would leave it behind is refused, and the other end is not.
            let refused = if inside { scope.discard() } else { scope.promote() };
            assert_eq!(refused.expect_err("it is held").kind(), ErrorKind::Retry);
            assert_eq!(scope.state(), ReplayState::Open);
            let n = store.namespace("n").expect("opens");
            assert!(n.claim("b").expect("claims").is_first_seen(), "nothing has changed");
            let mut transaction = store.transaction();
            transaction.claim_in(&n, "c");
            assert!(transaction.commit().expect("commits").is_committed());
            if inside {
                scope.promote().expect("promotes");
            } else {
                scope.discard().expect("drops");
            }
            let prepared = &store.prepared().expect("lists")[0];
            let ended = if commit {
                store.commit_prepared(&prepared.gid)
            } else {
                store.rollback_prepared(&prepared.gid)
            };
            ended.expect("ends");
            assert_eq!(n.contains("a").expect("reads"), commit, "inside {inside}");
            assert_eq!(n.contains("b").expect("reads"), !inside);
            settle(&store);
            assert_sound(&store);
        }
    }
}

/// A duplicate outside may be new inside: what a name has said before a promotion does not hold for what is there after it.
#[test]
fn i9_a_transaction_that_a_replaced_name_has_told_of_a_duplicate_is_refused() {
    let store = World::new().open();
    let (orders, input) =
        (store.namespace("orders").expect("opens"), store.source("input").expect("opens"));
    assert!(orders.claim("order").expect("claims").is_first_seen());
    let scope = store.replay("again").expect("begins");
    scope.namespace("orders").expect("opens");
    let mut transaction = store.transaction();
    assert!(!transaction.claim_if_new_in(&orders, "order").expect("reads"), "it is a duplicate");
    assert!(scope.promote().expect("promotes"));
    transaction.advance(&input, 0, 1);
    assert_eq!(transaction.commit().expect_err("was replaced").kind(), ErrorKind::Retry);
    assert_eq!(input.position(0).expect("reads"), None);
    // `transact` runs the work again, on what is there now.
    let done = store.transact(|transaction| {
        assert!(transaction.claim_if_new_in(&orders, "order")?);
        transaction.advance(&input, 0, 1);
        Ok::<_, firstseen::Error>(())
    });
    assert!(done.expect("answers").committed().is_some());
}
