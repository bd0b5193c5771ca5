//! Ids of messages that belong to what becomes of a record: one for each fact, wherever and however often it is told.

use super::*;
use firstseen::ledger::Failure;
use firstseen::outbox::{MessageId, Outbox};
use firstseen::transaction::{CommitOutcome, Rejection, Transaction};
use std::collections::BTreeMap;

type Plan<'a> = dyn Fn(&mut Transaction) + 'a;

struct Scene {
    world: World,
    ledger: Ledger,
    topic: Outbox,
}

impl Scene {
    fn new() -> Self {
        let world = World::new();
        let policies = options().backoff(Backoff::constant(Duration::ZERO)).attempts_max(100);
        let ledger = world.store.ledger_with("payments", policies).expect("opens");
        let topic = world.store.outbox("sent").expect("opens");
        Self { world, ledger, topic }
    }

    fn begin(&self, id: &str) -> Attempt {
        started(&self.ledger, id)
    }

    /// Commits something with a message that waits from then on.
    fn emit(&self, says: &str, plan: &Plan<'_>) {
        let outcome = self.try_emit(says, plan);
        assert!(outcome.is_committed(), "{says}: {outcome:?}");
    }

    fn try_emit(&self, says: &str, plan: &Plan<'_>) -> CommitOutcome {
        let mut transaction = self.world.store.transaction();
        plan(&mut transaction);
        transaction.emit(&self.topic, says).expect("belongs to it");
        transaction.commit().expect("answers")
    }

    fn fail(&self, says: &str, failure: fn(&'static str) -> Failure) {
        let attempt = self.begin("a");
        self.emit(says, &|t| _ = t.fail(&attempt, failure("no")).expect("is a failure"));
    }

    fn complete(&self, says: &str) {
        let attempt = self.begin("a");
        self.emit(says, &|t| _ = t.complete(&attempt, b"done"));
    }

    fn ids(&self) -> BTreeMap<String, MessageId> {
        let messages = self.topic.read(1_000).expect("reads");
        let says = |payload: &[u8]| String::from_utf8(payload.to_vec()).expect("is text");
        let ids: BTreeMap<_, _> =
            messages.iter().map(|message| (says(&message.payload), message.id)).collect();
        assert_eq!(ids.len(), messages.len(), "each says something else");
        ids
    }
}

/// All that may become of a record, with each kind more than once.
fn live(scene: &Scene) {
    let Scene { ledger, .. } = scene;
    scene.fail("failed first", Failure::retry);
    scene.fail("failed again", Failure::retry);
    for says in ["released first", "released again"] {
        let attempt = scene.begin("a");
        scene.emit(says, &|t| _ = t.release(&attempt));
    }
    // One attempt with several ends: it is held, and then says that it failed.
    let attempt = scene.begin("a");
    scene.emit("held", &|t| _ = t.fail(&attempt, Failure::hold("who knows")).expect("fails"));
    let attempt = ledger.resume("a", attempt.token()).expect("is its record");
    scene.emit("failed after it was held", &|t| {
        t.fail(&attempt, Failure::retry("no")).expect("fails");
    });
    let attempt = scene.begin("a");
    scene.emit("stage", &|t| _ = t.save_stage(&attempt, "one", &1_u32).expect("is short"));
    scene.emit("buried", &|t| _ = t.fail(&attempt, Failure::last("no")).expect("fails"));
    scene.emit("redriven first", &|t| _ = t.redrive_fresh(ledger, "a"));
    let attempt = scene.begin("a");
    scene.emit("stage again", &|t| _ = t.save_stage(&attempt, "one", &1_u32).expect("is short"));
    scene.emit("buried again", &|t| _ = t.fail(&attempt, Failure::last("no")).expect("fails"));
    scene.emit("redriven again", &|t| _ = t.redrive(ledger, "a"));
    scene.emit("cancelled", &|t| _ = t.cancel(ledger, "a", "not wanted"));
    ledger.redrive("a").expect("redrives");
    scene.emit("cancelled again", &|t| _ = t.cancel(ledger, "a", "not wanted"));
    ledger.redrive("a").expect("redrives");
    scene.complete("completed");
    ledger.redrive("a").expect("redrives");
    scene.complete("completed again");
    ledger.redrive("a").expect("redrives");
    scene.emit("settled", &|t| _ = t.settle(ledger, "a", b"done", "found"));
    scene.emit("removed", &|t| _ = t.purge(ledger, "a"));
}

/// While the messages before still wait: with an id that one of them has, a commit would be rejected, and the effect of
/// the attempt be made again.
#[test]
fn each_fact_of_a_record_has_an_id_of_its_own_which_is_the_same_in_every_store() {
    let [first, other] = [(); 2].map(|()| {
        let scene = Scene::new();
        live(&scene);
        scene.ids()
    });
    let mut distinct: Vec<_> = first.values().collect();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), 18, "{first:?}");
    assert_eq!(first, other);
}

#[test]
fn what_happens_once_has_one_id_whoever_says_it() {
    let ids: Vec<MessageId> = (0..4)
        .map(|n| {
            let scene = Scene::new();
            match n {
                0 => {}
                1 => scene.begin("a").fail(Failure::retry("no")).expect("fails"),
                2 => scene.begin("a").release().expect("hands back"),
                _ => {
                    scene.begin("a").fail(Failure::hold("who knows")).expect("is held");
                    scene.emit("done", &|t| _ = t.settle(&scene.ledger, "a", b"", "found"));
                    return scene.ids()["done"];
                }
            }
            scene.complete("done");
            scene.ids()["done"]
        })
        .collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    // Which attempt saves a stage makes no difference either.
    let stages = [false, true].map(|is_second| {
        let scene = Scene::new();
        if is_second {
            scene.begin("a").fail(Failure::retry("no")).expect("fails");
        }
        let attempt = scene.begin("a");
        scene.emit("saved", &|t| _ = t.save_stage(&attempt, "one", &1_u32).expect("is short"));
        scene.ids()["saved"]
    });
    assert_eq!(stages[0], stages[1]);
}

/// The history of a record keeps the last attempts only, and their count goes on.
#[test]
fn the_fortieth_failure_of_an_id_has_an_id_of_its_own() {
    let scene = Scene::new();
    for n in 0..40 {
        let attempt = scene.begin("a");
        let says = format!("failed {n}");
        scene.emit(&says, &|t| _ = t.fail(&attempt, Failure::retry("no")).expect("fails"));
    }
    assert_eq!(scene.topic.pending().expect("counts").count, 40);
}

#[test]
fn a_message_of_an_operator_is_rejected_if_its_record_was_redriven_since_its_id_was_drawn() {
    let scene = Scene::new();
    let ledger = &scene.ledger;
    scene.begin("a").fail(Failure::last("no")).expect("fails");
    let mut transaction = scene.world.store.transaction();
    transaction.cancel(ledger, "a", "").emit(&scene.topic, "m").expect("belongs to it");
    ledger.redrive("a").expect("redrives").expect("there is a record");
    match transaction.commit().expect("answers") {
        CommitOutcome::Rejected(reasons) => {
            let [Rejection::Record { record: Some(record), .. }] = &reasons[..] else {
                panic!("{reasons:?}");
            };
            assert_eq!(record.redrives, 1);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(scene.topic.pending().expect("counts").count, 0);
    scene.emit("again", &|t| _ = t.cancel(ledger, "a", ""));
}
