//! A transaction while it collects what is to be done.

use crate::engine::{Durability, Expect, RowChange};
use crate::error::{Error, Result};
use crate::event_time::EventTime;
use crate::id::NsId;
use crate::ledger::JoinedMove;
use crate::offsets::{Owner, PlannedOffset, Source};
use crate::outbox::{Message, MessageId, Outbox, PlannedAcknowledgement, PlannedMessage};
use crate::store::{Namespace, Store};
use crate::table::{PlannedWrite, Values, Version, expectation};
use crate::time::{Timestamp, Ttl};
use crate::transaction::events::PlannedEvent;
use crate::transaction::outcome::{DuplicateId, Rejection};
use hashbrown::HashTable;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};

/// Claims, state, offsets, messages and moves of ledgers that are committed together; see [`Store::transaction`].
///
/// It holds nothing and locks nothing until it is committed. Dropped before that, it has done nothing.
///
/// **What belongs to what.** Writes of tables, messages and moves of ledgers belong to the claim that was collected before
/// them, if there is one. [`skip_duplicates`](Self::skip_duplicates) skips them with it, and the ids of messages follow from
/// it. Offsets and acknowledged messages belong to no claim: a duplicate was read, too.
#[must_use = "nothing is written until it is committed"]
pub struct Transaction {
    pub(super) store: Store,
    pub(super) durability: Option<Durability>,
    pub(super) skips_duplicates: bool,
    pub(super) claims: Vec<PlannedClaim>,
    pub(super) events: Vec<PlannedEvent>,
    pub(super) moves: Vec<Effect<JoinedMove>>,
    pub(super) writes: Vec<Effect<PlannedWrite>>,
    pub(super) offsets: Vec<PlannedOffset>,
    /// Those that messages belong to.
    pub(super) topics: Vec<Outbox>,
    /// When the first message was emitted.
    emitted: Option<Timestamp>,
    pub(super) messages: Vec<Effect<PlannedMessage>>,
    /// The numbers of the first claims by id, of as many as `ids_known` says: of all of them when `claim_if_new` last asked.
    ids: HashTable<usize>,
    ids_known: usize,
    /// The caller was told that an id is a duplicate.
    pub(super) was_told: bool,
    /// The namespaces that have told whether an id is claimed. A promotion may replace them before the commit.
    pub(super) asked: Vec<NsId>,
    pub(super) acknowledged: Vec<PlannedAcknowledgement>,
    /// Which write is that of a key of a table.
    by_key: HashTable<usize>,
    /// Which offset is that of a partition.
    by_partition: HashMap<(NsId, u32), usize>,
    /// Of the keys of those two.
    hasher: RandomState,
    /// The claim that effects belong to now.
    owner: Option<ClaimRef>,
    /// What the next message belongs to, and how many belong to it already.
    event: Option<(Event, u32)>,
    /// The id of the first message to a topic that belongs to that event.
    first: Option<(usize, MessageId)>,
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("store", &self.store)
            .field("claims", &self.claims.len())
            .field("events", &self.events.len())
            .field("moves", &self.moves.len())
            .field("writes", &self.writes.len())
            .field("offsets", &self.offsets.len())
            .field("messages", &self.messages.len())
            .field("acknowledged", &self.acknowledged.len())
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(super) struct PlannedClaim {
    pub(super) namespace: Namespace,
    pub(super) id: Vec<u8>,
    pub(super) ttl: Ttl,
    /// The caller was told that it is new.
    is_told: bool,
    /// What it is skipped with.
    pub(super) belongs_to: Option<ClaimRef>,
}

impl PlannedClaim {
    fn place(&self) -> (NsId, &[u8]) {
        (self.namespace.info().id(), &self.id)
    }
}

/// What belongs to a claim, or to none.
#[derive(Debug)]
pub(super) struct Effect<T> {
    pub(super) claim: Option<ClaimRef>,
    pub(super) what: T,
}

/// A claim that effects belong to, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClaimRef {
    Claim(usize),
    /// A claim by event time.
    Event(usize),
}

/// What the ids of messages follow from.
#[derive(Debug, Clone, Copy)]
enum Event {
    Claim(ClaimRef),
    Move(usize),
}

impl Store {
    /// Begins a transaction. It collects what is to be done; nothing is locked or written until
    /// [`Transaction::commit`].
    pub fn transaction(&self) -> Transaction {
        Transaction {
            store: self.clone(),
            durability: None,
            skips_duplicates: false,
            claims: Vec::new(),
            events: Vec::new(),
            moves: Vec::new(),
            writes: Vec::new(),
            offsets: Vec::new(),
            topics: Vec::new(),
            emitted: None,
            messages: Vec::new(),
            ids: HashTable::new(),
            ids_known: 0,
            was_told: false,
            asked: Vec::new(),
            acknowledged: Vec::new(),
            by_key: HashTable::new(),
            by_partition: HashMap::new(),
            hasher: RandomState::new(),
            owner: None,
            event: None,
            first: None,
        }
    }
}

impl Transaction {
    /// Sets the durability of this transaction; the default is that of the store. It is never less than a ledger asks
    /// whose records are in it.
    pub fn durability(&mut self, durability: Durability) -> &mut Self {
        self.durability = Some(durability);
        self
    }

    /// Skips duplicates, events that are too late, and what belongs to either, instead of rejecting all. An id that comes
    /// twice in this transaction is a duplicate, too. A key of a table can be read or written for one claim only then:
    /// which value is right would depend on which claim is skipped. Ask [`claim_if_new`](Self::claim_if_new) first where
    /// events share keys.
    pub fn skip_duplicates(&mut self) -> &mut Self {
        self.skips_duplicates = true;
        self
    }

    fn effect<T>(&self, what: T) -> Effect<T> {
        Effect { claim: self.owner, what }
    }

    /// Says which claim the next effects belong to.
    pub(super) fn owned_by(&mut self, owner: ClaimRef) {
        self.owner = Some(owner);
        (self.event, self.first) = (Some((Event::Claim(owner), 0)), None);
    }
}

/// Claims.
impl Transaction {
    /// Claims an id of the default namespace, for its ttl. If the id has a live claim, the transaction is rejected.
    pub fn claim(&mut self, id: impl AsRef<[u8]>) -> &mut Self {
        let namespace = self.store.default_namespace();
        self.claim_in(&namespace, id)
    }

    /// Claims an id of a namespace, for its ttl; see [`claim`](Self::claim).
    pub fn claim_in(&mut self, namespace: &Namespace, id: impl AsRef<[u8]>) -> &mut Self {
        let ttl = namespace.info().ttl();
        self.claim_for(namespace, id, ttl)
    }

    /// Claims an id of a namespace for a ttl of its own; see [`claim`](Self::claim).
    pub fn claim_for(
        &mut self,
        namespace: &Namespace,
        id: impl AsRef<[u8]>,
        ttl: impl Into<Ttl>,
    ) -> &mut Self {
        let (namespace, id) = (namespace.clone(), id.as_ref().to_vec());
        self.owned_by(ClaimRef::Claim(self.claims.len()));
        self.claims.push(PlannedClaim {
            namespace,
            id,
            ttl: ttl.into(),
            is_told: false,
            belongs_to: None,
        });
        self
    }

    /// Claims an id of the default namespace if it has no live claim now, and returns whether it has none: for code that
    /// does nothing more about a duplicate. The commit checks it again.
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    pub fn claim_if_new(&mut self, id: impl AsRef<[u8]>) -> Result<bool> {
        let namespace = self.store.default_namespace();
        self.claim_if_new_in(&namespace, id)
    }

    /// Claims an id of a namespace if it has no live claim now; see [`claim_if_new`](Self::claim_if_new).
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    pub fn claim_if_new_in(&mut self, namespace: &Namespace, id: impl AsRef<[u8]>) -> Result<bool> {
        let id = id.as_ref();
        let ns = namespace.info().id();
        if !self.asked.contains(&ns) {
            self.asked.push(ns);
        }
        let (claims, hasher) = (&self.claims, &self.hasher);
        let hash_of = |n: &usize| hasher.hash_one(claims[*n].place());
        for n in self.ids_known..claims.len() {
            self.ids.insert_unique(hash_of(&n), n, hash_of);
        }
        self.ids_known = claims.len();
        let is_it = |n: &usize| claims[*n].place() == (ns, id);
        let is_claimed = self.ids.find(hasher.hash_one((ns, id)), is_it).is_some();
        if is_claimed || namespace.contains(id)? {
            self.was_told = true;
            return Ok(false);
        }
        self.claim_in(namespace, id);
        if let Some(claim) = self.claims.last_mut() {
            claim.is_told = true;
        }
        Ok(true)
    }

    /// Claims an id by the time of its event; see [`EventTime::claim_at`]. If the id is remembered, or the event is too
    /// late, the transaction is rejected, or [skips](Self::skip_duplicates) the event and what belongs to it.
    ///
    /// The event counts for the watermark of its source once the transaction is committed, also if it was skipped. Of a
    /// transaction that is [prepared](Self::prepare) only the id is held: the next event of the source moves the watermark.
    ///
    /// What [`EventTime::claim_at`] calls an error of the event is one of the commit.
    pub fn claim_at(
        &mut self,
        event_time: &EventTime,
        id: impl AsRef<[u8]>,
        source: &str,
        time: Timestamp,
    ) -> &mut Self {
        let (event_time, id, source) =
            (event_time.clone(), id.as_ref().to_vec(), source.to_owned());
        self.owned_by(ClaimRef::Event(self.events.len()));
        self.events.push(PlannedEvent { event_time, id, source, time });
        self
    }

    /// Returns whether a rejection is about something that the caller was told, and that has changed since.
    pub(super) fn has_read(&self, why: &Rejection) -> bool {
        match why {
            Rejection::Moved { .. } => true,
            Rejection::Duplicate(DuplicateId { namespace, id, .. }) => {
                let is_it =
                    |claim: &&PlannedClaim| claim.id == *id && claim.namespace.name() == namespace;
                self.claims.iter().find(is_it).is_some_and(|claim| claim.is_told)
            }
            _ => false,
        }
    }
}

/// State tables.
impl Transaction {
    /// Returns the value of a key as this transaction sees it: what it has put itself, or what is stored. The commit is
    /// rejected if that has changed by then, also if the value is only read.
    ///
    /// # Errors
    ///
    /// As [`RawTable::get`](crate::table::RawTable::get).
    pub fn get<T: Values>(&mut self, table: &T, key: impl AsRef<[u8]>) -> Result<Option<T::Owned>> {
        let (raw, key) = (table.raw(), key.as_ref());
        if let Some(n) = self.write_of(raw.rows(), key) {
            match &self.writes[n].what.row.change {
                RowChange::Put(value) | RowChange::PutUntil(value, _) => {
                    return table.decode(key, crate::table::without_format(value)).map(Some);
                }
                RowChange::Delete => return Ok(None),
                RowChange::Keep => {}
            }
        }
        let entry = raw.get(key)?;
        self.expect(table, key, entry.as_ref().map(|entry| entry.version))?;
        entry.map(|entry| table.decode(key, entry.value)).transpose()
    }

    /// Sets the value of a key. Of several puts of one key in a transaction the last one counts.
    ///
    /// # Errors
    ///
    /// [`FixCall`](crate::ErrorKind::FixCall) if the key has not 1 to 1,024 bytes, or the value cannot be encoded.
    pub fn put<T: Values>(
        &mut self,
        table: &T,
        key: impl AsRef<[u8]>,
        value: &T::Value,
    ) -> Result<&mut Self> {
        let value = table.encode(value)?;
        self.write(table, key.as_ref(), RowChange::Put(value), None)
    }

    /// Sets the value of a key if it has this version then; `None`: if it has no live value. That is the version which is
    /// stored, whatever this transaction has put or deleted. If it has read or expects another one, it is rejected.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    pub fn put_if<T: Values>(
        &mut self,
        table: &T,
        key: impl AsRef<[u8]>,
        version: Option<Version>,
        value: &T::Value,
    ) -> Result<&mut Self> {
        let value = table.encode(value)?;
        self.write(table, key.as_ref(), RowChange::Put(value), Some(expectation(version)))
    }

    /// Deletes the value of a key.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    pub fn delete<T: Values>(&mut self, table: &T, key: impl AsRef<[u8]>) -> Result<&mut Self> {
        self.write(table, key.as_ref(), RowChange::Delete, None)
    }

    /// Deletes the value of a key if it has this version then.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    pub fn delete_if<T: Values>(
        &mut self,
        table: &T,
        key: impl AsRef<[u8]>,
        version: Version,
    ) -> Result<&mut Self> {
        self.write(table, key.as_ref(), RowChange::Delete, Some(expectation(Some(version))))
    }

    /// Lets the commit be rejected unless a key has this version then; `None`: unless it has no live value.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    pub fn expect<T: Values>(
        &mut self,
        table: &T,
        key: impl AsRef<[u8]>,
        version: Option<Version>,
    ) -> Result<&mut Self> {
        self.write(table, key.as_ref(), RowChange::Keep, Some(expectation(version)))
    }

    fn write<T: Values>(
        &mut self,
        table: &T,
        key: &[u8],
        change: RowChange<Vec<u8>>,
        expect: Option<Expect>,
    ) -> Result<&mut Self> {
        let table = table.raw();
        let mut row = table.row(key, change)?;
        // Where the row is, and not where the table is by now: a scope may be promoted meanwhile.
        if let Some(n) = self.write_of(row.ns, key) {
            let claim = self.owner;
            let before = &mut self.writes[n];
            if self.skips_duplicates && before.claim != claim {
                return Err(Error::invalid(
                    "with skip_duplicates, a key of a table is written for one claim only: which of two values is right would depend on which of their claims is skipped",
                ));
            }
            let stored = &mut before.what.row;
            if row.change != RowChange::Keep {
                (stored.change, stored.ttl) = (row.change, row.ttl);
            }
            // What it has read and what it is told to expect must both be so.
            stored.expect = match expect {
                Some(expect) if stored.expect == Expect::Anything => expect,
                Some(expect) if stored.expect != expect => Expect::CONTRADICTION,
                _ => stored.expect,
            };
            return Ok(self);
        }
        row.expect = expect.unwrap_or(Expect::Anything);
        let write = PlannedWrite { table: table.clone(), row };
        let (n, hash) = (self.writes.len(), self.hasher.hash_one(write.place()));
        self.writes.push(self.effect(write));
        let (writes, hasher) = (&self.writes, &self.hasher);
        self.by_key.insert_unique(hash, n, |n| hasher.hash_one(writes[*n].what.place()));
        Ok(self)
    }

    /// Returns the number of the write of a key of a table, if there is one.
    fn write_of(&self, rows: NsId, key: &[u8]) -> Option<usize> {
        let place = (rows, key);
        let is_it = |n: &usize| self.writes[*n].what.place() == place;
        self.by_key.find(self.hasher.hash_one(place), is_it).copied()
    }
}

/// Offsets.
impl Transaction {
    /// Says that a partition was read up to here: `next` is the next offset to read. Of several in one transaction the
    /// last one counts. For a partition that nobody owns.
    pub fn advance(&mut self, source: &Source, partition: u32, next: u64) -> &mut Self {
        let (source, ns) = (source.clone(), source.ns());
        self.advance_to(PlannedOffset { source, partition, next, epoch: 0, ns, owned_in: None })
    }

    /// Says that a partition was read up to here, as its owner: refused if somebody else has taken it over, or a promotion
    /// has replaced the source since (I8).
    pub fn advance_as(&mut self, owner: &Owner, next: u64) -> &mut Self {
        let (source, partition, epoch) = (owner.source().clone(), owner.partition(), owner.epoch());
        let (ns, owned_in) = (source.ns(), Some(owner.ns()));
        self.advance_to(PlannedOffset { source, partition, next, epoch, ns, owned_in })
    }

    fn advance_to(&mut self, offset: PlannedOffset) -> &mut Self {
        let place = (offset.ns, offset.partition);
        match self.by_partition.get(&place) {
            Some(n) => self.offsets[*n] = offset,
            None => {
                self.by_partition.insert(place, self.offsets.len());
                self.offsets.push(offset);
            }
        }
        self
    }
}

/// Messages.
impl Transaction {
    /// Emits a message to a topic. Its id follows from what was collected before it, and from its number among the messages
    /// of that: a claim, the end of an attempt, a saved stage, or what an operator does to a record. Whoever processes the
    /// same again, here or elsewhere, emits messages of the same ids.
    ///
    /// What becomes of an id of a ledger more than once has another id each time: each attempt that fails, is held or is
    /// released. The completion has one id, whichever attempt or operator says it, and so has each stage; after a redrive
    /// they have others. An id that was forgotten, purged or has ended begins anew, and so do the ids of its messages.
    ///
    /// # Errors
    ///
    /// [`FixCall`](crate::ErrorKind::FixCall) if there is none of them: use [`emit_as`](Self::emit_as). As
    /// [`Ledger::get`](crate::ledger::Ledger::get) after what an operator does, whose record is read; if that is redriven
    /// by somebody else before the commit, the commit is rejected with it.
    pub fn emit(&mut self, topic: &Outbox, payload: impl AsRef<[u8]>) -> Result<&mut Self> {
        self.emit_keyed(topic, b"", payload)
    }

    /// Emits a message to a topic. Messages of one key go out in order, also with several workers; see
    /// [`emit`](Self::emit).
    ///
    /// # Errors
    ///
    /// As [`emit`](Self::emit).
    pub fn emit_keyed(
        &mut self,
        topic: &Outbox,
        key: impl AsRef<[u8]>,
        payload: impl AsRef<[u8]>,
    ) -> Result<&mut Self> {
        let Some((event, number)) = self.event else {
            return Err(Error::invalid(
                "a message without an id: claim the event or end its attempt before emitting, or use `emit_as`",
            ));
        };
        let place = self.topic(topic);
        let first = match self.first {
            Some((of, first)) if of == place => first,
            _ => {
                let of_move;
                let (kind, owner, id) = match event {
                    Event::Claim(ClaimRef::Claim(n)) => {
                        let PlannedClaim { namespace, id, .. } = &self.claims[n];
                        ("claim", namespace.name(), &id[..])
                    }
                    Event::Claim(ClaimRef::Event(n)) => {
                        let PlannedEvent { event_time, id, .. } = &self.events[n];
                        ("event", event_time.name(), &id[..])
                    }
                    Event::Move(n) => {
                        let joined = &mut self.moves[n].what;
                        of_move = joined.event()?;
                        (of_move.0, joined.ledger_name(), &of_move.1[..])
                    }
                };
                let first = MessageId::derived(topic.name(), (kind, owner, id));
                self.first = Some((place, first));
                first
            }
        };
        self.event = Some((event, number + 1));
        let id = first.later(number);
        self.push_message(topic, (id, b""), (key.as_ref(), payload.as_ref()))
    }

    /// Emits a message of this id. The id is claimed in the namespace of the topic's name, for its ttl: a message of the
    /// same id is a duplicate, also after this one has gone out. As every message it belongs to the claim before it, and is
    /// [skipped](Self::skip_duplicates) with that.
    ///
    /// # Errors
    ///
    /// [`FixCall`](crate::ErrorKind::FixCall) if the message is too long.
    pub fn emit_as(
        &mut self,
        topic: &Outbox,
        id: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
        payload: impl AsRef<[u8]>,
    ) -> Result<&mut Self> {
        let given = id.as_ref();
        let before = (self.owner, self.event, self.first);
        self.claim_in(&topic.namespace(), given);
        if let Some(claim) = self.claims.last_mut() {
            claim.belongs_to = before.0;
        }
        let id = MessageId::given(topic.name(), given);
        let says = (key.as_ref(), payload.as_ref());
        let pushed = self.push_message(topic, (id, given), says).map(drop);
        // Only the message belongs to the claim of its id: what follows belongs to the event before.
        (self.owner, self.event, self.first) = before;
        if let Err(error) = pushed {
            // Nothing of it was collected.
            self.claims.pop();
            return Err(error);
        }
        Ok(self)
    }

    /// Acknowledges a message of this store with the commit, as for a step that reads from one topic and emits to the next.
    /// The commit is rejected if it waits no more then: somebody else has dealt with it.
    ///
    /// # Errors
    ///
    /// [`FixCall`](crate::ErrorKind::FixCall) for a message of another store.
    pub fn acknowledge(&mut self, topic: &Outbox, message: &Message) -> Result<&mut Self> {
        let planned = PlannedAcknowledgement::of((self.topic(topic), topic), message)?;
        self.acknowledged.push(planned);
        Ok(self)
    }

    fn push_message(
        &mut self,
        topic: &Outbox,
        id: (MessageId, &[u8]),
        says: (&[u8], &[u8]),
    ) -> Result<&mut Self> {
        let emitted = *self.emitted.get_or_insert_with(|| self.store.engine().moment().now);
        let message = PlannedMessage::of((self.topic(topic), topic), id, says, emitted)?;
        self.messages.push(self.effect(message));
        Ok(self)
    }

    /// Returns the number of a topic in this transaction. Its options are those of the handle that comes first.
    fn topic(&mut self, topic: &Outbox) -> usize {
        let found = self.topics.iter().position(|other| other.is(topic));
        found.unwrap_or_else(|| {
            self.topics.push(topic.clone());
            self.topics.len() - 1
        })
    }
}

/// Moves of ledgers; those that callers ask for are in `src/transaction/moves.rs`.
impl Transaction {
    pub(super) fn push_move(&mut self, joined: JoinedMove) -> &mut Self {
        if joined.is_event() {
            (self.event, self.first) = (Some((Event::Move(self.moves.len()), 0)), None);
        }
        self.moves.push(self.effect(joined));
        self
    }
}
