//! The ledger of firstseen.

use super::{LEASE_MS, Ledger, Session, Setting};
use anyhow::Result;
use firstseen::ledger::{Attempt, AttemptError, Begin, LedgerOptions};
use firstseen::{Durability, Store};
use std::time::Duration;

pub fn open(setting: Setting<'_>) -> Result<Box<dyn Ledger>> {
    let level = if setting.disk { Durability::Disk } else { Durability::Process };
    let store = Store::builder(setting.dir.join("seen.db")).durability(level).open()?;
    let options = LedgerOptions::new().lease(Duration::from_millis(LEASE_MS));
    Ok(Box::new(Own(store.ledger_with("bench", options)?)))
}

struct Own(firstseen::ledger::Ledger);

impl Ledger for Own {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(Handle { ledger: &self.0, attempt: None }))
    }
}

struct Handle<'a> {
    ledger: &'a firstseen::ledger::Ledger,
    attempt: Option<Attempt>,
}

impl Session for Handle<'_> {
    fn begin(&mut self, id: &[u8]) -> Result<Option<u64>> {
        match self.ledger.begin(id)? {
            Begin::Started(attempt) => {
                let token = attempt.token();
                self.attempt = Some(attempt);
                Ok(Some(token))
            }
            _ => Ok(None),
        }
    }

    fn complete(&mut self, _: &[u8], token: u64, result: &[u8]) -> Result<bool> {
        let Some(attempt) = self.attempt.take().filter(|attempt| attempt.token() == token) else {
            return Ok(false);
        };
        match attempt.complete(result) {
            Ok(()) => Ok(true),
            Err(AttemptError::Fenced { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
