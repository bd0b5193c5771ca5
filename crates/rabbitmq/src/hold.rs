//! Messages that are to come again, but not yet.
//!
//! A quorum queue of RabbitMQ 3.10 cannot put a message off. Two ways were weighed:
//!
//! - **Publish it again**, to a queue with a time to live whose dead-letter exchange leads back, and acknowledge the first. The
//!   delay survives this process and takes no room in the prefetch window. But the message is another one then: the server's
//!   count of deliveries begins anew; a crash between confirm and acknowledgement leaves two; the way back drops it unless that
//!   queue dead-letters at least once and neither queue is full; it always ends behind those that came after it; and each delay
//!   needs a queue and the right to create it.
//! - **Hold it unacknowledged** until the delay has passed, and give it back then. It never leaves its queue, so nothing can
//!   lose or double it, and the server counts. If this process dies it comes at once, and the ledger, which knows when it is due,
//!   puts it off again. It takes room in the prefetch window, and must not be held longer than the server's `consumer_timeout`.
//!   The server puts what is given back at the end of the queue, or near its head if the queue has a delivery limit.
//!
//! It is held: the queue stays the only place of the message, and the ledger the only place of the delay.

use crate::error::RabbitError;
use lapin::Acker;
use lapin::options::BasicNackOptions;
use std::collections::BTreeMap;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

/// Holds deliveries, and gives each back when its time has come. Cheap to clone.
///
/// Its task ends with the last clone. What it still holds then comes again with the end of its connection.
#[derive(Debug, Clone)]
pub(crate) struct Holder(UnboundedSender<Order>);

#[derive(Debug)]
enum Order {
    Hold(Instant, Acker),
    /// Everything, now and from now on.
    GiveBack(oneshot::Sender<()>),
}

impl Holder {
    /// Starts one, on the runtime of the caller.
    pub(crate) fn start() -> Self {
        let (sender, orders) = unbounded_channel();
        tokio::spawn(hold(orders));
        Self(sender)
    }

    pub(crate) fn hold(&self, until: Instant, acker: Acker) {
        // Without its task the runtime is gone, and the connection with it.
        let _ = self.0.send(Order::Hold(until, acker));
    }

    /// Gives back what is held, and from now on everything at once. Returns once the server has been told.
    pub(crate) async fn give_back(&self) {
        let (sender, done) = oneshot::channel();
        if self.0.send(Order::GiveBack(sender)).is_ok() {
            let _ = done.await;
        }
    }
}

async fn hold(mut orders: UnboundedReceiver<Order>) {
    let mut held: BTreeMap<(Instant, u64), Acker> = BTreeMap::new();
    let mut count = 0;
    let mut is_closing = false;
    loop {
        let due = held.first_key_value().map(|((due, _), _)| *due);
        let wait = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            order = orders.recv() => match order {
                Some(Order::Hold(_, acker)) if is_closing => give_back(acker).await,
                Some(Order::Hold(until, acker)) => {
                    // In the order in which they were taken, if they are due at the same time.
                    count += 1;
                    held.insert((until, count), acker);
                }
                Some(Order::GiveBack(done)) => {
                    is_closing = true;
                    while let Some((_, acker)) = held.pop_first() {
                        give_back(acker).await;
                    }
                    let _ = done.send(());
                }
                None => return,
            },
            () = wait => {
                if let Some((_, acker)) = held.pop_first() {
                    give_back(acker).await;
                }
            }
        }
    }
}

async fn give_back(acker: Acker) {
    if let Err(error) = requeue(&acker).await {
        // It was answered meanwhile, or comes again because its connection is lost.
        tracing::debug!(%error, "a message was not given back");
    }
}

/// Has the server deliver it again. A negative acknowledgement and no rejection: newer servers count only the latter as
/// a failure.
pub(crate) async fn requeue(acker: &Acker) -> Result<(), RabbitError> {
    let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
    let told = acker.nack(options).await;
    let is_told = told.map_err(RabbitError::of("giving a message back"))?;
    is_told.then_some(()).ok_or(RabbitError::Gone)
}
