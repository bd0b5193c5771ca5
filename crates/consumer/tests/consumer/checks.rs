//! The checks of every source, on the broker in memory.

use firstseen_consumer::testkit::{MemoryBroker, check_source};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_in_memory_passes_the_checks() {
    check_source(|| async { MemoryBroker::new(Duration::from_millis(400)) }).await;
}
