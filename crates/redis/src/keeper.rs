//! What is done beside the loop: entries that are put off for long are kept from other consumers, and consumers that are
//! gone are removed.

use crate::delays::{Delays, Far};
use crate::error::RedisError;
use crate::group::{Group, IDS_MAX, Kept};
use crate::lock::lock;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How seldom consumers are looked through, at most and at least.
const PRUNE_PAUSE: Duration = Duration::from_secs(60);
const PRUNE_PAUSE_MIN: Duration = Duration::from_millis(100);

/// Returns how idle the server is to take an entry for, so that others may have it when the delay has passed: the server
/// does not take times to come. For a longer delay: not at all, and to be set again.
pub(crate) fn idle_for(min_idle: Duration, delay: Duration) -> Duration {
    min_idle.saturating_sub(delay)
}

/// Goes on for ever; dropped with the source.
pub(crate) async fn keep(group: Arc<Group>, delays: Arc<Mutex<Delays>>) {
    let pause = group.options.min_idle / 3;
    let prune_pause = (group.options.consumers_expire / 4).clamp(PRUNE_PAUSE_MIN, PRUNE_PAUSE);
    let mut next_prune = Instant::now();
    loop {
        if let Err(error) = renew(&group, &delays).await {
            // Others may take them before they are due, and are told so by the ledger.
            tracing::debug!(%error, "entries that are put off were not kept from other consumers");
        }
        if Instant::now() >= next_prune {
            next_prune = Instant::now() + prune_pause;
            if let Err(error) = group.prune().await {
                tracing::debug!(%error, "consumers that are gone were not removed");
            }
        }
        sleep(pause.min(prune_pause)).await;
    }
}

async fn renew(group: &Group, delays: &Mutex<Delays>) -> Result<(), RedisError> {
    let min_idle = group.options.min_idle;
    let far = lock(delays).far();
    for some in far.chunks(IDS_MAX) {
        let now = Instant::now();
        let idle: Vec<_> = some
            .iter()
            .map(|Far { due, id }| (*id, idle_for(min_idle, due.duration_since(now))))
            .collect();
        let kept = group.keep("keeping what is put off", &idle).await?;
        let mut delays = lock(delays);
        for ((far, kept), (_, idle)) in some.iter().zip(kept).zip(idle) {
            match kept {
                Kept::Ours if idle.is_zero() => {}
                Kept::Ours => delays.settle(*far, true),
                Kept::Taken | Kept::Acknowledged => delays.settle(*far, false),
                Kept::Gone => {
                    group.watch.trimmed(&[far.id]);
                    delays.settle(*far, false);
                }
            }
        }
    }
    Ok(())
}
