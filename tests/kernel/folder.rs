//! A folder that changes under another process: a child opens a store by a relative path, then its working directory
//! changes, or the store's folder is moved or removed, or its lock file deleted.

use crate::job::Mix;
use crate::report::{Verdict, env, fail, first_seed, proof};
use crate::subject::Firstseen;
use firstseen::{Builder, ErrorKind, Store};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

const TEST: &str = "i11_a_store_is_a_folder_not_a_name_also_to_other_processes";
const CHILD: &str = "folder::only_as_a_child_that_opens_by_a_relative_name";
const VARIABLE: &str = "FIRSTSEEN_FOLDER_CHILD";
const NAME: &str = "seen.db";
/// Enough for several segments and flushes with the tuning below.
const CLAIMS: u64 = 6_000;

fn builder(path: &Path) -> Builder {
    Firstseen::builder(path, Mix::Compaction.tuning())
}

fn id(owner: u8, n: u64) -> [u8; 9] {
    let mut id = [owner; 9];
    id[1..].copy_from_slice(&n.to_be_bytes());
    id
}

/// Claims ids; returns how many were acknowledged before the first error, and that error.
fn claim(store: &Store, owner: u8, from: u64, to: u64) -> (u64, Option<ErrorKind>) {
    for n in from..to {
        match store.claim(id(owner, n)) {
            Ok(answer) => assert!(answer.is_first_seen(), "{n} was swallowed"),
            Err(e) => return (n, Some(e.kind())),
        }
    }
    (to, None)
}

/// The child: opens, claims, reads a line (a folder to change to, or nothing), claims more and closes.
#[test]
fn only_as_a_child_that_opens_by_a_relative_name() {
    let Ok(folder) = std::env::var(VARIABLE) else { return };
    std::env::set_current_dir(folder).expect("is there");
    let store = builder(Path::new(NAME)).open().expect("opens");
    assert_eq!(claim(&store, 1, 0, CLAIMS), (CLAIMS, None));
    store.sync().expect("syncs");
    println!("\nready");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("the parent lives");
    if !line.trim().is_empty() {
        std::env::set_current_dir(line.trim()).expect("is there");
    }
    let (acknowledged, error) = claim(&store, 1, CLAIMS, 2 * CLAIMS);
    let synced = store.sync().map_err(|e| e.kind());
    let closed = store.close().map_err(|e| e.kind());
    println!("\ndone {acknowledged} {error:?} {synced:?} {closed:?}");
}

struct Other {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Other {
    fn start(folder: &Path) -> Verdict<Self> {
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", CHILD, "--nocapture", "--test-threads=1"])
            .env(VARIABLE, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| e.to_string())?;
        let lines = BufReader::new(child.stdout.take().ok_or("no pipe")?);
        let mut other = Self { child, lines };
        other.hear("ready")?;
        Ok(other)
    }

    fn hear(&mut self, word: &str) -> Verdict<String> {
        let mut line = String::new();
        while self.lines.read_line(&mut line).is_ok_and(|n| n > 0) {
            if line.starts_with(word) {
                return Ok(line.trim().to_owned());
            }
            line.clear();
        }
        Err(format!("the child ended without a word ({word})"))
    }

    /// Lets the child continue; returns its last line.
    fn go(mut self, folder: &str) -> Verdict<String> {
        let mut input = self.child.stdin.take().ok_or("no pipe")?;
        writeln!(input, "{folder}").map_err(|e| e.to_string())?;
        let said = self.hear("done")?;
        self.child.wait().map_err(|e| e.to_string())?;
        Ok(said)
    }
}

/// Checks that the store holds all of these claims and is sound.
fn all_there(path: &Path, owner: u8, count: u64) -> Verdict {
    let store = builder(path).open().map_err(|e| format!("open again: {e}"))?;
    let lost = (0..count).filter(|n| !store.contains(id(owner, *n)).unwrap_or(false)).count();
    let report = store.verify().map_err(|e| e.to_string())?;
    if lost > 0 || !report.is_sound() {
        return Err(format!("{lost} of {count} of store {owner} lost; {report}"));
    }
    store.close().map_err(|e| e.to_string())
}

fn ours(path: &Path) -> Verdict<Store> {
    let store = builder(path).open().map_err(|e| format!("the second store: {e}"))?;
    match claim(&store, 2, 0, CLAIMS) {
        (CLAIMS, None) => store.sync().map(|()| store).map_err(|e| e.to_string()),
        other => Err(format!("the second store: {other:?}")),
    }
}

fn expect(said: &str, wanted: &str) -> Verdict {
    if said == wanted { Ok(()) } else { Err(format!("the child said {said:?}, not {wanted:?}")) }
}

fn all_well() -> String {
    format!("done {} None Ok(()) Ok(())", 2 * CLAIMS)
}

/// The child changes to a folder that has a store of the same name, open or closed.
fn changed_folder(dir: &Path, is_open: bool) -> Verdict {
    let (a, b) = (dir.join("a"), dir.join("b"));
    for folder in [&a, &b] {
        std::fs::create_dir(folder).map_err(|e| e.to_string())?;
    }
    let mut second = Some(ours(&b.join(NAME))?);
    if !is_open {
        second.take().map(Store::close).transpose().map_err(|e| e.to_string())?;
    }
    let said = Other::start(&a)?.go(&b.display().to_string())?;
    second.map(Store::close).transpose().map_err(|e| e.to_string())?;
    expect(&said, &all_well())?;
    all_there(&a.join(NAME), 1, 2 * CLAIMS)?;
    all_there(&b.join(NAME), 2, CLAIMS)
}

fn moved(dir: &Path) -> Verdict {
    let (path, moved) = (dir.join(NAME), dir.join("moved.db"));
    let child = Other::start(dir)?;
    std::fs::rename(&path, &moved).map_err(|e| e.to_string())?;
    let second = ours(&path)?;
    let said = child.go("")?;
    second.close().map_err(|e| e.to_string())?;
    expect(&said, &all_well())?;
    all_there(&moved, 1, 2 * CLAIMS)?;
    all_there(&path, 2, CLAIMS)
}

fn removed(dir: &Path) -> Verdict {
    let path: PathBuf = dir.join(NAME);
    let child = Other::start(dir)?;
    // The child's background threads may create a file while the folder is being emptied.
    while path.exists() {
        std::fs::remove_dir_all(&path).ok();
    }
    let said = child.go("")?;
    if !said.ends_with("Err(Reopen) Err(Reopen)") || path.exists() {
        return Err(format!("removed, and the child said {said:?}"));
    }
    Ok(())
}

fn unlocked(dir: &Path) -> Verdict {
    let path = dir.join(NAME);
    let child = Other::start(dir)?;
    std::fs::remove_file(path.join("LOCK")).map_err(|e| e.to_string())?;
    match builder(&path).open() {
        Err(e) if e.kind() == ErrorKind::Locked => {}
        other => return Err(format!("a second open without LOCK: {:?}", other.map(drop))),
    }
    let said = child.go("")?;
    if !said.ends_with("Err(Reopen) Err(Reopen)") {
        return Err(format!("its lock was deleted, and the child said {said:?}"));
    }
    all_there(&path, 1, CLAIMS)
}

fn all(rounds: u64) -> Verdict {
    type Case = fn(&Path) -> Verdict;
    let cases: [(&str, Case); 5] = [
        ("another working folder", |dir| changed_folder(dir, false)),
        ("another working folder, with an open store", |dir| changed_folder(dir, true)),
        ("moved", moved),
        ("removed", removed),
        ("LOCK deleted", unlocked),
    ];
    for round in 0..rounds {
        for (what, case) in cases {
            let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
            case(dir.path()).map_err(|e| format!("round {round}, {what}: {e}"))?;
        }
    }
    let details = "rounds of a changed working folder, a moved one with a new store in its place, a removed one \
                   and a deleted LOCK, under a store that another process has open; 0 lost on either side";
    proof("changed folders", rounds, "rounds", details);
    Ok(())
}

#[test]
fn i11_a_store_is_a_folder_not_a_name_also_to_other_processes() {
    let rounds = env("FIRSTSEEN_FOLDER_ROUNDS", 5);
    if let Err(what) = all(rounds) {
        fail(TEST, &format!("FIRSTSEEN_FOLDER_ROUNDS={rounds}"), first_seed(), &what);
    }
}
