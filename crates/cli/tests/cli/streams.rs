//! Standard streams as a shell sets them: closed, or the same file at both ends.

use std::process::{Command, Stdio};

use super::{Ended, Shell, ends, many_lines};

/// Runs a shell command line, which can close or share the streams of the binary.
fn by_shell(shell: &Shell, line: &str) -> Ended {
    let output = Command::new("sh")
        .current_dir(shell.dir.path())
        .args(["-c", line])
        .env("FIRSTSEEN", env!("CARGO_BIN_EXE_firstseen"))
        .stdin(Stdio::null())
        .output()
        .expect("run a shell");
    Ended {
        code: output.status.code().expect("an exit code, not a signal"),
        out: output.stdout,
        err: String::from_utf8(output.stderr).expect("standard error is UTF-8"),
    }
}

#[test]
fn an_output_that_is_also_an_input_is_refused() {
    let shell = Shell::new();
    std::os::unix::fs::symlink("self", shell.path("link")).expect("a symlink");
    std::fs::hard_link(shell.write("self", "a\nb\n"), shell.path("hard")).expect("a hard link");
    // Not a pipe to `head`, so that a failure ends too.
    for line in [
        "ulimit -f 2000; $FIRSTSEEN dedup self --on-bad-input pass --store S >> self",
        "ulimit -f 2000; $FIRSTSEEN dedup link --store S >> self",
        "ulimit -f 2000; $FIRSTSEEN dedup hard --store S >> self",
        "ulimit -f 2000; $FIRSTSEEN dedup --store S < self >> self",
        "ulimit -f 2000; $FIRSTSEEN dedup /dev/stdin --store S < self >> self",
        "ulimit -f 2000; $FIRSTSEEN dedup --store S < self 1<> self",
        "ulimit -f 2000; $FIRSTSEEN dedup self self --store S --duplicates-to self",
        "ulimit -f 2000; $FIRSTSEEN dedup --store S --duplicates-to hard < self",
    ] {
        let ended = by_shell(&shell, line);
        ended.complains(2, &["this input is also the output"]);
        assert_eq!(shell.read("self"), b"a\nb\n", "{line}");
        assert!(!shell.path("S").exists(), "{line}");
    }
}

#[test]
fn two_outputs_to_one_file_are_refused() {
    let shell = Shell::new();
    shell.write("in", "a\na\n");
    let ended = by_shell(&shell, "$FIRSTSEEN dedup in --store S --duplicates-to out > out");
    ended.complains(2, &["--duplicates-to is also standard output"]);
}

#[test]
fn one_device_at_both_ends_is_no_fault() {
    let shell = Shell::new();
    let line = "$FIRSTSEEN dedup --store S </dev/null >/dev/null --duplicates-to /dev/null";
    assert_eq!(by_shell(&shell, line).code, 0);
}

#[test]
fn a_closed_output_is_an_error_before_anything_is_claimed() {
    let shell = Shell::new();
    shell.write("in", "a\n");
    by_shell(&shell, "$FIRSTSEEN dedup in --store S >&-").complains(2, &["output is closed"]);
    assert_eq!(shell.prints(&["in"], ""), "a\n");
    for line in [
        "$FIRSTSEEN forget a --store S >&-",
        "$FIRSTSEEN export --store S >&-",
        "$FIRSTSEEN get a --store S >&-",
        "$FIRSTSEEN stats --store S >&-",
        "$FIRSTSEEN verify --store S >&-",
    ] {
        by_shell(&shell, line).complains(2, &["output is closed"]);
    }
    assert_eq!(shell.run(["get", "a", "--store", "S"], "").code, 0, "nothing was forgotten");
}

/// `/dev/null` is a valid output, however it is opened.
#[test]
fn an_output_to_dev_null_is_open() {
    for way in [">/dev/null", "1<>/dev/null", ">>/dev/null"] {
        let shell = Shell::new();
        shell.write("in", "a\n");
        let ended = by_shell(&shell, &format!("$FIRSTSEEN dedup in --store S {way}"));
        assert_eq!(ended.code, 0, "{way}: {ended:?}");
        assert_eq!(shell.prints(&["in"], ""), "", "{way}");
    }
}

#[test]
fn a_closed_input_is_an_error_where_it_is_read() {
    let shell = Shell::new();
    shell.write("in", "a\n");
    for line in ["$FIRSTSEEN dedup --store S <&-", "$FIRSTSEEN dedup in - --store S <&-"] {
        by_shell(&shell, line).complains(2, &["input is closed"]);
    }
    by_shell(&shell, "$FIRSTSEEN import --store S <&-").complains(2, &["input is closed"]);
    assert_eq!(by_shell(&shell, "$FIRSTSEEN dedup in --store S <&-").out(), "a\n");
}

#[test]
fn what_head_did_not_take_is_printed_by_the_next_run() {
    let shell = Shell::new();
    let input = many_lines(100_000, 7);
    shell.write("in", &input);
    let line = "{ $FIRSTSEEN dedup in --store S; echo $? > code; } | head -1";
    let first = by_shell(&shell, line);
    assert_eq!(first.out, input.split_inclusive(|b| *b == b'\n').next().expect("a line"));
    assert_eq!(shell.read("code"), b"141\n");
    let rest = shell.prints(&["in"], "");
    // What the pipe took is claimed, and no pipe buffers more than a mebibyte.
    let whole = super::awk(&input);
    assert!(whole.ends_with(rest.as_bytes()) && whole.len() - rest.len() <= 1 << 20);
    assert!(!rest.is_empty());
}

#[test]
fn one_line_is_a_line() {
    let shell = Shell::new();
    let ended = shell.dedup(&[], "a\n");
    assert!(ended.err.contains(" 1 line, ") && ended.err.contains(" 0 duplicates,"), "{ended:?}");
    let ended = shell.dedup(&[], "a\n\n");
    assert!(ended.err.contains(" 2 lines, ") && ended.err.contains(" 1 duplicate,"), "{ended:?}");
    let claim = "{\"id\":\"x\",\"first_seen\":1}\n";
    let ended = shell.run(["import", "--store", "S"], claim);
    assert!(ended.err.contains(" 1 line, "), "{ended:?}");
}

#[test]
fn a_summary_names_what_it_says() {
    let shell = Shell::new();
    let summary = shell.dedup(&["--json"], "a\n").summary();
    assert_eq!(summary["output_closed"], false);
    assert!(summary.get("closed").is_none());
    assert!(shell.run(["dedup", "--help"], "").out().contains("output_closed"));
    let child = shell.command(["--version"]).stdout(Stdio::null()).spawn().expect("runs");
    assert_eq!(ends(child), 0);
}
