//! Where lines come from: one big buffer over a file or a pipe, cut into records at their ends.
//!
//! A read never waits for the buffer to fill: what has arrived is cut into records and processed before more is
//! requested. That is what makes `tail -f` work.

use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use memchr::{memchr, memchr_iter, memchr2};

use crate::output::{self, Failure};

/// Size of the buffer while every record fits.
const BUFFER_BYTES: usize = 256 << 10;

/// Longest record that is read at all: beyond it, the input is not made of lines.
const RECORD_BYTES_MAX: usize = 256 << 20;

/// The mark that some programs put in front of UTF-8 text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Bytes within which the first line feed of a text with carriage returns is expected.
const FIRST_LINE_BYTES: usize = 64 << 10;

/// Bytes examined to tell UTF-16 without a mark from text.
const SAMPLE_BYTES: usize = 64;

/// An input named on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// Standard input: `-`, or no file at all.
    Stdin,
    /// A file.
    File(PathBuf),
}

impl Source {
    /// Returns the inputs named on the command line, or standard input if there are none.
    pub(crate) fn all(files: Vec<PathBuf>) -> Vec<Self> {
        if files.is_empty() {
            return vec![Self::Stdin];
        }
        let source =
            |path: PathBuf| if path == Path::new("-") { Self::Stdin } else { Self::File(path) };
        files.into_iter().map(source).collect()
    }

    /// Returns its name for messages.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Stdin => "(standard input)".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }

    /// Checks that the input exists before any work is done: nobody wants to learn after an hour that the second file
    /// was misspelt. Returns its size, if it has one.
    pub(crate) fn check(&self) -> Result<Option<u64>, Failure> {
        let Self::File(path) = self else { return Ok(None) };
        let held = path.metadata().map_err(|error| self.cannot_open(&error))?;
        if held.is_dir() {
            return Err(Failure::call(format!("{} is a folder, not a file", path.display())));
        }
        Ok(held.is_file().then_some(held.len()))
    }

    fn open(&self) -> Result<File, Failure> {
        match self {
            Self::Stdin => io::stdin().as_fd().try_clone_to_owned().map(File::from),
            Self::File(path) => File::open(path),
        }
        .map_err(|error| self.cannot_open(&error))
    }

    fn cannot_open(&self, error: &io::Error) -> Failure {
        if output::is_short_of_files(error) {
            return Failure::of_system(&format!("open {}", self.name()), error);
        }
        Failure::call(format!("cannot open {}: {error}", self.name()))
    }
}

/// Where a record ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ending {
    /// At this byte and nothing else: `\n` or `\0`. A `\r` before it is part of the line.
    Byte(u8),
    /// At a `\n` outside quotes; a quote opens only at the start of a field, as in RFC 4180.
    Csv {
        /// The field separator.
        delimiter: u8,
    },
}

/// One record in the buffer.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    /// Its range in [`Input::bytes`], with its line end.
    pub(crate) range: Range<usize>,
    /// Where its text begins there: after the byte order mark of the input, if it has one.
    pub(crate) text: usize,
    /// The line it begins on, counted from 1.
    pub(crate) line: u64,
    /// Whether the input ended inside its quotes.
    pub(crate) unclosed: bool,
}

/// One open input.
#[derive(Debug)]
pub(crate) struct Input {
    name: String,
    file: File,
    ending: Ending,
    buffer: Vec<u8>,
    /// The first byte that belongs to no record yet.
    start: usize,
    /// The first byte not scanned yet: a record that arrives in parts is scanned once.
    scanned: usize,
    /// One past the last byte read.
    filled: usize,
    /// Length of the byte order mark before the next record.
    mark: usize,
    /// Whether the beginning was checked.
    checked: bool,
    /// Whether the byte at `scanned` is inside quotes.
    quoted: bool,
    at_end: bool,
    line: u64,
}

impl Input {
    /// Opens an input.
    pub(crate) fn open(source: &Source, ending: Ending) -> Result<Self, Failure> {
        Ok(Self {
            name: source.name(),
            file: source.open()?,
            ending,
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            scanned: 0,
            filled: 0,
            mark: 0,
            checked: false,
            quoted: false,
            at_end: false,
            line: 1,
        })
    }

    /// Returns its name for messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the buffer. Ranges into it are valid until the next [`Input::read_more`].
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// Returns the next record that has arrived whole; never waits.
    #[inline]
    pub(crate) fn next_piece(&mut self) -> Result<Option<Piece>, Failure> {
        if !self.checked && !self.check_beginning()? {
            return Ok(None);
        }
        Ok(self.next_record())
    }

    #[inline]
    fn next_record(&mut self) -> Option<Piece> {
        let end = match self.ending {
            Ending::Byte(byte) => self.end_at_byte(byte),
            Ending::Csv { delimiter } => self.end_outside_quotes(delimiter),
        };
        let end = match end {
            Some(end) => end,
            None if self.at_end && self.start < self.filled => self.filled,
            None => return None,
        };
        let text = (self.start + std::mem::take(&mut self.mark)).min(end);
        let piece = Piece { range: self.start..end, text, line: self.line, unclosed: self.quoted };
        self.line += match self.ending {
            Ending::Byte(_) => 1,
            Ending::Csv { .. } => memchr_iter(b'\n', &self.buffer[self.start..end]).count() as u64,
        };
        self.start = end;
        self.scanned = end;
        self.quoted = false;
        Some(piece)
    }

    /// Checks the beginning of a text, once, so that a text that cannot be read line by line is reported before
    /// anything is claimed. Returns whether enough of it has arrived.
    #[cold]
    fn check_beginning(&mut self) -> Result<bool, Failure> {
        let bytes = &self.buffer[..self.filled];
        if let Ending::Byte(byte) = self.ending
            && byte != b'\n'
        {
            // There may be any bytes between NUL bytes, but a mark is not part of the first record.
            let could_be_mark = bytes.len() < BYTE_ORDER_MARK.len()
                && BYTE_ORDER_MARK.starts_with(bytes)
                && !self.at_end;
            if could_be_mark {
                return Ok(false);
            }
            if bytes.starts_with(BYTE_ORDER_MARK) {
                self.mark = BYTE_ORDER_MARK.len();
            }
            self.checked = true;
            return Ok(true);
        }
        let line_feed = memchr(b'\n', bytes);
        let sample = &bytes[..bytes.len().min(SAMPLE_BYTES)];
        let has_enough = line_feed.is_some() || self.at_end || bytes.len() >= FIRST_LINE_BYTES;
        if !has_enough {
            return Ok(false);
        }
        let name = &self.name;
        if is_utf32(sample) {
            return Err(Failure::data(format!(
                "{name} is UTF-32, not UTF-8; convert it with iconv"
            )));
        }
        if let Some(order) = utf16(sample).or_else(|| utf16_lines(bytes)) {
            return Err(Failure::data(format!(
                "{name} is UTF-16 ({order}), not UTF-8; convert it: iconv -f UTF-16{order} -t UTF-8"
            )));
        }
        let first = &bytes[..line_feed.unwrap_or(bytes.len()).min(FIRST_LINE_BYTES)];
        let inner = first.strip_suffix(b"\r").unwrap_or(first);
        let is_csv = matches!(self.ending, Ending::Csv { .. });
        if memchr(b'\r', inner).is_some() && line_feed.is_none() && !is_csv {
            return Err(Failure::data(format!(
                "{name}: lines end with a carriage return alone; convert them: tr '\\r' '\\n'"
            )));
        }
        if bytes.starts_with(BYTE_ORDER_MARK) {
            self.mark = BYTE_ORDER_MARK.len();
        }
        self.checked = true;
        Ok(true)
    }

    #[inline]
    fn end_at_byte(&mut self, byte: u8) -> Option<usize> {
        if let Some(at) = memchr(byte, &self.buffer[self.scanned..self.filled]) {
            Some(self.scanned + at + 1)
        } else {
            self.scanned = self.filled;
            None
        }
    }

    fn end_outside_quotes(&mut self, delimiter: u8) -> Option<usize> {
        let bytes = &self.buffer[..self.filled];
        while self.scanned < bytes.len() {
            let unseen = &bytes[self.scanned..];
            let found =
                if self.quoted { memchr(b'"', unseen) } else { memchr2(b'"', b'\n', unseen) };
            let Some(at) = found.map(|at| self.scanned + at) else {
                self.scanned = bytes.len();
                return None;
            };
            if bytes[at] == b'\n' {
                return Some(at + 1);
            }
            if !self.quoted {
                self.quoted = match &bytes[self.start..at] {
                    before if before.len() == self.mark => true,
                    [.., before] => *before == delimiter,
                    [] => true,
                };
                self.scanned = at + 1;
                continue;
            }
            match bytes.get(at + 1) {
                Some(b'"') => self.scanned = at + 2, // a doubled quote is a literal one
                None if !self.at_end => {
                    self.scanned = at; // the next byte decides, and it has not arrived
                    return None;
                }
                _ => {
                    self.quoted = false;
                    self.scanned = at + 1;
                }
            }
        }
        None
    }

    /// Waits for the next bytes and reads what is there; returns whether [`Input::next_piece`] may have more.
    pub(crate) fn read_more(&mut self) -> Result<bool, Failure> {
        if self.at_end {
            return Ok(false);
        }
        self.make_room()?;
        loop {
            match self.file.read(&mut self.buffer[self.filled..]) {
                Ok(read) => {
                    self.filled += read;
                    self.at_end = read == 0;
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(Failure::data(format!("cannot read {}: {error}", self.name)));
                }
            }
        }
    }

    /// Moves the incomplete record to the front, and grows the buffer if the record fills it.
    fn make_room(&mut self) -> Result<(), Failure> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.filled, 0);
            self.scanned -= self.start;
            self.filled -= self.start;
            self.start = 0;
        }
        if self.filled < self.buffer.len() {
            return Ok(());
        }
        let Self { name, line, .. } = self;
        if self.filled >= RECORD_BYTES_MAX {
            let most = RECORD_BYTES_MAX >> 20;
            return Err(Failure::data(format!(
                "{name}:{line}: the line is longer than {most} MiB"
            )));
        }
        if self.buffer.try_reserve_exact(self.filled).is_err() {
            return Err(Failure::data(format!("{name}:{line}: no memory for a line this long")));
        }
        self.buffer.resize(self.filled * 2, 0);
        Ok(())
    }
}

/// Returns the byte order if text looks like UTF-16: by its mark, or by a NUL in each pair of bytes, as with Latin
/// letters.
fn utf16(sample: &[u8]) -> Option<&'static str> {
    match sample {
        [0xff, 0xfe, ..] => return Some("LE"),
        [0xfe, 0xff, ..] => return Some("BE"),
        _ => {}
    }
    let (pairs, _) = sample.as_chunks::<2>();
    if pairs.len() < 4 {
        return None;
    }
    let all = |is: fn(&[u8; 2]) -> bool| pairs.iter().all(is);
    if all(|[first, second]| *first != 0 && *second == 0) {
        Some("LE")
    } else if all(|[first, second]| *first == 0 && *second != 0) {
        Some("BE")
    } else {
        None
    }
}

/// Returns the byte order of UTF-16 without a mark and without Latin letters: each line feed has a NUL beside it,
/// always on the same side, and begins at an even offset.
fn utf16_lines(bytes: &[u8]) -> Option<&'static str> {
    let mut orders = memchr_iter(b'\n', bytes).filter_map(|at| {
        let before = at.checked_sub(1).and_then(|before| bytes.get(before)) == Some(&0);
        let after = match bytes.get(at + 1) {
            Some(next) => *next == 0,
            None => return None, // it may not have arrived
        };
        Some(match (at % 2, before, after) {
            (0, _, true) => Some("LE"),
            (1, true, _) => Some("BE"),
            _ => None,
        })
    });
    let first = orders.next()??;
    orders.all(|order| order == Some(first)).then_some(first)
}

/// Returns whether text looks like UTF-32: by its mark, or because two of every four bytes are NUL and a third is
/// small, as in nearly all text.
fn is_utf32(sample: &[u8]) -> bool {
    let (fours, _) = sample.as_chunks::<4>();
    let little = |four: &[u8; 4]| four[0] != 0 && four[3] == 0 && four[2] == 0 && four[1] < 0x20;
    let big = |four: &[u8; 4]| four[0] == 0 && four[1] == 0 && four[2] < 0x20 && four[3] != 0;
    sample.starts_with(b"\xff\xfe\0\0")
        || sample.starts_with(b"\0\0\xfe\xff")
        || fours.len() >= 2 && (fours.iter().all(little) || fours.iter().all(big))
}

#[cfg(test)]
mod tests {
    use super::{is_utf32, utf16, utf16_lines};

    fn wide<const N: usize>(text: &str, bytes: fn(u32) -> [u8; N]) -> Vec<u8> {
        text.chars().flat_map(|c| bytes(c as u32)).collect()
    }

    #[test]
    fn utf16_without_mark_and_latin_letters_is_told_by_its_line_feeds() {
        let text = "привет\nмир\nпривет\n";
        assert_eq!(utf16_lines(&wide(text, |c| (c as u16).to_le_bytes())), Some("LE"));
        assert_eq!(utf16_lines(&wide(text, |c| (c as u16).to_be_bytes())), Some("BE"));
        for text in [&b""[..], b"\n", b"a\nb\n", text.as_bytes(), b"ab\n\0x\nab\n"] {
            assert_eq!(utf16_lines(text), None, "{text:?}");
        }
    }

    #[test]
    fn utf32_is_told_from_utf16() {
        assert!(is_utf32(&wide("id,x\n", u32::to_le_bytes)));
        assert!(is_utf32(&wide("id,x\n", u32::to_be_bytes)));
        assert!(!is_utf32(b"i\0d\0,\0x\0") && !is_utf32(b"\xff\xfea\0") && !is_utf32(b"abcdefgh"));
    }

    #[test]
    fn utf16_is_told_from_text() {
        assert_eq!(utf16(b"\xff\xfea\0"), Some("LE"));
        assert_eq!(utf16(b"\xfe\xff\0a"), Some("BE"));
        assert_eq!(utf16(b"i\0d\0,\0x\0"), Some("LE"));
        assert_eq!(utf16(b"\0i\0d\0,\0x"), Some("BE"));
        for text in [&b""[..], b"a", b"a\0", b"\0\0\0\0\0\0\0\0", b"plain text", b"\xef\xbb\xbfa,b"]
        {
            assert_eq!(utf16(text), None, "{text:?}");
        }
    }
}
