//! Transactions with moves, a claim, a row and a message: all of it, or nothing and every reason why not.

use super::super::calls::{CLAIMS, Joined, Key, Order, Part, ROWS, Word, id_bytes};
use super::super::oracle::{Heard, How, Oracle, Saved, Told, Tried};
use super::{Verdict, World, begin_options, compare, fine, heard, same, stage_name, told};
use firstseen::ledger::{Failure, Record};
use firstseen::transaction::{CommitOutcome, Rejection, Transaction};
use std::collections::BTreeSet;
use std::time::Duration;

/// A reason to reject a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Why {
    Claim,
    Attempt(Heard),
    Begin(Told),
    Record,
}

/// What is collected of a transaction, and what has to come of it.
struct Plan {
    transaction: Transaction,
    /// What there is after the commit.
    after: Oracle,
    /// The attempts that speak in it, as they are after the commit, by their places among all.
    spoken: Vec<(usize, Tried)>,
    begun: Vec<Key>,
    /// The keys of the moves, and why they cannot be made.
    refused: Vec<(Option<Key>, Why)>,
    changed: BTreeSet<Key>,
}

impl Plan {
    fn refuse(&mut self, key: Key, why: Why) {
        self.refused.push((Some(key), why));
    }

    fn hear(&mut self, place: usize, tried: Tried, heard: Heard) {
        if heard != Heard::Yes {
            self.refuse(tried.key, Why::Attempt(heard));
        }
        self.spoken.push((place, tried));
    }
}

fn claim_name(claim: u8) -> String {
    format!("claim-{claim}")
}

fn row_name(row: u8) -> String {
    format!("row-{row}")
}

impl World {
    pub(super) fn commit(&mut self, joined: &Joined) -> Verdict {
        let mut plan = Plan {
            transaction: self.open.store.transaction(),
            after: self.oracle.clone(),
            spoken: Vec::new(),
            begun: Vec::new(),
            refused: Vec::new(),
            changed: BTreeSet::new(),
        };
        if joined.skips_duplicates {
            plan.transaction.skip_duplicates();
        }
        if let Some(claim) = joined.claim {
            plan.transaction.claim(claim_name(claim));
            if !plan.after.effects.claims.insert(claim) {
                plan.refused.push((None, Why::Claim));
            }
        }
        for part in &joined.parts {
            self.plan(&mut plan, part)?;
        }
        let value = self.value();
        fine(
            "put",
            plan.transaction.put(&self.open.table, row_name(joined.row), &value.to_le_bytes()),
        )?;
        plan.after.effects.rows.insert(joined.row, value);
        if joined.emits {
            let bytes = value.to_le_bytes();
            fine("emit", plan.transaction.emit_as(&self.open.topic, bytes, b"", bytes))?;
            plan.after.effects.messages.push(value);
        }
        let outcome = fine("commit", plan.transaction.commit())?;
        let is_skipped = joined.skips_duplicates
            && plan.refused.first().is_some_and(|(_, why)| *why == Why::Claim);
        match outcome {
            CommitOutcome::CommittedWithout(skipped) if is_skipped => {
                same("skipped", &skipped.len(), &1)
            }
            CommitOutcome::Rejected(reasons) if !is_skipped => self.rejected(&plan, reasons),
            other if plan.refused.is_empty() => self.committed(plan, other, joined.drops),
            other => Err(format!("{other:?}, wanted {:?}", plan.refused)),
        }
    }

    /// Collects a move, unless there is one of the same record already.
    fn plan(&mut self, plan: &mut Plan, part: &Part) -> Verdict {
        match *part {
            Part::Begin { key, ref given } if plan.changed.insert(key) => {
                let ledger = &self.open.ledgers[usize::from(key.0)];
                plan.transaction.begin(ledger, id_bytes(key), begin_options(given));
                match plan.after.begin(key, given, &self.policies[usize::from(key.0)]) {
                    Told::Started => plan.begun.push(key),
                    told => plan.refuse(key, Why::Begin(told)),
                }
            }
            Part::Speak { attempt, word } if !self.open.attempts.is_empty() => {
                let place = usize::from(attempt) % self.open.attempts.len();
                let tried = self.open.attempts[place].0.clone();
                if plan.changed.insert(tried.key) {
                    self.plan_word(plan, (place, tried), word)?;
                }
            }
            Part::Operate { key, order } if plan.changed.insert(key) => {
                self.plan_order(plan, key, order)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn plan_word(
        &mut self,
        plan: &mut Plan,
        (place, mut tried): (usize, Tried),
        word: Word,
    ) -> Verdict {
        let result = self.result(8);
        let value = self.value();
        let attempt = &self.open.attempts[place].1;
        let transaction = &mut plan.transaction;
        let fail = |transaction: &mut Transaction, failure| {
            transaction.fail(attempt, failure).map(drop).map_err(|error| error.to_string())
        };
        let mut save = |oracle: &mut Oracle, tried: &mut Tried, is_done: bool, renamed: bool| {
            let name = stage_name(tried, renamed);
            let bytes = value.to_le_bytes();
            let collected = if is_done {
                transaction.save_stage(attempt, &name, &bytes).map(drop)
            } else {
                transaction.save_cursor(attempt, &name, &bytes).map(drop)
            };
            collected.map_err(|error| error.to_string())?;
            Ok::<_, String>(oracle.save_joined(tried, Saved { name, is_done, value }))
        };
        let ttl = tried.policies.result_ttl;
        let how = match word {
            Word::Stage { renamed, .. } => {
                let heard = save(&mut plan.after, &mut tried, true, renamed)?;
                plan.hear(place, tried, heard);
                return Ok(());
            }
            Word::Cursor { .. } => {
                let heard = save(&mut plan.after, &mut tried, false, false)?;
                plan.hear(place, tried, heard);
                return Ok(());
            }
            Word::Renew => {
                transaction.renew(attempt);
                let heard = plan.after.renew(&tried, None);
                plan.hear(place, tried, heard);
                return Ok(());
            }
            Word::RenewFor { ms } => {
                let collected = transaction.renew_for(attempt, Duration::from_millis(ms)).map(drop);
                collected.map_err(|error| error.to_string())?;
                let heard = plan.after.renew(&tried, Some(ms));
                plan.hear(place, tried, heard);
                return Ok(());
            }
            Word::Complete { .. } => {
                transaction.complete(attempt, &result);
                How::Completed(result, ttl)
            }
            Word::FailAfter { ms } => {
                let failure = Failure::retry_after("later", Duration::from_millis(ms));
                fail(transaction, failure)?;
                How::Failed(Some(ms))
            }
            Word::FailForGood => {
                fail(transaction, Failure::last("never"))?;
                How::ForGood
            }
            Word::FailWithResult => {
                fail(transaction, Failure::replayed("refused", result.clone()))?;
                How::WithResult(result)
            }
            Word::Release => {
                transaction.release(attempt);
                How::Released
            }
            _ => {
                fail(transaction, Failure::retry("no"))?;
                How::Failed(None)
            }
        };
        let heard = plan.after.end(&mut tried, how);
        plan.hear(place, tried, heard);
        Ok(())
    }

    fn plan_order(&mut self, plan: &mut Plan, key: Key, order: Order) -> Verdict {
        let (result, id) = (self.result(8), id_bytes(key));
        let (ledger, transaction) = (self.ledger(key), &mut plan.transaction);
        match order {
            Order::Cancel => transaction.cancel(ledger, id, "by hand"),
            Order::Settle => transaction.settle(ledger, id, &result, "by hand"),
            Order::Redrive => transaction.redrive(ledger, id),
            Order::RedriveFresh => transaction.redrive_fresh(ledger, id),
            Order::Purge => transaction.purge(ledger, id),
            Order::Forget => transaction.forget(ledger, id),
            other => return Err(format!("{other:?} is no move of transactions")),
        };
        if !plan.after.operate(key, order, &result, &self.policies(key)) {
            plan.refuse(key, Why::Record);
        }
        Ok(())
    }

    /// Nothing has changed, and all reasons are told.
    fn rejected(&self, plan: &Plan, reasons: Vec<Rejection>) -> Verdict {
        let mut told_reasons = Vec::new();
        // In the order of the moves, behind the claim.
        let mut wanted = plan.refused.iter();
        for reason in reasons {
            let key = wanted.next().and_then(|(key, _)| *key);
            let why = match (reason, key) {
                (Rejection::Duplicate(_), None) => Why::Claim,
                (Rejection::Attempt { id, error }, Some(key)) => {
                    same("the id of an attempt", &id, &id_bytes(key))?;
                    let (heard, record) = heard(Err(error))?;
                    let is_there = self.oracle.records.contains_key(&key);
                    match record {
                        Some(record) if heard == Heard::Fenced || is_there => {
                            self.compare(key, record.as_ref())?;
                        }
                        _ => {}
                    }
                    Why::Attempt(heard)
                }
                (Rejection::Begin { id, answer }, Some(key)) => {
                    same("the id that is to begin", &id, &id_bytes(key))?;
                    let (told, record) = told(answer)?;
                    if told == Told::Mismatch {
                        same("a mismatch shows no result", &record.result(), &None)?;
                    } else {
                        // As it would be if the answer had been noted.
                        compare(&plan.after, key, Some(&record))?;
                    }
                    Why::Begin(told)
                }
                (Rejection::Record { id, record }, Some(key)) => {
                    same("the id of a record", &id, &id_bytes(key))?;
                    let record: Option<Record> = record.map(|record| *record);
                    self.compare(key, record.as_ref())?;
                    Why::Record
                }
                (other, _) => return Err(format!("{other:?}, wanted {:?}", plan.refused)),
            };
            told_reasons.push(why);
        }
        let wanted: Vec<Why> = plan.refused.iter().map(|(_, why)| why.clone()).collect();
        same("the reasons", &told_reasons, &wanted)
    }

    fn committed(&mut self, plan: Plan, outcome: CommitOutcome, drops: bool) -> Verdict {
        let attempts = match outcome {
            CommitOutcome::CommittedWith { attempts, skipped } => {
                same("skipped", &skipped.len(), &0)?;
                attempts
            }
            CommitOutcome::Committed => Vec::new(),
            other => return Err(format!("{other:?}")),
        };
        self.oracle = plan.after;
        for (place, tried) in plan.spoken {
            self.open.attempts[place].0 = tried;
        }
        same("attempts", &attempts.len(), &plan.begun.len())?;
        let mut begun = Vec::new();
        for (key, attempt) in plan.begun.into_iter().zip(attempts) {
            same("the id of an attempt", &attempt.id().to_vec(), &id_bytes(key))?;
            let policies = self.policies(key);
            let tried = self.oracle.started(key, attempt.token(), &policies)?;
            self.compare(key, Some(&attempt.record()))?;
            begun.push((tried, attempt));
        }
        if !drops {
            self.open.attempts.extend(begun);
            return Ok(());
        }
        for (mut tried, attempt) in begun {
            // The commit is made, and then it has failed.
            self.note();
            self.oracle.end(&mut tried, How::Dropped);
            drop(attempt);
        }
        Ok(())
    }

    /// What stands beside the records is what the oracle says.
    pub(super) fn check_effects(&self) -> Verdict {
        let wanted = &self.oracle.effects;
        for claim in 0..CLAIMS {
            let is_claimed = fine("contains", self.open.store.contains(claim_name(claim)))?;
            same(("claim", claim), &is_claimed, &wanted.claims.contains(&claim))?;
        }
        let number = |bytes: &[u8]| bytes.try_into().map_or(u32::MAX, u32::from_le_bytes);
        for row in 0..ROWS {
            let found = fine("get", self.open.table.get(row_name(row)))?;
            let found = found.map(|entry| number(&entry.value));
            same(("row", row), &found, &wanted.rows.get(&row).copied())?;
        }
        let messages = fine("messages", self.open.topic.read(usize::MAX))?;
        let messages: Vec<u32> = messages.iter().map(|message| number(&message.payload)).collect();
        same("messages", &messages, &wanted.messages)
    }
}
