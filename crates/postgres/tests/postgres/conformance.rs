//! The rules of every store, with a clock that stands still where the test sets it. Rule 95 is in all of them: nobody but the server
//! reads a clock.

use crate::support::{NOW_MS, World};
use firstseen_conformance::{Fixture, conformance, rules};
use firstseen_postgres::PostgresStore;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;

struct Schema {
    world: Mutex<World>,
    now_ms: AtomicI64,
    /// Whether nobody else uses the server, so that it can be killed.
    is_apart: bool,
}

impl Schema {
    async fn new() -> Self {
        Self::of(World::new().await, false).await
    }

    async fn apart() -> Self {
        Self::of(World::apart(&[]).await, true).await
    }

    async fn of(world: World, is_apart: bool) -> Self {
        let schema = Self { world: Mutex::new(world), now_ms: AtomicI64::new(NOW_MS), is_apart };
        schema.advance(Duration::ZERO).await;
        schema
    }
}

impl Fixture for Schema {
    type Store = PostgresStore;

    async fn store(&self) -> PostgresStore {
        self.world.lock().await.store().await
    }

    async fn advance(&self, time: Duration) {
        let ms = i64::try_from(time.as_millis()).unwrap();
        let now_ms = self.now_ms.fetch_add(ms, Ordering::Relaxed) + ms;
        self.store().await.set_clock(Some(now_ms)).await.unwrap();
    }

    async fn restart(&self) -> bool {
        if self.is_apart {
            self.world.lock().await.restart().await;
        }
        self.is_apart
    }
}

conformance!(Schema::new().await);

#[test]
fn what_was_answered_outlasts_the_kill_of_the_server() {
    firstseen_conformance::test(async {
        let fixture = Schema::apart().await;
        rules::what_was_answered_outlasts_a_restart_of_the_store(&fixture).await;
    });
}

/// The rules once more while partitions come and go: whatever generation a claim is in, the answers are the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rules_of_claims_hold_while_partitions_come_and_go() {
    struct Maintained(Schema);

    impl Fixture for Maintained {
        type Store = PostgresStore;

        async fn store(&self) -> PostgresStore {
            let store = self.0.store().await;
            store.maintain().await.unwrap();
            store
        }

        async fn advance(&self, time: Duration) {
            self.0.advance(time).await;
            let done = self.0.store().await.maintain().await.unwrap();
            assert!(!done.is_blocked && !done.is_elsewhere, "{done:?}");
        }
    }

    for rule in rules::NAMES {
        if rule.contains("claim") || rule.contains("batch") || rule.contains("histories") {
            let fixture = Maintained(Schema::new().await);
            rules::check(rule, &fixture).await;
        }
    }
}
