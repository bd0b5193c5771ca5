//! The power cut: `FS_IOC_SHUTDOWN` of the kernel, for which nobody has a safe wrapper.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::path::Path;

/// `_IOR('X', 125, __u32)`, the same number on every architecture that Rust's Linux targets share.
const FS_IOC_SHUTDOWN: rustix::ioctl::Opcode = 0x8004_587d;

/// Nothing more is written, not even the journal in memory.
const NO_LOG_FLUSH: u32 = 2;

/// From here on the file system writes nothing and every sync on it fails, as if the power had gone.
pub(crate) fn cut_the_power(mount: &Path) -> io::Result<()> {
    let folder = File::open(mount)?;
    // SAFETY: the call reads one `u32` through the pointer that `Setter` makes of `NO_LOG_FLUSH` and writes
    // nothing to this process; `folder` is open for as long as it runs.
    unsafe {
        let call = rustix::ioctl::Setter::<FS_IOC_SHUTDOWN, u32>::new(NO_LOG_FLUSH);
        rustix::ioctl::ioctl(&folder, call)?;
    }
    Ok(())
}
