//! The end of a replay scope. Whoever it refuses meanwhile waits for it, nobody waits for ever, and what is done then is
//! done in what stands.

use crate::explore::{explore, once};
use crate::scene::{Scene, join, start};
use firstseen::event_time::EventTimeOptions;
use firstseen::outbox::{AsyncSink, Delivery, Message, Relay, RelayOptions};
use firstseen::replay::ReplayScope;
use firstseen::table::Table;
use firstseen::testing::{unflushed, waiting_futures};
use firstseen::transaction::{EndOutcome, Transacted, Transaction};
use firstseen::{Error, ErrorKind, LogPosition, Result, Store, Timestamp, seconds};
use shuttle::future::block_on;
use std::sync::{Arc, Mutex};

/// An order, and the counter in which it is counted.
type Order = (&'static str, &'static str);

const FIRST: Order = ("order-1", "anna");
const SECOND: Order = ("order-2", "bert");
const LAST: Order = ("order-10", "ines");

/// What the counters inside the scope begin with. Those outside begin with nothing.
const INSIDE: u64 = 100;

/// A store with counters outside of a scope and inside.
struct World {
    store: Store,
    outside: Table<u64>,
    scope: ReplayScope,
    inside: Table<u64>,
}

impl World {
    fn new() -> Self {
        let store = Scene::new().builder().shards(2).open().expect("opens");
        let outside = store.table("counters").expect("opens");
        let scope = store.replay("again").expect("begins");
        let inside: Table<u64> = scope.table("counters").expect("opens");
        for (_, counter) in [FIRST, SECOND, LAST] {
            inside.put(counter, &INSIDE).expect("puts");
        }
        Self { store, outside, scope, inside }
    }

    /// Counts the first two orders, one in a thread that blocks and one in a future, while somebody ends the scope and
    /// then claims the last order. Returns their answers.
    fn count_beside(
        &self,
        counters: &Table<u64>,
        ends: impl FnOnce(&ReplayScope) + Send + 'static,
    ) -> [Result<Transacted<u64>>; 2] {
        let (store, work) = (self.store.clone(), count(counters, FIRST));
        let blocking = start(move || store.transact(work));
        let (store, work) = (self.store.clone(), count(counters, SECOND));
        let future = start(move || block_on(store.transact_async(work)));
        let (store, scope, work) =
            (self.store.clone(), self.scope.clone(), count(&self.outside, LAST));
        let ender = start(move || {
            ends(&scope);
            committed(store.transact(work))
        });
        let answers = [blocking, future].map(|thread| thread.join().expect("no panic"));
        join([ender]);
        assert_eq!(waiting_futures(&self.store), [0; 3]);
        answers
    }

    fn counted(&self, (_, counter): Order) -> Option<u64> {
        self.outside.get(counter).expect("reads").map(|entry| entry.value)
    }

    /// Returns where the log has the claim of an order.
    fn position(&self, (order, _): Order) -> LogPosition {
        let events = self.store.history(order).expect("reads").events;
        assert_eq!(events.len(), 1, "{order} is claimed once: {events:?}");
        events[0].position
    }

    /// Returns whether an order was claimed before the last one. What is left behind takes nothing after that.
    fn is_before_the_last(&self, order: Order) -> bool {
        self.position(order) < self.position(LAST)
    }
}

/// Claims an order and counts it. Returns what the counter was.
fn count(
    counters: &Table<u64>,
    (order, counter): Order,
) -> impl FnMut(&mut Transaction) -> Result<u64> + use<> {
    let counters = counters.clone();
    move |transaction| {
        let before = transaction.get(&counters, counter)?.unwrap_or(0);
        transaction.claim(order).put(&counters, counter, &(before + 1))?;
        Ok(before)
    }
}

fn committed<T>(answer: Result<Transacted<T>>) -> T {
    answer.expect("it waits for the end").committed().expect("nobody else counts there")
}

#[test]
fn i9_i12_who_transacts_during_a_promotion_waits_for_it_and_is_made_once_in_what_stands() {
    explore(
        "i9_i12_who_transacts_during_a_promotion_waits_for_it_and_is_made_once_in_what_stands",
        || {
            let world = World::new();
            let answers = world.count_beside(&world.outside, |scope| {
                assert!(scope.promote().expect("promotes"));
            });
            for (order, answer) in [FIRST, SECOND].into_iter().zip(answers) {
                let is_replaced = committed(answer) < INSIDE;
                assert!(!is_replaced || world.is_before_the_last(order), "{order:?} is lost");
                assert_eq!(
                    world.counted(order),
                    Some(INSIDE + u64::from(!is_replaced)),
                    "{order:?}"
                );
            }
            assert_eq!(world.counted(LAST), Some(INSIDE + 1));
        },
    );
}

/// An order that was counted outside is new inside, or the promotion would skip it.
#[test]
fn i9_nobody_is_told_of_a_duplicate_outside_and_counts_inside_during_a_promotion() {
    explore(
        "i9_nobody_is_told_of_a_duplicate_outside_and_counts_inside_during_a_promotion",
        || {
            let world = World::new();
            let orders = world.store.namespace("orders").expect("opens");
            assert!(orders.claim("order").expect("claims").is_first_seen());
            world.scope.namespace("orders").expect("opens");
            let work = |(_, counter): Order| {
                let (orders, counters) = (orders.clone(), world.outside.clone());
                move |transaction: &mut Transaction| {
                    let is_new = transaction.claim_if_new_in(&orders, "order")?;
                    let before = transaction.get(&counters, counter)?.unwrap_or(0);
                    transaction.put(&counters, counter, &(before + u64::from(is_new)))?;
                    Ok::<_, Error>((is_new, before >= INSIDE))
                }
            };
            let (store, first) = (world.store.clone(), work(FIRST));
            let blocking = start(move || store.transact(first));
            let (store, second) = (world.store.clone(), work(SECOND));
            let future = start(move || block_on(store.transact_async(second)));
            let scope = world.scope.clone();
            let promoter = start(move || assert!(scope.promote().expect("promotes")));
            let answers = join([blocking, future]).into_iter().map(committed);
            join([promoter]);
            let is_there = orders.contains("order").expect("reads");
            let mut counted = 0;
            for (is_new, is_inside) in answers {
                assert!(is_inside || !is_new, "it was counted outside before");
                assert!(is_there || !is_inside, "told of a duplicate outside, it was made inside");
                counted += u64::from(is_new);
            }
            let [first, second] =
                [FIRST, SECOND].map(|order| world.counted(order).expect("is inside"));
            assert_eq!((counted, first + second), (u64::from(is_there), 2 * INSIDE + counted));
        },
    );
}

/// The same of duplicates that are skipped: what was read is noted as read where they were.
#[test]
fn i9_nobody_skips_a_duplicate_outside_and_goes_on_inside_during_a_promotion() {
    explore("i9_nobody_skips_a_duplicate_outside_and_goes_on_inside_during_a_promotion", || {
        let World { store, scope, .. } = World::new();
        let options = || EventTimeOptions::new(seconds(60));
        let clicks = store.event_time("clicks", options()).expect("opens");
        let (orders, input) =
            (store.namespace("orders").expect("opens"), store.source("input").expect("opens"));
        let at = Timestamp::from_millis(1);
        assert!(orders.claim("order").expect("claims").is_first_seen());
        assert!(clicks.claim_at("click", "web", at).expect("claims").is_first_seen());
        for opened in [
            scope.namespace("orders").map(drop),
            scope.event_time("clicks", options()).map(drop),
            scope.source("input").map(drop),
        ] {
            opened.expect("opens");
        }
        let (all, claims, read) = (store.clone(), orders.clone(), input.clone());
        let blocking = start(move || {
            all.transact(|transaction| {
                transaction.skip_duplicates().claim_in(&claims, "order").advance(&read, 0, 1);
                Ok::<_, Error>(())
            })
        });
        let (all, events, read) = (store.clone(), clicks.clone(), input.clone());
        let future = start(move || {
            block_on(all.transact_async(|transaction| {
                transaction.skip_duplicates().claim_at(&events, "click", "web", at);
                transaction.advance(&read, 1, 1);
                Ok::<_, Error>(())
            }))
        });
        let promoter = start(move || assert!(scope.promote().expect("promotes")));
        join([blocking, future]).into_iter().for_each(committed);
        join([promoter]);
        let is_read = [0, 1].map(|partition| input.position(partition).expect("reads").is_some());
        let is_click_there = !clicks.claim_at("click", "web", at).expect("claims").is_first_seen();
        let is_there = [orders.contains("order").expect("reads"), is_click_there];
        assert_eq!(is_read, is_there, "it goes on behind what is not there");
    });
}

/// It is refused for what a prepared transaction holds. Those whom it has refused meanwhile go on where they were.
#[test]
fn i12_who_transacts_during_a_promotion_that_is_refused_is_made_where_it_was() {
    explore("i12_who_transacts_during_a_promotion_that_is_refused_is_made_where_it_was", || {
        let world = World::new();
        let mut transaction = world.store.transaction();
        transaction.put(&world.outside, "held", &1).expect("collects");
        assert!(transaction.prepare("t1").expect("answers").is_committed());
        let answers = world.count_beside(&world.outside, |scope| {
            let error = scope.promote().expect_err("something is in doubt");
            assert_eq!(error.kind(), ErrorKind::Retry, "{error}");
        });
        for (order, answer) in [FIRST, SECOND].into_iter().zip(answers) {
            assert_eq!((committed(answer), world.counted(order)), (0, Some(1)), "{order:?}");
            world.position(order);
        }
        let ended = world.store.commit_prepared("t1").expect("ends");
        assert_eq!(ended, EndOutcome::Done);
    });
}

#[test]
fn i9_i12_who_transacts_inside_a_scope_that_is_dropped_is_made_before_or_told_so() {
    explore(
        "i9_i12_who_transacts_inside_a_scope_that_is_dropped_is_made_before_or_told_so",
        || {
            let world = World::new();
            let answers = world.count_beside(&world.inside, |scope| {
                assert!(scope.discard().expect("drops"));
            });
            for (order, answer) in [FIRST, SECOND].into_iter().zip(answers) {
                match answer {
                    Ok(answer) => {
                        assert_eq!(answer.committed(), Some(INSIDE), "{order:?}");
                        assert!(world.is_before_the_last(order), "{order:?} is lost");
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::FixCall, "{error}");
                        assert!(!world.store.contains(order.0).expect("reads"), "{order:?}");
                    }
                }
                assert_eq!(world.counted(order), None, "nothing of it is outside");
            }
        },
    );
}

/// Otherwise the locks of shards would hide what the scenarios above look for: a commit that hangs between its check and
/// its record, while a promotion is made and another commit in what it has promoted.
#[test]
fn an_order_is_counted_in_other_shards_than_the_end_of_the_scope_and_the_last_order() {
    once(|| {
        let World { store, outside, scope, .. } = World::new();
        let written = |write: &dyn Fn()| -> Vec<usize> {
            store.freeze();
            store.run_background().expect("flushes");
            write();
            let counts = unflushed(&store);
            (0..2).filter(|shard| counts[*shard] > 0).collect()
        };
        let count = |order| _ = committed(store.transact(count(&outside, order)));
        let first = written(&|| count(FIRST));
        let end = written(&|| assert!(scope.promote().expect("promotes")));
        let last = written(&|| count(LAST));
        assert!(
            first.len() == 1 && !end.contains(&first[0]) && !last.contains(&first[0]),
            "{first:?}, {end:?}, {last:?}: choose other names"
        );
    });
}

/// Takes all messages, and stops the relays once it has that from inside the scope.
#[derive(Clone)]
struct Takes {
    delivered: Arc<Mutex<Vec<String>>>,
    relays: [Relay; 2],
}

impl Takes {
    fn take(&self, batch: &[Message]) -> Delivery {
        let payloads = batch.iter().map(|message| message.payload.escape_ascii().to_string());
        let payloads: Vec<String> = payloads.collect();
        if payloads.iter().any(|payload| payload == "inside") {
            self.relays.iter().for_each(Relay::stop);
        }
        self.delivered.lock().expect("no panic under this lock").extend(payloads);
        Delivery::all()
    }
}

impl AsyncSink for Takes {
    async fn deliver(&self, batch: &[Message]) -> Delivery {
        self.take(batch)
    }
}

#[test]
fn i12_relays_that_acknowledge_during_a_promotion_go_on_with_what_was_promoted() {
    explore("i12_relays_that_acknowledge_during_a_promotion_go_on_with_what_was_promoted", || {
        let store = Scene::new().open();
        let (topic, scope) =
            (store.outbox("mails").expect("opens"), store.replay("again").expect("begins"));
        let inside = scope.outbox("mails").expect("opens");
        for (topic, payload) in [(&topic, "one"), (&topic, "two"), (&inside, "inside")] {
            let mut transaction = store.transaction();
            transaction.claim(payload).emit(topic, payload).expect("collects");
            assert!(transaction.commit().expect("answers").is_committed());
        }
        let relay = || topic.relay(RelayOptions::new().batch_max(1)).expect("is made");
        let sink = Takes { delivered: Arc::default(), relays: [relay(), relay()] };
        let takes = sink.clone();
        let blocking = start(move || {
            let take = |batch: &[Message]| takes.take(batch);
            takes.relays[0].run(&take).map(drop)
        });
        let takes = sink.clone();
        let future = start(move || block_on(takes.relays[1].run_async(&takes)).map(drop));
        let promoter = start(move || scope.promote().map(drop));
        for ended in join([blocking, future, promoter]) {
            ended.expect("nobody is refused");
        }
        let mut delivered = sink.delivered.lock().expect("no panic under this lock").clone();
        delivered.sort();
        let all = delivered.len();
        delivered.dedup();
        assert_eq!((delivered.len(), &*delivered[0]), (all, "inside"), "{delivered:?}: each once");
        assert!(topic.read(10).expect("reads").is_empty(), "it is acknowledged");
    });
}
