//! What sled must not do to a caller.

use super::*;
use std::sync::mpsc::{Receiver, channel, sync_channel};
use std::{fs, io};

const ID: BlockId = BlockId { run: 1, bucket: 0 };

/// Runs `call` on another thread and fails if it does not end.
fn ends<T: Send + 'static>(what: &str, call: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, answer): (_, Receiver<T>) = channel();
    std::thread::spawn(move || done.send(call()).ok());
    answer.recv_timeout(Duration::from_secs(30)).unwrap_or_else(|_| panic!("{what} hangs"))
}

#[test]
fn i12_a_call_that_hangs_in_sled_stops_neither_others_nor_the_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = Arc::new(SledBlocks::open(&dir.path().join("sled"), 1 << 20).unwrap());
    blocks.put(ID, b"block").unwrap();
    let (began, inside) = sync_channel(1);
    let (release, wait) = channel::<()>();
    let hung = Arc::clone(&blocks);
    let hung = std::thread::spawn(move || {
        hung.with("hang", |_| {
            began.send(()).unwrap();
            wait.recv().ok();
            Ok(())
        })
    });
    inside.recv().unwrap();
    let other = Arc::clone(&blocks);
    ends("reopen", move || other.reopen()).unwrap();
    let other = Arc::clone(&blocks);
    ends("put", move || other.put(ID, b"again")).unwrap();
    let other = Arc::clone(&blocks);
    assert!(ends("get", move || other.get(ID, &mut |bytes| assert_eq!(bytes, b"again"))).unwrap());
    drop(release);
    hung.join().unwrap().unwrap();
    assert!(blocks.get(ID, &mut |_| ()).unwrap(), "the end of the old one changes nothing");
}

/// Returns the length of the file and its allocated bytes.
#[cfg(target_os = "linux")]
fn len_and_room(file: &File) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    let meta = file.metadata().unwrap();
    (meta.len(), meta.blocks() * 512)
}

#[cfg(target_os = "linux")]
#[test]
fn i12_sled_spun_for_ever_on_a_full_disk_so_there_is_room_before_it_writes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sled");
    // Writes that never reserve would use up the reservation made at open long before the end.
    let writes: [fn(&SledBlocks, BlockId) -> BlockResult<()>; 2] = [
        |blocks, id| blocks.put(id, &[7; 3000]),
        |blocks, id| blocks.put_in_time(id, vec![7; 3000]),
    ];
    for write in writes {
        let blocks = SledBlocks::open(&path, 1 << 20).unwrap();
        let file = File::open(path.join(FILE)).unwrap();
        for bucket in 0..4000 {
            // Right after the check sled may release the end of its file; the next write reserves again.
            let has_room = |_| {
                write(&blocks, BlockId { bucket, ..ID }).unwrap();
                let (len, room) = len_and_room(&file);
                room >= len + headroom::FOR_REMOVING
            };
            assert!((0..4).any(has_room), "{bucket}: {:?}", len_and_room(&file));
        }
        blocks.reset().unwrap();
        blocks.close();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn i12_a_sled_that_never_ends_kept_the_room_of_its_removed_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sled");
    let blocks = SledBlocks::open(&path, 1 << 20).unwrap();
    blocks.put(ID, &[7; 3000]).unwrap();
    let hung = File::open(path.join(FILE)).unwrap();
    blocks.reset().unwrap();
    assert_eq!(len_and_room(&hung), (0, 0));
    assert!(!blocks.get(ID, &mut |_| ()).unwrap());
}

#[test]
fn i12_nobody_goes_into_a_sled_that_failed_until_it_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = SledBlocks::open(&dir.path().join("sled"), 1 << 20).unwrap();
    blocks.put(ID, b"block").unwrap();
    let get = || blocks.get(ID, &mut |bytes| assert_eq!(bytes, b"block"));
    let bad_page = sled::Error::Corruption { at: None, bt: () };
    blocks.with("fail", |_| Err::<(), _>(bad_page)).unwrap_err();
    assert!(get().unwrap(), "one page is not the whole of sled");
    let failures: [fn() -> sled::Result<()>; 2] =
        [|| Err(sled::Error::Io(io::ErrorKind::StorageFull.into())), || panic!("planted")];
    for fail in failures {
        blocks.with("fail", |_| fail()).unwrap_err();
        assert!(get().is_err());
        blocks.reopen().unwrap();
        assert!(get().unwrap());
    }
    let (release, wait) = channel::<()>();
    let late = blocks.in_time("hang", Duration::from_millis(10), move |_| {
        wait.recv().ok();
        Ok(())
    });
    assert!(late.is_err() && get().is_err());
    drop(release);
    blocks.reopen().unwrap();
    assert!(get().unwrap());
}

/// Found by attack: a run was removed after a single space check, although sled writes while removing.
#[cfg(target_os = "linux")]
#[test]
fn i12_a_large_run_is_removed_on_a_disk_that_is_nearly_full() {
    use std::io::Write;
    use std::process::Command;

    struct Tmpfs(PathBuf);
    impl Drop for Tmpfs {
        fn drop(&mut self) {
            Command::new("umount").arg("-l").arg(&self.0).output().ok();
        }
    }

    let dir = tempfile::tempdir().unwrap();
    let disk = Tmpfs(dir.path().join("disk"));
    fs::create_dir(&disk.0).unwrap();
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=128m", "firstseen-test"]).arg(&disk.0);
    if !mount.output().is_ok_and(|mounted| mounted.status.success()) {
        return; // needs root
    }
    let path = disk.0.join("sled");
    let blocks = SledBlocks::open(&path, 1 << 20).unwrap();
    for run in 1..=2 {
        for bucket in 0..6000 {
            blocks.put(BlockId { run, bucket }, &[bucket as u8; 3600]).unwrap();
        }
    }
    blocks.sync().unwrap();
    // The reservation is gone, and others have taken all but a little.
    let file = File::options().write(true).open(path.join(FILE)).unwrap();
    file.set_len(file.metadata().unwrap().len()).unwrap();
    let mut others = File::create(disk.0.join("others")).unwrap();
    while others.write_all(&[1; 4096]).is_ok() {}
    others.set_len(others.metadata().unwrap().len() - (1100 << 10)).unwrap();
    match blocks.remove_run(1) {
        Ok(()) => {}
        Err(fault) => assert!(fault.is_no_room(), "{fault}"),
    }
    // Done or refused, sled itself never saw a full disk: it keeps working.
    assert!(blocks.get(BlockId { run: 2, bucket: 7 }, &mut |_| ()).unwrap());
    others.set_len(0).unwrap();
    blocks.remove_run(1).unwrap();
    assert!(!blocks.get(BlockId { run: 1, bucket: 7 }, &mut |_| ()).unwrap());
    blocks.close();
}

#[test]
fn i10_a_lock_that_sled_lets_go_late_does_not_mean_to_build_everything_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sled");
    let blocks = SledBlocks::open(&path, 1 << 20).unwrap();
    blocks.put(ID, b"block").unwrap();
    blocks.close();
    let late = File::open(path.join(FILE)).unwrap();
    late.lock().unwrap();
    let late = std::thread::spawn(move || {
        std::thread::park_timeout(Duration::from_millis(200));
        drop(late);
    });
    blocks.reopen().unwrap();
    assert!(blocks.get(ID, &mut |bytes| assert_eq!(bytes, b"block")).unwrap());
    late.join().unwrap();
}

/// What sled's destructor does if its last sync fails.
#[derive(Debug, Default)]
pub(super) struct AtEnd {
    panics: bool,
}

impl Drop for AtEnd {
    fn drop(&mut self) {
        assert!(!self.panics, "planted: the destructor of sled");
    }
}

/// The panic reached the caller of `Store::open` when opening failed because syncs did.
#[test]
fn i10_a_panic_of_sleds_destructor_comes_out_of_nothing() {
    type Way = fn(SledBlocks);
    let ends: [(&str, Way); 4] = [
        ("drop", |blocks| drop(blocks)),
        ("close", |blocks| blocks.close()),
        ("reopen", |blocks| blocks.reopen().unwrap()),
        ("a call that ends after the close", |blocks| {
            let inside = blocks.get_open("test").unwrap();
            *blocks.open.write() = Err(BlockFault::new("closed"));
            release(inside);
        }),
    ];
    for (what, ended) in ends {
        let dir = tempfile::tempdir().unwrap();
        let blocks = SledBlocks::open(&dir.path().join("sled"), 1 << 20).unwrap();
        blocks.put(ID, b"block").unwrap();
        if let Ok(open) = &mut *blocks.open.write() {
            Arc::get_mut(open).unwrap().at_end.panics = true;
        }
        let end = std::panic::AssertUnwindSafe(|| ended(blocks));
        assert!(std::panic::catch_unwind(end).is_ok(), "a panic came out of {what}");
    }
    assert!(std::panic::catch_unwind(|| end(AtEnd { panics: true })).is_ok());
}

/// A late result is dropped by the thread that made it, whatever that does.
#[test]
fn i12_opening_that_never_ends_is_given_up() {
    let (release, wait) = channel::<()>();
    let (told, ended) = channel();
    let opened = bounded("open", Duration::from_millis(10), move || {
        wait.recv().ok();
        told.send(()).ok();
        Ok(AtEnd { panics: true })
    });
    let fault = opened.map(|mut late| late.panics = false).unwrap_err();
    assert!(fault.what.contains("not done in"), "{fault}");
    drop(release);
    ended.recv_timeout(Duration::from_secs(20)).unwrap();
}

/// The folder's contents are not to blame for a shortage and must survive it.
#[test]
fn i10_a_shortage_of_the_process_does_not_cost_what_sled_holds() {
    use std::io::Error;
    for code in [24, 23, 27, 11, 12, 30] {
        let fault = BlockFault::io("open", &Error::from_raw_os_error(code));
        assert_eq!(fault.cause, Cause::Environment, "{fault}");
    }
    assert_eq!(BlockFault::io("open", &Error::from_raw_os_error(28)).cause, Cause::NoRoom);
    assert_eq!(BlockFault::io("open", &Error::from_raw_os_error(5)).cause, Cause::Store);
}

/// A claim that waited for memory on a full disk heard "not open: closed", because a flush had come while sled was being
/// opened again.
#[test]
fn i12_who_comes_while_sled_is_being_opened_again_hears_of_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = SledBlocks::open(&dir.path().join("sled"), 1 << 20).unwrap();
    let inside = blocks.get_open("test").unwrap();
    // It waits for the call that is inside.
    let reopened = std::thread::scope(|scope| {
        let reopened = scope.spawn(|| blocks.reopen());
        let met = (0..20_000).find_map(|_| {
            std::thread::park_timeout(Duration::from_millis(1));
            blocks.put(ID, b"block").err()
        });
        let met = crate::Error::from(met.unwrap());
        assert_eq!(met.kind(), crate::ErrorKind::Retry, "{met}");
        release(inside);
        reopened.join().unwrap()
    });
    reopened.unwrap();
    blocks.put(ID, b"block").unwrap();
    blocks.close();
    let met = crate::Error::from(blocks.put(ID, b"block").unwrap_err());
    assert_eq!(met.kind(), crate::ErrorKind::Environment, "{met}");
}
