//! Where to find the id in a line: fields, JSON pointers, CSV columns.

use super::Shell;

#[test]
fn a_field_is_the_id() {
    let shell = Shell::new();
    let input = "1\tx\ta\n2\tx\tb\n3\ty\ta\n";
    assert_eq!(shell.prints(&["--field", "2"], input), "1\tx\ta\n3\ty\ta\n");
    let spaced = &["--field", "3", "--delimiter", " ", "--namespace", "spaced"];
    assert_eq!(shell.prints(spaced, "1 x a\n2 x b\n3 y a\n"), "1 x a\n2 x b\n");
    let escaped = &["--field", "1", "--delimiter", "\\t", "--namespace", "escaped"];
    assert_eq!(shell.prints(escaped, input), input);
}

#[test]
fn an_id_is_the_same_wherever_it_stands() {
    let shell = Shell::new();
    assert_eq!(shell.prints(&[], "evt-1\n"), "evt-1\n");
    assert_eq!(shell.prints(&["--field", "2"], "x\tevt-1\n"), "");
    assert_eq!(shell.prints(&["--key", "/id"], "{\"id\":\"evt-1\"}\n"), "");
    assert_eq!(shell.prints(&["--key", "/id"], "{\"id\":\"\\u0065vt-1\"}\n"), "");
    assert_eq!(shell.prints(&["--csv", "id"], "id,x\n\"evt-1\",1\n"), "id,x\n");
}

#[test]
fn a_json_value_is_the_id() {
    let shell = Shell::new();
    let input = concat!(
        "{\"event\": {\"id\": \"a\"}, \"n\": 1}\n",
        "{ \"n\":2, \"event\":{\"id\":\"a\"} }\n",
        "{\"event\":{\"id\":\"b\\n\"}}\r\n",
        "{\"event\":{\"id\":12345678901234567890123}}\n",
        "{\"event\":{\"id\":\"12345678901234567890123\"}}\n",
        "{\"event\":{\"id\":1.0}}\n",
        "{\"event\":{\"id\":1.00}}\n",
    );
    let lines: Vec<_> = input.split_inclusive('\n').collect();
    let expected: String = [0, 2, 3, 5, 6].map(|at| lines[at]).concat();
    assert_eq!(shell.prints(&["--key", "/event/id"], input), expected);
}

#[test]
fn a_json_line_may_hold_bytes_that_are_not_utf8_elsewhere() {
    let shell = Shell::new();
    let line = b"{\"id\":1,\"x\":\"\xff\"}\n";
    assert_eq!(shell.dedup(&["--key", "/id"], line).out, line);
}

#[test]
fn a_csv_column_is_the_id_by_name_or_number() {
    let input = "id,name\n1,\"a\"\n2,\"a\"\n3,b\n";
    let expected = "id,name\n1,\"a\"\n3,b\n";
    for column in ["name", "2"] {
        let shell = Shell::new();
        assert_eq!(shell.prints(&["--csv", column], input), expected);
        assert_eq!(shell.prints(&["--csv", column], input), "id,name\n");
    }
}

#[test]
fn csv_records_stay_as_they_stood() {
    let shell = Shell::new();
    let input = concat!(
        "\u{feff}\"the id\",text\r\n",
        "1,\"two\nlines, \"\"quoted\"\"\"\r\n",
        "\"1\",other\r\n",
        "\"2\n\",\"\r\n\r\n\"\r\n",
        "\"2\n\",x\r\n",
        "2,x\n",
        "3,ends\"without",
    );
    let expected = concat!(
        "\u{feff}\"the id\",text\r\n",
        "1,\"two\nlines, \"\"quoted\"\"\"\r\n",
        "\"2\n\",\"\r\n\r\n\"\r\n",
        "2,x\n",
        "3,ends\"without",
    );
    assert_eq!(shell.prints(&["--csv", "the id"], input), expected);
}

#[test]
fn csv_may_have_another_delimiter() {
    let shell = Shell::new();
    let input = "a;b\n1;\"x;y\"\n2;\"x;y\"\n";
    let more = &["--csv", "b", "--delimiter", ";"];
    assert_eq!(shell.prints(more, input), "a;b\n1;\"x;y\"\n");
}

#[test]
fn csv_files_share_one_header() {
    let shell = Shell::new();
    shell.write("one", "id\n1\n2\n");
    shell.write("two", "id\r\n2\r\n3\r\n");
    shell.write("empty", "");
    assert_eq!(shell.prints(&["--csv", "id", "empty", "one", "two"], ""), "id\n1\n2\n3\r\n");
    shell.write("other", "x,id\n1,5\n");
    let ended = shell.dedup(&["--csv", "id", "one", "other"], "");
    ended.complains(3, &["other:1:", "header"]);
}

#[test]
fn csv_columns_that_are_not_there_are_a_wrong_call() {
    let shell = Shell::new();
    shell.dedup(&["--csv", "c"], "a,b\n1,2\n").complains(2, &["\"c\"", "a, b"]);
    shell.dedup(&["--csv", "3"], "a,b\n1,2\n").complains(2, &["\"3\""]);
    shell.dedup(&["--csv", "a"], "a,a\n1,2\n").complains(2, &["two columns"]);
}

#[test]
fn options_that_do_not_go_together_are_a_wrong_call() {
    let shell = Shell::new();
    for more in [
        &["--key", "/id", "--field", "1"][..],
        &["--key", "/id", "--csv", "id"],
        &["--key", "/id", "--delimiter", ","],
        &["--csv", "id", "--null"],
        &["--delimiter", ","],
        &["--key", "id"],
        &["--key", "/a~2"],
        &["--field", "0"],
        &["--field", "x"],
        &["--field", "1", "--delimiter", "ab"],
        &["--field", "1", "--delimiter", ""],
        &["--field", "1", "--delimiter", "\\0", "--null"],
        &["--csv", "id", "--delimiter", "\""],
        &["--ttl", "0s"],
        &["--ttl", "99999999999999999999d"],
        &["--ttl", "soon"],
        &["--durability", "maybe"],
        &["--memory", "much"],
        &["--on-bad-input", "ignore"],
        &["no-such-file"],
        &["."],
    ] {
        let ended = shell.dedup(more, "a\n");
        assert_eq!(ended.code, 2, "{more:?}: {ended:?}");
        assert!(ended.out.is_empty() && !ended.err.is_empty(), "{more:?}: {ended:?}");
        assert!(!shell.path("S").exists(), "{more:?} created a store");
    }
}
