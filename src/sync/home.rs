//! Tells the process that made something from a child that was forked from it.
//!
//! A child gets a copy of everything but the threads: it shares our files, our lock and the mapped log, and would write
//! over what the parent writes. So a store is bound to the process that opened it, and every call asks. The answer may
//! not cost a system call: a page of memory that the kernel clears in a child (`MADV_WIPEONFORK`, Linux 4.14) holds a one,
//! and a child reads zero. Where there is no such page, the number of the process is compared instead.
//!
//! # Why this is sound
//!
//! The page is private memory that `self` keeps mapped, nobody else has a pointer to it, and it is only ever written
//! before it is shared and read as an atomic after that. Advice for a fork changes no byte in this process.
#![allow(unsafe_code)]

use memmap2::MmapRaw;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

/// The process in which this was made.
#[derive(Debug)]
pub(crate) struct HomeProcess {
    mark: Option<MmapRaw>,
    pid: u32,
}

impl Default for HomeProcess {
    fn default() -> Self {
        Self { mark: marked_page(), pid: std::process::id() }
    }
}

impl HomeProcess {
    /// Whether we are in it, and not in a child that was forked from it.
    #[inline]
    pub(crate) fn is_here(&self) -> bool {
        match &self.mark {
            // SAFETY: the first byte of a mapping that `self` keeps; every access to it is atomic.
            Some(mark) => {
                unsafe { AtomicU8::from_ptr(mark.as_mut_ptr()) }.load(Ordering::Relaxed) != 0
            }
            None => cfg!(miri) || self.pid == std::process::id(),
        }
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
fn marked_page() -> Option<MmapRaw> {
    let mut page = memmap2::MmapMut::map_anon(1).ok()?;
    page[0] = 1;
    let raw = MmapRaw::from(page);
    let advice = rustix::mm::Advice::LinuxWipeOnFork;
    // SAFETY: the address and length of a mapping of ours, private and anonymous, which no reference points into. The
    // kernel takes whole pages; the mapping is made of them.
    unsafe { rustix::mm::madvise(raw.as_mut_ptr().cast(), raw.len(), advice) }.ok()?;
    Some(raw)
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn marked_page() -> Option<MmapRaw> {
    None
}

/// Whether this process may open a store on disk: not after a fork from one that has done so. sled has threads for the whole
/// process, which a child does not have and does not know to be missing.
pub(crate) fn may_open() -> bool {
    static FIRST: OnceLock<HomeProcess> = OnceLock::new();
    FIRST.get_or_init(HomeProcess::default).is_here()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_that_made_it_is_its_home() {
        let home = HomeProcess::default();
        assert!(home.is_here());
        #[cfg(all(target_os = "linux", not(miri)))]
        assert!(home.mark.is_some(), "claims would pay for a system call");
        assert!(HomeProcess { mark: None, pid: std::process::id() }.is_here());
        assert!(cfg!(miri) || !HomeProcess { mark: None, pid: 0 }.is_here());
    }
}
