//! The checks of every source, at the real server.

use crate::queue::{Queue, brokers};
use firstseen_consumer::testkit::check_source;
use firstseen_kafka::{KafkaIds, KafkaOptions};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_passes_the_checks_of_every_source() {
    let server = brokers().await;
    let options = KafkaOptions::new(KafkaIds::header("id"))
        .answer_wait(Duration::from_millis(600))
        .revoke_wait(Duration::from_millis(200));
    let brokers = server.address();
    check_source(|| Queue::create(&brokers, 1, options.clone())).await;
}
