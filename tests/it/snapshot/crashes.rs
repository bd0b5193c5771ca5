//! A crash at each step of a snapshot and of a restore, on a disk that loses what it may.

use crate::snapshot::Place;
use crate::support::{AT, assert_seen, assert_sound, claim_all_first, clock, id, sim};
use firstseen::disk::Disk as _;
use firstseen::disk::sim::{Fault, SimDisk};
use firstseen::snapshot::{
    FolderTarget, RestoreOptions, RestoreReport, SnapshotOptions, list, verify,
};
use firstseen::{ErrorKind, ManualClock, Store};
use std::path::Path;

const COPIES: &str = "/copies";

/// How many of the ids 0 to 30 a restored store holds: 10, 20 or 30, and those before all of the others.
fn held(place: &FolderTarget, number: u64) -> u64 {
    let (disk, clock) = (SimDisk::new(), clock());
    let options = RestoreOptions::new().number(number);
    Store::builder(AT).disk(disk.clone()).restore(place, options).expect("restores");
    let store = sim(&disk, &clock).open().expect("opens");
    let is_held = |n: &u64| store.contains(id(n - 1)).expect("reads");
    let held = [10, 20, 30].into_iter().filter(is_held).max().unwrap_or(0);
    assert_seen(&store, 0..held, true);
    assert_seen(&store, held..30, false);
    assert_sound(&store);
    held
}

/// Of the power cuts at each step, how many left which snapshot.
fn crash_at_each_step(fault: Fault, keep: Option<u64>) {
    let mut outcomes = [0, 0];
    for at in 0.. {
        let (disk, clock) = (SimDisk::new(), clock());
        let store = sim(&disk, &clock).open().expect("opens");
        let place = FolderTarget::on(disk.clone(), COPIES);
        claim_all_first(&store, 0..10);
        store.snapshot(&place).expect("a snapshot");
        claim_all_first(&store, 10..20);
        let ops = disk.ops();
        disk.fail_at(ops + at, fault, false);
        let options =
            keep.map_or_else(SnapshotOptions::new, |n| SnapshotOptions::new().keep_last(n));
        let told = store.snapshot_with(&place, options);
        let was_crashed = disk.ops() > ops + at;
        let after = disk.crash(at);
        std::mem::forget(store);
        let place = FolderTarget::on(after.clone(), COPIES);
        let newest = list(&place).expect("lists").pop().expect("there is one").number;
        if told.is_ok() {
            assert_eq!(newest, 2, "crash at {at}: it was said to be there");
        }
        for info in list(&place).expect("lists") {
            verify(&place, info.number).expect("whole");
        }
        let held = held(&place, newest);
        assert_eq!(held, newest * 10, "crash at {at}");
        outcomes[newest as usize - 1] += 1;
        // And the next one works.
        let store = sim(&after, &clock).open().expect("opens");
        store.sync().expect("syncs");
        let next = store.snapshot(&place).expect("a snapshot after the crash");
        assert_eq!(next.number, newest + 1);
        verify(&place, next.number).expect("whole");
        if !was_crashed {
            break;
        }
    }
    assert!(outcomes[0] > 0 && outcomes[1] > 0, "{outcomes:?}");
}

#[test]
fn i15_a_crash_at_any_step_of_a_snapshot_leaves_the_one_before_or_the_new_one() {
    crash_at_each_step(Fault::Crash, None);
    crash_at_each_step(Fault::CrashInWrite, None);
    crash_at_each_step(Fault::Crash, Some(1));
}

/// Errors instead: nothing dies, and the same store tries again.
#[test]
fn i15_an_error_at_any_step_of_a_snapshot_is_heard_and_the_next_one_works() {
    let mut failed = 0;
    for at in 0.. {
        let (disk, clock) = (SimDisk::new(), clock());
        let store = sim(&disk, &clock).open().expect("opens");
        // A disk of its own: the store is not to stop.
        let copies = SimDisk::new();
        let place = FolderTarget::on(copies.clone(), COPIES);
        claim_all_first(&store, 0..10);
        store.snapshot(&place).expect("a snapshot");
        claim_all_first(&store, 10..20);
        let ops = copies.ops();
        copies.fail_at(ops + at, Fault::Error(std::io::ErrorKind::Other), false);
        let told = store.snapshot_with(&place, SnapshotOptions::new().keep_last(2));
        let was_hit = copies.ops() > ops + at;
        copies.clear_faults();
        if was_hit && told.is_err() {
            failed += 1;
        }
        let again = store.snapshot(&place).expect("a snapshot after the error");
        assert!(again.number == 2 || again.number == 3, "error at {at}");
        assert_eq!(held(&place, again.number), 20, "error at {at}");
        if !was_hit {
            break;
        }
    }
    assert!(failed > 5, "{failed}");
}

#[test]
fn i15_a_restore_that_dies_at_any_step_is_no_store_and_may_be_repeated() {
    let (clock, place) = (clock(), Place::default());
    {
        let disk = SimDisk::new();
        let store = sim(&disk, &clock).open().expect("opens");
        claim_all_first(&store, 0..3_000);
        store.snapshot(&place).expect("a snapshot");
    }
    let steps = {
        let disk = SimDisk::new();
        restore(&disk, &place).expect("restores");
        disk.ops()
    };
    let mut outcomes = [0, 0];
    for at in 0..=steps {
        for (fault, name_order) in [(Fault::Crash, true), (Fault::CrashInWrite, false)] {
            let disk = SimDisk::new();
            let disk = if name_order { disk } else { disk.without_name_order() };
            disk.fail_at(at, fault, false);
            let told = restore(&disk, &place);
            let after = disk.crash(at);
            let is_store = is_whole_or_no_store(&after, &place, &clock);
            assert!(is_store || told.is_err(), "crash at {at}: it was said to be restored");
            outcomes[usize::from(is_store)] += 1;
        }
    }
    assert!(outcomes[0] > 10 && outcomes[1] > 1, "{outcomes:?}");
}

/// The names in a folder reach the disk in any order.
#[test]
fn i15_a_restore_may_be_repeated_whichever_names_a_crash_has_kept() {
    let (clock, place) = (clock(), Place::default());
    {
        let disk = SimDisk::new();
        let store = sim(&disk, &clock).open().expect("opens");
        claim_all_first(&store, 0..10);
        store.snapshot(&place).expect("a snapshot");
    }
    let (mut again, mut whole) = (0, 0);
    for at in 0.. {
        let disk = SimDisk::new().without_name_order();
        disk.fail_at(at, Fault::Crash, false);
        let is_over = restore(&disk, &place).is_ok();
        for seed in 0..100 {
            let after = disk.crash(seed);
            match restore(&after, &place) {
                Ok(_) => again += 1,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::FixCall, "crash at {at}: {error}");
                    whole += 1;
                }
            }
            let store = sim(&after, &clock).create(false).open();
            let store = store.unwrap_or_else(|error| panic!("crash at {at}, {seed}: {error}"));
            assert_seen(&store, 0..10, true);
        }
        if is_over {
            break;
        }
    }
    assert!(again > 1_000 && whole >= 100, "{again} {whole}");
}

fn restore(disk: &SimDisk, place: &Place) -> Result<RestoreReport, firstseen::Error> {
    Store::builder(AT).disk(disk.clone()).restore(place, RestoreOptions::new())
}

/// Looks at what a crash left of a restore of the ids 0 to 3,000; returns whether it is the store.
fn is_whole_or_no_store(disk: &SimDisk, place: &Place, clock: &ManualClock) -> bool {
    let builder = || sim(disk, clock).create(false);
    let opened = builder().open();
    let Err(error) = opened else {
        let store = opened.expect("is one");
        assert_seen(&store, 0..3_000, true);
        assert_sound(&store);
        drop(store);
        // Restoring into it again would throw away what came since.
        assert_eq!(restore(disk, place).unwrap_err().kind(), ErrorKind::FixCall);
        return true;
    };
    assert_eq!(error.kind(), ErrorKind::FixCall, "{error}");
    // What is there may be half a store, so nobody makes one of it.
    assert_eq!(builder().repair().unwrap_err().kind(), ErrorKind::FixCall);
    assert_eq!(builder().open_read_only().unwrap_err().kind(), ErrorKind::FixCall);
    restore(disk, place).expect("again");
    assert_seen(&builder().open().expect("opens"), 0..3_000, true);
    false
}

#[test]
fn i15_a_folder_that_is_not_empty_is_left_as_it_is() {
    let (disk, clock) = (SimDisk::new(), clock());
    let place = Place::default();
    let store = sim(&disk, &clock).open().expect("opens");
    claim_all_first(&store, 0..10);
    store.snapshot(&place).expect("a snapshot");
    let restore =
        |path: &str| Store::builder(path).disk(disk.clone()).restore(&place, RestoreOptions::new());
    claim_all_first(&store, 10..20);
    // An open store, a closed one, and what is none.
    assert_eq!(restore(AT).unwrap_err().kind(), ErrorKind::FixCall);
    store.close().expect("closes");
    assert_eq!(restore(AT).unwrap_err().kind(), ErrorKind::FixCall);
    assert_seen(&sim(&disk, &clock).open().expect("opens"), 0..20, true);
    disk.create_dir_all(Path::new("/other")).expect("makes a folder");
    disk.create_new(Path::new("/other/photo")).expect("makes a file");
    let error = restore("/other").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FixCall);
    assert!(error.to_string().contains("photo"), "{error}");
    assert_eq!(disk.list(Path::new("/other")).expect("lists"), [Path::new("photo")]);
    disk.create_dir_all(Path::new("/empty")).expect("makes a folder");
    restore("/empty").expect("an empty one will do");
}
