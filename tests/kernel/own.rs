//! Ids that only one thread claims and forgets: the order of its calls is known, and so is each result.

use crate::report::Verdict;
use crate::wire::{Answer, Refusal, Verb};
use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    No,
    Yes,
    /// A call about it never returned.
    Either,
}

#[derive(Debug, Default)]
pub(crate) struct Own(BTreeMap<u64, Presence>);

impl Own {
    /// A call without a result: it may or may not have taken effect.
    pub(crate) fn unanswered(&mut self, verb: Verb, ids: &[u64]) {
        if matches!(verb, Verb::Claim | Verb::Confirm | Verb::Forget) {
            self.0.extend(ids.iter().map(|id| (*id, Presence::Either)));
        }
    }

    pub(crate) fn answered(&mut self, verb: Verb, id: u64, answer: Answer) -> Verdict {
        let before = self.0.get(&id).copied().unwrap_or(Presence::No);
        let (was, is) = match (verb, answer) {
            (Verb::Claim, Answer::First) => (Presence::No, Presence::Yes),
            (Verb::Claim, Answer::Duplicate(_)) | (Verb::Contains, Answer::Yes) => {
                (Presence::Yes, Presence::Yes)
            }
            (Verb::Forget, Answer::Yes) => (Presence::Yes, Presence::No),
            (Verb::Forget | Verb::Contains, Answer::No) => (Presence::No, Presence::No),
            _ => return Err("this is no answer to this question".to_owned()),
        };
        if before != was && before != Presence::Either {
            let what = if was == Presence::No { "lost or granted twice" } else { "swallowed" };
            return Err(format!("{what}: it was {before:?}"));
        }
        self.0.insert(id, is);
        Ok(())
    }

    /// Looks up every id in a reopened store; returns those that are lost.
    pub(crate) fn ask(&self, contains: impl Fn(u64) -> Result<bool, Refusal>) -> Verdict<Vec<u64>> {
        let mut lost = Vec::new();
        for (id, presence) in &self.0 {
            match (contains(*id).map_err(|e| format!("a question failed: {e}"))?, presence) {
                (false, Presence::Yes) => lost.push(*id),
                (true, Presence::No) => {
                    return Err(format!("own id {id} was forgotten, and is there again"));
                }
                _ => {}
            }
        }
        Ok(lost)
    }
}
