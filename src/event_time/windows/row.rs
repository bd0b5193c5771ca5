//! The row of one key in one window, and that of the windows themselves.
//!
//! ```text
//! id     start of the window u64, big-endian, then the key
//! value  version u8 | flags u8 | revision varint | what was told | aggregate, to the end
//!        flags    1: the revision was told and is not acknowledged; 2: the aggregate has changed since it was told
//!        what was told, if both flags are set: length varint, bytes; with the first only it is the aggregate
//! ```
//!
//! The row of the windows has the id 0 and says: version u8, size, distance, registered number of the namespace of
//! the events as varints.

use crate::codec::{Reader, Undecodable, put_varint, stored};

const VERSION: u8 = 1;

const TOLD: u8 = 1;
const CHANGED: u8 = 2;

/// Key of the row that says which windows these are.
pub(super) const SETTINGS: &[u8] = &[0];

/// The bytes before the key in an id.
pub(super) const START_BYTES: usize = 8;

/// One key in one window.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Aggregate {
    /// The last revision that was told; zero: none.
    pub(super) revision: u32,
    /// What was told and is not acknowledged.
    pub(super) told: Option<Vec<u8>>,
    /// Whether `current` has changed since it was told.
    pub(super) is_changed: bool,
    pub(super) current: Vec<u8>,
}

/// What must be known of a row to find what is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) is_told: bool,
    pub(super) is_changed: bool,
}

impl Status {
    /// Takes the head of a value.
    pub(super) fn decode(value: &[u8]) -> Result<Self, Undecodable> {
        let flags = stored(value, VERSION)?.u8().filter(|flags| flags & !(TOLD | CHANGED) == 0);
        let flags = flags.ok_or(Undecodable::Damaged)?;
        Ok(Self { is_told: flags & TOLD != 0, is_changed: flags & CHANGED != 0 })
    }
}

impl Aggregate {
    pub(super) fn encode(&self) -> Vec<u8> {
        let flags = if self.told.is_some() { TOLD } else { 0 };
        let flags = flags | if self.is_changed { CHANGED } else { 0 };
        let mut out = vec![VERSION, flags];
        put_varint(&mut out, self.revision.into());
        if let Some(told) = self.told.as_ref().filter(|_| self.is_changed) {
            put_varint(&mut out, told.len() as u64);
            out.extend_from_slice(told);
        }
        out.extend_from_slice(&self.current);
        out
    }

    pub(super) fn decode(value: &[u8]) -> Result<Self, Undecodable> {
        let Status { is_told, is_changed } = Status::decode(value)?;
        let mut r = Reader::new(&value[2..]);
        let mut take = || {
            let revision = r.varint_u32()?;
            let told = if is_told && is_changed {
                let len = usize::try_from(r.varint()?).ok()?;
                Some(r.bytes(len)?.to_vec())
            } else {
                None
            };
            let current = r.rest().to_vec();
            let told = told.or_else(|| is_told.then(|| current.clone()));
            Some(Self { revision, told, is_changed, current })
        };
        take().ok_or(Undecodable::Damaged)
    }
}

/// Returns the id of a row.
pub(super) fn id_of(start_ms: u64, key: &[u8]) -> Vec<u8> {
    [&start_ms.to_be_bytes(), key].concat()
}

/// Returns the start of the window and the key of a row.
pub(super) fn parts_of(id: &[u8]) -> Option<(u64, &[u8])> {
    let (start, key) = id.split_first_chunk::<START_BYTES>()?;
    Some((u64::from_be_bytes(*start), key))
}

/// Which windows the rows belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) size_ms: u64,
    pub(super) every_ms: u64,
    /// The number with which the namespace of their events was registered.
    pub(super) events: u32,
}

impl Settings {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_varint(&mut out, self.size_ms);
        put_varint(&mut out, self.every_ms);
        put_varint(&mut out, self.events.into());
        out
    }

    pub(super) fn decode(value: &[u8]) -> Result<Self, Undecodable> {
        let mut r = stored(value, VERSION)?;
        let mut take = || {
            let (size_ms, every_ms, events) = (r.varint()?, r.varint()?, r.varint_u32()?);
            r.is_empty().then_some(Self { size_ms, every_ms, events })
        };
        take().ok_or(Undecodable::Damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_were() {
        let current = b"sum".to_vec();
        for told in [None, Some(b"before".to_vec())] {
            for is_changed in [false, true] {
                let told = told.clone().map(|told| if is_changed { told } else { current.clone() });
                let row = Aggregate { revision: 3, told, is_changed, current: current.clone() };
                let bytes = row.encode();
                assert_eq!(Aggregate::decode(&bytes), Ok(row.clone()));
                let status = Status { is_told: row.told.is_some(), is_changed };
                assert_eq!(Status::decode(&bytes), Ok(status));
            }
        }
        let settings = Settings { size_ms: 1 << 40, every_ms: 7, events: 9 };
        assert_eq!(Settings::decode(&settings.encode()), Ok(settings));
        assert_eq!(parts_of(&id_of(77, b"key")), Some((77, &b"key"[..])));
    }

    #[test]
    fn i11_newer_rows_are_refused_and_damaged_ones_are_no_rows() {
        assert_eq!(Status::decode(&[2, 0]), Err(Undecodable::Newer(2)));
        assert_eq!(Settings::decode(&[2]), Err(Undecodable::Newer(2)));
        for damaged in [&[][..], &[0, 0, 0], &[1], &[1, 4, 0], &[1, 3, 1, 9, b'x'], &[1, 0]] {
            assert_eq!(Aggregate::decode(damaged), Err(Undecodable::Damaged), "{damaged:?}");
        }
        let settings = Settings { size_ms: 1 << 40, every_ms: 7, events: 9 }.encode();
        for cut in 0..settings.len() {
            assert_eq!(Settings::decode(&settings[..cut]), Err(Undecodable::Damaged));
        }
    }
}
