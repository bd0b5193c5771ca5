//! Options that users of `anew`, `huniq`, `qsv`, `uniq` and `SET NX` look for.

use super::{Shell, pause};
use std::time::Duration;

#[test]
fn a_dry_run_answers_and_claims_nothing() {
    let shell = Shell::new();
    assert_eq!(shell.prints(&["--dry-run"], "a\na\nb\n"), "a\nb\n");
    assert!(!shell.path("S").exists(), "a dry run has made a store");
    shell.prints(&[], "a\n");
    for more in [&["--dry-run"][..], &["--dry-run", "--sliding", "--ttl", "1h"]] {
        assert_eq!(shell.prints(more, "a\nb\nb\n"), "b\n");
    }
    assert_eq!(shell.prints(&["--dry-run", "--namespace", "new"], "a\n"), "a\n");
    shell.run(["get", "a", "--store", "S", "--namespace", "new"], "").complains(2, &["new"]);
    assert_eq!(shell.prints(&[], "a\nb\n"), "b\n");
}

#[test]
fn sliding_moves_the_end_of_a_claim() {
    let shell = Shell::new();
    let deadline = || {
        let ended = shell.run(["get", "a", "--store", "S", "--json"], "");
        serde_json::from_str::<serde_json::Value>(ended.out()).unwrap()["deadline"].as_u64()
    };
    shell.prints(&["--ttl", "1h"], "a\n");
    let first = deadline();
    pause(Duration::from_millis(20));
    shell.prints(&["--ttl", "1h"], "a\n");
    assert_eq!(deadline(), first);
    shell.prints(&["--ttl", "1h", "--sliding"], "a\n");
    assert!(deadline() > first);
}

#[test]
fn repeated_prints_the_others_and_claims_all_the_same() {
    let shell = Shell::new();
    assert_eq!(shell.prints(&["--repeated"], "a\nb\na\na\n"), "a\na\n");
    assert_eq!(shell.prints(&[], "a\nb\nc\n"), "c\n");
    assert_eq!(shell.dedup(&["--repeated", "--duplicates-to", "D"], "").code, 2);
}

#[test]
fn count_says_how_often_a_new_id_came() {
    let shell = Shell::new();
    shell.prints(&[], "old\n");
    let mut input = "old\nb\na\nb\n".to_owned();
    input.push_str(&"a\n".repeat(20_000)); // more than one batch
    input.push_str("last");
    let text = shell.prints(&["--count"], &input);
    assert_eq!(text, "      2 b\n  20001 a\n      1 last");
    assert_eq!(shell.prints(&["--count"], &input), "", "they are claimed");
    assert_eq!(shell.prints(&["--count", "--dry-run"], "x\nx\n"), "      2 x\n");
    assert_eq!(shell.prints(&["--count"], "x\n"), "      1 x\n");
}

#[test]
fn quiet_says_nothing_but_errors() {
    let shell = Shell::new();
    let ended = shell.dedup(&["--quiet"], "a\n");
    assert_eq!((ended.code, ended.out(), ended.err.as_str()), (0, "a\n", ""));
    shell.dedup(&["-q"], "b\n\n").complains(3, &["empty"]);
}

#[test]
fn csv_without_a_header_line_goes_by_number() {
    let shell = Shell::new();
    let input = "1,x\n2,y\n1,z\n";
    assert_eq!(shell.prints(&["--csv", "1", "--no-header"], input), "1,x\n2,y\n");
    shell.dedup(&["--csv", "id", "--no-header"], input).complains(2, &["number", "id"]);
    shell.dedup(&["--csv", "0", "--no-header"], input).complains(2, &["number", "0"]);
    assert_eq!(shell.dedup(&["--no-header"], input).code, 2);
}

#[test]
fn a_csv_file_of_duplicates_has_its_header_once() {
    let shell = Shell::new();
    let args = ["--csv", "id", "--duplicates-to", "D"];
    shell.prints(&args, "id,x\n1,a\n1,b\n");
    assert_eq!(shell.read("D"), b"id,x\n1,b\n");
    shell.prints(&args, "id,x\n1,c\n");
    assert_eq!(shell.read("D"), b"id,x\n1,b\n1,c\n");
}

#[test]
fn claim_is_set_nx() {
    let shell = Shell::new();
    let claim = |more: &[&str]| shell.run(["claim", "--store", "S"].iter().chain(more), "");
    let ended = claim(&["a"]);
    assert_eq!((ended.code, ended.out()), (0, "first seen\n"));
    let ended = claim(&["a"]);
    assert_eq!(ended.code, 1);
    assert!(ended.out().starts_with("duplicate, first seen 20"), "{ended:?}");
    let ended = claim(&["b", "a", "b", "--json"]);
    let claimed: Vec<bool> = (ended.out().lines())
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["claimed"] == true)
        .collect();
    assert_eq!((ended.code, claimed), (1, vec![true, false, false]));
    assert_eq!(claim(&["--hex", "00ff", "--namespace", "n", "--ttl", "1h"]).code, 0);
    assert_eq!(claim(&[]).code, 2);
    claim(&[""]).complains(2, &["empty"]);
}

#[test]
fn a_namespace_that_is_not_there_is_a_wrong_call() {
    let shell = Shell::new();
    shell.prints(&["--namespace", "payments"], "a\n");
    for args in [&["get", "a"][..], &["forget", "a"], &["forget", "--all"], &["export"]] {
        let args = args.iter().chain(&["--store", "S", "--namespace", "paymens"]);
        shell.run(args, "").complains(2, &["\"paymens\"", "default, payments"]);
    }
}

#[test]
fn a_whole_namespace_is_forgotten_and_no_other() {
    let shell = Shell::new();
    let many: String = (0..5000).map(|n| n.to_string() + "\n").collect();
    shell.prints(&["--namespace", "n"], &many);
    shell.prints(&[], "1\n");
    let forget = || shell.run(["forget", "--all", "--namespace", "n", "--store", "S"], "");
    let ended = forget();
    assert_eq!((ended.code, ended.out()), (0, "5,000 forgotten\n"));
    assert_eq!((forget().code, shell.prints(&[], "1\n").as_str()), (1, ""));
    assert_eq!(shell.prints(&["--namespace", "n"], &many), many);
    assert_eq!(shell.run(["forget", "--all", "--store", "S"], "").code, 2);
}

#[test]
fn completions_and_man_pages_name_what_there_is() {
    let shell = Shell::new();
    for name in ["bash", "zsh", "fish"] {
        let ended = shell.run(["completions", name], "");
        assert!(ended.code == 0 && ended.out().contains("dry-run"), "{name}: {}", ended.err);
    }
    let page = shell.run(["man"], "");
    assert!(page.out().starts_with(".ie") && page.out().contains("dedup"), "{page:?}");
    assert!(shell.run(["man", "dedup"], "").out().contains("duplicates"), "the page of dedup");
    shell.run(["man", "dedpu"], "").complains(2, &["dedpu"]);
}
