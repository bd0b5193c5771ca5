//! Returns unused heap memory to the system.
//!
//! sled allocates four and two megabytes at once for each store and touches a few pages of them. glibc maps such blocks
//! individually until one of them is freed; from then on it carves that size out of its arenas, clears it by writing to
//! it, and keeps what is freed between blocks in use. That way a hundred idle stores took 600 MB, and forty that were
//! opened and dropped again and again two gigabytes.
#![allow(unsafe_code)]

/// Blocks of at least this size are mapped individually, whatever was freed before. A host notices only with blocks as
/// large; a threshold it set in the environment is kept.
#[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
const LARGE_BYTES: libc::c_int = 2 << 20;

/// Returns whether this process uses glibc's heap.
///
/// If another allocator has replaced `malloc` (preloaded, or a sanitizer's), glibc's own was never set up, and
/// `malloc_trim` would crash.
#[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
fn is_of_glibc() -> bool {
    static ANSWER: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    let object = |function: *const libc::c_void| {
        // SAFETY: plain data, for which zeros are valid.
        let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
        // SAFETY: fills `info`, which outlives the call; any address may be passed.
        let is_known = unsafe { libc::dladdr(function, &raw mut info) } != 0;
        is_known.then_some(info.dli_fbase)
    };
    *ANSWER.get_or_init(|| {
        let malloc = object(libc::malloc as *const libc::c_void);
        malloc.is_some() && malloc == object(libc::malloc_trim as *const libc::c_void)
    })
}

/// Keeps large blocks out of glibc's arenas, from the first store of the process on.
pub(crate) fn keep_large_blocks_apart() {
    #[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
    {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            let tunables = std::env::var_os("GLIBC_TUNABLES").unwrap_or_default();
            let is_chosen = std::env::var_os("MALLOC_MMAP_THRESHOLD_").is_some()
                || tunables.to_string_lossy().contains("mmap_threshold");
            if !is_chosen && is_of_glibc() {
                // SAFETY: takes the heap's lock and sets two numbers.
                unsafe {
                    libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES);
                    // As glibc does when it adjusts the first itself; otherwise it would trim too eagerly.
                    libc::mallopt(libc::M_TRIM_THRESHOLD, 2 * LARGE_BYTES);
                }
            }
        });
    }
}

/// Returns free heap pages to the system when dropped. Does nothing under another allocator.
#[derive(Debug)]
pub(crate) struct GiveBack;

impl Drop for GiveBack {
    fn drop(&mut self) {
        #[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
        if is_of_glibc() {
            // SAFETY: documented as thread-safe, and glibc's heap is in use (see above); memory in use is not touched.
            unsafe {
                libc::malloc_trim(0);
            }
        }
    }
}
