//! Kills `examples/tokio_consumer.rs` at random. The consumer runs in a child process: this test binary again, which
//! runs the example if an environment variable is set.

use crate::support::*;
use firstseen::disk::sim::SimDisk;
use firstseen::{ClaimOptions, ErrorKind, Reserve, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

#[path = "../../examples/tokio_consumer.rs"]
#[allow(dead_code, reason = "its main is for those who run it")]
mod tokio_consumer;

const FOLDER: &str = "FIRSTSEEN_TEST_CONSUMER";
const EVENTS: usize = 3_000;

/// For each event, the runs that made its effect.
fn effects(folder: &Path) -> BTreeMap<String, Vec<String>> {
    let mut runs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in std::fs::read_to_string(folder.join("effects")).unwrap_or_default().lines() {
        let (id, run) = line.split_once(' ').expect("id and run");
        runs.entry(id.to_owned()).or_default().push(run.to_owned());
    }
    runs
}

fn start(folder: &Path) -> Child {
    Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "consumer::each_effect_is_made_once_where_nobody_kills"])
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .spawn()
        .expect("starts")
}

#[test]
fn each_effect_is_made_once_where_nobody_kills() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        tokio_consumer::run(Path::new(&folder), EVENTS).expect("consumes");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(tokio_consumer::run(dir.path(), 500).unwrap(), 500);
    assert_eq!(tokio_consumer::run(dir.path(), 500).unwrap(), 0, "everything is acknowledged");
    let effects = effects(dir.path());
    assert_eq!(effects.len(), 500);
    assert!(effects.values().all(|runs| runs.len() == 1));
}

#[test]
fn a_consumer_that_is_killed_loses_no_event_and_repeats_only_what_it_was_working_on() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, kills) = (dir.path(), scaled(6) as usize);
    let mut random = u64::from(std::process::id()) | 1;
    let mut killed = 0;
    for round in 0..kills {
        // A random point in the round's share of the events, counted in effects made and not in time.
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let share = EVENTS / (kills + 1);
        let target = round * share + 1 + (random >> 33) as usize % share;
        let mut child = start(folder);
        while effects(folder).len() < target && child.try_wait().unwrap().is_none() {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        killed += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(killed > kills / 2, "only {killed} of {kills} were killed at work");
    assert!(start(folder).wait().unwrap().success(), "the last run is not killed and finishes");

    let effects = effects(folder);
    let store = Store::open(folder.join("seen.db")).unwrap();
    let acknowledged = std::fs::read_to_string(folder.join("acknowledged")).unwrap();
    let acknowledged: BTreeSet<&str> = acknowledged.lines().collect();
    assert_eq!(acknowledged.len(), EVENTS, "all are acknowledged");
    let mut repeated: BTreeMap<&str, usize> = BTreeMap::new();
    for id in acknowledged {
        let runs = effects.get(id).unwrap_or_else(|| panic!("{id} is lost"));
        let distinct: BTreeSet<&String> = runs.iter().collect();
        assert_eq!(distinct.len(), runs.len(), "{id}: two effects in one run: {runs:?}");
        // Every run but the last was killed while it worked on this event.
        for run in &runs[..runs.len() - 1] {
            *repeated.entry(run).or_default() += 1;
        }
        assert!(store.contains(id).unwrap(), "{id} is acknowledged but not claimed");
    }
    assert!(
        repeated.values().all(|n| *n <= tokio_consumer::WORKERS),
        "a kill repeats at most what was in progress: {repeated:?}"
    );
    assert!(store.verify().unwrap().is_sound());
}

/// `wait_max` is ten minutes: a call that waits blocks the only thread of the runtime for that long.
#[test]
fn a_reservation_held_over_an_await_stalls_no_task_that_asks_as_the_documentation_says() {
    let store = Store::builder(AT).disk(SimDisk::new()).wait_max(Duration::from_secs(600)).open();
    let store = store.unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let (started, begun) = tokio::sync::oneshot::channel();
        let holder = store.clone();
        let holder = tokio::spawn(async move {
            let Reserve::FirstSeen(mut held) = holder.reserve("a").unwrap() else { panic!("new") };
            started.send(()).unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            held.confirm().unwrap();
        });
        begun.await.unwrap();
        let now = ClaimOptions::new().wait(Duration::ZERO);
        for _ in 0..8 {
            assert!(matches!(store.reserve("a").unwrap(), Reserve::InProgress));
            assert_eq!(store.claim_with("a", now).unwrap_err().kind(), ErrorKind::Retry);
        }
        let claims = store.clone();
        let blocking = tokio::task::spawn_blocking(move || claims.claim("a").unwrap());
        holder.await.unwrap();
        assert!(blocking.await.unwrap().is_duplicate(), "a blocking thread may wait");
        assert!(store.claim("a").unwrap().is_duplicate());
    });
}
