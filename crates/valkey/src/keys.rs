//! The names of keys.
//!
//! ```text
//! fs:layout                     the layout of all keys with this prefix
//! fs:{payments:a}:m             a partition: its layout, last token and counts
//! fs:{payments:a}:d             the ids of its dead and held records, in their order
//! fs:{payments:a}:e             those of them that end, by when
//! fs:{payments:a}:c:order-17    a claim
//! fs:{payments:a}:r:order-17    a record
//! ```
//!
//! What is between the braces chooses the slot in a cluster: what belongs to an id is in one. Names of namespaces are
//! escaped, so that none of them has a brace or a colon; an id is last, and as it is. So no two ids share a key.

use std::fmt::Write;

/// How many partitions a namespace has. A part of the layout: another number needs another version.
pub(crate) const PARTITIONS: usize = 16;

/// What a key is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Meta,
    Letters,
    LettersByEnd,
    Claim,
    Record,
}

/// The keys of a namespace.
#[derive(Debug)]
pub(crate) struct Keys {
    /// All before the number of the partition.
    head: String,
}

/// Returns the key of the layout of all keys with this prefix.
pub(crate) fn layout(prefix: &str) -> String {
    format!("{prefix}:layout")
}

/// Returns the partition of an id. The hash (FNV-1a) is a part of the layout.
pub(crate) fn partition(id: &[u8]) -> usize {
    let hash = id.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // The lowest bits of ids that differ little are alike.
    ((hash >> 32) ^ hash) as usize % PARTITIONS
}

impl Keys {
    pub(crate) fn new(prefix: &str, namespace: &str) -> Self {
        let mut head = format!("{prefix}:{{");
        for byte in namespace.bytes() {
            if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
                head.push(char::from(byte));
            } else {
                write!(head, "%{byte:02X}").expect("a string takes all");
            }
        }
        head.push(':');
        Self { head }
    }

    /// Returns a key of a partition.
    pub(crate) fn of(&self, partition: usize, kind: Kind) -> Vec<u8> {
        self.build(partition, kind, None)
    }

    /// Returns a key of an id.
    pub(crate) fn of_id(&self, partition: usize, kind: Kind, id: &[u8]) -> Vec<u8> {
        self.build(partition, kind, Some(id))
    }

    fn build(&self, partition: usize, kind: Kind, id: Option<&[u8]>) -> Vec<u8> {
        let kind = match kind {
            Kind::Meta => b'm',
            Kind::Letters => b'd',
            Kind::LettersByEnd => b'e',
            Kind::Claim => b'c',
            Kind::Record => b'r',
        };
        let number = b"0123456789abcdef"[partition];
        let mut key = Vec::with_capacity(self.head.len() + 5 + id.map_or(0, <[u8]>::len));
        key.extend_from_slice(self.head.as_bytes());
        key.extend_from_slice(&[number, b'}', b':', kind]);
        if let Some(id) = id {
            key.push(b':');
            key.extend_from_slice(id);
        }
        key
    }
}

const _: () = assert!(PARTITIONS <= 16, "a partition is one digit");

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// What a cluster hashes of a key.
    fn tag(key: &[u8]) -> &[u8] {
        let open = key.iter().position(|&byte| byte == b'{').expect("a brace");
        let close = key[open..].iter().position(|&byte| byte == b'}').expect("a brace");
        &key[open + 1..open + close]
    }

    #[test]
    fn keys_look_as_documented() {
        let keys = Keys::new("fs", "payments");
        assert_eq!(keys.of(10, Kind::Meta), b"fs:{payments:a}:m");
        assert_eq!(keys.of_id(0, Kind::Claim, b"order-17"), b"fs:{payments:0}:c:order-17");
        assert_eq!(layout("fs"), "fs:layout");
    }

    #[test]
    fn no_two_ids_share_a_key_and_all_keys_of_an_id_share_a_slot() {
        let hostile = ["a", "a}", "{a", "a:0", "a:0}:c", "a%3A0", "", " ", "\u{e4}", "a\0"];
        let ids: Vec<&[u8]> = vec![b"x", b"c:x", b"x}:c:y", b"{x}", b"\0", b"\xff", b":"];
        let mut seen = BTreeSet::new();
        for namespace in hostile {
            let keys = Keys::new("fs", namespace);
            for id in &ids {
                let place = partition(id);
                let claim = keys.of_id(place, Kind::Claim, id);
                let record = keys.of_id(place, Kind::Record, id);
                let others = [Kind::Meta, Kind::Letters, Kind::LettersByEnd];
                for other in others.map(|kind| keys.of(place, kind)) {
                    assert_eq!(tag(&other), tag(&claim));
                    assert!(!seen.contains(&other));
                }
                assert_eq!(tag(&record), tag(&claim));
                assert!(seen.insert(claim) && seen.insert(record), "{namespace:?} {id:?}");
            }
        }
        assert_ne!(
            tag(&Keys::new("fs", "a").of(1, Kind::Meta)),
            tag(&Keys::new("fs", "b").of(1, Kind::Meta))
        );
    }

    /// An id that goes on as the keys of a namespace do that is called as this one's keys begin.
    #[test]
    fn a_namespace_cannot_be_taken_for_the_keys_of_another() {
        let (plain, hostile) = (Keys::new("fs", "a"), Keys::new("fs", "a:0}:c"));
        let mut tried = 0;
        for n in 0..1_000 {
            let inner = format!("x{n}");
            let place = partition(inner.as_bytes());
            let outer = format!("{place:x}}}:c:{inner}");
            if partition(outer.as_bytes()) == 0 {
                let key = plain.of_id(0, Kind::Claim, outer.as_bytes());
                assert_ne!(key, hostile.of_id(place, Kind::Claim, inner.as_bytes()));
                tried += 1;
            }
        }
        assert!(tried > 10);
    }

    #[test]
    fn ids_are_spread_over_all_partitions_and_stay_where_they_are() {
        let mut counts = [0; PARTITIONS];
        for n in 0..16_000 {
            counts[partition(format!("order-{n}").as_bytes())] += 1;
        }
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
        // Stored: another hash would look for claims where they are not.
        assert_eq!([b"a".as_slice(), b"order-17", b"\xff\0"].map(partition), [0, 8, 13]);
    }
}
