//! The standard streams, checked before any work is done: whether they are open at all, and whether an output is also
//! an input.

use std::fs::Metadata;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::input::Source;
use crate::output::Failure;

static STDIN_CLOSED: AtomicBool = AtomicBool::new(false);
static STDOUT_CLOSED: AtomicBool = AtomicBool::new(false);

/// Checks the streams before `main`: by then, the standard library has opened `/dev/null` in place of closed ones, and
/// what is written there is lost without an error. Afterwards they cannot be told from a caller's own `/dev/null`,
/// which many programs open for reading and writing, too.
#[ctor::ctor]
fn look_before_main() {
    let closed = |fd: rustix::fd::BorrowedFd<'_>| {
        matches!(rustix::io::fcntl_getfd(fd), Err(rustix::io::Errno::BADF))
    };
    STDIN_CLOSED.store(closed(io::stdin().as_fd()), Ordering::Relaxed);
    STDOUT_CLOSED.store(closed(io::stdout().as_fd()), Ordering::Relaxed);
}

/// Rejects a closed standard output (`>&-`): what is printed would be lost.
pub(crate) fn check_stdout() -> Result<(), Failure> {
    if STDOUT_CLOSED.load(Ordering::Relaxed) {
        return Err(Failure::call(
            "standard output is closed; to drop what is printed, use >/dev/null",
        ));
    }
    Ok(())
}

/// Rejects a closed standard input (`<&-`) if it is to be read: it is not the same as an empty one.
pub(crate) fn check_stdin(sources: &[Source]) -> Result<(), Failure> {
    if sources.contains(&Source::Stdin) && STDIN_CLOSED.load(Ordering::Relaxed) {
        return Err(Failure::call("standard input is closed; name a file, or use </dev/null"));
    }
    Ok(())
}

/// Rejects a regular file that is both an input and an output: each line written would be read again, until the disk is
/// full. Two outputs to one file would overwrite each other.
pub(crate) fn check_apart(sources: &[Source], duplicates: Option<&Path>) -> Result<(), Failure> {
    let stdout = file_of(io::stdout());
    // A file that does not exist yet cannot be an input.
    let duplicates = duplicates.and_then(|path| Some((path, regular(&path.metadata().ok()?)?)));
    for source in sources {
        let input = match source {
            Source::Stdin => file_of(io::stdin()),
            Source::File(path) => path.metadata().ok().as_ref().and_then(regular),
        };
        let Some(input) = input else { continue };
        let output = if stdout == Some(input) {
            "standard output"
        } else if duplicates.is_some_and(|(_, file)| file == input) {
            "the file of --duplicates-to"
        } else {
            continue;
        };
        let name = source.name();
        return Err(Failure::call(format!("{name}: this input is also the output ({output})")));
    }
    match duplicates {
        Some((path, file)) if stdout == Some(file) => Err(Failure::call(format!(
            "{}: --duplicates-to is also standard output",
            path.display()
        ))),
        _ => Ok(()),
    }
}

/// Returns the device and inode of a regular file; `None` for another kind, which can be both ends of a pipe.
fn regular(held: &Metadata) -> Option<(u64, u64)> {
    held.is_file().then(|| (held.dev(), held.ino()))
}

fn file_of(stream: impl AsFd) -> Option<(u64, u64)> {
    let file = std::fs::File::from(stream.as_fd().try_clone_to_owned().ok()?);
    regular(&file.metadata().ok()?)
}
