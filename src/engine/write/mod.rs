//! Turns a decision into one record.

pub(in crate::engine) mod backpressure;
pub(in crate::engine) mod batch;
pub(in crate::engine) mod claim;
pub(in crate::engine) mod decide;
pub(in crate::engine) mod durability;
pub(in crate::engine) mod forget;
pub(in crate::engine) mod held;
pub(in crate::engine) mod import;
pub(in crate::engine) mod lock_set;
pub(in crate::engine) mod lookup;
pub(in crate::engine) mod reserve;
