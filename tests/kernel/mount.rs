//! Small file systems, one per test: ext4 on a loop device, whose power can be cut, and tmpfs. The guard removes them,
//! also after a panic; the next test cleans up after a killed one.

use crate::report::{Verdict, pause};
use crate::shutdown::cut_the_power;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const PREFIX: &str = "firstseen-kernel-";

fn run(program: &str, args: &[&str]) -> Verdict {
    let out = Command::new(program).args(args).output().map_err(|e| format!("{program}: {e}"))?;
    if out.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&out.stderr);
    Err(format!("{program} {}: {} {said}", args.join(" "), out.status))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary folder with a plain name")
}

/// A folder of this process with a mount in it; the guard removes both.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Verdict<Self> {
        clear_leftovers();
        let path = std::env::temp_dir().join(format!("{PREFIX}{}-{name}", std::process::id()));
        fs::create_dir_all(path.join("disk")).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Self(path))
    }

    fn disk(&self) -> PathBuf {
        self.0.join("disk")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        unmount(&self.disk()).ok();
        fs::remove_dir_all(&self.0).ok();
    }
}

/// Unmounts, which frees the loop device. Waits for processes that still have a file open there.
fn unmount(at: &Path) -> Verdict {
    let mut last = String::new();
    for _ in 0..100 {
        match run("umount", &[text(at)]) {
            Ok(()) => return Ok(()),
            Err(what) if what.contains("not mounted") => return Ok(()),
            Err(what) => last = what,
        }
        pause(20_000);
    }
    // Detach it at least: it goes away with its last open file.
    run("umount", &["-l", text(at)]).ok();
    Err(last)
}

/// Removes folders and mounts of processes that have exited.
fn clear_leftovers() {
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if let Some(pid) = pid
            && !Path::new("/proc").join(pid).exists()
        {
            drop(Place(entry.path()));
        }
    }
}

/// Whether file systems can be mounted here. Tried once, as tests run in parallel and the probe has one name.
pub(crate) fn is_possible() -> bool {
    static POSSIBLE: OnceLock<bool> = OnceLock::new();
    *POSSIBLE.get_or_init(|| match Ext4::new("probe", 16) {
        Ok(_) => true,
        Err(what) => {
            println!("no file system can be mounted here: {what}");
            false
        }
    })
}

pub(crate) struct Ext4 {
    place: Place,
}

impl Ext4 {
    pub(crate) fn new(name: &str, megabytes: u64) -> Verdict<Self> {
        let place = Place::new(name)?;
        let image = place.0.join("image");
        let file = fs::File::create(&image).map_err(|e| format!("{}: {e}", image.display()))?;
        file.set_len(megabytes << 20).map_err(|e| format!("{}: {e}", image.display()))?;
        run("mkfs.ext4", &["-q", "-F", "-E", "lazy_itable_init=1,nodiscard", text(&image)])?;
        let disk = Self { place };
        disk.mount()?;
        Ok(disk)
    }

    fn mount(&self) -> Verdict {
        let image = self.place.0.join("image");
        run("mount", &["-t", "ext4", "-o", "loop", text(&image), text(&self.path())])
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.place.disk()
    }

    pub(crate) fn cut(&self) -> Verdict {
        cut_the_power(&self.path()).map_err(|e| format!("power cut: {e}"))
    }

    /// Restores the power: replays the journal, checks the file system and mounts it again.
    pub(crate) fn power_on(&self) -> Verdict {
        unmount(&self.path())?;
        self.mount()?;
        unmount(&self.path())?;
        // The journal has been replayed: an error now is a flaw of the experiment.
        run("e2fsck", &["-fn", text(&self.place.0.join("image"))])?;
        self.mount()
    }
}

pub(crate) struct Tmpfs {
    place: Place,
}

impl Tmpfs {
    pub(crate) fn new(name: &str, megabytes: u64) -> Verdict<Self> {
        let place = Place::new(name)?;
        let size = format!("size={megabytes}m");
        run("mount", &["-t", "tmpfs", "-o", &size, "firstseen-test", text(&place.disk())])?;
        Ok(Self { place })
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.place.disk()
    }

    /// Free bytes.
    pub(crate) fn free(&self) -> u64 {
        rustix::fs::statvfs(self.path()).map_or(0, |stat| stat.f_bavail * stat.f_frsize)
    }
}
