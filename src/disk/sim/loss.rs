//! What a power cut takes.

/// What a power cut does to unsynced changes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Loss {
    All,
    Seeded(u64),
    /// As `Seeded`, with names in any order, too.
    OutOfOrder(u64),
}
