//! What transactions have to do, in plain maps.

use firstseen::transaction::EndOutcome;
use std::collections::{BTreeMap, BTreeSet};

/// How many kinds of writes a model rolls: a check, a delete, and puts.
pub(crate) const WRITES: u64 = 6;

/// What is put, whether the key is only checked, and the version that is expected, if one is.
type Write = (Option<Vec<u8>>, bool, Option<Option<u64>>);

/// What a transaction is to do.
#[derive(Debug, Clone, Default)]
pub(crate) struct Effects {
    pub(crate) claims: Vec<String>,
    pub(crate) writes: BTreeMap<String, Write>,
    pub(crate) offset: Option<(u32, u64)>,
    pub(crate) message: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// All reasons, sorted.
    Rejected(Vec<String>),
}

#[derive(Debug, Clone)]
enum Prepared {
    InDoubt(Effects),
    Ended { is_committed: bool },
}

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) claims: BTreeSet<String>,
    pub(crate) table: BTreeMap<String, (Vec<u8>, u64)>,
    pub(crate) offsets: BTreeMap<u32, u64>,
    pub(crate) messages: Vec<String>,
    prepared: BTreeMap<String, Prepared>,
    /// The highest version that was told.
    highest: u64,
}

impl Oracle {
    pub(crate) fn version(&self, key: &str) -> Option<u64> {
        self.table.get(key).map(|(_, version)| *version)
    }

    pub(crate) fn commit(&mut self, effects: &Effects) -> Outcome {
        let reasons = self.reasons(effects);
        if !reasons.is_empty() {
            return Outcome::Rejected(reasons);
        }
        self.apply(effects);
        Outcome::Done
    }

    pub(crate) fn prepare(&mut self, gid: &str, effects: &Effects) -> Outcome {
        let mut reasons = self.reasons(effects);
        if self.prepared.contains_key(gid) {
            reasons.push("name".to_owned());
        }
        if !reasons.is_empty() {
            return Outcome::Rejected(reasons);
        }
        self.prepared.insert(gid.to_owned(), Prepared::InDoubt(effects.clone()));
        Outcome::Done
    }

    pub(crate) fn end(&mut self, gid: &str, commits: bool) -> (EndOutcome, Effects) {
        let outcome = match self.prepared.get(gid).cloned() {
            None => EndOutcome::Unknown,
            Some(Prepared::Ended { is_committed }) if is_committed == commits => {
                EndOutcome::AlreadyDone
            }
            Some(Prepared::Ended { .. }) => EndOutcome::EndedOtherwise,
            Some(Prepared::InDoubt(effects)) => {
                let ended = Prepared::Ended { is_committed: commits };
                self.prepared.insert(gid.to_owned(), ended);
                if commits {
                    self.apply(&effects);
                }
                return (EndOutcome::Done, effects);
            }
        };
        (outcome, Effects::default())
    }

    pub(crate) fn in_doubt(&self) -> Vec<String> {
        let is_in_doubt = |p: &Prepared| matches!(p, Prepared::InDoubt(_));
        self.prepared.iter().filter(|(_, p)| is_in_doubt(p)).map(|(gid, _)| gid.clone()).collect()
    }

    /// Notes the version of what was put, which must be a new one.
    pub(crate) fn learn(&mut self, key: &str, version: u64) -> Result<(), String> {
        let Some((_, known)) = self.table.get_mut(key) else { return Ok(()) };
        if version <= *known {
            return Err(format!("{key} has version {version} after {known}"));
        }
        *known = version;
        self.highest = self.highest.max(version);
        Ok(())
    }

    fn reasons(&self, effects: &Effects) -> Vec<String> {
        let mut reasons = Vec::new();
        for id in effects.claims.iter().filter(|id| self.claims.contains(*id)) {
            reasons.push(format!("duplicate {id}"));
        }
        for (key, (.., expected)) in &effects.writes {
            let found = self.version(key);
            if expected.is_some_and(|expected| expected != found) {
                reasons.push(format!("moved {key} {found:?}"));
            }
        }
        if let Some((partition, next)) = effects.offset
            && self.offsets.get(&partition).is_some_and(|stored| *stored > next)
        {
            reasons.push(format!("back {partition}"));
        }
        for prepared in self.prepared.values() {
            let Prepared::InDoubt(held) = prepared else { continue };
            let ids = effects.claims.iter().filter(|id| held.claims.contains(id));
            let keys = effects.writes.keys().filter(|key| held.writes.contains_key(*key));
            reasons.extend(ids.chain(keys).map(|name| format!("in doubt {name}")));
            if let (Some((own, _)), Some((others, _))) = (effects.offset, held.offset)
                && own == others
            {
                let partition = own.to_be_bytes();
                reasons.push(format!("in doubt {}", String::from_utf8_lossy(&partition)));
            }
        }
        reasons.sort();
        reasons
    }

    fn apply(&mut self, effects: &Effects) {
        self.claims.extend(effects.claims.iter().cloned());
        for (key, (put, keeps, _)) in &effects.writes {
            match put {
                Some(value) => {
                    let before = self.version(key).unwrap_or(0);
                    self.table.insert(key.clone(), (value.clone(), before));
                }
                None if *keeps => {}
                None => _ = self.table.remove(key),
            }
        }
        if let Some((partition, next)) = effects.offset {
            self.offsets.insert(partition, next);
        }
        self.messages.extend(effects.message.clone());
    }
}
