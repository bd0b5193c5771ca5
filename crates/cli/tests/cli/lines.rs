//! Output: first-seen lines, byte for byte, in input order.

use std::process::Stdio;
use std::time::Duration;

use super::{Shell, append_to, awk, many_lines, pause};

#[test]
fn prints_each_line_once_and_for_good() {
    let shell = Shell::new();
    assert_eq!(shell.prints(&[], "a\nb\na\n"), "a\nb\n");
    assert_eq!(shell.prints(&[], "a\nb\na\n"), "");
    assert_eq!(shell.prints(&[], "b\nc\n"), "c\n");
}

#[test]
fn prints_them_again_after_their_ttl() {
    let shell = Shell::new();
    let ttl = &["--ttl", "1s"];
    assert_eq!(shell.prints(ttl, "a\nb\na\n"), "a\nb\n");
    pause(Duration::from_secs(2));
    assert_eq!(shell.prints(ttl, "a\nb\na\n"), "a\nb\n");
}

#[test]
fn a_claim_without_ttl_outlives_one_with() {
    let shell = Shell::new();
    assert_eq!(shell.prints(&["--ttl", "50ms"], "short\n"), "short\n");
    assert_eq!(shell.prints(&[], "long\n"), "long\n");
    pause(Duration::from_millis(200));
    assert_eq!(shell.prints(&["--ttl", "7d"], "short\nlong\n"), "short\n");
}

#[test]
fn equals_awk_on_many_lines() {
    let shell = Shell::new();
    let input = many_lines(100_000, 1);
    shell.write("input", &input);
    let ended = shell.dedup(&["input", "--json"], "");
    assert_eq!(ended.code, 0, "{}", ended.err);
    let expected = awk(&input);
    assert!(ended.out == expected, "output differs from awk");
    let summary = ended.summary();
    let first_seen = expected.split_inclusive(|byte| *byte == b'\n').count() as u64;
    assert_eq!(summary["lines"], 100_000);
    assert_eq!(summary["first_seen"], first_seen);
    assert_eq!(summary["duplicates"], 100_000 - first_seen);
    assert_eq!(summary["bad"], 0);
    assert_eq!(summary["bytes"], input.len());
    assert!(summary["seconds"].is_f64());
    assert!(shell.dedup(&["input"], "").out.is_empty());
}

#[test]
fn lines_that_are_not_utf8_pass_untouched() {
    let shell = Shell::new();
    let input = b"\xc3\n\xff\xfe\n\0\n\xff\xfe\n\xc3\xa9\n";
    assert_eq!(shell.dedup(&[], input).out, awk(input));
    assert!(shell.dedup(&[], input).out.is_empty());
}

#[test]
fn only_a_line_feed_ends_a_line() {
    let shell = Shell::new();
    assert_eq!(shell.prints(&[], "a\r\na\na\r\nb\rc\n"), "a\r\na\nb\rc\n");
}

#[test]
fn a_missing_line_end_stays_missing_unless_a_line_follows() {
    let shell = Shell::new();
    shell.write("one", "a\nb");
    shell.write("two", "c\na");
    shell.write("three", "d");
    assert_eq!(shell.prints(&["one", "two", "three"], ""), "a\nb\nc\nd");
    assert_eq!(shell.prints(&[], "b"), "", "it is the same line with and without its end");
    assert_eq!(shell.prints(&[], "e"), "e");
}

#[test]
fn standard_input_stands_among_the_files() {
    let shell = Shell::new();
    shell.write("one", "1\n");
    shell.write("two", "2\n1\n");
    assert_eq!(shell.prints(&["two", "-", "one"], "0\n2\n"), "2\n1\n0\n");
    assert_eq!(shell.prints(&["-"], "0\n9\n"), "9\n");
}

#[test]
fn nothing_in_nothing_out() {
    let shell = Shell::new();
    let ended = shell.dedup(&["--json"], "");
    assert_eq!((ended.code, ended.out()), (0, ""));
    assert_eq!(ended.summary()["lines"], 0);
}

#[test]
fn long_lines_with_a_short_id_are_printed_whole() {
    let shell = Shell::new();
    let wide = "x".repeat(3 << 20);
    let input = format!("1\t{wide}\n2\t{wide}\n1\t{wide}\n3\n");
    let expected = format!("1\t{wide}\n2\t{wide}\n3\n");
    assert!(shell.prints(&["--field", "1"], input) == expected);
}

#[test]
fn records_may_end_with_nul() {
    let shell = Shell::new();
    let input = "a\nb\0c\0a\nb\0";
    assert_eq!(shell.prints(&["--null"], input), "a\nb\0c\0");
    assert_eq!(shell.prints(&["-0"], "d"), "d");
    shell.write("one", "x");
    shell.write("two", "y");
    assert_eq!(shell.prints(&["-0", "one", "two"], ""), "x\0y");
}

#[test]
fn namespaces_do_not_see_each_other() {
    let shell = Shell::new();
    assert_eq!(shell.prints(&["--namespace", "one"], "a\n"), "a\n");
    assert_eq!(shell.prints(&["--namespace", "two"], "a\n"), "a\n");
    assert_eq!(shell.prints(&[], "a\n"), "a\n");
    assert_eq!(shell.prints(&["--namespace", "one"], "a\n"), "");
}

#[test]
fn every_level_of_durability_remembers() {
    for level in ["buffered", "process", "disk"] {
        let shell = Shell::new();
        let more = &["--durability", level, "--memory", "8M"];
        assert_eq!(shell.prints(more, "a\nb\na\n"), "a\nb\n", "{level}");
        assert_eq!(shell.prints(more, "a\nb\na\n"), "", "{level}");
    }
}

#[test]
fn duplicates_are_added_to_their_file() {
    let shell = Shell::new();
    let more = &["--duplicates-to", "dups"];
    assert_eq!(shell.prints(more, "a\nb\na\nc\nb\n"), "a\nb\nc\n");
    assert_eq!(shell.read("dups"), b"a\nb\n");
    assert_eq!(shell.prints(more, "c\nd"), "d");
    assert_eq!(shell.prints(more, "d"), "");
    assert_eq!(shell.prints(more, "a\n"), "");
    assert_eq!(shell.read("dups"), b"a\nb\nc\nd\na\n", "a line without an end is not glued");
}

#[test]
fn a_line_torn_by_a_kill_is_set_apart() {
    let shell = Shell::new();
    shell.write("out", "whole\ntor");
    let mut command = shell.command(["dedup", "--store", "S", "input"]);
    shell.write("input", "torn\nnext\n");
    let status = command
        .stdin(Stdio::null())
        .stdout(append_to(&shell.path("out")))
        .stderr(Stdio::null())
        .status()
        .expect("run the binary");
    assert!(status.success());
    assert_eq!(shell.read("out"), b"whole\ntor\ntorn\nnext\n");
}

#[test]
fn the_summary_is_one_line() {
    let shell = Shell::new();
    let ended = shell.dedup(&[], "a\nb\na\n");
    assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
    assert!(ended.err.contains("3 lines, 2 first seen, 1 duplicate, 0 bad"), "{}", ended.err);
}
