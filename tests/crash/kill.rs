//! Real processes, killed: the test binary runs itself, claims with several threads and reports what was
//! acknowledged through a pipe; then it is killed, and the store is opened and asked.

use crate::env;
use crate::ops::Rng;
use firstseen::{Claim, Store};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const DIR: &str = "FIRSTSEEN_KILL_DIR";
const SEED: &str = "FIRSTSEEN_KILL_SEED";
const CHILD: &str = "kill::the_child_claims_until_it_is_killed";
const IDS: u64 = 300_000;

fn open(dir: &Path) -> firstseen::Result<Store> {
    Store::builder(dir).memory_budget(4 << 20).segment_bytes(1 << 20).shards(4).open()
}

fn id(n: u64) -> String {
    format!("order-{n:08}-{}", "x".repeat((n % 23) as usize))
}

/// Not a test by itself: the body of the child process.
#[test]
fn the_child_claims_until_it_is_killed() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else { return };
    let seed = env(SEED, 0);
    let store = open(&dir).expect("the store opens");
    let threads = 1 + seed % 8;
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let store = &store;
            scope.spawn(move || {
                let mut rng = Rng(seed * 100 + thread);
                let mut out = Vec::new();
                loop {
                    out.clear();
                    let ns: Vec<u64> = match rng.below(4) {
                        0 => (0..rng.below(50)).map(|_| rng.below(IDS)).collect(),
                        _ => vec![rng.below(IDS)],
                    };
                    let ids: Vec<String> = ns.iter().map(|n| id(*n)).collect();
                    let answers = match &ids[..] {
                        [one] => store.claim(one).map(|answer| vec![answer]),
                        many => store.claim_batch(many),
                    };
                    let answers = answers.expect("claims");
                    for (n, answer) in ns.iter().zip(&answers) {
                        let what = if *answer == Claim::FirstSeen { 'F' } else { 'D' };
                        writeln!(out, "@{what} {n}").expect("memory takes it");
                    }
                    // One write of less than a pipe's buffer: lines of two threads do not mix.
                    for part in out.chunks(4000) {
                        assert!(part.len() == out.len(), "batches are small");
                        std::io::stdout().lock().write_all(part).expect("the parent listens");
                        std::io::stdout().lock().flush().expect("the parent listens");
                    }
                }
            });
        }
    });
}

#[test]
fn i1_i6_a_killed_process_loses_nothing_and_grants_nothing_twice() {
    let kills = env("FIRSTSEEN_KILLS", 20);
    let first = env("FIRSTSEEN_CRASH_SEED", 1);
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("store.db");
    let mut granted: BTreeSet<u64> = BTreeSet::new();
    let mut there: BTreeSet<u64> = BTreeSet::new();
    let mut rng = Rng(first);
    for round in 0..kills {
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", CHILD, "--nocapture", "--test-threads=1"])
            .env(DIR, &path)
            .env(SEED, (first + round).to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the child starts");
        let pipe = child.stdout.take().expect("a pipe");
        // Sometimes before the store is open, sometimes after many seals.
        let life = if round % 5 == 4 { rng.below(15) } else { 20 + rng.below(400) };
        let killer = std::thread::spawn(move || {
            #[expect(clippy::disallowed_methods, reason = "a kill comes at a random moment")]
            std::thread::sleep(Duration::from_millis(life));
            child.kill().expect("SIGKILL");
            child.wait().expect("the child is gone")
        });
        let mut now: BTreeSet<u64> = BTreeSet::new();
        let mut lines = BufReader::new(pipe);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            // The last line may have been cut by the kill.
            if let [b'@', what, b' ', digits @ .., b'\n'] = &line[..] {
                let text = std::str::from_utf8(digits).expect("digits");
                let n: u64 = text.parse().expect("a number");
                if *what == b'F' {
                    assert!(granted.insert(n), "round {round}: id {n} was granted twice");
                }
                now.insert(n);
            }
            line.clear();
        }
        let status = killer.join().expect("the killer does not panic");
        assert!(
            std::os::unix::process::ExitStatusExt::signal(&status) == Some(9),
            "round {round}: the child ended by itself: {status}"
        );
        there.extend(now);
        if round % 4 == 3 {
            std::fs::remove_dir_all(path.join("sled")).ok();
        }
        let store = open(&path).unwrap_or_else(|e| panic!("round {round}: open after a kill: {e}"));
        for n in &there {
            let found = store.contains(id(*n)).expect("reads");
            assert!(found, "round {round}: id {n} was acknowledged and is lost (seed {first})");
        }
        if round % 3 == 0 {
            let report = store.verify().expect("reads");
            assert!(report.is_sound(), "round {round}: {report}");
            store.close().expect("closes");
        }
    }
    println!(
        "| kill -9 | {kills} kills, {} acknowledged | 1 to 8 threads | 0 lost, 0 twice |",
        granted.len()
    );
}
