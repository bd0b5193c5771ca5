//! Ids: arbitrary bytes, stored verbatim, hashed once on entry.
//!
//! Ids are untrusted, so the hash is keyed with the store's random seed: without the seed nobody can target one shard
//! or filter block. The hash is SipHash-1-3 with 128 bits of output (Aumasson and Bernstein, 2012), a published
//! function, because on-disk filters and block numbers depend on it across releases.

use crate::error::{Error, Result};
use crate::limits;
use serde::{Deserialize, Serialize};
use siphasher::sip128::SipHasher13;
use std::fmt;

/// What a key belongs to: claims, or one of the families of rows. Each has runs of its own, so a claim asks only
/// filters of claims, and listing a family costs what the family holds.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub(crate) struct Family(pub(crate) u8);

impl Family {
    pub(crate) const CLAIMS: Self = Self(0);
    /// The records of ledgers.
    pub(crate) const LEDGER: Self = Self(1);
    /// The saved stages of records that are not completed.
    pub(crate) const STAGES: Self = Self(2);
    /// What was given to be done, until it is.
    pub(crate) const PAYLOADS: Self = Self(3);
    /// The ids that wait for an operator, so that listing them costs what there are of them.
    pub(crate) const DEAD: Self = Self(4);
    /// Messages that must go out.
    pub(crate) const OUTBOX: Self = Self(5);
    /// State tables.
    pub(crate) const TABLES: Self = Self(6);
    /// How far sources have been read.
    pub(crate) const OFFSETS: Self = Self(7);
    /// Transactions of two phases.
    pub(crate) const PREPARED: Self = Self(8);
    /// The ids of namespaces with event time.
    pub(crate) const EVENTS: Self = Self(9);
    /// Their watermarks, and those of their sources.
    pub(crate) const WATERMARKS: Self = Self(10);
    /// What windows over event time have added up.
    pub(crate) const AGGREGATES: Self = Self(11);
    /// How replay scopes ended.
    pub(crate) const SCOPES: Self = Self(12);
    /// Messages that could not be delivered.
    pub(crate) const OUTBOX_DEAD: Self = Self(13);

    /// The highest family that fits into a key.
    pub(crate) const MAX: u8 = 31;

    /// Returns whether its rows belong to the store, and stay when the default namespace is replaced, under whose number
    /// they are.
    pub(crate) fn is_of_store(self) -> bool {
        matches!(self, Self::PREPARED | Self::SCOPES)
    }
}

/// Number of a namespace, part of every key. Zero is the namespace of calls on the store itself.
///
/// | bits | use |
/// |---|---|
/// | 31 | the id is the hash of a longer one |
/// | 26..31 | family |
/// | 0..26 | namespace |
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub(crate) struct NsId(pub(crate) u32);

impl NsId {
    /// Set in the keys of ids stored as their hash. No namespace has a number this large, so such a key never equals
    /// the key of an id stored verbatim, not even one with the same 32 bytes.
    const HASHED: u32 = 1 << 31;

    const FAMILY_AT: u32 = 26;

    /// The highest number that is no family.
    pub(crate) const MAX: u32 = (1 << Self::FAMILY_AT) - 1;

    /// The number of a handle whose namespace is gone: no key has it.
    pub(crate) const GONE: Self = Self(Self::MAX);

    /// Returns the key space of the hashed ids of this namespace.
    fn hashed(self) -> Self {
        Self(self.0 | Self::HASHED)
    }

    /// Returns whether ids under this number are hashes of longer ids.
    pub(crate) fn is_hashed(self) -> bool {
        self.0 & Self::HASHED != 0
    }

    /// Returns the namespace as users see it, whatever is stored under it and however.
    pub(crate) fn listed(self) -> Self {
        Self(self.0 & Self::MAX)
    }

    /// Returns the key space of the rows of a family in this namespace.
    pub(crate) fn rows(self, family: Family) -> Self {
        debug_assert!((1..=Family::MAX).contains(&family.0), "a family of rows");
        Self(self.listed().0 | u32::from(family.0) << Self::FAMILY_AT)
    }

    #[inline]
    pub(crate) fn family(self) -> Family {
        Family((self.0 >> Self::FAMILY_AT) as u8 & Family::MAX)
    }

    /// Returns the key space of the same kind in another namespace.
    pub(crate) fn moved_to(self, ns: Self) -> Self {
        Self(self.0 & !Self::MAX | ns.0)
    }

    /// Returns whether it is the number of a namespace and nothing else.
    pub(crate) fn is_plain(self) -> bool {
        self.0 <= Self::MAX
    }

    /// Returns whether keys under this number are those of rows.
    #[inline]
    pub(crate) fn is_row(self) -> bool {
        self.family() != Family::CLAIMS
    }
}

/// The BLAKE3 hash stored in place of an id above the limit.
pub(crate) type Digest = [u8; limits::DIGEST_BYTES];

/// What is claimed: an id within a namespace. Compared byte for byte (I3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key<'a> {
    pub(crate) ns: NsId,
    pub(crate) id: &'a [u8],
}

/// What happens to ids above [`limits::ID_BYTES_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LongIds {
    /// The call fails.
    Refused,
    /// The BLAKE3 hash of the id is stored and compared instead.
    Hashed,
}

/// An id as it is shown in logs: escaped, and cut after its first bytes.
pub(crate) struct ShortId<'a>(pub(crate) &'a [u8]);

impl fmt::Debug for ShortId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = &self.0[..self.0.len().min(limits::SHOWN_ID_BYTES_MAX)];
        let rest = if start.len() < self.0.len() { "..." } else { "" };
        write!(f, "\"{}{rest}\"", start.escape_ascii())
    }
}

impl LongIds {
    /// Returns the hash to store instead of the id, or `None` for an id stored verbatim.
    pub(crate) fn digest(self, id: &[u8]) -> Option<Digest> {
        (self == Self::Hashed && id.len() > limits::ID_BYTES_MAX)
            .then(|| *blake3::hash(id).as_bytes())
    }
}

impl<'a> Key<'a> {
    /// Returns the key of an incoming id. `digest` is the hash of a long one.
    #[inline]
    pub(crate) fn of(ns: NsId, id: &'a [u8], digest: Option<&'a Digest>) -> Result<Self> {
        match (id.len(), digest) {
            _ if ns == NsId::GONE => Err(gone()),
            (1..=limits::ID_BYTES_MAX, _) => Ok(Self { ns, id }),
            (0, _) => Err(Error::invalid("the id is empty; an id has 1 to 1,024 bytes")),
            (_, Some(digest)) => Ok(Self { ns: ns.hashed(), id: digest }),
            (n, None) => Err(Error::invalid(format!(
                "the id has {n} bytes; an id has 1 to 1,024 bytes, unless the store is opened with `hash_long_ids`"
            ))),
        }
    }

    /// Returns the key of an id that is already hashed, as in an export.
    pub(crate) fn of_digest(ns: NsId, digest: &'a [u8]) -> Result<Self> {
        if ns == NsId::GONE {
            return Err(gone());
        }
        if digest.len() != limits::DIGEST_BYTES {
            return Err(Error::invalid(format!(
                "the hash of an id has {} bytes, not {}",
                limits::DIGEST_BYTES,
                digest.len()
            )));
        }
        Ok(Self { ns: ns.hashed(), id: digest })
    }
}

#[cold]
fn gone() -> Error {
    Error::invalid(
        "the replay scope of this namespace has been dropped; begin another one with `Store::replay`",
    )
}

/// 128 bits of a key. Among flushed ids each bit range has a single use, so no use weakens another:
///
/// | bits | use |
/// |---|---|
/// | hi 56..64 | shard |
/// | hi 32..56 | filter block |
/// | hi 0..32 | block of a run (range reduction keeps hash order, so runs can be merged in one pass) |
/// | lo 0..8 | locator tag |
/// | lo 0..32, 56..64 | memtable: line of its table, and the hash byte stored there |
/// | lo 25..57 | bits within a filter block (overlaps with the memtable: an id is either there or flushed) |
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct IdHash {
    lo: u64,
    hi: u64,
}

impl IdHash {
    /// Returns all bits, for a filter that rehashes.
    #[cfg(any(feature = "reference-filter", feature = "fuzzing"))]
    pub(crate) fn bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.lo.to_le_bytes());
        bytes[8..].copy_from_slice(&self.hi.to_le_bytes());
        bytes
    }

    /// Returns which of `1 << shard_bits` shards. Uses the top bits, so doubling the shards splits each in two.
    #[inline]
    pub(crate) fn shard(self, shard_bits: u32) -> usize {
        ((self.hi >> 56) as usize) >> (8 - shard_bits)
    }

    #[inline]
    pub(crate) fn table(self) -> u64 {
        self.lo
    }

    /// Returns which of `blocks` filter blocks, by multiplication instead of division (Lemire, 2019).
    #[inline]
    pub(crate) fn filter_block(self, blocks: u32) -> usize {
        let bits = (self.hi >> 32) & 0x00ff_ffff;
        ((bits * u64::from(blocks)) >> 24) as usize
    }

    #[inline]
    pub(crate) fn filter_bits(self) -> u32 {
        (self.lo >> 25) as u32
    }

    /// Returns eight bits that have no other use among flushed ids: they tell the entries of a locator apart.
    #[inline]
    pub(crate) fn tag(self) -> u8 {
        self.lo as u8
    }

    /// Returns the position of a key in hash order, the order of ids in every run.
    #[inline]
    pub(crate) fn order(self) -> u32 {
        self.hi as u32
    }

    /// Returns which of `buckets` blocks; monotone in [`order`](Self::order).
    #[inline]
    pub(crate) fn bucket(self, buckets: u32) -> u32 {
        bucket_of_order(self.order(), buckets)
    }

    /// Returns the position within the block, in units of 1/2^32; monotone in [`order`](Self::order) within a block.
    #[inline]
    pub(crate) fn position_in_block(self, buckets: u32) -> u32 {
        self.order().wrapping_mul(buckets)
    }

    #[cfg(test)]
    pub(crate) fn from_parts(lo: u64, hi: u64) -> Self {
        Self { lo, hi }
    }
}

/// Returns which of `buckets` blocks holds the keys at this position in hash order.
#[inline]
pub(crate) fn bucket_of_order(order: u32, buckets: u32) -> u32 {
    ((u64::from(order) * u64::from(buckets)) >> 32) as u32
}

/// The store's secret: 16 random bytes generated when the store is created.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seed(pub(crate) [u8; 16]);

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)") // keep the secret out of logs
    }
}

/// Hashes keys under the store's seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IdHasher {
    k0: u64,
    k1: u64,
}

impl IdHasher {
    pub(crate) fn new(seed: Seed) -> Self {
        let mut halves = seed.0.chunks_exact(8).map(|half| {
            u64::from_le_bytes(half.try_into().expect("chunks_exact(8) yields eight bytes"))
        });
        Self { k0: halves.next().unwrap_or(0), k1: halves.next().unwrap_or(0) }
    }

    /// Returns a number that identifies the store without revealing the seed.
    pub(crate) fn tag(&self) -> u64 {
        SipHasher13::new_with_keys(self.k0, self.k1).hash(b"firstseen store").h1
    }

    /// Hashes a key. The namespace goes into the hash key, so the id need not be copied.
    #[inline]
    pub(crate) fn hash(&self, key: Key<'_>) -> IdHash {
        let ns = u64::from(key.ns.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash = SipHasher13::new_with_keys(self.k0, self.k1 ^ ns).hash(key.id);
        IdHash { lo: hash.h1, hi: hash.h2 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(seed: u8, ns: u32, id: &[u8]) -> IdHash {
        IdHasher::new(Seed([seed; 16])).hash(Key { ns: NsId(ns), id })
    }

    #[test]
    fn the_seed_and_the_namespace_change_the_hash() {
        assert_eq!(hash(1, 0, b"a"), hash(1, 0, b"a"));
        assert_ne!(hash(1, 0, b"a"), hash(2, 0, b"a"));
        assert_ne!(hash(1, 0, b"a"), hash(1, 1, b"a"));
    }

    /// On-disk filters and blocks depend on this function: changing its output changes the format.
    #[test]
    fn the_hash_is_stable_across_releases() {
        let h = hash(7, 3, b"evt-1");
        assert_eq!((h.lo, h.hi), (GOLDEN_LO, GOLDEN_HI));
    }
    const GOLDEN_LO: u64 = 11_332_514_877_767_812_367;
    const GOLDEN_HI: u64 = 4_881_339_122_416_438_924;

    #[test]
    fn buckets_follow_hash_order() {
        let mut hashes: Vec<_> = (0..2000u32).map(|i| hash(9, 0, &i.to_le_bytes())).collect();
        hashes.sort_by_key(|h| h.order());
        assert!(hashes.windows(2).all(|w| w[0].bucket(37) <= w[1].bucket(37)));
        assert!(hashes.iter().all(|h| h.shard(3) < 8 && h.filter_block(11) < 11));
    }

    #[test]
    fn ids_have_1_to_1024_bytes_unless_they_are_hashed() {
        let key = |id, long: LongIds| {
            let digest = long.digest(id);
            Key::of(NsId(3), id, digest.as_ref()).map(|key| (key.ns, key.id.len()))
        };
        for long in [LongIds::Refused, LongIds::Hashed] {
            assert!(key(b"", long).is_err());
            assert_eq!(key(&[0; 1024], long).ok(), Some((NsId(3), 1024)));
        }
        assert!(key(&[0; 1025], LongIds::Refused).is_err());
        let (ns, bytes) = key(&[0; 1025], LongIds::Hashed).expect("a key");
        assert_eq!((ns.listed(), ns.is_hashed(), bytes), (NsId(3), true, 32));
    }
}
