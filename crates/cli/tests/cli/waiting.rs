//! `--wait` while another process has the store open.

use std::process::Stdio;
use std::thread;
use std::time::Duration;

use super::pipes::start;
use super::{SOON, Shell, pause};

/// Commands that open a store, with their arguments.
const ALL: [&[&str]; 10] = [
    &["get", "a", "--store", "S"],
    &["forget", "a", "--store", "S"],
    &["stats", "--store", "S"],
    &["verify", "--store", "S"],
    &["repair", "--store", "S"],
    &["export", "--store", "S"],
    &["ledger", "list", "--store", "S"],
    &["dead-letter", "list", "--store", "S"],
    &["import", "--store", "S"],
    &["dedup", "--store", "S"],
];

#[test]
fn whoever_waits_gets_the_store_when_it_is_free() {
    for args in ALL {
        let shell = Shell::new();
        shell.prints(&[], "a\n");
        let (mut other, answers) = start(&shell, &[], b'\n');
        let mut input = other.stdin.take().expect("its standard input");
        std::io::Write::write_all(&mut input, b"b\n").expect("write a line");
        answers.recv_timeout(SOON).expect("the store is open");
        shell.run(args, "").complains(3, &["is open in another process", "--wait"]);
        let short = args.iter().chain(&["--wait", "50ms"]);
        shell.run(short, "").complains(3, &["is open in another process"]);
        let child = shell
            .command(args.iter().chain(&["--wait", "1m"]))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("run the binary");
        let waiter = thread::spawn(move || child.wait_with_output().expect("wait for it"));
        pause(Duration::from_millis(100));
        assert!(!waiter.is_finished(), "{args:?} did not wait");
        drop(input);
        assert_eq!(super::ends(other), 0);
        let ended = waiter.join().expect("the waiter");
        assert_eq!(ended.status.code(), Some(0), "{args:?}: {ended:?}");
    }
}

#[test]
fn a_wait_is_a_number_and_a_unit() {
    let shell = Shell::new();
    shell.prints(&[], "a\n");
    for wait in ["0", "0s", "10ms", "forever"] {
        let ended = shell.run(["get", "a", "--store", "S", "--wait", wait], "");
        assert_eq!(ended.code, 0, "{ended:?}");
    }
    for wait in ["", "5", "-1s", "soon"] {
        let args = ["get", "a", "--store", "S", &format!("--wait={wait}")];
        assert_eq!(shell.run(args, "").code, 2, "{wait}");
    }
}
