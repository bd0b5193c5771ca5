//! Dead letters.

use super::*;
use firstseen::ledger::{AttemptError, DeadCause, DeadFilter, Failure, OnLeaseEnd, State};
use firstseen::seconds;
use firstseen::testing::Table;
use std::ops::ControlFlow;

fn kill(ledger: &Ledger, id: &str) {
    let options = BeginOptions::new().payload(id.as_bytes().to_vec()).worker("w1");
    let attempt = ledger.begin_with(id, options).expect("begins").started().expect("started");
    attempt.fail(Failure::last(format!("{id} is bad"))).expect("fails");
}

fn ids(ledger: &Ledger, filter: &DeadFilter) -> Vec<String> {
    let letters = ledger.dead_letters().list(filter).expect("lists").letters;
    letters.iter().map(|letter| String::from_utf8_lossy(&letter.record.id).into_owned()).collect()
}

#[test]
fn a_dead_letter_has_its_payload_and_every_attempt_with_time_reason_and_worker() {
    let world = World::new();
    let ledger = world.ledger();
    kill(&ledger, "a");
    let letter = ledger.dead_letters().get("a").expect("reads").expect("is dead");
    assert_eq!(ledger.payload("a").expect("reads"), Some(b"a".to_vec()));
    let past = &letter.record.history[0];
    assert_eq!((past.worker.as_str(), past.reason.as_str()), ("w1", "a is bad"));
    assert!(past.started <= past.ended && past.ended <= letter.since);
    assert!(ledger.dead_letters().get("b").expect("reads").is_none());
}

#[test]
fn dead_letters_are_listed_by_age_and_cause_in_pages() {
    let world = World::new();
    let ledger = world.ledger();
    let mut all = Vec::new();
    for n in 0..7 {
        let id = format!("id-{n}");
        if n == 3 {
            abandon(started(&ledger, &id));
            ledger.cancel(&id, "by hand").expect("cancels");
        } else {
            kill(&ledger, &id);
        }
        all.push(id);
        world.pass(Duration::from_secs(1));
    }
    started(&ledger, "alive").complete(b"").expect("completes");
    assert_eq!(ids(&ledger, &DeadFilter::new()), all);
    assert_eq!(ids(&ledger, &DeadFilter::new().cause(DeadCause::Cancelled)), ["id-3"]);
    let old = DeadFilter::new().older_than(Duration::from_secs(5));
    assert_eq!(ids(&ledger, &old), ["id-0", "id-1", "id-2"]);
    assert_eq!(ids(&ledger, &DeadFilter::new().held()), Vec::<String>::new());
    let mut paged = Vec::new();
    let mut next = Some(DeadFilter::new().limit(3));
    while let Some(filter) = next {
        let page = ledger.dead_letters().list(&filter).expect("lists");
        next = page.next;
        let names = page.letters.iter().map(|letter| String::from_utf8_lossy(&letter.record.id));
        paged.extend(names.map(std::borrow::Cow::into_owned));
    }
    assert_eq!(paged, all);
    let other = world.store.ledger("other").expect("opens");
    assert_eq!(ids(&other, &DeadFilter::new()), Vec::<String>::new(), "of this ledger only");
}

#[test]
fn a_redriven_id_may_be_tried_as_often_as_a_new_one_and_keeps_its_history() {
    let world = World::new();
    let ledger = world.ledger();
    kill(&ledger, "a");
    assert!(ledger.dead_letters().redrive("a").expect("redrives"));
    assert!(!ledger.dead_letters().redrive("a").expect("reads"), "is not dead any more");
    assert!(ids(&ledger, &DeadFilter::new()).is_empty());
    let attempt = started(&ledger, "a");
    assert_eq!((attempt.number(), attempt.record().redrives), (1, 1));
    assert_eq!(attempt.record().history.len(), 1);
    assert_eq!(attempt.payload().expect("reads"), Some(b"a".to_vec()));
    attempt.complete(b"x").expect("completes");
    assert_eq!(ledger.payload("a").expect("reads"), None, "is done");
}

#[test]
fn a_redriven_id_may_be_tried_three_times_again_and_is_dead_after_that() {
    let world = World::new();
    let ledger = world.ledger();
    for redrives in 0..3 {
        for number in 1..=3 {
            let attempt = started(&ledger, "a");
            assert_eq!((attempt.number(), attempt.record().redrives), (number, redrives));
            attempt.fail(Failure::retry(format!("{redrives}.{number}"))).expect("fails");
            world.pass(Duration::from_secs(1));
        }
        let Begin::Dead(record) = begin(&ledger, "a") else { panic!("is dead") };
        assert_eq!(record.state, State::Dead { cause: DeadCause::Attempts });
        let reasons: Vec<_> = record.history.iter().map(|past| past.reason.as_str()).collect();
        let all = ["0.1", "0.2", "0.3", "1.1", "1.2", "1.3", "2.1", "2.2", "2.3"];
        assert_eq!(reasons, all[..3 * (redrives as usize + 1)]);
        assert!(ledger.dead_letters().redrive("a").expect("redrives"));
    }
}

#[test]
fn i8_the_attempt_that_died_cannot_say_anything_after_a_redrive() {
    let world = World::new();
    let ledger = world.store.ledger_with("l", options().attempts_max(1)).expect("opens");
    let attempt = started(&ledger, "a");
    world.pass(LEASE);
    assert!(matches!(begin(&ledger, "a"), Begin::Dead(_)));
    ledger.dead_letters().redrive("a").expect("redrives");
    attempt.complete(b"late").expect_err("is fenced");
    started(&ledger, "a").complete(b"x").expect("completes");
}

#[test]
fn redriving_all_and_purging_all_change_what_the_filter_means() {
    let world = World::new();
    let ledger = world.ledger();
    for n in 0..5 {
        kill(&ledger, &format!("id-{n}"));
    }
    let swept = ledger.dead_letters().redrive_all(&DeadFilter::new().limit(3)).expect("sweeps");
    assert_eq!((swept.changed, swept.failed.len()), (3, 0));
    assert_eq!(ids(&ledger, &DeadFilter::new()), ["id-3", "id-4"]);
    let swept = ledger.dead_letters().purge_all(&DeadFilter::new()).expect("sweeps");
    assert_eq!(swept.changed, 2);
    assert!(ledger.get("id-4").expect("reads").is_none());
    assert_eq!(ledger.payload("id-4").expect("reads"), None);
}

#[test]
fn one_record_that_cannot_be_read_stops_neither_a_list_nor_a_sweep() {
    let world = World::new();
    let ledger = world.store.ledger_with("default", options()).expect("opens");
    for n in 0..4 {
        kill(&ledger, &format!("id-{n}"));
    }
    let records = Table::of(&world.store, 1);
    records.put(b"id-1", b"nonsense").expect("puts");
    ledger.get("id-1").expect_err("is no record");
    let page = ledger.dead_letters().list(&DeadFilter::new()).expect("lists");
    assert_eq!((page.letters.len(), page.unreadable.len()), (3, 1));
    assert_eq!(page.unreadable[0].0, b"id-1");
    let swept = ledger.dead_letters().redrive_all(&DeadFilter::new()).expect("sweeps");
    assert_eq!((swept.changed, swept.failed.len()), (3, 1));
    assert!(matches!(begin(&ledger, "id-3"), Begin::Started(_)));
}

#[test]
fn only_the_newest_dead_letters_are_kept_if_so_asked() {
    let world = World::new();
    let ledger = world.ledger();
    for n in 0..5 {
        kill(&ledger, &format!("id-{n}"));
        world.pass(Duration::from_secs(1));
    }
    ledger.dead_letters().purge_all(&DeadFilter::new().keep_newest(2)).expect("purges");
    assert_eq!(ids(&ledger, &DeadFilter::new()), ["id-3", "id-4"]);
}

#[test]
fn dead_letters_with_their_payloads_end_after_their_ttl() {
    let world = World::new();
    let ledger = world.store.ledger_with("l", options().dead_ttl(seconds(60))).expect("opens");
    kill(&ledger, "a");
    world.pass(Duration::from_secs(59));
    assert_eq!(ids(&ledger, &DeadFilter::new()), ["a"]);
    assert!(ledger.payload("a").expect("reads").is_some());
    world.pass(Duration::from_secs(2));
    assert!(ids(&ledger, &DeadFilter::new()).is_empty());
    assert!(ledger.payload("a").expect("reads").is_none());
    assert!(matches!(begin(&ledger, "a"), Begin::Started(_)));
}

#[test]
fn a_redriven_letter_keeps_its_payload_and_its_stages_beyond_the_ttl_of_the_dead() {
    let world = World::new();
    let options = options().dead_ttl(seconds(60));
    let ledger = world.store.ledger_with("default", options).expect("opens");
    let payload = BeginOptions::new().payload(b"what".to_vec());
    let attempt = ledger.begin_with("a", payload).expect("begins").started().expect("starts");
    attempt.stage("one", || Ok::<_, Failure>(1)).expect("is saved");
    attempt.fail(Failure::last("no")).expect("fails");
    assert_ne!(record(&ledger, "a").ends, firstseen::Timestamp::NEVER);
    world.pass(Duration::from_secs(50));
    ledger.dead_letters().redrive("a").expect("redrives");
    assert_eq!(record(&ledger, "a").ends, firstseen::Timestamp::NEVER);
    world.pass(Duration::from_secs(50));
    let attempt = started(&ledger, "a");
    assert_eq!(attempt.payload().expect("reads"), Some(b"what".to_vec()));
    assert_eq!(attempt.stage("one", || Ok::<_, Failure>(2)).expect("was saved"), 1);
    attempt.fail(Failure::last("no")).expect("fails");
    world.pass(Duration::from_secs(61));
    for family in 1..=4 {
        let left = Table::of(&world.store, family).list().expect("lists").len();
        assert_eq!(left, 0, "family {family} has ended with the record");
    }
    assert_eq!(started(&ledger, "a").stage("one", || Ok::<_, Failure>(3)).expect("runs"), 3);
}

#[test]
fn calling_begin_on_a_dead_id_counts_nothing() {
    let world = World::new();
    let ledger = world.ledger();
    kill(&ledger, "a");
    let before = record(&ledger, "a");
    for _ in 0..10 {
        assert!(matches!(begin(&ledger, "a"), Begin::Dead(_)));
    }
    assert_eq!(record(&ledger, "a"), before);
}

#[test]
fn only_what_is_held_is_settled_as_a_dead_letter() {
    let world = World::new();
    let ledger = world.ledger();
    let letters = ledger.dead_letters();
    kill(&ledger, "dead");
    started(&ledger, "held").fail(Failure::hold("nobody knows")).expect("fails");
    started(&ledger, "again").fail(Failure::retry("not yet")).expect("fails");
    for id in ["dead", "again", "unknown"] {
        assert!(!letters.settle(id, b"done", "looked up").expect("reads"), "{id}");
    }
    assert!(matches!(record(&ledger, "dead").state, State::Dead { .. }));
    assert!(matches!(record(&ledger, "again").state, State::Waiting { .. }));
    assert!(letters.settle("held", b"done", "looked up").expect("settles"));
    assert_eq!(record(&ledger, "held").result(), Some(&b"done"[..]));
    assert!(!letters.settle("held", b"other", "again").expect("reads"));
}

#[test]
fn forgetting_removes_also_what_an_attempt_works_on_and_fences_it() {
    let world = World::new();
    let ledger = world.ledger();
    let first = started(&ledger, "a");
    assert!(ledger.forget("a").expect("forgets"));
    assert!(ledger.get("a").expect("reads").is_none());
    let refused = first.complete(b"late");
    assert!(matches!(refused, Err(AttemptError::Fenced { record: None })), "{refused:?}");
    let second = started(&ledger, "a");
    assert!(second.token() > first.token());
    second.complete(b"done").expect("completes");
    assert!(ledger.forget("a").expect("forgets what is done, too"));
    assert!(!ledger.forget("a").expect("reads"));
}

#[test]
fn purging_leaves_alone_what_an_attempt_works_on() {
    let world = World::new();
    let ledger = world.ledger();
    let attempt = started(&ledger, "a");
    assert!(!ledger.purge("a").expect("reads"));
    attempt.complete(b"x").expect("completes");
    assert!(ledger.purge("a").expect("purges"));
    assert!(!ledger.purge("a").expect("reads"));
    assert_eq!(started(&ledger, "a").number(), 1);
}

#[test]
fn i9_what_belongs_to_a_record_goes_with_it() {
    let world = World::new();
    let ledger = world.store.ledger_with("default", options()).expect("opens");
    let rows =
        || (1..=4).map(|family| Table::of(&world.store, family).list().expect("lists").len());
    let letters = ledger.dead_letters();
    let stages = |attempt: &Attempt| attempt.stage("s", || Ok::<_, Failure>(1)).map(drop);
    let dies = |id: &str| {
        let options = BeginOptions::new().payload(b"what".to_vec());
        let attempt = ledger.begin_with(id, options).expect("begins").started().expect("starts");
        stages(&attempt).expect("is saved");
        attempt.fail(Failure::last("no")).expect("fails");
    };
    // Records, stages, payloads, pointers.
    dies("a");
    assert!(rows().eq([1, 1, 1, 1]));
    letters.redrive("a").expect("redrives");
    assert!(rows().eq([1, 1, 1, 0]), "redriven");
    started(&ledger, "a").complete(b"x").expect("completes");
    assert!(rows().eq([1, 0, 0, 0]), "completed");
    dies("b");
    letters.purge("b").expect("purges");
    assert!(rows().eq([1, 0, 0, 0]), "purged");
    dies("c");
    letters.redrive_fresh("c").expect("redrives");
    assert!(rows().eq([2, 0, 1, 0]), "fresh");
    ledger.purge("c").expect("purges");
    dies("d");
    ledger.settle("d", b"x", "").expect("settles");
    assert!(rows().eq([2, 0, 0, 0]), "settled");
}

#[test]
fn an_operator_settles_what_was_done_after_all() {
    let world = World::new();
    let hold = options().on_lease_end(OnLeaseEnd::Hold);
    let ledger = world.store.ledger_with("l", hold).expect("opens");
    let attempt = started(&ledger, "a");
    let running = ledger.settle("a", b"no", "").expect("reads").expect("is there");
    assert!(matches!(running.state, State::Running { .. }), "somebody works on it");
    world.pass(LEASE);
    assert!(matches!(begin(&ledger, "a"), Begin::Held(_)));
    ledger.settle("a", b"receipt", "seen at the bank").expect("settles");
    let Begin::Completed(record) = begin(&ledger, "a") else { panic!("is completed") };
    assert_eq!(record.result(), Some(&b"receipt"[..]));
    assert_eq!(record.history.last().expect("is noted").reason, "seen at the bank");
    assert!(ids(&ledger, &DeadFilter::new().held()).is_empty());
    attempt.complete(b"late").expect_err("is fenced");
    kill(&ledger, "b");
    ledger.settle("b", b"x", "").expect("settles");
    assert_eq!(ledger.payload("b").expect("reads"), None);
    assert!(ledger.settle("unknown", b"", "").expect("reads").is_none());
    let done = ledger.settle("b", b"y", "").expect("reads").expect("is there");
    assert_eq!(done.result(), Some(&b"x"[..]), "a result is not replaced");
}

#[test]
fn records_are_listed_with_their_states() {
    let world = World::new();
    let ledger = world.ledger();
    kill(&ledger, "dead");
    started(&ledger, "done").complete(b"x").expect("completes");
    abandon(started(&ledger, "running"));
    abandon(started(&world.store.ledger("other").expect("opens"), "not here"));
    let mut listed = Vec::new();
    ledger
        .list(|_, record| {
            let record = record.expect("reads");
            listed.push((String::from_utf8_lossy(&record.id).into_owned(), record.state));
            ControlFlow::Continue(())
        })
        .expect("lists");
    listed.sort_by(|a, b| a.0.cmp(&b.0));
    let names: Vec<&str> = listed.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(names, ["dead", "done", "running"]);
    assert!(matches!(listed[1].1, State::Completed { .. }));
    let mut seen = 0;
    let stop = |_: &[u8], _| {
        seen += 1;
        ControlFlow::Break(())
    };
    ledger.list(stop).expect("stops");
    assert_eq!(seen, 1);
}
