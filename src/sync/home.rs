//! Tells the process that created something from a child forked from it.
//!
//! A child gets a copy of everything but the threads: it shares our files, our lock and the mapped log, and would
//! overwrite what the parent writes. So a store is bound to the process that opened it, and every call checks. The
//! check may not cost a system call: a page of memory that the kernel clears in a child (`MADV_WIPEONFORK`, Linux 4.14)
//! holds a one, and a child reads zero. Without such a page, process ids are compared instead.
//!
//! # Why this is sound
//!
//! The page is private memory that `self` keeps mapped and no one else has a pointer to. It is only written before it
//! is shared, and read as an atomic after that. The fork advice changes no byte in this process.
#![allow(unsafe_code)]

use memmap2::MmapRaw;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

/// The process in which this was created.
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
    /// Returns whether we are in that process rather than a child forked from it.
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
    // SAFETY: address and length of our own mapping, private and anonymous, with no references into it. The kernel
    // takes whole pages, which the mapping consists of.
    unsafe { rustix::mm::madvise(raw.as_mut_ptr().cast(), raw.len(), advice) }.ok()?;
    Some(raw)
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn marked_page() -> Option<MmapRaw> {
    None
}

/// Returns whether this process may open a store on disk: not after a fork from one that has.
///
/// sled has process-wide threads, which a child lacks without knowing it.
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
