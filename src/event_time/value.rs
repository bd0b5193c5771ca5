//! The bytes of the rows of event time. Each begins with a version: a newer one is refused, and the row stays.
//!
//! | row | family | id | after the version |
//! |---|---|---|---|
//! | an id | events | the id | first event time, greatest minus that, end minus greatest plus one or 0 for never: varints |
//! | a watermark | watermarks | 0 | the watermark u64, the allowed lateness in ms as a varint |
//! | a source | watermarks | 1, its name | the greatest event time seen u64 |

use crate::codec::{Reader, Undecodable, put_varint, stored};
use crate::time::Timestamp;

const VERSION: u8 = 1;

/// First byte of the key of a source.
const SOURCE: u8 = 1;

/// What is remembered of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Remembered {
    /// The event time with which it was first seen.
    pub(super) first: Timestamp,
    /// The greatest event time seen for it.
    pub(super) greatest: Timestamp,
    /// The watermark that ends it.
    pub(super) end: Timestamp,
}

/// The watermark of a namespace as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoredWatermark {
    /// Zero: there is none yet.
    pub(super) watermark: u64,
    /// The allowed lateness by which ids have been ended so far.
    pub(super) lateness_ms: u64,
}

fn whole<T>(value: Option<T>, r: &Reader<'_>) -> Result<T, Undecodable> {
    value.filter(|_| r.is_empty()).ok_or(Undecodable::Damaged)
}

impl Remembered {
    pub(super) fn encode(&self) -> Vec<u8> {
        let (first, greatest) = (self.first.as_millis(), self.greatest.as_millis());
        let mut out = Vec::with_capacity(16);
        out.push(VERSION);
        put_varint(&mut out, first);
        put_varint(&mut out, greatest - first);
        let lives = match self.end {
            Timestamp::NEVER => 0,
            end => end.as_millis() - greatest + 1,
        };
        put_varint(&mut out, lives);
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Undecodable> {
        let mut r = stored(bytes, VERSION)?;
        let mut take = || {
            let first = r.varint()?;
            let greatest = first.checked_add(r.varint()?)?;
            let end = match r.varint()? {
                0 => u64::MAX,
                lives => greatest.checked_add(lives - 1)?,
            };
            let [first, greatest, end] = [first, greatest, end].map(Timestamp::from_millis);
            Some(Self { first, greatest, end })
        };
        let taken = take();
        whole(taken, &r)
    }
}

impl StoredWatermark {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.watermark.to_le_bytes());
        put_varint(&mut out, self.lateness_ms);
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Undecodable> {
        let mut r = stored(bytes, VERSION)?;
        let mut take = || Some(Self { watermark: r.u64()?, lateness_ms: r.varint()? });
        let taken = take();
        whole(taken, &r)
    }
}

/// Returns the key of the row of a source.
pub(super) fn source_id(name: &str) -> Vec<u8> {
    [&[SOURCE], name.as_bytes()].concat()
}

/// Returns the name of the source whose row has this key.
pub(super) fn source_of(id: &[u8]) -> Option<&str> {
    let (&SOURCE, name) = id.split_first()? else { return None };
    std::str::from_utf8(name).ok()
}

pub(super) fn encode_source(greatest: u64) -> Vec<u8> {
    let mut out = vec![VERSION];
    out.extend_from_slice(&greatest.to_le_bytes());
    out
}

pub(super) fn decode_source(bytes: &[u8]) -> Result<u64, Undecodable> {
    let mut r = stored(bytes, VERSION)?;
    let taken = r.u64();
    whole(taken, &r)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn values_come_back_as_they_were() {
        for end in [at(20), at(1 << 50), Timestamp::NEVER] {
            let value = Remembered { first: at(7), greatest: at(20), end };
            assert_eq!(Remembered::decode(&value.encode()), Ok(value));
        }
        let value = StoredWatermark { watermark: 1 << 40, lateness_ms: 5 };
        assert_eq!(StoredWatermark::decode(&value.encode()), Ok(value));
        assert_eq!(decode_source(&encode_source(77)), Ok(77));
        assert_eq!(source_of(&source_id("a")), Some("a"));
        assert_eq!(source_of(&[0]), None);
    }

    #[test]
    fn i11_newer_values_are_refused_and_damaged_ones_are_no_values() {
        let values = [
            Remembered { first: at(7), greatest: at(20), end: at(90) }.encode(),
            StoredWatermark { watermark: 1 << 40, lateness_ms: 5 }.encode(),
            encode_source(77),
        ];
        let decode = |n: usize, bytes: &[u8]| match n {
            0 => Remembered::decode(bytes).map(drop),
            1 => StoredWatermark::decode(bytes).map(drop),
            _ => decode_source(bytes).map(drop),
        };
        for (n, value) in values.iter().enumerate() {
            let newer = [&[VERSION + 1], &value[1..]].concat();
            assert_eq!(decode(n, &newer), Err(Undecodable::Newer(2)));
            assert_eq!(decode(n, &[&[0], &value[1..]].concat()), Err(Undecodable::Damaged));
            for cut in 0..value.len() {
                assert_eq!(
                    decode(n, &value[..cut]),
                    Err(Undecodable::Damaged),
                    "{cut} bytes of {n}"
                );
            }
            let longer = [value, &[0][..]].concat();
            assert_eq!(decode(n, &longer), Err(Undecodable::Damaged));
        }
    }
}
