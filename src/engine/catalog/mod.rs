//! What is on disk: the folder layout, the manifest, the filter files.

pub(in crate::engine) mod filters;
pub(in crate::engine) mod layout;
pub(in crate::engine) mod manifest;
