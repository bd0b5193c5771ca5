//! In a pipeline: `tail -f` before it, `head` after it.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use super::{SOON, Shell, ends, many_lines};

/// Starts the binary with pipes at both ends; its output lines arrive on a channel.
pub(super) fn start(shell: &Shell, more: &[&str], end: u8) -> (Child, Receiver<Vec<u8>>) {
    let mut child = shell
        .command(["dedup", "--store", "S"].iter().chain(more))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("run the binary");
    let mut out = BufReader::new(child.stdout.take().expect("its standard output"));
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        loop {
            let mut line = Vec::new();
            match out.read_until(end, &mut line) {
                Ok(1..) if send.send(line).is_ok() => {}
                _ => return,
            }
        }
    });
    (child, receive)
}

#[test]
fn a_line_that_has_arrived_is_answered_at_once() {
    for (more, lines) in [
        (&[][..], ["a\n", "bb\n", "c\n"]),
        (&["--key", "/id"], ["{\"id\":1}\n", "{\"id\":2}\n", "{\"id\":3}\n"]),
        (&["--csv", "id"], ["id,x\n", "1,\"a\nb\"\n", "2,\"\"\"\n\"\n"]),
    ] {
        let shell = Shell::new();
        let (mut child, answers) = start(&shell, more, b'\n');
        let mut input = child.stdin.take().expect("its standard input");
        let mut send = |text: &str| input.write_all(text.as_bytes()).expect("write a line");
        for line in lines {
            let (before, after) = line.split_at(line.len() / 2);
            send(before);
            assert!(answers.recv_timeout(Duration::from_millis(100)).is_err(), "answered early");
            send(after);
            for part in line.split_inclusive('\n') {
                let answer = answers.recv_timeout(SOON).expect("the answer to a line");
                assert_eq!(answer, part.as_bytes());
            }
        }
        drop(input);
        assert_eq!(ends(child), 0);
    }
}

#[test]
fn with_nul_a_record_is_answered_at_once() {
    let shell = Shell::new();
    let (mut child, answers) = start(&shell, &["-0"], 0);
    let mut input = child.stdin.take().expect("its standard input");
    for record in [&b"one\0"[..], b"two\nlines\0"] {
        input.write_all(record).expect("write a record");
        assert_eq!(answers.recv_timeout(SOON).expect("an answer"), record);
    }
    drop(input);
    assert_eq!(ends(child), 0);
}

#[test]
fn a_closed_pipe_ends_it_quietly_and_not_with_0() {
    let shell = Shell::new();
    shell.write("input", many_lines(200_000, 2));
    let mut child = shell
        .command(["dedup", "--store", "S", "input"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run the binary");
    let mut first = [0; 32];
    let mut out = child.stdout.take().expect("its standard output");
    out.read_exact(&mut first).expect("the first line");
    drop(out);
    let mut said = String::new();
    child.stderr.take().expect("its standard error").read_to_string(&mut said).expect("UTF-8");
    assert_eq!((ends(child), said.as_str()), (141, ""));
}

#[test]
fn what_a_closed_pipe_did_not_take_is_printed_by_the_next_run() {
    let shell = Shell::new();
    let mut child = shell
        .command(["dedup", "--store", "S", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run the binary");
    drop(child.stdout.take());
    let mut input = child.stdin.take().expect("its standard input");
    input.write_all(b"a\nb\n").expect("write lines");
    drop(input);
    let mut said = String::new();
    child.stderr.take().expect("its standard error").read_to_string(&mut said).expect("UTF-8");
    assert_eq!(ends(child), 141);
    assert!(said.contains("\"output_closed\":true") && said.contains("\"first_seen\":0"), "{said}");
    assert_eq!(shell.prints(&[], "a\nb\n"), "a\nb\n");
}

#[test]
fn what_a_full_disk_did_not_take_is_printed_by_the_next_run() {
    let Ok(full) = File::options().write(true).open("/dev/full") else { return };
    let shell = Shell::new();
    shell.write("input", "a\nb\n");
    let output = shell
        .command(["dedup", "--store", "S", "input"])
        .stdin(Stdio::null())
        .stdout(full)
        .output()
        .expect("run the binary");
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(said.starts_with("firstseen: cannot write to standard output: "), "{said}");
    assert_eq!(shell.prints(&["input"], ""), "a\nb\n");
}

#[test]
fn a_duplicates_file_that_takes_nothing_stops_the_run_before_it_claims() {
    if !std::path::Path::new("/dev/full").exists() {
        return;
    }
    let shell = Shell::new();
    let ended = shell.dedup(&["--duplicates-to", "/dev/full"], "a\na\n");
    ended.complains(3, &["/dev/full"]);
    assert_eq!(shell.prints(&[], "a\n"), "a\n");
}

#[test]
fn a_closed_pipe_ends_an_export_quietly_and_not_with_0() {
    let shell = Shell::new();
    shell.prints(&[], many_lines(20_000, 4));
    let mut command = shell.command(["export", "--store", "S"]);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run the binary");
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().expect("its standard error").read_to_string(&mut said).expect("UTF-8");
    assert_eq!((ends(child), said.as_str()), (141, ""));
}
