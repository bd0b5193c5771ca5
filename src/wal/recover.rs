//! Reading the log back: at open (the unflushed tail), to heal and compact (one segment), and to repair (all that is
//! left).

use crate::codec::envelope;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::expiry::GenId;
use crate::id::Seed;
use crate::sync::Arc;
use crate::time::Timestamp;
use crate::wal::item::Item;
use crate::wal::record::Found;
use crate::wal::retention::{Contents, SegmentMeta};
use crate::wal::segment::{DATA_START, Header, Segment, SegmentBytes};
use crate::wal::version::OLDEST;
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
        mut visit: impl FnMut(At, Item<'_>) -> Result<()>,
    ) -> Result<()> {
        let (end, active) = {
            let mut tail = self.tail.lock();
            let flushed = tail.flush();
            flushed.map_err(|e| self.stop_on(e))?;
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
        let path = Segment::path(&self.config.dir, number);
        let (at, stop) = walk(&path, &bytes, &mut Contents::default(), &mut visit)?;
        let whole = match end {
            Some(end) => at == end,
            None => matches!(stop, Stop::Continued(_)),
        };
        if whole {
            Ok(())
        } else {
            Err(Error::corrupt(&path, u64::from(at), "a record does not match its checksum"))
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
            let bytes = segment.read(DATA_START, None)?;
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
                    let what = format!("the log was on disk up to {}", describe(self.durable));
                    return Err(Error::corrupt(&path, u64::from(end), what));
                }
                Stop::Ended | Stop::Damaged => {
                    let torn = stop == Stop::Damaged || bytes.written_after(end);
                    let cut_bytes = if torn { u64::from(bytes.end() - end) } else { 0 };
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
pub(super) fn walk(
    path: &Path,
    bytes: &SegmentBytes,
    contents: &mut Contents,
    visit: &mut impl FnMut(At, Item<'_>) -> Result<()>,
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
                let what = "the mark at the end of the segment leads back";
                return Err(Error::corrupt(path, u64::from(offset), what));
            }
            return Ok((after, Stop::Continued(next)));
        }
        let lsn = Lsn::new(bytes.header.number, after);
        let mut generation: Option<GenId> = None;
        let items = record.items(bytes.header.base, |item, behind| {
            // As the writer counts: a record matters as long as any of its items does.
            let ends = |g: &GenId| g.end();
            generation = generation.into_iter().chain([item.generation()]).max_by_key(ends);
            if let Item::Row { version, len, .. } = &item
                && version.is_tombstone()
            {
                contents.tombstones += u64::from(*len);
            }
            let item_end = Lsn::new(bytes.header.number, after - behind as u32);
            visit(At { record: lsn, item: item_end }, item)
        });
        // A valid checksum over an unknown payload is not a torn write, so never cut.
        let what = "a record of an unknown kind or without sense";
        let unknown = || Error::corrupt(path, u64::from(offset), what);
        items.ok_or_else(unknown)??;
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

pub(super) fn describe(lsn: Lsn) -> String {
    format!("segment {} byte {}, and ends here", lsn.segment(), lsn.offset())
}

fn missing(config: &LogConfig, number: u32) -> Error {
    let path = Segment::path(&config.dir, number);
    Error::corrupt(&path, 0, "this segment of the log is missing")
}

/// Lists the folder. A missing one is empty: repair finds out what should be there.
fn list_or_none(disk: &dyn Disk, dir: &Path) -> Result<Vec<PathBuf>> {
    match disk.list(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        list => list.map_err(|e| Error::io("list", dir, e)),
    }
}

/// Returns the numbers of the segment files in the folder, in order.
fn segment_numbers(config: &LogConfig) -> Result<Vec<u32>> {
    let list = list_or_none(&*config.disk, &config.dir)?;
    let mut numbers: Vec<u32> = list.iter().filter_map(|p| Segment::number_of(p)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Checks the header of every segment before anything is changed on the strength of the manifest: refuses a segment of
/// another version and, given the seed of the store, one of another store.
///
/// Damaged headers are left to the later steps that need them.
pub(crate) fn check_headers(
    disk: &dyn Disk,
    dir: &Path,
    newest: u16,
    seed: Option<Seed>,
) -> Result<()> {
    let list = list_or_none(disk, dir)?;
    for path in list.iter().filter(|p| Segment::number_of(p).is_some()).map(|p| dir.join(p)) {
        let header = Header::decode(&path, &read_head(disk, &path)?);
        let version = match &header {
            Ok(header) => header.version,
            Err(Error::FromTheFuture { found, .. } | Error::FromThePast { found, .. }) => *found,
            Err(_) => continue,
        };
        envelope::check_version(&path, version, OLDEST..=newest)?;
        if seed.is_some_and(|seed| header.is_ok_and(|header| header.seed != seed)) {
            return Err(Segment::foreign(&path));
        }
    }
    Ok(())
}

/// Reads the head of a segment; what there is of it.
fn read_head(disk: &dyn Disk, path: &Path) -> Result<Vec<u8>> {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem, UnexpectedEof};
    let mut head = vec![0; Header::BYTES];
    match disk.open(path) {
        Ok(file) => match file.read_exact_at(&mut head, 0) {
            Ok(()) => Ok(head),
            Err(e) if e.kind() == UnexpectedEof => Ok(Vec::new()),
            Err(e) => Err(Error::io("read", path, e)),
        },
        // A folder that cannot be written to can be read as a whole.
        Err(e) if matches!(e.kind(), PermissionDenied | ReadOnlyFilesystem) => {
            disk.read(path).map_err(|e| Error::io("read", path, e))
        }
        Err(e) => Err(Error::io("open", path, e)),
    }
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

/// Returns the highest location that any watermark or the plan knows to have been on disk.
fn noted_durable(config: &LogConfig, numbers: &[u32], known: Lsn) -> Lsn {
    let noted = numbers.iter().filter_map(|number| {
        let path = Segment::path(&config.dir, *number);
        Segment::open(&*config.disk, &path).ok().map(|segment| segment.durable_noted())
    });
    noted.fold(known, Lsn::max)
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

/// Returns whether a file with this name is a segment.
pub(crate) fn is_segment(name: &Path) -> bool {
    Segment::number_of(name).is_some()
}

/// Removes the segments in a folder, and nothing else.
pub(crate) fn remove_segments(disk: &dyn Disk, dir: &Path) -> Result<()> {
    let names = match disk.list(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|e| Error::io("list", dir, e))?,
    };
    for name in names.iter().filter(|name| Segment::number_of(name).is_some()) {
        let path = dir.join(name);
        disk.remove(&path).map_err(|e| Error::io("remove", &path, e))?;
    }
    Ok(())
}

/// A range of a segment without a whole record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ScanDamage {
    pub(crate) path: PathBuf,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// What salvage could not read.
#[derive(Debug, Default)]
pub(crate) struct Salvaged {
    pub(crate) damages: Vec<ScanDamage>,
    /// Segments that are gone; also listed in `damages`.
    pub(crate) missing: Vec<SalvagedMissing>,
    /// Bytes of the records that were read.
    pub(crate) read_bytes: u64,
}

/// A segment that is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SalvagedMissing {
    pub(crate) number: u32,
    pub(crate) path: PathBuf,
    /// Bytes of records it held, if the plan knows.
    pub(crate) bytes: Option<u64>,
}

/// Reads every whole record still in a folder of segments, for repair (I11).
///
/// Continues after damage: the checksum covers a record's location, so the next one can be found by it. The seed of
/// `config` is tried where a segment's own header is damaged. If its base time cannot be restored either, that of the
/// previous segment is used: such claims expire early, as if lost, and none blocks a new id. With a plan, also reports
/// missing segments.
pub(crate) fn salvage(
    config: &LogConfig,
    plan: Option<&ReplayPlan>,
    mut visit: impl FnMut(Item<'_>) -> Result<()>,
) -> Result<Salvaged> {
    let Salvaged { mut damages, mut missing, mut read_bytes } = Salvaged::default();
    let mut base = Timestamp::default();
    let numbers = segment_numbers(config)?;
    let mut expected: Vec<u32> =
        plan.map_or(Vec::new(), |plan| plan.known.iter().map(|meta| meta.number).collect());
    let mut durable = plan.map_or(Lsn(0), |plan| plan.durable);
    durable = noted_durable(config, &numbers, durable);
    if durable >= Lsn::new(durable.segment(), DATA_START) {
        expected.push(durable.segment());
    }
    // Only the plan can name the first segment.
    expected.extend(plan.map(|p| p.first).filter(|n| durable >= Lsn::new(*n, DATA_START)));
    for number in numbers.iter().copied() {
        let path = Segment::path(&config.dir, number);
        let raw = config.disk.read(&path).map_err(|e| Error::io("read", &path, e))?;
        let header = match Header::decode(&path, &raw) {
            // It was claimed in another store.
            Ok(header) if header.seed != config.seed => {
                damages.push(ScanDamage { path, offset: 0, bytes: raw.len() as u64 });
                continue;
            }
            Ok(header) if header.number == number => header,
            Err(e @ (Error::FromTheFuture { .. } | Error::FromThePast { .. })) => return Err(e),
            _ => {
                let bytes = u64::from(DATA_START).min(raw.len() as u64);
                damages.push(ScanDamage { path: path.clone(), offset: 0, bytes });
                let unknown = config.header(number, base);
                Header::restore(number, config.seed, &raw).unwrap_or(unknown)
            }
        };
        base = header.base;
        if (Header::BYTES..DATA_START as usize).contains(&raw.len()) {
            // As at open: the segment has lost everything it held.
            damages.push(ScanDamage { path: path.clone(), offset: raw.len() as u64, bytes: 0 });
        }
        let bytes = SegmentBytes::from_file(header, raw);
        let (next, read) = salvage_segment(&path, &bytes, durable, &mut visit, &mut damages)?;
        read_bytes += read;
        let first = plan.map_or(0, |plan| plan.first);
        expected.extend(next.filter(|next| *next >= first));
    }
    expected.sort_unstable();
    expected.dedup();
    for number in expected.into_iter().filter(|n| !numbers.contains(n)) {
        let path = Segment::path(&config.dir, number);
        let known = plan.and_then(|plan| plan.known.iter().find(|meta| meta.number == number));
        let held = known.map(|meta| meta.bytes().saturating_sub(u64::from(DATA_START)));
        damages.push(ScanDamage { path: path.clone(), offset: 0, bytes: held.unwrap_or(0) });
        missing.push(SalvagedMissing { number, path, bytes: held });
    }
    Ok(Salvaged { damages, missing, read_bytes })
}

/// Returns the next segment's number, if the end mark was found, and the bytes of the records read.
fn salvage_segment(
    path: &Path,
    bytes: &SegmentBytes,
    durable: Lsn,
    visit: &mut impl FnMut(Item<'_>) -> Result<()>,
    damages: &mut Vec<ScanDamage>,
) -> Result<(Option<u32>, u64)> {
    let mut read = 0;
    let mut damage = |from: u32, to: u32| {
        let (offset, bytes) = (u64::from(from), u64::from(to - from));
        damages.push(ScanDamage { path: path.to_owned(), offset, bytes });
    };
    let mut offset = DATA_START;
    while let Some((at, record)) = bytes.next_record(offset) {
        if at > offset {
            damage(offset, at);
        }
        offset = at + record.len as u32;
        if let Some(next) = record.end_mark() {
            return Ok((Some(next), read));
        }
        match record.items(bytes.header.base, |item, _| visit(item)) {
            Some(visited) => {
                visited?;
                read += record.len as u64;
            }
            None => damage(at, offset),
        }
    }
    let was_durable = durable.segment() > bytes.header.number
        || (durable.segment() == bytes.header.number && durable.offset() > offset);
    if bytes.written_after(offset) || was_durable {
        damage(offset, bytes.end().max(offset));
    }
    Ok((None, read))
}

/// Returns the seeds in all readable segment headers.
pub(crate) fn seeds(disk: &dyn Disk, dir: &Path) -> Result<Vec<Seed>> {
    let list = list_or_none(disk, dir)?;
    let mut seeds = Vec::new();
    for path in list.iter().filter(|p| Segment::number_of(p).is_some()).map(|p| dir.join(p)) {
        let raw = disk.read(&path).map_err(|e| Error::io("read", &path, e))?;
        seeds.extend(Header::decode(&path, &raw).ok().map(|header| header.seed));
    }
    Ok(seeds)
}

/// Returns the most frequent seed, for a store without its manifest.
pub(crate) fn find_seed(disk: &dyn Disk, dir: &Path) -> Result<Option<Seed>> {
    let seeds = seeds(disk, dir)?;
    let count = |seed: &&Seed| seeds.iter().filter(|other| other == seed).count();
    Ok(seeds.iter().rev().max_by_key(count).copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sim::SimDisk;
    use crate::error::ErrorKind;
    use crate::health::Health;
    use crate::sync::Signal;
    use crate::wal::record::{self, RecordContext};
    use crate::wal::version::VERSION;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    /// Creates a log of one record with a valid checksum.
    fn written(put: impl Fn(&mut Vec<u8>, RecordContext)) -> (LogConfig, Segment) {
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
    fn opening(put: impl Fn(&mut Vec<u8>, RecordContext)) -> Result<Recovered> {
        let durable = Lsn::new(1, DATA_START);
        let plan = ReplayPlan { first: 1, durable, ..ReplayPlan::default() };
        Log::recover(written(put).0, plan, NOW, |_, _| Ok(()))
    }

    #[test]
    fn i12_a_mark_that_leads_back_is_damage_and_is_not_followed_for_ever() {
        for next in [0, 1] {
            let opened = opening(|out, context| record::end(out, context, next));
            let error = opened.expect_err("it leads back");
            assert_eq!(error.kind(), ErrorKind::Repair, "{error}");
            assert!(error.to_string().contains("leads back"), "{error}");
        }
    }

    #[test]
    fn i11_a_record_of_an_unknown_kind_is_reported_and_neither_cut_nor_passed_over() {
        for kind in 6..14 {
            let error = opening(|out, context| record::put_raw(out, context, &[kind, 1, 2, 3]))
                .expect_err("nobody here can read it");
            assert_eq!(error.kind(), ErrorKind::Repair, "{error}");
            assert!(error.to_string().contains("unknown kind"), "{error}");
        }
    }

    /// Open reported damage, yet repair found nothing to do.
    #[test]
    fn i11_repair_called_a_log_sound_that_could_not_be_opened() {
        for (body, expected) in [(&[1, 0][..], 1), (&[1, 0, b'x'], 0)] {
            let put = |out: &mut Vec<u8>, context| record::put_raw(out, context, body);
            assert_eq!(opening(put).is_err(), expected > 0, "{body:?}");
            let (_, segment) = written(put);
            let bytes = segment.read(DATA_START, None).expect("reads");
            let mut damages = Vec::new();
            salvage_segment(&segment.path, &bytes, Lsn(0), &mut |_| Ok(()), &mut damages)
                .expect("visits");
            assert_eq!(damages.len(), expected, "{body:?}: {damages:?}");
        }
    }
}
