//! The checks of every source, at the real server.

use crate::server::{Queue, Server};
use firstseen_consumer::testkit::check_source;
use firstseen_nats::NatsOptions;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jetstream_passes_the_checks_of_every_source() {
    let server = Arc::new(Server::start().await);
    let options = NatsOptions::new().ack_wait(Duration::from_millis(600));
    check_source(|| Queue::create(&server, options.clone())).await;
}
