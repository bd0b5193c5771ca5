//! SIGINT and SIGTERM end a run cleanly.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Command, Stdio};

use super::{Shell, ends};

fn send(signal: &str, pid: u32) {
    let status = Command::new("kill").args([signal, &pid.to_string()]).status();
    assert!(status.expect("run kill").success());
}

fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("our own state");
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("a mask");
    (u64::from_str_radix(mask.trim(), 16).expect("hexadecimal") >> (signal - 1)) & 1 == 1
}

#[test]
fn a_signal_ends_a_run_with_its_summary() {
    for (signal, code, name) in [("-INT", 130, "SIGINT"), ("-TERM", 143, "SIGTERM")] {
        // Background jobs of a script, and what they start, have SIGINT ignored.
        if is_ignored(code - 128) {
            continue;
        }
        for json in [false, true] {
            let shell = Shell::new();
            let mut child = shell
                .command(["dedup", "--store", "S"].iter().chain(json.then_some(&"--json")))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("run the binary");
            let mut input = child.stdin.take().expect("its standard input");
            input.write_all(b"a\nb\na\n").expect("write lines");
            let mut out = BufReader::new(child.stdout.take().expect("its standard output"));
            let mut line = String::new();
            out.read_line(&mut line).expect("a line");
            out.read_line(&mut line).expect("a line");
            assert_eq!(line, "a\nb\n");
            send(signal, child.id());
            let mut said = String::new();
            child
                .stderr
                .take()
                .expect("its standard error")
                .read_to_string(&mut said)
                .expect("text");
            assert_eq!(ends(child), code, "{said}");
            let parts = if json {
                ["\"lines\":3".to_owned(), format!("\"stopped_by\":\"{name}\"")]
            } else {
                [" 3 lines, ".to_owned(), " 2 first seen, ".to_owned()]
            };
            assert!(parts.iter().all(|part| said.contains(part)), "{said}");
            assert_eq!(shell.prints(&[], "a\nb\nc\n"), "c\n", "what was printed is claimed");
        }
    }
}

#[test]
fn a_signal_prints_what_was_counted() {
    let shell = Shell::new();
    let mut child = shell
        .command(["dedup", "--store", "S", "--count", "--on-bad-input", "pass"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("run the binary");
    let mut input = child.stdin.take().expect("its standard input");
    // The empty line is passed on at once, which shows that the lines before it were read.
    input.write_all(b"a\na\n\n").expect("write lines");
    let mut out = BufReader::new(child.stdout.take().expect("its standard output"));
    let mut line = String::new();
    out.read_line(&mut line).expect("a line");
    send("-TERM", child.id());
    out.read_to_string(&mut line).expect("the rest");
    assert_eq!((ends(child), line.as_str()), (143, "\n      2 a\n"));
}

#[test]
fn a_signal_that_the_caller_ignores_stays_ignored() {
    let shell = Shell::new();
    let script = "trap '' INT; exec \"$0\" dedup --store S";
    let mut child = Command::new("sh")
        .current_dir(shell.dir.path())
        .args(["-c", script, env!("CARGO_BIN_EXE_firstseen")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("run the binary");
    let mut input = child.stdin.take().expect("its standard input");
    let mut out = BufReader::new(child.stdout.take().expect("its standard output"));
    let mut line = String::new();
    for text in ["a\n", "b\n"] {
        input.write_all(text.as_bytes()).expect("write a line");
        out.read_line(&mut line).expect("a line");
        send("-INT", child.id());
    }
    drop(input);
    assert_eq!((ends(child), line.as_str()), (0, "a\nb\n"));
}
