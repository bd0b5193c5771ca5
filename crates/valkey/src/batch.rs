//! A batch of claims: each id once, and those of a partition in one call.

use crate::fault;
use crate::keys::{Keys, Kind, PARTITIONS, partition};
use crate::reply;
use crate::scripts::{CLAIM, Invocation};
use firstseen_shared::{Claim, Error, ErrorKind, Result, Timestamp};
use redis::Value;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// The calls for some ids, and which ids each is for.
pub(crate) struct Calls {
    pub(crate) calls: Vec<Invocation>,
    ids: Vec<Vec<usize>>,
}

/// Returns for each id the index of the first that is equal to it.
pub(crate) fn firsts(ids: &[&[u8]]) -> Vec<usize> {
    let mut seen = HashMap::with_capacity(ids.len());
    let first = |(index, id)| match seen.entry(id) {
        Entry::Occupied(first) => *first.get(),
        Entry::Vacant(new) => *new.insert(index),
    };
    ids.iter().copied().enumerate().map(first).collect()
}

impl Calls {
    /// Returns the calls for the ids at these indices, each for at most `ids_max` of them.
    pub(crate) fn new(
        keys: &Keys,
        ids: &[&[u8]],
        indices: &[usize],
        arguments: &[Vec<u8>],
        ids_max: usize,
    ) -> Self {
        let mut parts: [Vec<usize>; PARTITIONS] = Default::default();
        for &index in indices {
            parts[partition(ids[index])].push(index);
        }
        let mut made = Self { calls: Vec::new(), ids: Vec::new() };
        for (number, part) in parts.iter().enumerate() {
            for some in part.chunks(ids_max) {
                let mut names = vec![keys.of(number, Kind::Meta)];
                names.extend(some.iter().map(|&index| keys.of_id(number, Kind::Claim, ids[index])));
                made.calls.push(CLAIM.with(names, arguments.to_vec()));
                made.ids.push(some.to_vec());
            }
        }
        made
    }

    /// Writes the answers to the places of their ids.
    pub(crate) fn read(
        self,
        what: &'static str,
        answers: Vec<Value>,
        claims: &mut [Option<(Claim, Timestamp)>],
    ) -> Result<()> {
        for (ids, answer) in self.ids.into_iter().zip(answers) {
            let answer = reply::list(what, answer)?;
            if answer.len() != ids.len() {
                return Err(fault::strange(what));
            }
            for (index, answer) in ids.into_iter().zip(answer) {
                claims[index] = Some(claim_of(what, &answer)?);
            }
        }
        Ok(())
    }
}

/// Returns what a claim has become, and when it was made.
fn claim_of(what: &'static str, answer: &Value) -> Result<(Claim, Timestamp)> {
    let Ok(number) = u64::try_from(reply::int(what, answer)?) else {
        let why = "what is stored of an id of this call is no claim: look at it, and forget it";
        return Err(Error::new(ErrorKind::Damaged, what, why));
    };
    let first_seen = Timestamp::from_millis(number / 2);
    let claim = match number % 2 {
        1 => Claim::FirstSeen,
        _ => Claim::Duplicate { first_seen },
    };
    Ok((claim, first_seen))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_ids_are_asked_for_once() {
        let ids: [&[u8]; 5] = [b"a", b"b", b"a", b"c", b"b"];
        assert_eq!(firsts(&ids), [0, 1, 0, 3, 1]);
    }

    #[test]
    fn each_id_is_in_one_call_of_its_partition_and_calls_are_short() {
        let names: Vec<String> = (0..10_000).map(|n| format!("order-{n}")).collect();
        let ids: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
        let keys = Keys::new("fs", "orders");
        let indices: Vec<usize> = (0..ids.len()).collect();
        let calls = Calls::new(&keys, &ids, &indices, &[], 100);
        let mut seen = vec![false; ids.len()];
        for (call, some) in calls.calls.iter().zip(&calls.ids) {
            assert_eq!(call.keys.len(), some.len() + 1);
            assert!(some.len() <= 100);
            for (&index, key) in some.iter().zip(&call.keys[1..]) {
                assert!(!std::mem::replace(&mut seen[index], true));
                assert_eq!(key, &keys.of_id(partition(ids[index]), Kind::Claim, ids[index]));
                assert_eq!(call.keys[0], keys.of(partition(ids[index]), Kind::Meta));
            }
        }
        assert!(seen.into_iter().all(|is_seen| is_seen));
    }
}
