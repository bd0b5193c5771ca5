//! A record that no store and no server knows: what a test compares their answers with.

use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Ends a line: one without it was cut off.
const END: &str = " .";

/// A file of lines, open for a process that may be killed at any moment. Other processes may append to it meanwhile,
/// and read it.
///
/// A kill can cut a line off: the kernel writes page by page, and looks for a fatal signal between two of them. Without
/// a mark at its end, and a line break before the next line, the rest of it and the next line would read as one line of
/// something else, and the next one would be missing.
#[derive(Debug)]
pub struct OutsideRecord(File);

impl OutsideRecord {
    /// Opens the file, and creates it if it is not there.
    ///
    /// # Panics
    ///
    /// It cannot be opened.
    pub fn open(path: &Path) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Self(file.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }

    /// Appends a line, with one system call. Once this returns, a kill does not undo it.
    ///
    /// # Panics
    ///
    /// It cannot be written, or the text is more than a line.
    pub fn add(&self, line: impl Display) {
        let line = line.to_string();
        assert!(!line.contains('\n') && !line.contains(END), "no line: {line:?}");
        (&self.0).write_all(format!("\n{line}{END}\n").as_bytes()).expect("a line is written");
    }

    /// Returns the whole lines of a file, in the order in which they were added; none if there is no file. What a kill
    /// has cut off, or another process is writing, is left out: whoever adds it has not heard that it is there.
    ///
    /// # Panics
    ///
    /// It cannot be read.
    pub fn lines(path: &Path) -> Vec<String> {
        let bytes = read(path);
        let whole = pieces(&bytes).filter_map(|line| line.strip_suffix(END.as_bytes()));
        whole.map(|line| String::from_utf8(line.to_vec()).expect("a line is text")).collect()
    }

    /// Returns how many lines of a file were cut off.
    ///
    /// # Panics
    ///
    /// It cannot be read.
    pub fn cut_off(path: &Path) -> usize {
        pieces(&read(path))
            .filter(|line| !line.is_empty() && !line.ends_with(END.as_bytes()))
            .count()
    }
}

fn read(path: &Path) -> Vec<u8> {
    match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => panic!("{}: {error}", path.display()),
    }
}

fn pieces(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'\n')
}

#[cfg(test)]
mod tests {
    use super::{END, OutsideRecord};
    use std::fs::{self, OpenOptions};
    use std::io::Write;

    #[test]
    fn a_line_that_a_kill_has_cut_off_hides_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("one");
        OutsideRecord::open(&path).add("client-3-316 4711 receipt");
        let written = fs::read(&path).unwrap();
        let is_whole =
            |cut: usize| written[..cut].windows(END.len()).any(|end| end == END.as_bytes());
        for cut in 0..=written.len() {
            let path = dir.path().join(format!("cut-{cut}"));
            OutsideRecord::open(&path).add("before");
            let mut file = OpenOptions::new().append(true).open(&path).unwrap();
            file.write_all(&written[..cut]).unwrap();
            // By the next process.
            OutsideRecord::open(&path).add("after");
            let mut wanted = vec!["before", "client-3-316 4711 receipt", "after"];
            if !is_whole(cut) {
                wanted.remove(1);
            }
            assert_eq!(OutsideRecord::lines(&path), wanted, "{cut} bytes of {written:?}");
            // A line break alone, or all but the last one, is no line that was cut off.
            let is_cut_off = cut > 1 && !is_whole(cut);
            assert_eq!(OutsideRecord::cut_off(&path), usize::from(is_cut_off), "{cut} bytes");
        }
    }

    #[test]
    fn only_a_record_that_is_not_there_has_no_lines() {
        let dir = tempfile::tempdir().unwrap();
        assert!(OutsideRecord::lines(&dir.path().join("record")).is_empty());
        let read = std::panic::catch_unwind(|| OutsideRecord::lines(dir.path()));
        assert!(read.is_err(), "a folder is no record without lines");
    }
}
