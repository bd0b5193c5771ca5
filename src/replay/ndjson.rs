//! A source of files: a folder for each partition, and in it segments of newline-delimited JSON.

use crate::replay::json::{Field, field};
use crate::replay::rfc3339;
use crate::replay::source::{Retained, RetainedSource};
use crate::time::Timestamp;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};

/// Events in files, one JSON object a line: `<folder>/<partition>/<offset of the first line, 20 digits>.ndjson`, where the
/// partition is a number.
///
/// The offset of an event is its number among the lines of its partition, so the first line of
/// `00000000000000001000.ndjson` is event 1,000. Files may be removed from the front; the others keep their offsets.
///
/// - **A last line without its newline** is not an event yet: a writer was killed, or is writing. It is passed over by
///   readers, and cut off by the next [`append`](Self::append). Anywhere else it is damage.
/// - **A line that is no JSON object**, or has no time where one is asked for, is an error that names file and line. A file
///   with more or fewer lines than the name of the next one says is an error, too.
/// - **Time** is a field of the object, named by [`time_field`](Self::time_field): milliseconds since 1970 as an integer,
///   or text as RFC 3339 has it. A time is found by the first lines of the files, which must not go back, and then by
///   reading one file: events after the one that is found may be earlier, and none before it in its file is later.
///
/// One writer for each partition; any number of readers meanwhile.
#[derive(Debug, Clone)]
pub struct NdjsonSegments {
    folder: PathBuf,
    time_field: Option<String>,
    segment_bytes: u64,
}

/// Why NDJSON segments cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NdjsonError {
    /// The operating system refused.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// The operation, as a verb.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// A line is damaged. Correct or remove it: a line that is removed must leave an empty object, `{}`, so that the lines
    /// behind it keep their offsets.
    #[error("{}, line {line}: {what}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The number of the line, from 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A file does not end where the next one begins.
    #[error("{} ends at offset {ends}, and the next file begins at {next}", path.display())]
    Gap {
        /// The file.
        path: PathBuf,
        /// The offset after its last line.
        ends: u64,
        /// The offset in the name of the next file.
        next: u64,
    },
    /// What is appended is not one line.
    #[error("an event to append is not one line with a JSON object: {what}")]
    Event {
        /// What is wrong with it.
        what: &'static str,
    },
}

/// Default size at which a segment is full.
const SEGMENT_BYTES: u64 = 16 << 20;

/// Takes an event: its offset, its time and its bytes.
type Visit<'a> = dyn FnMut(u64, Option<Timestamp>, &[u8]) -> ControlFlow<()> + 'a;

/// One file.
#[derive(Debug, Clone)]
struct Segment {
    first: u64,
    path: PathBuf,
    /// Where the next one begins.
    next: Option<u64>,
}

impl NdjsonSegments {
    /// Returns the source in this folder, which need not exist yet.
    pub fn new(folder: impl AsRef<Path>) -> Self {
        let folder = folder.as_ref().to_owned();
        Self { folder, time_field: None, segment_bytes: SEGMENT_BYTES }
    }

    /// Sets the field of an object that says when its event happened. Every object must have it then.
    #[must_use]
    pub fn time_field(self, name: &str) -> Self {
        Self { time_field: Some(name.to_owned()), ..self }
    }

    /// Sets the size in bytes from which on [`append`](Self::append) begins another file; 16 MiB by default.
    #[must_use]
    pub fn segment_bytes(self, bytes: u64) -> Self {
        Self { segment_bytes: bytes, ..self }
    }

    /// Appends events, each one line without its newline, and returns their offsets. They are given to the operating
    /// system when this returns, and on disk if nothing fails for some seconds: a power cut may take them.
    /// Each call reads the last file to find its end, so append many at once.
    ///
    /// # Errors
    ///
    /// [`NdjsonError`]. After [`Io`](NdjsonError::Io) some of the events, from the first on, may have been appended.
    pub fn append<E: AsRef<[u8]>>(
        &self,
        partition: u32,
        events: &[E],
    ) -> Result<Range<u64>, NdjsonError> {
        let mut bytes = Vec::new();
        for event in events {
            let event = event.as_ref();
            if event.contains(&b'\n') {
                return Err(NdjsonError::Event { what: "it has several" });
            }
            field(event, None).map_err(|what| NdjsonError::Event { what })?;
            bytes.extend_from_slice(event);
            bytes.push(b'\n');
        }
        let dir = self.dir(partition);
        fs::create_dir_all(&dir).map_err(io("create", &dir))?;
        let (path, next, end) = match self.segments(partition)?.pop() {
            None => (segment_path(&dir, 0), 0, 0),
            Some(last) => {
                let (lines, len) = last.whole()?;
                let next = last.first + lines;
                // What a writer that was killed left of its last line is no event.
                cut(&last.path, len)?;
                let is_full = lines > 0 && len >= self.segment_bytes;
                if is_full { (segment_path(&dir, next), next, 0) } else { (last.path, next, len) }
            }
        };
        let mut options = OpenOptions::new();
        let mut file = options
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(io("open", &path))?;
        file.seek(SeekFrom::Start(end)).map_err(io("seek in", &path))?;
        file.write_all(&bytes).map_err(io("write", &path))?;
        Ok(next..next + events.len() as u64)
    }

    fn dir(&self, partition: u32) -> PathBuf {
        self.folder.join(partition.to_string())
    }

    /// Returns the files of a partition in order.
    fn segments(&self, partition: u32) -> Result<Vec<Segment>, NdjsonError> {
        let dir = self.dir(partition);
        let mut found = Vec::new();
        for name in names(&dir)? {
            let digits = name.strip_suffix(".ndjson").filter(|digits| digits.len() == 20);
            if let Some(first) = digits.and_then(|digits| digits.parse().ok()) {
                found.push(Segment { first, path: dir.join(&name), next: None });
            }
        }
        found.sort_by_key(|segment| segment.first);
        let firsts: Vec<u64> = found.iter().map(|segment| segment.first).collect();
        for (segment, next) in found.iter_mut().zip(firsts.into_iter().skip(1)) {
            segment.next = Some(next);
        }
        Ok(found)
    }

    /// Returns the time of an event.
    fn time(&self, line: &[u8]) -> Result<Option<Timestamp>, String> {
        let found = field(line, self.time_field.as_deref()).map_err(str::to_owned)?;
        let Some(name) = &self.time_field else { return Ok(None) };
        let time = match found {
            None => return Err(format!("it has no field {name:?}, which says when it happened")),
            Some(Field::Number(digits)) => digits.parse().ok().map(Timestamp::from_millis),
            Some(Field::Text(text)) => rfc3339::parse(&text),
            Some(Field::Other) => None,
        };
        let what = || {
            format!(
                "its field {name:?} is neither milliseconds since 1970 nor a time as in RFC 3339"
            )
        };
        time.map(Some).ok_or_else(what)
    }

    /// Passes the events of one file to `visit`, from this offset on. Returns the next offset, and whether that said stop.
    fn read_segment(
        &self,
        segment: &Segment,
        from: u64,
        visit: &mut Visit<'_>,
    ) -> Result<(u64, ControlFlow<()>), NdjsonError> {
        let path = &segment.path;
        let file = File::open(path).map_err(io("open", path))?;
        let mut lines = Lines::of(file);
        let mut offset = segment.first;
        while let Some(line) = lines.next().map_err(io("read", path))? {
            if offset >= from {
                let time = self.time(line).map_err(|what| NdjsonError::Line {
                    path: path.clone(),
                    line: offset - segment.first + 1,
                    what,
                })?;
                if visit(offset, time, line).is_break() {
                    return Ok((offset + 1, ControlFlow::Break(())));
                }
            }
            offset += 1;
        }
        match segment.next {
            Some(_) if lines.has_torn_end() => Err(NdjsonError::Line {
                path: path.clone(),
                line: offset - segment.first + 1,
                what: "it has no end, and another file follows".to_owned(),
            }),
            Some(next) if next != offset => {
                Err(NdjsonError::Gap { path: path.clone(), ends: offset, next })
            }
            _ => Ok((offset.max(from), ControlFlow::Continue(()))),
        }
    }

    /// Returns the time of the first event of a file; `None` if there is none.
    fn first_time(&self, segment: &Segment) -> Result<Option<Timestamp>, NdjsonError> {
        let mut first = None;
        let mut visit = |_, time, _: &[u8]| {
            first = time;
            ControlFlow::Break(())
        };
        let _: (u64, ControlFlow<()>) = self.read_segment(segment, segment.first, &mut visit)?;
        Ok(first)
    }
}

impl RetainedSource for NdjsonSegments {
    type Error = NdjsonError;

    fn partitions(&self) -> Result<Vec<u32>, NdjsonError> {
        let number = |name: &String| {
            let number = name.parse::<u32>().ok()?;
            (number.to_string() == *name && self.dir(number).is_dir()).then_some(number)
        };
        let mut found: Vec<u32> = names(&self.folder)?.iter().filter_map(number).collect();
        found.sort_unstable();
        Ok(found)
    }

    fn bounds(&self, partition: u32) -> Result<(u64, u64), NdjsonError> {
        let segments = self.segments(partition)?;
        let (Some(first), Some(last)) = (segments.first(), segments.last()) else {
            return Ok((0, 0));
        };
        Ok((first.first, last.first + last.whole()?.0))
    }

    fn offset_at(&self, partition: u32, time: Timestamp) -> Result<Option<u64>, NdjsonError> {
        if self.time_field.is_none() {
            return Ok(None);
        }
        let segments = self.segments(partition)?;
        // The last file that begins before this time, by halves: each look reads one line.
        let (mut low, mut high) = (0, segments.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.first_time(&segments[middle])? {
                Some(first) if first < time => low = middle + 1,
                _ => high = middle,
            }
        }
        let mut found = None;
        for segment in &segments[low.saturating_sub(1)..] {
            let mut visit = |offset, event: Option<Timestamp>, _: &[u8]| {
                if event >= Some(time) {
                    found = Some(offset);
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            };
            let (end, stopped) = self.read_segment(segment, segment.first, &mut visit)?;
            if stopped.is_break() {
                return Ok(found);
            }
            found = Some(end);
        }
        Ok(Some(found.unwrap_or(0)))
    }

    fn read(
        &self,
        partition: u32,
        from: u64,
        visit: &mut dyn FnMut(Retained<'_>) -> ControlFlow<()>,
    ) -> Result<u64, NdjsonError> {
        let segments = self.segments(partition)?;
        let begin = segments.partition_point(|segment| segment.first <= from).saturating_sub(1);
        let mut next = from;
        for segment in &segments[begin..] {
            let mut each =
                |offset, time, bytes: &[u8]| visit(Retained::new(partition, offset, time, bytes));
            let (end, stopped) = self.read_segment(segment, from, &mut each)?;
            next = end;
            if stopped.is_break() {
                break;
            }
        }
        Ok(next)
    }
}

impl Segment {
    /// Returns how many whole lines it has, and where the last one ends.
    fn whole(&self) -> Result<(u64, u64), NdjsonError> {
        let mut file = File::open(&self.path).map_err(io("open", &self.path))?;
        whole_lines(&mut file, &self.path)
    }
}

/// Returns how many whole lines a file has, and where the last one ends.
fn whole_lines(file: &mut File, path: &Path) -> Result<(u64, u64), NdjsonError> {
    let mut buffer = vec![0; 64 << 10];
    let (mut lines, mut end, mut at) = (0, 0, 0);
    loop {
        let read = file.read(&mut buffer).map_err(io("read", path))?;
        if read == 0 {
            return Ok((lines, end));
        }
        let part = &buffer[..read];
        if let Some(last) = part.iter().rposition(|byte| *byte == b'\n') {
            lines += part.iter().map(|byte| u64::from(*byte == b'\n')).sum::<u64>();
            end = at + last as u64 + 1;
        }
        at += read as u64;
    }
}

/// The whole lines of a file.
struct Lines {
    file: BufReader<File>,
    line: Vec<u8>,
}

impl Lines {
    fn of(file: File) -> Self {
        Self { file: BufReader::with_capacity(64 << 10, file), line: Vec::new() }
    }

    /// Returns the next line without its end.
    fn next(&mut self) -> io::Result<Option<&[u8]>> {
        self.line.clear();
        self.file.read_until(b'\n', &mut self.line)?;
        Ok(self.line.strip_suffix(b"\n"))
    }

    /// Returns whether there is something behind the last whole line.
    fn has_torn_end(&self) -> bool {
        !self.line.is_empty()
    }
}

fn segment_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.ndjson"))
}

/// Cuts a file off behind its first bytes.
fn cut(path: &Path, len: u64) -> Result<(), NdjsonError> {
    let file = OpenOptions::new().write(true).open(path).map_err(io("open", path))?;
    file.set_len(len).map_err(io("truncate", path))
}

/// Returns the names in a folder; none if there is no such folder.
fn names(dir: &Path) -> Result<Vec<String>, NdjsonError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io("list", dir)(error)),
    };
    let name = |entry: io::Result<fs::DirEntry>| {
        entry.map(|entry| entry.file_name().to_string_lossy().into_owned())
    };
    entries.map(name).collect::<io::Result<_>>().map_err(io("list", dir))
}

fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> NdjsonError + use<> {
    let path = path.to_owned();
    move |source| NdjsonError::Io { doing, path, source }
}
