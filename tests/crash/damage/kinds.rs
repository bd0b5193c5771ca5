//! Every damage that can be done to the files of a store.

use super::layout::{ENVELOPE_HEAD, SEGMENT_HEAD, WATERMARK};
use super::station::Station;
use crate::ops::Rng;
use crate::oracle::End;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One damage. Version 0 of a file is the oldest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Damage {
    Flip {
        file: PathBuf,
        bit: usize,
    },
    Truncate {
        file: PathBuf,
        len: usize,
    },
    Zero {
        file: PathBuf,
        at: usize,
        len: usize,
    },
    /// A block of the file reverts to an older version.
    StaleBlock {
        file: PathBuf,
        at: usize,
        len: usize,
        version: usize,
    },
    StaleFile {
        file: PathBuf,
        version: usize,
    },
    Swap {
        one: PathBuf,
        other: PathBuf,
    },
    /// A copy of the file under another name, replacing any file of that name.
    Copy {
        from: PathBuf,
        to: PathBuf,
    },
    Missing {
        file: PathBuf,
    },
}

/// Names of the kinds, in the order of [`all`].
pub(super) const KINDS: [&str; 9] = [
    "bits of headers",
    "bits of records",
    "truncation",
    "zeroed blocks",
    "stale blocks",
    "stale files",
    "swapped files",
    "duplicated files",
    "missing files",
];

const BLOCKS: [usize; 2] = [512, 4096];

/// Bits of headers: magic, version, numbers, checksums; of the manifest, every bit.
fn header_bits(station: &Station, file: &Path, len: usize) -> Vec<usize> {
    let bits = |bytes: std::ops::Range<usize>| bytes.start * 8..bytes.end.min(len) * 8;
    if Station::segment_no(file).is_some() {
        let mut all: Vec<usize> = bits(0..SEGMENT_HEAD).chain(bits(WATERMARK)).collect();
        for record in station.records.iter().filter(|record| record.file == file) {
            all.extend(bits(record.at..record.body + 1));
        }
        all
    } else if file.ends_with("MANIFEST") {
        bits(0..len).collect()
    } else {
        // Envelope, tag of the store, number of the run.
        bits(0..ENVELOPE_HEAD + 16).collect()
    }
}

/// One bit of each byte of a segment, or of every 16th byte of another file, except header bits.
fn other_bits(station: &Station, file: &Path, bytes: &[u8]) -> Vec<usize> {
    let header = header_bits(station, file, bytes.len());
    let step = if Station::segment_no(file).is_some() { 1 } else { 16 };
    let all = (0..bytes.len()).step_by(step).map(|at| at * 8 + at % 8);
    all.filter(|bit| header.binary_search(bit).is_err()).collect()
}

fn blocks(len: usize) -> impl Iterator<Item = (usize, usize)> {
    let of = move |block| (0..len).step_by(block).map(move |at| (at, block.min(len - at)));
    BLOCKS.into_iter().flat_map(of)
}

/// Files that could be mistaken for this one: same folder, same extension.
fn siblings<'a>(station: &'a Station, file: &'a Path) -> impl Iterator<Item = &'a PathBuf> {
    let like = move |other: &&PathBuf| {
        other.as_path() != file
            && other.parent() == file.parent()
            && other.extension() == file.extension()
    };
    station.files.keys().filter(like)
}

/// The next free name of this kind.
fn free_name(station: &Station, file: &Path) -> PathBuf {
    let number = |path: &Path| -> Option<u64> { path.file_stem()?.to_str()?.parse().ok() };
    let Some(ending) = file.extension().and_then(|ending| ending.to_str()) else {
        return file.with_extension("new");
    };
    let last = siblings(station, file).filter_map(|other| number(other)).max();
    let next = last.max(number(file)).unwrap_or(0) + 1;
    let digits = file.file_stem().map_or(0, std::ffi::OsStr::len);
    file.with_file_name(format!("{next:0digits$}.{ending}"))
}

/// Whether an older copy of the file can be told from what a crash leaves. A segment that a killed process was still
/// writing cannot: its durable mark is as old as the rest of it.
fn can_be_told(station: &Station, file: &Path) -> bool {
    Station::segment_no(file).is_none() || station.end == End::Closed
}

/// Every damage to a store, by kind.
pub(super) fn all(station: &Station) -> Vec<Vec<Damage>> {
    let mut kinds = vec![Vec::new(); KINDS.len()];
    for (file, bytes) in &station.files {
        let flip = |bit| Damage::Flip { file: file.clone(), bit };
        kinds[0].extend(header_bits(station, file, bytes.len()).into_iter().map(flip));
        kinds[1].extend(other_bits(station, file, bytes).into_iter().map(flip));
        kinds[2].extend((0..bytes.len()).map(|len| Damage::Truncate { file: file.clone(), len }));
        let zero = |(at, len)| Damage::Zero { file: file.clone(), at, len };
        kinds[3].extend(blocks(bytes.len()).map(zero));
        for version in 0..station.versions.get(file).map_or(0, Vec::len) {
            let stale = |(at, len)| Damage::StaleBlock { file: file.clone(), at, len, version };
            kinds[4].extend(blocks(bytes.len()).map(stale));
            if can_be_told(station, file) {
                kinds[5].push(Damage::StaleFile { file: file.clone(), version });
            }
        }
        for other in siblings(station, file) {
            if other > file {
                kinds[6].push(Damage::Swap { one: file.clone(), other: other.clone() });
            }
            kinds[7].push(Damage::Copy { from: file.clone(), to: other.clone() });
        }
        kinds[7].push(Damage::Copy { from: file.clone(), to: free_name(station, file) });
        kinds[8].push(Damage::Missing { file: file.clone() });
    }
    for kind in &mut kinds {
        kind.retain(|damage| !damage.changed(station).is_empty());
    }
    kinds
}

/// Picks `n` damages of all stores from a seed, in turn from each store and kind.
pub(super) fn sample(stations: &[Station], n: usize, seed: u64) -> Vec<(usize, usize, Damage)> {
    let mut rng = Rng(seed);
    let mut piles = Vec::new();
    for (number, station) in stations.iter().enumerate() {
        for (kind, mut pile) in all(station).into_iter().enumerate() {
            for at in (1..pile.len()).rev() {
                pile.swap(at, rng.below(at as u64 + 1) as usize);
            }
            piles.push(pile.into_iter().map(move |damage| (number, kind, damage)));
        }
    }
    let mut chosen = Vec::new();
    while chosen.len() < n {
        let before = chosen.len();
        chosen.extend(piles.iter_mut().filter_map(Iterator::next).take(n - before));
        if chosen.len() == before {
            break;
        }
    }
    chosen
}

impl Damage {
    /// The new contents of the files that the damage changes; empty if it changes nothing.
    pub(super) fn changed(&self, station: &Station) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
        let bytes = |file: &PathBuf| station.files[file].clone();
        let one = |file: &PathBuf, bytes| BTreeMap::from([(file.clone(), bytes)]);
        let mut changed = match self {
            Self::Flip { file, bit } => {
                let mut bytes = bytes(file);
                bytes[bit / 8] ^= 1 << (bit % 8);
                one(file, Some(bytes))
            }
            Self::Truncate { file, len } => one(file, Some(bytes(file)[..*len].to_vec())),
            Self::Zero { file, at, len } => {
                let mut bytes = bytes(file);
                bytes[*at..at + len].fill(0);
                one(file, Some(bytes))
            }
            Self::StaleBlock { file, at, len, version } => {
                let (mut bytes, old) = (bytes(file), &station.versions[file][*version]);
                // Beyond the end of the older version: zeros.
                for (n, byte) in bytes[*at..at + len].iter_mut().enumerate() {
                    *byte = old.get(at + n).copied().unwrap_or(0);
                }
                one(file, Some(bytes))
            }
            Self::StaleFile { file, version } => {
                one(file, Some(station.versions[file][*version].clone()))
            }
            Self::Swap { one: a, other: b } => {
                BTreeMap::from([(a.clone(), Some(bytes(b))), (b.clone(), Some(bytes(a)))])
            }
            Self::Copy { from, to } => one(to, Some(bytes(from))),
            Self::Missing { file } => one(file, None),
        };
        changed.retain(|file, bytes| station.files.get(file) != bytes.as_ref());
        changed
    }

    /// Whether this range of a file is unchanged.
    pub(super) fn is_intact(
        changed: &BTreeMap<PathBuf, Option<Vec<u8>>>,
        station: &Station,
        file: &Path,
        range: std::ops::Range<usize>,
    ) -> bool {
        match changed.get(file) {
            None => true,
            Some(None) => false,
            Some(Some(new)) => new.get(range.clone()) == station.files[file].get(range),
        }
    }
}
