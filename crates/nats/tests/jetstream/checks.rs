//! The checks of every source, at the real server.

use crate::queue::Queue;
use firstseen_consumer::testkit::check_source;
use firstseen_nats::NatsOptions;
use firstseen_servers::nats;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jetstream_passes_the_checks_of_every_source() {
    let server = nats::start().await;
    let options = NatsOptions::new().ack_wait(Duration::from_millis(600));
    let address = server.address();
    check_source(|| Queue::create(&address, options.clone())).await;
}
