//! `ledger` and `dead-letter`: what an operator sees of a stopped program's ledgers, and does about it.

use std::process::Stdio;
use std::time::Duration;

use firstseen::Store;
use firstseen::ledger::{
    Attempt, Backoff, BeginOptions, Failure, Fingerprint, LedgerOptions, OnLeaseEnd,
};
use firstseen::testing::Table;
use serde_json::Value;

use super::{Shell, pause};

const PAYLOAD: &[u8] = b"amount 5\n\xff\0";

fn options() -> LedgerOptions {
    LedgerOptions::new().backoff(Backoff::constant(Duration::from_secs(3_600))).attempts_max(2)
}

/// Ledgers with a record in each state, as a program leaves them that was stopped in the middle of its work.
fn fill(shell: &Shell) {
    let store = Store::open(shell.path("S")).unwrap();
    let payments = store.ledger_with("payments", options()).unwrap();
    let begin = |id: &[u8]| -> Attempt {
        let begin = BeginOptions::new().payload(PAYLOAD).worker("w1").version(3);
        let begin = begin.fingerprint(Fingerprint::of_bytes(id));
        payments.begin_with(id, begin).unwrap().started().unwrap()
    };
    begin(b"done").complete("receipt\n1").unwrap();
    begin(b"binary").complete(b"\xff\x01").unwrap();
    begin(b"refused").fail(Failure::replayed("no such account", "404")).unwrap();
    begin(b"dead-1").fail(Failure::last("card\tis bad")).unwrap();
    begin(b"dead-2\xff").fail(Failure::last("card is gone")).unwrap();
    begin(b"waiting").fail(Failure::retry("no answer")).unwrap();
    let running = begin(b"running");
    let outlives = options().lease(Duration::from_secs(3_600)).lease_outlives_process(true);
    let outlives = store.ledger_with("payments", outlives).unwrap();
    let elsewhere = outlives.begin("elsewhere").unwrap().started().unwrap();
    let cancelled = payments.begin("cancelled").unwrap().started().unwrap();
    payments.cancel("cancelled", "by hand").unwrap().unwrap();
    let strict = options().lease(Duration::from_millis(1)).on_lease_end(OnLeaseEnd::Hold);
    let strict = store.ledger_with("payments", strict).unwrap();
    let held = strict.begin("held").unwrap().started().unwrap();
    pause(Duration::from_millis(30));
    assert!(strict.begin("held").unwrap().started().is_none());
    let mails = store.ledger_with("mails", options().attempts_max(1)).unwrap();
    mails.begin("mail-1").unwrap().started().unwrap().fail(Failure::retry("no route")).unwrap();
    assert!(store.namespace("plain").unwrap().claim("claimed").unwrap().is_first_seen());
    store.close().unwrap();
    // They cannot say anything any more.
    drop((running, elsewhere, cancelled, held));
}

fn filled() -> Shell {
    let shell = Shell::new();
    fill(&shell);
    shell
}

impl Shell {
    /// The ids that a list prints, sorted.
    fn ids(&self, line: &str) -> Vec<String> {
        let objects = self.objects(line);
        let id = |object: &Value| {
            let id = object["id"].as_str().or(object["id_hex"].as_str());
            id.unwrap().to_owned()
        };
        let mut ids: Vec<String> = objects.iter().map(id).collect();
        ids.sort();
        ids
    }
}

/// `dead-2\xff`.
const DEAD_2: &str = "646561642d32ff";

#[test]
fn records_are_listed_by_ledger_and_state() {
    let shell = filled();
    let all = shell.ids("ledger list");
    assert_eq!(all.len(), 11, "{all:?}");
    assert_eq!(shell.ids("ledger list --ledger mails"), ["mail-1"]);
    assert_eq!(shell.ids("ledger list --ledger plain"), [""; 0], "claims are no records");
    for (state, ids) in [
        ("running", &["elsewhere"][..]),
        ("lease-ended", &["running"]),
        ("waiting", &["waiting"]),
        ("held", &["held"]),
        ("completed", &["binary", "done", "refused"]),
        ("dead", &[DEAD_2, "cancelled", "dead-1", "mail-1"]),
    ] {
        let listed = shell.ids(&format!("ledger list --state {state}"));
        assert_eq!(listed, ids, "{state}");
    }
    assert_eq!(shell.ids("ledger list --limit 3").len(), 3);
    assert_eq!(shell.ids("ledger list --limit 9 --state dead").len(), 4);
    assert_eq!(shell.ids("ledger list --limit 0").len(), 0);
}

#[test]
fn people_see_a_table_whose_columns_are_aligned() {
    let shell = filled();
    let ended = shell.words("ledger list --ledger payments");
    assert_eq!(ended.code, 0, "{ended:?}");
    let lines: Vec<&str> = ended.out().lines().collect();
    assert_eq!(lines.len(), 11);
    let (state, id) = (lines[0].find("STATE").unwrap(), lines[0].find("ID").unwrap());
    let line = |id: &str| *lines.iter().find(|line| line.contains(id)).unwrap();
    assert!(lines[0].starts_with("LEDGER    STATE"), "{}", ended.out());
    assert!(line("  held")[state..].starts_with("held "), "{}", ended.out());
    assert!(line("done")[id..].starts_with("done"), "{}", ended.out());
    assert!(line("refused").ends_with("with a failure"), "{}", ended.out());
    assert!(line("waiting").contains("next attempt from 20"), "{}", ended.out());
    assert!(line(DEAD_2)[id..].starts_with("0x6465"), "{}", ended.out());
    assert!(line("elsewhere").contains("lease until 20"), "{}", ended.out());
    let ended = shell.words("dead-letter list --ledger payments");
    assert!(ended.out().contains("card\\tis bad"), "no control character: {ended:?}");
    assert!(ended.out().contains(" cancelled  1         cancelled         by hand\n"), "{ended:?}");
    let ended = shell.words("dead-letter list --ledger plain");
    assert_eq!((ended.code, ended.out().lines().count()), (0, 1), "the titles");
}

#[test]
fn show_tells_all_of_a_record() {
    let shell = filled();
    let shown = shell.object("ledger show dead-1 --ledger payments");
    for (field, value) in [
        ("ledger", Value::from("payments")),
        ("id", "dead-1".into()),
        ("state", "dead".into()),
        ("cause", "final".into()),
        ("attempts", 1.into()),
        ("redrives", 0.into()),
        ("worker", "w1".into()),
        ("version", 3.into()),
        ("fingerprint", Fingerprint::of_bytes("dead-1").to_string().into()),
        ("has_payload", true.into()),
        ("payload_bytes", PAYLOAD.len().into()),
        ("token", 0.into()),
        ("ends", Value::Null),
        ("until", Value::Null),
        ("result", Value::Null),
    ] {
        assert_eq!(shown[field], value, "{field}");
    }
    assert!(shown["since"].as_u64() >= shown["first_begun"].as_u64(), "{shown}");
    assert!(shown["since_utc"].as_str().unwrap().ends_with('Z'), "{shown}");
    let past = &shown["history"][0];
    assert_eq!((&past["end"], &past["worker"]), (&"final".into(), &"w1".into()));
    assert_eq!(past["reason"], "card\tis bad");
    assert!(past["ended"].as_u64() >= past["started"].as_u64() && past["token"].as_u64() > Some(0));
    let ended = shell.words("ledger show dead-1 --ledger payments");
    for part in ["dead: failed for good", "w1", "card\\tis bad", "11 bytes", "REASON"] {
        assert!(ended.out().contains(part), "no {part:?} in {}", ended.out());
    }
}

/// What shows as running is what `settle` refuses, and nothing else.
#[test]
fn what_no_attempt_works_on_any_more_is_not_shown_as_running() {
    let shell = filled();
    let shown = shell.object("ledger show running --ledger payments");
    assert_eq!((&shown["state"], &shown["until"]), (&"lease-ended".into(), &Value::Null));
    let ended = shell.words("ledger show running --ledger payments");
    assert!(ended.out().contains("its lease has ended"), "{ended:?}");
    assert!(!ended.out().contains("lease until"), "{ended:?}");
    let ended = shell.words("ledger list --state lease-ended");
    assert!(ended.out().contains("  lease-ended  "), "{ended:?}");
    let shown = shell.object("ledger show elsewhere --ledger payments");
    assert_eq!(shown["state"], "running");
    assert!(shown["until"].as_u64() > shown["first_begun"].as_u64(), "{shown}");
    let ended = shell.words("ledger show elsewhere --ledger payments");
    assert!(
        ended.out().contains("in progress") && ended.out().contains("lease until"),
        "{ended:?}"
    );
    for (id, code) in [("running", 0), ("elsewhere", 1)] {
        let line = format!("ledger settle {id} --ledger payments --result r --reason found");
        let ended = shell.words(&line);
        assert_eq!(ended.code, code, "{ended:?}");
    }
}

#[test]
fn a_limit_that_is_no_number_is_told_what_a_limit_is() {
    let shell = filled();
    for line in ["ledger list", "dead-letter list", "outbox list", "table scan t", "offsets"] {
        for limit in ["-1", "x", "-x", "1.5"] {
            let ended = shell.words(&format!("{line} --limit {limit}"));
            assert_eq!(ended.code, 2, "{line} {limit}: {ended:?}");
            let told = String::from_utf8_lossy(ended.err.as_bytes()).into_owned();
            assert!(told.contains("a limit is a whole number, at least 1"), "{line}: {told}");
        }
    }
}

#[test]
fn a_result_is_shown_as_text_or_in_hexadecimal_digits() {
    let shell = filled();
    let shown = shell.object("ledger show done --ledger payments");
    assert_eq!((&shown["result"], &shown["is_failure"]), (&"receipt\n1".into(), &false.into()));
    assert!(shown.get("since").is_none() && shown.get("result_hex").is_none(), "{shown}");
    let shown = shell.object("ledger show binary --ledger payments");
    assert_eq!((&shown["result"], &shown["result_hex"]), (&Value::Null, &"ff01".into()));
    let shown = shell.object("ledger show refused --ledger payments");
    assert_eq!((&shown["result"], &shown["is_failure"]), (&"404".into(), &true.into()));
    for (id, text) in [("done", "receipt\\n1\n"), ("binary", "0xff01\n"), ("refused", " 404\n")] {
        let ended = shell.words(&format!("ledger show {id} --ledger payments"));
        assert!(ended.out().contains(text), "{ended:?}");
    }
}

#[test]
fn what_is_not_there_ends_with_1_and_a_wrong_ledger_with_2() {
    let shell = filled();
    let before = shell.words("stats --json").out;
    for (line, answer) in [
        ("ledger show nobody --ledger payments", "no record\n"),
        ("ledger show dead-1 --ledger mails", "no record\n"),
        ("ledger show nobody --ledger payments --json", ""),
        ("dead-letter show done --ledger payments", "neither dead nor held\n"),
        ("dead-letter show done --ledger payments --json", ""),
        ("dead-letter redrive done --ledger payments", "done is neither dead nor held\n"),
        ("dead-letter purge nobody --ledger payments", "nobody is neither dead nor held\n"),
        ("dead-letter redrive --all --ledger plain", "0 redriven\n"),
        ("dead-letter purge --all --ledger payments --older-than 1d", "0 purged\n"),
    ] {
        let ended = shell.words(line);
        assert_eq!((ended.code, ended.out()), (1, answer), "{line}");
    }
    for line in [
        "ledger list --ledger paymens",
        "ledger show dead-1 --ledger paymens",
        "dead-letter list --ledger paymens",
        "dead-letter show dead-1 --ledger paymens",
        "dead-letter redrive dead-1 --ledger paymens",
        "dead-letter redrive --all --ledger paymens",
        "dead-letter purge --all --ledger paymens",
    ] {
        shell.words(line).complains(2, &["\"paymens\"", "payments"]);
    }
    let after = shell.words("stats --json").out;
    let names =
        |stats: &[u8]| serde_json::from_slice::<Value>(stats).unwrap()["namespaces"].clone();
    assert_eq!(names(&after), names(&before), "a misspelt ledger was made");
}

#[test]
fn a_wrong_call_changes_nothing() {
    let shell = filled();
    for line in [
        "ledger",
        "dead-letter",
        "ledger list --state done",
        "ledger show done",
        "dead-letter list --cause held",
        "dead-letter list --cause final --held",
        "dead-letter list --older-than forever",
        "dead-letter redrive --ledger payments",
        "dead-letter redrive dead-1",
        "dead-letter purge --all",
        "dead-letter purge --ledger payments",
        "dead-letter purge --ledger payments --cause final",
        "dead-letter purge dead-1 --all --ledger payments",
        "dead-letter purge dead-1 --cause cancelled --ledger payments",
        "dead-letter purge --all --hex --ledger payments",
        "dead-letter show dead-1 --ledger payments --json --payload-to -",
        "dead-letter redrive xyz --hex --ledger payments",
    ] {
        let ended = shell.words(line);
        assert_eq!((ended.code, ended.out()), (2, ""), "{line}: {ended:?}");
    }
    assert_eq!(shell.ids("dead-letter list").len(), 4);
}

#[test]
fn dead_letters_are_listed_by_cause_and_age() {
    let shell = filled();
    for (more, ids) in [
        ("", &[DEAD_2, "cancelled", "dead-1", "mail-1"][..]),
        (" --ledger payments", &[DEAD_2, "cancelled", "dead-1"]),
        (" --cause attempts", &["mail-1"]),
        (" --cause final", &[DEAD_2, "dead-1"]),
        (" --cause lease-ended", &[]),
        (" --cause cancelled", &["cancelled"]),
        (" --held", &["held"]),
        (" --older-than 1h", &[]),
        (" --older-than 1ms --limit 9", &[DEAD_2, "cancelled", "dead-1", "mail-1"]),
        (" --limit 0", &[]),
    ] {
        assert_eq!(shell.ids(&format!("dead-letter list{more}")), ids, "{more}");
    }
    let listed = shell.objects("dead-letter list --ledger payments");
    let since = |object: &Value| object["since"].as_u64().unwrap();
    assert!(listed.is_sorted_by_key(since), "the oldest first");
    assert_eq!(shell.ids("dead-letter list --ledger payments --limit 1").len(), 1);
    assert_eq!(shell.ids("dead-letter list --limit 4").len(), 4, "over all ledgers");
}

#[test]
fn a_payload_is_saved_byte_for_byte() {
    let shell = filled();
    let show = "dead-letter show dead-1 --ledger payments";
    let ended = shell.words(&format!("{show} --payload-to -"));
    assert_eq!((ended.code, &ended.out[..]), (0, PAYLOAD));
    shell.write("P", "what was there before is longer");
    let shown = shell.object(&format!("{show} --payload-to P"));
    assert_eq!((&shown["id"], shell.read("P")), (&"dead-1".into(), PAYLOAD.to_vec()));
    let ended = shell.words(&format!("dead-letter show {DEAD_2} --hex --ledger payments"));
    assert!(ended.code == 0 && ended.out().contains("0x646561642d32ff"), "{ended:?}");
    let bare = shell.words("dead-letter show mail-1 --ledger mails --payload-to Q");
    bare.complains(1, &["mail-1 has no payload"]);
    assert!(!shell.path("Q").exists());
    shell.words("dead-letter show done --ledger payments --payload-to -").complains(1, &["done"]);
    shell.words(&format!("{show} --payload-to nowhere/P")).complains(2, &["nowhere/P"]);
}

#[test]
fn what_is_redriven_is_begun_again_by_the_program() {
    let shell = filled();
    let ended = shell.words("dead-letter redrive dead-1 held --ledger payments");
    assert_eq!((ended.code, ended.out()), (0, "dead-1 redriven\nheld redriven\n"));
    let args = ["dead-letter", "redrive", "dead-1", "cancelled", "--json"];
    let ended = shell.run(args.iter().chain(&["--store", "S", "--ledger", "payments"]), "");
    let answers =
        "{\"id\":\"dead-1\",\"redriven\":false}\n{\"id\":\"cancelled\",\"redriven\":true}\n";
    assert_eq!((ended.code, ended.out()), (1, answers), "the others are done all the same");
    let ended = shell.words("dead-letter redrive --all --ledger payments --json --limit 5");
    assert_eq!((ended.code, ended.out()), (0, "{\"redriven\":1,\"failed\":0}\n"));
    assert_eq!(shell.ids("dead-letter list"), ["mail-1"], "of the other ledger");
    let shown = shell.object("ledger show dead-1 --ledger payments");
    assert_eq!((&shown["state"], &shown["redrives"]), (&"waiting".into(), &1.into()));
    let store = Store::open(shell.path("S")).unwrap();
    let payments = store.ledger("payments").unwrap();
    for id in [&b"dead-1"[..], b"dead-2\xff", b"held", b"cancelled"] {
        let begin = BeginOptions::new().version(3);
        let attempt = payments.begin_with(id, begin).unwrap().started().unwrap();
        assert_eq!((attempt.number(), attempt.record().history.len()), (1, 1));
        attempt.complete("").unwrap();
    }
}

#[test]
fn a_fresh_redrive_forgets_the_saved_stages() {
    let shell = Shell::new();
    let store = Store::open(shell.path("S")).unwrap();
    let ledger = store.ledger("orders").unwrap();
    for n in 0..5 {
        let attempt = ledger.begin(format!("order-{n}")).unwrap().started().unwrap();
        attempt.stage("reserve", || Ok::<_, Failure>(n)).unwrap();
        attempt.fail(Failure::last("no stock")).unwrap();
        pause(Duration::from_millis(2));
    }
    drop(ledger);
    store.close().unwrap();
    let ended = shell.words("dead-letter redrive order-0 --ledger orders");
    assert_eq!(ended.code, 0, "{ended:?}");
    let ended = shell.words("dead-letter redrive order-1 --ledger orders --fresh");
    assert_eq!(ended.code, 0, "{ended:?}");
    let ended = shell.words("dead-letter redrive --all --ledger orders --fresh --limit 2");
    assert_eq!((ended.code, ended.out()), (0, "2 redriven\n"));
    assert_eq!(shell.ids("dead-letter list"), ["order-4"], "the oldest were redriven");
    let stages =
        |n| shell.object(&format!("ledger show order-{n} --ledger orders"))["stages"].clone();
    assert_eq!([0, 1, 2, 3, 4].map(stages), [1, 0, 0, 0, 1].map(Value::from));
}

#[test]
fn what_is_purged_counts_as_never_begun() {
    let shell = filled();
    let ended = shell.words("dead-letter purge dead-1 held --ledger payments");
    assert_eq!((ended.code, ended.out()), (0, "dead-1 purged\nheld purged\n"));
    let ended = shell.words("dead-letter purge --all --ledger payments --cause cancelled");
    assert_eq!((ended.code, ended.out()), (0, "1 purged\n"));
    assert_eq!(shell.ids("dead-letter list --ledger payments"), [DEAD_2]);
    let ended = shell.words(&format!("dead-letter purge {DEAD_2} --hex --json --ledger payments"));
    assert_eq!(ended.out(), "{\"id_hex\":\"646561642d32ff\",\"purged\":true}\n");
    assert_eq!(shell.words("ledger show dead-1 --ledger payments").code, 1);
    let alive = ["binary", "done", "elsewhere", "mail-1", "refused", "running", "waiting"];
    assert_eq!(shell.ids("ledger list"), alive);
    let store = Store::open(shell.path("S")).unwrap();
    let attempt = store.ledger("payments").unwrap().begin("dead-1").unwrap().started().unwrap();
    assert_eq!((attempt.payload().unwrap(), attempt.record().history.len()), (None, 0));
}

#[test]
fn what_was_done_after_all_is_settled_and_what_nobody_wants_is_cancelled() {
    let shell = filled();
    let args = |id: &str, more: &[&str]| -> Vec<String> {
        let args = ["ledger", "settle", id, "--store", "S", "--ledger", "payments"];
        args.iter().chain(more).map(|word| (*word).to_owned()).collect()
    };
    let reason = ["--reason", "seen at\nthe bank"];
    let settle = |id: &str, more: &[&str]| shell.run(args(id, &[&reason[..], more].concat()), "");
    for id in ["held", "dead-1", "waiting", "running"] {
        let ended = settle(id, &["--result", "receipt 2"]);
        assert_eq!((ended.code, ended.out()), (0, format!("{id} settled\n").as_str()), "{ended:?}");
    }
    let shown = shell.object("ledger show held --ledger payments");
    assert_eq!((&shown["state"], &shown["result"]), (&"completed".into(), &"receipt 2".into()));
    assert_eq!(shown["ends"], Value::Null);
    let past = shown["history"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&past["end"], &past["reason"]), (&"settled".into(), &reason[1].into()));
    let ended = settle("held", &["--result", "other"]);
    assert_eq!((ended.code, ended.out()), (1, "held is completed\n"), "a result is not replaced");
    let ended = settle(DEAD_2, &["--hex", "--result-hex", "ff00", "--ttl", "7d", "--json"]);
    let told = "{\"id_hex\":\"646561642d32ff\",\"settled\":true,\"state\":\"completed\"}\n";
    assert_eq!((ended.code, ended.out()), (0, told));
    let shown = shell.object(&format!("ledger show {DEAD_2} --hex --ledger payments"));
    assert!(shown["result_hex"] == "ff00" && shown["ends"].is_u64(), "{shown}");
    let large = "ff".repeat(30_000);
    let ended = settle("cancelled", &["--result-hex", &large, "--json"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(shell.ids("dead-letter list --ledger payments"), [""; 0]);
    let store = Store::open(shell.path("S")).unwrap();
    let mails = store.ledger("mails").unwrap();
    mails.cancel("mail-1", "unwanted").unwrap();
    drop((mails, store));
    let ended =
        shell.words("ledger settle mail-1 --ledger mails --result sent --as-value --reason x");
    assert_eq!((ended.code, ended.out()), (0, "mail-1 settled\n"), "{ended:?}");
    let store = Store::open(shell.path("S")).unwrap();
    let work = |_: &Attempt| -> Result<String, Failure> { panic!("is not called") };
    let ran = store.ledger("mails").unwrap().run("mail-1", work).unwrap();
    assert_eq!(ran.value().as_deref(), Some("sent"));
    drop(store);
    let ended = settle("nobody", &["--result", "", "--json"]);
    let told = "{\"id\":\"nobody\",\"settled\":false,\"state\":null}\n";
    assert_eq!((ended.code, ended.out()), (1, told));

    let shell = filled();
    for id in ["held", "waiting", "running"] {
        let ended = shell.words(&format!("ledger cancel {id} --ledger payments --reason unwanted"));
        assert_eq!((ended.code, ended.out()), (0, format!("{id} cancelled\n").as_str()));
    }
    let cancelled = ["cancelled", "held", "running", "waiting"];
    assert_eq!(shell.ids("dead-letter list --cause cancelled"), cancelled);
    let shown = shell.object("dead-letter show held --ledger payments");
    assert_eq!(shown["history"].as_array().unwrap().last().unwrap()["reason"], "unwanted");
    for (id, told) in [
        ("done", "done is completed\n"),
        ("dead-1", "dead-1 is dead: failed for good\n"),
        ("nobody", "no record\n"),
    ] {
        let ended = shell.words(&format!("ledger cancel {id} --ledger payments --reason x"));
        assert_eq!((ended.code, ended.out()), (1, told));
    }
    let cancel = "ledger cancel mail-1 --ledger mails --reason x --json";
    let told = "{\"id\":\"mail-1\",\"cancelled\":false,\"state\":\"dead\"}\n";
    assert_eq!(shell.words(cancel).out(), told);
    for line in [
        "ledger settle held --ledger payments --result x",
        "ledger settle held --ledger payments --reason x",
        "ledger settle held --ledger payments --reason x --result x --result-hex 00",
        "ledger settle held --ledger payments --reason x --as-value --result-hex 00",
        "ledger settle done --ledger payments --reason x --result-hex 0",
        "ledger settle done --ledger paymens --reason x --result x",
        "ledger settle done --ledger payments --reason x --result x --ttl 0s",
        "ledger cancel done --ledger payments",
        "ledger cancel --ledger payments --reason x",
    ] {
        let ended = shell.words(line);
        assert_eq!((ended.code, ended.out()), (2, ""), "{line}: {ended:?}");
    }
}

/// Ledgers with a record and a dead letter that cannot be decoded, and others that can.
fn damaged() -> Shell {
    let shell = filled();
    let store = Store::open(shell.path("S")).unwrap();
    // The table of rows is that of the default namespace.
    let ledger = store.ledger("default").unwrap();
    for n in 0..5 {
        let attempt = ledger.begin(format!("id-{n}")).unwrap().started().unwrap();
        attempt.fail(Failure::last("bad")).unwrap();
    }
    Table::of(&store, 1).put(b"id-1", b"nonsense").unwrap();
    Table::of(&store, 4).put(b"id-3", b"nonsense").unwrap();
    drop(ledger);
    store.close().unwrap();
    shell
}

#[test]
fn a_list_goes_on_after_what_cannot_be_read_and_says_so_at_its_end() {
    let shell = damaged();
    for (line, count, complaints) in [
        ("ledger list", 15, &["id-1"][..]),
        ("ledger list --ledger default", 4, &["id-1"]),
        ("dead-letter list", 7, &["id-1", "id-3"]),
        ("dead-letter list --ledger default", 3, &["id-1", "id-3"]),
    ] {
        for (json, titles) in [("", 1), (" --json", 0)] {
            let ended = shell.words(&format!("{line}{json}"));
            assert_eq!(ended.code, 3, "{line}: {ended:?}");
            assert_eq!(ended.out().lines().count(), count + titles, "{line}: {ended:?}");
            assert_eq!(ended.err.lines().count(), complaints.len(), "{line}: {ended:?}");
            for id in complaints {
                assert!(ended.err.contains(id), "{line}: {ended:?}");
            }
        }
    }
    assert_eq!(shell.ids("ledger list --ledger payments").len(), 10, "another ledger is whole");
    let ended = shell.words("ledger show id-3 --ledger default --json");
    ended.complains(3, &["id-3"]);
    assert!(ended.out().contains("\"cause\":\"final\""), "the record could be read: {ended:?}");
    let ended = shell.words("dead-letter redrive --all --ledger default --json");
    assert_eq!((ended.code, ended.out()), (3, "{\"redriven\":3,\"failed\":2}\n"));
    let ended = shell.words("dead-letter redrive id-3 --ledger default");
    assert_eq!((ended.code, ended.out()), (0, "id-3 redriven\n"), "by itself");
}

#[test]
fn a_list_of_more_than_a_page_is_complete() {
    let shell = Shell::new();
    let store = Store::open(shell.path("S")).unwrap();
    let ledger = store.ledger("many").unwrap();
    for n in 0..4_500 {
        let attempt = ledger.begin(format!("id-{n}")).unwrap().started().unwrap();
        attempt.fail(Failure::last("bad")).unwrap();
    }
    drop(ledger);
    store.close().unwrap();
    for list in ["dead-letter list", "ledger list"] {
        let mut ids = shell.ids(list);
        ids.dedup();
        assert_eq!(ids.len(), 4_500, "{list}");
        let ended = shell.words(list);
        assert_eq!((ended.code, ended.out().lines().count()), (0, 4_501), "{list}");
        let mut command = shell.command(list.split(' ').chain(["--store", "S", "--json"]));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!((ended.status.code(), said.as_str()), (Some(141), ""), "{list}: a closed pipe");
    }
    assert_eq!(shell.ids("dead-letter list --limit 4200").len(), 4_200);
    let ended = shell.words("dead-letter redrive --all --fresh --ledger many");
    assert_eq!(ended.out(), "4,500 redriven\n");
}

#[test]
fn a_store_in_use_is_not_touched() {
    let shell = filled();
    let _store = Store::open(shell.path("S")).unwrap();
    for line in [
        "ledger list",
        "ledger show done --ledger payments",
        "dead-letter list",
        "dead-letter show dead-1 --ledger payments",
        "dead-letter redrive --all --ledger payments",
        "dead-letter purge dead-1 --ledger payments --wait 10ms",
        "ledger settle held --ledger payments --result x --reason x",
        "ledger cancel held --ledger payments --reason x",
    ] {
        shell.words(line).complains(3, &["is open in another process", "--wait"]);
    }
}

#[test]
fn help_and_man_pages_document_the_fields_and_every_option() {
    let shell = filled();
    let shown = shell.object("dead-letter show dead-1 --ledger payments");
    for command in ["ledger list", "ledger show", "dead-letter list", "dead-letter show"] {
        let help = shell.run(command.split(' ').chain(["--help"]), "");
        let page = shell.run(["man"].into_iter().chain(command.split(' ')), "");
        assert_eq!((help.code, page.code), (0, 0), "{command}");
        for field in shown.as_object().unwrap().keys().filter(|field| !field.ends_with("_utc")) {
            assert!(help.out().contains(&format!("  {field} ")), "{command}: {field}");
            assert!(page.out().contains(field.as_str()), "{command}: {field}");
        }
    }
    for (command, options) in [
        ("ledger list", &["ledger", "state", "limit", "json", "wait"][..]),
        (
            "ledger settle",
            &["ledger", "hex", "result", "result-hex", "as-value", "reason", "ttl", "json", "wait"],
        ),
        ("ledger cancel", &["ledger", "hex", "reason", "ttl", "json", "wait"]),
        ("dead-letter list", &["ledger", "cause", "held", "older-than", "limit", "json"]),
        ("dead-letter show", &["ledger", "hex", "payload-to", "json"]),
        ("dead-letter redrive", &["all", "fresh", "ledger", "cause", "held", "older-than", "hex"]),
        ("dead-letter purge", &["all", "ledger", "cause", "held", "older-than", "limit"]),
    ] {
        let help = shell.run(command.split(' ').chain(["--help"]), "");
        let page = shell.run(["man"].into_iter().chain(command.split(' ')), "");
        for option in options {
            assert!(help.out().contains(&format!("--{option}")), "{command}: {option}");
            assert!(page.out().contains(&option.replace('-', "\\-")), "{command}: {option}");
        }
    }
    for name in ["bash", "zsh", "fish"] {
        let script = shell.run(["completions", name], "");
        for word in ["dead-letter", "redrive", "payload-to", "lease-ended", "result-hex"] {
            assert!(script.out().contains(word), "{name}: {word}");
        }
    }
    shell.run(["man", "ledger", "lst"], "").complains(2, &["lst"]);
}
