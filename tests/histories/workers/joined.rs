//! Transactions of workers: they begin ids, save stages, renew and end attempts, each together with a row of the id and a
//! claim of its own. One may end or go on with one id and begin another.

use super::check::{Heard, What, Word};
use super::{Idle, Span, Worker, name, refused, shown};
use firstseen::ledger::{AttemptError, BeginOptions, Failure};
use firstseen::transaction::{CommitOutcome, Rejection, Transaction};

/// A transaction that is being collected.
struct Plan {
    transaction: Transaction,
    /// Names its claim, and is in all its rows.
    value: u64,
}

fn claim_name(value: u64) -> String {
    format!("claim-{value}")
}

impl Worker<'_> {
    pub(super) fn read_row(&mut self, id: usize) {
        let (span, found) = self.call(|_| self.shared.table.get(name(id)));
        let found = found.expect("reads").map(|entry| entry.value);
        let row = found.map(|value| u64::from_le_bytes(value.try_into().expect("eight bytes")));
        self.note(id, span, What::Row(row));
    }

    pub(super) fn transact(&mut self, id: usize) {
        match self.rng.below(16) {
            0 => self.forget(id),
            1..5 => self.go_on(None, Some(id)),
            n => {
                let Some(idle) = self.take_idle() else { return };
                let word = self.word();
                let next = Some(id).filter(|id| n < 8 && *id != idle.id);
                self.go_on(Some((idle, word)), next);
            }
        }
    }

    fn plan(&self, ids: &[usize]) -> Plan {
        let value = self.value();
        let mut transaction = self.shared.ledger.store().transaction();
        transaction.claim(claim_name(value));
        for id in ids {
            let put = transaction.put(&self.shared.table, name(*id), &value.to_le_bytes());
            put.expect("is short");
        }
        Plan { transaction, value }
    }

    /// Commits, and checks that the claim is there if and only if the commit is.
    fn commit(&self, plan: &Plan) -> (Span, CommitOutcome) {
        let (span, outcome) = self.call(|_| plan.transaction.commit());
        let outcome = outcome.expect("answers");
        let is_claimed = self.shared.ledger.store().contains(claim_name(plan.value));
        assert_eq!(is_claimed.expect("reads"), outcome.is_committed(), "{outcome:?}");
        (span, outcome)
    }

    fn forget(&mut self, id: usize) {
        let mut plan = self.plan(&[id]);
        plan.transaction.forget(&self.shared.ledger, name(id));
        let (span, outcome) = self.commit(&plan);
        let is_there = match outcome {
            CommitOutcome::Rejected(reasons) => {
                assert!(matches!(reasons[..], [Rejection::Record { record: None, .. }]));
                false
            }
            _ => true,
        };
        self.note_with(id, &span, What::Forget(is_there), Some(plan.value));
    }

    /// An attempt says something, an id is begun, or both in one commit.
    fn go_on(&mut self, mut speaks: Option<(Idle, Word)>, begins: Option<usize>) {
        if let Some((idle, Word::Save { .. })) = &mut speaks
            && self.rng.below(2) == 0
            && !self.is_open(idle)
        {
            return self.shared.idle().extend(speaks.map(|(idle, _)| idle));
        }
        let ids = speaks.iter().map(|(idle, _)| idle.id).chain(begins);
        let mut plan = self.plan(&ids.collect::<Vec<_>>());
        if let Some((idle, word)) = &speaks {
            collect(&mut plan.transaction, idle, *word);
        }
        if let Some(id) = begins {
            plan.transaction.begin(&self.shared.ledger, name(id), BeginOptions::new());
        }
        let (span, mut outcome) = {
            // A commit that begins renews a lease that has ended meanwhile, which would be two events.
            let shared = self.shared;
            let _no_time_passes =
                begins.map(|_| shared.time.read().expect("no panic under this lock"));
            self.commit(&plan)
        };
        if let CommitOutcome::Rejected(reasons) = outcome {
            reasons.into_iter().for_each(|why| self.rejected(&span, why, speaks.as_ref(), begins));
            // A rejected transaction changes no attempt, whatever it has heard.
            return self.shared.idle().extend(speaks.map(|(idle, _)| idle));
        }
        let row = Some(plan.value);
        if let Some(id) = begins {
            let attempt = outcome.attempt(&self.shared.ledger, name(id)).expect("has begun");
            self.started(id, &span, attempt, row);
        }
        if let Some((mut idle, word)) = speaks {
            let heard = Heard::Yes(shown(&idle.attempt.record()));
            let what = What::Say { token: idle.attempt.token(), word, heard };
            self.note_with(idle.id, &span, what, row);
            idle.reached += u32::from(matches!(word, Word::Save { .. }));
            if matches!(word, Word::Save { .. } | Word::Renew) {
                self.shared.idle().push(idle);
            }
        }
    }

    /// Asks whether the next stage of an attempt is still to be done, and goes past it if it is not.
    fn is_open(&mut self, idle: &mut Idle) -> bool {
        let (token, number) = (idle.attempt.token(), idle.reached);
        let (span, saved) = self.call(|_| idle.attempt.saved_stage::<u64>(&stage_name(number)));
        let what = match saved {
            Ok(None) => return true,
            Ok(Some(value)) => {
                idle.reached += 1;
                What::Replayed { number, value }
            }
            Err(error) => What::Say { token, word: Word::Save { value: 0 }, heard: heard(&error) },
        };
        self.note(idle.id, span, what);
        false
    }

    fn rejected(
        &mut self,
        span: &Span,
        why: Rejection,
        speaks: Option<&(Idle, Word)>,
        begins: Option<usize>,
    ) {
        match (why, speaks, begins) {
            (
                Rejection::Attempt { error: AttemptError::StageSaved { .. }, .. },
                Some((idle, _)),
                _,
            ) => {
                let what = What::StageSaved { number: idle.reached };
                self.note_with(idle.id, span, what, None);
            }
            (Rejection::Attempt { error, .. }, Some((idle, word)), _) => {
                let (token, word) = (idle.attempt.token(), *word);
                let what = What::Say { token, word, heard: heard(&error) };
                self.note_with(idle.id, span, what, None);
            }
            (Rejection::Begin { answer, .. }, _, Some(id)) => {
                let (begun, shown) = refused(&answer);
                self.note_with(id, span, What::Refused(begun, shown), None);
            }
            (other, ..) => panic!("{other:?}"),
        }
    }
}

fn stage_name(number: u32) -> String {
    format!("s{number}")
}

fn collect(transaction: &mut Transaction, idle: &Idle, word: Word) {
    let attempt = &idle.attempt;
    match word {
        Word::Complete { result } => _ = transaction.complete(attempt, result.to_le_bytes()),
        Word::Fail => _ = transaction.fail(attempt, Failure::retry("no")).expect("is the work's"),
        Word::Release => _ = transaction.release(attempt),
        Word::Renew => _ = transaction.renew(attempt),
        Word::Save { value } => {
            let saved = transaction.save_stage(attempt, &stage_name(idle.reached), &value);
            _ = saved.expect("is short");
        }
    }
}

fn heard(error: &AttemptError) -> Heard {
    match error {
        AttemptError::Fenced { record } => Heard::Fenced(record.as_deref().map(shown)),
        AttemptError::LeaseEnded => Heard::LeaseEnded,
        other => panic!("{other}"),
    }
}
