//! The oracle: which results are possible, given the earlier ones. It is in the parent, independent of the store.
//!
//! A call took effect at some moment between its start and its return. Only what no such order explains is a failure,
//! of one of three kinds:
//!
//! - **lost**: an acknowledged and live claim is not there;
//! - **twice**: an id is granted although a grant of it is known and live;
//! - **swallowed**: an id is reported as a duplicate although nothing can have claimed it, so its event is lost.

use crate::own::Own;
use crate::report::Verdict;
use crate::subject::SHORT_MS;
use crate::wire::{Answer, Event, Family, Level, Question, Refusal, Verb};
use std::collections::HashMap;

const NEVER: u64 = u64::MAX;

/// What ends a life of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The process is killed: everything acknowledged survives.
    Kill,
    /// The power fails: everything acknowledged at `Disk`, or before a sync, survives.
    PowerCut,
}

/// A claim that was requested: it may have been made between `from_us` and `to_us`.
#[derive(Debug, Clone, Copy)]
struct Attempt {
    from_us: u64,
    to_us: u64,
}

/// A result that proves a claim: it exists from `known_us` on, at least until `until_ms`.
#[derive(Debug, Clone, Copy)]
struct Proof {
    known_us: u64,
    until_ms: u64,
    /// It survives a power cut.
    safe: bool,
    /// The thread that was answered.
    thread: u64,
}

#[derive(Debug, Default)]
struct Known {
    attempts: Vec<Attempt>,
    proofs: Vec<Proof>,
    /// Grants of this life of the store: start and end of each call.
    grants: Vec<(u64, u64)>,
}

#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) granted: u64,
    pub(crate) duplicates: u64,
    pub(crate) in_flight: u64,
    /// Threads that were inside of a claim at `Process` when a life of the store ended.
    pub(crate) cut_off: u64,
    /// Lives that ended with two or more of them.
    pub(crate) ends_in_many: u64,
    pub(crate) refused: u64,
    pub(crate) read_while_full: u64,
    /// Syncs and calls at `Disk` that returned after the power was cut.
    pub(crate) too_late: u64,
}

pub(crate) type Key = (Family, u64);

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    known: HashMap<Key, Known>,
    own: Own,
    pending: HashMap<u64, (u64, Question)>,
    /// Proofs that the next sync makes safe.
    unsynced: Vec<(Key, u64)>,
    full: bool,
    cut_us: Option<u64>,
    /// The thread whose answer is judged.
    speaker: u64,
    /// The id of the last failure.
    pub(crate) wrong: Option<Key>,
    /// The greatest id that was asked for without ttl.
    pub(crate) greatest: u64,
    pub(crate) counts: Counts,
}

fn ms(us: u64) -> u64 {
    us / 1000
}

fn until(family: Family, from_ms: u64) -> u64 {
    if family == Family::Short { from_ms + SHORT_MS } else { NEVER }
}

fn ends(family: Family, attempt: Attempt) -> u64 {
    if attempt.to_us == NEVER { NEVER } else { until(family, ms(attempt.to_us)) }
}

impl Oracle {
    pub(crate) fn hear(&mut self, event: &Event) -> Verdict {
        match event {
            Event::Asked { thread, at_us, question } => {
                if matches!(question.verb, Verb::Claim | Verb::Confirm) {
                    for id in question.ids.iter().filter(|_| question.family != Family::Own) {
                        let attempt = Attempt { from_us: *at_us, to_us: NEVER };
                        self.greatest = self.greatest.max(*id);
                        let known = self.known.entry((question.family, *id)).or_default();
                        known.attempts.push(attempt);
                    }
                }
                self.pending.insert(*thread, (*at_us, question.clone()));
                Ok(())
            }
            Event::Answered { thread, at_us, answers } => {
                let asked = self.pending.remove(thread).ok_or("an answer without a question")?;
                let (from_us, question) = asked;
                self.speaker = *thread;
                match answers {
                    Ok(answers) => self.answered(&question, from_us, *at_us, answers),
                    Err(refusal) => self.refused(&question, from_us, *at_us, refusal),
                }
            }
            Event::Note(_) => Ok(()),
        }
    }

    fn refused(&mut self, question: &Question, from_us: u64, to_us: u64, why: &Refusal) -> Verdict {
        match why {
            Refusal::Full | Refusal::Retry => {
                if *why == Refusal::Full {
                    self.full = true;
                    if matches!(question.verb, Verb::Contains | Verb::Sync) {
                        return Err(format!("a full disk refused {question:?} (I7)"));
                    }
                }
                self.counts.refused += question.ids.len() as u64;
                self.settle(question, from_us, None);
                Ok(())
            }
            // Only a disk failure stops a store.
            Refusal::Stopped(why) if self.cut_us.is_none() => {
                Err(format!("the store has stopped by itself: {why} ({question:?})"))
            }
            Refusal::Stopped(_) => {
                self.unanswered(question, from_us, to_us);
                Ok(())
            }
            // Nor can the disk be read: a lookup that needs a file fails.
            Refusal::Other(_) if self.cut_us.is_some() => {
                self.unanswered(question, from_us, to_us);
                Ok(())
            }
            other => Err(format!("an error that nobody gave cause for: {other} ({question:?})")),
        }
    }

    /// A call whose result never arrived: it may or may not have taken effect.
    fn unanswered(&mut self, question: &Question, from_us: u64, to_us: u64) {
        self.counts.in_flight += question.ids.len() as u64;
        match (question.family, question.verb) {
            (Family::Own, verb) => self.own.unanswered(verb, &question.ids),
            _ => self.settle(question, from_us, Some(to_us)),
        }
    }

    /// Ends the attempts of a call: they were made by `to_us`, or not at all.
    fn settle(&mut self, question: &Question, from_us: u64, to_us: Option<u64>) {
        if !matches!(question.verb, Verb::Claim | Verb::Confirm) {
            return;
        }
        for id in &question.ids {
            let Some(known) = self.known.get_mut(&(question.family, *id)) else { continue };
            let open = |a: &Attempt| a.from_us == from_us && a.to_us == NEVER;
            let Some(at) = known.attempts.iter().position(open) else { continue };
            match to_us {
                Some(to_us) => known.attempts[at].to_us = to_us,
                None => drop(known.attempts.swap_remove(at)),
            }
        }
    }

    fn answered(
        &mut self,
        question: &Question,
        from_us: u64,
        to_us: u64,
        answers: &[Answer],
    ) -> Verdict {
        if question.verb == Verb::Sync {
            if self.is_believed(to_us) {
                self.synced(from_us);
            }
            return Ok(());
        }
        if answers.len() != question.ids.len() {
            return Err(format!("{} answers to {question:?}", answers.len()));
        }
        for (id, answer) in question.ids.iter().zip(answers) {
            let one = Question { ids: vec![*id], ..question.clone() };
            let judged = if question.family == Family::Own {
                if !self.is_believed(to_us) {
                    self.own.unanswered(one.verb, &one.ids);
                    continue;
                }
                self.counts.granted += u64::from(*answer == Answer::First);
                self.own.answered(one.verb, *id, *answer)
            } else {
                self.one_answered(&one, (question.family, *id), (from_us, to_us), *answer)
            };
            if let Err(what) = judged {
                let key = (question.family, *id);
                self.wrong = Some(key);
                let (verb, level, many) = (question.verb, question.level, answers.len());
                return Err(format!(
                    "{what}: {verb:?} of {many} at {level:?} by thread {}, asked at {from_us}, answered at {to_us} \
                     with {answer:?}; {}",
                    self.speaker,
                    self.tell(key)
                ));
            }
        }
        Ok(())
    }

    fn one_answered(
        &mut self,
        question: &Question,
        key: Key,
        (from_us, to_us): (u64, u64),
        answer: Answer,
    ) -> Verdict {
        let safe = question.level == Level::Disk && self.is_believed(to_us);
        match (question.verb, answer) {
            (Verb::Claim | Verb::Confirm, Answer::First) => {
                self.counts.granted += 1;
                self.settle(question, from_us, Some(to_us));
                self.grant(key, from_us, to_us, safe)
            }
            (_, Answer::Duplicate(first_ms)) => {
                self.counts.duplicates += 1;
                self.settle(question, from_us, None);
                if !self.may_be_there(key, from_us) {
                    return Err("swallowed: nobody can have claimed it".to_owned());
                }
                let until_ms = until(key.0, first_ms);
                let thread = self.speaker;
                self.prove(key, Proof { known_us: to_us, until_ms, safe, thread })
            }
            (Verb::Contains, Answer::Yes) => {
                self.counts.read_while_full += u64::from(self.full);
                if self.may_be_there(key, from_us) { Ok(()) } else { Err("swallowed".to_owned()) }
            }
            (Verb::Contains, Answer::No) => {
                self.counts.read_while_full += u64::from(self.full);
                if self.must_be_there(key, from_us, to_us) {
                    Err("lost".to_owned())
                } else {
                    Ok(())
                }
            }
            // A reservation is not yet a claim.
            (Verb::Reserve, Answer::First | Answer::InProgress) => Ok(()),
            _ => Err("this is no answer to this question".to_owned()),
        }
    }

    fn grant(&mut self, key: Key, from_us: u64, to_us: u64, safe: bool) -> Verdict {
        if self.must_be_there(key, from_us, to_us) {
            return Err("twice: granted while a claim of it was known and live".to_owned());
        }
        let known = self.known.entry(key).or_default();
        for (other_from, other_to) in &known.grants {
            let (first, last) = (from_us.min(*other_from), to_us.max(*other_to));
            if ms(last) < until(key.0, ms(first)) {
                return Err("twice: granted to two within one life".to_owned());
            }
        }
        known.grants.push((from_us, to_us));
        let until_ms = until(key.0, ms(from_us));
        self.prove(key, Proof { known_us: to_us, until_ms, safe, thread: self.speaker })
    }

    fn prove(&mut self, key: Key, proof: Proof) -> Verdict {
        let known = self.known.entry(key).or_default();
        // Threads report in no order: a grant that started after this proof may have been reported before it.
        let later = |grant: &&(u64, u64)| proof.known_us < grant.0 && ms(grant.1) < proof.until_ms;
        if let Some(grant) = known.grants.iter().find(later) {
            return Err(format!("twice: it was granted at {} after this answer", grant.0));
        }
        let covered = |own: &Proof| {
            own.until_ms >= proof.until_ms
                && own.known_us <= proof.known_us
                && own.safe >= proof.safe
        };
        if known.proofs.iter().any(covered) {
            return Ok(());
        }
        // Long expired claims can no longer be lost.
        let old = ms(proof.known_us).saturating_sub(10 * SHORT_MS);
        known.proofs.retain(|own| own.until_ms > old);
        known.attempts.retain(|own| ends(key.0, *own) > old);
        known.grants.retain(|own| until(key.0, ms(own.1)) > old);
        known.proofs.push(proof);
        if !proof.safe {
            self.unsynced.push((key, proof.known_us));
        }
        Ok(())
    }

    /// The power is about to be cut.
    pub(crate) fn power_goes(&mut self, now_us: u64) {
        self.cut_us = Some(now_us);
    }

    /// Whether a result at `to_us` can be about the disk. Once the power is cut no result counts, but the kernel still
    /// returns some: an `fdatasync` under way while ext4 shuts down may succeed although its journal was aborted.
    fn is_believed(&mut self, to_us: u64) -> bool {
        let in_time = self.cut_us.is_none_or(|cut_us| to_us < cut_us);
        self.counts.too_late += u64::from(!in_time);
        in_time
    }

    /// A sync that started at `from_us` was acknowledged.
    fn synced(&mut self, from_us: u64) {
        let known = &mut self.known;
        self.unsynced.retain(|(key, known_us)| {
            let covered = *known_us < from_us;
            if covered && let Some(known) = known.get_mut(key) {
                let same = known.proofs.iter_mut().filter(|proof| proof.known_us == *known_us);
                same.for_each(|proof| proof.safe = true);
            }
            !covered
        });
    }

    /// Whether a lookup between `from_us` and `to_us` must find the id.
    fn must_be_there(&self, key: Key, from_us: u64, to_us: u64) -> bool {
        let known = self.known.get(&key);
        known.is_some_and(|known| {
            let live = |proof: &Proof| proof.known_us < from_us && ms(to_us) < proof.until_ms;
            known.proofs.iter().any(live)
        })
    }

    /// Whether a lookup that starts at `from_us` may find the id.
    fn may_be_there(&self, key: Key, from_us: u64) -> bool {
        let known = self.known.get(&key);
        known.is_some_and(|known| known.attempts.iter().any(|a| ends(key.0, *a) > ms(from_us)))
    }

    /// The store went down, at `at_us` at the latest.
    pub(crate) fn ended(&mut self, end: End, at_us: u64) {
        // At `Disk` most threads wait, so that to find one inside of its call is nothing.
        let claims = |(_, question): &&(u64, Question)| {
            question.level == Level::Process && question.verb == Verb::Claim
        };
        let cut_off = self.pending.values().filter(claims).count() as u64;
        self.counts.cut_off += cut_off;
        self.counts.ends_in_many += u64::from(cut_off >= 2);
        for (_, (from_us, question)) in std::mem::take(&mut self.pending) {
            self.unanswered(&question, from_us, at_us);
        }
        self.unsynced.clear();
        self.full = false;
        self.cut_us = None;
        for known in self.known.values_mut() {
            known.grants.clear();
            match end {
                End::Kill => known.proofs.iter_mut().for_each(|proof| proof.safe = true),
                End::PowerCut => known.proofs.retain(|proof| proof.safe),
            }
        }
    }

    /// What is known of an id, for the message of a failure.
    pub(crate) fn tell(&self, (family, id): Key) -> String {
        let mut parts = vec![format!("{} id {id}", family.name())];
        if let Some(known) = self.known.get(&(family, id)) {
            parts.extend(known.proofs.iter().map(|Proof { known_us, safe, thread, .. }| {
                let safe = if *safe { ", safe" } else { "" };
                format!("there since an answer to thread {thread} at {known_us}{safe}")
            }));
            let granted =
                |(from, to): &(u64, u64)| format!("granted in this life between {from} and {to}");
            parts.extend(known.grants.iter().map(granted));
            parts.push(format!("{} calls may have claimed it", known.attempts.len()));
        }
        parts.join("; ")
    }

    /// Number of claims known to be safe.
    pub(crate) fn safe(&self) -> u64 {
        let safe = |known: &&Known| known.proofs.iter().any(|proof| proof.safe);
        self.known.values().filter(safe).count() as u64
    }

    /// Age of the oldest pending call.
    pub(crate) fn waits_ms(&self, now_us: u64) -> u64 {
        let asked = self.pending.values().map(|(from_us, _)| *from_us).min();
        asked.map_or(0, |from_us| ms(now_us.saturating_sub(from_us)))
    }

    /// There is space again: from now on no call may be refused for lack of it.
    pub(crate) fn has_room(&mut self) {
        self.full = false;
    }

    /// Looks up every id in a reopened store. Returns those that are lost; anything else wrong is an error.
    pub(crate) fn ask(
        &self,
        contains: impl Fn(Family, u64) -> Result<bool, Refusal>,
        now_us: impl Fn() -> u64,
    ) -> Verdict<Vec<Key>> {
        let mut lost = Vec::new();
        for key in self.known.keys() {
            let from_us = now_us();
            let found = contains(key.0, key.1).map_err(|e| format!("a question failed: {e}"))?;
            let to_us = now_us();
            if !found && self.must_be_there(*key, from_us, to_us) {
                lost.push(*key);
            }
            if found && !self.may_be_there(*key, from_us) {
                return Err(format!("swallowed: nobody can have claimed {key:?}, and it is there"));
            }
        }
        let own = self.own.ask(|id| contains(Family::Own, id))?;
        lost.extend(own.into_iter().map(|id| (Family::Own, id)));
        Ok(lost)
    }
}
