//! Reading the log back: at open (the unflushed tail), and to heal and compact (one segment).

use crate::error::{Error, Result};
use crate::expiry::GenId;
use crate::sync::Arc;
use crate::time::Timestamp;
use crate::wal::folder::{noted_durable, segment_numbers};
use crate::wal::holes;
use crate::wal::item::Item;
use crate::wal::record::Found;
use crate::wal::retention::{Contents, SegmentMeta};
use crate::wal::segment::{DATA_START, Segment, SegmentBytes};
use crate::wal::slots::{self, Slots};
use crate::wal::writer::{Log, LogConfig};
use crate::wal::{At, Lsn};
use std::path::{Path, PathBuf};

/// What the manifest knows of the log.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReplayPlan {
    /// The first segment to read. Earlier ones are known and their ids flushed.
    pub(crate) first: u32,
    /// The segments before `first`.
    pub(crate) known: Vec<SegmentMeta>,
    /// Location up to which the log was on disk when the manifest was written.
    pub(crate) durable: Lsn,
    /// Also read the known segments, to rebuild everything flushed.
    pub(crate) rescan: bool,
    /// Numbers from here on were unused when the manifest was written.
    pub(crate) next_number: u32,
}

/// A reopened log.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) log: Log,
    /// Upper bound of the bytes cut from a torn tail, left half written by a crash.
    pub(crate) cut_bytes: u64,
}

impl Log {
    /// Opens the log, calling `visit` for every record from the first unflushed segment on.
    ///
    /// Cuts a torn tail at the last whole record. Damage before a location known to have been on disk is an error that
    /// names file and offset, never a cut (I11).
    pub(crate) fn recover(
        config: LogConfig,
        plan: ReplayPlan,
        now: Timestamp,
        mut visit: impl FnMut(At, Item<'_>) -> Result<()>,
    ) -> Result<Recovered> {
        let mut recovery = Recovery::of(config, &plan)?;
        if plan.rescan {
            for meta in &plan.known {
                rescan(&recovery.config, meta, &mut visit)?;
            }
        }
        let tail = match recovery.first(&plan)? {
            Some(number) => recovery.read(number, &mut visit)?,
            // Continue where the manifest says, so that the next open finds it.
            None => Tail::Begin { number: plan.first.max(1), is_known: true },
        };
        recovery.finish(tail, plan.next_number, now)
    }

    /// Calls `visit` for every record of one segment, up to the end of what was appended.
    pub(crate) fn scan(
        &self,
        number: u32,
        visit: impl FnMut(At, Item<'_>) -> Result<()>,
    ) -> Result<()> {
        self.read(number)?.scan(visit)
    }

    /// Reads one segment, up to the end of what was appended.
    pub(crate) fn read(&self, number: u32) -> Result<ReadSegment> {
        let (bytes, end) = self.read_segment(number)?;
        Ok(ReadSegment { path: Segment::path(&self.config.dir, number), bytes, end })
    }

    /// Reads one segment, up to the end of what was appended. Returns that end, if it is the active one.
    pub(super) fn read_segment(&self, number: u32) -> Result<(SegmentBytes, Option<u32>)> {
        let (end, active) = {
            let mut tail = self.tail.lock();
            self.settle(&mut tail)?;
            let active = Arc::clone(&tail.active);
            if active.header.number == number {
                (Some(tail.offset), active)
            } else {
                (None, active)
            }
        };
        let bytes = match end {
            Some(_) => active.read(DATA_START, end)?,
            None => {
                let path = Segment::path(&self.config.dir, number);
                let config = &self.config;
                Segment::open_own(&*config.disk, &path, config.seed)?.read(DATA_START, None)?
            }
        };
        Ok((bytes, end))
    }
}

/// A segment that was read.
#[derive(Debug)]
pub(crate) struct ReadSegment {
    path: PathBuf,
    bytes: SegmentBytes,
    /// Where it must end, if it was the active one.
    end: Option<u32>,
}

impl ReadSegment {
    /// Calls `visit` for every record.
    pub(crate) fn scan<'a>(
        &'a self,
        mut visit: impl FnMut(At, Item<'a>) -> Result<()>,
    ) -> Result<()> {
        let (at, stop) = walk(&self.path, &self.bytes, &mut Contents::default(), &mut visit)?;
        let whole = match self.end {
            Some(end) => at == end,
            None => matches!(stop, Stop::Continued(_)),
        };
        if whole {
            Ok(())
        } else {
            let what = "a record does not match its checksum";
            Err(Error::corrupt(&self.path, u64::from(at), what))
        }
    }
}

/// A log being recovered.
struct Recovery {
    config: LogConfig,
    /// All segments in the folder.
    numbers: Vec<u32>,
    /// Those to be read.
    fresh: Vec<u32>,
    /// Location up to which the log is known to have been on disk.
    durable: Lsn,
    closed: Vec<SegmentMeta>,
    replayed: Vec<Segment>,
}

/// Where a recovered log goes on.
enum Tail {
    /// In a new segment with this number. `is_known`: the manifest says that nothing came after it.
    Begin { number: u32, is_known: bool },
    /// At `end` of this segment, after `cut_bytes` of a torn tail.
    At { segment: Segment, end: u32, contents: Contents, cut_bytes: u64 },
}

impl Recovery {
    fn of(config: LogConfig, plan: &ReplayPlan) -> Result<Self> {
        let numbers = segment_numbers(&config)?;
        check_known(&config, plan)?;
        let fresh: Vec<u32> = numbers.iter().copied().filter(|n| *n >= plan.first).collect();
        let durable = noted_durable(&config, &fresh, plan.durable);
        let (closed, replayed) = (plan.known.clone(), Vec::new());
        Ok(Self { config, numbers, fresh, durable, closed, replayed })
    }

    /// Returns the first segment to read; `None` if there is none and nothing says that there was one.
    fn first(&self, plan: &ReplayPlan) -> Result<Option<u32>> {
        match self.fresh.first() {
            Some(first) if *first == plan.first || plan.durable == Lsn(0) => Ok(Some(*first)),
            _ if self.durable >= Lsn::new(plan.first, DATA_START) => {
                Err(missing(&self.config, plan.first))
            }
            _ => Ok(None),
        }
    }

    /// Reads from this segment on, to the end of the log.
    fn read(
        &mut self,
        mut number: u32,
        visit: &mut impl FnMut(At, Item<'_>) -> Result<()>,
    ) -> Result<Tail> {
        loop {
            let path = Segment::path(&self.config.dir, number);
            let segment = match Segment::open_own(&*self.config.disk, &path, self.config.seed) {
                Ok(segment) => segment,
                // The very first segment may have a torn header: nothing was written after it.
                Err(Error::Corrupt { .. })
                    if self.durable == Lsn(0) && self.replayed.is_empty() =>
                {
                    return Ok(Tail::Begin { number, is_known: false });
                }
                Err(e) => return Err(e),
            };
            let mut bytes = segment.read(DATA_START, None)?;
            let written_to = bytes.end();
            let is_cut = holes::close(&mut bytes, &segment.read_head()?, self.durable);
            let mut contents = Contents::default();
            let (end, stop) = walk(&segment.path, &bytes, &mut contents, visit)?;
            if Lsn::new(number, end) >= self.durable {
                write_again(&segment, &bytes, end, self.durable)?;
            }
            match stop {
                Stop::Continued(next) => {
                    self.closed.push(SegmentMeta { number, end, contents });
                    self.replayed.push(segment);
                    if !self.fresh.contains(&next) {
                        return Err(missing(&self.config, next));
                    }
                    number = next;
                }
                Stop::Ended | Stop::Damaged if Lsn::new(number, end) < self.durable => {
                    return Err(ends_early(&path, end, self.durable));
                }
                Stop::Ended | Stop::Damaged => {
                    let torn = is_cut || stop == Stop::Damaged || bytes.written_after(end);
                    let cut_bytes = if torn { u64::from(written_to.max(end) - end) } else { 0 };
                    return Ok(Tail::At { segment, end, contents, cut_bytes });
                }
            }
        }
    }

    /// Removes what is not part of the log any more and starts it where it goes on.
    fn finish(self, tail: Tail, next_number: u32, now: Timestamp) -> Result<Recovered> {
        let Self { config, numbers, closed, replayed, .. } = self;
        let next_number = numbers.last().map_or(0, |n| n + 1).max(next_number).max(1);
        let (segment, end, contents, cut_bytes) = match tail {
            Tail::Begin { number, is_known } => {
                remove_others(&config, &numbers, &closed, None)?;
                let log = Log::start(config, None, closed, number, now)?;
                if is_known {
                    log.set_durable(log.end());
                }
                return Ok(Recovered { log, cut_bytes: 0 });
            }
            Tail::At { segment, end, contents, cut_bytes } => (segment, end, contents, cut_bytes),
        };
        remove_others(&config, &numbers, &closed, Some(segment.header.number))?;
        if cut_bytes > 0 {
            // Erase rather than ignore: a stale record after the cut must not join the new ones.
            let len = u64::from(end);
            segment.file.set_len(len).map_err(|e| Error::io("truncate", &segment.path, e))?;
            let path = segment.path.display();
            tracing::warn!(%path, offset = end, cut_bytes, "cut a torn tail");
        }
        // Results will rest on what was replayed, so sync it first, together with the names of files whose creator was
        // killed before it could.
        config.disk.sync_dir(&config.dir).map_err(|e| Error::io("sync", &config.dir, e))?;
        for segment in replayed.iter().chain([&segment]) {
            segment.file.sync_data().map_err(|e| Error::io("sync", &segment.path, e))?;
        }
        forget_lanes(&segment)?;
        let log = Log::start(config, Some((segment, end, contents)), closed, next_number, now)?;
        log.set_durable(log.end());
        Ok(Recovered { log, cut_bytes })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The end mark, naming the next segment.
    Continued(u32),
    /// Zeros, or the end of the file.
    Ended,
    /// Bytes that are not a record.
    Damaged,
}

/// Reads records until something else comes; returns where and what.
pub(super) fn walk<'a>(
    path: &Path,
    bytes: &'a SegmentBytes,
    contents: &mut Contents,
    visit: &mut impl FnMut(At, Item<'a>) -> Result<()>,
) -> Result<(u32, Stop)> {
    let mut offset = DATA_START;
    loop {
        let record = match bytes.at(offset) {
            Found::Record(record) => record,
            Found::Nothing => return Ok((offset, Stop::Ended)),
            Found::Damage => return Ok((offset, Stop::Damaged)),
        };
        let after = offset + record.len as u32;
        if let Some(next) = record.end_mark() {
            // Numbers only grow. Following a mark that leads back would never end (I12).
            if next <= bytes.header.number {
                let what = format!("the end record names segment {next}, not a later one");
                return Err(Error::corrupt(path, u64::from(offset), what));
            }
            return Ok((after, Stop::Continued(next)));
        }
        let lsn = Lsn::new(bytes.header.number, after);
        let (is_commit, mut counted) = (record.is_commit(), offset);
        let mut generation: Option<GenId> = None;
        let items = record.items(|item, behind| {
            // As the writer counts: each item of a commit matters on its own, and other records as long as any of
            // their items does.
            let item_end_offset = after - behind as u32;
            if is_commit {
                contents.tally.add(item.generation(), u64::from(item_end_offset - counted));
                counted = item_end_offset;
            } else {
                let ends = |g: &GenId| g.end();
                generation = generation.into_iter().chain([item.generation()]).max_by_key(ends);
            }
            if let Item::Row { version, len, .. } = &item
                && version.is_tombstone()
            {
                contents.tombstones += u64::from(*len);
            }
            let item_end = Lsn::new(bytes.header.number, item_end_offset);
            visit(At { record: lsn, item: item_end }, item)
        });
        items.ok_or_else(|| record.unreadable(path, offset))??;
        if let Some(generation) = generation {
            contents.tally.add(generation, record.len as u64);
        }
        offset = after;
    }
}

/// Rewrites what is not known to be on disk, before it is synced.
///
/// After a failed sync the kernel may hold pages that it considers clean and will never write, so a second sync alone
/// would succeed falsely.
fn write_again(segment: &Segment, bytes: &SegmentBytes, end: u32, durable: Lsn) -> Result<()> {
    let known = if durable.segment() == segment.header.number { durable.offset() } else { 0 };
    let from = known.max(DATA_START);
    let header = if known == 0 { segment.header.encode() } else { Vec::new() };
    let head = segment.file.write_all_at(&header, 0);
    let written =
        head.and_then(|()| segment.file.write_all_at(bytes.part(from, end), u64::from(from)));
    written.map_err(|e| Error::io("write", &segment.path, e))
}

/// Erases what lanes noted, once what they left is closed and on disk: extents of this life may begin where some began
/// that were cut, and notes of those must not stand for them.
fn forget_lanes(segment: &Segment) -> Result<()> {
    let head = segment.read_head()?;
    let Some(erased) = Slots::of(&head).erased() else { return Ok(()) };
    let written = segment.file.write_all_at(&erased, slots::BEGIN);
    let synced = written.and_then(|()| segment.file.sync_data());
    synced.map_err(|e| Error::io("write", &segment.path, e))
}

/// Returns the error for a log that ends before a location known to have been on disk.
pub(super) fn ends_early(path: &Path, end: u32, durable: Lsn) -> Error {
    let (segment, byte) = (durable.segment(), durable.offset());
    let what = format!("the log ends here but was durable up to segment {segment}, byte {byte}");
    Error::corrupt(path, u64::from(end), what)
}

fn missing(config: &LogConfig, number: u32) -> Error {
    let path = Segment::path(&config.dir, number);
    Error::corrupt(&path, 0, "this segment of the log is missing")
}

/// Checks that segments not read at open exist and are not shorter than known.
fn check_known(config: &LogConfig, plan: &ReplayPlan) -> Result<()> {
    for meta in &plan.known {
        let path = Segment::path(&config.dir, meta.number);
        let len = match config.disk.open(&path).and_then(|file| file.len()) {
            Ok(len) => len,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(missing(config, meta.number));
            }
            Err(e) => return Err(Error::io("open", &path, e)),
        };
        if len < meta.bytes() {
            let what = format!("the segment should have {} bytes", meta.bytes());
            return Err(Error::corrupt(&path, len, what));
        }
    }
    Ok(())
}

/// Reads a segment whose ids were flushed; it must be whole.
fn rescan(
    config: &LogConfig,
    meta: &SegmentMeta,
    visit: &mut impl FnMut(At, Item<'_>) -> Result<()>,
) -> Result<()> {
    let path = Segment::path(&config.dir, meta.number);
    let segment = Segment::open_own(&*config.disk, &path, config.seed)?;
    let bytes = segment.read(DATA_START, None)?;
    match walk(&path, &bytes, &mut Contents::default(), visit)? {
        (_, Stop::Continued(_)) => Ok(()),
        (at, _) => {
            Err(Error::corrupt(&path, u64::from(at), "a record does not match its checksum"))
        }
    }
}

/// Removes files no longer part of the log: unused spares, segments after a lost tail, and those whose removal a crash
/// interrupted.
fn remove_others(
    config: &LogConfig,
    numbers: &[u32],
    closed: &[SegmentMeta],
    active: Option<u32>,
) -> Result<()> {
    let keep = |n: u32| Some(n) == active || closed.iter().any(|meta| meta.number == n);
    let mut removed = false;
    for number in numbers.iter().copied().filter(|n| !keep(*n)) {
        let path = Segment::path(&config.dir, number);
        config.disk.remove(&path).map_err(|e| Error::io("remove", &path, e))?;
        removed = true;
    }
    if removed {
        config.disk.sync_dir(&config.dir).map_err(|e| Error::io("sync", &config.dir, e))?;
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::disk::{Disk, sim::SimDisk};
    use crate::error::ErrorKind;
    use crate::health::Health;
    use crate::id::Seed;
    use crate::sync::Signal;
    use crate::wal::lanes::UseLanes;
    use crate::wal::record::{self, RecordContext};
    use crate::wal::version::VERSION;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    /// Creates a log of one record with a valid checksum.
    pub(in crate::wal) fn written(
        put: impl Fn(&mut Vec<u8>, RecordContext),
    ) -> (LogConfig, Segment) {
        let disk = SimDisk::new().without_mapping();
        let dir = PathBuf::from("/log");
        disk.create_dir_all(&dir).expect("makes a folder");
        let config = LogConfig {
            disk: Arc::new(disk.clone()),
            dir: dir.clone(),
            seed: Seed([7; 16]),
            health: Arc::new(Health::default()),
            work: Arc::new(Signal::default()),
            segment_bytes: 64 << 10,
            segment_version: VERSION,
            lanes: UseLanes::default(),
        };
        let plan = ReplayPlan { first: 1, ..ReplayPlan::default() };
        drop(Log::recover(config.clone(), plan, NOW, |_, _| Ok(())).expect("a new log"));
        let segment = Segment::open(&disk, &Segment::path(&dir, 1)).expect("just made");
        let mut bytes = Vec::new();
        put(&mut bytes, segment.context(DATA_START));
        segment.file.write_all_at(&bytes, u64::from(DATA_START)).expect("writes");
        (config, segment)
    }

    /// Returns the result of opening it if it was on disk.
    pub(in crate::wal) fn opening(put: impl Fn(&mut Vec<u8>, RecordContext)) -> Result<Recovered> {
        let durable = Lsn::new(1, DATA_START);
        let plan = ReplayPlan { first: 1, durable, ..ReplayPlan::default() };
        Log::recover(written(put).0, plan, NOW, |_, _| Ok(()))
    }

    #[test]
    fn i12_a_mark_that_leads_back_is_damage_and_is_not_followed_for_ever() {
        for next in [0, 1] {
            let opened = opening(|out, context| {
                record::end(out, next);
                record::seal(out, context, None);
            });
            let error = opened.expect_err("it leads back");
            assert_eq!(error.kind(), ErrorKind::Repair, "{error}");
            assert!(error.to_string().contains("not a later one"), "{error}");
        }
    }

    #[test]
    fn i11_a_record_of_an_unknown_kind_is_reported_and_neither_cut_nor_passed_over() {
        for body in of_a_newer_release() {
            let error = opening(|out, context| record::put_raw(out, context, &body))
                .expect_err("nobody here can read it");
            assert_eq!(error.kind(), ErrorKind::FixCall, "{body:?}: {error}");
            assert!(error.to_string().contains("use a newer firstseen"), "{body:?}: {error}");
        }
    }

    /// Returns records that this release does not know: unknown kinds, flags and entries.
    pub(in crate::wal) fn of_a_newer_release() -> Vec<Vec<u8>> {
        let mut bodies: Vec<Vec<u8>> = (7..14).map(|kind| vec![kind, 1, 2, 3]).collect();
        bodies.push(vec![0x41, 0, b'x']);
        bodies.push(vec![0x1f, 2]);
        // A namespace: number, ttl, flags, name.
        bodies.extend([2, 3, 0x80].map(|flags| vec![4, 1, 0, flags, b'n']));
        bodies.push(vec![5, 3, 1, 2]);
        bodies
    }
}
