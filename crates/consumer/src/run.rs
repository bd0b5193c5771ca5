//! The loop: takes deliveries as there is room for them, and stops in good order.

use crate::by_reservation::{Reserving, Retries};
use crate::claims::Guard;
use crate::counters::{Counters, Live, count};
use crate::handler::Handler;
use crate::life::Life;
use crate::options::ConsumerOptions;
use crate::outcome::{Error, said};
use crate::phase::{Phase, Phases};
use crate::source::{Delivery, Source, Want};
use crate::stall::{STILL, Stall};
use crate::turns::{Turn, Turns};
use bytes::Bytes;
use firstseen::Namespace;
use firstseen::ledger::Ledger;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};

/// After an error of the source: the first pause, doubled each time, and the longest.
const SOURCE_PAUSE: Duration = Duration::from_millis(50);
const SOURCE_PAUSE_MAX: Duration = Duration::from_secs(5);

/// A call of the source that takes this much longer than it was to wait is given up.
const SOURCE_LATE: Duration = Duration::from_secs(30);

/// A consumer: takes messages from a [`Source`], has each handled once, and acknowledges it.
///
/// The [crate's first page](crate) shows one from start to finish.
pub struct Consumer<S, H> {
    source: S,
    guard: Guard,
    handler: H,
    options: ConsumerOptions,
    handle: Handle,
}

/// Reads the counters of a loop, and stops it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    counters: Arc<Live>,
    phases: Phases,
}

impl Handle {
    /// Returns what the loop has done so far.
    pub fn counters(&self) -> Counters {
        self.counters.read()
    }

    /// Stops the loop in good order: nothing more is taken or begun; handlers that run are waited for, as long as
    /// [`ConsumerOptions::grace`] says; what is done is acknowledged, and the rest given back to the broker.
    /// [`Consumer::run`] returns then.
    pub fn stop(&self) {
        self.phases.enter(Phase::Stop);
    }
}

impl<S: Source, H: Handler> Consumer<S, H> {
    /// Creates a consumer whose work a ledger guards: attempts are counted over crashes, answers are stored, and dead
    /// letters can be listed and done again. The ledger's options say how often, with which pauses, and what happens when
    /// a worker dies in the middle.
    ///
    /// With [`Durability::Process`](firstseen::Durability::Process), the default of a store, each step is a write without a
    /// sync, and one sync before the acknowledgement serves many. With
    /// [`OnLeaseEnd::Hold`](firstseen::ledger::OnLeaseEnd::Hold) use a ledger with
    /// [`Durability::Disk`](firstseen::Durability::Disk), or a power cut may forget that an attempt was begun.
    pub fn with_ledger(source: S, ledger: Ledger, handler: H) -> Self {
        Self::new(source, Guard::Ledger(ledger), handler)
    }

    /// Creates a consumer whose work a reservation guards: one record for each message and no answer. For handlers that
    /// are cheap and rarely fail.
    pub fn with_reservations(
        source: S,
        namespace: Namespace,
        retries: Retries,
        handler: H,
    ) -> Self {
        Self::new(source, Guard::Reserving(Arc::new(Reserving::new(namespace, retries))), handler)
    }

    /// Creates a consumer whose work a ledger on a shared store guards, so that consumers on several machines may take
    /// messages of one queue, and a message that is delivered to another machine after a crash is known there.
    ///
    /// A store that does not answer ends no loop: messages wait at the broker, and work that goes on keeps on until its own
    /// lease ends, counted from the last renewal that was accepted. Then it is stopped where it stands, and the message comes again;
    /// [`OnLeaseEnd`](firstseen::ledger::OnLeaseEnd) says what that means. After a crash, too, the next attempt starts when the lease has
    /// ended, and not at once: choose leases of seconds to a minute. What is acknowledged is as safe as the store's answers
    /// are; there is nothing to sync, and payloads are not kept.
    #[cfg(feature = "shared")]
    pub fn with_shared<D: firstseen_shared::DedupStore>(
        source: S,
        ledger: firstseen_shared::SharedLedger<D>,
        handler: H,
    ) -> Self {
        Self::new(source, Guard::Shared(crate::by_shared::guarding(ledger)), handler)
    }

    fn new(source: S, guard: Guard, handler: H) -> Self {
        let handle = Handle { counters: Arc::default(), phases: Phases::new() };
        Self { source, guard, handler, options: ConsumerOptions::new(), handle }
    }

    /// Sets the options.
    #[must_use]
    pub fn options(self, options: ConsumerOptions) -> Self {
        Self { options, ..self }
    }

    /// Returns a handle, to stop it and to read its counters.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs until [`Handle::stop`] is called. Returns what was done.
    ///
    /// Errors of the broker do not end it: it asks again, with growing pauses. Dropping the future is like a crash: what
    /// was in flight comes again.
    ///
    /// # Errors
    ///
    /// The store could not go on. What is done is in it or not; nothing that is not was acknowledged.
    pub async fn run(self) -> Result<Counters, Error> {
        let Self { source, guard, handler, options, handle } = self;
        let life = Arc::new(Life {
            source,
            guard,
            handler,
            workers: Semaphore::new(options.workers as usize),
            options,
            counters: Arc::clone(&handle.counters),
            phases: handle.phases.clone(),
        });
        let mut flights = Flights { life, tasks: JoinSet::new(), turns: Turns::default() };
        let mut beside = JoinSet::new();
        beside.spawn(ask_for_lag(Arc::clone(&flights.life)));
        let taken = flights.take_until_stopped().await;
        // First the source takes nothing more, or what is given back would come at once.
        flights.stop_source().await;
        handle.phases.enter(Phase::Finish);
        let landed = flights.land().await;
        // Waited for: once this returns, no task of the loop has the store open.
        beside.shutdown().await;
        taken.and(landed).map(|()| handle.counters())
    }
}

/// What a task of a delivery leaves: its place in line, and how much it weighed.
type Landed = (Option<(Bytes, u64)>, usize, Result<(), Error>);

/// The deliveries in flight.
struct Flights<S: Source, H> {
    life: Arc<Life<S, H>>,
    tasks: JoinSet<Landed>,
    turns: Turns,
}

impl<S: Source, H: Handler> Flights<S, H> {
    async fn take_until_stopped(&mut self) -> Result<(), Error> {
        let life = Arc::clone(&self.life);
        let (mut pause, mut stall) = (SOURCE_PAUSE, Stall::default());
        while !life.phases.is(Phase::Stop) {
            while let Some(landed) = self.tasks.try_join_next() {
                self.account(landed)?;
            }
            let Some(want) = self.room() else {
                // Backpressure: nothing is asked for before something is done.
                tokio::select! {
                    Some(landed) = self.tasks.join_next() => {
                        stall.over();
                        self.account(landed)?;
                    }
                    () = tokio::time::sleep(STILL) => stall.without_room(&life.counters),
                    () = life.phases.reached(Phase::Stop) => {}
                }
                continue;
            };
            let next = tokio::time::timeout(want.wait + SOURCE_LATE, life.source.next(want));
            tokio::pin!(next);
            // What lands meanwhile is accounted for at once: the source may have nothing for as long as it may wait.
            let next = loop {
                tokio::select! {
                    biased;
                    next = &mut next => break next,
                    () = life.phases.reached(Phase::Stop) => return Ok(()),
                    Some(landed) = self.tasks.join_next() => self.account(landed)?,
                }
            };
            let why = match next {
                Ok(Ok(deliveries)) => {
                    pause = SOURCE_PAUSE;
                    if deliveries.is_empty() {
                        stall.without_deliveries(&life.counters, life.options.lag_every);
                    } else {
                        stall.over();
                    }
                    for delivery in deliveries {
                        self.start(delivery);
                    }
                    continue;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            count(&life.counters.source_errors);
            tracing::warn!(%why, "the source has failed; once more in {pause:?}");
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = life.phases.reached(Phase::Stop) => {}
            }
            pause = (pause * 2).min(SOURCE_PAUSE_MAX);
        }
        Ok(())
    }

    /// Returns how much may be asked for; `None` if there is too little room to be worth a call.
    fn room(&self) -> Option<Want> {
        let Life { options, counters, .. } = &*self.life;
        let count = options.in_flight_max.saturating_sub(self.tasks.len());
        let in_flight_bytes = counters.in_flight_bytes.load(Relaxed) as usize;
        let bytes = options.bytes_max.saturating_sub(in_flight_bytes);
        // In batches: a quarter of the room at a time.
        let enough =
            count >= options.in_flight_max.div_ceil(4) && bytes >= options.bytes_max.div_ceil(4);
        enough.then_some(Want { count, bytes, wait: options.poll })
    }

    fn start(&mut self, delivery: Delivery<S::Token>) {
        let life = Arc::clone(&self.life);
        let bytes = delivery.message.payload.len();
        count(&life.counters.delivered);
        count(&life.counters.in_flight);
        life.counters.in_flight_bytes.fetch_add(bytes as u64, Relaxed);
        let key = delivery.message.key.as_ref().filter(|_| life.options.is_ordered);
        let (turn, place) = match key {
            Some(key) => {
                let (turn, place) = self.turns.join(key);
                (turn, Some(place))
            }
            None => (Turn::default(), None),
        };
        self.tasks.spawn(async move { (place, bytes, life.live(delivery, turn).await) });
    }

    fn account(&mut self, landed: Result<Landed, JoinError>) -> Result<(), Error> {
        let (place, bytes, lived) = landed.map_err(|error| match error.try_into_panic() {
            Ok(panic) => Error::Panicked(said(&*panic)),
            Err(error) => Error::Panicked(error.to_string()),
        })?;
        if let Some(place) = place {
            self.turns.leave(&place);
        }
        let counters = &self.life.counters;
        counters.in_flight.fetch_sub(1, Relaxed);
        counters.in_flight_bytes.fetch_sub(bytes as u64, Relaxed);
        lived
    }

    async fn stop_source(&self) {
        let life = &self.life;
        let stopped = tokio::time::timeout(life.options.answer_max, life.source.stop()).await;
        if let Err(why) = stopped
            .map_err(|_| "no answer".to_owned())
            .and_then(|stopped| stopped.map_err(|error| error.to_string()))
        {
            tracing::warn!(%why, "the source has not given back what it had taken ahead");
        }
    }

    /// Waits for what is in flight: first in patience, then dropping what still runs. Returns the first error.
    async fn land(&mut self) -> Result<(), Error> {
        let life = Arc::clone(&self.life);
        let mut result = Ok(());
        let grace = tokio::time::sleep(life.options.grace);
        tokio::pin!(grace);
        loop {
            tokio::select! {
                landed = self.tasks.join_next() => match landed {
                    None => return result,
                    Some(landed) => result = result.and(self.account(landed)),
                },
                () = &mut grace, if !life.phases.is(Phase::Abandon) => {
                    life.phases.enter(Phase::Abandon);
                }
            }
        }
    }
}

async fn ask_for_lag<S: Source, H: Handler>(life: Arc<Life<S, H>>) {
    loop {
        match tokio::time::timeout(life.options.answer_max, life.source.lag()).await {
            Ok(Ok(lag)) => life.counters.set_lag(lag),
            // What was known is old.
            Ok(Err(_)) | Err(_) => life.counters.set_lag(None),
        }
        tokio::time::sleep(life.options.lag_every).await;
    }
}
