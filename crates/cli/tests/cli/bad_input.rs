//! Lines without a usable id: a clear error with file and line, and nothing lost.

use super::Shell;

#[test]
fn an_error_names_file_and_line_and_the_lines_before_are_done() {
    let shell = Shell::new();
    shell.write("events", "{\"id\":1}\n{\"id\":2}\n{\"id\":\n{\"id\":3}\n");
    let ended = shell.dedup(&["--key", "/id", "events"], "");
    ended.complains(3, &["events:3: ", "not JSON"]);
    assert_eq!(ended.out(), "{\"id\":1}\n{\"id\":2}\n");
    shell.write("events", "{\"id\":1}\n{\"id\":2}\n{\"id\":3}\n");
    assert_eq!(shell.prints(&["--key", "/id", "events"], ""), "{\"id\":3}\n");
}

#[test]
fn an_error_is_said_once() {
    let shell = Shell::new();
    let ended = shell.dedup(&["--key", "/id"], "{\"id\":1}\n{}\n");
    assert_eq!(ended.err.matches("there is no /id").count(), 1, "{ended:?}");
    let ended = shell.dedup(&["--key", "/id", "--on-bad-input", "drop"], "{}\n");
    assert_eq!(ended.err.matches("there is no /id").count(), 1, "{ended:?}");
}

#[test]
fn each_kind_of_bad_input_is_named() {
    let long = "x".repeat(1025);
    for (more, line, why) in [
        (&[][..], "", "the line is empty; --skip-empty"),
        (&["--max-id", "1K"], long.as_str(), "the id has 1025 bytes"),
        (&["--field", "2"], "a", "there is no field 2"),
        (&["--field", "2"], "a\t\tb", "the id is empty"),
        (&["--key", "/id"], "plain", "not JSON"),
        (&["--key", "/id"], "", "the line is empty"),
        (&["--key", "/id"], "{}", "there is no /id"),
        (&["--key", "/id"], "{\"id\":null}", "/id is null"),
        (&["--key", "/id"], "{\"id\":true}", "/id is a boolean"),
        (&["--key", "/id"], "{\"id\":{}}", "/id is an object"),
        (&["--key", "/id"], "{\"id\":[]}", "/id is an array"),
        (&["--key", "/id"], "{\"id\":\"\"}", "the id is empty"),
    ] {
        let shell = Shell::new();
        let input = format!("{line}\n");
        let ended = shell.dedup(more, &input);
        ended.complains(3, &["(standard input):1: ", why]);
        assert!(ended.out.is_empty());

        let mut pass = more.to_vec();
        pass.extend(["--on-bad-input", "pass", "--json"]);
        for _ in 0..2 {
            let ended = shell.dedup(&pass, &input);
            assert_eq!((ended.code, ended.out()), (0, input.as_str()));
            let summary = ended.summary();
            assert_eq!(summary["bad"], 1);
            assert!(summary["first_bad"].as_str().is_some_and(|text| text.contains(why)));
        }
    }
}

#[test]
fn bad_lines_keep_their_place_when_passed_on() {
    let shell = Shell::new();
    let more = &["--on-bad-input", "pass", "--duplicates-to", "dups"];
    assert_eq!(shell.prints(more, "a\n\nb\na\n\nc\n"), "a\n\nb\n\nc\n");
    assert_eq!(shell.read("dups"), b"a\n");
}

#[test]
fn bad_lines_are_dropped_and_counted() {
    let shell = Shell::new();
    let ended = shell.dedup(&["--on-bad-input", "drop", "--json"], "a\n\nb\na\n\n");
    assert_eq!((ended.code, ended.out()), (0, "a\nb\n"));
    let summary = ended.summary();
    assert_eq!(summary["lines"], 5);
    assert_eq!(summary["first_seen"], 2);
    assert_eq!(summary["duplicates"], 1);
    assert_eq!(summary["bad"], 2);
    assert_eq!(summary["first_bad"].as_str().unwrap()[..21], *"(standard input):2: t");
}

#[test]
fn the_longest_id_is_no_bad_input() {
    let shell = Shell::new();
    let line = format!("{}\n", "x".repeat(1024));
    assert_eq!(shell.prints(&[], line.repeat(2)), line);
}

#[test]
fn a_line_number_of_csv_counts_lines_and_not_records() {
    let shell = Shell::new();
    shell.write("f.csv", "id,x\n1,\"a\nb\nc\"\n,empty\n");
    let ended = shell.dedup(&["--csv", "id", "f.csv"], "");
    ended.complains(3, &["f.csv:5: ", "the id is empty"]);
    assert_eq!(ended.out(), "id,x\n1,\"a\nb\nc\"\n");
}

#[test]
fn a_quote_that_never_closes_is_found_where_it_opens() {
    let shell = Shell::new();
    let input = "id,x\n1,a\n2,\"open\n3,b\n";
    let ended = shell.dedup(&["--csv", "id"], input);
    ended.complains(3, &["(standard input):3: ", "never closed"]);
    let ended = shell.dedup(&["--csv", "id", "--on-bad-input", "pass"], input);
    assert_eq!((ended.code, ended.out()), (0, "id,x\n2,\"open\n3,b\n"));
}

#[test]
fn line_numbers_begin_anew_in_each_file() {
    let shell = Shell::new();
    shell.write("one", "a\nb\n");
    shell.write("two", "c\n\n");
    shell.dedup(&["one", "two"], "").complains(3, &["two:2: "]);
}

#[test]
fn with_json_an_error_is_part_of_the_one_object() {
    let shell = Shell::new();
    let ended = shell.dedup(&["--json"], "a\n\n");
    assert_eq!((ended.code, ended.out()), (3, "a\n"));
    let summary = ended.summary();
    assert_eq!(summary["lines"], 2);
    assert_eq!(summary["bad"], 1);
    assert!(summary["error"].as_str().unwrap().starts_with("(standard input):2: "));
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let shell = Shell::new();
    shell.write("\u{1b}[31m\n", "\n");
    let ended = shell.dedup(&["\u{1b}[31m\n"], "");
    ended.complains(3, &["\\u{1b}[31m :1: "]);
}
