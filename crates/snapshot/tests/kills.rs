//! A process killed while it takes a snapshot, and one killed while it restores.
//!
//! `FIRSTSEEN_KILLS` sets how often; 6 by default.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]
#![allow(clippy::disallowed_macros, reason = "a child says what it has done")]

use firstseen::snapshot::{FolderTarget, SnapshotOptions, list, verify};
use firstseen::{Durability, ErrorKind, Store};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const ROLE: &str = "FIRSTSEEN_SNAPSHOT_TEST_ROLE";
const DIR: &str = "FIRSTSEEN_SNAPSHOT_TEST_DIR";

fn kills() -> u64 {
    std::env::var("FIRSTSEEN_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(6)
}

fn place(dir: &Path) -> FolderTarget {
    FolderTarget::new(dir.join("copies"))
}

fn id(n: u64) -> [u8; 8] {
    n.to_be_bytes()
}

/// Runs this test again as a child in a role, which says on each line what it has done.
fn start(role: &str, dir: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
    command.env(ROLE, role).env(DIR, dir).stdout(Stdio::piped()).spawn().unwrap()
}

/// Not a test of its own: what a child does.
#[test]
fn child() {
    let (Ok(role), Some(dir)) = (std::env::var(ROLE), std::env::var_os(DIR)) else { return };
    let dir = PathBuf::from(dir);
    match role.as_str() {
        "claims" => claim_and_copy(&dir),
        _ => {
            Store::restore(&place(&dir), dir.join(role)).unwrap();
            println!("restored");
        }
    }
}

fn claim_and_copy(dir: &Path) {
    let store = Store::builder(dir.join("seen.db"))
        .segment_bytes(64 << 10)
        .durability(Durability::Disk)
        .open()
        .unwrap();
    let is_new = |n: &u64| !store.contains(id(*n)).unwrap();
    let first = (0..u64::MAX).find(is_new).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in (first..).step_by(50) {
                let batch: Vec<_> = (n..n + 50).map(id).collect();
                let claimed = store.claim_batch(&batch).unwrap();
                assert!(claimed.iter().all(|claim| claim.is_first_seen()), "{n}");
                println!("claimed {}", n + 50);
            }
        });
        loop {
            let options = SnapshotOptions::new().keep_last(3);
            println!("snapshot {}", store.snapshot_with(&place(dir), options).unwrap().number);
        }
    });
}

/// Kills a child after a while; returns the lines that it wrote.
fn kill(mut child: Child, after: Duration) -> Vec<String> {
    std::thread::park_timeout(after);
    child.kill().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let lines = lines.map_while(Result::ok).collect();
    child.wait().unwrap();
    lines
}

/// The last number that lines of this kind tell of, by their place.
fn last(lines: &[String], what: &str) -> Option<(usize, u64)> {
    let number = |line: &String| line.split_once(what)?.1.trim().parse().ok();
    lines.iter().enumerate().rev().find_map(|(at, line)| Some((at, number(line)?)))
}

#[test]
fn i15_a_process_killed_in_the_middle_of_a_snapshot_or_of_a_restore_leaves_whole_ones() {
    let dir = tempfile::tempdir().unwrap();
    let (mut acked_at_newest, mut interrupted) = (0, [0, 0]);
    for round in 0..kills() * 2 {
        let after = Duration::from_millis(400 + round * 37 % 300);
        let lines = kill(start("claims", dir.path()), after);
        let infos = list(&place(dir.path())).unwrap();
        for info in &infos {
            verify(&place(dir.path()), info.number).unwrap();
        }
        let Some((at, number)) = last(&lines, "snapshot ") else { continue };
        // What was claimed before the snapshot before it was told of was claimed before this call.
        let before = lines[..at].iter().rposition(|line| line.contains("snapshot "));
        if let Some((_, acked)) = before.and_then(|before| last(&lines[..before], "claimed ")) {
            acked_at_newest = acked;
        }
        let newest = infos.last().unwrap().number;
        assert!(newest >= number, "snapshot {number} was told of");
        interrupted[0] += 1;
        let path = dir.path().join(format!("restored-{round}"));
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let said = kill(start(&name, dir.path()), Duration::from_millis(2 + round * 5 % 40));
        match Store::builder(&path).create(false).open() {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::FixCall, "{error}");
                assert!(!said.iter().any(|line| line.contains("restored")), "{said:?}");
                assert_eq!(Store::repair(&path).unwrap_err().kind(), ErrorKind::FixCall);
                Store::restore(&place(dir.path()), &path).unwrap();
                interrupted[1] += 1;
            }
        }
        let store = Store::open(&path).unwrap();
        for n in 0..acked_at_newest {
            assert!(store.contains(id(n)).unwrap(), "{n} of {acked_at_newest} in round {round}");
        }
        drop(store);
        std::fs::remove_dir_all(path).unwrap();
    }
    assert!(interrupted.iter().all(|n| *n > 0), "{interrupted:?}");
}
