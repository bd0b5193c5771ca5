//! What a thread of a child asks and hears, written into a mapped file: it outlives the process, and costs so little that
//! the thread is inside of a call most of the time. A pipe would keep most threads waiting for the parent, and a kill
//! would hardly ever find several of them in the middle of an append.
//!
//! There is no safe way to map a file.
#![allow(unsafe_code)]

use crate::report::{Verdict, now_ns};
use crate::wire::Event;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{Ordering, compiler_fence};

/// The file is sparse and a life ends long before it is full.
const BYTES: usize = 32 << 20;

/// A folder for the notebooks of a child: in memory if there is one there, as a write to a mapped file on a disk waits
/// while the store syncs.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
}

pub(crate) struct Notebook {
    map: memmap2::MmapMut,
    used: usize,
    last_ns: u64,
    line: String,
}

impl Notebook {
    pub(crate) fn new(path: &Path) -> Self {
        let mut options = File::options();
        let file = options.read(true).write(true).create_new(true).open(path).expect("a notebook");
        file.set_len(BYTES as u64).expect("it is sparse");
        // SAFETY: nobody truncates the file, and its one reader comes when this process is gone.
        let map = unsafe { memmap2::MmapMut::map_mut(&file) }.expect("there is memory to map");
        Self { map, used: 0, last_ns: 0, line: String::new() }
    }

    /// Writes a line: the time in nanoseconds, then the event.
    pub(crate) fn note(&mut self, event: &Event) {
        self.last_ns = now_ns().max(self.last_ns + 1);
        event.write(&mut self.line);
        let text = format!("{} {}", self.last_ns, self.line);
        let line = self.map[self.used..].get_mut(..text.len()).expect("a notebook is large enough");
        let (feed, rest) = text.as_bytes().split_last().expect("a line has an end");
        let (end, start) = line.split_last_mut().expect("as long as the text");
        start.copy_from_slice(rest);
        // A copy may write its end before its middle. Killed in between, it must not look whole.
        compiler_fence(Ordering::SeqCst);
        // SAFETY: `end` is a reference to one byte.
        unsafe { std::ptr::write_volatile(end, *feed) };
        compiler_fence(Ordering::SeqCst);
        self.used += text.len();
    }
}

/// The events of all threads, in the order of time. Those that depend on each other are further apart than the clock
/// can see.
pub(crate) fn read_all(notebooks: &[PathBuf]) -> Verdict<Vec<Event>> {
    let mut events = Vec::new();
    for path in notebooks {
        let unread = |e: std::io::Error| format!("{}: {e}", path.display());
        // Killed before this thread began.
        let Ok(file) = File::open(path) else { continue };
        let text = read_written(file).map_err(unread)?;
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let Some(line) = line.strip_suffix(b"\n") else { break };
            let line = std::str::from_utf8(line).map_err(|e| format!("a notebook: {e}"))?;
            let parsed = line.split_once(' ').and_then(|(ns, event)| {
                Some((ns.parse::<u64>().ok()?, Event::parse(event).ok()??))
            });
            events.push(parsed.ok_or_else(|| format!("nobody understands the note {line:?}"))?);
        }
        std::fs::remove_file(path).map_err(unread)?;
    }
    events.sort_by_key(|(ns, _)| *ns);
    Ok(events.into_iter().map(|(_, event)| event).collect())
}

/// What is before the zeros at the end of the file.
fn read_written(mut file: File) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    while (&mut file).take(1 << 20).read_to_end(&mut text)? > 0 && text.last() != Some(&0) {}
    Ok(text)
}

/// What was written until the process was killed is read, and a line that was cut off is not.
#[test]
fn a_notebook_is_read_up_to_a_line_that_was_cut_off() {
    let dir = tempfile::tempdir().expect("a folder");
    let paths = [dir.path().join("0"), dir.path().join("1"), dir.path().join("2")];
    let note = |what: &str| Event::Note(what.to_owned());
    let mut books = [Notebook::new(&paths[0]), Notebook::new(&paths[1])];
    for (n, what) in ["a", "b", "c", "d"].into_iter().enumerate() {
        books[n % 2].note(&note(what));
    }
    let [_, mut cut] = books;
    cut.map[cut.used - 1] = 0;
    assert_eq!(read_all(&paths), Ok(vec![note("a"), note("b"), note("c")]));
}
