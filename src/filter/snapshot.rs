//! A filter on disk. If in doubt it is rebuilt from the blocks: a damaged one must not hide an id (I2).
//!
//! Inside the envelope: store u64, run u64, then the words of the filter. Hashes depend on the store's seed, so another
//! store's filter would return "surely not" for everything and must not pass for ours.

use crate::codec::envelope;
use crate::error::{Error, Result};
use crate::filter::Filter;
use std::path::Path;

const MAGIC: [u8; 4] = *b"FSFL";
const VERSION: u16 = 1;

/// Owner of a filter: the tag of the store ([`IdHasher::tag`](crate::id::IdHasher::tag)) and the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FilterOwner {
    pub(crate) store: u64,
    pub(crate) run: u64,
}

impl FilterOwner {
    fn bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.store.to_le_bytes());
        bytes[8..].copy_from_slice(&self.run.to_le_bytes());
        bytes
    }
}

pub(crate) fn encode(owner: FilterOwner, filter: &Filter) -> Vec<u8> {
    let mut body = Vec::with_capacity(16 + filter.bytes());
    body.extend_from_slice(&owner.bytes());
    filter.words().for_each(|word| body.extend_from_slice(&word.to_le_bytes()));
    envelope::frame(MAGIC, VERSION, &body)
}

pub(crate) fn decode(path: &Path, owner: FilterOwner, bytes: &[u8]) -> Result<Filter> {
    let body = envelope::open(path, MAGIC, VERSION..=VERSION, bytes)?.1;
    let of_another = || Error::corrupt(path, 24, "the filter belongs to another run or store");
    let (name, words) = body.split_first_chunk::<16>().ok_or_else(of_another)?;
    if *name != owner.bytes() {
        return Err(of_another());
    }
    Filter::from_words(words)
        .ok_or_else(|| Error::corrupt(path, 40, "the filter is not a whole number of blocks"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::FilterBuilder;
    use crate::id::IdHash;

    #[test]
    fn i2_a_saved_filter_comes_back_whole_or_not_at_all() {
        let mut filter = FilterBuilder::for_ids(100);
        filter.insert(IdHash::from_parts(1, 2));
        let filter = filter.finish();
        let path = Path::new("x");
        let owner = FilterOwner { store: 5, run: 9 };
        let good = encode(owner, &filter);
        assert_eq!(decode(path, owner, &good).ok(), Some(filter));
        assert!(decode(path, FilterOwner { run: 8, ..owner }, &good).is_err(), "another run's");
        assert!(decode(path, FilterOwner { store: 6, ..owner }, &good).is_err(), "another store's");
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(path, owner, &bad).is_err(), "bit {bit}");
        }
    }
}
