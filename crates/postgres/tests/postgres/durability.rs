//! What is there after the server was killed by SIGKILL.

use crate::support::{World, claim, first, start};
use firstseen_shared::{Claim, DedupStore};

/// So that nothing is written behind the back of commits that do not wait.
const LAZY: [&str; 3] =
    ["wal_writer_delay=10s", "wal_writer_flush_after=100MB", "wal_buffers=16MB"];

/// Also where the role has `synchronous_commit` off: the store turns it on for its own commits.
#[tokio::test]
async fn nothing_that_was_answered_is_lost_when_the_server_is_killed() {
    let mut world = World::apart(&LAZY).await;
    world.run("ALTER ROLE postgres SET synchronous_commit = off").await;
    let store = world.store().await;
    for n in 0..200 {
        first(&store, &n.to_string()).await;
    }
    let token = start(&store, "a").await;
    world.kill().await;
    world.restart().await;
    let store = world.store().await;
    for n in 0..200 {
        assert!(claim(&store, &n.to_string()).await.is_duplicate(), "{n} is lost");
    }
    assert_eq!(store.record("n", b"a").await.unwrap().unwrap().token, token);
}

/// What `synchronous_commit(false)` gives up: the last answers, and not one of those before.
#[tokio::test]
async fn commits_that_do_not_wait_lose_the_last_answers_and_only_those() {
    let mut world = World::apart(&LAZY).await;
    let careful = world.store().await;
    let store = world.store_with(world.options().synchronous_commit(false)).await;
    let mut claimed = 0;
    for n in 0..200 {
        // A commit that waits has all before it on disk, too.
        let by = if n == 100 { &careful } else { &store };
        assert_eq!(claim(by, &n.to_string()).await, Claim::FirstSeen);
        claimed += 1;
    }
    world.kill().await;
    world.restart().await;
    let store = world.store().await;
    let mut lost = Vec::new();
    for n in 0..claimed {
        if claim(&store, &n.to_string()).await == Claim::FirstSeen {
            lost.push(n);
        }
    }
    println!(
        "proof | Postgres, synchronous_commit off | {claimed} claims, {} lost in a kill",
        lost.len()
    );
    assert!(!lost.is_empty(), "this server does not show what may be lost");
    assert!(lost.iter().all(|n| *n > 100), "{lost:?}");
    assert!(lost.windows(2).all(|pair| pair[1] == pair[0] + 1), "only the last: {lost:?}");
}

/// Rule 28: a sequence that crashes skips, and does not go back.
#[tokio::test]
async fn tokens_do_not_go_back_when_the_server_is_killed() {
    let mut world = World::apart(&[]).await;
    let mut last = 0;
    for round in 0..3 {
        let store = world.store().await;
        for n in 0..5 {
            let token = start(&store, &format!("{round}-{n}")).await;
            assert!(token > last, "{token} after {last}");
            last = token;
        }
        world.kill().await;
        world.restart().await;
    }
}
