//! The `bloomfilter` package in place of our filter, sized to return "maybe" as often: the reference for comparison.
//!
//! Only with the feature `reference-filter`, which `scripts/bench.sh --filter` sets.

use crate::id::IdHash;
use crate::sync::Arc;
use bloomfilter::Bloom;

/// Returns "maybe" for one new id in 2,000, as ours does with 20.
pub(crate) const BITS_PER_ID: u64 = 16;

/// The seed only separates this filter from others; ids are hashed under the store's seed before. Its halves are the
/// keys of two hashes and must differ: otherwise all bits of an id follow from one.
const SEED: [u8; 32] = *b"the first half, the second half.";

#[derive(Clone)]
pub(crate) struct Filter {
    bloom: Arc<Bloom<[u8; 16]>>,
}

pub(crate) struct FilterBuilder {
    bloom: Bloom<[u8; 16]>,
}

impl FilterBuilder {
    pub(crate) fn for_ids(ids: u64) -> Self {
        let ids = ids.max(1);
        let bytes = (ids * BITS_PER_ID).div_ceil(8) as usize;
        let bloom = Bloom::new_with_seed(bytes, ids as usize, &SEED);
        Self { bloom: bloom.expect("sizes are not zero") }
    }

    pub(crate) fn insert(&mut self, hash: IdHash) {
        self.bloom.set(&hash.bytes());
    }

    pub(crate) fn finish(self) -> Filter {
        Filter { bloom: Arc::new(self.bloom) }
    }
}

impl Filter {
    #[inline]
    pub(crate) fn may_contain(&self, hash: IdHash) -> bool {
        self.bloom.check(&hash.bytes())
    }

    /// Does nothing: the package does not reveal where its bits are.
    #[inline]
    #[expect(clippy::unused_self, reason = "called as ours is")]
    pub(crate) fn prefetch(&self, _hash: IdHash) -> u64 {
        0
    }

    pub(crate) fn bytes(&self) -> usize {
        (self.bloom.len() / 8) as usize
    }

    /// Returns the length in bytes, then the bytes, padded with zeros.
    pub(super) fn words(&self) -> impl Iterator<Item = u64> + '_ {
        let bytes = self.bloom.as_slice();
        let word = |part: &[u8]| {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            u64::from_le_bytes(word)
        };
        std::iter::once(bytes.len() as u64).chain(bytes.chunks(8).map(word))
    }

    pub(super) fn from_words(bytes: &[u8]) -> Option<Self> {
        let (len, rest) = bytes.split_first_chunk::<8>()?;
        let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
        let bloom = Bloom::from_slice(rest.get(..len)?).ok()?;
        Some(Self { bloom: Arc::new(bloom) })
    }
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filter").field("bits", &self.bloom.len()).finish()
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.bloom.as_slice() == other.bloom.as_slice()
    }
}

impl Eq for Filter {}
