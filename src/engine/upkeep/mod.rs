//! Background work that saves space: flush, merge, expire, compact.

pub(in crate::engine) mod compactor;
pub(in crate::engine) mod flush;
pub(in crate::engine) mod folder;
pub(in crate::engine) mod merger;
pub(in crate::engine) mod sweeper;
