use super::*;
use crate::disk::COPIED_MAX;
use std::collections::BTreeSet;

fn path(name: &str) -> &Path {
    Path::new(name)
}

/// Returns a disk with one durable file `f` that holds `bytes`.
fn disk_with(bytes: &[u8]) -> (SimDisk, Arc<dyn DiskFile>) {
    let disk = SimDisk::new();
    let file = disk.create_new(path("f")).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(path("/")).unwrap();
    (disk, file)
}

/// Returns the contents of `f` after each of the first thousand crashes.
fn crashes(disk: &SimDisk) -> BTreeSet<Vec<u8>> {
    (0..1000).map(|seed| disk.crash(seed).read(path("f")).unwrap()).collect()
}

fn kind<T: std::fmt::Debug>(answer: io::Result<T>) -> io::ErrorKind {
    answer.unwrap_err().kind()
}

#[test]
fn synced_writes_survive_and_unsynced_ones_may_not() {
    let (disk, file) = disk_with(b"aaaa");
    assert_eq!(crashes(&disk), BTreeSet::from([b"aaaa".to_vec()]));

    let (disk2, file2) = disk_with(b"aaaa");
    file2.write_all_at(b"B", 0).unwrap();
    file2.write_all_at(b"C", 2).unwrap();
    assert_eq!(disk2.read(path("f")).unwrap(), b"BaCa");
    assert_eq!(disk2.lose_unsynced().read(path("f")).unwrap(), b"aaaa");
    let all = [b"aaaa", b"Baaa", b"aaCa", b"BaCa"].map(|bytes| bytes.to_vec());
    assert_eq!(crashes(&disk2), BTreeSet::from(all));
    assert_eq!(disk2.kill().read(path("f")).unwrap(), b"BaCa");
    drop(file);
}

#[test]
fn what_a_kill_kept_is_still_not_durable() {
    let (disk, file) = disk_with(b"a");
    file.write_all_at(b"B", 0).unwrap();
    let alive = disk.kill();
    assert_eq!(alive.lose_unsynced().read(path("f")).unwrap(), b"a");
    let alive = disk.kill();
    alive.open(path("f")).unwrap().sync_data().unwrap();
    assert_eq!(alive.lose_unsynced().read(path("f")).unwrap(), b"B");
}

#[test]
fn writes_tear_at_sectors_and_nowhere_else() {
    let (disk, file) = disk_with(&[1; 2048]);
    file.write_all_at(&[2; 1500], 100).unwrap();
    let seen = crashes(&disk);
    for bytes in &seen {
        assert_eq!(bytes.len(), 2048);
        let odd = |at: usize| bytes[at] != bytes[at - 1];
        assert!((1..2048).filter(|at| odd(*at)).all(|at| at % 512 == 0 || at == 100 || at == 1600));
    }
    let prefix = |kept: usize| {
        seen.iter().any(|bytes| bytes[100..kept].iter().all(|byte| *byte == 2) && bytes[kept] == 1)
    };
    assert!(prefix(512) && prefix(1024) && prefix(1536) && prefix(1600));
    assert!(seen.iter().any(|bytes| bytes[100] == 1 && bytes[1599] == 2), "reordered");
}

#[test]
fn length_and_room_are_lost_like_bytes() {
    let (disk, file) = disk_with(b"abc");
    file.set_len(1).unwrap();
    file.allocate(3).unwrap();
    assert_eq!(disk.read(path("f")).unwrap(), b"a\0\0");
    let seen = crashes(&disk);
    assert!([&b"abc"[..], b"a", b"a\0\0"].iter().all(|bytes| seen.contains(*bytes)));
    assert_eq!(seen.len(), 3);

    let disk = disk.kill();
    let file = disk.open(path("f")).unwrap();
    file.sync_data().unwrap();
    assert_eq!(disk.lose_unsynced().read(path("f")).unwrap(), b"a\0\0");
}

#[test]
fn reads_stop_at_the_end_and_holes_are_zeros() {
    let (_disk, file) = disk_with(b"a");
    file.write_all_at(b"z", 10_000).unwrap();
    let mut buf = [9; 3];
    file.read_exact_at(&mut buf, 9998).unwrap();
    assert_eq!(&buf, b"\0\0z");
    assert_eq!(kind(file.read_exact_at(&mut buf, 9999)), io::ErrorKind::UnexpectedEof);
    assert_eq!(kind(file.read_exact_at(&mut buf, u64::MAX)), io::ErrorKind::UnexpectedEof);
    assert_eq!(kind(file.write_all_at(b"no", u64::MAX)), io::ErrorKind::InvalidInput);
    file.set_len(5000).unwrap();
    file.set_len(20_000).unwrap();
    file.read_exact_at(&mut buf, 9998).unwrap();
    assert_eq!(&buf, b"\0\0\0");
}

#[test]
fn names_need_a_sync_of_their_folder_and_keep_their_order() {
    let disk = SimDisk::new();
    disk.create_dir_all(path("/s/log")).unwrap();
    disk.sync_dir(path("/")).unwrap();
    for name in ["/s/log/1", "/s/log/2", "/s/log/3"] {
        disk.create_new(path(name)).unwrap().sync_data().unwrap();
    }
    assert_eq!(disk.list(path("/s/log")).unwrap(), ["1", "2", "3"].map(PathBuf::from));
    disk.sync_dir(path("/s/log")).unwrap();
    // The folder `log` is itself an unsynced name in `s`.
    assert!(disk.lose_unsynced().list(path("/s")).unwrap().is_empty());
    assert_eq!(kind(disk.kill().list(path("/s/nothing"))), io::ErrorKind::NotFound);

    let disk = disk.kill();
    disk.sync_dir(path("/s")).unwrap();
    disk.remove(path("/s/log/2")).unwrap();
    disk.create_new(path("/s/log/4")).unwrap();
    let seen: BTreeSet<_> =
        (0..1000).map(|seed| disk.crash(seed).list(path("/s/log")).unwrap()).collect();
    let states = [&["1", "2", "3"][..], &["1", "3"], &["1", "3", "4"]];
    let expected = states.map(|names| names.iter().map(PathBuf::from).collect());
    assert_eq!(seen, BTreeSet::from(expected));
}

#[test]
fn without_name_order_every_name_is_lost_or_kept_by_itself() {
    let disk = SimDisk::new().without_name_order();
    disk.create_dir_all(path("/s/new")).unwrap();
    disk.create_dir_all(path("/s/log")).unwrap();
    disk.create_new(path("/s/m")).unwrap();
    disk.sync_dir(path("/")).unwrap();
    disk.sync_dir(path("/s")).unwrap();
    disk.rename(path("/s/m"), path("/s/m.old")).unwrap();
    disk.rename(path("/s/log"), path("/s/log.old")).unwrap();
    disk.rename(path("/s/new"), path("/s/log")).unwrap();
    let disk = disk.kill();
    let seen: BTreeSet<_> =
        (0..1000).map(|seed| disk.crash(seed).list(path("/s")).unwrap()).collect();
    // A move to a folder's old name depends on that folder having moved away.
    let folders = [["log", "new"], ["log.old", "new"], ["log", "log.old"]];
    let states = folders.into_iter().flat_map(|two| {
        ["m", "m.old"].map(|m| {
            let mut names: Vec<_> = two.into_iter().chain([m]).map(PathBuf::from).collect();
            names.sort_unstable();
            names
        })
    });
    assert_eq!(seen, states.collect());
}

/// Replaces `m` by way of `m.tmp`; fails if the process dies on the way.
fn replace(disk: &SimDisk, bytes: &[u8], sync: bool) -> io::Result<()> {
    let file = disk.create_new(path("/s/m.tmp"))?;
    file.write_all_at(bytes, 0)?;
    if sync {
        file.sync_data()?;
    }
    disk.rename(path("/s/m.tmp"), path("/s/m"))?;
    disk.sync_dir(path("/s"))
}

fn replaced(sync: bool, fault: impl Fn(u64) -> Option<u64>) -> BTreeSet<Vec<u8>> {
    let crash = |seed: u64| {
        let disk = SimDisk::new();
        disk.create_dir_all(path("/s")).unwrap();
        disk.sync_dir(path("/")).unwrap();
        replace(&disk, &[1; 3000], true).unwrap();
        if let Some(at) = fault(seed) {
            disk.fail_at(disk.ops() + at, Fault::Crash, false);
        }
        assert_eq!(replace(&disk, &[2; 5000], sync).is_err(), fault(seed).is_some());
        disk.crash(seed).read(path("/s/m")).unwrap()
    };
    (0..1000).map(crash).collect()
}

#[test]
fn write_sync_rename_sync_leaves_the_old_or_the_new_file() {
    let both = BTreeSet::from([vec![1; 3000], vec![2; 5000]]);
    assert_eq!(replaced(true, |seed| Some(seed % 5)), both);
    assert_eq!(replaced(true, |_| None), BTreeSet::from([vec![2; 5000]]));
    // If the file was not synced, its new name may lead to anything.
    assert!(replaced(false, |seed| Some(seed % 4)).len() > 2);
}

#[test]
fn a_failed_sync_loses_its_writes_for_good() {
    let (disk, file) = disk_with(b"aaa");
    file.write_all_at(b"B", 0).unwrap();
    disk.fail_at(disk.ops(), Fault::Error(io::ErrorKind::Other), false);
    file.sync_data().unwrap_err();
    file.write_all_at(b"C", 2).unwrap();
    file.sync_data().unwrap();
    assert_eq!(disk.read(path("f")).unwrap(), b"BaC");
    assert_eq!(crashes(&disk), BTreeSet::from([b"aaC".to_vec(), b"BaC".to_vec()]));
}

#[test]
fn errors_strike_once_or_until_cleared() {
    let (disk, file) = disk_with(b"a");
    let full = Fault::Error(io::ErrorKind::StorageFull);
    disk.fail_at(disk.ops() + 1, full, false);
    file.write_all_at(b"B", 0).unwrap();
    assert_eq!(kind(file.write_all_at(b"C", 0)), io::ErrorKind::StorageFull);
    file.write_all_at(b"D", 1).unwrap();
    assert_eq!(disk.read(path("f")).unwrap(), b"BD");

    disk.fail_at(disk.ops(), full, true);
    assert_eq!(kind(file.allocate(9)), io::ErrorKind::StorageFull);
    assert_eq!(kind(disk.create_new(path("g"))), io::ErrorKind::StorageFull);
    assert_eq!(kind(disk.sync_dir(path("/"))), io::ErrorKind::StorageFull);
    disk.clear_faults();
    assert_eq!(disk.list(path("/")).unwrap(), [PathBuf::from("f")]);
}

#[test]
fn a_short_write_leaves_its_first_half() {
    let (disk, file) = disk_with(b"aaaa");
    disk.fail_at(disk.ops(), Fault::ShortWrite, false);
    assert_eq!(kind(file.write_all_at(b"BCDE", 0)), io::ErrorKind::WriteZero);
    assert_eq!(disk.read(path("f")).unwrap(), b"BCaa");
    disk.fail_at(disk.ops(), Fault::ShortWrite, false);
    file.sync_data().unwrap_err();
}

#[test]
fn after_a_crash_every_handle_is_dead_and_the_next_disk_is_not() {
    for fault in [Fault::Crash, Fault::CrashInWrite] {
        let (disk, file) = disk_with(b"aaaa");
        let guard = disk.lock(path("LOCK")).unwrap();
        disk.fail_at(disk.ops(), fault, false);
        assert!(!disk.is_dead());
        file.write_all_at(b"BCDE", 0).unwrap_err();
        assert!(disk.is_dead());
        file.sync_data().unwrap_err();
        file.len().unwrap_err();
        disk.open(path("f")).unwrap_err();
        file.unmap();

        let next = disk.kill();
        let bytes: &[u8] = if fault == Fault::Crash { b"aaaa" } else { b"BCaa" };
        assert_eq!(next.read(path("f")).unwrap(), bytes);
        assert_eq!(next.lose_unsynced().read(path("f")).unwrap(), b"aaaa");
        let next = disk.kill();
        next.lock(path("LOCK")).unwrap();
        drop(guard);
    }
}

#[test]
fn a_mapped_write_cannot_be_refused_but_can_be_lost() {
    let (disk, file) = disk_with(b"aaaa");
    assert!(!file.map(8192).unwrap(), "not allocated");
    file.allocate(8192).unwrap();
    file.sync_data().unwrap();
    assert!(file.map(8192).unwrap());
    assert_eq!(kind(file.set_len(0)), io::ErrorKind::InvalidInput);

    disk.set_capacity(Some(0));
    disk.fail_at(disk.ops(), Fault::Error(io::ErrorKind::Other), true);
    file.write_all_at(b"B", 0).unwrap();
    file.write_all_at(b"over the end", 8190).unwrap_err();
    disk.clear_faults();
    assert_eq!(kind(file.write_all_at(&[1; 8], 8190)), io::ErrorKind::StorageFull);
    assert_eq!(file.len().unwrap(), 8192, "what fitted lay inside");
    file.unmap();

    let after = |disk: SimDisk| disk.read(path("f")).unwrap()[..4].to_vec();
    assert_eq!(after(disk.kill()), b"Baaa");
    assert_eq!(after(disk.lose_unsynced()), b"aaaa");
    assert_eq!(disk.kill().read(path("f")).unwrap().len(), 8192);
    assert!(disk.crash(0).open(path("f")).unwrap().map(8192).unwrap(), "room is durable");
}

#[test]
fn a_mapping_that_somebody_has_outlives_unmap_and_keeps_the_length() {
    let (disk, file) = disk_with(b"aaaa");
    file.allocate(8192).unwrap();
    assert!(file.mapped().is_none());
    assert!(file.map(8192).unwrap());
    let mapping = file.mapped().unwrap();
    file.release_pages(4, 8);
    assert_eq!(kind(mapping.write(b"again", 0)), io::ErrorKind::Other, "it was let go of");
    file.unmap();
    mapping.write(b"B", 0).unwrap();
    assert_eq!(kind(mapping.write(b"over the end", 8190)), io::ErrorKind::InvalidInput);
    assert_eq!(kind(file.set_len(0)), io::ErrorKind::InvalidInput);
    let other = disk.open(path("f")).unwrap();
    assert_eq!(kind(other.set_len(0)), io::ErrorKind::InvalidInput);
    drop(mapping);
    file.set_len(2).unwrap();
    assert_eq!(disk.read(path("f")).unwrap(), b"Ba");
}

#[test]
fn a_write_that_is_too_long_to_be_copied_can_be_refused_in_a_mapping_too() {
    let (disk, file) = disk_with(b"aaaa");
    file.allocate(1 << 20).unwrap();
    assert!(file.map(1 << 20).unwrap());
    disk.fail_at(disk.ops(), Fault::Error(io::ErrorKind::Other), true);
    file.write_all_at(&vec![b'B'; COPIED_MAX], 0).unwrap();
    file.write_all_at(&vec![b'C'; COPIED_MAX + 1], 0).unwrap_err();
    disk.clear_faults();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 0).unwrap();
    assert_eq!(byte, *b"B");
}

#[test]
fn without_mapping_no_file_is_mapped_not_even_after_a_crash() {
    let disk = SimDisk::new().without_mapping();
    let file = disk.create_new(path("f")).unwrap();
    file.allocate(4096).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(path("/")).unwrap();
    assert!(!file.map(4096).unwrap());
    assert!(!disk.crash(7).open(path("f")).unwrap().map(4096).unwrap());
}

#[test]
fn a_full_disk_refuses_what_needs_room_and_nothing_else() {
    let (disk, file) = disk_with(&[1; 4096]);
    disk.set_capacity(Some(3 * 4096));
    assert_eq!(kind(file.allocate(4 * 4096)), io::ErrorKind::StorageFull);
    assert_eq!(file.len().unwrap(), 4096, "a refused allocation changes nothing");
    file.allocate(2 * 4096).unwrap();
    assert_eq!(disk.used(), 2 * 4096);
    let other = disk.create_new(path("other")).unwrap();
    assert_eq!(kind(other.write_all_at(&[2; 5000], 0)), io::ErrorKind::StorageFull);
    assert_eq!(other.len().unwrap(), 4096, "what fitted was written");
    other.write_all_at(&[3; 4096], 0).unwrap();
    file.write_all_at(&[4; 8192], 0).unwrap();
    assert_eq!(kind(file.write_all_at(&[5], 8192)), io::ErrorKind::StorageFull);

    // Space is freed when the last name and the last handle are gone.
    disk.remove(path("other")).unwrap();
    assert_eq!(disk.used(), 3 * 4096);
    drop(other);
    assert_eq!(disk.used(), 2 * 4096);
    file.write_all_at(&[5], 8192).unwrap();
}

#[test]
fn the_lock_is_held_by_one() {
    let disk = SimDisk::new();
    let held = disk.lock(path("LOCK")).unwrap();
    assert_eq!(kind(disk.clone().lock(path("LOCK"))), io::ErrorKind::WouldBlock);
    drop(held);
    let _held = disk.lock(path("LOCK")).unwrap();
    disk.kill().lock(path("LOCK")).unwrap();
    disk.crash(0).lock(path("LOCK")).unwrap();
}

#[test]
fn an_open_file_outlives_its_name_and_a_lost_removal_brings_it_back() {
    let (disk, file) = disk_with(b"abc");
    disk.remove(path("f")).unwrap();
    let mut buf = [0; 3];
    file.read_exact_at(&mut buf, 0).unwrap();
    assert_eq!(&buf, b"abc");
    assert_eq!(kind(disk.open(path("f"))), io::ErrorKind::NotFound);
    drop(file);
    assert_eq!(disk.lose_unsynced().read(path("f")).unwrap(), b"abc");
    let disk = disk.kill();
    disk.sync_dir(path("/")).unwrap();
    assert_eq!(kind(disk.lose_unsynced().read(path("f"))), io::ErrorKind::NotFound);
}

#[test]
fn a_folder_is_removed_name_by_name() {
    let disk = SimDisk::new();
    disk.create_dir_all(path("/s/a/b")).unwrap();
    disk.create_new(path("/s/a/1")).unwrap();
    disk.create_new(path("/s/a/b/2")).unwrap();
    let whole = disk.kill();
    for at in 0..4 {
        let disk = whole.kill();
        disk.fail_at(at, Fault::Crash, false);
        disk.remove_dir_all(path("/s/a")).unwrap_err();
        assert!(disk.kill().list(path("/s/a")).is_ok());
    }
    let disk = whole.kill();
    disk.remove_dir_all(path("/s/a")).unwrap();
    disk.remove_dir_all(path("/s/a")).unwrap();
    assert_eq!(disk.ops(), 5);
    assert!(disk.list(path("/s")).unwrap().is_empty());
}

#[test]
fn wrong_calls_are_refused_as_an_operating_system_would() {
    let (disk, _file) = disk_with(b"a");
    disk.create_dir_all(path("/d/e")).unwrap();
    assert_eq!(kind(disk.create_new(path("f"))), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(disk.create_new(path("/no/f"))), io::ErrorKind::NotFound);
    assert_eq!(kind(disk.create_new(path("f/g"))), io::ErrorKind::NotADirectory);
    assert_eq!(kind(disk.open(path("/d"))), io::ErrorKind::IsADirectory);
    assert_eq!(kind(disk.remove(path("/d"))), io::ErrorKind::IsADirectory);
    assert_eq!(kind(disk.remove(path("g"))), io::ErrorKind::NotFound);
    assert_eq!(kind(disk.rename(path("g"), path("h"))), io::ErrorKind::NotFound);
    assert_eq!(kind(disk.rename(path("f"), path("/d/f"))), io::ErrorKind::Unsupported);
    assert_eq!(kind(disk.rename(path("f"), path("/d"))), io::ErrorKind::IsADirectory);
    assert_eq!(kind(disk.create_dir_all(path("/f/g"))), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(disk.list(path("f"))), io::ErrorKind::NotADirectory);
    assert_eq!(disk.real_path(path("f")).unwrap(), None);
}

#[test]
fn the_trace_names_each_operation_by_its_number() {
    let (disk, file) = disk_with(b"a");
    disk.set_trace(true);
    let first = disk.ops();
    file.write_all_at(b"bc", 1).unwrap();
    file.len().unwrap();
    file.sync_data().unwrap();
    let steps = disk.trace();
    let what: Vec<_> =
        steps.iter().map(|step| (step.number - first, step.changes, &*step.what)).collect();
    assert_eq!(what, [(0, true, "write f +1 2"), (1, false, "len f"), (2, true, "sync f")]);
    disk.set_trace(false);
    assert!(disk.trace().is_empty());
}

#[test]
fn the_same_seed_gives_the_same_disk() {
    let (disk, file) = disk_with(&[0; 9000]);
    for at in 0..50 {
        file.write_all_at(&[at + 1; 700], u64::from(at) * 150).unwrap();
    }
    let read = |seed| disk.crash(seed).read(path("f")).unwrap();
    assert!((0..100).all(|seed| read(seed) == read(seed)));
    let states: BTreeSet<_> = (0..100).map(read).collect();
    assert!(states.len() > 50, "seeds differ: {}", states.len());
}

/// Holds for every crash, whatever the strategy: a byte has a value that it had since the last sync.
#[test]
fn no_crash_invents_a_byte() {
    for seed in 0..300 {
        let mut rng = rng::Rng::new(seed, 1);
        let (disk, file) = disk_with(&[0; 6000]);
        let mut may_be = vec![BTreeSet::from([0_u8]); 9000];
        for step in 1..40_u8 {
            if rng.below(8) == 0 {
                file.sync_data().unwrap();
                let now = disk.read(path("f")).unwrap();
                for (at, values) in may_be.iter_mut().enumerate() {
                    *values = BTreeSet::from([now.get(at).copied().unwrap_or(0)]);
                }
            } else {
                let (offset, len) = (rng.below(7000), rng.below(2000));
                file.write_all_at(&vec![step; len], offset as u64).unwrap();
                for values in &mut may_be[offset..offset + len] {
                    values.insert(step);
                }
            }
        }
        let after = disk.crash(seed).read(path("f")).unwrap();
        assert!(after.iter().zip(&may_be).all(|(byte, values)| values.contains(byte)), "{seed}");
    }
}

#[test]
fn only_what_reads_as_zeros_is_filled() {
    let (_disk, file) = disk_with(b"abc");
    file.allocate(20_000).unwrap();
    file.write_all_at(&[7], 12_000).unwrap();
    for (from, to) in [(3, 12_000), (12_001, 20_000), (3, 3)] {
        file.fill_ahead(from, to).unwrap();
    }
    for (from, to) in [(2, 12_000), (3, 12_001), (0, 20_000), (12_001, 20_001)] {
        file.fill_ahead(from, to).unwrap_err();
    }
}
