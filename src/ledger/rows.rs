//! The rows of a ledger: the record, its payload, its stages, and a pointer to those that wait for an operator. A change
//! of a record is one commit over all of them.

use crate::codec::{Reader, Undecodable, put_varint, stored};
use crate::engine::{
    Bells, Durability, Engine, Expect, OwnedRow, RestsOn, RowChange, RowWrite, SetCommitted,
    WaitBudget, WriteSet,
};
use crate::error::{Error, Result};
use crate::id::{Family, Key, NsId};
use crate::ledger::changes::{Change, Keeps};
use crate::ledger::record::{DeadCause, Record, State};
use crate::limits;
use crate::time::{Timestamp, Ttl};

/// A record as it was read.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) record: Record,
    /// The sequence of its row: what a change of it expects.
    pub(super) sequence: u64,
}

/// The rows of one ledger.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) engine: &'a Engine,
    pub(super) ns: NsId,
    pub(super) durability: Durability,
}

/// A stage to be saved with a change.
#[derive(Debug, Clone, Copy)]
pub(super) struct StageWrite<'a> {
    pub(super) number: u32,
    pub(super) value: &'a [u8],
}

pub(super) fn check_id(id: &[u8]) -> Result<()> {
    if id.len() > limits::LEDGER_ID_BYTES_MAX {
        return Err(Error::invalid(format!(
            "an id of {} bytes; in a ledger it has at most {}",
            id.len(),
            limits::LEDGER_ID_BYTES_MAX
        )));
    }
    Ok(())
}

/// The key of a stage: the id and the number of the stage, which always takes four bytes, so no two ids share a key.
fn stage_id(id: &[u8], number: u32) -> Vec<u8> {
    [id, &number.to_be_bytes()].concat()
}

/// Returns the record in the bytes of a row.
pub(super) fn decode(
    engine: &Engine,
    id: &[u8],
    bytes: &[u8],
    sequence: u64,
    ends: Timestamp,
) -> Result<Record> {
    Record::decode(id, bytes, sequence, ends).map_err(|why| undecodable(engine, "record", id, why))
}

/// Returns the pointer in the bytes of a row.
pub(super) fn decode_pointer(engine: &Engine, id: &[u8], bytes: &[u8]) -> Result<Pointer> {
    Pointer::decode(bytes).map_err(|why| undecodable(engine, "dead-letter entry", id, why))
}

/// Returns the error for the bytes of a row that are not what they should be. All of them have version 1 so far.
pub(super) fn undecodable(engine: &Engine, what: &str, id: &[u8], why: Undecodable) -> Error {
    let what = format!("the {what} of ledger id {} cannot be decoded", id.escape_ascii());
    why.error(engine.dir(), 1, what)
}

impl Rows<'_> {
    pub(super) fn key<'k>(&self, family: Family, id: &'k [u8]) -> Result<Key<'k>> {
        Engine::row_key(family, self.ns, id)
    }

    /// Reads the record of an id.
    pub(super) fn read(&self, id: &[u8]) -> Result<Option<Found>> {
        let (found, rests_on) = self.look(id)?;
        self.engine.await_durable(self.durability, rests_on)?;
        Ok(found)
    }

    /// Reads the record of an id, and without waiting for it what its durability rests on.
    pub(super) fn look(&self, id: &[u8]) -> Result<(Option<Found>, Option<RestsOn>)> {
        let (row, rests_on) = self.engine.get_row_only(self.key(Family::LEDGER, id)?)?;
        let Some(row) = row else { return Ok((None, rests_on)) };
        let record = decode(self.engine, id, &row.value, row.sequence, row.deadline)?;
        Ok((Some(Found { record, sequence: row.sequence }), rests_on))
    }

    /// Reads the pointer to an id, and the sequence of its row.
    pub(super) fn pointer(&self, id: &[u8]) -> Result<Option<(Pointer, u64)>> {
        let Some(row) = self.engine.get_row(self.key(Family::DEAD, id)?, self.durability)? else {
            return Ok(None);
        };
        let pointer = decode_pointer(self.engine, id, &row.value)?;
        Ok(Some((pointer, row.sequence)))
    }

    /// Reads the payload of an id.
    pub(super) fn payload(&self, id: &[u8]) -> Result<Option<Vec<u8>>> {
        let row = self.engine.get_row(self.key(Family::PAYLOADS, id)?, self.durability)?;
        Ok(row.map(|row| row.value))
    }

    /// Reads a saved stage, and without waiting for it what its durability rests on.
    pub(super) fn look_stage(
        &self,
        id: &[u8],
        number: u32,
    ) -> Result<(Option<Vec<u8>>, Option<RestsOn>)> {
        let id = stage_id(id, number);
        let (row, rests_on) = self.engine.get_row_only(self.key(Family::STAGES, &id)?)?;
        Ok((row.map(|row| row.value), rests_on))
    }

    /// Makes a change, if the record is still the one that it was decided from. Returns what is stored then, or `None`
    /// if somebody else was faster. Those who wait for it are woken when `bells` is dropped.
    pub(super) fn write(
        &self,
        id: &[u8],
        before: Option<&Found>,
        change: &Change,
        now: Timestamp,
        bells: &mut Bells,
    ) -> Result<Option<Found>> {
        let (found, rests_on) =
            self.write_only((id, before), change, None, now, bells, &mut WaitBudget::default())?;
        self.engine.await_durable(self.durability, rests_on)?;
        Ok(found)
    }

    /// Makes a change, as [`write`](Self::write) does, and returns without waiting for it what its durability rests on.
    pub(super) fn write_only(
        &self,
        (id, before): (&[u8], Option<&Found>),
        change: &Change,
        stage: Option<StageWrite<'_>>,
        now: Timestamp,
        bells: &mut Bells,
        wait_budget: &mut WaitBudget,
    ) -> Result<(Option<Found>, Option<RestsOn>)> {
        let rows = self.rows_of(id, before, change, stage, now)?;
        let writes: Vec<RowWrite<'_>> = rows.iter().map(OwnedRow::as_write).collect();
        let set = WriteSet::of(&[], &writes);
        let committed = self.engine.commit_only(set, self.durability, bells, wait_budget)?;
        match committed {
            (SetCommitted::Done(sequences), rests_on) => {
                let sequence = sequences.first().copied().flatten().unwrap_or_default();
                Ok((Some(Found::after(id, change, now, sequence)), rests_on))
            }
            (SetCommitted::Refused(refusals), _) if !refusals.in_doubt.is_empty() => {
                Err(Error::InDoubt)
            }
            (SetCommitted::Refused(_), rests_on) => Ok((None, rests_on)),
            (SetCommitted::Reserved(_), _) => Err(Error::bug("a row cannot be reserved")),
        }
    }

    /// Returns the rows that a change writes, that of the record first. What they repeat is read without waiting for the
    /// disk: it is in front of them in the log.
    pub(super) fn rows_of(
        &self,
        id: &[u8],
        before: Option<&Found>,
        change: &Change,
        stage: Option<StageWrite<'_>>,
        now: Timestamp,
    ) -> Result<Vec<OwnedRow>> {
        let expect = before.map_or(Expect::Absent, |found| Expect::Sequence(found.sequence));
        let value = change.record.as_ref().map(|record| record.encode(change.starts));
        let Key { ns, .. } = self.key(Family::LEDGER, id)?;
        let (ttl, is_quiet) = (change.ttl, change.is_quiet);
        let change_of = RowChange::of(value);
        let mut rows =
            vec![OwnedRow { ns, id: id.to_vec(), change: change_of, ttl, expect, is_quiet }];
        let mut push = |family, id: Vec<u8>, value| -> Result<()> {
            let (ns, expect) = (self.key(family, &id)?.ns, Expect::Anything);
            let change = RowChange::of(value);
            rows.push(OwnedRow { ns, id, change, ttl, expect, is_quiet: true });
            Ok(())
        };

        let was = before.map(|found| &found.record);
        let pointer = change.record.as_ref().and_then(|record| pointer(record, now));
        if pointer.is_some() || was.is_some_and(waits_for_operator) {
            push(Family::DEAD, id.to_vec(), pointer)?;
        }

        // Payload and stages have the ttl of the record, so that all of it ends together.
        let is_new_end =
            ttl != Ttl::FOREVER || was.is_some_and(|record| record.ends != Timestamp::NEVER);
        let had_payload = was.is_some_and(|record| record.has_payload);
        let kept = match &change.payload {
            None if had_payload && change.keeps != Keeps::Nothing && is_new_end => {
                let key = self.key(Family::PAYLOADS, id)?;
                self.engine.get_row_only(key)?.0.map(|row| row.value)
            }
            given => given.clone(),
        };
        if kept.is_some() || (had_payload && change.keeps == Keeps::Nothing) {
            push(Family::PAYLOADS, id.to_vec(), kept)?;
        }

        let saved_before = was.map_or(0, |record| record.stages);
        for number in 0..saved_before {
            if change.keeps != Keeps::All {
                push(Family::STAGES, stage_id(id, number), None)?;
            } else if is_new_end {
                push(Family::STAGES, stage_id(id, number), self.look_stage(id, number)?.0)?;
            }
        }
        if let Some(StageWrite { number, value }) = stage {
            push(Family::STAGES, stage_id(id, number), Some(value.to_vec()))?;
        }
        Ok(rows)
    }
}

impl Found {
    /// Returns what is stored after a change whose record got this sequence.
    pub(super) fn after(id: &[u8], change: &Change, now: Timestamp, sequence: u64) -> Self {
        let mut record = change.record.clone().unwrap_or_else(|| Record::new(id, now));
        record.ends = change.ttl.deadline(now);
        if change.starts {
            record.token = sequence;
        }
        Self { record, sequence }
    }
}

fn waits_for_operator(record: &Record) -> bool {
    matches!(record.state, State::Dead { .. } | State::Held)
}

/// Why and since when a record waits for an operator: what a list of dead letters is sorted and filtered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pointer {
    /// `None`: it is held.
    pub(super) cause: Option<DeadCause>,
    pub(super) since: Timestamp,
}

const POINTER_VERSION: u8 = 1;

fn pointer(record: &Record, now: Timestamp) -> Option<Vec<u8>> {
    let code = match record.state {
        State::Dead { cause } => cause.code(),
        State::Held => 0,
        _ => return None,
    };
    let mut out = vec![POINTER_VERSION, code];
    put_varint(&mut out, now.as_millis());
    Some(out)
}

impl Pointer {
    fn decode(bytes: &[u8]) -> std::result::Result<Self, Undecodable> {
        Self::take(&mut stored(bytes, POINTER_VERSION)?).ok_or(Undecodable::Damaged)
    }

    fn take(r: &mut Reader<'_>) -> Option<Self> {
        let cause = match r.u8()? {
            0 => None,
            code => Some(DeadCause::of_code(code.into())?),
        };
        let since = Timestamp::from_millis(r.varint()?);
        r.is_empty().then_some(Self { cause, since })
    }
}
