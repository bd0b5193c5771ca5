//! The memory mapping of a log segment. `unsafe` is here, in `sync/home.rs` and in `sync/heap.rs` only.
//!
//! A claim at `Process` must survive a process crash without costing a system call. A shared mapping does both: bytes
//! are in the kernel's page cache as soon as they are copied. Measured for 24 bytes, including the lock: 13 ns (28 ns
//! with the page faults of a fresh segment), `pwrite` 545 ns.
//!
//! # Why this is sound
//!
//! - **No Rust reference ever points into the mapping.** [`Mapping`] returns neither slices nor pointers. Its only
//!   accesses to bytes are a `copy_nonoverlapping` from the caller's slice to a raw pointer, and a volatile store of one
//!   word, after both ends have been checked against the length of the mapping. Source and target cannot overlap, because no one can own a slice of the
//!   mapping.
//! - **Releasing** written pages (`release_pages`) changes no byte, because the mapping is shared and file-backed. They
//!   are not faulted in again: the log only moves forward, and the first pieces, with its watermark, stay.
//! - **System calls write to mapped pages** for long records and when zeros are written ahead of the first record
//!   (`fill_ahead`). No Rust load or store touches those bytes, and both paths reach the same page cache.
//! - **A prefetch** of the line after the write position is a hint to the CPU: it neither reads nor writes in the sense
//!   of the language, and cannot fault.
//! - **No one reads through the mapping.** Readers use `pread` on the same page cache, so there is no load that a store
//!   could race with.
//! - **Writers.** Only `DiskFile::write_all_at`, `Mapped::write` and `Mapped::store`, whose callers never write the same bytes from two
//!   threads (the traits require it, and the log gives every writer its own range), and `fill_ahead`, while no one else
//!   has the file. Copies of different ranges share no byte.
//! - **It lives long enough.** Every copy is made by an owner: the log and its lanes have an [`Arc`](std::sync::Arc) of the active
//!   segment's mapping, `real/file.rs` has one behind a reader-writer lock, whose read side is held over a copy. Pages go
//!   away with the last owner.
//!
//! # When the kernel could send SIGBUS, and why it does not
//!
//! - *The file is shorter than the mapping.* Checked under the lock before mapping. `set_len` refuses while the mapping has
//!   an owner, `allocate` only grows. Only the process that holds the store's `LOCK` opens its files; we cannot survive a manual
//!   truncation from outside.
//! - *A page has no disk space when it is first written.* Only file systems that overwrite in place are mapped
//!   (ext2/3/4, xfs, tmpfs), only if the blocks are there, and `fallocate` is called again for every byte, since a
//!   block count cannot show where a hole is. On xfs it also unshares blocks that a `cp --reflink` of the store shares
//!   with its original. Copy-on-write, stacked and network file systems, any others, and all systems but Linux get
//!   plain writes.
//! - *What remains:* a device that fails while a page already holding records is read back in; a file system shut down
//!   or turned read-only under us; a reflink copy taken of an open store on an xfs that is then full. The log maps
//!   segments it has just created or just read, so the first needs their pages to have been evicted in between.
#![allow(unsafe_code)]

use crate::disk::Mapped;
use memmap2::MmapRaw;
use std::fs::File;
use std::io;
use std::sync::atomic::{Ordering, compiler_fence};

/// Bytes in a CPU cache line.
const LINE: usize = 64;

/// The first bytes of a file, writable as memory.
#[derive(Debug)]
pub(super) struct Mapping {
    raw: MmapRaw,
}

impl Mapping {
    /// Maps the first `len` bytes, or returns `None` where that could kill the process.
    pub(super) fn of(file: &File, len: u64) -> io::Result<Option<Self>> {
        let Ok(size) = usize::try_from(len) else { return Ok(None) };
        if size == 0 || !is_safe(file, len)? {
            return Ok(None);
        }
        // Running out of address space or map entries is not an error: plain writes do the same job.
        Ok(memmap2::MmapOptions::new().len(size).map_raw(file).ok().map(|raw| Self { raw }))
    }

    /// Copies `bytes` to `offset`. Returns `false`, copying nothing, if they do not all fit.
    #[inline]
    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> bool {
        let Ok(start) = usize::try_from(offset) else { return false };
        match start.checked_add(bytes.len()) {
            Some(end) if end <= self.raw.len() => {}
            _ => return false,
        }
        // SAFETY: `start + bytes.len()` lies within the mapping (just checked), which `self` keeps alive. `bytes` is
        // memory owned by Rust and the mapping never is, so the two do not overlap. No reference to the target exists
        // and no other thread writes these bytes (module docs).
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

    /// Drops pages in the range from this process's page tables.
    ///
    /// They stay in the page cache and would fault in again on the next write. A sync must first write-protect every
    /// mapped dirty page, one by one, each time interrupting all CPUs that run a thread of the process; pages in no
    /// page table are exempt.
    ///
    /// The first piece stays: it holds headers, which are rewritten.
    #[cfg(all(target_os = "linux", not(miri)))]
    pub(super) fn release_pages(&self, from: u64, to: u64) {
        /// A multiple of the page size, unless pages are larger.
        const GRAIN: usize = 64 << 10;
        let (Ok(from), Ok(to)) = (usize::try_from(from), usize::try_from(to)) else { return };
        let (from, to) =
            ((from / GRAIN * GRAIN).max(GRAIN), to.min(self.raw.len()) / GRAIN * GRAIN);
        if from < to {
            // SAFETY: the range lies within the mapping and is page-aligned at both ends. The mapping is shared and
            // file-backed, so the call changes no byte (madvise(2)); and no reference into it exists. A failure costs
            // speed only.
            unsafe {
                let advice = memmap2::UncheckedAdvice::DontNeed;
                self.raw.unchecked_advise_range(advice, from, to - from).ok();
            }
        }
    }

    #[cfg(not(all(target_os = "linux", not(miri))))]
    #[allow(clippy::unused_self, reason = "called as the other is")]
    pub(super) fn release_pages(&self, _from: u64, _to: u64) {}

    /// Prefetches the cache line that is written next.
    ///
    /// Unlocking waits for every earlier write, and one that misses the cache costs more than the rest of an append.
    #[inline]
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    fn prefetch(&self, at: usize) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let line = self.raw.as_ptr().wrapping_add(at).cast();
        // SAFETY: a prefetch reads and writes nothing observable and does not fault at any address; SSE is part of
        // x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line) };
    }

    #[inline]
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    #[allow(clippy::unused_self, reason = "called as the other is")]
    fn prefetch(&self, _at: usize) {}
}

impl Mapped for Mapping {
    #[inline]
    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if Self::write(self, bytes, offset) {
            Ok(())
        } else {
            Err(io::ErrorKind::InvalidInput.into())
        }
    }

    #[inline]
    #[allow(clippy::cast_ptr_alignment, reason = "the offset is a multiple of eight")]
    fn store(&self, word: u64, offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).ok().filter(|start| start.is_multiple_of(8));
        let fits = |start: &usize| start.checked_add(8).is_some_and(|end| end <= self.raw.len());
        let start = start.filter(fits).ok_or(io::ErrorKind::InvalidInput)?;
        // A process is killed between two instructions, so only the order of these matters.
        compiler_fence(Ordering::SeqCst);
        // SAFETY: the eight bytes lie within the mapping (just checked), which `self` keeps alive and which begins at a
        // page, so they are aligned. No reference to them exists and no other thread writes them (module docs). Volatile, so
        // that it is one store.
        unsafe { self.raw.as_mut_ptr().add(start).cast::<u64>().write_volatile(word.to_le()) };
        compiler_fence(Ordering::SeqCst);
        Ok(())
    }
}

/// Returns whether every byte up to `len` is allocated on a file system that overwrites in place.
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
    // No space or no support: either way a mapping is not safe here, and neither is an error.
    Ok(rustix::io::retry_on_intr(|| fallocate(file, flags, 0, len)).is_ok())
}

#[cfg(not(target_os = "linux"))]
fn is_safe(_file: &File, _len: u64) -> io::Result<bool> {
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a mapping of anonymous memory, so that Miri can run it.
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
    fn a_word_is_stored_whole_and_only_where_it_fits_and_is_aligned() {
        let mapping = anonymous(4096);
        assert!(mapping.write(&[0xff; 24], 8));
        assert!(mapping.store(0x0102_0304_0506_0708, 16).is_ok());
        let bytes: Vec<u8> = (8..32).map(|at| byte(&mapping, at)).collect();
        assert_eq!(bytes, [&[0xff; 8][..], &[8, 7, 6, 5, 4, 3, 2, 1], &[0xff; 8]].concat());
        for refused in [12, 4090, 4096, u64::MAX - 7] {
            assert!(mapping.store(0, refused).is_err(), "{refused}");
        }
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
