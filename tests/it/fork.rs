//! A store belongs to the process that opened it: what a forked child gets, and what it leaves alone.

use crate::support::{alone, id, ids, is_alone, place};
use firstseen::{
    Claim, ClaimOptions, Error, ErrorKind, ImportEntry, NamespaceOptions, Reserve, Result, Store,
    Timestamp,
};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Runs `body` in a forked child and returns its wait status.
#[expect(unsafe_code, reason = "to fork is unsafe")]
fn in_child(body: impl FnOnce()) -> i32 {
    // SAFETY: no other thread uses the heap during the fork, or the allocator is glibc's, which locks its heap for it.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "forks");
    if pid == 0 {
        // SAFETY: only sets a timer, which kills a child that hangs.
        unsafe { libc::alarm(30) };
        let ended = catch_unwind(AssertUnwindSafe(body));
        std::process::exit(if ended.is_ok() { 0 } else { 101 });
    }
    let mut status = 0;
    // SAFETY: our own child, and a valid place for its status.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    status
}

#[track_caller]
fn assert_forked<T: std::fmt::Debug>(answer: Result<T>) {
    let error = answer.expect_err("the store belongs to the parent");
    assert_eq!(error.kind(), ErrorKind::FixCall, "{error}");
    assert!(matches!(error, Error::Forked), "{error}");
    assert!(error.to_string().contains("Fork before opening"), "{error}");
}

/// Makes every call there is, then drops everything.
fn ask_everything(store: Store, held: Reserve, path: &Path) {
    let Reserve::FirstSeen(mut held) = held else { panic!("not new") };
    assert_forked(held.confirm());
    for n in 0..1_000 {
        assert_forked(store.claim(id(n)));
        assert_forked(store.claim(id(1_000_000 + n)));
    }
    assert_forked(store.claim_with(id(1), ClaimOptions::new()));
    assert_forked(store.claim_batch(&ids(0..10)));
    assert_forked(store.reserve(id(2)));
    assert_forked(store.reserve_batch(&ids(0..10)));
    assert_forked(store.contains(id(3)));
    assert_forked(store.get(id(4)));
    assert_forked(store.forget(id(5)));
    assert_forked(store.sync());
    assert_forked(store.namespace("other"));
    assert_forked(store.namespace_with("other", NamespaceOptions::new().sliding(true)));
    assert!(store.find_namespace("known").is_none());
    assert_forked(store.default_namespace().claim(id(6)));
    assert_forked(store.verify());
    assert_forked(store.export(|_| Ok::<(), io::Error>(())));
    assert_forked(store.import("other", &[] as &[ImportEntry]));
    assert_forked(store.run_background());
    store.freeze();
    assert_eq!(store.stats().first_seen, 0);
    assert!(store.held().is_empty());
    assert_forked(store.clone().close());
    assert_forked(Store::open(path));
    assert_forked(Store::open(path.with_extension("another")));
    drop((held, store.clone(), store));
}

#[test]
fn i1_a_forked_child_hears_errors_and_the_parent_is_unharmed() {
    let Some(dir) = is_alone() else {
        let (dir, _) = place();
        return alone(
            "fork::i1_a_forked_child_hears_errors_and_the_parent_is_unharmed",
            dir.path(),
        );
    };
    let path = dir.join("seen.db");
    let store = Store::open(&path).unwrap();
    store.namespace("known").unwrap();
    for n in 0..1_000 {
        assert_eq!(store.claim(id(n)).unwrap(), Claim::FirstSeen);
    }
    // Fork while another thread is inside the store, with whatever locks it happens to hold.
    let (stop, claimed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let busy = std::thread::spawn({
        let (store, stop, claimed) = (store.clone(), Arc::clone(&stop), Arc::clone(&claimed));
        move || {
            for n in 2_000_000.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                assert!(store.claim(id(n)).unwrap().is_first_seen());
                claimed.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    for round in 0..20 {
        let held = store.reserve(id(500_000)).unwrap();
        // The child gets copies of both handles; the parent's stay as they are.
        let handles = (store.clone(), held);
        let mut handles = Some(handles);
        let status = in_child(|| {
            let (store, held) = handles.take().unwrap();
            ask_everything(store, held, &path);
        });
        assert_eq!(status, 0, "round {round}: the child failed, or hung");
        let (_, held) = handles.take().unwrap();
        assert!(matches!(store.reserve(id(500_000)).unwrap(), Reserve::InProgress));
        drop(held);
        let locked = Store::open(&path).expect_err("the lock is held");
        assert_eq!(locked.kind(), ErrorKind::Locked, "{locked}");
    }
    stop.store(true, Ordering::Relaxed);
    busy.join().unwrap();
    for n in 0..1_000 {
        assert!(store.claim(id(n)).unwrap().is_duplicate(), "claimed before the fork");
        assert!(store.claim(id(1_000_000 + n)).unwrap().is_first_seen(), "no child claimed it");
    }
    assert!(store.verify().unwrap().is_sound());
    store.close().unwrap();
    let store = Store::open(&path).unwrap();
    let all = 2_000 + claimed.load(Ordering::Relaxed);
    assert_eq!(store.export(|_| Ok(())).unwrap(), all);
    assert!(Timestamp::NEVER > store.get(id(0)).unwrap().unwrap().first_seen);
}
