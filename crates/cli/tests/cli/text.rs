//! Text from other programs: byte order marks, line ends, encodings, empty lines.

use super::Shell;

const MARK: &str = "\u{feff}";

/// In every mode and every input of a run.
#[test]
fn a_byte_order_mark_is_never_part_of_an_id() {
    for (more, first, second) in [
        (&[][..], "a\n", "b\n"),
        (&["--field", "1"], "a\tx\n", "b\tx\n"),
        (&["--key", "/id"], "{\"id\":\"a\"}\n", "{\"id\":\"b\"}\n"),
        (&["--key", "/id", "--on-bad-input", "drop"], "{\"id\":\"a\"}\n", "{\"id\":\"b\"}\n"),
    ] {
        let shell = Shell::new();
        shell.write("one", format!("{MARK}{first}{second}"));
        shell.write("two", format!("{MARK}{second}{first}"));
        let mut args = more.to_vec();
        args.extend(["one", "two"]);
        // The mark of the first input is kept in place.
        assert_eq!(shell.prints(&args, ""), format!("{MARK}{first}{second}"), "{more:?}");
        assert_eq!(shell.prints(more, format!("{MARK}{first}{second}")), "", "{more:?}");
        assert_eq!(shell.run(["get", "a", "--store", "S"], "").code, 0, "{more:?}");
    }
}

#[test]
fn a_mark_of_a_later_input_is_not_printed_into_the_middle() {
    let shell = Shell::new();
    shell.write("one", "a\n");
    shell.write("two", format!("{MARK}b\n"));
    assert_eq!(shell.prints(&["one", "two"], ""), "a\nb\n");
}

#[test]
fn a_byte_order_mark_before_a_csv_header_is_no_part_of_a_name() {
    for header in ["id,x\n", "\"id\",x\n"] {
        let shell = Shell::new();
        let input = format!("{MARK}{header}1,a\n1,b\n");
        assert_eq!(shell.prints(&["--csv", "id"], &input), format!("{MARK}{header}1,a\n"));
    }
}

#[test]
fn a_byte_order_mark_before_an_import_is_no_part_of_it() {
    let shell = Shell::new();
    let claim = "{\"id\":\"a\",\"first_seen\":1700000000000}\n";
    assert_eq!(shell.run(["import", "--store", "S"], format!("{MARK}{claim}")).code, 0);
    assert_eq!(shell.run(["import", "--lines", "--store", "S"], format!("{MARK}b\n")).code, 0);
    for id in ["a", "b"] {
        assert_eq!(shell.run(["get", id, "--store", "S"], "").code, 0, "{id}");
    }
}

/// Nothing is claimed or printed.
#[test]
fn lines_that_end_with_a_carriage_return_alone_are_refused() {
    for (more, input) in [
        (&["--csv", "id"][..], "id,x\r1,a\r2,b\r"),
        (&["--csv", "id"], "id,x\r1,a\r2,b\n"),
        (&["--csv", "id"], "id,v\r1,\"x\ny\"\r2,z\r"),
        (&["--csv", "id"], "\"id\",\"v\"\r\"1\",\"x\ny\"\r\"2\",\"z\"\r"),
        (&["--csv", "1", "--no-header"], "1,\"x\ny\"\r2,z\r"),
        (&["--field", "1"], "1\ta\r2\tb\r"),
        (&["--key", "/id"], "{\"id\":1}\r{\"id\":2}\r"),
        (&[], "a\rb\rc"),
    ] {
        let shell = Shell::new();
        let ended = shell.dedup(more, input);
        ended.complains(3, &["carriage return", "tr '\\r' '\\n'"]);
        assert!(ended.out.is_empty(), "{more:?}");
        let claims = shell.run(["export", "--store", "S"], "");
        assert_eq!(claims.out(), "", "{more:?}");
        let ended = shell.run(["import", "--lines", "--store", "S"], input);
        assert!(ended.code == 3 || input.contains('\n'), "{ended:?}");
    }
}

/// By then the header has been printed; the rows have not.
#[test]
fn csv_rows_that_end_with_a_carriage_return_alone_are_refused() {
    let shell = Shell::new();
    let ended = shell.dedup(&["--csv", "id"], "id,v\n1,2\r3,4\r5,6\r");
    ended.complains(3, &[":2: ", "carriage return", "tr '\\r' '\\n'"]);
    assert_eq!(ended.out(), "id,v\n");
    assert_eq!(shell.run(["export", "--store", "S"], "").out(), "");
}

#[test]
fn a_carriage_return_inside_a_later_line_is_left_alone() {
    let shell = Shell::new();
    let input = "start\n10 %\r20 %\n10 %\r20 %\n";
    assert_eq!(shell.prints(&[], input), "start\n10 %\r20 %\n");
}

#[test]
fn a_carriage_return_before_the_line_feed_is_no_part_of_a_field() {
    let shell = Shell::new();
    assert_eq!(shell.prints(&["--field", "2"], "x\ta\r\ny\ta\n"), "x\ta\r\n");
    assert_eq!(shell.run(["get", "a", "--store", "S"], "").code, 0);
}

#[test]
fn trim_takes_the_carriage_return_off_whole_lines() {
    let shell = Shell::new();
    assert_eq!(shell.prints(&["--trim"], "a\r\na\nb\n"), "a\r\nb\n");
    let shell = Shell::new();
    assert_eq!(shell.prints(&[], "a\r\na\n"), "a\r\na\n");
}

#[test]
fn empty_lines_are_called_by_their_name_and_can_be_skipped() {
    let shell = Shell::new();
    let input = "{\"id\":1}\n\n{\"id\":2}\n \r\n{\"id\":1}\n";
    let ended = shell.dedup(&["--key", "/id"], input);
    ended.complains(3, &["(standard input):2: ", "empty", "--skip-empty"]);
    let ended = shell.dedup(&["--key", "/id", "--skip-empty", "--json"], input);
    assert_eq!((ended.code, ended.out()), (0, "{\"id\":2}\n"));
    let summary = ended.summary();
    assert_eq!((&summary["lines"], &summary["skipped"]), (&5.into(), &2.into()));
    assert_eq!(summary["bad"], 0);
    // A line that is not empty is still bad.
    shell.dedup(&["--key", "/id", "--skip-empty"], "\nx\n").complains(3, &[":2: ", "not JSON"]);
    let shell = Shell::new();
    assert_eq!(shell.prints(&["--skip-empty"], "a\n\nb\n\na\n"), "a\nb\n");
}

#[test]
fn utf16_is_named_and_refused() {
    let little: Vec<u8> = "id,x\n1,a\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = "id,x\n1,a\n".encode_utf16().flat_map(u16::to_be_bytes).collect();
    let marked = [&b"\xff\xfe"[..], &little].concat();
    for (input, order) in [(marked, "UTF-16LE"), (little, "UTF-16LE"), (big, "UTF-16BE")] {
        for more in [&[][..], &["--csv", "id"], &["--field", "1"], &["--key", "/id"]] {
            let shell = Shell::new();
            shell.dedup(more, &input).complains(3, &["UTF-16", "iconv", order]);
        }
    }
    // With NUL as delimiter, the input is plain bytes.
    let shell = Shell::new();
    assert_eq!(shell.prints(&["--null"], "a\0b\0c\0d\0e\0a\0"), "a\0b\0c\0d\0e\0");
}

#[test]
fn several_values_make_one_id() {
    let shell = Shell::new();
    let input = "o,l,x\n1,23,a\n12,3,b\n1,23,c\n";
    assert_eq!(shell.prints(&["--csv", "o", "--csv", "l"], input), "o,l,x\n1,23,a\n12,3,b\n");
    assert_eq!(shell.run(["get", "1\u{1f}23", "--store", "S"], "").code, 0);
    let shell = Shell::new();
    let input = "{\"o\":1,\"l\":23}\n{\"o\":12,\"l\":3}\n{\"l\":23,\"o\":1}\n";
    let printed = shell.prints(&["--key", "/o", "--key", "/l"], input);
    assert_eq!(printed, "{\"o\":1,\"l\":23}\n{\"o\":12,\"l\":3}\n");
    let shell = Shell::new();
    let printed = shell.prints(&["--field", "3", "--field", "1"], "a\tx\tb\na\ty\tb\nb\tx\ta\n");
    assert_eq!(printed, "a\tx\tb\nb\tx\ta\n");
    let ended = shell.dedup(&["--field", "1", "--field", "3"], "\tx\t\n");
    ended.complains(3, &[":1: ", "the id is empty"]);
    let ended = shell.dedup(&["--field", "1", "--field", "4"], "a\tx\tb\n");
    ended.complains(3, &[":1: ", "there is no field 4"]);
}

#[test]
fn blanks_are_one_delimiter_as_in_awk() {
    let shell = Shell::new();
    let input = "  1   a\n2\t \ta\n3 b\n";
    assert_eq!(shell.prints(&["--field", "2", "--blanks"], input), "  1   a\n3 b\n");
}

#[test]
fn a_plain_list_of_ids_is_imported() {
    let shell = Shell::new();
    shell.write("ids", "a\nb b\r\n\u{feff}c\n");
    let ended = shell.run(["import", "--lines", "--ttl", "7d", "--store", "S", "ids"], "");
    assert_eq!(ended.code, 0, "{ended:?}");
    for id in ["a", "b b", "\u{feff}c"] {
        let ended = shell.run(["get", id, "--json", "--store", "S"], "");
        let answer: serde_json::Value = serde_json::from_slice(&ended.out).unwrap();
        let lives = answer["deadline"].as_u64().unwrap() - answer["first_seen"].as_u64().unwrap();
        assert_eq!(lives, 7 * 24 * 3_600_000, "{id}");
    }
    let ended = shell.run(["import", "--lines", "--store", "S"], "x\n\ny\n");
    ended.complains(3, &[":2: ", "empty"]);
}
