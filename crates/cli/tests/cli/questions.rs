//! `get`, `forget`, `stats`, `verify`, `repair`: output and exit codes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use super::Shell;

#[test]
fn get_says_seen_or_not() {
    let shell = Shell::new();
    shell.prints(&[], "a\n");
    let ended = shell.run(["get", "a", "--store", "S"], "");
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.out().starts_with("first seen  20"), "{ended:?}");
    assert!(ended.out().contains("forever"), "{ended:?}");
    let ended = shell.run(["get", "b", "--store", "S"], "");
    assert_eq!((ended.code, ended.out()), (1, "not seen\n"));
}

#[test]
fn get_answers_programs() {
    let shell = Shell::new();
    shell.prints(&["--ttl", "1h"], "short\n");
    shell.prints(&[], "long\n");
    let get = |id: &str| {
        let ended = shell.run(["get", "--json", "--store", "S", id], "");
        serde_json::from_str::<serde_json::Value>(ended.out()).unwrap()
    };
    let short = get("short");
    let first_seen = short["first_seen"].as_u64().unwrap();
    assert_eq!(short["seen"], true);
    assert_eq!(short["deadline"].as_u64().unwrap(), first_seen + 3_600_000);
    assert!(short["first_seen_utc"].as_str().unwrap().ends_with('Z'));
    assert!(get("long")["deadline"].is_null());
    assert_eq!(get("other")["seen"], false);
}

#[test]
fn an_id_is_the_bytes_of_the_argument() {
    let shell = Shell::new();
    shell.dedup(&[], b"--help\n\xff\xfe\nx\0y\n");
    let raw = OsStr::from_bytes(b"\xff\xfe");
    let args = |id| [OsStr::new("get"), OsStr::new("--store"), OsStr::new("S"), id];
    assert_eq!(shell.run(args(raw), "").code, 0);
    assert_eq!(shell.run(["get", "--store", "S", "--hex", "fffe"], "").code, 0);
    assert_eq!(shell.run(["get", "--store", "S", "--hex", "780079"], "").code, 0);
    assert_eq!(shell.run(["get", "--store", "S", "--hex", "fffd"], "").code, 1);
    assert_eq!(shell.run(["get", "--store", "S", "--", "--help"], "").code, 0);
    shell.run(["get", "--store", "S", "--hex", "xyz"], "").complains(2, &["hexadecimal"]);
}

#[test]
fn ids_that_cannot_be_are_a_wrong_call() {
    let shell = Shell::new();
    shell.prints(&[], "a\n");
    for question in ["get", "forget"] {
        shell.run([question, "--store", "S", ""], "").complains(2, &["the id is empty"]);
    }
}

#[test]
fn a_forgotten_id_is_printed_again() {
    let shell = Shell::new();
    shell.prints(&[], "a\nb\n");
    let forget = || shell.run(["forget", "a", "--store", "S"], "");
    assert_eq!((forget().code, forget().code), (0, 1));
    assert_eq!(shell.prints(&[], "a\nb\n"), "a\n");
    let ended = shell.run(["forget", "a", "--store", "S", "--json"], "");
    assert_eq!((ended.code, ended.out()), (0, "{\"forgotten\":true}\n"));
}

#[test]
fn get_and_forget_look_into_one_namespace() {
    let shell = Shell::new();
    shell.prints(&["--namespace", "n"], "a\n");
    assert_eq!(shell.run(["get", "a", "--store", "S"], "").code, 1);
    assert_eq!(shell.run(["forget", "a", "--store", "S"], "").code, 1);
    assert_eq!(shell.run(["get", "a", "--store", "S", "--namespace", "n"], "").code, 0);
    assert_eq!(shell.run(["forget", "a", "--store", "S", "--namespace", "n"], "").code, 0);
}

#[test]
fn stats_verify_and_repair_answer_people_and_programs() {
    let shell = Shell::new();
    shell.prints(&[], "a\nb\n");
    for question in ["stats", "verify", "repair"] {
        let ended = shell.run([question, "--store", "S"], "");
        assert_eq!(ended.code, 0, "{question}: {ended:?}");
        assert!(!ended.out.is_empty(), "{question}");
        let ended = shell.run([question, "--store", "S", "--json"], "");
        assert_eq!(ended.code, 0, "{question}: {ended:?}");
        let answer: serde_json::Value = serde_json::from_str(ended.out()).unwrap();
        assert!(answer.is_object(), "{question}");
    }
    assert_eq!(shell.prints(&[], "a\nb\nc\n"), "c\n");
}

#[test]
fn a_question_creates_no_store() {
    let shell = Shell::new();
    for args in [
        &["get", "a", "--store", "S"][..],
        &["forget", "a", "--store", "S"],
        &["stats", "--store", "S"],
        &["verify", "--store", "S"],
        &["repair", "--store", "S"],
        &["snapshot", "--to", "copies", "--store", "S"],
        &["export", "--store", "S"],
        &["ledger", "list", "--store", "S"],
        &["dead-letter", "list", "--store", "S"],
        &["dead-letter", "purge", "--all", "--ledger", "l", "--store", "S"],
        &["table", "get", "t", "a", "--store", "S"],
        &["table", "scan", "t", "--store", "S"],
        &["offsets", "--store", "S"],
        &["outbox", "list", "--store", "S"],
        &["outbox", "ack", "--through", "1", "--topic", "t", "--store", "S"],
        &["prepared", "list", "--store", "S"],
        &["prepared", "commit", "g", "--store", "S"],
        &["replay", "list", "--store", "S"],
        &["replay", "drop", "r", "--store", "S"],
        &["history", "a", "--store", "S"],
    ] {
        shell.run(args, "").complains(2, &["S is not a firstseen store"]);
        assert!(!shell.path("S").exists(), "{args:?}");
    }
}

#[test]
fn help_and_version_are_data() {
    let shell = Shell::new();
    for args in [&["--help"][..], &["--version"], &["dedup", "--help"], &["import", "-h"]] {
        let ended = shell.run(args, "");
        assert_eq!(ended.code, 0, "{args:?}");
        assert!(ended.out().contains("firstseen") && ended.err.is_empty(), "{args:?}");
    }
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    let shell = Shell::new();
    for args in [&[][..], &["dedpu"], &["dedup"], &["get", "--store", "S"], &["stats", "S"]] {
        assert_eq!(shell.run(args, "").code, 2, "{args:?}");
    }
}
