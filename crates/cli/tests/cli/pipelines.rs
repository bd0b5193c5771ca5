//! `table`, `offsets`, `outbox` and `prepared`: what an operator sees of the tables, sources and topics of a stopped
//! program, and does about them.

use std::process::Stdio;
use std::time::Duration;

use firstseen::ledger::Backoff;
use firstseen::outbox::{Delivery, Message, Outbox, RelayOptions};
use firstseen::testing::Table;
use firstseen::{Store, hours};
use serde_json::Value;

use super::Shell;

/// What a pipeline leaves that was stopped: values, offsets, messages, and two transactions without a coordinator.
fn fill(shell: &Shell) {
    let store = Store::open(shell.path("S")).unwrap();
    let points = store.raw_table("points").unwrap();
    points.put("anna", "40 points").unwrap();
    points.put(b"ben\xff", b"\x01\xfe").unwrap();
    points.put("two lines", "a\nb").unwrap();
    points.put("long", "é".repeat(300)).unwrap();
    points.with_ttl(hours(1)).put("carla", "7").unwrap();
    store.table::<u64>("typed").unwrap().put("anna", &40).unwrap();
    let (orders, clicks) = (store.source("orders").unwrap(), store.source("clicks").unwrap());
    let owner = clicks.own(7).unwrap();
    let (mails, alarms) = (store.outbox("mails").unwrap(), store.outbox("alarms").unwrap());
    let mut transaction = store.transaction();
    transaction.claim("order-17").advance(&orders, 0, 18).advance(&orders, 12, 1 << 40);
    transaction.emit(&mails, "first").unwrap();
    transaction.emit_keyed(&mails, "anna", "second\n").unwrap();
    transaction.emit_as(&mails, "mail-3", "", "third").unwrap();
    assert!(transaction.commit().unwrap().is_committed());
    let mut transaction = store.transaction();
    transaction.claim("order-18").advance_as(&owner, 5);
    transaction.emit_keyed(&alarms, b"\xfe", b"\xff").unwrap();
    transaction.emit_as(&alarms, b"\xfd", "", "").unwrap();
    assert!(transaction.commit().unwrap().is_committed());
    for gid in [&b"transfer-1"[..], b"transfer-2\xff"] {
        let mut transaction = store.transaction();
        transaction.claim(gid).put(&points, gid, b"held").unwrap();
        transaction.emit(&mails, gid).unwrap();
        assert!(transaction.prepare(gid).unwrap().is_committed());
    }
    assert!(store.namespace("plain").unwrap().claim("claimed").unwrap().is_first_seen());
    drop((points, orders, clicks, owner, mails, alarms));
    store.close().unwrap();
}

fn filled() -> Shell {
    let shell = Shell::new();
    fill(&shell);
    shell
}

/// `transfer-2\xff`.
const TRANSFER_2: &str = "7472616e736665722d32ff";

fn texts(objects: &[Value], field: &str) -> Vec<String> {
    let text = |object: &Value| object[field].as_str().unwrap_or_default().to_owned();
    objects.iter().map(text).collect()
}

#[test]
fn a_value_is_printed_with_its_version_and_its_end() {
    let shell = filled();
    let found = shell.object("table get points anna");
    assert_eq!((&found["table"], &found["key"]), (&"points".into(), &"anna".into()));
    assert_eq!((&found["value"], &found["ends"]), (&"40 points".into(), &Value::Null));
    assert!(found["version"].as_u64() > Some(0) && found["ends_utc"].is_null(), "{found}");
    assert!(found.get("key_hex").is_none() && found.get("value_hex").is_none(), "{found}");
    let found = shell.object("table get points carla");
    assert!(found["ends"].as_u64() > Some(0), "{found}");
    assert!(found["ends_utc"].as_str().unwrap().ends_with('Z'), "{found}");
    let ended = shell.words("table get points anna");
    assert_eq!(ended.code, 0, "{ended:?}");
    let lines: Vec<&str> = ended.out().lines().collect();
    assert_eq!((lines[0], lines[1]), ("key      anna", "value    40 points"));
    assert!(lines[2].starts_with("version  ") && lines[3] == "ends     never", "{ended:?}");
}

#[test]
fn values_and_keys_that_cannot_be_printed_are_in_hexadecimal_digits() {
    let shell = filled();
    for (line, value, digits) in [
        ("table get points 62656eff --hex", Value::Null, "01fe"),
        ("table get points 616e6e61 --hex", "40 points".into(), ""),
        ("table get points anna --hex-values", Value::Null, "343020706f696e7473"),
        ("table get typed anna --hex-values", Value::Null, "28"),
    ] {
        let found = shell.object(line);
        let hex = found["value_hex"].as_str().unwrap_or_default();
        assert_eq!((&found["value"], hex), (&value, digits), "{line}");
    }
    let found = shell.object("table get points 62656eff --hex");
    assert_eq!((found.get("key"), &found["key_hex"]), (None, &"62656eff".into()));
    let ended = shell.run(["table", "get", "points", "two lines", "--store", "S"], "");
    assert!(ended.out().contains("value    0x610a62\n"), "{ended:?}");
    let ended = shell.words("table get points 62656eff --hex");
    assert!(ended.out().contains("0x62656eff\n") && ended.out().contains("0x01fe\n"), "{ended:?}");
}

#[test]
fn a_scan_lists_one_table() {
    let shell = filled();
    let mut keys = texts(&shell.objects("table scan points"), "key");
    keys.sort();
    assert_eq!(keys, ["", "anna", "carla", "long", "two lines"], "without what is only prepared");
    assert_eq!(texts(&shell.objects("table scan typed"), "value"), ["("], "looks like text");
    assert_eq!(texts(&shell.objects("table scan typed --hex-values"), "value_hex"), ["28"]);
    assert_eq!(shell.objects("table scan points --limit 2").len(), 2);
    assert_eq!(shell.objects("table scan points --limit 0").len(), 0);
    assert_eq!(shell.objects("table scan plain").len(), 0, "claims are no values");
    let ended = shell.words("table scan points");
    assert_eq!((ended.code, ended.out().lines().count()), (0, 6), "{ended:?}");
    let line = |key: &str| ended.out().lines().find(|line| line.contains(key)).unwrap();
    assert!(line("VERSION").ends_with("VALUE"), "{ended:?}");
    assert!(line("0x62656eff").ends_with("  0x01fe"), "{ended:?}");
    assert!(line("long").ends_with(&format!("  {}...", "é".repeat(100))), "{ended:?}");
    assert!(line("carla").contains("  20") && line("anna").contains("  never  "), "{ended:?}");
}

#[test]
fn offsets_are_listed_by_source_and_partition() {
    let shell = filled();
    let ended = shell.words("offsets --json");
    let expected = "{\"source\":\"clicks\",\"partition\":7,\"next\":5,\"epoch\":1}\n\
                    {\"source\":\"orders\",\"partition\":0,\"next\":18,\"epoch\":0}\n\
                    {\"source\":\"orders\",\"partition\":12,\"next\":1099511627776,\"epoch\":0}\n";
    let mut lines: Vec<&str> = ended.out().lines().collect();
    lines.sort_unstable();
    assert_eq!((ended.code, lines.join("\n") + "\n"), (0, expected.to_owned()));
    assert_eq!(shell.objects("offsets --source orders").len(), 2);
    assert_eq!(shell.objects("offsets --source plain").len(), 0, "no source");
    assert_eq!(shell.objects("offsets --limit 1").len(), 1);
    assert_eq!(shell.objects("offsets --limit 0").len(), 0);
    let ended = shell.words("offsets --source orders");
    let table = "SOURCE  PARTITION  NEXT           EPOCH\n\
                 orders  0          18             0\n\
                 orders  12         1099511627776  0\n";
    assert_eq!((ended.code, ended.out()), (0, table));
}

#[test]
fn messages_are_listed_in_the_order_of_their_topic() {
    let shell = filled();
    let listed = shell.objects("outbox list --topic mails --payload");
    assert_eq!(listed.len(), 3, "without those of prepared transactions: {listed:?}");
    assert!(listed.is_sorted_by_key(|message| message["position"].as_u64().unwrap()));
    let keys: Vec<&Value> = listed.iter().map(|message| &message["key"]).collect();
    assert_eq!(keys, [&Value::Null, &"anna".into(), &Value::Null]);
    assert_eq!(texts(&listed, "given_id"), ["", "", "mail-3"]);
    assert_eq!(texts(&listed, "payload"), ["first", "", "third"]);
    assert_eq!(listed[1]["payload_hex"], "7365636f6e640a", "a line end cannot be printed");
    assert_eq!((&listed[0]["topic"], &listed[0]["payload_bytes"]), (&"mails".into(), &5.into()));
    assert_eq!(listed[0]["id"].as_str().unwrap().len(), 32);
    assert!(listed[0]["emitted"].as_u64() > Some(0), "{listed:?}");
    assert!(listed[0]["emitted_utc"].as_str().unwrap().ends_with('Z'), "{listed:?}");
    let alarms = shell.objects("outbox list --topic alarms");
    assert_eq!((&alarms[0]["key"], &alarms[0]["key_hex"]), (&Value::Null, &"fe".into()));
    assert_eq!((&alarms[1]["given_id"], &alarms[1]["given_id_hex"]), (&Value::Null, &"fd".into()));
    assert!(alarms[0].get("payload").is_none() && alarms[0].get("payload_hex").is_none());
    assert_eq!(shell.objects("outbox list").len(), 5);
    assert_eq!(shell.objects("outbox list --limit 4").len(), 4, "over all topics");
    assert_eq!(shell.objects("outbox list --limit 0").len(), 0);
    assert_eq!(shell.objects("outbox list --topic plain").len(), 0, "no topic");
    let ended = shell.words("outbox list --topic mails --payload");
    assert_eq!((ended.code, ended.out().lines().count()), (0, 4), "{ended:?}");
    assert!(ended.out().lines().next().unwrap().ends_with("  BYTES  PAYLOAD"), "{ended:?}");
    assert!(ended.out().contains("  mail-3    5      third\n"), "{ended:?}");
    assert!(ended.out().contains("  anna"), "{ended:?}");
    let ended = shell.words("outbox list --topic alarms");
    assert!(ended.out().contains("  0xfe") && !ended.out().contains("PAYLOAD"), "{ended:?}");
}

/// Has the messages of `mails` die: the first is refused, the others are tried twice.
fn kill_mails(shell: &Shell) {
    let store = Store::open(shell.path("S")).unwrap();
    let mails = store.outbox("mails").unwrap();
    let options = RelayOptions::new().attempts_max(2).backoff(Backoff::constant(Duration::ZERO));
    let sink = |batch: &[Message]| {
        let each = batch.iter().enumerate();
        each.fold(Delivery::all(), |delivery, (n, message)| match &message.payload[..] {
            b"first" => delivery.refuse(n, "no such\tuser"),
            _ => delivery.retry(n, "no answer"),
        })
    };
    assert_eq!(mails.relay(options).unwrap().drain(&sink).unwrap().dead, 3);
    drop(mails);
    store.close().unwrap();
}

#[test]
fn what_could_not_be_delivered_is_listed_with_its_cause() {
    let shell = filled();
    assert_eq!(shell.objects("outbox list --dead").len(), 0);
    let first = shell.object("outbox list --topic mails");
    kill_mails(&shell);
    assert_eq!(shell.objects("outbox list").len(), 2, "of the other topic");
    let listed = shell.objects("outbox list --dead");
    assert_eq!(listed.len(), 3, "{listed:?}");
    let dead = listed.iter().find(|dead| dead["id"] == first["id"]).unwrap();
    for (field, value) in [
        ("cause", Value::from("refused")),
        ("attempts", 1.into()),
        ("reason", "no such\tuser".into()),
        ("position", first["position"].clone()),
        ("emitted", first["emitted"].clone()),
    ] {
        assert_eq!(dead[field], value, "{field}");
    }
    assert!(dead["since"].as_u64() >= dead["emitted"].as_u64(), "{dead}");
    assert!(dead["since_utc"].as_str().unwrap().ends_with('Z'), "{dead}");
    let other = listed.iter().find(|dead| dead["given_id"] == "mail-3").unwrap();
    assert_eq!((&other["cause"], &other["attempts"]), (&"exhausted".into(), &2.into()));
    assert!(other.get("payload").is_none() && first.get("cause").is_none());
    assert_eq!(shell.objects("outbox list --dead --limit 2").len(), 2);
    assert_eq!(shell.objects("outbox list --dead --topic alarms").len(), 0);
    let ended = shell.words("outbox list --dead --payload");
    assert!(ended.out().lines().next().unwrap().ends_with("  ATTEMPTS  REASON"), "{ended:?}");
    assert!(ended.out().contains("  refused    1         no such\\tuser\n"), "{ended:?}");
    let help = shell.run(["outbox", "list", "--help"], "");
    for field in dead.as_object().unwrap().keys().filter(|field| !field.ends_with("_utc")) {
        assert!(help.out().contains(&format!("  {field} ")), "{field}");
    }
}

#[test]
fn what_could_not_be_delivered_waits_again_or_is_removed() {
    let shell = filled();
    let waited = texts(&shell.objects("outbox list --topic mails"), "id");
    kill_mails(&shell);
    let told = |ended: super::Ended| (ended.code, ended.out().to_owned());
    let (one, two, three) = (&waited[0], &waited[1], &waited[2]);
    let ended = shell.words(&format!("outbox redrive {one} {} --topic mails", "0".repeat(32)));
    let zeros = "0".repeat(32);
    let lines = format!("{one} redriven\n{zeros} is not dead in mails\n");
    assert_eq!(told(ended), (1, lines), "the other is done all the same");
    assert_eq!(
        texts(&shell.objects("outbox list --topic mails"), "id"),
        *std::slice::from_ref(one)
    );
    let ended = shell.words(&format!("outbox redrive {one} --topic mails --json"));
    assert_eq!(told(ended), (1, format!("{{\"id\":\"{one}\",\"redriven\":false}}\n")), "it waits");
    let ended = shell.words(&format!("outbox purge {two} --topic mails --json"));
    assert_eq!(told(ended), (0, format!("{{\"id\":\"{two}\",\"purged\":true}}\n")));
    assert_eq!(
        told(shell.words("outbox redrive --all --topic mails")),
        (0, "1 redriven\n".to_owned())
    );
    let again = texts(&shell.objects("outbox list --topic mails"), "id");
    assert_eq!(again, [one.clone(), three.clone()], "behind all others");
    let json = |n: usize| format!("{{\"purged\":{n}}}\n");
    assert_eq!(told(shell.words("outbox purge --all --topic mails --json")), (1, json(0)));
    assert_eq!(shell.words("outbox redrive --topic mails").code, 2, "neither ids nor --all");
    assert_eq!(shell.words("outbox redrive --all --topic nosuch").code, 2);
}

#[test]
fn what_is_acknowledged_waits_no_more() {
    let shell = filled();
    let ids = texts(&shell.objects("outbox list --topic mails"), "id");
    let other = texts(&shell.objects("outbox list --topic alarms"), "id");
    let ended = shell.words(&format!("outbox ack {} {} --topic mails", ids[1], other[0]));
    let told = format!("{} acknowledged\n{} does not wait in mails\n", ids[1], other[0]);
    assert_eq!((ended.code, ended.out()), (1, told.as_str()), "the other is done all the same");
    let ended = shell.words(&format!("outbox ack {} --topic mails --json", ids[1]));
    let told = format!("{{\"id\":\"{}\",\"acknowledged\":false}}\n", ids[1]);
    assert_eq!((ended.code, ended.out()), (1, told.as_str()), "it does not wait any more");
    let ended = shell.words(&format!("outbox ack {} --topic mails --json", ids[0]));
    let told = format!("{{\"id\":\"{}\",\"acknowledged\":true}}\n", ids[0]);
    assert_eq!((ended.code, ended.out()), (0, told.as_str()));
    assert_eq!(texts(&shell.objects("outbox list --topic mails"), "id"), ids[2..]);
    assert_eq!(shell.objects("outbox list --topic alarms").len(), 2);
}

#[test]
fn messages_are_acknowledged_up_to_a_position() {
    let shell = filled();
    let listed = shell.objects("outbox list --topic mails");
    let second = listed[1]["position"].as_u64().unwrap();
    let ended = shell.words(&format!("outbox ack --through {second} --topic mails"));
    assert_eq!((ended.code, ended.out()), (0, "2 acknowledged\n"));
    let ended = shell.words(&format!("outbox ack --through {second} --topic mails --json"));
    assert_eq!((ended.code, ended.out()), (1, "{\"acknowledged\":0}\n"));
    assert_eq!(texts(&shell.objects("outbox list --topic mails"), "given_id"), ["mail-3"]);
    let ended = shell.words(&format!("outbox ack --through {} --topic mails --json", u64::MAX));
    assert_eq!((ended.code, ended.out()), (0, "{\"acknowledged\":1}\n"));
    assert_eq!(shell.objects("outbox list").len(), 2, "of the other topic");
}

#[test]
fn prepared_transactions_are_listed_the_oldest_first() {
    let shell = filled();
    let listed = shell.objects("prepared list");
    assert_eq!((listed.len(), &listed[0]["gid"]), (2, &"transfer-1".into()), "{listed:?}");
    assert_eq!((listed[1].get("gid"), &listed[1]["gid_hex"]), (None, &TRANSFER_2.into()));
    assert_eq!((&listed[0]["claims"], &listed[0]["rows"]), (&1.into(), &2.into()));
    assert!(listed[0]["since"].as_u64() > Some(0) && listed[0]["age_ms"].is_u64(), "{listed:?}");
    assert!(listed[0]["since_utc"].as_str().unwrap().ends_with('Z'), "{listed:?}");
    assert_eq!(shell.objects("prepared list --limit 1").len(), 1);
    let ended = shell.words("prepared list");
    assert_eq!(ended.out().lines().count(), 3, "{ended:?}");
    assert!(ended.out().lines().next().unwrap().ends_with("  AGE  CLAIMS  ROWS  GID"), "{ended:?}");
    assert!(ended.out().contains("  1       2     transfer-1\n"), "{ended:?}");
    assert!(ended.out().contains(&format!("  0x{TRANSFER_2}\n")), "{ended:?}");
}

#[test]
fn a_prepared_transaction_is_committed_or_rolled_back_once_and_for_all() {
    let shell = filled();
    let commit = "prepared commit transfer-1";
    let ended = shell.words(commit);
    assert_eq!((ended.code, ended.out()), (0, "transfer-1 committed\n"));
    let ended = shell.words(commit);
    assert_eq!((ended.code, ended.out()), (0, "transfer-1 was committed before\n"));
    let ended = shell.words("prepared rollback transfer-1");
    assert_eq!((ended.code, ended.out()), (1, "transfer-1 was committed before\n"));
    assert_eq!(shell.object("table get points transfer-1")["value"], "held");
    assert_eq!(shell.objects("outbox list --topic mails").len(), 4);
    for (line, code, state, changed) in [
        (format!("rollback {TRANSFER_2} --hex"), 0, "\"rolled-back\"", true),
        (format!("rollback {TRANSFER_2} --hex"), 0, "\"rolled-back\"", false),
        (format!("commit {TRANSFER_2} --hex"), 1, "\"rolled-back\"", false),
    ] {
        let ended = shell.words(&format!("prepared {line} --json"));
        let told =
            format!("{{\"gid_hex\":\"{TRANSFER_2}\",\"state\":{state},\"changed\":{changed}}}\n");
        assert_eq!((ended.code, ended.out()), (code, told.as_str()), "{line}");
    }
    assert_eq!(shell.words(&format!("table get points {TRANSFER_2} --hex")).code, 1);
    assert_eq!(shell.objects("prepared list").len(), 0);
    for end in ["commit", "rollback"] {
        let ended = shell.words(&format!("prepared {end} nobody"));
        assert_eq!((ended.code, ended.out()), (1, "nobody is no known transaction\n"));
        let ended = shell.words(&format!("prepared {end} nobody --json"));
        let told = "{\"gid\":\"nobody\",\"state\":null,\"changed\":false}\n";
        assert_eq!((ended.code, ended.out()), (1, told));
    }
}

#[test]
fn what_a_prepared_transaction_holds_is_in_doubt() {
    let shell = Shell::new();
    let store = Store::open(shell.path("S")).unwrap();
    let mails = store.outbox("mails").unwrap();
    let mut transaction = store.transaction();
    transaction.claim("a").emit(&mails, "text").unwrap();
    assert!(transaction.commit().unwrap().is_committed());
    let message = mails.read(1).unwrap().remove(0);
    let mut transaction = store.transaction();
    transaction.acknowledge(&mails, &message).unwrap();
    assert!(transaction.prepare("relay").unwrap().is_committed());
    drop((transaction, mails));
    store.close().unwrap();
    let ack = format!("outbox ack {} --topic mails", message.id);
    shell.words(&ack).complains(3, &["prepared"]);
    assert_eq!(shell.words("prepared rollback relay").code, 0);
    assert_eq!(shell.words(&ack).code, 0);
}

#[test]
fn an_unknown_name_is_an_error_and_makes_none() {
    let shell = filled();
    let names = || shell.object("stats")["namespaces"].clone();
    let before = names();
    for (line, what) in [
        ("table get pionts anna", "table"),
        ("table scan pionts", "table"),
        ("offsets --source pionts", "source"),
        ("outbox list --topic pionts", "topic"),
        ("outbox ack --through 9 --topic pionts", "topic"),
        ("outbox ack 00112233445566778899aabbccddeeff --topic pionts", "topic"),
        ("outbox redrive --all --topic pionts", "topic"),
    ] {
        let ended = shell.words(line);
        ended.complains(2, &[&format!("there is no {what} \"pionts\"; {what}s with ")]);
        assert_eq!(ended.out(), "", "{line}");
    }
    for (line, told) in [
        ("table get points nobody", "no value\n"),
        ("table get points nobody --json", ""),
        ("table get plain claimed", "no value\n"),
    ] {
        let ended = shell.words(line);
        assert_eq!((ended.code, ended.out()), (1, told), "{line}");
    }
    assert_eq!(names(), before, "a misspelt name was made");
}

#[test]
fn a_wrong_call_changes_nothing_in_a_pipeline() {
    let shell = filled();
    let id = texts(&shell.objects("outbox list --topic mails"), "id").remove(0);
    for line in [
        "table".to_owned(),
        "outbox".to_owned(),
        "prepared".to_owned(),
        "table get points".to_owned(),
        "table get points xyz --hex".to_owned(),
        format!("table get points {}", "x".repeat(1_025)),
        "table scan".to_owned(),
        "offsets --limit x".to_owned(),
        "outbox ack --topic mails".to_owned(),
        format!("outbox ack {id}"),
        format!("outbox ack {id} --topic mails --through 9"),
        format!("outbox ack {id} {}x --topic mails", &id[1..]),
        format!("outbox ack {id} {} --topic mails", &id[2..]),
        "outbox ack --topic mails --through -1".to_owned(),
        "prepared commit".to_owned(),
        "prepared commit transfer --hex".to_owned(),
        format!("prepared commit {}", "x".repeat(1_025)),
    ] {
        let ended = shell.words(&line);
        assert_eq!((ended.code, ended.out()), (2, ""), "{line}: {ended:?}");
    }
    let empty = ["prepared", "commit", "", "--store", "S"];
    shell.run(empty, "").complains(2, &["the gid is empty"]);
    let empty = ["table", "get", "points", "", "--store", "S"];
    shell.run(empty, "").complains(2, &["the key is empty"]);
    assert_eq!(shell.objects("outbox list").len(), 5);
    assert_eq!(shell.objects("prepared list").len(), 2);
}

/// Families of rows, as `src/id.rs` numbers them.
const TABLES: u8 = 6;
const OFFSETS: u8 = 7;
const OUTBOX: u8 = 5;
const OUTBOX_DEAD: u8 = 13;

#[test]
fn what_cannot_be_read_keeps_nobody_from_the_others() {
    let shell = filled();
    kill_mails(&shell);
    let store = Store::open(shell.path("S")).unwrap();
    // A test's rows are those of the default namespace.
    let table = store.raw_table("default").unwrap();
    for key in ["a", "b", "c"] {
        table.put(key, key).unwrap();
    }
    let topic = store.outbox("default").unwrap();
    let emit = |topic: &Outbox, text: &str| {
        let mut transaction = store.transaction();
        transaction.claim(text).emit(topic, text).unwrap();
        assert!(transaction.commit().unwrap().is_committed());
    };
    emit(&topic, "first");
    Table::of(&store, TABLES).put(b"b", b"").unwrap();
    Table::of(&store, OFFSETS).put(&[0, 0, 0, 1], b"\x01").unwrap();
    Table::of(&store, OUTBOX).put(&[7; 16], b"\x01").unwrap();
    Table::of(&store, OUTBOX_DEAD).put(&[8; 16], b"\x01").unwrap();
    emit(&topic, "behind it");
    drop((table, topic));
    store.close().unwrap();
    for (line, count, what) in [
        ("table scan default", 2, "b"),
        ("offsets", 3, "default"),
        ("outbox list", 3, "07070707070707070707070707070707"),
        ("outbox list --dead", 3, "08080808080808080808080808080808"),
        ("outbox list --topic default", 1, "07070707070707070707070707070707"),
    ] {
        for (json, titles) in [("", 1), (" --json", 0)] {
            let ended = shell.words(&format!("{line}{json}"));
            ended.complains(3, &[what]);
            assert_eq!(ended.out().lines().count(), count + titles, "{line}: {ended:?}");
            assert_eq!(ended.err.lines().count(), 1, "{line}: {ended:?}");
        }
    }
    shell.words("table get default b").complains(3, &["b in table default"]);
    assert_eq!(shell.objects("table scan points").len(), 5, "another table is whole");
    let ended = shell.words(&format!("outbox ack --through {} --topic default", u64::MAX));
    assert_eq!((ended.code, ended.out()), (0, "3 acknowledged\n"), "the way past it");
    assert_eq!(shell.objects("outbox list").len(), 2);
}

#[test]
fn lists_of_more_than_a_page_are_complete_and_a_closed_pipe_ends_them() {
    let shell = Shell::new();
    let store = Store::open(shell.path("S")).unwrap();
    let (many, topic) = (store.raw_table("many").unwrap(), store.outbox("many").unwrap());
    let source = store.source("many").unwrap();
    for n in 0..3u32 {
        let mut transaction = store.transaction();
        transaction.claim(n.to_be_bytes());
        for m in 0..1_500u32 {
            let key = format!("key-{}", n * 1_500 + m);
            transaction.put(&many, &key, b"1").unwrap();
            transaction.advance(&source, n * 1_500 + m, 1).emit(&topic, &key).unwrap();
        }
        assert!(transaction.commit().unwrap().is_committed());
    }
    drop((many, topic, source));
    store.close().unwrap();
    for list in ["table scan many", "offsets", "outbox list --payload"] {
        assert_eq!(shell.objects(list).len(), 4_500, "{list}");
        let mut command = shell.command(list.split(' ').chain(["--store", "S", "--json"]));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!((ended.status.code(), said.as_str()), (Some(141), ""), "{list}: a closed pipe");
    }
    let said = texts(&shell.objects("outbox list --topic many --payload"), "payload");
    let expected: Vec<String> = (0..4_500).map(|n| format!("key-{n}")).collect();
    assert_eq!(said, expected, "in order");
    let last = shell.objects("outbox list --topic many").pop().unwrap();
    let ended = shell.words(&format!("outbox ack {} --topic many", last["id"].as_str().unwrap()));
    assert_eq!(ended.code, 0, "the last of many: {ended:?}");
    let ended = shell.words(&format!("outbox ack --through {} --topic many", u64::MAX));
    assert_eq!(ended.out(), "4,499 acknowledged\n");
}

#[test]
fn a_pipeline_in_use_is_not_touched() {
    let shell = filled();
    let _store = Store::open(shell.path("S")).unwrap();
    for line in [
        "table get points anna",
        "table scan points",
        "offsets",
        "outbox list",
        "outbox ack --through 9 --topic mails",
        "prepared list",
        "prepared commit transfer-1 --wait 10ms",
        "prepared rollback transfer-1",
    ] {
        shell.words(line).complains(3, &["is open in another process", "--wait"]);
    }
}

#[test]
fn help_and_man_pages_document_the_fields_of_a_pipeline_and_every_option() {
    let shell = filled();
    for (command, line) in [
        ("table get", "table get points carla"),
        ("table scan", "table scan points --limit 1"),
        ("offsets", "offsets"),
        ("outbox list", "outbox list --topic mails --payload"),
        ("prepared list", "prepared list"),
    ] {
        let help = shell.run(command.split(' ').chain(["--help"]), "");
        let page = shell.run(["man"].into_iter().chain(command.split(' ')), "");
        assert_eq!((help.code, page.code), (0, 0), "{command}");
        let shown = shell.object(line);
        let fields = shown.as_object().unwrap().keys().filter(|field| !field.ends_with("_utc"));
        for field in fields.map(|field| field.trim_end_matches("_hex")) {
            assert!(help.out().contains(&format!("  {field} ")), "{command}: {field}");
            assert!(page.out().contains(field), "{command}: {field}");
        }
    }
    for (command, options) in [
        ("table get", &["store", "hex", "hex-values", "json", "wait"][..]),
        ("table scan", &["store", "limit", "hex-values", "json", "wait"]),
        ("offsets", &["store", "source", "limit", "json", "wait"]),
        ("outbox list", &["store", "topic", "dead", "limit", "payload", "json", "wait"]),
        ("outbox ack", &["store", "topic", "through", "json", "wait"]),
        ("prepared list", &["store", "limit", "json", "wait"]),
        ("prepared commit", &["store", "hex", "json", "wait"]),
        ("prepared rollback", &["store", "hex", "json", "wait"]),
    ] {
        let help = shell.run(command.split(' ').chain(["--help"]), "");
        let page = shell.run(["man"].into_iter().chain(command.split(' ')), "");
        for option in options {
            assert!(help.out().contains(&format!("--{option}")), "{command}: {option}");
            assert!(page.out().contains(&option.replace('-', "\\-")), "{command}: {option}");
        }
        let words: Vec<&str> = help.out().split_whitespace().collect();
        let has_exit_code = words.join(" ").to_lowercase().contains("exit code");
        assert!(has_exit_code || command == "prepared list", "{command}");
    }
    for name in ["bash", "zsh", "fish"] {
        let script = shell.run(["completions", name], "");
        for word in ["offsets", "outbox", "through", "rollback", "hex-values"] {
            assert!(script.out().contains(word), "{name}: {word}");
        }
    }
}
