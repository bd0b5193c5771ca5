//! What is on disk: the layout of the folder, the manifest, the files of filters.

pub(in crate::engine) mod filters;
pub(in crate::engine) mod layout;
pub(in crate::engine) mod manifest;
