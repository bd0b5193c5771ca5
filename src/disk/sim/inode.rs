//! One file: what the process sees, what is durable, and what is on its way there.

use super::loss::Loss;
use super::pages::{PAGE, Pages, pieces};
use super::rng::{Rng, mix};
use crate::sync::Arc;

/// What a disk writes whole or not at all.
const SECTOR: u64 = 512;

#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    pub(super) cache: Arc<Pages>,
    durable: Arc<Pages>,
    unsynced: Vec<Unsynced>,
    /// Open handles, of which `mapped` have a mapping.
    pub(super) open: u32,
    pub(super) mapped: u32,
    /// Names that the process sees; an open file without one still takes space.
    pub(super) links: u32,
}

#[derive(Clone, Debug)]
struct Unsynced {
    change: Change,
    fate: Fate,
    /// Those of a sector stop at one moment, as they are memory that a disk writes whole.
    is_word: bool,
}

#[derive(Clone, Debug)]
enum Change {
    Bytes(u64, Arc<[u8]>),
    SetLen(u64),
    Allocate(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Pending,
    /// A sync that covered it failed. Linux then considers the page clean: no later sync writes it.
    Doomed,
    /// Durable, but it follows a doomed change and keeps its place in the order.
    Synced,
}

impl Change {
    fn apply(&self, pages: &mut Pages) {
        match self {
            Self::Bytes(offset, bytes) => pages.write(bytes, *offset),
            Self::SetLen(len) => pages.set_len(*len),
            Self::Allocate(len) => pages.allocate(*len),
        }
    }
}

impl Inode {
    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        self.change(Change::Bytes(offset, bytes.into()));
    }

    pub(super) fn store(&mut self, word: &[u8], offset: u64) {
        self.write(word, offset);
        self.unsynced.last_mut().into_iter().for_each(|unsynced| unsynced.is_word = true);
    }

    pub(super) fn set_len(&mut self, len: u64) {
        self.change(Change::SetLen(len));
    }

    pub(super) fn allocate(&mut self, len: u64) {
        self.change(Change::Allocate(len));
    }

    fn change(&mut self, change: Change) {
        change.apply(Arc::make_mut(&mut self.cache));
        self.unsynced.push(Unsynced { change, fate: Fate::Pending, is_word: false });
    }

    pub(super) fn sync(&mut self) {
        if self.unsynced.iter().any(|unsynced| unsynced.fate == Fate::Doomed) {
            for unsynced in &mut self.unsynced {
                if unsynced.fate == Fate::Pending {
                    unsynced.fate = Fate::Synced;
                }
            }
            return;
        }
        let only_bytes = |unsynced: &Unsynced| matches!(unsynced.change, Change::Bytes(..));
        if self.unsynced.iter().all(only_bytes) {
            let durable = Arc::make_mut(&mut self.durable);
            for unsynced in &self.unsynced {
                if let Change::Bytes(offset, bytes) = &unsynced.change {
                    durable.adopt(&self.cache, *offset, bytes.len());
                }
            }
        } else {
            self.durable = Arc::clone(&self.cache);
        }
        self.unsynced.clear();
    }

    pub(super) fn fail_sync(&mut self) {
        for unsynced in &mut self.unsynced {
            if unsynced.fate == Fate::Pending {
                unsynced.fate = Fate::Doomed;
            }
        }
    }

    /// Returns whether the first `len` bytes exist and are allocated.
    pub(super) fn is_allocated(&self, len: u64) -> bool {
        len <= self.cache.len() && (0..len.div_ceil(PAGE)).all(|page| self.cache.has_room(page))
    }

    /// Returns the file after a process crash: nothing is lost, but nothing became durable either.
    pub(super) fn kill(&self) -> Self {
        Self { open: 0, mapped: 0, ..self.clone() }
    }

    /// Returns the file after a power cut.
    pub(super) fn crash(&self, loss: Loss, stream: u64) -> Self {
        let pages = if self.unsynced.is_empty() {
            Arc::clone(&self.durable)
        } else {
            let mut pages = Pages::clone(&self.durable);
            match loss {
                Loss::All => self.keep(&mut pages, |_| false),
                Loss::Seeded(seed) | Loss::OutOfOrder(seed) => {
                    self.keep_some(&mut pages, Rng::new(seed, stream));
                }
            }
            Arc::new(pages)
        };
        Self { cache: Arc::clone(&pages), durable: pages, links: 1, ..Self::default() }
    }

    fn keep(&self, pages: &mut Pages, mut kept: impl FnMut(usize) -> bool) {
        for (index, unsynced) in self.unsynced.iter().enumerate() {
            if unsynced.fate == Fate::Synced || kept(index) {
                unsynced.change.apply(pages);
            }
        }
    }

    fn keep_some(&self, pages: &mut Pages, mut rng: Rng) {
        let count = self.unsynced.len();
        match rng.below(6) {
            0 => self.keep(pages, |_| false),
            1 => self.keep(pages, |_| true),
            2 => {
                let cut = rng.below(count + 1);
                self.keep(pages, |index| index < cut);
            }
            3 => self.keep_any(pages, &mut rng),
            4 => {
                let torn = rng.below(count);
                self.keep_torn(pages, torn, &mut rng);
            }
            _ => self.keep_sectors(pages, &mut rng),
        }
    }

    /// Keeps each change or does not.
    fn keep_any(&self, pages: &mut Pages, rng: &mut Rng) {
        let (salt, moments) = (rng.next(), self.unsynced.len() as u64 + 1);
        self.keep(pages, |index| match &self.unsynced[index] {
            Unsynced { change: Change::Bytes(offset, _), is_word: true, .. } => {
                (index as u64) < mix(salt ^ mix(offset / SECTOR)) % moments
            }
            _ => rng.next() & 1 == 1,
        });
    }

    /// Keeps everything before `torn`, and of `torn` itself the sectors up to some boundary.
    fn keep_torn(&self, pages: &mut Pages, torn: usize, rng: &mut Rng) {
        for (index, unsynced) in self.unsynced.iter().enumerate() {
            if unsynced.fate == Fate::Synced || index < torn {
                unsynced.change.apply(pages);
            } else if index == torn
                && let Change::Bytes(offset, bytes) = &unsynced.change
            {
                let sectors = pieces(*offset, bytes.len(), SECTOR).count();
                let kept = pieces(*offset, bytes.len(), SECTOR)
                    .take(rng.below(sectors.max(1)))
                    .last()
                    .map_or(0, |piece| piece.end);
                if kept > 0 {
                    pages.write(&bytes[..kept], *offset);
                }
            }
        }
    }

    /// Stops every sector, and the length, at its own moment, as a page cache written back in any order does.
    fn keep_sectors(&self, pages: &mut Pages, rng: &mut Rng) {
        let salt = rng.next();
        let moments = self.unsynced.len() as u64 + 1;
        let stops_at = |what: u64| mix(salt ^ mix(what)) % moments;
        let length_stops_at = stops_at(u64::MAX);
        for (index, unsynced) in self.unsynced.iter().enumerate() {
            let synced = unsynced.fate == Fate::Synced;
            let length_kept = synced || (index as u64) < length_stops_at;
            match &unsynced.change {
                Change::Bytes(offset, bytes) => {
                    for piece in pieces(*offset, bytes.len(), SECTOR) {
                        if synced || (index as u64) < stops_at(piece.block) {
                            let part = &bytes[piece.start..piece.end];
                            pages.put(part, *offset + piece.start as u64);
                        }
                    }
                    if length_kept {
                        pages.grow(*offset + bytes.len() as u64);
                    }
                }
                other if length_kept => other.apply(pages),
                _ => {}
            }
        }
        pages.trim();
    }
}
