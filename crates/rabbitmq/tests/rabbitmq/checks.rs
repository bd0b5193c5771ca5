//! The checks of every source, at the real server.

use crate::queue::{Queue, server};
use firstseen_consumer::testkit::check_source;
use firstseen_rabbitmq::RabbitOptions;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rabbitmq_passes_the_checks_of_every_source() {
    let server = server().await;
    let address = server.address();
    check_source(|| Queue::create(&address, RabbitOptions::new())).await;
}
