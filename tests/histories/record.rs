//! Recorded events: one for each id of each call, with the interval in which it took effect.

pub(crate) type Id = u32;

/// The ttl and deadline of a claim that never expires.
pub(crate) const FOREVER: u64 = u64::MAX;

/// What a call did to an id, or saw of it. Times are in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// A claim was the first.
    First { ttl: u64 },
    /// A claim or a reservation found a live claim.
    Duplicate { first_seen: u64 },
    /// A lookup found a live claim.
    Seen { first_seen: u64, deadline: u64 },
    /// A lookup or a `forget` found no live claim.
    Unseen,
    /// `forget` ended the live claim.
    Forgotten,
    /// The id was reserved by this call.
    Held { holder: u32 },
    /// The id was reserved by another caller.
    InProgress,
    /// A reservation became a claim.
    Confirmed { holder: u32, ttl: u64 },
    /// A reservation was released.
    Released { holder: u32 },
    /// A row was put by this write, which found what it expected. Its sequence is unknown if the call failed.
    Put { write: u64, sequence: Option<u64>, expect: Want },
    /// A live row was deleted.
    Deleted { sequence: Option<u64>, expect: Want },
    /// A write of a row was refused, because it found this sequence.
    Moved { expect: Want, found: Option<u64> },
    /// A row was read.
    Row { write: u64, sequence: u64 },
    /// There was no row to read or to delete.
    NoRow,
}

/// What a write of a row expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    Anything,
    Absent,
    Sequence(u64),
}

/// Rows have ids from here on.
pub(crate) const ROWS: Id = 1 << 20;

/// The durability of an acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Buffered,
    Process,
    Disk,
}

/// A call's part in the history of one id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: Id,
    pub(crate) thread: u32,
    pub(crate) what: What,
    /// Values of a shared counter, read before the call and after its return.
    pub(crate) called: u64,
    pub(crate) answered: u64,
    /// The clock before the call and after its return.
    pub(crate) clock: (u64, u64),
    /// Whether it is known to have happened: a call that failed with "reopen" may or may not have taken effect.
    pub(crate) sure: bool,
    /// The durability that the result promised.
    pub(crate) level: Level,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Closed,
    Killed,
    PowerCut,
}

/// The live claim of an id: first seen and deadline; of a row, its write and sequence.
pub(crate) type Live = Option<(u64, u64)>;

/// All events of one id between two openings of the store.
#[derive(Debug, Clone)]
pub(crate) struct History {
    pub(crate) id: Id,
    /// The state at the opening, before any event.
    pub(crate) before: Live,
    pub(crate) events: Vec<Event>,
    pub(crate) end: End,
    /// The state after the next opening, and the clock then.
    pub(crate) after: (Live, u64),
    /// The stamp at which the last acknowledged `sync` was called; zero without one.
    pub(crate) synced: u64,
}
