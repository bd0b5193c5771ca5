//! An open file of the operating system.

use crate::disk::mapped::Mapping;
use crate::disk::{BootId, COPIED_MAX, DiskFile, Mapped};
use crate::sync::{Arc, RwLock};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{LazyLock, Weak};

/// Bytes per write where the file system cannot preallocate.
const ZEROS_LEN: usize = 1 << 20;

/// Bytes per write when filling a segment ahead. Linux caches each write as one piece, finds a larger piece
/// sooner, and writes it out whole when one of its bytes has changed: 4 KiB, 64 KiB and 1 MiB were measured slower.
const AHEAD_LEN: usize = 16 << 10;

/// Whether files may be mapped.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct RealFiles {
    pub(super) no_mapping: bool,
}

impl RealFiles {
    /// Returns the handle of an open file.
    pub(super) fn handle(self, file: File) -> Arc<dyn DiskFile> {
        Arc::new(RealFile {
            file,
            mapping: RwLock::new(Slot::default()),
            no_mapping: self.no_mapping,
        })
    }
}

/// Reads the boot id of Linux, once.
pub(super) fn boot_id() -> BootId {
    static BOOT: LazyLock<BootId> = LazyLock::new(|| {
        // Miri has no files.
        let path = "/proc/sys/kernel/random/boot_id";
        let text = if cfg!(miri) { None } else { std::fs::read_to_string(path).ok() };
        let hex: String =
            text.unwrap_or_default().chars().filter(char::is_ascii_hexdigit).collect();
        u128::from_str_radix(&hex, 16).unwrap_or(0).to_be_bytes()
    });
    *BOOT
}

#[derive(Debug)]
pub(super) struct RealFile {
    pub(super) file: File,
    /// Read side: a copy into the mapping is running. Write side: the mapping comes or goes.
    pub(super) mapping: RwLock<Slot>,
    pub(super) no_mapping: bool,
}

/// The mapping of a file.
#[derive(Debug, Default)]
pub(super) struct Slot {
    mapping: Option<Arc<Mapping>>,
    /// The last one, which others may have after it has left the slot.
    last: Weak<Mapping>,
}

impl DiskFile for RealFile {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        if buf.len() <= COPIED_MAX
            && let Some(mapping) = &self.mapping.read().mapping
            && mapping.write(buf, offset)
        {
            return Ok(());
        }
        self.file.write_all_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()?;
        // Syncing a removed file succeeds like any other.
        if rustix::fs::fstat(&self.file)?.st_nlink == 0 {
            let what = "the file was removed while it was in use";
            return Err(io::Error::new(io::ErrorKind::NotFound, what));
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.file.metadata().map(|meta| meta.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        // Held across the call: a `map` in between would see the old length.
        let slot = self.mapping.read();
        if slot.last.strong_count() > 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the length of a mapped file must not change",
            ));
        }
        self.file.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if len == 0 || preallocate(&self.file, len)? {
            return Ok(());
        }
        self.write_zeros(len)
    }

    fn map(&self, len: u64) -> io::Result<bool> {
        if self.no_mapping {
            return Ok(false);
        }
        let mut slot = self.mapping.write();
        let Some(mapping) = Mapping::of(&self.file, len)? else { return Ok(false) };
        let mapping = Arc::new(mapping);
        *slot = Slot { last: Arc::downgrade(&mapping), mapping: Some(mapping) };
        Ok(true)
    }

    fn mapped(&self) -> Option<Arc<dyn Mapped>> {
        let mapping = self.mapping.read().mapping.clone();
        mapping.map(|mapping| mapping as Arc<dyn Mapped>)
    }

    fn release_pages(&self, from: u64, to: u64) {
        if let Some(mapping) = &self.mapping.read().mapping {
            mapping.release_pages(from, to);
        }
    }

    fn fill_ahead(&self, from: u64, to: u64) -> io::Result<bool> {
        // An unmappable file may be copy-on-write, where filling would take the space twice.
        if self.mapping.read().mapping.is_none() {
            return Ok(false);
        }
        let mut at = from;
        while at < to {
            let piece = (to - at).min(AHEAD_LEN as u64 - at % AHEAD_LEN as u64);
            self.file.write_all_at(&[0; AHEAD_LEN][..piece as usize], at)?;
            at += piece;
        }
        Ok(true)
    }

    fn unmap(&self) {
        let mapping = self.mapping.write().mapping.take();
        drop(mapping);
    }
}

impl RealFile {
    /// Allocates by writing zeros from the current end, so that nothing written is touched.
    pub(super) fn write_zeros(&self, len: u64) -> io::Result<()> {
        let zeros = vec![0; ZEROS_LEN];
        let mut end = self.len()?;
        while end < len {
            let piece = usize::try_from(len - end).map_or(ZEROS_LEN, |left| left.min(ZEROS_LEN));
            self.file.write_all_at(&zeros[..piece], end)?;
            end += piece as u64;
        }
        Ok(())
    }
}

/// Allocates space without writing it. Returns `false` if the file system cannot.
#[cfg(target_os = "linux")]
fn preallocate(file: &File, len: u64) -> io::Result<bool> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;

    match crate::error::retry_interrupted(|| fallocate(file, FallocateFlags::empty(), 0, len)) {
        Ok(()) => Ok(true),
        // NOSYS: a sandbox that does not know the call. INTR: a file system that never gets to finish.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn preallocate(_file: &File, _len: u64) -> io::Result<bool> {
    Ok(false)
}
