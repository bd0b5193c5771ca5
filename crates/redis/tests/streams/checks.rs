//! The checks of every source, at the real servers.

use crate::queue::{Kind, Queue};
use firstseen_consumer::testkit::check_source;
use firstseen_redis::RedisOptions;
use std::sync::Arc;
use std::time::Duration;

on_both!(streams_pass_the_checks_of_every_source, a_named_consumer_passes_them_as_well);

/// Rules 91 and 92 are among them.
async fn streams_pass_the_checks_of_every_source(kind: Kind) {
    let server = Arc::new(kind.start().await);
    let options = RedisOptions::new().min_idle(Duration::from_millis(600));
    check_source(|| Queue::create(&server, options.clone())).await;
}

/// The checks have two sources of one name after one another, as a process that is restarted has.
async fn a_named_consumer_passes_them_as_well(kind: Kind) {
    let server = Arc::new(kind.start().await);
    let options = RedisOptions::new().min_idle(Duration::from_millis(600)).consumer("worker-1");
    check_source(|| Queue::create(&server, options.clone())).await;
}
