//! The row of a transaction of two phases: how far it has come, and what it will write.
//!
//! ```text
//! version u8 | state u8 | since | claims | rows     the last two of one in doubt only
//! claims: count, and each: namespace, length, id, ttl in ms or 0 for never
//! rows:   count, and each: namespace, length, id, change u8, quiet u8, ttl,
//!         for a row that ends by event time its end, length, value
//! ```
//!
//! Integers are varints unless noted.

use crate::codec::{Reader, Undecodable, put_bytes, put_varint, stored};
use crate::engine::write::write_set::{Expect, OwnedRow, RowChange, WriteSet};
use crate::error::Result;
use crate::id::{Key, NsId};
use crate::time::{Timestamp, Ttl};
use std::path::Path;

/// How far a transaction of two phases has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PreparedState {
    /// It holds its ids and rows until it is committed or rolled back.
    InDoubt,
    /// It was committed.
    Committed,
    /// It was rolled back.
    RolledBack,
}

/// The row of a transaction of two phases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prepared {
    pub(crate) state: PreparedState,
    /// When it was prepared.
    pub(crate) since: Timestamp,
    /// What it will write; nothing once it has ended.
    pub(crate) intent: Intent,
}

/// What a prepared transaction will write. Expectations are met: what is held does not move.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Intent {
    pub(crate) claims: Vec<IntendedClaim>,
    pub(crate) rows: Vec<OwnedRow>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IntendedClaim {
    pub(crate) ns: NsId,
    pub(crate) id: Vec<u8>,
    pub(crate) ttl: Ttl,
}

impl IntendedClaim {
    pub(crate) fn key(&self) -> Key<'_> {
        Key { ns: self.ns, id: &self.id }
    }
}

impl Intent {
    pub(crate) fn of(set: &WriteSet<'_>) -> Self {
        let claims = set.claims.iter().map(|claim| IntendedClaim {
            ns: claim.key.ns,
            id: claim.key.id.to_vec(),
            ttl: claim.ttl,
        });
        let rows = set.rows.iter().map(|row| OwnedRow {
            ns: row.key.ns,
            id: row.key.id.to_vec(),
            change: match row.change {
                RowChange::Put(value) => RowChange::Put(value.to_vec()),
                RowChange::PutUntil(value, end) => RowChange::PutUntil(value.to_vec(), end),
                RowChange::Delete => RowChange::Delete,
                RowChange::Keep => RowChange::Keep,
            },
            ttl: row.ttl,
            expect: Expect::Anything,
            is_quiet: row.is_quiet,
        });
        Self { claims: claims.collect(), rows: rows.collect() }
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = Key<'_>> {
        let claims = self.claims.iter().map(IntendedClaim::key);
        claims.chain(self.rows.iter().map(OwnedRow::key))
    }
}

const VERSION: u8 = 1;

const IN_DOUBT: u8 = 1;
const COMMITTED: u8 = 2;
const ROLLED_BACK: u8 = 3;

const KEEP: u8 = 0;
const PUT: u8 = 1;
const DELETE: u8 = 2;
const PUT_UNTIL: u8 = 3;

impl Prepared {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let state = match self.state {
            PreparedState::InDoubt => IN_DOUBT,
            PreparedState::Committed => COMMITTED,
            PreparedState::RolledBack => ROLLED_BACK,
        };
        let mut out = vec![VERSION, state];
        put_varint(&mut out, self.since.as_millis());
        let Intent { claims, rows } = &self.intent;
        put_varint(&mut out, claims.len() as u64);
        for claim in claims {
            put_key(&mut out, claim.key());
            put_ttl(&mut out, claim.ttl);
        }
        put_varint(&mut out, rows.len() as u64);
        for row in rows {
            put_key(&mut out, row.key());
            let (tag, value) = match &row.change {
                RowChange::Keep => (KEEP, &[][..]),
                RowChange::Put(value) => (PUT, &value[..]),
                RowChange::PutUntil(value, _) => (PUT_UNTIL, &value[..]),
                RowChange::Delete => (DELETE, &[][..]),
            };
            out.extend_from_slice(&[tag, u8::from(row.is_quiet)]);
            put_ttl(&mut out, row.ttl);
            if let RowChange::PutUntil(_, end) = row.change {
                put_varint(&mut out, end.as_millis());
            }
            put_bytes(&mut out, value);
        }
        out
    }

    /// Decodes the row of this transaction in the store of this folder.
    pub(crate) fn decode(dir: &Path, gid: &[u8], bytes: &[u8]) -> Result<Self> {
        let taken = stored(bytes, VERSION)
            .and_then(|mut r| take_prepared(&mut r).ok_or(Undecodable::Damaged));
        taken.map_err(|why| {
            let gid = gid.escape_ascii();
            why.error(dir, VERSION, format!("the prepared transaction {gid} cannot be decoded"))
        })
    }
}

/// Decodes bytes as the row of a prepared transaction. What is one has a form that comes back.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_prepared(data: &[u8]) {
    let decode = |bytes: &[u8]| Prepared::decode(Path::new("fuzz"), b"gid", bytes);
    if let Ok(prepared) = decode(data) {
        let again = decode(&prepared.encode()).expect("it was just encoded");
        assert_eq!(again, prepared);
    }
}

fn put_key(out: &mut Vec<u8>, key: Key<'_>) {
    put_varint(out, key.ns.0.into());
    put_bytes(out, key.id);
}

fn put_ttl(out: &mut Vec<u8>, ttl: Ttl) {
    put_varint(out, ttl.as_millis().unwrap_or(0));
}

fn take_prepared(r: &mut Reader<'_>) -> Option<Prepared> {
    let state = match r.u8()? {
        IN_DOUBT => PreparedState::InDoubt,
        COMMITTED => PreparedState::Committed,
        ROLLED_BACK => PreparedState::RolledBack,
        _ => return None,
    };
    let since = Timestamp::from_millis(r.varint()?);
    let mut intent = Intent::default();
    for _ in 0..r.varint()? {
        let (ns, id) = take_key(r)?;
        intent.claims.push(IntendedClaim { ns, id, ttl: take_ttl(r)? });
    }
    for _ in 0..r.varint()? {
        intent.rows.push(take_row(r)?);
    }
    r.is_empty().then_some(Prepared { state, since, intent })
}

fn take_row(r: &mut Reader<'_>) -> Option<OwnedRow> {
    let (ns, id) = take_key(r)?;
    let tag = r.u8()?;
    let is_quiet = match r.u8()? {
        0 => false,
        1 => true,
        _ => return None,
    };
    let ttl = take_ttl(r)?;
    let end = if tag == PUT_UNTIL { Some(Timestamp::from_millis(r.varint()?)) } else { None };
    let value = r.sized()?.to_vec();
    let change = match tag {
        PUT => RowChange::Put(value),
        PUT_UNTIL => RowChange::PutUntil(value, end?),
        KEEP if value.is_empty() => RowChange::Keep,
        DELETE if value.is_empty() => RowChange::Delete,
        _ => return None,
    };
    Some(OwnedRow { ns, id, change, ttl, expect: Expect::Anything, is_quiet })
}

fn take_key(r: &mut Reader<'_>) -> Option<(NsId, Vec<u8>)> {
    Some((NsId(r.varint_u32()?), r.sized()?.to_vec()))
}

fn take_ttl(r: &mut Reader<'_>) -> Option<Ttl> {
    let ms = r.varint()?;
    Some(if ms == 0 { Ttl::FOREVER } else { Ttl::from_millis(ms) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Prepared {
        let row = |id: &[u8], change, ttl| OwnedRow {
            ns: NsId(7),
            id: id.to_vec(),
            change,
            ttl,
            expect: Expect::Anything,
            is_quiet: id == b"b",
        };
        let claims = vec![
            IntendedClaim { ns: NsId(3), id: b"one".to_vec(), ttl: Ttl::FOREVER },
            IntendedClaim { ns: NsId(1 << 31), id: vec![7; 32], ttl: Ttl::from_millis(9) },
        ];
        let rows = vec![
            row(b"a", RowChange::Put(Vec::new()), Ttl::FOREVER),
            row(b"b", RowChange::Put(b"value".to_vec()), Ttl::from_millis(5)),
            row(b"c", RowChange::Delete, Ttl::FOREVER),
            row(b"d", RowChange::Keep, Ttl::FOREVER),
        ];
        let (state, since) = (PreparedState::InDoubt, Timestamp::from_millis(1_700_000_000_000));
        Prepared { state, since, intent: Intent { claims, rows } }
    }

    #[test]
    fn what_is_prepared_comes_back() {
        let ended = |state| Prepared { state, intent: Intent::default(), ..full() };
        for prepared in [full(), ended(PreparedState::Committed), ended(PreparedState::RolledBack)]
        {
            let read = Prepared::decode(Path::new("x"), b"gid", &prepared.encode());
            assert_eq!(read.expect("is good"), prepared);
        }
    }

    #[test]
    fn i11_half_of_it_or_a_newer_one_is_an_error() {
        let good = full().encode();
        let kind = |bytes: &[u8]| {
            Prepared::decode(Path::new("x"), b"gid", bytes).map_err(|error| error.kind())
        };
        for len in 0..good.len() {
            assert_eq!(kind(&good[..len]), Err(crate::ErrorKind::Repair), "{len} bytes");
        }
        assert_eq!(kind(&[&good[..], &[0]].concat()), Err(crate::ErrorKind::Repair));
        let newer = [&[VERSION + 1], &good[1..]].concat();
        assert_eq!(kind(&newer), Err(crate::ErrorKind::FixCall));
    }
}
