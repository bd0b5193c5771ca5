use super::file::{RealFile, Slot};
use super::*;
use crate::disk::COPIED_MAX;
use crate::sync::RwLock;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use tempfile::{TempDir, tempdir};

const MIB: u64 = 1 << 20;

fn read_back(file: &dyn DiskFile, offset: u64, len: usize) -> Vec<u8> {
    let mut buf = vec![0xEE; len];
    file.read_exact_at(&mut buf, offset).unwrap();
    buf
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Returns whether a mapping is expected here, computed independently of the code under test.
fn mappable(dir: &Path) -> bool {
    let out = Command::new("stat").args(["-f", "-c", "%T"]).arg(dir).output();
    let kind = out.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned());
    cfg!(target_os = "linux")
        && matches!(kind.as_deref(), Ok("ext2/ext3" | "xfs" | "tmpfs" | "ext2/ext3/ext4"))
}

#[test]
fn files_and_new_folders_are_private_and_old_folders_stay_as_they_are() {
    let dir = tempdir().unwrap();
    let old = dir.path().join("old");
    std::fs::create_dir(&old).unwrap();
    std::fs::set_permissions(&old, PermissionsExt::from_mode(0o755)).unwrap();

    let disk = RealDisk::default();
    disk.create_dir_all(&old.join("a/b")).unwrap();
    disk.create_dir_all(&old.join("a/b")).unwrap();
    disk.create_new(&old.join("a/b/f")).unwrap();
    drop(disk.lock(&old.join("a/LOCK")).unwrap());

    assert_eq!(mode(&old), 0o755);
    assert_eq!(mode(&old.join("a")), 0o700);
    assert_eq!(mode(&old.join("a/b")), 0o700);
    assert_eq!(mode(&old.join("a/b/f")), 0o600);
    assert_eq!(mode(&old.join("a/LOCK")), 0o600);
}

#[test]
fn a_second_lock_would_block_until_the_first_is_dropped() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("LOCK");
    let held = RealDisk::default().lock(&path).unwrap();
    let refused = RealDisk::default().lock(&path).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
    drop(held);
    RealDisk::default().lock(&path).unwrap();
}

/// Names lost for want of a folder sync only show at a power cut. But some folders refuse to be synced, which shows
/// that the system was called.
#[cfg(target_os = "linux")]
#[test]
fn i6_the_sync_of_a_folder_is_asked_of_the_system() {
    let refused = RealDisk::default().sync_dir(Path::new("/proc")).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    RealDisk::default().sync_dir(tempdir().unwrap().path()).unwrap();
}

#[test]
fn what_a_mapping_lets_go_of_is_there_as_before_and_can_be_written_again() {
    let dir = tempdir().unwrap();
    let file = RealDisk::default().create_new(&dir.path().join("f")).unwrap();
    file.allocate(2 * MIB).unwrap();
    assert_eq!(file.map(2 * MIB).unwrap(), mappable(dir.path()));
    let mut expected = vec![0; 2 << 20];
    // Adjacent pieces, some copied and some not.
    let mut at = 0;
    for n in 1..=255_u8 {
        let piece = vec![n; if n % 5 == 0 { COPIED_MAX + 1 } else { 4_000 }];
        file.write_all_at(&piece, at as u64).unwrap();
        expected[at..at + piece.len()].copy_from_slice(&piece);
        at += piece.len();
        if n % 50 == 0 {
            file.release_pages(0, at as u64);
        }
    }
    file.release_pages(0, u64::MAX);
    assert_eq!(read_back(&*file, 0, 2 << 20), expected);
    file.write_all_at(b"again", 100_000).unwrap();
    expected[100_000..100_005].copy_from_slice(b"again");
    file.sync_data().unwrap();
    file.unmap();
    file.release_pages(0, MIB);
    assert_eq!(read_back(&*file, 0, 2 << 20), expected);
}

#[test]
fn what_is_filled_ahead_reads_as_zeros_and_nothing_else_is_touched() {
    let dir = tempdir().unwrap();
    for map in [true, false] {
        let path = dir.path().join(format!("{map}"));
        let file = RealDisk::default().create_new(&path).unwrap();
        file.allocate(MIB).unwrap();
        let mapped = map && file.map(MIB).unwrap();
        let (before, after) = (vec![1; 70_001], vec![2; 5]);
        file.write_all_at(&before, 0).unwrap();
        file.write_all_at(&after, MIB - 5).unwrap();
        file.sync_data().unwrap();
        let written = unwritten_bytes(&path);
        file.fill_ahead(70_001, MIB - 5).unwrap();
        file.sync_data().unwrap();
        let expected = [before, vec![0; (1 << 20) - 70_006], after].concat();
        assert_eq!(read_back(&*file, 0, 1 << 20), expected);
        file.write_all_at(b"record", 70_001).unwrap();
        assert_eq!(read_back(&*file, 70_000, 8), b"\x01record\0");
        if let Some(before) = written.filter(|before| *before > 0) {
            let left = unwritten_bytes(&path).expect("as before");
            assert_eq!(left < before, mapped, "{left} of {before} bytes are not written yet");
        }
    }
}

/// Returns the bytes in unwritten extents, as reported by `filefrag` of e2fsprogs; `None` if it is not available.
fn unwritten_bytes(path: &Path) -> Option<u64> {
    // Second path: ordinary users may not have it on theirs.
    let asked = |program| Command::new(program).args(["-v", "-b4096"]).arg(path).output();
    let out = asked("filefrag").or_else(|_| asked("/usr/sbin/filefrag")).ok()?;
    let text = String::from_utf8(out.stdout).ok().filter(|_| out.status.success())?;
    let lines = text.lines().filter(|line| line.contains("unwritten"));
    let blocks = lines.filter_map(|line| line.split(':').nth(3)?.trim().parse::<u64>().ok());
    Some(blocks.sum::<u64>() * 4096)
}

#[test]
fn names_are_sorted_and_missing_things_say_so() {
    let dir = tempdir().unwrap();
    let disk = RealDisk::default();
    for name in ["c", "a", "b"] {
        disk.create_new(&dir.path().join(name)).unwrap();
    }
    disk.create_dir_all(&dir.path().join("aa")).unwrap();
    let names = disk.list(dir.path()).unwrap();
    assert_eq!(names, ["a", "aa", "b", "c"].map(PathBuf::from));

    let missing = dir.path().join("missing");
    assert_eq!(disk.list(&missing).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(disk.open(&missing).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(disk.read(&missing).unwrap_err().kind(), io::ErrorKind::NotFound);
    let again = disk.create_new(&dir.path().join("a")).unwrap_err();
    assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    disk.remove_dir_all(&missing).unwrap();
    disk.remove_dir_all(&dir.path().join("aa")).unwrap();
    disk.sync_dir(dir.path()).unwrap();
    disk.sync_dir(Path::new("")).unwrap();
}

#[test]
fn rename_replaces_and_remove_removes() {
    let dir = tempdir().unwrap();
    let disk = RealDisk::default();
    let (old, new) = (dir.path().join("m"), dir.path().join("m.tmp"));
    disk.create_new(&old).unwrap().write_all_at(b"old", 0).unwrap();
    disk.create_new(&new).unwrap().write_all_at(b"newer", 0).unwrap();
    disk.rename(&new, &old).unwrap();
    assert_eq!(disk.read(&old).unwrap(), b"newer");
    disk.remove(&old).unwrap();
    assert!(disk.list(dir.path()).unwrap().is_empty());
}

#[test]
fn allocate_takes_room_never_shrinks_and_keeps_what_is_there() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("f");
    let file = RealDisk::default().create_new(&path).unwrap();
    file.write_all_at(b"head", 0).unwrap();
    file.allocate(0).unwrap();
    file.allocate(2 * MIB).unwrap();
    assert_eq!(file.len().unwrap(), 2 * MIB);
    assert!(std::fs::metadata(&path).unwrap().blocks() * 512 >= 2 * MIB);
    file.allocate(MIB).unwrap();
    assert_eq!(file.len().unwrap(), 2 * MIB);
    assert_eq!(read_back(&*file, 0, 8), b"head\0\0\0\0");
    assert!(read_back(&*file, 8, 2 * MIB as usize - 8).iter().all(|byte| *byte == 0));
}

#[test]
fn zeros_are_written_after_the_end_where_the_file_system_cannot_allocate() {
    let dir = tempdir().unwrap();
    let file = File::create_new(dir.path().join("f")).unwrap();
    drop(file);
    let file = private().open(dir.path().join("f")).unwrap();
    let file = RealFile { file, mapping: RwLock::new(Slot::default()), no_mapping: true };
    file.write_all_at(b"head", 0).unwrap();
    file.write_zeros(2 * MIB + 17).unwrap();
    file.write_zeros(MIB).unwrap();
    assert_eq!(file.len().unwrap(), 2 * MIB + 17);
    assert_eq!(read_back(&file, 0, 8), b"head\0\0\0\0");
}

/// Writes the same script to a file; the bytes must not depend on the mapping.
fn script(disk: &RealDisk, path: &Path, map: bool) -> Vec<u8> {
    let file = disk.create_new(path).unwrap();
    file.allocate(MIB).unwrap();
    assert_eq!(file.map(MIB).unwrap(), map);
    for at in 0..1000_u64 {
        file.write_all_at(&at.to_le_bytes(), at * 24).unwrap();
        assert_eq!(read_back(&*file, at * 24, 8), at.to_le_bytes());
    }
    // Across the end of the mapping, then wholly after it.
    file.write_all_at(b"across", MIB - 3).unwrap();
    file.write_all_at(b"behind", MIB + 3).unwrap();
    file.sync_data().unwrap();
    file.unmap();
    file.write_all_at(b"plain", 5).unwrap();
    disk.read(path).unwrap()
}

#[test]
fn mapped_writes_equal_plain_writes() {
    let dir = tempdir().unwrap();
    let map = mappable(dir.path());
    let mapped = script(&RealDisk::default(), &dir.path().join("mapped"), map);
    let plain = script(&RealDisk::without_mapping(), &dir.path().join("plain"), false);
    assert_eq!(mapped.len() as u64, MIB + 9);
    assert!(mapped == plain);
}

#[test]
fn a_file_that_was_not_really_allocated_is_not_mapped() {
    let dir = tempdir().unwrap();
    let file = RealDisk::default().create_new(&dir.path().join("f")).unwrap();
    assert!(!file.map(0).unwrap());
    assert!(!file.map(MIB).unwrap(), "shorter than the mapping");
    file.set_len(MIB).unwrap();
    assert!(!file.map(MIB).unwrap(), "sparse");
    file.allocate(MIB).unwrap();
    assert_eq!(file.map(MIB).unwrap(), mappable(dir.path()));
    assert!(!file.map(MIB + 1).unwrap(), "longer than the file");
    file.write_all_at(b"the old mapping still works", 0).unwrap();
}

#[test]
fn the_length_of_a_mapped_file_does_not_change() {
    let dir = tempdir().unwrap();
    let file = RealDisk::default().create_new(&dir.path().join("f")).unwrap();
    file.allocate(MIB).unwrap();
    if file.map(MIB).unwrap() {
        assert_eq!(file.set_len(0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        file.unmap();
    }
    file.set_len(1).unwrap();
    assert_eq!(file.len().unwrap(), 1);
    let mut buf = [0; 2];
    let short = file.read_exact_at(&mut buf, 0).unwrap_err();
    assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
}

/// A log copies into the mapping of its active segment without asking the file.
#[test]
fn a_mapping_that_somebody_has_outlives_unmap_and_keeps_the_length() {
    let dir = tempdir().unwrap();
    let file = RealDisk::default().create_new(&dir.path().join("f")).unwrap();
    assert!(file.mapped().is_none());
    file.allocate(MIB).unwrap();
    if !file.map(MIB).unwrap() {
        assert!(file.mapped().is_none());
        return;
    }
    let mapping = file.mapped().unwrap();
    file.unmap();
    assert!(file.mapped().is_none());
    mapping.write(b"late", MIB - 4).unwrap();
    assert_eq!(read_back(&*file, MIB - 4, 4), b"late");
    assert_eq!(mapping.write(b"late", MIB - 3).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(file.set_len(0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    drop(mapping);
    file.set_len(0).unwrap();
}

#[test]
fn writers_and_readers_stay_right_while_the_mapping_comes_and_goes() {
    let dir = tempdir().unwrap();
    let file = RealDisk::default().create_new(&dir.path().join("f")).unwrap();
    file.allocate(MIB).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..3_u64 {
            let file = &file;
            scope.spawn(move || {
                for at in 0..5000 {
                    let offset = (at * 3 + thread) * 24;
                    file.write_all_at(&[at as u8; 24], offset).unwrap();
                    assert_eq!(read_back(&**file, offset, 24), [at as u8; 24]);
                }
            });
        }
        for _ in 0..500 {
            file.map(MIB).unwrap();
            file.unmap();
        }
    });
}

/// A tmpfs of 1 MiB, unmounted when dropped.
struct SmallTmpfs(TempDir);

impl SmallTmpfs {
    /// Mounts it; `None` where the user may not mount.
    fn mount() -> Option<Self> {
        let dir = tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m", "none"]).arg(dir.path());
        matches!(mount.output(), Ok(out) if out.status.success()).then_some(Self(dir))
    }
}

impl Drop for SmallTmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).output();
    }
}

#[test]
fn a_full_tmpfs_says_storage_full_if_root_may_mount_one() {
    let Some(full) = SmallTmpfs::mount() else { return };
    let disk = RealDisk::default();
    let file = disk.create_new(&full.0.path().join("big")).unwrap();
    assert_eq!(file.allocate(4 * MIB).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert!(!file.map(4 * MIB).unwrap());
    file.set_len(0).unwrap();

    file.allocate(MIB / 2).unwrap();
    assert!(file.map(MIB / 2).unwrap());
    let other = disk.create_new(&full.0.path().join("other")).unwrap();
    let error = other.write_all_at(&vec![1; MIB as usize], 0).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    // The disk is full to the last page, yet allocated space can still be written.
    file.write_all_at(&vec![2; MIB as usize / 2], 0).unwrap();
    file.sync_data().unwrap();
    assert!(read_back(&*file, 0, MIB as usize / 2).iter().all(|byte| *byte == 2));
}
