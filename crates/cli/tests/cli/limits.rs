//! System limits: the error names the cause at once, and nothing waits for ever.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{Ended, Shell, ends, many_lines};

impl Shell {
    /// Runs `dedup` after the shell command `before`; fails if it does not exit soon.
    fn dedup_behind(&self, before: &str, store: &str, input: &Path) -> Ended {
        let file = |name: &str| std::fs::File::create(self.path(name)).expect("create a file");
        let line = format!("{before} exec \"$0\" dedup --memory 4M --store {store}");
        let mut command = Command::new("sh");
        command.args(["-c", &line, env!("CARGO_BIN_EXE_firstseen")]).current_dir(self.dir.path());
        command.stdin(std::fs::File::open(input).expect("open the input"));
        command.stdout(Stdio::from(file("out"))).stderr(Stdio::from(file("err")));
        let code = ends(command.spawn().expect("run the binary"));
        let err = String::from_utf8(self.read("err")).expect("standard error is UTF-8");
        Ended { code, out: self.read("out"), err }
    }
}

#[test]
fn i12_too_few_descriptors_are_named_at_once() {
    let shell = Shell::new();
    let lines = 60_000;
    let input = shell.write("in", many_lines(lines, 1));
    let mut refused = 0;
    for limit in 6..=20 {
        let store = format!("S{limit}");
        let ended = shell.dedup_behind(&format!("ulimit -n {limit};"), &store, &input);
        if ended.code == 0 {
            continue;
        }
        refused += 1;
        ended.complains(3, &["Too many open files", "ulimit -n"]);
    }
    assert!((3..15).contains(&refused), "{refused} of 15 limits were too low");
}

#[test]
fn i12_a_limit_on_the_size_of_files_is_named_at_once() {
    let shell = Shell::new();
    let input = shell.write("in", many_lines(1000, 1));
    // In blocks of 512 bytes: less than a segment.
    let ended = shell.dedup_behind("trap '' XFSZ; ulimit -f 20000;", "S", &input);
    ended.complains(3, &["File too large", "ulimit -f"]);
}

/// sled waits for ever for threads that it could not start.
#[test]
#[expect(clippy::disallowed_macros, reason = "a test that cannot run says so")]
fn i12_where_no_thread_can_be_started_opening_says_so() {
    let shell = Shell::new();
    // Process limits do not apply to root.
    let nobody = ["--reuid=65534", "--clear-groups"];
    let binary = shell.path("firstseen");
    std::fs::copy(env!("CARGO_BIN_EXE_firstseen"), &binary).expect("copy the binary");
    let all = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(shell.dir.path(), all).expect("let others write");
    let mut probe = Command::new("setpriv");
    probe.args(nobody).args(["prlimit", "--nproc=1"]).arg(&binary).arg("--version");
    let can_run = probe.output().is_ok_and(|probe| probe.status.success());
    if !can_run {
        eprintln!("NOT RUN: needs root, setpriv and prlimit");
        return;
    }
    for limit in 1..=6 {
        let mut command = Command::new("setpriv");
        let limit = format!("--nproc={limit}");
        command.args(nobody).args(["prlimit", &limit]).arg(&binary);
        command.args(["dedup", "--store"]).arg(format!("S{limit}")).current_dir(shell.dir.path());
        command
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(shell.path("err")).expect("create"));
        let code = ends(command.spawn().expect("run the binary"));
        let err = String::from_utf8(shell.read("err")).expect("standard error is UTF-8");
        Ended { code, out: Vec::new(), err }.complains(3, &["thread"]);
    }
}

#[test]
fn files_and_folders_are_private_whatever_the_umask() {
    let shell = Shell::new();
    for round in 0..3 {
        let input = shell.write("in", many_lines(30_000, round));
        let ended = shell.dedup_behind("umask 0;", "S", &input);
        assert_eq!(ended.code, 0, "{ended:?}");
        all_private(&shell.path("S"));
    }
}

#[track_caller]
fn all_private(path: &Path) {
    let meta = std::fs::metadata(path).expect("look at it");
    let mode = meta.permissions().mode() & 0o777;
    assert_eq!(mode, if meta.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
    if meta.is_dir() {
        for entry in std::fs::read_dir(path).expect("list a folder") {
            all_private(&entry.expect("list a folder").path());
        }
    }
}
