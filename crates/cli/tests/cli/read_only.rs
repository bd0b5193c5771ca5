//! Reads of a store whose folder is not writable.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use super::{Ended, Shell, many_lines};

const NOBODY: u32 = 65_534;

/// Removes write permission for everyone, or gives it back to the owner.
fn set_writable(path: &Path, writable: bool) {
    let is_dir = path.is_dir();
    let mode = if is_dir { 0o555 } else { 0o444 } | if writable { 0o200 } else { 0 };
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("set permissions");
    if is_dir {
        for entry in fs::read_dir(path).expect("list a folder") {
            set_writable(&entry.expect("an entry").path(), writable);
        }
    }
}

/// Names and contents of all files.
fn picture(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path).expect("list a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(picture(&path));
        } else {
            files.push((path.display().to_string(), fs::read(&path).expect("read a file")));
        }
    }
    files.sort();
    files
}

/// Runs the binary as a user who can only read, as root could write in spite of the permissions; from a copy that this
/// user can reach.
fn ask(shell: &Shell, args: &[&str]) -> Ended {
    let copy = shell.path("firstseen");
    if !copy.exists() {
        // Not by this process: another thread may fork meanwhile, and a child that inherits the open copy makes it
        // busy.
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_firstseen")).arg(&copy).status();
        assert!(copied.expect("run cp").success());
        fs::set_permissions(&copy, Permissions::from_mode(0o755)).expect("set permissions");
    }
    let mut command = Command::new(copy);
    command.current_dir(shell.dir.path()).args(args).args(["--store", "S"]);
    let is_root =
        fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0);
    if is_root {
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = command.output().expect("run the binary");
    Ended {
        code: output.status.code().expect("an exit code, not a signal"),
        out: output.stdout,
        err: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

fn sorted(ended: &Ended) -> Vec<&str> {
    let mut lines: Vec<&str> = ended.out().lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn a_store_that_cannot_be_written_to_answers_questions() {
    let shell = Shell::new();
    fs::set_permissions(shell.dir.path(), Permissions::from_mode(0o755)).expect("set permissions");
    shell.prints(&["--memory", "4M"], many_lines(60_000, 3)); // some flushed, some not
    shell.prints(&["--namespace", "n", "--ttl", "1h"], "x\ny\n");
    shell.prints(&["--ttl", "1ms"], "ended\n");
    shell.run(["forget", "y", "--namespace", "n", "--store", "S"], "");
    let exported = shell.run(["export", "--store", "S"], "");
    let got = shell.run(["get", "x", "--namespace", "n", "--store", "S", "--json"], "");
    let store = shell.path("S");
    set_writable(&store, false);
    let before = picture(&store);

    assert_eq!(ask(&shell, &["get", "x", "--namespace", "n", "--json"]).out(), got.out());
    assert_eq!(ask(&shell, &["get", "x"]).code, 1);
    assert_eq!(ask(&shell, &["get", "y", "--namespace", "n"]).code, 1);
    assert_eq!(ask(&shell, &["get", "ended"]).code, 1);
    ask(&shell, &["get", "x", "--namespace", "m"]).complains(2, &["\"m\"", "default, n"]);
    let read = ask(&shell, &["export"]);
    assert_eq!((read.code, sorted(&read).len()), (0, sorted(&exported).len()), "{}", read.err);
    assert_eq!(sorted(&read), sorted(&exported));
    let verified = ask(&shell, &["verify"]);
    assert!(verified.code == 0 && verified.err.contains("only the log"), "{verified:?}");
    assert!(ask(&shell, &["stats"]).out().contains("\"n\", ttl"), "stats lists namespaces");
    let history = ask(&shell, &["history", "y", "--namespace", "n"]);
    assert_eq!((history.code, history.out().lines().count()), (0, 3), "{history:?}");
    assert_eq!(ask(&shell, &["history", "y"]).code, 1);
    ask(&shell, &["history", "y", "--namespace", "m"]).complains(2, &["\"m\"", "default, n"]);
    ask(&shell, &["forget", "x"]).complains(3, &["writes to the folder"]);
    assert_eq!(picture(&store), before, "a question has changed something");

    set_writable(&store, true);
    assert_eq!(shell.prints(&["--namespace", "n"], "x\n"), "");
}

#[test]
fn a_damaged_log_is_reported_where_nothing_can_be_written() {
    let shell = Shell::new();
    fs::set_permissions(shell.dir.path(), Permissions::from_mode(0o755)).expect("set permissions");
    shell.prints(&[], many_lines(1000, 3));
    let log = shell.path("S/log");
    let segment =
        fs::read_dir(&log).expect("the log").next().expect("a segment").expect("an entry");
    let mut bytes = fs::read(segment.path()).expect("read a segment");
    bytes[5000] ^= 1;
    fs::write(segment.path(), bytes).expect("write a segment");
    set_writable(&shell.path("S"), false);
    for question in [&["get", "x"][..], &["export"], &["stats"]] {
        ask(&shell, question).complains(3, &["is damaged at byte"]);
    }
    assert_eq!(ask(&shell, &["verify"]).code, 3);
    let history = ask(&shell, &["history", "x"]);
    history.complains(3, &["cannot be read"]);
    assert_eq!(history.out(), "", "what is known cannot be said");
    set_writable(&shell.path("S"), true);
}

#[test]
fn stats_writes_nothing_and_lists_namespaces() {
    let shell = Shell::new();
    shell.prints(&["--namespace", "n", "--ttl", "1h"], "x\ny\n");
    shell.prints(&[], "x\n");
    let before = picture(&shell.path("S"));
    let stats = shell.run(["stats", "--store", "S", "--json"], "");
    let stats: serde_json::Value = serde_json::from_str(stats.out()).expect("JSON");
    assert_eq!(stats["namespaces"][0]["name"], "default");
    assert_eq!(stats["namespaces"][1]["name"], "n");
    let known = [&stats["records_unflushed"], &stats["ids_flushed"]];
    assert_eq!(known.iter().filter_map(|n| n.as_u64()).sum::<u64>(), 3);
    assert!(stats.get("first_seen").is_none(), "a counter of this process says nothing");
    assert_eq!(picture(&shell.path("S")), before);
}
