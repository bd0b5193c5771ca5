//! The awaitable twins: on tokio, on an executor of our own, and polled by hand.
#![allow(clippy::disallowed_methods, reason = "real time passes in these tests")]

use crate::support::*;
use firstseen::disk::sim::{Fault, SimDisk};
use firstseen::ledger::{AttemptError, BeginOptions, Failure, LedgerOptions};
use firstseen::testing::waiting_futures;
use firstseen::{
    Builder, ClaimOptions, Durability, ErrorKind, Reservation, Reserve, Reserved, Store,
};

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

const PATIENCE: Duration = Duration::from_secs(60);

/// So long that a test that needs it to end has failed.
const FOR_EVER: Duration = Duration::from_secs(600);

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

#[derive(Debug, Clone, Copy)]
enum Executor {
    TokioOneThread,
    TokioTwoThreads,
    /// A queue of tasks on one thread, and no timer.
    Own,
}

const EXECUTORS: [Executor; 3] =
    [Executor::TokioOneThread, Executor::TokioTwoThreads, Executor::Own];

impl Executor {
    /// Runs all tasks to their end. One that hangs fails the test.
    fn run(self, tasks: Vec<Task>) {
        let (tell, done) = channel();
        let runner = thread::spawn(move || {
            match self {
                Self::TokioOneThread => {
                    run_on_tokio(tokio::runtime::Builder::new_current_thread(), tasks);
                }
                Self::TokioTwoThreads => {
                    let mut runtime = tokio::runtime::Builder::new_multi_thread();
                    runtime.worker_threads(2);
                    run_on_tokio(runtime, tasks);
                }
                Self::Own => run_queue(tasks),
            }
            tell.send(()).ok();
        });
        if let Err(error) = done.recv_timeout(PATIENCE) {
            assert!(runner.is_finished(), "{self:?}: a task hangs: {error}");
        }
        runner.join().expect("no task panics");
    }
}

fn run_on_tokio(mut runtime: tokio::runtime::Builder, tasks: Vec<Task>) {
    runtime.enable_time().build().expect("a runtime").block_on(async {
        let tasks: Vec<_> = tasks.into_iter().map(tokio::spawn).collect();
        for task in tasks {
            task.await.expect("no panic");
        }
    });
}

/// A task of our own executor, which queues itself when it is woken.
struct Queued {
    future: Mutex<Option<Task>>,
    queue: Mutex<Sender<Arc<Queued>>>,
}

impl Wake for Queued {
    fn wake(self: Arc<Self>) {
        let queue = self.queue.lock().unwrap().clone();
        queue.send(self).ok();
    }
}

fn run_queue(tasks: Vec<Task>) {
    let (queue, woken) = channel::<Arc<Queued>>();
    let mut left = tasks.len();
    for future in tasks {
        let queue_of_task = Mutex::new(queue.clone());
        let task = Queued { future: Mutex::new(Some(future)), queue: queue_of_task };
        queue.send(Arc::new(task)).unwrap();
    }
    while left > 0 {
        let task = woken.recv().unwrap();
        let waker = Waker::from(Arc::clone(&task));
        let mut future = task.future.lock().unwrap();
        let Some(polled) = future.as_mut() else { continue };
        if polled.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            *future = None;
            left -= 1;
        }
    }
}

/// Waits for one future with a thread.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    let began = Instant::now();
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return done;
        }
        assert!(began.elapsed() < PATIENCE, "it hangs");
        thread::park_timeout(PATIENCE);
    }
}

fn poll<F: Future>(future: &mut Pin<Box<F>>, woken: &Arc<Woken>) -> Poll<F::Output> {
    let waker = Waker::from(Arc::clone(woken));
    future.as_mut().poll(&mut Context::from_waker(&waker))
}

fn builder(disk: &SimDisk) -> Builder {
    sim(disk, &clock()).wait_max(FOR_EVER)
}

fn hold(store: &Store, id: &str) -> Reservation {
    match store.reserve(id).unwrap() {
        Reserve::FirstSeen(held) => held,
        other => panic!("{other:?}"),
    }
}

fn at_disk() -> ClaimOptions {
    ClaimOptions::new().durability(Durability::Disk)
}

/// Holds the next sync of the disk until the result is sent to or dropped. Returns after it has begun, if `begin`
/// begins it.
struct HeldSync {
    entered: Receiver<()>,
    leave: Sender<()>,
}

impl HeldSync {
    fn plan(disk: &SimDisk) -> Self {
        let (enter, entered) = channel();
        let (leave, left) = channel::<()>();
        let left = Mutex::new(left);
        disk.after_next_sync(move || {
            enter.send(()).ok();
            left.lock().unwrap().recv().ok();
        });
        Self { entered, leave }
    }

    fn wait_until_it_runs(&self) {
        self.entered.recv_timeout(PATIENCE).expect("a sync begins");
    }
}

#[test]
fn every_twin_answers_as_the_call_does() {
    for executor in EXECUTORS {
        for durability in [Durability::Buffered, Durability::Process, Durability::Disk] {
            let disk = SimDisk::new();
            let store = builder(&disk).durability(durability).open().unwrap();
            let inside = store.clone();
            let task = async move {
                let store = inside;
                assert!(store.claim_async("a").await.unwrap().is_first_seen());
                assert!(store.claim_async("a").await.unwrap().is_duplicate());
                let answers = store.claim_batch_async(&["b", "a", "b"]).await.unwrap();
                assert_eq!(answers.iter().filter(|a| a.is_first_seen()).count(), 1);
                assert!(store.forget_async("a").await.unwrap());
                assert!(!store.forget_async("a").await.unwrap());
                let Reserve::FirstSeen(mut held) = store.reserve_async("c").await.unwrap() else {
                    panic!("it is new");
                };
                assert!(matches!(store.reserve_async("c").await.unwrap(), Reserve::InProgress));
                held.confirm_async().await.unwrap();
                held.confirm_async().await.unwrap();
                let again = store.reserve_async("c").await.unwrap();
                assert!(matches!(again, Reserve::Duplicate { .. }));
                let mut batch = store.reserve_batch_async(&["d", "d", "c"]).await.unwrap();
                let answers = batch.answers();
                assert_eq!(answers[..2], [Reserved::FirstSeen, Reserved::SameBatch]);
                batch.confirm_async().await.unwrap();
                let other = store.namespace("n").unwrap();
                assert!(other.claim_async("d").await.unwrap().is_first_seen());
                assert_eq!(store.claim_async("").await.unwrap_err().kind(), ErrorKind::FixCall);
                store.sync_async().await.unwrap();
            };
            executor.run(vec![Box::pin(task)]);
            assert_eq!(waiting_futures(&store), [0; 3], "{executor:?}");
            let after_power_cut = disk.lose_unsynced();
            drop(store);
            let store = builder(&after_power_cut).open().unwrap();
            for id in ["b", "c", "d"] {
                assert!(store.contains(id).unwrap(), "{executor:?} {durability:?} {id}");
            }
            assert!(store.claim("a").unwrap().is_first_seen(), "it was forgotten");
        }
    }
}

/// `wait_max` is ten minutes: a call that blocked a thread of the runtime would block the holder, too.
#[test]
fn i12_a_task_that_holds_an_id_over_an_await_and_eight_that_claim_it_stall_no_runtime() {
    for executor in EXECUTORS {
        let store = builder(&SimDisk::new()).open().unwrap();
        let held = hold(&store, "a");
        let (end_work, work) = oneshot::channel();
        let mut held = Some(held);
        let inside = store.clone();
        let duplicates = Arc::new(AtomicUsize::new(0));
        let mut tasks: Vec<Task> = (0..8)
            .map(|_| {
                let (store, duplicates) = (inside.clone(), Arc::clone(&duplicates));
                let claim = async move {
                    assert!(store.claim_async("a").await.unwrap().is_duplicate());
                    duplicates.fetch_add(1, Ordering::Relaxed);
                };
                Box::pin(claim) as Task
            })
            .collect();
        let mut holder = held.take().unwrap();
        tasks.push(Box::pin(async move {
            work.await.unwrap();
            holder.confirm_async().await.unwrap();
        }));
        // It must get its turn all the while.
        let (stop, mut stopped) = oneshot::channel::<()>();
        let turns = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&turns);
        tasks.push(Box::pin(std::future::poll_fn(move |cx| {
            counted.fetch_add(1, Ordering::Relaxed);
            cx.waker().wake_by_ref();
            thread::yield_now();
            Pin::new(&mut stopped).poll(cx).map(|_| ())
        })));
        let worker = thread::spawn({
            let (store, duplicates) = (store.clone(), Arc::clone(&duplicates));
            move || {
                let began = Instant::now();
                while waiting_futures(&store)[0] < 8 {
                    assert!(began.elapsed() < PATIENCE, "not all of them wait");
                    thread::park_timeout(Duration::from_millis(1));
                }
                let before = turns.load(Ordering::Relaxed);
                while turns.load(Ordering::Relaxed) <= before + 10 {
                    assert!(began.elapsed() < PATIENCE, "the runtime stands still");
                    thread::park_timeout(Duration::from_millis(1));
                }
                assert_eq!(duplicates.load(Ordering::Relaxed), 0);
                end_work.send(()).unwrap();
                while duplicates.load(Ordering::Relaxed) < 8 {
                    assert!(began.elapsed() < PATIENCE, "not all are answered");
                    thread::park_timeout(Duration::from_millis(1));
                }
                stop.send(()).ok();
            }
        });
        executor.run(tasks);
        worker.join().unwrap();
        assert_eq!(waiting_futures(&store), [0; 3], "{executor:?}");
    }
}

#[test]
fn i6_a_thousand_claims_at_disk_share_a_few_syncs() {
    for executor in EXECUTORS {
        let disk = SimDisk::new();
        let store = builder(&disk).open().unwrap();
        let before = store.stats().log_syncs;
        let sync = HeldSync::plan(&disk);
        let tasks: Vec<Task> = (0..1_000)
            .map(|n| {
                let store = store.clone();
                let claim = async move {
                    assert!(
                        store.claim_with_async(id(n), at_disk()).await.unwrap().is_first_seen()
                    );
                };
                Box::pin(claim) as Task
            })
            .collect();
        let others = thread::spawn({
            let store = store.clone();
            move || {
                sync.wait_until_it_runs();
                let began = Instant::now();
                while waiting_futures(&store)[1] < 1_000 {
                    assert!(
                        began.elapsed() < PATIENCE,
                        "they do not all wait: one has synced alone"
                    );
                    thread::park_timeout(Duration::from_millis(1));
                }
                drop(sync.leave);
            }
        });
        executor.run(tasks);
        others.join().unwrap();
        let syncs = store.stats().log_syncs - before;
        assert!(syncs <= 3, "{executor:?}: {syncs} syncs");
        let after_power_cut = disk.lose_unsynced();
        drop(store);
        assert_seen(&builder(&after_power_cut).open().unwrap(), 0..1_000, true);
    }
}

#[test]
fn i6_no_answer_at_disk_comes_before_the_sync() {
    let disk = SimDisk::new();
    let store = builder(&disk).open().unwrap();
    let _ = store.claim("dup").unwrap();
    let woken = Arc::new(Woken::default());
    let sync = HeldSync::plan(&disk);
    let mut duplicate = Box::pin(store.claim_with_async("dup", at_disk()));
    assert!(poll(&mut duplicate, &woken).is_pending(), "its record is not on disk either");
    sync.wait_until_it_runs();
    let mut claim = Box::pin(store.claim_with_async("a", at_disk()));
    let mut all = Box::pin(store.sync_async());
    assert!(poll(&mut claim, &woken).is_pending());
    assert!(poll(&mut all, &woken).is_pending());
    assert_eq!(woken.count(), 0);
    drop(sync.leave);
    woken.until(3);
    assert!(poll(&mut duplicate, &woken).is_ready() && poll(&mut all, &woken).is_ready());
    let Poll::Ready(Ok(answer)) = poll(&mut claim, &woken) else { panic!("it is on disk") };
    assert!(answer.is_first_seen());
}

#[test]
fn i9_a_future_that_is_dropped_while_it_waits_for_a_reservation_leaves_nothing() {
    let store = builder(&SimDisk::new()).open().unwrap();
    let (held, woken) = (hold(&store, "a"), Arc::new(Woken::default()));
    drop(store.claim_async("a"));
    let mut claim = Box::pin(store.claim_async("a"));
    let mut batch = Box::pin(store.claim_batch_async(&["x", "a"]));
    let mut forget = Box::pin(store.forget_async("a"));
    // Spurious polls are allowed.
    for _ in 0..3 {
        assert!(poll(&mut claim, &woken).is_pending());
        assert!(poll(&mut batch, &woken).is_pending());
        assert!(poll(&mut forget, &woken).is_pending());
    }
    assert_eq!(waiting_futures(&store), [3, 0, 3]);
    // Another id of the same shard does not wake them.
    (0..20).for_each(|n| drop(hold(&store, &format!("other {n}"))));
    assert_eq!(woken.count(), 0);
    drop((claim, batch, forget));
    assert_eq!(waiting_futures(&store), [0; 3]);
    assert_eq!(Arc::strong_count(&woken), 1, "no waker is left");
    drop(held);
    assert_eq!(woken.count(), 0);
    assert!(!store.contains("a").unwrap() && !store.contains("x").unwrap());
    let mut claim = Box::pin(store.claim_async("a"));
    assert!(poll(&mut claim, &woken).is_ready());
}

#[test]
fn a_future_waits_for_room_and_hears_of_it_and_a_dropped_one_leaves_nothing() {
    let store = builder(&SimDisk::new()).open().unwrap();
    let woken = Arc::new(Woken::default());
    let now = ClaimOptions::new().wait(Duration::ZERO);
    let full = (0..1 << 20).map(id).find(|id| store.claim_with(id, now).is_err()).unwrap();
    let mut dropped = Box::pin(store.claim_async(full));
    assert!(poll(&mut dropped, &woken).is_pending());
    assert_eq!(waiting_futures(&store), [1, 0, 1]);
    drop(dropped);
    assert_eq!(waiting_futures(&store), [0; 3]);
    let mut claim = Box::pin(store.claim_async(full));
    let ids = [full];
    let mut reserve = Box::pin(store.reserve_batch_async(&ids));
    assert!(poll(&mut claim, &woken).is_pending());
    assert!(poll(&mut reserve, &woken).is_pending());
    settle(&store);
    assert_eq!(woken.count(), 2);
    let Poll::Ready(Ok(answer)) = poll(&mut claim, &woken) else { panic!("there is room") };
    assert!(answer.is_first_seen());
    assert!(poll(&mut reserve, &woken).is_ready());
    assert_eq!(store.stats().ids_reserved, 0, "it was a duplicate by then");
    assert_eq!(waiting_futures(&store), [0; 3]);
}

#[test]
fn a_future_that_is_dropped_while_it_waits_for_the_disk_has_claimed() {
    let disk = SimDisk::new();
    let store = builder(&disk).durability(Durability::Disk).open().unwrap();
    let woken = Arc::new(Woken::default());
    let process = ClaimOptions::new().durability(Durability::Process);
    let _ = store.claim_with("dup", process).unwrap();
    let mut confirmed = hold(&store, "confirmed");
    let sync = HeldSync::plan(&disk);
    let mut claim = Box::pin(store.claim_async("a"));
    let mut reserve = Box::pin(store.reserve_batch_async(&["dup", "new"]));
    let mut confirm = Box::pin(confirmed.confirm_async());
    assert!(poll(&mut claim, &woken).is_pending());
    sync.wait_until_it_runs();
    assert!(poll(&mut reserve, &woken).is_pending());
    assert!(poll(&mut confirm, &woken).is_pending());
    assert_eq!(waiting_futures(&store), [0, 3, 0]);
    assert_eq!(store.stats().ids_reserved, 1);
    drop((claim, reserve, confirm));
    assert_eq!(waiting_futures(&store), [0; 3]);
    assert_eq!(Arc::strong_count(&woken), 1, "no waker is left");
    assert_eq!(store.stats().ids_reserved, 0, "what it reserved is released");
    drop(sync.leave);
    // What is left of `confirm` is the wait: no second record.
    let first_seen = store.stats().first_seen;
    confirmed.confirm().unwrap();
    drop(confirmed);
    assert_eq!(store.stats().first_seen, first_seen);
    for id in ["a", "confirmed"] {
        assert!(store.claim_with(id, process).unwrap().is_duplicate(), "{id}");
    }
    assert!(store.claim_with("new", process).unwrap().is_first_seen());
    let after_power_cut = disk.lose_unsynced();
    drop(store);
    let store = builder(&after_power_cut).open().unwrap();
    assert!(store.contains("confirmed").unwrap());
}

#[test]
fn i12_the_wait_of_a_future_ends_at_its_deadline_without_a_runtime() {
    let wait_max = Duration::from_millis(100);
    let store = sim(&SimDisk::new(), &clock()).wait_max(wait_max).open().unwrap();
    let held = hold(&store, "a");
    let began = Instant::now();
    let error = block_on(store.claim_async("a")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Retry);
    assert!(began.elapsed() >= wait_max);
    let woken = Arc::new(Woken::default());
    let now = ClaimOptions::new().wait(Duration::ZERO);
    let mut claim = Box::pin(store.claim_with_async("a", now));
    let Poll::Ready(Err(error)) = poll(&mut claim, &woken) else { panic!("it may not wait") };
    assert_eq!(error.kind(), ErrorKind::Retry);
    // A future that changes its executor is woken on the last one.
    let other = Arc::new(Woken::default());
    let mut claim = Box::pin(store.claim_async("a"));
    assert!(poll(&mut claim, &woken).is_pending());
    assert!(poll(&mut claim, &other).is_pending());
    other.until(1);
    assert_eq!(woken.count(), 0);
    assert!(matches!(poll(&mut claim, &other), Poll::Ready(Err(_))));
    assert_eq!(waiting_futures(&store), [0; 3]);
    drop(held);
    assert!(block_on(store.claim_async("a")).unwrap().is_first_seen());
}

#[test]
fn i7_i12_whoever_waits_hears_that_the_store_is_closed() {
    for executor in EXECUTORS {
        let disk = SimDisk::new();
        let store = builder(&disk).open().unwrap();
        let held = hold(&store, "held");
        let tasks: Vec<Task> = (0..20)
            .map(|n| {
                let store = store.clone();
                let claim = async move {
                    let claimed = if n % 2 == 0 {
                        store.claim_async("held").await
                    } else {
                        store.claim_batch_async(&["x", "held"]).await.map(|answers| answers[0])
                    };
                    assert_eq!(claimed.unwrap_err().kind(), ErrorKind::Reopen);
                };
                Box::pin(claim) as Task
            })
            .collect();
        let closer = thread::spawn(move || {
            let began = Instant::now();
            while waiting_futures(&store)[0] < 20 {
                assert!(began.elapsed() < PATIENCE, "not all of them wait");
                thread::park_timeout(Duration::from_millis(1));
            }
            store.close().unwrap();
        });
        executor.run(tasks);
        closer.join().unwrap();
        drop(held);
    }
}

#[test]
fn i7_a_sync_that_fails_is_heard_by_all_futures_that_wait_for_it() {
    for executor in EXECUTORS {
        let disk = SimDisk::new();
        let store = builder(&disk).open().unwrap();
        // The first sync is held until all wait. It may cover the early ones, and fails for none; the next one fails.
        let sync = HeldSync::plan(&disk);
        let (mut goes, late): (Vec<_>, Vec<_>) = (0..50).map(|_| oneshot::channel()).unzip();
        let early = std::iter::repeat_with(|| None).take(50);
        let covered = Arc::new(Mutex::new(Vec::new()));
        let tasks: Vec<Task> = (0..)
            .zip(early.chain(late.into_iter().map(Some)))
            .map(|(n, late)| {
                let (store, covered) = (store.clone(), Arc::clone(&covered));
                let claim = async move {
                    if let Some(go) = late {
                        let () = go.await.unwrap();
                    }
                    match store.claim_with_async(id(n), at_disk()).await {
                        Ok(_) => covered.lock().unwrap().push(n),
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Reopen),
                    }
                };
                Box::pin(claim) as Task
            })
            .collect();
        let failer = thread::spawn({
            let (store, disk) = (store.clone(), disk.clone());
            move || {
                sync.wait_until_it_runs();
                goes.drain(..).for_each(|go| go.send(()).unwrap());
                let began = Instant::now();
                while waiting_futures(&store)[1] < 100 {
                    assert!(began.elapsed() < PATIENCE, "not all of them wait");
                    thread::park_timeout(Duration::from_millis(1));
                }
                disk.fail_at(disk.ops(), Fault::Error(std::io::ErrorKind::Other), true);
                drop(sync.leave);
            }
        });
        executor.run(tasks);
        failer.join().unwrap();
        assert_eq!(waiting_futures(&store), [0; 3]);
        let covered = covered.lock().unwrap().clone();
        assert!(covered.iter().all(|n| *n < 50), "{executor:?}: {covered:?}");
        let after_power_cut = disk.lose_unsynced();
        drop(store);
        let store = builder(&after_power_cut).open().unwrap();
        assert!(covered.iter().all(|n| store.contains(id(*n)).unwrap()), "{executor:?}");
    }
}

/// A task that only its own waker still holds is dropped by the job that wakes it, and the store with it.
#[test]
fn i12_a_store_whose_last_handle_goes_on_a_thread_of_its_own_is_closed() {
    let disk = SimDisk::new();
    let store = builder(&disk).open().unwrap();
    let sync = HeldSync::plan(&disk);
    let (queue, woken) = channel::<Arc<Queued>>();
    let future: Task = Box::pin(async move {
        let _ = store.claim_with_async("a", at_disk()).await.unwrap();
    });
    let future = Mutex::new(Some(future));
    let task = Arc::new(Queued { future, queue: Mutex::new(queue) });
    let waker = Waker::from(Arc::clone(&task));
    let mut context = Context::from_waker(&waker);
    let polled = task.future.lock().unwrap().as_mut().unwrap().as_mut().poll(&mut context);
    assert!(polled.is_pending());
    sync.wait_until_it_runs();
    drop((task, waker, woken));
    drop(sync.leave);
    let began = Instant::now();
    let store = loop {
        match builder(&disk).open() {
            Ok(store) => break store,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Locked),
        }
        assert!(began.elapsed() < PATIENCE, "the job waits for itself");
        thread::park_timeout(Duration::from_millis(1));
    };
    assert!(store.contains("a").unwrap());
}

/// Tasks and threads at once, on a real disk with the store's own threads.
#[test]
fn i1_tasks_and_threads_claim_the_same_ids_and_each_has_one_winner() {
    let (_dir, path) = place();
    let store = Store::builder(&path).durability(Durability::Disk).open().unwrap();
    let firsts = Arc::new(AtomicUsize::new(0));
    let count = 50;
    let tasks: Vec<Task> = (0..8)
        .map(|_| {
            let (store, firsts) = (store.clone(), Arc::clone(&firsts));
            let claims = async move {
                for n in 0..count {
                    let answer = store.claim_async(id(n)).await.unwrap();
                    firsts.fetch_add(usize::from(answer.is_first_seen()), Ordering::Relaxed);
                }
            };
            Box::pin(claims) as Task
        })
        .collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in (0..count).rev() {
                let answer = store.claim(id(n)).unwrap();
                firsts.fetch_add(usize::from(answer.is_first_seen()), Ordering::Relaxed);
            }
        });
        Executor::TokioTwoThreads.run(tasks);
    });
    assert_eq!(firsts.load(Ordering::Relaxed), count as usize);
    assert_sound(&store);
}

#[test]
fn i6_commits_and_ends_of_attempts_at_disk_take_no_thread_while_they_wait_for_it() {
    let disk = SimDisk::new();
    let store = builder(&disk).durability(Durability::Disk).open().unwrap();
    let ledger = store.ledger("payments").unwrap();
    let table = store.raw_table("state").unwrap();
    // The first row of an opening has a manifest written.
    table.put("first", b"").unwrap();
    let sync = HeldSync::plan(&disk);
    let mut begun = Box::pin(ledger.begin_async("a", BeginOptions::new()));
    let woken = Arc::new(Woken::default());
    assert!(poll(&mut begun, &woken).is_pending(), "it is in the log, and not on disk");
    sync.wait_until_it_runs();
    let mut transaction = store.transaction();
    transaction.claim("b").put(&table, "key", b"value").unwrap();
    let mut committed = Box::pin(async move { transaction.commit_async().await });
    assert!(poll(&mut committed, &woken).is_pending());
    assert!(poll(&mut begun, &woken).is_pending());
    drop(sync.leave);
    let attempt = block_on(begun).unwrap().started().expect("nobody else began it");
    assert!(block_on(committed).unwrap().is_committed());
    block_on(attempt.complete_async("done")).unwrap();
    let error = block_on(attempt.release_async()).expect_err("it is over");
    assert!(matches!(error, AttemptError::Over { .. }), "{error}");

    let store = builder(&disk.lose_unsynced()).open().unwrap();
    let record = store.ledger("payments").unwrap().get("a").unwrap().expect("is there");
    assert_eq!(record.result(), Some(&b"done"[..]));
    assert!(store.contains("b").unwrap());
}

#[test]
fn an_answer_that_is_too_long_is_told_as_such_by_futures_too_and_may_be_replaced() {
    let store = builder(&SimDisk::new()).open().unwrap();
    let policies = LedgerOptions::new().result_bytes_max(4);
    let ledger = store.ledger_with("payments", policies).unwrap();
    for id in ["completes", "fails"] {
        let attempt = ledger.begin(id).unwrap().started().expect("nobody else began it");
        let error = match id {
            "completes" => block_on(attempt.complete_async("12345")),
            _ => block_on(attempt.fail_async(Failure::replayed("no", "12345"))),
        };
        let error = error.expect_err("is too long");
        assert!(matches!(error, AttemptError::TooLarge { bytes: 5, .. }), "{error}");
        block_on(attempt.complete_async("1234")).unwrap();
        let attempt = ledger.begin(format!("{id}, dropped")).unwrap().started().expect("is new");
        block_on(attempt.complete_async("12345")).expect_err("is too long");
        drop(attempt);
        let record = ledger.get(format!("{id}, dropped")).unwrap().expect("is there");
        assert!(ledger.is_in_progress(&record), "its effect has happened: {record:?}");
    }
}

#[test]
fn a_commit_as_a_future_waits_for_a_reservation_without_a_thread_and_leaves_nothing_if_dropped() {
    let store = builder(&SimDisk::new()).open().unwrap();
    let held = hold(&store, "a");
    let woken = Arc::new(Woken::default());
    let commit = |id: &'static str| {
        let mut transaction = store.transaction();
        transaction.claim("a").claim(id);
        Box::pin(async move { transaction.commit_async().await })
    };
    let (mut dropped, mut kept) = (commit("b"), commit("c"));
    assert!(poll(&mut dropped, &woken).is_pending() && poll(&mut kept, &woken).is_pending());
    drop(dropped);
    drop(held);
    assert!(block_on(kept).unwrap().is_committed());
    assert!(store.contains("c").unwrap() && !store.contains("b").unwrap());
    assert_eq!(waiting_futures(&store), [0, 0, 0]);
}
