//! Where lines go: standard output or a file, buffered by us and handed over before anything is
//! claimed.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, fcntl_getfl};

use crate::output::{self, Failure, stdout_failure};

/// Bytes kept back at most between two flushes.
const BUFFER_BYTES: usize = 256 << 10;

/// An output of whole lines.
#[derive(Debug)]
pub(crate) struct Sink {
    /// `None` is standard output.
    path: Option<PathBuf>,
    file: BufWriter<File>,
    terminator: u8,
    /// What was written last has no line end, so the next line must not be glued to it.
    open_line: bool,
    /// The output is a file to which this run only adds.
    resumed: bool,
}

impl Sink {
    /// Standard output, past the line buffer of the standard library (it would cost a system call a
    /// line on a terminal and a scan for line ends everywhere else).
    pub(crate) fn stdout(terminator: u8) -> Result<Self, Failure> {
        let stdout = io::stdout();
        let file = File::from(
            stdout.as_fd().try_clone_to_owned().map_err(|error| stdout_failure(&error))?,
        );
        let appends = fcntl_getfl(&file).is_ok_and(|flags| flags.contains(OFlags::APPEND));
        // Standard output is write-only as a rule; its name under /dev/fd opens it for reading.
        let tail = if appends { last_byte(&file, Path::new("/dev/fd/1")) } else { None };
        Ok(Self::new(None, file, terminator, tail))
    }

    /// A file to which lines are added; it is created if it is not there.
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

    /// `tail` is the last byte of a file that already holds something. If that is not a line end, an
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

    /// Whether lines are added to a file that held some before.
    pub(crate) fn resumed(&self) -> bool {
        self.resumed
    }

    /// Adds whole lines. Only the last line of an input may lack its line end; it stays as it stood, and
    /// gets one only if another line follows.
    pub(crate) fn put(&mut self, lines: &[u8]) -> Result<(), Failure> {
        let Some(&last) = lines.last() else { return Ok(()) };
        if self.open_line {
            self.file.write_all(&[self.terminator]).map_err(|error| self.failure(&error))?;
        }
        self.open_line = last != self.terminator;
        self.file.write_all(lines).map_err(|error| self.failure(&error))
    }

    /// Hands everything to the operating system: from here on a kill of this process loses none of it.
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

/// The last byte of a regular file, read through `path`; nothing for an empty file or another kind.
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
