//! The power cut: the `FS_IOC_SHUTDOWN` ioctl, for which there is no safe wrapper.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::path::Path;

/// `_IOR('X', 125, __u32)` in the generic encoding, as on x86, Arm, RISC-V and s390.
const FS_IOC_SHUTDOWN: rustix::ioctl::Opcode = 0x8004_587d;

/// Nothing more is written, not even the journal in memory.
const NO_LOG_FLUSH: u32 = 2;

/// From now on the file system writes nothing and every sync fails, as if the power had failed.
pub(crate) fn cut_the_power(mount: &Path) -> io::Result<()> {
    let folder = File::open(mount)?;
    // SAFETY: the ioctl reads one `u32` through the pointer that `Setter` makes of `NO_LOG_FLUSH` and writes nothing to
    // this process; `folder` stays open for the whole call.
    unsafe {
        let call = rustix::ioctl::Setter::<FS_IOC_SHUTDOWN, u32>::new(NO_LOG_FLUSH);
        rustix::ioctl::ioctl(&folder, call)?;
    }
    Ok(())
}
