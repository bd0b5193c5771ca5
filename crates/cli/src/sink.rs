//! Where lines go: standard output or a file, buffered by us and flushed before anything is claimed.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, fcntl_getfl};

use crate::output::{self, Failure, stdout_failure};

/// Maximum bytes buffered between two flushes.
const BUFFER_BYTES: usize = 256 << 10;

/// An output of whole lines.
#[derive(Debug)]
pub(crate) struct Sink {
    /// `None` for standard output.
    path: Option<PathBuf>,
    file: BufWriter<File>,
    terminator: u8,
    /// Whether what was written last has no line end, so that the next line must not be glued to it.
    open_line: bool,
    /// Whether the output is a file that had content before this run.
    resumed: bool,
}

impl Sink {
    /// Opens standard output, bypassing the line buffer of the standard library (which would cost a system call per
    /// line on a terminal and a scan for line ends everywhere else).
    pub(crate) fn stdout(terminator: u8) -> Result<Self, Failure> {
        let stdout = io::stdout();
        let file = File::from(
            stdout.as_fd().try_clone_to_owned().map_err(|error| stdout_failure(&error))?,
        );
        let appends = fcntl_getfl(&file).is_ok_and(|flags| flags.contains(OFlags::APPEND));
        // Standard output is usually write-only; its name under /dev/fd opens it for reading.
        let tail = if appends { last_byte(&file, Path::new("/dev/fd/1")) } else { None };
        Ok(Self::new(None, file, terminator, tail))
    }

    /// Opens a file for appending lines; creates it if missing.
    pub(crate) fn append(path: &Path, terminator: u8) -> Result<Self, Failure> {
        let file = File::options().append(true).create(true).open(path).map_err(|error| {
            let doing = format!("open {} for writing", path.display());
            if output::is_short_of_files(&error) {
                return Failure::of_system(&doing, &error);
            }
            Failure::call(format!("cannot {doing}: {error}"))
        })?;
        let tail = last_byte(&file, path);
        Ok(Self::new(Some(path.to_owned()), file, terminator, tail))
    }

    /// Creates a sink. `tail` is the last byte of a file that already has content. If that is not a line end, an
    /// earlier run was killed in the middle of a line: ours must not be glued to the torn one.
    fn new(path: Option<PathBuf>, file: File, terminator: u8, tail: Option<u8>) -> Self {
        Self {
            path,
            file: BufWriter::with_capacity(BUFFER_BYTES, file),
            terminator,
            open_line: tail.is_some_and(|byte| byte != terminator),
            resumed: tail.is_some(),
        }
    }

    /// Returns whether lines are appended to a file that had content before.
    pub(crate) fn resumed(&self) -> bool {
        self.resumed
    }

    /// Appends whole lines. Only the last line of an input may lack its line end; it is written as it is, and gets one
    /// only if another line follows.
    pub(crate) fn put(&mut self, lines: &[u8]) -> Result<(), Failure> {
        let Some(&last) = lines.last() else { return Ok(()) };
        if self.open_line {
            self.file.write_all(&[self.terminator]).map_err(|error| self.failure(&error))?;
        }
        self.open_line = last != self.terminator;
        self.file.write_all(lines).map_err(|error| self.failure(&error))
    }

    /// Flushes everything to the operating system: from here on, killing this process loses none of it.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.file.flush().map_err(|error| self.failure(&error))
    }

    fn failure(&self, error: &io::Error) -> Failure {
        match &self.path {
            None => stdout_failure(error),
            Some(path) => Failure::data(format!("cannot write to {}: {error}", path.display())),
        }
    }
}

/// Returns the last byte of a regular file, read through `path`; `None` for an empty file or another kind.
fn last_byte(file: &File, path: &Path) -> Option<u8> {
    let held = file.metadata().ok()?;
    if !held.is_file() || held.len() == 0 {
        return None;
    }
    let mut again = File::open(path).ok()?;
    again.seek(SeekFrom::End(-1)).ok()?;
    let mut byte = [0];
    again.read_exact(&mut byte).ok()?;
    Some(byte[0])
}
