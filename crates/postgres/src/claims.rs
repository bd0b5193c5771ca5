//! Claims: a batch is one statement.

use crate::check::{check_id, check_namespace, ttl_ms};
use crate::connections::Param;
use crate::error::damaged;
use crate::store::Own;
use firstseen_shared::{Call, Claim, Result, Timestamp, Ttl};
use std::collections::HashMap;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

pub(crate) const WHAT: &str = "claim";

/// The most ids of one statement. A longer batch is several: it is no transaction.
pub(crate) const STATEMENT_IDS_MAX: usize = 10_000;

/// The ids of a batch, each once: a statement cannot write a row twice.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    pub(crate) distinct: Vec<&'a [u8]>,
    /// For each id of the batch its place among the distinct ones, and whether it was there before.
    places: Vec<(usize, bool)>,
}

/// What became of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    is_first: bool,
    first_seen: Timestamp,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(ids: &[&'a [u8]]) -> Result<Self> {
        let mut batch = Self { distinct: Vec::new(), places: Vec::with_capacity(ids.len()) };
        let mut known: HashMap<&[u8], usize> = HashMap::with_capacity(ids.len());
        for id in ids {
            check_id(WHAT, id)?;
            let next = batch.distinct.len();
            let place = *known.entry(id).or_insert(next);
            if place == next {
                batch.distinct.push(id);
            }
            batch.places.push((place, place != next));
        }
        Ok(batch)
    }

    /// Returns the answers for all ids of the batch. Of two equal ones the second is a duplicate.
    pub(crate) fn claims(&self, answers: &[Answer]) -> Result<Vec<Claim>> {
        if answers.len() != self.distinct.len() {
            return Err(damaged(WHAT, "the server answered for another number of ids"));
        }
        let claim = |&(place, is_again): &(usize, bool)| match answers[place] {
            Answer { is_first: true, .. } if !is_again => Claim::FirstSeen,
            Answer { first_seen, .. } => Claim::Duplicate { first_seen },
        };
        Ok(self.places.iter().map(claim).collect())
    }
}

/// What a claim says besides its ids.
#[derive(Debug)]
pub(crate) struct Claiming<'a> {
    namespace: &'a [u8],
    ttl_ms: Option<i64>,
    call: Vec<u8>,
}

impl<'a> Claiming<'a> {
    pub(crate) fn new(namespace: &'a str, ttl: Ttl, call: Call) -> Result<Self> {
        check_namespace(WHAT, namespace)?;
        let (ttl_ms, call) = (ttl_ms(WHAT, ttl)?, call.as_bytes().to_vec());
        Ok(Self { namespace: namespace.as_bytes(), ttl_ms, call })
    }

    pub(crate) fn params<'p>(&'p self, ids: &'p &'p [&'p [u8]], own: &'p Own) -> [Param<'p>; 6] {
        [
            (&self.namespace, Type::BYTEA),
            (ids, Type::BYTEA_ARRAY),
            (&self.ttl_ms, Type::INT8),
            (&self.call, Type::BYTEA),
            (&own.lock_ms, Type::INT4),
            (&own.is_relaxed, Type::BOOL),
        ]
    }
}

/// Reads the answers for `count` distinct ids.
pub(crate) fn answers(rows: &[Row], count: usize) -> Result<Vec<Answer>> {
    let unclear = || damaged(WHAT, "the server's answer does not fit the ids");
    let [row] = rows else { return Err(unclear()) };
    let read = |error: tokio_postgres::Error| damaged(WHAT, error.to_string());
    let places: Option<Vec<i64>> = row.try_get("places").map_err(read)?;
    let seen: Option<Vec<i64>> = row.try_get("seen").map_err(read)?;
    let own: Option<Vec<bool>> = row.try_get("own").map_err(read)?;
    let made: i64 = row.try_get("made").map_err(read)?;
    let (places, seen, own) =
        (places.unwrap_or_default(), seen.unwrap_or_default(), own.unwrap_or_default());
    if places.len() != seen.len() || places.len() != own.len() {
        return Err(unclear());
    }
    let mut answers = vec![Answer { is_first: true, first_seen: timestamp(made) }; count];
    for (place, (seen, is_own)) in places.into_iter().zip(seen.into_iter().zip(own)) {
        let place = usize::try_from(place).ok().and_then(|place| place.checked_sub(1));
        let answer = place.and_then(|place| answers.get_mut(place)).ok_or_else(unclear)?;
        *answer = Answer { is_first: is_own, first_seen: timestamp(seen) };
    }
    Ok(answers)
}

/// Returns a time of the server.
pub(crate) fn timestamp(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms.max(0).cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equal_ids_the_second_is_a_duplicate_of_the_first() {
        let batch = Batch::new(&[b"b", b"a", b"b", b"c", b"a"]).unwrap();
        assert_eq!(batch.distinct, [b"b", b"a", b"c"]);
        let at = |ms| Answer { is_first: ms > 5, first_seen: Timestamp::from_millis(ms) };
        let duplicate = |ms| Claim::Duplicate { first_seen: Timestamp::from_millis(ms) };
        assert_eq!(
            batch.claims(&[at(9), at(3), at(9)]).unwrap(),
            [Claim::FirstSeen, duplicate(3), duplicate(9), Claim::FirstSeen, duplicate(3)]
        );
        assert!(batch.claims(&[at(9)]).is_err());
    }
}
