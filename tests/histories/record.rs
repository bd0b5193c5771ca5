//! What was heard: one event for each id of each call, with the moments between which it took effect.

/// An event id: its number.
pub(crate) type Id = u32;

/// A claim that never ends.
pub(crate) const FOREVER: u64 = u64::MAX;

/// What one call did to one id, or saw of it. Times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// A claim was the first.
    First { ttl: u64 },
    /// A claim or a reservation met a live claim.
    Duplicate { first_seen: u64 },
    /// A question was answered with a live claim.
    Seen { first_seen: u64, deadline: u64 },
    /// A question, or a call to forget, found no live claim.
    Unseen,
    /// The live claim was ended.
    Forgotten,
    /// Reserved.
    Held { holder: u32 },
    /// A reservation met one of somebody else.
    InProgress,
    /// A reservation became a claim.
    Confirmed { holder: u32, ttl: u64 },
    /// A reservation was given back.
    Released { holder: u32 },
}

/// What an acknowledgement promises to survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Buffered,
    Process,
    Disk,
}

/// One call's part in the history of one id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: Id,
    pub(crate) what: What,
    /// Stamps of one counter, taken before the call and after its answer.
    pub(crate) called: u64,
    pub(crate) answered: u64,
    /// The clock before the call and after its answer.
    pub(crate) clock: (u64, u64),
    /// Whether it is known to have happened. A call that was answered with an error that says "reopen" may
    /// have had its effect or not.
    pub(crate) sure: bool,
    /// What its answer promised.
    pub(crate) level: Level,
}

/// How a history ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Closed,
    Killed,
    PowerCut,
}

/// The live claim that a store answers with: first seen and deadline.
pub(crate) type Live = Option<(u64, u64)>;

/// All that was heard of one id between two openings of the store.
#[derive(Debug, Clone)]
pub(crate) struct History {
    /// What the store answered when it was opened, before anything else was asked.
    pub(crate) before: Live,
    pub(crate) events: Vec<Event>,
    pub(crate) end: End,
    /// What was answered after the next opening, and the clock then.
    pub(crate) after: (Live, u64),
    /// When the last `sync` that was acknowledged was called; zero without one.
    pub(crate) synced: u64,
}
