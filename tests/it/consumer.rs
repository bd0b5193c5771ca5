//! `examples/tokio_consumer.rs` where nobody kills it, and what a reservation may do to the tasks of a runtime.

use crate::support::*;
use firstseen::disk::sim::SimDisk;
use firstseen::{ClaimOptions, ErrorKind, Reserve, Store};
use std::collections::BTreeSet;
use std::time::Duration;

#[path = "../../examples/tokio_consumer.rs"]
#[allow(dead_code, reason = "its main is for those who run it")]
mod tokio_consumer;

#[test]
fn each_effect_is_made_once_where_nobody_kills() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(tokio_consumer::run(dir.path(), 500).unwrap(), 500);
    assert_eq!(tokio_consumer::run(dir.path(), 500).unwrap(), 0, "everything is acknowledged");
    let effects = std::fs::read_to_string(dir.path().join("effects")).unwrap();
    let ids: BTreeSet<&str> = effects.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!((ids.len(), effects.lines().count()), (500, 500));
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
