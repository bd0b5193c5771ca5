//! Damage to a sled folder.

use crate::dice::Dice;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

const PAGE: u64 = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Harm {
    /// The folder is deleted.
    Gone,
    /// A file is deleted.
    Deleted,
    /// The data file is truncated at this page, modulo its length.
    CutAtPage(u64),
    Flipped,
    Zeroed,
    /// The folder is replaced by an older copy.
    Older,
    /// `conf` is truncated, flipped or emptied.
    Conf,
    /// A snapshot is flipped, truncated or half written.
    Snapshot,
    /// Values are changed, swapped and removed through sled's API, so that its own checks pass.
    Inside,
}

impl Harm {
    /// Takes kinds and pages in turn, so that enough numbers cut the file at every page.
    pub(crate) fn number(number: u64) -> Self {
        match number % 11 {
            0 => Self::Gone,
            1 => Self::Deleted,
            2..=4 => Self::CutAtPage(number / 11 * 3 + number % 11 - 2),
            5 | 6 => Self::Flipped,
            7 => Self::Zeroed,
            8 => Self::Older,
            9 if number % 22 < 11 => Self::Conf,
            9 => Self::Snapshot,
            _ => Self::Inside,
        }
    }
}

pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(list) = fs::read_dir(dir) else { return Vec::new() };
    let mut all = Vec::new();
    for path in list.flatten().map(|entry| entry.path()) {
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all.sort();
    all
}

pub(crate) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)?.flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Random damage.
pub(crate) fn vandalise(dir: &Path, older: Option<&Path>, dice: &mut Dice) -> io::Result<()> {
    let harm = Harm::number(dice.below(1_000));
    apply(harm, dir, older, dice)
}

pub(crate) fn apply(
    harm: Harm,
    dir: &Path,
    older: Option<&Path>,
    dice: &mut Dice,
) -> io::Result<()> {
    let data = dir.join("db");
    match harm {
        Harm::Gone => fs::remove_dir_all(dir),
        Harm::Deleted => {
            let all = files(dir);
            let file = all.get(dice.below(all.len() as u64) as usize);
            file.map_or(Ok(()), fs::remove_file)
        }
        Harm::CutAtPage(page) => {
            let file = fs::File::options().write(true).open(&data)?;
            let pages = file.metadata()?.len().div_ceil(PAGE).max(1);
            file.set_len(page % pages * PAGE)
        }
        Harm::Flipped => (0..=dice.below(8)).try_for_each(|_| flip(&data, dice)),
        Harm::Zeroed => {
            let len = fs::metadata(&data)?.len();
            let at = dice.below(len / PAGE + 1) * PAGE;
            let zeros = vec![0; (len.saturating_sub(at)).min(PAGE * (1 + dice.below(8))) as usize];
            write_at(&data, &zeros, at)
        }
        Harm::Older => match older {
            Some(older) => {
                fs::remove_dir_all(dir)?;
                copy(older, dir)
            }
            None => Ok(()),
        },
        // sled may panic on earlier damage.
        Harm::Inside => catch_unwind(AssertUnwindSafe(|| alter(dir, dice)))
            .unwrap_or_else(|_| Ok(()))
            .map_err(io::Error::other),
        Harm::Conf => spoil(&dir.join("conf"), dice),
        Harm::Snapshot => {
            // A crash of sled can leave this file, and sled then never opens again.
            let half = dir.join(format!("snap.{:016X}.generating", dice.below(1 << 20)));
            let is_snapshot = |path: &&PathBuf| {
                path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("snap."))
            };
            match files(dir).iter().find(is_snapshot) {
                Some(snapshot) if dice.one_in(2) => spoil(snapshot, dice),
                _ => fs::write(half, vec![7; dice.below(5_000) as usize]),
            }
        }
    }
}

/// Fails under an open store, as sled locks its file.
fn alter(dir: &Path, dice: &mut Dice) -> sled::Result<()> {
    let db = sled::open(dir)?;
    let keys = db.iter().keys().collect::<sled::Result<Vec<_>>>()?;
    for _ in 0..4 {
        let key = |dice: &mut Dice| keys.get(dice.below(keys.len() as u64) as usize).cloned();
        let (Some(one), Some(other)) = (key(dice), key(dice)) else { break };
        let Some(value) = db.get(&one)? else { continue };
        let mut bytes = value.to_vec();
        let at = dice.below(bytes.len() as u64) as usize;
        match dice.below(4) {
            0 => bytes[at] ^= 1 << dice.below(8),
            1 => bytes.truncate(at),
            2 => bytes = db.get(&other)?.map_or(Vec::new(), |value| value.to_vec()),
            _ => {
                db.remove(&one)?;
                continue;
            }
        }
        db.insert(one, bytes)?;
    }
    db.flush().map(drop)
}

fn spoil(path: &Path, dice: &mut Dice) -> io::Result<()> {
    match dice.below(3) {
        0 => flip(path, dice),
        1 => {
            let len = fs::metadata(path)?.len();
            fs::File::options().write(true).open(path)?.set_len(dice.below(len))
        }
        _ => fs::write(path, b""),
    }
}

/// Flips a bit of a byte that is in use; most of sled's file is zeros.
fn flip(path: &Path, dice: &mut Dice) -> io::Result<()> {
    let bytes = fs::read(path)?;
    let from = dice.below(bytes.len() as u64) as usize;
    let written = (from..bytes.len()).chain(0..from).find(|at| bytes[*at] != 0);
    let Some(at) = written else { return Ok(()) };
    write_at(path, &[bytes[at] ^ (1 << dice.below(8))], at as u64)
}

/// Writes in place, so that a process with the file open sees it too.
fn write_at(path: &Path, bytes: &[u8], at: u64) -> io::Result<()> {
    fs::File::options().write(true).open(path)?.write_all_at(bytes, at)
}
