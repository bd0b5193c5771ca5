//! Messages that are to be committed with others.

use crate::engine::{Engine, Expect, OwnedRow, RowChange};
use crate::error::Result;
use crate::id::{Family, Key};
use crate::outbox::message::{Message, MessageId, Stored};
use crate::outbox::topic::Outbox;
use crate::time::{Timestamp, Ttl};

/// A message that is to be emitted.
#[derive(Debug, Clone)]
pub(crate) struct PlannedMessage {
    /// The number of its topic in the transaction.
    pub(crate) topic: usize,
    pub(crate) id: MessageId,
    /// No message of this id may wait.
    pub(crate) row: OwnedRow,
}

impl PlannedMessage {
    /// `given_id` is the id that the caller gave it; empty if it was derived.
    pub(crate) fn of(
        (topic, outbox): (usize, &Outbox),
        (id, given_id): (MessageId, &[u8]),
        (key, payload): (&[u8], &[u8]),
        emitted: Timestamp,
    ) -> Result<Self> {
        let value = Stored { emitted, key, given_id, payload }.encode()?;
        let row = row(outbox, id, RowChange::Put(value), Expect::Absent, true)?;
        Ok(Self { topic, id, row })
    }
}

/// A message that is to be acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct PlannedAcknowledgement {
    /// The number of its topic in the transaction.
    pub(crate) topic: usize,
    pub(crate) id: MessageId,
    /// The message must wait.
    pub(crate) row: OwnedRow,
}

impl PlannedAcknowledgement {
    pub(crate) fn of((topic, outbox): (usize, &Outbox), message: &Message) -> Result<Self> {
        outbox.check_own(std::slice::from_ref(message))?;
        let expect = Expect::Sequence(message.position);
        let row = row(outbox, message.id, RowChange::Delete, expect, false)?;
        Ok(Self { topic, id: message.id, row })
    }
}

fn row(
    outbox: &Outbox,
    id: MessageId,
    change: RowChange<Vec<u8>>,
    expect: Expect,
    is_quiet: bool,
) -> Result<OwnedRow> {
    let Key { ns, id } = Engine::row_key(Family::OUTBOX, outbox.info.id(), &id.0)?;
    Ok(OwnedRow { ns, id: id.to_vec(), change, ttl: Ttl::FOREVER, expect, is_quiet })
}
