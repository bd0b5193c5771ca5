//! A filter on disk. In doubt it is built again from the chunks: a damaged one must not hide an id (I2).
//!
//! Inside the envelope: run u64, then the words of the filter.

use crate::codec::envelope;
use crate::error::{Error, Result};
use crate::filter::Filter;
use std::path::Path;

const MAGIC: [u8; 4] = *b"FSFL";
const VERSION: u16 = 1;

pub(crate) fn encode(run: u64, filter: &Filter) -> Vec<u8> {
    let mut body = Vec::with_capacity(8 + filter.bytes());
    body.extend_from_slice(&run.to_le_bytes());
    filter.words().for_each(|word| body.extend_from_slice(&word.to_le_bytes()));
    envelope::seal(MAGIC, VERSION, &body)
}

pub(crate) fn decode(path: &Path, run: u64, bytes: &[u8]) -> Result<Filter> {
    let body = envelope::open(path, MAGIC, VERSION, bytes)?;
    let of_another = || Error::corrupt(path, 24, "the filter belongs to another run");
    let (number, words) = body.split_first_chunk::<8>().ok_or_else(of_another)?;
    if u64::from_le_bytes(*number) != run {
        return Err(of_another());
    }
    Filter::from_words(words)
        .ok_or_else(|| Error::corrupt(path, 32, "the filter is not a whole number of blocks"))
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
        let good = encode(9, &filter);
        assert_eq!(decode(path, 9, &good).ok(), Some(filter));
        assert!(decode(path, 8, &good).is_err(), "a filter of another run");
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(path, 9, &bad).is_err(), "bit {bit}");
        }
    }
}
