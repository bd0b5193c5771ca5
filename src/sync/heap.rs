//! Memory of the heap that nobody uses goes back to the system.
//!
//! sled takes four and two megabytes at once for each store, of which it touches a few pages. glibc maps such blocks for
//! themselves, until one of them is freed: from then on it cuts blocks of that size out of its arenas, clears them by
//! writing to them, and keeps what is freed between blocks that are in use. A hundred idle stores took 600 MB that way, and
//! forty that were opened and dropped again and again two gigabytes.
#![allow(unsafe_code)]

/// Blocks of at least this size are mapped for themselves, whatever was freed before. A host notices it only by blocks that
/// are as large; one that has chosen a bound of its own, in the environment, keeps it.
#[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
const LARGE_BYTES: libc::c_int = 2 << 20;

/// Whether the heap of this process is glibc's. Where another allocator has taken the place of `malloc` (preloaded, or that
/// of a sanitizer), glibc's own was never set up, and `malloc_trim` would crash.
#[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
fn is_of_glibc() -> bool {
    static ANSWER: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    let object = |function: *const libc::c_void| {
        // SAFETY: plain data, for which zeros are valid.
        let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
        // SAFETY: fills `info`, which lives longer than the call; any address may be asked for.
        let is_known = unsafe { libc::dladdr(function, &raw mut info) } != 0;
        is_known.then_some(info.dli_fbase)
    };
    *ANSWER.get_or_init(|| {
        let malloc = object(libc::malloc as *const libc::c_void);
        malloc.is_some() && malloc == object(libc::malloc_trim as *const libc::c_void)
    })
}

/// Keeps large blocks out of the arenas of glibc, from the first store of the process on.
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
                    // As glibc does when it moves the first by itself; or it would give back too eagerly.
                    libc::mallopt(libc::M_TRIM_THRESHOLD, 2 * LARGE_BYTES);
                }
            }
        });
    }
}

/// Gives free pages of the heap back when it is dropped. A host with another allocator is not touched.
#[derive(Debug)]
pub(crate) struct GiveBack;

impl Drop for GiveBack {
    fn drop(&mut self) {
        #[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
        if is_of_glibc() {
            // SAFETY: thread-safe by its documentation, and glibc's heap is in use (see above); what is in use is not touched.
            unsafe {
                libc::malloc_trim(0);
            }
        }
    }
}
