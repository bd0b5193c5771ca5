//! Disk space reserved for sled's file before sled needs it.
//!
//! sled 0.34.7 does not survive a full disk: a buffer that could not be written stays sealed, and whatever needs the
//! next one spins forever, reads included, because a read may split a page. So writers reserve space first, and sled
//! never sees a full disk (I12). The reservation lies past the end of the file and does not change its length.
//! Snapshots that sled writes at open are separate files: an open without space for them fails with an error.
//!
//! A full disk still reaches sled where the file system cannot reserve, or takes back what it has given (copy on write),
//! and if sled truncates its file between two of our writes, others take the space, and it grows the file again.

use std::fs::File;
use std::io;

/// Several times what sled was seen to write for one insertion, including its rewriting and page splits by reads: four
/// of its segments.
pub(super) const FOR_BLOCKS: u64 = 2 << 20;
/// Removing or marking may use the last space: that is how space is freed.
pub(super) const FOR_REMOVING: u64 = 1 << 20;
/// Reserved at a time, to make calls rare.
const AHEAD: u64 = 4 << 20;

/// Reserves `least` bytes past the end of the file; fails if they cannot be written.
#[cfg(target_os = "linux")]
pub(super) fn reserve(file: &File, least: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;
    use std::os::unix::fs::MetadataExt;

    let meta = file.metadata()?;
    // `st_blocks` counts units of 512 bytes on every Linux file system. When sled truncates its file, the reservation
    // goes and is missing here.
    if meta.blocks().saturating_mul(512) >= meta.len() + least {
        return Ok(());
    }
    let ask = |len| {
        crate::error::retry_interrupted(|| fallocate(file, FallocateFlags::KEEP_SIZE, 0, len))
    };
    match ask(meta.len() + AHEAD).or_else(|_| ask(meta.len() + least)) {
        // The file system or sandbox lacks the call, or it never finishes: sled has to find out for itself.
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn reserve(_file: &File, _least: u64) -> io::Result<()> {
    Ok(())
}
