//! File contents: sparse pages, copied on write.
//!
//! A preallocated segment of 16 MiB with three records costs one page, and a copy of it one pointer.

use crate::sync::Arc;
use std::collections::BTreeMap;

pub(super) const PAGE: u64 = 4096;

type Page = [u8; PAGE as usize];

#[derive(Clone, Debug, Default)]
pub(super) struct Pages {
    len: u64,
    /// Bytes from the start with allocated space, written or not.
    room: u64,
    written: BTreeMap<u64, Arc<Page>>,
}

impl Pages {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Fills `buf`; returns `false` if the file ends before.
    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> bool {
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > self.len) {
            return false;
        }
        for piece in pieces(offset, buf.len(), PAGE) {
            let target = &mut buf[piece.start..piece.end];
            match self.written.get(&piece.block) {
                Some(page) => target.copy_from_slice(&page[piece.within..][..target.len()]),
                None => target.fill(0),
            }
        }
        true
    }

    /// Returns whether the range reads as zeros and lies before the end.
    pub(super) fn is_zero(&self, from: u64, to: u64) -> bool {
        let mut pages = self.written.range(from / PAGE..to.div_ceil(PAGE));
        let is_zero = |(number, page): (&u64, &Arc<Page>)| {
            let within = |at: u64| at.saturating_sub(number * PAGE).min(PAGE) as usize;
            page[within(from)..within(to)].iter().all(|byte| *byte == 0)
        };
        to <= self.len && pages.all(is_zero)
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        self.put(bytes, offset);
        self.grow(offset + bytes.len() as u64);
    }

    /// Writes without moving the end of the file; [`Self::trim`] must follow.
    pub(super) fn put(&mut self, bytes: &[u8], offset: u64) {
        for piece in pieces(offset, bytes.len(), PAGE) {
            let page =
                self.written.entry(piece.block).or_insert_with(|| Arc::new([0; PAGE as usize]));
            let source = &bytes[piece.start..piece.end];
            Arc::make_mut(page)[piece.within..][..source.len()].copy_from_slice(source);
        }
    }

    pub(super) fn grow(&mut self, len: u64) {
        self.len = self.len.max(len);
    }

    pub(super) fn allocate(&mut self, len: u64) {
        self.room = self.room.max(len);
        self.grow(len);
    }

    pub(super) fn set_len(&mut self, len: u64) {
        self.len = len;
        self.room = self.room.min(len);
        self.trim();
    }

    /// Drops what lies after the end, so that it reads as zeros when the file grows again.
    pub(super) fn trim(&mut self) {
        self.written.split_off(&self.len.div_ceil(PAGE));
        let within = (self.len % PAGE) as usize;
        if within > 0
            && let Some(page) = self.written.get_mut(&(self.len / PAGE))
            && page[within..].iter().any(|byte| *byte != 0)
        {
            Arc::make_mut(page)[within..].fill(0);
        }
    }

    /// Adopts the pages that a write of `len` bytes at `offset` has touched.
    pub(super) fn adopt(&mut self, from: &Self, offset: u64, len: usize) {
        for piece in pieces(offset, len, PAGE) {
            if let Some(page) = from.written.get(&piece.block) {
                self.written.insert(piece.block, Arc::clone(page));
            }
        }
        self.len = from.len;
    }

    /// Returns whether page number `page` is allocated.
    pub(super) fn has_room(&self, page: u64) -> bool {
        page * PAGE < self.room || self.written.contains_key(&page)
    }

    /// Returns the bytes on disk, in whole pages.
    pub(super) fn space(&self) -> u64 {
        let allocated = self.room.div_ceil(PAGE);
        (allocated + self.written.range(allocated..).count() as u64) * PAGE
    }
}

/// The part of a range that lies in one block.
pub(super) struct Piece {
    pub(super) block: u64,
    /// Start of the part in its block.
    pub(super) within: usize,
    /// Start and end of the part in the range.
    pub(super) start: usize,
    pub(super) end: usize,
}

/// Splits a range of `len` bytes at `offset` at block boundaries.
pub(super) fn pieces(offset: u64, len: usize, block: u64) -> impl Iterator<Item = Piece> {
    let mut start = 0;
    std::iter::from_fn(move || {
        if start == len {
            return None;
        }
        let at = offset + start as u64;
        let end = len.min(start + (block - at % block) as usize);
        let piece = Piece { block: at / block, within: (at % block) as usize, start, end };
        start = end;
        Some(piece)
    })
}
