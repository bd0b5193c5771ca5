//! Reading and acknowledging.

use super::*;
use firstseen::ErrorKind;
use firstseen::transaction::EndOutcome;
use std::time::Duration;

#[test]
fn messages_are_read_in_the_order_of_commits_with_all_that_was_given() {
    let (_, clock, store) = store();
    let (topic, other) = (store.outbox("t").expect("opens"), store.outbox("u").expect("opens"));
    emit(&topic, "one", &["anna:1", "2"]);
    emit(&other, "other", &["elsewhere"]);
    clock.advance(Duration::from_secs(3));
    let mut transaction = store.transaction();
    transaction.emit_as(&topic, "given", "bert", "3").expect("collects");
    assert!(transaction.commit().expect("answers").is_committed());
    let read = topic.read(10).expect("reads");
    assert_eq!(payloads(&read), ["anna:1", "2", "3"]);
    assert!(read.windows(2).all(|pair| pair[0].position < pair[1].position));
    let [anna, two, three] = &read[..] else { panic!("three") };
    assert_eq!(
        (&anna.key[..], &two.key[..], &three.key[..]),
        (&b"anna"[..], &b""[..], &b"bert"[..])
    );
    assert_eq!((&anna.given_id[..], &three.given_id[..]), (&b""[..], &b"given"[..]));
    assert_eq!(three.emitted.as_millis() - anna.emitted.as_millis(), 3_000);
    let next = topic.read_after(anna.position, 1).expect("reads");
    assert_eq!(next.as_slice(), std::slice::from_ref(two));
    assert_eq!(topic.read_after(three.position, 10).expect("reads"), []);
    assert_eq!(topic.read(0).expect("reads"), []);
    let pending = topic.pending().expect("answers");
    let oldest = pending.oldest.expect("there is one");
    assert_eq!((pending.count, oldest.id, oldest.position), (3, anna.id, anna.position));
    assert_eq!((oldest.emitted, oldest.age), (anna.emitted, Duration::from_secs(3)));
    assert!(pending.bytes > 14 && pending.bytes < 100, "{}", pending.bytes);
}

#[test]
fn what_waits_is_there_in_order_after_flushes_merges_and_reopening() {
    let (mut disk, clock, mut store) = store();
    let mut expected = Vec::new();
    for round in 0..6 {
        let topic = store.outbox("t").expect("opens");
        for n in 0..300 {
            let text = format!("{round}-{n}");
            emit(&topic, &text, &[&text]);
            expected.push(text);
        }
        // Half of what waits.
        let half = topic.read(150).expect("reads");
        assert_eq!(payloads(&half), expected[..150]);
        assert_eq!(topic.acknowledge(&half).expect("acknowledges"), 150);
        expected.drain(..150);
        store.freeze();
        store.run_background().expect("works");
        if round % 2 == 1 {
            drop((topic, store));
            disk = disk.kill();
            store = open(&disk, &clock);
        }
        assert_eq!(waiting(&store.outbox("t").expect("opens")), expected);
    }
    let pending = store.outbox("t").expect("opens").pending().expect("answers");
    assert_eq!(pending.count, expected.len());
}

/// BEHAVIOURS 60.
#[test]
fn only_what_was_acknowledged_is_removed_and_twice_is_no_error() {
    let (disk, clock, store) = store();
    let topic = store.outbox("t").expect("opens");
    emit_each(&topic, &["a", "b", "c", "d", "e"]);
    let read = topic.read(10).expect("reads");
    assert_eq!(topic.acknowledge(&read[1..2]).expect("acknowledges"), 1);
    assert_eq!(waiting(&topic), ["a", "c", "d", "e"]);
    let again = [read[1].clone(), read[2].clone(), read[2].clone(), read[0].clone()];
    assert_eq!(topic.acknowledge(&again).expect("is no error"), 2);
    assert_eq!(waiting(&topic), ["d", "e"]);
    assert_eq!(topic.acknowledge(&read[..3]).expect("is no error"), 0);
    assert_eq!(topic.acknowledge_through(read[3].position).expect("acknowledges"), 1);
    assert_eq!(topic.acknowledge_through(read[3].position).expect("is no error"), 0);
    drop((topic, store));
    let topic = open(&disk.kill(), &clock).outbox("t").expect("opens");
    assert_eq!(waiting(&topic), ["e"]);
}

/// BEHAVIOURS 61.
#[test]
fn what_arrives_while_a_batch_is_acknowledged_stays() {
    let (_, _, store) = store();
    let topic = store.outbox("t").expect("opens");
    emit_each(&topic, &["a", "b"]);
    let batch = topic.read(10).expect("reads");
    emit_each(&topic, &["c"]);
    let last = batch.last().expect("two").position;
    assert_eq!(topic.acknowledge_through(last).expect("acknowledges"), 2);
    assert_eq!(waiting(&topic), ["c"]);
    // A position that nobody has read yet means what can be read now, not what will be there.
    assert_eq!(topic.acknowledge_through(u64::MAX).expect("acknowledges"), 1);
    emit_each(&topic, &["d"]);
    assert_eq!(waiting(&topic), ["d"]);
}

/// BEHAVIOURS 62.
#[test]
fn two_consumers_of_one_event_each_claim_it_and_send_their_own_message() {
    let (_, _, store) = store();
    let topic = store.outbox("t").expect("opens");
    let handle = |consumer: &str| {
        let namespace = store.namespace(consumer).expect("opens");
        let mut transaction = store.transaction();
        transaction.claim_in(&namespace, "event-1");
        transaction.emit(&topic, consumer).expect("collects");
        transaction.commit().expect("answers").is_committed()
    };
    assert!(handle("mail") && handle("points"));
    let read = topic.read(10).expect("reads");
    assert_eq!(payloads(&read), ["mail", "points"]);
    assert_ne!(read[0].id, read[1].id);
    assert!(!handle("mail") && !handle("points"), "each has handled it");
    assert_eq!(topic.read(10).expect("reads"), read);
}

#[test]
fn a_message_of_a_given_id_is_a_duplicate_also_after_it_has_gone_out() {
    let (_, _, store) = store();
    let topic = store.outbox("t").expect("opens");
    let emit = || {
        let mut transaction = store.transaction();
        transaction.emit_as(&topic, "invoice-7", "", "pay").expect("collects");
        transaction.commit().expect("answers")
    };
    assert!(emit().is_committed());
    assert_eq!(topic.acknowledge_through(u64::MAX).expect("acknowledges"), 1);
    let reasons = rejections(emit());
    assert!(matches!(&reasons[..], [Rejection::Duplicate(id)] if id.id == b"invoice-7"));
    assert_eq!(topic.pending().expect("answers").count, 0);
}

#[test]
fn a_step_acknowledges_what_it_read_with_what_it_emits_or_does_nothing() {
    let (_, _, store) = store();
    let (from, to) = (store.outbox("from").expect("opens"), store.outbox("to").expect("opens"));
    emit_each(&from, &["a"]);
    let message = from.read(1).expect("reads").remove(0);
    let step = || {
        let mut transaction = store.transaction();
        transaction.acknowledge(&from, &message).expect("collects");
        transaction.emit_as(&to, message.id.as_bytes(), "", "done").expect("collects");
        transaction.commit().expect("answers")
    };
    assert!(step().is_committed());
    assert_eq!((waiting(&from).len(), waiting(&to)), (0, vec!["done".to_owned()]));
    let reasons = rejections(step());
    assert!(
        matches!(&reasons[..], [Rejection::Duplicate(_), Rejection::DuplicateMessage { .. }, Rejection::Acknowledged { topic, id }] if topic == "from" && *id == message.id),
        "{reasons:?}"
    );
    let elsewhere = super::store().2.outbox("from").expect("opens");
    let mut transaction = store.transaction();
    transaction.acknowledge(&elsewhere, &message).expect("collects");
    let error = transaction.commit().expect_err("of another");
    assert_eq!(error.kind(), ErrorKind::FixCall);
}

#[test]
fn a_prepared_message_is_read_once_it_is_committed_at_the_place_of_that_commit() {
    let (disk, clock, store) = store();
    let topic = store.outbox("t").expect("opens");
    for gid in ["kept", "dropped"] {
        let mut transaction = store.transaction();
        transaction.claim(gid).emit(&topic, gid).expect("collects");
        assert!(transaction.prepare(gid).expect("prepares").is_committed());
    }
    emit_each(&topic, &["a"]);
    assert_eq!(waiting(&topic), ["a"]);
    drop((topic, store));
    // Nobody has asked for the topic when the transaction is committed.
    let store = open(&disk.kill(), &clock);
    assert_eq!(store.commit_prepared("kept").expect("commits"), EndOutcome::Done);
    assert_eq!(store.rollback_prepared("dropped").expect("rolls back"), EndOutcome::Done);
    let topic = store.outbox("t").expect("opens");
    emit_each(&topic, &["b"]);
    assert_eq!(waiting(&topic), ["a", "kept", "b"]);
    assert_eq!(topic.pending().expect("answers").count, 3);
    // And with the topic open.
    let mut transaction = store.transaction();
    transaction.claim("more").emit(&topic, "more").expect("collects");
    assert!(transaction.prepare("more").expect("prepares").is_committed());
    assert_eq!(store.commit_prepared("more").expect("commits"), EndOutcome::Done);
    assert_eq!(waiting(&topic), ["a", "kept", "b", "more"]);
}

#[test]
fn a_message_that_is_too_long_is_refused_and_the_longest_is_not() {
    let (_, _, store) = store();
    let topic = store.outbox("t").expect("opens");
    let most = firstseen::limits::OUTBOX_MESSAGE_BYTES_MAX;
    let emit = |bytes: usize| {
        let mut transaction = store.transaction();
        transaction.claim("one").emit(&topic, vec![7; bytes])?;
        transaction.commit()
    };
    assert_eq!(emit(most + 1).expect_err("too long").kind(), ErrorKind::FixCall);
    assert!(emit(most).expect("answers").is_committed());
    assert_eq!(topic.read(1).expect("reads")[0].payload.len(), most);
}

/// Harms a payload where it is in the log.
pub(super) fn damage(disk: &SimDisk, text: &[u8]) {
    use firstseen::disk::Disk;
    let dir = std::path::Path::new(crate::support::AT).join("log");
    let find = |name| {
        let path = dir.join(name);
        let bytes = disk.read(&path).expect("reads");
        Some((bytes.windows(text.len()).position(|w| w == text)?, path))
    };
    let names = disk.list(&dir).expect("lists");
    let (at, path) = names.into_iter().find_map(find).expect("is in the log");
    disk.open(&path).expect("opens").write_all_at(b"#", at as u64).expect("writes");
}

#[test]
fn i11_a_damaged_message_is_an_error_and_holds_up_nothing_but_its_key_in_a_relay() {
    let (disk, clock, store) = store();
    let topic = store.outbox("t").expect("opens");
    emit_each(&topic, &["anna:first", "anna:second", "bert:third", "fourth"]);
    drop((topic, store));
    let disk = disk.kill();
    let store = open(&disk, &clock);
    // There are no copies of what was read when the topic was opened.
    let topic = store.outbox("t").expect("opens");
    damage(&disk, b"anna:first");
    // The same text is in the index of ids: harm the message, too.
    damage(&disk, b"anna:first");
    let error = topic.read(10).expect_err("is damaged");
    assert_eq!(error.kind(), ErrorKind::Repair, "{error}");
    let seen = std::sync::Mutex::new(Vec::new());
    let sink = |batch: &[Message]| {
        seen.lock().expect("no panic").extend(payloads(batch));
        firstseen::outbox::Delivery::all()
    };
    let relay = topic.relay(firstseen::outbox::RelayOptions::new()).expect("is made");
    let report = relay.drain(&sink).expect("goes on");
    assert_eq!(*seen.lock().expect("no panic"), ["bert:third", "fourth"]);
    assert!(report.next_at.is_some(), "the damaged one is looked at again");
}

#[test]
fn more_messages_than_one_commit_removes_are_acknowledged_up_to_a_position() {
    let (_dir, path) = crate::support::place();
    let store = Store::builder(&path).durability(firstseen::Durability::Buffered);
    let store = store.open().expect("opens");
    let topic = store.outbox("t").expect("opens");
    for event in ["one", "two", "three"] {
        let mut transaction = store.transaction();
        transaction.claim(event);
        for n in 0..12_000_u32 {
            transaction.emit(&topic, n.to_le_bytes()).expect("collects");
        }
        assert!(transaction.commit().expect("answers").is_committed());
    }
    let all = topic.read(usize::MAX).expect("reads");
    let last = all[35_000 - 1].position;
    assert_eq!(topic.acknowledge_through(last).expect("acknowledges"), 35_000);
    assert_eq!(topic.read(usize::MAX).expect("reads"), all[35_000..]);
    assert_eq!(topic.acknowledge(&all).expect("acknowledges"), 1_000);
}

#[test]
fn a_message_of_another_store_is_not_acknowledged_though_id_and_position_are_equal() {
    let (_, clock, first) = store();
    // The stores of tests have one seed.
    let second = sim(&SimDisk::new(), &clock).seed([9; 16]).open().expect("opens");
    let topics = [first, second].map(|store| store.outbox("t").expect("opens"));
    topics.iter().for_each(|topic| emit(topic, "e", &["said"]));
    let [ours, theirs] = topics.each_ref().map(|topic| topic.read(1).expect("reads"));
    assert_eq!((ours[0].id, ours[0].position), (theirs[0].id, theirs[0].position));
    let error = topics[0].acknowledge(&theirs).expect_err("is refused");
    assert_eq!(error.kind(), ErrorKind::FixCall);
    let mut transaction = store_of(&topics[0]).transaction();
    let error = transaction.acknowledge(&topics[0], &theirs[0]).expect_err("is refused");
    assert_eq!(error.kind(), ErrorKind::FixCall);
    assert_eq!(waiting(&topics[0]), ["said"]);
    assert_eq!(topics[0].acknowledge(&ours).expect("acknowledges"), 1);
}
