//! Which shards a commit locks, and for how long.
#![allow(clippy::disallowed_methods, reason = "real time passes in these tests")]

use super::*;
use crate::support::settle;
use firstseen::ledger::{Attempt, BeginOptions, Failure, Ledger};
use firstseen::outbox::{Message, Outbox};
use firstseen::testing::{lock_shards, locked_shards, unflushed};
use std::sync::mpsc::channel;
use std::thread;

/// So many that no transaction here names half of them.
const SHARDS: usize = 64;

/// So long that a call which takes longer would wait for ever.
const PATIENCE: Duration = Duration::from_secs(20);

/// A store in which all that these transactions need is there, and flushed. It is the same each time it is opened, down to
/// the numbers of its rows.
struct Shop {
    disk: SimDisk,
    store: Store,
    points: Table<u64>,
    awarded: Outbox,
    waits: Message,
    ledger: Ledger,
    attempts: Vec<Attempt>,
}

/// Attempts that go on, each with a payload and a saved stage.
const RUNNING: [&str; 9] = [
    "renewed",
    "extended",
    "staged",
    "read",
    "completed",
    "failed",
    "released",
    "cancelled",
    "forgotten",
];

/// Dead letters.
const DEAD: [&str; 4] = ["settled", "redriven", "redriven afresh", "purged"];

impl Shop {
    fn open() -> Self {
        let (disk, clock) = (SimDisk::new(), clock());
        let builder = sim(&disk, &clock).shards(SHARDS).memory_budget(64 << 20);
        let store = builder.open().expect("opens");
        let points: Table<u64> = store.table("points").expect("opens");
        for key in ["anna", "bert", "only read"] {
            points.put(key, &1).expect("puts");
        }
        let awarded = store.outbox("awarded").expect("opens");
        let mut transaction = store.transaction();
        transaction.advance(&store.source("orders").expect("opens"), 0, 1);
        transaction.claim("before").emit(&awarded, "waits").expect("collects");
        assert!(transaction.commit().expect("answers").is_committed());
        let waits = awarded.read(1).expect("reads").remove(0);
        let ledger = store.ledger("payments").expect("opens");
        let begin = |id: &&str| {
            let options = BeginOptions::new().payload(b"input");
            let begun = ledger.begin_with(id, options).expect("begins");
            let attempt = begun.started().expect("starts");
            attempt.stage("first", || Ok::<u8, Failure>(1)).expect("saves");
            attempt
        };
        for attempt in DEAD.iter().map(begin) {
            attempt.fail(Failure::last("no")).expect("fails");
        }
        let attempts = RUNNING.iter().map(begin).collect();
        store.freeze();
        settle(&store);
        assert_eq!(unflushed(&store), [0; SHARDS]);
        Self { disk, store, points, awarded, waits, ledger, attempts }
    }

    fn attempt(&self, id: &str) -> &Attempt {
        self.attempts.iter().find(|attempt| attempt.id() == id.as_bytes()).expect("was begun")
    }

    fn filled(&self, kind: &Kind) -> Transaction {
        let mut transaction = self.store.transaction();
        (kind.fill)(self, &mut transaction);
        transaction
    }

    /// Returns the shards of what has been written since it was opened.
    fn written(&self) -> Vec<usize> {
        let counts = unflushed(&self.store);
        (0..SHARDS).filter(|shard| counts[*shard] > 0).collect()
    }
}

/// A kind of transaction.
struct Kind {
    name: &'static str,
    fill: fn(&Shop, &mut Transaction),
    /// The points that it only reads.
    reads: &'static [&'static str],
    can_be_prepared: bool,
}

impl Kind {
    const fn of(name: &'static str, fill: fn(&Shop, &mut Transaction)) -> Self {
        Self { name, fill, reads: &[], can_be_prepared: true }
    }

    /// Of what an attempt goes on with.
    const fn going_on(name: &'static str, fill: fn(&Shop, &mut Transaction)) -> Self {
        Self { can_be_prepared: false, ..Self::of(name, fill) }
    }

    /// Returns the shards of its ids and rows: this makes one like it elsewhere, and looks where it has written.
    fn shards(&self, make: fn(&Store, &Transaction)) -> Vec<usize> {
        let shop = Shop::open();
        make(&shop.store, &shop.filled(self));
        for key in self.reads {
            shop.points.put(key, &2).expect("puts");
        }
        shop.written()
    }
}

const KINDS: [Kind; 14] = [
    Kind {
        reads: &["only read"],
        ..Kind::of("claims, state, an offset and messages", |shop, transaction| {
            let other = shop.store.namespace("other").expect("opens");
            transaction.claim("order-1").claim_in(&other, "order-1");
            let before = transaction.get(&shop.points, "anna").expect("reads").expect("is there");
            transaction.put(&shop.points, "anna", &(before + 1)).expect("collects");
            transaction.delete(&shop.points, "bert").expect("collects");
            transaction.get(&shop.points, "only read").expect("reads");
            transaction.advance(&shop.store.source("orders").expect("opens"), 0, 7);
            transaction.emit(&shop.awarded, "anna has 2").expect("collects");
            transaction.acknowledge(&shop.awarded, &shop.waits).expect("collects");
        })
    },
    Kind::going_on("begin", |shop, transaction| {
        transaction.begin(&shop.ledger, "begun", BeginOptions::new().payload(b"input"));
    }),
    Kind::going_on("renew", |shop, transaction| _ = transaction.renew(shop.attempt("renewed"))),
    Kind::going_on("renew_for", |shop, transaction| {
        let lease = Duration::from_secs(600);
        transaction.renew_for(shop.attempt("extended"), lease).expect("is a lease");
    }),
    Kind::going_on("save_stage", |shop, transaction| {
        transaction.save_stage(shop.attempt("staged"), "second", &2_u8).expect("collects");
    }),
    Kind::going_on("save_cursor", |shop, transaction| {
        transaction.save_cursor(shop.attempt("read"), "second", &2_u8).expect("collects");
    }),
    Kind::of("complete", |shop, transaction| {
        transaction.complete(shop.attempt("completed"), b"result");
    }),
    Kind::of("fail", |shop, transaction| {
        transaction.fail(shop.attempt("failed"), Failure::last("no")).expect("is a failure");
    }),
    Kind::of("release", |shop, transaction| _ = transaction.release(shop.attempt("released"))),
    Kind::of("settle", |shop, transaction| {
        transaction.settle(&shop.ledger, "settled", b"result", "was done");
    }),
    Kind::of("redrive", |shop, transaction| {
        transaction
            .redrive(&shop.ledger, "redriven")
            .redrive_fresh(&shop.ledger, "redriven afresh");
    }),
    Kind::of("cancel", |shop, transaction| {
        transaction.cancel(&shop.ledger, "cancelled", "not wanted");
    }),
    Kind::of("purge", |shop, transaction| _ = transaction.purge(&shop.ledger, "purged")),
    Kind::of("forget", |shop, transaction| _ = transaction.forget(&shop.ledger, "forgotten")),
];

/// Makes a call while this thread has locked all shards but these.
fn while_others_are_locked<T: Send>(
    store: &Store,
    named: &[usize],
    what: &str,
    call: impl FnOnce() -> T + Send,
) -> T {
    let others: Vec<usize> = (0..SHARDS).filter(|shard| !named.contains(shard)).collect();
    assert!(others.len() > SHARDS / 2, "{what} names most of the shards: {named:?}");
    let (tell, hears) = channel();
    thread::scope(|scope| {
        let locked = lock_shards(store, &others);
        scope.spawn(move || tell.send(call()).ok());
        let done = hears.recv_timeout(PATIENCE);
        drop(locked);
        done.unwrap_or_else(|_| {
            panic!("{what} waits for the lock of a shard that it does not name")
        })
    })
}

#[test]
fn a_commit_locks_the_shards_of_its_ids_and_rows_and_no_others() {
    for kind in &KINDS {
        let named = kind.shards(|_, transaction| {
            let outcome = transaction.commit().expect("answers");
            assert!(outcome.is_committed(), "{outcome:?}");
        });
        let shop = Shop::open();
        let transaction = shop.filled(kind);
        let commit = || transaction.commit().expect("answers");
        let outcome = while_others_are_locked(&shop.store, &named, kind.name, commit);
        assert!(outcome.is_committed(), "{}: {outcome:?}", kind.name);
    }
}

#[test]
fn a_transaction_of_two_phases_locks_the_shards_of_its_ids_and_rows_and_no_others() {
    for kind in KINDS.iter().filter(|kind| kind.can_be_prepared) {
        let named = kind.shards(|store, transaction| {
            let outcome = transaction.prepare("t1").expect("answers");
            assert!(outcome.is_committed(), "{outcome:?}");
            assert_eq!(store.commit_prepared("t1").expect("ends"), EndOutcome::Done);
        });
        for is_committed in [true, false] {
            let shop = Shop::open();
            let transaction = shop.filled(kind);
            let alone = |what: &str, call: &(dyn Fn() -> bool + Sync)| {
                let what = format!("{what} of {}", kind.name);
                assert!(while_others_are_locked(&shop.store, &named, &what, call), "{what}");
            };
            alone("prepare", &|| transaction.prepare("t1").expect("answers").is_committed());
            let is_done =
                |end: firstseen::Result<EndOutcome>| end.expect("ends") == EndOutcome::Done;
            if is_committed {
                alone("commit_prepared", &|| is_done(shop.store.commit_prepared("t1")));
            } else {
                alone("rollback_prepared", &|| is_done(shop.store.rollback_prepared("t1")));
            }
        }
    }
}

#[test]
fn no_shard_is_locked_while_a_transaction_is_filled_or_prepared_or_waits_for_the_disk() {
    let shop = Shop::open();
    let all_are_free = |when: &str| assert_eq!(locked_shards(&shop.store), [0; 0], "{when}");
    let during_the_next_sync = || {
        let (store, (tell, hears)) = (shop.store.clone(), channel());
        shop.disk.after_next_sync(move || tell.send(locked_shards(&store)).expect("listens"));
        hears
    };

    let mut transaction = shop.filled(&KINDS[0]);
    all_are_free("it is filled");
    let heard = during_the_next_sync();
    transaction.durability(Durability::Disk);
    assert!(transaction.commit().expect("answers").is_committed());
    assert_eq!(heard.try_recv(), Ok(Vec::new()), "a commit waits for the disk");
    all_are_free("it is committed");

    for gid in ["committed", "rolled back"] {
        let mut transaction = shop.store.transaction();
        transaction.put(&shop.points, "anna", &3).expect("collects");
        let heard = during_the_next_sync();
        assert!(transaction.prepare(gid).expect("answers").is_committed());
        assert_eq!(heard.try_recv(), Ok(Vec::new()), "a preparation waits for the disk");
        all_are_free("it is prepared");
        let heard = during_the_next_sync();
        let ended = match gid {
            "committed" => shop.store.commit_prepared(gid),
            _ => shop.store.rollback_prepared(gid),
        };
        assert_eq!(ended.expect("ends"), EndOutcome::Done);
        assert_eq!(heard.try_recv(), Ok(Vec::new()), "the end of {gid} waits for the disk");
        all_are_free("it has ended");
    }

    let done = shop.store.transact(|transaction| {
        let points = transaction.get(&shop.points, "anna")?;
        all_are_free("work runs");
        transaction.put(&shop.points, "anna", &points.map_or(1, |points| points + 1))?;
        all_are_free("work runs");
        Ok::<_, Error>(())
    });
    assert!(done.expect("answers").committed().is_some());
}
