//! What is on disk: the folder layout, the manifest, namespaces, filter files, and how runs get there.

pub(in crate::engine) mod ending;
pub(in crate::engine) mod filters;
pub(in crate::engine) mod layout;
pub(in crate::engine) mod manifest;
pub(in crate::engine) mod namespaces;
pub(in crate::engine) mod run_builder;
pub(in crate::engine) mod scopes;
