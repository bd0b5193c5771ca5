//! What all rooms share.

pub(in crate::engine) mod failure;
pub(in crate::engine) mod settings;
pub(in crate::engine) mod stats;
