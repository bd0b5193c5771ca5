//! Awaitable calls at `Disk`: while one of them waits for the disk, its thread does something else.
#![allow(clippy::disallowed_methods, reason = "real time passes in these tests")]

use super::*;
use crate::support::Woken;
use firstseen::Durability;
use firstseen::ledger::{AttemptError, Cursor, Failure, Ran, State};
use firstseen::table::RawTable;
use firstseen::transaction::{CommitOutcome, Transaction};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Instant;

/// So long that a thread which is blocked that long would be blocked for ever.
const PATIENCE: Duration = Duration::from_secs(5);

/// A ledger at `Disk` in a store at `Process`, whose disk holds up every sync until another task lets it go.
struct Scene {
    world: World,
    ledger: Ledger,
    /// The same ledger, whose calls wait for no sync.
    quick: Ledger,
    table: RawTable,
    attempt: Arc<Attempt>,
    /// A sync was held up until it lost its patience: the task that would have let it go had no thread.
    was_blocked: Arc<AtomicBool>,
}

impl Scene {
    fn new() -> Self {
        let world = World::new();
        let at_disk = options().durability(Durability::Disk);
        let ledger = world.store.ledger_with("payments", at_disk).expect("opens");
        let (quick, table) = (world.ledger(), world.store.raw_table("noise").expect("opens"));
        for (id, failure) in [
            ("waits", Failure::retry("no")),
            ("dead", Failure::last("no")),
            ("buried", Failure::last("no")),
            ("held", Failure::hold("no")),
        ] {
            started(&quick, id).fail(failure).expect("fails");
        }
        started(&quick, "done").complete_value(&7_u32).expect("completes");
        let first = started(&quick, "staged");
        first.stage("saved", || Ok::<_, Failure>(1_u32)).expect("runs");
        first.release().expect("hands back");
        let attempt = Arc::new(started(&ledger, "a"));
        let scene = Self { world, ledger, quick, table, attempt, was_blocked: Arc::default() };
        scene.write_noise();
        scene
    }

    /// Writes what is not on disk: whoever reads anything now waits for the disk, or says that he has read what may be lost.
    fn write_noise(&self) {
        self.table.put("noise", b"").expect("is short");
    }

    fn hold_next_sync(&self) -> (Receiver<()>, Sender<()>) {
        let ((enter, entered), (leave, left)) = (channel(), channel::<()>());
        let (left, was_blocked) = (Mutex::new(left), Arc::clone(&self.was_blocked));
        self.world.disk.after_next_sync(move || {
            enter.send(()).ok();
            let left = left.lock().expect("no panic").recv_timeout(PATIENCE);
            if left == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                was_blocked.store(true, Ordering::Relaxed);
            }
        });
        (entered, leave)
    }

    /// Runs a call on a runtime of one thread, beside a task that lets each sync go once it has seen it. Returns how many
    /// it has seen.
    fn run(&self, call: impl Future<Output = ()>) -> usize {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let is_over = AtomicBool::new(false);
        let seen = AtomicUsize::new(0);
        let call = async {
            call.await;
            is_over.store(true, Ordering::Relaxed);
        };
        // Before the first poll, which may have a sync made.
        let mut held = self.hold_next_sync();
        let other = async {
            while !is_over.load(Ordering::Relaxed) {
                if held.0.try_recv().is_ok() {
                    seen.fetch_add(1, Ordering::Relaxed);
                    self.write_noise();
                    let next = self.hold_next_sync();
                    // Dropping the end of the channel lets it go.
                    held = next;
                }
                tokio::task::yield_now().await;
            }
        };
        let (mut call, mut other) = (pin!(call), pin!(other));
        let mut is_done = false;
        runtime.block_on(std::future::poll_fn(|cx| {
            is_done = is_done || call.as_mut().poll(cx).is_ready();
            match other.as_mut().poll(cx) {
                Poll::Ready(()) if is_done => Poll::Ready(()),
                _ => Poll::Pending,
            }
        }));
        seen.load(Ordering::Relaxed)
    }
}

type Call<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// A call, how many syncs it waits for at least, and what it does.
type Case = (&'static str, usize, for<'a> fn(&'a Scene) -> Call<'a>);

async fn commit(scene: &Scene, plan: impl FnOnce(&mut Transaction)) -> CommitOutcome {
    let mut transaction = scene.world.store.transaction();
    plan(&mut transaction);
    transaction.commit_async().await.expect("answers")
}

async fn is_begun(scene: &Scene, id: &str) -> Begin {
    scene.ledger.begin_async(id, BeginOptions::new()).await.expect("begins")
}

const BEGINS: [Case; 9] = [
    ("begin", 1, |scene| {
        Box::pin(async {
            let attempt = is_begun(scene, "new").await.started().expect("is new");
            attempt.complete_async("").await.expect("completes");
        })
    }),
    ("begin, refused", 1, |scene| {
        Box::pin(async { assert!(matches!(is_begun(scene, "done").await, Begin::Completed(_))) })
    }),
    ("begin, dropped", 1, |scene| {
        Box::pin(async { drop(is_begun(scene, "new").await.started().expect("is new")) })
    }),
    ("run", 3, |scene| {
        let work = |attempt: Arc<Attempt>| async move {
            let stage = attempt.stage_async("one", || async { Ok::<_, Failure>(20_u32) });
            Ok(stage.await? + 1)
        };
        Box::pin(async move {
            let ran = scene.ledger.run_async("new", BeginOptions::new(), work).await;
            assert!(matches!(ran, Ok(Ran::First(21))), "{ran:?}");
        })
    }),
    ("run, done before", 1, |scene| {
        let never = |_| async { panic!("is done") };
        Box::pin(async move {
            let ran = scene.ledger.run_async::<u32, _>("done", BeginOptions::new(), never).await;
            assert!(matches!(ran, Ok(Ran::Replayed(7))), "{ran:?}");
        })
    }),
    ("run, failed", 2, |scene| {
        let fails = |_| async { Err::<u32, _>(Failure::retry("no")) };
        Box::pin(async move {
            let ran = scene.ledger.run_async("new", BeginOptions::new(), fails).await;
            assert!(ran.is_err(), "{ran:?}");
        })
    }),
    ("run, with a result that cannot be stored", 2, |scene| {
        let large = |_| async { Ok(vec![0_u8; 2 << 20]) };
        Box::pin(async move {
            let ran = scene.ledger.run_async("new", BeginOptions::new(), large).await;
            assert!(ran.is_err(), "{ran:?}");
            let state = scene.quick.get("new").expect("reads").map(|record| record.state);
            assert!(matches!(state, Some(State::Dead { .. })), "{state:?}");
        })
    }),
    ("run, dropped in the middle of its work", 1, |scene| {
        Box::pin(async {
            let never = |_| std::future::pending::<Result<u32, Failure>>();
            let mut run = Box::pin(scene.ledger.run_async("new", BeginOptions::new(), never));
            for _ in 0..10_000 {
                assert!(poll_once(&mut run).await.is_none(), "its work does not end");
                if scene.quick.get("new").expect("reads").is_some() {
                    break;
                }
            }
            drop(run);
            // Until the sync for it was let go.
            scene.world.store.sync_async().await.expect("syncs");
        })
    }),
    ("wait", 1, |scene| {
        Box::pin(async {
            let record = scene.ledger.wait_async("done").expect("waits").await.expect("reads");
            assert!(record.is_some());
        })
    }),
];

/// Polls a future once, and the other task after it.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    let polled = std::future::poll_fn(|cx| {
        Poll::Ready(match Pin::new(&mut *future).poll(cx) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        })
    });
    let polled = polled.await;
    tokio::task::yield_now().await;
    polled
}

const OF_READS: [Case; 6] = [
    ("check", 1, |scene| Box::pin(async { scene.attempt.check_async().await.expect("goes on") })),
    ("check, refused", 1, |scene| {
        scene.quick.cancel("a", "not wanted").expect("cancels");
        Box::pin(async {
            let error = scene.attempt.check_async().await.expect_err("is fenced");
            assert!(matches!(error, AttemptError::Fenced { .. }), "{error:?}");
        })
    }),
    ("saved stage", 1, |scene| {
        Box::pin(async {
            let attempt = is_begun(scene, "staged").await.started().expect("waits");
            scene.write_noise();
            let saved = attempt.saved_stage_async::<u32>("saved").await;
            assert_eq!(saved.expect("reads"), Some(1));
            attempt.release_async().await.expect("hands back");
        })
    }),
    ("saved stage, of which nothing is saved", 1, |scene| {
        Box::pin(async {
            let saved = scene.attempt.saved_stage_async::<u32>("one").await;
            assert_eq!(saved.expect("reads"), None);
        })
    }),
    ("saved cursor", 2, |scene| {
        Box::pin(async {
            let outcome = commit(scene, |transaction| {
                transaction.save_cursor(&scene.attempt, "pages", &4_u32).expect("is short");
            });
            assert!(outcome.await.is_committed());
            scene.write_noise();
            let saved = scene.attempt.saved_cursor_async::<u32>("pages").await;
            assert_eq!(saved.expect("reads"), Some(4));
        })
    }),
    ("stage with a cursor", 4, |scene| {
        Box::pin(async {
            let work = async |cursor: &mut Cursor<'_, u32>| {
                for page in 1..3 {
                    cursor.advance_async(page).await?;
                }
                Ok::<_, Failure>(cursor.position().copied())
            };
            let done = scene.attempt.stage_with_cursor_async("pages", work).await;
            assert_eq!(done.expect("runs"), Some(2));
        })
    }),
];

const OF_ATTEMPTS: [Case; 7] = [
    ("complete", 1, |scene| {
        Box::pin(async { scene.attempt.complete_async("x").await.expect("completes") })
    }),
    ("fail", 1, |scene| {
        Box::pin(async { scene.attempt.fail_async(Failure::retry("no")).await.expect("fails") })
    }),
    ("release", 1, |scene| {
        Box::pin(async { scene.attempt.release_async().await.expect("hands back") })
    }),
    ("complete, refused", 1, |scene| {
        scene.quick.cancel("a", "not wanted").expect("cancels");
        Box::pin(async {
            let error = scene.attempt.complete_async("x").await.expect_err("is refused");
            assert!(matches!(error, AttemptError::Fenced { .. }), "{error:?}");
        })
    }),
    ("stage", 2, |scene| {
        Box::pin(async {
            let stage = scene.attempt.stage_async("one", || async { Ok::<_, Failure>(1_u32) });
            assert_eq!(stage.await.expect("runs"), 1);
        })
    }),
    ("stage, saved before", 2, |scene| {
        Box::pin(async {
            let attempt = is_begun(scene, "staged").await.started().expect("waits");
            let never = || async { panic!("is saved") };
            let stage = attempt.stage_async::<u32, Failure, _>("saved", never);
            assert_eq!(stage.await.expect("is saved"), 1);
            attempt.release_async().await.expect("hands back");
        })
    }),
    ("stage, refused", 1, |scene| {
        scene.quick.cancel("a", "not wanted").expect("cancels");
        Box::pin(async {
            let never = || async { panic!("is fenced") };
            let stage = scene.attempt.stage_async::<u32, Failure, _>("one", never);
            assert!(stage.await.expect_err("is fenced").reason().contains("taken the record"));
        })
    }),
];

const OF_TRANSACTIONS: [Case; 7] = [
    ("commit of what goes on", 1, |scene| {
        Box::pin(async {
            let outcome = commit(scene, |transaction| {
                transaction.save_stage(&scene.attempt, "one", &1_u32).expect("is short");
            });
            assert!(outcome.await.is_committed());
            let outcome = commit(scene, |transaction| _ = transaction.renew(&scene.attempt));
            assert!(outcome.await.is_committed());
        })
    }),
    ("commit of a beginning", 1, |scene| {
        Box::pin(async {
            let outcome = commit(scene, |transaction| {
                transaction.begin(&scene.ledger, "new", BeginOptions::new());
            });
            let attempt = outcome.await.attempt(&scene.ledger, "new").expect("begins");
            attempt.complete_async("").await.expect("completes");
        })
    }),
    ("commit of a beginning, refused", 1, |scene| {
        Box::pin(async {
            let outcome = commit(scene, |transaction| {
                transaction.begin(&scene.ledger, "done", BeginOptions::new());
            });
            assert!(!outcome.await.is_committed());
        })
    }),
    ("commit of an end", 1, |scene| {
        Box::pin(async {
            let outcome =
                commit(scene, |transaction| _ = transaction.complete(&scene.attempt, b"x"));
            assert!(outcome.await.is_committed());
        })
    }),
    ("commit of an end, refused", 1, |scene| {
        scene.quick.cancel("a", "not wanted").expect("cancels");
        Box::pin(async {
            let outcome =
                commit(scene, |transaction| _ = transaction.complete(&scene.attempt, b"x"));
            assert!(!outcome.await.is_committed());
        })
    }),
    ("commit of what operators do", 1, |scene| {
        Box::pin(async {
            let (ledger, quick) = (&scene.ledger, &scene.quick);
            let outcome = commit(scene, |transaction| {
                transaction.redrive(ledger, "dead").redrive_fresh(ledger, "buried");
                transaction.settle(ledger, "held", b"paid", "found").cancel(ledger, "waits", "no");
                transaction.purge(ledger, "done").forget(quick, "a");
            });
            assert!(outcome.await.is_committed());
        })
    }),
    ("prepare", 1, |scene| {
        Box::pin(async {
            let mut transaction = scene.world.store.transaction();
            transaction.complete(&scene.attempt, b"x");
            let prepared = transaction.prepare_async("gid").await.expect("answers");
            assert!(prepared.is_committed());
        })
    }),
];

#[test]
fn i6_no_awaitable_call_of_a_ledger_blocks_its_thread_at_disk() {
    let of_attempts = OF_ATTEMPTS.into_iter().chain(OF_READS);
    for (name, syncs, call) in BEGINS.into_iter().chain(of_attempts).chain(OF_TRANSACTIONS) {
        let scene = Scene::new();
        let future = call(&scene);
        let seen = scene.run(future);
        let was_blocked = scene.was_blocked.load(Ordering::Relaxed);
        assert!(!was_blocked, "{name} blocked the thread of its runtime");
        assert!(seen >= syncs, "{name} waited for {seen} syncs");
    }
}

/// What is in the log is read by others who may wait for it; nobody waits under the lock of the attempt.
#[test]
fn i9_a_task_that_asks_an_attempt_does_not_wait_for_a_renewal_that_waits_for_the_disk() {
    let scene = Scene::new();
    let (entered, leave) = scene.hold_next_sync();
    thread::scope(|scope| {
        let renewed = scope.spawn(|| scene.attempt.renew());
        entered.recv_timeout(PATIENCE).expect("a sync begins");
        let began = Instant::now();
        assert_eq!(scene.attempt.number(), 1);
        let mut context = Context::from_waker(Waker::noop());
        let mut completed = Box::pin(scene.attempt.complete_async("x"));
        assert!(completed.as_mut().poll(&mut context).is_pending(), "it is not on disk");
        assert!(began.elapsed() < PATIENCE, "it has waited for the renewal");
        drop(leave);
        renewed.join().expect("no panic").expect("is renewed");
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        if completed.as_mut().poll(&mut context).is_pending() {
            woken.until(1);
            let ended = completed.as_mut().poll(&mut context);
            assert!(matches!(ended, Poll::Ready(Ok(()))), "{ended:?}");
        }
    });
    assert!(!scene.was_blocked.load(Ordering::Relaxed));
}

/// What is saved of a stage counts once towards what an id may keep, also where nobody waited until it was on disk.
#[test]
fn a_position_whose_save_was_dropped_is_not_counted_twice() {
    let (disk, clock) = (SimDisk::new(), clock());
    let builder = sim(&disk, &clock).segment_bytes(16 << 20).memtable_bytes(64 << 20);
    let store = builder.durability(Durability::Disk).open().expect("opens");
    let attempt = started(&store.ledger("payments").expect("opens"), "a");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let large = "x".repeat(3 << 20);
    let work = async |cursor: &mut Cursor<'_, String>| {
        drop(poll_once(&mut Box::pin(cursor.advance_async(large.clone()))).await);
        cursor.advance_async(large.clone()).await?;
        Ok::<_, Failure>(1_u32)
    };
    let done = runtime.block_on(attempt.stage_with_cursor_async("pages", work));
    assert_eq!(done.expect("what is kept is below its limit"), 1);
}

/// A runtime of many threads moves it from one to another.
#[test]
fn a_stage_with_a_cursor_can_be_sent_to_another_thread() {
    fn sent<T: Send>(value: T) -> T {
        value
    }
    let world = World::new();
    let attempt = started(&world.ledger(), "a");
    let work = async |cursor: &mut Cursor<'_, u32>| {
        cursor.advance_async(1).await?;
        Ok::<_, Failure>(1_u32)
    };
    let stage = sent(async move { attempt.stage_with_cursor_async("pages", work).await });
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    assert_eq!(runtime.block_on(stage).expect("runs"), 1);
}
