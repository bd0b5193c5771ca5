//! Entry points for the fuzz targets and benches/filter.rs (feature `fuzzing`): decoders and the filter, which are
//! otherwise private. Not an API.

use crate::codec::envelope;
use crate::id::{IdHash, IdHasher, Key, NsId};
use crate::{engine, filter, run, wal};
use std::path::Path;

/// Decodes bytes as records of a log segment.
pub fn log_reader(data: &[u8]) {
    wal::fuzz::read(data.to_vec());
    wal::fuzz::read(wal::fuzz::segment(data));
}

/// Returns a segment file, number 1 of a store with seed `[7; 16]`, whose records are framed in `data`.
pub fn log_segment(data: &[u8]) -> Vec<u8> {
    wal::fuzz::segment(data)
}

/// Puts together a commit as the bytes say and reads it back, and decodes them as the row of a prepared transaction.
pub fn commit_records(data: &[u8]) {
    wal::fuzz::commit(data);
    engine::fuzz_prepared(data);
}

/// Decodes bytes as a block and as a locator.
pub fn block_decode(data: &[u8]) {
    run::fuzz_block(data);
    run::fuzz_locator(data);
}

const OWNER: filter::FilterOwner = filter::FilterOwner { store: 0, run: 0 };

/// Decodes bytes as a filter file, as given and as the body of a valid envelope.
pub fn filter_snapshot(data: &[u8]) {
    let path = Path::new("fuzz.flt");
    let framed = envelope::frame(*b"FSFL", 1, data);
    for bytes in [data, &framed] {
        if let Ok(filter) = filter::decode(path, OWNER, bytes) {
            let hash = IdHasher::new(wal::fuzz::SEED).hash(Key { ns: NsId(0), id: b"x" });
            filter.may_contain(hash);
            assert_eq!(filter::encode(OWNER, &filter), bytes, "a filter has one form on disk");
        }
    }
}

/// Decodes bytes as a manifest, as given and as the sections of a valid envelope. Returns the second with the seed `[7;
/// 16]`: a store rejects a manifest whose seed differs from its log's before reading the rest.
pub fn manifest(data: &[u8]) -> Vec<u8> {
    let framed = engine::frame_manifest(data, wal::fuzz::SEED);
    for bytes in [data, &framed] {
        engine::decode_manifest(bytes);
    }
    framed
}

/// Bits per id of [`Filter`], for benches that compare other filters with it.
pub const FILTER_BITS_PER_ID: u64 = filter::BITS_PER_ID;

/// An id as filters see it.
#[derive(Debug, Clone, Copy)]
pub struct FilterId(IdHash);

impl FilterId {
    /// Hashes an id as the store does.
    pub fn new(id: &[u8]) -> Self {
        Self(IdHasher::new(wal::fuzz::SEED).hash(Key { ns: NsId(0), id }))
    }

    /// Returns the bytes of the hash.
    pub fn bytes(&self) -> [u8; 16] {
        self.0.bytes()
    }
}

/// The filter of a run.
#[derive(Debug)]
pub struct Filter(filter::Filter);

impl Filter {
    /// Builds a filter with these ids.
    pub fn of(ids: &[FilterId]) -> Self {
        let mut builder = filter::FilterBuilder::for_ids(ids.len() as u64);
        ids.iter().for_each(|id| builder.insert(id.0));
        Self(builder.finish())
    }

    /// Returns false if the id is certainly absent, true if it may be present.
    #[inline]
    pub fn may_contain(&self, id: &FilterId) -> bool {
        self.0.may_contain(id.0)
    }
}

#[cfg(test)]
mod tests {
    use crate::disk::{Disk, sim::SimDisk};
    use crate::{ErrorKind, Store};
    use std::path::Path;

    /// Opens a new store whose manifest was replaced by one with these sections, each after its length.
    fn over_manifest(sections: &[u8]) -> crate::Result<Store> {
        let disk = SimDisk::new();
        let open = || {
            let builder = Store::builder("/s").disk(disk.clone());
            builder.seed([7; 16]).segment_bytes(65_536).background(false).open()
        };
        drop(open().expect("a new store opens"));
        let path = Path::new("/s/MANIFEST");
        disk.remove(path).expect("it is there");
        let file = disk.create_new(path).expect("it is gone");
        file.write_all_at(&super::manifest(sections), 0).expect("there is room");
        open()
    }

    /// Sections of a store with one shard; its second section lists these runs and obsolete runs.
    fn sections(runs: &[u8], obsolete: &[u8]) -> Vec<u8> {
        let store = [&[7; 16][..], &[1, 9]].concat();
        let flushed = [&[0xfc, 100, 0, 0, 0, 1][..], &[0xfd, 0, 0, 0, 0, 1, 0, 0, 0]].concat();
        let runs = [&flushed[..], runs, obsolete].concat();
        let log = [&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0][..], &[0, 2]].concat();
        let all = [&store[..], &runs, &log, &[0], &[0], &[1]];
        all.iter().flat_map(|section| [&[section.len() as u8][..], section].concat()).collect()
    }

    const BILLIONS: [u8; 5] = [0xfc, 0xff, 0xff, 0xff, 0xff];

    #[test]
    fn the_sections_of_these_tests_are_sound() {
        let run =
            [&[1, 5, 0, 0, 255, 0xfd, 255, 255, 255, 255, 255, 255, 255, 255][..], &[1, 1, 20, 1]];
        let opened = over_manifest(&sections(&run.concat(), &[1, 6, 1]));
        assert_eq!(opened.map(drop).map_err(|e| e.to_string()), Ok(()));
    }

    /// Found by the fuzzer: a manifest with a valid checksum listed a run of four billion blocks, and looking for
    /// them took gigabytes.
    #[test]
    fn i12_a_forged_run_of_billions_of_blocks_was_looked_for() {
        let head = [1, 5, 0, 0, 255, 0xfd, 255, 255, 255, 255, 255, 255, 255, 255];
        let run = [&head[..], &BILLIONS, &[1, 20, 1]].concat();
        let opened = over_manifest(&sections(&run, &[0])).map(drop).map_err(|e| e.kind());
        assert_eq!(opened, Err(ErrorKind::Repair));
    }

    /// Found by the fuzzer: a manifest with a valid checksum listed obsolete runs with more blocks than any disk
    /// holds, and each block was removed one by one.
    #[test]
    fn i12_a_forged_number_of_blocks_kept_the_background_busy_for_minutes() {
        let obsolete = [&[1, 6][..], &BILLIONS].concat();
        let store = over_manifest(&sections(&[0], &obsolete)).expect("nothing in it is damaged");
        let (done, answer) = std::sync::mpsc::channel();
        std::thread::spawn(move || done.send(store.run_background()).ok());
        answer.recv_timeout(std::time::Duration::from_secs(5)).expect("no hang").expect("works");
    }

    /// A row with the highest number there is had a valid checksum, and counting on from it overflowed.
    #[test]
    fn i11_no_row_was_above_a_forged_one_of_the_highest_sequence() {
        let opened = |rank: &[u8]| {
            let head = [&[5, 2, 0, 0, 0, 0, 0x80, 0x80, 0x80, 0x20][..], rank].concat();
            let body = [&head[..], &[0, 255, 0, 1, b'k', 1, b'v']].concat();
            let disk = SimDisk::new();
            let builder = Store::builder("/s").disk(disk.clone()).seed([7; 16]).background(false);
            drop(builder.clone().open().expect("a new store opens"));
            let path = Path::new("/s/log/0000000001.seg");
            disk.remove(path).expect("it is there");
            let file = disk.create_new(path).expect("it is gone");
            let framed = [&[body.len() as u8][..], &body].concat();
            file.write_all_at(&super::log_segment(&framed), 0).expect("there is room");
            builder.open().map(drop).map_err(|e| e.kind())
        };
        let highest = [[0xff; 9].as_slice(), &[1]].concat();
        assert_eq!(opened(&highest), Err(ErrorKind::Repair));
        assert_eq!(opened(&[9]), Ok(()));
    }

    /// Found by the fuzzer: the end mark of segment 1 named segment 1, and opening never ended.
    #[test]
    fn i12_an_end_mark_that_leads_back_is_damage_and_not_followed() {
        let disk = SimDisk::new();
        let open = || {
            let builder = Store::builder("/s").disk(disk.clone()).seed([7; 16]).background(false);
            builder.open()
        };
        drop(open().expect("a new store opens"));
        let path = Path::new("/s/log/0000000001.seg");
        disk.remove(path).expect("it is there");
        let file = disk.create_new(path).expect("it is gone");
        file.write_all_at(&super::log_segment(&[2, 0x0f, 1]), 0).expect("there is room");
        assert_eq!(open().map(drop).map_err(|e| e.kind()), Err(ErrorKind::Repair));
    }
}
