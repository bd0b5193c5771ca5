//! Room that sled's file has on the disk before sled wants it.
//!
//! sled 0.34.7 does not survive a full disk: a buffer that could not be written stays sealed, and whoever
//! needs the next one spins for ever, in a question too, because a question may split a page. So whoever
//! writes makes sure of the room first, and sled never hears of a full disk (I12). What is reserved lies
//! behind the end of the file, where its length does not show it. Snapshots that sled writes when it is opened
//! are files of their own: an opening that finds no room for them fails, and answers.

use std::fs::File;
use std::io;

/// Several times what sled was seen to write for one insertion, its rewriting and the splits of questions
/// included: four of its segments.
pub(super) const FOR_CHUNKS: u64 = 2 << 20;
/// What removes or marks something may use the last of it: that is how room comes back.
pub(super) const FOR_REMOVING: u64 = 1 << 20;
/// So much is reserved at once, to ask seldom.
const AHEAD: u64 = 4 << 20;

/// Makes sure that `least` bytes can be written behind the end; an error says that they cannot.
#[cfg(target_os = "linux")]
pub(super) fn reserve(file: &File, least: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;
    use std::os::unix::fs::MetadataExt;

    let meta = file.metadata()?;
    // `st_blocks` counts units of 512 bytes on every Linux file system. When sled truncates its file the
    // reservation goes, and is missing here.
    if meta.blocks().saturating_mul(512) >= meta.len() + least {
        return Ok(());
    }
    let ask = |len| {
        crate::error::retry_interrupted(|| fallocate(file, FallocateFlags::KEEP_SIZE, 0, len))
    };
    match ask(meta.len() + AHEAD).or_else(|_| ask(meta.len() + least)) {
        // A file system or a sandbox without the call, or one where it never ends: sled has to see for itself.
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn reserve(_file: &File, _least: u64) -> io::Result<()> {
    Ok(())
}
