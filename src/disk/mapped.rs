//! The memory mapping of a log segment: the one file of this crate with `unsafe`.
//!
//! A claim at `Process` must survive the death of the process and may not cost a system call. A shared
//! mapping does both: the bytes are in the kernel's page cache as soon as they are copied. Measured
//! for 24 bytes, lock and all: 13 ns (28 ns with the page faults of a fresh segment), `pwrite` 545 ns.
//!
//! # Why this is sound
//!
//! - **No Rust reference ever points into the mapping.** [`Mapping`] hands out neither slices nor
//!   pointers. Its one access to bytes is a `copy_nonoverlapping` from the caller's slice to a raw pointer, after
//!   both ends have been checked against the length of the mapping. The source cannot overlap the target,
//!   because nobody can own a slice of it.
//! - **Letting go** of pages that were written (`let_go`) changes no byte, because the mapping is shared and of a file. They
//!   are not faulted in again: the log goes forward, and the first pieces, with its watermark, stay.
//! - **A system call writes into pages that are mapped** where a record is long, and where zeros are written ahead of the
//!   first record (`fill_ahead`). No load or store of Rust touches those
//!   bytes, and both ways lead to the same page cache.
//! - **A prefetch** of the line behind what was written is a hint to the processor: it neither reads nor writes in the
//!   sense of the language, and cannot fault.
//! - **Nobody reads it through memory.** Readers use `pread`; the kernel's page cache is the same one. So
//!   there is no load that a store could race with.
//! - **Who writes.** Only `DiskFile::write_all_at`, whose callers never write the same bytes from two
//!   threads: that is in the contract of the trait, and the log hands every writer a range of its own; and
//!   `fill_ahead`, while nobody else has the file.
//!   Copies of different ranges share no byte.
//! - **It lives long enough.** `real.rs` keeps the mapping behind a reader-writer lock: a copy holds the
//!   read side, `unmap` and a new `map` take the write side, so no copy runs while pages go away.
//!
//! # When the kernel could send SIGBUS, and why it does not
//!
//! - *The file is shorter than the mapping.* Checked under the lock before mapping. `set_len` refuses
//!   while mapped, `allocate` only grows. Only the process that holds the store's `LOCK` opens its files;
//!   a stranger who truncates them by hand is outside of what we can survive.
//! - *A page has no room on the disk when it is first written.* Only file systems that overwrite in place
//!   are mapped (ext2/3/4, xfs, tmpfs), only when the blocks are there, and `fallocate` is asked once more
//!   for every byte, since a count of blocks cannot see where a hole is. On xfs it also unshares blocks
//!   that a `cp --reflink` of the store has in common with its original. Copy-on-write, stacked and
//!   network file systems, whatever else and every system but Linux get plain writes.
//! - *What is left:* a device that fails while a page that already holds records is read back in, a file
//!   system that was shut down or went read-only under us, a reflink copy taken of an open store on an xfs
//!   that is then full. The log maps segments that it has just made or just read, so the first needs its
//!   pages to have been evicted in between.
#![allow(unsafe_code)]

use memmap2::MmapRaw;
use std::fs::File;
use std::io;

/// Bytes of a line of the processor's cache.
const LINE: usize = 64;

/// The first bytes of a file, writable as memory.
#[derive(Debug)]
pub(super) struct Mapping {
    raw: MmapRaw,
}

impl Mapping {
    /// Maps the first `len` bytes, or answers `None` where that could kill the process.
    pub(super) fn of(file: &File, len: u64) -> io::Result<Option<Self>> {
        let Ok(size) = usize::try_from(len) else { return Ok(None) };
        if size == 0 || !is_safe(file, len)? {
            return Ok(None);
        }
        // Out of address space or of map entries is no fault: plain writes do the same job.
        Ok(memmap2::MmapOptions::new().len(size).map_raw(file).ok().map(|raw| Self { raw }))
    }

    /// Copies `bytes` to `offset`. Answers `false`, and copies nothing, if they do not all fit inside.
    #[inline]
    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> bool {
        let Ok(start) = usize::try_from(offset) else { return false };
        match start.checked_add(bytes.len()) {
            Some(end) if end <= self.raw.len() => {}
            _ => return false,
        }
        // SAFETY: `start + bytes.len()` lies within the mapping (just checked), which `self` keeps alive.
        // `bytes` is memory owned by Rust and the mapping never is, so the two do not overlap. No
        // reference to the target exists and no other thread writes these bytes (module docs).
        unsafe {
            std::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                self.raw.as_mut_ptr().add(start),
                bytes.len(),
            );
        }
        self.prefetch(start + bytes.len() + LINE);
        true
    }

    /// Takes the pages between out of this process's tables. They stay in the page cache as they are, and would come
    /// back if they were written to again. A sync must make every page that is mapped and dirty read-only first, one by
    /// one, and each time interrupts all processors that run a thread of the process; of a page that is in no table it
    /// need not.
    ///
    /// The first piece stays: heads are there, and are written again.
    #[cfg(all(target_os = "linux", not(miri)))]
    pub(super) fn release_pages(&self, from: u64, to: u64) {
        /// A multiple of the size of a page, if that is not larger.
        const GRAIN: usize = 64 << 10;
        let (Ok(from), Ok(to)) = (usize::try_from(from), usize::try_from(to)) else { return };
        let (from, to) =
            ((from / GRAIN * GRAIN).max(GRAIN), to.min(self.raw.len()) / GRAIN * GRAIN);
        if from < to {
            // SAFETY: the range lies within the mapping and begins and ends with a page. The mapping is shared and of a
            // file, where the call changes no byte (madvise(2)); and no reference into it exists.
            // A failure costs speed only.
            unsafe {
                let advice = memmap2::UncheckedAdvice::DontNeed;
                self.raw.unchecked_advise_range(advice, from, to - from).ok();
            }
        }
    }

    #[cfg(not(all(target_os = "linux", not(miri))))]
    #[allow(clippy::unused_self, reason = "called as the other is")]
    pub(super) fn release_pages(&self, _from: u64, _to: u64) {}

    /// Asks for the line of memory that is written to soon. A lock that is unlocked waits for every write before it,
    /// and one that misses the cache costs more than the rest of an append.
    #[inline]
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    fn prefetch(&self, at: usize) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let line = self.raw.as_ptr().wrapping_add(at).cast();
        // SAFETY: a prefetch reads and writes nothing that the program could see, and does not fault, whatever the
        // address; SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line) };
    }

    #[inline]
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    #[allow(clippy::unused_self, reason = "called as the other is")]
    fn prefetch(&self, _at: usize) {}
}

/// Says whether every byte up to `len` has its place on a file system that overwrites in place.
#[cfg(target_os = "linux")]
fn is_safe(file: &File, len: u64) -> io::Result<bool> {
    use rustix::fs::{FallocateFlags, fallocate, fstatfs};
    use std::os::unix::fs::MetadataExt;

    const EXT: u64 = 0xEF53;
    const XFS: u64 = 0x5846_5342;
    const TMPFS: u64 = 0x0102_1994;

    let flags = match u64::try_from(fstatfs(file)?.f_type) {
        Ok(EXT | TMPFS) => FallocateFlags::empty(),
        Ok(XFS) => FallocateFlags::UNSHARE_RANGE,
        _ => return Ok(false),
    };
    let meta = file.metadata()?;
    // `st_blocks` counts units of 512 bytes on every Linux file system.
    if meta.len() < len || meta.blocks().saturating_mul(512) < len {
        return Ok(false);
    }
    // No room, no support: both mean that a mapping is not safe here, and neither is a fault.
    Ok(rustix::io::retry_on_intr(|| fallocate(file, flags, 0, len)).is_ok())
}

#[cfg(not(target_os = "linux"))]
fn is_safe(_file: &File, _len: u64) -> io::Result<bool> {
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stands on memory without a file, so that Miri can run it.
    fn anonymous(len: usize) -> Mapping {
        Mapping { raw: memmap2::MmapMut::map_anon(len).unwrap().into() }
    }

    fn byte(mapping: &Mapping, at: usize) -> u8 {
        assert!(at < mapping.raw.len());
        // SAFETY: inside the mapping, and no other thread exists in these tests.
        unsafe { mapping.raw.as_ptr().add(at).read() }
    }

    #[test]
    fn copies_only_what_fits_whole() {
        let mapping = anonymous(8192);
        assert!(mapping.write(b"ab", 0));
        assert!(mapping.write(b"yz", 8190));
        assert!(mapping.write(b"", 8192));
        assert!(!mapping.write(b"no", 8191));
        assert!(!mapping.write(b"n", 8192));
        assert!(!mapping.write(b"n", u64::MAX));
        assert_eq!([byte(&mapping, 0), byte(&mapping, 1)], *b"ab");
        assert_eq!([byte(&mapping, 8190), byte(&mapping, 8191)], *b"yz");
    }

    #[test]
    fn threads_write_ranges_of_their_own() {
        let mapping = anonymous(4096);
        std::thread::scope(|scope| {
            for thread in 0..4_u8 {
                let mapping = &mapping;
                scope.spawn(move || {
                    for at in 0..16 {
                        assert!(mapping.write(&[thread + 1; 3], at * 12 + u64::from(thread) * 3));
                    }
                });
            }
        });
        for at in 0..192 {
            assert_eq!(usize::from(byte(&mapping, at)), at / 3 % 4 + 1);
        }
    }
}
