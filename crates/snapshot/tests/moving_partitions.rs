//! The example, with moves, kills and owners that wake up too late. `FIRSTSEEN_KILLS` sets how many kills; 6 by default.

#![allow(clippy::unwrap_used, reason = "a test that meets an error has failed")]
#![allow(clippy::disallowed_macros, reason = "a line of what was tried is printed")]

#[path = "../examples/moving_partitions/coordinator.rs"]
mod coordinator;
#[path = "../examples/moving_partitions/drive.rs"]
mod drive;
#[path = "../examples/moving_partitions/record.rs"]
mod record;
#[path = "../examples/moving_partitions/worker.rs"]
mod worker;

use firstseen::snapshot::RestoreOptions;
use firstseen::{ErrorKind, Store};
use std::path::Path;
use std::process::Command;

const NAME: &str = "FIRSTSEEN_MOVING_WORKER";
const DIR: &str = "FIRSTSEEN_MOVING_DIR";

/// Not a test of its own: what a worker does.
#[test]
fn as_worker() {
    if let (Ok(name), Ok(dir)) = (std::env::var(NAME), std::env::var(DIR)) {
        worker::work(Path::new(&dir), &name).unwrap();
    }
}

#[test]
fn rule_67_i15_partitions_move_under_load_and_no_id_is_lost_or_granted_twice() {
    let kills = std::env::var("FIRSTSEEN_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(6);
    let dir = tempfile::tempdir().unwrap();
    let start = |name: &str| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "as_worker", "--test-threads=1"]);
        command.env(NAME, name).env(DIR, dir.path()).stdout(std::process::Stdio::null());
        command
    };
    let told = drive::run(dir.path(), kills, &start).unwrap();
    println!("{told}");
    assert!(told.kills >= kills.min(1) && told.moves > 0, "{told:?}");
    assert!(told.again > 0, "a kill came between a delivery and the next snapshot: {told:?}");
}

/// The same without chance: the old owner sleeps while the new one begins.
#[test]
fn rule_67_i15_an_owner_that_was_replaced_is_refused_at_the_record_and_at_the_place() {
    let dir = tempfile::tempdir().unwrap();
    let record = record::Record::new(dir.path().join("record")).unwrap();
    let place = worker::place(dir.path(), 0);
    Store::open(dir.path().join("empty")).unwrap().snapshot(&place).unwrap();
    let owner = |epoch: u64| {
        assert!(record.begin(0, epoch).unwrap());
        let path = dir.path().join(epoch.to_string());
        Store::restore_with(&place, &path, RestoreOptions::new().epoch(epoch)).unwrap();
        let store = Store::open(path).unwrap();
        store.snapshot(&place).unwrap();
        store
    };
    let message = |id: &str| vec![(id.to_owned(), "text".to_owned())];
    let old = owner(1);
    assert!(record.take(0, 1, &message("a")).unwrap());
    let new = owner(2);
    assert!(old.claim("b").unwrap().is_first_seen(), "its own store does not know");
    assert!(!record.take(0, 1, &message("b")).unwrap());
    assert_eq!(old.snapshot(&place).unwrap_err().kind(), ErrorKind::FixCall);
    assert!(new.claim("b").unwrap().is_first_seen());
    assert!(record.take(0, 2, &message("b")).unwrap());
    assert!(record.take(0, 2, &message("b")).unwrap());
    new.snapshot(&place).unwrap();
    let written = record.written(0).unwrap();
    assert_eq!((written.effects.len(), written.again, written.fenced), (2, 1, 1));
}
