//! The handle of a ledger: reading its records, and changing them as the table of moves allows.

use crate::engine::{Bells, NsInfo};
use crate::error::{Error, Result};
use crate::id::{Family, Key};
use crate::ledger::changes::{Change, Now};
use crate::ledger::moves::{self, Move, Phase};
use crate::ledger::options::LedgerOptions;
use crate::ledger::record::Record;
use crate::ledger::rows::{Found, Rows, check_id, decode};
use crate::limits;
use crate::store::Store;
use crate::sync::Arc;
use crate::time::Ttl;
use std::fmt;
use std::ops::ControlFlow;

/// A ledger of a store. A handle: cheap to clone, safe to share, and it keeps the store open.
///
/// Ledgers of different names know nothing of each other, so one id may stand in several: one for each operation.
#[derive(Clone)]
pub struct Ledger {
    pub(super) inner: Arc<Inner>,
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger")
            .field("store", &self.inner.store)
            .field("name", &self.inner.info.name)
            .finish()
    }
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) store: Store,
    pub(super) info: Arc<NsInfo>,
    pub(super) options: LedgerOptions,
}

impl Store {
    /// Returns the ledger of this name, with the default policies.
    ///
    /// # Errors
    ///
    /// As [`Store::namespace`].
    pub fn ledger(&self, name: &str) -> Result<Ledger> {
        self.ledger_with(name, LedgerOptions::new())
    }

    /// Returns the ledger of this name, with these policies.
    ///
    /// # Errors
    ///
    /// As [`Store::namespace`], and [`FixCall`](crate::ErrorKind::FixCall) for a policy that makes no sense, such as a
    /// lease of zero.
    pub fn ledger_with(&self, name: &str, options: LedgerOptions) -> Result<Ledger> {
        options.check()?;
        let info = self.engine().namespace(name, None)?;
        Ledger::of(self.clone(), info, options)
    }
}

impl Ledger {
    /// Returns the ledger whose rows are in this namespace.
    pub(crate) fn of(store: Store, info: Arc<NsInfo>, options: LedgerOptions) -> Result<Self> {
        options.check()?;
        Ok(Self { inner: Arc::new(Inner { store, info, options }) })
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.inner.info.name
    }

    /// Returns the store it belongs to.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Returns the record of an id. Starts nothing and writes nothing.
    ///
    /// # Errors
    ///
    /// As [`Store::get`], and [`Repair`](crate::ErrorKind::Repair) if the stored record is damaged.
    pub fn get(&self, id: impl AsRef<[u8]>) -> Result<Option<Record>> {
        check_id(id.as_ref())?;
        Ok(self.rows().read(id.as_ref())?.map(|found| found.record))
    }

    /// Returns what was given as the payload of an id; `None` if nothing was, or it is done.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn payload(&self, id: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>> {
        check_id(id.as_ref())?;
        self.rows().payload(id.as_ref())
    }

    /// Passes every id and its record to `visit`, in no meaningful order, until that says stop. Records that change
    /// meanwhile are passed as they were before or after. A row that cannot be decoded is passed as an error, and the
    /// others follow. Reads all records of all ledgers of the store.
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    pub fn list(
        &self,
        mut visit: impl FnMut(&[u8], Result<Record>) -> ControlFlow<()>,
    ) -> Result<()> {
        self.visit(|id, found| visit(id, found.map(|found| found.record)))
    }

    /// Passes every record as it was found; see [`list`](Self::list).
    pub(super) fn visit(
        &self,
        mut visit: impl FnMut(&[u8], Result<Found>) -> ControlFlow<()>,
    ) -> Result<()> {
        let engine = self.inner.store.engine();
        let Key { ns, .. } = self.rows().key(Family::LEDGER, b"-")?;
        let mut is_stopped = false;
        let listed = engine.list_rows(Family::LEDGER, |key, row| {
            if key.ns != ns {
                return Ok(());
            }
            let found = row.and_then(|row| {
                let record = decode(engine, key.id, &row.value, row.sequence, row.deadline)?;
                Ok(Found { record, sequence: row.sequence })
            });
            is_stopped = visit(key.id, found).is_break();
            // Any error ends the listing.
            if is_stopped { Err(Error::Closed) } else { Ok(()) }
        });
        if is_stopped { Ok(()) } else { listed }
    }

    /// Returns whether an attempt works on this record now: its lease has not ended, and its process is not gone. A
    /// record in [`State::Running`](crate::ledger::State::Running) of which this is false may be begun.
    pub fn is_in_progress(&self, record: &Record) -> bool {
        self.now().phase(Some(record)) == Phase::Running
    }

    /// Changes a record, if the move is legal and `change` wants it. `None`: there is no record.
    pub(super) fn change(
        &self,
        id: &[u8],
        step: Move,
        change: impl Fn(Record, Now) -> Option<Change>,
    ) -> Result<Option<Changed>> {
        self.change_found(id, |found, now| Ok(found.moved(step, now, |record| change(record, now))))
    }

    /// Changes a record, if `change` wants it. What `change` reads besides, and what is only ever written together with
    /// the record, is still so when the change is made. `None`: there is no record.
    pub(super) fn change_found(
        &self,
        id: &[u8],
        change: impl Fn(&Found, Now) -> Result<Option<Change>>,
    ) -> Result<Option<Changed>> {
        check_id(id)?;
        let rows = self.rows();
        for _ in 0..limits::RACES_MAX {
            let Some(found) = rows.read(id)? else { return Ok(None) };
            let now = self.now();
            let Some(change) = change(&found, now)? else {
                return Ok(Some(Changed { record: found.record, is_made: false }));
            };
            let bells = &mut Bells::default();
            let written = rows.write(id, Some(&found), &change, now.at.now, bells)?;
            if let Some(after) = written {
                return Ok(Some(Changed { record: after.record, is_made: true }));
            }
        }
        Err(Error::Timeout { what: "a record that others change again and again" })
    }

    pub(super) fn rows(&self) -> Rows<'_> {
        let engine = self.inner.store.engine();
        let durability = self.inner.options.durability.unwrap_or(engine.settings().durability);
        Rows { engine, ns: self.inner.info.id(), durability }
    }

    pub(super) fn now(&self) -> Now {
        let engine = self.inner.store.engine();
        Now { at: engine.moment(), first_token: engine.first_sequence() }
    }

    pub(super) fn result_ttl(&self) -> Ttl {
        self.inner.options.result_ttl.unwrap_or_else(|| self.inner.info.ttl())
    }
}

impl Found {
    /// Returns what a move makes of the record, if the move is legal and `change` wants it.
    pub(super) fn moved(
        &self,
        step: Move,
        now: Now,
        change: impl FnOnce(Record) -> Option<Change>,
    ) -> Option<Change> {
        let to = moves::after(now.phase(Some(&self.record)), step)?;
        let change = change(self.record.clone())?;
        debug_assert_eq!(change.phase(now), to, "the table says what a move leads to");
        Some(change)
    }
}

/// A record after a change that may not have been made.
pub(super) struct Changed {
    pub(super) record: Record,
    pub(super) is_made: bool,
}
