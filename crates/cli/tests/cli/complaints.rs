//! What is said of a wrong name or number, and of what could not be done.

use firstseen::Store;
use firstseen::outbox::{Delivery, Message, Outbox, RelayOptions};
use firstseen::testing::Table;

use super::Shell;

/// A store in which each name keeps one kind of thing, or nothing any more.
fn filled() -> Shell {
    let shell = Shell::new();
    let store = Store::open(shell.path("S")).unwrap();
    let payments = store.ledger("payments").unwrap();
    payments.begin("order-17").unwrap().started().unwrap().complete("receipt").unwrap();
    store.raw_table("points").unwrap().put("anna", "40").unwrap();
    let (clicks, mails) = (store.source("clicks").unwrap(), store.outbox("mails").unwrap());
    let mut transaction = store.transaction();
    transaction.claim("order-17").advance(&clicks, 0, 18);
    transaction.emit(&mails, "first").unwrap();
    assert!(transaction.commit().unwrap().is_committed());
    assert!(store.namespace("plain").unwrap().claim("claimed").unwrap().is_first_seen());
    drop((payments, clicks, mails));
    store.close().unwrap();
    shell
}

#[test]
fn an_unknown_name_is_told_with_those_of_its_kind_and_no_others() {
    let shell = filled();
    for (line, told) in [
        ("ledger list --ledger nosuch", "ledger \"nosuch\"; ledgers with records: payments"),
        ("ledger show a --ledger nosuch", "ledger \"nosuch\"; ledgers with records: payments"),
        ("dead-letter list --ledger nosuch", "ledger \"nosuch\"; ledgers with records: payments"),
        ("table scan nosuch", "table \"nosuch\"; tables with values: points"),
        ("offsets --source nosuch", "source \"nosuch\"; sources with offsets: clicks"),
        ("outbox list --topic nosuch", "topic \"nosuch\"; topics with messages: mails"),
    ] {
        let ended = shell.words(line);
        ended.complains(2, &[told]);
        assert_eq!(ended.err, format!("firstseen: there is no {told}\n"), "{line}");
    }
}

#[test]
fn where_nothing_is_of_a_kind_no_name_is_told() {
    let shell = Shell::new();
    shell.prints(&[], "a\n");
    for (line, told) in [
        ("ledger list --ledger nosuch", "no ledger in this store has records"),
        ("table scan nosuch", "no table in this store has values"),
        ("offsets --source nosuch", "no source in this store has offsets"),
        ("outbox list --topic nosuch", "no topic in this store has messages"),
    ] {
        let ended = shell.words(line);
        ended.complains(2, &[told]);
        assert!(!ended.err.contains("default"), "{line}: {ended:?}");
    }
}

#[test]
fn a_number_without_a_unit_is_told_with_examples() {
    let shell = filled();
    for line in [
        "dead-letter list --older-than 7",
        "dead-letter purge --all --ledger payments --older-than 7",
        "ledger cancel a --ledger payments --reason x --ttl 7",
        "claim a --ttl 7",
        "get a --wait 7",
    ] {
        let ended = shell.words(line);
        assert_eq!(ended.code, 2, "{line}: {ended:?}");
        assert!(ended.err.contains("the unit is missing: write 7d for days"), "{line}: {ended:?}");
    }
    let ended = shell.words("claim a --ttl soon");
    assert!(ended.err.contains("\"soon\" is not a ttl"), "{ended:?}");
}

#[test]
fn the_usage_shows_what_may_take_the_place_of_ids() {
    let shell = Shell::new();
    for (command, usage) in [
        ("outbox purge", "<ID|--all>"),
        ("outbox redrive", "<ID|--all>"),
        ("outbox ack", "<ID|--through <POSITION>>"),
        ("dead-letter purge", "<ID|--all>"),
        ("dead-letter redrive", "<ID|--all>"),
        ("forget", "<ID|--all>"),
    ] {
        let help = shell.run(command.split(' ').chain(["--help"]), "");
        let line = help.out().lines().find(|line| line.starts_with("Usage:")).unwrap();
        assert!(line.contains(usage), "{command}: {line}");
    }
    // It is in the answer to a call without either, too.
    let ended = shell.words("outbox purge --topic mails");
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.err.contains("<ID|--all>"), "{ended:?}");
}

fn emit(store: &Store, topic: &Outbox, text: &str) {
    let mut transaction = store.transaction();
    transaction.claim(text).emit(topic, text).unwrap();
    assert!(transaction.commit().unwrap().is_committed());
}

/// Three messages, of which a prepared transaction acknowledges the second. Returns their ids, and the last position.
fn held(shell: &Shell) -> (Vec<String>, u64) {
    let store = Store::open(shell.path("S")).unwrap();
    let mails = store.outbox("mails").unwrap();
    ["first", "second", "third"].iter().for_each(|text| emit(&store, &mails, text));
    let messages = mails.read(3).unwrap();
    let mut transaction = store.transaction();
    transaction.acknowledge(&mails, &messages[1]).unwrap();
    assert!(transaction.prepare("relay").unwrap().is_committed());
    drop((transaction, mails));
    store.close().unwrap();
    (messages.iter().map(|message| message.id.to_string()).collect(), messages[2].position)
}

#[test]
fn a_message_that_cannot_be_acknowledged_is_named_and_the_others_are_told_as_done() {
    let shell = Shell::new();
    let (ids, _) = held(&shell);
    let ended = shell.words(&format!("outbox ack {} --topic mails", ids.join(" ")));
    ended.complains(3, &[&ids[1], "prepared transaction"]);
    let told = format!("{} acknowledged\n{} acknowledged\n", ids[0], ids[2]);
    assert_eq!((ended.out(), ended.err.lines().count()), (told.as_str(), 1));
    let left = shell.objects("outbox list --topic mails");
    assert_eq!((left.len(), &left[0]["id"]), (1, &ids[1].as_str().into()));
}

#[test]
fn what_was_acknowledged_up_to_a_position_is_counted_before_what_could_not_be() {
    for (json, told) in [("", "2 acknowledged\n"), (" --json", "{\"acknowledged\":2}\n")] {
        let shell = Shell::new();
        let (ids, last) = held(&shell);
        let ended = shell.words(&format!("outbox ack --through {last} --topic mails{json}"));
        ended.complains(3, &[&ids[1], "prepared transaction"]);
        assert!(!ended.err.contains(&ids[0]) && !ended.err.contains(&ids[2]), "{ended:?}");
        assert_eq!(ended.out(), told);
    }
}

#[test]
fn what_was_redriven_is_counted_before_what_could_not_be() {
    for (json, told) in [("", "1 redriven\n"), (" --json", "{\"redriven\":1}\n")] {
        let shell = Shell::new();
        let store = Store::open(shell.path("S")).unwrap();
        let mails = store.outbox("mails").unwrap();
        ["first", "second", "third"].iter().for_each(|text| emit(&store, &mails, text));
        let refuse = |batch: &[Message]| {
            (0..batch.len()).fold(Delivery::all(), |all, n| all.refuse(n, "no such user"))
        };
        assert_eq!(mails.relay(RelayOptions::new()).unwrap().drain(&refuse).unwrap().dead, 3);
        // The same event again, prepared: it holds the id of its message.
        assert!(store.forget("second").unwrap());
        let mut transaction = store.transaction();
        transaction.claim("second").emit(&mails, "second").unwrap();
        assert!(transaction.prepare("again").unwrap().is_committed());
        drop((transaction, mails));
        store.close().unwrap();
        let ended = shell.words(&format!("outbox redrive --all --topic mails{json}"));
        ended.complains(3, &["the oldest that is still dead in mails", "prepared transaction"]);
        assert_eq!(ended.out(), told);
        assert_eq!(shell.objects("outbox list --dead --topic mails").len(), 2);
    }
}

/// The family of waiting messages, as `src/id.rs` numbers it.
const OUTBOX: u8 = 5;

#[test]
fn where_a_topic_cannot_be_read_to_a_message_nothing_is_acknowledged_and_that_is_said() {
    let shell = Shell::new();
    let store = Store::open(shell.path("S")).unwrap();
    // A test's rows are those of the default namespace.
    let topic = store.outbox("default").unwrap();
    emit(&store, &topic, "first");
    Table::of(&store, OUTBOX).put(&[7; 16], b"\x01").unwrap();
    emit(&store, &topic, "behind it");
    let first = topic.read(1).unwrap().remove(0).id.to_string();
    drop(topic);
    store.close().unwrap();
    let unknown = "0".repeat(32);
    let ended = shell.words(&format!("outbox ack {first} {unknown} --topic default"));
    ended.complains(3, &["nothing was acknowledged", "07070707070707070707070707070707"]);
    assert_eq!(ended.out(), "");
    let ended = shell.words(&format!("outbox ack {first} --topic default"));
    assert_eq!(ended.code, 0, "it waits still: {ended:?}");
}

#[test]
fn a_gid_that_is_refused_is_named() {
    let shell = Shell::new();
    shell.prints(&[], "a\n");
    let long = format!("transfer-{}", "1".repeat(1_024));
    for end in ["commit", "rollback"] {
        // The store refuses it.
        let ended = shell.words(&format!("prepared {end} {long}"));
        ended.complains(2, &[&format!("firstseen: {long}: ")]);
        shell
            .words(&format!("prepared {end} transfer --hex"))
            .complains(2, &["the gid \"transfer\" is not hexadecimal"]);
    }
}
