//! What operators do with a record.

use crate::error::{Error, Result};
use crate::ledger::changes::{self, Now, Outcome};
use crate::ledger::handle::Ledger;
use crate::ledger::moves::{Move, Phase};
use crate::ledger::record::Record;
use crate::ledger::value::encode;
use serde::Serialize;

impl Ledger {
    /// Ends an id without a result: it becomes a dead letter, and the attempt that works on it, if there is one, is
    /// fenced from now on. Changes nothing about a record that is completed or dead. Returns the record, or `None` if
    /// there is none.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub fn cancel(&self, id: impl AsRef<[u8]>, reason: &str) -> Result<Option<Record>> {
        let cancel =
            |record, now: Now| Some(changes::cancel(record, now, &self.inner.options, reason));
        self.change(id.as_ref(), Move::Cancel, cancel).map(|changed| changed.map(|c| c.record))
    }

    /// Says that an id was done after all, and with what result: from now on every `begin` replays it. For what is held,
    /// dead or waits, once somebody has found out that the effect happened. Nothing changes while an attempt works on it,
    /// or if it is completed. Returns the record, or `None` if there is none.
    ///
    /// The result is the bytes that [`complete`](crate::ledger::Attempt::complete) would have stored. For a program that
    /// uses [`run`](Self::run) or [`Record::value`] there is [`settle_value`](Self::settle_value).
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin), and [`FixCall`](crate::ErrorKind::FixCall) for a result above the ledger's limit.
    pub fn settle(
        &self,
        id: impl AsRef<[u8]>,
        result: impl AsRef<[u8]>,
        reason: &str,
    ) -> Result<Option<Record>> {
        self.settle_as(id.as_ref(), result.as_ref(), false, reason)
    }

    /// Says that an id was done after all, with a result of any serde type, as [`run`](Self::run) stores it; see
    /// [`settle`](Self::settle).
    ///
    /// # Errors
    ///
    /// As [`settle`](Self::settle), and [`FixCall`](crate::ErrorKind::FixCall) for a result that cannot be encoded.
    pub fn settle_value<T: Serialize>(
        &self,
        id: impl AsRef<[u8]>,
        result: &T,
        reason: &str,
    ) -> Result<Option<Record>> {
        let bytes = encode("the result", result).map_err(|e| Error::invalid(e.to_string()))?;
        self.settle_as(id.as_ref(), &bytes, true, reason)
    }

    pub(super) fn check_result(&self, bytes: &[u8]) -> Result<()> {
        let bytes_max = self.inner.options.result_bytes_max;
        if bytes.len() > bytes_max {
            return Err(Error::invalid(format!(
                "a result has {} bytes; the limit is {bytes_max}",
                bytes.len()
            )));
        }
        Ok(())
    }

    fn settle_as(
        &self,
        id: &[u8],
        bytes: &[u8],
        is_encoded: bool,
        reason: &str,
    ) -> Result<Option<Record>> {
        self.check_result(bytes)?;
        let outcome = Outcome { bytes, is_encoded, ttl: self.result_ttl() };
        let settle = |record, now| Some(changes::settle(record, now, outcome, reason));
        self.change(id, Move::Settle, settle).map(|changed| changed.map(|c| c.record))
    }

    /// Lets an id be tried again now, as often as a new one, whatever became of it; its history stays. Returns the
    /// record, or `None` if there is none. Nothing changes while an attempt works on it.
    ///
    /// For dead letters see [`DeadLetters::redrive`](crate::ledger::DeadLetters::redrive); this also redoes what is completed.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub fn redrive(&self, id: impl AsRef<[u8]>) -> Result<Option<Record>> {
        let redrive = |record, now| Some(changes::redrive(record, now, false));
        self.change(id.as_ref(), Move::Redrive, redrive).map(|changed| changed.map(|c| c.record))
    }

    /// Removes the record of an id and all that belongs to it, so that it counts as never begun. Returns whether there
    /// was one. A record that an attempt works on is not removed: cancel it first, or [`forget`](Self::forget) it.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub fn purge(&self, id: impl AsRef<[u8]>) -> Result<bool> {
        let purge = |_, _| Some(changes::purge());
        Ok(self.change(id.as_ref(), Move::Purge, purge)?.is_some_and(|changed| changed.is_made))
    }

    /// Removes the record of an id as [`purge`](Self::purge) does, also while an attempt works on it: that is fenced from now
    /// on, and the next `begin` may start beside it. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub fn forget(&self, id: impl AsRef<[u8]>) -> Result<bool> {
        let forgotten = self.change_found(id.as_ref(), |found, now| {
            let is_running = now.phase(Some(&found.record)) == Phase::Running;
            let step = if is_running { Move::Forget } else { Move::Purge };
            Ok(found.moved(step, now, |_| Some(changes::purge())))
        })?;
        Ok(forgotten.is_some_and(|changed| changed.is_made))
    }
}
